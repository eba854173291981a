//! `farsock check`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::files::{Exercise, HostArgs, InventoryArgs, VarArgs, exercises};
use crate::cli::{Exit, print};
use crate::exercise::inventory::{Casting, Mode};

/// What `farsock check` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "With --inventory or --host it checks them for that run: who plays each host, and what those can hold. With neither, \
and without --netns, for no run in particular."
)]
pub(super) struct CheckArgs {
    /// Exercise files, or directories of them
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    #[command(flatten)]
    vars: VarArgs,

    #[command(flatten)]
    hosts: HostArgs,

    #[command(flatten)]
    inventory: InventoryArgs,

    /// Check them for `run --netns`, whatever the inventory says
    #[arg(long, conflicts_with = "hosts")]
    netns: bool,

    /// Print mistakes as one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Checks exercise files, and touches no host.
pub(super) fn check(args: &CheckArgs) -> Exit {
    let exercises = match checked(args) {
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

fn checked(args: &CheckArgs) -> Result<Vec<Exercise>, Exit> {
    let inventory = if args.netns { None } else { args.inventory.read(args.json)? };
    let given = args.hosts.read(inventory.as_ref())?;
    let mode = match &inventory {
        _ if args.netns => Mode::Namespaces,
        None if args.hosts.is_empty() => Mode::Unknown,
        _ => Mode::Machines,
    };
    let casting = Casting { inventory: inventory.as_ref(), given: &given, mode };
    let exercises = exercises(&args.files, &args.vars, casting, args.json, |_| ())?;
    HostArgs::used(&given, &exercises)?;
    Ok(exercises)
}
