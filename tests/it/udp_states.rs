//! Every operation in every state of a UDP socket: what the kernel answers, and what the agent does not even ask it.

use farsock::wire::pb;

use crate::harness::{Agent, LOOPBACKS, Refused, UdpPeer, any_port, datagram, error_name, millis, patient};

/// What an operation answers in the states unbound, bound, connected and closed. Empty: it succeeds.
const TABLE: [(&str, [&str; 4]); 17] = [
    ("bind", ["", "EINVAL", "EINVAL", "SOCKET_CLOSED"]),
    ("listen", ["WRONG_TRANSPORT", "WRONG_TRANSPORT", "WRONG_TRANSPORT", "SOCKET_CLOSED"]),
    ("accept", ["WRONG_TRANSPORT", "WRONG_TRANSPORT", "WRONG_TRANSPORT", "SOCKET_CLOSED"]),
    ("connect", ["", "", "", "SOCKET_CLOSED"]),
    ("disconnect", ["", "", "", "SOCKET_CLOSED"]),
    ("write", ["WRONG_TRANSPORT", "WRONG_TRANSPORT", "WRONG_TRANSPORT", "SOCKET_CLOSED"]),
    ("send nowhere", ["EDESTADDRREQ", "EDESTADDRREQ", "", "SOCKET_CLOSED"]),
    ("send somewhere", ["", "", "", "SOCKET_CLOSED"]),
    ("send to port 0", ["EINVAL", "EINVAL", "EINVAL", "SOCKET_CLOSED"]),
    ("receive", ["timed out", "timed out", "timed out", "SOCKET_CLOSED"]),
    ("shut down", ["ENOTCONN", "ENOTCONN", "", "SOCKET_CLOSED"]),
    ("set delivery", ["", "", "", "SOCKET_CLOSED"]),
    ("set options", ["", "", "", "SOCKET_CLOSED"]),
    ("get options", ["", "", "", "SOCKET_CLOSED"]),
    ("get", ["", "", "", ""]),
    ("close", ["", "", "", "SOCKET_CLOSED"]),
    ("abort", ["", "", "", "SOCKET_CLOSED"]),
];

#[tokio::test]
async fn every_operation_in_every_state_answers_as_the_kernel_does() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        for (operation, expected) in TABLE {
            for (state, expected) in ["unbound", "bound", "connected", "closed"].into_iter().zip(expected) {
                in_state(&agent, state, &peer).await;
                let answer = attempt(&agent, operation, &peer).await;
                assert_eq!(answer, expected, "{operation} when {state}, {ip}");
                agent.reset("").await;
            }
        }
    }
}

/// Makes the socket `s`, in this state.
async fn in_state(agent: &Agent, state: &str, peer: &UdpPeer) {
    let ip = peer.address().ip();
    let family = if ip.is_ipv4() { pb::Family::Ipv4 } else { pb::Family::Ipv6 };
    let spec = pb::UdpSocketSpec { family: family.into(), ..Default::default() };
    match state {
        "unbound" => drop(agent.create_udp("s", spec).await.unwrap()),
        "bound" => drop(agent.udp("s", ip).await),
        "connected" => drop(agent.udp_with("s", ip, pb::UdpSocketSpec { connect: peer.text(), ..spec }).await),
        _ => {
            agent.create_udp("s", spec).await.unwrap();
            agent.close("s").await;
        }
    }
    let states = [("unbound", pb::SocketState::Unbound), ("bound", pb::SocketState::Bound)];
    let states =
        states.into_iter().chain([("connected", pb::SocketState::Connected), ("closed", pb::SocketState::Closed)]);
    let wanted = states.into_iter().find(|(name, _)| *name == state).unwrap().1;
    assert_eq!(agent.socket("s").await.state(), wanted);
}

/// Tries an operation on `s`: the errno or the reason of the refusal, or nothing.
async fn attempt(agent: &Agent, operation: &str, peer: &UdpPeer) -> String {
    match carry_out(agent, operation, peer).await {
        Ok(Some(report)) if report.timed_out => "timed out".to_owned(),
        Ok(report) => error_name(report.as_ref()).to_owned(),
        Err(status) => Refused::from(status).reason,
    }
}

