//! What watches of the client library tell over links that break by the thousand is held to the six promises that the simulator holds its
//! watchers to, against what a watch tells whose link does not break.
//!
//! `FARSOCK_LONG=1`: a million events. `FARSOCK_SEED=N`: other cuts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use farsock::agent::{AgentConfig, Listen};
use farsock::client::{AgentClient, Backoff, Credentials, Dialer, Endpoint, Watch, WatchItem};
use farsock::model::id::{SessionId, WatcherId};
use farsock::model::limits::Limits;
use farsock::wire::pb;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::harness::frames::no_task_is_left;
use crate::harness::{Agent, Fault, Proxy, long, millis, text, within};
use crate::simulator::history::{Fact, History, Seen};
use crate::simulator::validators::broken;

/// Pauses that nobody notices.
const SOON: Backoff = Backoff { first: Duration::from_millis(1), longest: Duration::from_millis(4) };

/// How many datagrams are sent at a time: no more than a connection carries before it is cut, as a batch of events is told whole or not at all.
const DATAGRAMS: usize = 100;

fn client_of(address: std::net::SocketAddr) -> AgentClient {
    let endpoint = Endpoint::Tcp { host: address.ip().to_string(), port: address.port() };
    AgentClient::new(&Dialer::to(&endpoint), &Credentials::none())
}

/// Cuts each connection at some byte, small numbers as often as large ones, for as long as that is wanted.
fn cuts(number: u64, going_on: &Arc<AtomicBool>) -> impl FnMut(usize) -> Fault + Send + 'static {
    let seed: u64 = std::env::var("FARSOCK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let (mut state, going_on) = (seed ^ number << 32, Arc::clone(going_on));
    move |_| {
        if !going_on.load(Ordering::Relaxed) {
            return Fault::default();
        }
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = state >> 33;
        let after = random % (1 << (5 + random % 14));
        let cut_questions_after = (random % 16 == 0).then_some(after % 500);
        Fault { cut_questions_after, cut_answers_after: Some(after), ..Fault::default() }
    }
}

/// Somebody who reads, and what is known of how far it is: through which number, and how often it was cut off.
struct Reader {
    told: watch::Receiver<(u64, u64)>,
    _proxy: Option<Proxy>,
}

/// Reads until everything through `end` has been told, and answers all that was told.
async fn read(
    mut watch: Watch,
    mut history: History,
    told: watch::Sender<(u64, u64)>,
    mut end: watch::Receiver<u64>,
) -> History {
    history.seen.push(Seen::Opened { after: None, oldest: 0 });
    let (mut through, mut cut_off) = (0, 0);
    while through < *end.borrow_and_update() {
        let item = tokio::select! {
            item = watch.next() => item.unwrap().expect("the session lives"),
            Ok(()) = end.changed() => continue,
        };
        match item {
            WatchItem::Events { records, through_seq } => {
                let records = records.into_iter().map(Arc::new).collect();
                history.seen.push(Seen::Batch { from: through + 1, through: through_seq, records });
                through = through_seq;
            }
            WatchItem::Gap(gap) => {
                history.seen.push(Seen::Gap { first: gap.first, last: gap.last });
                through = gap.last;
            }
            WatchItem::Quiet { head_seq } => history.seen.push(Seen::Bookmark { through: head_seq }),
            WatchItem::Interrupted { .. } => {
                cut_off += 1;
                history.seen.push(Seen::Opened { after: Some(through), oldest: 0 });
            }
            WatchItem::Restarted => panic!("nobody has restarted it"),
        }
        told.send_replace((through, cut_off));
    }
    history
}

/// A watch of the session, which may be cut off before it has begun.
async fn begin(client: &AgentClient, name: Option<&str>) -> Watch {
    let lab = SessionId::parse("lab").unwrap();
    within("a watch", async {
        loop {
            let begun = match name {
                Some(name) => client.watch_as(&lab, &WatcherId::parse(name).unwrap()).await,
                None => client.watch(&lab).await,
            };
            if let Ok(watch) = begun {
                return watch.with_backoff(SOON);
            }
        }
    })
    .await
}

