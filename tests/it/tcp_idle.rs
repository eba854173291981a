//! Silence that is announced, and closes nothing.

use std::time::Duration;

use farsock::wire::pb;

use crate::harness::tcp::{any_port, millis, timeout, went};
use crate::harness::{Agent, LOOPBACKS, TcpPeer, text};

fn announcing(timeout: i64) -> pb::TcpSocketSpec {
    pb::TcpSocketSpec { idle_timeout: millis(timeout), ..Default::default() }
}

async fn line(agent: &Agent, ip: std::net::IpAddr, id: &str, spec: pb::TcpSocketSpec) -> TcpPeer {
    let (listener, address) = TcpPeer::listen(ip).await;
    agent.connect_with(id, &address.to_string(), spec).await;
    TcpPeer::accept(&listener).await
}

/// Whether nothing of this kind comes within a while.
async fn none_comes(agent: &Agent, id: &str, kind: &str, after: u64, while_millis: i64) -> bool {
    let request = pb::WaitEventRequest {
        filter: Some(pb::EventFilter { socket_ids: vec![id.into()], kinds: vec![kind.into()] }),
        after_event_seq: Some(after),
        expect_none: true,
        timeout: millis(while_millis),
        ..Default::default()
    };
    agent.events().wait_event(request).await.unwrap().into_inner().timed_out
}

#[tokio::test]
async fn silence_is_told_once_and_bytes_begin_a_new_one() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id, announcing(50)).await;
        let mut after = 0;
        for round in 0..3 {
            let event = agent.event_after(&id, "idle_timed_out", after).await;
            let Some(pb::event::Body::IdleTimedOut(told)) = event.body else { panic!() };
            let idle = Duration::try_from(told.idle.unwrap()).unwrap();
            assert!(idle >= Duration::from_millis(50), "{idle:?}");
            assert!(none_comes(&agent, &id, "idle_timed_out", event.event_seq, 150).await, "told twice");
            // Bytes in and bytes out both end the silence.
            if round % 2 == 0 {
                peer.write(b"tick").await;
                after = agent.event_after(&id, "received", event.event_seq).await.event_seq;
            } else {
                agent.write(&id, "tock").await;
                after = agent.event_after(&id, "written", event.event_seq).await.event_seq;
            }
        }
        assert_eq!(agent.socket(&id).await.state(), pb::SocketState::Connected, "nothing is closed");
        assert_eq!(agent.socket(&id).await.idle_timeout, millis(50));
    }
}

#[tokio::test]
async fn accepted_connections_announce_it_too() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let door = agent.listen_with("door", &any_port(ip), announcing(50)).await;
        let _peer = TcpPeer::connect(&door).await;
        agent.event("door.1", "idle_timed_out").await;
        assert!(!agent.kinds("door").await.contains(&"idle_timed_out".to_owned()), "a listener has no bytes");
    }
}

#[tokio::test]
async fn silence_is_told_of_sockets_that_are_not_read_as_well() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let delivery = Some(pb::Delivery { mode: pb::DeliveryMode::Pull.into(), ..Default::default() });
        let mut peer = line(&agent, ip, &id, pb::TcpSocketSpec { delivery, ..announcing(50) }).await;
        let first = agent.event(&id, "idle_timed_out").await.event_seq;
        // Bytes that nobody has read are no sign of life yet: they are when they are read.
        peer.write(b"hola").await;
        assert_eq!(agent.receive_text(&id).await, "hola");
        agent.event_after(&id, "idle_timed_out", first).await;
    }
}

#[tokio::test]
async fn without_an_idle_timeout_silence_is_just_silence() {
    let agent = Agent::start().await;
    for spec in [pb::TcpSocketSpec::default(), announcing(0)] {
        let _peer = line(&agent, LOOPBACKS[0], "line", spec).await;
        assert_eq!(agent.socket("line").await.idle_timeout, None);
        assert!(none_comes(&agent, "line", "idle_timed_out", 0, 100).await);
        agent.close("line").await;
    }
}

/// A write that waits for room is no activity: the peer takes nothing.
#[tokio::test]
async fn a_stalled_write_is_silence() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let small = pb::SocketOption { name: "SO_SNDBUF".into(), value: Some(pb::socket_option::Value::Number(4096)) };
        let _peer = line(&agent, ip, &id, pb::TcpSocketSpec { options: vec![small], ..announcing(50) }).await;
        // Loopback takes some megabytes before it stalls.
        let mut waiting = false;
        while !waiting {
            let request = pb::WriteSocketRequest {
                socket_id: id.clone(),
                payload: text(&"x".repeat(1 << 20)),
                call: timeout(30),
                ..Default::default()
            };
            waiting = went(&agent.write_socket(request).await) == "timed out";
        }
        let written = agent.events_of(&id, "written").await.len();
        agent.event_after(&id, "idle_timed_out", agent.event(&id, "written").await.event_seq).await;
        assert_eq!(agent.events_of(&id, "written").await.len(), written);
    }
}
