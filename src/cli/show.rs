//! What a run shows of itself on the terminal while it goes on: a picture, or sentences.

use std::collections::HashSet;
use std::io;

use crate::cli::files::{eprint_text, use_color};
use crate::cli::status::Status;
use crate::cli::{complain, print};
use crate::exercise::picture::Picture;
use crate::exercise::report::line::{EventLine, EventPlace, ExerciseLine, HostsLine, Line, ResultLine, StepLine, Went};
use crate::exercise::report::text;
use crate::model::mistake::render;
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
}

/// Shows what happens while it happens.
pub(super) struct Show {
    style: Style,
    /// Failures tell the call that was made.
    calls: bool,
    color: bool,
    exercise: ExerciseLine,
    picture: Picture,
    /// Events of the step that goes on.
    fresh: Vec<EventLine>,
    /// Events that may still turn out to be what the next steps check: those since the last step that did something.
    held: Vec<EventLine>,
    /// The events that steps have waited for.
    passed: HashSet<EventPlace>,
    failures: Vec<String>,
    status: Status,
}

impl Show {
    pub(super) fn new(style: Style, calls: bool) -> Self {
        Self {
            style,
            calls,
            color: use_color(&io::stdout()),
            exercise: ExerciseLine::default(),
            picture: Picture::new(Vec::new(), WIDTH),
            fresh: Vec::new(),
            held: Vec::new(),
            passed: HashSet::new(),
            failures: Vec::new(),
            status: Status::default(),
        }
    }

    /// Shows one more line of a run.
    pub(super) fn line(&mut self, line: &Line) {
        match line {
            Line::Exercise(exercise) => self.exercise(exercise),
            Line::Hosts(hosts) => self.began(hosts),
            Line::Socket(socket) => self.picture.name(socket),
            Line::Event(event) => self.happened(event),
            Line::Progress(progress) => self.status.begin(text::waiting(&self.exercise, progress)),
            Line::Step(step) => self.stepped(step),
            Line::Result(result) => self.ended(result),
            Line::Mistake(_) | Line::Unknown => {}
        }
    }

    /// Shows what takes its time, as long as it does.
    pub(super) fn waiting(&mut self) {
        match self.style {
            Style::Picture => {
                self.draw_all();
                self.status.draw(terminal_width(), self.color);
            }
            Style::Sentences => {
                if let Some(note) = self.status.note() {
                    self.print(&note);
                }
            }
            Style::Quiet => {}
        }
    }

    /// Prints lines, in the colours of a run.
    pub(super) fn print(&mut self, text: &str) {
        self.status.clear();
        print(&format!("{}\n", if self.color { colored(text) } else { text.to_owned() }));
    }

    fn exercise(&mut self, exercise: &ExerciseLine) {
        *self = Self {
            picture: Picture::new(exercise.roles.clone(), terminal_width()),
            ..Self::new(self.style, self.calls)
        };
        self.exercise = exercise.clone();
    }

    fn began(&mut self, hosts: &HostsLine) {
        let heading = text::heading(&self.exercise, hosts);
        match self.style {
            Style::Quiet => {}
            Style::Sentences => self.print(heading.trim_end()),
            Style::Picture => {
                self.print(&heading);
                let columns = self.picture.heading();
                self.print(&columns);
            }
        }
    }

    fn happened(&mut self, event: &EventLine) {
        match self.style {
            Style::Quiet => {}
            Style::Picture => self.fresh.push(event.clone()),
            Style::Sentences => {
                if let Some(sentence) = self.picture.sentence(event) {
                    self.print(&sentence);
                }
            }
        }
    }

    fn stepped(&mut self, step: &StepLine) {
        if step.result == Went::Passed {
            self.passed.extend(step.evidence.clone());
        }
        let planned = self.exercise.plan.binary_search_by_key(&step.number, |planned| planned.number);
        let is_check = planned.is_ok_and(|at| self.exercise.plan[at].check);
        if is_check {
            self.held.append(&mut self.fresh);
        } else {
            let held = std::mem::replace(&mut self.held, std::mem::take(&mut self.fresh));
            self.draw(&held);
        }
        if let Some(finding) = &step.finding {
            self.found(&step.host, finding);
        }
        if let Some(failure) = text::failure(&self.exercise, step) {
            let mut shown = render(&failure, use_color(&io::stderr()));
            if let Some(call) = step.call.as_ref().filter(|_| self.calls) {
                shown.push_str(&format!("  call: {}\n", text::grpcurl(call)));
            }
            self.failures.push(shown);
        }
    }

    /// Shows what a step has found out that no event tells.
    fn found(&mut self, role: &str, finding: &str) {
        match self.style {
            Style::Picture => {
                self.draw_all();
                let line = self.picture.finding(role, finding);
                self.print(&line);
            }
            Style::Sentences => self.print(&format!("         {role} {finding}")),
            Style::Quiet => {}
        }
    }

    /// Draws events. Called as late as a person does not notice, so that those that a step waits for can be marked.
    fn draw(&mut self, events: &[EventLine]) {
        // Somebody may have made the terminal narrower.
        self.picture.set_width(terminal_width());
        for line in self.picture.lines(events, &self.passed) {
            self.print(&line);
        }
    }

    fn draw_all(&mut self) {
        let mut events = std::mem::take(&mut self.held);
        events.append(&mut self.fresh);
        self.draw(&events);
    }

    /// Says how it went: failures whole and last, then one line.
    fn ended(&mut self, result: &ResultLine) {
        self.draw_all();
        self.status.clear();
        for failure in &self.failures {
            eprint_text(failure);
        }
        if let Some(problem) = &result.problem {
            // Several agents may have one each.
            problem.lines().for_each(complain);
        }
        if self.style == Style::Picture {
            self.print("");
        }
        self.print(&text::summary(result));
        if result.result != Went::Passed {
            self.print(&format!("  again  {}", text::again(&self.exercise)));
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
