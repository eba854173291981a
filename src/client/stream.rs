//! A connection of an agent's as a byte stream of the client's own: what `tokio::net::TcpStream` is for connections of this host.
//!
//! Nothing runs in the background: bytes move when somebody reads or writes. What the agent may send is granted as the reader takes bytes,
//! so that a reader that does not read closes the window of the far peer.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use bytes::{Buf, Bytes};
use futures_util::stream::Stream;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;
use tonic::Streaming;

use crate::client::agent_client::AgentClient;
use crate::client::bulk::{READ_CREDIT, Seat};
use crate::client::error::{ClientError, far_error, os_error};
use crate::client::outflow::{Outlet, Shut, link};
use crate::client::session::Leash;
use crate::model::address::Endpoint;
use crate::model::errno::Errno;
use crate::model::error::{Cause, SocketError};
use crate::model::feature::Feature;
use crate::model::id::{SessionId, SocketId};
use crate::model::operation::{CallOptions, Target};
use crate::model::socket::{Closing, Direction};
use crate::model::spec::SocketSpec;
use crate::model::transfer::{FromAgent, Opened, Side, Verdict};
use crate::model::view::SocketView;
use crate::wire::pb::socket_service_client::SocketServiceClient;
use crate::wire::{pb, transfer};

/// A TCP connection of an agent's.
///
/// Reading and writing are those of tokio, and everything that uses them works: `tokio::io::copy_bidirectional`, `split`, codecs.
/// [`Self::read_bytes`] and [`Self::write_bytes`] do the same without a copy. What the far kernel objects to is an [`io::Error`] with its
/// number (`raw_os_error`), and [`Self::error`] says which call it was; what the agent refuses holds a [`ClientError`].
///
/// A write is done when the bytes are on their way, and waits while the far peer takes no more. `shutdown` sends a FIN, and reading goes on.
/// A connection that is dropped once both directions have ended is closed when everything has been sent. One that is dropped before is
/// reset if [`AgentClient::connect`] made it, and otherwise given back: its socket goes on living in its session, and bytes that were on
/// their way to this stream are lost, as the event `detached` says.
pub struct FarStream {
    /// Absent when it has been given up.
    link: Option<Link>,
    socket: Box<SocketView>,
    /// It was made for this stream, and goes with it.
    owned: bool,
    /// Bytes that have come and that nobody has read, in pieces of at least one.
    unread: VecDeque<Bytes>,
    /// Bytes that were read and have not been granted again.
    taken: u64,
    interest: Arc<Interest>,
    error: Option<SocketError>,
    fate: Fate,
    leash: Leash,
}

/// What ties it to the agent.
struct Link {
    outlet: Outlet,
    answers: Streaming<pb::TransferSocketResponse>,
    _seat: Seat,
}

/// What has become of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    /// It goes on.
    Open,
    /// The agent has ended it in good order.
    Over,
    /// The socket is gone.
    Closed(Closing),
    /// It broke, or somebody made a mistake.
    Broken(ClientError),
}

/// Who waits for a frame: both are told of each, because whoever was the last to ask may have stopped asking.
#[derive(Default)]
struct Interest(Mutex<[Option<Waker>; 2]>);

/// Somebody who waits for a frame.
#[derive(Clone, Copy)]
enum Who {
    Reader,
    Writer,
}

