//! Bytes on their way: in order, counted, waiting for room, taken by those who ask.

use std::net::IpAddr;

use farsock::agent::AgentConfig;
use farsock::model::limits::Limits;
use farsock::wire::pb;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tonic::Code;

use crate::harness::tcp::{
    Reported, any_port, connecting_to, detached, pattern, pattern_bytes, timeout, unread_by_the_test, went,
};
use crate::harness::{Agent, LOOPBACKS, TcpPeer, text, within};

/// A line of the agent's to a peer of the test.
async fn line(agent: &Agent, ip: IpAddr, id: &str, spec: pb::TcpSocketSpec) -> TcpPeer {
    let (listener, address) = TcpPeer::listen(ip).await;
    agent.connect_with(id, &address.to_string(), spec).await;
    TcpPeer::accept(&listener).await
}

fn write(id: &str, payload: Option<pb::Payload>) -> pb::WriteSocketRequest {
    pb::WriteSocketRequest { socket_id: id.into(), payload, ..Default::default() }
}

/// A read that shows bytes as they are.
fn read(id: &str) -> pb::ReceiveSocketRequest {
    let view = Some(pb::PayloadView { form: pb::PayloadForm::Data.into(), ..Default::default() });
    pb::ReceiveSocketRequest { socket_id: id.into(), view, ..Default::default() }
}

fn pulled() -> pb::TcpSocketSpec {
    let delivery = Some(pb::Delivery { mode: pb::DeliveryMode::Pull.into(), ..Default::default() });
    pb::TcpSocketSpec { delivery, ..Default::default() }
}

fn data(received: &pb::ReceiveSocketResponse) -> Vec<u8> {
    match received.payload.clone().and_then(|payload| payload.content) {
        Some(pb::payload::Content::Data(data)) => data.to_vec(),
        None => Vec::new(),
        other => panic!("{other:?}"),
    }
}

/// All `received` events so far: their offsets and bytes.
async fn received(agent: &Agent, id: &str) -> Vec<(u64, Vec<u8>)> {
    let bytes = |body| match body {
        pb::event::Body::Received(received) => match received.payload.unwrap().content {
            Some(pb::payload::Content::Data(data)) => (received.offset.unwrap(), data.to_vec()),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    agent.events_of(id, "received").await.into_iter().map(bytes).collect()
}

/// Random chunks go both ways at once. Whatever the kernel makes of them, the concatenation is equal, and offsets leave no hole.
#[tokio::test]
async fn random_chunks_arrive_complete_and_in_order() {
    let chunks = || prop::collection::vec(prop::collection::vec(any::<u8>(), 1..3000), 1..12);
    let mut runner = TestRunner::deterministic();
    let agent = Agent::start().await;
    for round in 0..12 {
        let ip = LOOPBACKS[round % 2];
        let mut draw = || chunks().new_tree(&mut runner).unwrap().current();
        let (out, back) = (draw(), draw());
        let id = format!("line-{round}");
        let mut peer = line(&agent, ip, &id, pb::TcpSocketSpec::default()).await;
        let mut offset = 0;
        for at in 0..out.len().max(back.len()) {
            if let Some(chunk) = out.get(at) {
                let content = Some(pb::payload::Content::Data(chunk.clone().into()));
                let payload = Some(pb::Payload { content, ..Default::default() });
                let written = agent.write_socket(write(&id, payload)).await.unwrap();
                assert_eq!((written.offset(), written.bytes_written() as usize), (offset, chunk.len()));
                offset += chunk.len() as u64;
            }
            if let Some(chunk) = back.get(at) {
                peer.write(chunk).await;
            }
        }
        assert_eq!(peer.read(out.concat().len()).await, out.concat());
        let back = back.concat();
        let socket = agent.until(&id, "all bytes", |socket| socket.bytes_read() == back.len() as u64).await;
        assert_eq!(socket.bytes_written(), offset);
        let mut through = Vec::new();
        for (offset, bytes) in received(&agent, &id).await {
            assert_eq!(offset, through.len() as u64);
            through.extend(bytes);
        }
        assert!(through == back);

        // ReceiveSocket takes the same bytes, however many at a time.
        let mut taken = Vec::new();
        while taken.len() < back.len() {
            let request = pb::ReceiveSocketRequest { max_bytes: Some(777), ..read(&id) };
            let part = agent.receive_socket(request).await.unwrap();
            assert_eq!(part.offset(), taken.len() as u64);
            assert!((1..=777).contains(&data(&part).len()));
            taken.extend(data(&part));
        }
        assert!(taken == back);
    }
}

/// TCP has no messages: what was written twice is read once.
#[tokio::test]
async fn two_writes_can_come_as_one_read() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id, pb::TcpSocketSpec::default()).await;
        // Nobody reads while both are written.
        pause(&agent, &id, true).await;
        peer.write(b"aaa").await;
        peer.write(b"bbb").await;
        agent.until(&id, "both writes", |socket| socket.queues.unwrap().receive_bytes() == 6).await;
        pause(&agent, &id, false).await;
        agent.event(&id, "received").await;
        assert_eq!(received(&agent, &id).await, [(0, b"aaabbb".to_vec())]);
        peer.write(b"ccc").await;
        agent.until(&id, "the third write", |socket| socket.bytes_read() == 9).await;
        assert_eq!(received(&agent, &id).await[1], (6, b"ccc".to_vec()));
    }
}

