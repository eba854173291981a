//! Changing requests as a client sends them: the other direction of [`request`](crate::wire::request).

use prost::Message;

use crate::model::delivery::Slices;
use crate::model::group::GroupChange;
use crate::model::operation::{Action, CallOptions, OutgoingDatagram, SendFlags, SocketAction, Start, Take, Target};
use crate::model::option::SocketOption;
use crate::wire::{call, create, delivery, group, option, pb, socket, source_filter};

macro_rules! requests {
    ($($method:ident $message:ident;)*) => {
        /// A changing request, as the RPC of its method takes it.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs, reason = "one variant a method")]
        #[allow(clippy::large_enum_variant, reason = "it is made, sent and gone: there are no more of them than calls")]
        pub enum Request {
            $($method(pb::$message),)*
        }

        impl Request {
            /// The name of its method, and its bytes.
            pub(super) fn encoded(&self) -> (&'static str, Vec<u8>) {
                match self {
                    $(Self::$method(message) => (stringify!($method), message.encode_to_vec()),)*
                }
            }
        }
    };
}

requests! {
    CreateSession CreateSessionRequest;
    ResetSession ResetSessionRequest;
    DeleteSession DeleteSessionRequest;
    CreateSocket CreateSocketRequest;
    CreateSockets CreateSocketsRequest;
    BindSocket BindSocketRequest;
    ListenSocket ListenSocketRequest;
    AcceptSocket AcceptSocketRequest;
    ConnectSocket ConnectSocketRequest;
    DisconnectSocket DisconnectSocketRequest;
    WriteSocket WriteSocketRequest;
    SendDatagrams SendDatagramsRequest;
    ReceiveSocket ReceiveSocketRequest;
    FlushSocket FlushSocketRequest;
    ShutdownSocket ShutdownSocketRequest;
    CloseSocket CloseSocketRequest;
    AbortSocket AbortSocketRequest;
    SetSocketDelivery SetSocketDeliveryRequest;
    SetSocketOptions SetSocketOptionsRequest;
    JoinGroup JoinGroupRequest;
    LeaveGroup LeaveGroupRequest;
    BlockSource BlockSourceRequest;
    UnblockSource UnblockSourceRequest;
    SetSourceFilter SetSourceFilterRequest;
}

/// Writes a request.
pub fn request(action: &Action, options: &CallOptions) -> Request {
    let call = Some(write_call(options));
    match action {
        Action::CreateSession { session, spec } => Request::CreateSession(pb::CreateSessionRequest {
            session_id: session.as_ref().map(ToString::to_string).unwrap_or_default(),
            lease_ttl: spec.lease.ttl.map(call::span),
            orphan_policy: pb::OrphanPolicy::from(spec.lease.orphans).into(),
            retention: pb::Retention::from(spec.retention).into(),
            interface_events: spec.interface_events,
            call,
        }),
        Action::ResetSession { session } => {
            Request::ResetSession(pb::ResetSessionRequest { session_id: session.to_string(), call })
        }
        Action::DeleteSession { session, allow_missing } => Request::DeleteSession(pb::DeleteSessionRequest {
            session_id: session.to_string(),
            allow_missing: *allow_missing,
            call,
        }),
        Action::CreateSocket { session, socket, spec } => Request::CreateSocket(pb::CreateSocketRequest {
            session_id: session.to_string(),
            socket_id: socket.as_ref().map(ToString::to_string).unwrap_or_default(),
            kind: Some(create::write_kind(spec)),
            labels: socket::write_labels(&spec.labels),
            call,
        }),
        Action::CreateSockets { session, sockets } => Request::CreateSockets(pb::CreateSocketsRequest {
            session_id: session.to_string(),
            sockets: create::write_sockets(sockets),
            call,
        }),
        Action::Socket(target, action) => on_socket(target, action, call),
    }
}

