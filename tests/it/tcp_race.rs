//! Addresses that race: RFC 8305. Each attempt is told, the first that answers is the connection, and the others are over before it is there.

use std::net::{IpAddr, SocketAddr};

use farsock::wire::pb;
use pb::socket_option::Value;
use tokio::net::TcpListener;

use crate::harness::tcp::{FullListener, Reported, between, connecting_to, detached, millis, timeout, went};
use crate::harness::{Agent, LOOPBACKS, Names, TcpPeer, text};

const OTHER: &str = "127.0.0.2";
const V4: IpAddr = LOOPBACKS[0];
const V6: IpAddr = LOOPBACKS[1];

/// An address that does not answer, and a listener at the same port of another one.
async fn silent_and(other: IpAddr) -> (FullListener, TcpListener) {
    loop {
        let full = FullListener::new(if other == V4 { V6 } else { V4 });
        if let Ok(listener) = TcpListener::bind((other, full.address.port())).await {
            return (full, listener);
        }
    }
}

/// Two addresses that do not answer, with the same port.
fn both_silent() -> (FullListener, (socket2::Socket, std::net::TcpStream), u16) {
    loop {
        let full = FullListener::new(V4);
        let port = full.address.port();
        let six = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).unwrap();
        six.set_only_v6(true).unwrap();
        if six.bind(&SocketAddr::new(V6, port).into()).is_ok() {
            six.listen(0).unwrap();
            let queued = std::net::TcpStream::connect((V6, port)).unwrap();
            return (full, (six, queued), port);
        }
    }
}

async fn agent(addresses: &[IpAddr]) -> Agent {
    Agent::start_with(Names::host("far.test", addresses).config()).await
}

fn racing(port: u16, delay: i64) -> pb::TcpSocketSpec {
    pb::TcpSocketSpec { attempt_delay: millis(delay), ..connecting_to(&format!("far.test:{port}")) }
}

/// What happened: `> REMOTE` for an attempt, `! REMOTE ERROR` for its end, `+` where others went on, `= REMOTE` for the connection.
async fn story(agent: &Agent, id: &str) -> Vec<String> {
    let mut story = Vec::new();
    for event in agent.all_events("").await.into_iter().filter(|event| event.socket_id == id) {
        let host = |endpoint: Option<pb::Endpoint>| endpoint.unwrap().address;
        match event.body.unwrap() {
            pb::event::Body::ConnectStarted(started) => story.push(format!("> {}", host(started.remote))),
            pb::event::Body::ConnectFailed(failed) => {
                let name = failed.error.map_or_else(|| "timed out".to_owned(), |error| error.name);
                let more = if failed.still_connecting { " +" } else { "" };
                story.push(format!("! {} {name}{more}", host(failed.remote)));
            }
            pb::event::Body::Connected(connected) => story.push(format!("= {}", host(connected.remote))),
            _ => {}
        }
    }
    story
}

#[tokio::test]
async fn who_answers_first_is_the_connection() {
    for (silent, other) in [(V4, V6), (V6, V4)] {
        let (full, listener) = silent_and(other).await;
        let agent = agent(&[silent, other]).await;
        let answer = agent.create_tcp("line", racing(full.address.port(), 120)).await.unwrap();
        assert_eq!(answer.went(), "ok");
        let socket = answer.socket.unwrap();
        assert_eq!(socket.remote.as_ref().unwrap().address, other.to_string());
        assert_eq!(socket.family() == pb::Family::Ipv4, other == V4, "the one that has won tells the family");
        let [first, second] = [silent, other].map(|ip| ip.to_string());
        let told =
            [format!("> {first}"), format!("> {second}"), format!("! {first} ECANCELED +"), format!("= {second}")];
        assert_eq!(story(&agent, "line").await, told);
        let started = agent.listed("line", "connect_started").await;
        assert!(between(&started[0], &started[1]) >= 120);
        // It is a socket like any other.
        let mut peer = TcpPeer::accept(&listener).await;
        agent.write("line", "hola").await;
        assert_eq!(peer.read(4).await, b"hola");
        peer.write(b"hola").await;
        assert_eq!(agent.receive_text("line").await, "hola");
        assert_eq!(agent.socket("line").await.tcp_state(), pb::TcpState::Established);
    }
}

