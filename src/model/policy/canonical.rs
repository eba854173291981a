//! What an address leads to, however it is spelled: IPv4 inside of IPv6, the host itself as 0.0.0.0, and addresses that are special.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Addresses that a rule must name to allow them: a rule for a wider network does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Special {
    /// The word for all of its kind in a policy; empty where there is none.
    pub word: &'static str,
    /// What it is, with its article.
    pub what: &'static str,
    /// Where.
    pub network: IpNet,
}

const fn v4(word: &'static str, what: &'static str, address: [u8; 4], length: u8) -> Special {
    let [a, b, c, d] = address;
    Special { word, what, network: IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)) }
}

const fn v6(word: &'static str, what: &'static str, address: u128, length: u8) -> Special {
    Special { word, what, network: IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_bits(address), length)) }
}

const METADATA: &str = "an address of a cloud's metadata";

/// All of them. RFC 6890; the metadata addresses are those of AWS, GCP, Azure, Alibaba and Oracle.
pub const SPECIAL: [Special; 21] = [
    v4("loopback", "an address of the host itself", [127, 0, 0, 0], 8),
    v6("loopback", "an address of the host itself", 1, 128),
    v4("link-local", "a link-local address", [169, 254, 0, 0], 16),
    v6("link-local", "a link-local address", 0xfe80 << 112, 10),
    v4("multicast", "a multicast group", [224, 0, 0, 0], 4),
    v6("multicast", "a multicast group", 0xff << 120, 8),
    v4("broadcast", "the broadcast address", [255, 255, 255, 255], 32),
    v4("", "a reserved address", [240, 0, 0, 0], 4),
    v4("wildcard", "all addresses of the host", [0, 0, 0, 0], 32),
    v6("wildcard", "all addresses of the host", 0, 128),
    v4("", "a reserved address", [0, 0, 0, 0], 8),
    v6("", "an address of a Teredo tunnel", 0x2001 << 112, 32),
    v4("metadata", METADATA, [169, 254, 169, 254], 32),
    v4("metadata", METADATA, [169, 254, 170, 2], 32),
    v4("metadata", METADATA, [169, 254, 170, 23], 32),
    v4("metadata", METADATA, [168, 63, 129, 16], 32),
    v4("metadata", METADATA, [100, 100, 100, 200], 32),
    v4("metadata", METADATA, [192, 0, 0, 192], 32),
    v6("metadata", METADATA, 0xfd00_0ec2_0000_0000_0000_0000_0000_0254, 128),
    v6("metadata", METADATA, 0xfd00_0ec2_0000_0000_0000_0000_0000_0023, 128),
    v6("metadata", METADATA, 0xfd20_00ce_0000_0000_0000_0000_0000_0254, 128),
];

/// The words for special addresses.
pub const WORDS: [&str; 6] = ["loopback", "link-local", "multicast", "broadcast", "wildcard", "metadata"];

/// The special networks that an address lies in.
pub fn special(ip: IpAddr) -> impl Iterator<Item = &'static Special> {
    SPECIAL.iter().filter(move |special| special.network.contains(&ip))
}

/// The address itself, IPv4 where it is a mapped one, and then every IPv4 address that is embedded in it.
pub fn forms(ip: IpAddr) -> Vec<IpAddr> {
    let outer = ip.to_canonical();
    let mut forms = vec![outer];
    if let IpAddr::V6(v6) = outer {
        let embedded = embedded(v6).into_iter().flatten().map(IpAddr::V4);
        forms.extend(embedded);
    }
    forms
}

/// What a destination leads to: as [`forms`], but an address that stands for the host itself is its loopback address. ip(7); F14.
pub fn destinations(ip: IpAddr) -> Vec<IpAddr> {
    let forms = forms(ip).into_iter().flat_map(|form| match form {
        IpAddr::V4(v4) if v4.is_unspecified() => vec![Ipv4Addr::LOCALHOST.into()],
        IpAddr::V4(v4) if v4.octets()[0] == 0 => vec![form, Ipv4Addr::LOCALHOST.into()],
        IpAddr::V6(v6) if v6.is_unspecified() => vec![Ipv6Addr::LOCALHOST.into()],
        other => vec![other],
    });
    forms.collect()
}

