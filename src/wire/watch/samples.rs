//! Events of every kind, for tests.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::option::of;
use proptest::prelude::*;

use crate::model::address::{Endpoint, Family, Transport, socket_addr};
use crate::model::delivery::ReadPause;
use crate::model::errno::Errno;
use crate::model::error::SocketError;
use crate::model::event::{AcceptPause, Datagram, DropReason, Event, EventRecord, IcmpMessage, SendStage};
use crate::model::group::{InterfaceId, Membership};
use crate::model::host::InterfaceChange;
use crate::model::id::{RequestId, SocketId, SocketUid};
use crate::model::operation::{Operation, ShutdownHow};
use crate::model::option::{OptionResult, OptionSpec, OptionValue};
use crate::model::socket::{CloseReason, Closing, Totals};
use crate::model::source_filter::{FilterMode, GroupFilter, SourceFilter};
use crate::model::tcp::TcpState;
use crate::model::time::Timestamp;
use crate::model::verify::PatternDifference;

/// What events are made of.
#[derive(Debug, Clone)]
struct Parts {
    near: Option<Endpoint>,
    far: Endpoint,
    number: u64,
    small: u32,
    byte: Option<u8>,
    payload: Bytes,
    flag: bool,
    text: String,
}

/// One event of each kind, made of the same parts.
pub(super) fn one_of_each_kind() -> impl Strategy<Value = Vec<Event>> {
    parts().prop_map(|parts| events(&parts))
}

/// A datagram.
pub(super) fn datagram() -> impl Strategy<Value = Event> {
    parts().prop_map(|parts| Event::DatagramReceived(Box::new(parts.datagram())))
}

/// An event in its place.
pub(super) fn record(event: impl Strategy<Value = Event>) -> impl Strategy<Value = EventRecord> {
    let socket = of((prop::sample::select(vec!["door", "door.17", "s1"]), 0..9_u64));
    let request = of(prop::sample::select(vec!["@7", "mine"]));
    (number(), any::<i64>(), socket, request, event).prop_map(|(seq, nanos, socket, request, event)| EventRecord {
        seq,
        time: Timestamp::from_nanos(nanos),
        socket: socket.map(|(id, uid)| (SocketId::parse(id).unwrap(), SocketUid(uid))),
        request: request.map(|id| RequestId::parse_known(id).unwrap()),
        event,
    })
}

/// Numbers of every length, and often zero.
fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..=64_u32).prop_map(|(number, bits)| number.checked_shr(bits).unwrap_or(0))
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let ip = prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)];
    let zone = of(prop::sample::select(vec!["lo", "eth0"]).prop_map(Arc::from));
    (ip, any::<u16>(), 0..3_u32, zone).prop_map(|(ip, port, scope, zone)| {
        let addr: SocketAddr = socket_addr(ip, port, scope);
        Endpoint { zone: zone.filter(|_| addr.is_ipv6()), addr }
    })
}

fn parts() -> impl Strategy<Value = Parts> {
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        "\\PC{0,80}".prop_map(String::into_bytes),
        Just(Vec::new())
    ];
    let numbers = (number(), any::<u32>(), of(any::<u8>()));
    (of(endpoint()), endpoint(), numbers, payload, any::<bool>(), "\\PC{0,9}").prop_map(
        |(near, far, (number, small, byte), payload, flag, text)| Parts {
            near,
            far,
            number,
            small,
            byte,
            payload: payload.into(),
            flag,
            text,
        },
    )
}

impl Parts {
    fn datagram(&self) -> Datagram {
        let whole = u32::try_from(self.payload.len()).unwrap();
        Datagram {
            source: Some(self.far.clone()),
            destination: self.near.clone(),
            answer_from: None,
            interface: self.flag.then(|| self.text.as_str().into()),
            size: if self.flag { self.small.max(whole) } else { whole },
            payload: self.payload.clone(),
            hop_limit: self.byte,
            traffic_class: self.byte.filter(|_| self.flag),
            received: self.flag.then(|| Timestamp::from_nanos(i64::from(self.small) << 20)),
        }
    }

    fn error(&self) -> SocketError {
        SocketError::new(Errno::new(1 + i32::from(self.byte.unwrap_or(0))), Operation::Send, "sendmsg")
            .between(self.near.clone(), Some(self.far.clone()))
            .about(&self.text)
    }

    fn membership(&self) -> Box<Membership> {
        let interface = InterfaceId { index: self.small, name: self.text.as_str().into() };
        Box::new(Membership { group: self.far.addr.ip(), interface, source: self.near.as_ref().map(|n| n.addr.ip()) })
    }

    fn interface(&self) -> InterfaceId {
        InterfaceId { index: self.small, name: self.text.as_str().into() }
    }

