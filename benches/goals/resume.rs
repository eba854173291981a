//! What it costs to come back: a watch that goes on behind the last event that it has seen, and gets what it missed, on a connection that is
//! there and on a new one; beside a bare call whose answer has as many bytes of payload.

use bytes::Bytes;
use farsock::model::id::SessionId;
use farsock::model::limits::Limits;
use farsock::wire::pb;
use farsock::wire::pb::watch_events_response::Frame;
use tonic::transport::Channel;

use crate::agent::{Events, TestAgent, create_udp};
use crate::bare::{Answer, BareClient, BareServer};
use crate::channel::{Address, CALL_WINDOWS};
use crate::load::{Caller, Calls, load};
use crate::rounds::{Figure, interleave, span, time};
use crate::side::{Kind, Side};
use crate::small_events::{DATAGRAM, fill};

const KIND: Kind = Kind::OneWorker;
/// How many events were missed, of a log that has 200,000.
const MISSED: u64 = 10;

pub(crate) fn run() {
    let limits = Limits { log_events: 1 << 18, ..Limits::default() };
    let agent = TestAgent::start_with(KIND, limits);
    let client = Side::start("client", KIND);
    let (library, mut calls) = (agent.client(&client), agent.sockets(&client, agent.tcp()));
    let ear = client.run(async move { create_udp(&mut calls, "", "ear", None).await });
    fill(&client, &library, ear);
    let head = client.run(async move { library.session(&SessionId::default()).await.unwrap().head_seq });
    let data = (0..MISSED).flat_map(|_| DATAGRAM).collect();
    let bare = BareServer::start(KIND, Answer { data, ..Answer::default() });

    let events = agent.events();
    let ours = Resume { events: events(client.run(agent.tcp().channel(CALL_WINDOWS))), head };
    let theirs = BareClient::new(client.run(bare.tcp().channel(CALL_WINDOWS)), Bytes::new());
    show("a connection that is there", &interleave(|| measure(&client, &ours), || measure(&client, &theirs)));

    let ours = Reconnect { to: agent.tcp(), made: move |channel| Resume { events: events(channel), head } };
    let theirs = Reconnect { to: bare.tcp(), made: |channel| BareClient::new(channel, Bytes::new()) };
    show("a new connection", &interleave(|| measure(&client, &ours), || measure(&client, &theirs)));
}

fn measure(client: &Side, caller: &impl Caller) -> Calls {
    client.run(load(caller.clone(), 1, span()))
}

fn show(on: &str, (ours, theirs): &(Vec<Calls>, Vec<Calls>)) {
    let of = |calls: &[Calls]| calls.iter().map(|calls| calls.p50).collect::<Vec<f64>>();
    let what = format!("a watch that comes back on {on} and gets {MISSED} events, p50");
    Figure { goal: "resume", what: &what, beside: "bare call", show: time, wanted: "–" }.print(&of(ours), &of(theirs));
}

/// Comes back, and reads what it missed.
#[derive(Clone)]
struct Resume {
    events: Events,
    head: u64,
}

impl Caller for Resume {
    async fn call(&mut self) {
        let request = pb::WatchEventsRequest {
            after_event_seq: Some(self.head - MISSED),
            view: Some(pb::PayloadView { form: pb::PayloadForm::Data.into(), ..Default::default() }),
            pack_datagrams: true,
            ..Default::default()
        };
        let mut frames = self.events.watch_events(request).await.unwrap().into_inner();
        loop {
            match frames.message().await.unwrap().unwrap().frame {
                Some(Frame::Batch(batch)) if batch.through_seq == self.head => return,
                Some(Frame::Batch(_) | Frame::Opened(_)) => {}
                other => panic!("neither the beginning nor what was missed: {other:?}"),
            }
        }
    }
}

/// Calls once on each of many connections.
#[derive(Clone)]
struct Reconnect<M> {
    to: Address,
    made: M,
}

impl<C: Caller, M: Fn(Channel) -> C + Clone + Send + Sync + 'static> Caller for Reconnect<M> {
    async fn call(&mut self) {
        let channel = self.to.clone().channel(CALL_WINDOWS).await;
        (self.made)(channel).call().await;
    }
}
