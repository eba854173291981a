//! Why somebody's certificate was not taken, in words for people: which side refuses what, and what to do about it.

use std::io;

use rustls::AlertDescription;
use rustls::{CertificateError, Error, InvalidMessage, PeerIncompatible};

use crate::pki::certificate::written;

/// What went wrong between two sides of TLS, on one line: `them` is the other side, and `us` this one, with its article.
pub fn problem(error: &io::Error, us: &str, them: &str) -> Option<String> {
    let tls = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match tls {
        Error::InvalidCertificate(why) => format!("{us} refuses the certificate of {them}: {}", certificate(why)),
        Error::NoCertificatesPresented => format!("{us} wants a certificate, and {them} shows none"),
        Error::AlertReceived(alert) => format!("{them} refuses {}", alerted(*alert, us)),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => format!("{them} does not speak TLS"),
        Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13)
        | Error::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic)
        | Error::PeerIncompatible(PeerIncompatible::SupportedVersionsExtensionRequired)
        | Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig) => {
            format!("{them} speaks an older TLS than 1.3")
        }
        Error::NoApplicationProtocol => format!("{them} does not offer HTTP/2 (ALPN h2)"),
        other => format!("between {us} and {them}: {other}"),
    })
}

/// Whether the other side does not speak TLS at all.
pub fn speaks_no_tls(error: &io::Error) -> bool {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    matches!(tls, Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)))
}

fn certificate(why: &CertificateError) -> String {
    match why {
        CertificateError::ExpiredContext { not_after, .. } => format!(
            "it expired at {}: renew it by `farsock pki renew`",
            written(std::time::UNIX_EPOCH + std::time::Duration::from_secs(not_after.as_secs()))
        ),
        CertificateError::Expired => "it has expired: renew it by `farsock pki renew`".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its time has not come yet: compare the clocks of both hosts".to_owned()
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "it is not signed by the CA that is believed here: give both sides the same ca.pem".to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "it is not for {}, but for {}: call it by one of these, or issue one with that name",
            expected.to_str(),
            if presented.is_empty() { "nobody".to_owned() } else { presented.iter().map(|name| bare(name)).collect::<Vec<_>>().join(", ") }
        ),
        CertificateError::NotValidForName => "it is for another name: issue one with the name that is called".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it is for the other side: agents need one of `farsock pki issue HOST`, controllers one of `--controller NAME`"
                .to_owned()
        }
        CertificateError::Revoked => "it is revoked".to_owned(),
        other => format!("{other:?}"),
    }
}

/// `DnsName("lab-a")` is how names are listed.
fn bare(name: &str) -> &str {
    name.split_once('"').and_then(|(_, rest)| rest.split_once('"')).map_or(name, |(inner, _)| inner)
}

fn alerted(alert: AlertDescription, us: &str) -> String {
    match alert {
        AlertDescription::CertificateExpired => {
            format!("the certificate of {us}: it has expired, or its time has not come by the clock over there")
        }
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            format!("the certificate of {us}: it is not signed by the CA that is believed over there")
        }
        AlertDescription::CertificateRequired => format!("{us} without a certificate: one is needed (--tls-cert)"),
        AlertDescription::UnsupportedCertificate => {
            format!(
                "the certificate of {us}: it is not one of this side (`farsock pki issue --controller NAME` makes those of controllers)"
            )
        }
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateRevoked
        | AlertDescription::AccessDenied => format!("the certificate of {us}"),
        AlertDescription::ProtocolVersion => format!("the TLS of {us}: it must be 1.3"),
        AlertDescription::NoApplicationProtocol => format!("what {us} speaks: it must be HTTP/2 (ALPN h2)"),
        other => format!("{us}: {other:?}"),
    }
}
