//! Making a socket: descriptor, name, options, address and role, as far as it gets.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::model::address::{AddressText, Family, Transport};
use crate::model::delivery::ReadPause;
use crate::model::error::SocketError;
use crate::model::event::Event;
use crate::model::id::SocketId;
use crate::model::operation::{Operation, Yield};
use crate::model::option::{OptionResult, OptionSpec, OptionValue};
use crate::model::peers::Peers;
use crate::model::policy::permit::harmless;
use crate::model::refusal::Refusal;
use crate::model::socket::CloseReason;
use crate::model::spec::{Attempts, Kind, SocketSpec, TcpRole};
use crate::socket::attempts::permitted;
use crate::socket::birth::NewSocket;
use crate::socket::calls::others_first;
use crate::socket::cell::{Cell, ListenerSpec, lock};
use crate::socket::command::{Brought, EventRange, Order, Orders};
use crate::socket::group::GroupOrder;
use crate::socket::lookup::{Answer, Purpose, Wanted};
use crate::socket::perform::{Performed, Run, Stop};
use crate::socket::usage::ListenerPlace;
use crate::sys::socket::Socket;

/// The addresses that a socket begins with, looked up before there is a socket, because they decide its family.
struct Addresses {
    family: Family,
    local: Option<SocketAddr>,
    remote: Vec<SocketAddr>,
    looked_up: Vec<Event>,
}

