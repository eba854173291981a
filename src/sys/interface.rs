//! Names, indexes, flags and addresses of network interfaces. netdevice(7), getifaddrs(3).
#![allow(unsafe_code, reason = "getifaddrs(3) answers a linked list")]

use std::collections::BTreeMap;
use std::ffi::{CStr, c_int};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr;
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

use crate::model::errno::Errno;

/// An interface, as far as groups are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: Arc<str>,
    /// IFF_UP and IFF_MULTICAST.
    pub takes_groups: bool,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// The index of the interface of this name; ENODEV when there is none.
pub fn index_of(name: &str) -> Result<u32, Errno> {
    Ok(netdevice::name_to_index(&any_socket()?, name)?)
}

/// Whether there is an interface of this index.
pub fn exists(index: u32) -> bool {
    name_of_index(index).is_ok()
}

/// The name of the interface of this index; ENODEV when there is none.
pub fn name_of_index(index: u32) -> Result<Arc<str>, Errno> {
    name_of(any_socket()?, index)
}

fn any_socket() -> Result<OwnedFd, Errno> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
}

/// The name of the interface of this index, asked through any socket; ENODEV when there is none.
pub fn name_of(socket: impl AsFd, index: u32) -> Result<Arc<str>, Errno> {
    Ok(netdevice::index_to_name(socket, index)?.into())
}

/// All interfaces, by index. getifaddrs(3).
pub fn all() -> Result<Vec<Interface>, Errno> {
    const TAKES_GROUPS: c_int = libc::IFF_UP | libc::IFF_MULTICAST;
    let mut first: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: it writes one pointer.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return Err(Errno::new(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)));
    }
    let mut found: BTreeMap<Arc<str>, (bool, Vec<IpAddr>)> = BTreeMap::new();
    let mut next = first.cast_const();
    // SAFETY: every entry of the list is valid until the list is freed below.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next;
        // SAFETY: an entry's name is a string that ends, and lives as long as the entry.
        let name = unsafe { CStr::from_ptr(entry.ifa_name) }.to_string_lossy();
        let (takes_groups, addresses) = found.entry(Arc::from(&*name)).or_default();
        *takes_groups = c_int::try_from(entry.ifa_flags).is_ok_and(|flags| flags & TAKES_GROUPS == TAKES_GROUPS);
        addresses.extend(address(entry.ifa_addr));
    }
    // SAFETY: the list came from getifaddrs, and nothing of it is used any more.
    unsafe { libc::freeifaddrs(first) };
    // One that has gone meanwhile has no index.
    let interface = |(name, (takes_groups, addresses)): (Arc<str>, (bool, Vec<IpAddr>))| {
        Some(Interface { index: index_of(&name).ok()?, name, takes_groups, addresses })
    };
    let mut interfaces: Vec<Interface> = found.into_iter().filter_map(interface).collect();
    interfaces.sort_by_key(|interface| interface.index);
    Ok(interfaces)
}

fn address(from: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: an address that is there says of which family it is, and is as long as that family's are; it need not be aligned.
    unsafe {
        match c_int::from(from.as_ref()?.sa_family) {
            libc::AF_INET => {
                let addr = from.cast::<libc::sockaddr_in>().read_unaligned();
                Some(IpAddr::from(addr.sin_addr.s_addr.to_ne_bytes()))
            }
            libc::AF_INET6 => {
                let addr = from.cast::<libc::sockaddr_in6>().read_unaligned();
                Some(IpAddr::from(addr.sin6_addr.s6_addr))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_has_a_name_and_an_index() {
        let index = index_of("lo").unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(name_of(&socket, index).as_deref(), Ok("lo"));
        assert_eq!(name_of_index(index).as_deref(), Ok("lo"));
        assert_eq!(index_of("no-such-if"), Err(Errno::ENODEV));
        assert_eq!(name_of(&socket, 1_000_000), Err(Errno::ENODEV));
    }

    #[test]
    fn the_loopback_interface_is_among_all_with_its_addresses() {
        let all = all().unwrap();
        let lo = all.iter().find(|interface| &*interface.name == "lo").unwrap();
        assert_eq!(lo.index, index_of("lo").unwrap());
        for ip in ["127.0.0.1", "::1"] {
            assert!(lo.addresses.contains(&ip.parse().unwrap()), "{lo:?}");
        }
        assert!(all.is_sorted_by_key(|interface| interface.index));
    }
}
