//! What becomes of a refusal: the only place that builds a `tonic::Status`, or takes one apart.
//!
//! The one-line message holds the whole meaning. Details (google.rpc) are for programs.
#![allow(clippy::disallowed_methods, reason = "this is the place where statuses are made")]

use std::collections::HashMap;
use std::time::Duration;

use tonic::codegen::http::HeaderMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::model::bulk::RefusalText;
use crate::model::error::SocketError;
use crate::model::operation::{Outcome, Yield};
use crate::model::policy::permit::Denied;
use crate::model::refusal::{Quota, Refusal, Violation};

/// Whose refusals these are: the agent's own.
pub const AGENT_DOMAIN: &str = "farsock.dev";

/// Whose answers these are, where a caller wants them as a status: the kernel's.
pub const KERNEL_DOMAIN: &str = "kernel.farsock.dev";

/// How long a caller should wait before it asks an agent that is full, or stopping, again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The status that tells a refusal.
pub fn refused(refusal: &Refusal) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(refusal.reason(), AGENT_DOMAIN, metadata(refusal));
    if let Some(quota) = refusal.quota() {
        details.add_quota_failure_violation(quota.limit, refusal.to_string());
    }
    match refusal {
        // What is too long today is so tomorrow.
        Refusal::QuotaExceeded(_)
        | Refusal::OutOfDescriptors { .. }
        | Refusal::PendingWritesFull { .. }
        | Refusal::WatchersFull { .. }
        | Refusal::LogFull { .. }
        | Refusal::AuditUnavailable { .. } => {
            details.set_retry_info(Some(RETRY_DELAY));
        }
        Refusal::InvalidField(Violation { field, problem }) => {
            details.add_bad_request_violation(field, problem.to_string());
        }
        Refusal::RequestIdReused(_) => {
            details.add_bad_request_violation("call.request_id", refusal.to_string());
        }
        Refusal::Draining => {
            details.set_retry_info(Some(RETRY_DELAY));
        }
        Refusal::SocketNotFound(id) | Refusal::SocketExists(id) => {
            details.set_resource_info("farsock.v1.Socket", id.to_string(), "", refusal.to_string());
        }
        Refusal::SessionNotFound(id) | Refusal::SessionExists(id) => {
            details.set_resource_info("farsock.v1.Session", id.to_string(), "", refusal.to_string());
        }
        _ => {}
    }
    Status::with_error_details(code(refusal), refusal.to_string(), details)
}

/// A malformed field of a request that is no operation.
pub fn invalid(violation: Violation) -> Status {
    refused(&Refusal::InvalidField(violation))
}

/// An RPC that its service does not have.
pub fn no_such_method() -> Status {
    Status::unimplemented("this agent has no such method: reflection lists those that it has")
}

/// Whoever has asked waits no longer.
pub fn too_late() -> Status {
    Status::deadline_exceeded(
        "grpc-timeout has passed before there was an answer: what was asked for may have been done, or be done yet",
    )
}

/// A request has not come whole in the time that it has for that.
pub fn unfinished(limit: Duration) -> Status {
    Status::deadline_exceeded(format!(
        "the request has not come whole within {} s: nothing was done; send its message in one go, and end the stream behind it",
        limit.as_secs_f64()
    ))
}

/// What tonic answers to a message that is too long, in our own words. There is no other status of this code without details.
pub fn too_long(headers: &HeaderMap) -> Option<Refusal> {
    if headers.get(Status::GRPC_STATUS)?.as_bytes() != b"11" {
        return None;
    }
    let status = Status::from_header_map(headers).filter(|status| status.details().is_empty())?;
    let (_, limit) = status.message().split_once("the limit is: ")?;
    Some(Refusal::MessageTooLong { limit: limit.split(' ').next()?.parse().ok()? })
}

