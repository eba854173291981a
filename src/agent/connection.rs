//! Connections of controllers, whatever they come by, and what is known of their peers.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::DropGuard;

use crate::agent::frames::Frames;
use crate::agent::keeper::Entered;
use crate::agent::places::{Connections, Login, Place};
use crate::model::id::Principal;
use crate::model::refusal::Quota;

/// A connection of a controller.
pub(super) struct Connection {
    stream: Stream,
    frames: Frames,
    _held: Held,
}

pub(super) enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
    /// Within the process.
    Memory(DuplexStream),
}

/// What a connection holds, and gives back when it is gone.
pub(super) struct Held {
    pub(super) _entered: Entered,
    /// Whoever watches over the connection learns that it is gone.
    pub(super) _gone: DropGuard,
}

/// What is known of whoever is at the other end.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) caller: Caller,
    admission: Arc<Admission>,
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Caller {
    /// The way in says who it is.
    Known(Principal),
    /// Whoever shows the token with each request.
    ByToken,
    /// Somebody whom nothing answers but what is open to all, and why.
    Refused(&'static str),
}

#[derive(Debug)]
struct Admission {
    done: AtomicBool,
    standing: Mutex<Standing>,
}

/// Where a connection has its place.
#[derive(Debug)]
enum Standing {
    /// Among those that have not sent a request with credentials yet.
    Outside { _login: Login, connections: Connections },
    /// Among those that have.
    Inside { _place: Place<Principal> },
}

impl Peer {
    /// Somebody who has yet to send a request with credentials, which must come soon.
    pub(super) fn outside(caller: Caller, login: Login, connections: Connections) -> Self {
        Self::new(caller, false, Standing::Outside { _login: login, connections })
    }

    /// Somebody who needs none.
    pub(super) fn inside(caller: Caller, place: Place<Principal>) -> Self {
        Self::new(caller, true, Standing::Inside { _place: place })
    }

    fn new(caller: Caller, done: bool, standing: Standing) -> Self {
        let (done, standing) = (AtomicBool::new(done), Mutex::new(standing));
        Self { caller, admission: Arc::new(Admission { done, standing }) }
    }

    /// Notes that it has sent a request with credentials, as somebody; or tells the limit that leaves it no place among those that have.
    pub(super) fn admit(&self, who: &Principal) -> Result<(), Quota> {
        if self.is_admitted() {
            return Ok(());
        }
        let mut standing = self.admission.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Standing::Outside { connections, .. } = &*standing {
            let place = connections.take(who)?;
            *standing = Standing::Inside { _place: place };
            self.admission.done.store(true, Ordering::Release);
        }
        Ok(())
    }

    pub(super) fn is_admitted(&self) -> bool {
        self.admission.done.load(Ordering::Acquire)
    }
}

impl Connection {
    pub(super) fn new(stream: Stream, held: Held) -> Self {
        Self { stream, frames: Frames::new(Instant::now()), _held: held }
    }

    fn stream(self: Pin<&mut Self>) -> Pin<&mut Stream> {
        Pin::new(&mut self.get_mut().stream)
    }

    fn noted(&mut self, written: io::Result<usize>) -> io::Result<usize> {
        written.inspect(|size| self.frames.sent(*size))
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(match &mut *self.as_mut().stream() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Memory(stream) => Pin::new(stream).poll_read(cx, buf),
        })?;
        if self.frames.are_too_many(&buf.filled()[before..], Instant::now) {
            tracing::warn!("a connection is ended that sends pings, settings or the like without number");
            return Poll::Ready(Err(io::Error::other("too many frames that ask for nothing")));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(match &mut *self.as_mut().stream() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Memory(stream) => Pin::new(stream).poll_write(cx, buf),
        });
        Poll::Ready(self.noted(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(match &mut *self.as_mut().stream() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Memory(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        });
        Poll::Ready(self.noted(written))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Tcp(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
            Stream::Unix(stream) => stream.is_write_vectored(),
            Stream::Memory(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self.stream() {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Memory(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self.stream() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Memory(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
