//! The timeline as a picture: a column for each host, time going down, arrows from cause to effect.
//!
//! Arrows are dashed, because they are inferred from what both ends told; nobody has seen the packets.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use crate::exercise::expectation::quoted;
use crate::exercise::narration::describe;
use crate::exercise::timeline::Moment;
use crate::model::address::Endpoint;
use crate::model::event::Event;
use crate::model::id::SocketId;
use crate::model::socket::CloseReason;

/// Where the first lifeline stands, behind the time.
const FIRST: usize = 10;
/// How far lifelines stand apart.
const COLUMN: usize = 22;

/// Draws moments.
#[derive(Debug, Clone)]
pub struct Picture {
    roles: Vec<String>,
    /// When the picture begins, in nanoseconds of the controller's clock.
    start: i64,
    /// The names that the exercise has for sockets.
    names: HashMap<(usize, SocketId), String>,
    /// How many characters a line may have.
    width: usize,
}

/// What a line says about a moment.
struct Look {
    /// What stands on the lifeline.
    glyph: char,
    /// What stands on the arrow, or beside the glyph.
    label: String,
    /// What stands at the end of the line.
    detail: String,
}

impl Picture {
    /// A picture of these hosts, with lines of at most so many characters.
    pub fn new(roles: Vec<String>, start: i64, width: usize) -> Self {
        Self { roles, start, names: HashMap::new(), width: width.max(FIRST + COLUMN) }
    }

