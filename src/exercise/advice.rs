//! What a failure most often comes from, and what to do next: from what was compared, to a line for people.
//!
//! Nothing is said where nothing true can be: the failure itself tells what was wanted and what was seen. What an error of the kernel means
//! for an operation is [`SocketError::hint`](crate::model::error::SocketError::hint).

use std::net::SocketAddr;

use bytes::Bytes;

use crate::exercise::explain::entry;
use crate::exercise::outcome::Difference;
use crate::exercise::plan::{Expectation, Question, Step, Verb};
use crate::model::address::Transport;
use crate::model::event::Event;

/// SHA-256 of no bytes.
const HASH_OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// TCP keeps no borders between messages.
const STREAM: &str = "TCP keeps bytes and their order, not the borders of writes: one read may have part of a write, or several; \
                      `receive` with the bytes takes them until they are whole (`farsock explain coalescing`)";

/// What resets a connection that was to end.
pub const RESET: &str = "a RST came instead of a FIN: the other side aborted, or closed with bytes that it had not read \
                         (`farsock explain rst-on-close`)";

/// How bytes part from those that were wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parted {
    /// They are the beginning of them.
    Short,
    /// They begin with them.
    Long,
    /// Their lines end with CR LF where those of the others end with LF, or the other way round.
    LineEnds,
    /// They begin alike, and then only one of them is UTF-8.
    Encoding,
    /// Somewhere else.
    Elsewhere,
}

impl Parted {
    /// How these bytes part from the wanted ones, from which they do.
    pub fn of(wanted: &Bytes, got: &Bytes) -> Self {
        let unix = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).ok().map(|text| text.replace("\r\n", "\n"));
        let common = wanted.iter().zip(got).take_while(|(a, b)| a == b).count();
        let (wanted_text, got_text) = (unix(wanted), unix(got));
        match () {
            () if wanted_text.is_some() && wanted_text == got_text => Self::LineEnds,
            () if common == got.len() => Self::Short,
            () if common == wanted.len() => Self::Long,
            () if common > 0 && wanted_text.is_some() != got_text.is_some() => Self::Encoding,
            () => Self::Elsewhere,
        }
    }
}

/// What the difference that a step has found most often comes from; nothing where that says all.
pub fn different(step: &Step, difference: &Difference) -> String {
    let Difference { what, expected, seen, .. } = difference;
    let line = match (what.as_str(), &step.verb) {
        ("payload" | "size" | "sha256", verb) => payload(verb, difference),
        ("bytes written", _) if number(seen) < number(expected) => {
            "the rest found no room: the peer does not read, and its window is closed (`farsock explain zero-window`)"
        }
        ("peer", Verb::Accept { manual: true, .. }) => {
            "the kernel hands over the connection that has waited longest, whoever made it: accept the others first"
        }
        ("peer" | "local", _) => address(expected, seen),
        ("reason", _) if seen == "peer_reset" => RESET,
        ("offset", _) => "offsets count from the first byte of the stream: what came before, in whichever step, counts",
        ("hop_limit", _) => "each router on the way takes one off what the sender has set (IP_TTL, IPV6_UNICAST_HOPS)",
        ("traffic_class", _) => {
            "the sender sets it (IP_TOS, IPV6_TCLASS, `traffic_class` of `send`); routers may change it"
        }
        ("truncated", _) => "a datagram is cut where it is longer than the read (`farsock explain udp-truncation`)",
        ("bytes", Verb::Transfer { .. }) => {
            "what was there before the step comes out first: take it by `receive` before; else the other end has closed early"
        }
        ("the addresses", _) => {
            "the agent's host answers from /etc/hosts before DNS, most often: `getent ahosts NAME` there shows the same"
        }
        ("the port" | "the service", _) => "/etc/services of the agent's host says so",
        (_, Verb::Parse { .. }) if seen == "no IP address" => {
            "an address is a whole literal: names are looked up by `resolve`, and 127.1, 0x7f000001 and their like are refused"
        }
        ("order", Verb::Order { .. }) => {
            "no step keeps the one from coming after the other: wait for the first before the step that leads to the second"
        }
        (_, Verb::Expect { expectation, .. }) if matches!(**expectation, Expectation::Facts(_)) => {
            return fact(step, difference);
        }
        _ => "",
    };
    line.to_owned()
}

