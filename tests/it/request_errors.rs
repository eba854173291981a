//! Bad requests: each is answered with the field that is wrong, what is wrong with it, and what would be right; and nothing happens.

use std::sync::Arc;

use farsock::agent::AgentConfig;
use farsock::wire::pb;
use farsock::wire::pb::call::Start;
use farsock::wire::pb::payload::Content;
use farsock::wire::pb::resolve_request::Query;
use farsock::wire::pb::socket_option::Value;
use prost_types::{Duration, Timestamp};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::harness::{Agent, AnyRequest, LOOPBACKS, SmallResolver, filter, within};

async fn agent() -> Agent {
    Agent::start_with(AgentConfig { resolver: Some(Arc::new(SmallResolver)), ..Default::default() }).await
}

fn tcp(spec: pb::TcpSocketSpec) -> AnyRequest {
    let kind = Some(pb::create_socket_request::Kind::Tcp(spec));
    pb::CreateSocketRequest { socket_id: "new".into(), kind, ..Default::default() }.into()
}

fn listen(address: &str) -> AnyRequest {
    tcp(pb::TcpSocketSpec { role: Some(pb::tcp_socket_spec::Role::Listen(address.into())), ..Default::default() })
}

fn connect(address: &str) -> AnyRequest {
    tcp(pb::TcpSocketSpec { role: Some(pb::tcp_socket_spec::Role::Connect(address.into())), ..Default::default() })
}

fn udp(spec: pb::UdpSocketSpec) -> AnyRequest {
    let kind = Some(pb::create_socket_request::Kind::Udp(spec));
    pb::CreateSocketRequest { socket_id: "new".into(), kind, ..Default::default() }.into()
}

fn udp_bind(address: &str) -> AnyRequest {
    udp(pb::UdpSocketSpec { bind: address.into(), ..Default::default() })
}

fn options(options: Vec<pb::SocketOption>) -> AnyRequest {
    pb::SetSocketOptionsRequest { socket_id: "u".into(), options, ..Default::default() }.into()
}

fn option(name: &str, value: Value) -> AnyRequest {
    options(vec![pb::SocketOption { name: name.into(), value: Some(value) }])
}

fn send(datagrams: Vec<pb::Datagram>) -> AnyRequest {
    pb::SendDatagramsRequest { socket_id: "u".into(), datagrams, ..Default::default() }.into()
}

fn payload(content: Content) -> pb::Payload {
    pb::Payload { content: Some(content), ..Default::default() }
}

fn send_payload(payload: pb::Payload) -> AnyRequest {
    send(vec![pb::Datagram { destination: "127.0.0.1:9".into(), payload: Some(payload), ..Default::default() }])
}

fn close(call: pb::Call) -> AnyRequest {
    pb::CloseSocketRequest { socket_id: "u".into(), call: Some(call), ..Default::default() }.into()
}

fn resolve(query: Query) -> AnyRequest {
    pb::ResolveRequest { query: Some(query), ..Default::default() }.into()
}

const NEGATIVE: Duration = Duration { seconds: -1, nanos: 0 };
const TWO_SIGNS: Duration = Duration { seconds: 1, nanos: -1 };
const CENTURY: Duration = Duration { seconds: 100 * 365 * 24 * 3600, nanos: 0 };

