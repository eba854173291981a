//! Exercise files, as `run` and `check` take them.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use crate::cli::{Exit, complain, print};
use crate::exercise::check::check;
use crate::exercise::plan::Plan;
use crate::exercise::report::line::Line;
use crate::exercise::report::tell;
use crate::model::mistake::{Mistake, Source, render};

/// An exercise that may be run.
pub(super) struct Exercise {
    pub(super) source: Source,
    pub(super) plan: Plan,
}

/// Reads and checks all files, and those in directories. Whatever is wrong is printed at once.
pub(super) fn exercises(paths: &[PathBuf], json: bool) -> Result<Vec<Exercise>, Exit> {
    let mut exercises = Vec::new();
    let mut wrong = false;
    for path in files(paths)? {
        let source = match fs::read_to_string(&path) {
            Ok(text) => Source { name: path.display().to_string(), text },
            Err(error) => {
                complain(format_args!("{}: {error}", path.display()));
                return Err(Exit::Usage);
            }
        };
        match check(&source) {
            Ok(plan) => exercises.push(Exercise { source, plan }),
            Err(mistakes) => {
                wrong = true;
                tell(&source, &mistakes, json);
            }
        }
    }
    if wrong { Err(Exit::WrongFile) } else { Ok(exercises) }
}

fn tell(source: &Source, mistakes: &[Mistake], json: bool) {
    if json {
        for mistake in mistakes {
            print(&format!("{}\n", Line::Mistake(tell::mistake(source, mistake)).json()));
        }
        return;
    }
    let color = use_color(&io::stderr());
    for mistake in mistakes {
        eprint_text(&render(mistake, color));
    }
    let count = if mistakes.len() == 1 { "1 mistake".to_owned() } else { format!("{} mistakes", mistakes.len()) };
    complain(format_args!("{}: {count}", source.name));
}

/// The files that are meant: a directory stands for the exercises in it, in the order of their names.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Exit> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let inside = directory(path).map_err(|error| {
            complain(format_args!("{}: {error}", path.display()));
            Exit::Usage
        })?;
        if inside.is_empty() {
            complain(format_args!("{}: there are no exercises (*.yaml) here", path.display()));
            return Err(Exit::Usage);
        }
        files.extend(inside);
    }
    Ok(files)
}

fn directory(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Whether colours are wanted: on a terminal, unless the user has said otherwise. no-color.org.
pub(super) fn use_color(output: &impl IsTerminal) -> bool {
    output.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Prints to standard error; that nobody reads it is no failure.
pub(super) fn eprint_text(text: &str) {
    let _ = io::Write::write_all(&mut io::stderr(), text.as_bytes());
}
