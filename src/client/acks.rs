//! Acknowledgements of a named watcher. They are sent beside its stream, and never hold it up.
//!
//! Invariant: what is acknowledged has been taken. The other way round there is no hurry: the agent keeps what it has not heard of.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use crate::client::agent_client::EventsClient;
use crate::client::error::ClientError;
use crate::client::place::Backoff;
use crate::client::watch::chance;
use crate::model::id::{SessionId, WatcherId};
use crate::wire::pb;

/// The pause after an acknowledgement. What is taken meanwhile goes with the next one.
const PAUSE: Duration = Duration::from_millis(20);

/// Who acknowledges, and where.
#[derive(Clone)]
pub(super) struct Holder {
    /// By another connection than the events: a flood of them must not hold up what ends it.
    pub(super) calls: EventsClient,
    pub(super) session: SessionId,
    pub(super) watcher: WatcherId,
}

/// Acknowledges what has been taken, for as long as it lives.
pub(super) struct Acks {
    taken: watch::Sender<u64>,
    _task: AbortOnDropHandle<()>,
}

impl Acks {
    pub(super) fn start(holder: Holder) -> Self {
        let (taken, news) = watch::channel(0);
        Self { taken, _task: AbortOnDropHandle::new(tokio::spawn(acknowledge(holder, news))) }
    }

    /// Everything through this number has been taken.
    pub(super) fn taken(&self, through: u64) {
        self.taken.send_if_modified(|known| {
            let more = through > *known;
            *known = through.max(*known);
            more
        });
    }
}

/// One at a time: each says all that there is to say.
async fn acknowledge(mut holder: Holder, mut taken: watch::Receiver<u64>) {
    let mut failures = 0;
    while taken.changed().await.is_ok() {
        let request = pb::AckEventsRequest {
            session_id: holder.session.to_string(),
            watcher_id: holder.watcher.to_string(),
            through_event_seq: *taken.borrow_and_update(),
        };
        let answer = holder.calls.ack_events(request).await.map_err(ClientError::from);
        failures = match answer {
            // What the agent refuses, the stream is told as well; the next one may be right again.
            Ok(_) | Err(ClientError::Refused { .. }) => 0,
            Err(_) => {
                taken.mark_changed();
                failures + 1
            }
        };
        sleep_until(Instant::now() + PAUSE + Backoff::default().pause(failures, chance())).await;
    }
}
