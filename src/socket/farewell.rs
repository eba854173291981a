//! The end of a driver: what is told once the descriptor is closed, and to whom.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use crate::model::socket::Closing;
use crate::model::transfer::FromAgent;
use crate::socket::cell::Cell;
use crate::socket::command::{Brought, Ending, Orders, Ticket};
use crate::socket::link::{Leaving, Outlet};
use crate::socket::sockets::Session;

/// What is left to be told once the descriptor is closed.
pub(super) struct Farewell {
    pub(super) session: Arc<Session>,
    pub(super) cell: Arc<Cell>,
    pub(super) ticket: Option<Ticket>,
    pub(super) closing: Closing,
    pub(super) orders: Orders,
    /// Of the stream that has the connection.
    pub(super) outlet: Option<Outlet>,
}

impl Farewell {
    /// The name is free and the event is there at the same moment; then whoever asked for it is answered.
    pub(super) fn tell(self) -> Orders {
        let Self { session, cell, mut ticket, closing, orders, outlet } = self;
        let request = ticket.as_ref().and_then(|ticket| ticket.request.clone());
        let seq = session.close(&cell, request.as_ref(), closing);
        if let Some(ticket) = &mut ticket {
            ticket.caused(seq);
        }
        cell.pending_write_bytes.store(0, Ordering::Release);
        if let Some(outlet) = outlet {
            outlet.push(Leaving::Frame(FromAgent::Closed(closing)));
        }
        if let Some(ticket) = ticket {
            ticket.finish(Ending::Done, Brought::Nothing);
        }
        orders
    }
}

/// Drops orders, which refuses them, until none can come any more. The channel is closed.
pub(super) fn turn_away(orders: &mut Orders, cx: &mut Context<'_>) -> Poll<()> {
    while let Some(order) = ready!(orders.poll_recv(cx)) {
        drop(order);
    }
    Poll::Ready(())
}
