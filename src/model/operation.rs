//! What a caller asks of a socket, how it is to be carried out, and how it went.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::model::address::{AddressText, Endpoint};
use crate::model::bulk::SocketOutcome;
use crate::model::delivery::{DeliveryChange, Slices};
use crate::model::error::SocketError;
use crate::model::group::{GroupAsked, GroupChange, GroupResult};
use crate::model::id::{InstanceId, Principal, RequestId, SessionId, SocketId, SocketUid, WatcherId};
use crate::model::option::{OptionResult, SocketOption};
use crate::model::session::{LeaseView, Retention, SessionSpec, SessionState};
use crate::model::source_filter::{FilterAsked, FilterResult};
use crate::model::spec::{Attempts, Retry, SocketSpec};
use crate::model::time::Timestamp;
use crate::model::view::SocketView;

/// An operation, as errors name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// socket(2).
    Create,
    /// Looking up a name.
    LookUp,
    /// bind(2).
    Bind,
    /// listen(2).
    Listen,
    /// accept4(2).
    Accept,
    /// connect(2).
    Connect,
    /// connect(2) with AF_UNSPEC.
    Disconnect,
    /// send(2) on TCP.
    Write,
    /// sendmsg(2) on UDP.
    Send,
    /// recv(2), recvmsg(2).
    Receive,
    /// shutdown(2).
    Shutdown,
    /// close(2).
    Close,
    /// SO_LINGER of zero, then close(2).
    Abort,
    /// setsockopt(2).
    SetOption,
    /// getsockopt(2).
    GetOption,
    /// Looking up a route.
    Route,
    /// setsockopt(2) with MCAST_JOIN_GROUP or MCAST_JOIN_SOURCE_GROUP.
    Join,
    /// setsockopt(2) with MCAST_LEAVE_GROUP or MCAST_LEAVE_SOURCE_GROUP.
    Leave,
    /// setsockopt(2) with MCAST_BLOCK_SOURCE.
    Block,
    /// setsockopt(2) with MCAST_UNBLOCK_SOURCE.
    Unblock,
    /// setsockopt(2) or getsockopt(2) with MCAST_MSFILTER.
    Filter,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::Create,
        Self::LookUp,
        Self::Bind,
        Self::Listen,
        Self::Accept,
        Self::Connect,
        Self::Disconnect,
        Self::Write,
        Self::Send,
        Self::Receive,
        Self::Shutdown,
        Self::Close,
        Self::Abort,
        Self::SetOption,
        Self::GetOption,
        Self::Route,
        Self::Join,
        Self::Leave,
        Self::Block,
        Self::Unblock,
        Self::Filter,
    ];
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::LookUp => "look up",
            Self::Bind => "bind",
            Self::Listen => "listen",
            Self::Accept => "accept",
            Self::Connect => "connect",
            Self::Disconnect => "disconnect",
            Self::Write => "write",
            Self::Send => "send",
            Self::Receive => "receive",
            Self::Shutdown => "shutdown",
            Self::Close => "close",
            Self::Abort => "abort",
            Self::SetOption => "set option",
            Self::GetOption => "get option",
            Self::Route => "route",
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Block => "block",
            Self::Unblock => "unblock",
            Self::Filter => "filter",
        })
    }
}

/// Which direction to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ShutdownHow {
    /// SHUT_RD.
    Receive,
    /// SHUT_WR.
    #[default]
    Send,
    /// SHUT_RDWR.
    Both,
}

impl ShutdownHow {
    /// Whether a FIN is sent.
    pub const fn ends_sending(self) -> bool {
        matches!(self, Self::Send | Self::Both)
    }
}

/// How bytes are handed to the kernel. send(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct WriteFlags {
    /// The last byte is urgent: MSG_OOB.
    pub urgent: bool,
    /// More will come soon: MSG_MORE.
    pub more: bool,
}

/// When to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Start {
    /// At once.
    #[default]
    Now,
    /// At a moment of the agent's clock.
    At(Timestamp),
    /// After a while.
    After(Duration),
}

