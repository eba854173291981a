//! Who can reach an agent, and what they must show: decided before anything is opened.

use std::fmt;

use crate::agent::config::{AgentConfig, Listen, StartError};

/// What whoever comes by a way in must show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: it is there for every user of this host.
    Nothing,
    /// To be the user that runs the agent, or root.
    SameUser,
    /// The token.
    Token,
    /// A certificate that the agent's CA has signed.
    Certificate,
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "for every user of this host",
            Self::SameUser => "for its own user",
            Self::Token => "with the token",
            Self::Certificate => "with a certificate",
        })
    }
}

/// What a way in asks for, or why it must not be opened. One way in that is not safe keeps the agent from starting.
pub(super) fn needs(listen: &Listen, config: &AgentConfig) -> Result<Needs, StartError> {
    let Listen::Tcp(address) = listen else { return Ok(Needs::SameUser) };
    let (tls, policy) = (config.tls.is_some(), config.policy_file.is_some());
    if config.no_auth && tls {
        return Err(StartError::NoAuthWithTls);
    }
    if !address.ip().is_loopback() {
        let missing = match (tls, policy) {
            _ if config.no_auth => return Err(StartError::NoAuthReachable(*address)),
            (false, false) => "TLS (--tls-cert) and a policy (--policy)",
            (false, true) => "TLS (--tls-cert)",
            (true, false) => "a policy (--policy)",
            (true, true) => return Ok(Needs::Certificate),
        };
        return Err(StartError::Reachable { at: *address, missing });
    }
    Ok(match (tls, config.no_auth) {
        (true, _) => Needs::Certificate,
        (false, true) => Needs::Nothing,
        (false, false) => Needs::Token,
    })
}

/// The same of the whole configuration: the first thing that must not be.
pub(super) fn check(config: &AgentConfig) -> Result<(), StartError> {
    config.listen.iter().try_for_each(|listen| needs(listen, config).map(drop))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::pki::IdentityFiles;

    /// Every kind of address, with and without TLS, policy and --no-auth: what is served, to whom, and what is not. A token file changes none
    /// of it.
    #[test]
    fn nothing_that_is_not_safe_is_served() {
        use Needs::{Certificate, Nothing, SameUser, Token};
        // (TLS, policy, --no-auth) → unix, loopback, others.
        let table = [
            ((false, false, false), Ok(SameUser), Ok(Token), Err("needs TLS (--tls-cert) and a policy (--policy);")),
            ((false, false, true), Ok(SameUser), Ok(Nothing), Err("--no-auth is for loopback only")),
            ((false, true, false), Ok(SameUser), Ok(Token), Err("needs TLS (--tls-cert);")),
            ((false, true, true), Ok(SameUser), Ok(Nothing), Err("--no-auth is for loopback only")),
            ((true, false, false), Ok(SameUser), Ok(Certificate), Err("needs a policy (--policy);")),
            ((true, false, true), Ok(SameUser), Err("--no-auth and --tls-cert"), Err("--no-auth and --tls-cert")),
            ((true, true, false), Ok(SameUser), Ok(Certificate), Ok(Certificate)),
            ((true, true, true), Ok(SameUser), Err("--no-auth and --tls-cert"), Err("--no-auth and --tls-cert")),
        ];
        let mut rows = 0;
        for ((tls, policy, no_auth), unix, loopback, others) in table {
            for token_file in [None, Some("/run/token".into())] {
                let config = AgentConfig {
                    tls: tls.then(|| IdentityFiles::of(Path::new("lab-a.pem"))),
                    policy_file: policy.then(|| "policy.yaml".into()),
                    no_auth,
                    token_file,
                    ..AgentConfig::default()
                };
                for (addresses, expected) in [
                    (&["unix:/run/a.sock"][..], unix),
                    (&["127.0.0.1:7625", "[::1]:7625", "127.9.9.9:1"], loopback),
                    (
                        &[
                            "0.0.0.0:7625",
                            "[::]:7625",
                            "192.0.2.1:7625",
                            "10.0.0.1:0",
                            "[2001:db8::1]:7625",
                            "[fe80::1]:7625",
                            "[::ffff:127.0.0.1]:7625",
                            "169.254.1.1:7625",
                        ],
                        others,
                    ),
                ] {
                    for address in addresses {
                        rows += 1;
                        let got = needs(&address.parse().unwrap(), &config).map_err(|error| error.to_string());
                        match (&got, expected) {
                            (Ok(needs), Ok(expected)) => assert_eq!(*needs, expected, "{address} {config:?}"),
                            (Err(line), Err(words)) => {
                                assert!(line.contains(words) && !line.contains('\n'), "{address}: {line}");
                            }
                            _ => panic!("{address}: {got:?}, and not {expected:?}"),
                        }
                    }
                }
            }
        }
        assert_eq!(rows, 8 * 2 * 12);
    }
}
