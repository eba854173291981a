//! Addresses, families, transports.

use std::net::{IpAddr, SocketAddr};

use crate::model::address::{AddressText, Endpoint, Family, Transport, node_family};
use crate::model::address::{Host, Port, Zone};
use crate::model::id::{SessionId, SocketId, SocketUid, WatcherId, shorten};
use crate::model::operation::Target;
use crate::model::refusal::Violation;
use crate::wire::{known, pb};

// === Family ===

impl From<Family> for pb::Family {
    fn from(family: Family) -> Self {
        match family {
            Family::Ipv4 => Self::Ipv4,
            Family::Ipv6 => Self::Ipv6,
        }
    }
}

/// The family that a request states, if it does.
pub fn family(field: &str, number: i32) -> Result<Option<Family>, Violation> {
    Ok(match known(field, number)? {
        pb::Family::Unspecified => None,
        pb::Family::Ipv4 => Some(Family::Ipv4),
        pb::Family::Ipv6 => Some(Family::Ipv6),
    })
}

// === Transport ===

impl From<Transport> for pb::Transport {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Tcp => Self::Tcp,
            Transport::Udp => Self::Udp,
        }
    }
}

/// The transport that a request states, if it does.
pub fn transport(field: &str, number: i32) -> Result<Option<Transport>, Violation> {
    Ok(match known(field, number)? {
        pb::Transport::Unspecified => None,
        pb::Transport::Tcp => Some(Transport::Tcp),
        pb::Transport::Udp => Some(Transport::Udp),
    })
}

// === Endpoint ===

impl From<&Endpoint> for pb::Endpoint {
    fn from(endpoint: &Endpoint) -> Self {
        Self {
            address: endpoint.addr.ip().to_string(),
            port: endpoint.addr.port().into(),
            family: pb::Family::from(Family::of(endpoint.addr.ip())).into(),
            zone: endpoint.zone_text().unwrap_or_default(),
            text: endpoint.to_string(),
        }
    }
}

/// An endpoint, where there is one.
pub fn endpoint(endpoint: Option<&Endpoint>) -> Option<pb::Endpoint> {
    endpoint.map(pb::Endpoint::from)
}

/// An endpoint as an agent sent it; absent when it makes no sense, which only another version's could.
pub(super) fn read_endpoint(sent: &pb::Endpoint) -> Option<Endpoint> {
    let ip = sent.address.parse().ok()?;
    let port = u16::try_from(sent.port).ok()?;
    let zone = (!sent.zone.is_empty()).then(|| sent.zone.as_str().into());
    Some(Endpoint { addr: SocketAddr::new(ip, port), zone })
}

// === Address text ===

/// An address with a port, as a request has it.
pub fn address(field: &str, text: &str) -> Result<AddressText, Violation> {
    AddressText::parse_with_port(text).map_err(|problem| Violation { field: field.to_owned(), problem })
}

/// The same, where empty text means that there is none.
pub(super) fn optional_address(field: &str, text: &str) -> Result<Option<AddressText>, Violation> {
    if text.is_empty() { Ok(None) } else { address(field, text).map(Some) }
}

/// An IP literal of a request, with its zone and without a port; empty text means that there is none.
pub(super) fn optional_literal(field: &str, text: &str) -> Result<Option<AddressText>, Violation> {
    if text.is_empty() {
        return Ok(None);
    }
    let literal = AddressText::parse(text).map_err(|problem| Violation { field: field.to_owned(), problem })?;
    match (&literal.host, &literal.port) {
        (Host::Ip(..), Port::Absent) => Ok(Some(literal)),
        _ => {
            let problem = format!("`{}` is not an IP address alone, such as 10.0.0.2 or fe80::2%eth0", shorten(text));
            Err(Violation::new(field, problem))
        }
    }
}

/// An IP literal of a request, without port and zone.
pub fn literal(field: &str, text: &str) -> Result<IpAddr, Violation> {
    text.parse().map_err(|_| {
        Violation::new(field, format!("`{}` is not an IP address, such as 10.0.0.2 or 2001:db8::2", shorten(text)))
    })
}

