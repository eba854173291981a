//! Listening and accepting: who comes in, under which name, and who does not.

use farsock::agent::AgentConfig;
use farsock::model::limits::Limits;
use farsock::wire::pb;

use crate::harness::tcp::{Reported, any_port, connecting_to, detached, listening_on, timeout, went};
use crate::harness::{Agent, LOOPBACKS, TcpPeer};

fn manual() -> pb::TcpSocketSpec {
    pb::TcpSocketSpec { accept: pb::AcceptPolicy::Manual.into(), ..Default::default() }
}

fn at_most(connections: u32) -> pb::TcpSocketSpec {
    pb::TcpSocketSpec { max_connections: Some(connections), ..Default::default() }
}

fn accept(id: &str) -> pb::AcceptSocketRequest {
    pb::AcceptSocketRequest { socket_id: id.into(), ..Default::default() }
}

/// The names of the connections that a listener has accepted, in order.
async fn accepted(agent: &Agent, id: &str) -> Vec<String> {
    let bodies = agent.events_of(id, "accepted").await;
    let name = |body| match body {
        pb::event::Body::Accepted(accepted) => accepted.accepted_id,
        other => panic!("{other:?}"),
    };
    bodies.into_iter().map(name).collect()
}

async fn listener(agent: &Agent, id: &str) -> pb::Listener {
    agent.socket(id).await.listener.unwrap()
}

#[tokio::test]
async fn accepted_connections_have_a_name_a_parent_and_both_addresses() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let door = agent.listen("door", &any_port(ip)).await;
        let uid = agent.socket("door").await.socket_uid;
        for (count, name) in [(1, "door.1"), (2, "door.2"), (3, "door.3")] {
            let peer = TcpPeer::connect(&door).await;
            let created = agent.event(name, "created").await;
            let accepted = agent.event_after("door", "accepted", created.event_seq).await;
            assert_eq!(accepted.event_seq, created.event_seq + 1, "`accepted` stands right after `created`");
            let Some(pb::event::Body::Created(created)) = created.body else { panic!() };
            let Some(pb::event::Body::Accepted(accepted)) = accepted.body else { panic!() };
            let child = agent.socket(name).await;
            assert_eq!((accepted.accepted_id.as_str(), accepted.accepted_uid), (name, child.socket_uid));
            assert_eq!((created.parent_id.as_str(), created.parent_uid), ("door", uid));
            assert_eq!((child.parent_id.as_str(), child.parent_uid), ("door", uid));
            assert_eq!((created.local.clone(), created.remote.clone()), (accepted.local, accepted.remote));
            assert_eq!((child.local.clone(), child.remote.clone()), (created.local, created.remote));
            assert_eq!(child.state(), pb::SocketState::Connected);
            assert_eq!(child.local.unwrap().text, door);
            assert_eq!(child.remote.unwrap().text, peer.0.local_addr().unwrap().to_string());
            let view = listener(&agent, "door").await;
            assert_eq!((view.accepted_total(), view.dropped_total()), (count, 0));
        }
        // All peers have gone but their connections are half open: they still count.
        assert_eq!(listener(&agent, "door").await.connection_count(), 3);
        agent.close("door.2").await;
        assert_eq!(listener(&agent, "door").await.connection_count(), 2);
        assert_eq!(listener(&agent, "door").await.accepted_total(), 3);
    }
}

