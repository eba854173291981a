//! The timeline as a picture: a column for each host, time going down, arrows from cause to effect.
//!
//! Arrows are dashed, because they are inferred from what both ends told; nobody has seen the packets.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use crate::exercise::expectation::quoted;
use crate::exercise::instant::milliseconds;
use crate::exercise::report::line::{EventLine, EventPlace, SocketLine, Tone};
use crate::model::address::Endpoint;
use crate::model::event::Event;
use crate::model::socket::CloseReason;

/// Where the first lifeline stands, behind the time.
const FIRST: usize = 10;
/// Where it is marked that an event may have come before the one above, behind the time.
const UNORDERED: usize = 8;
/// How far lifelines stand apart.
const COLUMN: usize = 22;

/// Draws events.
#[derive(Debug, Clone)]
pub struct Picture {
    roles: Vec<String>,
    /// The names that the exercise has for sockets, by role and the agent's name.
    names: HashMap<(String, String), String>,
    /// How many characters a line may have.
    width: usize,
}

/// What a line says about an event.
pub(super) struct Look {
    /// How it is marked.
    pub(super) tone: Tone,
    /// What stands on the arrow, or beside the mark.
    pub(super) label: String,
    /// What stands at the end of the line.
    pub(super) detail: String,
}

impl Picture {
    /// A picture of these hosts, with lines of at most so many characters.
    pub fn new(roles: Vec<String>, width: usize) -> Self {
        let mut picture = Self { roles, names: HashMap::new(), width };
        picture.set_width(width);
        picture
    }

    /// From now on, lines have at most so many characters.
    pub fn set_width(&mut self, width: usize) {
        self.width = width.max(FIRST + COLUMN);
    }

    /// Learns the exercise's name for a socket.
    pub fn name(&mut self, socket: &SocketLine) {
        self.names.insert((socket.host.clone(), socket.socket_id.clone()), socket.name.clone());
    }

    fn host(&self, role: &str) -> Option<usize> {
        self.roles.iter().position(|known| known == role)
    }

    /// The line above the columns.
    pub fn heading(&self) -> String {
        let mut line = String::new();
        for (host, role) in self.roles.iter().enumerate() {
            let at = lifeline(host).saturating_sub(role.chars().count() / 2);
            pad(&mut line, at);
            line.push_str(role);
        }
        line
    }

    /// Lines for events, in their order; `passed` are those that a step was about.
    pub fn lines(&self, events: &[EventLine], passed: &HashSet<EventPlace>) -> Vec<String> {
        // What has an effect in the same picture is drawn with it: as the beginning of its arrow.
        let causes: HashSet<&EventPlace> = events.iter().filter_map(|event| event.caused_by.as_ref()).collect();
        let drawn = events.iter().filter(|event| !causes.contains(&event.place));
        drawn.filter_map(|event| self.line(event, passed)).collect()
    }

    fn line(&self, event: &EventLine, passed: &HashSet<EventPlace>) -> Option<String> {
        let label = event.label.as_deref()?;
        let host = self.host(&event.place.host)?;
        let told = event.detail.as_deref().unwrap_or_default();
        // First, so that it is not cut off.
        let detail = &match contradiction(event) {
            Some(contradiction) => format!("{contradiction} {told}"),
            None => told.to_owned(),
        };
        let mut detail = match (self.name_of(event), detail.as_str()) {
            ("", detail) => detail.to_owned(),
            (name, "") => name.to_owned(),
            (name, detail) => format!("{name}: {detail}"),
        };
        if passed.contains(&event.place) {
            detail.push_str(" ✓");
        }
        let mut cells = self.lifelines();
        let from = event.caused_by.as_ref().and_then(|cause| self.host(&cause.host)).filter(|from| *from != host);
        match from {
            Some(from) => draw_arrow(&mut cells, lifeline(from), lifeline(host), label),
            None => write(&mut cells, lifeline(host) + 2, label, COLUMN - 3),
        }
        cells[lifeline(host)] = match event.tone {
            Tone::Plain => '●',
            Tone::Trouble => '✗',
            Tone::End => '○',
        };
        let time = format!("{:>8.3}", seconds(event.at_ns));
        for (at, c) in time.chars().enumerate().take(FIRST - 1) {
            cells[at] = c;
        }
        if event.unordered {
            cells[UNORDERED] = '≈';
        }
        let drawing: String = cells.into_iter().collect();
        Some(self.cut(format!("{drawing}  {detail}")))
    }

