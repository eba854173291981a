//! Listeners: connections come in, get a name, or are dropped.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::address::{Endpoint, Transport, socket_addr};
use crate::model::errno::Errno;
use crate::model::error::SocketError;
use crate::model::event::{AcceptPause, DropReason, Event};
use crate::model::operation::Operation;
use crate::model::policy::Use;
use crate::model::socket::AcceptPolicy;
use crate::socket::birth::Arrival;
use crate::socket::command::{Brought, Ending, Ticket};
use crate::socket::driver::{Attention, CALLS_PER_ROUND, Driver, Flow, Role};
use crate::socket::permit::Hindrance;
use crate::socket::usage::ListenerPlace;
use crate::sys::socket::Socket;

/// How long a listener waits before it tries again when something has run out, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What only a listener needs.
pub(super) struct Listener {
    /// Its place among those of the session. Nothing is left of it when the socket is being closed.
    place: Option<ListenerPlace>,
    policy: AcceptPolicy,
    /// Those who wait for a connection. MANUAL only.
    accepts: VecDeque<Ticket>,
    /// The number of the last connection.
    children: u64,
    pause: Option<Pause>,
    /// The kernel accepts no more here: the listener was shut down.
    over: bool,
    /// How many more connections the agent may accept by itself; absent: all.
    left: Option<u32>,
    /// A connection is there, and its turn has not come or has just come.
    delay: Option<Delay>,
}

/// A connection waits for its turn.
struct Delay {
    until: Instant,
    /// The turn has come.
    over: bool,
}

/// Something has run out. It stays so until a connection has been accepted again.
struct Pause {
    until: Instant,
    length: Duration,
    /// The time is over: it may be tried again.
    over: bool,
}

impl Listener {
    pub(super) fn attention(&self) -> Attention {
        let wanted = self.policy == AcceptPolicy::Auto || !self.accepts.is_empty();
        let paused = self.pause.as_ref().is_some_and(|pause| !pause.over);
        let delayed = self.delay.as_ref().is_some_and(|delay| !delay.over);
        if wanted && !paused && !delayed && !self.over && self.left != Some(0) {
            Attention::Work
        } else {
            Attention::None
        }
    }

    pub(super) fn accepts_by_itself(&self) -> bool {
        self.policy == AcceptPolicy::Auto
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let accepts = self.accepts.iter().map(|ticket| ticket.deadline);
        let pause = self.pause.iter().filter(|pause| !pause.over).map(|pause| pause.until);
        let delay = self.delay.iter().filter(|delay| !delay.over).map(|delay| delay.until);
        accepts.chain(pause).chain(delay).min()
    }

    /// Whether it was shut down, and does not listen.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// It is being closed: another one may begin to listen before this one's end is told.
    pub(super) fn make_place(&mut self) {
        self.place = None;
    }

    /// Ends waiting accepts.
    pub(super) fn end_accepts(&mut self, ending: &Ending, which: impl Fn(&Ticket) -> bool) {
        for at in (0..self.accepts.len()).rev() {
            if which(&self.accepts[at])
                && let Some(ticket) = self.accepts.remove(at)
            {
                ticket.finish(ending.clone(), Brought::Nothing);
            }
        }
    }
}

impl Driver {
    pub(super) fn listen(&mut self, mut ticket: Ticket, backlog: Option<u32>, place: Option<ListenerPlace>) {
        let spec = match self.cell.listener {
            Some(spec) => spec,
            None if self.cell.transport == Transport::Udp => return self.wrong_transport(ticket),
            // A connection that a listener has accepted never becomes one itself.
            None => {
                let at = match self.permit_listen() {
                    Ok(at) => at,
                    Err(refusal) => return ticket.refuse(refusal),
                };
                let errno = self.socket.listen(at, backlog.unwrap_or(1)).err().unwrap_or(Errno::EINVAL);
                let error = self.error(errno, Operation::Listen, "listen");
                return self.fail(ticket, error, Brought::Nothing);
            }
        };
        let place = match (&self.role, place) {
            (Role::Listener(_), _) => None,
            (_, Some(place)) => Some(place),
            (_, None) => match self.session.begin_to_listen() {
                Ok(place) => Some(place),
                Err(refusal) => return ticket.refuse(refusal),
            },
        };
        let at = match self.permit_listen() {
            Ok(at) => at,
            Err(refusal) => return ticket.refuse(refusal),
        };
        match self.bind_to_lab(&mut ticket) {
            Ok(()) => {}
            Err(Hindrance::Denied(refusal)) => return ticket.refuse(refusal),
            Err(Hindrance::Errno(errno)) => {
                let error = self.error(errno, Operation::Bind, "bind");
                return self.fail(ticket, error, Brought::Nothing);
            }
        }
        let backlog = backlog.unwrap_or(spec.backlog);
        match self.socket.listen(at, backlog) {
            Ok(()) => {
                self.holds(Use::Listen, at);
                if let Some(local) = self.local() {
                    self.record_for(&mut ticket, Event::Listening { local, backlog });
                }
                match &mut self.role {
                    Role::Listener(listener) if listener.over => {
                        listener.over = false;
                        self.watch();
                    }
                    Role::Listener(_) => {}
                    _ => {
                        self.role = Role::Listener(Listener {
                            place,
                            policy: spec.accept,
                            accepts: VecDeque::new(),
                            children: 0,
                            pause: None,
                            over: false,
                            left: None,
                            delay: None,
                        });
                        self.watch();
                    }
                }
                self.limit_accepts(spec.max_accepts);
                ticket.finish(Ending::Done, Brought::Nothing);
            }
            Err(errno) => {
                let error = self.error(errno, Operation::Listen, "listen");
                self.fail(ticket, error, Brought::Nothing);
            }
        }
    }

