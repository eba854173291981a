//! The ways in which it all ends: FIN or RST, asked for or suffered, and always exactly one `closed`, last.

use std::net::IpAddr;

use farsock::wire::pb;

use crate::harness::tcp::{Reported, detached, listening_on, millis, pattern, timeout, unread_by_the_test, went};
use crate::harness::{Agent, LOOPBACKS, TcpPeer};

async fn line(agent: &Agent, ip: IpAddr, id: &str, spec: pb::TcpSocketSpec) -> TcpPeer {
    let (listener, address) = TcpPeer::listen(ip).await;
    agent.connect_with(id, &address.to_string(), spec).await;
    TcpPeer::accept(&listener).await
}

fn held(mode: pb::DeliveryMode, paused: bool) -> pb::TcpSocketSpec {
    let delivery = Some(pb::Delivery { mode: mode.into(), paused: Some(paused), ..Default::default() });
    pb::TcpSocketSpec { delivery, ..Default::default() }
}

fn close(id: &str) -> pb::CloseSocketRequest {
    pb::CloseSocketRequest { socket_id: id.into(), ..Default::default() }
}

/// What the peer sees at the end of the stream: `FIN`, or `RST`.
async fn seen_by(peer: &mut TcpPeer) -> &'static str {
    match peer.read_to_end().await {
        Ok(_) => "FIN",
        Err(error) if error.raw_os_error() == Some(libc::ECONNRESET) => "RST",
        Err(error) => panic!("{error}"),
    }
}

/// `created` first, `closed` last, each once.
async fn assert_one_end(agent: &Agent, id: &str) {
    let kinds = agent.kinds(id).await;
    assert_eq!((kinds.first().unwrap().as_str(), kinds.last().unwrap().as_str()), ("created", "closed"), "{kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| *kind == "closed").count(), 1, "{kinds:?}");
}

#[tokio::test]
async fn closing_and_aborting_are_a_fin_and_a_rst() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let linger = |seconds: i64| pb::CloseSocketRequest { linger: millis(seconds * 1000), ..close("") };
        for (way, request, seen, reason) in [
            ("close", Some(close("")), "FIN", pb::CloseReason::Closed),
            ("linger", Some(linger(5)), "FIN", pb::CloseReason::Closed),
            ("no-linger", Some(linger(0)), "RST", pb::CloseReason::Closed),
            ("abort", None, "RST", pb::CloseReason::Aborted),
        ] {
            let id = format!("{way}-{at}");
            let mut peer = line(&agent, ip, &id, pb::TcpSocketSpec::default()).await;
            agent.write(&id, "hola").await;
            assert_eq!(peer.read(4).await, b"hola");
            let (went, socket) = match request {
                Some(request) => {
                    let closed =
                        agent.close_socket(pb::CloseSocketRequest { socket_id: id.clone(), ..request }).await.unwrap();
                    (closed.went(), closed.socket)
                }
                None => {
                    let aborted = agent.abort(&id).await;
                    (aborted.went(), aborted.socket)
                }
            };
            assert_eq!(went, "ok");
            let socket = socket.unwrap();
            let closed = socket.closed.unwrap();
            assert_eq!((socket.state(), closed.reason()), (pb::SocketState::Closed, reason), "{way}");
            assert_eq!((closed.had_error, closed.bytes_written()), (false, 4), "{way}");
            assert_eq!((socket.queues, socket.readiness), (None, None));
            assert_eq!(seen_by(&mut peer).await, seen, "{way}");
            assert_one_end(&agent, &id).await;
            assert_eq!(agent.closed(&id).await, closed);
            assert_eq!(agent.kinds(&id).await.contains(&"aborted".to_owned()), way == "abort");
        }
    }
}