async fn carry_out(agent: &Agent, operation: &str, peer: &UdpPeer) -> Result<Option<pb::Report>, tonic::Status> {
    let (mut sockets, socket_id) = (agent.sockets(), "s".to_owned());
    let (ip, remote) = (peer.address().ip(), peer.text());
    let send = |destination: &str| pb::SendDatagramsRequest {
        socket_id: "s".to_owned(),
        datagrams: vec![datagram(destination, "hola")],
        ..Default::default()
    };
    Ok(match operation {
        "bind" => {
            let request = pb::BindSocketRequest { socket_id, local: any_port(ip), ..Default::default() };
            sockets.bind_socket(request).await?.into_inner().report
        }
        "listen" => {
            let request = pb::ListenSocketRequest { socket_id, ..Default::default() };
            sockets.listen_socket(request).await?.into_inner().report
        }
        "accept" => {
            let request = pb::AcceptSocketRequest { socket_id, ..Default::default() };
            sockets.accept_socket(request).await?.into_inner().report
        }
        "connect" => {
            let request = pb::ConnectSocketRequest { socket_id, remote, ..Default::default() };
            sockets.connect_socket(request).await?.into_inner().report
        }
        "disconnect" => {
            let request = pb::DisconnectSocketRequest { socket_id, ..Default::default() };
            sockets.disconnect_socket(request).await?.into_inner().report
        }
        "write" => {
            let request =
                pb::WriteSocketRequest { socket_id, payload: crate::harness::text("hola"), ..Default::default() };
            sockets.write_socket(request).await?.into_inner().report
        }
        "send nowhere" => sockets.send_datagrams(send("")).await?.into_inner().report,
        "send somewhere" => sockets.send_datagrams(send(&remote)).await?.into_inner().report,
        "send to port 0" => sockets.send_datagrams(send(&any_port(ip))).await?.into_inner().report,
        "receive" => {
            let call = Some(patient(millis(0)));
            let request = pb::ReceiveSocketRequest { socket_id, call, ..Default::default() };
            sockets.receive_socket(request).await?.into_inner().report
        }
        "shut down" => {
            let how = pb::ShutdownHow::Both.into();
            let request = pb::ShutdownSocketRequest { socket_id, how, ..Default::default() };
            sockets.shutdown_socket(request).await?.into_inner().report
        }
        "set delivery" => {
            let delivery = Some(pb::Delivery { paused: Some(true), ..Default::default() });
            let request = pb::SetSocketDeliveryRequest { socket_id, delivery, ..Default::default() };
            sockets.set_socket_delivery(request).await?.into_inner().report
        }
        "set options" => {
            let value = Some(pb::socket_option::Value::Enabled(true));
            let options = vec![pb::SocketOption { name: "SO_BROADCAST".into(), value }];
            let request = pb::SetSocketOptionsRequest { socket_id, options, ..Default::default() };
            sockets.set_socket_options(request).await?.into_inner().report
        }
        "get options" => {
            let request = pb::GetSocketOptionsRequest { socket_id, ..Default::default() };
            let options = sockets.get_socket_options(request).await?.into_inner().options;
            // Only a path has an MTU.
            let mut errors = options.iter().filter_map(|option| option.error.as_ref());
            assert!(errors.all(|error| error.subject.ends_with("_MTU") && error.name == "ENOTCONN"), "{options:?}");
            None
        }
        "get" => {
            sockets.get_socket(pb::GetSocketRequest { socket_id, ..Default::default() }).await?;
            None
        }
        "close" => {
            let request = pb::CloseSocketRequest { socket_id, ..Default::default() };
            sockets.close_socket(request).await?.into_inner().report
        }
        "abort" => {
            let request = pb::AbortSocketRequest { socket_id, ..Default::default() };
            sockets.abort_socket(request).await?.into_inner().report
        }
        other => panic!("{other}"),
    })
}

/// The largest datagrams that IPv4 and IPv6 can carry, and one byte more.
#[tokio::test]
async fn a_datagram_has_65507_bytes_at_the_most() {
    for (ip, largest) in LOOPBACKS.into_iter().zip([65_507, 65_527]) {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        agent.udp("s", ip).await;
        let of = |size| pb::Datagram {
            destination: peer.text(),
            payload: Some(pb::Payload {
                content: Some(pb::payload::Content::Pattern(pb::Pattern { size, start: 0, fill: None })),
                ..Default::default()
            }),
            ..Default::default()
        };
        assert_eq!(agent.send_error("s", of(largest)).await, "");
        assert_eq!(peer.receive().await.0.len(), largest as usize);
        assert_eq!(agent.send_error("s", of(largest + 1)).await, "EMSGSIZE");
    }
}

#[tokio::test]
async fn broadcast_needs_the_option() {
    let agent = Agent::start().await;
    for destination in ["255.255.255.255:9", "127.255.255.255:9"] {
        agent.udp("s", LOOPBACKS[0]).await;
        assert_eq!(agent.send_error("s", datagram(destination, "hola")).await, "EACCES", "{destination}");
        let value = Some(pb::socket_option::Value::Enabled(true));
        let options = vec![pb::SocketOption { name: "SO_BROADCAST".into(), value }];
        let request = pb::SetSocketOptionsRequest { socket_id: "s".into(), options, ..Default::default() };
        agent.sockets().set_socket_options(request).await.unwrap();
        if destination.starts_with("127") {
            assert_eq!(agent.send_error("s", datagram(destination, "hola")).await, "");
        }
        agent.close("s").await;
    }
}

