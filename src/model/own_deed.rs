//! What an agent does by itself to what others have made: nobody has asked for it at that moment.

use crate::model::id::{Principal, SessionId, SocketId, SocketUid};
use crate::model::socket::CloseReason;

/// Something that the agent does by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnDeed {
    /// It closes a socket.
    Closed {
        /// Whose the session is.
        owner: Principal,
        /// The session.
        session: SessionId,
        /// The socket.
        socket: SocketId,
        /// Its number.
        uid: SocketUid,
        /// Why.
        reason: CloseReason,
    },
    /// It ends a session that nobody has renewed.
    Expired {
        /// Whose it is.
        owner: Principal,
        /// The session.
        session: SessionId,
    },
    /// It ends a connection of somebody.
    Disconnected {
        /// Who has come by it.
        who: Principal,
        /// Why.
        why: Parting,
    },
    /// It has read its credentials and its policy again.
    Reloaded {
        /// The title of the policy that is in force now, where there is one.
        policy: Option<String>,
        /// How many connections were ended by that.
        connections: usize,
        /// How many sockets were closed by it.
        sockets: usize,
    },
    /// It could not read them, and goes on with those that it has.
    NotReloaded {
        /// Why.
        problem: String,
    },
    /// It begins to stop: nothing new is done any more.
    Draining,
    /// It has stopped.
    Stopped,
}

/// Why a connection of a controller is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// The certificate that was shown on it has expired.
    CertificateExpired,
    /// What was shown on it does not count any more, or whoever has shown it has no role any more.
    Reload,
}

impl Parting {
    /// The word for it in a record.
    pub const fn word(self) -> &'static str {
        match self {
            Self::CertificateExpired => "certificate_expired",
            Self::Reload => "reload",
        }
    }
}

/// Whoever writes down what the agent does by itself.
pub trait Witness: Send + Sync {
    /// Writes it down, right before it is done; what is counted, right after.
    fn see(&self, deed: &OwnDeed);
}

impl CloseReason {
    /// Whether it was the agent's own decision to close the socket, where an operation closed it or not: what a peer, the network or the
    /// socket's own conduct ends is nobody's decision.
    pub const fn is_own(self, for_request: bool) -> bool {
        match self {
            Self::Policy | Self::LeaseExpired | Self::AgentDraining | Self::Internal => true,
            // Because nobody has used the default session for long, or because no certificate of its owner's is good any more.
            Self::SessionReset => !for_request,
            Self::SessionDeleted | Self::Closed | Self::Aborted => false,
            Self::Ended | Self::PeerReset | Self::Failed | Self::WriteTimedOut => false,
        }
    }
}
