//! Lossless sessions: what nobody has taken is kept, and what finds no room waits where it is.

use std::net::IpAddr;

use farsock::agent::AgentConfig;
use farsock::model::limits::Limits;
use farsock::wire::pb;
use farsock::wire::pb::watch_events_response::Frame;
use tonic::Code;

use crate::harness::tcp::{any_port, connecting_to, listening_on, pattern_bytes, went};
use crate::harness::{Agent, LOOPBACKS, Refused, TcpPeer, UdpPeer, Watcher, filter, millis, within};

const SESSION: &str = "lab";

/// An agent with a lossless session.
async fn lab(limits: Limits) -> Agent {
    let agent = Agent::start_with(AgentConfig { limits, ..Default::default() }).await;
    let request = pb::CreateSessionRequest { session_id: SESSION.into(), ..Default::default() };
    agent.sessions().create_session(request).await.unwrap();
    agent
}

/// Room for two reads of a connection.
fn narrow() -> Limits {
    Limits { log_bytes: 128 << 10, ..Limits::default() }
}

async fn session(agent: &Agent) -> pb::Session {
    let request = pb::GetSessionRequest { session_id: SESSION.into() };
    agent.sessions().get_session(request).await.unwrap().into_inner().session.unwrap()
}

async fn create(agent: &Agent, id: &str, kind: pb::create_socket_request::Kind) -> Result<pb::Socket, Refused> {
    let (session_id, socket_id) = (SESSION.into(), id.into());
    let request = pb::CreateSocketRequest { session_id, socket_id, kind: Some(kind), ..Default::default() };
    Ok(agent.create_socket(request).await?.socket.unwrap())
}

async fn line(agent: &Agent, ip: IpAddr, id: &str) -> TcpPeer {
    let (listener, address) = TcpPeer::listen(ip).await;
    create(agent, id, pb::create_socket_request::Kind::Tcp(connecting_to(&address.to_string()))).await.unwrap();
    TcpPeer::accept(&listener).await
}

/// The first event of this kind of a socket, which must come.
async fn event(agent: &Agent, id: &str, kind: &str) -> pb::Event {
    let request = pb::WaitEventRequest {
        session_id: SESSION.into(),
        filter: filter(&[id], &[kind]),
        timeout: millis(20_000),
        ..Default::default()
    };
    agent.events().wait_event(request).await.unwrap().into_inner().event.unwrap_or_else(|| panic!("no `{kind}`"))
}

async fn get(agent: &Agent, id: &str) -> pb::Socket {
    let request = pb::GetSocketRequest { session_id: SESSION.into(), socket_id: id.into(), ..Default::default() };
    agent.sockets().get_socket(request).await.unwrap().into_inner().socket.unwrap()
}

/// A stream of a watcher with a name, or without one.
async fn watch(agent: &Agent, watcher: &str) -> Result<Watcher, Refused> {
    let request = pb::WatchEventsRequest {
        session_id: SESSION.into(),
        watcher_id: watcher.into(),
        view: Some(pb::PayloadView { form: pb::PayloadForm::Data.into(), ..Default::default() }),
        ..Default::default()
    };
    let mut watcher = agent.watch(request).await?;
    watcher.opened().await;
    Ok(watcher)
}

async fn ack(agent: &Agent, watcher: &str, through_event_seq: u64) -> Result<u64, Refused> {
    let (session_id, watcher_id) = (SESSION.into(), watcher.into());
    let request = pb::AckEventsRequest { session_id, watcher_id, through_event_seq };
    Ok(agent.events().ack_events(request).await?.into_inner().acked_event_seq)
}

fn payload(event: pb::Event) -> Vec<u8> {
    let content = match event.body {
        Some(pb::event::Body::Received(received)) => received.payload.and_then(|payload| payload.content),
        _ => None,
    };
    match content {
        Some(pb::payload::Content::Data(data)) => data.into(),
        Some(other) => panic!("{other:?}"),
        None => Vec::new(),
    }
}