async fn pause(agent: &Agent, id: &str, paused: bool) {
    let delivery = Some(pb::Delivery { paused: Some(paused), ..Default::default() });
    let request = pb::SetSocketDeliveryRequest { socket_id: id.into(), delivery, ..Default::default() };
    assert_eq!(went(&agent.set_socket_delivery(request).await), "ok");
}

#[tokio::test]
async fn a_write_that_finds_no_room_in_time_tells_how_much_it_got() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let (mut peer, size) = unread_by_the_test(&agent, ip, &id).await;
        let request = pb::WriteSocketRequest { call: timeout(150), ..write(&id, pattern(size, 1)) };
        let written = agent.write_socket(request).await.unwrap();
        let report = written.report.as_ref().unwrap();
        assert!(report.timed_out && report.error.is_none(), "{report:?}");
        let part = written.bytes_written();
        assert!(part > 0 && (part as usize) < size, "{part}");
        let [pb::event::Body::Written(event)] = &agent.events_of(&id, "written").await[..] else { panic!() };
        assert_eq!((event.offset(), event.size, event.asked_size as usize), (0, part, size));
        assert_eq!(agent.socket(&id).await.bytes_written(), u64::from(part));
        assert_eq!(agent.socket(&id).await.queues.unwrap().pending_write_bytes(), 0, "the rest is discarded");

        // The next write stands right after what was taken.
        let tail = tokio::spawn(async move {
            let bytes = peer.read(part as usize + 3).await;
            (peer, bytes)
        });
        agent.write(&id, "end").await;
        let (_peer, bytes) = within("the peer's bytes", tail).await.unwrap();
        assert!(bytes[..part as usize] == pattern_bytes(size, 1)[..part as usize]);
        assert_eq!(&bytes[part as usize..], b"end");
    }
}

#[tokio::test]
async fn writes_wait_for_room_in_their_order_and_writable_tells_when_all_are_through() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let (mut peer, size) = unread_by_the_test(&agent, ip, &id).await;
        let names = [format!("{id}-a"), format!("{id}-b"), format!("{id}-c")];
        let requests = [pattern(size, 1), text("second"), text("third")];
        for (name, payload) in names.iter().zip(requests) {
            let request = pb::WriteSocketRequest { call: detached(name), ..write(&id, payload) };
            agent.write_socket(request).await.unwrap();
        }
        agent.until(&id, "waiting bytes", |socket| socket.queues.unwrap().pending_write_bytes() > 11).await;
        assert_eq!(agent.events_of(&id, "writable").await.len(), 0);
        let (first, second, third) = (size, 6, 5);
        let bytes = peer.read(first + second + third).await;
        assert!(bytes[..first] == pattern_bytes(size, 1)[..]);
        assert_eq!(&bytes[first..], b"secondthird");
        let mut offset = 0;
        for (name, size) in names.iter().zip([first, second, third]) {
            let written: pb::WriteSocketResponse = agent.call_response(name).await;
            assert_eq!(
                (written.went().as_str(), written.bytes_written() as usize, written.offset()),
                ("ok", size, offset)
            );
            offset += size as u64;
        }
        agent.event(&id, "writable").await;
        let kinds = agent.kinds(&id).await;
        assert_eq!(kinds[3..], ["connected", "write_blocked", "written", "written", "written", "writable"]);
    }
}

