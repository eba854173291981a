//! The frames of WatchEvents, written straight into protobuf's wire format.
//!
//! Events are what an agent sends by the million. The messages that prost generates would have each of them as a tree of strings, made,
//! measured and thrown away; here a record goes from the log into tonic's buffer. Invariant: what is written is, byte for byte, what prost
//! would write of the same message. So `proto/` stays the only truth, and a test holds this to it.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::BufMut;
use tonic::Status;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic_prost::{ProstCodec, ProstDecoder};

use crate::model::event::EventRecord;
use crate::model::payload::{PayloadForm, PayloadView};
use crate::wire::field::{Fields, Out, message, number, open};
use crate::wire::pb;
use crate::wire::pb::watch_events_response::Frame;
use crate::wire::watch::event::EventWriter;
use crate::wire::watch::run::{Part, Run, parts};

mod event;
mod run;
#[cfg(test)]
mod samples;

pub use run::read;

/// One frame of a watch, as the server sends it.
pub enum WatchFrame {
    /// Events.
    Batch(Batch),
    /// Anything else.
    Other(Frame),
}

/// All events of a range that a watcher wants.
#[derive(Debug)]
pub struct Batch {
    /// The first number of the range.
    pub from: u64,
    /// The last number of the range.
    pub through: u64,
    /// The events.
    pub records: Vec<Arc<EventRecord>>,
    /// How the watcher sees payloads.
    pub view: PayloadView,
    /// Whether datagrams are sent in runs, where they can be: in a view that shows payloads whole, as data or not at all.
    pub packs: bool,
}

/// The codec of WatchEvents on the server.
#[derive(Debug, Clone, Copy, Default)]
pub struct WatchCodec;

impl Codec for WatchCodec {
    type Encode = WatchFrame;
    type Decode = pb::WatchEventsRequest;
    type Encoder = WatchEncoder;
    type Decoder = ProstDecoder<pb::WatchEventsRequest>;

    fn encoder(&mut self) -> WatchEncoder {
        WatchEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<pb::WatchEventsResponse, pb::WatchEventsRequest>::default().decoder()
    }
}

/// Writes the frames of one watch.
#[derive(Default)]
pub struct WatchEncoder(EventWriter);

impl Encoder for WatchEncoder {
    type Item = WatchFrame;
    type Error = Status;

    fn encode(&mut self, frame: WatchFrame, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        match frame {
            WatchFrame::Batch(batch) => self.write(&batch, into),
            WatchFrame::Other(frame) => frame.encode(into),
        }
        Ok(())
    }
}

impl WatchEncoder {
    /// Writes a batch. The length of a message stands before it, so that the events are written aside first.
    fn write(&mut self, batch: &Batch, into: &mut impl BufMut) {
        ASIDE.with_borrow_mut(|events| {
            self.write_events(batch, events);
            let mut head = Vec::new();
            open(&mut head, BATCH, batch.size() + events.len());
            batch.put(&mut head);
            into.put_slice(&head);
            into.put_slice(events);
            events.clear();
            events.shrink_to(KEPT_ASIDE);
        });
    }

    /// Writes the events, then the runs, in the order of the fields.
    fn write_events(&mut self, batch: &Batch, out: &mut Vec<u8>) {
        let mut event = |record: &EventRecord, out: &mut Vec<u8>| self.0.write(EVENTS, record, &batch.view, out);
        if !batch.packs {
            return batch.records.iter().for_each(|record| event(record, out));
        }
        let mut runs = Vec::new();
        for part in parts(&batch.records) {
            match part {
                Part::Event(record) => event(record, out),
                Part::Run(run) => runs.push(run),
            }
        }
        let payloads = batch.view.form == PayloadForm::Data;
        runs.into_iter().for_each(|run| message(out, RUNS, &Run::new(run, payloads)));
    }
}

impl Fields for Batch {
    /// All but the events, which come behind.
    fn put(&self, out: &mut impl Out) {
        number(out, 1, self.from);
        number(out, 2, self.through);
    }
}

/// Of pb::WatchEventsResponse.
const BATCH: u32 = 3;
/// Of pb::EventBatch.
const EVENTS: u32 = 3;
const RUNS: u32 = 4;

