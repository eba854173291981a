//! The sessions of all principals.
//!
//! Invariant: nothing that one principal does shows in what another one finds.
//!
//! A session that has expired stays for a while, to be read; it takes no room from those that can be used.

use std::collections::{HashMap, VecDeque};

use crate::model::id::{Principal, SessionId};
use crate::model::refusal::{Quota, Refusal};

/// Sessions by principal and name, in the order in which they were made.
#[derive(Debug)]
pub struct Roster<S> {
    limit: u32,
    expired_limit: u32,
    owned: HashMap<Principal, Owned<S>>,
    minted: u64,
}

/// The sessions of one principal.
#[derive(Debug)]
struct Owned<S> {
    /// How many have been made: each has the number of its turn, which no other one of them gets.
    made: u64,
    sessions: Vec<Entry<S>>,
    /// The numbers of those that have expired, in the order in which they did.
    expired: VecDeque<u64>,
}

#[derive(Debug)]
struct Entry<S> {
    number: u64,
    id: SessionId,
    session: S,
}

impl<S: Clone> Roster<S> {
    /// No sessions yet.
    pub fn new(limit: u32, expired_limit: u32) -> Self {
        Self { limit, expired_limit, owned: HashMap::new(), minted: 0 }
    }

    /// A session, if the principal has it.
    pub fn find(&self, principal: &Principal, id: &SessionId) -> Option<S> {
        self.of(principal).iter().find(|entry| entry.id == *id).map(|entry| entry.session.clone())
    }

    /// Whether the principal may have one more session, of this name.
    fn has_room(&self, principal: &Principal, id: Option<&SessionId>) -> Result<(), Refusal> {
        // The default session is always there, so its room is kept for it.
        let expired = self.owned.get(principal).map_or(0, |owned| owned.expired.len());
        let others = self.of(principal).iter().filter(|entry| !entry.id.is_default()).count() - expired;
        let is_default = id.is_some_and(SessionId::is_default);
        if !is_default && others + 1 >= self.limit as usize {
            return Err(Refusal::QuotaExceeded(Quota { limit: "limits.sessions", value: self.limit.into() }));
        }
        Ok(())
    }

    /// Adds a session, made under the name that was asked for or one that is minted, and tells its number. Made last, when nothing here
    /// speaks against it; what `make` refuses is not added.
    pub fn add(
        &mut self,
        principal: &Principal,
        id: Option<SessionId>,
        make: impl FnOnce(SessionId) -> Result<S, Refusal>,
    ) -> Result<(u64, S), Refusal> {
        self.has_room(principal, id.as_ref())?;
        let id = id.unwrap_or_else(|| self.mint(principal));
        if self.find(principal, &id).is_some() {
            return Err(Refusal::SessionExists(id));
        }
        let session = make(id.clone())?;
        let owned = self.owned.entry(principal.clone()).or_insert_with(Owned::new);
        owned.made += 1;
        owned.sessions.push(Entry { number: owned.made, id, session: session.clone() });
        Ok((owned.made, session))
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
        let number = self.of(principal).iter().find(|entry| entry.id == *id)?.number;
        self.forget(principal, number)
    }

    /// Forgets the session of this number.
    pub fn forget(&mut self, principal: &Principal, number: u64) -> Option<S> {
        let owned = self.owned.get_mut(principal)?;
        let at = owned.sessions.iter().position(|entry| entry.number == number)?;
        owned.expired.retain(|expired| *expired != number);
        Some(owned.sessions.remove(at).session)
    }

    /// Notes that the session of this number has expired. Those that have to make room for it are forgotten.
    pub fn expire(&mut self, principal: &Principal, number: u64) -> Vec<S> {
        let Some(owned) = self.owned.get_mut(principal) else { return Vec::new() };
        // It may have been deleted meanwhile.
        if owned.sessions.iter().any(|entry| entry.number == number) {
            owned.expired.push_back(number);
        }
        let excess = owned.expired.len().saturating_sub(self.expired_limit as usize);
        let oldest: Vec<u64> = owned.expired.iter().take(excess).copied().collect();
        oldest.into_iter().filter_map(|number| self.forget(principal, number)).collect()
    }

    /// The sessions of a principal after a number, at most so many, in the order in which they were made, each with its number.
    pub fn page(&self, principal: &Principal, after: u64, size: usize) -> Vec<(u64, S)> {
        let later = self.of(principal).iter().filter(|entry| entry.number > after);
        later.take(size).map(|entry| (entry.number, entry.session.clone())).collect()
    }

    /// The sessions of all principals after the one of this principal with this number, at most so many, in the order of principals' names
    /// and then in that in which they were made, each with its number.
    pub fn page_of_all(&self, after: Option<&(Principal, u64)>, size: usize) -> Vec<(u64, S)> {
        let mut principals: Vec<&Principal> = self.owned.keys().collect();
        principals.sort_unstable_by_key(|principal| principal.as_str());
        let of = |principal: &Principal| {
            let least = match after {
                Some((last, _)) if principal.as_str() < last.as_str() => None,
                Some((last, number)) if principal == last => Some(*number),
                _ => Some(0),
            };
            least.map(|least| self.page(principal, least, size)).unwrap_or_default()
        };
        principals.into_iter().flat_map(of).take(size).collect()
    }

