//! What becomes of many sockets that one request asks for.

use crate::model::error::SocketError;
use crate::model::id::SocketId;
use crate::model::option::OptionResult;
use crate::model::view::SocketView;

/// What became of one socket of many.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SocketOutcome {
    /// Its name; absent where it was not made, and had none.
    pub id: Option<SocketId>,
    /// The socket, and what became of its options. Absent where it was not made.
    pub made: Option<(Box<SocketView>, Vec<OptionResult>)>,
    /// It was not done in time.
    pub timed_out: bool,
    /// What the kernel, the resolver or the network objected to.
    pub error: Option<SocketError>,
    /// Why the agent has refused it.
    pub refusal: Option<RefusalText>,
}

impl SocketOutcome {
    /// All that was asked for has been done.
    pub const fn is_done(&self) -> bool {
        !self.timed_out && self.error.is_none() && self.refusal.is_none()
    }
}

/// A refusal as it is told: its reason, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusalText {
    /// The reason, by name.
    pub reason: Box<str>,
    /// One line.
    pub message: Box<str>,
}
