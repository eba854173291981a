//! What a run shows to somebody who looks on while it goes on: on a terminal, in a pipe, and to programs.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::harness::{AgentProcess, Running, Terminal, farsock, farsock_on_terminal, within};

/// Its second step waits for somebody to come.
const GUEST: &str = "exercise: A guest\nhosts:\n  server:\nsteps:\n  - { on: server, listen: \":0\", as: door }\n\
                     \x20 - { on: server, accept: door, as: guest, within: 10m }\n  - { on: server, close: guest }\n";

/// What is shown while it does.
const WAITS: &str = "1 of 3 steps: waiting for server accept door, line 6";

struct Guest {
    folder: TempDir,
    file: PathBuf,
}

impl Guest {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("guest.yaml");
        fs::write(&file, GUEST).unwrap();
        Self { folder, file }
    }

    /// Runs it on a terminal that is so wide, until it waits.
    async fn begin(&self, columns: u16) -> (Terminal, Vec<String>) {
        let mut command = farsock_on_terminal(self.folder.path());
        command.arg("run").arg(&self.file);
        let mut terminal = Terminal::run(command, columns);
        let lines = terminal.until("what it waits for", |lines| shows(lines, WAITS)).await;
        (terminal, lines)
    }
}

fn shows(lines: &[String], text: &str) -> bool {
    lines.iter().any(|line| line.contains(text))
}

/// Where the door is, as the picture tells it.
fn door(lines: &[String]) -> SocketAddr {
    let word_after = |text: &str| {
        let rest =
            lines.iter().find_map(|line| line.split_once(text)).unwrap_or_else(|| panic!("no {text}: {lines:#?}"));
        rest.1.split_whitespace().next().unwrap().to_owned()
    };
    format!("{}{}", word_after("  server  "), word_after("listen ")).parse().unwrap()
}

/// What is waited for stands in the last line, and is gone when it has come.
#[tokio::test]
async fn a_terminal_shows_what_is_waited_for_until_it_comes() {
    let exercise = Guest::new();
    let (mut terminal, lines) = exercise.begin(100).await;
    assert!(lines.last().unwrap().contains(WAITS), "{lines:#?}");
    // The time goes on in the same line.
    let before = lines.last().unwrap().clone();
    let later = terminal.until("the time to go on", |lines| *lines.last().unwrap() != before).await;
    assert_eq!(later[..later.len() - 1], lines[..lines.len() - 1]);
    let guest = within("the door", TcpStream::connect(door(&lines))).await.unwrap();
    let (code, lines) = terminal.end().await;
    assert_eq!(code, Some(0), "{lines:#?}");
    assert!(!shows(&lines, "waiting"), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("● connect ") && line.ends_with("✓")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("✓ A guest  3 steps")), "{lines:#?}");
    drop(guest);
}

/// A line that is longer than the terminal is wide would be two, and only one of them would be drawn over.
#[tokio::test]
async fn a_terminal_that_becomes_narrower_has_shorter_lines() {
    let exercise = Guest::new();
    let (mut terminal, lines) = exercise.begin(100).await;
    terminal.resize(45);
    let narrow = terminal.until("a shorter line", |lines| lines.last().unwrap().ends_with('…')).await;
    assert_eq!(narrow.last().unwrap().chars().count(), 44, "{narrow:#?}");
    assert!(WAITS.starts_with(narrow.last().unwrap().trim_end_matches('…')));
    assert_eq!(narrow.len(), lines.len(), "nothing is left of the longer one: {narrow:#?}");
    let guest = within("the door", TcpStream::connect(door(&lines))).await.unwrap();
    let (code, end) = terminal.end().await;
    assert_eq!(code, Some(0), "{end:#?}");
    let drawn = &end[lines.len() - 1..];
    let picture = drawn.iter().take_while(|line| !line.is_empty());
    assert!(picture.clone().count() > 0 && picture.clone().all(|line| line.chars().count() <= 45), "{drawn:#?}");
    drop(guest);
}

/// The screen is left as a person expects it: what has happened, why it ended, and nothing of what was waited for.
#[tokio::test]
async fn control_c_leaves_a_tidy_terminal() {
    let exercise = Guest::new();
    let (mut terminal, _) = exercise.begin(100).await;
    terminal.type_keys("\x03");
    let (code, lines) = terminal.end().await;
    assert_eq!(code, Some(3), "{lines:#?}");
    assert!(!shows(&lines, "waiting"), "{lines:#?}");
    assert!(lines.iter().any(|line| line == "farsock: interrupted"), "{lines:#?}");
    let summary = "✗ COULD NOT RUN A guest  1 of 3 steps passed, 0 failed, 2 not reached";
    assert!(lines.iter().any(|line| line.starts_with(summary)), "{lines:#?}");
}

