//! Events for the tests of a timeline.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::exercise::timeline::{Moment, Timeline, Told};
use crate::model::address::{Endpoint, Family, Transport};
use crate::model::event::{Datagram, Event, EventRecord};
use crate::model::id::{SocketId, SocketUid};
use crate::model::operation::ShutdownHow;
use crate::model::time::Timestamp;

pub(super) fn endpoint(text: &str) -> Endpoint {
    text.parse::<SocketAddr>().unwrap().into()
}

/// Events of sockets of one host, at these times.
pub(super) fn log(events: Vec<(i64, u64, Event)>) -> Vec<Told> {
    (1..)
        .zip(events)
        .map(|(seq, (at, uid, event))| {
            let time = Timestamp::from_nanos(at);
            let socket = Some((SocketId::parse(&format!("s-{uid}")).unwrap(), SocketUid(uid)));
            Told { record: Arc::new(EventRecord { seq, time, socket, request: None, event }), at, bound: 0 }
        })
        .collect()
}

/// Events of one socket of one host.
pub(super) fn host(events: Vec<(i64, Event)>) -> Vec<Told> {
    log(events.into_iter().map(|(at, event)| (at, 1, event)).collect())
}

pub(super) fn connected(local: &str, remote: &str) -> Event {
    Event::Connected { local: endpoint(local), remote: endpoint(remote), self_connected: false }
}

pub(super) fn accepted(local: &str, remote: &str) -> Event {
    Event::Created {
        transport: Transport::Tcp,
        family: Family::Ipv4,
        parent: Some((SocketId::parse("door").unwrap(), SocketUid(99))),
        local: Some(endpoint(local)),
        remote: Some(endpoint(remote)),
    }
}

pub(super) const CLIENT: &str = "10.0.0.2:5000";
pub(super) const SERVER: &str = "10.0.0.1:80";

pub(super) fn written(offset: u64, size: u32) -> Event {
    Event::Written { offset, size, asked_size: size }
}

pub(super) fn received(offset: u64, payload: &'static [u8]) -> Event {
    Event::Received { offset, payload: Bytes::from_static(payload) }
}

pub(super) fn client(times: [i64; 3]) -> Vec<Told> {
    let events = [connected(CLIENT, SERVER), written(0, 3), Event::ShutDown { how: ShutdownHow::Send }];
    host(times.into_iter().zip(events).collect())
}

pub(super) fn server(times: [i64; 3]) -> Vec<Told> {
    let events = [accepted(SERVER, CLIENT), received(0, b"abc"), Event::PeerClosed { bytes_read: 3 }];
    host(times.into_iter().zip(events).collect())
}

/// What hosts have told whose clocks are known within these bounds.
pub(super) fn bounded(hosts: &[Vec<Told>], bounds: &[i64]) -> Vec<Vec<Told>> {
    let with =
        |(told, bound): (&Vec<Told>, &i64)| told.iter().map(|told| Told { bound: *bound, ..told.clone() }).collect();
    hosts.iter().zip(bounds).map(with).collect()
}

/// The same on a timeline, all of it at once.
pub(super) fn merge(hosts: &[Vec<Told>], bounds: &[i64]) -> Vec<Moment> {
    Timeline::new(hosts.len()).extend(bounded(hosts, bounds).into_iter().enumerate())
}

pub(super) fn shown(moments: &[Moment]) -> Vec<String> {
    moments.iter().map(|moment| format!("{}:{}", moment.host, moment.record.event.kind())).collect()
}

/// The effects, and the number of what caused each.
pub(super) fn causes(moments: &[Moment]) -> Vec<(String, u64)> {
    let cause = |moment: &Moment| {
        let (_, cause) = moment.cause.as_ref()?;
        Some((format!("{}:{}", moment.record.event.kind(), moment.record.seq), cause.seq))
    };
    moments.iter().filter_map(cause).collect()
}

pub(super) fn sent(size: u32) -> Event {
    Event::Sent { destination: Some(endpoint("10.0.0.1:53")), size, reply_to_event: 0 }
}

pub(super) fn datagram(source: &str, destination: &str, size: u32) -> Event {
    Event::DatagramReceived(Box::new(Datagram {
        source: Some(endpoint(source)),
        destination: Some(endpoint(destination)),
        answer_from: None,
        interface: None,
        size,
        payload: Bytes::from_static(b"x"),
        hop_limit: None,
        traffic_class: None,
        received: None,
    }))
}
