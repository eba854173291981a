//! Operations that are ended under way: by closing their socket, by cancelling them, by resetting the session. Each ends with a defined
//! result, and none is ended by the caller's going away.

use std::net::IpAddr;

use farsock::wire::pb;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::harness::tcp::{
    FullListener, Reported, any_port, connecting_to, detached, pattern, timeout, unread_by_the_test,
};
use crate::harness::{Agent, LOOPBACKS, Names, TcpPeer, text, within};

/// Operations that wait, each on a socket of its own.
const WAITING: [&str; 5] = ["connect", "accept", "receive", "pull", "write"];

/// What keeps an operation waiting.
enum Keeper {
    Nobody,
    Full(#[expect(dead_code, reason = "kept open")] FullListener),
    Peer(TcpPeer),
}

/// Begins an operation that waits, under the name of its socket.
async fn begin(agent: &Agent, ip: IpAddr, operation: &str, id: &str) -> Keeper {
    let socket_id = id.to_owned();
    let call = detached(id);
    match operation {
        "connect" => {
            let full = FullListener::new(ip);
            let family = if ip.is_ipv4() { pb::Family::Ipv4 } else { pb::Family::Ipv6 };
            let spec = pb::TcpSocketSpec { family: family.into(), ..Default::default() };
            agent.create_tcp(id, spec).await.unwrap();
            let remote = full.address.to_string();
            agent
                .connect_socket(pb::ConnectSocketRequest { socket_id, remote, call, ..Default::default() })
                .await
                .unwrap();
            agent.event(id, "connect_started").await;
            Keeper::Full(full)
        }
        "accept" => {
            let spec = pb::TcpSocketSpec { accept: pb::AcceptPolicy::Manual.into(), ..Default::default() };
            agent.listen_with(id, &any_port(ip), spec).await;
            agent.accept_socket(pb::AcceptSocketRequest { socket_id, call, ..Default::default() }).await.unwrap();
            Keeper::Nobody
        }
        "receive" | "pull" => {
            let mode = if operation == "pull" { pb::DeliveryMode::Pull } else { pb::DeliveryMode::Events };
            let delivery = Some(pb::Delivery { mode: mode.into(), ..Default::default() });
            let (listener, address) = TcpPeer::listen(ip).await;
            let spec = pb::TcpSocketSpec { delivery, ..Default::default() };
            agent.connect_with(id, &address.to_string(), spec).await;
            agent.receive_socket(pb::ReceiveSocketRequest { socket_id, call, ..Default::default() }).await.unwrap();
            Keeper::Peer(TcpPeer::accept(&listener).await)
        }
        "write" => {
            let (peer, size) = unread_by_the_test(agent, ip, id).await;
            let payload = pattern(size, 1);
            agent
                .write_socket(pb::WriteSocketRequest { socket_id, payload, call, ..Default::default() })
                .await
                .unwrap();
            agent.until(id, "waiting bytes", |socket| socket.queues.unwrap().pending_write_bytes() > 0).await;
            Keeper::Peer(peer)
        }
        other => panic!("{other}"),
    }
}

/// How an operation ended: its report, out of whichever response it has.
async fn ended(agent: &Agent, operation: &str, id: &str) -> String {
    match operation {
        "connect" => agent.call_response::<pb::ConnectSocketResponse>(id).await.went(),
        "accept" => agent.call_response::<pb::AcceptSocketResponse>(id).await.went(),
        "receive" | "pull" => agent.call_response::<pb::ReceiveSocketResponse>(id).await.went(),
        _ => agent.call_response::<pb::WriteSocketResponse>(id).await.went(),
    }
}

#[tokio::test]
async fn closing_a_socket_ends_what_waits_on_it() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        for operation in WAITING {
            for abort in [false, true] {
                let id = format!("{operation}-{at}-{abort}");
                let _keeper = begin(&agent, ip, operation, &id).await;
                if abort {
                    assert_eq!(agent.abort(&id).await.went(), "ok");
                } else {
                    // A close waits for queued writes, as long as it is told to.
                    let request =
                        pb::CloseSocketRequest { socket_id: id.clone(), call: timeout(30), ..Default::default() };
                    assert_eq!(agent.close_socket(request).await.unwrap().went(), "ok");
                }
                assert_eq!(ended(&agent, operation, &id).await, "ECANCELED", "{id}");
                let kinds = agent.kinds(&id).await;
                assert_eq!(kinds.iter().filter(|kind| *kind == "closed").count(), 1, "{id}: {kinds:?}");
                assert_eq!(kinds.last().unwrap(), "closed", "{id}");
                assert!(!kinds.contains(&"connect_failed".to_owned()), "{id}: `closed` tells");
            }
        }
    }
}

