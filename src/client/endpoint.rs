//! Where an agent is reached.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::model::address::{AddressText, Host, Port};

/// The port of agents, where none is named.
const PORT: u16 = 7625;

/// Where an agent is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// By TCP.
    Tcp {
        /// A host name or an IP literal.
        host: String,
        /// The port.
        port: u16,
    },
    /// By a Unix socket.
    Unix(PathBuf),
}

impl FromStr for Endpoint {
    type Err = String;

    /// Reads `lab-a`, `lab-a:7625`, `[::1]:7625`, `7625`, `unix:/path`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err("unix: needs a path".to_owned()) } else { Ok(Self::Unix(path.into())) };
        }
        let address = AddressText::parse(text).map_err(|problem| problem.to_string())?;
        let host = match address.host {
            Host::Absent => "127.0.0.1".to_owned(),
            Host::Ip(ip, None) => ip.to_string(),
            Host::Ip(_, Some(_)) => {
                return Err("an agent is not reached by a zone: name it, or give another address".to_owned());
            }
            Host::Name(name) => name.into(),
        };
        let port = match address.port {
            Port::Absent => PORT,
            Port::Number(port) => port,
            Port::Service(name) => return Err(format!("`{name}` is not a port number")),
        };
        Ok(Self::Tcp { host, port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_named_as_people_name_them() {
        let show = |text: &str| text.parse::<Endpoint>().map(|endpoint| endpoint.to_string());
        assert_eq!(show("lab-a").as_deref(), Ok("lab-a:7625"));
        assert_eq!(show("lab-a:7000").as_deref(), Ok("lab-a:7000"));
        assert_eq!(show("7626").as_deref(), Ok("127.0.0.1:7626"));
        assert_eq!(show("::1").as_deref(), Ok("[::1]:7625"));
        assert_eq!(show("unix:/run/a.sock").as_deref(), Ok("unix:/run/a.sock"));
        for bad in ["", "unix:", "lab-a:http", "fe80::1%eth0", "127.1"] {
            assert!(show(bad).is_err(), "{bad}");
        }
    }
}
