//! What goes out of a connection: writes, and what must wait for them, in the order of arrival.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::time::Instant;

use crate::model::delivery::Slices;
use crate::model::errno::Errno;
use crate::model::error::SocketError;
use crate::model::event::Event;
use crate::model::operation::{Operation, ShutdownHow, WriteFlags};
use crate::model::refusal::{Quota, Refusal};
use crate::model::socket::CloseReason;
use crate::socket::command::{Brought, Ending, Ticket};
use crate::socket::driver::{Driver, End, Flow, Role};
use crate::socket::pool::Allowance;

/// What goes out, in order.
pub(super) enum Outgoing {
    Write(Write),
    /// Bytes of a stream that has the connection, and what lets them wait.
    Transferred(Bytes, Arc<Allowance>),
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
    /// How many of them have been told.
    told: usize,
    flags: WriteFlags,
    slices: Option<Slices>,
    /// The next slice waits until then.
    not_before: Option<Instant>,
}

/// How far a write has come.
enum Handed {
    /// It has ended.
    Over,
    /// The kernel takes no more for now.
    Blocked(Write),
    /// The next slice is not due yet.
    Later(Write),
}

impl Write {
    /// What the kernel is to take next. Each send(2) makes its own last byte urgent, and may take only a part: so the one that is meant
    /// goes alone, and what stands before it waits for it.
    fn next(&self) -> (&[u8], WriteFlags) {
        let end = self.end();
        let rest = &self.payload[self.handed..end];
        let last = end == self.payload.len();
        match rest.split_last() {
            Some((_, before)) if last && self.flags.urgent && !before.is_empty() => {
                (before, WriteFlags { urgent: false, more: true })
            }
            _ => (rest, WriteFlags { urgent: self.flags.urgent && last, ..self.flags }),
        }
    }

    /// Where the slice ends that is being handed over. It begins where the last one was told.
    fn end(&self) -> usize {
        let size = self.slices.map_or(usize::MAX, |slices| slices.size as usize);
        self.told.saturating_add(size).min(self.payload.len())
    }
}

