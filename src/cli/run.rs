//! `farsock run`.

use std::future::pending;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::again::Again;
use crate::cli::embedded::Embedded;
use crate::cli::files::{Exercise, HostArgs, InventoryArgs, VarArgs, exercises};
use crate::cli::netns::{Namespaces, enter_rootless};
use crate::cli::reach::ReachArgs;
use crate::cli::views::{Teller, ViewArgs, Views};
use crate::cli::{Exit, complain};
use crate::controller::{self, Fleet, Interrupts, Member, Observer, PATIENCE, Phase, Progress};
use crate::exercise::inventory::{Casting, Inventory, Mode, Player};
use crate::exercise::outcome::{ExerciseOutcome, Verdict};
use crate::exercise::plan::{HostPlan, Plan};
use crate::exercise::report::line::MistakeLine;
use crate::exercise::report::text;
use crate::model::id::SessionId;
use crate::model::time::Clock;
use crate::sys::process;

/// What `farsock run` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  farsock run exercise.yaml
  farsock run exercises/ --html page.html
  farsock run exercise.yaml --host server=lab-a:7625 --host client=ssh://lab-b
  farsock run exercise.yaml --inventory lab.yaml --var port=8080

An agent is one at HOST:PORT, unix:PATH or ssh://USER@HOST, or a name, a group or a label (KEY=VALUE) of the inventory. \
A host without an agent is played by the one of its own name in the inventory, or else by an agent within this process, each with a \
loopback address of its own.

Exit codes: 0 passed, 1 usage, 2 a file is wrong, 3 could not run, 4 a check failed.")]
pub(super) struct RunArgs {
    /// Exercise files, or directories of them
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    #[command(flatten)]
    vars: VarArgs,

    #[command(flatten)]
    hosts: HostArgs,

    #[command(flatten)]
    inventory: InventoryArgs,

    /// Let all hosts be network namespaces of this machine, with an agent in each, joined as the exercise's `networks:` say, or all by one;
    /// whatever the inventory says. Needs root, or user namespaces
    #[arg(long, conflicts_with = "hosts")]
    netns: bool,

    #[command(flatten)]
    reach: ReachArgs,

    #[command(flatten)]
    views: ViewArgs,
}

