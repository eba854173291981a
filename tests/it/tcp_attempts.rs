//! Connecting in several attempts: to one address after the other, each with a time of its own, and again and again.

use std::net::{IpAddr, SocketAddr};

use farsock::wire::pb;
use tokio::net::TcpListener;

use crate::harness::tcp::{FullListener, Reported, connecting_to, detached, millis, plain_tcp, timeout};
use crate::harness::{Agent, DeadPort, LOOPBACKS, Names, TcpPeer, text};

fn again(attempts: u32, interval: i64) -> Option<pb::ConnectRetry> {
    Some(pb::ConnectRetry { attempts, interval: millis(interval) })
}

fn connect(id: &str, remote: &str) -> pb::ConnectSocketRequest {
    pb::ConnectSocketRequest { socket_id: id.into(), remote: remote.into(), ..Default::default() }
}

async fn idle(agent: &Agent, id: &str, ip: IpAddr) {
    let family = if ip.is_ipv4() { pb::Family::Ipv4 } else { pb::Family::Ipv6 };
    agent.create_tcp(id, pb::TcpSocketSpec { family: family.into(), ..Default::default() }).await.unwrap();
}

/// How each attempt that failed ended.
async fn failures(agent: &Agent, id: &str) -> Vec<String> {
    let failed = agent.events_of(id, "connect_failed").await.into_iter().map(|body| match body {
        pb::event::Body::ConnectFailed(failed) if failed.timed_out => "timed out".to_owned(),
        pb::event::Body::ConnectFailed(failed) => failed.error.unwrap().name,
        other => panic!("{other:?}"),
    });
    failed.collect()
}

/// An address that does not answer, and a listener at the same port of another one.
async fn silent_and_other() -> (FullListener, TcpListener) {
    loop {
        let full = FullListener::new(LOOPBACKS[0]);
        if let Ok(listener) = TcpListener::bind(("127.0.0.2", full.address.port())).await {
            return (full, listener);
        }
    }
}

#[tokio::test]
async fn an_address_that_stays_silent_does_not_use_up_the_time_of_the_next() {
    let (full, listener) = silent_and_other().await;
    let other = listener.local_addr().unwrap();
    let agent = Agent::start_with(Names::host("far.test", &[full.address.ip(), other.ip()]).config()).await;
    idle(&agent, "line", LOOPBACKS[0]).await;
    let remote = format!("far.test:{}", other.port());
    let request = pb::ConnectSocketRequest {
        attempt_timeout: millis(150),
        call: detached("connect"),
        ..connect("line", &remote)
    };
    agent.connect_socket(request).await.unwrap();
    agent.event("line", "connect_started").await;
    // What is written meanwhile waits for whoever answers in the end.
    let write = pb::WriteSocketRequest {
        socket_id: "line".into(),
        payload: text("hola"),
        call: detached("write"),
        ..Default::default()
    };
    agent.write_socket(write).await.unwrap();
    assert_eq!(TcpPeer::accept(&listener).await.read(4).await, b"hola");
    let response: pb::ConnectSocketResponse = agent.call_response("connect").await;
    assert_eq!((response.went().as_str(), response.socket.unwrap().remote.unwrap().text), ("ok", other.to_string()));
    assert_eq!(failures(&agent, "line").await, ["timed out"]);
}

#[tokio::test]
async fn each_address_has_its_time_and_the_last_one_tells_how_it_ended() {
    // A link-local address without its zone is none.
    for (ip, second, went) in [
        (LOOPBACKS[0], "127.0.0.3".parse().unwrap(), "ECONNREFUSED"),
        (LOOPBACKS[1], "fe80::f00d".parse().unwrap(), "EINVAL"),
    ] {
        let full = FullListener::new(ip);
        let remote = format!("far.test:{}", full.address.port());
        for (addresses, went) in
            [(vec![ip, second], went), (vec![second, ip], "timed out"), (vec![ip, ip], "timed out")]
        {
            let agent = Agent::start_with(Names::host("far.test", &addresses).config()).await;
            let spec = pb::TcpSocketSpec { attempt_timeout: millis(100), ..connecting_to(&remote) };
            assert_eq!(agent.create_tcp("line", spec).await.unwrap().went(), went);
            assert_eq!(failures(&agent, "line").await.len(), 2);
        }
    }
}

