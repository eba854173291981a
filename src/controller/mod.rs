//! The controller: runs an exercise against agents, and tells how it went.
//!
//! A run reaches the `fleet`, measures its clocks, opens a session on each agent, `collect`s what happens there, does one `step` after
//! the other, and leaves every agent as it found it.

mod bindings;
mod collect;
mod fleet;
mod step;
mod traffic;

use std::collections::HashSet;
use std::future::Future;
use std::pin::pin;
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

/// How long a step goes on before those who watch are told that it does.
const PATIENCE: Duration = Duration::from_millis(100);

/// Who is told what happens, while it happens.
pub trait Observer {
    /// The hosts are there, and the exercise begins now; moments count from this time on.
    fn began(&mut self, hosts: &[HostSeen], start: i64);
    /// A socket has a name in the exercise.
    fn named(&mut self, host: usize, id: &SocketId, name: &str);
    /// These moments have come, in this order.
    fn happened(&mut self, moments: &[Moment]);
    /// A step takes its time.
    fn waiting(&mut self);
    /// A step has ended. What happened meanwhile has been told.
    fn stepped(&mut self, step: &Step, outcome: &StepOutcome);
}

/// Runs an exercise. `interrupt` ends it early, and in good order.
pub async fn run(
    plan: &Plan,
    mut fleet: Fleet,
    observer: &mut dyn Observer,
    interrupt: &CancellationToken,
) -> ExerciseOutcome {
    let clock = SystemClock::start();
    let prepared = tokio::select! {
        prepared = prepare(&mut fleet, clock) => prepared,
        () = interrupt.cancelled() => Err("interrupted".to_owned()),
    };
    let collector = match prepared {
        Ok(collector) => collector,
        Err(problem) => {
            // Some agents may have a session already; what was to be told is why there is no exercise, not how this goes.
            let _ = tokio::time::timeout(CLEAN_UP, fleet.clean_up()).await;
            return ExerciseOutcome::not_begun(plan.steps.len(), problem);
        }
    };
    let start = clock.now().nanos();
    let began = Instant::now();
    observer.began(&fleet.seen(), start);
    let mut telling = Telling { told: HashSet::new(), collector: &collector, fleet: &fleet };
    let (steps, interrupted) = run_steps(plan, &mut telling, observer, interrupt).await;
    let elapsed = began.elapsed();
    telling.tell(observer).await;
    let cleaned = tokio::time::timeout(CLEAN_UP, fleet.clean_up()).await;
    let lost = collector.lost();
    collector.stop().await;
    let problem = interrupted.or(lost).or_else(|| cleaned.err().map(|_| "an agent could not be cleaned up".to_owned()));
    ExerciseOutcome { steps, step_count: plan.steps.len(), problem, elapsed }
}

/// Does one step after the other, until one does not go as it should; says also what has ended it early.
async fn run_steps(
    plan: &Plan,
    telling: &mut Telling<'_>,
    observer: &mut dyn Observer,
    interrupt: &CancellationToken,
) -> (Vec<StepOutcome>, Option<String>) {
    let runner = Runner { fleet: telling.fleet, collector: telling.collector };
    let mut bindings = Bindings::new(telling.fleet);
    let mut outcomes = Vec::with_capacity(plan.steps.len());
    for step in &plan.steps {
        let done = tokio::select! {
            done = told_when_slow(runner.step(step, &mut bindings), observer) => done,
            () = interrupt.cancelled() => return (outcomes, Some("interrupted".to_owned())),
            lost = telling.fleet.lost() => return (outcomes, Some(lost)),
        };
        for (host, id, name) in bindings.take_named() {
            observer.named(host, &id, &name);
        }
        telling.tell(observer).await;
        observer.stepped(step, &done);
        let go_on = done.result == StepResult::Passed;
        outcomes.push(done);
        if !go_on {
            break;
        }
    }
    (outcomes, None)
}

async fn told_when_slow<T>(step: impl Future<Output = T>, observer: &mut dyn Observer) -> T {
    let mut step = pin!(step);
    if let Ok(done) = tokio::time::timeout(PATIENCE, &mut step).await {
        return done;
    }
    observer.waiting();
    step.await
}

/// Reaches all agents, and begins to listen to them.
async fn prepare(fleet: &mut Fleet, clock: SystemClock) -> Result<Arc<Collector>, String> {
    fleet.reach(clock).await?;
    fleet.open_sessions().await?;
    Collector::start(fleet).await
}

/// Tells an observer what is new, in one order.
struct Telling<'a> {
    collector: &'a Collector,
    fleet: &'a Fleet,
    told: HashSet<(usize, u64)>,
}

impl Telling<'_> {
    async fn tell(&mut self, observer: &mut dyn Observer) {
        self.collector.catch_up(self.fleet).await;
        let hosts: Vec<Vec<Told>> = self.collector.told(self.fleet);
        let moments = merge(&hosts);
        let new: Vec<Moment> =
            moments.into_iter().filter(|moment| self.told.insert((moment.host, moment.record.seq))).collect();
        if !new.is_empty() {
            observer.happened(&new);
        }
    }
}
