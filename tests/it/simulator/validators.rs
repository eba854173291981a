//! What every watcher is promised, each promise as a check of its own: those that etcd holds its watches to.
//! <https://etcd.io/docs/latest/learning/api_guarantees/#watch-apis>

use std::collections::BTreeSet;

use super::history::{Fact, History, Seen};

/// Finds what breaks a promise, given what really happened.
pub type Validator = fn(&[Fact], &History) -> Result<(), String>;

/// All promises, by name.
pub const VALIDATORS: [(&str, Validator); 6] = [
    ("ordered", ordered),
    ("unique", unique),
    ("reliable", reliable),
    ("atomic", atomic),
    ("resumable", resumable),
    ("bookmarkable", bookmarkable),
];

/// The names of the promises that a history breaks, and how.
pub fn broken(facts: &[Fact], history: &History) -> Vec<(&'static str, String)> {
    VALIDATORS.iter().filter_map(|(name, check)| check(facts, history).err().map(|how| (*name, how))).collect()
}

fn ensure(holds: bool, how: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(how()) }
}

/// The numbers that something tells of.
fn told(seen: &Seen) -> Option<(u64, u64)> {
    match seen {
        Seen::Batch { from, through, .. } => Some((*from, *through)),
        Seen::Gap { first, last } => Some((*first, *last)),
        Seen::Opened { .. } | Seen::Bookmark { .. } => None,
    }
}

/// Events come in the order of their numbers, which is the order of their times.
fn ordered(_: &[Fact], history: &History) -> Result<(), String> {
    let mut last = None;
    for seen in &history.seen {
        let Seen::Batch { records, .. } = seen else { continue };
        for record in records {
            let this = (record.seq, record.time);
            ensure(last.is_none_or(|(seq, time)| seq <= this.0 && time <= this.1), || {
                format!("{this:?} after {last:?}")
            })?;
            last = Some(this);
        }
    }
    Ok(())
}

/// No number is told twice, neither as an event nor as missing.
fn unique(_: &[Fact], history: &History) -> Result<(), String> {
    let mut events = BTreeSet::new();
    let mut missing: Vec<(u64, u64)> = Vec::new();
    for seen in &history.seen {
        match seen {
            Seen::Batch { records, .. } => {
                for record in records {
                    ensure(events.insert(record.seq), || format!("{} came twice", record.seq))?;
                }
            }
            Seen::Gap { first, last } => {
                let again = missing.iter().any(|(from, to)| first <= to && from <= last);
                ensure(!again, || format!("{first}..={last} was told to be missing before"))?;
                missing.push((*first, *last));
            }
            Seen::Opened { .. } | Seen::Bookmark { .. } => {}
        }
    }
    let both = missing.iter().find_map(|(first, last)| events.range(*first..=*last).next());
    ensure(both.is_none(), || format!("{both:?} came, and was told to be missing"))
}

/// Between the first and the last number that is told, everything that the watcher wants has come, or was told to be missing; where it is
/// held for the watcher, it has come.
fn reliable(facts: &[Fact], history: &History) -> Result<(), String> {
    let ranges: Vec<(u64, u64)> = history.seen.iter().filter_map(told).collect();
    let (Some(begin), Some(end)) = (ranges.iter().map(|range| range.0).min(), ranges.iter().map(|range| range.1).max())
    else {
        return Ok(());
    };
    let mut settled = BTreeSet::new();
    for seen in &history.seen {
        match seen {
            Seen::Batch { records, .. } => settled.extend(records.iter().map(|record| record.seq)),
            Seen::Gap { first, last } => {
                let held = history.held_from.filter(|from| last >= from);
                ensure(held.is_none(), || format!("{first}..={last} is gone, and was held from {held:?} on"))?;
                settled.extend(*first..=*last);
            }
            Seen::Opened { .. } | Seen::Bookmark { .. } => {}
        }
    }
    for fact in facts.iter().filter(|fact| (begin..=end).contains(&fact.record.seq)) {
        let seq = fact.record.seq;
        ensure(settled.contains(&seq) || !history.wanted.wants(&fact.record), || format!("{seq} has not come"))?;
    }
    Ok(())
}

