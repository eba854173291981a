//! A connection whose bytes go through a stream of a client's: [`Transfer`] says what may be sent, the driver
//! does it.
//!
//! Invariants: the kernel is read only as far as the client has granted and its connection takes; of the client's bytes no more wait here
//! than `limits.transfer_bytes`, and room for them is set aside; the stream is told the end of the socket exactly once, after the event.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::time::{Instant, timeout_at};

use crate::model::address::Transport;
use crate::model::delivery::{Delivery, DeliveryMode};
use crate::model::errno::Errno;
use crate::model::error::SocketError;
use crate::model::event::Event;
use crate::model::id::Principal;
use crate::model::operation::{Operation, Outcome, ShutdownHow, Target, WriteFlags, Yield};
use crate::model::refusal::Refusal;
use crate::model::socket::{CloseReason, Conduct, Direction};
use crate::model::transfer::{DATA_SIZE, Frame, FromAgent, FromClient, Opened, Side, Transfer, Verdict};
use crate::model::view::SocketView;
use crate::socket::command::{Brought, Command, Ending, Order, Ticket};
use crate::socket::driver::{Driver, End, Role};
use crate::socket::link::{Arriving, Inflow, Leaving, Outlet};
use crate::socket::perform::Named;
use crate::socket::pool::Allowance;
use crate::socket::session::closed;
use crate::socket::sockets::Sockets;
use crate::socket::write::Outgoing;

/// How many frames of a client a driver takes before it does something else.
const FRAMES_PER_ROUND: usize = 32;

const ATTACHED: &str = "is attached to a TransferSocket: its bytes go through that stream, until it ends";

/// A stream that wants a connection.
pub(super) struct Attachment {
    inflow: Inflow,
    outlet: Outlet,
    claim: Claim,
}

/// What a stream has to do with the connection that it wants.
#[derive(Debug, Clone)]
pub enum Claim {
    /// It borrows it.
    Borrowed,
    /// It owns it from now on.
    Owned,
    /// It was created for this stream, and this is how.
    Created(Arc<Outcome>),
}

impl Claim {
    fn outcome(&self) -> Option<&Outcome> {
        match self {
            Self::Created(outcome) => Some(outcome),
            Self::Borrowed | Self::Owned => None,
        }
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attachment")
    }
}

/// A stream that has the connection.
pub(super) struct Attached {
    transfer: Transfer,
    /// Absent when the client sends no more.
    inflow: Option<Inflow>,
    outlet: Outlet,
    /// The connection goes with this stream.
    owned: bool,
    /// Where bytes went before.
    before: DeliveryMode,
    to_client: u64,
    from_client: u64,
    /// Bytes that the kernel has got and that were not granted again yet.
    owed: u64,
    /// What lets the client's bytes wait: as many as it was granted.
    allowance: Arc<Allowance>,
    /// The client's connection takes more.
    room: bool,
}

impl Attached {
    /// Whether bytes may be read for the client now.
    pub(super) fn wants_bytes(&self) -> bool {
        self.room && self.transfer.credit() > 0
    }

    /// The frame of a socket that is gone goes in here.
    pub(super) fn into_outlet(self) -> Outlet {
        self.outlet
    }

    fn tell(&mut self, kind: Frame, frame: FromAgent) {
        if self.transfer.send(kind).is_ok() {
            self.outlet.push(Leaving::Frame(frame));
        }
    }

    fn tell_end(&mut self) {
        if !self.transfer.has_ended(Side::Agent) {
            self.tell(Frame::End, FromAgent::End);
        }
    }

    /// Nothing can happen any more: the client has ended and so has the peer, or nothing may be sent to the client any more.
    fn is_over(&self) -> bool {
        let sends_no_more = self.inflow.is_none() || self.transfer.has_ended(Side::Client);
        let gets_no_more =
            self.transfer.has_ended(Side::Agent) || (self.inflow.is_none() && self.transfer.credit() == 0);
        sends_no_more && gets_no_more
    }
}

