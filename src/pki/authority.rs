//! The CA of a lab, in a directory: `ca.pem` and `ca.key`, and a `.pem` and a `.key` for each agent and each controller.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::model::id::{Principal, check_name};
use crate::model::payload::to_hex;
use crate::pki::certificate::{CONTROLLER, Certificate, Kind, written};
use crate::pki::identity::{PkiError, facts, read_certificates, read_key};
use crate::pki::pem;
use crate::pki::private::{PrivateFileError, make_private_directory, write_private, write_public};

/// Certificates are good a little before they are made: clocks of a lab disagree.
const BEFORE: Duration = Duration::from_secs(3600);

/// The part of a name that tells it from others like it. X.520, section 6.2.9.
const SERIAL_NUMBER: [u64; 4] = [2, 5, 4, 5];

/// The CA of a lab.
pub struct Authority {
    directory: PathBuf,
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// Whom a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// An agent, by the names and addresses that clients call it by; the first is also the name of its files.
    Agent(Vec<String>),
    /// A controller, by its principal.
    Controller(String),
}

/// What was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Where the certificate is.
    pub path: PathBuf,
    /// What stands in it.
    pub certificate: Certificate,
}

impl Authority {
    /// Makes a CA in a directory where there is none.
    pub fn init(directory: &Path, name: &str, now: SystemTime, lifetime: Duration) -> Result<Self, PkiError> {
        make_private_directory(directory)?;
        let (path, key_path) = (directory.join("ca.pem"), directory.join("ca.key"));
        for path in [&path, &key_path] {
            refuse_if_there(path, "this directory has its CA; --dir takes another one")?;
        }
        let key = new_key()?;
        let mut params = params(name, now, lifetime)?;
        // Two CAs are never called the same, or who is signed by the other one would look like a forgery.
        let mut suffix = [0; 8];
        getrandom::fill(&mut suffix).map_err(|error| PkiError::Make(format!("no random numbers: {error}")))?;
        params.distinguished_name.push(DnType::CustomDnType(SERIAL_NUMBER.to_vec()), to_hex(&suffix));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(|error| PkiError::Make(error.to_string()))?;
        write_private(&key_path, &key_text(&key))?;
        write_public(&path, &pem::block("CERTIFICATE", certificate.der()))?;
        Self::open(directory, now)
    }

    /// The CA of a directory.
    pub fn open(directory: &Path, now: SystemTime) -> Result<Self, PkiError> {
        let (path, key_path) = (directory.join("ca.pem"), directory.join("ca.key"));
        let chain = read_certificates(&path, "the lab's CA (`farsock pki init`)")?;
        let certificate = facts(&path, &chain)?;
        check_good(&path, &certificate, now)?;
        let key = KeyPair::try_from(&read_key(&key_path)?).map_err(|_| PkiError::Malformed {
            path: key_path.display().to_string(),
            what: "private key",
            why: "PKCS#8 is needed".to_owned(),
        })?;
        let issuer = chain.first().map(|der| Issuer::from_ca_cert_der(der, key));
        let issuer = issuer.and_then(Result::ok).ok_or_else(|| PkiError::Malformed {
            path: path.display().to_string(),
            what: "CA certificate",
            why: "it cannot sign others".to_owned(),
        })?;
        Ok(Self { directory: directory.to_owned(), certificate, issuer })
    }

    /// The CA's own certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Makes a key and a certificate for somebody who has none yet; `replace` makes them anew for whoever has.
    pub fn issue(
        &self,
        subject: &Subject,
        now: SystemTime,
        lifetime: Duration,
        replace: bool,
    ) -> Result<Issued, PkiError> {
        let path = self.directory.join(format!("{}.pem", file_name(subject)?));
        let key_path = path.with_extension("key");
        if !replace {
            for path in [&path, &key_path] {
                refuse_if_there(
                    path,
                    "`farsock pki renew` gives it more time; --replace makes a new key and certificate",
                )?;
            }
        }
        let key = new_key()?;
        let der = self.sign(&subject_names(subject)?, kind(subject), &key, now, lifetime)?;
        write_private(&key_path, &key_text(&key))?;
        self.keep(&path, &der)
    }

