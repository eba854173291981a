//! Connecting: to who is there, to who is not, by every kind of address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use farsock::agent::AgentConfig;
use farsock::wire::pb;
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::tcp::{
    FullListener, Reported, answered, any_port, connecting_to, detached, plain_tcp, timeout, went,
};
use crate::harness::{Agent, DeadPort, Gate, LOOPBACKS, Names, TcpPeer, within};

/// The first five lines that a newcomer types.
#[tokio::test]
async fn bytes_go_both_ways_between_two_agents() {
    for ip in LOOPBACKS {
        let (a, b) = (Agent::start().await, Agent::start().await);
        let bind = if ip.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let door = a.listen("door", bind).await;
        let line = b.connect("line", &door).await;
        b.write("line", "hola\r\n").await;
        assert_eq!(a.receive_text("door.1").await, "hola\r\n");
        a.write("door.1", "¿qué tal?").await;
        assert_eq!(b.receive_text("line").await, "¿qué tal?");

        let accepted = a.event("door", "accepted").await;
        let Some(pb::event::Body::Accepted(accepted)) = accepted.body else { panic!("{accepted:?}") };
        assert_eq!(accepted.remote.unwrap().text, line.local.unwrap().text);
        assert_eq!(accepted.accepted_id, "door.1");
        a.stop().await;
        b.stop().await;
    }
}

/// getpeername(2) tells whom the kernel has made of it.
#[tokio::test]
async fn who_connects_to_the_wildcard_address_is_connected_to_this_host() {
    for (ip, wildcard) in LOOPBACKS.into_iter().zip(["0.0.0.0", "[::]"]) {
        let agent = Agent::start().await;
        let (_listener, address) = TcpPeer::listen(ip).await;
        let line = agent.connect("line", &format!("{wildcard}:{}", address.port())).await;
        assert_eq!(line.remote.unwrap().text, address.to_string());
        let event = agent.event("line", "connected").await;
        let Some(pb::event::Body::Connected(connected)) = event.body else { panic!("{event:?}") };
        assert_eq!(connected.remote.unwrap().text, address.to_string());
    }
}

/// Nothing tells it in the log yet, but getsockname(2) knows it.
#[tokio::test]
async fn a_socket_that_connects_shows_its_local_address() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let full = FullListener::new(ip);
        let family = if ip.is_ipv4() { pb::Family::Ipv4 } else { pb::Family::Ipv6 };
        agent.create_tcp("line", pb::TcpSocketSpec { family: family.into(), ..Default::default() }).await.unwrap();
        let request = pb::ConnectSocketRequest {
            socket_id: "line".into(),
            remote: full.address.to_string(),
            call: detached("connect"),
            ..Default::default()
        };
        agent.connect_socket(request).await.unwrap();
        let line = agent.until("line", "connecting", |line| line.state() == pb::SocketState::Connecting).await;
        assert_eq!(line.tcp_state(), pb::TcpState::SynSent);
        let local = line.local.unwrap();
        assert_eq!(local.address, ip.to_string());
        assert!(local.port > 0, "{local:?}");
    }
}

#[tokio::test]
async fn a_refused_connect_is_a_result_and_leaves_the_socket_open() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let nobody = DeadPort::tcp(ip);
        let role = Some(pb::tcp_socket_spec::Role::Connect(nobody.text()));
        let created = agent.create_tcp("line", pb::TcpSocketSpec { role, ..Default::default() }).await.unwrap();
        let error = created.report.unwrap().error.unwrap();
        assert_eq!(
            (error.name.as_str(), error.number, error.operation()),
            ("ECONNREFUSED", 111, pb::Operation::Connect)
        );
        assert_eq!(error.remote.unwrap().text, nobody.text());
        // Linux goes on telling the local address that the attempt had.
        assert!(matches!(created.socket.unwrap().state(), pb::SocketState::Unbound | pb::SocketState::Bound));
        assert_eq!(agent.kinds("line").await, ["created", "connect_started", "connect_failed"]);

        let (listener, address) = TcpPeer::listen(ip).await;
        let request =
            pb::ConnectSocketRequest { socket_id: "line".into(), remote: address.to_string(), ..Default::default() };
        let connected = agent.sockets().connect_socket(request).await.unwrap().into_inner();
        assert_eq!(connected.report.unwrap().error, None);
        assert_eq!(connected.socket.unwrap().state(), pb::SocketState::Connected);
        TcpPeer::accept(&listener).await;
    }
}

