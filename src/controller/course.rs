//! The course of an exercise: which step is done when, and who is told that it has ended.
//!
//! Invariants: a step of a branch begins when everything before it in that branch has been told. Whatever ends the steps early, those of
//! `finally` are done, and none of them keeps the others from being done.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};

use crate::controller::bindings::Bindings;
use crate::controller::progress::{Phase, Waiting, ticks};
use crate::controller::step::Runner;
use crate::controller::telling::Telling;
use crate::controller::{Interrupts, Observer};
use crate::exercise::course::Part;
use crate::exercise::outcome::{Failure, StepOutcome, StepResult};
use crate::exercise::plan::{Plan, Step, Verb};

/// How many steps may have ended without having been told; more wait before they go on.
const ENDED: usize = 64;

/// A step that has ended.
struct Ended {
    /// Which one of the plan's.
    at: usize,
    outcome: StepOutcome,
    /// It has been told.
    told: oneshot::Sender<()>,
}

/// Does steps.
pub(super) struct Course<'a> {
    pub(super) plan: &'a Plan,
    pub(super) runner: Runner<'a>,
    bindings: &'a Bindings<'a>,
    ended: mpsc::Sender<Ended>,
    pub(super) waiting: &'a Waiting,
    /// These are the steps that are done in any case.
    pub(super) finally: bool,
}

/// Does all steps of a plan, and says what has ended them early that is no step's fault.
pub(super) async fn run(
    plan: &Plan,
    telling: Telling<'_>,
    waiting: &Waiting,
    observer: &mut dyn Observer,
    interrupts: &Interrupts,
) -> (Vec<StepOutcome>, Option<String>) {
    let (fleet, collector) = (telling.fleet, telling.collector);
    let bindings = Bindings::new(fleet);
    let (sender, ended) = mpsc::channel(ENDED);
    let mut course = Course {
        plan,
        runner: Runner { fleet, collector, made: None, moment: None },
        bindings: &bindings,
        ended: sender,
        waiting,
        finally: false,
    };
    let mut ends =
        Ends { plan, bindings: &bindings, ended, open: None, outcomes: Vec::new(), waiting, telling, observer };
    waiting.begin(Phase::Step, plan.steps.len(), []);
    // What ends all steps comes before what that makes of the one that goes on.
    let mut problem = tokio::select! {
        biased;
        () = interrupts.early.cancelled() => Some("interrupted".to_owned()),
        lost = fleet.lost() => Some(lost),
        over = collector.over() => Some(fleet.check().err().unwrap_or(over)),
        _ = course.parts(&plan.parts) => None,
        () = ends.tell() => None,
    };
    waiting.give_up();
    ends.catch_up().await;
    if !plan.finally.is_empty() {
        course.finally = true;
        let left = tokio::select! {
            biased;
            () = interrupts.at_once.cancelled() => Some("interrupted again, in `finally`".to_owned()),
            _ = course.parts(&plan.finally) => None,
            () = ends.tell() => None,
        };
        ends.catch_up().await;
        problem = left.or(problem);
    }
    ends.telling.tell_all(waiting, ends.observer).await;
    (ends.outcomes, problem)
}

impl Course<'_> {
    /// Does these parts one after the other, until one does not go as it should; says whether all of them did.
    fn parts<'s>(&'s self, parts: &'s [Part]) -> Pin<Box<dyn Future<Output = bool> + 's>> {
        Box::pin(async move {
            let mut all_well = true;
            for part in parts {
                let well = match part {
                    Part::Step(at) => self.step(*at).await,
                    // A branch that goes wrong leaves the others alone: what they come to says more about it.
                    Part::Parallel(branches) => {
                        join_all(branches.iter().map(|branch| self.parts(branch))).await.into_iter().all(|well| well)
                    }
                    Part::Together(steps, check) => self.together(steps, *check).await,
                };
                all_well &= well;
                if !well && !self.finally {
                    break;
                }
            }
            all_well
        })
    }

    async fn step(&self, at: usize) -> bool {
        let step = &self.plan.steps[at];
        if self.finally && self.lacks(step) {
            return true;
        }
        let outcome = self.outcome(at, self.runner).await;
        let well = outcome.result == StepResult::Passed;
        self.tell(at, outcome).await;
        well
    }

    /// Whether a step is about a socket that was not made, because the steps have ended before.
    pub(super) fn lacks(&self, step: &Step) -> bool {
        !matches!(step.verb, Verb::Create(_))
            && step.verb.socket().is_some_and(|name| self.bindings.socket(name).is_err())
    }

    pub(super) async fn outcome(&self, at: usize, runner: Runner<'_>) -> StepOutcome {
        self.waiting.add(at);
        let outcome = self.outcome_of(&self.plan.steps[at], runner).await;
        self.waiting.done(at);
        outcome
    }

    async fn outcome_of(&self, step: &Step, runner: Runner<'_>) -> StepOutcome {
        let done = runner.step(step, self.bindings);
        if !self.finally {
            return done.await;
        }
        tokio::select! {
            biased;
            // Nobody waits for an agent that has gone.
            why = self.runner.gone(step.host) => {
                let result = StepResult::CouldNotRun(Failure::new(why, "this agent has gone"));
                StepOutcome { number: step.number, result, elapsed: Duration::ZERO, evidence: None, finding: None, call: None }
            }
            done = done => done,
        }
    }

    /// Waits until it has been told that a step has ended.
    pub(super) async fn tell(&self, at: usize, outcome: StepOutcome) {
        let (told, heard) = oneshot::channel();
        if self.ended.send(Ended { at, outcome, told }).await.is_ok() {
            // Who tells it goes away only when there is nothing more to do.
            let _ = heard.await;
        }
    }
}

/// Tells which steps have ended.
struct Ends<'a, 'o> {
    plan: &'a Plan,
    bindings: &'a Bindings<'a>,
    ended: mpsc::Receiver<Ended>,
    /// The one that is being told.
    open: Option<Ended>,
    outcomes: Vec<StepOutcome>,
    waiting: &'a Waiting,
    telling: Telling<'a>,
    observer: &'o mut dyn Observer,
}

impl Ends<'_, '_> {
    /// Tells of all steps that end, as long as there are more of them; and what happens meanwhile, where none does for a while.
    async fn tell(&mut self) {
        let mut ticks = ticks();
        loop {
            tokio::select! {
                biased;
                next = self.ended.recv() => {
                    let Some(next) = next else { return };
                    self.open = Some(next);
                    self.tell_open().await;
                    ticks.reset();
                }
                _ = ticks.tick() => {
                    // What is told now may still turn out to be what a step waits for: it is shown the next time.
                    self.observer.waiting(&self.waiting.now());
                    self.telling.tell_fresh(self.observer).await;
                }
            }
        }
    }

    /// Tells of those that have ended before the others were ended.
    async fn catch_up(&mut self) {
        self.tell_open().await;
        while let Ok(next) = self.ended.try_recv() {
            self.open = Some(next);
            self.tell_open().await;
        }
    }

    async fn tell_open(&mut self) {
        let Some(open) = &self.open else { return };
        let host = self.plan.steps[open.at].host;
        for (host, id, name) in self.bindings.take_named() {
            self.observer.named(host, &id, &name);
        }
        self.telling.tell(host, self.observer).await;
        if let Some(Ended { at, outcome, told }) = self.open.take() {
            self.observer.stepped(&self.plan.steps[at], &outcome);
            self.outcomes.push(outcome);
            // Where the step's branch was ended meanwhile, nobody waits for it.
            let _ = told.send(());
        }
    }
}
