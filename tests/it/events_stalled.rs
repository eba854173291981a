//! Watchers that have stopped reading cost what they are said to cost, and nobody else anything.
//!
//! `FARSOCK_LONG=1`: a thousand of them.

use farsock::wire::pb;
use pb::event::Body;

use crate::harness::tcp::{connecting_to, pattern_bytes};
use crate::harness::{AgentProcess, LOOPBACKS, TcpPeer, Watcher, long};

/// How many of them share a connection.
const OF_ONE_CONNECTION: usize = 10;

/// What one costs at the most, in bytes: a batch that HTTP/2 has, and one that waits behind it, in hex, and what the allocator
/// rounds up. event_service.proto says so, too.
const EACH: u64 = 1536 << 10;

/// What the log holds, and what the allocator keeps beside.
const LOG_BYTES: u64 = 4 << 20;
const BESIDE: u64 = 24 << 20;

fn request() -> pb::WatchEventsRequest {
    let view = Some(pb::PayloadView { form: pb::PayloadForm::Hex.into(), ..Default::default() });
    pb::WatchEventsRequest { view, from_now: true, ..Default::default() }
}

#[tokio::test]
async fn a_live_watcher_goes_on_beside_those_that_have_stopped_reading() {
    let (count, size) = if long() { (1000, 16 << 20) } else { (100, 8 << 20) };
    let log = format!("log_bytes={LOG_BYTES}");
    let limits = ["--limit", &log, "--limit", "watchers=1024", "--limit", "watchers_total=4096"];
    let agent = AgentProcess::start_with(&limits).await;
    let client = agent.agent();
    client.create_udp("first", pb::UdpSocketSpec::default()).await.unwrap();
    client.close("first").await;
    let (before, descriptors) = (agent.memory(), agent.descriptors());
    let mut stalled: Vec<Watcher> = Vec::new();
    let mut connections = Vec::new();
    while stalled.len() < count {
        let connection = agent.narrow_agent();
        for _ in 0..OF_ONE_CONNECTION {
            // Its first frame is read, and nothing after it.
            let mut watcher = connection.watch(request()).await.unwrap();
            watcher.opened().await;
            stalled.push(watcher);
        }
        connections.push(connection);
    }
    let idle = agent.memory().saturating_sub(before);
    let mut live = agent.agent().watch(request()).await.unwrap();
    live.opened().await;

    let [ip, _] = LOOPBACKS;
    let (listener, address) = TcpPeer::listen(ip).await;
    client.create_tcp("line", connecting_to(&address.to_string())).await.unwrap();
    let mut peer = TcpPeer::accept(&listener).await;
    let (mut bytes, mut seen, mut sent, mut most) = (0, 0, 0, 0);
    let block = pattern_bytes(256 << 10, 5);
    while bytes < size {
        // No faster than the live one reads: it misses nothing.
        if sent - bytes < LOG_BYTES / 4 {
            peer.write(&block).await;
            sent += block.len() as u64;
        }
        let batch = live.batch().await;
        assert!(seen == 0 || batch.from_seq == seen + 1, "no hole");
        seen = batch.through_seq;
        for event in batch.events {
            if let Some(Body::Received(received)) = event.body {
                assert_eq!(received.offset(), bytes);
                let Some(pb::payload::Content::Hex(hex)) = received.payload.and_then(|payload| payload.content) else {
                    panic!("no hex")
                };
                bytes += hex.len() as u64 / 2;
            }
        }
        most = most.max(agent.memory());
    }
    let udp = client.udp("s", ip).await;
    assert!(!udp.is_empty(), "calls go on, too");
    let watchers = client.sessions().get_session(pb::GetSessionRequest::default()).await.unwrap().into_inner();
    assert_eq!(watchers.session.unwrap().watcher_count as usize, count + 1, "all are still there");
    let grown = most.saturating_sub(before);
    let each = grown.saturating_sub(LOG_BYTES) / count as u64;
    println!("{count} watchers: {} bytes each when idle, {each} each when stalled", idle / count as u64);
    assert!(grown < count as u64 * EACH + LOG_BYTES + BESIDE, "{grown} bytes: {each} each");

    // They cost nothing any more once they have gone.
    drop((stalled, connections));
    crate::harness::frames::becomes("the end of all stalled streams", || async {
        let session = client.sessions().get_session(pb::GetSessionRequest::default()).await.unwrap().into_inner();
        session.session.unwrap().watcher_count == 1
    })
    .await;
    drop(live);
    client.reset("").await;
    agent.has_again(descriptors).await;
    drop(client);
    agent.stop().await;
}
