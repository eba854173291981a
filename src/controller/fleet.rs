//! The agents of an exercise: one for each role.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use futures_util::future::{pending, select_all};

use crate::client::{AgentClient, AgentInfo, ClientError, Session};
use crate::exercise::clock::{Exchange, Offset, best};
use crate::exercise::outcome::HostSeen;
use crate::model::address::Family;
use crate::model::id::SessionId;
use crate::model::operation::{Action, CallOptions};
use crate::model::session::{Retention, SessionSpec};
use crate::model::time::Clock;
use crate::sys::clock::SystemClock;

/// How often each clock is asked.
const CLOCK_QUESTIONS: usize = 8;

/// An agent that plays a role.
#[derive(Clone)]
pub struct Member {
    /// The role.
    pub role: String,
    /// Where the agent is reached, for people.
    pub place: String,
    /// The agent.
    pub client: AgentClient,
    info: Option<AgentInfo>,
    offset: Offset,
    /// It has, or may have, a session of the exercise.
    has_session: bool,
    /// That session, while its lease is held.
    held: Option<Arc<Session>>,
}

/// The agents of an exercise, in the order of its hosts.
pub struct Fleet {
    members: Vec<Member>,
    session: SessionId,
}

impl Member {
    /// An agent that plays a role, not reached yet.
    pub fn new(role: impl Into<String>, place: impl Into<String>, client: AgentClient) -> Self {
        Self {
            role: role.into(),
            place: place.into(),
            client,
            info: None,
            offset: Offset::default(),
            has_session: false,
            held: None,
        }
    }

    /// The address of this host that the others reach it by.
    pub(super) fn lab_address(&self, family: Option<Family>) -> IpAddr {
        let known = self.info.as_ref().map_or(&[][..], |info| &info.lab_addresses);
        let fits = |ip: &&IpAddr| family.is_none_or(|family| Family::of(**ip) == family);
        let loopback = family.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), Family::loopback);
        known.iter().find(fits).copied().unwrap_or(loopback)
    }

    /// A moment of the agent's clock, by the controller's.
    pub(super) fn by_our_clock(&self, nanos: i64) -> i64 {
        nanos.saturating_sub(self.offset.nanos)
    }

    fn problem(&self, error: &ClientError) -> String {
        format!("{} ({}): {error}", self.role, self.place)
    }

    /// Finds out who the agent is, and how its clock goes.
    async fn reach(&mut self, clock: SystemClock) -> Result<(), String> {
        self.info = Some(self.client.info().await.map_err(|error| self.problem(&error))?);
        let mut exchanges = Vec::with_capacity(CLOCK_QUESTIONS);
        for _ in 0..CLOCK_QUESTIONS {
            let sent = clock.now().nanos();
            let reading = self.client.clock().await.map_err(|error| self.problem(&error))?;
            let came_back = clock.now().nanos();
            let (received, transmitted) = (reading.received.nanos(), reading.transmitted.nanos());
            exchanges.push(Exchange { sent, received, transmitted, came_back });
        }
        self.offset = best(&exchanges).unwrap_or_default();
        Ok(())
    }
}

impl Fleet {
    /// These agents; what the exercise makes on them belongs to a session of this name.
    pub fn new(members: Vec<Member>, session: SessionId) -> Self {
        Self { members, session }
    }

    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    pub(super) fn session(&self) -> &SessionId {
        &self.session
    }

    pub(super) async fn reach(&mut self, clock: SystemClock) -> Result<(), String> {
        for member in &mut self.members {
            member.reach(clock).await?;
        }
        Ok(())
    }

    pub(super) async fn open_sessions(&mut self) -> Result<(), String> {
        let spec = SessionSpec { retention: Retention::Ring, ..SessionSpec::default() };
        for at in 0..self.members.len() {
            let (earlier, rest) = self.members.split_at_mut(at);
            let Some(member) = rest.first_mut() else { continue };
            // Two roles may be played by one agent.
            if earlier.iter().any(|earlier| earlier.instance() == member.instance()) {
                return Err(format!(
                    "{} is the same agent as another role: each role needs an agent of its own",
                    member.role
                ));
            }
            // Until it has answered, it may have one, and an interrupt may come.
            member.has_session = true;
            let opened = member.client.open_session(Some(&self.session), spec).await;
            let session = opened.map_err(|error| {
                member.has_session = !matches!(error, ClientError::Refused { .. });
                member.problem(&error)
            })?;
            member.client = session.client().clone();
            member.held = Some(Arc::new(session));
        }
        Ok(())
    }

    /// Waits until an agent's lease is lost: everything that the exercise has made there is gone, or soon will be.
    pub(super) async fn lost(&self) -> String {
        let lost = |member: &Member| {
            let (member, held) = (member.clone(), member.held.clone()?);
            Some(Box::pin(async move { member.problem(&held.lost().await) }))
        };
        let leases: Vec<_> = self.members.iter().filter_map(lost).collect();
        if leases.is_empty() { pending().await } else { select_all(leases).await.0 }
    }

    /// Leaves every agent as it was.
    pub(super) async fn clean_up(&self) {
        let delete = Action::DeleteSession { session: self.session.clone(), allow_missing: true };
        for member in self.members.iter().filter(|member| member.has_session) {
            // An agent that has gone has nothing left to clean.
            let _ = member.client.call(&delete, &CallOptions::default()).await;
        }
    }

    pub(super) fn seen(&self) -> Vec<HostSeen> {
        let seen = |member: &Member| HostSeen {
            role: member.role.clone(),
            agent: member.place.clone(),
            version: member.info.as_ref().map(|info| info.version.clone()).unwrap_or_default(),
            lab_address: member.lab_address(None).to_string(),
            offset: member.offset,
        };
        self.members.iter().map(seen).collect()
    }
}

impl Member {
    fn instance(&self) -> Option<&crate::model::id::InstanceId> {
        self.info.as_ref().map(|info| &info.instance)
    }
}
