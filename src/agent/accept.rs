//! The agent's own accept loop: it backs off when descriptors run out, keeps to a number of connections, and can end each of them.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::SocketAddr as UnixAddress;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::agent::config::{Listen, StartError};
use crate::agent::connection::{Caller, Connection, Held, Peer, Stream};
use crate::agent::http::Server;
use crate::agent::keeper::{Keeper, Shown};
use crate::agent::paths::{make_private, make_private_parent, may_make_private};
use crate::agent::places::{Connections, Login, Logins};
use crate::agent::tls::shown;
use crate::model::errno::Errno;
use crate::model::id::Principal;
use crate::model::refusal::Quota;
use crate::pki::PrivateFileError;
use crate::service::agent_service::Reading;
use crate::socket::Sockets;
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
        match listen {
            Listen::Tcp(addr) => Ok(Self::Tcp(TcpListener::bind(addr).await.map_err(|e| cannot_listen(listen, &e))?)),
            Listen::Unix(path) => {
                make_private_parent(path)?;
                if is_stale(path, listen).await? {
                    std::fs::remove_file(path).map_err(|error| PrivateFileError::new(path, &error))?;
                }
                let listener = UnixListener::bind(path).map_err(|e| cannot_listen(listen, &e))?;
                make_private(path)?;
                Ok(Self::Unix(listener, path.clone()))
            }
        }
    }

    /// Finds out whether a way in could be opened. It is open then, as long as whoever asks tries others beside it; but where a directory
    /// would have to be made first, or what an agent has left would have to be removed, nothing is.
    pub(super) async fn try_open(listen: &Listen) -> Result<Option<Self>, StartError> {
        let Listen::Unix(path) = listen else { return Self::open(listen).await.map(Some) };
        let has_place = path.parent().is_none_or(|parent| parent.as_os_str().is_empty() || parent.exists());
        if has_place && !is_stale(path, listen).await? {
            return Self::open(listen).await.map(Some);
        }
        UnixAddress::from_pathname(path).map_err(|error| cannot_listen(listen, &error))?;
        may_make_private(path).map(|()| None)
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

fn cannot_listen(at: &Listen, error: &io::Error) -> StartError {
    StartError::Listen { at: at.clone(), errno: Errno::new(error.raw_os_error().unwrap_or(libc::EIO)) }
}

/// Whether there is the Unix socket of an agent that has died. That of one that lives is an error, and anything else is none of ours.
async fn is_stale(path: &Path, listen: &Listen) -> Result<bool, StartError> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if !is_socket {
        return Ok(false);
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err(StartError::AgentThere(listen.to_string())),
        Err(_) => Ok(true),
    }
}

/// Tells how many connections there are, by the names of their limits.
pub(super) fn reading(connections: Connections, logins: Logins) -> Reading {
    Arc::new(move |name| match name {
        "connections" => Some(connections.count().0),
        "reserved_connections" => Some(connections.reserved()),
        "connections_per_principal" => Some(connections.count().1),
        "logins" => Some(logins.count().0),
        "logins_per_source" => Some(logins.count().1),
        _ => None,
    })
}

/// Takes connections in, and hands them to the server.
#[derive(Clone)]
pub(super) struct Acceptor {
    pub(super) server: Server,
    /// Those that have shown credentials, or need none.
    pub(super) connections: Connections,
    /// Ends all connections.
    pub(super) end: CancellationToken,
    /// No more connections are taken.
    pub(super) closing: CancellationToken,
    pub(super) tasks: TaskTracker,
    /// Those that have not shown credentials yet.
    pub(super) logins: Logins,
    pub(super) login_timeout: Duration,
    pub(super) keeper: Arc<Keeper>,
    /// Everybody who comes by loopback TCP and asks for something is let in.
    pub(super) no_auth: bool,
    pub(super) sockets: Sockets,
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
                    self.admit(stream);
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

    /// Hands one connection to the server, at once or when it has shaken hands.
    fn admit(&self, stream: Stream) {
        match stream {
            Stream::Tcp(stream) => {
                let Some((stream, login)) = self.receive(stream) else { return };
                if self.keeper.checks().tls.is_some() {
                    self.tasks.spawn(self.clone().shake_hands(stream, login));
                    return;
                }
                let (caller, shown) = if self.no_auth {
                    (Caller::Known(Principal::owner()), Shown::Nothing)
                } else {
                    (Caller::ByToken, Shown::Token)
                };
                self.serve(Stream::Tcp(stream), caller, shown, login, Instant::now() + self.login_timeout);
            }
            Stream::Unix(stream) => {
                let user = stream.peer_cred().map(|peer| peer.uid());
                if !user.is_ok_and(|user| user == process::user() || user == 0) {
                    return tracing::warn!("a connection of another user is turned away");
                }
                self.serve_owner(Stream::Unix(stream));
            }
            other => self.serve_owner(other),
        }
    }