/// An answer says that the write has been accepted, so the next one comes after it, on however many threads the agent works.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn detached_writes_keep_their_order() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id, pb::TcpSocketSpec::default()).await;
        let mut meant = String::new();
        for number in 0..500 {
            let word = format!("{number} ");
            let request =
                pb::WriteSocketRequest { call: detached(&format!("{id}-{number}")), ..write(&id, text(&word)) };
            agent.write_socket(request).await.unwrap();
            meant.push_str(&word);
        }
        assert_eq!(String::from_utf8(peer.read(meant.len()).await).unwrap(), meant);
    }
}

#[tokio::test]
async fn a_write_that_never_waits_makes_nobody_wait_for_writable() {
    let agent = Agent::start().await;
    let _peer = line(&agent, LOOPBACKS[0], "line", pb::TcpSocketSpec::default()).await;
    agent.write("line", "hola").await;
    assert_eq!(agent.kinds("line").await, ["created", "connect_started", "connected", "written"]);
}

#[tokio::test]
async fn queued_writes_have_a_limit() {
    for ip in LOOPBACKS {
        let limits = Limits { pending_write_bytes: 100_000, ..Limits::default() };
        let agent = Agent::start_with(AgentConfig { limits, ..AgentConfig::default() }).await;
        let (_peer, size) = unread_by_the_test(&agent, ip, "line").await;
        let request = pb::WriteSocketRequest { call: detached("first"), ..write("line", pattern(size, 1)) };
        agent.write_socket(request).await.unwrap();
        agent.until("line", "a full kernel", |socket| socket.queues.unwrap().pending_write_bytes() > 0).await;
        let refused = agent.write_socket(write("line", pattern(100_000, 2))).await.unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (Code::ResourceExhausted, "QUOTA_EXCEEDED"));
        assert!(refused.message.contains("limits.pending_write_bytes"), "{}", refused.message);
    }
}

#[tokio::test]
async fn an_expected_offset_lets_no_byte_be_written_twice() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id, pb::TcpSocketSpec::default()).await;
        let at_offset =
            |offset, payload| pb::WriteSocketRequest { expected_offset: Some(offset), ..write(&id, text(payload)) };
        assert_eq!(went(&agent.write_socket(at_offset(0, "hola")).await), "ok");
        let again = agent.write_socket(at_offset(0, "hola")).await.unwrap_err();
        assert_eq!((again.code, again.reason.as_str()), (Code::Aborted, "OFFSET_MISMATCH"));
        assert!(again.message.contains('4'), "{}", again.message);
        let next = agent.write_socket(at_offset(4, "!")).await.unwrap();
        assert_eq!((next.went(), next.offset()), ("ok".into(), 4));
        assert_eq!(peer.read(5).await, b"hola!");
    }
}

/// The same request under the same name is one write.
#[tokio::test]
async fn a_write_that_is_sent_again_is_answered_from_memory() {
    let agent = Agent::start().await;
    let mut peer = line(&agent, LOOPBACKS[0], "line", pb::TcpSocketSpec::default()).await;
    let call = Some(pb::Call { request_id: "once".into(), ..Default::default() });
    let request = pb::WriteSocketRequest { call, ..write("line", text("hola")) };
    let first = agent.write_socket(request.clone()).await.unwrap();
    let second = agent.write_socket(request).await.unwrap();
    assert_eq!(first, second);
    agent.shut_down("line", pb::ShutdownHow::Send).await;
    assert_eq!(peer.read_to_end().await.unwrap(), b"hola");
}

