//! The steps of each operation: checks that need no system call, names looked up, orders to drivers, in this order.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::eventlog::hub::From as Begin;
use crate::model::address::{AddressText, Transport, scope_of};
use crate::model::delivery::DeliveryMode;
use crate::model::error::SocketError;
use crate::model::event::{Event, EventFilter, SocketPattern};
use crate::model::id::{Principal, SessionId, SocketId};
use crate::model::operation::{Action, Operation, OutgoingDatagram, SendFlags, SocketAction, Take, Target, Yield};
use crate::model::option::OptionType;
use crate::model::refusal::Refusal;
use crate::model::socket::{AcceptPolicy, CloseReason, Direction, SocketState};
use crate::model::spec::Retry;
use crate::session::names::Found as Name;
use crate::socket::calls::{CallHandle, exactly};
use crate::socket::cell::{Cell, lock};
use crate::socket::command::{Brought, Command, Done, EventRange, Order, ReadyDatagram, Ticket};
use crate::socket::lookup::{Answer, Purpose, Wanted, local_literal};
use crate::socket::receive::Received;
use crate::socket::session::{Session, closed};
use crate::socket::sockets::Sockets;
use crate::sys::control::Marks;

/// One operation under way.
pub(super) struct Run<'a> {
    pub(super) sockets: &'a Sockets,
    pub(super) session: &'a Arc<Session>,
    pub(super) handle: &'a Arc<CallHandle>,
    pub(super) deadline: Instant,
    pub(super) events: EventRange,
    pub(super) principal: &'a Principal,
    /// The moment at which it is to begin, which is near.
    pub(super) moment: Option<Instant>,
    /// When it began.
    pub(super) started: Instant,
}

/// What an operation brought.
pub(super) struct Performed {
    pub(super) yielded: Yield,
    pub(super) error: Option<SocketError>,
    pub(super) timed_out: bool,
    pub(super) ended: Instant,
    pub(super) events: EventRange,
}

/// Why a step is the last one of its operation.
pub(super) enum Stop {
    /// The agent does not do it.
    Refused(Refusal),
    /// The kernel or the resolver has objected.
    Failed(Box<SocketError>),
    /// Nothing happened in time.
    TimedOut,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<SocketError> for Stop {
    fn from(error: SocketError) -> Self {
        Self::Failed(Box::new(error))
    }
}

impl Done {
    /// The same, where an error or a timeout stops the operation.
    pub(super) fn or_stop(mut self) -> Result<Self, Stop> {
        match self.error.take() {
            Some(error) => Err(error.into()),
            None if self.timed_out => Err(Stop::TimedOut),
            None => Ok(self),
        }
    }
}

impl Performed {
    pub(super) fn of(yielded: Yield, done: Done) -> Self {
        let Done { error, timed_out, events, ended, brought: _ } = done;
        Self { yielded, error, timed_out, ended, events }
    }

    pub(super) fn failed(error: SocketError) -> Self {
        Self { error: Some(error), ..Self::succeeded(Yield::Nothing) }
    }

    pub(super) fn succeeded(yielded: Yield) -> Self {
        Self { yielded, error: None, timed_out: false, ended: Instant::now(), events: EventRange::default() }
    }

    /// What is left of an operation that stopped: how it ended, and what it has brought all the same.
    pub(super) fn stopped(stop: Stop, yielded: Yield) -> Result<Self, Refusal> {
        match stop {
            Stop::Refused(refusal) => Err(refusal),
            Stop::Failed(error) => Ok(Self { yielded, ..Self::failed(*error) }),
            Stop::TimedOut => Ok(Self { timed_out: true, ..Self::succeeded(yielded) }),
        }
    }
}

impl<'a> Run<'a> {
    pub(super) fn new(
        sockets: &'a Sockets,
        principal: &'a Principal,
        session: &'a Arc<Session>,
        handle: &'a Arc<CallHandle>,
        deadline: Instant,
    ) -> Self {
        let events = EventRange::default();
        Self { sockets, session, handle, deadline, events, principal, moment: None, started: Instant::now() }
    }

    /// Begins, at its moment where one was set. What nobody notices and no other operation changes may be done before.
    pub(super) async fn begin(&mut self) {
        if let Some(moment) = self.moment.take() {
            exactly(moment).await;
            let now = Instant::now();
            self.deadline += now.saturating_duration_since(self.started);
            self.started = now;
        }
    }

