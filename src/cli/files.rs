//! Exercise files, as `run` and `check` take them.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read};
use std::path::{Component, Path, PathBuf};

use clap::Args;

use crate::cli::again::Again;
use crate::cli::{Exit, complain, print};
use crate::exercise::check::{Files, Given, check};
use crate::exercise::file::FILE_BYTES;
use crate::exercise::inventory::{self, Casting, Inventory, Wanted, wanted};
use crate::exercise::plan::Plan;
use crate::exercise::report::line::{Line, MistakeLine};
use crate::exercise::report::tell;
use crate::model::mistake::{Mistake, Source, nearest, render, suggestion};

/// An exercise that may be run.
pub(super) struct Exercise {
    pub(super) source: Source,
    pub(super) plan: Plan,
}

/// Values of variables that exercises get.
#[derive(Debug, Args)]
pub(super) struct VarArgs {
    /// Give a variable of an exercise this value; again for more
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = var)]
    vars: Vec<(String, String)>,
}

impl VarArgs {
    /// Says again what was said of the variables of an exercise.
    pub(super) fn again(&self, plan: &Plan, again: &mut Again) {
        let Self { vars } = self;
        for (name, value) in vars.iter().filter(|(name, _)| plan.vars.contains(name)) {
            again.flag("--var", Some(format!("{name}={value}")));
        }
    }
}

