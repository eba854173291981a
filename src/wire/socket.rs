//! Sockets and sessions: how they are asked for, and how they are shown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::delivery::{Delivery, Watermarks, WriteTimeout};
use crate::model::id::{SessionId, SocketId, SocketUid};
use crate::model::labels::{self, Labels, MAX_LABELS};
use crate::model::limits::{Defaults, Limits, READ_SIZE};
use crate::model::memory::SocketMemory;
use crate::model::payload::{parse_hex, to_hex};
use crate::model::peers::{MAX_RULES, PeerRule, Peers};
use crate::model::refusal::Violation;
use crate::model::socket::{
    AcceptPolicy, CloseReason, Closing, Conduct, Direction, HalfOpenPolicy, ListenerStatus, SocketState, SocketStatus,
    Totals,
};
use crate::model::spec::{Attempts, Kind, Retry, SocketSpec, TcpRole, TcpSpec, UdpSpec};
use crate::model::view::{AcceptQueue, Hashes, ListenerView, Queues, Readiness, SocketView};
use crate::wire::unknown::{known_value, optional};
use crate::wire::{address, call, delivery, group, known, option, payload, pb, probe, tcp, verify};

/// What a request is measured against.
#[derive(Debug, Clone, Copy)]
pub struct Bounds<'a> {
    /// The agent's limits.
    pub limits: &'a Limits,
    /// What it uses where a request is silent.
    pub defaults: &'a Defaults,
}

// === In ===

pub(super) fn tcp_spec(spec: &pb::TcpSocketSpec, bounds: Bounds<'_>) -> Result<SocketSpec, Violation> {
    let bind = address::optional_address("bind", &spec.bind)?;
    let role = match &spec.role {
        None => TcpRole::Idle,
        Some(pb::tcp_socket_spec::Role::Connect(text)) => TcpRole::Connect(address::address("connect", text)?),
        Some(pb::tcp_socket_spec::Role::Listen(text)) => {
            let listen = address::optional_address("listen", text)?;
            if listen.is_some() && bind.is_some() {
                return Err(Violation::new("bind", "`listen` has the address already: leave one of them out"));
            }
            TcpRole::Listen(listen)
        }
    };
    let idle_timeout = call::optional_duration("idle_timeout", spec.idle_timeout.as_ref())?.unwrap_or_default();
    let delay = |field, delay| Ok(call::optional_duration(field, delay)?.unwrap_or_default());
    let close_delay = delay("close_delay", spec.close_delay.as_ref())?;
    let half_open = half_open(spec.half_open)?;
    if !close_delay.is_zero() && half_open != HalfOpenPolicy::AutoEnd {
        return Err(Violation::new("close_delay", "the agent closes by itself only with `half_open` AUTO_END"));
    }
    let conduct = Conduct {
        half_open,
        idle_timeout,
        read_delay: delay("read_delay", spec.read_delay.as_ref())?,
        close_delay,
        tell_states: spec.tcp_state_events,
        watermarks: watermarks(spec, bounds)?,
        write_timeout: WriteTimeout {
            usual: delay("write_timeout", spec.write_timeout.as_ref())?,
            closes: spec.close_on_write_timeout,
        },
        ..conduct(spec.delivery.as_ref(), spec.direction, bounds)?
    };
    let accept = match known("accept", spec.accept)? {
        pb::AcceptPolicy::Unspecified | pb::AcceptPolicy::Auto => AcceptPolicy::Auto,
        pb::AcceptPolicy::Manual => AcceptPolicy::Manual,
    };
    let accept_delay = delay("accept_delay", spec.accept_delay.as_ref())?;
    let unasked = [("max_accepts", spec.max_accepts.is_some()), ("accept_delay", !accept_delay.is_zero())];
    if let (AcceptPolicy::Manual, Some((field, _))) = (accept, unasked.into_iter().find(|(_, there)| *there)) {
        return Err(Violation::new(field, "with `accept` MANUAL the agent accepts nobody by itself"));
    }
    let attempts = attempts(spec.attempt_timeout.as_ref(), spec.retry.as_ref(), spec.attempt_delay.as_ref())?;
    if attempts.delay.is_some() && bind.is_some() {
        return Err(Violation::new("attempt_delay", "each attempt has an address of its own: leave `bind` out"));
    }
    if attempts != Attempts::default() && !matches!(role, TcpRole::Connect(_)) {
        let field = match attempts {
            Attempts { retry: Some(_), .. } => "retry",
            Attempts { delay: Some(_), .. } => "attempt_delay",
            _ => "attempt_timeout",
        };
        return Err(Violation::new(field, "it says how to connect: it goes with `connect`, or with ConnectSocket"));
    }
    let backlog = backlog(spec.backlog)?.unwrap_or(bounds.defaults.backlog);
    let max_connections = spec.max_connections;
    Ok(SocketSpec {
        kind: Kind::Tcp(TcpSpec {
            role,
            backlog,
            max_connections,
            accept,
            max_accepts: spec.max_accepts,
            accept_delay,
            attempts,
            peers: Peers { deny: peer_rules("deny", &spec.deny)?, allow: peer_rules("allow", &spec.allow)? },
        }),
        family: address::family("family", spec.family)?,
        bind,
        bind_retry: bind_retry("bind_retry", spec.bind_retry.as_ref())?,
        conduct,
        verify: payload::verified_by(spec.verify.as_ref())?,
        options: option::of_tcp("options", &spec.options, bounds.limits.options_per_call)?,
        labels: Labels::default(),
    })
}

