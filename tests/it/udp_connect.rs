//! A remote address for a UDP socket: what it lets in, what it tells of, and how it goes again.

use std::net::SocketAddr;

use farsock::wire::pb;

use crate::harness::{Agent, DeadPort, LOOPBACKS, UdpPeer, any_port, datagram, error_name};

fn connected_to(remote: &str) -> pb::UdpSocketSpec {
    pb::UdpSocketSpec { connect: remote.into(), ..Default::default() }
}

#[tokio::test]
async fn a_connected_socket_talks_to_its_remote_address_only() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let (friend, stranger) = (UdpPeer::bind(ip).await, UdpPeer::bind(ip).await);
        let local = agent.udp_with("s", ip, connected_to(&friend.text())).await;
        let socket = agent.socket("s").await;
        assert_eq!((socket.state(), socket.remote.unwrap().text), (pb::SocketState::Connected, friend.text()));
        assert_eq!(
            agent.kinds("s").await,
            ["created", "bound", "connected"],
            "nothing is attempted: UDP only notes it"
        );

        agent.send("s", "", "to whom it concerns").await;
        assert_eq!(friend.receive_text().await, ("to whom it concerns".into(), local.parse().unwrap()));
        stranger.send(&local, b"let me in").await;
        friend.send(&local, b"it's me").await;
        assert_eq!(agent.receive_text("s").await, "it's me");
        let event = agent.event("s", "sent").await;
        let Some(pb::event::Body::Sent(sent)) = event.body else { panic!("{event:?}") };
        assert_eq!(sent.destination.unwrap().text, friend.text());
    }
}

#[tokio::test]
async fn a_socket_can_connect_again_and_again() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let (first, second) = (UdpPeer::bind(ip).await, UdpPeer::bind(ip).await);
        let local = agent.udp_with("s", ip, connected_to(&first.text())).await;
        let connected = agent.connect_udp("s", &second.text()).await;
        assert_eq!(connected.socket.unwrap().remote.unwrap().text, second.text());
        first.send(&local, b"still me?").await;
        second.send(&local, b"me now").await;
        assert_eq!(agent.receive_text("s").await, "me now");
    }
}

#[tokio::test]
async fn a_disconnected_socket_hears_everybody_again() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let (friend, stranger) = (UdpPeer::bind(ip).await, UdpPeer::bind(ip).await);
        // Only a port that was asked for stays: the test takes one that was free a moment ago.
        let local = UdpPeer::bind(ip).await.text();
        let spec = pb::UdpSocketSpec { bind: local.clone(), ..connected_to(&friend.text()) };
        let created = agent.create_udp("s", spec).await.unwrap();
        assert_eq!(error_name(created.report.as_ref()), "", "{created:?}");
        let socket = agent.disconnect("s").await.socket.unwrap();
        assert_eq!((socket.state(), socket.remote), (pb::SocketState::Bound, None));
        assert_eq!(socket.local.unwrap().text, local, "the address was asked for, and stays");
        stranger.send(&local, b"let me in").await;
        assert_eq!(agent.receive_text("s").await, "let me in");
        assert_eq!(agent.send_error("s", datagram("", "to whom?")).await, "EDESTADDRREQ");
        assert_eq!(
            agent.kinds("s").await,
            ["created", "bound", "connected", "disconnected", "datagram_received", "failed"]
        );
    }
}

/// getpeername(2) tells whom the kernel has made of it.
#[tokio::test]
async fn who_connects_to_the_wildcard_address_is_connected_to_this_host() {
    for (ip, wildcard) in LOOPBACKS.into_iter().zip(["0.0.0.0", "[::]"]) {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        agent.udp_with("s", ip, connected_to(&format!("{wildcard}:{}", peer.address().port()))).await;
        assert_eq!(agent.socket("s").await.remote.unwrap().text, peer.text());
        let event = agent.event("s", "connected").await;
        let Some(pb::event::Body::Connected(connected)) = event.body else { panic!("{event:?}") };
        assert_eq!(connected.remote.unwrap().text, peer.text());
    }
}

/// A disconnect takes only the port back that the kernel had chosen: what is sent next leaves from the address that was asked for.
#[tokio::test]
async fn a_disconnected_socket_keeps_its_address_when_it_gets_another_port() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        agent.udp_with("s", ip, connected_to(&peer.text())).await;
        agent.disconnect("s").await;
        let sent = agent.send("s", &peer.text(), "hola").await;
        let local = sent.socket.unwrap().local.unwrap();
        assert_eq!(local.address, ip.to_string());
        assert_eq!(peer.receive_text().await.1.to_string(), local.text);
    }
}

/// Linux takes a port of its own choice back together with the remote address.
#[tokio::test]
async fn a_port_that_nobody_asked_for_goes_with_the_remote_address() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        let family = if ip.is_ipv4() { pb::Family::Ipv4 } else { pb::Family::Ipv6 };
        agent.create_udp("s", pb::UdpSocketSpec { family: family.into(), ..connected_to(&peer.text()) }).await.unwrap();
        let plain = std::net::UdpSocket::bind(any_port(ip)).unwrap();
        plain.connect(peer.address()).unwrap();
        rustix::net::connect_unspec(&plain).unwrap();
        let kept = plain.local_addr().unwrap().port() != 0;

        let socket = agent.disconnect("s").await.socket.unwrap();
        assert_eq!((socket.local.is_some(), socket.state() == pb::SocketState::Bound), (kept, kept));
        // It works on all the same, from another port.
        agent.send("s", &peer.text(), "hola").await;
        let (_, from) = peer.receive().await;
        peer.send(&from.to_string(), b"back").await;
        assert_eq!(agent.receive_text("s").await, "back");
    }
}

