//! How `EventService` is reached: as tonic's generated servers are, but WatchEvents has a codec of its own.

use tonic::body::Body;
use tonic::codec::Codec;
use tonic::codegen::http;
use tonic::server::Grpc;
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::service::Answered;
use crate::service::event_service::EventRpcs;
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

    /// Answers a request to this service.
    pub fn call(&self, request: http::Request<Body>) -> Answered {
        let server = self.clone();
        Box::pin(async move { Ok(server.answer(request).await) })
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