/// A queue with room for two: one more than the backlog says, as Linux counts.
#[tokio::test]
async fn the_backlog_bounds_who_may_wait_and_can_be_changed() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let spec = pb::TcpSocketSpec { backlog: Some(1), ..manual() };
        let door = agent.listen_with("door", &any_port(ip), spec).await;
        assert_eq!(listener(&agent, "door").await.backlog, 1);
        let _waiting = [TcpPeer::connect(&door).await, TcpPeer::connect(&door).await];
        let request = pb::CreateSocketRequest {
            socket_id: "late".into(),
            kind: Some(pb::create_socket_request::Kind::Tcp(connecting_to(&door))),
            call: timeout(150),
            ..Default::default()
        };
        assert_eq!(agent.create_socket(request).await.unwrap().went(), "timed out");

        let listen = pb::ListenSocketRequest { socket_id: "door".into(), backlog: Some(5), ..Default::default() };
        let again = agent.listen_socket(listen).await.unwrap();
        assert_eq!((again.went(), again.socket.unwrap().listener.unwrap().backlog), ("ok".into(), 5));
        let connect = pb::ConnectSocketRequest { socket_id: "late".into(), remote: door.clone(), ..Default::default() };
        assert_eq!(went(&agent.connect_socket(connect).await), "ok");
        let backlogs: Vec<u32> = agent
            .events_of("door", "listening")
            .await
            .into_iter()
            .map(|body| match body {
                pb::event::Body::Listening(listening) => listening.backlog,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(backlogs, [1, 5]);
        // Those who wait are accepted by nobody until somebody asks.
        assert_eq!(accepted(&agent, "door").await.len(), 0);
        assert!(agent.socket("door").await.readiness.unwrap().readable);
    }
}

#[tokio::test]
async fn one_connection_too_many_is_reset_and_told() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let door = agent.listen_with("door", &any_port(ip), at_most(1)).await;
        let mut first = TcpPeer::connect(&door).await;
        agent.event("door", "accepted").await;

        // The peer sees a handshake, and then a RST.
        let mut second = TcpPeer::connect(&door).await;
        let dropped = agent.event("door", "connection_dropped").await;
        let Some(pb::event::Body::ConnectionDropped(dropped)) = dropped.body else { panic!() };
        assert_eq!(dropped.local.unwrap().text, door);
        assert_eq!(dropped.remote.unwrap().text, second.0.local_addr().unwrap().to_string());
        let reset = second.read_to_end().await.unwrap_err();
        assert_eq!(reset.raw_os_error(), Some(libc::ECONNRESET));
        let view = listener(&agent, "door").await;
        assert_eq!((view.connection_count(), view.accepted_total(), view.dropped_total()), (1, 1, 1));
        assert_eq!(view.max_connections, Some(1));

        // The first goes on; when it is closed there is room again.
        first.write(b"still here").await;
        assert_eq!(agent.receive_text("door.1").await, "still here");
        let closed = agent.close("door.1").await.report.unwrap().last_event_seq;
        let mut third = TcpPeer::connect(&door).await;
        agent.event_after("door", "accepted", closed).await;
        third.write(b"me too").await;
        assert_eq!(agent.receive_text("door.2").await, "me too");
    }
}

#[tokio::test]
async fn a_listener_of_zero_connections_drops_all() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let door = agent.listen_with("door", &any_port(ip), at_most(0)).await;
        for _ in 0..3 {
            let mut peer = TcpPeer::connect(&door).await;
            assert_eq!(peer.read_to_end().await.unwrap_err().raw_os_error(), Some(libc::ECONNRESET));
        }
        agent.until("door", "three drops", |door| door.listener.unwrap().dropped_total() == 3).await;
        assert_eq!(accepted(&agent, "door").await.len(), 0);
    }
}

#[tokio::test]
async fn connections_wait_until_somebody_accepts_them() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let door = agent.listen_with("door", &any_port(ip), manual()).await;
        let nobody =
            agent.accept_socket(pb::AcceptSocketRequest { call: timeout(30), ..accept("door") }).await.unwrap();
        assert_eq!((nobody.went(), nobody.socket), ("timed out".into(), None));

        // The oldest comes first.
        let peers = [TcpPeer::connect(&door).await, TcpPeer::connect(&door).await];
        for (peer, name) in peers.iter().zip(["door.1", "door.2"]) {
            let call = Some(pb::Call { request_id: format!("take-{name}"), ..Default::default() });
            let taken = agent.accept_socket(pb::AcceptSocketRequest { call, ..accept("door") }).await.unwrap();
            let socket = taken.socket.unwrap();
            assert_eq!(socket.socket_id, name);
            assert_eq!(socket.remote.unwrap().text, peer.0.local_addr().unwrap().to_string());
            // The operation is the cause of both events.
            let created = agent.event(name, "created").await;
            let report = taken.report.unwrap();
            assert_eq!(created.request_id, format!("take-{name}"));
            assert_eq!((report.first_event_seq, report.last_event_seq), (created.event_seq, created.event_seq + 1));
        }

        // Somebody may wait before anybody comes; those who wait are served in their order.
        for name in ["one", "two"] {
            agent.accept_socket(pb::AcceptSocketRequest { call: detached(name), ..accept("door") }).await.unwrap();
        }
        let _third = TcpPeer::connect(&door).await;
        let one: pb::AcceptSocketResponse = agent.call_response("one").await;
        assert_eq!(one.socket.unwrap().socket_id, "door.3");
        let _fourth = TcpPeer::connect(&door).await;
        let two: pb::AcceptSocketResponse = agent.call_response("two").await;
        assert_eq!(two.socket.unwrap().socket_id, "door.4");
    }
}

