//! One agent, as a client calls it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tonic::Response;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::client::acks::Holder;
use crate::client::bulk::Bulk;
use crate::client::connect::Dialer;
use crate::client::door::{Credentials, Door};
use crate::client::error::ClientError;
use crate::client::retry::Sender;
use crate::client::session::Gate;
use crate::client::watch::Watch;
use crate::model::address::{Family, Transport};
use crate::model::error::SocketError;
use crate::model::feature::Feature;
use crate::model::id::{InstanceId, SessionId, SocketId, WatcherId};
use crate::model::memory::SocketMemory;
use crate::model::operation::{Action, CallOptions, Outcome, SessionView};
use crate::model::option::{OptionResult, OptionSpec};
use crate::model::tcp::TcpInfo;
use crate::model::time::Timestamp;
use crate::model::view::SocketView;
use crate::wire::answer::ReadAnswer;
use crate::wire::outgoing::{Request, request};
use crate::wire::pb::agent_service_client::AgentServiceClient;
use crate::wire::pb::event_service_client::EventServiceClient;
use crate::wire::pb::session_service_client::SessionServiceClient;
use crate::wire::pb::socket_service_client::SocketServiceClient;
use crate::wire::unknown::{optional, unknown_value};
use crate::wire::{address, asking, call, option, pb, session, socket, tcp};

/// The largest message that is taken: a batch of events with their payloads, and then some.
const MESSAGE: usize = 16 << 20;

/// Where events are read.
pub(super) type EventsClient = EventServiceClient<Door>;

/// One agent. Cheap to clone.
#[derive(Clone)]
pub struct AgentClient {
    calls: Door,
    events: Door,
    bulk: Arc<Bulk>,
    sender: Arc<Sender>,
    /// It has everything that this version asks agents for.
    has_all: Arc<AtomicBool>,
    /// The session that it is used for, where that is held: it goes no further than its lease.
    gate: Option<Arc<Gate>>,
}

/// Sends renewals of leases.
pub(super) struct Renewer {
    door: Door,
    bulk: Arc<Bulk>,
}

/// What an agent says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentInfo {
    /// This life of the agent.
    pub instance: InstanceId,
    /// Its version.
    pub version: String,
    /// Its host's name.
    pub host_name: String,
    /// The kernel's release.
    pub kernel_release: String,
    /// The addresses that its sockets use when a request names none.
    pub lab_addresses: Vec<IpAddr>,
    /// Where it is reached itself.
    pub control_addresses: Vec<String>,
    /// What works there, by name.
    pub capabilities: Vec<String>,
}

/// One reading of an agent's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// When the question came.
    pub received: Timestamp,
    /// When the answer went.
    pub transmitted: Timestamp,
}

/// What an agent is to look up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The addresses of a host.
    Host(String),
    /// The name of an address.
    Address(IpAddr),
    /// The port of a service.
    Service(String, Transport),
    /// The service of a port.
    Port(u16, Transport),
}

impl Lookup {
    /// What an agent is sent.
    pub fn request(&self, timeout: Option<Duration>) -> pb::ResolveRequest {
        use pb::resolve_request::Query;

        let (query, transport) = match self {
            Self::Host(name) => (Query::Host(name.clone()), None),
            Self::Address(ip) => (Query::Address(ip.to_string()), None),
            Self::Service(name, transport) => (Query::Service(name.clone()), Some(*transport)),
            Self::Port(port, transport) => (Query::Port((*port).into()), Some(*transport)),
        };
        pb::ResolveRequest {
            query: Some(query),
            transport: transport.map_or(pb::Transport::Unspecified, pb::Transport::from).into(),
            family: pb::Family::Unspecified.into(),
            timeout: timeout.map(call::span),
        }
    }
}

/// What an agent has looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupAnswer {
    /// Addresses.
    pub addresses: Vec<String>,
    /// A host name.
    pub host: String,
    /// A service name.
    pub service: String,
    /// A port.
    pub port: Option<u32>,
    /// What the resolver objected to.
    pub error: Option<SocketError>,
    /// The resolver did not answer in time.
    pub timed_out: bool,
}

