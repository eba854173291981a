//! A simulated watcher: the client library's own place in a session's events, at the end of a network that breaks.

use std::collections::VecDeque;
use std::time::Duration;

use farsock::client::{Backoff, ClientError, Place, Verdict};
use farsock::model::event::EventFilter;
use farsock::model::id::{SessionId, WatcherId};

use super::history::{History, Seen};
use super::messages::{Ask, Frame, Subscription};
use super::world::{Happening, Net};

const BACKOFF: Backoff = Backoff { first: Duration::from_millis(20), longest: Duration::from_millis(900) };

pub struct Watcher {
    number: usize,
    pub owner: usize,
    session: SessionId,
    name: Option<WatcherId>,
    filter: EventFilter,
    place: Place,
    pub stream: Option<u64>,
    inbox: VecDeque<Frame>,
    busy: bool,
    /// How long it takes for a frame.
    pace: u64,
    pub over: bool,
    key: Option<usize>,
    history: History,
    told: u64,
    /// What a crash leaves of it: everything through this number.
    stored: u64,
    /// It has come back without its memory: what it is told must begin with what it has not stored.
    recovering: bool,
}

impl Watcher {
    pub fn new(net: &mut Net, number: usize, owner: usize, session: SessionId, name: Option<WatcherId>) -> Self {
        let narrow = name.is_none() && net.chance.percent(50);
        let kinds = if narrow { vec!["closed", "written", "lease_expired"] } else { vec![] };
        let filter = EventFilter { kinds, ..EventFilter::default() };
        let mut watcher = Self {
            number,
            owner,
            session,
            name,
            history: History { wanted: filter.clone(), ..History::default() },
            filter,
            place: Place::default(),
            stream: None,
            inbox: VecDeque::new(),
            busy: false,
            pace: net.chance.pick(&[0, 1, 30, 2_000]),
            over: false,
            key: None,
            told: 0,
            stored: 0,
            recovering: false,
        };
        watcher.come(net);
        watcher
    }

    pub fn is_named(&self) -> bool {
        self.name.is_some()
    }

    pub fn describe(&self) -> String {
        format!(
            "{} of session {:?}, stream {:?}, told {}, {:?}",
            self.number, self.key, self.stream, self.told, self.place
        )
    }

    /// It watches this session.
    pub fn is_at(&self, key: Option<usize>) -> bool {
        !self.over && self.key == key
    }

    /// It holds what it has not acknowledged, and has everything.
    pub fn is_quiet(&self, net: &Net) -> bool {
        self.name.is_none() || self.key.is_some_and(|key| self.told == net.ledgers[key].head())
    }

    /// Opens a stream.
    pub fn come(&mut self, net: &mut Net) {
        if self.over || self.stream.is_some() {
            return;
        }
        net.streams += 1;
        let stream = net.streams;
        self.stream = Some(stream);
        net.readers.insert(stream, self.number);
        let asked = self.place.question();
        let subscription = Subscription {
            stream,
            session: self.session.clone(),
            name: self.name.clone(),
            after: asked.after,
            instance: asked.instance,
            filter: self.filter.clone(),
        };
        if net.loses() {
            net.at(500, Happening::Broken(stream));
        } else {
            let delay = net.delay();
            net.at(delay, Happening::Arrive(self.owner, Ask::Watch(Box::new(subscription))));
        }
    }

    /// A frame has arrived; the last one of a stream that has broken says that.
    pub fn arrives(&mut self, net: &mut Net, stream: u64, frame: Frame) {
        if self.stream != Some(stream) {
            return;
        }
        if matches!(frame, Frame::Refused("UNREACHABLE")) && net.chance.percent(50) {
            self.inbox.clear();
        }
        self.inbox.push_back(frame);
        self.go_on(net);
    }

    fn go_on(&mut self, net: &mut Net) {
        if !self.busy && !self.inbox.is_empty() {
            self.busy = true;
            let pace = if net.calm { 1 } else { self.pace };
            net.at(pace, Happening::Digest(self.number));
        }
    }

    pub fn digest(&mut self, net: &mut Net) {
        self.busy = false;
        if let (Some(frame), Some(stream)) = (self.inbox.pop_front(), self.stream) {
            if !matches!(frame, Frame::Refused(_)) {
                net.ask_in_order(self.owner, Ask::Credit(stream));
            }
            self.take_up(net, frame);
        }
        self.go_on(net);
    }

