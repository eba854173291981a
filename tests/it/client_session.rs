//! A session that the client library holds: it lives for as long as somebody renews it, and when it is lost, whoever uses it is told before
//! anything is sent.

use std::future::pending;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use farsock::agent::{AgentConfig, Listen, MemoryConnector};
use farsock::client::{AgentClient, ClientError, Credentials, Dialer, Endpoint, FarStream, LeaseLoss, Session};
use farsock::model::address::AddressText;
use farsock::model::id::{SessionId, SocketId};
use farsock::model::operation::{Action, CallOptions, Target};
use farsock::model::session::{LeaseSpec, SessionSpec};
use farsock::model::spec::{SocketSpec, TcpRole};
use farsock::wire::pb;
use farsock::wire::pb::watch_events_response::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::harness::tcp::any_port;
use crate::harness::{Agent, Fault, HandClock, LOOPBACKS, Proxy, TcpPeer, millis, within};

const TTL: Duration = Duration::from_secs(30);

fn lab() -> SessionId {
    SessionId::parse("lab").unwrap()
}

fn tcp(role: TcpRole) -> SocketSpec {
    SocketSpec::tcp(role)
}

fn address(text: &str) -> AddressText {
    AddressText::parse(text).unwrap()
}

/// An agent with a clock of its own, and a session that a client with another clock holds.
struct Held {
    agent: Agent,
    agent_clock: Arc<HandClock>,
    client_clock: Arc<HandClock>,
    session: Session,
}

impl Held {
    async fn new() -> Self {
        let (agent_clock, client_clock) = (Arc::new(HandClock::default()), Arc::new(HandClock::default()));
        let config = AgentConfig { clock: Some(Arc::clone(&agent_clock) as _), ..AgentConfig::default() };
        let agent = Agent::start_with(config).await;
        let clock = Arc::clone(&client_clock);
        let session = agent.client().open_session_by(clock, Some(&lab()), SessionSpec::default()).await.unwrap();
        Self { agent, agent_clock, client_clock, session }
    }

    async fn call(&self, action: Action) -> Result<(), ClientError> {
        within("an answer", self.session.client().call(&action, &CallOptions::default())).await.map(drop)
    }

    async fn line(&self, ip: IpAddr) -> (FarStream, TcpPeer) {
        let (listener, to) = TcpPeer::listen(ip).await;
        let spec = tcp(TcpRole::Connect(address(&to.to_string())));
        let stream = self.session.client().connect(&lab(), None, spec, &CallOptions::default()).await.unwrap();
        (stream, TcpPeer::accept(&listener).await)
    }

    async fn sockets(&self) -> usize {
        let request = pb::ListSocketsRequest { session_id: "lab".into(), ..Default::default() };
        self.agent.sockets().list_sockets(request).await.unwrap().into_inner().sockets.len()
    }
}

fn create() -> Action {
    Action::CreateSocket { session: lab(), socket: None, spec: Box::new(tcp(TcpRole::Idle)) }
}

fn target(id: &str) -> Target {
    Target { session: lab(), socket: SocketId::parse(id).unwrap(), uid: None }
}

fn loss(error: ClientError) -> LeaseLoss {
    match error {
        ClientError::LeaseLost { session, loss } if session == lab() => loss,
        other => panic!("{other:?}"),
    }
}

fn lost(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ClientError>());
    error.kind() == ErrorKind::ConnectionAborted && matches!(inner, Some(ClientError::LeaseLost { .. }))
}

#[tokio::test]
async fn a_session_that_is_held_is_renewed_and_lives_on() {
    let held = Held::new().await;
    let heartbeats =
        pb::WatchEventsRequest { session_id: "lab".into(), heartbeat_interval: millis(100), ..Default::default() };
    let mut watcher = held.agent.watch(heartbeats).await.unwrap();
    for _ in 0..4 {
        for clock in [&held.agent_clock, &held.client_clock] {
            clock.advance(TTL / 3);
        }
        loop {
            match watcher.next().await.unwrap().unwrap() {
                Frame::Heartbeat(heartbeat) if heartbeat.lease_left == millis(30_000) => break,
                Frame::Heartbeat(_) | Frame::Opened(_) => {}
                other => panic!("nothing happens: {other:?}"),
            }
        }
    }
    assert_eq!(held.session.check(), Ok(()));
    held.call(create()).await.unwrap();
    let closed = held.session.delete().await.unwrap();
    assert_eq!(closed.len(), 1, "it tells what was still open");
    assert_eq!(loss(held.session.lost().await), LeaseLoss::Gone);
    assert_eq!(held.agent.delete("lab", false).await.unwrap_err().reason, "SESSION_NOT_FOUND");
}

