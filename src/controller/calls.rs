//! The calls that steps make: at their moment, and noted, so that a failure can tell them.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::client::ClientError;
use crate::controller::bindings::Socket;
use crate::controller::fleet::Fleet;
use crate::controller::step::Runner;
use crate::exercise::outcome::CallMade;
use crate::exercise::plan::Step;
use crate::model::operation::{Action, CallOptions, Outcome, Start};
use crate::model::time::Timestamp;
use crate::wire::asking::Asking;
use crate::wire::json::{asked, call};
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

/// The last call of a step, or the one that asks what it asks.
#[derive(Default)]
pub(super) struct Made(Mutex<Option<(usize, Call)>>);

enum Call {
    Action(Box<(Action, CallOptions)>),
    Asking(Asking),
}

impl Made {
    fn note(&self, host: usize, call: Call) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((host, call));
    }

    /// The call as people can make it again, to the agent of its host.
    pub(super) fn told(self, fleet: &Fleet) -> Option<CallMade> {
        let (host, made) = self.0.into_inner().unwrap_or_else(PoisonError::into_inner)?;
        let (method, request) = match made {
            Call::Action(made) => {
                let (action, options) = *made;
                let (method, request) = call(&request(&action, &options))?;
                (method, request.to_string())
            }
            Call::Asking(asking) => asked(&asking)?,
        };
        let agent = fleet.members()[host].place.clone();
        (request.len() <= LONGEST_CALL).then_some(CallMade { agent, method, request })
    }
}

impl Runner<'_> {
    /// Notes which call would ask what a step asks, which learns it in another way, or by a call of another kind.
    pub(super) fn asks(&self, host: usize, asking: impl FnOnce() -> Asking) {
        if let Some(made) = self.made {
            made.note(host, Call::Asking(asking()));
        }
    }

    /// Notes which call would wait for an event of a socket, after one that has been waited for already.
    pub(super) fn asks_event(&self, socket: &Socket, kind: &str, after: u64, within: Duration) {
        let target = (self.fleet.session(), &socket.id);
        self.asks(socket.host, || Asking::event(target, Some(kind), after, within, false));
    }

    /// Calls the agent of a step's host; the first time at its moment, where it has one.
    pub(super) async fn call(
        &self,
        step: &Step,
        action: &Action,
        options: &CallOptions,
    ) -> Result<Outcome, ClientError> {
        if let Some(made) = self.made {
            made.note(step.host, Call::Action(Box::new((action.clone(), options.clone()))));
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
