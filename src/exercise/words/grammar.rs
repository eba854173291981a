//! Which fields go with which verb, and which words fit which field. The check and the schema read the same tables.

use crate::model::address::{Family, Transport};
use crate::model::delivery::DeliveryMode;
use crate::model::errno::{Errno, LookupErrno};
use crate::model::operation::ShutdownHow;
use crate::model::refusal::Refusal;
use crate::model::socket::{AcceptPolicy, Direction, HalfOpenPolicy};
use crate::model::source_filter::FilterMode;

/// What goes with every step.
pub(in crate::exercise) const ALWAYS: [&str; 4] = ["on", "within", "error", "note"];

/// A verb, and all that may go with it in one form or another.
pub(in crate::exercise) struct VerbWords {
    pub(in crate::exercise) verb: &'static str,
    pub(in crate::exercise) takes: &'static [&'static [&'static str]],
}

/// The verbs, in the order of a socket's life.
pub(in crate::exercise) const VERBS: [VerbWords; 24] = [
    verb("create", &[&TCP_SOCKET, &LISTENER, &UDP_SOCKET]),
    verb("bind", &[&BIND, &BIND_RETRY]),
    verb("listen", &[&TCP_SOCKET, &LISTENER]),
    verb("accept", &[&ACCEPT]),
    verb("connect", &[&TCP_SOCKET, &BIND, &ATTEMPTS]),
    verb("write", &[&WRITTEN]),
    verb("send", &[&SENT]),
    verb("receive", &[&RECEIVED, &QUIET]),
    verb("transfer", &[&TRANSFERRED]),
    verb("shutdown", &[&["how"]]),
    verb("close", &[&["linger"]]),
    verb("abort", &[]),
    verb("set", &[&SETTINGS]),
    verb("join", &[&GROUP]),
    verb("leave", &[&GROUP]),
    verb("block", &[&GROUP]),
    verb("unblock", &[&GROUP]),
    verb("filter", &[&FILTER]),
    verb("flush", &[]),
    verb("disconnect", &[]),
    verb("resolve", &[&FOUND]),
    verb("parse", &[&["is"]]),
    verb("expect", &[&FACTS, &EVENT, &QUIET]),
    verb("order", &[]),
];

/// What steers a file, and what goes with it.
pub(in crate::exercise) const FLOW: [VerbWords; 4] = [
    verb("foreach", &[&["r#as", "steps"]]),
    verb("include", &[&["with"]]),
    verb("parallel", &[]),
    verb("together", &[]),
];

const fn verb(verb: &'static str, takes: &'static [&'static [&'static str]]) -> VerbWords {
    VerbWords { verb, takes }
}

/// Whether a field says what a step does: a verb, or a word that steers the file.
pub(in crate::exercise) fn says_what(name: &str) -> bool {
    is_verb(name) || is_flow(name)
}

/// Whether a field steers the file.
pub(in crate::exercise) fn is_flow(name: &str) -> bool {
    FLOW.iter().any(|known| known.verb == name)
}

/// Whether a field is a verb.
pub(in crate::exercise) fn is_verb(name: &str) -> bool {
    VERBS.iter().any(|known| known.verb == name)
}

/// The verbs as text.
pub(in crate::exercise) fn verbs() -> String {
    VERBS.iter().chain(&FLOW).map(|known| known.verb).collect::<Vec<_>>().join(", ")
}

/// What goes with every verb that makes a TCP socket.
pub(super) const TCP_SOCKET: [&str; 31] = [
    "r#as",
    "local",
    "bind_retry",
    "bind_retry_interval",
    "family",
    "labels",
    "deny",
    "allow",
    "backlog",
    "max_connections",
    "half_open",
    "accepting",
    "direction",
    "delivery",
    "paused",
    "read_size",
    "credit",
    "read_interval",
    "hash",
    "verify",
    "pattern",
    "seed",
    "pattern_start",
    "write_high_watermark",
    "write_low_watermark",
    "close_on_write_timeout",
    "idle_timeout",
    "read_delay",
    "close_delay",
    "tcp_state_events",
    "options",
];
/// What goes with a listener beside that.
pub(super) const LISTENER: [&str; 2] = ["max_accepts", "accept_delay"];
/// What goes with an address that a socket gets.
pub(super) const BIND: [&str; 1] = ["to"];
/// How an address that somebody else has is waited for.
pub(super) const BIND_RETRY: [&str; 2] = ["bind_retry", "bind_retry_interval"];
/// What goes with a connection that is waited for.
pub(super) const ACCEPT: [&str; 2] = ["r#as", "peer"];
/// What goes with a connect.
pub(super) const ATTEMPTS: [&str; 4] = ["attempt_timeout", "attempt_delay", "retry", "retry_interval"];
/// What goes with a UDP socket that is made.
pub(super) const UDP_SOCKET: [&str; 22] = [
    "probes",
    "r#as",
    "local",
    "bind_retry",
    "bind_retry_interval",
    "family",
    "labels",
    "to",
    "direction",
    "delivery",
    "paused",
    "read_size",
    "credit",
    "read_interval",
    "verify",
    "pattern",
    "seed",
    "pattern_start",
    "options",
    "group",
    "interface",
    "source",
];
/// What can be changed of a socket.
pub(super) const SETTINGS: [&str; 7] =
    ["delivery", "paused", "read_size", "credit", "read_interval", "hash", "options"];
