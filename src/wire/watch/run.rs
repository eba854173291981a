//! Runs of datagrams: what they have in common is said once. Out for whoever asked for it, and in for clients of ours.

use std::iter;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use crate::model::address::Endpoint;
use crate::model::event::{Datagram, Event, EventRecord};
use crate::model::id::{SocketId, SocketUid};
use crate::model::time::Timestamp;
use crate::wire::event::read as read_event;
use crate::wire::field::{Fields, Out, bytes, message, number, open, packed};
use crate::wire::{address, call, pb};

// === Out ===

/// A part of a batch.
pub(super) enum Part<'a> {
    /// Datagrams that are sent together.
    Run(&'a [Arc<EventRecord>]),
    /// An event that is sent by itself.
    Event(&'a EventRecord),
}

/// Splits a batch into runs, each as long as it can be, and what is no part of one.
pub(super) fn parts(mut records: &[Arc<EventRecord>]) -> impl Iterator<Item = Part<'_>> {
    iter::from_fn(move || {
        let first = records.first()?;
        let fits = |record: &EventRecord| Origin::of(record).is_some() && lead(record).is_ok();
        if !fits(first) {
            records = &records[1..];
            return Some(Part::Event(first));
        }
        let alike = |two: &[Arc<EventRecord>]| lead(&two[0]).map(|l| l.is_some()) == lead(&two[1]).map(|l| l.is_some());
        let goes_on = |two: &[Arc<EventRecord>]| fits(&two[1]) && step(&two[0], &two[1]).is_some() && alike(two);
        let length = 1 + records.windows(2).take_while(|two| goes_on(two)).count();
        let (run, rest) = records.split_at(length);
        records = rest;
        Some(Part::Run(run))
    })
}

/// How many nanoseconds there are from one event to another, if that is the next.
fn step(record: &EventRecord, next: &EventRecord) -> Option<u64> {
    let step = next.time.nanos().checked_sub(record.time.nanos())?;
    u64::try_from(step).ok().filter(|_| next.seq == record.seq + 1)
}

/// How many nanoseconds before it was noticed the kernel had received a datagram, where that is told. An error: it is told, and no such
/// number.
fn lead(record: &EventRecord) -> Result<Option<u64>, ()> {
    let Event::DatagramReceived(datagram) = &record.event else { return Ok(None) };
    let Some(received) = datagram.received else { return Ok(None) };
    let lead = record.time.nanos().checked_sub(received.nanos()).and_then(|lead| u64::try_from(lead).ok());
    lead.map(Some).ok_or(())
}

/// A run, as it is written.
pub(super) struct Run<'a> {
    records: &'a [Arc<EventRecord>],
    payloads: bool,
    origins: Vec<Origin<'a>>,
    origin_indexes: Vec<u32>,
}

/// How many origins of a run are compared with that of a datagram before it gets another one.
const COMPARED: usize = 16;

impl<'a> Run<'a> {
    /// A run of these, with their bytes or without.
    pub(super) fn new(records: &'a [Arc<EventRecord>], payloads: bool) -> Self {
        let (mut origins, mut origin_indexes) = (Vec::<Origin<'a>>::new(), Vec::with_capacity(records.len()));
        for origin in records.iter().filter_map(|record| Origin::of(record)) {
            let known = origins.iter().rev().take(COMPARED).position(|known| known.is(&origin));
            let index = known.map_or(origins.len(), |back| origins.len() - 1 - back);
            if known.is_none() {
                origins.push(origin);
            }
            origin_indexes.push(u32::try_from(index).unwrap_or(u32::MAX));
        }
        if origins.len() == 1 {
            origin_indexes.clear();
        }
        Self { records, payloads, origins, origin_indexes }
    }

    fn datagrams(&self) -> impl Iterator<Item = &Datagram> + Clone {
        self.records.iter().filter_map(|record| match &record.event {
            Event::DatagramReceived(datagram) => Some(&**datagram),
            _ => None,
        })
    }

    fn leads(&self) -> impl Iterator<Item = u64> + Clone {
        self.records.iter().filter_map(|record| lead(record).ok().flatten())
    }

    fn time_steps(&self) -> impl Iterator<Item = u64> + Clone {
        let steps = self.records.windows(2).map(|two| step(&two[0], &two[1]).unwrap_or(0));
        iter::once(0).chain(steps)
    }
}

impl Fields for Run<'_> {
    fn put(&self, out: &mut impl Out) {
        let Some(first) = self.records.first() else { return };
        number(out, 1, first.seq);
        message(out, 2, &call::time(first.time));
        packed(out, 3, self.datagrams().map(|datagram| datagram.size.into()));
        packed(out, 4, self.time_steps());
        let payloads = self.datagrams().map(|datagram| &datagram.payload);
        let whole: usize = payloads.clone().map(Bytes::len).sum();
        if self.payloads && whole > 0 {
            open(out, 5, whole);
            payloads.for_each(|payload| out.raw(payload));
        }
        for origin in &self.origins {
            bytes(out, 6, &pb::DatagramOrigin::from(origin).encode_to_vec());
        }
        packed(out, 7, self.origin_indexes.iter().copied().map(u64::from));
        packed(out, 8, self.leads());
    }
}

