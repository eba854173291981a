//! A socket that is not read: its window closes, and yet it knows when its peer has gone.

use std::net::IpAddr;

use farsock::wire::pb;
use socket2::SockRef;

use crate::harness::tcp::{Reported, any_port, pattern_bytes, timeout, went};
use crate::harness::{Agent, LOOPBACKS, TcpPeer, within};

/// The ways in which a socket is not read, by name.
fn unread() -> [(&'static str, pb::TcpSocketSpec); 3] {
    let held = |mode: pb::DeliveryMode, paused| {
        let delivery = Some(pb::Delivery { mode: mode.into(), paused: Some(paused), ..Default::default() });
        pb::TcpSocketSpec { delivery, ..Default::default() }
    };
    [
        ("paused", held(pb::DeliveryMode::Events, true)),
        ("pulled", held(pb::DeliveryMode::Pull, false)),
        ("send-only", pb::TcpSocketSpec { direction: pb::Direction::SendOnly.into(), ..Default::default() }),
    ]
}

async fn line(agent: &Agent, ip: IpAddr, id: &str, spec: pb::TcpSocketSpec) -> TcpPeer {
    let (listener, address) = TcpPeer::listen(ip).await;
    agent.connect_with(id, &address.to_string(), spec).await;
    TcpPeer::accept(&listener).await
}

async fn pause(agent: &Agent, id: &str, paused: bool) {
    let delivery = Some(pb::Delivery { paused: Some(paused), ..Default::default() });
    let request = pb::SetSocketDeliveryRequest { socket_id: id.into(), delivery, ..Default::default() };
    let set = agent.set_socket_delivery(request).await.unwrap();
    assert_eq!(set.went(), "ok");
    assert_eq!(set.socket.unwrap().delivery.unwrap().paused, Some(paused));
}

async fn kinds_after_connected(agent: &Agent, id: &str) -> Vec<String> {
    agent.kinds(id).await.split_off(3)
}

#[tokio::test]
async fn a_pause_stops_the_peer_and_its_end_lets_it_go_on() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        // Listeners hand the size of the buffer on, from which the window follows.
        let (door, child) = (format!("door-{at}"), format!("door-{at}.1"));
        let small = pb::SocketOption { name: "SO_RCVBUF".into(), value: Some(pb::socket_option::Value::Number(8192)) };
        let spec = pb::TcpSocketSpec { options: vec![small], ..Default::default() };
        let address = agent.listen_with(&door, &any_port(ip), spec).await;
        let peer = TcpPeer::connect(&address).await;
        SockRef::from(&peer.0).set_send_buffer_size(8192).unwrap();
        agent.event(&child, "created").await;
        pause(&agent, &child, true).await;

        // The peer writes until its kernel takes no more.
        let bytes = pattern_bytes(1 << 20, 5);
        let mut written = 0;
        loop {
            match peer.0.try_write(&bytes[written..]) {
                Ok(size) => written += size,
                // Full, and stays so once the agent's kernel holds all that it will.
                Err(_) if agent.socket(&child).await.queues.unwrap().receive_bytes() > 0 => break,
                Err(_) => within("room or bytes", peer.0.writable()).await.unwrap(),
            }
        }
        assert!(written < bytes.len());
        assert_eq!(agent.socket(&child).await.bytes_read(), 0);
        assert_eq!(agent.kinds(&child).await, ["created", "read_paused"]);

        pause(&agent, &child, false).await;
        let mut peer = peer;
        peer.write(&bytes[written..]).await;
        agent.until(&child, "all bytes", |socket| socket.bytes_read() == 1 << 20).await;
        let mut through = Vec::new();
        for body in agent.events_of(&child, "received").await {
            let pb::event::Body::Received(received) = body else { panic!() };
            let Some(pb::payload::Content::Data(data)) = received.payload.unwrap().content else { panic!() };
            through.extend(data);
        }
        assert!(through == bytes);
    }
}

#[tokio::test]
async fn a_socket_can_begin_its_life_paused() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let [(_, paused), ..] = unread();
        let mut peer = line(&agent, ip, &id, paused).await;
        peer.write(b"hola").await;
        agent.until(&id, "four bytes", |socket| socket.queues.unwrap().receive_bytes() == 4).await;
        let request = pb::ReceiveSocketRequest { socket_id: id.clone(), call: timeout(20), ..Default::default() };
        assert_eq!(went(&agent.receive_socket(request).await), "timed out");
        assert_eq!(kinds_after_connected(&agent, &id).await, ["read_paused"]);
        pause(&agent, &id, false).await;
        assert_eq!(agent.receive_text(&id).await, "hola");
        assert_eq!(kinds_after_connected(&agent, &id).await, ["read_paused", "read_resumed", "received"]);

        // Asking for what is so already changes nothing.
        pause(&agent, &id, false).await;
        assert_eq!(kinds_after_connected(&agent, &id).await.len(), 3);
    }
}

