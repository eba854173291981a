//! Calls of the client library are carried out once, over links that lose calls, lose answers, double calls and break.
//!
//! `FARSOCK_LONG=1`: a hundred thousand calls. `FARSOCK_SEED=N`: other mishaps.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use farsock::agent::{AgentConfig, Listen};
use farsock::client::{AgentClient, ClientError, Credentials, Dialer, Endpoint};
use farsock::model::address::AddressText;
use farsock::model::id::{SessionId, SocketId};
use farsock::model::limits::Limits;
use farsock::model::operation::{
    Action, CallOptions, Outcome, OutgoingDatagram, SendFlags, SocketAction, Target, WriteFlags, Yield,
};
use farsock::model::session::SessionSpec;
use farsock::model::spec::{Kind, SocketSpec, TcpRole, UdpSpec};
use farsock::wire::pb;
use rustix::process::Signal;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use crate::harness::frames::no_task_is_left;
use crate::harness::tcp::FullListener;
use crate::harness::{Agent, AgentProcess, Fault, LOOPBACKS, Mishap, Proxy, Relay, TcpPeer, UdpPeer, long, within};

/// How many work side by side, each with a connection and a UDP socket of its own.
const WORKERS: usize = 4;

fn lab() -> SessionId {
    SessionId::parse("lab").unwrap()
}

fn client_of(address: std::net::SocketAddr) -> AgentClient {
    let endpoint = Endpoint::Tcp { host: address.ip().to_string(), port: address.port() };
    AgentClient::new(&Dialer::to(&endpoint), &Credentials::none())
}

