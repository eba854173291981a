//! Receiving datagrams: all that the kernel tells of them, whole or truncated, as events or when somebody asks.

use farsock::wire::pb;
use farsock::wire::pb::socket_option::Value;
use tonic::Code;

use crate::harness::{Agent, LOOPBACKS, Refused, UdpPeer, datagram, error_name, millis, nanos, patient, within};

fn delivery(delivery: pb::Delivery) -> pb::UdpSocketSpec {
    pb::UdpSocketSpec { delivery: Some(delivery), ..Default::default() }
}

fn pull() -> pb::UdpSocketSpec {
    delivery(pb::Delivery { mode: pb::DeliveryMode::Pull.into(), ..Default::default() })
}

/// The payload as text.
fn shown(payload: Option<&pb::Payload>) -> &str {
    match payload.and_then(|payload| payload.content.as_ref()) {
        Some(pb::payload::Content::Text(text)) => text,
        other => panic!("no text: {other:?}"),
    }
}

async fn receive_at_most(agent: &Agent, id: &str, max_bytes: u32) -> pb::ReceiveSocketResponse {
    let request = pb::ReceiveSocketRequest { socket_id: id.into(), max_bytes: Some(max_bytes), ..Default::default() };
    agent.sockets().receive_socket(request).await.unwrap().into_inner()
}

async fn receive_now(agent: &Agent, id: &str) -> Result<pb::ReceiveSocketResponse, Refused> {
    let call = Some(patient(millis(0)));
    let request = pb::ReceiveSocketRequest { socket_id: id.into(), call, ..Default::default() };
    Ok(agent.sockets().receive_socket(request).await?.into_inner())
}

async fn set_paused(agent: &Agent, id: &str, paused: bool) {
    let delivery = Some(pb::Delivery { paused: Some(paused), ..Default::default() });
    let request = pb::SetSocketDeliveryRequest { socket_id: id.into(), delivery, ..Default::default() };
    agent.sockets().set_socket_delivery(request).await.unwrap();
}

#[tokio::test]
async fn a_datagram_comes_with_all_that_the_kernel_tells() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        let plain = socket2::SockRef::from(&peer.0);
        if ip.is_ipv4() {
            plain.set_ttl_v4(7).unwrap();
            plain.set_tos_v4(0xb8).unwrap();
        } else {
            plain.set_unicast_hops_v6(7).unwrap();
            plain.set_tclass_v6(0xb8).unwrap();
        }
        let local = agent.udp("s", ip).await;
        peer.send(&local, b"hola").await;
        let (_, datagram) = agent.datagram("s").await;
        let source = datagram.source.unwrap();
        assert_eq!(
            (source.text, source.address, source.port),
            (peer.text(), ip.to_string(), peer.address().port().into())
        );
        assert_eq!(datagram.destination.unwrap().text, local);
        assert_eq!(datagram.interface, "lo");
        assert_eq!((datagram.size, datagram.truncated), (Some(4), false));
        assert_eq!((datagram.hop_limit, datagram.traffic_class), (Some(7), Some(0xb8)));
        assert_eq!(shown(datagram.payload.as_ref()), "hola");
    }
}

/// Now, on the agent's clock.
async fn agent_time(agent: &Agent) -> i64 {
    let clock = agent.agent().get_clock(pb::GetClockRequest::default()).await.unwrap().into_inner();
    let now = clock.receive_time.unwrap();
    nanos(now.seconds, now.nanos)
}

