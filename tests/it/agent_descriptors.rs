//! Descriptors: some are kept back for controllers, and lab sockets that find none are told so.

use std::time::Instant;

use farsock::model::limits::Limits;
use farsock::wire::pb;
use pb::event::Body;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tonic::Code;

use crate::harness::frames::becomes;
use crate::harness::tcp::{listening_on, went};
use crate::harness::{
    Agent, AgentProcess, LOOPBACKS, Refused, TcpPeer, UdpPeer, any_port, farsock_with_descriptors, millis,
};

/// Few descriptors, as an old default of shells has it.
const FEW: u64 = 256;

/// A real agent that may open this many descriptors, and not one more.
async fn agent_with(descriptors: u64) -> AgentProcess {
    let folder = TempDir::new().unwrap();
    let socket = format!("unix:{}", folder.path().join("agent.sock").display());
    let mut command = farsock_with_descriptors(folder.path(), descriptors);
    command.args(["agent", "--listen", "127.0.0.1:0", "--listen", &socket]);
    AgentProcess::spawn(command, folder).await
}

/// Lets a running agent open so many descriptors from now on; answers how many it could before.
fn set_descriptors(agent: &AgentProcess, current: u64) -> u64 {
    let pid = Pid::from_raw(agent.pid().try_into().unwrap());
    let maximum = getrlimit(Resource::Nofile).maximum;
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(current), maximum }).unwrap().current.unwrap()
}

/// Makes sockets until one is refused; answers how many were made, and the refusal.
async fn make_all(agent: &Agent) -> (u64, Refused) {
    let mut made = 0;
    loop {
        match agent.create_udp(&format!("s-{made}"), pb::UdpSocketSpec::default()).await {
            Ok(_) => made += 1,
            Err(refused) => return (made, refused),
        }
    }
}

fn pause_reason(event: &pb::Event) -> pb::AcceptPauseReason {
    match &event.body {
        Some(Body::AcceptPaused(paused)) => paused.reason(),
        other => panic!("{other:?}"),
    }
}

/// All that lab sockets may have is in use: who asks for one more is told so, and everything else goes on.
#[tokio::test]
async fn lab_sockets_leave_descriptors_to_the_agent() {
    let agent = agent_with(FEW).await;
    let client = agent.agent();
    let [ip, _] = LOOPBACKS;
    let door = client.listen("door", &any_port(ip)).await;
    let most = Limits::default().lab_descriptors(FEW);
    assert_eq!(most, 128, "of few descriptors half, the soft limit raised to the hard one");
    let (made, refused) = make_all(&client).await;
    assert_eq!(made, most - 1);
    assert_eq!((refused.code, refused.reason.as_str()), (Code::ResourceExhausted, "QUOTA_EXCEEDED"));
    assert!(refused.message.starts_with("lab sockets have all 128 descriptors that there are for them: close some"));
    assert!(refused.message.contains("`ulimit -n`") && refused.message.contains("limits.reserved_descriptors"));

    // Nobody is accepted, and nobody is sent away.
    let mut peer = TcpPeer::connect(&door).await;
    assert_eq!(pause_reason(&client.event("door", "accept_paused").await), pb::AcceptPauseReason::DescriptorLimit);
    // New controllers come in, what is there works, and events tell of it.
    for _ in 0..8 {
        agent.agent().open_sockets().await;
    }
    let somebody = UdpPeer::bind(ip).await;
    client.send("s-0", &somebody.text(), "still here").await;
    client.event("s-0", "sent").await;
    assert_eq!(client.open_sockets().await as u64, most);

    client.close("s-1").await;
    peer.write(b"at last").await;
    assert_eq!(client.receive_text("door.1").await, "at last");
    assert_eq!(went(&client.create_udp("late", pb::UdpSocketSpec::default()).await), "QUOTA_EXCEEDED");
    assert_eq!(client.reset("").await.closed_sockets.len() as u64, most);
    client.create_udp("late", pb::UdpSocketSpec::default()).await.unwrap();
    assert_eq!(client.delete("lab", true).await.unwrap().closed_sockets.len(), 0);
    drop(client);
    agent.stop().await;
}

/// The kernel itself has no descriptor: a listener says so once, waits longer each time, and goes on by itself. Nobody in its queue is lost.
#[tokio::test]
async fn a_listener_outlives_a_time_without_descriptors() {
    let agent = AgentProcess::start().await;
    let client = agent.agent();
    for (round, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("door-{round}");
        let door = client.listen(&id, &any_port(ip)).await;
        let Some(open) = agent.descriptors() else { return agent.stop().await };
        let all = set_descriptors(&agent, open as u64);
        let mut waiting = Vec::new();
        for _ in 0..8 {
            waiting.push(TcpStream::connect(&door).await.unwrap());
        }
        let paused = client.event(&id, "accept_paused").await;
        assert_eq!(pause_reason(&paused), pb::AcceptPauseReason::OutOfResources);
        let Some(Body::AcceptPaused(body)) = paused.body else { panic!() };
        assert_eq!(body.error.unwrap().name, "EMFILE");

        let (before, begun) = (agent.ticks(), Instant::now());
        for _ in 0..10 {
            let nothing = pb::WaitEventRequest { expect_none: true, timeout: millis(100), ..Default::default() };
            assert!(client.wait(nothing).await.unwrap().timed_out, "it is told once");
        }
        let (spent, passed) = (u128::from(agent.ticks() - before) * 10, begun.elapsed().as_millis());
        assert!(spent < passed / 2, "{spent} ms of {passed} ms");

        set_descriptors(&agent, all);
        for number in 1..=8 {
            client.event(&format!("{id}.{number}"), "created").await;
        }
        client.reset("").await;
        drop(waiting);
    }
    becomes("the end of all its connections", || async { client.open_sockets().await == 0 }).await;
    drop(client);
    agent.stop().await;
}

/// The sockets of a session that listen are counted until they are closed, whichever way they came to it.
#[tokio::test]
async fn listeners_have_a_limit_of_their_own() {
    for ip in LOOPBACKS {
        let limits = Limits { listeners: 2, ..Limits::default() };
        let agent = Agent::start_with(farsock::agent::AgentConfig { limits, ..Default::default() }).await;
        let address = any_port(ip);
        agent.listen("one", &address).await;
        agent.create_tcp("two", pb::TcpSocketSpec { bind: address.clone(), ..Default::default() }).await.unwrap();
        let listen = |id: &str| {
            let request = pb::ListenSocketRequest { socket_id: id.into(), ..Default::default() };
            agent.listen_socket(request)
        };
        assert_eq!(went(&listen("two").await), "ok");
        assert_eq!(went(&listen("two").await), "ok", "it is one already");
        let three = listening_on(&address);
        let refused = agent.create_tcp("three", three.clone()).await.unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (Code::ResourceExhausted, "QUOTA_EXCEEDED"));
        assert!(refused.message.contains("`--limit listeners=NUMBER`"), "{}", refused.message);
        assert_eq!(agent.open_sockets().await, 2, "nothing is left of it");
        agent.create_tcp("four", pb::TcpSocketSpec::default()).await.unwrap();
        assert_eq!(went(&listen("four").await), "QUOTA_EXCEEDED");
        assert_eq!(agent.kinds("four").await, ["created"]);
        agent.close("one").await;
        assert_eq!(went(&listen("four").await), "ok");
        agent.abort("two").await;
        assert_eq!(went(&agent.create_tcp("three", three).await), "ok");
    }
}
