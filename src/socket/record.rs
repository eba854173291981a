//! How a driver writes down what happens: events, errors with the addresses of its socket, and addresses as people read them.

use std::net::SocketAddr;

use crate::model::address::Endpoint;
use crate::model::errno::Errno;
use crate::model::error::SocketError;
use crate::model::event::Event;
use crate::model::operation::Operation;
use crate::socket::command::{Brought, Ending, Ticket};
use crate::socket::driver::Driver;
use crate::sys::interface;
use crate::sys::socket::Socket;

impl Driver {
    /// Appends an event of this socket that no operation has caused.
    pub(super) fn record(&self, event: Event) {
        self.cell.record(None, event);
    }

    /// Appends an event that an operation has caused.
    pub(super) fn record_for(&self, ticket: &mut Ticket, event: Event) {
        let seq = self.cell.record(ticket.request.as_ref(), event);
        ticket.caused(seq);
    }

    /// Appends an event that an operation has caused, or the agent by itself.
    pub(super) fn record_for_some(&self, ticket: &mut Option<Ticket>, event: Event) {
        match ticket {
            Some(ticket) => self.record_for(ticket, event),
            None => self.record(event),
        }
    }

    /// Appends that an operation has failed, and answers so.
    pub(super) fn fail(&self, mut ticket: Ticket, error: SocketError, brought: Brought) {
        self.record_for(&mut ticket, Event::Failed { error: error.clone() });
        ticket.finish(Ending::Error(error), brought);
    }

    /// An error of a system call, with the addresses of this socket.
    pub(super) fn error(&self, errno: Errno, operation: Operation, syscall: &'static str) -> SocketError {
        let status = self.cell.status();
        SocketError::new(errno, operation, syscall).between(status.local.clone(), status.remote.clone())
    }

    /// An address as events show it, with the name of its interface where it has one.
    pub(super) fn endpoint(&self, addr: SocketAddr) -> Endpoint {
        endpoint(&self.socket, addr)
    }

    /// The local address as the kernel has it.
    pub(super) fn local(&self) -> Option<Endpoint> {
        self.socket.local().map(|addr| self.endpoint(addr))
    }

    /// The remote address as the kernel has it.
    pub(super) fn remote(&self) -> Option<Endpoint> {
        self.socket.remote().map(|addr| self.endpoint(addr))
    }
}

/// An address as people read it, with the name of its interface where it has one.
pub(super) fn endpoint(socket: &Socket, addr: SocketAddr) -> Endpoint {
    let zone = match addr {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => interface::name_of(socket, v6.scope_id()).ok(),
        _ => None,
    };
    Endpoint { addr, zone }
}
