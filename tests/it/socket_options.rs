//! Socket options: every one of the table on a real socket, and what is refused before a system call.

use farsock::wire::pb;
use pb::socket_option::Value;
use tonic::Code;

use crate::harness::tcp::{Reported, any_port, listening_on, went};
use crate::harness::{Agent, LOOPBACKS, TcpPeer};

const KINDS: [(pb::Transport, pb::Family); 4] = [
    (pb::Transport::Tcp, pb::Family::Ipv4),
    (pb::Transport::Tcp, pb::Family::Ipv6),
    (pb::Transport::Udp, pb::Family::Ipv4),
    (pb::Transport::Udp, pb::Family::Ipv6),
];

fn option(name: &str, value: Value) -> pb::SocketOption {
    pb::SocketOption { name: name.into(), value: Some(value) }
}

fn seconds(seconds: i64) -> Value {
    Value::Duration(prost_types::Duration { seconds, nanos: 0 })
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

async fn create(agent: &Agent, transport: pb::Transport, family: pb::Family) -> String {
    let created = match transport {
        pb::Transport::Udp => {
            agent.create_udp("", pb::UdpSocketSpec { family: family.into(), ..Default::default() }).await
        }
        _ => agent.create_tcp("", pb::TcpSocketSpec { family: family.into(), ..Default::default() }).await,
    };
    created.unwrap().socket.unwrap().socket_id
}

async fn set(agent: &Agent, id: &str, options: Vec<pb::SocketOption>) -> pb::SetSocketOptionsResponse {
    let request = pb::SetSocketOptionsRequest { socket_id: id.into(), options, ..Default::default() };
    agent.set_socket_options(request).await.unwrap()
}

async fn get(agent: &Agent, id: &str, names: &[&str]) -> Vec<pb::OptionResult> {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    let request = pb::GetSocketOptionsRequest { socket_id: id.into(), names, ..Default::default() };
    agent.sockets().get_socket_options(request).await.unwrap().into_inner().options
}

async fn specs(agent: &Agent) -> Vec<pb::OptionSpec> {
    agent.agent().get_agent(pb::GetAgentRequest {}).await.unwrap().into_inner().agent.unwrap().options
}

async fn capabilities(agent: &Agent) -> Vec<String> {
    agent.agent().get_agent(pb::GetAgentRequest {}).await.unwrap().into_inner().agent.unwrap().capabilities
}

fn fits(spec: &pb::OptionSpec, transport: pb::Transport, family: pb::Family) -> bool {
    (spec.transport() == pb::Transport::Unspecified || spec.transport() == transport)
        && (spec.family() == pb::Family::Unspecified || spec.family() == family)
}

/// So many of the units that the option counts a time in.
fn units(spec: &pb::OptionSpec, count: i32) -> Value {
    let unit = spec.unit.unwrap();
    let nanos = i64::from(count) * (unit.seconds * 1_000_000_000 + i64::from(unit.nanos));
    let (seconds, nanos) = (nanos / 1_000_000_000, i32::try_from(nanos % 1_000_000_000).unwrap());
    Value::Duration(prost_types::Duration { seconds, nanos })
}

/// Two values to set one after the other, and what the kernel then says is in force; nothing where it does not tell.
fn values(spec: &pb::OptionSpec) -> Vec<(Value, Option<Value>)> {
    let same = |value: Value| (value.clone(), Some(value));
    match (spec.name.as_str(), spec.r#type()) {
        // Linux doubles them.
        ("SO_RCVBUF" | "SO_SNDBUF", _) => {
            vec![
                (Value::Number(20_000), Some(Value::Number(40_000))),
                (Value::Number(50_000), Some(Value::Number(100_000))),
            ]
        }
        // The first interface of every network namespace is `lo`.
        ("SO_BINDTOIFINDEX", _) => vec![same(Value::Number(1)), same(Value::Number(0))],
        ("IP_MULTICAST_IF", _) => vec![(text("lo"), None), (text(""), None)],
        ("TCP_CONGESTION", _) => vec![same(text("reno"))],
        ("IP_LOCAL_PORT_RANGE", _) => vec![same(text("40000-40010")), same(text(""))],
        (_, pb::OptionType::Text) if !spec.words.is_empty() => spec.words.iter().map(|word| same(text(word))).collect(),
        // Segments have a least size, windows, too.
        ("TCP_MAXSEG", _) => vec![same(Value::Number(1000)), same(Value::Number(88))],
        ("TCP_WINDOW_CLAMP", _) => vec![same(Value::Number(100_000)), same(Value::Number(50_000))],
        // Kept as a number of SYN+ACKs that are sent again, the last of which comes after 1, 3, 7, … seconds.
        ("TCP_DEFER_ACCEPT", _) => vec![(seconds(5), Some(seconds(7))), same(seconds(0))],
        // Zero means the kernel's default, and that is what is told then.
        ("TCP_LINGER2", _) => vec![same(seconds(120)), same(seconds(1))],
        // More needs a capability.
        ("SO_PRIORITY", _) => vec![same(Value::Number(6)), same(Value::Number(1))],
        (_, pb::OptionType::Text) => vec![same(text("lo")), same(text(""))],
        (_, pb::OptionType::Enabled) => vec![same(Value::Enabled(true)), same(Value::Enabled(false))],
        // DSCP EF, without the ECN bits that TCP keeps for itself.
        ("IP_TOS" | "IPV6_TCLASS", _) => vec![same(Value::Number(0xb8)), same(Value::Number(0))],
        (_, pb::OptionType::Number) => {
            vec![same(Value::Number(spec.maximum)), same(Value::Number(spec.minimum.max(1)))]
        }
        (_, pb::OptionType::Duration) => {
            vec![same(units(spec, spec.maximum)), same(units(spec, spec.minimum))]
        }
        (_, pb::OptionType::Linger) => vec![same(seconds(7)), same(seconds(0)), same(Value::Enabled(false))],
        (name, kind) => panic!("{name}: {kind:?}"),
    }
}

/// On every kind of socket that has it, what was set is what is in force, what the event tells, and what is read back.
#[tokio::test]
async fn every_option_goes_to_the_kernel_and_back() {
    let agent = Agent::start().await;
    let mut specs = specs(&agent).await;
    assert!(specs.len() > 50);
    if !capabilities(&agent).await.contains(&"net_admin".to_owned()) {
        specs.retain(|spec| spec.name != "SO_MARK");
    }
    for (transport, family) in KINDS {
        for spec in specs.iter().filter(|spec| fits(spec, transport, family)) {
            if spec.access() == pb::OptionAccess::ReadOnly {
                continue;
            }
            let id = create(&agent, transport, family).await;
            for (value, meant) in values(spec) {
                let name = &spec.name;
                let answer = set(&agent, &id, vec![option(name, value.clone())]).await;
                assert_eq!(answer.went(), "ok", "{name} {value:?}");
                let [result] = &answer.options[..] else { panic!("{name}") };
                assert_eq!(result.asked, Some(option(name, value)), "{name}");
                assert_eq!(result.effective.as_ref().and_then(|option| option.value.clone()), meant, "{name}");
                assert_eq!(spec.access() == pb::OptionAccess::WriteOnly, meant.is_none(), "{name}");

                let after = answer.report.as_ref().unwrap().first_event_seq;
                let event = agent.event_after(&id, "option_set", after - 1).await;
                let Some(pb::event::Body::OptionSet(told)) = event.body else { panic!() };
                assert_eq!((event.event_seq, told.result.as_ref()), (after, Some(result)), "{name}");

                let [read] = &get(&agent, &id, &[name]).await[..] else { panic!("{name}") };
                assert_eq!((&read.asked, &read.error), (&None, &None), "{name}");
                let read = read.effective.as_ref().unwrap();
                assert_eq!((&read.name, &read.value), (name, &meant));
            }
            agent.close(&id).await;
        }
    }
}

#[tokio::test]
async fn a_socket_tells_all_options_that_it_has() {
    let agent = Agent::start().await;
    let specs = specs(&agent).await;
    for (transport, family) in KINDS {
        let id = create(&agent, transport, family).await;
        let told = get(&agent, &id, &[]).await;
        let names: Vec<&str> = told.iter().map(|result| result.effective.as_ref().unwrap().name.as_str()).collect();
        let meant: Vec<&str> = specs
            .iter()
            .filter(|spec| fits(spec, transport, family) && spec.access() != pb::OptionAccess::WriteOnly)
            .map(|spec| spec.name.as_str())
            .collect();
        assert_eq!(names, meant);
        for (result, name) in told.iter().zip(&names) {
            // A path has an MTU where there is a path.
            let error = if name.ends_with("_MTU") { "ENOTCONN" } else { "" };
            assert_eq!(result.error.as_ref().map_or("", |error| &error.name), error, "{name}");
            assert_eq!(result.asked, None, "{name}");
        }

        let [kind, domain, protocol, accepts] =
            &get(&agent, &id, &["SO_TYPE", "SO_DOMAIN", "SO_PROTOCOL", "SO_ACCEPTCONN"]).await[..]
        else {
            panic!()
        };
        let value = |result: &pb::OptionResult| result.effective.clone().unwrap().value.unwrap();
        let tcp = transport == pb::Transport::Tcp;
        assert_eq!(value(kind), Value::Number(if tcp { 1 } else { 2 }));
        assert_eq!(value(domain), Value::Number(if family == pb::Family::Ipv4 { 2 } else { 10 }));
        assert_eq!(value(protocol), Value::Number(if tcp { 6 } else { 17 }));
        assert_eq!(value(accepts), Value::Enabled(false));
    }
    agent.listen("door", "127.0.0.1:0").await;
    let told = get(&agent, "door", &["SO_ACCEPTCONN", "SO_REUSEADDR"]).await;
    for result in told {
        assert_eq!(result.effective.unwrap().value, Some(Value::Enabled(true)));
    }
}

/// A cookie is the socket's own for ever, that of its network namespace is everybody's there.
#[tokio::test]
async fn cookies_tell_sockets_and_namespaces_apart() {
    let agent = Agent::start().await;
    let (mut own, mut shared) = (Vec::new(), Vec::new());
    for (transport, family) in KINDS {
        let id = create(&agent, transport, family).await;
        let told = get(&agent, &id, &["SO_COOKIE", "SO_NETNS_COOKIE"]).await;
        assert_eq!(told, get(&agent, &id, &["SO_COOKIE", "SO_NETNS_COOKIE"]).await, "told again");
        let cookie = |result: &pb::OptionResult| match result.effective.clone().unwrap().value {
            Some(Value::Text(text)) => u64::from_str_radix(&text, 16).unwrap(),
            other => panic!("{other:?}"),
        };
        own.push(cookie(&told[0]));
        shared.push(cookie(&told[1]));
    }
    own.sort_unstable();
    own.dedup();
    shared.dedup();
    assert_eq!((own.len(), shared.len()), (KINDS.len(), 1), "{own:?} {shared:?}");
}

#[tokio::test]
async fn what_is_no_option_or_no_value_of_it_is_refused() {
    let agent = Agent::start().await;
    agent.create_tcp("line", pb::TcpSocketSpec::default()).await.unwrap();
    let fraction = Value::Duration(prost_types::Duration { seconds: 1, nanos: 500_000_000 });
    for (option, field, problem) in [
        (option("SO_KEEPALIV", Value::Enabled(true)), "options[0].name", "did you mean SO_KEEPALIVE?"),
        (option("tcp_nodelay", Value::Enabled(true)), "options[0].name", "did you mean TCP_NODELAY?"),
        (option("zzz", Value::Enabled(true)), "options[0].name", "GetAgent lists"),
        (option("SO_TYPE", Value::Number(1)), "options[0].name", "can only be read"),
        (option("SO_KEEPALIVE", Value::Number(1)), "options[0].value", "takes `enabled`"),
        (option("SO_RCVBUF", Value::Enabled(true)), "options[0].value", "takes `number`"),
        (option("TCP_KEEPIDLE", Value::Number(5)), "options[0].value", "takes `duration`"),
        (option("SO_LINGER", Value::Enabled(true)), "options[0].value", "takes `duration`, or `enabled: false`"),
        (option("SO_BINDTODEVICE", Value::Number(1)), "options[0].value", "takes `text`"),
        (option("IP_TTL", Value::Number(256)), "options[0].value", "from 1 to 255"),
        (option("SO_RCVBUF", Value::Number(-1)), "options[0].value", "from 0 to"),
        (option("TCP_KEEPIDLE", seconds(0)), "options[0].value", "from 1 to"),
        (option("TCP_KEEPIDLE", seconds(-1)), "options[0].duration", "from 0s on"),
        (option("TCP_KEEPIDLE", fraction), "options[0].duration", "units of 1s"),
        (option("IP_MTU_DISCOVER", text("DO")), "options[0].text", "dont, want, do"),
        (option("IP_LOCAL_PORT_RANGE", text("5-1")), "options[0].text", "40000-40999"),
        (option("TCP_CONGESTION", text("a name that is too long")), "options[0].text", "at most 15 bytes"),
        (option("SO_COOKIE", text("1")), "options[0].name", "can only be read"),
        (option("IP_MTU", Value::Number(1500)), "options[0].name", "can only be read"),
        (pb::SocketOption { name: "SO_KEEPALIVE".into(), value: None }, "options[0].value", "is needed"),
    ] {
        let request = pb::SetSocketOptionsRequest {
            socket_id: "line".into(),
            options: vec![option.clone()],
            ..Default::default()
        };
        let refused = agent.set_socket_options(request).await.unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (Code::InvalidArgument, "INVALID_FIELD"), "{option:?}");
        assert!(refused.message.starts_with(field) && refused.message.contains(problem), "{}", refused.message);

        // At creation, too; and nothing is made.
        let spec = pb::TcpSocketSpec { options: vec![option], ..Default::default() };
        let refused = agent.create_tcp("made", spec).await.unwrap_err();
        assert!(refused.message.starts_with(&format!("tcp.{field}")), "{}", refused.message);
        assert_eq!(agent.kinds("made").await.len(), 0);
    }
    let request = pb::SetSocketOptionsRequest { socket_id: "line".into(), ..Default::default() };
    assert_eq!(went(&agent.set_socket_options(request).await), "INVALID_FIELD", "at least one");
    let names = vec!["SO_TYPE".into(), "SO_SNDBUFF".into()];
    let request = pb::GetSocketOptionsRequest { socket_id: "line".into(), names, ..Default::default() };
    let refused = agent.sockets().get_socket_options(request).await.unwrap_err();
    assert!(refused.message().starts_with("names[1]") && refused.message().contains("SO_SNDBUF"), "{refused}");
    assert_eq!(agent.kinds("line").await, ["created"]);
}

