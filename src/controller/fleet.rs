//! The agents of an exercise: one for each role.

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::pending;
use futures_util::stream::{self, FuturesUnordered, StreamExt};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};

use crate::client::{AgentClient, AgentInfo, ClientError, Session};
use crate::controller::progress::{Phase, Waiting};
use crate::exercise::clock::{ClockCourse, Exchange, MOST_DRIFT, Offset, Reading, best};
use crate::exercise::outcome::HostSeen;
use crate::model::address::Family;
use crate::model::id::SessionId;
use crate::model::operation::{Action, CallOptions};
use crate::model::session::{Retention, SessionSpec};
use crate::model::time::Clock;
use crate::sys::clock::SystemClock;

/// How often each clock is asked for a reading of it.
const CLOCK_QUESTIONS: usize = 8;

/// How long it takes until all clocks have been read again while an exercise goes on; longer where there are so many hosts that one would
/// be read more often than every `LEAST_PAUSE`.
const READ_AGAIN: Duration = Duration::from_secs(1);
const LEAST_PAUSE: Duration = Duration::from_millis(20);

/// How long a reading may take until that host is passed over.
const READING: Duration = Duration::from_secs(1);

/// How long an agent may take for what it is asked before an exercise begins, until it is given up.
const ANSWER: Duration = Duration::from_secs(30);

/// How many agents are asked the same thing at a time.
pub(super) const AT_A_TIME: usize = 32;

/// How many clocks of other hosts are read at a time.
const CLOCKS_AT_A_TIME: usize = 8;

/// An agent that plays a role.
#[derive(Clone)]
pub struct Member {
    /// The role.
    pub role: String,
    /// Where the agent is reached, for people.
    pub place: String,
    /// The agent.
    pub client: AgentClient,
    /// Its addresses, by the networks that they are in.
    addresses: Vec<(String, Vec<IpAddr>)>,
    info: Option<AgentInfo>,
    /// How its clock goes beside that of the controller. It is read again while the exercise goes on.
    clock: SharedCourse,
    /// Its clock is that of the controller: there is nothing to read.
    shares_clock: bool,
    /// It has, or may have, a session of the exercise.
    has_session: bool,
    /// That session, while its lease is held.
    held: Option<Arc<Session>>,
}

/// How a clock goes, as far as it is known by now.
#[derive(Debug, Clone)]
pub(super) struct SharedCourse(Arc<Mutex<ClockCourse>>);

impl SharedCourse {
    fn new(drift: i64) -> Self {
        Self(Arc::new(Mutex::new(ClockCourse::new(drift))))
    }

    pub(super) fn now(&self) -> MutexGuard<'_, ClockCourse> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The agents of an exercise, in the order of its hosts.
pub struct Fleet {
    members: Vec<Member>,
    session: SessionId,
    clock: SystemClock,
}

impl Member {
    /// An agent that plays a role, not reached yet.
    pub fn new(role: impl Into<String>, place: impl Into<String>, client: AgentClient) -> Self {
        Self {
            role: role.into(),
            place: place.into(),
            client,
            addresses: Vec::new(),
            info: None,
            clock: SharedCourse::new(MOST_DRIFT),
            shares_clock: false,
            has_session: false,
            held: None,
        }
    }

    /// The same, with these addresses in these networks.
    #[must_use]
    pub fn with_addresses(mut self, addresses: Vec<(String, Vec<IpAddr>)>) -> Self {
        self.addresses = addresses;
        self
    }

    /// The same, on this host: its clock cannot part from that of the controller.
    #[must_use]
    pub fn on_this_host(mut self) -> Self {
        self.clock = SharedCourse::new(0);
        self
    }

    /// The same, by the very clock that the fleet has: an agent within this process that was given it.
    #[must_use]
    pub fn by_the_same_clock(self) -> Self {
        Self { shares_clock: true, ..self.on_this_host() }
    }

