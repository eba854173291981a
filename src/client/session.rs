//! A session that this client holds: its lease is renewed in the background, and when it is lost, everything that uses it is told so before
//! anything else is sent.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::AbortOnDropHandle;

use crate::client::agent_client::{AgentClient, Renewer};
use crate::client::error::ClientError;
use crate::client::lease::{Due, Lease, LeaseLoss};
use crate::client::watch::chance;
use crate::model::feature::Feature;
use crate::model::id::SessionId;
use crate::model::operation::{Action, CallOptions, Yield};
use crate::model::session::{Retention, SessionSpec};
use crate::model::time::{Clock, Timestamp};
use crate::model::view::SocketView;
use crate::sys::clock::SystemClock;

/// How long nobody looks at the clock, at the most. A timer of the runtime stands still while the host sleeps; the clock does not.
const LOOK: Duration = Duration::from_secs(1);

/// A session of an agent's, and its lease.
///
/// The lease is renewed three times within its TTL, for as long as this lives. Once it is lost, because the agent says so or because no
/// renewal was answered for a TTL, counted from when it was sent, that is for good: [`Self::lost`] tells it, calls of [`Self::client`] and
/// streams that it has made fail with [`ClientError::LeaseLost`], those that are under way, too, and nothing more is sent. So a client never
/// uses a socket that the agent may have closed already.
///
/// Without [`Self::delete`], the session ends by itself a TTL after this is dropped.
pub struct Session {
    client: AgentClient,
    gate: Arc<Gate>,
    _keeper: AbortOnDropHandle<()>,
}

impl AgentClient {
    /// Makes a session and holds it. The agent names it where `id` is absent.
    pub async fn open_session(&self, id: Option<&SessionId>, spec: SessionSpec) -> Result<Session, ClientError> {
        self.open_session_by(Arc::new(SystemClock::start()), id, spec).await
    }

    /// The same, by another clock: one that stands still while the host sleeps would not do.
    pub async fn open_session_by(
        &self,
        clock: Arc<dyn Clock>,
        id: Option<&SessionId>,
        spec: SessionSpec,
    ) -> Result<Session, ClientError> {
        self.needs(Feature::Leases).await?;
        if spec.retention == Retention::Lossless {
            self.needs(Feature::Lossless).await?;
        }
        let asked = clock.now();
        let create = Action::CreateSession { session: id.cloned(), spec };
        let Yield::Session(created, _) = self.call(&create, &CallOptions::default()).await?.yielded else {
            return Err(ClientError::protocol("a session was made without a word about it"));
        };
        let lease = created.lease.ok_or_else(|| ClientError::protocol("a session was made without a lease"))?;
        let gate = Arc::new(Gate::new(created.id, Lease::new(lease.ttl, asked), clock));
        let keeper = tokio::spawn(keep(Arc::clone(&gate), self.renewer()));
        let client = self.held_by(Arc::clone(&gate));
        Ok(Session { client, gate, _keeper: AbortOnDropHandle::new(keeper) })
    }
}

impl Session {
    /// Its name.
    pub fn id(&self) -> &SessionId {
        &self.gate.session
    }

    /// Calls the agent as long as the lease is held.
    pub fn client(&self) -> &AgentClient {
        &self.client
    }

    /// Waits until the lease is lost, and tells why.
    pub async fn lost(&self) -> ClientError {
        self.gate.lost().await
    }

    /// Why it cannot be used any more, if it cannot.
    pub fn check(&self) -> Result<(), ClientError> {
        self.gate.check()
    }

    /// Closes all of its sockets and forgets it, also when the lease is lost. Tells which sockets were still open.
    pub async fn delete(&self) -> Result<Vec<SocketView>, ClientError> {
        let delete = Action::DeleteSession { session: self.id().clone(), allow_missing: true };
        let deleted = self.client.call(&delete, &CallOptions::default()).await?;
        self.gate.lose(LeaseLoss::Gone);
        match deleted.yielded {
            Yield::Session(_, closed) => Ok(closed),
            _ => Ok(Vec::new()),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("id", self.id()).field("held", &self.check()).finish_non_exhaustive()
    }
}

/// What everything that uses a session goes through.
pub(super) struct Gate {
    session: SessionId,
    clock: Arc<dyn Clock>,
    /// Until when the lease is believed: what [`Self::check`] looks at without the lock.
    until: AtomicI64,
    lease: Mutex<Lease>,
    closed: CancellationToken,
}

impl Gate {
    fn new(session: SessionId, lease: Lease, clock: Arc<dyn Clock>) -> Self {
        let until = AtomicI64::new(lease.until().nanos());
        Self { session, clock, until, lease: Mutex::new(lease), closed: CancellationToken::new() }
    }

    pub(super) fn session(&self) -> &SessionId {
        &self.session
    }