#[tokio::test]
async fn resetting_the_session_ends_what_waits_in_it() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let mut keepers = Vec::new();
        for operation in WAITING {
            keepers.push(begin(&agent, ip, operation, operation).await);
        }
        agent.sessions().reset_session(pb::ResetSessionRequest::default()).await.unwrap();
        for operation in WAITING {
            assert_eq!(ended(&agent, operation, operation).await, "ECANCELED", "{operation}");
            assert_eq!(agent.closed(operation).await.reason(), pb::CloseReason::SessionReset, "{operation}");
        }
    }
}

#[tokio::test]
async fn a_cancelled_operation_ends_and_leaves_its_socket() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        for operation in WAITING {
            let id = format!("{operation}-{at}");
            let _keeper = begin(&agent, ip, operation, &id).await;
            let request = pb::CancelCallRequest { request_id: id.clone(), ..Default::default() };
            let call = agent.sockets().cancel_call(request.clone()).await.unwrap().into_inner().call.unwrap();
            assert_eq!((call.state(), call.refusal.as_str()), (pb::CallState::Done, ""), "{id}");
            assert_eq!(ended(&agent, operation, &id).await, "ECANCELED", "{id}");
            assert_ne!(agent.socket(&id).await.state(), pb::SocketState::Closed, "{id}");
            // Cancelling what is over changes nothing.
            let again = agent.sockets().cancel_call(request).await.unwrap().into_inner().call.unwrap();
            assert_eq!(again, call);
            assert_eq!(agent.close(&id).await.went(), "ok");
        }
    }
}

#[tokio::test]
async fn after_a_cancelled_connect_the_socket_can_connect() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let _full = begin(&agent, ip, "connect", &id).await;
        let request = pb::CancelCallRequest { request_id: id.clone(), ..Default::default() };
        agent.sockets().cancel_call(request).await.unwrap();
        let [pb::event::Body::ConnectFailed(failed)] = &agent.events_of(&id, "connect_failed").await[..] else {
            panic!()
        };
        assert_eq!((failed.timed_out, failed.error.as_ref().unwrap().name.as_str()), (false, "ECANCELED"));
        let (listener, address) = TcpPeer::listen(ip).await;
        let remote = address.to_string();
        let request = pb::ConnectSocketRequest { socket_id: id.clone(), remote, ..Default::default() };
        assert_eq!(agent.connect_socket(request).await.unwrap().went(), "ok");
        let mut peer = TcpPeer::accept(&listener).await;
        agent.write(&id, "hola").await;
        assert_eq!(peer.read(4).await, b"hola");
    }
}

/// There is no connection to wait for any more, and the kernel says so.
#[tokio::test]
async fn what_waits_for_a_connection_ends_with_the_attempt() {
    let agent = Agent::start().await;
    let modes = [pb::DeliveryMode::Pull, pb::DeliveryMode::Events];
    for (at, (ip, mode)) in LOOPBACKS.into_iter().flat_map(|ip| modes.map(|mode| (ip, mode))).enumerate() {
        let id = format!("line-{at}");
        let _full = begin(&agent, ip, "connect", &id).await;
        let delivery = Some(pb::Delivery { mode: mode.into(), ..Default::default() });
        let request = pb::SetSocketDeliveryRequest { socket_id: id.clone(), delivery, ..Default::default() };
        agent.set_socket_delivery(request).await.unwrap();
        let name = |operation: &str| format!("{id}-{operation}");
        let (socket_id, call) = (id.clone(), detached(&name("write")));
        let request = pb::WriteSocketRequest { socket_id, payload: text("early"), call, ..Default::default() };
        agent.write_socket(request).await.unwrap();
        let (socket_id, call) = (id.clone(), detached(&name("end")));
        agent.shutdown_socket(pb::ShutdownSocketRequest { socket_id, call, ..Default::default() }).await.unwrap();
        let (socket_id, call) = (id.clone(), detached(&name("read")));
        agent.receive_socket(pb::ReceiveSocketRequest { socket_id, call, ..Default::default() }).await.unwrap();

        let request = pb::CancelCallRequest { request_id: id.clone(), ..Default::default() };
        agent.sockets().cancel_call(request).await.unwrap();
        assert_eq!(agent.call_response::<pb::WriteSocketResponse>(&name("write")).await.went(), "EPIPE");
        assert_eq!(agent.call_response::<pb::ShutdownSocketResponse>(&name("end")).await.went(), "ENOTCONN");
        assert_eq!(agent.call_response::<pb::ReceiveSocketResponse>(&name("read")).await.went(), "ENOTCONN");
    }
}

