//! A simulated controller: it makes a session, renews it, and sends each request until it is answered, over a network that loses,
//! doubles and delays. It trusts its own clock for how long its lease is good, pessimistically.

use std::collections::HashMap;

use farsock::model::id::{InstanceId, RequestId, SessionId, SocketId};

use super::agent::Agent;
use super::history::Ledger;
use super::messages::{Act, Answered, Ask, Outcome};
use super::world::{Happening, Net};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Creating,
    Using,
    /// Its lease may be over: it uses nothing any more.
    Lost,
    /// It wants nothing more.
    Done,
    /// It has crashed.
    Dead,
}

#[derive(Debug)]
struct Pending {
    session: SessionId,
    act: Act,
    first_sent: u64,
}

#[derive(Debug)]
pub struct Controller {
    number: usize,
    pub phase: Phase,
    pub session: SessionId,
    pub lossless: bool,
    pub key: Option<usize>,
    ttl: u64,
    generation: u32,
    pending: HashMap<RequestId, Pending>,
    /// The order of those that are pending: a hash map has none that comes again.
    order: Vec<RequestId>,
    good_until: u64,
    renewed_at: u64,
    sent: u64,
    /// Open sockets, each with its number.
    sockets: Vec<(SocketId, u64)>,
    offsets: HashMap<SocketId, u64>,
    instance: Option<InstanceId>,
}

impl Controller {
    pub fn new(number: usize) -> Self {
        Self {
            number,
            phase: Phase::Lost,
            session: SessionId::default(),
            lossless: false,
            key: None,
            ttl: 5_000,
            generation: 0,
            pending: HashMap::new(),
            order: Vec::new(),
            good_until: 0,
            renewed_at: 0,
            sent: 0,
            sockets: Vec::new(),
            offsets: HashMap::new(),
            instance: None,
        }
    }

    pub fn is_home(&self) -> bool {
        matches!(self.phase, Phase::Done | Phase::Dead)
    }

    /// Its turn: it sends what is due. `quiet` says that its watchers have everything, and wait for nothing.
    pub fn tick(&mut self, net: &mut Net, agent: &Agent, quiet: bool) {
        match self.phase {
            Phase::Dead | Phase::Done => return,
            Phase::Lost if net.calm => self.phase = Phase::Done,
            Phase::Lost => self.begin(net, agent),
            Phase::Creating => {}
            Phase::Using if net.now >= self.good_until => self.lose(),
            Phase::Using => {
                if net.now - self.renewed_at >= self.ttl / 3 {
                    self.renewed_at = net.now;
                    net.ask(self.number, Ask::Renew { session: self.session.clone(), sent: net.now });
                }
                if net.calm && self.pending.is_empty() && quiet {
                    self.phase = Phase::Done;
                } else if !net.calm && self.pending.len() < 4 {
                    let act = self.choose(net);
                    self.request(net, self.session.clone(), act);
                }
            }
        }
        for request in &self.order {
            if net.chance.percent(60) {
                let pending = &self.pending[request];
                let (session, act, instance) = (pending.session.clone(), pending.act.clone(), self.instance.clone());
                net.ask(self.number, Ask::Call { session, request: request.clone(), act, instance });
            }
        }
        let pause = net.chance.between(100, self.ttl / 5);
        net.at(pause, Happening::Tick(self.number));
    }

    fn begin(&mut self, net: &mut Net, agent: &Agent) {
        self.generation += 1;
        // Sometimes the name of before is used again.
        let name = format!("lab-{}-{}", self.number, self.generation / 2);
        self.session = SessionId::parse(&name).unwrap();
        self.ttl = net.chance.pick(&[5_000, 6_000, 9_000]);
        self.lossless = net.chance.percent(75);
        self.instance = net.chance.percent(50).then(|| agent.instance.clone());
        (self.phase, self.key) = (Phase::Creating, None);
        (self.sockets, self.offsets) = (Vec::new(), HashMap::new());
        let act = Act::CreateSession { id: self.session.clone(), ttl: self.ttl, lossless: self.lossless };
        self.request(net, SessionId::default(), act);
    }

    fn lose(&mut self) {
        self.phase = Phase::Lost;
        self.pending.clear();
        self.order.clear();
    }

    fn request(&mut self, net: &mut Net, session: SessionId, act: Act) {
        self.sent += 1;
        let request = RequestId::parse(&format!("r-{}-{}", self.number, self.sent)).unwrap();
        self.order.push(request.clone());
        self.pending.insert(request, Pending { session, act, first_sent: net.now });
    }

