//! How far the clocks of two hosts are apart: the exchange of RFC 5905, and how sure one can be of it.

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

impl Exchange {
    /// The offset that this exchange tells. The error is at most half of the time that was spent on the way.
    pub fn offset(self) -> Offset {
        let outward = i128::from(self.received) - i128::from(self.sent);
        let homeward = i128::from(self.transmitted) - i128::from(self.came_back);
        let delay = i128::from(self.came_back)
            - i128::from(self.sent)
            - (i128::from(self.transmitted) - i128::from(self.received));
        let clamp = |nanos: i128| i64::try_from(nanos).unwrap_or(i64::MAX);
        Offset { nanos: clamp((outward + homeward) / 2), bound: clamp((delay.max(0) + 1) / 2) }
    }
}

/// The surest offset of several exchanges: that of the one that spent the least time on the way.
pub fn best(exchanges: &[Exchange]) -> Option<Offset> {
    exchanges.iter().map(|exchange| exchange.offset()).min_by_key(|offset| offset.bound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equal_ways_tell_the_offset_exactly() {
        let exchange = Exchange { sent: 100, received: 1_110, transmitted: 1_120, came_back: 130 };
        assert_eq!(exchange.offset(), Offset { nanos: 1_000, bound: 10 });
    }

    proptest! {
        /// Whatever the ways cost, the true offset lies within the bound.
        #[test]
        fn the_bound_holds(true_offset in -1_000_000_000_000i64..1_000_000_000_000, there in 0i64..10_000_000, back in 0i64..10_000_000, work in 0i64..1_000) {
            let sent = 5_000_000_000;
            let received = sent + there + true_offset;
            let exchange = Exchange { sent, received, transmitted: received + work, came_back: sent + there + work + back };
            let told = exchange.offset();
            prop_assert!((told.nanos - true_offset).abs() <= told.bound);
            prop_assert!(told.bound <= i64::midpoint(there, back) + 1);
        }

        #[test]
        fn the_least_delay_is_chosen(delays in prop::collection::vec(0i64..1000, 1..10)) {
            let exchanges: Vec<Exchange> = delays
                .iter()
                .map(|delay| Exchange { sent: 0, received: delay / 2, transmitted: delay / 2, came_back: *delay })
                .collect();
            prop_assert_eq!(best(&exchanges).unwrap().bound, (delays.iter().min().unwrap() + 1) / 2);
        }

        #[test]
        fn no_times_panic(sent: i64, received: i64, transmitted: i64, came_back: i64) {
            let _ = Exchange { sent, received, transmitted, came_back }.offset();
        }
    }
}
