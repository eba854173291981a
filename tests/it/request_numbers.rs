//! Every number that a request can have, at the edges of what it may be: beyond them it is refused with the name of its field, up to them it is
//! not. The fields are those of the descriptors, so that a new one without a row here fails; numbers are encoded by hand, so that there is no
//! request that could not be sent.

use std::collections::{BTreeMap, BTreeSet};

use farsock::model::address::{Family, Transport};
use farsock::model::id::Principal;
use farsock::model::limits::{Defaults, Limits};
use farsock::model::option::{Access, OptionSpec, OptionType, OptionValue};
use farsock::model::option_table::OPTIONS;
use farsock::model::policy;
use farsock::model::policy::permit::{Permitted, Ruling};
use farsock::sys;
use farsock::wire::socket::Bounds;
use farsock::wire::{FILE_DESCRIPTOR_SET, pb, transfer};
use prost::Message;
use prost::encoding::encode_varint;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::tcp::went;
use crate::harness::{Agent, AnyRequest, within};

const YEAR: i64 = 366 * 24 * 3600;

/// What a field may be.
#[derive(Debug, Clone, Copy)]
enum Takes {
    /// Whatever its type has room for.
    Anything,
    /// From the first number to the last one.
    Range(i64, i64),
    /// A time of so many nanoseconds at least, and so many seconds at the most.
    Time(i64, i64),
    /// Whole seconds.
    Seconds(i64),
    Moment,
    /// A value of its enum; not this one, where one is named.
    Value(Option<i32>),
    /// What it may be depends on more than a number: another test has it.
    Elsewhere,
}

use Takes::{Anything, Elsewhere, Moment, Range, Seconds, Time, Value};

