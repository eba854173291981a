//! `farsock hosts`: which agents there are, and how they are.

use std::fmt::Write;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::cli::files::InventoryArgs;
use crate::cli::reach::ReachArgs;
use crate::cli::{Exit, block_on, complain, print};
use crate::client::AgentClient;
use crate::controller::{Found, survey};
use crate::exercise::inventory::{Inventory, Listed, Wanted, wanted};
use crate::exercise::report::text::clock;
use crate::model::feature::difference;

/// Which agents a command is about.
#[derive(Debug, Args)]
pub(super) struct TargetArgs {
    /// An agent: HOST:PORT, unix:PATH, ssh://USER@HOST, or a name, a group or a label (KEY=VALUE) of the inventory; again for more [default:
    /// all of the inventory]
    #[arg(long = "host", value_name = "AGENT")]
    hosts: Vec<String>,

    #[command(flatten)]
    inventory: InventoryArgs,

    #[command(flatten)]
    reach: ReachArgs,
}

/// What `farsock hosts` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  farsock hosts --inventory lab.yaml
  farsock hosts 7625 ssh://lab-b --json

A clock is how far that of the agent is ahead of this host's, and by how much that may be wrong.

Exit codes: 0 all agents have answered, 1 usage, 2 the inventory is wrong, 3 one of them has not.")]
pub(super) struct HostsArgs {
    /// Agents, as --host takes them
    #[arg(value_name = "AGENT")]
    agents: Vec<String>,

    #[command(flatten)]
    targets: TargetArgs,

    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// An agent that a command is about.
pub(super) struct Target {
    /// Its name in the inventory, or else its endpoint.
    pub(super) name: String,
    /// Where it is reached.
    pub(super) agent: String,
    listed: Option<Listed>,
    groups: Vec<String>,
    /// What calls it, or what is wrong with what is needed for that.
    client: Result<AgentClient, String>,
}

impl Target {
    /// What calls it, or what is wrong with what is needed for that.
    pub(super) fn client(&self) -> Result<&AgentClient, &String> {
        self.client.as_ref()
    }
}

/// Shows all agents.
pub(super) fn hosts(args: &HostsArgs) -> Exit {
    block_on(show(args)).unwrap_or_else(|exit| exit)
}

async fn show(args: &HostsArgs) -> Exit {
    let targets = match args.targets.read(&args.agents, args.json) {
        Ok(targets) => targets,
        Err(exit) => return exit,
    };
    let found = on_each(&targets, async |clients| survey(clients).await).await;
    let text = if args.json { lines(&targets, &found) } else { table(&targets, &found) };
    match print(&text) {
        Exit::Passed if found.iter().any(Result::is_err) => Exit::CouldNotRun,
        exit => exit,
    }
}

impl TargetArgs {
    /// The agents that are meant: `more` of them, too. Whatever is wrong with how they are named is printed. Calling them needs the runtime that this is called in.
    pub(super) fn read(&self, more: &[String], json: bool) -> Result<Vec<Target>, Exit> {
        let hosts = [more, &self.hosts].concat();
        let inventory = self.inventory.read(json)?;
        let usage = |problem: String| {
            complain(problem);
            Exit::Usage
        };
        let Some(inventory) = inventory else {
            if hosts.is_empty() {
                return Err(usage(
                    "no agent is named: --inventory FILE names those of a lab, --host AGENT one, such as 7625 for that of this host"
                        .to_owned(),
                ));
            }
            return hosts.iter().map(|host| self.target(None, host)).collect::<Result<_, _>>().map(flat).map_err(usage);
        };
        if hosts.is_empty() {
            return Ok((0..inventory.hosts.len()).map(|at| self.listed(&inventory, at)).collect());
        }
        let targets = hosts.iter().map(|host| self.target(Some(&inventory), host));
        targets.collect::<Result<_, _>>().map(flat).map_err(usage)
    }

    fn target(&self, inventory: Option<&Inventory>, host: &str) -> Result<Vec<Target>, String> {
        let wanted = wanted(inventory, host);
        Ok(
            match (
                wanted.map_err(|unknown| format!("--host {host}: {}: {}", unknown.message, unknown.help))?,
                inventory,
            ) {
                (Wanted::OneOf(hosts), Some(inventory)) => {
                    hosts.into_iter().map(|at| self.listed(inventory, at)).collect()
                }
                (Wanted::OneOf(_), None) => Vec::new(),
                (Wanted::At(endpoint), inventory) => {
                    let (agent, client) = (endpoint.to_string(), self.reach.client(&endpoint, inventory));
                    vec![Target { name: agent.clone(), agent, listed: None, groups: Vec::new(), client }]
                }
            },
        )
    }