/// However long a datagram waits for the agent, and by whatever way it is taken, the kernel's time is that of its arrival.
#[tokio::test]
async fn the_time_at_which_the_kernel_received_it_is_told() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        let events = agent.udp("events", ip).await;
        let pulled = agent.udp_with("pulled", ip, pull()).await;
        // The kernel begins to tell it a moment after the first socket of the host has asked for it.
        let told = async {
            loop {
                set_paused(&agent, "events", true).await;
                let before = agent_time(&agent).await;
                peer.send(&events, b"hola").await;
                peer.send(&pulled, b"hola").await;
                let after = agent_time(&agent).await;
                set_paused(&agent, "events", false).await;
                let taken = agent.receive("pulled").await.unwrap().receive_time.unwrap();
                let seen = agent.receive("events").await.unwrap();
                let event = agent.event_after("events", "datagram_received", seen.event_seq - 1).await;
                let Some(pb::event::Body::DatagramReceived(datagram)) = &event.body else { panic!("{event:?}") };
                assert_eq!(datagram.receive_time, seen.receive_time);
                let noticed = event.time.unwrap();
                let times = [datagram.receive_time.unwrap(), taken].map(|time| nanos(time.seconds, time.nanos));
                assert!(times[0] <= nanos(noticed.seconds, noticed.nanos), "{event:?}");
                assert!(times.iter().all(|time| before <= *time), "{before} {times:?}");
                if times.iter().all(|time| *time <= after) {
                    break;
                }
            }
        };
        within("times of arrival", told).await;

        for (name, on, told) in [("SO_TIMESTAMP", true, true), ("SO_TIMESTAMPNS", false, false)] {
            let options = vec![pb::SocketOption { name: name.into(), value: Some(Value::Enabled(on)) }];
            let request = pb::SetSocketOptionsRequest { socket_id: "pulled".into(), options, ..Default::default() };
            agent.sockets().set_socket_options(request).await.unwrap();
            peer.send(&pulled, b"hola").await;
            let received = agent.receive("pulled").await.unwrap();
            assert_eq!(received.receive_time.is_some(), told, "{name}");
        }
    }
}

/// UDP has messages: two are two, however fast they come.
#[tokio::test]
async fn datagrams_never_coalesce() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        let local = agent.udp("s", ip).await;
        set_paused(&agent, "s", true).await;
        let sent: Vec<String> = (0..40).map(|n| format!("number {n}")).collect();
        for payload in &sent {
            peer.send(&local, payload.as_bytes()).await;
        }
        set_paused(&agent, "s", false).await;
        let mut received = Vec::new();
        for _ in &sent {
            received.push(agent.receive_text("s").await);
        }
        assert_eq!(received, sent);
        let socket = agent.socket("s").await;
        let bytes: usize = sent.iter().map(String::len).sum();
        assert_eq!((socket.datagrams_received, socket.bytes_read), (40, Some(bytes as u64)));
    }
}

#[tokio::test]
async fn a_datagram_of_nothing_is_an_event() {
    for ip in LOOPBACKS {
        for spec in [pb::UdpSocketSpec::default(), pull()] {
            let agent = Agent::start().await;
            let peer = UdpPeer::bind(ip).await;
            let local = agent.udp_with("s", ip, spec).await;
            peer.send(&local, b"").await;
            let received = agent.receive("s").await.unwrap();
            assert_eq!((received.size, received.truncated, received.end), (Some(0), false, false), "{received:?}");
            assert_eq!(received.source.unwrap().text, peer.text());
            assert_eq!(agent.socket("s").await.datagrams_received, 1);
        }
    }
}

#[tokio::test]
async fn a_short_read_size_truncates_and_says_so() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        let local = agent.udp_with("s", ip, delivery(pb::Delivery { read_size: Some(4), ..Default::default() })).await;
        for (payload, part, truncated) in [("12345678", "1234", true), ("1234", "1234", false), ("123", "123", false)] {
            peer.send(&local, payload.as_bytes()).await;
            let received = agent.receive("s").await.unwrap();
            assert_eq!(shown(received.payload.as_ref()), part);
            assert_eq!((received.size(), received.truncated), (payload.len().try_into().unwrap(), truncated));
            let (_, datagram) = agent.datagram_after("s", received.event_seq - 1).await;
            assert_eq!((datagram.size(), datagram.truncated), (payload.len().try_into().unwrap(), truncated));
        }
        assert_eq!(agent.socket("s").await.bytes_read, Some(11), "what was lost was not read");
    }
}

/// The rest of a datagram is lost, as recv(2) has it; that of a stream would stay.
#[tokio::test]
async fn max_bytes_truncates_and_says_so() {
    for ip in LOOPBACKS {
        for spec in [pb::UdpSocketSpec::default(), pull()] {
            let agent = Agent::start().await;
            let peer = UdpPeer::bind(ip).await;
            let local = agent.udp_with("s", ip, spec).await;
            peer.send(&local, b"12345678").await;
            peer.send(&local, b"next").await;
            let received = receive_at_most(&agent, "s", 3).await;
            assert_eq!((shown(received.payload.as_ref()), received.size(), received.truncated), ("123", 8, true));
            let received = receive_at_most(&agent, "s", 4).await;
            assert_eq!((shown(received.payload.as_ref()), received.size(), received.truncated), ("next", 4, false));
        }
    }
}

