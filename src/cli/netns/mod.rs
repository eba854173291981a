//! `--netns`: each host of an exercise is a network namespace of this machine, with an agent in it that is reached by a Unix socket.
//!
//! Everything of a run has its number in its name, so that what a run leaves behind that was killed can be told from what one uses
//! (`clean`). Networks are bridges in a namespace of their own; hosts have an interface in each of theirs, and routers forward.

mod agents;
pub(super) mod clean;
mod lay;
mod rootless;

use std::fs;
use std::io::{self, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::agent::runtime_dir;
use crate::cli::netns::agents::Started;
use crate::client::Endpoint;
use crate::exercise::networks::Networks;
use crate::pki::make_private_directory;

pub(super) use crate::cli::netns::rootless::enter as enter_rootless;

/// Where names of network namespaces are. ip-netns(8).
const NAMES: &str = "/run/netns";

/// The variables that programs are told of: where other programs are, and where agents keep what is theirs.
const KNOWN: [&str; 4] = ["PATH", "HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME"];

/// What all names begin with.
const PREFIX: &str = "farsock-";

/// The namespaces of an exercise, and the agents in them. They are gone when this is dropped.
pub(super) struct Namespaces {
    run: Run,
    /// The names of all namespaces that may be there.
    names: Vec<String>,
    agents: Vec<Started>,
}

/// What belongs to a run: a number that no other one has.
struct Run {
    number: String,
    /// Tells others that the run goes on: the name is free when this is closed, however the process ends.
    _lock: UnixListener,
    /// Where the sockets of the agents are.
    folder: PathBuf,
}

impl Namespaces {
    /// Makes the networks of hosts with these roles, and starts an agent in each host; tells how many of them are ready, again and again.
    pub(super) fn make(roles: &[&str], networks: &Networks, mut ready: impl FnMut(usize)) -> Result<Self, String> {
        ready(0);
        let run = Run::new()?;
        let mut made = Self { run, names: Vec::new(), agents: Vec::new() };
        let switch = made.run.switch();
        let hosts: Vec<String> = roles.iter().map(|role| made.run.host(role)).collect();
        made.names.push(switch.clone());
        made.names.extend(hosts.iter().cloned());
        lay::lay(&switch, &hosts, networks)?;
        for (host, (role, namespace)) in roles.iter().zip(&hosts).enumerate() {
            let socket = made.run.folder.join(format!("{role}.sock"));
            let agent = agents::start(role, namespace, &socket, &networks.lab_addresses(host))?;
            made.agents.push(agent);
        }
        for (others, agent) in made.agents.iter_mut().enumerate() {
            ready(others);
            agent.is_ready()?;
        }
        Ok(made)
    }

    /// Where the agent of a host is reached.
    pub(super) fn agent(&self, host: usize) -> Option<Endpoint> {
        self.agents.get(host).map(|agent| Endpoint::Unix(agent.socket.clone()))
    }

    /// What people call a host here.
    pub(super) fn place(&self, host: usize) -> String {
        self.names.get(host + 1).map(|name| format!("netns {name}")).unwrap_or_default()
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        self.agents.clear();
        remove(&self.names);
        // Where it cannot be removed, `farsock clean` tries again.
        let _ = fs::remove_dir_all(&self.run.folder);
    }
}

impl Run {
    fn new() -> Result<Self, String> {
        let mut bits = [0; 4];
        getrandom::fill(&mut bits).map_err(|error| format!("no random numbers: {error}"))?;
        let number = format!("{:08x}", u32::from_be_bytes(bits));
        let lock = lock(&number).map_err(|error| format!("cannot begin run {number}: {error}"))?;
        let folder = folder(&number);
        make_private_directory(&folder).map_err(|error| error.to_string())?;
        Ok(Self { number, _lock: lock, folder })
    }

    fn switch(&self) -> String {
        format!("{PREFIX}{}", self.number)
    }

    fn host(&self, role: &str) -> String {
        format!("{PREFIX}{}.{role}", self.number)
    }
}

/// Says that a run goes on; the error is that it does already.
fn lock(number: &str) -> io::Result<UnixListener> {
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(format!("farsock-netns-{number}"))?)
}

/// Where the sockets of a run are.
fn folder(number: &str) -> PathBuf {
    runtime_dir().join(format!("netns-{number}"))
}

/// The file of a namespace.
fn file(namespace: &str) -> PathBuf {
    Path::new(NAMES).join(namespace)
}

/// Removes namespaces, those that are there.
fn remove(names: &[String]) {
    let there = names.iter().filter(|name| file(name).exists());
    let batch: String = there.map(|name| format!("netns del {name}\n")).collect();
    // Where one cannot be removed, `farsock clean` says so.
    let _ = run("ip", &["-force", "-batch", "-"], &batch);
}

/// A program that learns of the environment only what it needs: neither what is said to an agent of the user, nor a secret, whatever its name.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(KNOWN.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command
}

/// Runs a program with this input; the error is what it has complained about.
fn run(program: &str, words: &[&str], input: &str) -> Result<(), String> {
    let mut command = command(program);
    // What users who are not root have in PATH leads to no such programs.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let missing = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => format!("there is no `{program}` here: {}", package(program)),
        _ => format!("`{program}` cannot be started: {error}"),
    };
    let mut child = command.spawn().map_err(missing)?;
    let sent = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
    let done = child.wait_with_output().map_err(|error| format!("{program}: {error}"))?;
    if done.status.success() && sent.is_ok() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Err(format!("{program}: {}", if said.is_empty() { done.status.to_string() } else { said.join("; ") }))
}

/// What brings a program that is not here.
fn package(program: &str) -> &'static str {
    match program {
        "ip" => "install iproute2",
        "nft" => "install nftables",
        _ => "install util-linux",
    }
}

/// Ends a process, and waits until it has.
fn end(child: &mut Child) {
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}
