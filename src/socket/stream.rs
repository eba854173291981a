//! Connected TCP sockets: bytes out in the order of arrival, bytes in as they come, and the ways in which it all ends.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::time::Instant;

use crate::model::delivery::DeliveryMode;
use crate::model::errno::Errno;
use crate::model::error::SocketError;
use crate::model::event::Event;
use crate::model::operation::{Operation, ShutdownHow, Taken, WriteFlags};
use crate::model::refusal::{Quota, Refusal};
use crate::model::socket::{CloseReason, Direction, HalfOpenPolicy};
use crate::socket::buffer::{discard_with, read_with};
use crate::socket::command::{Brought, Ending, Ticket};
use crate::socket::driver::{BYTES_PER_TURN, CALLS_PER_ROUND, Driver, End, Flow, Role};
use crate::socket::flush::Flushes;

/// What only a connection needs.
pub(super) struct Stream {
    /// The peer's FIN has been read.
    pub(super) peer_closed: bool,
    /// It has been told that the peer of a socket that is not read has gone.
    pub(super) departure_told: bool,
    /// Both directions are over, or the connection is broken: there is nothing to be watched any more.
    pub(super) hung_up: bool,
    /// The kernel has no room for what is outgoing.
    pub(super) blocked: bool,
    /// The connection is broken by this, but bytes that came before may still be read.
    pub(super) broken: Option<Errno>,
    /// Something has waited for room since `writable` was told last.
    pub(super) waited: bool,
    /// Nothing is read before.
    pub(super) read_from: Option<Instant>,
    /// When the end of the peer's direction is answered.
    pub(super) answer_at: Option<Instant>,
    pub(super) flushes: Flushes,
    pub(super) last_activity: Instant,
    pub(super) idle_told: bool,
    /// Where the urgent byte stands that was told last and is a part of the stream.
    mark_told: Option<u64>,
}

/// What goes out, in order.
pub(super) enum Outgoing {
    Write(Write),
    /// Bytes of a stream that has the connection.
    Transferred(Bytes),
    Shutdown {
        /// Absent when the half-open policy asks.
        ticket: Option<Ticket>,
        how: ShutdownHow,
    },
    Close {
        ticket: Ticket,
        linger: Option<u16>,
    },
    /// Once everything before it has gone out, the waiting for the peer begins.
    Flush(Ticket),
}

/// Bytes on their way to the kernel.
pub(super) struct Write {
    ticket: Ticket,
    payload: Bytes,
    /// How many of them the kernel has.
    handed: usize,
    flags: WriteFlags,
}

impl Write {
    /// What the kernel is to take next. Each send(2) makes its own last byte urgent, and may take only a part: so the one that is meant
    /// goes alone, and what stands before it waits for it.
    fn next(&self) -> (&[u8], WriteFlags) {
        let rest = &self.payload[self.handed..];
        match rest.split_last() {
            Some((_, before)) if self.flags.urgent && !before.is_empty() => {
                (before, WriteFlags { urgent: false, more: true })
            }
            _ => (rest, self.flags),
        }
    }
}

impl Outgoing {
    fn ticket(&self) -> Option<&Ticket> {
        match self {
            Self::Write(Write { ticket, .. }) | Self::Close { ticket, .. } | Self::Flush(ticket) => Some(ticket),
            Self::Shutdown { ticket, .. } => ticket.as_ref(),
            Self::Transferred(_) => None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.ticket().map(|ticket| ticket.deadline)
    }

    fn waiting_bytes(&self) -> usize {
        match self {
            Self::Write(write) => write.payload.len() - write.handed,
            Self::Transferred(bytes) => bytes.len(),
            Self::Shutdown { .. } | Self::Close { .. } | Self::Flush(_) => 0,
        }
    }
}

impl Driver {
    /// The socket is connected from now on, and watched already.
    pub(super) fn become_stream(&mut self) {
        let (now, read_delay) = (Instant::now(), self.cell.conduct().read_delay);
        self.role = Role::Stream(Stream {
            peer_closed: false,
            departure_told: false,
            hung_up: false,
            blocked: false,
            broken: None,
            waited: false,
            read_from: (!read_delay.is_zero()).then(|| now + read_delay),
            answer_at: None,
            flushes: Flushes::default(),
            last_activity: now,
            idle_told: false,
            mark_told: None,
        });
        self.tell_if_paused();
        self.read_now = true;
        self.deadline_added();
        self.flush();
    }

