//! What a socket receives, compared with a pattern: streams and datagrams, whatever the delivery.

use std::net::IpAddr;

use farsock::wire::pb;

use crate::harness::tcp::{any_port, pattern_bytes};
use crate::harness::{Agent, LOOPBACKS, TcpPeer, UdpPeer};

/// SplitMix64 from this seed, starting over after so many bytes; zero: never.
fn seeded(seed: u64, size: u32) -> Option<pb::Pattern> {
    Some(pb::Pattern { size, start: 0, fill: Some(pb::pattern::Fill::Seed(seed)) })
}

async fn line(agent: &Agent, ip: IpAddr, id: &str, spec: pb::TcpSocketSpec) -> TcpPeer {
    let (listener, address) = TcpPeer::listen(ip).await;
    agent.connect_with(id, &address.to_string(), spec).await;
    TcpPeer::accept(&listener).await
}

/// What is told of a socket: verified and wrong bytes, and where the first one is.
async fn seen(agent: &Agent, id: &str) -> (u64, u64, Option<u64>) {
    let seen = agent.socket(id).await.verification.unwrap();
    (seen.verified_bytes(), seen.wrong_bytes(), seen.first_difference.map(|first| first.offset()))
}

/// Offset, expected and actual byte of each `pattern_broken`.
async fn broken(agent: &Agent, id: &str) -> Vec<(u64, Option<u32>, Option<u32>)> {
    let events = agent.events_of(id, "pattern_broken").await.into_iter().map(|body| match body {
        pb::event::Body::PatternBroken(found) => (found.offset.unwrap(), found.expected, found.actual),
        other => panic!("{other:?}"),
    });
    events.collect()
}

const DELIVERIES: [pb::DeliveryMode; 2] = [pb::DeliveryMode::Events, pb::DeliveryMode::Count];

#[tokio::test]
async fn a_stream_is_compared_byte_by_byte_and_the_first_wrong_one_is_told() {
    const SIZE: usize = 300_000;
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        for mode in DELIVERIES {
            let id = format!("line-{at}-{}", mode as i32);
            let delivery = Some(pb::Delivery { mode: mode.into(), ..Default::default() });
            let spec = pb::TcpSocketSpec { delivery, verify: seeded(7, 0), ..Default::default() };
            let mut peer = line(&agent, ip, &id, spec).await;
            let bytes = pattern_bytes(SIZE + 8, 7);
            peer.write(&bytes[..SIZE]).await;
            agent.until(&id, "all bytes", |socket| socket.bytes_read() == SIZE as u64).await;
            assert_eq!(seen(&agent, &id).await, (SIZE as u64, 0, None));
            assert_eq!(broken(&agent, &id).await, []);

            let mut last = bytes[SIZE..].to_vec();
            (last[3], last[5]) = (!last[3], !last[5]);
            peer.write(&last).await;
            agent.until(&id, "eight more", |socket| socket.bytes_read() == SIZE as u64 + 8).await;
            let first = SIZE as u64 + 3;
            assert_eq!(seen(&agent, &id).await, (SIZE as u64 + 6, 2, Some(first)));
            let told = (first, Some(bytes[SIZE + 3].into()), Some(last[3].into()));
            // `pattern_broken` follows what it is about, and what was seen stays after the end.
            agent.close(&id).await;
            assert_eq!(broken(&agent, &id).await, [told]);
            assert_eq!(seen(&agent, &id).await.2, Some(first));
        }
    }
}

/// One agent sends a stream in parts, each with its place in it; the listener of another has its connections compare.
#[tokio::test]
async fn a_pattern_sent_in_parts_is_verified_on_the_far_side() {
    const PARTS: [u32; 4] = [1000, 65_537, 9, 1 << 18];
    let (near, far) = (Agent::start().await, Agent::start().await);
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let (door, id) = (format!("door-{at}"), format!("line-{at}"));
        let repeat = |size, start| pb::Pattern { size, start, fill: Some(pb::pattern::Fill::Repeat("señal ".into())) };
        let spec = pb::TcpSocketSpec { verify: Some(repeat(0, 0)), ..Default::default() };
        let address = far.listen_with(&door, &any_port(ip), spec).await;
        near.connect(&id, &address).await;
        let mut sent = 0;
        for size in PARTS {
            let content = Some(pb::payload::Content::Pattern(repeat(size, sent)));
            let payload = Some(pb::Payload { content, ..Default::default() });
            let write = pb::WriteSocketRequest { socket_id: id.clone(), payload, ..Default::default() };
            near.write_socket(write).await.unwrap();
            sent += u64::from(size);
        }
        let child = format!("{door}.1");
        far.until(&child, "all bytes", |socket| socket.bytes_read() == sent).await;
        assert_eq!(seen(&far, &child).await, (sent, 0, None));
        assert_eq!(far.socket(&door).await.verification, None, "a listener receives nothing");
    }
}

