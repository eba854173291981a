//! Multicast and broadcast between hosts: two network namespaces with two cables between them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use farsock::wire::pb;
use farsock::wire::pb::socket_option::Value;

use crate::harness::{Agent, Lab, Namespace, any_port, error_name, group, told, within};

/// A wildcard address, a group, and two addresses of the left host, both on the red cable.
struct Net {
    any: IpAddr,
    group: &'static str,
    one: &'static str,
    two: &'static str,
}

const NETS: [Net; 2] = [
    Net { any: IpAddr::V4(Ipv4Addr::UNSPECIFIED), group: "239.77.1.1", one: "10.77.0.1", two: "10.77.0.3" },
    Net { any: IpAddr::V6(Ipv6Addr::UNSPECIFIED), group: "ff15::7701", one: "fd77::1", two: "fd77::3" },
];

/// An address with the port of a socket.
fn at(ip: &str, local: &str) -> String {
    let port = local.rsplit(':').next().unwrap();
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

/// The option of a family.
fn named(ip: IpAddr, four: &'static str, six: &'static str) -> &'static str {
    if ip.is_ipv4() { four } else { six }
}

fn results(answer: &pb::JoinGroupResponse) -> Vec<String> {
    let result = |result: &pb::GroupResult| {
        let error = result.error.as_ref().map(|error| format!(": {}", error.name)).unwrap_or_default();
        format!("{}{error}", told(result.membership.as_ref().unwrap()))
    };
    answer.groups.iter().map(result).collect()
}

#[tokio::test]
async fn a_group_reaches_its_members_by_the_interface_and_as_far_as_the_sender_says() {
    let Some(lab) = Lab::new().await else { return };
    for Net { any, group: name, .. } in NETS {
        let (id, hops) = (named(any, "four", "six"), named(any, "IP_MULTICAST_TTL", "IPV6_MULTICAST_HOPS"));
        let ear = lab.right.udp(id, any).await;
        assert_eq!(lab.right.group("join", id, group(name, "red", "")).await, "");
        assert_eq!(lab.right.group("join", id, group(name, "blue", "")).await, "");
        lab.left.udp(id, any).await;
        let mut after = 0;
        for (interface, limit) in [("red", None), ("blue", Some(5)), ("red", Some(1)), ("blue", Some(255))] {
            lab.left.leave_by(id, any, interface).await;
            if let Some(limit) = limit {
                lab.left.set(id, hops, Value::Number(limit)).await;
            }
            lab.left.send(id, &at(name, &ear), "to all").await;
            let (seq, datagram) = lab.right.datagram_after(id, after).await;
            after = seq;
            assert_eq!(datagram.destination.unwrap().address, name);
            let expected = u32::try_from(limit.unwrap_or(1)).unwrap();
            assert_eq!((datagram.interface.as_str(), datagram.hop_limit), (interface, Some(expected)));
        }
    }
    lab.stop().await;
}

/// With a hop limit of 0 nothing leaves the host, without IP_MULTICAST_LOOP nothing stays.
#[tokio::test]
async fn who_hears_a_sender_on_its_own_host() {
    let Some(lab) = Lab::new().await else { return };
    for Net { any, group: name, .. } in NETS {
        let id = named(any, "four", "six");
        let hops = named(any, "IP_MULTICAST_TTL", "IPV6_MULTICAST_HOPS");
        let copies = named(any, "IP_MULTICAST_LOOP", "IPV6_MULTICAST_LOOP");
        let ear = lab.right.udp(id, any).await;
        // The same port on both hosts.
        let spec = pb::UdpSocketSpec { bind: ear.clone(), groups: vec![group(name, "red", "")], ..Default::default() };
        let own = lab.left.create_udp(id, spec).await.unwrap();
        assert_eq!(error_name(own.report.as_ref()), "");
        assert_eq!(lab.right.group("join", id, group(name, "red", "")).await, "");
        lab.left.leave_by(id, any, "red").await;
        let send = async |text: &str, limit: i32, copy: bool| {
            lab.left.set(id, hops, Value::Number(limit)).await;
            lab.left.set(id, copies, Value::Enabled(copy)).await;
            lab.left.send(id, &at(name, &ear), text).await;
        };
        // Linux looks at a hop limit of 0 only when it makes a copy for its own host, in IPv6.
        if any.is_ipv4() {
            send("for nobody", 0, false).await;
        }
        send("for this host", 0, true).await;
        send("for the other one", 1, false).await;
        send("for both", 1, true).await;
        assert_eq!(lab.left.receive_text(id).await, "for this host");
        assert_eq!(lab.left.receive_text(id).await, "for both");
        assert_eq!(lab.right.receive_text(id).await, "for the other one");
        assert_eq!(lab.right.receive_text(id).await, "for both");
    }
    lab.stop().await;
}

