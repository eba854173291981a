//! The binary itself: agents in processes of their own, and commands that run to their end.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use farsock::agent::MemoryConnector;
use farsock::wire::pb;
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use super::frames::becomes;
use super::{Agent, Namespace, within};

/// `farsock`, without what the environment of whoever runs the tests may say to it, and with a runtime directory that exists already.
pub fn farsock(runtime_dir: &Path) -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_farsock")), runtime_dir)
}

/// The program itself, in a folder for whoever may go there: where it was built, that may be nobody but who has built it.
pub fn farsock_lies_in(folder: &Path) -> PathBuf {
    let (built, there) = (env!("CARGO_BIN_EXE_farsock"), folder.join("bin/farsock"));
    std::fs::create_dir(folder.join("bin")).unwrap();
    // The folder may be on another file system.
    std::fs::hard_link(built, &there).or_else(|_| std::fs::copy(built, &there).map(drop)).unwrap();
    there
}

/// The same within a network of its own.
pub fn farsock_in(namespace: &Namespace, runtime_dir: &Path) -> Command {
    clean(namespace.command(Path::new(env!("CARGO_BIN_EXE_farsock"))), runtime_dir)
}

/// The same, in a session of its own, whose terminal is what it reads from. setsid(1).
pub fn farsock_on_terminal(runtime_dir: &Path) -> Command {
    let mut command = Command::new("setsid");
    command.args(["--ctty", "--wait", env!("CARGO_BIN_EXE_farsock")]);
    clean(command, runtime_dir)
}

/// The same, in a process that may open so many descriptors and not one more: that is its hard limit, and the soft one is lower.
pub fn farsock_with_descriptors(runtime_dir: &Path, descriptors: u64) -> Command {
    farsock_under(&format!("ulimit -S -n 64 && ulimit -H -n {descriptors}"), runtime_dir)
}

/// The same, in a process to which these words of a shell apply.
pub fn farsock_under(words: &str, runtime_dir: &Path) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(format!("{words} && exec \"$@\"")).arg("sh");
    shell.arg(env!("CARGO_BIN_EXE_farsock"));
    clean(shell, runtime_dir)
}

