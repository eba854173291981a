//! Operations as tasks: each outlives the RPC that asked for it, is carried out once however often it is asked for, and can be looked at
//! and cancelled by its name.

use std::future::{Future, pending, poll_fn};
use std::hint::spin_loop;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::model::error::SocketError;
use crate::model::id::{Principal, RequestId, SessionId, SocketId};
use crate::model::operation::{
    Action, CallOptions, CallProgress, CallView, Method, Operation, Outcome, Report, SocketAction, Start, Yield,
};
use crate::model::refusal::Refusal;
use crate::session::calls::Begun;
use crate::socket::cell::lock;
use crate::socket::command::EventRange;
use crate::socket::group;
use crate::socket::perform::{Performed, Run};
use crate::socket::session::Session;
use crate::socket::sockets::Sockets;
use crate::sys::clock::FineTimer;
use crate::sys::readiness;

/// How much of a wait is left to a timer of the kernel: more than tokio's are late by.
const FINE: Duration = Duration::from_millis(3);

/// How long before the moment that timer is due: more than waking up takes.
const AWAKE: Duration = Duration::from_micros(250);

/// The last of the wait, in which nothing else runs on this thread: what others do may take longer than this.
const ALERT: Duration = Duration::from_micros(50);

/// An operation that is scheduled, runs, or has ended.
pub(super) struct CallHandle {
    pub(super) request: RequestId,
    /// Who asked for it, where that is not whose session it is.
    pub(super) asker: Option<Principal>,
    /// How long it may take, where its caller says that.
    pub(super) timeout: Option<Duration>,
    method: Method,
    socket: Option<SocketId>,
    stage: watch::Sender<Stage>,
    cancel: CancellationToken,
}

#[derive(Clone)]
enum Stage {
    Scheduled,
    Running,
    Ended(Result<Arc<Outcome>, Refusal>),
}

impl CallHandle {
    pub(super) fn cancel(&self) {
        self.cancel.cancel();
    }

    pub(super) async fn canceled(&self) {
        self.cancel.cancelled().await;
    }

    pub(super) fn is_canceled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    async fn ended(&self) -> Result<Arc<Outcome>, Refusal> {
        let mut stage = self.stage.subscribe();
        let stage = stage.wait_for(|stage| matches!(stage, Stage::Ended(_))).await;
        match stage.as_deref() {
            Ok(Stage::Ended(result)) => result.clone(),
            _ => Err(Refusal::Internal("an operation has vanished")),
        }
    }

    fn view(&self) -> CallView {
        let progress = match &*self.stage.borrow() {
            Stage::Scheduled => CallProgress::Scheduled,
            Stage::Running => CallProgress::Running,
            Stage::Ended(Ok(outcome)) => CallProgress::Done(Arc::clone(outcome)),
            Stage::Ended(Err(refusal)) => CallProgress::Refused(refusal.to_string()),
        };
        CallView { request_id: self.request.clone(), method: self.method, socket: self.socket.clone(), progress }
    }
}

impl Sockets {
    /// Carries an action out, or joins it, or remembers it, and tells how it went.
    pub async fn call(
        &self,
        principal: &Principal,
        options: CallOptions,
        action: Action,
    ) -> Result<Arc<Outcome>, Refusal> {
        self.call_until(principal, options, action, pending()).await
    }

    /// The same, where what has begun for this caller is cancelled once `unwanted` is over.
    pub async fn call_until(
        &self,
        principal: &Principal,
        options: CallOptions,
        action: Action,
        unwanted: impl Future<Output = ()>,
    ) -> Result<Arc<Outcome>, Refusal> {
        self.check_draining()?;
        if options.instance.as_ref().is_some_and(|meant| meant != self.instance()) {
            return Err(Refusal::InstanceChanged { now: self.instance().clone() });
        }
        let session = self.needed_session(principal, &action.session())?;
        let fingerprint = self.fingerprint((&action, options.start, options.timeout));
        let begun = {
            let mut calls = lock(&session.calls);
            self.check_ended(&session)?;
            calls.begin(options.request_id.as_ref(), fingerprint, |request| {
                Arc::new(CallHandle {
                    request,
                    asker: options.asker.clone(),
                    timeout: options.timeout,
                    method: action.method(),
                    socket: action.socket().cloned(),
                    stage: watch::Sender::new(Stage::Scheduled),
                    cancel: CancellationToken::new(),
                })
            })?
        };
        let (handle, detach, is_new) = match begun {
            Begun::New(handle) => {
                let detach = options.detach;
                if let Err(refusal) = self.start(principal, &session, &handle, options, action) {
                    lock(&session.calls).end(&handle.request, None);
                    handle.stage.send_replace(Stage::Ended(Err(refusal.clone())));
                    return Err(refusal);
                }
                (handle, detach, true)
            }
            Begun::Running(handle) => (handle, options.detach, false),
            Begun::Ended(handle) => (handle, false, false),
        };
        if detach {
            return Ok(Arc::new(self.detached(&handle)));
        }
        tokio::select! {
            biased;
            outcome = handle.ended() => return outcome,
            () = unwanted => {
                if is_new {
                    handle.cancel();
                }
            }
        }
        handle.ended().await
    }

