//! What agents within the process of the controller cannot hold: they are one host. Each has a loopback address of IPv4 of its own, `::1` they
//! have together, and no other addresses.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use crate::exercise::inventory::{Mode, Player};
use crate::exercise::plan::{Plan, Role, Step, Verb};
use crate::exercise::template::Template;
use crate::model::address::{AddressText, Family, Host, Port, Transport};
use crate::model::mistake::Mistake;
use crate::model::option::{OptionValue, SocketOption};

/// What modes can hold.
const OTHER_MODES: &str =
    "run it with --netns, which makes a host of each role, or on the machines of a lab by --inventory FILE";

/// The plan, if those who play it can hold it.
pub(super) fn held(plan: Plan, mode: Mode) -> Result<Plan, Vec<Mistake>> {
    let mistakes = if mode == Mode::Machines { check(&plan) } else { Vec::new() };
    if mistakes.is_empty() { Ok(plan) } else { Err(mistakes) }
}

fn check(plan: &Plan) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let mut ports: Vec<Claim<'_>> = Vec::new();
    let mut specs: HashMap<&str, Sharing> = HashMap::new();
    for step in plan.steps.iter().filter(|step| plan.hosts[step.host].player == Player::Embedded) {
        if let Verb::Create(socket) = &step.verb {
            specs.insert(&socket.name, Sharing::of(socket.transport, socket.family, &socket.options));
        }
        match &step.verb {
            Verb::Close { socket, .. } | Verb::Abort { socket } => ports.retain(|claim| claim.socket != socket),
            Verb::Set { socket, options, .. } => {
                if let Some(sharing) = specs.get_mut(socket.as_str()) {
                    sharing.add(options);
                }
            }
            _ => {}
        }
        let Some((socket, address)) = local(&step.verb) else { continue };
        let Some(sharing) = specs.get(socket) else { continue };
        // What is expected to fail may ask for anything.
        let Some(address) = parsed(address).filter(|_| step.error.is_none()) else { continue };
        if let Host::Ip(ip, _) = address.host
            && !is_held(ip)
            && !sharing.anywhere
        {
            let message = format!("{ip} is no address of an embedded agent: those have loopback's");
            mistakes.push(mistake(plan, step, message));
            continue;
        }
        let Some(claim) = Claim::of(step, socket, &address, sharing) else { continue };
        match ports.iter().find(|other| other.excludes(&claim)) {
            Some(other) => {
                let [first, second] = [other, &claim].map(|claim| &plan.hosts[claim.host].role);
                let (port, transport) = (claim.port, claim.transport.name());
                let message = format!(
                    "`{first}` has {transport} port {port} already, in step {}, and `{second}` cannot have it too: embedded agents are one host",
                    other.number
                );
                mistakes.push(mistake(plan, step, message));
            }
            None => ports.push(claim),
        }
    }
    mistakes
}

fn mistake(plan: &Plan, step: &Step, message: String) -> Mistake {
    Mistake::new(&plan.sources[step.source], step.verb_span.clone(), message).helped(OTHER_MODES)
}

/// The local address that a step gives a socket.
fn local(verb: &Verb) -> Option<(&str, &Template)> {
    match verb {
        Verb::Create(socket) => match (&socket.local, &socket.role) {
            (Some(local), _) | (None, Role::Listen(local)) => Some((&socket.name, local)),
            (None, Role::Idle | Role::Connect(_)) => None,
        },
        Verb::Bind { socket, to, .. } => Some((socket, to)),
        _ => None,
    }
}

/// An address that is known before the exercise runs.
fn parsed(address: &Template) -> Option<AddressText> {
    AddressText::parse_with_port(&address.literal()?).ok()
}

/// Whether a socket of an embedded agent may have this address.
const fn is_held(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || matches!(ip, IpAddr::V4(ip) if ip.is_broadcast())
}

/// With whom a socket may have its address in common. socket(7), ip(7), ipv6(7).
#[derive(Debug, Clone, Copy)]
struct Sharing {
    transport: Transport,
    family: Option<Family>,
    /// SO_REUSEPORT, or SO_REUSEADDR of datagrams.
    shared: bool,
    /// IPV6_V6ONLY.
    only_v6: bool,
    /// IP_FREEBIND, IPV6_FREEBIND: it may have addresses that the host does not have.
    anywhere: bool,
}

impl Sharing {
    fn of(transport: Transport, family: Option<Family>, options: &[SocketOption]) -> Self {
        let mut sharing = Self { transport, family, shared: false, only_v6: false, anywhere: false };
        sharing.add(options);
        sharing
    }

    fn add(&mut self, options: &[SocketOption]) {
        for SocketOption { spec, value } in options {
            let on = *value == OptionValue::Enabled(true);
            match spec.name {
                "SO_REUSEPORT" => self.shared = on,
                "SO_REUSEADDR" if self.transport == Transport::Udp => self.shared = on,
                "IPV6_V6ONLY" => self.only_v6 = on,
                "IP_FREEBIND" | "IPV6_FREEBIND" => self.anywhere |= on,
                _ => {}
            }
        }
    }
}

/// A port that a socket has, at one address or at all of them.
struct Claim<'a> {
    host: usize,
    number: usize,
    socket: &'a str,
    transport: Transport,
    port: u16,
    /// The address; absent: the host's own of IPv4.
    ip: Option<IpAddr>,
    shared: bool,
    only_v6: bool,
}

