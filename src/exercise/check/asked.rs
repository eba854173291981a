//! What an agent tells only of sockets that were made so.

use std::ops::Range;

use crate::exercise::check::Checker;
use crate::exercise::check::names::SocketName;
use crate::exercise::plan::SocketPlan;
use crate::model::delivery::{DeliveryChange, DeliveryMode};
use crate::model::option::{OptionValue, SocketOption};

/// What the agent of a socket was asked to tell of it by some step so far.
#[derive(Debug, Clone, Default)]
pub(in crate::exercise) struct Asked {
    hash: bool,
    verify: bool,
    probes: bool,
    states: bool,
    idle: bool,
    /// ICMP messages.
    icmp: bool,
    /// The times when datagrams leave.
    times: bool,
    /// What is received stands in events.
    payloads: bool,
    pulled: bool,
}

/// What is told, whether it was asked for, and the word that asks.
type Switch = (&'static [&'static str], fn(&Asked) -> bool, &'static str);

const SWITCHES: [Switch; 9] = [
    (&["hash_received", "hash_written"], |asked| asked.hash, "hash: true"),
    (&["verified", "wrong_bytes", "wrong_datagrams", "pattern_broken"], |asked| asked.verify, "verify: true"),
    (
        &["probes_received", "probes_lost", "probes_duplicated", "probes_reordered"],
        |asked| asked.probes,
        "probes: true",
    ),
    (&["tcp_state_changed"], |asked| asked.states, "tcp_state_events: true"),
    (&["idle_timed_out"], |asked| asked.idle, "idle_timeout: TIME"),
    (&["icmp_received"], |asked| asked.icmp, "options: { IP_RECVERR: on }"),
    (&["send_timestamped"], |asked| asked.times, "options: { SO_TIMESTAMPING: 'software, tx_software' }"),
    (&["received", "datagram_received"], |asked| asked.payloads, "delivery: events"),
    (&["at_least"], |asked| asked.pulled, "delivery: pull"),
];

impl Asked {
    /// What a new socket is asked.
    pub(in crate::exercise) fn of(plan: &SocketPlan) -> Self {
        let mut asked = Self {
            verify: plan.verify.is_some(),
            probes: plan.probes,
            states: plan.tell_states,
            idle: !plan.idle_timeout.is_zero(),
            ..Self::default()
        };
        asked.add(plan.delivery, &plan.options);
        asked.payloads |= plan.delivery.mode.is_none();
        asked
    }

    /// What it is asked beside that. What was told before stays told.
    pub(in crate::exercise) fn add(&mut self, delivery: DeliveryChange, options: &[SocketOption]) {
        self.hash |= delivery.hash == Some(true);
        self.payloads |= delivery.mode == Some(DeliveryMode::Events);
        self.pulled |= delivery.mode == Some(DeliveryMode::Pull);
        for SocketOption { spec, value } in options {
            self.icmp |= spec.name.ends_with("_RECVERR") && *value == OptionValue::Enabled(true);
            self.times |= spec.name == "SO_TIMESTAMPING" && *value != OptionValue::Text("".into());
        }
    }
}

impl Checker<'_> {
    /// Whether the agent tells this of a socket: a fact, an event, or what is received.
    pub(in crate::exercise) fn is_told(&mut self, what: &str, name: &str, socket: &SocketName, at: Range<usize>) {
        let switch = SWITCHES.iter().find(|(told, ..)| told.contains(&what));
        let Some((_, is_asked, word)) = switch.filter(|_| self.is_known(socket)) else { return };
        if is_asked(&socket.asked) {
            return;
        }
        let message = format!("`{name}` has no `{what}`: that needs `{word}`");
        let help = format!("the step that makes it, or its listener, says so: it was made at {}", self.made(socket));
        self.wrong_with_help(at, message, help);
    }
}
