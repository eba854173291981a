//! Control messages of recvmsg(2) and sendmsg(2), as plain bytes: cmsg(3), ip(7), ipv6(7).
//!
//! Read and written field by field, so that no byte that the kernel sends is ever taken for a pointer or trusted as a length.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::model::address::{Family, socket_addr};
use crate::model::errno::Errno;
use crate::model::event::SendStage;
use crate::model::policy::permit::Permitted;

/// `struct cmsghdr`: the length as `size_t`, then level and type.
const HEADER: usize = size_of::<usize>() + 8;
const ALIGN: usize = size_of::<usize>();

/// `struct scm_timestamping`: three times, of which the first is the kernel's own.
const STAMPS: usize = 48;

/// Room for everything that this module asks the kernel for: packet info, hop limit, traffic class, drops, a time, times.
pub(super) const RECEIVE_ROOM: usize = 6 * (HEADER + ALIGN) + 24 + 16 + STAMPS;

/// Room for the address of a datagram's source.
pub(super) const ADDRESS_ROOM: usize = size_of::<libc::sockaddr_in6>();

/// Room for what an error queue tells beside: `struct sock_extended_err` and a socket address.
pub(super) const ERROR_ROOM: usize = RECEIVE_ROOM + HEADER + 16 + 32;

/// What the kernel tells of a datagram beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ancillary {
    /// The address that it was sent to.
    pub destination: Option<IpAddr>,
    /// The address of this host that an answer should leave from.
    pub local: Option<IpAddr>,
    /// The interface that it came in by; 0 where it is not told.
    pub interface_index: u32,
    /// Its time-to-live or hop limit.
    pub hop_limit: Option<u8>,
    /// Its type-of-service or traffic class byte.
    pub traffic_class: Option<u8>,
    /// How many datagrams the socket had dropped when this one was queued, modulo 2³²; absent where there were none.
    pub dropped: Option<u32>,
    /// When the kernel received it: CLOCK_REALTIME, in nanoseconds since the epoch.
    pub received: Option<i64>,
    /// Out of an error queue: what is wrong with a datagram that was sent.
    pub error: Option<QueuedError>,
}

/// An error out of an error queue. ip(7): IP_RECVERR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuedError {
    /// What the kernel makes of it.
    pub errno: Errno,
    /// An ICMP message said so: its type and code. Absent: this host did.
    pub icmp: Option<(u8, u8)>,
    /// With EMSGSIZE, how many bytes a packet may have.
    pub info: u32,
    /// Who said so.
    pub offender: Option<SocketAddr>,
    /// It is no error, but the time at which a datagram was sent: how far it had come, and its number.
    pub stamp: Option<(SendStage, u32)>,
}

impl Ancillary {
    /// Reads what recvmsg(2) has put into the control buffer. What is not understood is passed over.
    pub fn parse(mut control: &[u8]) -> Self {
        let mut told = Self::default();
        while let Some((level, kind, data, rest)) = next_message(control) {
            told.take(level, kind, data);
            control = rest;
        }
        told
    }

    fn take(&mut self, level: i32, kind: i32, data: &[u8]) {
        match (level, kind) {
            // struct in_pktinfo { int ipi_ifindex; in_addr ipi_spec_dst, ipi_addr; }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                if let (Some(index), Some(local), Some(address)) =
                    (array(data, 0), array::<4>(data, 4), array::<4>(data, 8))
                {
                    self.interface_index = u32::from_ne_bytes(index);
                    self.local = Some(Ipv4Addr::from(local).into());
                    self.destination = Some(Ipv4Addr::from(address).into());
                }
            }
            // struct in6_pktinfo { in6_addr ipi6_addr; unsigned ipi6_ifindex; }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                if let (Some(address), Some(index)) = (array::<16>(data, 0), array(data, 16)) {
                    self.interface_index = u32::from_ne_bytes(index);
                    let address = Ipv6Addr::from(address);
                    self.local = (!address.is_multicast()).then_some(address.into());
                    self.destination = Some(address.into());
                }
            }
            (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                self.hop_limit = array(data, 0).and_then(|int| i32::from_ne_bytes(int).try_into().ok());
            }
            // The kernel sends a single byte here, unlike everywhere else.
            (libc::IPPROTO_IP, libc::IP_TOS) => self.traffic_class = data.first().copied(),
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                self.traffic_class = array(data, 0).and_then(|int| i32::from_ne_bytes(int).try_into().ok());
            }
            // The types of the messages are the numbers of the options. socket(7), Documentation/networking/timestamping.rst.
            (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS) => self.received = moment(data, 1),
            (libc::SOL_SOCKET, libc::SO_TIMESTAMP) => self.received = moment(data, 1_000),
            // Zero where another clock was asked for.
            (libc::SOL_SOCKET, libc::SO_TIMESTAMPING) => {
                self.received = moment(data, 1).filter(|nanos| *nanos != 0).or(self.received);
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => self.dropped = array(data, 0).map(u32::from_ne_bytes),
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => {
                self.error = queued_error(data);
            }
            _ => {}
        }
    }
}

