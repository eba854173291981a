//! All sockets of an agent, by principal and session.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::eventlog::hub::Hub;
use crate::eventlog::ring::{Ring, RingLimits};
use crate::model::address::{Endpoint, Family, Transport};
use crate::model::event::Event;
use crate::model::id::{InstanceId, Principal, RequestId, SessionId, SocketId, SocketUid};
use crate::model::limits::{Defaults, Limits};
use crate::model::lookup::Resolver;
use crate::model::memory::SocketMemory;
use crate::model::operation::SessionView;
use crate::model::option::{OptionResult, OptionSpec};
use crate::model::refusal::Refusal;
use crate::model::session::{Retention, SessionSpec};
use crate::model::socket::{CloseReason, Closing, Conduct, SocketView};
use crate::model::tcp::TcpInfo;
use crate::model::time::{Clock, Timestamp};
use crate::session::calls::{CallLimits, Calls};
use crate::session::names::{Found, Names};
use crate::session::roster::Roster;
use crate::socket::calls::CallHandle;
use crate::socket::cell::{Birth, Cell, ListenerSpec, lock};
use crate::socket::driver::DriverTask;
use crate::socket::tenure::Tenure;
use crate::sys::diag;
use crate::sys::socket::Socket;

/// How many orders wait at a driver before whoever gives one more must wait, too.
const COMMAND_CAPACITY: usize = 32;

/// What an agent's sockets are made with.
pub struct Config {
    /// This life of the agent.
    pub instance: InstanceId,
    /// What bounds them.
    pub limits: Limits,
    /// What is used where a request is silent.
    pub defaults: Defaults,
    /// The clock that stamps events.
    pub clock: Arc<dyn Clock>,
    /// Who knows names.
    pub resolver: Arc<dyn Resolver>,
    /// The IPv4 address that sockets use when a request names none.
    pub lab_ipv4: Option<Ipv4Addr>,
    /// The IPv6 address that sockets use when a request names none.
    pub lab_ipv6: Option<Ipv6Addr>,
}

/// The handle on all sockets of an agent. Cheap to clone.
#[derive(Clone)]
pub struct Sockets(Arc<Shared>);

struct Shared {
    config: Config,
    roster: Mutex<Roster<Arc<Session>>>,
    next_uid: AtomicU64,
    /// Every task that works for a socket or an operation.
    tasks: TaskTracker,
    draining: AtomicBool,
    hasher: RandomState,
}

/// Sockets that share names and a log.
pub(super) struct Session {
    pub(super) id: SessionId,
    created: Timestamp,
    pub(super) hub: Arc<Hub>,
    pub(super) names: Mutex<Names<Arc<Cell>>>,
    pub(super) calls: Mutex<Calls<Arc<CallHandle>, Arc<CallHandle>>>,
    pub(super) clock: Arc<dyn Clock>,
    /// What it lives by. A lease ends before `names` and `calls` are gone through for what is to end, and is looked at under their locks by
    /// whoever adds to them: so nothing is overlooked.
    pub(super) tenure: Tenure,
    /// It is deleted, or the agent stops. The same holds for it.
    pub(super) ended: CancellationToken,
    /// What was still open when it ended, for good. Locked while that is being closed: whoever ends it, too, waits.
    pub(super) closed: tokio::sync::Mutex<Vec<Arc<Cell>>>,
}

/// A connection that a listener has taken from the kernel.
pub(super) struct Arrival<'a> {
    pub(super) socket: Socket,
    pub(super) local: Endpoint,
    pub(super) remote: Endpoint,
    pub(super) request: Option<RequestId>,
    /// The number of the listener's last connection.
    pub(super) number: &'a mut u64,
}

/// What has become of it.
pub(super) struct Adopted {
    pub(super) id: SocketId,
    pub(super) created: u64,
    pub(super) accepted: u64,
}

/// A socket that is to be made.
pub(super) struct NewSocket {
    pub(super) id: Option<SocketId>,
    pub(super) transport: Transport,
    pub(super) family: Family,
    pub(super) conduct: Conduct,
    pub(super) listener: Option<ListenerSpec>,
    pub(super) socket: Socket,
}

impl Sockets {
    /// No sockets yet.
    pub fn new(config: Config) -> Self {
        Self(Arc::new(Shared {
            roster: Mutex::new(Roster::new(config.limits.sessions, config.limits.expired_sessions)),
            next_uid: AtomicU64::new(1),
            tasks: TaskTracker::new(),
            draining: AtomicBool::new(false),
            hasher: RandomState::new(),
            config,
        }))
    }

    /// What bounds the agent.
    pub fn limits(&self) -> &Limits {
        &self.0.config.limits
    }

    /// What is used where a request is silent.
    pub fn defaults(&self) -> &Defaults {
        &self.0.config.defaults
    }

