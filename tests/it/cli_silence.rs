//! `farsock run` when an agent stands still, or the way to it is cut, in the middle of a step or of `finally`: every wait is bounded, what is not
//! known is not taken for what did not happen, and the others do what is to be done in any case.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{AgentProcess, Fault, Proxy, Ran, Running, farsock};

/// A run on agents in processes of their own, each of which can be stopped.
struct Run {
    running: Running,
    _folder: TempDir,
}

impl Run {
    /// Lets these agents play an exercise.
    fn begin(exercise: &str, hosts: &[(&str, &AgentProcess)]) -> Self {
        let places = hosts.iter().map(|(role, agent)| format!("{role}=unix:{}", agent.unix().display()));
        Self::begin_at(exercise, &places.collect::<Vec<_>>(), &[])
    }

    fn begin_at(exercise: &str, hosts: &[String], words: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("silence.yaml");
        fs::write(&file, exercise).unwrap();
        let mut command = farsock(folder.path());
        command.args(["run", "--json"]).arg(&file).args(words);
        command.args(hosts.iter().flat_map(|host| ["--host", host]));
        Self { running: Running::spawn(command), _folder: folder }
    }

    /// Waits until a step has been done.
    async fn has_done(&mut self, step: u64) {
        loop {
            let line: Value = serde_json::from_str(&self.running.line().await.unwrap()).unwrap();
            if line["type"] == "step" && line["number"] == step {
                return assert_eq!(line["result"], "passed", "{line}");
            }
        }
    }

    /// How it ends: the steps that are still told, with what they came to, and the last line.
    async fn end(self) -> (Vec<(u64, String, String)>, Value) {
        let Ran { code, out, err } = self.running.end().await;
        assert_eq!((code, err.as_str()), (Some(3), ""), "{out}");
        let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let steps = lines.iter().filter(|line| line["type"] == "step");
        let steps = steps.map(|step| (step["number"].as_u64().unwrap(), text(&step["result"]), text(&step["message"])));
        (steps.collect(), lines.last().unwrap().clone())
    }
}

fn place(role: &str, agent: &AgentProcess) -> String {
    format!("{role} (unix:{})", agent.unix().display())
}

/// Steps that pass, and a moment in which a test stops agents: `wait` is done when `b` has said nothing for a while.
const BEGINNING: &str = "exercise: Silence\nhosts: { a: , b: }\nsteps:
  - { on: a, listen: ':0', as: door }
  - { on: b, listen: ':0', as: other }
";

/// An agent that stands still keeps nobody waiting for its answer for ever: the step says so, and the run ends.
#[tokio::test]
async fn a_call_that_is_not_answered_is_given_up() {
    let (a, b) = (AgentProcess::start().await, AgentProcess::start().await);
    let steps = "  - { on: a, expect: door, quiet: 1s }\n  - { on: b, close: other, within: 100ms }\n";
    let mut run = Run::begin(&format!("{BEGINNING}{steps}"), &[("a", &a), ("b", &b)]);
    run.has_done(2).await;
    b.signal(Signal::STOP);
    let (steps, last) = run.end().await;
    assert_eq!(steps[0], (3, "passed".to_owned(), String::new()));
    assert_eq!(steps[1], (4, "could_not_run".to_owned(), "b has not answered for 10.2s".to_owned()));
    assert_eq!((&last["passed"], &last["result"]), (&3.into(), &"could_not_run".into()));
    b.signal(Signal::CONT);
    b.stop().await;
    a.stop().await;
}

/// An agent that says nothing has not said that nothing happened.
#[tokio::test]
async fn the_silence_of_an_agent_is_no_silence_of_a_socket() {
    tokio::join!(
        says_that_nothing_is_known("{ on: b, expect: other, quiet: 500ms }"),
        says_that_nothing_is_known("{ on: b, accept: other, as: guest, within: 500ms }\n  - { on: b, close: guest }"),
        says_that_nothing_is_known("{ on: b, expect: other, event: closed, within: 500ms }"),
        says_that_nothing_is_known(
            "{ order: [{ expect: other, event: listening }, { expect: other, event: closed }], within: 500ms }",
        ),
    );
}

/// How a step ends on an agent that stands still.
async fn says_that_nothing_is_known(step: &str) {
    let (a, b) = (AgentProcess::start().await, AgentProcess::start().await);
    let steps = format!("  - {{ on: a, expect: door, quiet: 1s }}\n  - {step}\n");
    let mut run = Run::begin(&format!("{BEGINNING}{steps}"), &[("a", &a), ("b", &b)]);
    run.has_done(2).await;
    b.signal(Signal::STOP);
    let (steps, _) = run.end().await;
    let unknown = "has not answered for 5s: nothing is known of what has happened there meanwhile";
    assert_eq!(steps[1], (4, "could_not_run".to_owned(), format!("{} {unknown}", place("b", &b))), "{step}");
    b.signal(Signal::CONT);
    b.stop().await;
    a.stop().await;
}

/// What is to be done in any case is done by the others, and what an agent that stands still was to do is given up; what it has not told is not
/// waited for either.
#[tokio::test]
async fn finally_goes_on_without_an_agent_that_stands_still() {
    let (a, b) = (AgentProcess::start().await, AgentProcess::start().await);
    let steps = "  - { on: a, accept: door, as: guest, within: 10m }\n  - { on: a, close: guest }\n";
    let finally = "finally:\n  - { on: b, close: other, within: 100ms }\n  - { on: a, close: door }\n";
    let mut run = Run::begin(&format!("{BEGINNING}{steps}{finally}"), &[("a", &a), ("b", &b)]);
    run.has_done(2).await;
    b.signal(Signal::STOP);
    run.running.signal(Signal::INT);
    let (steps, last) = run.end().await;
    let gone = (5, "could_not_run".to_owned(), "b has not answered for 10.2s".to_owned());
    assert_eq!(steps, [gone, (6, "passed".to_owned(), String::new())]);
    let left = format!("{}: the session of the run may still be there", place("b", &b));
    let problem = last["problem"].as_str().unwrap();
    assert!(problem.starts_with("interrupted"), "{problem}");
    assert!(problem.contains(&left), "{problem}");
    b.signal(Signal::CONT);
    b.stop().await;
    a.stop().await;
}

/// A way that is cut while a step waits, and found again, is no end of an exercise: the run reads on where it was, and its calls go on.
#[tokio::test]
async fn a_way_that_is_cut_and_found_again_ends_nothing() {
    let agent = AgentProcess::start().await;
    let proxy = Proxy::start(agent.tcp().parse().unwrap(), |_| Fault::default()).await;
    let exercise = "exercise: Cut\nhosts: { a: }\nsteps:
  - { on: a, listen: ':0', as: door }
  - { on: a, expect: door, quiet: 1s }
  - { on: a, connect: '${door.port}', as: line }
  - { on: a, accept: door, peer: '${line.local}', as: guest }
  - { on: a, close: guest }
  - { on: a, expect: line, event: peer_closed }
";
    let folder = TempDir::new().unwrap();
    let token = folder.path().join("token");
    write_private(&token, &agent.token());
    let words = ["--token-file", token.to_str().unwrap()];
    let mut run = Run::begin_at(exercise, &[format!("a={}", proxy.address)], &words);
    run.has_done(1).await;
    let before = proxy.connections();
    proxy.cut();
    let Ran { code, out, err } = run.running.end().await;
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!((&last["passed"], &last["not_reached"]), (&6.into(), &0.into()), "{out}");
    assert!(proxy.connections() > before, "it was cut");
    agent.stop().await;
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
