//! What there is once for all sessions of an agent: bytes that wait for room in the kernel or for their time, and watchers.
//!
//! Invariant: all sessions together have no more of it than its limit says, and no session takes more than it leaves to the others. So whoever
//! uses as much as there is keeps nobody else from writing, or from watching.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::model::refusal::Refusal;
use crate::socket::cell::lock;

/// What there is for all sessions.
#[derive(Debug)]
pub(super) struct Pool {
    total: u64,
    taken: Mutex<u64>,
    full: Full,
}

/// Says that there is no more: how much there may be, and how much is taken.
type Full = fn(u64, u64) -> Refusal;

/// What one session has of it.
#[derive(Debug)]
pub(super) struct Account {
    pool: Arc<Pool>,
    /// Changes only while the pool is locked.
    own: AtomicU64,
}

/// So much of it, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Allowance {
    account: Arc<Account>,
    amount: u64,
}

impl Pool {
    pub(super) fn new(total: u32, full: Full) -> Arc<Self> {
        Arc::new(Self { total: total.into(), taken: Mutex::new(0), full })
    }

    /// How much all sessions have together.
    pub(super) fn taken(&self) -> u64 {
        *lock(&self.taken)
    }
}

impl Account {
    pub(super) fn new(pool: &Arc<Pool>) -> Arc<Self> {
        Arc::new(Self { pool: Arc::clone(pool), own: AtomicU64::new(0) })
    }

    /// Takes so much, where at least as much is left then as the session has.
    pub(super) fn take(self: &Arc<Self>, amount: u64) -> Result<Allowance, Refusal> {
        let account = Arc::clone(self);
        // Most operations bring no bytes, and need not wait for those that do.
        if amount > 0 {
            let mut taken = lock(&self.pool.taken);
            let (own, all) = (self.own.load(Ordering::Relaxed) + amount, *taken + amount);
            if own > self.pool.total.saturating_sub(all) {
                return Err((self.pool.full)(self.pool.total, *taken));
            }
            self.own.store(own, Ordering::Relaxed);
            *taken = all;
        }
        Ok(Allowance { account, amount })
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        if self.amount > 0 {
            let mut taken = lock(&self.account.pool.taken);
            self.account.own.fetch_sub(self.amount, Ordering::Relaxed);
            *taken -= self.amount;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(total: u64, taken: u64) -> Refusal {
        Refusal::PendingWritesFull { total, taken }
    }

    #[test]
    fn one_session_has_half_and_gives_it_back() {
        let pool = Pool::new(100, full);
        let (a, b) = (Account::new(&pool), Account::new(&pool));
        let half = a.take(50).unwrap();
        assert_eq!(a.take(1).unwrap_err(), full(100, 50));
        a.take(0).expect("nothing is always to be had");
        assert!(b.take(26).is_err() && pool.taken() == 50, "what is refused is not taken");
        let quarter = b.take(25).unwrap();
        assert_eq!(pool.taken(), 75);
        a.take(0).expect("also when others have come");
        drop(half);
        a.take(25).expect("it is there again");
        drop(quarter);
        assert_eq!(pool.taken(), 0);
    }

    #[test]
    fn greedy_sessions_come_to_have_the_same_and_leave_as_much() {
        for count in 1..20 {
            let pool = Pool::new(100_000, full);
            let accounts: Vec<_> = (0..count).map(|_| Account::new(&pool)).collect();
            let mut kept = Vec::new();
            loop {
                let more: Vec<_> = accounts.iter().filter_map(|account| account.take(10).ok()).collect();
                if more.is_empty() {
                    break;
                }
                kept.extend(more);
            }
            let left = 100_000 - pool.taken();
            let share = 100_000 / (count + 1);
            assert!(left + 10 * count >= share && left <= share + 20 * count, "{count}: {left} of {share}");
            Account::new(&pool).take(left / 2).expect("whoever comes new can write");
        }
    }
}
