//! Multicast groups on the loopback interface: joined, left, filtered by source, told, and gone with their socket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use farsock::agent::AgentConfig;
use farsock::model::limits::Limits;
use farsock::wire::pb;
use farsock::wire::pb::event::Body;

use crate::harness::{Agent, any_port, error_name, group, told};

/// A wildcard address, a group and another one, and two sources.
struct Net {
    any: IpAddr,
    group: &'static str,
    other: &'static str,
    one: &'static str,
    two: &'static str,
}

const NETS: [Net; 2] = [
    Net {
        any: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        group: "239.77.2.1",
        other: "239.77.2.2",
        one: "127.0.0.1",
        two: "127.0.0.2",
    },
    Net {
        any: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        group: "ff15::7721",
        other: "ff15::7722",
        one: "::1",
        two: "fd00::2",
    },
];

/// The address of a group with the port of a socket.
fn at(group: &str, local: &str) -> String {
    let port = local.rsplit(':').next().unwrap();
    if group.contains(':') { format!("[{group}]:{port}") } else { format!("{group}:{port}") }
}

#[tokio::test]
async fn a_member_receives_what_is_sent_to_its_group() {
    // IPv6 has no route for groups to the loopback interface.
    for Net { any, group: name, .. } in &NETS[..1] {
        let (any, name) = (*any, *name);
        let agent = Agent::start().await;
        let ear = agent.udp("ear", any).await;
        let joined = agent.try_group("join", "ear", group(name, "lo", "")).await.unwrap();
        assert_eq!(error_name(joined.report.as_ref()), "");
        let memberships: Vec<_> =
            joined.groups.iter().map(|result| told(result.membership.as_ref().unwrap())).collect();
        assert_eq!(memberships, [format!("{name} lo")]);
        assert_eq!(joined.socket.unwrap().groups.len(), 1);

        agent.udp("mouth", any).await;
        agent.leave_by("mouth", any, "lo").await;
        agent.send("mouth", &at(name, &ear), "to all").await;
        let (_, datagram) = agent.datagram("ear").await;
        assert_eq!(datagram.destination.unwrap().address, name);
        assert_eq!((datagram.interface.as_str(), datagram.hop_limit), ("lo", Some(1)), "it stays on the link");
    }
}

#[tokio::test]
async fn joining_and_leaving_are_events_and_the_socket_shows_them() {
    for Net { any, group: name, other, .. } in NETS {
        let agent = Agent::start().await;
        agent.udp("ear", any).await;
        for spec in [group(name, "lo", ""), group(other, "lo", "")] {
            assert_eq!(agent.group("join", "ear", spec).await, "");
        }
        assert_eq!(agent.groups("ear").await, [format!("{name} lo"), format!("{other} lo")]);
        let event = agent.event("ear", "group_joined").await;
        let Some(Body::GroupJoined(joined)) = event.body else { panic!("{event:?}") };
        let lo = joined.membership.unwrap();
        assert_eq!((lo.group.as_str(), lo.interface.as_str(), lo.interface_index > 0), (name, "lo", true));

        assert_eq!(agent.group("leave", "ear", group(name, "lo", "")).await, "");
        let event = agent.event("ear", "group_left").await;
        let Some(Body::GroupLeft(left)) = event.body else { panic!("{event:?}") };
        assert_eq!(left.membership.unwrap(), lo);
        assert_eq!(agent.groups("ear").await, [format!("{other} lo")]);
        assert_eq!(agent.kinds("ear").await, ["created", "bound", "group_joined", "group_joined", "group_left"]);

        let closed = agent.close("ear").await.socket.unwrap();
        assert_eq!(closed.groups, [], "the kernel leaves with the socket");
        assert!(!agent.kinds("ear").await[5..].contains(&"group_left".to_owned()));
    }
}

#[tokio::test]
async fn an_interface_has_a_name_an_index_and_addresses() {
    let lo = farsock::sys::interface::index_of("lo").unwrap().to_string();
    for Net { any, group: name, one, .. } in NETS {
        let agent = Agent::start().await;
        agent.udp("ear", any).await;
        for interface in ["lo", &lo, one] {
            assert_eq!(agent.group("join", "ear", group(name, interface, "")).await, "", "{interface}");
            assert_eq!(agent.groups("ear").await, [format!("{name} lo")], "{interface}");
            assert_eq!(agent.group("leave", "ear", group(name, interface, "")).await, "", "{interface}");
        }
    }
}

