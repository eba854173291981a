//! Moments and the clock that events are stamped with.

use std::fmt;
use std::time::Duration;

/// A moment: nanoseconds since 1970-01-01T00:00:00Z, on the clock of one agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// A moment from nanoseconds since the epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the epoch.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0).try_into().unwrap_or(0))
    }

    /// The moment that is so long after this one.
    pub fn after(self, duration: Duration) -> Self {
        self.shifted(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
    }

    /// This moment, moved by signed nanoseconds.
    pub const fn shifted(self, nanos: i64) -> Self {
        Self(self.0.saturating_add(nanos))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(self.0.into()) {
            Ok(moment) => write!(f, "{moment:.*}", f.precision().unwrap_or(6)),
            Err(_) => write!(f, "{} ns", self.0),
        }
    }
}

/// What tells an agent the time. The only place where time enters; tests bring their own.
pub trait Clock: Send + Sync {
    /// Now, never earlier than any moment told before.
    fn now(&self) -> Timestamp;

    /// A moment of CLOCK_REALTIME, given in nanoseconds since the epoch, on this clock: as both clocks stand to each other now.
    fn at_realtime(&self, nanos: i64) -> Timestamp;
}

/// How the time since boot becomes wall time: by one offset, taken once.
///
/// CLOCK_REALTIME may be set while an agent runs, CLOCK_BOOTTIME cannot; so times of events follow the latter, and stay in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeAnchor {
    offset_nanos: i64,
}

impl TimeAnchor {
    /// Takes the offset from one reading of both clocks.
    pub const fn new(realtime_nanos: i64, boottime_nanos: i64) -> Self {
        Self { offset_nanos: realtime_nanos.saturating_sub(boottime_nanos) }
    }

    /// The wall time of a moment since boot.
    pub const fn at(self, boottime_nanos: i64) -> Timestamp {
        Timestamp(boottime_nanos.saturating_add(self.offset_nanos))
    }

    /// How far CLOCK_REALTIME is ahead of the anchored time, in nanoseconds: zero until somebody sets the clock or NTP slews it.
    pub const fn ahead_nanos(self, realtime_nanos: i64, boottime_nanos: i64) -> i64 {
        realtime_nanos.saturating_sub(self.at(boottime_nanos).0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_clock_moves_nothing_but_is_told() {
        let anchor = TimeAnchor::new(1_000, 100);
        assert_eq!(anchor.at(100), Timestamp::from_nanos(1_000));
        assert_eq!(anchor.at(150), Timestamp::from_nanos(1_050));
        assert_eq!(anchor.ahead_nanos(1_050, 150), 0);
        assert_eq!(anchor.ahead_nanos(4_050, 150), 3_000);
        assert_eq!(anchor.ahead_nanos(50, 150), -1_000);
    }

    #[test]
    fn time_between_moments_is_never_negative() {
        let early = Timestamp::from_nanos(5);
        let late = Timestamp::from_nanos(9);
        assert_eq!(late.since(early), Duration::from_nanos(4));
        assert_eq!(early.since(late), Duration::ZERO);
    }

    #[test]
    fn extreme_moments_do_not_panic() {
        for nanos in [i64::MIN, -1, 0, i64::MAX] {
            let moment = Timestamp::from_nanos(nanos);
            assert!(!moment.to_string().is_empty());
            let _ = moment.since(Timestamp::from_nanos(i64::MIN));
            let _ = moment.shifted(i64::MAX);
        }
    }
}