#[tokio::test]
async fn where_the_agent_accepts_nobody_else_does() {
    let agent = Agent::start().await;
    agent.listen("door", "127.0.0.1:0").await;
    assert_eq!(went(&agent.accept_socket(accept("door")).await), "WRONG_STATE");
}

#[tokio::test]
async fn accepted_connections_inherit_from_their_listener() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let option = |name: &str, value| pb::SocketOption { name: name.into(), value: Some(value) };
        let hops = if ip.is_ipv4() { "IP_TTL" } else { "IPV6_UNICAST_HOPS" };
        let spec = pb::TcpSocketSpec {
            options: vec![
                option("SO_KEEPALIVE", pb::socket_option::Value::Enabled(true)),
                option("TCP_NODELAY", pb::socket_option::Value::Enabled(true)),
                option(
                    "TCP_KEEPIDLE",
                    pb::socket_option::Value::Duration(prost_types::Duration { seconds: 77, nanos: 0 }),
                ),
                option("SO_RCVBUF", pb::socket_option::Value::Number(50_000)),
                option(hops, pb::socket_option::Value::Number(7)),
            ],
            half_open: pb::HalfOpenPolicy::AutoEnd.into(),
            delivery: Some(pb::Delivery {
                mode: pb::DeliveryMode::Pull.into(),
                paused: Some(true),
                read_size: Some(1234),
                ..Default::default()
            }),
            idle_timeout: Some(prost_types::Duration { seconds: 99, nanos: 0 }),
            direction: pb::Direction::ReceiveOnly.into(),
            ..Default::default()
        };
        let door = agent.listen_with("door", &any_port(ip), spec).await;
        let _peer = TcpPeer::connect(&door).await;
        agent.event("door.1", "read_paused").await;
        let (parent, child) = (agent.socket("door").await, agent.socket("door.1").await);
        assert_eq!(child.half_open(), pb::HalfOpenPolicy::AutoEnd);
        assert_eq!(child.delivery, parent.delivery);
        assert_eq!(child.delivery.unwrap().read_size, Some(1234));
        assert_eq!(child.idle_timeout, Some(prost_types::Duration { seconds: 99, nanos: 0 }));
        assert_eq!(child.direction(), pb::Direction::ReceiveOnly);

        let names: Vec<String> =
            ["SO_KEEPALIVE", "TCP_NODELAY", "TCP_KEEPIDLE", "SO_RCVBUF", hops].map(str::to_owned).into();
        let read =
            |id: &str| pb::GetSocketOptionsRequest { socket_id: id.into(), names: names.clone(), ..Default::default() };
        let of_parent = agent.sockets().get_socket_options(read("door")).await.unwrap().into_inner().options;
        let of_child = agent.sockets().get_socket_options(read("door.1")).await.unwrap().into_inner().options;
        assert_eq!(of_child, of_parent);
        let value = |at: usize| of_child[at].effective.clone().unwrap().value.unwrap();
        assert_eq!(value(1), pb::socket_option::Value::Enabled(true));
        assert_eq!(value(3), pb::socket_option::Value::Number(100_000), "Linux doubles it");
        assert_eq!(value(4), pb::socket_option::Value::Number(7));
    }
}

