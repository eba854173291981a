//! Looking at what has come without taking it: `peek` of ReceiveSocket.

use std::net::IpAddr;

use farsock::wire::pb;

use crate::harness::tcp::{timeout, went};
use crate::harness::{Agent, LOOPBACKS, TcpPeer, UdpPeer};

const BOTH: [pb::DeliveryMode; 2] = [pb::DeliveryMode::Events, pb::DeliveryMode::Pull];

fn delivery(mode: pb::DeliveryMode) -> Option<pb::Delivery> {
    Some(pb::Delivery { mode: mode.into(), ..Default::default() })
}

/// Each way of keeping what has come, over each IP version.
fn worlds() -> impl Iterator<Item = (IpAddr, pb::DeliveryMode, String)> {
    let name = |ip: IpAddr, mode: pb::DeliveryMode| {
        format!("{}-{}", mode.as_str_name().rsplit('_').next().unwrap().to_lowercase(), u8::from(ip.is_ipv6()))
    };
    LOOPBACKS.into_iter().flat_map(move |ip| BOTH.map(move |mode| (ip, mode, name(ip, mode))))
}

async fn line(agent: &Agent, ip: IpAddr, id: &str, mode: pb::DeliveryMode) -> TcpPeer {
    let (listener, address) = TcpPeer::listen(ip).await;
    let spec = pb::TcpSocketSpec { delivery: delivery(mode), ..Default::default() };
    agent.connect_with(id, &address.to_string(), spec).await;
    TcpPeer::accept(&listener).await
}

fn look(id: &str) -> pb::ReceiveSocketRequest {
    pb::ReceiveSocketRequest { socket_id: id.into(), peek: true, ..Default::default() }
}

fn take(id: &str) -> pb::ReceiveSocketRequest {
    pb::ReceiveSocketRequest { peek: false, ..look(id) }
}

fn at_most(max: u32, request: pb::ReceiveSocketRequest) -> pb::ReceiveSocketRequest {
    pb::ReceiveSocketRequest { max_bytes: Some(max), ..request }
}

/// What is there, in a word: where it stands, and its text.
async fn shown(agent: &Agent, request: pb::ReceiveSocketRequest) -> String {
    let received = agent.receive_socket(request).await.unwrap();
    match received.payload.and_then(|payload| payload.content) {
        Some(pb::payload::Content::Text(text)) => format!("{}: {text}", received.offset.unwrap_or(0)),
        None if received.end => "end".to_owned(),
        other => panic!("{other:?}"),
    }
}

async fn now(agent: &Agent, request: pb::ReceiveSocketRequest) -> String {
    went(&agent.receive_socket(pb::ReceiveSocketRequest { call: timeout(0), ..request }).await)
}

#[tokio::test]
async fn bytes_that_were_only_looked_at_can_still_be_taken() {
    let agent = Agent::start().await;
    for (ip, mode, id) in worlds() {
        let mut peer = line(&agent, ip, &id, mode).await;
        peer.write(b"hola que tal").await;
        assert_eq!(shown(&agent, at_most(4, look(&id))).await, "0: hola");
        assert_eq!(shown(&agent, look(&id)).await, "0: hola que tal");
        assert_eq!(shown(&agent, at_most(5, take(&id))).await, "0: hola ");
        assert_eq!(shown(&agent, look(&id)).await, "5: que tal");
        assert_eq!(shown(&agent, look(&id)).await, "5: que tal");
        assert_eq!(shown(&agent, take(&id)).await, "5: que tal");
        assert_eq!(now(&agent, look(&id)).await, "timed out");
        peer.shut_down().await;
        assert_eq!(shown(&agent, look(&id)).await, "end");
        assert_eq!(shown(&agent, take(&id)).await, "end");
    }
}

/// The kernel still has them, and they count when they are taken.
#[tokio::test]
async fn a_look_counts_nowhere_and_takes_no_credit() {
    let agent = Agent::start().await;
    for ip in LOOPBACKS {
        let id = format!("line-{}", u8::from(ip.is_ipv6()));
        let mut peer = line(&agent, ip, &id, pb::DeliveryMode::Pull).await;
        let credit = Some(pb::Delivery { credit: Some(1), hash: Some(true), ..Default::default() });
        let request = pb::SetSocketDeliveryRequest { socket_id: id.clone(), delivery: credit, ..Default::default() };
        agent.set_socket_delivery(request).await.unwrap();
        peer.write(b"hola").await;
        let hash = agent.socket(&id).await.received_sha256;
        assert_eq!(shown(&agent, look(&id)).await, "0: hola");
        assert_eq!(shown(&agent, look(&id)).await, "0: hola");
        let socket = agent.socket(&id).await;
        assert_eq!((socket.bytes_read(), socket.queues.unwrap().receive_bytes()), (0, 4));
        assert_eq!((socket.delivery.unwrap().credit, socket.received_sha256), (Some(1), hash.clone()));
        assert_eq!(shown(&agent, take(&id)).await, "0: hola");
        let socket = agent.socket(&id).await;
        assert_eq!((socket.bytes_read(), socket.queues.unwrap().receive_bytes()), (4, 0));
        assert!(socket.delivery.unwrap().paused() && socket.received_sha256 != hash);
    }
}

