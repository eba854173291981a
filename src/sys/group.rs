//! Multicast memberships, for both IP versions alike. RFC 3678, section 5; ip(7), ipv6(7).
//!
//! The structures are written and read field by field, as bytes: `struct group_req`, `struct group_source_req`, `struct group_filter`.

use std::ffi::c_int;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

use crate::model::errno::Errno;
use crate::model::group::GroupChange;
use crate::model::source_filter::{FilterMode, SourceFilter};
use crate::sys::option::{get_raw, set_raw};

/// `struct sockaddr_storage`.
const ADDRESS: usize = size_of::<libc::sockaddr_storage>();
/// Where the first address stands behind the index of the interface.
const FIRST: usize = align_of::<libc::sockaddr_storage>();
/// Where the list of sources begins in a filter: behind the address stand its mode and its length.
const SOURCES: usize = FIRST + ADDRESS + 2 * size_of::<u32>();
/// How many sources of a filter are read: more than the kernel takes unless it is told to (net.ipv4.igmp_max_msf, net.ipv6.mld_max_msf).
const ROOM: usize = 128;

/// Joins or leaves a group, or blocks or unblocks a source of it. Interface 0 leaves the choice to the kernel. setsockopt(2).
pub(super) fn change(
    socket: impl AsFd,
    change: GroupChange,
    interface: u32,
    group: IpAddr,
    source: Option<IpAddr>,
) -> Result<(), Errno> {
    let number = match (change, source) {
        (GroupChange::Join, None) => libc::MCAST_JOIN_GROUP,
        (GroupChange::Join, Some(_)) => libc::MCAST_JOIN_SOURCE_GROUP,
        (GroupChange::Leave, None) => libc::MCAST_LEAVE_GROUP,
        (GroupChange::Leave, Some(_)) => libc::MCAST_LEAVE_SOURCE_GROUP,
        (GroupChange::Block, _) => libc::MCAST_BLOCK_SOURCE,
        (GroupChange::Unblock, _) => libc::MCAST_UNBLOCK_SOURCE,
    };
    let mut request = [0; FIRST + 2 * ADDRESS];
    request[..4].copy_from_slice(&interface.to_ne_bytes());
    write_address(&mut request[FIRST..], group);
    let length = match source {
        None => FIRST + ADDRESS,
        Some(source) => {
            write_address(&mut request[FIRST + ADDRESS..], source);
            FIRST + 2 * ADDRESS
        }
    };
    set_raw(&socket, level(group), number, &request[..length])
}

/// The filter of a group on an interface; EADDRNOTAVAIL where the socket has not joined it. getsockopt(2): MCAST_MSFILTER.
pub fn filter(socket: impl AsFd, interface: u32, group: IpAddr) -> Result<SourceFilter, Errno> {
    let mut request = filter_request(interface, group, libc::MCAST_EXCLUDE, ROOM)?;
    get_raw(&socket, level(group), libc::MCAST_MSFILTER, &mut request)?;
    let number = |at: usize| request[at..at + 4].try_into().map(u32::from_ne_bytes).map_err(|_| Errno::EINVAL);
    let mode = if number(SOURCES - 8)? == libc::MCAST_INCLUDE.cast_unsigned() {
        FilterMode::Include
    } else {
        FilterMode::Exclude
    };
    let count = number(SOURCES - 4)? as usize;
    let sources = request[SOURCES..].chunks_exact(ADDRESS).take(count);
    Ok(SourceFilter { mode, sources: sources.filter_map(read_address).collect() })
}

/// Lets a filter take the place of the one that a group has on an interface. setsockopt(2): MCAST_MSFILTER.
pub(super) fn set_filter(socket: impl AsFd, interface: u32, group: IpAddr, filter: &SourceFilter) -> Result<(), Errno> {
    let mode = match filter.mode {
        FilterMode::Include => libc::MCAST_INCLUDE,
        FilterMode::Exclude => libc::MCAST_EXCLUDE,
    };
    let mut request = filter_request(interface, group, mode, filter.sources.len())?;
    for (into, source) in request[SOURCES..].chunks_exact_mut(ADDRESS).zip(&filter.sources) {
        write_address(into, *source);
    }
    set_raw(&socket, level(group), libc::MCAST_MSFILTER, &request)
}