#[tokio::test]
async fn a_client_can_be_started_before_its_server() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        // Nobody else gets the port meanwhile.
        let server = plain_tcp(ip);
        server.bind(&SocketAddr::new(ip, 0).into()).unwrap();
        let address = server.local_addr().unwrap().as_socket().unwrap().to_string();
        let request = pb::CreateSocketRequest {
            socket_id: id.clone(),
            kind: Some(pb::create_socket_request::Kind::Tcp(pb::TcpSocketSpec {
                retry: again(0, 20),
                ..connecting_to(&address)
            })),
            call: detached(&format!("{id}-create")),
            ..Default::default()
        };
        agent.create_socket(request).await.unwrap();
        let first = agent.event(&id, "connect_failed").await;
        agent.event_after(&id, "connect_failed", first.event_seq).await;
        server.listen(1).unwrap();
        agent.event(&id, "connected").await;
        let failed = failures(&agent, &id).await;
        assert!(failed.len() >= 2 && failed.iter().all(|name| name == "ECONNREFUSED"), "{failed:?}");
        let kinds = agent.kinds(&id).await;
        let started = kinds.iter().filter(|kind| *kind == "connect_started").count();
        assert_eq!((started, kinds.last().map(String::as_str)), (failed.len() + 1, Some("connected")));
        let response: pb::CreateSocketResponse = agent.call_response(&format!("{id}-create")).await;
        assert_eq!((response.went(), response.socket.unwrap().state()), ("ok".into(), pb::SocketState::Connected));
    }
}

#[tokio::test]
async fn attempts_end_when_they_are_used_up_or_the_time_is() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let nobody = DeadPort::tcp(ip);
        let address = nobody.text();

        let three = format!("three-{at}");
        idle(&agent, &three, ip).await;
        let request = pb::ConnectSocketRequest { retry: again(3, 10), ..connect(&three, &address) };
        assert_eq!(agent.connect_socket(request).await.unwrap().went(), "ECONNREFUSED");
        assert_eq!(failures(&agent, &three).await.len(), 3);

        let late = format!("late-{at}");
        idle(&agent, &late, ip).await;
        let request =
            pb::ConnectSocketRequest { retry: again(0, 60_000), call: timeout(100), ..connect(&late, &address) };
        assert_eq!(agent.connect_socket(request).await.unwrap().went(), "timed out");
        assert_eq!(failures(&agent, &late).await, ["ECONNREFUSED"]);

        let canceled = format!("canceled-{at}");
        idle(&agent, &canceled, ip).await;
        let call = Some(pb::Call { timeout: millis(60_000), ..detached(&canceled).unwrap() });
        let request = pb::ConnectSocketRequest { retry: again(0, 60_000), call, ..connect(&canceled, &address) };
        agent.connect_socket(request).await.unwrap();
        agent.event(&canceled, "connect_failed").await;
        agent.cancel_call(&canceled).await.unwrap();
        let response: pb::ConnectSocketResponse = agent.call_response(&canceled).await;
        assert_eq!(response.went(), "ECANCELED");
        assert_eq!(failures(&agent, &canceled).await, ["ECONNREFUSED"]);
    }
}

/// A link-local address without its zone stays what it is, and a connected socket stays connected.
#[tokio::test]
async fn what_would_stay_as_it_is_is_not_tried_again() {
    let agent = Agent::start().await;
    idle(&agent, "zoneless", LOOPBACKS[1]).await;
    let request = pb::ConnectSocketRequest { retry: again(5, 10), ..connect("zoneless", "[fe80::f00d]:9") };
    assert_eq!(agent.connect_socket(request).await.unwrap().went(), "EINVAL");
    assert_eq!(failures(&agent, "zoneless").await, ["EINVAL"]);
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let (_listener, address) = TcpPeer::listen(ip).await;
        let id = format!("line-{at}");
        agent.connect(&id, &address.to_string()).await;
        let request = pb::ConnectSocketRequest { retry: again(5, 10), ..connect(&id, &address.to_string()) };
        assert_eq!(agent.connect_socket(request).await.unwrap().went(), "EISCONN");
        assert_eq!(agent.kinds(&id).await.iter().filter(|kind| *kind == "failed").count(), 1);
    }
}