impl Run<'_> {
    pub(super) async fn create_socket(&mut self, id: Option<SocketId>, spec: SocketSpec) -> Result<Performed, Refusal> {
        {
            let names = lock(&self.session.names);
            names.has_room()?;
            id.as_ref().map_or(Ok(()), |id| names.is_free(id))?;
        }
        let mut looked_up = Vec::new();
        let addresses = match self.initial_addresses(&spec, &mut looked_up).await {
            Ok(addresses) => Addresses { looked_up, ..addresses },
            Err(stop) => {
                self.note(looked_up);
                return Performed::stopped(stop, Yield::Nothing);
            }
        };
        let groups = match &spec.kind {
            Kind::Udp(udp) => self.first_groups(&udp.groups, addresses.family)?,
            Kind::Tcp(_) => Vec::new(),
        };
        if let Kind::Tcp(tcp) = &spec.kind {
            permitted(&tcp.peers, &addresses.remote, id.as_ref())?;
        }
        self.may_create(&spec, addresses.family, addresses.local, &addresses.remote)?;
        let listener = matches!(&spec.kind, Kind::Tcp(tcp) if matches!(tcp.role, TcpRole::Listen(_)));
        let place = listener.then(|| self.session.begin_to_listen()).transpose()?;
        let new = newborn(id, &spec, addresses.family);
        let appointed = self.moment.is_some();
        self.begin().await;
        self.sockets.has_descriptor()?;
        let socket = match Socket::new(spec.transport(), addresses.family) {
            Ok(socket) => socket,
            Err(errno) => {
                let error = SocketError::new(errno, Operation::Create, "socket");
                self.note(vec![Event::Failed { error: error.clone() }]);
                return Ok(Performed::failed(error));
            }
        };
        let (cell, orders) = self.open(new, &addresses, socket)?;
        if appointed {
            // All else takes time, in which others are to begin.
            others_first().await;
        }
        if let Some(socket) = cell.descriptor() {
            set_own_options(&socket, &spec, addresses.family);
            self.sockets.drive(self.session, &cell, socket, orders);
        }
        let mut options = Vec::new();
        let stopped = self.first_steps(&cell, &spec, &addresses, (groups, place), &mut options).await.err();
        if let Some(Stop::Refused(Refusal::PolicyDenied(_))) = &stopped {
            // It was asked before; another policy has come in between, or the address means more to this socket than it says.
            let _ = self.order(&cell, Order::End { reason: CloseReason::Policy, abort: true }).await;
        }
        let yielded = Yield::Socket(Box::new(cell.view_with_kernel()), options);
        match stopped {
            None => Ok(Performed::succeeded(yielded)),
            Some(stop) => Performed::stopped(stop, yielded),
        }
    }

    /// Logs what belongs to no socket, because there is none.
    fn note(&mut self, events: Vec<Event>) {
        for event in events {
            let request = Some(self.handle.request.clone());
            let seq = self.session.hub.append(|log| log.push(None, request, event));
            self.events.add(EventRange::one(seq));
        }
    }

    fn open(&mut self, new: NewSocket, addresses: &Addresses, socket: Socket) -> Result<(Arc<Cell>, Orders), Refusal> {
        // A connection tells it when it begins to be read; datagrams are read from the start.
        let begins_paused = new.transport == Transport::Udp && new.conduct.begins_paused();
        let (cell, seq, orders) = self.sockets.open(self.session, new, socket, &self.handle.request)?;
        self.events.add(EventRange::one(seq));
        for event in &addresses.looked_up {
            let seq = cell.record(Some(&self.handle.request), event.clone());
            self.events.add(EventRange::one(seq));
        }
        if begins_paused {
            let seq = cell.record(Some(&self.handle.request), Event::ReadPaused { reason: ReadPause::Asked });
            self.events.add(EventRange::one(seq));
        }
        Ok((cell, orders))
    }

    /// Options, then the local address, then groups, then the role.
    async fn first_steps(
        &mut self,
        cell: &Cell,
        spec: &SocketSpec,
        addresses: &Addresses,
        (groups, place): (Vec<GroupOrder>, Option<ListenerPlace>),
        options: &mut Vec<OptionResult>,
    ) -> Result<(), Stop> {
        if !spec.options.is_empty() {
            let done = self.order(cell, Order::SetOptions(spec.options.clone())).await?;
            if let Brought::Options(results) = done.brought {
                *options = results;
            }
            if let Some(error) = done.error {
                return Err(error.into());
            }
        }
        if let Some(local) = addresses.local {
            self.bind_patiently(cell, local, spec.bind_retry).await?;
        }
        for group in groups {
            self.step(cell, Order::Group(group)).await?;
        }
        if place.is_some() {
            self.step(cell, Order::Listen { backlog: None, place }).await?;
        }
        if !addresses.remote.is_empty() {
            let attempts = match &spec.kind {
                Kind::Tcp(tcp) => tcp.attempts,
                Kind::Udp(_) => Attempts::default(),
            };
            self.connect_one_of(cell, &addresses.remote, attempts).await?;
        }
        Ok(())
    }

    async fn initial_addresses(&mut self, spec: &SocketSpec, looked_up: &mut Vec<Event>) -> Result<Addresses, Stop> {
        let (bind, remote) = match &spec.kind {
            Kind::Tcp(tcp) => match &tcp.role {
                TcpRole::Idle => (spec.bind.as_ref().map(|text| (text, "tcp.bind")), None),
                TcpRole::Listen(Some(text)) => (Some((text, "tcp.listen")), None),
                TcpRole::Listen(None) => (spec.bind.as_ref().map(|text| (text, "tcp.bind")), None),
                TcpRole::Connect(text) => {
                    (spec.bind.as_ref().map(|text| (text, "tcp.bind")), Some((text, "tcp.connect")))
                }
            },
            Kind::Udp(udp) => (
                spec.bind.as_ref().map(|text| (text, "udp.bind")),
                udp.connect.as_ref().map(|text| (text, "udp.connect")),
            ),
        };
        // A literal decides the family; a name is then asked for addresses of that family only.
        let literal =
            [bind, remote].into_iter().flatten().find_map(|(text, _)| text.family()).or_else(|| spec.group_family());
        let mut family = spec.family.or(literal);
        let mut local = None;
        if let Some((text, field)) = bind {
            let found = self.initial(spec, family, text, Purpose::Bind, field, looked_up).await?;
            local = found.first().copied();
            family = family.or_else(|| local.map(|addr| Family::of(addr.ip())));
        }
        let mut addresses = Vec::new();
        if let Some((text, field)) = remote {
            addresses = self.initial(spec, family, text, Purpose::Reach, field, looked_up).await?;
            family = family.or_else(|| addresses.first().map(|addr| Family::of(addr.ip())));
            let both = matches!(&spec.kind, Kind::Tcp(tcp) if tcp.attempts.delay.is_some());
            addresses.retain(|addr| {
                both || spec.family.is_some() || text.family().is_some() || Some(Family::of(addr.ip())) == family
            });
        }
        let family = family.unwrap_or_else(|| self.sockets.usual_family());
        Ok(Addresses { family, local, remote: addresses, looked_up: Vec::new() })
    }

    async fn initial(
        &mut self,
        spec: &SocketSpec,
        family: Option<Family>,
        text: &AddressText,
        purpose: Purpose,
        field: &str,
        looked_up: &mut Vec<Event>,
    ) -> Result<Vec<SocketAddr>, Stop> {
        if text.family().is_none() {
            // Others may notice that a name is asked for.
            self.begin().await;
        }
        let wanted = Wanted { transport: spec.transport(), family, purpose, field, deadline: self.deadline };
        let found = self.patiently(Operation::LookUp, self.sockets.look_up(text, wanted)).await??;
        looked_up.extend(found.event);
        match found.answer {
            Answer::Addresses(addresses) => Ok(addresses),
            Answer::Error(error) => Err(error.into()),
            Answer::TimedOut => Err(Stop::TimedOut),
        }
    }
}

