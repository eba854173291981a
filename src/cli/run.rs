//! `farsock run`.

use std::collections::HashMap;
use std::path::PathBuf;

use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::agent::token_path;
use crate::cli::embedded::{Embedded, LoopbackBlock};
use crate::cli::files::{Exercise, exercises};
use crate::cli::tls::{TlsArgs, dialer};
use crate::cli::views::{Teller, ViewArgs, Views};
use crate::cli::{Exit, complain, print};
use crate::client::{AgentClient, Credentials, Endpoint};
use crate::controller::{self, Fleet, Member};
use crate::exercise::outcome::{ExerciseOutcome, Verdict};
use crate::exercise::plan::Plan;
use crate::model::id::SessionId;
use crate::model::time::Clock;
use crate::sys::clock::SystemClock;

/// What `farsock run` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Hosts without an agent are played by agents within this process, each with a loopback address of its own.

Exit codes: 0 passed, 1 usage, 2 a file is wrong, 3 could not run, 4 a check failed."
)]
pub(super) struct RunArgs {
    /// Exercise files, or directories of them
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Let this agent play a host: ROLE=HOST:PORT, ROLE=unix:PATH; again for more
    #[arg(long = "host", value_name = "ROLE=AGENT")]
    hosts: Vec<String>,

    /// The file of the token for agents that are not yours on this host
    #[arg(long, value_name = "FILE", env = "FARSOCK_TOKEN_FILE")]
    token_file: Option<PathBuf>,

    #[command(flatten)]
    tls: TlsArgs,

    #[command(flatten)]
    views: ViewArgs,
}

/// Runs exercises, one after the other.
pub(super) fn run(args: &RunArgs) -> Exit {
    let agents = match agents(&args.hosts) {
        Ok(agents) => agents,
        Err(problem) => {
            complain(problem);
            return Exit::Usage;
        }
    };
    let exercises = match exercises(&args.files, args.views.json()) {
        Ok(exercises) => exercises,
        Err(exit) => return exit,
    };
    if let Some(role) = agents.keys().find(|role| !exercises.iter().any(|e| plays(&e.plan, role))) {
        complain(format_args!("--host: no exercise has a host `{role}`"));
        return Exit::Usage;
    }
    // One thread: everything that happens on loopback is then noticed in the order in which it happened.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(format_args!("cannot start: {error}"));
            return Exit::CouldNotRun;
        }
    };
    let mut views = match Views::new(&args.views) {
        Ok(views) => views,
        Err(problem) => {
            complain(problem);
            return Exit::Usage;
        }
    };
    let verdict = runtime.block_on(run_all(args, &agents, &exercises, &mut views));
    let written = views.finish();
    // A name lookup that nobody waits for any more must not keep the process from ending.
    runtime.shutdown_background();
    match verdict {
        Verdict::Passed if !written => Exit::CouldNotRun,
        Verdict::Passed => Exit::Passed,
        Verdict::Failed => Exit::Failed,
        Verdict::CouldNotRun => Exit::CouldNotRun,
    }
}

fn plays(plan: &Plan, role: &str) -> bool {
    plan.hosts.iter().any(|host| host.role == role)
}

/// The agents that were given on the command line, by role.
fn agents(hosts: &[String]) -> Result<HashMap<String, Endpoint>, String> {
    let parse = |host: &String| {
        let (role, agent) = host.split_once('=').ok_or_else(|| format!("--host {host}: ROLE=AGENT is needed"))?;
        let endpoint = agent.parse().map_err(|problem| format!("--host {host}: {problem}"))?;
        Ok((role.to_owned(), endpoint))
    };
    hosts.iter().map(parse).collect()
}

async fn run_all(
    args: &RunArgs,
    agents: &HashMap<String, Endpoint>,
    exercises: &[Exercise],
    views: &mut Views<'_>,
) -> Verdict {
    let interrupt = CancellationToken::new();
    let listening = interrupt.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            listening.cancel();
        }
    });
    let mut worst = Verdict::Passed;
    let mut passed = 0;
    for exercise in exercises {
        let outcome = run_one(args, agents, exercise, views, &interrupt).await;
        worst = worst.max(outcome.verdict());
        passed += usize::from(outcome.verdict() == Verdict::Passed);
        if interrupt.is_cancelled() {
            break;
        }
    }
    if exercises.len() > 1 && !args.views.json() {
        print(&format!("{passed} of {} exercises passed\n", exercises.len()));
    }
    worst
}

async fn run_one(
    args: &RunArgs,
    agents: &HashMap<String, Endpoint>,
    exercise: &Exercise,
    views: &mut Views<'_>,
    interrupt: &CancellationToken,
) -> ExerciseOutcome {
    let Exercise { source, plan } = exercise;
    let mut embedded = Embedded::new();
    let mut teller = Teller::new(views, source, plan, SystemClock::start().now());
    let outcome = match fleet(args, agents, plan, &mut embedded).await {
        // The block of addresses is held until the exercise is over.
        Ok((fleet, _block)) => controller::run(plan, fleet, &mut teller, interrupt).await,
        Err(problem) => ExerciseOutcome::not_begun(plan.steps.len(), problem),
    };
    teller.ended(&outcome);
    embedded.stop().await;
    outcome
}

/// The agents that play an exercise: those that were given, and embedded ones for the rest.
async fn fleet(
    args: &RunArgs,
    agents: &HashMap<String, Endpoint>,
    plan: &Plan,
    embedded: &mut Embedded,
) -> Result<(Fleet, Option<LoopbackBlock>), String> {
    let mut block = None;
    let mut members = Vec::with_capacity(plan.hosts.len());
    for (at, host) in plan.hosts.iter().enumerate() {
        let named = host.agent.as_deref().map(str::parse::<Endpoint>).transpose();
        let named = named.map_err(|problem| format!("{}: {problem}", host.role))?;
        let (place, client) = match agents.get(&host.role).cloned().or(named) {
            Some(endpoint) => (endpoint.to_string(), client(args, &endpoint)?),
            None => {
                if block.is_none() {
                    block = Some(LoopbackBlock::take().map_err(|error| format!("no loopback addresses: {error}"))?);
                }
                let Some(block) = &block else { continue };
                embedded.start(block, at).await?
            }
        };
        members.push(Member::new(&host.role, place, client));
    }
    Ok((Fleet::new(members, session()?), block))
}

/// A session that no other run has on the same agents.
fn session() -> Result<SessionId, String> {
    let mut bits = [0; 8];
    getrandom::fill(&mut bits).map_err(|error| format!("no random numbers: {error}"))?;
    SessionId::parse(&format!("run-{:016x}", u64::from_be_bytes(bits))).map_err(|problem| problem.to_string())
}

fn client(args: &RunArgs, endpoint: &Endpoint) -> Result<AgentClient, String> {
    let identity = args.tls.identity()?;
    let credentials = match endpoint {
        Endpoint::Unix(_) => Credentials::none(),
        Endpoint::Tcp { .. } if identity.is_some() => Credentials::none(),
        Endpoint::Tcp { port, .. } => {
            let file = args.token_file.clone().unwrap_or_else(|| token_path(*port));
            // An agent may serve without a token; if it does not, it says so itself.
            if args.token_file.is_some() || file.exists() {
                Credentials::token_file(&file).map_err(|error| error.to_string())?
            } else {
                Credentials::none()
            }
        }
    };
    let dialer = dialer(endpoint, identity.as_ref()).map_err(|error| error.to_string())?;
    Ok(AgentClient::new(&dialer, &credentials))
}