    // === Out ===

    pub(super) fn enqueue_write(
        &mut self,
        ticket: Ticket,
        payload: Bytes,
        expected_offset: Option<u64>,
        flags: WriteFlags,
    ) {
        if let Some(refusal) = self.refuse_attached() {
            return ticket.refuse(refusal);
        }
        let waiting = self.unwritten_bytes();
        let offset = self.cell.status().totals.bytes_written + u64::from(waiting);
        if expected_offset.is_some_and(|expected| expected != offset) {
            return ticket.refuse(Refusal::OffsetMismatch { actual: offset });
        }
        let limit = self.sockets.limits().pending_write_bytes;
        if waiting > 0 && waiting as usize + payload.len() > limit as usize {
            let quota = Quota { limit: "limits.pending_write_bytes", value: limit.into() };
            return ticket.refuse(Refusal::QuotaExceeded(quota));
        }
        self.enqueue(Outgoing::Write(Write { ticket, payload, handed: 0, flags }));
    }

    pub(super) fn enqueue(&mut self, outgoing: Outgoing) {
        self.outgoing.push_back(outgoing);
        // What is outgoing during a handshake waits for its end: the kernel answers EAGAIN then.
        if matches!(&self.role, Role::Stream(stream) if stream.blocked) {
            self.cell.pending_write_bytes.store(self.unwritten_bytes(), Ordering::Release);
        } else {
            self.flush();
        }
        if !self.outgoing.is_empty() {
            self.deadline_added();
        }
    }

    /// Hands to the kernel what it takes, in order.
    pub(super) fn flush(&mut self) -> Flow {
        let flow = self.flush_until_blocked();
        let waiting = self.unwritten_bytes();
        self.cell.pending_write_bytes.store(waiting, Ordering::Release);
        if let Role::Stream(stream) = &mut self.role {
            stream.blocked = flow == Flow::Drained;
            stream.waited |= stream.blocked;
        }
        flow
    }

    /// Tells that all bytes have found room, if some had to wait for it: before whatever stands behind them happens.
    fn tell_if_writable(&mut self) {
        let waited = matches!(&self.role, Role::Stream(stream) if stream.waited && stream.broken.is_none());
        if waited && self.unwritten_bytes() == 0 {
            if let Role::Stream(stream) = &mut self.role {
                stream.waited = false;
            }
            self.record(Event::Writable);
        }
    }

    fn flush_until_blocked(&mut self) -> Flow {
        while self.end.is_none() {
            match self.outgoing.pop_front() {
                Some(Outgoing::Write(write)) => {
                    if let Some(rest) = self.hand_over(write) {
                        self.outgoing.push_front(Outgoing::Write(rest));
                        return Flow::Drained;
                    }
                    self.tell_if_writable();
                }
                Some(Outgoing::Transferred(bytes)) => {
                    if let Some(rest) = self.hand_on(bytes) {
                        self.outgoing.push_front(Outgoing::Transferred(rest));
                        return Flow::Drained;
                    }
                }
                // The half-open policy and a stream have both asked for it.
                Some(Outgoing::Shutdown { ticket: None, .. }) if self.cell.status().shut_down => {}
                Some(Outgoing::Shutdown { ticket, how }) => self.shut_down_now(ticket, how),
                Some(Outgoing::Flush(ticket)) if matches!(self.role, Role::Connecting(_)) => {
                    self.outgoing.push_front(Outgoing::Flush(ticket));
                    return Flow::Drained;
                }
                Some(Outgoing::Flush(ticket)) => self.begin_flush(ticket),
                Some(Outgoing::Close { ticket, linger }) => {
                    self.end = Some(End { linger, ..End::asked(CloseReason::Closed, ticket) });
                }
                None => break,
            }
        }
        Flow::Enough
    }

