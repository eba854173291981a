//! Datagrams that the kernel drops: each of them is counted, once, in its place where the kernel knows it, and at the latest at the close.

use std::net::{IpAddr, UdpSocket};

use farsock::wire::pb;
use pb::event::Body;

use crate::harness::{Agent, LOOPBACKS, millis, patient, within};

/// How many datagrams come at once: far more than the receive buffer holds.
const BURST: u64 = 200;

/// A receive buffer as small as the kernel makes it: a few datagrams.
fn tiny(mode: pb::DeliveryMode, paused: bool) -> pb::UdpSocketSpec {
    let value = Some(pb::socket_option::Value::Number(0));
    pb::UdpSocketSpec {
        options: vec![pb::SocketOption { name: "SO_RCVBUF".into(), value }],
        delivery: Some(pb::Delivery { mode: mode.into(), paused: Some(paused), ..Default::default() }),
        ..Default::default()
    }
}

/// Sends without letting anybody else run meanwhile, the agent included.
fn burst(from: &UdpSocket, to: &str, count: u64) {
    for number in 0..count {
        from.send_to(number.to_string().as_bytes(), to).unwrap();
    }
}

fn sender(ip: IpAddr) -> UdpSocket {
    UdpSocket::bind((ip, 0)).unwrap()
}

async fn set_paused(agent: &Agent, paused: bool) {
    let delivery = Some(pb::Delivery { paused: Some(paused), ..Default::default() });
    let request = pb::SetSocketDeliveryRequest { socket_id: "s".into(), delivery, ..Default::default() };
    agent.sockets().set_socket_delivery(request).await.unwrap();
}

/// Takes a datagram; none when none is there.
async fn receive_now(agent: &Agent) -> Option<String> {
    let request =
        pb::ReceiveSocketRequest { socket_id: "s".into(), call: Some(patient(millis(0))), ..Default::default() };
    match agent.sockets().receive_socket(request).await.unwrap().into_inner().payload?.content? {
        pb::payload::Content::Text(text) => Some(text),
        other => panic!("no text: {other:?}"),
    }
}

/// What the events have told: count and total of each.
async fn told(agent: &Agent) -> Vec<(u64, u64)> {
    let events = agent.all_events("").await.into_iter();
    events
        .filter_map(|event| match event.body {
            Some(Body::DatagramsDropped(dropped)) => Some((dropped.count, dropped.total)),
            _ => None,
        })
        .collect()
}

/// The events agree with each other, and with this.
async fn assert_told(agent: &Agent, dropped: u64) {
    let mut sum = 0;
    for (count, total) in told(agent).await {
        assert!(count > 0);
        sum += count;
        assert_eq!(sum, total);
    }
    assert_eq!(sum, dropped);
}

/// Waits until every datagram is accounted for; never are there more than were sent.
async fn accounted(agent: &Agent, sent: u64) -> pb::Socket {
    let all = async {
        loop {
            let socket = agent.socket("s").await;
            let known = socket.datagrams_received + socket.datagrams_dropped;
            assert!(known <= sent, "{socket:?}");
            if known == sent {
                return socket;
            }
        }
    };
    within("every datagram", all).await
}

/// What SO_RCVBUF limits is what the kernel keeps, and that is more than the bytes of the datagrams.
#[tokio::test]
async fn the_memory_of_a_socket_is_told_where_it_is_asked_for() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let local = agent.udp_with("s", ip, tiny(pb::DeliveryMode::Pull, false)).await;
        let ask = async |memory: bool| {
            let request = pb::GetSocketRequest { socket_id: "s".into(), memory, ..Default::default() };
            agent.sockets().get_socket(request).await.unwrap().into_inner().memory
        };
        assert_eq!(ask(false).await, None);
        let empty = ask(true).await.unwrap();
        assert_eq!((empty.received, empty.queued, empty.dropped), (0, 0, 0), "{empty:?}");
        assert!(empty.receive_limit > 0 && empty.send_limit > 0, "{empty:?}");
        burst(&sender(ip), &local, 1);
        let one = ask(true).await.unwrap();
        assert!(one.received > 100, "{one:?}");
        burst(&sender(ip), &local, BURST);
        let full = ask(true).await.unwrap();
        assert!(full.received > one.received && full.dropped > 0, "{full:?}");
        assert_eq!(u64::from(full.dropped), agent.socket("s").await.datagrams_dropped);
        agent.close("s").await;
        assert_eq!(ask(true).await, None);
    }
}

#[tokio::test]
async fn what_is_delivered_and_what_is_dropped_is_what_was_sent() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let local = agent.udp_with("s", ip, tiny(pb::DeliveryMode::Events, false)).await;
        let from = sender(ip);
        for round in 1..=30 {
            burst(&from, &local, BURST);
            let socket = accounted(&agent, round * BURST).await;
            assert!(socket.datagrams_dropped > 0, "the buffer is too small for all of them");
            assert_told(&agent, socket.datagrams_dropped).await;
        }
        let dropped = agent.socket("s").await.datagrams_dropped;
        let closed = agent.close("s").await.socket.unwrap();
        assert_eq!((closed.datagrams_dropped, closed.closed.unwrap().datagrams_dropped), (dropped, dropped));
    }
}