/// The limit that an answer names which says that it is exhausted.
pub fn exhausted(headers: &HeaderMap) -> Option<String> {
    if headers.get(Status::GRPC_STATUS)?.as_bytes() != b"8" {
        return None;
    }
    let failure = Status::from_header_map(headers)?.get_details_quota_failure()?;
    failure.violations.into_iter().next().map(|violation| violation.subject)
}

const fn code(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::InvalidField(_) | Refusal::RequestIdReused(_) => Code::InvalidArgument,
        Refusal::SessionNotFound(_)
        | Refusal::SessionOfOtherNotFound(_)
        | Refusal::SocketNotFound(_)
        | Refusal::CallNotFound(_)
        | Refusal::MarkNotFound(_)
        | Refusal::WatcherNotFound(_)
        | Refusal::EventNotKept { .. } => Code::NotFound,
        Refusal::SessionExists(_) | Refusal::SocketExists(_) => Code::AlreadyExists,
        Refusal::LeaseExpired(_)
        | Refusal::SocketClosed { .. }
        | Refusal::SocketReplaced(_)
        | Refusal::WrongTransport { .. }
        | Refusal::WrongDirection { .. }
        | Refusal::WrongState { .. }
        | Refusal::AddressDenied { .. }
        | Refusal::InstanceChanged { .. }
        | Refusal::StartTimePassed { .. }
        | Refusal::NotLossless(_)
        | Refusal::TimedOut { .. }
        | Refusal::UnexpectedEvent { .. } => Code::FailedPrecondition,
        Refusal::QuotaExceeded(_)
        | Refusal::AuditUnavailable { .. }
        | Refusal::OutOfDescriptors { .. }
        | Refusal::PendingWritesFull { .. }
        | Refusal::WatchersFull { .. }
        | Refusal::MessageTooLong { .. }
        | Refusal::LogFull { .. } => Code::ResourceExhausted,
        Refusal::PolicyDenied(_) | Refusal::PolicyDeniedMidway { .. } | Refusal::RoleDenied { .. } => {
            Code::PermissionDenied
        }
        Refusal::OffsetMismatch { .. } => Code::Aborted,
        Refusal::FutureEvent { .. } => Code::OutOfRange,
        Refusal::Unauthenticated(_) => Code::Unauthenticated,
        Refusal::Draining => Code::Unavailable,
        Refusal::Internal(_) => Code::Internal,
    }
}

