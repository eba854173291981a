//! Watching: from the first frame to the last one, across reconnects, through filters, and to every kind of end.

use farsock::agent::AgentConfig;
use farsock::model::limits::Limits;
use farsock::wire::pb;
use farsock::wire::pb::watch_events_response::Frame;
use tonic::Code;

use crate::harness::{Agent, LOOPBACKS, TcpPeer, UdpPeer, filter, millis, within};

fn everything() -> pb::WatchEventsRequest {
    pb::WatchEventsRequest { after_event_seq: Some(0), ..Default::default() }
}

fn seqs(events: &[pb::Event]) -> Vec<u64> {
    events.iter().map(|event| event.event_seq).collect()
}

#[tokio::test]
async fn the_first_frame_comes_at_once() {
    let agent = Agent::start().await;
    let opened = agent.watch(pb::WatchEventsRequest::default()).await.unwrap().opened().await;
    assert_eq!((opened.session_id.as_str(), opened.oldest_seq, opened.head_seq), ("default", 0, 0));
    agent.udp("s", LOOPBACKS[0]).await;
    let opened = agent.watch(pb::WatchEventsRequest::default()).await.unwrap().opened().await;
    assert_eq!((opened.oldest_seq, opened.head_seq), (1, 2));
    let known = agent.agent().get_agent(pb::GetAgentRequest {}).await.unwrap().into_inner().agent.unwrap();
    assert_eq!(opened.instance_id, known.instance_id);
}

/// Watch, then act: what is done after the first frame cannot be missed.
#[tokio::test]
async fn from_now_means_from_the_first_frame() {
    let agent = Agent::start().await;
    agent.udp("before", LOOPBACKS[0]).await;
    let mut watcher = agent.watch(pb::WatchEventsRequest { from_now: true, ..Default::default() }).await.unwrap();
    let opened = watcher.opened().await;
    agent.udp("after", LOOPBACKS[0]).await;
    let batch = watcher.batch().await;
    assert_eq!((batch.from_seq, batch.events[0].socket_id.as_str()), (opened.head_seq + 1, "after"));
}

#[tokio::test]
async fn without_a_place_a_watcher_begins_with_the_oldest_event() {
    let agent = Agent::start().await;
    agent.udp("s", LOOPBACKS[0]).await;
    let mut watcher = agent.watch(pb::WatchEventsRequest::default()).await.unwrap();
    watcher.opened().await;
    assert_eq!(seqs(&watcher.batch().await.events), [1, 2]);
}

