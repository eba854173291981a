//! How far the clocks of two hosts are apart: the exchange of RFC 5905, how sure one can be of it, and what becomes of that with time.

use std::collections::VecDeque;

/// By how much a crystal is off at most, in nanoseconds a second.
const CRYSTAL: i64 = 50_000;

/// By how much NTP slews a clock at most, in nanoseconds a second; agents tell the time by CLOCK_BOOTTIME, which goes along. adjtimex(2).
/// What is slewed faster, which some programs can, looks like a clock that was set, once it has been read again.
const SLEW: i64 = 500_000;

/// By how much the clocks of two hosts part at most, in nanoseconds a second: each has a crystal, and they may be slewed apart.
pub const MOST_DRIFT: i64 = 2 * (CRYSTAL + SLEW);

/// How many readings of a clock are kept. What happened before the first of them has been told long ago.
const KEPT: usize = 16;

/// One exchange: a question that left at `sent` and was answered at `came_back` by the asking clock, and in between came in at `received`
/// and left at `transmitted` by the other one. Nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchange {
    /// T1.
    pub sent: i64,
    /// T2.
    pub received: i64,
    /// T3.
    pub transmitted: i64,
    /// T4.
    pub came_back: i64,
}

/// How far a clock is ahead of the asking one, and by how much that may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offset {
    /// Nanoseconds ahead.
    pub nanos: i64,
    /// It lies within so many nanoseconds of that.
    pub bound: i64,
}

/// How far a clock was ahead at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// When, in nanoseconds of that clock.
    pub at: i64,
    /// How far it was ahead then.
    pub offset: Offset,
}

impl Exchange {
    /// What this exchange tells. The error is at most half of the time that was spent on the way.
    pub fn reading(self) -> Reading {
        let outward = i128::from(self.received) - i128::from(self.sent);
        let homeward = i128::from(self.transmitted) - i128::from(self.came_back);
        let delay = i128::from(self.came_back)
            - i128::from(self.sent)
            - (i128::from(self.transmitted) - i128::from(self.received));
        let offset = Offset { nanos: narrow((outward + homeward) / 2), bound: narrow((delay.max(0) + 1) / 2) };
        Reading { at: i64::midpoint(self.received, self.transmitted), offset }
    }
}

/// The surest reading of several exchanges: that of the one that spent the least time on the way.
pub fn best(exchanges: &[Exchange]) -> Option<Reading> {
    exchanges.iter().map(|exchange| exchange.reading()).min_by_key(|reading| reading.offset.bound)
}

/// How far a clock is ahead at any moment, as far as its readings tell. Between them and after the last one it may have drifted, and so the
/// bound grows with the time since and until then.
#[derive(Debug, Clone)]
pub struct ClockCourse {
    /// By how much it parts from the asking clock at most, in nanoseconds a second.
    drift: i64,
    /// In the order of their moments; and whether it was set since the one before, because no drift explains both.
    readings: VecDeque<(Reading, bool)>,
}

/// Where an offset lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    low: i128,
    high: i128,
}

impl ClockCourse {
    /// That of a clock that parts from the asking one by so many nanoseconds a second at most, and which has not been read yet.
    pub const fn new(drift: i64) -> Self {
        Self { drift, readings: VecDeque::new() }
    }

    /// Whether it may part from the asking clock at all.
    pub const fn drifts(&self) -> bool {
        self.drift > 0
    }

    /// Learns one more reading, which is later than those before.
    pub fn add(&mut self, reading: Reading) {
        if self.last().is_some_and(|last| last.at > reading.at) {
            // It went back: what was known of it says nothing any more.
            self.readings.clear();
        }
        let expected =
            self.segment(self.readings.len()).fold(None, |range, known| self.narrowed(range, known, reading.at));
        let own = self.around(&reading, reading.at);
        let was_set = expected.is_some_and(|expected| expected.with(own).is_empty());
        if self.readings.len() == KEPT {
            self.readings.pop_front();
        }
        self.readings.push_back((reading, was_set));
    }

    /// The last reading.
    pub fn last(&self) -> Option<Reading> {
        self.readings.back().map(|(reading, _)| *reading)
    }