/// An ICMP port unreachable comes back to a connected socket, once, and clears with being told.
#[tokio::test]
async fn nobody_there_is_told_once_and_then_forgotten() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let dead = DeadPort::udp(ip);
        let gone = dead.text();
        agent.udp_with("s", ip, connected_to(&gone)).await;
        agent.send("s", "", "anybody there?").await;
        let event = agent.event("s", "failed").await;
        let Some(pb::event::Body::Failed(failed)) = event.body else { panic!("{event:?}") };
        let error = failed.error.unwrap();
        assert_eq!((error.name.as_str(), error.remote.unwrap().text), ("ECONNREFUSED", gone.clone()));
        assert_eq!(agent.socket("s").await.state(), pb::SocketState::Connected, "it stays open");

        // It was told, so that the next datagram goes out again, and causes the next one.
        agent.send("s", "", "really not?").await;
        agent.event_after("s", "failed", event.event_seq).await;
        let closed = agent.close("s").await.socket.unwrap().closed.unwrap();
        assert_eq!((closed.datagrams_sent, closed.reason()), (2, pb::CloseReason::Closed));
        assert_eq!(
            agent.kinds("s").await,
            ["created", "bound", "connected", "sent", "failed", "sent", "failed", "closed"]
        );
    }
}

/// With nobody reading, the error waits for the next use: a send.
#[tokio::test]
async fn the_next_send_is_told_where_nobody_reads() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let dead = DeadPort::udp(ip);
        let gone = dead.text();
        let delivery = Some(pb::Delivery { mode: pb::DeliveryMode::Pull.into(), ..Default::default() });
        agent.udp_with("s", ip, pb::UdpSocketSpec { delivery, ..connected_to(&gone) }).await;
        agent.send("s", "", "anybody there?").await;
        // Over loopback the ICMP message is there before the system call returns.
        assert!(agent.socket("s").await.readiness.unwrap().failed);
        let sent = agent.try_send("s", vec![datagram("", "hello?"), datagram("", "hello?")]).await.unwrap();
        assert_eq!((error_name(sent.report.as_ref()), sent.datagrams_sent()), ("ECONNREFUSED", 0));
        assert!(!agent.socket("s").await.readiness.unwrap().failed);
        agent.send("s", "", "hello?").await;
        assert_eq!(agent.kinds("s").await, ["created", "bound", "connected", "sent", "failed", "sent"]);
    }
}

#[tokio::test]
async fn the_next_receive_is_told_where_somebody_pulls() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let dead = DeadPort::udp(ip);
        let gone = dead.text();
        let delivery = Some(pb::Delivery { mode: pb::DeliveryMode::Pull.into(), ..Default::default() });
        agent.udp_with("s", ip, pb::UdpSocketSpec { delivery, ..connected_to(&gone) }).await;
        agent.send("s", "", "anybody there?").await;
        let received = agent.receive("s").await.unwrap();
        assert_eq!(error_name(received.report.as_ref()), "ECONNREFUSED");
    }
}

#[tokio::test]
async fn an_unconnected_socket_is_told_nothing() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let (dead, peer) = (DeadPort::udp(ip), UdpPeer::bind(ip).await);
        agent.udp("s", ip).await;
        agent.send("s", &dead.text(), "anybody there?").await;
        agent.send("s", &peer.text(), "you are").await;
        peer.receive().await;
        assert_eq!(agent.kinds("s").await, ["created", "bound", "sent", "sent"]);
    }
}

#[tokio::test]
async fn a_name_connects_and_its_lookup_is_told() {
    let agent = Agent::start().await;
    let peer = UdpPeer::bind(LOOPBACKS[0]).await;
    agent.udp("s", LOOPBACKS[0]).await;
    let connected = agent.connect_udp("s", &format!("localhost:{}", peer.address().port())).await;
    assert_eq!(connected.socket.unwrap().remote.unwrap().text, peer.text());
    assert_eq!(agent.kinds("s").await, ["created", "bound", "looked_up", "connected"]);
    let missing = agent.connect_udp("s", "no-such-host.invalid:53").await;
    let error = missing.report.unwrap().error.unwrap();
    assert!(error.name.starts_with("EAI_") && error.operation() == pb::Operation::LookUp, "{error:?}");
    assert_eq!(error.subject, "no-such-host.invalid");
    assert_eq!(agent.socket("s").await.remote.unwrap().text, peer.text(), "it stays connected");
}

/// Connecting chooses the local address as the route has it.
#[tokio::test]
async fn a_connect_without_a_bind_shows_the_local_address_it_got() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        let created = agent.create_udp("s", connected_to(&peer.text())).await.unwrap();
        let local: SocketAddr = created.socket.unwrap().local.unwrap().text.parse().unwrap();
        assert_eq!(local.ip(), ip);
        agent.send("s", "", "hola").await;
        assert_eq!(peer.receive().await.1, local);
        let event = agent.event("s", "connected").await;
        let Some(pb::event::Body::Connected(connected)) = event.body else { panic!("{event:?}") };
        assert_eq!(connected.local.unwrap().text, local.to_string());
    }
}
