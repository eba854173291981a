//! What an agent is started with, and why it may refuse to.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::model::errno::Errno;
use crate::model::limits::{Defaults, Limits};
use crate::model::lookup::Resolver;
use crate::model::time::Clock;
use crate::pki::{IdentityFiles, PkiError, PrivateFileError};
use crate::service::audit::{AuditError, AuditFile};
use crate::sys::process;

/// The port of agents: SOCK on a telephone.
pub const PORT: u16 = 7625;

/// How an agent is set up.
#[derive(Clone)]
pub struct AgentConfig {
    /// The ways in. Without any, only [`Agent::connector`](crate::agent::Agent::connector) leads to it.
    pub listen: Vec<Listen>,
    /// Where the token is, or is to be made; absent: beside those of other agents of this user.
    pub token_file: Option<PathBuf>,
    /// Serve whoever comes by loopback TCP.
    pub no_auth: bool,
    /// Speak TLS on TCP, as this identity, and serve whoever has a certificate of its CA; absent: loopback TCP asks for the token.
    pub tls: Option<IdentityFiles>,
    /// What answers those who show no credentials.
    pub open: OpenServices,
    /// The policy: who may do what. Absent: whoever is let in may do what the user that runs the agent may.
    pub policy_file: Option<PathBuf>,
    /// Where changes are written down before and after they are made. Absent: nowhere. `farsock agent` always has a place where there is a
    /// policy.
    pub audit: Option<AuditFile>,
    /// The IPv4 address that sockets use when a request names none.
    pub lab_ipv4: Option<Ipv4Addr>,
    /// The IPv6 address that sockets use when a request names none.
    pub lab_ipv6: Option<Ipv6Addr>,
    /// What bounds it.
    pub limits: Limits,
    /// What it uses where a request is silent.
    pub defaults: Defaults,
    /// How long connections of controllers are still served when it stops.
    pub grace: Duration,
    /// How long a connection has to send its first request with credentials.
    pub login_timeout: Duration,
    /// How long a request has to come whole. One that is a stream of messages may take as long as it likes.
    pub request_timeout: Duration,
    /// Who knows names; absent: the system.
    pub resolver: Option<Arc<dyn Resolver>>,
    /// Who tells the time; absent: the system.
    pub clock: Option<Arc<dyn Clock>>,
}

impl AgentConfig {
    /// Whether whoever comes by TCP must show the token.
    pub(super) fn asks_for_token(&self) -> bool {
        !self.no_auth && self.tls.is_none()
    }
}

impl fmt::Debug for AgentConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { listen, token_file, no_auth, tls, open, policy_file, .. } = self;
        f.debug_struct("AgentConfig")
            .field("listen", listen)
            .field("token_file", token_file)
            .field("no_auth", no_auth)
            .field("tls", tls)
            .field("open", open)
            .field("policy_file", policy_file)
            .finish_non_exhaustive()
    }
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            token_file: None,
            no_auth: false,
            tls: None,
            open: OpenServices::default(),
            policy_file: None,
            audit: None,
            lab_ipv4: None,
            lab_ipv6: None,
            limits: Limits::default(),
            defaults: Defaults::default(),
            grace: Duration::from_secs(10),
            login_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            resolver: None,
            clock: None,
        }
    }
}

/// Standard services that answer whoever asks, without credentials. They tell which services there are and whether the agent runs, and
/// nothing of anybody's sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenServices {
    /// `grpc.health.v1.Health`.
    pub health: bool,
    /// `grpc.reflection.v1.ServerReflection`, and v1alpha's.
    pub reflection: bool,
}

impl OpenServices {
    /// Whether there are any.
    pub const fn any(self) -> bool {
        self.health || self.reflection
    }
}