/// Of a name with several addresses the next attempt may still succeed.
#[tokio::test]
async fn what_waits_for_a_connection_waits_for_all_attempts() {
    let full = FullListener::new(LOOPBACKS[0]);
    let others = [IpAddr::from([127, 0, 0, 3]), LOOPBACKS[0]];
    let agent = Agent::start_with(Names::host("far.test", &others).config()).await;
    let remote = format!("far.test:{}", full.address.port());
    let call = detached("connect");
    let kind = Some(pb::create_socket_request::Kind::Tcp(connecting_to(&remote)));
    let request = pb::CreateSocketRequest { socket_id: "line".into(), kind, call, ..Default::default() };
    agent.create_socket(request).await.unwrap();
    agent.event("line", "created").await;
    let call = detached("write");
    let request =
        pb::WriteSocketRequest { socket_id: "line".into(), payload: text("early"), call, ..Default::default() };
    agent.write_socket(request).await.unwrap();
    agent.event("line", "connect_failed").await;
    full.make_room();
    assert_eq!(agent.call_response::<pb::WriteSocketResponse>("write").await.went(), "ok");
}

/// Nobody will come any more.
#[tokio::test]
async fn what_waits_for_a_child_ends_with_the_listener() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        agent.listen("door", &any_port(ip)).await;
        let mut sockets = agent.sockets();
        let request = pb::ReceiveSocketRequest { socket_id: "door.1".into(), ..Default::default() };
        let waiting = tokio::spawn(async move { sockets.receive_socket(request).await });
        tokio::task::yield_now().await;
        agent.close("door").await;
        let refused = within("an answer", waiting).await.unwrap().unwrap_err();
        assert_eq!(refused.code(), tonic::Code::NotFound);
    }
}

#[tokio::test]
async fn a_cancelled_write_has_written_what_it_has_written() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let Keeper::Peer(mut peer) = begin(&agent, ip, "write", &id).await else { panic!() };
        let request = pb::CancelCallRequest { request_id: id.clone(), ..Default::default() };
        agent.sockets().cancel_call(request).await.unwrap();
        let written: pb::WriteSocketResponse = agent.call_response(&id).await;
        let part = written.bytes_written() as usize;
        assert!(part > 0);
        agent.shut_down(&id, pb::ShutdownHow::Send).await;
        assert_eq!(peer.read_to_end().await.unwrap().len(), part);
        assert_eq!(agent.socket(&id).await.bytes_written(), part as u64);
    }
}

#[tokio::test]
async fn a_cancelled_close_leaves_the_socket_open() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let Keeper::Peer(mut peer) = begin(&agent, ip, "write", &id).await else { panic!() };
        let close = format!("{id}-close");
        let request = pb::CloseSocketRequest { socket_id: id.clone(), call: detached(&close), ..Default::default() };
        agent.close_socket(request).await.unwrap();
        let request = pb::CancelCallRequest { request_id: close.clone(), ..Default::default() };
        agent.sockets().cancel_call(request).await.unwrap();
        assert_eq!(agent.call_response::<pb::CloseSocketResponse>(&close).await.went(), "ECANCELED");
        let written = tokio::spawn(async move { peer.read(300_000).await.len() });
        assert_eq!(agent.call_response::<pb::WriteSocketResponse>(&id).await.went(), "ok");
        assert_eq!(within("all bytes", written).await.unwrap(), 300_000);
        assert_eq!(agent.socket(&id).await.state(), pb::SocketState::Connected);
    }
}

/// The RPC is gone; the operation goes on.
#[tokio::test]
async fn a_caller_who_goes_away_stops_nothing() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let full = FullListener::new(ip);
        let call = Some(pb::Call { request_id: id.clone(), ..Default::default() });
        let request = pb::CreateSocketRequest {
            socket_id: id.clone(),
            kind: Some(pb::create_socket_request::Kind::Tcp(connecting_to(&full.address.to_string()))),
            call,
            ..Default::default()
        };
        let mut sockets = agent.sockets();
        let asked = request.clone();
        let rpc = tokio::spawn(async move { sockets.create_socket(asked).await });
        agent.event(&id, "connect_started").await;
        rpc.abort();
        assert!(rpc.await.unwrap_err().is_cancelled());
        assert_eq!(agent.socket(&id).await.state(), pb::SocketState::Connecting);
        full.make_room();
        agent.event(&id, "connected").await;
        // Whoever asks again under the same name gets the answer that was missed.
        let answer = agent.create_socket(request).await.unwrap();
        assert_eq!((answer.went(), answer.socket.unwrap().state()), ("ok".into(), pb::SocketState::Connected));
        assert_eq!(agent.kinds(&id).await, ["created", "connect_started", "connected"]);
    }
}