#[tokio::test]
async fn the_addresses_of_a_name_are_tried_in_order() {
    // Nobody listens at the first: 127.0.0.3 has another listener's port, and a link-local address without its zone is none.
    for (ip, first, errno) in [
        (LOOPBACKS[0], IpAddr::from([127, 0, 0, 3]), "ECONNREFUSED"),
        (LOOPBACKS[1], "fe80::f00d".parse().unwrap(), "EINVAL"),
    ] {
        let agent = Agent::start_with(Names::host("far.test", &[first, ip]).config()).await;
        let (listener, address) = TcpPeer::listen(ip).await;
        let socket = agent.connect("line", &format!("far.test:{}", address.port())).await;
        TcpPeer::accept(&listener).await;
        assert_eq!(socket.remote.unwrap().text, address.to_string());
        let kinds = ["created", "looked_up", "connect_started", "connect_failed", "connect_started", "connected"];
        assert_eq!(agent.kinds("line").await, kinds);
        let failed = agent.events_of("line", "connect_failed").await;
        let [pb::event::Body::ConnectFailed(failed)] = &failed[..] else { panic!("{failed:?}") };
        assert_eq!(failed.error.as_ref().unwrap().name, errno);
        assert_eq!(failed.remote.as_ref().unwrap().address, first.to_string());
    }
}

#[tokio::test]
async fn a_name_of_which_no_address_answers_tells_the_last_error() {
    let (listener, address) = TcpPeer::listen(LOOPBACKS[0]).await;
    let others = [IpAddr::from([127, 0, 0, 3]), IpAddr::from([127, 0, 0, 4])];
    let agent = Agent::start_with(Names::host("far.test", &others).config()).await;
    let created = agent.create_tcp("line", connecting_to(&format!("far.test:{}", address.port()))).await.unwrap();
    let error = created.report.unwrap().error.unwrap();
    assert_eq!((error.name.as_str(), error.remote.unwrap().address.as_str()), ("ECONNREFUSED", "127.0.0.4"));
    assert_eq!(agent.events_of("line", "connect_failed").await.len(), 2);
    drop(listener);
}

#[tokio::test]
async fn a_name_that_nobody_has_is_a_result() {
    let agent = Agent::start_with(Names::default().config()).await;
    let created = agent.create_tcp("line", connecting_to("nobody.test:80")).await.unwrap();
    let report = created.report.unwrap();
    let error = report.error.unwrap();
    assert_eq!((error.name.as_str(), error.operation()), ("EAI_NONAME", pb::Operation::LookUp));
    assert_eq!(error.subject, "nobody.test");
    // There is no socket yet: the family is not known. The lookup is logged all the same.
    assert_eq!(created.socket, None);
    let all = agent.events().list_events(pb::ListEventsRequest::default()).await.unwrap().into_inner().events;
    assert_eq!((all.len(), all[0].kind.as_str(), all[0].event_seq), (1, "looked_up", report.first_event_seq));

    // One that is there stays.
    agent.create_tcp("line", pb::TcpSocketSpec::default()).await.unwrap();
    let connected = agent.connect_socket(connect("line", "nobody.test:80")).await.unwrap();
    assert_eq!((connected.went(), connected.socket.unwrap().state()), ("EAI_NONAME".into(), pb::SocketState::Unbound));
    assert_eq!(agent.kinds("line").await, ["created", "looked_up"]);
}

#[tokio::test]
async fn a_service_name_and_no_host_mean_that_port_of_this_host() {
    let (listener, address) = TcpPeer::listen(LOOPBACKS[0]).await;
    let agent = Agent::start_with(Names::default().and_service("lab-test", address.port()).config()).await;
    for remote in ["127.0.0.1:lab-test".to_owned(), ":lab-test".to_owned(), address.port().to_string()] {
        let socket = agent.connect("", &remote).await;
        assert_eq!(socket.remote.unwrap().text, address.to_string());
        TcpPeer::accept(&listener).await;
    }
}

/// The listener's queue is full, so that the SYN is not answered.
#[tokio::test]
async fn silence_is_a_timeout_without_an_error_and_the_socket_may_try_again() {
    let agent = Agent::start().await;
    for ip in LOOPBACKS {
        let full = FullListener::new(ip);
        let id = agent.create_tcp("", unbound(ip)).await.unwrap().socket.unwrap().socket_id;
        let request = pb::ConnectSocketRequest { call: timeout(150), ..connect(&id, &full.address.to_string()) };
        let silent = agent.connect_socket(request.clone()).await.unwrap();
        let report = silent.report.unwrap();
        assert!(report.timed_out && report.error.is_none(), "{report:?}");
        assert_ne!(silent.socket.unwrap().state(), pb::SocketState::Connecting);
        let failed = agent.events_of(&id, "connect_failed").await;
        let [pb::event::Body::ConnectFailed(failed)] = &failed[..] else { panic!("{failed:?}") };
        assert!(failed.timed_out && failed.error.is_none());

        let call = Some(pb::Call { fail_on_error: true, ..timeout(150).unwrap() });
        let refused = agent.connect_socket(pb::ConnectSocketRequest { call, ..request }).await.unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (Code::FailedPrecondition, "TIMED_OUT"));

        let (listener, address) = TcpPeer::listen(ip).await;
        assert_eq!(went(&agent.connect_socket(connect(&id, &address.to_string())).await), "ok");
        TcpPeer::accept(&listener).await;
    }
}

