//! Events: out in the view of whoever reads them, and in for clients of ours.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::model::address::Endpoint;
use crate::model::event::{
    AcceptPause, Datagram, DropReason, Event, EventFilter, EventRecord, Gap, IcmpMessage, SendStage, SocketPattern,
};
use crate::model::id::{RequestId, SocketId, SocketUid, shorten};
use crate::model::operation::ShutdownHow;
use crate::model::payload::PayloadView;
use crate::model::refusal::Violation;
use crate::wire::unknown::{known_value, optional, unknown_value};
use crate::wire::{address, call, delivery, group, interface, option, payload, pb, socket, source_filter, tcp, verify};

// === Filter ===

/// Which events a request asks for.
pub fn filter(field: &str, filter: Option<&pb::EventFilter>) -> Result<EventFilter, Violation> {
    let Some(filter) = filter else { return Ok(EventFilter::default()) };
    let pattern = |(at, text): (usize, &String)| {
        let problem = |problem| Violation { field: format!("{field}.socket_ids[{at}]"), problem };
        match text.strip_suffix(".*") {
            Some(parent) => SocketId::parse_new(parent).map(SocketPattern::ChildOf).map_err(problem),
            None => SocketId::parse(text).map(SocketPattern::Is).map_err(problem),
        }
    };
    let kind = |(at, text): (usize, &String)| {
        Event::KINDS.iter().copied().find(|kind| kind == text).ok_or_else(|| {
            let nearest = Event::KINDS
                .iter()
                .max_by(|a, b| strsim::jaro_winkler(a, text).total_cmp(&strsim::jaro_winkler(b, text)));
            let nearest = nearest.copied().unwrap_or_default();
            let problem = format!("there is no kind `{}`: did you mean {nearest}?", shorten(text));
            Violation::new(format!("{field}.kinds[{at}]"), problem)
        })
    };
    Ok(EventFilter {
        sockets: filter.socket_ids.iter().enumerate().map(pattern).collect::<Result<_, _>>()?,
        kinds: filter.kinds.iter().enumerate().map(kind).collect::<Result<_, _>>()?,
    })
}

/// A filter as a request carries it.
pub fn write_filter(filter: &EventFilter) -> pb::EventFilter {
    let pattern = |pattern: &SocketPattern| match pattern {
        SocketPattern::Is(id) => Some(id.to_string()),
        SocketPattern::ChildOf(id) => Some(format!("{id}.*")),
        // Numbers are for the agent's own use.
        SocketPattern::Number(_) => None,
    };
    pb::EventFilter {
        socket_ids: filter.sockets.iter().filter_map(pattern).collect(),
        kinds: filter.kinds.iter().map(|kind| (*kind).to_owned()).collect(),
    }
}

// === Out ===

impl From<Gap> for pb::EventGap {
    fn from(gap: Gap) -> Self {
        Self { first_seq: gap.first, last_seq: gap.last, payload_bytes: gap.payload_bytes }
    }
}

/// An event, payloads in this view.
pub fn show(record: &EventRecord, view: &PayloadView) -> pb::Event {
    let (socket_id, socket_uid) = match &record.socket {
        Some((id, uid)) => (id.to_string(), uid.0),
        None => (String::new(), 0),
    };
    pb::Event {
        event_seq: record.seq,
        time: Some(call::time(record.time)),
        socket_id,
        socket_uid,
        request_id: record.request.as_ref().map(ToString::to_string).unwrap_or_default(),
        kind: record.event.kind().to_owned(),
        body: body(&record.event, view),
    }
}

