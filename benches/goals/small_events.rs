//! G5: small events. How fast a client reads a log of 64-byte datagrams, beside a bare stream of as many records in a message; and how
//! many datagrams of a plain sender become events at the client as they come.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use bytes::Bytes;
use farsock::client::{AgentClient, Watch, WatchItem};
use farsock::model::event::Event;
use farsock::model::id::{SessionId, SocketId};
use farsock::model::limits::Limits;
use farsock::model::operation::{Action, CallOptions, SocketAction, Target};
use tokio::task::spawn_blocking;

use crate::agent::{Sockets, TestAgent, begin_session, create_udp, end_session};
use crate::bare::{Answer, BareClient, BareServer, Record};
use crate::channel::BULK_WINDOWS;
use crate::rounds::{Figure, interleave, rate, repeat, span};
use crate::side::{Kind, Side};

const KIND: Kind = Kind::OneWorker;
/// A datagram.
pub(crate) const DATAGRAM: [u8; 64] = [7; 64];
/// Records of a message: as many as a batch of events has.
const BATCH: u32 = 512;
/// A receive buffer that holds what comes while other threads have the processor: as large as the kernel's net.core.rmem_max often is.
pub(crate) const LARGE_BUFFER: i32 = 4 << 20;
/// How many events are there to be read.
const LOGGED: u64 = 200_000;

pub(crate) fn run() {
    let limits = Limits { log_events: 1 << 18, ..Limits::default() };
    let agent = TestAgent::start_with(KIND, limits);
    let client = Side::start("client", KIND);
    let library = agent.client(&client);
    let calls = agent.sockets(&client, agent.tcp());
    let mut sockets = calls.clone();
    let ear = client.run(async move { create_udp(&mut sockets, "", "ear", None).await });
    fill(&client, &library, ear);

    for (beside, wanted, answer) in [("bare packed stream", "≥ 0.50", packed()), ("bare records", "–", records())] {
        let bare = BareServer::start(KIND, answer);
        let stream = BareClient::new(client.run(bare.tcp().channel(BULK_WINDOWS)), Bytes::new());
        let (ours, theirs) =
            interleave(|| client.run(read_log(library.clone())), || client.run(bare_stream(stream.clone())));
        let what = "events of 64 B, log → client";
        Figure { goal: "G5", what, beside, show: rate, wanted }.print(&ours, &theirs);
    }
    for (what, buffer) in [
        ("datagrams of 64 B, sender without GSO → lab socket → client", None),
        ("the same, SO_RCVBUF of 4 MiB", Some(LARGE_BUFFER)),
    ] {
        let rounds = repeat(|| client.run(live(calls.clone(), library.clone(), buffer)));
        let (seen, sent): (Vec<f64>, Vec<f64>) = rounds.into_iter().unzip();
        Figure { goal: "G6", what, beside: "sent", show: rate, wanted: "1.00" }.print(&seen, &sent);
    }
}

/// Many payloads in one piece of bytes, with the places where they end.
fn packed() -> Answer {
    let size = u32::try_from(DATAGRAM.len()).unwrap();
    let ends = (1..=BATCH).map(|number| number * size).collect();
    Answer { data: DATAGRAM.repeat(BATCH as usize).into(), ends, ..Answer::default() }
}

/// Many records, each with a number and its payload.
fn records() -> Answer {
    let record = |seq| Record { seq, data: Bytes::from_static(&DATAGRAM) };
    Answer { records: (1..=BATCH.into()).map(record).collect(), ..Answer::default() }
}

/// Reads the log from its beginning; answers how many events came a second.
async fn read_log(library: AgentClient) -> f64 {
    let start = Instant::now();
    let mut watch = library.watch(&SessionId::default()).await.unwrap();
    let mut seen = 0;
    while seen < LOGGED {
        if let Some(WatchItem::Events { records, .. }) = watch.next().await.unwrap() {
            seen += records.len() as u64;
        }
    }
    per_second(seen, start.elapsed())
}

async fn bare_stream(mut client: BareClient) -> f64 {
    let mut stream = client.stream().await;
    let (start, mut seen, mut bytes) = (Instant::now(), 0_u64, 0);
    while start.elapsed() < span() {
        let answer = stream.message().await.unwrap().unwrap();
        seen += (answer.ends.len() + answer.records.len()) as u64;
        let mut begin = 0;
        for end in answer.ends {
            bytes += answer.data.slice(begin..end as usize).len();
            begin = end as usize;
        }
        bytes += answer.records.iter().map(|record| record.data.len()).sum::<usize>();
    }
    assert_eq!(bytes as u64, seen * DATAGRAM.len() as u64);
    per_second(seen, start.elapsed())
}

/// Lets datagrams come until there are enough in the log.
pub(crate) fn fill(client: &Side, library: &AgentClient, ear: SocketAddr) {
    let head = || {
        let library = library.clone();
        client.run(async move { library.session(&SessionId::default()).await.unwrap().head_seq })
    };
    while head() < LOGGED {
        send_for(ear, Duration::from_millis(20));
    }
}

/// Lets a plain sender send for a while; answers how many datagrams a second became events at the client, and how many were sent.
async fn live(mut calls: Sockets, library: AgentClient, buffer: Option<i32>) -> (f64, f64) {
    let session = begin_session(&library, "live").await;
    let ear = create_udp(&mut calls, session.as_str(), "ear", buffer).await;
    let watch = library.watch(&session).await.unwrap();
    let sender = spawn_blocking(move || send_for(ear, span()));
    let (seen, (sent, took)) = tokio::join!(count_datagrams(watch), async {
        let sent = sender.await.unwrap();
        close_when_read(&library, &session).await;
        sent
    });
    end_session(&library, session).await;
    (per_second(seen, took), per_second(sent, took))
}

/// Closes the socket once the kernel holds no more datagrams for it.
async fn close_when_read(library: &AgentClient, session: &SessionId) {
    let socket = SocketId::parse("ear").unwrap();
    while library.socket(session, &socket).await.unwrap().0.queues.is_some_and(|queues| queues.receive_bytes > 0) {}
    let close = SocketAction::Close { linger: None, allow_missing: false };
    let target = Target { session: session.clone(), socket, uid: None };
    library.call(&Action::Socket(target, close), &CallOptions::default()).await.unwrap();
}

/// Counts datagrams until their socket is closed.
async fn count_datagrams(mut watch: Watch) -> u64 {
    let mut seen = 0;
    loop {
        let Some(WatchItem::Events { records, .. }) = watch.next().await.unwrap() else { continue };
        for record in records {
            match record.event {
                Event::DatagramReceived(_) => seen += 1,
                Event::Closed(_) => return seen,
                _ => {}
            }
        }
    }
}

/// Sends datagrams one by one for so long; answers how many, and in which time.
fn send_for(to: SocketAddr, span: Duration) -> (u64, Duration) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(to).unwrap();
    let (start, mut sent) = (Instant::now(), 0);
    while start.elapsed() < span {
        for _ in 0..16 {
            socket.send(&DATAGRAM).unwrap();
            sent += 1;
        }
    }
    (sent, start.elapsed())
}

#[allow(clippy::cast_precision_loss, reason = "a bench does not come to 2^53 events")]
pub(crate) fn per_second(count: u64, span: Duration) -> f64 {
    count as f64 / span.as_secs_f64()
}