    fn take_up(&mut self, net: &mut Net, frame: Frame) {
        match frame {
            Frame::Opened { key, instance, oldest, head, after, kept } => {
                if self.key != Some(key) {
                    self.finish(net);
                    (self.key, self.told, self.stored, self.recovering) = (Some(key), 0, 0, false);
                }
                if let Some(held) = self.name.as_ref().and_then(|name| net.ledgers[key].held_from.get(name)) {
                    // What it has acknowledged, in a life before this one, is held no more.
                    self.history.held_from = Some((*held).max(self.stored + 1));
                }
                if self.recovering && self.name.is_some() {
                    let (begins, stored) = (after.map_or(kept, |after| after + 1), self.stored);
                    let held = self.history.held_from.unwrap_or(begins);
                    net.require(begins <= (stored + 1).max(held), || {
                        format!("a watcher has stored everything through {stored}, and goes on with {begins}")
                    });
                }
                self.recovering = false;
                self.place.opened(instance, oldest, head);
                self.history.seen.push(Seen::Opened { after, oldest: kept });
            }
            Frame::Batch { from, through, records } => {
                net.tally.events += records.len() as u64;
                self.history.seen.push(Seen::Batch { from, through, records });
                self.tell(net, from, through);
            }
            Frame::Gap { first, last } => {
                self.history.seen.push(Seen::Gap { first, last });
                self.tell(net, first, last);
            }
            Frame::Heartbeat { through } => {
                self.history.seen.push(Seen::Bookmark { through });
                self.store(net);
            }
            Frame::Ended => {
                let (told, head) = (self.told, net.ledgers[self.key.unwrap()].head());
                net.require(told == head || !self.filter.kinds.is_empty(), || {
                    format!("a stream has ended after {told} of {head}")
                });
                self.end(net, None);
            }
            Frame::Refused("UNREACHABLE") => {
                self.end(net, Some(ClientError::Unreachable { message: String::new(), nobody: false, sent: true }));
            }
            Frame::Refused(reason) => {
                net.require(reason != "FUTURE_EVENT", || "a watcher asks for what has not happened".to_owned());
                self.end(net, Some(ClientError::Refused { reason: reason.to_owned(), message: String::new() }));
            }
        }
    }

    fn tell(&mut self, net: &mut Net, first: u64, last: u64) {
        let in_order = self.place.tell(first, last);
        net.require(in_order, || format!("the place of a watch does not take {first}..={last}"));
        self.told = last;
        self.store(net);
    }

    /// Makes sure of what it was told, now or later, and says so to the agent, now or later.
    fn store(&mut self, net: &mut Net) {
        if net.calm || net.chance.percent(60) {
            // An old acknowledgement that is still under way may be ahead of where it stands again.
            self.stored = self.stored.max(self.told);
        }
        if let (Some(watcher), true) = (&self.name, net.calm || net.chance.percent(50)) {
            let (session, through) = (self.session.clone(), self.stored);
            net.ask(self.owner, Ask::Ack { session, watcher: watcher.clone(), through });
        }
    }

    fn end(&mut self, net: &mut Net, error: Option<ClientError>) {
        self.stream = None;
        self.inbox.clear();
        let chance = u8::try_from(net.chance.below(256)).unwrap();
        match self.place.ended(error.as_ref(), BACKOFF, chance) {
            Verdict::Again(pause) => {
                net.tally.resumed += 1;
                net.at(u64::try_from(pause.as_millis()).unwrap() + 1, Happening::Return(self.number));
            }
            Verdict::Anew => {
                net.tally.anew += 1;
                self.finish(net);
                self.key = None;
                self.come(net);
            }
            Verdict::Over | Verdict::Fail => self.over = true,
        }
    }

    /// Its process ends and begins again: what it had not stored is gone.
    pub fn restart(&mut self, net: &mut Net) {
        self.stream = None;
        self.inbox.clear();
        self.finish(net);
        (self.place, self.told, self.recovering) = (Place::default(), self.stored, self.key.is_some());
        let pause = net.chance.between(1, 3_000);
        net.at(pause, Happening::Return(self.number));
    }

    /// Hands in what it has seen up to here.
    pub fn finish(&mut self, net: &mut Net) {
        let begun = History { wanted: self.filter.clone(), ..History::default() };
        let history = std::mem::replace(&mut self.history, begun);
        if let (Some(key), false) = (self.key, history.seen.is_empty()) {
            net.histories.push((key, history));
        }
    }
}
