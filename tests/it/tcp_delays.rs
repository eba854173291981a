//! What a socket puts off because it was told to: to accept, to read, to close. And a listener that has had enough.

use farsock::wire::pb;

use crate::harness::tcp::{Reported, any_port, between, millis};
use crate::harness::{Agent, LOOPBACKS, TcpPeer};

/// How long everything here is put off, in milliseconds.
const DELAY: i64 = 60;

async fn kinds_of_door(agent: &Agent, id: &str) -> Vec<String> {
    agent.kinds(id).await.into_iter().filter(|kind| kind.starts_with("accept")).collect()
}

#[tokio::test]
async fn a_listener_can_accept_so_many_and_then_stop() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let door = format!("door-{at}");
        let spec = pb::TcpSocketSpec { max_accepts: Some(2), ..Default::default() };
        let address = agent.listen_with(&door, &any_port(ip), spec).await;
        let mut peers = Vec::new();
        for _ in 0..3 {
            peers.push(TcpPeer::connect(&address).await);
        }
        let paused = agent.event(&door, "accept_paused").await;
        let Some(pb::event::Body::AcceptPaused(why)) = paused.body else { panic!() };
        assert_eq!((why.reason(), why.error), (pb::AcceptPauseReason::AcceptLimit, None));
        // The third is connected, as far as it knows, and waits.
        agent.until(&door, "one that waits", |door| door.listener.unwrap().queue_length() == 1).await;
        assert_eq!(kinds_of_door(&agent, &door).await, ["accepted", "accepted", "accept_paused"]);

        // Listening again lets as many in again.
        let again = pb::ListenSocketRequest { socket_id: door.clone(), ..Default::default() };
        assert_eq!(agent.listen_socket(again).await.unwrap().went(), "ok");
        agent.event(&format!("{door}.3"), "created").await;
        for _ in 0..2 {
            peers.push(TcpPeer::connect(&address).await);
        }
        agent.event_after(&door, "accept_paused", paused.event_seq).await;
        agent.until(&door, "one that waits", |door| door.listener.unwrap().queue_length() == 1).await;
        let socket = agent.socket(&door).await.listener.unwrap();
        assert_eq!((socket.accepted_total(), socket.connection_count()), (4, 4));
    }
}

#[tokio::test]
async fn a_listener_can_accept_nobody_at_all() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let door = format!("door-{at}");
        let spec = pb::TcpSocketSpec { max_accepts: Some(0), ..Default::default() };
        let address = agent.listen_with(&door, &any_port(ip), spec).await;
        let _peer = TcpPeer::connect(&address).await;
        agent.until(&door, "one that waits", |door| door.listener.unwrap().queue_length() == 1).await;
        assert_eq!(kinds_of_door(&agent, &door).await, ["accept_paused"]);
    }
}

#[tokio::test]
async fn connections_can_wait_to_be_accepted_one_after_the_other() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let door = format!("door-{at}");
        let spec = pb::TcpSocketSpec { accept_delay: millis(DELAY), ..Default::default() };
        let address = agent.listen_with(&door, &any_port(ip), spec).await;
        let _peers = [TcpPeer::connect(&address).await, TcpPeer::connect(&address).await];
        let before = agent.event(&door, "listening").await;
        let first = agent.event(&door, "accepted").await;
        let second = agent.event_after(&door, "accepted", first.event_seq).await;
        assert!(between(&before, &first) >= DELAY, "{before:?} {first:?}");
        assert!(between(&first, &second) >= DELAY, "{first:?} {second:?}");
    }
}

#[tokio::test]
async fn a_connection_can_be_left_unread_at_first() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let (door, child) = (format!("door-{at}"), format!("door-{at}.1"));
        let spec = pb::TcpSocketSpec { read_delay: millis(DELAY), ..Default::default() };
        let address = agent.listen_with(&door, &any_port(ip), spec).await;
        let mut peer = TcpPeer::connect(&address).await;
        peer.write(b"hola").await;
        peer.shut_down().await;
        let ended = agent.event(&child, "peer_closed").await;
        let (created, received) = (agent.event(&child, "created").await, agent.event(&child, "received").await);
        assert!(between(&created, &received) >= DELAY, "{created:?} {received:?}");
        assert!(received.event_seq < ended.event_seq);
        // Only the first read waits.
        assert_eq!(agent.receive_text(&child).await, "hola");
    }
}

/// What came before a reset is read although the reset came before the first read.
#[tokio::test]
async fn bytes_that_wait_for_the_first_read_survive_a_reset() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let (door, child) = (format!("door-{at}"), format!("door-{at}.1"));
        let spec = pb::TcpSocketSpec { read_delay: millis(DELAY), ..Default::default() };
        let address = agent.listen_with(&door, &any_port(ip), spec).await;
        let mut peer = TcpPeer::connect(&address).await;
        peer.write(b"hola").await;
        peer.abort();
        let closed = agent.closed(&child).await;
        assert_eq!((closed.reason(), closed.bytes_read), (pb::CloseReason::PeerReset, Some(4)));
    }
}

#[tokio::test]
async fn the_answer_to_a_fin_can_be_put_off() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let (door, child) = (format!("door-{at}"), format!("door-{at}.1"));
        let half_open = pb::HalfOpenPolicy::AutoEnd.into();
        let spec = pb::TcpSocketSpec { half_open, close_delay: millis(DELAY), ..Default::default() };
        let address = agent.listen_with(&door, &any_port(ip), spec).await;
        let mut peer = TcpPeer::connect(&address).await;
        peer.shut_down().await;
        let closed = agent.event(&child, "closed").await;
        let (fin, answer) = (agent.event(&child, "peer_closed").await, agent.event(&child, "shut_down").await);
        assert!(between(&fin, &answer) >= DELAY, "{fin:?} {answer:?}");
        assert_eq!(agent.closed(&child).await.reason(), pb::CloseReason::Ended);
        assert!(answer.event_seq < closed.event_seq);
        assert_eq!(peer.read_to_end().await.unwrap(), b"");

        // Who has ended the other direction before waits for the close all the same.
        let mut peer = TcpPeer::connect(&address).await;
        let child = format!("door-{at}.2");
        agent.event(&child, "created").await;
        agent.shut_down(&child, pb::ShutdownHow::Send).await;
        peer.shut_down().await;
        let closed = agent.event(&child, "closed").await;
        let fin = agent.event(&child, "peer_closed").await;
        assert!(between(&fin, &closed) >= DELAY, "{fin:?} {closed:?}");
    }
}
