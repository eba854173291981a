//! What happened: facts, numbered, in the past tense.
//!
//! The meaning of each kind, and when it does not come, stands in `proto/farsock/v1/event.proto`, which users read.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::model::address::{Endpoint, Family, Transport};
use crate::model::delivery::ReadPause;
use crate::model::error::SocketError;
use crate::model::group::{InterfaceId, Membership};
use crate::model::host::InterfaceChange;
use crate::model::id::{RequestId, SocketId, SocketUid};
use crate::model::operation::ShutdownHow;
use crate::model::option::OptionResult;
use crate::model::socket::Closing;
use crate::model::source_filter::GroupFilter;
use crate::model::tcp::TcpState;
use crate::model::time::Timestamp;
use crate::model::verify::PatternDifference;

/// Why a listener stopped accepting for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptPause {
    /// The session has as many sockets as it may.
    SocketLimit,
    /// EMFILE, ENFILE, ENOBUFS, ENOMEM.
    OutOfResources,
    /// It has accepted as many as it was told to.
    AcceptLimit,
    /// The session's log has no room for what nobody has taken yet.
    LogFull,
    /// Lab sockets have all descriptors that they may have.
    DescriptorLimit,
}

/// Why a listener dropped a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// As many are open as may be.
    TooMany,
    /// Its lists do not let the peer in.
    Denied,
    /// The peer was gone before its address could be read.
    Gone,
    /// The policy lets nobody in from there.
    Policy,
}

/// How far a datagram had come when its time was taken. linux/errqueue.h: SCM_TSTAMP_*.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendStage {
    /// Into the queue of the interface: SCM_TSTAMP_SCHED.
    Scheduled,
    /// To the driver of the interface: SCM_TSTAMP_SND.
    Sent,
}

/// A datagram, with what the kernel told about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it. Absent where the kernel does not tell.
    pub source: Option<Endpoint>,
    /// Where it was sent to, with this socket's port. Absent where the kernel does not tell.
    pub destination: Option<Endpoint>,
    /// The address of this host that an answer should leave from.
    pub answer_from: Option<IpAddr>,
    /// The name of the interface that it came in by.
    pub interface: Option<Arc<str>>,
    /// How many bytes it had when it was sent.
    pub size: u32,
    /// The bytes that were read.
    pub payload: Bytes,
    /// Its time-to-live or hop limit.
    pub hop_limit: Option<u8>,
    /// Its type-of-service or traffic class byte.
    pub traffic_class: Option<u8>,
    /// When the kernel received it. Absent where the kernel does not tell.
    pub received: Option<Timestamp>,
}

/// An ICMP message about a datagram that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IcmpMessage {
    /// Where the datagram was sent to. Absent where the kernel does not tell.
    pub destination: Option<Endpoint>,
    /// Who says so, with port 0. Absent where the kernel does not tell.
    pub offender: Option<Endpoint>,
    /// Its type.
    pub kind: u8,
    /// Its code.
    pub code: u8,
    /// What the kernel makes of it.
    pub error: SocketError,
}

impl IcmpMessage {
    /// Who says so: an address without a port.
    pub fn offender_text(&self) -> Option<String> {
        let offender = self.offender.as_ref()?;
        let zone = offender.zone_text().map(|zone| format!("%{zone}")).unwrap_or_default();
        Some(format!("{}{zone}", offender.addr.ip()))
    }
}

impl Datagram {
    /// Whether bytes of it are lost, because the read was shorter.
    pub fn truncated(&self) -> bool {
        (self.size as usize) > self.payload.len()
    }
}

