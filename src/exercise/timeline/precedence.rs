//! What came before what, and how sure that is.

use crate::exercise::causes::Causes;
use crate::exercise::timeline::{Told, together};

/// Which of two events came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precedence {
    /// The first one, as its host says, or because it led to the other one.
    Certain,
    /// The first one, by so many nanoseconds; that may be wrong by `bound`, which is less.
    Before {
        /// How long before.
        by: i64,
        /// By how much that may be wrong.
        bound: i64,
    },
    /// The other one, as its host says, or because it led to the first one.
    CertainlyAfter,
    /// The other one, by so many nanoseconds.
    After {
        /// How long before.
        by: i64,
        /// By how much that may be wrong.
        bound: i64,
    },
    /// They are nearer to each other than the clocks are known.
    Unordered {
        /// How long the first one came before, by the clocks; negative where it came after.
        by: i64,
        /// By how much that may be wrong.
        bound: i64,
    },
}

/// What came before what.
pub struct Relations<'a> {
    hosts: &'a [Vec<Told>],
    causes: Causes,
}

impl<'a> Relations<'a> {
    /// Those of what hosts have told.
    pub fn of(hosts: &'a [Vec<Told>]) -> Self {
        Self { hosts, causes: Causes::find(hosts) }
    }

    /// Which of two events came first; each is one of a host's.
    pub fn precedence(&self, one: (usize, usize), other: (usize, usize)) -> Precedence {
        let leads_to = |(host, at): (usize, usize), to| self.causes.before(to, self.hosts.len())[host] > at;
        if leads_to(one, other) {
            return Precedence::Certain;
        }
        if leads_to(other, one) {
            return Precedence::CertainlyAfter;
        }
        let told = |(host, at): (usize, usize)| &self.hosts[host][at];
        let (early, late) = (told(one), told(other));
        let by = late.at.saturating_sub(early.at);
        let bound = together((one.0, early.bound), (other.0, late.bound));
        match () {
            () if by > bound => Precedence::Before { by, bound },
            () if by < -bound => Precedence::After { by: -by, bound },
            () => Precedence::Unordered { by, bound },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exercise::timeline::samples::{bounded, client, host, sent, server};

    #[test]
    fn what_comes_first_is_said_by_hosts_by_causes_and_by_clocks_within_their_bounds() {
        let hosts = [client([10, 30, 500]), server([11, 600, 700]), host(vec![(40, sent(1)), (900, sent(1))])];
        let hosts = bounded(&hosts, &[20, 20, 20]);
        let relations = Relations::of(&hosts);
        for (one, other, expected) in [
            ((0, 0), (0, 1), Precedence::Certain),
            // By the connect, which led to the connection.
            ((0, 0), (1, 1), Precedence::Certain),
            ((1, 2), (0, 1), Precedence::CertainlyAfter),
            ((0, 1), (2, 0), Precedence::Unordered { by: 10, bound: 40 }),
            ((2, 0), (0, 1), Precedence::Unordered { by: -10, bound: 40 }),
            ((2, 0), (0, 2), Precedence::Before { by: 460, bound: 40 }),
            ((2, 1), (1, 2), Precedence::After { by: 200, bound: 40 }),
        ] {
            assert_eq!(relations.precedence(one, other), expected, "{one:?} {other:?}");
        }
    }
}
