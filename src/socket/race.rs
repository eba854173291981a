//! Connecting to several addresses at a time: RFC 8305. Each attempt has a descriptor of its own; the first that is connected becomes the socket's.
//!
//! Invariant: each `connect_started` has its `connect_failed` before the one `connected`, or before the race is over.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use crate::model::address::{Endpoint, Family, Transport, socket_addr};
use crate::model::errno::Errno;
use crate::model::error::SocketError;
use crate::model::event::Event;
use crate::model::operation::Operation;
use crate::model::option::{OptionSpec, SocketOption};
use crate::model::policy::Use;
use crate::model::policy::permit::Permitted;
use crate::model::refusal::Refusal;
use crate::model::socket::SocketState;
use crate::socket::command::{Brought, Ending, Ticket};
use crate::socket::create::set_options_of_client;
use crate::socket::driver::{Driver, Role};
use crate::socket::permit::Hindrance;
use crate::sys::readiness;
use crate::sys::socket::Socket;

/// Who races.
#[derive(Debug)]
pub(super) struct Entrants {
    /// The addresses, in the order in which they begin.
    pub(super) addresses: VecDeque<SocketAddr>,
    /// How much later each begins than the one before it.
    pub(super) delay: Duration,
    /// How long each has to answer.
    pub(super) timeout: Option<Duration>,
}

/// A race that is under way.
pub(super) struct Race {
    pub(super) ticket: Ticket,
    /// Those that have not begun.
    entrants: Entrants,
    attempts: Vec<Attempt>,
    /// When the next one begins.
    next: Instant,
    /// What became of the one that failed last.
    failure: Ending,
}

/// One of them.
struct Attempt {
    io: AsyncFd<Arc<Socket>>,
    remote: Endpoint,
    /// The local address that was taken for it, by leave of the policy.
    bound: Option<Permitted<SocketAddr>>,
    deadline: Instant,
}

impl Race {
    /// Whom it is with, as far as it has begun.
    pub(super) fn remotes(&self) -> impl Iterator<Item = SocketAddr> {
        self.attempts.iter().map(|attempt| attempt.remote.addr)
    }

    pub(super) fn next_deadline(&self) -> Instant {
        let next = (!self.entrants.addresses.is_empty()).then_some(self.next);
        let attempts = self.attempts.iter().map(|attempt| attempt.deadline);
        attempts.chain(next).fold(self.ticket.deadline, Instant::min)
    }
}

impl Driver {
    pub(super) fn race(&mut self, ticket: Ticket, mut entrants: Entrants) {
        let state = self.cell.status().state;
        match (state, &self.role) {
            (SocketState::Unbound, Role::Idle) => {}
            (SocketState::Bound, Role::Idle) => {
                let why =
                    "is bound: attempts that race each other have addresses of their own; leave `attempt_delay` out";
                return ticket.refuse(Refusal::WrongState { socket: self.cell.id.clone(), why });
            }
            // The kernel says what it thinks of it: EISCONN, EALREADY.
            _ => match entrants.addresses.pop_front() {
                Some(first) => return self.connect(ticket, first, (true, false)),
                None => return ticket.refuse(Refusal::Internal("a lookup without an address")),
            },
        }
        let now = Instant::now();
        let race = Race { ticket, entrants, attempts: Vec::new(), next: now, failure: Ending::TimedOut };
        self.go_on_racing(Box::new(race), now);
    }

    /// Notes an option that attempts are to have, too, also those that are under way.
    pub(super) fn note_given(&mut self, option: &SocketOption, permitted: Permitted<&'static OptionSpec>) {
        match &self.role {
            Role::Idle if self.cell.transport == Transport::Tcp => {}
            Role::Racing(race) => {
                for attempt in &race.attempts {
                    if option.spec.fits(Transport::Tcp, Family::of(attempt.remote.addr.ip())) {
                        // The socket itself has taken it; one attempt that does not is no reason to end it.
                        let _ = attempt.io.get_ref().set_option(permitted, &option.value);
                    }
                }
            }
            _ => return,
        }
        self.given.push(option.clone());
    }

    /// Begins with those whose turn it is. With none left, it is over.
    fn go_on_racing(&mut self, mut race: Box<Race>, now: Instant) {
        while race.next <= now
            && let Some(address) = race.entrants.addresses.pop_front()
        {
            race.next = now + race.entrants.delay;
            let asker = race.ticket.asker.clone();
            match self.on_behalf_of(asker, |driver| driver.begin_attempt(&mut race, address, now)) {
                Ok(Begun::Waits(attempt)) => race.attempts.push(attempt),
                Ok(Begun::Won(attempt)) => return self.win(race, attempt, None),
                Ok(Begun::Failed(remote, error)) => self.attempt_failed(&mut race, remote, Some(error), now),
                Err(refusal) => return self.refuse_race(*race, refusal),
            }
        }
        if race.attempts.is_empty() && race.entrants.addresses.is_empty() {
            let Race { ticket, failure, .. } = *race;
            ticket.finish(failure, Brought::Nothing);
            return self.end_waiting_for_connection();
        }
        self.role = Role::Racing(race);
        self.deadline_added();
    }

