//! What an agent does by itself to what others have made is written down, too: all of it, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use farsock::agent::{AgentConfig, AuditFile};
use farsock::model::limits::Defaults;
use farsock::wire::pb;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::frames::becomes;
use crate::harness::{Agent, AgentProcess, Certificates, HandClock, TcpPeer, farsock, tls_channel};

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn word(line: &Value, key: &str) -> String {
    line[key].as_str().unwrap_or_default().to_owned()
}

/// The sockets that the file says the agent has closed by itself: session, number, reason.
fn closed(path: &Path) -> BTreeSet<(String, u64, String)> {
    let all = lines(path).into_iter().filter(|line| line["record"] == "closed");
    all.map(|line| (word(&line, "session"), line["socket_uid"].as_u64().unwrap(), word(&line, "reason"))).collect()
}

/// The same by the log of a session of the owner.
async fn told(agent: &Agent, session: &str) -> BTreeSet<(String, u64, String)> {
    let name = format!("owner/{}", if session.is_empty() { "default" } else { session });
    let own = |event: &pb::Event| match &event.body {
        Some(pb::event::Body::Closed(closing)) => match closing.reason() {
            pb::CloseReason::Policy => Some("policy"),
            pb::CloseReason::LeaseExpired => Some("lease_expired"),
            pb::CloseReason::AgentDraining => Some("agent_draining"),
            pb::CloseReason::SessionReset if event.request_id.is_empty() => Some("session_reset"),
            _ => None,
        },
        _ => None,
    };
    let events = agent.all_events(session).await;
    let closed = events.iter().filter_map(|event| own(event).map(|reason| (event.socket_uid, reason.to_owned())));
    closed.map(|(uid, reason)| (name.clone(), uid, reason)).collect()
}

/// Sockets of all kinds, those among them that the agent takes itself; one that its user has closed, and one that its peer has. Comes with
/// a peer that stays.
async fn fill(agent: &Agent, session: &str) -> TcpPeer {
    agent.udp_in(session, "udp").await;
    agent.udp_in(session, "gone").await;
    let close = pb::CloseSocketRequest { session_id: session.into(), socket_id: "gone".into(), ..Default::default() };
    agent.sockets().close_socket(close).await.unwrap();
    let listen = pb::TcpSocketSpec {
        role: Some(pb::tcp_socket_spec::Role::Listen("127.0.0.1:0".into())),
        half_open: pb::HalfOpenPolicy::AutoEnd.into(),
        ..Default::default()
    };
    let request = pb::CreateSocketRequest {
        session_id: session.into(),
        socket_id: "door".into(),
        kind: Some(pb::create_socket_request::Kind::Tcp(listen)),
        ..Default::default()
    };
    let made = agent.sockets().create_socket(request).await.unwrap().into_inner().socket.unwrap();
    let at = made.local.unwrap().text;
    drop(TcpPeer::connect(&at).await);
    let stays = TcpPeer::connect(&at).await;
    becomes("both connections are there, and one has ended", || async {
        let events = agent.all_events(session).await;
        let is = |kind, id: &str| events.iter().any(|event| event.kind == kind && event.socket_id == id);
        is("created", "door.2") && (is("closed", "door.1") || is("closed", "door.2"))
    })
    .await;
    stays
}

/// By a lease, by a session that nobody uses, and by the end of the agent.
#[tokio::test]
async fn each_socket_that_the_agent_closes_by_itself_has_its_line() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("audit.jsonl");
    let clock = Arc::new(HandClock::default());
    // By a clock that stands still: it is looked at once in that time.
    let idle = Duration::from_secs(1);
    let config = AgentConfig {
        audit: Some(AuditFile::at(path.clone())),
        clock: Some(Arc::clone(&clock) as _),
        defaults: Defaults { default_session_idle: idle, ..Defaults::default() },
        ..AgentConfig::default()
    };
    let agent = Agent::start_with(config).await;
    agent.create_session("lab").await.unwrap();
    let _peers = [fill(&agent, "lab").await, fill(&agent, "").await];
    assert_eq!(
        closed(&path),
        BTreeSet::new(),
        "what users, peers and sockets themselves have ended is not the agent's"
    );
    // Reading it to see whether it has ended would be to use it.
    clock.advance(idle);
    becomes("the default session is reset", || async { closed(&path).len() == 3 }).await;
    let mut expected = told(&agent, "").await;
    assert_eq!(closed(&path), expected);

    clock.advance(Duration::from_secs(60));
    becomes("the lease has ended", || async {
        agent.all_events("lab").await.last().is_some_and(|event| event.kind == "lease_expired")
    })
    .await;
    expected.extend(told(&agent, "lab").await);
    assert_eq!(expected.len(), 6);
    assert_eq!(closed(&path), expected);
    let expired: Vec<Value> = lines(&path).into_iter().filter(|line| line["record"] == "expired").collect();
    assert_eq!(expired.len(), 1);
    assert_eq!(word(&expired[0], "session"), "owner/lab");

    agent.create_session("more").await.unwrap();
    let _peer = fill(&agent, "more").await;
    agent.stop().await;
    let last = closed(&path);
    let drained: Vec<_> =
        last.difference(&expected).map(|(session, _, reason)| format!("{session} {reason}")).collect();
    assert_eq!(drained, ["owner/more agent_draining"; 3]);
    let all: Vec<String> = lines(&path).iter().map(|line| word(line, "record")).collect();
    let draining = all.iter().position(|record| record == "draining").unwrap();
    assert!(all[draining + 1..all.len() - 1].iter().all(|record| record == "closed"), "{all:?}");
    assert_eq!(all.last().unwrap(), "stopped");
}

