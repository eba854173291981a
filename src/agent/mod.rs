//! The agent: ways in, identities, services, and an orderly end.
//!
//! [`Agent::bind`] takes the addresses, so that whoever starts it knows where it is before it serves; [`Agent::serve`] serves until it is
//! told to stop, and then leaves nothing behind.

mod accept;
mod auth;
mod config;
mod connection;
mod exposure;
mod keeper;
mod logins;
mod paths;
mod policy;
mod tls;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::server::{Router, Server};
use tonic_health::ServingStatus;
use tower::layer::util::{Identity, Stack};

pub use crate::agent::accept::MemoryConnector;
pub use crate::agent::config::{AgentConfig, Listen, OpenServices, PORT, StartError};
pub use crate::agent::exposure::Needs;
pub use crate::agent::keeper::{Reloaded, Reloader};
pub use crate::agent::paths::{audit_path, runtime_dir, token_path};
pub use crate::agent::policy::read_policy;
pub use crate::service::audit::AuditFile;

use crate::agent::accept::{Acceptor, Door, memory_door};
use crate::agent::auth::{AuthLayer, Token};
use crate::agent::keeper::{Checks, Keeper};
use crate::agent::logins::Logins;
use crate::agent::tls::Tls;
use crate::host::counters::Marks;
use crate::host::network;
use crate::host::resolver::SystemResolver;
use crate::model::capability::Capability;
use crate::model::event::{Event, EventRecord};
use crate::model::feature::Feature;
use crate::model::id::InstanceId;
use crate::model::lookup::Resolver;
use crate::model::own_deed::{OwnDeed, Witness};
use crate::model::time::Clock;
use crate::model::transfer::DATA_SIZE;
use crate::service::access::Access;
use crate::service::agent_service::{AgentFacts, AgentRpcs, Reading};
use crate::service::audit::Audit;
use crate::service::event_server::EventServer;
use crate::service::event_service::EventRpcs;
use crate::service::session_service::SessionRpcs;
use crate::service::socket_server::SocketServer;
use crate::service::socket_service::SocketRpcs;
use crate::socket::{Config, Gate, Sockets};
use crate::sys::clock::{ClockWatch, SystemClock};
use crate::sys::{privilege, process, readiness};
use crate::wire::FILE_DESCRIPTOR_SET;
use crate::wire::pb::agent_service_server::{self, AgentServiceServer};
use crate::wire::pb::event_service_server;
use crate::wire::pb::session_service_server::{self, SessionServiceServer};
use crate::wire::pb::socket_service_server;

/// HTTP/2 receive windows: room for a stream that uploads, and for a few of them at once.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// What an event takes beside its payload: about, and rather more.
const EVENT_BYTES: u64 = size_of::<EventRecord>() as u64 + 128;
/// What a watcher takes that has stopped reading, as event_service.proto says it.
const STALLED_WATCHER: u64 = 1536 << 10;
/// What the client of a TransferSocket takes that has stopped reading: two of its largest frames here, and two that HTTP/2 has.
const STALLED_STREAM: u64 = 4 * DATA_SIZE;
/// Streams of one connection: one a lab socket that is attached, and then some.
const STREAMS: u32 = 1024;
/// The largest HTTP/2 frame that is taken.
const FRAME: u32 = 1 << 20;
/// Headers of one request: a token and a few names.
const HEADERS: u32 = 8 << 10;
/// Resets that the peer may provoke before it is sent away (RUSTSEC-2024-0003), and those that it may send itself (CVE-2023-44487).
const PROVOKED_RESETS: usize = 1024;
const PENDING_RESETS: usize = 20;
/// How soon a controller is noticed that has gone without a word.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Whose health can be asked for: the agent as a whole, and each service.
const SERVICES: [&str; 5] = [
    "",
    agent_service_server::SERVICE_NAME,
    session_service_server::SERVICE_NAME,
    socket_service_server::SERVICE_NAME,
    event_service_server::SERVICE_NAME,
];

/// An agent that has its addresses.
pub struct Agent {
    config: Arc<AgentConfig>,
    sockets: Sockets,
    audit: Option<Arc<Audit>>,
    clock: SystemClock,
    doors: Vec<Door>,
    keeper: Arc<Keeper>,
    token_files: TokenFiles,
    connector: MemoryConnector,
}

