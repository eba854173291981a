//! What a lossless log may not let go of yet.
//!
//! Invariant: what is held is the end of the log, from one number on, and that number never goes back. Without a named watcher, payloads are
//! held until somebody has taken them; from the first one on, everything is held that not all of them have acknowledged. A record without
//! payload is held only as long as an older one is.

use std::collections::{BTreeMap, HashMap};

use crate::model::event::EventRecord;
use crate::model::id::{SocketUid, WatcherId};

/// How much of a log is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Records.
    pub events: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
}

/// How far a named watcher has come.
#[derive(Debug, Clone, Copy)]
struct Watching {
    /// It holds what comes after this number.
    released: u64,
    /// It has said so.
    acknowledged: bool,
}

/// Who holds what.
#[derive(Debug, Default)]
pub struct Holds {
    head: u64,
    /// The named watchers.
    watchers: BTreeMap<WatcherId, Watching>,
    /// Payloads that nobody has taken, and whose they are. Only while there is no named watcher.
    untaken: BTreeMap<u64, SocketUid>,
    /// How many of them each socket has.
    untaken_of: HashMap<SocketUid, u32>,
}

impl Holds {
    /// The oldest number that is held: everything before it may go.
    pub fn floor(&self) -> u64 {
        let acknowledged = self.watchers.values().map(|watching| watching.released + 1).min();
        acknowledged.or_else(|| self.untaken.keys().next().copied()).unwrap_or(self.head + 1)
    }

    /// Takes up the next record.
    pub(super) fn add(&mut self, record: &EventRecord) {
        self.head = record.seq;
        if let (true, Some((_, uid)), Some(_)) = (self.watchers.is_empty(), &record.socket, record.event.payload()) {
            self.untaken.insert(record.seq, *uid);
            *self.untaken_of.entry(*uid).or_default() += 1;
        }
    }

    /// Somebody has taken the payload of this record.
    pub fn take(&mut self, seq: u64) {
        if let Some(uid) = self.untaken.remove(&seq)
            && let Some(left) = self.untaken_of.get_mut(&uid)
        {
            *left -= 1;
            if *left == 0 {
                self.untaken_of.remove(&uid);
            }
        }
    }

    /// Nobody can take the payloads of this socket any more.
    pub fn give_up(&mut self, uid: SocketUid) {
        if self.untaken_of.remove(&uid).is_some() {
            self.untaken.retain(|_, owner| *owner != uid);
        }
    }

    /// Lets a watcher hold what it does not acknowledge, from what is held already on. Answers through where it has acknowledged.
    pub fn watch(&mut self, watcher: &WatcherId) -> Option<u64> {
        if let Some(known) = self.watchers.get(watcher) {
            return known.acknowledged.then_some(known.released);
        }
        let begun = Watching { released: self.floor() - 1, acknowledged: false };
        self.watchers.insert(watcher.clone(), begun);
        self.untaken = BTreeMap::new();
        self.untaken_of = HashMap::new();
        None
    }

    /// A watcher needs nothing through this number any more, which must not be above the newest. Answers through where it has acknowledged
    /// in all; nothing when there is no such watcher.
    pub fn acknowledge(&mut self, watcher: &WatcherId, through: u64) -> Option<u64> {
        let known = self.watchers.get_mut(watcher)?;
        *known = Watching { released: through.max(known.released), acknowledged: true };
        Some(known.released)
    }

    /// Whether there is a watcher of this name.
    pub fn knows(&self, watcher: &WatcherId) -> bool {
        self.watchers.contains_key(watcher)
    }

