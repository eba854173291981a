//! Which event was caused by which on another host, as far as both have told enough.
//!
//! Connections are told apart by their addresses and by which of the connections between those addresses it is: ports are used again.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use crate::exercise::timeline::Told;
use crate::model::address::Transport;
use crate::model::event::{Datagram, Event, EventRecord};
use crate::model::id::SocketUid;

/// Which event of which host.
pub(super) type Place = (usize, usize);

/// The ends of a connection as a socket sees them itself, local and remote, and which one between them it is.
type Connection = (SocketAddr, SocketAddr, usize);

/// Which event was caused by which.
#[derive(Default)]
pub(super) struct Causes {
    of: HashMap<Place, Place>,
    transports: HashMap<(usize, SocketUid), Transport>,
    /// The connection of each connected socket.
    connections: HashMap<(usize, SocketUid), Connection>,
    /// How many connections each pair of ends has had, as one side sees them.
    counts: HashMap<(SocketAddr, SocketAddr), usize>,
    /// When each socket last began to connect to each address.
    begun: HashMap<(usize, SocketUid, SocketAddr), Place>,
    connects: HashMap<Connection, Place>,
    /// What each end of a connection has written: through which byte.
    writes: HashMap<Connection, Vec<(u64, Place)>>,
    /// How each end has ended its sending direction.
    endings: HashMap<Connection, Place>,
    /// Datagrams sent: by destination and source port, then by source address.
    datagrams: HashMap<(SocketAddr, u16), BTreeMap<IpAddr, VecDeque<Sent>>>,
    /// How many datagrams of a group each socket has received, by the same.
    copies: HashMap<(usize, SocketUid, SocketAddr, SocketAddr), usize>,
    /// The local address of each UDP socket.
    locals: HashMap<(usize, SocketUid), SocketAddr>,
    /// How many events of each host have been looked at.
    looked: Vec<usize>,
    /// Datagrams of the last time whose sender has not told of them.
    unexplained: Vec<Place>,
    /// What has come over connections and lacks its cause: the other side may be far behind, or nobody that is asked.
    open: VecDeque<Place>,
    /// What each cause has led to that was told before it.
    late: HashMap<Place, Place>,
}

/// How much of what has come over connections may lack its cause; beyond that, the oldest is given up.
const OPEN: usize = 1024;

struct Sent {
    at: i64,
    place: Place,
    size: u32,
}

/// The other side of a connection.
const fn other_side((local, remote, number): Connection) -> Connection {
    (remote, local, number)
}

/// Whether this is only a part of what that write has handed over: it may have come before the write was done, which is when it is told.
pub(super) fn is_part(event: &Event, cause: &Event) -> bool {
    let through = match event {
        Event::Received { offset, payload } => offset + payload.len() as u64,
        Event::UrgentReceived { offset, .. } => offset + 1,
        _ => return false,
    };
    matches!(cause, Event::Written { offset, size, .. } if through < offset + u64::from(*size))
}

impl Causes {
    pub(super) fn find(hosts: &[Vec<Told>]) -> Self {
        let mut causes = Self::default();
        causes.extend(hosts, &(0..hosts.len()).collect());
        causes
    }

    /// Finds the causes of what hosts have told since the last time; all of it is of these hosts.
    pub(super) fn extend(&mut self, hosts: &[Vec<Told>], fresh: &BTreeSet<usize>) {
        self.looked.resize(hosts.len(), 0);
        let places = |host: &usize| (self.looked[*host]..hosts[*host].len()).map(|at| (*host, at)).collect::<Vec<_>>();
        let news: Vec<Place> = fresh.iter().flat_map(places).collect();
        for place in &news {
            self.note(*place, &hosts[place.0][place.1]);
        }
        // What came before its cause was told takes its cause with it, before anybody else does. A datagram does so only once: what others have
        // sent who tell nothing never has a cause here, and the next one that looks like it has one of its own.
        for place in std::mem::take(&mut self.open) {
            if !self.explain(place, hosts) {
                self.open.push_back(place);
            }
        }
        for place in std::mem::take(&mut self.unexplained) {
            self.explain(place, hosts);
        }
        for place in news {
            if self.explain(place, hosts) {
                continue;
            }
            match hosts[place.0][place.1].record.event {
                Event::DatagramReceived(_) => self.unexplained.push(place),
                Event::Created { parent: Some(_), .. }
                | Event::Received { .. }
                | Event::UrgentReceived { byte: Some(_), .. }
                | Event::PeerClosed { .. }
                | Event::PeerReset { .. }
                | Event::PeerGone { .. } => self.open.push_back(place),
                _ => {}
            }
        }
        self.open.drain(..self.open.len().saturating_sub(OPEN));
        for host in fresh {
            self.looked[*host] = hosts[*host].len();
        }
    }

