//! Calls that are carried out once, whatever becomes of their answers: where one is lost, the same call is sent again under the same name, and
//! the agent joins it to the first, or answers from memory.
//!
//! Invariant: a call that is sent again means the life of the agent that the first one may have reached. Another one knows nothing of it.
//!
//! A stream is opened again, too, for until it is known to be open no bytes have moved. What it has made goes with it, though: a connection
//! whose first stream was lost is reset, and is not made twice.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::client::agent_client::AgentClient;
use crate::client::error::ClientError;
use crate::client::place::Backoff;
use crate::client::watch::chance;
use crate::model::id::{InstanceId, RequestId};
use crate::model::operation::{Action, CallOptions, Outcome};

/// How long an answer that was lost is asked for, where no lease says it.
const PATIENCE: Duration = Duration::from_secs(15);

/// The names that a client gives its calls, and the agent that they are for.
pub(super) struct Sender {
    /// What makes them others than those of other clients.
    mark: u64,
    next: AtomicU64,
    agent: Mutex<Option<InstanceId>>,
}

impl Sender {
    pub(super) fn new() -> Self {
        let mut mark = [0; 8];
        // Without chance, the time of this host: it only has to differ.
        if getrandom::fill(&mut mark[2..]).is_err() {
            mark = crate::sys::clock::boottime_nanos().to_be_bytes();
        }
        Self { mark: u64::from_be_bytes(mark), next: AtomicU64::new(1), agent: Mutex::default() }
    }

    pub(super) fn name(&self) -> Option<RequestId> {
        RequestId::parse(&format!("{:x}-{}", self.mark, self.next.fetch_add(1, Ordering::Relaxed))).ok()
    }

    fn known(&self, change: impl FnOnce(&mut Option<InstanceId>)) -> Option<InstanceId> {
        let mut agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut agent);
        agent.clone()
    }
}

/// How often something was asked for whose answer was lost, and for how long it goes on being asked for.
pub(super) struct Attempts {
    /// The life of the agent that the first one may have reached.
    pub(super) begun: InstanceId,
    until: Instant,
    failures: u32,
}

impl Attempts {
    /// Whether it is asked for once more after this error; waits until then.
    pub(super) async fn again(&mut self, error: &ClientError, patient: bool) -> bool {
        let ClientError::Unreachable { nobody: false, sent, .. } = error else { return false };
        // What has never been on its way needs no answer.
        if !(*sent || self.has_failed()) || !(patient || Instant::now() < self.until) {
            return false;
        }
        sleep_until(Instant::now() + Backoff::default().pause(self.failures, chance())).await;
        self.failures += 1;
        true
    }

    /// Whether an answer has been lost.
    pub(super) const fn has_failed(&self) -> bool {
        self.failures > 0
    }
}

impl AgentClient {
    /// Begins to ask for something, which may be meant for this instance.
    pub(super) async fn attempts(&self, meant: Option<&InstanceId>) -> Result<Attempts, ClientError> {
        let begun = match meant.cloned().or_else(|| self.sender().known(|_| {})) {
            Some(known) => known,
            None => {
                let now = self.info().await?.instance;
                self.sender().known(|agent| *agent = Some(now.clone()));
                now
            }
        };
        Ok(Attempts { begun, until: Instant::now() + PATIENCE, failures: 0 })
    }

    /// Makes sure that the next call is for whatever life of the agent is there now, if that is what an error says.
    pub(super) fn note_instance(&self, error: &ClientError) {
        if matches!(error, ClientError::Refused { reason, .. } if reason == "INSTANCE_CHANGED") {
            self.sender().known(|agent| *agent = None);
        }
    }

    /// Carries something out once. What is lost is sent again for as long as `patient`, or for a while.
    pub(super) async fn send_once(
        &self,
        action: &Action,
        options: &CallOptions,
        patient: bool,
    ) -> Result<Outcome, ClientError> {
        let mut attempts = self.attempts(options.instance.as_ref()).await?;
        let request_id = options.request_id.clone().or_else(|| self.sender().name());
        let mut options = CallOptions { request_id, ..options.clone() };
        loop {
            let error = match self.send(action, &options).await {
                Ok(outcome) => return Ok(outcome),
                Err(error) => error,
            };
            if !attempts.again(&error, patient).await {
                self.note_instance(&error);
                return Err(error);
            }
            options.instance = Some(attempts.begun.clone());
        }
    }
}