/// Whether an option fits a socket is the kernel's to say.
#[tokio::test]
async fn an_option_of_another_kind_of_socket_is_a_result() {
    let agent = Agent::start().await;
    for (transport, family, option, errno) in [
        (pb::Transport::Udp, pb::Family::Ipv4, option("TCP_NODELAY", Value::Enabled(true)), "ENOPROTOOPT"),
        (pb::Transport::Udp, pb::Family::Ipv6, option("TCP_KEEPIDLE", seconds(5)), "ENOPROTOOPT"),
        (pb::Transport::Tcp, pb::Family::Ipv4, option("IPV6_V6ONLY", Value::Enabled(true)), "ENOPROTOOPT"),
        (pb::Transport::Tcp, pb::Family::Ipv4, option("IPV6_UNICAST_HOPS", Value::Number(5)), "ENOPROTOOPT"),
        (pb::Transport::Udp, pb::Family::Ipv4, option("SO_BINDTODEVICE", text("nosuch0")), "ENODEV"),
        (pb::Transport::Udp, pb::Family::Ipv4, option("IP_MULTICAST_IF", text("nosuch0")), "ENODEV"),
        (pb::Transport::Udp, pb::Family::Ipv6, option("IPV6_MULTICAST_IF", text("nosuch0")), "ENODEV"),
    ] {
        let id = create(&agent, transport, family).await;
        let answer = set(&agent, &id, vec![option.clone()]).await;
        assert_eq!(answer.went(), errno, "{option:?}");
        let [result] = &answer.options[..] else { panic!() };
        let error = result.error.as_ref().unwrap();
        assert_eq!((error.operation(), &error.subject), (pb::Operation::SetOption, &option.name));
        assert_eq!((result.asked.as_ref(), &result.effective), (Some(&option), &None));
        assert_eq!(agent.kinds(&id).await, ["created", "failed"]);
        let read = get(&agent, &id, &[&option.name]).await;
        let readable = errno == "ENODEV";
        assert_eq!(read[0].error.is_none(), readable, "{option:?}");
    }
}

