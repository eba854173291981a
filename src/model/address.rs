//! Addresses: the one parser that every RPC and every file uses, and what the kernel gives back.
//!
//! The parser is strict. Old resolvers read `127.1` and `0x7f000001` as addresses, so that what a person or a policy sees is not what
//! is dialled; here they are refused.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;

use crate::model::id::shorten;
use crate::model::refusal::Problem;

/// An IP version: AF_INET or AF_INET6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// AF_INET.
    Ipv4,
    /// AF_INET6.
    Ipv6,
}

impl Family {
    /// The family of an address.
    pub const fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }

    /// The address that stands for all of the host's own.
    pub const fn wildcard(self) -> IpAddr {
        match self {
            Self::Ipv4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::Ipv6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }

    /// The address of the host for itself.
    pub const fn loopback(self) -> IpAddr {
        match self {
            Self::Ipv4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Self::Ipv6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        })
    }
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
}

impl Transport {
    /// The name that services files use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// One end of a connection, or the address of a datagram, with the interface's name where the address needs one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Address, port, and for IPv6 the index of the interface.
    pub addr: SocketAddr,
    /// The name of the interface that the address belongs to.
    pub zone: Option<Arc<str>>,
}

impl Endpoint {
    /// The zone by name, or by index where the name is not known; none where the address needs none.
    pub fn zone_text(&self) -> Option<String> {
        match (&self.zone, self.addr) {
            (Some(zone), _) => Some(zone.to_string()),
            (None, SocketAddr::V6(v6)) if v6.scope_id() != 0 => Some(v6.scope_id().to_string()),
            _ => None,
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(addr: SocketAddr) -> Self {
        Self { addr, zone: None }
    }
}

impl fmt::Display for Endpoint {
    /// `10.0.0.2:80`, `[fe80::2%eth0]:80`: the form that the parser reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.addr, self.zone_text()) {
            (SocketAddr::V6(v6), Some(zone)) => write!(f, "[{}%{zone}]:{}", v6.ip(), v6.port()),
            (SocketAddr::V6(v6), None) => write!(f, "[{}]:{}", v6.ip(), v6.port()),
            (SocketAddr::V4(v4), _) => write!(f, "{v4}"),
        }
    }
}

/// An interface, as text names it: `eth0`, or `2`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Zone {
    /// By name.
    Name(Box<str>),
    /// By index, from 1.
    Index(u32),
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Index(index) => write!(f, "{index}"),
        }
    }
}

/// The host part of an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// There is none: `:8888`. The agent's own host is meant.
    Absent,
    /// An IP literal, with its zone.
    Ip(IpAddr, Option<Zone>),
    /// A name to be looked up.
    Name(Box<str>),
}

/// The port part of an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Port {
    /// There is none.
    Absent,
    /// A number.
    Number(u16),
    /// A service name to be looked up.
    Service(Box<str>),
}

/// An address as somebody wrote it, parsed and not looked up yet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AddressText {
    /// The host part.
    pub host: Host,
    /// The port part.
    pub port: Port,
}

