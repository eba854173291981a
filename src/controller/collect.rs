//! What agents tell, as it comes in.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::client::{ClientError, Watch, WatchItem};
use crate::controller::fleet::Fleet;
use crate::exercise::timeline::Told;
use crate::model::event::EventRecord;
use crate::model::id::WatcherId;

/// The name of the watcher that holds the events of a run until they have been taken.
const WATCHER: &str = "run";

/// How long an agent's events may lag behind its answers before nobody waits for them any more.
const LAG: Duration = Duration::from_secs(2);

/// How long nobody may listen where an agent was before it is given up. A link that is cut says no such thing: then the lease decides.
const AWAY: Duration = Duration::from_secs(2);

/// What has been told so far.
pub(super) struct Collector {
    logs: Mutex<Vec<Log>>,
    /// Counts up with every news.
    news: watch::Sender<u64>,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct Log {
    records: Vec<Arc<EventRecord>>,
    through: u64,
    /// Why something is missing.
    lost: Option<String>,
    /// Since when nothing comes for now, and why.
    away: Option<(Instant, String)>,
    ended: bool,
}

impl Log {
    /// Why something is missing, if anything is.
    fn missing(&self) -> Option<String> {
        self.lost.clone().or_else(|| self.away.clone().map(|(_, why)| why))
    }

    fn problem(&self) -> String {
        self.missing().unwrap_or_else(|| "an agent tells nothing more".to_owned())
    }
}

impl Collector {
    /// Begins to listen to all agents.
    pub(super) async fn start(fleet: &Fleet) -> Result<Arc<Self>, String> {
        let watcher = WatcherId::parse(WATCHER).map_err(|problem| problem.to_string())?;
        let logs = fleet.members().iter().map(|_| Log::default()).collect();
        let collector = Arc::new(Self {
            logs: Mutex::new(logs),
            news: watch::Sender::new(0),
            tasks: tokio::sync::Mutex::default(),
        });
        let mut tasks = collector.tasks.lock().await;
        for (host, member) in fleet.members().iter().enumerate() {
            let opened = member.client.watch_as(fleet.session(), &watcher).await;
            let stream = opened.map_err(|error| format!("{} ({}): {error}", member.role, member.place))?;
            let place = format!("{} ({})", member.role, member.place);
            tasks.spawn(Arc::clone(&collector).listen(host, place, stream));
        }
        drop(tasks);
        Ok(collector)
    }

    async fn listen(self: Arc<Self>, host: usize, place: String, mut stream: Watch) {
        loop {
            let item = stream.next().await;
            let ended;
            {
                let log = &mut self.logs()[host];
                let away = log.away.take();
                match item {
                    Ok(Some(WatchItem::Events { records, through_seq })) => {
                        log.records.extend(records.into_iter().map(Arc::new));
                        log.through = through_seq;
                    }
                    Ok(Some(WatchItem::Gap(gap))) => {
                        log.through = gap.last;
                        log.lost = Some(format!("{place}: events {} to {} are lost", gap.first, gap.last));
                    }
                    Ok(Some(WatchItem::Quiet { .. })) => {}
                    Ok(Some(WatchItem::Interrupted { error, .. })) => {
                        let nobody = matches!(error, ClientError::Unreachable { nobody: true, .. });
                        let since = away.filter(|_| nobody).map_or_else(Instant::now, |(since, _)| since);
                        log.ended = nobody && since.elapsed() >= AWAY;
                        log.away = Some((since, format!("{place}: {error}")));
                    }
                    Ok(Some(WatchItem::Restarted)) => {
                        log.lost = Some(format!("{place}: the agent was restarted, and its sockets are gone"));
                        log.ended = true;
                    }
                    Ok(None) => {
                        log.lost = Some(format!("{place}: the session of the run is gone: somebody has deleted it"));
                        log.ended = true;
                    }
                    Err(error) => {
                        log.lost = Some(format!("{place}: {error}"));
                        log.ended = true;
                    }
                }
                ended = log.ended;
            }
            self.news.send_modify(|news| *news += 1);
            if ended {
                return;
            }
        }
    }

    /// Waits until something for which `look` finds an answer has been told; nothing if it does not come in time.
    pub(super) async fn find<T>(
        &self,
        host: usize,
        deadline: Instant,
        mut look: impl FnMut(&[Arc<EventRecord>]) -> Option<T>,
    ) -> Option<T> {
        let mut news = self.news.subscribe();
        loop {
            let over = {
                let log = &self.logs()[host];
                if let Some(found) = look(&log.records) {
                    return Some(found);
                }
                log.ended
            };
            if over || timeout_at(deadline, news.changed()).await.is_err() {
                return None;
            }
        }
    }

    /// Waits until everything has been told that had happened when this was called.
    pub(super) async fn catch_up(&self, fleet: &Fleet) {
        let deadline = Instant::now() + LAG;
        for (host, member) in fleet.members().iter().enumerate() {
            // An agent that does not answer keeps nobody waiting for what the others have told.
            let asked = timeout_at(deadline, member.client.session(fleet.session())).await;
            let Ok(Ok(session)) = asked else { continue };
            let mut news = self.news.subscribe();
            while {
                let log = &self.logs()[host];
                log.through < session.head_seq && !log.ended
            } {
                if timeout_at(deadline, news.changed()).await.is_err() {
                    break;
                }
            }
        }
    }

    /// Everything that each host has told, by the controller's clock.
    pub(super) fn told(&self, fleet: &Fleet) -> Vec<Vec<Told>> {
        let logs = self.logs();
        let host = |(log, member): (&Log, &crate::controller::fleet::Member)| {
            let told = |record: &Arc<EventRecord>| Told {
                record: Arc::clone(record),
                at: member.by_our_clock(record.time.nanos()),
            };
            log.records.iter().map(told).collect()
        };
        logs.iter().zip(fleet.members()).map(host).collect()
    }

    /// Why something is missing, if anything is.
    pub(super) fn lost(&self) -> Option<String> {
        self.logs().iter().find_map(Log::missing)
    }

    /// Waits until an agent will tell nothing more: nobody need wait for it any longer.
    pub(super) async fn over(&self) -> String {
        self.ended(|logs| logs.iter().find(|log| log.ended).map(Log::problem)).await
    }

    /// The same of one agent.
    pub(super) async fn over_at(&self, host: usize) -> String {
        self.ended(|logs| logs.get(host).filter(|log| log.ended).map(Log::problem)).await
    }

    async fn ended(&self, ended: impl Fn(&[Log]) -> Option<String>) -> String {
        let mut news = self.news.subscribe();
        loop {
            if let Some(problem) = ended(&self.logs()) {
                return problem;
            }
            if news.changed().await.is_err() {
                return Log::default().problem();
            }
        }
    }

    /// Stops listening.
    pub(super) async fn stop(&self) {
        self.tasks.lock().await.shutdown().await;
    }

    fn logs(&self) -> MutexGuard<'_, Vec<Log>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