#[tokio::test]
async fn the_end_of_the_peer_is_noticed_without_reading() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        for (how, spec) in unread() {
            for bytes in [&b""[..], b"last"] {
                let id = format!("{how}-{at}-{}", bytes.len());
                let mut peer = line(&agent, ip, &id, spec.clone()).await;
                peer.write(bytes).await;
                peer.shut_down().await;
                let Some(pb::event::Body::PeerGone(gone)) = agent.event(&id, "peer_gone").await.body else { panic!() };
                assert_eq!(gone.error, None, "a FIN");
                let socket = agent.socket(&id).await;
                assert_eq!((socket.state(), socket.peer_closed), (pb::SocketState::Connected, false));
                // It is a hint: the other direction goes on, and the bytes are there.
                agent.write(&id, "still here").await;
                assert_eq!(peer.read(10).await, b"still here");
                match how {
                    "paused" => pause(&agent, &id, false).await,
                    "pulled" => {}
                    _ => continue,
                }
                if !bytes.is_empty() {
                    assert_eq!(agent.receive_text(&id).await, "last");
                }
                let request = pb::ReceiveSocketRequest { socket_id: id.clone(), ..Default::default() };
                assert!(agent.receive_socket(request).await.unwrap().end);
                let kinds = kinds_after_connected(&agent, &id).await;
                assert_eq!(kinds.iter().filter(|kind| *kind == "peer_gone").count(), 1);
                assert_eq!(kinds.last().unwrap(), "peer_closed");
            }
        }
    }
}

#[tokio::test]
async fn a_reset_is_noticed_without_reading() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        for (how, spec) in unread() {
            let id = format!("{how}-{at}");
            let peer = line(&agent, ip, &id, spec).await;
            peer.abort();
            // Nothing is left to be read: it is over.
            let closed = agent.closed(&id).await;
            assert_eq!((closed.reason(), closed.had_error), (pb::CloseReason::PeerReset, true), "{how}");
            let kinds = kinds_after_connected(&agent, &id).await;
            assert_eq!(kinds[kinds.len() - 2..], ["peer_reset", "closed"], "{how}");
        }
    }
}

/// Linux keeps what came before the RST, and so the socket stays until it is read.
#[tokio::test]
async fn bytes_that_came_before_a_reset_can_still_be_read() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        for (how, spec) in unread() {
            let id = format!("{how}-{at}");
            let mut peer = line(&agent, ip, &id, spec).await;
            peer.write(b"last words").await;
            agent.until(&id, "ten bytes", |socket| socket.queues.unwrap().receive_bytes() == 10).await;
            peer.abort();
            if how == "send-only" {
                // Nobody will ever read them.
                let closed = agent.closed(&id).await;
                assert_eq!((closed.reason(), closed.unread_bytes), (pb::CloseReason::PeerReset, 10));
                continue;
            }
            let Some(pb::event::Body::PeerGone(gone)) = agent.event(&id, "peer_gone").await.body else { panic!() };
            assert_eq!(gone.error.unwrap().name, "ECONNRESET", "{how}");
            assert_eq!(agent.socket(&id).await.state(), pb::SocketState::Connected);
            // The first write is told of it, and those that come later that there is no connection: as the kernel has it.
            assert_eq!(went(&agent.try_write(&id, "x").await), "ECONNRESET");
            assert_eq!(went(&agent.try_write(&id, "x").await), "EPIPE");
            assert_eq!(went(&agent.try_write(&id, "x").await), "EPIPE");
            assert_eq!(agent.events_of(&id, "peer_gone").await.len(), 1);
            if how == "paused" {
                pause(&agent, &id, false).await;
            }
            assert_eq!(agent.receive_text(&id).await, "last words");
            let request = pb::ReceiveSocketRequest { socket_id: id.clone(), ..Default::default() };
            let answer = went(&agent.receive_socket(request).await);
            assert_eq!(answer, "ECONNRESET", "{how}");
            let closed = agent.closed(&id).await;
            assert_eq!((closed.reason(), closed.bytes_read()), (pb::CloseReason::PeerReset, 10));
            let kinds = kinds_after_connected(&agent, &id).await;
            assert_eq!(kinds[kinds.len() - 2..], ["peer_reset", "closed"], "{how}");
        }
    }
}

/// First its end, then its reset: both are told, each once.
#[tokio::test]
async fn a_reset_after_the_end_is_noticed_without_reading() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        for (how, spec) in unread() {
            let id = format!("{how}-{at}");
            let mut peer = line(&agent, ip, &id, spec).await;
            peer.shut_down().await;
            agent.event(&id, "peer_gone").await;
            peer.abort();
            let closed = agent.closed(&id).await;
            assert_eq!((closed.reason(), closed.had_error), (pb::CloseReason::PeerReset, true), "{how}");
            let kinds = kinds_after_connected(&agent, &id).await;
            assert_eq!(kinds[kinds.len() - 3..], ["peer_gone", "peer_reset", "closed"], "{how}");
        }
    }
}