    /// Learns the exercise's name for a socket.
    pub fn name(&mut self, host: usize, id: SocketId, name: String) {
        self.names.insert((host, id), name);
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

    /// Lines for moments, in their order; `passed` are those that a step was about.
    pub fn lines(&self, moments: &[Moment], passed: &HashSet<(usize, u64)>) -> Vec<String> {
        // What has an effect in the same picture is drawn with it: as the beginning of its arrow.
        let causes: HashSet<(usize, u64)> =
            moments.iter().filter_map(|moment| moment.cause.as_ref()).map(|(host, cause)| (*host, cause.seq)).collect();
        let drawn = moments.iter().filter(|moment| !causes.contains(&(moment.host, moment.record.seq)));
        drawn.filter_map(|moment| self.line(moment, passed)).collect()
    }

    fn line(&self, moment: &Moment, passed: &HashSet<(usize, u64)>) -> Option<String> {
        let mut look = look(&moment.record.event)?;
        let name = self.name_of(moment);
        if !name.is_empty() {
            look.detail = if look.detail.is_empty() { name } else { format!("{name}: {}", look.detail) };
        }
        if passed.contains(&(moment.host, moment.record.seq)) {
            look.detail.push_str(" ✓");
        }
        let mut cells = self.lifelines();
        match moment.cause.as_ref().filter(|(from, _)| *from != moment.host) {
            Some((from, _)) => draw_arrow(&mut cells, lifeline(*from), lifeline(moment.host), &look.label),
            None => write(&mut cells, lifeline(moment.host) + 2, &look.label, COLUMN - 3),
        }
        cells[lifeline(moment.host)] = look.glyph;
        let seconds = self.seconds(moment.at);
        let time = format!("{seconds:>8.3}");
        for (at, c) in time.chars().enumerate().take(FIRST - 1) {
            cells[at] = c;
        }
        let drawing: String = cells.into_iter().collect();
        Some(self.cut(format!("{drawing}  {}", look.detail)))
    }

    /// A line for something that a host has found out, without an event.
    pub fn finding(&self, host: usize, text: &str) -> String {
        let mut cells = self.lifelines();
        cells[lifeline(host)] = '✓';
        let drawing: String = cells.into_iter().collect();
        self.cut(format!("{drawing}  {text}"))
    }

    fn lifelines(&self) -> Vec<char> {
        let end = lifeline(self.roles.len() - 1);
        let mut cells: Vec<char> = " ".repeat(end + COLUMN).chars().collect();
        for host in 0..self.roles.len() {
            cells[lifeline(host)] = '│';
        }
        cells
    }

    #[allow(clippy::cast_precision_loss, reason = "a picture shows milliseconds")]
    fn seconds(&self, at: i64) -> f64 {
        (at.saturating_sub(self.start)).max(0) as f64 / 1e9
    }

    /// The exercise's name for a socket, or the agent's.
    fn name_of(&self, moment: &Moment) -> String {
        let Some((id, _)) = &moment.record.socket else { return String::new() };
        self.names.get(&(moment.host, id.clone())).cloned().unwrap_or_else(|| id.to_string())
    }

    /// A moment as a line of its own words, for those who cannot see pictures.
    pub fn sentence(&self, moment: &Moment) -> Option<String> {
        look(&moment.record.event)?;
        let (role, name) = (&self.roles[moment.host], self.name_of(moment));
        Some(format!("{:>8.3} {role} {name} {}", self.seconds(moment.at), describe(&moment.record.event)))
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
fn look(event: &Event) -> Option<Look> {
    let look = |glyph, label: &str, detail: String| Some(Look { glyph, label: label.to_owned(), detail });
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
        Event::Bound { local } => look('●', &format!("bind {}", port(local)), String::new()),
        Event::Listening { local, .. } => look('●', &format!("listen {}", port(local)), String::new()),
        Event::Connected { .. } => look('●', "connected", String::new()),
        Event::Disconnected { .. } => look('●', "disconnected", String::new()),
        Event::Accepted { .. } => look('●', "connect", String::new()),
        Event::ConnectionDropped { .. } => look('✗', "dropped (RST)", String::new()),
        Event::Received { payload, .. } => look('●', &format!("{} B", payload.len()), quoted(payload)),
        Event::UrgentReceived { byte, .. } => {
            look('●', "urgent", byte.map(|byte| quoted(&Bytes::copy_from_slice(&[byte]))).unwrap_or_default())
        }
        Event::DatagramReceived(datagram) => {
            let cut = if datagram.truncated() { ", truncated" } else { "" };
            look('●', &format!("{} B{cut}", datagram.size), quoted(&datagram.payload))
        }
        Event::DatagramsDropped { count, .. } => look('✗', &format!("{count} dropped"), String::new()),
        Event::IcmpReceived(message) => {
            look('✗', &format!("ICMP {}/{}", message.kind, message.code), message.error.cause.name())
        }
        Event::Written { size, .. } => look('●', &format!("write {size} B"), String::new()),
        Event::Sent { size, .. } => look('●', &format!("send {size} B"), String::new()),
        Event::ShutDown { .. } => look('●', "shut down", String::new()),
        Event::PeerClosed { .. } => look('●', "FIN", String::new()),
        Event::PeerReset { error } => look('✗', "RST", error.cause.name()),
        Event::PeerGone { error: None } => look('●', "FIN, unread", String::new()),
        Event::PeerGone { error: Some(error) } => look('✗', "RST, unread", error.cause.name()),
        Event::IdleTimedOut { .. } => look('●', "idle", String::new()),
        Event::GroupJoined(membership) => look('●', "join", membership.to_string()),
        Event::GroupLeft(membership) => look('●', "leave", membership.to_string()),
        Event::SourceBlocked(membership) => look('●', "block", membership.to_string()),
        Event::SourceUnblocked(membership) => look('●', "unblock", membership.to_string()),
        Event::Aborted => look('✗', "abort", String::new()),
        Event::Closed(_) => look('○', "closed", String::new()),
        Event::ConnectFailed { error: None, .. } => look('✗', "connect: no answer", String::new()),
        Event::ConnectFailed { error: Some(error), .. } => look('✗', "connect failed", error.cause.name()),
        Event::LookedUp { error: Some(error), .. } | Event::Failed { error } | Event::AcceptFailed { error } => {
            look('✗', &format!("{} failed", error.operation), error.cause.name())
        }
        Event::AcceptPaused { .. } => look('✗', "accepts no more", String::new()),
        Event::ClockStepped { .. }
        | Event::AgentDraining { .. }
        | Event::SessionReset { .. }
        | Event::LeaseExpiring { .. }
        | Event::LeaseExpired { .. } => look('●', event.kind(), String::new()),
    }
}

fn port(endpoint: &Endpoint) -> String {
    format!(":{}", endpoint.addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::EventRecord;
    use crate::model::id::SocketUid;
    use crate::model::time::Timestamp;
    use std::sync::Arc;

    fn moment(host: usize, seq: u64, id: &str, event: Event, cause: Option<(usize, u64)>) -> Moment {
        let record = |seq, event| {
            let socket = Some((SocketId::parse(id).unwrap(), SocketUid(1)));
            Arc::new(EventRecord { seq, time: Timestamp::default(), socket, request: None, event })
        };
        let cause = cause.map(|(host, seq)| (host, record(seq, Event::Writable)));
        Moment { host, record: record(seq, event), at: i64::try_from(seq).unwrap() * 1_000_000, cause }
    }

    fn received(text: &'static str) -> Event {
        Event::Received { offset: 0, payload: Bytes::from_static(text.as_bytes()) }
    }

    #[test]
    fn columns_arrows_names_and_marks() {
        let mut picture = Picture::new(vec!["server".into(), "client".into()], 0, 100);
        picture.name(0, SocketId::parse("door.1").unwrap(), "guest".into());
        let local = "127.0.0.2:8888".parse::<std::net::SocketAddr>().unwrap().into();
        let moments = [
            moment(0, 1, "door", Event::Listening { local, backlog: 1 }, None),
            moment(1, 2, "line", Event::Written { offset: 0, size: 6, asked_size: 6 }, None),
            moment(0, 3, "door.1", received("hola\r\n"), Some((1, 2))),
            moment(1, 4, "line", received("x"), Some((0, 9))),
            moment(1, 5, "line", Event::Aborted, None),
        ];
        let drawn = [picture.heading(), picture.lines(&moments, &HashSet::from([(0, 3)])).join("\n")].join("\n");
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
        let picture = Picture::new(vec!["a".into()], 0, 50);
        let long = moment(0, 1, "s", received("012345678901234567890123456789012345678901234567890"), None);
        let line = &picture.lines(&[long], &HashSet::from([(0, 1)]))[0];
        assert!(line.chars().count() <= 50 && line.ends_with("… ✓"), "{line}");
    }

    #[test]
    fn sentences_say_the_same() {
        let picture = Picture::new(vec!["a".into()], 0, 80);
        let said = picture.sentence(&moment(0, 7, "s", received("x"), None)).unwrap();
        assert_eq!(said, "   0.007 a s received 1 byte at 0: \"x\"");
    }
}
