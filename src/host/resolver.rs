//! Names, as the host's own resolver knows them. getaddrinfo(3), getnameinfo(3).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use dns_lookup::{AddrInfoHints, LookupError, getaddrinfo, getnameinfo};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::host::resolver_files;
use crate::model::address::{Family, Transport, socket_addr};
use crate::model::errno::LookupErrno;
use crate::model::lookup::{HostAnswer, Lookup, Resolver, ResolverView};

/// The system's resolver. Lookups block, and cannot be stopped; so each has a thread, and there are only so many.
#[derive(Debug, Clone)]
pub struct SystemResolver(Arc<Semaphore>);

impl SystemResolver {
    /// A resolver that looks up at most so many names at a time.
    pub fn new(limit: u32) -> Self {
        Self(Arc::new(Semaphore::new(limit as usize)))
    }

    fn run<T: Send + 'static>(
        &self,
        lookup: impl FnOnce() -> Result<T, LookupErrno> + Send + 'static,
    ) -> Lookup<'static, T> {
        let turns = Arc::clone(&self.0);
        Box::pin(async move {
            // The turn lasts as long as the thread is busy, also when nobody waits for it any more.
            let turn = turns.acquire_owned().await.map_err(|_| LookupErrno::EAI_AGAIN)?;
            let looked_up = spawn_blocking(move || {
                let result = lookup();
                drop(turn);
                result
            });
            looked_up.await.unwrap_or(Err(LookupErrno::EAI_FAIL))
        })
    }
}

impl Resolver for SystemResolver {
    fn host(&self, name: &str, family: Option<Family>) -> Lookup<'_, HostAnswer> {
        let name = name.to_owned();
        self.run(move || {
            let hints = AddrInfoHints {
                flags: libc::AI_CANONNAME,
                address: match family {
                    None => libc::AF_UNSPEC,
                    Some(Family::Ipv4) => libc::AF_INET,
                    Some(Family::Ipv6) => libc::AF_INET6,
                },
                // Otherwise each address comes once for every type of socket.
                socktype: libc::SOCK_STREAM,
                protocol: 0,
            };
            let mut answer = HostAnswer::default();
            for info in getaddrinfo(Some(&name), None, Some(hints)).map_err(errno)?.flatten() {
                answer.canonical_name = answer.canonical_name.or(info.canonname);
                if !answer.addresses.contains(&info.sockaddr) {
                    answer.addresses.push(info.sockaddr);
                }
            }
            if answer.addresses.is_empty() { Err(LookupErrno::EAI_NODATA) } else { Ok(answer) }
        })
    }

    fn view(&self, question: &str) -> Lookup<'_, ResolverView> {
        let question = question.to_owned();
        // Of three files, which takes no turn: it is told when all lookups hang, too.
        let looked_at = spawn_blocking(move || resolver_files::view(&question));
        Box::pin(async move { looked_at.await.map_err(|_| LookupErrno::EAI_FAIL) })
    }

    fn address(&self, ip: IpAddr) -> Lookup<'_, String> {
        self.run(move || {
            let flags = libc::NI_NAMEREQD | libc::NI_NUMERICSERV;
            Ok(getnameinfo(&socket_addr(ip, 0, 0), flags).map_err(errno)?.0)
        })
    }

    fn service(&self, name: &str, transport: Transport) -> Lookup<'_, u16> {
        let name = name.to_owned();
        self.run(move || {
            let hints = AddrInfoHints { socktype: socktype(transport), ..AddrInfoHints::default() };
            let found = getaddrinfo(None, Some(&name), Some(hints)).map_err(errno);
            let port = found.and_then(|mut all| all.find_map(Result::ok).ok_or(LookupErrno::EAI_SERVICE));
            match port {
                Ok(info) => Ok(info.sockaddr.port()),
                Err(errno) => well_known(errno, |(known, _)| known == name).map(|(_, port)| port),
            }
        })
    }

    fn port(&self, port: u16, transport: Transport) -> Lookup<'_, String> {
        self.run(move || {
            let datagram = if transport == Transport::Udp { libc::NI_DGRAM } else { 0 };
            let address: SocketAddr = (Ipv4Addr::UNSPECIFIED, port).into();
            let (_, service) = getnameinfo(&address, libc::NI_NUMERICHOST | datagram).map_err(errno)?;
            // A port without a name is answered as a number.
            match service.parse::<u16>() {
                Err(_) => Ok(service),
                Ok(_) => well_known(LookupErrno::EAI_SERVICE, |(_, known)| known == port).map(|(name, _)| name.into()),
            }
        })
    }
}

/// The services of the textbooks, for hosts without a services file; the minimal images of many distributions have none.
const WELL_KNOWN: [(&str, u16); 11] = [
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("domain", 53),
    ("http", 80),
    ("pop3", 110),
    ("nntp", 119),
    ("ntp", 123),
    ("imap2", 143),
    ("https", 443),
];

/// A well-known service, if the host has no file that could have told it; else the host's own answer stands.
fn well_known(
    answer: LookupErrno,
    wanted: impl Fn((&'static str, u16)) -> bool,
) -> Result<(&'static str, u16), LookupErrno> {
    let no_file = !std::path::Path::new("/etc/services").exists();
    WELL_KNOWN.into_iter().find(|service| no_file && wanted(*service)).ok_or(answer)
}

const fn socktype(transport: Transport) -> libc::c_int {
    match transport {
        Transport::Tcp => libc::SOCK_STREAM,
        Transport::Udp => libc::SOCK_DGRAM,
    }
}

fn errno(error: LookupError) -> LookupErrno {
    LookupErrno::new(error.error_num())
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test]
    async fn the_system_knows_localhost_and_the_usual_services() {
        let resolver = SystemResolver::new(2);
        let localhost = resolver.host("localhost", Some(Family::Ipv4)).await.unwrap();
        assert_eq!(localhost.addresses, ["127.0.0.1:0".parse().unwrap()]);
        assert_eq!(resolver.service("http", Transport::Tcp).await, Ok(80));
        assert_eq!(resolver.port(443, Transport::Tcp).await.as_deref(), Ok("https"));
        assert_eq!(resolver.port(1, Transport::Udp).await, Err(LookupErrno::EAI_SERVICE));
        assert_eq!(resolver.service("no-such-service", Transport::Tcp).await, Err(LookupErrno::EAI_SERVICE));
        assert!(resolver.address("127.0.0.1".parse().unwrap()).await.is_ok());
    }

    #[tokio::test]
    async fn a_name_that_is_none_gets_a_typed_error() {
        let nowhere = SystemResolver::new(1).host("no-such-host.invalid", None).await;
        assert!(
            matches!(nowhere, Err(LookupErrno::EAI_NONAME | LookupErrno::EAI_AGAIN | LookupErrno::EAI_NODATA)),
            "{nowhere:?}"
        );
    }

    #[tokio::test]
    async fn only_so_many_names_are_looked_up_at_a_time() {
        let resolver = SystemResolver::new(1);
        let (answer, asked) = std::sync::mpsc::channel();
        let first = tokio::spawn(resolver.run(move || Ok(asked.recv().unwrap())));
        let mut second = std::pin::pin!(resolver.run(|| Ok("second")));
        while resolver.0.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(second.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());

        // Nobody waits for the first answer any more, but its thread is still busy.
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        assert!(second.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(resolver.0.available_permits(), 0);

        answer.send("first").unwrap();
        assert_eq!(second.await, Ok("second"));
    }
}