/// The name is free from then on, and the number of the socket is never used again.
#[tokio::test]
async fn the_name_of_a_closed_socket_is_free() {
    let agent = Agent::start().await;
    for ip in LOOPBACKS {
        let _first = line(&agent, ip, "line", pb::TcpSocketSpec::default()).await;
        let old = agent.socket("line").await.socket_uid;
        assert_eq!(went(&agent.create_tcp("line", pb::TcpSocketSpec::default()).await), "SOCKET_EXISTS");
        agent.close("line").await;
        let mut peer = line(&agent, ip, "line", pb::TcpSocketSpec::default()).await;
        assert!(agent.socket("line").await.socket_uid > old);
        // Whoever means the old one does not hit the new one.
        let pinned = pb::CloseSocketRequest { socket_uid: Some(old), ..close("line") };
        assert_eq!(went(&agent.close_socket(pinned).await), "SOCKET_REPLACED");
        agent.write("line", "here").await;
        assert_eq!(peer.read(4).await, b"here");
        agent.close("line").await;
    }
}

/// Linux sends a RST for bytes that nobody read.
#[tokio::test]
async fn closing_with_unread_bytes_is_a_rst() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        for (how, spec) in
            [("paused", held(pb::DeliveryMode::Events, true)), ("pulled", held(pb::DeliveryMode::Pull, false))]
        {
            let id = format!("{how}-{at}");
            let mut peer = line(&agent, ip, &id, spec).await;
            peer.write(b"unread").await;
            agent.until(&id, "six bytes", |socket| socket.queues.unwrap().receive_bytes() == 6).await;
            let closed = agent.close(&id).await.socket.unwrap().closed.unwrap();
            assert_eq!((closed.unread_bytes, closed.bytes_read()), (6, 0), "{how}");
            assert_eq!(seen_by(&mut peer).await, "RST", "{how}");
        }
    }
}

#[tokio::test]
async fn closing_waits_for_queued_writes() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let (mut peer, size) = unread_by_the_test(&agent, ip, &id).await;
        let write = pb::WriteSocketRequest {
            socket_id: id.clone(),
            payload: pattern(size, 1),
            call: detached(&format!("{id}-w")),
            ..Default::default()
        };
        agent.write_socket(write).await.unwrap();
        let request = pb::CloseSocketRequest { call: detached(&format!("{id}-c")), ..close(&id) };
        agent.close_socket(request).await.unwrap();
        assert_ne!(agent.socket(&id).await.state(), pb::SocketState::Closed);
        assert_eq!(peer.read_to_end().await.unwrap().len(), size);
        let closed = agent.closed(&id).await;
        assert_eq!((closed.bytes_written(), closed.unwritten_bytes), (size as u64, 0));
        let written: pb::WriteSocketResponse = agent.call_response(&format!("{id}-w")).await;
        assert_eq!((written.went(), written.bytes_written() as usize), ("ok".into(), size));
        assert_one_end(&agent, &id).await;
    }
}

#[tokio::test]
async fn closing_waits_no_longer_than_it_is_told_to() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let (_peer, size) = unread_by_the_test(&agent, ip, &id).await;
        let write = pb::WriteSocketRequest {
            socket_id: id.clone(),
            payload: pattern(size, 1),
            call: detached(&format!("{id}-w")),
            ..Default::default()
        };
        agent.write_socket(write).await.unwrap();
        let closed = agent.close_socket(pb::CloseSocketRequest { call: timeout(100), ..close(&id) }).await.unwrap();
        assert_eq!(closed.went(), "ok");
        let closed = closed.socket.unwrap().closed.unwrap();
        let written: pb::WriteSocketResponse = agent.call_response(&format!("{id}-w")).await;
        assert_eq!(written.went(), "ECANCELED");
        assert!(written.bytes_written() > 0 && closed.unwritten_bytes > 0);
        assert_eq!(written.bytes_written() as usize + closed.unwritten_bytes as usize, size);
        assert_eq!(closed.bytes_written(), u64::from(written.bytes_written()));
    }
}

