//! Agents by ssh: `farsock agent --stdio`, and `ssh://` endpoints by a real sshd on loopback.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::harness::sshd::Sshd;
use crate::harness::{Running, farsock, run, within};

const GREETING: &str = "tests/exercises/tutorials/000-greeting.yaml";

/// The name of whoever runs the tests.
async fn user() -> String {
    let mut command = Command::new("id");
    command.arg("-un");
    run(command).await.out.trim().to_owned()
}

#[tokio::test]
async fn an_exercise_runs_on_agents_that_ssh_starts_and_none_is_left() {
    let Some(sshd) = Sshd::start().await else { return };
    let mut command = sshd.farsock();
    // With the user's name and without it: it is the same one.
    let named = sshd.endpoint_of(&user().await);
    command.args(["run", GREETING, "--host", &format!("server={named}")]);
    command.args(["--host", &format!("client={}", sshd.endpoint())]);
    let ran = run(command).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    assert!(ran.out.contains(&sshd.endpoint()) && ran.out.contains(&named), "{}", ran.out);
    // It is the name that ssh comes by.
    let mut command = sshd.farsock();
    command.args(["run", "-q", GREETING, "--host", &format!("server={}", sshd.endpoint_of("farsock-nobody"))]);
    let ran = run(command).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.err.contains("farsock-nobody@127.0.0.1: Permission denied"), "{ran:?}");
    sshd.is_left_clean().await;
}

#[tokio::test]
async fn a_controller_that_is_killed_leaves_no_agent() {
    let Some(sshd) = Sshd::start().await else { return };
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("waits.yaml");
    let text = "exercise: Waits\nhosts: { a: }\nsteps:\n  - { on: a, listen: \":0\", as: door }\n  - { on: a, expect: door, connections: 1, within: 1h }\n";
    fs::write(&file, text).unwrap();
    let mut command = sshd.farsock();
    command.arg("run").arg(&file).args(["--host", &format!("a={}", sshd.endpoint())]);
    let mut running = Running::spawn(command);
    while !running.line().await.unwrap().contains("door") {}
    assert_eq!(sshd.agents().len(), 1);
    running.signal(Signal::KILL);
    sshd.is_left_clean().await;
}

#[tokio::test]
async fn what_is_wrong_with_ssh_is_one_line_that_helps() {
    let Some(sshd) = Sshd::start().await else { return };
    let gone = Sshd::start().await.unwrap();
    let nobody = gone.endpoint();
    drop(gone);
    let stranger = sshd.without("UserKnownHostsFile");
    let keyless = sshd.without("IdentityFile");
    for (ssh, endpoint, words) in [
        (sshd.ssh(), nobody, "refuses ssh"),
        (&stranger, sshd.endpoint(), "does not know the host key of 127.0.0.1"),
        (&keyless, sshd.endpoint(), "give ssh a key"),
        (Path::new("/no/such/ssh"), sshd.endpoint(), "there is no `/no/such/ssh` here"),
        (
            &sshd.script("echo hello there; exec cat >/dev/null"),
            sshd.endpoint(),
            "says `hello there` before the agent does",
        ),
        (&sshd.script("exec sh -c 'farsock-is-not-here agent'"), sshd.endpoint(), "there is no `farsock` on 127.0.0.1"),
    ] {
        let mut command = sshd.farsock();
        command.env("FARSOCK_SSH", ssh).args(["run", "-q", GREETING, "--host", &format!("server={endpoint}")]);
        let ran = run(command).await;
        assert_eq!(ran.code, Some(3), "{ran:?}");
        let all = format!("{}{}", ran.out, ran.err);
        assert!(all.contains(words), "{words}: {all}");
    }
}

#[tokio::test]
async fn an_agent_on_its_pipe_stops_when_standard_input_ends() {
    let (folder, beside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut command = farsock(folder.path());
    // Whatever ways in are named, the pipe is the only one.
    command.args(["agent", "--stdio", "--listen", "0.0.0.0:0", "--no-auth", "--ready-file"]);
    let ready = beside.path().join("ready");
    let mut child = command.arg(&ready).stdin(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    // HTTP/2 begins with SETTINGS from both sides.
    let mut first = [0; 9];
    within("the agent's first frame", out.read_exact(&mut first)).await.unwrap();
    assert_eq!((first[0], first[3]), (0, 4), "{first:?}");
    drop(child.stdin.take());
    let status = within("the agent's end", child.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none(), "no socket, no token");
    let ready: Value = serde_json::from_str(&fs::read_to_string(ready).unwrap()).unwrap();
    assert_eq!(ready["endpoints"], json!([]));
}

#[tokio::test]
async fn an_agent_on_its_pipe_stops_at_a_signal_though_nothing_comes_in() {
    let folder = TempDir::new().unwrap();
    let mut command: Command = farsock(folder.path());
    let mut child = command.args(["agent", "--stdio"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    within("the agent's first frame", out.read_exact(&mut [0; 9])).await.unwrap();
    let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(within("the agent's end", child.wait()).await.unwrap().code(), Some(0));
}
