//! G12: one exercise on many embedded agents: what a host costs in time and memory, however many there are. And how far apart steps begin
//! that are to begin at one instant on sixteen hosts.

use std::fmt::Write;
use std::fs;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Instant;

use farsock::agent::{Agent, AgentConfig};
use farsock::client::{AgentClient, Credentials, Dialer};
use farsock::controller::{self, Fleet, Interrupts, Member, Observer, Progress};
use farsock::exercise::check::{Given, check};
use farsock::exercise::outcome::{ExerciseOutcome, HostSeen, StepOutcome, Verdict};
use farsock::exercise::plan::Step;
use farsock::exercise::timeline::Moment;
use farsock::model::event::Event;
use farsock::model::id::{SessionId, SocketId};
use farsock::model::mistake::Source;
use farsock::sys::clock::SystemClock;
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

use crate::rounds::{Figure, median, quick, repeat, time};

/// How many hosts there are at a time. What one host costs comes from what more of them cost than one.
const HOSTS: [usize; 3] = [10, 100, 1_000];

/// How many hosts begin at one instant.
const TOGETHER: usize = 16;

/// Says that the process is to be `farsock`, and to say how much memory it has had.
const CHILD: &str = "FARSOCK_BENCH_CHILD";

// === What a host costs ===

pub(crate) fn run() {
    let folder = tempfile::tempdir().unwrap();
    let once = |hosts: usize| {
        let file = folder.path().join(format!("{hosts}.yaml"));
        fs::write(&file, ring(hosts)).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["run", "--quiet"]).arg(&file).env(CHILD, "1");
        let begin = Instant::now();
        let ran = command.output().unwrap();
        let seconds = begin.elapsed().as_secs_f64();
        let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "{hosts} hosts: {out}{err}");
        let bytes: f64 = err.trim().parse().unwrap();
        [seconds, bytes]
    };
    // What few hosts take is mostly the start of a process, which is never quite the same.
    let measure = |hosts: usize| {
        let runs: Vec<[f64; 2]> = (0..(100 / hosts).clamp(1, 10)).map(|_| once(hosts)).collect();
        [0, 1].map(|at| median(&runs.iter().map(|run| run[at]).collect::<Vec<f64>>()))
    };
    let few = if quick() { &HOSTS[..2] } else { &HOSTS[..] };
    let rounds = repeat(|| {
        let one = measure(1);
        let each = |hosts: usize, many: [f64; 2]| [0, 1].map(|at| (many[at] - one[at]) / further_ones(hosts));
        few.iter().map(|hosts| each(*hosts, measure(*hosts))).collect::<Vec<_>>()
    });
    let of = |at: usize, what: usize| rounds.iter().map(|round| round[at][what]).collect::<Vec<f64>>();
    for (at, hosts) in few.iter().enumerate().skip(1) {
        let beside = format!("{} hosts", HOSTS[0]);
        for (which, (name, show)) in [("time", time as fn(f64) -> String), ("memory", memory)].into_iter().enumerate() {
            let what = format!("{name} for a host, {hosts} hosts");
            let figure = Figure { goal: "G12", what: &what, beside: &beside, show, wanted: "0.80–1.20" };
            figure.print(&of(at, which), &of(0, which));
        }
    }
}

/// Is `farsock`, where somebody has said so: one that says at its end how many bytes of memory it has had.
pub(crate) fn child() -> Option<ExitCode> {
    std::env::var_os(CHILD)?;
    let code = farsock::cli::main();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kibibytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    eprintln!("{}", kibibytes * 1024);
    Some(code)
}

/// Each host has a connection from the next one.
fn ring(hosts: usize) -> String {
    let mut text = format!("exercise: A ring of {hosts}\nhosts:\n");
    for host in 0..hosts {
        writeln!(text, "  h{host}:").unwrap();
    }
    text.push_str("steps:\n");
    for host in 0..hosts {
        let next = (host + 1) % hosts;
        for step in [
            format!("on: h{host}, listen: \":0\", as: door-{host}"),
            format!("on: h{next}, connect: \"${{door-{host}}}\", as: line-{host}"),
            format!("on: h{host}, accept: door-{host}, peer: \"${{line-{host}.local}}\", as: guest-{host}"),
            format!("on: h{next}, write: line-{host}, text: hola"),
            format!("on: h{host}, receive: guest-{host}, text: hola"),
            format!("on: h{next}, close: line-{host}"),
            format!("on: h{host}, expect: guest-{host}, event: peer_closed"),
        ] {
            writeln!(text, "  - {{ {step} }}").unwrap();
        }
    }
    text
}

