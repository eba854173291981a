//! Sockets of this network namespace as the kernel lists them, whoever has their descriptors, and connections that have none any more.
//! sock_diag(7).

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::model::address::{Family, Transport, socket_addr};
use crate::model::holder::Claim;
use crate::model::tcp::TcpState;

/// The kernel answers at once; if it ever did not, a caller must not wait for ever.
const PATIENCE: Duration = Duration::from_secs(1);

/// linux/netlink.h, linux/sock_diag.h.
const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
/// `struct nlmsghdr`, and after it `struct inet_diag_req_v2`.
const HEADER: usize = 16;
const QUESTION: usize = HEADER + 56;
/// `struct inet_diag_msg`, the answer's head.
const ANSWER: usize = 72;
/// linux/inet_diag.h: INET_DIAG_SKV6ONLY.
const ONLY_IPV6: u16 = 11;
/// Room for one answer.
const ROOM: usize = 1024;
/// How many answers are looked at: more sockets on one port than any lab has.
const MAX_ANSWERS: usize = 65_536;

/// The state of the connection with these ends; absent when the kernel has none. `interface` is what the socket is or was bound to, as one
/// with a link-local address always is; zero: to none.
pub fn tcp_state(local: SocketAddr, remote: SocketAddr, interface: u32) -> Option<TcpState> {
    let mut answer = [0; ROOM];
    state(connection(local, remote, interface, &mut answer)?)
}

/// How many bytes of the peer's this connection has that nobody has taken, urgent ones and what stands behind them included, which
/// SIOCINQ does not count. Absent when the kernel has no such connection. `interface` is what the socket is bound to, zero: to none.
pub fn unread(local: SocketAddr, remote: SocketAddr, interface: u32) -> Option<u32> {
    let mut answer = [0; ROOM];
    word(connection(local, remote, interface, &mut answer)?, HEADER + 56)
}

/// What the kernel answers about a connection.
fn connection(local: SocketAddr, remote: SocketAddr, interface: u32, answer: &mut [u8; ROOM]) -> Option<&[u8]> {
    let mut socket = open()?;
    let mut asked = question(Transport::Tcp, NLM_F_REQUEST, local, remote);
    asked[HEADER + 44..HEADER + 48].copy_from_slice(&interface.to_ne_bytes());
    socket.write_all(&asked).ok()?;
    let size = socket.read(answer).ok()?;
    let answer = &answer[..size];
    // Where there is no connection, the kernel finds the listener of its local address.
    state(answer).filter(|state| *state != TcpState::Listen).map(|_| answer)
}

/// A socket that the kernel lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Its local address.
    pub local: Claim,
    /// Its remote address; absent where it has none.
    pub remote: Option<SocketAddr>,
    /// The kernel's state of a TCP socket; CLOSED while it is only bound.
    pub state: Option<TcpState>,
    /// How much longer it stays in TIME_WAIT.
    pub time_left: Option<Duration>,
    /// The user who made it.
    pub user: u32,
    /// The number of its inode: how descriptors of it are known in /proc. Zero: there are none any more.
    pub inode: u32,
    /// Its number on this host: SO_COOKIE.
    pub cookie: u64,
}

/// The sockets that have this local port, IPv4 and IPv6. As much of them as the kernel tells: before Linux 6.8, TCP sockets that are only bound
/// are missing.
pub fn sockets_on(transport: Transport, port: u16) -> Vec<Listed> {
    let mut listed = Vec::new();
    for any in [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()] {
        let Some(mut socket) = open() else { return listed };
        let (local, remote) = (SocketAddr::new(any, port), SocketAddr::new(any, 0));
        if socket.write_all(&question(transport, NLM_F_REQUEST | NLM_F_DUMP, local, remote)).is_err() {
            return listed;
        }
        let mut answers = vec![0; 65_536];
        let mut left = MAX_ANSWERS;
        'answers: while let Ok(size) = socket.read(&mut answers) {
            let mut rest = &answers[..size];
            while let Some((kind, body, next)) = message(rest) {
                left -= 1;
                // NLMSG_DONE, an error, or too many.
                if kind != SOCK_DIAG_BY_FAMILY || left == 0 {
                    break 'answers;
                }
                // The kernel lists sockets of other ports, too, if they are only bound.
                listed.extend(read_listed(transport, body).filter(|found| found.local.addr.port() == port));
                rest = next;
            }
        }
    }
    listed
}

