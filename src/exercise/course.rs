//! What is done after what: one step after the other, branches side by side, and what is done at the end in any case.

use std::fmt;
use std::ops::Range;

use serde_saphyr::Spanned;

use crate::exercise::check::{Checker, SocketName};
use crate::exercise::fields::{BranchFile, StepFile};
use crate::exercise::plan::{Step, Verb};
use crate::exercise::words::grammar::is_flow;
use crate::model::yaml::span;

/// A part of what is done. Steps are named by their place among the plan's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// One step.
    Step(usize),
    /// Branches that go on side by side; it is over when all of them are.
    Parallel(Vec<Vec<Self>>),
    /// Steps that begin at one instant, and the step that says whether they did.
    Together(Vec<usize>, usize),
}

/// One of several events that come in an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderedEvent {
    /// The socket.
    pub socket: String,
    /// Whose socket it is.
    pub host: usize,
    /// The kind.
    pub kind: &'static str,
    /// Which one of that kind, from 1.
    pub count: usize,
}

impl fmt::Display for OrderedEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` of {}", self.kind, self.socket)?;
        if self.count > 1 { write!(f, " ({})", self.count) } else { Ok(()) }
    }
}

/// Where a step stands among what goes on side by side: forks, and which branch of each, from the outermost on.
pub(super) type Lane = Vec<(usize, usize)>;

/// Whether two steps may go on at the same time.
pub(super) fn beside(one: &Lane, other: &Lane) -> bool {
    one.iter().zip(other).find(|(one, other)| one != other).is_some_and(|(one, other)| one.0 == other.0)
}

/// What a check knows of the order of the steps.
#[derive(Default)]
pub(super) struct Order {
    /// The parts of the branch that is being read.
    parts: Vec<Part>,
    pub(super) lane: Lane,
    forks: usize,
}

impl Order {
    pub(super) fn push(&mut self, part: Part) {
        self.parts.push(part);
    }

    /// The parts since the last time.
    pub(super) fn take(&mut self) -> Vec<Part> {
        std::mem::take(&mut self.parts)
    }
}

impl Part {
    const fn step(&self) -> Option<usize> {
        match self {
            Self::Step(step) => Some(*step),
            Self::Parallel(_) | Self::Together(..) => None,
        }
    }
}

impl Checker<'_> {
    /// Branches, each of which is a step, a list of steps, or the rounds of a loop.
    pub(super) fn parallel(&mut self, file: &StepFile) -> Option<()> {
        self.only_flow(file, "parallel", &[]);
        let branches = file.parallel.as_deref()?;
        let fork = self.fork();
        let mut parts = Vec::new();
        for branch in &branches.value {
            match &branch.value {
                BranchFile::Steps(steps) => self.side_branch(fork, &mut parts, |checker| checker.steps(steps)),
                BranchFile::Step(step) => match &step.foreach {
                    Some(items) => {
                        self.within_limits(span(&items.referenced), |checker| {
                            checker.foreach(step, &mut |checker, steps| {
                                checker.side_branch(fork, &mut parts, |checker| checker.steps(steps));
                            })
                        });
                    }
                    None => self.side_branch(fork, &mut parts, |checker| checker.any_step(step)),
                },
            }
        }
        if parts.len() < 2 && self.mistake_count() == 0 {
            let at = span(&branches.referenced);
            self.wrong_with_help(at, "`parallel` needs two branches at least", "each is a step, or a list of steps");
        }
        self.order.push(Part::Parallel(parts));
        Some(())
    }

    /// Steps that begin at one instant: each goes on beside the others.
    pub(super) fn together(&mut self, file: &StepFile, verb_span: Range<usize>) -> Option<()> {
        self.only_flow(file, "together", &[]);
        let together = file.together.as_deref()?;
        let at = span(&together.referenced);
        let Some(align) = &together.value.align else {
            let help = "it says how far apart the starts may lie, such as 5ms";
            self.wrong_with_help(at, "`together` needs `align`", help);
            return None;
        };
        let align = Spanned::new(self.text(align)?, align.referenced, align.defined);
        let align = self.duration(Some(&align))?;
        let (fork, mut parts) = (self.fork(), Vec::new());
        for step in &together.value.steps {
            match &step.value.foreach {
                Some(items) => {
                    self.within_limits(span(&items.referenced), |checker| {
                        checker.foreach(&step.value, &mut |checker, steps| {
                            for step in steps {
                                checker.instant(fork, &mut parts, &step.value);
                            }
                        })
                    });
                }
                None => self.instant(fork, &mut parts, &step.value),
            }
        }
        let steps: Vec<usize> = parts.iter().flatten().filter_map(Part::step).collect();
        let Some(first) = steps.first().filter(|_| steps.len() > 1) else {
            if self.mistake_count() == 0 {
                self.wrong(at, "`together` needs two steps at least");
            }
            return None;
        };
        let step = Step {
            number: self.next_number(&at)?,
            host: self.step_at(*first).host,
            verb: Verb::Together { align },
            within: None,
            error: None,
            note: file.note.as_deref().map(|note| note.value.clone()),
            context: self.flow.context(),
            source: self.flow.at(),
            span: self.step_span(file),
            verb_span,
        };
        let check = self.push_step(step);
        self.order.push(Part::Together(steps, check));
        Some(())
    }

    /// A step that begins at one instant with others.
    fn instant(&mut self, fork: usize, parts: &mut Vec<Vec<Part>>, step: &StepFile) {
        let Some((word, at)) = self.one_verb(step) else { return };
        if is_flow(word) {
            let message = format!("`{word}` does not begin at an instant");
            self.wrong_with_help(at, message, "`together` has steps, and loops over steps");
            return;
        }
        self.branch(fork, parts, None, |checker| checker.any_step(step));
        let made = parts.last().and_then(|part| part.first()).and_then(Part::step);
        if made.is_some_and(|made| self.step_at(made).verb.is_check()) {
            self.wrong(at, format!("`{word}` waits or looks, and so it does not begin at an instant"));
        }
    }

    fn fork(&mut self) -> usize {
        self.order.forks += 1;
        self.order.forks
    }

    /// One more branch of `parallel`.
    fn side_branch(&mut self, fork: usize, branches: &mut Vec<Vec<Part>>, steps: impl FnOnce(&mut Self)) {
        let context = format!("in branch {} of `parallel`", branches.len() + 1);
        self.branch(fork, branches, Some(context), steps);
    }

    /// Steps that go on beside other branches of this fork.
    fn branch(
        &mut self,
        fork: usize,
        branches: &mut Vec<Vec<Part>>,
        context: Option<String>,
        steps: impl FnOnce(&mut Self),
    ) {
        let before = self.order.take();
        self.order.lane.push((fork, branches.len()));
        let within = context.is_some();
        if let Some(context) = context {
            self.flow.enter(context);
        }
        steps(self);
        if within {
            self.flow.leave();
        }
        self.order.lane.pop();
        branches.push(std::mem::replace(&mut self.order.parts, before));
    }

    /// Steps that are done at the end in any case.
    pub(super) fn finally(&mut self, steps: &[Spanned<StepFile>]) -> (Vec<Part>, Vec<Part>) {
        let parts = self.order.take();
        if steps.is_empty() {
            return (parts, Vec::new());
        }
        self.flow.enter("in `finally`".to_owned());
        self.steps(steps);
        self.flow.leave();
        (parts, self.order.take())
    }

    /// The step that has closed a socket before this one; what goes on beside it may come first.
    pub(super) fn closed_by(&self, socket: &SocketName) -> Option<usize> {
        socket.closed.as_ref().filter(|(_, lane)| !beside(lane, &self.order.lane)).map(|(step, _)| *step)
    }

    /// Whether what was made there is there by now.
    pub(super) fn is_there(&self, lane: &Lane) -> bool {
        !beside(lane, &self.order.lane)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_of_one_fork_go_on_side_by_side() {
        let lane = |lane: &[(usize, usize)]| lane.to_vec();
        for (one, other, at_once) in [
            (lane(&[]), lane(&[]), false),
            (lane(&[]), lane(&[(1, 0)]), false),
            (lane(&[(1, 0)]), lane(&[(1, 1)]), true),
            (lane(&[(1, 0)]), lane(&[(2, 1)]), false),
            (lane(&[(1, 0), (2, 0)]), lane(&[(1, 0), (2, 1)]), true),
            (lane(&[(1, 0), (2, 0)]), lane(&[(1, 1), (3, 0)]), true),
            (lane(&[(1, 0), (2, 0)]), lane(&[(1, 0), (3, 1)]), false),
        ] {
            assert_eq!((beside(&one, &other), beside(&other, &one)), (at_once, at_once), "{one:?} {other:?}");
        }
    }
}
