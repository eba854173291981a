//! Who holds an address that somebody else wanted.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::model::address::Endpoint;
use crate::model::id::{SessionId, SocketId, SocketUid};
use crate::model::tcp::TcpState;

/// A socket that has an address, as far as whoever wanted the address may know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Whose it is.
    pub owner: Owner,
    /// The local address that it has. Absent where that is not for the caller to know.
    pub local: Option<Endpoint>,
    /// The remote address of a connection.
    pub remote: Option<Endpoint>,
    /// The kernel's state of a TCP socket. Absent while it is only bound.
    pub tcp_state: Option<TcpState>,
    /// How much longer the kernel keeps a connection in TIME_WAIT.
    pub time_left: Option<Duration>,
}

/// Whose a socket is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// One of the caller's own on this agent.
    Socket(SessionId, SocketId, SocketUid),
    /// One of somebody else's on this agent.
    OtherPrincipal,
    /// One of a process: its number and name.
    Process(u32, String),
    /// One of a process that the agent may not look into: its user.
    User(u32),
    /// The kernel's alone: whoever had it has closed it.
    Kernel,
}

impl Holder {
    /// What to try.
    pub const fn hint(&self) -> &'static str {
        match (&self.owner, self.time_left) {
            (Owner::Socket(..), _) => "close it first, or take another address; port 0 takes a free port",
            (Owner::Kernel, Some(_)) => "SO_REUSEADDR lets bind have the address all the same; or wait",
            (Owner::Kernel, None) => "the connection was closed and is not over yet: wait, or take another port",
            _ => "take another address; port 0 takes a free port",
        }
    }
}

impl fmt::Display for Holder {
    /// `process 4711 (nginx) on 0.0.0.0:80`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            Owner::Socket(session, id, _) => write!(f, "socket `{id}` of session `{session}`")?,
            Owner::OtherPrincipal => f.write_str("a socket of somebody else's session on this agent")?,
            // The name is whatever the process likes it to be.
            Owner::Process(number, name) => write!(f, "process {number} ({})", name.escape_debug())?,
            Owner::User(user) => write!(f, "a process of user {user}")?,
            Owner::Kernel => f.write_str("a closed connection")?,
        }
        if let Some(local) = &self.local {
            write!(f, " on {local}")?;
        }
        if let Some(remote) = &self.remote {
            write!(f, " with {remote}")?;
        }
        if let (Owner::Kernel, Some(state)) = (&self.owner, self.tcp_state) {
            write!(f, " in {}", state.name())?;
        }
        match self.time_left {
            Some(left) => write!(f, " for another {} s", left.as_secs() + u64::from(left.subsec_nanos() > 0)),
            None => Ok(()),
        }
    }
}

/// A local address as bind(2) compares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The address and port.
    pub addr: SocketAddr,
    /// An IPv6 socket that takes no IPv4: IPV6_V6ONLY.
    pub only_ipv6: bool,
}

impl Claim {
    /// Whether two sockets that do not share their address cannot have both.
    pub fn excludes(&self, other: &Self) -> bool {
        let scopes = match (self.addr, other.addr) {
            (SocketAddr::V6(a), SocketAddr::V6(b)) => [a.scope_id(), b.scope_id()],
            _ => [0, 0],
        };
        self.addr.port() == other.addr.port()
            && (scopes[0] == scopes[1] || scopes.contains(&0))
            && match (self.addr.ip().to_canonical(), other.addr.ip().to_canonical()) {
                (a @ IpAddr::V4(_), b @ IpAddr::V4(_)) | (a @ IpAddr::V6(_), b @ IpAddr::V6(_)) => {
                    a == b || a.is_unspecified() || b.is_unspecified()
                }
                (IpAddr::V4(_), v6) => v6.is_unspecified() && !other.only_ipv6,
                (v6, IpAddr::V4(_)) => v6.is_unspecified() && !self.only_ipv6,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(text: &str) -> Claim {
        let (only_ipv6, addr) = text.strip_prefix("only ").map_or((false, text), |addr| (true, addr));
        Claim { addr: addr.parse().unwrap(), only_ipv6 }
    }

    #[test]
    fn addresses_exclude_each_other_as_bind_has_it() {
        for (a, b, excluded) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "0.0.0.0:80", true),
            ("[::1]:80", "[::]:80", true),
            ("[::1]:80", "127.0.0.1:80", false),
            ("[::]:80", "127.0.0.1:80", true),
            ("[::]:80", "0.0.0.0:80", true),
            ("only [::]:80", "0.0.0.0:80", false),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", true),
            ("[::ffff:127.0.0.1]:80", "0.0.0.0:80", true),
            ("[fe80::1%2]:80", "[fe80::1%2]:80", true),
            ("[fe80::1%2]:80", "[fe80::1%3]:80", false),
            ("[fe80::1%2]:80", "[::]:80", true),
        ] {
            assert_eq!(claim(a).excludes(&claim(b)), excluded, "{a} {b}");
            assert_eq!(claim(b).excludes(&claim(a)), excluded, "{b} {a}");
        }
    }

    #[test]
    fn a_holder_is_told_in_one_line() {
        let endpoint = |text: &str| Some(Endpoint::from(text.parse::<SocketAddr>().unwrap()));
        let holder = |owner| Holder {
            owner,
            local: endpoint("0.0.0.0:80"),
            remote: None,
            tcp_state: Some(TcpState::Listen),
            time_left: None,
        };
        let own = Owner::Socket(SessionId::parse("red").unwrap(), SocketId::parse("door").unwrap(), SocketUid(7));
        assert_eq!(holder(own).to_string(), "socket `door` of session `red` on 0.0.0.0:80");
        assert_eq!(holder(Owner::Process(4711, "nginx".into())).to_string(), "process 4711 (nginx) on 0.0.0.0:80");
        assert_eq!(holder(Owner::User(33)).to_string(), "a process of user 33 on 0.0.0.0:80");
        let hidden = Holder { local: None, tcp_state: None, ..holder(Owner::OtherPrincipal) };
        assert_eq!(hidden.to_string(), "a socket of somebody else's session on this agent");
        let waits = Holder {
            remote: endpoint("10.0.0.2:4711"),
            tcp_state: Some(TcpState::TimeWait),
            time_left: Some(Duration::from_millis(56_001)),
            ..holder(Owner::Kernel)
        };
        let line = "a closed connection on 0.0.0.0:80 with 10.0.0.2:4711 in TIME_WAIT for another 57 s";
        assert_eq!(waits.to_string(), line);
    }
}
