//! Why a call of a client did not bring an outcome.

use std::error::Error as _;
use std::io;
use std::io::ErrorKind;

use thiserror::Error;
use tonic::{ConnectError, Status};

use crate::client::lease::LeaseLoss;
use crate::model::errno::Errno;
use crate::model::error::{Cause, SocketError};
use crate::model::feature::{Feature, VERSION};
use crate::model::id::SessionId;
use crate::wire::status;
use crate::wire::unknown::UnknownValue;

/// Why a call did not bring an outcome.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClientError {
    /// Nobody answers there, or the connection broke under way.
    #[error("{message}")]
    Unreachable {
        /// What is known of why.
        message: String,
        /// Its host has answered, and nobody listens there: the agent has ended, and all of its sockets with it.
        nobody: bool,
        /// There was a connection: what was asked for may have been carried out, and the answer is lost.
        sent: bool,
    },
    /// The agent refuses.
    #[error("{message}")]
    Refused {
        /// What programs compare: `SOCKET_NOT_FOUND`.
        reason: String,
        /// One line for people.
        message: String,
    },
    /// The lease of the session is lost, and its sockets with it. Nothing was sent, or nothing is known of what was.
    #[error("the lease of session `{session}` is lost, and its sockets with it: {loss}")]
    LeaseLost {
        /// The session.
        session: SessionId,
        /// Why.
        loss: LeaseLoss,
    },
    /// The agent lets nobody in without credentials, or not with these.
    #[error("{message}")]
    Unauthenticated {
        /// One line for people.
        message: String,
    },
    /// The agent is of a version that cannot do what is asked of it. Nothing was done.
    #[error(
        "the agent is farsock {version}, which lacks `{name}` ({purpose}): that is there from {since} on, and here is {VERSION}",
        name = .feature.name(), purpose = .feature.purpose(), since = .feature.since()
    )]
    TooOld {
        /// What it lacks.
        feature: Feature,
        /// What it says that it is.
        version: String,
    },
    /// The agent speaks a language that this version does not understand, or the other way round.
    #[error("{message}")]
    Protocol {
        /// One line for people.
        message: String,
    },
}

impl ClientError {
    /// Nobody answers, for a reason that says nothing of what to do.
    fn silent(status: &Status) -> Self {
        let refused = |cause: &io::Error| matches!(cause.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound);
        let nobody = causes(status).any(|cause| cause.downcast_ref().is_some_and(refused));
        let sent = !causes(status).any(|cause| cause.is::<ConnectError>());
        let reason = bottom(status);
        let message =
            format!("{reason}: is an agent running there? `farsock agent` starts one, and says where it is reached");
        Self::Unreachable { message, nobody, sent }
    }

    /// Something that an agent has said is not understood: because of this value, if that is known.
    pub(super) fn not_understood(what: &str, value: Option<UnknownValue>) -> Self {
        Self::protocol(&match value {
            Some(value) => format!("{what} has {value}, which is not known here"),
            None => format!("{what} is not understood here"),
        })
    }

    pub(super) fn protocol(what: &str) -> Self {
        Self::Protocol {
            message: format!(
                "{what}: it is of another version than this `farsock`, which is {VERSION}: install the same one on both sides"
            ),
        }
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        if let Some(message) = own_words(&status, CLOSED_DOOR) {
            return Self::Unauthenticated { message };
        }
        if let Some(message) = own_words(&status, NO_WAY) {
            return Self::Unreachable { message, nobody: false, sent: false };
        }
        let text = status::read(&status);
        match text.code.as_str() {
            "Unauthenticated" => Self::Unauthenticated { message: text.message },
            _ if !text.reason.is_empty() => Self::Refused { reason: text.reason, message: text.message },
            "Unimplemented" => Self::protocol("the agent does not have this RPC"),
            // What the agent itself has said has nothing behind it.
            _ if status.source().is_some() => Self::silent(&status),
            "Unavailable" | "Cancelled" | "Unknown" => Self::silent(&status),
            code => Self::Protocol { message: format!("the agent answered {code}: {}", text.message) },
        }
    }
}

/// The reasons of refusals that are about who asks, and not about what.
const DENIED: [&str; 2] = ["POLICY_DENIED", "ROLE_DENIED"];

impl From<ClientError> for io::Error {
    fn from(error: ClientError) -> Self {
        let kind = match &error {
            ClientError::Unreachable { .. } => ErrorKind::NotConnected,
            ClientError::LeaseLost { .. } => ErrorKind::ConnectionAborted,
            ClientError::Unauthenticated { .. } => ErrorKind::PermissionDenied,
            ClientError::Refused { reason, .. } if DENIED.contains(&reason.as_str()) => ErrorKind::PermissionDenied,
            ClientError::Protocol { .. } | ClientError::TooOld { .. } => ErrorKind::InvalidData,
            ClientError::Refused { .. } => ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// What a far kernel has answered, as if it were this one. A far resolver has no numbers here.
pub(super) fn far_error(error: &SocketError) -> io::Error {
    match error.cause {
        Cause::Errno(errno) => os_error(errno),
        Cause::Lookup(_) => io::Error::other(error.clone()),
    }
}

pub(super) fn os_error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.number())
}

/// Whatever lies above a transport keeps an error's kind and its words, and no more. Those of these kinds that have no number are ours, and say
/// all there is to say.
const CLOSED_DOOR: ErrorKind = ErrorKind::PermissionDenied;
const NO_WAY: ErrorKind = ErrorKind::HostUnreachable;

/// That one of both sides does not let the other one in.
pub(super) fn door_closed(message: String) -> io::Error {
    io::Error::new(CLOSED_DOOR, message)
}

/// That there is no agent, or no way to it, and what is to be done.
pub(super) fn no_way(message: String) -> io::Error {
    io::Error::new(NO_WAY, message)
}

/// That an agent has ended a connection before it said anything.
pub(super) fn turned_away(host: &str) -> io::Error {
    let message =
        format!("the agent at {host} ends the connection without a word: it has no room for more, or its log says why");
    io::Error::new(ErrorKind::ConnectionAborted, message)
}

/// The words of an error of this kind, if that is what has happened. The kernel's own EACCES is something else.
fn own_words(status: &Status, kind: ErrorKind) -> Option<String> {
    let errors = causes(status).filter_map(|cause| cause.downcast_ref::<io::Error>());
    let mut ours = errors.filter(|error| error.kind() == kind && error.raw_os_error().is_none());
    ours.next().map(ToString::to_string)
}

/// What lies at the bottom of a transport's error: the kernel's words, not those of each layer above.
fn bottom(status: &Status) -> String {
    let bottom = causes(status).last().map(ToString::to_string).unwrap_or_default();
    // A status prints its code and its metadata, too; without a cause its message is all there is to say.
    if bottom.is_empty() { status.message().to_owned() } else { bottom }
}

/// What lies behind a status, from the top down.
fn causes(status: &Status) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    type Cause<'a> = &'a (dyn std::error::Error + 'static);

    fn deeper<'a>(cause: &Cause<'a>) -> Option<Cause<'a>> {
        (*cause).source()
    }
    std::iter::successors(status.source(), deeper)
}