/// The kernel sends its SYN again after a second, and there is room by then.
#[tokio::test]
async fn a_connect_goes_on_until_it_is_answered() {
    let agent = Agent::start().await;
    for ip in LOOPBACKS {
        let full = FullListener::new(ip);
        let id = agent.create_tcp("", unbound(ip)).await.unwrap().socket.unwrap().socket_id;
        let request =
            pb::ConnectSocketRequest { call: detached(&format!("{id}-c")), ..connect(&id, &full.address.to_string()) };
        agent.connect_socket(request).await.unwrap();
        agent.event(&id, "connect_started").await;
        assert_eq!(agent.socket(&id).await.state(), pb::SocketState::Connecting);
        full.make_room();
        agent.event(&id, "connected").await;
        let response: pb::ConnectSocketResponse = agent.call_response(&format!("{id}-c")).await;
        assert_eq!((response.went(), response.socket.unwrap().state()), ("ok".into(), pb::SocketState::Connected));
    }
}

#[tokio::test]
async fn a_local_address_can_be_chosen() {
    let agent = Agent::start().await;
    let (listener, address) = TcpPeer::listen(LOOPBACKS[0]).await;
    let spec = pb::TcpSocketSpec { bind: "127.0.0.9:0".into(), ..Default::default() };
    let local = agent.connect_with("line", &address.to_string(), spec).await.local.unwrap();
    assert_eq!(local.address, "127.0.0.9");
    assert_eq!(TcpPeer::accept(&listener).await.0.peer_addr().unwrap().to_string(), local.text);
    // The port is bound before the connection is made, and kept.
    let Some(pb::event::Body::Bound(bound)) = agent.event("line", "bound").await.body else { panic!() };
    assert_eq!(bound.local.unwrap(), local);

    let (listener, address) = TcpPeer::listen(LOOPBACKS[1]).await;
    let spec = pb::TcpSocketSpec { bind: "[::1]:0".into(), ..Default::default() };
    let local = agent.connect_with("line6", &address.to_string(), spec).await.local.unwrap();
    assert_eq!(TcpPeer::accept(&listener).await.0.peer_addr().unwrap().to_string(), local.text);
}

#[tokio::test]
async fn the_lab_address_is_the_source_unless_another_one_is_bound() {
    let lab = Ipv4Addr::new(127, 7, 7, 7);
    let agent = Agent::start_with(AgentConfig { lab_ipv4: Some(lab), ..AgentConfig::default() }).await;
    let (listener, address) = TcpPeer::listen(LOOPBACKS[0]).await;
    let socket = agent.connect("line", &address.to_string()).await;
    assert_eq!(socket.local.unwrap().address, "127.7.7.7");
    assert_eq!(TcpPeer::accept(&listener).await.0.peer_addr().unwrap().ip(), IpAddr::from(lab));
    // What a connect binds is told by `connected` alone.
    assert_eq!(agent.kinds("line").await, ["created", "connect_started", "connected"]);

    let spec = pb::TcpSocketSpec { bind: "127.0.0.9:0".into(), ..Default::default() };
    let socket = agent.connect_with("other", &address.to_string(), spec).await;
    assert_eq!(socket.local.unwrap().address, "127.0.0.9");
}

/// A listener that was created without a host, and somebody who calls this host by its port alone.
#[tokio::test]
async fn the_lab_address_is_this_host() {
    let lab = Ipv4Addr::new(127, 7, 7, 7);
    let agent = Agent::start_with(AgentConfig { lab_ipv4: Some(lab), ..AgentConfig::default() }).await;
    let door = agent.listen("door", ":0").await;
    let port = door.rsplit(':').next().unwrap();
    let socket = agent.connect("line", port).await;
    assert_eq!((socket.remote.unwrap().text, socket.local.unwrap().address.as_str()), (door, "127.7.7.7"));
}

#[tokio::test]
async fn a_connection_with_itself_is_noticed() {
    let agent = Agent::start().await;
    for ip in LOOPBACKS {
        let spec = pb::TcpSocketSpec { bind: any_port(ip), ..Default::default() };
        let socket = agent.create_tcp("", spec).await.unwrap().socket.unwrap();
        let (id, own) = (socket.socket_id, socket.local.unwrap().text);
        let connected = agent.connect_socket(connect(&id, &own)).await.unwrap();
        assert_eq!(connected.went(), "ok");
        let socket = connected.socket.unwrap();
        assert!(socket.self_connected);
        assert_eq!(socket.remote.unwrap().text, own);
        let Some(pb::event::Body::Connected(event)) = agent.event(&id, "connected").await.body else { panic!() };
        assert!(event.self_connected);
        agent.write(&id, "echo").await;
        assert_eq!(agent.receive_text(&id).await, "echo");
    }
}

