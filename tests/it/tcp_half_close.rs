//! One direction ends and the other goes on: from here, from there, and by policy.

use std::net::IpAddr;

use farsock::wire::pb;

use crate::harness::tcp::{Reported, detached, pattern, unread_by_the_test, went};
use crate::harness::{Agent, LOOPBACKS, TcpPeer};

async fn line(agent: &Agent, ip: IpAddr, id: &str, half_open: pb::HalfOpenPolicy) -> TcpPeer {
    let (listener, address) = TcpPeer::listen(ip).await;
    let spec = pb::TcpSocketSpec { half_open: half_open.into(), ..Default::default() };
    agent.connect_with(id, &address.to_string(), spec).await;
    TcpPeer::accept(&listener).await
}

/// The kinds of a line's events after it was connected.
async fn after_connected(agent: &Agent, id: &str) -> Vec<String> {
    let mut kinds = agent.kinds(id).await;
    let connected = kinds.iter().position(|kind| kind == "connected").unwrap();
    kinds.split_off(connected + 1)
}

#[tokio::test]
async fn after_ending_here_the_peer_may_still_speak() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id, pb::HalfOpenPolicy::Allow).await;
        agent.write(&id, "last words").await;
        let ended = agent.shut_down(&id, pb::ShutdownHow::Send).await;
        let socket = ended.socket.unwrap();
        assert!(socket.shut_down && !socket.peer_closed);
        assert_eq!(socket.state(), pb::SocketState::Connected);
        assert_eq!(peer.read_to_end().await.unwrap(), b"last words");
        peer.write(b"answer").await;
        assert_eq!(agent.receive_text(&id).await, "answer");
        assert_eq!(went(&agent.try_write(&id, "x").await), "EPIPE");
        assert_eq!(agent.kinds(&id).await.last().unwrap(), "failed");
        // And again, as POSIX has it.
        assert_eq!(agent.shut_down(&id, pb::ShutdownHow::Send).await.went(), "ok");

        // The peer ends, too. The socket stays until it is closed.
        peer.shut_down().await;
        agent.event(&id, "peer_closed").await;
        let socket = agent.socket(&id).await;
        assert!(socket.shut_down && socket.peer_closed);
        assert_eq!(socket.state(), pb::SocketState::Connected);
        let closed = agent.close(&id).await.socket.unwrap().closed.unwrap();
        assert_eq!((closed.reason(), closed.had_error), (pb::CloseReason::Closed, false));
    }
}

#[tokio::test]
async fn after_the_peer_has_ended_one_may_still_speak() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id, pb::HalfOpenPolicy::Allow).await;
        peer.write(b"question").await;
        peer.shut_down().await;
        let Some(pb::event::Body::PeerClosed(ended)) = agent.event(&id, "peer_closed").await.body else { panic!() };
        assert_eq!(ended.bytes_read, Some(8));
        let socket = agent.socket(&id).await;
        assert!(socket.peer_closed && !socket.shut_down);
        agent.write(&id, "long ").await;
        agent.write(&id, "answer").await;
        agent.shut_down(&id, pb::ShutdownHow::Send).await;
        assert_eq!(peer.read_to_end().await.unwrap(), b"long answer");
        let kinds = ["received", "peer_closed", "written", "written", "shut_down"];
        assert_eq!(after_connected(&agent, &id).await, kinds);
    }
}

/// Node's `allowHalfOpen: false`.
#[tokio::test]
async fn with_auto_end_the_end_of_the_peer_is_answered_and_the_socket_closed() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id, pb::HalfOpenPolicy::AutoEnd).await;
        peer.write(b"bye").await;
        peer.shut_down().await;
        assert_eq!(peer.read_to_end().await.unwrap(), b"", "a FIN, and no RST");
        let closed = agent.closed(&id).await;
        assert_eq!((closed.reason(), closed.had_error), (pb::CloseReason::Ended, false));
        assert_eq!((closed.bytes_read(), closed.unread_bytes), (3, 0));
        assert_eq!(after_connected(&agent, &id).await, ["received", "peer_closed", "shut_down", "closed"]);
        let [pb::event::Body::ShutDown(ended)] = &agent.events_of(&id, "shut_down").await[..] else { panic!() };
        assert_eq!(ended.how(), pb::ShutdownHow::Send);
    }
}

#[tokio::test]
async fn with_auto_end_the_socket_that_ended_first_is_closed_when_the_peer_ends() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id, pb::HalfOpenPolicy::AutoEnd).await;
        agent.shut_down(&id, pb::ShutdownHow::Send).await;
        peer.write(b"answer").await;
        peer.shut_down().await;
        assert_eq!(agent.closed(&id).await.reason(), pb::CloseReason::Ended);
        assert_eq!(after_connected(&agent, &id).await, ["shut_down", "received", "peer_closed", "closed"]);
    }
}

