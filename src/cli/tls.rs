//! `--tls-cert` and what goes with it, as all commands take it.

use std::path::PathBuf;
use std::time::SystemTime;

use clap::Args;

use crate::cli::again::Again;
use crate::client::{ClientError, Dialer, Endpoint};
use crate::pki::{Identity, IdentityFiles};

/// The files of an identity.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct TlsArgs {
    /// Speak TLS on TCP, and show the certificate in this file: one that `farsock pki` has made
    #[arg(long, value_name = "FILE", env = "FARSOCK_TLS_CERT")]
    tls_cert: Option<PathBuf>,

    /// The certificate's private key [default: beside it, with .key]
    #[arg(long, value_name = "FILE", env = "FARSOCK_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// The CA that signs the certificates of the other side [default: beside it, ca.pem]
    #[arg(long, value_name = "FILE", env = "FARSOCK_TLS_CA", requires = "tls_cert")]
    tls_ca: Option<PathBuf>,
}

impl TlsArgs {
    /// Says again whose certificate is shown.
    pub(super) fn again(&self, again: &mut Again) {
        let Self { tls_cert, tls_key, tls_ca } = self;
        again.flag("--tls-cert", tls_cert.as_ref());
        again.flag("--tls-key", tls_key.as_ref());
        again.flag("--tls-ca", tls_ca.as_ref());
    }

    /// Where the identity is, if there is one.
    pub(super) fn files(&self) -> Option<IdentityFiles> {
        let mut files = IdentityFiles::of(self.tls_cert.as_ref()?);
        files.key = self.tls_key.clone().unwrap_or(files.key);
        files.ca = self.tls_ca.clone().unwrap_or(files.ca);
        Some(files)
    }

    /// A controller's identity, if there is one.
    pub(super) fn identity(&self) -> Result<Option<Identity>, String> {
        self.files().map(|files| controller(&files)).transpose()
    }
}

/// The identity of a controller that is in these files.
pub(super) fn controller(files: &IdentityFiles) -> Result<Identity, String> {
    let identity = Identity::load(files, SystemTime::now()).and_then(|identity| identity.for_controller(files));
    identity.map_err(|problem| problem.to_string())
}

/// Leads to an agent, by TLS where there is an identity.
pub(super) fn dialer(endpoint: &Endpoint, identity: Option<&Identity>) -> Result<Dialer, ClientError> {
    identity.map_or_else(|| Ok(Dialer::to(endpoint)), |identity| Dialer::with_tls(endpoint, identity))
}
