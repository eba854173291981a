//! The controller: runs an exercise against agents, and tells how it went.
//!
//! A run reaches the `fleet`, measures its clocks, opens a session on each agent, `collect`s what happens there, goes the `course` of its
//! `step`s, and leaves every agent as it found it.

mod bindings;
mod calls;
mod collect;
mod course;
mod expect;
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

use tokio::time::Instant;
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
            // Some agents may have a session already.
            let cleaned = waiting.watched(fleet.clean_up(CLEAN_UP, &waiting), observer).await;
            return ExerciseOutcome::not_begun(
                plan.steps.len(),
                both(Some(problem), cleaned.err()).unwrap_or_default(),
            );
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
    let cleaned = waiting.watched(fleet.clean_up(CLEAN_UP, &waiting), observer).await;
    collector.stop().await;
    let problem = both(ended_by.or(lost), cleaned.err());
    ExerciseOutcome { steps, step_count: plan.steps.len(), problem, elapsed }
}

/// What has ended a run, and what it has left behind: a line of each.
fn both(ended_by: Option<String>, left: Option<String>) -> Option<String> {
    let lines: Vec<String> = ended_by.into_iter().chain(left).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// Reaches all agents, and begins to listen to them.
async fn prepare(fleet: &mut Fleet, waiting: &Waiting) -> Result<Arc<Collector>, String> {
    fleet.reach(waiting).await?;
    fleet.read_clocks(waiting).await?;
    fleet.open_sessions(waiting).await?;
    Collector::start(fleet, waiting).await
}
