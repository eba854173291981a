//! A bounded log: the oldest records go first, those that end something later, and nobody is left unaware of it.
//!
//! Invariant: numbers have no holes when they are given; a reader gets each record after its position, or a gap that names those that
//! are gone.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::eventlog::holds::{Held, Holds};
use crate::model::event::{EventFilter, EventRecord, Gap};
use crate::model::limits::READ_SIZE;

/// How much a ring keeps.
#[derive(Debug, Clone, Copy)]
pub struct RingLimits {
    /// Records.
    pub events: usize,
    /// Bytes of their payloads. The newest record is kept also when it alone has more.
    pub payload_bytes: u64,
    /// Records that end something, kept after their neighbours have gone.
    pub final_events: usize,
}

/// How much room what is held leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// None: requests that cause events are refused.
    Nothing,
    /// None for what sockets bring by themselves: reading and accepting pause.
    NoPayloads,
    /// As before: who has paused waits, who has not goes on.
    Some,
    /// Enough for all who wait.
    Plenty,
}

/// A record, and how many bytes of payload all records through it have had.
#[derive(Debug)]
struct Kept {
    record: Arc<EventRecord>,
    payload_through: u64,
}

impl Kept {
    fn payload_before(&self) -> u64 {
        self.payload_through - payload_len(&self.record)
    }
}

fn payload_len(record: &EventRecord) -> u64 {
    record.event.payload().map_or(0, |payload| payload.len() as u64)
}

/// The newest records of a session.
#[derive(Debug)]
pub struct Ring {
    limits: RingLimits,
    /// The newest records, without holes.
    recent: VecDeque<Kept>,
    /// Older records that end something, with holes.
    finals: VecDeque<Kept>,
    head: u64,
    payload_total: u64,
    /// What may not go yet; absent where anything may.
    holds: Option<Holds>,
}

/// A reader's place: everything through `seq` has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The last number that was read; 0 before the first.
    pub seq: u64,
    /// How many bytes of payload all records through it have had, where that is known.
    payload: Option<u64>,
}

/// What a reader finds after its position.
#[derive(Debug)]
pub enum Found {
    /// Nothing yet.
    Nothing,
    /// Records that are gone.
    Gap(Gap),
    /// The records of a range that the filter wants; the position has moved to its end.
    Records(Vec<Arc<EventRecord>>),
}

/// How much one reading may take.
#[derive(Debug, Clone, Copy)]
pub struct Portion {
    /// Records returned.
    pub records: usize,
    /// Bytes of their payloads; at least one record is returned.
    pub payload_bytes: usize,
}

/// How many records one reading looks at: the time that writers may have to wait for a reader with a narrow filter.
const SCAN: usize = 1024;

impl Ring {
    /// An empty log.
    pub fn new(limits: RingLimits) -> Self {
        Self { limits, recent: VecDeque::new(), finals: VecDeque::new(), head: 0, payload_total: 0, holds: None }
    }

    /// An empty log that keeps what nobody has taken.
    pub fn lossless(limits: RingLimits) -> Self {
        Self { holds: Some(Holds::default()), ..Self::new(limits) }
    }

    /// The newest number; 0 when nothing has happened.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// The number of the oldest record that is kept; 0 when none is.
    pub fn oldest(&self) -> u64 {
        self.finals.front().or_else(|| self.recent.front()).map_or(0, |kept| kept.record.seq)
    }

    /// Adds the next record, whose number must be `head() + 1`.
    pub fn push(&mut self, record: Arc<EventRecord>) {
        debug_assert_eq!(record.seq, self.head + 1, "numbers have no holes");
        self.head = record.seq;
        self.payload_total += payload_len(&record);
        if let Some(holds) = &mut self.holds {
            holds.add(&record);
        }
        self.recent.push_back(Kept { record, payload_through: self.payload_total });
        self.trim();
    }

    /// Keeps at most so many bytes of payload from now on. What is held stays until it is not held any more.
    pub fn set_payload_limit(&mut self, bytes: u64) {
        self.limits.payload_bytes = bytes;
        self.trim();
    }

    /// How many bytes of payload it has, and at most may have.
    pub fn payload(&self) -> (u64, u64) {
        (self.recent_payload(), self.limits.payload_bytes)
    }

    fn trim(&mut self) {
        while self.recent.len() > 1
            && (self.recent.len() > self.limits.events || self.recent_payload() > self.limits.payload_bytes)
            && self.may_evict()
        {
            self.evict();
        }
    }