    /// How many sessions the principal has that has most of them, those not counted that have expired.
    pub fn most_of_one(&self) -> usize {
        let usable = |owned: &Owned<S>| owned.sessions.len() - owned.expired.len();
        self.owned.values().map(usable).max().unwrap_or(0)
    }

    /// All sessions.
    pub fn all(&self) -> Vec<S> {
        self.owned.values().flat_map(|owned| &owned.sessions).map(|entry| entry.session.clone()).collect()
    }

    /// All sessions, each with whose it is.
    pub fn all_owned(&self) -> Vec<(Principal, S)> {
        let of = |(principal, owned): (&Principal, &Owned<S>)| {
            owned.sessions.iter().map(|entry| (principal.clone(), entry.session.clone())).collect::<Vec<_>>()
        };
        self.owned.iter().flat_map(of).collect()
    }

    fn of(&self, principal: &Principal) -> &[Entry<S>] {
        self.owned.get(principal).map_or(&[], |owned| &owned.sessions)
    }
}

impl<S> Owned<S> {
    const fn new() -> Self {
        Self { made: 0, sessions: Vec::new(), expired: VecDeque::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Option<SessionId> {
        Some(SessionId::parse(text).unwrap())
    }

    fn named(id: SessionId) -> Result<String, Refusal> {
        Ok(id.to_string())
    }

    #[test]
    fn sessions_are_made_found_and_forgotten() {
        let owner = Principal::owner();
        let mut roster = Roster::new(3, 0);
        assert_eq!(roster.add(&owner, id("lab"), named), Ok((1, "lab".to_owned())));
        assert_eq!(roster.add(&owner, id("lab"), |_| unreachable!()), Err(Refusal::SessionExists(id("lab").unwrap())));
        assert_eq!(roster.add(&owner, None, named), Ok((2, "session-1".to_owned())));
        assert!(matches!(roster.add(&owner, None, |_| unreachable!()), Err(Refusal::QuotaExceeded(_))));
        let refused = roster.add(&owner, id(""), |_| Err(Refusal::Draining));
        assert_eq!((refused, roster.all().len()), (Err(Refusal::Draining), 2), "what cannot be made is not added");
        roster.add(&owner, id(""), named).expect("the default session always has room");
        assert_eq!(roster.remove(&owner, &id("lab").unwrap()), Some("lab".to_owned()));
        assert_eq!(roster.find(&owner, &id("lab").unwrap()), None);
        assert_eq!(roster.all().len(), 2);
    }

    #[test]
    fn expired_sessions_take_no_room_and_the_oldest_one_goes_first() {
        let owner = Principal::owner();
        let mut roster = Roster::new(2, 2);
        let mut add = |name| roster.add(&owner, id(name), named).map(|(number, _)| number);
        let first = add("a").unwrap();
        assert!(matches!(add("b"), Err(Refusal::QuotaExceeded(_))));
        assert_eq!(roster.expire(&owner, first), Vec::<String>::new());
        for (name, forgotten) in [("b", None), ("c", Some("a")), ("d", Some("b"))] {
            let (number, _) = roster.add(&owner, id(name), named).unwrap();
            assert!(roster.add(&owner, id("e"), |_| unreachable!()).is_err(), "{name} can still be used");
            assert_eq!(roster.expire(&owner, number), forgotten.map(str::to_owned).into_iter().collect::<Vec<_>>());
        }
        assert_eq!(roster.all(), ["c", "d"]);
        roster.remove(&owner, &id("c").unwrap());
        let (number, _) = roster.add(&owner, id("e"), named).unwrap();
        assert_eq!(roster.expire(&owner, number), Vec::<String>::new(), "a deleted one counts no more");
        assert_eq!(roster.expire(&owner, first), Vec::<String>::new(), "what is forgotten cannot expire");
        assert_eq!(roster.all(), ["d", "e"]);
    }

    #[test]
    fn pages_of_all_show_each_session_once_by_the_names_of_their_owners() {
        let mut roster = Roster::new(9, 0);
        let who = |name: &str| Principal::parse(name).unwrap();
        for (owner, name) in [("bob", "x"), ("alice", "a"), ("bob", "y"), ("alice", "b"), ("carol", "c")] {
            roster.add(&who(owner), id(name), |id| Ok((who(owner), id.to_string()))).unwrap();
        }
        for size in 1..7 {
            let (mut after, mut seen) = (None, Vec::new());
            loop {
                let page = roster.page_of_all(after.as_ref(), size);
                assert!(page.len() <= size);
                let Some((number, (owner, _))) = page.last() else { break };
                after = Some((owner.clone(), *number));
                seen.extend(page.into_iter().map(|(_, (_, name))| name));
            }
            assert_eq!(seen, ["a", "b", "x", "y", "c"], "{size}");
        }
    }

    #[test]
    fn a_page_goes_on_after_a_session_that_has_gone() {
        let owner = Principal::owner();
        let mut roster = Roster::new(9, 0);
        for name in ["a", "b", "c"] {
            roster.add(&owner, id(name), named).unwrap();
        }
        let page = |roster: &Roster<String>, after| roster.page(&owner, after, 2);
        assert_eq!(page(&roster, 0), [(1, "a".to_owned()), (2, "b".to_owned())]);
        roster.remove(&owner, &id("b").unwrap());
        roster.remove(&owner, &id("c").unwrap());
        roster.add(&owner, id("b"), named).unwrap();
        assert_eq!(page(&roster, 2), [(4, "b".to_owned())]);
    }
}
