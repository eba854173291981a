//! With whom a socket has connections: lists of addresses, networks and ranges.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::id::shorten;
use crate::model::refusal::Problem;

/// The most entries of a list.
pub const MAX_RULES: usize = 256;

/// One entry of a list. An IPv4 address that is written as an IPv6 one counts as the former.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerRule {
    /// This address.
    Address(IpAddr),
    /// All addresses that begin with so many bits of this one; the others are zero.
    Network(IpAddr, u8),
    /// All addresses from the first one to the last one, of one IP version.
    Range(IpAddr, IpAddr),
}

/// With whom a socket has connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Peers {
    /// Not with these.
    pub deny: Vec<PeerRule>,
    /// Only with these; with anybody where it is empty.
    pub allow: Vec<PeerRule>,
}

impl Peers {
    /// Whether a connection with this address is wanted.
    pub fn permits(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let lists = |rules: &[PeerRule]| rules.iter().any(|rule| rule.contains(ip));
        !lists(&self.deny) && (self.allow.is_empty() || lists(&self.allow))
    }
}

impl PeerRule {
    /// Reads `10.0.0.7`, `10.0.0.0/8`, `10.0.0.1-10.0.0.9`, and the same of IPv6.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let literal = |part: &str| {
            part.parse::<IpAddr>().map(|ip| ip.to_canonical()).map_err(|_| {
                let rule = "an address (10.0.0.7), a network (10.0.0.0/8) or a range (10.0.0.1-10.0.0.9) is needed";
                Problem::new(format!("`{}`: {rule}", shorten(text)))
            })
        };
        if let Some((ip, bits)) = text.split_once('/') {
            // The bits of a mapped address are those of the IPv6 address, and so it stays one.
            let ip = literal(ip).map(|canonical| ip.parse().unwrap_or(canonical))?;
            return network(text, ip, bits);
        }
        let Some((first, last)) = text.split_once('-') else { return literal(text).map(Self::Address) };
        let (first, last) = (literal(first)?, literal(last)?);
        if first.is_ipv4() != last.is_ipv4() {
            return Err(Problem::new(format!("`{}`: both ends are of one IP version", shorten(text))));
        }
        if first > last {
            return Err(Problem::new(format!("`{}`: the range begins behind its end", shorten(text))));
        }
        Ok(Self::Range(first, last))
    }

    /// Reads a list of them, with commas in between, as people write it: IPv6 addresses may have their brackets.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, Problem> {
        let rules: Vec<_> = text.split(',').map(str::trim).filter(|rule| !rule.is_empty()).collect();
        if rules.len() > MAX_RULES {
            return Err(Problem::new(format!("at most {MAX_RULES} entries, and these are {}", rules.len())));
        }
        rules.into_iter().map(|rule| Self::parse(&rule.replace(['[', ']'], ""))).collect()
    }

    fn contains(&self, ip: IpAddr) -> bool {
        match *self {
            Self::Address(address) => ip == address,
            Self::Network(network, bits) => ip.is_ipv4() == network.is_ipv4() && masked(ip, bits) == network,
            Self::Range(first, last) => ip.is_ipv4() == first.is_ipv4() && (first..=last).contains(&ip),
        }
    }
}

fn network(text: &str, ip: IpAddr, bits: &str) -> Result<PeerRule, Problem> {
    let most = if ip.is_ipv4() { 32 } else { 128 };
    let plain = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
    let Some(bits) = bits.parse::<u8>().ok().filter(|bits| plain && *bits <= most) else {
        return Err(Problem::new(format!("`{}`: a prefix has 0 to {most} bits", shorten(text))));
    };
    let network = masked(ip, bits);
    if network != ip {
        return Err(Problem::new(format!(
            "`{}` is an address in a network: {network}/{bits} is the network",
            shorten(text)
        )));
    }
    Ok(match (ip, ip.to_canonical()) {
        (IpAddr::V6(_), IpAddr::V4(v4)) if bits >= 96 => PeerRule::Network(v4.into(), bits - 96),
        _ => PeerRule::Network(ip, bits),
    })
}