#[tokio::test]
async fn a_pulled_socket_is_read_only_when_somebody_asks() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        let local = agent.udp_with("s", ip, pull()).await;
        assert!(receive_now(&agent, "s").await.unwrap().report.unwrap().timed_out);
        peer.send(&local, b"one").await;
        peer.send(&local, b"two").await;
        let socket = agent.socket("s").await;
        assert_eq!((socket.datagrams_received, socket.queues.unwrap().receive_bytes()), (0, 3), "the next one alone");
        assert!(socket.readiness.unwrap().readable);
        let received = agent.receive("s").await.unwrap();
        assert_eq!((shown(received.payload.as_ref()), received.event_seq), ("one", 0));
        assert_eq!(received.source.unwrap().text, peer.text());
        assert_eq!(received.destination.unwrap().text, local);
        assert_eq!(shown(receive_now(&agent, "s").await.unwrap().payload.as_ref()), "two");
        let socket = agent.socket("s").await;
        assert_eq!((socket.datagrams_received, socket.bytes_read), (2, Some(6)));
        assert_eq!(agent.kinds("s").await, ["created", "bound"], "nothing is logged");
    }
}

#[tokio::test]
async fn whoever_waits_gets_the_next_datagram() {
    for ip in LOOPBACKS {
        for spec in [pb::UdpSocketSpec::default(), pull()] {
            let agent = Agent::start().await;
            let peer = UdpPeer::bind(ip).await;
            let local = agent.udp_with("s", ip, spec).await;
            let (received, ()) = tokio::join!(agent.receive("s"), peer.send(&local, b"at last"));
            assert_eq!(shown(received.unwrap().payload.as_ref()), "at last");
        }
    }
}

#[tokio::test]
async fn a_paused_socket_leaves_datagrams_in_the_kernel() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        let paused = delivery(pb::Delivery { paused: Some(true), ..Default::default() });
        let local = agent.udp_with("s", ip, paused).await;
        peer.send(&local, b"patience").await;
        assert!(receive_now(&agent, "s").await.unwrap().report.unwrap().timed_out);
        let socket = agent.socket("s").await;
        assert_eq!((socket.datagrams_received, socket.queues.unwrap().receive_bytes()), (0, 8));
        assert_eq!(agent.kinds("s").await, ["created", "read_paused", "bound"]);
        set_paused(&agent, "s", false).await;
        assert_eq!(agent.receive_text("s").await, "patience");
        assert_eq!(agent.kinds("s").await, ["created", "read_paused", "bound", "read_resumed", "datagram_received"]);
    }
}

#[tokio::test]
async fn delivery_can_change_while_somebody_waits() {
    let agent = Agent::start().await;
    let peer = UdpPeer::bind(LOOPBACKS[0]).await;
    let local = agent.udp("s", LOOPBACKS[0]).await;
    let turn = async {
        let delivery = Some(pb::Delivery { mode: pb::DeliveryMode::Pull.into(), ..Default::default() });
        let request = pb::SetSocketDeliveryRequest { socket_id: "s".into(), delivery, ..Default::default() };
        agent.sockets().set_socket_delivery(request).await.unwrap();
        peer.send(&local, b"pulled").await;
    };
    let (received, ()) = tokio::join!(agent.receive("s"), turn);
    assert_eq!(shown(received.unwrap().payload.as_ref()), "pulled");
    assert_eq!(agent.kinds("s").await, ["created", "bound"]);
}

/// What has arrived is not lost because the socket has gone.
#[tokio::test]
async fn datagrams_can_be_taken_after_the_close() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        let local = agent.udp("s", ip).await;
        peer.send(&local, b"one").await;
        peer.send(&local, b"two").await;
        let (first, _) = agent.datagram("s").await;
        agent.datagram_after("s", first).await;
        agent.close("s").await;
        assert_eq!(agent.receive_text("s").await, "one");
        assert_eq!(agent.receive_text("s").await, "two");
        let refused = agent.receive("s").await.unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (Code::FailedPrecondition, "SOCKET_CLOSED"));
    }
}

