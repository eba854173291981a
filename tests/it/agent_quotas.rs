//! Quotas: each has a name, a default, a reading of how much is in use, and a refusal that names it.

use std::collections::BTreeSet;

use farsock::model::limits::{Limits, QUOTAS};
use farsock::wire::pb;
use pb::create_socket_request::Kind;
use pb::transfer_socket_request::Frame;
use rustix::process::Resource::Nofile;
use tempfile::TempDir;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::harness::tcp::{any_port, connecting_to, listening_on, pattern, unread_by_the_test};
use crate::harness::transfer;
use crate::harness::{
    Agent, AgentProcess, LOOPBACKS, QUESTION, TcpPeer, detached, farsock_with_descriptors, filter, millis, run_farsock,
    text,
};

/// An agent with few descriptors, and these limits.
async fn agent_with(limits: &[(&str, u32)]) -> AgentProcess {
    let folder = TempDir::new().unwrap();
    let mut command = farsock_with_descriptors(folder.path(), 256);
    let socket = format!("unix:{}", folder.path().join("agent.sock").display());
    command.args(["agent", "--listen", "127.0.0.1:0", "--listen", &socket]);
    for (name, value) in limits {
        command.args(["--limit", &format!("{name}={value}")]);
    }
    AgentProcess::spawn(command, folder).await
}

async fn told(agent: &Agent) -> pb::Agent {
    agent.agent().get_agent(QUESTION).await.unwrap().into_inner().agent.unwrap()
}

/// What the agent says of a quota: how much there may be, how much is in use, and how often it has refused something.
async fn usage(agent: &Agent, name: &str) -> (u64, u64, u64) {
    let usage = told(agent).await.usage.into_iter().find(|usage| usage.name == name).expect(name);
    (usage.limit, usage.used, usage.refused)
}

async fn create(agent: &Agent, session: &str, kind: Kind) -> Result<(), Status> {
    let request = pb::CreateSocketRequest { session_id: session.into(), kind: Some(kind), ..Default::default() };
    agent.sockets().create_socket(request).await.map(|_| ())
}

async fn udp(agent: &Agent) -> Result<(), Status> {
    create(agent, "", Kind::Udp(pb::UdpSocketSpec::default())).await
}

async fn session(agent: &Agent, id: &str) -> Result<(), Status> {
    let request = pb::CreateSessionRequest { session_id: id.into(), ..Default::default() };
    agent.sessions().create_session(request).await.map(|_| ())
}

/// Ten thousand bytes that are to be sent in a minute.
async fn later(agent: &Agent, name: &str) -> Result<(), Status> {
    let start = Some(pb::call::Start::StartDelay(millis(60_000).unwrap()));
    let datagram = pb::Datagram { payload: pattern(10_000, 1), ..Default::default() };
    let request = pb::SendDatagramsRequest {
        socket_id: "quiet".into(),
        datagrams: vec![datagram],
        call: Some(pb::Call { start, ..detached(name) }),
        ..Default::default()
    };
    agent.sockets().send_datagrams(request).await.map(|_| ())
}

