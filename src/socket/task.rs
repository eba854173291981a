//! The life of a driver: it drives, it closes its descriptor, and it turns away whatever comes too late.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};

use crate::model::operation::Operation;
use crate::model::socket::{CloseReason, Closing};
use crate::socket::cell::Cell;
use crate::socket::command::Orders;
use crate::socket::driver::{Driver, End, Role, canceled};
use crate::socket::farewell::{Farewell, turn_away};
use crate::socket::session::Session;
use crate::socket::sockets::Sockets;
use crate::sys::socket::Socket;

/// A driver, from its start to its end.
#[must_use = "a driver must be spawned for its socket to function"]
pub(super) struct DriverTask(Stage);

enum Stage {
    Driving(Box<Driver>),
    /// SO_LINGER makes close(2) block, so another thread does it. That goes on by itself when the session ends.
    Lingering(JoinHandle<()>, Box<Farewell>),
    /// Closed and told. Orders that were on their way meanwhile are turned away: a channel that is just dropped would keep them, and
    /// whoever waits for their answers, for ever.
    Leaving(Orders),
    Gone,
}

impl DriverTask {
    pub(super) fn new(
        sockets: Sockets,
        session: Arc<Session>,
        cell: Arc<Cell>,
        socket: Arc<Socket>,
        commands: Orders,
    ) -> Self {
        Self(Stage::Driving(Box::new(Driver::new(sockets, session, cell, socket, commands))))
    }

    /// A driver of a connection that a listener has accepted.
    pub(super) fn connected(mut self) -> Self {
        if let Stage::Driving(driver) = &mut self.0 {
            driver.watch();
            driver.become_stream();
        }
        self
    }
}

impl Future for DriverTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.0 {
                Stage::Driving(driver) => {
                    let Poll::Ready(end) = driver.poll(cx) else { return Poll::Pending };
                    if let Stage::Driving(driver) = mem::replace(&mut self.0, Stage::Gone) {
                        self.0 = driver.close(end);
                    }
                }
                Stage::Lingering(closed, farewell) => {
                    let hurried = farewell.hurry(cx);
                    if !hurried && Pin::new(closed).poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    if let Stage::Lingering(_, farewell) = mem::replace(&mut self.0, Stage::Gone) {
                        self.0 = Stage::Leaving(farewell.tell());
                    }
                }
                Stage::Leaving(orders) => {
                    if turn_away(orders, cx).is_pending() {
                        return Poll::Pending;
                    }
                    self.0 = Stage::Gone;
                }
                Stage::Gone => return Poll::Ready(()),
            }
        }
    }
}

impl Drop for DriverTask {
    /// The runtime is being shut down, or the driver has panicked: what it owes is paid all the same.
    fn drop(&mut self) {
        match mem::replace(&mut self.0, Stage::Gone) {
            Stage::Driving(driver) => {
                let reason = if std::thread::panicking() { CloseReason::Internal } else { CloseReason::AgentDraining };
                drop(driver.close(End::because(reason)));
            }
            Stage::Lingering(_, farewell) => drop(farewell.tell()),
            Stage::Leaving(_) | Stage::Gone => {}
        }
    }
}

impl Driver {
    /// Closes the descriptor, then tells everybody.
    fn close(mut self: Box<Self>, end: End) -> Stage {
        let operation = canceled(Operation::Close);
        match &mut self.role {
            Role::Connecting(_) => self.abandon_connect(),
            Role::Racing(_) => self.abandon_race(),
            Role::Listener(listener) => {
                listener.end_accepts(&canceled(Operation::Accept), |_| true);
                listener.make_place();
            }
            _ => {}
        }
        let unwritten_bytes = self.unwritten_bytes();
        self.end_outgoing(operation, |_| true);
        self.end_flushes(&canceled(Operation::Write), |_| true);
        self.end_sends(&canceled(Operation::Send), |_| true);
        self.end_receives(&canceled(Operation::Receive), |_| true);

        // From here on nobody else tells what the kernel says of it.
        self.cell.retire();
        self.cell.tell_latest_drops(&self.socket);
        let (totals, had_error) = {
            let status = self.cell.status();
            (status.totals, status.had_error)
        };
        let closing = Closing {
            reason: end.reason,
            had_error: had_error || matches!(end.reason, CloseReason::PeerReset | CloseReason::Failed),
            totals,
            unread_bytes: self.socket.queues().receive_bytes,
            unwritten_bytes,
        };
        let linger = self.set_linger(end.reason, end.linger);
        let Self { session, cell, socket, io, commands: orders, attached, .. } = *self;
        let outlet = attached.map(|attached| attached.into_outlet());
        let farewell = Farewell { session, cell, ticket: end.ticket, hurried: None, closing, orders, outlet };
        let descriptor = (io, socket);
        match linger {
            None => {
                drop(descriptor);
                Stage::Leaving(farewell.tell())
            }
            Some(_) => Stage::Lingering(spawn_blocking(move || drop(descriptor)), Box::new(farewell)),
        }
    }

    /// Sees to how long close(2) waits for the peer, and tells it where it does: as the request wants it, else as the option was set. Where
    /// no request is about this socket alone, it waits for nobody.
    fn set_linger(&self, reason: CloseReason, asked: Option<u16>) -> Option<Duration> {
        let linger = match asked {
            Some(seconds) => Some(Duration::from_secs(seconds.into())),
            None => self.socket.linger().filter(|option| option.is_zero() || reason.is_of_socket()),
        };
        // Cannot fail on an open descriptor with a value in range; if it did, the close would just be an ordinary one.
        let _ = self.socket.set_linger(linger);
        linger.filter(|linger| !linger.is_zero())
    }
}
