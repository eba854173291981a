//! Connections of controllers, whatever they come by, and what is known of their peers.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::DropGuard;

use crate::agent::keeper::Entered;
use crate::agent::logins::Login;
use crate::model::id::Principal;

/// A connection of a controller.
pub(super) struct Connection {
    stream: Stream,
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
    pub(super) _permit: OwnedSemaphorePermit,
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
    /// Its place among those that have not logged in yet.
    login: Mutex<Option<Login>>,
}

impl Peer {
    /// Somebody who has yet to send a request with credentials, which must come soon where there is a login.
    pub(super) fn new(caller: Caller, login: Option<Login>) -> Self {
        let done = AtomicBool::new(login.is_none());
        Self { caller, admission: Arc::new(Admission { done, login: Mutex::new(login) }) }
    }

    /// Notes that it has sent a request with credentials.
    pub(super) fn admitted(&self) {
        if !self.is_admitted() {
            self.admission.done.store(true, Ordering::Release);
            self.admission.login.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }

    pub(super) fn is_admitted(&self) -> bool {
        self.admission.done.load(Ordering::Acquire)
    }
}

impl Connection {
    pub(super) fn new(stream: Stream, held: Held) -> Self {
        Self { stream, _held: held }
    }

    fn stream(self: Pin<&mut Self>) -> Pin<&mut Stream> {
        Pin::new(&mut self.get_mut().stream)
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self.stream() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Memory(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self.stream() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Memory(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self.stream() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Memory(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
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
