//! The calls that steps make: at their moment, and noted, so that a failure can tell them.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::client::ClientError;
use crate::controller::step::Runner;
use crate::exercise::outcome::CallMade;
use crate::exercise::plan::Step;
use crate::model::operation::{Action, CallOptions, Outcome, Start};
use crate::model::time::Timestamp;
use crate::wire::json::call;
use crate::wire::outgoing::request;

/// The longest request that is told in a failure, in bytes of JSON. Nobody types a payload of that length again.
const LONGEST_CALL: usize = 16 << 10;

/// A moment at which a step is to begin.
pub(super) struct Appointment {
    /// By the agent's clock.
    pub(super) at: Timestamp,
    /// How long it is until then at most.
    pub(super) ahead: Duration,
    /// When it did begin, by the agent's clock.
    pub(super) began: OnceLock<Timestamp>,
}

/// The last call of a step.
#[derive(Default)]
pub(super) struct Made(Mutex<Option<(Action, CallOptions)>>);

impl Made {
    fn note(&self, action: &Action, options: &CallOptions) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((action.clone(), options.clone()));
    }

    /// The call as people can make it again, to the agent that is reached there.
    pub(super) fn told(self, agent: &str) -> Option<CallMade> {
        let (action, options) = self.0.into_inner().unwrap_or_else(PoisonError::into_inner)?;
        let (method, request) = call(&request(&action, &options))?;
        let request = request.to_string();
        (request.len() <= LONGEST_CALL).then(|| CallMade { agent: agent.to_owned(), method, request })
    }
}

impl Runner<'_> {
    /// Calls the agent of a step's host; the first time at its moment, where it has one.
    pub(super) async fn call(
        &self,
        step: &Step,
        action: &Action,
        options: &CallOptions,
    ) -> Result<Outcome, ClientError> {
        if let Some(made) = self.made {
            made.note(action, options);
        }
        let client = &self.member(step.host).client;
        let Some(moment) = self.moment.filter(|moment| moment.began.get().is_none()) else {
            return client.call(action, options).await;
        };
        let outcome = client.call(action, &CallOptions { start: Start::At(moment.at), ..options.clone() }).await?;
        moment.began.get_or_init(|| outcome.report.started);
        Ok(outcome)
    }
}
