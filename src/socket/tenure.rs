//! How long sessions live, and how they end: a task each watches over a lease, or over a default session that nobody may be using any
//! more.
//!
//! Invariant: the lease ends before anything that it holds is closed, and that is over before `lease_expired` tells so, which is the last
//! event of its session.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::eventlog::hub::WatchPermit;
use crate::model::event::Event;
use crate::model::id::{Principal, RequestId, SessionId};
use crate::model::operation::SessionView;
use crate::model::own_deed::OwnDeed;
use crate::model::refusal::Refusal;
use crate::model::session::{LeaseSpec, LeaseView, OrphanPolicy, SessionState};
use crate::model::socket::CloseReason;
use crate::model::time::Timestamp;
use crate::session::lease::{Due, Lease};
use crate::socket::cell::{Cell, lock};
use crate::socket::command::{Command, EventRange, Order, Ticket};
use crate::socket::pool::Allowance;
use crate::socket::session::Session;
use crate::socket::sockets::Sockets;

/// How long nobody looks at the clock, at the most. A timer of the runtime stands still while the host sleeps; the clock does not.
const LEASE_LOOK: Duration = Duration::from_secs(1);
/// The same for default sessions, where minutes do not matter.
const IDLE_LOOK: Duration = Duration::from_secs(60);

/// What a session lives by.
pub(super) enum Tenure {
    /// Being renewed.
    Leased {
        lease: Mutex<Lease>,
        /// What becomes of its connections afterwards.
        orphans: OrphanPolicy,
    },
    /// Nothing: it is always there. What it holds lives by being used.
    Default {
        /// When that was last done, in nanoseconds of the agent's clock.
        used: AtomicI64,
    },
}

/// Somebody reads the events of a session.
pub(super) struct Presence {
    session: Arc<Session>,
    _permit: WatchPermit,
    _allowance: Allowance,
}

impl Tenure {
    pub(super) fn new(id: &SessionId, spec: LeaseSpec, usual_ttl: Duration, now: Timestamp) -> Self {
        if id.is_default() {
            return Self::Default { used: AtomicI64::new(now.nanos()) };
        }
        let lease = Lease::new(spec.ttl.unwrap_or(usual_ttl), now);
        Self::Leased { lease: Mutex::new(lease), orphans: spec.orphans }
    }
}

impl Presence {
    /// Counts one more watcher in, of which the session may have so many.
    pub(super) fn begin(session: Arc<Session>, limit: u32) -> Result<Self, Refusal> {
        let permit = session.hub.watch(limit)?;
        let allowance = session.watchers.take(1)?;
        Ok(Self { session, _permit: permit, _allowance: allowance })
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.session.note_use();
    }
}

impl Session {
    /// How it stands with its lease.
    pub(super) fn lease(&self) -> (SessionState, Option<LeaseView>) {
        match &self.tenure {
            Tenure::Default { .. } => (SessionState::Active, None),
            Tenure::Leased { lease, orphans } => {
                let (mut lease, now) = (lock(lease), self.clock.now());
                let view = LeaseView { ttl: lease.ttl(), left: lease.left(now), orphans: *orphans };
                (lease.state(now), Some(view))
            }
        }
    }

    /// Refuses what needs more than what can be read.
    pub(super) fn check_lease(&self) -> Result<(), Refusal> {
        match self.lease().0 {
            SessionState::Active => Ok(()),
            SessionState::Expiring | SessionState::Expired => Err(Refusal::LeaseExpired(self.id.clone())),
        }
    }

    /// Notes that somebody has used it.
    pub(super) fn note_use(&self) {
        if let Tenure::Default { used } = &self.tenure {
            used.fetch_max(self.clock.now().nanos(), Ordering::AcqRel);
        }
    }

    /// Whether its connections are reset, and not closed, when it ends for that reason.
    pub(super) fn aborts(&self, reason: CloseReason) -> bool {
        let expires = reason == CloseReason::LeaseExpired;
        expires && matches!(self.tenure, Tenure::Leased { orphans: OrphanPolicy::Abort, .. })
    }

    /// Tells what concerns the whole agent, unless the session is over: then there is nothing more to tell.
    pub(super) fn announce(&self, event: Event) {
        let append = || self.hub.append(|log| log.push(None, None, event));
        match &self.tenure {
            Tenure::Default { .. } => {
                append();
            }
            Tenure::Leased { lease, .. } => {
                // Held meanwhile, so that it cannot come to stand behind `lease_expired`.
                let mut lease = lock(lease);
                if lease.state(self.clock.now()) == SessionState::Active {
                    append();
                }
            }
        }
    }

    /// Closes all sockets and frees all names; the log goes on.
    pub(super) async fn reset(&self, request: Option<&RequestId>) -> (Vec<Arc<Cell>>, EventRange) {
        self.cancel_calls(request);
        let (cells, mut events) = self.close_all(CloseReason::SessionReset, request).await;
        lock(&self.names).forget_closed();
        let reset = Event::SessionReset { closed_sockets: count(&cells) };
        events.add(EventRange::one(self.hub.append(|log| log.push(None, request.cloned(), reset))));
        (cells, events)
    }

    /// Lets nothing new begin, cancels all operations, closes all sockets, and tells what was still open, also where the lease has ended
    /// it before.
    pub(super) async fn end(&self, reason: CloseReason) -> Vec<Arc<Cell>> {
        self.ended.cancel();
        self.cancel_calls(None);
        let mut closed = self.closed.lock().await;
        closed.extend(self.close_all(reason, None).await.0);
        closed.clone()
    }

