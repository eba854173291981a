//! Addresses in all their spellings, against an oracle that knows what each of them means because it has written it, and that searches lists
//! of ranges where the policy thinks in networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use farsock::model::address::{AddressText, Host, Port, Transport, socket_addr};
use farsock::model::id::Principal;
use farsock::model::mistake::Source;
use farsock::model::policy::permit::Ruling;
use farsock::model::policy::{AddressUse, Place, Policy, Use};

use crate::harness::long;
use crate::simulator::chance::Chance;

const USES: [Use; 5] = [Use::Connect, Use::Send, Use::Bind, Use::Listen, Use::Accept];
/// Where the agent of the test is controlled.
const CONTROL: &str = "10.9.9.9:7625";
/// Addresses of its host.
const OWN: [&str; 2] = ["10.9.9.9", "192.168.7.1"];

/// A range of addresses: IPv4 stands apart from IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    ipv4: bool,
    first: u128,
    last: u128,
}

impl Range {
    fn of(text: &str) -> Self {
        let (ip, bits) = text.split_once('/').map_or((text, None), |(ip, bits)| (ip, Some(bits)));
        let ip: IpAddr = ip.parse().unwrap();
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let free = most - bits.map_or(most, |bits| bits.parse::<u32>().unwrap());
        let (ipv4, first) = number(ip);
        Self { ipv4, first, last: first | 1_u128.checked_shl(free).map_or(u128::MAX, |size| size - 1) }
    }

    fn has(self, (ipv4, ip): (bool, u128)) -> bool {
        self.ipv4 == ipv4 && (self.first..=self.last).contains(&ip)
    }
}

fn number(ip: IpAddr) -> (bool, u128) {
    match ip {
        IpAddr::V4(v4) => (true, v4.to_bits().into()),
        IpAddr::V6(v6) => (false, v6.to_bits()),
    }
}

/// What has to be named to be allowed. RFC 6890, and the clouds' own pages.
const SPECIAL: &[&str] = &[
    "127.0.0.0/8",
    "::1",
    "169.254.0.0/16",
    "fe80::/10",
    "224.0.0.0/4",
    "ff00::/8",
    "255.255.255.255",
    "240.0.0.0/4",
    "0.0.0.0",
    "::",
    "0.0.0.0/8",
    "2001::/32",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
];

/// What rules speak of.
const NETWORKS: &[&str] = &[
    "10.0.0.0/8",
    "10.0.0.0/24",
    "10.0.0.254",
    "0.0.0.0/0",
    "::/0",
    "127.0.0.0/8",
    "127.0.0.1",
    "::1",
    "169.254.0.0/16",
    "169.254.169.254",
    "224.0.0.0/4",
    "0.0.0.0",
    "::",
    "fd00::/8",
    "64:ff9b::/96",
    "2002::/16",
    "192.168.0.0/16",
    "2001::/32",
];

/// What addresses are made of, beside any at all.
const SEEDS: &[&str] = &[
    "10.0.0.1",
    "10.0.0.254",
    "10.1.2.3",
    "127.0.0.1",
    "127.9.9.9",
    "0.0.0.0",
    "0.1.2.3",
    "169.254.169.254",
    "169.254.1.1",
    "168.63.129.16",
    "224.0.0.1",
    "239.1.2.3",
    "255.255.255.255",
    "250.1.1.1",
    "192.168.7.1",
    "8.8.8.8",
    "10.9.9.9",
];

#[derive(Debug)]
struct OracleRule {
    allow: bool,
    uses: Vec<Use>,
    ranges: Vec<Range>,
    ports: Option<(u16, u16)>,
    transport: Option<Transport>,
}

/// A policy, as text for the agent and as ranges for the oracle.
fn policy(chance: &mut Chance) -> (Policy, Vec<OracleRule>) {
    let mut text = "policy: Chance\nprincipals: { bob: student }\nrules:\n".to_owned();
    let mut rules = Vec::new();
    for _ in 0..chance.between(2, 8) {
        let allow = chance.percent(75);
        let uses: Vec<Use> = USES.into_iter().filter(|_| chance.percent(65)).collect();
        let names: Vec<&str> = (0..chance.between(1, 5)).map(|_| chance.pick(NETWORKS)).collect();
        let ports = chance.percent(25).then(|| chance.pick(&[(80, 80), (0, 0), (7625, 7625), (1, 2000)]));
        let transport = chance.percent(20).then(|| chance.pick(&[Transport::Tcp, Transport::Udp]));
        if uses.is_empty() {
            continue;
        }
        let words: Vec<&str> = uses.iter().map(|one| one.word()).collect();
        let quoted: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
        let verb = if allow { "allow" } else { "deny" };
        text.push_str(&format!("  - {{ {verb}: [{}], addresses: [{}]", words.join(", "), quoted.join(", ")));
        if let Some((low, high)) = ports {
            text.push_str(&format!(", ports: '{low}-{high}'"));
        }
        if let Some(transport) = transport {
            text.push_str(&format!(", transport: {}", transport.name()));
        }
        text.push_str(" }\n");
        rules.push(OracleRule { allow, uses, ranges: names.into_iter().map(Range::of).collect(), ports, transport });
    }
    let source = Source { name: "chance.yaml".to_owned(), text: text.clone() };
    let policy = Policy::read(&source).unwrap_or_else(|mistakes| panic!("{mistakes:?}\n{text}"));
    (policy, rules)
}