#[tokio::test]
async fn each_option_is_tried_also_after_another_has_failed() {
    let agent = Agent::start().await;
    for ip in LOOPBACKS {
        let (listener, address) = TcpPeer::listen(ip).await;
        let id = agent.connect("", &address.to_string()).await.socket_id;
        let _peer = TcpPeer::accept(&listener).await;
        let options = vec![
            option("TCP_NODELAY", Value::Enabled(true)),
            option("SO_BINDTODEVICE", text("nosuch0")),
            option("SO_BINDTODEVICE", text("nosuch1")),
            option("TCP_KEEPCNT", Value::Number(3)),
        ];
        let answer = set(&agent, &id, options).await;
        // The report has the first error.
        assert_eq!(answer.went(), "ENODEV");
        let failed: Vec<bool> = answer.options.iter().map(|result| result.error.is_some()).collect();
        assert_eq!(failed, [false, true, true, false]);
        let kinds = agent.kinds(&id).await;
        assert_eq!(kinds[3..], ["option_set", "failed", "failed", "option_set"]);
        let read = get(&agent, &id, &["TCP_NODELAY", "TCP_KEEPCNT"]).await;
        assert_eq!(read[0].effective.as_ref().unwrap().value, Some(Value::Enabled(true)));
        assert_eq!(read[1].effective.as_ref().unwrap().value, Some(Value::Number(3)));
    }
}

