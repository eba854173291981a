//! From addresses as people write them to addresses that a system call takes.

use std::net::SocketAddr;

use tokio::time::{Instant, timeout_at};

use crate::model::address::{AddressText, Family, Host, Port, Transport, Zone, socket_addr};
use crate::model::errno::LookupErrno;
use crate::model::error::SocketError;
use crate::model::event::Event;
use crate::model::refusal::Refusal;
use crate::socket::sockets::Sockets;
use crate::sys::interface;

/// What an address is wanted for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) transport: Transport,
    /// Only addresses of this family; any where absent.
    pub(super) family: Option<Family>,
    pub(super) purpose: Purpose,
    /// The request's field that the text came from.
    pub(super) field: &'a str,
    pub(super) deadline: Instant,
}

/// What stands for a host that is not named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The lab address, or all addresses.
    Bind,
    /// This host.
    Reach,
}

/// What came of looking an address up.
pub(super) struct Found {
    pub(super) answer: Answer,
    /// What to log, when a name was looked up.
    pub(super) event: Option<Event>,
}

/// The addresses, or why there are none.
pub(super) enum Answer {
    /// In the order in which they are to be tried; never empty.
    Addresses(Vec<SocketAddr>),
    Error(SocketError),
    TimedOut,
}

impl Sockets {
    /// Finds the addresses that a text means. An interface that does not exist is refused.
    pub(super) async fn look_up(&self, text: &AddressText, wanted: Wanted<'_>) -> Result<Found, Refusal> {
        let port = match self.port(text, wanted).await? {
            Ok(port) => port,
            Err(answer) => return Ok(Found { answer, event: None }),
        };
        let literal = |addr| Ok(Found { answer: Answer::Addresses(vec![addr]), event: None });
        match &text.host {
            Host::Absent => {
                let family = wanted.family.unwrap_or_else(|| self.usual_family());
                let otherwise = match wanted.purpose {
                    Purpose::Bind => family.wildcard(),
                    Purpose::Reach => family.loopback(),
                };
                literal(socket_addr(self.lab_address(family).unwrap_or(otherwise), port, 0))
            }
            Host::Ip(ip, zone) => literal(socket_addr(*ip, port, scope_id(zone.as_ref(), wanted.field)?)),
            Host::Name(name) => Ok(self.host(name, port, wanted).await),
        }
    }

    /// The family of a socket for which nothing tells one.
    pub(super) fn usual_family(&self) -> Family {
        let only_ipv6 = self.lab_address(Family::Ipv4).is_none() && self.lab_address(Family::Ipv6).is_some();
        if only_ipv6 { Family::Ipv6 } else { Family::Ipv4 }
    }

    async fn host(&self, name: &str, port: u16, wanted: Wanted<'_>) -> Found {
        let resolved = timeout_at(wanted.deadline, self.resolver().host(name, wanted.family)).await;
        let (addresses, error) = match resolved {
            Err(_) => return Found { answer: Answer::TimedOut, event: None },
            Ok(Ok(host)) => (host.addresses, None),
            Ok(Err(errno)) => (Vec::new(), Some(SocketError::lookup(errno, name))),
        };
        let event = Event::LookedUp {
            host: name.into(),
            addresses: addresses.iter().map(|addr| addr.ip().to_string()).collect(),
            error: error.clone(),
        };
        let addresses: Vec<SocketAddr> = addresses
            .into_iter()
            .map(|mut addr| {
                addr.set_port(port);
                addr
            })
            .collect();
        let answer = match error {
            Some(error) => Answer::Error(error),
            None if addresses.is_empty() => Answer::Error(SocketError::lookup(LookupErrno::EAI_NODATA, name)),
            None => Answer::Addresses(addresses),
        };
        Found { answer, event: Some(event) }
    }

    async fn port(&self, text: &AddressText, wanted: Wanted<'_>) -> Result<Result<u16, Answer>, Refusal> {
        match &text.port {
            Port::Number(port) => Ok(Ok(*port)),
            Port::Absent => Err(Refusal::invalid(wanted.field, "a port is needed")),
            Port::Service(name) => {
                let service = self.resolver().service(name, wanted.transport);
                Ok(match timeout_at(wanted.deadline, service).await {
                    Ok(Ok(port)) => Ok(port),
                    Ok(Err(errno)) => Err(Answer::Error(SocketError::lookup(errno, name))),
                    Err(_) => Err(Answer::TimedOut),
                })
            }
        }
    }
}

/// The address that a literal means to a socket of this family, which must be its own.
pub(super) fn local_literal(text: &AddressText, family: Family, field: &str) -> Result<SocketAddr, Refusal> {
    match &text.host {
        Host::Ip(ip, zone) if Family::of(*ip) == family => Ok(socket_addr(*ip, 0, scope_id(zone.as_ref(), field)?)),
        _ => Err(Refusal::invalid(field, format!("the socket is for {family}: an address of that version is needed"))),
    }
}

fn scope_id(zone: Option<&Zone>, field: &str) -> Result<u32, Refusal> {
    let (found, text) = match zone {
        None => return Ok(0),
        Some(Zone::Index(index)) => (interface::exists(*index).then_some(*index), index.to_string()),
        Some(Zone::Name(name)) => (interface::index_of(name).ok(), name.to_string()),
    };
    found.ok_or_else(|| {
        Refusal::invalid(field, format!("there is no interface `{text}` on the agent's host: see ListInterfaces"))
    })
}
