//! The agent and its host: who it is, what time it has, which ways lead out of it, what its kernel counts.

use std::sync::Arc;
use std::time::Duration;

use farsock::agent::AgentConfig;
use farsock::model::limits::{Defaults, Limits};
use farsock::wire::pb;
use farsock::wire::pb::resolve_request::Query;
use tonic::Code;

use crate::harness::{
    Agent, LOOPBACKS, Refused, SilentResolver, SmallResolver, TcpPeer, UdpPeer, datagram, error_name, millis, nanos,
};

async fn info(agent: &Agent) -> pb::Agent {
    agent.agent().get_agent(pb::GetAgentRequest {}).await.unwrap().into_inner().agent.unwrap()
}

async fn small() -> Agent {
    Agent::start_with(AgentConfig { resolver: Some(Arc::new(SmallResolver)), ..Default::default() }).await
}

#[tokio::test]
async fn an_agent_tells_what_it_was_started_with() {
    let limits = Limits {
        sockets: 11,
        sessions: 12,
        watchers: 13,
        log_events: 1400,
        payload_bytes: 15_000,
        ..Limits::default()
    };
    let defaults = Defaults { connect_timeout: Duration::from_millis(1500), backlog: 16, ..Defaults::default() };
    let config = AgentConfig {
        limits,
        defaults,
        lab_ipv4: Some("127.0.0.9".parse().unwrap()),
        lab_ipv6: Some("::1".parse().unwrap()),
        ..Default::default()
    };
    let agent = Agent::start_with(config).await;
    let told = info(&agent).await;
    let limits = told.limits.unwrap();
    assert_eq!((limits.sockets, limits.sessions, limits.watchers), (11, 12, 13));
    assert_eq!((limits.log_events, limits.payload_bytes), (1400, 15_000));
    assert_eq!(limits.remembered_bytes, Limits::default().remembered_bytes);
    let defaults = told.defaults.unwrap();
    assert_eq!((defaults.connect_timeout, defaults.backlog), (millis(1500), 16));
    assert_eq!(told.lab_addresses, ["127.0.0.9", "::1"]);
    assert_eq!(told.version, env!("CARGO_PKG_VERSION"));
    let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(told.host_name, host_name.trim());
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(told.kernel_release, release.trim());
    for capability in ["tcp", "udp", "ipv4", "ipv6"] {
        assert!(told.capabilities.iter().any(|known| known == capability), "{:?}", told.capabilities);
    }
    assert!(told.start_time.is_some());
}

/// Where it is reached is not where lab sockets are.
#[tokio::test]
async fn control_addresses_are_those_that_it_listens_on() {
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    let agent = Agent::start_with(AgentConfig { listen, no_auth: true, ..Default::default() }).await;
    let told = info(&agent).await;
    assert_eq!((told.control_addresses.len(), told.lab_addresses.len()), (1, 0));
    let address: std::net::SocketAddr = told.control_addresses[0].parse().unwrap();
    TcpPeer::connect(&address.to_string()).await;
}