/// Two agents, of which one stands still until it is told to go on.
struct HalfALab {
    awake: AgentProcess,
    asleep: AgentProcess,
    folder: TempDir,
}

impl HalfALab {
    async fn start() -> Self {
        let (awake, asleep) = (AgentProcess::start().await, AgentProcess::start().await);
        asleep.signal(Signal::STOP);
        let folder = TempDir::new().unwrap();
        let text = "exercise: Two\nhosts: { a: , b: }\nsteps:\n  - { on: a, parse: x, is: none }\n  - { on: b, parse: x, is: none }\n";
        fs::write(folder.path().join("two.yaml"), text).unwrap();
        Self { awake, asleep, folder }
    }

    fn words(&self) -> Vec<String> {
        let host = |role: &str, agent: &AgentProcess| format!("--host={role}=unix:{}", agent.unix().display());
        let file = self.folder.path().join("two.yaml").display().to_string();
        vec!["run".to_owned(), file, host("a", &self.awake), host("b", &self.asleep)]
    }

    fn wake(&self) {
        self.asleep.signal(Signal::CONT);
    }

    async fn stop(self) {
        self.awake.stop().await;
        self.asleep.stop().await;
    }
}

#[tokio::test]
async fn a_terminal_shows_whose_answer_is_waited_for() {
    let lab = HalfALab::start().await;
    let mut command = farsock_on_terminal(lab.folder.path());
    command.args(lab.words());
    let mut terminal = Terminal::run(command, 100);
    terminal.until("who is awaited", |lines| shows(lines, "connecting: 1 of 2 hosts, waiting for b")).await;
    lab.wake();
    let (code, lines) = terminal.end().await;
    assert_eq!(code, Some(0), "{lines:#?}");
    assert!(!shows(&lines, "waiting"), "{lines:#?}");
    lab.stop().await;
}

/// Where lines cannot be drawn over, there are few of them.
#[tokio::test]
async fn a_pipe_is_told_what_takes_long() {
    let lab = HalfALab::start().await;
    let mut command = farsock(lab.folder.path());
    command.args(lab.words());
    let mut running = Running::spawn(command);
    let first = running.line().await.unwrap();
    assert!(first.trim_start().starts_with("connecting: 1 of 2 hosts, waiting for b  "), "{first}");
    lab.wake();
    let ran = running.end().await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    assert!(!ran.out.contains('\x1b') && !ran.out.contains('\r'), "{}", ran.out);
    lab.stop().await;
}

#[tokio::test]
async fn programs_are_told_whose_answer_is_waited_for() {
    let lab = HalfALab::start().await;
    let mut command = farsock(lab.folder.path());
    command.args(lab.words()).arg("--json");
    let mut running = Running::spawn(command);
    let progress = loop {
        let line: Value = serde_json::from_str(&running.line().await.unwrap()).unwrap();
        if line["type"] == "progress" && line["done"] == 1 {
            break line;
        }
    };
    assert_eq!(
        progress,
        serde_json::json!({ "type": "progress", "phase": "connect", "done": 1, "of": 2, "waiting_for": ["b"] })
    );
    lab.wake();
    assert_eq!(running.end().await.code, Some(0));
    lab.stop().await;
}

/// What happens is told when it does, also where a step waits for something else.
#[tokio::test]
async fn events_are_told_while_a_step_waits() {
    let agent = AgentProcess::start().await;
    let exercise = Guest::new();
    fs::write(&exercise.file, GUEST.replace("as: guest, within", "as: guest, peer: \"192.0.2.1:1\", within")).unwrap();
    let mut command = farsock(exercise.folder.path());
    command.args(["run", "--json", &format!("--host=server=unix:{}", agent.unix().display())]).arg(&exercise.file);
    let mut running = Running::spawn(command);
    let door: SocketAddr = running.event("listening").await["local"].as_str().unwrap().parse().unwrap();
    let guest = within("the door", TcpStream::connect(door)).await.unwrap();
    let accepted = running.event("accepted").await;
    assert_eq!(accepted["remote"], guest.local_addr().unwrap().to_string());
    running.signal(Signal::INT);
    assert_eq!(running.end().await.code, Some(3));
    agent.stop().await;
}
