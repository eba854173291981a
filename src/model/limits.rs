//! Every limit of an agent, with its default and the reason for it.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::model::id::shorten;
use crate::model::refusal::Problem;

/// The largest UDP payload over IPv6, and so the longest datagram that a read must be able to take.
pub const READ_SIZE: u32 = 65_536;

macro_rules! limits {
    ($($(#[$meta:meta])* $name:ident: $usual:expr, $range:expr;)*) => {
        /// What bounds an agent's memory and work. GetAgent shows all of it; the names there are the names here.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Limits {
            $($(#[$meta])* pub $name: u32,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $usual,)* }
            }
        }

        impl Limits {
            /// The name of every limit.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            /// The limit of this name.
            pub fn get(&self, name: &str) -> Option<u32> {
                match name {
                    $(stringify!($name) => Some(self.$name),)*
                    _ => None,
                }
            }

            /// Changes the limit of this name.
            pub fn set(&mut self, name: &str, value: u32) -> Result<(), Problem> {
                match name {
                    $(stringify!($name) => {
                        in_range(name, value, $range)?;
                        self.$name = value;
                    })*
                    _ => return Err(Problem::new(format!("there is no limit `{}`: {}", shorten(name), Self::NAMES.join(", ")))),
                }
                Ok(())
            }
        }
    };
}

limits! {
    /// Open sockets of a session. Each costs a descriptor.
    sockets: 1024, 1..=1 << 20;
    /// Sockets of a session that have begun to listen and are open. Each takes connections without being asked.
    listeners: 64, 1..=1 << 16;
    /// Descriptors of the agent that no lab socket gets: connections of controllers, files, lookups. At most half of what RLIMIT_NOFILE allows.
    reserved_descriptors: 336, 0..=1 << 20;
    /// Sessions of a principal, the default session included, expired ones not.
    sessions: 16, 1..=1 << 16;
    /// Sessions of a principal whose lease has expired and whose log can still be read. The one that expired first goes first.
    expired_sessions: 8, 0..=1 << 16;
    /// Watchers of a session. One that has stopped reading costs two batches of events: at most 1.5 MiB.
    watchers: 128, 1..=1 << 16;
    /// Watchers of all sessions. A session has no more of them than it leaves to the others.
    watchers_total: 512, 1..=u32::MAX;
    /// Operations of a session that run or are scheduled. Each costs a task.
    calls: 1024, 1..=1 << 20;
    /// Operations of a session that are remembered after they have ended.
    remembered_calls: 4096, 0..=1 << 20;
    /// Bytes of payload that remembered operations hold.
    remembered_bytes: 4 << 20, 0..=1 << 30;
    /// Bytes of one request's payload.
    payload_bytes: 1 << 20, 1..=1 << 26;
    /// Datagrams of one SendDatagrams.
    datagrams_per_call: 1024, 1..=1 << 16;
    /// Sockets of one CreateSockets. All of them are in its answer, with their labels.
    sockets_per_call: 256, 1..=1 << 12;
    /// Options of one request.
    options_per_call: 64, 1..=1024;
    /// Memberships of one socket in multicast groups, and sources that it blocks: above the kernel's own limits, which are to be seen.
    groups: 512, 0..=1 << 16;
    /// Bytes read from a socket at a time, and so of one event's payload.
    read_size: READ_SIZE, 1..=READ_SIZE;
    /// Bytes of one socket's writes that wait for room in the kernel.
    pending_write_bytes: 4 << 20, 1..=1 << 30;
    /// Bytes of payload of all sessions that wait for room in the kernel, or for their start. A session has no more of it than it leaves to the
    /// others, and a TransferSocket sets its `transfer_bytes` aside.
    pending_write_bytes_total: 1 << 30, 1..=u32::MAX;
    /// Bytes that one TransferSocket takes from its client before the kernel has them. With those of others on the same connection this
    /// should stay below its HTTP/2 window of 4 MiB, or they wait for each other.
    transfer_bytes: 512 << 10, 1..=1 << 30;
    /// Events in the log of a session.
    log_events: 1 << 16, 1..=1 << 24;
    /// Bytes of payload in the log of a session.
    log_bytes: 64 << 20, 1..=u32::MAX;
    /// Bytes of payload in the logs of all sessions. Where there are so many that `log_bytes` each would be more, they share it equally.
    log_bytes_total: 512 << 20, 1..=u32::MAX;
    /// Events that end something and have room of their own in the log of a session.
    log_final_events: 4096, 0..=1 << 24;
    /// Closed sockets of a session that are remembered.
    closed_sockets: 1024, 0..=1 << 20;
    /// Name lookups of the agent at a time. Each blocks a thread.
    lookups: 16, 1..=512;
    /// Items of one page.
    page_size: 1000, 1..=1 << 16;
    /// Connections to the agent, those left out that `logins` counts: so these take no room from them.
    connections: 256, 1..=1 << 16;
    /// Connections of the owner beyond those, when others have them all: a program of eight connections, and another one.
    reserved_connections: 16, 1..=1 << 16;
    /// The same as `connections` of one principal, but for the owner, who is the user that runs the agent: one leaves room for others.
    connections_per_principal: 32, 1..=1 << 16;
    /// Connections by TCP that have not sent a request with credentials yet, TLS handshakes included.
    logins: 64, 1..=1 << 16;
    /// The same from one source: an IPv4 address, or the first 64 bits of an IPv6 address. One source leaves room for another.
    logins_per_source: 32, 1..=1 << 16;
    /// Marks of kernel counters of a principal.
    marks: 64, 1..=1 << 16;
    /// Bytes of one request message: room for the payload in hex, and for the rest.
    message_bytes: 4 << 20, 1 << 12..=1 << 28;
}

/// What a log must be able to hold to be of use, where its own limit is not lower.
const LEAST_LOG_BYTES: u32 = 4 << 20;

/// What a caller can use up: for each of these, GetAgent tells how much is in use and how often more was asked for.
pub const QUOTAS: [&str; 20] = [
    "sockets",
    "listeners",
    "sessions",
    "calls",
    "watchers",
    "watchers_total",
    "groups",
    "log_events",
    "log_bytes",
    "log_bytes_total",
    "pending_write_bytes",
    "pending_write_bytes_total",
    "reserved_descriptors",
    "marks",
    "message_bytes",
    "connections",
    "reserved_connections",
    "connections_per_principal",
    "logins",
    "logins_per_source",
];

/// How much of a quota is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The name of the limit.
    pub name: &'static str,
    /// How much there may be.
    pub limit: u64,
    /// How much is in use, where most is: in one session, of one principal, or in all.
    pub used: u64,
    /// How many requests have been refused because of it.
    pub refused: u64,
}

impl Limits {
    /// How many logs there can be.
    pub fn most_logs(&self) -> u64 {
        u64::from(self.log_bytes_total / LEAST_LOG_BYTES.min(self.log_bytes)).max(1)
    }

    /// How many bytes of payload each of so many logs may hold. None where there cannot be so many.
    pub fn log_share(&self, logs: u64) -> Option<u64> {
        let share = u64::from(self.log_bytes_total) / logs.max(1);
        (logs <= self.most_logs()).then(|| share.clamp(1, self.log_bytes.into()))
    }

    /// How many lab sockets all agents of a process may have open, which may open so many descriptors.
    pub fn lab_descriptors(&self, descriptors: u64) -> u64 {
        descriptors - u64::from(self.reserved_descriptors).min(descriptors / 2)
    }
}

fn in_range(name: &str, value: u32, range: RangeInclusive<u32>) -> Result<(), Problem> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(Problem::new(format!("`{name}` goes from {} to {}, and this is {value}", range.start(), range.end())))
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
    /// For how long a lease is good, and each renewal of it.
    pub lease_ttl: Duration,
    /// For how long a session whose lease has expired can be read.
    pub expired_log: Duration,
    /// How long a default session may go unused before it is reset: a night, and what somebody has left open is gone.
    pub default_session_idle: Duration,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            wait_timeout: Duration::from_secs(10),
            start_tolerance: Duration::from_millis(100),
            heartbeat_interval: Duration::from_secs(5),
            backlog: 511,
            lease_ttl: Duration::from_secs(30),
            expired_log: Duration::from_secs(600),
            default_session_idle: Duration::from_secs(12 * 3600),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_share_what_there_is_for_all() {
        let limits = Limits::default();
        assert_eq!((limits.log_share(1), limits.log_share(8)), (Some(64 << 20), Some(64 << 20)));
        assert_eq!((limits.log_share(16), limits.log_share(128)), (Some(32 << 20), Some(4 << 20)));
        assert_eq!(limits.log_share(129), None);
        let (log_bytes, log_bytes_total) = (100, 250);
        let small = Limits { log_bytes, log_bytes_total, ..limits };
        assert_eq!([1, 2, 3].map(|logs| small.log_share(logs)), [Some(100), Some(100), None]);
    }

    #[test]
    fn every_quota_is_a_limit() {
        for name in QUOTAS {
            assert!(Limits::default().get(name).is_some_and(|usual| usual > 0), "{name}");
        }
    }

    #[test]
    fn every_limit_can_be_set_within_its_range() {
        for name in Limits::NAMES {
            let mut limits = Limits::default();
            let boundless = name.starts_with("log_bytes") || name.ends_with("_total");
            assert_eq!(limits.set(name, u32::MAX).is_ok(), boundless, "{name}");
            limits.set(name, 4097).or_else(|_| limits.set(name, 7)).unwrap();
            assert_ne!(limits, Limits::default(), "{name}");
        }
        let small = Limits { reserved_descriptors: 300, ..Limits::default() };
        assert_eq!([0, 1, 400, 600, 1024].map(|all| small.lab_descriptors(all)), [0, 1, 200, 300, 724]);
        let unknown = Limits::default().set("socketz", 1).unwrap_err();
        assert!(unknown.to_string().starts_with("there is no limit `socketz`: sockets, listeners"), "{unknown}");
    }
}