    /// Gives a socket that nobody has bound the lab address, where there is one.
    fn bind_to_lab(&mut self, ticket: &mut Ticket) -> Result<(), Hindrance> {
        let unbound = self.socket.local().is_none();
        if let (true, Some(lab)) = (unbound, self.sockets.lab_address(self.cell.family())) {
            let lab = self.permit_local(Use::Bind, socket_addr(lab, 0, 0))?;
            self.socket.bind(lab)?;
            self.holds(Use::Bind, lab);
            self.bound(ticket);
        }
        Ok(())
    }

    /// Takes a connection for somebody who asks.
    pub(super) fn accept_one(&mut self, ticket: Ticket) {
        match &mut self.role {
            Role::Listener(listener) if !listener.over => {
                listener.accepts.push_back(ticket);
                self.read_now = true;
                self.deadline_added();
            }
            // The kernel says what it thinks of accepting here: EINVAL, or EOPNOTSUPP for UDP.
            _ => {
                let errno = self.socket.accept().err().unwrap_or(Errno::EINVAL);
                let error = self.error(errno, Operation::Accept, "accept4");
                self.fail(ticket, error, Brought::Nothing);
            }
        }
    }

    /// Takes the connections that are there.
    pub(super) fn accept(&mut self) -> Flow {
        for _ in 0..CALLS_PER_ROUND {
            let Role::Listener(listener) = &self.role else { return Flow::Enough };
            if listener.attention() != Attention::Work || self.pause_for_log() {
                return Flow::Enough;
            }
            if self.session.has_room().is_err() {
                // Nobody is kept waiting as long as nobody has come.
                if !self.socket.readiness().readable {
                    return Flow::Drained;
                }
                self.pause_accepting(AcceptPause::SocketLimit, None);
                return Flow::Enough;
            }
            if self.sockets.has_descriptor().is_err() {
                if !self.socket.readiness().readable {
                    return Flow::Drained;
                }
                self.pause_accepting(AcceptPause::DescriptorLimit, None);
                return Flow::Enough;
            }
            if let Some(flow) = self.await_turn() {
                return flow;
            }
            match self.socket.accept() {
                Ok((socket, remote)) => {
                    if self.admit(socket, remote) {
                        self.count_accept();
                    }
                    if let Role::Listener(listener) = &mut self.role {
                        listener.pause = None;
                    }
                }
                Err(errno) if errno.would_block() => return Flow::Drained,
                Err(errno) => {
                    let error = self.error(errno, Operation::Accept, "accept4");
                    if errno.out_of_resources() {
                        self.pause_accepting(AcceptPause::OutOfResources, Some(error));
                        return Flow::Enough;
                    }
                    self.record(Event::AcceptFailed { error });
                }
            }
        }
        Flow::Enough
    }

    /// Lets the agent accept so many connections from now on.
    fn limit_accepts(&mut self, max: Option<u32>) {
        let Role::Listener(listener) = &mut self.role else { return };
        listener.left = max;
        if max == Some(0) {
            self.record(Event::AcceptPaused { reason: AcceptPause::AcceptLimit, error: None });
        }
        self.read_now = true;
    }

