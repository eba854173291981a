//! The kernel as the judge: the same random operations are done to sockets of an agent and to plain ones of the test, and must go the same
//! way: the same word, the same bytes, the same state afterwards, and a log that tells just that.
//!
//! Each walk of operations has a seed. `FARSOCK_SEED=N` takes one walk alone, `FARSOCK_SEED=N..M` those from N to before M, `FARSOCK_LONG=1`
//! a million steps. Where a socket of an agent is meant to go another way than a plain one stands in [`exceptions`], and nowhere else.

mod exceptions;
mod options;
mod pair;
mod story;
mod tcp;
mod udp;
mod worlds;

use farsock::wire::pb::Transport;

use crate::harness::tcp::FullListener;
use crate::harness::{Agent, LOOPBACKS};

use exceptions::Met;
use worlds::Worlds;

/// How many operations a walk has. Half of the walks of a kind are over IPv4, half over IPv6.
const STEPS: usize = 40;

/// A stream of numbers that starts from a seed: what fails can be had again. Knuth's MMIX.
pub struct Dice(u64);

impl Dice {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

fn is_long() -> bool {
    std::env::var_os("FARSOCK_LONG").is_some()
}

/// Where the walks of each kind start from: enough seeds for a million steps in the long form, or those of walks that failed.
fn seeds() -> std::ops::Range<u64> {
    match std::env::var("FARSOCK_SEED") {
        Ok(asked) => match asked.split_once("..") {
            Some((first, end)) => first.parse().unwrap()..end.parse().unwrap(),
            None => asked.parse::<u64>().map(|seed| seed..seed + 1).unwrap(),
        },
        Err(_) if is_long() => 0..6250,
        Err(_) => 0..30,
    }
}

/// Takes all walks over one transport.
async fn walk(transport: Transport) {
    let mut met = Met::default();
    for ip in LOOPBACKS {
        let (agent, full) = (Agent::start().await, FullListener::new(ip));
        let mut steps = 0;
        for seed in seeds() {
            let mut dice = Dice(seed);
            let mut worlds = Worlds::new(&agent, transport, ip, &full, seed, &mut met).await;
            for _ in 0..STEPS {
                worlds.step(&mut dice).await;
            }
            steps += worlds.finish().await;
        }
        agent.stop().await;
        println!("{transport:?} over {ip}: {steps} steps in the walks of the seeds {:?}; {met:?}", seeds());
    }
    if is_long() {
        met.all_of(transport);
    }
}

#[tokio::test]
async fn random_operations_on_tcp_go_as_the_kernel_lets_them_go() {
    walk(Transport::Tcp).await;
}

#[tokio::test]
async fn random_operations_on_udp_go_as_the_kernel_lets_them_go() {
    walk(Transport::Udp).await;
}
