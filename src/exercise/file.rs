//! The exercise file as it is typed: YAML, every value with its place.

use std::ops::Range;

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::model::mistake::{Mistake, Source};
use crate::model::yaml::{self, Ordered, span};

/// The largest file that is read, in bytes.
pub const FILE_BYTES: usize = 1 << 20;

/// A whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExerciseFile {
    /// Its title.
    pub exercise: Spanned<String>,
    /// What it teaches.
    #[serde(default)]
    pub about: Option<String>,
    /// Roles, and the agents that play them; nothing means an embedded one.
    pub hosts: Ordered<Option<Spanned<String>>>,
    /// Values with names.
    #[serde(default)]
    pub vars: Ordered<Spanned<String>>,
    /// What is done, in order.
    pub steps: Vec<Spanned<StepFile>>,
}

macro_rules! step_file {
    ($($(#[$meta:meta])* $field:ident: $type:ty,)*) => {
        /// A step: `on`, one verb, and what goes with it.
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct StepFile {
            $($(#[$meta])* #[serde(default)] pub $field: Option<Spanned<$type>>,)*
        }

        impl StepFile {
            /// The fields that are there, with their places.
            pub fn present(&self) -> Vec<(&'static str, Range<usize>)> {
                let mut present = Vec::new();
                $(if let Some(value) = &self.$field {
                    present.push((stringify!($field), span(&value.referenced)));
                })*
                present
            }
        }
    };
}

step_file! {
    /// The role that does it.
    on: String,

    // Verbs.
    /// Make a socket: `tcp` or `udp`.
    create: String,
    /// Give a socket a local address.
    bind: String,
    /// Wait for connections: an address with `as`, or a socket.
    listen: String,
    /// Wait until a listener has accepted.
    accept: String,
    /// Connect: an address with `as`, or a socket with `to`.
    connect: String,
    /// Write bytes to a TCP socket.
    write: String,
    /// Send a datagram.
    send: String,
    /// Take what was received.
    receive: String,
    /// End a direction.
    shutdown: String,
    /// Close.
    close: String,
    /// Reset.
    abort: String,
    /// Change how a socket behaves.
    set: String,
    /// Join a multicast group.
    join: String,
    /// Leave a multicast group.
    leave: String,
    /// Want nothing more from one source of a group.
    block: String,
    /// Want a source again.
    unblock: String,
    /// Wait until the peer has acknowledged everything.
    flush: String,
    /// Take the remote address from a UDP socket.
    disconnect: String,
    /// Look up a name.
    resolve: ResolveFile,
    /// Say what a text is as an address.
    parse: String,
    /// Wait until something is true of a socket.
    expect: String,

    // Names and addresses.
    /// The name of what the step brings.
    r#as: String,
    /// The address that it is about.
    to: String,
    /// The local address of a new socket.
    local: String,
    /// The address of the other side.
    peer: String,
    /// The message that a datagram answers.
    reply_to: String,
    /// The local address that a datagram leaves from, or the only source that is wanted of a group.
    source: String,
    /// The time-to-live or hop limit of a datagram.
    hop_limit: u32,
    /// The type-of-service or traffic class byte of a datagram.
    traffic_class: u32,

    // Multicast.
    /// The group.
    group: String,
    /// The interface: a name, an index, an address, or `all`.
    interface: String,

    // Settings of a socket.
    /// The IP version of a new socket.
    family: String,
    /// How many connections may wait.
    backlog: u32,
    /// How many connections may be open.
    max_connections: u32,
    /// `allow` or `auto_end`.
    half_open: String,
    /// `auto` or `manual`.
    accepting: String,
    /// `both`, `receive_only` or `send_only`.
    direction: String,
    /// `events`, `pull` or `count`.
    delivery: String,
    /// Whether nothing is read for now.
    paused: bool,
    /// How many bytes are read at a time.
    read_size: u32,
    /// How many payloads are read before reading pauses.
    credit: u32,
    /// How long nothing is read after each payload.
    read_interval: String,
    /// The silence that is announced.
    idle_timeout: String,
    /// How many connections are accepted at all.
    max_accepts: u32,
    /// How long each connection waits to be accepted.
    accept_delay: String,
    /// How long a new connection is not read.
    read_delay: String,
    /// How long the answer to the peer's end is put off.
    close_delay: String,
    /// How long each address has to answer.
    attempt_timeout: String,
    /// How often a connect is tried; 0 as long as there is time.
    retry: u32,
    /// How long to wait in between.
    retry_interval: String,
    /// Options by the names of their constants.
    options: Ordered<Spanned<String>>,
    /// How long a close waits for the peer.
    linger: String,
    /// `send`, `receive` or `both`.
    how: String,

    // Payloads, to be sent or expected.
    /// Text.
    text: String,
    /// The encoding of the text.
    encoding: String,
    /// Hexadecimal digits.
    hex: String,
    /// So many bytes of a pattern.
    pattern: u32,
    /// How many bytes.
    size: u32,
    /// Where they stand in the stream.
    offset: u64,
    /// Whether the last byte that is written is urgent.
    urgent: bool,
    /// Whether more will be written soon.
    more: bool,
    /// How many bytes of a write are handed over at a time.
    slice_size: u32,
    /// How long to wait in between.
    slice_interval: String,
    /// Take at least so many bytes at once.
    at_least: u32,
    /// Take at most so many bytes.
    at_most: u32,
    /// The end of the stream.
    end: bool,
    /// Whether a datagram was cut.
    truncated: bool,

    // Expectations.
    /// The kind of an event.
    event: String,
    /// What a socket can do next.
    state: String,
    /// The kernel's own state of a TCP connection.
    tcp_state: String,
    /// What the kernel knows of a connection: numbers by their names in TcpInfo.
    tcp_info: Ordered<Spanned<u64>>,
    /// How many connections a listener has open.
    connections: u32,
    /// How many connections wait to be accepted.
    queue: u32,
    /// How many bytes were read.
    bytes_read: u64,
    /// How many bytes were written.
    bytes_written: u64,
    /// How many bytes wait to be read.
    receive_queue: u32,
    /// How many datagrams the kernel dropped.
    datagrams_dropped: u64,
    /// Why a socket was closed.
    reason: String,
    /// What a text is: `ipv4`, `ipv6` or `none`.
    is: String,
    /// The port that was looked up.
    port: u32,
    /// The service that was looked up.
    service: String,
    /// An address that was looked up.
    address: String,
    /// How many bytes a write has handed over.
    written: u32,

    // How the step goes.
    /// How long it may take.
    within: String,
    /// Nothing must happen for so long.
    quiet: String,
    /// It must fail with this.
    error: String,
    /// Why the step is there.
    note: String,
}

/// What is to be looked up: one of these.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolveFile {
    /// A host name.
    #[serde(default)]
    pub host: Option<String>,
    /// An address.
    #[serde(default)]
    pub address: Option<String>,
    /// A service name.
    #[serde(default)]
    pub service: Option<String>,
    /// A port.
    #[serde(default)]
    pub port: Option<u16>,
    /// `tcp` or `udp`.
    #[serde(default)]
    pub transport: Option<String>,
}

/// Reads a file.
pub fn load(source: &Source) -> Result<ExerciseFile, Mistake> {
    yaml::read(source, "an exercise", FILE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source { name: "x.yaml".into(), text: text.into() }
    }

    fn mistake_of(text: &str) -> Mistake {
        load(&source(text)).unwrap_err()
    }

    #[test]
    fn a_file_is_read_with_the_places_of_its_values() {
        let text = "exercise: Hello\nhosts: {server: , client: 'unix:/x'}\nsteps:\n  - on: server\n    listen: 8888\n    as: door\n";
        let file = load(&source(text)).unwrap();
        assert_eq!(file.exercise.value, "Hello");
        let roles: Vec<_> = file.hosts.0.iter().map(|(role, _)| role.value.as_str()).collect();
        assert_eq!(roles, ["server", "client"], "in the order of the file");
        let step = &file.steps[0].value;
        let listen = step.listen.as_ref().unwrap();
        assert_eq!(listen.value, "8888");
        assert_eq!(&text[span(&listen.referenced)], "8888");
        assert_eq!(step.present().iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["on", "listen", "r#as"]);
    }

    #[test]
    fn an_unknown_field_gets_a_suggestion() {
        let mistake = mistake_of("exercise: x\nhosts: {a: }\nsteps:\n  - on: a\n    lissten: 1\n");
        assert_eq!(mistake.to_string(), "there is no `lissten` here");
        assert_eq!(mistake.help.as_deref(), Some("did you mean `listen`?"));
    }

    #[test]
    fn what_is_no_exercise_is_refused_in_words() {
        assert_eq!(mistake_of("hosts: {a: }\nsteps: []\n").to_string(), "`exercise` is missing");
        for text in ["", "[", "exercise: x\nexercise: y\n", "\tx: 1", "exercise: [1]\nhosts: {}\nsteps: []", "steps: 1"]
        {
            let mistake = mistake_of(text);
            assert!(!mistake.message.is_empty() && !mistake.message.contains('\n'), "{text:?}: {}", mistake.message);
        }
        let bomb = "a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: [*b,*b,*b,*b]\n";
        assert!(load(&source(bomb)).is_err());
        assert!(mistake_of(&"- ".repeat(100)).message.len() < 200);
        assert!(mistake_of(&" ".repeat(FILE_BYTES + 1)).message.contains("at most"));
    }
}