/// What is no group, no interface or no source is refused before any system call, and the field is named.
#[tokio::test]
async fn what_cannot_be_joined_is_refused_with_its_field() {
    let agent = Agent::start().await;
    agent.udp("ear", NETS[0].any).await;
    let cases = [
        ("", "lo", "", "group"),
        ("10.0.0.1", "lo", "", "group: `10.0.0.1` is not a multicast group"),
        ("223.255.255.255", "lo", "", "group"),
        ("255.255.255.255", "lo", "", "group"),
        ("240.0.0.1", "lo", "", "group"),
        ("239.1.2", "lo", "", "group"),
        ("239.1.2.3:80", "lo", "", "group"),
        ("fe00::1", "lo", "", "group"),
        ("ff02::1%lo", "lo", "", "group"),
        ("::ffff:239.1.2.3", "lo", "", "group"),
        ("ff15::7", "lo", "", "group: `ff15::7` is an IPv6 group, and the socket is of IPv4"),
        ("239.77.3.1", "no-such-if", "", "interface: there is no interface `no-such-if` on the agent's host"),
        ("239.77.3.1", "4000000", "", "interface"),
        ("239.77.3.1", "0", "", "interface"),
        ("239.77.3.1", "203.0.113.7", "", "interface"),
        ("239.77.3.1", "an interface", "", "interface: `an interface` is not an interface"),
        ("239.77.3.1", "lo", "nobody", "source: `nobody` is not the IP address of a host"),
        ("239.77.3.1", "lo", "0.0.0.0", "source"),
        ("239.77.3.1", "lo", "239.1.2.3", "source"),
        ("239.77.3.1", "lo", "::1", "source: `::1` is not of the IP version of `239.77.3.1`"),
    ];
    for (name, interface, source, says) in cases {
        for verb in ["join", "leave"] {
            let refused = agent.try_group(verb, "ear", group(name, interface, source)).await.unwrap_err();
            assert_eq!(refused.reason, "INVALID_FIELD", "{verb} {name} {interface} {source}: {refused:?}");
            assert!(refused.message.starts_with(says), "{verb} {name} {interface} {source}: {refused:?}");
        }
        let spec = pb::UdpSocketSpec { groups: vec![group(name, interface, source)], ..Default::default() };
        let spec = pb::UdpSocketSpec { bind: "0.0.0.0:0".into(), ..spec };
        let refused = agent.create_udp("new", spec).await.unwrap_err();
        assert!(refused.message.starts_with(&format!("udp.groups[0].{says}")), "{name} {interface}: {refused:?}");
    }
    for verb in ["block", "unblock"] {
        let refused = agent.try_group(verb, "ear", group("239.77.3.1", "lo", "")).await.unwrap_err();
        assert!(refused.message.starts_with("source: the source is needed"), "{refused:?}");
    }
    assert_eq!(agent.kinds("ear").await, ["created", "bound"]);
    let created = agent.create_tcp("line", pb::TcpSocketSpec::default()).await.unwrap();
    assert_eq!(error_name(created.report.as_ref()), "");
    for verb in ["join", "leave", "block", "unblock"] {
        let spec = group("239.77.3.1", "lo", "127.0.0.1");
        assert_eq!(agent.group(verb, "line", spec.clone()).await, "WRONG_TRANSPORT");
        assert_eq!(agent.group(verb, "nobody", spec).await, "SOCKET_NOT_FOUND");
    }
}

/// What the kernel says is a result, and leaves a `failed` event.
#[tokio::test]
async fn what_the_kernel_objects_to_is_in_the_report() {
    for Net { any, group: name, one, two, .. } in NETS {
        let agent = Agent::start().await;
        agent.udp("ear", any).await;
        let (all, from_one) = (group(name, "lo", ""), group(name, "lo", one));
        for (verb, spec, says) in [
            ("leave", &all, "EADDRNOTAVAIL"),
            ("leave", &group(name, "all", ""), "EADDRNOTAVAIL"),
            ("block", &from_one, "EINVAL"),
            ("join", &all, ""),
            ("join", &all, "EADDRINUSE"),
            ("unblock", &from_one, "EADDRNOTAVAIL"),
            ("block", &from_one, ""),
            ("block", &from_one, "EADDRNOTAVAIL"),
            ("join", &group(name, "lo", two), "EINVAL"),
            ("unblock", &from_one, ""),
            ("leave", &all, ""),
            ("join", &from_one, ""),
            ("join", &from_one, "EADDRNOTAVAIL"),
            ("block", &group(name, "lo", two), "EINVAL"),
            ("leave", &group(name, "lo", two), "EADDRNOTAVAIL"),
            ("leave", &from_one, ""),
            ("leave", &from_one, "EINVAL"),
        ] {
            let answer = agent.try_group(verb, "ear", spec.clone()).await.unwrap();
            assert_eq!(error_name(answer.report.as_ref()), says, "{verb} {spec:?}");
            let error = answer.groups[0].error.as_ref();
            assert_eq!(error.map_or("", |error| error.name.as_str()), says, "{verb} {spec:?}");
        }
        assert_eq!(agent.groups("ear").await, Vec::<String>::new());
        let event = agent.event("ear", "failed").await;
        let Some(Body::Failed(failed)) = event.body else { panic!("{event:?}") };
        let error = failed.error.unwrap();
        assert_eq!((error.operation(), error.syscall.as_str()), (pb::Operation::Leave, "setsockopt"));
        assert_eq!(error.subject, format!("{name} on lo"));
    }
}

