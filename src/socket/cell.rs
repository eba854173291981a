//! The face of one socket: what everybody may know of it while its driver works.
//!
//! Invariant: the status changes only together with the event that tells of the change, under the lock of the log. So the statuses of all
//! sockets, read under that lock, are those right after its newest event.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::Digest;
use tokio::sync::{Notify, mpsc};

use crate::eventlog::hub::{Appender, Hub};
use crate::model::address::{Family, Transport};
use crate::model::event::Event;
use crate::model::group::InterfaceId;
use crate::model::id::{RequestId, SessionId, SocketId, SocketUid};
use crate::model::labels::Labels;
use crate::model::memory::SocketMemory;
use crate::model::option::{Access, OptionResult, OptionSpec};
use crate::model::option_table::OPTIONS;
use crate::model::payload::Pattern;
use crate::model::peers::Peers;
use crate::model::probe::ProbeCounter;
use crate::model::socket::{AcceptPolicy, Conduct, SocketState, SocketStatus};
use crate::model::source_filter::FilterResult;
use crate::model::tcp::{TcpInfo, TcpState};
use crate::model::time::Timestamp;
use crate::model::verify::{PatternDifference, Verification, Verifier};
use crate::model::view::{ListenerView, Reading, SocketView};
use crate::model::{error::SocketError, operation::Operation};
use crate::socket::command::Command;
use crate::socket::digest::Digests;
use crate::socket::receive::Receiver;
use crate::socket::record::endpoint;
use crate::sys::socket::Socket;

/// What a TCP socket was told about being a listener.
#[derive(Debug, Clone, Copy)]
pub(super) struct ListenerSpec {
    pub(super) backlog: u32,
    pub(super) max_connections: Option<u32>,
    pub(super) accept: AcceptPolicy,
    pub(super) max_accepts: Option<u32>,
    pub(super) accept_delay: Duration,
}

/// What is left after a payload was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Credit {
    /// More may be read, after so long.
    Left(Duration),
    /// It is paused from now on.
    UsedUp,
}

/// Identity, status and descriptor of one socket, shared by its driver, its session's names and whoever asks.
pub(super) struct Cell {
    pub(super) session: SessionId,
    pub(super) id: SocketId,
    pub(super) uid: SocketUid,
    /// The listener that accepted it. It counts its open connections.
    pub(super) parent: Option<Arc<Self>>,
    pub(super) transport: Transport,
    /// IPv4 or IPv6. Settled at its birth, unless addresses of both race.
    family: Mutex<Family>,
    pub(super) created: Timestamp,
    pub(super) listener: Option<ListenerSpec>,
    pub(super) labels: Arc<Labels>,
    pub(super) peers: Arc<Peers>,
    /// What all that it receives is compared with, and its connections, too.
    pub(super) verify: Option<Arc<Pattern>>,
    pub(super) hub: Arc<Hub>,
    /// The number of the session's newest event when this socket was about to be made.
    pub(super) born_after: u64,
    pub(super) commands: mpsc::Sender<Box<Command>>,
    /// What ReceiveSocket has taken so far.
    pub(super) receiver: Receiver,
    /// Woken when the delivery changes.
    pub(super) delivery_changed: Notify,
    /// Woken when there will be no connection that somebody waits for.
    pub(super) no_connection: Notify,
    pub(super) pending_write_bytes: AtomicU32,
    /// How many dropped datagrams of the kernel's count have been told of.
    pub(super) drops_told: Mutex<u32>,
    open_children: AtomicU32,
    /// The interface that it was bound to when it was closed; zero: to none.
    interface: AtomicU32,
    conduct: Mutex<Conduct>,
    status: Mutex<SocketStatus>,
    /// What went through it, where its delivery asks for that.
    digests: Mutex<Option<Box<Digests>>>,
    /// How what it receives compares, where it is compared.
    verifier: Option<Mutex<Box<Verifier>>>,
    /// What has come of probes, where it looks for them.
    probes: Option<Mutex<Box<ProbeCounter>>>,
    /// Taken out when the driver closes it.
    socket: Mutex<Option<Arc<Socket>>>,
}