    fn choose(&mut self, net: &mut Net) -> Act {
        let socket = |net: &mut Net| net.chance.below(self.sockets.len().max(1) as u64);
        let known = self.sockets.get(usize::try_from(socket(net)).unwrap()).cloned();
        match (net.chance.below(10), known) {
            (0..=1, Some(_)) | (_, None) => {
                // Few names, so that each is used again.
                Act::Open(SocketId::parse(&format!("s-{}", self.sent % 6)).unwrap())
            }
            (2..=5, Some((socket, uid))) => {
                let guard = self.offsets.get(&socket).map(|offset| (uid, *offset)).filter(|_| net.chance.percent(70));
                Act::Write { size: net.chance.between(1, 99), socket, guard }
            }
            (6..=7, Some((socket, _))) => Act::Receive(socket),
            (8, Some(_)) if net.chance.percent(20) => Act::Reset,
            (8, Some((socket, _))) => {
                if let Some(request) = self.order.first() {
                    net.ask(self.number, Ask::Cancel { session: self.session.clone(), request: request.clone() });
                }
                Act::Receive(socket)
            }
            (_, Some((socket, _))) => Act::Close(socket),
        }
    }

    pub fn answered(&mut self, net: &mut Net, request: &RequestId, answered: Answered) {
        let Some(pending) = self.pending.get(request) else { return };
        if let (Act::CreateSession { .. }, Err("QUOTA_EXCEEDED" | "SESSION_EXISTS")) = (&pending.act, &answered) {
            // Others have to make room first; or one of this name has not been forgotten yet.
            if net.calm {
                self.lose();
            }
            return;
        }
        let Pending { act, first_sent, .. } = self.pending.remove(request).unwrap();
        self.order.retain(|known| known != request);
        if let Ok(outcome) = &answered {
            // In whichever session of this name: a request without an instance means the one that there is when it arrives.
            let of = |ledger: &Ledger| {
                ledger.done.get(request).is_some_and(|done| done.iter().any(|(known, _)| known == outcome))
            };
            let true_answer = net.ledgers.iter().any(of);
            net.require(true_answer, || format!("{request} was answered with {outcome:?}, which it did not do"));
        }
        match (act, answered) {
            (_, Ok(Outcome::Session(key))) => {
                self.key = Some(key);
                (self.phase, self.good_until, self.renewed_at) = (Phase::Using, first_sent + self.ttl, first_sent);
                if net.now >= self.good_until {
                    self.lose();
                } else {
                    net.at(0, Happening::Join(self.number));
                }
            }
            (Act::Open(id), Ok(Outcome::Opened(uid))) => {
                self.offsets.insert(id.clone(), 0);
                self.sockets.retain(|(known, _)| *known != id);
                self.sockets.push((id, uid));
            }
            (Act::Write { socket, size, .. }, Ok(Outcome::Written(offset))) => {
                let known = self.offsets.entry(socket).or_default();
                *known = (*known).max(offset + size);
            }
            (Act::Close(socket), Ok(_)) => self.sockets.retain(|(known, _)| *known != socket),
            (Act::Reset, Ok(_)) => self.sockets.clear(),
            (_, Err("LEASE_EXPIRED")) => self.told_of_the_end(net),
            (_, Err("SESSION_NOT_FOUND" | "INSTANCE_CHANGED")) => self.lose(),
            (_, _) => {}
        }
    }

    pub fn renewed(&mut self, net: &mut Net, session: &SessionId, sent: u64, renewed: Result<(), &'static str>) {
        if *session != self.session || self.phase != Phase::Using {
            return;
        }
        match renewed {
            Ok(()) => self.good_until = self.good_until.max(sent + self.ttl),
            Err("LEASE_EXPIRED") => self.told_of_the_end(net),
            Err(_) => self.lose(),
        }
    }

    /// It is told that its lease is over: not before it has to think so itself. Such an answer may be from a session of before of this name.
    fn told_of_the_end(&mut self, net: &mut Net) {
        let Some(ledger) = self.key.map(|key| &net.ledgers[key]) else { return self.lose() };
        let (over, crashed, now, good_until) = (ledger.over, ledger.crashed, net.now, self.good_until);
        net.require(!over || now >= good_until, || {
            format!("a lease has ended that was good until {good_until}, and it is {now}")
        });
        if over || crashed {
            self.lose();
        }
    }
}
