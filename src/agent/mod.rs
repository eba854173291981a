//! The agent: ways in, identities, services, and an orderly end.
//!
//! [`Agent::bind`] takes the addresses, so that whoever starts it knows where it is before it serves; [`Agent::serve`] serves until it is
//! told to stop, and then leaves nothing behind.

mod accept;
mod auth;
mod check;
mod config;
mod connection;
mod exposure;
mod frames;
mod http;
mod keeper;
mod paths;
mod places;
mod policy;
mod request;
mod services;
mod tls;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::unix::AsyncFd;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic_health::ServingStatus;

pub use crate::agent::accept::MemoryConnector;
pub use crate::agent::config::{AgentConfig, Listen, OpenServices, PORT, StartError};
pub use crate::agent::exposure::Needs;
pub use crate::agent::keeper::{Reloaded, Reloader};
pub use crate::agent::paths::{audit_path, runtime_dir, token_path};
pub use crate::agent::policy::read_policy;
pub use crate::service::audit::AuditFile;

use crate::agent::accept::{Acceptor, Door, memory_door, reading};
use crate::agent::auth::{Auth, Token};
use crate::agent::http::{CONNECTION_WINDOW, STREAMS, Server};
use crate::agent::keeper::{Checks, Keeper};
use crate::agent::places::{Connections, Logins};
use crate::agent::services::{Health, Services};
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
use crate::socket::{Config, Gate, Sockets};
use crate::sys::clock::{ClockWatch, SystemClock};
use crate::sys::{privilege, process, readiness};

/// What an event takes beside its payload: about, and rather more.
const EVENT_BYTES: u64 = size_of::<EventRecord>() as u64 + 128;
/// What a watcher takes that has stopped reading, as event_service.proto says it.
const STALLED_WATCHER: u64 = 1536 << 10;
/// What the client of a TransferSocket takes that has stopped reading: two of its largest frames here, and two that HTTP/2 has.
const STALLED_STREAM: u64 = 4 * DATA_SIZE;
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
        let (token, token_files) =
            if config.asks_for_token() { make_token(&config, &doors)? } else { (None, TokenFiles::default()) };
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

    /// What an agent of this configuration would serve and to whom, and all that keeps it from starting. Its addresses are taken and let go
    /// again; nothing is left of it. Must be called on a tokio runtime.
    pub async fn check(config: &AgentConfig) -> (Vec<(Listen, Needs)>, Vec<StartError>) {
        check::check(config).await
    }

    /// What may come together in memory when everything is used as far as limits let it, the largest part first: what it is, and bytes.
    pub fn most_memory(config: &AgentConfig) -> Vec<(&'static str, u64)> {
        let limits = &config.limits;
        let [logs, connections] = [limits.most_logs(), u64::from(limits.connections)];
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
            ("connections of controllers", (connections + u64::from(limits.logins)) * u64::from(CONNECTION_WINDOW)),
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
        let limits = &self.config.limits;
        let (connections, logins) = (Connections::new(limits), Logins::new(limits));
        let doors = reading(connections.clone(), logins.clone());
        let (services, health) = self.services(doors).await;
        let server = Server::new(self.auth(), services, self.config.request_timeout, closing.clone());
        let acceptor = Acceptor {
            server: server.clone(),
            connections,
            end: end.clone(),
            closing: closing.clone(),
            tasks: tasks.clone(),
            logins,
            login_timeout: self.config.login_timeout,
            keeper: Arc::clone(&self.keeper),
            no_auth: self.config.no_auth,
            sockets: self.sockets.clone(),
        };
        match ClockWatch::new().and_then(readiness::watch) {
            Ok(watch) => drop(tasks.spawn(tell_of_clock(watch, self.clock, self.sockets.clone(), end.clone()))),
            Err(_) => {
                tracing::warn!("the kernel does not tell when the clock is set: there will be no clock_stepped events")
            }
        }
        let (keeper, sockets, over) = (self.keeper, self.sockets.clone(), closing.clone());
        tasks.spawn(async move { over.run_until_cancelled(keeper.look_after(&sockets)).await });
        for door in self.doors {
            tasks.spawn(acceptor.clone().run(door));
        }
        drop(acceptor);

        stop.await;
        let grace = self.config.grace;
        health.tell(ServingStatus::NotServing).await;
        let drained = async {
            self.sockets.drain(grace).await;
            // From now on HTTP/2 asks connections to go; those that do not are ended below.
            closing.cancel();
            health.end().await;
            server.gone().await;
        };
        tokio::select! {
            _ = timeout(grace, drained) => {}
            () = stop_now.cancelled() => {}
        }
        closing.cancel();
        end.cancel();
        tasks.close();
        tasks.wait().await;
        server.gone().await;
        self.sockets.finished().await;
        self.sockets.note(&OwnDeed::Stopped);
    }

    fn auth(&self) -> Auth {
        Auth {
            keeper: Arc::clone(&self.keeper),
            open: self.config.open,
            gate: Arc::clone(self.sockets.gate()),
            refusals: Arc::clone(self.sockets.refusals()),
        }
    }

    async fn services(&self, doors: Reading) -> (Services, Health) {
        let mut capabilities = vec!["tcp", "udp", "ipv4"];
        capabilities.extend(Feature::ALL.map(Feature::name));
        capabilities.extend(std::path::Path::new("/proc/thread-self/net/if_inet6").exists().then_some("ipv6"));
        capabilities.extend(Capability::OF_SOCKETS.iter().filter(|one| privilege::has(**one)).map(|one| one.name()));
        let facts = AgentFacts {
            control_addresses: self.listens().iter().map(ToString::to_string).collect(),
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
        Services::new(agent, &access, self.config.limits.message_bytes as usize).await
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

/// Tells every session when somebody sets the host's clock.
async fn tell_of_clock(watch: AsyncFd<ClockWatch>, clock: SystemClock, sockets: Sockets, end: CancellationToken) {
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