/// Reads `struct timespec` or `struct timeval`, whose second half counts units of so many nanoseconds.
fn moment(data: &[u8], unit: i64) -> Option<i64> {
    let (seconds, rest) = (i64::from_ne_bytes(array(data, 0)?), i64::from_ne_bytes(array(data, 8)?));
    seconds.checked_mul(1_000_000_000)?.checked_add(rest.checked_mul(unit)?)
}

/// Reads `struct sock_extended_err { u32 ee_errno; u8 ee_origin, ee_type, ee_code, ee_pad; u32 ee_info, ee_data; }` and the address of
/// the offender behind it.
fn queued_error(data: &[u8]) -> Option<QueuedError> {
    const FROM_ICMP: [u8; 2] = [libc::SO_EE_ORIGIN_ICMP, libc::SO_EE_ORIGIN_ICMP6];
    let errno = i32::from_ne_bytes(array(data, 0)?);
    let [origin, kind, code, _] = array(data, 4)?;
    let (info, number) = (u32::from_ne_bytes(array(data, 8)?), u32::from_ne_bytes(array(data, 12)?));
    // linux/errqueue.h: SCM_TSTAMP_SND, SCM_TSTAMP_SCHED.
    let stamp = match (origin, info) {
        (libc::SO_EE_ORIGIN_TIMESTAMPING, 0) => Some((SendStage::Sent, number)),
        (libc::SO_EE_ORIGIN_TIMESTAMPING, 1) => Some((SendStage::Scheduled, number)),
        _ => None,
    };
    Some(QueuedError {
        errno: Errno::new(errno),
        icmp: FROM_ICMP.contains(&origin).then_some((kind, code)),
        info,
        offender: data.get(16..).and_then(socket_address).map(without_port),
        stamp,
    })
}

/// An offender's address: its port means nothing.
fn without_port(mut addr: SocketAddr) -> SocketAddr {
    addr.set_port(0);
    addr
}

/// Reads `struct sockaddr_in` or `struct sockaddr_in6`. ip(7), ipv6(7).
pub(super) fn socket_address(address: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(array(address, 2)?);
    match i32::from(u16::from_ne_bytes(array(address, 0)?)) {
        libc::AF_INET => Some(socket_addr(Ipv4Addr::from(array::<4>(address, 4)?).into(), port, 0)),
        libc::AF_INET6 => {
            let scope = u32::from_ne_bytes(array(address, 24)?);
            Some(socket_addr(Ipv6Addr::from(array::<16>(address, 8)?).into(), port, scope))
        }
        _ => None,
    }
}

/// Splits the first control message off: its level, its type, its data, and what comes after it.
fn next_message(control: &[u8]) -> Option<(i32, i32, &[u8], &[u8])> {
    let length = usize::from_ne_bytes(array(control, 0)?);
    let level = i32::from_ne_bytes(array(control, ALIGN)?);
    let kind = i32::from_ne_bytes(array(control, ALIGN + 4)?);
    let data = control.get(HEADER..length)?;
    let next = length.checked_next_multiple_of(ALIGN)?;
    Some((level, kind, data, control.get(next..).unwrap_or_default()))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// What of a datagram that is sent is not as its socket has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks {
    /// The local address that it leaves from.
    pub source: Option<Permitted<IpAddr>>,
    /// The interface that it leaves by, where the source needs one; 0: whichever leads there.
    pub interface_index: u32,
    /// Its time-to-live or hop limit.
    pub hop_limit: Option<u8>,
    /// Its type-of-service or traffic class byte.
    pub traffic_class: Option<u8>,
}

