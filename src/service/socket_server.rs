//! How `SocketService` is reached: by tonic's generated server, but for GetSocket, which has a codec of its own.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::http;
use tonic::server::{Grpc, NamedService};
use tower::{Service, service_fn};

use crate::service::socket_service::SocketRpcs;
use crate::wire::glance::GlanceCodec;
use crate::wire::pb::socket_service_server::{SERVICE_NAME, SocketServiceServer};

/// Only this path is GetSocket's: there is no other spelling of it.
const GET_SOCKET: &str = "/farsock.v1.SocketService/GetSocket";

/// The server of the sockets.
#[derive(Clone)]
pub struct SocketServer {
    rpcs: SocketRpcs,
    others: SocketServiceServer<SocketRpcs>,
    max_message: usize,
}

impl SocketServer {
    /// Serves these, and takes messages of at most so many bytes.
    pub fn new(rpcs: SocketRpcs, max_message: usize) -> Self {
        let others = SocketServiceServer::new(rpcs.clone()).max_decoding_message_size(max_message);
        Self { rpcs, others, max_message }
    }
}

impl NamedService for SocketServer {
    const NAME: &'static str = SERVICE_NAME;
}

impl Service<http::Request<Body>> for SocketServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != GET_SOCKET {
            return self.others.call(request);
        }
        let (rpcs, limit) = (self.rpcs.clone(), self.max_message);
        Box::pin(async move {
            let look = service_fn(move |request| ready(rpcs.look(request)));
            let mut grpc = Grpc::new(GlanceCodec).apply_max_message_size_config(Some(limit), None);
            Ok(grpc.unary(look, request).await)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_that_of_the_descriptor() {
        assert_eq!(GET_SOCKET, format!("/{SERVICE_NAME}/GetSocket"));
    }
}