    fn begin_attempt(&mut self, race: &mut Race, address: SocketAddr, now: Instant) -> Result<Begun, Refusal> {
        let permitted = self.permit_connect(address)?;
        let remote = self.endpoint(address);
        // Before the call, because over there the connection may be accepted before it returns.
        self.record_for(&mut race.ticket, Event::ConnectStarted { remote: remote.clone() });
        let failed = |errno, operation, syscall| {
            let mut error = SocketError::new(errno, operation, syscall);
            error.remote = Some(remote.clone());
            Ok(Begun::Failed(remote.clone(), error))
        };
        let (socket, bound) = match self.descriptor(Family::of(address.ip())) {
            Ok(ready) => ready,
            Err(Hindrance::Errno(errno)) => return failed(errno, Operation::Create, "socket"),
            // The others go on.
            Err(Hindrance::Denied(Refusal::OutOfDescriptors { .. })) if !race.attempts.is_empty() => {
                return failed(Errno::EMFILE, Operation::Create, "socket");
            }
            Err(Hindrance::Denied(refusal)) => return Err(refusal),
        };
        let answer = socket.connect(permitted);
        // Only now: a fresh socket counts as hung up, and a registration never forgets that.
        let io = match readiness::watch(Arc::new(socket)) {
            Ok(io) => io,
            Err(errno) => return failed(errno, Operation::Create, "epoll_ctl"),
        };
        let deadline = race.entrants.timeout.map_or(race.ticket.deadline, |timeout| now + timeout);
        let attempt = Attempt { io, remote: remote.clone(), bound, deadline };
        match answer {
            Ok(()) => Ok(Begun::Won(attempt)),
            Err(Errno::EINPROGRESS) => Ok(Begun::Waits(attempt)),
            Err(errno) => failed(errno, Operation::Connect, "connect"),
        }
    }

    /// A descriptor as the socket's own is: with its options, on the lab address where there is one.
    fn descriptor(&self, family: Family) -> Result<(Socket, Option<Permitted<SocketAddr>>), Hindrance> {
        self.sockets.has_descriptor()?;
        let socket = Socket::new(Transport::Tcp, family)?;
        set_options_of_client(&socket, family);
        for SocketOption { spec, value } in self.given.iter().filter(|given| given.spec.fits(Transport::Tcp, family)) {
            socket.set_option(self.permit_option(spec)?, value)?;
        }
        let Some(lab) = self.sockets.lab_address(family) else { return Ok((socket, None)) };
        let lab = self.permit_local(Use::Bind, socket_addr(lab, 0, 0))?;
        socket.bind_address(lab)?;
        Ok((socket, Some(lab)))
    }

    /// One of them is out, and the next one begins at once.
    fn attempt_failed(&mut self, race: &mut Race, remote: Endpoint, error: Option<SocketError>, now: Instant) {
        race.failure = error.clone().map_or(Ending::TimedOut, Ending::Error);
        race.next = now;
        let still_connecting = !(race.attempts.is_empty() && race.entrants.addresses.is_empty());
        self.record_for(&mut race.ticket, Event::ConnectFailed { remote, local: None, error, still_connecting });
    }

    /// Tells of all that are under way that they are over, and closes them.
    fn end_attempts(&mut self, race: &mut Race, error: Option<&SocketError>, still_connecting: bool) {
        let mut attempts = std::mem::take(&mut race.attempts).into_iter().peekable();
        while let Some(Attempt { io, remote, .. }) = attempts.next() {
            drop(io);
            let error = error.map(|error| SocketError { remote: Some(remote.clone()), ..error.clone() });
            let still_connecting = still_connecting || attempts.peek().is_some();
            self.record_for(&mut race.ticket, Event::ConnectFailed { remote, local: None, error, still_connecting });
        }
    }

    /// The descriptor of one of them is the socket's from now on.
    fn win(&mut self, mut race: Box<Race>, winner: Attempt, broken: Option<Errno>) {
        self.end_attempts(&mut race, Some(&SocketError::canceled(Operation::Connect)), true);
        let Attempt { io, remote, bound, .. } = winner;
        self.socket = io.into_inner();
        self.cell.exchange(&self.socket, Family::of(remote.addr.ip()));
        if let Some(bound) = bound {
            self.holds(Use::Bind, bound);
        }
        if let Ok(permitted) = self.permit_connect(remote.addr) {
            self.holds(Use::Connect, permitted);
        }
        self.watch();
        self.connected(race.ticket, remote);
        // The handshake was done, and the connection reset since.
        if let Some(errno) = broken {
            self.break_down(errno, Operation::Receive, "recv");
        }
    }