/// Addresses: the field, and what the message must say.
fn addresses() -> Vec<(&'static str, &'static str, AnyRequest)> {
    vec![
        ("tcp.listen", "70000", listen("127.0.0.1:70000")),
        ("tcp.listen", "127.1", listen("127.1:80")),
        ("tcp.connect", "0x7f000001", connect("0x7f000001:80")),
        ("tcp.connect", "017.0.0.1", connect("017.0.0.1:80")),
        ("tcp.connect", "2130706433", connect("2130706433:80")),
        ("tcp.connect", "256", connect("256.0.0.1:80")),
        ("tcp.connect", "port", connect("127.0.0.1")),
        ("tcp.connect", "[::1]", connect("::1")),
        ("tcp.connect", "nope", connect("[nope]:80")),
        ("tcp.connect", "needed", connect("")),
        ("tcp.connect", "no-such-if", connect("[fe80::1%no-such-if]:80")),
        ("tcp.connect", "424242", connect("[fe80::1%424242]:80")),
        ("udp.bind", "70000", udp_bind(":70000")),
        ("udp.bind", "no such host", udp_bind("no such host:80")),
        ("udp.connect", "port", udp(pb::UdpSocketSpec { connect: "lab-b".into(), ..Default::default() })),
        ("udp.family", "9", udp(pb::UdpSocketSpec { family: 9, ..Default::default() })),
        (
            "local",
            "65536",
            pb::BindSocketRequest { socket_id: "u".into(), local: "127.0.0.1:65536".into(), ..Default::default() }
                .into(),
        ),
        ("remote", "needed", pb::ConnectSocketRequest { socket_id: "u".into(), ..Default::default() }.into()),
        (
            "datagrams[0].destination",
            "1.2.3",
            send(vec![pb::Datagram { destination: "1.2.3:4".into(), ..Default::default() }]),
        ),
        (
            "datagrams[1].destination",
            "no-such-if",
            send(vec![
                pb::Datagram { destination: "127.0.0.1:9".into(), ..Default::default() },
                pb::Datagram { destination: "[ff02::1%no-such-if]:9".into(), ..Default::default() },
            ]),
        ),
        (
            "destination",
            "localhost",
            pb::GetRouteRequest { destination: "localhost".into(), ..Default::default() }.into(),
        ),
        ("source", "127.1", pb::GetRouteRequest { destination: "::1".into(), source: "127.1".into() }.into()),
        ("host", "127.1", resolve(Query::Host("127.1".into()))),
        ("host", "has a port", resolve(Query::Host("lab-b:80".into()))),
        ("address", "lab-b", resolve(Query::Address("lab-b".into()))),
        ("service", "80", resolve(Query::Service("80".into()))),
        ("port", "70000", resolve(Query::Port(70_000))),
        ("port", "0", resolve(Query::Port(0))),
        ("query", "needed", pb::ResolveRequest::default().into()),
        ("text", "1025", pb::ParseAddressRequest { text: "x".repeat(1025) }.into()),
    ]
}

/// Payloads and datagrams.
fn payloads() -> Vec<(&'static str, &'static str, AnyRequest)> {
    let too_long = vec![pb::Datagram::default(); 1025];
    let half = || pb::Datagram {
        destination: "127.0.0.1:9".into(),
        payload: Some(payload(Content::Pattern(pb::Pattern { size: 600_000, start: 0, fill: None }))),
        ..Default::default()
    };
    let write = |payload| pb::WriteSocketRequest { socket_id: "u".into(), payload, ..Default::default() };
    vec![
        ("datagrams", "at least one", send(vec![])),
        ("datagrams", "limits.datagrams_per_call", send(too_long)),
        ("datagrams", "limits.payload_bytes", send(vec![half(), half()])),
        ("datagrams[0].payload.content", "needed", send_payload(pb::Payload::default())),
        ("datagrams[0].payload.hex", "hex", send_payload(payload(Content::Hex("xyz".into())))),
        ("datagrams[0].payload.hex", "hex", send_payload(payload(Content::Hex("abc".into())))),
        (
            "datagrams[0].payload.encoding",
            "utf-9",
            send_payload(pb::Payload { encoding: "utf-9".into(), ..payload(Content::Text("a".into())) }),
        ),
        (
            "datagrams[0].payload.text",
            "你",
            send_payload(pb::Payload { encoding: "latin1".into(), ..payload(Content::Text("你".into())) }),
        ),
        (
            "datagrams[0].payload.encoding",
            "text",
            send_payload(pb::Payload { encoding: "gbk".into(), ..payload(Content::Data(vec![1].into())) }),
        ),
        (
            "datagrams[0].payload.offset",
            "1 bytes",
            send_payload(pb::Payload { offset: Some(2), ..payload(Content::Text("a".into())) }),
        ),
        (
            "datagrams[0].payload.length",
            "1 bytes",
            send_payload(pb::Payload { length: Some(2), ..payload(Content::Text("a".into())) }),
        ),
        ("datagrams[0].payload.pattern", "size", send_payload(payload(Content::Pattern(pb::Pattern::default())))),
        ("payload", "needed", write(None).into()),
        ("payload", "at least one byte", write(Some(payload(Content::Text(String::new())))).into()),
        ("payload.text", "limits.payload_bytes", write(Some(payload(Content::Text("x".repeat((1 << 20) + 1))))).into()),
        (
            "payload.pattern.size",
            "limits.payload_bytes",
            write(Some(payload(Content::Pattern(pb::Pattern { size: (1 << 20) + 1, start: 0, fill: None })))).into(),
        ),
        (
            "max_bytes",
            "65536",
            pb::ReceiveSocketRequest { socket_id: "u".into(), max_bytes: Some(65_537), ..Default::default() }.into(),
        ),
        (
            "max_bytes",
            "0",
            pb::ReceiveSocketRequest { socket_id: "u".into(), max_bytes: Some(0), ..Default::default() }.into(),
        ),
        (
            "view.form",
            "99",
            pb::ReceiveSocketRequest {
                socket_id: "u".into(),
                view: Some(pb::PayloadView { form: 99, ..Default::default() }),
                ..Default::default()
            }
            .into(),
        ),
        (
            "view.encoding",
            "utf-9",
            pb::ListEventsRequest {
                view: Some(pb::PayloadView { encoding: "utf-9".into(), ..Default::default() }),
                ..Default::default()
            }
            .into(),
        ),
    ]
}

