//! `farsock check`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::files::exercises;
use crate::cli::{Exit, print};

/// What `farsock check` takes.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Exercise files, or directories of them
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Print mistakes as one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Checks exercise files, and touches no host.
pub(super) fn check(args: &CheckArgs) -> Exit {
    let exercises = match exercises(&args.files, args.json) {
        Ok(exercises) => exercises,
        Err(exit) => return exit,
    };
    if args.json {
        return Exit::Passed;
    }
    let line = |steps: usize, title: &str, file: &str| format!("✓ {title}  {steps} steps  {file}\n");
    let text: String = exercises.iter().map(|e| line(e.plan.steps.len(), &e.plan.title, &e.source.name)).collect();
    print(&text)
}