/// Uses a quota of two up and asks for one more. Answers the refusal.
async fn exceed(agent: &Agent, quota: &str) -> Status {
    let [ip, _] = LOOPBACKS;
    let (mut watches, mut peers) = (Vec::new(), Vec::new());
    for round in 0..=256 {
        let done = match quota {
            "sockets" | "reserved_descriptors" => udp(agent).await,
            "listeners" => create(agent, "", Kind::Tcp(listening_on(&any_port(ip)))).await,
            "sessions" | "log_bytes_total" => session(agent, &format!("lab-{round}")).await,
            "calls" => {
                let request = pb::WaitEventRequest { timeout: millis(1), ..Default::default() };
                agent.events().wait_event(request).await.unwrap();
                let name = format!("quiet-{round}");
                let call = Some(pb::Call { timeout: millis(60_000), ..detached(&name) });
                // What was made before the quota was used up.
                let request = pb::ReceiveSocketRequest { socket_id: "quiet".into(), call, ..Default::default() };
                agent.sockets().receive_socket(request).await.map(|_| ())
            }
            "watchers" | "watchers_total" => match agent.events().watch_events(pb::WatchEventsRequest::default()).await
            {
                Ok(watch) => {
                    watches.push(watch);
                    Ok(())
                }
                Err(status) => Err(status),
            },
            "pending_write_bytes_total" => later(agent, &format!("later-{round}")).await,
            "groups" => {
                let (socket_id, group) = ("quiet".into(), format!("239.1.2.{round}"));
                let request = pb::JoinGroupRequest { socket_id, group, interface: "lo".into(), ..Default::default() };
                agent.sockets().join_group(request).await.map(|_| ())
            }
            "log_events" => {
                if round == 0 {
                    watches.push(hold_everything(agent, "lab").await);
                }
                create(agent, "lab", Kind::Udp(pb::UdpSocketSpec::default())).await
            }
            "pending_write_bytes" => {
                let write = |size, call| {
                    let (socket_id, payload) = ("line".into(), pattern(size, 1));
                    pb::WriteSocketRequest { socket_id, payload, call: Some(call), ..Default::default() }
                };
                if round == 0 {
                    let (peer, size) = unread_by_the_test(agent, ip, "line").await;
                    peers.push(peer);
                    let patient = pb::Call { timeout: millis(60_000), ..detached("first") };
                    agent.sockets().write_socket(write(size, patient)).await.unwrap();
                }
                agent.sockets().write_socket(write(200_000, pb::Call::default())).await.map(|_| ())
            }
            "message_bytes" => {
                let (socket_id, payload) = ("quiet".into(), text(&"x".repeat(4096)));
                let request = pb::WriteSocketRequest { socket_id, payload, ..Default::default() };
                agent.sockets().write_socket(request).await.map(|_| ())
            }
            other => panic!("how is `{other}` used up? Each quota needs a line here"),
        };
        if let Err(status) = done {
            let (limit, used, refused) = usage(agent, quota).await;
            // Logs are refused for what they might hold, and a message is refused for itself.
            let unused = ["log_bytes_total", "message_bytes"].contains(&quota);
            assert!((used > 0) != unused, "{quota}: {used} of {limit}");
            assert!(refused == 1 && used <= limit, "{quota}: {used} of {limit}, {refused} refused");
            return status;
        }
    }
    panic!("nothing refuses `{quota}`");
}

/// A session whose log holds everything that happens, for a watcher that takes nothing.
async fn hold_everything(agent: &Agent, id: &str) -> tonic::Response<tonic::Streaming<pb::WatchEventsResponse>> {
    let retention = pb::Retention::Lossless.into();
    let request = pb::CreateSessionRequest { session_id: id.into(), retention, ..Default::default() };
    agent.sessions().create_session(request).await.unwrap();
    let request = pb::WatchEventsRequest { session_id: id.into(), watcher_id: "desk".into(), ..Default::default() };
    agent.events().watch_events(request).await.unwrap()
}

/// The quotas that refuse no request of a session's: what is brought waits, the oldest goes, or a connection is not let in. Each has a test of
/// its own.
const WITHOUT_A_REFUSAL: [&str; 7] = [
    "log_bytes",
    "marks",
    "connections",
    "reserved_connections",
    "connections_per_principal",
    "logins",
    "logins_per_source",
];

/// The list of quotas is walked: one that lacks its name, default, reading or refusal fails here.
#[tokio::test]
async fn every_quota_has_a_name_a_default_a_reading_and_a_refusal() {
    let plain = AgentProcess::start().await;
    let names: BTreeSet<String> = told(&plain.agent()).await.usage.into_iter().map(|usage| usage.name).collect();
    assert_eq!(names, QUOTAS.map(str::to_owned).into());
    plain.stop().await;
    for quota in QUOTAS {
        assert!(Limits::NAMES.contains(&quota) && Limits::default().get(quota).unwrap() > 0, "{quota}");
        if WITHOUT_A_REFUSAL.contains(&quota) {
            continue;
        }
        let small = match quota {
            "reserved_descriptors" => 200,
            "log_bytes_total" => 8 << 20,
            "pending_write_bytes" => 400_000,
            "pending_write_bytes_total" => 100_000,
            "message_bytes" => 4096,
            _ => 2,
        };
        let process = agent_with(&[(quota, small)]).await;
        let agent = process.agent();
        agent.create_udp("quiet", pb::UdpSocketSpec::default()).await.unwrap();
        agent.close("quiet").await;
        agent.create_udp("quiet", pb::UdpSocketSpec::default()).await.unwrap();
        let status = exceed(&agent, quota).await;
        assert_eq!(status.code(), Code::ResourceExhausted, "{quota}: {status:?}");
        let reason = if quota == "log_events" { "LOG_FULL" } else { "QUOTA_EXCEEDED" };
        assert_eq!(status.get_details_error_info().unwrap().reason, reason);
        let failure = status.get_details_quota_failure().expect("a QuotaFailure");
        assert_eq!(failure.violations[0].subject, format!("limits.{quota}"));
        assert!(status.message().contains(&format!("limits.{quota}")), "{status:?}");
        process.stop().await;
    }
}

