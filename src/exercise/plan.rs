//! What an exercise means: hosts in order, steps in order, every name known, every word understood.

use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

use crate::exercise::amount::Amount;
use crate::exercise::course::{OrderedEvent, Part};
pub use crate::exercise::facts::{FactNumber, FactSwitch};
use crate::exercise::inventory::Player;
use crate::exercise::networks::Networks;
use crate::exercise::template::Template;
use crate::model::address::{Family, Transport};
use crate::model::delivery::{DeliveryChange, Slices, Watermarks, WriteTimeout};
use crate::model::encoding::TextEncoding;
use crate::model::group::GroupChange;
use crate::model::labels::Labels;
use crate::model::mistake::Source;
use crate::model::operation::{SendFlags, ShutdownHow, WriteFlags};
use crate::model::option::SocketOption;
use crate::model::payload::Pattern;
use crate::model::socket::{AcceptPolicy, CloseReason, Direction, HalfOpenPolicy, SocketState};
use crate::model::source_filter::FilterMode;
use crate::model::spec::{Attempts, Retry};
use crate::model::tcp::TcpState;

/// An exercise that has been checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Its title.
    pub title: String,
    /// What it teaches.
    pub about: Option<String>,
    /// Who takes part, in the order of the file.
    pub hosts: Vec<HostPlan>,
    /// The networks that join them.
    pub networks: Option<Networks>,
    /// The names of its variables.
    pub vars: Vec<String>,
    /// Its steps, in the order of the file.
    pub steps: Vec<Step>,
    /// In which order they are done.
    pub parts: Vec<Part>,
    /// Those that are done at the end in any case.
    pub finally: Vec<Part>,
    /// The files that say so: the exercise's own first, then those that are included.
    pub sources: Vec<Source>,
}

/// A role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPlan {
    /// Its name.
    pub role: String,
    /// The agent that plays it, as the file says.
    pub agent: Option<String>,
    /// Who does play it.
    pub player: Player,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its place in the order, from 1.
    pub number: usize,
    /// Which host does it.
    pub host: usize,
    /// What it does.
    pub verb: Verb,
    /// How long it may take; absent: as long as usual.
    pub within: Option<Duration>,
    /// It must fail with this: an errno or a refusal's reason, by name, or `timeout`.
    pub error: Option<String>,
    /// Why it is there.
    pub note: Option<String>,
    /// Which round of which loop it belongs to, and what its file is included by.
    pub context: Option<String>,
    /// The file that it stands in: one of the plan's.
    pub source: usize,
    /// Where it stands there, in bytes.
    pub span: Range<usize>,
    /// Where its verb stands, in bytes.
    pub verb_span: Range<usize>,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq)]