/// What a cell begins with.
pub(super) struct Birth {
    pub(super) session: SessionId,
    pub(super) id: SocketId,
    pub(super) uid: SocketUid,
    pub(super) parent: Option<Arc<Cell>>,
    pub(super) transport: Transport,
    pub(super) family: Family,
    pub(super) created: Timestamp,
    pub(super) listener: Option<ListenerSpec>,
    pub(super) labels: Arc<Labels>,
    pub(super) peers: Arc<Peers>,
    pub(super) verify: Option<Arc<Pattern>>,
    pub(super) probes: bool,
    pub(super) conduct: Conduct,
    pub(super) hub: Arc<Hub>,
    pub(super) commands: mpsc::Sender<Box<Command>>,
    pub(super) socket: Arc<Socket>,
}

impl Cell {
    pub(super) fn new(birth: Birth) -> Arc<Self> {
        if let Some(parent) = &birth.parent {
            parent.open_children.fetch_add(1, Ordering::AcqRel);
        }
        Arc::new(Self {
            session: birth.session,
            id: birth.id,
            uid: birth.uid,
            parent: birth.parent,
            transport: birth.transport,
            family: Mutex::new(birth.family),
            created: birth.created,
            listener: birth.listener,
            labels: birth.labels,
            peers: birth.peers,
            verifier: birth.verify.clone().map(|pattern| Mutex::new(Box::new(Verifier::new(pattern)))),
            verify: birth.verify,
            probes: birth.probes.then(Mutex::default),
            born_after: birth.hub.bounds().1,
            hub: birth.hub,
            commands: birth.commands,
            receiver: Receiver::default(),
            delivery_changed: Notify::new(),
            no_connection: Notify::new(),
            pending_write_bytes: AtomicU32::new(0),
            drops_told: Mutex::new(0),
            open_children: AtomicU32::new(0),
            interface: AtomicU32::new(0),
            digests: Mutex::new(digests(&birth.conduct)),
            conduct: Mutex::new(birth.conduct),
            status: Mutex::new(SocketStatus::default()),
            socket: Mutex::new(Some(birth.socket)),
        })
    }

    /// Appends an event of this socket, and lets its status take it up.
    pub(super) fn record(&self, request: Option<&RequestId>, event: Event) -> u64 {
        self.hub.append(|log| self.record_in(log, request, event))
    }

    /// The same, unless it has been closed: nothing follows that.
    pub(super) fn record_while_open(&self, request: &RequestId, event: Event) -> Option<u64> {
        self.hub.append(|log| {
            let open = lock(&self.status).state != SocketState::Closed;
            open.then(|| self.record_in(log, Some(request), event))
        })
    }

    /// The same, among other events that stand together.
    pub(super) fn record_in(&self, log: &mut Appender<'_>, request: Option<&RequestId>, event: Event) -> u64 {
        lock(&self.status).apply(&event);
        log.push(Some((self.id.clone(), self.uid)), request.cloned(), event)
    }

