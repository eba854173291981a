//! `TransferSocket`: the stream is answered at once, and a task brings it and its connection together.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::{Stream, StreamExt};
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

use crate::model::id::Principal;
use crate::model::operation::{Action, CallOptions, SocketAction, Target, Yield};
use crate::model::refusal::Refusal;
use crate::model::transfer::FromAgent;
use crate::service::{principal, refused};
use crate::socket::{Arriving, Claim, Inflow, Leaving, Outlet, Sockets, link, not_opened};
use crate::wire::request::Asked;
use crate::wire::socket::Bounds;
use crate::wire::transfer::Begin;
use crate::wire::{pb, status, transfer};

/// What the client reads.
pub(super) type TransferStream = Pin<Box<dyn Stream<Item = Result<pb::TransferSocketResponse, Status>> + Send>>;

/// Answers at once: some clients send nothing before they have got something.
pub(super) fn transfer(
    sockets: &Sockets,
    request: Request<Streaming<pb::TransferSocketRequest>>,
) -> Result<Response<TransferStream>, Status> {
    let principal = principal(&request)?;
    let (outlet, outflow) = link();
    let sockets = sockets.clone();
    let frames = request.into_inner();
    sockets.clone().spawn(async move { introduce(&sockets, &principal, frames, outlet).await });
    let answers = outflow.map(|leaving| match leaving {
        Leaving::Frame(frame) => Ok(frame.into()),
        Leaving::Refused(refusal) => Err(refused(refusal)),
        Leaving::Failed(outcome) => {
            let internal = || refused(Refusal::Internal("a failure without a cause"));
            Err(status::failure(&outcome).unwrap_or_else(internal))
        }
    });
    Ok(Response::new(Box::pin(answers)))
}

/// Reads what the client wants, and gives both ends of the stream to the driver of the connection.
async fn introduce(
    sockets: &Sockets,
    principal: &Principal,
    mut frames: Streaming<pb::TransferSocketRequest>,
    outlet: Outlet,
) {
    let first = match timeout(sockets.defaults().wait_timeout, frames.message()).await {
        Ok(Ok(Some(first))) => first,
        Ok(Ok(None)) => return outlet.push(Leaving::Refused(Refusal::invalid("frame", "the first frame is missing"))),
        // The client is gone.
        Ok(Err(_)) => return,
        Err(_) => return outlet.push(Leaving::Refused(Refusal::TimedOut { what: "no first frame came" })),
    };
    let bounds = Bounds { limits: sockets.limits(), defaults: sockets.defaults() };
    match transfer::begin(first, bounds) {
        Err(violation) => outlet.push(Leaving::Refused(violation.into())),
        Ok(Begin::Open(target, own)) => {
            let link = (inflow(frames, sockets), outlet.clone());
            let claim = if own { Claim::Owned } else { Claim::Borrowed };
            if let Err(refusal) = sockets.attach(principal, &target, link, claim).await {
                outlet.push(Leaving::Refused(refusal));
            }
        }
        Ok(Begin::Create(asked)) => match create(sockets, principal, *asked, inflow(frames, sockets), &outlet).await {
            Ok(()) => {}
            Err(refusal) => outlet.push(Leaving::Refused(refusal)),
        },
    }
}

/// Makes the connection, and gives it to the stream. What could not connect is closed again.
async fn create(
    sockets: &Sockets,
    principal: &Principal,
    asked: Asked,
    inflow: Inflow,
    outlet: &Outlet,
) -> Result<(), Refusal> {
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
        let Err(refusal @ Refusal::SocketClosed { .. }) = attached else { return attached };
        // It was there, and has gone already: that is no refusal, but what the network did.
        let view = sockets.socket_view(principal, &target.session, &target.socket)?;
        let closing = view.status.closed.filter(|_| Some(view.uid) == target.uid).ok_or(refusal)?;
        outlet.push(Leaving::Frame(not_opened(&outcome)));
        outlet.push(Leaving::Frame(FromAgent::Closed(closing)));
        return Ok(());
    }
    if let Some(target) = target {
        let abort = Action::Socket(target, SocketAction::Abort { allow_missing: true });
        sockets.call(principal, CallOptions::default(), abort).await?;
    }
    outlet.push(if fail_on_error { Leaving::Failed(outcome) } else { Leaving::Frame(not_opened(&outcome)) });
    Ok(())
}

fn inflow(frames: Streaming<pb::TransferSocketRequest>, sockets: &Sockets) -> Inflow {
    let sockets = sockets.clone();
    Box::pin(frames.map(move |sent| match sent.map(|sent| transfer::frame(sent, sockets.defaults())) {
        Ok(Ok(frame)) => Arriving::Frame(frame),
        Ok(Err(violation)) => Arriving::Invalid(violation.into()),
        Err(_) => Arriving::Gone,
    }))
}