#[tokio::test]
async fn queues_show_what_the_kernel_holds() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let (mut peer, size) = unread_by_the_test(&agent, ip, &id).await;
        pause(&agent, &id, true).await;
        peer.write(b"12345").await;
        let socket = agent.until(&id, "five bytes", |s| s.queues.unwrap().receive_bytes() == 5).await;
        assert_eq!(socket.bytes_read(), 0);
        assert!(socket.readiness.unwrap().readable && socket.readiness.unwrap().writable);

        agent
            .write_socket(pb::WriteSocketRequest { call: detached(&id), ..write(&id, pattern(size, 1)) })
            .await
            .unwrap();
        let full = agent.until(&id, "a full kernel", |s| s.queues.unwrap().pending_write_bytes() > 0).await;
        assert!(full.queues.unwrap().send_bytes() > 0 && !full.readiness.unwrap().writable);
        peer.read(size).await;
        agent
            .until(&id, "empty queues", |s| {
                let queues = s.queues.unwrap();
                queues.send_bytes() == 0 && queues.pending_write_bytes() == 0
            })
            .await;
    }
}

#[tokio::test]
async fn a_large_payload_comes_through_between_two_agents() {
    let (a, b) = (Agent::start().await, Agent::start().await);
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let (door, id) = (format!("door-{at}"), format!("line-{at}"));
        let address = a.listen(&door, &any_port(ip)).await;
        b.connect(&id, &address).await;
        let size = 1 << 20;
        let written = b.write_socket(write(&id, pattern(size, 42))).await.unwrap();
        assert_eq!((written.went(), written.bytes_written() as usize), ("ok".into(), size));
        let (child, mut bytes) = (format!("{door}.1"), Vec::new());
        while bytes.len() < size {
            let part = a.receive_socket(read(&child)).await.unwrap();
            assert_eq!(part.offset(), bytes.len() as u64);
            bytes.extend(data(&part));
        }
        assert!(bytes == pattern_bytes(size, 42));
    }
}

#[tokio::test]
async fn a_short_read_leaves_the_rest() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        for (mode, spec) in [("events", pb::TcpSocketSpec::default()), ("pull", pulled())] {
            let id = format!("{mode}-{at}");
            let mut peer = line(&agent, ip, &id, spec).await;
            peer.write(b"0123456789").await;
            for (offset, size, bytes) in [(0, 3, &b"012"[..]), (3, 4, b"3456"), (7, 100, b"789")] {
                let request = pb::ReceiveSocketRequest { max_bytes: Some(size), ..read(&id) };
                let part = agent.receive_socket(request).await.unwrap();
                assert_eq!((part.offset(), data(&part)), (offset, bytes.to_vec()), "{mode}");
                assert_eq!((part.size() as usize, part.end), (bytes.len(), false));
            }
            let nothing =
                agent.receive_socket(pb::ReceiveSocketRequest { call: timeout(0), ..read(&id) }).await.unwrap();
            assert_eq!((nothing.went(), nothing.size, nothing.payload), ("timed out".into(), None, None), "{mode}");
        }
    }
}

#[tokio::test]
async fn bytes_that_were_logged_can_be_taken_after_the_socket_was_closed() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id, pb::TcpSocketSpec::default()).await;
        peer.write(b"late").await;
        agent.event(&id, "received").await;
        agent.close(&id).await;
        assert_eq!(agent.receive_text(&id).await, "late");
        assert_eq!(went(&agent.receive_socket(read(&id)).await), "SOCKET_CLOSED");
    }
}

#[tokio::test]
async fn the_end_of_a_stream_is_told_again_and_again() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        for (mode, spec) in [("events", pb::TcpSocketSpec::default()), ("pull", pulled())] {
            let id = format!("{mode}-{at}");
            let mut peer = line(&agent, ip, &id, spec).await;
            peer.write(b"bye").await;
            peer.shut_down().await;
            assert_eq!(agent.receive_text(&id).await, "bye");
            for _ in 0..3 {
                let end = agent.receive_socket(read(&id)).await.unwrap();
                assert_eq!((end.went(), end.end, end.size()), ("ok".into(), true, 0), "{mode}");
            }
        }
    }
}

