//! Calls that are carried out once, whatever becomes of their answers: where one is lost, the same call is sent again under the same name, and
//! the agent joins it to the first, or answers from memory.
//!
//! Invariant: a call that is sent again means the life of the agent that the first one may have reached. Another one knows nothing of it.

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

    fn name(&self) -> Option<RequestId> {
        RequestId::parse(&format!("{:x}-{}", self.mark, self.next.fetch_add(1, Ordering::Relaxed))).ok()
    }

    fn known(&self, change: impl FnOnce(&mut Option<InstanceId>)) -> Option<InstanceId> {
        let mut agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut agent);
        agent.clone()
    }
}

impl AgentClient {
    /// Carries something out once. What is lost is sent again for as long as `patient`, or for a while.
    pub(super) async fn send_once(
        &self,
        action: &Action,
        options: &CallOptions,
        patient: bool,
    ) -> Result<Outcome, ClientError> {
        let begun = match options.instance.clone().or_else(|| self.sender().known(|_| {})) {
            Some(known) => known,
            None => {
                let now = self.info().await?.instance;
                self.sender().known(|agent| *agent = Some(now.clone()));
                now
            }
        };
        let request_id = options.request_id.clone().or_else(|| self.sender().name());
        let mut options = CallOptions { request_id, ..options.clone() };
        let until = Instant::now() + PATIENCE;
        let mut failures = 0;
        loop {
            let answer = self.send(action, &options).await;
            let again = match &answer {
                // What has never been on its way needs no answer.
                Err(ClientError::Unreachable { nobody: false, sent, .. }) => {
                    (*sent || failures > 0) && (patient || Instant::now() < until)
                }
                Err(ClientError::Refused { reason, .. }) if reason == "INSTANCE_CHANGED" => {
                    self.sender().known(|agent| *agent = None);
                    false
                }
                _ => false,
            };
            if !again {
                return answer;
            }
            options.instance = Some(begun.clone());
            sleep_until(Instant::now() + Backoff::default().pause(failures, chance())).await;
            failures += 1;
        }
    }
}
