//! Connecting and disconnecting: how a socket comes by a remote address, and loses it.

use std::net::SocketAddr;

use crate::model::address::{Endpoint, Transport, socket_addr};
use crate::model::errno::Errno;
use crate::model::error::SocketError;
use crate::model::event::Event;
use crate::model::operation::Operation;
use crate::model::policy::Use;
use crate::model::socket::SocketState;
use crate::socket::command::{Brought, Ending, Ticket};
use crate::socket::driver::{Driver, Flow, Role};
use crate::socket::permit::Hindrance;

/// A handshake that is under way.
pub(super) struct Connecting {
    pub(super) ticket: Ticket,
    remote: Endpoint,
    /// No other address is tried when this one refuses.
    last: bool,
    /// Another one is tried when this one stays silent.
    goes_on: bool,
}

impl Connecting {
    /// Whom it is with.
    pub(super) const fn remote(&self) -> SocketAddr {
        self.remote.addr
    }
}

impl Driver {
    pub(super) fn connect(&mut self, mut ticket: Ticket, remote: SocketAddr, (last, goes_on): (bool, bool)) {
        let permitted = match self.permit_connect(remote) {
            Ok(permitted) => permitted,
            Err(refusal) => return ticket.refuse(refusal),
        };
        let remote = self.endpoint(remote);
        let state = self.cell.status().state;
        let attempt = matches!(state, SocketState::Unbound | SocketState::Bound);
        match self.prepare_connect(&mut ticket) {
            Ok(()) => {}
            Err(Hindrance::Denied(refusal)) => return ticket.refuse(refusal),
            Err(Hindrance::Errno(errno)) => {
                let mut error = self.error(errno, Operation::Bind, "bind");
                error.remote = Some(remote);
                return self.fail(ticket, error, Brought::Nothing);
            }
        }
        if attempt && self.cell.transport == Transport::Tcp {
            // Before the call, because over there the connection may be accepted before it returns.
            self.record_for(&mut ticket, Event::ConnectStarted { remote: remote.clone() });
        }
        match self.socket.connect(permitted) {
            Ok(()) => {
                self.holds(Use::Connect, permitted);
                if self.cell.transport == Transport::Tcp {
                    self.watch();
                }
                self.connected(ticket, remote);
            }
            Err(Errno::EINPROGRESS) => {
                self.role = Role::Connecting(Connecting { ticket, remote, last, goes_on });
                self.watch();
                self.deadline_added();
            }
            Err(errno) if attempt && self.cell.transport == Transport::Tcp => {
                self.connect_failed(ticket, remote, errno, last);
            }
            // No attempt began: the socket listens, is connected or is just connecting, and stays so.
            Err(errno) => {
                let mut error = self.error(errno, Operation::Connect, "connect");
                error.remote = Some(remote);
                self.fail(ticket, error, Brought::Nothing);
            }
        }
    }

    /// Gives the socket the lab address, where there is one and nobody has bound the socket.
    fn prepare_connect(&mut self, ticket: &mut Ticket) -> Result<(), Hindrance> {
        if self.socket.local().is_some() {
            return Ok(());
        }
        match self.cell.transport {
            // The port is chosen when the remote address is known, so that many connections can share it.
            Transport::Tcp => match self.sockets.lab_address(self.cell.family()) {
                Some(lab) => {
                    let lab = self.permit_local(Use::Bind, socket_addr(lab, 0, 0))?;
                    self.socket.bind_address(lab)?;
                    self.holds(Use::Bind, lab);
                    Ok(())
                }
                None => Ok(()),
            },
            Transport::Udp => self.bind_to_any_port(ticket),
        }
    }

    /// Gives the socket a port of the kernel's choice: on the address that it was bound to, else on the lab address where there is one.
    pub(super) fn bind_to_any_port(&mut self, ticket: &mut Ticket) -> Result<(), Hindrance> {
        let family = self.cell.family();
        let ip = self.socket.bound_ip().or_else(|| self.sockets.lab_address(family));
        let local = self.permit_local(Use::Bind, socket_addr(ip.unwrap_or_else(|| family.wildcard()), 0, 0))?;
        self.socket.bind(local)?;
        self.holds(Use::Bind, local);
        self.bound(ticket);
        Ok(())
    }