/// The first bits of an address, and zeros.
fn masked(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

impl fmt::Display for PeerRule {
    /// The form that the parser reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip) => write!(f, "{ip}"),
            Self::Network(ip, bits) => write!(f, "{ip}/{bits}"),
            Self::Range(first, last) => write!(f, "{first}-{last}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_list_is_read_as_people_write_it() {
        let rules = PeerRule::parse_list("10.0.0.7, 10.1.0.0/16,[::1]").unwrap();
        assert_eq!(rules.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.7", "10.1.0.0/16", "::1"]);
        assert_eq!(PeerRule::parse_list(" "), Ok(Vec::new()));
        assert!(PeerRule::parse_list("10.0.0.7 10.0.0.8").is_err());
        assert!(PeerRule::parse_list(&"::1,".repeat(MAX_RULES + 1)).is_err());
    }

    fn peers(deny: &[&str], allow: &[&str]) -> Peers {
        let read = |rules: &[&str]| rules.iter().map(|rule| PeerRule::parse(rule).unwrap()).collect();
        Peers { deny: read(deny), allow: read(allow) }
    }

    fn permitted(peers: &Peers, ip: &str) -> bool {
        peers.permits(ip.parse().unwrap())
    }

    #[test]
    fn whoever_is_denied_is_not_let_in_and_without_a_list_everybody_is() {
        assert!(permitted(&Peers::default(), "192.0.2.1"));
        let some = peers(&["10.0.0.7", "10.1.0.0/16", "fd00::1-fd00::9"], &[]);
        for (ip, let_in) in [
            ("10.0.0.7", false),
            ("10.0.0.8", true),
            ("10.1.255.255", false),
            ("10.2.0.0", true),
            ("fd00::1", false),
            ("fd00::9", false),
            ("fd00::a", true),
            ("::ffff:10.0.0.7", false),
        ] {
            assert_eq!(permitted(&some, ip), let_in, "{ip}");
        }
    }

    #[test]
    fn where_some_are_allowed_nobody_else_is_and_denying_wins() {
        let lab = peers(&["10.0.0.7"], &["10.0.0.0/8", "fd00::/8"]);
        assert!(permitted(&lab, "10.0.0.6") && permitted(&lab, "fd12::1"));
        assert!(!permitted(&lab, "10.0.0.7") && !permitted(&lab, "192.0.2.1") && !permitted(&lab, "::1"));
        // All of one IP version are none of the other.
        assert!(!permitted(&peers(&[], &["0.0.0.0/0"]), "::1") && !permitted(&peers(&[], &["::/0"]), "10.0.0.1"));
        assert!(!permitted(&peers(&["::ffff:10.0.0.0/104"], &[]), "10.9.9.9"));
    }

    #[test]
    fn everything_else_is_refused_with_a_reason() {
        for text in [
            "",
            "10.0.0",
            "10.0.0.1/",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0.0/+8",
            "::/129",
            "fd00::1/8",
            "lab-a",
            "10.0.0.1:80",
            "fe80::1%eth0",
            "10.0.0.9-10.0.0.1",
            "10.0.0.1-::1",
            "10.0.0.1-",
            "-",
            "10.0.0.1-10.0.0.2-10.0.0.3",
        ] {
            assert!(PeerRule::parse(text).is_err(), "{text}");
        }
        let mistake = PeerRule::parse("10.1.2.3/8").unwrap_err().to_string();
        assert!(mistake.contains("10.0.0.0/8"), "{mistake}");
    }

    proptest! {
        #[test]
        fn a_rule_is_shown_as_it_is_read(ip: IpAddr, bits in 0..129_u8, other: IpAddr) {
            let bits = if ip.is_ipv4() { bits.min(32) } else { bits };
            let (low, high) = (ip.to_canonical().min(other.to_canonical()), ip.to_canonical().max(other.to_canonical()));
            let texts = [ip.to_string(), format!("{}/{bits}", masked(ip, bits)), format!("{low}-{high}")];
            for text in texts {
                if let Ok(rule) = PeerRule::parse(&text) {
                    prop_assert_eq!(PeerRule::parse(&rule.to_string()), Ok(rule));
                }
            }
        }

        #[test]
        fn a_network_has_just_the_addresses_that_begin_as_it_does(ip: Ipv4Addr, other: Ipv4Addr, bits in 0..33_u32) {
            let network = PeerRule::parse(&format!("{}/{bits}", masked(ip.into(), u8::try_from(bits).unwrap()))).unwrap();
            let same = (ip.to_bits() ^ other.to_bits()).leading_zeros() >= bits;
            prop_assert_eq!(network.contains(other.into()), same);
        }

        #[test]
        fn no_text_panics(text in ".{0,60}") {
            let _ = PeerRule::parse(&text);
        }
    }
}
