//! The whole-file check: everything that can be known to be wrong before the first socket is told at once, each mistake at its place.

mod asked;
mod hosts;
mod names;
mod values;

use std::collections::HashMap;
use std::ops::Range;

pub(super) use crate::exercise::check::asked::Asked;
use crate::exercise::check::names::Named;
pub(super) use crate::exercise::check::names::{SocketName, Stage};
use crate::exercise::course::{Order, Part};
use crate::exercise::embedded;
use crate::exercise::fields::{StepFile, typed};
use crate::exercise::file::{ExerciseFile, load};
use crate::exercise::flow::Flow;
use crate::exercise::inventory::{Casting, Player};
use crate::exercise::networks::Networks;
use crate::exercise::plan::{HostPlan, Plan, Step};
use crate::exercise::words;
use crate::exercise::words::grammar::{self, ALWAYS};
use crate::model::mistake::{Mistake, Source};
use crate::model::yaml::span;

/// What a check is given beside the file.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    /// Values of variables, instead of those that the file has.
    pub vars: &'a [(String, String)],
    /// Where included files are read.
    pub files: &'a dyn Files,
    /// Whom the roles may be played by.
    pub casting: Casting<'a>,
}

impl Default for Given<'_> {
    fn default() -> Self {
        Self { vars: &[], files: &NoFiles, casting: Casting::default() }
    }
}

/// Where included files are read.
pub trait Files {
    /// Reads the file that `includer`, a name of this or that of the exercise, calls `path`. One file always gets one name. The error says
    /// why it cannot be read.
    fn read(&self, includer: &str, path: &str) -> Result<Source, String>;
}

struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _: &str, _: &str) -> Result<Source, String> {
        Err("there are no other files here".to_owned())
    }
}

/// Reads and checks a file. All that is wrong with it comes back at once.
pub fn check(source: &Source, given: Given<'_>) -> Result<Plan, Vec<Mistake>> {
    let file = load(source).map_err(|mistake| vec![mistake])?;
    let mut checker = Checker {
        flow: Flow::new(source, given.files),
        mistakes: Vec::new(),
        names: HashMap::new(),
        roles: Vec::new(),
        players: Vec::new(),
        networks: None,
        made: Vec::new(),
        steps: Vec::new(),
        order: Order::default(),
    };
    let (parts, finally) = checker.file(&file, given);
    if !checker.mistakes.is_empty() {
        return Err(checker.mistakes);
    }
    let (title, about) = (file.exercise.value, file.about);
    let players = std::mem::take(&mut checker.players);
    let hosts = file.hosts.0.into_iter().zip(players).map(|((role, agent), player)| HostPlan {
        role: role.value,
        agent: agent.map(|agent| agent.value).filter(|agent| !agent.is_empty()),
        player,
    });
    let vars = file.vars.0.into_iter().map(|(name, _)| name.value);
    let (hosts, vars) = (hosts.collect(), vars.collect());
    let networks = checker.networks.take();
    let (steps, sources) = (checker.steps, checker.flow.into_sources());
    embedded::held(Plan { title, about, hosts, networks, vars, steps, parts, finally, sources }, given.casting.mode)
}

/// The state of a check.
pub(super) struct Checker<'a> {
    /// Where in which file it is.
    pub(super) flow: Flow<'a>,
    mistakes: Vec<Mistake>,
    names: HashMap<String, Named>,
    pub(super) roles: Vec<String>,
    /// Who plays them.
    players: Vec<Player>,
    networks: Option<Networks>,
    /// Sockets in the order in which they are made.
    made: Vec<String>,
    steps: Vec<Step>,
    /// What is done after what.
    pub(super) order: Order,
}