/// What a piece of text is as an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedAddress {
    /// The family that it is a literal of.
    pub family: Option<Family>,
    /// Why no request would take it as an address.
    pub problem: String,
}

impl AgentClient {
    /// An agent that is reached like this. Nothing is sent yet.
    pub fn new(dialer: &Dialer, credentials: &Credentials) -> Self {
        Self {
            calls: Door::new(dialer.channel_for_calls(), credentials),
            events: Door::new(dialer.channel_for_events(), credentials),
            bulk: Arc::new(Bulk::new(dialer.clone(), credentials.clone())),
            sender: Arc::new(Sender::new()),
            has_all: Arc::default(),
            gate: None,
        }
    }

    pub(super) fn bulk(&self) -> &Bulk {
        &self.bulk
    }

    /// Whether the agent serves, as it says itself.
    pub async fn is_serving(&self) -> Result<bool, ClientError> {
        let request = HealthCheckRequest { service: String::new() };
        let answer = HealthClient::new(self.calls.clone()).check(request).await?.into_inner();
        Ok(answer.status() == ServingStatus::Serving)
    }

    /// What a session goes through, where it is the one that is held.
    pub(super) fn gate_of(&self, session: &SessionId) -> Option<Arc<Gate>> {
        self.gate.clone().filter(|gate| gate.session() == session)
    }

    /// The same, for a session that is held.
    pub(super) fn held_by(&self, gate: Arc<Gate>) -> Self {
        Self { gate: Some(gate), ..self.clone() }
    }

    pub(super) fn renewer(&self) -> Renewer {
        Renewer { door: self.calls.clone(), bulk: Arc::clone(&self.bulk) }
    }

    pub(super) fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Carries something out, once: where the answer is lost, it is asked for again under the same name (`request_id`), which is made up where
    /// there is none, for 15 s, or for as long as the lease goes. An error that says otherwise leaves open whether it was carried out: that the
    /// agent is unreachable, or another instance (`INSTANCE_CHANGED`). Of a session whose lease is lost, nothing is sent any more, and nothing is waited for.
    pub async fn call(&self, action: &Action, options: &CallOptions) -> Result<Outcome, ClientError> {
        let Some(gate) = self.gate.as_ref().filter(|gate| gate.holds(action)) else {
            return self.send_once(action, options, false).await;
        };
        gate.check()?;
        let answer = tokio::select! {
            answer = self.send_once(action, options, true) => answer,
            lost = gate.lost() => Err(lost),
        };
        answer.map_err(|error| gate.hear(error))
    }

    pub(super) async fn send(&self, action: &Action, options: &CallOptions) -> Result<Outcome, ClientError> {
        let mut sessions = SessionServiceClient::new(self.calls.clone());
        let mut sockets = SocketServiceClient::new(self.calls.clone()).max_decoding_message_size(MESSAGE);
        match request(action, options) {
            Request::CreateSession(request) => read(sessions.create_session(request).await?),
            Request::ResetSession(request) => read(sessions.reset_session(request).await?),
            Request::DeleteSession(request) => read(sessions.delete_session(request).await?),
            Request::CreateSocket(request) => read(sockets.create_socket(request).await?),
            Request::CreateSockets(request) => read(sockets.create_sockets(request).await?),
            Request::BindSocket(request) => read(sockets.bind_socket(request).await?),
            Request::ListenSocket(request) => read(sockets.listen_socket(request).await?),
            Request::AcceptSocket(request) => read(sockets.accept_socket(request).await?),
            Request::ConnectSocket(request) => read(sockets.connect_socket(request).await?),
            Request::DisconnectSocket(request) => read(sockets.disconnect_socket(request).await?),
            Request::WriteSocket(request) => read(sockets.write_socket(request).await?),
            Request::SendDatagrams(request) => read(sockets.send_datagrams(request).await?),
            Request::ReceiveSocket(request) => read(sockets.receive_socket(request).await?),
            Request::FlushSocket(request) => read(sockets.flush_socket(request).await?),
            Request::ShutdownSocket(request) => read(sockets.shutdown_socket(request).await?),
            Request::CloseSocket(request) => read(sockets.close_socket(request).await?),
            Request::AbortSocket(request) => read(sockets.abort_socket(request).await?),
            Request::SetSocketDelivery(request) => read(sockets.set_socket_delivery(request).await?),
            Request::SetSocketOptions(request) => read(sockets.set_socket_options(request).await?),
            Request::JoinGroup(request) => read(sockets.join_group(request).await?),
            Request::LeaveGroup(request) => read(sockets.leave_group(request).await?),
            Request::BlockSource(request) => read(sockets.block_source(request).await?),
            Request::UnblockSource(request) => read(sockets.unblock_source(request).await?),
            Request::SetSourceFilter(request) => read(sockets.set_source_filter(request).await?),
        }
    }