fn pause_reason(event: pb::Event) -> pb::ReadPauseReason {
    match event.body {
        Some(pb::event::Body::ReadPaused(paused)) => paused.reason(),
        other => panic!("{other:?}"),
    }
}

const SIZE: usize = 2 << 20;

/// Lets a peer send more than the log and both kernels hold, and ends its direction.
fn send(mut peer: TcpPeer) -> tokio::task::JoinHandle<TcpPeer> {
    tokio::spawn(async move {
        peer.write(&pattern_bytes(SIZE, 3)).await;
        peer.shut_down().await;
        peer
    })
}

#[tokio::test]
async fn payloads_wait_until_somebody_takes_them_and_the_peer_with_them() {
    for ip in LOOPBACKS {
        let agent = lab(narrow()).await;
        let peer = line(&agent, ip, "line").await;
        let sent = send(peer);
        assert_eq!(pause_reason(event(&agent, "line", "read_paused").await), pb::ReadPauseReason::LogFull);
        let held = session(&agent).await;
        assert!(held.held_bytes > 0 && held.held_bytes <= 128 << 10, "{held:?}");
        assert_eq!((held.retention(), held.named_watchers), (pb::Retention::Lossless, vec![]));

        let mut through = Vec::new();
        loop {
            let view = Some(pb::PayloadView { form: pb::PayloadForm::Data.into(), ..Default::default() });
            let (session_id, socket_id) = (SESSION.into(), "line".into());
            let request = pb::ReceiveSocketRequest { session_id, socket_id, view, ..Default::default() };
            let taken = agent.receive_socket(request).await.unwrap();
            assert_eq!(taken.lost_bytes, 0);
            match taken.payload.and_then(|payload| payload.content) {
                Some(pb::payload::Content::Data(data)) => through.extend(data),
                _ if taken.end => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(through == pattern_bytes(SIZE, 3));
        within("the peer", sent).await.unwrap();
        event(&agent, "line", "read_resumed").await;
        assert_eq!(session(&agent).await.held_bytes, 0);
    }
}

#[tokio::test]
async fn a_named_watcher_holds_what_it_has_not_acknowledged_across_its_streams() {
    for ip in LOOPBACKS {
        let agent = lab(narrow()).await;
        let mut watcher = watch(&agent, "teacher").await.unwrap();
        let sent = send(line(&agent, ip, "line").await);
        event(&agent, "line", "read_paused").await;
        let (mut through, mut seen, mut first) = (Vec::new(), 0, true);
        loop {
            let Frame::Batch(batch) = watcher.frame().await else { panic!("nothing is lost") };
            assert_eq!(batch.from_seq, seen + 1, "in order, once");
            seen = batch.through_seq;
            let over = batch.events.iter().any(|event| event.kind == "peer_closed");
            batch.events.into_iter().for_each(|event| through.extend(payload(event)));
            if over {
                break;
            }
            if std::mem::take(&mut first) {
                // The stream is cut before anything was acknowledged: the next one begins where this one did.
                watcher = watch(&agent, "teacher").await.unwrap();
                (through, seen) = (Vec::new(), 0);
                continue;
            }
            assert_eq!(ack(&agent, "teacher", seen).await, Ok(seen));
            // And after what was acknowledged.
            watcher = watch(&agent, "teacher").await.unwrap();
        }
        assert!(through == pattern_bytes(SIZE, 3));
        within("the peer", sent).await.unwrap();
        let held = session(&agent).await;
        assert!(held.named_watchers[0].released_event_seq <= seen, "{held:?}");
        assert_eq!(
            ack(&agent, "teacher", 1).await,
            Ok(held.named_watchers[0].released_event_seq),
            "nothing is taken back"
        );
    }
}

#[tokio::test]
async fn an_observer_holds_nothing_and_is_told_what_it_missed() {
    let agent = lab(Limits { log_events: 16, log_final_events: 0, ..Limits::default() }).await;
    let mut named = watch(&agent, "teacher").await.unwrap();
    let mut last = 0;
    for round in 0..4 {
        for at in 0..4 {
            let id = format!("s-{round}-{at}");
            create(&agent, &id, pb::create_socket_request::Kind::Udp(pb::UdpSocketSpec::default())).await.unwrap();
        }
        while last < 4 * (round + 1) {
            last = named.batch().await.through_seq;
        }
        assert_eq!(ack(&agent, "teacher", last).await, Ok(last));
    }
    create(&agent, "more", pb::create_socket_request::Kind::Udp(pb::UdpSocketSpec::default())).await.unwrap();
    let mut observer = agent
        .watch(pb::WatchEventsRequest { session_id: SESSION.into(), after_event_seq: Some(0), ..Default::default() })
        .await
        .unwrap();
    observer.opened().await;
    let Frame::Gap(gap) = observer.frame().await else { panic!("a gap") };
    assert_eq!((gap.first_seq, gap.last_seq), (1, 1));
    assert_eq!(observer.batch().await.from_seq, 2);
}

#[tokio::test]
async fn the_end_of_the_peer_is_noticed_while_there_is_no_room() {
    for ip in LOOPBACKS {
        let agent = lab(narrow()).await;
        let mut peer = line(&agent, ip, "line").await;
        let other = line(&agent, ip, "other").await;
        let sent = send(other);
        event(&agent, "other", "read_paused").await;
        peer.write(b"last words").await;
        event(&agent, "line", "read_paused").await;
        peer.shut_down().await;
        event(&agent, "line", "peer_gone").await;
        assert_eq!(get(&agent, "line").await.queues.unwrap().receive_bytes(), 10);
        drop(agent);
        sent.abort();
    }
}

#[tokio::test]
async fn what_is_read_by_others_needs_no_room() {
    let [ip, _] = LOOPBACKS;
    let agent = lab(narrow()).await;
    let sent = send(line(&agent, ip, "line").await);
    event(&agent, "line", "read_paused").await;
    let delivery = Some(pb::Delivery { mode: pb::DeliveryMode::Count.into(), ..Default::default() });
    let (session_id, socket_id) = (SESSION.into(), "line".into());
    let request = pb::SetSocketDeliveryRequest { session_id, socket_id, delivery, ..Default::default() };
    assert_eq!(went(&agent.set_socket_delivery(request).await), "ok");
    event(&agent, "line", "read_resumed").await;
    event(&agent, "line", "peer_closed").await;
    assert_eq!(get(&agent, "line").await.bytes_read(), SIZE as u64);
    within("the peer", sent).await.unwrap();
}

#[tokio::test]
async fn datagrams_that_found_no_room_are_counted_by_the_kernel() {
    for ip in LOOPBACKS {
        let agent = lab(Limits { log_events: 64, ..Limits::default() }).await;
        let small = pb::SocketOption { name: "SO_RCVBUF".into(), value: Some(pb::socket_option::Value::Number(0)) };
        let spec = pb::UdpSocketSpec { bind: any_port(ip), options: vec![small], ..Default::default() };
        let mailbox = create(&agent, "mailbox", pb::create_socket_request::Kind::Udp(spec)).await.unwrap();
        let address = mailbox.local.unwrap().text;
        let peer = UdpPeer::bind(ip).await;
        let mut sent = 0_u64;
        while get(&agent, "mailbox").await.datagrams_dropped == 0 {
            peer.send(&address, b"x").await;
            sent += 1;
        }
        assert_eq!(pause_reason(event(&agent, "mailbox", "read_paused").await), pb::ReadPauseReason::LogFull);

        // Whoever takes them all gets them all but those that the kernel has counted.
        let mut taken = 0;
        loop {
            let (session_id, socket_id) = (SESSION.into(), "mailbox".into());
            let call = Some(pb::Call { timeout: millis(200), ..Default::default() });
            let request = pb::ReceiveSocketRequest { session_id, socket_id, call, ..Default::default() };
            let received = agent.receive_socket(request).await.unwrap();
            if received.report.unwrap().timed_out {
                break;
            }
            assert_eq!(received.lost_bytes, 0);
            taken += 1;
        }
        assert_eq!(taken + get(&agent, "mailbox").await.datagrams_dropped, sent);
    }
}

#[tokio::test]
async fn accepting_waits_for_room_too_and_requests_are_refused_last() {
    for ip in LOOPBACKS {
        let agent = lab(Limits { log_events: 32, ..Limits::default() }).await;
        let _watcher = watch(&agent, "teacher").await.unwrap();
        let door = create(&agent, "door", pb::create_socket_request::Kind::Tcp(listening_on(&any_port(ip)))).await;
        let address = door.unwrap().local.unwrap().text;
        let mut peers = Vec::new();
        while get(&agent, "door").await.listener.unwrap().queue_length() == 0 {
            peers.push(TcpPeer::connect(&address).await);
        }
        let Some(pb::event::Body::AcceptPaused(paused)) = event(&agent, "door", "accept_paused").await.body else {
            panic!()
        };
        assert_eq!(paused.reason(), pb::AcceptPauseReason::LogFull);

        // Somebody who asks is still answered, until there is no room at all.
        let refused = loop {
            match create(&agent, "", pb::create_socket_request::Kind::Udp(pb::UdpSocketSpec::default())).await {
                Ok(_) => {}
                Err(refused) => break refused,
            }
        };
        assert_eq!((refused.code, refused.reason.as_str()), (Code::ResourceExhausted, "LOG_FULL"));
        // What ends something is not refused.
        let (session_id, socket_id) = (SESSION.into(), "door.1".into());
        let close = pb::CloseSocketRequest { session_id, socket_id, ..Default::default() };
        assert_eq!(went(&agent.close_socket(close).await), "ok");

        let head = session(&agent).await.head_event_seq;
        assert_eq!(ack(&agent, "teacher", head).await, Ok(head));
        event(&agent, &format!("door.{}", peers.len()), "created").await;
        create(&agent, "", pb::create_socket_request::Kind::Udp(pb::UdpSocketSpec::default())).await.unwrap();
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let agent = lab(Limits::default()).await;
    watch(&agent, "teacher").await.unwrap();
    let refused = |refused: Refused| (refused.code, refused.reason);
    assert_eq!(refused(ack(&agent, "teacher", 9).await.unwrap_err()), (Code::OutOfRange, "FUTURE_EVENT".into()));
    assert_eq!(refused(ack(&agent, "nobody", 0).await.unwrap_err()), (Code::NotFound, "WATCHER_NOT_FOUND".into()));
    assert_eq!(ack(&agent, "No One", 0).await.unwrap_err().code, Code::InvalidArgument);
    let Err(bad) = watch(&agent, "No One").await else { panic!() };
    assert!(bad.message.starts_with("watcher_id: "), "{}", bad.message);
    let in_ring = pb::WatchEventsRequest { watcher_id: "teacher".into(), ..Default::default() };
    let Err(in_ring) = agent.watch(in_ring).await else { panic!() };
    assert_eq!(refused(in_ring), (Code::FailedPrecondition, "NOT_LOSSLESS".into()));
}

#[tokio::test]
async fn names_are_limited_and_a_watch_that_is_refused_holds_nothing() {
    let agent = lab(Limits { watchers: 1, ..Limits::default() }).await;
    let refused = |result: Result<Watcher, Refused>| result.err().map(|refused| refused.reason);
    let future = pb::WatchEventsRequest {
        session_id: SESSION.into(),
        watcher_id: "early".into(),
        after_event_seq: Some(9),
        ..Default::default()
    };
    assert_eq!(refused(agent.watch(future).await).as_deref(), Some("FUTURE_EVENT"));
    assert_eq!(session(&agent).await.named_watchers, []);

    drop(watch(&agent, "teacher").await.unwrap());
    within("the end of the stream", async {
        while session(&agent).await.watcher_count > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(refused(watch(&agent, "student").await).as_deref(), Some("QUOTA_EXCEEDED"));
    let named: Vec<_> = session(&agent).await.named_watchers.into_iter().map(|named| named.watcher_id).collect();
    assert_eq!(named, ["teacher"]);
}