/// One spelling: the text, and the addresses that it stands for.
fn spelling(chance: &mut Chance) -> (String, Vec<IpAddr>) {
    let inner: Ipv4Addr = match chance.percent(70) {
        true => chance.pick(SEEDS).parse().unwrap(),
        false => Ipv4Addr::from_bits(u32::try_from(chance.below(1 << 32)).unwrap()),
    };
    let bits = u128::from(inner.to_bits());
    let low = u128::from(chance.below(1 << 32));
    let ipv4 = |bits: u128| IpAddr::from(Ipv4Addr::from_bits(u32::try_from(bits & 0xffff_ffff).unwrap()));
    // What a network may take it for, too.
    let mut others = Vec::new();
    // Each form as its RFC has it, by shifting bits.
    let outer = match chance.below(16) {
        0 | 1 => return (inner.to_string(), vec![inner.into()]),
        // Mapped: nothing but IPv4, however it is written.
        2 | 3 => return (written(chance, Ipv6Addr::from_bits(0xffff << 32 | bits)), vec![inner.into()]),
        // IPv4-compatible. Not `::` and `::1`, which are themselves.
        4 if bits > 1 => bits,
        5 => 0xffff << 48 | bits,
        6 | 7 => 0x64_ff9b << 96 | bits,
        8 => {
            // The prefix may be shorter, and then the IPv4 address stands further ahead: in the zeros, or in zeros and the first octet.
            others = vec![ipv4(0), ipv4(bits >> 24)];
            0x64_ff9b_0001 << 80 | bits
        }
        9 => 0x2002 << 112 | bits << 80 | low,
        // Teredo has two of them: the server's, and the client's with all bits turned round.
        10 => {
            others = vec![ipv4(!low)];
            0x2001 << 112 | bits << 64 | low
        }
        11 => {
            others = vec![ipv4(low)];
            0x2001 << 112 | low << 64 | (bits ^ 0xffff_ffff)
        }
        12 => 0xfd00 << 112 | 0x5efe << 32 | bits,
        13 => 0xfd00 << 112 | 0x0200_5efe << 32 | bits,
        14 => {
            let plain = chance.pick(&[
                "::",
                "::1",
                "fe80::1",
                "ff02::1",
                "fd00:ec2::254",
                "fd00:ec2::23",
                "fd00::1",
                "2001:db8::1",
            ]);
            let plain: Ipv6Addr = plain.parse().unwrap();
            return (written(chance, plain), vec![plain.into()]);
        }
        _ => {
            let plain = Ipv6Addr::from_bits(0xfd00 << 112 | low);
            return (written(chance, plain), vec![plain.into()]);
        }
    };
    let outer = Ipv6Addr::from_bits(outer);
    others.extend([IpAddr::from(outer), inner.into()]);
    (written(chance, outer), others)
}

/// An IPv6 address in one of the ways in which people and programs write it. RFC 4291, 2.2.
fn written(chance: &mut Chance, ip: Ipv6Addr) -> String {
    let groups = ip.segments();
    let long: Vec<String> = groups.iter().map(|group| format!("{group:04x}")).collect();
    let short: Vec<String> = groups.iter().map(|group| format!("{group:x}")).collect();
    let [.., a, b] = groups;
    let dotted = Ipv4Addr::from_bits(u32::from(a) << 16 | u32::from(b));
    match chance.below(5) {
        0 => ip.to_string(),
        1 => long.join(":"),
        2 => long.join(":").to_uppercase(),
        3 => format!("{}:{dotted}", short[..6].join(":")),
        _ => ip.to_string().to_uppercase(),
    }
}

