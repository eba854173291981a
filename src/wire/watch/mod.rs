//! The frames of WatchEvents, written straight into protobuf's wire format.
//!
//! Events are what an agent sends by the million. The messages that prost generates would have each of them as a tree of strings, made,
//! measured and thrown away; here a record goes from the log into tonic's buffer. Invariant: what is written is, byte for byte, what prost
//! would write of the same message. So `proto/` stays the only truth, and a test holds this to it.

use std::sync::Arc;

use bytes::BufMut;
use tonic::Status;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic_prost::{ProstCodec, ProstDecoder};

use crate::model::event::EventRecord;
use crate::model::payload::PayloadView;
use crate::wire::pb;
use crate::wire::pb::watch_events_response::Frame;
use crate::wire::watch::event::EventWriter;
use crate::wire::watch::field::{Fields, Out, number, open};

mod endpoint;
mod event;
mod field;
#[cfg(test)]
mod samples;

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
        let mut events = Vec::with_capacity(EVENT_SIZE * batch.records.len());
        for record in &batch.records {
            self.0.write(EVENTS, record, &batch.view, &mut events);
        }
        let mut head = Vec::new();
        open(&mut head, BATCH, batch.size() + events.len());
        batch.put(&mut head);
        into.put_slice(&head);
        into.put_slice(&events);
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

/// How many bytes most events have at the most.
const EVENT_SIZE: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::encoding::TextEncoding;
    use crate::model::event::Event;
    use crate::model::payload::PayloadForm;
    use crate::wire::event;
    use crate::wire::watch::samples::{one_of_each_kind, record};
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
            pb::EventBatch { from_seq: batch.from, through_seq: batch.through, events };
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
                let batch = Batch { from, through, records: records.clone(), view };
                let mut written = Vec::new();
                encoder.write(&batch, &mut written);
                prop_assert!(written == by_prost(&batch), "in view {view:?}: {batch:?}");
            }
        }
    }
}
