//! How a TransferSocket stream ends, and what becomes of its connection.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::Duration;

use farsock::wire::pb;
use farsock::wire::pb::transfer_socket_request::Frame;
use farsock::wire::pb::transfer_socket_response::Frame as Answer;

use crate::harness::tcp::{FullListener, pattern_bytes, timeout};
use crate::harness::transfer::create;
use crate::harness::{Agent, DeadPort, LOOPBACKS, TcpPeer, error_name, within};

async fn line(agent: &Agent, ip: IpAddr, id: &str) -> TcpPeer {
    let (listener, address) = TcpPeer::listen(ip).await;
    agent.connect_with(id, &address.to_string(), pb::TcpSocketSpec::default()).await;
    TcpPeer::accept(&listener).await
}

async fn mode(agent: &Agent, id: &str) -> pb::DeliveryMode {
    agent.socket(id).await.delivery.unwrap().mode()
}

#[tokio::test]
async fn the_client_can_end_first_and_go_on_reading() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id).await;
        let (mut stream, _) = agent.take_over(&id).await;
        stream.data("the question").await;
        stream.end().await;
        assert_eq!(peer.read_to_end().await.unwrap(), b"the question");
        stream.window(100).await;
        peer.write(b"the answer").await;
        assert_eq!(stream.read(10).await, b"the answer");
        peer.shut_down().await;
        stream.peer_end().await;
        stream.finished().await;
        let kinds = agent.kinds(&id).await.split_off(3);
        assert_eq!(kinds, ["attached", "shut_down", "peer_closed", "detached"]);
    }
}

/// Nobody needs to grant a byte to learn that none will come.
#[tokio::test]
async fn the_peer_can_end_first_and_its_end_needs_no_credit() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        for bytes in [&b""[..], b"four"] {
            let id = format!("line-{at}-{}", bytes.len());
            let mut peer = line(&agent, ip, &id).await;
            let (mut stream, _) = agent.take_over(&id).await;
            peer.write(bytes).await;
            peer.shut_down().await;
            if !bytes.is_empty() {
                // It has gone, and bytes wait: that alone is told.
                agent.event(&id, "peer_gone").await;
                stream.window(bytes.len() as u64).await;
                assert_eq!(stream.read(bytes.len()).await, bytes);
            }
            stream.peer_end().await;
            stream.data("still here").await;
            assert_eq!(peer.read(10).await, b"still here");
            stream.end().await;
            stream.finished().await;
            assert_eq!(peer.read_to_end().await.unwrap(), b"");
        }
    }
}

#[tokio::test]
async fn what_had_ended_before_is_told_at_once() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id).await;
        peer.shut_down().await;
        agent.event(&id, "peer_closed").await;
        let (mut stream, _) = agent.take_over(&id).await;
        stream.peer_end().await;
    }
}

#[tokio::test]
async fn an_abort_resets_the_connection() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id).await;
        let (mut stream, _) = agent.take_over(&id).await;
        stream.abort().await;
        assert_eq!(stream.closed().await.reason(), pb::CloseReason::Aborted);
        assert_eq!(peer.read_to_end().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(agent.kinds(&id).await.split_off(3), ["attached", "aborted", "closed"]);
    }
}

/// Whatever has been granted: nothing more is wanted.
#[tokio::test]
async fn a_close_lets_the_kernel_have_what_came_before_it() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        for half_closed in [false, true] {
            let id = format!("line-{at}-{half_closed}");
            let mut peer = line(&agent, ip, &id).await;
            let (mut stream, _) = agent.take_over(&id).await;
            stream.window(100).await;
            stream.data("last words").await;
            if half_closed {
                stream.end().await;
            }
            stream.close(Duration::from_secs(60)).await;
            assert_eq!(stream.closed().await.reason(), pb::CloseReason::Closed);
            assert_eq!(peer.read_to_end().await.unwrap(), b"last words");
        }
    }
}

