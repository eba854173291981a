//! Where the lines of a run go: to the terminal, and into files.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::show::{Show, Style};
use crate::cli::{complain, print};
use crate::controller::{Observer, Phase, Progress};
use crate::exercise::outcome::{ExerciseOutcome, HostSeen, StepOutcome};
use crate::exercise::plan::{Plan, Step};
use crate::exercise::report::line::{ExerciseLine, Line, MOST_AWAITED, MistakeLine, ProgressLine, SocketLine};
use crate::exercise::report::{annotation, junit, page, tell};
use crate::exercise::timeline::Moment;
use crate::model::id::SocketId;
use crate::model::mistake::{Lines, Source};
use crate::model::time::Timestamp;

/// The file of a run folder that has everything that was told.
pub(super) const RUN_LINES: &str = "run.ndjson";

/// The page of a run folder.
const PAGE: &str = "report.html";

/// How a run is shown.
#[derive(Debug, Args)]
pub(super) struct ViewArgs {
    /// Print what happens as one JSON object a line
    #[arg(long)]
    json: bool,

    /// Print one line an exercise, and failures
    #[arg(short, long)]
    quiet: bool,

    /// Write a page that shows the run in a browser; it needs no network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Write JUnit XML: a suite an exercise, a case a step
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,

    /// Tell the last call of a failed step as a grpcurl command; `farsock env` tells the credentials
    #[arg(long)]
    show_call: bool,

    /// Print what went wrong for GitHub Actions too, which shows it beside the lines of the files
    #[arg(long, conflicts_with = "json")]
    github: bool,

    /// Keep everything that is told in a new folder, for `farsock replay`: run.ndjson, report.html
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
}

/// All views that are wanted.
pub(super) struct Views<'a> {
    args: &'a ViewArgs,
    show: Option<Show>,
    saved: Option<Saved>,
    /// What has been told, as far as a view needs it at the end.
    lines: Vec<Line>,
    /// The exercise that goes on, and what went wrong in it, for GitHub.
    exercise: ExerciseLine,
    annotations: Vec<String>,
}

/// The lines in a run folder. They are written as they come, so that a run that is killed is there as far as it went.
struct Saved {
    folder: PathBuf,
    file: BufWriter<File>,
    /// Why they could not all be written.
    problem: Option<io::Error>,
}

impl ViewArgs {
    /// Whether standard output is for programs.
    pub(super) fn json(&self) -> bool {
        self.json
    }

    /// Tells CI systems what is wrong with files, of which none is run.
    pub(super) fn tell_mistakes(&self, mistakes: &[MistakeLine]) {
        if self.github {
            for mistake in mistakes {
                print(&annotation::mistake(mistake));
            }
        }
        let lines = mistakes.iter().cloned().map(Line::Mistake).collect::<Vec<_>>();
        if let Some(file) = &self.junit {
            // That it could not be written has been said, and does not make the files right.
            written(file, fs::write(file, junit::render_runs(&lines)));
        }
    }
}

impl<'a> Views<'a> {
    /// Makes ready for everything that is wanted; the error says what of it cannot be.
    pub(super) fn new(args: &'a ViewArgs) -> Result<Self, String> {
        let style = match (args.quiet, io::stdout().is_terminal()) {
            (true, _) => Style::Quiet,
            (_, true) => Style::Picture,
            (_, false) => Style::Sentences,
        };
        let saved = args.save.as_deref().map(Saved::create).transpose()?;
        Ok(Self {
            args,
            show: (!args.json).then(|| Show::new(style, args.show_call)),
            saved,
            lines: Vec::new(),
            exercise: ExerciseLine::default(),
            annotations: Vec::new(),
        })
    }

    /// Shows one more line.
    pub(super) fn line(&mut self, line: Line) {
        if line == Line::Unknown {
            return;
        }
        if let Some(saved) = &mut self.saved {
            saved.line(&line);
        }
        match &mut self.show {
            Some(show) => show.line(&line),
            None => {
                print(&format!("{}\n", line.json()));
            }
        }
        let drawn = self.args.html.is_some() || self.saved.is_some();
        let listed = self.args.junit.is_some() && !matches!(line, Line::Event(_));
        if self.args.github {
            self.annotate(&line);
        }
        if drawn || listed {
            self.lines.push(line);
        }
    }

    /// Says something about all exercises to people.
    pub(super) fn say(&mut self, text: &str) {
        if let Some(show) = &mut self.show {
            show.print(text);
        }
    }

    /// Shows that what was told last still takes its time.
    fn waiting(&mut self) {
        if let Some(show) = &mut self.show {
            show.waiting();
        }
    }

    /// Prints what went wrong, when everything else about the exercise has been printed.
    fn annotate(&mut self, line: &Line) {
        match line {
            Line::Exercise(exercise) => self.exercise = exercise.clone(),
            Line::Step(step) => self.annotations.extend(annotation::step(&self.exercise, step)),
            Line::Result(result) => {
                self.annotations.extend(annotation::result(result));
                for annotation in self.annotations.drain(..) {
                    print(&annotation);
                }
            }
            _ => {}
        }
    }

