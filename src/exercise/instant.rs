//! One instant on many hosts: how far apart the starts of several steps were, and how well that is known.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// When a step began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// On which host.
    pub host: usize,
    /// Nanoseconds of the controller's clock.
    pub at: i64,
    /// By how much that may be wrong, because of how well the host's clock is known; for all its starts in the same way.
    pub bound: i64,
}

/// How far apart starts were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    /// Nanoseconds between the first and the last one, by the clocks.
    pub nanos: i64,
    /// They were so far apart at least, however the clocks stand within their bounds.
    pub least: i64,
    /// They were so far apart at most.
    pub most: i64,
}

/// Whether something is so, where clocks are known within bounds only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sure {
    /// It is.
    Yes,
    /// It is not.
    No,
    /// The bounds are too wide to say.
    Unknown,
}

impl Spread {
    /// The spread of these; nothing where there are none.
    pub fn of(starts: &[Start]) -> Option<Self> {
        // Of each host, the first and the last: what its clock is wrong by, they have in common.
        let mut hosts: BTreeMap<usize, (i64, i64, i64)> = BTreeMap::new();
        for start in starts {
            let (first, last, _) = hosts.entry(start.host).or_insert((start.at, start.at, start.bound));
            (*first, *last) = ((*first).min(start.at), (*last).max(start.at));
        }
        let mut spread = None;
        for (early, (first, _, early_bound)) in &hosts {
            for (late, (_, last, late_bound)) in &hosts {
                let bound = if early == late { 0 } else { early_bound.saturating_add(*late_bound) };
                let apart = last.saturating_sub(*first);
                let Self { nanos, least, most } = spread.unwrap_or(Self { nanos: 0, least: 0, most: 0 });
                spread = Some(Self {
                    nanos: nanos.max(apart),
                    least: least.max(apart.saturating_sub(bound)),
                    most: most.max(apart.saturating_add(bound)),
                });
            }
        }
        spread
    }

    /// Whether they were no further apart than that.
    pub fn within(self, align: Duration) -> Sure {
        let align = i64::try_from(align.as_nanos()).unwrap_or(i64::MAX);
        match () {
            () if self.most <= align => Sure::Yes,
            () if self.least > align => Sure::No,
            () => Sure::Unknown,
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = (self.most - self.nanos).max(self.nanos - self.least);
        write!(f, "{} ±{}", milliseconds(self.nanos), milliseconds(bound))
    }
}

/// Nanoseconds as people read them.
#[allow(clippy::cast_precision_loss, reason = "people read three digits of it")]
pub fn milliseconds(nanos: i64) -> String {
    format!("{:.3} ms", nanos as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn start(host: usize, at: i64, bound: i64) -> Start {
        Start { host, at, bound }
    }

    fn of(starts: &[Start]) -> (i64, i64, i64) {
        let Spread { nanos, least, most } = Spread::of(starts).unwrap();
        (nanos, least, most)
    }

    #[test]
    fn bounds_count_between_hosts_and_not_within_one() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(of(&[start(0, 7, 100)]), (0, 0, 0));
        assert_eq!(of(&[start(0, 7, 100), start(0, 57, 100)]), (50, 50, 50));
        assert_eq!(of(&[start(0, 1_000, 10), start(1, 1_500, 20)]), (500, 470, 530));
        assert_eq!(of(&[start(0, 1_000, 300), start(1, 1_500, 300)]), (500, 0, 1_100));
    }

    #[test]
    fn what_the_bounds_leave_open_is_left_open() {
        let spread = Spread::of(&[start(0, 0, 1_000_000), start(1, 5_000_000, 1_000_000)]).unwrap();
        let within = |millis| spread.within(Duration::from_millis(millis));
        assert_eq!([2, 3, 5, 7].map(within), [Sure::No, Sure::Unknown, Sure::Unknown, Sure::Yes]);
        assert_eq!(spread.to_string(), "5.000 ms ±2.000 ms");
    }

    proptest! {
        /// However the clocks stand within their bounds, the true spread lies within what is told.
        #[test]
        fn the_true_spread_lies_within_the_bounds(
            clocks in prop::collection::vec((-1_000i64..1_000, 0i64..1_000), 1..5),
            starts in prop::collection::vec((0usize..5, 0i64..10_000), 1..9),
        ) {
            let told: Vec<Start> = starts.iter().map(|(host, at)| {
                let host = host % clocks.len();
                let (error, slack) = clocks[host];
                start(host, at + error, error.abs() + slack)
            }).collect();
            let times = || starts.iter().map(|(_, at)| *at);
            let true_spread = times().max().unwrap() - times().min().unwrap();
            let spread = Spread::of(&told).unwrap();
            prop_assert!(spread.least <= true_spread && true_spread <= spread.most, "{spread:?} {true_spread}");
            prop_assert!(spread.least <= spread.nanos && spread.nanos <= spread.most);
        }
    }
}
