//! Leases: a session that nobody renews is closed, whole and for good, and can still be read for a while.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use farsock::agent::AgentConfig;
use farsock::model::limits::{Defaults, Limits};
use farsock::wire::pb;
use farsock::wire::pb::event::Body;
use farsock::wire::pb::transfer_socket_request::Frame as First;
use farsock::wire::pb::watch_events_response::Frame;
use tokio::net::TcpStream;
use tonic::Code;

use crate::harness::frames::becomes;
use crate::harness::tcp::{any_port, connecting_to, listening_on, narrow_listener, pattern, went};
use crate::harness::{
    Agent, AnyRequest, HandClock, LOOPBACKS, Refused, TcpPeer, UdpPeer, changes, detached, filter, millis, named,
    response,
};

/// The usual lease, and a moment.
const TTL: Duration = Duration::from_secs(30);
const MOMENT: Duration = Duration::from_millis(1);

/// An agent, and the clock that its leases go by.
async fn agent() -> (Agent, Arc<HandClock>) {
    agent_with(Limits::default()).await
}

async fn agent_with(limits: Limits) -> (Agent, Arc<HandClock>) {
    let clock = Arc::new(HandClock::default());
    let config = AgentConfig { limits, clock: Some(Arc::clone(&clock) as _), ..Default::default() };
    (Agent::start_with(config).await, clock)
}

async fn create(agent: &Agent, request: pb::CreateSessionRequest) -> Result<pb::Session, Refused> {
    Ok(agent.sessions().create_session(request).await?.into_inner().session.unwrap())
}

async fn renew(agent: &Agent, id: &str) -> Result<pb::Session, Refused> {
    let request = pb::RenewSessionRequest { session_id: id.into() };
    Ok(agent.sessions().renew_session(request).await?.into_inner().session.unwrap())
}

async fn get(agent: &Agent, id: &str) -> Result<pb::Session, Refused> {
    let request = pb::GetSessionRequest { session_id: id.into() };
    Ok(agent.sessions().get_session(request).await?.into_inner().session.unwrap())
}

/// Makes a TCP socket in the session `lab`.
async fn tcp(agent: &Agent, id: &str, spec: pb::TcpSocketSpec) -> pb::Socket {
    let kind = Some(pb::create_socket_request::Kind::Tcp(spec));
    let request =
        pb::CreateSocketRequest { session_id: "lab".into(), socket_id: id.into(), kind, ..Default::default() };
    agent.create_socket(request).await.unwrap().socket.unwrap()
}

/// The first event of this kind of a session, which must come.
async fn event(agent: &Agent, session: &str, kind: &str) -> pb::Event {
    let request = pb::WaitEventRequest {
        session_id: session.into(),
        filter: filter(&[], &[kind]),
        timeout: millis(15_000),
        ..Default::default()
    };
    agent.wait(request).await.unwrap().event.unwrap_or_else(|| panic!("no {kind}"))
}

fn kinds(events: &[pb::Event]) -> Vec<&str> {
    events.iter().map(|event| event.kind.as_str()).collect()
}

#[tokio::test]
async fn a_session_tells_how_it_stands_with_its_lease() {
    let (agent, clock) = agent().await;
    let session = agent.create_session("usual").await.unwrap();
    assert_eq!((session.lease_ttl, session.lease_left), (millis(30_000), millis(30_000)));
    assert_eq!((session.orphan_policy(), session.state()), (pb::OrphanPolicy::Close, pb::SessionState::Active));
    let request = pb::CreateSessionRequest {
        session_id: "long".into(),
        lease_ttl: millis(3_600_000),
        orphan_policy: pb::OrphanPolicy::Abort.into(),
        ..Default::default()
    };
    let session = create(&agent, request).await.unwrap();
    assert_eq!((session.lease_ttl, session.orphan_policy()), (millis(3_600_000), pb::OrphanPolicy::Abort));
    // It runs down by itself, and a renewal fills it up.
    clock.advance(TTL - MOMENT);
    assert_eq!(get(&agent, "long").await.unwrap().lease_left, millis(3_570_001));
    assert_eq!(get(&agent, "usual").await.unwrap().lease_left, millis(1));
    let renewed = renew(&agent, "usual").await.unwrap();
    assert_eq!((renewed.lease_ttl, renewed.lease_left), (millis(30_000), millis(30_000)));

    let default = get(&agent, "").await.unwrap();
    assert_eq!((default.lease_ttl, default.lease_left), (None, None));
    assert_eq!((default.orphan_policy(), default.state()), (pb::OrphanPolicy::Unspecified, pb::SessionState::Active));
    let told = agent.agent().get_agent(pb::GetAgentRequest {}).await.unwrap().into_inner().agent.unwrap();
    assert!(told.capabilities.iter().any(|known| known == "leases"));
    let (defaults, limits) = (told.defaults.unwrap(), told.limits.unwrap());
    assert_eq!((defaults.lease_ttl, defaults.expired_log), (millis(30_000), millis(600_000)));
    assert_eq!((defaults.default_session_idle, limits.expired_sessions), (millis(43_200_000), 8));
}