/// What each field takes: by its name and that of its message, or by more of the way to it, where that matters.
const FIELDS: &[(&str, Takes)] = &[
    ("AbortSocketRequest.socket_uid", Anything),
    ("AcceptSocketRequest.socket_uid", Anything),
    ("AckEventsRequest.through_event_seq", Anything),
    ("BindRetry.attempts", Range(0, 1000)),
    ("BindRetry.interval", Time(10_000_000, YEAR)),
    ("BindSocketRequest.socket_uid", Anything),
    ("BlockSourceRequest.socket_uid", Anything),
    ("Call.start_delay", Time(0, YEAR)),
    ("Call.start_time", Moment),
    ("Call.timeout", Time(0, YEAR)),
    ("CheckPortRequest.family", Value(None)),
    ("CheckPortRequest.timeout", Time(0, YEAR)),
    ("CheckPortRequest.transport", Value(None)),
    ("CloseSocketRequest.linger", Seconds(65_535)),
    ("CloseSocketRequest.socket_uid", Anything),
    ("ConnectRetry.attempts", Range(0, 1000)),
    ("ConnectRetry.interval", Time(10_000_000, YEAR)),
    ("ConnectSocketRequest.attempt_delay", Time(10_000_000, YEAR)),
    ("ConnectSocketRequest.attempt_timeout", Time(0, YEAR)),
    ("ConnectSocketRequest.socket_uid", Anything),
    ("CreateSessionRequest.lease_ttl", Time(5_000_000_000, 3600)),
    ("CreateSessionRequest.orphan_policy", Value(None)),
    ("CreateSessionRequest.retention", Value(None)),
    ("Datagram.hop_limit", Range(0, 255)),
    ("Datagram.reply_to_event", Anything),
    ("Datagram.traffic_class", Range(0, 255)),
    ("Delivery.credit", Range(1, 4_294_967_295)),
    ("Delivery.mode", Value(None)),
    ("Delivery.read_interval", Time(0, YEAR)),
    ("Delivery.read_size", Range(1, 65_536)),
    ("DisconnectSocketRequest.socket_uid", Anything),
    ("FlushSocketRequest.socket_uid", Anything),
    ("JoinGroupRequest.socket_uid", Anything),
    ("LeaveGroupRequest.socket_uid", Anything),
    ("ListEventsRequest.after_event_seq", Anything),
    ("ListEventsRequest.page_size", Anything),
    ("ListInterfacesRequest.page_size", Anything),
    ("ListSessionsRequest.page_size", Anything),
    ("ListSocketsRequest.page_size", Anything),
    ("ListenSocketRequest.backlog", Range(1, 65_535)),
    ("ListenSocketRequest.socket_uid", Anything),
    // Of the three bytes of `MESSAGES`, at least one of which is to be written.
    ("Payload.length", Range(0, 3)),
    ("Payload.offset", Range(0, 3)),
    ("WriteSocketRequest.payload.length", Range(1, 3)),
    ("WriteSocketRequest.payload.offset", Range(0, 2)),
    ("PayloadView.form", Value(None)),
    ("PayloadView.max_bytes", Anything),
    ("Pattern.seed", Anything),
    ("Pattern.size", Range(1, 1 << 20)),
    ("Pattern.start", Anything),
    ("TcpSocketSpec.verify.size", Anything),
    ("UdpSocketSpec.verify.size", Anything),
    ("ReceiveSocketRequest.max_bytes", Range(1, 65_536)),
    ("ReceiveSocketRequest.min_bytes", Range(1, 65_536)),
    ("ReceiveSocketRequest.socket_uid", Anything),
    ("ResolveRequest.family", Value(None)),
    ("ResolveRequest.port", Range(1, 65_535)),
    ("ResolveRequest.timeout", Time(0, YEAR)),
    ("ResolveRequest.transport", Value(None)),
    ("SendDatagramsRequest.interval", Time(0, YEAR)),
    ("SendDatagramsRequest.socket_uid", Anything),
    ("SetSocketDeliveryRequest.socket_uid", Anything),
    ("SetSocketOptionsRequest.socket_uid", Anything),
    ("ShutdownSocketRequest.how", Value(None)),
    ("ShutdownSocketRequest.socket_uid", Anything),
    ("Slices.interval", Time(1, YEAR)),
    ("Slices.size", Range(1, 4_294_967_295)),
    // `every_option_takes_what_is_in_its_range`.
    ("SocketOption.duration", Elsewhere),
    ("SocketOption.number", Elsewhere),
    // With another one beside it.
    ("SocketSpec.count", Range(1, 255)),
    ("TcpSocketSpec.accept", Value(None)),
    ("TcpSocketSpec.accept_delay", Time(0, YEAR)),
    ("TcpSocketSpec.attempt_delay", Time(10_000_000, YEAR)),
    ("TcpSocketSpec.attempt_timeout", Time(0, YEAR)),
    ("TcpSocketSpec.backlog", Range(1, 65_535)),
    ("TcpSocketSpec.close_delay", Time(0, YEAR)),
    ("TcpSocketSpec.direction", Value(None)),
    ("TcpSocketSpec.family", Value(None)),
    ("TcpSocketSpec.half_open", Value(None)),
    ("TcpSocketSpec.idle_timeout", Time(0, YEAR)),
    ("TcpSocketSpec.max_accepts", Anything),
    ("TcpSocketSpec.max_connections", Anything),
    ("TcpSocketSpec.read_delay", Time(0, YEAR)),
    ("TcpSocketSpec.write_high_watermark", Range(0, (4 << 20) - 1)),
    // Up to the usual high watermark.
    ("TcpSocketSpec.write_low_watermark", Range(0, 1000)),
    ("TcpSocketSpec.write_timeout", Time(0, YEAR)),
    // What comes after the first frame: wire/transfer.rs, tcp_transfer.rs, and clients/vectors/.
    ("TransferClose.timeout", Elsewhere),
    ("TransferOpen.socket_uid", Anything),
    // It is TRANSFER there, and a window comes after the first frame, too.
    ("TransferSocketRequest.create.tcp.delivery.mode", Elsewhere),
    ("TransferSocketRequest.window", Elsewhere),
    ("UdpSocketSpec.delivery.mode", Value(Some(pb::DeliveryMode::Transfer as i32))),
    ("UdpSocketSpec.direction", Value(None)),
    ("UdpSocketSpec.family", Value(None)),
    ("SetSourceFilterRequest.mode", Value(Some(0))),
    ("SetSourceFilterRequest.socket_uid", Anything),
    ("UnblockSourceRequest.socket_uid", Anything),
    ("WaitEventRequest.after_event_seq", Anything),
    ("WaitEventRequest.timeout", Time(0, YEAR)),
    ("WatchEventsRequest.after_event_seq", Anything),
    ("WatchEventsRequest.heartbeat_interval", Time(100_000_000, 60)),
    ("WatchEventsRequest.max_events", Anything),
    ("WriteSocketRequest.expected_offset", Anything),
    ("WriteSocketRequest.socket_uid", Anything),
];