#[tokio::test]
async fn a_socket_sends_to_its_own_family_only() {
    let agent = Agent::start().await;
    agent.udp("four", LOOPBACKS[0]).await;
    let six = UdpPeer::bind(LOOPBACKS[1]).await;
    assert_eq!(agent.send_error("four", datagram(&six.text(), "hola")).await, "EAFNOSUPPORT");
    let connected = agent.connect_udp("four", &six.text()).await;
    assert_eq!(error_name(connected.report.as_ref()), "EAFNOSUPPORT");
    assert_eq!(agent.kinds("four").await, ["created", "bound", "failed", "failed"]);
}

/// Port 0 is real once the kernel has chosen, and a send chooses as a bind does.
#[tokio::test]
async fn a_socket_is_bound_once_whoever_binds_it() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        let family = if ip.is_ipv4() { pb::Family::Ipv4 } else { pb::Family::Ipv6 };
        agent.create_udp("s", pb::UdpSocketSpec { family: family.into(), ..Default::default() }).await.unwrap();
        let sent = agent.send("s", &peer.text(), "hola").await;
        let local = sent.socket.unwrap().local.unwrap();
        assert!(local.port > 0, "{local:?}");
        assert_eq!(u32::from(peer.receive().await.1.port()), local.port);
        assert_eq!(error_name(agent.bind("s", &any_port(ip)).await.report.as_ref()), "EINVAL");
        assert_eq!(agent.kinds("s").await, ["created", "bound", "sent", "failed"]);
    }
}

#[tokio::test]
async fn an_address_is_taken_by_one_socket_and_must_be_of_this_host() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let taken = agent.udp("first", ip).await;
        let second = agent.create_udp("second", pb::UdpSocketSpec { bind: taken.clone(), ..Default::default() }).await;
        let error = second.unwrap().report.unwrap().error.unwrap();
        assert_eq!((error.name.as_str(), error.operation()), ("EADDRINUSE", pb::Operation::Bind));
        assert_eq!(error.local.unwrap().text, taken);
        assert_eq!(agent.socket("second").await.state(), pb::SocketState::Unbound, "it stays as far as it came");
        let foreign = if ip.is_ipv4() { "192.0.2.1:0" } else { "[2001:db8::1]:0" };
        assert_eq!(error_name(agent.bind("second", foreign).await.report.as_ref()), "EADDRNOTAVAIL");
        assert_eq!(error_name(agent.bind("second", &any_port(ip)).await.report.as_ref()), "");
    }
}

/// Linux answers ENOTCONN to shutdown(2) here and ends the direction all the same; ours must not go deaf, or busy, because of a mistake.
#[tokio::test]
async fn a_shutdown_that_fails_changes_nothing() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        let local = agent.udp("s", ip).await;
        for how in [pb::ShutdownHow::Receive, pb::ShutdownHow::Send, pb::ShutdownHow::Both] {
            let report = agent.shut_down("s", how).await.report;
            assert_eq!(error_name(report.as_ref()), "ENOTCONN");
        }
        peer.send(&local, b"still there?").await;
        assert_eq!(agent.receive_text("s").await, "still there?");
        agent.send("s", &peer.text(), "still here").await;
        assert_eq!(peer.receive_text().await.0, "still here");

        let before = cpu_ticks();
        let silence = pb::WaitEventRequest { timeout: millis(500), expect_none: true, ..Default::default() };
        assert!(agent.wait(silence).await.unwrap().timed_out);
        assert!(cpu_ticks() - before < 20, "the agent is busy with nothing");
    }
}

/// A connected socket has directions, as a stream does.
#[tokio::test]
async fn a_connected_socket_can_be_shut_down() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        let local = agent.udp_with("s", ip, pb::UdpSocketSpec { connect: peer.text(), ..Default::default() }).await;
        assert_eq!(error_name(agent.shut_down("s", pb::ShutdownHow::Send).await.report.as_ref()), "");
        assert_eq!(agent.send_error("s", datagram("", "hola")).await, "EPIPE");
        peer.send(&local, b"one way").await;
        assert_eq!(agent.receive_text("s").await, "one way");
        assert_eq!(error_name(agent.shut_down("s", pb::ShutdownHow::Both).await.report.as_ref()), "");
        assert!(agent.receive("s").await.unwrap().end);
        let before = cpu_ticks();
        let silence = pb::WaitEventRequest { timeout: millis(500), expect_none: true, ..Default::default() };
        assert!(agent.wait(silence).await.unwrap().timed_out);
        assert!(cpu_ticks() - before < 20, "the agent is busy with nothing");
    }
}

/// What this thread, and so the whole agent of a test, has used: hundredths of a second. proc(5).
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
