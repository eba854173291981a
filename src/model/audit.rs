//! The record of what was done: a line of JSON before each change and one after it. Each line stands for itself, has its fields in one order,
//! and is plain ASCII: whatever a caller, a peer or a name server has sent is escaped. No payload is in any of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write as _};

use crate::model::id::{InstanceId, Principal, SocketId};
use crate::model::operation::{Action, Outcome, SocketAction, Yield};
use crate::model::option::SocketOption;
use crate::model::own_deed::OwnDeed;
use crate::model::policy::{Right, Rpc};
use crate::model::refusal::Refusal;
use crate::model::spec::{Kind, SocketSpec, TcpRole};
use crate::model::time::Timestamp;

/// How many addresses of one operation are written down; how many more there were, is.
const ADDRESSES: usize = 16;

/// Something that somebody is about to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// Who.
    pub who: Principal,
    /// What.
    pub rpc: Rpc,
    /// Whose the session is.
    pub owner: Principal,
    /// The session's name; empty where it has none yet.
    pub session: String,
    /// What else is known of it: names and values of fields.
    pub details: Vec<(&'static str, Detail)>,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detail {
    /// Words.
    Text(String),
    /// A number.
    Number(u64),
    /// Several words.
    Texts(Vec<String>),
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// `done`, `failed`, `timed_out`, `refused`, or `unknown` where nobody has learned it.
    pub outcome: &'static str,
    /// What else is known of it.
    pub details: Vec<(&'static str, Detail)>,
}

impl Detail {
    fn of(value: impl Display) -> Self {
        Self::Text(value.to_string())
    }
}

impl Deed {
    /// What an operation is about to do.
    pub fn operation(who: &Principal, rpc: Rpc, owner: &Principal, action: &Action, request_id: Option<&str>) -> Self {
        let session = match action {
            Action::CreateSession { session, .. } => session.as_ref().map(ToString::to_string).unwrap_or_default(),
            Action::DeleteSession { session, .. } => session.to_string(),
            _ => action.session().to_string(),
        };
        let mut details = Vec::new();
        details.extend(action.socket().map(|socket| ("socket", Detail::of(socket))));
        if let Action::Socket(target, _) = action {
            details.extend(target.uid.map(|uid| ("socket_uid", Detail::Number(uid.0))));
        }
        details.extend(request_id.map(|id| ("request_id", Detail::of(id))));
        match action {
            Action::CreateSocket { spec, .. } => create(spec, &mut details),
            Action::CreateSockets { sockets, .. } => create_all(sockets, &mut details),
            Action::Socket(_, action) => socket(action, &mut details),
            _ => {}
        }
        Self { who: who.clone(), rpc, owner: owner.clone(), session, details }
    }
}

fn create(spec: &SocketSpec, details: &mut Vec<(&'static str, Detail)>) {
    details.push(("transport", Detail::of(spec.transport())));
    details.extend(spec.bind.as_ref().map(|local| ("bind", Detail::of(local))));
    match &spec.kind {
        Kind::Tcp(tcp) => match &tcp.role {
            TcpRole::Idle => {}
            TcpRole::Listen(at) => {
                details.push(("listen", Detail::Text(at.as_ref().map(ToString::to_string).unwrap_or_default())))
            }
            TcpRole::Connect(to) => details.push(("connect", Detail::of(to))),
        },
        Kind::Udp(udp) => {
            details.extend(udp.connect.as_ref().map(|to| ("connect", Detail::of(to))));
            if !udp.groups.is_empty() {
                details.push(("groups", some(udp.groups.iter().map(|asked| asked.group))));
            }
        }
    }
    options(&spec.options, details);
}

/// What is known of many sockets: their names, and each other thing once, whichever of them it is of.
fn create_all(sockets: &[(Option<SocketId>, SocketSpec)], details: &mut Vec<(&'static str, Detail)>) {
    details.push(("count", Detail::Number(sockets.len() as u64)));
    let names: Vec<&SocketId> = sockets.iter().filter_map(|(id, _)| id.as_ref()).collect();
    if !names.is_empty() {
        details.push(("sockets", some(names.into_iter())));
    }
    let mut all: BTreeMap<&'static str, BTreeSet<String>> = BTreeMap::new();
    for (_, spec) in sockets {
        let mut of_one = Vec::new();
        create(spec, &mut of_one);
        for (key, detail) in of_one {
            let texts = all.entry(key).or_default();
            match detail {
                Detail::Text(text) => texts.extend([text]),
                Detail::Texts(several) => texts.extend(several),
                Detail::Number(number) => texts.extend([number.to_string()]),
            }
        }
    }
    details.extend(all.into_iter().map(|(key, texts)| (key, some(texts.into_iter()))));
}

fn socket(action: &SocketAction, details: &mut Vec<(&'static str, Detail)>) {
    match action {
        SocketAction::Bind { local, .. } => details.push(("bind", Detail::of(local))),
        SocketAction::Connect { remote, .. } => details.push(("connect", Detail::of(remote))),
        SocketAction::Write { payload, .. } => details.push(("bytes", Detail::Number(payload.len() as u64))),
        SocketAction::Send { datagrams, .. } => {
            details.push(("datagrams", Detail::Number(datagrams.len() as u64)));
            let bytes: usize = datagrams.iter().map(|datagram| datagram.payload.len()).sum();
            details.push(("bytes", Detail::Number(bytes as u64)));
            let mut to: Vec<String> = datagrams
                .iter()
                .filter_map(|datagram| datagram.destination.as_ref().map(ToString::to_string))
                .collect();
            to.sort_unstable();
            to.dedup();
            if !to.is_empty() {
                details.push(("send", some(to.into_iter())));
            }
        }
        SocketAction::SetOptions(set) => options(set, details),
        SocketAction::Group(_, asked) => {
            details.push(("group", Detail::of(asked.group)));
            details.extend(asked.source.map(|source| ("source", Detail::of(source))));
        }
        SocketAction::Filter(asked) => {
            details.push(("group", Detail::of(asked.group)));
            details.push(("filter", Detail::of(&asked.filter)));
        }
        SocketAction::Shutdown(how) => details.push(("how", Detail::Text(format!("{how:?}").to_lowercase()))),
        SocketAction::Listen { .. }
        | SocketAction::Accept
        | SocketAction::Disconnect
        | SocketAction::Receive(_)
        | SocketAction::Flush
        | SocketAction::Close { .. }
        | SocketAction::Abort { .. }
        | SocketAction::SetDelivery(_) => {}
    }
}

fn options(options: &[SocketOption], details: &mut Vec<(&'static str, Detail)>) {
    if !options.is_empty() {
        let texts = options.iter().map(|option| format!("{}={}", option.spec.name, option.value));
        details.push(("options", Detail::Texts(texts.collect())));
    }
}

/// The first few, and how many more there are.
fn some(all: impl ExactSizeIterator<Item = impl Display>) -> Detail {
    let more = all.len().saturating_sub(ADDRESSES);
    let mut texts: Vec<String> = all.take(ADDRESSES).map(|one| one.to_string()).collect();
    if more > 0 {
        texts.push(format!("and {more} more"));
    }
    Detail::Texts(texts)
}

impl Ended {
    /// It was refused, by the agent itself.
    pub fn refused(refusal: &Refusal) -> Self {
        let details = vec![("reason", Detail::of(refusal.reason())), ("message", Detail::of(refusal))];
        Self { outcome: "refused", details }
    }

    /// It was done.
    pub fn done(details: Vec<(&'static str, Detail)>) -> Self {
        Self { outcome: "done", details }
    }

    /// The kernel has objected, or it was cancelled.
    pub fn failed(error: impl Display) -> Self {
        Self { outcome: "failed", details: vec![("error", Detail::of(error))] }
    }

    /// Nobody has learned how it ended.
    pub fn unknown() -> Self {
        Self { outcome: "unknown", details: Vec::new() }
    }

    /// What an operation has brought, and what its report says.
    pub fn of(result: &Result<impl AsRef<Outcome>, Refusal>) -> Self {
        let outcome = match result {
            Ok(outcome) => outcome.as_ref(),
            Err(refusal) => return Self::refused(refusal),
        };
        let report = &outcome.report;
        let mut details = vec![("request_id", Detail::of(&report.request_id))];
        if let Some((first, last)) = report.events {
            details.extend([("first_event_seq", Detail::Number(first)), ("last_event_seq", Detail::Number(last))]);
        }
        yielded(&outcome.yielded, &mut details);
        details.extend(report.error.as_ref().map(|error| ("error", Detail::of(error.cause.name()))));
        let outcome = match (&report.error, report.timed_out) {
            (Some(_), _) => "failed",
            (None, true) => "timed_out",
            (None, false) => "done",
        };
        Self { outcome, details }
    }
}

fn yielded(yielded: &Yield, details: &mut Vec<(&'static str, Detail)>) {
    match yielded {
        Yield::Nothing | Yield::Options(_) => {}
        Yield::Socket(socket, _) | Yield::Groups(socket, _) | Yield::Filters(socket, _) => {
            details.extend([("socket", Detail::of(&socket.id)), ("socket_uid", Detail::Number(socket.uid.0))]);
            details.extend(socket.status.local.as_ref().map(|local| ("local", Detail::of(local))));
            details.extend(socket.status.remote.as_ref().map(|remote| ("remote", Detail::of(remote))));
        }
        Yield::Sockets(sockets) => {
            let made: Vec<_> = sockets.iter().filter_map(|outcome| outcome.made.as_ref()).collect();
            details.push(("count", Detail::Number(made.len() as u64)));
            details.push(("sockets", some(made.iter().map(|(socket, _)| &socket.id))));
            let refused = sockets.iter().filter(|outcome| outcome.refusal.is_some()).count();
            if refused > 0 {
                details.push(("refused", Detail::Number(refused as u64)));
            }
        }
        Yield::Session(session, closed) => {
            details.push(("session", Detail::Text(format!("{}/{}", session.owner, session.id))));
            if !closed.is_empty() {
                details.push(("closed_sockets", some(closed.iter().map(|socket| &socket.id))));
            }
        }
        Yield::Written { size, .. } => details.push(("bytes", Detail::Number((*size).into()))),
        Yield::Sent { datagrams, bytes, .. } => {
            details.extend([
                ("datagrams", Detail::Number((*datagrams).into())),
                ("bytes", Detail::Number((*bytes).into())),
            ]);
        }
        Yield::Taken(_, taken) => details.push(("bytes", Detail::Number(taken.size.into()))),
    }
}

/// A line, field by field.
struct Line(String);

impl Line {
    fn new(now: Timestamp, record: &str) -> Self {
        let mut line = Self(String::with_capacity(256));
        line.0.push('{');
        line.text("time", &now.to_string());
        line.text("record", record);
        line
    }

    fn key(&mut self, key: &str) {
        if !self.0.ends_with('{') {
            self.0.push(',');
        }
        self.quoted(key);
        self.0.push(':');
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        self.quoted(value);
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        // Writing to a String does not fail.
        let _ = write!(self.0, "{value}");
    }

    fn quoted(&mut self, text: &str) {
        self.0.push('"');
        for c in text.chars() {
            match c {
                '"' | '\\' => self.0.extend(['\\', c]),
                ' '..='~' => self.0.push(c),
                other => {
                    for unit in other.encode_utf16(&mut [0; 2]) {
                        let _ = write!(self.0, "\\u{unit:04x}");
                    }
                }
            }
        }
        self.0.push('"');
    }

    fn details(&mut self, details: &[(&'static str, Detail)]) {
        for (key, detail) in details {
            match detail {
                Detail::Text(text) => self.text(key, text),
                Detail::Number(number) => self.number(key, *number),
                Detail::Texts(texts) => {
                    self.key(key);
                    self.0.push('[');
                    for (at, text) in texts.iter().enumerate() {
                        if at > 0 {
                            self.0.push(',');
                        }
                        self.quoted(text);
                    }
                    self.0.push(']');
                }
            }
        }
    }

    fn end(mut self) -> String {
        self.0.push_str("}\n");
        self.0
    }
}

/// The line at the top of a file, and where another life of the agent begins: numbers of records are those of one life.
pub fn opened(now: Timestamp, instance: &InstanceId) -> String {
    let mut line = Line::new(now, "opened");
    line.text("instance_id", instance.as_str());
    line.text("version", env!("CARGO_PKG_VERSION"));
    line.end()
}

/// The line before a change.
pub fn begun(now: Timestamp, number: u64, deed: &Deed) -> String {
    let mut line = Line::new(now, "begun");
    line.number("number", number);
    line.text("principal", deed.who.as_str());
    line.text("rpc", deed.rpc.name());
    if !deed.session.is_empty() {
        line.text("session", &format!("{}/{}", deed.owner, deed.session));
    }
    line.details(&deed.details);
    line.end()
}

/// The line after it.
pub fn ended(now: Timestamp, number: u64, deed: &Deed, ended: &Ended) -> String {
    let mut line = Line::new(now, "ended");
    line.number("number", number);
    line.text("principal", deed.who.as_str());
    line.text("rpc", deed.rpc.name());
    line.text("outcome", ended.outcome);
    line.details(&ended.details);
    line.end()
}

/// The line of something that was not even begun, because no role of whoever wants it allows it.
pub fn denied(now: Timestamp, who: &Principal, rpc: Rpc, right: Right) -> String {
    let mut line = Line::new(now, "denied");
    line.text("principal", who.as_str());
    line.text("rpc", rpc.name());
    line.text("right", right.word());
    line.end()
}

/// How many such lines of one principal there were that are in none of the lines, because they came too fast.
pub fn denied_more(now: Timestamp, who: &Principal, count: u64) -> String {
    let mut line = Line::new(now, "denied");
    line.text("principal", who.as_str());
    line.number("count", count);
    line.end()
}

/// The line of something that the agent does by itself.
pub fn own(now: Timestamp, deed: &OwnDeed) -> String {
    let mut line = Line::new(now, own_word(deed));
    match deed {
        OwnDeed::Closed { owner, session, socket, uid, reason } => {
            line.text("session", &format!("{owner}/{session}"));
            line.text("socket", socket.as_str());
            line.number("socket_uid", uid.0);
            line.text("reason", reason.name());
        }
        OwnDeed::Expired { owner, session } => line.text("session", &format!("{owner}/{session}")),
        OwnDeed::Disconnected { who, why } => {
            line.text("principal", who.as_str());
            line.text("reason", why.word());
        }
        OwnDeed::Reloaded { policy, connections, sockets } => {
            line.text("outcome", "done");
            policy.iter().for_each(|title| line.text("policy", title));
            line.number("ended_connections", *connections as u64);
            line.number("closed_sockets", *sockets as u64);
        }
        OwnDeed::NotReloaded { problem } => {
            line.text("outcome", "failed");
            line.text("message", problem);
        }
        OwnDeed::Draining | OwnDeed::Stopped => {}
    }
    line.end()
}

const fn own_word(deed: &OwnDeed) -> &'static str {
    match deed {
        OwnDeed::Closed { .. } => "closed",
        OwnDeed::Expired { .. } => "expired",
        OwnDeed::Disconnected { .. } => "disconnected",
        OwnDeed::Reloaded { .. } | OwnDeed::NotReloaded { .. } => "reloaded",
        OwnDeed::Draining => "draining",
        OwnDeed::Stopped => "stopped",
    }
}

/// How many lines there were for which there was no room while the file could not be written.
pub fn lost(now: Timestamp, count: u64) -> String {
    let mut line = Line::new(now, "lost");
    line.number("count", count);
    line.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::address::AddressText;
    use crate::model::id::SessionId;
    use crate::model::operation::Target;
    use proptest::prelude::*;

    fn deed(details: Vec<(&'static str, Detail)>) -> Deed {
        let who = Principal::parse("alice").unwrap();
        Deed { rpc: Rpc::ConnectSocket, owner: Principal::parse("bob").unwrap(), who, session: "lab".into(), details }
    }

    #[test]
    fn a_line_says_who_does_what_where() {
        let bob = Principal::parse("bob").unwrap();
        let target =
            Target { session: SessionId::parse("lab").unwrap(), socket: SocketId::parse("line").unwrap(), uid: None };
        let remote = AddressText::parse("10.0.0.2:80").unwrap();
        let action = Action::Socket(target, SocketAction::Connect { remote, attempts: Default::default() });
        let alice = Principal::parse("alice").unwrap();
        let deed = Deed::operation(&alice, Rpc::ConnectSocket, &bob, &action, Some("r1"));
        assert_eq!(
            begun(Timestamp::from_nanos(0), 7, &deed),
            "{\"time\":\"1970-01-01T00:00:00.000000Z\",\"record\":\"begun\",\"number\":7,\"principal\":\"alice\",\
             \"rpc\":\"ConnectSocket\",\"session\":\"bob/lab\",\"socket\":\"line\",\"request_id\":\"r1\",\
             \"connect\":\"10.0.0.2:80\"}\n"
        );
        let refusal = Refusal::SocketNotFound(SocketId::parse("line").unwrap());
        let line = ended(Timestamp::from_nanos(0), 7, &deed, &Ended::refused(&refusal));
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&read["outcome"], &read["reason"]), (&"refused".into(), &"SOCKET_NOT_FOUND".into()));
    }

    proptest! {
        /// Whatever text gets there: it is one line of ASCII, and reads as what it was.
        #[test]
        fn any_text_is_one_line_and_reads_as_it_was(text in any::<String>()) {
            let deed = deed(vec![("x", Detail::Text(text.clone())), ("y", Detail::Texts(vec![text.clone(), String::new()]))]);
            let line = begun(Timestamp::from_nanos(1), 1, &deed);
            prop_assert!(line.ends_with('\n'));
            prop_assert!(line[..line.len() - 1].chars().all(|c| (' '..='~').contains(&c)));
            let read: serde_json::Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(read["x"].as_str().unwrap(), &text);
            prop_assert_eq!(read["y"][0].as_str().unwrap(), &text);
        }
    }
}