/// There is nothing left to wait for once the write is over.
#[tokio::test]
async fn closing_goes_on_when_the_writes_before_it_have_timed_out() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let (mut peer, size) = unread_by_the_test(&agent, ip, &id).await;
        let call = Some(pb::Call { detach: true, ..timeout(100).unwrap() });
        let write =
            pb::WriteSocketRequest { socket_id: id.clone(), payload: pattern(size, 1), call, ..Default::default() };
        agent.write_socket(write).await.unwrap();
        let patient = pb::CloseSocketRequest { call: timeout(3_600_000), ..close(&id) };
        let closed = crate::harness::within("the end of the close", agent.close_socket(patient)).await.unwrap();
        let closed = closed.socket.unwrap().closed.unwrap();
        assert_eq!(peer.read_to_end().await.unwrap().len() as u64, closed.bytes_written());
        assert!(closed.bytes_written() < size as u64);
    }
}

/// The kernel would have to hand the rest over first, and the peer does not take it.
#[tokio::test]
async fn lingering_waits_for_the_peer_and_stops_nobody_else() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let (mut peer, _) = unread_by_the_test(&agent, ip, &id).await;
        // As much as the kernel takes, most of which cannot be delivered.
        let write = pb::WriteSocketRequest {
            socket_id: id.clone(),
            payload: pattern(300_000, 1),
            call: timeout(50),
            ..Default::default()
        };
        let size = agent.write_socket(write).await.unwrap().bytes_written() as usize;
        let request =
            pb::CloseSocketRequest { linger: millis(60_000), call: detached(&format!("{id}-c")), ..close(&id) };
        agent.close_socket(request).await.unwrap();
        // Others go on meanwhile, and the socket is not gone before the peer has everything.
        let other = format!("other-{at}");
        let mut quick = line(&agent, ip, &other, pb::TcpSocketSpec::default()).await;
        agent.write(&other, "quick").await;
        assert_eq!(quick.read(5).await, b"quick");
        assert_eq!(agent.events_of(&id, "closed").await.len(), 0);
        assert_eq!(peer.read_to_end().await.unwrap().len(), size);
        let closed: pb::CloseSocketResponse = agent.call_response(&format!("{id}-c")).await;
        assert_eq!((closed.went(), closed.socket.unwrap().closed.unwrap().bytes_written()), ("ok".into(), size as u64));
        assert_one_end(&agent, &id).await;
    }
}

/// The option makes close(2) wait as well, whoever closes. ResetSession waits for nobody: the kernel goes on by itself.
#[tokio::test]
async fn the_option_so_linger_stops_nobody_else_either() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let mut peers = Vec::new();
        for id in ["closed", "reset"] {
            let (peer, size) = unread_by_the_test(&agent, ip, id).await;
            let value = Some(pb::socket_option::Value::Duration(prost_types::Duration { seconds: 60, nanos: 0 }));
            let options = vec![pb::SocketOption { name: "SO_LINGER".into(), value }];
            let request = pb::SetSocketOptionsRequest { socket_id: id.into(), options, ..Default::default() };
            assert_eq!(agent.set_socket_options(request).await.unwrap().went(), "ok");
            let write = pb::WriteSocketRequest {
                socket_id: id.into(),
                payload: pattern(size, 1),
                call: timeout(50),
                ..Default::default()
            };
            peers.push((peer, agent.write_socket(write).await.unwrap().bytes_written() as usize));
        }
        agent.close_socket(pb::CloseSocketRequest { call: detached("close"), ..close("closed") }).await.unwrap();
        let mut quick = line(&agent, ip, "other", pb::TcpSocketSpec::default()).await;
        agent.write("other", "quick").await;
        assert_eq!(quick.read(5).await, b"quick");
        assert_eq!(agent.events_of("closed", "closed").await.len(), 0, "it waits for the peer");
        let (mut peer, size) = peers.remove(0);
        assert_eq!(peer.read_to_end().await.unwrap().len(), size);
        assert_eq!(agent.closed("closed").await.reason(), pb::CloseReason::Closed);

        agent.sessions().reset_session(pb::ResetSessionRequest::default()).await.unwrap();
        assert_eq!(agent.closed("reset").await.reason(), pb::CloseReason::SessionReset);
        let (mut peer, size) = peers.remove(0);
        assert_eq!(peer.read_to_end().await.unwrap().len(), size);
    }
}

