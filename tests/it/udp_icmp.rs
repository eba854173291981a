//! ICMP messages about datagrams: told with all that the kernel knows, and never an error of anything else.

use std::net::IpAddr;

use farsock::wire::pb;
use pb::event::Body;

use crate::harness::{Agent, DeadPort, LOOPBACKS, Namespace, UdpPeer, datagram, error_name};

fn hears(ip: IpAddr, on: bool) -> pb::SocketOption {
    let name = if ip.is_ipv4() { "IP_RECVERR" } else { "IPV6_RECVERR" };
    pb::SocketOption { name: name.into(), value: Some(pb::socket_option::Value::Enabled(on)) }
}

/// A UDP socket that hears of ICMP messages.
fn hearing(ip: IpAddr) -> pb::UdpSocketSpec {
    pb::UdpSocketSpec { options: vec![hears(ip, true)], ..Default::default() }
}

fn paused(mode: pb::DeliveryMode) -> Option<pb::Delivery> {
    Some(pb::Delivery { mode: mode.into(), paused: Some(true), ..Default::default() })
}

async fn icmp_after(agent: &Agent, id: &str, after: u64) -> (u64, pb::IcmpReceivedEvent) {
    let event = agent.event_after(id, "icmp_received", after).await;
    let Some(Body::IcmpReceived(message)) = event.body else { panic!("{event:?}") };
    assert_eq!(event.request_id, "", "nobody has asked for it");
    (event.event_seq, message)
}

/// How many events of a kind a socket has had.
async fn count(agent: &Agent, id: &str, kind: &str) -> usize {
    agent.kinds(id).await.iter().filter(|known| *known == kind).count()
}

#[tokio::test]
async fn a_port_that_nobody_has_is_told_to_a_socket_that_is_not_connected() {
    for (ip, kind, code) in [(LOOPBACKS[0], 3, 3), (LOOPBACKS[1], 1, 4)] {
        let agent = Agent::start().await;
        let dead = DeadPort::udp(ip);
        let local = agent.udp_with("s", ip, hearing(ip)).await;
        agent.send("s", &dead.text(), "anybody?").await;
        let (_, message) = icmp_after(&agent, "s", 0).await;
        assert_eq!((message.r#type, message.code, message.offender.as_str()), (kind, code, ip.to_string().as_str()));
        assert_eq!(message.destination.unwrap().text, dead.text());
        let error = message.error.unwrap();
        assert_eq!((error.name.as_str(), error.operation()), ("ECONNREFUSED", pb::Operation::Send));
        assert_eq!((error.local.unwrap().text, error.remote.unwrap().text), (local, dead.text()));
        assert_eq!(error.path_mtu, None);
        assert_eq!(count(&agent, "s", "failed").await, 0);
    }
}

/// What Linux does to a socket with IP_RECVERR: the next call fails, whatever it is for. Here it does not.
#[tokio::test]
async fn a_message_about_one_destination_does_not_fail_a_send_to_another() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let (dead, alive) = (DeadPort::udp(ip), UdpPeer::bind(ip).await);
        agent.udp_with("s", ip, hearing(ip)).await;
        let to = |address: &str, number: usize| datagram(address, &number.to_string());
        let mut last = 0;
        for round in 0..20 {
            let datagrams = vec![
                to(&dead.text(), 0),
                to(&alive.text(), round),
                to(&dead.text(), 0),
                to(&dead.text(), 0),
                to(&alive.text(), round),
            ];
            let sent = agent.try_send("s", datagrams).await.unwrap();
            assert_eq!((error_name(sent.report.as_ref()), sent.datagrams_sent()), ("", 5), "{sent:?}");
            for _ in 0..2 {
                assert_eq!(alive.receive_text().await.0, round.to_string());
            }
            for _ in 0..3 {
                let (seq, message) = icmp_after(&agent, "s", last).await;
                assert_eq!(message.destination.unwrap().text, dead.text());
                last = seq;
            }
        }
        assert_eq!((count(&agent, "s", "icmp_received").await, count(&agent, "s", "failed").await), (60, 0));
    }
}

