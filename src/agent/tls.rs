//! TLS at the door: who comes is known by a certificate, or is sent away.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::agent::config::StartError;
use crate::agent::keeper::Chain;
use crate::pki::{Certificate, Identity, IdentityFiles, problem};

/// How much is still read from somebody who is sent away, so that he gets to read why before the kernel resets the connection.
const FAREWELL_BYTES: usize = 64 << 10;

/// What TLS needs at the door.
pub(super) struct Tls {
    acceptor: TlsAcceptor,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Tls {
    /// Reads the agent's identity. Whoever has no certificate is let in only where `optional` says so, and learns nothing there but what is
    /// open to all.
    pub(super) fn load(files: &IdentityFiles, optional: bool) -> Result<Self, StartError> {
        let identity = Identity::load(files, SystemTime::now())?.for_agent(files)?;
        let verifier = identity.verifier(optional)?;
        let config =
            identity.server_config(Arc::clone(&verifier)).map_err(|error| StartError::Tls(error.to_string()))?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), verifier })
    }

    /// Shakes hands; or says why not.
    pub(super) async fn accept(&self, stream: TcpStream) -> Result<Box<TlsStream<TcpStream>>, String> {
        match self.acceptor.accept(stream).into_fallible().await {
            Ok(stream) if stream.get_ref().1.alpn_protocol().is_some() => Ok(Box::new(stream)),
            Ok(_) => Err("it does not offer HTTP/2 (ALPN h2)".to_owned()),
            Err((error, stream)) => {
                farewell(stream).await;
                Err(problem(&error, "the agent", "the client").unwrap_or_else(|| error.to_string()))
            }
        }
    }

    /// Whether somebody who has shown these certificates would be let in now.
    pub(super) fn believes(&self, chain: &[CertificateDer<'_>]) -> bool {
        let Some((first, others)) = chain.split_first() else { return false };
        self.verifier.verify_client_cert(first, others, UnixTime::now()).is_ok()
    }
}

/// What somebody has shown: nothing, where that is allowed.
pub(super) fn shown(stream: &TlsStream<TcpStream>) -> Option<(Certificate, Chain)> {
    let chain = stream.get_ref().1.peer_certificates()?;
    let certificate = Certificate::read(chain.first()?)?;
    Some((certificate, chain.iter().map(|der| der.clone().into_owned()).collect()))
}

/// Lets somebody read the alert that says why he is sent away. Bounded by the deadline of logins, as all of this is.
async fn farewell(mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let (mut left, mut buffer) = (FAREWELL_BYTES, [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        match left.checked_sub(read) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}