/// The IPv4 addresses that translators and tunnels may find in an IPv6 address.
fn embedded(ip: Ipv6Addr) -> [Option<Ipv4Addr>; 6] {
    let bits = ip.to_bits();
    #[allow(clippy::cast_possible_truncation, reason = "these 32 bits are the address")]
    let at = |shift: u32| Some(Ipv4Addr::from_bits((bits >> shift) as u32));
    let low = at(0);
    let mut found = [None; 6];
    match ip.segments() {
        // `::` and `::1` are no IPv4-compatible addresses. RFC 4291, 2.5.5.1.
        [0, 0, 0, 0, 0, 0, ..] => found[0] = low.filter(|_| bits > 1),
        // IPv4-translated. RFC 2765.
        [0, 0, 0, 0, 0xffff, 0, ..] => found[0] = low,
        // NAT64. RFC 6052; RFC 8215 leaves it to the network how long the prefix is.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => found[0] = low,
        [0x64, 0xff9b, 1, ..] => {
            found[..4].copy_from_slice(&[low, around(bits, 48), around(bits, 56), around(bits, 64)])
        }
        // 6to4. RFC 3056.
        [0x2002, ..] => found[0] = at(80),
        // Teredo: the server, and the client inverted. RFC 4380.
        [0x2001, 0, ..] => {
            found[..2].copy_from_slice(&[at(64), low.map(|client| Ipv4Addr::from_bits(!client.to_bits()))])
        }
        _ => {}
    }
    // ISATAP. RFC 5214.
    if matches!(ip.segments(), [_, _, _, _, 0 | 0x200, 0x5efe, ..]) {
        found[4] = low;
    }
    found
}

/// The IPv4 address behind a prefix of so many bits, which is cut in two by the bits 64 to 71. RFC 6052, 2.2.
fn around(bits: u128, prefix: u32) -> Option<Ipv4Addr> {
    // The upper half as it is, and what stands behind that octet right after it.
    let joined = (bits >> 64 << 64) | (bits << 72 >> 64);
    #[allow(clippy::cast_possible_truncation, reason = "these 32 bits are the address")]
    let address = (joined >> (128 - prefix - 32)) as u32;
    Some(Ipv4Addr::from_bits(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(ips: Vec<IpAddr>) -> Vec<String> {
        ips.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn embedded_addresses_are_found() {
        for (text, inner) in [
            ("::169.254.169.254", "169.254.169.254"),
            ("64:ff9b::169.254.169.254", "169.254.169.254"),
            ("64:ff9b:1::169.254.169.254", "169.254.169.254"),
            ("64:ff9b:1:a9fe:a9:fe00::", "169.254.169.254"),
            ("64:ff9b:1:aaa9:fe:a9fe::", "169.254.169.254"),
            ("64:ff9b:1:aaaa:a9:fea9:fe00:0", "169.254.169.254"),
            ("::ffff:0:10.0.0.1", "10.0.0.1"),
            ("2002:a00:1::", "10.0.0.1"),
            ("2001:0:a00:1::1", "10.0.0.1"),
            ("2001:0:1:2:3:4:f5ff:fffe", "10.0.0.1"),
            ("fe80::5efe:10.0.0.1", "10.0.0.1"),
            ("2001:db8::200:5efe:10.0.0.1", "10.0.0.1"),
        ] {
            let found = texts(forms(text.parse().unwrap()));
            assert!(found.contains(&inner.to_owned()), "{text}: {found:?}");
        }
        assert_eq!(texts(forms("::ffff:10.0.0.1".parse().unwrap())), ["10.0.0.1"]);
        for plain in ["::1", "::", "2001:db8::1", "10.0.0.1", "fd00::1"] {
            assert_eq!(texts(forms(plain.parse().unwrap())), [plain]);
        }
    }

    #[test]
    fn the_host_itself_is_its_loopback_address() {
        for (text, leads_to) in [
            ("0.0.0.0", &["127.0.0.1"][..]),
            ("::ffff:0.0.0.0", &["127.0.0.1"]),
            ("::", &["::1"]),
            ("0.1.2.3", &["0.1.2.3", "127.0.0.1"]),
            ("10.0.0.1", &["10.0.0.1"]),
        ] {
            assert_eq!(texts(destinations(text.parse().unwrap())), leads_to, "{text}");
        }
    }
}