    /// A line for something that a host has found out, without an event.
    pub fn finding(&self, role: &str, text: &str) -> String {
        let mut cells = self.lifelines();
        if let Some(host) = self.host(role) {
            cells[lifeline(host)] = '✓';
        }
        let drawing: String = cells.into_iter().collect();
        self.cut(format!("{drawing}  {text}"))
    }

    fn lifelines(&self) -> Vec<char> {
        let end = lifeline(self.roles.len().saturating_sub(1));
        let mut cells: Vec<char> = " ".repeat(end + COLUMN).chars().collect();
        for host in 0..self.roles.len() {
            cells[lifeline(host)] = '│';
        }
        cells
    }

    /// The exercise's name for a socket, or the agent's.
    fn name_of<'a>(&'a self, event: &'a EventLine) -> &'a str {
        let Some(id) = &event.socket_id else { return "" };
        self.names.get(&(event.place.host.clone(), id.clone())).unwrap_or(id)
    }

    /// An event as a line of its own words, for those who cannot see pictures.
    pub fn sentence(&self, event: &EventLine) -> Option<String> {
        event.label.as_ref()?;
        let mark = if event.unordered { '≈' } else { ' ' };
        let more = contradiction(event).map(|text| format!(", {text}")).unwrap_or_default();
        let (time, name) = (seconds(event.at_ns), self.name_of(event));
        Some(format!("{time:>8.3}{mark}{} {name} {}{more}", event.place.host, event.text))
    }

    fn cut(&self, line: String) -> String {
        let line = line.trim_end();
        if line.chars().count() <= self.width {
            return line.to_owned();
        }
        let mut cut: String = line.chars().take(self.width - 1).collect();
        // Whether a step passed is never cut off.
        if line.ends_with('✓') {
            cut = line.chars().take(self.width - 3).collect();
            return format!("{cut}… ✓");
        }
        cut.push('…');
        cut
    }
}

/// That the clocks, or the order of the lines, say something which cannot be.
fn contradiction(event: &EventLine) -> Option<String> {
    let clocks = event.before_cause_ns.map(|before| format!("by the clocks {} before its cause", milliseconds(before)));
    let late =
        |effect: &EventPlace| format!("told too late: it led to event {} of {}, above", effect.event_seq, effect.host);
    clocks.or_else(|| event.effect_before.as_ref().map(late))
}

#[allow(clippy::cast_precision_loss, reason = "a picture shows milliseconds")]
fn seconds(at_ns: i64) -> f64 {
    at_ns.max(0) as f64 / 1e9
}

const fn lifeline(host: usize) -> usize {
    FIRST + host * COLUMN
}

fn pad(line: &mut String, to: usize) {
    let missing = to.saturating_sub(line.chars().count());
    line.push_str(&" ".repeat(missing));
}

/// Writes text over cells, at most so many characters.
fn write(cells: &mut [char], at: usize, text: &str, room: usize) {
    let cut = text.chars().count() > room;
    let shown = text.chars().take(if cut { room - 1 } else { room }).chain(cut.then_some('…'));
    for (cell, c) in cells.iter_mut().skip(at).zip(shown) {
        *cell = c;
    }
}

fn draw_arrow(cells: &mut [char], from: usize, to: usize, label: &str) {
    let (left, right) = (from.min(to) + 1, from.max(to));
    for cell in &mut cells[left..right] {
        *cell = '┄';
    }
    if to > from {
        cells[right - 1] = '►';
    } else {
        cells[left] = '◄';
    }
    let label = format!(" {label} ");
    let room = right - left - 4;
    let length = label.chars().count().min(room);
    write(cells, left + (right - left - length) / 2, &label, room);
}