    /// Whether the oldest record may go: nobody holds it, or holding has its end, too.
    fn may_evict(&self) -> bool {
        let (Some(holds), Some(oldest)) = (&self.holds, self.recent.front()) else { return true };
        oldest.record.seq < holds.floor() || self.recent.len() > self.limits.events + self.limits.final_events
    }

    fn recent_payload(&self) -> u64 {
        self.recent.front().map_or(0, |kept| self.payload_total - kept.payload_before())
    }

    fn evict(&mut self) {
        let Some(kept) = self.recent.pop_front() else { return };
        if kept.record.event.is_final() {
            self.finals.push_back(kept);
            if self.finals.len() > self.limits.final_events {
                self.finals.pop_front();
            }
        }
    }

    // === What is held ===

    /// What may not go yet. Nothing where anything may.
    pub fn held(&self) -> Held {
        let Some(holds) = &self.holds else { return Held::default() };
        let floor = holds.floor();
        let before = self.get_kept(floor).map_or(self.payload_total, Kept::payload_before);
        Held { events: self.head + 1 - floor, payload_bytes: self.payload_total - before }
    }

    /// Who holds what; absent where nothing is held.
    pub fn holds_mut(&mut self) -> Option<&mut Holds> {
        self.holds.as_mut()
    }

    /// The same, to look at.
    pub fn holds(&self) -> Option<&Holds> {
        self.holds.as_ref()
    }

    /// How it stands with the room for more, of which payloads are only a part.
    pub fn room(&self) -> Room {
        let Held { events, payload_bytes } = self.held();
        let (most_events, most_bytes) = (self.limits.events as u64, self.limits.payload_bytes);
        // One more read must find room: else what it brings would push out what is held.
        let no_read = payload_bytes > 0 && payload_bytes + u64::from(READ_SIZE) > most_bytes;
        if events >= most_events {
            Room::Nothing
        } else if no_read || events * 4 > most_events * 3 {
            Room::NoPayloads
        } else if events * 2 <= most_events && (payload_bytes * 2 <= most_bytes || payload_bytes == 0) {
            Room::Plenty
        } else {
            Room::Some
        }
    }

    /// How many reads find room, one after the other; one at the least, of which [`room`](Self::room) tells.
    pub fn reads(&self) -> usize {
        let held = self.held();
        let bytes = self.limits.payload_bytes.saturating_sub(held.payload_bytes) / u64::from(READ_SIZE);
        // Each may bring two events: a datagram, and what was dropped before it.
        let events = (self.limits.events as u64 * 3 / 4).saturating_sub(held.events) / 2;
        usize::try_from(bytes.min(events)).unwrap_or(usize::MAX).max(1)
    }

    /// The place before the oldest record that is kept.
    pub fn start(&self) -> Position {
        match self.finals.front().or_else(|| self.recent.front()) {
            Some(kept) => Position { seq: kept.record.seq - 1, payload: Some(kept.payload_before()) },
            None => self.end(),
        }
    }

    /// The place after the newest record.
    pub fn end(&self) -> Position {
        Position { seq: self.head, payload: Some(self.payload_total) }
    }

    /// The place after the record of this number, which must not be above `head()`.
    pub fn after(&self, seq: u64) -> Position {
        let payload = match seq {
            0 => Some(0),
            _ if seq == self.head => Some(self.payload_total),
            _ => self
                .get_kept(seq)
                .map(|kept| kept.payload_through)
                .or_else(|| self.get_kept(seq + 1).map(Kept::payload_before)),
        };
        Position { seq, payload }
    }

    /// The record of this number, if it is kept.
    pub fn get(&self, seq: u64) -> Option<&Arc<EventRecord>> {
        self.get_kept(seq).map(|kept| &kept.record)
    }

    fn get_kept(&self, seq: u64) -> Option<&Kept> {
        let first = self.first_after(seq.checked_sub(1)?)?;
        (first.record.seq == seq).then_some(first)
    }

    /// The oldest kept record above this number.
    fn first_after(&self, seq: u64) -> Option<&Kept> {
        let recent_from = self.recent.front()?.record.seq;
        if seq + 1 >= recent_from {
            return self.recent.get(usize::try_from(seq + 1 - recent_from).ok()?);
        }
        let at = self.finals.partition_point(|kept| kept.record.seq <= seq);
        self.finals.get(at).or_else(|| self.recent.front())
    }

