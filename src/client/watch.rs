//! A stream of events, as a client reads it.

use tonic::Streaming;

use crate::client::error::ClientError;
use crate::model::event::{EventRecord, Gap};
use crate::wire::pb::watch_events_response::Frame;
use crate::wire::{event, pb};

/// What a watch brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchItem {
    /// Events, and the number through which everything has been told. Events of kinds that this version does not know are left out.
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
}

/// A stream of events, in order, without holes or with gaps that say so.
pub struct Watch {
    frames: Streaming<pb::WatchEventsResponse>,
    told: Option<u64>,
}

impl Watch {
    /// Begins to read; answers when the agent has said that the stream is open.
    pub(super) async fn open(frames: Streaming<pb::WatchEventsResponse>) -> Result<Self, ClientError> {
        let mut watch = Self { frames, told: None };
        match watch.frame().await? {
            Some(Frame::Opened(_)) => Ok(watch),
            _ => Err(ClientError::protocol("a watch did not begin as it should")),
        }
    }

    /// What comes next; nothing when the agent has ended the stream.
    pub async fn next(&mut self) -> Result<Option<WatchItem>, ClientError> {
        let item = match self.frame().await? {
            None => return Ok(None),
            Some(Frame::Batch(batch)) => {
                self.follow(batch.from_seq, batch.through_seq)?;
                let records = batch.events.into_iter().filter_map(event::read).collect();
                WatchItem::Events { records, through_seq: batch.through_seq }
            }
            Some(Frame::Gap(gap)) => {
                self.follow(gap.first_seq, gap.last_seq)?;
                WatchItem::Gap(Gap { first: gap.first_seq, last: gap.last_seq, payload_bytes: gap.payload_bytes })
            }
            Some(Frame::Heartbeat(heartbeat)) => WatchItem::Quiet { head_seq: heartbeat.head_seq },
            Some(Frame::Opened(_) | Frame::Snapshot(_)) => return Err(ClientError::protocol("a watch began twice")),
        };
        Ok(Some(item))
    }

    /// Makes sure that nothing is missing between two frames, without trusting the agent for it.
    fn follow(&mut self, from: u64, through: u64) -> Result<(), ClientError> {
        if self.told.is_some_and(|told| from != told + 1) || through < from {
            return Err(ClientError::protocol("a watch has left a hole"));
        }
        self.told = Some(through);
        Ok(())
    }

    async fn frame(&mut self) -> Result<Option<Frame>, ClientError> {
        match self.frames.message().await? {
            None => Ok(None),
            Some(pb::WatchEventsResponse { frame: Some(frame) }) => Ok(Some(frame)),
            Some(_) => Err(ClientError::protocol("a frame of a watch is of a kind that is not known here")),
        }
    }
}
