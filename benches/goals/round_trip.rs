//! G2: a write, its echo by a far peer, and the event that tells of it; beside a bare call and a direct ping-pong, which are its two parts.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use farsock::client::{AgentClient, Watch, WatchItem};
use farsock::model::event::Event;
use farsock::model::id::{SessionId, SocketId};
use farsock::model::operation::{Action, CallOptions, SocketAction, Target, WriteFlags};
use farsock::wire::pb::tcp_socket_spec::Role;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::agent::{TestAgent, create_tcp};
use crate::bare::{Answer, BareClient, BareServer};
use crate::channel::CALL_WINDOWS;
use crate::load::{Calls, load, summarize};
use crate::relay::EchoPeer;
use crate::rounds::{Figure, interleave, span, time};
use crate::side::{Kind, Side};

/// What goes to the echo, and through a bare call.
const PAYLOAD: &[u8] = &[7; 32];

pub(crate) fn run() {
    for kind in [Kind::CurrentThread, Kind::OneWorker] {
        run_on(kind);
    }
}

fn run_on(kind: Kind) {
    let peer = EchoPeer::start(kind);
    let agent = TestAgent::start(kind);
    let answer = Answer { data: Bytes::from_static(PAYLOAD), ..Answer::default() };
    let bare = BareServer::start(kind, answer);
    let client = Side::start("client", kind);

    let mut line = Some(Line::open(&agent, &client, peer.addr()));
    let call = BareClient::new(client.run(bare.tcp().channel(CALL_WINDOWS)), Bytes::from_static(PAYLOAD));
    let addr = peer.addr();
    let (ours, theirs) = interleave(
        || {
            let (trips, used) = client.run(line.take().unwrap().round_trips(span()));
            line = Some(used);
            trips
        },
        || (client.run(load(call.clone(), 1, span())), client.run(ping_pong(addr, span()))),
    );
    let ours: Vec<f64> = ours.iter().map(|trips| trips.p50).collect();
    let calls: Vec<f64> = theirs.iter().map(|(call, _)| call.p50).collect();
    let sums: Vec<f64> = theirs.iter().map(|(call, direct)| call.p50 + direct.p50).collect();
    let what = format!("write → echo → event, {}, p50", kind.name());
    let figure = Figure { goal: "G2", what: &what, beside: "bare call + ping-pong", show: time, wanted: "≤ 0.75" };
    figure.print(&ours, &sums);
    Figure { beside: "of which bare call", wanted: "–", ..figure }.print(&ours, &calls);
}

/// A lab socket that is connected to the echo, and a watch that sees what comes back.
struct Line {
    client: AgentClient,
    watch: Watch,
    write: Action,
}

impl Line {
    fn open(agent: &TestAgent, side: &Side, peer: SocketAddr) -> Self {
        let mut sockets = agent.sockets(side, agent.tcp());
        let client = agent.client(side);
        side.run(async move {
            create_tcp(&mut sockets, "", "line", Role::Connect(peer.to_string())).await;
            let session = SessionId::default();
            let watch = client.watch(&session).await.unwrap();
            let target = Target { session, socket: SocketId::parse("line").unwrap(), uid: None };
            let write = SocketAction::Write {
                payload: Bytes::from_static(PAYLOAD),
                expected_offset: None,
                flags: WriteFlags::default(),
                slices: None,
            };
            Self { client, watch, write: Action::Socket(target, write) }
        })
    }

    async fn round_trips(mut self, span: Duration) -> (Calls, Self) {
        let (start, options) = (Instant::now(), CallOptions::default());
        let mut times = Vec::new();
        while start.elapsed() < span {
            let asked = Instant::now();
            // The next one waits for the answer, too; the time ends with the event.
            let (written, ()) = tokio::join!(self.client.call(&self.write, &options), async {
                received(&mut self.watch).await;
                times.push(asked.elapsed());
            });
            assert!(written.unwrap().report.error.is_none());
        }
        (summarize(times, start.elapsed()), self)
    }
}

/// Reads on until something was received.
async fn received(watch: &mut Watch) {
    loop {
        if let Some(WatchItem::Events { records, .. }) = watch.next().await.unwrap()
            && records.iter().any(|record| matches!(record.event, Event::Received { .. }))
        {
            return;
        }
    }
}

async fn ping_pong(peer: SocketAddr, span: Duration) -> Calls {
    let mut stream = TcpStream::connect(peer).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut buffer = [0; PAYLOAD.len()];
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < span {
        let sent = Instant::now();
        stream.write_all(PAYLOAD).await.unwrap();
        stream.read_exact(&mut buffer).await.unwrap();
        times.push(sent.elapsed());
    }
    summarize(times, start.elapsed())
}
