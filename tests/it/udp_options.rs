//! Options that only datagrams have: how far they go, to how many, by which way.

use std::net::Ipv4Addr;

use farsock::wire::pb;
use farsock::wire::pb::socket_option::Value;

use crate::harness::{Agent, LOOPBACKS, UdpPeer, datagram, error_name};

fn option(name: &str, value: Value) -> pb::SocketOption {
    pb::SocketOption { name: name.into(), value: Some(value) }
}

async fn set(agent: &Agent, option: pb::SocketOption) -> pb::OptionResult {
    let request = pb::SetSocketOptionsRequest { socket_id: "s".into(), options: vec![option], ..Default::default() };
    agent.sockets().set_socket_options(request).await.unwrap().into_inner().options.remove(0)
}

async fn get(agent: &Agent, name: &str) -> Option<Value> {
    let request = pb::GetSocketOptionsRequest { socket_id: "s".into(), names: vec![name.into()], ..Default::default() };
    let result = agent.sockets().get_socket_options(request).await.unwrap().into_inner().options.remove(0);
    assert_eq!(result.error, None);
    result.effective.unwrap().value
}

/// How far a datagram may go, and how it is marked, is seen where it arrives.
#[tokio::test]
async fn hop_limit_and_traffic_class_are_seen_at_the_other_end() {
    for (ip, hops, class) in [(LOOPBACKS[0], "IP_TTL", "IP_TOS"), (LOOPBACKS[1], "IPV6_UNICAST_HOPS", "IPV6_TCLASS")] {
        let (here, there) = (Agent::start().await, Agent::start().await);
        let remote = there.udp("far", ip).await;
        let options = vec![option(hops, Value::Number(5)), option(class, Value::Number(0x2e << 2))];
        here.udp_with("s", ip, pb::UdpSocketSpec { options, ..Default::default() }).await;
        here.send("s", &remote, "hola").await;
        let (_, datagram) = there.datagram("far").await;
        assert_eq!((datagram.hop_limit, datagram.traffic_class), (Some(5), Some(0x2e << 2)));
    }
}

#[tokio::test]
async fn multicast_options_are_set_and_told() {
    for (ip, prefix, hops) in [(LOOPBACKS[0], "IP", "IP_MULTICAST_TTL"), (LOOPBACKS[1], "IPV6", "IPV6_MULTICAST_HOPS")]
    {
        let agent = Agent::start().await;
        agent.udp("s", ip).await;
        let (looped, all) = (format!("{prefix}_MULTICAST_LOOP"), format!("{prefix}_MULTICAST_ALL"));
        assert_eq!(get(&agent, hops).await, Some(Value::Number(1)), "the link, and no further");
        assert_eq!(get(&agent, &looped).await, Some(Value::Enabled(true)));
        for option in [
            option(hops, Value::Number(9)),
            option(&looped, Value::Enabled(false)),
            option(&all, Value::Enabled(false)),
        ] {
            let result = set(&agent, option.clone()).await;
            assert_eq!(
                (result.asked.as_ref(), result.effective.as_ref(), result.error),
                (Some(&option), Some(&option), None)
            );
            assert_eq!(get(&agent, &option.name).await, option.value);
        }
        assert_eq!(agent.kinds("s").await, ["created", "bound", "option_set", "option_set", "option_set"]);
    }
}

#[tokio::test]
async fn the_interface_for_multicast_goes_by_its_name() {
    for (ip, name) in [(LOOPBACKS[0], "IP_MULTICAST_IF"), (LOOPBACKS[1], "IPV6_MULTICAST_IF")] {
        let agent = Agent::start().await;
        agent.udp("s", ip).await;
        let result = set(&agent, option(name, Value::Text("lo".into()))).await;
        assert_eq!(result.error, None);
        if ip.is_ipv6() {
            // For IPv4 the kernel tells an address, and not the interface.
            assert_eq!(get(&agent, name).await, Some(Value::Text("lo".into())));
        }
        assert_eq!(set(&agent, option(name, Value::Text(String::new()))).await.error, None, "none again");
        let error = set(&agent, option(name, Value::Text("no-such-if".into()))).await.error.unwrap();
        assert_eq!((error.name.as_str(), error.subject.as_str()), ("ENODEV", name));
    }
}