    /// The address of this host in a network.
    pub(super) fn address_in(&self, network: &str) -> Option<IpAddr> {
        let found = self.addresses.iter().find(|(name, _)| name == network);
        found.and_then(|(_, addresses)| addresses.first()).copied()
    }

    /// The address of this host that the others reach it by.
    pub(super) fn lab_address(&self, family: Option<Family>) -> IpAddr {
        let known = self.info.as_ref().map_or(&[][..], |info| &info.lab_addresses);
        let fits = |ip: &&IpAddr| family.is_none_or(|family| Family::of(**ip) == family);
        let loopback = family.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), Family::loopback);
        known.iter().find(fits).copied().unwrap_or(loopback)
    }

    /// A moment of the agent's clock, by the controller's, and by how much that may be wrong.
    pub(super) fn by_our_clock(&self, nanos: i64) -> (i64, i64) {
        let Offset { nanos: ahead, bound } = self.offset_at(nanos);
        (nanos.saturating_sub(ahead), bound)
    }

    /// How far its clock is ahead at a moment of that clock, by all that is known of it.
    pub(super) fn offset_at(&self, nanos: i64) -> Offset {
        self.clock.now().offset_at(nanos)
    }

    /// All addresses that its sockets may have, as far as they are known.
    pub(super) fn all_addresses(&self) -> Vec<IpAddr> {
        let lab = self.info.iter().flat_map(|info| &info.lab_addresses);
        lab.chain(self.addresses.iter().flat_map(|(_, addresses)| addresses)).copied().collect()
    }

    /// What people call it.
    pub(super) fn name(&self) -> String {
        format!("{} ({})", self.role, self.place)
    }

    /// What it, or the way to it, has answered instead.
    pub(super) fn problem(&self, error: &ClientError) -> String {
        format!("{}: {error}", self.name())
    }

    /// Finds out who the agent is.
    async fn reach(&mut self) -> Result<(), String> {
        self.info = Some(self.client.info().await.map_err(|error| self.problem(&error))?);
        Ok(())
    }

    /// Reads the agent's clock.
    async fn read_clock(&self, clock: SystemClock) -> Result<Reading, String> {
        if self.shares_clock {
            return Ok(Reading { at: clock.now().nanos(), offset: Offset::default() });
        }
        let reading = read_clock(&self.client, clock).await.map_err(|error| self.problem(&error))?;
        self.clock.now().add(reading);
        Ok(reading)
    }

    /// How its clock goes.
    pub(super) fn clock(&self) -> SharedCourse {
        self.clock.clone()
    }

    /// Makes its session, and holds it.
    async fn open_session(&mut self, id: &SessionId) -> Result<(), String> {
        let spec = SessionSpec { retention: Retention::Lossless, ..SessionSpec::default() };
        // Until it has answered, it may have one, and an interrupt may come.
        self.has_session = true;
        let opened = self.client.open_session(Some(id), spec).await;
        let session = opened.map_err(|error| {
            self.has_session = !matches!(error, ClientError::Refused { .. });
            self.problem(&error)
        })?;
        self.client = session.client().clone();
        self.held = Some(Arc::new(session));
        Ok(())
    }
}

/// Finds out how far an agent's clock is ahead of this one.
pub(super) async fn read_clock(client: &AgentClient, clock: SystemClock) -> Result<Reading, ClientError> {
    let mut exchanges = Vec::with_capacity(CLOCK_QUESTIONS);
    for _ in 0..CLOCK_QUESTIONS {
        let sent = clock.now().nanos();
        let told = client.clock().await?;
        let came_back = clock.now().nanos();
        let (received, transmitted) = (told.received.nanos(), told.transmitted.nanos());
        exchanges.push(Exchange { sent, received, transmitted, came_back });
    }
    Ok(best(&exchanges).unwrap_or_default())
}

/// Does something with an agent of that name, and gives it up after a while.
async fn within<W>(longest: Duration, name: String, work: W) -> Result<(), String>
where
    W: Future<Output = Result<(), String>>,
{
    timeout(longest, work).await.unwrap_or_else(|_| Err(format!("{name} has not answered for {longest:?}")))
}

