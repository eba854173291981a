//! The HTTP/2 frames that come on a connection, counted: whoever sends nothing but pings, settings and the like, each of which wants an
//! answer, would keep a core busy for ever and never reach a limit. RFC 9113, section 10.5.

use std::time::{Duration, Instant};

/// Frames that ask for nothing, in so short a time: an honest client sends one in seconds, or one for each piece of an answer that it has read.
const IDLE_FRAMES: u64 = 1_000;
const IDLE_TIME: Duration = Duration::from_secs(1);

/// What a connection begins with, before its first frame. RFC 9113, section 3.4.
const PREFACE: usize = 24;
const HEAD: usize = 9;

/// Frame types and a flag. RFC 9113, section 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;

/// What has come and gone since the last look.
#[derive(Debug)]
pub(super) struct Frames {
    /// The head of the next frame, as far as it has come.
    head: [u8; HEAD],
    has: usize,
    /// Bytes to come before the next head.
    skip: usize,
    calling: u64,
    idle: u64,
    /// Bytes of the answers to idle frames.
    answers: u64,
    written: u64,
    since: Instant,
}

impl Frames {
    pub(super) fn new(now: Instant) -> Self {
        Self { head: [0; HEAD], has: 0, skip: PREFACE, calling: 0, idle: 0, answers: 0, written: 0, since: now }
    }

    /// Notes what was sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.written += bytes as u64;
    }

    /// Notes what has come, and tells whether it is one frame too many.
    pub(super) fn are_too_many(&mut self, mut came: &[u8], now: impl FnOnce() -> Instant) -> bool {
        loop {
            let skipped = self.skip.min(came.len());
            self.skip -= skipped;
            came = &came[skipped..];
            let size = came.len().min(HEAD - self.has);
            if size == 0 {
                break;
            }
            self.head[self.has..self.has + size].copy_from_slice(&came[..size]);
            self.has += size;
            came = &came[size..];
            if self.has == HEAD {
                self.begins();
            }
        }
        self.idle >= IDLE_FRAMES && self.looked_at(now())
    }

    /// Counts the frame whose head has come.
    fn begins(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.head;
        self.has = 0;
        self.skip = u32::from_be_bytes([0, high, middle, low]) as usize;
        match kind {
            DATA | HEADERS | CONTINUATION => return self.calling += 1,
            PING if flags & ACK == 0 => self.answers += (HEAD + 8) as u64,
            SETTINGS if flags & ACK == 0 => self.answers += HEAD as u64,
            _ => {}
        }
        self.idle += 1;
    }

    /// Looks at the frames since the last time, and begins anew.
    fn looked_at(&mut self, now: Instant) -> bool {
        // Whoever reads a long answer tells of each piece that there is room for more, and may send a ping with it.
        let pieces = self.written.saturating_sub(self.answers) / HEAD as u64;
        let asked_for = self.calling + pieces;
        let too_many = self.idle > asked_for && now.duration_since(self.since) < IDLE_TIME;
        *self = Self { calling: 0, idle: 0, answers: 0, written: 0, since: now, ..*self };
        too_many
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const WINDOW_UPDATE: u8 = 8;

    fn frame(kind: u8, size: usize) -> Vec<u8> {
        let [_, high, middle, low] = u32::try_from(size).unwrap().to_be_bytes();
        let mut frame = vec![high, middle, low, kind, 0, 0, 0, 0, 1];
        // A payload that looks like heads of pings.
        frame.extend([0, 0, 0, PING, 0, 0, 0, 0, 0].iter().cycle().take(size));
        frame
    }

    /// A connection that has sent its preface and nothing else.
    fn greeted(now: Instant) -> Frames {
        let mut frames = Frames::new(now);
        assert!(!frames.are_too_many(&[b'P'; PREFACE], || now));
        frames
    }

    #[test]
    fn pings_and_settings_alone_are_too_many_when_they_come_fast() {
        for (kind, size) in [(PING, 8), (SETTINGS, 6), (SETTINGS, 0), (200, 0)] {
            let now = Instant::now();
            let (mut frames, one) = (greeted(now), frame(kind, size));
            let mut count = 0;
            while !frames.are_too_many(&one, || now + IDLE_TIME / 2) {
                count += 1;
                frames.sent(if kind == SETTINGS { HEAD } else { HEAD + size });
                assert!(count < 2 * IDLE_FRAMES, "{kind}");
            }
        }
    }

    #[test]
    fn as_many_in_more_time_are_not() {
        let start = Instant::now();
        let (mut frames, ping) = (greeted(start), frame(PING, 8));
        for count in 0..10 * u32::try_from(IDLE_FRAMES).unwrap() {
            frames.sent(ping.len());
            assert!(!frames.are_too_many(&ping, || start + count * (IDLE_TIME * 11 / 10_000)));
        }
    }

    #[test]
    fn who_reads_or_sends_much_may_say_so_with_each_piece() {
        let now = Instant::now();
        let (mut reads, mut sends) = (greeted(now), greeted(now));
        for _ in 0..10 * IDLE_FRAMES {
            // A small piece of an answer, a ping that measures the way, its answer, and room for more.
            reads.sent(HEAD + 5 + HEAD + 8);
            reads.sent(HEAD + 5);
            assert!(!reads.are_too_many(&frame(PING, 8), || now));
            assert!(!reads.are_too_many(&frame(WINDOW_UPDATE, 4), || now));
            assert!(!sends.are_too_many(&frame(HEADERS, 30), || now));
            assert!(!sends.are_too_many(&frame(DATA, 100), || now));
            assert!(!sends.are_too_many(&frame(SETTINGS, 0), || now));
        }
    }

    proptest! {
        #[test]
        fn however_the_bytes_are_cut_the_frames_are_the_same(
            kinds in vec((0_u8..12, 0_usize..40), 0..50),
            cuts in vec(1_usize..70, 1..20),
        ) {
            let now = Instant::now();
            let mut frames = Frames::new(now);
            let mut bytes = vec![b'P'; PREFACE];
            bytes.extend(kinds.iter().flat_map(|&(kind, size)| frame(kind, size)));
            let (mut rest, mut sizes) = (&bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                prop_assert!(!frames.are_too_many(piece, || now));
                rest = after;
            }
            let calling = kinds.iter().filter(|(kind, _)| [DATA, HEADERS, CONTINUATION].contains(kind)).count() as u64;
            prop_assert_eq!((frames.calling, frames.idle), (calling, kinds.len() as u64 - calling));
            prop_assert_eq!((frames.has, frames.skip), (0, 0));
        }
    }
}