/// What bytes that are others, or too many or too few, most often come from.
fn payload(verb: &Verb, difference: &Difference) -> &'static str {
    let stream = match verb {
        Verb::Receive { transport, .. } => *transport == Transport::Tcp,
        Verb::Expect { expectation, .. } => {
            matches!(&**expectation, Expectation::Event(wanted) if wanted.kind == "received")
        }
        _ => false,
    };
    let whole = matches!(verb, Verb::Receive { wanted, .. } if wanted.at_least.is_none() && wanted.at_most.is_none());
    match (verb, difference.parted) {
        (Verb::Receive { wanted, .. }, _) if wanted.quiet.is_some() => {
            "what came before the step and nobody has taken counts, too: take it by a `receive` of its own"
        }
        (Verb::Receive { wanted, .. }, _) if wanted.end => {
            "the end stands behind all bytes: take those by a `receive` of their own first"
        }
        (_, Some(Parted::LineEnds)) => "only the ends of lines differ, LF and CR LF: `crlf: true` makes them CR LF",
        (_, Some(Parted::Encoding)) => {
            "one of them is UTF-8 and the other is not: is `encoding` the same on both sides?"
        }
        (_, None) if difference.seen == "the end of the stream" => {
            "its FIN came first: the other side has closed, or ended its sending direction, before it wrote that (`farsock explain fin`)"
        }
        (_, Some(Parted::Short)) if stream && whole => {
            "no more came in time, or the peer ended: does the step that writes the rest come before this one, or beside it?"
        }
        (_, Some(Parted::Short | Parted::Long)) if stream => STREAM,
        (Verb::Receive { wanted, .. }, _) if difference.what == "sha256" && stream && wanted.size.is_none() => {
            "this is the hash of one read: with `size`, so many bytes are taken, in however many pieces they come"
        }
        (Verb::Receive { .. }, _) if stream && whole && difference.parted.is_none() && difference.what == "payload" => {
            "it is looked for in all that came until the time was over or the peer ended"
        }
        (Verb::Receive { .. }, Some(Parted::Elsewhere)) => {
            "what an earlier step left is taken first: is there a `receive` for everything that is written?"
        }
        (_, None) if stream => STREAM,
        _ => "",
    }
}

/// What an address that is another one most often comes from.
fn address(expected: &str, seen: &str) -> &'static str {
    match (expected.parse::<SocketAddr>(), seen.parse::<SocketAddr>()) {
        (Ok(expected), Ok(seen)) if expected.ip() == seen.ip() => {
            "the same host, and another socket: who connects or sends without a bind gets a port of the kernel's choice \
             (`farsock explain ephemeral-port`)"
        }
        (Ok(_), Ok(_)) => {
            "another host, another address of the same one, or a router on the way that translates: `${NAME.local}` of the \
             socket over there is what that one believes to have"
        }
        _ => "",
    }
}