#[tokio::test]
async fn connections_outlive_their_listener_and_its_name() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let door = agent.listen("door", &any_port(ip)).await;
        let mut first = TcpPeer::connect(&door).await;
        agent.event("door", "accepted").await;
        let old = agent.socket("door").await.socket_uid;
        let closed = agent.close("door").await.report.unwrap().last_event_seq;
        assert_eq!(went(&agent.create_tcp("", connecting_to(&door)).await), "ECONNREFUSED");
        first.write(b"still here").await;
        assert_eq!(agent.receive_text("door.1").await, "still here");

        // The name is free; names of connections that are still open are passed over.
        let door = agent.listen("door", &any_port(ip)).await;
        let mut second = TcpPeer::connect(&door).await;
        agent.event_after("door", "accepted", closed).await;
        assert_eq!(agent.socket("door.1").await.parent_uid, old);
        let child = agent.socket("door.2").await;
        assert_eq!(child.parent_uid, agent.socket("door").await.socket_uid);
        assert_eq!(listener(&agent, "door").await.connection_count(), 1);
        second.write(b"new").await;
        assert_eq!(agent.receive_text("door.2").await, "new");
    }
}

#[tokio::test]
async fn a_listener_pauses_at_the_limit_of_sockets_and_goes_on_afterwards() {
    for ip in LOOPBACKS {
        let limits = Limits { sockets: 2, ..Limits::default() };
        let agent = Agent::start_with(AgentConfig { limits, ..AgentConfig::default() }).await;
        let door = agent.listen("door", &any_port(ip)).await;
        let _first = TcpPeer::connect(&door).await;
        agent.event("door", "accepted").await;
        assert_eq!(went(&agent.create_tcp("more", pb::TcpSocketSpec::default()).await), "QUOTA_EXCEEDED");

        // It waits in the kernel's queue, and may write already.
        let mut second = TcpPeer::connect(&door).await;
        second.write(b"patient").await;
        let Some(pb::event::Body::AcceptPaused(paused)) = agent.event("door", "accept_paused").await.body else {
            panic!()
        };
        assert_eq!((paused.reason(), paused.error), (pb::AcceptPauseReason::SocketLimit, None));

        let closed = agent.close("door.1").await.report.unwrap().last_event_seq;
        agent.event_after("door", "accepted", closed).await;
        assert_eq!(agent.receive_text("door.2").await, "patient");
        assert_eq!(agent.events_of("door", "accept_paused").await.len(), 1, "told once");

        // The next time, it is told again.
        let _third = TcpPeer::connect(&door).await;
        agent.event_after("door", "accept_paused", closed).await;
    }
}

/// Twice as many as the driver accepts before it lets others run.
#[tokio::test]
async fn many_connections_at_once_all_come_in() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let door = agent.listen("door", &any_port(ip)).await;
        let mut peers = Vec::new();
        for _ in 0..100 {
            peers.push(std::net::TcpStream::connect(&door).unwrap());
        }
        agent.until("door", "all connections", |door| door.listener.unwrap().accepted_total() == 100).await;
        let names: Vec<String> = (1..=100).map(|number| format!("door.{number}")).collect();
        assert_eq!(accepted(&agent, "door").await, names);
        assert_eq!(listener(&agent, "door").await.connection_count(), 100);
    }
}

#[tokio::test]
async fn a_listener_made_step_by_step_is_one_like_any_other() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let created = agent.create_tcp("door", pb::TcpSocketSpec { bind: any_port(ip), ..manual() }).await.unwrap();
        let local = created.socket.unwrap().local.unwrap().text;
        assert_eq!(went(&agent.create_tcp("early", connecting_to(&local)).await), "ECONNREFUSED");
        let listen = pb::ListenSocketRequest { socket_id: "door".into(), ..Default::default() };
        let listening = agent.listen_socket(listen).await.unwrap().socket.unwrap();
        assert_eq!((listening.state(), listening.local.unwrap().text), (pb::SocketState::Listening, local.clone()));
        assert_eq!(agent.kinds("door").await, ["created", "bound", "listening"]);
        let _peer = TcpPeer::connect(&local).await;
        assert_eq!(agent.accept_socket(accept("door")).await.unwrap().socket.unwrap().socket_id, "door.1");
    }
}

