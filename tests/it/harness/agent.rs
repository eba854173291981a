//! An agent, and short words for its RPCs.

use std::net::SocketAddr;
use std::time::Duration;

use farsock::agent::{AgentConfig, Listen, MemoryConnector, Reloaded, Reloader};
use farsock::client::{AgentClient, Credentials, Dialer};
use farsock::wire::pb;
use farsock::wire::pb::agent_service_client::AgentServiceClient;
use farsock::wire::pb::event_service_client::EventServiceClient;
use farsock::wire::pb::session_service_client::SessionServiceClient;
use farsock::wire::pb::socket_service_client::SocketServiceClient;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{memory_channel, within};

/// A real agent in the test's process, reached by real gRPC over a pipe.
pub struct Agent {
    channel: Channel,
    connector: Option<MemoryConnector>,
    reloader: Option<Reloader>,
    listens: Vec<Listen>,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
}

/// A status that an RPC answered: its code, its reason, its one line.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    pub code: Code,
    pub reason: String,
    pub message: String,
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
        Self { code: status.code(), reason, message: status.message().to_owned() }
    }
}

/// A payload of text.
pub fn text(text: &str) -> Option<pb::Payload> {
    Some(pb::Payload { content: Some(pb::payload::Content::Text(text.into())), ..Default::default() })
}

fn duration(duration: Duration) -> Option<prost_types::Duration> {
    Some(prost_types::Duration {
        seconds: duration.as_secs().try_into().unwrap(),
        nanos: duration.subsec_nanos().try_into().unwrap(),
    })
}

impl Agent {
    pub async fn start() -> Self {
        Self::start_with(AgentConfig::default()).await
    }

    pub async fn start_with(config: AgentConfig) -> Self {
        let agent = farsock::agent::Agent::bind(config).await.unwrap();
        let (connector, reloader, listens) = (agent.connector(), agent.reloader(), agent.listens());
        let channel = memory_channel(connector.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            // A test that ends without a word stops its agent, too.
            let _ = stopped.await;
        };
        let served = tokio::spawn(agent.serve(stopped, CancellationToken::new()));
        Self { channel, connector: Some(connector), reloader: Some(reloader), listens, stop: Some(stop), served }
    }

    /// One that runs elsewhere. Stopping this one stops nothing.
    pub fn at(channel: Channel) -> Self {
        Self { channel, connector: None, reloader: None, listens: vec![], stop: None, served: tokio::spawn(async {}) }
    }