/// SIGHUP: what was read and what that has ended, and who was sent away; and a file that was put aside is left.
#[tokio::test]
async fn a_reload_is_written_down_with_what_it_ends() {
    let (lab, folder) = (Certificates::new(), TempDir::new().unwrap());
    let (policy, path) = (folder.path().join("policy.yaml"), folder.path().join("audit.jsonl"));
    let write = |principals: &str, address: &str| {
        let rules = format!("rules: [{{ allow: any, addresses: {address} }}]");
        fs::write(&policy, format!("policy: Course\nprincipals: {principals}\n{rules}\n")).unwrap();
    };
    write("{ alice: student, bob: student }", "loopback");
    let mut command = farsock(folder.path());
    command.args(["agent", "--listen", "127.0.0.1:0", "--policy"]).arg(&policy).arg("--audit").arg(&path);
    command.arg("--tls-cert").arg(lab.agent().certificate);
    let mut process = AgentProcess::spawn_telling(command, TempDir::new().unwrap()).await;
    let address = process.tcp();
    let client = |name: &str| Agent::at(tls_channel(&address, &lab.controller(name)));
    let (alice, bob) = (client("alice"), client("bob"));
    for (agent, ip) in [(&alice, "127.0.0.1"), (&bob, "127.0.0.1"), (&alice, "127.0.0.2")] {
        let spec = pb::UdpSocketSpec { bind: format!("{ip}:0"), ..Default::default() };
        agent.create_udp("", spec).await.unwrap();
    }
    let own = || {
        let all =
            lines(&path).into_iter().filter(|line| !["begun", "ended", "opened"].contains(&&*word(line, "record")));
        let text = |line: Value| {
            let words = ["record", "principal", "session", "socket", "outcome", "policy", "reason"];
            let mut text: Vec<String> =
                words.map(|key| word(&line, key)).into_iter().filter(|word| !word.is_empty()).collect();
            text.extend(
                [&line["ended_connections"], &line["closed_sockets"]]
                    .into_iter()
                    .filter_map(|n| n.as_u64())
                    .map(|n| n.to_string()),
            );
            text.join(" ")
        };
        all.map(text).collect::<Vec<String>>()
    };
    write("{ alice: student }", "127.0.0.1");
    process.signal(Signal::HUP);
    process.complaint().await;
    let mut said = own();
    said[1..3].sort();
    assert_eq!(
        said,
        [
            "disconnected bob reload",
            "closed alice/default s2 policy",
            "closed bob/default s1 policy",
            "reloaded done Course 1 2",
        ]
    );
    fs::write(&policy, "policy: Wrong\nprincipals: { alice: studnt }\n").unwrap();
    process.signal(Signal::HUP);
    process.complaint().await;
    assert_eq!(own().last().unwrap(), "reloaded failed");

    // As logrotate does it.
    let aside = folder.path().join("audit.jsonl-20240101");
    fs::rename(&path, &aside).unwrap();
    alice.udp_in("", "before").await;
    let before = lines(&aside).len();
    write("{ alice: student }", "127.0.0.1");
    process.signal(Signal::HUP);
    process.complaint().await;
    alice.udp_in("", "after").await;
    assert_eq!(lines(&aside).len(), before);
    let begun: Vec<String> = lines(&path).iter().map(|line| word(line, "record")).collect();
    assert_eq!(begun, ["opened", "reloaded", "begun", "ended"]);
    process.stop().await;
}
