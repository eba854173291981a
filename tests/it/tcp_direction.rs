//! Sockets that are used in one direction only. No FIN is sent for it.

use std::net::IpAddr;

use farsock::wire::pb;
use tonic::Code;

use crate::harness::tcp::{any_port, went};
use crate::harness::{Agent, LOOPBACKS, TcpPeer};

fn only(direction: pb::Direction) -> pb::TcpSocketSpec {
    pb::TcpSocketSpec { direction: direction.into(), ..Default::default() }
}

async fn line(agent: &Agent, ip: IpAddr, id: &str, spec: pb::TcpSocketSpec) -> TcpPeer {
    let (listener, address) = TcpPeer::listen(ip).await;
    agent.connect_with(id, &address.to_string(), spec).await;
    TcpPeer::accept(&listener).await
}

fn receive(id: &str) -> pb::ReceiveSocketRequest {
    pb::ReceiveSocketRequest { socket_id: id.into(), ..Default::default() }
}

#[tokio::test]
async fn a_receive_only_socket_receives_and_refuses_to_write() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id, only(pb::Direction::ReceiveOnly)).await;
        let refused = agent.try_write(&id, "x").await.unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (Code::FailedPrecondition, "WRONG_DIRECTION"));
        assert!(refused.message.contains("receive-only"), "{}", refused.message);
        peer.write(b"in").await;
        assert_eq!(agent.receive_text(&id).await, "in");
        let socket = agent.socket(&id).await;
        assert_eq!((socket.shut_down, socket.bytes_written()), (false, 0));
        // A FIN is sent when somebody asks for it.
        agent.shut_down(&id, pb::ShutdownHow::Send).await;
        assert_eq!(peer.read_to_end().await.unwrap(), b"");
    }
}

#[tokio::test]
async fn a_send_only_socket_writes_and_never_reads() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id, only(pb::Direction::SendOnly)).await;
        assert_eq!(went(&agent.receive_socket(receive(&id)).await), "WRONG_DIRECTION");
        peer.write(b"ignored").await;
        agent.write(&id, "out").await;
        assert_eq!(peer.read(3).await, b"out");
        let socket = agent.until(&id, "the bytes", |socket| socket.queues.unwrap().receive_bytes() == 7).await;
        assert_eq!(socket.bytes_read(), 0);
        assert!(!agent.kinds(&id).await.contains(&"received".to_owned()));
    }
}

/// It never reads a FIN, so it goes by the hint.
#[tokio::test]
async fn a_send_only_socket_with_auto_end_ends_with_its_peer() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let spec = pb::TcpSocketSpec { half_open: pb::HalfOpenPolicy::AutoEnd.into(), ..only(pb::Direction::SendOnly) };
        let mut peer = line(&agent, ip, &id, spec).await;
        agent.write(&id, "out").await;
        peer.shut_down().await;
        assert_eq!(peer.read_to_end().await.unwrap(), b"out");
        let closed = agent.closed(&id).await;
        assert_eq!((closed.reason(), closed.had_error), (pb::CloseReason::Ended, false));
        assert_eq!(agent.kinds(&id).await[3..], ["written", "peer_gone", "shut_down", "closed"]);
    }
}

#[tokio::test]
async fn connections_take_the_direction_of_their_listener() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let source = agent.listen_with("source", &any_port(ip), only(pb::Direction::SendOnly)).await;
        let sink = agent.listen_with("sink", &any_port(ip), only(pb::Direction::ReceiveOnly)).await;
        let mut from = TcpPeer::connect(&source).await;
        let mut to = TcpPeer::connect(&sink).await;
        agent.write("source.1", "out").await;
        assert_eq!(from.read(3).await, b"out");
        to.write(b"in").await;
        assert_eq!(agent.receive_text("sink.1").await, "in");
        assert_eq!(went(&agent.receive_socket(receive("source.1")).await), "WRONG_DIRECTION");
        assert_eq!(went(&agent.try_write("sink.1", "x").await), "WRONG_DIRECTION");
    }
}
