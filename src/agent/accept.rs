//! The agent's own accept loop: it backs off when descriptors run out, keeps to a number of connections, and can end each of them.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::agent::config::{Listen, StartError};
use crate::agent::connection::{Connection, Peer, Stream};
use crate::agent::paths::{make_private, make_private_parent};
use crate::model::errno::Errno;
use crate::model::id::Principal;
use crate::sys::process;

/// How long the loop waits when accepting fails, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How large the pipe of a connection within the process is.
const MEMORY_PIPE: usize = 1 << 20;

/// How a dead controller on TCP is noticed by the kernel, beside HTTP/2's own pings.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(15)).with_interval(Duration::from_secs(5)).with_retries(3);
const USER_TIMEOUT: Duration = Duration::from_secs(15);

/// A way in that is open.
pub(super) enum Door {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
    /// From within the process.
    Memory(mpsc::Receiver<DuplexStream>),
}

/// Leads to an agent in the same process.
#[derive(Debug, Clone)]
pub struct MemoryConnector(mpsc::Sender<DuplexStream>);

impl MemoryConnector {
    /// A new connection.
    pub async fn connect(&self) -> io::Result<DuplexStream> {
        let (near, far) = tokio::io::duplex(MEMORY_PIPE);
        self.0.send(far).await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(near)
    }
}

/// A door, and what leads to it.
pub(super) fn memory_door() -> (Door, MemoryConnector) {
    let (sender, receiver) = mpsc::channel(16);
    (Door::Memory(receiver), MemoryConnector(sender))
}

impl Door {
    /// Opens a way in.
    pub(super) async fn open(listen: &Listen) -> Result<Self, StartError> {
        let failed = |error: &io::Error| StartError::Listen {
            at: listen.to_string(),
            errno: Errno::new(error.raw_os_error().unwrap_or(libc::EIO)),
        };
        match listen {
            Listen::Tcp(addr) if !addr.ip().is_loopback() => Err(StartError::NotLoopback(*addr)),
            Listen::Tcp(addr) => Ok(Self::Tcp(TcpListener::bind(addr).await.map_err(|e| failed(&e))?)),
            Listen::Unix(path) => {
                make_private_parent(path)?;
                remove_stale(path, listen).await?;
                let listener = UnixListener::bind(path).map_err(|e| failed(&e))?;
                make_private(path)?;
                Ok(Self::Unix(listener, path.clone()))
            }
        }
    }

    /// Where it leads from, with the real port. Absent for the one within the process.
    pub(super) fn listen(&self) -> Option<Listen> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok().map(Listen::Tcp),
            Self::Unix(_, path) => Some(Listen::Unix(path.clone())),
            Self::Memory(_) => None,
        }
    }

    async fn accept(&mut self) -> io::Result<Option<Stream>> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Some(Stream::Tcp(stream))),
            Self::Unix(listener, _) => listener.accept().await.map(|(stream, _)| Some(Stream::Unix(stream))),
            Self::Memory(receiver) => Ok(receiver.recv().await.map(Stream::Memory)),
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // If it is gone already, somebody was faster, which is fine.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Removes the Unix socket of an agent that has died; never one of an agent that lives, and never anything else.
async fn remove_stale(path: &Path, listen: &Listen) -> Result<(), StartError> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err(StartError::AgentThere(listen.to_string())),
        Err(_) => std::fs::remove_file(path).map_err(|error| StartError::File {
            path: path.display().to_string(),
            errno: Errno::new(error.raw_os_error().unwrap_or(libc::EIO)),
        }),
    }
}

/// Takes connections in, and hands them to the server.
#[derive(Clone)]
pub(super) struct Acceptor {
    pub(super) connections: mpsc::Sender<io::Result<Connection>>,
    pub(super) permits: Arc<Semaphore>,
    /// Ends all connections.
    pub(super) end: CancellationToken,
    /// No more connections are taken.
    pub(super) closing: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) login_timeout: Duration,
    /// Everybody who comes by loopback TCP is let in.
    pub(super) no_auth: bool,
}

impl Acceptor {
    /// Runs until no more connections are taken.
    pub(super) async fn run(self, mut door: Door) {
        let mut pause = Duration::ZERO;
        loop {
            let accepted = tokio::select! {
                () = self.closing.cancelled() => return,
                accepted = door.accept() => accepted,
            };
            match accepted {
                Ok(Some(stream)) => {
                    pause = Duration::ZERO;
                    if !self.admit(stream).await {
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    if pause.is_zero() {
                        tracing::warn!(%error, "cannot accept a connection: trying again, less and less often");
                    }
                    pause = (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
                    tokio::select! {
                        () = self.closing.cancelled() => return,
                        () = sleep_until(Instant::now() + pause) => {}
                    }
                }
            }
        }
    }

    /// Hands one connection to the server; says whether there still is one.
    async fn admit(&self, stream: Stream) -> bool {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            tracing::warn!("limits.connections is reached: a connection is turned away");
            return true;
        };
        let Some(peer) = self.identify(&stream) else {
            tracing::warn!("a connection of another user is turned away");
            return true;
        };
        let end = self.end.child_token();
        if !peer.is_admitted() {
            self.tasks.spawn(turn_away_if_silent(peer.clone(), end.clone(), Instant::now() + self.login_timeout));
        }
        self.connections.send(Ok(Connection::new(stream, peer, end, permit))).await.is_ok()
    }

    /// What the way in says of whoever comes; nothing if it must not come in.
    fn identify(&self, stream: &Stream) -> Option<Peer> {
        match stream {
            Stream::Memory(_) => Some(Peer::new(Some(Principal::owner()))),
            Stream::Unix(stream) => {
                let user = stream.peer_cred().ok()?.uid();
                let trusted = user == process::user() || user == 0;
                trusted.then(|| Peer::new(Some(Principal::owner())))
            }
            Stream::Tcp(stream) => {
                tune(stream);
                Some(Peer::new(self.no_auth.then(Principal::owner)))
            }
        }
    }
}

/// Ends a connection that has not shown credentials in time.
async fn turn_away_if_silent(peer: Peer, end: CancellationToken, deadline: Instant) {
    tokio::select! {
        () = end.cancelled() => {}
        () = sleep_until(deadline) => {
            if !peer.is_admitted() {
                end.cancel();
            }
        }
    }
}

/// Sets what tonic does not set on connections that it has not accepted itself. Where the kernel objects, the connection works all the same.
fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let _ = socket.set_tcp_keepalive(&KEEPALIVE);
    let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
}