impl Marks {
    /// The control messages that say so of a packet of this family; nothing where nothing is to be said.
    pub(super) fn control(&self, family: Family) -> Vec<u8> {
        let (level, hop_limit, traffic_class) = match family {
            Family::Ipv4 => (libc::IPPROTO_IP, libc::IP_TTL, libc::IP_TOS),
            Family::Ipv6 => (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT, libc::IPV6_TCLASS),
        };
        let number = |kind: i32, byte: u8| message(level, kind, &i32::from(byte).to_ne_bytes());
        let mut control = Vec::new();
        if let Some(source) = self.source {
            control.extend(packet_info(source.get(), self.interface_index));
        }
        if let Some(hops) = self.hop_limit {
            control.extend(number(hop_limit, hops));
        }
        if let Some(class) = self.traffic_class {
            control.extend(number(traffic_class, class));
        }
        control
    }
}

/// The control message that makes a datagram leave from this local address, by this interface.
fn packet_info(source: IpAddr, interface_index: u32) -> Vec<u8> {
    let index = interface_index.to_ne_bytes();
    match source {
        IpAddr::V4(ip) => message(libc::IPPROTO_IP, libc::IP_PKTINFO, &[&index[..], &ip.octets(), &[0; 4]].concat()),
        IpAddr::V6(ip) => message(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &[&ip.octets()[..], &index].concat()),
    }
}