    /// One more was accepted, which may be the last one.
    fn count_accept(&mut self) {
        let Role::Listener(Listener { left: Some(left), .. }) = &mut self.role else { return };
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.record(Event::AcceptPaused { reason: AcceptPause::AcceptLimit, error: None });
        }
    }

    /// Puts the connection off that is there, if each is to wait and its turn has not come.
    fn await_turn(&mut self) -> Option<Flow> {
        let length = self.cell.listener.map_or(Duration::ZERO, |spec| spec.accept_delay);
        let Role::Listener(listener) = &mut self.role else { return None };
        if length.is_zero() || listener.delay.take().is_some_and(|delay| delay.over) {
            return None;
        }
        if !self.socket.readiness().readable {
            return Some(Flow::Drained);
        }
        listener.delay = Some(Delay { until: Instant::now() + length, over: false });
        self.deadline_added();
        Some(Flow::Enough)
    }

    /// The listener was shut down: whoever waits for a connection is told what accept(2) says then. It may listen again.
    pub(super) fn end_listening(&mut self, ticket: &mut Option<Ticket>) {
        let ending = Ending::Error(self.error(Errno::EINVAL, Operation::Accept, "accept4"));
        // A port that no bind has asked for is lost with it.
        if let Some(local) = self.local() {
            self.record_for_some(ticket, Event::Bound { local });
        }
        if let Role::Listener(listener) = &mut self.role {
            listener.over = true;
            listener.end_accepts(&ending, |_| true);
        }
        self.unwatch();
    }

    fn pause_accepting(&mut self, reason: AcceptPause, error: Option<SocketError>) {
        let Role::Listener(listener) = &mut self.role else { return };
        let before = listener.pause.as_ref().map(|pause| pause.length);
        let length = before.map_or(FIRST_PAUSE, |length| (length * 2).min(LONGEST_PAUSE));
        listener.pause = Some(Pause { until: Instant::now() + length, length, over: false });
        self.deadline_added();
        if before.is_none() {
            self.record(Event::AcceptPaused { reason, error });
        }
    }

    pub(super) fn expire_listener(&mut self, now: Instant) {
        let Role::Listener(listener) = &mut self.role else { return };
        listener.end_accepts(&Ending::TimedOut, |ticket| ticket.deadline <= now);
        if let Some(pause) = &mut listener.pause
            && pause.until <= now
        {
            pause.over = true;
            self.read_now = true;
        }
        if let Some(delay) = &mut listener.delay
            && delay.until <= now
        {
            delay.over = true;
            self.read_now = true;
        }
    }

    /// Gives a connection a name and a driver, or drops it when there are too many or it may not come in; tells which.
    fn admit(&mut self, socket: Socket, remote: Option<SocketAddr>) -> bool {
        let local = socket.local().map(|addr| self.endpoint(addr));
        let remote = remote.map(|addr| self.endpoint(addr));
        let unwanted = match &remote {
            None => Some(DropReason::Gone),
            Some(remote) if !self.cell.peers.permits(remote.addr.ip()) => Some(DropReason::Denied),
            Some(remote) if self.permit_peer(remote.addr).is_err() => Some(DropReason::Policy),
            Some(_) => self.is_full().then_some(DropReason::TooMany),
        };
        let (Some(local), Some(remote), None) = (&local, &remote, unwanted) else {
            self.drop_connection(socket, (local, remote), unwanted.unwrap_or(DropReason::Gone));
            return false;
        };
        let Role::Listener(listener) = &mut self.role else { return false };
        let request = listener.accepts.front().and_then(|ticket| ticket.request.clone());
        let arrival =
            Arrival { socket, local: local.clone(), remote: remote.clone(), request, number: &mut listener.children };
        let adopted = self.sockets.adopt(&self.session, &self.cell, arrival);
        if let Some(mut ticket) = listener.accepts.pop_front() {
            ticket.caused(adopted.created);
            ticket.caused(adopted.accepted);
            ticket.finish(Ending::Done, Brought::Accepted(adopted.id));
        }
        true
    }

    /// Whether as many connections are open as may be.
    fn is_full(&self) -> bool {
        let max = self.cell.listener.and_then(|spec| spec.max_connections);
        max.is_some_and(|max| self.cell.open_children() >= max)
    }

    fn drop_connection(&self, socket: Socket, ends: (Option<Endpoint>, Option<Endpoint>), reason: DropReason) {
        let (local, remote) = ends;
        // Cannot fail on a connection that was just accepted; if it did, the peer would get a FIN instead of a RST.
        let _ = socket.set_linger(Some(Duration::ZERO));
        drop(socket);
        self.record(Event::ConnectionDropped { local, remote, reason });
    }
}
