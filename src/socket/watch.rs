//! Places to read a session's log from.

use std::sync::Arc;
use std::time::Duration;

use crate::eventlog::cursor::Cursor;
use crate::eventlog::hub::From;
use crate::model::event::EventFilter;
use crate::model::id::{Principal, SessionId, WatcherId};
use crate::model::policy::Right;
use crate::model::refusal::Refusal;
use crate::model::view::SocketView;
use crate::socket::cell::lock;
use crate::socket::sockets::Sockets;
use crate::socket::tenure::Presence;

/// A place to read a session's log from, counted as a watcher while it is held.
pub struct Watch {
    /// Where it reads.
    pub cursor: Cursor,
    presence: Presence,
}

impl Watch {
    /// The oldest kept and the newest number of the session's log.
    pub fn log_bounds(&self) -> (u64, u64) {
        self.presence.session().hub.bounds()
    }

    /// How much is left of the session's lease; absent when it has none.
    pub fn lease_left(&self) -> Option<Duration> {
        self.presence.session().lease().1.map(|lease| lease.left)
    }
}

impl Sockets {
    /// A place to read a session's log from, for a reader that does not stay.
    pub fn read(
        &self,
        principal: &Principal,
        id: &SessionId,
        from: From,
        filter: EventFilter,
    ) -> Result<Cursor, Refusal> {
        self.check_draining()?;
        self.session(principal, id)?.hub.cursor(from, filter)
    }

    /// Counts a watcher in. Whoever could work in his default session has it made by waiting for what happens there.
    fn attend(&self, principal: &Principal, id: &SessionId) -> Result<Presence, Refusal> {
        self.check_draining()?;
        if self.gate().has(principal, Right::Use) {
            return Presence::begin(self.needed_session(principal, id)?, self.limits().watchers);
        }
        let session = self.session(principal, id)?;
        // All those who watch the empty one share what one session leaves to the others.
        let is_empty_one = Arc::ptr_eq(&session, &self.empty());
        let limit = if is_empty_one { self.limits().watchers_total } else { self.limits().watchers };
        Presence::begin(session, limit)
    }

    /// A place to read a session's log from, for a reader that waits for more.
    pub fn watch(
        &self,
        principal: &Principal,
        id: &SessionId,
        from: From,
        filter: EventFilter,
    ) -> Result<Watch, Refusal> {
        let presence = self.attend(principal, id)?;
        let session = presence.session();
        Ok(Watch { cursor: session.hub.cursor(from, filter)?, presence })
    }

    /// A place to read a session's log from, together with all its sockets as they are right there.
    pub fn watch_with_snapshot(
        &self,
        principal: &Principal,
        id: &SessionId,
        filter: EventFilter,
    ) -> Result<(Watch, u64, Vec<SocketView>), Refusal> {
        let presence = self.attend(principal, id)?;
        let session = presence.session();
        let (at, sockets) = {
            let names = lock(&session.names);
            session.hub.append(|log| (log.head(), names.open_sockets().iter().map(|cell| cell.view()).collect()))
        };
        let cursor = session.hub.cursor(From::After(at), filter)?;
        Ok((Watch { cursor, presence }, at, sockets))
    }

    /// Lets a watcher hold what it does not acknowledge, to the end of the session. Answers through where it has, if it has.
    pub fn hold(&self, principal: &Principal, id: &SessionId, watcher: &WatcherId) -> Result<Option<u64>, Refusal> {
        self.check_draining()?;
        let session = self.session(principal, id)?;
        // What is held already is read to its end, also when the lease is over.
        if !session.hub.knows(watcher) {
            session.check_lease()?;
        }
        let held = session.hub.hold_for(watcher, self.limits().watchers);
        held.unwrap_or_else(|| Err(Refusal::NotLossless(id.clone())))
    }

    /// A watcher needs nothing through this number any more. Answers through where it has acknowledged in all.
    pub fn acknowledge(
        &self,
        principal: &Principal,
        id: &SessionId,
        watcher: &WatcherId,
        through: u64,
    ) -> Result<u64, Refusal> {
        self.session(principal, id)?.hub.acknowledge(watcher, through)
    }
}
