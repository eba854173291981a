//! Thousands of requests with nonsense in them: nothing panics, hangs, or is the agent's own fault.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use farsock::agent::AgentConfig;
use farsock::model::limits::{Defaults, Limits};
use farsock::wire::pb;
use farsock::wire::pb::call::Start;
use farsock::wire::pb::create_socket_request::Kind;
use farsock::wire::pb::payload::Content;
use farsock::wire::pb::resolve_request::Query;
use farsock::wire::pb::socket_option::Value;
use farsock::wire::pb::tcp_socket_spec::Role;
use tokio::task::JoinSet;
use tonic::Code;

use crate::harness::{Agent, AnyRequest, SmallResolver, within};

/// A generator of numbers that are the same in every run. Knuth's MMIX.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(3) == 0).then(|| make(self))
    }

    fn many<T>(&mut self, make: impl Fn(&mut Self) -> T) -> Vec<T> {
        (0..self.below(4)).map(|_| make(self)).collect()
    }

    fn flag(&mut self) -> bool {
        self.below(4) == 0
    }

    /// Mostly a name that may exist.
    fn id(&mut self) -> String {
        let known = ["a", "b", "c", "a", "b", "c", "a.1", "b.2"];
        let strange = ["", "nobody", "A", "-", "a b", "a.0", "a.99999999999999999999", "ñ\n"];
        self.one(&[known, strange].concat()).into()
    }

    fn session(&mut self) -> String {
        self.one(&["", "", "", "default", "lab", "lab", "LAB", "no\0ne", "owner/lab", "alice/lab", "/"]).into()
    }

    /// Never an address of another machine.
    fn address(&mut self) -> String {
        let bound = ["127.0.0.1:0", "[::1]:0", ":0", "0", "0.0.0.0:0", "[::]:0"];
        let far = ["127.0.0.1:9", "[::1]:9", "127.255.255.255:9", "[fe80::1%lo]:9"];
        let named = ["lab-b:echo", "lab-b:9", "nobody:1", "127.0.0.1:echo"];
        let wrong = ["", "70000", ":70000", "127.1:80", "0x7f000001:1", "::1", "[::1", "[::1]"];
        let strange = ["[fe80::1%nope]:9", "[::1%0]:9", "a:b:c", "%", "[]:1", ":", "\u{0}:1", "١٢٧.0.0.1:80"];
        let addresses = [&bound[..], &far, &named, &wrong, &strange].concat();
        self.one(&addresses).into()
    }

    fn number(&mut self) -> u32 {
        self.one(&[0, 1, 2, 3, 7, 64, 1000, 65_535, 65_536, 1 << 20, u32::MAX])
    }

    fn big(&mut self) -> u64 {
        self.one(&[0, 1, 2, 3, 10, 100, u64::from(u32::MAX), u64::MAX - 1, u64::MAX])
    }

    /// The value of an enum, or none.
    fn value(&mut self) -> i32 {
        self.one(&[0, 0, 1, 1, 2, 2, 3, 4, -1, 99, i32::MIN, i32::MAX])
    }

    /// Short ones, and impossible ones.
    fn span(&mut self) -> prost_types::Duration {
        let (seconds, nanos) = self.one(&[
            (0, 0),
            (0, 1),
            (0, 3_000_000),
            (-1, 0),
            (0, -1),
            (1, -1),
            (0, i32::MAX),
            (i64::MAX, 0),
            (i64::MIN, i32::MIN),
        ]);
        prost_types::Duration { seconds, nanos }
    }

    fn call(&mut self) -> pb::Call {
        pb::Call {
            request_id: self.one(&["", "", "", "one", "two", "three", "@1", "no name", "é"]).into(),
            start: match self.below(6) {
                0 => Some(Start::StartDelay(self.span())),
                1 => {
                    let (seconds, nanos) =
                        self.one(&[(0, 0), (i64::MAX, 0), (i64::MIN, 0), (1, -1), (1, i32::MAX), (-9_300_000_000, 0)]);
                    Some(Start::StartTime(prost_types::Timestamp { seconds, nanos }))
                }
                _ => None,
            },
            timeout: self.maybe(Self::span),
            detach: self.flag(),
            fail_on_error: self.flag(),
            instance_id: self.one(&["", "", "", "", "0", &"0".repeat(32), "x"]).into(),
        }
    }

    fn payload(&mut self) -> pb::Payload {
        let content = match self.below(6) {
            0 => Some(Content::Text(self.one(&["", "hola", "你好", "\u{fffd}\0"]).into())),
            1 => Some(Content::Hex(self.one(&["", "4", "4 8", "48:65", "zz"]).into())),
            2 => Some(Content::Data(self.one(&[&b""[..], b"\xff\xfe", &[0; 70_000]]).to_vec().into())),
            3 | 4 => Some(Content::Pattern(self.pattern())),
            _ => None,
        };
        let encoding = self.one(&["", "", "", "utf-16le", "gbk", "latin1", "utf-9", "\n"]).into();
        let crlf = self.one(&[false, false, false, true]);
        pb::Payload { content, encoding, offset: self.maybe(Self::number), length: self.maybe(Self::number), crlf }
    }

    fn pattern(&mut self) -> pb::Pattern {
        let fill = match self.below(3) {
            0 => None,
            1 => Some(pb::pattern::Fill::Repeat(self.one(&["", "ab", "ñ"]).into())),
            _ => Some(pb::pattern::Fill::Seed(self.big())),
        };
        pb::Pattern { size: self.number(), start: self.big(), fill }
    }

    fn view(&mut self) -> pb::PayloadView {
        let encoding = self.one(&["", "", "gbk", "utf-16be", "no"]).into();
        pb::PayloadView { form: self.value(), encoding, max_bytes: self.number() }
    }

    fn filter(&mut self) -> pb::EventFilter {
        pb::EventFilter {
            socket_ids: self.many(|dice| dice.one(&["a", "b", "a.*", "a.1", "*", "", ".*", "A", "a.1.*"]).to_owned()),
            kinds: self.many(|dice| dice.one(&["created", "closed", "sent", "Closed", "", "clsoed"]).to_owned()),
        }
    }

    fn delivery(&mut self) -> pb::Delivery {
        pb::Delivery {
            mode: self.value(),
            paused: self.maybe(Self::flag),
            read_size: self.maybe(Self::number),
            hash: self.maybe(Self::flag),
            credit: self.maybe(Self::number),
            read_interval: self.maybe(Self::span),
        }
    }

    fn option(&mut self) -> pb::SocketOption {
        let names = [
            "SO_KEEPALIVE",
            "SO_RCVBUF",
            "SO_LINGER",
            "IP_TTL",
            "IPV6_V6ONLY",
            "TCP_NODELAY",
            "TCP_KEEPIDLE",
            "SO_BINDTODEVICE",
            "IP_MULTICAST_IF",
            "SO_ERROR",
            "so_rcvbuf",
            "",
            "SO_NOTHING\n",
        ];
        let value = match self.below(6) {
            0 => Some(Value::Enabled(self.flag())),
            1 | 2 => Some(Value::Number(self.one(&[0, 1, -1, 64, 255, 256, 65_536, i32::MAX, i32::MIN]))),
            3 => Some(Value::Duration(self.span())),
            4 => Some(Value::Text(self.one(&["lo", "", "nope", "a-name-that-is-too-long-for-any", "l\0"]).into())),
            _ => None,
        };
        pb::SocketOption { name: self.one(&names).into(), value }
    }

    fn tcp(&mut self) -> pb::TcpSocketSpec {
        pb::TcpSocketSpec {
            bind: if self.flag() { self.address() } else { String::new() },
            role: match self.below(3) {
                0 => Some(Role::Listen(self.address())),
                1 => Some(Role::Connect(self.address())),
                _ => None,
            },
            backlog: self.maybe(Self::number),
            max_connections: self.maybe(Self::number),
            half_open: self.value(),
            accept: self.value(),
            delivery: self.maybe(Self::delivery),
            options: self.many(Self::option),
            family: self.value(),
            direction: self.value(),
            idle_timeout: self.maybe(Self::span),
            max_accepts: self.maybe(Self::number),
            accept_delay: self.maybe(Self::span),
            read_delay: self.maybe(Self::span),
            close_delay: self.maybe(Self::span),
            write_timeout: self.maybe(Self::span),
            close_on_write_timeout: self.flag(),
            tcp_state_events: self.flag(),
            attempt_timeout: self.maybe(Self::span),
            attempt_delay: self.maybe(Self::span),
            retry: self.maybe(Self::retry),
            write_high_watermark: self.maybe(Self::number),
            write_low_watermark: self.maybe(Self::number),
            deny: self.maybe(Self::rules).unwrap_or_default(),
            allow: self.maybe(Self::rules).unwrap_or_default(),
            verify: self.maybe(Self::pattern),
            bind_retry: self.maybe(Self::bind_retry),
        }
    }

    /// Mostly about nobody who is there.
    fn rules(&mut self) -> Vec<String> {
        let rules = ["127.0.0.1", "192.0.2.0/24", "::/0", "::1-::2", "127.0.0.1/8", "1.2.3.4/33", "b-a", "", "ñ\n"];
        self.many(|dice| dice.one(&rules).to_owned())
    }

    fn labels(&mut self) -> BTreeMap<String, String> {
        let labels = [("team", "blue"), ("team", "red"), ("row", ""), ("", "x"), ("a b", "x"), ("a", "x\n")];
        self.many(|dice| dice.one(&labels)).into_iter().map(|(key, value)| (key.into(), value.into())).collect()
    }

    fn slices(&mut self) -> pb::Slices {
        pb::Slices { size: self.number(), interval: self.maybe(Self::span) }
    }

    fn retry(&mut self) -> pb::ConnectRetry {
        pb::ConnectRetry { attempts: self.number(), interval: self.maybe(Self::span) }
    }

    fn bind_retry(&mut self) -> pb::BindRetry {
        pb::BindRetry { attempts: self.number(), interval: self.maybe(Self::span) }
    }

    fn udp(&mut self) -> pb::UdpSocketSpec {
        pb::UdpSocketSpec {
            probes: self.flag(),
            bind: if self.flag() { self.address() } else { String::new() },
            connect: if self.flag() { self.address() } else { String::new() },
            delivery: self.maybe(Self::delivery),
            options: self.many(Self::option),
            family: self.value(),
            direction: self.value(),
            groups: if self.flag() { self.many(Self::group) } else { Vec::new() },
            verify: self.maybe(Self::pattern),
            bind_retry: self.maybe(Self::bind_retry),
        }
    }

    /// Never a group that another machine could hear of.
    fn group(&mut self) -> pb::GroupSpec {
        let (group, interface) = self.one(&[
            ("239.77.9.1", "lo"),
            ("239.77.9.1", "127.0.0.1"),
            ("ff15::7791", "lo"),
            ("ff15::7791", "::1"),
            ("239.77.9.1", "nope"),
            ("10.0.0.1", "all"),
            ("ff15::7791", "l\0"),
            ("", ""),
        ]);
        let source = self.one(&["", "", "127.0.0.1", "::1", "x", "239.1.2.3"]);
        pb::GroupSpec { group: group.into(), interface: interface.into(), source: source.into() }
    }

    fn datagram(&mut self) -> pb::Datagram {
        let reply_to_event = if self.flag() { self.big() } else { 0 };
        let sources = ["", "", "", "127.0.0.1", "::1", "192.0.2.1", "fe80::1%lo", "127.0.0.1:80", "0.0.0.0"];
        pb::Datagram {
            destination: self.address(),
            payload: self.maybe(Self::payload),
            reply_to_event,
            hop_limit: self.maybe(Self::number),
            traffic_class: self.maybe(Self::number),
            source: self.one(&sources).to_owned(),
        }
    }

    fn request(&mut self) -> AnyRequest {
        if self.below(3) == 0 { self.question() } else { self.change() }
    }

    fn change(&mut self) -> AnyRequest {
        let (session_id, socket_id) = (self.session(), self.id());
        let (socket_uid, call) =
            (self.one(&[None, None, None, Some(0), Some(1), Some(u64::MAX)]), self.maybe(Self::call));
        match self.below(27) {
            0 => pb::CreateSessionRequest {
                session_id,
                lease_ttl: self.maybe(Self::span),
                retention: self.value(),
                orphan_policy: self.value(),
                interface_events: self.flag(),
                call,
            }
            .into(),
            1 if self.flag() => pb::ResetSessionRequest { session_id, call }.into(),
            2 if self.flag() => pb::DeleteSessionRequest { session_id, allow_missing: self.flag(), call }.into(),
            3..=5 => {
                let (kind, labels) = self.kind();
                pb::CreateSocketRequest { session_id, socket_id, kind, labels, call }.into()
            }
            6 => {
                let (local, retry) = (self.address(), self.maybe(Self::bind_retry));
                pb::BindSocketRequest { session_id, socket_id, local, retry, socket_uid, call }.into()
            }
            7 => pb::ListenSocketRequest { session_id, socket_id, backlog: self.maybe(Self::number), socket_uid, call }
                .into(),
            8 => pb::AcceptSocketRequest { session_id, socket_id, socket_uid, call }.into(),
            9 => pb::ConnectSocketRequest {
                session_id,
                socket_id,
                remote: self.address(),
                attempt_timeout: self.maybe(Self::span),
                attempt_delay: self.maybe(Self::span),
                retry: self.maybe(Self::retry),
                socket_uid,
                call,
            }
            .into(),
            10 => pb::DisconnectSocketRequest { session_id, socket_id, socket_uid, call }.into(),
            11 => {
                let (payload, expected_offset) = (self.maybe(Self::payload), self.maybe(Self::big));
                let (urgent, more, slices) = (self.flag(), self.flag(), self.maybe(Self::slices));
                pb::WriteSocketRequest {
                    session_id,
                    socket_id,
                    payload,
                    expected_offset,
                    urgent,
                    more,
                    slices,
                    socket_uid,
                    call,
                }
                .into()
            }
            12 | 13 => {
                let (datagrams, interval) = (self.many(Self::datagram), self.maybe(Self::span));
                let (probes, template) = (self.flag(), self.flag());
                pb::SendDatagramsRequest {
                    session_id,
                    socket_id,
                    datagrams,
                    interval,
                    probes,
                    template,
                    socket_uid,
                    call,
                }
                .into()
            }
            14 => pb::ReceiveSocketRequest {
                peek: self.flag(),
                session_id,
                socket_id,
                max_bytes: self.maybe(Self::number),
                min_bytes: self.maybe(Self::number),
                view: self.maybe(Self::view),
                socket_uid,
                call,
            }
            .into(),
            15 => pb::ShutdownSocketRequest { session_id, socket_id, how: self.value(), socket_uid, call }.into(),
            16 => {
                let (linger, allow_missing) = (self.maybe(Self::span), self.flag());
                pb::CloseSocketRequest { session_id, socket_id, linger, allow_missing, socket_uid, call }.into()
            }
            17 => pb::SetSocketDeliveryRequest {
                session_id,
                socket_id,
                delivery: self.maybe(Self::delivery),
                socket_uid,
                call,
            }
            .into(),
            18 => {
                let options = self.many(Self::option);
                pb::SetSocketOptionsRequest { session_id, socket_id, options, socket_uid, call }.into()
            }
            19 => {
                let pb::GroupSpec { group, interface, source } = self.group();
                pb::JoinGroupRequest { session_id, socket_id, group, interface, source, socket_uid, call }.into()
            }
            20 => {
                let pb::GroupSpec { group, interface, source } = self.group();
                pb::LeaveGroupRequest { session_id, socket_id, group, interface, source, socket_uid, call }.into()
            }
            21 => {
                let pb::GroupSpec { group, interface, source } = self.group();
                pb::BlockSourceRequest { session_id, socket_id, group, interface, source, socket_uid, call }.into()
            }
            22 => {
                let pb::GroupSpec { group, interface, source } = self.group();
                pb::UnblockSourceRequest { session_id, socket_id, group, interface, source, socket_uid, call }.into()
            }
            24 => {
                let pb::GroupSpec { group, interface, .. } = self.group();
                let (mode, sources) = (self.value(), self.many(|dice| dice.group().source));
                pb::SetSourceFilterRequest { session_id, socket_id, group, interface, mode, sources, socket_uid, call }
                    .into()
            }
            25 => pb::CreateSocketsRequest { session_id, sockets: self.many(Self::socket_spec), call }.into(),
            23 => pb::FlushSocketRequest { session_id, socket_id, socket_uid, call }.into(),
            _ => pb::AbortSocketRequest { session_id, socket_id, allow_missing: self.flag(), socket_uid, call }.into(),
        }
    }

    fn socket_spec(&mut self) -> pb::SocketSpec {
        let (kind, labels) = self.kind();
        pb::SocketSpec { socket_id: self.id(), kind: kind.map(Into::into), labels, count: self.maybe(Self::number) }
    }

    fn kind(&mut self) -> (Option<Kind>, BTreeMap<String, String>) {
        let kind = match self.below(5) {
            0 | 1 => Some(Kind::Tcp(self.tcp())),
            2 | 3 => Some(Kind::Udp(self.udp())),
            _ => None,
        };
        (kind, if self.flag() { self.labels() } else { BTreeMap::new() })
    }

    fn question(&mut self) -> AnyRequest {
        let (session_id, socket_id) = (self.session(), self.id());
        let page_token = self.one(&["", "", "0", "1", "7", "18446744073709551615", "-1", "x"]).to_owned();
        let (page_size, after_event_seq) = (self.number(), self.maybe(Self::big));
        let request_id = self.one(&["one", "two", "three", "@1", "@5", "", "no name"]).to_owned();
        match self.below(18) {
            17 => pb::CheckPortRequest {
                local: self.address(),
                transport: self.value(),
                family: self.value(),
                reuse_address: self.maybe(Self::flag),
                timeout: self.maybe(Self::span),
            }
            .into(),
            0 => pb::GetAgentRequest {}.into(),
            1 => pb::ListInterfacesRequest { page_size, page_token }.into(),
            2 => pb::GetRouteRequest {
                destination: self.one(&["127.0.0.1", "::1", "", "x", "1.2.3", "240.0.0.1", "ff02::1"]).into(),
                source: self.one(&["", "", "127.0.0.1", "::1", "x"]).into(),
            }
            .into(),
            3 => pb::ParseAddressRequest { text: self.address().repeat(self.below(3)) }.into(),
            4 => {
                let query = match self.below(5) {
                    0 => Some(Query::Host(self.address())),
                    1 => Some(Query::Address(self.one(&["127.0.0.1", "::1", "192.0.2.1", "x", ""]).into())),
                    2 => Some(Query::Service(self.one(&["echo", "", "80", "no such\n"]).into())),
                    3 => Some(Query::Port(self.number())),
                    _ => None,
                };
                pb::ResolveRequest {
                    query,
                    transport: self.value(),
                    family: self.value(),
                    timeout: self.maybe(Self::span),
                }
                .into()
            }
            5 => pb::GetKernelCountersRequest {
                names: self.many(|dice| dice.one(&["Udp*", "TcpActiveOpens", "*", "", "nope"]).to_owned()),
                mark: self.one(&["", "m", "M\n"]).into(),
                since: self.one(&["", "m", "nope"]).into(),
            }
            .into(),
            6 => pb::GetSessionRequest { session_id }.into(),
            15 => {
                let (group, interface) = (self.group().group, "lo".into());
                pb::GetSourceFilterRequest { session_id, socket_id, group, interface }.into()
            }
            14 => pb::RenewSessionRequest { session_id }.into(),
            7 => pb::ListSessionsRequest {
                page_size,
                page_token,
                owner: self.one(&["", "*", "owner", "alice", "No"]).into(),
            }
            .into(),
            8 => {
                let names = self.many(|dice| dice.option().name);
                pb::GetSocketOptionsRequest { session_id, socket_id, names }.into()
            }
            9 => pb::GetSocketRequest { session_id, socket_id, tcp_info: self.flag(), memory: self.flag() }.into(),
            10 => {
                let labels = if self.flag() { self.labels() } else { BTreeMap::new() };
                pb::ListSocketsRequest { session_id, show_closed: self.flag(), page_size, page_token, labels }.into()
            }
            11 if self.flag() => pb::CancelCallRequest { session_id, request_id }.into(),
            11 => pb::GetCallRequest { session_id, request_id }.into(),
            12 => pb::WatchEventsRequest {
                session_id,
                after_event_seq,
                from_now: self.flag(),
                instance_id: self.one(&["", "", "x"]).into(),
                filter: self.maybe(Self::filter),
                view: self.maybe(Self::view),
                snapshot: self.flag(),
                max_events: self.number(),
                until: self.maybe(Self::filter),
                heartbeat_interval: self.maybe(Self::span),
                watcher_id: self.one(&["", "w", "W"]).into(),
                pack_datagrams: self.flag(),
            }
            .into(),
            13 => pb::WaitEventRequest {
                session_id,
                after_event_seq,
                filter: self.maybe(Self::filter),
                timeout: self.maybe(Self::span),
                expect_none: self.flag(),
                view: self.maybe(Self::view),
                fail_on_error: self.flag(),
            }
            .into(),
            _ => pb::ListEventsRequest {
                session_id,
                after_event_seq,
                filter: self.maybe(Self::filter),
                view: self.maybe(Self::view),
                page_size,
                page_token,
            }
            .into(),
        }
    }
}