/// How an operation is to be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallOptions {
    /// The caller's name for it.
    pub request_id: Option<RequestId>,
    /// When to start.
    pub start: Start,
    /// How long it may wait.
    pub timeout: Option<Duration>,
    /// Answer when it has been accepted.
    pub detach: bool,
    /// Turn an error into a status.
    pub fail_on_error: bool,
    /// The agent that is meant.
    pub instance: Option<InstanceId>,
    /// Who asks for it, where that is not whose session it is: the policy must allow it to both.
    pub asker: Option<Principal>,
}

/// Which socket of which session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// The session.
    pub session: SessionId,
    /// The socket's name.
    pub socket: SocketId,
    /// The socket's number, where the caller pins it.
    pub uid: Option<SocketUid>,
}

/// How the payloads of datagrams are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SendFlags {
    /// Each is a probe: it carries its number.
    pub probes: bool,
    /// Each has places that are filled as it leaves.
    pub template: bool,
}

/// A datagram to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct OutgoingDatagram {
    /// Where to.
    pub destination: Option<AddressText>,
    /// The bytes.
    pub payload: Bytes,
    /// The event that it answers.
    pub reply_to_event: Option<u64>,
    /// Its time-to-live or hop limit, where that is not the socket's.
    pub hop_limit: Option<u8>,
    /// Its type-of-service or traffic class byte, where that is not the socket's.
    pub traffic_class: Option<u8>,
    /// The local address that it leaves from: a literal without a port.
    pub source: Option<AddressText>,
}

/// How the next payload is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Take {
    /// At most so many bytes.
    pub max_bytes: Option<u32>,
    /// At least so many bytes.
    pub min_bytes: Option<u32>,
    /// It is only looked at: MSG_PEEK.
    pub peek: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Make a session.
    CreateSession {
        /// Its name; the agent mints one where absent.
        session: Option<SessionId>,
        /// How it lives, and what it keeps.
        spec: SessionSpec,
    },
    /// Close all sockets of a session.
    ResetSession {
        /// The session.
        session: SessionId,
    },
    /// Forget a session.
    DeleteSession {
        /// The session.
        session: SessionId,
        /// That there is none is fine.
        allow_missing: bool,
    },
    /// Make a socket.
    CreateSocket {
        /// The session.
        session: SessionId,
        /// Its name; the agent mints one where absent.
        socket: Option<SocketId>,
        /// What kind of socket.
        spec: Box<SocketSpec>,
    },
    /// Make many sockets.
    CreateSockets {
        /// The session.
        session: SessionId,
        /// The name of each, which the agent mints where absent, and what kind of socket.
        sockets: Vec<(Option<SocketId>, SocketSpec)>,
    },
    /// Do something with a socket.
    Socket(Target, SocketAction),
}

/// What is to be done with a socket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SocketAction {
    /// Give it a local address.
    Bind {
        /// The address.
        local: AddressText,
        /// How it is tried again while somebody else has it.
        retry: Option<Retry>,
    },
    /// Wait for connections.
    Listen {
        /// The backlog; that of its creation where absent.
        backlog: Option<u32>,
    },
    /// Take a connection.
    Accept,
    /// Connect.
    Connect {
        /// Where to.
        remote: AddressText,
        /// How long and how often.
        attempts: Attempts,
    },
    /// Take the remote address away.
    Disconnect,
    /// Write bytes.
    Write {
        /// The bytes.
        payload: Bytes,
        /// How many bytes must have been written before.
        expected_offset: Option<u64>,
        /// How they are handed over.
        flags: WriteFlags,
        /// How they are cut up.
        slices: Option<Slices>,
    },
    /// Send datagrams.
    Send {
        /// The datagrams, in order.
        datagrams: Vec<OutgoingDatagram>,
        /// How much later each is due than the one before it.
        interval: Duration,
        /// How their payloads are made.
        flags: SendFlags,
    },
    /// Take the next payload.
    Receive(Take),
    /// Wait until the peer has everything.
    Flush,
    /// End a direction.
    Shutdown(ShutdownHow),
    /// Close.
    Close {
        /// SO_LINGER, in seconds.
        linger: Option<u16>,
        /// That there is no such socket is fine.
        allow_missing: bool,
    },
    /// Reset.
    Abort {
        /// That there is no such socket is fine.
        allow_missing: bool,
    },
    /// Change how received bytes are handed on.
    SetDelivery(DeliveryChange),
    /// Set options.
    SetOptions(Vec<SocketOption>),
    /// Join or leave a multicast group, block or unblock a source of one.
    Group(GroupChange, GroupAsked),
    /// Set the source filter of a multicast group.
    Filter(FilterAsked),
}

