//! `farsock run`: on agents within the process and on agents in processes of their own; for people and for programs; to the end, and not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use farsock::agent::{AgentConfig, Listen};
use farsock::model::limits::Limits;
use farsock::wire::pb;
use farsock::wire::pb::watch_events_response::Frame;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::harness::{
    Agent, AgentProcess, Ran, Running, TcpPeer, farsock, filter, long, millis, run, run_farsock, within,
};

fn tutorials() -> Vec<PathBuf> {
    exercises("tests/exercises/tutorials")
}

fn exercises(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The roles of an exercise, as the program tells them.
async fn roles(file: &Path) -> Vec<String> {
    let ran = run_farsock(&["run", "--json", file.to_str().unwrap()]).await;
    let began: Value = serde_json::from_str(ran.out.lines().next().unwrap()).unwrap();
    began["roles"].as_array().unwrap().iter().map(|role| role.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_tutorials_pass_on_embedded_agents() {
    let ran = run_farsock(&["run", "tests/exercises/tutorials"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    let count = tutorials().len();
    assert!(ran.out.ends_with(&format!("{count} of {count} exercises passed\n")), "{}", ran.out);
    assert!(!ran.out.contains('✗'));
}

/// What went wrong is said once more at the end, by title and file: it may have been told some screens above.
#[tokio::test]
async fn exercises_that_went_wrong_are_named_again_at_the_end() {
    let folder = TempDir::new().unwrap();
    let written = |name: &str, step: &str| {
        let file = folder.path().join(name);
        fs::write(&file, format!("exercise: The {name}\nhosts: {{ a: }}\nsteps:\n  - {{ on: a, {step} }}\n")).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let fails = written("first", "parse: x, is: ipv4");
    let passes = written("second", "parse: x, is: none");
    let cannot = folder.path().join("third").to_str().unwrap().to_owned();
    fs::write(
        &cannot,
        "exercise: The third\nhosts: { a: }\nsteps:\n  - { on: a, connect: \":1\", as: line, hash: true, error: ECONNREFUSED }\n  - { on: a, write: line, text: \"${line.hash_written}\" }\n",
    )
    .unwrap();
    for words in [&["-q"][..], &[]] {
        let all = [&["run", fails.as_str(), passes.as_str(), cannot.as_str()], words].concat();
        let ran = run_farsock(&all).await;
        assert_eq!(ran.code, Some(3), "{ran:?}");
        let again =
            format!("✗ FAILED The first  {fails}\n✗ COULD NOT RUN The third  {cannot}\n1 of 3 exercises passed\n");
        assert!(ran.out.ends_with(&format!("\n{again}")), "{}", ran.out);
    }
    let ran = run_farsock(&["run", "-q", &fails]).await;
    assert_eq!((ran.code, ran.out.matches("FAILED").count()), (Some(4), 1), "one is not said twice: {}", ran.out);
}

#[tokio::test]
async fn the_exercises_on_sockets_pass_on_embedded_agents() {
    // One by one: some take their time.
    for file in exercises("tests/exercises/sockets") {
        let ran = run_farsock(&["run", "-q", file.to_str().unwrap()]).await;
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    }
}

/// The second mode: the same files on agents in processes of their own, each on a loopback address of its own, one reached by TCP with its
/// token, the other by its Unix socket.
#[tokio::test]
async fn the_tutorials_pass_on_agents_in_separate_processes() {
    let agents = [
        AgentProcess::start_with(&["--lab-address", "127.0.0.1,::1"]).await,
        AgentProcess::start_with(&["--lab-address", "127.0.0.1,::1"]).await,
        AgentProcess::start_with(&["--lab-address", "127.0.0.1,::1"]).await,
    ];
    let ways = [agents[0].tcp(), format!("unix:{}", agents[1].unix().display()), agents[2].tcp()];
    // One token file for both that are reached by TCP would not do: the third is reached by its Unix socket, too.
    let ways = [ways[0].clone(), ways[1].clone(), format!("unix:{}", agents[2].unix().display())];
    for file in tutorials() {
        let roles = roles(&file).await;
        assert!(roles.len() <= agents.len(), "{roles:?}");
        let mut command = farsock(agents[0].runtime_dir());
        command.arg("run").arg(&file);
        for (role, way) in roles.iter().zip(&ways) {
            command.args(["--host", &format!("{role}={way}")]);
        }
        let ran = run(command).await;
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}\n{}", file.display(), ran.out);
        for (role, way) in roles.iter().zip(&ways) {
            assert!(ran.out.lines().any(|line| line.contains(role) && line.contains(way)), "{role} {way}: {}", ran.out);
        }
    }
    // Every run has left its agents as it found them.
    for agent in agents {
        let sessions = agent.agent().sessions().list_sessions(pb::ListSessionsRequest::default()).await.unwrap();
        let names: Vec<String> = sessions.into_inner().sessions.into_iter().map(|session| session.session_id).collect();
        assert!(names.iter().all(|name| name == "default"), "{names:?}");
        agent.stop().await;
    }
}

/// Lines for programs: each one is an object, complete in itself, and together they are the whole exercise.
#[tokio::test]
async fn json_lines_tell_everything() {
    for file in tutorials() {
        let ran = run_farsock(&["run", "--json", file.to_str().unwrap()]).await;
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
        let lines: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).collect::<Vec<_>>();
        let (first, last) = (&lines[0], &lines[lines.len() - 1]);
        assert_eq!(first["type"], "exercise");
        assert_eq!((&last["type"], &last["result"]), (&"result".into(), &"passed".into()));
        assert_eq!(last["passed"], first["steps"]);
        // Branches end their steps when they do.
        let mut numbers: Vec<u64> = of("step").iter().map(|step| step["number"].as_u64().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=first["steps"].as_u64().unwrap()).collect::<Vec<_>>());
        assert!(of("step").iter().all(|step| step["result"] == "passed" && step["line"].as_u64().unwrap() > 1));
        for host in of("hosts")[0]["hosts"].as_array().unwrap() {
            let events = of("event").into_iter().filter(|event| event["host"] == host["role"]);
            let mut seqs: Vec<u64> = events.map(|event| event["event_seq"].as_u64().unwrap()).collect();
            seqs.sort_unstable();
            assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "{}: {}", file.display(), host["role"]);
        }
        let known = ["exercise", "progress", "hosts", "socket", "event", "step", "result"];
        assert!(lines.iter().all(|line| known.iter().any(|known| line["type"] == **known)), "there are no other lines");
    }
}

/// Sixteen hosts begin at one instant, and how far apart they began is told: those of one process, which share a clock.
#[tokio::test]
async fn many_hosts_begin_at_one_instant() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("sixteen.yaml");
    let roles = (0..16).map(|n| format!("h{n}: ")).collect::<Vec<_>>().join(", ");
    let step = "{ on: \"${item}\", create: udp, local: \":0\", as: \"u-${item}\" }";
    let text = format!(
        "exercise: Sixteen\nhosts: {{ {roles} }}\nsteps:\n  - together: {{ align: 1s, steps: [{{ foreach: {{ hosts: all }}, steps: [{step}] }}] }}\n\
         \x20 - foreach: {{ hosts: all }}\n    steps: [{{ on: \"${{item}}\", close: \"u-${{item}}\" }}]\n"
    );
    fs::write(&file, text).unwrap();
    let ran = run_farsock(&["run", "--json", file.to_str().unwrap()]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    let lines: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told = lines.iter().find(|line| line["verb"] == "together" && line["type"] == "step").unwrap();
    let finding = told["finding"].as_str().unwrap();
    assert!(finding.starts_with("16 starts lie ") && finding.contains('±'), "{finding}");
    println!("{finding}");
}

const WAITS: &str = "exercise: Waits\nhosts: { a: }\nsteps:\n  - { on: a, listen: \":0\", as: door }\n\
                     \x20 - { on: a, accept: door, as: guest, within: 10m }\n  - { on: a, close: guest }\n";

/// Ctrl-C ends an exercise in good order: what it made on agents is gone, and what has happened so far is told.
#[tokio::test]
async fn an_interrupt_leaves_nothing_behind() {
    let agent = AgentProcess::start().await;
    let file = agent.runtime_dir().join("waits.yaml");
    fs::write(&file, WAITS).unwrap();
    let mut command = farsock(agent.runtime_dir());
    command.args(["run", "--json"]).arg(&file).args(["--host", &format!("a={}", agent.tcp())]);
    let mut running = Running::spawn(command);
    loop {
        let line: Value = serde_json::from_str(&running.line().await.unwrap()).unwrap();
        if line["type"] == "step" && line["number"] == 1 {
            break;
        }
    }
    let sessions = || async {
        let listed = agent.agent().sessions().list_sessions(pb::ListSessionsRequest::default()).await.unwrap();
        listed.into_inner().sessions.into_iter().filter(|session| session.session_id != "default").count()
    };
    assert_eq!(sessions().await, 1);
    running.signal(Signal::INT);
    let Ran { code, out, .. } = running.end().await;
    assert_eq!(code, Some(3), "{out}");
    let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!((&last["type"], &last["result"]), (&"result".into(), &"could_not_run".into()));
    assert_eq!((&last["problem"], &last["passed"]), (&"interrupted".into(), &1.into()));
    assert_eq!(sessions().await, 0, "the session is deleted, and its sockets with it");
    agent.stop().await;
}

/// What is to be done in any case is done after an interrupt, too.
#[tokio::test]
async fn an_interrupt_does_what_is_to_be_done_in_any_case() {
    let agent = AgentProcess::start().await;
    let finally = "finally:\n  - { on: a, expect: door, queue: 0 }\n  - { on: a, close: door }\n";
    let (running, _) = waiting_with(&agent, &format!("{WAITS}{finally}")).await;
    running.signal(Signal::INT);
    let Ran { code, out, .. } = running.end().await;
    assert_eq!(code, Some(3), "{out}");
    let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["problem"], &last["passed"], &last["not_reached"]),
        (&"interrupted".into(), &3.into(), &2.into())
    );
    assert!(out.contains("closed"), "what it did is told: {out}");
    agent.stop().await;
}