    fn detached(&self, handle: &CallHandle) -> Outcome {
        let report = Report {
            started: self.now(),
            elapsed: Duration::ZERO,
            timed_out: false,
            error: None,
            events: None,
            request_id: handle.request.clone(),
        };
        Outcome { yielded: Yield::Nothing, report }
    }

    /// Lets the operation run in a task of its own.
    fn start(
        &self,
        principal: &Principal,
        session: &Arc<Session>,
        handle: &Arc<CallHandle>,
        options: CallOptions,
        action: Action,
    ) -> Result<(), Refusal> {
        if fills_log(&action) {
            session.hub.expect_room()?;
        }
        let at = self.start_of(options.start)?;
        if at.is_some() || options.detach {
            // Nobody will be listening when it turns out that there is nothing to do it with.
            session.expect_target(&action)?;
        }
        // Given back when it has ended: until then its bytes are here, wherever they wait.
        let allowance = session.pending.take(action.payload_bytes())?;
        let keep = options.request_id.is_some() || options.detach;
        let sockets = self.clone();
        let (principal, session, handle) = (principal.clone(), Arc::clone(session), Arc::clone(handle));
        let mut task = Box::pin(async move {
            let result = sockets.carry_out(&principal, &session, &handle, at, options.timeout, action).await;
            let remember = match &result {
                Ok(outcome) => Some((Arc::clone(&handle), held_bytes(outcome))),
                Err(_) if options.detach => Some((Arc::clone(&handle), 0)),
                Err(_) => None,
            };
            drop(allowance);
            lock(&session.calls).end(&handle.request, remember.filter(|_| keep));
            handle.stage.send_replace(Stage::Ended(result));
        });
        // Whoever detaches may send the next operation as soon as this one is answered: its order must stand in the queue by then.
        let begun = options.detach.then(|| task.as_mut().poll(&mut Context::from_waker(Waker::noop())));
        if begun != Some(Poll::Ready(())) {
            self.tasks().spawn(task);
        }
        Ok(())
    }

    /// When to start; absent: at once.
    fn start_of(&self, start: Start) -> Result<Option<Instant>, Refusal> {
        match start {
            Start::Now => Ok(None),
            Start::After(delay) => Ok(Some(Instant::now() + delay)),
            Start::At(moment) => {
                let now = self.now();
                let late = now.since(moment);
                if late > self.defaults().start_tolerance {
                    let late_ms = u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
                    return Err(Refusal::StartTimePassed { late_ms });
                }
                Ok(Some(Instant::now() + moment.since(now)))
            }
        }
    }

    async fn carry_out(
        &self,
        principal: &Principal,
        session: &Arc<Session>,
        handle: &Arc<CallHandle>,
        at: Option<Instant>,
        timeout: Option<Duration>,
        action: Action,
    ) -> Result<Arc<Outcome>, Refusal> {
        if let Some(at) = at {
            tokio::select! {
                () = nearly(at) => {}
                () = handle.canceled() => {
                    let error = SocketError::canceled(operation_of(&action));
                    return Ok(self.outcome(handle, Instant::now(), Performed::failed(error)));
                }
            }
        }
        // Whoever looks sees it; nobody waits for it.
        handle.stage.send_if_modified(|stage| {
            *stage = Stage::Running;
            false
        });
        let timeout = timeout.unwrap_or_else(|| self.usual_timeout(&action));
        let mut run = Run::new(self, principal, session, handle, Instant::now() + timeout);
        run.moment = at;
        let mut performed = run.perform(action).await?;
        let started = run.started;
        self.name_holder(principal, session, &mut performed).await;
        Ok(self.outcome(handle, started, performed))
    }

    fn outcome(&self, handle: &CallHandle, started: Instant, performed: Performed) -> Arc<Outcome> {
        let elapsed = performed.ended.saturating_duration_since(started);
        let since_start = i64::try_from(started.elapsed().as_nanos()).unwrap_or(i64::MAX);
        let EventRange(events) = performed.events;
        let report = Report {
            started: self.now().shifted(-since_start),
            elapsed,
            timed_out: performed.timed_out,
            error: performed.error,
            events,
            request_id: handle.request.clone(),
        };
        Arc::new(Outcome { yielded: performed.yielded, report })
    }

    fn usual_timeout(&self, action: &Action) -> Duration {
        match action.method() {
            Method::CreateSocket | Method::CreateSockets | Method::ConnectSocket => self.defaults().connect_timeout,
            _ => self.defaults().wait_timeout,
        }
    }