/// What a fact that is not so most often comes from.
fn fact(step: &Step, difference: &Difference) -> String {
    let Difference { what, expected, seen, .. } = difference;
    let less = number(seen) < number(expected);
    let line = match (what.as_str(), seen.as_str()) {
        ("hash_received" | "hash_written", "none") => {
            "bytes are hashed only where the socket was made with `hash: true`"
        }
        ("hash_received" | "hash_written", HASH_OF_NOTHING) => {
            "that is the SHA-256 of nothing: no byte has gone there yet"
        }
        ("hash_received" | "hash_written", _) => {
            "other bytes went there, or not so many: `bytes_read`, `bytes_written` count them"
        }
        ("tcp_state", _) => match expected.as_str() {
            "CLOSE_WAIT" => {
                "the peer's FIN has not come: does it close, or end its sending direction, before this step?"
            }
            "FIN_WAIT_1" | "FIN_WAIT_2" => {
                "this side has not sent its FIN alone: `shutdown` does (`farsock explain half-close`)"
            }
            "TIME_WAIT" => "only the side that sends its FIN first comes to it (`farsock explain time-wait`)",
            _ => "",
        },
        ("queue", "none") => "only a listener has a queue",
        ("queue", _) if less => {
            "who accepts at once leaves no queue: a listener with `accept: manual` does (`farsock explain backlog`)"
        }
        ("bytes_read", _) if less => {
            "what the agent has not read waits in the kernel, as `receive_queue`: with `delivery: pull`, while reading is \
             paused, and when its credit is used up"
        }
        ("readable", "true") => "there is something to read: bytes, the end, or an error",
        ("writable", "false") => "the kernel's buffer is full: the peer does not read (`farsock explain zero-window`)",
        ("verified", "0") => {
            "what came is not what `verify` describes: `pattern_broken` tells the first byte that is not"
        }
        ("wrong_bytes" | "wrong_datagrams", _) => {
            "the event `pattern_broken` tells the first difference; are the pattern, `seed` and `pattern_start` the sender's?"
        }
        ("probes_received", _) if less => "nothing tells a sender what was lost (`farsock explain udp-loss`)",
        ("datagrams_dropped" | "dropped", "0") => {
            "the kernel drops what comes while the receive buffer is full: is it small enough, and not read meanwhile?"
        }
        _ => "",
    };
    let looked_once = step.within.is_some_and(|within| within.is_zero()) && changes(what);
    match (line, looked_once) {
        ("", true) => "`within: 0s` looks once: a longer one waits until it is so".to_owned(),
        (line, _) => line.to_owned(),
    }
}

/// Whether a fact may become what it is not.
fn changes(fact: &str) -> bool {
    !matches!(fact, "backlog" | "local" | "peer" | "self_connected") && !fact.starts_with("label ")
}

/// The first number of a text.
fn number(text: &str) -> Option<u64> {
    let digits = text.split(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty())?;
    digits.parse().ok()
}

/// Why a step most often gets no answer.
pub fn unanswered(verb: &Verb) -> &'static str {
    match verb {
        Verb::Connect { .. } => SYN,
        Verb::Create(_) if verb.word() == "connect" => SYN,
        Verb::Accept { peer: Some(_), .. } => {
            "nobody connects from there before this step, or an earlier `accept` has that connection already"
        }
        Verb::Accept { .. } => {
            "nobody connects to this listener before this step, or an earlier `accept` has that connection already"
        }
        Verb::Receive { transport: Transport::Udp, .. } => DATAGRAM,
        Verb::Receive { wanted, .. } if wanted.at_least.is_some() => {
            "fewer bytes than `at_least` are there: do the steps that write them come before this one, or beside it?"
        }
        Verb::Receive { .. } => BYTES,
        Verb::Write { .. } | Verb::Flush { .. } => {
            "the peer does not read, and its window is closed (`farsock explain zero-window`), or the way to it is cut"
        }
        Verb::Transfer { .. } => {
            "both must be ends of one connection; else the way between them is slow: a longer `within` waits"
        }
        Verb::Resolve { question: Question::Host(_) | Question::Address(_), .. } => {
            "the DNS server of the agent's host does not answer (/etc/resolv.conf there), or not within this time"
        }
        _ => "",
    }
}

/// Nobody answers a connect.
const SYN: &str = "nothing answers the SYN: the host is off, a firewall drops, no route leads back, or the listener's queue is full \
                   (`farsock explain syn-retries backlog`)";

/// No bytes came.
const BYTES: &str = "does the step that writes it come before this one, or beside it, on the other end of this connection? Else bytes \
                     are lost on the way, and `within` may be too short for sending them again";

/// No datagram came.
const DATAGRAM: &str = "does the step that sends it come before this one, to this address? Else it was lost, or dropped by a firewall: \
                        nothing tells a sender (`farsock explain udp-loss`)";

