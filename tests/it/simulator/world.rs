//! The simulated world: one queue of what is to happen, one source of chance, a network between an agent and its controllers, and
//! everything that goes wrong.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};

use farsock::model::id::{RequestId, SessionId, WatcherId};

use super::agent::{Agent, WATCHERS};
use super::chance::Chance;
use super::controller::{Controller, Phase};
use super::history::{History, Ledger};
use super::messages::{Answered, Ask, Frame};
use super::validators::broken;
use super::watcher::Watcher;

/// What is to be found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Whatever goes wrong, and to the end: nothing that must not happen happens.
    Safety,
    /// Once nothing goes wrong any more, everything comes home.
    Liveness,
}

/// How long faults go on, and how long everything may take to come home afterwards, in milliseconds.
const STORMY: u64 = 12_000;
const HOMEWARD: u64 = 90_000;

#[derive(Debug, Clone)]
pub enum Happening {
    Arrive(usize, Ask),
    /// A request that was received at that moment of that life is carried out.
    Handle(u64, u64, usize, Ask),
    Execute(u64, usize, RequestId, u32),
    Keep(u64, usize),
    Expire(u64, usize),
    Forget(u64, usize),
    Heartbeat(u64, u64),
    /// The agent notices that the connection of a stream is gone.
    Gone(u64),
    Answer(usize, RequestId, Answered),
    Renewed(usize, SessionId, u64, Result<(), &'static str>),
    Tick(usize),
    /// A controller's watchers begin.
    Join(usize),
    Frame(u64, Frame),
    /// A watcher notices that the connection of its stream is gone.
    Broken(u64),
    Digest(usize),
    Return(usize),
    PeerSends,
    Fault,
    Thaw(Who),
}

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Who {
    Agent,
    Controller(usize),
}

/// How often what happened, over all runs: a simulation in which nothing goes wrong shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    pub events: u64,
    pub streams: u64,
    pub resumed: u64,
    pub anew: u64,
    pub gaps: u64,
    pub joined: u64,
    pub remembered: u64,
    pub expired: u64,
    pub paused: u64,
    pub crashes: u64,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.events += other.events;
        self.streams += other.streams;
        self.resumed += other.resumed;
        self.anew += other.anew;
        self.gaps += other.gaps;
        self.joined += other.joined;
        self.remembered += other.remembered;
        self.expired += other.expired;
        self.paused += other.paused;
        self.crashes += other.crashes;
    }
}

/// What all of them share: time, chance, the network, and what is known.
pub struct Net {
    pub now: u64,
    pub chance: Chance,
    queue: BTreeMap<(u64, u64), Happening>,
    order: u64,
    /// Nothing goes wrong any more.
    pub calm: bool,
    drops: u64,
    doubles: u64,
    slow: u64,
    pub streams: u64,
    /// Which watcher reads which stream.
    pub readers: HashMap<u64, usize>,
    /// Streams through which nothing comes any more.
    dark: HashSet<u64>,
    pub ledgers: Vec<Ledger>,
    pub histories: Vec<(usize, History)>,
    pub tally: Tally,
    violation: Option<String>,
}

impl Net {
    pub fn at(&mut self, delay: u64, what: Happening) {
        self.order += 1;
        self.queue.insert((self.now + delay, self.order), what);
    }

    pub fn require(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.violation.is_none() {
            self.violation = Some(format!("at {} ms: {}", self.now, what()));
        }
    }

    pub fn loses(&mut self) -> bool {
        !self.calm && self.chance.percent(self.drops)
    }

    pub fn delay(&mut self) -> u64 {
        if !self.calm && self.chance.percent(self.slow) {
            self.chance.between(1, 4_000)
        } else {
            self.chance.between(0, 20)
        }
    }

    /// Sends a message that stands alone: it may be lost, doubled, delayed and overtaken.
    pub fn unary(&mut self, what: Happening) {
        if self.loses() {
            return;
        }
        if !self.calm && self.chance.percent(self.doubles) {
            let delay = self.delay();
            self.at(delay, what.clone());
        }
        let delay = self.delay();
        self.at(delay, what);
    }

    pub fn ask(&mut self, from: usize, ask: Ask) {
        self.unary(Happening::Arrive(from, ask));
    }

    /// The same on a connection that does not lose, as long as it lasts.
    pub fn ask_in_order(&mut self, from: usize, ask: Ask) {
        let delay = self.chance.between(0, 20);
        self.at(delay, Happening::Arrive(from, ask));
    }