fn open() -> Option<Socket> {
    let socket =
        Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(Protocol::from(NETLINK_SOCK_DIAG))).ok()?;
    socket.set_read_timeout(Some(PATIENCE)).ok()?;
    Some(socket)
}

/// Splits the first message off: its type, what is in it, and what comes after it. `struct nlmsghdr`.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(array(bytes, 0)?)).ok()?;
    let body = bytes.get(HEADER..length)?;
    let next = length.next_multiple_of(4);
    Some((u16::from_ne_bytes(array(bytes, 4)?), body, bytes.get(next..).unwrap_or_default()))
}

/// Reads `struct inet_diag_msg` and the attributes behind it.
fn read_listed(transport: Transport, body: &[u8]) -> Option<Listed> {
    /// The timer of TIME_WAIT, as tcp_diag.c numbers them.
    const WAITS: u8 = 3;
    let [family, state, timer, _] = array(body, 0)?;
    let end = |port: usize, ip: usize| {
        let family = if i32::from(family) == libc::AF_INET { Family::Ipv4 } else { Family::Ipv6 };
        let ip: IpAddr = match family {
            Family::Ipv4 => Ipv4Addr::from(array::<4>(body, ip)?).into(),
            Family::Ipv6 => Ipv6Addr::from(array::<16>(body, ip)?).into(),
        };
        let scope = if matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local()) { word(body, 40)? } else { 0 };
        Some(socket_addr(ip, u16::from_be_bytes(array(body, port)?), scope))
    };
    let (local, remote) = (end(4, 8)?, end(6, 24)?);
    let mut only_ipv6 = false;
    let mut attributes = body.get(ANSWER..)?;
    while let Some((kind, value, next)) = attribute(attributes) {
        only_ipv6 |= kind == ONLY_IPV6 && value.first() == Some(&1);
        attributes = next;
    }
    Some(Listed {
        local: Claim { addr: local, only_ipv6 },
        remote: (remote.port() != 0).then_some(remote),
        state: TcpState::from_number(state).filter(|_| transport == Transport::Tcp),
        time_left: (timer == WAITS).then(|| word(body, 52)).flatten().map(|ms| Duration::from_millis(ms.into())),
        user: word(body, 64)?,
        inode: word(body, 68)?,
        cookie: u64::from(word(body, 44)?) | u64::from(word(body, 48)?) << 32,
    })
}

