//! Writers: in slices with time between them, and told when too much waits.

use farsock::wire::pb;

use crate::harness::tcp::{
    Reported, any_port, between, detached, millis, pattern, pattern_bytes, timeout, unread_by_the_test, unread_with,
    went,
};
use crate::harness::{Agent, LOOPBACKS, TcpPeer, text, within};

fn sliced(id: &str, payload: Option<pb::Payload>, size: u32, interval: i64) -> pb::WriteSocketRequest {
    let slices = Some(pb::Slices { size, interval: millis(interval) });
    pb::WriteSocketRequest { socket_id: id.into(), payload, slices, ..Default::default() }
}

async fn line(agent: &Agent, ip: std::net::IpAddr, id: &str) -> TcpPeer {
    let (listener, address) = TcpPeer::listen(ip).await;
    agent.connect_with(id, &address.to_string(), pb::TcpSocketSpec::default()).await;
    TcpPeer::accept(&listener).await
}

#[tokio::test]
async fn a_write_can_be_cut_into_slices_with_time_between_them() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id).await;
        agent.write(&id, "...").await;
        let written = agent.write_socket(sliced(&id, text("aabbc"), 2, 30)).await.unwrap();
        assert_eq!((written.went().as_str(), written.bytes_written(), written.offset()), ("ok", 5, 3));
        assert_eq!(peer.read(8).await, b"...aabbc");
        let slices = agent.listed(&id, "written").await.split_off(1);
        let told: Vec<_> = slices
            .iter()
            .map(|event| match event.body.as_ref().unwrap() {
                pb::event::Body::Written(slice) => (slice.offset(), slice.size, slice.asked_size),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, [(3, 2, 2), (5, 2, 2), (7, 1, 1)]);
        for pair in slices.windows(2) {
            assert!(between(&pair[0], &pair[1]) >= 30, "{pair:?}");
        }
        let report = written.report();
        assert_eq!((report.first_event_seq, report.last_event_seq), (slices[0].event_seq, slices[2].event_seq));
    }
}

#[tokio::test]
async fn what_comes_after_a_sliced_write_waits_for_it() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id).await;
        let slow = pb::WriteSocketRequest { call: detached(&format!("slow-{at}")), ..sliced(&id, text("aabb"), 2, 50) };
        agent.write_socket(slow).await.unwrap();
        // Bytes that were handed over count, whether they have been told or not.
        let wrong = pb::WriteSocketRequest { expected_offset: Some(5), ..write(&id, text("cc")) };
        assert_eq!(went(&agent.write_socket(wrong).await), "OFFSET_MISMATCH");
        let right = pb::WriteSocketRequest { expected_offset: Some(4), ..write(&id, text("cc")) };
        assert_eq!(went(&agent.write_socket(right).await), "ok");
        assert_eq!(peer.read(6).await, b"aabbcc");
    }
}

#[tokio::test]
async fn a_sliced_write_ends_at_its_timeout_and_the_next_one_stands_right_after_it() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id).await;
        let hour = pb::WriteSocketRequest { call: timeout(30), ..sliced(&id, text("aabb"), 2, 3_600_000) };
        let written = agent.write_socket(hour).await.unwrap();
        assert_eq!((written.went().as_str(), written.bytes_written(), written.offset()), ("timed out", 2, 0));
        let next = agent.try_write(&id, "cc").await.unwrap();
        assert_eq!((next.went().as_str(), next.offset()), ("ok", 2));
        assert_eq!(peer.read(4).await, b"aacc");
    }
}

#[tokio::test]
async fn only_the_last_byte_of_a_sliced_write_is_urgent() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id).await;
        let request = pb::WriteSocketRequest { urgent: true, ..sliced(&id, text("aab!"), 2, 20) };
        assert_eq!(went(&agent.write_socket(request).await), "ok");
        assert_eq!(peer.read(3).await, b"aab");
        let mut byte = [std::mem::MaybeUninit::uninit()];
        let socket = socket2::SockRef::from(&peer.0);
        assert_eq!(socket.recv_out_of_band(&mut byte).unwrap(), 1);
    }
}

