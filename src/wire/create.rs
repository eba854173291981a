//! Sockets to be made, one or many by one request, and what became of the many.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use crate::model::bulk::{RefusalText, SocketOutcome};
use crate::model::id::SocketId;
use crate::model::operation::{Outcome, Yield};
use crate::model::payload::PayloadView;
use crate::model::refusal::Violation;
use crate::model::socket::{AcceptPolicy, Conduct, Direction, HalfOpenPolicy};
use crate::model::spec::{Kind as AskedKind, SocketSpec, TcpRole};
use crate::wire::outgoing::write_options;
use crate::wire::pb::create_socket_request::Kind;
use crate::wire::response::Answer;
use crate::wire::socket::Bounds;
use crate::wire::unknown::optional;
use crate::wire::{address, call, delivery, group, option, payload, pb, socket};

// === In ===

/// A name that the caller has chosen, if there is one.
pub(super) fn name(text: &str) -> Result<Option<SocketId>, Violation> {
    match text {
        "" => Ok(None),
        name => {
            SocketId::parse_new(name).map(Some).map_err(|problem| Violation { field: "socket_id".to_owned(), problem })
        }
    }
}

/// What kind of socket is asked for.
pub(super) fn spec(
    kind: Option<&Kind>,
    labels: &BTreeMap<String, String>,
    bounds: Bounds<'_>,
) -> Result<SocketSpec, Violation> {
    let spec = match kind {
        Some(Kind::Tcp(tcp)) => socket::tcp_spec(tcp, bounds).map_err(|violation| violation.within("tcp"))?,
        Some(Kind::Udp(udp)) => socket::udp_spec(udp, bounds).map_err(|violation| violation.within("udp"))?,
        None => return Err(Violation::new("kind", "one of `tcp` and `udp` is needed, such as \"tcp\":{}")),
    };
    Ok(SocketSpec { labels: socket::labels(labels)?, ..spec })
}

/// All sockets of a request, each by itself.
pub(super) fn sockets(
    sent: Vec<pb::SocketSpec>,
    bounds: Bounds<'_>,
) -> Result<Vec<(Option<SocketId>, SocketSpec)>, Violation> {
    let limit = bounds.limits.sockets_per_call;
    let asked: u64 = sent.iter().map(|spec| u64::from(spec.count.unwrap_or(1))).sum();
    if sent.is_empty() {
        return Err(Violation::new("sockets", "at least one socket is needed, such as {\"tcp\":{}}"));
    }
    let mut sockets = Vec::new();
    let mut names = HashSet::new();
    for (at, sent) in sent.into_iter().enumerate() {
        let within = |violation: Violation| violation.within(&format!("sockets[{at}]"));
        let count = sent.count.map(|count| socket::in_range("count", count, limit)).transpose().map_err(within)?;
        if asked > limit.into() {
            let problem = format!("{asked} are more than limits.sockets_per_call of this agent, {limit}");
            return Err(Violation::new("sockets", problem));
        }
        let chosen = name(&sent.socket_id).map_err(within)?;
        let kind = sent.kind.map(Kind::from);
        let spec = spec(kind.as_ref(), &sent.labels, bounds).map_err(within)?;
        for number in 1..=count.unwrap_or(1) {
            let id = match (&chosen, count) {
                (Some(chosen), Some(_)) => name(&format!("{chosen}-{number}")).map_err(within)?,
                (chosen, _) => chosen.clone(),
            };
            if let Some(twice) = id.as_ref().filter(|id| !names.insert((*id).clone())) {
                return Err(within(Violation::new("socket_id", format!("`{twice}` is another one's in this request"))));
            }
            sockets.push((id, spec.clone()));
        }
    }
    Ok(sockets)
}

impl From<pb::socket_spec::Kind> for Kind {
    fn from(kind: pb::socket_spec::Kind) -> Self {
        match kind {
            pb::socket_spec::Kind::Tcp(tcp) => Self::Tcp(tcp),
            pb::socket_spec::Kind::Udp(udp) => Self::Udp(udp),
        }
    }
}

impl From<Kind> for pb::socket_spec::Kind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Tcp(tcp) => Self::Tcp(tcp),
            Kind::Udp(udp) => Self::Udp(udp),
        }
    }
}

/// The same as a client sends it.
pub(super) fn write_sockets(sockets: &[(Option<SocketId>, SocketSpec)]) -> Vec<pb::SocketSpec> {
    let write = |(id, spec): &(Option<SocketId>, SocketSpec)| pb::SocketSpec {
        socket_id: id.as_ref().map(ToString::to_string).unwrap_or_default(),
        labels: socket::write_labels(&spec.labels),
        count: None,
        kind: Some(write_kind(spec).into()),
    };
    sockets.iter().map(write).collect()
}