/// Splits the first attribute off: its type, its value, and what comes after it. `struct nlattr`.
fn attribute(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::from(u16::from_ne_bytes(array(bytes, 0)?));
    let value = bytes.get(4..length)?;
    Some((u16::from_ne_bytes(array(bytes, 2)?), value, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_ne_bytes)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn question(transport: Transport, flags: u16, local: SocketAddr, remote: SocketAddr) -> [u8; QUESTION] {
    let mut bytes = [0; QUESTION];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    let family = if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    #[allow(clippy::cast_possible_truncation, reason = "72 fits")]
    put(0, &(QUESTION as u32).to_ne_bytes());
    put(4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(6, &flags.to_ne_bytes());
    let protocol = match transport {
        Transport::Tcp => 6,
        Transport::Udp => 17,
    };
    put(HEADER, &[u8::try_from(family).unwrap_or(0), protocol]);
    // All states.
    put(HEADER + 4, &u32::MAX.to_ne_bytes());
    // `struct inet_diag_sockid`: ports and addresses in network order, an interface, and a cookie that stands for any.
    put(HEADER + 8, &local.port().to_be_bytes());
    put(HEADER + 10, &remote.port().to_be_bytes());
    for (at, ip) in [(HEADER + 12, local.ip()), (HEADER + 28, remote.ip())] {
        match ip {
            IpAddr::V4(ip) => put(at, &ip.octets()),
            IpAddr::V6(ip) => put(at, &ip.octets()),
        }
    }
    put(HEADER + 48, &[0xff; 8]);
    bytes
}

/// The state in an answer: the second byte of `struct inet_diag_msg`. An error is a message of another type.
fn state(answer: &[u8]) -> Option<TcpState> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    (kind == SOCK_DIAG_BY_FAMILY)
        .then(|| answer.get(HEADER + 1))
        .flatten()
        .and_then(|state| TcpState::from_number(*state))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_kernel_tells_the_state_of_a_connection_by_its_ends() {
        for ip in ["127.0.0.1", "::1"] {
            let listener = TcpListener::bind((ip, 0)).unwrap();
            let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (local, remote) = (near.local_addr().unwrap(), near.peer_addr().unwrap());
            let (mut far, _) = listener.accept().unwrap();
            assert_eq!(tcp_state(local, remote, 0), Some(TcpState::Established));
            assert_eq!(unread(local, remote, 0), Some(0));
            far.write_all(b"hola").unwrap();
            assert!((0..100_000).any(|_| unread(local, remote, 0) == Some(4)));
            assert_eq!(unread(local, SocketAddr::new(remote.ip(), 1), 0), None);
            // Read, so that no RST is sent; without a descriptor, and its FIN acknowledged.
            (&near).read_exact(&mut [0; 4]).unwrap();
            drop(near);
            let becomes = |wanted| (0..100_000).any(|_| tcp_state(local, remote, 0) == Some(wanted));
            assert!(becomes(TcpState::FinWait2));
            drop(far);
            assert!(becomes(TcpState::TimeWait));
            assert_eq!(tcp_state(remote, SocketAddr::new(local.ip(), 1), 0), None, "a listener is no connection");
            assert_eq!(tcp_state(local, SocketAddr::new(remote.ip(), 1), 0), None);
        }
    }

    #[test]
    fn the_kernel_lists_the_sockets_of_a_port() {
        for ip in ["127.0.0.1", "::1"] {
            let listener = TcpListener::bind((ip, 0)).unwrap();
            let local = listener.local_addr().unwrap();
            let near = TcpStream::connect(local).unwrap();
            let (far, _) = listener.accept().unwrap();
            let states = || {
                let mut listed = sockets_on(Transport::Tcp, local.port());
                listed.sort_by_key(|found| found.remote.is_some());
                listed.iter().map(|found| (found.local.addr, found.remote, found.state)).collect::<Vec<_>>()
            };
            let remote = near.local_addr().unwrap();
            let connection = |state| (local, Some(remote), Some(state));
            assert_eq!(states(), [(local, None, Some(TcpState::Listen)), connection(TcpState::Established)]);
            // Whoever ends first waits.
            drop((listener, far));
            drop(near);
            let waiting = (0..100_000).any(|_| states() == [connection(TcpState::TimeWait)]);
            assert!(waiting, "{:?}", states());
            let left = sockets_on(Transport::Tcp, local.port())[0].time_left.unwrap();
            assert!(left <= Duration::from_secs(60), "{left:?}");

            let socket = std::net::UdpSocket::bind((ip, 0)).unwrap();
            let listed = sockets_on(Transport::Udp, socket.local_addr().unwrap().port());
            assert_eq!(listed.len(), 1);
            assert_eq!((listed[0].local.addr, listed[0].state), (socket.local_addr().unwrap(), None));
            assert!(listed[0].inode > 0 && listed[0].cookie > 0);
        }
    }

    #[test]
    fn strange_answers_are_none() {
        for size in 0..100 {
            assert_eq!(read_listed(Transport::Tcp, &vec![0; size]).is_some(), size >= ANSWER, "{size}");
            for byte in [0, 1, 255] {
                let bytes = vec![byte; size];
                let _ = (message(&bytes), attribute(&bytes), read_listed(Transport::Udp, &bytes));
            }
        }
        for size in 0..40 {
            assert_eq!(state(&vec![0; size]), None);
        }
    }
}
