//! A log that is full: what goes, what stays, and that nobody is left unaware of it.

use std::net::IpAddr;

use farsock::agent::AgentConfig;
use farsock::model::limits::Limits;
use farsock::wire::pb;
use farsock::wire::pb::watch_events_response::Frame;

use crate::harness::{Agent, LOOPBACKS, UdpPeer, filter, millis};

async fn agent(limits: Limits) -> Agent {
    Agent::start_with(AgentConfig { limits, ..Default::default() }).await
}

/// Lets the agent's socket `s` receive datagrams of these sizes, and makes sure that each is in the log.
async fn receive(agent: &Agent, ip: IpAddr, sizes: impl IntoIterator<Item = usize>) {
    let peer = UdpPeer::bind(ip).await;
    let local = agent.udp("s", ip).await;
    for (size, number) in sizes.into_iter().zip(1..) {
        peer.send(&local, &vec![b'x'; size]).await;
        agent.event_after("s", "datagram_received", 2 + number - 1).await;
    }
}

fn everything() -> pb::ListEventsRequest {
    pb::ListEventsRequest { after_event_seq: Some(0), ..Default::default() }
}

fn seqs(events: &[pb::Event]) -> Vec<u64> {
    events.iter().map(|event| event.event_seq).collect()
}

#[tokio::test]
async fn the_oldest_events_go_first_and_a_gap_says_which() {
    for ip in LOOPBACKS {
        let agent = agent(Limits { log_events: 4, log_final_events: 0, ..Limits::default() }).await;
        receive(&agent, ip, [10, 20, 30, 40, 50]).await;
        let page = agent.list(everything()).await;
        assert_eq!(seqs(&page.events), [4, 5, 6, 7]);
        assert_eq!(page.gaps, [pb::EventGap { first_seq: 1, last_seq: 3, payload_bytes: Some(10) }]);

        // Whoever asks for what is kept misses nothing.
        let page = agent.list(pb::ListEventsRequest::default()).await;
        assert_eq!((seqs(&page.events), page.gaps), (vec![4, 5, 6, 7], vec![]));
        let session = agent.sessions().get_session(pb::GetSessionRequest::default()).await.unwrap().into_inner();
        let session = session.session.unwrap();
        assert_eq!((session.oldest_event_seq, session.head_event_seq), (4, 7));
    }
}

#[tokio::test]
async fn a_watcher_that_comes_late_is_told_what_it_missed() {
    for ip in LOOPBACKS {
        let agent = agent(Limits { log_events: 4, log_final_events: 0, ..Limits::default() }).await;
        receive(&agent, ip, [10, 20, 30, 40, 50]).await;
        let watch = async |after| {
            let request = pb::WatchEventsRequest { after_event_seq: Some(after), max_events: 4, ..Default::default() };
            let mut watcher = agent.watch(request).await.unwrap();
            assert_eq!(watcher.opened().await.oldest_seq, 4);
            watcher
        };
        let mut watcher = watch(0).await;
        let Frame::Gap(gap) = watcher.frame().await else { panic!("no gap") };
        assert_eq!(gap, pb::EventGap { first_seq: 1, last_seq: 3, payload_bytes: Some(10) });
        let batch = watcher.batch().await;
        assert_eq!((batch.from_seq, seqs(&batch.events)), (4, vec![4, 5, 6, 7]));
        // What one comes back with is gone itself: how much was in the gap is not known any more.
        let Frame::Gap(gap) = watch(1).await.frame().await else { panic!("no gap") };
        assert_eq!(gap, pb::EventGap { first_seq: 2, last_seq: 3, payload_bytes: None });
        let batch = watch(3).await.batch().await;
        assert_eq!(seqs(&batch.events), [4, 5, 6, 7], "nothing was missed");
    }
}

#[tokio::test]
async fn payloads_are_bounded_by_their_bytes() {
    for ip in LOOPBACKS {
        let agent = agent(Limits { log_bytes: 1000, ..Limits::default() }).await;
        receive(&agent, ip, [400; 20]).await;
        let page = agent.list(everything()).await;
        assert_eq!(seqs(&page.events), [21, 22]);
        assert_eq!(page.gaps, [pb::EventGap { first_seq: 1, last_seq: 20, payload_bytes: Some(18 * 400) }]);
        // One that alone is too large is kept as long as it is the newest.
        let peer = UdpPeer::bind(ip).await;
        peer.send(&agent.socket("s").await.local.unwrap().text, &[b'x'; 5000]).await;
        agent.event_after("s", "datagram_received", 22).await;
        assert_eq!(seqs(&agent.list(everything()).await.events), [23]);
    }
}

