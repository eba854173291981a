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
    /// By ssh, which starts an agent there for as long as the connection lasts.
    Ssh {
        /// Who logs in; absent: whom ssh's own configuration names.
        user: Option<String>,
        /// A host as ssh knows it: a name, an IP literal, or what `~/.ssh/config` has.
        host: String,
        /// The port; absent: what ssh's own configuration says.
        port: Option<u16>,
    },
}

impl FromStr for Endpoint {
    type Err = String;

    /// Reads `lab-a`, `lab-a:7625`, `[::1]:7625`, `7625`, `unix:/path`, `ssh://[user@]host[:port]`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(rest) = text.strip_prefix("ssh://") {
            return ssh(rest);
        }
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

/// Reads `[user@]host[:port]`. Whatever ssh or a shell could take for something else than a name is refused.
fn ssh(text: &str) -> Result<Endpoint, String> {
    let (user, place) = text.rsplit_once('@').map_or((None, text), |(user, place)| (Some(user), place));
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').unwrap_or("none"))),
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    let word = |text: &str, more: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c) || more.contains(c);
        !text.is_empty() && !text.starts_with('-') && text.chars().all(fits)
    };
    if !word(host, ":%") {
        return Err(format!(
            "`{host}` is no host for ssh: ssh://[USER@]HOST[:PORT] is needed, and no name begins with -"
        ));
    }
    if let Some(user) = user.filter(|user| !word(user, "")) {
        return Err(format!(
            "`{user}` is no user for ssh: letters, digits, `.`, `_` and `-`, which does not come first"
        ));
    }
    let number = |port: &str| {
        let number = port.parse::<u16>().ok().filter(|port| *port > 0);
        number.ok_or_else(|| format!("`{port}` is no port: ssh://[USER@]HOST[:PORT] is needed"))
    };
    let port = port.map(number).transpose()?;
    Ok(Endpoint::Ssh { user: user.map(str::to_owned), host: host.to_owned(), port })
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ssh { user, host, port } => {
                f.write_str("ssh://")?;
                user.iter().try_for_each(|user| write!(f, "{user}@"))?;
                if host.contains(':') { write!(f, "[{host}]") } else { f.write_str(host) }?;
                port.iter().try_for_each(|port| write!(f, ":{port}"))
            }
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
        for whole in ["ssh://lab-a", "ssh://me@lab-a:22", "ssh://me@[fd00::1]:22", "ssh://my.host_1", "ssh://[::1]"] {
            assert_eq!(show(whole).as_deref(), Ok(whole));
        }
        let ways = [
            "",
            "-oProxyCommand=x",
            "me@-v",
            "-l@a",
            "@a",
            "a:",
            "a:0",
            "a:x",
            "[::1]x",
            "a b",
            "a;b",
            "$(a)",
            "a/b",
            "a\n",
            "é",
        ];
        for way in ways {
            assert!(show(&format!("ssh://{way}")).is_err(), "{way}");
        }
        for bad in ["", "unix:", "lab-a:http", "fe80::1%eth0", "127.1"] {
            assert!(show(bad).is_err(), "{bad}");
        }
    }
}