/// Groups can be sent to without being a member of them.
#[tokio::test]
async fn a_group_is_reached_by_the_interface_that_was_chosen() {
    let agent = Agent::start().await;
    let group = Ipv4Addr::new(239, 76, 25, 1);
    let member = UdpPeer(tokio::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap());
    member.0.join_multicast_v4(group, Ipv4Addr::LOCALHOST).unwrap();
    let options = vec![option("IP_MULTICAST_IF", Value::Text("lo".into()))];
    agent.create_udp("s", pb::UdpSocketSpec { options, ..Default::default() }).await.unwrap();
    agent.send("s", &format!("{group}:{}", member.address().port()), "to all").await;
    assert_eq!(member.receive_text().await.0, "to all");
}

#[tokio::test]
async fn a_broadcast_reaches_whoever_listens() {
    let agent = Agent::start().await;
    let listener = UdpPeer(tokio::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap());
    let options = vec![option("SO_BROADCAST", Value::Enabled(true))];
    agent.udp_with("s", LOOPBACKS[0], pb::UdpSocketSpec { options, ..Default::default() }).await;
    agent.send("s", &format!("127.255.255.255:{}", listener.address().port()), "to all").await;
    assert_eq!(listener.receive_text().await.0, "to all");
}

/// A datagram to a group or a broadcast address tells where it was sent to, and is answered from an address of this host.
#[tokio::test]
async fn a_broadcast_shows_its_destination_and_can_be_answered() {
    let agent = Agent::start().await;
    agent.create_udp("s", pb::UdpSocketSpec { bind: "0.0.0.0:0".into(), ..Default::default() }).await.unwrap();
    let port = agent.socket("s").await.local.unwrap().port;
    let asker = UdpPeer::bind(LOOPBACKS[0]).await;
    asker.0.set_broadcast(true).unwrap();
    let everybody = format!("127.255.255.255:{port}");
    asker.send(&everybody, b"who is there?").await;
    let (seq, question) = agent.datagram("s").await;
    assert_eq!(question.destination.unwrap().text, everybody);
    let answer = pb::Datagram { reply_to_event: seq, ..datagram("", "me") };
    let sent = agent.try_send("s", vec![answer]).await.unwrap();
    assert_eq!(error_name(sent.report.as_ref()), "", "{sent:?}");
    let (bytes, from) = asker.receive().await;
    assert_eq!((bytes.as_slice(), from.to_string()), (&b"me"[..], format!("127.0.0.1:{port}")));
}

/// Options that fail at creation stop it there, and the socket is left as it is.
#[tokio::test]
async fn an_option_that_fails_at_creation_is_told_by_its_name() {
    let agent = Agent::start().await;
    let options =
        vec![option("SO_BROADCAST", Value::Enabled(true)), option("IP_MULTICAST_IF", Value::Text("no-such-if".into()))];
    let spec = pb::UdpSocketSpec { options, bind: "127.0.0.1:0".into(), ..Default::default() };
    let created = agent.create_udp("s", spec).await.unwrap();
    let error = created.report.unwrap().error.unwrap();
    assert_eq!((error.operation(), error.subject.as_str()), (pb::Operation::SetOption, "IP_MULTICAST_IF"));
    assert_eq!(created.options.len(), 2);
    assert!(created.options[0].error.is_none() && created.options[1].error.is_some());
    assert_eq!(created.socket.unwrap().state(), pb::SocketState::Unbound);
    assert_eq!(agent.kinds("s").await, ["created", "option_set", "failed"]);
}
