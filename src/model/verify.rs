//! What is received, compared with a pattern: how much is as it should be, and where the first byte is not.

use std::sync::Arc;

use bytes::BytesMut;

use crate::model::payload::Pattern;

/// How many bytes are compared at a time.
const CHUNK: usize = 16 * 1024;

/// How what was received compares with a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verification {
    /// Bytes that are as they should be.
    pub verified_bytes: u64,
    /// Bytes that are not.
    pub wrong_bytes: u64,
    /// Datagrams with a wrong byte, or of a wrong size.
    pub wrong_datagrams: u64,
    /// Where they differed first.
    pub first_difference: Option<PatternDifference>,
}

/// Where bytes differ from a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatternDifference {
    /// How many bytes of the stream, or of the datagram, came before.
    pub offset: u64,
    /// What should be there; absent: nothing.
    pub expected: Option<u8>,
    /// What is there; absent: nothing, or nobody knows.
    pub actual: Option<u8>,
}

/// Compares what one socket receives.
#[derive(Debug, Clone)]
pub struct Verifier {
    pattern: Arc<Pattern>,
    seen: Verification,
    /// The bytes that should be there.
    wanted: BytesMut,
}

impl Verifier {
    /// Nothing has come yet.
    pub fn new(pattern: Arc<Pattern>) -> Self {
        Self { pattern, seen: Verification::default(), wanted: BytesMut::new() }
    }

    /// What was seen so far.
    pub fn seen(&self) -> Verification {
        self.seen
    }

    /// Compares the next bytes of a stream, before which so many came. Answers where the very first byte differs.
    pub fn stream(&mut self, mut offset: u64, mut bytes: &[u8]) -> Option<PatternDifference> {
        let period = u64::from(self.pattern.size);
        let mut first = None;
        while !bytes.is_empty() {
            let place = offset.checked_rem(period).unwrap_or(offset);
            let room = if period == 0 { CHUNK } else { usize::try_from(period - place).unwrap_or(CHUNK).min(CHUNK) };
            let (part, rest) = bytes.split_at(room.min(bytes.len()));
            let difference = self.compare(place, offset, part);
            first = first.or(difference);
            (offset, bytes) = (offset + part.len() as u64, rest);
        }
        self.note(first)
    }

    /// Compares a datagram of so many bytes, of which these were read. Answers where the very first one differs.
    pub fn datagram(&mut self, size: usize, bytes: &[u8]) -> Option<PatternDifference> {
        let exact = (self.pattern.size > 0).then_some(self.pattern.size as usize);
        let (part, beyond) = bytes.split_at(exact.unwrap_or(usize::MAX).min(bytes.len()));
        let mut first = None;
        for (at, chunk) in part.chunks(CHUNK).enumerate() {
            let offset = (at * CHUNK) as u64;
            let difference = self.compare(offset, offset, chunk);
            first = first.or(difference);
        }
        self.seen.wrong_bytes += beyond.len() as u64;
        if let Some(exact) = exact.filter(|exact| *exact != size && first.is_none()) {
            let offset = exact.min(size) as u64;
            let expected = (size < exact).then(|| self.wanted_at(offset));
            first = Some(PatternDifference { offset, expected, actual: beyond.first().copied() });
        }
        self.seen.wrong_datagrams += u64::from(first.is_some());
        self.note(first)
    }

    /// Compares bytes that stand behind one another in the pattern, too.
    fn compare(&mut self, place: u64, offset: u64, bytes: &[u8]) -> Option<PatternDifference> {
        self.wanted.clear();
        self.pattern.fill.write(self.pattern.start.wrapping_add(place), bytes.len(), &mut self.wanted);
        if self.wanted == bytes {
            self.seen.verified_bytes += bytes.len() as u64;
            return None;
        }
        let differs = |(_, (wanted, got)): &(u64, (&u8, &u8))| wanted != got;
        let pairs = || (offset..).zip(self.wanted.iter().zip(bytes));
        let wrong = pairs().filter(differs).count() as u64;
        let first = pairs().find(differs).map(|(offset, (wanted, got))| PatternDifference {
            offset,
            expected: Some(*wanted),
            actual: Some(*got),
        });
        self.seen.wrong_bytes += wrong;
        self.seen.verified_bytes += bytes.len() as u64 - wrong;
        first
    }