#[tokio::test]
async fn a_lease_lasts_from_five_seconds_to_an_hour() {
    let (agent, _clock) = agent().await;
    for ttl in [0, 4_999, 3_600_001] {
        let request = pb::CreateSessionRequest { lease_ttl: millis(ttl), ..Default::default() };
        let refused = create(&agent, request).await.unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
        assert_eq!(refused.message, "lease_ttl: it goes from 5s to 3600s");
    }
    for ttl in [5_000, 3_600_000] {
        create(&agent, pb::CreateSessionRequest { lease_ttl: millis(ttl), ..Default::default() }).await.unwrap();
    }
    for id in ["", "default"] {
        let refused = renew(&agent, id).await.unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
        assert!(refused.message.starts_with("session_id: the default session has no lease"), "{}", refused.message);
    }
    assert_eq!(renew(&agent, "none").await.unwrap_err().reason, "SESSION_NOT_FOUND");
}

/// Everything goes: a listener, what it accepted, a connection that was made, a UDP socket. Peers see what the policy says, and the log
/// tells it in order.
#[tokio::test]
async fn what_nobody_renews_is_closed_as_its_policy_says() {
    for ip in LOOPBACKS {
        for policy in [pb::OrphanPolicy::Close, pb::OrphanPolicy::Abort] {
            let (agent, clock) = agent().await;
            let request = pb::CreateSessionRequest {
                session_id: "lab".into(),
                orphan_policy: policy.into(),
                ..Default::default()
            };
            create(&agent, request).await.unwrap();
            let (listener, address) = TcpPeer::listen(ip).await;
            tcp(&agent, "line", connecting_to(&address.to_string())).await;
            let mut server = TcpPeer::accept(&listener).await;
            let door = tcp(&agent, "door", listening_on(&any_port(ip))).await.local.unwrap().text;
            let mut guest = TcpPeer::connect(&door).await;
            event(&agent, "lab", "accepted").await;
            agent.udp_in("lab", "u").await;
            clock.advance(TTL);

            let last = event(&agent, "lab", "lease_expired").await;
            for peer in [&mut server, &mut guest] {
                let end = peer.read_to_end().await.map_err(|error| error.kind());
                match policy {
                    pb::OrphanPolicy::Abort => assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset)),
                    _ => assert_eq!(end, Ok(Vec::new())),
                }
            }
            assert!(TcpStream::connect(&door).await.is_err(), "nobody listens any more");
            let events = agent.all_events("lab").await;
            assert_eq!(events.last(), Some(&last), "nothing comes after it");
            let Some(Body::LeaseExpired(told)) = &last.body else { panic!("{last:?}") };
            assert_eq!((told.closed_sockets, last.socket_id.as_str()), (Some(4), ""));
            let warned = events.iter().position(|event| event.kind == "lease_expiring").unwrap();
            let (before, after) = events.split_at(warned);
            assert!(!kinds(before).contains(&"closed"));
            let mut closed: Vec<&str> = Vec::new();
            for event in after {
                let Some(Body::Closed(body)) = &event.body else { continue };
                assert_eq!(body.reason(), pb::CloseReason::LeaseExpired);
                closed.push(&event.socket_id);
            }
            closed.sort_unstable();
            assert_eq!(closed, ["door", "door.1", "line", "u"]);
            let aborted = kinds(after).iter().filter(|kind| **kind == "aborted").count();
            assert_eq!(aborted, if policy == pb::OrphanPolicy::Abort { 2 } else { 0 });
            let session = get(&agent, "lab").await.unwrap();
            assert_eq!((session.state(), session.lease_left), (pb::SessionState::Expired, millis(0)));
            assert_eq!(session.socket_count, 0);
        }
    }
}