pub(super) fn udp_spec(spec: &pb::UdpSocketSpec, bounds: Bounds<'_>) -> Result<SocketSpec, Violation> {
    if spec.delivery.as_ref().is_some_and(|delivery| delivery.mode() == pb::DeliveryMode::Transfer) {
        return Err(Violation::new(
            "delivery.mode",
            "TransferSocket is for TCP: EVENTS, PULL and COUNT are for UDP, too",
        ));
    }
    if spec.delivery.as_ref().is_some_and(|delivery| delivery.hash()) {
        return Err(Violation::new("delivery.hash", "datagrams are no stream: only TCP sockets are hashed"));
    }
    Ok(SocketSpec {
        kind: Kind::Udp(UdpSpec {
            connect: address::optional_address("connect", &spec.connect)?,
            groups: group::specs("groups", &spec.groups, bounds.limits.groups)?,
            probes: spec.probes,
        }),
        family: address::family("family", spec.family)?,
        bind: address::optional_address("bind", &spec.bind)?,
        bind_retry: bind_retry("bind_retry", spec.bind_retry.as_ref())?,
        conduct: conduct(spec.delivery.as_ref(), spec.direction, bounds)?,
        verify: payload::verified_by(spec.verify.as_ref())?,
        options: option::options("options", &spec.options, bounds.limits.options_per_call)?,
        labels: Labels::default(),
    })
}

fn peer_rules(field: &'static str, texts: &[String]) -> Result<Vec<PeerRule>, Violation> {
    if texts.len() > MAX_RULES {
        return Err(Violation::new(field, format!("at most {MAX_RULES} entries, and these are {}", texts.len())));
    }
    let rule = |(at, text): (usize, &String)| {
        PeerRule::parse(text).map_err(|problem| Violation { field: format!("{field}[{at}]"), problem })
    };
    texts.iter().enumerate().map(rule).collect()
}

/// Labels that a request states, or asks for.
pub fn labels(sent: &BTreeMap<String, String>) -> Result<Labels, Violation> {
    if sent.len() > MAX_LABELS {
        return Err(Violation::new("labels", format!("at most {MAX_LABELS} labels, and these are {}", sent.len())));
    }
    let label = |(key, value): (&String, &String)| {
        labels::check(key, value).map_err(|problem| Violation { field: "labels".to_owned(), problem })?;
        Ok((key.as_str().into(), value.as_str().into()))
    };
    sent.iter().map(label).collect()
}

