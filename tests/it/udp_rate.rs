//! Datagrams at a rate: each has its time, whatever was late before it.

use std::net::IpAddr;

use farsock::wire::pb;

use crate::harness::tcp::{Reported, between, detached, millis, timeout};
use crate::harness::{Agent, LOOPBACKS, UdpPeer, datagram};

fn at_a_rate(id: &str, to: &str, count: usize, interval: i64) -> pb::SendDatagramsRequest {
    let datagrams = vec![datagram(to, "tick"); count];
    pb::SendDatagramsRequest { socket_id: id.into(), datagrams, interval: millis(interval), ..Default::default() }
}

async fn sent(agent: &Agent, id: &str) -> Vec<pb::Event> {
    let events = agent.all_events("").await;
    events.into_iter().filter(|event| event.socket_id == id && event.kind == "sent").collect()
}

async fn socket(agent: &Agent, ip: IpAddr, id: &str) -> UdpPeer {
    agent.udp(id, ip).await;
    UdpPeer::bind(ip).await
}

#[tokio::test]
async fn no_datagram_leaves_before_its_time_and_all_arrive_in_order() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("s-{at}");
        let peer = socket(&agent, ip, &id).await;
        let mut request = at_a_rate(&id, &peer.text(), 0, 20);
        request.datagrams = (0..5).map(|n| datagram(&peer.text(), &n.to_string())).collect();
        let answer = agent.send_datagrams(request).await.unwrap();
        assert_eq!((answer.went().as_str(), answer.datagrams_sent()), ("ok", 5));
        for n in 0..5 {
            assert_eq!(peer.receive_text().await.0, n.to_string());
        }
        let events = sent(&agent, &id).await;
        for (n, event) in (0..).zip(&events) {
            // The clock of events and that of timers are two, and the latter counts whole milliseconds.
            assert!(between(&events[0], event) >= n * 20 - 1, "{n}: {} ms", between(&events[0], event));
        }
    }
}

/// The second one is never due: it waits until it is cancelled, out of time, or its socket is closed; and others wait behind it.
#[tokio::test]
async fn what_is_not_due_yet_ends_as_everything_does_that_waits() {
    const NEVER: i64 = 3_600_000;
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("s-{at}");
        let peer = socket(&agent, ip, &id).await;
        let slow = |call| pb::SendDatagramsRequest { call, ..at_a_rate(&id, &peer.text(), 3, NEVER) };

        let answer = agent.send_datagrams(slow(timeout(30))).await.unwrap();
        assert_eq!((answer.went().as_str(), answer.datagrams_sent()), ("timed out", 1));

        let name = format!("slow-{at}");
        agent.send_datagrams(slow(detached(&name))).await.unwrap();
        let behind =
            pb::SendDatagramsRequest { call: detached(&format!("behind-{at}")), ..at_a_rate(&id, &peer.text(), 1, 0) };
        agent.send_datagrams(behind).await.unwrap();
        agent.until(&id, "the first of three", |socket| socket.datagrams_sent == 2).await;
        let canceled = agent.cancel_call(&name).await.unwrap();
        assert!(canceled.response.is_some());
        agent.until(&id, "the one behind it", |socket| socket.datagrams_sent == 3).await;

        let name = format!("last-{at}");
        agent.send_datagrams(slow(detached(&name))).await.unwrap();
        agent.until(&id, "one more", |socket| socket.datagrams_sent == 4).await;
        let closed = agent.close(&id).await.socket.unwrap();
        assert_eq!(closed.datagrams_sent, 4);
        assert_eq!(sent(&agent, &id).await.len(), 4);
    }
}
