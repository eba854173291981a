//! Requests that must come whole: who sends half a message, or never ends its stream, would have his call wait for ever.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::wire::status;

type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request that is one message. When it has not ended in time, it ends with the status that says so.
pub(super) struct Whole<B> {
    body: B,
    limit: Duration,
    /// When it has to have ended. Most are there before anybody asks for them, and need none.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<B> Whole<B> {
    /// The time begins when there is something to wait for.
    pub(super) fn within(limit: Duration, body: B) -> Self {
        Self { body, limit, deadline: None }
    }
}

impl<B> Body for Whole<B>
where
    B: Body<Data = Bytes, Error: Into<BodyError>> + Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let deadline = this.deadline.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + this.limit)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Some(Err(status::unfinished(this.limit).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
