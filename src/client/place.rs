//! Where a watch stands in the events of a session: what it asks for when it comes back, and what it makes of what it gets. Pure.
//!
//! Invariant: a number is told once, numbers are told in order, and those that are not told are told to be missing.

use std::time::Duration;

use crate::client::error::ClientError;
use crate::model::id::InstanceId;

/// How long a watch waits before it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The pause after the first attempt that brought nothing new. An attempt that brought something is followed by the next one at once.
    pub first: Duration,
    /// The pause doubles with each further one, up to this.
    pub longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(50), longest: Duration::from_secs(5) }
    }
}

impl Backoff {
    /// The pause after so many attempts that brought nothing; chance makes it up to a half shorter, so that watches that were cut off
    /// together do not come back together.
    pub(super) fn pause(self, failures: u32, chance: u8) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        let whole = self.first.saturating_mul(1 << doublings.min(20)).min(self.longest);
        whole - whole / 2 * u32::from(chance) / u32::from(u8::MAX)
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Question {
    /// Begin after this number; absent: with the oldest event that is kept.
    pub after: Option<u64>,
    /// Only of this instance.
    pub instance: Option<InstanceId>,
}

/// What is to be done about a stream that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Come back after a pause.
    Again(Duration),
    /// Come back at once, as if for the first time: the numbers begin anew.
    Anew,
    /// There is nothing more to come.
    Over,
    /// There is no point in coming back.
    Fail,
}

/// Where a watch stands.
#[derive(Debug, Default)]
pub struct Place {
    instance: Option<InstanceId>,
    /// It has a name: until something has been told, the agent knows where it begins.
    named: bool,
    /// What was the oldest when it began: older events were never promised.
    floor: u64,
    /// Everything up to here has been told.
    told: Option<u64>,
    /// How many attempts have brought nothing since one has.
    failures: u32,
    /// The agent has said that it is going to stop.
    draining: bool,
}

impl Place {
    /// That of a watch with a name.
    pub fn of_name() -> Self {
        Self { named: true, ..Self::default() }
    }

    /// Through which number everything has been told; absent before the first one.
    pub fn told(&self) -> Option<u64> {
        self.told
    }

    /// What to ask for now.
    pub fn question(&mut self) -> Question {
        if self.instance.is_some() && !self.named {
            self.told.get_or_insert(self.floor);
        }
        Question { after: self.told, instance: self.instance.clone() }
    }

    /// The agent has answered: this is its instance, and the oldest and the newest event that it keeps; zero where there is none.
    pub fn opened(&mut self, instance: InstanceId, oldest: u64, head: u64) {
        if self.instance.is_none() {
            self.floor = if oldest == 0 { head } else { oldest - 1 };
        }
        self.instance = Some(instance);
        self.draining = false;
    }

    /// Everything between two numbers is told, or told to be missing. False if something between has been passed over.
    #[must_use]
    pub fn tell(&mut self, first: u64, last: u64) -> bool {
        if self.told.is_some_and(|told| first != told + 1) || last < first {
            return false;
        }
        self.told = Some(last);
        self.failures = 0;
        true
    }

    /// The agent is going to stop.
    pub fn drains(&mut self) {
        self.draining = true;
    }