#[tokio::test]
async fn a_paused_socket_tells_drops_when_it_is_asked_and_goes_on_exactly() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let local = agent.udp_with("s", ip, tiny(pb::DeliveryMode::Events, true)).await;
        let from = sender(ip);
        for round in 1..=30 {
            burst(&from, &local, BURST);
            let paused = agent.socket("s").await;
            assert_told(&agent, paused.datagrams_dropped).await;
            set_paused(&agent, false).await;
            let read = accounted(&agent, round * BURST).await;
            assert_eq!(read.datagrams_dropped, paused.datagrams_dropped, "nothing was dropped while it was read");
            set_paused(&agent, true).await;
        }
        assert_told(&agent, agent.socket("s").await.datagrams_dropped).await;
    }
}

#[tokio::test]
async fn whoever_pulls_gets_what_was_not_dropped() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let local = agent.udp_with("s", ip, tiny(pb::DeliveryMode::Pull, false)).await;
        let from = sender(ip);
        for round in 1..=30 {
            burst(&from, &local, BURST);
            let mut number = 0;
            while let Some(text) = receive_now(&agent).await {
                assert_eq!(text, number.to_string(), "what is dropped is what comes last");
                number += 1;
            }
            let socket = agent.socket("s").await;
            assert_eq!(socket.datagrams_received + socket.datagrams_dropped, round * BURST);
            assert_told(&agent, socket.datagrams_dropped).await;
        }
    }
}

/// Nobody asks, and nothing comes after them: they are told once everything has been read.
#[tokio::test]
async fn the_last_datagrams_are_missed_as_soon_as_the_others_have_been_read() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let local = agent.udp_with("s", ip, tiny(pb::DeliveryMode::Events, false)).await;
        burst(&sender(ip), &local, BURST);
        let event = agent.event("s", "datagrams_dropped").await;
        let Some(Body::DatagramsDropped(dropped)) = event.body else { panic!("{event:?}") };
        let kinds = agent.kinds("s").await;
        let received = kinds.iter().filter(|kind| *kind == "datagram_received").count() as u64;
        assert_eq!((dropped.count + received, dropped.total), (BURST, dropped.count));
        assert_eq!(kinds.last().map(String::as_str), Some("datagrams_dropped"));
        assert_eq!(event.request_id, "", "nobody has asked for it");
    }
}

/// A datagram that was queued after a drop brings the count along: the event stands right before it.
#[tokio::test]
async fn a_drop_is_told_in_its_place() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let local = agent.udp_with("s", ip, tiny(pb::DeliveryMode::Pull, false)).await;
        let from = sender(ip);
        burst(&from, &local, BURST);
        assert_eq!(receive_now(&agent).await.as_deref(), Some("0"));
        from.send_to(b"late", &local).unwrap();
        let mut delivered = 1;
        loop {
            assert_eq!(told(&agent).await, []);
            if receive_now(&agent).await.unwrap() == "late" {
                break;
            }
            delivered += 1;
        }
        let dropped = BURST - delivered;
        assert_eq!(told(&agent).await, [(dropped, dropped)]);
    }
}

#[tokio::test]
async fn drops_that_nobody_asked_about_are_told_at_the_close() {
    for ip in LOOPBACKS {
        for spec in [tiny(pb::DeliveryMode::Pull, false), tiny(pb::DeliveryMode::Events, true)] {
            let agent = Agent::start().await;
            let local = agent.udp_with("s", ip, spec).await;
            burst(&sender(ip), &local, BURST);
            let closed = agent.close("s").await.socket.unwrap().closed.unwrap();
            assert!(closed.datagrams_dropped > 0 && closed.datagrams_dropped < BURST && closed.unread_bytes > 0);
            let kinds = agent.kinds("s").await;
            assert_eq!(kinds[kinds.len() - 2..], ["datagrams_dropped", "closed"]);
            assert_told(&agent, closed.datagrams_dropped).await;
        }
    }
}

/// Asking and closing at the same time neither doubles a count nor tells anything after the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_ask_at_once_are_told_the_same() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let local = agent.udp_with("s", ip, tiny(pb::DeliveryMode::Events, true)).await;
        let from = sender(ip);
        let ask = || async {
            for _ in 0..20 {
                let request = pb::ListSocketsRequest { show_closed: true, ..Default::default() };
                agent.sockets().list_sockets(request).await.unwrap();
            }
        };
        let send_and_close = async {
            for _ in 0..10 {
                burst(&from, &local, BURST);
                agent.socket("s").await;
            }
            burst(&from, &local, BURST);
            agent.close("s").await
        };
        let (closed, (), (), ()) = tokio::join!(send_and_close, ask(), ask(), ask());
        let closed = closed.socket.unwrap().closed.unwrap();
        assert_told(&agent, closed.datagrams_dropped).await;
        assert_eq!(agent.kinds("s").await.last().map(String::as_str), Some("closed"));
    }
}

/// Without SO_RXQ_OVFL only the place of a drop is not known.
#[tokio::test]
async fn the_count_is_exact_without_the_option() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let mut spec = tiny(pb::DeliveryMode::Events, false);
        let value = Some(pb::socket_option::Value::Enabled(false));
        spec.options.push(pb::SocketOption { name: "SO_RXQ_OVFL".into(), value });
        let local = agent.udp_with("s", ip, spec).await;
        let from = sender(ip);
        for round in 1..=5 {
            burst(&from, &local, BURST);
            accounted(&agent, round * BURST).await;
        }
    }
}