impl Sockets {
    /// Lets a stream take over a connection, which may have been made for it. Waits for one that a listener has not accepted yet.
    pub async fn attach(
        &self,
        principal: &Principal,
        target: &Target,
        (inflow, outlet): (Inflow, Outlet),
        claim: Claim,
    ) -> Result<(), Refusal> {
        self.check_draining()?;
        let session = self.usable_session(principal, &target.session)?;
        let deadline = Instant::now() + self.defaults().wait_timeout;
        let cell = match session.named(&target.socket) {
            Named::Open(cell) => cell,
            Named::Expected(listener) => {
                let arrived = timeout_at(deadline, session.arrival(&target.socket, &listener)).await;
                arrived.map_err(|_| Refusal::TimedOut { what: "no connection came" })??
            }
            Named::Closed(cell) => return Err(closed(&cell)),
            Named::Nothing => return Err(Refusal::SocketNotFound(target.socket.clone())),
        };
        if target.uid.is_some_and(|uid| uid != cell.uid) {
            return Err(Refusal::SocketReplaced(target.socket.clone()));
        }
        if cell.transport == Transport::Udp {
            let instead = "is a UDP socket: SendDatagrams and ReceiveSocket are meant";
            return Err(Refusal::WrongTransport { socket: cell.id.clone(), instead });
        }
        let (ticket, answer) = Ticket::new(None, deadline);
        let order = Order::Attach(Box::new(Attachment { inflow, outlet, claim }));
        cell.commands.send(Box::new(Command { order, ticket })).await.map_err(|_| closed(&cell))?;
        // Without an answer, the driver went before it came to this order.
        answer.await.map_err(|_| closed(&cell))?.map(drop)
    }
}

impl Driver {
    pub(super) fn attach(&mut self, ticket: Ticket, attachment: Attachment) {
        let socket = self.cell.id.clone();
        let Role::Stream(stream) = &self.role else {
            let why = "is not connected: TransferSocket needs a TCP connection";
            return ticket.refuse(Refusal::WrongState { socket, why });
        };
        if self.attached.is_some() {
            return ticket.refuse(Refusal::WrongState { socket, why: ATTACHED });
        }
        let peer_over = stream.peer_closed || self.receive_shut;
        let conduct = self.cell.conduct();
        let receive_only = conduct.direction == Direction::ReceiveOnly;
        // As much is set aside where the client may not write: it bounds the streams, and so what those of them cost that nobody reads.
        let aside = self.sockets.limits().transfer_bytes.into();
        let window = if receive_only { 0 } else { aside };
        let allowance = match self.session.pending.take(aside) {
            Ok(allowance) => allowance,
            Err(refusal) => return ticket.refuse(refusal),
        };
        let delivery = Delivery { mode: DeliveryMode::Transfer, ..conduct.delivery };
        self.cell.set_conduct(Conduct { delivery, ..conduct });
        for receive in self.receives.drain(..) {
            receive.ticket.refuse(Refusal::WrongState { socket: socket.clone(), why: ATTACHED });
        }
        self.record(Event::Attached);
        let Attachment { inflow, outlet, claim } = attachment;
        let mut attached = Attached {
            transfer: Transfer::new(Side::Agent),
            inflow: Some(inflow),
            outlet,
            owned: !matches!(claim, Claim::Borrowed),
            before: conduct.delivery.mode,
            to_client: 0,
            from_client: 0,
            owed: 0,
            allowance: Arc::new(allowance),
            room: true,
        };
        let opened = opened(Some(Box::new(self.cell.view_with_kernel())), window, claim.outcome());
        // The stream has asked for it, or it would not be here.
        let _ = attached.transfer.receive(Frame::Open);
        attached.tell(Frame::Opened { window }, FromAgent::Opened(Box::new(opened)));
        if peer_over {
            attached.tell_end();
        }
        self.attached = Some(Box::new(attached));
        self.read_now = true;
        ticket.finish(Ending::Done, Brought::Nothing);
    }

    /// Refuses what a stream that has the socket does itself.
    pub(super) fn refuse_attached(&self) -> Option<Refusal> {
        self.attached.is_some().then(|| Refusal::WrongState { socket: self.cell.id.clone(), why: ATTACHED })
    }