impl<'a> Claim<'a> {
    fn of(step: &Step, socket: &'a str, address: &AddressText, sharing: &Sharing) -> Option<Self> {
        let Port::Number(port) = address.port else { return None };
        let ip = match (&address.host, sharing.family) {
            (Host::Ip(ip, _), _) => Some(*ip),
            (Host::Absent, Some(Family::Ipv6)) => Some(Ipv6Addr::LOCALHOST.into()),
            (Host::Absent, _) => None,
            (Host::Name(_), _) => return None,
        };
        let Sharing { transport, shared, only_v6, .. } = *sharing;
        (port > 0).then_some(Self {
            host: step.host,
            number: step.number,
            socket,
            transport,
            port,
            ip,
            shared,
            only_v6,
        })
    }

    /// Whether another host cannot have its port as long as this one has it.
    fn excludes(&self, other: &Self) -> bool {
        let same_port = (self.transport, self.port) == (other.transport, other.port);
        let shared = self.shared && other.shared;
        self.host != other.host && same_port && !shared && (self.holds(other) || other.holds(self))
    }

    /// Whether the other's address is this one, or one of these.
    fn holds(&self, other: &Self) -> bool {
        match self.ip {
            // A dual-stack socket has those of IPv4, too.
            Some(IpAddr::V6(ip)) if ip.is_unspecified() => !self.only_v6 || matches!(other.ip, Some(IpAddr::V6(_))),
            Some(IpAddr::V4(ip)) if ip.is_unspecified() => !matches!(other.ip, Some(IpAddr::V6(_))),
            Some(ip) => other.ip == Some(ip),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::exercise::check::{Given, check};
    use crate::exercise::inventory::{Casting, Mode};
    use crate::model::mistake::Source;

    /// What is wrong with these steps, where two hosts are of that mode.
    fn wrong(mode: Mode, steps: &[&str]) -> Vec<String> {
        let steps: String = steps.iter().map(|step| format!("  - {{ {step} }}\n")).collect();
        let text = format!("exercise: X\nhosts: {{ a: , b: }}\nsteps:\n{steps}");
        let casting = Casting { mode, ..Casting::default() };
        let checked = check(&Source { name: "x.yaml".to_owned(), text }, Given { casting, ..Given::default() });
        checked.err().unwrap_or_default().into_iter().map(|mistake| mistake.message).collect()
    }

    /// Two listeners with ports, and whether embedded agents hold both.
    #[test]
    fn a_port_that_two_hosts_need_is_refused_where_they_share_its_address() {
        let listen =
            |host: &str, address: &str, more: &str| format!("on: {host}, listen: '{address}', as: {host}-door{more}");
        let v6_only = ", options: { IPV6_V6ONLY: true }";
        for (one, other, more, held) in [
            (":80", ":80", "", true),
            (":80", ":80", ", family: ipv6", false),
            ("[::1]:80", "[::1]:80", "", false),
            ("[::1]:80", "[::1]:81", "", true),
            ("[::1]:0", "[::1]:0", "", true),
            ("[::]:80", ":80", "", false),
            ("[::]:80", ":80", v6_only, true),
            ("0.0.0.0:80", ":80", "", false),
            ("0.0.0.0:80", "[::1]:80", "", true),
            ("127.0.0.1:80", "127.0.0.1:80", "", false),
            ("127.0.0.1:80", "127.0.0.1:80", ", options: { SO_REUSEPORT: true }", true),
        ] {
            let steps = [
                listen("a", one, more),
                listen("b", other, if more == v6_only { "" } else { more }),
                "on: a, close: a-door".to_owned(),
                "on: b, close: b-door".to_owned(),
            ];
            let steps = steps.each_ref().map(String::as_str);
            let told = wrong(Mode::Machines, &steps);
            assert_eq!(told.is_empty(), held, "{one} {other} {more}: {told:?}");
            if !held {
                let port =
                    "has tcp port 80 already, in step 1, and `b` cannot have it too: embedded agents are one host";
                assert_eq!(told, [format!("`a` {port}")]);
            }
            assert_eq!(wrong(Mode::Namespaces, &steps), [""; 0]);
            assert_eq!(wrong(Mode::Unknown, &steps), [""; 0]);
        }
    }

    #[test]
    fn a_port_that_is_free_again_is_held_and_so_is_a_bind_that_should_fail() {
        let a = "on: a, listen: '[::1]:80', as: first";
        let (b, close) = ("on: b, listen: '[::1]:80', as: second", "on: b, close: second");
        assert_eq!(wrong(Mode::Machines, &[a, "on: a, close: first", b, close]), [""; 0]);
        let fails = "on: b, listen: '[::1]:80', as: second, error: EADDRINUSE";
        assert_eq!(wrong(Mode::Machines, &[a, fails, "on: a, close: first", close]), [""; 0]);
        assert_eq!(wrong(Mode::Machines, &[a, b, close, "on: a, close: first"]).len(), 1);
    }

    #[test]
    fn addresses_that_only_a_host_of_its_own_has_are_refused() {
        let udp = |more: &str| format!("on: a, create: udp, as: u, local: {more}");
        for (more, told) in [
            ("'10.0.1.1:0'", &["10.0.1.1 is no address of an embedded agent: those have loopback's"][..]),
            ("'[fd00::1]:0'", &["fd00::1 is no address of an embedded agent: those have loopback's"]),
            ("'10.0.1.1:0', error: EADDRNOTAVAIL", &[]),
            ("'10.0.1.1:0', options: { IP_FREEBIND: true }", &[]),
            ("'127.0.0.9:0'", &[]),
            ("'239.1.2.3:0'", &[]),
            ("'[::]:0'", &[]),
        ] {
            let steps = [&*udp(more), "on: a, close: u"];
            assert_eq!(wrong(Mode::Machines, &steps), told, "{more}");
            assert_eq!(wrong(Mode::Namespaces, &steps), [""; 0], "{more}");
        }
    }
}
