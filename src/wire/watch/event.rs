//! One event. Those that come by the thousand and have text or bytes are written field by field, the others by prost.

use prost_types::Timestamp;

use crate::model::event::{Datagram, Event, EventRecord};
use crate::model::payload::{PayloadView, Shown};
use crate::wire::endpoint::Endpoints;
use crate::wire::field::{
    Fields, Out, bytes, flag, message, number, open, optional_bytes, optional_number, present, text,
};
use crate::wire::payload::encoding;
use crate::wire::pb::event::Body;
use crate::wire::{call, event};

/// Writes events, and remembers what one has in common with the next.
#[derive(Default)]
pub(super) struct EventWriter {
    sources: Endpoints,
    destinations: Endpoints,
}

impl EventWriter {
    /// Appends an event, as the field of this number.
    pub(super) fn write(&mut self, tag: u32, record: &EventRecord, view: &PayloadView, out: &mut Vec<u8>) {
        match &record.event {
            Event::Received { offset, payload } => {
                let (shown, cut) = view.show(payload);
                let body = Received { offset: *offset, size: payload.len(), shown, cut, view };
                with_body(out, tag, record, RECEIVED, &body);
            }
            Event::DatagramReceived(datagram) => {
                let (shown, cut) = view.show(&datagram.payload);
                let source = datagram.source.as_ref().map(|source| self.sources.written(source));
                let destination = datagram.destination.as_ref().map(|to| self.destinations.written(to));
                let body = DatagramReceived { datagram, source, destination, shown, cut, view };
                with_body(out, tag, record, DATAGRAM_RECEIVED, &body);
            }
            Event::Sent { destination, size, reply_to_event } => {
                let destination = destination.as_ref().map(|to| self.destinations.written(to));
                let body = Sent { destination, size: *size, reply_to_event: *reply_to_event };
                with_body(out, tag, record, SENT, &body);
            }
            other => {
                let (head, body) = (Head(record), event::body(other, view));
                open(out, tag, head.size() + body.as_ref().map_or(0, Body::encoded_len));
                head.put(out);
                if let Some(body) = body {
                    body.encode(out);
                }
            }
        }
    }
}

/// Appends an event whose body is this field.
fn with_body(out: &mut Vec<u8>, tag: u32, record: &EventRecord, body_tag: u32, body: &impl Fields) {
    let (head, size) = (Head(record), body.size());
    let mut whole = head.size() + size;
    open(&mut whole, body_tag, size);
    open(out, tag, whole);
    head.put(out);
    open(out, body_tag, size);
    body.put(out);
}

/// What every event has.
struct Head<'a>(&'a EventRecord);

impl Fields for Head<'_> {
    fn put(&self, out: &mut impl Out) {
        let record = self.0;
        number(out, 1, record.seq);
        message(out, 2, &call::time(record.time));
        if let Some((id, uid)) = &record.socket {
            text(out, 3, id.as_str());
            number(out, 4, uid.0);
        }
        if let Some(request) = &record.request {
            text(out, 5, request.as_str());
        }
        text(out, 6, record.event.kind());
    }
}

impl Fields for Timestamp {
    fn put(&self, out: &mut impl Out) {
        number(out, 1, self.seconds.cast_unsigned());
        number(out, 2, i64::from(self.nanos).cast_unsigned());
    }
}

struct Received<'a> {
    offset: u64,
    size: usize,
    shown: Shown<'a>,
    cut: bool,
    view: &'a PayloadView,
}

impl Fields for Received<'_> {
    fn put(&self, out: &mut impl Out) {
        present(out, 1, self.offset);
        number(out, 2, self.size as u64);
        payload(out, 3, &self.shown, self.view);
        flag(out, 4, self.cut);
    }
}

struct DatagramReceived<'a> {
    datagram: &'a Datagram,
    source: Option<&'a [u8]>,
    destination: Option<&'a [u8]>,
    shown: Shown<'a>,
    cut: bool,
    view: &'a PayloadView,
}

impl Fields for DatagramReceived<'_> {
    fn put(&self, out: &mut impl Out) {
        let Datagram { interface, size, hop_limit, traffic_class, received, .. } = self.datagram;
        optional_bytes(out, 1, self.source);
        optional_bytes(out, 2, self.destination);
        text(out, 3, interface.as_deref().unwrap_or_default());
        present(out, 4, (*size).into());
        flag(out, 5, self.datagram.truncated());
        payload(out, 6, &self.shown, self.view);
        flag(out, 7, self.cut);
        optional_number(out, 8, hop_limit.map(u64::from));
        optional_number(out, 9, traffic_class.map(u64::from));
        if let Some(received) = received {
            message(out, 10, &call::time(*received));
        }
    }
}

struct Sent<'a> {
    destination: Option<&'a [u8]>,
    size: u32,
    reply_to_event: u64,
}

impl Fields for Sent<'_> {
    fn put(&self, out: &mut impl Out) {
        optional_bytes(out, 1, self.destination);
        present(out, 2, self.size.into());
        number(out, 3, self.reply_to_event);
    }
}

/// A payload as it is shown, if it is shown at all.
fn payload(out: &mut impl Out, tag: u32, shown: &Shown<'_>, view: &PayloadView) {
    let (content_tag, content, encoding) = match shown {
        Shown::Text(text) => (1, text.as_bytes(), encoding(view)),
        Shown::Hex(hex) => (2, hex.as_bytes(), String::new()),
        Shown::Data(data) => (3, *data, String::new()),
        Shown::Nothing => return,
    };
    message(out, tag, &Payload { content_tag, content, encoding });
}

struct Payload<'a> {
    content_tag: u32,
    content: &'a [u8],
    encoding: String,
}

impl Fields for Payload<'_> {
    fn put(&self, out: &mut impl Out) {
        bytes(out, self.content_tag, self.content);
        text(out, 5, &self.encoding);
    }
}

/// Of pb::Event.
const RECEIVED: u32 = 21;
const DATAGRAM_RECEIVED: u32 = 22;
const SENT: u32 = 24;
