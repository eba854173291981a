//! The other side: tonic with nothing behind it. Messages that carry bytes, a call that answers one, a stream that
//! repeats one, and one that takes many.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use farsock::wire::pb;
use futures_util::stream::{self, BoxStream, StreamExt};
use prost::Message;
use rustls::ServerConfig;
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;
use tonic::body::Body;
use tonic::client::Grpc as ClientGrpc;
use tonic::codegen::http;
use tonic::server::{ClientStreamingService, Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic::transport::Channel;
use tonic::transport::server::{Server, TcpIncoming};
use tonic::{GrpcMethod, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::Service;

use crate::certificates::Certificates;
use crate::channel::{Address, CALL_WINDOWS, FRAME};
use crate::load::Caller;
use crate::side::{Kind, Side};

/// What is asked.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Ask {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) data: Bytes,
}

/// What is answered: one piece of bytes, or many small ones, or many in one with the places where they end.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Answer {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) data: Bytes,
    #[prost(message, repeated, tag = "2")]
    pub(crate) records: Vec<Record>,
    #[prost(uint32, repeated, tag = "3")]
    pub(crate) ends: Vec<u32>,
}

/// A small event, as bare as can be.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Record {
    #[prost(uint64, tag = "1")]
    pub(crate) seq: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) data: Bytes,
}

/// A bare server.
pub(crate) struct BareServer {
    side: Side,
    tcp: Address,
    unix: Address,
    _directory: tempfile::TempDir,
}

impl BareServer {
    /// Starts one that answers this, once to a call and for ever to a stream.
    pub(crate) fn start(kind: Kind, answer: Answer) -> Self {
        let side = Side::start("bare", kind);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bare.sock");
        let tcp = side.run(serve(Bare::new(answer), path.clone()));
        Self { side, tcp, unix: Address::Unix(path), _directory: directory }
    }

    /// Lets it be reached by TLS too, with certificates on both sides; answers where.
    pub(crate) fn with_certificates(&self, answer: Answer, certificates: &Certificates) -> Address {
        let config = certificates.server_config();
        let addr = self.side.run(serve_tls(Bare::new(answer), config));
        Address::Tls(addr, certificates.client_config())
    }

    /// Where it is reached by TCP.
    pub(crate) fn tcp(&self) -> Address {
        self.tcp.clone()
    }

    /// Where it is reached by its Unix socket.
    pub(crate) fn unix(&self) -> Address {
        self.unix.clone()
    }
}

/// Serves by TCP and by a Unix socket; answers the address.
async fn serve(bare: Bare, path: PathBuf) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let tcp = TcpIncoming::from(listener).with_nodelay(Some(true));
    let unix = stream::unfold(UnixListener::bind(path).unwrap(), |listener| async move {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    });
    tokio::spawn(server().add_service(bare.clone()).serve_with_incoming(tcp));
    tokio::spawn(server().add_service(bare).serve_with_incoming(Box::pin(unix)));
    Address::Tcp(addr)
}

/// Serves by TLS, one handshake after the other; answers the address.
async fn serve_tls(bare: Bare, config: Arc<ServerConfig>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let shaken = stream::unfold((listener, TlsAcceptor::from(config)), |(listener, acceptor)| async move {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        Some((acceptor.accept(stream).await, (listener, acceptor)))
    });
    tokio::spawn(server().add_service(bare).serve_with_incoming(Box::pin(shaken)));
    addr
}

/// With the settings of an agent.
fn server() -> Server {
    let (stream, connection) = CALL_WINDOWS;
    Server::builder()
        .initial_stream_window_size(stream)
        .initial_connection_window_size(connection)
        .max_concurrent_streams(1024)
        .max_frame_size(FRAME)
}

/// The service, as tonic's generated code would have it.
#[derive(Clone)]
struct Bare {
    answer: Arc<Answer>,
    /// The same as the message that GetSocket answers: the bytes of an [`Answer`] are such a one where they are a socket.
    socket: Arc<pb::GetSocketResponse>,
}

impl Bare {
    fn new(answer: Answer) -> Self {
        let socket = pb::GetSocketResponse::decode(&*answer.encode_to_vec()).unwrap_or_default();
        Self { answer: Arc::new(answer), socket: Arc::new(socket) }
    }
}

impl NamedService for Bare {
    const NAME: &'static str = "bench.Bare";
}

impl Service<http::Request<Body>> for Bare {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (method, socket) = (Method(Arc::clone(&self.answer)), Arc::clone(&self.socket));
        let rpc = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<Answer, Ask>::default());
            Ok(match rpc.as_str() {
                "GetSocket" => Grpc::new(ProstCodec::default()).unary(GetMethod(socket), request).await,
                "Stream" => grpc.server_streaming(method, request).await,
                "Upload" => grpc.client_streaming(method, request).await,
                _ => grpc.unary(method, request).await,
            })
        })
    }
}

