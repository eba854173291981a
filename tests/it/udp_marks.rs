//! What one datagram has for itself: its hop limit, its traffic class, and the address that it leaves from.

use std::net::IpAddr;

use farsock::wire::pb;
use tonic::Code;

use crate::harness::{Agent, LOOPBACKS, UdpPeer, any_port, datagram, error_name};

/// A socket on all addresses, and its port.
async fn everywhere(agent: &Agent, id: &str, ip: IpAddr, options: Vec<pb::SocketOption>) -> u32 {
    let wildcard = if ip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let spec = pb::UdpSocketSpec { bind: wildcard.into(), options, ..Default::default() };
    agent.create_udp(id, spec).await.unwrap().socket.unwrap().local.unwrap().port
}

fn number(name: &str, number: i32) -> pb::SocketOption {
    pb::SocketOption { name: name.into(), value: Some(pb::socket_option::Value::Number(number)) }
}

#[tokio::test]
async fn a_datagram_has_its_own_hop_limit_and_traffic_class() {
    for (ip, hops, class) in [(LOOPBACKS[0], "IP_TTL", "IP_TOS"), (LOOPBACKS[1], "IPV6_UNICAST_HOPS", "IPV6_TCLASS")] {
        let agent = Agent::start().await;
        let remote = agent.udp("far", ip).await;
        everywhere(&agent, "s", ip, vec![number(hops, 50), number(class, 4)]).await;
        let plain = datagram(&remote, "as the socket");
        let both = pb::Datagram { hop_limit: Some(255), traffic_class: Some(0xb8), ..datagram(&remote, "both") };
        let hops = pb::Datagram { hop_limit: Some(1), ..datagram(&remote, "hops") };
        let class = pb::Datagram { traffic_class: Some(0), ..datagram(&remote, "class") };
        let sent = agent.try_send("s", vec![plain.clone(), both, hops, class, plain]).await.unwrap();
        assert_eq!((error_name(sent.report.as_ref()), sent.datagrams_sent()), ("", 5), "{sent:?}");
        let mut last = 0;
        for (hop_limit, traffic_class) in [(50, 4), (255, 0xb8), (1, 4), (50, 0), (50, 4)] {
            let (seq, told) = agent.datagram_after("far", last).await;
            assert_eq!((told.hop_limit, told.traffic_class), (Some(hop_limit), Some(traffic_class)), "{told:?}");
            let received = agent.receive("far").await.unwrap();
            assert_eq!(received.event_seq, seq);
            assert_eq!((received.hop_limit, received.traffic_class), (Some(hop_limit), Some(traffic_class)));
            last = seq;
        }
    }
}

#[tokio::test]
async fn whoever_pulls_is_told_as_well() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let delivery = Some(pb::Delivery { mode: pb::DeliveryMode::Pull.into(), ..Default::default() });
        let remote = agent.udp_with("far", ip, pb::UdpSocketSpec { delivery, ..Default::default() }).await;
        everywhere(&agent, "s", ip, vec![]).await;
        let marked = pb::Datagram { hop_limit: Some(9), traffic_class: Some(12), ..datagram(&remote, "hola") };
        assert_eq!(agent.send_error("s", marked).await, "");
        let received = agent.receive("far").await.unwrap();
        assert_eq!((received.hop_limit, received.traffic_class), (Some(9), Some(12)));
    }
}

#[tokio::test]
async fn a_datagram_leaves_from_the_address_that_it_names() {
    for (ip, source) in [(LOOPBACKS[0], "127.0.0.5"), (LOOPBACKS[1], "::1")] {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        let port = everywhere(&agent, "s", ip, vec![]).await;
        let from = pb::Datagram { source: source.into(), ..datagram(&peer.text(), "hola") };
        assert_eq!(agent.send_error("s", from).await, "");
        let (text, seen) = peer.receive_text().await;
        assert_eq!((text.as_str(), seen.ip().to_string(), u32::from(seen.port())), ("hola", source.into(), port));
    }
}

