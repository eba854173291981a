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
    owned: HashMap<Principal, Owned<S>>,
    minted: u64,
}

/// The sessions of one principal.
#[derive(Debug)]
struct Owned<S> {
    /// How many have been made: each has the number of its turn, which no other one of them gets.
    made: u64,
    sessions: Vec<(u64, SessionId, S)>,
}

impl<S: Clone> Roster<S> {
    /// No sessions yet.
    pub fn new(limit: u32) -> Self {
        Self { limit, owned: HashMap::new(), minted: 0 }
    }

    /// A session, if the principal has it.
    pub fn find(&self, principal: &Principal, id: &SessionId) -> Option<S> {
        self.of(principal).iter().find(|(_, known, _)| known == id).map(|(_, _, session)| session.clone())
    }

    /// Adds a session, made under the name that was asked for or one that is minted.
    pub fn add(
        &mut self,
        principal: &Principal,
        id: Option<SessionId>,
        make: impl FnOnce(SessionId) -> S,
    ) -> Result<S, Refusal> {
        // The default session is always there, so its room is kept for it.
        let others = self.of(principal).iter().filter(|(_, known, _)| !known.is_default()).count();
        let is_default = id.as_ref().is_some_and(SessionId::is_default);
        if !is_default && others + 1 >= self.limit as usize {
            return Err(Refusal::QuotaExceeded(Quota { limit: "limits.sessions", value: self.limit.into() }));
        }
        let id = id.unwrap_or_else(|| self.mint(principal));
        if self.find(principal, &id).is_some() {
            return Err(Refusal::SessionExists(id));
        }
        let session = make(id.clone());
        let owned = self.owned.entry(principal.clone()).or_insert_with(|| Owned { made: 0, sessions: Vec::new() });
        owned.made += 1;
        owned.sessions.push((owned.made, id, session.clone()));
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
        let sessions = &mut self.owned.get_mut(principal)?.sessions;
        let at = sessions.iter().position(|(_, known, _)| known == id)?;
        Some(sessions.remove(at).2)
    }

    /// The sessions of a principal after a number, at most so many, in the order in which they were made, each with its number.
    pub fn page(&self, principal: &Principal, after: u64, size: usize) -> Vec<(u64, S)> {
        let later = self.of(principal).iter().filter(|(number, _, _)| *number > after);
        later.take(size).map(|(number, _, session)| (*number, session.clone())).collect()
    }

    /// All sessions.
    pub fn all(&self) -> Vec<S> {
        self.owned.values().flat_map(|owned| &owned.sessions).map(|(_, _, session)| session.clone()).collect()
    }

    fn of(&self, principal: &Principal) -> &[(u64, SessionId, S)] {
        self.owned.get(principal).map_or(&[], |owned| &owned.sessions)
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

    #[test]
    fn a_page_goes_on_after_a_session_that_has_gone() {
        let owner = Principal::owner();
        let mut roster = Roster::new(9);
        for name in ["a", "b", "c"] {
            roster.add(&owner, id(name), |id| id.to_string()).unwrap();
        }
        let page = |roster: &Roster<String>, after| roster.page(&owner, after, 2);
        assert_eq!(page(&roster, 0), [(1, "a".to_owned()), (2, "b".to_owned())]);
        roster.remove(&owner, &id("b").unwrap());
        roster.remove(&owner, &id("c").unwrap());
        roster.add(&owner, id("b"), |id| id.to_string()).unwrap();
        assert_eq!(page(&roster, 2), [(4, "b".to_owned())]);
    }
}