/// A socket that is to be made, as far as it is known before there is one.
fn newborn(id: Option<SocketId>, spec: &SocketSpec, family: Family) -> NewSocket {
    let (listener, peers, probes) = match &spec.kind {
        Kind::Tcp(tcp) => {
            let listener = ListenerSpec {
                backlog: tcp.backlog,
                max_connections: tcp.max_connections,
                accept: tcp.accept,
                max_accepts: tcp.max_accepts,
                accept_delay: tcp.accept_delay,
            };
            (Some(listener), tcp.peers.clone(), false)
        }
        Kind::Udp(udp) => (None, Peers::default(), udp.probes),
    };
    NewSocket {
        id,
        transport: spec.transport(),
        family,
        conduct: spec.conduct,
        listener,
        labels: Arc::new(spec.labels.clone()),
        peers: Arc::new(peers),
        verify: spec.verify.clone(),
        probes,
    }
}

/// What the agent sets by itself, before anything that the caller sets: nobody needs to know about it to get what they expect.
fn set_own_options(socket: &Socket, spec: &SocketSpec, family: Family) {
    set_all(
        socket,
        match (&spec.kind, family) {
            (Kind::Tcp(tcp), Family::Ipv4) if matches!(tcp.role, TcpRole::Listen(_)) => &["SO_REUSEADDR"],
            (Kind::Tcp(tcp), Family::Ipv6) if matches!(tcp.role, TcpRole::Listen(_)) => {
                &["SO_REUSEADDR", "IPV6_V6ONLY"]
            }
            (Kind::Tcp(_), Family::Ipv4) => &[],
            (Kind::Tcp(_), Family::Ipv6) => &["IPV6_V6ONLY"],
            (Kind::Udp(_), Family::Ipv4) => {
                &["IP_PKTINFO", "IP_RECVTTL", "IP_RECVTOS", "SO_RXQ_OVFL", "SO_TIMESTAMPNS"]
            }
            (Kind::Udp(_), Family::Ipv6) => &[
                "IPV6_V6ONLY",
                "IPV6_RECVPKTINFO",
                "IPV6_RECVHOPLIMIT",
                "IPV6_RECVTCLASS",
                "SO_RXQ_OVFL",
                "SO_TIMESTAMPNS",
            ],
        },
    );
}

/// The same of a socket that connects.
pub(super) fn set_options_of_client(socket: &Socket, family: Family) {
    set_all(socket, if family == Family::Ipv6 { &["IPV6_V6ONLY"] } else { &[] });
}

fn set_all(socket: &Socket, names: &[&str]) {
    for name in names {
        if let Ok(spec) = OptionSpec::find(name) {
            // A kernel without one of them tells less about datagrams, and that is all.
            let _ = harmless(spec).map(|spec| socket.set_option(spec, &OptionValue::Enabled(true)));
        }
    }
}