    /// Writes what can be written only at the end. False if something could not be.
    pub(super) fn finish(self) -> bool {
        let mut pages: Vec<PathBuf> = self.args.html.clone().into_iter().collect();
        let mut whole = true;
        if let Some(file) = &self.args.junit {
            whole &= written(file, fs::write(file, junit::render_runs(&self.lines)));
        }
        if let Some(saved) = self.saved {
            pages.push(saved.folder.join(PAGE));
            whole &= saved.finish();
        }
        if !pages.is_empty() {
            let page = page::render(&self.lines);
            for file in pages {
                whole &= written(&file, fs::write(&file, &page));
            }
        }
        whole
    }
}

impl Saved {
    fn create(folder: &Path) -> Result<Self, String> {
        let problem = |error: io::Error| format!("--save {}: {error}", folder.display());
        fs::create_dir_all(folder).map_err(problem)?;
        let file = File::create_new(folder.join(RUN_LINES)).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                format!("--save {}: there is a run in it: give a new folder", folder.display())
            }
            _ => problem(error),
        })?;
        Ok(Self { folder: folder.to_owned(), file: BufWriter::new(file), problem: None })
    }

    fn line(&mut self, line: &Line) {
        let written = writeln!(self.file, "{}", line.json());
        // What goes on now may be the last thing that is ever told.
        let whole = if matches!(line, Line::Event(_)) { Ok(()) } else { self.file.flush() };
        if let (Err(error), None) = (written.and(whole), &self.problem) {
            self.problem = Some(error);
        }
    }

    fn finish(mut self) -> bool {
        let flushed = self.file.flush();
        written(&self.folder.join(RUN_LINES), self.problem.map_or(flushed, Err))
    }
}

/// Whether a file was written; says it if not.
fn written(file: &Path, result: io::Result<()>) -> bool {
    if let Err(error) = &result {
        complain(format_args!("{}: cannot be written: {error}", file.display()));
    }
    result.is_ok()
}

/// Turns what the controller tells of one exercise into lines.
pub(super) struct Teller<'v, 'a> {
    views: &'v mut Views<'a>,
    source: &'v Source,
    plan: &'v Plan,
    /// Those of the plan's sources.
    lines: Vec<Lines>,
    names: HashMap<(usize, SocketId), String>,
    start: i64,
    /// What was waited for when that was told last.
    progress: ProgressLine,
}

impl<'v, 'a> Teller<'v, 'a> {
    /// `again` is the command that makes this run again.
    pub(super) fn new(
        views: &'v mut Views<'a>,
        source: &'v Source,
        plan: &'v Plan,
        now: Timestamp,
        again: String,
    ) -> Self {
        let lines: Vec<Lines> = plan.sources.iter().map(|source| Lines::of(&source.text)).collect();
        views.line(Line::Exercise(tell::exercise(plan, source, &lines, now, again)));
        Self { views, source, plan, lines, names: HashMap::new(), start: 0, progress: ProgressLine::default() }
    }

    fn progress(&self, progress: &Progress) -> ProgressLine {
        let phase = match progress.phase {
            Phase::Network => "network",
            Phase::Connect => "connect",
            Phase::Clock => "clock",
            Phase::Session => "session",
            Phase::Step => "step",
            Phase::Collect => "collect",
            Phase::CleanUp => "clean_up",
        };
        let of_steps = progress.phase == Phase::Step;
        let awaited = || progress.awaited.iter().take(MOST_AWAITED).copied();
        let host = |at: usize| if of_steps { self.plan.steps[at].host } else { at };
        let mut waiting_for: Vec<String> = awaited().map(|at| self.plan.hosts[host(at)].role.clone()).collect();
        // Several steps may be one host's.
        waiting_for.dedup();
        let steps = awaited().filter(|_| of_steps).map(|at| self.plan.steps[at].number).collect();
        ProgressLine { phase: phase.to_owned(), done: progress.done, of: progress.of, waiting_for, steps }
    }

    pub(super) fn ended(self, outcome: &ExerciseOutcome) {
        self.views.line(Line::Result(tell::result(self.plan, self.source, outcome)));
    }
}

impl Observer for Teller<'_, '_> {
    fn began(&mut self, hosts: &[HostSeen], start: i64) {
        self.start = start;
        self.views.line(Line::Hosts(tell::hosts(hosts)));
    }

    fn named(&mut self, host: usize, id: &SocketId, name: &str) {
        self.names.insert((host, id.clone()), name.to_owned());
        self.views.line(Line::Socket(SocketLine {
            host: self.plan.hosts[host].role.clone(),
            socket_id: id.to_string(),
            name: name.to_owned(),
        }));
    }

    fn happened(&mut self, moments: &[Moment]) {
        for moment in moments {
            let socket = moment.record.socket.as_ref().map(|(id, _)| (moment.host, id.clone()));
            let name = socket.and_then(|socket| self.names.get(&socket)).map(String::as_str);
            self.views.line(Line::Event(Box::new(tell::event(self.plan, moment, name, self.start))));
        }
    }

    fn waiting(&mut self, progress: &Progress) {
        let line = self.progress(progress);
        if line != self.progress {
            self.progress = line.clone();
            self.views.line(Line::Progress(line));
        }
        self.views.waiting();
    }

    fn stepped(&mut self, step: &Step, outcome: &StepOutcome) {
        self.views.line(Line::Step(tell::step(self.plan, &self.lines, step, outcome)));
    }
}
