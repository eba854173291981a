//! Resolvers of the test's own: an agent that asks one of these asks nobody else.

use std::future::pending;
use std::net::{IpAddr, SocketAddr};

use farsock::model::address::{Family, Transport};
use farsock::model::errno::LookupErrno;
use farsock::model::lookup::{HostAnswer, Lookup, Resolver};

/// Knows one name, `lab-b`, and one service, `echo`, and answers at once.
pub struct SmallResolver;

impl Resolver for SmallResolver {
    fn host(&self, name: &str, family: Option<Family>) -> Lookup<'_, HostAnswer> {
        let known = name == "lab-b";
        Box::pin(async move {
            if !known {
                return Err(LookupErrno::EAI_NONAME);
            }
            let all: [SocketAddr; 3] = ["127.0.0.2:0", "127.0.0.3:0", "[::1]:0"].map(|text| text.parse().unwrap());
            let fits = |addr: &SocketAddr| family.is_none_or(|family| Family::of(addr.ip()) == family);
            let addresses = all.into_iter().filter(fits).collect();
            Ok(HostAnswer { addresses, canonical_name: Some("lab-b.example".into()) })
        })
    }

    fn address(&self, ip: IpAddr) -> Lookup<'_, String> {
        let known = ip.is_loopback();
        Box::pin(async move { if known { Ok("lab-b".into()) } else { Err(LookupErrno::EAI_NONAME) } })
    }

    fn service(&self, name: &str, transport: Transport) -> Lookup<'_, u16> {
        let port = match (name, transport) {
            ("echo", Transport::Tcp) => Ok(7),
            ("echo", Transport::Udp) => Ok(1007),
            _ => Err(LookupErrno::EAI_SERVICE),
        };
        Box::pin(async move { port })
    }

    fn port(&self, port: u16, transport: Transport) -> Lookup<'_, String> {
        let known = matches!((port, transport), (7, Transport::Tcp) | (1007, Transport::Udp));
        Box::pin(async move { if known { Ok("echo".into()) } else { Err(LookupErrno::EAI_SERVICE) } })
    }
}

/// Never answers.
pub struct SilentResolver;

impl Resolver for SilentResolver {
    fn host(&self, _: &str, _: Option<Family>) -> Lookup<'_, HostAnswer> {
        Box::pin(pending())
    }

    fn address(&self, _: IpAddr) -> Lookup<'_, String> {
        Box::pin(pending())
    }

    fn service(&self, _: &str, _: Transport) -> Lookup<'_, u16> {
        Box::pin(pending())
    }

    fn port(&self, _: u16, _: Transport) -> Lookup<'_, String> {
        Box::pin(pending())
    }
}