macro_rules! kinds {
    ($($(#[$meta:meta])* $variant:ident $({ $($field:ident: $type:ty),* $(,)? })? $(($tuple:ty))? => $kind:literal, $final:literal;)*) => {
        /// Something that happened to a socket or its session.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the fields are those of the messages in event.proto")]
        pub enum Event {
            $($(#[$meta])* $variant $({ $($field: $type),* })? $(($tuple))?,)*
            /// Something that this version does not know, or in a way that it does not know: the path of a field, and the number in it. Agents
            /// that are newer tell of it, and this one never does.
            Unknown { kind: Arc<str>, value: Option<(Arc<str>, i32)> },
        }

        impl Event {
            /// The name of every kind, as protobuf and filters spell it.
            pub const KINDS: &'static [&'static str] = &[$($kind),*];

            /// The name of this kind.
            pub fn kind(&self) -> &str {
                match self {
                    $(Self::$variant { .. } => $kind,)*
                    Self::Unknown { kind, .. } => kind,
                }
            }

            /// Whether it ends something: such events have room of their own in the log.
            pub const fn is_final(&self) -> bool {
                match self {
                    $(Self::$variant { .. } => $final,)*
                    Self::Unknown { .. } => false,
                }
            }
        }
    };
}

kinds! {
    /// A socket was made.
    Created {
        transport: Transport, family: Family, parent: Option<(SocketId, SocketUid)>,
        local: Option<Endpoint>, remote: Option<Endpoint>,
    } => "created", false;
    /// A socket has a local address.
    Bound { local: Endpoint } => "bound", false;
    /// A listener waits for connections.
    Listening { local: Endpoint, backlog: u32 } => "listening", false;
    /// A name was looked up.
    LookedUp { host: Box<str>, addresses: Vec<String>, error: Option<SocketError> } => "looked_up", false;
    /// A connect began.
    ConnectStarted { remote: Endpoint } => "connect_started", false;
    /// A connect succeeded.
    Connected { local: Endpoint, remote: Endpoint, self_connected: bool } => "connected", false;
    /// A UDP socket has no remote address any more.
    Disconnected { local: Option<Endpoint> } => "disconnected", true;
    /// A connect did not succeed; without an error, it timed out.
    ConnectFailed { remote: Endpoint, local: Option<Endpoint>, error: Option<SocketError>, still_connecting: bool } => "connect_failed", true;
    /// A listener accepted a connection.
    Accepted { id: SocketId, uid: SocketUid, local: Endpoint, remote: Endpoint } => "accepted", false;
    /// A listener dropped a connection.
    ConnectionDropped { local: Option<Endpoint>, remote: Option<Endpoint>, reason: DropReason } => "connection_dropped", true;
    /// A listener stopped accepting for a while.
    AcceptPaused { reason: AcceptPause, error: Option<SocketError> } => "accept_paused", false;
    /// An accept did not succeed.
    AcceptFailed { error: SocketError } => "accept_failed", false;
    /// Bytes were read.
    Received { offset: u64, payload: Bytes } => "received", false;
    /// Reading has come to an urgent byte; without the byte, that is the next one of the stream.
    UrgentReceived { offset: u64, byte: Option<u8> } => "urgent_received", false;
    /// What was received is not what was expected.
    PatternBroken(PatternDifference) => "pattern_broken", false;
    /// The kernel threw urgent bytes away that nobody had read.
    UrgentLost { offset: u64, size: u32 } => "urgent_lost", false;
    /// A datagram was read.
    DatagramReceived(Box<Datagram>) => "datagram_received", false;
    /// The kernel dropped datagrams.
    DatagramsDropped { count: u64, total: u64 } => "datagrams_dropped", false;
    /// An ICMP message came.
    IcmpReceived(Box<IcmpMessage>) => "icmp_received", false;
    /// Bytes were handed to the kernel.
    Written { offset: u64, size: u32, asked_size: u32 } => "written", false;
    /// A datagram was handed to the kernel.
    Sent { destination: Option<Endpoint>, size: u32, reply_to_event: u64 } => "sent", false;
    /// The kernel has told when a datagram left.
    SendTimestamped { stage: SendStage, number: u32, time: Timestamp } => "send_timestamped", false;
    /// More writes wait than are wanted.
    WriteBlocked { pending_bytes: u32 } => "write_blocked", false;
    /// There is room again.
    Writable => "writable", false;
    /// A direction was ended from here.
    ShutDown { how: ShutdownHow } => "shut_down", true;
    /// The peer ended its direction.
    PeerClosed { bytes_read: u64 } => "peer_closed", true;
    /// The peer reset the connection.
    PeerReset { error: SocketError } => "peer_reset", true;
    /// The peer of a socket that is not read has gone.
    PeerGone { error: Option<SocketError> } => "peer_gone", true;
    /// The kernel's own state of a TCP socket is another one than when it was seen last.
    TcpStateChanged { before: Option<TcpState>, state: TcpState } => "tcp_state_changed", false;
    /// Nothing went through it for a while.
    IdleTimedOut { idle: Duration } => "idle_timed_out", false;
    /// Reading stopped.
    ReadPaused { reason: ReadPause } => "read_paused", false;
    /// Reading goes on.
    ReadResumed => "read_resumed", false;
    /// An option was set.
    OptionSet(Box<OptionResult>) => "option_set", false;
    /// A multicast group was joined.
    GroupJoined(Box<Membership>) => "group_joined", false;
    /// A multicast group was left.
    GroupLeft(Box<Membership>) => "group_left", true;
    /// A source of a group is not wanted any more.
    SourceBlocked(Box<Membership>) => "source_blocked", false;
    /// A source of a group is wanted again.
    SourceUnblocked(Box<Membership>) => "source_unblocked", false;
    /// The sources that are wanted of a group, or those that are not, were set as a whole.
    SourceFilterSet(Box<GroupFilter>) => "source_filter_set", false;
    /// Something failed.
    Failed { error: SocketError } => "failed", true;
    /// A connection was reset from here.
    Aborted => "aborted", true;
    /// A socket is gone.
    Closed(Closing) => "closed", true;
    /// A stream has taken a connection over.
    Attached => "attached", false;
    /// A stream has given a connection back.
    Detached { to_client: u64, from_client: u64, lost: u64 } => "detached", true;
    /// The host's clock was set.
    ClockStepped { ahead_nanos: i64 } => "clock_stepped", true;
    /// Something has become of an interface of the host.
    InterfaceChanged { interface: InterfaceId, change: InterfaceChange, mtu: u32 } => "interface_changed", false;
    /// An interface of the host has one more address, or one less.
    InterfaceAddressChanged { interface: InterfaceId, ip: IpAddr, prefix_length: u8, added: bool } => "interface_address_changed", false;
    /// The agent is stopping.
    AgentDraining { grace: Duration } => "agent_draining", true;
    /// All sockets of the session were closed.
    SessionReset { closed_sockets: u32 } => "session_reset", true;
    /// The session's lease is running out.
    LeaseExpiring { left: Duration } => "lease_expiring", true;
    /// The session's lease has expired, and its sockets are closed.
    LeaseExpired { closed_sockets: u32 } => "lease_expired", true;
}

impl Event {
    /// The payload that it carries, if it is of a kind that does.
    pub fn payload(&self) -> Option<&Bytes> {
        match self {
            Self::Received { payload, .. } => Some(payload),
            Self::DatagramReceived(datagram) => Some(&datagram.payload),
            _ => None,
        }
    }
}

/// An event in its place: which number, when, whose, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// Its number in the session's log, from 1.
    pub seq: u64,
    /// When it was noticed.
    pub time: Timestamp,
    /// The socket. Absent for an event of the session.
    pub socket: Option<(SocketId, SocketUid)>,
    /// The operation that caused it.
    pub request: Option<RequestId>,
    /// What happened.
    pub event: Event,
}

/// Which events somebody wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventFilter {
    /// Sockets. Empty: all, and the events of the session.
    pub sockets: Vec<SocketPattern>,
    /// Kinds. Empty: all.
    pub kinds: Vec<&'static str>,
}

/// A socket, or the connections that it accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketPattern {
    /// The socket of this name.
    Is(SocketId),
    /// The connections that the listener of this name accepted.
    ChildOf(SocketId),
    /// The socket of this number.
    Number(SocketUid),
}