/// The parts of the message that change from one refusal to another, for programs.
fn metadata(refusal: &Refusal) -> HashMap<String, String> {
    let pairs: Vec<(&str, String)> = match refusal {
        Refusal::SocketNotFound(id) | Refusal::SocketExists(id) | Refusal::SocketReplaced(id) => {
            vec![("socketId", id.to_string())]
        }
        Refusal::SocketClosed { socket, reason } => {
            vec![("socketId", socket.to_string()), ("cause", format!("{reason:?}"))]
        }
        Refusal::WrongTransport { socket, .. }
        | Refusal::WrongDirection { socket, .. }
        | Refusal::WrongState { socket, .. } => vec![("socketId", socket.to_string())],
        Refusal::AddressDenied { address, .. } => vec![("address", address.to_string())],
        Refusal::PolicyDenied(denied) => policy_metadata(denied),
        Refusal::PolicyDeniedMidway { denied, datagrams, bytes } => {
            let sent = [("datagramsSent", datagrams.to_string()), ("bytesSent", bytes.to_string())];
            policy_metadata(denied).into_iter().chain(sent).collect()
        }
        Refusal::SessionNotFound(id) | Refusal::SessionExists(id) | Refusal::LeaseExpired(id) => {
            vec![("sessionId", id.to_string())]
        }
        Refusal::AuditUnavailable { errno } => vec![("errno", errno.name().to_owned())],
        Refusal::SessionOfOtherNotFound(name) => vec![("sessionId", name.to_string())],
        Refusal::RoleDenied { who, rpc, right } => {
            vec![("principal", who.to_string()), ("rpc", rpc.to_string()), ("right", right.to_string())]
        }
        Refusal::QuotaExceeded(Quota { limit, value }) => limit_metadata(limit, *value),
        Refusal::OutOfDescriptors { sockets, reserved } => {
            let mut pairs = limit_metadata("limits.reserved_descriptors", u64::from(*reserved));
            pairs.push(("sockets", sockets.to_string()));
            pairs
        }
        Refusal::PendingWritesFull { total, taken } => {
            let mut pairs = limit_metadata("limits.pending_write_bytes_total", *total);
            pairs.push(("takenBytes", taken.to_string()));
            pairs
        }
        Refusal::WatchersFull { total, taken } => {
            let mut pairs = limit_metadata("limits.watchers_total", *total);
            pairs.push(("takenWatchers", taken.to_string()));
            pairs
        }
        Refusal::MessageTooLong { limit } => limit_metadata("limits.message_bytes", u64::from(*limit)),
        Refusal::InstanceChanged { now } => vec![("instanceId", now.to_string())],
        Refusal::StartTimePassed { late_ms } => vec![("lateMs", late_ms.to_string())],
        Refusal::RequestIdReused(id) | Refusal::CallNotFound(id) => vec![("requestId", id.to_string())],
        Refusal::OffsetMismatch { actual } => vec![("actualOffset", actual.to_string())],
        Refusal::FutureEvent { head } => vec![("headSeq", head.to_string())],
        Refusal::EventNotKept { event_seq } | Refusal::UnexpectedEvent { event_seq, .. } => {
            vec![("eventSeq", event_seq.to_string())]
        }
        Refusal::MarkNotFound(name) => vec![("mark", name.to_string())],
        Refusal::WatcherNotFound(watcher) => vec![("watcherId", watcher.to_string())],
        Refusal::NotLossless(session) => vec![("sessionId", session.to_string())],
        Refusal::LogFull { held } => vec![("heldEvents", held.to_string())],
        Refusal::InvalidField(_)
        | Refusal::TimedOut { .. }
        | Refusal::Unauthenticated(_)
        | Refusal::Draining
        | Refusal::Internal(_) => Vec::new(),
    };
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Whom the policy denies what, and the line of it that does; nothing else of what it says.
fn policy_metadata(denied: &Denied) -> Vec<(&'static str, String)> {
    let mut pairs = vec![("principal", denied.who.as_str().to_owned()), ("operation", denied.word.to_owned())];
    if !denied.target.is_empty() {
        pairs.push(("target", denied.target.clone()));
    }
    pairs.extend(denied.transport.map(|transport| ("transport", transport.name().to_owned())));
    pairs.extend(denied.decision.line().map(|line| ("line", line.to_string())));
    pairs
}

fn limit_metadata(limit: &str, value: u64) -> Vec<(&'static str, String)> {
    vec![("limit", limit.to_owned()), ("value", value.to_string())]
}

/// The status that a caller wants instead of an outcome that is not what it hoped for.
pub fn failure(outcome: &Outcome) -> Option<Status> {
    let report = &outcome.report;
    if let Some(error) = &report.error {
        return Some(kernel_error(error));
    }
    if report.timed_out {
        return Some(refused(&Refusal::TimedOut { what: "nothing happened" }));
    }
    match &outcome.yielded {
        Yield::Sockets(sockets) => sockets.iter().find_map(|socket| socket.refusal.as_ref()).map(refused_one),
        _ => None,
    }
}

/// One of many sockets was refused.
fn refused_one(refusal: &RefusalText) -> Status {
    let details = ErrorDetails::with_error_info(&*refusal.reason, AGENT_DOMAIN, HashMap::new());
    Status::with_error_details(Code::FailedPrecondition, &*refusal.message, details)
}

fn kernel_error(error: &SocketError) -> Status {
    let mut metadata = HashMap::from([
        ("number".to_owned(), error.cause.number().to_string()),
        ("operation".to_owned(), error.operation.to_string()),
        ("syscall".to_owned(), error.syscall.to_owned()),
    ]);
    if let Some(local) = &error.local {
        metadata.insert("local".to_owned(), local.to_string());
    }
    if let Some(remote) = &error.remote {
        metadata.insert("remote".to_owned(), remote.to_string());
    }
    let details = ErrorDetails::with_error_info(error.cause.name(), KERNEL_DOMAIN, metadata);
    let message = match error.hint() {
        "" => error.to_string(),
        hint => format!("{error}: {hint}"),
    };
    Status::with_error_details(Code::FailedPrecondition, message, details)
}

/// What a client makes of a status: its code, the reason that programs compare, and the one line for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusText {
    /// The name of the gRPC code.
    pub code: String,
    /// google.rpc.ErrorInfo's reason. Empty: the status has none.
    pub reason: String,
    /// The message.
    pub message: String,
}

