//! The task that owns one socket: it takes orders, follows readiness, keeps deadlines, and writes down what happens.
//!
//! Invariants: every socket's first event is `created` and its last one is `closed`, exactly one each, whatever ends it, even a driver that
//! is dropped. The order inside every operation is: system call, event, reply. Nothing here ever blocks.

use std::collections::VecDeque;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Sleep};

use crate::model::address::Transport;
use crate::model::delivery::{DeliveryMode, ReadPause};
use crate::model::error::SocketError;
use crate::model::event::Event;
use crate::model::id::{Principal, RequestId};
use crate::model::operation::Operation;
use crate::model::option::SocketOption;
use crate::model::socket::{CloseReason, Direction};
use crate::model::tcp::TcpState;
use crate::socket::cell::{Cell, Credit};
use crate::socket::command::{Brought, Ending, Orders, Ticket};
use crate::socket::listener::Listener;
use crate::socket::permit::Standing;
use crate::socket::race::Race;
use crate::socket::session::Session;
use crate::socket::sockets::Sockets;
use crate::socket::stream::Stream;
use crate::socket::tcp::Connecting;
use crate::socket::tcp_state::StateWatch;
use crate::socket::transfer::Attached;
use crate::socket::udp::{Datagrams, PendingSend};
use crate::socket::write::Outgoing;
use crate::sys::readiness;
use crate::sys::socket::Socket;

/// How many rounds of work a driver does before it lets others run.
const ROUNDS: usize = 8;

/// How many system calls of one kind a round makes.
pub(super) const CALLS_PER_ROUND: usize = 32;

/// How many bytes a driver reads before it lets others run: as many as a batch of events carries, so that whoever reads the log can keep
/// up with it.
pub(super) const BYTES_PER_TURN: usize = 256 * 1024;

/// The owner of one socket.
pub(super) struct Driver {
    pub(super) sockets: Sockets,
    pub(super) session: Arc<Session>,
    pub(super) cell: Arc<Cell>,
    pub(super) socket: Arc<Socket>,
    pub(super) role: Role,
    /// Writes, and what must wait for them, in the order of arrival. TCP only.
    pub(super) outgoing: VecDeque<Outgoing>,
    /// Datagrams that wait for room. UDP only.
    pub(super) sends: VecDeque<PendingSend>,
    /// Reads that wait for bytes. PULL delivery only.
    pub(super) receives: VecDeque<PendingReceive>,
    /// The stream that has the connection. TCP only.
    pub(super) attached: Option<Box<Attached>>,
    /// Nothing will be read any more, because that direction was ended from here.
    pub(super) receive_shut: bool,
    /// Reading is to be tried without waiting for readiness.
    pub(super) read_now: bool,
    /// Nothing is read before.
    pub(super) read_from: Option<Instant>,
    /// Nothing that the log would keep is read, because it has no room.
    pub(super) log_full: bool,
    /// How many bytes may still be read before others run.
    pub(super) turn: usize,
    /// Who asks for what is just being done, where that is not whose session it is.
    pub(super) asker: Option<Principal>,
    /// Options that it was given before it had a connection: each attempt of a race gets them.
    pub(super) given: Vec<SocketOption>,
    /// What the policy has allowed it; absent where that is nothing.
    pub(super) standing: Option<Box<Standing>>,
    /// What is kept to tell changes of the kernel's state; absent where that is not wanted.
    pub(super) states: Option<Box<StateWatch>>,
    /// Set when the socket is to be closed.
    pub(super) end: Option<End>,
    pub(super) commands: Orders,
    pub(super) io: Option<AsyncFd<Arc<Socket>>>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Something with a deadline was added.
    timer_changed: bool,
}

/// What the socket is now, with what only that needs.
pub(super) enum Role {
    /// A TCP socket that neither listens nor connects.
    Idle,
    Listener(Listener),
    Connecting(Connecting),
    Racing(Box<Race>),
    Stream(Stream),
    Datagrams(Datagrams),
}

/// What a direction is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attention {
    /// Nothing.
    None,
    /// Work that it is ready for.
    Work,
    /// That the other side goes away.
    Departure,
}

/// How a round of work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// The kernel has nothing more for now: wait for it.
    Drained,
    /// There may be more, or nothing more is wanted.
    Enough,
}