impl EventFilter {
    /// Whether it wants this event.
    pub fn wants(&self, record: &EventRecord) -> bool {
        let kind = self.kinds.is_empty() || self.kinds.contains(&record.event.kind());
        let socket = self.sockets.is_empty()
            || record.socket.as_ref().is_some_and(|(id, uid)| {
                self.sockets.iter().any(|pattern| match pattern {
                    SocketPattern::Is(wanted) => wanted == id,
                    SocketPattern::ChildOf(parent) => id.parent().as_ref() == Some(parent),
                    SocketPattern::Number(wanted) => wanted == uid,
                })
            });
        kind && socket
    }
}

/// Events that are not kept any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The first number that is missing.
    pub first: u64,
    /// The last number that is missing.
    pub last: u64,
    /// Bytes of payload that they had, where that is known.
    pub payload_bytes: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, event: Event) -> EventRecord {
        EventRecord {
            seq: 1,
            time: Timestamp::default(),
            socket: Some((SocketId::parse(id).unwrap(), SocketUid(7))),
            request: None,
            event,
        }
    }

    #[test]
    fn a_filter_wants_sockets_their_children_and_kinds() {
        let door = SocketId::parse("door").unwrap();
        let filter = |sockets, kinds| EventFilter { sockets, kinds };
        let of_door = filter(vec![SocketPattern::Is(door.clone())], vec![]);
        let of_children = filter(vec![SocketPattern::ChildOf(door)], vec!["aborted"]);
        assert!(of_door.wants(&record("door", Event::Writable)));
        assert!(!of_door.wants(&record("door.1", Event::Writable)));
        assert!(of_children.wants(&record("door.1", Event::Aborted)));
        assert!(!of_children.wants(&record("door.1", Event::Writable)));
        assert!(!of_children.wants(&record("doors", Event::Aborted)));
        assert!(filter(vec![SocketPattern::Number(SocketUid(7))], vec![]).wants(&record("x", Event::Aborted)));

        let of_session = EventRecord { socket: None, ..record("x", Event::SessionReset { closed_sockets: 1 }) };
        assert!(EventFilter::default().wants(&of_session));
        assert!(!of_door.wants(&of_session));
    }
}