fn on_socket(target: &Target, action: &SocketAction, call: Option<pb::Call>) -> Request {
    let session_id = target.session.to_string();
    let socket_id = target.socket.to_string();
    let socket_uid = target.uid.map(|uid| uid.0);
    /// Fills in what all of these requests have.
    macro_rules! request {
        ($method:ident, $message:ident { $($field:ident: $value:expr),* }) => {
            Request::$method(pb::$message { session_id, socket_id, $($field: $value,)* socket_uid, call })
        };
    }
    match action {
        SocketAction::Bind { local, retry } => request!(
            BindSocket,
            BindSocketRequest { local: local.to_string(), retry: socket::write_bind_retry(*retry) }
        ),
        SocketAction::Listen { backlog } => request!(ListenSocket, ListenSocketRequest { backlog: *backlog }),
        SocketAction::Accept => request!(AcceptSocket, AcceptSocketRequest {}),
        SocketAction::Connect { remote, attempts } => {
            let (attempt_timeout, retry) = socket::write_attempts(*attempts);
            request!(
                ConnectSocket,
                ConnectSocketRequest {
                    remote: remote.to_string(),
                    attempt_timeout: attempt_timeout,
                    retry: retry,
                    attempt_delay: attempts.delay.map(call::span)
                }
            )
        }
        SocketAction::Disconnect => request!(DisconnectSocket, DisconnectSocketRequest {}),
        SocketAction::Write { payload, expected_offset, flags, slices } => request!(
            WriteSocket,
            WriteSocketRequest {
                payload: Some(data(payload)),
                expected_offset: *expected_offset,
                urgent: flags.urgent,
                more: flags.more,
                slices: slices
                    .map(|Slices { size, interval }| pb::Slices { size, interval: Some(call::span(interval)) })
            }
        ),
        SocketAction::Send { datagrams, interval, flags: SendFlags { probes, template } } => {
            let interval = (!interval.is_zero()).then(|| call::span(*interval));
            let datagrams = datagrams.iter().map(write_datagram).collect();
            request!(
                SendDatagrams,
                SendDatagramsRequest { datagrams: datagrams, interval: interval, probes: *probes, template: *template }
            )
        }
        SocketAction::Receive(Take { max_bytes, min_bytes, peek }) => request!(
            ReceiveSocket,
            ReceiveSocketRequest { max_bytes: *max_bytes, min_bytes: *min_bytes, view: Some(data_view()), peek: *peek }
        ),
        SocketAction::Flush => request!(FlushSocket, FlushSocketRequest {}),
        SocketAction::Shutdown(how) => {
            request!(ShutdownSocket, ShutdownSocketRequest { how: pb::ShutdownHow::from(*how).into() })
        }
        SocketAction::Close { linger, allow_missing } => request!(
            CloseSocket,
            CloseSocketRequest {
                linger: linger.map(|seconds| prost_types::Duration { seconds: seconds.into(), nanos: 0 }),
                allow_missing: *allow_missing
            }
        ),
        SocketAction::Abort { allow_missing } => {
            request!(AbortSocket, AbortSocketRequest { allow_missing: *allow_missing })
        }
        SocketAction::SetDelivery(change) => {
            request!(SetSocketDelivery, SetSocketDeliveryRequest { delivery: Some(delivery::write(*change)) })
        }
        SocketAction::SetOptions(options) => {
            request!(SetSocketOptions, SetSocketOptionsRequest { options: write_options(options) })
        }
        SocketAction::Filter(asked) => {
            let (group, interface, mode, sources) = source_filter::write(asked);
            request!(
                SetSourceFilter,
                SetSourceFilterRequest { group: group, interface: interface, mode: mode, sources: sources }
            )
        }
        SocketAction::Group(change, asked) => {
            let (group, interface, source) = group::write(asked);
            match change {
                GroupChange::Join => {
                    request!(JoinGroup, JoinGroupRequest { group: group, interface: interface, source: source })
                }
                GroupChange::Leave => {
                    request!(LeaveGroup, LeaveGroupRequest { group: group, interface: interface, source: source })
                }
                GroupChange::Block => {
                    request!(BlockSource, BlockSourceRequest { group: group, interface: interface, source: source })
                }
                GroupChange::Unblock => {
                    request!(UnblockSource, UnblockSourceRequest { group: group, interface: interface, source: source })
                }
            }
        }
    }
}