/// However often it is renewed, it lives on; nothing but a renewal counts; and it is told once after each when it runs out.
#[tokio::test]
async fn only_renewals_keep_a_session_alive() {
    let (agent, clock) = agent().await;
    agent.create_session("lab").await.unwrap();
    agent.udp_in("lab", "u").await;
    for round in 1..=3 {
        clock.advance(TTL - MOMENT);
        // A request and a watcher are no renewals.
        let heartbeats =
            pb::WatchEventsRequest { session_id: "lab".into(), heartbeat_interval: millis(100), ..Default::default() };
        let mut watcher = agent.watch(heartbeats).await.unwrap();
        let mut warnings = 0;
        while warnings < round {
            if let Some(Frame::Batch(batch)) = watcher.next().await.unwrap() {
                warnings += kinds(&batch.events).iter().filter(|kind| **kind == "lease_expiring").count();
            }
        }
        let heartbeat = loop {
            if let Some(Frame::Heartbeat(heartbeat)) = watcher.next().await.unwrap() {
                break heartbeat;
            }
        };
        assert_eq!(heartbeat.lease_left, millis(1));
        let session = renew(&agent, "lab").await.unwrap();
        assert_eq!((session.state(), session.socket_count), (pb::SessionState::Active, 1));
    }
    clock.advance(TTL);
    event(&agent, "lab", "lease_expired").await;
    let events = agent.all_events("lab").await;
    let last = ["lease_expiring", "lease_expiring", "lease_expiring", "lease_expiring", "closed", "lease_expired"];
    assert_eq!(kinds(&events), [&["created", "bound"], &last[..]].concat());
    let Some(Body::LeaseExpiring(told)) = &events[2].body else { panic!("{events:?}") };
    assert_eq!(told.lease_left, millis(1));
}

/// Every request that names a session: those that only read are answered, all others are refused, from the very moment on at which the
/// lease is over, and for as long as the session is remembered.
#[tokio::test]
async fn a_late_controller_is_refused_whatever_it_asks() {
    let (agent, clock) = agent().await;
    agent.create_session("lab").await.unwrap();
    let socket = agent.udp_in("lab", "u").await;
    let session_id = || "lab".to_owned();
    let write = pb::SendDatagramsRequest {
        session_id: session_id(),
        socket_id: "u".into(),
        datagrams: vec![crate::harness::datagram(&socket.local.unwrap().text, "in time")],
        call: Some(named("in-time")),
        ..Default::default()
    };
    agent.sockets().send_datagrams(write.clone()).await.unwrap();
    event(&agent, "lab", "datagram_received").await;
    clock.advance(TTL);

    let mut changes = changes("lab", "u");
    // Also what was done in time is not answered from memory: its answer would look as if it could go on.
    changes.push(write.into());
    let options = pb::GetSocketOptionsRequest { session_id: session_id(), socket_id: "u".into(), ..Default::default() };
    changes.push(options.into());
    let questions = [
        AnyRequest::from(pb::GetSessionRequest { session_id: session_id() }),
        pb::GetSocketRequest { session_id: session_id(), socket_id: "u".into(), tcp_info: true, memory: true }.into(),
        pb::ListSocketsRequest { session_id: session_id(), ..Default::default() }.into(),
        pb::GetCallRequest { session_id: session_id(), request_id: "in-time".into() }.into(),
        pb::WatchEventsRequest { session_id: session_id(), ..Default::default() }.into(),
        pb::WaitEventRequest { session_id: session_id(), ..Default::default() }.into(),
        pb::ListEventsRequest { session_id: session_id(), ..Default::default() }.into(),
    ];
    // Once before the agent itself has looked at the clock, perhaps, and once when everything is closed.
    for _ in 0..2 {
        for request in changes.clone() {
            let shown = format!("{request:?}");
            let refused = Refused::from(request.send(&agent).await.expect_err(&shown));
            assert_eq!((refused.code, refused.reason.as_str()), (Code::FailedPrecondition, "LEASE_EXPIRED"), "{shown}");
            assert!(refused.message.contains("the lease of session `lab` has expired"), "{}", refused.message);
        }
        for request in questions.clone() {
            let shown = format!("{request:?}");
            request.send(&agent).await.expect(&shown);
        }
        let open = pb::TransferOpen { session_id: session_id(), socket_id: "u".into(), ..Default::default() };
        let refused = agent.transfer(First::Open(open)).await.refused().await;
        assert_eq!((refused.code, refused.reason.as_str()), (Code::FailedPrecondition, "LEASE_EXPIRED"));
        assert_eq!(agent.create_session("lab").await.unwrap_err().reason, "SESSION_EXISTS");
        event(&agent, "lab", "lease_expired").await;
    }
    let sent: pb::SendDatagramsResponse = response(&agent.get_call_in("lab", "in-time").await.unwrap());
    assert_eq!(sent.datagrams_sent, Some(1), "what became of it can be known");
    agent.delete("lab", false).await.unwrap();
    assert_eq!(renew(&agent, "lab").await.unwrap_err().reason, "SESSION_NOT_FOUND");
}

