//! What the agent itself refuses, before any system call: these become RPC statuses. [`crate::wire`] decides which.

use std::fmt;
use std::net::IpAddr;

use crate::model::errno::Errno;
use crate::model::id::{InstanceId, Principal, RequestId, SessionId, SocketId, WatcherId};
use crate::model::policy::permit::Denied;
use crate::model::policy::{Right, Rpc};
use crate::model::socket::CloseReason;

/// What is wrong with a piece of input, in one phrase: the reader learns what was found and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem(Box<str>);

impl Problem {
    /// A problem in these words.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A problem, and the request's field that has it: `tcp.listen`, `datagrams[3].payload.hex`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field, as the proto spells it.
    pub field: String,
    /// What is wrong with it.
    pub problem: Problem,
}

impl Violation {
    /// A problem of this field.
    pub fn new(field: impl Into<String>, problem: impl Into<Box<str>>) -> Self {
        Self { field: field.into(), problem: Problem::new(problem) }
    }

    /// The same problem, seen from the message that holds the field's message.
    #[must_use]
    pub fn within(mut self, parent: &str) -> Self {
        self.field = format!("{parent}.{}", self.field);
        self
    }
}

/// A limit that was reached, by its name in GetAgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// The name: `limits.sockets`.
    pub limit: &'static str,
    /// Its value.
    pub value: u64,
}

