//! Agents and controllers of different versions: each says what the other one lacks, and neither falls over what it does not know.

use std::pin::Pin;

use farsock::client::{AgentClient, ClientError, Credentials, Dialer, WatchItem};
use farsock::exercise::narration::describe;
use farsock::model::address::AddressText;
use farsock::model::event::Event;
use farsock::model::feature::{Feature, VERSION};
use farsock::model::id::{SessionId, SocketId, WatcherId};
use farsock::model::operation::{CallOptions, Target};
use farsock::model::session::SessionSpec;
use farsock::model::spec::{SocketSpec, TcpRole};
use farsock::wire::pb;
use farsock::wire::pb::agent_service_server::{AgentService, AgentServiceServer};
use farsock::wire::pb::event_service_server::{EventService, EventServiceServer};
use farsock::wire::pb::watch_events_response::Frame;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::harness::{Agent, within};

/// An agent of another version, as far as it matters here.
#[derive(Clone)]
struct Other {
    version: &'static str,
    capabilities: &'static [&'static str],
    /// What it tells whoever watches.
    frames: Vec<Frame>,
}

const INSTANCE: &str = "0123456789abcdef0123456789abcdef";

/// RPCs that it does not have, written as tonic's attribute would: that does not see what a macro makes.
macro_rules! none_of {
    ($($rpc:ident $request:ident $response:ident;)*) => {
        $(fn $rpc<'life0, 'async_trait>(
            &'life0 self,
            _: Request<pb::$request>,
        ) -> Pin<Box<dyn Future<Output = Result<Response<pb::$response>, Status>> + Send + 'async_trait>>
        where
            'life0: 'async_trait,
            Self: 'async_trait,
        {
            Box::pin(async { Err(unknown()) })
        })*
    };
}

/// What gRPC answers where there is no such RPC.
#[allow(clippy::disallowed_methods, reason = "no agent of this version says so")]
fn unknown() -> Status {
    Status::unimplemented("")
}

#[tonic::async_trait]
impl AgentService for Other {
    async fn get_agent(&self, _: Request<pb::GetAgentRequest>) -> Result<Response<pb::GetAgentResponse>, Status> {
        let agent = pb::Agent {
            instance_id: INSTANCE.into(),
            version: self.version.into(),
            capabilities: self.capabilities.iter().map(ToString::to_string).collect(),
            ..Default::default()
        };
        Ok(Response::new(pb::GetAgentResponse { agent: Some(agent) }))
    }

    none_of! {
        get_clock GetClockRequest GetClockResponse;
        list_interfaces ListInterfacesRequest ListInterfacesResponse;
        get_route GetRouteRequest GetRouteResponse;
        parse_address ParseAddressRequest ParseAddressResponse;
        resolve ResolveRequest ResolveResponse;
        check_port CheckPortRequest CheckPortResponse;
        get_kernel_counters GetKernelCountersRequest GetKernelCountersResponse;
    }
}

#[tonic::async_trait]
impl EventService for Other {
    type WatchEventsStream = ReceiverStream<Result<pb::WatchEventsResponse, Status>>;

    async fn watch_events(
        &self,
        _: Request<pb::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let (frames, told) = mpsc::channel(self.frames.len() + 2);
        let opened = pb::WatchOpened { instance_id: INSTANCE.into(), ..Default::default() };
        for frame in [Frame::Opened(opened)].into_iter().chain(self.frames.clone()) {
            frames.send(Ok(pb::WatchEventsResponse { frame: Some(frame) })).await.unwrap();
        }
        // Of a kind that is not known here: all that is left of it is that there was one.
        frames.send(Ok(pb::WatchEventsResponse { frame: None })).await.unwrap();
        Ok(Response::new(ReceiverStream::new(told)))
    }

    none_of! {
        wait_event WaitEventRequest WaitEventResponse;
        list_events ListEventsRequest ListEventsResponse;
        ack_events AckEventsRequest AckEventsResponse;
    }
}

impl Other {
    /// Starts it, and leads to it.
    fn client(self) -> AgentClient {
        let (doors, incoming) = mpsc::channel::<std::io::Result<DuplexStream>>(4);
        let server = Server::builder()
            .add_service(AgentServiceServer::new(self.clone()))
            .add_service(EventServiceServer::new(self))
            .serve_with_incoming(ReceiverStream::new(incoming));
        tokio::spawn(server);
        let dialer = Dialer::from_fn(move || {
            let doors = doors.clone();
            async move {
                let (near, far) = tokio::io::duplex(1 << 16);
                doors.send(Ok(far)).await.unwrap();
                Ok(near)
            }
        });
        AgentClient::new(&dialer, &Credentials::none())
    }
}

fn lab() -> SessionId {
    SessionId::parse("lab").unwrap()
}

