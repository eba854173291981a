//! Taking payloads out of the log, one after the other: ReceiveSocket under EVENTS delivery.
//!
//! Invariant: each payload of a socket is taken once, in order, or told as lost; nothing that was taken is lost when a caller goes away.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::eventlog::cursor::{Cursor, Next};
use crate::eventlog::hub::From;
use crate::model::delivery::DeliveryMode;
use crate::model::error::SocketError;
use crate::model::event::{Event, EventFilter, EventRecord, SocketPattern};
use crate::model::operation::{Operation, ShutdownHow, Take, Taken};
use crate::model::refusal::Refusal;
use crate::socket::cell::Cell;

/// What has been taken from one socket. Callers wait for each other in the order in which they come.
#[derive(Default)]
pub(super) struct Receiver(Mutex<Place>);

#[derive(Default)]
struct Place {
    /// Made when somebody first asks: most sockets are only watched.
    cursor: Option<Cursor>,
    /// A payload of which the first bytes have been taken, or that was only looked at.
    rest: Option<(Arc<EventRecord>, usize)>,
    lost_bytes: u64,
    /// It has listened: the next end of its receiving direction is that of listening, and not of what it connects to later.
    listening: bool,
    end: Option<End>,
}

/// How a stream has ended, as far as its reader knows.
enum End {
    /// In good order: told again and again.
    Closed,
    /// The socket is gone.
    Gone,
}

/// What a reader gets.
pub(super) enum Received {
    /// A payload, or the end of the stream.
    Taken(Taken),
    /// What a recv(2) would have answered.
    Error(SocketError),
    /// Nothing in time.
    TimedOut,
    /// The log holds nothing more, and the kernel is to be asked.
    AskKernel,
}

const KINDS: [&str; 8] =
    ["received", "datagram_received", "peer_closed", "peer_reset", "listening", "shut_down", "failed", "closed"];

impl Cell {
    /// Takes the next payload of this socket from the log, waiting for it until the deadline.
    ///
    /// A socket that is closed meanwhile cancels this, as it does with everything that waits on it; one that was closed before refuses.
    pub(super) async fn receive(&self, how: Take, deadline: Instant) -> Result<Received, Refusal> {
        let was_open = self.status().closed.is_none();
        match self.receive_in_turn(how, deadline).await {
            Err(Refusal::SocketClosed { .. }) if was_open => {
                Ok(Received::Error(SocketError::canceled(Operation::Receive)))
            }
            received => received,
        }
    }

    async fn receive_in_turn(&self, how: Take, deadline: Instant) -> Result<Received, Refusal> {
        let Ok(mut place) = timeout_at(deadline, self.receiver.0.lock()).await else {
            return Ok(Received::TimedOut);
        };
        loop {
            let (delivery_changed, no_connection) = (self.delivery_changed.notified(), self.no_connection.notified());
            if let Some(received) = self.take(&mut place, how)? {
                return Ok(received);
            }
            match self.conduct().delivery.mode {
                // The attempt to connect has failed, and what is said of that is the kernel's.
                DeliveryMode::Events if self.is_unconnected() => return Ok(Received::AskKernel),
                DeliveryMode::Events => {}
                DeliveryMode::Pull => return Ok(Received::AskKernel),
                DeliveryMode::Transfer => {
                    let why =
                        "keeps what it receives for TransferSocket: SetSocketDelivery to EVENTS or PULL comes first";
                    return Err(Refusal::WrongState { socket: self.id.clone(), why });
                }
                DeliveryMode::Count => {
                    let why = "counts and discards what it receives: SetSocketDelivery to EVENTS or PULL comes first";
                    return Err(Refusal::WrongState { socket: self.id.clone(), why });
                }
            }
            let Some(cursor) = &mut place.cursor else { return Err(Refusal::Internal("a receiver without a cursor")) };
            tokio::select! {
                next = cursor.next() => place.take_up(next),
                () = delivery_changed => {}
                () = no_connection => return Ok(Received::AskKernel),
                () = tokio::time::sleep_until(deadline) => return Ok(Received::TimedOut),
            }
        }
    }