impl Action {
    /// The session in which the call counts. A session that is made or forgotten cannot hold the memory of that itself.
    pub fn session(&self) -> SessionId {
        match self {
            Self::CreateSession { .. } | Self::DeleteSession { .. } => SessionId::default(),
            Self::ResetSession { session }
            | Self::CreateSocket { session, .. }
            | Self::CreateSockets { session, .. } => session.clone(),
            Self::Socket(target, _) => target.session.clone(),
        }
    }

    /// The socket, as the request named it.
    pub const fn socket(&self) -> Option<&SocketId> {
        match self {
            Self::CreateSocket { socket, .. } => socket.as_ref(),
            Self::Socket(target, _) => Some(&target.socket),
            Self::CreateSession { .. }
            | Self::ResetSession { .. }
            | Self::DeleteSession { .. }
            | Self::CreateSockets { .. } => None,
        }
    }

    /// How many bytes it is to hand to the kernel.
    pub fn payload_bytes(&self) -> u64 {
        match self {
            Self::Socket(_, SocketAction::Write { payload, .. }) => payload.len() as u64,
            Self::Socket(_, SocketAction::Send { datagrams, .. }) => {
                datagrams.iter().map(|datagram| datagram.payload.len() as u64).sum()
            }
            _ => 0,
        }
    }

    /// The RPC that asks for it.
    pub const fn method(&self) -> Method {
        match self {
            Self::CreateSession { .. } => Method::CreateSession,
            Self::ResetSession { .. } => Method::ResetSession,
            Self::DeleteSession { .. } => Method::DeleteSession,
            Self::CreateSocket { .. } => Method::CreateSocket,
            Self::CreateSockets { .. } => Method::CreateSockets,
            Self::Socket(_, action) => match action {
                SocketAction::Bind { .. } => Method::BindSocket,
                SocketAction::Listen { .. } => Method::ListenSocket,
                SocketAction::Accept => Method::AcceptSocket,
                SocketAction::Connect { .. } => Method::ConnectSocket,
                SocketAction::Disconnect => Method::DisconnectSocket,
                SocketAction::Write { .. } => Method::WriteSocket,
                SocketAction::Send { .. } => Method::SendDatagrams,
                SocketAction::Receive(_) => Method::ReceiveSocket,
                SocketAction::Flush => Method::FlushSocket,
                SocketAction::Shutdown(_) => Method::ShutdownSocket,
                SocketAction::Close { .. } => Method::CloseSocket,
                SocketAction::Abort { .. } => Method::AbortSocket,
                SocketAction::SetDelivery(_) => Method::SetSocketDelivery,
                SocketAction::SetOptions(_) => Method::SetSocketOptions,
                SocketAction::Group(GroupChange::Join, _) => Method::JoinGroup,
                SocketAction::Group(GroupChange::Leave, _) => Method::LeaveGroup,
                SocketAction::Group(GroupChange::Block, _) => Method::BlockSource,
                SocketAction::Group(GroupChange::Unblock, _) => Method::UnblockSource,
                SocketAction::Filter(_) => Method::SetSourceFilter,
            },
        }
    }
}

/// The RPCs that change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "they are documented in session_service.proto and socket_service.proto")]
pub enum Method {
    CreateSession,
    ResetSession,
    DeleteSession,
    CreateSocket,
    CreateSockets,
    BindSocket,
    ListenSocket,
    AcceptSocket,
    ConnectSocket,
    DisconnectSocket,
    WriteSocket,
    SendDatagrams,
    ReceiveSocket,
    FlushSocket,
    ShutdownSocket,
    CloseSocket,
    AbortSocket,
    SetSocketDelivery,
    SetSocketOptions,
    JoinGroup,
    LeaveGroup,
    BlockSource,
    UnblockSource,
    SetSourceFilter,
}

