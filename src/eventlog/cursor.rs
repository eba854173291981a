//! A reader's place in a log.
//!
//! Invariant: ranges follow each other without holes. A reader sees every record after its place that its filter wants, or a gap.

use std::pin::pin;
use std::sync::Arc;

use tokio::task::yield_now;

use crate::eventlog::hub::Hub;
use crate::eventlog::ring::{Found, Portion, Position};
use crate::model::event::{EventFilter, EventRecord, Gap};

/// How much one batch carries: enough to fill a large HTTP/2 frame, little enough to stay under every client's message limit also
/// when payloads are shown in hex.
const BATCH: Portion = Portion { records: 512, payload_bytes: 256 * 1024 };

/// What comes next.
#[derive(Debug)]
pub enum Next {
    /// All records of a range that the filter wants.
    Batch {
        /// The first number of the range.
        from: u64,
        /// The last number of the range.
        through: u64,
        /// The records.
        records: Vec<Arc<EventRecord>>,
    },
    /// Records that are gone.
    Gap(Gap),
    /// Nothing more will come.
    Ended,
}

/// A reader's place in a log, with its filter.
pub struct Cursor {
    hub: Arc<Hub>,
    position: Position,
    /// Everything through this number has been handed to the reader, as records or as a gap.
    told: u64,
    filter: EventFilter,
    portion: Portion,
    /// A gap that was found behind records that had to be told first.
    pending_gap: Option<Gap>,
}

impl Cursor {
    pub(super) fn new(hub: Arc<Hub>, position: Position, filter: EventFilter) -> Self {
        Self { hub, position, told: position.seq, filter, portion: BATCH, pending_gap: None }
    }

    /// The same reader, taking at most so many records at a time.
    #[must_use]
    pub fn at_most(mut self, records: usize) -> Self {
        self.portion.records = records.clamp(1, BATCH.records);
        self
    }

    /// Everything through this number has been looked at.
    pub fn through(&self) -> u64 {
        self.position.seq
    }

    /// What comes next, once there is something.
    ///
    /// Safe to drop while it waits: nothing is lost.
    pub async fn next(&mut self) -> Next {
        loop {
            if let Some(next) = self.next_or_wait().await {
                return next;
            }
        }
    }

    /// The same for a reader to whom each batch costs more than its events. When it has waited, everybody who is ready goes first, once:
    /// what they append comes in the same batch. Nothing is waited for that is not on its way already.
    pub async fn next_batch(&mut self) -> Next {
        loop {
            if let Some(next) = self.next_or_wait().await {
                return next;
            }
            yield_now().await;
        }
    }

    /// What comes next; nothing when there was nothing, and now there may be.
    async fn next_or_wait(&mut self) -> Option<Next> {
        let hub = Arc::clone(&self.hub);
        let mut changed = pin!(hub.changed());
        // Registered before the look, so that what is appended after the look is not missed.
        changed.as_mut().enable();
        let next = self.try_next();
        if next.is_none() {
            changed.await;
        }
        next
    }

    /// What comes next, if there is something.
    pub fn try_next(&mut self) -> Option<Next> {
        if let Some(gap) = self.pending_gap.take() {
            return Some(self.tell_gap(gap));
        }
        loop {
            let hub = Arc::clone(&self.hub);
            let (found, ended) =
                hub.read(|ring, ended| (ring.read(&mut self.position, &self.filter, self.portion), ended));
            match found {
                Found::Nothing if ended => return Some(Next::Ended),
                Found::Nothing => return None,
                Found::Gap(gap) if gap.first > self.told + 1 => {
                    self.pending_gap = Some(gap);
                    return Some(self.tell_batch(gap.first - 1, Vec::new()));
                }
                Found::Gap(gap) => return Some(self.tell_gap(gap)),
                // Nothing that the filter wants: look on, and tell about the range together with what comes.
                Found::Records(records) if records.is_empty() => {}
                Found::Records(records) => return Some(self.tell_batch(self.position.seq, records)),
            }
        }
    }

    fn tell_batch(&mut self, through: u64, records: Vec<Arc<EventRecord>>) -> Next {
        let from = self.told + 1;
        self.told = through;
        Next::Batch { from, through, records }
    }