    /// This life of the agent.
    pub fn instance(&self) -> &InstanceId {
        &self.0.config.instance
    }

    /// Now, on the agent's clock.
    pub fn now(&self) -> Timestamp {
        self.0.config.clock.now()
    }

    /// A moment of CLOCK_REALTIME, in nanoseconds since the epoch, on the agent's clock.
    pub(super) fn at_realtime(&self, nanos: i64) -> Timestamp {
        self.0.config.clock.at_realtime(nanos)
    }

    /// The address that sockets of a family use when a request names none.
    pub fn lab_address(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::Ipv4 => self.0.config.lab_ipv4.map(IpAddr::from),
            Family::Ipv6 => self.0.config.lab_ipv6.map(IpAddr::from),
        }
    }

    /// Who knows names.
    pub fn resolver(&self) -> &Arc<dyn Resolver> {
        &self.0.config.resolver
    }

    pub(super) fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }

    pub(super) fn fingerprint(&self, request: impl std::hash::Hash) -> u64 {
        self.0.hasher.hash_one(request)
    }

    /// Refuses everything new while the agent stops.
    pub(super) fn check_draining(&self) -> Result<(), Refusal> {
        if self.0.draining.load(Ordering::Acquire) { Err(Refusal::Draining) } else { Ok(()) }
    }

    /// Refuses what is new in a session that has ended.
    pub(super) fn check_ended(&self, session: &Session) -> Result<(), Refusal> {
        if !session.ended.is_cancelled() {
            return session.check_lease();
        }
        self.check_draining()?;
        Err(Refusal::SessionNotFound(session.id.clone()))
    }

    // === Sessions ===

    /// A session of a principal. Its default session is made when it is first needed.
    pub(super) fn session(&self, principal: &Principal, id: &SessionId) -> Result<Arc<Session>, Refusal> {
        let mut roster = lock(&self.0.roster);
        match roster.find(principal, id) {
            Some(session) => {
                session.note_use();
                Ok(session)
            }
            None if id.is_default() => self.add(&mut roster, principal, Some(id.clone()), SessionSpec::of_default()),
            None => Err(Refusal::SessionNotFound(id.clone())),
        }
    }

    /// The same, where it is to be used and not only read.
    pub(super) fn usable_session(&self, principal: &Principal, id: &SessionId) -> Result<Arc<Session>, Refusal> {
        let session = self.session(principal, id)?;
        session.check_lease()?;
        Ok(session)
    }

    pub(super) fn add_session(
        &self,
        principal: &Principal,
        id: Option<SessionId>,
        spec: SessionSpec,
    ) -> Result<Arc<Session>, Refusal> {
        self.add(&mut lock(&self.0.roster), principal, id, spec)
    }

    fn add(
        &self,
        roster: &mut Roster<Arc<Session>>,
        principal: &Principal,
        id: Option<SessionId>,
        spec: SessionSpec,
    ) -> Result<Arc<Session>, Refusal> {
        self.check_draining()?;
        let (number, session) = roster.add(principal, id, |id| self.new_session(id, spec))?;
        self.keep(principal, number, &session);
        Ok(session)
    }

    pub(super) fn remove_session(&self, principal: &Principal, id: &SessionId) -> Option<Arc<Session>> {
        lock(&self.0.roster).remove(principal, id)
    }

    /// Forgets sessions that can only be read any more.
    pub(super) fn forget<I: IntoIterator<Item = Arc<Session>>>(
        &self,
        choose: impl FnOnce(&mut Roster<Arc<Session>>) -> I,
    ) {
        for session in choose(&mut lock(&self.0.roster)) {
            session.ended.cancel();
        }
    }

    fn new_session(&self, id: SessionId, spec: SessionSpec) -> Arc<Session> {
        let now = self.now();
        let limits = self.limits();
        let ring = RingLimits {
            events: limits.log_events as usize,
            payload_bytes: limits.log_bytes.into(),
            final_events: limits.log_final_events as usize,
        };
        let log = match spec.retention {
            Retention::Ring => Ring::new(ring),
            Retention::Lossless => Ring::lossless(ring),
        };
        let calls = CallLimits {
            running: limits.calls,
            remembered: limits.remembered_calls,
            remembered_bytes: limits.remembered_bytes.into(),
        };
        Arc::new(Session {
            tenure: Tenure::new(&id, spec.lease, self.defaults().lease_ttl, now),
            id,
            created: now,
            hub: Hub::new(log, Arc::clone(&self.0.config.clock)),
            names: Mutex::new(Names::new(limits.sockets, limits.closed_sockets)),
            calls: Mutex::new(Calls::new(calls)),
            clock: Arc::clone(&self.0.config.clock),
            ended: CancellationToken::new(),
            closed: tokio::sync::Mutex::default(),
        })
    }

    /// A session as it is now.
    pub fn session_view(&self, principal: &Principal, id: &SessionId) -> Result<SessionView, Refusal> {
        Ok(self.session(principal, id)?.view())
    }

    /// The sessions of a principal after a number, at most so many, in the order in which they were made.
    /// The number is the session's place among them, for the next page.
    pub fn session_views(&self, principal: &Principal, after: u64, size: usize) -> Vec<(u64, SessionView)> {
        let page = lock(&self.0.roster).page(principal, after, size);
        page.into_iter().map(|(number, session)| (number, session.view())).collect()
    }

    // === Sockets ===

    /// A socket as it is now.
    pub fn socket_view(
        &self,
        principal: &Principal,
        session: &SessionId,
        socket: &SocketId,
    ) -> Result<SocketView, Refusal> {
        let mut view = self.session(principal, session)?.find(socket)?.view_with_kernel();
        if let (Transport::Tcp, Some(_), Some(local), Some(remote)) =
            (view.transport, view.status.closed, &view.status.local, &view.status.remote)
        {
            // What the kernel does with a connection goes on when its descriptor is closed.
            view.tcp_state = diag::tcp_state(local.addr, remote.addr);
        }
        Ok(view)
    }

    /// What the kernel knows of a TCP connection; absent of other sockets and of closed ones.
    pub fn tcp_info(
        &self,
        principal: &Principal,
        session: &SessionId,
        socket: &SocketId,
    ) -> Result<Option<TcpInfo>, Refusal> {
        Ok(self.session(principal, session)?.find(socket)?.tcp_info())
    }

    /// What the kernel holds in memory for a socket; absent of closed ones.
    pub fn socket_memory(
        &self,
        principal: &Principal,
        session: &SessionId,
        socket: &SocketId,
    ) -> Result<Option<SocketMemory>, Refusal> {
        Ok(self.session(principal, session)?.find(socket)?.memory())
    }

    /// The sockets of a session after a number, at most so many, in the order in which they were made.
    pub fn socket_views(
        &self,
        principal: &Principal,
        session: &SessionId,
        after: SocketUid,
        closed: bool,
        size: usize,
    ) -> Result<Vec<SocketView>, Refusal> {
        let session = self.session(principal, session)?;
        let page = lock(&session.names).page(after, closed, size);
        Ok(page.iter().map(|(_, cell)| cell.view_with_kernel()).collect())
    }

    /// Options of a socket: those asked for, or all that it has.
    pub fn socket_options(
        &self,
        principal: &Principal,
        session: &SessionId,
        socket: &SocketId,
        specs: &[&'static OptionSpec],
    ) -> Result<Vec<OptionResult>, Refusal> {
        let cell = self.usable_session(principal, session)?.find(socket)?;
        cell.options(specs).ok_or_else(|| closed(&cell))
    }

    /// Gives a new descriptor a name, a cell and a driver. `created` is in the log when this returns.
    pub(super) fn open(
        &self,
        session: &Arc<Session>,
        new: NewSocket,
        request: &RequestId,
    ) -> Result<(Arc<Cell>, u64), Refusal> {
        let mut names = lock(&session.names);
        self.check_ended(session)?;
        let id = new.id.unwrap_or_else(|| names.mint());
        names.has_room()?;
        names.is_free(&id)?;
        let (commands, orders) = mpsc::channel(COMMAND_CAPACITY);
        let socket = Arc::new(new.socket);
        let cell = Cell::new(Birth {
            session: session.id.clone(),
            id: id.clone(),
            uid: self.next_uid(),
            parent: None,
            transport: new.transport,
            family: new.family,
            created: self.now(),
            listener: new.listener,
            conduct: new.conduct,
            hub: Arc::clone(&session.hub),
            commands,
            socket: Arc::clone(&socket),
        });
        names.open(id, cell.uid, Arc::clone(&cell))?;
        let created =
            Event::Created { transport: new.transport, family: new.family, parent: None, local: None, remote: None };
        let seq = cell.record(Some(request), created);
        drop(names);
        self.0.tasks.spawn(DriverTask::new(self.clone(), Arc::clone(session), Arc::clone(&cell), socket, orders));
        Ok((cell, seq))
    }

    /// Gives an accepted connection a name, a cell and a driver.
    pub(super) fn adopt(&self, session: &Arc<Session>, listener: &Arc<Cell>, arrival: Arrival<'_>) -> Adopted {
        let mut names = lock(&session.names);
        let id = names.child(&listener.id, arrival.number);
        let (commands, orders) = mpsc::channel(COMMAND_CAPACITY);
        let socket = Arc::new(arrival.socket);
        let cell = Cell::new(Birth {
            session: session.id.clone(),
            id: id.clone(),
            uid: self.next_uid(),
            parent: Some(Arc::clone(listener)),
            transport: listener.transport,
            family: listener.family,
            created: self.now(),
            listener: None,
            conduct: listener.conduct(),
            hub: Arc::clone(&session.hub),
            commands,
            socket: Arc::clone(&socket),
        });
        names.adopt(id.clone(), cell.uid, Arc::clone(&cell));
        let request = arrival.request.as_ref();
        let (created, accepted) = session.hub.append(|log| {
            let born = Event::Created {
                transport: cell.transport,
                family: cell.family,
                parent: Some((listener.id.clone(), listener.uid)),
                local: Some(arrival.local.clone()),
                remote: Some(arrival.remote.clone()),
            };
            let accepted = Event::Accepted {
                id: id.clone(),
                uid: cell.uid,
                local: arrival.local.clone(),
                remote: arrival.remote.clone(),
            };
            (cell.record_in(log, request, born), listener.record_in(log, request, accepted))
        });
        drop(names);
        let driver = DriverTask::new(self.clone(), Arc::clone(session), cell, socket, orders);
        self.0.tasks.spawn(driver.connected());
        Adopted { id, created, accepted }
    }

    /// All sessions, each with whose it is.
    pub(super) fn all_sessions(&self) -> Vec<(Principal, Arc<Session>)> {
        lock(&self.0.roster).all_owned()
    }

    fn next_uid(&self) -> SocketUid {
        SocketUid(self.0.next_uid.fetch_add(1, Ordering::Relaxed))
    }

    // === The whole agent ===

    /// Appends an event to the log of every session.
    pub fn announce(&self, event: &Event) {
        for session in lock(&self.0.roster).all() {
            session.announce(event.clone());
        }
    }

    /// Closes all sockets of a principal, who can no longer come in. Logs stay, and can be read by whoever comes in as that principal again.
    pub async fn reset_all_of(&self, principal: &Principal) {
        let sessions = lock(&self.0.roster).page(principal, 0, usize::MAX);
        for (_, session) in sessions {
            session.reset(None).await;
        }
    }

    /// Stops: refuses what is new, announces it, closes all sockets, lets watchers read to the end.
    pub async fn drain(&self, grace: Duration) {
        if self.0.draining.swap(true, Ordering::AcqRel) {
            return;
        }
        self.announce(&Event::AgentDraining { grace });
        let sessions = lock(&self.0.roster).all();
        for session in &sessions {
            session.end(CloseReason::AgentDraining).await;
        }
        for session in &sessions {
            session.hub.end();
        }
    }

    /// Waits until every task that works for a socket or an operation has ended.
    pub async fn finished(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Lets a task work for a socket: an agent that stops waits for it.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.tasks.spawn(task);
    }

    /// How many tasks work for sockets and operations.
    pub fn task_count(&self) -> usize {
        self.0.tasks.len()
    }
}