/// What names a membership of a multicast group.
pub(super) const GROUP: [&str; 3] = ["group", "interface", "source"];
/// What tells the sources of a multicast group.
pub(super) const FILTER: [&str; 4] = ["group", "interface", "mode", "sources"];
/// What goes with bytes that are written.
pub(super) const WRITTEN: [&str; 13] = [
    "text",
    "encoding",
    "crlf",
    "hex",
    "pattern",
    "seed",
    "pattern_start",
    "urgent",
    "more",
    "expected_offset",
    "slice_size",
    "slice_interval",
    "written",
];
/// What goes with bytes that go through a stream.
pub(super) const TRANSFERRED: [&str; 9] =
    ["to", "text", "encoding", "crlf", "hex", "pattern", "seed", "pattern_start", "end"];
/// What goes with a datagram that is sent.
pub(super) const SENT: [&str; 16] = [
    "probes",
    "template",
    "text",
    "encoding",
    "crlf",
    "hex",
    "pattern",
    "seed",
    "pattern_start",
    "to",
    "reply_to",
    "source",
    "hop_limit",
    "traffic_class",
    "count",
    "interval",
];
/// What can be expected of what is received.
pub(super) const RECEIVED: [&str; 21] = [
    "text",
    "encoding",
    "crlf",
    "hex",
    "pattern",
    "seed",
    "pattern_start",
    "matches",
    "sha256",
    "size",
    "offset",
    "end",
    "truncated",
    "peer",
    "hop_limit",
    "traffic_class",
    "receive_time",
    "at_least",
    "at_most",
    "count",
    "r#as",
];
/// What is expected of silence.
pub(super) const QUIET: [&str; 1] = ["quiet"];
/// What can be expected of an event.
pub(super) const EVENT: [&str; 17] = [
    "event",
    "text",
    "encoding",
    "crlf",
    "hex",
    "pattern",
    "seed",
    "pattern_start",
    "matches",
    "sha256",
    "size",
    "offset",
    "peer",
    "reason",
    "options",
    "count",
    "quiet",
];
/// What can be expected of a socket.
pub(super) const FACTS: [&str; 29] = [
    "state",
    "tcp_state",
    "tcp_info",
    "memory",
    "connections",
    "queue",
    "bytes_read",
    "bytes_written",
    "receive_queue",
    "send_queue",
    "pending_write_bytes",
    "datagrams_dropped",
    "hash_received",
    "hash_written",
    "verified",
    "wrong_bytes",
    "wrong_datagrams",
    "probes_received",
    "probes_lost",
    "probes_duplicated",
    "probes_reordered",
    "readable",
    "writable",
    "self_connected",
    "local",
    "peer",
    "labels",
    "backlog",
    "options",
];
/// What can be found by a question.
pub(super) const FOUND: [&str; 3] = ["port", "service", "address"];

// === Words that fit fields ===

pub(in crate::exercise) const TRANSPORTS: [(&str, Transport); 2] = [("tcp", Transport::Tcp), ("udp", Transport::Udp)];
pub(in crate::exercise) const FAMILIES: [(&str, Family); 2] = [("ipv4", Family::Ipv4), ("ipv6", Family::Ipv6)];
pub(in crate::exercise) const ADDRESS_KINDS: [(&str, Option<Family>); 3] =
    [("ipv4", Some(Family::Ipv4)), ("ipv6", Some(Family::Ipv6)), ("none", None)];
pub(in crate::exercise) const ACCEPTING: [(&str, AcceptPolicy); 2] =
    [("auto", AcceptPolicy::Auto), ("manual", AcceptPolicy::Manual)];
pub(in crate::exercise) const HALF_OPEN: [(&str, HalfOpenPolicy); 2] =
    [("allow", HalfOpenPolicy::Allow), ("auto_end", HalfOpenPolicy::AutoEnd)];
pub(in crate::exercise) const DIRECTIONS: [(&str, Direction); 3] =
    [("both", Direction::Both), ("receive_only", Direction::ReceiveOnly), ("send_only", Direction::SendOnly)];
pub(in crate::exercise) const DELIVERIES: [(&str, DeliveryMode); 4] = [
    ("events", DeliveryMode::Events),
    ("pull", DeliveryMode::Pull),
    ("transfer", DeliveryMode::Transfer),
    ("count", DeliveryMode::Count),
];
pub(in crate::exercise) const HOW: [(&str, ShutdownHow); 3] =
    [("send", ShutdownHow::Send), ("receive", ShutdownHow::Receive), ("both", ShutdownHow::Both)];
pub(in crate::exercise) const FILTER_MODES: [(&str, FilterMode); 2] =
    [("include", FilterMode::Include), ("exclude", FilterMode::Exclude)];

/// Whether there is an error of this name.
pub(in crate::exercise) fn is_error_name(name: &str) -> bool {
    error_names().any(|known| known == name)
}

/// The names of all errors that a step can expect: of the kernel, of the resolver, of the agent, and of silence.
pub(in crate::exercise) fn error_names() -> impl Iterator<Item = &'static str> + Clone {
    let kernel = Errno::ALL.iter().map(|errno| errno.name());
    let resolver = LookupErrno::ALL.iter().map(|errno| errno.name());
    kernel.chain(resolver).chain(Refusal::SOCKET_REASONS).chain(std::iter::once("timeout"))
}