/// What kind of socket it is, as a client asks for it.
pub(super) fn write_kind(spec: &SocketSpec) -> Kind {
    let Conduct { delivery, direction, half_open, idle_timeout, read_delay, .. } = spec.conduct;
    let Conduct { close_delay, watermarks, write_timeout, tell_states, .. } = spec.conduct;
    let bind = spec.bind.as_ref().map(ToString::to_string).unwrap_or_default();
    let delivery = Some(delivery::shown(delivery, delivery.hash));
    let options = write_options(&spec.options);
    let verify = spec.verify.as_deref().map(payload::write_pattern);
    let delay = |delay: Duration| (!delay.is_zero()).then(|| call::span(delay));
    let family = spec.family.map_or(pb::Family::Unspecified, pb::Family::from).into();
    let direction = match direction {
        Direction::Both => pb::Direction::Both,
        Direction::ReceiveOnly => pb::Direction::ReceiveOnly,
        Direction::SendOnly => pb::Direction::SendOnly,
    }
    .into();
    match &spec.kind {
        AskedKind::Udp(udp) => Kind::Udp(pb::UdpSocketSpec {
            bind,
            bind_retry: socket::write_bind_retry(spec.bind_retry),
            connect: udp.connect.as_ref().map(ToString::to_string).unwrap_or_default(),
            delivery,
            options,
            family,
            direction,
            groups: udp.groups.iter().map(group::write_spec).collect(),
            probes: udp.probes,
            verify,
        }),
        AskedKind::Tcp(tcp) => Kind::Tcp(pb::TcpSocketSpec {
            bind,
            bind_retry: socket::write_bind_retry(spec.bind_retry),
            role: match &tcp.role {
                TcpRole::Idle => None,
                TcpRole::Listen(None) => Some(pb::tcp_socket_spec::Role::Listen(String::new())),
                TcpRole::Listen(Some(text)) => Some(pb::tcp_socket_spec::Role::Listen(text.to_string())),
                TcpRole::Connect(text) => Some(pb::tcp_socket_spec::Role::Connect(text.to_string())),
            },
            backlog: Some(tcp.backlog),
            max_connections: tcp.max_connections,
            half_open: match half_open {
                HalfOpenPolicy::Allow => pb::HalfOpenPolicy::Allow,
                HalfOpenPolicy::AutoEnd => pb::HalfOpenPolicy::AutoEnd,
            }
            .into(),
            accept: match tcp.accept {
                AcceptPolicy::Auto => pb::AcceptPolicy::Auto,
                AcceptPolicy::Manual => pb::AcceptPolicy::Manual,
            }
            .into(),
            delivery,
            options,
            family,
            direction,
            idle_timeout: delay(idle_timeout),
            max_accepts: tcp.max_accepts,
            attempt_timeout: socket::write_attempts(tcp.attempts).0,
            retry: socket::write_attempts(tcp.attempts).1,
            attempt_delay: tcp.attempts.delay.map(call::span),
            accept_delay: delay(tcp.accept_delay),
            read_delay: delay(read_delay),
            close_delay: delay(close_delay),
            write_timeout: delay(write_timeout.usual),
            close_on_write_timeout: write_timeout.closes,
            tcp_state_events: tell_states,
            write_high_watermark: (watermarks.high > 0).then_some(watermarks.high),
            write_low_watermark: (watermarks.low > 0).then_some(watermarks.low),
            deny: socket::write_rules(&tcp.peers.deny),
            allow: socket::write_rules(&tcp.peers.allow),
            verify,
        }),
    }
}

// === Out ===

impl Answer for pb::CreateSocketsResponse {
    fn show(outcome: &Outcome, _: &PayloadView) -> Self {
        let report = Some((&outcome.report).into());
        let Yield::Sockets(sockets) = &outcome.yielded else { return Self { report, ..Self::default() } };
        let count = |is: fn(&SocketOutcome) -> bool| {
            Some(u32::try_from(sockets.iter().filter(|outcome| is(outcome)).count()).unwrap_or(u32::MAX))
        };
        Self {
            sockets: sockets.iter().map(pb::SocketResult::from).collect(),
            done_count: count(SocketOutcome::is_done),
            failed_count: count(|outcome| outcome.error.is_some()),
            timed_out_count: count(|outcome| outcome.timed_out),
            refused_count: count(|outcome| outcome.refusal.is_some()),
            report,
        }
    }
}

impl From<&SocketOutcome> for pb::SocketResult {
    fn from(outcome: &SocketOutcome) -> Self {
        let text = |part: fn(&RefusalText) -> &str| outcome.refusal.as_ref().map(part).unwrap_or_default().to_owned();
        let options = outcome.made.iter().flat_map(|(_, options)| options);
        Self {
            socket_id: outcome.id.as_ref().map(ToString::to_string).unwrap_or_default(),
            socket: outcome.made.as_ref().map(|(socket, _)| pb::Socket::from(&**socket)),
            options: options.map(pb::OptionResult::from).collect(),
            timed_out: outcome.timed_out,
            error: outcome.error.as_ref().map(call::error),
            refusal_reason: text(|refusal| &refusal.reason),
            refusal: text(|refusal| &refusal.message),
        }
    }
}

// === In, for clients ===

/// What became of one socket, as an agent sent it.
pub(super) fn read_result(sent: &pb::SocketResult) -> Option<SocketOutcome> {
    let made = match &sent.socket {
        None => None,
        Some(socket) => {
            let options = sent.options.iter().map(option::read_result).collect::<Option<_>>()?;
            Some((Box::new(socket::read(socket)?), options))
        }
    };
    Some(SocketOutcome {
        id: address::socket_id(&sent.socket_id).ok(),
        made,
        timed_out: sent.timed_out,
        error: optional(sent.error.as_ref(), call::read_error)?,
        refusal: (!sent.refusal.is_empty()).then(|| RefusalText {
            reason: sent.refusal_reason.as_str().into(),
            message: sent.refusal.as_str().into(),
        }),
    })
}
