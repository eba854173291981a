//! All sockets of an agent, by principal and session.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::eventlog::hub::Hub;
use crate::eventlog::ring::{Ring, RingLimits};
use crate::model::address::{Family, Transport};
use crate::model::event::Event;
use crate::model::id::{InstanceId, Principal, SessionId, SocketId, SocketUid};
use crate::model::labels::{self, Labels};
use crate::model::limits::{Defaults, Limits};
use crate::model::lookup::Resolver;
use crate::model::memory::SocketMemory;
use crate::model::operation::{SessionView, Target};
use crate::model::option::{OptionResult, OptionSpec};
use crate::model::own_deed::{OwnDeed, Witness};
use crate::model::refusal::Refusal;
use crate::model::session::{Retention, SessionSpec};
use crate::model::socket::{CloseReason, Closing};
use crate::model::tcp::TcpInfo;
use crate::model::time::{Clock, Timestamp};
use crate::model::view::SocketView;
use crate::session::calls::{CallLimits, Calls};
use crate::session::names::Names;
use crate::session::roster::Roster;
use crate::socket::cell::{Cell, lock};
use crate::socket::gate::Gate;
use crate::socket::pool::{Account, Pool};
use crate::socket::session::{Session, closed};
use crate::socket::tenure::Tenure;
use crate::socket::usage::{Refusals, has_log_room, share_logs};
use crate::sys::diag;

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
    /// Who may do what.
    pub gate: Arc<Gate>,
    /// Who writes down what the agent does by itself; absent: nobody.
    pub witness: Option<Arc<dyn Witness>>,
}

/// The handle on all sockets of an agent. Cheap to clone.
#[derive(Clone)]
pub struct Sockets(Arc<Shared>);

struct Shared {
    config: Config,
    roster: Mutex<Roster<Arc<Session>>>,
    empty: Mutex<Option<Arc<Session>>>,
    next_uid: AtomicU64,
    /// Every task that works for a socket or an operation.
    tasks: TaskTracker,
    draining: AtomicBool,
    refusals: Arc<Refusals>,
    /// Bytes that wait to be written.
    pending: Arc<Pool>,
    /// Watchers.
    watchers: Arc<Pool>,
    hasher: RandomState,
}

