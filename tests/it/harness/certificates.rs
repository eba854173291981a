//! Certificates of a lab, and connections that show them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use farsock::agent::AgentConfig;
use farsock::client::{AgentClient, Credentials, Dialer, Endpoint};
use farsock::pki::{Authority, Identity, IdentityFiles, Issued, Subject};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint as Transport, Uri};
use tower::service_fn;

/// A day, for which certificates of tests are good.
pub const DAY: Duration = Duration::from_secs(86_400);

/// A lab's CA, in a directory of its own.
pub struct Certificates {
    pub folder: TempDir,
    pub authority: Authority,
}

impl Certificates {
    pub fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let authority = Authority::init(folder.path(), "a lab", SystemTime::now(), DAY * 100).unwrap();
        Self { folder, authority }
    }

    /// The identity of an agent on loopback.
    pub fn agent(&self) -> IdentityFiles {
        self.agent_named(&["localhost", "127.0.0.1", "::1"])
    }

    pub fn agent_named(&self, names: &[&str]) -> IdentityFiles {
        self.issue(&Subject::Agent(names.iter().map(ToString::to_string).collect()), DAY)
    }

    pub fn controller(&self, name: &str) -> IdentityFiles {
        self.controller_for(name, DAY)
    }

    pub fn controller_for(&self, name: &str, lifetime: Duration) -> IdentityFiles {
        self.issue(&Subject::Controller(name.to_owned()), lifetime)
    }

    fn issue(&self, subject: &Subject, lifetime: Duration) -> IdentityFiles {
        let Issued { path, .. } = self.authority.issue(subject, SystemTime::now(), lifetime, true).unwrap();
        IdentityFiles::of(&path)
    }

    /// The configuration of an agent that serves by TLS there.
    pub fn config(&self, listen: &str) -> AgentConfig {
        AgentConfig { listen: vec![listen.parse().unwrap()], tls: Some(self.agent()), ..AgentConfig::default() }
    }
}

pub fn identity(files: &IdentityFiles) -> Identity {
    Identity::load(files, SystemTime::now()).unwrap()
}

/// The client library, as whoever these files are of.
pub fn tls_client(address: &str, files: &IdentityFiles) -> AgentClient {
    let endpoint: Endpoint = address.parse().unwrap();
    AgentClient::new(&Dialer::with_tls(&endpoint, &identity(files)).unwrap(), &Credentials::none())
}

/// Real gRPC by TLS.
pub fn tls_channel(address: &str, files: &IdentityFiles) -> Channel {
    tls_channel_with(address, identity(files).client_config().unwrap())
}

/// The same, whatever is shown.
pub fn tls_channel_with(address: &str, config: ClientConfig) -> Channel {
    let connector = TlsConnector::from(Arc::new(config));
    let address = address.to_owned();
    let connect = move |_: Uri| {
        let (connector, address) = (connector.clone(), address.clone());
        async move {
            let host = address.rsplit_once(':').unwrap().0.trim_matches(['[', ']']).to_owned();
            let stream = TcpStream::connect(&address).await?;
            let stream = connector.connect(ServerName::try_from(host).unwrap(), stream).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    };
    Transport::from_static("http://agent").connect_with_connector_lazy(service_fn(connect))
}