#[tokio::test]
async fn options_at_creation_come_before_everything_else() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let door = format!("door-{at}");
        let options = vec![option("SO_REUSEADDR", Value::Enabled(false)), option("SO_RCVBUF", Value::Number(20_000))];
        let created =
            agent.create_tcp(&door, pb::TcpSocketSpec { options, ..listening_on(&any_port(ip)) }).await.unwrap();
        assert_eq!(created.went(), "ok");
        assert_eq!(created.options.len(), 2);
        assert_eq!(agent.kinds(&door).await, ["created", "option_set", "option_set", "bound", "listening"]);
        // What the caller says counts, not what the agent sets by itself.
        let read = get(&agent, &door, &["SO_REUSEADDR"]).await;
        assert_eq!(read[0].effective.as_ref().unwrap().value, Some(Value::Enabled(false)));

        // One that fails is the step that ends the creation.
        let id = format!("half-{at}");
        let options = vec![option("SO_BINDTODEVICE", text("nosuch0")), option("TCP_NODELAY", Value::Enabled(true))];
        let created =
            agent.create_tcp(&id, pb::TcpSocketSpec { options, ..listening_on(&any_port(ip)) }).await.unwrap();
        let error = created.report.as_ref().unwrap().error.as_ref().unwrap();
        assert_eq!((error.name.as_str(), error.operation()), ("ENODEV", pb::Operation::SetOption));
        assert_eq!(created.options.len(), 2);
        assert_eq!(created.socket.unwrap().state(), pb::SocketState::Unbound);
    }
}

