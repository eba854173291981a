//! How far a run is, and what it waits for: for whoever watches.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::controller::Observer;

/// How long nothing goes on before those who watch are told what is waited for, and how often they are told then.
pub const PATIENCE: Duration = Duration::from_millis(100);

/// What a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// Networks are made, and agents started in them.
    Network,
    /// It asks all agents who they are.
    #[default]
    Connect,
    /// It reads all clocks.
    Clock,
    /// It makes sessions, and begins to listen to them.
    Session,
    /// It does steps.
    Step,
    /// It waits for what agents have not told yet.
    Collect,
    /// It leaves agents as they were.
    CleanUp,
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// What it does.
    pub phase: Phase,
    /// How much of it has been done: hosts, or steps.
    pub done: usize,
    /// How much there is to do.
    pub of: usize,
    /// What is waited for: hosts by their place, or the steps that go on by theirs.
    pub awaited: BTreeSet<usize>,
}

/// The progress of a run, which those who do the work note.
#[derive(Default)]
pub(super) struct Waiting(Mutex<Progress>);

impl Waiting {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Progress {
        self.progress().clone()
    }

    /// So many are to be done now, of which these are waited for.
    pub(super) fn begin(&self, phase: Phase, of: usize, awaited: impl IntoIterator<Item = usize>) {
        *self.progress() = Progress { phase, done: 0, of, awaited: awaited.into_iter().collect() };
    }

    /// This one goes on now.
    pub(super) fn add(&self, which: usize) {
        self.progress().awaited.insert(which);
    }

    /// This one is done.
    pub(super) fn done(&self, which: usize) {
        let mut progress = self.progress();
        progress.done += usize::from(progress.awaited.remove(&which));
    }

    /// Nothing of it is waited for any more.
    pub(super) fn give_up(&self) {
        self.progress().awaited.clear();
    }

    /// Does something, and tells what it waits for as long as that takes.
    pub(super) async fn watched<T>(&self, work: impl Future<Output = T>, observer: &mut dyn Observer) -> T {
        let mut ticks = ticks();
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                _ = ticks.tick() => observer.waiting(&self.now()),
            }
        }
    }
}

/// Ticks as often as something is told that takes its time; not at once.
pub(super) fn ticks() -> Interval {
    let mut ticks = interval(PATIENCE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    ticks
}
