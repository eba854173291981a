//! What happened on all hosts, in one order.
//!
//! Invariants: events of one host keep their order. What was caused comes after its cause, whatever the clocks say: a byte is not received
//! before it is sent. Everything else follows the clocks, corrected by their offsets.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::model::event::{Event, EventRecord};
use crate::model::id::SocketUid;

/// An event as a host told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The event.
    pub record: Arc<EventRecord>,
    /// When it happened, in nanoseconds of the controller's clock.
    pub at: i64,
}

/// An event in its place on the timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Which host.
    pub host: usize,
    /// The event.
    pub record: Arc<EventRecord>,
    /// When it happened, in nanoseconds of the controller's clock.
    pub at: i64,
    /// What caused it on the other side: a host, and an event there.
    pub cause: Option<(usize, Arc<EventRecord>)>,
}

/// Which event of which host.
type Place = (usize, usize);
type Ends = (SocketAddr, SocketAddr);

/// Merges what all hosts have told.
pub fn merge(hosts: &[Vec<Told>]) -> Vec<Moment> {
    let causes = Causes::find(hosts);
    let mut next = vec![0; hosts.len()];
    let mut merged = Vec::with_capacity(hosts.iter().map(Vec::len).sum());
    loop {
        let waiting = (0..hosts.len()).filter(|host| next[*host] < hosts[*host].len());
        let free = |host: &usize| {
            let cause = causes.of.get(&(*host, next[*host]));
            cause.is_none_or(|(other, at)| *at < next[*other])
        };
        let earliest = |host: &usize| (hosts[*host][next[*host]].at, *host);
        let ready = waiting.clone().filter(free).min_by_key(earliest);
        // Causes cannot go in a circle; if what agents tell did, it would be shown by the clocks.
        let Some(host) = ready.or_else(|| waiting.min_by_key(earliest)) else { return merged };
        let place = (host, next[host]);
        let told = &hosts[host][next[host]];
        let cause = causes.of.get(&place).map(|(other, at)| (*other, Arc::clone(&hosts[*other][*at].record)));
        merged.push(Moment { host, record: Arc::clone(&told.record), at: told.at, cause });
        next[host] += 1;
    }
}

/// Which event was caused by which.
#[derive(Default)]
struct Causes {
    of: HashMap<Place, Place>,
    /// The ends of each connected socket, as it sees them itself: local, remote.
    ends: HashMap<(usize, SocketUid), Ends>,
    connects: HashMap<Ends, Place>,
    /// What each end of a connection has written: through which byte.
    writes: HashMap<Ends, Vec<(u64, Place)>>,
    /// How each end has ended its sending direction.
    endings: HashMap<Ends, Vec<Place>>,
    /// Datagrams sent, by source and destination.
    datagrams: HashMap<Ends, VecDeque<Place>>,
    /// The local address of each UDP socket.
    locals: HashMap<(usize, SocketUid), SocketAddr>,
}

impl Causes {
    fn find(hosts: &[Vec<Told>]) -> Self {
        let mut causes = Self::default();
        for (host, told) in hosts.iter().enumerate() {
            for (at, told) in told.iter().enumerate() {
                causes.note((host, at), &told.record);
            }
        }
        for (host, told) in hosts.iter().enumerate() {
            for (at, told) in told.iter().enumerate() {
                if let Some(cause) = causes.cause(host, &told.record) {
                    causes.of.insert((host, at), cause);
                }
            }
        }
        causes
    }