    /// Gives a certificate of an agent or a controller as much time again as it had, with the same names and the same key.
    pub fn renew(&self, path: &Path, now: SystemTime) -> Result<Issued, PkiError> {
        let chain = read_certificates(path, "certificate")?;
        let old = facts(path, &chain)?;
        // What would be written over it signs nothing, and nobody believes what it has signed.
        if old.kind == Kind::Authority {
            return Err(PkiError::OtherKind {
                path: path.display().to_string(),
                is: "a CA",
                wanted: "one of an agent or a controller",
                issue: "a CA gets no more time; `farsock pki init --dir DIR` makes the next one",
            });
        }
        let lifetime = old.not_after.duration_since(old.not_before).unwrap_or_default().saturating_sub(BEFORE);
        let key_path = path.with_extension("key");
        let key = KeyPair::try_from(&read_key(&key_path)?).map_err(|_| PkiError::Malformed {
            path: key_path.display().to_string(),
            what: "private key",
            why: "PKCS#8 is needed".to_owned(),
        })?;
        let mut names = old.uris.iter().map(|uri| uri_name(uri)).collect::<Result<Vec<_>, _>>()?;
        for host in &old.hosts {
            names.push(host_name(host)?);
        }
        names.extend(old.addresses.iter().map(|address| SanType::IpAddress(*address)));
        let der = self.sign(&names, old.kind, &key, now, lifetime)?;
        self.keep(path, &der)
    }

    /// The certificates of the directory, its CA first.
    pub fn list(directory: &Path) -> Result<Vec<(PathBuf, Certificate)>, PkiError> {
        let ca = directory.join("ca.pem");
        let entries = std::fs::read_dir(directory).map_err(|error| PrivateFileError::new(directory, &error))?;
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "pem"));
        paths.sort_by_key(|path| (*path != ca, path.clone()));
        Self::read_all(&paths)
    }

    /// What stands in these certificates.
    pub fn read_all(paths: &[PathBuf]) -> Result<Vec<(PathBuf, Certificate)>, PkiError> {
        let read = |path: &PathBuf| Ok((path.clone(), facts(path, &read_certificates(path, "certificate")?)?));
        paths.iter().map(read).collect()
    }

    fn sign(
        &self,
        names: &[SanType],
        kind: Kind,
        key: &KeyPair,
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<CertificateDer<'static>, PkiError> {
        let common_name = names.first().map(san_text).unwrap_or_default();
        // What a CA has signed is not good for longer than the CA.
        let left = self.certificate.not_after.duration_since(now).unwrap_or_default();
        let mut params = params(&common_name, now, lifetime.min(left))?;
        params.subject_alt_names = names.to_vec();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match kind {
            Kind::Controller => vec![ExtendedKeyUsagePurpose::ClientAuth],
            _ => vec![ExtendedKeyUsagePurpose::ServerAuth],
        };
        params.use_authority_key_identifier_extension = true;
        let signed = params.signed_by(key, &self.issuer).map_err(|error| PkiError::Make(error.to_string()))?;
        Ok(signed.der().clone())
    }

    fn keep(&self, path: &Path, der: &CertificateDer<'_>) -> Result<Issued, PkiError> {
        write_public(path, &pem::block("CERTIFICATE", der))?;
        let certificate = facts(path, std::slice::from_ref(der))?;
        Ok(Issued { path: path.to_owned(), certificate })
    }
}

fn check_good(path: &Path, certificate: &Certificate, now: SystemTime) -> Result<(), PkiError> {
    if (certificate.not_before..certificate.not_after).contains(&now) {
        return Ok(());
    }
    Err(PkiError::NotNow {
        path: path.display().to_string(),
        from: written(certificate.not_before),
        to: written(certificate.not_after),
        now: written(now),
    })
}

fn refuse_if_there(path: &Path, hint: &'static str) -> Result<(), PkiError> {
    if path.exists() { Err(PkiError::There { path: path.display().to_string(), hint }) } else { Ok(()) }
}

fn new_key() -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| PkiError::Make(error.to_string()))
}

fn key_text(key: &KeyPair) -> String {
    pem::block("PRIVATE KEY", key.serialized_der())
}

/// What all certificates have.
fn params(common_name: &str, now: SystemTime, lifetime: Duration) -> Result<CertificateParams, PkiError> {
    // 20 bytes at most, positive, and never twice. RFC 5280, section 4.1.2.2.
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(|error| PkiError::Make(format!("no random numbers: {error}")))?;
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date(now - BEFORE)?;
    params.not_after = date(now + lifetime)?;
    Ok(params)
}

fn date(time: SystemTime) -> Result<OffsetDateTime, PkiError> {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        // The last year that a certificate can write.
        .filter(|date| date.year() <= 9999)
        .ok_or_else(|| PkiError::Make("it would be good beyond the year 9999".to_owned()))
}