/// A watcher that was away when the lease ended comes back under its name, and goes on after what it has acknowledged; a new name holds
/// nothing any more.
#[tokio::test]
async fn a_named_watcher_reads_on_to_the_end_when_the_lease_is_over() {
    let (agent, clock) = agent().await;
    agent.create_session("lab").await.unwrap();
    let watch =
        |name: &str| pb::WatchEventsRequest { session_id: "lab".into(), watcher_id: name.into(), ..Default::default() };
    agent.watch(watch("desk")).await.unwrap().opened().await;
    agent.udp_in("lab", "u").await;
    let ack = pb::AckEventsRequest { session_id: "lab".into(), watcher_id: "desk".into(), through_event_seq: 1 };
    agent.events().ack_events(ack).await.unwrap();
    clock.advance(TTL);
    event(&agent, "lab", "lease_expired").await;
    for _ in 0..2 {
        let mut watcher = agent.watch(watch("desk")).await.unwrap();
        watcher.opened().await;
        let events = watcher.rest().await;
        assert_eq!(kinds(&events), ["bound", "lease_expiring", "closed", "lease_expired"]);
        let refused = agent.watch(watch("late")).await.err().unwrap();
        assert_eq!((refused.code, refused.reason.as_str()), (Code::FailedPrecondition, "LEASE_EXPIRED"));
    }
}

/// close(2) of a connection waits for its peer, and the end of a session waits for neither: the kernel goes on by itself.
#[tokio::test]
async fn a_close_that_waits_for_its_peer_is_over_with_its_session() {
    for (ip, end) in LOOPBACKS.into_iter().flat_map(|ip| ["lease", "reset", "deletion"].map(|end| (ip, end))) {
        let (agent, clock) = agent().await;
        agent.create_session("lab").await.unwrap();
        let (mut peer, size) = lingering(&agent, ip).await;
        assert_eq!(get(&agent, "lab").await.unwrap().socket_count, 1, "it is still there");
        let watch = pb::WatchEventsRequest { session_id: "lab".into(), ..Default::default() };
        let mut watcher = agent.watch(watch).await.unwrap();
        let closed_sockets = match end {
            "reset" => agent.reset("lab").await.closed_sockets,
            "deletion" => agent.delete("lab", false).await.unwrap().closed_sockets,
            _ => {
                clock.advance(TTL);
                event(&agent, "lab", "lease_expired").await;
                agent.delete("lab", false).await.unwrap().closed_sockets
            }
        };
        assert_eq!(closed_sockets.len(), 1, "{end}: {closed_sockets:?}");
        assert_eq!(closed_sockets[0].closed.unwrap().reason(), pb::CloseReason::Closed, "it was closed before");
        if end == "reset" {
            agent.delete("lab", false).await.unwrap();
        }
        let events = watcher.rest().await;
        let last = match end {
            "lease" => &["lease_expiring", "closed", "lease_expired"][..],
            "reset" => &["closed", "session_reset"],
            _ => &["closed"],
        };
        assert!(kinds(&events).ends_with(last), "{end}: {:?}", kinds(&events));
        assert_eq!(peer.read_to_end().await.unwrap().len(), size, "and the kernel goes on");
        agent.stop().await;
    }
}

