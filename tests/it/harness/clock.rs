//! A clock that only a test moves.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use farsock::model::time::{Clock, Timestamp};

/// Stands still until it is moved on. Timers of the runtime know nothing of that, as when a host has slept.
#[derive(Debug)]
pub struct HandClock(AtomicI64);

impl Default for HandClock {
    fn default() -> Self {
        Self(AtomicI64::new(1_700_000_000_000_000_000))
    }
}

impl HandClock {
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_nanos().try_into().unwrap(), Ordering::AcqRel);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::Acquire))
    }

    fn at_realtime(&self, nanos: i64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }
}
