//! A lab socket as it is at one moment: what has become of it, and what the kernel says of it.

use std::sync::Arc;

use crate::model::address::{Family, Transport};
use crate::model::id::{SessionId, SocketId, SocketUid};
use crate::model::labels::Labels;
use crate::model::peers::Peers;
use crate::model::probe::ProbeReport;
use crate::model::socket::{AcceptPolicy, Conduct, SocketStatus};
use crate::model::tcp::TcpState;
use crate::model::time::Timestamp;
use crate::model::verify::Verification;

/// The SHA-256 of all that went through a connection, each way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashes {
    /// Of what the agent has read.
    pub received: [u8; 32],
    /// Of what was handed to the kernel.
    pub written: [u8; 32],
}

/// Bytes on their way through a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Queues {
    /// Received and not read: SIOCINQ.
    pub receive_bytes: u32,
    /// Handed to the kernel and not acknowledged: SIOCOUTQ.
    pub send_bytes: u32,
    /// Waiting in the agent for room in the kernel.
    pub pending_write_bytes: u32,
}

/// What poll(2) says of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Readiness {
    /// POLLIN.
    pub readable: bool,
    /// POLLOUT.
    pub writable: bool,
    /// POLLPRI.
    pub priority: bool,
    /// POLLRDHUP or POLLHUP.
    pub hung_up: bool,
    /// POLLERR.
    pub failed: bool,
}

/// The kernel's queue of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptQueue {
    /// How many connections wait.
    pub length: u32,
    /// How many may wait.
    pub limit: u32,
}

/// What the kernel says of a socket at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// What it holds for it.
    pub queues: Queues,
    /// What can be done with it at once.
    pub readiness: Readiness,
    /// Its own state of a TCP connection.
    pub tcp_state: Option<TcpState>,
    /// Its queue, of a listener.
    pub accept_queue: Option<AcceptQueue>,
}

/// What a listener was told about its connections, and how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerView {
    /// Who accepts.
    pub accept: AcceptPolicy,
    /// Connections that may be open at a time.
    pub max_connections: Option<u32>,
    /// Connections that are open now.
    pub connection_count: u32,
    /// Connections that wait to be accepted, where the kernel was asked.
    pub queue: Option<AcceptQueue>,
}

/// A socket as it is at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketView {
    /// The session that owns it.
    pub session: SessionId,
    /// Its name.
    pub id: SocketId,
    /// Its number.
    pub uid: SocketUid,
    /// The listener that accepted it.
    pub parent: Option<(SocketId, SocketUid)>,
    /// TCP or UDP.
    pub transport: Transport,
    /// IPv4 or IPv6.
    pub family: Family,
    /// When it was made.
    pub created: Timestamp,
    /// The caller's own words about it.
    pub labels: Arc<Labels>,
    /// With whom it has connections.
    pub peers: Arc<Peers>,
    /// How it behaves now.
    pub conduct: Conduct,
    /// What has become of it.
    pub status: SocketStatus,
    /// Of a TCP socket: what it does as a listener.
    pub listener: Option<ListenerView>,
    /// Of a TCP socket whose delivery asks for it: what went through it.
    pub hashes: Option<Hashes>,
    /// Where what it receives is compared with a pattern: how that went so far.
    pub verification: Option<Verification>,
    /// Where it looks for probes: what has come of them.
    pub probes: Option<ProbeReport>,
    /// What the kernel holds for it, where it was asked.
    pub queues: Option<Queues>,
    /// What poll(2) says of it, where it was asked.
    pub readiness: Option<Readiness>,
    /// The kernel's own state of a TCP connection, where it was asked.
    pub tcp_state: Option<TcpState>,
}