/// Labels as messages have them.
pub(super) fn write_labels(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

/// A list of addresses as messages have it.
pub(super) fn write_rules(rules: &[PeerRule]) -> Vec<String> {
    rules.iter().map(ToString::to_string).collect()
}

fn conduct(delivery: Option<&pb::Delivery>, direction: i32, bounds: Bounds<'_>) -> Result<Conduct, Violation> {
    Ok(Conduct {
        delivery: Delivery::usual(bounds.limits.read_size).changed(delivery::change(delivery, bounds)?),
        direction: match known("direction", direction)? {
            pb::Direction::Unspecified | pb::Direction::Both => Direction::Both,
            pb::Direction::ReceiveOnly => Direction::ReceiveOnly,
            pb::Direction::SendOnly => Direction::SendOnly,
        },
        half_open: HalfOpenPolicy::Allow,
        idle_timeout: Duration::ZERO,
        read_delay: Duration::ZERO,
        close_delay: Duration::ZERO,
        tell_states: false,
        watermarks: Watermarks::default(),
        write_timeout: WriteTimeout::default(),
    })
}

fn half_open(number: i32) -> Result<HalfOpenPolicy, Violation> {
    Ok(match known("half_open", number)? {
        pb::HalfOpenPolicy::Unspecified | pb::HalfOpenPolicy::Allow => HalfOpenPolicy::Allow,
        pb::HalfOpenPolicy::AutoEnd => HalfOpenPolicy::AutoEnd,
    })
}

fn watermarks(spec: &pb::TcpSocketSpec, bounds: Bounds<'_>) -> Result<Watermarks, Violation> {
    let (high, low) = (spec.write_high_watermark.unwrap_or(0), spec.write_low_watermark.unwrap_or(0));
    let limit = bounds.limits.pending_write_bytes;
    if high >= limit {
        let problem =
            format!("more than limits.pending_write_bytes of this agent, {limit}, never wait, and this is {high}");
        return Err(Violation::new("write_high_watermark", problem));
    }
    if low > high {
        let problem = format!("it goes up to `write_high_watermark`, {high}, and this is {low}");
        return Err(Violation::new("write_low_watermark", problem));
    }
    Ok(Watermarks { high, low })
}

pub(super) fn attempts(
    timeout: Option<&prost_types::Duration>,
    retry: Option<&pb::ConnectRetry>,
    delay: Option<&prost_types::Duration>,
) -> Result<Attempts, Violation> {
    let timeout = call::optional_duration("attempt_timeout", timeout)?.filter(|timeout| !timeout.is_zero());
    let retry = retry.map(|sent| retries("retry", sent.attempts, sent.interval.as_ref())).transpose()?;
    let delay = call::optional_duration("attempt_delay", delay)?;
    if delay.is_some_and(|delay| delay < Attempts::LEAST_DELAY) {
        return Err(Violation::new("attempt_delay", "it goes from 10 ms on (RFC 8305)"));
    }
    Ok(Attempts { timeout, retry, delay })
}

/// How a bind is tried again.
pub(super) fn bind_retry(field: &str, sent: Option<&pb::BindRetry>) -> Result<Option<Retry>, Violation> {
    sent.map(|sent| retries(field, sent.attempts, sent.interval.as_ref())).transpose()
}

fn retries(field: &str, attempts: u32, interval: Option<&prost_types::Duration>) -> Result<Retry, Violation> {
    let (of_attempts, of_interval) = (format!("{field}.attempts"), format!("{field}.interval"));
    let interval = call::optional_duration(&of_interval, interval)?.unwrap_or(Retry::USUAL_INTERVAL);
    if interval < Retry::LEAST_INTERVAL {
        return Err(Violation::new(&of_interval, "it goes from 10 ms on"));
    }
    if attempts > Retry::MOST_ATTEMPTS {
        let problem = format!("it goes up to {}, and this is {attempts}", Retry::MOST_ATTEMPTS);
        return Err(Violation::new(&of_attempts, problem));
    }
    Ok(Retry { attempts, interval })
}

/// The same as a request carries it.
pub(super) fn write_bind_retry(retry: Option<Retry>) -> Option<pb::BindRetry> {
    retry.map(|Retry { attempts, interval }| pb::BindRetry { attempts, interval: Some(call::span(interval)) })
}

/// How attempts are limited and repeated, as a request carries it.
pub(super) fn write_attempts(attempts: Attempts) -> (Option<prost_types::Duration>, Option<pb::ConnectRetry>) {
    let retry = attempts
        .retry
        .map(|retry| pb::ConnectRetry { attempts: retry.attempts, interval: Some(call::span(retry.interval)) });
    (attempts.timeout.map(call::span), retry)
}

pub(super) fn backlog(backlog: Option<u32>) -> Result<Option<u32>, Violation> {
    backlog.map(|backlog| in_range("backlog", backlog, 65_535)).transpose()
}

pub(super) fn in_range(field: &str, number: u32, maximum: u32) -> Result<u32, Violation> {
    if (1..=maximum).contains(&number) {
        return Ok(number);
    }
    Err(Violation::new(field, format!("it goes from 1 to {maximum}, and this is {number}")))
}

// === Out ===

impl From<&pb::SocketMemory> for SocketMemory {
    fn from(sent: &pb::SocketMemory) -> Self {
        Self {
            received: sent.received,
            receive_limit: sent.receive_limit,
            in_flight: sent.in_flight,
            send_limit: sent.send_limit,
            reserved: sent.reserved,
            queued: sent.queued,
            options: sent.options,
            backlog: sent.backlog,
            dropped: sent.dropped,
        }
    }
}

impl From<SocketMemory> for pb::SocketMemory {
    fn from(memory: SocketMemory) -> Self {
        Self {
            received: memory.received,
            receive_limit: memory.receive_limit,
            in_flight: memory.in_flight,
            send_limit: memory.send_limit,
            reserved: memory.reserved,
            queued: memory.queued,
            options: memory.options,
            backlog: memory.backlog,
            dropped: memory.dropped,
        }
    }
}

impl From<&SocketView> for pb::Socket {
    fn from(view: &SocketView) -> Self {
        Self {
            session_id: view.session.to_string(),
            socket_id: view.id.to_string(),
            local: address::endpoint(view.status.local.as_ref()),
            remote: address::endpoint(view.status.remote.as_ref()),
            ..rest(view)
        }
    }
}

/// All of a socket but its names and its addresses, which [`glance`](crate::wire::glance) writes without making text of them first.
pub(super) fn rest(view: &SocketView) -> pb::Socket {
    let SocketView { status, conduct, .. } = view;
    let totals = status.totals;
    let tcp = view.transport == crate::model::address::Transport::Tcp;
    pb::Socket {
        socket_uid: view.uid.0,
        transport: pb::Transport::from(view.transport).into(),
        family: pb::Family::from(view.family).into(),
        state: pb::SocketState::from(status.state).into(),
        parent_id: view.parent.as_ref().map(|(id, _)| id.to_string()).unwrap_or_default(),
        parent_uid: view.parent.as_ref().map(|(_, uid)| uid.0).unwrap_or_default(),
        create_time: Some(call::time(view.created)),
        direction: match conduct.direction {
            Direction::Both => pb::Direction::Both,
            Direction::ReceiveOnly => pb::Direction::ReceiveOnly,
            Direction::SendOnly => pb::Direction::SendOnly,
        }
        .into(),
        delivery: Some(delivery::shown(conduct.delivery, tcp)),
        received_sha256: view.hashes.map(|hashes| to_hex(&hashes.received)).unwrap_or_default(),
        written_sha256: view.hashes.map(|hashes| to_hex(&hashes.written)).unwrap_or_default(),
        half_open: match conduct.half_open {
            _ if !tcp => pb::HalfOpenPolicy::Unspecified,
            HalfOpenPolicy::Allow => pb::HalfOpenPolicy::Allow,
            HalfOpenPolicy::AutoEnd => pb::HalfOpenPolicy::AutoEnd,
        }
        .into(),
        idle_timeout: (!conduct.idle_timeout.is_zero()).then(|| call::span(conduct.idle_timeout)),
        peer_closed: status.peer_closed,
        shut_down: status.shut_down,
        self_connected: status.self_connected,
        bytes_read: Some(totals.bytes_read),
        bytes_written: Some(totals.bytes_written),
        datagrams_received: totals.datagrams_received,
        datagrams_sent: totals.datagrams_sent,
        datagrams_dropped: totals.datagrams_dropped,
        queues: view.queues.map(|queues| pb::SocketQueues {
            receive_bytes: Some(queues.receive_bytes),
            send_bytes: Some(queues.send_bytes),
            pending_write_bytes: Some(queues.pending_write_bytes),
        }),
        readiness: view.readiness.map(|ready| pb::Readiness {
            readable: ready.readable,
            writable: ready.writable,
            priority: ready.priority,
            hung_up: ready.hung_up,
            failed: ready.failed,
        }),
        listener: listener(view),
        groups: status.groups.0.iter().map(pb::GroupMembership::from).collect(),
        closed: status.closed.as_ref().map(pb::SocketClosed::from),
        tcp_state: view.tcp_state.map_or(pb::TcpState::Unspecified, pb::TcpState::from).into(),
        labels: write_labels(&view.labels),
        deny: write_rules(&view.peers.deny),
        allow: write_rules(&view.peers.allow),
        verification: view.verification.as_ref().map(verify::write),
        probes: view.probes.as_ref().map(probe::write),
        ..pb::Socket::default()
    }
}

/// What a socket has that listens, or has listened.
fn listener(view: &SocketView) -> Option<pb::Listener> {
    let (status, told) = (view.status.listener?, view.listener?);
    Some(pb::Listener {
        backlog: status.backlog,
        max_connections: told.max_connections,
        connection_count: Some(told.connection_count),
        accepted_total: Some(status.accepted_total),
        dropped_total: Some(status.dropped_total),
        queue_length: told.queue.map(|queue| queue.length),
        queue_limit: told.queue.map(|queue| queue.limit),
        accept: match told.accept {
            AcceptPolicy::Auto => pb::AcceptPolicy::Auto,
            AcceptPolicy::Manual => pb::AcceptPolicy::Manual,
        }
        .into(),
    })
}

impl From<SocketState> for pb::SocketState {
    fn from(state: SocketState) -> Self {
        match state {
            SocketState::Unbound => Self::Unbound,
            SocketState::Bound => Self::Bound,
            SocketState::Listening => Self::Listening,
            SocketState::Connecting => Self::Connecting,
            SocketState::Connected => Self::Connected,
            SocketState::Closed => Self::Closed,
        }
    }
}

impl From<&Closing> for pb::SocketClosed {
    fn from(closing: &Closing) -> Self {
        Self {
            reason: pb::CloseReason::from(closing.reason).into(),
            had_error: closing.had_error,
            bytes_read: Some(closing.totals.bytes_read),
            bytes_written: Some(closing.totals.bytes_written),
            datagrams_received: closing.totals.datagrams_received,
            datagrams_sent: closing.totals.datagrams_sent,
            datagrams_dropped: closing.totals.datagrams_dropped,
            unread_bytes: closing.unread_bytes,
            unwritten_bytes: closing.unwritten_bytes,
        }
    }
}

impl From<CloseReason> for pb::CloseReason {
    fn from(reason: CloseReason) -> Self {
        match reason {
            CloseReason::Closed => Self::Closed,
            CloseReason::Aborted => Self::Aborted,
            CloseReason::Ended => Self::Ended,
            CloseReason::PeerReset => Self::PeerReset,
            CloseReason::Failed => Self::Failed,
            CloseReason::SessionReset => Self::SessionReset,
            CloseReason::SessionDeleted => Self::SessionDeleted,
            CloseReason::AgentDraining => Self::AgentDraining,
            CloseReason::Internal => Self::Internal,
            CloseReason::LeaseExpired => Self::LeaseExpired,
            CloseReason::Policy => Self::Policy,
            CloseReason::WriteTimedOut => Self::WriteTimedOut,
        }
    }
}

// === In, for clients ===

pub(super) fn read_closing(sent: &pb::SocketClosed) -> Option<Closing> {
    Some(Closing {
        reason: match known_value(sent.reason)? {
            pb::CloseReason::Unspecified => return None,
            pb::CloseReason::Closed => CloseReason::Closed,
            pb::CloseReason::Aborted => CloseReason::Aborted,
            pb::CloseReason::Ended => CloseReason::Ended,
            pb::CloseReason::PeerReset => CloseReason::PeerReset,
            pb::CloseReason::Failed => CloseReason::Failed,
            pb::CloseReason::SessionReset => CloseReason::SessionReset,
            pb::CloseReason::SessionDeleted => CloseReason::SessionDeleted,
            pb::CloseReason::AgentDraining => CloseReason::AgentDraining,
            pb::CloseReason::Internal => CloseReason::Internal,
            pb::CloseReason::LeaseExpired => CloseReason::LeaseExpired,
            pb::CloseReason::Policy => CloseReason::Policy,
            pb::CloseReason::WriteTimedOut => CloseReason::WriteTimedOut,
        },
        had_error: sent.had_error,
        totals: Totals {
            bytes_read: sent.bytes_read(),
            bytes_written: sent.bytes_written(),
            datagrams_received: sent.datagrams_received,
            datagrams_sent: sent.datagrams_sent,
            datagrams_dropped: sent.datagrams_dropped,
        },
        unread_bytes: sent.unread_bytes,
        unwritten_bytes: sent.unwritten_bytes,
    })
}

/// A socket as an agent sent it. Absent when it makes no sense to this version.
pub fn read(sent: &pb::Socket) -> Option<SocketView> {
    let endpoint = |sent: &Option<pb::Endpoint>| sent.as_ref().and_then(address::read_endpoint);
    let listener = sent.listener.as_ref();
    Some(SocketView {
        session: SessionId::parse(&sent.session_id).ok()?,
        id: SocketId::parse(&sent.socket_id).ok()?,
        uid: SocketUid(sent.socket_uid),
        parent: SocketId::parse(&sent.parent_id).ok().map(|id| (id, SocketUid(sent.parent_uid))),
        transport: address::transport("", sent.transport).ok()??,
        family: address::family("", sent.family).ok()??,
        created: call::read_time(sent.create_time.as_ref()),
        labels: Arc::new(labels(&sent.labels).ok()?),
        peers: Arc::new(Peers {
            deny: peer_rules("deny", &sent.deny).ok()?,
            allow: peer_rules("allow", &sent.allow).ok()?,
        }),
        conduct: Conduct {
            delivery: delivery::read(&sent.delivery.unwrap_or_default())?,
            direction: match known_value(sent.direction)? {
                pb::Direction::Unspecified | pb::Direction::Both => Direction::Both,
                pb::Direction::ReceiveOnly => Direction::ReceiveOnly,
                pb::Direction::SendOnly => Direction::SendOnly,
            },
            half_open: half_open(sent.half_open).ok()?,
            idle_timeout: call::read_span(sent.idle_timeout.as_ref()),
            // The others are not shown.
            ..Conduct::usual(READ_SIZE)
        },
        status: SocketStatus {
            state: read_state(known_value(sent.state)?)?,
            local: endpoint(&sent.local),
            remote: endpoint(&sent.remote),
            peer_closed: sent.peer_closed,
            shut_down: sent.shut_down,
            self_connected: sent.self_connected,
            had_error: sent.closed.as_ref().is_some_and(|closed| closed.had_error),
            totals: Totals {
                bytes_read: sent.bytes_read(),
                bytes_written: sent.bytes_written(),
                datagrams_received: sent.datagrams_received,
                datagrams_sent: sent.datagrams_sent,
                datagrams_dropped: sent.datagrams_dropped,
            },
            listener: listener.map(|listener| ListenerStatus {
                backlog: listener.backlog,
                accepted_total: listener.accepted_total(),
                dropped_total: listener.dropped_total(),
            }),
            groups: group::read_all(&sent.groups),
            closed: optional(sent.closed.as_ref(), read_closing)?,
        },
        listener: optional(listener, read_listener)?,
        hashes: read_hash(&sent.received_sha256)
            .zip(read_hash(&sent.written_sha256))
            .map(|(received, written)| Hashes { received, written }),
        verification: sent.verification.as_ref().map(verify::read),
        probes: sent.probes.as_ref().map(probe::read),
        queues: sent.queues.as_ref().map(|queues| Queues {
            receive_bytes: queues.receive_bytes(),
            send_bytes: queues.send_bytes(),
            pending_write_bytes: queues.pending_write_bytes(),
        }),
        readiness: sent.readiness.as_ref().map(|ready| Readiness {
            readable: ready.readable,
            writable: ready.writable,
            priority: ready.priority,
            hung_up: ready.hung_up,
            failed: ready.failed,
        }),
        tcp_state: tcp::read_state(known_value(sent.tcp_state)?),
    })
}

fn read_listener(sent: &pb::Listener) -> Option<ListenerView> {
    Some(ListenerView {
        accept: match known_value(sent.accept)? {
            pb::AcceptPolicy::Manual => AcceptPolicy::Manual,
            pb::AcceptPolicy::Auto | pb::AcceptPolicy::Unspecified => AcceptPolicy::Auto,
        },
        max_connections: sent.max_connections,
        connection_count: sent.connection_count(),
        queue: sent.queue_length.zip(sent.queue_limit).map(|(length, limit)| AcceptQueue { length, limit }),
    })
}

fn read_hash(text: &str) -> Option<[u8; 32]> {
    <[u8; 32]>::try_from(&*parse_hex(text).ok()?).ok()
}

fn read_state(state: pb::SocketState) -> Option<SocketState> {
    Some(match state {
        pb::SocketState::Unspecified => return None,
        pb::SocketState::Unbound => SocketState::Unbound,
        pb::SocketState::Bound => SocketState::Bound,
        pb::SocketState::Listening => SocketState::Listening,
        pb::SocketState::Connecting => SocketState::Connecting,
        pb::SocketState::Connected => SocketState::Connected,
        pb::SocketState::Closed => SocketState::Closed,
    })
}
