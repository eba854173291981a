//! A watch of the client library keeps what it promises whatever happens to its connection: each event once, in order, and what is missing is
//! told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use farsock::agent::{AgentConfig, Listen};
use farsock::client::{AgentClient, Backoff, ClientError, Credentials, Dialer, Endpoint, Watch, WatchItem};
use farsock::model::event::Event;
use farsock::model::id::{SessionId, WatcherId};
use farsock::model::limits::Limits;
use farsock::wire::pb;
use tokio::time::timeout;

use crate::harness::frames::no_task_is_left;
use crate::harness::tcp::{connecting_to, pattern_bytes};
use crate::harness::{Agent, Fault, LOOPBACKS, Proxy, TcpPeer, filter, millis, text, within};

/// Pauses that nobody notices.
const SOON: Backoff = Backoff { first: Duration::from_millis(1), longest: Duration::from_millis(4) };

/// An agent that is reached by TCP as well, and keeps so many events.
async fn agent_with(log_events: u32) -> (Agent, SocketAddr) {
    let limits = Limits { log_events, log_final_events: 0, ..Limits::default() };
    let listen = vec![Listen::Tcp(([127, 0, 0, 1], 0).into())];
    let agent = Agent::start_with(AgentConfig { listen, no_auth: true, limits, ..AgentConfig::default() }).await;
    let address = agent.tcp();
    (agent, address)
}

fn client_of(address: SocketAddr) -> AgentClient {
    let endpoint = Endpoint::Tcp { host: address.ip().to_string(), port: address.port() };
    AgentClient::new(&Dialer::to(&endpoint), &Credentials::none())
}

async fn watch(client: &AgentClient) -> Watch {
    // Its first connection may be cut, too; from then on it comes back by itself.
    within("a watch", async {
        loop {
            match client.watch(&SessionId::default()).await {
                Ok(watch) => return watch.with_backoff(SOON),
                Err(error) => assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}"),
            }
        }
    })
    .await
}

async fn next(watch: &mut Watch) -> WatchItem {
    within("news", watch.next()).await.unwrap().expect("the session lives")
}

/// What a watch has told, number by number.
#[derive(Default)]
struct Told {
    through: u64,
    events: u64,
    missing: u64,
    interruptions: u64,
}

impl Told {
    /// Takes up an item, in which no number may be told again or passed over.
    fn take_up(&mut self, item: WatchItem) {
        match item {
            WatchItem::Events { records, through_seq } => {
                for record in records {
                    assert_eq!(record.seq, self.through + 1);
                    self.through = record.seq;
                    self.events += 1;
                }
                assert_eq!(self.through, through_seq, "nothing is filtered out");
            }
            WatchItem::Gap(gap) => {
                assert_eq!(gap.first, self.through + 1);
                self.missing += gap.last + 1 - gap.first;
                self.through = gap.last;
            }
            WatchItem::Interrupted { .. } => self.interruptions += 1,
            WatchItem::Quiet { .. } => {}
            WatchItem::Restarted => panic!("nobody has restarted it"),
        }
    }
}

/// Cuts at a byte between the first and the 16 thousandth, small numbers as often as large ones, as long as the test wants it.
fn cuts(seed: u64, going_on: &Arc<Mutex<bool>>) -> impl FnMut(usize) -> Fault + Send + 'static {
    let (mut state, going_on) = (seed, Arc::clone(going_on));
    move |_| {
        if !*going_on.lock().unwrap() {
            return Fault::default();
        }
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = state >> 33;
        let after = random % (1 << (4 + random % 11));
        // A client says little: its own cut may never come.
        let cut_questions_after = (random % 16 == 0).then_some(after % 500);
        Fault { cut_questions_after, cut_answers_after: Some(after), ..Fault::default() }
    }
}