    fn tell_gap(&mut self, gap: Gap) -> Next {
        self.told = gap.last;
        Next::Gap(gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventlog::hub::From;
    use crate::eventlog::ring::{Ring, RingLimits};
    use crate::model::event::Event;
    use crate::model::time::{Clock, Timestamp};
    use futures_util::FutureExt;

    struct Still;

    impl Clock for Still {
        fn now(&self) -> Timestamp {
            Timestamp::default()
        }

        fn at_realtime(&self, nanos: i64) -> Timestamp {
            Timestamp::from_nanos(nanos)
        }
    }

    fn hub(events: usize) -> Arc<Hub> {
        let limits = RingLimits { events, payload_bytes: 1 << 20, final_events: 0 };
        Hub::new(Ring::new(limits), Arc::new(Still))
    }

    fn push(hub: &Hub, event: Event) {
        hub.append(|log| log.push(None, None, event));
    }

    fn only(kind: &'static str) -> EventFilter {
        EventFilter { kinds: vec![kind], ..EventFilter::default() }
    }

    /// `from..=through [numbers]`, `gap first..=last`, or `ended`.
    fn show(next: Next) -> String {
        match next {
            Next::Batch { from, through, records } => {
                format!("{from}..={through} {:?}", records.iter().map(|r| r.seq).collect::<Vec<_>>())
            }
            Next::Gap(gap) => format!("gap {}..={}", gap.first, gap.last),
            Next::Ended => "ended".to_owned(),
        }
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken() {
        let hub = hub(10);
        let mut cursor = hub.cursor(From::Oldest, EventFilter::default()).unwrap();
        let mut waiting = Box::pin(cursor.next());
        assert!(waiting.as_mut().now_or_never().is_none());
        push(&hub, Event::Writable);
        assert_eq!(show(waiting.await), "1..=1 [1]");
    }

    #[tokio::test]
    async fn what_others_are_about_to_append_comes_in_the_same_batch() {
        let hub = hub(10);
        let read = |batches: bool| {
            let mut cursor = hub.cursor(From::Now, EventFilter::default()).unwrap();
            let reader = async move { if batches { cursor.next_batch().await } else { cursor.next().await } };
            tokio::spawn(async { show(reader.await) })
        };
        let (alone, batch) = (read(false), read(true));
        yield_now().await;
        push(&hub, Event::Writable);
        // Ready to run behind both readers.
        let other = Arc::clone(&hub);
        tokio::spawn(async move { push(&other, Event::Aborted) });
        assert_eq!(alone.await.unwrap(), "1..=1 [1]");
        assert_eq!(batch.await.unwrap(), "1..=2 [1, 2]");
    }

    #[tokio::test]
    async fn a_filter_hides_no_hole() {
        let hub = hub(3);
        let mut cursor = hub.cursor(From::After(0), only("aborted")).unwrap();
        push(&hub, Event::Writable);
        push(&hub, Event::Writable);
        assert!(cursor.try_next().is_none());
        push(&hub, Event::Aborted);
        assert_eq!(show(cursor.next().await), "1..=3 [3]");
        push(&hub, Event::Writable);
        assert!(cursor.try_next().is_none());
        for _ in 0..4 {
            push(&hub, Event::Writable);
        }
        // 4 was looked at and not wanted; 5 went by unseen.
        assert_eq!(show(cursor.next().await), "4..=4 []");
        assert_eq!(show(cursor.next().await), "gap 5..=5");
        assert!(cursor.try_next().is_none());
        push(&hub, Event::Aborted);
        assert_eq!(show(cursor.next().await), "6..=9 [9]");
    }

    #[tokio::test]
    async fn readers_begin_where_they_want_to() {
        let hub = hub(2);
        for _ in 0..4 {
            push(&hub, Event::Writable);
        }
        let next = |from| show(hub.cursor(from, EventFilter::default()).unwrap().try_next().unwrap());
        assert_eq!(next(From::Oldest), "3..=4 [3, 4]");
        assert_eq!(next(From::After(3)), "4..=4 [4]");
        assert_eq!(next(From::After(0)), "gap 1..=2");
        assert!(hub.cursor(From::Now, EventFilter::default()).unwrap().try_next().is_none());
        assert!(hub.cursor(From::After(4), EventFilter::default()).is_ok());
        let future = hub.cursor(From::After(5), EventFilter::default()).err();
        assert_eq!(future, Some(crate::model::refusal::Refusal::FutureEvent { head: 4 }));
    }

    #[tokio::test]
    async fn an_ended_log_is_read_to_its_end() {
        let hub = hub(10);
        push(&hub, Event::Writable);
        hub.end();
        let mut cursor = hub.cursor(From::Oldest, EventFilter::default()).unwrap();
        assert_eq!(show(cursor.next().await), "1..=1 [1]");
        assert_eq!(show(cursor.next().await), "ended");
        assert_eq!(show(cursor.next().await), "ended");
    }

    #[tokio::test]
    async fn watchers_are_counted_while_they_watch() {
        let hub = hub(1);
        let first = hub.watch(2).unwrap();
        let _second = hub.watch(2).unwrap();
        assert!(hub.watch(2).is_err());
        drop(first);
        assert_eq!(hub.watcher_count(), 1);
        assert!(hub.watch(2).is_ok());
    }
}