    fn listed(&self, inventory: &Inventory, at: usize) -> Target {
        let listed = inventory.hosts[at].clone();
        let groups = inventory.groups.iter().filter(|(_, members)| members.contains(&at)).map(|(name, _)| name.clone());
        Target {
            name: listed.name.clone(),
            agent: listed.agent.to_string(),
            groups: groups.collect(),
            client: self.reach.listed(&listed, inventory),
            listed: Some(listed),
        }
    }
}

/// Each agent once, however often it was named.
fn flat(targets: Vec<Vec<Target>>) -> Vec<Target> {
    let mut once: Vec<Target> = Vec::new();
    for target in targets.into_iter().flatten() {
        if !once.iter().any(|known| known.name == target.name) {
            once.push(target);
        }
    }
    once
}

/// Asks all agents that there is a way to, and answers in the order of the targets.
pub(super) async fn on_each<T, E: ToString>(
    targets: &[Target],
    ask: impl AsyncFnOnce(&[AgentClient]) -> Vec<Result<T, E>>,
) -> Vec<Result<T, String>> {
    let clients: Vec<AgentClient> = targets.iter().filter_map(|target| target.client.clone().ok()).collect();
    let mut answers = ask(&clients).await.into_iter();
    let answer = |target: &Target| match &target.client {
        Ok(_) => answers
            .next()
            .map_or_else(|| Err("it was not asked".to_owned()), |answer| answer.map_err(|error| error.to_string())),
        Err(problem) => Err(problem.clone()),
    };
    targets.iter().map(answer).collect()
}

fn table(targets: &[Target], found: &[Result<Found, String>]) -> String {
    let mut rows = vec![["HOST", "AGENT", "VERSION", "CLOCK", "LAB", "CONTROL", "CAPABILITIES"].map(str::to_owned)];
    for (target, found) in targets.iter().zip(found) {
        let Ok(Found { info, offset }) = found else { continue };
        let lab: Vec<String> = info.lab_addresses.iter().map(ToString::to_string).collect();
        let [lab, control, can] = [lab.join(" "), info.control_addresses.join(" "), info.capabilities.join(" ")];
        rows.push([target.name.clone(), target.agent.clone(), info.version.clone(), clock(*offset), lab, control, can]);
    }
    let mut text = if rows.len() > 1 { columns(&rows) } else { String::new() };
    for (target, found) in targets.iter().zip(found) {
        let Ok(Found { info, .. }) = found else { continue };
        if let Some(words) = difference(&info.version, &info.capabilities) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "! {}", of_target(target, &words));
        }
    }
    let away: Vec<(&Target, &String)> =
        targets.iter().zip(found).filter_map(|(target, found)| Some((target, found.as_ref().err()?))).collect();
    for (target, problem) in &away {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "✗ {}", of_target(target, problem));
    }
    let _ = writeln!(text, "{} of {} agents have answered", targets.len() - away.len(), targets.len());
    text
}

/// Something that is said of an agent, with its name and where it is.
pub(super) fn of_target(target: &Target, said: &str) -> String {
    if target.name == target.agent {
        format!("{}: {said}", target.name)
    } else {
        format!("{} ({}): {said}", target.name, target.agent)
    }
}

/// Rows with columns below each other.
pub(super) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| {
            let shown = if cell.is_empty() { "-" } else { cell };
            format!("{shown:<width$}")
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn lines(targets: &[Target], found: &[Result<Found, String>]) -> String {
    let mut text = String::new();
    for (target, found) in targets.iter().zip(found) {
        let mut line = json!({"host": target.name, "agent": target.agent, "reachable": found.is_ok()});
        let more = match found {
            Ok(Found { info, offset }) => json!({
                "version": info.version,
                "instance_id": info.instance.to_string(),
                "host_name": info.host_name,
                "kernel_release": info.kernel_release,
                "capabilities": info.capabilities,
                "clock_offset_ns": offset.nanos,
                "clock_bound_ns": offset.bound,
                "lab_addresses": info.lab_addresses,
                "control_addresses": info.control_addresses,
            }),
            Err(problem) => json!({ "problem": problem }),
        };
        add(&mut line, more);
        if let Some(listed) = &target.listed {
            let labels: Map<String, Value> =
                listed.labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
            let addresses: Map<String, Value> =
                listed.addresses.iter().map(|(network, all)| (network.clone(), json!(all))).collect();
            add(&mut line, json!({"labels": labels, "groups": target.groups, "addresses": addresses}));
        }
        text.push_str(&format!("{line}\n"));
    }
    text
}

/// Adds the fields of one object to another one.
pub(super) fn add(line: &mut Value, more: Value) {
    if let (Value::Object(line), Value::Object(more)) = (line, more) {
        line.extend(more);
    }
}
