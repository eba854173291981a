//! Whether what was seen is what was asked for, and if not, what the difference is: in words.

use bytes::Bytes;

use crate::exercise::amount::Amount;
use crate::exercise::matching::PayloadCheck;
use crate::exercise::outcome::Difference;
use crate::exercise::plan::{FactNumber, FactSwitch, Facts};
use crate::model::event::{Event, EventRecord};
use crate::model::memory::SocketMemory;
use crate::model::operation::Taken;
use crate::model::option::{OptionResult, SocketOption};
use crate::model::payload::{PayloadView, Shown, to_hex};
use crate::model::probe::ProbeSource;
use crate::model::socket::CloseReason;
use crate::model::tcp::TcpInfo;
use crate::model::view::SocketView;

/// How many bytes of a payload a message shows.
const SHOWN_BYTES: u32 = 64;

/// What is told of a stream's end as if it were a payload.
const END: &str = "the end of the stream";

/// Payload bytes as a message shows them: text in quotes where it is text, else hex.
pub fn quoted(bytes: &Bytes) -> String {
    let (shown, cut) = PayloadView { max_bytes: Some(SHOWN_BYTES), ..PayloadView::default() }.show(bytes);
    let more = if cut { "…" } else { "" };
    match shown {
        // Escaped, because payload is whatever a peer likes it to be, and terminals obey some of it.
        Shown::Text(text) => format!("\"{}\"{more}", text.escape_debug()),
        Shown::Hex(hex) => format!("0x{hex}{more}"),
        Shown::Data(_) | Shown::Nothing => String::new(),
    }
}

/// `1 byte`, `17 bytes`.
pub fn bytes_text(count: u64) -> String {
    if count == 1 { "1 byte".to_owned() } else { format!("{count} bytes") }
}

/// An event that is waited for, with every reference resolved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventCheck {
    /// Its kind.
    pub kind: &'static str,
    /// The bytes that it carries.
    pub payload: PayloadCheck,
    /// How many bytes it is about.
    pub size: Option<u32>,
    /// Where they stand in the stream.
    pub offset: Option<u64>,
    /// The other side's address.
    pub peer: Option<String>,
    /// Why a socket was closed.
    pub reason: Option<CloseReason>,
    /// The name of the error that it tells.
    pub errno: Option<String>,
    /// The option that was set.
    pub option: Option<SocketOption>,
}

impl EventCheck {
    /// Whether this is the event; the error says what is different.
    pub fn judge(&self, record: &EventRecord) -> Result<(), Difference> {
        let event = &record.event;
        if event.kind() != self.kind {
            let text = format!("`{}` happened", event.kind());
            return Err(Difference::new("event", self.kind, event.kind()).told(text));
        }
        if let Some(wanted) = self.payload.wanted() {
            let Some(got) = carried(event) else {
                let text = format!("`{}` carries no bytes", self.kind);
                return Err(Difference::new("payload", wanted, "none").told(text));
            };
            self.payload.judge(&got)?;
        }
        same("size", self.size, size(event), |n| bytes_text(u64::from(*n)))?;
        same("offset", self.offset, offset(event), u64::to_string)?;
        same("peer", self.peer.clone(), peer(event), String::clone)?;
        same("reason", self.reason, reason(event), |reason| reason.name().to_owned())?;
        if let (Some(wanted), Event::OptionSet(set)) = (&self.option, event) {
            same("option", Some(wanted.spec.name), Some(set.spec.name), |name| (*name).to_owned())?;
            // What cannot be read is told as it was asked for.
            let value = set.effective.as_ref().or(set.asked.as_ref());
            same(wanted.spec.name, Some(&wanted.value), value, |value| value.to_string())?;
        }
        same("error", self.errno.clone(), error(event), String::clone)
    }
}

/// The bytes that an event tells.
fn carried(event: &Event) -> Option<Bytes> {
    match event {
        Event::UrgentReceived { byte, .. } => byte.map(|byte| Bytes::copy_from_slice(&[byte])),
        _ => event.payload().cloned(),
    }
}

/// How many bytes an event is about.
fn size(event: &Event) -> Option<u32> {
    match event {
        Event::Received { payload, .. } => u32::try_from(payload.len()).ok(),
        Event::DatagramReceived(datagram) => Some(datagram.size),
        Event::Written { size, .. } | Event::Sent { size, .. } | Event::UrgentLost { size, .. } => Some(*size),
        _ => None,
    }
}

