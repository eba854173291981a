//! `farsock agent`.

mod announce;
mod health;
mod privilege;
mod stdio;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::agent::{
    Agent, AgentConfig, AuditFile, Listen, OpenServices, PORT, Reloaded, Reloader, audit_path, read_policy, runtime_dir,
};
use crate::cli::agent::announce::{
    announce, cannot_tell, memory, open_to_all, policy_in_force, tell_ready, way_in, written_down,
};
use crate::cli::tls::TlsArgs;
use crate::cli::{Exit, complain, print};
use crate::host::network;
use crate::model::limits::Limits;
use crate::sys::process;

/// What `farsock agent` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "By default the agent serves its own user only: by the Unix socket of that user, and by loopback TCP with a \
token that it makes itself and that only that user can read. With --tls-cert, TCP is for whoever has a certificate. With --policy, \
it does for each of them what its policy says and nothing else; without both, no other host can reach it.

It gives up all privileges that sockets have no use for; --check names those that it keeps and those that it lacks. The files of its \
credentials must be its own user's, root's included.

SIGHUP: certificates, keys, the CA, --token-file and --policy are read again; connections that they no longer let in are ended, and \
sockets that the policy no longer allows are closed. If one of them is wrong, all stay as they were. Where no certificate of somebody's is \
good any more, by that or by its date, his sockets are closed, too, unless he comes back with a good one within 30 seconds.
SIGTERM, SIGINT: stops in good order; a second one stops at once."
)]
pub(super) struct AgentArgs {
    /// Serve here: ADDRESS:PORT, or unix:PATH; again for more ways in
    /// [default: 127.0.0.1:7625 and unix:RUNTIME_DIR/agent.sock]
    #[arg(long, value_name = "ADDRESS", env = "FARSOCK_LISTEN", value_delimiter = ',', verbatim_doc_comment)]
    listen: Vec<Listen>,

    /// Keep the token in this file: made if it is not there, used as it is if it is
    /// [default: RUNTIME_DIR/PORT.token, a new one at each start]
    #[arg(long, value_name = "FILE", env = "FARSOCK_TOKEN_FILE", verbatim_doc_comment)]
    token_file: Option<PathBuf>,

    /// Serve every user of this host by loopback TCP, without a token
    #[arg(long, env = "FARSOCK_NO_AUTH")]
    no_auth: bool,

    #[command(flatten)]
    tls: TlsArgs,

    /// Do for each caller what this file says, and nothing else: examples/policy.yaml shows how
    #[arg(long, value_name = "FILE", env = "FARSOCK_POLICY")]
    policy: Option<PathBuf>,

    /// Write each change down in this file before it is made, and how it went: a line of JSON each
    /// [default with --policy: $XDG_STATE_HOME/farsock/PORT.audit.jsonl]
    #[arg(long, value_name = "FILE", env = "FARSOCK_AUDIT", verbatim_doc_comment)]
    audit: Option<PathBuf>,

    /// Begin another such file when one has so many MiB; eight full ones are kept as FILE.1, FILE.2, …
    #[arg(long, value_name = "NUMBER", env = "FARSOCK_AUDIT_SIZE", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    audit_size: u32,

    /// Answer this without credentials, too: a standard service that tells nothing of sockets
    #[arg(long, value_name = "SERVICE", env = "FARSOCK_OPEN", value_delimiter = ',')]
    open: Vec<OpenService>,

    /// Serve whoever holds standard input and output, and nobody else, whatever --listen says; stop when
    /// standard input ends. This is what controllers start by ssh
    #[arg(long, conflicts_with_all = ["check", "health"])]
    stdio: bool,

    /// Stop when the process that has started this one ends, however it does
    #[arg(long, conflicts_with_all = ["check", "health"])]
    with_parent: bool,

    /// Say what would be served, to whom, in how much memory, and all that would keep it from being; serve nothing, and leave nothing
    /// behind. The exit code is that of a start
    #[arg(long)]
    check: bool,

    /// Ask the agent that was started with the same flags and variables whether it serves: for probes that run a command
    #[arg(long, conflicts_with = "check")]
    health: bool,