thread_local! {
    /// Where events are written before their frame. One a thread, none a watch: a watch that waits holds nothing.
    static ASIDE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// How many bytes of it a thread keeps.
const KEPT_ASIDE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::encoding::TextEncoding;
    use crate::model::event::Event;
    use crate::model::time::Timestamp;
    use crate::wire::event;
    use crate::wire::unknown::samples::{UNKNOWN, each_unknown};
    use crate::wire::watch::samples::{datagram, one_of_each_kind, record};
    use proptest::prelude::*;
    use prost::Message;

    /// Views of every form, in UTF-8 and in another encoding, whole and cut.
    fn views() -> Vec<PayloadView> {
        let forms = [PayloadForm::Auto, PayloadForm::Text, PayloadForm::Hex, PayloadForm::Data, PayloadForm::None];
        let encodings = ["utf-8", "gbk"].map(|label| TextEncoding::from_label(label).unwrap());
        let views = |form| {
            let view = move |encoding, max_bytes| PayloadView { form, encoding, max_bytes };
            encodings.map(|encoding| [view(encoding, None), view(encoding, Some(7))])
        };
        forms.into_iter().flat_map(views).flatten().collect()
    }

    fn by_prost(batch: &Batch) -> Vec<u8> {
        let events = batch.records.iter().map(|record| event::show(record, &batch.view)).collect();
        let batch =
            pb::EventBatch { from_seq: batch.from, through_seq: batch.through, events, datagram_runs: Vec::new() };
        pb::WatchEventsResponse { frame: Some(Frame::Batch(batch)) }.encode_to_vec()
    }

    proptest! {
        /// Also when the encoder has written other events before, and remembers their addresses.
        #[test]
        fn frames_are_written_as_prost_would(
            heads in prop::collection::vec((record(Just(Event::Writable)), one_of_each_kind()), 1..4),
            from: u64, through in prop::sample::select(vec![0, 1, u64::MAX]), views in prop::sample::subsequence(views(), 2),
        ) {
            let kinds: Vec<&str> = heads[0].1.iter().map(Event::kind).collect();
            prop_assert!(Event::KINDS.iter().all(|kind| kinds.contains(kind)), "there is a kind without a sample");
            let each = |(head, events): (EventRecord, Vec<Event>)| {
                events.into_iter().map(move |event| Arc::new(EventRecord { event, ..head.clone() }))
            };
            let records: Vec<_> = heads.into_iter().flat_map(each).collect();
            let mut encoder = WatchEncoder::default();
            for view in views {
                let batch = Batch { from, through, records: records.clone(), view, packs: false };
                let mut written = Vec::new();
                encoder.write(&batch, &mut written);
                prop_assert!(written == by_prost(&batch), "in view {view:?}: {batch:?}");
            }
        }

        /// Whatever a newer agent says in any word that is not known here: it is told with its place, and never taken for another one.
        #[test]
        fn no_value_is_read_as_another_one(events in one_of_each_kind()) {
            let view = PayloadView { form: PayloadForm::Data, ..PayloadView::default() };
            let mut tried = 0;
            for event in events {
                let record = EventRecord { seq: 1, time: Timestamp::default(), socket: None, request: None, event };
                for (field, changed) in each_unknown(&event::show(&record, &view), "Event") {
                    tried += 1;
                    let read = event::read(&changed).unwrap().event;
                    let value = Some((field.as_str().into(), UNKNOWN));
                    prop_assert_eq!(read, Event::Unknown { kind: record.event.kind().into(), value });
                }
            }
            prop_assert!(tried >= 10, "{tried}");
        }

        /// Datagrams among other events, with holes between them, from a few origins or from many: packed or not, the reader sees the same.
        #[test]
        fn what_is_packed_reads_as_what_is_not(
            datagrams in prop::collection::vec(record(datagram()), 1..4),
            others in record(one_of_each_kind().prop_map(|mut events| events.swap_remove(0))),
            chosen in prop::collection::vec((0..6_usize, 1..12_u64, -3..900_i64), 0..60),
            form in prop::sample::select(vec![PayloadForm::Data, PayloadForm::None]),
        ) {
            let (mut seq, mut nanos) = (0, 0);
            let place = |(which, distance, step): (usize, u64, i64)| {
                // Mostly without a hole.
                seq += distance.saturating_sub(9).max(1);
                nanos += step;
                let mut record = if which == 0 { others.clone() } else { datagrams[which % datagrams.len()].clone() };
                // As it is in life; with one it is no part of a run.
                record.request = record.request.filter(|_| which < 2);
                Arc::new(EventRecord { seq, time: Timestamp::from_nanos(nanos), ..record })
            };
            let records: Vec<_> = chosen.into_iter().map(place).collect();
            let view = PayloadView { form, ..PayloadView::default() };
            let (from, through) = (1, seq.max(1));
            let read_back = |packs| {
                let mut written = Vec::new();
                WatchEncoder::default().write(&Batch { from, through, records: records.clone(), view, packs }, &mut written);
                let response = pb::WatchEventsResponse::decode(&written[..]).unwrap();
                assert_eq!(response.encode_to_vec(), written, "as prost would");
                let Some(Frame::Batch(batch)) = response.frame else { panic!("{response:?}") };
                read(batch).unwrap()
            };
            let plain = read_back(false);
            prop_assert_eq!(plain.len(), records.len());
            prop_assert_eq!(read_back(true), plain);
        }
    }
}
