//! What an agent or a controller shows, and whom it believes: a certificate, its key, and a CA.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use thiserror::Error;

use crate::pki::certificate::{Certificate, Kind, written};
use crate::pki::private::{PrivateFileError, read_private, read_public};

/// What both sides speak within TLS.
const HTTP2: &[u8] = b"h2";

/// Where an identity stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The certificate, with those between it and the CA after it, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM, which nobody else may read.
    pub key: PathBuf,
    /// The certificates of the CA that those at the other end are signed by, in PEM.
    pub ca: PathBuf,
}

impl IdentityFiles {
    /// A certificate's files: as `farsock pki` lays them out, the key has its name with `.key`, and `ca.pem` is beside it.
    pub fn of(certificate: &Path) -> Self {
        Self {
            certificate: certificate.to_owned(),
            key: certificate.with_extension("key"),
            ca: certificate.with_file_name("ca.pem"),
        }
    }
}

/// An identity that was read, and that fits together.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
    certificate: Certificate,
    provider: Arc<CryptoProvider>,
}

/// Why an identity cannot be used. One line each: which file, what about it, what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PkiError {
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// It is not there.
    #[error("{path} is not there, and {what} is needed: `farsock pki` makes it")]
    Missing {
        /// The path.
        path: String,
        /// What should stand in it.
        what: &'static str,
    },
    /// There is none in it.
    #[error("{path} holds no {what} in PEM{}", detail(.why))]
    Malformed {
        /// The path.
        path: String,
        /// What should stand in it.
        what: &'static str,
        /// What is wrong with it, if that is known.
        why: String,
    },
    /// Certificate and key are not of one pair.
    #[error("{key} is not the key of {certificate}: take both from the same `farsock pki issue`")]
    OtherKey {
        /// The key's path.
        key: String,
        /// The certificate's.
        certificate: String,
    },
    /// Its time is over, or has not come.
    #[error("{path} is good from {from} to {to}, and it is {now} now: `farsock pki renew` makes it good again")]
    NotNow {
        /// The path.
        path: String,
        /// When its time begins.
        from: String,
        /// When it ends.
        to: String,
        /// What time it is.
        now: String,
    },
    /// It is for the other side.
    #[error("{path} is the certificate of {is}, and {wanted} is needed: {issue}")]
    OtherKind {
        /// The path.
        path: String,
        /// Whose it is.
        is: &'static str,
        /// Whose is needed.
        wanted: &'static str,
        /// What makes one.
        issue: &'static str,
    },
    /// TLS does not take it.
    #[error("{path}: {why}")]
    Refused {
        /// The path.
        path: String,
        /// Why.
        why: String,
    },
    /// There is something already that would be lost.
    #[error("{path} is there already: {hint}")]
    There {
        /// The path.
        path: String,
        /// What to do.
        hint: &'static str,
    },
    /// The name of a certificate's holder is none.
    #[error("{0}")]
    Name(String),
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Make(String),
}

fn detail(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(": {why}") }
}

impl Identity {
    /// Reads it, and sees that it fits together and is good now.
    pub fn load(files: &IdentityFiles, now: SystemTime) -> Result<Self, PkiError> {
        let path = |path: &Path| path.display().to_string();
        let chain = read_certificates(&files.certificate, "certificate")?;
        let certificate = facts(&files.certificate, &chain)?;
        if !(certificate.not_before..certificate.not_after).contains(&now) {
            return Err(PkiError::NotNow {
                path: path(&files.certificate),
                from: written(certificate.not_before),
                to: written(certificate.not_after),
                now: written(now),
            });
        }
        let key = read_key(&files.key)?;
        let mut roots = RootCertStore::empty();
        for root in read_certificates(&files.ca, "CA certificate")? {
            let added = roots.add(root);
            added.map_err(|error| PkiError::Refused { path: path(&files.ca), why: error.to_string() })?;
        }
        let provider = Arc::new(default_provider());
        let fits = rustls::sign::CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider);
        fits.and_then(|pair| pair.keys_match()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                PkiError::OtherKey { key: path(&files.key), certificate: path(&files.certificate) }
            }
            other => PkiError::Refused { path: path(&files.key), why: other.to_string() },
        })?;
        Ok(Self { chain, key, roots: Arc::new(roots), certificate, provider })
    }

    /// What stands in the certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// What judges the certificates of those who come. Whoever has none is let in only where `optional` says so.
    pub fn verifier(&self, optional: bool) -> Result<Arc<dyn ClientCertVerifier>, PkiError> {
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.roots), Arc::clone(&self.provider));
        // Whoever is told which CAs are believed shows nothing where he has nothing of theirs, and then cannot be told what is wrong.
        let builder = builder.clear_root_hint_subjects();
        let builder = if optional { builder.allow_unauthenticated() } else { builder };
        builder.build().map_err(|error| PkiError::Refused { path: "the CA".to_owned(), why: error.to_string() })
    }

    /// TLS for whoever listens.
    pub fn server_config(&self, verifier: Arc<dyn ClientCertVerifier>) -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![HTTP2.to_vec()];
        // A resumed session would be let in by what its certificate was when it was first shown.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// TLS for whoever connects.
    pub fn client_config(&self) -> Result<ClientConfig, rustls::Error> {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(&self.roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .with_webpki_verifier(verifier)
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![HTTP2.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }

    /// That it is one of an agent.
    pub fn for_agent(self, files: &IdentityFiles) -> Result<Self, PkiError> {
        self.of_kind(files, Kind::Agent, "an agent", "`farsock pki issue HOST` makes one")
    }

    /// That it is one of a controller.
    pub fn for_controller(self, files: &IdentityFiles) -> Result<Self, PkiError> {
        self.of_kind(files, Kind::Controller, "a controller", "`farsock pki issue --controller NAME` makes one")
    }

    fn of_kind(
        self,
        files: &IdentityFiles,
        kind: Kind,
        wanted: &'static str,
        issue: &'static str,
    ) -> Result<Self, PkiError> {
        let is = match self.certificate.kind {
            Kind::Any => return Ok(self),
            is if is == kind => return Ok(self),
            Kind::Authority => "a CA",
            Kind::Agent => "an agent",
            Kind::Controller => "a controller",
        };
        Err(PkiError::OtherKind { path: files.certificate.display().to_string(), is, wanted, issue })
    }
}

/// The certificates of a file, of which there is at least one.
pub(super) fn read_certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let named = path.display().to_string();
    let text = read_public(path)?.ok_or_else(|| PkiError::Missing { path: named.clone(), what })?;
    let chain = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(PkiError::Malformed { path: named, what, why: String::new() }),
        Err(error) => Err(PkiError::Malformed { path: named, what, why: error.to_string() }),
    }
}

/// What stands in the first certificate of a file.
pub(super) fn facts(path: &Path, chain: &[CertificateDer<'_>]) -> Result<Certificate, PkiError> {
    chain.first().and_then(|der| Certificate::read(der)).ok_or_else(|| PkiError::Malformed {
        path: path.display().to_string(),
        what: "certificate",
        why: "what is in it is no X.509 certificate".to_owned(),
    })
}

/// The private key of a file that nobody else can read.
pub(super) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, PkiError> {
    let (named, what) = (path.display().to_string(), "private key");
    let text = read_private(path)?.ok_or_else(|| PkiError::Missing { path: named.clone(), what })?;
    PrivateKeyDer::from_pem_slice(text.as_bytes())
        // What is wrong with it may show some of it.
        .map_err(|_| PkiError::Malformed { path: named, what, why: String::new() })
}