/// A batch is whole: it has all that is wanted of its range, as it happened, and nothing else; and what was appended together stands
/// together, at one moment.
fn atomic(facts: &[Fact], history: &History) -> Result<(), String> {
    let at = |seq: u64| facts.get(usize::try_from(seq).unwrap().wrapping_sub(1));
    for seen in &history.seen {
        let Seen::Batch { from, through, records } = seen else { continue };
        let mut records = records.iter();
        for seq in *from..=*through {
            let fact = at(seq).ok_or_else(|| format!("{seq} has never happened"))?;
            if history.wanted.wants(&fact.record) {
                let record = records.next();
                ensure(record == Some(&fact.record), || format!("{seq} of {from}..={through} is not what it was"))?;
            }
        }
        let more = records.next();
        ensure(more.is_none(), || format!("{from}..={through} has {more:?}, too"))?;
    }
    for pair in facts.windows(2) {
        let [one, next] = pair else { continue };
        let same_moment = one.piece != next.piece || one.record.time == next.record.time;
        ensure(same_moment && one.piece <= next.piece, || {
            format!("{} and {} were one piece", one.record.seq, next.record.seq)
        })?;
    }
    Ok(())
}

/// A stream begins where it was asked to, and goes on from there without a hole; who comes back goes on where it was.
fn resumable(_: &[Fact], history: &History) -> Result<(), String> {
    // The number that must be told next, and the one that was told last or need not be told.
    let (mut next, mut last): (Option<u64>, Option<u64>) = (None, None);
    let (mut latest, mut begun) = (0, false);
    for seen in &history.seen {
        match seen {
            Seen::Opened { after, oldest } => {
                if let (Some(after), Some(last)) = (after, last) {
                    let goes_on = if begun { *after == last } else { *after <= last };
                    ensure(goes_on, || format!("{last} was told, and it went on after {after}"))?;
                }
                next = after.map(|after| after + 1);
                latest = if next.is_none() { *oldest } else { 0 };
                last = last.or(*after).or_else(|| oldest.checked_sub(1));
            }
            _ => {
                let Some((first, through)) = told(seen) else { continue };
                ensure(next.is_none_or(|next| first == next), || format!("{first} was told, and {next:?} was due"))?;
                ensure(latest == 0 || first <= latest, || format!("{latest} was kept, and it began with {first}"))?;
                (next, last, latest, begun) = (Some(through + 1), Some(through), 0, true);
            }
        }
    }
    Ok(())
}

/// After a bookmark, nothing comes that it covers; and before it, all of that has come.
fn bookmarkable(facts: &[Fact], history: &History) -> Result<(), String> {
    let (mut bookmark, mut through, mut begun) = (0, 0, None);
    for seen in &history.seen {
        match seen {
            Seen::Bookmark { through: marked } => {
                ensure(*marked <= facts.len() as u64, || format!("{marked} has not happened yet"))?;
                let mut passed = facts.iter().skip(usize::try_from(through.max(begun.unwrap_or(*marked))).unwrap());
                let passed = passed.find(|fact| fact.record.seq <= *marked && history.wanted.wants(&fact.record));
                ensure(passed.is_none(), || format!("a bookmark at {marked}, and {passed:?} has not come"))?;
                bookmark = bookmark.max(*marked);
            }
            // What one stream has looked at and not told, the next one looks at again.
            Seen::Opened { after, oldest } => {
                (bookmark, begun) = (0, after.or(begun).or_else(|| oldest.checked_sub(1)))
            }
            _ => {
                let Some((_, last)) = told(seen) else { continue };
                let records: &[_] = if let Seen::Batch { records, .. } = seen { records } else { &[] };
                let late = records.iter().find(|record| record.seq <= bookmark);
                ensure(late.is_none(), || format!("{late:?} came after a bookmark at {bookmark}"))?;
                through = last;
            }
        }
    }
    Ok(())
}

mod tests {
    use std::sync::Arc;

    use farsock::model::event::{Event, EventFilter, EventRecord};
    use farsock::model::id::{SocketId, SocketUid};
    use farsock::model::time::Timestamp;

    use super::super::history::{Fact, History, Seen};
    use super::{VALIDATORS, broken};

    fn record(seq: u64, time: i64, event: Event) -> Arc<EventRecord> {
        let socket = Some((SocketId::parse("s").unwrap(), SocketUid(1)));
        Arc::new(EventRecord { seq, time: Timestamp::from_nanos(time), socket, request: None, event })
    }

    /// Ten events, of which the sixth and seventh are one piece and the eighth is one that the watcher does not want.
    fn facts() -> Vec<Fact> {
        let event = |seq| if seq == 8 { Event::Writable } else { Event::Aborted };
        let piece = |seq| if seq == 7 { 6 } else { seq };
        (1..=10)
            .map(|seq| Fact { record: record(seq, piece(seq).try_into().unwrap(), event(seq)), piece: piece(seq) })
            .collect()
    }