/// A stream is answered before anything is refused, and what it is refused counts all the same.
#[tokio::test]
async fn what_a_stream_is_refused_counts_too() {
    let process = agent_with(&[("sockets", 1)]).await;
    let agent = process.agent();
    udp(&agent).await.unwrap();
    let (_listener, address) = TcpPeer::listen(LOOPBACKS[0]).await;
    let mut stream = agent.transfer(Frame::Create(transfer::create("line", &address.to_string()))).await;
    let refused = stream.refused().await;
    assert_eq!((refused.code, refused.reason.as_str()), (Code::ResourceExhausted, "QUOTA_EXCEEDED"), "{refused:?}");
    assert!(refused.message.starts_with("limits.sockets of this agent is 1"), "{refused:?}");
    assert_eq!(usage(&agent, "sockets").await, (1, 1, 1));
    process.stop().await;
}

/// Receives so many bytes into a session that nobody reads, or until it reads no more.
async fn fill(agent: &Agent, session: &str, size: usize) -> TcpPeer {
    let [ip, _] = LOOPBACKS;
    let (listener, address) = TcpPeer::listen(ip).await;
    create(agent, session, Kind::Tcp(connecting_to(&address.to_string()))).await.unwrap();
    let mut peer = TcpPeer::accept(&listener).await;
    peer.write(&vec![7; size]).await;
    peer
}

async fn paused(agent: &Agent, session: &str) {
    let request = pb::WaitEventRequest {
        session_id: session.into(),
        filter: filter(&[], &["read_paused"]),
        timeout: millis(30_000),
        ..Default::default()
    };
    assert!(agent.wait(request).await.unwrap().event.is_some(), "it goes on reading");
}

/// The bytes of a log refuse nobody: reading pauses, and says so.
#[tokio::test]
async fn a_log_that_is_full_of_bytes_is_read_no_further() {
    let process = agent_with(&[("log_bytes", 256 << 10)]).await;
    let agent = process.agent();
    session(&agent, "lab").await.unwrap();
    let peer = fill(&agent, "lab", 512 << 10).await;
    paused(&agent, "lab").await;
    let (limit, used, refused) = usage(&agent, "log_bytes").await;
    assert!(limit == 256 << 10 && used > limit / 2 && used <= limit && refused == 0, "{used} of {limit}");
    assert_eq!(usage(&agent, "log_bytes_total").await.1, used);
    drop(peer);
    process.stop().await;
}

/// Marks refuse nobody: the oldest one goes.
#[tokio::test]
async fn one_mark_too_many_pushes_the_oldest_out() {
    let process = agent_with(&[("marks", 2)]).await;
    let agent = process.agent();
    let read = async |mark: &str, since: &str| {
        let request = pb::GetKernelCountersRequest { mark: mark.into(), since: since.into(), ..Default::default() };
        agent.agent().get_kernel_counters(request).await
    };
    for (mark, used) in [("a", 1), ("b", 2), ("c", 2)] {
        read(mark, "").await.unwrap();
        assert_eq!(usage(&agent, "marks").await, (2, used, 0));
    }
    assert_eq!(read("", "a").await.unwrap_err().code(), Code::NotFound);
    read("", "b").await.unwrap();
    process.stop().await;
}

