//! Who has the address that a socket could not get: looked for after the operation has failed, beside the drivers.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::model::address::{Endpoint, Transport};
use crate::model::errno::Errno;
use crate::model::error::SocketError;
use crate::model::holder::{Claim, Holder, Owner};
use crate::model::id::Principal;
use crate::model::operation::{Operation, Yield};
use crate::model::socket::SocketState;
use crate::model::tcp::TcpState;
use crate::model::view::SocketView;
use crate::socket::cell::{Cell, lock};
use crate::socket::perform::Performed;
use crate::socket::session::Session;
use crate::socket::sockets::Sockets;
use crate::sys::diag::{self, Listed};
use crate::sys::process;

/// An address that could not be had.
#[derive(Debug, Clone, Copy)]
pub(super) struct Missed {
    pub(super) transport: Transport,
    pub(super) local: Claim,
    /// The address was free, and the connection to this one was not.
    pub(super) remote: Option<SocketAddr>,
    /// The number on this host of the socket that missed it.
    pub(super) cookie: u64,
}

impl Sockets {
    /// Adds to the error of an operation who has the address that it was about, where that is why it failed and where anybody is found.
    pub(super) async fn name_holder(&self, principal: &Principal, session: &Arc<Session>, performed: &mut Performed) {
        let Some(error) = &mut performed.error else { return };
        match &mut performed.yielded {
            Yield::Socket(view, _) => error.holder = self.holder(principal, session, view, error).await,
            // Of many, the first that failed: whoever is in its way is mostly in the way of all.
            Yield::Sockets(outcomes) => {
                let Some(failed) = outcomes.iter_mut().find(|outcome| outcome.error.is_some()) else { return };
                let Some((view, _)) = &failed.made else { return };
                error.holder = self.holder(principal, session, view, error).await;
                failed.error = Some(error.clone());
            }
            _ => {}
        }
    }

    /// Who has what a socket could not have.
    async fn holder(
        &self,
        principal: &Principal,
        session: &Session,
        view: &SocketView,
        error: &SocketError,
    ) -> Option<Box<Holder>> {
        let missed = session.find(&view.id).ok().and_then(|cell| missed(&cell, error))?;
        self.holder_of(principal, missed).await
    }

    /// Who has an address that could not be had.
    pub(super) async fn holder_of(&self, principal: &Principal, missed: Missed) -> Option<Box<Holder>> {
        let holder = match self.holder_here(principal, &missed) {
            Some(holder) => Some(holder),
            // Netlink and /proc are read by a thread that may wait. If it cannot be had, nobody is named.
            None => spawn_blocking(move || holder_on_host(&missed)).await.ok().flatten(),
        };
        holder.map(Box::new)
    }

    /// The socket of this agent that has it.
    fn holder_here(&self, principal: &Principal, missed: &Missed) -> Option<Holder> {
        let mut found = Vec::new();
        for (owner, session) in self.all_sessions() {
            let open = lock(&session.names).open_sockets();
            found.extend(open.into_iter().filter_map(|cell| missed.held_by(&owner, cell)));
        }
        // A listener rather than its connections.
        let held = found.into_iter().min_by_key(|held| held.remote.is_some())?;
        Some(if held.owner == *principal { held.told() } else { Held::hidden() })
    }
}

/// A socket of this agent that has what another one missed.
struct Held {
    owner: Principal,
    cell: Arc<Cell>,
    local: Endpoint,
    remote: Option<Endpoint>,
}

impl Held {
    fn told(self) -> Holder {
        let listens = self.cell.status().state == SocketState::Listening;
        let shown = self.cell.transport == Transport::Tcp && (listens || self.remote.is_some());
        Holder {
            owner: Owner::Socket(self.cell.session.clone(), self.cell.id.clone(), self.cell.uid),
            tcp_state: if shown { self.cell.view_with_kernel().tcp_state } else { None },
            local: Some(self.local),
            remote: self.remote,
            time_left: None,
        }
    }

    /// What whoever may not see it is told.
    const fn hidden() -> Holder {
        Holder { owner: Owner::OtherPrincipal, local: None, remote: None, tcp_state: None, time_left: None }
    }
}

/// What a socket could not have, if that is what its error is about.
fn missed(cell: &Cell, error: &SocketError) -> Option<Missed> {
    let local = error.local.as_ref()?.addr;
    let remote = match (error.errno()?, error.operation) {
        (Errno::EADDRINUSE, Operation::Bind | Operation::Listen) => None,
        (Errno::EADDRINUSE | Errno::EADDRNOTAVAIL, Operation::Connect) => Some(error.remote.as_ref()?.addr),
        _ => return None,
    };
    let (cookie, only_ipv6) = cell.cookie_and_only_ipv6()?;
    // With port 0, no port at all was free.
    let asked = local.port() != 0;
    asked.then_some(Missed { transport: cell.transport, local: Claim { addr: local, only_ipv6 }, remote, cookie })
}

impl Missed {
    /// This socket of the agent, if it has it.
    fn held_by(&self, owner: &Principal, cell: Arc<Cell>) -> Option<Held> {
        let (local, remote) = {
            let status = cell.status();
            (status.local.clone()?, status.remote.clone())
        };
        let (cookie, only_ipv6) = cell.cookie_and_only_ipv6()?;
        let claim = Claim { addr: local.addr, only_ipv6 };
        let has = cell.transport == self.transport
            && cookie != self.cookie
            && self.is_had_by(&claim, remote.as_ref().map(|remote| remote.addr));
        has.then(|| Held { owner: owner.clone(), cell, local, remote })
    }

    fn is_had_by(&self, local: &Claim, remote: Option<SocketAddr>) -> bool {
        match self.remote {
            None => self.local.excludes(local),
            Some(wanted) => local.addr == self.local.addr && remote == Some(wanted),
        }
    }
}

/// The socket that the kernel lists, and the process that has it.
fn holder_on_host(missed: &Missed) -> Option<Holder> {
    let found = diag::sockets_on(missed.transport, missed.local.addr.port())
        .into_iter()
        .filter(|listed| listed.cookie != missed.cookie && missed.is_had_by(&listed.local, listed.remote))
        .min_by_key(|listed| (listed.remote.is_some(), listed.inode == 0))?;
    Some(Holder {
        owner: owner(&found),
        local: Some(found.local.addr.into()),
        remote: found.remote.map(Endpoint::from),
        tcp_state: found.state.filter(|state| *state != TcpState::Closed),
        time_left: found.time_left,
    })
}

fn owner(found: &Listed) -> Owner {
    if found.inode == 0 {
        return Owner::Kernel;
    }
    match process::with_socket(found.inode) {
        Some((number, name)) => Owner::Process(number, name),
        None => Owner::User(found.user),
    }
}
