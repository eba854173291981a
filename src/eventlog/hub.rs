//! The log of one session as its writers and readers share it.
//!
//! Invariant: number and time are taken under the lock that appends, so the order of numbers is the order of time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::eventlog::cursor::Cursor;
use crate::eventlog::holds::{Held, Holds};
use crate::eventlog::ring::{Ring, Room};
use crate::model::event::{Event, EventFilter, EventRecord};
use crate::model::id::{RequestId, SocketId, SocketUid, WatcherId};
use crate::model::refusal::{Quota, Refusal};
use crate::model::session::Retention;
use crate::model::time::{Clock, Timestamp};

/// A log, its clock, and whoever waits for it. Shared by `Arc`.
pub struct Hub {
    clock: Arc<dyn Clock>,
    log: Mutex<Log>,
    /// Woken, after the lock has been released, whenever something was appended or the log has ended.
    changed: Notify,
    watchers: AtomicU32,
    /// What is held leaves no room for payloads. Changes under the lock of the log.
    full: AtomicBool,
}

struct Log {
    ring: Ring,
    ended: bool,
    /// Sockets that wait for room.
    waiting: HashMap<SocketUid, Waker>,
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
    /// When this piece was written: one moment for all that stands together.
    now: Option<Timestamp>,
}

impl Appender<'_> {
    /// Appends one record and returns its number.
    pub fn push(&mut self, socket: Option<(SocketId, SocketUid)>, request: Option<RequestId>, event: Event) -> u64 {
        let seq = self.ring.head() + 1;
        let time = *self.now.get_or_insert_with(|| self.clock.now());
        self.ring.push(Arc::new(EventRecord { seq, time, socket, request, event }));
        seq
    }

    /// The newest number.
    pub fn head(&self) -> u64 {
        self.ring.head()
    }
}

impl Hub {
    /// A log.
    pub fn new(ring: Ring, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            log: Mutex::new(Log { ring, ended: false, waiting: HashMap::new() }),
            changed: Notify::new(),
            watchers: AtomicU32::new(0),
            full: AtomicBool::new(false),
        })
    }

    /// Appends under the lock whatever `write` pushes, then wakes the readers.
    pub fn append<R>(&self, write: impl FnOnce(&mut Appender<'_>) -> R) -> R {
        let mut log = self.lock();
        let result = write(&mut Appender { ring: &mut log.ring, clock: &*self.clock, now: None });
        self.settle(log);
        self.changed.notify_waiters();
        result
    }

    // === What is held ===

    /// Whether payloads must wait until some of what is held was taken or acknowledged.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// Whether there is room for payloads; where there is none, lets this task know when there is.
    pub fn has_room_or_wakes(&self, uid: SocketUid, cx: &Context<'_>) -> bool {
        let mut log = self.lock();
        if self.is_full() {
            log.waiting.insert(uid, cx.waker().clone());
        }
        !self.is_full()
    }

    /// How many payloads may be read at once, where one may be.
    pub fn reads(&self) -> usize {
        self.lock().ring.reads()
    }

    /// Refuses what would cause events when there is no room for any.
    pub fn expect_room(&self) -> Result<(), Refusal> {
        // Asked for each operation: a log that is not even full of payloads need not be locked for it.
        if !self.is_full() {
            return Ok(());
        }
        let log = self.lock();
        match log.ring.room() {
            Room::Nothing => Err(Refusal::LogFull { held: log.ring.held().events }),
            _ => Ok(()),
        }
    }

    /// Keeps at most so many bytes of payload from now on.
    pub fn set_payload_limit(&self, bytes: u64) {
        let mut log = self.lock();
        log.ring.set_payload_limit(bytes);
        self.settle(log);
    }

    /// How many bytes of payload it has, and at most may have.
    pub fn payload(&self) -> (u64, u64) {
        self.lock().ring.payload()
    }

    /// How much is held.
    pub fn held(&self) -> Held {
        self.lock().ring.held()
    }

    /// What it lets go of.
    pub fn retention(&self) -> Retention {
        if self.lock().ring.holds().is_some() { Retention::Lossless } else { Retention::Ring }
    }

    /// The named watchers, and after which number each holds the log.
    pub fn named_watchers(&self) -> Vec<(WatcherId, u64)> {
        let log = self.lock();
        let holds = log.ring.holds().into_iter();
        holds.flat_map(Holds::watchers).map(|(watcher, through)| (watcher.clone(), through)).collect()
    }

    /// Somebody has taken the payload of this record.
    pub fn take(&self, seq: u64) {
        self.hold(|holds, _| holds.take(seq));
    }

    /// Nobody can take the payloads of this socket any more, and it waits for nothing.
    pub fn give_up(&self, uid: SocketUid) {
        self.lock().waiting.remove(&uid);
        self.hold(|holds, _| holds.give_up(uid));
    }

    /// Whether there is a watcher of this name.
    pub fn knows(&self, watcher: &WatcherId) -> bool {
        self.lock().ring.holds().is_some_and(|holds| holds.knows(watcher))
    }

    /// Lets a watcher hold what it does not acknowledge; answers through where it has, if it has. Absent where nothing is held.
    pub fn hold_for(&self, watcher: &WatcherId, limit: u32) -> Option<Result<Option<u64>, Refusal>> {
        self.hold(|holds, _| {
            if !holds.knows(watcher) && holds.watchers().len() >= limit as usize {
                return Err(Refusal::QuotaExceeded(Quota { limit: "limits.watchers", value: limit.into() }));
            }
            Ok(holds.watch(watcher))
        })
    }

    /// A watcher needs nothing through this number any more; answers through where it has acknowledged in all.
    pub fn acknowledge(&self, watcher: &WatcherId, through: u64) -> Result<u64, Refusal> {
        let acknowledged = self.hold(|holds, head| {
            if through > head { Err(Refusal::FutureEvent { head }) } else { Ok(holds.acknowledge(watcher, through)) }
        });
        acknowledged.transpose()?.flatten().ok_or_else(|| Refusal::WatcherNotFound(watcher.clone()))
    }

    /// Changes what is held, and wakes those for whom that makes room.
    fn hold<R>(&self, change: impl FnOnce(&mut Holds, u64) -> R) -> Option<R> {
        let mut log = self.lock();
        let head = log.ring.head();
        let result = change(log.ring.holds_mut()?, head);
        self.settle(log);
        Some(result)
    }

    /// Sees to it that who waits for room, and who need not, knows it.
    fn settle(&self, mut log: MutexGuard<'_, Log>) {
        let room = log.ring.room();
        if room <= Room::NoPayloads {
            self.full.store(true, Ordering::Release);
        } else if room == Room::Plenty && self.is_full() {
            self.full.store(false, Ordering::Release);
            let waiting = std::mem::take(&mut log.waiting);
            drop(log);
            waiting.into_values().for_each(Waker::wake);
        }
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