    /// Hands the bytes of one write to the kernel; gives back what must wait.
    fn hand_over(&mut self, mut write: Write) -> Option<Write> {
        loop {
            let (bytes, flags) = write.next();
            match self.socket.send(bytes, flags) {
                Ok(taken) => {
                    self.cell.hash_written(&write.payload[write.handed..write.handed + taken]);
                    write.handed += taken;
                    self.note_activity();
                    if write.handed == write.payload.len() {
                        self.end_write(write, Ending::Done);
                        return None;
                    }
                }
                Err(errno) if errno.would_block() => return Some(write),
                Err(errno) => {
                    self.write_failed(write, errno);
                    return None;
                }
            }
        }
    }

    fn write_failed(&mut self, write: Write, errno: Errno) {
        // An error that reading could not report because nobody reads comes first, as it would in the kernel.
        let errno = match &self.role {
            Role::Stream(stream) => stream.broken.unwrap_or(errno),
            _ => errno,
        };
        let error = self.error(errno, Operation::Write, "send");
        let ended_here = self.cell.status().shut_down;
        let broken = matches!(self.role, Role::Stream(_)) && !ended_here && self.socket.tcp_is_closed();
        if !broken {
            let mut write = write;
            self.record_for(&mut write.ticket, Event::Failed { error: error.clone() });
            return self.end_write(write, Ending::Error(error));
        }
        self.end_write(write, Ending::Error(error.clone()));
        self.end_outgoing(Ending::Error(error), |_| true);
        self.break_down(errno, Operation::Write, "send");
    }

    /// Tells how much of a write the kernel has got, and answers.
    fn end_write(&self, mut write: Write, ending: Ending) {
        let offset = self.cell.status().totals.bytes_written;
        let size = u32::try_from(write.handed).unwrap_or(u32::MAX);
        if size > 0 {
            let asked_size = u32::try_from(write.payload.len()).unwrap_or(u32::MAX);
            self.record_for(&mut write.ticket, Event::Written { offset, size, asked_size });
        }
        write.ticket.finish(ending, Brought::Written { size, offset });
    }

    /// Ends what waits to go out. A close that has waited long enough discards what stands before it.
    pub(super) fn end_outgoing(&mut self, ending: Ending, which: impl Fn(&Ticket) -> bool) {
        let ended: Vec<usize> =
            (0..self.outgoing.len()).filter(|at| self.outgoing[*at].ticket().is_some_and(&which)).collect();
        for at in ended.into_iter().rev() {
            match self.outgoing.remove(at) {
                Some(Outgoing::Write(write)) => self.end_write(write, for_operation(&ending, Operation::Write)),
                Some(Outgoing::Shutdown { ticket: Some(ticket), .. }) => {
                    ticket.finish(for_operation(&ending, Operation::Shutdown), Brought::Nothing);
                }
                Some(Outgoing::Close { ticket, linger }) if matches!(ending, Ending::TimedOut) => {
                    self.end.get_or_insert(End { linger, ..End::asked(CloseReason::Closed, ticket) });
                }
                Some(Outgoing::Close { ticket, .. }) => {
                    ticket.finish(for_operation(&ending, Operation::Close), Brought::Nothing);
                }
                Some(Outgoing::Flush(ticket)) => {
                    ticket.finish(for_operation(&ending, Operation::Write), Brought::Nothing);
                }
                Some(Outgoing::Shutdown { ticket: None, .. } | Outgoing::Transferred(_)) | None => {}
            }
        }
        if let Role::Stream(stream) = &mut self.role {
            stream.blocked &= !self.outgoing.is_empty();
        }
        self.cell.pending_write_bytes.store(self.unwritten_bytes(), Ordering::Release);
    }

    /// What stood behind writes that have ended is not theirs to wait for: it needs no room.
    pub(super) fn go_on(&mut self) {
        if self.end.is_none()
            && matches!(
                self.outgoing.front(),
                Some(Outgoing::Shutdown { .. } | Outgoing::Close { .. } | Outgoing::Flush(_))
            )
        {
            self.flush();
        }
    }

