//! What drivers ask the policy before each system call, and what their sockets hold by its leave.

use std::net::{IpAddr, SocketAddr};

use crate::model::address::{Family, Transport, socket_addr};
use crate::model::errno::Errno;
use crate::model::group::GroupChange;
use crate::model::id::Principal;
use crate::model::option::{OptionSpec, OptionValue, SocketOption};
use crate::model::policy::permit::Permitted;
use crate::model::policy::{AddressUse, Right, Use};
use crate::model::refusal::Refusal;
use crate::model::socket::CloseReason;
use crate::model::spec::{Kind, SocketSpec, TcpRole};
use crate::socket::command::{Brought, Ending, ReadyDatagram, Ticket};
use crate::socket::driver::{Driver, End, Role};
use crate::socket::gate::Gate;
use crate::socket::perform::Run;
use crate::sys::control::Marks;

/// Why something was not done.
pub(super) enum Hindrance {
    /// The kernel objects.
    Errno(Errno),
    /// The policy does.
    Denied(Refusal),
}

impl From<Errno> for Hindrance {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<Refusal> for Hindrance {
    fn from(refusal: Refusal) -> Self {
        Self::Denied(refusal)
    }
}

/// What a socket has been allowed and still holds, as it was asked for. Empty where there is no policy.
#[derive(Default)]
pub(super) struct Standing {
    uses: Vec<(Use, SocketAddr)>,
    options: Vec<&'static OptionSpec>,
}

impl Driver {
    // === Questions ===

    fn ask(&self, kind: Use, addr: SocketAddr, also: Option<IpAddr>) -> Result<Permitted<SocketAddr>, Refusal> {
        let what = AddressUse { kind, transport: self.cell.transport, addr, also };
        self.allowed_to_all(|gate, who| gate.permit(who, &what))
    }

    /// What is allowed to whose session it is, and to whoever asks for it in his place, as long as he may do so.
    fn allowed_to_all<T>(&self, ask: impl Fn(&Gate, &Principal) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let gate = self.sockets.gate();
        if let Some(asker) = &self.asker {
            gate.require(asker, Right::UseOthers)?;
            ask(gate, asker)?;
        }
        ask(gate, &self.session.owner)
    }

    /// Asks for a local address.
    pub(super) fn permit_local(&self, kind: Use, local: SocketAddr) -> Result<Permitted<SocketAddr>, Refusal> {
        self.ask(kind, local, AddressUse::takes_as_well(local, || self.socket.takes_only_ipv6()))
    }

    /// Asks to listen where the socket is, or where it will be.
    pub(super) fn permit_listen(&self) -> Result<Permitted<SocketAddr>, Refusal> {
        let family = self.cell.family();
        let unbound = || {
            let ip = self.socket.bound_ip().or_else(|| self.sockets.lab_address(family));
            socket_addr(ip.unwrap_or_else(|| family.wildcard()), 0, 0)
        };
        let bound = self.socket.local().map(|local| self.held(Use::Bind).unwrap_or(local));
        self.permit_local(Use::Listen, bound.unwrap_or_else(unbound))
    }

    /// Asks to connect.
    pub(super) fn permit_connect(&self, remote: SocketAddr) -> Result<Permitted<SocketAddr>, Refusal> {
        self.ask(Use::Connect, remote, self.own_address(remote.ip(), None))
    }

    /// Asks to take a connection.
    pub(super) fn permit_peer(&self, remote: SocketAddr) -> Result<Permitted<SocketAddr>, Refusal> {
        self.ask(Use::Accept, remote, None)
    }