pub enum Verb {
    /// Makes a socket.
    Create(Box<SocketPlan>),
    /// Gives a socket a local address.
    Bind {
        /// The socket.
        socket: String,
        /// The address.
        to: Template,
        /// How it is tried again while somebody else has it.
        retry: Option<Retry>,
    },
    /// Waits for connections.
    Listen {
        /// The socket.
        socket: String,
        /// How many may wait.
        backlog: Option<u32>,
    },
    /// Connects.
    Connect {
        /// The socket.
        socket: String,
        /// The address.
        to: Template,
        /// How long and how often it is tried.
        attempts: Attempts,
    },
    /// Takes the remote address away.
    Disconnect {
        /// The socket.
        socket: String,
    },
    /// Waits until a listener has accepted a connection.
    Accept {
        /// The listener.
        listener: String,
        /// The name of the connection.
        name: String,
        /// Who connects; anybody where absent.
        peer: Option<Template>,
        /// The listener leaves accepting to this step.
        manual: bool,
    },
    /// Writes bytes.
    Write {
        /// The socket.
        socket: String,
        /// The bytes.
        payload: Payload,
        /// How they are handed over.
        flags: WriteFlags,
        /// How they are cut up; not at all where absent.
        slices: Option<Slices>,
        /// How many bytes must have been written before.
        expected_offset: Option<u64>,
        /// How many of them must be handed over; all where absent.
        written: Option<u32>,
    },
    /// Waits until the peer has acknowledged everything.
    Flush {
        /// The socket.
        socket: String,
    },
    /// Sends a datagram.
    Send {
        /// The socket.
        socket: String,
        /// Where to; to the remote address where absent.
        to: Option<Template>,
        /// The message that it answers.
        reply_to: Option<String>,
        /// What of it is not as the socket has it.
        marks: Marks,
        /// The bytes.
        payload: Payload,
        /// How many times, in one call.
        count: u16,
        /// How much later each is due than the one before it.
        interval: Duration,
        /// How their payloads are made.
        flags: SendFlags,
    },
    /// Takes what was received.
    Receive {
        /// The socket.
        socket: String,
        /// TCP or UDP.
        transport: Transport,
        /// What must come.
        wanted: Box<Wanted>,
        /// The name of the message.
        name: Option<String>,
    },
    /// Sends bytes through a stream of the controller's own, and takes them from another one at the other end.
    Transfer {
        /// The socket that they go into.
        socket: String,
        /// The socket that they come out of, of whatever host.
        to: String,
        /// The bytes.
        payload: Payload,
        /// Whether the sending direction ends behind them.
        end: bool,
    },
    /// Ends a direction.
    Shutdown {
        /// The socket.
        socket: String,
        /// Which one.
        how: ShutdownHow,
    },
    /// Closes a socket.
    Close {
        /// The socket.
        socket: String,
        /// SO_LINGER, in seconds.
        linger: Option<u16>,
    },
    /// Resets a connection.
    Abort {
        /// The socket.
        socket: String,
    },
    /// Changes how a socket behaves.
    Set {
        /// The socket.
        socket: String,
        /// How received bytes are handed on.
        delivery: Option<DeliveryChange>,
        /// Options.
        options: Vec<SocketOption>,
    },
    /// Joins or leaves a multicast group, or a source of one.
    Group {
        /// The socket.
        socket: String,
        /// What is done.
        change: GroupChange,
        /// Which one.
        membership: Membership,
    },
    /// Sets all sources of a multicast group.
    Filter {
        /// The socket.
        socket: String,
        /// Which ones.
        filter: SourceFilter,
    },
    /// Looks up a name.
    Resolve {
        /// What is looked up.
        question: Question,
        /// What must be found.
        found: Found,
    },
    /// Says what a text is as an address.
    Parse {
        /// The text.
        text: Template,
        /// What it is a literal of.
        is: Option<Family>,
    },
    /// Says whether the steps before it, which were to begin at one instant, did.
    Together {
        /// How far apart their starts may lie.
        align: Duration,
    },
    /// Waits until events have come, each before the next.
    Order {
        /// The events.
        events: Vec<OrderedEvent>,
    },
    /// Waits until something is true of a socket, or makes sure that nothing happens to it.
    Expect {
        /// The socket.
        socket: String,
        /// What must be.
        expectation: Box<Expectation>,
    },
}

impl Verb {
    /// The word that the file has for it.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Create(socket) => match socket.role {
                Role::Idle => "create",
                Role::Connect(_) if matches!(socket.transport, Transport::Udp) => "create",
                Role::Listen(_) => "listen",
                Role::Connect(_) => "connect",
            },
            Self::Bind { .. } => "bind",
            Self::Listen { .. } => "listen",
            Self::Connect { .. } => "connect",
            Self::Disconnect { .. } => "disconnect",
            Self::Flush { .. } => "flush",
            Self::Accept { .. } => "accept",
            Self::Write { .. } => "write",
            Self::Send { .. } => "send",
            Self::Receive { .. } => "receive",
            Self::Transfer { .. } => "transfer",
            Self::Shutdown { .. } => "shutdown",
            Self::Close { .. } => "close",
            Self::Abort { .. } => "abort",
            Self::Set { .. } => "set",
            Self::Group { change: GroupChange::Join, .. } => "join",
            Self::Group { change: GroupChange::Leave, .. } => "leave",
            Self::Group { change: GroupChange::Block, .. } => "block",
            Self::Group { change: GroupChange::Unblock, .. } => "unblock",
            Self::Filter { .. } => "filter",
            Self::Resolve { .. } => "resolve",
            Self::Parse { .. } => "parse",
            Self::Together { .. } => "together",
            Self::Order { .. } => "order",
            Self::Expect { .. } => "expect",
        }
    }

    /// Whether it does nothing to any socket, and only waits or looks.
    pub const fn is_check(&self) -> bool {
        matches!(
            self,
            Self::Accept { .. }
                | Self::Receive { .. }
                | Self::Resolve { .. }
                | Self::Parse { .. }
                | Self::Together { .. }
                | Self::Order { .. }
                | Self::Expect { .. }
        )
    }

    /// The socket that it is about.
    pub fn socket(&self) -> Option<&str> {
        match self {
            Self::Create(socket) => Some(&socket.name),
            Self::Bind { socket, .. }
            | Self::Listen { socket, .. }
            | Self::Connect { socket, .. }
            | Self::Disconnect { socket }
            | Self::Flush { socket }
            | Self::Write { socket, .. }
            | Self::Send { socket, .. }
            | Self::Receive { socket, .. }
            | Self::Transfer { socket, .. }
            | Self::Shutdown { socket, .. }
            | Self::Close { socket, .. }
            | Self::Abort { socket }
            | Self::Set { socket, .. }
            | Self::Group { socket, .. }
            | Self::Filter { socket, .. }
            | Self::Expect { socket, .. } => Some(socket),
            Self::Accept { listener, .. } => Some(listener),
            Self::Order { events } => events.first().map(|event| event.socket.as_str()),
            Self::Resolve { .. } | Self::Parse { .. } | Self::Together { .. } => None,
        }
    }
}