impl AddressText {
    /// Reads `10.0.0.2:80`, `[fe80::2%eth0]:80`, `lab-b:http`, `:8888`, `8888`, and hosts without a port.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        if text.is_empty() {
            return Err(Problem::new("an address is needed, such as 10.0.0.2:80, [::1]:80, lab-b:http or :8888"));
        }
        if let Some(rest) = text.strip_prefix('[') {
            return Self::parse_bracketed(text, rest);
        }
        match text.matches(':').count() {
            0 if text.bytes().all(|b| b.is_ascii_digit()) => Ok(Self { host: Host::Absent, port: parse_port(text)? }),
            0 => Ok(Self { host: parse_host(text)?, port: Port::Absent }),
            1 => {
                let (host, port) = text.split_once(':').unwrap_or((text, ""));
                let host = if host.is_empty() { Host::Absent } else { parse_host(host)? };
                Ok(Self { host, port: parse_port(port)? })
            }
            _ => parse_ipv6(text).map(|host| Self { host, port: Port::Absent }),
        }
    }

    /// Reads an address that needs a port.
    pub fn parse_with_port(text: &str) -> Result<Self, Problem> {
        let address = Self::parse(text)?;
        if address.port == Port::Absent {
            return Err(Problem::new(match address.host {
                Host::Ip(IpAddr::V6(_), _) => format!("`{}` has no port: write [{}]:80", shorten(text), shorten(text)),
                _ => format!("`{}` has no port: write {}:80", shorten(text), shorten(text)),
            }));
        }
        Ok(address)
    }

    fn parse_bracketed(text: &str, rest: &str) -> Result<Self, Problem> {
        let malformed = || {
            Problem::new(format!(
                "`{}` is not an address: brackets hold an IPv6 literal, as in [::1]:80",
                shorten(text)
            ))
        };
        let (inner, after) = rest.split_once(']').ok_or_else(malformed)?;
        let port = match after.strip_prefix(':') {
            Some(port) => parse_port(port)?,
            None if after.is_empty() => Port::Absent,
            None => return Err(malformed()),
        };
        Ok(Self { host: parse_ipv6(inner)?, port })
    }

    /// The family, where the text itself decides it.
    pub fn family(&self) -> Option<Family> {
        match self.host {
            Host::Ip(ip, _) => Some(Family::of(ip)),
            Host::Absent | Host::Name(_) => None,
        }
    }
}

impl fmt::Display for AddressText {
    /// The form that the parser reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Absent => {}
            Host::Name(name) => f.write_str(name)?,
            Host::Ip(IpAddr::V4(ip), _) => write!(f, "{ip}")?,
            Host::Ip(IpAddr::V6(ip), zone) => match zone {
                None => write!(f, "[{ip}]")?,
                Some(Zone::Name(name)) => write!(f, "[{ip}%{name}]")?,
                Some(Zone::Index(index)) => write!(f, "[{ip}%{index}]")?,
            },
        }
        match &self.port {
            Port::Absent => Ok(()),
            Port::Number(port) => write!(f, ":{port}"),
            Port::Service(name) => write!(f, ":{name}"),
        }
    }
}

/// Reads a host that is no port, no bracket, no colon: an IPv4 literal or a host name.
fn parse_host(text: &str) -> Result<Host, Problem> {
    if let Ok(ip) = text.parse::<Ipv4Addr>() {
        return Ok(Host::Ip(ip.into(), None));
    }
    if text.contains('%') {
        return Err(Problem::new(format!("`{}`: only an IPv6 literal has a zone", shorten(text))));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let label_fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(label_fits) {
        return Err(Problem::new(format!("`{}` is neither an IP address nor a host name", shorten(text))));
    }
    // A name whose last label is a number is an address in an old spelling (RFC 1123, 2.1; the URL standard says the same).
    if name.rsplit('.').next().is_some_and(looks_numeric) {
        return Err(Problem::new(format!(
            "`{}` is not an IPv4 address: four decimal numbers up to 255 without leading zeros are needed",
            shorten(text)
        )));
    }
    Ok(Host::Name(text.into()))
}

fn looks_numeric(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    label.bytes().all(|b| b.is_ascii_digit()) || hex.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn parse_ipv6(text: &str) -> Result<Host, Problem> {
    let (literal, zone) = match text.split_once('%') {
        Some((literal, zone)) => (literal, Some(parse_zone(zone)?)),
        None => (text, None),
    };
    match literal.parse::<Ipv6Addr>() {
        Ok(ip) => Ok(Host::Ip(ip.into(), zone)),
        Err(_) => {
            Err(Problem::new(format!("`{}` is not an IPv6 address; with a port it is written [::1]:80", shorten(text))))
        }
    }
}

/// Reads an interface by name or index.
pub fn parse_zone(text: &str) -> Result<Zone, Problem> {
    if text.bytes().all(|b| b.is_ascii_digit())
        && let Ok(index) = text.parse::<u32>()
        && index > 0
    {
        return Ok(Zone::Index(index));
    }
    // What the kernel's dev_valid_name allows; IFNAMSIZ is 16 with the final zero.
    let fits = (1..16).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b':' && b != b'%')
        && !text.bytes().all(|b| b.is_ascii_digit());
    if fits {
        return Ok(Zone::Name(text.into()));
    }
    Err(Problem::new(format!("`{}` is not an interface: a name such as eth0, or an index from 1", shorten(text))))
}

fn parse_port(text: &str) -> Result<Port, Problem> {
    if text.is_empty() {
        return Err(Problem::new("a port is needed after the colon: a number up to 65535 (0: any), or a service name"));
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text
            .parse()
            .map(Port::Number)
            .map_err(|_| Problem::new(format!("port {} is out of range: ports go up to 65535", shorten(text))));
    }
    let fits = text.len() <= 32
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'+' | b'.'))
        && text.bytes().any(|b| b.is_ascii_alphabetic());
    if fits {
        return Ok(Port::Service(text.into()));
    }
    Err(Problem::new(format!(
        "`{}` is not a port: a number up to 65535, or a service name such as http",
        shorten(text)
    )))
}