/// Why something most often succeeds, or is not answered, where a step wants it to fail with that.
pub fn no_error(verb: &Verb, wanted: &str, timed_out: bool) -> String {
    let line = match (wanted, verb) {
        ("ECONNREFUSED", Verb::Connect { .. } | Verb::Create(_)) if timed_out => {
            "a host without a listener answers with a RST; what drops the SYN answers nothing: `error: timeout` expects that"
        }
        (_, _) if timed_out => {
            "it may still come: a longer `within` waits for it, and `error: timeout` expects that nothing does"
        }
        ("timeout", _) => "it did not have to wait: what should keep it waiting is not there, or is over",
        ("ECONNREFUSED", Verb::Connect { .. } | Verb::Create(_)) => {
            "somebody listens there: close that listener first; the kernel takes connections before anybody accepts them"
        }
        ("ECONNRESET" | "EPIPE", Verb::Write { .. } | Verb::Transfer { .. }) => {
            "a write succeeds as soon as the kernel has the bytes: the RST that answers them makes the next one fail, so wait \
             for `peer_reset` or `failed` first"
        }
        ("EMSGSIZE", Verb::Send { .. }) => {
            "the datagram was not too long: IPv4 takes 65,507 bytes, IPv6 65,527, and less only with DF set \
             (`farsock explain path-mtu`)"
        }
        _ => return explained(wanted),
    };
    line.to_owned()
}

/// Where it is told what a name means; nothing where that is nowhere.
pub fn explained(name: &str) -> String {
    // What is wrong with a field says the message, and that says the page, too.
    match entry(name).filter(|_| name != "INVALID_FIELD") {
        Some(_) => format!("`farsock explain {name}` tells when it comes"),
        None => String::new(),
    }
}

/// Why an event most often does not come; `last` is what happened to its socket last, `closed` whether there is an end to it.
pub fn missing(kind: &str, last: Option<&Event>, closed: bool) -> &'static str {
    match (kind, last) {
        ("peer_closed", Some(Event::PeerReset { .. })) => RESET,
        (_, Some(Event::PeerReset { .. })) => {
            "a RST has ended the connection, and thrown away what was under way (`farsock explain rst`)"
        }
        ("received" | "peer_closed", Some(Event::ReadPaused { .. })) => {
            "reading is paused: what comes waits in the kernel until it goes on, and the end behind it"
        }
        _ if closed => "nothing comes after `closed`: a step before this one, or the peer, ended the socket too early",
        ("accepted", _) => {
            "nobody connects to this listener before this step, or its queue is not accepted from (`accept: manual`)"
        }
        ("connected", _) => SYN,
        ("received", _) => {
            "does the step that writes it come before this one? What is paused, or kept by `delivery: pull`, is told by no `received`"
        }
        ("datagram_received", _) => DATAGRAM,
        ("peer_closed", _) => {
            "the other side has not sent its FIN: it must close, or end its sending direction; the end is read behind all bytes, \
             so who does not read does not see it (`farsock explain fin`)"
        }
        ("peer_reset", _) => {
            "the other side has not aborted: its `abort`, or its `close` with bytes unread, sends a RST (`farsock explain rst`)"
        }
        ("closed", _) => {
            "a connection is closed when both directions have ended: one side's end leaves the other's open \
             (`farsock explain half-close`)"
        }
        ("tcp_state_changed", _) => "it is told only of sockets that were made with `tcp_state_events: true`",
        ("idle_timed_out", _) => {
            "it comes after the socket's `idle_timeout` without a byte: is that shorter than `within`?"
        }
        ("write_blocked", _) => {
            "it comes when more is written than the kernel's buffer takes: write more, or let the peer not read \
             (`farsock explain zero-window`)"
        }
        ("writable", _) => "it comes only after a write had to wait: `write_blocked` comes before it",
        ("icmp_received", _) => {
            "it is told only of sockets that have IP_RECVERR or IPV6_RECVERR set (`farsock explain icmp-errors`)"
        }
        ("datagrams_dropped", _) => {
            "the kernel drops what comes while the receive buffer is full: is it small enough, and not read meanwhile?"
        }
        _ => "",
    }
}

/// Why an event most often comes less often than it should; `before` whether an earlier step has waited for some of its kind.
pub fn too_few(kind: &str, before: bool, closed: bool) -> &'static str {
    match kind {
        "received" => STREAM,
        "datagram_received" => DATAGRAM,
        _ if before => "those that an earlier `expect` of this kind has waited for do not count again",
        _ if closed => "nothing comes after `closed`: a step before this one, or the peer, ended the socket too early",
        _ => "",
    }
}