    /// How far it is ahead at a moment of its own.
    pub fn offset_at(&self, at: i64) -> Offset {
        let later = self.readings.partition_point(|(reading, _)| reading.at <= at);
        let before = self.segment(later).fold(None, |range, reading| self.narrowed(range, reading, at));
        // As far as the clock was not set between then and the moment.
        let after = self
            .readings
            .iter()
            .skip(later)
            .enumerate()
            .take_while(|(further, (_, was_set))| !was_set || (*further == 0 && before.is_none()));
        let both = after.fold(before, |range, (_, (reading, _))| self.narrowed(range, reading, at));
        // Where it was set between its neighbours, nobody knows when: it is what it was before, or what it was after.
        let range = match (before, self.readings.get(later)) {
            (Some(before), Some((next, true))) if !self.read_at(later - 1, at) => {
                Some(before.and(self.around(next, at)))
            }
            _ => both,
        };
        range.map(Range::offset).unwrap_or_default()
    }

    /// Whether this reading was made at that very moment.
    fn read_at(&self, place: usize, at: i64) -> bool {
        self.readings.get(place).is_some_and(|(reading, _)| reading.at == at)
    }

    /// The readings before that place, as far as the clock was not set since.
    fn segment(&self, until: usize) -> impl Iterator<Item = &Reading> {
        let from = (0..until).rev().find(|place| self.readings[*place].1).unwrap_or(0);
        self.readings.range(from..until).map(|(reading, _)| reading)
    }

    fn narrowed(&self, range: Option<Range>, reading: &Reading, at: i64) -> Option<Range> {
        let around = self.around(reading, at);
        Some(range.map_or(around, |range| range.with(around)))
    }

    /// Where the offset lies at a moment, by this reading.
    fn around(&self, reading: &Reading, at: i64) -> Range {
        let apart = (i128::from(at) - i128::from(reading.at)).abs();
        let drift =
            (apart * i128::from(self.drift)).div_euclid(1_000_000_000) + i128::from(self.drift > 0 && apart > 0);
        let (middle, bound) = (i128::from(reading.offset.nanos), i128::from(reading.offset.bound) + drift);
        Range { low: middle - bound, high: middle + bound }
    }
}

/// When things happened by the asking clock that happened one after the other at these moments of another one, the last before them at
/// `before`; and by how much that may be wrong. What came later is not told to have come earlier because the clock is known better by now.
pub fn times(
    moments: impl IntoIterator<Item = i64>,
    clock: &ClockCourse,
    before: Option<(i64, i64)>,
) -> Vec<(i64, i64)> {
    let mut last = before;
    let time = |moment: i64| {
        let Offset { nanos, bound } = clock.offset_at(moment);
        let at = moment.saturating_sub(nanos);
        let time = match last {
            // Further than both may be wrong it goes only where the clock was set.
            Some((earlier, other)) if earlier > at && earlier - at <= bound.saturating_add(other) => {
                (earlier, bound.max(other))
            }
            _ => (at, bound),
        };
        last = Some(time);
        time
    };
    moments.into_iter().map(time).collect()
}

impl Range {
    /// What lies within both.
    fn with(self, other: Self) -> Self {
        Self { low: self.low.max(other.low), high: self.high.min(other.high) }
    }

