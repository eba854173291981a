//! gRPC connections of clients: the same settings whatever is at the other end.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// The largest HTTP/2 frame, on both ends.
pub(crate) const FRAME: u32 = 1 << 20;
/// HTTP/2 receive windows for calls, and for bulk.
pub(crate) const CALL_WINDOWS: (u32, u32) = (1 << 20, 4 << 20);
pub(crate) const BULK_WINDOWS: (u32, u32) = (8 << 20, 16 << 20);

/// Where a server is.
#[derive(Debug, Clone)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    /// The same, with certificates on both sides.
    Tls(SocketAddr, Arc<ClientConfig>),
    Unix(PathBuf),
}

impl Address {
    /// Connects.
    pub(crate) async fn channel(self, (stream, connection): (u32, u32)) -> Channel {
        let endpoint = Endpoint::from_static("http://bench")
            .initial_stream_window_size(stream)
            .initial_connection_window_size(connection)
            .max_frame_size(FRAME);
        match self {
            Self::Tcp(addr) => {
                let connect = move |_: Uri| async move {
                    let stream = TcpStream::connect(addr).await?;
                    stream.set_nodelay(true)?;
                    io::Result::Ok(TokioIo::new(stream))
                };
                endpoint.connect_with_connector(service_fn(connect)).await.unwrap()
            }
            Self::Tls(addr, config) => {
                let connect = move |_: Uri| {
                    let connector = TlsConnector::from(Arc::clone(&config));
                    async move {
                        let stream = TcpStream::connect(addr).await?;
                        stream.set_nodelay(true)?;
                        io::Result::Ok(TokioIo::new(connector.connect(addr.ip().into(), stream).await?))
                    }
                };
                endpoint.connect_with_connector(service_fn(connect)).await.unwrap()
            }
            Self::Unix(path) => {
                let connect = move |_: Uri| {
                    let path = path.clone();
                    async move { io::Result::Ok(TokioIo::new(UnixStream::connect(path).await?)) }
                };
                endpoint.connect_with_connector(service_fn(connect)).await.unwrap()
            }
        }
    }
}
