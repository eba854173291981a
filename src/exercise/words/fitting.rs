//! What goes with which socket. What the kernel or the agent can answer with nothing but an error is told before it is run, unless that error
//! is what the step expects.

use serde_saphyr::Spanned;

use crate::exercise::check::{SocketName, Stage};
use crate::exercise::words::Words;
use crate::model::address::Transport;
use crate::model::delivery::{DeliveryChange, DeliveryMode};
use crate::model::option::{OptionType, SocketOption};
use crate::model::yaml::span;

/// What a verb cannot be done with.
struct Unfit {
    verb: &'static str,
    transport: Transport,
    stages: &'static [Stage],
    /// What it can be done with.
    needs: &'static str,
    /// What it is answered otherwise.
    error: &'static str,
}

const fn unfit(
    verb: &'static str,
    transport: Transport,
    stages: &'static [Stage],
    needs: &'static str,
    error: &'static str,
) -> Unfit {
    Unfit { verb, transport, stages, needs, error }
}

const TCP: Transport = Transport::Tcp;
const UDP: Transport = Transport::Udp;
const IN_USE: &[Stage] = &[Stage::Listens, Stage::Connected];
const UNCONNECTED: &[Stage] = &[Stage::New, Stage::Listens];
const CONNECTION: &str = "a connection";
const FREE: &str = "one that neither listens nor is connected";

/// What tests/it/tcp_states.rs and udp_states.rs hold of the kernel.
const UNFIT: [Unfit; 11] = [
    unfit("bind", TCP, IN_USE, FREE, "EINVAL"),
    unfit("bind", UDP, &[Stage::Connected], FREE, "EINVAL"),
    unfit("listen", TCP, &[Stage::Connected], FREE, "EINVAL"),
    unfit("connect", TCP, IN_USE, FREE, "EISCONN"),
    unfit("write", TCP, UNCONNECTED, CONNECTION, "EPIPE"),
    unfit("flush", TCP, UNCONNECTED, CONNECTION, "ENOTCONN"),
    unfit("receive", TCP, UNCONNECTED, CONNECTION, "ENOTCONN"),
    unfit("transfer", TCP, UNCONNECTED, CONNECTION, "WRONG_STATE"),
    unfit("shutdown", TCP, &[Stage::New], CONNECTION, "ENOTCONN"),
    unfit("shutdown", UDP, &[Stage::New], "one that is connected", "ENOTCONN"),
    unfit("send", UDP, &[Stage::New], "`to`, or one that is connected", "EDESTADDRREQ"),
];

/// What is received of a datagram alone.
const OF_DATAGRAMS: [&str; 5] = ["truncated", "peer", "hop_limit", "traffic_class", "receive_time"];
/// What is received of a stream alone.
const OF_STREAMS: [&str; 2] = ["offset", "at_least"];

/// Facts that only a TCP socket has, and of these only a listener.
const TCP_FACTS: [&str; 7] =
    ["tcp_state", "tcp_info", "hash_received", "hash_written", "connections", "queue", "backlog"];
const LISTENER_FACTS: [&str; 3] = ["connections", "queue", "backlog"];
/// Facts that only a UDP socket has.
const UDP_FACTS: [&str; 4] = ["probes_received", "probes_lost", "probes_duplicated", "probes_reordered"];

/// Events that only a listener has.
const LISTENER_EVENTS: [&str; 5] = ["listening", "accepted", "connection_dropped", "accept_paused", "accept_failed"];
/// Events that only a connection of TCP has.
const CONNECTION_EVENTS: [&str; 13] = [
    "received",
    "urgent_received",
    "urgent_lost",
    "written",
    "write_blocked",
    "writable",
    "peer_closed",
    "peer_reset",
    "peer_gone",
    "idle_timed_out",
    "aborted",
    "attached",
    "detached",
];
/// Events that only a UDP socket has.
const UDP_EVENTS: [&str; 11] = [
    "disconnected",
    "datagram_received",
    "datagrams_dropped",
    "icmp_received",
    "sent",
    "send_timestamped",
    "group_joined",
    "group_left",
    "source_blocked",
    "source_unblocked",
    "source_filter_set",
];
/// Events that no socket has.
const SESSION_EVENTS: [&str; 7] = [
    "clock_stepped",
    "interface_changed",
    "interface_address_changed",
    "agent_draining",
    "session_reset",
    "lease_expiring",
    "lease_expired",
];

impl Words<'_, '_> {
    /// Whether the step is to fail like that.
    fn expects(&self, error: &str) -> bool {
        self.file.error.as_deref().is_some_and(|expected| expected.value == error)
    }

    /// A socket of the step's host.
    pub(super) fn used(&mut self, verb: &str, socket: &Spanned<String>) -> Option<SocketName> {
        let known = self.checker.use_socket(self.number, self.host, socket)?;
        self.stage_fits(verb, socket, &known)?;
        Some(known)
    }

    /// A socket of the step's host and of this transport.
    pub(super) fn used_of(&mut self, verb: &str, socket: &Spanned<String>, transport: Transport) -> Option<SocketName> {
        self.used_by(self.host, verb, socket, transport)
    }