/// A socket to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct SocketPlan {
    /// Its name, in the exercise and on its agent.
    pub name: String,
    /// TCP or UDP.
    pub transport: Transport,
    /// The IP version, where it was asked for.
    pub family: Option<Family>,
    /// The local address, where it was asked for.
    pub local: Option<Template>,
    /// How that is tried again while somebody else has it.
    pub bind_retry: Option<Retry>,
    /// What it does once it is made.
    pub role: Role,
    /// The caller's own words about it.
    pub labels: Labels,
    /// With whom it has no connection.
    pub deny: Option<Template>,
    /// With whom alone it has connections.
    pub allow: Option<Template>,
    /// How many connections may wait.
    pub backlog: Option<u32>,
    /// How many connections may be open.
    pub max_connections: Option<u32>,
    /// Who accepts.
    pub accept: AcceptPolicy,
    /// What the end of the peer's direction leads to.
    pub half_open: HalfOpenPolicy,
    /// The directions that it is used in.
    pub direction: Direction,
    /// How received bytes are handed on.
    pub delivery: DeliveryChange,
    /// The silence that is announced.
    pub idle_timeout: Duration,
    /// How many connections are accepted at all.
    pub max_accepts: Option<u32>,
    /// How long each connection waits to be accepted.
    pub accept_delay: Duration,
    /// How long a new connection is not read.
    pub read_delay: Duration,
    /// How long the answer to the peer's end is put off.
    pub close_delay: Duration,
    /// Whether changes of the kernel's own state are told.
    pub tell_states: bool,
    /// When writers are told to stop, and to go on.
    pub watermarks: Watermarks,
    /// How long writes may take.
    pub write_timeout: WriteTimeout,
    /// What a UDP socket receives is taken for probes.
    pub probes: bool,
    /// The multicast group that a UDP socket joins as it is made.
    pub membership: Option<Membership>,
    /// How long and how often a connect is tried.
    pub attempts: Attempts,
    /// What all that it receives is compared with.
    pub verify: Option<Pattern>,
    /// Options, in order.
    pub options: Vec<SocketOption>,
}

/// A membership of a multicast group.
#[derive(Debug, Clone, PartialEq)]
pub struct Membership {
    /// The group.
    pub group: Template,
    /// The interface; of the kernel's choice where absent.
    pub interface: Option<Template>,
    /// The only source; any where absent.
    pub source: Option<Template>,
}

/// The sources of a multicast group.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceFilter {
    /// The group.
    pub group: Template,
    /// The interface; all where the group was joined, where absent.
    pub interface: Option<Template>,
    /// What the sources are.
    pub mode: FilterMode,
    /// The sources, with commas; none where absent.
    pub sources: Option<Template>,
}

/// What a list has, of which a file writes the entries with commas between them.
pub fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty())
}

/// What a socket does once it is made.
#[derive(Debug, Clone, PartialEq)]
pub enum Role {
    /// Nothing.
    Idle,
    /// It waits for connections there.
    Listen(Template),
    /// It connects there.
    Connect(Template),
}

/// Bytes to be sent or compared.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// Known from the file.
    Bytes(Bytes),
    /// Text with references, to be encoded when they are known, and whether its lines end with CR LF then.
    Text(Template, TextEncoding, bool),
}