    pub(super) async fn perform(&mut self, action: Action) -> Result<Performed, Refusal> {
        if !matches!(action, Action::CreateSocket { .. }) {
            self.begin().await;
        }
        let mut performed = match action {
            Action::CreateSession { session, spec } => {
                let session = self.sockets.add_session(self.principal, session, spec)?;
                Performed::succeeded(Yield::Session(session.view(), Vec::new()))
            }
            Action::ResetSession { .. } => self.reset_session().await,
            Action::DeleteSession { session, allow_missing } => self.delete_session(&session, allow_missing).await?,
            Action::CreateSocket { socket, spec, .. } => self.create_socket(socket, *spec).await?,
            Action::CreateSockets { sockets, .. } => self.create_sockets(sockets).await?,
            Action::Socket(target, action) => self.perform_on_socket(&target, action).await?,
        };
        performed.events.add(self.events);
        Ok(performed)
    }

    async fn reset_session(&mut self) -> Performed {
        let (cells, events) = self.session.reset(Some(&self.handle.request)).await;
        self.events.add(events);
        Performed::succeeded(Yield::Session(self.session.view(), cells.iter().map(|cell| cell.view()).collect()))
    }

    async fn delete_session(&self, id: &SessionId, allow_missing: bool) -> Result<Performed, Refusal> {
        if id.is_default() {
            return Err(Refusal::invalid("session_id", "the default session is always there: ResetSession is meant"));
        }
        let Some(session) = self.sockets.remove_session(self.principal, id) else {
            return if allow_missing {
                Ok(Performed::succeeded(Yield::Nothing))
            } else {
                Err(Refusal::SessionNotFound(id.clone()))
            };
        };
        let cells = session.end(CloseReason::SessionDeleted).await;
        session.hub.end();
        Ok(Performed::succeeded(Yield::Session(session.view(), cells.iter().map(|cell| cell.view()).collect())))
    }

    async fn perform_on_socket(&mut self, target: &Target, action: SocketAction) -> Result<Performed, Refusal> {
        let cell = match self.target(target, &action).await {
            Ok(Some(cell)) => cell,
            Ok(None) => return Ok(Performed::succeeded(Yield::Nothing)),
            Err(stop) => return Performed::stopped(stop, Yield::Nothing),
        };
        check_fit(&cell, &action)?;
        if matches!(action, SocketAction::Write { .. }) {
            self.wait_as_written(&cell);
        }
        let is_accept = matches!(action, SocketAction::Accept);
        let order = match action {
            SocketAction::Bind { local, retry } => return self.bind(&cell, &local, retry).await,
            SocketAction::Connect { remote, attempts } => return self.connect(&cell, &remote, attempts).await,
            SocketAction::Send { datagrams, interval, flags } => {
                return self.send(&cell, datagrams, (interval, flags)).await;
            }
            SocketAction::Receive(take) => return self.receive(&cell, take).await,
            SocketAction::Group(change, asked) => return self.change_group(&cell, change, &asked).await,
            SocketAction::Filter(asked) => return self.set_source_filter(&cell, asked).await,
            SocketAction::Listen { backlog } => Order::Listen { backlog, place: None },
            SocketAction::Accept => Order::Accept,
            SocketAction::Disconnect => Order::Disconnect,
            SocketAction::Write { payload, expected_offset, flags, slices } => {
                Order::Write { payload, expected_offset, flags, slices }
            }
            SocketAction::Flush => Order::Flush,
            SocketAction::Shutdown(how) => Order::Shutdown(how),
            SocketAction::Close { linger, .. } => Order::Close { linger },
            SocketAction::Abort { .. } => Order::Abort,
            SocketAction::SetDelivery(change) => Order::SetDelivery(change),
            SocketAction::SetOptions(options) => Order::SetOptions(options),
        };
        let done = self.order(&cell, order).await?;
        let yielded = match &done.brought {
            Brought::Written { size, offset } => Yield::Written { size: *size, offset: *offset },
            Brought::Options(results) => Yield::Options(results.clone()),
            Brought::Accepted(id) => Yield::Socket(Box::new(self.session.find(id)?.view_with_kernel()), Vec::new()),
            // Nobody came.
            Brought::Nothing if is_accept => Yield::Nothing,
            _ => view(&cell),
        };
        Ok(Performed::of(yielded, done))
    }

    /// A write waits as long as its socket says, where the request does not say it.
    fn wait_as_written(&mut self, cell: &Cell) {
        let usual = cell.conduct().write_timeout.usual;
        if self.handle.timeout.is_none() && !usual.is_zero() {
            self.deadline = Instant::now() + usual;
        }
    }

    // === Targets ===