#[tokio::test]
async fn groups_are_joined_at_creation() {
    for Net { any, group: name, other, one, .. } in NETS {
        let agent = Agent::start().await;
        let groups = vec![group(name, "lo", ""), group(other, "lo", one)];
        // The groups tell the family.
        let spec = pb::UdpSocketSpec { groups: groups.clone(), bind: ":0".into(), ..Default::default() };
        let created = agent.create_udp("ear", spec).await.unwrap();
        assert_eq!(error_name(created.report.as_ref()), "");
        assert_eq!(created.socket.unwrap().local.unwrap().address, any.to_string());
        assert_eq!(agent.groups("ear").await, [format!("{name} lo"), format!("{other} lo from {one}")]);

        // One that fails leaves the socket as far as it has come.
        let groups = vec![groups[0].clone(), groups[0].clone(), groups[1].clone()];
        let spec = pb::UdpSocketSpec { groups, bind: any_port(any), ..Default::default() };
        let created = agent.create_udp("second", spec).await.unwrap();
        let error = created.report.unwrap().error.unwrap();
        assert_eq!((error.name.as_str(), error.operation()), ("EADDRINUSE", pb::Operation::Join));
        assert_eq!(agent.groups("second").await, [format!("{name} lo")]);
    }
}

/// Only from one source, from two, from all but one. Only IPv4 has two addresses on the loopback interface.
#[tokio::test]
async fn sources_are_chosen_and_blocked() {
    let agent = Agent::start().await;
    let name = "239.77.4.1";
    let ear = agent.udp("ear", NETS[0].any).await;
    agent.set("ear", "IP_MULTICAST_ALL", pb::socket_option::Value::Enabled(false)).await;
    for (id, source) in [("one", "127.0.0.1"), ("two", "127.0.0.2")] {
        agent.udp(id, source.parse().unwrap()).await;
        agent.leave_by(id, NETS[0].any, "lo").await;
    }
    // What comes is what was let in: those that are not would come first.
    let heard = async |what: &str, expected: &[&str]| {
        for source in ["two", "one", "two"] {
            agent.send(source, &at(name, &ear), &format!("{what} {source}")).await;
        }
        agent.udp("end", "127.0.0.3".parse().unwrap()).await;
        agent.send("end", &format!("127.0.0.1:{}", ear.rsplit(':').next().unwrap()), "end").await;
        agent.close("end").await;
        let mut heard = Vec::new();
        loop {
            match agent.receive_text("ear").await {
                text if text == "end" => break,
                text => heard.push(text.rsplit(' ').next().unwrap().to_owned()),
            }
        }
        assert_eq!(heard, expected, "{what}");
    };
    heard("before", &[]).await;
    assert_eq!(agent.group("join", "ear", group(name, "lo", "127.0.0.1")).await, "");
    heard("only one", &["one"]).await;
    assert_eq!(agent.group("join", "ear", group(name, "lo", "127.0.0.2")).await, "");
    heard("both", &["two", "one", "two"]).await;
    assert_eq!(agent.group("leave", "ear", group(name, "lo", "127.0.0.1")).await, "");
    heard("only two", &["two", "two"]).await;
    assert_eq!(agent.group("leave", "ear", group(name, "lo", "")).await, "");
    heard("nobody", &[]).await;

    assert_eq!(agent.group("join", "ear", group(name, "lo", "")).await, "");
    heard("anybody", &["two", "one", "two"]).await;
    assert_eq!(agent.group("block", "ear", group(name, "lo", "127.0.0.2")).await, "");
    assert_eq!(agent.groups("ear").await, ["239.77.4.1 lo but 127.0.0.2"]);
    heard("blocked", &["one"]).await;
    assert_eq!(agent.group("unblock", "ear", group(name, "lo", "127.0.0.2")).await, "");
    heard("unblocked", &["two", "one", "two"]).await;
    assert_eq!(agent.groups("ear").await, ["239.77.4.1 lo"]);
    let kinds = agent.kinds("ear").await;
    let of_groups: Vec<&str> =
        kinds.iter().map(String::as_str).filter(|kind| kind.contains("group") || kind.contains("source")).collect();
    let expected = ["group_joined", "group_joined", "group_left", "group_left", "group_joined"];
    assert_eq!(of_groups, [&expected[..], &["source_blocked", "source_unblocked"]].concat());
}