    /// Closes all sockets, and tells which they were and which events that made. Connections that come in meanwhile are closed, too.
    async fn close_all(&self, reason: CloseReason, request: Option<&RequestId>) -> (Vec<Arc<Cell>>, EventRange) {
        let mut closed = Vec::new();
        let mut events = EventRange::default();
        let abort = self.aborts(reason);
        // When the first round is over there is no listener left that could take new connections.
        for _ in 0..2 {
            let cells = lock(&self.names).open_sockets();
            let mut answers = Vec::with_capacity(cells.len());
            for cell in &cells {
                let (ticket, answer) = Ticket::new(request.cloned(), Instant::now());
                let command = Command { order: Order::End { reason, abort }, ticket };
                if cell.commands.send(Box::new(command)).await.is_ok() {
                    answers.push(answer);
                }
            }
            for answer in answers {
                // A driver that is gone has closed its socket all the same.
                if let Ok(Ok(done)) = answer.await {
                    events.add(done.events);
                }
            }
            closed.extend(cells);
        }
        (closed, events)
    }

    /// Cancels all operations but one.
    fn cancel_calls(&self, but: Option<&RequestId>) {
        for call in lock(&self.calls).running() {
            if but != Some(&call.request) {
                call.cancel();
            }
        }
    }

    /// Closes everything because nobody has renewed the lease.
    async fn expire(&self, lease: &Mutex<Lease>) {
        self.note(|owner, session| OwnDeed::Expired { owner, session });
        self.cancel_calls(None);
        let mut closed = self.closed.lock().await;
        let (cells, _) = self.close_all(CloseReason::LeaseExpired, None).await;
        lock(lease).end();
        let expired = Event::LeaseExpired { closed_sockets: count(&cells) };
        closed.extend(cells);
        self.hub.append(|log| log.push(None, None, expired));
        self.hub.end();
    }

    /// Waits until the lease has ended, and tells when it is about to.
    async fn lease_end(&self, lease: &Mutex<Lease>) {
        loop {
            let due = lock(lease).due(self.clock.now());
            match due {
                Due::Nothing { until } => self.sleep(until, LEASE_LOOK).await,
                Due::Warning { left } => {
                    self.hub.append(|log| log.push(None, None, Event::LeaseExpiring { left }));
                }
                Due::End => return,
            }
        }
    }

    /// Waits until nobody has used it for a while.
    async fn idle_end(&self, used: &AtomicI64, idle: Duration) {
        loop {
            if self.hub.watcher_count() > 0 {
                self.note_use();
            }
            let until = Timestamp::from_nanos(used.load(Ordering::Acquire)).after(idle);
            if self.clock.now() >= until {
                return;
            }
            self.sleep(until, IDLE_LOOK).await;
        }
    }

    /// Sleeps until a moment of the agent's clock, or until it is to be looked at again.
    async fn sleep(&self, until: Timestamp, look: Duration) {
        sleep_until(Instant::now() + until.since(self.clock.now()).min(look)).await;
    }
}

impl Sockets {
    /// Renews a session's lease, from the moment at which that was asked for.
    pub fn renew(&self, principal: &Principal, id: &SessionId, asked: Timestamp) -> Result<SessionView, Refusal> {
        self.check_draining()?;
        let session = self.session(principal, id)?;
        let Tenure::Leased { lease, .. } = &session.tenure else {
            return Err(Refusal::invalid("session_id", "the default session has no lease, and needs no renewal"));
        };
        if !lock(lease).renew(asked, self.now()) {
            return Err(Refusal::LeaseExpired(id.clone()));
        }
        Ok(session.view())
    }

    /// Watches over a session, as long as it is there.
    pub(super) fn keep(&self, principal: &Principal, number: u64, session: &Arc<Session>) {
        let (sockets, principal, session) = (self.clone(), principal.clone(), Arc::clone(session));
        self.spawn(async move {
            match &session.tenure {
                Tenure::Leased { lease, .. } => sockets.keep_leased(&principal, number, &session, lease).await,
                Tenure::Default { used } => sockets.keep_default(&session, used).await,
            }
        });
    }

    async fn keep_leased(&self, principal: &Principal, number: u64, session: &Session, lease: &Mutex<Lease>) {
        if session.ended.run_until_cancelled(session.lease_end(lease)).await.is_none() {
            return;
        }
        session.expire(lease).await;
        self.forget(|roster| roster.expire(principal, number));
        let until = self.now().after(self.defaults().expired_log);
        let over = async {
            while self.now() < until {
                session.sleep(until, LEASE_LOOK).await;
            }
        };
        if session.ended.run_until_cancelled(over).await.is_some() {
            self.forget(|roster| roster.forget(principal, number));
        }
    }

    async fn keep_default(&self, session: &Session, used: &AtomicI64) {
        let idle = self.defaults().default_session_idle;
        while session.ended.run_until_cancelled(session.idle_end(used, idle)).await.is_some() {
            session.note_use();
            if session.is_in_use() {
                session.reset(None).await;
            }
        }
    }
}

fn count(cells: &[Arc<Cell>]) -> u32 {
    u32::try_from(cells.len()).unwrap_or(u32::MAX)
}