/// What happened; absent for what this version does not know itself.
pub(super) fn body(event: &Event, view: &PayloadView) -> Option<pb::event::Body> {
    use pb::event::Body;

    let error = |error: &Option<_>| error.as_ref().map(call::error);
    Some(match event {
        Event::Created { transport, family, parent, local, remote } => Body::Created(pb::CreatedEvent {
            transport: pb::Transport::from(*transport).into(),
            family: pb::Family::from(*family).into(),
            parent_id: parent.as_ref().map(|(id, _)| id.to_string()).unwrap_or_default(),
            parent_uid: parent.as_ref().map(|(_, uid)| uid.0).unwrap_or_default(),
            local: address::endpoint(local.as_ref()),
            remote: address::endpoint(remote.as_ref()),
        }),
        Event::Bound { local } => Body::Bound(pb::BoundEvent { local: Some(local.into()) }),
        Event::Listening { local, backlog } => {
            Body::Listening(pb::ListeningEvent { local: Some(local.into()), backlog: *backlog })
        }
        Event::LookedUp { host, addresses, error: e } => {
            Body::LookedUp(pb::LookedUpEvent { host: host.to_string(), addresses: addresses.clone(), error: error(e) })
        }
        Event::ConnectStarted { remote } => {
            Body::ConnectStarted(pb::ConnectStartedEvent { remote: Some(remote.into()) })
        }
        Event::Connected { local, remote, self_connected } => Body::Connected(pb::ConnectedEvent {
            local: Some(local.into()),
            remote: Some(remote.into()),
            self_connected: *self_connected,
        }),
        Event::Disconnected { local } => {
            Body::Disconnected(pb::DisconnectedEvent { local: address::endpoint(local.as_ref()) })
        }
        Event::ConnectFailed { remote, local, error: e, still_connecting } => {
            Body::ConnectFailed(pb::ConnectFailedEvent {
                remote: Some(remote.into()),
                timed_out: e.is_none(),
                error: error(e),
                local: address::endpoint(local.as_ref()),
                still_connecting: *still_connecting,
            })
        }
        Event::Accepted { id, uid, local, remote } => Body::Accepted(pb::AcceptedEvent {
            accepted_id: id.to_string(),
            accepted_uid: uid.0,
            local: Some(local.into()),
            remote: Some(remote.into()),
        }),
        Event::ConnectionDropped { local, remote, reason } => Body::ConnectionDropped(pb::ConnectionDroppedEvent {
            local: address::endpoint(local.as_ref()),
            remote: address::endpoint(remote.as_ref()),
            reason: match reason {
                DropReason::TooMany => pb::ConnectionDropReason::TooMany,
                DropReason::Denied => pb::ConnectionDropReason::Denied,
                DropReason::Gone => pb::ConnectionDropReason::Gone,
                DropReason::Policy => pb::ConnectionDropReason::Policy,
            }
            .into(),
        }),
        Event::AcceptPaused { reason, error: e } => Body::AcceptPaused(pb::AcceptPausedEvent {
            reason: match reason {
                AcceptPause::SocketLimit => pb::AcceptPauseReason::SocketLimit,
                AcceptPause::OutOfResources => pb::AcceptPauseReason::OutOfResources,
                AcceptPause::AcceptLimit => pb::AcceptPauseReason::AcceptLimit,
                AcceptPause::LogFull => pb::AcceptPauseReason::LogFull,
                AcceptPause::DescriptorLimit => pb::AcceptPauseReason::DescriptorLimit,
            }
            .into(),
            error: error(e),
        }),
        Event::AcceptFailed { error } => Body::AcceptFailed(pb::AcceptFailedEvent { error: Some(call::error(error)) }),
        Event::Received { offset, payload: bytes } => {
            let (payload, cut) = payload::shown(bytes, view);
            let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            Body::Received(pb::ReceivedEvent { offset: Some(*offset), size, payload, cut })
        }
        Event::UrgentReceived { offset, byte } => {
            Body::UrgentReceived(pb::UrgentReceivedEvent { offset: Some(*offset), byte: byte.map(u32::from) })
        }
        Event::PatternBroken(difference) => Body::PatternBroken(verify::write_difference(*difference)),
        Event::UrgentLost { offset, size } => {
            Body::UrgentLost(pb::UrgentLostEvent { offset: Some(*offset), size: *size })
        }
        Event::DatagramReceived(datagram) => Body::DatagramReceived(show_datagram(datagram, view)),
        Event::DatagramsDropped { count, total } => {
            Body::DatagramsDropped(pb::DatagramsDroppedEvent { count: *count, total: *total })
        }
        Event::IcmpReceived(message) => Body::IcmpReceived(pb::IcmpReceivedEvent {
            destination: address::endpoint(message.destination.as_ref()),
            offender: message.offender_text().unwrap_or_default(),
            r#type: message.kind.into(),
            code: message.code.into(),
            error: Some(call::error(&message.error)),
        }),
        Event::Written { offset, size, asked_size } => {
            Body::Written(pb::WrittenEvent { offset: Some(*offset), size: *size, asked_size: *asked_size })
        }
        Event::Sent { destination, size, reply_to_event } => Body::Sent(pb::SentEvent {
            destination: address::endpoint(destination.as_ref()),
            size: Some(*size),
            reply_to_event: *reply_to_event,
        }),
        Event::SendTimestamped { stage, number, time } => Body::SendTimestamped(pb::SendTimestampedEvent {
            stage: match stage {
                SendStage::Scheduled => pb::SendStage::Scheduled,
                SendStage::Sent => pb::SendStage::Sent,
            }
            .into(),
            number: Some(*number),
            time: Some(call::time(*time)),
        }),
        Event::WriteBlocked { pending_bytes } => {
            Body::WriteBlocked(pb::WriteBlockedEvent { pending_bytes: *pending_bytes })
        }
        Event::Writable => Body::Writable(pb::WritableEvent {}),
        Event::ShutDown { how } => Body::ShutDown(pb::ShutDownEvent { how: pb::ShutdownHow::from(*how).into() }),
        Event::PeerClosed { bytes_read } => Body::PeerClosed(pb::PeerClosedEvent { bytes_read: Some(*bytes_read) }),
        Event::PeerReset { error } => Body::PeerReset(pb::PeerResetEvent { error: Some(call::error(error)) }),
        Event::PeerGone { error: e } => Body::PeerGone(pb::PeerGoneEvent { error: error(e) }),
        Event::TcpStateChanged { before, state } => Body::TcpStateChanged(pb::TcpStateChangedEvent {
            previous_state: before.map_or(pb::TcpState::Unspecified, pb::TcpState::from).into(),
            state: pb::TcpState::from(*state).into(),
        }),
        Event::IdleTimedOut { idle } => Body::IdleTimedOut(pb::IdleTimedOutEvent { idle: Some(call::span(*idle)) }),
        Event::ReadPaused { reason } => {
            Body::ReadPaused(pb::ReadPausedEvent { reason: delivery::pause(*reason).into() })
        }
        Event::ReadResumed => Body::ReadResumed(pb::ReadResumedEvent {}),
        Event::OptionSet(result) => Body::OptionSet(pb::OptionSetEvent { result: Some((&**result).into()) }),
        Event::GroupJoined(m) => Body::GroupJoined(pb::GroupJoinedEvent { membership: Some((&**m).into()) }),
        Event::GroupLeft(m) => Body::GroupLeft(pb::GroupLeftEvent { membership: Some((&**m).into()) }),
        Event::SourceBlocked(m) => Body::SourceBlocked(pb::SourceBlockedEvent { membership: Some((&**m).into()) }),
        Event::SourceUnblocked(m) => {
            Body::SourceUnblocked(pb::SourceUnblockedEvent { membership: Some((&**m).into()) })
        }
        Event::SourceFilterSet(filter) => {
            Body::SourceFilterSet(pb::SourceFilterSetEvent { filter: Some((&**filter).into()) })
        }
        Event::Failed { error } => Body::Failed(pb::FailedEvent { error: Some(call::error(error)) }),
        Event::Aborted => Body::Aborted(pb::AbortedEvent {}),
        Event::Attached => Body::Attached(pb::AttachedEvent {}),
        Event::Detached { to_client, from_client, lost } => Body::Detached(pb::DetachedEvent {
            bytes_to_client: Some(*to_client),
            bytes_from_client: Some(*from_client),
            bytes_lost: *lost,
        }),
        Event::Closed(closing) => Body::Closed(closing.into()),
        Event::InterfaceChanged { interface, change, mtu } => {
            Body::InterfaceChanged(interface::changed(interface, *change, *mtu))
        }
        Event::InterfaceAddressChanged { interface, ip, prefix_length, added } => {
            Body::InterfaceAddressChanged(interface::address_changed(interface, *ip, *prefix_length, *added))
        }
        Event::ClockStepped { ahead_nanos } => {
            Body::ClockStepped(pb::ClockSteppedEvent { ahead: Some(call::signed_span(*ahead_nanos)) })
        }
        Event::AgentDraining { grace } => {
            Body::AgentDraining(pb::AgentDrainingEvent { grace: Some(call::span(*grace)) })
        }
        Event::SessionReset { closed_sockets } => {
            Body::SessionReset(pb::SessionResetEvent { closed_sockets: Some(*closed_sockets) })
        }
        Event::LeaseExpiring { left } => {
            Body::LeaseExpiring(pb::LeaseExpiringEvent { lease_left: Some(call::span(*left)) })
        }
        Event::LeaseExpired { closed_sockets } => {
            Body::LeaseExpired(pb::LeaseExpiredEvent { closed_sockets: Some(*closed_sockets) })
        }
        Event::Unknown { .. } => return None,
    })
}