/// How a socket ended is worth more than what went through another one since.
#[tokio::test]
async fn ends_stay_longer_than_what_is_around_them() {
    for ip in LOOPBACKS {
        let agent = agent(Limits { log_events: 4, log_final_events: 2, ..Limits::default() }).await;
        let peer = UdpPeer::bind(ip).await;
        for id in ["one", "two", "three"] {
            agent.udp(id, ip).await;
            agent.close(id).await;
        }
        agent.udp("s", ip).await;
        for _ in 0..6 {
            agent.send("s", &peer.text(), "hola").await;
        }
        let page = agent.list(everything()).await;
        let shown: Vec<_> = page.events.iter().map(|event| (event.event_seq, event.kind.as_str())).collect();
        let newest = [(14, "sent"), (15, "sent"), (16, "sent"), (17, "sent")];
        assert_eq!(shown[..2], [(6, "closed"), (9, "closed")], "the first one has gone");
        assert_eq!(shown[2..], newest);
        let gaps: Vec<_> = page.gaps.iter().map(|gap| (gap.first_seq, gap.last_seq)).collect();
        assert_eq!(gaps, [(1, 5), (7, 8), (10, 13)]);
        let closed = agent.event("two", "closed").await;
        assert_eq!(closed.event_seq, 6);
    }
}

/// Neither a hole nor a queue without an end: who is slow gets a gap, and then what is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slow_watcher_gets_a_gap_and_not_silence() {
    for ip in LOOPBACKS {
        let agent = agent(Limits { log_events: 16, log_final_events: 0, ..Limits::default() }).await;
        let request = pb::WatchEventsRequest { until: filter(&["s"], &["closed"]), ..Default::default() };
        let mut watcher = agent.watch(pb::WatchEventsRequest { after_event_seq: Some(0), ..request }).await.unwrap();
        watcher.opened().await;
        // Far more than a stream that nobody reads holds on its way.
        let (count, size) = (400, 32 * 1024);
        receive(&agent, ip, vec![size; count]).await;
        agent.close("s").await;

        let (mut next, mut gaps, mut bytes) = (1, 0, 0);
        while let Some(frame) = watcher.next().await.unwrap() {
            match frame {
                Frame::Batch(batch) => {
                    assert_eq!(batch.from_seq, next);
                    assert_eq!(seqs(&batch.events), (batch.from_seq..=batch.through_seq).collect::<Vec<_>>());
                    let received = batch.events.iter().filter(|event| event.kind == "datagram_received");
                    bytes += received.count() * size;
                    next = batch.through_seq + 1;
                }
                Frame::Gap(gap) => {
                    assert_eq!(gap.first_seq, next);
                    bytes += usize::try_from(gap.payload_bytes.expect("it was read up to here")).unwrap();
                    next = gap.last_seq + 1;
                    gaps += 1;
                }
                Frame::Heartbeat(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((next, bytes), (2 + count as u64 + 2, count * size), "everything was shown, or told as missing");
        assert!(gaps > 0, "a stream held it all");
    }
}

/// A reader of payloads that comes too late learns how much it lost.
#[tokio::test]
async fn who_takes_payloads_too_late_is_told_how_much_is_lost() {
    for ip in LOOPBACKS {
        let agent = agent(Limits { log_events: 2, log_final_events: 0, ..Limits::default() }).await;
        receive(&agent, ip, [1, 2, 3, 4]).await;
        let received = agent.receive("s").await.unwrap();
        assert_eq!((received.size(), received.lost_bytes), (3, 3));
        let received = agent.receive("s").await.unwrap();
        assert_eq!((received.size(), received.lost_bytes), (4, 0));
    }
}

#[tokio::test]
async fn who_waits_for_an_event_that_may_have_gone_is_told() {
    for ip in LOOPBACKS {
        let agent = agent(Limits { log_events: 2, log_final_events: 0, ..Limits::default() }).await;
        receive(&agent, ip, [1, 2, 3]).await;
        let request = pb::WaitEventRequest {
            after_event_seq: Some(0),
            filter: filter(&["s"], &["created"]),
            timeout: millis(0),
            ..Default::default()
        };
        let waited = agent.wait(request).await.unwrap();
        assert!(waited.timed_out && waited.event.is_none());
        assert_eq!(waited.gap, Some(pb::EventGap { first_seq: 1, last_seq: 3, payload_bytes: Some(1) }));
        assert_eq!(waited.through_seq, 5);
    }
}

/// An answer to a datagram that is not kept any more would have to guess.
#[tokio::test]
async fn a_datagram_that_has_gone_cannot_be_answered() {
    let agent = agent(Limits { log_events: 2, ..Limits::default() }).await;
    receive(&agent, LOOPBACKS[0], [1, 2, 3]).await;
    let answer = |event| pb::Datagram { reply_to_event: event, ..Default::default() };
    let refused = agent.try_send("s", vec![answer(3)]).await.unwrap_err();
    assert_eq!(refused.reason, "EVENT_NOT_KEPT");
    assert_eq!(agent.send_error("s", answer(5)).await, "");
}
