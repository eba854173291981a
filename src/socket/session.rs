//! What one session has: the names of its sockets, its log, and what it lives by.

use std::sync::{Arc, Mutex};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::eventlog::hub::Hub;
use crate::model::event::Event;
use crate::model::id::{Principal, RequestId, SessionId, SocketId};
use crate::model::operation::SessionView;
use crate::model::own_deed::{OwnDeed, Witness};
use crate::model::refusal::Refusal;
use crate::model::socket::{CloseReason, Closing};
use crate::model::time::{Clock, Timestamp};
use crate::session::calls::Calls;
use crate::session::names::{Found, Names};
use crate::socket::calls::CallHandle;
use crate::socket::cell::{Cell, lock};
use crate::socket::pool::Account;
use crate::socket::tenure::Tenure;

/// Sockets that share names and a log.
pub(super) struct Session {
    pub(super) id: SessionId,
    /// Whose it is: what is done in it must be allowed to him.
    pub(super) owner: Principal,
    pub(super) created: Timestamp,
    pub(super) hub: Arc<Hub>,
    pub(super) names: Mutex<Names<Arc<Cell>>>,
    pub(super) calls: Mutex<Calls<Arc<CallHandle>, Arc<CallHandle>>>,
    /// Places for listeners, and how many there are.
    pub(super) listeners: (Arc<Semaphore>, u32),
    /// Its bytes that wait to be written.
    pub(super) pending: Arc<Account>,
    /// Its watchers.
    pub(super) watchers: Arc<Account>,
    pub(super) clock: Arc<dyn Clock>,
    /// Who writes down what the agent does by itself.
    pub(super) witness: Option<Arc<dyn Witness>>,
    /// What it lives by. A lease ends before `names` and `calls` are gone through for what is to end, and is looked at under their locks by
    /// whoever adds to them: so nothing is overlooked.
    pub(super) tenure: Tenure,
    /// It is told what becomes of the host's interfaces.
    pub(super) interface_events: bool,
    /// It is deleted, or the agent stops. The same holds for it.
    pub(super) ended: CancellationToken,
    /// What was still open when it ended, for good. Locked while that is being closed: whoever ends it, too, waits.
    pub(super) closed: tokio::sync::Mutex<Vec<Arc<Cell>>>,
}

impl Session {
    pub(super) fn view(&self) -> SessionView {
        let (state, lease) = self.lease();
        let (oldest_seq, head_seq) = self.hub.bounds();
        let held = self.hub.held();
        SessionView {
            id: self.id.clone(),
            owner: self.owner.clone(),
            created: self.created,
            socket_count: lock(&self.names).open_count(),
            head_seq,
            oldest_seq,
            watcher_count: self.hub.watcher_count(),
            lease,
            state,
            retention: self.hub.retention(),
            held_events: held.events,
            held_bytes: held.payload_bytes,
            watchers: self.hub.named_watchers(),
        }
    }

    /// Whether anything would end with it.
    pub(super) fn is_in_use(&self) -> bool {
        lock(&self.names).open_count() > 0 || !lock(&self.calls).running().is_empty()
    }

    /// Whether one more socket may be opened.
    pub(super) fn has_room(&self) -> Result<(), Refusal> {
        lock(&self.names).has_room()
    }

    /// A socket by name, open or closed.
    pub(super) fn find(&self, id: &SocketId) -> Result<Arc<Cell>, Refusal> {
        match lock(&self.names).find(id) {
            Found::Open(cell) | Found::Closed(cell) => Ok(cell),
            Found::Nothing => Err(Refusal::SocketNotFound(id.clone())),
        }
    }

    /// Has it written down what the agent does by itself.
    pub(super) fn note(&self, deed: impl FnOnce(Principal, SessionId) -> OwnDeed) {
        if let Some(witness) = &self.witness {
            witness.see(&deed(self.owner.clone(), self.id.clone()));
        }
    }

    /// Takes leave of a socket: its name is free and its last event is there at the same moment.
    pub(super) fn close(&self, cell: &Cell, request: Option<&RequestId>, closing: Closing) -> u64 {
        if closing.reason.is_own(request.is_some()) {
            self.note(|owner, session| OwnDeed::Closed {
                owner,
                session,
                socket: cell.id.clone(),
                uid: cell.uid,
                reason: closing.reason,
            });
        }
        let mut names = lock(&self.names);
        names.close(cell.uid);
        cell.record(request, Event::Closed(closing))
    }
}

/// What is said to whoever wants something of a closed socket.
pub(super) fn closed(cell: &Cell) -> Refusal {
    match cell.status().closed {
        Some(closing) => Refusal::SocketClosed { socket: cell.id.clone(), reason: closing.reason },
        // Its driver is closing it just now.
        None => Refusal::SocketClosed { socket: cell.id.clone(), reason: CloseReason::Closed },
    }
}