    /// Let sockets use this address where a request names none; once for IPv4, once for IPv6
    #[arg(long, value_name = "IP", env = "FARSOCK_LAB_ADDRESS", value_delimiter = ',')]
    lab_address: Vec<IpAddr>,

    /// Let sockets use the addresses of this interface where a request names none
    #[arg(long, value_name = "NAME", env = "FARSOCK_LAB_INTERFACE", conflicts_with = "lab_address")]
    lab_interface: Option<String>,

    /// Open sockets in this network namespace: a name of `ip netns`, or a path. The agent itself is reached where it was started
    #[arg(long, value_name = "NAME", env = "FARSOCK_LAB_NETNS")]
    lab_netns: Option<String>,

    /// Change a limit, by the name that GetAgent shows; again for more
    #[arg(long = "limit", value_name = "NAME=NUMBER", env = "FARSOCK_LIMITS", value_delimiter = ',', value_parser = limit)]
    limits: Vec<(String, u32)>,

    /// When stopping, serve controllers for at most so many seconds more
    #[arg(long, value_name = "SECONDS", env = "FARSOCK_GRACE", default_value_t = 10)]
    grace: u64,

    /// Use so many threads
    #[arg(long, value_name = "NUMBER", env = "FARSOCK_WORKERS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: u16,

    /// Write one line of JSON to this open descriptor when ready, then close it
    #[arg(long, value_name = "FD")]
    ready_fd: Option<u32>,

    /// Write one line of JSON to this file when ready
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

/// What may answer without credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OpenService {
    /// grpc.health.v1.Health
    Health,
    /// grpc.reflection, v1 and v1alpha
    Reflection,
}

/// Runs an agent until SIGTERM or SIGINT.
pub(super) fn agent(args: AgentArgs) -> Exit {
    let filter = EnvFilter::try_from_env("FARSOCK_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    // Standard output may be the way in.
    // Where a line has no room, whatever it tells of goes on: the default complains on standard error, which panics where that has none.
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).log_internal_errors(false).init();
    process::raise_descriptor_limit();
    let done = match (args.check, args.health) {
        (true, _) => check(args),
        (_, true) => health::health(&args.listen, args.token_file.as_deref(), args.no_auth, args.tls.files().is_some()),
        _ => run(args).map(|()| Exit::Passed),
    };
    match done {
        Ok(exit) => exit,
        Err(problem) => {
            complain(problem);
            Exit::CouldNotRun
        }
    }
}

fn run(args: AgentArgs) -> Result<(), String> {
    if args.with_parent {
        process::end_with_parent().map_err(|errno| format!("--with-parent: {} ({errno})", errno.text()))?;
    }
    let namespace = args.lab_netns.as_deref().map(namespace_path);
    privilege::harden(namespace.as_deref())?;
    if let Some(path) = &namespace {
        try_namespace(path)?;
    }
    let runtime = runtime(args.workers, namespace.clone())?;
    let (ready_fd, ready_file, stdio) = (args.ready_fd, args.ready_file.clone(), args.stdio);
    let config = config(args, namespace.as_deref())?;
    // The main thread opens the ways in where the agent was started; all others work in the lab's namespace from the first.
    let served = runtime.block_on(async {
        let agent = Agent::bind(config.clone()).await.map_err(|error| error.to_string())?;
        privilege::settle(namespace.as_deref())?;
        if config.no_auth {
            complain("--no-auth: every user of this host can open sockets here in your name");
        }
        let stop = stop_signals()?;
        let hangup = signal(SignalKind::hangup()).map_err(no_signals)?;
        tokio::spawn(reload_at_hangup(hangup, agent.reloader()));
        let line = if stdio { Some(stdio::open(&agent).await?) } else { None };
        if line.is_none() {
            announce(&agent, &config);
        }
        tell_ready(&agent, ready_fd, ready_file.as_deref())?;
        let now = CancellationToken::new();
        let told = stop.first(now.clone());
        let stop = async {
            match line {
                Some(line) => tokio::select! {
                    () = told => {}
                    () = stdio::carry(line) => {}
                },
                None => told.await,
            }
        };
        agent.serve(stop, now).await;
        Ok(())
    });
    // Nobody waits for a read of standard input that may never end.
    runtime.shutdown_background();
    served
}

