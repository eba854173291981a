//! What a client has to say on a TransferSocket stream: it waits here until the connection takes it.
//!
//! Invariants: nothing is sent that [`Transfer`] does not allow at that moment; bytes leave in the order in which they came, each once; no
//! more of them wait than [`ROOM`] and the agent's credit let in. Small pieces are joined while the connection is busy, and leave at once
//! when it is not.

use std::collections::VecDeque;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use futures_util::stream::Stream;

use crate::model::transfer::{DATA_SIZE, Frame, FromAgent, FromClient, Mistake, Side, Transfer, Verdict};
use crate::wire::pb;

/// How many bytes wait for the connection before a writer must wait, whatever the agent has granted.
const ROOM: usize = 2 * PIECE;

/// The most bytes of one frame.
const PIECE: usize = 256 * 1024;
const _: () = assert!(PIECE as u64 == DATA_SIZE);

/// Where a stream puts what it has to say. Dropping it ends the requests once all has been taken.
pub(super) struct Outlet(Arc<Mutex<Unsent>>);

/// What the connection takes.
pub(super) struct Outflow(Arc<Mutex<Unsent>>);

/// What has not been sent, and what may be.
#[derive(Debug)]
struct Unsent {
    transfer: Transfer,
    /// The first frame, which is no other like it.
    first: Option<pb::TransferSocketRequest>,
    /// Credit for the agent.
    grant: u64,
    /// Bytes for the peer. Those in `tail` come last, and more may join them.
    pieces: VecDeque<Bytes>,
    tail: BytesMut,
    size: usize,
    end: Asked,
    abort: Asked,
    /// No more will be put in.
    finished: bool,
    /// Nobody takes anything any more.
    gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// How far something has come that is sent once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Asked {
    #[default]
    No,
    Waiting,
    Sent,
}

/// Why nothing more is taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shut {
    /// This direction was ended from here.
    Ended,
    /// Nobody takes anything any more.
    Gone,
}

/// A way for frames to an agent, which begins with this one.
pub(super) fn link(first: pb::TransferSocketRequest) -> (Outlet, Outflow) {
    let unsent = Arc::new(Mutex::new(Unsent::new(first)));
    (Outlet(Arc::clone(&unsent)), Outflow(unsent))
}

impl Outlet {
    /// A frame of the agent's has come.
    pub(super) fn hear(&self, frame: &FromAgent) -> Result<Verdict, Mistake> {
        self.unsent().hear(frame.frame())
    }

    /// Grants the agent more.
    pub(super) fn grant(&self, size: u64) {
        self.tell(|unsent| unsent.grant(size));
    }

    /// How many bytes may be put in now, and lets this task know when it is more than none because others were taken.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Result<usize, Shut> {
        let mut unsent = self.unsent();
        let room = unsent.room()?;
        if room == 0 {
            unsent.writer = Some(cx.waker().clone());
        }
        Ok(room)
    }

    /// Puts a copy of bytes in, for which there must be room.
    pub(super) fn copy(&self, bytes: &[u8]) {
        self.tell(|unsent| unsent.copy(bytes));
    }

    /// Puts bytes in as they are, for which there must be room.
    pub(super) fn put(&self, bytes: Bytes) {
        self.tell(|unsent| unsent.put(bytes));
    }

    /// Sends a FIN after all that was put in.
    pub(super) fn end(&self) {
        self.tell(Unsent::end);
    }

    /// Sends a RST instead of all that was put in.
    pub(super) fn abort(&self) {
        self.tell(Unsent::abort);
    }

    /// Waits until the connection has taken all bytes, and the FIN if there is one.
    pub(super) fn poll_taken(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut unsent = self.unsent();
        if unsent.size == 0 && unsent.end != Asked::Waiting {
            return Poll::Ready(());
        }
        unsent.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether this side has sent, or got, the end of a direction.
    pub(super) fn has_ended(&self, side: Side) -> bool {
        let unsent = self.unsent();
        unsent.transfer.has_ended(side) || (side == Side::Client && unsent.end == Asked::Waiting)
    }

    /// Changes what there is to say, and lets the connection know.
    fn tell(&self, what: impl FnOnce(&mut Unsent)) {
        let mut unsent = self.unsent();
        what(&mut unsent);
        wake(&mut unsent.reader);
    }

    fn unsent(&self) -> MutexGuard<'_, Unsent> {
        lock(&self.0)
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        let mut unsent = self.unsent();
        unsent.finished = true;
        unsent.writer = None;
        wake(&mut unsent.reader);
    }
}

