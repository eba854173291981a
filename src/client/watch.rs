//! A stream of events, as a client reads it: it comes back by itself when the connection breaks, and goes on where it was.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Streaming;

use crate::client::acks::{Acks, Holder};
use crate::client::agent_client::EventsClient;
use crate::client::error::ClientError;
use crate::client::place::{Backoff, Place, Question, Verdict};
use crate::model::event::{Event, EventRecord, Gap};
use crate::model::id::{InstanceId, SessionId, WatcherId};
use crate::wire::outgoing::data_view;
use crate::wire::pb;
use crate::wire::pb::watch_events_response::Frame;
use crate::wire::watch::read;

/// What a watch brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchItem {
    /// Events, and the number through which everything has been told. Of those whose kind this version does not know, the name of the kind is told.
    Events {
        /// The events.
        records: Vec<EventRecord>,
        /// What to come back with.
        through_seq: u64,
    },
    /// Events that are missing.
    Gap(Gap),
    /// Nothing happened, and everything through this number has been told.
    Quiet {
        /// The newest number.
        head_seq: u64,
    },
    /// The connection is lost. The watch comes back by itself and goes on where it was; whoever has waited long enough drops it.
    Interrupted {
        /// Why.
        error: ClientError,
        /// How long it waits before it tries.
        pause: Duration,
    },
    /// The agent is another instance than before: all sockets are gone, and numbers begin anew.
    Restarted,
}

/// A stream of events: in order, each once, without holes or with gaps that say so, whatever happens to the connection.
pub struct Watch {
    events: EventsClient,
    session: SessionId,
    /// Who acknowledges what has been taken, where the watch has a name.
    holding: Option<(Holder, Acks)>,
    place: Place,
    backoff: Backoff,
    link: Link,
}

type Opening = Pin<Box<dyn Future<Output = Result<Opened, ClientError>> + Send>>;

/// How the watch is tied to the agent. What was begun is kept, so that nothing is lost when a reader stops waiting.
enum Link {
    Open(Box<Streaming<pb::WatchEventsResponse>>),
    Opening(Opening),
    Pausing(Pin<Box<Sleep>>),
    Ended,
}

/// A stream that has begun.
struct Opened {
    frames: Streaming<pb::WatchEventsResponse>,
    instance: InstanceId,
    oldest_seq: u64,
    head_seq: u64,
}

impl Watch {
    /// Begins to read; answers when the agent has said that the stream is open.
    pub(super) async fn open(
        events: EventsClient,
        session: SessionId,
        holder: Option<Holder>,
    ) -> Result<Self, ClientError> {
        let mut place = if holder.is_some() { Place::of_name() } else { Place::default() };
        let watcher = holder.as_ref().map(|holder| holder.watcher.clone());
        let opened = open(events.clone(), session.clone(), watcher, place.question()).await?;
        let holding = holder.map(|holder| (holder.clone(), Acks::start(holder)));
        let mut watch = Self { events, session, holding, place, backoff: Backoff::default(), link: Link::Ended };
        watch.begin(opened);
        Ok(watch)
    }

    /// The same watch, which comes back with other pauses.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// What comes next; nothing when the agent has ended the stream because the session has ended. An error is the end, too: coming back
    /// would not help. Nothing is lost when this is cancelled.
    ///
    /// Asking for the next item says that the one before has been taken: where the watch has a name, the agent may let go of it.
    pub async fn next(&mut self) -> Result<Option<WatchItem>, ClientError> {
        if let (Some((_, acks)), Some(through)) = (&self.holding, self.place.told()) {
            acks.taken(through);
        }
        loop {
            match &mut self.link {
                Link::Ended => return Ok(None),
                Link::Pausing(pause) => {
                    pause.as_mut().await;
                    self.come_back();
                }
                Link::Opening(opening) => match opening.as_mut().await {
                    Ok(opened) => self.begin(opened),
                    Err(error) => return self.end(Some(error)),
                },
                Link::Open(frames) => match frames.message().await {
                    // An agent that is newer may say more than is understood here. If it stood for events, the next frame leaves a hole.
                    Ok(Some(pb::WatchEventsResponse { frame: None })) => {}
                    Ok(Some(pb::WatchEventsResponse { frame: Some(frame) })) => return self.take_up(frame).map(Some),
                    Ok(None) => return self.end(None),
                    Err(status) => return self.end(Some(status.into())),
                },
            }
        }
    }