    /// The socket that is meant; nothing when it is missing and that is fine.
    async fn target(&mut self, target: &Target, action: &SocketAction) -> Result<Option<Arc<Cell>>, Stop> {
        let forgiving = matches!(
            action,
            SocketAction::Close { allow_missing: true, .. } | SocketAction::Abort { allow_missing: true }
        );
        let receives = matches!(action, SocketAction::Receive(_));
        let found = match self.session.named(&target.socket) {
            Named::Open(cell) => cell,
            // What it received and nobody has taken is still there.
            Named::Closed(cell) if receives => cell,
            Named::Closed(_) | Named::Expected(_) | Named::Nothing if forgiving => return Ok(None),
            Named::Closed(cell) => return Err(closed(&cell).into()),
            Named::Expected(listener) => self.arrival(&target.socket, &listener).await?,
            Named::Nothing => return Err(Refusal::SocketNotFound(target.socket.clone()).into()),
        };
        match target.uid {
            Some(uid) if uid != found.uid => Err(Refusal::SocketReplaced(target.socket.clone()).into()),
            _ => Ok(Some(found)),
        }
    }

    /// Waits for a connection that an open listener has not accepted yet.
    async fn arrival(&mut self, id: &SocketId, listener: &Cell) -> Result<Arc<Cell>, Stop> {
        Ok(self.patiently(Operation::Accept, self.session.arrival(id, listener)).await??)
    }

    // === Orders ===

    /// Gives an order to a driver, and waits for what comes of it.
    pub(super) async fn order(&mut self, cell: &Cell, order: Order) -> Result<Done, Refusal> {
        self.order_by(cell, order, self.deadline).await
    }

    /// The same, where the driver is to wait no longer than until then.
    pub(super) async fn order_by(&mut self, cell: &Cell, order: Order, deadline: Instant) -> Result<Done, Refusal> {
        let (mut ticket, mut answer) = Ticket::new(Some(self.handle.request.clone()), deadline);
        ticket.asker.clone_from(&self.handle.asker);
        let command = Box::new(Command { order, ticket });
        cell.commands.send(command).await.map_err(|_| closed(cell))?;
        let answered = tokio::select! {
            biased;
            answered = &mut answer => answered,
            () = self.handle.canceled() => {
                let (ticket, _) = Ticket::new(None, self.deadline);
                let cancel = Box::new(Command { order: Order::Cancel(self.handle.request.clone()), ticket });
                // A driver that is gone has answered already.
                let _ = cell.commands.send(cancel).await;
                answer.await
            }
        };
        // Without an answer, the driver went before it came to this order.
        let done = answered.map_err(|_| closed(cell))??;
        self.events.add(done.events);
        Ok(done)
    }

    /// The same, where an error or a timeout stops the operation.
    pub(super) async fn step(&mut self, cell: &Cell, order: Order) -> Result<Done, Stop> {
        self.order(cell, order).await?.or_stop()
    }

    /// Waits for something that is not a driver's, until the deadline or until it is cancelled.
    pub(super) async fn patiently<T>(&self, operation: Operation, wait: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::select! {
            biased;
            result = wait => Ok(result),
            () = self.handle.canceled() => Err(SocketError::canceled(operation).into()),
            () = sleep_until(self.deadline) => Err(Stop::TimedOut),
        }
    }

    /// Finds the addresses that a text means, for a socket that is there.
    pub(super) async fn addresses(
        &mut self,
        cell: &Cell,
        text: &AddressText,
        purpose: Purpose,
        field: &str,
    ) -> Result<Vec<SocketAddr>, Stop> {
        let wanted =
            Wanted { transport: cell.transport, family: Some(cell.family()), purpose, field, deadline: self.deadline };
        let found = self.patiently(Operation::LookUp, self.sockets.look_up(text, wanted)).await??;
        let request = &self.handle.request;
        if let Some(seq) = found.event.and_then(|event| cell.record_while_open(request, event)) {
            self.events.add(EventRange::one(seq));
        }
        match found.answer {
            Answer::Addresses(addresses) => Ok(addresses),
            Answer::Error(error) => Err(error.into()),
            Answer::TimedOut => Err(Stop::TimedOut),
        }
    }

    async fn bind(&mut self, cell: &Cell, local: &AddressText, retry: Option<Retry>) -> Result<Performed, Refusal> {
        match self.bind_steps(cell, local, "local", retry).await {
            Ok(done) => Ok(Performed::of(view(cell), done)),
            Err(stop) => Performed::stopped(stop, view(cell)),
        }
    }

    pub(super) async fn bind_steps(
        &mut self,
        cell: &Cell,
        local: &AddressText,
        field: &str,
        retry: Option<Retry>,
    ) -> Result<Done, Stop> {
        let addresses = self.addresses(cell, local, Purpose::Bind, field).await?;
        let first = *addresses.first().ok_or(Refusal::Internal("a lookup without an address"))?;
        self.bind_patiently(cell, first, retry).await
    }