/// A peer that does not read holds up a close only for as long as the client says.
#[tokio::test]
async fn a_close_waits_for_room_as_long_as_it_says() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        for wait in [false, true] {
            let id = format!("line-{at}-{wait}");
            let (mut peer, _) = crate::harness::tcp::unread_by_the_test(&agent, ip, &id).await;
            let mut stream = agent.own(&id).await;
            let bytes = pattern_bytes(400_000, 3);
            stream.data(bytes[..200_000].to_vec()).await;
            stream.data(bytes[200_000..].to_vec()).await;
            agent.until(&id, "waiting bytes", |socket| socket.queues.unwrap().pending_write_bytes() > 0).await;
            stream.close(Duration::from_secs(if wait { 60 } else { 0 })).await;
            if !wait {
                let closed = stream.closed().await;
                assert_eq!(closed.reason(), pb::CloseReason::Closed);
                assert!(closed.unwritten_bytes > 0 && closed.bytes_written() > 0, "{closed:?}");
                continue;
            }
            stream.end_requests();
            assert!(peer.read_to_end().await.unwrap() == bytes);
            assert_eq!(stream.closed().await.reason(), pb::CloseReason::Closed);
        }
    }
}

#[tokio::test]
async fn a_connection_that_a_stream_has_taken_for_its_own_goes_with_it() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        for cancelled in [false, true] {
            let id = format!("line-{at}-{cancelled}");
            let mut peer = line(&agent, ip, &id).await;
            let mut stream = agent.own(&id).await;
            if cancelled {
                drop(stream);
                assert_eq!(peer.read_to_end().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
                assert_eq!(agent.closed(&id).await.reason(), pb::CloseReason::Aborted);
            } else {
                stream.end().await;
                assert_eq!(peer.read_to_end().await.unwrap(), b"");
                peer.shut_down().await;
                stream.peer_end().await;
                assert_eq!(stream.closed().await.reason(), pb::CloseReason::Closed);
            }
        }
    }
}

#[tokio::test]
async fn a_reset_by_the_peer_is_told_with_its_error() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        for credit in [0, 100] {
            let id = format!("line-{at}-{credit}");
            let peer = line(&agent, ip, &id).await;
            let (mut stream, _) = agent.take_over(&id).await;
            if credit > 0 {
                stream.window(credit).await;
            }
            peer.abort();
            let Answer::Error(error) = stream.frame().await else { panic!("no error") };
            assert_eq!(error.name, "ECONNRESET");
            let closed = stream.closed().await;
            assert_eq!((closed.reason(), closed.had_error), (pb::CloseReason::PeerReset, true));
            assert_eq!(agent.kinds(&id).await.split_off(3), ["attached", "peer_reset", "closed"]);
        }
    }
}

/// What came before the reset is still there for whoever grants it.
#[tokio::test]
async fn bytes_that_came_before_a_reset_are_not_lost() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        for piece in [10, 3] {
            let id = format!("line-{at}-{piece}");
            let mut peer = line(&agent, ip, &id).await;
            let (mut stream, _) = agent.take_over(&id).await;
            peer.write(b"last words").await;
            agent.until(&id, "ten bytes", |socket| socket.queues.unwrap().receive_bytes() == 10).await;
            peer.abort();
            agent.event(&id, "peer_gone").await;
            let mut words = Vec::new();
            while words.len() < 10 {
                let size = piece.min(10 - words.len());
                stream.window(size as u64).await;
                words.extend(stream.read(size).await);
            }
            assert_eq!(words, b"last words");
            let Answer::Error(error) = stream.frame().await else { panic!("no error") };
            assert_eq!(error.name, "ECONNRESET");
            assert_eq!(stream.closed().await.reason(), pb::CloseReason::PeerReset);
        }
    }
}