    /// Takes what the client sends, and notices when it takes more, or nothing any more.
    pub(super) fn poll_transfer(&mut self, cx: &mut Context<'_>) -> bool {
        if self.end.is_some() {
            return false;
        }
        let Some(attached) = &mut self.attached else { return false };
        let standing = attached.outlet.poll(cx);
        if standing.gone {
            self.part(None);
            return true;
        }
        if standing.room && !attached.room {
            attached.room = true;
            self.read_now = true;
        }
        let mut busy = false;
        for _ in 0..FRAMES_PER_ROUND {
            let Some(Attached { inflow: Some(inflow), .. }) = self.attached.as_deref_mut() else { break };
            let Poll::Ready(arriving) = inflow.as_mut().poll_next(cx) else { break };
            busy = true;
            self.take_up(arriving);
            if self.end.is_some() {
                return true;
            }
        }
        self.finish_if_over() || busy
    }

    fn take_up(&mut self, arriving: Option<Arriving>) {
        let Some(attached) = &mut self.attached else { return };
        let frame = match arriving {
            None => return attached.inflow = None,
            Some(Arriving::Gone) => return self.part(None),
            Some(Arriving::Invalid(refusal)) => return self.part(Some(refusal)),
            Some(Arriving::Frame(frame)) => frame,
        };
        match (attached.transfer.receive(frame.frame()), frame) {
            (Err(mistake), frame) => self.part(Some(Refusal::invalid(frame.field(), mistake.to_string()))),
            (Ok(Verdict::Drop), _) => {}
            (Ok(Verdict::Take), FromClient::Data(bytes)) => {
                attached.from_client += bytes.len() as u64;
                let allowance = Arc::clone(&attached.allowance);
                self.enqueue(Outgoing::Transferred(bytes, allowance));
            }
            (Ok(Verdict::Take), FromClient::Window(_)) => self.read_now = true,
            (Ok(Verdict::Take), FromClient::End) => {
                self.enqueue(Outgoing::Shutdown { ticket: None, how: ShutdownHow::Send });
            }
            (Ok(Verdict::Take), FromClient::Abort) => self.abort_for_stream(),
            (Ok(Verdict::Take), FromClient::Close(timeout)) => {
                let (ticket, _) = Ticket::new(None, Instant::now() + timeout);
                self.enqueue(Outgoing::Close { ticket, linger: None });
            }
        }
    }

    fn abort_for_stream(&mut self) {
        self.record(Event::Aborted);
        self.end.get_or_insert(End { reason: CloseReason::Aborted, ticket: None, linger: Some(0) });
    }

    /// The stream ends before its time: the client is gone, or has made a mistake.
    fn part(&mut self, mistake: Option<Refusal>) {
        let Some(attached) = self.attached.take() else { return };
        let outlet = attached.outlet.clone();
        if attached.owned {
            self.abort_for_stream();
        } else {
            let lost = if mistake.is_none() { outlet.waiting_bytes() as u64 } else { 0 };
            self.detach(*attached, lost);
        }
        if let Some(mistake) = mistake {
            outlet.push(Leaving::Refused(mistake));
        }
    }

    /// Ends the stream in good order once nothing can happen any more.
    fn finish_if_over(&mut self) -> bool {
        if !self.outgoing.is_empty() || !self.attached.as_ref().is_some_and(|attached| attached.is_over()) {
            return false;
        }
        let Some(attached) = self.attached.take_if(|attached| !attached.owned) else {
            self.end.get_or_insert_with(|| End::because(CloseReason::Closed));
            return true;
        };
        self.detach(*attached, 0);
        true
    }

    fn detach(&mut self, attached: Attached, lost: u64) {
        let conduct = self.cell.conduct();
        let delivery = Delivery { mode: attached.before, ..conduct.delivery };
        self.cell.set_conduct(Conduct { delivery, ..conduct });
        let to_client = attached.to_client - lost;
        // Whoever sees that it is over may count on the room that it had.
        drop(attached.allowance);
        self.record(Event::Detached { to_client, from_client: attached.from_client, lost });
        self.read_now = true;
    }

    // === Bytes ===