    async fn send(
        &mut self,
        cell: &Cell,
        datagrams: Vec<OutgoingDatagram>,
        (interval, flags): (Duration, SendFlags),
    ) -> Result<Performed, Refusal> {
        let mut ready = Vec::with_capacity(datagrams.len());
        for (at, datagram) in datagrams.into_iter().enumerate() {
            match self.ready(cell, at, datagram).await {
                Ok(datagram) => ready.push(datagram),
                Err(stop) => {
                    let nothing = Yield::Sent { socket: Box::new(cell.view_with_kernel()), datagrams: 0, bytes: 0 };
                    return Performed::stopped(stop, nothing);
                }
            }
        }
        let done = self.order(cell, Order::Send(ready, interval, flags)).await?;
        let (datagrams, bytes) = match done.brought {
            Brought::Sent { datagrams, bytes } => (datagrams, bytes),
            _ => (0, 0),
        };
        let yielded = Yield::Sent { socket: Box::new(cell.view_with_kernel()), datagrams, bytes };
        Ok(Performed::of(yielded, done))
    }

    /// Finds the addresses of a datagram.
    async fn ready(&mut self, cell: &Cell, at: usize, datagram: OutgoingDatagram) -> Result<ReadyDatagram, Stop> {
        let marks = Marks { hop_limit: datagram.hop_limit, traffic_class: datagram.traffic_class, ..Marks::default() };
        let mut ready =
            ReadyDatagram { destination: None, source: None, marks, payload: datagram.payload, reply_to_event: 0 };
        if let Some(event_seq) = datagram.reply_to_event {
            let record = self.session.hub.get(event_seq);
            let Some(Event::DatagramReceived(answered)) = record.as_deref().map(|record| &record.event) else {
                return Err(Refusal::EventNotKept { event_seq }.into());
            };
            ready.reply_to_event = event_seq;
            ready.destination = answered.source.as_ref().map(|source| source.addr);
            ready.source = answered.answer_from;
        }
        if let Some(destination) = &datagram.destination {
            let field = format!("datagrams[{at}].destination");
            ready.destination = self.addresses(cell, destination, Purpose::Reach, &field).await?.first().copied();
        }
        if let Some(source) = &datagram.source {
            let source = local_literal(source, cell.family(), &format!("datagrams[{at}].source"))?;
            ready.source = Some(source.ip());
            ready.marks.interface_index = scope_of(source);
        }
        Ok(ready)
    }

    async fn receive(&mut self, cell: &Cell, take: Take) -> Result<Performed, Refusal> {
        let mode = cell.conduct().delivery.mode;
        if take.min_bytes.is_some() && (mode != DeliveryMode::Pull || cell.transport != Transport::Tcp) {
            let why = "logs what it receives as it comes: min_bytes needs a TCP socket with PULL delivery";
            return Err(Refusal::WrongState { socket: cell.id.clone(), why });
        }
        let logged = if cell.is_unconnected() {
            Received::AskKernel
        } else {
            match self.patiently(Operation::Receive, cell.receive(take, self.deadline)).await {
                Ok(received) => received?,
                Err(stop) => return Performed::stopped(stop, Yield::Nothing),
            }
        };
        match logged {
            Received::Taken(taken) => Ok(Performed::succeeded(Yield::Taken(cell.id.clone(), taken))),
            Received::Error(error) => Ok(Performed::failed(error)),
            Received::TimedOut => Performed::stopped(Stop::TimedOut, Yield::Nothing),
            Received::AskKernel => {
                let mut done = self.order(cell, Order::Receive(take)).await?;
                let yielded = match std::mem::take(&mut done.brought) {
                    Brought::Taken(taken) => Yield::Taken(cell.id.clone(), taken),
                    _ => Yield::Nothing,
                };
                Ok(Performed::of(yielded, done))
            }
        }
    }
}

/// What a name stands for to an operation.
pub(super) enum Named {
    /// An open socket.
    Open(Arc<Cell>),
    /// The last socket that had the name; it is closed.
    Closed(Arc<Cell>),
    /// A connection that this listener has not accepted yet.
    Expected(Arc<Cell>),
    /// Nothing.
    Nothing,
}

impl Session {
    /// Waits for a connection that an open listener has not accepted yet.
    pub(super) async fn arrival(&self, id: &SocketId, listener: &Cell) -> Result<Arc<Cell>, Refusal> {
        let filter = EventFilter {
            sockets: vec![SocketPattern::Is(id.clone()), SocketPattern::Number(listener.uid)],
            kinds: vec!["created", "closed"],
        };
        let mut cursor = self.hub.cursor(Begin::Now, filter)?;
        loop {
            // Looked for after the cursor was placed, so that it cannot come unseen in between.
            match self.named(id) {
                Named::Open(cell) => return Ok(cell),
                Named::Expected(_) => {}
                // It came and has gone already, or its listener has.
                Named::Closed(cell) => return Ok(cell),
                Named::Nothing => return Err(Refusal::SocketNotFound(id.clone())),
            }
            cursor.next().await;
        }
    }