fn show_datagram(datagram: &Datagram, view: &PayloadView) -> pb::DatagramReceivedEvent {
    let (payload, cut) = payload::shown(&datagram.payload, view);
    pb::DatagramReceivedEvent {
        source: address::endpoint(datagram.source.as_ref()),
        destination: address::endpoint(datagram.destination.as_ref()),
        interface: datagram.interface.as_deref().unwrap_or_default().to_owned(),
        size: Some(datagram.size),
        truncated: datagram.truncated(),
        payload,
        cut,
        hop_limit: datagram.hop_limit.map(u32::from),
        traffic_class: datagram.traffic_class.map(u32::from),
        receive_time: datagram.received.map(call::time),
    }
}

// === In ===

/// An event as an agent sent it, with payloads as data. Of what this version does not understand, the name of its kind is kept. Absent where
/// not even that can be made of it.
pub fn read(sent: &pb::Event) -> Option<EventRecord> {
    let socket = match sent.socket_id.as_str() {
        "" => None,
        id => Some((SocketId::parse(id).ok()?, SocketUid(sent.socket_uid))),
    };
    let request = match sent.request_id.as_str() {
        "" => None,
        id => Some(RequestId::parse_known(id).ok()?),
    };
    Some(EventRecord {
        seq: sent.event_seq,
        time: call::read_time(sent.time.as_ref()),
        socket,
        request,
        event: read_event(sent),
    })
}

