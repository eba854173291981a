//! What a driver is told to do, and how it answers.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::model::delivery::{DeliveryChange, Slices};
use crate::model::error::SocketError;
use crate::model::group::GroupResult;
use crate::model::id::{Principal, RequestId, SocketId};
use crate::model::operation::{SendFlags, ShutdownHow, Take, Taken, WriteFlags};
use crate::model::option::{OptionResult, SocketOption};
use crate::model::refusal::Refusal;
use crate::model::socket::CloseReason;
use crate::model::source_filter::FilterResult;
use crate::socket::group::GroupOrder;
use crate::socket::race::Entrants;
use crate::socket::source_filter::FilterOrder;
use crate::socket::transfer::Attachment;
use crate::socket::usage::ListenerPlace;
use crate::sys::control::Marks;

/// An order to a driver.
#[derive(Debug)]
pub(super) struct Command {
    /// What to do.
    pub(super) order: Order,
    /// Whom to answer.
    pub(super) ticket: Ticket,
}

/// Where a driver takes its orders from. Boxed, so that an idle socket's channel is small.
pub(super) type Orders = mpsc::Receiver<Box<Command>>;

/// What to do.
#[derive(Debug)]
pub(super) enum Order {
    Bind(SocketAddr),
    Listen {
        backlog: Option<u32>,
        /// Its place among the listeners of the session, where that was taken beforehand.
        place: Option<ListenerPlace>,
    },
    Accept,
    Connect {
        remote: SocketAddr,
        /// No other address is tried when this one refuses.
        last: bool,
        /// Another one is tried when this one stays silent until the ticket's deadline.
        goes_on: bool,
    },
    /// Connect to whichever of these answers first.
    Race(Entrants),
    Disconnect,
    Write {
        payload: Bytes,
        expected_offset: Option<u64>,
        flags: WriteFlags,
        slices: Option<Slices>,
    },
    /// And how much later each is due than the one before it, and how their payloads are made.
    Send(Vec<ReadyDatagram>, Duration, SendFlags),
    Receive(Take),
    Flush,
    Shutdown(ShutdownHow),
    /// Close after everything that is queued.
    Close {
        linger: Option<u16>,
    },
    Abort,
    /// Close at once, for a reason of the session's.
    End {
        reason: CloseReason,
        /// By a reset.
        abort: bool,
    },
    SetDelivery(DeliveryChange),
    SetOptions(Vec<SocketOption>),
    Group(GroupOrder),
    Filter(FilterOrder),
    /// Let a stream have the connection.
    Attach(Box<Attachment>),
    /// Close it, if the policy does not allow any more what it holds.
    Judge,
    /// End the operation of this name, if it is waiting here.
    Cancel(RequestId),
}

/// A datagram whose addresses are known.
#[derive(Debug)]
pub(super) struct ReadyDatagram {
    pub(super) destination: Option<SocketAddr>,
    /// The local address that it is to leave from.
    pub(super) source: Option<IpAddr>,
    /// What else of it is not as the socket has it.
    pub(super) marks: Marks,
    pub(super) payload: Bytes,
    pub(super) reply_to_event: u64,
}

/// One operation in a driver: its name, its patience, its events, and who waits for it.
#[derive(Debug)]
pub(super) struct Ticket {
    /// Absent when no caller asked.
    pub(super) request: Option<RequestId>,
    /// Who asks, where that is not whose session it is.
    pub(super) asker: Option<Principal>,
    pub(super) deadline: Instant,
    pub(super) events: EventRange,
    reply: oneshot::Sender<Result<Done, Refusal>>,
}

/// The first and the last event that something caused.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct EventRange(pub(super) Option<(u64, u64)>);

impl EventRange {
    pub(super) fn one(seq: u64) -> Self {
        Self(Some((seq, seq)))
    }

    pub(super) fn add(&mut self, more: Self) {
        self.0 = match (self.0, more.0) {
            (Some((first, last)), Some((from, to))) => Some((first.min(from), last.max(to))),
            (known, None) => known,
            (None, new) => new,
        };
    }
}

/// How an order went.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) brought: Brought,
    pub(super) error: Option<SocketError>,
    pub(super) timed_out: bool,
    pub(super) events: EventRange,
    pub(super) ended: Instant,
}

/// What an order brought.
#[derive(Debug, Default)]
pub(super) enum Brought {
    #[default]
    Nothing,
    Accepted(SocketId),
    Written {
        size: u32,
        offset: u64,
    },
    Sent {
        datagrams: u32,
        bytes: u32,
    },
    Taken(Taken),
    Options(Vec<OptionResult>),
    Groups(Vec<GroupResult>),
    Filters(Vec<FilterResult>),
}

/// How an order ended.
#[derive(Debug, Clone)]
pub(super) enum Ending {
    Done,
    TimedOut,
    Error(SocketError),
}

impl Ticket {
    /// A ticket, and where its answer comes.
    pub(super) fn new(
        request: Option<RequestId>,
        deadline: Instant,
    ) -> (Self, oneshot::Receiver<Result<Done, Refusal>>) {
        let (reply, answer) = oneshot::channel();
        (Self { request, asker: None, deadline, events: EventRange::default(), reply }, answer)
    }

    /// Notes an event that the operation caused.
    pub(super) fn caused(&mut self, seq: u64) {
        self.events.add(EventRange::one(seq));
    }

    /// Answers. Nobody may be listening any more, which is fine: the operation was carried out all the same.
    pub(super) fn finish(self, ending: Ending, brought: Brought) {
        let (error, timed_out) = match ending {
            Ending::Done => (None, false),
            Ending::TimedOut => (None, true),
            Ending::Error(error) => (Some(error), false),
        };
        let _ = self.reply.send(Ok(Done { brought, error, timed_out, events: self.events, ended: Instant::now() }));
    }

    /// Answers that the agent does not do it.
    pub(super) fn refuse(self, refusal: Refusal) {
        let _ = self.reply.send(Err(refusal));
    }
}