    pub fn answer(&mut self, to: usize, request: RequestId, answered: Answered) {
        self.unary(Happening::Answer(to, request, answered));
    }
}

struct World {
    net: Net,
    agent: Agent,
    controllers: Vec<Controller>,
    watchers: Vec<Watcher>,
    /// What waits for a process that stands still.
    frozen: HashMap<Who, Vec<Happening>>,
}

/// Lets everything happen that this seed brings; tells what must not have happened.
pub fn run(mode: Mode, seed: u64) -> Result<Tally, String> {
    let mut chance = Chance::new(seed ^ if mode == Mode::Safety { 0 } else { 1 << 63 });
    let (drops, doubles, slow) = (chance.pick(&[0, 5, 30]), chance.pick(&[0, 10, 30]), chance.pick(&[0, 5, 25]));
    let controllers = 1 + usize::try_from(chance.below(2)).unwrap();
    let mut net = Net {
        now: 1_000_000,
        chance,
        queue: BTreeMap::new(),
        order: 0,
        calm: false,
        drops,
        doubles,
        slow,
        streams: 0,
        readers: HashMap::new(),
        dark: HashSet::new(),
        ledgers: Vec::new(),
        histories: Vec::new(),
        tally: Tally::default(),
        violation: None,
    };
    let agent = Agent::start(&mut net, 1);
    let controllers: Vec<Controller> = (0..controllers).map(Controller::new).collect();
    for number in 0..controllers.len() {
        net.at(0, Happening::Tick(number));
    }
    net.at(50, Happening::PeerSends);
    net.at(300, Happening::Fault);
    let mut world = World { net, agent, controllers, watchers: Vec::new(), frozen: HashMap::new() };
    world.go(mode);
    world.judge();
    match world.net.violation {
        None => Ok(world.net.tally),
        Some(violation) => Err(violation),
    }
}

impl World {
    fn go(&mut self, mode: Mode) {
        let begun = self.net.now;
        let end = begun + STORMY + if mode == Mode::Liveness { HOMEWARD } else { 0 };
        while let Some(((time, _), happening)) = self.net.queue.pop_first() {
            self.net.now = time;
            self.agent.set_clock(time);
            if self.net.violation.is_some() || time > end {
                break;
            }
            if mode == Mode::Liveness && time > begun + STORMY {
                self.net.calm = true;
                if self.is_home() {
                    return;
                }
            }
            self.happen(happening);
        }
        if mode == Mode::Liveness && !self.is_home() {
            let left = self.agent.left(self.net.now);
            let watchers: Vec<String> =
                self.watchers.iter().filter(|watcher| !watcher.over).map(Watcher::describe).collect();
            let what = format!("{left:?} (sessions, sockets, operations), {:?}, {watchers:?}", self.controllers);
            self.net.require(false, || format!("not all come home: {what}"));
        }
    }

    fn is_home(&mut self) -> bool {
        let alive = |watcher: &&Watcher| self.controllers[watcher.owner].phase != Phase::Dead;
        self.controllers.iter().all(Controller::is_home)
            && self.watchers.iter().filter(alive).all(|watcher| watcher.over)
            && self.agent.left(self.net.now) == (0, 0, 0)
    }

    /// Whether the promises were kept to everybody who watched.
    fn judge(&mut self) {
        for watcher in &mut self.watchers {
            watcher.finish(&mut self.net);
        }
        for (key, history) in std::mem::take(&mut self.net.histories) {
            let found = broken(&self.net.ledgers[key].facts, &history);
            self.net.require(found.is_empty(), || format!("session {key}: {found:?}"));
        }
        for key in 0..self.net.ledgers.len() {
            let problem = sound(&self.net.ledgers[key]).err();
            self.net.require(problem.is_none(), || format!("session {key}: {}", problem.unwrap()));
        }
    }

    /// Whose turn it is; none where nobody has to be awake for it.
    fn whose(&self, happening: &Happening) -> Option<Who> {
        Some(match happening {
            Happening::Arrive(..)
            | Happening::Handle(..)
            | Happening::Execute(..)
            | Happening::Keep(..)
            | Happening::Expire(..)
            | Happening::Forget(..)
            | Happening::Heartbeat(..)
            | Happening::Gone(_)
            | Happening::PeerSends => Who::Agent,
            Happening::Answer(number, ..)
            | Happening::Renewed(number, ..)
            | Happening::Tick(number)
            | Happening::Join(number) => Who::Controller(*number),
            Happening::Frame(stream, _) | Happening::Broken(stream) => {
                Who::Controller(self.watchers[self.net.readers[stream]].owner)
            }
            Happening::Digest(watcher) | Happening::Return(watcher) => Who::Controller(self.watchers[*watcher].owner),
            Happening::Fault | Happening::Thaw(_) => return None,
        })
    }