/// Also where the socket is bound to another address, connected, or answering: the datagram has the last word.
#[tokio::test]
async fn the_source_of_a_datagram_goes_before_all_others() {
    let agent = Agent::start().await;
    let peer = UdpPeer::bind(LOOPBACKS[0]).await;
    let local = agent.udp("s", LOOPBACKS[0]).await;
    peer.send(&local, b"question").await;
    let (seq, _) = agent.datagram("s").await;
    let source = || "127.0.0.7".to_owned();
    let answer = pb::Datagram { reply_to_event: seq, source: source(), ..datagram("", "answer") };
    assert_eq!(agent.send_error("s", answer).await, "");
    assert_eq!(peer.receive_text().await.1.ip().to_string(), source());
    agent.connect_udp("s", &peer.text()).await;
    assert_eq!(agent.send_error("s", pb::Datagram { source: source(), ..datagram("", "more") }).await, "");
    assert_eq!(peer.receive_text().await.1.ip().to_string(), source());
    agent.send("s", "", "plain").await;
    assert_eq!(peer.receive_text().await.1.to_string(), local);
}

#[tokio::test]
async fn a_source_that_is_not_ours_is_an_error_of_the_kernel() {
    for (ip, foreign) in [(LOOPBACKS[0], "192.0.2.1"), (LOOPBACKS[1], "2001:db8::1")] {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        let port = everywhere(&agent, "s", ip, vec![]).await;
        let forged = pb::Datagram { source: foreign.into(), ..datagram(&peer.text(), "forged") };
        let sent = agent.try_send("s", vec![datagram(&peer.text(), "honest"), forged]).await.unwrap();
        assert_eq!(sent.datagrams_sent(), 1);
        let error = sent.report.unwrap().error.unwrap();
        // Newer kernels say of IPv4 that there is no route for such a datagram.
        assert!(["EINVAL", "ENETUNREACH"].contains(&error.name.as_str()), "{error:?}");
        assert_eq!(error.operation(), pb::Operation::Send);
        let local = error.local.unwrap();
        assert_eq!((local.address.as_str(), local.port, error.remote.unwrap().text), (foreign, port, peer.text()));
        assert!(error.hint.contains("source"), "{}", error.hint);
        assert_eq!(peer.receive_text().await.0, "honest");
    }
}

#[tokio::test]
async fn no_hop_at_all_is_for_the_kernel_to_judge() {
    for (ip, judged) in [(LOOPBACKS[0], "EINVAL"), (LOOPBACKS[1], "")] {
        let agent = Agent::start().await;
        let remote = agent.udp("far", ip).await;
        everywhere(&agent, "s", ip, vec![]).await;
        let stays = pb::Datagram { hop_limit: Some(0), ..datagram(&remote, "stay") };
        assert_eq!(agent.send_error("s", stays).await, judged);
    }
}

#[tokio::test]
async fn a_source_of_the_other_version_or_of_no_interface_is_refused() {
    for (ip, source) in [(LOOPBACKS[0], "::1"), (LOOPBACKS[1], "127.0.0.1"), (LOOPBACKS[1], "fe80::1%no-such-if")] {
        let agent = Agent::start().await;
        agent.udp("s", ip).await;
        let wrong = pb::Datagram { source: source.into(), ..datagram(&any_port(ip), "hola") };
        let refused = agent.try_send("s", vec![wrong]).await.unwrap_err();
        assert_eq!(refused.code, Code::InvalidArgument);
        assert!(refused.message.contains("datagrams[0].source"), "{}", refused.message);
        assert_eq!(agent.kinds("s").await, ["created", "bound"]);
    }
}

/// A socket for both versions sends IPv4 to mapped addresses, and marks it as IPv4.
#[tokio::test]
async fn a_mapped_destination_is_marked_as_ipv4() {
    let agent = Agent::start().await;
    let remote = agent.udp("far", LOOPBACKS[0]).await;
    let port = remote.rsplit(':').next().unwrap();
    let both = pb::SocketOption { name: "IPV6_V6ONLY".into(), value: Some(pb::socket_option::Value::Enabled(false)) };
    everywhere(&agent, "s", LOOPBACKS[1], vec![both]).await;
    let marked = pb::Datagram {
        hop_limit: Some(6),
        traffic_class: Some(16),
        source: "::ffff:127.0.0.8".into(),
        ..datagram(&format!("[::ffff:127.0.0.1]:{port}"), "mapped")
    };
    assert_eq!(agent.send_error("s", marked).await, "");
    let (_, told) = agent.datagram("far").await;
    assert_eq!((told.hop_limit, told.traffic_class), (Some(6), Some(16)));
    assert_eq!(told.source.unwrap().address, "127.0.0.8");
}