#[tokio::test]
async fn a_reset_right_after_the_handshake_is_a_connection_that_was_reset() {
    let (a, b) = (Agent::start().await, Agent::start().await);
    for ip in LOOPBACKS {
        let spec = pb::TcpSocketSpec { max_connections: Some(0), ..Default::default() };
        let door = a.listen_with("", &any_port(ip), spec).await;
        let id = b.create_tcp("", connecting_to(&door)).await.unwrap().socket.unwrap().socket_id;
        let closed = b.closed(&id).await;
        assert_eq!((closed.reason(), closed.had_error), (pb::CloseReason::PeerReset, true));
        assert_eq!(b.kinds(&id).await, ["created", "connect_started", "connected", "peer_reset", "closed"]);
    }
}

#[tokio::test]
async fn an_error_is_a_status_for_those_who_want_one() {
    let agent = Agent::start().await;
    for ip in LOOPBACKS {
        let nobody = DeadPort::tcp(ip);
        let call = Some(pb::Call { fail_on_error: true, ..Default::default() });
        let id = agent.create_tcp("", unbound(ip)).await.unwrap().socket.unwrap().socket_id;
        let request = pb::ConnectSocketRequest { call, ..connect(&id, &nobody.text()) };
        let status = agent.sockets().connect_socket(request).await.unwrap_err();
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.domain.as_str(), info.reason.as_str()), ("kernel.farsock.dev", "ECONNREFUSED"));
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().contains(&nobody.text()), "{}", status.message());
        // The socket is as it was, and the event is there.
        assert_ne!(agent.socket(&id).await.state(), pb::SocketState::Closed);
        assert_eq!(agent.kinds(&id).await, ["created", "connect_started", "connect_failed"]);
    }
}

/// connect(2) knows of addresses that are none of a connection's, before a packet is sent.
#[tokio::test]
async fn what_cannot_be_reached_is_told_at_once() {
    let agent = Agent::start().await;
    for (remote, errno) in [("127.0.0.1:0", "ECONNREFUSED"), ("[::1]:0", "ECONNREFUSED"), ("[fe80::f00d]:80", "EINVAL")]
    {
        assert_eq!(went(&agent.create_tcp("", connecting_to(remote)).await), errno, "{remote}");
    }
    let agent = Agent::start().await;
    agent.create_tcp("four", unbound(LOOPBACKS[0])).await.unwrap();
    agent.create_tcp("six", unbound(LOOPBACKS[1])).await.unwrap();
    for (id, ip) in [("four", LOOPBACKS[1]), ("six", LOOPBACKS[0])] {
        // An address of the other family: the kernel says what it thinks of it.
        let address = SocketAddr::new(ip, 9);
        let plain = plain_tcp(if id == "four" { LOOPBACKS[0] } else { LOOPBACKS[1] });
        let meant = answered(plain.connect(&address.into()));
        assert_eq!(went(&agent.connect_socket(connect(id, &address.to_string())).await), meant, "{id}");
    }
}

/// What is found for a socket that has been closed in the meantime is no event of it any more.
#[tokio::test]
async fn a_lookup_that_ends_after_its_socket_is_not_told_behind_closed() {
    let gate = Arc::new(Gate::default());
    let agent = Agent::start_with(Names::host("far.test", &[LOOPBACKS[0]]).behind(&gate).config()).await;
    agent.create_tcp("line", pb::TcpSocketSpec::default()).await.unwrap();
    let closed_meanwhile = async {
        within("the resolver to be asked", gate.asked.notified()).await;
        agent.close("line").await;
        gate.opened.notify_one();
    };
    let (connected, ()) = tokio::join!(agent.connect_socket(connect("line", "far.test:80")), closed_meanwhile);
    assert_eq!(connected.unwrap_err().reason, "SOCKET_CLOSED");
    assert_eq!(agent.kinds("line").await, ["created", "closed"]);
}

fn unbound(ip: IpAddr) -> pb::TcpSocketSpec {
    let family = if ip.is_ipv4() { pb::Family::Ipv4 } else { pb::Family::Ipv6 };
    pb::TcpSocketSpec { family: family.into(), ..Default::default() }
}

fn connect(id: &str, remote: &str) -> pb::ConnectSocketRequest {
    pb::ConnectSocketRequest { socket_id: id.into(), remote: remote.into(), ..Default::default() }
}
