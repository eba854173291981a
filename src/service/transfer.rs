//! `TransferSocket`: the stream is answered at once, and a task brings it and its connection together.

use std::future::{pending, ready};
use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::{Stream, StreamExt, once};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

use crate::model::audit::Ended;
use crate::model::id::Principal;
use crate::model::operation::{Action, CallOptions, Outcome, SocketAction, Target, Yield};
use crate::model::policy::{Right, Rpc};
use crate::model::refusal::Refusal;
use crate::model::transfer::FromAgent;
use crate::service::access::{Access, Caller, until};
use crate::service::refused;
use crate::service::tally::Tally;
use crate::socket::{Arriving, Claim, Inflow, Leaving, Outlet, Sockets, link, not_opened};
use crate::wire::request::Asked;
use crate::wire::socket::Bounds;
use crate::wire::transfer::Begin;
use crate::wire::{pb, status, transfer};

/// What the client reads.
pub(super) type TransferStream = Pin<Box<dyn Stream<Item = Result<pb::TransferSocketResponse, Status>> + Send>>;

/// Answers at once: some clients send nothing before they have got something.
pub(super) fn transfer(
    access: &Access,
    request: Request<Streaming<pb::TransferSocketRequest>>,
) -> Result<Response<TransferStream>, Status> {
    let (who, frames) = access.admit_stream(request)?;
    let (outlet, outflow) = link();
    let access = access.clone();
    let refusals = Arc::clone(access.sockets.refusals());
    let (admitted, caller) = oneshot::channel();
    let kept = access.clone();
    let revoked = async move {
        match caller.await {
            Ok(caller) => kept.revoked(&caller, Rpc::TransferSocket, Right::Use).await,
            Err(_) => pending().await,
        }
    };
    let tally = Arc::new(Tally::default());
    let (told, end) = (Arc::clone(&tally), Arc::clone(&tally));
    access.sockets.clone().spawn(async move { introduce(&access, who, frames, outlet, (admitted, tally)).await });
    let outflow = outflow.inspect(move |leaving| told.leaves(leaving));
    let answers = outflow.map(move |leaving| match leaving {
        Leaving::Frame(frame) => Ok(frame.into()),
        Leaving::Refused(refusal) => {
            // The door sees only how an answer begins, and this one has begun well.
            if let Some(quota) = refusal.quota() {
                refusals.add(quota.limit);
            }
            Err(refused(refusal))
        }
        Leaving::Failed(outcome) => {
            let internal = || refused(Refusal::Internal("a failure without a cause"));
            Err(status::failure(&outcome).unwrap_or_else(internal))
        }
    });
    let over = once(async move { end.is_over() }).filter_map(|()| ready(None));
    Ok(Response::new(Box::pin(until(revoked, answers.chain(over)))))
}

