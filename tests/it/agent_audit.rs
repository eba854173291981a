//! What was done is written down: before, after, all of it, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use farsock::agent::{AgentConfig, AuditFile};
use farsock::wire::pb;
use serde_json::Value;
use tempfile::TempDir;
use tonic::Code;

use crate::harness::{
    Agent, AgentProcess, Certificates, Refused, datagram, detached, error_name, farsock, named, run, tls_channel,
};

/// An agent in this process that writes down what is done, and where.
async fn audited(bytes: u64) -> (Agent, PathBuf, TempDir) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("audit.jsonl");
    let audit = AuditFile { bytes, ..AuditFile::at(path.clone()) };
    let agent = Agent::start_with(AgentConfig { audit: Some(audit), ..AgentConfig::default() }).await;
    (agent, path, folder)
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// All records, those of files that are full first.
fn records(path: &Path) -> Vec<Value> {
    let mut files: Vec<PathBuf> = (1..100)
        .map(|number| PathBuf::from(format!("{}.{number}", path.display())))
        .filter(|file| file.exists())
        .collect();
    files.reverse();
    files.push(path.to_owned());
    files.iter().flat_map(|file| lines(file)).collect()
}

/// The records of one kind, by their numbers.
fn of_kind(records: &[Value], kind: &str) -> BTreeMap<u64, Value> {
    let of_kind = records.iter().filter(|record| record["record"] == kind);
    of_kind.map(|record| (record["number"].as_u64().unwrap(), record.clone())).collect()
}

/// Waits until so many changes have ended.
async fn ended(path: &Path, count: usize) {
    crate::harness::frames::becomes("the records of their ends", || async {
        of_kind(&records(path), "ended").len() >= count
    })
    .await;
}

/// Whole numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// What an operation answered, in the words of its record.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    rpc: &'static str,
    outcome: &'static str,
    /// The error's name, or the refusal's reason.
    why: String,
    events: Option<(u64, u64)>,
}

impl Told {
    fn of<T>(rpc: &'static str, answer: Result<T, Refused>, report: impl Fn(&T) -> Option<&pb::Report>) -> Self {
        match answer {
            Err(refused) => Self { rpc, outcome: "refused", why: refused.reason, events: None },
            Ok(answer) => {
                let report = report(&answer);
                let why = error_name(report).to_owned();
                let timed_out = report.is_some_and(|report| report.timed_out);
                let outcome = match (why.is_empty(), timed_out) {
                    (false, _) => "failed",
                    (true, true) => "timed_out",
                    (true, false) => "done",
                };
                let events = report.map(|report| (report.first_event_seq, report.last_event_seq));
                Self { rpc, outcome, why, events: events.filter(|(first, _)| *first > 0) }
            }
        }
    }

    fn read(begun: &Value, ended: &Value) -> (String, String, String, Option<(u64, u64)>) {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let why = if ended["error"].is_null() { word(&ended["reason"]) } else { word(&ended["error"]) };
        let events = ended["first_event_seq"].as_u64().zip(ended["last_event_seq"].as_u64());
        (word(&begun["rpc"]), word(&ended["outcome"]), why, events)
    }
}

