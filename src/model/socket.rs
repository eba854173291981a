//! Lab sockets: how they are asked for, and what can be said of them.
//!
//! [`SocketStatus`] is a fold of events: whoever has the status at one event and all events after it has the status now.

use std::fmt;
use std::time::Duration;

use crate::model::address::Endpoint;
use crate::model::delivery::{Delivery, Watermarks, WriteTimeout};
use crate::model::event::Event;
use crate::model::group::Memberships;
use crate::model::operation::ShutdownHow;

/// What a socket can do next, as the agent sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SocketState {
    /// No local address yet. From here: bound, listening, connecting, closed.
    #[default]
    Unbound,
    /// A local address. From here: listening, connecting, connected (UDP), closed.
    Bound,
    /// Waiting for connections. From here: closed.
    Listening,
    /// The handshake is under way. From here: connected, back to bound or unbound, closed.
    Connecting,
    /// A remote address. From here: bound (UDP), closed.
    Connected,
    /// Gone.
    Closed,
}

impl SocketState {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Unbound, Self::Bound, Self::Listening, Self::Connecting, Self::Connected, Self::Closed];

    /// Its name, as files and messages spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unbound => "unbound",
            Self::Bound => "bound",
            Self::Listening => "listening",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Closed => "closed",
        }
    }
}

/// What the end of the peer's direction leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum HalfOpenPolicy {
    /// Nothing: POSIX.
    #[default]
    Allow,
    /// A FIN in answer, and the end of the socket: Node's default.
    AutoEnd,
}

/// Who takes connections from a listener's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AcceptPolicy {
    /// The agent.
    #[default]
    Auto,
    /// AcceptSocket.
    Manual,
}

/// The directions that a socket is used in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// Both.
    #[default]
    Both,
    /// It is never written to.
    ReceiveOnly,
    /// It is never read from.
    SendOnly,
}

/// What an accepted connection takes from its listener, and every socket from its creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Conduct {
    /// How received bytes are handed on.
    pub delivery: Delivery,
    /// The directions that it is used in.
    pub direction: Direction,
    /// What the end of the peer's direction leads to. TCP only.
    pub half_open: HalfOpenPolicy,
    /// The silence that is announced. TCP only; zero: never.
    pub idle_timeout: Duration,
    /// How long a new connection is not read. TCP only.
    pub read_delay: Duration,
    /// How long the answer to the peer's end is put off. TCP only.
    pub close_delay: Duration,
    /// When writers are told to stop, and to go on. TCP only.
    pub watermarks: Watermarks,
    /// How long writes may take. TCP only.
    pub write_timeout: WriteTimeout,
    /// Whether changes of the kernel's own state are told. TCP only.
    pub tell_states: bool,
}

impl Conduct {
    /// How a socket behaves for which nothing else is asked.
    pub fn usual(read_size: u32) -> Self {
        Self {
            delivery: Delivery::usual(read_size),
            direction: Direction::Both,
            half_open: HalfOpenPolicy::Allow,
            idle_timeout: Duration::ZERO,
            read_delay: Duration::ZERO,
            close_delay: Duration::ZERO,
            watermarks: Watermarks::default(),
            write_timeout: WriteTimeout::default(),
            tell_states: false,
        }
    }

    /// Whether a socket that would be read is not, from the start.
    pub const fn begins_paused(&self) -> bool {
        self.delivery.paused && !matches!(self.direction, Direction::SendOnly)
    }
}

/// Why a socket was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// CloseSocket.
    Closed,
    /// AbortSocket.
    Aborted,
    /// Both directions had ended, and its policy is to close then.
    Ended,
    /// The peer reset the connection.
    PeerReset,
    /// An error ended it.
    Failed,
    /// ResetSession.
    SessionReset,
    /// DeleteSession.
    SessionDeleted,
    /// The agent is stopping.
    AgentDraining,
    /// A fault of the agent.
    Internal,
    /// Its session's lease has expired.
    LeaseExpired,
    /// The policy has changed, and does not allow it.
    Policy,
    /// A write has taken too long, and it is to end then.
    WriteTimedOut,
}

