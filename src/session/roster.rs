//! The sessions of all principals.
//!
//! Invariant: nothing that one principal does shows in what another one finds.

use std::collections::HashMap;

use crate::model::id::{Principal, SessionId};
use crate::model::refusal::{Quota, Refusal};

/// Sessions by principal and name, in the order in which they were made.
#[derive(Debug)]
pub struct Roster<S> {
    limit: u32,
    sessions: HashMap<Principal, Vec<(SessionId, S)>>,
    minted: u64,
}

impl<S: Clone> Roster<S> {
    /// No sessions yet.
    pub fn new(limit: u32) -> Self {
        Self { limit, sessions: HashMap::new(), minted: 0 }
    }

    /// A session, if the principal has it.
    pub fn find(&self, principal: &Principal, id: &SessionId) -> Option<S> {
        self.of(principal).iter().find(|(known, _)| known == id).map(|(_, session)| session.clone())
    }

    /// Adds a session, made under the name that was asked for or one that is minted.
    pub fn add(
        &mut self,
        principal: &Principal,
        id: Option<SessionId>,
        make: impl FnOnce(SessionId) -> S,
    ) -> Result<S, Refusal> {
        // The default session is always there, so its room is kept for it.
        let others = self.of(principal).iter().filter(|(known, _)| !known.is_default()).count();
        let is_default = id.as_ref().is_some_and(SessionId::is_default);
        if !is_default && others + 1 >= self.limit as usize {
            return Err(Refusal::QuotaExceeded(Quota { limit: "limits.sessions", value: self.limit.into() }));
        }
        let id = id.unwrap_or_else(|| self.mint(principal));
        if self.find(principal, &id).is_some() {
            return Err(Refusal::SessionExists(id));
        }
        let session = make(id.clone());
        self.sessions.entry(principal.clone()).or_default().push((id, session.clone()));
        Ok(session)
    }

    fn mint(&mut self, principal: &Principal) -> SessionId {
        loop {
            self.minted += 1;
            let id = SessionId::minted(self.minted);
            if self.find(principal, &id).is_none() {
                return id;
            }
        }
    }

    /// Forgets a session.
    pub fn remove(&mut self, principal: &Principal, id: &SessionId) -> Option<S> {
        let sessions = self.sessions.get_mut(principal)?;
        let at = sessions.iter().position(|(known, _)| known == id)?;
        Some(sessions.remove(at).1)
    }

    /// The sessions of a principal, in the order in which they were made.
    pub fn of(&self, principal: &Principal) -> &[(SessionId, S)] {
        self.sessions.get(principal).map_or(&[], Vec::as_slice)
    }

    /// All sessions.
    pub fn all(&self) -> Vec<S> {
        self.sessions.values().flatten().map(|(_, session)| session.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Option<SessionId> {
        Some(SessionId::parse(text).unwrap())
    }

    #[test]
    fn sessions_are_made_found_and_forgotten() {
        let owner = Principal::owner();
        let mut roster = Roster::new(3);
        assert_eq!(roster.add(&owner, id("lab"), |id| id.to_string()), Ok("lab".to_owned()));
        assert_eq!(roster.add(&owner, id("lab"), |_| unreachable!()), Err(Refusal::SessionExists(id("lab").unwrap())));
        assert_eq!(roster.add(&owner, None, |id| id.to_string()), Ok("session-1".to_owned()));
        assert!(matches!(roster.add(&owner, None, |_| unreachable!()), Err(Refusal::QuotaExceeded(_))));
        roster.add(&owner, id(""), |id| id.to_string()).expect("the default session always has room");
        assert_eq!(roster.remove(&owner, &id("lab").unwrap()), Some("lab".to_owned()));
        assert_eq!(roster.find(&owner, &id("lab").unwrap()), None);
        assert_eq!(roster.all().len(), 2);
    }
}