fn read_event(sent: &pb::Event) -> Event {
    sent.body.as_ref().and_then(read_body).unwrap_or_else(|| {
        let value = unknown_value(sent, "Event").map(|value| (value.field, value.number));
        Event::Unknown { kind: shorten(&sent.kind).into(), value }
    })
}

fn read_body(body: &pb::event::Body) -> Option<Event> {
    use pb::event::Body;

    let endpoint = |sent: Option<&pb::Endpoint>| sent.and_then(address::read_endpoint);
    let error = |sent: Option<&pb::SocketError>| sent.and_then(call::read_error);
    let optional_error = |sent: Option<&pb::SocketError>| optional(sent, call::read_error);
    let membership = |sent: Option<&pb::GroupMembership>| group::read(sent).map(Box::new);
    Some(match body {
        Body::Created(e) => Event::Created {
            transport: address::transport("", e.transport).ok()??,
            family: address::family("", e.family).ok()??,
            parent: SocketId::parse(&e.parent_id).ok().map(|id| (id, SocketUid(e.parent_uid))),
            local: endpoint(e.local.as_ref()),
            remote: endpoint(e.remote.as_ref()),
        },
        Body::Bound(e) => Event::Bound { local: endpoint(e.local.as_ref())? },
        Body::Listening(e) => Event::Listening { local: endpoint(e.local.as_ref())?, backlog: e.backlog },
        Body::LookedUp(e) => Event::LookedUp {
            host: e.host.as_str().into(),
            addresses: e.addresses.clone(),
            error: optional_error(e.error.as_ref())?,
        },
        Body::ConnectStarted(e) => Event::ConnectStarted { remote: endpoint(e.remote.as_ref())? },
        Body::Connected(e) => Event::Connected {
            local: endpoint(e.local.as_ref())?,
            remote: endpoint(e.remote.as_ref())?,
            self_connected: e.self_connected,
        },
        Body::Disconnected(e) => Event::Disconnected { local: endpoint(e.local.as_ref()) },
        Body::ConnectFailed(e) => Event::ConnectFailed {
            remote: endpoint(e.remote.as_ref())?,
            local: endpoint(e.local.as_ref()),
            error: optional_error(e.error.as_ref())?,
            still_connecting: e.still_connecting,
        },
        Body::Accepted(e) => Event::Accepted {
            id: SocketId::parse(&e.accepted_id).ok()?,
            uid: SocketUid(e.accepted_uid),
            local: endpoint(e.local.as_ref())?,
            remote: endpoint(e.remote.as_ref())?,
        },
        Body::ConnectionDropped(e) => Event::ConnectionDropped {
            reason: match known_value(e.reason)? {
                pb::ConnectionDropReason::Unspecified | pb::ConnectionDropReason::TooMany => DropReason::TooMany,
                pb::ConnectionDropReason::Denied => DropReason::Denied,
                pb::ConnectionDropReason::Gone => DropReason::Gone,
                pb::ConnectionDropReason::Policy => DropReason::Policy,
            },
            local: endpoint(e.local.as_ref()),
            remote: endpoint(e.remote.as_ref()),
        },
        Body::AcceptPaused(e) => Event::AcceptPaused {
            reason: match known_value(e.reason)? {
                pb::AcceptPauseReason::SocketLimit => AcceptPause::SocketLimit,
                pb::AcceptPauseReason::AcceptLimit => AcceptPause::AcceptLimit,
                pb::AcceptPauseReason::LogFull => AcceptPause::LogFull,
                pb::AcceptPauseReason::DescriptorLimit => AcceptPause::DescriptorLimit,
                pb::AcceptPauseReason::Unspecified | pb::AcceptPauseReason::OutOfResources => {
                    AcceptPause::OutOfResources
                }
            },
            error: optional_error(e.error.as_ref())?,
        },
        Body::AcceptFailed(e) => Event::AcceptFailed { error: error(e.error.as_ref())? },
        Body::Received(e) => Event::Received { offset: e.offset(), payload: payload::read_data(e.payload.as_ref()) },
        Body::DatagramReceived(e) => Event::DatagramReceived(Box::new(read_datagram(e))),
        Body::DatagramsDropped(e) => Event::DatagramsDropped { count: e.count, total: e.total },
        Body::IcmpReceived(e) => Event::IcmpReceived(Box::new(read_icmp(e)?)),
        Body::Written(e) => Event::Written { offset: e.offset(), size: e.size, asked_size: e.asked_size },
        Body::Sent(e) => Event::Sent {
            size: e.size(),
            destination: endpoint(e.destination.as_ref()),
            reply_to_event: e.reply_to_event,
        },
        Body::UrgentReceived(e) => {
            Event::UrgentReceived { offset: e.offset(), byte: e.byte.and_then(|byte| u8::try_from(byte).ok()) }
        }
        Body::PatternBroken(e) => Event::PatternBroken(verify::read_difference(*e)),
        Body::UrgentLost(e) => Event::UrgentLost { offset: e.offset(), size: e.size },
        Body::WriteBlocked(e) => Event::WriteBlocked { pending_bytes: e.pending_bytes },
        Body::SendTimestamped(e) => Event::SendTimestamped {
            stage: match known_value(e.stage)? {
                pb::SendStage::Scheduled => SendStage::Scheduled,
                pb::SendStage::Unspecified | pb::SendStage::Sent => SendStage::Sent,
            },
            number: e.number(),
            time: call::read_time(e.time.as_ref()),
        },
        Body::Writable(_) => Event::Writable,
        Body::ShutDown(e) => Event::ShutDown {
            how: match known_value(e.how)? {
                pb::ShutdownHow::Unspecified | pb::ShutdownHow::Send => ShutdownHow::Send,
                pb::ShutdownHow::Receive => ShutdownHow::Receive,
                pb::ShutdownHow::Both => ShutdownHow::Both,
            },
        },
        Body::PeerClosed(e) => Event::PeerClosed { bytes_read: e.bytes_read() },
        Body::PeerReset(e) => Event::PeerReset { error: error(e.error.as_ref())? },
        Body::PeerGone(e) => Event::PeerGone { error: optional_error(e.error.as_ref())? },
        Body::TcpStateChanged(e) => Event::TcpStateChanged {
            before: tcp::read_state(known_value(e.previous_state)?),
            state: tcp::read_state(known_value(e.state)?)?,
        },
        Body::IdleTimedOut(e) => Event::IdleTimedOut { idle: call::read_span(e.idle.as_ref()) },
        Body::ReadPaused(e) => Event::ReadPaused { reason: delivery::read_pause(known_value(e.reason)?) },
        Body::ReadResumed(_) => Event::ReadResumed,
        Body::OptionSet(e) => Event::OptionSet(Box::new(option::read_result(e.result.as_ref()?)?)),
        Body::GroupJoined(e) => Event::GroupJoined(membership(e.membership.as_ref())?),
        Body::GroupLeft(e) => Event::GroupLeft(membership(e.membership.as_ref())?),
        Body::SourceBlocked(e) => Event::SourceBlocked(membership(e.membership.as_ref())?),
        Body::SourceUnblocked(e) => Event::SourceUnblocked(membership(e.membership.as_ref())?),
        Body::SourceFilterSet(e) => Event::SourceFilterSet(Box::new(source_filter::read(e.filter.as_ref()?)?)),
        Body::Failed(e) => Event::Failed { error: error(e.error.as_ref())? },
        Body::Aborted(_) => Event::Aborted,
        Body::Attached(_) => Event::Attached,
        Body::Detached(e) => {
            Event::Detached { to_client: e.bytes_to_client(), from_client: e.bytes_from_client(), lost: e.bytes_lost }
        }
        Body::Closed(e) => Event::Closed(socket::read_closing(e)?),
        Body::InterfaceChanged(e) => interface::read_changed(e)?,
        Body::InterfaceAddressChanged(e) => interface::read_address_changed(e)?,
        Body::ClockStepped(e) => {
            let ahead = e.ahead.unwrap_or_default();
            let nanos = ahead.seconds.saturating_mul(1_000_000_000).saturating_add(ahead.nanos.into());
            Event::ClockStepped { ahead_nanos: nanos }
        }
        Body::AgentDraining(e) => Event::AgentDraining { grace: call::read_span(e.grace.as_ref()) },
        Body::SessionReset(e) => Event::SessionReset { closed_sockets: e.closed_sockets() },
        Body::LeaseExpiring(e) => Event::LeaseExpiring { left: call::read_span(e.lease_left.as_ref()) },
        Body::LeaseExpired(e) => Event::LeaseExpired { closed_sockets: e.closed_sockets() },
    })
}