    fn happen(&mut self, happening: Happening) {
        if let Some(held) = self.whose(&happening).and_then(|who| self.frozen.get_mut(&who)) {
            return held.push(happening);
        }
        if let Some(Who::Controller(number)) = self.whose(&happening)
            && self.controllers[number].phase == Phase::Dead
        {
            return;
        }
        let (net, agent) = (&mut self.net, &mut self.agent);
        let life = agent.life;
        match happening {
            Happening::Arrive(from, ask) => {
                let later = if net.chance.percent(90) { 0 } else { net.chance.between(1, 2_000) };
                net.at(later, Happening::Handle(net.now, life, from, ask));
            }
            // Nobody hears what comes by a connection that is gone.
            Happening::Handle(.., Ask::Watch(asked)) if net.dark.contains(&asked.stream) => {}
            Happening::Handle(asked, of, from, ask) if of == life => agent.handle(net, asked, from, ask),
            Happening::Execute(of, key, request, rounds) if of == life => agent.execute(net, key, &request, rounds),
            Happening::Keep(of, key) if of == life => agent.keep(net, key),
            Happening::Expire(of, key) if of == life => agent.expire(net, key),
            Happening::Forget(of, key) if of == life => agent.forget(key),
            Happening::Heartbeat(of, stream) if of == life => agent.heartbeat(net, stream),
            Happening::Handle(..)
            | Happening::Execute(..)
            | Happening::Keep(..)
            | Happening::Expire(..)
            | Happening::Forget(..)
            | Happening::Heartbeat(..) => {}
            Happening::Gone(stream) => agent.broken(stream),
            Happening::PeerSends => {
                if !net.calm {
                    agent.peer_sends(net);
                    let pause = net.chance.between(5, 400);
                    net.at(pause, Happening::PeerSends);
                }
            }
            Happening::Answer(number, request, answered) => {
                self.controllers[number].answered(net, &request, answered);
            }
            Happening::Renewed(number, session, sent, renewed) => {
                self.controllers[number].renewed(net, &session, sent, renewed);
            }
            Happening::Tick(number) => {
                let key = self.controllers[number].key;
                let mut watchers = self.watchers.iter().filter(|watcher| watcher.owner == number && watcher.is_at(key));
                let paused = key.is_some_and(|key| agent.is_paused(key)) && watchers.clone().any(Watcher::is_named);
                let quiet = !paused && watchers.all(|watcher| watcher.is_quiet(net));
                self.controllers[number].tick(net, agent, quiet);
            }
            Happening::Join(number) => self.join(number),
            Happening::Frame(stream, frame) => {
                if !net.dark.contains(&stream) {
                    self.watchers[net.readers[&stream]].arrives(net, stream, frame);
                }
            }
            Happening::Broken(stream) => {
                self.watchers[net.readers[&stream]].arrives(net, stream, Frame::Refused("UNREACHABLE"));
            }
            Happening::Digest(watcher) => self.watchers[watcher].digest(net),
            Happening::Return(watcher) => self.watchers[watcher].come(net),
            Happening::Thaw(who) => {
                for held in self.frozen.remove(&who).unwrap_or_default() {
                    self.happen(held);
                }
            }
            Happening::Fault => {
                if !net.calm {
                    self.fault();
                    let pause = self.net.chance.between(50, 2_500);
                    self.net.at(pause, Happening::Fault);
                }
            }
        }
    }

    /// A controller's watchers begin: named ones where anything can be held, and one that only looks.
    fn join(&mut self, owner: usize) {
        let (session, lossless) = (self.controllers[owner].session.clone(), self.controllers[owner].lossless);
        // Those that watched the session of this name before may watch this one, too.
        let others = self.watchers.iter().filter(|watcher| watcher.owner == owner && !watcher.over).count() as u64;
        let Some(most) = u64::from(WATCHERS).checked_sub(others + 1) else { return };
        let named = if lossless { self.net.chance.below(most + 1) } else { 0 };
        for at in 0..=named {
            let number = self.watchers.len();
            // No two processes use the same name.
            let name = (at > 0).then(|| WatcherId::parse(&format!("watcher-{number}")).unwrap());
            let watcher = Watcher::new(&mut self.net, number, owner, session.clone(), name);
            self.watchers.push(watcher);
        }
    }