    /// Hands a connection to the server that nobody else can have made, and that needs not say anything.
    fn serve_owner(&self, stream: Stream) {
        let owner = Principal::owner();
        match self.connections.take(&owner) {
            Ok(place) => self.hand_over(stream, Peer::inside(Caller::Known(owner), place), Shown::Nothing, None),
            Err(quota) => self.turn_away(quota, None),
        }
    }

    fn turn_away(&self, quota: Quota, from: Option<SocketAddr>) {
        tracing::warn!(?from, "{} is reached: a connection is turned away", quota.limit);
        self.sockets.refusals().add(quota.limit);
    }

    /// Makes a TCP connection ready, and gives it a place among those that have not logged in.
    fn receive(&self, stream: TcpStream) -> Option<(TcpStream, Login)> {
        tune(&stream);
        // It may be gone already.
        let from = stream.peer_addr().ok()?;
        let login = self.logins.take(from.ip()).map_err(|quota| self.turn_away(quota, Some(from))).ok()?;
        Some((stream, login))
    }

    /// Speaks TLS with somebody, within the time that a login may take, and hands the connection to the server.
    async fn shake_hands(self, stream: TcpStream, login: Login) {
        let Ok(from) = stream.peer_addr() else { return };
        let deadline = Instant::now() + self.login_timeout;
        let checks = Arc::clone(&self.keeper.checks());
        let Some(tls) = &checks.tls else { return };
        let shaken = tokio::select! {
            () = self.closing.cancelled() => return,
            shaken = timeout_at(deadline, tls.accept(stream)) => shaken,
        };
        let stream = match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(why)) => return tracing::warn!(%from, "a connection is turned away: {why}"),
            Err(_) => return tracing::warn!(%from, "a connection is turned away: it has not shaken hands in time"),
        };
        let (caller, shown) = match shown(&stream) {
            None => {
                (Caller::Refused("a certificate is needed here: one that the agent's CA has signed"), Shown::Nothing)
            }
            Some((certificate, chain)) => match certificate.principal() {
                Ok(principal) => {
                    let not_after = certificate.not_after;
                    (Caller::Known(principal.clone()), Shown::Certificate { principal, not_after, chain })
                }
                Err(why) => {
                    tracing::warn!(%from, serial = certificate.serial, "{why}");
                    (Caller::Refused(why.text()), Shown::Nothing)
                }
            },
        };
        self.serve(Stream::Tls(stream), caller, shown, login, deadline);
    }

    /// Hands a connection to the server that has to send a request with credentials before the deadline.
    fn serve(&self, stream: Stream, caller: Caller, shown: Shown, login: Login, deadline: Instant) {
        let peer = Peer::outside(caller, login, self.connections.clone());
        self.hand_over(stream, peer, shown, Some(deadline));
    }

    /// Hands a connection to the server, and watches over it.
    fn hand_over(&self, stream: Stream, peer: Peer, shown: Shown, deadline: Option<Instant>) {
        let end = self.end.child_token();
        let Some(entered) = self.keeper.enter(shown, end.clone(), &self.sockets) else {
            return tracing::warn!("a connection is turned away: what it has shown has ceased to count meanwhile");
        };
        if let Some(deadline) = deadline {
            self.tasks.spawn(turn_away_if_silent(peer.clone(), end.clone(), deadline));
        }
        let held = Held { _entered: entered, _gone: end.clone().drop_guard() };
        self.server.serve(Connection::new(stream, held), peer, end);
    }
}

/// Ends a connection that has not shown credentials in time.
async fn turn_away_if_silent(peer: Peer, end: CancellationToken, deadline: Instant) {
    if end.run_until_cancelled(sleep_until(deadline)).await.is_some() && !peer.is_admitted() {
        end.cancel();
    }
}

/// Sets what a connection needs. Where the kernel objects, the connection works all the same.
fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let _ = socket.set_tcp_keepalive(&KEEPALIVE);
    let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
}
