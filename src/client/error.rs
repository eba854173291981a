//! Why a call of a client did not bring an outcome.

use std::error::Error as _;
use std::io;

use thiserror::Error;
use tonic::Status;

use crate::client::lease::LeaseLoss;
use crate::model::errno::Errno;
use crate::model::error::{Cause, SocketError};
use crate::model::id::SessionId;
use crate::wire::status;

/// Why a call did not bring an outcome.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClientError {
    /// Nobody answers there, or the connection broke under way.
    #[error("{message}: is an agent running there? `farsock agent` starts one, and says where it is reached")]
    Unreachable {
        /// What is known of why.
        message: String,
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
    /// The agent speaks a language that this version does not understand, or the other way round.
    #[error("{message}")]
    Protocol {
        /// One line for people.
        message: String,
    },
}

impl ClientError {
    pub(super) fn protocol(what: &str) -> Self {
        Self::Protocol {
            message: format!("{what}: the agent is of another version, `farsock --version` tells which this one is"),
        }
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        if let Some(message) = closed_door(&status) {
            return Self::Unauthenticated { message };
        }
        let text = status::read(&status);
        match text.code.as_str() {
            "Unauthenticated" => Self::Unauthenticated { message: text.message },
            _ if !text.reason.is_empty() => Self::Refused { reason: text.reason, message: text.message },
            "Unimplemented" => Self::protocol("the agent does not have this RPC"),
            // What the agent itself has said has nothing behind it.
            _ if status.source().is_some() => Self::Unreachable { message: unreachable(&status) },
            "Unavailable" | "Cancelled" | "Unknown" => Self::Unreachable { message: unreachable(&status) },
            code => Self::Protocol { message: format!("the agent answered {code}: {}", text.message) },
        }
    }
}

impl From<ClientError> for io::Error {
    fn from(error: ClientError) -> Self {
        let kind = match &error {
            ClientError::Unreachable { .. } => io::ErrorKind::NotConnected,
            ClientError::LeaseLost { .. } => io::ErrorKind::ConnectionAborted,
            ClientError::Unauthenticated { .. } => io::ErrorKind::PermissionDenied,
            ClientError::Protocol { .. } => io::ErrorKind::InvalidData,
            ClientError::Refused { .. } => io::ErrorKind::Other,
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

/// That one of both sides does not let the other one in. Whatever lies above a transport keeps an error's kind and its words, and no more.
pub(super) fn door_closed(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, message)
}

/// That an agent has ended a connection before it said anything.
pub(super) fn turned_away(host: &str) -> io::Error {
    let message =
        format!("the agent at {host} ends the connection without a word: it has no room for more, or its log says why");
    io::Error::new(io::ErrorKind::ConnectionAborted, message)
}

/// Why one of both sides does not let the other one in, if that is what has happened. The kernel's own EACCES is something else.
fn closed_door(status: &Status) -> Option<String> {
    let mut cause: &dyn std::error::Error = status;
    while let Some(deeper) = cause.source() {
        cause = deeper;
        if let Some(error) = cause.downcast_ref::<io::Error>()
            && error.kind() == io::ErrorKind::PermissionDenied
            && error.raw_os_error().is_none()
        {
            return Some(error.to_string());
        }
    }
    None
}

/// What lies at the bottom of a transport's error: the kernel's words, not those of each layer above.
fn unreachable(status: &Status) -> String {
    let mut cause: &dyn std::error::Error = status;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let bottom = cause.to_string();
    // A status prints its code and its metadata, too; without a cause its message is all there is to say.
    if status.source().is_none() || bottom.is_empty() { status.message().to_owned() } else { bottom }
}
