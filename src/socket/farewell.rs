//! The end of a driver: what is told once the descriptor is closed, and to whom.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use crate::model::socket::Closing;
use crate::model::transfer::FromAgent;
use crate::socket::cell::Cell;
use crate::socket::command::{Brought, Ending, Order, Orders, Ticket};
use crate::socket::link::{Leaving, Outlet};
use crate::socket::session::Session;

/// What is left to be told once the descriptor is closed.
pub(super) struct Farewell {
    pub(super) session: Arc<Session>,
    pub(super) cell: Arc<Cell>,
    pub(super) ticket: Option<Ticket>,
    /// Of whoever wanted it to end at once when that had begun.
    pub(super) hurried: Option<Ticket>,
    pub(super) closing: Closing,
    pub(super) orders: Orders,
    /// Of the stream that has the connection.
    pub(super) outlet: Option<Outlet>,
}

impl Farewell {
    /// The name is free and the event is there at the same moment; then whoever asked for it is answered.
    pub(super) fn tell(self) -> Orders {
        let Self { session, cell, ticket, hurried, closing, mut orders, outlet } = self;
        let request = ticket.as_ref().and_then(|ticket| ticket.request.clone());
        let seq = session.close(&cell, request.as_ref(), closing);
        // Whoever finds that it takes no orders any more can read how it ended.
        orders.close();
        cell.pending_write_bytes.store(0, Ordering::Release);
        if let Some(outlet) = outlet {
            outlet.push(Leaving::Frame(FromAgent::Closed(closing)));
        }
        for mut ticket in ticket.into_iter().chain(hurried) {
            ticket.caused(seq);
            ticket.finish(Ending::Done, Brought::Nothing);
        }
        orders
    }

    /// Turns orders away while close(2) waits for the peer. True: one of them is that the session ends, which waits for nobody.
    pub(super) fn hurry(&mut self, cx: &mut Context<'_>) -> bool {
        while let Poll::Ready(Some(command)) = self.orders.poll_recv(cx) {
            if let Order::End { .. } = command.order {
                self.hurried = Some(command.ticket);
                return true;
            }
        }
        false
    }
}

/// Drops orders, which refuses them, until none can come any more. The channel is closed.
pub(super) fn turn_away(orders: &mut Orders, cx: &mut Context<'_>) -> Poll<()> {
    while let Some(order) = ready!(orders.poll_recv(cx)) {
        drop(order);
    }
    Poll::Ready(())
}