fn clean(mut command: Command, runtime_dir: &Path) -> Command {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FARSOCK_")) {
        command.env_remove(name);
    }
    command
        .env("XDG_RUNTIME_DIR", runtime_dir)
        .env("XDG_STATE_HOME", runtime_dir.join("state"))
        .env("NO_COLOR", "1")
        .env_remove("COLUMNS");
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// What a command left behind.
#[derive(Debug, PartialEq, Eq)]
pub struct Ran {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs a command to its end.
pub async fn run(mut command: Command) -> Ran {
    let output = within("the command's end", command.output()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Whether the long forms of tests are asked for.
pub fn long() -> bool {
    std::env::var_os("FARSOCK_LONG").is_some()
}

/// Runs `farsock` with these words to its end.
pub async fn run_farsock(words: &[&str]) -> Ran {
    let folder = TempDir::new().unwrap();
    let mut command = farsock(folder.path());
    command.args(words);
    run(command).await
}

/// `farsock agent` in a process of its own.
pub struct AgentProcess {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    /// What it complains about, where that is read.
    err: Option<Lines<BufReader<ChildStderr>>>,
    /// What it said to people before it was ready.
    pub said: Vec<String>,
    /// What it said to programs.
    pub ready: Value,
    folder: TempDir,
}

impl AgentProcess {
    /// One with a Unix socket, and with TCP on a port of the kernel's choice.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same, with more words on its command line.
    pub async fn start_with(words: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let mut command = farsock(folder.path());
        let socket = format!("unix:{}", folder.path().join("agent.sock").display());
        command.args(["agent", "--listen", "127.0.0.1:0", "--listen", &socket]).args(words);
        Self::spawn(command, folder).await
    }

    /// Whatever agent the command is, which must use this runtime directory.
    pub async fn spawn(mut command: Command, folder: TempDir) -> Self {
        command.stderr(Stdio::inherit());
        Self::spawn_telling(command, folder).await
    }

    /// The same, and what it logs goes to a file.
    pub async fn spawn_logging(mut command: Command, folder: TempDir, log: &Path) -> Self {
        command.stderr(std::fs::File::create(log).unwrap());
        Self::spawn_telling(command, folder).await
    }

    /// The same, and what it complains about is read, line by line.
    pub async fn spawn_telling(mut command: Command, folder: TempDir) -> Self {
        // Standard output is an open descriptor like any other.
        let mut child = command.args(["--ready-fd", "1"]).spawn().unwrap();
        let err = child.stderr.take().map(|err| BufReader::new(err).lines());
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = Vec::new();
        let ready = loop {
            match within("the agent's start", out.next_line()).await.unwrap() {
                Some(line) if line.starts_with('{') => break serde_json::from_str(&line).unwrap(),
                Some(line) => said.push(line),
                None => panic!("the agent did not start: {:?}", within("its end", child.wait()).await),
            }
        };
        Self { child, out, err, said, ready, folder }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub fn runtime_dir(&self) -> &Path {
        self.folder.path()
    }

    /// Where it serves by TCP.
    pub fn tcp(&self) -> String {
        let endpoints = self.ready["endpoints"].as_array().unwrap().iter().map(|endpoint| endpoint.as_str().unwrap());
        endpoints.clone().find(|endpoint| !endpoint.starts_with("unix:")).unwrap().to_owned()
    }

    /// Where it serves by a Unix socket.
    pub fn unix(&self) -> PathBuf {
        let endpoints = self.ready["endpoints"].as_array().unwrap().iter().map(|endpoint| endpoint.as_str().unwrap());
        endpoints.clone().find_map(|endpoint| endpoint.strip_prefix("unix:")).unwrap().into()
    }

    /// The token for TCP.
    pub fn token(&self) -> String {
        std::fs::read_to_string(self.ready["token_file"].as_str().unwrap()).unwrap().trim().to_owned()
    }

    /// The next thing it complains about.
    pub async fn complaint(&mut self) -> String {
        let err = self.err.as_mut().expect("its complaints are read");
        within("a complaint", err.next_line()).await.unwrap().expect("the agent lives")
    }

    /// Short words for its RPCs, by the Unix socket.
    pub fn agent(&self) -> Agent {
        Agent::at(unix_channel(self.unix()))
    }

    /// The same, over a connection whose streams take little from an agent before somebody reads.
    pub fn narrow_agent(&self) -> Agent {
        let narrow = Endpoint::from_static("http://agent").initial_stream_window_size(64 << 10);
        Agent::at(unix_channel_as(narrow.initial_connection_window_size(1 << 20), self.unix()))
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub async fn wait(&mut self) -> ExitStatus {
        within("the agent's end", self.child.wait()).await.unwrap()
    }

    /// Stops it in good order.
    pub async fn stop(mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.wait().await.code(), Some(0));
        assert_eq!(
            within("the rest", self.out.next_line()).await.unwrap(),
            None,
            "an agent says nothing when it stops"
        );
    }

    /// How much memory it has in use, in bytes. proc_pid_status(5): VmRSS.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// How much it has computed, in ticks of 10 ms. proc_pid_stat(5): utime and stime.
    pub fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// How many descriptors it has open. Nothing where only root may look, as it cannot be dumped.
    pub fn descriptors(&self) -> Option<usize> {
        Some(std::fs::read_dir(format!("/proc/{}/fd", self.pid())).ok()?.count())
    }

    /// Waits until it has as many descriptors as before: whatever was tried, it ends as it began.
    pub async fn has_again(&self, before: Option<usize>) {
        becomes("as many descriptors as before", || async { self.descriptors() == before }).await;
    }

    /// What the kernel says of each of its threads. proc_pid_status(5).
    pub fn threads(&self) -> Vec<String> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        // One that has just ended has none.
        threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("status")).ok()).collect()
    }
}

/// A command that is still running.
pub struct Running {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
}

impl Running {
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, out }
    }

    /// The next line that it prints; none at its end.
    pub async fn line(&mut self) -> Option<String> {
        within("a line", self.out.next_line()).await.unwrap()
    }

    /// The next event of a kind, where it prints JSON.
    pub async fn event(&mut self, kind: &str) -> Value {
        loop {
            let line: Value = serde_json::from_str(&self.line().await.unwrap()).unwrap();
            if line["type"] == "event" && line["kind"] == kind {
                return line;
            }
        }
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().unwrap().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end: the rest of what it prints.
    pub async fn end(mut self) -> Ran {
        let (mut out, mut err) = (String::new(), String::new());
        while let Some(line) = self.line().await {
            out.push_str(&line);
            out.push('\n');
        }
        within("the end", self.child.stderr.take().unwrap().read_to_string(&mut err)).await.unwrap();
        let status = within("the command's end", self.child.wait()).await.unwrap();
        Ran { code: status.code(), out, err }
    }
}

/// Real gRPC by a Unix socket.
fn unix_channel(path: PathBuf) -> Channel {
    unix_channel_as(Endpoint::from_static("http://agent"), path)
}

fn unix_channel_as(endpoint: Endpoint, path: PathBuf) -> Channel {
    let connect = move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    };
    endpoint.connect_with_connector_lazy(service_fn(connect))
}

/// Real gRPC by a pipe within the process.
pub fn memory_channel(connector: MemoryConnector) -> Channel {
    let connect = move |_: Uri| {
        let connector = connector.clone();
        async move { connector.connect().await.map(TokioIo::new) }
    };
    Endpoint::from_static("http://agent").connect_with_connector_lazy(service_fn(connect))
}

/// Real gRPC by TCP, without credentials.
pub fn tcp_channel(address: &str) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

/// A request with a token.
pub fn with_token<T>(message: T, token: &str) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

/// A question that every agent answers to whoever may ask.
pub const QUESTION: pb::GetAgentRequest = pb::GetAgentRequest {};
