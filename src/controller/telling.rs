//! Tells an observer what is new, in one order.
//!
//! What is asked is paid for by what is told: after a step, its host is asked how far it is, and those that have told something, and those
//! that this leads to. Hosts where nothing happens are asked nothing, however many there are.

use std::collections::{BTreeMap, BTreeSet};

use crate::controller::Observer;
use crate::controller::collect::Collector;
use crate::controller::fleet::Fleet;
use crate::controller::progress::{Phase, Waiting};
use crate::exercise::neighbours::Neighbours;
use crate::exercise::timeline::{Timeline, Told};

/// How often what hosts tell is followed to others: what is told comes from the other side, which may have been led to it by a third one.
/// Where hosts go on talking meanwhile, the rest is for the next time.
const ROUNDS: usize = 3;

/// What has been told, and what is to be told next.
pub(super) struct Telling<'a> {
    pub(super) collector: &'a Collector,
    pub(super) fleet: &'a Fleet,
    timeline: Timeline,
    neighbours: Neighbours,
    /// What has been taken and not been told: telling may be interrupted.
    news: BTreeMap<usize, Vec<Told>>,
}

impl<'a> Telling<'a> {
    pub(super) fn new(collector: &'a Collector, fleet: &'a Fleet) -> Self {
        let members = fleet.members();
        let neighbours = Neighbours::new(members.iter().map(|member| member.all_addresses()).collect());
        Self { collector, fleet, timeline: Timeline::new(members.len()), neighbours, news: BTreeMap::new() }
    }

    /// Tells what has happened until now that a step of this host had to do with.
    pub(super) async fn tell(&mut self, host: usize, observer: &mut dyn Observer) {
        let mut ask = self.collector.fresh();
        ask.insert(host);
        self.gather(ask).await;
        self.flush(observer);
    }

    /// Tells what has come in while a step goes on.
    pub(super) async fn tell_fresh(&mut self, observer: &mut dyn Observer) {
        let ask = self.collector.fresh();
        self.gather(ask).await;
        self.flush(observer);
    }

    /// Tells everything that has happened until now.
    pub(super) async fn tell_all(&mut self, waiting: &Waiting, observer: &mut dyn Observer) {
        self.fleet.begin(Phase::Collect, waiting);
        let all = (0..self.fleet.members().len()).collect();
        waiting.watched(self.gather_noting(all, Some(waiting)), observer).await;
        self.flush(observer);
    }

    async fn gather(&mut self, ask: BTreeSet<usize>) {
        self.gather_noting(ask, None).await;
    }

    async fn gather_noting(&mut self, mut ask: BTreeSet<usize>, waiting: Option<&Waiting>) {
        for _ in 0..ROUNDS {
            self.collector.catch_up(self.fleet, std::mem::take(&mut ask), waiting).await;
            for (host, told) in self.collector.take() {
                ask.extend(told.iter().filter_map(|told| self.neighbours.other(host, &told.record)));
                self.news.entry(host).or_default().extend(told);
            }
            if ask.is_empty() {
                break;
            }
        }
    }

    fn flush(&mut self, observer: &mut dyn Observer) {
        let moments = self.timeline.extend(std::mem::take(&mut self.news));
        if !moments.is_empty() {
            observer.happened(&moments);
        }
    }
}