/// Why what should not happen any more, or not at all, most often does.
pub fn not_quiet(event: &Event, any_kind: bool) -> &'static str {
    match event {
        Event::Received { .. } => {
            "one write may come as several reads (`farsock explain coalescing`), and what was under way when the step began counts"
        }
        _ if any_kind => {
            "what was under way when the step began counts: wait for it first, or name the `event` that must not come"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exercise::plan::{EventWanted, Facts, PayloadWanted, Wanted};
    use crate::exercise::template::Template;
    use crate::model::errno::Errno;
    use crate::model::error::SocketError;
    use crate::model::operation::Operation;
    use crate::model::spec::Attempts;

    fn step(verb: Verb) -> Step {
        let [span, verb_span] = [0..0, 0..0];
        let (within, error, note, context) = (None, None, None, None);
        Step { number: 1, host: 0, verb, within, error, note, context, source: 0, span, verb_span }
    }

    fn receive(transport: Transport, wanted: Wanted) -> Step {
        step(Verb::Receive { socket: "line".to_owned(), transport, wanted: Box::new(wanted), name: None })
    }

    fn expect(expectation: Expectation) -> Step {
        step(Verb::Expect { socket: "line".to_owned(), expectation: Box::new(expectation) })
    }

    fn event(kind: &'static str) -> Step {
        let (size, offset, peer, reason, errno, option, quiet) = (None, None, None, None, None, None, None);
        let payload = PayloadWanted::default();
        let wanted = EventWanted { kind, payload, size, offset, peer, reason, errno, option, count: 1, quiet };
        expect(Expectation::Event(wanted))
    }

    fn bytes(wanted: &'static [u8], got: &'static [u8]) -> Difference {
        let parted = Parted::of(&Bytes::from_static(wanted), &Bytes::from_static(got));
        Difference { parted: Some(parted), ..Difference::new("payload", "x", "y") }
    }

    /// Advice that nobody can follow is worse than none.
    #[test]
    fn every_page_that_is_pointed_to_is_there() {
        let (source, _) = include_str!("advice.rs").split_once("mod tests").unwrap();
        let pages = source.split("`farsock explain ").skip(1).filter_map(|rest| rest.split_once('`'));
        let words: Vec<&str> = pages.flat_map(|(words, _)| words.split(' ')).filter(|w| !w.contains('{')).collect();
        assert!(words.len() > 20, "{words:?}");
        let missing: Vec<&&str> = words.iter().filter(|word| !word.is_empty() && entry(word).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert_eq!(explained("EINVAL"), "`farsock explain EINVAL` tells when it comes");
        assert_eq!(explained("INVALID_FIELD"), "");
        assert_eq!(explained("timeout"), "");
    }

    #[test]
    fn bytes_part_in_ways_that_have_causes() {
        for (wanted, got, parted) in [
            (b"hola\r\n".as_slice(), b"hola\n".as_slice(), Parted::LineEnds),
            (b"hola", b"ho", Parted::Short),
            (b"hola", b"hola!", Parted::Long),
            (b"ol\xe9", "olé".as_bytes(), Parted::Encoding),
            (b"hola", b"hols", Parted::Elsewhere),
            (b"\xff\xfe", b"\xff\xfd", Parted::Elsewhere),
        ] {
            assert_eq!(Parted::of(&Bytes::from_static(wanted), &Bytes::from_static(got)), parted, "{got:?}");
        }
    }

    /// A stream has no borders, a datagram does; and what was wanted decides what a difference means.
    #[test]
    fn a_payload_is_advised_by_its_transport() {
        let (tcp, udp) = (receive(Transport::Tcp, Wanted::default()), receive(Transport::Udp, Wanted::default()));
        assert_eq!(different(&event("received"), &bytes(b"hola", b"ho")), STREAM);
        assert_eq!(different(&event("received"), &bytes(b"hola", b"hola!")), STREAM);
        assert_eq!(different(&event("datagram_received"), &bytes(b"hola", b"ho")), "");
        assert_eq!(different(&udp, &bytes(b"hola", b"ho")), "");
        assert!(different(&tcp, &bytes(b"hola", b"ho")).starts_with("no more came in time"));
        let cut = receive(Transport::Tcp, Wanted { at_most: Some(2), ..Wanted::default() });
        assert_eq!(different(&cut, &bytes(b"hola", b"ho")), STREAM);
        assert!(different(&udp, &bytes(b"a\r\n", b"a\n")).contains("`crlf: true`"));
        let end = receive(Transport::Tcp, Wanted { end: true, ..Wanted::default() });
        assert!(
            different(&end, &Difference::new("payload", "the end of the stream", "x")).contains("behind all bytes")
        );
        assert!(
            different(&tcp, &Difference::new("payload", "x", "the end of the stream")).contains("its FIN came first")
        );
        let hash = Difference::new("sha256", "aa", "bb");
        assert!(different(&tcp, &hash).contains("with `size`"));
        let sized = receive(Transport::Tcp, Wanted { size: Some(2), ..Wanted::default() });
        assert_ne!(different(&sized, &hash), different(&tcp, &hash));
    }

    #[test]
    fn a_fact_is_advised_by_what_was_seen() {
        let facts = |within| Step { within, ..expect(Expectation::Facts(Facts::default())) };
        let told = |what: &str, wanted: &str, seen: &str| different(&facts(None), &Difference::new(what, wanted, seen));
        assert!(told("hash_received", "00", HASH_OF_NOTHING).contains("no byte"));
        assert!(told("hash_received", "00", "none").contains("`hash: true`"));
        assert!(told("tcp_state", "CLOSE_WAIT", "ESTABLISHED").contains("the peer's FIN"));
        assert!(told("bytes_read", "4", "2").contains("`receive_queue`"));
        assert_eq!(told("bytes_read", "2", "4"), "");
        assert!(told("queue", "at least 3", "0").contains("`accept: manual`"));
        assert!(told("peer", "10.0.0.1:5", "10.0.0.1:7").contains("ephemeral-port"));
        assert!(told("peer", "10.0.0.1:5", "10.0.0.2:5").contains("translates"));
        let at_once = Some(std::time::Duration::ZERO);
        assert!(different(&facts(at_once), &Difference::new("state", "closed", "bound")).contains("looks once"));
        assert_eq!(different(&facts(None), &Difference::new("state", "closed", "bound")), "");
        assert_eq!(different(&facts(at_once), &Difference::new("backlog", "9", "8")), "");
    }

    /// A RST explains what did not come after it, and is no advice about anything else.
    #[test]
    fn what_is_missing_is_advised_by_what_came_last() {
        let reset = Event::PeerReset { error: SocketError::new(Errno::ECONNRESET, Operation::Receive, "recv") };
        assert_eq!(missing("peer_closed", Some(&reset), true), RESET);
        assert!(missing("received", Some(&reset), true).starts_with("a RST has ended"));
        assert!(missing("received", None, true).starts_with("nothing comes after `closed`"));
        assert!(missing("peer_closed", None, false).starts_with("the other side has not sent its FIN"));
        assert_eq!(missing("option_set", None, false), "");
        assert_eq!(too_few("received", true, false), STREAM);
        assert!(too_few("written", true, false).contains("earlier `expect`"));
        assert_eq!(different(&event("peer_reset"), &Difference::new("error", "ECONNREFUSED", "ECONNRESET")), "");
    }

    #[test]
    fn an_error_that_does_not_come_is_advised_by_what_was_done() {
        let connect = Verb::Connect {
            socket: "line".to_owned(),
            to: Template::parse("x").unwrap(),
            attempts: Attempts::default(),
        };
        assert!(no_error(&connect, "ECONNREFUSED", false).contains("somebody listens"));
        assert!(no_error(&connect, "ECONNREFUSED", true).contains("`error: timeout`"));
        assert_eq!(no_error(&connect, "EBADF", false), explained("EBADF"));
        assert_eq!(unanswered(&connect), SYN);
        let shut = Verb::Disconnect { socket: "line".to_owned() };
        assert_eq!(unanswered(&shut), "");
        assert_eq!(no_error(&shut, "NONSENSE", false), "");
    }
}
