//! What really happened to a session, and what a watcher of it was told.

use std::collections::HashMap;
use std::sync::Arc;

use farsock::model::event::{EventFilter, EventRecord};
use farsock::model::id::{RequestId, WatcherId};

use super::messages::Outcome;

/// One event that really happened.
#[derive(Debug, Clone)]
pub struct Fact {
    pub record: Arc<EventRecord>,
    /// The number of the piece that it was appended with, under one lock.
    pub piece: u64,
}

/// What a watcher sees.
#[derive(Debug, Clone)]
pub enum Seen {
    /// A stream has begun: after this number, or with the oldest that is kept, which is that one; zero if there is none.
    Opened { after: Option<u64>, oldest: u64 },
    /// All that it wants of a range.
    Batch { from: u64, through: u64, records: Vec<Arc<EventRecord>> },
    /// Numbers that are gone.
    Gap { first: u64, last: u64 },
    /// Nothing more is to come through this number.
    Bookmark { through: u64 },
}

/// What one watcher has seen of one session, over as many streams as it took.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub wanted: EventFilter,
    /// From this number on, nothing may be missing: it is held for the watcher.
    pub held_from: Option<u64>,
    pub seen: Vec<Seen>,
}

/// What is known of a session beside what the agent says of it.
#[derive(Debug, Default)]
pub struct Ledger {
    pub facts: Vec<Fact>,
    pub pieces: u64,
    pub ttl: u64,
    /// When the last renewal was asked for that was granted, in milliseconds.
    pub granted: u64,
    /// Its lease is over, and the first socket may have been closed.
    pub over: bool,
    /// The agent has crashed, and nothing more is to come.
    pub crashed: bool,
    /// What each request has done, and how many others had ended by then.
    pub done: HashMap<RequestId, Vec<(Outcome, u64)>>,
    pub ends: u64,
    /// From where on each named watcher holds it.
    pub held_from: HashMap<WatcherId, u64>,
}

impl Ledger {
    pub fn head(&self) -> u64 {
        self.facts.len() as u64
    }
}
