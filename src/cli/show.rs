//! What a run shows of itself while it goes on: a picture, sentences, or JSON.

use std::collections::{HashMap, HashSet};
use std::io;

use crate::cli::files::{eprint_text, use_color};
use crate::cli::{complain, print};
use crate::controller::Observer;
use crate::exercise::narration::finding;
use crate::exercise::outcome::{ExerciseOutcome, HostSeen, StepOutcome, StepResult, Verdict};
use crate::exercise::picture::Picture;
use crate::exercise::plan::{Plan, Step};
use crate::exercise::report;
use crate::exercise::timeline::Moment;
use crate::model::id::SocketId;
use crate::model::mistake::{Source, render};
use crate::sys::process;

/// How wide a picture is where nobody says how wide it may be.
const WIDTH: usize = 120;

/// How a run is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// A picture, as it grows.
    Picture,
    /// A sentence for each event.
    Sentences,
    /// One line an exercise.
    Quiet,
    /// One JSON object a line.
    Json,
}

/// Shows what happens while it happens.
pub(super) struct Show<'a> {
    source: &'a Source,
    plan: &'a Plan,
    style: Style,
    color: bool,
    picture: Picture,
    /// Moments of the step that goes on.
    fresh: Vec<Moment>,
    /// Moments that may still turn out to be what the next steps check: those since the last step that did something.
    held: Vec<Moment>,
    /// The events that steps have waited for.
    passed: HashSet<(usize, u64)>,
    names: HashMap<(usize, SocketId), String>,
    start: i64,
    failures: Vec<String>,
}

impl<'a> Show<'a> {
    pub(super) fn new(style: Style, source: &'a Source, plan: &'a Plan) -> Self {
        let picture = Picture::new(Vec::new(), 0, WIDTH);
        let color = use_color(&io::stdout());
        Self {
            source,
            plan,
            style,
            color,
            picture,
            fresh: Vec::new(),
            held: Vec::new(),
            passed: HashSet::new(),
            names: HashMap::new(),
            start: 0,
            failures: Vec::new(),
        }
    }

    fn line(&self, text: &str) {
        print(&format!("{}\n", if self.color { colored(text) } else { text.to_owned() }));
    }

    /// Draws moments. Called as late as a person does not notice, so that those that a step waits for can be marked.
    fn draw(&mut self, moments: &[Moment]) {
        for line in self.picture.lines(moments, &self.passed) {
            self.line(&line);
        }
    }

    /// Shows what a step has found out that no event tells.
    fn found(&mut self, host: usize, finding: &str) {
        match self.style {
            Style::Picture => {
                self.draw_all();
                self.line(&self.picture.finding(host, finding));
            }
            Style::Sentences => self.line(&format!("         {} {finding}", self.plan.hosts[host].role)),
            Style::Quiet | Style::Json => {}
        }
    }

    fn draw_all(&mut self) {
        let mut moments = std::mem::take(&mut self.held);
        moments.append(&mut self.fresh);
        self.draw(&moments);
    }

    /// Says how it went: failures whole and last, then one line.
    pub(super) fn ended(&mut self, outcome: &ExerciseOutcome) {
        if self.style == Style::Json {
            return self.line(&report::ended_json(self.plan, self.source, outcome).to_string());
        }
        self.draw_all();
        for failure in &self.failures {
            eprint_text(failure);
        }
        if let Some(problem) = &outcome.problem {
            complain(problem);
        }
        if self.style == Style::Picture {
            self.line("");
        }
        self.line(&report::summary(self.plan, self.source, outcome));
        if outcome.verdict() != Verdict::Passed {
            self.line(&format!("  again  farsock run {}", self.source.name));
        }
    }
}

impl Observer for Show<'_> {
    fn began(&mut self, hosts: &[HostSeen], start: i64) {
        self.start = start;
        let roles = self.plan.hosts.iter().map(|host| host.role.clone()).collect();
        self.picture = Picture::new(roles, start, terminal_width());
        match self.style {
            Style::Json => self.line(&report::began_json(self.plan, self.source, hosts).to_string()),
            Style::Quiet => {}
            Style::Sentences => self.line(report::heading(self.plan, self.source, hosts).trim_end()),
            Style::Picture => {
                self.line(&report::heading(self.plan, self.source, hosts));
                self.line(&self.picture.heading());
            }
        }
    }

    fn named(&mut self, host: usize, id: &SocketId, name: &str) {
        self.picture.name(host, id.clone(), name.to_owned());
        self.names.insert((host, id.clone()), name.to_owned());
    }

    fn happened(&mut self, moments: &[Moment]) {
        match self.style {
            Style::Quiet => {}
            Style::Picture => self.fresh.extend_from_slice(moments),
            Style::Sentences => {
                for line in moments.iter().filter_map(|moment| self.picture.sentence(moment)) {
                    self.line(&line);
                }
            }
            Style::Json => {
                for moment in moments {
                    let socket = moment.record.socket.as_ref().map(|(id, _)| (moment.host, id.clone()));
                    let name = socket.and_then(|socket| self.names.get(&socket)).map(String::as_str);
                    self.line(&report::moment_json(self.plan, moment, name, self.start).to_string());
                }
            }
        }
    }

    fn waiting(&mut self) {
        self.draw_all();
    }

    fn stepped(&mut self, step: &Step, outcome: &StepOutcome) {
        if outcome.result == StepResult::Passed {
            self.passed.extend(outcome.evidence);
        }
        if step.verb.is_check() {
            self.held.append(&mut self.fresh);
        } else {
            let held = std::mem::replace(&mut self.held, std::mem::take(&mut self.fresh));
            self.draw(&held);
        }
        if let (StepResult::Passed, Some(finding)) = (&outcome.result, finding(&step.verb)) {
            self.found(step.host, &finding);
        }
        if self.style == Style::Json {
            return self.line(&report::step_json(self.source, step, outcome).to_string());
        }
        if let StepResult::Failed(failure) | StepResult::CouldNotRun(failure) = &outcome.result {
            let color = use_color(&io::stderr());
            self.failures.push(render(&report::at_step(self.source, step, failure), color));
        }
    }
}

/// How wide the terminal is, as far as it says so.
fn terminal_width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    columns.or_else(process::terminal_columns).unwrap_or(WIDTH)
}

/// Green for what passed, red for what did not.
fn colored(text: &str) -> String {
    text.replace('✓', "\x1b[32m✓\x1b[0m").replace('✗', "\x1b[31m✗\x1b[0m")
}
