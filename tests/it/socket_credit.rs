//! Readers that take so much and no more: credit, and time between one payload and the next.

use std::net::IpAddr;

use farsock::wire::pb;

use crate::harness::tcp::{any_port, between, millis, timeout, went};
use crate::harness::{Agent, LOOPBACKS, TcpPeer};

fn credited(credit: u32) -> Option<pb::Delivery> {
    Some(pb::Delivery { credit: Some(credit), ..Default::default() })
}

async fn line(agent: &Agent, ip: IpAddr, id: &str, delivery: Option<pb::Delivery>) -> TcpPeer {
    let (listener, address) = TcpPeer::listen(ip).await;
    agent.connect_with(id, &address.to_string(), pb::TcpSocketSpec { delivery, ..Default::default() }).await;
    TcpPeer::accept(&listener).await
}

async fn set(agent: &Agent, id: &str, delivery: Option<pb::Delivery>) {
    let request = pb::SetSocketDeliveryRequest { socket_id: id.into(), delivery, ..Default::default() };
    assert_eq!(went(&agent.set_socket_delivery(request).await), "ok");
}

async fn delivery(agent: &Agent, id: &str) -> (bool, Option<u32>) {
    let delivery = agent.socket(id).await.delivery.unwrap();
    (delivery.paused(), delivery.credit)
}

async fn pauses(agent: &Agent, id: &str) -> Vec<pb::ReadPauseReason> {
    let paused = |body| match body {
        pb::event::Body::ReadPaused(paused) => paused.reason(),
        other => panic!("{other:?}"),
    };
    agent.events_of(id, "read_paused").await.into_iter().map(paused).collect()
}

#[tokio::test]
async fn reading_pauses_when_its_credit_is_used_up_and_goes_on_with_more() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let once = pb::Delivery { credit: Some(2), read_size: Some(3), ..Default::default() };
        let mut peer = line(&agent, ip, &id, Some(once)).await;
        peer.write(b"aaabbbcccddd").await;
        agent.event(&id, "read_paused").await;
        agent.until(&id, "the rest", |socket| socket.queues.unwrap().receive_bytes() == 6).await;
        assert_eq!(delivery(&agent, &id).await, (true, None));
        assert_eq!(agent.receive_text(&id).await, "aaa");
        assert_eq!(agent.receive_text(&id).await, "bbb");

        set(&agent, &id, credited(1)).await;
        assert_eq!(agent.receive_text(&id).await, "ccc");
        agent.until(&id, "the rest", |socket| socket.queues.unwrap().receive_bytes() == 3).await;

        // Without an end: what is left of the credit goes, and the end of the stream has cost nothing.
        set(&agent, &id, Some(pb::Delivery { paused: Some(false), ..Default::default() })).await;
        peer.shut_down().await;
        agent.event(&id, "peer_closed").await;
        let kinds = agent.kinds(&id).await.split_off(3);
        let (twice, once) = (["received", "received", "read_paused"], ["read_resumed", "received", "read_paused"]);
        assert_eq!(kinds, [&twice[..], &once, &["read_resumed", "received", "peer_closed"]].concat());
        assert_eq!(pauses(&agent, &id).await, [pb::ReadPauseReason::Credit; 2]);
    }
}

#[tokio::test]
async fn connections_take_their_credit_from_their_listener() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let door = format!("door-{at}");
        let spec = pb::TcpSocketSpec { delivery: credited(1), ..Default::default() };
        let address = agent.listen_with(&door, &any_port(ip), spec).await;
        for child in [format!("{door}.1"), format!("{door}.2")] {
            let mut peer = TcpPeer::connect(&address).await;
            agent.event(&child, "created").await;
            assert_eq!(delivery(&agent, &child).await, (false, Some(1)));
            peer.write(b"hola").await;
            agent.event(&child, "read_paused").await;
            assert_eq!(agent.kinds(&child).await, ["created", "received", "read_paused"]);
        }
    }
}

