//! The kernel's own states of a TCP socket, told as far as they are seen: whenever its driver has something to do, and, in states that pass
//! without waking anybody, at an interval.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::event::Event;
use crate::model::tcp::TcpState;
use crate::socket::driver::Driver;

/// How often a state is looked at that may pass without waking anybody.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What is kept to tell changes of the kernel's state.
#[derive(Default)]
pub(super) struct StateWatch {
    /// The state that was seen last. Absent before the first look at a connection that was accepted.
    pub(super) seen: Option<TcpState>,
    /// When it is looked at again, whatever happens.
    pub(super) look_at: Option<Instant>,
}

impl Driver {
    /// Looks at the kernel's state, where that is wanted, and tells it if it has changed.
    pub(super) fn look_at_state(&mut self) {
        let ends = self.end.is_some();
        let Some(watch) = self.states.as_mut().filter(|_| !ends) else { return };
        let Some(state) = self.socket.tcp_state() else { return };
        let before = watch.seen.replace(state);
        let passes = matches!(
            state,
            TcpState::SynReceived | TcpState::FinWait1 | TcpState::FinWait2 | TcpState::Closing | TcpState::LastAck
        );
        let set = watch.look_at.is_some();
        watch.look_at = passes.then(|| watch.look_at.unwrap_or_else(|| Instant::now() + LOOK_INTERVAL));
        if watch.look_at.is_some() != set {
            self.deadline_added();
        }
        if before != Some(state) {
            self.record(Event::TcpStateChanged { before, state });
        }
    }

    /// The time to look has come.
    pub(super) fn expire_look(&mut self, now: Instant) {
        if let Some(watch) = &mut self.states {
            watch.look_at = watch.look_at.filter(|at| *at > now);
        }
    }
}