    /// What has become of it.
    pub(super) fn status(&self) -> MutexGuard<'_, SocketStatus> {
        lock(&self.status)
    }

    /// Whether it is a TCP socket that neither is connected nor connects, so that only the kernel has something to say to a reader.
    pub(super) fn is_unconnected(&self) -> bool {
        use SocketState::{Bound, Listening, Unbound};

        self.transport == Transport::Tcp && matches!(self.status().state, Unbound | Bound | Listening)
    }

    /// How it behaves.
    pub(super) fn conduct(&self) -> Conduct {
        *lock(&self.conduct)
    }

    /// Changes how it behaves.
    pub(super) fn set_conduct(&self, conduct: Conduct) {
        let before = std::mem::replace(&mut *lock(&self.conduct), conduct);
        if before.delivery.hash != conduct.delivery.hash {
            *lock(&self.digests) = digests(&conduct);
        }
        self.delivery_changed.notify_waiters();
    }

    /// Takes the credit of one payload.
    pub(super) fn take_credit(&self) -> Credit {
        let mut conduct = lock(&self.conduct);
        let (before, after) = (conduct.delivery, conduct.delivery.after_read());
        conduct.delivery = after;
        if after.paused && !before.paused { Credit::UsedUp } else { Credit::Left(after.read_interval) }
    }

    /// Takes bytes that were read into the hash, where there is one.
    pub(super) fn hash_received(&self, bytes: &[u8]) {
        if let Some(digests) = &mut *lock(&self.digests) {
            digests.received.update(bytes);
        }
    }

    /// Compares what was read with what is expected, where something is: the first difference is told.
    pub(super) fn verify(&self, compare: impl FnOnce(&mut Verifier) -> Option<PatternDifference>) {
        let Some(verifier) = &self.verifier else { return };
        // Its lock is not held while the log's is taken: whoever looks at all sockets has that one first.
        let difference = compare(&mut lock(verifier));
        if let Some(difference) = difference {
            self.record(None, Event::PatternBroken(difference));
        }
    }

    /// Whether it looks for probes.
    pub(super) const fn looks_for_probes(&self) -> bool {
        self.probes.is_some()
    }

    /// Lets probes be counted, where it looks for them.
    pub(super) fn count_probes(&self, count: impl FnOnce(&mut ProbeCounter)) {
        if let Some(probes) = &self.probes {
            count(&mut lock(probes));
        }
    }

    /// How what it has received compares. Absent where it is not compared, and of a listener, which receives nothing.
    fn verification(&self, status: &SocketStatus) -> Option<Verification> {
        let verifier = self.verifier.as_ref().filter(|_| status.listener.is_none())?;
        Some(lock(verifier).seen())
    }

    /// Takes bytes that were handed to the kernel into the hash, where there is one.
    pub(super) fn hash_written(&self, bytes: &[u8]) {
        if let Some(digests) = &mut *lock(&self.digests) {
            digests.written.update(bytes);
        }
    }

    /// IPv4 or IPv6.
    pub(super) fn family(&self) -> Family {
        *lock(&self.family)
    }

    /// Takes another descriptor: the one of the attempt that has won.
    pub(super) fn exchange(&self, winner: &Arc<Socket>, family: Family) {
        *lock(&self.family) = family;
        let mut socket = lock(&self.socket);
        if socket.is_some() {
            *socket = Some(Arc::clone(winner));
        }
    }

    /// How many connections of this listener are open.
    pub(super) fn open_children(&self) -> u32 {
        self.open_children.load(Ordering::Acquire)
    }

    /// Takes the descriptor away from everybody, because its driver closes it. Its listener counts one connection less.
    pub(super) fn retire(&self) {
        let retired = lock(&self.socket).take();
        if let Some(socket) = retired.as_ref().filter(|_| self.transport == Transport::Tcp) {
            self.interface.store(socket.interface(), Ordering::Release);
        }
        if let (Some(_), Some(parent)) = (retired, &self.parent) {
            parent.open_children.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// The interface that it was bound to when it was closed: the kernel asks for it where it is to tell of the connection. Zero: to none.
    pub(super) fn interface(&self) -> u32 {
        self.interface.load(Ordering::Acquire)
    }

    /// The socket as it is now, without asking the kernel.
    pub(super) fn view(&self) -> SocketView {
        let status = self.status().clone();
        SocketView {
            verification: self.verification(&status),
            probes: self.probes.as_ref().map(|probes| lock(probes).report()),
            session: self.session.clone(),
            id: self.id.clone(),
            uid: self.uid,
            parent: self.parent.as_ref().map(|parent| (parent.id.clone(), parent.uid)),
            transport: self.transport,
            family: self.family(),
            created: self.created,
            labels: Arc::clone(&self.labels),
            peers: Arc::clone(&self.peers),
            conduct: self.conduct(),
            status,
            listener: self.listener.map(|spec| ListenerView {
                accept: spec.accept,
                max_connections: spec.max_connections,
                connection_count: self.open_children(),
                queue: None,
            }),
            hashes: lock(&self.digests).as_deref().map(Digests::now),
            queues: None,
            readiness: None,
            tcp_state: None,
        }
    }

    /// The socket as it is now, with what the kernel holds for it.
    pub(super) fn view_with_kernel(&self) -> SocketView {
        // Held until what the kernel told is in the log, which then is before `closed`.
        let socket = lock(&self.socket);
        if let Some(socket) = &*socket {
            self.tell_latest_drops(socket);
        }
        let mut view = self.view();
        if let Some(socket) = &*socket {
            let Reading { mut queues, readiness, tcp_state, accept_queue } = socket.reading(self.transport);
            queues.pending_write_bytes = self.pending_write_bytes.load(Ordering::Acquire);
            view.queues = Some(queues);
            view.readiness = Some(readiness);
            view.tcp_state = tcp_state;
            // The log tells it where an operation gives it; a connect that goes on, and a bind that has failed, change it, too. That of a
            // connection never changes, as long as the kernel has one.
            let connected = view.status.state == SocketState::Connected && tcp_state != Some(TcpState::Closed);
            if self.transport == Transport::Udp || !connected {
                view.status.local = socket.local().map(|addr| endpoint(socket, addr));
            }
            if let Some(listener) = &mut view.listener {
                listener.queue = accept_queue;
            }
        }
        view
    }

    /// Its descriptor, which its driver is to have. Absent when it is closed.
    pub(super) fn descriptor(&self) -> Option<Arc<Socket>> {
        lock(&self.socket).clone()
    }

    /// What the kernel knows of the connection. Absent of what is none, and of what is closed.
    pub(super) fn tcp_info(&self) -> Option<TcpInfo> {
        let socket = lock(&self.socket);
        socket.as_ref().filter(|_| self.transport == Transport::Tcp)?.tcp_info().ok()
    }

    /// What the kernel holds in memory for it. Absent when it is closed.
    pub(super) fn memory(&self) -> Option<SocketMemory> {
        lock(&self.socket).as_ref()?.memory()
    }

    /// Its number on this host, and whether it takes no IPv4. Absent when it is closed.
    pub(super) fn cookie_and_only_ipv6(&self) -> Option<(u64, bool)> {
        let socket = lock(&self.socket);
        let socket = socket.as_ref()?;
        Some((socket.cookie()?, socket.takes_only_ipv6()))
    }

    /// Options as the kernel has them: those asked for, or all that fit. Absent when the socket is closed.
    pub(super) fn options(&self, specs: &[&'static OptionSpec]) -> Option<Vec<OptionResult>> {
        let socket = lock(&self.socket);
        let socket = socket.as_ref()?;
        let family = self.family();
        let readable = |spec: &&OptionSpec| spec.access != Access::WriteOnly && spec.fits(self.transport, family);
        let all: Vec<&'static OptionSpec> =
            if specs.is_empty() { OPTIONS.iter().filter(readable).collect() } else { specs.to_vec() };
        let read = |spec: &'static OptionSpec| match socket.option(spec) {
            Ok(effective) => OptionResult { spec, asked: None, effective, error: None },
            Err(errno) => {
                let error = SocketError::new(errno, Operation::GetOption, "getsockopt").about(spec.name);
                OptionResult { spec, asked: None, effective: None, error: Some(error) }
            }
        };
        Some(all.into_iter().map(read).collect())
    }

    /// The filters of a group in these places, as the kernel has them. Absent when the socket is closed.
    pub(super) fn source_filters(&self, group: IpAddr, places: Vec<InterfaceId>) -> Option<Vec<FilterResult>> {
        let socket = lock(&self.socket);
        let socket = socket.as_ref()?;
        let read = |interface: InterfaceId| match socket.source_filter(interface.index, group) {
            Ok(filter) => FilterResult { group, interface, filter: Some(filter), error: None },
            Err(errno) => {
                let error = SocketError::new(errno, Operation::Filter, "getsockopt").about(&group.to_string());
                FilterResult { group, interface, filter: None, error: Some(error) }
            }
        };
        Some(places.into_iter().map(read).collect())
    }
}

impl Drop for Cell {
    /// Nobody can ask for what it has received any more.
    fn drop(&mut self) {
        self.hub.give_up(self.uid);
    }
}

fn digests(conduct: &Conduct) -> Option<Box<Digests>> {
    conduct.delivery.hash.then(Box::default)
}

/// Locks what no panic can leave half changed: every critical section here is a few assignments.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