#[tokio::test]
async fn only_wanted_sources_are_heard() {
    let Some(lab) = Lab::new().await else { return };
    for Net { any, group: name, one, two } in NETS {
        let id = named(any, "four", "six");
        let ear = lab.right.udp(id, any).await;
        for source in [one, two] {
            let mouth = format!("{id}-{}", if source == one { "one" } else { "two" });
            lab.left.udp(&mouth, source.parse().unwrap()).await;
            lab.left.leave_by(&mouth, any, "red").await;
        }
        // Those that are let in are heard, in the order in which they spoke; the last one always is.
        let heard = async |what: &str, expected: &[&str]| {
            for mouth in ["two", "one"] {
                let text = format!("{what}: {mouth}");
                lab.left.send(&format!("{id}-{mouth}"), &at(name, &ear), &text).await;
            }
            for mouth in expected {
                assert_eq!(lab.right.receive_text(id).await, format!("{what}: {mouth}"));
            }
        };
        assert_eq!(lab.right.group("join", id, group(name, "red", one)).await, "");
        heard("one", &["one"]).await;
        assert_eq!(lab.right.group("join", id, group(name, "red", two)).await, "");
        heard("both", &["two", "one"]).await;
        assert_eq!(lab.right.group("leave", id, group(name, "red", "")).await, "");
        assert_eq!(lab.right.group("join", id, group(name, "red", "")).await, "");
        assert_eq!(lab.right.group("block", id, group(name, "red", two)).await, "");
        heard("not two", &["one"]).await;
        assert_eq!(lab.right.groups(id).await, [format!("{name} red but {two}")]);
        assert_eq!(lab.right.group("unblock", id, group(name, "red", two)).await, "");
        heard("all", &["two", "one"]).await;
    }
    lab.stop().await;
}

/// The kernel does not say which interface it chose; the agent finds it out.
#[tokio::test]
async fn without_an_interface_the_kernel_chooses_by_its_routes() {
    let Some(lab) = Lab::new().await else { return };
    for Net { any, group: name, one, two } in NETS {
        let id = named(any, "four", "six");
        lab.right.udp(id, any).await;
        let anywhere = |source| group(name, "", source);
        if any.is_ipv4() {
            assert_eq!(lab.right.group("join", id, anywhere("")).await, "ENODEV", "no route tells one");
            lab.right_namespace().ip("route add 239.77.0.0/16 dev blue");
        } else {
            lab.right_namespace().ip("-6 route add multicast ff15::/16 dev blue table local");
        }
        for (verb, source, then) in [
            ("join", "", vec!["blue".to_owned()]),
            ("block", one, vec![format!("blue but {one}")]),
            ("unblock", one, vec!["blue".to_owned()]),
            ("leave", "", vec![]),
            ("join", one, vec![format!("blue from {one}")]),
            ("join", two, vec![format!("blue from {one}"), format!("blue from {two}")]),
            ("leave", one, vec![format!("blue from {two}")]),
            ("leave", "", vec![]),
        ] {
            let answer = lab.right.try_group(verb, id, anywhere(source)).await.unwrap();
            assert_eq!(error_name(answer.report.as_ref()), "", "{verb} {source}");
            assert_eq!(answer.groups[0].membership.as_ref().unwrap().interface, "blue", "{verb} {source}");
            let then: Vec<String> = then.iter().map(|rest| format!("{name} {rest}")).collect();
            assert_eq!(lab.right.groups(id).await, then, "{verb} {source}");
        }
    }
    lab.stop().await;
}

#[tokio::test]
async fn all_means_every_interface_that_can() {
    let Some(lab) = Lab::new().await else { return };
    for Net { any, group: name, .. } in NETS {
        let id = named(any, "four", "six");
        lab.right.udp(id, any).await;
        let everywhere = || group(name, "all", "");
        let joined = lab.right.try_group("join", id, everywhere()).await.unwrap();
        // The loopback interface does not have the flag MULTICAST.
        assert_eq!(results(&joined), [format!("{name} red"), format!("{name} blue")]);
        assert_eq!(lab.right_namespace().joined(name.parse().unwrap()), 2);

        assert_eq!(lab.right.group("leave", id, group(name, "red", "")).await, "");
        let again = lab.right.try_group("join", id, everywhere()).await.unwrap();
        assert_eq!(error_name(again.report.as_ref()), "EADDRINUSE", "the first error is that of all");
        assert_eq!(results(&again), [format!("{name} red"), format!("{name} blue: EADDRINUSE")]);

        let left = lab.right.try_group("leave", id, everywhere()).await.unwrap();
        assert_eq!(results(&left), [format!("{name} blue"), format!("{name} red")], "in the order of joining");
        assert_eq!(lab.right_namespace().joined(name.parse().unwrap()), 0);

        lab.right_namespace().ip("link set blue down");
        assert_eq!(results(&lab.right.try_group("join", id, everywhere()).await.unwrap()), [format!("{name} red")]);
        lab.right_namespace().ip("link set blue up");
    }
    lab.stop().await;
}

