//! Certificates for both ends, for an hour: the same files on farsock's side and on the bare one.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use farsock::pki::{Authority, Identity, IdentityFiles, Subject};
use rustls::{ClientConfig, ServerConfig};

pub(crate) struct Certificates {
    host: IdentityFiles,
    controller: IdentityFiles,
    _directory: tempfile::TempDir,
}

impl Certificates {
    pub(crate) fn issue() -> Self {
        let (directory, now, hour) = (tempfile::tempdir().unwrap(), SystemTime::now(), Duration::from_secs(3_600));
        let authority = Authority::init(directory.path(), "bench", now, hour).unwrap();
        let issue = |subject| IdentityFiles::of(&authority.issue(&subject, now, hour, false).unwrap().path);
        let host = issue(Subject::Agent(vec!["127.0.0.1".to_owned()]));
        let controller = issue(Subject::Controller("bench".to_owned()));
        Self { host, controller, _directory: directory }
    }

    /// What a server shows, and by which it knows clients.
    pub(crate) fn host(&self) -> IdentityFiles {
        self.host.clone()
    }

    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        let identity = Identity::load(&self.host, SystemTime::now()).unwrap();
        Arc::new(identity.server_config(identity.verifier(false).unwrap()).unwrap())
    }

    pub(crate) fn client_config(&self) -> Arc<ClientConfig> {
        let identity = Identity::load(&self.controller, SystemTime::now()).unwrap();
        Arc::new(identity.client_config().unwrap())
    }
}