#[tokio::test]
async fn no_promise_is_broken_however_often_the_link_is() {
    let (events, cut_off) = if long() { (1_000_000, 10_000) } else { (20_000, 350) };
    // Those without a name miss some, as the log is short.
    let limits = Limits { log_events: 20_000, ..Limits::default() };
    let listen = vec![Listen::Tcp(([127, 0, 0, 1], 0).into())];
    let agent = Agent::start_with(AgentConfig { listen, no_auth: true, limits, ..AgentConfig::default() }).await;
    let request =
        pb::CreateSessionRequest { session_id: "lab".into(), lease_ttl: millis(3_600_000), ..Default::default() };
    agent.sessions().create_session(request).await.unwrap();

    let (going_on, end) = (Arc::new(AtomicBool::new(true)), watch::Sender::new(u64::MAX));
    let (mut readers, mut reading) = (Vec::new(), JoinSet::new());
    for (number, (name, breaks)) in
        [(Some("whole"), false), (Some("desk"), true), (None, true), (None, true)].iter().enumerate()
    {
        let proxy = if *breaks { Some(Proxy::start(agent.tcp(), cuts(number as u64, &going_on)).await) } else { None };
        let client = client_of(proxy.as_ref().map_or_else(|| agent.tcp(), |proxy| proxy.address));
        let watch = begin(&client, *name).await;
        let (tell, told) = watch::channel((0, 0));
        // Whoever has a name misses nothing.
        let history = History { held_from: name.map(|_| 1), ..History::default() };
        let task = read(watch, history, tell, end.subscribe());
        reading.spawn(async move { (number, task.await) });
        readers.push(Reader { told, _proxy: proxy });
    }

    let here = agent.udp_in("lab", "line").await.local.unwrap().text;
    let datagram = pb::Datagram { destination: here, payload: text("hola"), ..Default::default() };
    let send = pb::SendDatagramsRequest {
        session_id: "lab".into(),
        socket_id: "line".into(),
        datagrams: vec![datagram; DATAGRAMS],
        ..Default::default()
    };
    let (begun, mut head) = (Instant::now(), 0);
    let cuts_so_far = |readers: &[Reader]| readers[1..].iter().map(|reader| reader.told.borrow().1).min().unwrap();
    while head < events || cuts_so_far(&readers) < cut_off {
        let report = agent.sockets().send_datagrams(send.clone()).await.unwrap().into_inner().report.unwrap();
        head = report.last_event_seq;
        // Whoever only looks on may fall behind as far as it will.
        for reader in &mut readers[..2] {
            let close = |(through, _): &(u64, u64)| *through >= head;
            within("a reader", reader.told.wait_for(close)).await.unwrap();
        }
    }
    going_on.store(false, Ordering::Relaxed);
    let (session_id, socket_id) = ("lab".into(), "line".into());
    agent.close_socket(pb::CloseSocketRequest { session_id, socket_id, ..Default::default() }).await.unwrap();
    let head = agent.client().session(&SessionId::parse("lab").unwrap()).await.unwrap().head_seq;
    end.send_replace(head);
    let mut histories = within("the end", reading.join_all()).await;
    histories.sort_by_key(|(number, _)| *number);
    let cut_offs: Vec<u64> = readers.iter().map(|reader| reader.told.borrow().1).collect();
    println!("{head} events, cut off {cut_offs:?} times, in {:?}", begun.elapsed());

    let facts: Vec<Fact> = histories[0]
        .1
        .seen
        .iter()
        .flat_map(|seen| match seen {
            Seen::Batch { records, .. } => {
                records.iter().map(|record| Fact { record: Arc::clone(record), piece: record.seq }).collect()
            }
            _ => Vec::new(),
        })
        .collect();
    assert_eq!((facts.len() as u64, facts.last().unwrap().record.seq), (head, head), "it has all of them");
    for (number, history) in &histories {
        assert_eq!(broken(&facts, history), [], "reader {number}");
    }
    drop(readers);
    agent.stop().await;
    no_task_is_left().await;
}
