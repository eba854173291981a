//! Every limit of an agent, with its default and the reason for it.

use std::time::Duration;

/// The largest UDP payload over IPv6, and so the longest datagram that a read must be able to take.
pub const READ_SIZE: u32 = 65_536;

/// What bounds an agent's memory and work. GetAgent shows all of it; the names there are the names here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Open sockets of a session. Each costs a descriptor.
    pub sockets: u32,
    /// Sessions of a principal, the default session included.
    pub sessions: u32,
    /// Watchers of a session. Each costs what HTTP/2 buffers for it, about 100 KiB when it stalls.
    pub watchers: u32,
    /// Operations of a session that run or are scheduled. Each costs a task.
    pub calls: u32,
    /// Operations of a session that are remembered after they have ended.
    pub remembered_calls: u32,
    /// Bytes of payload that remembered operations hold.
    pub remembered_bytes: u32,
    /// Bytes of one request's payload.
    pub payload_bytes: u32,
    /// Datagrams of one SendDatagrams.
    pub datagrams_per_call: u32,
    /// Options of one request.
    pub options_per_call: u32,
    /// Bytes read from a socket at a time, and so of one event's payload.
    pub read_size: u32,
    /// Bytes of one socket's writes that wait for room in the kernel.
    pub pending_write_bytes: u32,
    /// Events in the log of a session.
    pub log_events: u32,
    /// Bytes of payload in the log of a session.
    pub log_bytes: u32,
    /// Events that end something and have room of their own in the log of a session.
    pub log_final_events: u32,
    /// Closed sockets of a session that are remembered.
    pub closed_sockets: u32,
    /// Name lookups of the agent at a time. Each blocks a thread.
    pub lookups: u32,
    /// Items of one page.
    pub page_size: u32,
    /// Connections to the agent.
    pub connections: u32,
    /// Marks of kernel counters of a principal.
    pub marks: u32,
    /// Bytes of one request message: room for the payload in hex, and for the rest.
    pub message_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sockets: 1024,
            sessions: 16,
            watchers: 128,
            calls: 1024,
            remembered_calls: 4096,
            remembered_bytes: 4 << 20,
            payload_bytes: 1 << 20,
            datagrams_per_call: 1024,
            options_per_call: 64,
            read_size: READ_SIZE,
            pending_write_bytes: 4 << 20,
            log_events: 1 << 16,
            log_bytes: 64 << 20,
            log_final_events: 4096,
            closed_sockets: 1024,
            lookups: 16,
            page_size: 1000,
            connections: 256,
            marks: 64,
            message_bytes: 4 << 20,
        }
    }
}

/// What an agent uses where a request is silent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// How long a connect may take.
    pub connect_timeout: Duration,
    /// How long any other waiting may take.
    pub wait_timeout: Duration,
    /// How long a start time may have passed: as far as clocks of one lab commonly disagree.
    pub start_tolerance: Duration,
    /// How often a watcher gets a sign of life.
    pub heartbeat_interval: Duration,
    /// The backlog of a listener: Node's.
    pub backlog: u32,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            wait_timeout: Duration::from_secs(10),
            start_tolerance: Duration::from_millis(100),
            heartbeat_interval: Duration::from_secs(5),
            backlog: 511,
        }
    }
}