/// Where the token is written. What the agent has made for this life alone goes with it, however it ends.
#[derive(Default)]
struct TokenFiles {
    paths: Vec<PathBuf>,
    for_one_life: bool,
}

impl Drop for TokenFiles {
    fn drop(&mut self) {
        for file in self.paths.iter().filter(|_| self.for_one_life) {
            // Of no use any more; if somebody has removed it already, that is fine.
            let _ = std::fs::remove_file(file);
        }
    }
}

impl Agent {
    /// Takes the addresses that the configuration names. Must be called on a tokio runtime.
    pub async fn bind(config: AgentConfig) -> Result<Self, StartError> {
        exposure::check(&config)?;
        let tls = config.tls.as_ref().map(|files| Tls::load(files, config.open.any())).transpose()?;
        let policy = config.policy_file.as_deref().map(read_policy).transpose()?;
        let mut doors = Vec::with_capacity(config.listen.len() + 1);
        for listen in &config.listen {
            doors.push(Door::open(listen).await?);
        }
        let asks_for_token = !config.no_auth && tls.is_none();
        let (token, token_files) =
            if asks_for_token { make_token(&config, &doors)? } else { (None, TokenFiles::default()) };
        let keeper = Keeper::new(Checks { token, tls });
        let (memory, connector) = memory_door();
        doors.push(memory);
        let control = tcp_addresses(&doors);

        let mut bits = [0; 16];
        getrandom::fill(&mut bits).map_err(|_| StartError::NoRandom)?;
        let instance = InstanceId::from_random(bits);
        let clock = SystemClock::start();
        let told: Arc<dyn Clock> = config.clock.clone().unwrap_or_else(|| Arc::new(clock));
        let audit = match &config.audit {
            Some(file) => Some(Arc::new(Audit::open(file.clone(), instance.clone(), Arc::clone(&told))?)),
            None => None,
        };
        let resolver: Arc<dyn Resolver> =
            config.resolver.clone().unwrap_or_else(|| Arc::new(SystemResolver::new(config.limits.lookups)));
        let sockets = Sockets::new(Config {
            instance,
            limits: config.limits.clone(),
            defaults: config.defaults.clone(),
            clock: told,
            resolver,
            lab_ipv4: config.lab_ipv4,
            lab_ipv6: config.lab_ipv6,
            gate: Arc::new(Gate::new(policy, control)),
            witness: audit.clone().map(|audit| audit as Arc<dyn Witness>),
        });
        Ok(Self { config: Arc::new(config), sockets, audit, clock, doors, keeper, token_files, connector })
    }

    /// What an agent of this configuration would serve and to whom, and all that keeps it from starting. Opens nothing, and writes nothing.
    pub fn check(config: &AgentConfig) -> (Vec<(Listen, Needs)>, Vec<StartError>) {
        let (mut exposure, mut problems) = (Vec::new(), Vec::new());
        for listen in &config.listen {
            match exposure::needs(listen, config) {
                Ok(needs) => exposure.push((listen.clone(), needs)),
                Err(problem) => problems.push(problem),
            }
        }
        problems.extend(exposure::check(config).err().filter(|problem| !problems.contains(problem)));
        problems.extend(config.tls.as_ref().and_then(|files| Tls::load(files, config.open.any()).err()));
        problems.extend(config.policy_file.as_ref().and_then(|path| read_policy(path).err()));
        problems.extend(config.token_file.as_ref().and_then(|path| Token::read(path).err()));
        (exposure, problems)
    }