    /// Looks after attempts that have an answer.
    pub(super) fn poll_race(&mut self, cx: &mut Context<'_>) -> bool {
        if self.end.is_some() || !matches!(self.role, Role::Racing(_)) {
            return false;
        }
        let Role::Racing(mut race) = std::mem::replace(&mut self.role, Role::Idle) else { return false };
        let now = Instant::now();
        let mut busy = false;
        let mut at = 0;
        while at < race.attempts.len() {
            match self.poll_attempt(&race.attempts[at], cx) {
                Poll::Pending => at += 1,
                Poll::Ready(answer) => {
                    busy = true;
                    let attempt = race.attempts.swap_remove(at);
                    match answer {
                        Answer::Connected(broken) => {
                            self.win(race, attempt, broken);
                            return true;
                        }
                        Answer::Failed(errno) => {
                            let mut error = SocketError::new(errno, Operation::Connect, "connect");
                            error.remote = Some(attempt.remote.clone());
                            self.attempt_failed(&mut race, attempt.remote, Some(error), now);
                        }
                        Answer::Denied => {
                            // Another policy than the one that it began under.
                            race.attempts.push(attempt);
                            self.role = Role::Racing(race);
                            self.end_by_policy();
                            return true;
                        }
                    }
                }
            }
        }
        if busy {
            self.go_on_racing(race, now);
        } else {
            self.role = Role::Racing(race);
        }
        busy
    }

    fn poll_attempt(&self, attempt: &Attempt, cx: &mut Context<'_>) -> Poll<Answer> {
        while let Poll::Ready(Ok(mut guard)) = attempt.io.poll_write_ready(cx) {
            let Ok(permitted) = self.permit_connect(attempt.remote.addr) else { return Poll::Ready(Answer::Denied) };
            match attempt.io.get_ref().connect(permitted) {
                Ok(()) => return Poll::Ready(Answer::Connected(None)),
                Err(Errno::EALREADY | Errno::EINPROGRESS) => guard.clear_ready(),
                Err(errno @ (Errno::ECONNRESET | Errno::EPIPE)) => return Poll::Ready(Answer::Connected(Some(errno))),
                Err(errno) => return Poll::Ready(Answer::Failed(errno)),
            }
        }
        Poll::Pending
    }

    pub(super) fn expire_race(&mut self, now: Instant) {
        if matches!(&self.role, Role::Racing(race) if race.ticket.deadline <= now) {
            return self.give_up_race(Ending::TimedOut);
        }
        let Role::Racing(mut race) = std::mem::replace(&mut self.role, Role::Idle) else { return };
        while let Some(at) = race.attempts.iter().position(|attempt| attempt.deadline <= now) {
            let Attempt { remote, .. } = race.attempts.swap_remove(at);
            self.attempt_failed(&mut race, remote, None, now);
        }
        self.go_on_racing(race, now);
    }

    /// Ends a race that has taken long enough, or that nobody wants any more.
    pub(super) fn give_up_race(&mut self, ending: Ending) {
        let Role::Racing(mut race) = std::mem::replace(&mut self.role, Role::Idle) else { return };
        let error = if let Ending::Error(error) = &ending { Some(error.clone()) } else { None };
        self.end_attempts(&mut race, error.as_ref(), false);
        race.ticket.finish(ending, Brought::Nothing);
        self.end_waiting_for_connection();
    }

    /// The policy does not let one of them begin: then it is refused, and the others end.
    fn refuse_race(&mut self, mut race: Race, refusal: Refusal) {
        self.end_attempts(&mut race, Some(&SocketError::canceled(Operation::Connect)), false);
        race.ticket.refuse(refusal);
        self.end_waiting_for_connection();
    }

    /// Ends a race because the socket is being closed: `closed` will tell.
    pub(super) fn abandon_race(&mut self) {
        if let Role::Racing(race) = std::mem::replace(&mut self.role, Role::Idle) {
            race.ticket.finish(Ending::Error(SocketError::canceled(Operation::Connect)), Brought::Nothing);
        }
    }
}

/// How an attempt has begun.
enum Begun {
    Waits(Attempt),
    Won(Attempt),
    Failed(Endpoint, SocketError),
}

/// What has come of one.
enum Answer {
    /// The handshake is done; the connection may be broken already.
    Connected(Option<Errno>),
    Failed(Errno),
    Denied,
}
