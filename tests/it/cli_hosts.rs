//! `farsock hosts` and `farsock sessions`: what there is in a lab, and an end to what one has left there.

use std::fs;
use std::path::{Path, PathBuf};

use farsock::pki::write_private;
use farsock::wire::pb;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{AgentProcess, Certificates, Ran, farsock, run};

/// A lab with two agents, and a name that nobody is behind.
struct Room {
    folder: TempDir,
    agents: [AgentProcess; 2],
    inventory: PathBuf,
}

impl Room {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let agents = [
            AgentProcess::start_with(&["--lab-address", "127.0.0.2,::1"]).await,
            AgentProcess::start_with(&["--lab-address", "127.0.0.3"]).await,
        ];
        let inventory = folder.path().join("lab.yaml");
        let text = format!(
            "hosts:\n  lab-a:\n    agent: unix:{}\n    groups: [there]\n    labels: {{site: madrid}}\n    addresses: {{front: 127.0.0.2}}\n\
             \x20 lab-b: {{agent: '{}', token_env: LAB_B, groups: [there]}}\n  lab-c: unix:{}\n",
            agents[0].unix().display(),
            agents[1].tcp(),
            folder.path().join("nobody.sock").display(),
        );
        fs::write(&inventory, text).unwrap();
        Self { folder, agents, inventory }
    }

    /// Types `farsock WORDS --inventory lab.yaml`.
    async fn farsock(&self, words: &[&str]) -> Ran {
        let mut command = farsock(self.folder.path());
        command.args(words).arg("--inventory").arg(&self.inventory).env("LAB_B", self.agents[1].token());
        run(command).await
    }

    async fn stop(self) {
        for agent in self.agents {
            agent.stop().await;
        }
    }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn all_agents_of_a_lab_are_shown_and_those_that_do_not_answer() {
    let room = Room::new().await;
    let ran = room.farsock(&["hosts"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(3), ""), "{}", ran.out);
    let rows: Vec<Vec<&str>> =
        ran.out.lines().map(|line| line.split("  ").filter(|cell| !cell.is_empty()).collect()).collect();
    assert_eq!(
        rows[0].iter().map(|cell| cell.trim()).collect::<Vec<_>>(),
        ["HOST", "AGENT", "VERSION", "CLOCK", "LAB", "CONTROL", "CAPABILITIES"]
    );
    let version = env!("CARGO_PKG_VERSION");
    for (row, name, lab) in [(&rows[1], "lab-a", "127.0.0.2 ::1"), (&rows[2], "lab-b", "127.0.0.3")] {
        let cells: Vec<&str> = row.iter().map(|cell| cell.trim()).collect();
        assert_eq!((cells[0], cells[2], cells[4]), (name, version, lab), "{}", ran.out);
        assert!(cells[3].contains(" ms ±") && cells[6].starts_with("tcp udp"), "{}", ran.out);
        assert!(cells[5].contains(room.agents[usize::from(name == "lab-b")].tcp().as_str()), "{}", ran.out);
    }
    let away = ran.out.lines().nth(3).unwrap();
    assert!(away.starts_with("✗ lab-c (unix:") && away.contains("is an agent running there?"), "{away}");
    assert_eq!(ran.out.lines().last(), Some("2 of 3 agents have answered"));

    let ran = room.farsock(&["hosts", "--json"]).await;
    assert_eq!(ran.code, Some(3));
    let shown = lines(&ran.out);
    let reachable: Vec<(&Value, &Value)> = shown.iter().map(|line| (&line["host"], &line["reachable"])).collect();
    assert_eq!(
        reachable,
        [(&json!("lab-a"), &json!(true)), (&json!("lab-b"), &json!(true)), (&json!("lab-c"), &json!(false))]
    );
    let first = &shown[0];
    assert_eq!(first["lab_addresses"], json!(["127.0.0.2", "::1"]));
    assert_eq!((&first["labels"], &first["groups"]), (&json!({"site": "madrid"}), &json!(["there"])));
    assert_eq!(first["addresses"], json!({"front": ["127.0.0.2"]}));
    // Both clocks are this machine's: whatever the offset is, it lies within its bound.
    let (offset, bound) = (first["clock_offset_ns"].as_i64().unwrap(), first["clock_bound_ns"].as_i64().unwrap());
    assert!(offset.abs() <= bound, "{first}");
    assert!(shown[2]["problem"].as_str().unwrap().contains("is an agent running there?"));

    // Some of them: a group, a name twice, and one that the inventory does not have.
    let ran = room.farsock(&["hosts", "--host", "there", "--host", "lab-a"]).await;
    assert_eq!((ran.code, ran.out.lines().last()), (Some(0), Some("2 of 2 agents have answered")), "{ran:?}");
    let ran = room.farsock(&["hosts", "--host", "lab-q"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert!(ran.err.starts_with("farsock: --host lab-q: there is no host or group `lab-q` in "), "{ran:?}");
    room.stop().await;
}

#[tokio::test]
async fn agents_are_shown_without_an_inventory_too() {
    let agent = AgentProcess::start().await;
    let at = |words: &[&str]| {
        let mut command = farsock(agent.runtime_dir());
        command.args(words);
        run(command)
    };
    let ran = at(&["hosts", "--host", &agent.tcp(), "--host", &format!("unix:{}", agent.unix().display())]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    assert_eq!(ran.out.lines().last(), Some("2 of 2 agents have answered"));
    for command in ["hosts", "sessions"] {
        let ran = at(&[command]).await;
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
        assert_eq!(
            ran.err,
            "farsock: no agent is named: --inventory FILE names those of a lab, --host AGENT one, such as 7625 for that of this host\n"
        );
    }
    agent.stop().await;
}

/// By `--host` and in an inventory, with a token and with a certificate for the name and nothing else.
#[tokio::test]
async fn agents_are_reached_by_the_names_of_their_hosts() {
    let lab = Certificates::new();
    let (own, alice) = (lab.agent_named(&["localhost"]), lab.controller("alice"));
    let plain = AgentProcess::start().await;
    let tls = ["--listen", "127.0.0.1:0", "--tls-cert", own.certificate.to_str().unwrap()];
    let folder = TempDir::new().unwrap();
    let mut command = farsock(folder.path());
    command.arg("agent").args(tls);
    let secured = AgentProcess::spawn(command, folder).await;
    let named = |agent: &AgentProcess| agent.tcp().replace("127.0.0.1", "localhost");
    let here = |words: &[&str], secret: (&str, &Path)| {
        let mut command = farsock(lab.folder.path());
        command.args(words).env(secret.0, secret.1);
        run(command)
    };
    let token = lab.folder.path().join("plain.token");
    write_private(&token, &plain.token()).unwrap();
    let (by_token, by_certificate) =
        (("FARSOCK_TOKEN_FILE", token.as_path()), ("FARSOCK_TLS_CERT", alice.certificate.as_path()));
    for (agent, secret) in [(&plain, by_token), (&secured, by_certificate)] {
        let ran = here(&["hosts", "--json", "--host", &named(agent)], secret).await;
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
        let shown = &lines(&ran.out)[0];
        assert_eq!((&shown["agent"], &shown["reachable"]), (&json!(named(agent)), &json!(true)), "{shown}");
    }
    // It is the name that counts, not where it leads to.
    let ran = here(&["hosts", "--host", &secured.tcp()], by_certificate).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.out.contains("localhost"), "{}", ran.out);

    let inventory = lab.folder.path().join("lab.yaml");
    let text = format!(
        "hosts:\n  lab-a: {{agent: '{}', token_file: plain.token}}\n  lab-b: {{agent: '{}', tls_cert: '{}'}}\n  lab-c: nobody.invalid:7625\n",
        named(&plain),
        named(&secured),
        alice.certificate.display(),
    );
    fs::write(&inventory, text).unwrap();
    let mut command = farsock(lab.folder.path());
    command.args(["hosts", "--inventory"]).arg(&inventory);
    let ran = run(command).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(3), ""), "{}", ran.out);
    assert_eq!(ran.out.lines().last(), Some("2 of 3 agents have answered"));
    let away = ran.out.lines().nth(3).unwrap();
    // Why it is not found is the resolver's own word.
    assert!(away.starts_with("✗ lab-c (nobody.invalid:7625): there is no host `nobody.invalid` ("), "{away}");
    assert!(
        away.ends_with(
            "): is the name right? An address does as well, and a name of an inventory needs --inventory FILE"
        ),
        "{away}"
    );
    plain.stop().await;
    secured.stop().await;
}