#[tokio::test]
async fn every_option_is_told_with_its_type_and_its_range() {
    let agent = Agent::start().await;
    let options = info(&agent).await.options;
    let find = |name: &str| options.iter().find(|option| option.name == name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(find("SO_KEEPALIVE").r#type(), pb::OptionType::Enabled);
    assert_eq!(find("SO_RCVBUF").r#type(), pb::OptionType::Number);
    assert_eq!(find("SO_LINGER").r#type(), pb::OptionType::Linger);
    assert_eq!(find("TCP_NODELAY").transport(), pb::Transport::Tcp);
    assert_eq!(find("IPV6_V6ONLY").family(), pb::Family::Ipv6);
    assert!(options.iter().all(|option| !option.summary.is_empty() && option.r#type() != pb::OptionType::Unspecified));
    // What it tells it takes: every option of a UDP socket can be read, but for the MTU of a path that it does not have.
    agent.udp("s", LOOPBACKS[0]).await;
    let request = pb::GetSocketOptionsRequest { socket_id: "s".into(), ..Default::default() };
    let read = agent.sockets().get_socket_options(request).await.unwrap().into_inner().options;
    assert!(read.len() > 5);
    for result in read {
        let without_path = |error: &pb::SocketError| error.subject == "IP_MTU" && error.name == "ENOTCONN";
        assert!(result.error.as_ref().is_none_or(without_path), "{result:?}");
        find(&result.effective.unwrap().name);
    }
}

#[tokio::test]
async fn its_clock_never_runs_backwards() {
    let agent = Agent::start().await;
    let started = info(&agent).await.start_time.unwrap();
    let mut last = nanos(started.seconds, started.nanos);
    for _ in 0..50 {
        let clock = agent.agent().get_clock(pb::GetClockRequest {}).await.unwrap().into_inner();
        let (receive, transmit) = (clock.receive_time.unwrap(), clock.transmit_time.unwrap());
        let (receive, transmit) = (nanos(receive.seconds, receive.nanos), nanos(transmit.seconds, transmit.nanos));
        assert!(last <= receive && receive <= transmit, "{last} {receive} {transmit}");
        last = transmit;
        assert!(clock.since_boot.unwrap().seconds >= 0);
    }
    // Events have the same clock.
    agent.udp("s", LOOPBACKS[0]).await;
    let event = agent.event("s", "created").await.time.unwrap();
    assert!(nanos(event.seconds, event.nanos) >= last);
}

#[tokio::test]
async fn interfaces_are_told_with_their_addresses() {
    let agent = Agent::start().await;
    let list = async |page_size, page_token: &str| {
        let request = pb::ListInterfacesRequest { page_size, page_token: page_token.into() };
        agent.agent().list_interfaces(request).await.unwrap().into_inner()
    };
    let all = list(0, "").await.interfaces;
    let lo = all.iter().find(|interface| interface.loopback).unwrap();
    assert!(lo.up && lo.index > 0 && lo.mtu > 0, "{lo:?}");
    assert_eq!((lo.name.as_str(), lo.link_address.as_str()), ("lo", ""));
    let has = |address: &str, prefix_length, family: pb::Family| {
        lo.addresses
            .iter()
            .any(|known| known.address == address && known.prefix_length == prefix_length && known.family() == family)
    };
    assert!(has("127.0.0.1", 8, pb::Family::Ipv4) && has("::1", 128, pb::Family::Ipv6), "{lo:?}");
    assert!(all.is_sorted_by_key(|interface| interface.index));
    let (mut token, mut paged) = (String::new(), Vec::new());
    loop {
        let page = list(1, &token).await;
        paged.extend(page.interfaces);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(paged.len(), all.len());
}

#[tokio::test]
async fn the_way_to_an_address_is_told() {
    let agent = Agent::start().await;
    let route = async |destination: &str, source: &str| {
        let request = pb::GetRouteRequest { destination: destination.into(), source: source.into() };
        agent.agent().get_route(request).await.unwrap().into_inner()
    };
    for ip in LOOPBACKS {
        let way = route(&ip.to_string(), "").await.route.unwrap();
        assert_eq!((way.source, way.interface.as_str(), way.gateway.as_str()), (ip.to_string(), "lo", ""));
        assert!(way.interface_index > 0 && way.mtu > 0);
    }
    assert_eq!(route("127.0.0.1", "127.0.0.8").await.route.unwrap().source, "127.0.0.8");
    // From loopback there is no way out.
    let nowhere = route("240.0.0.1", "127.0.0.1").await;
    let error = nowhere.error.unwrap();
    assert_eq!((nowhere.route, error.operation(), error.subject.as_str()), (None, pb::Operation::Route, "240.0.0.1"));
    assert!(["EINVAL", "ENETUNREACH", "EHOSTUNREACH"].contains(&error.name.as_str()), "{error:?}");
}

/// Node's own table of `net.isIP`, and some of its tests.
#[tokio::test]
async fn text_is_an_address_where_node_says_so() {
    let agent = Agent::start().await;
    for (text, version) in [
        ("127.0.0.1", 4),
        ("0.0.0.0", 4),
        ("255.255.255.255", 4),
        ("127.000.000.001", 0),
        ("01.2.3.4", 0),
        ("256.0.0.1", 0),
        ("127.1", 0),
        ("1.2.3", 0),
        ("1.2.3.4.5", 0),
        ("0x7f000001", 0),
        ("127.0.0.1/24", 0),
        (" 127.0.0.1", 0),
        ("x127.0.0.1", 0),
        ("example.com", 0),
        ("", 0),
        ("::", 6),
        ("::1", 6),
        ("::1%eth0", 6),
        ("fhqwhgads", 0),
        ("2001:252:0:1::2008:6", 6),
        ("2001:dead:beef:1::2008:6", 6),
        ("2001::", 6),
        ("2001:252:0:1::2008:6:", 0),
        ("0000:0000:0000:0000:0000:0000:0000:0000", 6),
        ("0000:0000:0000:0000:0000:0000:0000:0000::0000", 0),
        ("1050:0:0:0:5:600:300c:326b", 6),
        ("::ffff:127.0.0.1", 6),
        ("::2001:252:1:255.255.255.255", 6),
        ("::2001:252:1:255.255.255.255.76", 0),
        ("0:0:0:0:0:0:0:1", 6),
        ("1::2::3", 0),
        ("12345::", 0),
        ("[::1]", 0),
    ] {
        let request = pb::ParseAddressRequest { text: text.into() };
        let answer = agent.agent().parse_address(request).await.unwrap().into_inner();
        let told = match answer.family() {
            pb::Family::Unspecified => 0,
            pb::Family::Ipv4 => 4,
            pb::Family::Ipv6 => 6,
        };
        assert_eq!(told, version, "`{text}`");
        assert_eq!((answer.is_ipv4, answer.is_ipv6), (version == 4, version == 6), "`{text}`");
    }
}

#[tokio::test]
async fn text_is_read_as_every_request_reads_it() {
    let agent = Agent::start().await;
    let parse = async |text: &str| {
        let request = pb::ParseAddressRequest { text: text.into() };
        agent.agent().parse_address(request).await.unwrap().into_inner()
    };
    for (text, host, port, zone) in [
        ("10.0.0.2:80", "10.0.0.2", "80", ""),
        ("[2001:db8::2]:80", "2001:db8::2", "80", ""),
        ("[fe80::2%eth0]:80", "fe80::2", "80", "eth0"),
        ("fe80::2%3", "fe80::2", "", "3"),
        ("lab-b:http", "lab-b", "http", ""),
        (":8888", "", "8888", ""),
        ("8888", "", "8888", ""),
    ] {
        let answer = parse(text).await;
        assert_eq!((answer.host.as_str(), answer.port.as_str(), answer.zone.as_str()), (host, port, zone), "{text}");
        assert_eq!(answer.problem, "", "{text}");
    }
    for text in ["127.1:80", "0x7f000001:80", "10.0.0.1:70000", "[::1", "a b:80"] {
        assert_ne!(parse(text).await.problem, "", "{text}");
    }
}

#[tokio::test]
async fn names_are_resolved_both_ways() {
    let agent = small().await;
    let resolve = async |request: pb::ResolveRequest| {
        let answer = agent.agent().resolve(request).await.unwrap().into_inner();
        assert!(answer.elapsed.is_some() && !answer.timed_out);
        answer
    };
    let ask = |query| pb::ResolveRequest { query: Some(query), ..Default::default() };
    let host = || ask(Query::Host("lab-b".into()));
    let found = resolve(host()).await;
    assert_eq!(
        (found.addresses, found.host.as_str()),
        (vec!["127.0.0.2".into(), "127.0.0.3".into(), "::1".into()], "lab-b.example")
    );
    let found = resolve(pb::ResolveRequest { family: pb::Family::Ipv6.into(), ..host() }).await;
    assert_eq!(found.addresses, ["::1"]);
    assert_eq!(resolve(ask(Query::Address("127.0.0.2".into()))).await.host, "lab-b");

    let udp = pb::Transport::Udp.into();
    let service = || ask(Query::Service("echo".into()));
    assert_eq!(resolve(service()).await.port, 7, "TCP where nothing is said");
    assert_eq!(resolve(pb::ResolveRequest { transport: udp, ..service() }).await.port, 1007);
    assert_eq!(resolve(ask(Query::Port(7))).await.service, "echo");
    assert_eq!(resolve(pb::ResolveRequest { transport: udp, ..ask(Query::Port(1007)) }).await.service, "echo");

    for (query, name, syscall, subject) in [
        (Query::Host("nobody".into()), "EAI_NONAME", "getaddrinfo", "nobody"),
        (Query::Address("192.0.2.1".into()), "EAI_NONAME", "getnameinfo", "192.0.2.1"),
        (Query::Service("nothing".into()), "EAI_SERVICE", "getaddrinfo", "nothing"),
        (Query::Port(9), "EAI_SERVICE", "getnameinfo", "9/tcp"),
    ] {
        let error = resolve(ask(query)).await.error.unwrap();
        assert_eq!((error.name.as_str(), error.syscall.as_str(), error.subject.as_str()), (name, syscall, subject));
        assert_eq!(error.operation(), pb::Operation::LookUp);
        assert!(error.number < 0, "{error:?}");
    }
}

/// What the host itself knows, everywhere.
#[tokio::test]
async fn the_resolver_of_the_host_is_asked() {
    let agent = Agent::start().await;
    let resolve = async |query| {
        let request = pb::ResolveRequest { query: Some(query), ..Default::default() };
        agent.agent().resolve(request).await.unwrap().into_inner()
    };
    assert!(resolve(Query::Host("localhost".into())).await.addresses.contains(&"127.0.0.1".to_owned()));
    assert_eq!(
        resolve(Query::Host("127.0.0.1".into())).await.addresses,
        ["127.0.0.1"],
        "a literal is answered as it is"
    );
    for (service, port) in
        [("ftp", 21), ("ssh", 22), ("telnet", 23), ("smtp", 25), ("http", 80), ("pop3", 110), ("https", 443)]
    {
        assert_eq!(resolve(Query::Service(service.into())).await.port, port, "{service}");
        assert_eq!(resolve(Query::Port(port)).await.service, service, "{port}");
    }
}

/// By what the host's resolver goes, as this test reads it from the same files.
#[tokio::test]
async fn the_view_of_the_resolver_is_told() {
    let agent = Agent::start().await;
    let resolve = async |query| {
        let request = pb::ResolveRequest { query: Some(query), ..Default::default() };
        agent.agent().resolve(request).await.unwrap().into_inner()
    };
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let servers: Vec<String> = read("/etc/resolv.conf")
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.first() == Some(&"nameserver") && words.len() > 1)
        .map(|words| words[1].to_owned())
        .collect();
    let hosts = read("/etc/hosts");
    let listed = |address: &str| hosts.lines().any(|line| line.split_whitespace().next() == Some(address));
    for ip in LOOPBACKS.map(|ip| ip.to_string()) {
        let view = resolve(Query::Address(ip.clone())).await.resolver.unwrap();
        assert_eq!(view.name_servers, servers);
        assert_eq!(view.hosts_file_entries.is_empty(), !listed(&ip), "{view:?}");
    }
    let view = resolve(Query::Host("localhost".into())).await.resolver.unwrap();
    assert!(view.hosts_file_entries.iter().all(|address| listed(address)), "{view:?}");
    assert_eq!(
        view.sources.is_empty(),
        !read("/etc/nsswitch.conf").contains(
            "
hosts:"
        ),
        "{view:?}"
    );
    let nowhere = resolve(Query::Host("no-such-host.invalid".into())).await;
    assert!(nowhere.error.is_some() && nowhere.resolver.unwrap().hosts_file_entries.is_empty());
    for query in [Query::Service("http".into()), Query::Port(80)] {
        assert_eq!(resolve(query).await.resolver, None, "services are looked up elsewhere");
    }
}

/// Nobody hangs on a resolver that does not answer: not a question, and not an operation with a name in it.
#[tokio::test]
async fn a_resolver_that_does_not_answer_times_out() {
    let agent = Agent::start_with(AgentConfig { resolver: Some(Arc::new(SilentResolver)), ..Default::default() }).await;
    for query in
        [Query::Host("lab-b".into()), Query::Address("127.0.0.1".into()), Query::Service("echo".into()), Query::Port(7)]
    {
        let request = pb::ResolveRequest { query: Some(query), timeout: millis(20), ..Default::default() };
        let answer = agent.agent().resolve(request).await.unwrap().into_inner();
        assert!(answer.timed_out && answer.error.is_none(), "{answer:?}");
    }
    agent.udp("s", LOOPBACKS[0]).await;
    for destination in ["lab-b:9", "127.0.0.1:echo"] {
        let request = pb::SendDatagramsRequest {
            socket_id: "s".into(),
            datagrams: vec![datagram(destination, "hola")],
            call: Some(crate::harness::patient(millis(20))),
            ..Default::default()
        };
        let sent = agent.sockets().send_datagrams(request).await.unwrap().into_inner();
        assert_eq!((sent.datagrams_sent(), sent.report.unwrap().timed_out), (0, true));
    }
    // A socket that is made with a name is not there until the name is known.
    let request = pb::CreateSocketRequest {
        socket_id: "t".into(),
        kind: Some(pb::create_socket_request::Kind::Udp(pb::UdpSocketSpec {
            connect: "lab-b:9".into(),
            ..Default::default()
        })),
        call: Some(crate::harness::patient(millis(20))),
        ..Default::default()
    };
    let created = agent.sockets().create_socket(request).await.unwrap().into_inner();
    assert_eq!((created.socket, created.report.unwrap().timed_out), (None, true));
    // Another operation on the same socket does not wait for the one that hangs.
    let peer = UdpPeer::bind(LOOPBACKS[0]).await;
    agent.send("s", &peer.text(), "hola").await;
    assert_eq!(agent.open_sockets().await, 1);
}

/// A cancelled operation does not wait for the resolver either.
#[tokio::test]
async fn a_lookup_can_be_cancelled() {
    let agent = Agent::start_with(AgentConfig { resolver: Some(Arc::new(SilentResolver)), ..Default::default() }).await;
    agent.udp("s", LOOPBACKS[0]).await;
    let request = pb::ConnectSocketRequest {
        socket_id: "s".into(),
        remote: "lab-b:9".into(),
        call: Some(crate::harness::detached("dial")),
        ..Default::default()
    };
    agent.sockets().connect_socket(request).await.unwrap();
    let response: pb::ConnectSocketResponse = crate::harness::response(&agent.cancel_call("dial").await.unwrap());
    let error = response.report.clone().unwrap().error.unwrap();
    assert_eq!((error_name(response.report.as_ref()), error.operation()), ("ECANCELED", pb::Operation::LookUp));
}

#[tokio::test]
async fn the_kernel_counts_and_the_difference_is_told() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let (no_ports, wildcard) = if ip.is_ipv4() { ("UdpNoPorts", "Udp*") } else { ("Udp6NoPorts", "Udp6*") };
        let read = async |names: &[&str], mark: &str, since: &str| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            let request = pb::GetKernelCountersRequest { names, mark: mark.into(), since: since.into() };
            Ok::<_, Refused>(agent.agent().get_kernel_counters(request).await?.into_inner())
        };
        let before = read(&[no_ports], "before", "").await.unwrap();
        assert_eq!((before.counters.len(), before.since_mark), (1, None));
        agent.udp("s", ip).await;
        let gone = UdpPeer::bind(ip).await.text();
        for _ in 0..3 {
            agent.send("s", &gone, "anybody there?").await;
        }
        // Other tests count along, so that it is at least ours.
        let since = read(&[no_ports], "", "before").await.unwrap();
        assert!(since.counters[0].value >= 3, "{since:?}");
        assert!(since.since_mark.is_some() && since.time.is_some());
        let now = read(&[no_ports], "", "").await.unwrap();
        assert!(now.counters[0].value >= before.counters[0].value + 3);

        let changed = read(&[], "", "before").await.unwrap().counters;
        assert!(changed.iter().all(|counter| counter.value != 0) && changed.iter().any(|c| c.name == no_ports));
        let prefix = wildcard.trim_end_matches('*');
        let some = read(&[wildcard, "TcpActiveOpens"], "", "").await.unwrap().counters;
        assert!(some.len() > 3 && some.is_sorted_by(|a, b| a.name < b.name));
        assert!(some.iter().all(|counter| counter.name.starts_with(prefix) || counter.name == "TcpActiveOpens"));
        let missing = read(&[], "", "after").await.unwrap_err();
        assert_eq!((missing.code, missing.reason.as_str()), (Code::NotFound, "MARK_NOT_FOUND"));
    }
}

#[tokio::test]
async fn marks_are_limited_and_the_oldest_goes() {
    let limits = Limits { marks: 2, ..Limits::default() };
    let agent = Agent::start_with(AgentConfig { limits, ..Default::default() }).await;
    let read = async |mark: &str, since: &str| {
        let request = pb::GetKernelCountersRequest { mark: mark.into(), since: since.into(), ..Default::default() };
        agent.agent().get_kernel_counters(request).await.is_ok()
    };
    for mark in ["one", "two", "three"] {
        assert!(read(mark, "").await);
    }
    assert!(!read("", "one").await && read("", "two").await && read("", "three").await);
    // Setting one anew from itself: the difference since, and a new beginning.
    assert!(read("two", "two").await);
}