/// Checks a host of a request: a name or an IP literal, without a port.
pub fn host(field: &str, text: &str) -> Result<(), Violation> {
    match AddressText::parse(text) {
        Ok(AddressText { host: Host::Name(_) | Host::Ip(..), port: Port::Absent }) => Ok(()),
        Ok(_) => Err(Violation::new(field, format!("`{}` has a port: a host alone is needed", shorten(text)))),
        Err(problem) => Err(Violation { field: field.to_owned(), problem }),
    }
}

/// Checks a service name of a request.
pub fn service(field: &str, text: &str) -> Result<(), Violation> {
    match AddressText::parse(&format!(":{text}")) {
        Ok(AddressText { port: Port::Service(_), .. }) => Ok(()),
        Ok(_) => Err(Violation::new(field, format!("`{}` is a number: ask for `port` instead", shorten(text)))),
        Err(problem) => Err(Violation { field: field.to_owned(), problem }),
    }
}

/// What a piece of text is as an address.
pub fn parse_address(text: &str) -> pb::ParseAddressResponse {
    let family = node_family(text);
    let mut response = pb::ParseAddressResponse {
        family: family.map_or(pb::Family::Unspecified, pb::Family::from).into(),
        is_ipv4: family == Some(Family::Ipv4),
        is_ipv6: family == Some(Family::Ipv6),
        ..pb::ParseAddressResponse::default()
    };
    match AddressText::parse(text) {
        Err(problem) => response.problem = problem.to_string(),
        Ok(address) => {
            match address.host {
                Host::Absent => {}
                Host::Name(name) => response.host = name.into(),
                Host::Ip(ip, zone) => {
                    response.host = ip.to_string();
                    response.zone = match zone {
                        None => String::new(),
                        Some(Zone::Name(name)) => name.into(),
                        Some(Zone::Index(index)) => index.to_string(),
                    };
                }
            }
            response.port = match address.port {
                Port::Absent => String::new(),
                Port::Number(port) => port.to_string(),
                Port::Service(name) => name.into(),
            };
        }
    }
    response
}

// === Names ===

/// The session that a request is about.
pub fn session_id(text: &str) -> Result<SessionId, Violation> {
    SessionId::parse(text).map_err(|problem| Violation { field: "session_id".to_owned(), problem })
}

/// The watcher that a request is about.
pub fn watcher_id(text: &str) -> Result<WatcherId, Violation> {
    WatcherId::parse(text).map_err(|problem| Violation { field: "watcher_id".to_owned(), problem })
}

/// The socket that a request is about.
pub fn socket_id(text: &str) -> Result<SocketId, Violation> {
    SocketId::parse(text).map_err(|problem| Violation { field: "socket_id".to_owned(), problem })
}

pub(super) fn target(session: &str, socket: &str, uid: Option<u64>) -> Result<Target, Violation> {
    Ok(Target { session: session_id(session)?, socket: socket_id(socket)?, uid: uid.map(SocketUid) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_shown_whole_and_in_parts() {
        let v6: SocketAddr = "[fe80::2]:80".parse().unwrap();
        let shown = pb::Endpoint::from(&Endpoint { addr: v6, zone: Some("eth0".into()) });
        assert_eq!((shown.address.as_str(), shown.port, shown.zone.as_str()), ("fe80::2", 80, "eth0"));
        assert_eq!(shown.text, "[fe80::2%eth0]:80");
        assert_eq!(shown.family(), pb::Family::Ipv6);
        assert_eq!(read_endpoint(&shown).unwrap().zone.as_deref(), Some("eth0"));
    }

    #[test]
    fn text_is_judged_as_node_does_and_as_we_do() {
        let v4 = parse_address("10.0.0.2");
        assert!(v4.is_ipv4 && !v4.is_ipv6 && v4.family() == pb::Family::Ipv4 && v4.problem.is_empty());
        let mapped = parse_address("::ffff:10.0.0.2");
        assert!(mapped.is_ipv6 && mapped.family() == pb::Family::Ipv6);
        let with_port = parse_address("lab-b:http");
        assert_eq!(with_port.family(), pb::Family::Unspecified);
        assert_eq!((with_port.host.as_str(), with_port.port.as_str()), ("lab-b", "http"));
        assert!(parse_address("127.1").problem.contains("not an IPv4 address"));
    }

    #[test]
    fn unknown_enum_numbers_name_their_field() {
        assert_eq!(family("tcp.family", 9).unwrap_err().field, "tcp.family");
        assert_eq!(transport("transport", 0), Ok(None));
    }
}
