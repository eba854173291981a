//! Connections to an agent: one for calls, one for events, and others for bulk, so that a flood of events or bytes holds up no call. Each is
//! made when it is first used.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint as Transport, Uri};
use tower::service_fn;

use crate::client::error::{ClientError, door_closed, no_way, turned_away};
use crate::client::greeting::{Answer, greet};
use crate::client::ssh::Ssh;
use crate::client::tls::TlsClient;
use crate::model::endpoint::Endpoint;
use crate::pki::Identity;

/// How long reaching an agent may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take by ssh, which may go by other hosts.
const SSH_TIMEOUT: Duration = Duration::from_secs(30);
/// HTTP/2 receive windows, of a stream and of the whole connection: for calls, for events, which come in bulk, and for bytes.
const CALL_WINDOWS: (u32, u32) = (1 << 20, 4 << 20);
const EVENT_WINDOWS: (u32, u32) = (4 << 20, 8 << 20);
pub(super) const BULK_WINDOWS: (u32, u32) = (8 << 20, 16 << 20);
/// The same where all of it shares one connection. What its streams have granted together stays below the window of the connection: an agent
/// serves 1,024 streams a connection, each is granted [`READ_CREDIT`](crate::client::bulk::READ_CREDIT), and events read on.
const ONLY_WINDOWS: (u32, u32) = (4 << 20, 1 << 30);
/// The largest HTTP/2 frame that is taken.
const FRAME: u32 = 1 << 20;
/// How soon an agent is noticed that has gone without a word.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection, of whatever kind.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

type Dialled = Pin<Box<dyn Future<Output = io::Result<Box<dyn Duplex>>> + Send>>;

/// Makes connections to one agent.
#[derive(Clone)]
pub struct Dialer {
    dial: Arc<dyn Fn() -> Dialled + Send + Sync>,
    /// How long reaching the agent may take.
    patience: Duration,
    /// The one connection there is, where each would be dear: calls, events and bytes share it.
    only: Option<Arc<OnceLock<Channel>>>,
}

impl Dialer {
    /// Connects in a way of the caller's own: to an agent in the same process, for instance.
    pub fn from_fn<F, S>(dial: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: Duplex + 'static,
    {
        let dial = Arc::new(move || -> Dialled {
            let dialled = dial();
            Box::pin(async move { Ok(Box::new(dialled.await?) as Box<dyn Duplex>) })
        });
        Self { dial, patience: CONNECT_TIMEOUT, only: None }
    }

    /// Connects by an ssh that is started for it: a program that takes the words that ssh(1) takes. All goes by one connection, and `agent` is the
    /// program on the far host.
    pub fn by_ssh(ssh: Ssh) -> Self {
        let ssh = Arc::new(ssh);
        let dialer = Self::from_fn(move || {
            let ssh = Arc::clone(&ssh);
            async move { ssh.connect().await }
        });
        Self { patience: SSH_TIMEOUT, only: Some(Arc::default()), ..dialer }
    }

    /// Connects by TLS to an agent on TCP, as whom a certificate says, and to one on a Unix socket as [`Dialer::to`] does.
    pub fn with_tls(endpoint: &Endpoint, identity: &Identity) -> Result<Self, ClientError> {
        let Endpoint::Tcp { host, port } = endpoint.clone() else { return Ok(Self::to(endpoint)) };
        let client = TlsClient::new(&host, identity)?;
        Ok(Self::from_fn(move || {
            let (client, host) = (client.clone(), host.clone());
            async move { client.connect(tcp(&host, port).await?).await }
        }))
    }

    /// Connects to an agent by TCP of this host, or by its Unix socket. What goes to another host needs TLS.
    pub fn to(endpoint: &Endpoint) -> Self {
        match endpoint.clone() {
            Endpoint::Tcp { host, port } => Self::from_fn(move || {
                let host = host.clone();
                async move {
                    let stream = tcp(&host, port).await?;
                    if !stream.peer_addr()?.ip().to_canonical().is_loopback() {
                        return Err(door_closed(format!(
                            "{host} is another host, and nothing goes there in the clear: give a certificate (--tls-cert), or go by ssh"
                        )));
                    }
                    match greet(stream).await? {
                        // HTTP/2 begins with a short frame.
                        Answer::Greeted(stream) if stream.first_words().first() == Some(&0) => Ok(stream),
                        Answer::Greeted(_) => Err(no_way(format!(
                            "what listens on port {port} of {host} is no agent: `farsock agent` says which port it has, 7625 where nothing else is said"
                        ))),
                        Answer::Alert => Err(door_closed(format!(
                            "the agent at {host} speaks TLS, and a certificate is needed (--tls-cert)"
                        ))),
                        Answer::Nothing => Err(turned_away(&host)),
                    }
                }
            }),
            Endpoint::Unix(path) => Self::from_fn(move || {
                let path = path.clone();
                async move { UnixStream::connect(path).await }
            }),
            Endpoint::Ssh { user, host, port } => Self::by_ssh(Ssh::to(user, host, port)),
        }
    }

    pub(super) fn channel_for_calls(&self) -> Channel {
        self.channel(CALL_WINDOWS)
    }

    pub(super) fn channel_for_events(&self) -> Channel {
        self.channel(EVENT_WINDOWS)
    }

    pub(super) fn channel_for_bulk(&self) -> Channel {
        self.channel(BULK_WINDOWS)
    }

    fn channel(&self, windows: (u32, u32)) -> Channel {
        match &self.only {
            Some(only) => only.get_or_init(|| self.connection(ONLY_WINDOWS)).clone(),
            None => self.connection(windows),
        }
    }

    fn connection(&self, (stream_window, connection_window): (u32, u32)) -> Channel {
        let (dial, patience) = (Arc::clone(&self.dial), self.patience);
        let connect = move |_: Uri| {
            let dialled = dial();
            async move {
                let late = || io::Error::new(io::ErrorKind::TimedOut, "nobody answers there");
                timeout(patience, dialled).await.unwrap_or_else(|_| Err(late())).map(TokioIo::new)
            }
        };
        // The address is never looked up: the dialer knows where to go.
        Transport::from_static("http://agent")
            .initial_stream_window_size(stream_window)
            .initial_connection_window_size(connection_window)
            .max_frame_size(FRAME)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(service_fn(connect))
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let found = lookup_host((host, port)).await.map_err(|error| {
        let text = error.to_string();
        let reason = text.rsplit_once(": ").map_or(text.as_str(), |(_, reason)| reason);
        no_way(format!(
            "there is no host `{host}` ({reason}): is the name right? An address does as well, and a name of an inventory needs --inventory FILE"
        ))
    })?;
    let stream = TcpStream::connect(&found.collect::<Vec<_>>()[..]).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