/// A way in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Listen {
    /// TCP: of loopback, or with TLS.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl FromStr for Listen {
    type Err = String;

    /// Reads `127.0.0.1:7625`, `[::1]:7625`, `7625`, `unix:/path`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err("unix: needs a path".to_owned()) } else { Ok(Self::Unix(path.into())) };
        }
        if let Ok(port) = text.parse::<u16>() {
            return Ok(Self::Tcp((Ipv4Addr::LOCALHOST, port).into()));
        }
        text.parse().map(Self::Tcp).map_err(|_| {
            format!("`{text}` is not an address to listen on, such as 127.0.0.1:{PORT}, [::1]:{PORT} or unix:/run/farsock.sock")
        })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => write!(f, "{addr}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why an agent does not start. One line each: what, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StartError {
    /// The address is reachable from other hosts.
    #[error(
        "{at} can be reached from other hosts, which needs {missing}; or listen on 127.0.0.1, [::1] or unix:PATH, and come in by ssh"
    )]
    Reachable {
        /// The address.
        at: SocketAddr,
        /// What it needs beside what is there.
        missing: &'static str,
    },
    /// The same, and nobody would be asked for anything.
    #[error(
        "{0} can be reached from other hosts, and --no-auth is for loopback only: leave it out, or listen on 127.0.0.1, [::1] or unix:PATH"
    )]
    NoAuthReachable(SocketAddr),
    /// Whoever comes is let in, and whoever comes needs a certificate.
    #[error("--no-auth and --tls-cert say opposite things: leave one of them out")]
    NoAuthWithTls,
    /// TLS does not work with this identity.
    #[error("TLS: {0}")]
    Tls(String),
    /// The policy says what cannot be.
    #[error("{file}{problem}: `farsock policy check {file}` shows what would be right")]
    Policy {
        /// The file.
        file: String,
        /// Where in it, and what.
        problem: String,
    },
    /// Nothing can be written down.
    #[error("--audit: {0}")]
    Audit(#[from] AuditError),
    /// The address cannot be listened on.
    #[error("cannot listen on {at}: {} ({errno}){}", .errno.text(), hint(.at, *.errno))]
    Listen {
        /// The way in.
        at: Listen,
        /// What the kernel said.
        errno: Errno,
    },
    /// Another agent listens there.
    #[error("cannot listen on {0}: an agent is there already; stop it, or take another path")]
    AgentThere(String),
    /// A file or directory cannot be used, or is open to others.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The files of TLS are not as they should be.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The token file holds no token.
    #[error("{0} holds no token, which is 64 hexadecimal digits: remove it, and the agent makes a new one")]
    BadToken(String),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes, without which there is no token")]
    NoRandom,
}

fn hint(at: &Listen, errno: Errno) -> &'static str {
    match (at, errno) {
        (Listen::Tcp(_), Errno::EADDRINUSE) => {
            ": another program has the port, maybe another agent; --listen takes another one"
        }
        (Listen::Tcp(_), Errno::EACCES) => ": ports below 1024 need CAP_NET_BIND_SERVICE",
        (Listen::Tcp(_), Errno::EADDRNOTAVAIL) => ": it is no address of this host",
        (Listen::Unix(_), Errno::EADDRINUSE) => ": something is there that is no socket; --listen takes another path",
        (Listen::Unix(_), Errno::EACCES) if process::user() == 0 => {
            ": root needs CAP_DAC_OVERRIDE for a directory of another user's, and an agent gives that up; --listen takes another path"
        }
        (Listen::Unix(_), Errno::EACCES) => ": this user may not make it in its directory; --listen takes another path",
        (Listen::Unix(_), Errno::ENOENT) => ": its directory is not there",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_in_are_written_as_people_write_them() {
        let tcp = |text: &str| Listen::Tcp(text.parse().unwrap());
        assert_eq!("127.0.0.1:7625".parse(), Ok(tcp("127.0.0.1:7625")));
        assert_eq!("[::1]:0".parse(), Ok(tcp("[::1]:0")));
        assert_eq!("7626".parse(), Ok(tcp("127.0.0.1:7626")));
        assert_eq!("unix:/run/x".parse(), Ok(Listen::Unix("/run/x".into())));
        for bad in ["", "unix:", "localhost:7625", "127.0.0.1", "70000", "127.1:80"] {
            assert!(bad.parse::<Listen>().is_err(), "{bad}");
        }
    }
}