    /// A socket as it is now, what the kernel knows of its connection where it is one, and what it holds in memory.
    pub async fn socket(
        &self,
        session: &SessionId,
        id: &SocketId,
    ) -> Result<(SocketView, Option<TcpInfo>, Option<SocketMemory>), ClientError> {
        let request = asking::get_socket(session, id);
        let response = SocketServiceClient::new(self.calls.clone()).get_socket(request).await?.into_inner();
        let view = response.socket.as_ref().and_then(socket::read);
        let unknown = || unknown_value(&response, "GetSocketResponse");
        let view = view.ok_or_else(|| ClientError::not_understood("a socket", unknown()))?;
        let memory = response.memory.as_ref().map(SocketMemory::from);
        Ok((view, response.tcp_info.as_ref().map(tcp::read_info), memory))
    }

    /// Options of a socket as the kernel has them. Those that this version does not know are left out.
    pub async fn socket_options(
        &self,
        session: &SessionId,
        id: &SocketId,
        options: impl Iterator<Item = &'static OptionSpec>,
    ) -> Result<Vec<OptionResult>, ClientError> {
        let request = pb::GetSocketOptionsRequest {
            session_id: session.to_string(),
            socket_id: id.to_string(),
            names: options.map(|option| option.name.to_owned()).collect(),
        };
        let response = SocketServiceClient::new(self.calls.clone()).get_socket_options(request).await?.into_inner();
        Ok(option::read_results(&response.options))
    }

    /// A session as it is now.
    pub async fn session(&self, id: &SessionId) -> Result<SessionView, ClientError> {
        let request = pb::GetSessionRequest { session_id: id.to_string() };
        let response = SessionServiceClient::new(self.calls.clone()).get_session(request).await?.into_inner();
        let view = response.session.as_ref().and_then(session::read);
        view.ok_or_else(|| ClientError::not_understood("a session", unknown_value(&response, "GetSessionResponse")))
    }

    /// All sessions that the caller has there.
    pub async fn sessions(&self) -> Result<Vec<SessionView>, ClientError> {
        let mut client = SessionServiceClient::new(self.calls.clone());
        let (mut sessions, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListSessionsRequest { page_token, ..Default::default() };
            let page = client.list_sessions(request).await?.into_inner();
            for sent in &page.sessions {
                // What is left out would be taken for a session that is not there.
                let unknown = || ClientError::not_understood("a session", unknown_value(sent, "Session"));
                sessions.push(session::read(sent).ok_or_else(unknown)?);
            }
            if page.next_page_token.is_empty() {
                return Ok(sessions);
            }
            page_token = page.next_page_token;
        }
    }

    /// The events of a session, from the first one that is kept, for as long as the session lives.
    pub async fn watch(&self, session: &SessionId) -> Result<Watch, ClientError> {
        let events = EventServiceClient::new(self.events.clone()).max_decoding_message_size(MESSAGE);
        Watch::open(events, session.clone(), None).await
    }

    /// The same under a name, in a lossless session: what has not been taken is kept, also while nobody watches, and whoever comes back
    /// under this name goes on behind what has been taken. Where there is no room for more, the agent reads no more from its sockets.
    pub async fn watch_as(&self, session: &SessionId, watcher: &WatcherId) -> Result<Watch, ClientError> {
        self.needs(Feature::Lossless).await?;
        let events = EventServiceClient::new(self.events.clone()).max_decoding_message_size(MESSAGE);
        let calls = EventServiceClient::new(self.calls.clone());
        let holder = Holder { calls, session: session.clone(), watcher: watcher.clone() };
        Watch::open(events, session.clone(), Some(holder)).await
    }

