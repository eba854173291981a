//! What goes out of a connection: writes, and what must wait for them, in the order of arrival.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::time::Instant;

use crate::model::errno::Errno;
use crate::model::error::SocketError;
use crate::model::event::Event;
use crate::model::operation::{Operation, ShutdownHow, WriteFlags};
use crate::model::refusal::{Quota, Refusal};
use crate::model::socket::CloseReason;
use crate::socket::command::{Brought, Ending, Ticket};
use crate::socket::driver::{Driver, End, Flow, Role};

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
}

/// The same ending, said of another operation.
fn for_operation(ending: &Ending, operation: Operation) -> Ending {
    match ending {
        Ending::Error(error) => Ending::Error(SocketError { operation, ..error.clone() }),
        other => other.clone(),
    }
}
