//! What was done is written down: before, after, all of it, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use farsock::agent::{AgentConfig, AuditFile};
use farsock::model::limits::Defaults;
use farsock::model::policy::{Right, Rpc};
use farsock::wire::pb;
use farsock::wire::pb::transfer_socket_request::Frame as Asked;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tonic::Code;

use crate::harness::frames::becomes;
use crate::harness::transfer::{create, open};
use crate::harness::{
    Agent, AgentProcess, Certificates, LOOPBACKS, Refused, TcpPeer, changes, datagram, detached, error_name, farsock,
    farsock_under, named, run, tls_channel,
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
    becomes("the records of their ends", || async { of_kind(&records(path), "ended").len() >= count }).await;
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

/// Compares the records of somebody with what he was told, in that order; answers how many changes there are of his.
fn reconciled(all: &[Value], who: &str, told: &[Told]) -> usize {
    let (mut begun, ended) = (of_kind(all, "begun"), of_kind(all, "ended"));
    assert!(begun.keys().copied().eq(1..=begun.len() as u64) && begun.keys().eq(ended.keys()), "one pair for each");
    begun.retain(|_, record| record["principal"] == who);
    assert_eq!(begun.len(), told.len(), "{who}");
    for ((number, begun), told) in begun.iter().zip(told) {
        let (rpc, outcome, why, events) = Told::read(begun, &ended[number]);
        let read = (rpc.as_str(), outcome.as_str(), &why, events);
        assert_eq!(read, (told.rpc, told.outcome, &told.why, told.events), "{number}");
    }
    begun.len()
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
    let ended = of_kind(&all, "ended");
    assert_eq!(reconciled(&all, "owner", &told) * 2 + 1, all.len(), "and one that says whose they are");
    let begun = of_kind(&all, "begun");
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

/// The same of several who do it at a time, and may not do all of it.
#[tokio::test]
async fn records_reconcile_with_what_several_do_at_a_time_under_a_policy() {
    let (lab, folder) = (Certificates::new(), TempDir::new().unwrap());
    let (policy, path) = (folder.path().join("policy.yaml"), folder.path().join("audit.jsonl"));
    let names = ["alice", "bob", "carol", "ina"];
    let rules = "[{ allow: [bind, listen, send], addresses: [loopback, wildcard], ports: 0-65535 }]";
    fs::write(&policy, format!("policy: Course\nprincipals: {{ '*': student }}\nrules: {rules}\n")).unwrap();
    let audit = Some(AuditFile::at(path.clone()));
    let agent = Agent::start_with(AgentConfig { policy_file: Some(policy), audit, ..lab.config("127.0.0.1:0") }).await;
    let address = agent.tcp().to_string();
    let mut all_do = JoinSet::new();
    for (seed, name) in (1..).zip(names) {
        let client = Agent::at(tls_channel(&address, &lab.controller(name)));
        all_do.spawn(async move {
            let (mut told, mut dice) = (Vec::new(), Dice(seed * 0x9e37_79b9));
            for _ in 0..150 {
                told.push(step(&client, &mut dice).await);
            }
            (name, told)
        });
    }
    let told = all_do.join_all().await;
    let all = records(&path);
    let reconciled: usize = told.iter().map(|(name, told)| reconciled(&all, name, told)).sum();
    assert_eq!((reconciled, all.len()), (600, 1201));
    for (name, told) in &told {
        assert!(told.iter().any(|told| told.why == "POLICY_DENIED"), "{name}");
        assert!(told.iter().any(|told| told.outcome == "done"), "{name}");
    }
    agent.stop().await;
}

/// Which RPCs change something is said by the right that they need. CheckPort alone needs it and is not written down: it leaves everything as
/// it was.
#[tokio::test]
async fn each_rpc_that_changes_something_is_written_down_before_and_after() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("audit.jsonl");
    let defaults = Defaults { wait_timeout: Duration::from_millis(50), ..Defaults::default() };
    let audit = Some(AuditFile::at(path.clone()));
    let agent = Agent::start_with(AgentConfig { audit, defaults, ..AgentConfig::default() }).await;
    let lossless = pb::CreateSessionRequest {
        session_id: "lab".into(),
        retention: pb::Retention::Lossless.into(),
        ..Default::default()
    };
    agent.sessions().create_session(lossless).await.unwrap();
    agent.udp_in("lab", "u").await;
    let hold = pb::WatchEventsRequest { session_id: "lab".into(), watcher_id: "w".into(), ..Default::default() };
    agent.watch(hold).await.unwrap().opened().await;
    let acknowledge = pb::AckEventsRequest { session_id: "lab".into(), watcher_id: "w".into(), ..Default::default() };
    agent.events().ack_events(acknowledge).await.unwrap();
    agent.transfer(open("nobody")).await.refused().await;
    for request in changes("lab", "u") {
        // Some are refused: that is written down as well.
        let _ = request.send(&agent).await;
    }
    let check = pb::CheckPortRequest {
        local: "127.0.0.1:9".into(),
        transport: pb::Transport::Udp.into(),
        ..Default::default()
    };
    agent.agent().check_port(check).await.unwrap();
    agent.delete("lab", false).await.unwrap();
    let changing = Rpc::ALL.iter().filter(|rpc| rpc.right() == Right::Use).map(|rpc| rpc.name());
    let mut expected: BTreeSet<&str> = changing.filter(|name| *name != "CheckPort").collect();
    expected.insert("WatchEvents");
    ended(&path, expected.len()).await;
    let all = records(&path);
    for kind in ["begun", "ended"] {
        let records = of_kind(&all, kind);
        let written: BTreeSet<&str> = records.values().map(|record| record["rpc"].as_str().unwrap()).collect();
        assert_eq!(written, expected, "{kind}");
    }
    assert_eq!(of_kind(&all, "begun").len(), of_kind(&all, "ended").len());
    agent.stop().await;
}

/// A stream has ended when its last byte has gone one way or the other, and not when it began.
#[tokio::test]
async fn what_went_through_a_stream_is_written_down_at_its_end() {
    let (agent, path, _folder) = audited(AuditFile::USUAL_BYTES).await;
    let (listener, address) = TcpPeer::listen(LOOPBACKS[0]).await;
    let connected = async |id: &str| {
        agent.connect(id, &address.to_string()).await;
        TcpPeer::accept(&listener).await
    };
    // The `so manieth` stream has ended like this.
    let told = async |count: usize| {
        let streams = |kind: &str| {
            of_kind(&records(&path), kind)
                .into_values()
                .filter(|record| record["rpc"] == "TransferSocket")
                .collect::<Vec<_>>()
        };
        becomes("the record of its end", || async { streams("ended").len() == count }).await;
        let record = streams("ended").pop().unwrap();
        let word = |key: &str| record[key].as_str().unwrap_or("-").to_owned();
        let [to, from] = ["to_client", "from_client"].map(|key| record[key].as_u64().unwrap());
        format!("{} {} {} {to} {from}", word("outcome"), word("error"), word("closed"))
    };

    // One that is made for the stream, and closed by it.
    let mut stream = agent.transfer(Asked::Create(create("made", &address.to_string()))).await;
    stream.opened().await;
    stream.window(100).await;
    let mut peer = TcpPeer::accept(&listener).await;
    stream.data("sesame").await;
    assert_eq!(peer.read(6).await, b"sesame");
    peer.write(b"open").await;
    assert_eq!(stream.read(4).await, b"open");
    let begun = of_kind(&records(&path), "begun").into_values().next_back().unwrap();
    assert_eq!((&begun["rpc"], of_kind(&records(&path), "ended").len()), (&"TransferSocket".into(), 0), "it goes on");
    stream.close(Duration::from_secs(20)).await;
    stream.closed().await;
    assert_eq!(told(1).await, "done - closed 4 6");

    // Its peer resets it.
    let peer = connected("reset").await;
    let mut stream = agent.own("reset").await;
    peer.abort();
    while stream.next().await.unwrap().is_some() {}
    assert_eq!(told(2).await, "failed ECONNRESET peer_reset 0 0");

    // The client goes, and the connection stays.
    let mut peer = connected("left").await;
    let (mut stream, _) = agent.take_over("left").await;
    stream.data("hola").await;
    assert_eq!(peer.read(4).await, b"hola");
    drop(stream);
    assert_eq!(told(3).await, "failed ECANCELED - 0 4");

    // There is none.
    agent.transfer(open("nobody")).await.refused().await;
    assert_eq!(told(4).await, "refused - - 0 0");
    agent.stop().await;
}

/// A file that may not grow any more takes a part of a line: that is taken back, nothing is begun, and what had begun has its end in the file
/// when there is room again.
#[tokio::test]
async fn a_line_that_does_not_fit_leaves_no_half_of_it() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("audit.jsonl");
    // No room is left for what it says on standard error, either, and nobody is to suffer from that.
    let log = folder.path().join("log");
    fs::File::create(&log).unwrap().set_len(1 << 20).unwrap();
    // Otherwise the signal would end it. setrlimit(2): RLIMIT_FSIZE.
    let mut command = farsock_under(&format!("trap '' XFSZ; exec 2>>'{}'", log.display()), folder.path());
    let socket = format!("unix:{}", folder.path().join("agent.sock").display());
    command.args(["agent", "--listen", &socket, "--audit", path.to_str().unwrap()]);
    let process = AgentProcess::spawn(command, TempDir::new().unwrap()).await;
    let agent = process.agent();
    let udp = || pb::UdpSocketSpec { bind: "127.0.0.1:0".into(), ..Default::default() };
    let size = || fs::metadata(&path).unwrap().len();
    let may_grow_to = |current: Option<u64>| {
        let pid = Pid::from_raw(process.pid().try_into().unwrap());
        prlimit(pid, Resource::Fsize, Rlimit { current, maximum: None }).unwrap();
    };
    agent.create_udp("s0", udp()).await.unwrap();
    let begun = fs::read_to_string(&path).unwrap().lines().nth(1).unwrap().len() as u64 + 1;
    let before = size();
    for more in [0, 1, begun / 2, begun - 1] {
        may_grow_to(Some(before + more));
        let refused = agent.create_udp("s1", udp()).await.unwrap_err();
        assert_eq!(refused.reason, "AUDIT_UNAVAILABLE");
        assert_eq!((size(), agent.open_sockets().await), (before, 1), "{more}");
    }
    // Its beginning fits, and its end does not.
    may_grow_to(Some(before + begun + 10));
    agent.create_udp("s1", udp()).await.unwrap();
    assert_eq!(of_kind(&records(&path), "begun").len(), 2);
    assert_eq!((size(), of_kind(&records(&path), "ended").len()), (before + begun, 1));
    assert_eq!(agent.create_udp("s2", udp()).await.unwrap_err().reason, "AUDIT_UNAVAILABLE");
    may_grow_to(None);
    agent.close("s1").await;
    let kinds: Vec<String> = records(&path)
        .iter()
        .map(|record| format!("{} {}", record["record"].as_str().unwrap(), record["number"]))
        .collect();
    assert_eq!(kinds, ["opened null", "begun 1", "ended 1", "begun 2", "ended 2", "begun 3", "ended 3"]);
    process.stop().await;
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
    becomes(request_id, || async { records(path).iter().any(|record| record["request_id"] == request_id) }).await;
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
    // Looking at what is not for him is no change, and is written down all the same, also where he is told that it is not there.
    let look = pb::GetSessionRequest { session_id: "alice/lab".into() };
    assert!(vera.sessions().get_session(look).await.is_err());
    let list = pb::ListSessionsRequest { owner: "*".into(), ..Default::default() };
    assert!(vera.sessions().list_sessions(list).await.is_err());
    assert!(vera.agent().resolve(pb::ResolveRequest::default()).await.is_err());
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
            "denied vera GetSession - -",
            "denied vera ListSessions - -",
            "denied vera Resolve - -",
            "begun ina CloseSocket - -",
            "ended ina CloseSocket done -",
            "begun alice CreateSocket - -",
            "ended alice CreateSocket refused POLICY_DENIED",
        ]
    );
    assert_eq!(all[9]["session"], "alice/lab");
    let rights: Vec<&str> = all[5..9].iter().map(|record| record["right"].as_str().unwrap()).collect();
    assert_eq!(rights, ["use", "see-others", "see-others", "resolve"]);
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