/// The client's own clock alone says so, as when its process was stopped: the agent, whose clock stands still, would still take everything.
#[tokio::test]
async fn nothing_is_sent_once_the_own_clock_says_that_the_lease_is_lost() {
    for ip in LOOPBACKS {
        let held = Held::new().await;
        let (mut stream, _peer) = held.line(ip).await;
        let listening = tcp(TcpRole::Listen(Some(address(&any_port(ip)))));
        let mut listener = held.session.client().listen(&lab(), None, listening).await.unwrap();
        let sockets = held.sockets().await;
        held.client_clock.advance(TTL);

        let error = held.call(create()).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with(
                "the lease of session `lab` is lost, and its sockets with it: this program did not run for 30.0 s"
            ),
            "{text}"
        );
        let told = loss(error);
        assert!(matches!(told, LeaseLoss::Stopped { .. }), "{told:?}");
        assert_eq!(loss(within("the news", held.session.lost()).await), told);
        assert!(lost(&stream.write_all(b"late").await.unwrap_err()));
        assert!(lost(&within("an error", stream.read(&mut [0; 8])).await.unwrap_err()));
        assert!(lost(&within("an error", listener.accept()).await.unwrap_err()));
        assert!(lost(&held.session.client().attach(&target("none")).await.unwrap_err()));
        // A clock that goes back, or an agent that still holds it, changes nothing.
        assert_eq!(held.sockets().await, sockets, "nothing came, and nothing has gone");
        let request = pb::GetSessionRequest { session_id: "lab".into() };
        let view = held.agent.sessions().get_session(request).await.unwrap().into_inner().session.unwrap();
        assert_eq!(view.lease_left, millis(30_000));
        // Other sessions go on, and this one can be read and deleted.
        let other =
            Action::CreateSocket { session: SessionId::default(), socket: None, spec: Box::new(tcp(TcpRole::Idle)) };
        held.call(other).await.unwrap();
        held.session.client().session(&lab()).await.unwrap();
        assert_eq!(held.session.delete().await.unwrap().len(), sockets);
    }
}

#[tokio::test]
async fn what_the_agent_says_ends_calls_and_streams_that_are_under_way() {
    for ip in LOOPBACKS {
        let held = Held::new().await;
        let (mut stream, _peer) = held.line(ip).await;
        let listening = tcp(TcpRole::Listen(Some(address(&any_port(ip)))));
        let mut listener = held.session.client().listen(&lab(), None, listening).await.unwrap();
        let accepting = tokio::spawn(async move { listener.accept().await });
        held.agent_clock.advance(TTL);
        assert_eq!(loss(held.call(create()).await.unwrap_err()), LeaseLoss::Expired);
        assert_eq!(loss(held.call(create()).await.unwrap_err()), LeaseLoss::Expired, "and again");
        assert_eq!(loss(held.session.lost().await), LeaseLoss::Expired);
        // An agent that cannot be reached any more ends neither; the lease does.
        assert!(within("an end", accepting).await.unwrap().is_err());
        assert!(within("an end", stream.read_u8()).await.is_err());
    }
}

#[tokio::test]
async fn a_session_that_somebody_else_has_deleted_is_lost() {
    let held = Held::new().await;
    held.agent.delete("lab", false).await.unwrap();
    held.client_clock.advance(TTL / 3);
    let error = within("the news", held.session.lost()).await;
    assert!(error.to_string().ends_with("somebody has deleted it, or the agent was restarted"), "{error}");
}

/// Leads to an agent until somebody says otherwise; then nobody answers.
fn fickle(connector: MemoryConnector, reachable: &Arc<AtomicBool>) -> AgentClient {
    let reachable = Arc::clone(reachable);
    let dialer = Dialer::from_fn(move || {
        let (connector, reachable) = (connector.clone(), Arc::clone(&reachable));
        async move { if reachable.load(Ordering::Acquire) { connector.connect().await } else { pending().await } }
    });
    AgentClient::new(&dialer, &Credentials::none())
}

/// Nobody answers, and nobody says so: a call that waits is told when the time is over, not when the connection notices.
#[tokio::test]
async fn a_call_is_not_waited_for_longer_than_the_lease_goes() {
    let (agent, reachable) = (Agent::start().await, Arc::new(AtomicBool::new(true)));
    let clock = Arc::new(HandClock::default());
    let spec = SessionSpec::default();
    let session = fickle(agent.connector(), &reachable)
        .open_session_by(Arc::clone(&clock) as _, Some(&lab()), spec)
        .await
        .unwrap();
    // A stream needs a connection of its own.
    reachable.store(false, Ordering::Release);
    let client = session.client().clone();
    let waiting = tokio::spawn(async move { client.attach(&target("x")).await.map(drop) });
    clock.advance(TTL);
    assert!(lost(&within("an end", waiting).await.unwrap().unwrap_err()));
}

/// A real clock. The connection has died without a word, which HTTP/2 would notice after 15 s: long after the shortest lease.
#[tokio::test]
async fn renewals_that_nobody_answers_go_by_another_connection() {
    let listen = vec![Listen::Tcp(([127, 0, 0, 1], 0).into())];
    let agent = Agent::start_with(AgentConfig { listen, no_auth: true, ..AgentConfig::default() }).await;
    let silent = |number| Fault { drop_answers_after: (number == 0).then_some(60_000), ..Fault::default() };
    let proxy = Proxy::start(agent.tcp(), silent).await;
    let endpoint = Endpoint::Tcp { host: proxy.address.ip().to_string(), port: proxy.address.port() };
    let client = AgentClient::new(&Dialer::to(&endpoint), &Credentials::none());
    let lease = LeaseSpec { ttl: Some(Duration::from_secs(5)), ..LeaseSpec::default() };
    let session = client.open_session(Some(&lab()), SessionSpec { lease, ..SessionSpec::default() }).await.unwrap();
    // Until nothing comes through any more: this call is never answered.
    let mut calls = 0;
    while timeout(Duration::from_millis(500), client.info()).await.is_ok() {
        calls += 1;
        assert!(calls < 100, "the proxy drops answers");
    }
    // It lives for longer than its TTL, which is the time in which it is not lost.
    assert!(timeout(Duration::from_millis(5500), session.lost()).await.is_err());
    assert!(proxy.connections() >= 2, "{}", proxy.connections());
    assert_eq!(agent.all_events("lab").await, vec![], "the agent has not even warned");
}