    fn filter(&self) -> Box<GroupFilter> {
        let Membership { group, interface, source } = *self.membership();
        let mode = if self.flag { FilterMode::Include } else { FilterMode::Exclude };
        let filter = SourceFilter { mode, sources: source.into_iter().collect() };
        Box::new(GroupFilter { group, interface, filter })
    }

    fn option(&self) -> Box<OptionResult> {
        let spec = OptionSpec::find("SO_RCVBUF").unwrap();
        let asked = Some(OptionValue::Number(self.small.cast_signed()));
        Box::new(OptionResult { spec, asked, effective: None, error: self.flag.then(|| self.error()) })
    }
}

fn events(parts: &Parts) -> Vec<Event> {
    let Parts { near, far, number, small, byte, payload, flag, text } = parts.clone();
    let (total, error) = (number, flag.then(|| parts.error()));
    let child = (SocketId::parse("door.3").unwrap(), SocketUid(number));
    let totals = Totals { bytes_read: number, datagrams_dropped: small.into(), ..Totals::default() };
    vec![
        Event::Created {
            transport: Transport::Udp,
            family: Family::Ipv6,
            parent: flag.then(|| child.clone()),
            local: near.clone(),
            remote: Some(far.clone()),
        },
        Event::Bound { local: far.clone() },
        Event::Listening { local: far.clone(), backlog: small },
        Event::LookedUp { host: text.as_str().into(), addresses: vec![text.clone(); 2], error: error.clone() },
        Event::ConnectStarted { remote: far.clone() },
        Event::Connected { local: far.clone(), remote: far.clone(), self_connected: flag },
        Event::Disconnected { local: near.clone() },
        Event::ConnectFailed { remote: far.clone(), local: near.clone(), error: error.clone(), still_connecting: flag },
        Event::Accepted { id: child.0, uid: child.1, local: far.clone(), remote: far.clone() },
        Event::ConnectionDropped { local: near.clone(), remote: near.clone(), reason: DropReason::Denied },
        Event::AcceptPaused { reason: AcceptPause::AcceptLimit, error: error.clone() },
        Event::AcceptFailed { error: parts.error() },
        Event::Received { offset: number, payload },
        Event::UrgentReceived { offset: number, byte },
        Event::UrgentLost { offset: number, size: small },
        Event::PatternBroken(PatternDifference { offset: number, expected: byte, actual: flag.then_some(7) }),
        Event::DatagramReceived(Box::new(parts.datagram())),
        Event::DatagramsDropped { count: number, total },
        Event::IcmpReceived(Box::new(IcmpMessage {
            destination: near.clone(),
            offender: Some(far),
            kind: 3,
            code: byte.unwrap_or(0),
            error: parts.error(),
        })),
        Event::Written { offset: number, size: small, asked_size: small },
        Event::Sent { destination: near, size: small, reply_to_event: number },
        Event::SendTimestamped {
            stage: if flag { SendStage::Sent } else { SendStage::Scheduled },
            number: small,
            time: Timestamp::from_nanos(i64::from(small) << 20),
        },
        Event::WriteBlocked { pending_bytes: small },
        Event::Writable,
        Event::ShutDown { how: ShutdownHow::Both },
        Event::PeerClosed { bytes_read: number },
        Event::PeerReset { error: parts.error() },
        Event::PeerGone { error },
        Event::TcpStateChanged { before: flag.then_some(TcpState::Established), state: TcpState::FinWait1 },
        Event::IdleTimedOut { idle: Duration::from_nanos(number) },
        Event::ReadPaused { reason: ReadPause::Credit },
        Event::ReadResumed,
        Event::OptionSet(parts.option()),
        Event::GroupJoined(parts.membership()),
        Event::GroupLeft(parts.membership()),
        Event::SourceBlocked(parts.membership()),
        Event::SourceUnblocked(parts.membership()),
        Event::SourceFilterSet(parts.filter()),
        Event::Failed { error: parts.error() },
        Event::Aborted,
        Event::Closed(Closing {
            reason: CloseReason::Ended,
            had_error: flag,
            totals,
            unread_bytes: small,
            unwritten_bytes: small,
        }),
        Event::Attached,
        Event::Detached { to_client: number, from_client: total, lost: small.into() },
        Event::InterfaceChanged {
            interface: parts.interface(),
            change: if flag { InterfaceChange::CarrierLost } else { InterfaceChange::Mtu },
            mtu: small,
        },
        Event::InterfaceAddressChanged {
            interface: parts.interface(),
            ip: parts.far.addr.ip(),
            prefix_length: byte.unwrap_or(0),
            added: flag,
        },
        Event::ClockStepped { ahead_nanos: i64::from(small) - (1 << 31) },
        Event::AgentDraining { grace: Duration::from_nanos(number) },
        Event::SessionReset { closed_sockets: small },
        Event::LeaseExpiring { left: Duration::from_nanos(number) },
        Event::LeaseExpired { closed_sockets: small },
    ]
}