    /// Notes what may cause something on the other side.
    fn note(&mut self, place: Place, record: &EventRecord) {
        let Some((_, uid)) = &record.socket else { return };
        let socket = (place.0, *uid);
        match &record.event {
            Event::Created { local: Some(local), remote: Some(remote), .. } => {
                self.ends.insert(socket, (local.addr, remote.addr));
            }
            Event::Bound { local } => {
                self.locals.insert(socket, local.addr);
            }
            Event::Connected { local, remote, .. } => {
                let ends = (local.addr, remote.addr);
                self.ends.insert(socket, ends);
                self.locals.insert(socket, local.addr);
                self.connects.insert(ends, place);
            }
            Event::Written { offset, size, .. } => {
                if let Some(ends) = self.ends.get(&socket) {
                    self.writes.entry(*ends).or_default().push((offset + u64::from(*size), place));
                }
            }
            Event::ShutDown { how } if how.ends_sending() => self.note_ending(socket, place),
            Event::Aborted | Event::Closed(_) => self.note_ending(socket, place),
            Event::Sent { destination: Some(destination), .. } => {
                if let Some(local) = self.locals.get(&socket) {
                    self.datagrams.entry((*local, destination.addr)).or_default().push_back(place);
                }
            }
            _ => {}
        }
    }

    fn note_ending(&mut self, socket: (usize, SocketUid), place: Place) {
        if let Some(ends) = self.ends.get(&socket) {
            self.endings.entry(*ends).or_default().push(place);
        }
    }

    /// What caused an event.
    fn cause(&mut self, host: usize, record: &EventRecord) -> Option<Place> {
        let (_, uid) = record.socket.as_ref()?;
        let other_side = |ends: &Ends| (ends.1, ends.0);
        let ends = self.ends.get(&(host, *uid)).map(other_side);
        match &record.event {
            Event::Created { local: Some(local), remote: Some(remote), parent: Some(_), .. }
            | Event::Accepted { local, remote, .. }
            | Event::ConnectionDropped { local: Some(local), remote: Some(remote) } => {
                self.connects.get(&(remote.addr, local.addr)).copied()
            }
            Event::Received { offset, payload } => {
                let through = offset + payload.len() as u64;
                let writes = self.writes.get(&ends?)?;
                // The write that brought the last byte; without one, the other side has not told of it yet.
                writes.iter().find(|(written, _)| *written >= through).map(|(_, place)| *place)
            }
            Event::PeerClosed { .. } | Event::PeerReset { .. } | Event::PeerGone { .. } => {
                self.endings.get(&ends?)?.first().copied()
            }
            Event::DatagramReceived(datagram) => {
                let source = datagram.source.as_ref()?.addr;
                let destination = datagram.destination.as_ref()?.addr;
                self.datagram(source, destination)
            }
            _ => None,
        }
    }