    /// Finds the cause of this one, if it has been told.
    fn explain(&mut self, place: Place, hosts: &[Vec<Told>]) -> bool {
        let Some(cause) = self.cause(place.0, &hosts[place.0][place.1].record) else { return false };
        self.of.insert(place, cause);
        if place.1 < self.looked[place.0] {
            self.late.entry(cause).or_insert(place);
        }
        true
    }

    /// What this one has led to that was told before it; of several, the first.
    pub(super) fn late(&self, cause: Place) -> Option<Place> {
        self.late.get(&cause).copied()
    }

    /// The event that caused this one.
    pub(super) fn of(&self, place: Place) -> Option<Place> {
        self.of.get(&place).copied()
    }

    /// How many events of each host came before this one, however the clocks stand.
    pub(super) fn before(&self, (host, at): Place, hosts: usize) -> Vec<usize> {
        let mut before = vec![0; hosts];
        before[host] = at;
        // What the event itself was caused by, and then what all those were that are known to come before it.
        let mut open: Vec<Place> = self.of((host, at)).into_iter().collect();
        let mut seen = vec![0; hosts];
        loop {
            for (host, at) in open.drain(..) {
                before[host] = before[host].max(at + 1);
            }
            for host in 0..hosts {
                open.extend((seen[host]..before[host]).filter_map(|at| self.of((host, at))));
                seen[host] = before[host];
            }
            if open.iter().all(|(host, at)| *at < before[*host]) {
                return before;
            }
        }
    }

    // === What may cause something on the other side ===

    fn note(&mut self, place: Place, told: &Told) {
        let record = &told.record;
        let Some((_, uid)) = &record.socket else { return };
        let socket = (place.0, *uid);
        match &record.event {
            Event::Created { transport, parent, local, remote, .. } => {
                self.transports.insert(socket, *transport);
                if let (Some(_), Some(local), Some(remote)) = (parent, local, remote) {
                    self.connection(socket, (local.addr, remote.addr));
                }
            }
            // Its number is taken: the one that comes after it is another one.
            Event::ConnectionDropped { local: Some(local), remote: Some(remote), .. } => {
                *self.counts.entry((local.addr, remote.addr)).or_default() += 1;
            }
            Event::Bound { local } => {
                self.locals.insert(socket, local.addr);
            }
            Event::ConnectStarted { remote } => {
                self.begun.insert((place.0, *uid, remote.addr), place);
            }
            Event::Connected { local, remote, .. } => {
                self.locals.insert(socket, local.addr);
                // The other side may accept before this one has noticed: what leads to it is the SYN.
                let begun = self.begun.remove(&(place.0, *uid, remote.addr)).unwrap_or(place);
                if self.transports.get(&socket) != Some(&Transport::Udp) {
                    let connection = self.connection(socket, (local.addr, remote.addr));
                    self.connects.insert(connection, begun);
                }
            }
            Event::Written { offset, size, .. } => {
                if let Some(connection) = self.connections.get(&socket) {
                    self.writes.entry(*connection).or_default().push((offset + u64::from(*size), place));
                }
            }
            Event::ShutDown { how } if how.ends_sending() => self.note_ending(socket, place),
            Event::Aborted | Event::Closed(_) => self.note_ending(socket, place),
            Event::Sent { destination: Some(destination), size, .. } => {
                if let Some(local) = self.locals.get(&socket) {
                    let key = (destination.addr, local.port());
                    let sent = Sent { at: told.at, place, size: *size };
                    let queue = self.datagrams.entry(key).or_default().entry(local.ip()).or_default();
                    // Those of several hosts that are bound to all addresses stand in one queue.
                    queue.insert(queue.partition_point(|earlier| earlier.at <= sent.at), sent);
                }
            }
            _ => {}
        }
    }

