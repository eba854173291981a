//! How long a session lives without its controller.
//!
//! Invariant: a lease goes from active to expiring to expired, and never back. Time that is over is noticed by whoever looks first, a
//! request or the timer; from then on nothing is left of the lease, and nothing renews it. That comes before any socket is closed, so that
//! nobody is ever told of time left when one has been.

use std::time::Duration;

use crate::model::session::SessionState;
use crate::model::time::Timestamp;

/// The part of its time that is left when a lease is said to be running out: one in so many. A controller that renews as often as
/// that has missed two renewals by then.
const LAST_PART: u32 = 3;

/// The lease of one session. Every question to it takes the time.
#[derive(Debug)]
pub struct Lease {
    ttl: Duration,
    deadline: Timestamp,
    state: SessionState,
    /// It has been told that this is running out.
    warned: bool,
}

/// What is to be done for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing before that moment.
    Nothing {
        /// When to ask again.
        until: Timestamp,
    },
    /// To tell that it is running out: once after each renewal, and always before [`Due::End`].
    Warning {
        /// How much is left.
        left: Duration,
    },
    /// To close everything, then to say so by [`Lease::end`].
    End,
}

impl Lease {
    /// A lease that begins now.
    pub fn new(ttl: Duration, now: Timestamp) -> Self {
        Self { ttl, deadline: now.after(ttl), state: SessionState::Active, warned: false }
    }

    /// For how long a renewal is good.
    pub const fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Where it stands.
    pub fn state(&mut self, now: Timestamp) -> SessionState {
        if self.state == SessionState::Active && now >= self.deadline {
            self.state = SessionState::Expiring;
        }
        self.state
    }

    /// How much is left.
    pub fn left(&mut self, now: Timestamp) -> Duration {
        match self.state(now) {
            SessionState::Active => self.deadline.since(now),
            SessionState::Expiring | SessionState::Expired => Duration::ZERO,
        }
    }

    /// Lets it last for its whole time from the moment at which that was asked for, which may be some while ago; says whether it still
    /// could. Renewals may come in any order.
    #[must_use]
    pub fn renew(&mut self, asked: Timestamp, now: Timestamp) -> bool {
        if self.state(asked) == SessionState::Active {
            let deadline = asked.after(self.ttl);
            self.warned &= deadline <= self.deadline;
            self.deadline = self.deadline.max(deadline);
        }
        self.state(now) == SessionState::Active
    }

    /// What is to be done now, by the one who keeps it.
    pub fn due(&mut self, now: Timestamp) -> Due {
        let left = self.left(now);
        if !self.warned && left <= self.ttl / LAST_PART {
            self.warned = true;
            return Due::Warning { left };
        }
        match self.state {
            SessionState::Active if self.warned => Due::Nothing { until: self.deadline },
            SessionState::Active => Due::Nothing { until: now.after(left.saturating_sub(self.ttl / LAST_PART)) },
            SessionState::Expiring | SessionState::Expired => Due::End,
        }
    }