/// Nobody waits for the delay when the one before has failed, and without a delay nothing races.
#[tokio::test]
async fn the_next_one_begins_at_once_when_one_fails() {
    for (closed, open) in [(V4, V6), (V6, V4)] {
        let listener = TcpListener::bind((open, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let agent = agent(&[closed, open]).await;
        let [first, second] = [closed, open].map(|ip| ip.to_string());
        assert_eq!(agent.create_tcp("line", racing(port, 60_000)).await.unwrap().went(), "ok");
        let told =
            [format!("> {first}"), format!("! {first} ECONNREFUSED +"), format!("> {second}"), format!("= {second}")];
        assert_eq!(story(&agent, "line").await, told);

        let one_family = connecting_to(&format!("far.test:{port}"));
        assert_eq!(agent.create_tcp("plain", one_family).await.unwrap().went(), "ECONNREFUSED");
        assert_eq!(story(&agent, "plain").await, [format!("> {first}"), format!("! {first} ECONNREFUSED")]);
    }
}

#[tokio::test]
async fn where_nobody_answers_it_is_over_and_the_socket_is_as_it_was() {
    let (full, _six, port) = both_silent();
    let agent = agent(&[V4, V6]).await;
    // Each has its own time, and all of them that of the call.
    for (id, attempt_timeout, call_timeout) in [("each", millis(1000), 10_000), ("whole", None, 1000)] {
        let spec = pb::TcpSocketSpec { attempt_timeout, ..racing(port, 10) };
        let request = pb::CreateSocketRequest {
            socket_id: id.into(),
            kind: Some(pb::create_socket_request::Kind::Tcp(spec)),
            call: timeout(call_timeout),
            ..Default::default()
        };
        let answer = agent.create_socket(request).await.unwrap();
        assert_eq!((answer.went().as_str(), answer.socket.unwrap().state()), ("timed out", pb::SocketState::Unbound));
        let told = story(&agent, id).await;
        assert_eq!(told[..2], ["> 127.0.0.1", "> ::1"]);
        assert_eq!(told[2..], ["! 127.0.0.1 timed out +", "! ::1 timed out"]);
    }
    // It can be used for another one.
    let (_listener, address) = TcpPeer::listen(V4).await;
    let request = pb::ConnectSocketRequest {
        socket_id: "each".into(),
        remote: address.to_string(),
        attempt_delay: millis(10),
        ..Default::default()
    };
    assert_eq!(agent.connect_socket(request.clone()).await.unwrap().went(), "ok");
    let again = pb::ConnectSocketRequest { remote: "far.test:9".into(), ..request };
    assert_eq!(went(&agent.connect_socket(again).await), "EISCONN");
    drop(full);

    // Nobody is there at all: the last one tells it.
    let nobody = TcpListener::bind((V4, 0)).await.unwrap().local_addr().unwrap().port();
    let answer = agent.create_tcp("none", racing(nobody, 1000)).await.unwrap();
    assert_eq!(answer.went(), "ECONNREFUSED");
    let last = story(&agent, "none").await.pop().unwrap();
    assert_eq!(last, "! ::1 ECONNREFUSED");
}

#[tokio::test]
async fn a_race_can_be_cancelled_or_closed_and_nothing_else_is_done_meanwhile() {
    let (_full, _six, port) = both_silent();
    let agent = agent(&[V4, V6]).await;
    let begin = async |id: &str| {
        let kind = Some(pb::create_socket_request::Kind::Tcp(racing(port, 10)));
        let (socket_id, call) = (id.to_owned(), detached(&format!("race-{id}")));
        agent.create_socket(pb::CreateSocketRequest { socket_id, kind, call, ..Default::default() }).await.unwrap();
        let first = agent.event(id, "connect_started").await;
        agent.event_after(id, "connect_started", first.event_seq).await;
    };
    let over = ["> 127.0.0.1", "> ::1", "! 127.0.0.1 ECANCELED +", "! ::1 ECANCELED"];

    begin("canceled").await;
    assert_eq!(agent.socket("canceled").await.state(), pb::SocketState::Connecting);
    // As the kernel says it of a socket that connects.
    let bind =
        pb::BindSocketRequest { socket_id: "canceled".into(), local: "127.0.0.1:0".into(), ..Default::default() };
    assert_eq!(agent.bind_socket(bind).await.unwrap().went(), "EINVAL");
    let listen = pb::ListenSocketRequest { socket_id: "canceled".into(), ..Default::default() };
    assert_eq!(agent.listen_socket(listen).await.unwrap().went(), "EINVAL");
    let connect =
        pb::ConnectSocketRequest { socket_id: "canceled".into(), remote: "127.0.0.1:9".into(), ..Default::default() };
    assert_eq!(agent.connect_socket(connect).await.unwrap().went(), "EALREADY");
    agent.cancel_call("race-canceled").await.unwrap();
    let answer: pb::CreateSocketResponse = agent.call_response("race-canceled").await;
    assert_eq!((answer.went().as_str(), answer.socket.unwrap().state()), ("ECANCELED", pb::SocketState::Unbound));
    assert_eq!(story(&agent, "canceled").await, over);

    begin("closed").await;
    agent.close("closed").await;
    assert_eq!(agent.kinds("closed").await.last().map(String::as_str), Some("closed"));
    let answer: pb::CreateSocketResponse = agent.call_response("race-closed").await;
    assert_eq!(answer.went(), "ECANCELED");

    begin("shut").await;
    agent.shut_down("shut", pb::ShutdownHow::Both).await;
    let answer: pb::CreateSocketResponse = agent.call_response("race-shut").await;
    assert_eq!(answer.went(), "ECONNABORTED");
    assert_eq!(story(&agent, "shut").await.last().unwrap(), "! ::1 ECONNABORTED");
}

/// What is written meanwhile goes to whoever wins, whose descriptor has the options that the socket was given before and during the race.
#[tokio::test]
async fn writes_wait_for_the_winner_and_options_are_those_of_all() {
    for other in [V6, OTHER.parse().unwrap()] {
        let (full, listener) = silent_and(other).await;
        let agent = agent(&[V4, other]).await;
        let option = |name: &str, value| pb::SocketOption { name: name.into(), value: Some(value) };
        let spec = pb::TcpSocketSpec {
            options: vec![option("TCP_NODELAY", Value::Enabled(true)), option("IP_TTL", Value::Number(33))],
            ..racing(full.address.port(), 300)
        };
        let request = pb::CreateSocketRequest {
            socket_id: "line".into(),
            kind: Some(pb::create_socket_request::Kind::Tcp(spec)),
            call: detached("race"),
            ..Default::default()
        };
        agent.create_socket(request).await.unwrap();
        agent.event("line", "connect_started").await;
        let set = pb::SetSocketOptionsRequest {
            socket_id: "line".into(),
            options: vec![option("SO_KEEPALIVE", Value::Enabled(true))],
            ..Default::default()
        };
        assert_eq!(agent.set_socket_options(set).await.unwrap().went(), "ok");
        let write = pb::WriteSocketRequest {
            socket_id: "line".into(),
            payload: text("hola"),
            call: detached("write"),
            ..Default::default()
        };
        agent.write_socket(write).await.unwrap();
        assert_eq!(TcpPeer::accept(&listener).await.read(4).await, b"hola");
        let names = ["TCP_NODELAY", "SO_KEEPALIVE", "IP_TTL"].map(str::to_owned).to_vec();
        let read = pb::GetSocketOptionsRequest { socket_id: "line".into(), names, ..Default::default() };
        let options = agent.sockets().get_socket_options(read).await.unwrap().into_inner().options;
        let on = |at: usize| options[at].effective.clone().and_then(|option| option.value);
        assert_eq!((on(0), on(1)), (Some(Value::Enabled(true)), Some(Value::Enabled(true))));
        if other.is_ipv4() {
            assert_eq!(on(2), Some(Value::Number(33)));
        }
    }
}

#[tokio::test]
async fn only_what_can_race_does() {
    let agent = agent(&[V4, V6]).await;
    for (spec, told) in [
        (pb::TcpSocketSpec { bind: "127.0.0.1:0".into(), ..racing(9, 100) }, "tcp.attempt_delay: each attempt"),
        (pb::TcpSocketSpec { role: None, ..racing(9, 100) }, "tcp.attempt_delay: it says how to connect"),
        (racing(9, 9), "tcp.attempt_delay: it goes from 10 ms on"),
    ] {
        let refused = agent.create_tcp("", spec).await.unwrap_err();
        assert!(refused.reason == "INVALID_FIELD" && refused.message.contains(told), "{}", refused.message);
    }
    let bound = pb::TcpSocketSpec { bind: "127.0.0.1:0".into(), ..Default::default() };
    agent.create_tcp("bound", bound).await.unwrap();
    let request = |remote: &str| pb::ConnectSocketRequest {
        socket_id: "bound".into(),
        remote: remote.into(),
        attempt_delay: millis(100),
        ..Default::default()
    };
    // One address does not race.
    assert_eq!(went(&agent.connect_socket(request("127.0.0.1:9")).await), "ECONNREFUSED");
    let agent = Agent::start_with(Names::host("far.test", &[V4, OTHER.parse().unwrap()]).config()).await;
    let bound = pb::TcpSocketSpec { bind: "127.0.0.1:0".into(), ..Default::default() };
    agent.create_tcp("bound", bound).await.unwrap();
    assert_eq!(went(&agent.connect_socket(request("far.test:9")).await), "WRONG_STATE");
}