fn read_icmp(sent: &pb::IcmpReceivedEvent) -> Option<IcmpMessage> {
    let (ip, zone) = match sent.offender.split_once('%') {
        Some((ip, zone)) => (ip, Some(Arc::from(zone))),
        None => (sent.offender.as_str(), None),
    };
    Some(IcmpMessage {
        destination: sent.destination.as_ref().and_then(address::read_endpoint),
        offender: ip.parse().ok().map(|ip| Endpoint { addr: SocketAddr::new(ip, 0), zone }),
        kind: sent.r#type.try_into().ok()?,
        code: sent.code.try_into().ok()?,
        error: call::read_error(sent.error.as_ref()?)?,
    })
}

fn read_datagram(sent: &pb::DatagramReceivedEvent) -> Datagram {
    let byte = |number: Option<u32>| number.and_then(|n| u8::try_from(n).ok());
    Datagram {
        source: sent.source.as_ref().and_then(address::read_endpoint),
        destination: sent.destination.as_ref().and_then(address::read_endpoint),
        answer_from: None,
        interface: (!sent.interface.is_empty()).then(|| Arc::from(sent.interface.as_str())),
        size: sent.size(),
        payload: payload::read_data(sent.payload.as_ref()),
        hop_limit: byte(sent.hop_limit),
        traffic_class: byte(sent.traffic_class),
        received: sent.receive_time.as_ref().map(|time| call::read_time(Some(time))),
    }
}
