//! The fields of a step. One table says what there is: the type that is read, the schema, and the check come from it.

use std::ops::Range;

use serde::Deserialize;
use serde_saphyr::Spanned;

pub use crate::exercise::shapes::{BranchFile, ItemsFile, ManyFile, OrderFile, ResolveFile, TogetherFile};
use crate::model::yaml::{Ordered, span};

/// Text of any kind: a name, an address, a word, a payload.
pub type Text = String;
/// A whole number. Like every scalar it is read as text, because `${…}` may stand in its place.
pub type Number = String;
/// A number, or a range of them, that something is compared with.
pub type Amount = String;
/// `true` or `false`.
pub type Switch = String;
/// A time such as `250ms`.
pub type Time = String;
/// Names with values.
pub type Names = Ordered<Spanned<String>>;
/// Names with amounts.
pub type Amounts = Ordered<Spanned<String>>;
/// What is to be looked up.
pub type Question = ResolveFile;
/// Steps, one after the other.
pub type Steps = Vec<Spanned<StepFile>>;
/// What a loop goes over.
pub type Items = ItemsFile;
/// What begins at one instant.
pub type Together = TogetherFile;
/// Events in an order.
pub type Order = Vec<Spanned<OrderFile>>;
/// What goes on side by side.
pub type Branches = Vec<Spanned<BranchFile>>;

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Text of any kind.
    Text,
    /// A whole number.
    Number,
    /// A number, or a range.
    Amount,
    /// `true` or `false`.
    Switch,
    /// A time.
    Time,
    /// Names with values.
    Names,
    /// Names with amounts.
    Amounts,
    /// What is to be looked up.
    Question,
    /// Steps, one after the other.
    Steps,
    /// What a loop goes over.
    Items,
    /// What goes on side by side.
    Branches,
    /// What begins at one instant.
    Together,
    /// Events in an order.
    Order,
}

/// A field of a step.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub holds: Holds,
    /// What it means.
    pub about: &'static str,
}