    /// How an operation is doing, or how it went.
    pub fn call_view(
        &self,
        principal: &Principal,
        session: &SessionId,
        request: &RequestId,
    ) -> Result<CallView, Refusal> {
        let session = self.session(principal, session)?;
        match lock(&session.calls).find(request)? {
            Begun::New(handle) | Begun::Running(handle) | Begun::Ended(handle) => Ok(handle.view()),
        }
    }

    /// How an operation has ended, once it has.
    pub async fn call_outcome(
        &self,
        principal: &Principal,
        session: &SessionId,
        request: &RequestId,
    ) -> Result<Arc<Outcome>, Refusal> {
        let begun = {
            let session = self.session(principal, session)?;
            let calls = lock(&session.calls);
            calls.find(request)?
        };
        let (Begun::New(handle) | Begun::Running(handle) | Begun::Ended(handle)) = begun;
        handle.ended().await
    }

    /// Stops an operation, and tells how it ended.
    pub async fn cancel_call(
        &self,
        principal: &Principal,
        session: &SessionId,
        request: &RequestId,
    ) -> Result<CallView, Refusal> {
        let session = self.usable_session(principal, session)?;
        let begun = lock(&session.calls).find(request)?;
        let (Begun::New(handle) | Begun::Running(handle) | Begun::Ended(handle)) = begun;
        handle.cancel();
        // A refusal is an end, too: the view shows it.
        let _ = handle.ended().await;
        Ok(handle.view())
    }
}

/// Waits until a moment is so near that what waking up takes does not count any more.
async fn nearly(at: Instant) {
    let before = |time| at.checked_sub(time).unwrap_or(at);
    sleep_until(before(FINE)).await;
    let awake = before(AWAKE).saturating_duration_since(Instant::now());
    match FineTimer::start(awake).and_then(readiness::watch) {
        // That it cannot be waited for is no reason not to begin.
        Ok(timer) => drop(timer.readable().await),
        // No descriptor is left for it.
        Err(_) => sleep_until(at).await,
    }
}

/// Waits for the rest, awake.
pub(super) async fn exactly(at: Instant) {
    let alert = at.checked_sub(ALERT).unwrap_or(at);
    while Instant::now() < alert {
        others_first().await;
    }
    while Instant::now() < at {
        spin_loop();
    }
}

/// Lets those run who are ready, and no more: `yield_now` lets all run who become ready by that.
pub(super) async fn others_first() {
    let mut waited = false;
    poll_fn(|context| {
        if waited {
            return Poll::Ready(());
        }
        waited = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Whether an action adds to its session's log for more than to end what is there, or to make room.
fn fills_log(action: &Action) -> bool {
    match action {
        Action::CreateSocket { .. } | Action::CreateSockets { .. } => true,
        Action::Socket(_, action) => !matches!(
            action,
            SocketAction::Close { .. }
                | SocketAction::Abort { .. }
                | SocketAction::Shutdown(_)
                | SocketAction::Receive { .. }
                | SocketAction::SetDelivery(_)
        ),
        Action::CreateSession { .. } | Action::ResetSession { .. } | Action::DeleteSession { .. } => false,
    }
}

/// What the memory of one of many sockets comes to, about.
const HELD_BY_SOCKET: usize = 1024;

/// Bytes that the memory of an operation holds, where these are many.
fn held_bytes(outcome: &Outcome) -> u64 {
    match &outcome.yielded {
        Yield::Taken(_, taken) => taken.payload.len() as u64,
        Yield::Sockets(sockets) => (sockets.len() * HELD_BY_SOCKET) as u64,
        _ => 0,
    }
}

/// What an error says that an action was, before any step of it began.
fn operation_of(action: &Action) -> Operation {
    match action {
        Action::CreateSession { .. } | Action::CreateSocket { .. } | Action::CreateSockets { .. } => Operation::Create,
        Action::ResetSession { .. } | Action::DeleteSession { .. } => Operation::Close,
        Action::Socket(_, action) => match action {
            SocketAction::Bind { .. } => Operation::Bind,
            SocketAction::Listen { .. } => Operation::Listen,
            SocketAction::Accept => Operation::Accept,
            SocketAction::Connect { .. } => Operation::Connect,
            SocketAction::Disconnect => Operation::Disconnect,
            SocketAction::Write { .. } | SocketAction::Flush => Operation::Write,
            SocketAction::Send { .. } => Operation::Send,
            SocketAction::Receive { .. } | SocketAction::SetDelivery(_) => Operation::Receive,
            SocketAction::Shutdown(_) => Operation::Shutdown,
            SocketAction::Close { .. } => Operation::Close,
            SocketAction::Abort { .. } => Operation::Abort,
            SocketAction::SetOptions(_) => Operation::SetOption,
            SocketAction::Group(change, _) => group::operation(*change),
            SocketAction::Filter(_) => Operation::Filter,
        },
    }
}