async fn step(agent: &Agent, dice: &mut Dice) -> Told {
    let session = ["", "lab", "nil"][usize::try_from(dice.below(3)).unwrap()];
    let socket = ["a", "b", "c"][usize::try_from(dice.below(3)).unwrap()];
    let (session_id, socket_id) = (session.to_owned(), socket.to_owned());
    macro_rules! ask {
        ($service:ident.$method:ident, $rpc:literal, $request:expr) => {{
            let answer = agent.$service().$method($request).await.map(tonic::Response::into_inner);
            Told::of($rpc, answer.map_err(Refused::from), |answer| answer.report.as_ref())
        }};
    }
    let udp = pb::UdpSocketSpec { bind: "127.0.0.1:0".into(), ..Default::default() };
    let kind = match dice.below(3) {
        0 => pb::create_socket_request::Kind::Udp(udp),
        1 => pb::create_socket_request::Kind::Tcp(pb::TcpSocketSpec {
            role: Some(pb::tcp_socket_spec::Role::Listen("127.0.0.1:0".into())),
            ..Default::default()
        }),
        // Nobody is there.
        _ => pb::create_socket_request::Kind::Tcp(pb::TcpSocketSpec {
            role: Some(pb::tcp_socket_spec::Role::Connect("127.0.0.1:1".into())),
            ..Default::default()
        }),
    };
    let datagrams = vec![datagram("127.0.0.1:9", "sesame")];
    match dice.below(10) {
        0..4 => ask!(
            sockets.create_socket,
            "CreateSocket",
            pb::CreateSocketRequest { session_id, socket_id, kind: Some(kind), ..Default::default() }
        ),
        4 => ask!(
            sockets.close_socket,
            "CloseSocket",
            pb::CloseSocketRequest { session_id, socket_id, ..Default::default() }
        ),
        5 => ask!(
            sockets.abort_socket,
            "AbortSocket",
            pb::AbortSocketRequest { session_id, socket_id, ..Default::default() }
        ),
        6 => ask!(
            sockets.send_datagrams,
            "SendDatagrams",
            pb::SendDatagramsRequest { session_id, socket_id, datagrams, ..Default::default() }
        ),
        7 => ask!(
            sockets.bind_socket,
            "BindSocket",
            pb::BindSocketRequest { session_id, socket_id, local: "127.0.0.1:0".into(), ..Default::default() }
        ),
        8 => ask!(sessions.reset_session, "ResetSession", pb::ResetSessionRequest { session_id, ..Default::default() }),
        _ => ask!(
            sessions.delete_session,
            "DeleteSession",
            pb::DeleteSessionRequest { session_id: "nil".into(), ..Default::default() }
        ),
    }
}

/// Records stand beside what was answered, one pair for each, in order; and there is no event of anybody's doing without one.
#[tokio::test]
async fn records_reconcile_exactly_with_what_was_done() {
    let (agent, path, _folder) = audited(AuditFile::USUAL_BYTES).await;
    let mut told = vec![Told { rpc: "CreateSession", outcome: "done", why: String::new(), events: None }];
    agent.create_session("lab").await.unwrap();
    let mut dice = Dice(0x005e_ed0f_a0d1);
    for _ in 0..300 {
        told.push(step(&agent, &mut dice).await);
    }
    let all = records(&path);
    let (begun, ended) = (of_kind(&all, "begun"), of_kind(&all, "ended"));
    assert_eq!(begun.len() + ended.len() + 1, all.len(), "and one that says whose they are");
    assert_eq!(begun.keys().copied().collect::<Vec<_>>(), (1..=told.len() as u64).collect::<Vec<_>>());
    for (number, told) in (1..).zip(&told) {
        let (rpc, outcome, why, events) = Told::read(&begun[&number], &ended[&number]);
        assert_eq!(
            (rpc.as_str(), outcome.as_str(), &why, events),
            (told.rpc, told.outcome, &told.why, told.events),
            "{number}"
        );
        assert_eq!(begun[&number]["principal"], "owner");
    }
    let kinds: BTreeSet<&str> = told.iter().map(|told| told.outcome).collect();
    assert!(kinds.len() == 3, "some are done, some fail, some are refused: {kinds:?}");

    // Every event that an operation has caused lies within the events of a record with its name.
    for (session, name) in [("", "owner/default"), ("lab", "owner/lab")] {
        let ranges: Vec<(String, u64, u64)> = ended
            .iter()
            .filter(|(number, _)| begun[number]["session"] == name)
            .filter_map(|(_, ended)| {
                let request = ended["request_id"].as_str()?.to_owned();
                Some((request, ended["first_event_seq"].as_u64()?, ended["last_event_seq"].as_u64()?))
            })
            .collect();
        let events = agent.all_events(session).await;
        let caused = events.iter().filter(|event| !event.request_id.is_empty());
        let mut count = 0;
        for event in caused {
            let within = |(request, first, last): &&(String, u64, u64)| {
                *request == event.request_id && (*first..=*last).contains(&event.event_seq)
            };
            assert!(ranges.iter().any(|range| within(&range)), "{event:?} was done by nobody");
            count += 1;
        }
        assert!(count > 20, "{count}");
    }
    agent.stop().await;
}

