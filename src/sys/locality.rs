//! Which addresses are a host's own, asked at any time and on any thread: a socket of the kernel's routes stays in the network namespace in
//! which it was made. rtnetlink(7).

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::model::errno::Errno;
use crate::sys::diag::{HEADER, NLM_F_DUMP, NLM_F_REQUEST, array, attribute, message};

/// The kernel answers at once; if it ever did not, a caller must not wait for ever.
const PATIENCE: Duration = Duration::from_secs(1);
/// Room for one answer. The kernel sends at most 32 KiB at a time.
const ROOM: usize = 64 << 10;

/// linux/rtnetlink.h, linux/if_addr.h.
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTN_LOCAL: u8 = 2;
const RTN_ANYCAST: u8 = 4;
/// `struct rtmsg`, and where the type of a route stands in it; `struct ifaddrmsg`.
const ROUTE: usize = 12;
const ROUTE_TYPE: usize = 7;
const ADDRESS: usize = 8;

/// A network namespace, and what its addresses are.
pub struct Locality(Mutex<Line>);

/// The kernel's answers come in the order of the questions, each with the number of its question.
struct Line {
    socket: Socket,
    asked: u32,
}

impl Locality {
    /// The namespace of this thread.
    pub fn here() -> Result<Self, Errno> {
        let open = || {
            let domain = Domain::from(libc::AF_NETLINK);
            let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(libc::NETLINK_ROUTE)))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            Ok(Self(Mutex::new(Line { socket, asked: 0 })))
        };
        open().map_err(errno)
    }

    /// Whether what is sent to an address from within is for the namespace itself, or the address is one of its interfaces'.
    pub fn is_local(&self, ip: IpAddr) -> Result<bool, Errno> {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(line.is_delivered_here(ip)? || line.has(ip)?)
    }
}

impl Line {
    /// What the kernel would do with a packet: addresses that it takes without an interface having them are among these.
    fn is_delivered_here(&mut self, ip: IpAddr) -> Result<bool, Errno> {
        let octets = match ip {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let mut question = [0; ROUTE].to_vec();
        question[0] = family(ip);
        question[1] = u8::try_from(octets.len() * 8).unwrap_or(0);
        question.extend(u16::try_from(4 + octets.len()).unwrap_or(0).to_ne_bytes());
        question.extend(RTA_DST.to_ne_bytes());
        question.extend(octets);
        let mut kind = None;
        let answered = self.ask(RTM_GETROUTE, NLM_F_REQUEST, &question, |answer, body| {
            kind = body.get(ROUTE_TYPE).copied().filter(|_| answer == RTM_NEWROUTE);
        });
        match answered {
            Ok(()) => Ok(matches!(kind, Some(RTN_LOCAL | RTN_ANYCAST))),
            // There is no way, or one that leads nowhere: then it is not here, either.
            Err(error) => match error.raw_os_error() {
                Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL) => Ok(false),
                _ => Err(errno(error)),
            },
        }
    }

    fn has(&mut self, ip: IpAddr) -> Result<bool, Errno> {
        let mut question = [0; ADDRESS];
        question[0] = family(ip);
        let mut has = false;
        let told = self.ask(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, &question, |answer, body| {
            has |= answer == RTM_NEWADDR && address(body) == Some(ip);
        });
        told.map_err(errno)?;
        Ok(has)
    }

    /// Asks, and looks at each answer, up to the last one.
    fn ask(&mut self, kind: u16, flags: u16, question: &[u8], mut look: impl FnMut(u16, &[u8])) -> io::Result<()> {
        const NLMSG_ERROR: u16 = 2;
        const NLMSG_DONE: u16 = 3;
        self.asked = self.asked.wrapping_add(1);
        let mut asked = Vec::with_capacity(HEADER + question.len());
        asked.extend(u32::try_from(HEADER + question.len()).unwrap_or(0).to_ne_bytes());
        asked.extend(kind.to_ne_bytes());
        asked.extend(flags.to_ne_bytes());
        asked.extend(self.asked.to_ne_bytes());
        asked.extend([0; 4]);
        asked.extend(question);
        self.socket.write_all(&asked)?;
        let mut answers = vec![0; ROOM];
        loop {
            let size = self.socket.read(&mut answers)?;
            let mut rest = &answers[..size];
            while let Some((answer, body, next)) = message(rest) {
                // An answer that came too late for the question before is none to this one.
                let is_ours = array(rest, 8) == Some(self.asked.to_ne_bytes());
                rest = next;
                match answer {
                    _ if !is_ours => {}
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => {
                        let code = array(body, 0).map_or(libc::EPROTO, i32::from_ne_bytes);
                        return if code == 0 {
                            Ok(())
                        } else {
                            Err(io::Error::from_raw_os_error(code.saturating_abs()))
                        };
                    }
                    _ => {
                        look(answer, body);
                        if flags & NLM_F_DUMP == 0 {
                            return Ok(());
                        }
                    }
                }
            }
        }
    }
}

/// The address in `struct ifaddrmsg` and its attributes: of a line to another host, the near one.
fn address(body: &[u8]) -> Option<IpAddr> {
    let (mut near, mut any) = (None, None);
    let mut attributes = body.get(ADDRESS..)?;
    while let Some((kind, value, next)) = attribute(attributes) {
        match kind {
            IFA_LOCAL => near = ip(value),
            IFA_ADDRESS => any = ip(value),
            _ => {}
        }
        attributes = next;
    }
    near.or(any)
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => array::<4>(bytes, 0).map(IpAddr::from),
        16 => array::<16>(bytes, 0).map(IpAddr::from),
        _ => None,
    }
}

fn family(ip: IpAddr) -> u8 {
    let family = if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    u8::try_from(family).unwrap_or(0)
}

fn errno(error: io::Error) -> Errno {
    // A read that has waited for too long, or an answer that makes no sense.
    Errno::new(error.raw_os_error().unwrap_or(libc::EPROTO))
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