fn runtime(workers: u16, namespace: Option<PathBuf>) -> Result<tokio::runtime::Runtime, String> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(workers.into()).enable_all().thread_name("farsock");
    builder.on_thread_start(move || {
        if let Err(problem) = privilege::settle(namespace.as_deref()) {
            // A thread that worked on would open the lab's sockets in the wrong network, or with more than it needs.
            complain(problem);
            std::process::exit(3);
        }
    });
    builder.build().map_err(|error| format!("cannot start threads: {error}"))
}

/// The file of a network namespace: a name as `ip netns` has it, or a path.
fn namespace_path(name: &str) -> PathBuf {
    if name.contains('/') { PathBuf::from(name) } else { Path::new("/run/netns").join(name) }
}

/// Finds out, on a thread that is good for nothing else, whether the namespace can be entered.
fn try_namespace(path: &Path) -> Result<(), String> {
    in_namespace(Some(path), || ())
}

/// Runs something on a thread of its own, in a network namespace.
fn in_namespace<T: Send>(namespace: Option<&Path>, work: impl FnOnce() -> T + Send) -> Result<T, String> {
    let run = || {
        if let Some(path) = namespace {
            privilege::enter(path)?;
        }
        Ok(work())
    };
    std::thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|_| Err("a thread has failed".to_owned()))
}

fn config(args: AgentArgs, namespace: Option<&Path>) -> Result<AgentConfig, String> {
    let listen = if args.stdio { Vec::new() } else { ways_in(args.listen) };
    let addresses = match &args.lab_interface {
        None => args.lab_address,
        Some(name) => in_namespace(namespace, || interface_addresses(name))??,
    };
    let audit = args.audit.or_else(|| args.policy.as_ref().map(|_| audit_path(&listen)));
    let audit = audit.map(|path| AuditFile { bytes: u64::from(args.audit_size) << 20, ..AuditFile::at(path) });
    let mut config = AgentConfig {
        listen,
        token_file: args.token_file,
        no_auth: args.no_auth && !args.stdio,
        tls: args.tls.files().filter(|_| !args.stdio),
        policy_file: args.policy,
        audit,
        open: OpenServices {
            health: args.open.contains(&OpenService::Health),
            reflection: args.open.contains(&OpenService::Reflection),
        },
        grace: Duration::from_secs(args.grace),
        ..AgentConfig::default()
    };
    for (name, value) in args.limits {
        config.limits.set(&name, value).map_err(|problem| problem.to_string())?;
    }
    for address in addresses {
        let taken = match address {
            IpAddr::V4(ip) => config.lab_ipv4.replace(ip).is_some(),
            IpAddr::V6(ip) => config.lab_ipv6.replace(ip).is_some(),
        };
        if taken {
            return Err("--lab-address: one address of each family, please".to_owned());
        }
    }
    Ok(config)
}

/// Where an agent serves that was told of so many ways in.
fn ways_in(listen: Vec<Listen>) -> Vec<Listen> {
    if !listen.is_empty() {
        return listen;
    }
    vec![Listen::Tcp((Ipv4Addr::LOCALHOST, PORT).into()), Listen::Unix(runtime_dir().join("agent.sock"))]
}

fn limit(change: &str) -> Result<(String, u32), String> {
    let (name, value) = change.split_once('=').ok_or("NAME=NUMBER is needed, such as sockets=4096")?;
    let number = value.parse().map_err(|_| format!("`{value}` is no number up to {}", u32::MAX))?;
    Limits::default().set(name, number).map_err(|problem| problem.to_string())?;
    Ok((name.to_owned(), number))
}

