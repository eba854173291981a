//! The one table of error numbers: Linux's errno and the resolver's EAI codes, by name, with what they mean and what to try.
//!
//! The numbers come from libc, because some differ from one architecture to another; the names are what users should compare.

use std::fmt;

use crate::model::operation::Operation;

/// An error number of the kernel, errno(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(i32);

/// An error number of the resolver, gai_strerror(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LookupErrno(i32);

macro_rules! error_numbers {
    ($type:ident, $fallback:literal, $($name:ident $text:literal;)*) => {
        #[allow(missing_docs, reason = "errno(3) and gai_strerror(3) are their documentation")]
        impl $type {
            $(pub const $name: Self = Self(libc::$name);)*

            /// Every number that has a name.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The symbolic name: `ECONNREFUSED`.
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $(libc::$name => stringify!($name),)*
                    _ => $fallback,
                }
            }

            /// What it means, in the words of strerror(3).
            pub const fn text(self) -> &'static str {
                match self.0 {
                    $(libc::$name => $text,)*
                    _ => "unknown error",
                }
            }
        }

        impl $type {
            /// The error of this number, known or not.
            pub const fn new(number: i32) -> Self {
                Self(number)
            }

            /// The number on this host.
            pub const fn number(self) -> i32 {
                self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    $fallback => write!(f, "{} {}", $fallback, self.0),
                    name => f.write_str(name),
                }
            }
        }
    };
}

error_numbers! { Errno, "EUNKNOWN",
EPERM "operation not permitted";
ENOENT "no such file or directory";
ESRCH "no such process";
EINTR "interrupted system call";
EIO "input/output error";
ENXIO "no such device or address";
E2BIG "argument list too long";
ENOEXEC "exec format error";
EBADF "bad file descriptor";
ECHILD "no child processes";
EAGAIN "resource temporarily unavailable";
ENOMEM "cannot allocate memory";
EACCES "permission denied";
EFAULT "bad address";
ENOTBLK "block device required";
EBUSY "device or resource busy";
EEXIST "file exists";
EXDEV "invalid cross-device link";
ENODEV "no such device";
ENOTDIR "not a directory";
EISDIR "is a directory";
EINVAL "invalid argument";
ENFILE "too many open files in system";
EMFILE "too many open files";
ENOTTY "inappropriate ioctl for device";
ETXTBSY "text file busy";
EFBIG "file too large";
ENOSPC "no space left on device";
ESPIPE "illegal seek";
EROFS "read-only file system";
EMLINK "too many links";
EPIPE "broken pipe";
EDOM "numerical argument out of domain";
ERANGE "numerical result out of range";
EDEADLK "resource deadlock avoided";
ENAMETOOLONG "file name too long";
ENOLCK "no locks available";
ENOSYS "function not implemented";
ENOTEMPTY "directory not empty";
ELOOP "too many levels of symbolic links";
ENOMSG "no message of desired type";
EIDRM "identifier removed";
ECHRNG "channel number out of range";
EL2NSYNC "level 2 not synchronized";
EL3HLT "level 3 halted";
EL3RST "level 3 reset";
ELNRNG "link number out of range";
EUNATCH "protocol driver not attached";
ENOCSI "no CSI structure available";
EL2HLT "level 2 halted";
EBADE "invalid exchange";
EBADR "invalid request descriptor";
EXFULL "exchange full";
ENOANO "no anode";
EBADRQC "invalid request code";
EBADSLT "invalid slot";
EBFONT "bad font file format";
ENOSTR "device not a stream";
ENODATA "no data available";
ETIME "timer expired";
ENOSR "out of streams resources";
ENONET "machine is not on the network";
ENOPKG "package not installed";
EREMOTE "object is remote";
ENOLINK "link has been severed";
EADV "advertise error";
ESRMNT "srmount error";
ECOMM "communication error on send";
EPROTO "protocol error";
EMULTIHOP "multihop attempted";
EDOTDOT "RFS specific error";
EBADMSG "bad message";
EOVERFLOW "value too large for defined data type";
ENOTUNIQ "name not unique on network";
EBADFD "file descriptor in bad state";
EREMCHG "remote address changed";
ELIBACC "can not access a needed shared library";
ELIBBAD "accessing a corrupted shared library";
ELIBSCN ".lib section in a.out corrupted";
ELIBMAX "attempting to link in too many shared libraries";
ELIBEXEC "cannot exec a shared library directly";
EILSEQ "invalid or incomplete multibyte or wide character";
ERESTART "interrupted system call should be restarted";
ESTRPIPE "streams pipe error";
EUSERS "too many users";
ENOTSOCK "socket operation on non-socket";
EDESTADDRREQ "destination address required";
EMSGSIZE "message too long";
EPROTOTYPE "protocol wrong type for socket";
ENOPROTOOPT "protocol not available";
EPROTONOSUPPORT "protocol not supported";
ESOCKTNOSUPPORT "socket type not supported";
EOPNOTSUPP "operation not supported";
EPFNOSUPPORT "protocol family not supported";
EAFNOSUPPORT "address family not supported by protocol";
EADDRINUSE "address already in use";
EADDRNOTAVAIL "cannot assign requested address";
ENETDOWN "network is down";
ENETUNREACH "network is unreachable";
ENETRESET "network dropped connection on reset";
ECONNABORTED "software caused connection abort";
ECONNRESET "connection reset by peer";
ENOBUFS "no buffer space available";
EISCONN "transport endpoint is already connected";
ENOTCONN "transport endpoint is not connected";
ESHUTDOWN "cannot send after transport endpoint shutdown";
ETOOMANYREFS "too many references: cannot splice";
ETIMEDOUT "connection timed out";
ECONNREFUSED "connection refused";
EHOSTDOWN "host is down";
EHOSTUNREACH "no route to host";
EALREADY "operation already in progress";
EINPROGRESS "operation now in progress";
ESTALE "stale file handle";
EUCLEAN "structure needs cleaning";
ENOTNAM "not a XENIX named type file";
ENAVAIL "no XENIX semaphores available";
EISNAM "is a named type file";
EREMOTEIO "remote I/O error";
EDQUOT "disk quota exceeded";
ENOMEDIUM "no medium found";
EMEDIUMTYPE "wrong medium type";
ECANCELED "operation canceled";
ENOKEY "required key not available";
EKEYEXPIRED "key has expired";
EKEYREVOKED "key has been revoked";
EKEYREJECTED "key was rejected by service";
EOWNERDEAD "owner died";
ENOTRECOVERABLE "state not recoverable";
ERFKILL "operation not possible due to RF-kill";
EHWPOISON "memory page has hardware error";}