impl Session {
    pub(super) fn view(&self) -> SessionView {
        let (state, lease) = self.lease();
        let (oldest_seq, head_seq) = self.hub.bounds();
        let held = self.hub.held();
        SessionView {
            id: self.id.clone(),
            created: self.created,
            socket_count: lock(&self.names).open_count(),
            head_seq,
            oldest_seq,
            watcher_count: self.hub.watcher_count(),
            lease,
            state,
            retention: self.hub.retention(),
            held_events: held.events,
            held_bytes: held.payload_bytes,
            watchers: self.hub.named_watchers(),
        }
    }

    /// Whether anything would end with it.
    pub(super) fn is_in_use(&self) -> bool {
        lock(&self.names).open_count() > 0 || !lock(&self.calls).running().is_empty()
    }

    /// Whether one more socket may be opened.
    pub(super) fn has_room(&self) -> Result<(), Refusal> {
        lock(&self.names).has_room()
    }

    /// A socket by name, open or closed.
    pub(super) fn find(&self, id: &SocketId) -> Result<Arc<Cell>, Refusal> {
        match lock(&self.names).find(id) {
            Found::Open(cell) | Found::Closed(cell) => Ok(cell),
            Found::Nothing => Err(Refusal::SocketNotFound(id.clone())),
        }
    }

    /// Takes leave of a socket: its name is free and its last event is there at the same moment.
    pub(super) fn close(&self, cell: &Cell, request: Option<&RequestId>, closing: Closing) -> u64 {
        let mut names = lock(&self.names);
        names.close(cell.uid);
        cell.record(request, Event::Closed(closing))
    }
}

/// What is said to whoever wants something of a closed socket.
pub(super) fn closed(cell: &Cell) -> Refusal {
    match cell.status().closed {
        Some(closing) => Refusal::SocketClosed { socket: cell.id.clone(), reason: closing.reason },
        // Its driver is closing it just now.
        None => Refusal::SocketClosed { socket: cell.id.clone(), reason: CloseReason::Closed },
    }
}