    /// One more connection between these ends.
    fn connection(&mut self, socket: (usize, SocketUid), ends: (SocketAddr, SocketAddr)) -> Connection {
        let count = self.counts.entry(ends).or_default();
        let connection = (ends.0, ends.1, *count);
        *count += 1;
        self.connections.insert(socket, connection);
        connection
    }

    fn note_ending(&mut self, socket: (usize, SocketUid), place: Place) {
        if let Some(connection) = self.connections.get(&socket) {
            self.endings.entry(*connection).or_insert(place);
        }
    }

    // === What was caused ===

    fn cause(&mut self, host: usize, record: &EventRecord) -> Option<Place> {
        let (_, uid) = record.socket.as_ref()?;
        let connection = |uid: &SocketUid| self.connections.get(&(host, *uid)).copied().map(other_side);
        match &record.event {
            Event::Created { parent: Some(_), .. } => self.connects.get(&connection(uid)?).copied(),
            Event::Accepted { uid: accepted, .. } => self.connects.get(&connection(accepted)?).copied(),
            Event::Received { offset, payload } => self.write(connection(uid)?, offset + payload.len() as u64),
            Event::UrgentReceived { offset, byte: Some(_) } => self.write(connection(uid)?, offset + 1),
            Event::PeerClosed { .. } | Event::PeerReset { .. } | Event::PeerGone { .. } => {
                self.endings.get(&connection(uid)?).copied()
            }
            Event::DatagramReceived(datagram) => self.datagram((host, *uid), datagram),
            _ => None,
        }
    }

    /// The write that brought the last of so many bytes; without one, the other side has not told of it yet.
    fn write(&self, connection: Connection, through: u64) -> Option<Place> {
        let writes = self.writes.get(&connection)?;
        writes.get(writes.partition_point(|(written, _)| *written < through)).map(|(_, place)| *place)
    }

    /// The first datagram of those addresses and that size that has not been received yet. A sender that is bound to all addresses is told by
    /// its port; of several such, the one that sent first.
    fn datagram(&mut self, receiver: (usize, SocketUid), datagram: &Datagram) -> Option<Place> {
        let (source, destination) = (datagram.source.as_ref()?.addr, datagram.destination.as_ref()?.addr);
        let copied = is_group(destination.ip());
        let copies = (receiver.0, receiver.1, destination, source);
        let skipped = if copied { self.copies.get(&copies).copied().unwrap_or(0) } else { 0 };
        let senders = self.datagrams.get_mut(&(destination, source.port()))?;
        let of_sender = |sent: &VecDeque<Sent>| sent.iter().skip(skipped).position(|sent| sent.size == datagram.size);
        let exact = senders.get(&source.ip()).and_then(of_sender).map(|at| (source.ip(), at));
        let (sender, at) = exact.or_else(|| {
            let any = senders.iter().filter(|(ip, _)| ip.is_unspecified() && fits(**ip, source.ip()));
            let first = any.filter_map(|(ip, sent)| Some((*ip, of_sender(sent)?, sent)));
            first.min_by_key(|(_, at, sent)| sent[skipped + at].at).map(|(ip, at, _)| (ip, at))
        })?;
        let sent = senders.get_mut(&sender)?;
        if copied {
            self.copies.insert(copies, skipped + at + 1);
            return sent.get(skipped + at).map(|sent| sent.place);
        }
        sent.remove(at).map(|sent| sent.place)
    }
}

/// Whether one datagram to this address is received by several.
const fn is_group(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_multicast(),
    }
}

/// Whether what is bound to all addresses may send from this one: a dual-stack socket sends IPv4, too.
const fn fits(all: IpAddr, source: IpAddr) -> bool {
    all.is_ipv6() || source.is_ipv4()
}