    // === What goes wrong ===

    fn fault(&mut self) {
        match self.net.chance.below(20) {
            0..=9 => {
                let streams = self.agent.streams();
                if !streams.is_empty() {
                    let stream = self.net.chance.pick(&streams);
                    self.cut(stream);
                }
            }
            10..=12 => {
                let Some(most) = (self.watchers.len() as u64).checked_sub(1) else { return };
                let watcher = &mut self.watchers[usize::try_from(self.net.chance.between(0, most)).unwrap()];
                if !watcher.over && self.controllers[watcher.owner].phase != Phase::Dead {
                    let stream = watcher.stream;
                    watcher.restart(&mut self.net);
                    stream.into_iter().for_each(|stream| self.cut(stream));
                }
            }
            13 => {
                let number = usize::try_from(self.net.chance.below(self.controllers.len() as u64)).unwrap();
                if self.net.chance.percent(30) {
                    self.controllers[number].phase = Phase::Dead;
                    let streams = self.watchers.iter().filter(|watcher| watcher.owner == number);
                    let streams: Vec<u64> = streams.filter_map(|watcher| watcher.stream).collect();
                    streams.into_iter().for_each(|stream| self.cut(stream));
                } else {
                    self.freeze(Who::Controller(number));
                }
            }
            14..=15 => self.freeze(Who::Agent),
            16 => self.agent.clock_is_set(&mut self.net),
            17 if self.net.chance.percent(40) => self.crash_agent(),
            _ => {}
        }
    }

    /// A connection breaks: at once for both ends, or in silence, which each end notices when a ping is not answered.
    fn cut(&mut self, stream: u64) {
        let net = &mut self.net;
        net.dark.insert(stream);
        let silent = net.chance.percent(25);
        let mut noticed = || if silent { net.chance.between(3_000, 5_000) } else { net.chance.between(0, 40) };
        let (here, there) = (noticed(), noticed());
        net.at(here, Happening::Broken(stream));
        net.at(there, Happening::Gone(stream));
    }

    /// A process stands still for a while, and everything that it is to notice waits; the host may have slept, or somebody has stopped it.
    fn freeze(&mut self, who: Who) {
        if let Entry::Vacant(awake) = self.frozen.entry(who) {
            awake.insert(Vec::new());
            let pause = self.net.chance.between(100, 11_000);
            self.net.at(pause, Happening::Thaw(who));
        }
    }

    fn crash_agent(&mut self) {
        self.net.tally.crashes += 1;
        // Those that it has not answered yet, too.
        let streams: Vec<u64> = self.watchers.iter().filter_map(|watcher| watcher.stream).collect();
        streams.into_iter().for_each(|stream| self.cut(stream));
        self.net.ledgers.iter_mut().for_each(|ledger| ledger.crashed = true);
        let life = self.agent.life + 1;
        self.agent = Agent::start(&mut self.net, life);
        if let Some(held) = self.frozen.get_mut(&Who::Agent) {
            held.retain(|happening| matches!(happening, Happening::Arrive(..) | Happening::PeerSends));
        }
    }
}

/// What must be so in every log, whoever watches it: numbers without holes, one `created` first and one `closed` last of each socket, and
/// nothing after the end of a lease.
fn sound(ledger: &Ledger) -> Result<(), String> {
    let mut states: HashMap<u64, bool> = HashMap::new();
    let mut over = false;
    for (at, fact) in ledger.facts.iter().enumerate() {
        let (seq, kind) = (fact.record.seq, fact.record.event.kind());
        if seq != at as u64 + 1 || over {
            return Err(format!("`{kind}` is number {seq}, at {at}, after the end: {over}"));
        }
        over = kind == "lease_expired";
        if let Some((_, uid)) = &fact.record.socket {
            let before = states.insert(uid.0, kind == "closed");
            if before != if kind == "created" { None } else { Some(false) } {
                return Err(format!("`{kind}`, number {seq}, of socket {uid:?}, which was closed: {before:?}"));
            }
        }
    }
    let open = states.values().filter(|closed| !**closed).count();
    if over && open > 0 { Err(format!("{open} sockets are open after the end")) } else { Ok(()) }
}
