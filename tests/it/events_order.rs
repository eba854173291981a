//! The order of events: what the numbers promise, of one socket and of all of them together.

use std::collections::HashMap;

use farsock::wire::pb;
use tokio::task::JoinSet;

use crate::harness::{Agent, LOOPBACKS, TcpPeer, UdpPeer, error_name, filter, millis, nanos};

fn time(event: &pb::Event) -> i64 {
    let time = event.time.as_ref().unwrap();
    nanos(time.seconds, time.nanos)
}

/// Numbers from 1 without holes, times that never run backwards, and of each socket one `created` first and one `closed` last.
fn check_whole_log(events: &[pb::Event]) {
    let mut of_sockets: HashMap<u64, Vec<&str>> = HashMap::new();
    let mut last_time = i64::MIN;
    for (event, expected_seq) in events.iter().zip(1..) {
        assert_eq!(event.event_seq, expected_seq);
        assert!(time(event) >= last_time, "{event:?} is before the one before it");
        last_time = time(event);
        if event.socket_uid != 0 {
            of_sockets.entry(event.socket_uid).or_default().push(&event.kind);
        }
    }
    for (uid, kinds) in of_sockets {
        assert_eq!((kinds.first(), kinds.last()), (Some(&"created"), Some(&"closed")), "{uid}: {kinds:?}");
        let count = |wanted: &str| kinds.iter().filter(|kind| **kind == wanted).count();
        assert_eq!((count("created"), count("closed")), (1, 1), "{uid}: {kinds:?}");
    }
}

/// One life of a UDP socket, and one of a TCP connection with both of its ends on this agent.
async fn live(agent: &Agent, n: usize) {
    let ip = LOOPBACKS[n % 2];
    let (asker, server, door, line) = (format!("a-{n}"), format!("b-{n}"), format!("d-{n}"), format!("l-{n}"));
    let address = agent.udp(&server, ip).await;
    agent.udp(&asker, ip).await;
    for round in 0..5 {
        agent.send(&asker, &address, &format!("round {round}")).await;
        agent.receive(&server).await.unwrap();
    }
    let bind = if ip.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let address = agent.listen(&door, bind).await;
    agent.connect(&line, &address).await;
    agent.write(&line, "hola").await;
    agent.receive(&format!("{door}.1")).await.unwrap();
    if n.is_multiple_of(3) {
        agent.abort(&line).await;
        agent.event(&format!("{door}.1"), "closed").await;
    } else {
        agent.close(&line).await;
        agent.event(&format!("{door}.1"), "peer_closed").await;
        agent.close(&format!("{door}.1")).await;
    }
    for id in [asker, server, door] {
        agent.close(&id).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn numbers_have_no_holes_and_follow_time_whatever_happens_at_once() {
    let agent = std::sync::Arc::new(Agent::start().await);
    let mut lives = JoinSet::new();
    for n in 0..24 {
        let agent = std::sync::Arc::clone(&agent);
        lives.spawn(async move { live(&agent, n).await });
    }
    while let Some(lived) = lives.join_next().await {
        lived.unwrap();
    }
    let events = agent.all_events("").await;
    assert!(events.len() > 24 * 20, "{}", events.len());
    check_whole_log(&events);
}

#[tokio::test]
async fn what_a_connection_goes_through_stands_in_its_order() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let (listener, address) = TcpPeer::listen(ip).await;
        agent.connect("line", &address.to_string()).await;
        let mut peer = TcpPeer::accept(&listener).await;
        peer.write(b"hola").await;
        agent.event("line", "received").await;
        peer.write(b"adios").await;
        peer.shut_down().await;
        agent.event("line", "peer_closed").await;
        agent.close("line").await;
        let kinds = agent.kinds("line").await;
        let received = kinds.iter().filter(|kind| *kind == "received").count();
        assert!((1..=2).contains(&received), "{kinds:?}");
        let mut expected = vec!["created", "connect_started", "connected"];
        expected.extend(vec!["received"; received]);
        expected.extend(["peer_closed", "closed"]);
        assert_eq!(kinds, expected);
        check_whole_log(&agent.all_events("").await);
    }
}

#[tokio::test]
async fn an_accepted_connection_is_created_then_announced() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let bind = if ip.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let address = agent.listen("door", bind).await;
        let _peer = TcpPeer::connect(&address).await;
        let accepted = agent.event("door", "accepted").await;
        let created = agent.event("door.1", "created").await;
        assert_eq!(created.event_seq + 1, accepted.event_seq);
    }
}

/// One cause, one failure event, and nothing between it and the end.
#[tokio::test]
async fn a_failure_stands_right_before_its_closed() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let (listener, address) = TcpPeer::listen(ip).await;
        agent.connect("line", &address.to_string()).await;
        TcpPeer::accept(&listener).await.abort();
        let closed = agent.event("line", "closed").await;
        let reset = agent.event("line", "peer_reset").await;
        assert_eq!(reset.event_seq + 1, closed.event_seq);
        assert_eq!(agent.kinds("line").await, ["created", "connect_started", "connected", "peer_reset", "closed"]);
    }
}

/// Whoever has an answer finds in the log what led to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reply_never_comes_before_its_events() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        let there = async |report: Option<pb::Report>, id: &str, kind: &str| {
            let report = report.unwrap();
            assert!(report.first_event_seq > 0 && report.first_event_seq <= report.last_event_seq, "{report:?}");
            let request = pb::WaitEventRequest {
                after_event_seq: Some(report.first_event_seq - 1),
                filter: filter(&[id], &[kind]),
                timeout: millis(0),
                ..Default::default()
            };
            let event = agent.wait(request).await.unwrap().event.expect("it is there already");
            assert!(event.event_seq <= report.last_event_seq, "{event:?} {report:?}");
            assert_eq!(event.request_id, report.request_id);
        };
        for n in 0..20 {
            let id = format!("s-{n}");
            let spec = pb::UdpSocketSpec { connect: peer.text(), ..Default::default() };
            let created = agent.create_udp(&id, spec).await.unwrap();
            assert_eq!(error_name(created.report.as_ref()), "");
            there(created.report.clone(), &id, "created").await;
            there(created.report, &id, "connected").await;
            there(agent.send(&id, "", "hola").await.report, &id, "sent").await;
            there(agent.disconnect(&id).await.report, &id, "disconnected").await;
            there(agent.close(&id).await.report, &id, "closed").await;
        }
    }
}

/// The names of sockets come back, their numbers never do.
#[tokio::test]
async fn a_name_may_be_used_again_but_not_a_number() {
    let agent = Agent::start().await;
    let mut uids = Vec::new();
    for _ in 0..5 {
        agent.udp("again", LOOPBACKS[0]).await;
        uids.push(agent.socket("again").await.socket_uid);
        agent.close("again").await;
    }
    assert!(uids.windows(2).all(|pair| pair[0] < pair[1]), "{uids:?}");
    let events = agent.all_events("").await;
    assert!(events.iter().all(|event| event.socket_id == "again" && uids.contains(&event.socket_uid)));
    check_whole_log(&events);
}
