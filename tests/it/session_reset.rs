//! Resetting a session: everything is closed, every name is free, the log goes on.

use farsock::wire::pb;

use crate::harness::{Agent, LOOPBACKS, TcpPeer, UdpPeer, detached, response, within};

/// The five lines that a newcomer types work again the second time.
#[tokio::test]
async fn the_same_five_lines_work_again_and_again() {
    for ip in LOOPBACKS {
        let (a, b) = (Agent::start().await, Agent::start().await);
        let mut bind = if ip.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }.to_owned();
        for round in 0..3 {
            let door = a.listen("door", &bind).await;
            b.connect("line", &door).await;
            b.write("line", "hola\r\n").await;
            assert_eq!(a.receive_text("door.1").await, "hola\r\n", "round {round}");
            let reset = a.reset("").await;
            let closed: Vec<&str> = reset.closed_sockets.iter().map(|socket| socket.socket_id.as_str()).collect();
            assert_eq!(closed, ["door", "door.1"]);
            b.reset("").await;
            // On the very same port from the second time on.
            bind = door;
        }
    }
}

#[tokio::test]
async fn everything_is_closed_and_told_and_the_log_goes_on() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let (listener, address) = TcpPeer::listen(ip).await;
        agent.udp("u", ip).await;
        agent.connect("line", &address.to_string()).await;
        agent.listen("door", if ip.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).await;
        let mut peer = TcpPeer::accept(&listener).await;
        let head = agent.all_events("").await.len() as u64;

        let reset = agent.reset("").await;
        let session = reset.session.unwrap();
        assert_eq!((session.socket_count, session.head_event_seq), (0, head + 4));
        let closed = reset.closed_sockets;
        assert_eq!(closed.iter().map(|socket| socket.socket_id.as_str()).collect::<Vec<_>>(), ["u", "line", "door"]);
        for socket in &closed {
            assert_eq!(socket.state(), pb::SocketState::Closed);
            assert_eq!(socket.closed.as_ref().unwrap().reason(), pb::CloseReason::SessionReset);
        }
        let report = reset.report.unwrap();
        assert_eq!((report.first_event_seq, report.last_event_seq), (head + 1, head + 4));
        let events = agent.all_events("").await.split_off(usize::try_from(head).unwrap());
        let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(kinds, ["closed", "closed", "closed", "session_reset"]);
        assert!(events.iter().all(|event| event.request_id == report.request_id));
        let Some(pb::event::Body::SessionReset(told)) = &events[3].body else { panic!() };
        assert_eq!((told.closed_sockets, events[3].socket_id.as_str()), (Some(3), ""));
        // In good order, as a close does it.
        assert_eq!(peer.read_to_end().await.unwrap(), b"");
        let again = agent.reset("").await;
        assert_eq!(again.closed_sockets, []);
    }
}

/// Closed sockets of before would only be in the way.
#[tokio::test]
async fn names_of_before_are_forgotten() {
    let agent = Agent::start().await;
    agent.udp("s", LOOPBACKS[0]).await;
    agent.reset("").await;
    let request = pb::GetSocketRequest { socket_id: "s".into(), ..Default::default() };
    let refused = crate::harness::Refused::from(agent.sockets().get_socket(request).await.unwrap_err());
    assert_eq!(refused.reason, "SOCKET_NOT_FOUND");
    agent.udp("s", LOOPBACKS[0]).await;
    assert_eq!(agent.socket("s").await.socket_uid, 2);
}

#[tokio::test]
async fn what_waits_is_cancelled() {
    let agent = Agent::start().await;
    agent.udp("s", LOOPBACKS[0]).await;
    let receive =
        pb::ReceiveSocketRequest { socket_id: "s".into(), call: Some(detached("waits")), ..Default::default() };
    agent.sockets().receive_socket(receive).await.unwrap();
    let start = Some(pb::call::Start::StartDelay(crate::harness::millis(3_600_000).unwrap()));
    let close = pb::CloseSocketRequest {
        socket_id: "s".into(),
        call: Some(pb::Call { start, ..detached("later") }),
        ..Default::default()
    };
    agent.sockets().close_socket(close).await.unwrap();
    agent.reset("").await;
    within("their end", async {
        for id in ["waits", "later"] {
            while agent.get_call(id).await.unwrap().state() != pb::CallState::Done {}
        }
    })
    .await;
    let received: pb::ReceiveSocketResponse = response(&agent.get_call("waits").await.unwrap());
    assert_eq!(received.report.unwrap().error.unwrap().name, "ECANCELED");
    let closed: pb::CloseSocketResponse = response(&agent.get_call("later").await.unwrap());
    assert_eq!(closed.report.unwrap().error.unwrap().name, "ECANCELED");
}

/// However fast they come in: no connection is left of before.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_that_come_in_meanwhile_are_closed_too() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let address = agent.listen("door", if ip.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).await;
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let address: std::net::SocketAddr = address.parse().unwrap();
                tokio::spawn(async move {
                    let mut lines = Vec::new();
                    // Until nobody listens any more.
                    while let Ok(line) = tokio::net::TcpStream::connect(address).await {
                        lines.push(line);
                    }
                    lines.len()
                })
            })
            .collect();
        agent.event("door.3", "created").await;
        let reset = agent.reset("").await;
        assert_eq!(reset.session.unwrap().socket_count, 0);
        assert_eq!(agent.open_sockets().await, 0);
        for caller in callers {
            within("its end", caller).await.unwrap();
        }
        let events = agent.all_events("").await;
        assert_eq!(events.last().unwrap().kind, "session_reset", "nothing came after it");
        let count = |kind: &str| events.iter().filter(|event| event.kind == kind).count();
        assert_eq!(count("created"), count("closed"));
        assert_eq!(reset.closed_sockets.len(), count("created"));
    }
}

#[tokio::test]
async fn unread_bytes_are_told() {
    let agent = Agent::start().await;
    let peer = UdpPeer::bind(LOOPBACKS[0]).await;
    let delivery = Some(pb::Delivery { mode: pb::DeliveryMode::Pull.into(), ..Default::default() });
    let local = agent.udp_with("s", LOOPBACKS[0], pb::UdpSocketSpec { delivery, ..Default::default() }).await;
    peer.send(&local, b"unread").await;
    let reset = agent.reset("").await;
    assert_eq!(reset.closed_sockets[0].closed.as_ref().unwrap().unread_bytes, 6);
}
