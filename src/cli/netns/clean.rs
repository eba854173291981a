//! `farsock clean`: removes what runs in namespaces have left behind that were killed.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use clap::Args;

use crate::agent::runtime_dir;
use crate::cli::netns::{Lock, NAMES, PREFIX, file, folder, remove};
use crate::cli::{Exit, block_on, complain, print};

/// What `farsock clean` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "A run with --netns removes its namespaces itself, also at Ctrl-C. One that was killed cannot; its agents have ended with it.

Exit codes: 0 nothing is left, 3 something could not be removed."
)]
pub(in crate::cli) struct CleanArgs {}

/// How many digits the number of a run has.
const DIGITS: usize = 8;

/// Removes namespaces and folders of runs that do not go on.
pub(in crate::cli) fn clean(_: &CleanArgs) -> Exit {
    let (namespaces, folders) = match (list(NAMES), list(runtime_dir())) {
        (Ok(namespaces), Ok(folders)) => (namespaces, folders),
        (Err(error), _) | (_, Err(error)) => {
            complain(format_args!("cannot look for namespaces: {error}"));
            return Exit::CouldNotRun;
        }
    };
    let mut runs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in namespaces {
        if let Some(number) = name.strip_prefix(PREFIX).and_then(number) {
            runs.entry(number).or_default().push(name);
        }
    }
    for number in folders.iter().filter_map(|name| name.strip_prefix("netns-").and_then(number)) {
        runs.entry(number).or_default();
    }
    let mut exit = Exit::Passed;
    let mut text = String::new();
    for (number, names) in &runs {
        // Held while its things are removed; nobody else has the number.
        let Ok(_lock) = Lock::take(number) else {
            text.push_str(&match names.len() {
                // One of a user who is not root has them where only it sees them.
                0 => format!("run {number} goes on: its sockets stay\n"),
                count => format!("run {number} goes on: its {count} namespaces stay\n"),
            });
            continue;
        };
        if names.iter().all(|name| !file(name).exists()) && !folder(number).exists() {
            // It went on when they were listed, and has removed them itself.
            continue;
        }
        if let Err(exit) = block_on(remove(names)) {
            return exit;
        }
        let gone = fs::remove_dir_all(folder(number)).err().filter(|error| error.kind() != io::ErrorKind::NotFound);
        let left: Vec<&str> = names.iter().filter(|name| file(name).exists()).map(String::as_str).collect();
        match (left.as_slice(), gone) {
            ([], None) => text.push_str(&format!("run {number} was killed: {} namespaces removed\n", names.len())),
            ([], Some(error)) => {
                complain(format_args!("{}: {error}", folder(number).display()));
                exit = Exit::CouldNotRun;
            }
            (left, _) => {
                complain(format_args!("{} cannot be removed: that needs root", left.join(", ")));
                exit = Exit::CouldNotRun;
            }
        }
    }
    if text.is_empty() && exit == Exit::Passed {
        text.push_str("there is nothing to remove\n");
    }
    match print(&text) {
        Exit::Passed => exit,
        other => other,
    }
}

/// The number of a run at the beginning of a name.
fn number(rest: &str) -> Option<String> {
    let number = rest.get(..DIGITS)?;
    let ends = rest.len() == DIGITS || rest[DIGITS..].starts_with('.');
    let hex = number.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (ends && hex).then(|| number.to_owned())
}

/// The names in a directory, if it is there.
fn list(directory: impl AsRef<std::path::Path>) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_runs_are_taken_for_them() {
        assert_eq!(number("0a1b2c3d.client").as_deref(), Some("0a1b2c3d"));
        assert_eq!(number("0a1b2c3d").as_deref(), Some("0a1b2c3d"));
        for other in ["", "lab", "0a1b2c3dx", "0a1b2c3", "0A1B2C3D", "éééé1234"] {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
