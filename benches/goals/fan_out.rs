//! G7: fan-out. What each further watcher of the same small events costs the agent, beside the first one, in whose part receiving and logging
//! are; and how many events all of them get.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use farsock::client::{AgentClient, Watch, WatchItem};
use farsock::model::event::Event;
use tokio::task::{JoinSet, spawn_blocking};

use crate::agent::{Sockets, TestAgent, begin_session, create_udp, end_session};
use crate::rounds::{Figure, quick, rate, repeat, short};
use crate::side::{Kind, Side, time_of};
use crate::small_events::{DATAGRAM, LARGE_BUFFER, per_second};

const KIND: Kind = Kind::OneWorker;
/// How many watchers there are at a time.
const WATCHERS: [usize; 3] = [1, 10, 100];
/// How many datagrams the sender may be ahead of the first watcher: what a receive buffer holds, so that hardly any is dropped.
const AHEAD: u64 = 1000;

/// What was measured with so many watchers.
#[derive(Debug, Clone, Copy)]
struct Fan {
    /// The agent's processor time for each event, in seconds.
    cost: Option<f64>,
    /// How many events all watchers together got a second.
    rate: f64,
}

pub(crate) fn run() {
    let agent = TestAgent::start(KIND);
    let client = Side::start("client", KIND);
    // Each on connections of its own, as controllers are.
    let clients: Vec<AgentClient> = (0..WATCHERS[2]).map(|_| agent.client(&client)).collect();
    let calls = agent.sockets(&client, agent.tcp());
    let measure = |count: usize| client.run(fan_out(calls.clone(), clients[..count].to_vec()));
    let round = || WATCHERS.map(measure);
    if !quick() {
        round();
    }
    let rounds = repeat(round);
    let of_first: Vec<Fan> = rounds.iter().map(|[first, ..]| *first).collect();
    for (at, (which, wanted)) in [("2nd to 10th", "≤ 0.40"), ("2nd to 100th", "≤ 0.40")].into_iter().enumerate() {
        let count = WATCHERS[at + 1];
        let fans: Vec<Fan> = rounds.iter().map(|round| round[at + 1]).collect();
        let further = |(many, one): (&Fan, &Fan)| Some((many.cost? - one.cost?) / further_ones(count));
        let ours: Option<Vec<f64>> = fans.iter().zip(&of_first).map(further).collect();
        let theirs: Option<Vec<f64>> = of_first.iter().map(|fan| fan.cost).collect();
        let what = format!("agent's time for an event of 64 B, {which} watcher each");
        match (ours, theirs) {
            (Some(ours), Some(theirs)) => {
                Figure { goal: "G7", what: &what, beside: "the first", show: short, wanted }.print(&ours, &theirs);
            }
            _ => println!("G7 {what}: this kernel does not say how long a thread has run"),
        }
        let rates = |fans: &[Fan]| fans.iter().map(|fan| fan.rate).collect::<Vec<f64>>();
        let what = format!("events of 64 B as they come, {count} watchers together");
        let figure = Figure { goal: "G7", what: &what, beside: "one", show: rate, wanted: "–" };
        figure.print(&rates(&fans), &rates(&of_first));
    }
}

/// Lets datagrams come as fast as the first watcher sees them, until all have seen all.
async fn fan_out(mut calls: Sockets, clients: Vec<AgentClient>) -> Fan {
    let count = if quick() { 2_000 } else { 20_000 };
    let session = begin_session(&clients[0], "fan").await;
    let ear = create_udp(&mut calls, session.as_str(), "ear", Some(LARGE_BUFFER)).await;
    let seen = Arc::new(AtomicU64::new(0));
    let mut watches = JoinSet::new();
    for client in &clients {
        let watch = client.watch(&session).await.unwrap();
        // The first of them holds the sender back.
        let seen = if watches.is_empty() { Arc::clone(&seen) } else { Arc::default() };
        watches.spawn(see(watch, count, seen));
    }
    let (before, start) = (time_of("agent"), Instant::now());
    let sender = spawn_blocking(move || send(ear, count, &seen));
    watches.join_all().await;
    let (after, took) = (time_of("agent"), start.elapsed());
    sender.await.unwrap();
    end_session(&clients[0], session).await;
    let cost = before.zip(after).map(|(before, after)| (after - before) / per_second(count, Duration::from_secs(1)));
    Fan { cost, rate: per_second(count * clients.len() as u64, took) }
}

/// Reads until so many datagrams have come, or were dropped and told.
async fn see(mut watch: Watch, count: u64, seen: Arc<AtomicU64>) {
    while seen.load(Ordering::Relaxed) < count {
        let Some(WatchItem::Events { records, .. }) = watch.next().await.unwrap() else { continue };
        let told = records.iter().map(|record| match record.event {
            Event::DatagramReceived(_) => 1,
            Event::DatagramsDropped { count, .. } => count,
            _ => 0,
        });
        seen.fetch_add(told.sum(), Ordering::Relaxed);
    }
}

/// Sends so many datagrams, never far ahead of what was seen.
fn send(to: SocketAddr, count: u64, seen: &AtomicU64) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(to).unwrap();
    for sent in 0..count {
        while sent > seen.load(Ordering::Relaxed) + AHEAD {
            thread::yield_now();
        }
        socket.send(&DATAGRAM).unwrap();
    }
}

/// How many watchers there are beside the first.
fn further_ones(count: usize) -> f64 {
    f64::from(u32::try_from(count - 1).unwrap())
}