    pub(super) fn named(&self, id: &SocketId) -> Named {
        let names = lock(&self.names);
        let listener = id.parent().and_then(|parent| match names.find(&parent) {
            Name::Open(cell) if cell.status().state == SocketState::Listening => Some(cell),
            _ => None,
        });
        match (names.find(id), listener) {
            (Name::Open(cell), _) => Named::Open(cell),
            // One of another listener of that name had it; this one may have one of that name yet.
            (Name::Closed(cell), Some(listener)) if cell.parent.as_ref().is_none_or(|p| p.uid != listener.uid) => {
                Named::Expected(listener)
            }
            (Name::Closed(cell), _) => Named::Closed(cell),
            (Name::Nothing, Some(listener)) => Named::Expected(listener),
            (Name::Nothing, None) => Named::Nothing,
        }
    }

    /// Refuses an action at once that has nothing to act on.
    pub(super) fn expect_target(&self, action: &Action) -> Result<(), Refusal> {
        match action {
            Action::CreateSocket { socket: Some(id), .. } => lock(&self.names).is_free(id),
            Action::CreateSockets { sockets, .. } => self.expect_room(sockets),
            Action::Socket(target, _) => match self.named(&target.socket) {
                Named::Nothing => Err(Refusal::SocketNotFound(target.socket.clone())),
                Named::Open(_) | Named::Closed(_) | Named::Expected(_) => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

/// What is said of a TCP socket that is to have to do with groups.
pub(super) const NO_MULTICAST: &str = "is a TCP socket: only UDP has multicast";

/// Refuses what does not fit the socket's transport or the way in which it is used.
fn check_fit(cell: &Cell, action: &SocketAction) -> Result<(), Refusal> {
    let direction = cell.conduct().direction;
    let wrong_transport = |instead| Err(Refusal::WrongTransport { socket: cell.id.clone(), instead });
    let wrong_direction = |used| Err(Refusal::WrongDirection { socket: cell.id.clone(), used });
    match (action, cell.transport) {
        (SocketAction::Listen { .. } | SocketAction::Accept, Transport::Udp) => {
            wrong_transport("is a UDP socket: it has no connections, and receives once it is bound")
        }
        (SocketAction::Write { .. }, Transport::Udp) => wrong_transport("is a UDP socket: SendDatagrams is meant"),
        (SocketAction::Flush, Transport::Udp) => wrong_transport("is a UDP socket: nobody acknowledges datagrams"),
        (SocketAction::Send { .. }, Transport::Tcp) => wrong_transport("is a TCP socket: WriteSocket is meant"),
        (SocketAction::Group(..) | SocketAction::Filter(_), Transport::Tcp) => wrong_transport(NO_MULTICAST),
        (SocketAction::SetOptions(options), Transport::Tcp)
            if options.iter().any(|option| option.spec.kind == OptionType::Timestamping) =>
        {
            wrong_transport(
                "is a TCP socket: SO_TIMESTAMPING is of UDP, since a stream has no datagrams to tell times of",
            )
        }
        (SocketAction::Disconnect, Transport::Tcp) => {
            wrong_transport("is a TCP socket: ShutdownSocket, CloseSocket or AbortSocket is meant")
        }
        (SocketAction::Write { .. } | SocketAction::Send { .. }, _) if direction == Direction::ReceiveOnly => {
            wrong_direction("receive-only")
        }
        (SocketAction::Receive(_), _) if direction == Direction::SendOnly => wrong_direction("send-only"),
        (SocketAction::Accept, _)
            if cell.listener.is_some_and(|spec| spec.accept == AcceptPolicy::Auto)
                && cell.status().state == SocketState::Listening =>
        {
            let why = "accepts by itself, as it was created: wait for its `accepted` events, or for `ID.1`, `ID.2`, …";
            Err(Refusal::WrongState { socket: cell.id.clone(), why })
        }
        _ => Ok(()),
    }
}

pub(super) fn view(cell: &Cell) -> Yield {
    Yield::Socket(Box::new(cell.view_with_kernel()), Vec::new())
}
