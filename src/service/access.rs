//! Who may call what: decided on the typed request, before anything is looked at for it. A handler gets to know its caller nowhere else, so
//! that a request without a row in the table of rights ([`Rpc`]) does not compile.

use std::future::{Future, pending};
use std::sync::Arc;

use futures_util::stream::{Stream, StreamExt, unfold};
use tokio::sync::oneshot;
use tonic::{Request, Status, Streaming};

use crate::model::audit::{Deed, Detail, Ended};
use crate::model::id::{Principal, SessionId, shorten, split_owner};
use crate::model::operation::{Action, CallOptions, Outcome};
use crate::model::policy::{Right, Rpc};
use crate::model::refusal::{Refusal, Violation};
use crate::service::audit::{Audit, Entry};
use crate::service::interfaces::InterfaceWatch;
use crate::service::refused;
use crate::socket::Sockets;
use crate::wire::scope::Scoped;
use crate::wire::status;

/// What the RPCs work with: the sockets, and who may do what with them. Cheap to clone.
#[derive(Clone)]
pub struct Access {
    /// The sockets of the agent, with its policy.
    pub sockets: Sockets,
    /// Where changes are written down; absent: nowhere.
    audit: Option<Arc<Audit>>,
    /// What tells sessions of interfaces.
    pub(super) interfaces: InterfaceWatch,
}

/// Somebody who may do what he has asked for.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// Who it is.
    pub(super) who: Principal,
    /// Whose the session is that he has named: his own, or of somebody else whose sessions he may use so.
    pub(super) owner: Principal,
}

impl Caller {
    /// Who it is, where he works in a session of somebody else.
    pub(super) fn asker(&self) -> Option<Principal> {
        self.is_guest().then(|| self.who.clone())
    }

    fn is_guest(&self) -> bool {
        self.who != self.owner
    }
}

impl Access {
    /// To these sockets, as their policy says while there is one. Changes are written down there.
    pub fn new(sockets: Sockets, audit: Option<Arc<Audit>>) -> Self {
        Self { sockets, audit, interfaces: InterfaceWatch::default() }
    }

    /// Lets a request through that its sender may send. It comes back as the owner of the session that it names would have sent it.
    pub(super) fn admit<Q: Scoped>(&self, request: Request<Q>) -> Result<(Caller, Q), Status> {
        let who = principal(&request)?;
        let mut request = request.into_inner();
        let caller = self.permit(who, &mut request).map_err(refused)?;
        Ok((caller, request))
    }

    /// The same for a stream: whether somebody may begin one. What its first frame asks for is permitted when it comes.
    pub(super) fn admit_stream<Q: Scoped>(
        &self,
        request: Request<Streaming<Q>>,
    ) -> Result<(Principal, Streaming<Q>), Status> {
        let who = principal(&request)?;
        self.expect(&who, Q::RPC, Q::RPC.right()).map_err(refused)?;
        Ok((who, request.into_inner()))
    }

    /// Decides on what somebody asks for, and on whose behalf it is done.
    pub(super) fn permit<Q: Scoped>(&self, who: Principal, request: &mut Q) -> Result<Caller, Refusal> {
        let right = request.right();
        self.expect(&who, Q::RPC, right)?;
        let Some(named) = request.session() else { return Ok(Caller { owner: who.clone(), who }) };
        let split = split_owner(named).map_err(|problem| Violation { field: "session_id".to_owned(), problem })?;
        let Some((owner, session)) = split else { return Ok(Caller { owner: who.clone(), who }) };
        if owner != who {
            let others = right.on_others();
            let may = self.has(&who, others);
            if !may {
                self.note_denial(&who, Q::RPC, others);
            }
            if !may || !self.sockets.has_session(&owner, &session) {
                // Those who may not look are told the same as those who look for something that is not there.
                return Err(Refusal::SessionOfOtherNotFound(shorten(named).into()));
            }
        }
        *named = session.to_string();
        Ok(Caller { who, owner })
    }

    /// Refuses what somebody has no right to.
    pub(super) fn expect(&self, who: &Principal, rpc: Rpc, right: Right) -> Result<(), Refusal> {
        if self.has(who, right) { Ok(()) } else { Err(self.denied(who, rpc, right)) }
    }

    fn denied(&self, who: &Principal, rpc: Rpc, right: Right) -> Refusal {
        self.note_denial(who, rpc, right);
        Refusal::RoleDenied { who: who.clone(), rpc, right }
    }

    /// Has it written down that somebody wants what none of his roles allows, whatever he is told.
    fn note_denial(&self, who: &Principal, rpc: Rpc, right: Right) {
        if let Some(audit) = &self.audit {
            audit.denied(who, rpc, right);
        }
    }

    /// Waits until the policy, another one than before, does not let somebody do any more what he has begun by this right.
    pub(super) async fn revoked(&self, caller: &Caller, rpc: Rpc, right: Right) -> Refusal {
        let Some(mut exchanges) = self.sockets.gate().exchanges() else { return pending().await };
        let others = caller.is_guest().then(|| right.on_others());
        loop {
            // At first, too: another one may have come in while it was begun.
            if let Some(right) =
                [Some(right), others].into_iter().flatten().find(|right| !self.has(&caller.who, *right))
            {
                return self.denied(&caller.who, rpc, right);
            }
            if exchanges.changed().await.is_err() {
                return pending().await;
            }
        }
    }

    fn has(&self, who: &Principal, right: Right) -> bool {
        self.sockets.gate().has(who, right)
    }
}

// === What is written down ===

