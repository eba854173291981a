//! Room in the log of a lossless session: where there is none, what would come into it stays in the kernel.

use std::task::Context;

use crate::model::delivery::{DeliveryMode, ReadPause};
use crate::model::event::{AcceptPause, Event};
use crate::socket::driver::{Driver, Role};

impl Driver {
    /// Stops what would bring events by itself, when the log has no room for more, and tells it. Asked when something is there to be read:
    /// nobody is kept waiting as long as nobody has come.
    pub(super) fn pause_for_log(&mut self) -> bool {
        if !self.session.hub.is_full() || !self.fills_log() {
            return false;
        }
        self.log_full = true;
        self.record(match self.role {
            Role::Listener(_) => Event::AcceptPaused { reason: AcceptPause::LogFull, error: None },
            _ => Event::ReadPaused { reason: ReadPause::LogFull },
        });
        true
    }

    /// Goes on when there is room again.
    pub(super) fn poll_log(&mut self, cx: &Context<'_>) -> bool {
        if !self.log_full || !self.session.hub.has_room_or_wakes(self.cell.uid, cx) {
            return false;
        }
        self.go_on_reading();
        true
    }

    /// The delivery has changed: what is read now may need no room.
    pub(super) fn look_at_log_again(&mut self) {
        if self.log_full && !self.fills_log() {
            self.go_on_reading();
        }
    }

    fn go_on_reading(&mut self) {
        self.log_full = false;
        self.read_now = true;
        // Of a listener, the next `accepted` tells it.
        if !matches!(self.role, Role::Listener(_)) {
            self.record(Event::ReadResumed);
        }
    }

    /// Whether what comes in is kept by the log. Whoever asks for a payload takes it at once; whoever asks for a connection, too.
    fn fills_log(&self) -> bool {
        match &self.role {
            Role::Listener(listener) => listener.accepts_by_itself(),
            Role::Stream(_) | Role::Datagrams(_) => {
                let events = self.cell.conduct().delivery.mode == DeliveryMode::Events;
                events && self.receives.is_empty() && self.attached.is_none()
            }
            Role::Idle | Role::Connecting(_) | Role::Racing(_) => false,
        }
    }
}
