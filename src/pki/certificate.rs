//! What stands in a certificate: whom it names, for what, and until when.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use thiserror::Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::model::id::{Principal, shorten};

/// What the name of a controller begins with, as a URI. What follows is its principal.
pub(super) const CONTROLLER: &str = "farsock://controller/";

/// Who shows a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It signs others.
    Authority,
    /// An agent, which clients name by its host.
    Agent,
    /// A controller, which an agent knows as a principal.
    Controller,
    /// Whoever likes: it says nothing of it.
    Any,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Authority => "CA",
            Self::Agent => "agent",
            Self::Controller => "controller",
            Self::Any => "any",
        })
    }
}

/// What stands in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Its serial number in hexadecimal: what tells it from others of the same CA.
    pub serial: String,
    /// Who shows it.
    pub kind: Kind,
    /// The common name of its subject: for people only, nothing is decided by it.
    pub subject: String,
    /// The URIs that it names.
    pub uris: Vec<String>,
    /// The DNS names.
    pub hosts: Vec<String>,
    /// The IP addresses.
    pub addresses: Vec<IpAddr>,
    /// From when on it is good.
    pub not_before: SystemTime,
    /// From when on it is no longer.
    pub not_after: SystemTime,
}

/// Why a certificate names no principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{}", .0)]
pub struct NameProblem(&'static str);

impl NameProblem {
    const NOBODY: Self = Self(
        "the certificate names no principal: it needs a subjectAltName, the URI farsock://controller/NAME or one DNS name",
    );
    const SEVERAL: Self = Self("the certificate names several principals in its subjectAltName, and one is needed");
    const NO_NAME: Self = Self(
        "the certificate's subjectAltName is not the name of a principal: a-z 0-9 - . _ @, not starting with a sign",
    );
    const OWNER: Self = Self("the certificate names `owner`, who comes by the Unix socket and never by a certificate");

    /// One line for people.
    pub const fn text(self) -> &'static str {
        self.0
    }
}

impl Certificate {
    /// Reads a certificate; nothing if it is none.
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let (mut uris, mut hosts, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
        for name in certificate.subject_alternative_name().ok()?.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                GeneralName::DNSName(name) => hosts.push(name.to_ascii_lowercase()),
                GeneralName::IPAddress(bytes) => addresses.extend(ip(bytes)),
                _ => {}
            }
        }
        let usage = certificate.extended_key_usage().ok()?.map(|usage| usage.value);
        let kind = match usage {
            _ if certificate.is_ca() => Kind::Authority,
            None => Kind::Any,
            Some(usage) if usage.any || (usage.server_auth && usage.client_auth) => Kind::Any,
            Some(usage) if usage.client_auth => Kind::Controller,
            Some(_) => Kind::Agent,
        };
        let subject = certificate.subject().iter_common_name().find_map(|name| name.as_str().ok());
        Some(Self {
            serial: certificate.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
            kind,
            subject: subject.map(shorten).unwrap_or_default(),
            uris,
            hosts,
            addresses,
            not_before: time(certificate.validity().not_before.timestamp()),
            not_after: time(certificate.validity().not_after.timestamp()),
        })
    }

    /// The principal that it names: that of its URI, or its DNS name where there is no URI.
    pub fn principal(&self) -> Result<Principal, NameProblem> {
        let name = match (&self.uris[..], &self.hosts[..]) {
            ([uri], _) => uri.strip_prefix(CONTROLLER).ok_or(NameProblem::NO_NAME)?,
            ([], [name]) => name,
            ([], []) => return Err(NameProblem::NOBODY),
            _ => return Err(NameProblem::SEVERAL),
        };
        match Principal::parse(name) {
            Ok(principal) if principal == Principal::owner() => Err(NameProblem::OWNER),
            Ok(principal) => Ok(principal),
            Err(_) => Err(NameProblem::NO_NAME),
        }
    }

    /// All that it names, for people.
    pub fn names(&self) -> Vec<String> {
        let uris = self.uris.iter().map(|uri| uri.strip_prefix(CONTROLLER).unwrap_or(uri).to_owned());
        uris.chain(self.hosts.iter().cloned()).chain(self.addresses.iter().map(ToString::to_string)).collect()
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn time(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 { SystemTime::UNIX_EPOCH - distance } else { SystemTime::UNIX_EPOCH + distance };
    // RFC 5280 goes to the year 9999, which fits.
    time
}

/// A time as RFC 3339 has it, to the second.
pub(super) fn written(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time)
        .and_then(|time| jiff::Timestamp::from_second(time.as_second()))
        .map_or_else(|_| "a time beyond all calendars".to_owned(), |time| time.to_string())
}
