//! Which addresses are a host's own, asked at any time and on any thread.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use netlink_packet_route::route::RouteType;

use crate::model::errno::Errno;
use crate::sys::netlink::{Netlink, own_address};

/// A network namespace, and what its addresses are.
pub struct Locality(Mutex<Netlink>);

impl Locality {
    /// The namespace of this thread.
    pub fn here() -> Result<Self, Errno> {
        Ok(Self(Mutex::new(Netlink::here()?)))
    }

    /// Whether what is sent to an address from within is for the namespace itself, or the address is one of its interfaces'.
    pub fn is_local(&self, ip: IpAddr) -> Result<bool, Errno> {
        let mut kernel = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(is_delivered_here(&mut kernel, ip)?
            || kernel.addresses()?.iter().any(|address| own_address(address) == Some(ip)))
    }
}

/// What the kernel would do with a packet: addresses that it takes without an interface having them are among these.
fn is_delivered_here(kernel: &mut Netlink, ip: IpAddr) -> Result<bool, Errno> {
    match kernel.route(ip, None) {
        Ok(route) => Ok(matches!(route.header.kind, RouteType::Local | RouteType::Anycast)),
        // There is no way, or one that leads nowhere: then it is not here, either.
        Err(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL) => Ok(false),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_hosts_own_is_known_from_what_is_not() {
        let here = Locality::here().unwrap();
        for own in ["127.0.0.1", "127.255.0.7", "::1"] {
            assert_eq!(here.is_local(own.parse().unwrap()), Ok(true), "{own}");
        }
        // TEST-NET-3 and the documentation prefix.
        for other in ["203.0.113.7", "2001:db8::7"] {
            assert_eq!(here.is_local(other.parse().unwrap()), Ok(false), "{other}");
        }
        // Dumps of many addresses are read to their end: the next question has its own answer.
        for interface in crate::sys::interface::all().unwrap() {
            for address in interface.addresses {
                assert_eq!(here.is_local(address), Ok(true), "{address}");
            }
        }
    }
}
