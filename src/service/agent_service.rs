//! `AgentService`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};
use tonic::{Request, Response, Status};

use crate::host::{counters, network};
use crate::model::address::{Family, Transport};
use crate::model::errno::{Errno, LookupErrno};
use crate::model::error::SocketError;
use crate::model::feature::VERSION;
use crate::model::id::check_name;
use crate::model::operation::Operation;
use crate::model::option_table::OPTIONS;
use crate::model::refusal::{Refusal, Violation};
use crate::model::time::Timestamp;
use crate::service::access::Access;
use crate::service::{next_page, page_size, page_token, refused};
use crate::socket::{Vacancy, Wish};
use crate::sys::clock;
use crate::wire::pb::agent_service_server::AgentService;
use crate::wire::pb::resolve_request::Query;
use crate::wire::{address, call, pb, status};

/// The longest text that ParseAddress looks at.
const ADDRESS_TEXT: usize = 1024;

/// How long the resolver's files may take to be read: they are small, and may lie on a file system that hangs.
const FILES_PATIENCE: Duration = Duration::from_secs(1);

/// What an agent says of itself.
#[derive(Debug, Clone)]
pub struct AgentFacts {
    /// Where it is reached.
    pub control_addresses: Vec<String>,
    /// What works on its host.
    pub capabilities: Vec<&'static str>,
    /// The host's name.
    pub host_name: String,
    /// The kernel's release.
    pub kernel_release: String,
    /// The congestion controls that its kernel has.
    pub congestion_controls: Vec<String>,
    /// When it was started.
    pub start_time: Timestamp,
}

/// Tells how much is in use of a quota that neither sessions nor these RPCs know of: of connections and logins.
pub type Reading = Arc<dyn Fn(&'static str) -> Option<u64> + Send + Sync>;

/// An agent and its host, as RPCs.
#[derive(Clone)]
pub struct AgentRpcs {
    /// Its sockets, with its limits and its clock, and who may ask for what.
    pub access: Access,
    /// What it says of itself.
    pub facts: Arc<AgentFacts>,
    /// Readings of counters that callers have marked.
    pub marks: Arc<counters::Marks>,
    /// How much of its doors is in use.
    pub doors: Reading,
}

/// Runs what may block for a moment where it hurts nobody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    spawn_blocking(work).await.map_err(|_| refused(Refusal::Internal("a question to the kernel has failed")))
}

#[tonic::async_trait]
impl AgentService for AgentRpcs {
    async fn get_agent(&self, request: Request<pb::GetAgentRequest>) -> Result<Response<pb::GetAgentResponse>, Status> {
        self.access.admit(request)?;
        let elsewhere = |name| if name == "marks" { Some(self.marks.most_of_one()) } else { (self.doors)(name) };
        let lab = [Family::Ipv4, Family::Ipv6].map(|family| self.access.sockets.lab_address(family));
        let agent = pb::Agent {
            instance_id: self.access.sockets.instance().to_string(),
            version: VERSION.to_owned(),
            host_name: self.facts.host_name.clone(),
            lab_addresses: lab.iter().flatten().map(ToString::to_string).collect(),
            control_addresses: self.facts.control_addresses.clone(),
            capabilities: self.facts.capabilities.iter().map(ToString::to_string).collect(),
            limits: Some(self.access.sockets.limits().into()),
            defaults: Some(self.access.sockets.defaults().into()),
            options: OPTIONS.iter().map(pb::OptionSpec::from).collect(),
            start_time: Some(call::time(self.facts.start_time)),
            kernel_release: self.facts.kernel_release.clone(),
            congestion_controls: self.facts.congestion_controls.clone(),
            usage: self.access.sockets.usage(elsewhere).into_iter().map(pb::LimitUsage::from).collect(),
        };
        Ok(Response::new(pb::GetAgentResponse { agent: Some(agent) }))
    }

    async fn get_clock(&self, request: Request<pb::GetClockRequest>) -> Result<Response<pb::GetClockResponse>, Status> {
        let receive_time = self.access.sockets.now();
        self.access.admit(request)?;
        let transmit_time = self.access.sockets.now();
        Ok(Response::new(pb::GetClockResponse {
            receive_time: Some(call::time(receive_time)),
            transmit_time: Some(call::time(transmit_time)),
            system_time: Some(call::time(Timestamp::from_nanos(clock::realtime_nanos()))),
            since_boot: Some(call::signed_span(clock::boottime_nanos())),
            instance_id: self.access.sockets.instance().to_string(),
        }))
    }

