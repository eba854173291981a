//! The RPCs: convert, one call, convert. Whatever is more than that belongs a floor below.

pub mod access;
pub mod agent_service;
pub mod audit;
pub mod event_server;
pub mod event_service;
mod interfaces;
pub mod session_service;
pub mod socket_server;
pub mod socket_service;
mod tally;
mod transfer;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;

use tonic::body::Body;
use tonic::codegen::http;
use tonic::{Request, Response, Status};

use crate::model::refusal::{Refusal, Violation};
use crate::service::access::{Access, Caller};
use crate::socket::Sockets;
use crate::wire::request::Ask;
use crate::wire::response::Answer;
use crate::wire::scope::Scoped;
use crate::wire::socket::Bounds;
use crate::wire::status;

/// What a service will answer to a request.
pub type Answered = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

/// Carries out a changing request.
async fn carry_out<Q: Ask + Scoped, A: Answer>(access: &Access, request: Request<Q>) -> Result<Response<A>, Status> {
    let (caller, request) = access.admit(request)?;
    carry_out_for(access, &caller, request).await
}

/// The same, where its sender has been let through already.
async fn carry_out_for<Q: Ask + Scoped, A: Answer>(
    access: &Access,
    caller: &Caller,
    request: Q,
) -> Result<Response<A>, Status> {
    let sockets = &access.sockets;
    let bounds = Bounds { limits: sockets.limits(), defaults: sockets.defaults() };
    let mut asked = request.check(bounds).map_err(status::invalid)?;
    asked.options.asker = caller.asker();
    let fail_on_error = asked.options.fail_on_error;
    let outcome = access.perform(caller, Q::RPC, asked.options, asked.action).await.map_err(refused)?;
    match status::failure(&outcome).filter(|_| fail_on_error) {
        Some(failure) => Err(failure),
        None => Ok(Response::new(A::show(&outcome, &asked.view))),
    }
}

fn refused(refusal: Refusal) -> Status {
    status::refused(&refusal)
}

/// How many items a page has.
fn page_size(sockets: &Sockets, asked: u32) -> usize {
    let limit = sockets.limits().page_size;
    if asked == 0 { limit as usize } else { asked.min(limit) as usize }
}

/// The item that the page before ended with, if there was one.
fn page_token<T: std::str::FromStr>(token: &str) -> Result<Option<T>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let problem = "not a token of this list: use next_page_token as it came, or nothing for the first page";
    token.parse().map(Some).map_err(|_| status::invalid(Violation::new("page_token", problem)))
}

/// The token of the next page: the last item of this one, if there may be more.
fn next_page<T>(page: &[T], size: usize, token: impl Fn(&T) -> String) -> String {
    page.last().filter(|_| page.len() == size).map(token).unwrap_or_default()
}