const fn kind(subject: &Subject) -> Kind {
    match subject {
        Subject::Agent(_) => Kind::Agent,
        Subject::Controller(_) => Kind::Controller,
    }
}

/// The name of somebody's files, which is never that of the CA's, and leads nowhere else.
fn file_name(subject: &Subject) -> Result<&str, PkiError> {
    let name = match subject {
        Subject::Agent(names) => names.first().map(String::as_str).unwrap_or_default(),
        Subject::Controller(name) => name,
    };
    if name == "ca" {
        return Err(PkiError::Name("`ca` is the name of the CA's own files: take another one".to_owned()));
    }
    Ok(name)
}

fn subject_names(subject: &Subject) -> Result<Vec<SanType>, PkiError> {
    match subject {
        Subject::Controller(name) => {
            let principal = Principal::parse(name).map_err(|problem| PkiError::Name(problem.to_string()))?;
            if principal == Principal::owner() {
                return Err(PkiError::Name(
                    "`owner` is the user that runs an agent, who needs no certificate: take another name".to_owned(),
                ));
            }
            Ok(vec![uri_name(&format!("{CONTROLLER}{name}"))?])
        }
        Subject::Agent(names) => names
            .iter()
            .map(|name| match name.parse::<IpAddr>() {
                Ok(address) => Ok(SanType::IpAddress(address)),
                Err(_) => host_name(name),
            })
            .collect(),
    }
}

fn uri_name(uri: &str) -> Result<SanType, PkiError> {
    uri.try_into().map(SanType::URI).map_err(|_| PkiError::Name(format!("`{uri}` is not ASCII")))
}

/// A host name: labels of names with dots between them.
fn host_name(name: &str) -> Result<SanType, PkiError> {
    let lower = name.to_ascii_lowercase();
    if lower.len() > 253 {
        return Err(PkiError::Name(format!("a host name has at most 253 characters, and this has {}", lower.len())));
    }
    for label in lower.split('.') {
        check_name(label).map_err(|problem| PkiError::Name(format!("`{name}` is not a host name: {problem}")))?;
    }
    lower.as_str().try_into().map(SanType::DnsName).map_err(|_| PkiError::Name(format!("`{name}` is not ASCII")))
}