/// However many sessions somebody has: all their watchers together stay within a total, and leave others as much as they have.
#[tokio::test]
async fn watchers_leave_room_for_those_of_other_sessions() {
    let process = agent_with(&[("watchers_total", 8)]).await;
    let agent = process.agent();
    let watch = async |session: &str| {
        let request = pb::WatchEventsRequest { session_id: session.into(), ..Default::default() };
        agent.events().watch_events(request).await
    };
    let mut watches = Vec::new();
    for (id, most) in [("", 4), ("a", 2), ("b", 1)] {
        if !id.is_empty() {
            session(&agent, id).await.unwrap();
        }
        for _ in 0..most {
            watches.push(watch(id).await.unwrap());
        }
        let refused = watch(id).await.unwrap_err();
        assert_eq!(refused.get_details_quota_failure().unwrap().violations[0].subject, "limits.watchers_total");
        let said =
            format!("{} watchers read events of this agent, and limits.watchers_total, 8, leaves", watches.len());
        assert!(refused.message().starts_with(&said), "{refused:?}");
        let waited = agent.wait(pb::WaitEventRequest { session_id: id.into(), ..Default::default() }).await;
        assert_eq!(waited.unwrap_err().code, Code::ResourceExhausted, "whoever waits is one, too");
    }
    assert_eq!(usage(&agent, "watchers_total").await, (8, 7, 6));
    assert_eq!(usage(&agent, "watchers").await.1, 4);
    // Who goes makes room for whoever has less than that.
    session(&agent, "c").await.unwrap();
    assert!(watch("c").await.is_err() && watch("").await.is_err());
    drop(watches.remove(0));
    crate::harness::frames::becomes("one watcher less", async || usage(&agent, "watchers_total").await.1 == 6).await;
    watches.push(watch("c").await.unwrap_or_else(|refused| panic!("{refused:?}")));
    process.stop().await;
}

/// All logs together stay within their total: many share it, and where somebody holds more than a share nobody new comes in.
#[tokio::test]
async fn logs_share_what_there_is_for_all_of_them() {
    let process = agent_with(&[("log_bytes", 8 << 20), ("log_bytes_total", 16 << 20)]).await;
    let agent = process.agent();
    let share = async || usage(&agent, "log_bytes").await.0;
    udp(&agent).await.unwrap();
    assert_eq!(share().await, 8 << 20);
    session(&agent, "a").await.unwrap();
    assert_eq!(share().await, 8 << 20);
    session(&agent, "b").await.unwrap();
    assert_eq!(share().await, (16 << 20) / 3);
    session(&agent, "c").await.unwrap();
    assert_eq!(share().await, 4 << 20);
    assert_eq!(session(&agent, "d").await.unwrap_err().code(), Code::ResourceExhausted);
    agent.delete("b", false).await.unwrap();
    agent.delete("c", false).await.unwrap();
    assert_eq!(share().await, 8 << 20);

    let peer = fill(&agent, "a", 7 << 20).await;
    crate::harness::frames::becomes("all of it to be held", async || {
        let request = pb::GetSessionRequest { session_id: "a".into() };
        agent.sessions().get_session(request).await.unwrap().into_inner().session.unwrap().held_bytes == 7 << 20
    })
    .await;
    let status = session(&agent, "b").await.unwrap_err();
    assert!(status.message().starts_with("limits.log_bytes_total"), "{status:?}");
    agent.delete("a", false).await.unwrap();
    session(&agent, "b").await.unwrap();
    drop(peer);
    process.stop().await;
}