/// Takes a status apart.
pub fn read(status: &Status) -> StatusText {
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    StatusText { code: format!("{:?}", status.code()), reason, message: status.message().to_owned() }
}

/// Whether a status only says that the agent cannot be reached.
pub fn is_unreachable(status: &Status) -> bool {
    status.code() == Code::Unavailable && status.get_details_error_info().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::errno::Errno;
    use crate::model::id::{RequestId, SocketId};
    use crate::model::operation::{Operation, Report, Yield};
    use crate::model::time::Timestamp;

    #[test]
    fn a_refusal_is_told_to_people_and_to_programs() {
        let status = invalid(Violation::new("tcp.listen", "port 70000 is out of range"));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "tcp.listen: port 70000 is out of range");
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "INVALID_FIELD");
        assert_eq!(details.error_info().unwrap().domain, AGENT_DOMAIN);
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "tcp.listen");

        let quota = Refusal::QuotaExceeded(Quota { limit: "limits.sockets", value: 1024 });
        let details = refused(&quota).get_error_details();
        assert_eq!(details.quota_failure().unwrap().violations[0].subject, "limits.sockets");
        assert_eq!(details.error_info().unwrap().metadata["value"], "1024");
    }

    /// What a kernel said about a lab socket must never look like trouble with the agent: clients would try again, or ask for a password.
    #[test]
    fn no_errno_becomes_a_status_that_speaks_of_the_agent() {
        for errno in Errno::ALL {
            let error = SocketError::new(*errno, Operation::Connect, "connect");
            let report = Report {
                started: Timestamp::default(),
                elapsed: Duration::ZERO,
                timed_out: false,
                error: Some(error),
                events: None,
                request_id: RequestId::minted(1),
            };
            let status = failure(&Outcome { yielded: Yield::Nothing, report }).unwrap();
            assert_eq!(status.code(), Code::FailedPrecondition, "{errno}");
            let info = status.get_details_error_info().unwrap();
            assert_eq!((info.reason.as_str(), info.domain.as_str()), (errno.name(), KERNEL_DOMAIN));
        }
    }

    #[test]
    fn unavailable_means_draining_and_nothing_else() {
        let id = SocketId::parse("a").unwrap();
        let others = [
            Refusal::SocketNotFound(id.clone()),
            Refusal::SocketExists(id.clone()),
            Refusal::WrongState { socket: id, why: "" },
            Refusal::Internal(""),
            Refusal::Unauthenticated(""),
            Refusal::FutureEvent { head: 1 },
            Refusal::OffsetMismatch { actual: 1 },
            Refusal::TimedOut { what: "" },
        ];
        assert!(others.iter().all(|refusal| refused(refusal).code() != Code::Unavailable));
        assert_eq!(refused(&Refusal::Draining).code(), Code::Unavailable);
        assert!(!is_unreachable(&refused(&Refusal::Draining)));
    }
}
