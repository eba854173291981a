//! A simulated agent: the real logs, holds, cursors, leases, names, rosters and memories of operations, with no socket, task or clock
//! of the machine behind them.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use farsock::eventlog::hub::{Appender, Hub};
use farsock::eventlog::ring::{Ring, RingLimits};
use farsock::model::address::{Family, Transport};
use farsock::model::delivery::ReadPause;
use farsock::model::event::Event;
use farsock::model::id::{InstanceId, Principal, RequestId, SessionId, SocketId, SocketUid};
use farsock::model::refusal::Refusal;
use farsock::model::session::SessionState;
use farsock::model::socket::{CloseReason, Closing, Totals};
use farsock::model::time::{Clock, Timestamp};
use farsock::session::calls::{Begun, CallLimits, Calls};
use farsock::session::lease::{Due, Lease};
use farsock::session::names::{Found, Names};
use farsock::session::roster::Roster;

use super::history::{Fact, Ledger};
use super::messages::{Act, Answered, Ask, Frame, Outcome};
use super::streams::Stream;
use super::world::{Happening, Net};

/// What bounds a simulated agent: little, so that every limit is met.
pub const SOCKETS: u32 = 4;
pub const WATCHERS: u32 = 3;
const REMEMBERED: u32 = 6;
const EXPIRED_LOG: u64 = 30_000;
/// How long nobody looks at the clock, at the most.
const LEASE_LOOK: u64 = 1_000;
const READ: usize = 65_536;
static BYTES: [u8; READ] = [7; READ];

struct Hand(AtomicI64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::Relaxed))
    }

    fn at_realtime(&self, nanos: i64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }
}

fn stamp(milliseconds: u64) -> Timestamp {
    Timestamp::default().after(Duration::from_millis(milliseconds))
}

/// An operation.
#[derive(Clone)]
struct Work(Rc<(RequestId, Act, Cell<bool>)>);

#[derive(Default)]
struct Sock {
    /// Bytes that have arrived and wait in the kernel.
    kernel: usize,
    received: u64,
    written: u64,
    paused: bool,
    /// Payloads in the log that nobody has taken.
    untaken: VecDeque<u64>,
}

pub struct Session {
    lease: Option<Lease>,
    pub hub: Arc<Hub>,
    names: Names<(SocketId, u64)>,
    sockets: BTreeMap<u64, Sock>,
    calls: Calls<Work, Answered>,
    /// Who waits for the answer of an operation.
    joined: HashMap<RequestId, Vec<usize>>,
    number: u64,
}

/// Notes which sockets may read on.
struct Bell(u64, Arc<Mutex<Vec<u64>>>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.1.lock().unwrap().push(self.0);
    }
}

pub struct Agent {
    pub life: u64,
    pub instance: InstanceId,
    clock: Arc<Hand>,
    roster: Roster<usize>,
    pub sessions: BTreeMap<usize, Session>,
    pub streams: BTreeMap<u64, Stream>,
    woken: Arc<Mutex<Vec<u64>>>,
    next_uid: u64,
}

impl Agent {
    pub fn start(net: &mut Net, life: u64) -> Self {
        let mut agent = Self {
            life,
            instance: InstanceId::from_random([u8::try_from(life % 256).unwrap(); 16]),
            clock: Arc::new(Hand(AtomicI64::new(0))),
            roster: Roster::new(6, 2),
            sessions: BTreeMap::new(),
            streams: BTreeMap::new(),
            woken: Arc::default(),
            next_uid: 1,
        };
        agent.set_clock(net.now);
        agent.make_session(net, &SessionId::default(), None, false).unwrap();
        agent
    }

    /// Everything that is to happen next happens at this time.
    pub fn set_clock(&self, now: u64) {
        self.clock.0.store(stamp(now).nanos(), Ordering::Relaxed);
    }

    fn make_session(
        &mut self,
        net: &mut Net,
        id: &SessionId,
        ttl: Option<u64>,
        lossless: bool,
    ) -> Result<usize, Refusal> {
        let key = net.ledgers.len();
        let (number, _) = self.roster.add(&Principal::owner(), Some(id.clone()), |_| Ok(key))?;
        let limits = RingLimits { events: 16, payload_bytes: 6 * READ as u64, final_events: 48 };
        let ring = if lossless { Ring::lossless(limits) } else { Ring::new(limits) };
        let calls = CallLimits { running: 8, remembered: REMEMBERED, remembered_bytes: 1 << 20 };
        let session = Session {
            lease: ttl.map(|ttl| Lease::new(Duration::from_millis(ttl), stamp(net.now))),
            hub: Hub::new(ring, Arc::clone(&self.clock) as Arc<dyn Clock>),
            names: Names::new(SOCKETS, 4),
            sockets: BTreeMap::new(),
            calls: Calls::new(calls),
            joined: HashMap::new(),
            number,
        };
        self.sessions.insert(key, session);
        net.ledgers.push(Ledger { ttl: ttl.unwrap_or(0), granted: net.now, ..Default::default() });
        if ttl.is_some() {
            net.at(0, Happening::Keep(self.life, key));
        }
        Ok(key)
    }