    fn wanted_at(&mut self, place: u64) -> u8 {
        self.wanted.clear();
        self.pattern.fill.write(self.pattern.start.wrapping_add(place), 1, &mut self.wanted);
        self.wanted.first().copied().unwrap_or(0)
    }

    fn note(&mut self, first: Option<PatternDifference>) -> Option<PatternDifference> {
        let news = first.filter(|_| self.seen.first_difference.is_none());
        self.seen.first_difference = self.seen.first_difference.or(first);
        news
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::payload::Fill;

    fn verifier(size: u32, start: u64, fill: Fill) -> Verifier {
        Verifier::new(Arc::new(Pattern { size, start, fill }))
    }

    fn differs(offset: u64, expected: Option<u8>, actual: Option<u8>) -> Option<PatternDifference> {
        Some(PatternDifference { offset, expected, actual })
    }

    #[test]
    fn the_first_byte_that_differs_is_told_once_and_all_are_counted() {
        let mut line = verifier(0, 0, Fill::Repeat("abc".into()));
        assert_eq!(line.stream(0, b"abcab"), None);
        assert_eq!(line.stream(5, b"cxbcy"), differs(6, Some(b'a'), Some(b'x')));
        assert_eq!(line.stream(10, b"zbc"), None);
        let seen = line.seen();
        // `x`, `y`, and all of the last three, which are out of step.
        assert_eq!((seen.verified_bytes, seen.wrong_bytes), (8, 5));
        assert_eq!(seen.first_difference, differs(6, Some(b'a'), Some(b'x')));
    }

    #[test]
    fn a_pattern_with_a_size_starts_over() {
        let mut line = verifier(4, 1, Fill::Counting);
        assert_eq!(line.stream(0, &[1, 2, 3, 4, 1, 2]), None);
        assert_eq!(line.stream(6, &[3, 4, 5]), differs(8, Some(1), Some(5)));
    }

    #[test]
    fn a_datagram_begins_with_the_pattern_and_may_have_to_be_as_long() {
        let mut any = verifier(0, 0, Fill::Counting);
        assert_eq!((any.datagram(3, &[0, 1, 2]), any.datagram(0, &[])), (None, None));
        assert_eq!(any.datagram(9, &[0, 2]), differs(1, Some(1), Some(2)));
        assert_eq!(any.seen().wrong_datagrams, 1);

        let mut exact = verifier(3, 0, Fill::Counting);
        assert_eq!(exact.datagram(3, &[0, 1, 2]), None);
        // Truncated: the rest is not known.
        assert_eq!(exact.datagram(3, &[0, 1]), None);
        assert_eq!(exact.clone().datagram(2, &[0, 1]), differs(2, Some(2), None));
        assert_eq!(exact.datagram(4, &[0, 1, 2, 3]), differs(3, None, Some(3)));
        let seen = exact.seen();
        assert_eq!((seen.verified_bytes, seen.wrong_bytes, seen.wrong_datagrams), (8, 1, 1));
    }

    proptest! {
        /// However a stream is cut, it is the same; and one byte that is changed is found where it is.
        #[test]
        fn a_stream_is_compared_however_it_is_cut(
            size in prop_oneof![Just(0_u32), 1..50_u32],
            start in 0..1000_u64,
            cuts in prop::collection::vec(1..300_usize, 1..20),
            changed in any::<prop::sample::Index>(),
        ) {
            let fill = Fill::Random(7);
            let whole: usize = cuts.iter().sum();
            let mut bytes = BytesMut::new();
            match size {
                0 => fill.write(start, whole, &mut bytes),
                _ => while bytes.len() < whole { fill.write(start, size as usize, &mut bytes) },
            }
            bytes.truncate(whole);
            let at = changed.index(whole);
            for flip in [0, 1] {
                bytes[at] ^= flip;
                let mut line = verifier(size, start, fill.clone());
                let (mut offset, mut told) = (0, Vec::new());
                for cut in &cuts {
                    told.extend(line.stream(offset as u64, &bytes[offset..offset + cut]));
                    offset += cut;
                }
                prop_assert_eq!(told.iter().map(|first| first.offset).collect::<Vec<_>>(), vec![at as u64; flip.into()]);
                let seen = line.seen();
                prop_assert_eq!((seen.verified_bytes, seen.wrong_bytes), (whole as u64 - u64::from(flip), flip.into()));
            }
        }
    }
}