    /// The first datagram of those addresses that has not been received yet. A sender that is bound to all addresses is told by its port.
    fn datagram(&mut self, source: SocketAddr, destination: SocketAddr) -> Option<Place> {
        let fits = |local: &SocketAddr| {
            local.port() == source.port() && (local.ip() == source.ip() || local.ip().is_unspecified())
        };
        let key = self.datagrams.keys().find(|(local, to)| fits(local) && *to == destination).copied()?;
        self.datagrams.get_mut(&key)?.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::address::Endpoint;
    use crate::model::id::SocketId;
    use crate::model::operation::ShutdownHow;
    use crate::model::time::Timestamp;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn endpoint(text: &str) -> Endpoint {
        text.parse::<SocketAddr>().unwrap().into()
    }

    /// Events of one socket of one host, at these times.
    fn host(id: &str, events: Vec<(i64, Event)>) -> Vec<Told> {
        let socket = Some((SocketId::parse(id).unwrap(), SocketUid(1)));
        (1..)
            .zip(events)
            .map(|(seq, (at, event))| {
                let time = Timestamp::from_nanos(at);
                Told { record: Arc::new(EventRecord { seq, time, socket: socket.clone(), request: None, event }), at }
            })
            .collect()
    }

    fn client(times: [i64; 3]) -> Vec<Told> {
        let (local, remote) = (endpoint("10.0.0.2:5000"), endpoint("10.0.0.1:80"));
        host(
            "line",
            vec![
                (times[0], Event::Connected { local, remote, self_connected: false }),
                (times[1], Event::Written { offset: 0, size: 3, asked_size: 3 }),
                (times[2], Event::ShutDown { how: ShutdownHow::Send }),
            ],
        )
    }

    fn server(times: [i64; 3]) -> Vec<Told> {
        let created = Event::Created {
            transport: crate::model::address::Transport::Tcp,
            family: crate::model::address::Family::Ipv4,
            parent: Some((SocketId::parse("door").unwrap(), SocketUid(9))),
            local: Some(endpoint("10.0.0.1:80")),
            remote: Some(endpoint("10.0.0.2:5000")),
        };
        let received = Event::Received { offset: 0, payload: Bytes::from_static(b"abc") };
        host("door.1", vec![(times[0], created), (times[1], received), (times[2], Event::PeerClosed { bytes_read: 3 })])
    }

    fn shown(moments: &[Moment]) -> Vec<String> {
        moments.iter().map(|moment| format!("{}:{}", moment.host, moment.record.event.kind())).collect()
    }

    #[test]
    fn cause_comes_before_effect_whatever_the_clocks_say() {
        let right = ["0:connected", "1:created", "0:written", "1:received", "0:shut_down", "1:peer_closed"];
        assert_eq!(shown(&merge(&[client([1, 3, 5]), server([2, 4, 6])])), right);
        // The server's clock is far behind: its events stay after what caused them.
        assert_eq!(shown(&merge(&[client([1, 3, 5]), server([-900, -800, -700])])), right);
        let moments = merge(&[client([1, 3, 5]), server([2, 4, 6])]);
        let (host, cause) = moments[3].cause.clone().unwrap();
        assert_eq!((host, cause.event.kind()), (0, "written"));
    }

    #[test]
    fn datagrams_are_matched_one_by_one() {
        let sent = |at| (at, Event::Sent { destination: Some(endpoint("10.0.0.1:53")), size: 1, reply_to_event: 0 });
        let received = |at| {
            let datagram = crate::model::event::Datagram {
                source: Some(endpoint("10.0.0.2:4000")),
                destination: Some(endpoint("10.0.0.1:53")),
                answer_from: None,
                interface: None,
                size: 1,
                payload: Bytes::from_static(b"x"),
                hop_limit: None,
                traffic_class: None,
                received: None,
            };
            (at, Event::DatagramReceived(Box::new(datagram)))
        };
        let bound = (0, Event::Bound { local: endpoint("0.0.0.0:4000") });
        let sender = host("a", vec![bound, sent(10), sent(20)]);
        let receiver = host("b", vec![received(5), received(15)]);
        assert_eq!(
            shown(&merge(&[sender, receiver])),
            ["0:bound", "0:sent", "1:datagram_received", "0:sent", "1:datagram_received"]
        );
    }

    proptest! {
        /// No host's own order is changed, nothing is lost, and effects follow causes, with clocks off by anything.
        #[test]
        fn merging_keeps_every_order(
            steps in prop::collection::vec(0i64..1000, 3), others in prop::collection::vec(0i64..1000, 3), skew in -5_000_000_000i64..5_000_000_000,
        ) {
            let rising = |gaps: &[i64], from: i64| {
                let mut at = from;
                [0, 1, 2].map(|n: usize| { at += gaps[n]; at })
            };
            let moments = merge(&[client(rising(&steps, 0)), server(rising(&others, skew))]);
            prop_assert_eq!(moments.len(), 6);
            for host in 0..2 {
                let seqs: Vec<u64> = moments.iter().filter(|m| m.host == host).map(|m| m.record.seq).collect();
                prop_assert_eq!(seqs, [1, 2, 3]);
            }
            for (at, moment) in moments.iter().enumerate() {
                if let Some((host, cause)) = &moment.cause {
                    let cause_at = moments.iter().position(|m| m.host == *host && m.record.seq == cause.seq).unwrap();
                    prop_assert!(cause_at < at);
                }
            }
        }
    }
}