/// Times, ids, enums, options, pages.
fn others() -> Vec<(&'static str, &'static str, AnyRequest)> {
    let start = |start| close(pb::Call { start: Some(start), ..Default::default() });
    let enabled = |name: &str| pb::SocketOption { name: name.into(), value: Some(Value::Enabled(true)) };
    let linger = |linger| pb::CloseSocketRequest { socket_id: "u".into(), linger: Some(linger), ..Default::default() };
    let socket = |id: &str| pb::GetSocketRequest { socket_id: id.into(), ..Default::default() };
    vec![
        ("kind", "tcp", pb::CreateSocketRequest { socket_id: "new".into(), ..Default::default() }.into()),
        ("call.timeout", "0s", close(pb::Call { timeout: Some(NEGATIVE), ..Default::default() })),
        ("call.timeout", "0s", close(pb::Call { timeout: Some(TWO_SIGNS), ..Default::default() })),
        ("call.timeout", "year", close(pb::Call { timeout: Some(CENTURY), ..Default::default() })),
        ("call.start_delay", "0s", start(Start::StartDelay(NEGATIVE))),
        ("call.start_time", "moment", start(Start::StartTime(Timestamp { seconds: 0, nanos: -1 }))),
        ("call.start_time", "moment", start(Start::StartTime(Timestamp { seconds: i64::MAX, nanos: 0 }))),
        ("call.request_id", "@7", close(pb::Call { request_id: "@7".into(), ..Default::default() })),
        ("call.request_id", "", close(pb::Call { request_id: "x".repeat(65), ..Default::default() })),
        ("call.instance_id", "", close(pb::Call { instance_id: "yesterday".into(), ..Default::default() })),
        ("linger", "whole seconds", linger(Duration { seconds: 0, nanos: 1 }).into()),
        ("linger", "65535", linger(Duration { seconds: 65_536, nanos: 0 }).into()),
        ("timeout", "0s", pb::WaitEventRequest { timeout: Some(TWO_SIGNS), ..Default::default() }.into()),
        ("how", "7", pb::ShutdownSocketRequest { socket_id: "u".into(), how: 7, ..Default::default() }.into()),
        (
            "transport",
            "9",
            pb::ResolveRequest { query: Some(Query::Port(80)), transport: 9, ..Default::default() }.into(),
        ),
        ("tcp.accept", "9", tcp(pb::TcpSocketSpec { accept: 9, ..Default::default() })),
        ("tcp.half_open", "-1", tcp(pb::TcpSocketSpec { half_open: -1, ..Default::default() })),
        ("tcp.direction", "4", tcp(pb::TcpSocketSpec { direction: 4, ..Default::default() })),
        ("tcp.backlog", "65535", tcp(pb::TcpSocketSpec { backlog: Some(70_000), ..Default::default() })),
        ("tcp.idle_timeout", "0s", tcp(pb::TcpSocketSpec { idle_timeout: Some(NEGATIVE), ..Default::default() })),
        (
            "udp.delivery.read_size",
            "65536",
            udp(pb::UdpSocketSpec {
                delivery: Some(pb::Delivery { read_size: Some(65_537), ..Default::default() }),
                ..Default::default()
            }),
        ),
        (
            "udp.delivery.mode",
            "9",
            udp(pb::UdpSocketSpec {
                delivery: Some(pb::Delivery { mode: 9, ..Default::default() }),
                ..Default::default()
            }),
        ),
        ("delivery", "needed", pb::SetSocketDeliveryRequest { socket_id: "u".into(), ..Default::default() }.into()),
        ("socket_id", "Door", socket("Door").into()),
        ("socket_id", "", socket("").into()),
        ("socket_id", "a b", socket("a b").into()),
        ("socket_id", "", socket(&"x".repeat(100)).into()),
        ("socket_id", "door.1", pb::CreateSocketRequest { socket_id: "door.1".into(), ..Default::default() }.into()),
        ("session_id", "Lab", pb::GetSessionRequest { session_id: "Lab".into() }.into()),
        ("session_id", "-lab", pb::CreateSessionRequest { session_id: "-lab".into(), ..Default::default() }.into()),
        ("request_id", "", pb::GetCallRequest { request_id: "no name".into(), ..Default::default() }.into()),
        ("request_id", "", pb::CancelCallRequest::default().into()),
        ("options", "at least one", options(vec![])),
        ("options", "limits.options_per_call", options(vec![enabled("SO_BROADCAST"); 65])),
        ("options[0].name", "SO_BROADCAST", option("SO_BROADCASTS", Value::Enabled(true))),
        ("options[0].value", "needed", options(vec![pb::SocketOption { name: "SO_BROADCAST".into(), value: None }])),
        ("options[0].", "SO_BROADCAST", option("SO_BROADCAST", Value::Number(1))),
        ("options[0].", "SO_RCVBUF", option("SO_RCVBUF", Value::Number(-1))),
        (
            "names[0]",
            "SO_NOTHING",
            pb::GetSocketOptionsRequest {
                socket_id: "u".into(),
                names: vec!["SO_NOTHING".into()],
                ..Default::default()
            }
            .into(),
        ),
        (
            "page_token",
            "next_page_token",
            pb::ListSocketsRequest { page_token: "x".into(), ..Default::default() }.into(),
        ),
        (
            "page_token",
            "next_page_token",
            pb::ListSessionsRequest { page_token: "-1".into(), ..Default::default() }.into(),
        ),
        (
            "page_token",
            "next_page_token",
            pb::ListEventsRequest { page_token: "1.5".into(), ..Default::default() }.into(),
        ),
        (
            "page_token",
            "next_page_token",
            pb::ListInterfacesRequest { page_token: " ".into(), ..Default::default() }.into(),
        ),
        (
            "filter.socket_ids[1]",
            "X",
            pb::WaitEventRequest { filter: filter(&["a", "X"], &[]), ..Default::default() }.into(),
        ),
        (
            "filter.kinds[0]",
            "did you mean",
            pb::ListEventsRequest { filter: filter(&[], &["close"]), ..Default::default() }.into(),
        ),
        ("mark", "Before", pb::GetKernelCountersRequest { mark: "Before".into(), ..Default::default() }.into()),
    ]
}

