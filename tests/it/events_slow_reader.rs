//! A watcher that stops reading while the network goes on: memory stays within its bound, nothing is lost, nobody else notices.
//!
//! `FARSOCK_LONG=1`: a gibibyte, and a million datagrams.

use std::net::UdpSocket;
use std::time::Duration;

use farsock::wire::pb;
use pb::event::Body;
use pb::watch_events_response::Frame;
use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use crate::harness::tcp::{any_port, connecting_to, pattern_bytes};
use crate::harness::{Agent, AgentProcess, LOOPBACKS, TcpPeer, Watcher, long, within};

const SESSION: &str = "lab";

/// How often the kernel is asked for drops behind which nothing came any more.
const ASKED_EVERY: Duration = Duration::from_millis(100);

/// What the log of a session may hold here.
const LOG_BYTES: u64 = 16 << 20;

/// What everything else may cost meanwhile: buffers of a connection, what the allocator keeps, and the batch that the watcher does not take.
const BESIDE: u64 = 24 << 20;

/// A session that nobody needs to renew for as long as these tests take.
async fn create_session(agent: &Agent, id: &str) {
    let hour = Some(prost_types::Duration { seconds: 3600, nanos: 0 });
    let request = pb::CreateSessionRequest { session_id: id.into(), lease_ttl: hour, ..Default::default() };
    agent.sessions().create_session(request).await.unwrap();
}

async fn create(agent: &Agent, id: &str, kind: pb::create_socket_request::Kind) -> pb::Socket {
    let (session_id, socket_id) = (SESSION.into(), id.into());
    let request = pb::CreateSocketRequest { session_id, socket_id, kind: Some(kind), ..Default::default() };
    agent.create_socket(request).await.unwrap().socket.unwrap()
}

async fn watch(agent: &Agent) -> Watcher {
    let request = pb::WatchEventsRequest {
        session_id: SESSION.into(),
        watcher_id: "slow".into(),
        view: Some(pb::PayloadView { form: pb::PayloadForm::Data.into(), ..Default::default() }),
        ..Default::default()
    };
    let mut watcher = agent.watch(request).await.unwrap();
    watcher.opened().await;
    watcher
}

async fn ack(agent: &Agent, through_event_seq: u64) {
    let (session_id, watcher_id) = (SESSION.into(), "slow".into());
    let request = pb::AckEventsRequest { session_id, watcher_id, through_event_seq };
    agent.events().ack_events(request).await.unwrap();
}

async fn paused(agent: &Agent, id: &str) {
    let request = pb::WaitEventRequest {
        session_id: SESSION.into(),
        filter: crate::harness::filter(&[id], &["read_paused"]),
        timeout: crate::harness::millis(60_000),
        ..Default::default()
    };
    let waited = agent.events().wait_event(request).await.unwrap().into_inner();
    assert!(waited.event.is_some(), "`{id}` goes on reading");
}

fn data(payload: Option<pb::Payload>) -> Vec<u8> {
    match payload.and_then(|payload| payload.content) {
        Some(pb::payload::Content::Data(data)) => data.into(),
        other => panic!("no data: {other:?}"),
    }
}

#[tokio::test]
async fn a_flood_of_bytes_waits_at_the_peer_and_not_in_memory() {
    let size: usize = if long() { 1 << 30 } else { 64 << 20 };
    let agent = AgentProcess::start_with(&["--limit", &format!("log_bytes={LOG_BYTES}")]).await;
    let client = agent.agent();
    create_session(&client, SESSION).await;
    let descriptors = agent.descriptors();
    let [ip, _] = LOOPBACKS;
    let (listener, address) = TcpPeer::listen(ip).await;
    let connected = create(&client, "line", pb::create_socket_request::Kind::Tcp(connecting_to(&address.to_string())));
    connected.await;
    let mut watcher = watch(&client).await;
    let before = agent.memory();

    // A block that ends nowhere near where reads end, again and again.
    let block = pattern_bytes((1 << 20) - 7, 11);
    let mut peer = TcpPeer::accept(&listener).await;
    let flood = tokio::spawn(async move {
        let (mut left, mut digest) = (size, Sha256::new());
        while left > 0 {
            let part = &block[..left.min(block.len())];
            // As long as it takes: the agent reads when it has room.
            tokio::io::AsyncWriteExt::write_all(&mut peer.0, part).await.unwrap();
            digest.update(part);
            left -= part.len();
        }
        peer.shut_down().await;
        digest.finalize()
    });
    paused(&client, "line").await;

    // The watcher's own connection has no room left; others have.
    let other = agent.agent();
    create_session(&other, "other").await;
    let mut most = agent.memory();
    for round in 0..100 {
        let id = format!("s-{round}");
        other.udp_in("other", &id).await;
        let close = pb::CloseSocketRequest { session_id: "other".into(), socket_id: id, ..Default::default() };
        within("a close", other.close_socket(close)).await.unwrap();
        most = most.max(agent.memory());
    }
    let request = pb::GetSessionRequest { session_id: SESSION.into() };
    let held = client.sessions().get_session(request).await.unwrap().into_inner().session.unwrap().held_bytes;
    assert!(held <= LOG_BYTES && held > LOG_BYTES / 2, "{held}");
    assert!(!flood.is_finished(), "the peer waits");

    let (mut digest, mut seen, mut bytes, mut over) = (Sha256::new(), 0, 0, false);
    while !over {
        let Frame::Batch(batch) = watcher.frame().await else { panic!("nothing is lost") };
        assert!(batch.from_seq == seen + 1, "in order, once");
        seen = batch.through_seq;
        for event in batch.events {
            match event.body {
                Some(Body::Received(received)) => {
                    assert_eq!(received.offset(), bytes);
                    let payload = data(received.payload);
                    bytes += payload.len() as u64;
                    digest.update(payload);
                }
                Some(Body::PeerClosed(_)) => over = true,
                _ => {}
            }
        }
        ack(&client, seen).await;
        most = most.max(agent.memory());
    }
    assert_eq!(bytes, size as u64);
    assert!(digest.finalize() == within("the peer", flood).await.unwrap(), "the bytes are the same");
    let grown = most.saturating_sub(before);
    println!("{size} bytes through a log of {LOG_BYTES}: the agent grew by {grown} bytes");
    assert!(grown < LOG_BYTES + BESIDE, "{grown}");
    drop((other, watcher));
    client.delete(SESSION, false).await.unwrap();
    agent.has_again(descriptors).await;
    drop(client);
    agent.stop().await;
}