/// A generator of numbers that are the same in every run. Knuth's MMIX.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Comes back with the last number that it has seen, again and again, until it has seen so many events.
async fn read_in_pieces(agent: &Agent, filter: Option<pb::EventFilter>, last: u64, dice: &mut Dice) -> Vec<pb::Event> {
    let (mut events, mut through, mut visits) = (Vec::new(), 0, 0);
    while through < last {
        visits += 1;
        let request = pb::WatchEventsRequest {
            after_event_seq: Some(through),
            filter: filter.clone(),
            // So that the server is stopped at places of its own choice, too.
            max_events: u32::try_from(dice.below(30)).unwrap(),
            heartbeat_interval: millis(100),
            ..Default::default()
        };
        let mut watcher = agent.watch(request).await.unwrap();
        let mut told = through;
        for _ in 0..=dice.below(4) {
            match watcher.next().await.unwrap() {
                Some(Frame::Batch(batch)) => {
                    assert_eq!(batch.from_seq, told + 1, "ranges follow each other");
                    assert!(batch.through_seq >= batch.from_seq);
                    let inside = batch.from_seq..=batch.through_seq;
                    assert!(batch.events.iter().all(|event| inside.contains(&event.event_seq)), "{batch:?}");
                    told = batch.through_seq;
                    through = told;
                    events.extend(batch.events);
                }
                // Everything up to there was shown: a place to come back with, too. The next range still begins where the last one ended.
                Some(Frame::Heartbeat(heartbeat)) => through = through.max(heartbeat.head_seq),
                Some(Frame::Opened(_)) => {}
                None => break,
                Some(other) => panic!("{other:?}"),
            }
        }
    }
    assert!(visits > 5, "it did come back");
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_watcher_that_comes_back_sees_everything_exactly_once() {
    for (seed, ip) in (1..).zip(LOOPBACKS) {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        agent.udp("s", ip).await;
        agent.udp("other", ip).await;
        let (sends, mut dice, mut filtered_dice) = (300, Dice(seed), Dice(seed + 100));
        let act = async {
            for n in 0..sends {
                agent.send(if n % 3 == 0 { "other" } else { "s" }, &peer.text(), "hola").await;
            }
        };
        let last = 4 + sends;
        let (all, filtered, ()) = tokio::join!(
            read_in_pieces(&agent, None, last, &mut dice),
            read_in_pieces(&agent, filter(&["other"], &["sent"]), last, &mut filtered_dice),
            act
        );
        assert_eq!(seqs(&all), (1..=last).collect::<Vec<_>>());
        let wanted: Vec<u64> =
            all.iter().filter(|e| e.socket_id == "other" && e.kind == "sent").map(|e| e.event_seq).collect();
        assert_eq!(wanted.len(), 100);
        assert_eq!(seqs(&filtered), wanted);
    }
}

/// A filter never fails on what does not exist yet.
#[tokio::test]
async fn filters_choose_sockets_children_and_kinds() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let watch = async |socket_ids: &[&str], kinds: &[&str]| {
            let request = pb::WatchEventsRequest {
                filter: filter(socket_ids, kinds),
                until: filter(&["last"], &["closed"]),
                ..everything()
            };
            let mut watcher = agent.watch(request).await.unwrap();
            watcher.opened().await;
            watcher
        };
        let mut door = watch(&["door"], &[]).await;
        let mut children = watch(&["door.*"], &[]).await;
        let mut second = watch(&["door.2"], &["created", "closed"]).await;
        let mut closings = watch(&[], &["closed"]).await;
        let mut nobody = watch(&["nobody"], &[]).await;

        let bind = if ip.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let address = agent.listen("door", bind).await;
        let _peers = [TcpPeer::connect(&address).await, TcpPeer::connect(&address).await];
        agent.event("door.2", "created").await;
        for id in ["door.1", "door.2", "door"] {
            agent.close(id).await;
        }
        agent.udp("last", ip).await;
        agent.close("last").await;

        let shown = |events: Vec<pb::Event>| {
            let show = |event: pb::Event| format!("{} {}", event.socket_id, event.kind);
            events.into_iter().map(show).collect::<Vec<_>>()
        };
        let of_door = shown(door.rest().await);
        assert_eq!(
            of_door,
            ["door created", "door bound", "door listening", "door accepted", "door accepted", "door closed"]
        );
        let mut of_children = shown(children.rest().await);
        of_children.sort();
        assert_eq!(of_children, ["door.1 closed", "door.1 created", "door.2 closed", "door.2 created"]);
        assert_eq!(shown(second.rest().await), ["door.2 created", "door.2 closed"]);
        assert_eq!(shown(closings.rest().await), ["door.1 closed", "door.2 closed", "door closed", "last closed"]);
        assert!(nobody.rest().await.is_empty());
    }
}

#[tokio::test]
async fn a_stream_ends_after_so_many_events() {
    let agent = Agent::start().await;
    agent.udp("s", LOOPBACKS[0]).await;
    agent.close("s").await;
    let mut watcher = agent.watch(pb::WatchEventsRequest { max_events: 2, ..everything() }).await.unwrap();
    watcher.opened().await;
    let batch = watcher.batch().await;
    assert_eq!((seqs(&batch.events), batch.through_seq), (vec![1, 2], 2), "the place to come back with");
    assert!(watcher.next().await.unwrap().is_none());
    // Filtered events do not count.
    let request = pb::WatchEventsRequest { max_events: 1, filter: filter(&[], &["closed"]), ..everything() };
    let mut watcher = agent.watch(request).await.unwrap();
    assert_eq!(seqs(&watcher.rest().await), [3]);
}

