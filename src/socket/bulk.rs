//! Many sockets by one request: made side by side, each as if it were alone.

use futures_util::future::join_all;

use crate::model::bulk::{RefusalText, SocketOutcome};
use crate::model::id::SocketId;
use crate::model::operation::Yield;
use crate::model::refusal::Refusal;
use crate::model::spec::SocketSpec;
use crate::socket::cell::lock;
use crate::socket::command::EventRange;
use crate::socket::perform::{Performed, Run};
use crate::socket::session::Session;

impl Session {
    /// Refuses sockets for which there is no room, or whose names are taken.
    pub(super) fn expect_room(&self, sockets: &[(Option<SocketId>, SocketSpec)]) -> Result<(), Refusal> {
        let names = lock(&self.names);
        names.has_room_for(sockets.len())?;
        sockets.iter().filter_map(|(id, _)| id.as_ref()).try_for_each(|id| names.is_free(id))
    }
}

impl Run<'_> {
    pub(super) async fn create_sockets(
        &mut self,
        sockets: Vec<(Option<SocketId>, SocketSpec)>,
    ) -> Result<Performed, Refusal> {
        self.session.expect_room(&sockets)?;
        let all = join_all(sockets.into_iter().map(|(id, spec)| self.create_one(id, spec))).await;
        for (events, _) in &all {
            self.events.add(*events);
        }
        let is_made = all.iter().any(|(_, made)| made.is_ok());
        let mut outcomes = Vec::with_capacity(all.len());
        for (_, made) in all {
            match made {
                Ok(outcome) => outcomes.push(outcome),
                Err((_, refusal)) if !is_made => return Err(refusal),
                Err((id, refusal)) => outcomes.push(self.refused(id, &refusal)),
            }
        }
        let error = outcomes.iter().find_map(|outcome| outcome.error.clone());
        let timed_out = error.is_none() && outcomes.iter().any(|outcome| outcome.timed_out);
        Ok(Performed { error, timed_out, ..Performed::succeeded(Yield::Sockets(outcomes)) })
    }

    async fn create_one(
        &self,
        id: Option<SocketId>,
        spec: SocketSpec,
    ) -> (EventRange, Result<SocketOutcome, (Option<SocketId>, Refusal)>) {
        let mut run = Run::new(self.sockets, self.principal, self.session, self.handle, self.deadline);
        let made = match run.create_socket(id.clone(), spec).await {
            Ok(Performed { yielded: Yield::Socket(view, options), error, timed_out, .. }) => Ok(SocketOutcome {
                id: Some(view.id.clone()),
                made: Some((view, options)),
                timed_out,
                error,
                refusal: None,
            }),
            Ok(Performed { error, timed_out, .. }) => {
                Ok(SocketOutcome { id, timed_out, error, ..SocketOutcome::default() })
            }
            Err(refusal) => Err((id, refusal)),
        };
        (run.events, made)
    }

    /// What is told of a socket that alone was refused. The door counts the refusals of whole requests; this one it does not see.
    fn refused(&self, id: Option<SocketId>, refusal: &Refusal) -> SocketOutcome {
        if let Some(quota) = refusal.quota() {
            self.sockets.refusals().add(quota.limit);
        }
        let refusal = RefusalText { reason: refusal.reason().into(), message: refusal.to_string().into() };
        SocketOutcome { id, refusal: Some(refusal), ..SocketOutcome::default() }
    }
}