    /// What may come together in memory when everything is used as far as limits let it, the largest part first: what it is, and bytes.
    pub fn most_memory(config: &AgentConfig) -> Vec<(&'static str, u64)> {
        let limits = &config.limits;
        let [logs, connections] = [limits.most_logs(), limits.connections.into()];
        let sockets = limits.lab_descriptors(process::descriptor_limit());
        let all_streams = connections * u64::from(STREAMS);
        let watchers = (logs * u64::from(limits.watchers)).min(limits.watchers_total.into()).min(all_streams);
        // Each has so much set aside.
        let streams = u64::from(limits.pending_write_bytes_total / limits.transfer_bytes).min(sockets).min(all_streams);
        let events = u64::from(limits.log_events) + u64::from(limits.log_final_events);
        let mut parts = vec![
            ("payloads in logs", limits.log_bytes_total.into()),
            ("other events in logs", logs * events * EVENT_BYTES),
            ("operations remembered", logs * u64::from(limits.remembered_bytes)),
            ("connections of controllers", connections * u64::from(CONNECTION_WINDOW)),
            ("watchers that do not read", watchers * STALLED_WATCHER),
            ("writes that wait", limits.pending_write_bytes_total.into()),
            ("streams that do not read", streams * STALLED_STREAM),
        ];
        parts.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        parts
    }

    /// The ways in, with the real ports.
    pub fn listens(&self) -> Vec<Listen> {
        self.doors.iter().filter_map(Door::listen).collect()
    }

    /// The files that the token was written to: one for each port, or the one that was asked for.
    pub fn token_files(&self) -> &[PathBuf] {
        &self.token_files.paths
    }

    /// The ways in, and what whoever comes by one must show.
    pub fn exposure(&self) -> Vec<(Listen, Needs)> {
        let needs = |listen: Listen| exposure::needs(&listen, &self.config).ok().map(|needs| (listen, needs));
        self.listens().into_iter().filter_map(needs).collect()
    }

    /// Reads its credentials and its policy anew while it serves.
    pub fn reloader(&self) -> Reloader {
        let (keeper, config) = (Arc::clone(&self.keeper), Arc::clone(&self.config));
        Reloader { keeper, config, sockets: self.sockets.clone(), audit: self.audit.clone() }
    }

    /// Leads to this agent from within the process.
    pub fn connector(&self) -> MemoryConnector {
        self.connector.clone()
    }

    /// Its sockets.
    pub fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// Serves until `stop` is ready, then drains: announces it, closes all sockets, lets streams end, and ends after its grace whatever
    /// is still connected. Gives up the grace when `stop_now` is cancelled.
    pub async fn serve(self, stop: impl Future<Output = ()>, stop_now: CancellationToken) {
        let tasks = TaskTracker::new();
        let (end, closing) = (CancellationToken::new(), CancellationToken::new());
        let (connections, incoming) = mpsc::channel(16);
        let acceptor = Acceptor {
            connections,
            permits: Arc::new(Semaphore::new(self.config.limits.connections as usize)),
            end: end.clone(),
            closing: closing.clone(),
            tasks: tasks.clone(),
            logins: Logins::new(self.config.limits.logins, self.config.limits.logins_per_source),
            login_timeout: self.config.login_timeout,
            keeper: Arc::clone(&self.keeper),
            no_auth: self.config.no_auth,
            sockets: self.sockets.clone(),
        };
        let control_addresses = self.listens().iter().map(ToString::to_string).collect();
        let doors = acceptor.reading(self.config.limits.connections);
        let (mut health, router) = self.router(control_addresses, doors).await;
        for door in self.doors {
            tasks.spawn(acceptor.clone().run(door));
        }
        drop(acceptor);
        tasks.spawn(watch_clock(self.clock, self.sockets.clone(), end.clone()));
        let polite = closing.clone();
        let incoming: ReceiverStream<io::Result<_>> = ReceiverStream::new(incoming);
        let server = tasks.spawn(router.serve_with_incoming_shutdown(incoming, polite.cancelled_owned()));

        stop.await;
        let grace = self.config.grace;
        for service in SERVICES {
            health.set_service_status(service, ServingStatus::NotServing).await;
        }
        let drained = async {
            self.sockets.drain(grace).await;
            // From now on HTTP/2 asks connections to go; those that do not are ended below.
            closing.cancel();
            for service in SERVICES {
                // Whoever watches its health has been told, and is not waited for.
                health.clear_service_status(service).await;
            }
            let _ = server.await;
        };
        tokio::select! {
            _ = timeout(grace, drained) => {}
            () = stop_now.cancelled() => {}
        }
        closing.cancel();
        end.cancel();
        tasks.close();
        tasks.wait().await;
        self.sockets.finished().await;
        self.sockets.note(&OwnDeed::Stopped);
    }