    /// What the agent says of itself.
    pub async fn info(&self) -> Result<AgentInfo, ClientError> {
        let response = self.agent().get_agent(pb::GetAgentRequest {}).await?.into_inner();
        let sent = response.agent.unwrap_or_default();
        let instance = InstanceId::parse(&sent.instance_id)
            .map_err(|_| ClientError::protocol("an agent does not say who it is"))?;
        Ok(AgentInfo {
            instance,
            lab_addresses: sent.lab_addresses.iter().filter_map(|text| text.parse().ok()).collect(),
            version: sent.version,
            host_name: sent.host_name,
            kernel_release: sent.kernel_release,
            control_addresses: sent.control_addresses,
            capabilities: sent.capabilities,
        })
    }

    /// Makes sure that the agent can do something that an old one would just leave out. Asks it once, if it has all there is.
    pub(super) async fn needs(&self, feature: Feature) -> Result<(), ClientError> {
        if self.has_all.load(Ordering::Relaxed) {
            return Ok(());
        }
        let info = self.info().await?;
        let has = |feature: &Feature| info.capabilities.iter().any(|known| known == feature.name());
        self.has_all.store(Feature::ALL.iter().all(has), Ordering::Relaxed);
        if has(&feature) { Ok(()) } else { Err(ClientError::TooOld { feature, version: info.version }) }
    }

    /// The same where an old agent does not even know the RPC: says so, if that is why there was an error.
    pub(super) async fn lacks(&self, feature: Feature, error: ClientError) -> ClientError {
        match error {
            ClientError::Protocol { .. } => self.needs(feature).await.err().unwrap_or(error),
            other => other,
        }
    }

    /// One reading of the agent's clock.
    pub async fn clock(&self) -> Result<ClockReading, ClientError> {
        let sent = self.agent().get_clock(pb::GetClockRequest {}).await?.into_inner();
        Ok(ClockReading {
            received: call::read_time(sent.receive_time.as_ref()),
            transmitted: call::read_time(sent.transmit_time.as_ref()),
        })
    }

    /// Looks something up on the agent's host.
    pub async fn look_up(&self, lookup: &Lookup, timeout: Option<Duration>) -> Result<LookupAnswer, ClientError> {
        let sent = self.agent().resolve(lookup.request(timeout)).await?.into_inner();
        let error = optional(sent.error.as_ref(), call::read_error)
            .ok_or_else(|| ClientError::not_understood("an answer", unknown_value(&sent, "ResolveResponse")))?;
        Ok(LookupAnswer {
            addresses: sent.addresses,
            host: sent.host,
            service: sent.service,
            port: (sent.port > 0).then_some(sent.port),
            error,
            timed_out: sent.timed_out,
        })
    }

    /// What a piece of text is as an address, to the agent.
    pub async fn parse_address(&self, text: &str) -> Result<ParsedAddress, ClientError> {
        let sent = self.agent().parse_address(asking::parse_address(text)).await?.into_inner();
        let family = address::family("family", sent.family).ok().flatten();
        Ok(ParsedAddress { family, problem: sent.problem })
    }

    fn agent(&self) -> AgentServiceClient<Door> {
        AgentServiceClient::new(self.calls.clone())
    }
}

impl Renewer {
    /// Sends a renewal, by another connection than the last one if that has not been answered.
    pub(super) fn renew(
        &mut self,
        session: &SessionId,
        by_another: bool,
    ) -> impl Future<Output = Result<(), ClientError>> + Send + use<> {
        if by_another {
            self.door = self.bulk.another_for_calls();
        }
        let (mut sessions, session_id) = (SessionServiceClient::new(self.door.clone()), session.to_string());
        async move {
            sessions.renew_session(pb::RenewSessionRequest { session_id }).await?;
            Ok(())
        }
    }
}

fn read(response: Response<impl ReadAnswer>) -> Result<Outcome, ClientError> {
    let sent = response.into_inner();
    sent.read().ok_or_else(|| ClientError::not_understood("an answer", sent.unknown()))
}