impl Stream for Outflow {
    type Item = pb::TransferSocketRequest;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut unsent = lock(&self.0);
        if let Some(first) = unsent.first.take() {
            // It was asked for by whoever made it, and so it is in order.
            let _ = unsent.transfer.send(Frame::Open);
            return Poll::Ready(Some(first));
        }
        match unsent.next() {
            Some(frame) => {
                wake(&mut unsent.writer);
                Poll::Ready(Some(frame.into()))
            }
            None if unsent.finished => Poll::Ready(None),
            None => {
                unsent.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Outflow {
    fn drop(&mut self) {
        let mut unsent = lock(&self.0);
        unsent.gone = true;
        unsent.reader = None;
        wake(&mut unsent.writer);
    }
}

impl Unsent {
    fn new(first: pb::TransferSocketRequest) -> Self {
        Self {
            transfer: Transfer::new(Side::Client),
            first: Some(first),
            grant: 0,
            pieces: VecDeque::new(),
            tail: BytesMut::new(),
            size: 0,
            end: Asked::No,
            abort: Asked::No,
            finished: false,
            gone: false,
            reader: None,
            writer: None,
        }
    }

    fn hear(&mut self, frame: Frame) -> Result<Verdict, Mistake> {
        let verdict = self.transfer.receive(frame)?;
        match frame {
            // What comes too late now must not be sent.
            Frame::Error => self.discard(),
            Frame::Closed => {
                self.discard();
                (self.grant, self.end, self.abort) = (0, Asked::No, Asked::No);
            }
            Frame::End => self.grant = 0,
            _ => {}
        }
        Ok(verdict)
    }

    fn room(&self) -> Result<usize, Shut> {
        if self.end != Asked::No || self.abort != Asked::No {
            return Err(Shut::Ended);
        }
        if self.gone {
            return Err(Shut::Gone);
        }
        let credit = usize::try_from(self.transfer.credit()).unwrap_or(usize::MAX);
        Ok(credit.min(ROOM).saturating_sub(self.size))
    }

    /// There is nobody left to tell anything but what is on its way already.
    fn is_over(&self) -> bool {
        self.abort != Asked::No || self.transfer.is_closed()
    }

    fn grant(&mut self, size: u64) {
        if !self.is_over() && !self.transfer.has_ended(Side::Agent) {
            self.grant += size;
        }
    }

    fn end(&mut self) {
        if !self.is_over() && self.end == Asked::No {
            self.end = Asked::Waiting;
        }
    }

    fn abort(&mut self) {
        if !self.is_over() {
            self.discard();
            (self.grant, self.end, self.abort) = (0, Asked::No, Asked::Waiting);
        }
    }

    fn copy(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.size += bytes.len();
    }

    fn put(&mut self, bytes: Bytes) {
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
        self.size += bytes.len();
        self.pieces.push_back(bytes);
    }

    fn discard(&mut self) {
        self.pieces.clear();
        self.tail.clear();
        self.size = 0;
    }

    /// What goes out next. A grant goes first: somebody waits for it.
    fn next(&mut self) -> Option<FromClient> {
        let frame = if self.abort == Asked::Waiting {
            self.abort = Asked::Sent;
            FromClient::Abort
        } else if self.grant > 0 {
            FromClient::Window(mem::take(&mut self.grant))
        } else if let Some(bytes) = self.next_piece() {
            FromClient::Data(bytes)
        } else if self.end == Asked::Waiting {
            self.end = Asked::Sent;
            FromClient::End
        } else {
            return None;
        };
        let allowed = self.transfer.send(frame.frame());
        debug_assert_eq!(allowed, Ok(()), "{frame:?}");
        allowed.is_ok().then_some(frame)
    }

    /// As many of the waiting bytes as a frame may have and lie together.
    fn next_piece(&mut self) -> Option<Bytes> {
        let piece = match self.pieces.front_mut() {
            Some(front) if front.len() > PIECE => front.split_to(PIECE),
            Some(_) => self.pieces.pop_front()?,
            None if self.tail.is_empty() => return None,
            None => {
                let size = self.tail.len().min(PIECE);
                self.tail.split_to(size).freeze()
            }
        };
        self.size -= piece.len();
        Some(piece)
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

fn lock(unsent: &Mutex<Unsent>) -> MutexGuard<'_, Unsent> {
    unsent.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What somebody does with a stream, or what becomes of it.
    #[derive(Debug, Clone)]
    enum Step {
        Copy(usize),
        Put(usize),
        Grant(u64),
        End,
        Abort,
        Take,
        Hear(Frame),
    }

    fn step() -> impl Strategy<Value = Step> {
        let size = prop_oneof![1..40_usize, Just(300_000), Just(700_000)];
        let credit = prop_oneof![1..100_u64, Just(262_144), Just(1 << 40)];
        prop_oneof![
            4 => size.clone().prop_map(Step::Copy),
            4 => size.prop_map(Step::Put),
            2 => (1..100_u64).prop_map(Step::Grant),
            10 => Just(Step::Take),
            4 => credit.prop_map(|size| Step::Hear(Frame::Window { size })),
            2 => (1..50_u64).prop_map(|size| Step::Hear(Frame::Data { size })),
            1 => Just(Step::End),
            1 => Just(Step::Abort),
            1 => Just(Step::Hear(Frame::End)),
            1 => Just(Step::Hear(Frame::Error)),
            1 => Just(Step::Hear(Frame::Closed)),
        ]
    }

    proptest! {
        /// Whatever is put in and whatever comes meanwhile, the agent's own machine finds no mistake in what goes out, and the bytes are those
        /// that were put in, from the first one on, without a hole.
        #[test]
        fn what_goes_out_is_in_order_and_allowed(steps in prop::collection::vec(step(), 0..120)) {
            let mut unsent = Unsent::new(pb::TransferSocketRequest::default());
            let mut agent = Transfer::new(Side::Agent);
            unsent.transfer.send(Frame::Open).unwrap();
            agent.receive(Frame::Open).unwrap();
            agent.send(Frame::Opened { window: 100 }).unwrap();
            unsent.hear(Frame::Opened { window: 100 }).unwrap();
            let (mut put, mut taken) = (0_usize, 0_usize);
            let bytes = |from: usize, size: usize| (from..from + size).map(|at| u8::try_from(at % 251).unwrap()).collect::<Vec<u8>>();
            for step in steps {
                match step {
                    Step::Copy(size) | Step::Put(size) => {
                        let size = size.min(unsent.room().unwrap_or(0));
                        let more = bytes(put, size);
                        put += size;
                        if matches!(step, Step::Copy(_)) { unsent.copy(&more) } else if size > 0 { unsent.put(more.into()) }
                    }
                    Step::Grant(size) => unsent.grant(size),
                    Step::End => unsent.end(),
                    Step::Abort => unsent.abort(),
                    Step::Take => {
                        let Some(frame) = unsent.next() else { continue };
                        prop_assert!(agent.receive(frame.frame()).is_ok(), "{:?}", frame.frame());
                        if let FromClient::Data(piece) = frame {
                            prop_assert_eq!(&piece[..], &bytes(taken, piece.len())[..]);
                            taken += piece.len();
                        }
                    }
                    Step::Hear(frame) if agent.send(frame).is_ok() => {
                        unsent.hear(frame).unwrap();
                    }
                    Step::Hear(_) => {}
                }
                prop_assert!(unsent.size <= ROOM);
                prop_assert_eq!(unsent.size, unsent.pieces.iter().map(Bytes::len).sum::<usize>() + unsent.tail.len());
                prop_assert!(taken + unsent.size <= put);
            }
        }
    }

    #[test]
    fn small_pieces_are_joined_while_they_wait_and_large_ones_divided() {
        let mut unsent = Unsent::new(pb::TransferSocketRequest::default());
        unsent.transfer.send(Frame::Open).unwrap();
        unsent.hear(Frame::Opened { window: 1 << 20 }).unwrap();
        for piece in ["ho", "la", "\r\n"] {
            unsent.copy(piece.as_bytes());
        }
        unsent.put(Bytes::from(vec![7; 300_000]));
        unsent.copy(b"adios");
        unsent.end();
        let sizes = std::iter::from_fn(|| unsent.next()).map(|frame| frame.frame()).collect::<Vec<_>>();
        let data = |size| Frame::Data { size };
        assert_eq!(sizes, [data(6), data(DATA_SIZE), data(300_000 - DATA_SIZE), data(5), Frame::End]);
    }
}