impl Access {
    /// Carries out an operation. Where changes are written down, so is this one, whether or not somebody waits for its end.
    pub(super) async fn perform(
        &self,
        caller: &Caller,
        rpc: Rpc,
        options: CallOptions,
        action: Action,
    ) -> Result<Arc<Outcome>, Refusal> {
        let Some(entry) = self.begin_operation(caller, rpc, &options, &action)? else {
            let (ended, revoked) = self.call(caller, rpc, options, action).await;
            return revoked.map_or(ended, Err);
        };
        let (access, caller, session) = (self.clone(), caller.clone(), action.session());
        let (tell, told) = oneshot::channel();
        self.sockets.spawn(async move {
            let detach = options.detach;
            let (begun, revoked) = access.call(&caller, rpc, options, action).await;
            let Some(request) = begun.as_ref().ok().filter(|_| detach).map(|outcome| outcome.report.request_id.clone())
            else {
                // What was done, also where he is not told any more.
                entry.end(&Ended::of(&begun));
                // Whoever has asked may have gone.
                let _ = tell.send(revoked.map_or(begun, Err));
                return;
            };
            let _ = tell.send(begun);
            match access.sockets.call_outcome(&caller.owner, &session, &request).await {
                // It is remembered no longer, or its session is gone with all that was in it.
                Err(Refusal::CallNotFound(_) | Refusal::SessionNotFound(_) | Refusal::Draining) => {
                    entry.end(&Ended::unknown());
                }
                ended => entry.end(&Ended::of(&ended)),
            }
        });
        told.await.unwrap_or(Err(Refusal::Internal("an operation has vanished")))
    }

    /// Carries it out; and why whoever has asked may not have its answer, where he loses the right to it meanwhile: it is cancelled then.
    async fn call(
        &self,
        caller: &Caller,
        rpc: Rpc,
        options: CallOptions,
        action: Action,
    ) -> (Result<Arc<Outcome>, Refusal>, Option<Refusal>) {
        let mut refusal = None;
        let revoked = async {
            match caller.is_guest() {
                true => refusal = Some(self.revoked(caller, rpc, Right::Use).await),
                // What he does in a session of his own ends with its sockets, which the policy closes.
                false => pending().await,
            }
        };
        let ended = self.sockets.call_until(&caller.owner, options, action, revoked).await;
        (ended, refusal)
    }

    /// Writes down an operation that is about to begin, where that is written down.
    pub(super) fn begin_operation(
        &self,
        caller: &Caller,
        rpc: Rpc,
        options: &CallOptions,
        action: &Action,
    ) -> Result<Option<Entry>, Refusal> {
        let Some(audit) = &self.audit else { return Ok(None) };
        let request_id = options.request_id.as_ref().map(|id| id.as_str());
        audit.begin(Deed::operation(&caller.who, rpc, &caller.owner, action, request_id)).map(Some)
    }

    /// Writes down a change that is no operation, and is about to begin, where that is written down.
    pub(super) fn begin(
        &self,
        caller: &Caller,
        rpc: Rpc,
        session: &SessionId,
        details: &[(&'static str, &str)],
    ) -> Result<Option<Entry>, Refusal> {
        let Some(audit) = &self.audit else { return Ok(None) };
        let details = details.iter().map(|(key, text)| (*key, Detail::Text((*text).to_owned())));
        let Caller { who, owner } = caller.clone();
        audit.begin(Deed { who, rpc, owner, session: session.to_string(), details: details.collect() }).map(Some)
    }
}

/// Writes down how a change has ended, where that is written down.
pub(super) fn end<T>(entry: Option<Entry>, result: &Result<T, Refusal>) {
    let Some(entry) = entry else { return };
    match result {
        Ok(_) => entry.end(&Ended::done(Vec::new())),
        Err(refusal) => entry.end(&Ended::refused(refusal)),
    }
}

/// A stream, until whoever reads it may have it no longer: that is said then, and nothing comes after it.
pub(super) fn until<T>(
    revoked: impl Future<Output = Refusal>,
    stream: impl Stream<Item = Result<T, Status>>,
) -> impl Stream<Item = Result<T, Status>> {
    let open = Some((Box::pin(revoked), Box::pin(stream)));
    unfold(open, |open| async move {
        let (mut revoked, mut stream) = open?;
        tokio::select! {
            biased;
            refusal = &mut revoked => Some((Err(refused(refusal)), None)),
            next = stream.next() => Some((next?, Some((revoked, stream)))),
        }
    })
}

/// Who is calling, as the agent's door has found out.
fn principal<T>(request: &Request<T>) -> Result<Principal, Status> {
    let known = request.extensions().get::<Principal>().cloned();
    known.ok_or_else(|| status::refused(&Refusal::Unauthenticated("nobody has said who is calling")))
}

/// Whose sessions somebody wants to have listed.
pub(super) enum Whose {
    /// Those of one principal.
    One(Principal),
    /// Everybody's.
    All,
}

impl Access {
    /// Reads whose sessions are meant, and refuses those of others to whoever may not see them.
    pub(super) fn whose(&self, who: &Principal, asked: &str) -> Result<Whose, Refusal> {
        let whose = match asked {
            "" => return Ok(Whose::One(who.clone())),
            "*" => Whose::All,
            name => match Principal::parse(name) {
                Ok(owner) if owner == *who => return Ok(Whose::One(owner)),
                Ok(owner) => Whose::One(owner),
                Err(problem) => return Err(Violation { field: "owner".to_owned(), problem }.into()),
            },
        };
        self.expect(who, Rpc::ListSessions, Right::SeeOthers)?;
        Ok(whose)
    }
}
