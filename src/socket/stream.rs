//! Connected TCP sockets: bytes in as they come, and the end of the peer's direction.

use bytes::Bytes;
use tokio::time::Instant;

use crate::model::delivery::DeliveryMode;
use crate::model::errno::Errno;
use crate::model::event::Event;
use crate::model::operation::{Operation, ShutdownHow, Taken};
use crate::model::socket::{CloseReason, Direction, HalfOpenPolicy};
use crate::socket::buffer::{discard_with, read_with};
use crate::socket::command::{Brought, Ending};
use crate::socket::driver::{BYTES_PER_TURN, CALLS_PER_ROUND, Driver, End, Flow, Role};
use crate::socket::flush::Flushes;
use crate::socket::write::Outgoing;
use crate::sys::socket::Socket;

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
    /// A write was answered with that: as of the kernel, only the first one is.
    pub(super) broken_answered: bool,
    /// More bytes have waited than the high watermark, and `writable` was not told since.
    pub(super) above: bool,
    /// When the end of the peer's direction is answered.
    pub(super) answer_at: Option<Instant>,
    pub(super) flushes: Flushes,
    pub(super) last_activity: Instant,
    pub(super) idle_told: bool,
    /// Where the urgent byte stands that was told last and is a part of the stream.
    mark_told: Option<u64>,
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
            broken_answered: false,
            above: false,
            answer_at: None,
            flushes: Flushes::default(),
            last_activity: now,
            idle_told: false,
            mark_told: None,
        });
        self.read_from = (!read_delay.is_zero()).then(|| now + read_delay);
        self.tell_if_paused();
        self.read_now = true;
        self.deadline_added();
        self.flush();
    }

    /// Takes bytes out of the kernel, as the delivery wants it.
    pub(super) fn read_stream(&mut self) -> Flow {
        // Reading may stand at a mark: it does so only where a read has ended before it was full.
        let mut stands = true;
        for _ in 0..CALLS_PER_ROUND {
            if self.turn == 0 || !self.wants_to_read() || self.receive_shut || self.pause_for_log() {
                return Flow::Enough;
            }
            let max = match self.receives.front() {
                Some(receive) if self.must_wait_for(receive.min_bytes) => return Flow::Drained,
                Some(receive) => receive.max_bytes,
                None => self.read_limit(),
            };
            let ready = self.socket.readiness();
            if ready.priority {
                self.notice_lost_bytes();
                self.come_to_mark();
            } else if !ready.readable && !ready.hung_up && !ready.failed {
                return Flow::Drained;
            } else if stands && self.socket.awaits_urgent() {
                self.notice_lost_bytes();
            }
            if self.counts() {
                match self.count() {
                    Some(flow) => return flow,
                    None => continue,
                }
            }
            let peek = self.receives.front().is_some_and(|receive| receive.peek);
            let read = if peek { Socket::peek } else { Socket::receive };
            match read_with(|buffer| read(&self.socket, buffer, max)) {
                Ok((0, _)) => {
                    self.end_of_stream();
                    return Flow::Enough;
                }
                Ok((_, payload)) if peek => {
                    let offset = self.cell.status().totals.bytes_read;
                    self.answer_stream(payload, offset);
                }
                Ok((_, payload)) => {
                    stands = payload.len() < max;
                    self.deliver(payload);
                    self.payload_read();
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
        let unseen = !delivery.hash && self.cell.verify.is_none();
        delivery.mode == DeliveryMode::Count && unseen && self.receives.is_empty()
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
                self.payload_read();
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

    /// An urgent byte is there, or announced, and others may have been before it that Linux has thrown away: at the mark, a byte that nobody has taken goes
    /// when the next one comes. What is read then stands further behind than what was read so far would have it.
    fn notice_lost_bytes(&mut self) {
        let offset = self.cell.status().totals.bytes_read;
        // A byte that was taken out of the stream counts as read, and the kernel has it behind only when it is read past.
        let lost = self.socket.stream_position().map_or(0, |position| position.saturating_sub(offset));
        if let Ok(size @ 1..) = u32::try_from(lost) {
            self.record(Event::UrgentLost { offset, size });
        }
    }

    fn deliver(&mut self, payload: Bytes) {
        self.note_activity();
        self.spend(payload.len());
        self.cell.hash_received(&payload);
        let offset = self.cell.status().totals.bytes_read;
        let compared = self.cell.verify.as_ref().map(|_| payload.clone());
        self.hand_on_received(payload, offset);
        if let Some(bytes) = compared {
            self.cell.verify(|verifier| verifier.stream(offset, &bytes));
        }
    }

    fn hand_on_received(&mut self, payload: Bytes, offset: u64) {
        let Some(payload) = self.deliver_to_stream(payload) else { return };
        if self.receives.is_empty() && self.cell.conduct().delivery.mode == DeliveryMode::Events {
            return self.record(Event::Received { offset, payload });
        }
        self.cell.status().totals.bytes_read += payload.len() as u64;
        self.answer_stream(payload, offset);
    }

    /// Gives bytes to the read that waits for them, if there is one.
    fn answer_stream(&mut self, payload: Bytes, offset: u64) {
        let Some(receive) = self.receives.pop_front() else { return };
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