impl Checker<'_> {
    fn file(&mut self, file: &ExerciseFile, given: Given<'_>) -> (Vec<Part>, Vec<Part>) {
        self.hosts(&file.hosts, given.casting);
        self.networks(file, given);
        let vars: Vec<_> = given.vars.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        self.vars(&file.vars, &vars, |name| format!("--var {name}=VALUE"));
        if file.steps.is_empty() {
            self.wrong(span(&file.exercise.referenced), "the exercise has no steps");
        }
        self.steps(&file.steps);
        let parts = self.finally(&file.finally);
        self.unused_vars();
        self.unused();
        parts
    }

    /// How many mistakes there are so far.
    pub(super) fn mistake_count(&self) -> usize {
        self.mistakes.len()
    }

    /// A step that does something, as it stands in the file but for what is put in.
    pub(super) fn verb_step(&mut self, number: usize, file: &StepFile, verb_span: Range<usize>) -> Option<()> {
        let host = match &file.order {
            Some(events) => self.host_of(events),
            None => self.host(file)?,
        };
        let verb = words::verb(self, number, host, file)?;
        let step = Step {
            number,
            host,
            verb,
            within: self.duration(file.within.as_deref()),
            error: self.error_name(file.error.as_deref()),
            note: file.note.as_deref().map(|note| note.value.clone()),
            context: self.flow.context(),
            source: self.flow.at(),
            span: self.step_span(file),
            verb_span,
        };
        let at = self.push_step(step);
        self.order.push(Part::Step(at));
        Some(())
    }

    /// One more step, and its place among all.
    pub(super) fn push_step(&mut self, step: Step) -> usize {
        self.steps.push(step);
        self.steps.len() - 1
    }

    pub(super) fn step_at(&self, at: usize) -> &Step {
        &self.steps[at]
    }

    /// The one thing that a step does, and its place.
    pub(super) fn one_verb(&mut self, file: &StepFile) -> Option<(&'static str, Range<usize>)> {
        let verbs: Vec<_> = file.present().into_iter().filter(|(name, _)| grammar::says_what(name)).collect();
        match verbs.as_slice() {
            [only] => Some(only.clone()),
            [] => {
                let at = self.step_span(file);
                self.wrong_with_help(
                    at,
                    "the step does nothing",
                    format!("a step has one of these, with a value: {}", grammar::verbs()),
                );
                None
            }
            [(first, _), (second, at), ..] => {
                let message = format!("a step does one thing, and this one has `{first}` and `{second}`");
                self.wrong_with_help(at.clone(), message, "make two steps of it");
                None
            }
        }
    }

    /// All of a step, from its first to its last value.
    pub(super) fn step_span(&self, file: &StepFile) -> Range<usize> {
        let present = file.present();
        let start = present.iter().map(|(_, at)| at.start).min().unwrap_or(0);
        let end = present.iter().map(|(_, at)| at.end).max().unwrap_or(start);
        start..end.min(self.flow.source().text.len())
    }

    pub(super) fn wrong(&mut self, at: Range<usize>, message: impl Into<String>) {
        let mistake = self.flow.mistake(at, message);
        self.mistakes.push(mistake);
    }

    /// A mistake that was found elsewhere.
    pub(super) fn found(&mut self, mistake: Mistake) {
        self.mistakes.push(mistake);
    }

    pub(super) fn wrong_with_help(&mut self, at: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        let mistake = self.flow.mistake(at, message).helped(help);
        self.mistakes.push(mistake);
    }

    /// Fields that mean nothing to the verb of a step.
    pub(super) fn only(&mut self, file: &StepFile, verb: &'static str, allowed: &[&'static str]) {
        self.only_with(file, verb, &format!("`{verb}`"), allowed);
    }

    /// The same, where what fits depends on more than the verb; `words` say on what.
    pub(super) fn only_with(&mut self, file: &StepFile, verb: &'static str, words: &str, allowed: &[&'static str]) {
        for (name, at) in file.present() {
            if name != verb && !ALWAYS.contains(&name) && !allowed.contains(&name) {
                let shown = typed(name);
                let fitting = allowed.iter().copied().map(typed);
                let fitting: Vec<&str> = fitting.filter(|word| !words.contains(&format!("`{word}`"))).collect();
                let help = if fitting.is_empty() {
                    format!("{words} takes {} alone", ALWAYS.join(", "))
                } else {
                    format!("{words} takes {}", fitting.join(", "))
                };
                self.wrong_with_help(at, format!("`{shown}` means nothing to {words}"), help);
            }
        }
    }
}
