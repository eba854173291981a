//! Runs of datagrams: what they have in common is said once. Out for whoever asked for it, and in for clients of ours.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::model::address::Endpoint;
use crate::model::event::{Datagram, Event, EventRecord};
use crate::model::id::{SocketId, SocketUid};
use crate::model::time::Timestamp;
use crate::wire::event::read as read_event;
use crate::wire::{address, call, pb};

// === Out ===

/// Makes runs of the datagrams of one batch.
pub(super) struct Runs<'a> {
    /// Whether their bytes are shown.
    payloads: bool,
    finished: Vec<pb::DatagramRun>,
    run: Option<Run<'a>>,
}

/// A run that may go on.
struct Run<'a> {
    first: &'a EventRecord,
    last: &'a EventRecord,
    sizes: Vec<u32>,
    time_steps: Vec<u64>,
    payloads: BytesMut,
    origins: Vec<Origin<'a>>,
    origin_indexes: Vec<u32>,
}

/// How many origins of a run are compared with that of a datagram before it gets another one.
const COMPARED: usize = 16;

impl<'a> Runs<'a> {
    pub(super) fn new(payloads: bool) -> Self {
        Self { payloads, finished: Vec::new(), run: None }
    }

    /// Takes an event in, if it can be part of a run; says whether it has.
    pub(super) fn take(&mut self, record: &'a EventRecord) -> bool {
        let Some((origin, datagram)) = Origin::of(record) else { return false };
        let step = self.run.as_ref().and_then(|run| run.step_to(record));
        if step.is_none() {
            self.finish();
        }
        let run = self.run.get_or_insert_with(|| Run::new(record));
        run.add(record, origin, step.unwrap_or(0), datagram.size);
        if self.payloads {
            run.payloads.extend_from_slice(&datagram.payload);
        }
        true
    }

    fn finish(&mut self) {
        self.finished.extend(self.run.take().map(Run::finish));
    }

    /// All runs.
    pub(super) fn all(mut self) -> Vec<pb::DatagramRun> {
        self.finish();
        self.finished
    }
}

impl<'a> Run<'a> {
    fn new(first: &'a EventRecord) -> Self {
        Self {
            first,
            last: first,
            sizes: Vec::new(),
            time_steps: Vec::new(),
            payloads: BytesMut::new(),
            origins: Vec::new(),
            origin_indexes: Vec::new(),
        }
    }

    /// How many nanoseconds there are from the last event to this one, if it is the next.
    fn step_to(&self, record: &EventRecord) -> Option<u64> {
        let step = record.time.nanos().checked_sub(self.last.time.nanos())?;
        u64::try_from(step).ok().filter(|_| record.seq == self.last.seq + 1)
    }

    fn add(&mut self, record: &'a EventRecord, origin: Origin<'a>, step: u64, size: u32) {
        self.last = record;
        self.sizes.push(size);
        self.time_steps.push(step);
        let known = self.origins.iter().rev().take(COMPARED).position(|known| *known == origin);
        let index = match known {
            Some(back) => self.origins.len() - 1 - back,
            None => {
                self.origins.push(origin);
                self.origins.len() - 1
            }
        };
        self.origin_indexes.push(u32::try_from(index).unwrap_or(u32::MAX));
    }

    fn finish(self) -> pb::DatagramRun {
        let one_origin = self.origins.len() == 1;
        pb::DatagramRun {
            first_event_seq: self.first.seq,
            first_time: Some(call::time(self.first.time)),
            sizes: self.sizes,
            time_steps: self.time_steps,
            payloads: self.payloads.freeze(),
            origins: self.origins.iter().map(pb::DatagramOrigin::from).collect(),
            origin_indexes: if one_origin { Vec::new() } else { self.origin_indexes },
        }
    }
}

/// What many datagrams have in common.
#[derive(PartialEq)]
struct Origin<'a> {
    socket: &'a (SocketId, SocketUid),
    source: Option<&'a Endpoint>,
    destination: Option<&'a Endpoint>,
    interface: Option<&'a Arc<str>>,
    hop_limit: Option<u8>,
    traffic_class: Option<u8>,
}

impl<'a> Origin<'a> {
    /// The origin of an event that can be part of a run, and its datagram.
    fn of(record: &'a EventRecord) -> Option<(Self, &'a Datagram)> {
        let (Event::DatagramReceived(datagram), Some(socket), None) = (&record.event, &record.socket, &record.request)
        else {
            return None;
        };
        let Datagram { source, destination, answer_from: _, interface, size: _, payload: _, hop_limit, traffic_class } =
            &**datagram;
        let origin = Self {
            socket,
            source: source.as_ref(),
            destination: destination.as_ref(),
            interface: interface.as_ref(),
            hop_limit: *hop_limit,
            traffic_class: *traffic_class,
        };
        (!datagram.truncated()).then_some((origin, &**datagram))
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

/// The events of a batch as an agent sent it, in the order of their numbers, with payloads as data. Events of kinds that this version does
/// not know are left out. Absent when a run does not add up.
pub fn read(sent: pb::EventBatch) -> Option<Vec<EventRecord>> {
    let in_runs = sent.datagram_runs.iter().map(|run| run.sizes.len()).sum::<usize>();
    let mut records = Vec::with_capacity(sent.events.len() + in_runs);
    let mut events = sent.events.into_iter().peekable();
    for run in sent.datagram_runs {
        while let Some(event) = events.next_if(|event| event.event_seq < run.first_event_seq) {
            records.extend(read_event(event));
        }
        read_run(run, &mut records)?;
    }
    records.extend(events.filter_map(read_event));
    Some(records)
}

fn read_run(mut sent: pb::DatagramRun, records: &mut Vec<EventRecord>) -> Option<()> {
    let count = sent.sizes.len();
    let whole: u64 = sent.sizes.iter().map(|size| u64::from(*size)).sum();
    let shown = !sent.payloads.is_empty();
    let lists_fit =
        sent.time_steps.len() == count && (sent.origin_indexes.is_empty() || sent.origin_indexes.len() == count);
    if !lists_fit || (shown && sent.payloads.len() as u64 != whole) {
        return None;
    }
    let origins = sent.origins.iter().map(read_origin).collect::<Option<Vec<_>>>()?;
    let mut time = call::read_time(sent.first_time.as_ref()).nanos();
    for (at, (size, step)) in sent.sizes.into_iter().zip(sent.time_steps).enumerate() {
        let index = sent.origin_indexes.get(at).copied().unwrap_or(0);
        let (socket, origin) = origins.get(usize::try_from(index).ok()?)?;
        time = time.checked_add_unsigned(step)?;
        let payload = if shown { sent.payloads.split_to(size as usize) } else { Bytes::new() };
        records.push(EventRecord {
            seq: sent.first_event_seq.checked_add(at as u64)?,
            time: Timestamp::from_nanos(time),
            socket: Some(socket.clone()),
            request: None,
            event: Event::DatagramReceived(Box::new(Datagram { size, payload, ..origin.clone() })),
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
            pb::DatagramRun { first_event_seq: u64::MAX, ..run },
        ] {
            assert_eq!(read(broken.clone()), None, "{broken:?}");
        }
    }
}