fn offset(event: &Event) -> Option<u64> {
    match event {
        Event::Received { offset, .. }
        | Event::UrgentReceived { offset, .. }
        | Event::UrgentLost { offset, .. }
        | Event::Written { offset, .. } => Some(*offset),
        Event::PatternBroken(difference) => Some(difference.offset),
        _ => None,
    }
}

/// The other side's address of an event that has one.
fn peer(event: &Event) -> Option<String> {
    let endpoint = match event {
        Event::Accepted { remote, .. }
        | Event::Connected { remote, .. }
        | Event::ConnectStarted { remote }
        | Event::ConnectFailed { remote, .. } => Some(remote),
        Event::ConnectionDropped { remote, .. } | Event::Created { remote, .. } => remote.as_ref(),
        Event::DatagramReceived(datagram) => datagram.source.as_ref(),
        Event::Sent { destination, .. } => destination.as_ref(),
        Event::IcmpReceived(message) => message.destination.as_ref(),
        _ => None,
    };
    endpoint.map(ToString::to_string)
}

const fn reason(event: &Event) -> Option<CloseReason> {
    match event {
        Event::Closed(closing) => Some(closing.reason),
        _ => None,
    }
}

/// The name of the error that an event tells.
fn error(event: &Event) -> Option<String> {
    let error = match event {
        Event::ConnectFailed { error, .. }
        | Event::LookedUp { error, .. }
        | Event::AcceptPaused { error, .. }
        | Event::PeerGone { error } => error.as_ref(),
        Event::AcceptFailed { error } | Event::PeerReset { error } | Event::Failed { error } => Some(error),
        Event::IcmpReceived(message) => Some(&message.error),
        Event::OptionSet(result) => result.error.as_ref(),
        _ => None,
    };
    error.map(|error| error.cause.name())
}

/// What must be received, with every reference resolved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TakenCheck {
    /// The bytes.
    pub payload: PayloadCheck,
    /// How many.
    pub size: Option<u32>,
    /// Where they stand in the stream.
    pub offset: Option<u64>,
    /// The stream has ended.
    pub end: bool,
    /// Whether the datagram was cut.
    pub truncated: Option<bool>,
    /// Who sent the datagram.
    pub peer: Option<String>,
    /// Its time-to-live or hop limit.
    pub hop_limit: Option<u8>,
    /// Its type-of-service or traffic class byte.
    pub traffic_class: Option<u8>,
    /// Whether the kernel has told when it received it.
    pub receive_time: Option<bool>,
}

impl TakenCheck {
    /// Whether this is what must be received; the error says what is different.
    pub fn judge(&self, taken: &Taken) -> Result<(), Difference> {
        match (self.end, taken.end) {
            (true, true) => return Ok(()),
            (true, false) => {
                let got = quoted(&taken.payload);
                let text = format!("got {got} instead of the end");
                return Err(Difference::new("payload", END, got).told(text));
            }
            (false, true) => {
                let wanted = self.payload.wanted().unwrap_or_else(|| "bytes".to_owned());
                return Err(Difference::new("payload", wanted, END).told("the peer has ended the stream"));
            }
            (false, false) => {}
        }
        self.payload.judge(&taken.payload)?;
        same("size", self.size, Some(taken.size), |n| bytes_text(u64::from(*n)))?;
        same("offset", self.offset, Some(taken.offset), u64::to_string)?;
        same("hop_limit", self.hop_limit, taken.hop_limit, u8::to_string)?;
        same("traffic_class", self.traffic_class, taken.traffic_class, u8::to_string)?;
        same("receive_time", self.receive_time, Some(taken.received.is_some()), bool::to_string)?;
        same("truncated", self.truncated, Some(taken.truncated), bool::to_string)?;
        let source = taken.source.as_ref().map(ToString::to_string);
        same("peer", self.peer.clone(), source, String::clone)
    }
}

/// Facts about a socket, with every reference resolved.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FactsCheck {
    /// Those that refer to nothing.
    pub facts: Facts,
    /// The SHA-256 of all that was read.
    pub hash_received: Option<String>,
    /// The SHA-256 of all that was written.
    pub hash_written: Option<String>,
    /// Its local address.
    pub local: Option<String>,
    /// Its remote address.
    pub peer: Option<String>,
}

/// What an agent tells of a socket.
#[derive(Debug, Clone, PartialEq)]
pub struct SocketSeen {
    /// What the agent knows of it.
    pub view: SocketView,
    /// What the kernel knows of its connection.
    pub info: Option<TcpInfo>,
    /// What the kernel holds in memory for it.
    pub memory: Option<SocketMemory>,
    /// Its options, those that were asked for.
    pub options: Vec<OptionResult>,
}