impl Wake for Interest {
    fn wake(self: Arc<Self>) {
        let wakers = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Interest {
    fn add(&self, who: Who, waker: &Waker) {
        let slot = &mut self.0.lock().unwrap_or_else(PoisonError::into_inner)[who as usize];
        if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }
}

impl AgentClient {
    /// Makes a TCP connection that belongs to the stream. `spec` says where to; the agent names the socket where `id` is absent. What the
    /// network answers is an error with its number (ECONNREFUSED); nothing in time is [`io::ErrorKind::TimedOut`].
    pub async fn connect(
        &self,
        session: &SessionId,
        id: Option<&SocketId>,
        spec: SocketSpec,
        options: &CallOptions,
    ) -> io::Result<FarStream> {
        let request_id = options.request_id.clone().or_else(|| self.sender().name());
        let options = CallOptions { fail_on_error: false, request_id, ..options.clone() };
        let first = transfer::create(session.clone(), id.cloned(), spec, &options);
        let first = first.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a stream needs a TCP socket"))?;
        FarStream::open(self, session, first, true).await
    }

    /// Takes over a TCP connection that is there: its bytes go through the stream until that is dropped. One that a listener has not
    /// accepted yet is waited for.
    pub async fn attach(&self, target: &Target) -> io::Result<FarStream> {
        FarStream::open(self, &target.session, transfer::open(target), false).await
    }
}

impl FarStream {
    async fn open(
        agent: &AgentClient,
        session: &SessionId,
        first: pb::TransferSocketRequest,
        owned: bool,
    ) -> io::Result<Self> {
        let mut leash = Leash::new(agent.gate_of(session));
        leash.check()?;
        let (link, opened) = tokio::select! {
            opened = Link::open(agent, first, leash.is_held()) => match opened {
                Ok(opened) => opened,
                Err(error) => return Err(agent.lacks(Feature::Transfer, error).await.into()),
            },
            lost = poll_fn(|cx| leash.poll_lost(cx)) => return Err(lost.into()),
        };
        if let Some(report) = &opened.report {
            if let Some(error) = &report.error {
                return Err(far_error(error));
            }
            if report.timed_out {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "nobody answered in time"));
            }
        }
        let socket = opened.socket.ok_or_else(|| ClientError::protocol("a stream has begun without a socket"))?;
        // Only now, so that what is given up before can have taken no bytes with it.
        link.outlet.grant(READ_CREDIT.into());
        Ok(Self {
            link: Some(link),
            socket,
            owned,
            unread: VecDeque::new(),
            taken: 0,
            interest: Arc::default(),
            error: None,
            fate: Fate::Open,
            leash,
        })
    }

    /// The socket as it was when the stream began.
    pub fn socket(&self) -> &SocketView {
        &self.socket
    }

    /// The far local address.
    pub fn local(&self) -> Option<&Endpoint> {
        self.socket.status.local.as_ref()
    }

    /// The address of the far peer.
    pub fn remote(&self) -> Option<&Endpoint> {
        self.socket.status.remote.as_ref()
    }

    /// What the far kernel has objected to.
    pub fn error(&self) -> Option<&SocketError> {
        self.error.as_ref()
    }

    /// How the socket ended, once it has and everything before that has been read.
    pub fn closing(&self) -> Option<&Closing> {
        match &self.fate {
            Fate::Closed(closing) => Some(closing),
            Fate::Open | Fate::Over | Fate::Broken(_) => None,
        }
    }

    /// The next bytes as they came, uncopied; none once the peer has ended its direction. Nothing is lost when this is cancelled.
    pub async fn read_bytes(&mut self) -> io::Result<Option<Bytes>> {
        poll_fn(|cx| self.poll_read_bytes(cx)).await
    }