    /// What holds both.
    fn and(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    const fn is_empty(self) -> bool {
        self.low > self.high
    }

    fn offset(self) -> Offset {
        Offset {
            nanos: narrow((self.low + self.high).div_euclid(2)),
            bound: narrow((self.high - self.low + 1).max(0) / 2),
        }
    }
}

fn narrow(nanos: i128) -> i64 {
    i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000_000;

    fn read(at: i64, nanos: i64, bound: i64) -> Reading {
        Reading { at, offset: Offset { nanos, bound } }
    }

    fn course(readings: &[Reading]) -> ClockCourse {
        let mut course = ClockCourse::new(MOST_DRIFT);
        readings.iter().for_each(|reading| course.add(*reading));
        course
    }

    #[test]
    fn equal_ways_tell_the_offset_exactly() {
        let exchange = Exchange { sent: 100, received: 1_110, transmitted: 1_120, came_back: 130 };
        assert_eq!(exchange.reading(), read(1_115, 1_000, 10));
    }

    #[test]
    fn the_bound_grows_with_time_and_shrinks_with_the_next_reading() {
        let offset = |course: &ClockCourse, at: i64| {
            let Offset { nanos, bound } = course.offset_at(at);
            (nanos, bound)
        };
        let one = course(&[read(0, 500, 10)]);
        assert_eq!(offset(&one, 0), (500, 10));
        assert_eq!(offset(&one, SECOND), (500, 1_100_011));
        assert_eq!(offset(&one, -SECOND), (500, 1_100_011));
        // Four seconds later it is 40 µs further: in between it is about where a line between both leads.
        let two = course(&[read(0, 500, 10), read(4 * SECOND, 40_500, 10)]);
        assert_eq!(offset(&two, 4 * SECOND), (40_500, 10));
        assert_eq!(offset(&two, 2 * SECOND), (20_500, 2_180_011));
        assert_eq!(ClockCourse::new(MOST_DRIFT).offset_at(7), Offset::default());
        let mut steady = ClockCourse::new(0);
        steady.add(read(0, 500, 10));
        assert_eq!(offset(&steady, 3_600 * SECOND), (500, 10));
    }

    /// NTP may bring two clocks nearer to the true time from both sides, each as fast as adjtimex(2) lets it.
    #[test]
    fn clocks_that_are_slewed_apart_stay_within_their_bounds() {
        let slewed = |at: i64| at / 1_000;
        let (mut known, told) = (course(&[read(0, 0, 10)]), slewed(SECOND));
        let Offset { nanos, bound } = known.offset_at(SECOND);
        assert!((nanos - told).abs() <= bound, "{nanos} ±{bound}, truly {told}");
        known.add(read(SECOND, told, 10));
        let between = known.offset_at(SECOND / 2);
        assert!(
            (between.nanos - slewed(SECOND / 2)).abs() <= 10 && between.bound < told,
            "nobody has set it: {between:?}"
        );
    }

    /// No drift explains five seconds in ten: somebody has set the clock, and in between nobody knows when.
    #[test]
    fn a_clock_that_was_set_is_known_before_and_after_but_not_in_between() {
        let set = course(&[
            read(0, 0, 10),
            read(SECOND, 0, 10),
            read(11 * SECOND, 5 * SECOND, 10),
            read(12 * SECOND, 5 * SECOND, 10),
        ]);
        assert_eq!(set.offset_at(SECOND), Offset { nanos: 0, bound: 10 });
        assert_eq!(set.offset_at(11 * SECOND), Offset { nanos: 5 * SECOND, bound: 10 });
        assert_eq!(set.offset_at(13 * SECOND).nanos, 5 * SECOND);
        let between = set.offset_at(6 * SECOND);
        assert!(between.nanos - between.bound <= 0 && between.nanos + between.bound >= 5 * SECOND, "{between:?}");
    }

    #[test]
    fn a_clock_that_goes_back_begins_anew() {
        let back = course(&[read(10 * SECOND, 7, 1), read(SECOND, -9 * SECOND, 1)]);
        assert_eq!(back.offset_at(SECOND), Offset { nanos: -9 * SECOND, bound: 1 });
    }

    /// How far a clock is ahead that goes by each of these rates for a while, in nanoseconds a second, and by the last one for ever.
    fn truth(start: i64, rates: &[(i64, i64)], at: i64) -> i64 {
        let (mut left, mut nanos) = (i128::from(at), i128::from(start) * 1_000_000_000);
        for (place, (length, rate)) in rates.iter().enumerate() {
            let last = place + 1 == rates.len();
            let part = if last { left } else { left.min(i128::from(*length)) };
            nanos += part * i128::from(*rate);
            left -= part;
        }
        i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap()
    }

    proptest! {
        /// Whatever the ways cost, the true offset lies within the bound.
        #[test]
        fn the_bound_holds(true_offset in -1_000_000_000_000i64..1_000_000_000_000, there in 0i64..10_000_000, back in 0i64..10_000_000, work in 0i64..1_000) {
            let sent = 5_000_000_000;
            let received = sent + there + true_offset;
            let exchange = Exchange { sent, received, transmitted: received + work, came_back: sent + there + work + back };
            let told = exchange.reading().offset;
            prop_assert!((told.nanos - true_offset).abs() <= told.bound);
            prop_assert!(told.bound <= i64::midpoint(there, back) + 1);
        }

        #[test]
        fn the_least_delay_is_chosen(delays in prop::collection::vec(0i64..1000, 1..10)) {
            let exchanges: Vec<Exchange> = delays
                .iter()
                .map(|delay| Exchange { sent: 0, received: delay / 2, transmitted: delay / 2, came_back: *delay })
                .collect();
            prop_assert_eq!(best(&exchanges).unwrap().offset.bound, (delays.iter().min().unwrap() + 1) / 2);
        }

        #[test]
        fn no_times_panic(sent: i64, received: i64, transmitted: i64, came_back: i64, at: i64) {
            let reading = Exchange { sent, received, transmitted, came_back }.reading();
            let _ = course(&[reading, Reading { at, ..reading }]).offset_at(received);
        }

        /// However a clock drifts within what clocks do, and whenever it is read, it is what is told of it at any moment, within the bound; and that
        /// is no wider than the nearest reading and the drift since make it.
        #[test]
        fn a_drifting_clock_stays_within_its_bounds(
            start in -5 * SECOND..5 * SECOND,
            rates in prop::collection::vec((SECOND..20 * SECOND, -MOST_DRIFT..=MOST_DRIFT), 1..6),
            readings in prop::collection::vec((0i64..60 * SECOND, 0i64..500_000, -1_000i64..=1_000), 1..30),
            moments in prop::collection::vec(0i64..80 * SECOND, 1..20),
        ) {
            let mut readings = readings;
            readings.sort_by_key(|(at, ..)| *at);
            let mut known = ClockCourse::new(MOST_DRIFT);
            for (at, bound, error) in &readings {
                let error = bound * error / 1_000;
                known.add(read(*at, truth(start, &rates, *at) + error, *bound));
            }
            // Those before have been forgotten.
            let kept = &readings[readings.len().saturating_sub(KEPT)..];
            for at in moments {
                let Offset { nanos, bound } = known.offset_at(at);
                prop_assert!((nanos - truth(start, &rates, at)).abs() <= bound + 1, "{nanos} ±{bound}, truly {}", truth(start, &rates, at));
                let widest = kept.iter().map(|(read, bound, _)| bound + (at - read).abs() * MOST_DRIFT / SECOND + 2).min().unwrap();
                prop_assert!(bound <= widest, "{bound} {widest}");
            }
        }

        /// However well the clock is known when things are told: they come one after the other, and when each truly happened lies within its bound.
        #[test]
        fn times_go_on_and_hold(
            rates in prop::collection::vec((SECOND..20 * SECOND, -MOST_DRIFT..=MOST_DRIFT), 1..6),
            told in prop::collection::vec((0i64..2 * SECOND, 0i64..500_000, -1_000i64..=1_000, prop::collection::vec(0i64..SECOND, 0..4)), 1..12),
        ) {
            let (mut known, mut now, mut all, mut moments) = (ClockCourse::new(MOST_DRIFT), 0, Vec::new(), Vec::new());
            for (pause, bound, error, gaps) in told {
                now += pause;
                known.add(read(now, truth(0, &rates, now) + bound * error / 1_000, bound));
                let since = moments.len();
                for gap in gaps {
                    now += gap;
                    moments.push(now);
                }
                let before = all.last().copied();
                all.extend(times(moments[since..].iter().copied(), &known, before));
            }
            prop_assert!(all.is_sorted_by_key(|(at, _)| *at));
            for (moment, (at, bound)) in moments.iter().zip(all) {
                prop_assert!((at - (moment - truth(0, &rates, *moment))).abs() <= bound + 1);
            }
        }

        /// Somebody sets it by more than any reading is wrong by: once it has been read again, what is told holds before and after, and in between, too.
        #[test]
        fn a_clock_that_is_set_stays_within_its_bounds(
            times in prop::collection::vec((0i64..60 * SECOND, 0i64..500_000), 2..12), at in 0i64..60 * SECOND, by in 10 * SECOND..20 * SECOND, ahead: bool,
            moments in prop::collection::vec(0i64..60 * SECOND, 1..20),
        ) {
            let mut times = times;
            times.sort_unstable();
            let by = if ahead { by } else { -by };
            let truth = |moment: i64| if moment < at { 0 } else { by };
            let known = course(&times.iter().map(|(moment, bound)| read(*moment, truth(*moment), *bound)).collect::<Vec<_>>());
            let read_after = times.last().is_some_and(|(last, _)| *last >= at);
            for moment in moments.into_iter().filter(|moment| read_after || *moment < at) {
                // Before its first reading nobody could have known that it was another one.
                if moment < times[0].0 { continue }
                let Offset { nanos, bound } = known.offset_at(moment);
                prop_assert!((nanos - truth(moment)).abs() <= bound + 1, "{moment}: {nanos} ±{bound}");
            }
        }
    }
}