/// How a kind of event looks; nothing if it only goes with another one.
pub(super) fn look(event: &Event) -> Option<Look> {
    let look = |tone, label: &str, detail: String| Some(Look { tone, label: label.to_owned(), detail });
    match event {
        Event::Created { .. }
        | Event::ConnectStarted { .. }
        | Event::LookedUp { error: None, .. }
        | Event::OptionSet(_)
        | Event::Writable
        | Event::Attached
        | Event::Detached { .. }
        | Event::ReadPaused { .. }
        | Event::WriteBlocked { .. }
        | Event::ReadResumed => None,
        Event::Closed(closing)
            if matches!(closing.reason, CloseReason::SessionDeleted | CloseReason::PeerReset | CloseReason::Failed) =>
        {
            None
        }
        Event::Bound { local } => look(Tone::Plain, &format!("bind {}", port(local)), String::new()),
        Event::Listening { local, .. } => look(Tone::Plain, &format!("listen {}", port(local)), String::new()),
        Event::Connected { .. } => look(Tone::Plain, "connected", String::new()),
        Event::Disconnected { .. } => look(Tone::Plain, "disconnected", String::new()),
        Event::Accepted { .. } => look(Tone::Plain, "connect", String::new()),
        Event::ConnectionDropped { .. } => look(Tone::Trouble, "dropped (RST)", String::new()),
        Event::Received { payload, .. } => look(Tone::Plain, &format!("{} B", payload.len()), quoted(payload)),
        Event::UrgentReceived { byte, .. } => {
            look(Tone::Plain, "urgent", byte.map(|byte| quoted(&Bytes::copy_from_slice(&[byte]))).unwrap_or_default())
        }
        Event::PatternBroken(difference) => {
            look(Tone::Trouble, &format!("pattern broken at {}", difference.offset), String::new())
        }
        Event::UrgentLost { size, .. } => look(Tone::Trouble, &format!("{size} B urgent lost"), String::new()),
        Event::DatagramReceived(datagram) => {
            let cut = if datagram.truncated() { ", truncated" } else { "" };
            look(Tone::Plain, &format!("{} B{cut}", datagram.size), quoted(&datagram.payload))
        }
        Event::DatagramsDropped { count, .. } => look(Tone::Trouble, &format!("{count} dropped"), String::new()),
        Event::IcmpReceived(message) => {
            look(Tone::Trouble, &format!("ICMP {}/{}", message.kind, message.code), message.error.cause.name())
        }
        Event::Written { size, .. } => look(Tone::Plain, &format!("write {size} B"), String::new()),
        Event::Sent { size, .. } => look(Tone::Plain, &format!("send {size} B"), String::new()),
        Event::SendTimestamped { number, .. } => look(Tone::Plain, &format!("left: {number}"), String::new()),
        Event::ShutDown { .. } => look(Tone::Plain, "shut down", String::new()),
        Event::PeerClosed { .. } => look(Tone::Plain, "FIN", String::new()),
        Event::PeerReset { error } => look(Tone::Trouble, "RST", error.cause.name()),
        Event::PeerGone { error: None } => look(Tone::Plain, "FIN, unread", String::new()),
        Event::PeerGone { error: Some(error) } => look(Tone::Trouble, "RST, unread", error.cause.name()),
        Event::TcpStateChanged { state, .. } => look(Tone::Plain, state.name(), String::new()),
        Event::IdleTimedOut { .. } => look(Tone::Plain, "idle", String::new()),
        Event::GroupJoined(membership) => look(Tone::Plain, "join", membership.to_string()),
        Event::GroupLeft(membership) => look(Tone::Plain, "leave", membership.to_string()),
        Event::SourceBlocked(membership) => look(Tone::Plain, "block", membership.to_string()),
        Event::SourceUnblocked(membership) => look(Tone::Plain, "unblock", membership.to_string()),
        Event::SourceFilterSet(filter) => look(Tone::Plain, "filter", filter.to_string()),
        Event::Aborted => look(Tone::Trouble, "abort", String::new()),
        Event::Closed(_) => look(Tone::End, "closed", String::new()),
        Event::ConnectFailed { error: None, .. } => look(Tone::Trouble, "connect: no answer", String::new()),
        Event::ConnectFailed { error: Some(error), .. } => look(Tone::Trouble, "connect failed", error.cause.name()),
        Event::LookedUp { error: Some(error), .. } | Event::Failed { error } | Event::AcceptFailed { error } => {
            look(Tone::Trouble, &format!("{} failed", error.operation), error.cause.name())
        }
        Event::AcceptPaused { .. } => look(Tone::Trouble, "accepts no more", String::new()),
        Event::Unknown { .. } => look(Tone::Plain, event.kind(), "of a newer agent".to_owned()),
        Event::ClockStepped { .. }
        | Event::InterfaceChanged { .. }
        | Event::InterfaceAddressChanged { .. }
        | Event::AgentDraining { .. }
        | Event::SessionReset { .. }
        | Event::LeaseExpiring { .. }
        | Event::LeaseExpired { .. } => look(Tone::Plain, event.kind(), String::new()),
    }
}

