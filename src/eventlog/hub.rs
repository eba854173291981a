//! The log of one session as its writers and readers share it.
//!
//! Invariant: number and time are taken under the lock that appends, so the order of numbers is the order of time.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::eventlog::cursor::Cursor;
use crate::eventlog::ring::{Ring, RingLimits};
use crate::model::event::{Event, EventFilter, EventRecord};
use crate::model::id::{RequestId, SocketId, SocketUid};
use crate::model::refusal::{Quota, Refusal};
use crate::model::time::Clock;

/// A log, its clock, and whoever waits for it. Shared by `Arc`.
pub struct Hub {
    clock: Arc<dyn Clock>,
    log: Mutex<Log>,
    /// Woken, after the lock has been released, whenever something was appended or the log has ended.
    changed: Notify,
    watchers: AtomicU32,
}

struct Log {
    ring: Ring,
    ended: bool,
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// With the oldest record that is kept.
    Oldest,
    /// After the record of this number.
    After(u64),
    /// With what is appended from now on.
    Now,
}

/// A log that is locked for appending: what is pushed through one of these stands together.
pub struct Appender<'a> {
    ring: &'a mut Ring,
    clock: &'a dyn Clock,
}

impl Appender<'_> {
    /// Appends one record and returns its number.
    pub fn push(&mut self, socket: Option<(SocketId, SocketUid)>, request: Option<RequestId>, event: Event) -> u64 {
        let seq = self.ring.head() + 1;
        self.ring.push(Arc::new(EventRecord { seq, time: self.clock.now(), socket, request, event }));
        seq
    }

    /// The newest number.
    pub fn head(&self) -> u64 {
        self.ring.head()
    }
}

impl Hub {
    /// An empty log.
    pub fn new(limits: RingLimits, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            log: Mutex::new(Log { ring: Ring::new(limits), ended: false }),
            changed: Notify::new(),
            watchers: AtomicU32::new(0),
        })
    }

    /// Appends under the lock whatever `write` pushes, then wakes the readers.
    pub fn append<R>(&self, write: impl FnOnce(&mut Appender<'_>) -> R) -> R {
        let result = write(&mut Appender { ring: &mut self.lock().ring, clock: &*self.clock });
        self.changed.notify_waiters();
        result
    }

    /// Says that nothing more will come: readers end when they have read everything.
    pub fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_waiters();
    }

    /// The numbers of the oldest kept and the newest record; 0 where there is none.
    pub fn bounds(&self) -> (u64, u64) {
        let log = self.lock();
        (log.ring.oldest(), log.ring.head())
    }

    /// The record of this number, if it is kept.
    pub fn get(&self, seq: u64) -> Option<Arc<EventRecord>> {
        self.lock().ring.get(seq).cloned()
    }

    /// A reader that begins there.
    pub fn cursor(self: &Arc<Self>, from: From, filter: EventFilter) -> Result<Cursor, Refusal> {
        let log = self.lock();
        let position = match from {
            From::Oldest => log.ring.start(),
            From::Now => log.ring.end(),
            From::After(seq) if seq > log.ring.head() => {
                return Err(Refusal::FutureEvent { head: log.ring.head() });
            }
            From::After(seq) => log.ring.after(seq),
        };
        drop(log);
        Ok(Cursor::new(Arc::clone(self), position, filter))
    }

    /// Counts a watcher in, until the permit is dropped.
    pub fn watch(self: &Arc<Self>, limit: u32) -> Result<WatchPermit, Refusal> {
        let admitted = self.watchers.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < limit).then(|| n + 1));
        match admitted {
            Ok(_) => Ok(WatchPermit(Arc::clone(self))),
            Err(_) => Err(Refusal::QuotaExceeded(Quota { limit: "limits.watchers", value: limit.into() })),
        }
    }

    /// How many watchers there are.
    pub fn watcher_count(&self) -> u32 {
        self.watchers.load(Ordering::Acquire)
    }

    /// Reads the ring under the lock; the flag says that the log has ended.
    pub(super) fn read<R>(&self, read: impl FnOnce(&Ring, bool) -> R) -> R {
        let log = self.lock();
        read(&log.ring, log.ended)
    }

    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        // A panic while the lock is held would have been a bug of the ring; its records are still whole.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A watcher that is counted.
pub struct WatchPermit(Arc<Hub>);

impl Drop for WatchPermit {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Ordering::AcqRel);
    }
}