/// A `struct group_filter` with room for so many sources.
fn filter_request(interface: u32, group: IpAddr, mode: c_int, room: usize) -> Result<Vec<u8>, Errno> {
    let mut request = vec![0; SOURCES + room * ADDRESS];
    request[..4].copy_from_slice(&interface.to_ne_bytes());
    write_address(&mut request[FIRST..], group);
    request[SOURCES - 8..SOURCES - 4].copy_from_slice(&mode.to_ne_bytes());
    let room = u32::try_from(room).map_err(|_| Errno::ENOBUFS)?;
    request[SOURCES - 4..SOURCES].copy_from_slice(&room.to_ne_bytes());
    Ok(request)
}

const fn level(group: IpAddr) -> c_int {
    match group {
        IpAddr::V4(_) => libc::IPPROTO_IP,
        IpAddr::V6(_) => libc::IPPROTO_IPV6,
    }
}

/// Writes a `struct sockaddr_in`, or a `struct sockaddr_in6`, of which only family and address matter here.
fn write_address(into: &mut [u8], ip: IpAddr) {
    let (family, at, bytes) = match ip {
        IpAddr::V4(ip) => (libc::AF_INET, 4, ip.octets().to_vec()),
        IpAddr::V6(ip) => (libc::AF_INET6, 8, ip.octets().to_vec()),
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "both numbers are small")]
    let family = family as libc::sa_family_t;
    into[..2].copy_from_slice(&family.to_ne_bytes());
    into[at..at + bytes.len()].copy_from_slice(&bytes);
}

fn read_address(bytes: &[u8]) -> Option<IpAddr> {
    let family = libc::sa_family_t::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
    match c_int::from(family) {
        libc::AF_INET => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(4..8)?).ok()?).into()),
        libc::AF_INET6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(8..24)?).ok()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::interface;
    use std::net::UdpSocket;

    /// What the kernel says that it has is what it was told.
    #[test]
    fn groups_are_joined_filtered_and_left() {
        let lo = interface::index_of("lo").unwrap();
        for (bind, group, one, two) in
            [("0.0.0.0:0", "239.77.1.1", "10.0.0.1", "10.0.0.2"), ("[::]:0", "ff15::7701", "fd00::1", "fd00::2")]
        {
            let socket = UdpSocket::bind(bind).unwrap();
            let ip = |text: &str| text.parse::<IpAddr>().unwrap();
            let (group, one, two) = (ip(group), ip(one), ip(two));
            let done = |what, source| change(&socket, what, lo, group, source);
            let told = || filter(&socket, lo, group);
            let only = |sources: &[IpAddr]| SourceFilter { mode: FilterMode::Include, sources: sources.to_vec() };
            let not = |sources: &[IpAddr]| SourceFilter { mode: FilterMode::Exclude, sources: sources.to_vec() };
            assert_eq!(told(), Err(Errno::EADDRNOTAVAIL));
            assert_eq!(set_filter(&socket, lo, group, &not(&[])), Err(Errno::EINVAL));
            assert_eq!(done(GroupChange::Leave, None), Err(Errno::EADDRNOTAVAIL));

            done(GroupChange::Join, None).unwrap();
            assert_eq!(done(GroupChange::Join, None), Err(Errno::EADDRINUSE));
            assert_eq!(told(), Ok(not(&[])));
            done(GroupChange::Block, Some(one)).unwrap();
            assert_eq!(told(), Ok(not(&[one])));
            done(GroupChange::Unblock, Some(one)).unwrap();
            done(GroupChange::Leave, None).unwrap();
            assert_eq!(told(), Err(Errno::EADDRNOTAVAIL));

            done(GroupChange::Join, Some(one)).unwrap();
            done(GroupChange::Join, Some(two)).unwrap();
            assert_eq!(told(), Ok(only(&[one, two])));
            assert!(told().unwrap().lists(Some(two)) && !told().unwrap().lists(None));
            done(GroupChange::Leave, Some(one)).unwrap();
            done(GroupChange::Leave, Some(two)).unwrap();
            assert_eq!(told(), Err(Errno::EADDRNOTAVAIL), "without sources, the group is left");

            done(GroupChange::Join, None).unwrap();
            for filter in [only(&[one, two]), not(&[two]), only(&[two]), not(&[])] {
                set_filter(&socket, lo, group, &filter).unwrap();
                assert_eq!(told(), Ok(filter));
            }
            set_filter(&socket, lo, group, &only(&[])).unwrap();
            assert_eq!(told(), Err(Errno::EADDRNOTAVAIL), "that is to leave");
            assert_eq!(change(&socket, GroupChange::Join, 1_000_000, group, None), Err(Errno::ENODEV));
        }
    }
}