fn write_call(options: &CallOptions) -> pb::Call {
    pb::Call {
        request_id: options.request_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        start: match options.start {
            Start::Now => None,
            Start::At(moment) => Some(pb::call::Start::StartTime(call::time(moment))),
            Start::After(delay) => Some(pb::call::Start::StartDelay(call::span(delay))),
        },
        timeout: options.timeout.map(call::span),
        detach: options.detach,
        fail_on_error: options.fail_on_error,
        instance_id: options.instance.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

pub(super) fn write_options(options: &[SocketOption]) -> Vec<pb::SocketOption> {
    options.iter().map(|SocketOption { spec, value }| option::option(spec, value)).collect()
}

fn write_datagram(datagram: &OutgoingDatagram) -> pb::Datagram {
    pb::Datagram {
        destination: datagram.destination.as_ref().map(ToString::to_string).unwrap_or_default(),
        payload: Some(data(&datagram.payload)),
        reply_to_event: datagram.reply_to_event.unwrap_or(0),
        hop_limit: datagram.hop_limit.map(u32::from),
        traffic_class: datagram.traffic_class.map(u32::from),
        source: datagram.source.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

fn data(bytes: &bytes::Bytes) -> pb::Payload {
    pb::Payload { content: Some(pb::payload::Content::Data(bytes.clone())), ..pb::Payload::default() }
}

/// The view in which a client of ours reads payloads: as they are.
pub fn data_view() -> pb::PayloadView {
    pb::PayloadView { form: pb::PayloadForm::Data.into(), ..pb::PayloadView::default() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::model::address::{AddressText, Family};
    use crate::model::delivery::{Delivery, DeliveryChange, DeliveryMode, Watermarks, WriteTimeout};
    use crate::model::group::{GroupAsked, InterfaceText};
    use crate::model::id::{InstanceId, RequestId, SessionId, SocketId, SocketUid};
    use crate::model::labels::Labels;
    use crate::model::limits::{Defaults, Limits};
    use crate::model::operation::{ShutdownHow, WriteFlags};
    use crate::model::option::OptionValue;
    use crate::model::payload::{Fill, Pattern};
    use crate::model::peers::{PeerRule, Peers};
    use crate::model::placeholder;
    use crate::model::session::{LeaseSpec, OrphanPolicy, Retention, SessionSpec};
    use crate::model::socket::{AcceptPolicy, Conduct, Direction, HalfOpenPolicy};
    use crate::model::source_filter::{FilterAsked, FilterMode, SourceFilter};
    use crate::model::spec::{Attempts, Kind, Retry, SocketSpec, TcpRole, TcpSpec, UdpSpec};
    use crate::model::time::Timestamp;
    use crate::wire::request::{Ask, Asked};
    use crate::wire::socket::Bounds;
    use proptest::option::of;
    use proptest::prelude::*;
    use proptest::sample::select;

    fn address() -> impl Strategy<Value = AddressText> {
        select(vec!["10.0.0.2:80", "[::1]:0", "[fe80::2%eth0]:http", "lab-b:65535", ":8888"])
            .prop_map(|text| AddressText::parse(text).unwrap())
    }

    fn bytes(least: usize) -> impl Strategy<Value = bytes::Bytes> {
        prop::collection::vec(any::<u8>(), least..40).prop_map(bytes::Bytes::from)
    }

    fn change() -> impl Strategy<Value = DeliveryChange> {
        let mode = of(select(vec![DeliveryMode::Events, DeliveryMode::Pull, DeliveryMode::Count]));
        let interval = of((1..9_u64).prop_map(Duration::from_millis));
        (mode, of(any::<bool>()), of(1..65_536_u32), of(any::<bool>()), of(1..9_u32), interval).prop_map(
            |(mode, paused, read_size, hash, credit, read_interval)| {
                let credit = credit.filter(|_| paused != Some(true));
                DeliveryChange { mode, paused, read_size, hash, credit, read_interval }
            },
        )
    }

    /// With a source, so that it can be blocked, too.
    fn membership() -> impl Strategy<Value = GroupAsked> {
        let interface = select(vec!["", "all", "eth0", "7", "10.0.0.1", "fe80::1"]);
        let ips = select(vec![("239.1.2.3", "10.0.0.2"), ("ff15::7", "fd00::2")]);
        (ips, interface).prop_map(|((group, source), interface)| GroupAsked {
            group: group.parse().unwrap(),
            interface: InterfaceText::parse(interface).unwrap(),
            source: source.parse().ok(),
        })
    }

    fn sockopts() -> impl Strategy<Value = Vec<SocketOption>> {
        let one = select(vec![
            ("SO_KEEPALIVE", OptionValue::Enabled(true)),
            ("IP_TTL", OptionValue::Number(64)),
            ("TCP_KEEPIDLE", OptionValue::Time(Duration::from_secs(30))),
            ("SO_BINDTODEVICE", OptionValue::Text("lo".into())),
        ]);
        prop::collection::vec(one, 1..4)
            .prop_map(|all| all.into_iter().map(|(name, value)| SocketOption::new(name, value).unwrap()).collect())
    }

    fn retry() -> impl Strategy<Value = Retry> {
        (0..1000_u32, 10..5000_u64)
            .prop_map(|(attempts, interval)| Retry { attempts, interval: Duration::from_millis(interval) })
    }

    fn attempts() -> impl Strategy<Value = Attempts> {
        let millis = |millis: Option<u64>| millis.map(Duration::from_millis);
        (of(1..5000_u64), of(retry()), of(10..5000_u64)).prop_map(move |(timeout, retry, delay)| Attempts {
            timeout: millis(timeout),
            retry,
            delay: millis(delay),
        })
    }

    fn peers() -> impl Strategy<Value = Peers> {
        let rule = select(vec!["10.0.0.7", "10.0.0.0/8", "fd00::1-fd00::9"]).prop_map(|t| PeerRule::parse(t).unwrap());
        let rules = prop::collection::vec(rule, 0..3);
        (rules.clone(), rules).prop_map(|(deny, allow)| Peers { deny, allow })
    }

    fn labels() -> impl Strategy<Value = Labels> {
        let label = |text: &'static str| select(vec![text, "x"]).prop_map(Box::from);
        prop::collection::btree_map(label("team"), label("blue"), 0..3)
    }

    fn pattern() -> impl Strategy<Value = Arc<Pattern>> {
        let fill =
            prop_oneof![Just(Fill::Counting), Just(Fill::Repeat("ab".into())), any::<u64>().prop_map(Fill::Random)];
        (any::<u32>(), any::<u64>(), fill).prop_map(|(size, start, fill)| Arc::new(Pattern { size, start, fill }))
    }

    fn spec() -> impl Strategy<Value = SocketSpec> {
        let role = prop_oneof![
            Just(TcpRole::Idle),
            Just(TcpRole::Listen(None)),
            address().prop_map(|text| TcpRole::Listen(Some(text))),
            address().prop_map(TcpRole::Connect),
        ];
        let accept = select(vec![AcceptPolicy::Auto, AcceptPolicy::Manual]);
        let numbers = (1..65_536_u32, of(any::<u32>()), of(any::<u32>()), 0..100_u64);
        let tcp = (role, numbers, accept, attempts(), peers()).prop_map(|(role, numbers, accept, attempts, peers)| {
            let (backlog, max_connections, max_accepts, delay) = numbers;
            let connects = matches!(role, TcpRole::Connect(_));
            let attempts = if connects { attempts } else { Attempts::default() };
            let auto = accept == AcceptPolicy::Auto;
            let accept_delay = Duration::from_millis(if auto { delay } else { 0 });
            let max_accepts = max_accepts.filter(|_| auto);
            Kind::Tcp(TcpSpec { role, backlog, max_connections, accept, max_accepts, accept_delay, attempts, peers })
        });
        let groups = prop::collection::vec(membership(), 0..3);
        let udp = (of(address()), groups, any::<bool>())
            .prop_map(|(connect, groups, probes)| Kind::Udp(UdpSpec { connect, groups, probes }));
        let direction = select(vec![Direction::Both, Direction::ReceiveOnly, Direction::SendOnly]);
        let half_open = select(vec![HalfOpenPolicy::Allow, HalfOpenPolicy::AutoEnd]);
        let watermarks = (0..9_u32, 0..9_u32).prop_map(|(low, more)| Watermarks { low, high: low + more });
        let conduct = (change(), direction, half_open, 0..100_u64, watermarks);
        let family = of(select(vec![Family::Ipv4, Family::Ipv6]));
        (prop_oneof![tcp, udp], family, (of(address()), of(retry())), conduct, of(pattern()), sockopts(), labels())
            .prop_map(
                |(
                    kind,
                    family,
                    (bind, bind_retry),
                    (change, direction, half_open, idle, watermarks),
                    verify,
                    options,
                    labels,
                )| {
                    let mut delivery = Delivery::usual(65_536).changed(change);
                    let bound_already = matches!(&kind, Kind::Tcp(tcp) if matches!(tcp.role, TcpRole::Listen(Some(_))));
                    let tcp = matches!(kind, Kind::Tcp(_));
                    delivery.hash &= tcp;
                    // UDP has neither, and says so by the values that mean nothing.
                    let half_open = if tcp { half_open } else { HalfOpenPolicy::Allow };
                    let idle_timeout = Duration::from_secs(if tcp { idle } else { 0 });
                    let read_delay = idle_timeout / 2;
                    let close_delay = if half_open == HalfOpenPolicy::AutoEnd { idle_timeout } else { Duration::ZERO };
                    let watermarks = if tcp { watermarks } else { Watermarks::default() };
                    let write_timeout = WriteTimeout { usual: idle_timeout * 2, closes: tcp && watermarks.high > 4 };
                    let conduct = Conduct {
                        delivery,
                        direction,
                        half_open,
                        idle_timeout,
                        read_delay,
                        close_delay,
                        watermarks,
                        write_timeout,
                        tell_states: tcp && idle_timeout.as_secs() % 2 == 1,
                    };
                    let races = matches!(&kind, Kind::Tcp(tcp) if tcp.attempts.delay.is_some());
                    let bind = bind.filter(|_| !bound_already && !races);
                    SocketSpec { kind, family, bind, bind_retry, conduct, verify, options, labels }
                },
            )
    }

    fn socket_action() -> impl Strategy<Value = SocketAction> {
        let how = select(vec![ShutdownHow::Receive, ShutdownHow::Send, ShutdownHow::Both]);
        let source = select(vec!["10.0.0.1", "[::1]", "[fe80::1%eth0]"]).prop_map(|s| AddressText::parse(s).unwrap());
        let marks = (of(any::<u8>()), of(any::<u8>()), of(source));
        let datagram =
            (of(address()), bytes(0), of(1..9_u64), marks).prop_map(|(destination, payload, answered, marks)| {
                let (hop_limit, traffic_class, source) = marks;
                OutgoingDatagram { destination, payload, reply_to_event: answered, hop_limit, traffic_class, source }
            });
        let flags = (any::<bool>(), any::<bool>()).prop_map(|(urgent, more)| WriteFlags { urgent, more });
        let sent_as = (any::<bool>(), any::<bool>()).prop_map(|(probes, template)| SendFlags { probes, template });
        let slices =
            (1..9_u32, 1..9_u64).prop_map(|(size, millis)| Slices { size, interval: Duration::from_millis(millis) });
        prop_oneof![
            (address(), of(retry())).prop_map(|(local, retry)| SocketAction::Bind { local, retry }),
            of(1..65_536_u32).prop_map(|backlog| SocketAction::Listen { backlog }),
            Just(SocketAction::Accept),
            (address(), attempts()).prop_map(|(remote, attempts)| SocketAction::Connect { remote, attempts }),
            Just(SocketAction::Disconnect),
            (bytes(1), of(any::<u64>()), flags, of(slices)).prop_map(|(payload, expected_offset, flags, slices)| {
                SocketAction::Write { payload, expected_offset, flags, slices }
            }),
            (prop::collection::vec(datagram, 1..4), 0..9_u64, sent_as).prop_map(|(datagrams, millis, mut flags)| {
                flags.template &= datagrams.iter().all(|datagram| placeholder::check(&datagram.payload).is_ok());
                SocketAction::Send { datagrams, interval: Duration::from_millis(millis), flags }
            }),
            (of(5..9_u32), of(1..5_u32), any::<bool>())
                .prop_map(|(max_bytes, min_bytes, peek)| SocketAction::Receive(Take { max_bytes, min_bytes, peek })),
            Just(SocketAction::Flush),
            how.prop_map(SocketAction::Shutdown),
            (of(any::<u16>()), any::<bool>())
                .prop_map(|(linger, allow_missing)| SocketAction::Close { linger, allow_missing }),
            any::<bool>().prop_map(|allow_missing| SocketAction::Abort { allow_missing }),
            change().prop_map(SocketAction::SetDelivery),
            sockopts().prop_map(SocketAction::SetOptions),
            (select(GroupChange::ALL.to_vec()), membership())
                .prop_map(|(change, asked)| SocketAction::Group(change, asked)),
            (membership(), select(vec![FilterMode::Include, FilterMode::Exclude]), 0..3_usize).prop_map(
                |(GroupAsked { group, interface, source }, mode, count)| {
                    let sources = source.into_iter().cycle().take(count).collect();
                    SocketAction::Filter(FilterAsked { group, interface, filter: SourceFilter { mode, sources } })
                }
            ),
        ]
    }

    fn session_spec() -> impl Strategy<Value = SessionSpec> {
        let lease = (of(5_000..3_600_000_u64), select(vec![OrphanPolicy::Close, OrphanPolicy::Abort]));
        (lease, select(vec![Retention::Ring, Retention::Lossless])).prop_map(|((ttl, orphans), retention)| {
            let lease = LeaseSpec { ttl: ttl.map(Duration::from_millis), orphans };
            SessionSpec { lease, retention, interface_events: lease.ttl.is_some() }
        })
    }

    fn action() -> impl Strategy<Value = Action> {
        let session = || select(vec!["", "lab"]).prop_map(|text| SessionId::parse(text).unwrap());
        let socket = || select(vec!["door", "line-2"]).prop_map(|text| SocketId::parse(text).unwrap());
        prop_oneof![
            (of(session()), session_spec()).prop_map(|(session, spec)| Action::CreateSession { session, spec }),
            session().prop_map(|session| Action::ResetSession { session }),
            (session(), any::<bool>())
                .prop_map(|(session, allow_missing)| Action::DeleteSession { session, allow_missing }),
            (session(), of(socket()), spec()).prop_map(|(session, socket, spec)| Action::CreateSocket {
                session,
                socket,
                spec: Box::new(spec)
            }),
            (session(), prop::collection::vec(spec(), 1..3)).prop_map(|(session, specs)| {
                let name = |at| (at > 0).then(|| SocketId::parse(&format!("line-{at}")).unwrap());
                Action::CreateSockets {
                    session,
                    sockets: specs.into_iter().enumerate().map(|(at, spec)| (name(at), spec)).collect(),
                }
            }),
            (session(), socket(), of(any::<u64>()), socket_action()).prop_map(|(session, socket, uid, action)| {
                Action::Socket(Target { session, socket, uid: uid.map(SocketUid) }, action)
            }),
        ]
    }

    fn options() -> impl Strategy<Value = CallOptions> {
        let start = prop_oneof![
            Just(Start::Now),
            any::<i64>().prop_map(|nanos| Start::At(Timestamp::from_nanos(nanos))),
            (0..1_000_000_u64).prop_map(|micros| Start::After(Duration::from_micros(micros))),
        ];
        let timeout = of((0..1_000_000_u64).prop_map(Duration::from_micros));
        (of(Just("r-1")), start, timeout, any::<bool>(), any::<bool>(), of(any::<[u8; 16]>())).prop_map(
            |(id, start, timeout, detach, fail_on_error, bits)| CallOptions {
                request_id: id.map(|id| RequestId::parse(id).unwrap()),
                start,
                timeout,
                detach,
                fail_on_error,
                instance: bits.map(InstanceId::from_random),
                asker: None,
            },
        )
    }

    fn read(request: Request) -> Asked {
        let (limits, defaults) = (Limits::default(), Defaults::default());
        let bounds = Bounds { limits: &limits, defaults: &defaults };
        match request {
            Request::CreateSession(request) => request.check(bounds),
            Request::ResetSession(request) => request.check(bounds),
            Request::DeleteSession(request) => request.check(bounds),
            Request::CreateSocket(request) => request.check(bounds),
            Request::CreateSockets(request) => request.check(bounds),
            Request::BindSocket(request) => request.check(bounds),
            Request::ListenSocket(request) => request.check(bounds),
            Request::AcceptSocket(request) => request.check(bounds),
            Request::ConnectSocket(request) => request.check(bounds),
            Request::DisconnectSocket(request) => request.check(bounds),
            Request::WriteSocket(request) => request.check(bounds),
            Request::SendDatagrams(request) => request.check(bounds),
            Request::ReceiveSocket(request) => request.check(bounds),
            Request::FlushSocket(request) => request.check(bounds),
            Request::ShutdownSocket(request) => request.check(bounds),
            Request::CloseSocket(request) => request.check(bounds),
            Request::AbortSocket(request) => request.check(bounds),
            Request::SetSocketDelivery(request) => request.check(bounds),
            Request::SetSocketOptions(request) => request.check(bounds),
            Request::JoinGroup(request) => request.check(bounds),
            Request::LeaveGroup(request) => request.check(bounds),
            Request::BlockSource(request) => request.check(bounds),
            Request::UnblockSource(request) => request.check(bounds),
            Request::SetSourceFilter(request) => request.check(bounds),
        }
        .unwrap()
    }

    proptest! {
        /// What a client means is what an agent understands.
        #[test]
        fn every_request_arrives_as_it_was_meant(action in action(), options in options()) {
            let asked = read(request(&action, &options));
            prop_assert_eq!(asked.action, action);
            prop_assert_eq!(asked.options, options);
        }
    }
}