/// Whoever interrupts that too is not kept waiting.
#[tokio::test]
async fn a_second_interrupt_ends_that_too() {
    let agent = AgentProcess::start().await;
    let finally = "finally:\n  - { on: a, parse: x, is: none }\n  - { on: a, accept: door, as: other, within: 10m }\n  - { on: a, close: other }\n";
    let (mut running, _) = waiting_with(&agent, &format!("{WAITS}{finally}")).await;
    running.signal(Signal::INT);
    loop {
        let line: Value = serde_json::from_str(&running.line().await.unwrap()).unwrap();
        if line["type"] == "step" && line["number"] == 4 {
            break;
        }
    }
    running.signal(Signal::INT);
    let Ran { code, out, .. } = running.end().await;
    assert_eq!(code, Some(3), "{out}");
    let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!((&last["problem"], &last["passed"]), (&"interrupted again, in `finally`".into(), &2.into()), "{out}");
    agent.stop().await;
}

/// The agents that are left do what is to be done in any case; nobody waits for the one that has gone.
#[tokio::test]
async fn what_is_to_be_done_in_any_case_is_done_by_the_agents_that_are_left() {
    let (mut lost, left) = (AgentProcess::start().await, AgentProcess::start().await);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("two.yaml");
    let steps = WAITS
        .replace("{ a: }", "{ a: , b: }")
        .replace("  - { on: a, accept", "  - { on: b, create: udp, as: u }\n  - { on: a, accept");
    let finally = "finally:\n  - { on: a, expect: door, queue: 0, within: 10m }\n  - { on: b, close: u }\n";
    fs::write(&file, format!("{steps}{finally}")).unwrap();
    let mut command = farsock(lost.runtime_dir());
    let hosts = [("a", &lost), ("b", &left)].map(|(role, agent)| format!("{role}=unix:{}", agent.unix().display()));
    command.args(["run", "--json"]).arg(&file).args(["--host", &hosts[0], "--host", &hosts[1]]);
    let mut running = Running::spawn(command);
    loop {
        let line: Value = serde_json::from_str(&running.line().await.unwrap()).unwrap();
        if line["type"] == "step" && line["number"] == 2 {
            break;
        }
    }
    lost.signal(Signal::KILL);
    lost.wait().await;
    let Ran { code, out, .. } = running.end().await;
    assert_eq!(code, Some(3), "{out}");
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let went: Vec<_> =
        lines.iter().filter(|line| line["type"] == "step").map(|line| (&line["number"], &line["result"])).collect();
    assert_eq!(went, [(&5.into(), &"could_not_run".into()), (&6.into(), &"passed".into())], "{out}");
    assert!(lines.last().unwrap()["problem"].as_str().unwrap().starts_with("a (unix:"), "{out}");
    left.stop().await;
}