/// A read that waits for bytes.
pub(super) struct PendingReceive {
    pub(super) ticket: Ticket,
    pub(super) max_bytes: usize,
    pub(super) min_bytes: u32,
    /// What is there stays there.
    pub(super) peek: bool,
}

/// Why the socket ends, and who asked for it.
pub(super) struct End {
    pub(super) reason: CloseReason,
    pub(super) ticket: Option<Ticket>,
    pub(super) linger: Option<u16>,
}

impl End {
    pub(super) fn because(reason: CloseReason) -> Self {
        Self { reason, ticket: None, linger: None }
    }

    pub(super) fn asked(reason: CloseReason, ticket: Ticket) -> Self {
        Self { reason, ticket: Some(ticket), linger: None }
    }
}

impl Driver {
    pub(super) fn new(
        sockets: Sockets,
        session: Arc<Session>,
        cell: Arc<Cell>,
        socket: Arc<Socket>,
        commands: Orders,
    ) -> Self {
        let role = match cell.transport {
            Transport::Tcp => Role::Idle,
            Transport::Udp => Role::Datagrams(Datagrams::default()),
        };
        let seen = cell.parent.is_none().then_some(TcpState::Closed);
        let states = cell.conduct().tell_states.then(|| Box::new(StateWatch { seen, ..StateWatch::default() }));
        Self {
            sockets,
            session,
            cell,
            socket,
            role,
            outgoing: VecDeque::new(),
            sends: VecDeque::new(),
            receives: VecDeque::new(),
            attached: None,
            receive_shut: false,
            read_now: false,
            read_from: None,
            log_full: false,
            turn: 0,
            asker: None,
            given: Vec::new(),
            standing: None,
            states,
            end: None,
            commands,
            io: None,
            timer: None,
            timer_changed: false,
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.turn = BYTES_PER_TURN;
        for _ in 0..ROUNDS {
            let busy = self.poll_commands(cx)
                | self.poll_log(cx)
                | self.poll_transfer(cx)
                | self.poll_race(cx)
                | self.poll_read(cx)
                | self.poll_write(cx);
            // Before the timer, which has to know when it is to be looked again.
            self.look_at_state();
            let busy = self.poll_timer(cx) || busy;
            if let Some(end) = self.end.take() {
                return Poll::Ready(end);
            }
            if !busy {
                return Poll::Pending;
            }
            if self.turn == 0 {
                break;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_commands(&mut self, cx: &mut Context<'_>) -> bool {
        let mut busy = false;
        while self.end.is_none()
            && let Poll::Ready(Some(command)) = self.commands.poll_recv(cx)
        {
            self.obey(*command);
            busy = true;
        }
        busy
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> bool {
        if self.end.is_some() {
            return false;
        }
        if mem::take(&mut self.read_now) && self.read_attention() == Attention::Work && self.read() == Flow::Enough {
            self.read_now = self.read_attention() == Attention::Work;
            return true;
        }
        let attention = self.read_attention();
        let Some(io) = self.io.take_if(|_| attention != Attention::None) else { return false };
        let Poll::Ready(Ok(mut guard)) = io.poll_read_ready(cx) else {
            self.io = Some(io);
            return false;
        };
        if attention == Attention::Departure && guard.ready().is_read_closed() {
            self.notice_departure();
        } else if attention == Attention::Departure || self.read() == Flow::Drained {
            guard.clear_ready();
        }
        self.keep(io);
        true
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> bool {
        let attention = if self.end.is_some() { Attention::None } else { self.write_attention() };
        let Some(io) = self.io.take_if(|_| attention != Attention::None) else { return false };
        let Poll::Ready(Ok(mut guard)) = io.poll_write_ready(cx) else {
            self.io = Some(io);
            return false;
        };
        let closed = guard.ready().is_write_closed();
        // An error of the past stays in the registration for ever, and would make us spin.
        let mut register_anew = false;
        if attention == Attention::Departure && closed {
            if matches!(self.role, Role::Datagrams(_)) {
                self.notice_icmp();
                // An error of a UDP socket makes it neither readable nor hung up; reading tells what it is.
                self.read_now = true;
                register_anew = true;
            } else {
                self.notice_hang_up();
            }
        } else if attention == Attention::Departure || self.write() == Flow::Drained {
            guard.clear_ready();
            register_anew = closed && attention == Attention::Work;
        }
        if register_anew {
            drop(io);
            self.watch();
        } else {
            self.keep(io);
        }
        true
    }

    /// Puts the registration back, unless it was renewed or given up meanwhile.
    fn keep(&mut self, io: AsyncFd<Arc<Socket>>) {
        let wanted = !matches!(self.role, Role::Idle);
        if self.io.is_none() && wanted {
            self.io = Some(io);
        }
    }

    /// Registers the descriptor, anew if it was. Only done when the socket can tell something: a fresh TCP socket counts as hung up,
    /// and a registration never forgets that.
    pub(super) fn watch(&mut self) {
        self.io = None;
        match readiness::watch(Arc::clone(&self.socket)) {
            Ok(io) => self.io = Some(io),
            Err(errno) => self.break_off(errno, Operation::Create, "epoll_ctl"),
        }
    }

    /// Lets go of the registration: the socket is idle again.
    pub(super) fn unwatch(&mut self) {
        self.io = None;
    }

    fn read_attention(&self) -> Attention {
        match &self.role {
            Role::Idle | Role::Connecting(_) | Role::Racing(_) => Attention::None,
            Role::Listener(_) if self.log_full => Attention::None,
            Role::Listener(listener) => listener.attention(),
            Role::Stream(stream) => match (self.wants_to_read(), stream.peer_closed || self.receive_shut) {
                (_, true) => Attention::None,
                (true, _) => Attention::Work,
                (false, _) if stream.departure_told => Attention::None,
                (false, _) => Attention::Departure,
            },
            Role::Datagrams(_) if self.wants_to_read() && !self.receive_shut => Attention::Work,
            Role::Datagrams(_) => Attention::None,
        }
    }

    fn write_attention(&self) -> Attention {
        match &self.role {
            Role::Idle | Role::Listener(_) | Role::Racing(_) => Attention::None,
            Role::Connecting(_) => Attention::Work,
            Role::Stream(stream) if stream.blocked || (stream.above && self.outgoing.is_empty()) => Attention::Work,
            Role::Stream(stream) if stream.hung_up => Attention::None,
            Role::Stream(_) if self.read_attention() == Attention::Work => Attention::None,
            Role::Stream(_) => Attention::Departure,
            Role::Datagrams(_) if self.sends.front().is_some_and(|send| !send.waits(Instant::now())) => Attention::Work,
            Role::Datagrams(datagrams) if datagrams.icmp.has_queue() => Attention::Departure,
            Role::Datagrams(datagrams) if datagrams.connected && self.read_attention() == Attention::Work => {
                Attention::Departure
            }
            Role::Datagrams(_) => Attention::None,
        }
    }

    /// Whether bytes are to be taken out of the kernel now.
    pub(super) fn wants_to_read(&self) -> bool {
        let conduct = self.cell.conduct();
        let always = matches!(conduct.delivery.mode, DeliveryMode::Events | DeliveryMode::Count);
        let asked = always || !self.receives.is_empty() || self.attached.as_ref().is_some_and(|a| a.wants_bytes());
        asked
            && self.read_from.is_none()
            && !self.log_full
            && !conduct.delivery.paused
            && conduct.direction != Direction::SendOnly
    }

    /// Counts bytes that were read.
    pub(super) fn spend(&mut self, size: usize) {
        self.turn = self.turn.saturating_sub(size);
    }

    /// A payload was read and told: it takes credit, and may put the next one off.
    pub(super) fn payload_read(&mut self) {
        let interval = match self.cell.take_credit() {
            Credit::Left(interval) => interval,
            Credit::UsedUp => return self.record(Event::ReadPaused { reason: ReadPause::Credit }),
        };
        if !interval.is_zero() {
            self.read_from = Some(Instant::now() + interval);
            self.deadline_added();
        }
    }

    fn read(&mut self) -> Flow {
        match self.role {
            Role::Listener(_) => self.accept(),
            Role::Stream(_) => self.read_stream(),
            Role::Datagrams(_) => self.read_datagrams(),
            Role::Idle | Role::Connecting(_) | Role::Racing(_) => Flow::Enough,
        }
    }

    fn write(&mut self) -> Flow {
        match self.role {
            Role::Connecting(_) => self.finish_connect(),
            Role::Stream(_) => self.flush(),
            Role::Datagrams(_) => self.flush_sends(),
            Role::Idle | Role::Listener(_) | Role::Racing(_) => Flow::Enough,
        }
    }

    // === Time ===

    /// Says that something with a deadline was added.
    pub(super) fn deadline_added(&mut self) {
        self.timer_changed = true;
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        if self.end.is_some() {
            return false;
        }
        if mem::take(&mut self.timer_changed) {
            match (self.next_deadline(), &mut self.timer) {
                (None, _) => self.timer = None,
                (Some(at), Some(timer)) if timer.deadline() == at => {}
                (Some(at), Some(timer)) => timer.as_mut().reset(at),
                (Some(at), timer) => *timer = Some(Box::pin(tokio::time::sleep_until(at))),
            }
        }
        let expired = self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready());
        if expired {
            self.timer = None;
            self.timer_changed = true;
            self.expire(Instant::now());
        }
        expired
    }

    fn next_deadline(&self) -> Option<Instant> {
        let of_role = match &self.role {
            Role::Idle | Role::Datagrams(_) => None,
            Role::Connecting(connecting) => Some(connecting.ticket.deadline),
            Role::Racing(race) => Some(race.next_deadline()),
            Role::Listener(listener) => listener.next_deadline(),
            Role::Stream(stream) => self.stream_deadline(stream),
        };
        let of_outgoing = self.outgoing.iter().filter_map(Outgoing::deadline).min();
        let due = self.sends.front().and_then(PendingSend::due);
        let of_sends = self.sends.iter().map(|send| send.ticket.deadline).chain(due).min();
        let of_receives = self.receives.iter().map(|receive| receive.ticket.deadline).min();
        let look_at = self.states.as_ref().and_then(|watch| watch.look_at);
        [of_role, of_outgoing, of_sends, of_receives, self.read_from, look_at].into_iter().flatten().min()
    }

    fn expire(&mut self, now: Instant) {
        match &self.role {
            Role::Connecting(connecting) if connecting.ticket.deadline <= now => self.give_up_connect(Ending::TimedOut),
            Role::Racing(_) => self.expire_race(now),
            Role::Listener(_) => self.expire_listener(now),
            Role::Stream(_) => self.expire_stream(now),
            _ => {}
        }
        self.expire_look(now);
        if self.read_from.take_if(|from| *from <= now).is_some() {
            self.read_now = true;
        }
        self.end_outgoing(Ending::TimedOut, |ticket| ticket.deadline <= now);
        self.go_on();
        self.end_sends(&Ending::TimedOut, |ticket| ticket.deadline <= now);
        self.flush_sends();
        self.end_receives(&Ending::TimedOut, |ticket| ticket.deadline <= now);
    }

    /// Ends waiting reads.
    pub(super) fn end_receives(&mut self, ending: &Ending, which: impl Fn(&Ticket) -> bool) {
        for at in (0..self.receives.len()).rev() {
            if which(&self.receives[at].ticket)
                && let Some(receive) = self.receives.remove(at)
            {
                receive.ticket.finish(ending.clone(), Brought::Nothing);
            }
        }
    }

    /// Ends the operation of this name, if it waits here.
    pub(super) fn cancel(&mut self, request: &RequestId) {
        let this = |ticket: &Ticket| ticket.request.as_ref() == Some(request);
        match &mut self.role {
            Role::Connecting(connecting) if this(&connecting.ticket) => {
                self.give_up_connect(Ending::Error(SocketError::canceled(Operation::Connect)));
            }
            Role::Racing(race) if this(&race.ticket) => {
                self.give_up_race(Ending::Error(SocketError::canceled(Operation::Connect)));
            }
            Role::Listener(listener) => listener.end_accepts(&canceled(Operation::Accept), this),
            _ => {}
        }
        self.end_outgoing(canceled(Operation::Write), this);
        self.end_flushes(&canceled(Operation::Write), this);
        self.go_on();
        self.end_sends(&canceled(Operation::Send), this);
        self.end_receives(&canceled(Operation::Receive), this);
    }
}

pub(super) fn canceled(operation: Operation) -> Ending {
    Ending::Error(SocketError::canceled(operation))
}