    async fn list_interfaces(
        &self,
        request: Request<pb::ListInterfacesRequest>,
    ) -> Result<Response<pb::ListInterfacesResponse>, Status> {
        let (_, request) = self.access.admit(request)?;
        let after: u32 = page_token(&request.page_token)?.unwrap_or(0);
        let size = page_size(&self.access.sockets, request.page_size);
        let all = blocking(network::interfaces).await?.map_err(|errno| kernel_failure("interfaces", errno))?;
        let page: Vec<_> = all.into_iter().filter(|interface| interface.index > after).take(size).collect();
        let next_page_token = next_page(&page, size, |interface| interface.index.to_string());
        let interfaces = page.iter().map(pb::Interface::from).collect();
        Ok(Response::new(pb::ListInterfacesResponse { interfaces, next_page_token }))
    }

    async fn get_route(&self, request: Request<pb::GetRouteRequest>) -> Result<Response<pb::GetRouteResponse>, Status> {
        let (_, request) = self.access.admit(request)?;
        let destination = literal("destination", &request.destination)?;
        let source = match request.source.as_str() {
            "" => None,
            text => Some(literal("source", text)?),
        };
        let answer = blocking(move || network::route(destination, source)).await?;
        let response = match answer {
            Ok(route) => pb::GetRouteResponse { route: Some((&route).into()), error: None },
            Err(errno) => {
                let error = SocketError::new(errno, Operation::Route, "rtnetlink").about(&destination.to_string());
                pb::GetRouteResponse { route: None, error: Some(call::error(&error)) }
            }
        };
        Ok(Response::new(response))
    }

    async fn parse_address(
        &self,
        request: Request<pb::ParseAddressRequest>,
    ) -> Result<Response<pb::ParseAddressResponse>, Status> {
        let (_, pb::ParseAddressRequest { text }) = self.access.admit(request)?;
        if text.len() > ADDRESS_TEXT {
            let problem = format!("{} bytes are more than {ADDRESS_TEXT}", text.len());
            return Err(status::invalid(Violation::new("text", problem)));
        }
        Ok(Response::new(address::parse_address(&text)))
    }

    async fn resolve(&self, request: Request<pb::ResolveRequest>) -> Result<Response<pb::ResolveResponse>, Status> {
        let (_, request) = self.access.admit(request)?;
        let question = Question::check(&request).map_err(status::invalid)?;
        let timeout = call::optional_duration("timeout", request.timeout.as_ref()).map_err(status::invalid)?;
        let resolver = self.access.sockets.resolver();
        let started = Instant::now();
        let deadline = started + timeout.unwrap_or_else(|| self.access.sockets.defaults().wait_timeout);
        let mut response = match timeout_at(deadline, self.answer(&question)).await {
            Ok(Ok(response)) => response,
            Ok(Err(errno)) => {
                let mut error = SocketError::lookup(errno, &question.name());
                error.syscall = question.function();
                pb::ResolveResponse { error: Some(call::error(&error)), ..Default::default() }
            }
            Err(_) => pb::ResolveResponse { timed_out: true, ..Default::default() },
        };
        response.elapsed = Some(call::span(started.elapsed()));
        if let Question::Host(..) | Question::Address(_) = &question {
            let view = timeout_at(Instant::now() + FILES_PATIENCE, resolver.view(&question.name())).await;
            response.resolver = view.ok().and_then(Result::ok).map(pb::ResolverView::from);
        }
        Ok(Response::new(response))
    }

    async fn check_port(
        &self,
        request: Request<pb::CheckPortRequest>,
    ) -> Result<Response<pb::CheckPortResponse>, Status> {
        let (caller, request) = self.access.admit(request)?;
        let wish = wish(&request).map_err(status::invalid)?;
        let timeout = call::optional_duration("timeout", request.timeout.as_ref()).map_err(status::invalid)?;
        let sockets = &self.access.sockets;
        let deadline = Instant::now() + timeout.unwrap_or_else(|| sockets.defaults().wait_timeout);
        let vacancy = sockets.vacancy(&caller.who, &wish, deadline).await.map_err(refused)?;
        Ok(Response::new(match vacancy {
            Vacancy::Free(local) => {
                pb::CheckPortResponse { available: true, local: address::endpoint(Some(&local)), ..Default::default() }
            }
            Vacancy::Taken(error) => pb::CheckPortResponse {
                local: address::endpoint(error.local.as_ref()),
                error: Some(call::error(&error)),
                ..Default::default()
            },
            Vacancy::TimedOut => pb::CheckPortResponse { timed_out: true, ..Default::default() },
        }))
    }