/// Its socket is connected, and the kernel says so.
#[tokio::test]
async fn an_accepted_connection_never_listens() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let door = agent.listen("door", &any_port(ip)).await;
        agent.connect("line", &door).await;
        agent.event("door.1", "created").await;
        for id in ["line", "door.1"] {
            let listen = pb::ListenSocketRequest { socket_id: id.into(), ..Default::default() };
            assert_eq!(went(&agent.listen_socket(listen).await), "EINVAL");
            assert_eq!(agent.kinds(id).await.last().unwrap(), "failed");
        }
    }
}

/// Linux answers ENOTCONN to the second shutdown(2), and would end directions that the socket may yet need.
#[tokio::test]
async fn a_listener_that_was_shut_down_twice_can_still_connect() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        agent.listen("door", &any_port(ip)).await;
        assert_eq!(agent.shut_down("door", pb::ShutdownHow::Receive).await.went(), "ok");
        assert_eq!(agent.shut_down("door", pb::ShutdownHow::Both).await.went(), "ENOTCONN");

        let (listener, address) = TcpPeer::listen(ip).await;
        let connect =
            pb::ConnectSocketRequest { socket_id: "door".into(), remote: address.to_string(), ..Default::default() };
        assert_eq!(went(&agent.connect_socket(connect).await), "ok");
        let mut peer = TcpPeer::accept(&listener).await;
        agent.write("door", "hola").await;
        assert_eq!(peer.read(4).await, b"hola");
    }
}

/// What ended then was listening, and not the stream that comes later.
#[tokio::test]
async fn a_listener_that_was_shut_down_reads_what_it_connects_to() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        agent.listen("door", &any_port(ip)).await;
        agent.shut_down("door", pb::ShutdownHow::Both).await;

        let (listener, address) = TcpPeer::listen(ip).await;
        let connect =
            pb::ConnectSocketRequest { socket_id: "door".into(), remote: address.to_string(), ..Default::default() };
        assert_eq!(went(&agent.connect_socket(connect).await), "ok");
        let mut peer = TcpPeer::accept(&listener).await;
        peer.write(b"hola").await;
        assert_eq!(agent.receive_text("door").await, "hola");
        agent.shut_down("door", pb::ShutdownHow::Receive).await;
        assert!(agent.receive("door").await.unwrap().end);
    }
}

/// Two sockets may be bound to one address when both say so; only one of them can listen.
#[tokio::test]
async fn two_listeners_of_one_address_are_one_too_many() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let reuse = vec![pb::SocketOption {
            name: "SO_REUSEADDR".into(),
            value: Some(pb::socket_option::Value::Enabled(true)),
        }];
        let spec = |bind: String| pb::TcpSocketSpec { bind, options: reuse.clone(), ..Default::default() };
        let first = agent.create_tcp("first", spec(any_port(ip))).await.unwrap().socket.unwrap();
        let second = agent.create_tcp("second", spec(first.local.unwrap().text)).await.unwrap();
        assert_eq!(second.went(), "ok");
        let listen = |id: &str| pb::ListenSocketRequest { socket_id: id.into(), ..Default::default() };
        assert_eq!(went(&agent.listen_socket(listen("first")).await), "ok");
        let refused = agent.listen_socket(listen("second")).await.unwrap();
        let error = refused.report.unwrap().error.unwrap();
        assert_eq!((error.name.as_str(), error.operation()), ("EADDRINUSE", pb::Operation::Listen));
        assert_eq!(refused.socket.unwrap().state(), pb::SocketState::Bound);
    }
}

#[tokio::test]
async fn a_listener_refuses_what_no_listener_can_have() {
    let agent = Agent::start().await;
    for backlog in [0, 65_536] {
        let spec = pb::TcpSocketSpec { backlog: Some(backlog), ..listening_on("127.0.0.1:0") };
        let refused = agent.create_tcp("door", spec).await.unwrap_err();
        assert!(refused.message.contains("backlog"), "{}", refused.message);
    }
}
