//! Connections for streams of bytes: as many as it takes, none before there is a stream.
//!
//! Invariant: what the streams of one connection have granted together stays below its HTTP/2 window, so that a stream that nobody reads
//! never holds up the others.

use std::sync::{Arc, Mutex, PoisonError};

use crate::client::connect::{BULK_WINDOWS, Dialer};
use crate::client::door::{Credentials, Door};

/// How many bytes an agent may send on a stream that nobody has read.
pub(super) const READ_CREDIT: u32 = 512 << 10;

/// How many streams one connection has.
const STREAMS: usize = (BULK_WINDOWS.1 / READ_CREDIT - 1) as usize;

/// The connections to one agent that carry bytes.
pub(super) struct Bulk {
    dialer: Dialer,
    credentials: Credentials,
    lanes: Mutex<Vec<Lane>>,
}

/// One connection. Each of its streams has a seat, and the lane itself has one.
struct Lane {
    door: Door,
    seats: Arc<()>,
}

/// A stream's place on a connection. It is free again when this is dropped.
pub(super) struct Seat(#[allow(dead_code, reason = "it is only counted")] Arc<()>);

impl Lane {
    fn streams(&self) -> usize {
        Arc::strong_count(&self.seats) - 1
    }
}

impl Bulk {
    pub(super) fn new(dialer: Dialer, credentials: Credentials) -> Self {
        Self { dialer, credentials, lanes: Mutex::default() }
    }

    /// A connection of its own, for calls.
    pub(super) fn another_for_calls(&self) -> Door {
        Door::new(self.dialer.channel_for_calls(), &self.credentials)
    }

    /// A connection with a place on it. One is kept when it has no streams any more, the others are ended.
    pub(super) fn reserve(&self) -> (Door, Seat) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = 0;
        lanes.retain(|lane| {
            kept += 1;
            kept == 1 || lane.streams() > 0
        });
        let free = lanes.iter().position(|lane| lane.streams() < STREAMS).unwrap_or_else(|| {
            let door = Door::new(self.dialer.channel_for_bulk(), &self.credentials);
            lanes.push(Lane { door, seats: Arc::default() });
            lanes.len() - 1
        });
        let lane = &lanes[free];
        (lane.door.clone(), Seat(Arc::clone(&lane.seats)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_come_and_go_with_their_streams() {
        let bulk = Bulk::new(
            Dialer::from_fn(async || Err::<tokio::io::DuplexStream, _>(std::io::ErrorKind::Other.into())),
            Credentials::none(),
        );
        let lanes = || bulk.lanes.lock().unwrap().iter().map(Lane::streams).collect::<Vec<_>>();
        let mut seats: Vec<Seat> = (0..2 * STREAMS + 1).map(|_| bulk.reserve().1).collect();
        assert_eq!(lanes(), [STREAMS, STREAMS, 1]);
        seats.drain(..STREAMS);
        assert_eq!(lanes(), [0, STREAMS, 1]);
        seats.pop();
        seats.push(bulk.reserve().1);
        assert_eq!(lanes(), [1, STREAMS], "one that nobody uses any more is ended");
        assert!(STREAMS * (READ_CREDIT as usize) < BULK_WINDOWS.1 as usize);
    }
}