#[tokio::test]
async fn unread_datagrams_are_told_at_the_close() {
    let agent = Agent::start().await;
    let peer = UdpPeer::bind(LOOPBACKS[0]).await;
    let local = agent.udp_with("s", LOOPBACKS[0], pull()).await;
    peer.send(&local, b"unread").await;
    let closed = agent.close("s").await.socket.unwrap().closed.unwrap();
    assert_eq!((closed.unread_bytes, closed.datagrams_received, closed.reason()), (6, 0, pb::CloseReason::Closed));
}

#[tokio::test]
async fn a_send_only_socket_reads_nothing() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        let direction = pb::Direction::SendOnly.into();
        let local = agent.udp_with("s", ip, pb::UdpSocketSpec { direction, ..Default::default() }).await;
        peer.send(&local, b"hola").await;
        let refused = agent.receive("s").await.unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (Code::FailedPrecondition, "WRONG_DIRECTION"));
        let sent = agent.try_send("s", vec![datagram(&peer.text(), "one way")]).await.unwrap();
        assert_eq!(error_name(sent.report.as_ref()), "");
        let socket = agent.socket("s").await;
        assert_eq!((socket.datagrams_received, socket.datagrams_sent), (0, 1));
        assert_eq!(agent.kinds("s").await, ["created", "bound", "sent"]);
    }
}

/// Bytes and datagrams, both ways, and once more at the end.
#[tokio::test]
async fn everything_is_counted() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        let local = agent.udp("s", ip).await;
        for payload in ["a", "bb", "ccc"] {
            agent.send("s", &peer.text(), payload).await;
            peer.receive().await;
            peer.send(&local, payload.repeat(2).as_bytes()).await;
            agent.receive("s").await.unwrap();
        }
        let socket = agent.socket("s").await;
        assert_eq!((socket.datagrams_sent, socket.bytes_written()), (3, 6));
        assert_eq!((socket.datagrams_received, socket.bytes_read()), (3, 12));
        let closed = agent.close("s").await.socket.unwrap().closed.unwrap();
        assert_eq!((closed.datagrams_sent, closed.bytes_written()), (3, 6));
        assert_eq!((closed.datagrams_received, closed.bytes_read(), closed.had_error), (3, 12, false));
    }
}

#[tokio::test]
async fn min_bytes_is_for_streams() {
    let agent = Agent::start().await;
    agent.udp_with("s", LOOPBACKS[0], pull()).await;
    let request = pb::ReceiveSocketRequest { socket_id: "s".into(), min_bytes: Some(1), ..Default::default() };
    let refused = Refused::from(agent.sockets().receive_socket(request).await.unwrap_err());
    assert_eq!((refused.code, refused.reason.as_str()), (Code::FailedPrecondition, "WRONG_STATE"));
}

/// Nothing of them is kept, and yet they count whole.
#[tokio::test]
async fn datagrams_can_just_be_counted() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let counted = pb::Delivery { mode: pb::DeliveryMode::Count.into(), ..Default::default() };
        let local = agent.udp_with("s", ip, delivery(counted)).await;
        let peer = UdpPeer::bind(ip).await;
        for payload in [&[1; 1000][..], b"", b"hola"] {
            peer.send(&local, payload).await;
        }
        let socket = agent.until("s", "three datagrams", |socket| socket.datagrams_received == 3).await;
        assert_eq!(socket.bytes_read(), 1004);
        assert_eq!(agent.kinds("s").await, ["created", "bound"]);
        assert_eq!(receive_now(&agent, "s").await.unwrap_err().reason, "WRONG_STATE");
        // There is no stream that could be hashed.
        let hashed = Some(pb::Delivery { hash: Some(true), ..Default::default() });
        let refused =
            agent.create_udp("t", pb::UdpSocketSpec { delivery: hashed, ..Default::default() }).await.unwrap_err();
        assert_eq!(
            (refused.code, refused.message.split(':').next()),
            (Code::InvalidArgument, Some("udp.delivery.hash"))
        );
        let request = pb::SetSocketDeliveryRequest { socket_id: "s".into(), delivery: hashed, ..Default::default() };
        assert_eq!(
            Refused::from(agent.sockets().set_socket_delivery(request).await.unwrap_err()).reason,
            "WRONG_TRANSPORT"
        );
    }
}