fn further_ones(hosts: usize) -> f64 {
    f64::from(u32::try_from(hosts - 1).unwrap())
}

fn memory(bytes: f64) -> String {
    format!("{:.0} KiB", bytes / 1024.0)
}

// === One instant ===

pub(crate) fn run_together() {
    let rounds = if quick() { 3 } else { 300 };
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let seen = runtime.block_on(spreads(rounds));
    let last = |spreads: &[f64]| {
        let mut sorted = spreads.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[(sorted.len() * 99).div_ceil(100) - 1]
    };
    for (by, spreads) in [("by the clock that all have", &seen.true_ones()), ("as the exercise tells it", &seen.told)] {
        let (p50, p99) = (time(median(spreads)), time(last(spreads)));
        println!("start spread {by}, {TOGETHER} hosts, {rounds} times: p50 {p50}, p99 {p99}, wanted ≤ 200 µs");
    }
}

/// Runs an exercise whose steps begin at one instant, so many times.
async fn spreads(rounds: usize) -> Spreads {
    let source = Source { name: "together.yaml".to_owned(), text: together(rounds) };
    let plan = check(&source, Given::default()).unwrap();
    let stop = CancellationToken::new();
    let clock = SystemClock::start();
    let mut members = Vec::new();
    for host in &plan.hosts {
        let config = AgentConfig { clock: Some(Arc::new(clock)), ..AgentConfig::default() };
        let agent = Agent::bind(config).await.unwrap();
        let connector = agent.connector();
        let dialer = Dialer::from_fn(move || {
            let connector = connector.clone();
            async move { connector.connect().await }
        });
        tokio::spawn(agent.serve(stop.clone().cancelled_owned(), CancellationToken::new()));
        let client = AgentClient::new(&dialer, &Credentials::none());
        members.push(Member::new(&host.role, "embedded", client).by_the_same_clock());
    }
    let fleet = Fleet::new(members, SessionId::parse("together").unwrap(), clock);
    let mut seen = Spreads { told: Vec::new(), starts: vec![Vec::new(); rounds] };
    let outcome: ExerciseOutcome = controller::run(&plan, fleet, &mut seen, &Interrupts::default()).await;
    assert_eq!(outcome.verdict(), Verdict::Passed, "{outcome:?}");
    stop.cancel();
    seen
}

fn together(rounds: usize) -> String {
    let roles = (0..TOGETHER).map(|host| format!("h{host}: ")).collect::<Vec<_>>().join(", ");
    let mut text = format!("exercise: One instant\nhosts: {{ {roles} }}\nsteps:\n");
    for round in 0..rounds {
        let each = |step: &str| format!("foreach: {{ hosts: all }}, steps: [{{ on: \"${{item}}\", {step} }}]");
        let create = each(&format!("create: udp, as: \"u{round}-${{item}}\""));
        let close = each(&format!("close: \"u{round}-${{item}}\""));
        writeln!(text, "  - together: {{ align: 1s, steps: [{{ {create} }}] }}\n  - {{ {close} }}").unwrap();
    }
    text
}

/// How far apart starts were, in seconds.
struct Spreads {
    /// As the exercise has told it.
    told: Vec<f64>,
    /// When each began, by its agent's clock; all agents have that of this host.
    starts: Vec<Vec<i64>>,
}

impl Spreads {
    fn true_ones(&self) -> Vec<f64> {
        let spread = |starts: &Vec<i64>| starts.iter().max().unwrap() - starts.iter().min().unwrap();
        self.starts.iter().map(|starts| f64::from(i32::try_from(spread(starts)).unwrap()) / 1e9).collect()
    }
}

impl Observer for Spreads {
    fn began(&mut self, _: &[HostSeen], _: i64) {}

    fn named(&mut self, _: usize, _: &SocketId, _: &str) {}

    fn happened(&mut self, moments: &[Moment]) {
        for moment in moments {
            let (Event::Created { .. }, Some((id, _))) = (&moment.record.event, &moment.record.socket) else {
                continue;
            };
            let (round, _) = id.as_str()[1..].split_once('-').unwrap();
            self.starts[round.parse::<usize>().unwrap()].push(moment.record.time.nanos());
        }
    }

    fn waiting(&mut self, _: &Progress) {}

    fn stepped(&mut self, _: &Step, outcome: &StepOutcome) {
        let Some(finding) = &outcome.finding else { return };
        let (_, spread) = finding.split_once(" starts lie ").unwrap();
        let milliseconds: f64 = spread.split(' ').next().unwrap().parse().unwrap();
        self.told.push(milliseconds / 1e3);
    }
}