fn san_text(name: &SanType) -> String {
    match name {
        SanType::DnsName(name) => name.to_string(),
        SanType::URI(uri) => uri.as_str().strip_prefix(CONTROLLER).unwrap_or(uri.as_str()).to_owned(),
        SanType::IpAddress(address) => address.to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::pki::identity::{Identity, IdentityFiles};

    const DAY: Duration = Duration::from_secs(86_400);

    fn lab() -> (tempfile::TempDir, Authority, SystemTime) {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let authority = Authority::init(&folder.path().join("pki"), "a lab", now, DAY * 3650).unwrap();
        (folder, authority, now)
    }

    #[test]
    fn a_lab_has_its_certificates_and_keys_that_nobody_else_reads() {
        let (folder, authority, now) = lab();
        let agent = Subject::Agent(vec!["Lab-A".into(), "10.0.0.1".into(), "fd00::1".into()]);
        let issued = authority.issue(&agent, now, DAY, false).unwrap();
        assert_eq!(issued.certificate.names(), ["lab-a", "10.0.0.1", "fd00::1"]);
        assert_eq!(issued.certificate.kind, Kind::Agent);
        let alice = authority.issue(&Subject::Controller("alice".into()), now, DAY, false).unwrap();
        assert_eq!(alice.certificate.principal().unwrap().as_str(), "alice");
        assert_eq!(alice.certificate.kind, Kind::Controller);
        for key in ["ca.key", "Lab-A.key", "alice.key"] {
            assert_eq!(std::fs::metadata(folder.path().join("pki").join(key)).unwrap().mode() & 0o777, 0o600, "{key}");
        }
        let listed = Authority::list(&folder.path().join("pki")).unwrap();
        assert_eq!(
            listed.iter().map(|(_, c)| c.kind).collect::<Vec<_>>(),
            [Kind::Authority, Kind::Agent, Kind::Controller]
        );
    }

    #[test]
    fn nothing_is_overwritten_unless_that_is_wanted() {
        let (folder, authority, now) = lab();
        let alice = Subject::Controller("alice".into());
        let first = authority.issue(&alice, now, DAY, false).unwrap();
        assert!(matches!(authority.issue(&alice, now, DAY, false), Err(PkiError::There { .. })));
        assert!(matches!(Authority::init(&folder.path().join("pki"), "again", now, DAY), Err(PkiError::There { .. })));
        let key = std::fs::read_to_string(first.path.with_extension("key")).unwrap();
        let renewed = authority.renew(&first.path, now + DAY * 2).unwrap();
        assert_eq!(std::fs::read_to_string(first.path.with_extension("key")).unwrap(), key, "the key stays");
        assert_ne!(renewed.certificate.serial, first.certificate.serial);
        assert_eq!(renewed.certificate.uris, first.certificate.uris);
        let (had, has) = (first.certificate.not_after, renewed.certificate.not_after);
        assert_eq!(has.duration_since(had).unwrap().as_secs(), 2 * 86_400);
        authority.issue(&alice, now, DAY, true).unwrap();
        assert_ne!(std::fs::read_to_string(first.path.with_extension("key")).unwrap(), key, "a new key");
    }

    #[test]
    fn a_ca_is_not_renewed_under_whatever_name() {
        let (folder, authority, now) = lab();
        let pki = folder.path().join("pki");
        let ca = std::fs::read(pki.join("ca.pem")).unwrap();
        std::fs::copy(pki.join("ca.key"), pki.join("copy.key")).unwrap();
        std::fs::copy(pki.join("ca.pem"), pki.join("copy.pem")).unwrap();
        for name in ["ca.pem", "../pki/ca.pem", "copy.pem"] {
            let refused = authority.renew(&pki.join(name), now + DAY).unwrap_err();
            assert!(matches!(refused, PkiError::OtherKind { is: "a CA", .. }), "{name}: {refused}");
        }
        assert_eq!(
            [std::fs::read(pki.join("ca.pem")).unwrap(), std::fs::read(pki.join("copy.pem")).unwrap()],
            [&ca[..], &ca]
        );
        assert!(Authority::open(&pki, now).is_ok());
    }

    #[test]
    fn names_that_would_mean_something_else_are_refused() {
        let (_folder, authority, now) = lab();
        for subject in [
            Subject::Controller("owner".into()),
            Subject::Controller("../alice".into()),
            Subject::Controller("ca".into()),
            Subject::Controller(String::new()),
            Subject::Agent(vec!["../../etc/passwd".into()]),
            Subject::Agent(vec!["*.lab".into()]),
            Subject::Agent(vec!["ca".into()]),
            Subject::Agent(vec!["lab a".into()]),
        ] {
            assert!(matches!(authority.issue(&subject, now, DAY, false), Err(PkiError::Name(_))), "{subject:?}");
        }
    }

    #[test]
    fn nothing_is_good_for_longer_than_its_ca() {
        let (_folder, authority, now) = lab();
        let issued = authority.issue(&Subject::Agent(vec!["a".into()]), now, DAY * 9999, false).unwrap();
        assert_eq!(issued.certificate.not_after, authority.certificate().not_after);
    }

    #[test]
    fn an_identity_that_does_not_fit_together_is_refused_by_its_file() {
        let (_folder, authority, now) = lab();
        let a = authority.issue(&Subject::Agent(vec!["a".into()]), now, DAY, false).unwrap();
        let b = authority.issue(&Subject::Controller("b".into()), now, DAY, false).unwrap();
        let files = IdentityFiles::of(&a.path);
        let load = |files: &IdentityFiles, now| Identity::load(files, now).map(|_| ()).unwrap_err().to_string();
        assert!(Identity::load(&files, now).unwrap().for_agent(&files).is_ok());
        let other = Identity::load(&files, now).unwrap().for_controller(&files).unwrap_err().to_string();
        assert!(other.contains("is the certificate of an agent, and a controller is needed"), "{other}");
        let swapped = IdentityFiles { key: b.path.with_extension("key"), ..files.clone() };
        assert!(load(&swapped, now).contains("b.key is not the key of "), "{}", load(&swapped, now));
        assert!(load(&files, now + DAY).contains("`farsock pki renew`"), "{}", load(&files, now + DAY));
        let gone = IdentityFiles { ca: "/no/such/ca.pem".into(), ..files.clone() };
        assert!(load(&gone, now).contains("/no/such/ca.pem is not there"), "{}", load(&gone, now));
        let no_pem = IdentityFiles { ca: files.key.clone(), ..files };
        assert!(load(&no_pem, now).contains("holds no CA certificate in PEM"), "{}", load(&no_pem, now));
    }
}
