//! Connections that have not shown credentials yet: how many there may be at a time, in all and from one source.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts connections until they have logged in. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Logins {
    most: u32,
    most_of_source: u32,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    all: u32,
    by_source: HashMap<IpAddr, u32>,
}

/// One connection's place. It is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Login {
    source: IpAddr,
    counts: Arc<Mutex<Counts>>,
}

impl Logins {
    pub(super) fn new(most: u32, most_of_source: u32) -> Self {
        Self { most, most_of_source, counts: Arc::default() }
    }

    /// How many there are now: in all, and from the source that most come from.
    pub(super) fn count(&self) -> (u32, u32) {
        let counts = lock(&self.counts);
        (counts.all, counts.by_source.values().copied().max().unwrap_or(0))
    }

    /// A place for a connection from there, or the limit that keeps it out.
    pub(super) fn take(&self, from: IpAddr) -> Result<Login, &'static str> {
        let source = source(from);
        let mut counts = lock(&self.counts);
        if counts.all >= self.most {
            return Err("limits.logins");
        }
        let of_source = counts.by_source.entry(source).or_default();
        if *of_source >= self.most_of_source {
            return Err("limits.logins_per_source");
        }
        *of_source += 1;
        counts.all += 1;
        Ok(Login { source, counts: Arc::clone(&self.counts) })
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        counts.all -= 1;
        if let Some(of_source) = counts.by_source.get_mut(&self.source) {
            *of_source -= 1;
            if *of_source == 0 {
                counts.by_source.remove(&self.source);
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

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_and_all_sources_have_their_limits() {
        let logins = Logins::new(5, 2);
        let from = |address: &str| logins.take(address.parse().unwrap());
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
        assert_eq!(lock(&logins.counts).by_source.len(), 3);
        assert_eq!(lock(&logins.counts).all, 4);
    }
}