/// What many datagrams have in common.
struct Origin<'a> {
    socket: &'a (SocketId, SocketUid),
    source: Option<&'a Endpoint>,
    destination: Option<&'a Endpoint>,
    interface: Option<&'a Arc<str>>,
    hop_limit: Option<u8>,
    traffic_class: Option<u8>,
}

impl<'a> Origin<'a> {
    /// The origin of an event that can be part of a run.
    fn of(record: &'a EventRecord) -> Option<Self> {
        let (Event::DatagramReceived(datagram), Some(socket), None) = (&record.event, &record.socket, &record.request)
        else {
            return None;
        };
        let Datagram {
            source,
            destination,
            answer_from: _,
            interface,
            size: _,
            payload: _,
            hop_limit,
            traffic_class,
            received: _,
        } = &**datagram;
        let origin = Self {
            socket,
            source: source.as_ref(),
            destination: destination.as_ref(),
            interface: interface.as_ref(),
            hop_limit: *hop_limit,
            traffic_class: *traffic_class,
        };
        (!datagram.truncated()).then_some(origin)
    }

    /// Whether both are the same. The number alone says which socket it is.
    fn is(&self, other: &Self) -> bool {
        self.socket.1 == other.socket.1
            && self.source == other.source
            && self.destination == other.destination
            && self.interface == other.interface
            && (self.hop_limit, self.traffic_class) == (other.hop_limit, other.traffic_class)
    }
}

impl From<&Origin<'_>> for pb::DatagramOrigin {
    fn from(origin: &Origin<'_>) -> Self {
        let (id, uid) = origin.socket;
        Self {
            socket_id: id.to_string(),
            socket_uid: uid.0,
            source: address::endpoint(origin.source),
            destination: address::endpoint(origin.destination),
            interface: origin.interface.map(ToString::to_string).unwrap_or_default(),
            hop_limit: origin.hop_limit.map(u32::from),
            traffic_class: origin.traffic_class.map(u32::from),
        }
    }
}

// === In ===

/// The events of a batch as an agent sent it, in the order of their numbers, with payloads as data. Absent when a run does not add up, or an
/// event is of nobody that could be told: it is not left out.
pub fn read(sent: pb::EventBatch) -> Option<Vec<EventRecord>> {
    let in_runs = sent.datagram_runs.iter().map(|run| run.sizes.len()).sum::<usize>();
    let mut records = Vec::with_capacity(sent.events.len() + in_runs);
    let mut events = sent.events.iter().peekable();
    for run in sent.datagram_runs {
        while let Some(event) = events.next_if(|event| event.event_seq < run.first_event_seq) {
            records.push(read_event(event)?);
        }
        read_run(run, &mut records)?;
    }
    for event in events {
        records.push(read_event(event)?);
    }
    Some(records)
}