/// The last of the first five lines that a newcomer types, typed too early.
#[tokio::test]
async fn a_read_waits_for_a_connection_that_has_not_come_yet() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let door = agent.listen("door", &any_port(ip)).await;
        let request = pb::ReceiveSocketRequest { call: detached("early"), ..read("door.1") };
        agent.receive_socket(request).await.unwrap();
        let nobody = pb::ReceiveSocketRequest { call: timeout(30), ..read("door.2") };
        assert_eq!(went(&agent.receive_socket(nobody).await), "timed out");
        let mut peer = TcpPeer::connect(&door).await;
        peer.write(b"here").await;
        let early: pb::ReceiveSocketResponse = agent.call_response("early").await;
        assert_eq!((early.went(), early.size()), ("ok".into(), 4));
        assert_eq!(early.socket_id, "door.1");

        // Without a listener of that name nobody will ever come.
        assert_eq!(went(&agent.receive_socket(read("window.1")).await), "SOCKET_NOT_FOUND");
    }
}

/// Writes wait for it, too.
#[tokio::test]
async fn a_write_waits_for_a_connection_that_has_not_come_yet() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let door = agent.listen("door", &any_port(ip)).await;
        let request = pb::WriteSocketRequest { call: detached("early"), ..write("door.1", text("welcome")) };
        agent.write_socket(request).await.unwrap();
        let mut peer = TcpPeer::connect(&door).await;
        assert_eq!(peer.read(7).await, b"welcome");
    }
}

#[tokio::test]
async fn what_is_written_during_the_handshake_goes_out_after_it() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let full = crate::harness::tcp::FullListener::new(ip);
        let connect = pb::CreateSocketRequest {
            socket_id: id.clone(),
            kind: Some(pb::create_socket_request::Kind::Tcp(connecting_to(&full.address.to_string()))),
            call: detached(&format!("{id}-c")),
            ..Default::default()
        };
        agent.create_socket(connect).await.unwrap();
        agent.event(&id, "connect_started").await;
        let request = pb::WriteSocketRequest { call: detached(&format!("{id}-w")), ..write(&id, text("early")) };
        agent.write_socket(request).await.unwrap();
        full.make_room();
        let written: pb::WriteSocketResponse = agent.call_response(&format!("{id}-w")).await;
        assert_eq!((written.went(), written.bytes_written()), ("ok".into(), 5));
        assert_eq!(agent.kinds(&id).await, ["created", "connect_started", "connected", "written"]);
    }
}

#[tokio::test]
async fn pulled_bytes_stay_in_the_kernel_and_out_of_the_log() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id, pulled()).await;
        peer.write(b"hola").await;
        agent.until(&id, "four bytes", |socket| socket.queues.unwrap().receive_bytes() == 4).await;
        assert_eq!(agent.socket(&id).await.bytes_read(), 0);
        let taken = agent.receive_socket(read(&id)).await.unwrap();
        assert_eq!((data(&taken), taken.offset(), taken.event_seq), (b"hola".to_vec(), 0, 0));
        assert_eq!(agent.socket(&id).await.bytes_read(), 4);
        assert_eq!(agent.kinds(&id).await, ["created", "connect_started", "connected"]);

        // Those who wait are served in their order.
        for name in ["a", "b"] {
            let call = detached(&format!("{id}-{name}"));
            agent.receive_socket(pb::ReceiveSocketRequest { call, max_bytes: Some(2), ..read(&id) }).await.unwrap();
        }
        peer.write(b"1122").await;
        for (name, offset) in [("a", 4), ("b", 6)] {
            let taken: pb::ReceiveSocketResponse = agent.call_response(&format!("{id}-{name}")).await;
            assert_eq!((taken.offset(), taken.size()), (offset, 2));
        }
    }
}