/// What nobody waits for has its end in the file all the same, and so has what is no operation.
#[tokio::test]
async fn ends_are_written_down_whether_or_not_somebody_waits() {
    let (agent, path, _folder) = audited(AuditFile::USUAL_BYTES).await;
    agent.create_session("lab").await.unwrap();
    agent.listen("door", "127.0.0.1:0").await;
    // One is answered at once and goes on; one is given up by whoever has asked.
    let receive =
        |call| pb::ReceiveSocketRequest { socket_id: "door.1".into(), call: Some(call), ..Default::default() };
    agent.sockets().receive_socket(receive(detached("later"))).await.unwrap();
    let mut sockets = agent.sockets();
    let given_up = tokio::spawn(async move { sockets.receive_socket(receive(named("given-up"))).await.map(drop) });
    ended_or_begun(&path, "given-up").await;
    given_up.abort();
    assert_eq!(of_kind(&records(&path), "ended").len(), 2);
    for request_id in ["later", "given-up"] {
        agent.cancel_call(request_id).await.unwrap();
    }
    agent.sessions().renew_session(pb::RenewSessionRequest { session_id: "lab".into() }).await.unwrap();
    let hold = pb::WatchEventsRequest { session_id: "lab".into(), watcher_id: "w".into(), ..Default::default() };
    let mut watcher = agent.watch(hold).await.unwrap();
    watcher.opened().await;
    let acknowledge = pb::AckEventsRequest { session_id: "lab".into(), watcher_id: "w".into(), ..Default::default() };
    agent.events().ack_events(acknowledge).await.unwrap();
    ended(&path, 9).await;
    let all = records(&path);
    let (begun, ended) = (of_kind(&all, "begun"), of_kind(&all, "ended"));
    let rpcs: Vec<&str> = begun.values().map(|record| record["rpc"].as_str().unwrap()).collect();
    let expected = [
        "CreateSession",
        "CreateSocket",
        "ReceiveSocket",
        "ReceiveSocket",
        "CancelCall",
        "CancelCall",
        "RenewSession",
        "WatchEvents",
        "AckEvents",
    ];
    assert_eq!(rpcs, expected);
    for number in [3, 4] {
        assert_eq!((&ended[&number]["outcome"], &ended[&number]["error"]), (&"failed".into(), &"ECANCELED".into()));
    }
    // What is only read is not written down.
    agent.socket("door").await;
    agent.all_events("").await;
    assert_eq!(records(&path).len(), all.len());
    agent.stop().await;
}

/// Waits until a request is in the file.
async fn ended_or_begun(path: &Path, request_id: &str) {
    crate::harness::frames::becomes(request_id, || async {
        records(path).iter().any(|record| record["request_id"] == request_id)
    })
    .await;
}

