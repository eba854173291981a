//! Datagrams that carry their number: what comes of them tells loss, duplicates, reordering and jitter, and of those that come back, round trips.

use std::time::Duration;

use crate::model::address::Endpoint;
use crate::model::time::Timestamp;

/// How many bytes stand before the payload of a probe.
pub const HEADER: usize = 32;

/// How a probe begins.
const MARK: [u8; 8] = *b"farsock1";

/// How many senders are told apart. Probes of more of them count as other datagrams.
pub const MOST_SOURCES: usize = 64;

/// How far behind the highest number a probe is known again. What comes later than that is late, and may have come before.
const WINDOW: u64 = 64 * WORDS as u64;
const WORDS: usize = 16;

/// What a probe says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Which socket has sent it.
    pub sender: u64,
    /// The how manieth it is, from 1.
    pub number: u64,
    /// When it was handed to the kernel, on the sender's clock.
    pub sent: Timestamp,
}

impl Probe {
    /// Its header.
    pub fn header(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        let parts = [MARK, self.sender.to_be_bytes(), self.number.to_be_bytes(), self.sent.nanos().to_be_bytes()];
        for (room, part) in header.chunks_exact_mut(8).zip(parts) {
            room.copy_from_slice(&part);
        }
        header
    }

    /// Reads a header, where there is one.
    pub fn read(datagram: &[u8]) -> Option<Self> {
        let mut parts = datagram.get(..HEADER)?.chunks_exact(8).map(|part| <[u8; 8]>::try_from(part).ok());
        let mut part = || parts.next().flatten();
        (part()? == MARK).then_some(())?;
        Some(Self {
            sender: u64::from_be_bytes(part()?),
            number: u64::from_be_bytes(part()?),
            sent: Timestamp::from_nanos(i64::from_be_bytes(part()?)),
        })
    }
}

/// What has come of the probes of one sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeSource {
    /// Where its first one came from.
    pub source: Option<Endpoint>,
    /// The lowest number that has come.
    pub lowest: u64,
    /// The highest.
    pub highest: u64,
    /// Probes that have come, each counted once.
    pub received: u64,
    /// Probes that came again.
    pub duplicates: u64,
    /// Probes that came behind one with a higher number: RFC 4737.
    pub reordered: u64,
    /// How much the time on the way varies: RFC 3550, section 6.4.1.
    pub jitter: Duration,
    /// Of a socket's own probes, which somebody has sent back.
    pub round_trips: Option<RoundTrips>,
}

/// How long probes were under way, there and back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundTrips {
    /// The shortest time.
    pub least: Duration,
    /// The mean.
    pub mean: Duration,
    /// The longest.
    pub greatest: Duration,
}

impl ProbeSource {
    /// Those between the lowest and the highest number that have not come.
    pub const fn lost(&self) -> u64 {
        self.highest.saturating_sub(self.lowest).saturating_add(1).saturating_sub(self.received)
    }
}

/// What has come of the probes that one socket has received.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProbeReport {
    /// By sender, in the order in which they were first heard.
    pub sources: Vec<ProbeSource>,
    /// Datagrams that were none, or of too many senders.
    pub others: u64,
}

impl ProbeReport {
    /// A figure of all senders together.
    pub fn sum(&self, of: impl Fn(&ProbeSource) -> u64) -> u64 {
        self.sources.iter().map(of).sum()
    }
}

/// Counts them.
#[derive(Debug, Clone, Default)]
pub struct ProbeCounter {
    senders: Vec<Sender>,
    others: u64,
}

#[derive(Debug, Clone)]
struct Sender {
    id: u64,
    seen: ProbeSource,
    /// Which of the last numbers up to the highest have come.
    window: [u64; WORDS],
    /// How long the last one was under way, as the two clocks have it, in nanoseconds.
    transit: i64,
    /// Sixteen times the jitter, in nanoseconds.
    jitter: u64,
    /// The sum of the round trips, in nanoseconds.
    total: u128,
}