#[tokio::test]
async fn aborting_discards_what_is_queued() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let (mut peer, size) = unread_by_the_test(&agent, ip, &id).await;
        let write = pb::WriteSocketRequest {
            socket_id: id.clone(),
            payload: pattern(size, 1),
            call: detached(&format!("{id}-w")),
            ..Default::default()
        };
        agent.write_socket(write).await.unwrap();
        let closed = agent.abort(&id).await.socket.unwrap().closed.unwrap();
        assert!(closed.unwritten_bytes > 0);
        assert_eq!(seen_by(&mut peer).await, "RST");
        let written: pb::WriteSocketResponse = agent.call_response(&format!("{id}-w")).await;
        assert_eq!(written.went(), "ECANCELED");
        let kinds = agent.kinds(&id).await;
        assert_eq!(kinds.iter().filter(|kind| *kind == "aborted").count(), 1);
        assert_one_end(&agent, &id).await;
    }
}

#[tokio::test]
async fn a_reset_by_the_peer_is_told_and_ends_the_socket() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id, pb::TcpSocketSpec::default()).await;
        peer.write(b"hola").await;
        agent.event(&id, "received").await;
        let read = pb::ReceiveSocketRequest { socket_id: id.clone(), call: detached(&id), ..Default::default() };
        assert_eq!(agent.receive_text(&id).await, "hola");
        agent.receive_socket(read).await.unwrap();
        peer.abort();
        let Some(pb::event::Body::PeerReset(reset)) = agent.event(&id, "peer_reset").await.body else { panic!() };
        let error = reset.error.unwrap();
        assert_eq!((error.name.as_str(), error.operation()), ("ECONNRESET", pb::Operation::Receive));
        assert!(error.local.is_some() && error.remote.is_some());
        let closed = agent.closed(&id).await;
        assert_eq!((closed.reason(), closed.had_error, closed.bytes_read()), (pb::CloseReason::PeerReset, true, 4));
        let waited: pb::ReceiveSocketResponse = agent.call_response(&id).await;
        assert_eq!(waited.went(), "ECONNRESET");
        let kinds = agent.kinds(&id).await;
        assert_eq!(kinds, ["created", "connect_started", "connected", "received", "peer_reset", "closed"]);
    }
}

/// Also where nobody reads any more, or writes.
#[tokio::test]
async fn a_reset_is_told_whatever_was_ended_here() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        for how in [pb::ShutdownHow::Receive, pb::ShutdownHow::Send, pb::ShutdownHow::Both] {
            for mode in [pb::DeliveryMode::Events, pb::DeliveryMode::Pull] {
                let id = format!("line-{at}-{}-{}", how as i32, mode as i32);
                let peer = line(&agent, ip, &id, held(mode, false)).await;
                agent.shut_down(&id, how).await;
                peer.abort();
                let closed = agent.closed(&id).await;
                assert_eq!((closed.reason(), closed.had_error), (pb::CloseReason::PeerReset, true), "{id}");
                assert_eq!(agent.kinds(&id).await[3..], ["shut_down", "peer_reset", "closed"], "{id}");
            }
        }
    }
}

/// With a FIN before it, the kernel calls it EPIPE.
#[tokio::test]
async fn a_reset_after_the_end_of_the_peer_is_told_too() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id, pb::TcpSocketSpec::default()).await;
        peer.shut_down().await;
        agent.event(&id, "peer_closed").await;
        peer.abort();
        let closed = agent.closed(&id).await;
        assert_eq!((closed.reason(), closed.had_error), (pb::CloseReason::PeerReset, true));
        let kinds = agent.kinds(&id).await;
        assert_eq!(kinds[3..], ["peer_closed", "peer_reset", "closed"]);
    }
}

