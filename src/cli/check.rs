//! `farsock check`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::files::{InventoryArgs, VarArgs, exercises};
use crate::cli::{Exit, print};
use crate::exercise::inventory::{Casting, Mode};

/// What `farsock check` takes.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Exercise files, or directories of them
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    #[command(flatten)]
    vars: VarArgs,

    #[command(flatten)]
    inventory: InventoryArgs,

    /// Check them for `run --netns`
    #[arg(long)]
    netns: bool,

    /// Print mistakes as one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Checks exercise files, and touches no host.
pub(super) fn check(args: &CheckArgs) -> Exit {
    let mode = if args.netns { Mode::Namespaces } else { Mode::Unknown };
    let checked = args.inventory.read(args.json).and_then(|inventory| {
        let casting = Casting { inventory: inventory.as_ref(), given: &[], mode };
        exercises(&args.files, &args.vars, casting, args.json, |_| ())
    });
    let exercises = match checked {
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