impl FactsCheck {
    /// Whether all of them hold; the error says which one does not.
    pub fn judge(&self, seen: &SocketSeen) -> Result<(), Difference> {
        let facts = &self.facts;
        let SocketSeen { view, info, memory, options } = seen;
        let status = &view.status;
        for (name, wanted) in &facts.tcp_info {
            within(name, *wanted, info.as_ref().and_then(|info| info.number(name)))?;
        }
        for (name, wanted) in &facts.memory {
            within(name, *wanted, memory.as_ref().and_then(|memory| memory.number(name)))?;
        }
        same("state", facts.state, Some(status.state), |state| state.name().to_owned())?;
        same("tcp_state", facts.tcp_state, view.tcp_state, |state| state.name().to_owned())?;
        for (fact, wanted) in &facts.numbers {
            within(fact.name(), *wanted, number(*fact, view))?;
        }
        for (fact, wanted) in &facts.switches {
            same(fact.name(), Some(*wanted), switch(*fact, view), bool::to_string)?;
        }
        for (key, wanted) in &facts.labels {
            same(&format!("label {key}"), Some(wanted), view.labels.get(key), |value| value.to_string())?;
        }
        for SocketOption { spec, value } in &facts.options {
            let read = options.iter().find(|read| read.spec.name == spec.name);
            match read.and_then(|read| read.error.as_ref()) {
                Some(error) => {
                    let text = format!("{} cannot be read: {error}", spec.name);
                    return Err(Difference::new(spec.name, value.to_string(), error.cause.name()).told(text));
                }
                None => same(spec.name, Some(value), read.and_then(|read| read.effective.as_ref()), |value| {
                    value.to_string()
                })?,
            }
        }
        let hashes = view.hashes.as_ref();
        let received = hashes.map(|hashes| to_hex(&hashes.received));
        same("hash_received", self.hash_received.clone(), received, String::clone)?;
        let written = hashes.map(|hashes| to_hex(&hashes.written));
        same("hash_written", self.hash_written.clone(), written, String::clone)?;
        same("local", self.local.clone(), status.local.as_ref().map(ToString::to_string), String::clone)?;
        same("peer", self.peer.clone(), status.remote.as_ref().map(ToString::to_string), String::clone)
    }
}

fn number(fact: FactNumber, view: &SocketView) -> Option<u64> {
    let SocketView { status, listener, queues, verification, .. } = view;
    let probes = |of: fn(&ProbeSource) -> u64| view.probes.as_ref().map(|report| report.sum(of));
    match fact {
        FactNumber::Connections => listener.map(|listener| listener.connection_count.into()),
        FactNumber::Queue => listener.and_then(|listener| listener.queue).map(|queue| queue.length.into()),
        FactNumber::BytesRead => Some(status.totals.bytes_read),
        FactNumber::BytesWritten => Some(status.totals.bytes_written),
        FactNumber::ReceiveQueue => queues.map(|queues| queues.receive_bytes.into()),
        FactNumber::SendQueue => queues.map(|queues| queues.send_bytes.into()),
        FactNumber::PendingWriteBytes => queues.map(|queues| queues.pending_write_bytes.into()),
        FactNumber::DatagramsDropped => Some(status.totals.datagrams_dropped),
        FactNumber::Verified => verification.map(|seen| seen.verified_bytes),
        FactNumber::WrongBytes => verification.map(|seen| seen.wrong_bytes),
        FactNumber::WrongDatagrams => verification.map(|seen| seen.wrong_datagrams),
        FactNumber::ProbesReceived => probes(|seen| seen.received),
        FactNumber::ProbesLost => probes(ProbeSource::lost),
        FactNumber::ProbesDuplicated => probes(|seen| seen.duplicates),
        FactNumber::ProbesReordered => probes(|seen| seen.reordered),
        FactNumber::Backlog => status.listener.map(|listener| listener.backlog.into()),
    }
}

fn switch(fact: FactSwitch, view: &SocketView) -> Option<bool> {
    match fact {
        FactSwitch::Readable => view.readiness.map(|readiness| readiness.readable),
        FactSwitch::Writable => view.readiness.map(|readiness| readiness.writable),
        FactSwitch::SelfConnected => Some(view.status.self_connected),
    }
}