/// Nor a read: neither one that waits nor the reading of the agent.
#[tokio::test]
async fn a_message_does_not_fail_a_read() {
    for ip in LOOPBACKS {
        for mode in [pb::DeliveryMode::Events, pb::DeliveryMode::Pull] {
            let agent = Agent::start().await;
            let (dead, alive) = (DeadPort::udp(ip), UdpPeer::bind(ip).await);
            let delivery = Some(pb::Delivery { mode: mode.into(), ..Default::default() });
            let local = agent.udp_with("s", ip, pb::UdpSocketSpec { delivery, ..hearing(ip) }).await;
            let trouble = async {
                for _ in 0..5 {
                    agent.send("s", &dead.text(), "anybody?").await;
                }
                icmp_after(&agent, "s", 0).await;
                alive.send(&local, b"here").await;
            };
            let (received, ()) = tokio::join!(agent.receive_text("s"), trouble);
            assert_eq!(received, "here");
            assert_eq!(count(&agent, "s", "failed").await, 0);
        }
    }
}

#[tokio::test]
async fn sockets_that_are_not_read_are_told_as_well() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let dead = DeadPort::udp(ip);
        let specs = [
            ("paused", pb::UdpSocketSpec { delivery: paused(pb::DeliveryMode::Events), ..hearing(ip) }),
            ("pulled", pb::UdpSocketSpec { delivery: paused(pb::DeliveryMode::Pull), ..hearing(ip) }),
            ("mute", pb::UdpSocketSpec { direction: pb::Direction::SendOnly.into(), ..hearing(ip) }),
        ];
        for (id, spec) in specs {
            agent.udp_with(id, ip, spec).await;
            let mut last = 0;
            for _ in 0..3 {
                agent.send(id, &dead.text(), "anybody?").await;
                last = icmp_after(&agent, id, last).await.0;
            }
            assert_eq!(count(&agent, id, "failed").await, 0);
        }
    }
}

#[tokio::test]
async fn a_connected_socket_is_told_who_said_it() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let dead = DeadPort::udp(ip);
        agent.udp_with("s", ip, hearing(ip)).await;
        agent.connect_udp("s", &dead.text()).await;
        for _ in 0..3 {
            let sent = agent.try_send("s", vec![datagram("", "anybody?")]).await.unwrap();
            assert_eq!((error_name(sent.report.as_ref()), sent.datagrams_sent()), ("", 1));
        }
        let (_, message) = icmp_after(&agent, "s", 0).await;
        assert_eq!((message.offender, message.destination.unwrap().text), (ip.to_string(), dead.text()));
        assert_eq!(count(&agent, "s", "failed").await, 0);
    }
}

/// It is asked for by the option, which can be turned on and off at any time.
#[tokio::test]
async fn without_the_option_nothing_is_told() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let (dead, alive) = (DeadPort::udp(ip), UdpPeer::bind(ip).await);
        let local = agent.udp("s", ip).await;
        let set = async |on| {
            let request = pb::SetSocketOptionsRequest {
                socket_id: "s".into(),
                options: vec![hears(ip, on)],
                ..Default::default()
            };
            agent.sockets().set_socket_options(request).await.unwrap();
        };
        // A datagram of ours and back, after which the message has come if it comes at all.
        let silent = async || {
            agent.send("s", &dead.text(), "anybody?").await;
            alive.send(&local, b"here").await;
            agent.receive_text("s").await;
        };
        silent().await;
        set(true).await;
        assert_eq!(count(&agent, "s", "icmp_received").await, 0);
        agent.send("s", &dead.text(), "anybody?").await;
        icmp_after(&agent, "s", 0).await;
        set(false).await;
        silent().await;
        assert_eq!((count(&agent, "s", "icmp_received").await, count(&agent, "s", "failed").await), (1, 0));
    }
}

/// One that answers, and one that is asked, with a router in between, over which only shorter packets go on.
struct Lab {
    client: Namespace,
    _router: Namespace,
    _server: Namespace,
}