/// The socket outlives its stream, and nothing that the agent has taken is lost.
#[tokio::test]
async fn a_cancelled_stream_gives_the_socket_back() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        for before in [pb::DeliveryMode::Events, pb::DeliveryMode::Pull] {
            let id = format!("line-{at}-{before:?}").to_lowercase();
            let mut peer = line(&agent, ip, &id).await;
            let delivery = Some(pb::Delivery { mode: before.into(), ..Default::default() });
            let set = pb::SetSocketDeliveryRequest { socket_id: id.clone(), delivery, ..Default::default() };
            agent.set_socket_delivery(set).await.unwrap();
            let (mut stream, _) = agent.take_over(&id).await;
            stream.window(4).await;
            stream.data("out").await;
            assert_eq!(peer.read(3).await, b"out");
            peer.write(b"in..and more").await;
            assert_eq!(stream.read(4).await, b"in..");
            assert_eq!(mode(&agent, &id).await, pb::DeliveryMode::Transfer);
            drop(stream);
            let Some(pb::event::Body::Detached(told)) = agent.event(&id, "detached").await.body else { panic!() };
            assert_eq!((told.bytes_to_client(), told.bytes_from_client(), told.bytes_lost), (4, 3, 0));
            assert_eq!(mode(&agent, &id).await, before);
            assert_eq!(agent.receive_text(&id).await, "and more");
            agent.write(&id, "again").await;
            assert_eq!(peer.read(5).await, b"again");
            // And another stream may have it.
            let _ = agent.take_over(&id).await;
        }
    }
}

/// As with grpcurl, which sends what it has and then only reads: what was granted still comes, and then it is over.
#[tokio::test]
async fn a_client_that_sends_no_more_frames_still_gets_what_it_has_granted() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id).await;
        let (mut stream, _) = agent.take_over(&id).await;
        stream.data("question").await;
        stream.window(6).await;
        stream.end_requests();
        assert_eq!(peer.read(8).await, b"question");
        peer.write(b"answer, and more").await;
        assert_eq!(stream.read(6).await, b"answer");
        stream.finished().await;
        assert_eq!(agent.receive_text(&id).await, ", and more", "no FIN was sent, and the socket is as before");
        agent.write(&id, "x").await;
    }
}

#[tokio::test]
async fn a_connection_that_was_made_for_a_stream_is_closed_with_it() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let (listener, address) = TcpPeer::listen(ip).await;
        let mut stream = agent.transfer(Frame::Create(create(&id, &address.to_string()))).await;
        let mut peer = TcpPeer::accept(&listener).await;
        let opened = stream.opened().await;
        assert_eq!((opened.socket.unwrap().socket_id, error_name(opened.report.as_ref())), (id.clone(), ""));
        stream.window(100).await;
        stream.data("hola").await;
        stream.end().await;
        assert_eq!(peer.read_to_end().await.unwrap(), b"hola");
        peer.write(b"adios").await;
        assert_eq!(stream.read(5).await, b"adios");
        peer.shut_down().await;
        stream.peer_end().await;
        let closed = stream.closed().await;
        assert_eq!((closed.reason(), closed.bytes_read(), closed.bytes_written()), (pb::CloseReason::Closed, 5, 4));
        let kinds = agent.kinds(&id).await;
        assert_eq!(kinds[..4], ["created", "connect_started", "connected", "attached"]);
        assert_eq!(kinds[4..], ["shut_down", "peer_closed", "closed"]);
    }
}

#[tokio::test]
async fn a_connection_that_was_made_for_a_stream_is_reset_when_that_is_cancelled() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        for mistake in [false, true] {
            let id = format!("line-{at}-{mistake}");
            let (listener, address) = TcpPeer::listen(ip).await;
            let mut stream = agent.transfer(Frame::Create(create(&id, &address.to_string()))).await;
            let mut peer = TcpPeer::accept(&listener).await;
            stream.opened().await;
            if mistake {
                stream.window(0).await;
                assert_eq!(stream.refused().await.reason, "INVALID_FIELD");
            } else {
                drop(stream);
            }
            assert_eq!(peer.read_to_end().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
            assert_eq!(agent.closed(&id).await.reason(), pb::CloseReason::Aborted);
        }
    }
}

