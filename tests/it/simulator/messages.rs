//! What simulated controllers and watchers say to a simulated agent, and the other way round.

use std::sync::Arc;

use farsock::model::event::{EventFilter, EventRecord};
use farsock::model::id::{InstanceId, RequestId, SessionId, SocketId, WatcherId};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Act {
    CreateSession {
        id: SessionId,
        ttl: u64,
        lossless: bool,
    },
    Open(SocketId),
    /// The guard says which socket of that name is meant, and where its stream stands.
    Write {
        socket: SocketId,
        size: u64,
        guard: Option<(u64, u64)>,
    },
    Receive(SocketId),
    Close(SocketId),
    Reset,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Session(usize),
    Opened(u64),
    Written(u64),
    Received(Option<u64>),
    Closed,
    Reset(usize),
    Canceled,
}

pub type Answered = Result<Outcome, &'static str>;

/// What somebody asks of the agent.
#[derive(Debug, Clone)]
pub enum Ask {
    Call {
        session: SessionId,
        request: RequestId,
        act: Act,
        instance: Option<InstanceId>,
    },
    Cancel {
        session: SessionId,
        request: RequestId,
    },
    Renew {
        session: SessionId,
        sent: u64,
    },
    Ack {
        session: SessionId,
        watcher: WatcherId,
        through: u64,
    },
    Watch(Box<Subscription>),
    /// A frame of a stream was taken.
    Credit(u64),
}

#[derive(Debug, Clone)]
pub struct Subscription {
    pub stream: u64,
    pub session: SessionId,
    pub name: Option<WatcherId>,
    pub after: Option<u64>,
    pub instance: Option<InstanceId>,
    pub filter: EventFilter,
}

/// What a stream carries.
#[derive(Debug, Clone)]
pub enum Frame {
    Opened { key: usize, instance: InstanceId, oldest: u64, head: u64, after: Option<u64>, kept: u64 },
    Batch { from: u64, through: u64, records: Vec<Arc<EventRecord>> },
    Gap { first: u64, last: u64 },
    Heartbeat { through: u64 },
    Ended,
    Refused(&'static str),
}
