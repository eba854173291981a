//! The memory of operations: the same request under the same name is carried out once.
//!
//! Invariant: a name means one request. Whoever sends it again joins it while it runs, and is answered from memory afterwards.

use std::collections::{HashMap, VecDeque};

use crate::model::id::RequestId;
use crate::model::refusal::{Quota, Refusal};

/// How much is remembered.
#[derive(Debug, Clone, Copy)]
pub struct CallLimits {
    /// Operations that run or are scheduled.
    pub running: u32,
    /// Operations that have ended.
    pub remembered: u32,
    /// Bytes of payload that those hold.
    pub remembered_bytes: u64,
}

/// The operations of one session: `R` stands for a running one, `D` for how one has ended.
#[derive(Debug)]
pub struct Calls<R, D> {
    limits: CallLimits,
    minted: u64,
    running: HashMap<RequestId, Running<R>>,
    done: HashMap<RequestId, Done<D>>,
    /// The ended ones, oldest first.
    order: VecDeque<RequestId>,
    bytes: u64,
}

#[derive(Debug)]
struct Running<R> {
    fingerprint: u64,
    handle: R,
}

#[derive(Debug)]
struct Done<D> {
    fingerprint: u64,
    outcome: D,
    bytes: u64,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Begun<R, D> {
    /// It is new, and carried out under this handle.
    New(R),
    /// It runs already.
    Running(R),
    /// It has ended already.
    Ended(D),
}

impl<R: Clone, D: Clone> Calls<R, D> {
    /// No operations yet.
    pub fn new(limits: CallLimits) -> Self {
        Self { limits, minted: 0, running: HashMap::new(), done: HashMap::new(), order: VecDeque::new(), bytes: 0 }
    }

    /// Takes a request up, under the name that its caller chose or one that is minted. `fingerprint` tells requests apart.
    pub fn begin(
        &mut self,
        chosen: Option<&RequestId>,
        fingerprint: u64,
        start: impl FnOnce(RequestId) -> R,
    ) -> Result<Begun<R, D>, Refusal> {
        if let Some(id) = chosen {
            let same = |known: u64| {
                if known == fingerprint { Ok(()) } else { Err(Refusal::RequestIdReused(id.clone())) }
            };
            if let Some(running) = self.running.get(id) {
                same(running.fingerprint)?;
                return Ok(Begun::Running(running.handle.clone()));
            }
            if let Some(done) = self.done.get(id) {
                same(done.fingerprint)?;
                return Ok(Begun::Ended(done.outcome.clone()));
            }
        }
        if self.running.len() >= self.limits.running as usize {
            return Err(Refusal::QuotaExceeded(Quota { limit: "limits.calls", value: self.limits.running.into() }));
        }
        let id = chosen.cloned().unwrap_or_else(|| {
            self.minted += 1;
            RequestId::minted(self.minted)
        });
        let handle = start(id.clone());
        self.running.insert(id, Running { fingerprint, handle: handle.clone() });
        Ok(Begun::New(handle))
    }

    /// Says that an operation has ended, and what to remember of it, with the bytes of payload that this holds.
    pub fn end(&mut self, id: &RequestId, remember: Option<(D, u64)>) {
        let Some(Running { fingerprint, .. }) = self.running.remove(id) else { return };
        let Some((outcome, bytes)) = remember else { return };
        self.bytes += bytes;
        self.done.insert(id.clone(), Done { fingerprint, outcome, bytes });
        self.order.push_back(id.clone());
        while self.order.len() > self.limits.remembered as usize || self.bytes > self.limits.remembered_bytes {
            let Some(oldest) = self.order.pop_front() else { break };
            self.bytes -= self.done.remove(&oldest).map_or(0, |done| done.bytes);
        }
    }

    /// An operation by name.
    pub fn find(&self, id: &RequestId) -> Result<Begun<R, D>, Refusal> {
        let running = self.running.get(id).map(|running| Begun::Running(running.handle.clone()));
        let done = || self.done.get(id).map(|done| Begun::Ended(done.outcome.clone()));
        running.or_else(done).ok_or_else(|| Refusal::CallNotFound(id.clone()))
    }

    /// All operations that run.
    pub fn running(&self) -> Vec<R> {
        self.running.values().map(|running| running.handle.clone()).collect()
    }