    /// What has become of a handshake.
    ///
    /// Linux wants the answer to be fetched by the call that began it: only then may the socket connect again after a failure, and only
    /// then does it know that it is connected after a success.
    pub(super) fn finish_connect(&mut self) -> Flow {
        let Role::Connecting(connecting) = &self.role else { return Flow::Enough };
        let Ok(permitted) = self.permit_connect(connecting.remote.addr) else {
            self.end_by_policy();
            return Flow::Enough;
        };
        let answer = self.socket.connect(permitted);
        if matches!(answer, Err(Errno::EALREADY | Errno::EINPROGRESS)) {
            return Flow::Drained;
        }
        if let Role::Connecting(Connecting { ticket, remote, last, .. }) = std::mem::replace(&mut self.role, Role::Idle)
        {
            match answer {
                Ok(()) => {
                    self.holds(Use::Connect, permitted);
                    self.connected(ticket, remote);
                }
                // Before the handshake a RST is ECONNREFUSED. These say that it was done, and the connection reset since.
                Err(errno @ (Errno::ECONNRESET | Errno::EPIPE)) => {
                    self.connected(ticket, remote);
                    self.break_down(errno, Operation::Receive, "recv");
                }
                Err(errno) => self.connect_failed(ticket, remote, errno, last),
            }
        }
        Flow::Enough
    }

    pub(super) fn connected(&mut self, mut ticket: Ticket, remote: Endpoint) {
        let Some(local) = self.local() else {
            return self.connect_failed(ticket, remote, Errno::ENOTCONN, true);
        };
        // Whoever asks for the wildcard address gets this host. The kernel forgets it when the connection has broken already.
        let remote = self.remote().unwrap_or(remote);
        let self_connected = self.cell.transport == Transport::Tcp && local.addr == remote.addr;
        self.record_for(&mut ticket, Event::Connected { local, remote, self_connected });
        self.given = Vec::new();
        match &mut self.role {
            Role::Datagrams(datagrams) => datagrams.connected = true,
            _ => self.become_stream(),
        }
        ticket.finish(Ending::Done, Brought::Nothing);
    }

    fn connect_failed(&mut self, mut ticket: Ticket, remote: Endpoint, errno: Errno, last: bool) {
        let mut error = self.error(errno, Operation::Connect, "connect");
        error.remote = Some(remote.clone());
        self.become_idle();
        let local = self.local();
        let told = Some(error.clone());
        self.record_for(&mut ticket, Event::ConnectFailed { remote, local, error: told, still_connecting: false });
        ticket.finish(Ending::Error(error), Brought::Nothing);
        if last {
            self.end_waiting_for_connection();
        }
    }

    /// Whoever has waited for the connection gets what the kernel says without one: EPIPE, ENOTCONN.
    pub(super) fn end_waiting_for_connection(&mut self) {
        self.flush();
        self.receive_unconnected();
        self.cell.no_connection.notify_waiters();
    }

    /// Ends an attempt that has waited long enough, or that nobody wants any more.
    pub(super) fn give_up_connect(&mut self, ending: Ending) {
        let Role::Connecting(Connecting { mut ticket, remote, goes_on, .. }) =
            std::mem::replace(&mut self.role, Role::Idle)
        else {
            return;
        };
        self.become_idle();
        // Without the remote address the kernel sends no more SYNs; it leaves an error behind that is none.
        let _ = self.socket.disconnect();
        let _ = self.socket.take_error();
        let mut ending = ending;
        if let Ending::Error(error) = &mut ending {
            *error = SocketError { remote: Some(remote.clone()), ..error.clone() };
        }
        let error = if let Ending::Error(error) = &ending { Some(error.clone()) } else { None };
        let local = self.local();
        self.record_for(&mut ticket, Event::ConnectFailed { remote, local, error, still_connecting: false });
        let next = goes_on && matches!(ending, Ending::TimedOut);
        ticket.finish(ending, Brought::Nothing);
        if !next {
            self.end_waiting_for_connection();
        }
    }

    /// Ends an attempt because the socket is being closed: `closed` will tell.
    pub(super) fn abandon_connect(&mut self) {
        if let Role::Connecting(Connecting { ticket, .. }) = std::mem::replace(&mut self.role, Role::Idle) {
            let error = SocketError::canceled(Operation::Connect);
            ticket.finish(Ending::Error(error), Brought::Nothing);
        }
    }

    fn become_idle(&mut self) {
        self.role = Role::Idle;
        self.unwatch();
    }

    pub(super) fn disconnect(&mut self, mut ticket: Ticket) {
        match self.socket.disconnect() {
            Ok(()) => {
                self.releases(Use::Connect);
                if let Role::Datagrams(datagrams) = &mut self.role {
                    datagrams.connected = false;
                }
                let local = self.local();
                self.record_for(&mut ticket, Event::Disconnected { local });
                ticket.finish(Ending::Done, Brought::Nothing);
            }
            Err(errno) => {
                let error = self.error(errno, Operation::Disconnect, "connect");
                self.fail(ticket, error, Brought::Nothing);
            }
        }
    }
}