#[tokio::test]
async fn a_stream_ends_at_an_event_that_its_filter_does_not_show() {
    let agent = Agent::start().await;
    let request = pb::WatchEventsRequest {
        filter: filter(&["a"], &["created"]),
        until: filter(&["b"], &["closed"]),
        ..everything()
    };
    let mut watcher = agent.watch(request).await.unwrap();
    watcher.opened().await;
    agent.udp("a", LOOPBACKS[0]).await;
    agent.udp("b", LOOPBACKS[0]).await;
    agent.close("a").await;
    agent.close("b").await;
    agent.udp("c", LOOPBACKS[0]).await;
    let mut through = 0;
    let mut shown = Vec::new();
    while let Some(frame) = watcher.next().await.unwrap() {
        let Frame::Batch(batch) = frame else { panic!("{frame:?}") };
        assert_eq!(batch.from_seq, through + 1);
        through = batch.through_seq;
        shown.extend(batch.events);
    }
    assert_eq!((seqs(&shown), through), (vec![1], 6), "created a, through closed b");
}

/// The sockets as they are, then everything that changes them: nothing twice, nothing missed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_and_what_follows_fit_together() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        agent.udp("s", ip).await;
        let act = async {
            for _ in 0..100 {
                agent.send("s", &peer.text(), "hola").await;
            }
            agent.close("s").await;
        };
        let watch = async {
            for _ in 0..20 {
                let request = pb::WatchEventsRequest { snapshot: true, ..Default::default() };
                let mut watcher = agent
                    .watch(pb::WatchEventsRequest { until: filter(&["s"], &["closed"]), ..request })
                    .await
                    .unwrap();
                watcher.opened().await;
                let Frame::Snapshot(snapshot) = watcher.frame().await else { panic!("no snapshot") };
                let Some(before) = snapshot.sockets.first().cloned() else {
                    // The socket has gone: nothing to be told of it.
                    return;
                };
                assert!(before.queues.is_none() && before.readiness.is_none(), "the kernel was not asked");
                let events = watcher.rest().await;
                assert_eq!(events.first().map(|event| event.event_seq), Some(snapshot.at_seq + 1));
                let sent = events.iter().filter(|event| event.kind == "sent").count() as u64;
                let Some(pb::event::Body::Closed(closed)) = events.last().unwrap().body.clone() else { panic!() };
                assert_eq!(before.datagrams_sent + sent, closed.datagrams_sent);
                assert_eq!((closed.datagrams_sent, before.socket_id.as_str()), (100, "s"));
            }
        };
        tokio::join!(act, watch);
    }
}

#[tokio::test]
async fn a_snapshot_shows_all_open_sockets_in_their_order() {
    let agent = Agent::start().await;
    for id in ["c", "a", "b", "gone"] {
        agent.udp(id, LOOPBACKS[0]).await;
    }
    agent.close("gone").await;
    let mut watcher = agent.watch(pb::WatchEventsRequest { snapshot: true, ..Default::default() }).await.unwrap();
    let head = watcher.opened().await.head_seq;
    let Frame::Snapshot(snapshot) = watcher.frame().await else { panic!("no snapshot") };
    assert_eq!(snapshot.at_seq, head);
    assert_eq!(snapshot.sockets.iter().map(|socket| socket.socket_id.as_str()).collect::<Vec<_>>(), ["c", "a", "b"]);
}

#[tokio::test]
async fn silence_is_filled_with_heartbeats() {
    let agent = Agent::start().await;
    agent.udp("s", LOOPBACKS[0]).await;
    let request =
        pb::WatchEventsRequest { filter: filter(&["nobody"], &[]), heartbeat_interval: millis(100), ..everything() };
    let mut watcher = agent.watch(request).await.unwrap();
    watcher.opened().await;
    let mut last = None;
    for _ in 0..3 {
        let Some(Frame::Heartbeat(heartbeat)) = watcher.next().await.unwrap() else { panic!("no heartbeat") };
        assert_eq!(heartbeat.head_seq, 2, "everything up to here was looked at");
        let now = heartbeat.now.map(|now| (now.seconds, now.nanos));
        assert!(now > last, "{now:?} {last:?}");
        last = now;
    }
}

