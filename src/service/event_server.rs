//! How `EventService` is reached: as tonic's generated servers are, but WatchEvents has a codec of its own.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codec::Codec;
use tonic::codegen::http;
use tonic::server::{Grpc, NamedService};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

use crate::service::event_service::EventRpcs;
use crate::wire::pb::event_service_server::SERVICE_NAME;
use crate::wire::status;
use crate::wire::watch::WatchCodec;

/// The server of the logs.
#[derive(Clone)]
pub struct EventServer {
    rpcs: EventRpcs,
    max_message: usize,
}

impl EventServer {
    /// Serves these, and takes messages of at most so many bytes.
    pub fn new(rpcs: EventRpcs, max_message: usize) -> Self {
        Self { rpcs, max_message }
    }

    fn grpc<C: Codec>(&self, codec: C) -> Grpc<C> {
        Grpc::new(codec).apply_max_message_size_config(Some(self.max_message), None)
    }

    async fn answer(self, request: http::Request<Body>) -> http::Response<Body> {
        let method = request.uri().path().rsplit('/').next();
        let rpcs = self.rpcs.clone();
        match method {
            Some("WatchEvents") => {
                let watch = service_fn(move |request| rpcs.clone().watch_events(request));
                self.grpc(WatchCodec).server_streaming(watch, request).await
            }
            Some("WaitEvent") => {
                let wait = service_fn(move |request| rpcs.clone().wait_event(request));
                self.grpc(ProstCodec::default()).unary(wait, request).await
            }
            Some("AckEvents") => {
                let acknowledge = service_fn(move |request| rpcs.clone().ack_events(request));
                self.grpc(ProstCodec::default()).unary(acknowledge, request).await
            }
            Some("ListEvents") => {
                let list = service_fn(move |request| rpcs.clone().list_events(request));
                self.grpc(ProstCodec::default()).unary(list, request).await
            }
            _ => status::no_such_method().into_http(),
        }
    }
}

impl NamedService for EventServer {
    const NAME: &'static str = SERVICE_NAME;
}

impl Service<http::Request<Body>> for EventServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move { Ok(server.answer(request).await) })
    }
}