    /// The same, for whoever polls.
    pub fn poll_read_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        ready!(self.poll_unread(cx))?;
        let piece = self.unread.pop_front();
        self.grant_again(piece.as_ref().map_or(0, Bytes::len));
        Poll::Ready(Ok(piece))
    }

    /// Writes all of `bytes` uncopied. What was taken when this is cancelled or fails is gone from the front of it, and nothing else.
    pub async fn write_bytes(&mut self, bytes: &mut Bytes) -> io::Result<()> {
        while !bytes.is_empty() {
            poll_fn(|cx| self.poll_write_bytes(cx, bytes)).await?;
        }
        Ok(())
    }

    /// Takes as many bytes from the front of `bytes` as there is room for, and says how many.
    pub fn poll_write_bytes(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<usize>> {
        let room = ready!(self.poll_room(cx))?;
        let piece = bytes.split_to(room.min(bytes.len()));
        let size = piece.len();
        if let (Some(link), 1..) = (&self.link, size) {
            link.outlet.put(piece);
        }
        Poll::Ready(Ok(size))
    }

    /// Resets the connection: the peer gets a RST, and what was not sent is discarded. Waits until the socket is gone.
    pub async fn abort(mut self) -> io::Result<Closing> {
        if let Some(link) = &self.link {
            link.outlet.abort();
        }
        loop {
            match &self.fate {
                Fate::Closed(closing) => return Ok(*closing),
                Fate::Broken(error) => return Err(error.clone().into()),
                Fate::Over => return Err(os_error(Errno::ENOTCONN)),
                Fate::Open => poll_fn(|cx| self.poll_frame(cx, Who::Reader)).await,
            }
        }
    }

    // === What comes ===

    /// Takes up one frame, if the stream has not ended.
    fn poll_frame(&mut self, cx: &mut Context<'_>, who: Who) -> Poll<()> {
        let (Fate::Open, Some(link)) = (&self.fate, &mut self.link) else { return Poll::Ready(()) };
        self.interest.add(who, cx.waker());
        let waker = Waker::from(Arc::clone(&self.interest));
        let cx = &mut Context::from_waker(&waker);
        match Pin::new(&mut link.answers).poll_next(cx) {
            Poll::Pending => self.fate = Fate::Broken(ready!(self.leash.poll_lost(cx))),
            Poll::Ready(None) => self.fate = Fate::Over,
            Poll::Ready(Some(Err(status))) => self.fate = Fate::Broken(status.into()),
            Poll::Ready(Some(Ok(sent))) => self.take_up(sent),
        }
        Poll::Ready(())
    }

    fn take_up(&mut self, sent: pb::TransferSocketResponse) {
        let (Some(frame), Some(link)) = (transfer::read(sent), &self.link) else {
            self.fate = Fate::Broken(ClientError::protocol("a frame of a stream is of a kind that is not known here"));
            return;
        };
        match (link.outlet.hear(&frame), frame) {
            (Err(mistake), _) => self.fate = Fate::Broken(ClientError::protocol(&mistake.to_string())),
            (Ok(Verdict::Drop), _) => {}
            (Ok(Verdict::Take), FromAgent::Data(bytes)) => self.unread.push_back(bytes),
            (Ok(Verdict::Take), FromAgent::Error(error)) => self.error = Some(*error),
            (Ok(Verdict::Take), FromAgent::Closed(closing)) => self.fate = Fate::Closed(closing),
            (Ok(Verdict::Take), FromAgent::Opened(_) | FromAgent::Window(_) | FromAgent::End) => {}
        }
    }

    /// Waits until there is something to read, or until it is known that nothing will be.
    fn poll_unread(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            if self.has_ended(Side::Agent) {
                return Poll::Ready(Ok(()));
            }
            if self.fate != Fate::Open {
                return Poll::Ready(Err(self.end()));
            }
            ready!(self.poll_frame(cx, Who::Reader));
        }
        Poll::Ready(Ok(()))
    }

    fn unread_piece(&self) -> &[u8] {
        self.unread.front().map_or(&[], |piece| piece)
    }

    /// Grants the agent what was read, not at each byte.
    fn grant_again(&mut self, size: usize) {
        self.taken += size as u64;
        if self.taken >= u64::from(READ_CREDIT / 4)
            && let Some(link) = &self.link
        {
            link.outlet.grant(std::mem::take(&mut self.taken));
        }
    }

    // === What goes ===

    /// How many bytes may be written now; waits while there are none.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // What has come is looked at first: it may be why nothing can be written.
        while self.fate == Fate::Open && self.poll_frame(cx, Who::Writer).is_ready() {}
        if let Some(error) = &self.error {
            return Poll::Ready(Err(far_error(error)));
        }
        let room = match &self.link {
            Some(link) if self.fate == Fate::Open => link.outlet.poll_room(cx),
            _ => Err(Shut::Gone),
        };
        match room {
            Ok(0) => Poll::Pending,
            Ok(room) => Poll::Ready(Ok(room)),
            Err(Shut::Ended) => Poll::Ready(Err(os_error(Errno::EPIPE))),
            Err(Shut::Gone) => Poll::Ready(Err(self.end())),
        }
    }

    /// Waits until the connection has taken what was written.
    fn poll_taken(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.fate == Fate::Open && self.poll_frame(cx, Who::Writer).is_ready() {}
        let in_good_order = self.has_ended(Side::Client) && self.has_ended(Side::Agent);
        match &self.link {
            Some(link) if self.error.is_none() && (self.fate == Fate::Open || in_good_order) => {
                link.outlet.poll_taken(cx).map(Ok)
            }
            _ => Poll::Ready(Err(self.end())),
        }
    }

    fn has_ended(&self, side: Side) -> bool {
        self.link.as_ref().is_some_and(|link| link.outlet.has_ended(side))
    }

    /// Why nothing more can be read or written.
    fn end(&self) -> io::Error {
        match (&self.error, &self.fate) {
            (Some(error), _) => far_error(error),
            (None, Fate::Closed(closing)) => {
                io::Error::new(io::ErrorKind::ConnectionAborted, format!("the far socket is gone: {}", closing.reason))
            }
            (None, Fate::Broken(error)) => error.clone().into(),
            (None, Fate::Over | Fate::Open) => os_error(Errno::ENOTCONN),
        }
    }
}