#[tokio::test]
async fn every_mode_takes_credit() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let counted = format!("counted-{at}");
        let mode = |mode: pb::DeliveryMode| {
            Some(pb::Delivery { mode: mode.into(), credit: Some(1), read_size: Some(4), ..Default::default() })
        };
        let mut peer = line(&agent, ip, &counted, mode(pb::DeliveryMode::Count)).await;
        peer.write(b"hola").await;
        agent.event(&counted, "read_paused").await;
        assert_eq!(agent.socket(&counted).await.bytes_read(), 4);
        peer.write(b"hola").await;
        agent.until(&counted, "unread bytes", |socket| socket.queues.unwrap().receive_bytes() == 4).await;

        // ReceiveSocket takes it, too, and then waits as it does for a paused socket.
        let pulled = format!("pulled-{at}");
        let mut peer = line(&agent, ip, &pulled, mode(pb::DeliveryMode::Pull)).await;
        peer.write(b"holahola").await;
        assert_eq!(agent.receive_text(&pulled).await, "hola");
        let request = pb::ReceiveSocketRequest { socket_id: pulled.clone(), call: timeout(20), ..Default::default() };
        assert_eq!(went(&agent.receive_socket(request).await), "timed out");
        set(&agent, &pulled, credited(1)).await;
        assert_eq!(agent.receive_text(&pulled).await, "hola");
    }
}

#[tokio::test]
async fn a_datagram_takes_one_whatever_its_size() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("mailbox-{at}");
        let spec = pb::UdpSocketSpec { delivery: credited(2), ..Default::default() };
        let address = agent.udp_with(&id, ip, spec).await;
        let peer = tokio::net::UdpSocket::bind((ip, 0)).await.unwrap();
        for datagram in [&b""[..], b"two", b"three"] {
            peer.send_to(datagram, &address).await.unwrap();
        }
        agent.event(&id, "read_paused").await;
        assert_eq!(
            agent.kinds(&id).await,
            ["created", "bound", "datagram_received", "datagram_received", "read_paused"]
        );
        set(&agent, &id, credited(1)).await;
        agent.event_after(&id, "read_paused", 5).await;
        assert_eq!(agent.socket(&id).await.datagrams_received, 3);
    }
}

#[tokio::test]
async fn a_slow_reader_takes_its_time_after_each_payload() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let slow = pb::Delivery { read_size: Some(2), read_interval: millis(40), ..Default::default() };
        let mut peer = line(&agent, ip, &id, Some(slow)).await;
        peer.write(b"aabbcc").await;
        agent.until(&id, "all bytes", |socket| socket.bytes_read() == 6).await;
        let times = agent.listed(&id, "received").await;
        assert_eq!(times.len(), 3);
        for pair in times.windows(2) {
            assert!(between(&pair[0], &pair[1]) >= 40, "{pair:?}");
        }

        // A change counts at once: nobody waits for what is left of an hour.
        let hour = pb::Delivery { read_interval: millis(3_600_000), ..Default::default() };
        set(&agent, &id, Some(hour)).await;
        peer.write(b"dd").await;
        agent.until(&id, "two bytes more", |socket| socket.bytes_read() == 8).await;
        peer.write(b"ee").await;
        agent.until(&id, "unread bytes", |socket| socket.queues.unwrap().receive_bytes() == 2).await;
        set(&agent, &id, Some(pb::Delivery { read_interval: millis(0), ..Default::default() })).await;
        agent.until(&id, "the last bytes", |socket| socket.bytes_read() == 10).await;
    }
}

#[tokio::test]
async fn datagrams_can_be_read_slowly_too() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("mailbox-{at}");
        let slow = pb::Delivery { read_interval: millis(40), ..Default::default() };
        let spec = pb::UdpSocketSpec { delivery: Some(slow), ..Default::default() };
        let address = agent.udp_with(&id, ip, spec).await;
        let peer = tokio::net::UdpSocket::bind((ip, 0)).await.unwrap();
        for _ in 0..2 {
            peer.send_to(b"hola", &address).await.unwrap();
        }
        agent.until(&id, "two datagrams", |socket| socket.datagrams_received == 2).await;
        let times = agent.listed(&id, "datagram_received").await;
        assert!(between(&times[0], &times[1]) >= 40, "{times:?}");
    }
}

#[tokio::test]
async fn credit_that_makes_no_sense_is_refused() {
    let agent = Agent::start().await;
    for (delivery, problem) in [
        (pb::Delivery { credit: Some(0), ..Default::default() }, "it goes from 1 to 4294967295, and this is 0"),
        (
            pb::Delivery { credit: Some(1), paused: Some(true), ..Default::default() },
            "a paused socket reads nothing: leave one of them out",
        ),
    ] {
        let tcp = pb::TcpSocketSpec { delivery: Some(delivery), ..Default::default() };
        let kind = Some(pb::create_socket_request::Kind::Tcp(tcp));
        let refused = agent.create_socket(pb::CreateSocketRequest { kind, ..Default::default() }).await.unwrap_err();
        assert!(refused.message.contains(&format!("tcp.delivery.credit: {problem}")), "{}", refused.message);
    }
}