    /// Asks for a socket option.
    pub(super) fn permit_option(&self, spec: &'static OptionSpec) -> Result<Permitted<&'static OptionSpec>, Refusal> {
        self.allowed_to_all(|gate, who| gate.permit_option(who, spec))
    }

    /// Asks for a change of a multicast membership.
    pub(super) fn permit_group(&self, change: GroupChange, group: IpAddr) -> Result<Permitted<IpAddr>, Refusal> {
        self.allowed_to_all(|gate, who| gate.permit_group(who, change, group))
    }

    /// Asks to send a datagram: to where it goes, and from where it is to come.
    pub(super) fn permit_datagram(
        &self,
        datagram: &ReadyDatagram,
    ) -> Result<(Option<Permitted<SocketAddr>>, Marks), Refusal> {
        let own = |ip| self.own_address(ip, datagram.source);
        let to = |to: SocketAddr| self.ask(Use::Send, to, own(to.ip()));
        let destination = datagram.destination.map(to).transpose()?;
        if destination.is_none()
            && self.sockets.gate().is_kept()
            && let Some(remote) = self.connected_to()
        {
            to(remote)?;
        }
        let from = |ip| {
            let local = self.held(Use::Bind).or_else(|| self.socket.local());
            self.ask(Use::Bind, socket_addr(ip, local.map_or(0, |local| local.port()), 0), None)
        };
        let source = datagram.source.map(from).transpose()?.map(Permitted::ip);
        Ok((destination, Marks { source, ..datagram.marks }))
    }

    fn connected_to(&self) -> Option<SocketAddr> {
        self.cell.status().remote.as_ref().map(|remote| remote.addr)
    }

    /// What a destination leads to that stands for this host: the address that the packet is to leave from, where there is one.
    fn own_address(&self, destination: IpAddr, source: Option<IpAddr>) -> Option<IpAddr> {
        if !destination.to_canonical().is_unspecified() {
            return None;
        }
        source.or_else(|| self.socket.bound_ip()).or_else(|| self.sockets.lab_address(self.cell.family()))
    }

    // === What it holds ===

    fn held(&self, kind: Use) -> Option<SocketAddr> {
        let uses = &self.standing.as_ref()?.uses;
        uses.iter().find(|(held, _)| *held == kind).map(|(_, addr)| *addr)
    }

    /// Notes that an allowed address is in use now.
    pub(super) fn holds(&mut self, kind: Use, addr: Permitted<SocketAddr>) {
        if self.sockets.gate().is_kept() {
            self.releases(kind);
            self.standing.get_or_insert_default().uses.push((kind, addr.get()));
        }
    }

    /// Notes that it is no longer.
    pub(super) fn releases(&mut self, kind: Use) {
        if let Some(standing) = &mut self.standing {
            standing.uses.retain(|(held, _)| *held != kind);
        }
    }

    /// Notes that an allowed option has this value now.
    pub(super) fn holds_option(&mut self, SocketOption { spec, value }: &SocketOption) {
        let off = match value {
            OptionValue::Enabled(on) => !on,
            OptionValue::Number(number) => *number == 0,
            OptionValue::Text(text) => text.is_empty(),
            OptionValue::Time(_) => false,
        };
        if !self.sockets.gate().is_kept() {
            return;
        }
        let options = &mut self.standing.get_or_insert_default().options;
        options.retain(|held| held.name != spec.name);
        if !off {
            options.push(spec);
        }
    }

    /// Closes the socket if the policy, another one than before, does not allow what it holds.
    pub(super) fn judge(&mut self, ticket: Ticket) {
        match self.is_still_permitted() {
            Ok(()) => ticket.finish(Ending::Done, Brought::Nothing),
            Err(_) => self.abort(ticket, CloseReason::Policy),
        }
    }

    fn is_still_permitted(&self) -> Result<(), Refusal> {
        self.sockets.gate().require(&self.session.owner, Right::Use)?;
        for (kind, addr) in self.standing.iter().flat_map(|standing| &standing.uses) {
            match kind {
                Use::Bind | Use::Listen => self.permit_local(*kind, *addr)?,
                _ => self.ask(*kind, *addr, self.own_address(addr.ip(), None))?,
            };
        }
        for spec in self.standing.iter().flat_map(|standing| &standing.options) {
            self.permit_option(spec)?;
        }
        if let Role::Connecting(connecting) = &self.role {
            self.permit_connect(connecting.remote())?;
        }
        if let Role::Racing(race) = &self.role {
            race.remotes().try_for_each(|remote| self.permit_connect(remote).map(drop))?;
        }
        if self.cell.parent.is_some()
            && let Some(remote) = self.connected_to()
        {
            self.permit_peer(remote)?;
        }
        let groups = self.cell.status().groups.clone();
        for group in groups.groups() {
            self.permit_group(GroupChange::Join, group)?;
        }
        Ok(())
    }

    /// Closes the socket at once: what it was about to do is not allowed any more.
    pub(super) fn end_by_policy(&mut self) {
        self.end.get_or_insert_with(|| End::because(CloseReason::Policy));
    }
}

impl Run<'_> {
    fn ask(&self, kind: Use, transport: Transport, addr: SocketAddr) -> Result<(), Refusal> {
        let what = AddressUse { kind, transport, addr, also: None };
        self.allowed_to_all(|gate, who| gate.permit(who, &what).map(drop))
    }

    fn allowed_to_all(&self, ask: impl Fn(&Gate, &Principal) -> Result<(), Refusal>) -> Result<(), Refusal> {
        let gate = self.sockets.gate();
        if let Some(asker) = &self.handle.asker {
            gate.require(asker, Right::UseOthers)?;
            ask(gate, asker)?;
        }
        ask(gate, &self.session.owner)
    }

    /// Those of a remote host's addresses that may be connected to; refused where none may. The driver asks again for each.
    pub(super) fn allowed(&self, transport: Transport, remote: &[SocketAddr]) -> Result<Vec<SocketAddr>, Refusal> {
        let (mut allowed, mut denied) = (Vec::with_capacity(remote.len()), None);
        for addr in remote {
            match self.ask(Use::Connect, transport, *addr) {
                Ok(()) => allowed.push(*addr),
                Err(refusal) => denied = denied.or(Some(refusal)),
            }
        }
        match denied {
            Some(refusal) if allowed.is_empty() => Err(refusal),
            _ => Ok(allowed),
        }
    }

    /// Refuses a socket that would not be allowed what it is made for, before it is made. The driver asks again for each step.
    pub(super) fn may_create(
        &self,
        spec: &SocketSpec,
        family: Family,
        local: Option<SocketAddr>,
        remote: &[SocketAddr],
    ) -> Result<(), Refusal> {
        if !self.sockets.gate().is_kept() {
            return Ok(());
        }
        let transport = spec.transport();
        for option in &spec.options {
            self.allowed_to_all(|gate, who| gate.permit_option(who, option.spec).map(drop))?;
        }
        let lab = self.sockets.lab_address(family).map(|lab| socket_addr(lab, 0, 0));
        let listens = matches!(&spec.kind, Kind::Tcp(tcp) if matches!(tcp.role, TcpRole::Listen(_)));
        let wildcard = socket_addr(family.wildcard(), 0, 0);
        let bound = match local.or_else(|| lab.filter(|_| listens || !remote.is_empty())) {
            None if transport == Transport::Udp && !remote.is_empty() => Some(wildcard),
            bound => bound,
        };
        if let Some(bound) = bound {
            self.ask(Use::Bind, transport, bound)?;
        }
        if listens {
            self.ask(Use::Listen, transport, bound.unwrap_or(wildcard))?;
        }
        self.allowed(transport, remote)?;
        if let Kind::Udp(udp) = &spec.kind {
            for asked in &udp.groups {
                self.allowed_to_all(|gate, who| gate.permit_group(who, GroupChange::Join, asked.group).map(drop))?;
            }
        }
        Ok(())
    }
}
