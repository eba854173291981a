//! Places of connections: how many there may be at a time, in all and of one source or principal.
//!
//! Invariant: a connection has one place, among those that have not sent a request with credentials yet or among those that have; so however
//! many there are of the first, they take nothing from the second.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::id::Principal;
use crate::model::limits::Limits;
use crate::model::refusal::Quota;

/// Counts connections, in all and by whose they are. Cheap to clone.
#[derive(Debug, Clone)]
struct Places<K> {
    all: Quota,
    of_one: Quota,
    counts: Arc<Mutex<Counts<K>>>,
}

#[derive(Debug)]
struct Counts<K> {
    all: u64,
    by_key: HashMap<K, u64>,
}

/// One connection's place. It is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place<K: Eq + Hash> {
    key: K,
    counts: Arc<Mutex<Counts<K>>>,
}

/// The place of a connection that has not sent a request with credentials yet.
pub(super) type Login = Place<IpAddr>;

/// The places of those connections, by where they come from.
#[derive(Debug, Clone)]
pub(super) struct Logins(Places<IpAddr>);

/// The places of those that have, by who comes.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    of_all: Places<Principal>,
    /// Nobody else gets these, so that whoever runs the agent can come in and see who has taken the others.
    of_owner: Places<Principal>,
}

impl Logins {
    pub(super) fn new(limits: &Limits) -> Self {
        Self(Places::new(
            Quota { limit: "limits.logins", value: limits.logins.into() },
            Quota { limit: "limits.logins_per_source", value: limits.logins_per_source.into() },
        ))
    }

    /// How many there are now: in all, and from the source that most come from.
    pub(super) fn count(&self) -> (u64, u64) {
        self.0.count()
    }

    /// A place for a connection from there, or the limit that keeps it out.
    pub(super) fn take(&self, from: IpAddr) -> Result<Login, Quota> {
        self.0.take(source(from), false)
    }
}

impl Connections {
    pub(super) fn new(limits: &Limits) -> Self {
        let reserved = Quota { limit: "limits.reserved_connections", value: limits.reserved_connections.into() };
        Self {
            of_all: Places::new(
                Quota { limit: "limits.connections", value: limits.connections.into() },
                Quota { limit: "limits.connections_per_principal", value: limits.connections_per_principal.into() },
            ),
            of_owner: Places::new(reserved, reserved),
        }
    }

    /// How many there are now, those in reserved places left out: in all, and of the principal that has most.
    pub(super) fn count(&self) -> (u64, u64) {
        self.of_all.count()
    }

    /// How many of the reserved places are taken.
    pub(super) fn reserved(&self) -> u64 {
        self.of_owner.count().0
    }

    /// A place for a connection of a principal's, or the limit that keeps it out. The user that runs the agent is not kept out by his own
    /// limit, and has reserved places where there are no others.
    pub(super) fn take(&self, who: &Principal) -> Result<Place<Principal>, Quota> {
        let is_owner = *who == Principal::owner();
        let place = self.of_all.take(who.clone(), is_owner);
        if is_owner { place.or_else(|_| self.of_owner.take(who.clone(), true)) } else { place }
    }
}

impl<K: Eq + Hash + Clone> Places<K> {
    fn new(all: Quota, of_one: Quota) -> Self {
        Self { all, of_one, counts: Arc::new(Mutex::new(Counts { all: 0, by_key: HashMap::new() })) }
    }

    fn count(&self) -> (u64, u64) {
        let counts = lock(&self.counts);
        (counts.all, counts.by_key.values().copied().max().unwrap_or(0))
    }

    fn take(&self, key: K, as_many_as_there_are: bool) -> Result<Place<K>, Quota> {
        let mut counts = lock(&self.counts);
        let of_one = counts.by_key.get(&key).copied().unwrap_or(0);
        if counts.all >= self.all.value {
            return Err(self.all);
        }
        if of_one >= self.of_one.value && !as_many_as_there_are {
            return Err(self.of_one);
        }
        counts.all += 1;
        counts.by_key.insert(key.clone(), of_one + 1);
        Ok(Place { key, counts: Arc::clone(&self.counts) })
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        counts.all -= 1;
        if let Some(of_one) = counts.by_key.get_mut(&self.key) {
            *of_one -= 1;
            if *of_one == 0 {
                counts.by_key.remove(&self.key);
            }
        }
    }
}

/// What counts as one source: an IPv4 address, or the 64 bits of an IPv6 address that a host does not choose itself. RFC 4291, section 2.5.1.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}

fn lock<K>(counts: &Mutex<Counts<K>>) -> MutexGuard<'_, Counts<K>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_and_all_sources_have_their_limits() {
        let logins = Logins::new(&Limits { logins: 5, logins_per_source: 2, ..Limits::default() });
        let from = |address: &str| logins.take(address.parse().unwrap()).map_err(|quota| quota.limit);
        let (one, _two) = (from("192.0.2.1").unwrap(), from("::ffff:192.0.2.1").unwrap());
        assert_eq!(from("192.0.2.1").unwrap_err(), "limits.logins_per_source");
        // A host has a whole /64 to choose from.
        let _three = from("2001:db8::1").unwrap();
        let _four = from("2001:db8::2:0:0:1").unwrap();
        assert_eq!(from("2001:db8::3").unwrap_err(), "limits.logins_per_source");
        let _five = from("2001:db8:0:1::1").unwrap();
        assert_eq!(from("192.0.2.9").unwrap_err(), "limits.logins");
        drop(one);
        drop(from("192.0.2.1").unwrap());
        assert_eq!(lock(&logins.0.counts).by_key.len(), 3);
        assert_eq!(logins.count(), (4, 2));
    }

    #[test]
    fn a_principal_has_a_limit_and_the_owner_all_and_more() {
        let limits =
            Limits { connections: 4, reserved_connections: 2, connections_per_principal: 1, ..Limits::default() };
        let connections = Connections::new(&limits);
        let take = |who: &str| connections.take(&Principal::parse(who).unwrap()).map_err(|quota| quota.limit);
        let _alice = take("alice").unwrap();
        assert_eq!(take("alice").unwrap_err(), "limits.connections_per_principal");
        let mut owners = [(); 5].map(|()| Some(take("owner").unwrap()));
        assert_eq!(take("owner").unwrap_err(), "limits.reserved_connections");
        assert_eq!((connections.count(), connections.reserved()), ((4, 3), 2));
        // What is reserved is for nobody else, free or not.
        owners[4] = None;
        assert_eq!(take("bob").unwrap_err(), "limits.connections");
        owners[0] = None;
        let _bob = take("bob").unwrap();
        assert_eq!((connections.count(), connections.reserved()), ((4, 2), 1));
    }

    /// Whoever has shown nothing can use up no more than a part, and one source or principal no more than a part of that.
    #[test]
    fn the_usual_limits_leave_room_for_others() {
        let limits = Limits::default();
        assert!(limits.logins_per_source * 2 <= limits.logins && limits.logins * 4 <= limits.connections);
        assert!(limits.connections_per_principal * 4 <= limits.connections);
    }
}
