//! `farsock replay`.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::views::{RUN_LINES, ViewArgs, Views};
use crate::cli::{Exit, complain};
use crate::exercise::report::line::{Line, Went};

/// What `farsock replay` takes.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: as those of the run that is shown.")]
pub(super) struct ReplayArgs {
    /// A folder that `run --save` has made, or a file of the lines that `run --json` has printed
    #[arg(value_name = "RUN")]
    run: PathBuf,

    #[command(flatten)]
    views: ViewArgs,
}

/// Shows a run again, from what was kept of it.
pub(super) fn replay(args: &ReplayArgs) -> Exit {
    let file = if args.run.is_dir() { args.run.join(RUN_LINES) } else { args.run.clone() };
    let mut views = match Views::new(&args.views) {
        Ok(views) => views,
        Err(problem) => {
            complain(problem);
            return Exit::Usage;
        }
    };
    match show(&file, &mut views) {
        Ok(worst) if views.finish() => match worst {
            Some(Went::Passed) => Exit::Passed,
            Some(Went::Failed) => Exit::Failed,
            Some(Went::CouldNotRun) | None => Exit::CouldNotRun,
        },
        Ok(_) => Exit::CouldNotRun,
        Err(problem) => {
            complain(format_args!("{}: {problem}", file.display()));
            Exit::Usage
        }
    }
}

/// Shows all lines, and says what they come to: nothing where a run was cut short before it could say so.
fn show(file: &Path, views: &mut Views<'_>) -> Result<Option<Went>, String> {
    let opened = File::open(file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "there is no such run: `farsock run FILE --save DIR` keeps one in DIR".to_owned(),
        _ => error.to_string(),
    });
    let input = BufReader::new(opened?);
    let (mut worst, mut open) = (None, false);
    for (number, text) in (1..).zip(input.split(b'\n')) {
        let text = text.map_err(|error: io::Error| error.to_string())?;
        if text.trim_ascii().is_empty() {
            continue;
        }
        let line: Line = serde_json::from_slice(&text).map_err(|error| {
            format!(
                "line {number} is no line of a run, as `run --json` prints them and `run --save` keeps them: {error}"
            )
        })?;
        match &line {
            Line::Exercise(_) => open = true,
            Line::Result(result) => {
                open = false;
                worst = worst.max(Some(result.result));
            }
            _ => {}
        }
        views.line(line);
    }
    if open {
        complain(format_args!("{}: the run was cut short: it does not say how it ended", file.display()));
        return Ok(None);
    }
    if worst.is_none() {
        return Err("there is no run in it".to_owned());
    }
    Ok(worst)
}