/// One line: what, where, and what next; and the same for programs.
fn check(status: &Status, field: &str, says: &str) {
    let message = status.message();
    assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status:?}");
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("INVALID_FIELD", "farsock.dev"), "{message}");
    let violations = &details.bad_request().unwrap().field_violations;
    assert_eq!(violations.len(), 1);
    assert!(violations[0].field.starts_with(field), "{} is not {field}: {message}", violations[0].field);
    assert_eq!(message, format!("{}: {}", violations[0].field, violations[0].description));
    assert!(message.contains(says), "{field}: `{message}` does not say `{says}`");
    assert!(message.chars().all(|c| !c.is_control()) && message.len() < 400, "{message}");
}

#[tokio::test]
async fn every_mistake_names_its_field_and_leaves_nothing_behind() {
    let agent = agent().await;
    agent.udp("u", LOOPBACKS[0]).await;
    let before = agent.socket("u").await;
    for (field, says, request) in addresses().into_iter().chain(payloads()).chain(others()) {
        let shown = format!("{request:.300?}");
        let status = within("an answer", request.send(&agent)).await.expect_err(&shown);
        check(&status, field, says);
        assert_eq!(agent.open_sockets().await, 1, "{shown}");
    }
    assert_eq!(agent.kinds("u").await, ["created", "bound"]);
    assert_eq!(agent.all_events("").await.len(), 2, "no event was caused");
    assert_eq!(agent.socket("u").await, before);
}