impl Sockets {
    /// No sockets yet.
    pub fn new(config: Config) -> Self {
        Self(Arc::new(Shared {
            roster: Mutex::new(Roster::new(config.limits.sessions, config.limits.expired_sessions)),
            empty: Mutex::default(),
            next_uid: AtomicU64::new(1),
            tasks: TaskTracker::new(),
            draining: AtomicBool::new(false),
            refusals: Arc::default(),
            pending: Pool::new(config.limits.pending_write_bytes_total, |total, taken| Refusal::PendingWritesFull {
                total,
                taken,
            }),
            watchers: Pool::new(config.limits.watchers_total, |total, taken| Refusal::WatchersFull { total, taken }),
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

    /// How often its limits have refused something: whoever answers requests counts here.
    pub fn refusals(&self) -> &Arc<Refusals> {
        &self.0.refusals
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

    /// Who may do what.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.0.config.gate
    }

    /// Who knows names.
    pub fn resolver(&self) -> &Arc<dyn Resolver> {
        &self.0.config.resolver
    }

    pub(super) fn roster(&self) -> &Mutex<Roster<Arc<Session>>> {
        &self.0.roster
    }

    pub(super) fn watchers(&self) -> &Pool {
        &self.0.watchers
    }

    pub(super) fn pending(&self) -> &Pool {
        &self.0.pending
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

    /// A session of a principal, to look at it or at what is in it. A default one that nobody has needed yet is not made for that: it is an
    /// empty one, which is nobody's.
    pub(super) fn session(&self, principal: &Principal, id: &SessionId) -> Result<Arc<Session>, Refusal> {
        match lock(&self.0.roster).find(principal, id) {
            Some(session) => {
                session.note_use();
                Ok(session)
            }
            None if id.is_default() => Ok(self.empty()),
            None => Err(Refusal::SessionNotFound(id.clone())),
        }
    }

    /// The same, to begin something in it: a default one is made when it is first needed.
    pub(super) fn needed_session(&self, principal: &Principal, id: &SessionId) -> Result<Arc<Session>, Refusal> {
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

    /// What whoever looks at a default session sees that is not there. It stands in no roster and takes no room for a log, since nothing is
    /// ever begun in it.
    pub(super) fn empty(&self) -> Arc<Session> {
        let make = || self.new_session(&Principal::owner(), SessionId::default(), SessionSpec::of_default());
        Arc::clone(lock(&self.0.empty).get_or_insert_with(make))
    }

    /// Lets those who watch the empty one watch anew: they may have default sessions of their own from now on.
    pub(super) fn end_empty(&self) {
        if let Some(empty) = lock(&self.0.empty).take() {
            empty.hub.end();
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
        let log_room = has_log_room(self.limits(), roster);
        let (number, session) =
            roster.add(principal, id, |id| log_room.map(|()| self.new_session(principal, id, spec)))?;
        share_logs(self.limits(), roster);
        self.keep(principal, number, &session);
        Ok(session)
    }

    pub(super) fn remove_session(&self, principal: &Principal, id: &SessionId) -> Option<Arc<Session>> {
        let mut roster = lock(&self.0.roster);
        let removed = roster.remove(principal, id);
        share_logs(self.limits(), &roster);
        removed
    }

    /// Forgets sessions that can only be read any more.
    pub(super) fn forget<I: IntoIterator<Item = Arc<Session>>>(
        &self,
        choose: impl FnOnce(&mut Roster<Arc<Session>>) -> I,
    ) {
        let mut roster = lock(&self.0.roster);
        for session in choose(&mut roster) {
            session.ended.cancel();
        }
        share_logs(self.limits(), &roster);
    }

    fn new_session(&self, owner: &Principal, id: SessionId, spec: SessionSpec) -> Arc<Session> {
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
            owner: owner.clone(),
            created: now,
            hub: Hub::new(log, Arc::clone(&self.0.config.clock)),
            names: Mutex::new(Names::new(limits.sockets, limits.closed_sockets)),
            calls: Mutex::new(Calls::new(calls)),
            listeners: (Arc::new(Semaphore::new(limits.listeners as usize)), limits.listeners),
            pending: Account::new(&self.0.pending),
            watchers: Account::new(&self.0.watchers),
            clock: Arc::clone(&self.0.config.clock),
            witness: self.0.config.witness.clone(),
            interface_events: spec.interface_events,
            ended: CancellationToken::new(),
            closed: tokio::sync::Mutex::default(),
        })
    }

    /// Whether there is such a session. Does not make a default one that has not been needed yet.
    pub fn has_session(&self, principal: &Principal, id: &SessionId) -> bool {
        lock(&self.0.roster).find(principal, id).is_some()
    }

    /// Whether a principal has any session.
    pub fn has_sessions(&self, principal: &Principal) -> bool {
        !lock(&self.0.roster).page(principal, 0, 1).is_empty()
    }

    /// A session as it is now.
    pub fn session_view(&self, principal: &Principal, id: &SessionId) -> Result<SessionView, Refusal> {
        let view = self.session(principal, id)?.view();
        Ok(SessionView { owner: principal.clone(), ..view })
    }

    /// The sessions of a principal after a number, at most so many, in the order in which they were made.
    /// The number is the session's place among them, for the next page.
    pub fn session_views(&self, principal: &Principal, after: u64, size: usize) -> Vec<(u64, SessionView)> {
        let page = lock(&self.0.roster).page(principal, after, size);
        page.into_iter().map(|(number, session)| (number, session.view())).collect()
    }

    /// The same of all principals, in the order of their names; after the one of this principal with this number.
    pub fn all_session_views(&self, after: Option<&(Principal, u64)>, size: usize) -> Vec<(u64, SessionView)> {
        let page = lock(&self.0.roster).page_of_all(after, size);
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
        let cell = self.session(principal, session)?.find(socket)?;
        let mut view = cell.view_with_kernel();
        if let (Transport::Tcp, Some(_), Some(local), Some(remote)) =
            (view.transport, view.status.closed, &view.status.local, &view.status.remote)
        {
            // What the kernel does with a connection goes on when its descriptor is closed.
            view.tcp_state = diag::tcp_state(local.addr, remote.addr, cell.interface());
        }
        Ok(view)
    }

    /// How the socket of this number ended, whatever its name means by now. Absent while it is open, and when it is not remembered.
    pub fn end_of(&self, principal: &Principal, target: &Target) -> Option<Closing> {
        let session = self.session(principal, &target.session).ok()?;
        let cell = lock(&session.names).closed(target.uid?)?;
        cell.status().closed
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

    /// The sockets of a session after a number that have all of these labels, at most so many, in the order in which they were made.
    pub fn socket_views(
        &self,
        principal: &Principal,
        session: &SessionId,
        after: SocketUid,
        (closed, labels): (bool, &Labels),
        size: usize,
    ) -> Result<Vec<SocketView>, Refusal> {
        let session = self.session(principal, session)?;
        let wanted = |cell: &Arc<Cell>| labels::has_all(&cell.labels, labels);
        let page = lock(&session.names).page(after, closed, size, wanted);
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

    /// All sessions, each with whose it is.
    pub(super) fn all_sessions(&self) -> Vec<(Principal, Arc<Session>)> {
        lock(&self.0.roster).all_owned()
    }

    pub(super) fn next_uid(&self) -> SocketUid {
        SocketUid(self.0.next_uid.fetch_add(1, Ordering::Relaxed))
    }

    // === The whole agent ===

    /// Has it written down what the agent does by itself.
    pub fn note(&self, deed: &OwnDeed) {
        if let Some(witness) = &self.0.config.witness {
            witness.see(deed);
        }
    }

    /// Appends an event to the log of every session.
    pub fn announce(&self, event: &Event) {
        for session in lock(&self.0.roster).all() {
            session.announce(event.clone());
        }
    }

    /// Appends an event to the log of every session that is told what becomes of interfaces.
    pub fn announce_interface(&self, event: &Event) {
        for session in lock(&self.0.roster).all().into_iter().filter(|session| session.interface_events) {
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
        self.note(&OwnDeed::Draining);
        self.announce(&Event::AgentDraining { grace });
        let sessions = lock(&self.0.roster).all();
        for session in &sessions {
            session.end(CloseReason::AgentDraining).await;
        }
        for session in sessions.iter().chain([&self.empty()]) {
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