/// What Node's `net.isIP` says: which family the text is a literal of, if any.
pub fn node_family(text: &str) -> Option<Family> {
    if text.parse::<Ipv4Addr>().is_ok() {
        return Some(Family::Ipv4);
    }
    let zone_fits = |zone: &str| {
        !zone.is_empty() && zone.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':'))
    };
    let literal = match text.split_once('%') {
        Some((literal, zone)) if zone_fits(zone) => literal,
        Some(_) => return None,
        None => text,
    };
    literal.parse::<Ipv6Addr>().is_ok().then_some(Family::Ipv6)
}

/// The socket address of an IP address, a port, and for IPv6 the index of the interface.
pub fn socket_addr(ip: IpAddr, port: u16, scope_id: u32) -> SocketAddr {
    match ip {
        IpAddr::V4(v4) => SocketAddrV4::new(v4, port).into(),
        IpAddr::V6(v6) => SocketAddrV6::new(v6, port, 0, scope_id).into(),
    }
}

/// The index of the interface that a socket address belongs to; 0 where it has none.
pub const fn scope_of(addr: SocketAddr) -> u32 {
    match addr {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(v6) => v6.scope_id(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> Host {
        Host::Ip(text.parse().unwrap(), None)
    }

    #[test]
    fn every_form_is_read() {
        let name = |n: &str| Host::Name(n.into());
        let service = |s: &str| Port::Service(s.into());
        let table = [
            ("10.0.0.2:80", ip("10.0.0.2"), Port::Number(80)),
            ("10.0.0.2", ip("10.0.0.2"), Port::Absent),
            ("[::1]:80", ip("::1"), Port::Number(80)),
            ("[::1]", ip("::1"), Port::Absent),
            ("::1", ip("::1"), Port::Absent),
            ("::ffff:10.0.0.1", ip("::ffff:10.0.0.1"), Port::Absent),
            ("lab-b:http", name("lab-b"), service("http")),
            ("lab-b", name("lab-b"), Port::Absent),
            ("my_host.example.:0", name("my_host.example."), Port::Number(0)),
            (":8888", Host::Absent, Port::Number(8888)),
            ("8888", Host::Absent, Port::Number(8888)),
            (":http", Host::Absent, service("http")),
            ("localhost:65535", name("localhost"), Port::Number(65535)),
        ];
        for (text, host, port) in table {
            assert_eq!(AddressText::parse(text), Ok(AddressText { host, port }), "{text}");
        }
        let zoned = |zone| Host::Ip("fe80::2".parse().unwrap(), Some(zone));
        assert_eq!(AddressText::parse("[fe80::2%eth0]:80").unwrap().host, zoned(Zone::Name("eth0".into())));
        assert_eq!(AddressText::parse("fe80::2%7").unwrap().host, zoned(Zone::Index(7)));
    }

    #[test]
    fn every_form_is_shown_as_it_is_read() {
        for text in
            ["10.0.0.2:80", "[::1]:80", "[fe80::2%eth0]:http", "[fe80::2%7]", "lab-b", "lab-b:0", ":8888", ":http"]
        {
            assert_eq!(AddressText::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn everything_else_is_refused_with_a_reason() {
        for text in [
            "",
            ":",
            "a:",
            "127.1:80",
            "127.1",
            "0x7f000001:80",
            "0x7f000001",
            "0177.0.0.1",
            "2130706433",
            "1.2.3.4.5",
            "256.1.1.1",
            "1.2.3",
            "10.0.0.1:70000",
            "70000",
            "10.0.0.1:-1",
            "10.0.0.1:+80",
            "10.0.0.1:8 0",
            "[::1",
            "[::1]80",
            "[::1]:",
            "[10.0.0.1]:80",
            "[name]:80",
            "::1:80:zz",
            "fe80::1%",
            "fe80::1%0",
            "fe80::1%eth/0",
            "fe80::1%averyveryverylongname",
            "10.0.0.1%eth0",
            "a b:80",
            "-a:80",
            "a-:80",
            "ä:80",
            "host:ht tp",
            "host:$",
            "exa mple",
            "a..b",
            "1.2.3.0x4",
            "[::1]:80:90",
            "a:b:c",
        ] {
            let problem = AddressText::parse(text).expect_err(text);
            assert!(!problem.to_string().contains('\n'), "{text}");
        }
    }

    #[test]
    fn a_missing_port_is_told_where_one_is_needed() {
        assert!(AddressText::parse_with_port("10.0.0.1").is_err());
        assert!(AddressText::parse_with_port("::1").unwrap_err().to_string().contains("[::1]:80"));
        assert!(AddressText::parse_with_port("10.0.0.1:0").is_ok());
    }

    /// Asked of Node 20: `net.isIP` of each.
    #[test]
    fn node_agrees_on_what_an_ip_literal_is() {
        let v4 = ["0.0.0.0", "127.0.0.1", "255.255.255.255", "1.2.3.4"];
        let v6 = [
            "::",
            "::1",
            "1:2:3:4:5:6:7:8",
            "::ffff:1.2.3.4",
            "fe80::1%eth0",
            "fe80::1%1",
            "::1%a.b:c-d",
            "1:2:3:4:5:6:7::",
            "::2:3:4:5:6:7:8",
            "64:ff9b::1.2.3.4",
            "ABCD::",
            "1:2:3:4:5:6:1.2.3.4",
        ];
        let none = [
            "",
            "localhost",
            "127.1",
            "0x7f.1",
            "01.2.3.4",
            "1.2.3.04",
            "1.2.3.4 ",
            " 1.2.3.4",
            "1.2.3.4:80",
            "256.0.0.1",
            "1.2.3",
            ":::",
            "1::2::3",
            "12345::",
            "::1%",
            "::1%a_b",
            "1.2.3.4%1",
            "[::1]",
            "::ffff:1.2.3.04",
            "1:2:3:4:5:6:7",
            "1:2:3:4:5:6:7:8:9",
            "g::",
            "1:2:3:4:5:6:7:1.2.3.4",
            "::1/64",
        ];
        for text in v4 {
            assert_eq!(node_family(text), Some(Family::Ipv4), "{text}");
        }
        for text in v6 {
            assert_eq!(node_family(text), Some(Family::Ipv6), "{text}");
        }
        for text in none {
            assert_eq!(node_family(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(ip: IpAddr, port: u16, scope in 0u32..5) {
            let endpoint = Endpoint::from(socket_addr(ip, port, scope));
            let read = AddressText::parse(&endpoint.to_string()).unwrap();
            prop_assert_eq!(read.port, Port::Number(port));
            let zone = (scope > 0 && ip.is_ipv6()).then_some(Zone::Index(scope));
            prop_assert_eq!(read.host, Host::Ip(ip, zone));
        }

        #[test]
        fn no_text_panics(text in ".{0,80}") {
            let _ = AddressText::parse(&text);
            let _ = node_family(&text);
        }
    }
}