/// An exercise that cannot even begin leaves nothing behind either.
#[tokio::test]
async fn one_agent_for_two_roles_is_refused_and_nothing_is_left_on_it() {
    let agent = AgentProcess::start().await;
    let way = format!("unix:{}", agent.unix().display());
    let (server, client) = (format!("server={way}"), format!("client={way}"));
    let ran =
        run_farsock(&["run", "tests/exercises/tutorials/000-greeting.yaml", "--host", &server, "--host", &client])
            .await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.err.contains("each role needs an agent of its own"), "{}", ran.err);
    let sessions = agent.agent().sessions().list_sessions(pb::ListSessionsRequest::default()).await.unwrap();
    assert!(sessions.into_inner().sessions.iter().all(|session| session.session_id == "default"));
    agent.stop().await;
}

/// A controller that was stopped for longer than its lease does not go on as if nothing had been: it says so, and its agent has cleaned up by
/// itself, not before.
#[tokio::test]
async fn a_controller_that_slept_past_its_lease_ends_the_run_and_says_why() {
    if !long() {
        return;
    }
    let agent = AgentProcess::start().await;
    let (running, session) = waiting(&agent).await;
    let watch =
        pb::WatchEventsRequest { session_id: session.clone(), heartbeat_interval: millis(1000), ..Default::default() };
    let mut watcher = agent.agent().watch(watch).await.unwrap();
    // It is renewed: more goes by than its TTL.
    let mut heartbeats = 0;
    while heartbeats < 35 {
        match watcher.next().await.unwrap().unwrap() {
            Frame::Heartbeat(_) => heartbeats += 1,
            Frame::Batch(batch) => assert!(batch.events.iter().all(|event| event.kind != "lease_expired"), "{batch:?}"),
            _ => {}
        }
    }
    running.signal(Signal::STOP);
    let mut kinds = Vec::new();
    while kinds.last().is_none_or(|last| last != "lease_expired") {
        if let Frame::Batch(batch) = watcher.next().await.unwrap().unwrap() {
            kinds.extend(batch.events.into_iter().map(|event| event.kind));
        }
    }
    assert!(kinds.contains(&"closed".to_owned()), "{kinds:?}");
    running.signal(Signal::CONT);
    let Ran { code, out, .. } = running.end().await;
    assert_eq!(code, Some(3), "{out}");
    let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    let problem = last["problem"].as_str().unwrap();
    assert!(problem.contains(&format!("the lease of session `{session}` is lost")), "{out}");
    agent.stop().await;
}