    /// Everything has been closed.
    pub fn end(&mut self) {
        self.state = SessionState::Expired;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TTL: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::default().after(Duration::from_secs(seconds))
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_lease_that_nobody_renews_is_told_of_and_ends() {
        let mut lease = Lease::new(TTL, at(0));
        assert_eq!((lease.state(at(0)), lease.left(at(0))), (SessionState::Active, TTL));
        assert_eq!(lease.due(at(0)), Due::Nothing { until: at(20) });
        assert_eq!(lease.due(at(20)), Due::Warning { left: seconds(10) });
        assert_eq!(lease.due(at(20)), Due::Nothing { until: at(30) }, "once");
        assert_eq!(lease.due(at(29)), Due::Nothing { until: at(30) });
        assert_eq!(lease.due(at(30)), Due::End);
        assert_eq!(lease.state(at(30)), SessionState::Expiring);
        lease.end();
        assert_eq!(lease.state(at(31)), SessionState::Expired);
    }

    #[test]
    fn a_renewal_counts_from_when_it_was_asked_for() {
        let mut lease = Lease::new(TTL, at(0));
        assert!(lease.renew(at(12), at(15)));
        assert_eq!(lease.left(at(15)), seconds(27));
        assert!(lease.renew(at(10), at(16)), "one that was overtaken");
        assert_eq!(lease.left(at(16)), seconds(26), "takes nothing away");
        assert!(lease.renew(at(41), at(43)), "it was in time, and nobody has noticed the end meanwhile");
        assert_eq!(lease.due(at(61)), Due::Warning { left: seconds(10) });
        assert!(lease.renew(at(62), at(62)));
        assert_eq!(lease.due(at(82)), Due::Warning { left: seconds(10) }, "after each renewal again");
    }

    #[test]
    fn whoever_looks_first_notices_the_end() {
        for late in [30, 31, 1000] {
            let mut lease = Lease::new(TTL, at(0));
            assert!(!lease.renew(at(late), at(late)), "it came too late, however late the timer is");
            assert!(!lease.renew(at(29), at(late)), "nothing goes back");
            assert_eq!(lease.due(at(late)), Due::Warning { left: Duration::ZERO }, "the warning is never left out");
            assert_eq!(lease.due(at(late)), Due::End);
        }
        let mut lease = Lease::new(TTL, at(0));
        assert!(!lease.renew(at(29), at(59)), "in time, but too long ago to be of any use");
    }

    /// What may happen to a lease.
    #[derive(Debug, Clone)]
    enum Step {
        /// Time goes by, in milliseconds.
        Pass(u32),
        /// A renewal that came so many milliseconds ago is carried out.
        Renew(u32),
        /// Somebody looks.
        Look,
        /// The keeper looks, and does what is due.
        Keep,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..15_000_u32).prop_map(Step::Pass),
            (0..12_000_u32).prop_map(Step::Renew),
            Just(Step::Look),
            Just(Step::Keep),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        /// Whatever the order in which renewals, requests and the timer come: nothing goes back; nothing is left once something may be
        /// closed; nothing ends before its time since the last renewal that was granted; the warning comes once after each, before the end.
        #[test]
        fn a_lease_never_comes_back_and_never_ends_early(steps in prop::collection::vec(step(), 0..80)) {
            let ms = |ms: u32| Duration::from_millis(ms.into());
            let mut now = Timestamp::from_nanos(1_000_000_000_000);
            let mut lease = Lease::new(TTL, now);
            let (mut granted, mut warned, mut state) = (now, false, SessionState::Active);
            for step in steps {
                match step {
                    Step::Pass(time) => now = now.after(ms(time)),
                    Step::Renew(ago) => {
                        let asked = now.shifted(-i64::try_from(ms(ago).as_nanos()).unwrap());
                        if lease.renew(asked, now) {
                            prop_assert_eq!(state, SessionState::Active);
                            warned &= asked <= granted;
                            granted = granted.max(asked);
                        }
                    }
                    Step::Look => {
                        let left = lease.left(now);
                        prop_assert_eq!(left.is_zero(), lease.state(now) != SessionState::Active);
                        prop_assert!(left <= granted.after(TTL).since(now));
                    }
                    Step::Keep => match lease.due(now) {
                        Due::Nothing { until } => {
                            prop_assert!(until > now && until <= granted.after(TTL));
                        }
                        Due::Warning { left } => {
                            prop_assert!(!warned && left <= TTL / 3);
                            warned = true;
                        }
                        Due::End => {
                            prop_assert!(warned && lease.left(now).is_zero() && !lease.renew(now, now));
                            lease.end();
                        }
                    },
                }
                let next = lease.state(now);
                prop_assert!(next >= state, "{:?} after {:?}", next, state);
                prop_assert!(next == SessionState::Active || now >= granted.after(TTL), "it has ended early");
                prop_assert!(next != SessionState::Active || now < granted.after(TTL), "it has ended late");
                state = next;
            }
        }
    }
}
