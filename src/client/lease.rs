//! What a client believes of a lease that it renews. Pure: every question takes the time.
//!
//! Invariant: a client never believes longer than the agent holds. The agent counts a TTL from when a renewal arrives; this counts from when
//! it was sent, which is earlier, and a little less than a TTL, because clocks differ. What is over is over for good, whatever is answered
//! afterwards.

use std::time::Duration;

use thiserror::Error;

use crate::client::place::Backoff;
use crate::model::time::Timestamp;

/// A renewal is sent so many times within a TTL.
const RENEWALS: u32 = 3;

/// One that has not been answered for this part of a TTL is followed by another one, on another connection.
const PATIENCE: u32 = 12;

/// The agent's clock may run faster than this one by one part in so many. Linux slews a clock by 1 in 2000 at most, adjtimex(2).
const CLOCK_RATE: u32 = 256;

/// The first pause after a renewal that has failed.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Why a client does not use a session any more.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LeaseLoss {
    /// The agent says that it has expired.
    #[error("the agent says that it has expired")]
    Expired,
    /// The agent does not know the session.
    #[error("the agent does not know it any more: somebody has deleted it, or the agent was restarted")]
    Gone,
    /// No renewal was answered in time.
    #[error("no renewal was answered for {} s: {why}", tenths(*.silence))]
    Unanswered {
        /// How long ago the last one that was answered had been sent.
        silence: Duration,
        /// What became of the last one.
        why: String,
    },
    /// This process did not run: somebody has stopped it, or the host has slept.
    #[error("this program did not run for {} s, and could not renew it: it was stopped, or its host was asleep", tenths(*.pause))]
    Stopped {
        /// For how long.
        pause: Duration,
    },
}

/// What is to be done for a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing before that moment, unless a renewal ends.
    Nothing {
        /// When to ask again.
        until: Timestamp,
    },
    /// To send a renewal.
    Renewal,
    /// To stop using the session, for good.
    Stop,
}

/// The lease of one session, as its client sees it.
#[derive(Debug)]
pub(super) struct Lease {
    ttl: Duration,
    /// When the last renewal that was answered had been sent.
    granted: Timestamp,
    /// When the next one is to be sent.
    next: Timestamp,
    /// When somebody last asked what was to be done.
    looked: Timestamp,
    /// How many have failed since one was answered, and how the last one did.
    failures: u32,
    failure: Option<String>,
    loss: Option<LeaseLoss>,
}

impl Lease {
    /// One that was asked for at that moment.
    pub(super) fn new(ttl: Duration, asked: Timestamp) -> Self {
        let next = asked.after(ttl / RENEWALS);
        Self { ttl, granted: asked, next, looked: asked, failures: 0, failure: None, loss: None }
    }

    /// Until when it is believed, if no other renewal is answered.
    pub(super) fn until(&self) -> Timestamp {
        match self.loss {
            None => self.granted.after(self.ttl - self.ttl / CLOCK_RATE),
            Some(_) => Timestamp::from_nanos(i64::MIN),
        }
    }

    /// Whether the session may be used.
    pub(super) fn check(&mut self, now: Timestamp) -> Result<(), LeaseLoss> {
        if self.loss.is_none() && now >= self.until() {
            let pause = now.since(self.looked);
            self.loss = Some(if pause >= self.ttl / RENEWALS {
                LeaseLoss::Stopped { pause }
            } else {
                let why = self.failure.take().unwrap_or_else(|| "the agent, or the way to it, is silent".to_owned());
                LeaseLoss::Unanswered { silence: now.since(self.granted), why }
            });
        }
        self.loss.clone().map_or(Ok(()), Err)
    }

    /// What is to be done now. A renewal that it asks for counts from now.
    pub(super) fn due(&mut self, now: Timestamp) -> Due {
        let checked = self.check(now);
        self.looked = now;
        match checked {
            Err(_) => Due::Stop,
            Ok(()) if now >= self.next => {
                self.next = now.after(self.ttl / PATIENCE);
                Due::Renewal
            }
            Ok(()) => Due::Nothing { until: self.next.min(self.until()) },
        }
    }

    /// The agent has granted a renewal that was sent at that moment. Answers may come in any order.
    pub(super) fn grant(&mut self, sent: Timestamp, now: Timestamp) {
        if self.check(now).is_ok() && sent > self.granted {
            (self.granted, self.next) = (sent, sent.after(self.ttl / RENEWALS));
            (self.failures, self.failure) = (0, None);
        }
    }