/// Why the agent does not even try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// A field of the request is malformed, in any state of the agent.
    InvalidField(Violation),
    /// There is no such session of this principal.
    SessionNotFound(SessionId),
    /// There is no such session of somebody else, or none that this caller may know of: it is one and the same.
    SessionOfOtherNotFound(Box<str>),
    /// None of the caller's roles lets it call this.
    RoleDenied {
        /// Who calls.
        who: Principal,
        /// What.
        rpc: Rpc,
        /// The right that is missing.
        right: Right,
    },
    /// What was to be done cannot be written down before, and is not done.
    AuditUnavailable {
        /// What the kernel says.
        errno: Errno,
    },
    /// A session of that name exists.
    SessionExists(SessionId),
    /// The session's lease has expired.
    LeaseExpired(SessionId),
    /// There is no such socket in the session.
    SocketNotFound(SocketId),
    /// The socket is closed.
    SocketClosed {
        /// The socket.
        socket: SocketId,
        /// Why it was closed.
        reason: CloseReason,
    },
    /// An open socket has the name.
    SocketExists(SocketId),
    /// Another socket has the name than the one whose number was given.
    SocketReplaced(SocketId),
    /// The operation is not one of the socket's transport.
    WrongTransport {
        /// The socket.
        socket: SocketId,
        /// What to do instead.
        instead: &'static str,
    },
    /// The socket is not used in that direction.
    WrongDirection {
        /// The socket.
        socket: SocketId,
        /// How it is used.
        used: &'static str,
    },
    /// The operation does not fit how the socket was set up.
    WrongState {
        /// The socket.
        socket: SocketId,
        /// What does not fit, and what would.
        why: &'static str,
    },
    /// The socket's own lists leave no address to connect to.
    AddressDenied {
        /// The socket, where it has a name.
        socket: Option<SocketId>,
        /// The first address that they do not leave.
        address: IpAddr,
    },
    /// The agent's policy does not let the caller do it.
    PolicyDenied(Box<Denied>),
    /// It does not let the caller go on with it: another policy than the one that it began under.
    PolicyDeniedMidway {
        /// What it does not allow.
        denied: Box<Denied>,
        /// Datagrams that were sent before.
        datagrams: u32,
        /// How many bytes they had.
        bytes: u32,
    },
    /// A limit is reached.
    QuotaExceeded(Quota),
    /// Lab sockets have all descriptors that they may have.
    OutOfDescriptors {
        /// How many these are.
        sockets: u64,
        /// How many are kept back at the most.
        reserved: u32,
    },
    /// What waits to be written leaves no room for more.
    PendingWritesFull {
        /// How many bytes may wait, of all sessions together.
        total: u64,
        /// How many do.
        taken: u64,
    },
    /// Watchers leave no room for one more.
    WatchersFull {
        /// How many there may be, of all sessions together.
        total: u64,
        /// How many there are.
        taken: u64,
    },
    /// The request's message is longer than one may be.
    MessageTooLong {
        /// How long one may be, in bytes.
        limit: u32,
    },
    /// The request was meant for another life of the agent.
    InstanceChanged {
        /// This life.
        now: InstanceId,
    },
    /// The start time is too long ago.
    StartTimePassed {
        /// By how much, in milliseconds.
        late_ms: u64,
    },
    /// The request id stands for another request.
    RequestIdReused(RequestId),
    /// Another number of bytes has been written than the caller believes.
    OffsetMismatch {
        /// How many have.
        actual: u64,
    },
    /// The event number has not been given yet.
    FutureEvent {
        /// The newest number.
        head: u64,
    },
    /// The event is not in the log any more, or is not a datagram.
    EventNotKept {
        /// Its number.
        event_seq: u64,
    },
    /// There is no such operation.
    CallNotFound(RequestId),
    /// There is no watcher of this name.
    WatcherNotFound(WatcherId),
    /// The session's log holds nothing for watchers.
    NotLossless(SessionId),
    /// What is held leaves no room in the session's log.
    LogFull {
        /// How many events are held.
        held: u64,
    },
    /// There is no such mark of kernel counters.
    MarkNotFound(Box<str>),
    /// Nothing happened in time, and the caller wants that as a failure.
    TimedOut {
        /// What was waited for.
        what: &'static str,
    },
    /// Something happened, and the caller wanted silence.
    UnexpectedEvent {
        /// Its kind.
        kind: String,
        /// Its number.
        event_seq: u64,
    },
    /// No credentials, or wrong ones.
    Unauthenticated(&'static str),
    /// The agent is stopping.
    Draining,
    /// The agent is at fault.
    Internal(&'static str),
}

impl Refusal {
    /// The reasons that an operation on a socket can be refused for, by name.
    pub const SOCKET_REASONS: [&'static str; 12] = [
        "INVALID_FIELD",
        "SOCKET_NOT_FOUND",
        "SOCKET_CLOSED",
        "SOCKET_EXISTS",
        "WRONG_TRANSPORT",
        "WRONG_DIRECTION",
        "WRONG_STATE",
        "ADDRESS_DENIED",
        "POLICY_DENIED",
        "QUOTA_EXCEEDED",
        "EVENT_NOT_KEPT",
        "OFFSET_MISMATCH",
    ];

    /// A malformed field.
    pub fn invalid(field: impl Into<String>, problem: impl Into<Box<str>>) -> Self {
        Self::InvalidField(Violation::new(field, problem))
    }

    /// The limit that keeps the agent from it, if it is one.
    pub const fn quota(&self) -> Option<Quota> {
        match self {
            Self::QuotaExceeded(quota) => Some(*quota),
            Self::OutOfDescriptors { reserved, .. } => {
                Some(Quota { limit: "limits.reserved_descriptors", value: *reserved as u64 })
            }
            Self::PendingWritesFull { total, .. } => {
                Some(Quota { limit: "limits.pending_write_bytes_total", value: *total })
            }
            Self::WatchersFull { total, .. } => Some(Quota { limit: "limits.watchers_total", value: *total }),
            Self::MessageTooLong { limit } => Some(Quota { limit: "limits.message_bytes", value: *limit as u64 }),
            Self::LogFull { held } => Some(Quota { limit: "limits.log_events", value: *held }),
            _ => None,
        }
    }

    /// The stable name of the reason, for programs: google.rpc.ErrorInfo.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::InvalidField(_) => "INVALID_FIELD",
            Self::SessionNotFound(_) | Self::SessionOfOtherNotFound(_) => "SESSION_NOT_FOUND",
            Self::RoleDenied { .. } => "ROLE_DENIED",
            Self::AuditUnavailable { .. } => "AUDIT_UNAVAILABLE",
            Self::SessionExists(_) => "SESSION_EXISTS",
            Self::LeaseExpired(_) => "LEASE_EXPIRED",
            Self::SocketNotFound(_) => "SOCKET_NOT_FOUND",
            Self::SocketClosed { .. } => "SOCKET_CLOSED",
            Self::SocketExists(_) => "SOCKET_EXISTS",
            Self::SocketReplaced(_) => "SOCKET_REPLACED",
            Self::WrongTransport { .. } => "WRONG_TRANSPORT",
            Self::WrongDirection { .. } => "WRONG_DIRECTION",
            Self::WrongState { .. } => "WRONG_STATE",
            Self::AddressDenied { .. } => "ADDRESS_DENIED",
            Self::PolicyDenied(_) | Self::PolicyDeniedMidway { .. } => "POLICY_DENIED",
            Self::QuotaExceeded(_)
            | Self::OutOfDescriptors { .. }
            | Self::PendingWritesFull { .. }
            | Self::WatchersFull { .. }
            | Self::MessageTooLong { .. } => "QUOTA_EXCEEDED",
            Self::InstanceChanged { .. } => "INSTANCE_CHANGED",
            Self::StartTimePassed { .. } => "START_TIME_PASSED",
            Self::RequestIdReused(_) => "REQUEST_ID_REUSED",
            Self::OffsetMismatch { .. } => "OFFSET_MISMATCH",
            Self::FutureEvent { .. } => "FUTURE_EVENT",
            Self::EventNotKept { .. } => "EVENT_NOT_KEPT",
            Self::CallNotFound(_) => "CALL_NOT_FOUND",
            Self::WatcherNotFound(_) => "WATCHER_NOT_FOUND",
            Self::NotLossless(_) => "NOT_LOSSLESS",
            Self::LogFull { .. } => "LOG_FULL",
            Self::MarkNotFound(_) => "MARK_NOT_FOUND",
            Self::TimedOut { .. } => "TIMED_OUT",
            Self::UnexpectedEvent { .. } => "UNEXPECTED_EVENT",
            Self::Unauthenticated(_) => "UNAUTHENTICATED",
            Self::Draining => "DRAINING",
            Self::Internal(_) => "INTERNAL",
        }
    }
}