struct Method(Arc<Answer>);

type Answered<T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send>>;

impl UnaryService<Ask> for Method {
    type Response = Answer;
    type Future = Answered<Answer>;

    fn call(&mut self, _: Request<Ask>) -> Self::Future {
        let answer = Answer::clone(&self.0);
        Box::pin(async move { Ok(Response::new(answer)) })
    }
}

struct GetMethod(Arc<pb::GetSocketResponse>);

impl UnaryService<pb::GetSocketRequest> for GetMethod {
    type Response = pb::GetSocketResponse;
    type Future = Answered<pb::GetSocketResponse>;

    fn call(&mut self, _: Request<pb::GetSocketRequest>) -> Self::Future {
        let answer = pb::GetSocketResponse::clone(&self.0);
        Box::pin(async move { Ok(Response::new(answer)) })
    }
}

impl ServerStreamingService<Ask> for Method {
    type Response = Answer;
    type ResponseStream = BoxStream<'static, Result<Answer, Status>>;
    type Future = Answered<Self::ResponseStream>;

    fn call(&mut self, _: Request<Ask>) -> Self::Future {
        let answer = Arc::clone(&self.0);
        let repeated = stream::repeat_with(move || Ok(Answer::clone(&answer))).boxed();
        Box::pin(async move { Ok(Response::new(repeated)) })
    }
}

impl ClientStreamingService<Ask> for Method {
    type Response = Answer;
    type Future = Answered<Answer>;

    fn call(&mut self, request: Request<Streaming<Ask>>) -> Self::Future {
        Box::pin(async move {
            let mut asked = request.into_inner();
            while asked.message().await?.is_some() {}
            Ok(Response::new(Answer::default()))
        })
    }
}

/// A client of it.
#[derive(Clone)]
pub(crate) struct BareClient {
    grpc: ClientGrpc<Channel>,
    ask: Ask,
}

impl BareClient {
    /// A client that asks this.
    pub(crate) fn new(channel: Channel, ask: Bytes) -> Self {
        let grpc = ClientGrpc::new(channel).max_decoding_message_size(64 << 20);
        Self { grpc, ask: Ask { data: ask } }
    }

    /// Opens a stream of answers.
    pub(crate) async fn stream(&mut self) -> Streaming<Answer> {
        self.grpc.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static("/bench.Bare/Stream");
        let codec = ProstCodec::<Ask, Answer>::default();
        self.grpc.server_streaming(Request::new(self.ask.clone()), path, codec).await.unwrap().into_inner()
    }
}

impl BareClient {
    /// Sends what it asks again and again for as long as it is wanted; answers how many bytes the server has taken.
    pub(crate) async fn upload(&mut self, mut wanted: impl FnMut() -> bool + Send + 'static) -> f64 {
        self.grpc.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static("/bench.Bare/Upload");
        let codec = ProstCodec::<Ask, Answer>::default();
        let sent = Arc::new(AtomicUsize::new(0));
        let (ask, count) = (self.ask.clone(), Arc::clone(&sent));
        let asks = stream::repeat_with(move || {
            count.fetch_add(ask.data.len(), Ordering::Relaxed);
            ask.clone()
        });
        let asks = asks.take_while(move |_| std::future::ready(wanted()));
        self.grpc.client_streaming(Request::new(asks), path, codec).await.unwrap();
        #[allow(clippy::cast_precision_loss, reason = "a bench does not come to 2^53 bytes")]
        let sent = sent.load(Ordering::Relaxed) as f64;
        sent
    }
}

impl BareClient {
    /// One call, as tonic's generated client makes it.
    async fn call_with<Q, A>(&mut self, path: &'static str, rpc: &'static str, ask: Q)
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.grpc.ready().await.unwrap();
        let codec = ProstCodec::<Q, A>::default();
        let mut request = Request::new(ask);
        request.extensions_mut().insert(GrpcMethod::new("bench.Bare", rpc));
        self.grpc.unary(request, http::uri::PathAndQuery::from_static(path), codec).await.unwrap();
    }
}

impl Caller for BareClient {
    async fn call(&mut self) {
        let ask = self.ask.clone();
        self.call_with::<Ask, Answer>("/bench.Bare/Call", "Call", ask).await;
    }
}

/// The same client, which asks and is answered by the messages of GetSocket.
#[derive(Clone)]
pub(crate) struct SameMessages(pub(crate) BareClient, pub(crate) pb::GetSocketRequest);

impl Caller for SameMessages {
    async fn call(&mut self) {
        let ask = self.1.clone();
        self.0.call_with::<_, pb::GetSocketResponse>("/bench.Bare/GetSocket", "GetSocket", ask).await;
    }
}