/// Nobody would take the connection any more.
#[tokio::test]
async fn a_stream_that_is_cancelled_ends_the_attempt_to_connect() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let (id, full) = (format!("line-{at}"), FullListener::new(ip));
        let mut asked = create(&id, &full.address.to_string());
        asked.call = timeout(600_000);
        let stream = agent.transfer(Frame::Create(asked)).await;
        agent.event(&id, "connect_started").await;
        drop(stream);
        agent.event(&id, "connect_failed").await;
        agent.event(&id, "closed").await;
    }
}

#[tokio::test]
async fn a_connection_that_cannot_be_made_is_reported_and_leaves_nothing() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let nobody = DeadPort::tcp(ip);
        let mut asked = create(&format!("line-{at}"), &nobody.text());
        let mut stream = agent.transfer(Frame::Create(asked.clone())).await;
        let opened = stream.opened().await;
        assert_eq!((error_name(opened.report.as_ref()), opened.window), ("ECONNREFUSED", 0));
        stream.finished().await;
        assert_eq!(agent.open_sockets().await, 0);

        asked.call = Some(pb::Call { fail_on_error: true, ..Default::default() });
        assert_eq!(agent.transfer(Frame::Create(asked)).await.refused().await.reason, "ECONNREFUSED");
        assert_eq!(agent.open_sockets().await, 0);
    }
}

/// Somebody closes the socket as soon as it is there, and takes its name: whatever the stream has come to by then, it tells of its own socket.
#[tokio::test]
async fn a_connection_that_is_gone_before_its_stream_has_it_was_opened_and_is_closed() {
    let agent = Agent::start().await;
    for ip in LOOPBACKS {
        let (_listener, address) = TcpPeer::listen(ip).await;
        for round in 0..100 {
            let id = format!("line-{round}");
            let mut stream = agent.transfer(Frame::Create(create(&id, &address.to_string()))).await;
            let close = || pb::CloseSocketRequest { socket_id: id.clone(), allow_missing: true, ..Default::default() };
            within("the socket", async {
                while agent.close_socket(close()).await.unwrap().socket.is_none() {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            agent.create_tcp(&id, pb::TcpSocketSpec::default()).await.unwrap();
            let opened = stream.opened().await;
            let uid = opened.socket.unwrap().socket_uid;
            if error_name(opened.report.as_ref()).is_empty() {
                assert_eq!(stream.closed().await.reason(), pb::CloseReason::Closed);
            } else {
                stream.finished().await;
            }
            assert_ne!(agent.socket(&id).await.socket_uid, uid);
            agent.close(&id).await;
        }
    }
}

#[tokio::test]
async fn whoever_closes_the_socket_the_stream_is_told() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        for reason in [pb::CloseReason::Closed, pb::CloseReason::Aborted, pb::CloseReason::SessionReset] {
            let id = format!("line-{at}-{}", reason as i32);
            let _peer = line(&agent, ip, &id).await;
            let (mut stream, _) = agent.take_over(&id).await;
            match reason {
                pb::CloseReason::Closed => drop(agent.close(&id).await),
                pb::CloseReason::Aborted => drop(agent.abort(&id).await),
                _ => drop(agent.reset("").await),
            }
            assert_eq!(stream.closed().await.reason(), reason);
        }
    }
}

#[tokio::test]
async fn an_agent_that_stops_ends_its_streams_in_good_order() {
    for ip in LOOPBACKS {
        let mut agent = Agent::start().await;
        let mut peer = line(&agent, ip, "line").await;
        let (mut stream, _) = agent.take_over("line").await;
        agent.begin_to_stop();
        assert_eq!(stream.closed().await.reason(), pb::CloseReason::AgentDraining);
        assert_eq!(peer.read_to_end().await.unwrap(), b"");
        agent.stop().await;
    }
}