/// Lets an agent that keeps so many events tell of so many datagrams at a time, over a link that breaks, until it has broken so often.
async fn over_a_link_that_breaks(log_events: u32, datagrams: usize, interruptions: u64) -> Told {
    let (agent, address) = agent_with(log_events).await;
    let going_on = Arc::new(Mutex::new(true));
    let seed = std::env::var("FARSOCK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let proxy = Proxy::start(address, cuts(seed, &going_on)).await;
    let client = client_of(proxy.address);
    let mut watch = watch(&client).await;
    let (mut told, mut head) = (Told::default(), 0);
    let here = agent.udp_in("", "line").await.local.unwrap().text;
    let datagram = pb::Datagram { destination: here, payload: text("hola"), ..Default::default() };
    let datagrams = vec![datagram; datagrams];
    let send = pb::SendDatagramsRequest { socket_id: "line".into(), datagrams, ..Default::default() };
    while told.interruptions < interruptions {
        if told.through >= head {
            let sent = agent.sockets().send_datagrams(send.clone()).await.unwrap().into_inner();
            head = sent.report.unwrap().last_event_seq;
        }
        told.take_up(next(&mut watch).await);
    }
    *going_on.lock().unwrap() = false;
    agent.close("line").await;
    let head = agent.client().session(&SessionId::default()).await.unwrap().head_seq;
    while told.through < head {
        told.take_up(next(&mut watch).await);
    }
    assert!(proxy.connections() as u64 > interruptions / 2);
    drop((watch, client, proxy));
    agent.stop().await;
    no_task_is_left().await;
    told
}

/// How often a link breaks: the long form is for whoever has the time.
fn often(times: u64) -> u64 {
    if std::env::var_os("FARSOCK_LONG").is_some() { 20 * times } else { times }
}

#[tokio::test]
async fn a_watch_that_is_cut_off_at_any_byte_misses_nothing() {
    let told = over_a_link_that_breaks(1 << 22, 3, often(2000)).await;
    assert_eq!((told.events, told.missing), (told.through, 0));
}

#[tokio::test]
async fn a_watch_that_is_cut_off_from_a_short_log_knows_what_it_misses() {
    let told = over_a_link_that_breaks(40, 30, often(500)).await;
    assert_eq!(told.events + told.missing, told.through);
    assert!(told.missing > 0 && told.events > 0, "{} and {}", told.events, told.missing);
}

/// Neither end is told: HTTP/2's own pings notice it after 15 s.
#[tokio::test]
async fn a_watch_notices_a_link_that_has_died_without_a_word() {
    let (agent, address) = agent_with(1000).await;
    let silent = |number| Fault { drop_answers_after: (number == 0).then_some(1000), ..Fault::default() };
    let proxy = Proxy::start(address, silent).await;
    let mut watch = watch(&client_of(proxy.address)).await;
    // More than still comes through.
    for at in 0..10 {
        agent.udp_in("", &format!("line-{at}")).await;
    }
    let mut told = Told::default();
    let news = async {
        while told.interruptions == 0 {
            told.take_up(watch.next().await.unwrap().unwrap());
        }
    };
    timeout(Duration::from_secs(60), news).await.unwrap();
    while told.through < 20 {
        told.take_up(next(&mut watch).await);
    }
}

#[tokio::test]
async fn a_watch_tells_that_the_agent_was_restarted() {
    let first = Agent::start().await;
    let now = Arc::new(Mutex::new(first.connector()));
    let dialer = Dialer::from_fn({
        let now = Arc::clone(&now);
        move || {
            let connector = now.lock().unwrap().clone();
            async move { connector.connect().await }
        }
    });
    let mut watch = watch(&AgentClient::new(&dialer, &Credentials::none())).await;
    first.udp_in("", "line").await;
    let mut told = Told::default();
    while told.through < 2 {
        told.take_up(next(&mut watch).await);
    }
    first.stop().await;
    let announced = loop {
        match next(&mut watch).await {
            WatchItem::Events { records, .. } => {
                break records.iter().any(|record| matches!(record.event, Event::AgentDraining { .. }));
            }
            other => told.take_up(other),
        }
    };
    assert!(announced);
    while told.interruptions < 3 {
        match next(&mut watch).await {
            WatchItem::Interrupted { error, .. } => {
                assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
                told.interruptions += 1;
            }
            WatchItem::Events { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    let second = Agent::start().await;
    second.udp_in("", "line").await;
    *now.lock().unwrap() = second.connector();
    while next(&mut watch).await != WatchItem::Restarted {}
    let mut told = Told::default();
    while told.through < 2 {
        told.take_up(next(&mut watch).await);
    }
}

/// Whoever comes back under the name, and be it another program, goes on behind what was taken; what was told and not taken is told again.
#[tokio::test]
async fn a_watch_with_a_name_goes_on_behind_what_was_taken() {
    let (agent, address) = agent_with(16).await;
    agent.create_session("lab").await.unwrap();
    let (lab, desk) = (SessionId::parse("lab").unwrap(), WatcherId::parse("desk").unwrap());
    let client = client_of(address);
    let mut watch = client.watch_as(&lab, &desk).await.unwrap();
    agent.udp_in("lab", "one").await;
    let mut told = Told::default();
    while told.through < 2 {
        told.take_up(next(&mut watch).await);
    }
    // Asking for the next one says that the last one has been taken.
    let mut asked = Box::pin(watch.next());
    let observer = agent.client();
    within("the acknowledgement", async {
        loop {
            let held = tokio::select! {
                item = &mut asked => panic!("nothing happens: {item:?}"),
                session = observer.session(&lab) => session.unwrap().watchers,
            };
            if held == [(desk.clone(), 2)] {
                break;
            }
        }
    })
    .await;
    agent.udp_in("lab", "two").await;
    let item = within("news", asked).await.unwrap().unwrap();
    assert!(matches!(&item, WatchItem::Events { records, .. } if records[0].seq == 3), "{item:?}");
    // Told, and not taken.
    drop(watch);
    let mut watch = client_of(address).watch_as(&lab, &desk).await.unwrap();
    told.through = 2;
    while told.through < 4 {
        told.take_up(next(&mut watch).await);
    }
    let observed = agent.client().watch(&SessionId::default()).await;
    assert!(observed.is_ok(), "without a name, everything is as before");
    let refused = client.watch_as(&SessionId::default(), &desk).await.unwrap_err();
    assert!(matches!(refused, ClientError::Refused { reason, .. } if reason == "NOT_LOSSLESS"));
}

/// Over a link that breaks again and again, and with a log that is much too short for what comes.
#[tokio::test]
async fn a_watch_with_a_name_loses_nothing_however_slow_it_is() {
    const SIZE: usize = 4 << 20;
    let limits = Limits { log_bytes: 256 << 10, log_events: 64, ..Limits::default() };
    let listen = vec![Listen::Tcp(([127, 0, 0, 1], 0).into())];
    let agent = Agent::start_with(AgentConfig { listen, no_auth: true, limits, ..AgentConfig::default() }).await;
    agent.create_session("lab").await.unwrap();
    let lab = SessionId::parse("lab").unwrap();
    let cut = |number| Fault { cut_answers_after: Some(100_000 + 70_000 * (number as u64 % 7)), ..Fault::default() };
    let proxy = Proxy::start(agent.tcp(), cut).await;
    let client = client_of(proxy.address);
    let mut watch = client.watch_as(&lab, &WatcherId::parse("desk").unwrap()).await.unwrap().with_backoff(SOON);
    let (listener, address) = TcpPeer::listen(LOOPBACKS[0]).await;
    let kind = Some(pb::create_socket_request::Kind::Tcp(connecting_to(&address.to_string())));
    let request = pb::CreateSocketRequest { session_id: "lab".into(), kind, ..Default::default() };
    agent.create_socket(request).await.unwrap();
    let mut peer = TcpPeer::accept(&listener).await;
    let sending = tokio::spawn(async move {
        peer.write(&pattern_bytes(SIZE, 3)).await;
        peer.shut_down().await;
        peer
    });
    // Nobody reads for now.
    let paused = pb::WaitEventRequest {
        session_id: "lab".into(),
        filter: filter(&[], &["read_paused"]),
        timeout: millis(20_000),
        ..Default::default()
    };
    assert!(agent.wait(paused).await.unwrap().event.is_some(), "the log is full");
    let (mut told, mut bytes, mut end) = (Told::default(), Vec::new(), false);
    while !end {
        let item = next(&mut watch).await;
        if let WatchItem::Events { records, .. } = &item {
            for record in records {
                match &record.event {
                    Event::Received { payload, .. } => bytes.extend_from_slice(payload),
                    Event::PeerClosed { .. } => end = true,
                    _ => {}
                }
            }
        }
        told.take_up(item);
    }
    assert_eq!(told.missing, 0);
    assert!(bytes == pattern_bytes(SIZE, 3));
    assert!(told.interruptions > 5, "{}", told.interruptions);
    within("the peer", sending).await.unwrap();
}

#[tokio::test]
async fn a_watch_ends_with_its_session() {
    let agent = Agent::start().await;
    agent.create_session("lab").await.unwrap();
    let client = agent.client();
    let mut watch = client.watch(&SessionId::parse("lab").unwrap()).await.unwrap();
    agent.udp_in("lab", "line").await;
    agent.delete("lab", false).await.unwrap();
    let mut told = Told::default();
    while let Some(item) = within("the end", watch.next()).await.unwrap() {
        told.take_up(item);
    }
    assert!(told.events >= 3 && told.interruptions == 0, "{}", told.events);
    assert_eq!(watch.next().await, Ok(None), "and again");
    let error = client.watch(&SessionId::parse("lab").unwrap()).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { reason, .. } if reason == "SESSION_NOT_FOUND"));
}