    /// How many bytes the kernel has got in all, also of a write that has not ended.
    pub(super) fn handed_bytes(&self) -> u64 {
        let of_front = match self.outgoing.front() {
            Some(Outgoing::Write(write)) => write.handed as u64,
            _ => 0,
        };
        self.cell.status().totals.bytes_written + of_front
    }

    pub(super) fn unwritten_bytes(&self) -> u32 {
        let waiting: usize = self.outgoing.iter().map(Outgoing::waiting_bytes).sum();
        u32::try_from(waiting).unwrap_or(u32::MAX)
    }

    // === In ===

    /// Takes bytes out of the kernel, as the delivery wants it.
    pub(super) fn read_stream(&mut self) -> Flow {
        for _ in 0..CALLS_PER_ROUND {
            if self.turn == 0 || !self.wants_to_read() || self.receive_shut {
                return Flow::Enough;
            }
            let max = match self.receives.front() {
                Some(receive) if self.must_wait_for(receive.min_bytes) => return Flow::Drained,
                Some(receive) => receive.max_bytes,
                None => self.read_limit(),
            };
            let ready = self.socket.readiness();
            if ready.priority {
                self.come_to_mark();
            } else if !ready.readable && !ready.hung_up && !ready.failed {
                return Flow::Drained;
            }
            if self.counts() {
                match self.count() {
                    Some(flow) => return flow,
                    None => continue,
                }
            }
            match read_with(|buffer| self.socket.receive(buffer, max)) {
                Ok((0, _)) => {
                    self.end_of_stream();
                    return Flow::Enough;
                }
                Ok((_, payload)) => {
                    self.deliver(payload);
                    if self.departure_told() && self.is_drained_for_stream() {
                        self.end_of_stream();
                        return Flow::Enough;
                    }
                }
                Err(errno) if errno.would_block() => return Flow::Drained,
                Err(errno) => {
                    self.receive_failed(errno);
                    return Flow::Enough;
                }
            }
        }
        Flow::Enough
    }

    /// Whether bytes are to be discarded without being looked at.
    fn counts(&self) -> bool {
        let delivery = self.cell.conduct().delivery;
        delivery.mode == DeliveryMode::Count && !delivery.hash && self.receives.is_empty()
    }

    /// Takes bytes out of the kernel and keeps only their number; says when to stop.
    fn count(&mut self) -> Option<Flow> {
        match discard_with(|room| self.socket.discard(room, BYTES_PER_TURN)) {
            Ok(0) => {
                self.end_of_stream();
                Some(Flow::Enough)
            }
            Ok(size) => {
                self.note_activity();
                self.spend(size);
                self.cell.status().totals.bytes_read += size as u64;
                None
            }
            Err(errno) if errno.would_block() => Some(Flow::Drained),
            Err(errno) => {
                self.receive_failed(errno);
                Some(Flow::Enough)
            }
        }
    }

    /// Whether fewer bytes are there than a reader wants at once, while more may come.
    fn must_wait_for(&self, min_bytes: u32) -> bool {
        if min_bytes <= 1 || self.socket.queues().receive_bytes >= min_bytes {
            return false;
        }
        let ready = self.socket.readiness();
        !ready.hung_up && !ready.priority && !self.socket.at_mark()
    }

    /// An urgent byte has arrived. When everything before it has been read, it is told, and taken where it is no part of the stream.
    ///
    /// Reading on would take it away, so the kernel is asked before each read, and read only when it says that something is there: a byte
    /// that becomes urgent meanwhile stands behind that, and a read never goes across it.
    fn come_to_mark(&mut self) {
        let offset = self.cell.status().totals.bytes_read;
        let Role::Stream(stream) = &mut self.role else { return };
        if stream.mark_told == Some(offset) || !self.socket.at_mark() {
            return;
        }
        match self.socket.receive_urgent() {
            Ok(byte) => self.record(Event::UrgentReceived { offset, byte: Some(byte) }),
            Err(Errno::EINVAL) => {
                stream.mark_told = Some(offset);
                self.record(Event::UrgentReceived { offset, byte: None });
            }
            Err(_) => {}
        }
    }