/// What the rules say, thought through by hand.
fn oracle(rules: &[OracleRule], kind: Use, transport: Transport, port: u16, stands_for: &[IpAddr]) -> bool {
    let outward = matches!(kind, Use::Connect | Use::Send);
    let mut meanings: Vec<IpAddr> = Vec::new();
    for ip in stands_for {
        match ip {
            // What is sent to no address comes to this host.
            IpAddr::V4(v4) if outward && v4.to_bits() == 0 => meanings.push(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V4(v4) if outward && v4.to_bits() >> 24 == 0 => meanings.extend([*ip, Ipv4Addr::LOCALHOST.into()]),
            IpAddr::V6(v6) if outward && v6.to_bits() == 0 => meanings.push(Ipv6Addr::LOCALHOST.into()),
            _ => meanings.push(*ip),
        }
    }
    let numbers: Vec<(bool, u128)> = meanings.iter().map(|ip| number(*ip)).collect();
    let about = |rule: &&OracleRule| {
        let port_fits = match rule.ports {
            _ if kind == Use::Accept => true,
            Some((low, high)) => (low..=high).contains(&port),
            None if rule.allow && matches!(kind, Use::Bind | Use::Listen) => port == 0 || port >= 1024,
            None => true,
        };
        rule.uses.contains(&kind) && rule.transport.is_none_or(|only| only == transport) && port_fits
    };
    let fitting: Vec<&OracleRule> = rules.iter().filter(about).collect();
    if fitting.iter().any(|rule| !rule.allow && rule.ranges.iter().any(|range| numbers.iter().any(|ip| range.has(*ip))))
    {
        return false;
    }
    if transport == Transport::Tcp && kind != Use::Accept && port == 7625 {
        let own = |ip: &IpAddr| {
            ip.is_unspecified() || ip.is_loopback() || OWN.iter().any(|own| own.parse::<IpAddr>().unwrap() == *ip)
        };
        if meanings.iter().any(own) {
            return false;
        }
    }
    numbers.iter().all(|ip| {
        // A range that is special and does not hold the special one whole is too wide to name it.
        let names = |range: &Range| {
            range.has(*ip)
                && SPECIAL
                    .iter()
                    .map(|text| Range::of(text))
                    .filter(|special| special.has(*ip))
                    .all(|special| special.first <= range.first && range.last <= special.last)
        };
        fitting.iter().any(|rule| rule.allow && rule.ranges.iter().any(names))
    })
}

#[test]
fn no_spelling_of_an_address_leads_around_the_policy() {
    let (policies, spellings) = if long() { (2_000, 1_000) } else { (100, 100) };
    let mut chance = Chance::new(6);
    let bob = Principal::parse("bob").unwrap();
    let control = [CONTROL.parse().unwrap()];
    let is_local = |ip: IpAddr| OWN.iter().any(|own| own.parse::<IpAddr>().unwrap() == ip);
    let (mut allowed, mut denied) = (0, 0);
    for _ in 0..policies {
        let (policy, rules) = policy(&mut chance);
        let ruling = Ruling::new(Some(&policy), &bob, Place { control: &control, is_local: &is_local });
        for _ in 0..spellings {
            let (text, stands_for) = spelling(&mut chance);
            let port = chance.pick(&[0, 22, 80, 1023, 1024, 7625, 8080, 65535]);
            let typed = if text.contains(':') { format!("[{text}]:{port}") } else { format!("{text}:{port}") };
            let read = AddressText::parse(&typed).unwrap_or_else(|problem| panic!("{typed}: {problem:?}"));
            let (Host::Ip(ip, None), Port::Number(port)) = (&read.host, &read.port) else {
                panic!("{typed}: {read:?}")
            };
            for kind in USES {
                let transport = match kind {
                    Use::Send => Transport::Udp,
                    Use::Listen | Use::Accept => Transport::Tcp,
                    _ => chance.pick(&[Transport::Tcp, Transport::Udp]),
                };
                let what = AddressUse { kind, transport, addr: socket_addr(*ip, *port, 0), also: None };
                let got = ruling.address(&what);
                let expected = oracle(&rules, kind, transport, *port, &stands_for);
                assert_eq!(got.is_ok(), expected, "{what}, which is {stands_for:?}: {got:?}\n{rules:#?}");
                *(if expected { &mut allowed } else { &mut denied }) += 1;
            }
        }
    }
    // It has something to say on both sides.
    assert!(
        allowed > (allowed + denied) / 50 && denied > (allowed + denied) / 50,
        "{allowed} allowed, {denied} denied"
    );
}

/// Numbers that `inet_aton` takes for addresses are none here: neither in a request, nor in a policy.
#[test]
fn what_only_looks_like_an_address_is_a_name_or_nothing() {
    for text in
        ["127.1:80", "2130706433:80", "0x7f000001:80", "0177.0.0.1:80", "127.0.0.01:80", "0:80", "127.0.0.1.:80"]
    {
        if let Ok(read) = AddressText::parse(text) {
            assert!(!matches!(read.host, Host::Ip(..)), "{text}: {read:?}");
        }
    }
}