/// What waits in one session leaves room for what others write, and what has gone leaves room again.
#[tokio::test]
async fn writes_that_wait_leave_room_for_other_sessions() {
    const TOTAL: u32 = 4 << 20;
    let process = agent_with(&[("pending_write_bytes_total", TOTAL)]).await;
    let agent = process.agent();
    let (mut unread, size) = unread_by_the_test(&agent, LOOPBACKS[0], "line").await;
    let write = |session_id: &str, payload, call| pb::WriteSocketRequest {
        session_id: session_id.into(),
        socket_id: "line".into(),
        payload,
        call: Some(call),
        ..Default::default()
    };
    let mut waiting = 0;
    let refused = loop {
        let patient = pb::Call { timeout: millis(60_000), ..detached(&format!("write-{waiting}")) };
        match agent.sockets().write_socket(write("", pattern(size, 1), patient)).await {
            Ok(_) => waiting += 1,
            Err(status) => break status,
        }
    };
    assert_eq!(refused.get_details_quota_failure().unwrap().violations[0].subject, "limits.pending_write_bytes_total");
    let (limit, used, count) = usage(&agent, "pending_write_bytes_total").await;
    assert!(used > limit / 4 && used <= limit / 2 && count == 1, "{used} of {limit}, {count} refused");
    assert_eq!(used % size as u64, 0, "each counts whole until it has ended");

    session(&agent, "lab").await.unwrap();
    let (listener, address) = TcpPeer::listen(LOOPBACKS[0]).await;
    let spec = connecting_to(&address.to_string());
    let request = pb::CreateSocketRequest {
        session_id: "lab".into(),
        socket_id: "line".into(),
        kind: Some(Kind::Tcp(spec)),
        ..Default::default()
    };
    agent.create_socket(request).await.unwrap();
    let mut read = TcpPeer::accept(&listener).await;
    let (written, bytes) = tokio::join!(
        async { agent.sockets().write_socket(write("lab", pattern(512 << 10, 2), pb::Call::default())).await.unwrap() },
        read.read(512 << 10),
    );
    assert_eq!((written.into_inner().bytes_written(), bytes.len()), (512 << 10, 512 << 10));

    assert_eq!(unread.read(waiting * size).await.len(), waiting * size);
    crate::harness::frames::becomes("nothing to wait", async || {
        usage(&agent, "pending_write_bytes_total").await.1 == 0
    })
    .await;
    process.stop().await;
}

/// Each stream has room set aside for what it may have waiting, for as long as it is there, and its connection goes where there is none.
#[tokio::test]
async fn streams_set_aside_room_for_what_their_clients_send() {
    let process = agent_with(&[("pending_write_bytes_total", 2 << 20)]).await;
    let agent = process.agent();
    let (listener, address) = TcpPeer::listen(LOOPBACKS[0]).await;
    let mut peers = Vec::new();
    for id in ["a", "b", "c"] {
        agent.connect(id, &address.to_string()).await;
        peers.push(TcpPeer::accept(&listener).await);
    }
    let (first, _) = agent.take_over("a").await;
    let (_second, _) = agent.take_over("b").await;
    assert_eq!(usage(&agent, "pending_write_bytes_total").await, (2 << 20, 1 << 20, 0));
    for frame in [transfer::open("c"), Frame::Create(transfer::create("d", &address.to_string()))] {
        let refused = agent.transfer(frame).await.refused().await;
        assert_eq!((refused.code, refused.reason.as_str()), (Code::ResourceExhausted, "QUOTA_EXCEEDED"), "{refused:?}");
        assert!(refused.message.starts_with("1048576 bytes wait to be written"), "{refused:?}");
    }
    assert_eq!(usage(&agent, "pending_write_bytes_total").await.2, 2);
    assert_eq!(agent.open_sockets().await, 3, "what was made for a stream that got no room is closed");
    drop(first);
    agent.event("a", "detached").await;
    let (_third, _) = agent.take_over("c").await;
    process.stop().await;
}

/// The sum of the limits is told before anything is used, and changes with them.
#[tokio::test]
async fn the_sum_of_all_limits_is_told() {
    let line = |said: &str| said.lines().find(|line| line.starts_with("  memory: ")).map(str::to_owned);
    let process = agent_with(&[]).await;
    let said = line(&process.said.join("\n")).expect("the start tells it");
    assert!(said.starts_with("  memory: the largest limits add up to "), "{said}");
    assert!(said.contains("payloads in logs 512 MiB") && said.contains("connections of controllers 1.2 GiB"), "{said}");
    assert!(said.contains("writes that wait 1.0 GiB"), "{said}");
    assert!(said.contains("watchers that do not read 768 MiB"), "512 of all sessions, 1.5 MiB each: {said}");
    process.stop().await;
    let checked = run_farsock(&["agent", "--check", "--limit", "log_bytes_total=1048576"]).await;
    let said = line(&checked.out).expect("--check tells it");
    assert!(said.contains("payloads in logs 1 MiB"), "{said}");
    // However many descriptors there are: each stream has 512 KiB set aside, so there are no more than 2048.
    let few =
        said.contains("streams that do not read 2.0 GiB") || rustix::process::getrlimit(Nofile).maximum < Some(4096);
    assert!(few, "{said}");
}
