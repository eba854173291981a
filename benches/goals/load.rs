//! Callers that call again and again.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

/// Something that can be called.
pub(crate) trait Caller: Clone + Send + 'static {
    /// One call, from its question to its answer.
    fn call(&mut self) -> impl Future<Output = ()> + Send;
}

/// How calls went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Calls {
    /// How many.
    pub(crate) count: f64,
    /// How many a second.
    pub(crate) rate: f64,
    /// The median of the times that they took, in seconds.
    pub(crate) p50: f64,
    /// What one in a hundred took longer than.
    pub(crate) p99: f64,
}

/// Keeps so many calls in flight for so long.
pub(crate) async fn load(caller: impl Caller, in_flight: usize, span: Duration) -> Calls {
    let start = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..in_flight {
        let mut caller = caller.clone();
        callers.spawn(async move {
            let mut times = Vec::new();
            while start.elapsed() < span {
                let asked = Instant::now();
                caller.call().await;
                times.push(asked.elapsed());
            }
            times
        });
    }
    let times = callers.join_all().await.concat();
    summarize(times, start.elapsed())
}

/// What times of calls say, which were made within this span.
pub(crate) fn summarize(mut times: Vec<Duration>, span: Duration) -> Calls {
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).map_or(0.0, Duration::as_secs_f64);
    #[allow(clippy::cast_precision_loss, reason = "counts of calls are small")]
    let count = times.len() as f64;
    Calls { count, rate: count / span.as_secs_f64(), p50: at(50), p99: at(99) }
}
