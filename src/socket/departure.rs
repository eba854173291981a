//! What happens to a connection without anybody reading or writing: its peer goes away, it breaks, it falls silent.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::errno::Errno;
use crate::model::event::Event;
use crate::model::operation::Operation;
use crate::model::socket::Direction;
use crate::socket::driver::{Driver, Role};
use crate::socket::stream::Stream;

impl Driver {
    /// The peer of a socket that is not read has ended its direction, or the connection is broken.
    pub(super) fn notice_departure(&mut self) {
        let pending = self.socket.take_error();
        let Role::Stream(stream) = &mut self.role else { return };
        stream.departure_told = true;
        match pending {
            Some(errno) => self.break_down(errno, Operation::Receive, "recv"),
            None if self.is_drained_for_stream() => self.end_of_stream(),
            None => {
                self.record(Event::PeerGone { error: None });
                if self.cell.conduct().direction == Direction::SendOnly {
                    self.answer_departure();
                }
            }
        }
    }

    pub(super) fn departure_told(&self) -> bool {
        matches!(&self.role, Role::Stream(stream) if stream.departure_told)
    }

    /// Both directions are over, or the connection is broken.
    pub(super) fn notice_hang_up(&mut self) {
        let pending = self.socket.take_error();
        let Role::Stream(stream) = &mut self.role else { return };
        stream.hung_up = true;
        if let Some(errno) = pending {
            self.break_down(errno, Operation::Receive, "recv");
        }
    }

    /// The connection is broken. Bytes that came before are read first, where somebody may want them.
    pub(super) fn break_down(&mut self, errno: Errno, operation: Operation, syscall: &'static str) {
        let Role::Stream(stream) = &mut self.role else { return };
        let told = stream.broken.is_some();
        let errno = *stream.broken.get_or_insert(errno);
        stream.hung_up = true;
        stream.departure_told = true;
        let all_read = stream.peer_closed || (self.socket.queues().receive_bytes == 0 && !self.socket.at_mark());
        if all_read {
            return self.break_off(errno, operation, syscall);
        }
        if self.may_read_later() {
            self.read_now |= self.wants_to_read();
            if !told {
                let error = self.error(errno, operation, syscall);
                self.record(Event::PeerGone { error: Some(error) });
            }
        } else if self.wants_to_read() {
            self.read_now = true;
        } else {
            self.break_off(errno, operation, syscall);
        }
    }

    // === Silence ===

    pub(super) fn note_activity(&mut self) {
        if let Role::Stream(stream) = &mut self.role {
            stream.last_activity = Instant::now();
            if std::mem::take(&mut stream.idle_told) {
                self.deadline_added();
            }
        }
    }

    pub(super) fn stream_deadline(&self, stream: &Stream) -> Option<Instant> {
        let timeout = self.cell.conduct().idle_timeout;
        let idle = (timeout > Duration::ZERO && !stream.idle_told).then(|| stream.last_activity + timeout);
        [idle, stream.answer_at, stream.flushes.deadline()].into_iter().flatten().min()
    }

    /// Does what was put off until now.
    pub(super) fn expire_stream(&mut self, now: Instant) {
        self.expire_idle(now);
        self.look_at_flushes(now);
        let Role::Stream(stream) = &mut self.role else { return };
        if stream.answer_at.take_if(|at| *at <= now).is_some() {
            self.answer_departure_now();
        }
    }

    /// The timer is not moved at each byte: when it expires it may be early.
    fn expire_idle(&mut self, now: Instant) {
        let Role::Stream(stream) = &mut self.role else { return };
        let timeout = self.cell.conduct().idle_timeout;
        let idle = now.saturating_duration_since(stream.last_activity);
        if timeout > Duration::ZERO && idle >= timeout && !stream.idle_told {
            stream.idle_told = true;
            self.record(Event::IdleTimedOut { idle });
        }
    }
}
