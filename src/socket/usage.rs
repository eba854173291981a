//! What sessions have in use of what there is for all of them, and how the logs share theirs.
//!
//! Invariant: however much each log takes of what it may, all of them together stay within `log_bytes_total`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::OwnedSemaphorePermit;

use crate::model::limits::{Limits, QUOTAS, Usage};
use crate::model::refusal::{Quota, Refusal};
use crate::session::roster::Roster;
use crate::socket::cell::{Cell, lock};
use crate::socket::session::Session;
use crate::socket::sockets::Sockets;
use crate::sys::process;
use crate::sys::socket::open_count;

/// How often each quota has kept somebody from something.
#[derive(Debug, Default)]
pub struct Refusals([AtomicU64; QUOTAS.len()]);

impl Refusals {
    /// Counts a refusal, by the limit that it names: `limits.sockets`.
    pub fn add(&self, limit: &str) {
        let name = limit.trim_start_matches("limits.");
        for (_, count) in QUOTAS.iter().zip(&self.0).filter(|(quota, _)| **quota == name) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counts(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(|count| count.load(Ordering::Relaxed))
    }
}

/// The place of one listener.
#[derive(Debug)]
pub(super) struct ListenerPlace(
    #[expect(dead_code, reason = "held, and given back when it is dropped")] OwnedSemaphorePermit,
);

/// Whether there may be one more log: each would have room enough, and none holds so much that all together could come to hold too much.
pub(super) fn has_log_room(limits: &Limits, roster: &Roster<Arc<Session>>) -> Result<(), Refusal> {
    let total = u64::from(limits.log_bytes_total);
    let none = Refusal::QuotaExceeded(Quota { limit: "limits.log_bytes_total", value: total });
    let sessions = roster.all();
    let share = limits.log_share(sessions.len() as u64 + 1).ok_or_else(|| none.clone())?;
    let held = sessions.iter().map(|session| session.hub.held().payload_bytes.max(share));
    if held.sum::<u64>() + share > total { Err(none) } else { Ok(()) }
}

/// Lets each log hold as much as there is for it now.
pub(super) fn share_logs(limits: &Limits, roster: &Roster<Arc<Session>>) {
    let sessions = roster.all();
    let share = limits.log_share(sessions.len() as u64).unwrap_or(1);
    for session in sessions.iter().filter(|session| session.hub.payload().1 != share) {
        session.hub.set_payload_limit(share);
    }
}

impl Session {
    /// Lets one more socket listen, for as long as its place is kept.
    pub(super) fn begin_to_listen(&self) -> Result<ListenerPlace, Refusal> {
        let listeners = Arc::clone(&self.listeners.0);
        listeners.try_acquire_owned().map(ListenerPlace).map_err(|_| {
            let value = self.listeners.1.into();
            Refusal::QuotaExceeded(Quota { limit: "limits.listeners", value })
        })
    }

    /// How many sockets do that.
    pub(super) fn listener_count(&self) -> u32 {
        let left = u32::try_from(self.listeners.0.available_permits()).unwrap_or(u32::MAX);
        self.listeners.1.saturating_sub(left)
    }
}

impl Sockets {
    /// Whether lab sockets may have one more descriptor. The limit of the process is asked for each time: somebody may change it.
    pub(super) fn has_descriptor(&self) -> Result<(), Refusal> {
        let sockets = self.limits().lab_descriptors(process::descriptor_limit());
        if open_count() < sockets {
            return Ok(());
        }
        Err(Refusal::OutOfDescriptors { sockets, reserved: self.limits().reserved_descriptors })
    }

    /// How much is in use of what callers can use up. `elsewhere` tells it of what sockets and sessions know nothing of.
    pub fn usage(&self, elsewhere: impl Fn(&'static str) -> Option<u64>) -> Vec<Usage> {
        let limits = self.limits();
        let (sessions, most_sessions) = {
            let roster = lock(self.roster());
            (roster.all(), roster.most_of_one())
        };
        let most = |count: fn(&Session) -> u64| sessions.iter().map(|session| count(session)).max().unwrap_or(0);
        let payload = |session: &Arc<Session>| session.hub.payload().0;
        let most_of_socket = |count: fn(&Cell) -> u64| {
            let of = |session: &Arc<Session>| lock(&session.names).open_sockets().iter().map(|cell| count(cell)).max();
            sessions.iter().filter_map(of).max().unwrap_or(0)
        };
        let usage = |name: &'static str| {
            let limit = limits.get(name).unwrap_or(0).into();
            match name {
                "sockets" => (limit, most(|session| lock(&session.names).open_count() as u64)),
                "listeners" => (limit, most(|session| session.listener_count().into())),
                "sessions" => (limit, most_sessions as u64),
                "calls" => (limit, most(|session| lock(&session.calls).running_count() as u64)),
                "watchers" => (limit, most(|session| session.hub.watcher_count().into())),
                "watchers_total" => (limit, self.watchers().taken()),
                "groups" => (limit, most_of_socket(|cell| cell.status().groups.len() as u64)),
                "log_events" => (limit, most(|session| session.hub.held().events)),
                "log_bytes" => {
                    let share = limits.log_share(sessions.len() as u64).unwrap_or(limit);
                    (share, sessions.iter().map(payload).max().unwrap_or(0))
                }
                "log_bytes_total" => (limit, sessions.iter().map(payload).sum()),
                "pending_write_bytes" => {
                    (limit, most_of_socket(|cell| cell.pending_write_bytes.load(Ordering::Acquire).into()))
                }
                "pending_write_bytes_total" => (limit, self.pending().taken()),
                "reserved_descriptors" => (limits.lab_descriptors(process::descriptor_limit()), open_count()),
                // What bounds each request by itself is never in use. Of any other quota without a reading its test finds that.
                _ => (limit, elsewhere(name).unwrap_or(0)),
            }
        };
        let counted = QUOTAS.into_iter().zip(self.refusals().counts());
        let with_count = |(name, refused)| {
            let (limit, used) = usage(name);
            Usage { name, limit, used, refused }
        };
        counted.map(with_count).collect()
    }
}
