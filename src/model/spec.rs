//! Lab sockets to be made: what is asked for.

use std::sync::Arc;
use std::time::Duration;

use crate::model::address::{AddressText, Family, Transport};
use crate::model::group::GroupAsked;
use crate::model::labels::Labels;
use crate::model::limits::{Defaults, READ_SIZE};
use crate::model::option::SocketOption;
use crate::model::payload::Pattern;
use crate::model::peers::Peers;
use crate::model::socket::{AcceptPolicy, Conduct};

/// What a TCP socket does once it is made.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TcpRole {
    /// Nothing yet.
    Idle,
    /// It waits for connections, there or where it was bound before.
    Listen(Option<AddressText>),
    /// It connects.
    Connect(AddressText),
}

/// How long and how often a connect is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Attempts {
    /// How long each address has to answer; absent: as long as the whole operation.
    pub timeout: Option<Duration>,
    /// How it is tried again.
    pub retry: Option<Retry>,
    /// How much later the next address is tried while the last one has not answered; absent: when it has failed.
    pub delay: Option<Duration>,
}

impl Attempts {
    /// The shortest delay: RFC 8305, section 8.
    pub const LEAST_DELAY: Duration = Duration::from_millis(10);
}

/// How something is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Retry {
    /// How often in all; zero: as long as there is time.
    pub attempts: u32,
    /// How long to wait in between.
    pub interval: Duration,
}

impl Retry {
    /// The most attempts that can be counted.
    pub const MOST_ATTEMPTS: u32 = 1000;
    /// The shortest time in between.
    pub const LEAST_INTERVAL: Duration = Duration::from_millis(10);
    /// The time in between where nobody says.
    pub const USUAL_INTERVAL: Duration = Duration::from_secs(1);
}

/// A TCP socket to be made.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TcpSpec {
    /// What it does once it is made.
    pub role: TcpRole,
    /// Connections that may wait to be accepted.
    pub backlog: u32,
    /// Connections that may be open at a time.
    pub max_connections: Option<u32>,
    /// Who accepts.
    pub accept: AcceptPolicy,
    /// Connections that are accepted at all.
    pub max_accepts: Option<u32>,
    /// How long each connection waits to be accepted.
    pub accept_delay: Duration,
    /// How it connects.
    pub attempts: Attempts,
    /// With whom.
    pub peers: Peers,
}

/// A UDP socket to be made.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UdpSpec {
    /// The remote address.
    pub connect: Option<AddressText>,
    /// Multicast groups to be joined, in order.
    pub groups: Vec<GroupAsked>,
    /// What it receives is taken for probes.
    pub probes: bool,
}

/// What is particular to a transport.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A TCP socket.
    Tcp(TcpSpec),
    /// A UDP socket.
    Udp(UdpSpec),
}

/// A socket to be made.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SocketSpec {
    /// TCP or UDP, and what is particular to it.
    pub kind: Kind,
    /// The IP version, where it was asked for.
    pub family: Option<Family>,
    /// The local address, where it was asked for.
    pub bind: Option<AddressText>,
    /// How that is tried again while somebody else has it.
    pub bind_retry: Option<Retry>,
    /// How it behaves.
    pub conduct: Conduct,
    /// What all that it receives is compared with.
    pub verify: Option<Arc<Pattern>>,
    /// Options, in order.
    pub options: Vec<SocketOption>,
    /// The caller's own words about it.
    pub labels: Labels,
}

impl SocketSpec {
    /// A TCP socket that does this, and is usual in everything else.
    pub fn tcp(role: TcpRole) -> Self {
        Self {
            kind: Kind::Tcp(TcpSpec {
                role,
                backlog: Defaults::default().backlog,
                max_connections: None,
                accept: AcceptPolicy::Auto,
                max_accepts: None,
                accept_delay: Duration::ZERO,
                attempts: Attempts::default(),
                peers: Peers::default(),
            }),
            family: None,
            bind: None,
            bind_retry: None,
            conduct: Conduct::usual(READ_SIZE),
            verify: None,
            options: Vec::new(),
            labels: Labels::default(),
        }
    }

    /// The transport.
    pub const fn transport(&self) -> Transport {
        match self.kind {
            Kind::Tcp(_) => Transport::Tcp,
            Kind::Udp(_) => Transport::Udp,
        }
    }

    /// The family of the multicast groups that it is to join, if there are any.
    pub fn group_family(&self) -> Option<Family> {
        match &self.kind {
            Kind::Udp(udp) => udp.groups.first().map(GroupAsked::family),
            Kind::Tcp(_) => None,
        }
    }
}
