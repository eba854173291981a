//! What a driver does with each order.

use std::net::SocketAddr;

use crate::model::address::Transport;
use crate::model::delivery::{DeliveryChange, DeliveryMode, ReadPause};
use crate::model::errno::Errno;
use crate::model::event::Event;
use crate::model::id::Principal;
use crate::model::operation::{Operation, ShutdownHow, Take};
use crate::model::option::{OptionResult, SocketOption};
use crate::model::policy::Use;
use crate::model::refusal::Refusal;
use crate::model::socket::{CloseReason, Conduct, Direction};
use crate::socket::command::{Brought, Command, Ending, Order, Ticket};
use crate::socket::driver::{Driver, End, PendingReceive, Role};
use crate::socket::write::Outgoing;

impl Driver {
    pub(super) fn obey(&mut self, command: Command) {
        let asker = command.ticket.asker.clone();
        self.on_behalf_of(asker, |driver| driver.carry_out(command));
    }

    /// Does what somebody has asked for in the place of whose session it is: he, too, must be allowed to.
    pub(super) fn on_behalf_of<T>(&mut self, asker: Option<Principal>, act: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.asker, asker);
        let done = act(self);
        self.asker = before;
        done
    }

    fn carry_out(&mut self, Command { order, ticket }: Command) {
        if let (Role::Racing(_), Some((errno, operation, syscall))) = (&self.role, while_connecting(&order)) {
            let error = self.error(errno, operation, syscall);
            return self.fail(ticket, error, Brought::Nothing);
        }
        match order {
            Order::Bind(local) => self.bind(ticket, local),
            Order::Listen { backlog, place } => self.listen(ticket, backlog, place),
            Order::Accept => self.accept_one(ticket),
            Order::Connect { remote, last, goes_on } => self.connect(ticket, remote, (last, goes_on)),
            Order::Race(entrants) => self.race(ticket, entrants),
            Order::Disconnect => self.disconnect(ticket),
            Order::Write { payload, expected_offset, flags, slices } => {
                self.enqueue_write(ticket, payload, expected_offset, (flags, slices));
            }
            Order::Send(datagrams, interval, flags) => self.enqueue_send(ticket, datagrams, (interval, flags)),
            Order::Receive(take) => self.receive(ticket, take),
            Order::Flush => self.enqueue(Outgoing::Flush(ticket)),
            Order::Shutdown(how) => self.shut_down(ticket, how),
            Order::Close { linger } => self.enqueue(Outgoing::Close { ticket, linger }),
            Order::Abort => self.abort(ticket, CloseReason::Aborted),
            Order::End { reason, abort: true } => self.abort(ticket, reason),
            Order::End { reason, abort: false } => self.end = Some(End::asked(reason, ticket)),
            Order::SetDelivery(change) => self.set_delivery(ticket, change),
            Order::SetOptions(options) => self.set_options(ticket, &options),
            Order::Group(order) => self.change_group(ticket, order),
            Order::Filter(order) => self.set_source_filter(ticket, order),
            Order::Judge => self.judge(ticket),
            Order::Attach(attachment) => self.attach(ticket, *attachment),
            Order::Cancel(request) => {
                self.cancel(&request);
                ticket.finish(Ending::Done, Brought::Nothing);
            }
        }
    }

    fn bind(&mut self, mut ticket: Ticket, local: SocketAddr) {
        let permitted = match self.permit_local(Use::Bind, local) {
            Ok(permitted) => permitted,
            Err(refusal) => return ticket.refuse(refusal),
        };
        match self.socket.bind(permitted) {
            Ok(()) => {
                self.holds(Use::Bind, permitted);
                self.bound(&mut ticket);
                ticket.finish(Ending::Done, Brought::Nothing);
            }
            Err(errno) => {
                let mut error = self.error(errno, Operation::Bind, "bind");
                error.local = Some(self.endpoint(local));
                self.fail(ticket, error, Brought::Nothing);
            }
        }
    }

    /// A local address is there: tell it, and begin to receive datagrams.
    pub(super) fn bound(&mut self, ticket: &mut Ticket) {
        if let Some(local) = self.local() {
            self.record_for(ticket, Event::Bound { local });
        }
        if matches!(self.role, Role::Datagrams(_)) {
            self.watch();
        }
    }

    fn receive(&mut self, ticket: Ticket, take: Take) {
        if let Some(refusal) = self.refuse_attached() {
            return ticket.refuse(refusal);
        }
        let read_size = self.cell.conduct().delivery.read_size;
        let max_bytes = take.max_bytes.unwrap_or(read_size).min(self.sockets.limits().read_size);
        self.receives.push_back(PendingReceive {
            ticket,
            max_bytes: max_bytes as usize,
            min_bytes: take.min_bytes.unwrap_or(1).min(max_bytes),
            peek: take.peek,
        });
        match &self.role {
            // The kernel says what it thinks of reading here: ENOTCONN.
            Role::Idle | Role::Listener(_) => self.receive_unconnected(),
            Role::Stream(stream) if stream.peer_closed || self.receive_shut => self.end_of_stream_told(),
            _ => {
                self.read_now = true;
                self.deadline_added();
            }
        }
    }

    fn shut_down(&mut self, ticket: Ticket, how: ShutdownHow) {
        if how.ends_sending() {
            self.enqueue(Outgoing::Shutdown { ticket: Some(ticket), how });
        } else {
            self.shut_down_now(Some(ticket), how);
        }
    }

    /// Ends a direction. What was to be sent before has been.
    pub(super) fn shut_down_now(&mut self, mut ticket: Option<Ticket>, how: ShutdownHow) {
        let answer = match &self.role {
            // Linux answers this, and ends the direction all the same: the socket would be mute, or always ready with nothing to read.
            Role::Datagrams(datagrams) if !datagrams.connected => Err(Errno::ENOTCONN),
            Role::Idle => Err(Errno::ENOTCONN),
            Role::Listener(listener) if listener.is_over() => Err(Errno::ENOTCONN),
            // None of the attempts has the socket yet.
            Role::Racing(_) => Ok(()),
            _ => self.socket.shutdown(how),
        };
        if let Err(errno) = answer {
            let error = self.error(errno, Operation::Shutdown, "shutdown");
            return match ticket {
                Some(ticket) => self.fail(ticket, error, Brought::Nothing),
                None => self.record(Event::Failed { error }),
            };
        }
        match &self.role {
            // There is no connection yet: Linux ends the attempt instead.
            Role::Connecting(_) => {
                let errno = self.socket.take_error().unwrap_or(Errno::ECONNABORTED);
                self.give_up_connect(Ending::Error(self.error(errno, Operation::Connect, "connect")));
            }
            Role::Racing(_) => {
                self.give_up_race(Ending::Error(self.error(Errno::ECONNABORTED, Operation::Connect, "connect")));
            }
            Role::Listener(_) => {
                self.record_for_some(&mut ticket, Event::ShutDown { how });
                if how != ShutdownHow::Send {
                    self.end_listening(&mut ticket);
                }
            }
            _ => {
                self.record_for_some(&mut ticket, Event::ShutDown { how });
                if how != ShutdownHow::Send {
                    self.receive_shut = true;
                    self.end_of_stream_told();
                }
                self.end_if_both_ended();
            }
        }
        if let Some(ticket) = ticket {
            ticket.finish(Ending::Done, Brought::Nothing);
        }
    }

    pub(super) fn abort(&mut self, mut ticket: Ticket, reason: CloseReason) {
        let linger = if let Role::Stream(_) = self.role {
            self.record_for(&mut ticket, Event::Aborted);
            Some(0)
        } else {
            None
        };
        self.end = Some(End { reason, ticket: Some(ticket), linger });
    }

    fn set_delivery(&mut self, mut ticket: Ticket, change: DeliveryChange) {
        let before = self.cell.conduct();
        if let Some(refusal) = self.refuse_attached().filter(|_| change.mode.is_some()) {
            return ticket.refuse(refusal);
        }
        if let Some(refusal) = self.refuse_delivery(before.delivery.hash, change) {
            return ticket.refuse(refusal);
        }
        let after = before.delivery.changed(change);
        self.cell.set_conduct(Conduct { delivery: after, ..before });
        if before.delivery.paused != after.paused {
            let paused = Event::ReadPaused { reason: ReadPause::Asked };
            self.record_for(&mut ticket, if after.paused { paused } else { Event::ReadResumed });
        }
        if change.read_interval.is_some() {
            self.read_from = None;
        }
        self.look_at_log_again();
        self.read_now = true;
        self.deadline_added();
        ticket.finish(Ending::Done, Brought::Nothing);
    }

    /// Datagrams are no stream, and a hash is that of a whole stream, or there is none.
    fn refuse_delivery(&self, hashed: bool, change: DeliveryChange) -> Option<Refusal> {
        let socket = self.cell.id.clone();
        let totals = self.cell.status().totals;
        let udp = self.cell.transport == Transport::Udp;
        match change.hash {
            _ if udp && change.mode == Some(DeliveryMode::Transfer) => {
                let instead = "is a UDP socket: TransferSocket is for TCP; EVENTS, PULL and COUNT are for both";
                Some(Refusal::WrongTransport { socket, instead })
            }
            Some(true) if udp => {
                Some(Refusal::WrongTransport { socket, instead: "is a UDP socket: only a TCP stream has a hash" })
            }
            Some(true) if !hashed && totals.bytes_read + totals.bytes_written > 0 => {
                let why = "has read or written bytes already: delivery.hash must be set before the first one";
                Some(Refusal::WrongState { socket, why })
            }
            _ => None,
        }
    }

    /// Tells that a socket that begins its life paused does so.
    pub(super) fn tell_if_paused(&self) {
        if self.cell.conduct().begins_paused() {
            self.record(Event::ReadPaused { reason: ReadPause::Asked });
        }
    }

    fn set_options(&mut self, mut ticket: Ticket, options: &[SocketOption]) {
        let permitted: Result<Vec<_>, _> = options.iter().map(|option| self.permit_option(option.spec)).collect();
        let permitted = match permitted {
            Ok(permitted) => permitted,
            Err(refusal) => return ticket.refuse(refusal),
        };
        let mut results = Vec::with_capacity(options.len());
        for (option, permitted) in options.iter().zip(permitted) {
            let SocketOption { spec, value } = option;
            let asked = Some(value.clone());
            let result = match self.socket.set_option(permitted, value) {
                Ok(()) => {
                    self.note_given(option, permitted);
                    OptionResult { spec, asked, effective: self.socket.option(spec).ok().flatten(), error: None }
                }
                Err(errno) => {
                    let error = self.error(errno, Operation::SetOption, "setsockopt").about(spec.name);
                    OptionResult { spec, asked, effective: None, error: Some(error) }
                }
            };
            let event = match &result.error {
                None => {
                    self.holds_option(option);
                    Event::OptionSet(Box::new(result.clone()))
                }
                Some(error) => Event::Failed { error: error.clone() },
            };
            self.record_for(&mut ticket, event);
            results.push(result);
        }
        self.learn_icmp();
        let ending = match results.iter().find_map(|result| result.error.clone()) {
            Some(error) => Ending::Error(error),
            None => Ending::Done,
        };
        ticket.finish(ending, Brought::Options(results));
    }

    /// The connection is broken. Bytes that arrived before are still read first, where somebody may want them.
    pub(super) fn break_off(&mut self, errno: Errno, operation: Operation, syscall: &'static str) {
        let error = self.error(errno, operation, syscall);
        let (event, reason) = match errno {
            Errno::ECONNRESET | Errno::EPIPE => (Event::PeerReset { error: error.clone() }, CloseReason::PeerReset),
            _ => (Event::Failed { error: error.clone() }, CloseReason::Failed),
        };
        self.record(event);
        self.tell_stream_error(&error);
        let ending = Ending::Error(error);
        self.end_outgoing(ending.clone(), |_| true);
        self.end_flushes(&ending, |_| true);
        self.end_receives(&ending, |_| true);
        self.end.get_or_insert_with(|| End::because(reason));
    }

    /// Whether somebody may still take bytes out of the kernel by asking for them.
    pub(super) fn may_read_later(&self) -> bool {
        let conduct = self.cell.conduct();
        let in_kernel = matches!(conduct.delivery.mode, DeliveryMode::Pull | DeliveryMode::Transfer);
        let held = in_kernel || conduct.delivery.paused || self.read_from.is_some() || self.log_full;
        held && conduct.direction != Direction::SendOnly && !self.receive_shut
    }

    /// Refuses an operation that the transport does not have. Callers are refused before; this is the second lock on the door.
    pub(super) fn wrong_transport(&self, ticket: Ticket) {
        ticket.refuse(Refusal::WrongTransport {
            socket: self.cell.id.clone(),
            instead: "is of the other transport: it does not have this operation",
        });
    }
}

/// What Linux says to this while a socket connects: a race has no descriptor of its own that could be asked.
const fn while_connecting(order: &Order) -> Option<(Errno, Operation, &'static str)> {
    match order {
        Order::Bind(_) => Some((Errno::EINVAL, Operation::Bind, "bind")),
        Order::Listen { .. } => Some((Errno::EINVAL, Operation::Listen, "listen")),
        Order::Connect { .. } | Order::Race(_) => Some((Errno::EALREADY, Operation::Connect, "connect")),
        _ => None,
    }
}