#[tokio::test]
async fn writers_are_told_at_the_high_watermark_and_again_at_the_low_one() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let watermarks = pb::TcpSocketSpec {
            write_high_watermark: Some(100_000),
            write_low_watermark: Some(50_000),
            ..Default::default()
        };
        let (mut peer, size) = unread_with(&agent, ip, &id, watermarks).await;
        for (name, size, seed) in [("a", size, 1), ("b", 60_000, 2)] {
            let request =
                pb::WriteSocketRequest { call: detached(&format!("{id}-{name}")), ..write(&id, pattern(size, seed)) };
            agent.write_socket(request).await.unwrap();
        }
        let blocked = agent.event(&id, "write_blocked").await;
        let Some(pb::event::Body::WriteBlocked(blocked)) = blocked.body else { panic!() };
        assert!(blocked.pending_bytes > 100_000, "{blocked:?}");
        assert_eq!(agent.events_of(&id, "writable").await, []);

        let bytes = peer.read(size + 60_000).await;
        assert!(bytes[size..] == pattern_bytes(60_000, 2)[..]);
        agent.event(&id, "writable").await;
        let written: pb::WriteSocketResponse = agent.call_response(&format!("{id}-b")).await;
        assert_eq!(written.bytes_written(), 60_000);
        // Told when half of the second write had room, before all of it had.
        let kinds = agent.kinds(&id).await;
        assert_eq!(kinds[3..], ["connected", "write_blocked", "written", "writable", "written"]);
    }
}

#[tokio::test]
async fn what_a_write_discards_waits_no_more_and_writable_comes_with_the_room() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let (mut peer, size) = unread_by_the_test(&agent, ip, &id).await;
        let request = pb::WriteSocketRequest { call: timeout(30), ..write(&id, pattern(size, 1)) };
        let written = agent.write_socket(request).await.unwrap();
        assert_eq!(written.went(), "timed out");
        assert_eq!(agent.events_of(&id, "write_blocked").await.len(), 1);
        assert_eq!(agent.events_of(&id, "writable").await, [], "the kernel has no room yet");
        peer.read(written.bytes_written() as usize).await;
        agent.event(&id, "writable").await;
    }
}

#[tokio::test]
async fn slices_and_watermarks_that_make_no_sense_are_refused() {
    let agent = Agent::start().await;
    let slices = |size, interval| pb::WriteSocketRequest {
        slices: Some(pb::Slices { size, interval }),
        ..write("line", text("hola"))
    };
    for (request, problem) in [
        (slices(0, millis(1)), "slices.size: it goes from 1"),
        (slices(1, None), "slices.interval: how long to wait"),
        (slices(1, millis(0)), "slices.interval: how long to wait"),
        (slices(1, millis(-1)), "slices.interval: "),
    ] {
        let refused = agent.write_socket(request).await.unwrap_err();
        assert!(refused.message.contains(problem), "{}", refused.message);
    }
    for ((high, low), problem) in [
        (
            (Some(4 << 20), None),
            "tcp.write_high_watermark: more than limits.pending_write_bytes of this agent, 4194304, never",
        ),
        ((Some(5), Some(6)), "tcp.write_low_watermark: it goes up to `write_high_watermark`, 5, and this is 6"),
        ((None, Some(1)), "tcp.write_low_watermark: it goes up to `write_high_watermark`, 0, and this is 1"),
    ] {
        let tcp = pb::TcpSocketSpec { write_high_watermark: high, write_low_watermark: low, ..Default::default() };
        let kind = Some(pb::create_socket_request::Kind::Tcp(tcp));
        let refused = agent.create_socket(pb::CreateSocketRequest { kind, ..Default::default() }).await.unwrap_err();
        assert!(refused.message.contains(problem), "{}", refused.message);
    }
}