#[tokio::test]
async fn a_pattern_with_a_size_is_expected_again_and_again() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id, pb::TcpSocketSpec { verify: seeded(1, 5), ..Default::default() }).await;
        let message = pattern_bytes(5, 1);
        peer.write(&[&message[..], &message, &message[..4], b"?"].concat()).await;
        agent.until(&id, "all bytes", |socket| socket.bytes_read() == 15).await;
        let wrong = u64::from(message[4] != b'?');
        assert_eq!(seen(&agent, &id).await, (15 - wrong, wrong, (wrong > 0).then_some(14)));
    }
}

#[tokio::test]
async fn what_reads_take_is_compared_and_what_they_only_look_at_is_not() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let delivery = Some(pb::Delivery { mode: pb::DeliveryMode::Pull.into(), ..Default::default() });
        let spec = pb::TcpSocketSpec { delivery, verify: seeded(1, 0), ..Default::default() };
        let mut peer = line(&agent, ip, &id, spec).await;
        peer.write(&pattern_bytes(100, 1)).await;
        agent.until(&id, "the bytes", |socket| socket.queues.unwrap().receive_bytes() == 100).await;
        let take = |peek, max| pb::ReceiveSocketRequest {
            socket_id: id.clone(),
            max_bytes: Some(max),
            peek,
            ..Default::default()
        };
        agent.receive_socket(take(true, 50)).await.unwrap();
        assert_eq!(seen(&agent, &id).await, (0, 0, None));
        agent.receive_socket(take(false, 30)).await.unwrap();
        agent.receive_socket(take(false, 70)).await.unwrap();
        assert_eq!(seen(&agent, &id).await, (100, 0, None));
    }
}

#[tokio::test]
async fn each_datagram_is_compared_from_its_start() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        for mode in DELIVERIES {
            let id = format!("udp-{at}-{}", mode as i32);
            let delivery = Some(pb::Delivery { mode: mode.into(), ..Default::default() });
            let spec = pb::UdpSocketSpec { delivery, verify: seeded(7, 100), ..Default::default() };
            let address = agent.udp_with(&id, ip, spec).await;
            let peer = UdpPeer::bind(ip).await;
            let good = pattern_bytes(101, 7);
            for datagram in [&good[..100], &good[..100], &good[..99], &good, b""] {
                peer.send(&address, datagram).await;
            }
            agent.until(&id, "five datagrams", |socket| socket.datagrams_received == 5).await;
            agent.close(&id).await;
            let seen = agent.socket(&id).await.verification.unwrap();
            assert_eq!((seen.verified_bytes(), seen.wrong_bytes(), seen.wrong_datagrams()), (399, 1, 3));
            assert_eq!(broken(&agent, &id).await, [(99, Some(good[99].into()), None)]);
        }
    }
}

#[tokio::test]
async fn nothing_to_repeat_is_nothing_to_compare_with() {
    let agent = Agent::start().await;
    let verify = Some(pb::Pattern { size: 0, start: 0, fill: Some(pb::pattern::Fill::Repeat(String::new())) });
    let tcp = agent.create_tcp("a", pb::TcpSocketSpec { verify: verify.clone(), ..Default::default() }).await;
    let udp = agent.create_udp("b", pb::UdpSocketSpec { verify, ..Default::default() }).await;
    for (refused, field) in [(tcp.unwrap_err(), "tcp.verify"), (udp.unwrap_err(), "udp.verify")] {
        assert_eq!(refused.reason, "INVALID_FIELD");
        assert!(refused.message.contains(field), "{refused:?}");
    }
    let plain = agent.create_tcp("c", pb::TcpSocketSpec::default()).await.unwrap();
    assert_eq!(plain.socket.unwrap().verification, None);
}
