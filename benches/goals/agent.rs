//! farsock's side: a real agent with its token, and clients of it.

use std::net::SocketAddr;

use farsock::agent::{Agent, AgentConfig, AuditFile, Listen};
use farsock::client::{AgentClient, Credentials, Dialer, Door, Endpoint};
use farsock::model::id::SessionId;
use farsock::model::limits::Limits;
use farsock::model::operation::{Action, CallOptions};
use farsock::model::session::{LEASE_TTL, LeaseSpec, Retention, SessionSpec};
use farsock::wire::pb;
use farsock::wire::pb::event_service_client::EventServiceClient;
use farsock::wire::pb::socket_service_client::SocketServiceClient;
use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::certificates::Certificates;
use crate::channel::{Address, CALL_WINDOWS};
use crate::load::Caller;
use crate::side::{Kind, Side};

/// The generated client, with a token.
pub(crate) type Sockets = SocketServiceClient<Door>;

/// The same, for logs.
pub(crate) type Events = EventServiceClient<Door>;

/// An agent.
pub(crate) struct TestAgent {
    _side: Side,
    tcp: SocketAddr,
    unix: Address,
    credentials: Credentials,
    _directory: tempfile::TempDir,
}

impl TestAgent {
    /// Starts one, as `farsock agent` would.
    pub(crate) fn start(kind: Kind) -> Self {
        Self::start_with(kind, Limits::default())
    }

    /// Starts one that asks for certificates, and does what a policy says where there is one; and answers where a controller with one reaches it.
    pub(crate) fn start_tls(kind: Kind, certificates: &Certificates, policy: Option<&str>) -> (Self, Address) {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        let policy_file = policy.map(|policy| {
            std::fs::write(file("policy.yaml"), policy).unwrap();
            file("policy.yaml")
        });
        let audit = policy.map(|_| AuditFile::at(file("audit.jsonl")));
        let config = AgentConfig { tls: Some(certificates.host()), policy_file, audit, ..AgentConfig::default() };
        let agent = Self::start_as(kind, config, directory);
        let address = Address::Tls(agent.tcp, certificates.client_config());
        (agent, address)
    }

    /// Starts one with these limits.
    pub(crate) fn start_with(kind: Kind, limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let token_file = Some(directory.path().join("token"));
        Self::start_as(kind, AgentConfig { limits, token_file, ..AgentConfig::default() }, directory)
    }

    fn start_as(kind: Kind, config: AgentConfig, directory: tempfile::TempDir) -> Self {
        let (path, token) = (directory.path().join("agent.sock"), config.token_file.clone());
        let listen = vec![Listen::Tcp(([127, 0, 0, 1], 0).into()), Listen::Unix(path.clone())];
        let config = AgentConfig { listen, ..config };
        let side = Side::start("agent", kind);
        let tcp = side.run(async move {
            let agent = Agent::bind(config).await.unwrap();
            let tcp = agent.listens().into_iter().find_map(|listen| match listen {
                Listen::Tcp(addr) => Some(addr),
                Listen::Unix(_) => None,
            });
            tokio::spawn(agent.serve(std::future::pending(), CancellationToken::new()));
            tcp.unwrap()
        });
        let credentials = token.map_or_else(Credentials::none, |token| Credentials::token_file(&token).unwrap());
        Self { _side: side, tcp, unix: Address::Unix(path), credentials, _directory: directory }
    }

    /// Where it is reached by TCP.
    pub(crate) fn tcp(&self) -> Address {
        Address::Tcp(self.tcp)
    }

    /// Where it is reached by its Unix socket.
    pub(crate) fn unix(&self) -> Address {
        self.unix.clone()
    }

    /// The generated client, on a connection like that of the other side.
    pub(crate) fn sockets(&self, client: &Side, address: Address) -> Sockets {
        let channel = client.run(address.channel(CALL_WINDOWS));
        SocketServiceClient::new(Door::new(channel, &self.credentials))
    }

