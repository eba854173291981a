//! What agents tell, as it comes in.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::client::{ClientError, Watch, WatchItem};
use crate::controller::fleet::{AT_A_TIME, Fleet, Member, SharedCourse};
use crate::controller::progress::{Phase, Waiting};
use crate::exercise::clock::times;
use crate::exercise::timeline::Told;
use crate::model::event::EventRecord;
use crate::model::id::WatcherId;

/// The name of the watcher that holds the events of a run until they have been taken.
const WATCHER: &str = "run";

/// How long an agent's events may lag behind its answers before nobody waits for them any more.
const LAG: Duration = Duration::from_secs(2);

/// How long an agent may take to say how far it is, before nobody believes any more that something has not happened there.
const ANSWER: Duration = Duration::from_secs(5);

/// How long nobody may listen where an agent was before it is given up. A link that is cut says no such thing: then the lease decides.
const AWAY: Duration = Duration::from_secs(2);

/// What has been told so far.
pub(super) struct Collector {
    hosts: Vec<Host>,
    /// Hosts that have told something which nobody has taken yet.
    fresh: Mutex<BTreeSet<usize>>,
    /// The first host that tells nothing more.
    ended: watch::Sender<Option<usize>>,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

/// One of those that tell.
struct Host {
    log: Mutex<Log>,
    /// Something of it is new. Who waits for one host is not woken by the others.
    news: watch::Sender<()>,
}

#[derive(Default)]
struct Log {
    records: Vec<Arc<EventRecord>>,
    /// When these happened, by the controller's clock as it was known when they were told; and by how much that may be wrong.
    times: Vec<(i64, i64)>,
    /// How many of these have been taken.
    taken: usize,
    through: u64,
    /// Why something is missing.
    lost: Option<String>,
    /// Since when nothing comes for now, and why.
    away: Option<(Instant, String)>,
    ended: bool,
}

impl Log {
    fn add(&mut self, records: Vec<EventRecord>, clock: &SharedCourse) {
        let times = times(records.iter().map(|record| record.time.nanos()), &clock.now(), self.times.last().copied());
        self.times.extend(times);
        self.records.extend(records.into_iter().map(Arc::new));
    }

    /// What has been told from that place on.
    fn told(&self, from: usize) -> Vec<Told> {
        let all = self.records[from..].iter().zip(&self.times[from..]);
        all.map(|(record, (at, bound))| Told { record: Arc::clone(record), at: *at, bound: *bound }).collect()
    }

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
    pub(super) async fn start(fleet: &Fleet, waiting: &Waiting) -> Result<Arc<Self>, String> {
        let watcher = WatcherId::parse(WATCHER).map_err(|problem| problem.to_string())?;
        let host = |_| Host { log: Mutex::default(), news: watch::Sender::new(()) };
        let collector = Arc::new(Self {
            hosts: fleet.members().iter().map(host).collect(),
            fresh: Mutex::default(),
            ended: watch::Sender::new(None),
            tasks: tokio::sync::Mutex::default(),
        });
        fleet.begin(Phase::Session, waiting);
        let open = |(host, member): (usize, &Member)| {
            let (member, watcher) = (member.clone(), watcher.clone());
            async move {
                let opened = member.client.watch_as(fleet.session(), &watcher).await;
                let place = member.name();
                waiting.done(host);
                let stream = opened.map_err(|error| format!("{place}: {error}"))?;
                Ok::<_, String>((host, place, member.clock(), stream))
            }
        };
        let mut opened = stream::iter(fleet.members().iter().enumerate().map(open)).buffer_unordered(AT_A_TIME);
        let mut tasks = collector.tasks.lock().await;
        while let Some(opened) = opened.next().await {
            let (host, place, clock, stream) = opened?;
            tasks.spawn(Arc::clone(&collector).listen(host, place, clock, stream));
        }
        drop(tasks);
        Ok(collector)
    }