/// What is queued goes out before the answering FIN.
#[tokio::test]
async fn with_auto_end_queued_writes_come_first() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let (door, child) = (format!("door-{at}"), format!("door-{at}.1"));
        let spec = pb::TcpSocketSpec {
            half_open: pb::HalfOpenPolicy::AutoEnd.into(),
            options: vec![pb::SocketOption {
                name: "SO_SNDBUF".into(),
                value: Some(pb::socket_option::Value::Number(4096)),
            }],
            ..Default::default()
        };
        let address = agent.listen_with(&door, &crate::harness::tcp::any_port(ip), spec).await;
        let mut peer = TcpPeer::connect(&address).await;
        agent.event(&child, "created").await;
        let size = 1 << 20;
        // As many as it takes until some wait: loopback takes a few megabytes.
        let mut total = 0;
        while agent.socket(&child).await.queues.unwrap().pending_write_bytes() == 0 {
            let request = pb::WriteSocketRequest {
                socket_id: child.clone(),
                payload: pattern(size, 1),
                call: detached(&format!("{child}-{total}")),
                ..Default::default()
            };
            agent.write_socket(request).await.unwrap();
            total += size;
        }
        peer.shut_down().await;
        agent.event(&child, "peer_closed").await;
        assert_eq!(peer.read_to_end().await.unwrap().len(), total);
        let closed = agent.closed(&child).await;
        assert_eq!((closed.reason(), closed.bytes_written()), (pb::CloseReason::Ended, total as u64));
        assert_eq!(closed.unwritten_bytes, 0);
    }
}

#[tokio::test]
async fn ending_waits_for_queued_writes() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let (mut peer, size) = unread_by_the_test(&agent, ip, &id).await;
        let socket_id = id.clone();
        let request = pb::WriteSocketRequest {
            socket_id: socket_id.clone(),
            payload: pattern(size, 1),
            call: detached(&format!("{id}-w")),
            ..Default::default()
        };
        agent.write_socket(request).await.unwrap();
        let request = pb::ShutdownSocketRequest { socket_id, call: detached(&format!("{id}-s")), ..Default::default() };
        agent.shutdown_socket(request).await.unwrap();
        assert!(!agent.socket(&id).await.shut_down);
        assert_eq!(peer.read_to_end().await.unwrap().len(), size);
        let ended: pb::ShutdownSocketResponse = agent.call_response(&format!("{id}-s")).await;
        assert_eq!(ended.went(), "ok");
        assert!(ended.socket.unwrap().shut_down);
        assert_eq!(after_connected(&agent, &id).await, ["write_blocked", "written", "writable", "shut_down"]);
    }
}

/// SHUT_RD: the peer is not told. Linux would still read what comes; the agent does not.
#[tokio::test]
async fn ending_the_receiving_direction_is_an_end_for_those_who_read() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id, pb::HalfOpenPolicy::Allow).await;
        let request = pb::ReceiveSocketRequest { socket_id: id.clone(), call: detached(&id), ..Default::default() };
        agent.receive_socket(request).await.unwrap();
        assert_eq!(agent.shut_down(&id, pb::ShutdownHow::Receive).await.went(), "ok");
        let waited: pb::ReceiveSocketResponse = agent.call_response(&id).await;
        assert!(waited.end);
        peer.write(b"into the void").await;
        agent.write(&id, "still speaking").await;
        assert_eq!(peer.read(14).await, b"still speaking");
        let socket = agent.socket(&id).await;
        assert_eq!((socket.shut_down, socket.peer_closed, socket.bytes_read()), (false, false, 0));
    }
}

#[tokio::test]
async fn ending_both_directions_sends_a_fin() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        for (policy, last) in [(pb::HalfOpenPolicy::Allow, "shut_down"), (pb::HalfOpenPolicy::AutoEnd, "closed")] {
            let id = format!("{last}-{at}").replace('_', "-");
            let mut peer = line(&agent, ip, &id, policy).await;
            agent.write(&id, "all").await;
            assert_eq!(agent.shut_down(&id, pb::ShutdownHow::Both).await.went(), "ok");
            assert_eq!(peer.read_to_end().await.unwrap(), b"all");
            assert_eq!(agent.event(&id, last).await.kind, last);
            assert_eq!(after_connected(&agent, &id).await.last().unwrap(), last);
        }
    }
}
