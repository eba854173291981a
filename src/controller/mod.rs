//! The controller: runs an exercise against agents, and tells how it went.
//!
//! A run reaches the [`fleet`], measures its clocks, opens a session on each agent, [`collect`]s what happens there, does one [`step`] after
//! the other, and leaves every agent as it found it.

mod bindings;
mod collect;
mod fleet;
mod step;
mod traffic;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use crate::controller::fleet::{Fleet, Member};

use crate::controller::bindings::Bindings;
use crate::controller::collect::Collector;
use crate::controller::step::Runner;
use crate::exercise::outcome::{ExerciseOutcome, HostSeen, StepOutcome, StepResult};
use crate::exercise::plan::{Plan, Step};
use crate::exercise::timeline::{Moment, Told, merge};
use crate::model::id::SocketId;
use crate::model::time::Clock;
use crate::sys::clock::SystemClock;

/// How long cleaning up may take, also when an agent has gone.
const CLEAN_UP: Duration = Duration::from_secs(5);

/// Who is told what happens, while it happens.
pub trait Observer {
    /// The hosts are there, and the exercise begins now; moments count from this time on.
    fn began(&mut self, hosts: &[HostSeen], start: i64);
    /// A socket has a name in the exercise.
    fn named(&mut self, host: usize, id: &SocketId, name: &str);
    /// These moments have come, in this order; those in `passed` were what a step waited for.
    fn happened(&mut self, moments: &[Moment], passed: &HashSet<(usize, u64)>);
    /// A step has ended.
    fn stepped(&mut self, step: &Step, outcome: &StepOutcome);
}

/// Runs an exercise. `interrupt` ends it early, and in good order.
pub async fn run(
    plan: &Plan,
    fleet: Fleet,
    observer: &mut dyn Observer,
    interrupt: &CancellationToken,
) -> ExerciseOutcome {
    let clock = SystemClock::start();
    let prepared = tokio::select! {
        prepared = prepare(fleet, clock) => prepared,
        () = interrupt.cancelled() => Err("interrupted".to_owned()),
    };
    let (fleet, collector) = match prepared {
        Ok(prepared) => prepared,
        Err(problem) => return ExerciseOutcome::not_begun(plan.steps.len(), problem),
    };
    let start = clock.now().nanos();
    let began = Instant::now();
    observer.began(&fleet.seen(), start);
    let runner = Runner { fleet: &fleet, collector: &collector };
    let mut telling = Telling { told: HashSet::new(), collector: &collector, fleet: &fleet };
    let mut bindings = Bindings::new(&fleet);
    let mut outcome =
        ExerciseOutcome { steps: Vec::new(), step_count: plan.steps.len(), problem: None, elapsed: Duration::ZERO };
    for step in &plan.steps {
        let done = tokio::select! {
            done = runner.step(step, &mut bindings) => done,
            () = interrupt.cancelled() => {
                outcome.problem = Some("interrupted".to_owned());
                break;
            }
        };
        for (host, id, name) in bindings.take_named() {
            observer.named(host, &id, &name);
        }
        let passed = done.evidence.filter(|_| done.result == StepResult::Passed).into_iter().collect();
        telling.tell(observer, &passed).await;
        observer.stepped(step, &done);
        let go_on = done.result == StepResult::Passed;
        outcome.steps.push(done);
        if !go_on {
            break;
        }
    }
    outcome.elapsed = began.elapsed();
    telling.tell(observer, &HashSet::new()).await;
    let cleaned = tokio::time::timeout(CLEAN_UP, fleet.clean_up()).await;
    let lost = collector.lost();
    collector.stop().await;
    outcome.problem =
        outcome.problem.or(lost).or_else(|| cleaned.err().map(|_| "an agent could not be cleaned up".to_owned()));
    outcome
}

/// Reaches all agents, and begins to listen to them.
async fn prepare(mut fleet: Fleet, clock: SystemClock) -> Result<(Fleet, Arc<Collector>), String> {
    fleet.reach(clock).await?;
    fleet.open_sessions().await?;
    let collector = Collector::start(&fleet).await?;
    Ok((fleet, collector))
}

/// Tells an observer what is new, in one order.
struct Telling<'a> {
    collector: &'a Collector,
    fleet: &'a Fleet,
    told: HashSet<(usize, u64)>,
}

impl Telling<'_> {
    async fn tell(&mut self, observer: &mut dyn Observer, passed: &HashSet<(usize, u64)>) {
        self.collector.catch_up(self.fleet).await;
        let hosts: Vec<Vec<Told>> = self.collector.told(self.fleet);
        let moments = merge(&hosts);
        let new: Vec<Moment> =
            moments.into_iter().filter(|moment| self.told.insert((moment.host, moment.record.seq))).collect();
        if !new.is_empty() {
            observer.happened(&new, passed);
        }
    }
}
