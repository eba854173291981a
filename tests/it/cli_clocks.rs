//! Agents whose clocks are not that of the controller.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use farsock::agent::{AgentConfig, Listen};
use farsock::model::time::{Clock, Timestamp};
use farsock::sys::clock::SystemClock;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::harness::{Agent, Ran, Running, farsock, run, within};

/// The clock of a host, which may be set while it goes.
#[derive(Debug)]
struct SetClock {
    clock: SystemClock,
    ahead: AtomicI64,
}

impl SetClock {
    fn ahead(nanos: i64) -> Arc<Self> {
        Arc::new(Self { clock: SystemClock::start(), ahead: AtomicI64::new(nanos) })
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        self.clock.now().shifted(self.ahead.load(Ordering::Acquire))
    }

    fn at_realtime(&self, nanos: i64) -> Timestamp {
        self.clock.at_realtime(nanos).shifted(self.ahead.load(Ordering::Acquire))
    }
}

/// Less than a lease, which would end otherwise.
const AHEAD: i64 = 5_000_000_000;

/// How far two clocks of one host are apart at most: each is set by CLOCK_REALTIME once, and may be held up while it looks there.
const AS_STARTED: i64 = 100_000_000;

/// An agent with this clock, at a Unix socket.
async fn agent_at(socket: &Path, clock: &Arc<SetClock>) -> Agent {
    let clock: Arc<dyn Clock> = Arc::<SetClock>::clone(clock);
    let listen = vec![Listen::Unix(socket.to_owned())];
    Agent::start_with(AgentConfig { listen, clock: Some(clock), ..AgentConfig::default() }).await
}

/// A long run reads clocks again: what happens after one has been set is told when it happened.
#[tokio::test]
async fn a_clock_that_is_set_while_a_run_goes_on_is_read_again() {
    let folder = TempDir::new().unwrap();
    let clock = SetClock::ahead(0);
    let socket = folder.path().join("agent.sock");
    let agent = agent_at(&socket, &clock).await;
    let file = folder.path().join("guests.yaml");
    let steps = "  - { on: a, listen: \":0\", as: door }\n  - { on: a, accept: door, peer: \"192.0.2.1:1\", as: guest, within: 10m }\n";
    fs::write(&file, format!("exercise: Guests\nhosts:\n  a:\nsteps:\n{steps}  - {{ on: a, close: guest }}\n"))
        .unwrap();
    let begun = Instant::now();
    let mut command = farsock(folder.path());
    command.args(["run", "--json", &format!("--host=a=unix:{}", socket.display())]).arg(&file);
    let mut running = Running::spawn(command);
    let door: SocketAddr = running.event("listening").await["local"].as_str().unwrap().parse().unwrap();
    clock.ahead.store(AHEAD, Ordering::Release);
    let read_again = async {
        loop {
            let guest = TcpStream::connect(door).await.unwrap();
            let at = running.event("accepted").await["at_ns"].as_i64().unwrap();
            drop(guest);
            // As long as nobody knows that it was set, it is told to have happened in the future.
            if i128::from(at) <= i128::try_from(begun.elapsed().as_nanos()).unwrap() {
                return;
            }
        }
    };
    within("the clock to be read again", read_again).await;
    running.signal(Signal::INT);
    assert_eq!(running.end().await.code, Some(3));
    agent.stop().await;
}

/// One instant is another time on each clock: it is asked for by that of each agent, and what came of it is told by that of the controller.
#[tokio::test]
async fn hosts_begin_at_one_instant_whatever_their_clocks_say() {
    let folder = TempDir::new().unwrap();
    let hosts = [("behind", -AHEAD), ("right", 0), ("ahead", AHEAD)];
    let mut agents = Vec::new();
    let mut command = farsock(folder.path());
    command.args(["run", "--json"]);
    for (role, nanos) in hosts {
        let socket = folder.path().join(format!("{role}.sock"));
        agents.push(agent_at(&socket, &SetClock::ahead(nanos)).await);
        command.arg(format!("--host={role}=unix:{}", socket.display()));
    }
    let steps = hosts.map(|(role, _)| format!("{{ on: {role}, create: udp, local: \":0\", as: u-{role} }}")).join(", ");
    let close = hosts.map(|(role, _)| format!("  - {{ on: {role}, close: u-{role} }}\n")).concat();
    let file = folder.path().join("instant.yaml");
    let text = format!(
        "exercise: Instant\nhosts: {{ behind: , right: , ahead: }}\nsteps:\n  - together: {{ align: 100ms, steps: [{steps}] }}\n{close}"
    );
    fs::write(&file, text).unwrap();
    command.arg(&file);
    let Ran { code, out, err } = run(command).await;
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told = lines.iter().find(|line| line["verb"] == "together" && line["type"] == "step").unwrap();
    assert!(told["finding"].as_str().unwrap().starts_with("3 starts lie "), "{told}");
    // By their own clocks they lie five seconds apart.
    let created: Vec<i64> =
        lines.iter().filter(|line| line["kind"] == "created").map(|line| line["at_ns"].as_i64().unwrap()).collect();
    assert_eq!(created.len(), 3, "{out}");
    let apart = created.iter().max().unwrap() - created.iter().min().unwrap();
    assert!(apart < AHEAD / 5, "{apart} ns: {out}");
    for agent in agents {
        agent.stop().await;
    }
}

/// How far a clock is ahead of this one, and not the other way round; and it truly is, as far as it is said to be known.
#[tokio::test]
async fn how_far_a_clock_is_ahead_is_told() {
    let folder = TempDir::new().unwrap();
    for nanos in [AHEAD, -AHEAD] {
        let socket = folder.path().join("agent.sock");
        let agent = agent_at(&socket, &SetClock::ahead(nanos)).await;
        let mut command = farsock(folder.path());
        command.args(["hosts", "--json", "--host", &format!("unix:{}", socket.display())]);
        let ran = run(command).await;
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
        let told: Value = serde_json::from_str(&ran.out).unwrap();
        let (offset, bound) = (told["clock_offset_ns"].as_i64().unwrap(), told["clock_bound_ns"].as_i64().unwrap());
        assert!((offset - nanos).abs() <= bound + AS_STARTED, "{told}");
        assert!(bound < AHEAD / 5, "{told}");
        agent.stop().await;
    }
}