/// The peer is gone without having read: its kernel answers the write with a RST, and nobody reads here.
#[tokio::test]
async fn a_write_to_a_peer_that_has_gone_finds_out() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let peer = line(&agent, ip, &id, held(pb::DeliveryMode::Pull, false)).await;
        drop(peer);
        agent.event(&id, "peer_gone").await;
        // The first write is handed over; the RST that answers it ends the socket.
        assert_eq!(went(&agent.try_write(&id, "hola").await), "ok");
        let closed = agent.closed(&id).await;
        assert_eq!((closed.reason(), closed.had_error), (pb::CloseReason::PeerReset, true));
        assert_eq!(went(&agent.try_write(&id, "hola").await), "SOCKET_CLOSED");
        assert_one_end(&agent, &id).await;
    }
}

#[tokio::test]
async fn a_listener_and_a_socket_that_is_nothing_yet_just_close() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        for (name, spec) in [
            ("idle", pb::TcpSocketSpec::default()),
            ("door", listening_on(&crate::harness::tcp::any_port(ip))),
            ("bound", pb::TcpSocketSpec { bind: crate::harness::tcp::any_port(ip), ..Default::default() }),
        ] {
            for abort in [false, true] {
                let id = format!("{name}-{at}-{abort}");
                assert_eq!(agent.create_tcp(&id, spec.clone()).await.unwrap().went(), "ok");
                let (went, socket) = if abort {
                    let aborted = agent.abort(&id).await;
                    (aborted.went(), aborted.socket)
                } else {
                    let closed = agent.close(&id).await;
                    (closed.went(), closed.socket)
                };
                let closed = socket.unwrap().closed.unwrap();
                let reason = if abort { pb::CloseReason::Aborted } else { pb::CloseReason::Closed };
                assert_eq!((went.as_str(), closed.reason(), closed.had_error), ("ok", reason, false));
                assert_one_end(&agent, &id).await;
                assert!(!agent.kinds(&id).await.contains(&"aborted".to_owned()), "nothing was sent");
            }
        }
    }
}

#[tokio::test]
async fn resetting_the_session_closes_everything_and_tells_so() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let door = agent.listen("door", &crate::harness::tcp::any_port(ip)).await;
        let mut into = TcpPeer::connect(&door).await;
        agent.event("door", "accepted").await;
        let mut out = line(&agent, ip, "line", pb::TcpSocketSpec::default()).await;
        agent.create_tcp("idle", pb::TcpSocketSpec::default()).await.unwrap();
        agent.sessions().reset_session(pb::ResetSessionRequest::default()).await.unwrap();
        assert_eq!((seen_by(&mut into).await, seen_by(&mut out).await), ("FIN", "FIN"));
        for id in ["door", "door.1", "line", "idle"] {
            assert_eq!(agent.closed(id).await.reason(), pb::CloseReason::SessionReset);
            assert_one_end(&agent, id).await;
        }
        let last = agent.events().list_events(pb::ListEventsRequest::default()).await.unwrap().into_inner().events;
        assert_eq!(last.last().unwrap().kind, "session_reset");
        agent.listen("door", &crate::harness::tcp::any_port(ip)).await;
    }
}

#[tokio::test]
async fn an_agent_that_stops_closes_its_sockets_first() {
    for ip in LOOPBACKS {
        let mut agent = Agent::start().await;
        let mut peer = line(&agent, ip, "line", pb::TcpSocketSpec::default()).await;
        let request = pb::WatchEventsRequest::default();
        let mut watched = agent.events().watch_events(request).await.unwrap().into_inner();
        agent.begin_to_stop();
        assert_eq!(seen_by(&mut peer).await, "FIN");
        let mut kinds = Vec::new();
        while let Some(frame) = crate::harness::within("the end of the watch", watched.message()).await.unwrap_or(None)
        {
            if let Some(pb::watch_events_response::Frame::Batch(batch)) = frame.frame {
                kinds.extend(batch.events.into_iter().map(|event| event.kind));
            }
        }
        assert_eq!(kinds[kinds.len() - 2..], ["agent_draining", "closed"], "{kinds:?}");
        agent.stop().await;
    }
}