/// What somebody has left behind: sockets in the default session, and a session of their own.
#[tokio::test]
async fn what_was_left_behind_is_shown_and_reset() {
    let room = Room::new().await;
    let agent = room.agents[0].agent();
    let socket = |session: &str| pb::CreateSocketRequest {
        session_id: session.to_owned(),
        kind: Some(pb::create_socket_request::Kind::Tcp(pb::TcpSocketSpec::default())),
        ..Default::default()
    };
    let create = pb::CreateSessionRequest { session_id: "mine".to_owned(), ..Default::default() };
    agent.sessions().create_session(create).await.unwrap();
    for session in ["", "", "mine"] {
        agent.sockets().create_socket(socket(session)).await.unwrap();
    }
    let there = ["--host", "there"];
    let ran = room.farsock(&["sessions", there[0], there[1], "--json"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    let of = |shown: &[Value]| -> Vec<(String, String, u64)> {
        let row = |line: &Value| {
            (
                line["host"].as_str().unwrap().to_owned(),
                line["session_id"].as_str().unwrap().to_owned(),
                line["sockets"].as_u64().unwrap(),
            )
        };
        shown.iter().map(row).collect()
    };
    let row = |host: &str, session: &str, sockets| (host.to_owned(), session.to_owned(), sockets);
    assert_eq!(of(&lines(&ran.out)), [row("lab-a", "default", 2), row("lab-a", "mine", 1)]);
    let ran = room.farsock(&["sessions"]).await;
    assert_eq!(ran.code, Some(3), "one agent is away: {}", ran.out);
    assert!(ran.out.starts_with("HOST   SESSION  STATE") && ran.out.contains("✗ lab-c (unix:"), "{}", ran.out);
    assert!(
        ran.out.lines().any(|line| line.starts_with("lab-a  mine     active  1 ") && line.contains(" of 30 s")),
        "{}",
        ran.out
    );

    // Nothing is reset that was not named.
    let ran = room.farsock(&["sessions", "--reset"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(1), "farsock: --reset: name sessions, or say --all\n"));
    let ran = room.farsock(&["sessions", "--host", "there", "mien", "--reset"]).await;
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (Some(1), "farsock: no agent has a session `mien` of yours: did you mean `mine`?\n")
    );
    let ran = room.farsock(&["sessions", "--host", "there", "mine", "--reset"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    assert!(
        ran.out.starts_with("✓ lab-a (unix:") && ran.out.ends_with(": mine: 1 socket closed, ended\n"),
        "{}",
        ran.out
    );
    let ran = room.farsock(&["sessions", "--host", "lab-a", "--reset", "--all", "--json"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let shown = lines(&ran.out);
    assert_eq!(
        (&shown[0]["session_id"], &shown[0]["closed"], &shown[0]["ended"]),
        (&json!("default"), &json!(2), &json!(false))
    );
    assert_eq!(shown.len(), 1);
    let ran = room.farsock(&["sessions", "--host", "there", "--json"]).await;
    assert_eq!(of(&lines(&ran.out)), [row("lab-a", "default", 0)]);
    room.stop().await;
}