/// The first address of each family of an interface, but for link-local ones, which mean nothing without their zone.
fn interface_addresses(name: &str) -> Result<Vec<IpAddr>, String> {
    let interfaces =
        network::interfaces().map_err(|errno| format!("cannot read interfaces: {} ({errno})", errno.text()))?;
    let Some(interface) = interfaces.iter().find(|interface| interface.name == name) else {
        let names: Vec<&str> = interfaces.iter().map(|interface| interface.name.as_str()).collect();
        return Err(format!("--lab-interface: there is no interface `{name}`; there are {}", names.join(", ")));
    };
    let usable = |ip: &IpAddr| !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let addresses: Vec<IpAddr> = interface.addresses.iter().map(|address| address.ip).filter(usable).collect();
    let first_v4 = addresses.iter().find(|ip| ip.is_ipv4()).copied();
    let first_v6 = addresses.iter().find(|ip| ip.is_ipv6()).copied();
    let first: Vec<IpAddr> = [first_v4, first_v6].into_iter().flatten().collect();
    if first.is_empty() { Err(format!("--lab-interface: `{name}` has no address")) } else { Ok(first) }
}

/// Says what would be served, and what keeps it from being, as somebody finds it who has no more privileges than a start has.
fn check(args: AgentArgs) -> Result<Exit, String> {
    let namespace = args.lab_netns.as_deref().map(namespace_path);
    privilege::harden(namespace.as_deref())?;
    let mut problems = cannot_tell(args.ready_fd, args.ready_file.as_deref());
    problems.extend(namespace.as_deref().and_then(|path| try_namespace(path).err()));
    let config = config(args, namespace.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    let (exposure, wrong) = runtime.block_on(Agent::check(&config));
    problems.extend(wrong.iter().map(ToString::to_string));
    let mut text = format!("farsock {} agent would serve\n", env!("CARGO_PKG_VERSION"));
    let token = config.token_file.as_ref().map(|file| file.display().to_string());
    for (listen, needs) in exposure {
        text.push_str(&way_in(&listen, needs, config.tls.as_ref(), token.as_deref()));
    }
    text.push_str(&open_to_all(config.open));
    let policy = config.policy_file.as_deref().and_then(|path| read_policy(path).ok());
    text.push_str(&policy_in_force(&config, policy.as_ref()));
    text.push_str(&written_down(&config));
    text.push_str(&memory(&config));
    text.push_str(&privilege::lines(namespace.as_deref()));
    print(&text);
    for problem in &problems {
        complain(problem);
    }
    Ok(if problems.is_empty() { Exit::Passed } else { Exit::CouldNotRun })
}

/// Reads credentials, and the policy where there is one, again at each SIGHUP. What is wrong with them is told, and nothing changes.
async fn reload_at_hangup(mut hangup: Signal, reloader: Reloader) {
    while hangup.recv().await.is_some() {
        let reloaded = reloader.reload().await;
        let policy = reloader.policy();
        match (reloaded, policy) {
            (Ok(Reloaded { connections, sockets }), Some(policy)) => complain(format_args!(
                "credentials and the policy (sha256 {}) were read again; connections that were ended by it: {connections}, sockets: {sockets}",
                policy.fingerprint()
            )),
            (Ok(Reloaded { connections, .. }), None) => {
                complain(format_args!("credentials were read again; connections that were ended by it: {connections}"))
            }
            (Err(problem), Some(_)) => {
                complain(format_args!("credentials and the policy stay as they were: {problem}"))
            }
            (Err(problem), None) => complain(format_args!("credentials stay as they were: {problem}")),
        }
    }
}

fn no_signals(error: io::Error) -> String {
    format!("cannot handle signals: {error}")
}

/// The signals that stop an agent: in good order at first, at once when they come again.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

fn stop_signals() -> Result<StopSignals, String> {
    let handle = |kind| signal(kind).map_err(no_signals);
    Ok(StopSignals { terminate: handle(SignalKind::terminate())?, interrupt: handle(SignalKind::interrupt())? })
}

impl StopSignals {
    /// Waits for the first signal; the second one then cancels `now`.
    async fn first(mut self, now: CancellationToken) {
        self.next().await;
        tokio::spawn(async move {
            self.next().await;
            now.cancel();
        });
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