/// Runs exercises, one after the other.
pub(super) fn run(args: &RunArgs) -> Exit {
    if args.netns
        && let Err(problem) = enter_rootless()
    {
        complain(problem);
        return Exit::CouldNotRun;
    }
    let read = if args.netns { Ok(None) } else { args.inventory.read(args.views.json()) };
    let inventory = match read {
        Ok(inventory) => inventory,
        Err(exit) => return exit,
    };
    let given = match args.hosts.read(inventory.as_ref()) {
        Ok(given) => given,
        Err(exit) => return exit,
    };
    let mode = if args.netns { Mode::Namespaces } else { Mode::Machines };
    let casting = Casting { inventory: inventory.as_ref(), given: &given, mode };
    let also = |wrong: &[MistakeLine]| args.views.tell_mistakes(wrong);
    let exercises = match exercises(&args.files, &args.vars, casting, args.views.json(), also) {
        Ok(exercises) => exercises,
        Err(exit) => return exit,
    };
    if let Err(exit) = HostArgs::used(&given, &exercises) {
        return exit;
    }
    // Agents within this process have descriptors of it.
    process::raise_descriptor_limit();
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
    let verdict = runtime.block_on(run_all(args, inventory.as_ref(), &exercises, &mut views));
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

async fn run_all(
    args: &RunArgs,
    inventory: Option<&Inventory>,
    exercises: &[Exercise],
    views: &mut Views<'_>,
) -> Verdict {
    let interrupts = Interrupts::default();
    cancel_at_signals(&interrupts);
    let mut worst = Verdict::Passed;
    let mut passed = 0;
    let mut wrong = Vec::new();
    for exercise in exercises {
        let outcome = run_one(args, inventory, exercise, views, &interrupts).await;
        worst = worst.max(outcome.verdict());
        match outcome.verdict() {
            Verdict::Passed => passed += 1,
            verdict => wrong.push(text::repeated(verdict, &exercise.plan.title, &exercise.source.name)),
        }
        if interrupts.early.is_cancelled() {
            break;
        }
    }
    if exercises.len() > 1 && !args.views.json() {
        // What went wrong with each has been told, perhaps some screens above.
        wrong.push(format!("{passed} of {} exercises passed", exercises.len()));
        views.say(&wrong.join("\n"));
    }
    worst
}

/// From here on, Ctrl-C and SIGTERM end the run in good order, and at once when they come again.
fn cancel_at_signals(interrupts: &Interrupts) {
    let handle = |kind| signal(kind).ok();
    let (mut interrupt, mut terminate) = (handle(SignalKind::interrupt()), handle(SignalKind::terminate()));
    let Interrupts { early, at_once } = interrupts.clone();
    tokio::spawn(async move {
        for cancelled in [early, at_once] {
            tokio::select! {
                () = next(&mut interrupt) => {}
                () = next(&mut terminate) => {}
            }
            cancelled.cancel();
        }
    });
}

/// Waits for a signal. One that cannot be handled ends the process by itself.
async fn next(signals: &mut Option<Signal>) {
    match signals {
        Some(signals) => drop(signals.recv().await),
        None => pending().await,
    }
}

async fn run_one(
    args: &RunArgs,
    inventory: Option<&Inventory>,
    exercise: &Exercise,
    views: &mut Views<'_>,
    interrupts: &Interrupts,
) -> ExerciseOutcome {
    let Exercise { source, plan } = exercise;
    let mut embedded = Embedded::new();
    let mut teller = Teller::new(views, source, plan, embedded.clock().now(), again(args, exercise));
    let mut namespaces = None;
    let fleet = tokio::select! {
        fleet = fleet(args, inventory, plan, (&mut embedded, &mut namespaces), &mut teller) => fleet,
        () = interrupts.early.cancelled() => Err("interrupted".to_owned()),
    };
    let outcome = match fleet {
        Ok(fleet) => controller::run(plan, fleet, &mut teller, interrupts).await,
        Err(problem) => ExerciseOutcome::not_begun(plan.steps.len(), problem),
    };
    teller.ended(&outcome);
    // What the hosts need was held until the exercise was over.
    if let Some(namespaces) = namespaces {
        namespaces.end().await;
    }
    embedded.stop().await;
    outcome
}

/// The command that runs an exercise again.
fn again(args: &RunArgs, Exercise { source, plan }: &Exercise) -> String {
    // How a run is shown makes it no other run.
    let RunArgs { files: _, vars, hosts, inventory, netns, reach, views: _ } = args;
    let mut again = Again::command("run");
    vars.again(plan, &mut again);
    hosts.again(plan, &mut again);
    // Namespaces need no inventory.
    if *netns {
        again.word("--netns")
    } else {
        inventory.again(&mut again)
    }
    reach.again(&mut again);
    again.file(&source.name)
}

/// The agents that play an exercise: those that were given or listed, and embedded ones for the rest. What is made for them is there until its
/// owner ends it, also where this fails or is ended.
async fn fleet(
    args: &RunArgs,
    inventory: Option<&Inventory>,
    plan: &Plan,
    (embedded, made): (&mut Embedded, &mut Option<Namespaces>),
    observer: &mut dyn Observer,
) -> Result<Fleet, String> {
    if let (true, Some(networks)) = (args.netns, &plan.networks) {
        let roles: Vec<&str> = plan.hosts.iter().map(|host| host.role.as_str()).collect();
        let namespaces = made.insert(Namespaces::new(&roles)?);
        namespaces.make(&roles, networks, tell_of_networks(roles.len(), observer)).await?;
    }
    let mut members = Vec::with_capacity(plan.hosts.len());
    for (at, host) in plan.hosts.iter().enumerate() {
        members.push(match (&host.player, inventory) {
            (Player::At(endpoint), _) => {
                Member::new(&host.role, endpoint.to_string(), args.reach.client(endpoint, inventory)?)
            }
            (Player::Listed(listed), Some(inventory)) => {
                let client = args.reach.listed(listed, inventory)?;
                let member = Member::new(&host.role, format!("{} {}", listed.name, listed.agent), client);
                member.with_addresses(listed.addresses.clone())
            }
            (Player::Namespace, _) => {
                let Some(namespaces) = made.as_ref() else { continue };
                let Some(agent) = namespaces.agent(at) else { continue };
                let member = Member::new(&host.role, namespaces.place(at), args.reach.client(&agent, inventory)?);
                let addresses = plan.networks.as_ref().map(|all| all.addresses_of(at)).unwrap_or_default();
                member.with_addresses(addresses).on_this_host()
            }
            (Player::Embedded | Player::Listed(_), _) => {
                tell_of_embedded(host, inventory);
                let (place, client) = embedded.start().await?;
                Member::new(&host.role, place, client).by_the_same_clock()
            }
        });
    }
    Ok(Fleet::new(members, session()?, embedded.clock()))
}

/// Tells how many hosts have their networks and agents, as often as whatever takes its time is told.
fn tell_of_networks(hosts: usize, observer: &mut dyn Observer) -> impl FnMut(usize) {
    let mut told: Option<Instant> = None;
    move |ready| {
        if told.is_none_or(|told| told.elapsed() >= PATIENCE) {
            told = Some(Instant::now());
            let awaited = (ready..hosts).collect();
            observer.waiting(&Progress { phase: Phase::Network, done: ready, of: hosts, awaited });
        }
    }
}

/// Says that an agent within this process plays a host, where somebody may have meant another one.
fn tell_of_embedded(host: &HostPlan, inventory: Option<&Inventory>) {
    let role = &host.role;
    match (&host.agent, inventory) {
        (Some(name), _) => complain(format_args!(
            "{role}: `{name}` is a name of an inventory, and none is given (--inventory FILE): an embedded agent plays it"
        )),
        (None, Some(inventory)) => complain(format_args!(
            "{role}: the exercise names no agent, and {} has no `{role}`: an embedded agent plays it",
            inventory.file
        )),
        (None, None) => {}
    }
}

/// A session that no other run has on the same agents.
fn session() -> Result<SessionId, String> {
    let mut bits = [0; 8];
    getrandom::fill(&mut bits).map_err(|error| format!("no random numbers: {error}"))?;
    SessionId::parse(&format!("run-{:016x}", u64::from_be_bytes(bits))).map_err(|problem| problem.to_string())
}