impl fmt::Display for Refusal {
    /// One line: what is refused, and what to do next.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidField(Violation { field, problem }) => write!(f, "{field}: {problem}"),
            Self::SessionNotFound(id) => write!(f, "there is no session `{id}`: CreateSession makes it"),
            Self::SessionOfOtherNotFound(name) => {
                write!(
                    f,
                    "there is no session `{name}` that this caller knows of: ListSessions with `owner` shows those of others"
                )
            }
            Self::RoleDenied { who, rpc, right } => write!(
                f,
                "`{who}` may not call {rpc}: by the agent's policy none of his roles has the right `{right}`; ask whoever keeps the policy"
            ),
            Self::AuditUnavailable { errno } => write!(
                f,
                "this agent writes each change down before it is made, and cannot: {} ({errno}); it goes on when its audit file can be written again",
                errno.text()
            ),
            Self::SessionExists(id) => {
                write!(f, "there is a session `{id}` already: take another name, or DeleteSession")
            }
            Self::LeaseExpired(id) => write!(
                f,
                "the lease of session `{id}` has expired, and its sockets are closed: ListEvents tells how, CreateSession makes another"
            ),
            Self::SocketNotFound(id) => {
                write!(f, "there is no socket `{id}` in this session: ListSockets shows those that there are")
            }
            Self::SocketClosed { socket, reason } => {
                write!(f, "socket `{socket}` is closed: {reason}; CreateSocket may use its name again")
            }
            Self::SocketExists(id) => {
                write!(f, "there is an open socket `{id}` already: take another name, or CloseSocket, or ResetSession")
            }
            Self::SocketReplaced(id) => {
                write!(f, "socket_uid: `{id}` is another socket now; the one with that number is closed")
            }
            Self::WrongTransport { socket, instead } => write!(f, "socket `{socket}` {instead}"),
            Self::WrongDirection { socket, used } => write!(f, "socket `{socket}` is {used}, as it was created"),
            Self::WrongState { socket, why } => write!(f, "socket `{socket}` {why}"),
            Self::AddressDenied { socket, address } => {
                let socket = socket.as_ref().map_or_else(|| "the socket".to_owned(), |id| format!("socket `{id}`"));
                write!(f, "{socket} has no connections with {address}, by `deny` or `allow` of its creation")
            }
            Self::PolicyDenied(denied) => denied.fmt(f),
            Self::PolicyDeniedMidway { denied, datagrams, bytes } => {
                write!(f, "{denied}; datagrams sent before: {datagrams}, of {bytes} bytes")
            }
            Self::QuotaExceeded(Quota { limit, value }) => {
                let name = limit.trim_start_matches("limits.");
                write!(
                    f,
                    "{limit} of this agent is {value}, and so many are in use: release some, or start it with `--limit {name}=NUMBER` above that"
                )
            }
            Self::OutOfDescriptors { sockets, reserved } => write!(
                f,
                "lab sockets have all {sockets} descriptors that there are for them: close some, or start the agent with a higher `ulimit -n`; limits.reserved_descriptors, {reserved}, are kept back for its own work"
            ),
            Self::PendingWritesFull { total, taken } => write!(
                f,
                "{taken} bytes wait to be written, and limits.pending_write_bytes_total, {total}, leaves this session no room for more: wait until some have gone, close or cancel what does not get on, or start the agent with `--limit pending_write_bytes_total=NUMBER` above that"
            ),
            Self::WatchersFull { total, taken } => write!(
                f,
                "{taken} watchers read events of this agent, and limits.watchers_total, {total}, leaves this session no room for one more: end some, or start the agent with `--limit watchers_total=NUMBER` above that"
            ),
            Self::MessageTooLong { limit } => write!(
                f,
                "the message is longer than limits.message_bytes of this agent, {limit}: send it in parts, or start the agent with `--limit message_bytes=NUMBER` above that"
            ),
            Self::InstanceChanged { now } => {
                write!(
                    f,
                    "instance_id: the agent was restarted and is {now} now; its sockets and numbers of before are gone"
                )
            }
            Self::StartTimePassed { late_ms } => {
                write!(
                    f,
                    "call.start_time: it passed {late_ms} ms ago on this agent's clock: compare clocks by GetClock"
                )
            }
            Self::RequestIdReused(id) => {
                write!(f, "call.request_id: `{id}` stands for another request: each request needs a name of its own")
            }
            Self::OffsetMismatch { actual } => {
                write!(f, "expected_offset: {actual} bytes have been written: go on from there")
            }
            Self::FutureEvent { head } => write!(f, "after_event_seq: the newest event of this session is {head}"),
            Self::EventNotKept { event_seq } => {
                write!(
                    f,
                    "reply_to_event: event {event_seq} is no datagram, or is not in the log any more: give a destination"
                )
            }
            Self::CallNotFound(id) => write!(
                f,
                "there is no operation `{id}`, or it is no longer remembered: give operations a request_id to have them remembered"
            ),
            Self::WatcherNotFound(watcher) => {
                write!(
                    f,
                    "watcher_id: this session has no watcher `{watcher}`: WatchEvents with this `watcher_id` makes it one"
                )
            }
            Self::NotLossless(session) => {
                write!(
                    f,
                    "watcher_id: session `{session}` keeps the newest events and holds none: CreateSession with `retention` LOSSLESS makes one that does"
                )
            }
            Self::LogFull { held } => {
                write!(
                    f,
                    "the session's log holds {held} events that nobody has taken, as many as limits.log_events allows: AckEvents or ReceiveSocket first"
                )
            }
            Self::MarkNotFound(name) => {
                write!(f, "since: there is no mark `{name}`, or it is no longer remembered: set it by `mark` first")
            }
            Self::TimedOut { what } => write!(f, "{what} within the timeout"),
            Self::UnexpectedEvent { kind, event_seq } => {
                write!(f, "silence was expected, and `{kind}` happened (event {event_seq})")
            }
            Self::Unauthenticated(why) => f.write_str(why),
            Self::Draining => f.write_str("the agent is stopping: call another one, or start it again"),
            Self::Internal(what) => write!(f, "the agent is at fault: {what}; its log says more"),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<Violation> for Refusal {
    fn from(violation: Violation) -> Self {
        Self::InvalidField(violation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_names_the_whole_path() {
        let inner = Violation::new("hex", "odd number of digits");
        let refusal = Refusal::from(inner.within("payload").within("datagrams[3]"));
        assert_eq!(refusal.to_string(), "datagrams[3].payload.hex: odd number of digits");
        assert_eq!(refusal.reason(), "INVALID_FIELD");
    }
}