#[tokio::test]
async fn a_group_can_be_left_on_an_interface_that_is_gone() {
    let Some(lab) = Lab::new().await else { return };
    for Net { any, group: name, .. } in NETS {
        let id = named(any, "four", "six");
        lab.right.udp(id, any).await;
        assert_eq!(lab.right.group("join", id, group(name, "blue", "")).await, "");
    }
    lab.right_namespace().ip("link delete blue");
    for Net { any, group: name, .. } in NETS {
        let id = named(any, "four", "six");
        assert_eq!(lab.right.groups(id).await, [format!("{name} blue")], "a membership stays until it is left");
        assert_eq!(lab.right.group("leave", id, group(name, "blue", "")).await, "");
        assert_eq!(lab.right.group("join", id, group(name, "blue", "")).await, "INVALID_FIELD");
    }
    lab.stop().await;
}

#[tokio::test]
async fn whatever_ends_a_socket_ends_its_memberships() {
    let Some(lab) = Lab::new().await else { return };
    let joined = |host: &Namespace| NETS.map(|net| host.joined(net.group.parse().unwrap()));
    // A process that another test is just starting has a copy of every descriptor of this one, until it executes its program: only then
    // is the socket closed for the kernel.
    let nothing_stays = async |host: &Namespace, end: &str| {
        within(&format!("the end of every membership after {end}"), async {
            while joined(host) != [0, 0] {
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    assert_eq!(joined(lab.right_namespace()), [0, 0]);
    for end in ["close", "abort", "reset", "delete", "stop"] {
        let (session, agent): (&str, &Agent) = (if end == "delete" { "lab" } else { "" }, &lab.right);
        if !session.is_empty() {
            let request = pb::CreateSessionRequest { session_id: session.into(), ..Default::default() };
            agent.sessions().create_session(request).await.unwrap();
        }
        for Net { any, group: name, one, .. } in NETS {
            let groups = vec![group(name, "red", ""), group(name, "blue", one)];
            let spec = pb::UdpSocketSpec { bind: any_port(any), groups, ..Default::default() };
            let request = pb::CreateSocketRequest {
                session_id: session.into(),
                socket_id: named(any, "four", "six").into(),
                kind: Some(pb::create_socket_request::Kind::Udp(spec)),
                ..Default::default()
            };
            let created = agent.sockets().create_socket(request).await.unwrap().into_inner();
            assert_eq!(error_name(created.report.as_ref()), "");
        }
        assert_eq!(joined(lab.right_namespace()), [2, 2], "{end}");
        match end {
            "close" => drop((agent.close("four").await, agent.close("six").await)),
            "abort" => drop((agent.abort("four").await, agent.abort("six").await)),
            "reset" => {
                let reset = agent.reset(session).await;
                assert!(reset.closed_sockets.iter().all(|socket| socket.groups.is_empty()), "{reset:?}");
            }
            "delete" => drop(agent.delete(session, false).await.unwrap()),
            _ => break,
        }
        nothing_stays(lab.right_namespace(), end).await;
    }
    let [_, right] = lab.stop().await;
    nothing_stays(&right, "stop").await;
}

#[tokio::test]
async fn broadcasts_are_sent_by_those_who_may_and_have_a_way() {
    let Some(lab) = Lab::new().await else { return };
    let any = NETS[0].any;
    let ear = lab.right.udp("ear", any).await;
    lab.left.udp("mouth", any).await;
    let error = async |destination: &str| {
        lab.left.send_error("mouth", crate::harness::datagram(&at(destination, &ear), "hola")).await
    };
    let mut after = 0;
    let mut arrives = async |destination: &str, interface: &str| {
        assert_eq!(error(destination).await, "", "{destination}");
        let (seq, datagram) = lab.right.datagram_after("ear", after).await;
        after = seq;
        let told = (datagram.destination.unwrap().address, datagram.interface);
        assert_eq!(told, (destination.to_owned(), interface.to_owned()));
    };
    assert_eq!(error("10.77.0.255").await, "EACCES");
    // The limited one needs a way first, and then the permission.
    assert_eq!(error("255.255.255.255").await, "ENETUNREACH");
    lab.left.set("mouth", "SO_BROADCAST", Value::Enabled(true)).await;
    arrives("10.77.0.255", "red").await;
    arrives("10.77.1.255", "blue").await;
    assert_eq!(error("255.255.255.255").await, "ENETUNREACH");
    lab.left.set("mouth", "SO_BINDTODEVICE", Value::Text("red".into())).await;
    arrives("255.255.255.255", "red").await;
    lab.left.set("mouth", "SO_BROADCAST", Value::Enabled(false)).await;
    assert_eq!(error("255.255.255.255").await, "EACCES");
    lab.left.set("mouth", "SO_BROADCAST", Value::Enabled(true)).await;
    lab.left.set("mouth", "SO_BINDTODEVICE", Value::Text(String::new())).await;
    lab.left_namespace().ip("route add 255.255.255.255 dev blue");
    arrives("255.255.255.255", "blue").await;
    // IPv6 has no broadcast.
    assert_eq!(lab.right.kinds("ear").await.iter().filter(|kind| *kind == "datagram_received").count(), 4);
    lab.stop().await;
}
