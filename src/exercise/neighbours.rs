//! Which host stands on the other side of what another one tells: whose address it names.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use crate::model::address::Endpoint;
use crate::model::event::{Event, EventRecord};
use crate::model::id::SocketUid;

/// What is known of whose addresses are whose. It learns from what hosts tell.
pub struct Neighbours {
    /// The addresses of each host.
    addresses: Vec<Vec<IpAddr>>,
    /// Whose address it is; absent where several hosts have it.
    owners: HashMap<IpAddr, Option<usize>>,
    /// Who has told of a socket with this local address.
    locals: HashMap<SocketAddr, usize>,
    /// Who is on the other side of a connection.
    others: HashMap<(usize, SocketUid), usize>,
}

impl Neighbours {
    /// Those of hosts with these addresses.
    pub fn new(addresses: Vec<Vec<IpAddr>>) -> Self {
        let mut owners: HashMap<IpAddr, Option<usize>> = HashMap::new();
        for (host, addresses) in addresses.iter().enumerate() {
            for ip in addresses {
                let owner = owners.entry(*ip).or_insert(Some(host));
                *owner = owner.filter(|owner| *owner == host);
            }
        }
        Self { addresses, owners, locals: HashMap::new(), others: HashMap::new() }
    }

    /// The host on the other side of what a host has told, if it is one of these and not the same.
    pub fn other(&mut self, host: usize, record: &EventRecord) -> Option<usize> {
        let (_, uid) = record.socket.as_ref()?;
        let other = match &record.event {
            Event::Bound { local } | Event::Listening { local, .. } => {
                self.learn(host, local);
                None
            }
            Event::Created { local: Some(local), remote: Some(remote), .. }
            | Event::Connected { local, remote, .. } => {
                self.learn(host, local);
                let other = self.owner(remote);
                self.others.extend(other.map(|other| ((host, *uid), other)));
                other
            }
            Event::Accepted { remote, .. } | Event::ConnectStarted { remote } | Event::ConnectFailed { remote, .. } => {
                self.owner(remote)
            }
            Event::Sent { destination, .. } => destination.as_ref().and_then(|destination| self.owner(destination)),
            Event::DatagramReceived(datagram) => datagram.source.as_ref().and_then(|source| self.owner(source)),
            Event::Closed(_) => self.others.remove(&(host, *uid)),
            _ => self.others.get(&(host, *uid)).copied(),
        };
        other.filter(|other| *other != host)
    }

    fn learn(&mut self, host: usize, local: &Endpoint) {
        let local = local.addr;
        if !local.ip().is_unspecified() {
            self.locals.insert(local, host);
            return;
        }
        // It is reached by all addresses of the host.
        for ip in self.addresses.get(host).into_iter().flatten() {
            self.locals.insert(SocketAddr::new(*ip, local.port()), host);
        }
    }

    fn owner(&self, endpoint: &Endpoint) -> Option<usize> {
        let addr = endpoint.addr;
        let known = self.owners.get(&addr.ip()).copied().flatten();
        known.or_else(|| self.locals.get(&addr).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::SocketId;
    use crate::model::operation::ShutdownHow;
    use crate::model::time::Timestamp;

    fn record(uid: u64, event: Event) -> EventRecord {
        let socket = Some((SocketId::parse("s").unwrap(), SocketUid(uid)));
        EventRecord { seq: 1, time: Timestamp::default(), socket, request: None, event }
    }

    fn end(text: &str) -> Endpoint {
        text.parse::<SocketAddr>().unwrap().into()
    }

    fn connected(local: &str, remote: &str) -> Event {
        Event::Connected { local: end(local), remote: end(remote), self_connected: false }
    }

    fn neighbours() -> Neighbours {
        let ips = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Neighbours::new(vec![ips(&["10.0.0.1", "::1"]), ips(&["10.0.0.2", "::1"]), ips(&["10.0.0.3", "::1"])])
    }

    #[test]
    fn an_address_of_one_host_leads_to_it() {
        let mut known = neighbours();
        let mut other = |event| known.other(0, &record(1, event));
        assert_eq!(other(Event::ConnectStarted { remote: end("10.0.0.2:80") }), Some(1));
        assert_eq!(other(connected("10.0.0.1:5000", "10.0.0.2:80")), Some(1));
        // The socket is known from now on, until it is closed.
        assert_eq!(other(Event::ShutDown { how: ShutdownHow::Send }), Some(1));
        assert_eq!(other(Event::ConnectStarted { remote: end("10.9.9.9:80") }), None, "nobody's");
        assert_eq!(other(Event::ConnectStarted { remote: end("10.0.0.1:80") }), None, "its own");
        let sent = |to| Event::Sent { destination: Some(end(to)), size: 1, reply_to_event: 0 };
        assert_eq!(other(sent("10.0.0.3:53")), Some(2));
    }

    #[test]
    fn an_address_of_several_leads_to_who_has_told_of_it() {
        let mut known = neighbours();
        let start = || Event::ConnectStarted { remote: end("[::1]:80") };
        assert_eq!(known.other(0, &record(1, start())), None);
        assert_eq!(known.other(2, &record(7, Event::Bound { local: end("[::]:80") })), None);
        assert_eq!(known.other(0, &record(1, start())), Some(2));
        assert_eq!(known.other(0, &record(1, connected("[::1]:5000", "[::1]:80"))), Some(2));
        let accepted = Event::Accepted {
            id: SocketId::parse("s.1").unwrap(),
            uid: SocketUid(8),
            local: end("[::1]:80"),
            remote: end("[::1]:5000"),
        };
        assert_eq!(known.other(2, &record(7, accepted)), Some(0));
    }
}