impl CloseReason {
    /// Every reason.
    pub const ALL: [Self; 12] = [
        Self::Closed,
        Self::Aborted,
        Self::Ended,
        Self::PeerReset,
        Self::Failed,
        Self::SessionReset,
        Self::SessionDeleted,
        Self::AgentDraining,
        Self::Internal,
        Self::LeaseExpired,
        Self::Policy,
        Self::WriteTimedOut,
    ];

    /// Its name, as files and JSON spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Aborted => "aborted",
            Self::Ended => "ended",
            Self::PeerReset => "peer_reset",
            Self::Failed => "failed",
            Self::SessionReset => "session_reset",
            Self::SessionDeleted => "session_deleted",
            Self::AgentDraining => "agent_draining",
            Self::Internal => "internal",
            Self::LeaseExpired => "lease_expired",
            Self::Policy => "policy",
            Self::WriteTimedOut => "write_timed_out",
        }
    }

    /// Whether it is about this socket, and not about its session or the whole agent.
    pub const fn is_of_socket(self) -> bool {
        match self {
            Self::Closed | Self::Aborted | Self::Ended | Self::PeerReset | Self::Failed | Self::WriteTimedOut => true,
            Self::SessionReset | Self::SessionDeleted | Self::AgentDraining => false,
            Self::Internal | Self::LeaseExpired | Self::Policy => false,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "CloseSocket closed it",
            Self::Aborted => "AbortSocket reset it",
            Self::Ended => "both directions had ended",
            Self::PeerReset => "the peer reset the connection (ECONNRESET)",
            Self::Failed => "an error ended it, see its `failed` event",
            Self::SessionReset => "ResetSession closed it",
            Self::SessionDeleted => "DeleteSession closed it",
            Self::AgentDraining => "the agent is stopping",
            Self::Internal => "of a fault of the agent, see the agent's log",
            Self::LeaseExpired => "the lease of its session has expired",
            Self::Policy => "the agent's policy does not allow it any more",
            Self::WriteTimedOut => "a write has ended at its timeout (`close_on_write_timeout`)",
        })
    }
}

/// Bytes and datagrams that went through a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Bytes that the agent has read.
    pub bytes_read: u64,
    /// Bytes handed to the kernel.
    pub bytes_written: u64,
    /// Datagrams that the agent has read.
    pub datagrams_received: u64,
    /// Datagrams handed to the kernel.
    pub datagrams_sent: u64,
    /// Datagrams that the kernel dropped.
    pub datagrams_dropped: u64,
}

/// The end of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// Why.
    pub reason: CloseReason,
    /// An error came before.
    pub had_error: bool,
    /// The final figures.
    pub totals: Totals,
    /// Bytes that had arrived and that nobody read.
    pub unread_bytes: u32,
    /// Bytes of queued writes that were discarded.
    pub unwritten_bytes: u32,
}

/// What only a listener has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ListenerStatus {
    /// The backlog that was asked for.
    pub backlog: u32,
    /// Connections accepted.
    pub accepted_total: u64,
    /// Connections dropped.
    pub dropped_total: u64,
}

/// What changes about a socket while it lives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SocketStatus {
    /// What it can do next.
    pub state: SocketState,
    /// Its local address.
    pub local: Option<Endpoint>,
    /// Its remote address.
    pub remote: Option<Endpoint>,
    /// The peer's FIN has been read.
    pub peer_closed: bool,
    /// The sending direction has been ended.
    pub shut_down: bool,
    /// It is connected with itself.
    pub self_connected: bool,
    /// An error has ended, or is about to end it.
    pub had_error: bool,
    /// What went through it.
    pub totals: Totals,
    /// What only a listener has.
    pub listener: Option<ListenerStatus>,
    /// The multicast groups that it has joined.
    pub groups: Memberships,
    /// Its end.
    pub closed: Option<Closing>,
}

