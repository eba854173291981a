//! A relay between clients and an agent that loses calls, loses answers and carries calls over twice, as a mesh of proxies may.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use farsock::wire::pb::agent_service_server::SERVICE_NAME as AGENT;
use farsock::wire::pb::event_service_server::SERVICE_NAME as EVENTS;
use farsock::wire::pb::session_service_server::SERVICE_NAME as SESSIONS;
use farsock::wire::pb::socket_service_server::SERVICE_NAME as SOCKETS;
use http_body_util::{BodyExt, Full};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{BoxFuture, Service};
use tonic::server::NamedService;
use tonic::transport::{Channel, Server};

/// What becomes of a call that changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    None,
    /// It does not come to the agent.
    CallLost,
    /// The agent carries it out, and its answer does not come back.
    AnswerLost,
    /// It comes to the agent twice, at once.
    Doubled,
}

type Mishaps = Arc<dyn Fn() -> Mishap + Send + Sync>;

/// A relay. It ends when it is dropped.
pub struct Relay {
    pub address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Relay {
    /// Leads to an agent. `mishaps` says what becomes of each call of the sockets' and the sessions' services that is no stream.
    pub async fn start(agent: Channel, mishaps: impl Fn() -> Mishap + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, incoming) = mpsc::channel::<std::io::Result<TcpStream>>(16);
        let mishaps: Mishaps = Arc::new(mishaps);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while connections.send(listener.accept().await.map(|(stream, _)| stream)).await.is_ok() {}
        });
        let server = Server::builder()
            .add_service(Way::<Agents>::new(&agent, &mishaps))
            .add_service(Way::<Events>::new(&agent, &mishaps))
            .add_service(Way::<Sessions>::new(&agent, &mishaps))
            .add_service(Way::<Sockets>::new(&agent, &mishaps))
            .serve_with_incoming(ReceiverStream::new(incoming));
        tasks.spawn(async move { server.await.unwrap() });
        Self { address, _tasks: tasks }
    }
}

trait Named: Send + Sync + 'static {
    const NAME: &'static str;
    /// Whether it is one whose calls mishaps befall.
    const AT_RISK: bool;
}

macro_rules! named {
    ($($service:ident $name:ident $at_risk:literal,)*) => {
        $(struct $service;

        impl Named for $service {
            const NAME: &'static str = $name;
            const AT_RISK: bool = $at_risk;
        })*
    };
}

named! {
    Agents AGENT false,
    Events EVENTS false,
    Sessions SESSIONS true,
    Sockets SOCKETS true,
}

/// The way to one service.
struct Way<N> {
    agent: Channel,
    mishaps: Mishaps,
    service: PhantomData<fn() -> N>,
}

impl<N> Way<N> {
    fn new(agent: &Channel, mishaps: &Mishaps) -> Self {
        Self { agent: agent.clone(), mishaps: Arc::clone(mishaps), service: PhantomData }
    }
}

impl<N> Clone for Way<N> {
    fn clone(&self) -> Self {
        Self::new(&self.agent, &self.mishaps)
    }
}

impl<N: Named> NamedService for Way<N> {
    const NAME: &'static str = N::NAME;
}

impl<N: Named> Service<Request<Body>> for Way<N> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (agent, mishaps) = (self.agent.clone(), Arc::clone(&self.mishaps));
        let streams = !N::AT_RISK || request.uri().path().ends_with("/TransferSocket");
        Box::pin(
            async move { Ok(if streams { pass(agent, request).await } else { risk(agent, request, mishaps()).await }) },
        )
    }
}

async fn risk(agent: Channel, request: Request<Body>, mishap: Mishap) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(bytes) = body.collect().await.map(http_body_util::Collected::to_bytes) else { return lost() };
    let whole = || Request::from_parts(parts.clone(), Body::new(Full::new(bytes.clone())));
    match mishap {
        Mishap::None => pass(agent, whole()).await,
        Mishap::CallLost => lost(),
        Mishap::AnswerLost => {
            pass(agent, whole()).await;
            lost()
        }
        Mishap::Doubled => tokio::join!(pass(agent.clone(), whole()), pass(agent, whole())).1,
    }
}

async fn pass(mut agent: Channel, request: Request<Body>) -> Response<Body> {
    let ready = std::future::poll_fn(|cx| Service::<Request<Body>>::poll_ready(&mut agent, cx));
    match ready.await {
        Ok(()) => agent.call(request).await.unwrap_or_else(|_| lost()),
        Err(_) => lost(),
    }
}

/// What a proxy says of what it does not get through.
#[allow(clippy::disallowed_methods, reason = "it is no agent")]
fn lost() -> Response<Body> {
    Status::unavailable("upstream connect error or disconnect/reset before headers").into_http()
}
