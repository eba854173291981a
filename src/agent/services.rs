//! The services of an agent, by their paths.

use std::sync::{Arc, LazyLock};

use tonic::body::Body;
use tonic::codegen::http::Request;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::Service;

use crate::service::Answered;
use crate::service::access::Access;
use crate::service::agent_service::AgentRpcs;
use crate::service::event_server::EventServer;
use crate::service::event_service::EventRpcs;
use crate::service::session_service::SessionRpcs;
use crate::service::socket_server::SocketServer;
use crate::service::socket_service::SocketRpcs;
use crate::wire::FILE_DESCRIPTOR_SET;
use crate::wire::pb::agent_service_server::{self, AgentServiceServer};
use crate::wire::pb::session_service_server::{self, SessionServiceServer};
use crate::wire::pb::{event_service_server, socket_service_server};

/// The requests that are streams of messages, and may take as long as they like.
const STREAMS: [&str; 3] = [
    "/farsock.v1.SocketService/TransferSocket",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// All services.
pub(super) struct Services {
    agent: AgentServiceServer<AgentRpcs>,
    sessions: SessionServiceServer<SessionRpcs>,
    sockets: Arc<SocketServer>,
    events: EventServer,
    /// Health and reflection, and what tells of paths that lead nowhere.
    others: Routes,
}

/// Tells those who watch the health of the agent as a whole, and of each service.
pub(super) struct Health(HealthReporter);

impl Services {
    /// Those of an agent, which take messages of at most so many bytes; and what tells of their health.
    pub(super) async fn new(agent: AgentRpcs, access: &Access, max_message: usize) -> (Self, Health) {
        let (reporter, health) = tonic_health::server::health_reporter();
        let services = Self {
            agent: AgentServiceServer::new(agent).max_decoding_message_size(max_message),
            sessions: SessionServiceServer::new(SessionRpcs(access.clone())).max_decoding_message_size(max_message),
            sockets: Arc::new(SocketServer::new(SocketRpcs(access.clone()), max_message)),
            events: EventServer::new(EventRpcs(access.clone()), max_message),
            others: reflection().add_service(health).prepare(),
        };
        let health = Health(reporter);
        health.tell(ServingStatus::Serving).await;
        (services, health)
    }

    /// Whether a request with this path is a stream of messages. All others are one message.
    pub(super) fn is_stream(path: &str) -> bool {
        STREAMS.contains(&path)
    }

    /// Leads a request to the service that its path names. There is no other spelling of a path.
    pub(super) fn call(&self, request: Request<Body>) -> Answered {
        let named = request.uri().path().strip_prefix('/').and_then(|path| path.split_once('/'));
        match named.map(|(service, _)| service) {
            Some(agent_service_server::SERVICE_NAME) => self.agent.clone().call(request),
            Some(session_service_server::SERVICE_NAME) => self.sessions.clone().call(request),
            Some(socket_service_server::SERVICE_NAME) => self.sockets.call(request),
            Some(event_service_server::SERVICE_NAME) => self.events.call(request),
            _ => Box::pin(self.others.clone().call(request)),
        }
    }
}

impl Health {
    const OF: [&str; 5] = [
        "",
        agent_service_server::SERVICE_NAME,
        session_service_server::SERVICE_NAME,
        socket_service_server::SERVICE_NAME,
        event_service_server::SERVICE_NAME,
    ];

    /// Tells that all of them serve, or that they do not.
    pub(super) async fn tell(&self, status: ServingStatus) {
        for service in Self::OF {
            self.0.set_service_status(service, status).await;
        }
    }

    /// Waits no longer for those who watch it.
    pub(super) async fn end(mut self) {
        for service in Self::OF {
            self.0.clear_service_status(service).await;
        }
    }
}

/// Serves all descriptors under both names of reflection: older tools know only the second. They are decoded once, however many agents a
/// process has.
fn reflection() -> Routes {
    static REFLECTION: LazyLock<Routes> = LazyLock::new(|| {
        let builder = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
                // Each of the two lists the other one, too.
                .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
        };
        match (builder().build_v1(), builder().build_v1alpha()) {
            (Ok(v1), Ok(v1alpha)) => Routes::new(v1).add_service(v1alpha),
            _ => {
                tracing::error!("the descriptors that are compiled in cannot be read: there is no reflection");
                Routes::default()
            }
        }
    });
    REFLECTION.clone()
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn the_requests_that_are_streams_are_those_of_the_descriptors() {
        let sets = [
            FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let mut streams = Vec::new();
        for file in sets.into_iter().flat_map(|set| FileDescriptorSet::decode(set).unwrap().file) {
            for service in &file.service {
                let methods = service.method.iter().filter(|method| method.client_streaming());
                streams
                    .extend(methods.map(|method| format!("/{}.{}/{}", file.package(), service.name(), method.name())));
            }
        }
        assert_eq!(streams, STREAMS);
    }
}