    fn batch(facts: &[Fact], from: u64, through: u64) -> Seen {
        let range = usize::try_from(from - 1).unwrap()..usize::try_from(through).unwrap();
        let wanted = facts[range].iter().map(|fact| &fact.record).filter(|record| record.event == Event::Aborted);
        Seen::Batch { from, through, records: wanted.cloned().collect() }
    }

    /// A watcher that misses the first two, is cut off twice, and has seen everything in the end.
    fn history(facts: &[Fact]) -> History {
        let seen = vec![
            Seen::Opened { after: Some(0), oldest: 3 },
            Seen::Gap { first: 1, last: 2 },
            batch(facts, 3, 4),
            Seen::Bookmark { through: 4 },
            Seen::Opened { after: Some(4), oldest: 3 },
            Seen::Opened { after: Some(4), oldest: 3 },
            batch(facts, 5, 7),
            Seen::Bookmark { through: 8 },
            batch(facts, 8, 10),
        ];
        let wanted = EventFilter { kinds: vec!["aborted"], ..EventFilter::default() };
        History { wanted, held_from: Some(3), seen }
    }

    #[test]
    fn a_history_that_keeps_all_promises_passes() {
        let facts = facts();
        assert_eq!(broken(&facts, &history(&facts)), []);
    }

    /// Each promise is broken once, and the check of that name finds it.
    #[test]
    fn every_broken_promise_is_found() {
        type Break = fn(&mut Vec<Fact>, &mut History);
        fn records(history: &mut History, at: usize) -> &mut Vec<Arc<EventRecord>> {
            let Seen::Batch { records, .. } = &mut history.seen[at] else { panic!("{at}") };
            records
        }
        let breaks: &[(&str, Break)] = &[
            ("ordered", |_, history| records(history, 2).swap(0, 1)),
            ("ordered", |_, history| records(history, 8)[0] = record(9, 3, Event::Aborted)),
            ("unique", |_, history| {
                let again = records(history, 2)[1].clone();
                records(history, 6).insert(0, again);
            }),
            ("unique", |_, history| history.seen[1] = Seen::Gap { first: 1, last: 3 }),
            ("unique", |_, history| history.seen.push(Seen::Gap { first: 1, last: 1 })),
            ("reliable", |_, history| {
                records(history, 6).remove(1);
            }),
            ("reliable", |_, history| {
                history.seen.remove(6);
            }),
            ("reliable", |_, history| history.held_from = Some(2)),
            ("atomic", |_, history| {
                records(history, 6).pop();
            }),
            ("atomic", |_, history| records(history, 6)[0] = record(5, 5, Event::Writable)),
            ("atomic", |facts, history| {
                let extra = facts[7].record.clone();
                records(history, 8).insert(0, extra);
            }),
            ("atomic", |facts, _| facts[6].record = record(7, 7, Event::Aborted)),
            ("resumable", |facts, history| history.seen[6] = batch(facts, 6, 7)),
            ("resumable", |_, history| history.seen[4] = Seen::Opened { after: Some(3), oldest: 3 }),
            ("resumable", |_, history| {
                history.seen[0] = Seen::Opened { after: None, oldest: 2 };
                history.seen.remove(1);
            }),
            ("resumable", |facts, history| {
                history.seen.splice(0..4, [Seen::Opened { after: None, oldest: 4 }]);
                history.seen[1] = Seen::Opened { after: Some(4), oldest: 3 };
                history.seen[3] = batch(facts, 5, 7);
            }),
            ("bookmarkable", |_, history| history.seen[3] = Seen::Bookmark { through: 5 }),
            ("bookmarkable", |_, history| history.seen[7] = Seen::Bookmark { through: 11 }),
            ("bookmarkable", |facts, history| {
                history.seen.insert(2, Seen::Bookmark { through: 4 });
                history.seen[3] = batch(facts, 3, 4);
            }),
        ];
        for (number, (name, change)) in breaks.iter().enumerate() {
            let mut facts = facts();
            let mut history = history(&facts);
            change(&mut facts, &mut history);
            let found = broken(&facts, &history);
            assert!(found.iter().any(|(by, _)| by == name), "{number}: `{name}` has not found it: {found:?}");
        }
        for (name, _) in VALIDATORS {
            assert!(breaks.iter().any(|(broken, _)| *broken == name), "`{name}` is never broken");
        }
    }
}