/// A connection in the session `lab` that close(2) waits for; its peer, and how many bytes that is still to get.
async fn lingering(agent: &Agent, ip: IpAddr) -> (TcpPeer, usize) {
    let listener = narrow_listener(ip);
    let address = listener.local_addr().unwrap().to_string();
    let sndbuf = pb::SocketOption { name: "SO_SNDBUF".into(), value: Some(pb::socket_option::Value::Number(4096)) };
    tcp(agent, "slow", pb::TcpSocketSpec { options: vec![sndbuf], ..connecting_to(&address) }).await;
    let peer = TcpPeer::accept(&listener).await;
    let write = pb::WriteSocketRequest {
        session_id: "lab".into(),
        socket_id: "slow".into(),
        payload: pattern(300_000, 1),
        call: Some(pb::Call { timeout: millis(50), ..Default::default() }),
        ..Default::default()
    };
    let written = agent.write_socket(write).await.unwrap();
    assert!(written.report.clone().unwrap().timed_out, "the peer does not read");
    let close = pb::CloseSocketRequest {
        session_id: "lab".into(),
        socket_id: "slow".into(),
        linger: millis(3_600_000),
        call: Some(detached("close")),
        ..Default::default()
    };
    agent.close_socket(close).await.unwrap();
    (peer, written.bytes_written() as usize)
}

/// Whoever watches reads it to its end, and so does whoever comes later; what waits is cancelled, and its answer says so.
#[tokio::test]
async fn watchers_get_the_last_events_and_waiting_operations_end() {
    let (agent, clock) = agent().await;
    agent.create_session("lab").await.unwrap();
    agent.udp_in("lab", "u").await;
    let watch = || pb::WatchEventsRequest { session_id: "lab".into(), ..Default::default() };
    let mut watcher = agent.watch(watch()).await.unwrap();
    watcher.opened().await;
    let receive = pb::ReceiveSocketRequest {
        session_id: "lab".into(),
        socket_id: "u".into(),
        call: Some(pb::Call { timeout: millis(3_600_000), ..named("waits") }),
        ..Default::default()
    };
    let later = pb::CloseSocketRequest {
        session_id: "lab".into(),
        socket_id: "u".into(),
        call: Some(pb::Call {
            start: Some(pb::call::Start::StartDelay(millis(3_600_000).unwrap())),
            ..detached("later")
        }),
        ..Default::default()
    };
    agent.close_socket(later).await.unwrap();
    let waiting = agent.receive_socket(receive);
    let (received, ()) = tokio::join!(waiting, async {
        let begun = || async { agent.get_call_in("lab", "waits").await.is_ok() };
        becomes("the wait", begun).await;
        clock.advance(TTL);
    });
    assert_eq!(went(&received), "ECANCELED");
    let events = watcher.rest().await;
    assert_eq!(kinds(&events), ["created", "bound", "lease_expiring", "closed", "lease_expired"]);
    assert_eq!(agent.watch(watch()).await.unwrap().rest().await, events);
    assert_eq!(agent.all_events("lab").await, events);
    let closed: pb::CloseSocketResponse = response(&agent.get_call_in("lab", "later").await.unwrap());
    assert_eq!(closed.report.unwrap().error.unwrap().name, "ECANCELED");
    // Whoever waits for what cannot come any more is told at once.
    let wait = pb::WaitEventRequest {
        session_id: "lab".into(),
        filter: filter(&[], &["received"]),
        timeout: millis(3_600_000),
        ..Default::default()
    };
    assert!(agent.wait(wait).await.unwrap().timed_out);
}

