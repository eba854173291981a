//! COUNT delivery, and hashes of what goes through a connection.

use std::net::IpAddr;

use farsock::wire::pb;
use sha2::{Digest, Sha256};

use crate::harness::tcp::{any_port, connecting_to, pattern, pattern_bytes, timeout, went};
use crate::harness::{Agent, LOOPBACKS, TcpPeer};

fn delivery(mode: pb::DeliveryMode) -> pb::Delivery {
    pb::Delivery { mode: mode.into(), ..Default::default() }
}

fn delivered(delivery: pb::Delivery) -> pb::TcpSocketSpec {
    pb::TcpSocketSpec { delivery: Some(delivery), ..Default::default() }
}

fn hashed(mode: pb::DeliveryMode) -> pb::TcpSocketSpec {
    delivered(pb::Delivery { hash: Some(true), ..delivery(mode) })
}

async fn line(agent: &Agent, ip: IpAddr, id: &str, spec: pb::TcpSocketSpec) -> TcpPeer {
    let (listener, address) = TcpPeer::listen(ip).await;
    agent.connect_with(id, &address.to_string(), spec).await;
    TcpPeer::accept(&listener).await
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn receive_now(agent: &Agent, id: &str) -> String {
    let request = pb::ReceiveSocketRequest { socket_id: id.into(), call: timeout(0), ..Default::default() };
    went(&agent.receive_socket(request).await)
}

#[tokio::test]
async fn bytes_are_counted_and_not_logged_up_to_the_end() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id, delivered(delivery(pb::DeliveryMode::Count))).await;
        peer.write(&pattern_bytes(3 << 20, 1)).await;
        agent.until(&id, "all bytes", |socket| socket.bytes_read() == 3 << 20).await;
        peer.write(b"and six").await;
        peer.shut_down().await;
        let Some(pb::event::Body::PeerClosed(end)) = agent.event(&id, "peer_closed").await.body else { panic!() };
        assert_eq!(end.bytes_read(), (3 << 20) + 7);
        assert_eq!(agent.kinds(&id).await.split_off(3), ["peer_closed"]);
        let socket = agent.socket(&id).await;
        assert_eq!((socket.received_sha256.as_str(), socket.delivery.unwrap().hash()), ("", false));
        // The other direction is as ever, and the end can be taken.
        agent.write(&id, "still here").await;
        assert_eq!(peer.read(10).await, b"still here");
        assert!(agent.receive(&id).await.unwrap().end);
    }
}

#[tokio::test]
async fn a_reset_ends_what_is_counted() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id, delivered(delivery(pb::DeliveryMode::Count))).await;
        peer.write(b"last words").await;
        agent.until(&id, "ten bytes", |socket| socket.bytes_read() == 10).await;
        peer.abort();
        let closed = agent.closed(&id).await;
        assert_eq!((closed.reason(), closed.bytes_read(), closed.unread_bytes), (pb::CloseReason::PeerReset, 10, 0));
        assert_eq!(agent.kinds(&id).await.split_off(3), ["peer_reset", "closed"]);
    }
}

/// What was logged before can still be taken; what is counted cannot.
#[tokio::test]
async fn counting_can_begin_and_end_on_the_way() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id, pb::TcpSocketSpec::default()).await;
        let deliver = |mode| pb::SetSocketDeliveryRequest {
            socket_id: id.clone(),
            delivery: Some(delivery(mode)),
            ..Default::default()
        };
        peer.write(b"logged").await;
        agent.event(&id, "received").await;
        agent.set_socket_delivery(deliver(pb::DeliveryMode::Count)).await.unwrap();
        peer.write(b"counted").await;
        agent.until(&id, "13 bytes", |socket| socket.bytes_read() == 13).await;
        assert_eq!(agent.receive_text(&id).await, "logged");
        assert_eq!(receive_now(&agent, &id).await, "WRONG_STATE");
        agent.set_socket_delivery(deliver(pb::DeliveryMode::Events)).await.unwrap();
        peer.write(b"logged again").await;
        let last = agent.receive(&id).await.unwrap();
        assert_eq!((last.offset(), last.size()), (13, 12));
    }
}