    pub fn find(&self, id: &SessionId) -> Result<usize, &'static str> {
        self.roster.find(&Principal::owner(), id).ok_or("SESSION_NOT_FOUND")
    }

    pub fn is_active(&mut self, key: usize, now: u64) -> bool {
        let lease = &mut self.sessions.get_mut(&key).unwrap().lease;
        lease.as_mut().is_none_or(|lease| lease.state(stamp(now)) == SessionState::Active)
    }

    /// What is left, at the end of everything: sessions that can be used, open sockets, operations that run.
    pub fn left(&mut self, now: u64) -> (usize, usize, usize) {
        let keys: Vec<usize> = self.sessions.keys().copied().filter(|key| self.sessions[key].lease.is_some()).collect();
        let usable = keys.iter().filter(|key| self.is_active(**key, now)).count();
        let of = |count: fn(&Session) -> usize| keys.iter().map(|key| count(&self.sessions[key])).sum();
        (usable, of(|session| session.sockets.len()), of(|session| session.calls.running().len()))
    }

    /// Whether a socket of this session waits for room.
    pub fn is_paused(&self, key: usize) -> bool {
        self.sessions.get(&key).is_some_and(|session| session.sockets.values().any(|sock| sock.paused))
    }

    // === Requests ===

    /// Carries out what was asked for at that moment.
    pub fn handle(&mut self, net: &mut Net, asked: u64, from: usize, ask: Ask) {
        match ask {
            Ask::Call { session, request, act, instance } => {
                if let Err(reason) = self.call(net, from, &session, &request, act, instance) {
                    net.answer(from, request, Err(reason));
                }
            }
            Ask::Cancel { session, request } => {
                let found = self.find(&session).map(|key| self.sessions[&key].calls.find(&request));
                if let Ok(Ok(Begun::Running(work))) = found {
                    work.0.2.set(true);
                }
            }
            Ask::Renew { session, sent } => {
                let renewed = self.find(&session).and_then(|key| {
                    let lease = self.sessions.get_mut(&key).unwrap().lease.as_mut().unwrap();
                    if !lease.renew(stamp(asked), stamp(net.now)) {
                        return Err("LEASE_EXPIRED");
                    }
                    let ledger = &mut net.ledgers[key];
                    ledger.granted = ledger.granted.max(asked);
                    let over = ledger.over;
                    net.require(!over, || format!("session {key} was renewed after its end"));
                    Ok(())
                });
                net.unary(Happening::Renewed(from, session, sent, renewed));
            }
            Ask::Ack { session, watcher, through } => {
                if let Ok(key) = self.find(&session) {
                    let _ = self.sessions[&key].hub.acknowledge(&watcher, through);
                }
            }
            Ask::Watch(asked) => {
                let stream = asked.stream;
                if let Err(reason) = self.watch(net, *asked) {
                    let delay = net.delay();
                    net.at(delay, Happening::Frame(stream, Frame::Refused(reason)));
                }
            }
            Ask::Credit(stream) => self.credit(stream),
        }
        self.settle(net);
    }

    fn call(
        &mut self,
        net: &mut Net,
        from: usize,
        session: &SessionId,
        request: &RequestId,
        act: Act,
        instance: Option<InstanceId>,
    ) -> Result<(), &'static str> {
        if instance.is_some_and(|meant| meant != self.instance) {
            return Err("INSTANCE_CHANGED");
        }
        let key = self.find(session)?;
        if !self.is_active(key, net.now) {
            return Err("LEASE_EXPIRED");
        }
        let session = self.sessions.get_mut(&key).unwrap();
        let mut hasher = DefaultHasher::new();
        act.hash(&mut hasher);
        let begun = session
            .calls
            .begin(Some(request), hasher.finish(), |id| Work(Rc::new((id, act, Cell::new(false)))))
            .map_err(|refusal| refusal.reason())?;
        match begun {
            Begun::New(work) => {
                if !matches!(work.0.1, Act::Close(_)) && session.hub.expect_room().is_err() {
                    session.calls.end(request, None);
                    return Err("LOG_FULL");
                }
                session.joined.insert(request.clone(), vec![from]);
                let delay = net.chance.pick(&[0, 1, 20, 900]);
                net.at(delay, Happening::Execute(self.life, key, request.clone(), 5));
            }
            Begun::Running(_) => {
                net.tally.joined += 1;
                session.joined.get_mut(request).unwrap().push(from);
            }
            Begun::Ended(outcome) => {
                net.tally.remembered += 1;
                net.answer(from, request.clone(), outcome);
            }
        }
        Ok(())
    }

    /// Carries an operation out, which may take so many rounds more.
    pub fn execute(&mut self, net: &mut Net, key: usize, request: &RequestId, rounds: u32) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let Ok(Begun::Running(work)) = session.calls.find(request) else { return };
        let answered = if work.0.2.get() {
            Ok(Outcome::Canceled)
        } else {
            match self.perform(net, key, &work.0.1, rounds) {
                Some(answered) => answered,
                None => return net.at(200, Happening::Execute(self.life, key, request.clone(), rounds - 1)),
            }
        };
        let ledger = &mut net.ledgers[key];
        if let Ok(outcome) = &answered {
            let before = ledger.done.entry(request.clone()).or_default();
            let forgotten = before.last().is_none_or(|(_, ends)| ledger.ends - ends >= u64::from(REMEMBERED));
            before.push((outcome.clone(), ledger.ends + 1));
            let times = before.iter().filter(|(outcome, _)| *outcome != Outcome::Canceled).count();
            let guarded = matches!(&work.0.1, Act::Write { guard: Some(_), .. });
            ledger.ends += 1;
            net.require(forgotten, || format!("{request} was carried out again, and is not forgotten"));
            net.require(times <= 1 || !guarded, || format!("{request} has doubled something"));
        }
        let session = self.sessions.get_mut(&key).unwrap();
        session.calls.end(request, answered.as_ref().ok().map(|_| (answered.clone(), 0)));
        for waiter in session.joined.remove(request).unwrap_or_default() {
            net.answer(waiter, request.clone(), answered.clone());
        }
        self.settle(net);
    }

    /// Does it; nothing when it is not over yet.
    fn perform(&mut self, net: &mut Net, key: usize, act: &Act, rounds: u32) -> Option<Answered> {
        let open = |session: &Session, id: &SocketId| match session.names.find(id) {
            Found::Open((_, uid)) => Ok(uid),
            Found::Closed(_) => Err("SOCKET_CLOSED"),
            Found::Nothing => Err("SOCKET_NOT_FOUND"),
        };
        let active = self.is_active(key, net.now);
        let session = self.sessions.get_mut(&key).unwrap();
        Some(match act {
            Act::CreateSession { id, ttl, lossless } => {
                let taken = self.find(id).is_ok();
                let made = self.make_session(net, id, Some(*ttl), *lossless);
                net.require(made.is_err() || !taken, || format!("there are two sessions of the name {id}"));
                made.map(Outcome::Session).map_err(|refusal| refusal.reason())
            }
            Act::Open(_) if !active => Err("LEASE_EXPIRED"),
            Act::Open(id) => {
                let uid = self.next_uid;
                self.next_uid += 1;
                match session.names.open(id.clone(), SocketUid(uid), (id.clone(), uid)) {
                    Err(refusal) => {
                        let taken = session.names.open_sockets().iter().any(|(open, _)| open == id);
                        let full = session.sockets.len() == SOCKETS as usize;
                        net.require(taken || full, || format!("the name {id} is free: {refusal}"));
                        Err(refusal.reason())
                    }
                    Ok(()) => {
                        session.sockets.insert(uid, Sock::default());
                        let created = Event::Created {
                            transport: Transport::Tcp,
                            family: Family::Ipv4,
                            parent: None,
                            local: None,
                            remote: None,
                        };
                        self.append(net, key, |log| {
                            log.push(Some((id.clone(), SocketUid(uid))), None, created);
                            log.push(Some((id.clone(), SocketUid(uid))), None, Event::Writable);
                        });
                        Ok(Outcome::Opened(uid))
                    }
                }
            }
            Act::Write { socket, size, guard } => match open(session, socket) {
                Err(reason) => Err(reason),
                Ok(uid) => {
                    let sock = session.sockets.get_mut(&uid).unwrap();
                    if guard.is_some_and(|guard| guard != (uid, sock.written)) {
                        return Some(Err("OFFSET_MISMATCH"));
                    }
                    let (offset, size) = (sock.written, u32::try_from(*size).unwrap());
                    sock.written += u64::from(size);
                    let written = Event::Written { offset, size, asked_size: size };
                    self.append(net, key, |log| log.push(Some((socket.clone(), SocketUid(uid))), None, written));
                    Ok(Outcome::Written(offset))
                }
            },
            Act::Receive(socket) => match open(session, socket) {
                Err(reason) => Err(reason),
                Ok(uid) => {
                    let taken = session.sockets.get_mut(&uid).unwrap().untaken.pop_front();
                    if taken.is_none() && rounds > 0 {
                        return None;
                    }
                    taken.into_iter().for_each(|seq| session.hub.take(seq));
                    Ok(Outcome::Received(taken))
                }
            },
            Act::Close(socket) => open(session, socket).map(|uid| {
                self.close(net, key, socket, uid, CloseReason::Closed);
                Outcome::Closed
            }),
            Act::Reset => {
                let open = session.names.open_sockets();
                for (id, uid) in &open {
                    self.close(net, key, id, *uid, CloseReason::SessionReset);
                }
                let reset = Event::SessionReset { closed_sockets: u32::try_from(open.len()).unwrap() };
                self.append(net, key, |log| log.push(None, None, reset));
                Ok(Outcome::Reset(open.len()))
            }
        })
    }

    fn close(&mut self, net: &mut Net, key: usize, id: &SocketId, uid: u64, reason: CloseReason) {
        let session = self.sessions.get_mut(&key).unwrap();
        session.sockets.remove(&uid);
        session.names.close(SocketUid(uid));
        let closing =
            Closing { reason, had_error: false, totals: Totals::default(), unread_bytes: 0, unwritten_bytes: 0 };
        self.append(net, key, |log| log.push(Some((id.clone(), SocketUid(uid))), None, Event::Closed(closing)));
        self.sessions[&key].hub.give_up(SocketUid(uid));
    }

    // === What peers send ===

    /// A peer sends to one of the sockets.
    pub fn peer_sends(&mut self, net: &mut Net) {
        let sockets: Vec<(usize, SocketId, u64)> = self
            .sessions
            .iter()
            .flat_map(|(key, session)| session.names.open_sockets().into_iter().map(|(id, uid)| (*key, id, uid)))
            .collect();
        if sockets.is_empty() {
            return;
        }
        let at = usize::try_from(net.chance.below(sockets.len() as u64)).unwrap();
        let (key, id, uid) = &sockets[at];
        let size = usize::try_from(net.chance.pick(&[1, 9, 4_000, 90_000])).unwrap();
        self.sessions.get_mut(key).unwrap().sockets.get_mut(uid).unwrap().kernel += size;
        self.read(net, *key, id, *uid);
        self.settle(net);
    }

    /// Reads what has arrived, as long as there is room for it.
    fn read(&mut self, net: &mut Net, key: usize, id: &SocketId, uid: u64) {
        loop {
            let session = self.sessions.get_mut(&key).unwrap();
            let sock = session.sockets.get_mut(&uid).unwrap();
            if sock.kernel == 0 || sock.paused {
                return;
            }
            let socket = Some((id.clone(), SocketUid(uid)));
            if session.hub.is_full() {
                sock.paused = true;
                net.tally.paused += 1;
                self.append(net, key, |log| {
                    log.push(socket, None, Event::ReadPaused { reason: ReadPause::LogFull });
                });
                return self.ask_for_room(net, key, id, uid);
            }
            let mut payloads = Vec::new();
            for _ in 0..session.hub.reads().min(4) {
                let size = sock.kernel.min(READ);
                if size > 0 {
                    payloads
                        .push(Event::Received { offset: sock.received, payload: Bytes::from_static(&BYTES[..size]) });
                    (sock.kernel, sock.received) = (sock.kernel - size, sock.received + size as u64);
                }
            }
            self.append(net, key, |log| {
                for event in payloads {
                    log.push(socket.clone(), None, event);
                }
            });
        }
    }

    /// Goes on when there is room, or is woken when there is.
    fn ask_for_room(&mut self, net: &mut Net, key: usize, id: &SocketId, uid: u64) {
        let waker = Waker::from(Arc::new(Bell(uid, Arc::clone(&self.woken))));
        let session = self.sessions.get_mut(&key).unwrap();
        if session.hub.has_room_or_wakes(SocketUid(uid), &Context::from_waker(&waker)) {
            session.sockets.get_mut(&uid).unwrap().paused = false;
            self.append(net, key, |log| log.push(Some((id.clone(), SocketUid(uid))), None, Event::ReadResumed));
            self.read(net, key, id, uid);
        }
    }

    fn append<R>(&mut self, net: &mut Net, key: usize, write: impl FnOnce(&mut Appender<'_>) -> R) {
        let session = self.sessions.get_mut(&key).unwrap();
        let before = session.hub.bounds().1;
        session.hub.append(write);
        let head = session.hub.bounds().1;
        let ledger = &mut net.ledgers[key];
        ledger.pieces += 1;
        for seq in before + 1..=head {
            let record = session.hub.get(seq).expect("what has just been appended is kept");
            if let (Event::Received { .. }, Some((_, uid))) = (&record.event, &record.socket) {
                session.sockets.get_mut(&uid.0).unwrap().untaken.push_back(seq);
            }
            ledger.facts.push(Fact { record, piece: ledger.pieces });
        }
    }

    // === Leases ===

    /// Looks after a lease.
    pub fn keep(&mut self, net: &mut Net, key: usize) {
        loop {
            let Some(session) = self.sessions.get_mut(&key) else { return };
            match session.lease.as_mut().unwrap().due(stamp(net.now)) {
                Due::Nothing { until } => {
                    let left = u64::try_from(until.since(stamp(net.now)).as_millis()).unwrap();
                    // A timer may be late, never early.
                    let late = net.chance.pick(&[0, 0, 3, 700]);
                    return net.at(left.min(LEASE_LOOK) + late, Happening::Keep(self.life, key));
                }
                Due::Warning { left } => {
                    self.append(net, key, |log| log.push(None, None, Event::LeaseExpiring { left }));
                }
                Due::End => break,
            }
        }
        for work in self.sessions[&key].calls.running() {
            work.0.2.set(true);
        }
        let ledger = &mut net.ledgers[key];
        ledger.over = true;
        let (lived, ttl) = (net.now - ledger.granted, ledger.ttl);
        net.require(lived >= ttl, || format!("session {key} has ended after {lived} ms of {ttl}"));
        net.tally.expired += 1;
        net.at(0, Happening::Expire(self.life, key));
        self.settle(net);
    }

    /// Closes one more of a session's sockets, and ends it after the last one.
    pub fn expire(&mut self, net: &mut Net, key: usize) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let gone = 5 - u32::try_from(session.sockets.len()).unwrap();
        if let Some((id, uid)) = session.names.open_sockets().first().cloned() {
            self.close(net, key, &id, uid, CloseReason::LeaseExpired);
            let delay = net.chance.pick(&[0, 0, 2, 40]);
            net.at(delay, Happening::Expire(self.life, key));
        } else if session.calls.running().is_empty() {
            session.lease.as_mut().unwrap().end();
            self.append(net, key, |log| log.push(None, None, Event::LeaseExpired { closed_sockets: gone }));
            let session = &self.sessions[&key];
            session.hub.end();
            for forgotten in self.roster.expire(&Principal::owner(), session.number) {
                self.sessions.remove(&forgotten);
            }
            net.at(EXPIRED_LOG, Happening::Forget(self.life, key));
        } else {
            net.at(100, Happening::Expire(self.life, key));
        }
        self.settle(net);
    }

    /// Forgets a session that nobody can use any more.
    pub fn forget(&mut self, key: usize) {
        if let Some(session) = self.sessions.get(&key) {
            self.roster.forget(&Principal::owner(), session.number);
            self.sessions.remove(&key);
        }
    }

    /// Somebody sets the clock of the host: told in all sessions that are not over.
    pub fn clock_is_set(&mut self, net: &mut Net) {
        let keys: Vec<usize> = self.sessions.keys().copied().collect();
        for key in keys.into_iter().filter(|key| *key > 0) {
            if self.is_active(key, net.now) {
                self.append(net, key, |log| log.push(None, None, Event::ClockStepped { ahead_nanos: -7 }));
            }
        }
        self.settle(net);
    }

    /// Lets those go on who can: sockets for which there is room, and streams that have something to tell.
    pub fn settle(&mut self, net: &mut Net) {
        loop {
            let mut woken = std::mem::take(&mut *self.woken.lock().unwrap());
            // They are woken in the order of a hash map, which is another one each time.
            woken.sort_unstable();
            if woken.is_empty() {
                break;
            }
            for uid in woken {
                let found = self.sessions.iter().find_map(|(key, session)| {
                    let open = session.names.open_sockets();
                    open.into_iter().find(|(_, open)| *open == uid).map(|(id, _)| (*key, id))
                });
                if let Some((key, id)) = found {
                    self.ask_for_room(net, key, &id, uid);
                }
            }
        }
        self.stream_on(net);
        for session in self.sessions.values() {
            let forgotten = !session.hub.is_full() && session.sockets.values().any(|sock| sock.paused);
            net.require(!forgotten, || "there is room, and a socket was not told".to_owned());
        }
    }
}
