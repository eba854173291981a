//! G3: bytes from a plain sender, through a lab socket and the log, to a client; beside a bare stream that has no lab socket and no log,
//! and beside socat, which has no gRPC.

use std::time::Instant;

use bytes::Bytes;
use farsock::client::{AgentClient, WatchItem};
use farsock::model::event::Event;
use farsock::wire::pb::tcp_socket_spec::Role;

use crate::agent::{Sockets, TestAgent, begin_session, create_tcp, end_session};
use crate::bare::{Answer, BareClient, BareServer};
use crate::channel::BULK_WINDOWS;
use crate::relay::{Socat, send_for};
use crate::rounds::{Figure, bytes_rate, interleave, median, span};
use crate::side::{Kind, Side};

const KIND: Kind = Kind::OneWorker;
/// A message of the bare stream: as much as a batch of events carries.
const MESSAGE: usize = 256 << 10;
/// The buffer that socat is at its best with.
const SOCAT_BUFFER: usize = 262_144;

pub(crate) fn run() {
    let agent = TestAgent::start(KIND);
    let data = Bytes::from(vec![7; MESSAGE]);
    let bare = BareServer::start(KIND, Answer { data, ..Answer::default() });
    let client = Side::start("client", KIND);
    let calls = agent.sockets(&client, agent.tcp());
    let library = agent.client(&client);
    let mut ours = || client.run(relay(calls.clone(), library.clone()));
    let channel = client.run(bare.tcp().channel(BULK_WINDOWS));
    let stream = BareClient::new(channel, Bytes::new());

    let (relayed, streamed) = interleave(&mut ours, || client.run(bare_stream(stream.clone())));
    let print = |beside, wanted, relayed: &[Relayed], theirs: &[f64]| {
        let rates: Vec<f64> = relayed.iter().map(|relayed| relayed.rate).collect();
        let what = "sender → lab socket → client";
        Figure { goal: "G3", what, beside, show: bytes_rate, wanted }.print(&rates, theirs);
        let lost: Vec<f64> = relayed.iter().map(|relayed| relayed.lost).collect();
        println!(
            "G3 of the bytes that were sent, the log let go before the client came to them: {:.1} %",
            100.0 * median(&lost)
        );
    };
    print("bare stream", "≥ 0.60", &relayed, &streamed);
    if Socat::is_there() {
        let (relayed, piped) = interleave(&mut ours, || Socat::relay(SOCAT_BUFFER, span()));
        print("socat -b 262144", "≥ 1.50", &relayed, &piped);
    } else {
        println!("G3 beside socat -b 262144: there is no socat here");
    }
}

/// How a relay went.
struct Relayed {
    /// Bytes a second that the client got.
    rate: f64,
    /// The share of all bytes that it did not get, because the log is a ring.
    lost: f64,
}

async fn relay(mut calls: Sockets, library: AgentClient) -> Relayed {
    let session = begin_session(&library, "bulk").await;
    let listen = Role::Listen("127.0.0.1:0".to_owned());
    let door = create_tcp(&mut calls, session.as_str(), "door", listen).await;
    let mut watch = library.watch(&session).await.unwrap();
    let start = Instant::now();
    let sender = send_for(door, span());
    let (mut got, mut lost) = (0_u64, 0_u64);
    'watch: loop {
        match watch.next().await.unwrap().unwrap() {
            WatchItem::Events { records, .. } => {
                for record in records {
                    match record.event {
                        Event::Received { payload, .. } => got += payload.len() as u64,
                        Event::PeerClosed { .. } => break 'watch,
                        _ => {}
                    }
                }
            }
            WatchItem::Gap(gap) => lost += gap.payload_bytes.unwrap_or(0),
            WatchItem::Quiet { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    drop(watch);
    end_session(&library, session).await;
    sender.join().unwrap();
    #[allow(clippy::cast_precision_loss, reason = "a bench does not come to 2^53 bytes")]
    let (got, lost) = (got as f64, lost as f64);
    Relayed { rate: got / seconds, lost: lost / (got + lost) }
}

/// Reads a bare stream for a while; answers how many bytes came a second.
pub(crate) async fn bare_stream(mut client: BareClient) -> f64 {
    let mut stream = client.stream().await;
    let (start, mut got) = (Instant::now(), 0.0);
    while start.elapsed() < span() {
        let answer = stream.message().await.unwrap().unwrap();
        #[allow(clippy::cast_precision_loss, reason = "a message is small")]
        let more = answer.data.len() as f64;
        got += more;
    }
    got / start.elapsed().as_secs_f64()
}