/// Whatever it is asked for would be done as well as it can, which is not what was asked for: so it is not asked.
#[tokio::test]
async fn what_an_old_agent_lacks_is_said_before_anything_is_done() {
    let old = Other { version: "0.0.9", capabilities: &["tcp", "udp", "ipv4", "leases"], frames: vec![] };
    let client = Other { capabilities: &["tcp", "udp", "ipv4"], ..old.clone() }.client();
    let error = within("an answer", client.open_session(Some(&lab()), SessionSpec::default())).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the agent is farsock 0.0.9, which lacks `leases` (sessions that end with their controller): that is there from 0.1.0 on, and here \
             is {VERSION}"
        )
    );
    assert_eq!(error, ClientError::TooOld { feature: Feature::Leases, version: "0.0.9".into() });

    let client = old.client();
    let error = within("an answer", client.open_session(None, SessionSpec::default())).await.unwrap_err();
    assert!(matches!(error, ClientError::TooOld { feature: Feature::Lossless, .. }), "{error:?}");
    let desk = WatcherId::parse("desk").unwrap();
    let error = within("an answer", client.watch_as(&lab(), &desk)).await.unwrap_err();
    assert!(matches!(error, ClientError::TooOld { feature: Feature::Lossless, .. }), "{error:?}");
    // Of an RPC that it does not have, it says itself that it has it not.
    let spec = SocketSpec::tcp(TcpRole::Connect(AddressText::parse("127.0.0.1:1").unwrap()));
    let (lab, options) = (lab(), CallOptions::default());
    let connecting = client.connect(&lab, None, spec, &options);
    let error = within("an answer", connecting).await.unwrap_err();
    assert!(error.to_string().contains("lacks `transfer` (connections as byte streams)"), "{error}");
    let target = Target { session: lab, socket: SocketId::parse("line").unwrap(), uid: None };
    let error = within("an answer", client.attach(&target)).await.unwrap_err();
    assert!(error.to_string().contains("lacks `transfer`"), "{error}");
    let error = within("an answer", client.clock()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&format!("it is of another version than this `farsock`, which is {VERSION}")), "{text}");
}

#[tokio::test]
async fn an_agent_of_this_version_lacks_nothing() {
    let agent = Agent::start().await;
    let info = agent.client().info().await.unwrap();
    assert_eq!(info.version, VERSION);
    for feature in Feature::ALL {
        assert!(info.capabilities.iter().any(|known| known == feature.name()), "{info:?}");
    }
    agent.client().open_session(Some(&lab()), SessionSpec::default()).await.unwrap();
}

/// A newer agent tells of more than is known here: it is shown by its name, and everything else is as ever.
#[tokio::test]
async fn what_a_newer_agent_tells_is_shown_and_ends_nothing() {
    let socket = |event_seq, kind: &str, body| pb::Event {
        event_seq,
        socket_id: "line".into(),
        socket_uid: 1,
        kind: kind.into(),
        body,
        ..Default::default()
    };
    let created = pb::CreatedEvent { transport: 77, family: pb::Family::Ipv4.into(), ..Default::default() };
    let dropped = pb::ConnectionDroppedEvent { reason: 9, ..Default::default() };
    let events = vec![
        socket(1, "teleported", None),
        socket(2, "aborted", Some(pb::event::Body::Aborted(pb::AbortedEvent {}))),
        // A kind that is known, in a way that is not.
        socket(3, "created", Some(pb::event::Body::Created(created))),
        // It is not taken for the first reason that is known.
        socket(4, "connection_dropped", Some(pb::event::Body::ConnectionDropped(dropped))),
    ];
    let batch = |from_seq, through_seq, events| {
        Frame::Batch(pb::EventBatch { from_seq, through_seq, events, datagram_runs: vec![] })
    };
    let after = socket(5, "writable", Some(pb::event::Body::Writable(pb::WritableEvent {})));
    let newer = Other {
        version: "9.0.0",
        capabilities: &["tcp", "leases", "lossless", "transfer", "teleport"],
        frames: vec![batch(1, 4, events), batch(5, 5, vec![after])],
    };
    let client = newer.client();
    let mut watch = within("a watch", client.watch(&lab())).await.unwrap();
    let mut told = Vec::new();
    while told.len() < 5 {
        match within("news", watch.next()).await.unwrap() {
            Some(WatchItem::Events { records, .. }) => told.extend(records.into_iter().map(|record| record.event)),
            other => panic!("{other:?}"),
        }
    }
    let unknown = |kind: &str, value: Option<(&str, i32)>| Event::Unknown {
        kind: kind.into(),
        value: value.map(|(field, number)| (field.into(), number)),
    };
    assert_eq!(
        told,
        [
            unknown("teleported", None),
            Event::Aborted,
            unknown("created", Some(("created.transport", 77))),
            unknown("connection_dropped", Some(("connection_dropped.reason", 9))),
            Event::Writable,
        ]
    );
    assert_eq!(told[0].kind(), "teleported");
    assert_eq!(describe(&told[0]), "`teleported`, of which this version knows nothing: the agent is newer");
    assert_eq!(
        describe(&told[2]),
        "`created`, in which `created.transport` is 77, which this version does not know: the agent is newer"
    );
    // What is said after that is of a kind that is not known either; the end of the stream is its end.
    assert_eq!(within("the end", watch.next()).await, Ok(None));
}