#[tokio::test]
async fn a_look_waits_for_what_has_not_come() {
    let agent = Agent::start().await;
    for (ip, mode, id) in worlds() {
        let mut peer = line(&agent, ip, &id, mode).await;
        let ((), seen) = tokio::join!(peer.write(b"at last"), shown(&agent, look(&id)));
        assert_eq!(seen, "0: at last");
        if mode == pb::DeliveryMode::Pull {
            let all = pb::ReceiveSocketRequest { min_bytes: Some(12), ..look(&id) };
            let ((), seen) = tokio::join!(peer.write(b" more"), shown(&agent, all));
            assert_eq!(seen, "0: at last more");
        }
    }
}

/// The urgent byte is no part of the stream: who comes to it is told, and it is gone.
#[tokio::test]
async fn a_look_comes_to_the_urgent_byte_as_any_read_does() {
    let agent = Agent::start().await;
    for ip in LOOPBACKS {
        let id = format!("line-{}", u8::from(ip.is_ipv6()));
        let peer = line(&agent, ip, &id, pb::DeliveryMode::Pull).await;
        socket2::SockRef::from(&peer.0).send_out_of_band(b"!").unwrap();
        agent.until(&id, "the urgent byte", |socket| socket.readiness.unwrap_or_default().priority).await;
        socket2::SockRef::from(&peer.0).send(b"then").unwrap();
        assert_eq!(shown(&agent, look(&id)).await, "1: then");
        assert_eq!(agent.kinds(&id).await.split_off(3), ["urgent_received"]);
        assert_eq!(shown(&agent, take(&id)).await, "1: then");
    }
}

#[tokio::test]
async fn a_datagram_that_was_only_looked_at_can_still_be_taken_whole() {
    let agent = Agent::start().await;
    for (ip, mode, id) in worlds() {
        let spec = pb::UdpSocketSpec { delivery: delivery(mode), ..Default::default() };
        let local = agent.udp_with(&id, ip, spec).await;
        let peer = UdpPeer::bind(ip).await;
        for payload in ["question", "", "last"] {
            peer.send(&local, payload.as_bytes()).await;
        }
        let seen = agent.receive_socket(at_most(3, look(&id))).await.unwrap();
        assert_eq!((seen.size, seen.truncated, seen.source.unwrap().text), (Some(8), true, peer.text()));
        assert_eq!(shown(&agent, look(&id)).await, "0: question");
        assert_eq!(shown(&agent, take(&id)).await, "0: question");
        // One of no bytes is one, too.
        assert_eq!(shown(&agent, look(&id)).await, "0: ");
        assert_eq!(shown(&agent, take(&id)).await, "0: ");
        assert_eq!(shown(&agent, look(&id)).await, "0: last");
        if mode == pb::DeliveryMode::Pull {
            assert_eq!(agent.socket(&id).await.datagrams_received, 2);
        }
        assert_eq!(shown(&agent, take(&id)).await, "0: last");
        assert_eq!(now(&agent, look(&id)).await, "timed out");
    }
}

#[tokio::test]
async fn a_look_is_refused_as_a_read_is() {
    let agent = Agent::start().await;
    let direction = pb::Direction::SendOnly.into();
    agent.create_udp("mute", pb::UdpSocketSpec { direction, ..Default::default() }).await.unwrap();
    assert_eq!(now(&agent, look("mute")).await, "WRONG_DIRECTION");
    let spec = pb::UdpSocketSpec { delivery: delivery(pb::DeliveryMode::Count), ..Default::default() };
    agent.create_udp("counts", spec).await.unwrap();
    assert_eq!(now(&agent, look("counts")).await, "WRONG_STATE");
    agent.create_tcp("idle", pb::TcpSocketSpec::default()).await.unwrap();
    assert_eq!(now(&agent, look("idle")).await, "ENOTCONN");
    assert_eq!(now(&agent, look("nobody")).await, "SOCKET_NOT_FOUND");
}

/// What nobody has taken is held, however often it is looked at.
#[tokio::test]
async fn a_lossless_session_holds_what_was_only_looked_at() {
    let agent = Agent::start().await;
    let lab = pb::CreateSessionRequest { session_id: "lab".into(), ..Default::default() };
    agent.sessions().create_session(lab).await.unwrap();
    for ip in LOOPBACKS {
        let (listener, address) = TcpPeer::listen(ip).await;
        let role = Some(pb::tcp_socket_spec::Role::Connect(address.to_string()));
        let kind = Some(pb::create_socket_request::Kind::Tcp(pb::TcpSocketSpec { role, ..Default::default() }));
        let id = format!("line-{}", u8::from(ip.is_ipv6()));
        let request =
            pb::CreateSocketRequest { session_id: "lab".into(), socket_id: id.clone(), kind, ..Default::default() };
        agent.create_socket(request).await.unwrap();
        TcpPeer::accept(&listener).await.write(b"hola").await;
        let in_lab = |request| pb::ReceiveSocketRequest { session_id: "lab".into(), ..request };
        let held = async || {
            let request = pb::GetSessionRequest { session_id: "lab".into() };
            agent.sessions().get_session(request).await.unwrap().into_inner().session.unwrap().held_bytes
        };
        assert_eq!(shown(&agent, in_lab(look(&id))).await, "0: hola");
        assert_eq!(held().await, 4);
        assert_eq!(shown(&agent, in_lab(at_most(1, take(&id)))).await, "0: h");
        assert_eq!(held().await, 0);
        assert_eq!(shown(&agent, in_lab(look(&id))).await, "1: ola");
    }
}
