//! Fields of messages as protobuf writes them. protobuf.dev: "Encoding".

use prost::Message;
use prost::encoding::{WireType, encode_varint, encoded_len_varint};

/// Where fields go: into a buffer, or only into a count. So one piece of code says what is written, and how long it is.
pub(super) trait Out {
    fn varint(&mut self, number: u64);
    fn raw(&mut self, bytes: &[u8]);
    /// All fields of a message, as prost writes them.
    fn all_of(&mut self, message: &impl Message);
}

impl Out for Vec<u8> {
    fn varint(&mut self, number: u64) {
        match u8::try_from(number) {
            Ok(byte @ ..0x80) => self.push(byte),
            _ => encode_varint(number, self),
        }
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn all_of(&mut self, message: &impl Message) {
        // It grows as it is needed, so that there is room.
        let _ = message.encode(self);
    }
}

impl Out for usize {
    fn varint(&mut self, number: u64) {
        *self += encoded_len_varint(number);
    }

    fn raw(&mut self, bytes: &[u8]) {
        *self += bytes.len();
    }

    fn all_of(&mut self, message: &impl Message) {
        *self += message.encoded_len();
    }
}

/// What has fields, in the order of their numbers.
pub(super) trait Fields {
    /// Puts the fields.
    fn put(&self, out: &mut impl Out);

    /// How many bytes they have.
    fn size(&self) -> usize {
        let mut size = 0;
        self.put(&mut size);
        size
    }
}

/// A number; zero is not written.
pub(super) fn number(out: &mut impl Out, tag: u32, number: u64) {
    if number != 0 {
        present(out, tag, number);
    }
}

/// A number that is written also when it is zero: one of an `optional` field.
pub(super) fn present(out: &mut impl Out, tag: u32, number: u64) {
    key(out, tag, WireType::Varint);
    out.varint(number);
}

/// A number that may be absent.
pub(super) fn optional_number(out: &mut impl Out, tag: u32, value: Option<u64>) {
    if let Some(value) = value {
        present(out, tag, value);
    }
}

/// A flag; false is not written.
pub(super) fn flag(out: &mut impl Out, tag: u32, flag: bool) {
    number(out, tag, flag.into());
}

/// Text; none is not written.
pub(super) fn text(out: &mut impl Out, tag: u32, text: &str) {
    if !text.is_empty() {
        bytes(out, tag, text.as_bytes());
    }
}

/// Bytes, or text, or a message that is written already; written also when there are none.
pub(super) fn bytes(out: &mut impl Out, tag: u32, bytes: &[u8]) {
    open(out, tag, bytes.len());
    out.raw(bytes);
}

/// Bytes, or a message that is written already, that may be absent.
pub(super) fn optional_bytes(out: &mut impl Out, tag: u32, value: Option<&[u8]>) {
    if let Some(value) = value {
        bytes(out, tag, value);
    }
}

/// A list of numbers, packed; an empty one is not written.
pub(super) fn packed(out: &mut impl Out, tag: u32, numbers: impl Iterator<Item = u64> + Clone) {
    let size = numbers.clone().map(encoded_len_varint).sum();
    if size > 0 {
        open(out, tag, size);
        numbers.for_each(|number| out.varint(number));
    }
}

/// A message.
pub(super) fn message(out: &mut impl Out, tag: u32, message: &impl Fields) {
    open(out, tag, message.size());
    message.put(out);
}

/// The beginning of something that has so many bytes.
pub(super) fn open(out: &mut impl Out, tag: u32, size: usize) {
    key(out, tag, WireType::LengthDelimited);
    out.varint(size as u64);
}

fn key(out: &mut impl Out, tag: u32, wire_type: WireType) {
    out.varint(u64::from(tag) << 3 | wire_type as u64);
}