    /// The named watchers, and after which number each holds the log.
    pub fn watchers(&self) -> impl ExactSizeIterator<Item = (&WatcherId, u64)> {
        self.watchers.iter().map(|(watcher, known)| (watcher, known.released))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::Event;
    use crate::model::id::SocketId;
    use crate::model::time::Timestamp;
    use bytes::Bytes;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn record(seq: u64, uid: u64, payload: bool) -> EventRecord {
        let received = Event::Received { offset: 0, payload: Bytes::from_static(b"x") };
        EventRecord {
            seq,
            time: Timestamp::default(),
            socket: Some((SocketId::parse("a").unwrap(), SocketUid(uid))),
            request: None,
            event: if payload { received } else { Event::Writable },
        }
    }

    fn watcher(number: u64) -> WatcherId {
        WatcherId::parse(&format!("w{number}")).unwrap()
    }

    #[test]
    fn payloads_are_held_until_they_are_taken_or_their_socket_is_forgotten() {
        let mut holds = Holds::default();
        assert_eq!(holds.floor(), 1);
        for (seq, uid, payload) in [(1, 1, false), (2, 1, true), (3, 2, true), (4, 1, false), (5, 1, true)] {
            holds.add(&record(seq, uid, payload));
        }
        assert_eq!(holds.floor(), 2);
        holds.take(3);
        assert_eq!(holds.floor(), 2, "an older one is held");
        holds.take(2);
        assert_eq!(holds.floor(), 5);
        holds.give_up(SocketUid(1));
        assert_eq!(holds.floor(), 6, "nothing is held");
    }

    #[test]
    fn watchers_hold_what_not_all_of_them_have_acknowledged() {
        let mut holds = Holds::default();
        for seq in 1..=5 {
            holds.add(&record(seq, 1, seq == 3));
        }
        assert_eq!(holds.watch(&watcher(1)), None);
        assert_eq!(holds.floor(), 3, "from what is held on");
        holds.take(3);
        assert_eq!(holds.floor(), 3, "taking is not acknowledging");
        assert_eq!(holds.acknowledge(&watcher(1), 5), Some(5));
        assert_eq!(holds.watch(&watcher(2)), None);
        holds.add(&record(6, 1, false));
        assert_eq!(holds.acknowledge(&watcher(1), 6), Some(6));
        assert_eq!(holds.floor(), 6);
        assert_eq!(holds.acknowledge(&watcher(1), 2), Some(6), "an old acknowledgement takes nothing back");
        assert_eq!(holds.acknowledge(&watcher(3), 2), None);
        assert_eq!(holds.watch(&watcher(2)), None, "it comes back, and has acknowledged nothing");
        assert_eq!(holds.watch(&watcher(1)), Some(6));
    }

    proptest! {
        /// Beside a plain list of who wants what: the floor is the oldest that somebody wants, and never goes back.
        #[test]
        fn the_floor_is_the_oldest_that_somebody_wants(steps in prop::collection::vec((0u8..8, 0u64..40, 0u64..3), 0..120)) {
            let mut holds = Holds::default();
            let (mut head, mut before) = (0, 1);
            let (mut untaken, mut acknowledged) = (BTreeSet::new(), BTreeMap::<u64, u64>::new());
            for (what, number, uid) in steps {
                match what {
                    0..=2 => {
                        head += 1;
                        holds.add(&record(head, uid, what > 0));
                        if what > 0 && acknowledged.is_empty() { untaken.insert((head, uid)); }
                    }
                    3 => { holds.take(number); untaken.retain(|(seq, _)| *seq != number); }
                    4 => { holds.give_up(SocketUid(uid)); untaken.retain(|(_, owner)| *owner != uid); }
                    5 if head > 20 => {
                        let floor = holds.floor();
                        holds.watch(&watcher(number % 3));
                        acknowledged.entry(number % 3).or_insert(floor - 1);
                    }
                    _ => {
                        let through = number.min(head);
                        let known = acknowledged.get_mut(&(number % 3)).map(|at| { *at = through.max(*at); *at });
                        prop_assert_eq!(holds.acknowledge(&watcher(number % 3), through), known);
                    }
                }
                let wanted = match acknowledged.values().min() {
                    Some(least) => least + 1,
                    None => untaken.iter().map(|(seq, _)| *seq).min().unwrap_or(head + 1),
                };
                prop_assert_eq!(holds.floor(), wanted);
                prop_assert!(wanted >= before);
                before = wanted;
            }
        }
    }
}