fn read_run(mut sent: pb::DatagramRun, records: &mut Vec<EventRecord>) -> Option<()> {
    let count = sent.sizes.len();
    let whole: u64 = sent.sizes.iter().map(|size| u64::from(*size)).sum();
    let shown = !sent.payloads.is_empty();
    let all_or_none = |length: usize| length == 0 || length == count;
    let lists_fit = sent.time_steps.len() == count
        && all_or_none(sent.origin_indexes.len())
        && all_or_none(sent.receive_leads.len());
    if !lists_fit || (shown && sent.payloads.len() as u64 != whole) {
        return None;
    }
    let origins = sent.origins.iter().map(read_origin).collect::<Option<Vec<_>>>()?;
    let mut time = call::read_time(sent.first_time.as_ref()).nanos();
    for (at, (size, step)) in sent.sizes.into_iter().zip(sent.time_steps).enumerate() {
        let index = sent.origin_indexes.get(at).copied().unwrap_or(0);
        let (socket, origin) = origins.get(usize::try_from(index).ok()?)?;
        time = time.checked_add_unsigned(step)?;
        let received = match sent.receive_leads.get(at) {
            Some(lead) => Some(Timestamp::from_nanos(time.checked_sub_unsigned(*lead)?)),
            None => None,
        };
        let payload = if shown { sent.payloads.split_to(size as usize) } else { Bytes::new() };
        records.push(EventRecord {
            seq: sent.first_event_seq.checked_add(at as u64)?,
            time: Timestamp::from_nanos(time),
            socket: Some(socket.clone()),
            request: None,
            event: Event::DatagramReceived(Box::new(Datagram { size, payload, received, ..origin.clone() })),
        });
    }
    Some(())
}

/// The socket, and what all of its datagrams are like.
fn read_origin(sent: &pb::DatagramOrigin) -> Option<((SocketId, SocketUid), Datagram)> {
    let byte = |number: Option<u32>| number.and_then(|n| u8::try_from(n).ok());
    let socket = (SocketId::parse(&sent.socket_id).ok()?, SocketUid(sent.socket_uid));
    let datagram = Datagram {
        source: sent.source.as_ref().and_then(address::read_endpoint),
        destination: sent.destination.as_ref().and_then(address::read_endpoint),
        answer_from: None,
        interface: (!sent.interface.is_empty()).then(|| Arc::from(sent.interface.as_str())),
        size: 0,
        payload: Bytes::new(),
        hop_limit: byte(sent.hop_limit),
        traffic_class: byte(sent.traffic_class),
        received: None,
    };
    Some((socket, datagram))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_does_not_add_up_is_not_read() {
        let origin = pb::DatagramOrigin { socket_id: "ear".to_owned(), socket_uid: 1, ..Default::default() };
        let run = pb::DatagramRun {
            first_event_seq: 7,
            sizes: vec![1, 0],
            time_steps: vec![0, 5],
            payloads: Bytes::from_static(b"a"),
            origins: vec![origin],
            ..Default::default()
        };
        let read = |run: pb::DatagramRun| {
            let mut records = Vec::new();
            read_run(run, &mut records).map(|()| records)
        };
        let records = read(run.clone()).unwrap();
        assert_eq!(records.iter().map(|record| record.seq).collect::<Vec<_>>(), [7, 8]);
        assert_eq!(records[1].time.nanos() - records[0].time.nanos(), 5);
        assert_eq!(records[0].event.payload().unwrap(), "a");
        for broken in [
            pb::DatagramRun { sizes: vec![1], ..run.clone() },
            pb::DatagramRun { time_steps: vec![0], ..run.clone() },
            pb::DatagramRun { time_steps: vec![0, u64::MAX], ..run.clone() },
            pb::DatagramRun { payloads: Bytes::from_static(b"ab"), ..run.clone() },
            pb::DatagramRun { sizes: vec![u32::MAX, u32::MAX], ..run.clone() },
            pb::DatagramRun { origins: Vec::new(), ..run.clone() },
            pb::DatagramRun { origins: vec![pb::DatagramOrigin::default()], ..run.clone() },
            pb::DatagramRun { origin_indexes: vec![0], ..run.clone() },
            pb::DatagramRun { origin_indexes: vec![0, 1], ..run.clone() },
            pb::DatagramRun { receive_leads: vec![1], ..run.clone() },
            pb::DatagramRun { first_event_seq: u64::MAX, ..run },
        ] {
            assert_eq!(read(broken.clone()), None, "{broken:?}");
        }
    }
}