error_numbers! { LookupErrno, "EAI_UNKNOWN",
    EAI_AGAIN "temporary failure in name resolution";
    EAI_BADFLAGS "bad value for ai_flags";
    EAI_FAIL "non-recoverable failure in name resolution";
    EAI_FAMILY "ai_family not supported";
    EAI_MEMORY "memory allocation failure";
    EAI_NODATA "no address associated with host name";
    EAI_NONAME "name or service not known";
    EAI_OVERFLOW "argument buffer overflow";
    EAI_SERVICE "service not supported for this transport";
    EAI_SOCKTYPE "socket type not supported";
    EAI_SYSTEM "system error";
}

impl Errno {
    /// The number of this name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|errno| errno.name() == name)
    }

    /// Whether a non-blocking call only asks for patience.
    pub const fn would_block(self) -> bool {
        self.0 == libc::EAGAIN
    }

    /// Whether the process or the machine has run out of something, so that trying again at once would be in vain.
    pub const fn out_of_resources(self) -> bool {
        matches!(self.0, libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    }

    /// What the error often means when `operation` meets it, and what to try. Empty where there is nothing useful to say.
    pub const fn hint(self, operation: Operation) -> &'static str {
        match (self.0, operation) {
            (libc::EADDRINUSE, Operation::Bind | Operation::Listen | Operation::Create) => {
                "another socket of this host has the address, or had it until just now; port 0 takes a free one"
            }
            (libc::EADDRINUSE, Operation::Join) => "the socket has joined the group there already",
            (libc::EADDRNOTAVAIL, Operation::Leave) => "the socket has not joined the group there: see its `groups`",
            (libc::ENODEV, Operation::Join) => "no route tells an interface for the group: name one",
            (libc::ENOBUFS, Operation::Join | Operation::Block) => {
                "a limit of the kernel: net.ipv4.igmp_max_memberships for groups, net.ipv4.igmp_max_msf for sources"
            }
            (libc::EADDRNOTAVAIL, Operation::Bind) => "the address is not one of this host's: see ListInterfaces",
            (libc::EADDRNOTAVAIL, Operation::Connect) => "this host has no ephemeral port left for that address",
            (libc::EACCES, Operation::Bind) => "ports below 1024 need CAP_NET_BIND_SERVICE",
            (libc::EACCES, Operation::Send | Operation::Connect) => {
                "a broadcast needs SO_BROADCAST; else a route prohibits it"
            }
            (libc::EPERM, Operation::Send | Operation::Write | Operation::Connect) => {
                "a firewall on this host forbids it"
            }
            (libc::EPERM, Operation::SetOption) => {
                "the agent lacks the capability for this option, often CAP_NET_ADMIN"
            }
            (libc::ECONNREFUSED, Operation::Connect) => {
                "nobody listens there, or a firewall answers with a RST; is the listener started, on that address?"
            }
            (libc::ECONNREFUSED, _) => "an ICMP port unreachable came back: nobody has that port over there",
            (libc::ECONNRESET, _) => {
                "a RST came: the peer aborted, closed with bytes unread, or has forgotten the connection"
            }
            (libc::EPIPE, Operation::Write) => {
                "it is not connected, its sending direction was ended, or the peer has closed and then reset"
            }
            (libc::ETIMEDOUT, _) => {
                "no answer came, so often that the kernel gave up: a host or link is down, or a firewall drops"
            }
            (libc::EHOSTUNREACH, _) => {
                "no host answers there on the last link, or a router or firewall said so by ICMP"
            }
            (libc::ENETUNREACH, Operation::Send) => {
                "this host has no route to it, or the source is no address of this host: see GetRoute"
            }
            (libc::ENETUNREACH, _) => "this host has no route to it: see GetRoute",
            (libc::ENOTCONN, _) => "it has no remote address: connect it first",
            (libc::EISCONN, _) => "it is connected already: make another socket for another connection",
            (libc::EALREADY, _) => "a connect is under way on it: wait for `connected` or `connect_failed`",
            (libc::EDESTADDRREQ, _) => "give a destination, or connect the socket first",
            (libc::EMSGSIZE, _) => {
                "one datagram carries at most 65,507 bytes over IPv4, 65,527 over IPv6, or less with DF set"
            }
            (libc::EAFNOSUPPORT, _) => "the address is of another IP version than the socket",
            (libc::EINVAL, Operation::Bind) => "it is bound already",
            (libc::EINVAL, Operation::Listen) => "it is connected",
            (libc::EINVAL, Operation::Accept) => "it does not listen",
            (libc::EINVAL, Operation::Connect) => {
                "it listens, the address is of another IP version, a blackhole route swallows it, or it is link-local and lacks its zone"
            }
            (libc::EINVAL, Operation::Send) => {
                "the source is no address of this host, the destination is no host's, or a link-local one lacks its zone"
            }
            (libc::EMFILE | libc::ENFILE, _) => {
                "too many descriptors are open: close sockets, or raise the limit (ulimit -n)"
            }
            (libc::ENOPROTOOPT, _) => "this kind of socket does not have the option",
            (libc::ENODEV, _) => "there is no such interface: see ListInterfaces",
            (libc::ECANCELED, _) => "what it had done until then stays done",
            _ => "",
        }
    }
}