#[tokio::test]
async fn a_pull_can_wait_for_many_bytes_at_once() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id, pulled()).await;
        let many = |min: u32| pb::ReceiveSocketRequest { min_bytes: Some(min), ..read(&id) };
        peer.write(b"half").await;
        agent.until(&id, "four bytes", |socket| socket.queues.unwrap().receive_bytes() == 4).await;
        let early = agent.receive_socket(pb::ReceiveSocketRequest { call: timeout(30), ..many(8) }).await.unwrap();
        assert_eq!(early.went(), "timed out");
        assert_eq!(agent.socket(&id).await.queues.unwrap().receive_bytes(), 4, "nothing was taken");
        let call = detached(&format!("{id}-r"));
        agent.receive_socket(pb::ReceiveSocketRequest { call, ..many(8) }).await.unwrap();
        peer.write(b"half").await;
        let both: pb::ReceiveSocketResponse = agent.call_response(&format!("{id}-r")).await;
        assert_eq!((both.went(), both.size()), ("ok".into(), 8));

        // The end of the stream ends the waiting.
        peer.write(b"rest").await;
        peer.shut_down().await;
        assert_eq!(data(&agent.receive_socket(many(100)).await.unwrap()), b"rest");
        assert!(agent.receive_socket(many(100)).await.unwrap().end);
    }
    let _peer = line(&agent, LOOPBACKS[0], "events", pb::TcpSocketSpec::default()).await;
    let refused = pb::ReceiveSocketRequest { min_bytes: Some(2), ..read("events") };
    assert_eq!(went(&agent.receive_socket(refused).await), "WRONG_STATE");
}

#[tokio::test]
async fn the_read_size_cuts_a_stream_into_pieces() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let delivery = Some(pb::Delivery { read_size: Some(4), ..Default::default() });
        let mut peer = line(&agent, ip, &id, pb::TcpSocketSpec { delivery, ..Default::default() }).await;
        peer.write(b"0123456789").await;
        agent.until(&id, "ten bytes", |socket| socket.bytes_read() == 10).await;
        let pieces = received(&agent, &id).await;
        assert_eq!(pieces, [(0, b"0123".to_vec()), (4, b"4567".to_vec()), (8, b"89".to_vec())]);

        // It can be changed on the way.
        let delivery = Some(pb::Delivery { read_size: Some(100), ..Default::default() });
        let request = pb::SetSocketDeliveryRequest { socket_id: id.clone(), delivery, ..Default::default() };
        agent.set_socket_delivery(request).await.unwrap();
        peer.write(b"0123456789").await;
        agent.until(&id, "twenty bytes", |socket| socket.bytes_read() == 20).await;
        assert_eq!(received(&agent, &id).await[3], (10, b"0123456789".to_vec()));
    }
}

/// From the log to the kernel and back, no byte is lost or seen twice.
#[tokio::test]
async fn the_delivery_can_change_on_the_way() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id, pb::TcpSocketSpec::default()).await;
        let deliver = |mode: pb::DeliveryMode| {
            let delivery = Some(pb::Delivery { mode: mode.into(), ..Default::default() });
            pb::SetSocketDeliveryRequest { socket_id: id.clone(), delivery, ..Default::default() }
        };
        peer.write(b"logged ").await;
        agent.event(&id, "received").await;
        agent.set_socket_delivery(deliver(pb::DeliveryMode::Pull)).await.unwrap();
        peer.write(b"pulled ").await;
        agent.until(&id, "seven bytes", |socket| socket.queues.unwrap().receive_bytes() == 7).await;
        // What is in the log comes first.
        assert_eq!(agent.receive_text(&id).await, "logged ");
        assert_eq!(agent.receive_text(&id).await, "pulled ");
        peer.write(b"logged again").await;
        agent.until(&id, "twelve bytes", |socket| socket.queues.unwrap().receive_bytes() == 12).await;
        agent.set_socket_delivery(deliver(pb::DeliveryMode::Events)).await.unwrap();
        let last = agent.receive_socket(read(&id)).await.unwrap();
        assert_eq!((data(&last), last.offset()), (b"logged again".to_vec(), 14));
    }
}