#[tokio::test]
async fn a_place_of_another_life_or_of_the_future_is_refused() {
    let agent = Agent::start().await;
    agent.udp("s", LOOPBACKS[0]).await;
    let request = pb::WatchEventsRequest { after_event_seq: Some(3), ..Default::default() };
    let refused = agent.watch(request).await.err().unwrap();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::OutOfRange, "FUTURE_EVENT"));
    assert!(refused.message.contains("the newest event of this session is 2"), "{}", refused.message);
    let request = pb::WatchEventsRequest { instance_id: "0".repeat(32), ..everything() };
    let refused = agent.watch(request).await.err().unwrap();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::FailedPrecondition, "INSTANCE_CHANGED"));
    let known = agent.watch(everything()).await.unwrap().opened().await.instance_id;
    agent.watch(pb::WatchEventsRequest { instance_id: known, ..everything() }).await.unwrap().opened().await;
}

#[tokio::test]
async fn watchers_are_limited_and_counted_while_they_watch() {
    let limits = Limits { watchers: 2, ..Limits::default() };
    let agent = Agent::start_with(AgentConfig { limits, ..Default::default() }).await;
    let mut first = agent.watch(everything()).await.unwrap();
    let mut second = agent.watch(everything()).await.unwrap();
    first.opened().await;
    second.opened().await;
    let refused = agent.watch(everything()).await.err().unwrap();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::ResourceExhausted, "QUOTA_EXCEEDED"));
    assert!(refused.message.contains("limits.watchers"), "{}", refused.message);
    let watchers = async || {
        let session = agent.sessions().get_session(pb::GetSessionRequest::default()).await.unwrap().into_inner();
        session.session.unwrap().watcher_count
    };
    assert_eq!(watchers().await, 2);
    drop(first);
    within("the end of a watcher", async { while watchers().await == 2 {} }).await;
    agent.watch(everything()).await.unwrap().opened().await;
}

#[tokio::test]
async fn a_deleted_session_ends_its_streams_after_the_last_events() {
    let agent = Agent::start().await;
    agent.create_session("lab").await.unwrap();
    agent.udp_in("lab", "s").await;
    let mut watcher = agent.watch(pb::WatchEventsRequest { session_id: "lab".into(), ..everything() }).await.unwrap();
    assert_eq!(watcher.opened().await.session_id, "lab");
    agent.delete("lab", false).await.unwrap();
    let events = watcher.rest().await;
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["created", "bound", "closed"]);
    let Some(pb::event::Body::Closed(closed)) = events[2].body.clone() else { panic!() };
    assert_eq!(closed.reason(), pb::CloseReason::SessionDeleted);
}

#[tokio::test]
async fn an_agent_that_stops_ends_its_streams_after_the_last_events() {
    let mut agent = Agent::start().await;
    agent.udp("s", LOOPBACKS[0]).await;
    let mut watcher = agent.watch(everything()).await.unwrap();
    watcher.opened().await;
    agent.begin_to_stop();
    let kinds: Vec<String> = watcher.rest().await.into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds, ["created", "bound", "agent_draining", "closed"]);
}

#[tokio::test]
async fn contradictions_are_refused() {
    let agent = Agent::start().await;
    let cases = [
        (pb::WatchEventsRequest { from_now: true, ..everything() }, "from_now"),
        (pb::WatchEventsRequest { snapshot: true, ..everything() }, "snapshot"),
        (pb::WatchEventsRequest { heartbeat_interval: millis(99), ..everything() }, "heartbeat_interval"),
        (pb::WatchEventsRequest { heartbeat_interval: millis(60_001), ..everything() }, "heartbeat_interval"),
        (pb::WatchEventsRequest { filter: filter(&["UPPER"], &[]), ..everything() }, "filter.socket_ids[0]"),
        (pb::WatchEventsRequest { until: filter(&["a", "*"], &[]), ..everything() }, "until.socket_ids[1]"),
    ];
    for (request, field) in cases {
        let refused = agent.watch(request).await.err().unwrap();
        assert_eq!((refused.code, refused.reason.as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
        assert!(refused.message.starts_with(&format!("{field}: ")), "{}", refused.message);
    }
    let misspelt = pb::WatchEventsRequest { filter: filter(&[], &["recieved"]), ..everything() };
    let refused = agent.watch(misspelt).await.err().unwrap();
    assert!(refused.message.ends_with("did you mean received?"), "{}", refused.message);
}