    /// Makes the generated client of logs on any connection.
    pub(crate) fn events(&self) -> impl Fn(Channel) -> Events + Clone + Send + Sync + use<> {
        let credentials = self.credentials.clone();
        move |channel| EventServiceClient::new(Door::new(channel, &credentials))
    }

    /// The client library.
    pub(crate) fn client(&self, client: &Side) -> AgentClient {
        let endpoint = Endpoint::Tcp { host: self.tcp.ip().to_string(), port: self.tcp.port() };
        let credentials = self.credentials.clone();
        client.run(async move { AgentClient::new(&Dialer::to(&endpoint), &credentials) })
    }
}

/// A session with a log of its own.
pub(crate) async fn begin_session(library: &AgentClient, name: &str) -> SessionId {
    let session = SessionId::parse(name).unwrap();
    // Longer than any of them is used: nobody renews it.
    let lease = LeaseSpec { ttl: Some(*LEASE_TTL.end()), ..LeaseSpec::default() };
    let spec = SessionSpec { lease, retention: Retention::Ring, ..SessionSpec::default() };
    let create = Action::CreateSession { session: Some(session.clone()), spec };
    library.call(&create, &CallOptions::default()).await.unwrap();
    session
}

/// Ends a session, with all that is in it.
pub(crate) async fn end_session(library: &AgentClient, session: SessionId) {
    let delete = Action::DeleteSession { session, allow_missing: false };
    library.call(&delete, &CallOptions::default()).await.unwrap();
}

/// A TCP socket that does this, and where it is.
pub(crate) async fn create_tcp(
    sockets: &mut Sockets,
    session: &str,
    id: &str,
    role: pb::tcp_socket_spec::Role,
) -> SocketAddr {
    let tcp = pb::TcpSocketSpec { role: Some(role), ..Default::default() };
    create(sockets, session, id, pb::create_socket_request::Kind::Tcp(tcp)).await
}

/// A UDP socket with a receive buffer of so many bytes, or of the kernel's choice, and where it is.
pub(crate) async fn create_udp(sockets: &mut Sockets, session: &str, id: &str, buffer: Option<i32>) -> SocketAddr {
    let option =
        |bytes| pb::SocketOption { name: "SO_RCVBUF".to_owned(), value: Some(pb::socket_option::Value::Number(bytes)) };
    let options = buffer.into_iter().map(option).collect();
    let udp = pb::UdpSocketSpec { bind: "127.0.0.1:0".to_owned(), options, ..Default::default() };
    create(sockets, session, id, pb::create_socket_request::Kind::Udp(udp)).await
}

async fn create(sockets: &mut Sockets, session: &str, id: &str, kind: pb::create_socket_request::Kind) -> SocketAddr {
    let call = pb::Call { fail_on_error: true, ..Default::default() };
    let request = pb::CreateSocketRequest {
        session_id: session.to_owned(),
        socket_id: id.to_owned(),
        kind: Some(kind),
        call: Some(call),
        ..Default::default()
    };
    let made = sockets.create_socket(request).await.unwrap().into_inner();
    made.socket.unwrap().local.unwrap().text.parse().unwrap()
}

/// Asks for one socket, again and again.
#[derive(Clone)]
pub(crate) struct GetSocket {
    pub(crate) sockets: Sockets,
    pub(crate) id: &'static str,
}

impl GetSocket {
    pub(crate) fn request(&self) -> pb::GetSocketRequest {
        pb::GetSocketRequest { socket_id: self.id.to_owned(), ..pb::GetSocketRequest::default() }
    }

    /// How many bytes the question has, and what of the answer is about the socket, as protobuf has it.
    pub(crate) async fn sample(&mut self) -> (usize, Vec<u8>) {
        let request = self.request();
        let asked = request.encoded_len();
        (asked, self.sockets.get_socket(request).await.unwrap().into_inner().socket.unwrap().encode_to_vec())
    }
}

impl Caller for GetSocket {
    async fn call(&mut self) {
        let request = self.request();
        self.sockets.get_socket(request).await.unwrap();
    }
}