    /// Stops in good order, and waits for it.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        within("the agent's end", self.served).await.unwrap();
    }

    /// Lets the agent begin to stop, and goes on using it.
    pub fn begin_to_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Reads its credentials and its policy anew, which must work.
    pub async fn reload(&self) -> Reloaded {
        let reloader = self.reloader.as_ref().expect("the agent runs in this process");
        within("the reload", reloader.reload()).await.unwrap()
    }

    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Leads to it from within the process.
    pub fn connector(&self) -> MemoryConnector {
        self.connector.clone().expect("the agent runs in this process")
    }

    /// Where it serves by TCP, if it was told to.
    pub fn tcp(&self) -> SocketAddr {
        let tcp = self.listens.iter().find_map(|listen| match listen {
            Listen::Tcp(address) => Some(*address),
            Listen::Unix(_) => None,
        });
        tcp.expect("it serves by TCP")
    }

    /// The client library, on connections of its own.
    pub fn client(&self) -> AgentClient {
        let connector = self.connector();
        let dialer = Dialer::from_fn(move || {
            let connector = connector.clone();
            async move { connector.connect().await }
        });
        AgentClient::new(&dialer, &Credentials::none())
    }

    pub fn sockets(&self) -> SocketServiceClient<Channel> {
        SocketServiceClient::new(self.channel.clone()).max_decoding_message_size(64 << 20)
    }

    pub fn sessions(&self) -> SessionServiceClient<Channel> {
        SessionServiceClient::new(self.channel.clone())
    }

    pub fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel.clone()).max_decoding_message_size(64 << 20)
    }

    pub fn agent(&self) -> AgentServiceClient<Channel> {
        AgentServiceClient::new(self.channel.clone())
    }

    // === Sockets ===

    pub async fn create_tcp(&self, id: &str, spec: pb::TcpSocketSpec) -> Result<pb::CreateSocketResponse, Refused> {
        self.create(id, pb::create_socket_request::Kind::Tcp(spec)).await
    }

    pub async fn create_udp(&self, id: &str, spec: pb::UdpSocketSpec) -> Result<pb::CreateSocketResponse, Refused> {
        self.create(id, pb::create_socket_request::Kind::Udp(spec)).await
    }

    async fn create(
        &self,
        id: &str,
        kind: pb::create_socket_request::Kind,
    ) -> Result<pb::CreateSocketResponse, Refused> {
        let request = pb::CreateSocketRequest { socket_id: id.into(), kind: Some(kind), ..Default::default() };
        Ok(self.sockets().create_socket(request).await?.into_inner())
    }

    /// Makes a listener, and answers where it listens.
    pub async fn listen(&self, id: &str, address: &str) -> String {
        self.listen_with(id, address, pb::TcpSocketSpec::default()).await
    }

    pub async fn listen_with(&self, id: &str, address: &str, spec: pb::TcpSocketSpec) -> String {
        let role = Some(pb::tcp_socket_spec::Role::Listen(address.into()));
        let created = self.create_tcp(id, pb::TcpSocketSpec { role, ..spec }).await.unwrap();
        assert_eq!(error_name(created.report.as_ref()), "", "{created:?}");
        created.socket.unwrap().local.unwrap().text
    }

    /// Makes a connection, which must succeed, and answers the socket.
    pub async fn connect(&self, id: &str, address: &str) -> pb::Socket {
        self.connect_with(id, address, pb::TcpSocketSpec::default()).await
    }

    pub async fn connect_with(&self, id: &str, address: &str, spec: pb::TcpSocketSpec) -> pb::Socket {
        let role = Some(pb::tcp_socket_spec::Role::Connect(address.into()));
        let created = self.create_tcp(id, pb::TcpSocketSpec { role, ..spec }).await.unwrap();
        assert_eq!(error_name(created.report.as_ref()), "", "{created:?}");
        let socket = created.socket.unwrap();
        assert_eq!(socket.state(), pb::SocketState::Connected);
        socket
    }

    /// Writes text, all of which must be taken.
    pub async fn write(&self, id: &str, payload: &str) {
        let written = self.try_write(id, payload).await.unwrap();
        assert_eq!(written.bytes_written(), u32::try_from(payload.len()).unwrap(), "{written:?}");
    }

    pub async fn try_write(&self, id: &str, payload: &str) -> Result<pb::WriteSocketResponse, Refused> {
        let request = pb::WriteSocketRequest { socket_id: id.into(), payload: text(payload), ..Default::default() };
        Ok(self.sockets().write_socket(request).await?.into_inner())
    }

    pub async fn receive(&self, id: &str) -> Result<pb::ReceiveSocketResponse, Refused> {
        let request = pb::ReceiveSocketRequest { socket_id: id.into(), ..Default::default() };
        Ok(self.sockets().receive_socket(request).await?.into_inner())
    }

    /// Receives text, which must be there.
    pub async fn receive_text(&self, id: &str) -> String {
        let received = self.receive(id).await.unwrap();
        match received.payload.clone().and_then(|payload| payload.content) {
            Some(pb::payload::Content::Text(text)) => text,
            _ => panic!("no text: {received:?}"),
        }
    }

    pub async fn shut_down(&self, id: &str, how: pb::ShutdownHow) -> pb::ShutdownSocketResponse {
        let request = pb::ShutdownSocketRequest { socket_id: id.into(), how: how.into(), ..Default::default() };
        self.sockets().shutdown_socket(request).await.unwrap().into_inner()
    }

    pub async fn close(&self, id: &str) -> pb::CloseSocketResponse {
        let request = pb::CloseSocketRequest { socket_id: id.into(), ..Default::default() };
        self.sockets().close_socket(request).await.unwrap().into_inner()
    }

    pub async fn abort(&self, id: &str) -> pb::AbortSocketResponse {
        let request = pb::AbortSocketRequest { socket_id: id.into(), ..Default::default() };
        self.sockets().abort_socket(request).await.unwrap().into_inner()
    }

    pub async fn socket(&self, id: &str) -> pb::Socket {
        let request = pb::GetSocketRequest { socket_id: id.into(), ..Default::default() };
        self.sockets().get_socket(request).await.unwrap().into_inner().socket.unwrap()
    }

    // === Events ===

    /// The first event of this kind of this socket, which has come or must come.
    pub async fn event(&self, id: &str, kind: &str) -> pb::Event {
        self.event_after(id, kind, 0).await
    }

    /// The first such event after a number.
    pub async fn event_after(&self, id: &str, kind: &str, after: u64) -> pb::Event {
        let request = pb::WaitEventRequest {
            filter: Some(pb::EventFilter { socket_ids: vec![id.into()], kinds: vec![kind.into()] }),
            after_event_seq: Some(after),
            timeout: duration(Duration::from_secs(20)),
            ..Default::default()
        };
        let waited = self.events().wait_event(request).await.unwrap().into_inner();
        waited.event.unwrap_or_else(|| panic!("`{kind}` of `{id}` did not come"))
    }

    /// The kinds of all events of this socket so far, in order.
    pub async fn kinds(&self, id: &str) -> Vec<String> {
        let request = pb::ListEventsRequest {
            filter: Some(pb::EventFilter { socket_ids: vec![id.into()], kinds: vec![] }),
            ..Default::default()
        };
        let listed = self.events().list_events(request).await.unwrap().into_inner();
        listed.events.into_iter().map(|event| event.kind).collect()
    }
}

/// The name of the error that a report has; empty if it has none.
pub fn error_name(report: Option<&pb::Report>) -> &str {
    report.and_then(|report| report.error.as_ref()).map_or("", |error| error.name.as_str())
}
