//! Datagrams in runs, for readers that ask for them: the same events in fewer words.

use farsock::model::event::EventRecord;
use farsock::wire::pb::watch_events_response::Frame;
use farsock::wire::{pb, watch};
use tonic::Code;

use crate::harness::{Agent, LOOPBACKS, UdpPeer, filter};

fn packed(form: pb::PayloadForm) -> pb::WatchEventsRequest {
    let view = Some(pb::PayloadView { form: form.into(), ..Default::default() });
    let until = filter(&["ear"], &["closed"]);
    pb::WatchEventsRequest { view, until, pack_datagrams: true, ..Default::default() }
}

/// All batches up to the end of the stream.
async fn batches(agent: &Agent, request: pb::WatchEventsRequest) -> Vec<pb::EventBatch> {
    let mut watcher = agent.watch(request).await.unwrap();
    watcher.opened().await;
    let mut batches = Vec::new();
    while let Some(frame) = watcher.next().await.unwrap() {
        match frame {
            Frame::Batch(batch) => batches.push(batch),
            Frame::Heartbeat(_) => {}
            other => panic!("no batch: {other:?}"),
        }
    }
    batches
}

fn records(batches: Vec<pb::EventBatch>) -> Vec<EventRecord> {
    batches.into_iter().flat_map(|batch| watch::read(batch).expect("every run adds up")).collect()
}

/// Receives datagrams of two peers in turn, one of nothing and one that is too long among them; then the socket is closed.
async fn agent_that_heard(ip: std::net::IpAddr) -> Agent {
    let agent = Agent::start().await;
    let delivery = Some(pb::Delivery { paused: Some(true), read_size: Some(8), ..Default::default() });
    let ear = agent.udp_with("ear", ip, pb::UdpSocketSpec { delivery, ..Default::default() }).await;
    let peers = [UdpPeer::bind(ip).await, UdpPeer::bind(ip).await];
    for (peer, payload) in peers.iter().cycle().zip(["one", "two", "", "four", "too long a text", "six", "seven"]) {
        peer.send(&ear, payload.as_bytes()).await;
    }
    let delivery = Some(pb::Delivery { paused: Some(false), ..Default::default() });
    let request = pb::SetSocketDeliveryRequest { socket_id: "ear".into(), delivery, ..Default::default() };
    agent.sockets().set_socket_delivery(request).await.unwrap();
    for _ in 0..7 {
        agent.receive("ear").await.unwrap();
    }
    agent.close("ear").await;
    agent
}

#[tokio::test]
async fn a_reader_of_runs_sees_what_every_reader_sees() {
    for ip in LOOPBACKS {
        let agent = agent_that_heard(ip).await;
        for form in [pb::PayloadForm::Data, pb::PayloadForm::None] {
            let plain = batches(&agent, pb::WatchEventsRequest { pack_datagrams: false, ..packed(form) }).await;
            assert!(plain.iter().all(|batch| batch.datagram_runs.is_empty()), "only for who asks");
            assert_eq!(records(batches(&agent, packed(form)).await), records(plain));
        }
        let only_datagrams = pb::WatchEventsRequest {
            filter: filter(&["ear"], &["datagram_received"]),
            ..packed(pb::PayloadForm::Data)
        };
        let heard = records(batches(&agent, only_datagrams).await);
        let payloads: Vec<_> = heard.iter().map(|record| record.event.payload().unwrap().clone()).collect();
        assert_eq!(payloads, ["one", "two", "", "four", "too long", "six", "seven"]);
    }
}

#[tokio::test]
async fn a_run_says_once_what_its_datagrams_have_in_common() {
    for ip in LOOPBACKS {
        let agent = agent_that_heard(ip).await;
        let batches = batches(&agent, packed(pb::PayloadForm::Data)).await;
        let kinds = batches.iter().flat_map(|batch| &batch.events).map(|event| event.kind.as_str());
        let alone = kinds.filter(|kind| *kind == "datagram_received").count();
        assert_eq!(alone, 1, "the one that was truncated");
        // It stands between two runs, which may be cut further by the ends of batches.
        let runs: Vec<_> = batches.iter().flat_map(|batch| &batch.datagram_runs).collect();
        let sizes: Vec<u32> = runs.iter().flat_map(|run| run.sizes.clone()).collect();
        assert_eq!(sizes, [3, 3, 0, 4, 3, 5]);
        let bytes: Vec<u8> = runs.iter().flat_map(|run| run.payloads.to_vec()).collect();
        assert_eq!(bytes, b"onetwofoursixseven");
        for run in runs {
            assert_eq!(run.time_steps.len(), run.sizes.len());
            assert_eq!(run.origins.len(), run.sizes.len().min(2), "as many as there are peers");
            assert!(run.origins.iter().all(|origin| origin.socket_id == "ear" && origin.interface == "lo"));
            let indexes = if run.origins.len() == 1 { 0 } else { run.sizes.len() };
            assert_eq!(run.origin_indexes.len(), indexes);
        }
    }
}

#[tokio::test]
async fn runs_show_payloads_as_they_are_or_not_at_all() {
    let agent = Agent::start().await;
    let cut = pb::PayloadView { form: pb::PayloadForm::Data.into(), max_bytes: 1, ..Default::default() };
    for request in [
        pb::WatchEventsRequest { view: None, ..packed(pb::PayloadForm::Data) },
        packed(pb::PayloadForm::Text),
        packed(pb::PayloadForm::Hex),
        pb::WatchEventsRequest { view: Some(cut), ..packed(pb::PayloadForm::Data) },
    ] {
        let refused = agent.watch(request).await.err().expect("a refusal");
        assert_eq!(refused.code, Code::InvalidArgument);
        assert!(refused.message.starts_with("pack_datagrams: "), "{}", refused.message);
    }
}
