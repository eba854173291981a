//! A seeded simulation of an agent, its controllers and its watchers: the real logs, holds, cursors, leases, rosters, names, memories of
//! operations and places of watches, and between them a network that loses, doubles, delays and reorders, processes that crash and stand
//! still, and hosts that sleep. Time is a number, chance is a seed, and a run that fails is had again by one line.

mod agent;
pub mod chance;
mod controller;
pub mod history;
mod messages;
mod streams;
pub mod validators;
mod watcher;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use world::{Mode, Tally, run};

/// One run; tells how to have it again if it fails.
fn run_or_tell(mode: Mode, seed: u64) -> Tally {
    let problem = match catch_unwind(AssertUnwindSafe(|| run(mode, seed))) {
        Ok(Ok(tally)) => return tally,
        Ok(Err(violation)) => violation,
        Err(_) => "a machine has panicked".to_owned(),
    };
    panic!("{problem}\nagain: FARSOCK_RUN={mode:?}:{seed} cargo test --test it -- simulator::one_run_again");
}

/// So many runs, half of them on another thread; the long form is for whoever has the time.
fn runs(mode: Mode, usual: u64) -> Tally {
    let first = std::env::var("FARSOCK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let count = if std::env::var_os("FARSOCK_LONG").is_some() { 20 * usual } else { usual };
    let of = |odd: u64| {
        let mut tally = Tally::default();
        (first + odd..first + count).step_by(2).for_each(|seed| tally.add(run_or_tell(mode, seed)));
        tally
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| of(1));
        let mut tally = of(0);
        tally.add(other.join().unwrap_or_else(|problem| std::panic::resume_unwind(problem)));
        tally
    })
}

#[test]
fn nothing_happens_that_must_not_whatever_goes_wrong() {
    let tally = runs(Mode::Safety, 15_000);
    let Tally { events, streams, resumed, anew, gaps, joined, remembered, expired, paused, crashes } = tally;
    for often in [events, streams, resumed, anew, gaps, joined, remembered, expired, paused, crashes] {
        assert!(often > 100, "nothing was tried: {tally:?}");
    }
}

#[test]
fn everything_comes_home_once_nothing_goes_wrong_any_more() {
    let tally = runs(Mode::Liveness, 5_000);
    assert!(tally.expired > 2_500, "{tally:?}");
}

#[test]
fn a_run_can_be_had_again() {
    for seed in 0..20 {
        let (once, again) = (run_or_tell(Mode::Safety, seed), run_or_tell(Mode::Safety, seed));
        assert_eq!(format!("{once:?}"), format!("{again:?}"));
    }
}

/// The run that FARSOCK_RUN names: `Safety:17`.
#[test]
fn one_run_again() {
    let Ok(named) = std::env::var("FARSOCK_RUN") else { return };
    let (mode, seed) = named.split_once(':').expect("MODE:SEED");
    let mode = if mode == "Safety" { Mode::Safety } else { Mode::Liveness };
    println!("{:?}", run_or_tell(mode, seed.parse().expect("a number")));
}
