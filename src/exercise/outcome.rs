//! How an exercise went.

use std::fmt;
use std::time::Duration;

use crate::exercise::advice::Parted;
use crate::exercise::clock::Offset;

/// How one step went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepOutcome {
    /// Its place in the order, from 1.
    pub number: usize,
    /// How it went.
    pub result: StepResult,
    /// How long it took.
    pub elapsed: Duration,
    /// The event that it was about, if there was one: a host, and the number there.
    pub evidence: Option<(usize, u64)>,
    /// What it has found out that neither an event tells nor the file says.
    pub finding: Option<String>,
    /// The last call that it made, where it did not go as it should.
    pub call: Option<CallMade>,
}

/// A call that a step made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallMade {
    /// Where its agent is reached.
    pub agent: String,
    /// The method, with its service.
    pub method: String,
    /// The request, as JSON.
    pub request: String,
}

/// How a step went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepResult {
    /// As it should.
    Passed,
    /// Not as it should.
    Failed(Failure),
    /// It could not be done: an agent is away, or refuses.
    CouldNotRun(Failure),
}

/// What was wanted, and what was seen instead.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    /// What was compared: `payload`, `error`, `event`.
    pub what: String,
    /// What it should have been.
    pub expected: String,
    /// What it was.
    pub seen: String,
    /// Both in a sentence.
    pub text: String,
    /// How it parts from what it should have been, where both are bytes.
    pub parted: Option<Parted>,
}

impl Difference {
    /// A difference, told as `what is seen, not expected`.
    pub fn new(what: &str, expected: impl Into<String>, seen: impl Into<String>) -> Self {
        let (expected, seen) = (expected.into(), seen.into());
        let text = format!("{what} is {seen}, not {expected}");
        Self { what: what.to_owned(), expected, seen, text, parted: None }
    }

    /// The same, told in these words.
    #[must_use]
    pub fn told(mut self, text: impl Into<String>) -> Self {
        self.text = text.into();
        self
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What went wrong, and what to make of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Failure {
    /// What was wanted and what was got.
    pub message: String,
    /// What stands under the step.
    pub label: String,
    /// Both as fields, where something was compared.
    pub difference: Option<Difference>,
    /// The likely cause, and what to try.
    pub advice: Vec<String>,
}

impl Failure {
    /// A failure in these words.
    pub fn new(message: impl Into<String>, label: impl Into<String>) -> Self {
        Self { message: message.into(), label: label.into(), ..Self::default() }
    }

    /// Something was not what it should have been.
    pub fn differs(difference: Difference) -> Self {
        let (message, label) = (difference.text.clone(), difference.seen.clone());
        Self { difference: Some(difference), ..Self::new(message, label) }
    }

    /// The same, with advice, if it says anything.
    #[must_use]
    pub fn advised(mut self, advice: impl Into<String>) -> Self {
        let advice = advice.into();
        if !advice.is_empty() && !self.advice.contains(&advice) {
            self.advice.push(advice);
        }
        self
    }
}

/// A host that took part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSeen {
    /// Its role.
    pub role: String,
    /// Where its agent is reached.
    pub agent: String,
    /// The agent's version.
    pub version: String,
    /// The address that its sockets use.
    pub lab_address: String,
    /// How far its clock is ahead of the controller's.
    pub offset: Offset,
}

/// How an exercise went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExerciseOutcome {
    /// Those of its steps that were reached.
    pub steps: Vec<StepOutcome>,
    /// How many steps it has.
    pub step_count: usize,
    /// Why it did not even begin, or did not come to its end, where that is no step's fault.
    pub problem: Option<String>,
    /// How long it took.
    pub elapsed: Duration,
}

/// What it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Every step went as it should.
    Passed,
    /// A step did not.
    Failed,
    /// It could not be run.
    CouldNotRun,
}

impl ExerciseOutcome {
    /// One that could not begin.
    pub fn not_begun(step_count: usize, problem: impl Into<String>) -> Self {
        Self { steps: Vec::new(), step_count, problem: Some(problem.into()), elapsed: Duration::ZERO }
    }

    /// What it comes to.
    pub fn verdict(&self) -> Verdict {
        let unable = |step: &StepOutcome| matches!(step.result, StepResult::CouldNotRun(_));
        let failed = |step: &StepOutcome| matches!(step.result, StepResult::Failed(_));
        if self.problem.is_some() || self.steps.iter().any(unable) {
            Verdict::CouldNotRun
        } else if self.steps.iter().any(failed) {
            Verdict::Failed
        } else {
            Verdict::Passed
        }
    }

    /// How many steps went as they should.
    pub fn passed(&self) -> usize {
        self.steps.iter().filter(|step| step.result == StepResult::Passed).count()
    }

    /// How many steps were not reached.
    pub fn not_reached(&self) -> usize {
        self.step_count - self.steps.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(results: Vec<StepResult>, problem: Option<&str>) -> ExerciseOutcome {
        let steps = (1..)
            .zip(results)
            .map(|(number, result)| StepOutcome {
                number,
                result,
                elapsed: Duration::ZERO,
                evidence: None,
                finding: None,
                call: None,
            })
            .collect();
        ExerciseOutcome { steps, step_count: 3, problem: problem.map(str::to_owned), elapsed: Duration::ZERO }
    }

    #[test]
    fn the_worst_step_decides() {
        let failed = StepResult::Failed(Failure::new("x", "y"));
        let unable = StepResult::CouldNotRun(Failure::new("x", "y"));
        assert_eq!(outcome(vec![StepResult::Passed], None).verdict(), Verdict::Passed);
        assert_eq!(outcome(vec![StepResult::Passed, failed.clone()], None).verdict(), Verdict::Failed);
        assert_eq!(outcome(vec![failed, unable], None).verdict(), Verdict::CouldNotRun);
        assert_eq!(outcome(vec![StepResult::Passed], Some("the agent is away")).verdict(), Verdict::CouldNotRun);
        assert_eq!(outcome(vec![StepResult::Passed], None).not_reached(), 2);
    }

    #[test]
    fn advice_is_given_once_and_only_where_there_is_some() {
        let failure = Failure::new("x", "y").advised("").advised("a").advised("a");
        assert_eq!(failure.advice, ["a"]);
    }
}