impl Lab {
    fn new() -> Option<Self> {
        let (client, router, server) = (Namespace::new()?, Namespace::new()?, Namespace::new()?);
        client.cable(&router, "near", &[("10.77.1.2/24", "10.77.1.1/24"), ("fd77:1::2/64", "fd77:1::1/64")]);
        router.cable(&server, "far", &[("10.77.2.1/24", "10.77.2.2/24"), ("fd77:2::1/64", "fd77:2::2/64")]);
        router.ip("link set far mtu 1400");
        server.ip("link set far mtu 1400");
        router.set(&[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")]);
        for (namespace, v4, v6) in [(&client, "10.77.1.1", "fd77:1::1"), (&server, "10.77.2.1", "fd77:2::1")] {
            namespace.ip(&format!("route add default via {v4}"));
            namespace.ip(&format!("-6 route add default via {v6}"));
        }
        router.ip("route add prohibit 10.99.0.0/16");
        router.ip("-6 route add prohibit fd99::/16");
        router.ip("route add unreachable 10.98.0.0/16");
        router.ip("-6 route add unreachable fd98::/16");
        Some(Self { client, _router: router, _server: server })
    }
}

/// What must come of a datagram: who says so, type, code, error, and what the path takes.
type Said<'a> = (&'a str, u32, u32, &'a str, Option<u32>);

/// Where a datagram goes, what it is, and what must come of it.
type Row<'a> = (&'a str, fn(&str) -> pb::Datagram, Said<'a>);

async fn ask(agent: &Agent, ip: IpAddr, to: &str, sent: pb::Datagram, said: Said<'_>) {
    let wildcard = if ip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let id = format!("s-{}", agent.open_sockets().await);
    agent.create_udp(&id, pb::UdpSocketSpec { bind: wildcard.into(), ..hearing(ip) }).await.unwrap();
    assert_eq!(agent.send_error(&id, sent).await, "");
    let (_, message) = icmp_after(agent, &id, 0).await;
    let error = message.error.unwrap();
    let told = (message.offender.as_str(), message.r#type, message.code, error.name.as_str(), error.path_mtu);
    assert_eq!(told, said, "{to}");
    assert_eq!(message.destination.unwrap().text, to);
}

#[tokio::test]
async fn routers_and_hosts_on_the_way_are_named() {
    let Some(lab) = Lab::new() else { return };
    let agent = lab.client.agent().await;
    let v4: [Row<'_>; 5] = [
        ("10.77.2.2:9", |to| datagram(to, "no such port"), ("10.77.2.2", 3, 3, "ECONNREFUSED", None)),
        ("10.98.0.1:9", |to| datagram(to, "unreachable"), ("10.77.1.1", 3, 1, "EHOSTUNREACH", None)),
        ("10.99.0.1:9", |to| datagram(to, "prohibited"), ("10.77.1.1", 3, 13, "EHOSTUNREACH", None)),
        ("10.77.2.2:9", one_hop, ("10.77.1.1", 11, 0, "EHOSTUNREACH", None)),
        ("10.77.2.2:9", too_big, ("10.77.1.1", 3, 4, "EMSGSIZE", Some(1400))),
    ];
    let v6: [Row<'_>; 5] = [
        ("[fd77:2::2]:9", |to| datagram(to, "no such port"), ("fd77:2::2", 1, 4, "ECONNREFUSED", None)),
        ("[fd98::1]:9", |to| datagram(to, "unreachable"), ("fd77:1::1", 1, 0, "ENETUNREACH", None)),
        ("[fd99::1]:9", |to| datagram(to, "prohibited"), ("fd77:1::1", 1, 1, "EACCES", None)),
        ("[fd77:2::2]:9", one_hop, ("fd77:1::1", 3, 0, "EHOSTUNREACH", None)),
        ("[fd77:2::2]:9", too_big, ("fd77:1::1", 2, 0, "EMSGSIZE", Some(1400))),
    ];
    for (ip, row) in LOOPBACKS.into_iter().zip([v4, v6]) {
        for (to, sent, said) in row {
            ask(&agent, ip, to, sent(to), said).await;
        }
    }
    agent.stop().await;
}

/// It has only one hop to go, and the router is that.
fn one_hop(to: &str) -> pb::Datagram {
    pb::Datagram { hop_limit: Some(1), ..datagram(to, "one hop") }
}

/// It fits into a packet of 1500 bytes, and not into one of 1400.
fn too_big(to: &str) -> pb::Datagram {
    datagram(to, &"x".repeat(1420))
}

// === What a path takes ===

/// Sends packets that nobody may cut on the way.
fn whole(ip: IpAddr) -> pb::SocketOption {
    let name = if ip.is_ipv4() { "IP_MTU_DISCOVER" } else { "IPV6_MTU_DISCOVER" };
    pb::SocketOption { name: name.into(), value: Some(pb::socket_option::Value::Text("do".into())) }
}

/// One datagram, or what the kernel says of it: its errno, and what the path takes.
async fn try_one(agent: &Agent, id: &str, to: &str, size: usize) -> Option<(String, Option<u32>)> {
    let sent = agent.try_send(id, vec![datagram(to, &"x".repeat(size))]).await.unwrap();
    let error = sent.report.unwrap().error?;
    let in_words = error.path_mtu.is_some_and(|mtu| error.message.contains(&format!("packets of {mtu} bytes")));
    assert_eq!(in_words, error.path_mtu.is_some(), "{}", error.message);
    Some((error.name, error.path_mtu))
}

fn too_long(path_mtu: Option<u32>) -> Option<(String, Option<u32>)> {
    Some(("EMSGSIZE".to_owned(), path_mtu))
}

#[tokio::test]
async fn a_datagram_that_the_path_does_not_take_is_refused_with_what_it_takes() {
    let Some(lab) = Lab::new() else { return };
    let agent = lab.client.agent().await;
    for (ip, to, headers) in [(LOOPBACKS[0], "10.77.2.2:9", 28), (LOOPBACKS[1], "[fd77:2::2]:9", 48)] {
        let id = |id: &str| format!("{id}-{headers}");
        let create = async |id: &str, options: Vec<pb::SocketOption>| {
            let bind = if ip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let spec = pb::UdpSocketSpec { bind: bind.into(), options, ..Default::default() };
            agent.create_udp(id, spec).await.unwrap();
        };
        // The first one leaves, and the router says that it goes no further.
        let told = id("told");
        create(&told, vec![whole(ip), hears(ip, true)]).await;
        assert_eq!(try_one(&agent, &told, to, 1500 - headers).await, None);
        let (_, message) = icmp_after(&agent, &told, 0).await;
        assert_eq!(message.error.unwrap().path_mtu, Some(1400));
        // From then on this host knows.
        assert_eq!(try_one(&agent, &told, to, 1500 - headers).await, too_long(Some(1400)));
        assert_eq!(try_one(&agent, &told, to, 1400 - headers + 1).await, too_long(Some(1400)));
        assert_eq!(try_one(&agent, &told, to, 1400 - headers).await, None);

        // It is told to connected sockets as well, and to others not at all.
        let (connected, other) = (id("connected"), id("other"));
        create(&connected, vec![whole(ip)]).await;
        agent.connect_udp(&connected, to).await;
        assert_eq!(try_one(&agent, &connected, "", 1400 - headers + 1).await, too_long(Some(1400)));
        create(&other, vec![whole(ip)]).await;
        assert_eq!(try_one(&agent, &other, to, 1400 - headers + 1).await, too_long(None));

        // Where it may be cut, it goes.
        let cut = id("cut");
        create(&cut, vec![]).await;
        assert_eq!(try_one(&agent, &cut, to, 4000).await, None);
    }
    agent.stop().await;
}

/// More than UDP can say of itself is not the fault of a path.
#[tokio::test]
async fn a_datagram_that_is_too_long_for_any_path_blames_none() {
    for (ip, longest) in [(LOOPBACKS[0], 65_507), (LOOPBACKS[1], 65_527)] {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        agent.udp_with("s", ip, hearing(ip)).await;
        assert_eq!(try_one(&agent, "s", &peer.text(), longest + 1).await, too_long(None));
        agent.connect_udp("s", &peer.text()).await;
        assert_eq!(try_one(&agent, "s", "", longest + 1).await, too_long(None));
        assert_eq!(try_one(&agent, "s", "", longest).await, None);
        assert_eq!(peer.receive().await.0.len(), longest);
    }
}