/// What cannot be written down is not done; reading goes on; and it all works again when there is room. Here the oldest
/// file cannot make room.
#[tokio::test]
async fn without_a_record_nothing_is_done() {
    let (agent, path, folder) = audited(1024).await;
    let in_the_way = folder.path().join("audit.jsonl.8");
    fs::write(folder.path().join("audit.jsonl.7"), "").unwrap();
    fs::create_dir_all(in_the_way.join("not empty")).unwrap();
    let mut made = 0;
    let refused = loop {
        match agent.create_udp(&format!("s{made}"), pb::UdpSocketSpec::default()).await {
            Ok(_) => made += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!((refused.code, refused.reason.as_str()), (Code::ResourceExhausted, "AUDIT_UNAVAILABLE"));
    assert!(refused.message.contains("writes each change down"), "{}", refused.message);
    // Nothing of it was done, and what can be read can still be read.
    assert_eq!(agent.open_sockets().await, made);
    let close = pb::CloseSocketRequest { socket_id: "s0".into(), ..Default::default() };
    assert!(agent.sockets().close_socket(close).await.is_err());
    assert_eq!(agent.open_sockets().await, made);
    fs::remove_dir_all(&in_the_way).unwrap();
    agent.close("s0").await;
    assert_eq!(agent.open_sockets().await, made - 1);
    let all = records(&path);
    assert_eq!(of_kind(&all, "begun").len(), of_kind(&all, "ended").len());
    assert_eq!(of_kind(&all, "begun").len(), made + 1, "what was refused for want of a record has none");
    agent.stop().await;
}

/// Who did it, and in whose session; and that somebody has tried what none of his roles allows.
#[tokio::test]
async fn a_record_says_who_did_it_and_whose_it_was() {
    let (lab, folder) = (Certificates::new(), TempDir::new().unwrap());
    let (policy, path) = (folder.path().join("policy.yaml"), folder.path().join("audit.jsonl"));
    let principals = "principals: { alice: student, ina: instructor, vera: viewer }";
    fs::write(&policy, format!("policy: Course\n{principals}\nrules: [{{ allow: any, addresses: loopback }}]\n"))
        .unwrap();
    let config = AgentConfig {
        policy_file: Some(policy),
        audit: Some(AuditFile::at(path.clone())),
        ..lab.config("127.0.0.1:0")
    };
    let agent = Agent::start_with(config).await;
    let address = agent.tcp().to_string();
    let client = |name: &str| Agent::at(tls_channel(&address, &lab.controller(name)));
    let (alice, ina, vera) = (client("alice"), client("ina"), client("vera"));
    alice.create_session("lab").await.unwrap();
    alice.udp_in("lab", "door").await;
    let close = |session: &str| pb::CloseSocketRequest {
        session_id: session.into(),
        socket_id: "door".into(),
        ..Default::default()
    };
    assert!(vera.sockets().close_socket(close("alice/lab")).await.is_err());
    ina.sockets().close_socket(close("alice/lab")).await.unwrap();
    // A rule of the policy refuses it: that has a beginning and an end.
    let refused = alice.create_udp("out", pb::UdpSocketSpec { bind: "10.99.0.1:0".into(), ..Default::default() }).await;
    assert_eq!(refused.unwrap_err().reason, "POLICY_DENIED");
    let all = records(&path);
    let shown: Vec<String> = all[1..]
        .iter()
        .map(|record| {
            let word = |key: &str| record[key].as_str().unwrap_or("-").to_owned();
            format!("{} {} {} {} {}", word("record"), word("principal"), word("rpc"), word("outcome"), word("reason"))
        })
        .collect();
    assert_eq!(
        shown,
        [
            "begun alice CreateSession - -",
            "ended alice CreateSession done -",
            "begun alice CreateSocket - -",
            "ended alice CreateSocket done -",
            "denied vera CloseSocket - -",
            "begun ina CloseSocket - -",
            "ended ina CloseSocket done -",
            "begun alice CreateSocket - -",
            "ended alice CreateSocket refused POLICY_DENIED",
        ]
    );
    assert_eq!(all[6]["session"], "alice/lab");
    assert_eq!(all[5]["right"], "use");
    agent.stop().await;
}

/// `farsock agent --policy` writes to a file of its own without being asked to, and says where.
#[tokio::test]
async fn where_a_policy_is_in_force_changes_are_written_down() {
    let folder = TempDir::new().unwrap();
    let policy = folder.path().join("policy.yaml");
    fs::write(
        &policy,
        "policy: Own\nprincipals: { owner: admin }\nrules: [{ allow: any, addresses: [any, loopback] }]\n",
    )
    .unwrap();
    let spawn = |runtime: &Path, words: &[&str]| {
        let mut command = farsock(runtime);
        command.env("XDG_STATE_HOME", folder.path().join("state"));
        command.args(["agent", "--listen", "127.0.0.1:0", "--policy"]).arg(&policy);
        command.arg("--listen").arg(format!("unix:{}", runtime.join("agent.sock").display())).args(words);
        command
    };
    let runtime = TempDir::new().unwrap();
    let agent = AgentProcess::spawn(spawn(runtime.path(), &[]), runtime).await;
    let line =
        agent.said.iter().find(|line| line.contains("written down")).unwrap_or_else(|| panic!("{:?}", agent.said));
    let path = PathBuf::from(line.rsplit(' ').next().unwrap());
    assert!(path.starts_with(folder.path().join("state/farsock")), "{line}");
    agent.agent().create_session("lab").await.unwrap();
    agent.agent().udp_in("lab", "s").await;
    assert_eq!(of_kind(&records(&path), "ended").len(), 2);
    // Another agent does not write into it.
    let other = TempDir::new().unwrap();
    let ran = run(spawn(other.path(), &["--audit", path.to_str().unwrap()])).await;
    assert_eq!(ran.code, Some(3));
    assert!(ran.err.contains("another agent writes its records there"), "{}", ran.err);
    agent.stop().await;
}
