//! Steps that begin at one instant, on many hosts: each agent is asked ahead, to begin at that moment of its own clock.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::controller::calls::Appointment;
use crate::controller::course::Course;
use crate::controller::step::Runner;
use crate::exercise::clock::Offset;
use crate::exercise::instant::{Spread, Start, Sure};
use crate::exercise::outcome::{Difference, Failure, StepOutcome, StepResult};
use crate::exercise::plan::{Step, Verb};
use crate::model::time::Clock;

/// How far ahead the instant is: every agent must have its request by then.
const AHEAD: Duration = Duration::from_millis(200);

/// How much further for each step, because asking takes time.
const AHEAD_EACH: Duration = Duration::from_millis(2);

impl Course<'_> {
    /// Begins these steps at one instant, and does the step that says whether they did.
    pub(super) async fn together(&self, steps: &[usize], check: usize) -> bool {
        let began = Instant::now();
        let judge = &self.plan.steps[check];
        let steps: Vec<usize> =
            steps.iter().copied().filter(|at| !(self.finally && self.lacks(&self.plan.steps[*at]))).collect();
        let clocks = match self.clocks(&steps).await {
            Ok(clocks) => clocks,
            Err(problem) => {
                let failure = Failure::new(problem, "not all clocks are known");
                self.tell_check(check, outcome(judge, StepResult::CouldNotRun(failure), None, began)).await;
                return false;
            }
        };
        let moments = self.moments(&steps, &clocks);
        let all_well = join_all(steps.iter().zip(&moments).map(|(at, moment)| self.at_moment(*at, moment))).await;
        if !all_well.into_iter().all(|well| well) {
            return false;
        }
        let start = |(at, moment): (&usize, &Appointment)| {
            let host = self.plan.steps[*at].host;
            let (at, bound) = self.runner.member(host).by_our_clock(moment.began.get()?.nanos());
            Some(Start { host, at, bound })
        };
        let starts: Vec<Start> = steps.iter().zip(&moments).filter_map(start).collect();
        let (result, finding) = judged(judge, &starts);
        let well = result == StepResult::Passed;
        self.tell_check(check, outcome(judge, result, finding, began)).await;
        well
    }

    /// Tells of the step that says whether the others began at one instant. It goes on for no time of its own.
    async fn tell_check(&self, check: usize, outcome: StepOutcome) {
        self.waiting.add(check);
        self.waiting.done(check);
        self.tell(check, outcome).await;
    }

    /// How the clocks of all hosts go that take part.
    async fn clocks(&self, steps: &[usize]) -> Result<BTreeMap<usize, Offset>, String> {
        let mut clocks = BTreeMap::new();
        for at in steps {
            let host = self.plan.steps[*at].host;
            // One after the other: questions that wait for each other would measure that.
            if let std::collections::btree_map::Entry::Vacant(clock) = clocks.entry(host) {
                let reading = self.runner.read_clock(host).await?;
                // Those before narrow it: one alone may be wrong by half of the time that it has taken.
                clock.insert(self.runner.member(host).offset_at(reading.at));
            }
        }
        Ok(clocks)
    }

    /// One instant, by the clock of each step's host.
    fn moments(&self, steps: &[usize], clocks: &BTreeMap<usize, Offset>) -> Vec<Appointment> {
        let ahead = AHEAD + AHEAD_EACH * u32::try_from(steps.len()).unwrap_or(u32::MAX);
        // Where a question took long to be answered, the request will take long to come.
        let slowest = clocks.values().map(|offset| offset.bound).max().unwrap_or(0);
        let ahead = ahead + Duration::from_nanos(u64::try_from(slowest).unwrap_or(0)) * 4;
        let instant = self.runner.fleet.clock().now().after(ahead);
        let moment = |at: &usize| {
            let offset = clocks.get(&self.plan.steps[*at].host).copied().unwrap_or_default();
            Appointment { at: instant.shifted(offset.nanos), ahead, began: OnceLock::new() }
        };
        steps.iter().map(moment).collect()
    }

    async fn at_moment(&self, at: usize, moment: &Appointment) -> bool {
        let runner = Runner { moment: Some(moment), ..self.runner };
        let outcome = self.outcome(at, runner).await;
        let well = outcome.result == StepResult::Passed;
        self.tell(at, outcome).await;
        well
    }
}

fn outcome(step: &Step, result: StepResult, finding: Option<String>, began: Instant) -> StepOutcome {
    StepOutcome { number: step.number, result, elapsed: began.elapsed(), evidence: None, finding, call: None }
}

/// Whether the starts lie as near to each other as they should, and how near.
fn judged(step: &Step, starts: &[Start]) -> (StepResult, Option<String>) {
    let Verb::Together { align } = step.verb else { return (StepResult::Passed, None) };
    let Some(spread) = Spread::of(starts) else { return (StepResult::Passed, None) };
    let wanted = format!("at most {align:?} apart");
    let text = format!("{} starts lie {spread} apart", starts.len());
    let difference = Difference::new("align", wanted.clone(), format!("{spread} apart"));
    match spread.within(align) {
        Sure::Yes => (StepResult::Passed, Some(text)),
        Sure::No => {
            let failure = Failure::differs(difference.told(format!("{text}, not {wanted}")));
            let advice =
                "each agent begins by its own clock, as soon as its host lets it: one that is busy begins late";
            (StepResult::Failed(failure.advised(advice)), None)
        }
        Sure::Unknown => {
            let text = format!("undecided: {text}, and they should lie {wanted}");
            let failure = Failure::differs(difference.told(text));
            let advice =
                "the clocks are known no better than that: it is half of the time that a question takes to be answered";
            (StepResult::CouldNotRun(failure.advised(advice)), None)
        }
    }
}
