//! The clocks of agents while a run goes on.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use farsock::agent::{AgentConfig, Listen};
use farsock::model::time::{Clock, Timestamp};
use farsock::sys::clock::SystemClock;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::harness::{Agent, Running, farsock, within};

/// The clock of a host that is set while it goes.
#[derive(Debug)]
struct SetClock {
    clock: SystemClock,
    ahead: AtomicI64,
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

/// A long run reads clocks again: what happens after one has been set is told when it happened.
#[tokio::test]
async fn a_clock_that_is_set_while_a_run_goes_on_is_read_again() {
    let folder = TempDir::new().unwrap();
    let clock = Arc::new(SetClock { clock: SystemClock::start(), ahead: AtomicI64::new(0) });
    let socket = folder.path().join("agent.sock");
    let told: Arc<dyn Clock> = Arc::<SetClock>::clone(&clock);
    let config =
        AgentConfig { listen: vec![Listen::Unix(socket.clone())], clock: Some(told), ..AgentConfig::default() };
    let agent = Agent::start_with(config).await;
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