/// Another one that deletes the session of a run ends it.
#[tokio::test]
async fn a_session_that_is_deleted_under_a_run_ends_it() {
    let agent = AgentProcess::start().await;
    let (running, session) = waiting(&agent).await;
    agent.agent().delete(&session, false).await.unwrap();
    let Ran { code, out, .. } = running.end().await;
    assert_eq!(code, Some(3), "{out}");
    assert!(out.contains("closed"), "{out}");
    let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    let place = format!("a (unix:{})", agent.unix().display());
    assert_eq!(last["problem"], format!("{place}: the session of the run is gone: somebody has deleted it"), "{out}");
    assert_eq!(
        (&last["passed"], &last["failed"]),
        (&1.into(), &0.into()),
        "the step that waited has not failed: {out}"
    );
    agent.stop().await;
}

/// A run that waits in its second step, and its session.
async fn waiting(agent: &AgentProcess) -> (Running, String) {
    waiting_with(agent, WAITS).await
}

async fn waiting_with(agent: &AgentProcess, exercise: &str) -> (Running, String) {
    let file = agent.runtime_dir().join("waits.yaml");
    fs::write(&file, exercise).unwrap();
    let mut command = farsock(agent.runtime_dir());
    command.args(["run", "--json"]).arg(&file).args(["--host", &format!("a=unix:{}", agent.unix().display())]);
    let mut running = Running::spawn(command);
    loop {
        let line: Value = serde_json::from_str(&running.line().await.unwrap()).unwrap();
        if line["type"] == "step" && line["number"] == 1 {
            break;
        }
    }
    let listed = agent.agent().sessions().list_sessions(pb::ListSessionsRequest::default()).await.unwrap().into_inner();
    let session = listed.sessions.into_iter().map(|session| session.session_id).find(|id| id != "default").unwrap();
    (running, session)
}

