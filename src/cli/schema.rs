//! `farsock schema`.

use clap::{Args, ValueEnum};

use crate::cli::{Exit, print};
use crate::exercise::schema::{Of, schema};

/// What `farsock schema` takes.
#[derive(Debug, Args)]
#[command(after_help = "Editors that know YAML by its schema complete and check exercises as they are typed:
  farsock schema > exercise.schema.json
  # yaml-language-server: $schema=exercise.schema.json     (the first line of an exercise)

`farsock check` finds more: what names stand for, and what goes with what.")]
pub(super) struct SchemaArgs {
    /// Which files it is of
    #[arg(value_enum, default_value_t = Files::Exercises, value_name = "FILES")]
    of: Files,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Files {
    /// Exercises
    Exercises,
    /// Files of steps, which exercises include
    Steps,
}

/// Prints a JSON Schema.
pub(super) fn schema_of(args: &SchemaArgs) -> Exit {
    let of = match args.of {
        Files::Exercises => Of::Exercises,
        Files::Steps => Of::Steps,
    };
    print(&format!("{:#}\n", schema(of)))
}
