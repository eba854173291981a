//! What the kernel or the resolver answered when it did not do what was asked: a result, never an RPC status.

use std::fmt;

use crate::model::address::Endpoint;
use crate::model::capability::Capability;
use crate::model::errno::{Errno, LookupErrno};
use crate::model::holder::Holder;
use crate::model::operation::Operation;

/// The error number, from whichever side it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A system call's.
    Errno(Errno),
    /// The resolver's.
    Lookup(LookupErrno),
}

impl Cause {
    /// The symbolic name: what programs compare.
    pub fn name(self) -> String {
        match self {
            Self::Errno(errno) => errno.to_string(),
            Self::Lookup(errno) => errno.to_string(),
        }
    }

    /// The number on the agent's host.
    pub const fn number(self) -> i32 {
        match self {
            Self::Errno(errno) => errno.number(),
            Self::Lookup(errno) => errno.number(),
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Errno(errno) => errno.text(),
            Self::Lookup(errno) => errno.text(),
        }
    }
}

/// A call that did not succeed: which one, with what, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketError {
    /// The error number.
    pub cause: Cause,
    /// What was being done.
    pub operation: Operation,
    /// The system call or library function that answered. Empty where the agent itself ended the operation.
    pub syscall: &'static str,
    /// The local address at that moment.
    pub local: Option<Endpoint>,
    /// The remote address that the call was about.
    pub remote: Option<Endpoint>,
    /// What the error is about where it is no address: a host name, an option.
    pub subject: Option<Box<str>>,
    /// Of EMSGSIZE: how many bytes a packet may have on that path, where that is known.
    pub path_mtu: Option<u32>,
    /// Of an address that cannot be had: who has it, where somebody looked for that.
    pub holder: Option<Box<Holder>>,
}

/// The calls that errors name.
const SYSCALLS: [&str; 15] = [
    "socket",
    "bind",
    "listen",
    "accept4",
    "connect",
    "send",
    "sendmsg",
    "recv",
    "recvmsg",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "epoll_ctl",
    "getaddrinfo",
    "rtnetlink",
];

impl SocketError {
    /// The call of this name, as an error has it. Empty if there is none.
    pub fn syscall_named(name: &str) -> &'static str {
        SYSCALLS.into_iter().find(|known| *known == name).unwrap_or_default()
    }

    /// An error of a system call.
    pub fn new(errno: Errno, operation: Operation, syscall: &'static str) -> Self {
        Self {
            cause: Cause::Errno(errno),
            operation,
            syscall,
            local: None,
            remote: None,
            subject: None,
            path_mtu: None,
            holder: None,
        }
    }

    /// An error of the resolver about a name.
    pub fn lookup(errno: LookupErrno, name: &str) -> Self {
        Self {
            cause: Cause::Lookup(errno),
            operation: Operation::LookUp,
            syscall: "getaddrinfo",
            local: None,
            remote: None,
            subject: Some(name.into()),
            path_mtu: None,
            holder: None,
        }
    }

    /// The end of an operation that was closed or cancelled under way.
    pub fn canceled(operation: Operation) -> Self {
        Self::new(Errno::ECANCELED, operation, "")
    }

    /// The same, with the addresses of the socket.
    #[must_use]
    pub fn between(mut self, local: Option<Endpoint>, remote: Option<Endpoint>) -> Self {
        self.local = local;
        self.remote = remote;
        self
    }

    /// The same, about something that is no address.
    #[must_use]
    pub fn about(mut self, subject: &str) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// The errno, if it is the kernel's.
    pub const fn errno(&self) -> Option<Errno> {
        match self.cause {
            Cause::Errno(errno) => Some(errno),
            Cause::Lookup(_) => None,
        }
    }

    /// What the error often means and what to try; empty where there is nothing useful to say.
    pub fn hint(&self) -> &'static str {
        match (&self.holder, self.cause) {
            (Some(holder), _) => holder.hint(),
            (None, Cause::Errno(Errno::EPERM)) if self.operation == Operation::SetOption => {
                let option = self.subject.as_deref().and_then(Capability::option_hint);
                option.unwrap_or_else(|| Errno::EPERM.hint(self.operation))
            }
            (None, Cause::Errno(errno)) => errno.hint(self.operation),
            (None, Cause::Lookup(errno)) => errno.hint(),
        }
    }
}

impl fmt::Display for SocketError {
    /// One line: `connect 10.0.0.2:81 from 10.0.0.1:4711: connection refused (ECONNREFUSED)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.operation)?;
        if let Some(subject) = &self.subject {
            write!(f, " {subject}")?;
        }
        let outward = !matches!(self.operation, Operation::Accept | Operation::Receive);
        match (&self.local, &self.remote) {
            (Some(local), Some(remote)) if outward => write!(f, " {remote} from {local}")?,
            (None, Some(remote)) if outward => write!(f, " {remote}")?,
            (Some(local), Some(remote)) => write!(f, " from {remote} on {local}")?,
            (None, Some(remote)) => write!(f, " from {remote}")?,
            (Some(local), None) => write!(f, " on {local}")?,
            (None, None) => {}
        }
        write!(f, ": {}", self.cause.text())?;
        if let Some(mtu) = self.path_mtu {
            write!(f, ", the path takes packets of {mtu} bytes")?;
        }
        if let Some(holder) = &self.holder {
            write!(f, ", by {holder}")?;
        }
        write!(f, " ({})", self.cause.name())
    }
}

impl std::error::Error for SocketError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Option<Endpoint> {
        Some(Endpoint::from(text.parse::<std::net::SocketAddr>().unwrap()))
    }

    #[test]
    fn one_line_says_what_happened_and_where() {
        let refused = SocketError::new(Errno::ECONNREFUSED, Operation::Connect, "connect");
        assert_eq!(refused.to_string(), "connect: connection refused (ECONNREFUSED)");
        assert_eq!(
            refused.between(endpoint("10.0.0.1:4711"), endpoint("[::1]:81")).to_string(),
            "connect [::1]:81 from 10.0.0.1:4711: connection refused (ECONNREFUSED)"
        );
        let reset = SocketError::new(Errno::ECONNRESET, Operation::Receive, "recv");
        assert_eq!(
            reset.between(endpoint("10.0.0.1:80"), endpoint("10.0.0.2:4711")).to_string(),
            "receive from 10.0.0.2:4711 on 10.0.0.1:80: connection reset by peer (ECONNRESET)"
        );
        let taken = SocketError::new(Errno::EADDRINUSE, Operation::Bind, "bind").between(endpoint("0.0.0.0:80"), None);
        assert_eq!(taken.to_string(), "bind on 0.0.0.0:80: address already in use (EADDRINUSE)");
        assert_eq!(
            SocketError::lookup(LookupErrno::EAI_NONAME, "nowhere").to_string(),
            "look up nowhere: name or service not known (EAI_NONAME)"
        );
    }
}