fn port(endpoint: &Endpoint) -> String {
    format!(":{}", endpoint.addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exercise::narration::describe;

    fn place(host: &str, event_seq: u64) -> EventPlace {
        EventPlace { host: host.to_owned(), event_seq }
    }

    fn event(host: &str, seq: u64, id: &str, event: &Event, caused_by: Option<EventPlace>) -> EventLine {
        let look = look(event).unwrap();
        EventLine {
            at_ns: i64::try_from(seq).unwrap() * 1_000_000,
            place: place(host, seq),
            time: String::new(),
            socket_id: Some(id.to_owned()),
            socket_uid: Some(1),
            name: None,
            request_id: None,
            kind: event.kind().to_owned(),
            text: describe(event),
            label: Some(look.label),
            detail: Some(look.detail),
            tone: look.tone,
            caused_by,
            unordered: false,
            before_cause_ns: None,
            effect_before: None,
            body: serde_json::Map::new(),
        }
    }

    fn received(text: &'static str) -> Event {
        Event::Received { offset: 0, payload: Bytes::from_static(text.as_bytes()) }
    }

    #[test]
    fn columns_arrows_names_and_marks() {
        let mut picture = Picture::new(vec!["server".into(), "client".into()], 100);
        picture.name(&SocketLine { host: "server".into(), socket_id: "door.1".into(), name: "guest".into() });
        let local = "127.0.0.2:8888".parse::<std::net::SocketAddr>().unwrap().into();
        let events = [
            event("server", 1, "door", &Event::Listening { local, backlog: 1 }, None),
            event("client", 2, "line", &Event::Written { offset: 0, size: 6, asked_size: 6 }, None),
            event("server", 3, "door.1", &received("hola\r\n"), Some(place("client", 2))),
            event("client", 4, "line", &received("x"), Some(place("server", 9))),
            event("client", 5, "line", &Event::Aborted, None),
        ];
        let passed = HashSet::from([place("server", 3)]);
        let drawn = [picture.heading(), picture.lines(&events, &passed).join("\n")].join("\n");
        insta::assert_snapshot!(drawn, @r#"
               server                client
           0.001  ● listen :8888        │                       door
           0.003  ●◄┄┄┄┄┄┄┄ 6 B ┄┄┄┄┄┄┄┄│                       guest: "hola\r\n" ✓
           0.004  │┄┄┄┄┄┄┄┄ 1 B ┄┄┄┄┄┄┄►●                       line: "x"
           0.005  │                     ✗ abort                 line
        "#);
    }

    #[test]
    fn lines_are_cut_but_marks_stay() {
        let picture = Picture::new(vec!["a".into()], 50);
        let long = event("a", 1, "s", &received("012345678901234567890123456789012345678901234567890"), None);
        let line = &picture.lines(&[long], &HashSet::from([place("a", 1)]))[0];
        assert!(line.chars().count() <= 50 && line.ends_with("… ✓"), "{line}");
    }

    /// Neighbours that the clocks cannot order are marked, and so is what the clocks cannot be right about.
    #[test]
    fn what_the_clocks_leave_open_is_marked() {
        let picture = Picture::new(vec!["a".into(), "b".into()], 110);
        let mut late = event("b", 2, "s", &received("x"), Some(place("a", 1)));
        (late.unordered, late.before_cause_ns) = (true, Some(3_200_000));
        assert_eq!(
            picture.lines(&[late.clone()], &HashSet::new())[0],
            "   0.002≈ │┄┄┄┄┄┄┄┄ 1 B ┄┄┄┄┄┄┄►●                       s: by the clocks 3.200 ms before its cause \"x\""
        );
        assert_eq!(
            picture.sentence(&late).unwrap(),
            "   0.002≈b s received 1 byte at 0: \"x\", by the clocks 3.200 ms before its cause"
        );
    }

    #[test]
    fn what_was_told_after_what_it_led_to_says_so() {
        let picture = Picture::new(vec!["a".into(), "b".into()], 120);
        let mut cause = event("a", 1, "s", &Event::Written { offset: 0, size: 1, asked_size: 1 }, None);
        cause.effect_before = Some(place("b", 2));
        assert_eq!(
            picture.lines(&[cause], &HashSet::new())[0],
            "   0.001  ● write 1 B           │                       s: told too late: it led to event 2 of b, above"
        );
    }

    #[test]
    fn sentences_say_the_same() {
        let picture = Picture::new(vec!["a".into()], 80);
        let said = picture.sentence(&event("a", 7, "s", &received("x"), None)).unwrap();
        assert_eq!(said, "   0.007 a s received 1 byte at 0: \"x\"");
    }
}
