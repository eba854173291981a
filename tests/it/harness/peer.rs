//! The other end of a connection, made by plain system calls of the test itself.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::long;

/// What most tests are run on: both families.
pub const LOOPBACKS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// How long anything may take before a test calls it broken: long, so that a slow machine breaks nothing. Long forms ask more of it.
const PATIENCE: Duration = Duration::from_secs(20);
const PATIENCE_OF_LONG_FORMS: Duration = Duration::from_secs(200);

/// Waits for something that must come.
pub async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    let patience = if long() { PATIENCE_OF_LONG_FORMS } else { PATIENCE };
    timeout(patience, wait).await.unwrap_or_else(|_| panic!("{what} did not come within {patience:?}"))
}

/// A port that nobody answers at, and that nobody else gets: the port of a socket that was closed may be another test's a moment later.
pub struct DeadPort(Socket);

impl DeadPort {
    /// Bound, and not listening: whoever connects is refused.
    pub fn tcp(ip: IpAddr) -> Self {
        Self::bound(ip, Type::STREAM)
    }

    /// Connected with itself, it takes datagrams of itself alone: whoever else sends is told that nobody has the port.
    pub fn udp(ip: IpAddr) -> Self {
        let port = Self::bound(ip, Type::DGRAM);
        port.0.connect(&port.address().into()).unwrap();
        port
    }

    fn bound(ip: IpAddr, r#type: Type) -> Self {
        let socket = Socket::new(Domain::for_address(SocketAddr::new(ip, 0)), r#type, None).unwrap();
        socket.bind(&SocketAddr::new(ip, 0).into()).unwrap();
        Self(socket)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap().as_socket().unwrap()
    }

    pub fn text(&self) -> String {
        self.address().to_string()
    }
}

/// A plain TCP socket of the test.
pub struct TcpPeer(pub TcpStream);

impl TcpPeer {
    /// A listener on a port of the kernel's choice.
    pub async fn listen(ip: IpAddr) -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    pub async fn accept(listener: &TcpListener) -> Self {
        Self(within("a connection", listener.accept()).await.unwrap().0)
    }

    pub async fn connect(address: &str) -> Self {
        Self(within("a connection", TcpStream::connect(address)).await.unwrap())
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        within("room to write", self.0.write_all(bytes)).await.unwrap();
    }

    /// Reads exactly so many bytes.
    pub async fn read(&mut self, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        within("bytes", self.0.read_exact(&mut bytes)).await.unwrap();
        bytes
    }

    /// Reads to the end of the stream; an error is that of a reset.
    pub async fn read_to_end(&mut self) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        within("the end of the stream", self.0.read_to_end(&mut bytes)).await?;
        Ok(bytes)
    }

    /// Ends the sending direction: a FIN.
    pub async fn shut_down(&mut self) {
        self.0.shutdown().await.unwrap();
    }

    /// Resets the connection: a RST.
    pub fn abort(self) {
        socket2::SockRef::from(&self.0).set_linger(Some(Duration::ZERO)).unwrap();
    }
}