    /// The stream has ended: in good order, or by an error.
    pub fn ended(&mut self, error: Option<&ClientError>, backoff: Backoff, chance: u8) -> Verdict {
        match error {
            // Sessions end in good order, too.
            None if !self.draining => Verdict::Over,
            Some(ClientError::Refused { reason, .. }) if reason == "INSTANCE_CHANGED" && self.instance.is_some() => {
                *self = Self { failures: self.failures, named: self.named, ..Self::default() };
                Verdict::Anew
            }
            Some(
                ClientError::Unauthenticated { .. }
                | ClientError::Protocol { .. }
                | ClientError::TooOld { .. }
                | ClientError::LeaseLost { .. },
            ) => Verdict::Fail,
            // An agent that has not noticed yet that a watcher is gone may have no room for it.
            Some(ClientError::Refused { reason, .. }) if reason != "DRAINING" && reason != "QUOTA_EXCEEDED" => {
                Verdict::Fail
            }
            None | Some(ClientError::Unreachable { .. } | ClientError::Refused { .. }) => {
                let pause = backoff.pause(self.failures, chance);
                self.failures = self.failures.saturating_add(1);
                Verdict::Again(pause)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unreachable() -> ClientError {
        ClientError::Unreachable { message: "connection reset".to_owned(), nobody: false, sent: true }
    }

    fn refused(reason: &str) -> ClientError {
        ClientError::Refused { reason: reason.to_owned(), message: String::new() }
    }

    fn instance(number: u8) -> InstanceId {
        InstanceId::from_random([number; 16])
    }

    /// As much of an agent as a watch sees: numbers of a life, of which the oldest go.
    struct Log {
        life: u8,
        oldest: u64,
        head: u64,
    }

    #[derive(Debug, Clone)]
    enum Step {
        Happen(u64),
        Forget(u64),
        Restart,
        /// Comes back, and reads so many frames before the next cut.
        Read(usize, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1..50_u64).prop_map(Step::Happen),
            2 => (1..30_u64).prop_map(Step::Forget),
            1 => Just(Step::Restart),
            6 => (0..4_usize, 1..20_u64).prop_map(|(frames, size)| Step::Read(frames, size)),
        ]
    }

    proptest! {
        /// Whatever is cut, forgotten and restarted: within a life, numbers are told once, in order, and what is not told is told to be missing.
        #[test]
        fn nothing_is_doubled_and_nothing_is_passed_over(steps in prop::collection::vec(step(), 0..80)) {
            let mut log = Log { life: 1, oldest: 1, head: 0 };
            let mut place = Place::default();
            // What the watcher has been told of this life: where it began, and up to where it goes without a hole.
            let mut seen: Option<u64> = None;
            for step in steps {
                match step {
                    Step::Happen(count) => log.head += count,
                    Step::Forget(count) => log.oldest = (log.oldest + count).min(log.head + 1),
                    Step::Restart => log = Log { life: log.life + 1, oldest: 1, head: 3 },
                    Step::Read(frames, size) => {
                        let mut asked = place.question();
                        if asked.instance.as_ref().is_some_and(|meant| *meant != instance(log.life)) {
                            let verdict = place.ended(Some(&refused("INSTANCE_CHANGED")), Backoff::default(), 0);
                            prop_assert_eq!(verdict, Verdict::Anew);
                            (asked, seen) = (place.question(), None);
                            prop_assert_eq!(&asked, &Question::default());
                        }
                        let oldest = if log.oldest > log.head { 0 } else { log.oldest };
                        place.opened(instance(log.life), oldest, log.head);
                        prop_assert!(asked.after.unwrap_or(0) <= log.head, "a number of the future");
                        if let (Some(after), Some(seen)) = (asked.after, seen) {
                            prop_assert_eq!(after, seen, "neither again nor passed over");
                        }
                        let mut at = asked.after.unwrap_or(log.oldest - 1);
                        for _ in 0..frames {
                            let last = if at + 1 < log.oldest { log.oldest - 1 } else { (at + size).min(log.head) };
                            if last <= at { break }
                            prop_assert!(place.tell(at + 1, last));
                            (at, seen) = (last, Some(last));
                        }
                        prop_assert!(matches!(place.ended(Some(&unreachable()), Backoff::default(), 0), Verdict::Again(_)));
                    }
                }
            }
        }
    }

    #[test]
    fn what_was_promised_when_it_began_is_promised_before_the_first_event_is_told() {
        let mut place = Place::default();
        place.question();
        place.opened(instance(1), 10, 20);
        place.ended(Some(&unreachable()), Backoff::default(), 0);
        assert_eq!(place.question().after, Some(9));
        assert!(!place.tell(12, 15), "10 and 11 are missing");
        assert!(place.tell(10, 15) && !place.tell(15, 16) && !place.tell(17, 18) && !place.tell(16, 15));
    }

    #[test]
    fn a_watch_with_a_name_leaves_it_to_the_agent_where_it_begins() {
        let mut place = Place::of_name();
        place.opened(instance(1), 10, 20);
        assert_eq!(place.ended(Some(&unreachable()), Backoff::default(), 0), Verdict::Again(Duration::ZERO));
        assert_eq!((place.question().after, place.told()), (None, None), "perhaps it has acknowledged the tenth");
        place.opened(instance(1), 10, 20);
        assert!(place.tell(14, 15) && !place.tell(17, 18));
        assert_eq!((place.question().after, place.told()), (Some(15), Some(15)));
    }

    #[test]
    fn pauses_grow_until_something_new_has_come() {
        let backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(1) };
        let mut place = Place::default();
        place.question();
        place.opened(instance(1), 0, 0);
        let pause = |place: &mut Place, chance| match place.ended(Some(&unreachable()), backoff, chance) {
            Verdict::Again(pause) => pause.as_millis(),
            other => panic!("{other:?}"),
        };
        let pauses: Vec<u128> = (0..7).map(|_| pause(&mut place, 0)).collect();
        assert_eq!(pauses, [0, 100, 200, 400, 800, 1000, 1000]);
        assert_eq!(pause(&mut place, u8::MAX), 500);
        assert!(place.tell(1, 1));
        assert_eq!(pause(&mut place, 0), 0);
    }

    #[test]
    fn every_end_leads_somewhere() {
        let fail = |error: &ClientError| Place::default().ended(Some(error), Backoff::default(), 0);
        for reason in ["SESSION_NOT_FOUND", "FUTURE_EVENT", "INVALID_FIELD", "INSTANCE_CHANGED"] {
            assert_eq!(fail(&refused(reason)), Verdict::Fail, "{reason}");
        }
        for reason in ["DRAINING", "QUOTA_EXCEEDED"] {
            assert_eq!(fail(&refused(reason)), Verdict::Again(Duration::ZERO), "{reason}");
        }
        assert_eq!(fail(&ClientError::Unauthenticated { message: String::new() }), Verdict::Fail);
        assert_eq!(fail(&ClientError::protocol("nonsense")), Verdict::Fail);
        let mut place = Place::default();
        assert_eq!(place.ended(None, Backoff::default(), 0), Verdict::Over);
        place.drains();
        assert_eq!(place.ended(None, Backoff::default(), 0), Verdict::Again(Duration::ZERO));
    }
}
