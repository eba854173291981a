//! What an agent tells about itself: its services, the manual of each, its health; by both versions of reflection.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use prost_types::FileDescriptorProto;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{Agent, within};

const SERVICES: [&str; 7] = [
    "farsock.v1.AgentService",
    "farsock.v1.EventService",
    "farsock.v1.SessionService",
    "farsock.v1.SocketService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

/// The questions are the same in both versions; the types are not.
macro_rules! reflection {
    ($name:ident, $version:ident) => {
        mod $name {
            use tonic_reflection::pb::$version as v;
            use v::server_reflection_client::ServerReflectionClient;
            use v::server_reflection_request::MessageRequest;
            use v::server_reflection_response::MessageResponse;

            use tonic::{Code, Status};

            use crate::harness::{Agent, within};

            pub async fn ask(agent: &Agent, question: MessageRequest) -> Result<MessageResponse, Status> {
                let request = v::ServerReflectionRequest { message_request: Some(question), ..Default::default() };
                let mut client = ServerReflectionClient::new(agent.channel());
                let answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
                let answer = within("an answer", answers.into_inner().message()).await?;
                Ok(answer.unwrap().message_response.unwrap())
            }

            pub async fn services(agent: &Agent) -> Vec<String> {
                match ask(agent, MessageRequest::ListServices(String::new())).await {
                    Ok(MessageResponse::ListServicesResponse(list)) => {
                        list.service.into_iter().map(|s| s.name).collect()
                    }
                    other => panic!("{other:?}"),
                }
            }

            /// The files that describe a symbol; none if there is no such symbol.
            pub async fn files(agent: &Agent, symbol: &str) -> Vec<Vec<u8>> {
                match ask(agent, MessageRequest::FileContainingSymbol(symbol.into())).await {
                    Ok(MessageResponse::FileDescriptorResponse(files)) => files.file_descriptor_proto,
                    Err(status) if status.code() == Code::NotFound => Vec::new(),
                    other => panic!("{other:?}"),
                }
            }
        }
    };
}

reflection!(current, v1);
reflection!(older, v1alpha);

/// Every comment of a file, by the path of what it is about.
fn comments(file: &FileDescriptorProto) -> BTreeMap<Vec<i32>, String> {
    let info = file.source_code_info.clone().unwrap_or_default();
    info.location.into_iter().map(|l| (l.path.clone(), l.leading_comments().to_owned())).collect()
}

#[tokio::test]
async fn both_versions_list_every_service_once() {
    let agent = Agent::start().await;
    let wanted: Vec<String> = SERVICES.iter().map(ToString::to_string).collect();
    for mut listed in [current::services(&agent).await, older::services(&agent).await] {
        listed.sort();
        assert_eq!(listed, wanted);
    }
    agent.stop().await;
}

#[tokio::test]
async fn both_versions_describe_everything_with_its_comments() {
    let agent = Agent::start().await;
    for service in SERVICES.iter().filter(|service| service.starts_with("farsock")) {
        let described = current::files(&agent, service).await;
        assert_eq!(described, older::files(&agent, service).await, "{service}");
        let file = FileDescriptorProto::decode(described[0].as_slice()).unwrap();
        let comments = comments(&file);
        let says = |path: &[i32]| comments.get(path).is_some_and(|text| !text.trim().is_empty());
        for (s, service) in file.service.iter().enumerate() {
            let s = i32::try_from(s).unwrap();
            assert!(says(&[6, s]), "{}", service.name());
            for (m, method) in service.method.iter().enumerate() {
                assert!(says(&[6, s, 2, i32::try_from(m).unwrap()]), "{}", method.name());
            }
        }
        for (m, message) in file.message_type.iter().enumerate() {
            for (f, field) in message.field.iter().enumerate() {
                let path = [4, i32::try_from(m).unwrap(), 2, i32::try_from(f).unwrap()];
                assert!(says(&path), "{}.{}", message.name(), field.name());
            }
        }
    }
    agent.stop().await;
}

/// What errors carry in their details can be read by a client that knows nothing beforehand.
#[tokio::test]
async fn the_types_of_error_details_are_known() {
    let agent = Agent::start().await;
    for name in ["ErrorInfo", "BadRequest", "QuotaFailure", "RetryInfo", "ResourceInfo"] {
        let symbol = format!("google.rpc.{name}");
        assert!(!current::files(&agent, &symbol).await.is_empty(), "{symbol}");
        assert!(!older::files(&agent, &symbol).await.is_empty(), "{symbol}");
    }
    assert!(current::files(&agent, "farsock.v1.NoSuchThing").await.is_empty());
    assert!(older::files(&agent, "farsock.v1.NoSuchThing").await.is_empty());
    agent.stop().await;
}

/// grpcurl asks for one file after the other until it has all that it needs.
#[tokio::test]
async fn every_import_can_be_asked_for() {
    let agent = Agent::start().await;
    let mut known = BTreeSet::new();
    let first = current::files(&agent, "farsock.v1.SocketService").await;
    let mut open: Vec<String> = FileDescriptorProto::decode(first[0].as_slice()).unwrap().dependency;
    while let Some(name) = open.pop() {
        if !known.insert(name.clone()) {
            continue;
        }
        use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
        use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
        let answer = current::ask(&agent, MessageRequest::FileByFilename(name.clone())).await.unwrap();
        let MessageResponse::FileDescriptorResponse(files) = answer else { panic!("{name}: {answer:?}") };
        for file in files.file_descriptor_proto {
            open.extend(FileDescriptorProto::decode(file.as_slice()).unwrap().dependency);
        }
    }
    assert!(known.contains("google/protobuf/duration.proto"), "{known:?}");
    agent.stop().await;
}

#[tokio::test]
async fn health_knows_the_agent_and_each_service() {
    let agent = Agent::start().await;
    let mut health = HealthClient::new(agent.channel());
    let own = SERVICES.iter().filter(|service| service.starts_with("farsock"));
    for service in std::iter::once(&"").chain(own) {
        let request = HealthCheckRequest { service: (*service).into() };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service:?}");
    }
    let unknown = health.check(HealthCheckRequest { service: "farsock.v1.NoSuchService".into() }).await;
    assert_eq!(unknown.unwrap_err().code(), Code::NotFound);
    agent.stop().await;
}

#[tokio::test]
async fn every_service_stops_serving_with_the_agent() {
    let mut agent = Agent::start().await;
    let mut streams = Vec::new();
    for service in SERVICES.iter().filter(|service| service.starts_with("farsock")) {
        let request = HealthCheckRequest { service: (*service).into() };
        let mut stream = HealthClient::new(agent.channel()).watch(request).await.unwrap().into_inner();
        let first = within("a state", stream.message()).await.unwrap().unwrap();
        assert_eq!(first.status(), ServingStatus::Serving);
        streams.push(stream);
    }
    agent.begin_to_stop();
    for mut stream in streams {
        let next = within("a state", stream.message()).await.unwrap().unwrap();
        assert_eq!(next.status(), ServingStatus::NotServing);
    }
    agent.stop().await;
}