    /// What is there already, if anything.
    fn take(&self, place: &mut Place, how: Take) -> Result<Option<Received>, Refusal> {
        if place.cursor.is_none() {
            let filter = EventFilter { sockets: vec![SocketPattern::Number(self.uid)], kinds: KINDS.to_vec() };
            place.cursor = Some(self.hub.cursor(From::After(self.born_after), filter)?.at_most(1));
        }
        loop {
            if let Some((record, from)) = place.rest.take() {
                // What a reader has got, the log need not hold any more.
                if from == 0 && !how.peek && record.event.payload().is_some() {
                    self.hub.take(record.seq);
                }
                if let Some(received) = place.take_from(record, from, how) {
                    return Ok(Some(received));
                }
            }
            let closed = self.status().closed.is_some();
            match place.end {
                Some(End::Gone) => return Err(self.gone()),
                Some(End::Closed) if closed => return Err(self.gone()),
                Some(End::Closed) => return Ok(Some(Received::Taken(Taken { end: true, ..Taken::default() }))),
                None => {}
            }
            match place.cursor.as_mut().and_then(Cursor::try_next) {
                Some(next) => place.take_up(next),
                None if closed => return Err(self.gone()),
                None => return Ok(None),
            }
        }
    }

    fn gone(&self) -> Refusal {
        match self.status().closed {
            Some(closing) => Refusal::SocketClosed { socket: self.id.clone(), reason: closing.reason },
            None => Refusal::SocketNotFound(self.id.clone()),
        }
    }
}

impl Place {
    fn take_up(&mut self, next: Next) {
        match next {
            // The cursor gives one record at a time.
            Next::Batch { records, .. } => self.rest = records.into_iter().next().map(|record| (record, 0)),
            Next::Gap(gap) => self.lost_bytes += gap.payload_bytes.unwrap_or(0),
            Next::Ended => self.end = Some(End::Gone),
        }
    }

    /// What a record means to a reader; nothing if it only changes what comes later.
    fn take_from(&mut self, record: Arc<EventRecord>, from: usize, how: Take) -> Option<Received> {
        let max = how.max_bytes.map_or(usize::MAX, |max| max as usize);
        let mut taken = Taken { event_seq: Some(record.seq), ..Taken::default() };
        match &record.event {
            Event::Received { offset, payload } => {
                let through = payload.len().min(from.saturating_add(max));
                taken.payload = payload.slice(from..through);
                taken.size = u32::try_from(taken.payload.len()).unwrap_or(u32::MAX);
                taken.offset = offset + from as u64;
                if how.peek {
                    self.rest = Some((Arc::clone(&record), from));
                } else if through < payload.len() {
                    self.rest = Some((Arc::clone(&record), through));
                }
            }
            Event::DatagramReceived(datagram) => {
                taken.payload = datagram.payload.slice(..datagram.payload.len().min(max));
                taken.size = datagram.size;
                taken.truncated = datagram.size as usize > taken.payload.len();
                taken.source.clone_from(&datagram.source);
                taken.destination.clone_from(&datagram.destination);
                (taken.hop_limit, taken.traffic_class) = (datagram.hop_limit, datagram.traffic_class);
                taken.received = datagram.received;
                if how.peek {
                    self.rest = Some((Arc::clone(&record), 0));
                }
            }
            Event::Listening { .. } => {
                self.listening = true;
                return None;
            }
            Event::ShutDown { how: ShutdownHow::Receive | ShutdownHow::Both }
                if std::mem::take(&mut self.listening) =>
            {
                return None;
            }
            Event::PeerClosed { .. } | Event::ShutDown { how: ShutdownHow::Receive | ShutdownHow::Both } => {
                self.end = Some(End::Closed);
                taken = Taken { end: true, ..Taken::default() };
            }
            Event::PeerReset { error } => return Some(Received::Error(error.clone())),
            // What another ReceiveSocket has caused was its answer.
            Event::Failed { error } if error.operation == Operation::Receive && record.request.is_none() => {
                return Some(Received::Error(error.clone()));
            }
            Event::Closed(_) => {
                self.end = Some(End::Gone);
                return None;
            }
            _ => return None,
        }
        taken.lost_bytes = self.lost_bytes;
        if self.rest.is_none() || !how.peek {
            self.lost_bytes = 0;
        }
        Some(Received::Taken(taken))
    }
}