fn write(id: &str, payload: Option<pb::Payload>) -> pb::WriteSocketRequest {
    pb::WriteSocketRequest { socket_id: id.into(), payload, ..Default::default() }
}

/// Erlang's send_timeout: a write that nobody has given a time ends after that of its socket. Its accepted connections have it, too.
#[tokio::test]
async fn a_socket_may_say_how_long_its_writes_take() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let hurried = || pb::TcpSocketSpec { write_timeout: millis(200), ..Default::default() };
        let write = async |id: &str, size: usize, call: Option<pb::Call>| {
            let request =
                pb::WriteSocketRequest { socket_id: id.into(), payload: pattern(size, 7), call, ..Default::default() };
            agent.write_socket(request).await.unwrap()
        };
        let (_peer, size) = unread_with(&agent, ip, "line", hurried()).await;
        let small = pb::SocketOption { name: "SO_SNDBUF".into(), value: Some(pb::socket_option::Value::Number(4096)) };
        let door =
            agent.listen_with("door", &any_port(ip), pb::TcpSocketSpec { options: vec![small], ..hurried() }).await;
        let near = narrow_stream(&door).await;
        agent.event("door.1", "created").await;
        for id in ["line", "door.1"] {
            let answer = write(id, size, None).await;
            assert_eq!(answer.went(), "timed out", "{id}");
            assert!((answer.bytes_written() as usize) < size);
            let elapsed = answer.report.unwrap().elapsed.unwrap();
            assert!(elapsed.seconds < 5 && (elapsed.seconds > 0 || elapsed.nanos >= 200_000_000), "{elapsed:?}");
            assert_eq!(agent.socket(id).await.state(), pb::SocketState::Connected, "nothing else happens");
        }
        // What the request says counts more.
        let answer = write("line", size, timeout(20)).await;
        let elapsed = answer.report.clone().unwrap().elapsed.unwrap();
        assert!(answer.went() == "timed out" && elapsed.seconds == 0 && elapsed.nanos >= 20_000_000, "{elapsed:?}");
        drop(near);
    }
}

/// Erlang's send_timeout_close: a stream in which bytes are missing is of no use to anybody.
#[tokio::test]
async fn a_write_that_takes_too_long_may_end_the_connection() {
    for ip in LOOPBACKS {
        for (spec, call) in [
            (pb::TcpSocketSpec { write_timeout: millis(100), ..Default::default() }, None),
            (pb::TcpSocketSpec::default(), timeout(100)),
        ] {
            let agent = Agent::start().await;
            let spec = pb::TcpSocketSpec { close_on_write_timeout: true, ..spec };
            let (mut peer, size) = unread_with(&agent, ip, "line", spec).await;
            let request = |call| pb::WriteSocketRequest {
                socket_id: "line".into(),
                payload: pattern(size, 7),
                call,
                ..Default::default()
            };
            let answer = agent.write_socket(request(call)).await.unwrap();
            assert_eq!(answer.went(), "timed out");
            let closed = agent.closed("line").await;
            assert_eq!((closed.reason(), closed.had_error), (pb::CloseReason::WriteTimedOut, false));
            let written = answer.bytes_written() as usize;
            assert_eq!(closed.bytes_written(), u64::from(answer.bytes_written()));
            assert_eq!(went(&agent.write_socket(request(None)).await), "SOCKET_CLOSED");
            // What the kernel has got comes, and then the end.
            assert_eq!(peer.read_to_end().await.unwrap(), pattern_bytes(size, 7)[..written]);
        }
    }
}

/// A connection to there with little room for what is not read.
async fn narrow_stream(address: &str) -> tokio::net::TcpStream {
    let address: std::net::SocketAddr = address.parse().unwrap();
    let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() };
    let socket = socket.unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    within("a connection", socket.connect(address)).await.unwrap()
}