    async fn get_kernel_counters(
        &self,
        request: Request<pb::GetKernelCountersRequest>,
    ) -> Result<Response<pb::GetKernelCountersResponse>, Status> {
        let (caller, request) = self.access.admit(request)?;
        if !request.mark.is_empty() {
            check_name(&request.mark)
                .map_err(|problem| status::invalid(Violation { field: "mark".to_owned(), problem }))?;
        }
        let since = match request.since.as_str() {
            "" => None,
            name => Some(
                self.marks
                    .get(&caller.who, name)
                    .ok_or_else(|| refused(Refusal::MarkNotFound(crate::model::id::shorten(name).into())))?,
            ),
        };
        let now = blocking(counters::read).await?.map_err(|errno| kernel_failure("counters", errno))?;
        let time = self.access.sockets.now();
        let mut shown = match &since {
            Some(mark) => counters::difference(&now, &mark.counters),
            None => now.clone(),
        };
        if since.is_some() && request.names.is_empty() {
            shown.retain(|_, value| *value != 0);
        }
        if !request.mark.is_empty() {
            self.marks.set(&caller.who, &request.mark, time, now);
        }
        let counters = counters::wanted(&shown, &request.names);
        Ok(Response::new(pb::GetKernelCountersResponse {
            counters: counters.into_iter().map(|(name, value)| pb::KernelCounter { name, value }).collect(),
            time: Some(call::time(time)),
            since_mark: since.map(|mark| call::span(time.since(mark.time))),
        }))
    }
}

/// Which port somebody asks about.
fn wish(request: &pb::CheckPortRequest) -> Result<Wish, Violation> {
    let transport = address::transport("transport", request.transport)?.unwrap_or(Transport::Tcp);
    if transport == Transport::Udp && request.reuse_address == Some(true) {
        let problem = "it is for TCP: UDP sockets that share a port take datagrams from each other";
        return Err(Violation::new("reuse_address", problem));
    }
    Ok(Wish {
        local: address::address("local", &request.local)?,
        transport,
        family: address::family("family", request.family)?,
        reuse_address: request.reuse_address.unwrap_or(transport == Transport::Tcp),
    })
}

/// What is to be looked up.
enum Question {
    Host(String, Option<Family>),
    Address(IpAddr),
    Service(String, Transport),
    Port(u16, Transport),
}

impl Question {
    fn check(request: &pb::ResolveRequest) -> Result<Self, Violation> {
        let transport = address::transport("transport", request.transport)?.unwrap_or(Transport::Tcp);
        let family = address::family("family", request.family)?;
        match &request.query {
            None => Err(Violation::new("query", "one of `host`, `address`, `service` and `port` is needed")),
            Some(Query::Host(text)) => address::host("host", text).map(|()| Self::Host(text.clone(), family)),
            Some(Query::Address(text)) => address::literal("address", text).map(Self::Address),
            Some(Query::Service(text)) => {
                address::service("service", text).map(|()| Self::Service(text.clone(), transport))
            }
            Some(Query::Port(port)) => match u16::try_from(*port) {
                Ok(port @ 1..) => Ok(Self::Port(port, transport)),
                _ => Err(Violation::new("port", format!("ports go from 1 to 65535, and this is {port}"))),
            },
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Host(name, _) | Self::Service(name, _) => name.clone(),
            Self::Address(ip) => ip.to_string(),
            Self::Port(port, transport) => format!("{port}/{}", transport.name()),
        }
    }

    fn function(&self) -> &'static str {
        match self {
            Self::Host(..) | Self::Service(..) => "getaddrinfo",
            Self::Address(_) | Self::Port(..) => "getnameinfo",
        }
    }
}

impl AgentRpcs {
    async fn answer(&self, question: &Question) -> Result<pb::ResolveResponse, LookupErrno> {
        let resolver = self.access.sockets.resolver();
        let mut response = pb::ResolveResponse::default();
        match question {
            Question::Host(name, family) => {
                let answer = resolver.host(name, *family).await?;
                response.addresses = answer.addresses.iter().map(|addr| addr.ip().to_string()).collect();
                response.host = answer.canonical_name.unwrap_or_default();
            }
            Question::Address(ip) => {
                response.addresses = vec![ip.to_string()];
                response.host = resolver.address(*ip).await?;
            }
            Question::Service(name, transport) => {
                response.port = resolver.service(name, *transport).await?.into();
                response.service.clone_from(name);
            }
            Question::Port(port, transport) => {
                response.service = resolver.port(*port, *transport).await?;
                response.port = (*port).into();
            }
        }
        Ok(response)
    }
}

fn literal(field: &str, text: &str) -> Result<IpAddr, Status> {
    address::literal(field, text).map_err(status::invalid)
}

/// The kernel did not answer what it always answers.
fn kernel_failure(what: &'static str, errno: Errno) -> Status {
    tracing::error!(%errno, what, "the kernel does not tell");
    refused(Refusal::Internal("the kernel does not tell what was asked"))
}