/// What was still open is told whoever asks for it last, with the bytes that nobody has read.
#[tokio::test]
async fn a_deletion_afterwards_answers_with_what_was_still_open() {
    let (agent, clock) = agent().await;
    agent.create_session("lab").await.unwrap();
    let peer = UdpPeer::bind(LOOPBACKS[0]).await;
    let delivery = Some(pb::Delivery { mode: pb::DeliveryMode::Pull.into(), ..Default::default() });
    let kind = Some(pb::create_socket_request::Kind::Udp(pb::UdpSocketSpec {
        bind: any_port(LOOPBACKS[0]),
        delivery,
        ..Default::default()
    }));
    let request =
        pb::CreateSocketRequest { session_id: "lab".into(), socket_id: "u".into(), kind, ..Default::default() };
    let socket = agent.create_socket(request).await.unwrap().socket.unwrap();
    peer.send(&socket.local.unwrap().text, b"unread").await;
    clock.advance(TTL);
    event(&agent, "lab", "lease_expired").await;
    let deleted = agent.delete("lab", false).await.unwrap();
    assert_eq!(deleted.session.unwrap().state(), pb::SessionState::Expired);
    assert_eq!(deleted.closed_sockets.len(), 1);
    let closed = deleted.closed_sockets[0].closed.as_ref().unwrap();
    assert_eq!((closed.reason(), closed.unread_bytes), (pb::CloseReason::LeaseExpired, 6));
    // The name is free again, and nothing of before is left under it.
    agent.create_session("lab").await.unwrap();
    assert_eq!(agent.all_events("lab").await, []);
}

#[tokio::test]
async fn what_has_expired_is_forgotten_in_the_end() {
    let (agent, clock) = agent_with(Limits { sessions: 2, expired_sessions: 2, ..Limits::default() }).await;
    let listed = async || {
        let listed = agent.sessions().list_sessions(pb::ListSessionsRequest::default()).await.unwrap().into_inner();
        listed.sessions.into_iter().map(|session| session.session_id).collect::<Vec<_>>()
    };
    for id in ["a", "b", "c"] {
        // Expired ones take no room.
        agent.create_session(id).await.unwrap();
        assert_eq!(agent.create_session("more").await.unwrap_err().reason, "QUOTA_EXCEEDED");
        clock.advance(TTL);
        event(&agent, id, "lease_expired").await;
    }
    // Only so many are kept.
    becomes("room for the third", || async { listed().await == ["default", "b", "c"] }).await;
    assert_eq!(get(&agent, "a").await.unwrap_err().reason, "SESSION_NOT_FOUND");
    clock.advance(Duration::from_secs(600) - MOMENT - 2 * TTL);
    assert_eq!(get(&agent, "b").await.unwrap().state(), pb::SessionState::Expired);
    clock.advance(MOMENT + 2 * TTL);
    becomes("the end of all memory", || async { listed().await == ["default"] }).await;
    assert_eq!(renew(&agent, "b").await.unwrap_err().reason, "SESSION_NOT_FOUND");
    agent.stop().await;
}

/// What somebody has left open over night is gone in the morning; what is watched is not.
#[tokio::test]
async fn a_default_session_that_nobody_uses_is_reset() {
    for ip in LOOPBACKS {
        let defaults = Defaults { default_session_idle: Duration::from_millis(300), ..Defaults::default() };
        let agent = Agent::start_with(AgentConfig { defaults, ..Default::default() }).await;
        let watch = pb::WatchEventsRequest { heartbeat_interval: millis(100), ..Default::default() };
        let mut watcher = agent.watch(watch).await.unwrap();
        let (listener, address) = TcpPeer::listen(ip).await;
        agent.connect("line", &address.to_string()).await;
        let mut peer = TcpPeer::accept(&listener).await;
        let mut heartbeats = 0;
        while heartbeats < 10 {
            match watcher.next().await.unwrap().expect("the stream goes on") {
                Frame::Heartbeat(heartbeat) => {
                    assert_eq!(heartbeat.lease_left, None);
                    heartbeats += 1;
                }
                Frame::Batch(batch) => assert!(!kinds(&batch.events).contains(&"closed"), "{batch:?}"),
                _ => {}
            }
        }
        drop(watcher);
        assert_eq!(peer.read_to_end().await.unwrap(), b"");
        let request = pb::WaitEventRequest { filter: filter(&[], &["session_reset"]), ..Default::default() };
        let reset = agent.wait(request).await.unwrap().event.unwrap();
        assert_eq!((reset.socket_id.as_str(), reset.request_id.as_str()), ("", ""), "nobody has asked for it");
        let Some(Body::SessionReset(told)) = reset.body else { panic!("{reset:?}") };
        assert_eq!(told.closed_sockets, Some(1));
        // It goes on as if ResetSession had been called.
        agent.connect("line", &address.to_string()).await;
        agent.stop().await;
    }
}
