//! The controller: runs an exercise against agents, and tells how it went.
//!
//! A run reaches the `fleet`, measures its clocks, opens a session on each agent, `collect`s what happens there, goes the `course` of its
//! `step`s, and leaves every agent as it found it.

mod bindings;
mod calls;
mod collect;
mod course;
mod fleet;
mod instant;
mod order;
mod progress;
mod questions;
mod step;
mod survey;
mod telling;
mod traffic;
mod transfer;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

pub use crate::controller::fleet::{Fleet, Member};
pub use crate::controller::progress::{PATIENCE, Phase, Progress};
pub use crate::controller::survey::{Found, each, survey};

use crate::controller::collect::Collector;
use crate::controller::progress::Waiting;
use crate::controller::telling::Telling;
use crate::exercise::outcome::{ExerciseOutcome, HostSeen, StepOutcome};
use crate::exercise::plan::{Plan, Step};
use crate::exercise::timeline::Moment;
use crate::model::id::SocketId;
use crate::model::time::Clock;

/// How long cleaning up may take, also when an agent has gone.
const CLEAN_UP: Duration = Duration::from_secs(5);

/// Who is told what happens, while it happens.
pub trait Observer {
    /// The hosts are there, and the exercise begins now; moments count from this time on.
    fn began(&mut self, hosts: &[HostSeen], start: i64);
    /// A socket has a name in the exercise.
    fn named(&mut self, host: usize, id: &SocketId, name: &str);
    /// These moments have come, in this order.
    fn happened(&mut self, moments: &[Moment]);
    /// It takes its time. Told again and again, several times a second, for as long as that is so.
    fn waiting(&mut self, progress: &Progress);
    /// A step has ended. What happened meanwhile has been told.
    fn stepped(&mut self, step: &Step, outcome: &StepOutcome);
}

/// What ends a run early.
#[derive(Debug, Clone, Default)]
pub struct Interrupts {
    /// In good order: no further step is begun, none is waited for, and what is to be done at the end in any case is done.
    pub early: CancellationToken,
    /// Without that, too.
    pub at_once: CancellationToken,
}

/// Runs an exercise, until its end or an interrupt.
pub async fn run(
    plan: &Plan,
    mut fleet: Fleet,
    observer: &mut dyn Observer,
    interrupts: &Interrupts,
) -> ExerciseOutcome {
    let clock = fleet.clock();
    let waiting = Waiting::default();
    let prepared = tokio::select! {
        prepared = waiting.watched(prepare(&mut fleet, &waiting), observer) => prepared,
        () = interrupts.early.cancelled() => Err("interrupted".to_owned()),
    };
    let collector = match prepared {
        Ok(collector) => collector,
        Err(problem) => {
            // Some agents may have a session already; what was to be told is why there is no exercise, not how this goes.
            let _ = waiting.watched(clean_up(&fleet, &waiting), observer).await;
            return ExerciseOutcome::not_begun(plan.steps.len(), problem);
        }
    };
    let start = clock.now().nanos();
    let began = Instant::now();
    observer.began(&fleet.seen(), start);
    let telling = Telling::new(&collector, &fleet);
    let (steps, ended_by) = tokio::select! {
        biased;
        ended = course::run(plan, telling, &waiting, observer, interrupts) => ended,
        never = fleet.keep_time() => match never {},
    };
    let elapsed = began.elapsed();
    // Before the sessions end, and their logs with them.
    let lost = collector.lost();
    let cleaned = waiting.watched(clean_up(&fleet, &waiting), observer).await;
    collector.stop().await;
    let problem = ended_by.or(lost).or_else(|| cleaned.err().map(|_| "an agent could not be cleaned up".to_owned()));
    ExerciseOutcome { steps, step_count: plan.steps.len(), problem, elapsed }
}

/// Reaches all agents, and begins to listen to them.
async fn prepare(fleet: &mut Fleet, waiting: &Waiting) -> Result<Arc<Collector>, String> {
    fleet.reach(waiting).await?;
    fleet.read_clocks(waiting).await?;
    fleet.open_sessions(waiting).await?;
    Collector::start(fleet, waiting).await
}

/// Leaves all agents as they were, as far as they answer in time.
async fn clean_up(fleet: &Fleet, waiting: &Waiting) -> Result<(), Elapsed> {
    timeout(CLEAN_UP, fleet.clean_up(waiting)).await
}