/// What received bytes must be.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PayloadWanted {
    /// These bytes.
    pub bytes: Option<Payload>,
    /// Something in which this regular expression is found.
    pub matches: Option<Template>,
    /// Something with this SHA-256, in hexadecimal digits.
    pub sha256: Option<Template>,
}

/// What must be received.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Wanted {
    /// The bytes.
    pub payload: PayloadWanted,
    /// How many.
    pub size: Option<u32>,
    /// Where they stand in the stream.
    pub offset: Option<u64>,
    /// The stream has ended.
    pub end: bool,
    /// Whether the datagram was cut.
    pub truncated: Option<bool>,
    /// Who sent the datagram.
    pub peer: Option<Template>,
    /// Its time-to-live or hop limit.
    pub hop_limit: Option<u8>,
    /// Its type-of-service or traffic class byte.
    pub traffic_class: Option<u8>,
    /// Whether the kernel has told when it received the datagram.
    pub receive_time: Option<bool>,
    /// Take at least so many bytes at once.
    pub at_least: Option<u32>,
    /// Take at most so many bytes.
    pub at_most: Option<u32>,
    /// So many datagrams, each of them like this.
    pub count: u32,
    /// Nothing must come for so long.
    pub quiet: Option<Duration>,
}

/// What of a datagram that is sent is not as its socket has it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Marks {
    /// The local address that it leaves from.
    pub source: Option<Template>,
    /// Its time-to-live or hop limit.
    pub hop_limit: Option<u8>,
    /// Its type-of-service or traffic class byte.
    pub traffic_class: Option<u8>,
}

/// What is looked up.
#[derive(Debug, Clone, PartialEq)]
pub enum Question {
    /// The addresses of a host.
    Host(String),
    /// The name of an address.
    Address(IpAddr),
    /// The port of a service.
    Service(String, Transport),
    /// The service of a port.
    Port(u16, Transport),
}

/// What must be found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Found {
    /// This port.
    pub port: Option<u32>,
    /// This service.
    pub service: Option<String>,
    /// This address, among others.
    pub address: Option<String>,
}

/// What must be.
#[derive(Debug, Clone, PartialEq)]
pub enum Expectation {
    /// An event happens, or has happened.
    Event(EventWanted),
    /// Facts hold.
    Facts(Facts),
    /// Nothing happens for so long, or nothing of this kind.
    Quiet(Duration, Option<&'static str>),
}

/// An event that must come.
#[derive(Debug, Clone, PartialEq)]
pub struct EventWanted {
    /// Its kind.
    pub kind: &'static str,
    /// The bytes that it carries.
    pub payload: PayloadWanted,
    /// How many bytes it is about.
    pub size: Option<u32>,
    /// Where they stand in the stream.
    pub offset: Option<u64>,
    /// The other side's address.
    pub peer: Option<Template>,
    /// Why a socket was closed.
    pub reason: Option<CloseReason>,
    /// The name of the error that it tells.
    pub errno: Option<String>,
    /// The option that was set.
    pub option: Option<SocketOption>,
    /// How often.
    pub count: usize,
    /// And after that not again for so long.
    pub quiet: Option<Duration>,
}

/// Facts about a socket.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Facts {
    /// What it can do next.
    pub state: Option<SocketState>,
    /// The kernel's own state of a TCP connection.
    pub tcp_state: Option<TcpState>,
    /// Numbers that it knows of itself.
    pub numbers: Vec<(FactNumber, Amount)>,
    /// What is so, or is not.
    pub switches: Vec<(FactSwitch, bool)>,
    /// What the kernel knows of a connection: numbers by their names in TCP_INFO.
    pub tcp_info: Vec<(&'static str, Amount)>,
    /// What the kernel holds in memory for it: numbers by their names in SO_MEMINFO.
    pub memory: Vec<(&'static str, Amount)>,
    /// The SHA-256 of all that was read, in hexadecimal digits.
    pub hash_received: Option<Template>,
    /// The SHA-256 of all that was written.
    pub hash_written: Option<Template>,
    /// Its local address.
    pub local: Option<Template>,
    /// Its remote address.
    pub peer: Option<Template>,
    /// The caller's own words about it, perhaps among others.
    pub labels: Labels,
    /// Options, as the kernel has them.
    pub options: Vec<SocketOption>,
}