impl Link {
    /// Begins a stream, and waits for the first answer. Where that is lost, it begins anew: for as long as `patient`, or for a while.
    async fn open(
        agent: &AgentClient,
        mut first: pb::TransferSocketRequest,
        patient: bool,
    ) -> Result<(Self, Opened), ClientError> {
        let mut attempts = agent.attempts(transfer::instance(&first).as_ref()).await?;
        let mut lost = None;
        loop {
            let error = match (Self::try_open(agent, first.clone()).await, &lost) {
                (Ok((_, opened)), Some(lost)) if went_with_its_stream(&opened) => return Err(ClientError::clone(lost)),
                (Ok(begun), _) => return Ok(begun),
                // The agent has not noticed yet that the stream which has the connection is lost.
                (Err(ClientError::Refused { reason, .. }), Some(lost)) if reason == "WRONG_STATE" => lost.clone(),
                (Err(error), _) => error,
            };
            if !attempts.again(&error, patient).await {
                agent.note_instance(&error);
                return Err(error);
            }
            // Another life of the agent may have a connection of that name, which is not the one that was meant.
            if !transfer::pin(&mut first, &attempts.begun)
                && let Ok(now) = agent.info().await
                && now.instance != attempts.begun
            {
                return Err(error);
            }
            lost = Some(error);
        }
    }

    async fn try_open(agent: &AgentClient, first: pb::TransferSocketRequest) -> Result<(Self, Opened), ClientError> {
        let (door, seat) = agent.bulk().reserve();
        let (outlet, outflow) = link(first);
        let answers = SocketServiceClient::new(door).transfer_socket(outflow).await?.into_inner();
        let mut link = Self { outlet, answers, _seat: seat };
        let opened = link.opened().await?;
        Ok((link, opened))
    }

    async fn opened(&mut self) -> Result<Opened, ClientError> {
        let sent = self.answers.message().await?;
        let frame = sent.and_then(transfer::read);
        match frame {
            Some(frame) if self.outlet.hear(&frame).is_ok() => match frame {
                FromAgent::Opened(opened) => Ok(*opened),
                _ => Err(ClientError::protocol("a stream did not begin as it should")),
            },
            _ => Err(ClientError::protocol("a stream did not begin as it should")),
        }
    }

    /// Lets the agent finish by itself: all of it has been said.
    async fn finish(mut self) {
        while let Ok(Some(_)) = self.answers.message().await {}
    }
}

/// Whether a connection was made for a stream that was lost, and has been reset with it: what is asked for again is not made twice.
fn went_with_its_stream(opened: &Opened) -> bool {
    let Some(report) = &opened.report else { return false };
    let canceled = report.error.as_ref().is_some_and(|error| error.cause == Cause::Errno(Errno::ECANCELED));
    let receives_only = opened.socket.as_ref().is_some_and(|it| it.conduct.direction == Direction::ReceiveOnly);
    canceled || (report.error.is_none() && !report.timed_out && opened.window == 0 && !receives_only)
}

impl AsyncRead for FarStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_unread(cx))?;
        let piece = this.unread_piece();
        let size = piece.len().min(buf.remaining());
        buf.put_slice(&piece[..size]);
        Pin::new(this).consume(size);
        Poll::Ready(Ok(()))
    }
}

impl AsyncBufRead for FarStream {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        ready!(this.poll_unread(cx))?;
        Poll::Ready(Ok(this.unread_piece()))
    }

    fn consume(mut self: Pin<&mut Self>, size: usize) {
        let Some(piece) = self.unread.front_mut() else { return };
        let size = size.min(piece.len());
        piece.advance(size);
        if piece.is_empty() {
            self.unread.pop_front();
        }
        self.grant_again(size);
    }
}

impl AsyncWrite for FarStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let size = ready!(this.poll_room(cx))?.min(buf.len());
        if let Some(link) = &this.link {
            link.outlet.copy(&buf[..size]);
        }
        Poll::Ready(Ok(size))
    }

    /// Waits until the connection to the agent has taken everything. That the peer has it is another matter: FlushSocket.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_taken(cx)
    }

    /// Sends a FIN after everything that was written. Reading goes on.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(link) = &this.link {
            link.outlet.end();
        }
        this.poll_taken(cx)
    }
}

impl Drop for FarStream {
    fn drop(&mut self) {
        let Some(link) = self.link.take_if(|_| self.fate == Fate::Open) else { return };
        if link.outlet.has_ended(Side::Client) && link.outlet.has_ended(Side::Agent) {
            if let Ok(runtime) = Handle::try_current() {
                runtime.spawn(link.finish());
            }
        } else if self.owned {
            // The agent would do it by itself, but not if it took the end of the requests for one in good order.
            link.outlet.abort();
        }
    }
}

impl fmt::Debug for FarStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("FarStream");
        shown.field("socket", &self.socket.id).field("local", &self.local()).field("remote", &self.remote());
        shown.field("fate", &self.fate).finish_non_exhaustive()
    }
}