/// A field on the way from a request to a number.
#[derive(Clone)]
struct Place {
    message: String,
    field: FieldDescriptorProto,
}

/// The messages and enums of the package.
struct Descriptors {
    messages: BTreeMap<String, DescriptorProto>,
    enums: BTreeMap<String, EnumDescriptorProto>,
    requests: BTreeSet<String>,
}

impl Descriptors {
    fn new() -> Self {
        let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let ours = || set.file.iter().filter(|file| file.package() == "farsock.v1");
        Self {
            messages: ours().flat_map(|f| &f.message_type).map(|m| (m.name().to_owned(), m.clone())).collect(),
            enums: ours().flat_map(|f| &f.enum_type).map(|e| (e.name().to_owned(), e.clone())).collect(),
            requests: ours()
                .flat_map(|f| &f.service)
                .flat_map(|s| &s.method)
                .map(|m| short(m.input_type()).to_owned())
                .collect(),
        }
    }

    /// The ways from a message to every number in it.
    fn numbers(&self, message: &str) -> Vec<Vec<Place>> {
        let mut found = Vec::new();
        for field in &self.messages[message].field {
            let place = Place { message: message.to_owned(), field: field.clone() };
            match field.r#type() {
                // A map of words to words.
                Type::Message if field.type_name().ends_with(".LabelsEntry") => {}
                Type::Message if !is_time(field) => {
                    for rest in self.numbers(short(field.type_name())) {
                        found.push([vec![place.clone()], rest].concat());
                    }
                }
                Type::Bool | Type::String | Type::Bytes => {}
                _ => found.push(vec![place]),
            }
        }
        found
    }

    /// The row of a number, and what it says.
    fn row(&self, way: &[Place]) -> Option<(&'static str, Takes)> {
        (0..way.len()).find_map(|from| {
            let fields: Vec<_> = way[from..].iter().map(|place| place.field.name()).collect();
            let name = format!("{}.{}", way[from].message, fields.join("."));
            FIELDS.iter().find(|(field, _)| *field == name).copied()
        })
    }

    /// Values on the wire that a field takes, and others that it does not take.
    fn edges(&self, field: &FieldDescriptorProto, takes: Takes) -> Vec<(Vec<u8>, bool)> {
        let within = |low: i64, high: i64, most: i64| {
            let edges = BTreeSet::from([0, 1, low - 1, low, high, high.saturating_add(1), most]);
            edges
                .into_iter()
                .filter(|n| (0..=most).contains(n))
                .map(|n| (number(n), (low..=high).contains(&n)))
                .collect()
        };
        match takes {
            Anything if field.r#type() == Type::Uint64 => {
                [0, 1, u64::MAX - 1, u64::MAX].into_iter().map(|n| (number(n.cast_signed()), true)).collect()
            }
            Anything => within(0, u32::MAX.into(), u32::MAX.into()),
            Range(low, high) => within(low, high, u32::MAX.into()),
            Value(except) => {
                let values: BTreeSet<i32> =
                    self.enums[short(field.type_name())].value.iter().map(|value| value.number()).collect();
                let beyond = values.last().unwrap() + 1;
                let strange = [-1, beyond, i32::MAX, i32::MIN].map(|n| (number(n.into()), false));
                let known = values.into_iter().map(|n| (number(n.into()), Some(n) != except));
                known.chain(strange).collect()
            }
            Time(least, most) => {
                let of = |nanos: i64| (nanos / 1_000_000_000, i32::try_from(nanos % 1_000_000_000).unwrap());
                let good = [of(least), of(least + 1), (most, 0)];
                let bad = [of(least - 1), (most, 1), (most + 1, 0), (0, 1_000_000_000)];
                times(&good, &bad)
            }
            Seconds(most) => times(&[(0, 0), (1, 0), (most, 0)], &[(0, 1), (most, 1), (most + 1, 0)]),
            Moment => times(&[(0, 0), (1, 999_999_999)], &[(1, 1_000_000_000), (1, i32::MIN), (-YEAR * 300, 0)]),
            Elsewhere => Vec::new(),
        }
    }
}