    fn take_up(&mut self, frame: Frame) -> Result<WatchItem, ClientError> {
        let item = match frame {
            Frame::Batch(batch) => {
                self.tell(batch.from_seq, batch.through_seq)?;
                let through_seq = batch.through_seq;
                let records = read(batch).ok_or_else(|| ClientError::protocol("a batch of events does not add up"))?;
                if records.iter().any(|record| matches!(record.event, Event::AgentDraining { .. })) {
                    self.place.drains();
                }
                WatchItem::Events { records, through_seq }
            }
            Frame::Gap(gap) => {
                self.tell(gap.first_seq, gap.last_seq)?;
                WatchItem::Gap(Gap { first: gap.first_seq, last: gap.last_seq, payload_bytes: gap.payload_bytes })
            }
            Frame::Heartbeat(heartbeat) => WatchItem::Quiet { head_seq: heartbeat.head_seq },
            Frame::Opened(_) | Frame::Snapshot(_) => return Err(self.fail("a watch began twice")),
        };
        Ok(item)
    }

    /// Makes sure that nothing is missing between two frames, without trusting the agent for it.
    fn tell(&mut self, first: u64, last: u64) -> Result<(), ClientError> {
        if self.place.tell(first, last) { Ok(()) } else { Err(self.fail("a watch has left a hole")) }
    }

    fn fail(&mut self, what: &str) -> ClientError {
        self.link = Link::Ended;
        ClientError::protocol(what)
    }

    // === Leaving and coming back ===

    fn begin(&mut self, opened: Opened) {
        self.place.opened(opened.instance, opened.oldest_seq, opened.head_seq);
        self.link = Link::Open(Box::new(opened.frames));
    }

    fn come_back(&mut self) {
        let watcher = self.holding.as_ref().map(|(holder, _)| holder.watcher.clone());
        let opening = open(self.events.clone(), self.session.clone(), watcher, self.place.question());
        self.link = Link::Opening(Box::pin(opening));
    }

    fn end(&mut self, error: Option<ClientError>) -> Result<Option<WatchItem>, ClientError> {
        let verdict = self.place.ended(error.as_ref(), self.backoff, chance());
        let stopped =
            || ClientError::Unreachable { message: "the agent has stopped".to_owned(), nobody: false, sent: false };
        match verdict {
            Verdict::Again(pause) => {
                self.link = Link::Pausing(Box::pin(sleep_until(Instant::now() + pause)));
                Ok(Some(WatchItem::Interrupted { error: error.unwrap_or_else(stopped), pause }))
            }
            Verdict::Anew => {
                // Numbers that were taken before mean others now.
                self.holding = self.holding.take().map(|(holder, _)| (holder.clone(), Acks::start(holder)));
                self.come_back();
                Ok(Some(WatchItem::Restarted))
            }
            Verdict::Over | Verdict::Fail => {
                self.link = Link::Ended;
                error.map_or(Ok(None), Err)
            }
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("session", &self.session).field("place", &self.place).finish_non_exhaustive()
    }
}

async fn open(
    mut events: EventsClient,
    session: SessionId,
    watcher: Option<WatcherId>,
    asked: Question,
) -> Result<Opened, ClientError> {
    let request = pb::WatchEventsRequest {
        session_id: session.to_string(),
        watcher_id: watcher.as_ref().map(ToString::to_string).unwrap_or_default(),
        after_event_seq: asked.after,
        instance_id: asked.instance.as_ref().map(ToString::to_string).unwrap_or_default(),
        view: Some(data_view()),
        pack_datagrams: true,
        ..pb::WatchEventsRequest::default()
    };
    let mut frames = events.watch_events(request).await?.into_inner();
    let Some(pb::WatchEventsResponse { frame: Some(Frame::Opened(opened)) }) = frames.message().await? else {
        return Err(ClientError::protocol("a watch did not begin as it should"));
    };
    let instance = InstanceId::parse(&opened.instance_id);
    let instance = instance.map_err(|_| ClientError::protocol("an agent does not say who it is"))?;
    Ok(Opened { frames, instance, oldest_seq: opened.oldest_seq, head_seq: opened.head_seq })
}

/// Where there is no chance, there is a middle.
pub(super) fn chance() -> u8 {
    let mut byte = [u8::MAX / 2];
    let _ = getrandom::fill(&mut byte);
    byte[0]
}
