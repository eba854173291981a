//! What ties a stream to a driver: frames wait here until the client's connection takes them, and both sides learn when the other is gone.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use futures_util::stream::Stream;

use crate::model::operation::Outcome;
use crate::model::refusal::Refusal;
use crate::model::transfer::{FromAgent, FromClient};
use crate::socket::cell::lock;

/// How many bytes wait for the client's connection before the driver reads no more.
const ROOM: usize = 256 * 1024;

/// What comes from the client.
#[derive(Debug)]
pub enum Arriving {
    /// A frame.
    Frame(FromClient),
    /// Something that no client may send. Nothing comes after it.
    Invalid(Refusal),
    /// The client has cancelled the stream, or its connection is gone. Nothing comes after it.
    Gone,
}

/// The frames of the client. The end means that it sends no more, and still reads.
pub type Inflow = Pin<Box<dyn Stream<Item = Arriving> + Send>>;

/// What goes to the client.
#[derive(Debug)]
pub enum Leaving {
    /// A frame.
    Frame(FromAgent),
    /// The agent does not do it. Nothing comes after it.
    Refused(Refusal),
    /// The connection could not be made, and the client wants that as a failure. Nothing comes after it.
    Failed(Arc<Outcome>),
}

/// Where frames for the client are put. Dropping the last of its clones ends the stream.
pub struct Outlet(Arc<Mutex<Queue>>);

/// The frames for the client. Dropping it says that the client is gone.
pub struct Outflow(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    frames: VecDeque<Leaving>,
    /// Bytes of the frames that wait.
    bytes: usize,
    /// How many outlets there are. Without one, nothing comes after what waits.
    outlets: usize,
    /// Nobody takes anything any more.
    gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// How an outlet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// Nobody takes anything any more.
    pub(super) gone: bool,
    /// More bytes may be put in.
    pub(super) room: bool,
}

/// A way for frames to the client.
pub fn link() -> (Outlet, Outflow) {
    let queue = Arc::new(Mutex::new(Queue { outlets: 1, ..Queue::default() }));
    (Outlet(Arc::clone(&queue)), Outflow(queue))
}

impl Outlet {
    /// Puts a frame in. Bytes only when there is room, the rest always: of that there is little.
    pub fn push(&self, leaving: Leaving) {
        let mut queue = lock(&self.0);
        queue.bytes += size(&leaving);
        queue.frames.push_back(leaving);
        wake(&mut queue.reader);
    }

    /// Waits until nobody takes anything any more.
    pub async fn gone(&self) {
        poll_fn(|cx| if self.poll(cx).gone { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// How it is, and lets this task know when that changes.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Standing {
        let mut queue = lock(&self.0);
        if !queue.writer.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            queue.writer = Some(cx.waker().clone());
        }
        queue.standing()
    }

    /// How it is.
    pub(super) fn standing(&self) -> Standing {
        lock(&self.0).standing()
    }

    /// How many bytes nobody has taken yet.
    pub(super) fn waiting_bytes(&self) -> usize {
        lock(&self.0).bytes
    }
}

impl Queue {
    fn standing(&self) -> Standing {
        Standing { gone: self.gone, room: self.bytes < ROOM }
    }
}

impl Clone for Outlet {
    fn clone(&self) -> Self {
        lock(&self.0).outlets += 1;
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        let mut queue = lock(&self.0);
        queue.outlets -= 1;
        if queue.outlets == 0 {
            queue.writer = None;
            wake(&mut queue.reader);
        }
    }
}

impl Drop for Outflow {
    fn drop(&mut self) {
        let mut queue = lock(&self.0);
        queue.gone = true;
        queue.reader = None;
        wake(&mut queue.writer);
    }
}

impl Stream for Outflow {
    type Item = Leaving;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Leaving>> {
        let mut queue = lock(&self.0);
        match queue.frames.pop_front() {
            Some(leaving) => {
                let was_full = !queue.standing().room;
                queue.bytes -= size(&leaving);
                if was_full && queue.standing().room {
                    wake(&mut queue.writer);
                }
                Poll::Ready(Some(leaving))
            }
            None if queue.outlets == 0 => Poll::Ready(None),
            None => {
                queue.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

fn size(leaving: &Leaving) -> usize {
    match leaving {
        Leaving::Frame(FromAgent::Data(bytes)) => bytes.len(),
        _ => 0,
    }
}