/// Times that are good, those that are not, and those that are none anywhere.
fn times(good: &[(i64, i32)], bad: &[(i64, i32)]) -> Vec<(Vec<u8>, bool)> {
    let never =
        [(0, -1), (1, -1), (0, i32::MAX), (i64::MAX, 0), (i64::MIN, 0), (i64::MIN, i32::MIN), (i64::MAX, i32::MAX)];
    let bad = bad.iter().chain(&never).map(|time| (time, false));
    let all = good.iter().map(|time| (time, true)).chain(bad);
    // Zero, too: a time that is left out would leave the usual one as it is.
    let on_wire =
        |(seconds, nanos): (i64, i32)| [vec![0x08], number(seconds), vec![0x10], number(nanos.into())].concat();
    all.map(|(time, good)| (delimited(&on_wire(*time)), good)).collect()
}

fn is_time(field: &FieldDescriptorProto) -> bool {
    [".google.protobuf.Duration", ".google.protobuf.Timestamp"].contains(&field.type_name())
}

fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap()
}

// === On the wire ===

fn number(number: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_varint(number.cast_unsigned(), &mut bytes);
    bytes
}

fn delimited(message: &[u8]) -> Vec<u8> {
    [number(message.len().try_into().unwrap()), message.to_vec()].concat()
}

