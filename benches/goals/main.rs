//! The goals, measured: what farsock does beside what its parts can do bare, in one run, as ratios.
//!
//! `cargo bench` runs them all in a few minutes, `cargo bench -- g1 g3` some of them, and `FARSOCK_BENCH_QUICK=1 cargo bench` each once and
//! briefly. What each figure means stands in `benches/README.md`. Nothing is asserted about time here: a bench prints.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench that cannot go on ends, and says where"
)]

use std::process::ExitCode;

mod agent;
mod bare;
mod bulk;
mod calls;
mod certificates;
mod channel;
mod fan_out;
mod hosts;
mod load;
mod machine;
mod relay;
mod resume;
mod round_trip;
mod rounds;
mod side;
mod small_events;
mod transfer;

/// As the binary has it.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The goals that there are benches for, by their numbers, and what has none.
const BENCHES: [(&str, fn()); 10] = [
    ("g1", calls::run),
    ("g2", round_trip::run),
    ("g3", bulk::run),
    ("g3", transfer::run_download),
    ("g4", transfer::run),
    ("g5", small_events::run),
    ("g7", fan_out::run),
    ("g12", hosts::run),
    ("together", hosts::run_together),
    ("resume", resume::run),
];

fn main() -> ExitCode {
    #[cfg(feature = "mimalloc")]
    farsock::sys::allocator::keep_free_memory();
    if let Some(code) = hosts::child() {
        return code;
    }
    machine::enter_own_network();
    println!("{}", machine::describe());
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    for (name, run) in BENCHES {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            run();
        }
    }
    ExitCode::SUCCESS
}
