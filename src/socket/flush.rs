//! Waiting until the peer has everything. epoll(7) does not tell when SIOCOUTQ changes, so the kernel is asked at growing distances.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::errno::Errno;
use crate::model::operation::Operation;
use crate::socket::command::{Brought, Ending, Ticket};
use crate::socket::driver::{Driver, Role};

/// How long to wait before the kernel is asked again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Those who wait for the peer's acknowledgements.
#[derive(Default)]
pub(super) struct Flushes {
    /// Each with how many bytes had been written when its turn came.
    waiting: Vec<(Ticket, u64)>,
    pause: Duration,
    /// When the kernel is asked again.
    next: Option<Instant>,
}

impl Flushes {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|(ticket, _)| ticket.deadline).chain(self.next).min()
    }

    fn end(&mut self, ending: &Ending, which: impl Fn(&Ticket, u64) -> bool) {
        for (ticket, _) in self.waiting.extract_if(.., |(ticket, mark)| which(ticket, *mark)) {
            ticket.finish(ending.clone(), Brought::Nothing);
        }
        if self.waiting.is_empty() {
            self.next = None;
        }
    }
}

impl Driver {
    /// Begins to wait: everything before has been handed to the kernel.
    pub(super) fn begin_flush(&mut self, ticket: Ticket) {
        let mark = self.handed_bytes();
        let Role::Stream(stream) = &mut self.role else {
            let error = self.error(Errno::ENOTCONN, Operation::Write, "ioctl");
            return self.fail(ticket, error, Brought::Nothing);
        };
        stream.flushes.waiting.push((ticket, mark));
        stream.flushes.pause = FIRST_PAUSE;
        stream.flushes.next = None;
        self.look_at_flushes(Instant::now());
    }

    /// Answers those whose bytes the peer has, and those whose time is over.
    pub(super) fn look_at_flushes(&mut self, now: Instant) {
        let handed = self.handed_bytes();
        let Role::Stream(stream) = &mut self.role else { return };
        let flushes = &mut stream.flushes;
        if flushes.waiting.is_empty() {
            return;
        }
        let broken = stream.broken;
        let acknowledged = handed.saturating_sub(self.socket.queues().send_bytes.into());
        flushes.end(&Ending::Done, |_, mark| mark <= acknowledged);
        flushes.end(&Ending::TimedOut, |ticket, _| ticket.deadline <= now);
        if flushes.next.is_none_or(|next| next <= now) && !flushes.waiting.is_empty() {
            flushes.next = Some(now + flushes.pause);
            flushes.pause = (flushes.pause * 2).min(LONGEST_PAUSE);
            self.deadline_added();
        }
        if let Some(errno) = broken {
            let error = self.error(errno, Operation::Write, "ioctl");
            self.end_flushes(&Ending::Error(error), |_| true);
        }
    }

    /// Ends waiting for the peer.
    pub(super) fn end_flushes(&mut self, ending: &Ending, which: impl Fn(&Ticket) -> bool) {
        if let Role::Stream(stream) = &mut self.role {
            stream.flushes.end(ending, |ticket, _| which(ticket));
        }
    }
}