fn message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
    let mut message =
        [&(HEADER + data.len()).to_ne_bytes()[..], &level.to_ne_bytes(), &kind.to_ne_bytes(), data].concat();
    message.resize(message.len().next_multiple_of(ALIGN), 0);
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_that_the_kernel_tells_is_read() {
        let info = [&7_u32.to_ne_bytes()[..], &[127, 0, 0, 9], &[224, 0, 0, 1]].concat();
        let v4 = [
            message(libc::IPPROTO_IP, libc::IP_PKTINFO, &info),
            message(libc::SOL_SOCKET, 99, b"unknown"),
            message(libc::IPPROTO_IP, libc::IP_TTL, &64_i32.to_ne_bytes()),
            message(libc::IPPROTO_IP, libc::IP_TOS, &[0xb8]),
            message(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &191_u32.to_ne_bytes()),
        ];
        let told = Ancillary::parse(&v4.concat());
        assert_eq!(told.destination, Some("224.0.0.1".parse().unwrap()));
        assert_eq!(told.local, Some("127.0.0.9".parse().unwrap()));
        assert_eq!((told.interface_index, told.hop_limit, told.traffic_class), (7, Some(64), Some(0xb8)));
        assert_eq!(told.dropped, Some(191));

        let time = |seconds: i64, rest: i64| [seconds.to_ne_bytes(), rest.to_ne_bytes()].concat();
        let told = Ancillary::parse(&message(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &time(3, 5)));
        assert_eq!(told.received, Some(3_000_000_005));
        let told = Ancillary::parse(&message(libc::SOL_SOCKET, libc::SO_TIMESTAMP, &time(3, 5)));
        assert_eq!(told.received, Some(3_000_005_000));
        assert_eq!(Ancillary::parse(&message(libc::SOL_SOCKET, libc::SO_TIMESTAMP, &time(i64::MAX, 0))).received, None);

        let source = "2001:db8::1".parse().unwrap();
        let told = Ancillary::parse(&packet_info(source, 3));
        assert_eq!((told.destination, told.local, told.interface_index), (Some(source), Some(source), 3));
        let told = Ancillary::parse(&packet_info("ff02::1".parse().unwrap(), 0));
        assert_eq!(told.local, None, "nobody answers from a group");
    }

    #[test]
    fn an_error_is_read_with_its_offender() {
        let error = |origin, info: u32| {
            [&113_i32.to_ne_bytes()[..], &[origin, 11, 1, 0], &info.to_ne_bytes(), &[0; 4]].concat()
        };
        let v4 = [&2_u16.to_ne_bytes()[..], &[0, 0], &[10, 0, 0, 1], &[0; 8]].concat();
        let told = Ancillary::parse(&message(libc::IPPROTO_IP, libc::IP_RECVERR, &[error(2, 0), v4].concat()));
        let offender = Some("10.0.0.1:0".parse().unwrap());
        let wanted = QueuedError { errno: Errno::EHOSTUNREACH, icmp: Some((11, 1)), info: 0, offender, stamp: None };
        assert_eq!(told.error, Some(wanted));

        let v6 = [&10_u16.to_ne_bytes()[..], &[0; 6], &Ipv6Addr::LOCALHOST.octets(), &7_u32.to_ne_bytes()].concat();
        let told = Ancillary::parse(&message(libc::IPPROTO_IPV6, libc::IPV6_RECVERR, &[error(3, 0), v6].concat()));
        assert_eq!(told.error.unwrap().offender, Some(socket_addr(Ipv6Addr::LOCALHOST.into(), 0, 7)));

        let told =
            Ancillary::parse(&message(libc::IPPROTO_IP, libc::IP_RECVERR, &[error(1, 1280), vec![0; 16]].concat()));
        let error = told.error.unwrap();
        assert_eq!((error.icmp, error.info, error.offender), (None, 1280, None), "said by this host");
    }

    #[test]
    fn times_of_sending_are_read_with_their_numbers() {
        let time = |seconds: i64| [seconds.to_ne_bytes(), 5_i64.to_ne_bytes()].concat();
        let times = message(libc::SOL_SOCKET, libc::SO_TIMESTAMPING, &[time(3), vec![0; 32]].concat());
        for (stage, wanted) in [(0_u32, Some(SendStage::Sent)), (1, Some(SendStage::Scheduled)), (2, None)] {
            let error = [&42_i32.to_ne_bytes()[..], &[4, 0, 0, 0], &stage.to_ne_bytes(), &9_u32.to_ne_bytes()].concat();
            let error = message(libc::IPPROTO_IP, libc::IP_RECVERR, &[error, vec![0; 16]].concat());
            let told = Ancillary::parse(&[times.clone(), error].concat());
            assert_eq!(told.received, Some(3_000_000_005));
            assert_eq!(told.error.unwrap().stamp, wanted.map(|stage| (stage, 9)));
            assert_eq!(told.error.unwrap().icmp, None);
        }
        // Another clock's time alone does not hide what is known.
        let known = message(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &time(2));
        let none = message(libc::SOL_SOCKET, libc::SO_TIMESTAMPING, &[0; 48]);
        assert_eq!(Ancillary::parse(&[known, none].concat()).received, Some(2_000_000_005));
    }

    /// Sent and received messages are of one form, but for the type-of-service byte, which is sent as an `int`.
    #[test]
    fn what_is_sent_reads_as_what_is_received() {
        let marks = Marks { source: None, interface_index: 0, hop_limit: Some(9), traffic_class: Some(0x2e) };
        assert!(Marks::default().control(Family::Ipv6).is_empty());
        let told = Ancillary::parse(&marks.control(Family::Ipv6));
        assert_eq!((told.hop_limit, told.traffic_class, told.local), (Some(9), Some(0x2e), None));
        assert_eq!(Ancillary::parse(&marks.control(Family::Ipv4)).hop_limit, Some(9));
        let source = "192.0.2.1".parse().unwrap();
        let told = Ancillary::parse(&Marks { source: Some(Permitted::unasked(source)), ..marks }.control(Family::Ipv4));
        assert_eq!((told.hop_limit, told.local), (Some(9), Some(source)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            Ancillary::parse(&bytes);
        }

        #[test]
        fn broken_lengths_do_not_panic(length: usize, data in prop::collection::vec(any::<u8>(), 0..60)) {
            Ancillary::parse(&[&length.to_ne_bytes()[..], &data].concat());
        }
    }
}