/// An agent that dies under an exercise ends it, and says which one.
#[tokio::test]
async fn an_agent_that_dies_is_named() {
    let mut agent = AgentProcess::start().await;
    let (running, _) = waiting(&agent).await;
    agent.signal(Signal::KILL);
    agent.wait().await;
    let Ran { code, out, .. } = running.end().await;
    assert_eq!(code, Some(3), "{out}");
    let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert!(last["problem"].as_str().unwrap().starts_with("a (unix:"), "{out}");
}

/// Nobody waits for one host to find out about the next, and each that is not there is told of, in the order of the exercise.
#[tokio::test]
async fn every_host_that_cannot_be_reached_is_named() {
    let agent = AgentProcess::start().await;
    let listeners: Vec<_> = (0..2).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let [silent, gone] = [0, 1].map(|at| listeners[at].local_addr().unwrap());
    drop(listeners);
    let file = agent.runtime_dir().join("three.yaml");
    let steps = "  - { on: a, listen: \":0\", as: door }\n  - { on: a, close: door }\n";
    fs::write(&file, format!("exercise: Three\nhosts: {{ a: , b: , c: }}\nsteps:\n{steps}")).unwrap();
    let mut command = farsock(agent.runtime_dir());
    command.arg("run").arg(&file);
    for way in [format!("a={silent}"), format!("b=unix:{}", agent.unix().display()), format!("c={gone}")] {
        command.args(["--host", &way]);
    }
    let ran = run(command).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    let lines: Vec<&str> = ran.err.lines().collect();
    assert_eq!(lines.len(), 2, "{ran:?}");
    for (line, (role, address)) in lines.iter().zip([("a", silent), ("c", gone)]) {
        assert!(line.starts_with(&format!("farsock: {role} ({address}): Connection refused")), "{line}");
        assert!(line.contains("`farsock agent` starts one"), "what to do: {line}");
    }
    agent.stop().await;
}