    async fn listen(self: Arc<Self>, host: usize, place: String, clock: SharedCourse, mut stream: Watch) {
        loop {
            let item = stream.next().await;
            let (ended, has_news);
            {
                let mut log = self.log(host);
                let away = log.away.take();
                match item {
                    Ok(Some(WatchItem::Events { records, through_seq })) => {
                        log.add(records, &clock);
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
                (ended, has_news) = (log.ended, log.taken < log.records.len());
            }
            if has_news {
                lock(&self.fresh).insert(host);
            }
            self.hosts[host].news.send_replace(());
            if ended {
                self.ended.send_modify(|first| *first = first.or(Some(host)));
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
        let mut news = self.hosts[host].news.subscribe();
        loop {
            let over = {
                let log = self.log(host);
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

    /// The same; nothing only where the agent, asked in the end, has told everything that happened until then. The error is that it has not:
    /// silence says nothing about what did not happen.
    pub(super) async fn find_or_rule_out<T>(
        &self,
        fleet: &Fleet,
        host: usize,
        deadline: Instant,
        mut look: impl FnMut(&[Arc<EventRecord>]) -> Option<T>,
    ) -> Result<Option<T>, String> {
        if let Some(found) = self.find(host, deadline, &mut look).await {
            return Ok(Some(found));
        }
        let told = self.catch_up_with(fleet, host, ANSWER).await;
        told.map_err(|why| format!("{why}: nothing is known of what has happened there meanwhile"))?;
        Ok(look(&self.log(host).records))
    }

    /// Waits until everything has been told that had happened on these hosts when this was called.
    /// `waiting` is where it is noted of each that it is so.
    pub(super) async fn catch_up(
        &self,
        fleet: &Fleet,
        hosts: impl IntoIterator<Item = usize>,
        waiting: Option<&Waiting>,
    ) {
        let one = |host| async move {
            // An agent that does not answer keeps nobody waiting for what the others have told.
            let _ = self.catch_up_with(fleet, host, LAG).await;
            if let Some(waiting) = waiting {
                waiting.done(host);
            }
        };
        stream::iter(hosts).for_each_concurrent(AT_A_TIME, one).await;
    }

    /// The same of one host, for so long; the error is why not everything has been told.
    async fn catch_up_with(&self, fleet: &Fleet, host: usize, patience: Duration) -> Result<(), String> {
        let member = &fleet.members()[host];
        let late = || format!("{} has not answered for {patience:?}", member.name());
        let deadline = Instant::now() + patience;
        let asked = timeout_at(deadline, member.client.session(fleet.session())).await.map_err(|_| late())?;
        let session = asked.map_err(|error| member.problem(&error))?;
        let mut news = self.hosts[host].news.subscribe();
        loop {
            {
                let log = self.log(host);
                if log.through >= session.head_seq {
                    return Ok(());
                }
                if log.ended {
                    return Err(log.problem());
                }
            }
            timeout_at(deadline, news.changed()).await.map(drop).map_err(|_| late())?;
        }
    }

    /// Hosts that have told something which nobody has taken yet.
    pub(super) fn fresh(&self) -> BTreeSet<usize> {
        lock(&self.fresh).clone()
    }

    /// Takes what hosts have told since the last time, by the controller's clock.
    pub(super) fn take(&self) -> Vec<(usize, Vec<Told>)> {
        let fresh = std::mem::take(&mut *lock(&self.fresh));
        let take = |host: usize| {
            let mut log = self.log(host);
            let news = log.told(log.taken);
            log.taken = log.records.len();
            (host, news)
        };
        fresh.into_iter().map(take).collect()
    }

    /// Everything that each host has told, by the controller's clock.
    pub(super) fn told(&self) -> Vec<Vec<Told>> {
        (0..self.hosts.len()).map(|host| self.log(host).told(0)).collect()
    }

    /// Why something is missing, if anything is.
    pub(super) fn lost(&self) -> Option<String> {
        (0..self.hosts.len()).find_map(|host| self.log(host).missing())
    }

    /// Waits until an agent will tell nothing more: nobody need wait for it any longer.
    pub(super) async fn over(&self) -> String {
        let mut ended = self.ended.subscribe();
        let first = ended.wait_for(Option::is_some).await.ok().and_then(|first| *first);
        first.map_or_else(|| Log::default().problem(), |host| self.log(host).problem())
    }

    /// The same of one agent.
    pub(super) async fn over_at(&self, host: usize) -> String {
        let mut news = self.hosts[host].news.subscribe();
        loop {
            {
                let log = self.log(host);
                if log.ended {
                    return log.problem();
                }
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

    fn log(&self, host: usize) -> MutexGuard<'_, Log> {
        lock(&self.hosts[host].log)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