/// An operation that waits for its start time is cancelled before it has done anything.
#[tokio::test]
async fn a_scheduled_operation_can_be_cancelled() {
    let agent = Agent::start().await;
    let (listener, address) = TcpPeer::listen(LOOPBACKS[0]).await;
    agent.connect("line", &address.to_string()).await;
    let mut peer = TcpPeer::accept(&listener).await;
    let delay = prost_types::Duration { seconds: 3600, nanos: 0 };
    let call = Some(pb::Call { start: Some(pb::call::Start::StartDelay(delay)), ..detached("later").unwrap() });
    let request =
        pb::WriteSocketRequest { socket_id: "line".into(), payload: text("late"), call, ..Default::default() };
    agent.write_socket(request).await.unwrap();
    let request = pb::GetCallRequest { request_id: "later".into(), ..Default::default() };
    let call = agent.sockets().get_call(request).await.unwrap().into_inner().call.unwrap();
    assert_eq!((call.state(), call.method.as_str()), (pb::CallState::Scheduled, "WriteSocket"));
    let request = pb::CancelCallRequest { request_id: "later".into(), ..Default::default() };
    agent.sockets().cancel_call(request).await.unwrap();
    assert_eq!(agent.call_response::<pb::WriteSocketResponse>("later").await.went(), "ECANCELED");
    agent.shut_down("line", pb::ShutdownHow::Send).await;
    assert_eq!(peer.read_to_end().await.unwrap(), b"");
}

/// Whatever is done to a socket at the same time, on however many threads: every operation is answered, and `closed` comes once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn races_end_with_one_closed_and_every_answer() {
    let mut runner = TestRunner::deterministic();
    let orders = prop::collection::vec(0..10_usize, 2..8);
    let agent = Agent::start().await;
    for round in 0..60 {
        let ip = LOOPBACKS[round % 2];
        let id = format!("line-{round}");
        let (listener, address) = TcpPeer::listen(ip).await;
        agent.connect(&id, &address.to_string()).await;
        let peer = TcpPeer::accept(&listener).await;
        let mut tasks = Vec::new();
        for order in orders.new_tree(&mut runner).unwrap().current() {
            let (mut sockets, socket_id) = (agent.sockets(), id.clone());
            tasks.push((
                order,
                tokio::spawn(async move {
                    let call = timeout(200);
                    // A refusal is an answer, too.
                    match order {
                        0 | 1 => {
                            drop(sockets.close_socket(pb::CloseSocketRequest { socket_id, ..Default::default() }).await)
                        }
                        2 => {
                            drop(sockets.abort_socket(pb::AbortSocketRequest { socket_id, ..Default::default() }).await)
                        }
                        3 => {
                            let how = pb::ShutdownHow::Both.into();
                            drop(
                                sockets
                                    .shutdown_socket(pb::ShutdownSocketRequest { socket_id, how, ..Default::default() })
                                    .await,
                            );
                        }
                        4 | 5 => {
                            let request = pb::ReceiveSocketRequest { socket_id, call, ..Default::default() };
                            drop(sockets.receive_socket(request).await);
                        }
                        6 | 7 => {
                            let payload = pattern(100_000, 1);
                            let request = pb::WriteSocketRequest { socket_id, payload, call, ..Default::default() };
                            drop(sockets.write_socket(request).await);
                        }
                        8 => {
                            let delivery =
                                Some(pb::Delivery { mode: pb::DeliveryMode::Pull.into(), ..Default::default() });
                            let request = pb::SetSocketDeliveryRequest { socket_id, delivery, ..Default::default() };
                            drop(sockets.set_socket_delivery(request).await);
                        }
                        _ => drop(sockets.get_socket(pb::GetSocketRequest { socket_id, ..Default::default() }).await),
                    }
                }),
            ));
        }
        // The agent may have been faster.
        match round % 3 {
            0 => drop(peer.0.try_write(b"bytes")),
            1 => drop(socket2::SockRef::from(&peer.0).shutdown(std::net::Shutdown::Write)),
            _ => peer.abort(),
        }
        let all: Vec<usize> = tasks.iter().map(|(order, _)| *order).collect();
        for (order, task) in tasks {
            within(&format!("round {round}: the answer to {order} of {all:?}"), task).await.unwrap();
        }
        let request = pb::CloseSocketRequest {
            socket_id: id.clone(),
            allow_missing: true,
            call: timeout(100),
            ..Default::default()
        };
        agent.close_socket(request).await.unwrap();
        agent.closed(&id).await;
        let kinds = agent.kinds(&id).await;
        assert_eq!(kinds.iter().filter(|kind| *kind == "closed").count(), 1, "{kinds:?}");
        assert_eq!(kinds.last().unwrap(), "closed", "{kinds:?}");
    }
    agent.stop().await;
}