fn var(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE is needed")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// The hosts that there are.
#[derive(Debug, Args)]
pub(super) struct InventoryArgs {
    /// The inventory: names of agents, for `hosts:` of exercises; one of farsock's, or of Ansible's as containerlab writes it
    #[arg(long, value_name = "FILE", env = "FARSOCK_INVENTORY")]
    inventory: Option<PathBuf>,
}

impl InventoryArgs {
    /// Says again which inventory was given.
    pub(super) fn again(&self, again: &mut Again) {
        let Self { inventory } = self;
        again.flag("--inventory", inventory.as_ref());
    }

    /// Reads the inventory, if there is one. Whatever is wrong with it is printed at once.
    pub(super) fn read(&self, json: bool) -> Result<Option<Inventory>, Exit> {
        let Some(path) = &self.inventory else { return Ok(None) };
        let source = read(path).map_err(|error| {
            complain(format_args!("--inventory {}", unreadable(path, &error, "an inventory")));
            Exit::Usage
        })?;
        inventory::read(&source).map(Some).map_err(|mistakes| {
            tell(&source, &mistakes, json);
            Exit::WrongFile
        })
    }
}

/// Who plays the hosts of exercises, whatever these say.
#[derive(Debug, Args)]
pub(super) struct HostArgs {
    /// Let this agent play a host: ROLE=HOST:PORT, ROLE=unix:PATH, ROLE=ssh://USER@HOST, ROLE=NAME; again for more
    #[arg(long = "host", value_name = "ROLE=AGENT")]
    hosts: Vec<String>,
}

impl HostArgs {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// The agents that were given, by role. What is wrong with one is printed at once.
    pub(super) fn read(&self, inventory: Option<&Inventory>) -> Result<Vec<(String, Wanted)>, Exit> {
        let mut given: Vec<(String, Wanted)> = Vec::with_capacity(self.hosts.len());
        for host in &self.hosts {
            let wanted = match host.split_once('=') {
                None => Err("ROLE=AGENT is needed".to_owned()),
                Some((role, _)) if given.iter().any(|(known, _)| known == role) => {
                    Err(format!("`{role}` has an agent already"))
                }
                Some((role, agent)) => wanted(inventory, agent)
                    .map(|wanted| (role.to_owned(), wanted))
                    .map_err(|unknown| format!("{}: {}", unknown.message, unknown.help)),
            };
            given.push(wanted.map_err(|problem| {
                complain(format_args!("--host {host}: {problem}"));
                Exit::Usage
            })?);
        }
        Ok(given)
    }

    /// Whether each of them plays a host of one of these. That one does not is printed at once.
    pub(super) fn used(given: &[(String, Wanted)], exercises: &[Exercise]) -> Result<(), Exit> {
        let Some((role, _)) = given.iter().find(|(role, _)| !exercises.iter().any(|e| plays(&e.plan, role))) else {
            return Ok(());
        };
        let roles: Vec<&str> = exercises.iter().flat_map(|e| &e.plan.hosts).map(|host| host.role.as_str()).collect();
        complain(format_args!("--host: no exercise has a host `{role}`: {}", suggestion(role, roles.iter().copied())));
        Err(Exit::Usage)
    }

    /// Says again who was given to hosts of an exercise.
    pub(super) fn again(&self, plan: &Plan, again: &mut Again) {
        let Self { hosts } = self;
        let played = |host: &&String| host.split_once('=').is_some_and(|(role, _)| plays(plan, role));
        hosts.iter().filter(played).for_each(|host| again.flag("--host", Some(host)));
    }
}

fn plays(plan: &Plan, role: &str) -> bool {
    plan.hosts.iter().any(|host| host.role == role)
}

/// Reads and checks all files, and those in directories. Whatever is wrong is printed at once; `also` tells it elsewhere, too.
pub(super) fn exercises(
    paths: &[PathBuf],
    args: &VarArgs,
    casting: Casting<'_>,
    json: bool,
    also: impl FnOnce(&[MistakeLine]),
) -> Result<Vec<Exercise>, Exit> {
    let mut exercises = Vec::new();
    let mut wrong = Vec::new();
    let given = Given { vars: &args.vars, files: &Disk, casting };
    for path in files(paths)? {
        let source = match read(&path) {
            Ok(source) => source,
            Err(error) => {
                complain(unreadable(&path, &error, "an exercise"));
                return Err(Exit::Usage);
            }
        };
        match check(&source, given) {
            Ok(plan) => exercises.push(Exercise { source, plan }),
            Err(mistakes) => {
                wrong.extend(mistakes.iter().map(tell::mistake));
                tell(&source, &mistakes, json);
            }
        }
    }
    if !wrong.is_empty() {
        also(&wrong);
        return Err(Exit::WrongFile);
    }
    let known =
        |name: &str| exercises.iter().any(|exercise: &Exercise| exercise.plan.vars.iter().any(|var| var == name));
    if let Some((name, _)) = args.vars.iter().find(|(name, _)| !known(name)) {
        let vars: Vec<&str> = exercises.iter().flat_map(|exercise| &exercise.plan.vars).map(String::as_str).collect();
        complain(format_args!(
            "--var {name}: no exercise has such a variable: {}",
            suggestion(name, vars.iter().copied())
        ));
        return Err(Exit::Usage);
    }
    Ok(exercises)
}

/// Files that are included, by paths from the file that includes them.
struct Disk;

impl Files for Disk {
    fn read(&self, includer: &str, path: &str) -> Result<Source, String> {
        let inside = Path::new(path);
        if inside.is_absolute() {
            return Err("give its path from the file that includes it".to_owned());
        }
        let mut whole = Path::new(includer).parent().map(Path::to_path_buf).unwrap_or_default();
        for part in inside.components() {
            match part {
                Component::ParentDir if whole.file_name().is_some() => {
                    whole.pop();
                }
                Component::CurDir => {}
                part => whole.push(part),
            }
        }
        read(&whole).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => match beside(&whole) {
                Some(near) => format!("there is no {}: did you mean `{}`?", whole.display(), near.display()),
                None => format!("there is no {}", whole.display()),
            },
            _ => format!("{}: {error}", whole.display()),
        })
    }
}

/// Reads a file, and no more of it than tells that it is too large.
fn read(path: &Path) -> io::Result<Source> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES as u64 + 1).read_to_string(&mut text)?;
    Ok(Source { name: path.display().to_string(), text })
}

/// Why a file cannot be read, and what may have been meant.
fn unreadable(path: &Path, error: &io::Error, what: &str) -> String {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => match beside(path) {
            Some(near) => format!("{shown}: there is no such file: did you mean `{}`?", near.display()),
            None => {
                format!("{shown}: there is no such file: {what} is a YAML file, by its path from where you are")
            }
        },
        io::ErrorKind::InvalidData => format!("{shown}: it is no text: {what} is a YAML file"),
        _ => format!("{shown}: {error}"),
    }
}

/// The file beside one that is not there whose name is the most like its own.
fn beside(path: &Path) -> Option<PathBuf> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let names: Vec<String> = directory(folder).unwrap_or_default().iter().map(|path| name(path)).collect();
    nearest(&name(path), names.iter().map(String::as_str)).map(|near| path.with_file_name(near))
}

/// Says what is wrong with a file.
pub(super) fn tell(source: &Source, mistakes: &[Mistake], json: bool) {
    if json {
        for mistake in mistakes {
            print(&format!("{}\n", Line::Mistake(tell::mistake(mistake)).json()));
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