/// One who waits for bytes that will never be kept is told so at once.
#[tokio::test]
async fn counting_ends_the_waiting_for_payloads() {
    let agent = Agent::start().await;
    let _peer = line(&agent, LOOPBACKS[0], "line", pb::TcpSocketSpec::default()).await;
    let waiting = agent.receive("line");
    let counting = async {
        let request = pb::SetSocketDeliveryRequest {
            socket_id: "line".into(),
            delivery: Some(delivery(pb::DeliveryMode::Count)),
            ..Default::default()
        };
        agent.set_socket_delivery(request).await.unwrap();
    };
    let (waited, ()) = tokio::join!(waiting, counting);
    assert_eq!(waited.unwrap_err().reason, "WRONG_STATE");
}

#[tokio::test]
async fn both_ends_of_a_connection_have_the_same_hashes() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        for mode in [pb::DeliveryMode::Events, pb::DeliveryMode::Count] {
            let (door, line) =
                (format!("door-{at}-{mode:?}").to_lowercase(), format!("line-{at}-{mode:?}").to_lowercase());
            let child = format!("{door}.1");
            let address = agent.listen_with(&door, &any_port(ip), hashed(mode)).await;
            let spec = pb::TcpSocketSpec { delivery: hashed(mode).delivery, ..connecting_to(&address) };
            agent.create_tcp(&line, spec).await.unwrap();
            for (seed, id) in [(1, &line), (2, &line), (3, &child)] {
                let payload = pattern(300_000, seed);
                let request = pb::WriteSocketRequest { socket_id: id.clone(), payload, ..Default::default() };
                assert_eq!(went(&agent.write_socket(request).await), "ok");
            }
            agent.until(&line, "its bytes", |socket| socket.bytes_read() == 300_000).await;
            agent.until(&child, "its bytes", |socket| socket.bytes_read() == 600_000).await;
            let there = sha256(&[pattern_bytes(300_000, 1), pattern_bytes(300_000, 2)].concat());
            let back = sha256(&pattern_bytes(300_000, 3));
            let (line, child) = (agent.socket(&line).await, agent.socket(&child).await);
            assert_eq!((line.written_sha256, child.received_sha256), (there.clone(), there));
            assert_eq!((child.written_sha256, line.received_sha256), (back.clone(), back));
        }
    }
}

#[tokio::test]
async fn a_hash_is_that_of_a_whole_stream() {
    let agent = Agent::start().await;
    let mut peer = line(&agent, LOOPBACKS[0], "line", pb::TcpSocketSpec::default()).await;
    let hash = |hash| pb::SetSocketDeliveryRequest {
        socket_id: "line".into(),
        delivery: Some(pb::Delivery { hash: Some(hash), ..Default::default() }),
        ..Default::default()
    };
    assert_eq!(went(&agent.set_socket_delivery(hash(true)).await), "ok");
    assert_eq!(agent.socket("line").await.received_sha256, sha256(b""));
    peer.write(b"hola").await;
    agent.event("line", "received").await;
    assert_eq!(agent.socket("line").await.received_sha256, sha256(b"hola"));
    // It goes on, and it can be ended, but not be begun in the middle.
    assert_eq!(went(&agent.set_socket_delivery(hash(true)).await), "ok");
    assert_eq!(agent.socket("line").await.received_sha256, sha256(b"hola"));
    assert_eq!(went(&agent.set_socket_delivery(hash(false)).await), "ok");
    assert_eq!(agent.socket("line").await.received_sha256, "");
    assert_eq!(went(&agent.set_socket_delivery(hash(true)).await), "WRONG_STATE");
}
