//! Options that walks set and read: each by setsockopt(2) of the test, and by its name through the agent.

use std::io;
use std::time::Duration;

use farsock::wire::pb;
use pb::socket_option::Value;
use socket2::Socket;

/// An option, with values that Linux takes, values that it does not take, and values that it takes at some time only.
pub struct Row {
    pub name: &'static str,
    transport: Option<pb::Transport>,
    family: Option<pb::Family>,
    kind: Kind,
    pub values: &'static [i32],
    pub set: fn(&Socket, i32) -> io::Result<()>,
    pub get: fn(&Socket) -> io::Result<i32>,
}

#[derive(Clone, Copy)]
enum Kind {
    Enabled,
    Number,
    Linger,
}

const SWITCH: &[i32] = &[0, 1];

/// SO_LINGER: off, or zero; what waits would block the test.
const NO_LINGER: i32 = -1;

const ROWS: &[Row] = &[
    Row {
        name: "SO_REUSEADDR",
        transport: None,
        family: None,
        kind: Kind::Enabled,
        values: SWITCH,
        set: |socket, on| socket.set_reuse_address(on != 0),
        get: |socket| socket.reuse_address().map(i32::from),
    },
    Row {
        name: "SO_KEEPALIVE",
        transport: Some(pb::Transport::Tcp),
        family: None,
        kind: Kind::Enabled,
        values: SWITCH,
        set: |socket, on| socket.set_keepalive(on != 0),
        get: |socket| socket.keepalive().map(i32::from),
    },
    Row {
        name: "SO_LINGER",
        transport: Some(pb::Transport::Tcp),
        family: None,
        kind: Kind::Linger,
        values: &[NO_LINGER, 0],
        set: |socket, seconds| socket.set_linger(u64::try_from(seconds).ok().map(Duration::from_secs)),
        get: |socket| Ok(socket.linger()?.map_or(NO_LINGER, |linger| linger.as_secs().try_into().unwrap())),
    },
    Row {
        name: "SO_BROADCAST",
        transport: Some(pb::Transport::Udp),
        family: None,
        kind: Kind::Enabled,
        values: SWITCH,
        set: |socket, on| socket.set_broadcast(on != 0),
        get: |socket| socket.broadcast().map(i32::from),
    },
    Row {
        name: "SO_RCVBUF",
        transport: None,
        family: None,
        kind: Kind::Number,
        values: &[100_000, i32::MAX],
        set: |socket, size| socket.set_recv_buffer_size(size.try_into().unwrap()),
        get: |socket| Ok(socket.recv_buffer_size()?.try_into().unwrap()),
    },
    Row {
        name: "SO_PRIORITY",
        transport: None,
        family: None,
        kind: Kind::Number,
        values: &[0, 6],
        set: |socket, priority| socket.set_priority(priority.try_into().unwrap()),
        get: |socket| Ok(socket.priority()?.try_into().unwrap()),
    },
    Row {
        name: "TCP_NODELAY",
        transport: Some(pb::Transport::Tcp),
        family: None,
        kind: Kind::Enabled,
        values: SWITCH,
        set: |socket, on| socket.set_tcp_nodelay(on != 0),
        get: |socket| socket.tcp_nodelay().map(i32::from),
    },
    Row {
        name: "TCP_MAXSEG",
        transport: Some(pb::Transport::Tcp),
        family: None,
        kind: Kind::Number,
        values: &[1, 87, 88, 1000, 32_767],
        set: |socket, size| socket.set_tcp_mss(size.try_into().unwrap()),
        get: |socket| Ok(socket.tcp_mss()?.try_into().unwrap()),
    },
    Row {
        name: "IP_TTL",
        transport: None,
        family: Some(pb::Family::Ipv4),
        kind: Kind::Number,
        values: &[1, 64, 255],
        set: |socket, hops| socket.set_ttl_v4(hops.try_into().unwrap()),
        get: |socket| Ok(socket.ttl_v4()?.try_into().unwrap()),
    },
    Row {
        name: "IPV6_UNICAST_HOPS",
        transport: None,
        family: Some(pb::Family::Ipv6),
        kind: Kind::Number,
        values: &[0, 1, 64, 255],
        set: |socket, hops| socket.set_unicast_hops_v6(hops.try_into().unwrap()),
        get: |socket| Ok(socket.unicast_hops_v6()?.try_into().unwrap()),
    },
    // Only before the socket has an address.
    Row {
        name: "IPV6_V6ONLY",
        transport: None,
        family: Some(pb::Family::Ipv6),
        kind: Kind::Enabled,
        values: &[1],
        set: |socket, on| socket.set_only_v6(on != 0),
        get: |socket| socket.only_v6().map(i32::from),
    },
];

/// Those that such a socket has.
pub fn rows(transport: pb::Transport, family: pb::Family) -> Vec<&'static Row> {
    let fits = |row: &&Row| row.transport.is_none_or(|of| of == transport) && row.family.is_none_or(|of| of == family);
    ROWS.iter().filter(fits).collect()
}

impl Row {
    /// What the agent is asked to set.
    pub fn asked(&self, value: i32) -> pb::SocketOption {
        let value = match self.kind {
            Kind::Enabled => Value::Enabled(value != 0),
            Kind::Linger if value == NO_LINGER => Value::Enabled(false),
            Kind::Linger => Value::Duration(prost_types::Duration { seconds: value.into(), nanos: 0 }),
            Kind::Number => Value::Number(value),
        };
        pb::SocketOption { name: self.name.into(), value: Some(value) }
    }

    /// Whether the kernel moves the value by itself, as the timing of packets has it: two plain sockets of the same story differ in it, too.
    /// The MSS of a connection is at most half of the largest window that its peer has shown so far.
    pub fn moves(&self, connected: bool) -> bool {
        self.name == "TCP_MAXSEG" && connected
    }

    /// What a socket of the test's has, in a word.
    pub fn near(&self, socket: &Socket) -> String {
        (self.get)(socket).map_or_else(|error| error.to_string(), |value| self.word(&self.asked(value)))
    }

    /// What the agent says that its socket has, in the same word.
    pub fn far(&self, result: &pb::OptionResult) -> String {
        match (&result.error, &result.effective) {
            (Some(error), _) => error.name.clone(),
            (None, Some(effective)) => self.word(effective),
            (None, None) => "nothing".to_owned(),
        }
    }

    fn word(&self, option: &pb::SocketOption) -> String {
        match &option.value {
            Some(Value::Enabled(on)) => format!("{} {on}", self.name),
            Some(Value::Number(number)) => format!("{} {number}", self.name),
            other => format!("{} {other:?}", self.name),
        }
    }
}