macro_rules! step_file {
    ($($(#[doc = $doc:literal])+ $field:ident: $holds:ident,)*) => {
        /// A step: `on`, one verb, and what goes with it.
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct StepFile {
            $($(#[doc = $doc])+ #[serde(default)] pub $field: Option<Box<Spanned<$holds>>>,)*
        }

        /// All fields, in the order in which people read them.
        pub const FIELDS: &[Field] =
            &[$(Field { name: stringify!($field), holds: Holds::$holds, about: concat!($($doc),+) }),*];

        impl StepFile {
            /// The fields that are there, with their places.
            pub fn present(&self) -> Vec<(&'static str, Range<usize>)> {
                let mut present = Vec::new();
                $(if let Some(value) = &self.$field {
                    present.push((stringify!($field), span(&value.referenced)));
                })*
                present
            }

            /// The same step, with text put in where it refers to what is known by now.
            pub(super) fn put_in(&self, put: &mut Put<'_>) -> Self {
                Self { $($field: self.$field.as_ref().map(|field| Box::new(field.put_in(put))),)* }
            }
        }
    };
}

step_file! {
    /// The role that does it.
    on: Text,

    // Flow.
    /// Do the steps once for each value, host, or pair of hosts.
    foreach: Items,
    /// Do the steps of another file.
    include: Text,
    /// Do branches side by side: steps, lists of steps, and the rounds of loops.
    parallel: Branches,
    /// Begin steps at one instant, on as many hosts as they are of.
    together: Together,
    /// The steps of a loop.
    steps: Steps,
    /// What the included file is given.
    with: Names,

    // Verbs.
    /// Make a socket: `tcp` or `udp`.
    create: Text,
    /// Give a socket a local address.
    bind: Text,
    /// Wait for connections: an address with `as`, or a socket.
    listen: Text,
    /// Wait until a listener has accepted.
    accept: Text,
    /// Connect: an address with `as`, or a socket with `to`.
    connect: Text,
    /// Write bytes to a TCP socket.
    write: Text,
    /// Send a datagram.
    send: Text,
    /// Take what was received.
    receive: Text,
    /// Send bytes through a stream of the controller's own into a TCP socket, and take them out of the other end of its connection.
    transfer: Text,
    /// End a direction.
    shutdown: Text,
    /// Close.
    close: Text,
    /// Reset.
    abort: Text,
    /// Change how a socket behaves.
    set: Text,
    /// Join a multicast group.
    join: Text,
    /// Leave a multicast group.
    leave: Text,
    /// Want nothing more from one source of a group.
    block: Text,
    /// Want a source again.
    unblock: Text,
    /// Set all sources of a group at once.
    filter: Text,
    /// Wait until the peer has acknowledged everything.
    flush: Text,
    /// Take the remote address from a UDP socket.
    disconnect: Text,
    /// Look up a name.
    resolve: Question,
    /// Say what a text is as an address.
    parse: Text,
    /// Wait until something is true of a socket.
    expect: Text,
    /// Wait until events have come in this order, of whatever hosts.
    order: Order,

    // Names and addresses.
    /// The name of what the step brings.
    r#as: Text,
    /// The address that it is about, or the socket where a transfer comes out.
    to: Text,
    /// The local address of a new socket.
    local: Text,
    /// The address of the other side.
    peer: Text,
    /// The message that a datagram answers.
    reply_to: Text,
    /// The local address that a datagram leaves from, or the only source that is wanted of a group.
    source: Text,
    /// The time-to-live or hop limit of a datagram.
    hop_limit: Number,
    /// The type-of-service or traffic class byte of a datagram.
    traffic_class: Number,
    /// Whether the kernel has told when it received the datagram.
    receive_time: Switch,

    // Multicast.
    /// The group.
    group: Text,
    /// The interface: a name, an index, an address, or `all`.
    interface: Text,
    /// What the sources are: `include`, the only ones that are wanted, or `exclude`, those that are not.
    mode: Text,
    /// The sources of a group, with commas.
    sources: Text,

    // Settings of a socket.
    /// The IP version of a new socket.
    family: Text,
    /// The caller's own words about a socket.
    labels: Names,
    /// With whom there is no connection: addresses, networks and ranges, with commas.
    deny: Text,
    /// With whom alone there are connections.
    allow: Text,
    /// How many connections may wait.
    backlog: Amount,
    /// How many connections may be open.
    max_connections: Number,
    /// `allow` or `auto_end`.
    half_open: Text,
    /// `auto` or `manual`.
    accepting: Text,
    /// `both`, `receive_only` or `send_only`.
    direction: Text,
    /// `events`, `pull`, `transfer` or `count`.
    delivery: Text,
    /// Whether nothing is read for now.
    paused: Switch,
    /// How many bytes are read at a time.
    read_size: Number,
    /// How many payloads are read before reading pauses.
    credit: Number,
    /// How long nothing is read after each payload.
    read_interval: Time,
    /// Whether all bytes are hashed, each way.
    hash: Switch,
    /// Whether all that is received is compared with a pattern.
    verify: Switch,
    /// Whether datagrams are numbered, or those that come are taken for such.
    probes: Switch,
    /// Whether the agent fills the places of each payload, such as `{number}`, as it leaves.
    template: Switch,
    /// Tell `write_blocked` when more bytes of writes wait in the agent.
    write_high_watermark: Number,
    /// Tell `writable` when no more of them wait.
    write_low_watermark: Number,
    /// Whether the connection is closed when a write has not ended in time (`within`).
    close_on_write_timeout: Switch,
    /// The silence that is announced.
    idle_timeout: Time,
    /// How many connections are accepted at all.
    max_accepts: Number,
    /// How long each connection waits to be accepted.
    accept_delay: Time,
    /// How long a new connection is not read.
    read_delay: Time,
    /// How long the answer to the peer's end is put off.
    close_delay: Time,
    /// Whether changes of the kernel's own state of a TCP socket are told.
    tcp_state_events: Switch,
    /// How long each address has to answer.
    attempt_timeout: Time,
    /// How much later the next address is tried while the last one has not answered.
    attempt_delay: Time,
    /// How often a connect is tried; 0 as long as there is time.
    retry: Number,
    /// How long to wait in between.
    retry_interval: Time,
    /// How often a bind is tried while somebody else has the address; 0 as long as there is time.
    bind_retry: Number,
    /// How long to wait in between.
    bind_retry_interval: Time,
    /// Options by the names of their constants.
    options: Names,
    /// How long a close waits for the peer.
    linger: Time,
    /// `send`, `receive` or `both`.
    how: Text,

    // Payloads, to be sent or expected.
    /// Text.
    text: Text,
    /// The encoding of the text.
    encoding: Text,
    /// Whether lines of the text end with CR LF.
    crlf: Switch,
    /// Hexadecimal digits.
    hex: Text,
    /// So many bytes of a pattern.
    pattern: Number,
    /// The pattern is pseudorandom, and starts from this number.
    seed: Number,
    /// How many bytes of the pattern are left out in front.
    pattern_start: Number,
    /// A regular expression that is found in what was received.
    matches: Text,
    /// The SHA-256 of what was received.
    sha256: Text,
    /// How many bytes.
    size: Number,
    /// Where they stand in the stream.
    offset: Number,
    /// How many datagrams, or events.
    count: Number,
    /// How much later each datagram is due than the one before it.
    interval: Time,
    /// Whether the last byte that is written is urgent.
    urgent: Switch,
    /// Whether more will be written soon.
    more: Switch,
    /// How many bytes must have been written before.
    expected_offset: Number,
    /// How many bytes of a write are handed over at a time.
    slice_size: Number,
    /// How long to wait in between.
    slice_interval: Time,
    /// Take at least so many bytes at once.
    at_least: Number,
    /// Take at most so many bytes.
    at_most: Number,
    /// The end of the stream, expected or sent.
    end: Switch,
    /// Whether a datagram was cut.
    truncated: Switch,

    // Expectations.
    /// The kind of an event.
    event: Text,
    /// What a socket can do next.
    state: Text,
    /// The kernel's own state of a TCP connection.
    tcp_state: Text,
    /// What the kernel knows of a connection: numbers by their names in TcpInfo.
    tcp_info: Amounts,
    /// What the kernel holds in memory for a socket: numbers by their names in SocketMemory.
    memory: Amounts,
    /// How many connections a listener has open.
    connections: Amount,
    /// How many connections wait to be accepted.
    queue: Amount,
    /// How many bytes were read.
    bytes_read: Amount,
    /// How many bytes were written.
    bytes_written: Amount,
    /// How many bytes wait to be read.
    receive_queue: Amount,
    /// How many bytes are not acknowledged.
    send_queue: Amount,
    /// How many bytes of writes wait in the agent.
    pending_write_bytes: Amount,
    /// How many datagrams the kernel dropped.
    datagrams_dropped: Amount,
    /// The SHA-256 of all that was read.
    hash_received: Text,
    /// The SHA-256 of all that was written.
    hash_written: Text,
    /// How many bytes are as the pattern has them.
    verified: Amount,
    /// How many bytes are not as the pattern has them.
    wrong_bytes: Amount,
    /// How many datagrams are not as the pattern has them.
    wrong_datagrams: Amount,
    /// How many probes have come, each counted once.
    probes_received: Amount,
    /// How many have not, up to the highest number.
    probes_lost: Amount,
    /// How many came again.
    probes_duplicated: Amount,
    /// How many came behind one with a higher number.
    probes_reordered: Amount,
    /// Whether poll(2) says that there is something to read.
    readable: Switch,
    /// Whether poll(2) says that there is room to write.
    writable: Switch,
    /// Whether a socket is connected with itself.
    self_connected: Switch,
    /// Why a socket was closed.
    reason: Text,
    /// What a text is: `ipv4`, `ipv6` or `none`.
    is: Text,
    /// The port that was looked up.
    port: Number,
    /// The service that was looked up.
    service: Text,
    /// An address that was looked up.
    address: Text,
    /// How many bytes a write has handed over.
    written: Number,

    // How the step goes.
    /// How long it may take.
    within: Time,
    /// Nothing must happen for so long.
    quiet: Time,
    /// It must fail with this.
    error: Text,
    /// Why the step is there.
    note: Text,
}

/// What puts text into a value: what it refers to is replaced as far as it is known.
pub(super) type Put<'a> = dyn FnMut(&Spanned<String>) -> String + 'a;

/// Values that text can be put into.
pub(super) trait PutIn {
    fn put_in(&self, put: &mut Put<'_>) -> Self;
}

impl PutIn for Spanned<String> {
    fn put_in(&self, put: &mut Put<'_>) -> Self {
        Self::new(put(self), self.referenced, self.defined)
    }
}

impl PutIn for Spanned<Names> {
    fn put_in(&self, put: &mut Put<'_>) -> Self {
        let entries = self.value.0.iter().map(|(name, value)| (name.clone(), value.put_in(put)));
        Self::new(Ordered(entries.collect()), self.referenced, self.defined)
    }
}

impl PutIn for Spanned<ResolveFile> {
    fn put_in(&self, put: &mut Put<'_>) -> Self {
        let ResolveFile { host, address, service, port, transport } = &self.value;
        let [host, address, service, port, transport] =
            [host, address, service, port, transport].map(|field| field.as_ref().map(|field| field.put_in(put)));
        Self::new(ResolveFile { host, address, service, port, transport }, self.referenced, self.defined)
    }
}

impl PutIn for Spanned<Order> {
    fn put_in(&self, put: &mut Put<'_>) -> Self {
        let mut event = |event: &Spanned<OrderFile>| {
            let OrderFile { expect, event: kind, count } = &event.value;
            let count = count.as_ref().map(|count| count.put_in(put));
            let file = OrderFile { expect: expect.put_in(put), event: kind.put_in(put), count };
            Spanned::new(file, event.referenced, event.defined)
        };
        Self::new(self.value.iter().map(&mut event).collect(), self.referenced, self.defined)
    }
}

// What follows is put into when its own turn comes: steps within steps, and what a loop goes over.

macro_rules! left_as_it_is {
    ($($holds:ty),*) => {
        $(impl PutIn for Spanned<$holds> {
            fn put_in(&self, _: &mut Put<'_>) -> Self {
                self.clone()
            }
        })*
    };
}

left_as_it_is!(Steps, Items, Branches, Together);

impl Field {
    /// Its name as it stands in a file.
    pub fn typed(&self) -> &'static str {
        typed(self.name)
    }
}

/// A field's name as it stands in a file.
pub fn typed(name: &'static str) -> &'static str {
    name.strip_prefix("r#").unwrap_or(name)
}