/// A field with its value. Of two with the same tag the later one counts, and messages are merged.
fn tagged(field: &FieldDescriptorProto, value: &[u8]) -> Vec<u8> {
    let kind = i64::from(field.r#type() == Type::Message) * 2;
    [number(i64::from(field.number()) << 3 | kind), value.to_vec()].concat()
}

/// What a message needs to be a good one, whatever number it has.
fn usual(message: &str) -> Vec<u8> {
    let tcp = pb::TcpSocketSpec {
        role: Some(pb::tcp_socket_spec::Role::Connect(":9".into())),
        half_open: pb::HalfOpenPolicy::AutoEnd.into(),
        write_high_watermark: Some(1000),
        ..Default::default()
    };
    let text = pb::Payload { content: Some(pb::payload::Content::Text("abc".into())), ..Default::default() };
    let socket_id = "nobody".to_owned();
    match message {
        "Call" => pb::Call { detach: true, ..Default::default() }.encode_to_vec(),
        "Payload" => text.encode_to_vec(),
        "Slices" => {
            let interval = Some(prost_types::Duration { seconds: 1, nanos: 0 });
            pb::Slices { size: 1, interval }.encode_to_vec()
        }
        "AckEventsRequest" => {
            let (session_id, watcher_id) = ("nobodys".to_owned(), "nobody".to_owned());
            pb::AckEventsRequest { session_id, watcher_id, through_event_seq: 1 }.encode_to_vec()
        }
        "Pattern" => pb::Pattern { size: 3, start: 0, fill: None }.encode_to_vec(),
        "TcpSocketSpec" => tcp.encode_to_vec(),
        "CreateSocketRequest" => {
            let kind = Some(pb::create_socket_request::Kind::Tcp(tcp));
            pb::CreateSocketRequest { kind, ..Default::default() }.encode_to_vec()
        }
        "SocketSpec" => {
            pb::SocketSpec { kind: Some(pb::socket_spec::Kind::Tcp(tcp)), ..Default::default() }.encode_to_vec()
        }
        "CreateSocketsRequest" => {
            let kind = Some(pb::socket_spec::Kind::Udp(pb::UdpSocketSpec::default()));
            let sockets = vec![pb::SocketSpec { kind, ..Default::default() }];
            pb::CreateSocketsRequest { sockets, ..Default::default() }.encode_to_vec()
        }
        "TransferCreate" => pb::TransferCreate { tcp: Some(tcp), ..Default::default() }.encode_to_vec(),
        "TransferOpen" => pb::TransferOpen { socket_id, ..Default::default() }.encode_to_vec(),
        "BindSocketRequest" => {
            pb::BindSocketRequest { socket_id, local: ":0".into(), ..Default::default() }.encode_to_vec()
        }
        "ConnectSocketRequest" => {
            pb::ConnectSocketRequest { socket_id, remote: ":9".into(), ..Default::default() }.encode_to_vec()
        }
        "WriteSocketRequest" => {
            pb::WriteSocketRequest { socket_id, payload: Some(text), ..Default::default() }.encode_to_vec()
        }
        "SetSocketDeliveryRequest" => {
            let delivery = Some(pb::Delivery::default());
            pb::SetSocketDeliveryRequest { socket_id, delivery, ..Default::default() }.encode_to_vec()
        }
        "SetSocketOptionsRequest" => {
            let value = Some(pb::socket_option::Value::Enabled(true));
            let options = vec![pb::SocketOption { name: "SO_KEEPALIVE".into(), value }];
            pb::SetSocketOptionsRequest { socket_id, options, ..Default::default() }.encode_to_vec()
        }
        "SendDatagramsRequest" => {
            let datagrams = vec![pb::Datagram::default()];
            pb::SendDatagramsRequest { socket_id, datagrams, ..Default::default() }.encode_to_vec()
        }
        "JoinGroupRequest" | "LeaveGroupRequest" | "BlockSourceRequest" | "UnblockSourceRequest" => {
            let (group, source) = ("239.77.9.9".into(), "127.0.0.1".into());
            pb::BlockSourceRequest { socket_id, group, source, ..Default::default() }.encode_to_vec()
        }
        "SetSourceFilterRequest" => {
            let (group, mode) = ("239.77.9.9".into(), pb::FilterMode::Exclude.into());
            pb::SetSourceFilterRequest { socket_id, group, mode, ..Default::default() }.encode_to_vec()
        }
        "CheckPortRequest" => {
            let local = ":9".to_owned();
            pb::CheckPortRequest { local, ..Default::default() }.encode_to_vec()
        }
        "ResolveRequest" => {
            let query = Some(pb::resolve_request::Query::Port(7));
            pb::ResolveRequest { query, ..Default::default() }.encode_to_vec()
        }
        _ if message.ends_with("SocketRequest") && message != "TransferSocketRequest" => {
            pb::AbortSocketRequest { socket_id, ..Default::default() }.encode_to_vec()
        }
        _ => Vec::new(),
    }
}

/// A request with one number, the rest of it as usual.
fn request(descriptors: &Descriptors, way: &[Place], value: &[u8]) -> Vec<u8> {
    let mut bytes = usual(&way[0].message);
    // Nobody waits for what comes of it.
    let call = descriptors.messages[&way[0].message].field.iter().find(|field| field.name() == "call");
    bytes.extend(call.map_or_else(Vec::new, |call| tagged(call, &delimited(&usual("Call")))));
    bytes.extend(match &way[1..] {
        [] => tagged(&way[0].field, value),
        rest => tagged(&way[0].field, &delimited(&request(descriptors, rest, value))),
    });
    bytes
}

/// The name of the field in a refusal: `datagrams[1].hop_limit` is behind the usual one.
fn path(way: &[Place]) -> String {
    let name = |place: &Place| match place.field.label() {
        Label::Repeated => {
            let have_one = ["SendDatagramsRequest", "SetSocketOptionsRequest", "CreateSocketsRequest"];
            let others = usize::from(have_one.contains(&place.message.as_str()));
            format!("{}[{others}]", place.field.name())
        }
        _ => place.field.name().to_owned(),
    };
    way.iter().map(name).collect::<Vec<_>>().join(".")
}

/// The field that a request is refused for, if it is.
async fn refused_for(agent: &Agent, message: &str, bytes: &[u8], shown: &str) -> Option<String> {
    if message == "TransferSocketRequest" {
        let (limits, defaults) = (Limits::default(), Defaults::default());
        let mut first = pb::TransferSocketRequest::decode(bytes).unwrap();
        if let Some(pb::transfer_socket_request::Frame::Create(pb::TransferCreate { call: Some(call), .. })) =
            &mut first.frame
        {
            call.detach = false;
        }
        let bounds = Bounds { limits: &limits, defaults: &defaults };
        return transfer::begin(first, bounds).err().map(|violation| violation.field);
    }
    let request =
        AnyRequest::decode(message, bytes).unwrap_or_else(|| panic!("{message} is no request of the harness"));
    let status = within(shown, request.send(agent)).await.err()?;
    assert!(status.message().chars().all(|c| !c.is_control()), "{status:?}");
    let violations = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    assert_eq!(status.code() == Code::InvalidArgument, !violations.is_empty(), "{shown}: {status:?}");
    violations.into_iter().next().map(|violation| violation.field)
}

#[tokio::test]
async fn every_number_is_taken_up_to_its_edges_and_refused_beyond() {
    let descriptors = Descriptors::new();
    let agent = Agent::start().await;
    let (mut met, mut missing) = (BTreeSet::new(), BTreeSet::new());
    for message in &descriptors.requests {
        for way in descriptors.numbers(message) {
            let (way, path) = (way.as_slice(), path(&way));
            let Some((row, takes)) = descriptors.row(way) else {
                missing.insert(format!("{}.{}", way.last().unwrap().message, way.last().unwrap().field.name()));
                continue;
            };
            met.insert(row);
            for (value, good) in descriptors.edges(&way.last().unwrap().field, takes) {
                let shown = format!("{message}.{path} ({takes:?}) with {value:02x?}");
                let refused = refused_for(&agent, message, &request(&descriptors, way, &value), &shown).await;
                match refused {
                    // What is wrong with a part is wrong with the whole, too.
                    Some(field) => assert!(!good && path.starts_with(&field), "{shown}: refused for {field}"),
                    None => assert!(good, "{shown}: not refused"),
                }
            }
        }
        agent.reset("").await;
    }
    assert!(missing.is_empty(), "numbers without a row: {missing:?}");
    let unused: Vec<_> = FIELDS.iter().map(|(field, _)| *field).filter(|field| !met.contains(field)).collect();
    assert!(unused.is_empty(), "rows without a number: {unused:?}");
    agent.stop().await;
}

// === Options ===

fn ask(spec: &OptionSpec, value: pb::socket_option::Value) -> pb::SetSocketOptionsRequest {
    let options = vec![pb::SocketOption { name: spec.name.into(), value: Some(value) }];
    pb::SetSocketOptionsRequest { socket_id: "s".into(), options, ..Default::default() }
}

/// So many of what the option counts: as requests have it.
fn count(spec: &OptionSpec, count: i64) -> pb::socket_option::Value {
    match spec.kind.unit() {
        None => pb::socket_option::Value::Number(count.try_into().unwrap()),
        Some(unit) => {
            let nanos = i64::try_from(unit.as_nanos()).unwrap() * count;
            let (seconds, nanos) = (nanos / 1_000_000_000, (nanos % 1_000_000_000).try_into().unwrap());
            pb::socket_option::Value::Duration(prost_types::Duration { seconds, nanos })
        }
    }
}

#[tokio::test]
async fn every_option_takes_what_is_in_its_range() {
    let agent = Agent::start().await;
    for spec in OPTIONS {
        let numeric = spec.kind == OptionType::Number || spec.kind.unit().is_some();
        if !numeric || spec.access == Access::ReadOnly {
            continue;
        }
        let (low, high) = (i64::from(spec.range.0), i64::from(spec.range.1));
        let room =
            if spec.kind == OptionType::Number { i64::from(i32::MIN)..=i64::from(i32::MAX) } else { -1..=high + 1 };
        for n in [*room.start(), low - 1, low, 0, high, high + 1, *room.end()] {
            if !room.contains(&n) {
                continue;
            }
            let refused = agent.set_socket_options(ask(spec, count(spec, n))).await.unwrap_err();
            let good = (low..=high).contains(&n);
            let meant = if good { Code::NotFound } else { Code::InvalidArgument };
            assert_eq!(refused.code, meant, "{} {n}: {refused:?}", spec.name);
            assert_eq!(refused.message.starts_with("options[0]."), !good, "{refused:?}");
        }
    }
    agent.stop().await;
}

/// An option, where no policy is in force.
fn free(spec: &'static OptionSpec) -> Permitted<&'static OptionSpec> {
    let place = policy::Place { control: &[], is_local: &|_| false };
    Ruling::new(None, &Principal::owner(), place).option(spec).unwrap()
}

/// Whether a socket has an option is the kernel's to say: of every option and every kind of socket that has it not, it says the same to a plain one.
#[tokio::test]
async fn every_option_of_another_kind_of_socket_is_the_kernels_to_take() {
    let agent = Agent::start().await;
    for (transport, family) in
        [Transport::Tcp, Transport::Udp].into_iter().flat_map(|t| [(t, Family::Ipv4), (t, Family::Ipv6)])
    {
        // What would only fill the error queue of a stream is refused: udp_times has that.
        let asked_of_kernel = |spec: &&OptionSpec| spec.access != Access::ReadOnly && spec.name != "SO_TIMESTAMPING";
        for spec in OPTIONS.iter().filter(asked_of_kernel).filter(|spec| !spec.fits(transport, family)) {
            let (asked, value) = a_value(spec);
            let plain = sys::socket::Socket::new(transport, family).unwrap();
            let near =
                plain.set_option(free(spec), &value).map_or_else(|errno| errno.name().to_owned(), |()| "ok".to_owned());
            let of = if family == Family::Ipv4 { pb::Family::Ipv4 } else { pb::Family::Ipv6 };
            let made = match transport {
                Transport::Tcp => {
                    agent.create_tcp("s", pb::TcpSocketSpec { family: of.into(), ..Default::default() }).await
                }
                Transport::Udp => {
                    agent.create_udp("s", pb::UdpSocketSpec { family: of.into(), ..Default::default() }).await
                }
            };
            made.unwrap();
            let far = went(&agent.set_socket_options(ask(spec, asked)).await);
            assert_eq!(far, near, "{} of {transport} over {family}", spec.name);
            agent.close("s").await;
        }
    }
    agent.stop().await;
}

/// A value that the option may have, as requests and as the kernel have it.
fn a_value(spec: &OptionSpec) -> (pb::socket_option::Value, OptionValue) {
    use pb::socket_option::Value;

    let least = spec.range.0.max(1);
    let word = match spec.kind {
        OptionType::Enabled | OptionType::Linger => return (Value::Enabled(true), OptionValue::Enabled(true)),
        OptionType::Number => return (Value::Number(least), OptionValue::Number(least)),
        OptionType::Seconds | OptionType::Milliseconds | OptionType::Microseconds => {
            let time = spec.kind.unit().unwrap() * least.cast_unsigned();
            return (count(spec, least.into()), OptionValue::Time(time));
        }
        OptionType::InterfaceName | OptionType::InterfaceIndex | OptionType::MulticastInterface => "lo",
        OptionType::Text => "reno",
        OptionType::PathMtu => "do",
        OptionType::PortRange => "40000-40010",
        OptionType::Timestamping => "software",
        OptionType::Cookie | OptionType::CongestionInfo => panic!("{} is only read", spec.name),
    };
    (Value::Text(word.into()), OptionValue::Text(word.into()))
}