/// A trap of Linux: the kernel says that it has done nothing, and makes the membership one of single sources, of which there are none.
#[tokio::test]
async fn a_source_of_all_cannot_be_left_and_trying_makes_deaf() {
    let agent = Agent::start().await;
    let name = "239.77.6.1";
    let ear = agent.udp("ear", NETS[0].any).await;
    agent.set("ear", "IP_MULTICAST_ALL", pb::socket_option::Value::Enabled(false)).await;
    agent.udp("mouth", NETS[0].any).await;
    agent.leave_by("mouth", NETS[0].any, "lo").await;
    let unicast = at("127.0.0.1", &ear);
    for (verb, source, answer, heard) in [
        ("join", "", "", true),
        ("leave", "127.0.0.1", "EADDRNOTAVAIL", false),
        ("leave", "", "", false),
        ("join", "", "", true),
    ] {
        assert_eq!(agent.group(verb, "ear", group(name, "lo", source)).await, answer, "{verb} {source}");
        agent.send("mouth", &at(name, &ear), "to the group").await;
        agent.send("mouth", &unicast, "to one").await;
        if heard {
            assert_eq!(agent.receive_text("ear").await, "to the group");
        }
        assert_eq!(agent.receive_text("ear").await, "to one", "{verb} {source}");
    }
}

/// Membership is a matter of the host, not of the connection or of reading.
#[tokio::test]
async fn a_socket_joins_in_every_state_that_has_a_descriptor() {
    for Net { any, group: name, one, .. } in NETS {
        let agent = Agent::start().await;
        let family = if any.is_ipv4() { pb::Family::Ipv4 } else { pb::Family::Ipv6 };
        let spec = || pb::UdpSocketSpec { family: family.into(), ..Default::default() };
        let peer = agent.udp("peer", one.parse().unwrap()).await;
        agent.create_udp("unbound", spec()).await.unwrap();
        agent.udp_with("connected", one.parse().unwrap(), pb::UdpSocketSpec { connect: peer, ..spec() }).await;
        let delivery = Some(pb::Delivery { paused: Some(true), ..Default::default() });
        agent.udp_with("paused", any, pb::UdpSocketSpec { delivery, ..spec() }).await;
        let direction = pb::Direction::SendOnly.into();
        agent.udp_with("mute", any, pb::UdpSocketSpec { direction, ..spec() }).await;
        for id in ["unbound", "connected", "paused", "mute"] {
            assert_eq!(agent.group("join", id, group(name, "lo", "")).await, "", "{id}");
            assert_eq!(agent.group("leave", id, group(name, "lo", "")).await, "", "{id}");
        }
        agent.close("paused").await;
        for verb in ["join", "leave", "block", "unblock"] {
            assert_eq!(agent.group(verb, "paused", group(name, "lo", one)).await, "SOCKET_CLOSED", "{verb}");
        }
    }
}

#[tokio::test]
async fn the_agent_has_a_limit_below_which_the_kernel_has_its_own() {
    let limits = Limits { groups: 2, ..Limits::default() };
    let agent = Agent::start_with(AgentConfig { limits, ..Default::default() }).await;
    agent.udp("ear", NETS[0].any).await;
    let name = |n: u8| format!("239.77.5.{n}");
    let join = async |agent: &Agent, n: u8| agent.group("join", "ear", group(&name(n), "lo", "")).await;
    assert_eq!((join(&agent, 1).await.as_str(), join(&agent, 2).await.as_str()), ("", ""));
    let refused = agent.try_group("join", "ear", group(&name(3), "lo", "")).await.unwrap_err();
    assert_eq!(refused.reason, "QUOTA_EXCEEDED");
    assert!(refused.message.contains("limits.groups"), "{refused:?}");
    let block = group(&name(1), "lo", "127.0.0.1");
    assert_eq!(agent.group("block", "ear", block).await, "QUOTA_EXCEEDED", "a blocked source counts, too");
    let groups = (1..=3).map(|n| group(&name(n), "lo", "")).collect();
    let spec = pb::UdpSocketSpec { groups, ..Default::default() };
    let refused = agent.create_udp("second", spec).await.unwrap_err();
    assert!(refused.message.starts_with("udp.groups: 3 are more than limits.groups"), "{refused:?}");

    let kernel: u8 =
        std::fs::read_to_string("/proc/sys/net/ipv4/igmp_max_memberships").unwrap().trim().parse().unwrap();
    let agent = Agent::start().await;
    agent.udp("ear", NETS[0].any).await;
    for n in 0..kernel {
        assert_eq!(join(&agent, n).await, "", "{n}");
    }
    assert_eq!(join(&agent, kernel).await, "ENOBUFS");
    assert_eq!(agent.groups("ear").await.len(), usize::from(kernel));
}