    /// How many these are.
    pub fn running_count(&self) -> usize {
        self.running.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const LIMITS: CallLimits = CallLimits { running: 3, remembered: 2, remembered_bytes: 10 };

    fn id(text: &str) -> RequestId {
        RequestId::parse_known(text).unwrap()
    }

    fn calls() -> Calls<RequestId, &'static str> {
        Calls::new(LIMITS)
    }

    fn begin(
        calls: &mut Calls<RequestId, &'static str>,
        chosen: Option<&str>,
        fingerprint: u64,
    ) -> Result<Begun<RequestId, &'static str>, Refusal> {
        calls.begin(chosen.map(id).as_ref(), fingerprint, |id| id)
    }

    #[test]
    fn the_same_request_is_carried_out_once() {
        let mut calls = calls();
        assert_eq!(begin(&mut calls, Some("a"), 1), Ok(Begun::New(id("a"))));
        assert_eq!(begin(&mut calls, Some("a"), 1), Ok(Begun::Running(id("a"))));
        assert_eq!(begin(&mut calls, Some("a"), 2), Err(Refusal::RequestIdReused(id("a"))));
        calls.end(&id("a"), Some(("done", 0)));
        assert_eq!(begin(&mut calls, Some("a"), 1), Ok(Begun::Ended("done")));
        assert_eq!(begin(&mut calls, Some("a"), 2), Err(Refusal::RequestIdReused(id("a"))));
    }

    #[test]
    fn refusals_are_not_remembered() {
        let mut calls = calls();
        begin(&mut calls, Some("a"), 1).unwrap();
        calls.end(&id("a"), None);
        assert_eq!(begin(&mut calls, Some("a"), 2), Ok(Begun::New(id("a"))));
    }

    #[test]
    fn unnamed_requests_are_all_different() {
        let mut calls = calls();
        assert_eq!(begin(&mut calls, None, 1), Ok(Begun::New(id("@1"))));
        assert_eq!(begin(&mut calls, None, 1), Ok(Begun::New(id("@2"))));
        assert_eq!(calls.running().len(), 2);
    }

    #[test]
    fn memory_and_work_are_bounded() {
        let mut calls = calls();
        for name in ["a", "b", "c"] {
            begin(&mut calls, Some(name), 1).unwrap();
        }
        assert!(matches!(begin(&mut calls, Some("d"), 1), Err(Refusal::QuotaExceeded(_))));
        for name in ["a", "b", "c"] {
            calls.end(&id(name), Some((name_of(name), 1)));
        }
        assert_eq!(calls.find(&id("a")), Err(Refusal::CallNotFound(id("a"))), "the oldest is forgotten");
        assert_eq!(calls.find(&id("c")), Ok(Begun::Ended("c")));
        begin(&mut calls, Some("big"), 1).unwrap();
        calls.end(&id("big"), Some(("big", 11)));
        assert!(calls.find(&id("big")).is_err() && calls.find(&id("c")).is_err(), "too large to be remembered");
        assert_eq!(calls.bytes, 0);
    }

    fn name_of(name: &str) -> &'static str {
        ["a", "b", "c"].into_iter().find(|known| *known == name).unwrap()
    }

    proptest! {
        /// Retries in any order never start a remembered request twice.
        #[test]
        fn retries_never_double(steps in prop::collection::vec((0u8..4, 0u64..2, any::<bool>()), 0..60)) {
            let limits = CallLimits { running: 100, remembered: 100, remembered_bytes: 100 };
            let mut calls: Calls<u8, u64> = Calls::new(limits);
            let mut started: HashMap<u8, (u64, bool)> = HashMap::new();
            for (name, fingerprint, end) in steps {
                let id = RequestId::parse(&name.to_string()).unwrap();
                if end {
                    calls.end(&id, Some((started.get(&name).map_or(0, |s| s.0), 0)));
                    started.entry(name).and_modify(|s| s.1 = true);
                    continue;
                }
                match (calls.begin(Some(&id), fingerprint, |_| name), started.get(&name)) {
                    (Ok(Begun::New(_)), None) => { started.insert(name, (fingerprint, false)); }
                    (Ok(Begun::Running(_)), Some((f, false))) => prop_assert_eq!(*f, fingerprint),
                    (Ok(Begun::Ended(f)), Some((_, true))) => prop_assert_eq!(f, fingerprint),
                    (Err(Refusal::RequestIdReused(_)), Some((f, _))) => prop_assert_ne!(*f, fingerprint),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
    }
}