/// The kernel knows when it is too late.
#[tokio::test]
async fn an_option_that_comes_too_late_is_a_result() {
    let agent = Agent::start().await;
    let bound = pb::TcpSocketSpec { bind: "[::1]:0".into(), ..Default::default() };
    agent.create_tcp("six", bound).await.unwrap();
    let answer = set(&agent, "six", vec![option("IPV6_V6ONLY", Value::Enabled(false))]).await;
    assert_eq!(answer.went(), "EINVAL");
    let read = get(&agent, "six", &["IPV6_V6ONLY"]).await;
    assert_eq!(read[0].effective.as_ref().unwrap().value, Some(Value::Enabled(true)));
}

#[tokio::test]
async fn a_closed_socket_has_no_options() {
    let agent = Agent::start().await;
    agent.create_tcp("line", pb::TcpSocketSpec::default()).await.unwrap();
    agent.close("line").await;
    let request = pb::GetSocketOptionsRequest { socket_id: "line".into(), ..Default::default() };
    assert_eq!(agent.sockets().get_socket_options(request).await.unwrap_err().code(), Code::FailedPrecondition);
    let options = vec![option("TCP_NODELAY", Value::Enabled(true))];
    let request = pb::SetSocketOptionsRequest { socket_id: "line".into(), options, ..Default::default() };
    assert_eq!(went(&agent.set_socket_options(request).await), "SOCKET_CLOSED");
}