    fn deliver(&mut self, payload: Bytes) {
        self.note_activity();
        self.spend(payload.len());
        self.cell.hash_received(&payload);
        let Some(payload) = self.deliver_to_stream(payload) else { return };
        let offset = self.cell.status().totals.bytes_read;
        let receive = self.receives.pop_front();
        if receive.is_none() && self.cell.conduct().delivery.mode == DeliveryMode::Events {
            return self.record(Event::Received { offset, payload });
        }
        self.cell.status().totals.bytes_read += payload.len() as u64;
        let Some(receive) = receive else { return };
        let size = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let taken = Taken { payload, size, offset, ..Taken::default() };
        receive.ticket.finish(Ending::Done, Brought::Taken(taken));
    }

    /// recv(2) has answered 0: everything has been read.
    pub(super) fn end_of_stream(&mut self) {
        let Role::Stream(stream) = &mut self.role else { return };
        if let Some(errno) = stream.broken {
            return self.break_off(errno, Operation::Receive, "recv");
        }
        stream.peer_closed = true;
        let bytes_read = self.cell.status().totals.bytes_read;
        self.record(Event::PeerClosed { bytes_read });
        self.end_of_stream_told();
        self.answer_departure();
    }

    /// Answers those who still want to read: there is nothing more.
    pub(super) fn end_of_stream_told(&mut self) {
        self.tell_stream_end();
        for receive in self.receives.drain(..) {
            let taken = Taken { end: true, ..Taken::default() };
            receive.ticket.finish(Ending::Done, Brought::Taken(taken));
        }
    }

    /// Does what the half-open policy says about a peer that has ended its direction.
    pub(super) fn answer_departure(&mut self) {
        let conduct = self.cell.conduct();
        if conduct.half_open == HalfOpenPolicy::AutoEnd {
            if let (Role::Stream(stream), false) = (&mut self.role, conduct.close_delay.is_zero()) {
                stream.answer_at = Some(Instant::now() + conduct.close_delay);
                return self.deadline_added();
            }
            self.answer_departure_now();
        }
    }

    pub(super) fn answer_departure_now(&mut self) {
        if self.end.is_none() {
            if !self.cell.status().shut_down {
                self.enqueue(Outgoing::Shutdown { ticket: None, how: ShutdownHow::Send });
            }
            self.end_if_both_ended();
        }
    }

    /// With AUTO_END, a connection of which both directions have ended is closed.
    pub(super) fn end_if_both_ended(&mut self) {
        let Role::Stream(stream) = &self.role else { return };
        let send_only = self.cell.conduct().direction == Direction::SendOnly;
        let peer_closed = stream.peer_closed || self.receive_shut || (send_only && stream.departure_told);
        let auto_end = self.cell.conduct().half_open == HalfOpenPolicy::AutoEnd;
        if auto_end && peer_closed && stream.answer_at.is_none() && self.cell.status().shut_down {
            self.end.get_or_insert_with(|| End::because(CloseReason::Ended));
        }
    }

    fn receive_failed(&mut self, errno: Errno) {
        if self.socket.tcp_is_closed() {
            return self.break_off(errno, Operation::Receive, "recv");
        }
        let error = self.error(errno, Operation::Receive, "recv");
        match self.receives.pop_front() {
            Some(receive) => self.fail(receive.ticket, error, Brought::Nothing),
            None => self.record(Event::Failed { error }),
        }
        self.read_now = true;
    }

    /// Answers reads of a socket that is not connected with what the kernel says.
    pub(super) fn receive_unconnected(&mut self) {
        while let Some(receive) = self.receives.pop_front() {
            let errno = read_with(|buffer| self.socket.receive(buffer, 1)).err().unwrap_or(Errno::ENOTCONN);
            let error = self.error(errno, Operation::Receive, "recv");
            self.fail(receive.ticket, error, Brought::Nothing);
        }
    }
}

/// The same ending, said of another operation.
fn for_operation(ending: &Ending, operation: Operation) -> Ending {
    match ending {
        Ending::Error(error) => Ending::Error(SocketError { operation, ..error.clone() }),
        other => other.clone(),
    }
}
