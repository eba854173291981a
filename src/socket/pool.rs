//! Bytes of callers that wait for room in the kernel, or for their time.
//!
//! Invariant: all sessions together have no more of them than `limits.pending_write_bytes_total`, and no session takes more than it leaves to
//! the others. So whoever uses as much as there is keeps nobody else from writing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::model::refusal::Refusal;
use crate::socket::cell::lock;

/// What there is for all sessions.
#[derive(Debug)]
pub(super) struct Pool {
    total: u64,
    taken: Mutex<u64>,
}

/// What one session has of it.
#[derive(Debug)]
pub(super) struct Account {
    pool: Arc<Pool>,
    /// Changes only while the pool is locked.
    own: AtomicU64,
}

/// So many bytes that may wait, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Allowance {
    account: Arc<Account>,
    bytes: u64,
}

impl Pool {
    pub(super) fn new(total: u32) -> Arc<Self> {
        Arc::new(Self { total: total.into(), taken: Mutex::new(0) })
    }

    /// How many bytes all sessions have together.
    pub(super) fn taken(&self) -> u64 {
        *lock(&self.taken)
    }
}

impl Account {
    pub(super) fn new(pool: &Arc<Pool>) -> Arc<Self> {
        Arc::new(Self { pool: Arc::clone(pool), own: AtomicU64::new(0) })
    }

    /// Takes so many bytes, where at least as much is left then as the session has.
    pub(super) fn take(self: &Arc<Self>, bytes: u64) -> Result<Allowance, Refusal> {
        let account = Arc::clone(self);
        // Most operations bring none, and need not wait for those that do.
        if bytes > 0 {
            let mut taken = lock(&self.pool.taken);
            let (own, all) = (self.own.load(Ordering::Relaxed) + bytes, *taken + bytes);
            if own > self.pool.total.saturating_sub(all) {
                return Err(Refusal::PendingWritesFull { total: self.pool.total, taken: *taken });
            }
            self.own.store(own, Ordering::Relaxed);
            *taken = all;
        }
        Ok(Allowance { account, bytes })
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        if self.bytes > 0 {
            let mut taken = lock(&self.account.pool.taken);
            self.account.own.fetch_sub(self.bytes, Ordering::Relaxed);
            *taken -= self.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_session_has_half_and_gives_it_back() {
        let pool = Pool::new(100);
        let (a, b) = (Account::new(&pool), Account::new(&pool));
        let half = a.take(50).unwrap();
        assert_eq!(a.take(1).unwrap_err(), Refusal::PendingWritesFull { total: 100, taken: 50 });
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
            let pool = Pool::new(100_000);
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
