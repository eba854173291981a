//! Two sides measured in turn, and a line for each figure: machines drift by a third, and ratios within a round hold.

use std::time::Duration;

/// Whether everything is to be run once, and briefly.
pub(crate) fn quick() -> bool {
    std::env::var_os("FARSOCK_BENCH_QUICK").is_some_and(|value| value != "0")
}

/// How many rounds there are.
fn count() -> usize {
    if quick() { 1 } else { 7 }
}

/// How long a side is measured in a round.
pub(crate) fn span() -> Duration {
    Duration::from_millis(if quick() { 50 } else { 700 })
}

/// Measures one side, then the other, A B A B …, after a first round that only warms up.
pub(crate) fn interleave<A, B>(mut a: impl FnMut() -> A, mut b: impl FnMut() -> B) -> (Vec<A>, Vec<B>) {
    if !quick() {
        a();
        b();
    }
    (0..count()).map(|_| (a(), b())).unzip()
}

/// Measures what has both sides in itself.
pub(crate) fn repeat<T>(mut round: impl FnMut() -> T) -> Vec<T> {
    (0..count()).map(|_| round()).collect()
}

/// What is said of a figure beside its numbers.
pub(crate) struct Figure<'a> {
    /// Its number among the goals.
    pub(crate) goal: &'a str,
    /// What is measured.
    pub(crate) what: &'a str,
    /// What the other side is.
    pub(crate) beside: &'a str,
    /// How one number of it is written.
    pub(crate) show: fn(f64) -> String,
    /// What the ratio should be.
    pub(crate) wanted: &'a str,
}

impl Figure<'_> {
    /// Prints the medians of both sides, and the median and the range of the ratios within a round.
    pub(crate) fn print(&self, ours: &[f64], theirs: &[f64]) {
        let mut ratios: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a / b).collect();
        ratios.sort_by(f64::total_cmp);
        let (low, high) = (ratios.first().copied().unwrap_or_default(), ratios.last().copied().unwrap_or_default());
        println!(
            "{} {}: farsock {}, {} {}: {:.2} ({low:.2}–{high:.2}), wanted {}",
            self.goal,
            self.what,
            (self.show)(median(ours)),
            self.beside,
            (self.show)(median(theirs)),
            median(&ratios),
            self.wanted,
        );
    }
}

/// The median; of an even number, the upper one.
pub(crate) fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

// === How numbers are written ===

/// So many a second.
pub(crate) fn rate(per_second: f64) -> String {
    match per_second {
        n if n >= 1e6 => format!("{:.2} M/s", n / 1e6),
        n => format!("{:.1} k/s", n / 1e3),
    }
}

/// So many bytes a second.
pub(crate) fn bytes_rate(per_second: f64) -> String {
    format!("{:.2} GB/s", per_second / 1e9)
}

/// So long.
pub(crate) fn time(seconds: f64) -> String {
    match seconds {
        s if s >= 1e-3 => format!("{:.2} ms", s * 1e3),
        s => format!("{:.0} µs", s * 1e6),
    }
}

/// The same, of what takes no longer than a few microseconds.
pub(crate) fn short(seconds: f64) -> String {
    format!("{:.2} µs", seconds * 1e6)
}