impl SocketStatus {
    /// Takes up what happened.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Created { local, remote, .. } => {
                self.local.clone_from(local);
                self.remote.clone_from(remote);
                if remote.is_some() {
                    self.state = SocketState::Connected;
                }
            }
            Event::Bound { local } => {
                self.local = Some(local.clone());
                if self.state == SocketState::Unbound {
                    self.state = SocketState::Bound;
                }
            }
            Event::Listening { local, backlog } => {
                self.local = Some(local.clone());
                self.state = SocketState::Listening;
                self.listener.get_or_insert_default().backlog = *backlog;
            }
            Event::ConnectStarted { .. } => self.state = SocketState::Connecting,
            Event::Connected { local, remote, self_connected } => {
                self.local = Some(local.clone());
                self.remote = Some(remote.clone());
                self.self_connected = *self_connected;
                self.state = SocketState::Connected;
            }
            Event::ConnectFailed { still_connecting: true, .. } => {}
            Event::ConnectFailed { local, .. } | Event::Disconnected { local } => {
                self.local.clone_from(local);
                self.remote = None;
                self.state = if local.is_some() { SocketState::Bound } else { SocketState::Unbound };
            }
            Event::Accepted { .. } => self.listener.get_or_insert_default().accepted_total += 1,
            Event::ConnectionDropped { .. } => self.listener.get_or_insert_default().dropped_total += 1,
            Event::Received { payload, .. } => self.totals.bytes_read += payload.len() as u64,
            Event::UrgentReceived { byte, .. } => self.totals.bytes_read += u64::from(byte.is_some()),
            // What the peer sends next stands behind them all the same.
            Event::UrgentLost { size, .. } => self.totals.bytes_read += u64::from(*size),
            Event::DatagramReceived(datagram) => {
                self.totals.bytes_read += datagram.payload.len() as u64;
                self.totals.datagrams_received += 1;
            }
            Event::DatagramsDropped { total, .. } => self.totals.datagrams_dropped = *total,
            Event::Written { size, .. } => self.totals.bytes_written += u64::from(*size),
            Event::Sent { size, .. } => {
                self.totals.bytes_written += u64::from(*size);
                self.totals.datagrams_sent += 1;
            }
            // A listener has no direction to send in; without the other one it does not listen, and `bound` tells if it kept its address.
            Event::ShutDown { how } if self.state == SocketState::Listening => {
                if *how != ShutdownHow::Send {
                    self.state = SocketState::Unbound;
                    self.local = None;
                }
            }
            Event::ShutDown { how } => self.shut_down |= how.ends_sending(),
            Event::PeerClosed { .. } => self.peer_closed = true,
            Event::PeerReset { .. } => self.had_error = true,
            Event::GroupJoined(membership) => self.groups.join(membership),
            Event::GroupLeft(membership) => self.groups.leave(membership),
            Event::SourceBlocked(membership) => self.groups.block(membership),
            Event::SourceUnblocked(membership) => self.groups.unblock(membership),
            Event::SourceFilterSet(filter) => self.groups.filter(filter),
            Event::Closed(closing) => {
                // The kernel leaves them with the socket.
                self.groups = Memberships::default();
                self.state = SocketState::Closed;
                self.closed = Some(*closing);
            }
            Event::LookedUp { .. }
            | Event::IcmpReceived(_)
            | Event::TcpStateChanged { .. }
            | Event::SendTimestamped { .. }
            | Event::PatternBroken(_)
            | Event::AcceptPaused { .. }
            | Event::AcceptFailed { .. }
            | Event::Writable
            | Event::PeerGone { .. }
            | Event::IdleTimedOut { .. }
            | Event::ReadPaused { .. }
            | Event::WriteBlocked { .. }
            | Event::ReadResumed
            | Event::OptionSet(_)
            | Event::Failed { .. }
            | Event::Aborted
            | Event::Attached
            | Event::Detached { .. }
            | Event::ClockStepped { .. }
            | Event::InterfaceChanged { .. }
            | Event::InterfaceAddressChanged { .. }
            | Event::Unknown { .. }
            | Event::AgentDraining { .. }
            | Event::SessionReset { .. }
            | Event::LeaseExpiring { .. }
            | Event::LeaseExpired { .. } => {}
        }
    }
}