    async fn router(
        &self,
        control_addresses: Vec<String>,
        doors: Reading,
    ) -> (tonic_health::server::HealthReporter, Router<Stack<AuthLayer, Identity>>) {
        let limit = self.config.limits.message_bytes as usize;
        let mut capabilities = vec!["tcp", "udp", "ipv4"];
        capabilities.extend(Feature::ALL.map(Feature::name));
        capabilities.extend(std::path::Path::new("/proc/thread-self/net/if_inet6").exists().then_some("ipv6"));
        capabilities.extend(Capability::OF_SOCKETS.iter().filter(|one| privilege::has(**one)).map(|one| one.name()));
        let facts = AgentFacts {
            control_addresses,
            capabilities,
            host_name: process::host_name(),
            kernel_release: process::kernel_release(),
            congestion_controls: network::congestion_controls(),
            start_time: self.sockets.now(),
        };
        let access = Access::new(self.sockets.clone(), self.audit.clone());
        let agent = AgentRpcs {
            access: access.clone(),
            facts: Arc::new(facts),
            marks: Arc::new(Marks::new(self.config.limits.marks)),
            doors,
        };
        let agent = AgentServiceServer::new(agent).max_decoding_message_size(limit);
        let sessions = SessionServiceServer::new(SessionRpcs(access.clone())).max_decoding_message_size(limit);
        let sockets = SocketServer::new(SocketRpcs(access.clone()), limit);
        let events = EventServer::new(EventRpcs(access), limit);
        let (health, health_service) = tonic_health::server::health_reporter();
        for service in SERVICES {
            health.set_service_status(service, ServingStatus::Serving).await;
        }
        let router = Server::builder()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(STREAMS)
            .max_frame_size(FRAME)
            .http2_max_header_list_size(HEADERS)
            .http2_max_local_error_reset_streams(Some(PROVOKED_RESETS))
            .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS))
            .http2_keepalive_interval(Some(PING_INTERVAL))
            .http2_keepalive_timeout(Some(PING_TIMEOUT))
            .layer(AuthLayer {
                keeper: Arc::clone(&self.keeper),
                open: self.config.open,
                gate: Arc::clone(self.sockets.gate()),
                refusals: Arc::clone(self.sockets.refusals()),
            })
            .add_routes(reflection())
            .add_service(agent)
            .add_service(sessions)
            .add_service(sockets)
            .add_service(events)
            .add_service(health_service);
        (health, router)
    }
}

/// Where TCP leads to the agent.
fn tcp_addresses(doors: &[Door]) -> Vec<SocketAddr> {
    let tcp = doors.iter().filter_map(|door| match door.listen() {
        Some(Listen::Tcp(addr)) => Some(addr),
        _ => None,
    });
    tcp.collect()
}

/// The token of the ways in that need one, and the files that it was written to.
fn make_token(config: &AgentConfig, doors: &[Door]) -> Result<(Option<Token>, TokenFiles), StartError> {
    let ports: Vec<u16> = tcp_addresses(doors).iter().map(SocketAddr::port).collect();
    if ports.is_empty() {
        return Ok((None, TokenFiles::default()));
    }
    if let Some(path) = &config.token_file {
        return Ok((Some(Token::at(path)?), TokenFiles { paths: vec![path.clone()], for_one_life: false }));
    }
    let token = Token::random()?;
    let files = TokenFiles { paths: ports.into_iter().map(token_path).collect(), for_one_life: true };
    for file in &files.paths {
        token.write(file)?;
    }
    Ok((Some(token), files))
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

/// Tells every session when somebody sets the host's clock.
async fn watch_clock(clock: SystemClock, sockets: Sockets, end: CancellationToken) {
    let Ok(watch) = ClockWatch::new().and_then(readiness::watch) else {
        tracing::warn!("the kernel does not tell when the clock is set: there will be no clock_stepped events");
        return;
    };
    loop {
        let mut ready = tokio::select! {
            () = end.cancelled() => return,
            ready = watch.readable() => match ready {
                Ok(ready) => ready,
                Err(_) => return,
            },
        };
        if watch.get_ref().was_set() == Ok(true) {
            sockets.announce(&Event::ClockStepped { ahead_nanos: clock.ahead_nanos() });
        }
        ready.clear_ready();
    }
}