fn seed() -> u64 {
    std::env::var("FARSOCK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

/// Numbers by chance: a linear congruential generator, of which the upper bits are used.
fn chance(state: &AtomicU64) -> u64 {
    let step = |state: u64| state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    step(state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| Some(step(state))).unwrap()) >> 33
}

/// A quarter of all calls comes to grief; counts how often what has happened.
fn mishaps(counts: &Arc<Mutex<HashMap<&'static str, u64>>>) -> impl Fn() -> Mishap + Send + Sync + 'static {
    let (state, counts) = (AtomicU64::new(seed()), Arc::clone(counts));
    move || {
        let (mishap, name) = match chance(&state) % 16 {
            0 => (Mishap::CallLost, "calls lost"),
            1 | 2 => (Mishap::AnswerLost, "answers lost"),
            3 => (Mishap::Doubled, "calls doubled"),
            _ => (Mishap::None, "calls that came through"),
        };
        *counts.lock().unwrap().entry(name).or_default() += 1;
        mishap
    }
}

/// One client's work: it writes and sends numbers, and makes and closes sockets.
struct Worker {
    client: AgentClient,
    number: usize,
    line: TcpPeer,
    mail: UdpPeer,
    written: Vec<u8>,
}

impl Worker {
    fn socket(&self, id: &str) -> Target {
        Target { session: lab(), socket: SocketId::parse(&format!("{id}-{}", self.number)).unwrap(), uid: None }
    }

    async fn call(&self, action: Action) -> Outcome {
        let options = CallOptions { fail_on_error: true, ..CallOptions::default() };
        within("an answer", self.client.call(&action, &options))
            .await
            .unwrap_or_else(|error| panic!("{action:?}: {error:?}"))
    }

    async fn make(&self, target: Target, spec: SocketSpec) -> Outcome {
        self.call(Action::CreateSocket { session: lab(), socket: Some(target.socket), spec: Box::new(spec) }).await
    }

    async fn start(client: AgentClient, number: usize) -> Self {
        let ip = LOOPBACKS[number % 2];
        let (listener, address) = TcpPeer::listen(ip).await;
        let mail = UdpPeer::bind(ip).await;
        let connect = async {
            let to = TcpRole::Connect(AddressText::parse(&address.to_string()).unwrap());
            let line = SocketId::parse(&format!("line-{number}")).unwrap();
            let create =
                Action::CreateSocket { session: lab(), socket: Some(line), spec: Box::new(SocketSpec::tcp(to)) };
            client.call(&create, &CallOptions::default()).await.unwrap();
        };
        let (line, ()) = tokio::join!(TcpPeer::accept(&listener), connect);
        let worker = Self { client, number, line, mail, written: Vec::new() };
        worker.make(worker.socket("mail"), udp(ip)).await;
        worker
    }

    async fn work(mut self, rounds: u32) -> Self {
        for round in 0..rounds {
            let bytes = round.to_be_bytes().to_vec();
            let write = SocketAction::Write {
                payload: bytes.clone().into(),
                expected_offset: None,
                flags: WriteFlags::default(),
                slices: None,
            };
            let written = self.call(Action::Socket(self.socket("line"), write)).await;
            let offset = self.written.len() as u64;
            assert!(matches!(written.yielded, Yield::Written { size: 4, offset: at } if at == offset), "{written:?}");
            self.written.extend(&bytes);

            let destination = Some(AddressText::parse(&self.mail.text()).unwrap());
            let datagram = OutgoingDatagram { destination, payload: bytes.into(), ..OutgoingDatagram::default() };
            let send =
                SocketAction::Send { datagrams: vec![datagram], interval: Duration::ZERO, flags: SendFlags::default() };
            self.call(Action::Socket(self.socket("mail"), send)).await;
            // Exactly one, and that one.
            assert_eq!(self.mail.receive().await.0, round.to_be_bytes());

            let target = self.socket(&format!("s-{round}"));
            self.make(target.clone(), udp(LOOPBACKS[self.number % 2])).await;
            let close = SocketAction::Close { linger: None, allow_missing: false };
            self.call(Action::Socket(target, close)).await;
        }
        let read = self.line.read(self.written.len()).await;
        assert!(read == self.written, "each number once, and in order");
        self
    }
}

fn udp(ip: std::net::IpAddr) -> SocketSpec {
    let bind = Some(AddressText::parse(&std::net::SocketAddr::new(ip, 0).to_string()).unwrap());
    let kind = Kind::Udp(UdpSpec { connect: None, groups: Vec::new(), probes: false });
    SocketSpec { kind, bind, ..SocketSpec::tcp(TcpRole::Idle) }
}

#[tokio::test]
async fn whatever_is_lost_or_doubled_under_way_is_done_once() {
    let rounds = if long() { 6_250 } else { 125 };
    let limits = Limits { log_events: 1 << 21, log_final_events: 1 << 18, ..Limits::default() };
    let agent = Agent::start_with(AgentConfig { limits, ..AgentConfig::default() }).await;
    let counts = Arc::default();
    let relay = Relay::start(agent.channel(), mishaps(&counts)).await;
    let state = AtomicU64::new(seed() ^ 77);
    let cuts = move |_| Fault { cut_answers_after: Some(500 + chance(&state) % 60_000), ..Fault::default() };
    let proxy = Proxy::start(relay.address, cuts).await;
    let client = client_of(proxy.address);
    let session = client.open_session(Some(&lab()), SessionSpec::default()).await.unwrap();

    let mut workers = JoinSet::new();
    for number in 0..WORKERS {
        let client = session.client().clone();
        workers.spawn(async move { Worker::start(client, number).await.work(rounds).await });
    }
    let workers = workers.join_all().await;
    for worker in &workers {
        // No datagram came twice: what stands behind the last one is this.
        worker.mail.send(&worker.mail.text(), b"the end").await;
        assert_eq!(worker.mail.receive().await.0, b"the end");
    }
    let calls = WORKERS as u64 * (2 + 4 * u64::from(rounds));
    let events = agent.all_events("lab").await;
    let mut seen: HashMap<(&str, &str), u64> = HashMap::new();
    for event in &events {
        *seen.entry((&event.request_id, &event.kind)).or_default() += 1;
    }
    let of = |kind: &str| {
        let requests = seen.iter().filter(|((_, of), _)| *of == kind);
        requests.map(|((request, _), count)| (request, *count)).collect::<Vec<_>>()
    };
    for (kind, count) in [("written", 1), ("sent", 1), ("closed", 1), ("created", 1)] {
        let found = of(kind);
        assert!(found.iter().all(|(_, times)| *times == count), "`{kind}` happened more than once for a call");
        let more = if kind == "created" { 2 * WORKERS } else { 0 };
        assert_eq!(found.len(), WORKERS * rounds as usize + more, "{kind}");
    }
    let counts = counts.lock().unwrap().clone();
    println!("{calls} calls: {counts:?}, {} connections, {} events", proxy.connections(), events.len());
    for often in ["calls lost", "answers lost", "calls doubled"] {
        assert!(counts[often] > calls / 40, "nothing was tried: {counts:?}");
    }
    assert!(proxy.connections() > 5, "{}", proxy.connections());
    drop(workers);
    session.delete().await.unwrap();
    drop((session, client, proxy, relay));
    agent.stop().await;
    no_task_is_left().await;
}

/// An agent that was started anew does not do once more what the last one may have done: whoever asked for it is told so.
#[tokio::test]
async fn what_an_agent_may_have_done_is_not_done_again_by_the_next_one() {
    let (first, second) = (AgentProcess::start().await, AgentProcess::start().await);
    let now = Arc::new(Mutex::new(first.unix()));
    let dialer = Dialer::from_fn({
        let now = Arc::clone(&now);
        move || {
            let path = now.lock().unwrap().clone();
            async move { UnixStream::connect(path).await }
        }
    });
    let client = AgentClient::new(&dialer, &Credentials::none());
    let full = FullListener::new(LOOPBACKS[0]);
    let to = TcpRole::Connect(AddressText::parse(&full.address.to_string()).unwrap());
    let create = |id: &str, spec| {
        let socket = Some(SocketId::parse(id).unwrap());
        Action::CreateSocket { session: SessionId::default(), socket, spec: Box::new(spec) }
    };
    let connect = create("line", SocketSpec::tcp(to));
    let connecting = {
        let client = client.clone();
        tokio::spawn(async move { client.call(&connect, &CallOptions::default()).await })
    };
    first.agent().event("line", "connect_started").await;
    *now.lock().unwrap() = second.unix();
    first.signal(Signal::KILL);
    let error = within("an answer", connecting).await.unwrap().unwrap_err();
    assert!(matches!(&error, ClientError::Refused { reason, .. } if reason == "INSTANCE_CHANGED"), "{error:?}");
    let agent = second.agent();
    assert_eq!(agent.open_sockets().await, 0);
    // The next call is for the agent that is there now.
    client.call(&create("s", udp(LOOPBACKS[0])), &CallOptions::default()).await.unwrap();
    assert_eq!(agent.open_sockets().await, 1);
    drop(agent);
    second.stop().await;
}

/// Nobody is reached, so there is nothing that could be asked for again.
#[tokio::test]
async fn what_was_never_sent_is_not_asked_for_again() {
    let dialer =
        Dialer::from_fn(|| async { Err::<tokio::io::DuplexStream, _>(std::io::ErrorKind::NetworkUnreachable.into()) });
    let client = AgentClient::new(&dialer, &Credentials::none());
    let reset = Action::ResetSession { session: SessionId::default() };
    let error = client.call(&reset, &CallOptions::default()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { sent: false, .. }), "{error:?}");
}

/// A client whose connection for streams is cut after so many bytes, once: the first of its connections is that for calls.
async fn cut_once(agent: &Agent, fault: Fault) -> (AgentClient, Proxy) {
    let proxy = Proxy::start(agent.tcp(), move |number| if number == 1 { fault } else { Fault::default() }).await;
    (client_of(proxy.address), proxy)
}

/// Where its connection for streams is cut: while it asks, or while it is answered.
fn cuts() -> impl Iterator<Item = Fault> {
    let answers = (60..400).step_by(24).map(|bytes| Fault { cut_answers_after: Some(bytes), ..Fault::default() });
    let questions = (60..600).step_by(36).map(|bytes| Fault { cut_questions_after: Some(bytes), ..Fault::default() });
    answers.chain(questions)
}

async fn agent_by_tcp() -> Agent {
    let listen = vec![Listen::Tcp(([127, 0, 0, 1], 0).into())];
    Agent::start_with(AgentConfig { listen, no_auth: true, ..AgentConfig::default() }).await
}

/// Until a stream is known to be open no bytes have moved, so it is opened again: wherever its link broke, nothing is missing.
#[tokio::test]
async fn a_stream_takes_a_connection_over_wherever_its_link_breaks() {
    let agent = agent_by_tcp().await;
    let (mut lost, mut all) = (0, 0);
    for (number, fault) in cuts().enumerate() {
        let (listener, address) = TcpPeer::listen(LOOPBACKS[number % 2]).await;
        let id = format!("line-{number}");
        // What comes stays in the kernel until a stream grants it.
        let delivery = Some(pb::Delivery { mode: pb::DeliveryMode::Transfer.into(), ..Default::default() });
        agent.connect_with(&id, &address.to_string(), pb::TcpSocketSpec { delivery, ..Default::default() }).await;
        let mut peer = TcpPeer::accept(&listener).await;
        peer.write(b"hola").await;
        let (client, proxy) = cut_once(&agent, fault).await;
        let target = Target { session: SessionId::default(), socket: SocketId::parse(&id).unwrap(), uid: None };
        let mut stream =
            within("a stream", client.attach(&target)).await.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        lost += usize::from(proxy.connections() > 2);
        all += 1;
        if proxy.connections() > 2 {
            let mut read = [0; 4];
            within("bytes", stream.read_exact(&mut read)).await.unwrap();
            assert_eq!(&read, b"hola", "{fault:?}");
        }
        drop(stream);
    }
    println!("{lost} of {all} links broke before the stream was open");
    assert!(lost > 5, "{lost} of {all}");
    agent.stop().await;
    no_task_is_left().await;
}

/// A connection that is made for a stream goes with it. Asked for again, it is made where the first question was lost, and never twice.
#[tokio::test]
async fn a_stream_makes_no_connection_twice_wherever_its_link_breaks() {
    let agent = agent_by_tcp().await;
    let (mut again, mut failed) = (0, 0);
    for (number, fault) in cuts().enumerate() {
        let (listener, address) = TcpPeer::listen(LOOPBACKS[number % 2]).await;
        let (client, proxy) = cut_once(&agent, fault).await;
        let (session, id) = (SessionId::default(), SocketId::parse(&format!("line-{number}")).unwrap());
        let spec = SocketSpec::tcp(TcpRole::Connect(AddressText::parse(&address.to_string()).unwrap()));
        let options = CallOptions::default();
        match within("an answer", client.connect(&session, Some(&id), spec, &options)).await {
            Ok(stream) => {
                again += usize::from(proxy.connections() > 2);
                let _peer = TcpPeer::accept(&listener).await;
                drop(stream);
            }
            Err(error) => {
                failed += 1;
                let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ClientError>());
                assert!(matches!(inner, Some(ClientError::Unreachable { sent: true, .. })), "{fault:?}: {error:?}");
            }
        }
        agent.event(id.as_str(), "closed").await;
        let made = agent.kinds(id.as_str()).await.iter().filter(|kind| *kind == "created").count();
        assert_eq!(made, 1, "{fault:?}");
    }
    println!("made once more as the first question was lost: {again}; lost with its stream: {failed}");
    assert!(again > 0 && failed > 0, "{again} and {failed}");
    agent.stop().await;
    no_task_is_left().await;
}