/// Does the same with agents, so many at a time; tells what is wrong with each with which it fails, in their order.
async fn all<W>(at_a_time: usize, work: impl Iterator<Item = (usize, W)>, waiting: &Waiting) -> Result<(), String>
where
    W: Future<Output = Result<(), String>>,
{
    let one = |(host, work): (usize, W)| async move {
        let result = work.await;
        waiting.done(host);
        (host, result)
    };
    let mut done = stream::iter(work.map(one)).buffer_unordered(at_a_time);
    let mut problems = BTreeMap::new();
    while let Some((host, result)) = done.next().await {
        problems.extend(result.err().map(|problem| (host, problem)));
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.into_values().collect::<Vec<_>>().join("\n")) }
}

impl Fleet {
    /// These agents; what the exercise makes on them belongs to a session of this name. Everything is told by this clock.
    pub fn new(members: Vec<Member>, session: SessionId, clock: SystemClock) -> Self {
        Self { members, session, clock }
    }

    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    pub(super) fn session(&self) -> &SessionId {
        &self.session
    }

    /// Finds out who all agents are; tells about each that it cannot reach.
    pub(super) async fn reach(&mut self, waiting: &Waiting) -> Result<(), String> {
        self.begin(Phase::Connect, waiting);
        let reached = self.members.iter_mut().map(|member| within(ANSWER, member.name(), member.reach()));
        all(AT_A_TIME, reached.enumerate(), waiting).await?;
        // Two roles may be played by one agent.
        let mut instances = HashSet::new();
        for member in &self.members {
            if !instances.insert(member.instance()) {
                return Err(format!(
                    "{} is the same agent as another role: each role needs an agent of its own",
                    member.role
                ));
            }
        }
        Ok(())
    }

    /// Finds out how their clocks go.
    pub(super) async fn read_clocks(&self, waiting: &Waiting) -> Result<(), String> {
        self.begin(Phase::Clock, waiting);
        let read = |member: &Member| {
            let (member, clock) = (member.clone(), self.clock);
            within(ANSWER, member.name(), async move { member.read_clock(clock).await.map(|_| ()) })
        };
        let (far, near): (Vec<_>, Vec<_>) =
            self.members.iter().enumerate().partition(|(_, member)| member.clock.now().drifts());
        // Questions that wait for each other measure that: on this host they all do, and on the way to other ones few do not matter.
        for (at_a_time, members) in [(1, near), (CLOCKS_AT_A_TIME, far)] {
            all(at_a_time, members.into_iter().map(|(host, member)| (host, read(member))), waiting).await?;
        }
        Ok(())
    }

    /// All hosts are waited for now.
    pub(super) fn begin(&self, phase: Phase, waiting: &Waiting) {
        waiting.begin(phase, self.members.len(), 0..self.members.len());
    }

    /// The controller's clock.
    pub(super) const fn clock(&self) -> SystemClock {
        self.clock
    }

    /// Reads the clock of a host, as it is now.
    pub(super) async fn read_clock(&self, host: usize) -> Result<Reading, String> {
        self.members[host].read_clock(self.clock).await
    }

    /// Reads the clocks again and again, one after the other, as long as somebody waits for this.
    pub(super) async fn keep_time(&self) -> Infallible {
        let drifting: Vec<&Member> = self.members.iter().filter(|member| member.clock.now().drifts()).collect();
        let count = u32::try_from(drifting.len()).unwrap_or(u32::MAX).max(1);
        let mut turns = interval((READ_AGAIN / count).max(LEAST_PAUSE));
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first one is at once, and they have just been read.
        turns.tick().await;
        for member in drifting.into_iter().cycle() {
            turns.tick().await;
            // What keeps a host from answering is for others to notice: until it does, its bound grows.
            let _ = timeout(READING, member.read_clock(self.clock)).await;
        }
        pending().await
    }