    /// Whether an action is one of those that the lease is needed for.
    pub(super) fn holds(&self, action: &Action) -> bool {
        match action {
            Action::CreateSession { .. } | Action::DeleteSession { .. } => false,
            Action::ResetSession { .. }
            | Action::CreateSocket { .. }
            | Action::CreateSockets { .. }
            | Action::Socket(..) => action.session() == self.session,
        }
    }

    /// Whether the session may be used now.
    pub(super) fn check(&self) -> Result<(), ClientError> {
        if self.clock.now().nanos() < self.until.load(Ordering::Acquire) {
            return Ok(());
        }
        self.with(|lease, now| lease.check(now)).map_err(|loss| self.error(loss))
    }

    /// Waits until it may not be used any more.
    pub(super) async fn lost(&self) -> ClientError {
        self.closed.cancelled().await;
        self.loss()
    }

    /// What to make of an answer that may say that the lease is over.
    pub(super) fn hear(&self, error: ClientError) -> ClientError {
        match error {
            ClientError::Refused { reason, .. } if reason == "LEASE_EXPIRED" => {
                self.lose(LeaseLoss::Expired);
                self.loss()
            }
            other => other,
        }
    }

    fn lose(&self, why: LeaseLoss) {
        self.with(|lease, _| lease.lose(why));
    }

    fn loss(&self) -> ClientError {
        let loss = self.with(|lease, now| lease.check(now)).err().unwrap_or(LeaseLoss::Expired);
        self.error(loss)
    }

    fn error(&self, loss: LeaseLoss) -> ClientError {
        ClientError::LeaseLost { session: self.session.clone(), loss }
    }

    /// Does something with the lease, and lets everybody know what has become of it.
    fn with<T>(&self, work: impl FnOnce(&mut Lease, Timestamp) -> T) -> T {
        let mut lease: MutexGuard<'_, Lease> = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let done = work(&mut lease, now);
        let over = lease.check(now).is_err();
        self.until.store(lease.until().nanos(), Ordering::Release);
        drop(lease);
        if over {
            self.closed.cancel();
        }
        done
    }

    /// Takes up how a renewal went.
    fn renewed(&self, sent: Timestamp, answer: Result<(), ClientError>) {
        self.with(|lease, now| match answer {
            Ok(()) => lease.grant(sent, now),
            Err(ClientError::Refused { reason, .. }) if reason == "LEASE_EXPIRED" => lease.lose(LeaseLoss::Expired),
            Err(ClientError::Refused { reason, .. }) if reason == "SESSION_NOT_FOUND" => lease.lose(LeaseLoss::Gone),
            // Anything else may pass, and if it does not, the time does.
            Err(error) => lease.fail(error.to_string(), now, chance()),
        });
    }
}

/// What a stream has to do with a lease.
pub(super) struct Leash(Option<(Arc<Gate>, Pin<Box<WaitForCancellationFutureOwned>>)>);

impl Leash {
    pub(super) fn new(gate: Option<Arc<Gate>>) -> Self {
        Self(gate.map(|gate| {
            let closed = gate.closed.clone().cancelled_owned();
            (gate, Box::pin(closed))
        }))
    }

    /// Whether there is a lease: until it is lost, there is time to try again.
    pub(super) const fn is_held(&self) -> bool {
        self.0.is_some()
    }

    /// Why the stream may not be used any more, if it may not.
    pub(super) fn check(&self) -> Result<(), ClientError> {
        self.0.as_ref().map_or(Ok(()), |(gate, _)| gate.check())
    }

    /// Waits until it may not be used any more, and notices itself when that is so.
    pub(super) fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<ClientError> {
        match &mut self.0 {
            Some((gate, _)) if gate.check().is_err() => Poll::Ready(gate.loss()),
            Some((gate, closed)) => closed.as_mut().poll(cx).map(|()| gate.loss()),
            None => Poll::Pending,
        }
    }
}

/// Renews a lease until it is lost. Renewals that are not answered stay under way, and others go by other connections.
async fn keep(gate: Arc<Gate>, mut renewer: Renewer) {
    let mut under_way: JoinSet<(Timestamp, Result<(), ClientError>)> = JoinSet::new();
    loop {
        let (due, now) = gate.with(|lease, now| (lease.due(now), now));
        let until = match due {
            Due::Stop => return,
            Due::Renewal => {
                let renewal = renewer.renew(&gate.session, !under_way.is_empty());
                under_way.spawn(async move { (now, renewal.await) });
                continue;
            }
            Due::Nothing { until } => until,
        };
        tokio::select! {
            () = sleep_until(Instant::now() + until.since(now).min(LOOK)) => {}
            () = gate.closed.cancelled() => return,
            Some(Ok((sent, answer))) = under_way.join_next() => {
                let granted = answer.is_ok();
                gate.renewed(sent, answer);
                if granted {
                    // Whatever else is under way is of no use any more.
                    under_way = JoinSet::new();
                }
            }
        }
    }
}
