//! How `SocketService` is reached: by tonic's generated server, but for GetSocket, which has a codec of its own.

use std::future::ready;
use std::sync::Arc;

use tonic::body::Body;
use tonic::codegen::http;
use tonic::server::Grpc;
use tower::{Service, service_fn};

use crate::service::Answered;
use crate::service::socket_service::SocketRpcs;
use crate::wire::glance::GlanceCodec;
use crate::wire::pb::socket_service_server::SocketServiceServer;

/// Only this path is GetSocket's: there is no other spelling of it.
const GET_SOCKET: &str = "/farsock.v1.SocketService/GetSocket";

/// The server of the sockets.
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

    /// Answers a request to this service.
    pub fn call(self: &Arc<Self>, request: http::Request<Body>) -> Answered {
        if request.uri().path() != GET_SOCKET {
            return self.others.clone().call(request);
        }
        let server = Arc::clone(self);
        Box::pin(async move {
            let look = service_fn(|request| ready(server.rpcs.look(request)));
            let mut grpc = Grpc::new(GlanceCodec).apply_max_message_size_config(Some(server.max_message), None);
            Ok(grpc.unary(look, request).await)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::pb::socket_service_server::SERVICE_NAME;

    #[test]
    fn the_path_is_that_of_the_descriptor() {
        assert_eq!(GET_SOCKET, format!("/{SERVICE_NAME}/GetSocket"));
    }
}