    pub(super) async fn open_sessions(&mut self, waiting: &Waiting) -> Result<(), String> {
        self.begin(Phase::Session, waiting);
        let session = &self.session;
        let opened = self.members.iter_mut().map(|member| within(ANSWER, member.name(), member.open_session(session)));
        all(AT_A_TIME, opened.enumerate(), waiting).await
    }

    /// Waits until an agent's lease is lost: everything that the exercise has made there is gone, or soon will be.
    pub(super) async fn lost(&self) -> String {
        let mut leases: FuturesUnordered<_> = (0..self.members.len()).map(|host| self.lost_at(host)).collect();
        match leases.next().await {
            Some(lost) => lost,
            None => pending().await,
        }
    }

    /// The same of one agent.
    pub(super) async fn lost_at(&self, host: usize) -> String {
        let member = &self.members[host];
        match member.held.clone() {
            Some(held) => member.problem(&held.lost().await),
            None => pending().await,
        }
    }

    /// Whether all leases are still held.
    pub(super) fn check(&self) -> Result<(), String> {
        let held = |member: &Member| member.held.as_ref().map_or(Ok(()), |held| held.check());
        self.members.iter().try_for_each(|member| held(member).map_err(|error| member.problem(&error)))
    }

    /// Leaves every agent as it was, all of them within this time; tells of each where something may be left.
    pub(super) async fn clean_up(&self, within: Duration, waiting: &Waiting) -> Result<(), String> {
        let deadline = Instant::now() + within;
        let delete = Action::DeleteSession { session: self.session.clone(), allow_missing: true };
        let clean = |member: &Member| {
            let (member, delete) = (member.clone(), delete.clone());
            async move {
                let why = match timeout_at(deadline, member.client.call(&delete, &CallOptions::default())).await {
                    // An agent that has gone has nothing left to clean, and one that was not heard of for so long has done it by itself.
                    Ok(Ok(_) | Err(ClientError::Unreachable { nobody: true, .. } | ClientError::LeaseLost { .. })) => {
                        return Ok(());
                    }
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => format!("it has not answered for {within:?}"),
                };
                Err(format!(
                    "{}: the session of the run may still be there, until its lease ends: {why}",
                    member.name()
                ))
            }
        };
        let with_session: Vec<_> = self.members.iter().enumerate().filter(|(_, member)| member.has_session).collect();
        waiting.begin(Phase::CleanUp, with_session.len(), with_session.iter().map(|(host, _)| *host));
        all(AT_A_TIME, with_session.into_iter().map(|(host, member)| (host, clean(member))), waiting).await
    }

    pub(super) fn seen(&self) -> Vec<HostSeen> {
        let seen = |member: &Member| HostSeen {
            role: member.role.clone(),
            agent: member.place.clone(),
            version: member.info.as_ref().map(|info| info.version.clone()).unwrap_or_default(),
            lab_address: member.lab_address(None).to_string(),
            offset: member.clock.now().last().unwrap_or_default().offset,
        };
        self.members.iter().map(seen).collect()
    }
}

impl Member {
    fn instance(&self) -> Option<&crate::model::id::InstanceId> {
        self.info.as_ref().map(|info| &info.instance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody waits for ever for an agent, and what is wrong is told of each.
    #[tokio::test]
    async fn agents_that_do_not_answer_are_given_up_and_named() {
        let waiting = Waiting::default();
        let silent = |host: usize| async move { if host == 1 { Ok(()) } else { pending().await } };
        let longest = Duration::from_millis(10);
        let work = (0..3).map(|host| (host, within(longest, format!("h{host} (127.0.0.1:1)"), silent(host))));
        let problem = all(AT_A_TIME, work, &waiting).await.unwrap_err();
        let given_up = |host| format!("{host} (127.0.0.1:1) has not answered for 10ms");
        assert_eq!(problem, [given_up("h0"), given_up("h2")].join("\n"));
    }
}
