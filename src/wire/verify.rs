//! How what was received compares with a pattern, as protobuf has it.

use crate::model::verify::{PatternDifference, Verification};
use crate::wire::pb;

// === Out ===

pub(super) fn write(seen: &Verification) -> pb::Verification {
    pb::Verification {
        verified_bytes: Some(seen.verified_bytes),
        wrong_bytes: Some(seen.wrong_bytes),
        wrong_datagrams: Some(seen.wrong_datagrams),
        first_difference: seen.first_difference.map(write_difference),
    }
}

pub(super) fn write_difference(difference: PatternDifference) -> pb::PatternDifference {
    let PatternDifference { offset, expected, actual } = difference;
    pb::PatternDifference { offset: Some(offset), expected: expected.map(u32::from), actual: actual.map(u32::from) }
}

// === In, for clients ===

pub(super) fn read(sent: &pb::Verification) -> Verification {
    Verification {
        verified_bytes: sent.verified_bytes(),
        wrong_bytes: sent.wrong_bytes(),
        wrong_datagrams: sent.wrong_datagrams(),
        first_difference: sent.first_difference.map(read_difference),
    }
}

pub(super) fn read_difference(sent: pb::PatternDifference) -> PatternDifference {
    let byte = |sent: Option<u32>| sent.and_then(|byte| u8::try_from(byte).ok());
    PatternDifference { offset: sent.offset(), expected: byte(sent.expected), actual: byte(sent.actual) }
}