impl ProbeCounter {
    /// Takes a datagram that begins with these bytes. `own` is the number under which this socket sends its probes.
    pub fn count(&mut self, datagram: &[u8], own: u64, received: Timestamp, source: impl FnOnce() -> Option<Endpoint>) {
        let Some(probe) = Probe::read(datagram).filter(|probe| probe.number > 0) else {
            self.others += 1;
            return;
        };
        let known = self.senders.iter().position(|sender| sender.id == probe.sender);
        let at = match known {
            Some(at) => at,
            None if self.senders.len() >= MOST_SOURCES => {
                self.others += 1;
                return;
            }
            None => {
                self.senders.push(Sender::new(&probe, source()));
                self.senders.len() - 1
            }
        };
        self.senders[at].take(&probe, received, probe.sender == own, known.is_none());
    }

    /// What has come so far.
    pub fn report(&self) -> ProbeReport {
        let seen =
            |sender: &Sender| ProbeSource { jitter: Duration::from_nanos(sender.jitter / 16), ..sender.seen.clone() };
        ProbeReport { sources: self.senders.iter().map(seen).collect(), others: self.others }
    }
}

impl Sender {
    fn new(probe: &Probe, source: Option<Endpoint>) -> Self {
        let seen = ProbeSource {
            source,
            lowest: probe.number,
            highest: probe.number,
            received: 0,
            duplicates: 0,
            reordered: 0,
            jitter: Duration::ZERO,
            round_trips: None,
        };
        Self { id: probe.sender, seen, window: [0; WORDS], transit: 0, jitter: 0, total: 0 }
    }

    fn take(&mut self, probe: &Probe, received: Timestamp, own: bool, first: bool) {
        if self.is_known(probe.number) {
            self.seen.duplicates += 1;
            return;
        }
        self.seen.received += 1;
        self.seen.reordered += u64::from(probe.number < self.seen.highest);
        self.seen.lowest = self.seen.lowest.min(probe.number);
        self.advance(probe.number);
        let transit = received.nanos().saturating_sub(probe.sent.nanos());
        if !first {
            let step = transit.saturating_sub(self.transit).unsigned_abs();
            // J += (|D| - J) / 16, without losing what is less than a whole.
            self.jitter = (self.jitter - self.jitter / 16).saturating_add(step);
        }
        self.transit = transit;
        if own {
            self.came_back(Duration::from_nanos(u64::try_from(transit).unwrap_or(0)));
        }
    }

    /// Whether this number has come before. Of one that is too old to be known, nobody can tell.
    fn is_known(&self, number: u64) -> bool {
        let (word, bit) = place(number);
        number <= self.seen.highest && self.seen.highest - number < WINDOW && self.window[word] & bit != 0
    }

    fn advance(&mut self, number: u64) {
        if number > self.seen.highest {
            // The places of those in between were those of older ones.
            let from = (self.seen.highest + 1).max(number.saturating_sub(WINDOW - 1));
            for skipped in from..=number {
                let (word, bit) = place(skipped);
                self.window[word] &= !bit;
            }
            self.seen.highest = number;
        }
        if self.seen.highest - number < WINDOW {
            let (word, bit) = place(number);
            self.window[word] |= bit;
        }
    }

    fn came_back(&mut self, time: Duration) {
        self.total += time.as_nanos();
        let mean = self.total / u128::from(self.seen.received.max(1));
        let mean = Duration::from_nanos(u64::try_from(mean).unwrap_or(u64::MAX));
        let before = self.seen.round_trips.unwrap_or(RoundTrips { least: time, mean: time, greatest: time });
        self.seen.round_trips =
            Some(RoundTrips { least: before.least.min(time), mean, greatest: before.greatest.max(time) });
    }
}

