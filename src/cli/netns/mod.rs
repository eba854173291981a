//! `--netns`: each host of an exercise is a network namespace of this machine, with an agent in it that is reached by a Unix socket.
//!
//! Everything of a run has its number in its name, so that what a run leaves behind that was killed can be told from what one uses
//! (`clean`). Networks are bridges in a namespace of their own; hosts have an interface in each of theirs, and routers forward.

mod agents;
pub(super) mod clean;
mod lay;
mod rootless;

use std::fs::{self, File};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

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

/// How long a program that makes or removes something may take, until it is ended.
const PROGRAM: Duration = Duration::from_secs(30);

/// The namespaces of an exercise, and the agents in them.
pub(super) struct Namespaces {
    run: Run,
    /// The names of all namespaces that may be there.
    names: Vec<String>,
    agents: Vec<Started>,
}

/// What belongs to a run: a number that no other one has.
struct Run {
    number: String,
    /// Tells others that the run goes on.
    _lock: Lock,
    /// Where the sockets of the agents are.
    folder: PathBuf,
}

impl Namespaces {
    /// Nothing yet, for hosts with these roles.
    pub(super) fn new(roles: &[&str]) -> Result<Self, String> {
        let run = Run::new()?;
        let names = [run.switch()].into_iter().chain(roles.iter().map(|role| run.host(role))).collect();
        Ok(Self { run, names, agents: Vec::new() })
    }

    /// Makes the networks of these hosts, and starts an agent in each; tells how many of them are ready, again and again.
    pub(super) async fn make(
        &mut self,
        roles: &[&str],
        networks: &Networks,
        mut ready: impl FnMut(usize),
    ) -> Result<(), String> {
        ready(0);
        let Some((switch, hosts)) = self.names.split_first() else { return Ok(()) };
        lay::lay(switch, hosts, networks).await?;
        for (host, (role, namespace)) in roles.iter().zip(hosts).enumerate() {
            let socket = self.run.folder.join(format!("{role}.sock"));
            self.agents.push(agents::start(role, namespace, &socket, &networks.lab_addresses(host))?);
        }
        for (others, agent) in self.agents.iter_mut().enumerate() {
            ready(others);
            agent.is_ready().await?;
        }
        Ok(())
    }

    /// Ends the agents, and removes the namespaces, whatever of them there is.
    pub(super) async fn end(self) {
        for agent in self.agents {
            agent.end().await;
        }
        remove(&self.names).await;
        // Where it cannot be removed, `farsock clean` tries again.
        let _ = fs::remove_dir_all(&self.run.folder);
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

impl Run {
    fn new() -> Result<Self, String> {
        let mut bits = [0; 4];
        getrandom::fill(&mut bits).map_err(|error| format!("no random numbers: {error}"))?;
        let number = format!("{:08x}", u32::from_be_bytes(bits));
        let folder = folder(&number);
        make_private_directory(&folder).map_err(|error| error.to_string())?;
        let lock = Lock::take(&number).map_err(|error| format!("cannot begin run {number}: {error}"))?;
        Ok(Self { number, _lock: lock, folder })
    }

    fn switch(&self) -> String {
        format!("{PREFIX}{}", self.number)
    }

    fn host(&self, role: &str) -> String {
        format!("{PREFIX}{}.{role}", self.number)
    }
}

/// Says that a run goes on. It is free when this is dropped, however the process ends.
struct Lock {
    /// For those who have other folders: a name that all processes of this network namespace see.
    _name: UnixListener,
    /// For those who are in other network namespaces, which a user who is not root has made: the folder, which they see.
    _folder: Option<File>,
}

impl Lock {
    /// The error is that the run goes on already.
    fn take(number: &str) -> io::Result<Self> {
        let name = UnixListener::bind_addr(&SocketAddr::from_abstract_name(format!("farsock-netns-{number}"))?)?;
        let folder = match File::open(folder(number)) {
            Ok(folder) => Some(folder),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        folder.as_ref().map_or(Ok(()), File::try_lock)?;
        Ok(Self { _name: name, _folder: folder })
    }
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
async fn remove(names: &[String]) {
    let there = names.iter().filter(|name| file(name).exists());
    let batch: String = there.map(|name| format!("netns del {name}\n")).collect();
    if batch.is_empty() {
        return;
    }
    // Where one cannot be removed, `farsock clean` says so.
    let _ = run("ip", &["-force", "-batch", "-"], &batch).await;
}

/// A program that learns of the environment only what it needs: neither what is said to an agent of the user, nor a secret, whatever its name.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(KNOWN.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command
}

/// Runs a program with this input to its end, which is there when nobody waits for it any more; the error is what it has complained about.
async fn run(program: &str, words: &[&str], input: &str) -> Result<(), String> {
    run_within(PROGRAM, program, words, input).await
}

async fn run_within(longest: Duration, program: &str, words: &[&str], input: &str) -> Result<(), String> {
    let mut command = command(program);
    // What users who are not root have in PATH leads to no such programs.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let missing = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => format!("there is no `{program}` here: {}", package(program)),
        _ => format!("`{program}` cannot be started: {error}"),
    };
    let mut child = command.spawn().map_err(missing)?;
    let stdin = child.stdin.take();
    let done = async {
        let sent = async {
            match stdin {
                Some(mut stdin) => stdin.write_all(input.as_bytes()).await,
                None => Ok(()),
            }
        };
        // It may complain before it has read everything.
        let (sent, output) = tokio::join!(sent, child.wait_with_output());
        Ok((sent.is_ok(), output?))
    };
    let done = timeout(longest, done).await.map_err(|_| {
        format!(
            "`{program} {}` has not ended within {longest:?}, and was ended: see whether it does by hand",
            words.join(" ")
        )
    })?;
    let (sent, output) = done.map_err(|error: io::Error| format!("{program}: {error}"))?;
    if output.status.success() && sent {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Err(format!("{program}: {}", if said.is_empty() { output.status.to_string() } else { said.join("; ") }))
}

/// What brings a program that is not here.
fn package(program: &str) -> &'static str {
    match program {
        "ip" => "install iproute2",
        "nft" => "install nftables",
        _ => "install util-linux",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_does_not_end_is_ended() {
        let problem = run_within(Duration::from_millis(10), "sleep", &["1000"], "").await.unwrap_err();
        assert_eq!(problem, "`sleep 1000` has not ended within 10ms, and was ended: see whether it does by hand");
    }

    #[tokio::test]
    async fn what_a_program_complains_about_is_told() {
        let words = ["-c", "echo no such bridge >&2; echo >&2; echo try again >&2; exit 1"];
        assert_eq!(run("sh", &words, "unread\n").await.unwrap_err(), "sh: no such bridge; try again");
        assert_eq!(run("sh", &["-c", "exit 3"], "").await.unwrap_err(), "sh: exit status: 3");
        assert_eq!(run("sh", &["-c", "read line && test $line = told"], "told\n").await, Ok(()));
        let missing = run("no-such-program", &[], "").await.unwrap_err();
        assert_eq!(missing, "there is no `no-such-program` here: install util-linux");
    }
}