    /// A renewal has failed, for a reason that may pass.
    pub(super) fn fail(&mut self, why: String, now: Timestamp, chance: u8) {
        let backoff = Backoff { first: FIRST_PAUSE, longest: self.ttl / PATIENCE };
        self.failures = self.failures.saturating_add(1);
        self.next = self.next.min(now.after(backoff.pause(self.failures, chance)));
        self.failure = Some(why);
    }

    /// It is over, and the agent says why.
    pub(super) fn lose(&mut self, why: LeaseLoss) {
        self.loss.get_or_insert(why);
    }
}

fn tenths(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TTL: Duration = Duration::from_secs(30);

    fn at(millis: u64) -> Timestamp {
        Timestamp::default().after(Duration::from_millis(millis))
    }

    fn believed() -> Duration {
        TTL - TTL / CLOCK_RATE
    }

    #[test]
    fn a_lease_is_renewed_three_times_within_a_ttl() {
        let mut lease = Lease::new(TTL, at(0));
        assert_eq!(lease.due(at(0)), Due::Nothing { until: at(10_000) });
        assert_eq!(lease.due(at(10_000)), Due::Renewal);
        assert_eq!(lease.due(at(10_000)), Due::Nothing { until: at(12_500) }, "once");
        lease.grant(at(10_000), at(11_000));
        assert_eq!(lease.until(), at(10_000).after(believed()), "from when it was sent");
        assert_eq!(lease.due(at(11_000)), Due::Nothing { until: at(20_000) });
    }

    #[test]
    fn one_that_is_not_answered_is_followed_by_another_and_one_that_fails_soon() {
        let mut lease = Lease::new(TTL, at(0));
        assert_eq!(lease.due(at(10_000)), Due::Renewal);
        assert_eq!(lease.due(at(12_500)), Due::Renewal);
        let pauses: Vec<i64> = (0..8)
            .map(|_| {
                lease.fail("connection refused".to_owned(), at(12_500), 0);
                let Due::Nothing { until } = lease.due(at(12_500)) else { panic!() };
                lease.next = at(100_000);
                (until.nanos() - at(12_500).nanos()) / 1_000_000
            })
            .collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1600, 2500, 2500]);
        // The first one is answered after all, and the second one later: each counts from when it was sent.
        lease.grant(at(10_000), at(14_000));
        lease.grant(at(12_500), at(15_000));
        lease.grant(at(10_000), at(15_500));
        assert_eq!(lease.until(), at(12_500).after(believed()));
        assert_eq!(lease.due(at(15_500)), Due::Nothing { until: at(22_500) });
    }

    #[test]
    fn what_is_over_is_over_and_says_why() {
        let lost = |lease: &mut Lease, now| lease.check(now).unwrap_err().to_string();
        let end = at(0).after(believed());

        let mut silent = Lease::new(TTL, at(0));
        let mut now = at(0);
        while silent.due(now) != Due::Stop {
            now = now.after(Duration::from_millis(500));
        }
        assert!(now >= end && now < end.after(Duration::from_millis(500)));
        let why = "no renewal was answered for 30.0 s: the agent, or the way to it, is silent";
        assert_eq!(lost(&mut silent, now), why);
        silent.grant(at(29_000), now);
        assert_eq!(lost(&mut silent, at(29_500)), why, "a late answer, or an earlier time, changes nothing");

        let mut refused = Lease::new(TTL, at(0));
        refused.due(at(25_000));
        refused.fail("connection refused (ECONNREFUSED)".to_owned(), at(25_000), 0);
        assert_eq!(lost(&mut refused, end), "no renewal was answered for 29.9 s: connection refused (ECONNREFUSED)");

        let mut stopped = Lease::new(TTL, at(0));
        stopped.due(at(5_000));
        assert!(lost(&mut stopped, at(47_300)).starts_with("this program did not run for 42.3 s"));

        for loss in [LeaseLoss::Expired, LeaseLoss::Gone] {
            let mut told = Lease::new(TTL, at(0));
            told.lose(loss.clone());
            told.lose(LeaseLoss::Gone);
            told.grant(at(3), at(5));
            assert_eq!((told.check(at(4)), told.due(at(4))), (Err(loss), Due::Stop));
        }
    }

    /// What may happen between a client and its agent.
    #[derive(Debug, Clone)]
    enum Step {
        /// Real time goes by, in milliseconds. Whatever is due is not looked at meanwhile: a process may be stopped.
        Pass(u32),
        /// The client looks, and sends what is due.
        Look,
        /// A request that is under way arrives at the agent. Any one: they overtake each other. It may arrive again.
        Arrive(prop::sample::Index, bool),
        /// An answer that is under way comes. Any one.
        Answer(prop::sample::Index),
        /// A request or answer is lost, and the client is told, or not.
        Lose(prop::sample::Index, bool),
        /// Somebody wants to use the session.
        Use,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..9_000_u32).prop_map(Step::Pass),
            4 => Just(Step::Look),
            3 => (any::<prop::sample::Index>(), prop::bool::weighted(0.1)).prop_map(|(which, again)| Step::Arrive(which, again)),
            3 => any::<prop::sample::Index>().prop_map(Step::Answer),
            1 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(which, told)| Step::Lose(which, told)),
            2 => Just(Step::Use),
        ]
    }

    /// A host's clock: so many parts in a million faster or slower than time, and ahead of it by anything.
    #[derive(Debug, Clone, Copy)]
    struct Rate {
        parts: i64,
        ahead: i64,
    }

    impl Rate {
        fn at(self, real: i64) -> Timestamp {
            Timestamp::from_nanos(self.ahead + real + real / 1_000_000 * self.parts)
        }
    }

    /// Both clocks at their worst differ by less than the bound: 1,001,950 / 998,050 < 256 / 255.
    fn rate() -> impl Strategy<Value = Rate> {
        let parts = prop_oneof![Just(-1950_i64), Just(1950), -1950..=1950_i64];
        (parts, 0..1_000_000_000_000_000_000_i64).prop_map(|(parts, ahead)| Rate { parts, ahead })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        /// Whatever is late, doubled, overtaken or lost, and however the clocks run: whenever the client believes that it may use the
        /// session, the agent holds it; a client that is lost stays so; and one that looks in time never sleeps past its own end.
        #[test]
        fn a_client_never_believes_longer_than_the_agent_holds(
            steps in prop::collection::vec(step(), 0..120), client_rate in rate(), agent_rate in rate(),
            ttl in 5_000..60_000_u32,
        ) {
            let ttl = Duration::from_millis(ttl.into());
            let mut real = 0_i64;
            let mut agent = Timestamp::default();
            let mut lease = Lease::new(ttl, client_rate.at(real));
            let (mut requests, mut answers) = (Vec::<Timestamp>::new(), Vec::<Timestamp>::new());
            let mut lost = false;
            // The request that made the session has arrived, at once or after a while.
            let mut held_until = agent_rate.at(real).after(ttl);
            for step in steps {
                let now = client_rate.at(real);
                agent = agent.max(agent_rate.at(real));
                match step {
                    Step::Pass(millis) => real += i64::from(millis) * 1_000_000,
                    Step::Look => match lease.due(now) {
                        Due::Renewal => requests.push(now),
                        Due::Nothing { until } => prop_assert!(until > now && until <= lease.until()),
                        Due::Stop => lost = true,
                    },
                    Step::Arrive(which, again) if !requests.is_empty() => {
                        let at = which.index(requests.len());
                        let sent = if again { requests[at] } else { requests.swap_remove(at) };
                        if agent < held_until {
                            held_until = held_until.max(agent.after(ttl));
                            answers.push(sent);
                        }
                    }
                    Step::Answer(which) if !answers.is_empty() => {
                        lease.grant(answers.swap_remove(which.index(answers.len())), now);
                    }
                    Step::Lose(which, told) if !requests.is_empty() => {
                        requests.swap_remove(which.index(requests.len()));
                        if told { lease.fail("cut".to_owned(), now, 128); }
                    }
                    Step::Use => {
                        let allowed = lease.check(now).is_ok();
                        prop_assert!(!(lost && allowed), "what was lost has come back");
                        prop_assert!(!allowed || agent < held_until, "used for longer than it was held");
                        prop_assert_eq!(allowed, now < lease.until());
                        lost |= !allowed;
                    }
                    Step::Arrive(..) | Step::Answer(_) | Step::Lose(..) => {}
                }
            }
        }

        /// Where each renewal is answered before the next one is due, a lease is never lost, and none is sent that is not needed.
        #[test]
        fn a_lease_whose_renewals_are_answered_lives_on(delays in prop::collection::vec(0..900_u64, 1..60)) {
            let mut now = at(0);
            let mut lease = Lease::new(TTL, now);
            for (turn, delay) in delays.into_iter().enumerate() {
                let Due::Nothing { until } = lease.due(now) else { panic!("it is not due") };
                prop_assert_eq!(until, at(turn as u64 * 10_000 + 10_000));
                now = until;
                prop_assert_eq!(lease.due(now), Due::Renewal);
                lease.grant(now, now.after(Duration::from_millis(delay)));
            }
        }
    }
}