    /// The same, of another host.
    pub(super) fn used_by(
        &mut self,
        host: usize,
        verb: &str,
        socket: &Spanned<String>,
        transport: Transport,
    ) -> Option<SocketName> {
        let known = self.checker.use_socket(self.number, host, socket)?;
        if known.transport != transport && !self.expects("WRONG_TRANSPORT") {
            let message = format!("{}, and `{verb}` is for {transport}", self.checker.told(&socket.value, &known));
            let help = match (verb, transport) {
                ("write", _) => "`send` is for UDP",
                ("send", _) => "`write` is for TCP",
                _ => "`error: WRONG_TRANSPORT` says that this is meant",
            };
            self.checker.wrong_with_help(span(&socket.referenced), message, help);
            return None;
        }
        self.stage_fits(verb, socket, &known)?;
        Some(known)
    }

    fn stage_fits(&mut self, verb: &str, socket: &Spanned<String>, known: &SocketName) -> Option<()> {
        let stage = self.checker.stage(known);
        let has_destination = verb == "send" && (self.file.to.is_some() || self.file.reply_to.is_some());
        let unfit = UNFIT
            .iter()
            .find(|unfit| unfit.verb == verb && unfit.transport == known.transport && unfit.stages.contains(&stage));
        let Some(unfit) = unfit.filter(|_| self.file.error.is_none() && !has_destination) else { return Some(()) };
        let message = format!("{}, and `{verb}` needs {}", self.checker.told(&socket.value, known), unfit.needs);
        let help = match stage {
            Stage::Listens if unfit.needs == CONNECTION => {
                format!("`accept: {}` gives a connection of it a name; ", socket.value)
            }
            _ => String::new(),
        };
        let help = format!("{help}`error: {}` says that this is meant", unfit.error);
        self.checker.wrong_with_help(span(&socket.referenced), message, help);
        None
    }

    /// Words of `receive` that mean nothing to this transport.
    pub(super) fn received_fits(&mut self, socket: &Spanned<String>, known: &SocketName) {
        if self.file.error.is_some() {
            return;
        }
        let transport = known.transport;
        let (others, of) = match transport {
            Transport::Tcp => (&OF_DATAGRAMS[..], "a datagram"),
            Transport::Udp => (&OF_STREAMS[..], "a stream"),
        };
        for (name, at) in self.file.present() {
            if others.contains(&name) {
                self.checker.wrong(at, format!("`{name}` is of {of}, and {transport} has none"));
            } else if name == "at_least" {
                self.checker.is_told(name, &socket.value, known, at);
            }
        }
    }

    /// A way of handing on what is received that only TCP has.
    pub(super) fn delivery_fits(&mut self, transport: Transport, delivery: &DeliveryChange) {
        if transport == Transport::Tcp || self.file.error.is_some() {
            return;
        }
        let told = [
            (self.file.delivery.as_deref().filter(|_| delivery.mode == Some(DeliveryMode::Transfer)), "transfer"),
            (self.file.hash.as_deref().filter(|_| delivery.hash == Some(true)), "hash"),
        ];
        for (at, word) in told {
            if let Some(at) = at {
                self.checker.wrong(span(&at.referenced), format!("`{word}` is of a stream, and {transport} has none"));
            }
        }
    }

    /// Options that the other transport has.
    pub(super) fn options_fit(&mut self, transport: Transport, options: &[SocketOption]) {
        for SocketOption { spec, .. } in options {
            let other = match transport {
                Transport::Tcp => spec.kind == OptionType::Timestamping,
                // Some of the others that are of use to TCP alone are set all the same.
                Transport::Udp => spec.name.starts_with("TCP_"),
            };
            let typed = self.file.options.iter().flat_map(|options| &options.value.0);
            let at = typed.map(|(name, _)| name).find(|name| name.value == spec.name);
            if let Some(at) = at.filter(|_| other && self.file.error.is_none()) {
                let message = format!("{} is no option of {transport}", spec.name);
                self.checker.wrong(span(&at.referenced), message);
            }
        }
    }

    /// Facts that such a socket does not have.
    pub(super) fn facts_fit(&mut self, socket: &Spanned<String>, known: &SocketName) {
        let connected = self.checker.stage(known) == Stage::Connected;
        for (name, at) in self.file.present() {
            let other = match known.transport {
                Transport::Udp => TCP_FACTS.contains(&name),
                Transport::Tcp => UDP_FACTS.contains(&name) || (connected && LISTENER_FACTS.contains(&name)),
            };
            if other {
                let message = format!("{}: it has no `{name}`", self.checker.told(&socket.value, known));
                self.checker.wrong(at, message);
            } else {
                self.checker.is_told(name, &socket.value, known, at);
            }
        }
    }

    /// An event that such a socket does not have.
    pub(super) fn event_fits(&mut self, event: &Spanned<String>, socket: &Spanned<String>, known: &SocketName) {
        let kind = event.value.as_str();
        let (listens, connects) = (LISTENER_EVENTS.contains(&kind), CONNECTION_EVENTS.contains(&kind));
        let other = match (known.transport, self.checker.stage(known)) {
            (Transport::Udp, _) => listens || connects || kind == "tcp_state_changed",
            (Transport::Tcp, Stage::Listens) => connects || UDP_EVENTS.contains(&kind),
            (Transport::Tcp, Stage::Connected) => listens || UDP_EVENTS.contains(&kind),
            (Transport::Tcp, _) => UDP_EVENTS.contains(&kind),
        };
        let message = if SESSION_EVENTS.contains(&kind) {
            format!("`{kind}` happens to a session, and not to a socket")
        } else if other {
            format!("{}: `{kind}` does not happen to it", self.checker.told(&socket.value, known))
        } else {
            return self.checker.is_told(kind, &socket.value, known, span(&event.referenced));
        };
        self.checker.wrong(span(&event.referenced), message);
    }
}