impl LookupErrno {
    /// What the error often means, and what to try. Empty where there is nothing useful to say.
    pub const fn hint(self) -> &'static str {
        match self.0 {
            libc::EAI_NONAME => {
                "the host's resolver (/etc/hosts, DNS) does not know the name: check the spelling, or give an IP literal"
            }
            libc::EAI_NODATA => "the name exists, but has no address of the family that was asked for",
            libc::EAI_AGAIN => "the host's DNS server does not answer: try again, or give an IP literal",
            libc::EAI_SERVICE => "/etc/services has no such name for this transport: give the port's number",
            _ => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Linux numbers its errors from 1 to 133 with two holes; each of them has a name and a text of its own here.
    #[test]
    fn every_linux_errno_has_a_row() {
        let holes = [41, 58];
        for number in (1..=133).filter(|n| !holes.contains(n)) {
            let errno = Errno::new(number);
            assert_ne!(errno.name(), "EUNKNOWN", "{number}");
            assert_ne!(errno.text(), "unknown error", "{number}");
            assert_eq!(Errno::from_name(errno.name()), Some(errno));
        }
        assert_eq!(Errno::ALL.len(), 131);
    }

    /// The texts are the C library's own, so that they match what every other tool prints.
    #[test]
    fn texts_are_those_of_strerror() {
        for errno in Errno::ALL {
            let system = std::io::Error::from_raw_os_error(errno.number()).to_string();
            let system = system.rsplit_once(" (os error").unwrap().0.to_lowercase();
            assert_eq!(errno.text().to_lowercase(), system, "{errno}");
        }
    }

    #[test]
    fn unknown_numbers_are_shown_as_numbers() {
        assert_eq!(Errno::new(4000).to_string(), "EUNKNOWN 4000");
        assert_eq!(LookupErrno::new(-99).to_string(), "EAI_UNKNOWN -99");
        assert_eq!(Errno::from_name("EWHATEVER"), None);
    }

    #[test]
    fn hints_depend_on_what_was_done() {
        assert_ne!(Errno::EINVAL.hint(Operation::Bind), Errno::EINVAL.hint(Operation::Listen));
        assert!(Errno::ECONNREFUSED.hint(Operation::Connect).contains("listen"));
        assert_eq!(Errno::EIO.hint(Operation::Bind), "");
    }
}
