//! Sessions: how long they live without their controller, and what becomes of their sockets then.

use std::ops::RangeInclusive;
use std::time::Duration;

/// How long a lease may be asked for: long enough for a renewal that meets a slow network, short enough for a host to be left clean the
/// same hour.
pub const LEASE_TTL: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(3600);

/// What becomes of connections whose session's lease expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OrphanPolicy {
    /// They are closed: a FIN.
    #[default]
    Close,
    /// They are reset: a RST.
    Abort,
}

/// Whether a session can be used. It never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SessionState {
    /// It can be used.
    Active,
    /// Its lease is over, and its sockets are being closed.
    Expiring,
    /// Its sockets are closed: it can be read.
    Expired,
}

/// The lease that a session is asked to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct LeaseSpec {
    /// For how long it is good; the agent's default where absent.
    pub ttl: Option<Duration>,
    /// What becomes of connections when it expires.
    pub orphans: OrphanPolicy,
}

/// What a session's log lets go of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Retention {
    /// The oldest events, to make room for new ones.
    Ring,
    /// What somebody has taken. Where there is no room, reading waits.
    #[default]
    Lossless,
}

/// What a session is asked to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SessionSpec {
    /// How long it lives without being renewed.
    pub lease: LeaseSpec,
    /// What its log lets go of.
    pub retention: Retention,
    /// Whether it is told what becomes of the host's interfaces.
    pub interface_events: bool,
}

impl SessionSpec {
    /// That of a default session, which nobody asks for.
    pub fn of_default() -> Self {
        Self { retention: Retention::Ring, ..Self::default() }
    }
}

/// The lease of a session as it is at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseView {
    /// For how long a renewal is good.
    pub ttl: Duration,
    /// How much of that is left.
    pub left: Duration,
    /// What becomes of connections when it expires.
    pub orphans: OrphanPolicy,
}