#[tokio::test]
async fn datagrams_come_or_are_counted_whoever_is_slow() {
    let count: u64 = if long() { 1_000_000 } else { 50_000 };
    let agent = AgentProcess::start_with(&["--limit", "log_events=4096"]).await;
    let client = agent.agent();
    create_session(&client, SESSION).await;
    let descriptors = agent.descriptors();
    let [ip, _] = LOOPBACKS;
    let small = pb::SocketOption { name: "SO_RCVBUF".into(), value: Some(pb::socket_option::Value::Number(4096)) };
    let spec = pb::UdpSocketSpec { bind: any_port(ip), options: vec![small], ..Default::default() };
    let mailbox = create(&client, "mailbox", pb::create_socket_request::Kind::Udp(spec)).await;
    let address = mailbox.local.unwrap().text;
    let mut watcher = watch(&client).await;

    let sender = spawn_blocking(move || {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        socket.connect(address).unwrap();
        for number in 0..count {
            socket.send(&number.to_be_bytes()).unwrap();
        }
    });
    // Nothing is read until all are sent: far more than the log and the buffer hold.
    within("the sender", sender).await.unwrap();
    let (mut seen, mut came, mut dropped, mut next) = (0, 0, 0, 0);
    while came + dropped < count {
        let frame = within("a frame, or drops that nobody knows of", async {
            loop {
                tokio::select! {
                    frame = watcher.frame() => return frame,
                    // What was dropped behind the last datagram, the kernel tells whoever asks.
                    () = sleep_until(Instant::now() + ASKED_EVERY) => { get(&client, "mailbox").await; }
                }
            }
        });
        let Frame::Batch(batch) = frame.await else { panic!("nothing is lost behind the kernel") };
        assert_eq!(batch.from_seq, seen + 1);
        seen = batch.through_seq;
        for event in batch.events {
            match event.body {
                Some(Body::DatagramReceived(datagram)) => {
                    let number = u64::from_be_bytes(data(datagram.payload).try_into().unwrap());
                    assert!(number >= next, "each once, in order");
                    next = number + 1;
                    came += 1;
                }
                Some(Body::DatagramsDropped(told)) => {
                    dropped += told.count;
                    assert_eq!(told.total, dropped);
                }
                _ => {}
            }
        }
        assert!(came + dropped <= count, "{came} and {dropped} of {count}");
        ack(&client, seen).await;
    }
    println!("{came} came, {dropped} were dropped and told, {count} were sent");
    assert_eq!(came + dropped, count);
    assert!(dropped > 0, "it was slow enough");
    let socket = get(&client, "mailbox").await;
    assert_eq!((socket.datagrams_received, socket.datagrams_dropped), (came, dropped));
    drop(watcher);
    client.delete(SESSION, false).await.unwrap();
    agent.has_again(descriptors).await;
    drop(client);
    agent.stop().await;
}

async fn get(agent: &Agent, id: &str) -> pb::Socket {
    let request = pb::GetSocketRequest { session_id: SESSION.into(), socket_id: id.into(), ..Default::default() };
    agent.sockets().get_socket(request).await.unwrap().into_inner().socket.unwrap()
}