/// The place of a number in the window.
fn place(number: u64) -> (usize, u64) {
    let at = number % WINDOW;
    (usize::try_from(at / 64).unwrap_or(0), 1 << (at % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn probe(sender: u64, number: u64, sent: i64) -> [u8; HEADER] {
        Probe { sender, number, sent: Timestamp::from_nanos(sent) }.header()
    }

    fn counted(probes: &[(u64, i64, i64)]) -> ProbeSource {
        let mut counter = ProbeCounter::default();
        for (number, sent, received) in probes {
            counter.count(&probe(7, *number, *sent), 7, Timestamp::from_nanos(*received), || None);
        }
        counter.report().sources.remove(0)
    }

    #[test]
    fn what_is_lost_doubled_or_out_of_order_is_counted() {
        let at = |number: u64| (number, 0, 0);
        let seen = counted(&[at(1), at(2), at(4), at(3), at(4), at(7), at(1)]);
        assert_eq!((seen.lowest, seen.highest, seen.received), (1, 7, 5));
        assert_eq!((seen.lost(), seen.duplicates, seen.reordered), (2, 2, 1));
        // Numbers begin where the receiver did, and one that was before that still counts.
        let seen = counted(&[at(10), at(12), at(9)]);
        assert_eq!((seen.lowest, seen.lost(), seen.reordered), (9, 1, 1));
    }

    #[test]
    fn jitter_is_that_of_rfc_3550_and_the_clocks_need_not_agree() {
        let steady = counted(&[(1, 0, 5_000_000_016), (2, 100, 5_000_000_116), (3, 200, 5_000_000_216)]);
        assert_eq!(steady.jitter, Duration::ZERO);
        let late = counted(&[(1, 0, 1000), (2, 1000, 2160)]);
        assert_eq!(late.jitter, Duration::from_nanos(10));
    }

    #[test]
    fn round_trips_are_those_of_the_sockets_own() {
        let own = counted(&[(1, 0, 100), (2, 1000, 1300), (3, 2000, 2200)]).round_trips.unwrap();
        let nanos = |time: Duration| time.as_nanos();
        assert_eq!((nanos(own.least), nanos(own.mean), nanos(own.greatest)), (100, 200, 300));
        let mut counter = ProbeCounter::default();
        counter.count(&probe(8, 1, 0), 7, Timestamp::from_nanos(100), || None);
        assert_eq!(counter.report().sources[0].round_trips, None);
    }

    #[test]
    fn what_is_no_probe_is_another_datagram_and_so_are_those_of_too_many_senders() {
        let mut counter = ProbeCounter::default();
        let mut count = |bytes: &[u8]| {
            counter.count(bytes, 0, Timestamp::from_nanos(0), || None);
            let report = counter.report();
            (report.sources.len(), report.others)
        };
        assert_eq!(count(b""), (0, 1));
        assert_eq!(count(&probe(1, 1, 0)[..HEADER - 1]), (0, 2));
        assert_eq!(count(&probe(1, 0, 0)), (0, 3));
        let mut other = probe(1, 1, 0);
        other[0] ^= 1;
        assert_eq!(count(&other), (0, 4));
        assert_eq!(count(&[&probe(1, 1, 0)[..], b"payload"].concat()), (1, 4));
        for sender in 2..=64 {
            count(&probe(sender, 1, 0));
        }
        assert_eq!(count(&probe(65, 1, 0)), (64, 5));
        assert_eq!(count(&probe(64, u64::MAX, i64::MIN)), (64, 5));
    }

    proptest! {
        #[test]
        fn a_header_reads_as_it_was_written(sender: u64, number: u64, sent: i64, rest: [u8; 9]) {
            let probe = Probe { sender, number, sent: Timestamp::from_nanos(sent) };
            prop_assert_eq!(Probe::read(&[&probe.header()[..], &rest].concat()), Some(probe));
        }

        /// As somebody counts who remembers them all, while none is older than what is known.
        #[test]
        fn it_counts_like_one_who_remembers_all(numbers in prop::collection::vec(1..900_u64, 1..300)) {
            let (mut all, mut highest, mut duplicates, mut reordered) = (BTreeSet::new(), 0, 0, 0);
            for number in &numbers {
                if all.insert(*number) {
                    reordered += u64::from(*number < highest);
                    highest = highest.max(*number);
                } else {
                    duplicates += 1;
                }
            }
            let seen = counted(&numbers.iter().map(|number| (*number, 0, 0)).collect::<Vec<_>>());
            prop_assert_eq!((seen.received, seen.duplicates, seen.reordered), (all.len() as u64, duplicates, reordered));
            let span = all.last().unwrap() - all.first().unwrap() + 1;
            prop_assert_eq!(seen.lost(), span - all.len() as u64);
        }

        #[test]
        fn no_number_is_too_strange(numbers in prop::collection::vec((any::<u64>(), any::<i64>(), any::<i64>()), 1..50)) {
            let numbers: Vec<_> = numbers.into_iter().map(|(number, sent, at)| (number.max(1), sent, at)).collect();
            let seen = counted(&numbers);
            prop_assert_eq!(seen.received + seen.duplicates, numbers.len() as u64);
        }
    }
}
