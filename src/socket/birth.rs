//! How a socket gets its name, its cell and its driver: one that was made, and one that a listener has accepted.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::model::address::{Endpoint, Family, Transport};
use crate::model::event::Event;
use crate::model::id::{RequestId, SocketId};
use crate::model::labels::Labels;
use crate::model::payload::Pattern;
use crate::model::peers::Peers;
use crate::model::refusal::Refusal;
use crate::model::socket::Conduct;
use crate::socket::cell::{Birth, Cell, ListenerSpec, lock};
use crate::socket::command::Orders;
use crate::socket::session::Session;
use crate::socket::sockets::Sockets;
use crate::socket::task::DriverTask;
use crate::sys::socket::Socket;

/// How many orders wait at a driver before whoever gives one more must wait, too.
const COMMAND_CAPACITY: usize = 32;

/// A connection that a listener has taken from the kernel.
pub(super) struct Arrival<'a> {
    pub(super) socket: Socket,
    pub(super) local: Endpoint,
    pub(super) remote: Endpoint,
    pub(super) request: Option<RequestId>,
    /// The number of the listener's last connection.
    pub(super) number: &'a mut u64,
}

/// What has become of it.
pub(super) struct Adopted {
    pub(super) id: SocketId,
    pub(super) created: u64,
    pub(super) accepted: u64,
}

/// A socket that is to be made.
pub(super) struct NewSocket {
    pub(super) id: Option<SocketId>,
    pub(super) transport: Transport,
    pub(super) family: Family,
    pub(super) conduct: Conduct,
    pub(super) listener: Option<ListenerSpec>,
    pub(super) labels: Arc<Labels>,
    pub(super) peers: Arc<Peers>,
    pub(super) verify: Option<Arc<Pattern>>,
    /// It looks for probes.
    pub(super) probes: bool,
}

impl Sockets {
    /// Gives a new descriptor a name and a cell, and answers what its driver obeys: see [`Self::drive`]. `created` is in the log then.
    pub(super) fn open(
        &self,
        session: &Arc<Session>,
        new: NewSocket,
        socket: Socket,
        request: &RequestId,
    ) -> Result<(Arc<Cell>, u64, Orders), Refusal> {
        let mut names = lock(&session.names);
        self.check_ended(session)?;
        let id = new.id.unwrap_or_else(|| names.mint());
        names.has_room()?;
        names.is_free(&id)?;
        let (commands, orders) = mpsc::channel(COMMAND_CAPACITY);
        let cell = Cell::new(Birth {
            session: session.id.clone(),
            id: id.clone(),
            uid: self.next_uid(),
            parent: None,
            transport: new.transport,
            family: new.family,
            created: self.now(),
            listener: new.listener,
            labels: new.labels,
            peers: new.peers,
            verify: new.verify,
            probes: new.probes,
            conduct: new.conduct,
            hub: Arc::clone(&session.hub),
            commands,
            socket: Arc::new(socket),
        });
        names.open(id, cell.uid, Arc::clone(&cell))?;
        let created =
            Event::Created { transport: new.transport, family: new.family, parent: None, local: None, remote: None };
        let seq = cell.record(Some(request), created);
        drop(names);
        Ok((cell, seq, orders))
    }

    /// Gives a cell its driver, without which nobody can use it.
    pub(super) fn drive(&self, session: &Arc<Session>, cell: &Arc<Cell>, socket: Arc<Socket>, orders: Orders) {
        self.tasks().spawn(DriverTask::new(self.clone(), Arc::clone(session), Arc::clone(cell), socket, orders));
    }

    /// Gives an accepted connection a name, a cell and a driver.
    pub(super) fn adopt(&self, session: &Arc<Session>, listener: &Arc<Cell>, arrival: Arrival<'_>) -> Adopted {
        let mut names = lock(&session.names);
        let id = names.child(&listener.id, arrival.number);
        let (commands, orders) = mpsc::channel(COMMAND_CAPACITY);
        let socket = Arc::new(arrival.socket);
        let cell = Cell::new(Birth {
            session: session.id.clone(),
            id: id.clone(),
            uid: self.next_uid(),
            parent: Some(Arc::clone(listener)),
            transport: listener.transport,
            family: listener.family(),
            created: self.now(),
            listener: None,
            labels: Arc::clone(&listener.labels),
            peers: Arc::default(),
            verify: listener.verify.clone(),
            probes: false,
            conduct: listener.conduct(),
            hub: Arc::clone(&session.hub),
            commands,
            socket: Arc::clone(&socket),
        });
        names.adopt(id.clone(), cell.uid, Arc::clone(&cell));
        let request = arrival.request.as_ref();
        let (created, accepted) = session.hub.append(|log| {
            let born = Event::Created {
                transport: cell.transport,
                family: cell.family(),
                parent: Some((listener.id.clone(), listener.uid)),
                local: Some(arrival.local.clone()),
                remote: Some(arrival.remote.clone()),
            };
            let accepted = Event::Accepted {
                id: id.clone(),
                uid: cell.uid,
                local: arrival.local.clone(),
                remote: arrival.remote.clone(),
            };
            (cell.record_in(log, request, born), listener.record_in(log, request, accepted))
        });
        drop(names);
        let driver = DriverTask::new(self.clone(), Arc::clone(session), cell, socket, orders);
        self.tasks().spawn(driver.connected());
        Adopted { id, created, accepted }
    }
}