    /// How many bytes to read at a time where nobody has asked for a number. A stream takes more at once than an event, unless it was asked
    /// to take less.
    pub(super) fn read_limit(&self) -> usize {
        let asked = self.cell.conduct().delivery.read_size;
        let Some(attached) = &self.attached else { return asked as usize };
        let most = if asked == self.sockets.limits().read_size { DATA_SIZE } else { asked.into() };
        usize::try_from(attached.transfer.credit().min(most)).unwrap_or(asked as usize)
    }

    /// Gives bytes that were read to the stream; back if there is none.
    pub(super) fn deliver_to_stream(&mut self, payload: Bytes) -> Option<Bytes> {
        let Some(attached) = &mut self.attached else { return Some(payload) };
        let size = payload.len() as u64;
        self.cell.status().totals.bytes_read += size;
        attached.to_client += size;
        attached.tell(Frame::Data { size }, FromAgent::Data(payload));
        attached.room = attached.outlet.standing().room;
        None
    }

    /// Whether all has been read that the peer has sent, and it is known to have gone: then its end needs no credit to be told.
    pub(super) fn is_drained_for_stream(&self) -> bool {
        let Role::Stream(stream) = &self.role else { return false };
        let conduct = self.cell.conduct();
        let reads = !conduct.delivery.paused && conduct.direction != Direction::SendOnly && !stream.peer_closed;
        self.attached.is_some() && reads && self.socket.queues().receive_bytes == 0
    }

    pub(super) fn tell_stream_end(&mut self) {
        if let Some(attached) = &mut self.attached {
            attached.tell_end();
        }
    }

    pub(super) fn tell_stream_error(&mut self, error: &SocketError) {
        if let Some(attached) = &mut self.attached {
            attached.tell(Frame::Error, FromAgent::Error(Box::new(error.clone())));
        }
    }

    /// Hands bytes of the client's to the kernel; gives back what must wait.
    pub(super) fn hand_on(&mut self, mut bytes: Bytes) -> Option<Bytes> {
        loop {
            match self.socket.send(&bytes, WriteFlags::default()) {
                Ok(taken) => {
                    self.cell.hash_written(&bytes[..taken]);
                    self.cell.status().totals.bytes_written += taken as u64;
                    self.note_activity();
                    bytes.advance(taken);
                    self.grant_again(taken as u64);
                    if bytes.is_empty() {
                        return None;
                    }
                }
                Err(errno) if errno.would_block() => return Some(bytes),
                Err(errno) => {
                    self.hand_on_failed(errno);
                    return None;
                }
            }
        }
    }

    /// Lets the client send as much again as the kernel has got, not at each byte.
    fn grant_again(&mut self, size: u64) {
        let limit: u64 = self.sockets.limits().transfer_bytes.into();
        let Some(attached) = &mut self.attached else { return };
        attached.owed += size;
        if attached.owed >= limit.div_ceil(4) {
            let size = std::mem::take(&mut attached.owed);
            attached.tell(Frame::Window { size }, FromAgent::Window(size));
        }
    }

    fn hand_on_failed(&mut self, errno: Errno) {
        self.outgoing.retain(|outgoing| !matches!(outgoing, Outgoing::Transferred(..)));
        let errno = match &self.role {
            Role::Stream(stream) => stream.broken.unwrap_or(errno),
            _ => errno,
        };
        if !self.cell.status().shut_down && self.socket.tcp_is_closed() {
            return self.break_down(errno, Operation::Write, "send");
        }
        let error = self.error(errno, Operation::Write, "send");
        self.record(Event::Failed { error: error.clone() });
        self.tell_stream_error(&error);
    }
}

/// How a transfer begins.
fn opened(socket: Option<Box<SocketView>>, window: u64, created: Option<&Outcome>) -> Opened {
    let options = match created.map(|outcome| &outcome.yielded) {
        Some(Yield::Socket(_, options)) => options.clone(),
        _ => Vec::new(),
    };
    Opened { socket, window, options, report: created.map(|outcome| Box::new(outcome.report.clone())) }
}

/// The answer to a stream for which no connection could be made.
pub fn not_opened(outcome: &Outcome) -> FromAgent {
    let socket = match &outcome.yielded {
        Yield::Socket(socket, _) => Some(socket.clone()),
        _ => None,
    };
    FromAgent::Opened(Box::new(opened(socket, 0, Some(outcome))))
}
