//! TLS of a client: it shows a certificate, and waits until it is let in.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::error::{ClientError, door_closed, turned_away};
use crate::client::greeting::{Answer, Greeted, greet};
use crate::pki::{Identity, problem};

/// Speaks TLS to one agent.
#[derive(Clone)]
pub(super) struct TlsClient {
    connector: TlsConnector,
    host: ServerName<'static>,
    name: Arc<str>,
}

impl TlsClient {
    /// For the agent of this name, or this address, which its certificate must have.
    pub(super) fn new(host: &str, identity: &Identity) -> Result<Self, ClientError> {
        let closed = |message: String| ClientError::Unauthenticated { message };
        let server = ServerName::try_from(host.to_owned())
            .map_err(|_| closed(format!("`{host}` is not a name that a certificate can have")))?;
        let config = identity.client_config().map_err(|error| closed(format!("TLS: {error}")))?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), host: server, name: host.into() })
    }

    /// Shakes hands, and waits for an answer: with TLS 1.3 the agent judges a client when that has all it needs to go on.
    pub(super) async fn connect(&self, stream: TcpStream) -> io::Result<Greeted<TlsStream<TcpStream>>> {
        let stream = self.connector.connect(self.host.clone(), stream).await.map_err(|error| self.explain(error))?;
        match greet(stream).await.map_err(|error| self.explain(error))? {
            Answer::Greeted(stream) => Ok(stream),
            Answer::Nothing | Answer::Alert => Err(turned_away(&self.name)),
        }
    }

    fn explain(&self, error: io::Error) -> io::Error {
        match problem(&error, "this client", &format!("the agent at {}", self.name)) {
            Some(words) => door_closed(words),
            None => error,
        }
    }
}