/// A controller that stands still loses nothing: the agent keeps what fits into its log, and then reads no more from the socket, so that the
/// peer waits.
#[tokio::test]
async fn a_run_with_more_events_than_the_log_holds_loses_nothing() {
    const SIZE: usize = 8 << 20;
    let limits = Limits { log_bytes: 256 << 10, log_events: 64, ..Limits::default() };
    let listen = vec![Listen::Tcp(([127, 0, 0, 1], 0).into())];
    let agent = Agent::start_with(AgentConfig { listen, no_auth: true, limits, ..AgentConfig::default() }).await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("much.yaml");
    fs::write(&file, MUCH).unwrap();
    let mut command = farsock(folder.path());
    command.args(["run", "--json"]).arg(&file).args(["--host", &format!("a={}", agent.tcp())]);
    let mut running = Running::spawn(command);
    let mut lines: Vec<Value> = Vec::new();
    let mut next =
        async |lines: &mut Vec<Value>| lines.push(serde_json::from_str(&running.line().await.unwrap()).unwrap());
    while lines.last().is_none_or(|line| line["type"] != "step") {
        next(&mut lines).await;
    }
    let door = lines.iter().find(|line| line["kind"] == "listening").unwrap()["local"].as_str().unwrap().to_owned();
    let sessions =
        agent.sessions().list_sessions(pb::ListSessionsRequest::default()).await.unwrap().into_inner().sessions;
    let session = sessions.into_iter().find(|session| session.session_id != "default").unwrap().session_id;

    running.signal(Signal::STOP);
    let mut peer = TcpPeer::connect(&door).await;
    let sending = tokio::spawn(async move {
        peer.write(&vec![7; SIZE]).await;
        peer.shut_down().await;
        peer
    });
    let paused = pb::WaitEventRequest {
        session_id: session,
        filter: filter(&[], &["read_paused"]),
        timeout: millis(20_000),
        ..Default::default()
    };
    assert!(agent.wait(paused).await.unwrap().event.is_some(), "the log is full");
    assert!(!sending.is_finished(), "the peer waits");
    running.signal(Signal::CONT);
    let ran = running.end().await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    within("the peer", sending).await.unwrap();
    lines.extend(ran.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    let events: Vec<&Value> = lines.iter().filter(|line| line["type"] == "event").collect();
    let seqs: Vec<u64> = events.iter().map(|event| event["event_seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "each once, in order, without a hole");
    let received = events.iter().filter(|event| event["kind"] == "received");
    let size: u64 = received.map(|event| event["size"].as_u64().unwrap()).sum();
    assert_eq!(size, SIZE as u64);
    assert!(seqs.len() > 64, "{} events are more than the log holds", seqs.len());
    agent.stop().await;
}

const MUCH: &str = "exercise: Much\nhosts: { a: }\nsteps:\n  - { on: a, listen: \":0\", as: door }\n\
                    \x20 - { on: a, accept: door, as: guest, within: 1m }\n\
                    \x20 - { on: a, expect: guest, event: peer_closed, within: 1m }\n";

/// What is wanted and what came stand beside each other, at the line of the step, and how to run it again.
#[tokio::test]
async fn a_failure_shows_the_step_what_was_wanted_and_what_came() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("fails.yaml");
    let text = "exercise: Fails\nhosts: { a: , b: }\nsteps:\n  - { on: a, listen: \":0\", as: door }\n  - { on: b, connect: \"${door}\", as: line }\n  \
                - { on: a, accept: door, as: guest }\n  - { on: b, write: line, text: hola }\n  - { on: a, receive: guest, text: adios }\n  \
                - { on: a, close: guest }\n";
    fs::write(&file, text).unwrap();
    let ran = run_farsock(&["run", file.to_str().unwrap()]).await;
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.err.contains(&format!("{}:8:", file.display())), "{}", ran.err);
    assert!(ran.err.contains("adios") && ran.err.contains("hola"), "{}", ran.err);
    assert!(ran.out.contains("4 of 6 steps passed, 1 failed, 1 not reached"), "{}", ran.out);
    let again = format!("  again  {} run {}\n", env!("CARGO_BIN_EXE_farsock"), file.display());
    assert!(ran.out.ends_with(&again), "{}", ran.out);
}

/// Whatever was said of what is run is said again, as a shell takes it, and nothing of how it is shown.
#[tokio::test]
async fn the_command_that_repeats_a_run_does_so() {
    let folder = TempDir::new().unwrap();
    let agent = AgentProcess::start().await;
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("lab one.yaml", &format!("hosts:\n  lab-a: {{ agent: \"unix:{}\" }}\n", agent.unix().display()));
    write(
        "1.yaml",
        "exercise: One\nhosts: { a: lab-a }\nvars: { text: }\nsteps: [{ on: a, parse: '${text}', is: ipv4 }]\n",
    );
    write(
        "2.yaml",
        "exercise: Two\nhosts: { b: }\nvars: { text: , kind: }\nsteps: [{ on: b, parse: '${text}', is: '${kind}' }]\n",
    );
    let lines = async |words: &[&str]| {
        let mut command = farsock(folder.path());
        command.args(words).current_dir(folder.path());
        let ran = run(command).await;
        assert_eq!(ran.code, Some(4), "{ran:?}");
        ran.out.lines().filter_map(|line| line.strip_prefix("  again  ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let words = [
        "run",
        "-q",
        "--inventory",
        "lab one.yaml",
        "--var",
        "text=it's $5",
        "--var",
        "kind=ipv6",
        "--host",
        "b=lab-a",
    ];
    let again = lines(&[&words[..], &["1.yaml", "2.yaml"]].concat()).await;
    let program = env!("CARGO_BIN_EXE_farsock");
    let var = "--var 'text=it'\\''s $5'";
    assert_eq!(
        again,
        [
            format!("{program} run {var} --inventory 'lab one.yaml' 1.yaml"),
            format!("{program} run {var} --var kind=ipv6 --host b=lab-a --inventory 'lab one.yaml' 2.yaml"),
        ]
    );
    for command in again {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &command]).current_dir(folder.path()).stdin(Stdio::null());
        let ran = run(shell).await;
        assert_eq!(ran.code, Some(4), "{ran:?}");
        assert!(ran.out.ends_with(&format!("  again  {command}\n")), "{}", ran.out);
    }
    agent.stop().await;
}
