//! What is written down of a TransferSocket: how it has ended, and how many bytes have gone each way. That is known when the last of what
//! belongs to it is gone, and written then.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::audit::{Detail, Ended};
use crate::model::errno::Errno;
use crate::model::refusal::Refusal;
use crate::model::transfer::{FromAgent, FromClient};
use crate::service::audit::Entry;
use crate::socket::Leaving;

/// One for each stream: both of its directions hold it.
pub(super) struct Tally {
    to_client: AtomicU64,
    from_client: AtomicU64,
    end: Mutex<End>,
}

struct End {
    /// Absent where nothing is written down, or nothing was begun.
    entry: Option<Entry>,
    ended: Ended,
    /// All was told to the client.
    over: bool,
}

impl Default for Tally {
    fn default() -> Self {
        let end = End { entry: None, ended: Ended::done(Vec::new()), over: false };
        Self { to_client: AtomicU64::new(0), from_client: AtomicU64::new(0), end: Mutex::new(end) }
    }
}

impl Tally {
    /// It was written down that it begins.
    pub(super) fn begins(&self, entry: Option<Entry>) {
        self.end().entry = entry;
    }

    /// Something of its end is known. Of several reasons why it has not ended well the first one counts.
    pub(super) fn ends(&self, how: Ended) {
        let ended = &mut self.end().ended;
        if ended.outcome != "done" && how.outcome != "done" {
            return;
        }
        if how.outcome != "done" {
            ended.outcome = how.outcome;
        }
        ended.details.extend(how.details);
    }

    /// It is refused.
    pub(super) fn is_refused(&self, refusal: &Refusal) {
        self.ends(Ended::refused(refusal));
    }

    /// Counts what comes from the client.
    pub(super) fn comes(&self, frame: &FromClient) {
        if let FromClient::Data(bytes) = frame {
            self.from_client.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
    }

    /// Counts what goes to the client, and notes what that says of the end.
    pub(super) fn leaves(&self, leaving: &Leaving) {
        match leaving {
            Leaving::Frame(FromAgent::Data(bytes)) => {
                self.to_client.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
            Leaving::Frame(FromAgent::Error(error)) => self.ends(Ended::failed(error.cause.name())),
            Leaving::Frame(FromAgent::Closed(closing)) => {
                self.ends(Ended::done(vec![("closed", Detail::Text(closing.reason.name().to_owned()))]));
            }
            Leaving::Refused(refusal) => self.is_refused(refusal),
            Leaving::Frame(FromAgent::Opened(_) | FromAgent::Window(_) | FromAgent::End) | Leaving::Failed(_) => {}
        }
    }

    /// The client has been told everything.
    pub(super) fn is_over(&self) {
        self.end().over = true;
    }

    fn end(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        if !self.end().over {
            // The client has gone before, or may have it no longer.
            self.ends(Ended::failed(Errno::ECANCELED.name()));
        }
        let bytes = [("to_client", &self.to_client), ("from_client", &self.from_client)];
        let bytes = bytes.map(|(key, count)| (key, Detail::Number(count.load(Ordering::Relaxed))));
        let mut end = self.end();
        let Some(entry) = end.entry.take() else { return };
        end.ended.details.extend(bytes);
        entry.end(&end.ended);
    }
}