impl Outgoing {
    fn ticket(&self) -> Option<&Ticket> {
        match self {
            Self::Write(Write { ticket, .. }) | Self::Close { ticket, .. } | Self::Flush(ticket) => Some(ticket),
            Self::Shutdown { ticket, .. } => ticket.as_ref(),
            Self::Transferred(..) => None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let due = match self {
            Self::Write(write) => write.not_before,
            _ => None,
        };
        self.ticket().map(|ticket| ticket.deadline).into_iter().chain(due).min()
    }

    fn waiting_bytes(&self) -> usize {
        match self {
            Self::Write(write) => write.payload.len() - write.handed,
            Self::Transferred(bytes, _) => bytes.len(),
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
        (flags, slices): (WriteFlags, Option<Slices>),
    ) {
        if let Some(refusal) = self.refuse_attached() {
            return ticket.refuse(refusal);
        }
        let waiting = self.unwritten_bytes();
        let offset = self.handed_bytes() + u64::from(waiting);
        if expected_offset.is_some_and(|expected| expected != offset) {
            return ticket.refuse(Refusal::OffsetMismatch { actual: offset });
        }
        let limit = self.sockets.limits().pending_write_bytes;
        if waiting > 0 && waiting as usize + payload.len() > limit as usize {
            let quota = Quota { limit: "limits.pending_write_bytes", value: limit.into() };
            return ticket.refuse(Refusal::QuotaExceeded(quota));
        }
        let (handed, told) = (0, 0);
        self.enqueue(Outgoing::Write(Write { ticket, payload, handed, told, flags, slices, not_before: None }));
    }

    pub(super) fn enqueue(&mut self, outgoing: Outgoing) {
        self.outgoing.push_back(outgoing);
        // What is outgoing during a handshake waits for its end: the kernel answers EAGAIN then.
        if matches!(&self.role, Role::Stream(stream) if stream.blocked) {
            self.cell.pending_write_bytes.store(self.unwritten_bytes(), Ordering::Release);
            self.tell_watermarks();
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
        }
        self.tell_watermarks();
        flow
    }

    /// Tells that more bytes wait than the high watermark, or no more than the low one again: the latter before whatever stands behind
    /// them happens. Bytes of a stream have its credit instead.
    fn tell_watermarks(&mut self) {
        let waiting = self.unwritten_bytes();
        let watermarks = self.cell.conduct().watermarks;
        let attached = self.attached.is_some();
        let Role::Stream(stream) = &mut self.role else { return };
        if stream.above && waiting <= watermarks.low && stream.broken.is_none() {
            stream.above = false;
            self.record(Event::Writable);
        } else if !stream.above && stream.blocked && waiting > watermarks.high && !attached {
            stream.above = true;
            self.record(Event::WriteBlocked { pending_bytes: waiting });
        }
    }

    fn flush_until_blocked(&mut self) -> Flow {
        while self.end.is_none() {
            let ends = matches!(self.outgoing.front(), None | Some(Outgoing::Shutdown { .. } | Outgoing::Close { .. }));
            // The descriptor that will have it is not known yet.
            if matches!(self.role, Role::Racing(_)) && !ends {
                return Flow::Drained;
            }
            match self.outgoing.pop_front() {
                Some(Outgoing::Write(write)) => {
                    let (rest, flow) = match self.hand_over(write) {
                        Handed::Over => {
                            self.tell_watermarks();
                            continue;
                        }
                        Handed::Blocked(rest) => (rest, Flow::Drained),
                        Handed::Later(rest) => (rest, Flow::Enough),
                    };
                    self.outgoing.push_front(Outgoing::Write(rest));
                    return flow;
                }
                Some(Outgoing::Transferred(bytes, allowance)) => {
                    if let Some(rest) = self.hand_on(bytes) {
                        self.outgoing.push_front(Outgoing::Transferred(rest, allowance));
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

    /// Hands the bytes of one write to the kernel.
    fn hand_over(&mut self, mut write: Write) -> Handed {
        write.not_before = write.not_before.filter(|at| *at > Instant::now());
        if write.not_before.is_some() {
            return Handed::Later(write);
        }
        loop {
            let (bytes, flags) = write.next();
            match self.socket.send(bytes, flags) {
                Ok(taken) => {
                    self.cell.hash_written(&write.payload[write.handed..write.handed + taken]);
                    write.handed += taken;
                    self.note_activity();
                    if write.handed == write.payload.len() {
                        self.end_write(write, Ending::Done);
                        return Handed::Over;
                    }
                    if let Some(slices) = write.slices.filter(|_| write.handed == write.end()) {
                        self.tell_written(&mut write);
                        write.not_before = Some(Instant::now() + slices.interval);
                        self.deadline_added();
                        return Handed::Later(write);
                    }
                }
                Err(errno) if errno.would_block() => return Handed::Blocked(write),
                Err(errno) => {
                    self.write_failed(write, errno);
                    return Handed::Over;
                }
            }
        }
    }

    fn write_failed(&mut self, write: Write, errno: Errno) {
        // An error that reading could not report because nobody reads comes first, as it would in the kernel, and comes once.
        let errno = match &mut self.role {
            Role::Stream(stream) if !stream.broken_answered => {
                stream.broken_answered = stream.broken.is_some();
                stream.broken.unwrap_or(errno)
            }
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
        if let Role::Stream(stream) = &mut self.role {
            stream.broken_answered = true;
        }
        self.end_write(write, Ending::Error(error.clone()));
        self.end_outgoing(Ending::Error(error), |_| true);
        self.break_down(errno, Operation::Write, "send");
    }

    /// Tells how much of a write, or of its slice, the kernel has got, and answers.
    fn end_write(&self, mut write: Write, ending: Ending) {
        let offset = self.cell.status().totals.bytes_written - write.told as u64;
        self.tell_written(&mut write);
        write.ticket.finish(ending, Brought::Written { size: count(write.handed), offset });
    }

    /// Tells what the kernel has got since it was told last, if that is anything.
    fn tell_written(&self, write: &mut Write) {
        let (size, asked_size) = (count(write.handed - write.told), count(write.end() - write.told));
        if size > 0 {
            let offset = self.cell.status().totals.bytes_written;
            self.record_for(&mut write.ticket, Event::Written { offset, size, asked_size });
            write.told = write.handed;
        }
    }

    /// Ends what waits to go out. A close that has waited long enough discards what stands before it.
    pub(super) fn end_outgoing(&mut self, ending: Ending, which: impl Fn(&Ticket) -> bool) {
        let ended: Vec<usize> =
            (0..self.outgoing.len()).filter(|at| self.outgoing[*at].ticket().is_some_and(&which)).collect();
        for at in ended.into_iter().rev() {
            match self.outgoing.remove(at) {
                Some(Outgoing::Write(write)) => {
                    self.end_write(write, for_operation(&ending, Operation::Write));
                    if matches!(ending, Ending::TimedOut) && self.cell.conduct().write_timeout.closes {
                        self.end.get_or_insert_with(|| End::because(CloseReason::WriteTimedOut));
                    }
                }
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
                Some(Outgoing::Shutdown { ticket: None, .. } | Outgoing::Transferred(..)) | None => {}
            }
        }
        if let Role::Stream(stream) = &mut self.role {
            stream.blocked &= !self.outgoing.is_empty();
        }
        self.cell.pending_write_bytes.store(self.unwritten_bytes(), Ordering::Release);
    }

    /// What stood behind writes that have ended is not theirs to wait for: it needs no room. And a slice may be due.
    pub(super) fn go_on(&mut self) {
        let due = match self.outgoing.front() {
            Some(Outgoing::Write(write)) => write.not_before.is_some_and(|at| at <= Instant::now()),
            Some(Outgoing::Shutdown { .. } | Outgoing::Close { .. } | Outgoing::Flush(_)) => true,
            Some(Outgoing::Transferred(..)) | None => false,
        };
        if due && self.end.is_none() {
            self.flush();
        }
    }

    /// How many bytes the kernel has got in all, also of a write that has not ended.
    pub(super) fn handed_bytes(&self) -> u64 {
        let of_front = match self.outgoing.front() {
            Some(Outgoing::Write(write)) => (write.handed - write.told) as u64,
            _ => 0,
        };
        self.cell.status().totals.bytes_written + of_front
    }

    pub(super) fn unwritten_bytes(&self) -> u32 {
        let waiting: usize = self.outgoing.iter().map(Outgoing::waiting_bytes).sum();
        u32::try_from(waiting).unwrap_or(u32::MAX)
    }
}

fn count(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// The same ending, said of another operation.
fn for_operation(ending: &Ending, operation: Operation) -> Ending {
    match ending {
        Ending::Error(error) => Ending::Error(SocketError { operation, ..error.clone() }),
        other => other.clone(),
    }
}
