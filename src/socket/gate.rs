//! The policy in force, and what is asked of it: whoever is about to do something for a principal asks here.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::model::group::GroupChange;
use crate::model::id::Principal;
use crate::model::option::OptionSpec;
use crate::model::policy::permit::{Denied, Permitted, Ruling};
use crate::model::policy::{AddressUse, Place, Policy, Right};
use crate::model::refusal::Refusal;
use crate::model::socket::{CloseReason, Closing};
use crate::socket::cell::lock;
use crate::socket::command::{Command, Order, Ticket};
use crate::socket::session::Session;
use crate::socket::sockets::Sockets;
use crate::sys::locality::Locality;

/// The policy of an agent, which can be exchanged while it serves. Without one, everybody who comes in may do everything.
pub struct Gate {
    policy: ArcSwapOption<Policy>,
    /// Tells that another one is in force.
    exchanged: watch::Sender<()>,
    /// Where the agent is controlled by TCP.
    control: Vec<SocketAddr>,
    /// The network in which it is controlled, which may be another one than that of its sockets. Absent where the kernel does not tell of
    /// it: then every address counts as its own.
    home: Option<Locality>,
}

impl Gate {
    /// The gate of an agent that is controlled at these addresses. To be made on a thread of the network namespace that has them.
    pub fn new(policy: Option<Policy>, control: Vec<SocketAddr>) -> Self {
        let exchanged = watch::Sender::new(());
        let home = Locality::here().ok();
        Self { policy: ArcSwapOption::from_pointee(policy), exchanged, control, home }
    }

    /// The policy that is in force.
    pub fn policy(&self) -> Option<Arc<Policy>> {
        self.policy.load_full()
    }

    /// Puts another one in force. [`Sockets::judge`] then closes what it does not allow.
    pub fn exchange(&self, policy: Policy) {
        self.policy.store(Some(Arc::new(policy)));
        self.exchanged.send_replace(());
    }

    /// Tells from now on when another one is in force; absent where there is none.
    pub fn exchanges(&self) -> Option<watch::Receiver<()>> {
        self.is_kept().then(|| self.exchanged.subscribe())
    }

    fn ask<T>(&self, who: &Principal, ask: impl FnOnce(Ruling<'_>) -> Result<T, Box<Denied>>) -> Result<T, Refusal> {
        let policy = self.policy.load();
        let is_local = |ip| self.is_local(ip);
        let place = Place { control: &self.control, is_local: &is_local };
        ask(Ruling::new(policy.as_deref(), who, place)).map_err(Refusal::PolicyDenied)
    }

    /// Whether an address is one of the network in which the agent is controlled, or of that of its sockets, now: addresses come and go.
    fn is_local(&self, ip: IpAddr) -> bool {
        let is_in = |place: Option<&Locality>| place.is_none_or(|place| place.is_local(ip).unwrap_or(true));
        is_in(self.home.as_ref()) || is_in(Locality::here().ok().as_ref())
    }

    /// Refuses those who have no role.
    pub fn enter(&self, who: &Principal) -> Result<(), Refusal> {
        self.ask(who, |ruling| ruling.entry())
    }

    /// Whether somebody has a right. Without a policy everybody may do everything with what is his own, and sees nothing else.
    pub fn has(&self, who: &Principal, right: Right) -> bool {
        match &*self.policy.load() {
            Some(policy) => policy.may(who, right),
            None => !matches!(right, Right::SeeOthers | Right::UseOthers),
        }
    }

    /// Refuses those who do not have a right.
    pub fn require(&self, who: &Principal, right: Right) -> Result<(), Refusal> {
        self.ask(who, |ruling| ruling.right(right))
    }

    /// Asks for a use of an address.
    pub(super) fn permit(&self, who: &Principal, what: &AddressUse) -> Result<Permitted<SocketAddr>, Refusal> {
        self.ask(who, |ruling| ruling.address(what))
    }

    /// Asks for a change of a multicast membership.
    pub(super) fn permit_group(
        &self,
        who: &Principal,
        change: GroupChange,
        group: IpAddr,
    ) -> Result<Permitted<IpAddr>, Refusal> {
        self.ask(who, |ruling| ruling.group(change, group))
    }

    /// Asks for a socket option.
    pub(super) fn permit_option(
        &self,
        who: &Principal,
        spec: &'static OptionSpec,
    ) -> Result<Permitted<&'static OptionSpec>, Refusal> {
        self.ask(who, |ruling| ruling.option(spec))
    }

    /// Whether there is a policy at all. There is one from the start, or never.
    pub(super) fn is_kept(&self) -> bool {
        self.policy.load().is_some()
    }
}

impl Sockets {
    /// Closes all sockets that the policy does not allow any more, and tells how many these were.
    pub async fn judge(&self) -> usize {
        self.end_empty();
        let mut closed = 0;
        for (_, session) in self.all_sessions() {
            closed += session.judge().await;
        }
        closed
    }
}

impl Session {
    async fn judge(&self) -> usize {
        let mut closed = 0;
        // After the first round no listener takes connections by the policy of before: those that it has taken meanwhile are in the second.
        for _ in 0..2 {
            let cells = lock(&self.names).open_sockets();
            let mut answers = Vec::with_capacity(cells.len());
            for cell in &cells {
                let (ticket, answer) = Ticket::new(None, Instant::now());
                if cell.commands.send(Box::new(Command { order: Order::Judge, ticket })).await.is_ok() {
                    answers.push(answer);
                }
            }
            for answer in answers {
                // A driver that is gone has closed its socket.
                let _ = answer.await;
            }
            let by_policy = |closing: &Closing| closing.reason == CloseReason::Policy;
            closed += cells.iter().filter(|cell| cell.status().closed.as_ref().is_some_and(by_policy)).count();
        }
        closed
    }
}