/// What the agent uses where a request is silent, so short that nothing keeps the test waiting.
fn hasty() -> Defaults {
    let short = Duration::from_millis(5);
    let lease_ttl = Duration::from_millis(50);
    Defaults { connect_timeout: short, wait_timeout: short, lease_ttl, ..Defaults::default() }
}

async fn send_many(agent: Arc<Agent>, seed: u64, count: usize) {
    let mut dice = Dice(seed);
    for n in 0..count {
        let request = dice.request();
        let shown = format!("seed {seed}, number {n}: {request:.500?}");
        let Err(status) = within(&shown, request.send(&agent)).await else { continue };
        let bad = matches!(
            status.code(),
            Code::Internal | Code::Unknown | Code::Unimplemented | Code::Unavailable | Code::DataLoss
        );
        assert!(!bad, "{status:?} to {shown}");
        assert!(
            !status.message().is_empty() && status.message().chars().all(|c| !c.is_control()),
            "{status:?} to {shown}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_request_is_too_strange() {
    let limits =
        Limits { log_events: 500, log_bytes: 1 << 20, remembered_calls: 20, closed_sockets: 10, ..Limits::default() };
    let resolver: Option<Arc<dyn farsock::model::lookup::Resolver>> = Some(Arc::new(SmallResolver));
    let config = AgentConfig { limits, defaults: hasty(), resolver, ..Default::default() };
    let agent = Arc::new(Agent::start_with(config).await);
    let mut senders = JoinSet::new();
    for seed in 0..8 {
        senders.spawn(send_many(Arc::clone(&agent), seed, 600));
    }
    while let Some(sent) = senders.join_next().await {
        sent.unwrap();
    }
    let sessions = agent.sessions().list_sessions(pb::ListSessionsRequest::default()).await.unwrap().into_inner();
    for session in &sessions.sessions {
        let session = session.session_id.as_str();
        for event in agent.all_events(session).await {
            let Some(pb::event::Body::Closed(closed)) = event.body else { continue };
            assert_ne!(closed.reason(), pb::CloseReason::Internal, "a driver has failed");
        }
        match session {
            "default" => assert_eq!(agent.reset(session).await.session.unwrap().socket_count, 0),
            _ => assert_eq!(agent.delete(session, false).await.unwrap().session.unwrap().socket_count, 0),
        }
    }
    Arc::into_inner(agent).unwrap().stop().await;
}