/// A number pins a socket: a request for the one that had the name before does not hit the one that has it now.
#[tokio::test]
async fn a_pinned_number_must_be_that_of_the_socket() {
    let agent = agent().await;
    agent.udp("u", LOOPBACKS[0]).await;
    let uid = agent.socket("u").await.socket_uid;
    agent.close("u").await;
    agent.udp("u", LOOPBACKS[0]).await;
    let socket_uid = Some(uid);
    let socket_id = || "u".to_owned();
    let local = "127.0.0.1:0".to_owned();
    let requests: [AnyRequest; 5] = [
        pb::CloseSocketRequest { socket_id: socket_id(), socket_uid, ..Default::default() }.into(),
        pb::AbortSocketRequest { socket_id: socket_id(), socket_uid, allow_missing: true, ..Default::default() }.into(),
        pb::BindSocketRequest { socket_id: socket_id(), socket_uid, local, ..Default::default() }.into(),
        pb::ReceiveSocketRequest { socket_id: socket_id(), socket_uid, ..Default::default() }.into(),
        pb::DisconnectSocketRequest { socket_id: socket_id(), socket_uid, ..Default::default() }.into(),
    ];
    for request in requests {
        let status = request.send(&agent).await.unwrap_err();
        let reason = status.get_details_error_info().unwrap().reason;
        assert_eq!((status.code(), reason.as_str()), (Code::FailedPrecondition, "SOCKET_REPLACED"));
    }
    assert_eq!(agent.open_sockets().await, 1);
    let socket_uid = Some(agent.socket("u").await.socket_uid);
    let right = pb::CloseSocketRequest { socket_id: socket_id(), socket_uid, ..Default::default() };
    AnyRequest::from(right).send(&agent).await.unwrap();
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let agent = agent().await;
    let socket = || "nobody".to_owned();
    let cases: [(AnyRequest, &str); 8] = [
        (pb::GetSocketRequest { socket_id: socket(), ..Default::default() }.into(), "SOCKET_NOT_FOUND"),
        (pb::CloseSocketRequest { socket_id: socket(), ..Default::default() }.into(), "SOCKET_NOT_FOUND"),
        (pb::GetSocketRequest { socket_id: "nobody.1".into(), ..Default::default() }.into(), "SOCKET_NOT_FOUND"),
        (pb::ListSocketsRequest { session_id: "none".into(), ..Default::default() }.into(), "SESSION_NOT_FOUND"),
        (pb::ListSocketsRequest { session_id: "alice/lab".into(), ..Default::default() }.into(), "SESSION_NOT_FOUND"),
        (pb::ResetSessionRequest { session_id: "none".into(), ..Default::default() }.into(), "SESSION_NOT_FOUND"),
        (pb::GetCallRequest { request_id: "none".into(), ..Default::default() }.into(), "CALL_NOT_FOUND"),
        (pb::GetKernelCountersRequest { since: "none".into(), ..Default::default() }.into(), "MARK_NOT_FOUND"),
    ];
    for (request, reason) in cases {
        let status = request.send(&agent).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{status:?}");
        assert_eq!(status.get_details_error_info().unwrap().reason, reason);
    }
    for allow in [
        AnyRequest::from(pb::CloseSocketRequest { socket_id: socket(), allow_missing: true, ..Default::default() }),
        AnyRequest::from(pb::AbortSocketRequest { socket_id: socket(), allow_missing: true, ..Default::default() }),
    ] {
        allow.send(&agent).await.unwrap();
    }
}