/// Reads what the client wants, and gives both ends of the stream to the driver of the connection.
async fn introduce(
    access: &Access,
    who: Principal,
    mut frames: Streaming<pb::TransferSocketRequest>,
    outlet: Outlet,
    (admitted, tally): (oneshot::Sender<Caller>, Arc<Tally>),
) {
    let sockets = &access.sockets;
    let mut first = match timeout(sockets.defaults().wait_timeout, frames.message()).await {
        Ok(Ok(Some(first))) => first,
        Ok(Ok(None)) => return outlet.push(Leaving::Refused(Refusal::invalid("frame", "the first frame is missing"))),
        // The client is gone.
        Ok(Err(_)) => return,
        Err(_) => return outlet.push(Leaving::Refused(Refusal::TimedOut { what: "no first frame came" })),
    };
    let caller = match access.permit(who, &mut first) {
        Ok(caller) => caller,
        Err(refusal) => return outlet.push(Leaving::Refused(refusal)),
    };
    // Whoever reads may have gone.
    let _ = admitted.send(caller.clone());
    let bounds = Bounds { limits: sockets.limits(), defaults: sockets.defaults() };
    match transfer::begin(first, bounds) {
        Err(violation) => outlet.push(Leaving::Refused(violation.into())),
        Ok(Begin::Open(target, own)) => {
            let link = (inflow(frames, sockets, &tally), outlet.clone());
            let claim = if own { Claim::Owned } else { Claim::Borrowed };
            let named = [("socket", target.socket.as_str())];
            let attached = match access.begin(&caller, Rpc::TransferSocket, &target.session, &named) {
                Ok(entry) => {
                    tally.begins(entry);
                    sockets.attach(&caller.owner, &target, link, claim).await
                }
                Err(refusal) => Err(refusal),
            };
            if let Err(refusal) = attached {
                tally.is_refused(&refusal);
                outlet.push(Leaving::Refused(refusal));
            }
        }
        Ok(Begin::Create(mut asked)) => {
            asked.options.asker = caller.asker();
            match access.begin_operation(&caller, Rpc::TransferSocket, &asked.options, &asked.action) {
                Ok(entry) => tally.begins(entry),
                Err(refusal) => return outlet.push(Leaving::Refused(refusal)),
            }
            let created = create(sockets, &caller.owner, *asked, inflow(frames, sockets, &tally), &outlet).await;
            tally.ends(Ended::of(&created));
            if let Err(refusal) = created {
                outlet.push(Leaving::Refused(refusal));
            }
        }
    }
}

/// Makes the connection, gives it to the stream, and tells how it went. What could not connect is closed again.
async fn create(
    sockets: &Sockets,
    principal: &Principal,
    asked: Asked,
    inflow: Inflow,
    outlet: &Outlet,
) -> Result<Arc<Outcome>, Refusal> {
    let session = asked.action.session();
    let fail_on_error = asked.options.fail_on_error;
    let outcome = sockets.call_until(principal, asked.options, asked.action, outlet.gone()).await?;
    let target = match &outcome.yielded {
        Yield::Socket(socket, _) => Some(Target { session, socket: socket.id.clone(), uid: Some(socket.uid) }),
        _ => None,
    };
    let went_well = outcome.report.error.is_none() && !outcome.report.timed_out;
    if let (Some(target), true) = (&target, went_well) {
        let claim = Claim::Created(Arc::clone(&outcome));
        let attached = sockets.attach(principal, target, (inflow, outlet.clone()), claim).await;
        let Err(refusal) = attached else { return Ok(outcome) };
        // It was there, and has gone already: that is no refusal, but what the network, or somebody else, did. Its name may be another
        // socket's by now.
        let Some(closing) = sockets.end_of(principal, target) else {
            // It was made for this stream alone, which does not get it. That somebody else has closed it meanwhile is fine.
            let _ = abort(sockets, principal, target.clone()).await;
            return Err(refusal);
        };
        outlet.push(Leaving::Frame(not_opened(&outcome)));
        outlet.push(Leaving::Frame(FromAgent::Closed(closing)));
        return Ok(outcome);
    }
    if let Some(target) = target {
        abort(sockets, principal, target).await?;
    }
    let told = Arc::clone(&outcome);
    outlet.push(if fail_on_error { Leaving::Failed(told) } else { Leaving::Frame(not_opened(&told)) });
    Ok(outcome)
}

async fn abort(sockets: &Sockets, principal: &Principal, target: Target) -> Result<(), Refusal> {
    let abort = Action::Socket(target, SocketAction::Abort { allow_missing: true });
    sockets.call(principal, CallOptions::default(), abort).await.map(drop)
}

fn inflow(frames: Streaming<pb::TransferSocketRequest>, sockets: &Sockets, tally: &Arc<Tally>) -> Inflow {
    let (sockets, tally) = (sockets.clone(), Arc::clone(tally));
    Box::pin(frames.map(move |sent| match sent.map(|sent| transfer::frame(sent, sockets.defaults())) {
        Ok(Ok(frame)) => {
            tally.comes(&frame);
            Arriving::Frame(frame)
        }
        Ok(Err(violation)) => Arriving::Invalid(violation.into()),
        Err(_) => Arriving::Gone,
    }))
}