/// Whether a number is one of the wanted ones.
fn within(what: &str, wanted: Amount, got: Option<u64>) -> Result<(), Difference> {
    match got {
        Some(got) if wanted.holds(got) => Ok(()),
        Some(got) => Err(Difference::new(what, wanted.to_string(), got.to_string())),
        None => Err(nothing_to_compare(what, wanted.to_string())),
    }
}

/// Whether a value is the wanted one, where one is wanted.
fn same<T: PartialEq>(
    what: &str,
    wanted: Option<T>,
    got: Option<T>,
    show: impl Fn(&T) -> String,
) -> Result<(), Difference> {
    match (wanted, got) {
        (None, _) => Ok(()),
        (Some(wanted), Some(got)) if wanted == got => Ok(()),
        (Some(wanted), Some(got)) => Err(Difference::new(what, show(&wanted), show(&got))),
        (Some(wanted), None) => Err(nothing_to_compare(what, show(&wanted))),
    }
}

fn nothing_to_compare(what: &str, wanted: String) -> Difference {
    Difference::new(what, wanted, "none").told(format!("there is no {what} to compare"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Timestamp;

    fn received(text: &'static str) -> EventRecord {
        let event = Event::Received { offset: 4, payload: Bytes::from_static(text.as_bytes()) };
        EventRecord { seq: 1, time: Timestamp::default(), socket: None, request: None, event }
    }

    fn bytes(text: &'static str) -> PayloadCheck {
        PayloadCheck { bytes: Some(text.into()), ..PayloadCheck::default() }
    }

    fn text(difference: Difference) -> String {
        difference.text
    }

    #[test]
    fn an_event_is_judged_field_by_field() {
        let check = EventCheck { kind: "received", payload: bytes("hola"), offset: Some(4), ..Default::default() };
        assert_eq!(check.judge(&received("hola")), Ok(()));
        assert_eq!(
            check.judge(&received("hols")).map_err(text),
            Err("got \"hols\", not \"hola\": they part after 3 bytes".into())
        );
        assert_eq!(
            check.judge(&received("ho")).map_err(text),
            Err("got \"ho\", not \"hola\": it ends after 2 bytes".into())
        );
        assert_eq!(
            check.judge(&received("hola!")).map_err(text),
            Err("got \"hola!\", not \"hola\": it goes on after 4 bytes".into())
        );
        let elsewhere = EventCheck { offset: Some(0), ..check };
        assert_eq!(elsewhere.judge(&received("hola")).map_err(text), Err("offset is 4, not 0".into()));
        let difference = elsewhere.judge(&received("hola")).unwrap_err();
        assert_eq!(
            (difference.what.as_str(), difference.expected.as_str(), difference.seen.as_str()),
            ("offset", "0", "4")
        );
        let other = EventCheck { kind: "closed", ..Default::default() };
        assert_eq!(other.judge(&received("")).map_err(text), Err("`received` happened".into()));
        let failed = EventCheck { kind: "received", errno: Some("ECONNRESET".into()), ..Default::default() };
        assert_eq!(failed.judge(&received("")).map_err(text), Err("there is no error to compare".into()));
        let odd = EventCheck { kind: "received", reason: Some(CloseReason::Closed), ..Default::default() };
        assert_eq!(odd.judge(&received("")).map_err(text), Err("there is no reason to compare".into()));
    }

    #[test]
    fn what_was_taken_is_judged() {
        let taken = Taken { payload: "ab".into(), size: 2, ..Taken::default() };
        let end = Taken { end: true, ..Taken::default() };
        let check = TakenCheck { payload: bytes("ab"), ..TakenCheck::default() };
        assert_eq!(check.judge(&taken), Ok(()));
        assert_eq!(check.judge(&end).map_err(text), Err("the peer has ended the stream".into()));
        let until_end = TakenCheck { end: true, ..TakenCheck::default() };
        assert_eq!(until_end.judge(&end), Ok(()));
        assert_eq!(until_end.judge(&taken).map_err(text), Err("got \"ab\" instead of the end".into()));
        let sized = TakenCheck { size: Some(1), ..TakenCheck::default() };
        assert_eq!(sized.judge(&taken).map_err(text), Err("size is 2 bytes, not 1 byte".into()));
    }

    #[test]
    fn hostile_payload_is_shown_and_not_obeyed() {
        assert_eq!(quoted(&Bytes::from_static(b"a\r\n\"")), r#""a\r\n\"""#);
        assert_eq!(quoted(&Bytes::from_static(b"\x1b]0;x\x07")), "0x1b5d303b7807");
        assert!(quoted(&Bytes::from(vec![b'x'; 500])).len() < 80);
    }
}