/// A session as it is at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    /// Its name.
    pub id: SessionId,
    /// Whose it is.
    pub owner: Principal,
    /// When it was made.
    pub created: Timestamp,
    /// How many sockets it has.
    pub socket_count: u32,
    /// The newest event's number.
    pub head_seq: u64,
    /// The oldest kept event's number.
    pub oldest_seq: u64,
    /// How many watchers read its events.
    pub watcher_count: u32,
    /// Its lease. Absent: it has none.
    pub lease: Option<LeaseView>,
    /// Whether it can still be used.
    pub state: SessionState,
    /// What its log lets go of.
    pub retention: Retention,
    /// Events that its log may not let go of yet.
    pub held_events: u64,
    /// Bytes of their payloads.
    pub held_bytes: u64,
    /// The named watchers, and after which number each holds the log.
    pub watchers: Vec<(WatcherId, u64)>,
}

/// A payload that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Taken {
    /// The bytes.
    pub payload: Bytes,
    /// How many there are; of a datagram, how many it had.
    pub size: u32,
    /// Where they stand in the stream.
    pub offset: u64,
    /// Who sent the datagram.
    pub source: Option<Endpoint>,
    /// Where it was sent to.
    pub destination: Option<Endpoint>,
    /// The datagram's time-to-live or hop limit.
    pub hop_limit: Option<u8>,
    /// The datagram's type-of-service or traffic class byte.
    pub traffic_class: Option<u8>,
    /// When the kernel received the datagram.
    pub received: Option<Timestamp>,
    /// Bytes of the datagram are lost, because fewer were asked for.
    pub truncated: bool,
    /// The stream has ended, and everything has been taken.
    pub end: bool,
    /// The event that logged them.
    pub event_seq: Option<u64>,
    /// Bytes that were dropped from the log before these.
    pub lost_bytes: u64,
}

/// What an operation brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Yield {
    /// Nothing: it failed, was missing, or is detached.
    Nothing,
    /// A socket, and what became of its options.
    Socket(Box<SocketView>, Vec<OptionResult>),
    /// Many sockets, made or not.
    Sockets(Vec<SocketOutcome>),
    /// A session, and the sockets that were closed.
    Session(SessionView, Vec<SocketView>),
    /// Bytes written, and where they stand in the stream.
    Written {
        /// How many.
        size: u32,
        /// After how many.
        offset: u64,
    },
    /// Datagrams sent.
    Sent {
        /// The socket afterwards.
        socket: Box<SocketView>,
        /// How many.
        datagrams: u32,
        /// How many bytes they had.
        bytes: u32,
    },
    /// A payload.
    Taken(SocketId, Taken),
    /// Options.
    Options(Vec<OptionResult>),
    /// A socket, and what became of its memberships.
    Groups(Box<SocketView>, Vec<GroupResult>),
    /// A socket, and what became of the source filters of a group.
    Filters(Box<SocketView>, Vec<FilterResult>),
}

/// How an operation went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// When it began.
    pub started: Timestamp,
    /// How long it took.
    pub elapsed: Duration,
    /// Nothing happened within the timeout.
    pub timed_out: bool,
    /// What the kernel, the resolver or the network objected to.
    pub error: Option<SocketError>,
    /// The first and the last event that it caused.
    pub events: Option<(u64, u64)>,
    /// Its name.
    pub request_id: RequestId,
}

/// What an operation brought, and how it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What it brought.
    pub yielded: Yield,
    /// How it went.
    pub report: Report,
}

/// How far an operation has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallProgress {
    /// Waiting for its start.
    Scheduled,
    /// Under way.
    Running,
    /// Carried out.
    Done(Arc<Outcome>),
    /// Refused when its time came.
    Refused(String),
}

/// An operation, as the agent remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallView {
    /// Its name.
    pub request_id: RequestId,
    /// The RPC that asked for it.
    pub method: Method,
    /// The socket, as the request named it.
    pub socket: Option<SocketId>,
    /// How far it has come.
    pub progress: CallProgress,
}
