//! Source filters of multicast groups: set as a whole, read back as the kernel has them, and shown by the socket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use farsock::agent::AgentConfig;
use farsock::model::limits::Limits;
use farsock::wire::pb;
use farsock::wire::pb::FilterMode::{Exclude, Include};
use farsock::wire::pb::event::Body;

use crate::harness::{Agent, Refused, error_name, group};

/// A wildcard address, a group, and two sources.
struct Net {
    any: IpAddr,
    group: &'static str,
    one: &'static str,
    two: &'static str,
}

const NETS: [Net; 2] = [
    Net { any: IpAddr::V4(Ipv4Addr::UNSPECIFIED), group: "239.77.8.1", one: "127.0.0.1", two: "127.0.0.2" },
    Net { any: IpAddr::V6(Ipv6Addr::UNSPECIFIED), group: "ff15::7781", one: "::1", two: "fd00::2" },
];

fn request(
    id: &str,
    name: &str,
    interface: &str,
    mode: pb::FilterMode,
    sources: &[&str],
) -> pb::SetSourceFilterRequest {
    pb::SetSourceFilterRequest {
        socket_id: id.into(),
        group: name.into(),
        interface: interface.into(),
        mode: mode.into(),
        sources: sources.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

async fn set(agent: &Agent, request: pb::SetSourceFilterRequest) -> Result<pb::SetSourceFilterResponse, Refused> {
    Ok(agent.sockets().set_source_filter(request).await?.into_inner())
}

/// What the kernel has: `lo INCLUDE 127.0.0.1`, or the errno.
async fn read(agent: &Agent, id: &str, name: &str, interface: &str) -> Result<Vec<String>, Refused> {
    let request = pb::GetSourceFilterRequest {
        socket_id: id.into(),
        group: name.into(),
        interface: interface.into(),
        ..Default::default()
    };
    let answer = agent.sockets().get_source_filter(request).await?.into_inner();
    let told = |result: pb::SourceFilterResult| match result.error {
        Some(error) => {
            assert_eq!((error.operation(), error.syscall.as_str()), (pb::Operation::Filter, "getsockopt"));
            error.name
        }
        None => told(&result.filter.unwrap()),
    };
    Ok(answer.filters.into_iter().map(told).collect())
}

fn told(filter: &pb::SourceFilter) -> String {
    let mode = filter.mode().as_str_name().trim_start_matches("FILTER_MODE_");
    format!("{} {mode} {}", filter.interface, filter.sources.join(" ")).trim_end().to_owned()
}

#[tokio::test]
async fn a_filter_takes_the_place_of_the_one_before_and_is_read_back() {
    for Net { any, group: name, one, two } in NETS {
        let agent = Agent::start().await;
        agent.udp("ear", any).await;
        assert_eq!(read(&agent, "ear", name, "lo").await.unwrap(), ["EADDRNOTAVAIL"]);
        assert_eq!(agent.group("join", "ear", group(name, "lo", "")).await, "");
        assert_eq!(read(&agent, "ear", name, "lo").await.unwrap(), ["lo EXCLUDE"]);
        let from = |source: &str| format!("{name} lo from {source}");
        for (mode, sources, kernel, shown) in [
            (Include, &[one][..], format!("lo INCLUDE {one}"), vec![from(one)]),
            (Include, &[two, one], format!("lo INCLUDE {two} {one}"), vec![from(two), from(one)]),
            (Exclude, &[two], format!("lo EXCLUDE {two}"), vec![format!("{name} lo but {two}")]),
            (Exclude, &[], "lo EXCLUDE".to_owned(), vec![format!("{name} lo")]),
        ] {
            let answer = set(&agent, request("ear", name, "lo", mode, sources)).await.unwrap();
            assert_eq!(error_name(answer.report.as_ref()), "", "{kernel}");
            assert_eq!(told(answer.filters[0].filter.as_ref().unwrap()), kernel);
            assert_eq!(
                read(&agent, "ear", name, "").await.unwrap(),
                std::slice::from_ref(&kernel),
                "without an interface: where it joined"
            );
            assert_eq!(agent.groups("ear").await, shown, "{kernel}");
        }
        let event = agent.event("ear", "source_filter_set").await;
        let Some(Body::SourceFilterSet(first)) = event.body else { panic!("{event:?}") };
        let first = first.filter.unwrap();
        assert_eq!(
            (first.group.as_str(), told(&first), first.interface_index > 0),
            (name, format!("lo INCLUDE {one}"), true)
        );

        // Single changes and whole filters see the same.
        assert_eq!(agent.group("block", "ear", group(name, "lo", one)).await, "");
        assert_eq!(read(&agent, "ear", name, "all").await.unwrap(), [format!("lo EXCLUDE {one}")]);

        // Nobody at all: that is to leave.
        let answer = set(&agent, request("ear", name, "", Include, &[])).await.unwrap();
        assert_eq!(error_name(answer.report.as_ref()), "");
        agent.event("ear", "group_left").await;
        assert_eq!(answer.socket.unwrap().groups, []);
        assert_eq!(read(&agent, "ear", name, "lo").await.unwrap(), ["EADDRNOTAVAIL"]);
        let kinds = agent.kinds("ear").await;
        assert_eq!(kinds.iter().filter(|kind| *kind == "source_filter_set").count(), 4);
    }
}

/// Only IPv4 has two addresses on the loopback interface, and a route for groups to it.
#[tokio::test]
async fn only_whom_the_filter_lets_in_is_received() {
    let agent = Agent::start().await;
    let (any, name) = (NETS[0].any, "239.77.8.2");
    let ear = agent.udp("ear", any).await;
    let port = ear.rsplit(':').next().unwrap().to_owned();
    agent.set("ear", "IP_MULTICAST_ALL", pb::socket_option::Value::Enabled(false)).await;
    for (id, source) in [("one", "127.0.0.1"), ("two", "127.0.0.2")] {
        agent.udp(id, source.parse().unwrap()).await;
        agent.leave_by(id, any, "lo").await;
    }
    assert_eq!(agent.group("join", "ear", group(name, "lo", "")).await, "");
    for (mode, sources, heard) in [
        (Include, &["127.0.0.2"][..], &["two"][..]),
        (Exclude, &["127.0.0.2"], &["one"]),
        (Include, &["127.0.0.1", "127.0.0.2"], &["one", "two"]),
        (Exclude, &[], &["one", "two"]),
        (Exclude, &["127.0.0.1", "127.0.0.2"], &[]),
    ] {
        let answer = set(&agent, request("ear", name, "lo", mode, sources)).await.unwrap();
        assert_eq!(error_name(answer.report.as_ref()), "");
        for id in ["one", "two"] {
            agent.send(id, &format!("{name}:{port}"), id).await;
        }
        agent.send("one", &format!("127.0.0.1:{port}"), "end").await;
        for expected in heard.iter().chain(&["end"]) {
            assert_eq!(agent.receive_text("ear").await, *expected, "{mode:?} {sources:?}");
        }
    }
}

#[tokio::test]
async fn what_the_kernel_or_the_agent_objects_to_is_said() {
    for Net { any, group: name, one, .. } in NETS {
        let agent = Agent::start().await;
        agent.udp("ear", any).await;
        let answer = set(&agent, request("ear", name, "lo", Exclude, &[one])).await.unwrap();
        let error = answer.report.unwrap().error.unwrap();
        assert_eq!((error.name.as_str(), error.operation()), ("EINVAL", pb::Operation::Filter), "not joined");
        assert_eq!(error.subject, format!("{name} on lo not from {one}"));
        assert_eq!(answer.filters[0].error.as_ref().unwrap().name, "EINVAL");
        agent.event("ear", "failed").await;

        let other = if any.is_ipv4() { "::1" } else { "127.0.0.1" };
        for (wrong, says) in [
            (request("ear", "10.0.0.1", "lo", Exclude, &[]), "group"),
            (request("ear", name, "no-such-if", Exclude, &[]), "interface"),
            (request("ear", name, "lo", pb::FilterMode::Unspecified, &[]), "mode"),
            (request("ear", name, "lo", Include, &[one, other]), "sources[1]"),
            (request("ear", name, "lo", Include, &["nobody"]), "sources[0]"),
            (request("ear", if any.is_ipv4() { "ff15::7" } else { "239.1.2.3" }, "lo", Exclude, &[]), "group"),
        ] {
            let refused = set(&agent, wrong).await.unwrap_err();
            assert_eq!(refused.reason, "INVALID_FIELD", "{refused:?}");
            assert!(refused.message.starts_with(&format!("{says}: ")), "{refused:?}");
        }
        assert_eq!(read(&agent, "ear", name, "no-such-if").await.unwrap_err().reason, "INVALID_FIELD");

        agent.create_tcp("line", pb::TcpSocketSpec::default()).await.unwrap();
        for (id, reason) in [("line", "WRONG_TRANSPORT"), ("nobody", "SOCKET_NOT_FOUND")] {
            assert_eq!(set(&agent, request(id, name, "lo", Exclude, &[])).await.unwrap_err().reason, reason);
            assert_eq!(read(&agent, id, name, "lo").await.unwrap_err().reason, reason);
        }
        agent.close("ear").await;
        assert_eq!(set(&agent, request("ear", name, "lo", Exclude, &[])).await.unwrap_err().reason, "SOCKET_CLOSED");
        assert_eq!(read(&agent, "ear", name, "lo").await.unwrap_err().reason, "SOCKET_CLOSED");
    }
}

/// The agent's limit counts all memberships and sources; the kernel's own is below it.
#[tokio::test]
async fn sources_count_against_the_limit_of_groups() {
    let limits = Limits { groups: 3, ..Limits::default() };
    let agent = Agent::start_with(AgentConfig { limits, ..Default::default() }).await;
    let Net { any, group: name, .. } = NETS[0];
    agent.udp("ear", any).await;
    assert_eq!(agent.group("join", "ear", group(name, "lo", "")).await, "");
    let sources = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
    let refused = set(&agent, request("ear", name, "lo", Exclude, &sources)).await.unwrap_err();
    assert_eq!(refused.reason, "QUOTA_EXCEEDED");
    assert!(refused.message.contains("limits.groups"), "{refused:?}");
    let answer = set(&agent, request("ear", name, "lo", Include, &sources)).await.unwrap();
    assert_eq!(error_name(answer.report.as_ref()), "");
    assert_eq!(agent.groups("ear").await.len(), 3);

    let agent = Agent::start().await;
    agent.udp("ear", any).await;
    assert_eq!(agent.group("join", "ear", group(name, "lo", "")).await, "");
    let kernel: u8 = std::fs::read_to_string("/proc/sys/net/ipv4/igmp_max_msf").unwrap().trim().parse().unwrap();
    let sources: Vec<String> = (0..=kernel).map(|n| format!("10.0.1.{n}")).collect();
    let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
    let answer = set(&agent, request("ear", name, "lo", Include, &sources)).await.unwrap();
    assert_eq!(error_name(answer.report.as_ref()), "ENOBUFS");
    assert_eq!(read(&agent, "ear", name, "lo").await.unwrap(), ["lo EXCLUDE"]);
}