    /// Reads on from `position`, and moves it over what was found.
    pub fn read(&self, position: &mut Position, filter: &EventFilter, portion: Portion) -> Found {
        let Some(first) = self.first_after(position.seq) else { return Found::Nothing };
        if first.record.seq > position.seq + 1 {
            let before = first.payload_before();
            let gap = Gap {
                first: position.seq + 1,
                last: first.record.seq - 1,
                payload_bytes: position.payload.map(|known| before - known),
            };
            *position = Position { seq: gap.last, payload: Some(before) };
            return Found::Gap(gap);
        }
        let mut records = Vec::new();
        let mut payload = 0;
        for _ in 0..SCAN {
            let Some(kept) = self.first_after(position.seq) else { break };
            if kept.record.seq != position.seq + 1 {
                break;
            }
            if filter.wants(&kept.record) {
                payload += kept.record.event.payload().map_or(0, bytes::Bytes::len);
                if records.len() == portion.records || (payload > portion.payload_bytes && !records.is_empty()) {
                    break;
                }
                records.push(Arc::clone(&kept.record));
            }
            *position = Position { seq: kept.record.seq, payload: Some(kept.payload_through) };
        }
        Found::Records(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::Event;
    use crate::model::id::{SocketId, SocketUid};
    use crate::model::time::Timestamp;
    use bytes::Bytes;
    use proptest::prelude::*;

    const ALL: Portion = Portion { records: 100, payload_bytes: usize::MAX };

    fn record(seq: u64, event: Event) -> Arc<EventRecord> {
        Arc::new(EventRecord { seq, time: Timestamp::default(), socket: None, request: None, event })
    }

    fn received(size: usize) -> Event {
        Event::Received { offset: 0, payload: Bytes::from(vec![0; size]) }
    }

    fn ring(events: usize, payload_bytes: u64, final_events: usize) -> Ring {
        Ring::new(RingLimits { events, payload_bytes, final_events })
    }

    fn fill(ring: &mut Ring, events: impl IntoIterator<Item = Event>) {
        for event in events {
            ring.push(record(ring.head() + 1, event));
        }
    }

    fn seqs(found: Found) -> Vec<u64> {
        match found {
            Found::Records(records) => records.iter().map(|r| r.seq).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn gap(found: Found) -> Gap {
        match found {
            Found::Gap(gap) => gap,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_reader_gets_everything_in_order_then_nothing() {
        let mut ring = ring(10, 1000, 2);
        let mut position = ring.start();
        assert!(matches!(ring.read(&mut position, &EventFilter::default(), ALL), Found::Nothing));
        fill(&mut ring, [Event::Writable, received(3), Event::Writable]);
        assert_eq!(seqs(ring.read(&mut position, &EventFilter::default(), ALL)), [1, 2, 3]);
        assert!(matches!(ring.read(&mut position, &EventFilter::default(), ALL), Found::Nothing));
    }

    #[test]
    fn a_late_reader_is_told_what_it_missed_and_how_much() {
        let mut ring = ring(2, 1000, 0);
        let mut position = ring.after(0);
        fill(&mut ring, [received(5), received(7), Event::Writable, received(1)]);
        assert_eq!(
            gap(ring.read(&mut position, &EventFilter::default(), ALL)),
            Gap { first: 1, last: 2, payload_bytes: Some(12) }
        );
        assert_eq!(seqs(ring.read(&mut position, &EventFilter::default(), ALL)), [3, 4]);
        let mut resumed = ring.after(1);
        assert_eq!(
            gap(ring.read(&mut resumed, &EventFilter::default(), ALL)),
            Gap { first: 2, last: 2, payload_bytes: None }
        );
        let mut just_before = ring.after(2);
        assert_eq!(seqs(ring.read(&mut just_before, &EventFilter::default(), ALL)), [3, 4]);
    }

    #[test]
    fn payload_bytes_bound_the_log_but_never_the_newest_record() {
        let mut ring = ring(10, 10, 0);
        fill(&mut ring, [received(4), received(4), received(4)]);
        assert_eq!(ring.oldest(), 2);
        fill(&mut ring, [received(100)]);
        assert_eq!((ring.oldest(), ring.head()), (4, 4));
    }

    #[test]
    fn what_ends_something_stays_longer_with_gaps_around_it() {
        let mut ring = ring(2, 1000, 1);
        fill(&mut ring, [Event::Aborted, received(1), Event::Aborted, received(1), received(1), received(1)]);
        let mut position = ring.after(0);
        let filter = EventFilter::default();
        assert_eq!(gap(ring.read(&mut position, &filter, ALL)), Gap { first: 1, last: 2, payload_bytes: Some(1) });
        assert_eq!(seqs(ring.read(&mut position, &filter, ALL)), [3]);
        assert_eq!(gap(ring.read(&mut position, &filter, ALL)), Gap { first: 4, last: 4, payload_bytes: Some(1) });
        assert_eq!(seqs(ring.read(&mut position, &filter, ALL)), [5, 6]);
        assert!(ring.get(3).is_some() && ring.get(1).is_none() && ring.get(4).is_none() && ring.get(7).is_none());
    }

    #[test]
    fn a_portion_bounds_records_and_bytes() {
        let mut ring = ring(10, 1000, 0);
        fill(&mut ring, [received(10), received(10), received(10), Event::Writable]);
        let mut position = ring.start();
        let portion = |records, payload_bytes| Portion { records, payload_bytes };
        let filter = EventFilter::default();
        assert_eq!(seqs(ring.read(&mut position, &filter, portion(9, 5))), [1]);
        assert_eq!(seqs(ring.read(&mut position, &filter, portion(9, 20))), [2, 3, 4]);
        position = ring.start();
        assert_eq!(seqs(ring.read(&mut position, &filter, portion(2, 500))), [1, 2]);
    }

    /// As many as there are said to be push out nothing that is held, however large they are.
    #[test]
    fn reads_that_find_room_push_nothing_out() {
        for (events, payload_bytes) in [(4, 1), (16, 1 << 20), (1000, 300_000)] {
            let mut ring = Ring::lossless(RingLimits { events, payload_bytes, final_events: 0 });
            // Of a socket, so that its payloads are held until they are taken.
            let mut push = |event: Event| {
                let record =
                    EventRecord { socket: Some((SocketId::minted(1), SocketUid(1))), ..(*record(1, event)).clone() };
                ring.push(Arc::new(EventRecord { seq: ring.head() + 1, ..record }));
                (ring.oldest(), ring.room(), ring.reads())
            };
            let (_, mut room, mut reads) = push(received(1));
            while room > Room::NoPayloads {
                for _ in 0..reads {
                    push(Event::Writable);
                    let (oldest, ..) = push(received(READ_SIZE as usize));
                    assert_eq!(oldest, 1);
                }
                (_, room, reads) = push(Event::Writable);
            }
        }
    }

    proptest! {
        /// Whatever is appended and however it is read: no number twice, none skipped without a gap, payload accounted for.
        #[test]
        fn readers_see_everything_or_a_gap(
            steps in prop::collection::vec((0usize..3, 0usize..20), 0..200),
            events in 1usize..8, payload_bytes in 0u64..60, final_events in 0usize..4, records in 1usize..5,
        ) {
            let mut ring = ring(events, payload_bytes, final_events);
            let mut position = ring.after(0);
            let (mut next, mut seen_payload, mut all_payload) = (1, 0, 0);
            let mut read = |ring: &Ring, position: &mut Position| {
                match ring.read(position, &EventFilter::default(), Portion { records, payload_bytes: 30 }) {
                    Found::Nothing => assert_eq!(next, ring.head() + 1),
                    Found::Gap(gap) => {
                        assert_eq!(gap.first, next);
                        assert!(gap.last >= gap.first && gap.last < ring.head());
                        seen_payload += gap.payload_bytes.unwrap();
                        next = gap.last + 1;
                    }
                    Found::Records(found) => {
                        assert!(!found.is_empty() && found.len() <= records);
                        for record in found {
                            assert_eq!(record.seq, next);
                            seen_payload += payload_len(&record);
                            next += 1;
                        }
                    }
                }
                assert_eq!(position.seq, next - 1);
                next > ring.head()
            };
            for (what, size) in steps {
                match what {
                    0 => { read(&ring, &mut position); }
                    1 => fill(&mut ring, [Event::Aborted]),
                    _ => { all_payload += size as u64; fill(&mut ring, [received(size)]); }
                }
                prop_assert!(ring.recent.len() <= events && ring.finals.len() <= final_events);
                prop_assert!(ring.recent.len() == usize::from(ring.head() > 0) || ring.recent_payload() <= payload_bytes);
            }
            while !read(&ring, &mut position) {}
            prop_assert_eq!(seen_payload, all_payload);
        }
    }
}
