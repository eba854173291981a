//! Connections that have no descriptor any more, as the kernel remembers them. sock_diag(7).

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::model::tcp::TcpState;

/// The kernel answers at once; if it ever did not, a caller must not wait for ever.
const PATIENCE: Duration = Duration::from_secs(1);

/// linux/netlink.h, linux/sock_diag.h.
const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
/// `struct nlmsghdr`, and after it `struct inet_diag_req_v2`.
const HEADER: usize = 16;
const QUESTION: usize = HEADER + 56;

/// The state of the connection with these ends; absent when the kernel has none.
pub fn tcp_state(local: SocketAddr, remote: SocketAddr) -> Option<TcpState> {
    let mut socket =
        Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(Protocol::from(NETLINK_SOCK_DIAG))).ok()?;
    socket.set_read_timeout(Some(PATIENCE)).ok()?;
    socket.write_all(&question(local, remote)).ok()?;
    let mut answer = [0; 1024];
    let size = socket.read(&mut answer).ok()?;
    // Where there is no connection, the kernel finds the listener of its local address.
    state(&answer[..size]).filter(|state| *state != TcpState::Listen)
}

fn question(local: SocketAddr, remote: SocketAddr) -> [u8; QUESTION] {
    let mut bytes = [0; QUESTION];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    let family = if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    #[allow(clippy::cast_possible_truncation, reason = "72 fits")]
    put(0, &(QUESTION as u32).to_ne_bytes());
    put(4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(6, &NLM_F_REQUEST.to_ne_bytes());
    put(HEADER, &[u8::try_from(family).unwrap_or(0), 6]);
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
            let (far, _) = listener.accept().unwrap();
            assert_eq!(tcp_state(local, remote), Some(TcpState::Established));
            // Without a descriptor, and its FIN acknowledged.
            drop(near);
            let becomes = |wanted| (0..100_000).any(|_| tcp_state(local, remote) == Some(wanted));
            assert!(becomes(TcpState::FinWait2));
            drop(far);
            assert!(becomes(TcpState::TimeWait));
            assert_eq!(tcp_state(remote, SocketAddr::new(local.ip(), 1)), None, "a listener is no connection");
            assert_eq!(tcp_state(local, SocketAddr::new(remote.ip(), 1)), None);
        }
    }

    #[test]
    fn strange_answers_are_none() {
        for size in 0..40 {
            assert_eq!(state(&vec![0; size]), None);
        }
    }
}
