//! The policy of an agent: who may do what, and with which addresses.
//!
//! Principals have roles, and roles have rights. Which addresses somebody may use is said by rules: any `deny` rule that fits wins, then any
//! `allow` rule that fits counts, and what no rule allows is denied. Addresses are seen as what they lead to, however they are spelled
//! ([`canonical`]). Every [`Decision`] knows the line of the file that it comes from.

pub mod canonical;
mod decide;
mod file;
pub mod permit;
mod read;
mod rpc;
mod rule;

use std::collections::HashMap;
use std::fmt;

use crate::model::id::Principal;
use crate::model::mistake::{Mistake, Source};
use crate::model::policy::rule::Rule;

pub use crate::model::policy::decide::{AddressUse, Cause, Decision, Place};
pub use crate::model::policy::rpc::Rpc;

/// The largest file that is read, in bytes.
pub const FILE_BYTES: usize = 1 << 20;

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $value:ident $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $value,)* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$value),*];

            /// The word for it in a policy.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$value => $word,)* }
            }

            /// The one that has this word.
            pub fn named(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.word() == word)
            }
        }
    };
}

words! {
    /// A kind of operation, as a role may do it or not, whatever the addresses.
    Right {
        /// Read what the agent tells of its host, and of one's own sessions, sockets and events.
        Look "look",
        /// Look up names and routes.
        Resolve "resolve",
        /// Make sessions and sockets, and do with them what the rules let one do.
        Use "use",
        /// Read what is told of sessions of others.
        SeeOthers "see-others",
        /// Change and end sessions and sockets of others.
        UseOthers "use-others",
        /// Set any socket option, those included that lead around addresses.
        Options "options",
    }
}

words! {
    /// What is done with an address.
    Use {
        /// bind(2).
        Bind "bind",
        /// listen(2) on it.
        Listen "listen",
        /// Taking a connection that comes from it. accept4(2).
        Accept "accept",
        /// connect(2), of TCP and UDP.
        Connect "connect",
        /// sendmsg(2) to it, of UDP.
        Send "send",
        /// Joining it, which is a multicast group.
        Join "join",
        /// setsockopt(2): no address, but an option that leads around them.
        Set "set",
    }
}

impl Use {
    /// With what comes behind it in a sentence.
    const fn phrase(self) -> &'static str {
        match self {
            Self::Bind => "bind to",
            Self::Listen => "listen on",
            Self::Accept => "accept connections from",
            Self::Connect => "connect to",
            Self::Send => "send to",
            Self::Join => "join",
            Self::Set => "set",
        }
    }
}

/// The roles that are always there, with their rights.
const ROLES: [(&str, &[Right]); 4] = [
    ("viewer", &[Right::Look]),
    ("student", &[Right::Look, Right::Resolve, Right::Use]),
    ("instructor", &[Right::Look, Right::Resolve, Right::Use, Right::SeeOthers, Right::UseOthers]),
    ("admin", Right::ALL),
];

/// Options that lead around no address: everybody who may use sockets may set them. All others must be allowed.
const HARMLESS: [&str; 49] = [
    "SO_REUSEADDR",
    "SO_KEEPALIVE",
    "SO_LINGER",
    "SO_RCVBUF",
    "SO_SNDBUF",
    "SO_OOBINLINE",
    "SO_MAX_PACING_RATE",
    "SO_RXQ_OVFL",
    "SO_TIMESTAMPNS",
    "SO_TIMESTAMP",
    "SO_TIMESTAMPING",
    "TCP_NODELAY",
    "TCP_KEEPIDLE",
    "TCP_KEEPINTVL",
    "TCP_KEEPCNT",
    "TCP_MAXSEG",
    "TCP_CORK",
    "TCP_QUICKACK",
    "TCP_USER_TIMEOUT",
    "TCP_SYNCNT",
    "TCP_LINGER2",
    "TCP_DEFER_ACCEPT",
    "TCP_WINDOW_CLAMP",
    "TCP_NOTSENT_LOWAT",
    "TCP_CONGESTION",
    "TCP_TX_DELAY",
    "IP_BIND_ADDRESS_NO_PORT",
    "IP_MTU_DISCOVER",
    "IP_TOS",
    "IP_TTL",
    "IP_PKTINFO",
    "IP_RECVTTL",
    "IP_RECVTOS",
    "IP_RECVERR",
    "IP_RECVERR_RFC4884",
    "IP_MULTICAST_TTL",
    "IP_MULTICAST_LOOP",
    "IPV6_V6ONLY",
    "IPV6_MTU_DISCOVER",
    "IPV6_DONTFRAG",
    "IPV6_TCLASS",
    "IPV6_UNICAST_HOPS",
    "IPV6_RECVPKTINFO",
    "IPV6_RECVHOPLIMIT",
    "IPV6_RECVTCLASS",
    "IPV6_RECVERR",
    "IPV6_RECVERR_RFC4884",
    "IPV6_MULTICAST_HOPS",
    "IPV6_MULTICAST_LOOP",
];

/// Who may do what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    title: String,
    fingerprint: String,
    principals: HashMap<Principal, Standing>,
    /// Of those who are not named.
    others: Standing,
    roles: HashMap<String, Vec<Right>>,
    rules: Vec<Rule>,
}

/// What somebody is, and what he may do by it: put together when the policy is read, because it is asked for at each call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Standing {
    roles: Vec<String>,
    rights: Vec<Right>,
}

impl Policy {
    /// Reads a file. All that is wrong with it comes back at once.
    pub fn read(source: &Source) -> Result<Self, Vec<Mistake>> {
        read::read(source)
    }

    /// Its title.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The first 12 digits of its file's SHA-256, as sha256sum(1) shows it.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// How many principals it names, and how many rules it has, in words.
    pub fn size(&self) -> String {
        let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        format!("{}, {}", counted(self.principals.len(), "principal"), counted(self.rules.len(), "rule"))
    }

    /// The roles of somebody; none of a stranger.
    pub fn roles(&self, who: &Principal) -> &[String] {
        &self.standing(who).roles
    }

    /// Whether somebody has a right.
    pub fn may(&self, who: &Principal, right: Right) -> bool {
        self.standing(who).rights.contains(&right)
    }

    fn standing(&self, who: &Principal) -> &Standing {
        self.principals.get(who).unwrap_or(&self.others)
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::option::Access;
    use crate::model::option_table::OPTIONS;

    /// A new option is guarded until somebody has thought about it.
    #[test]
    fn every_option_is_harmless_or_guarded() {
        let guarded: Vec<&str> = OPTIONS
            .iter()
            .filter(|option| option.access != Access::ReadOnly && !HARMLESS.contains(&option.name))
            .map(|option| option.name)
            .collect();
        assert_eq!(
            guarded,
            [
                "SO_REUSEPORT",
                "SO_BROADCAST",
                "SO_BINDTODEVICE",
                "SO_BINDTOIFINDEX",
                "SO_PRIORITY",
                "SO_MARK",
                "IP_FREEBIND",
                "IP_LOCAL_PORT_RANGE",
                "IP_MULTICAST_IF",
                "IP_MULTICAST_ALL",
                "IPV6_FREEBIND",
                "IPV6_MULTICAST_IF",
                "IPV6_MULTICAST_ALL",
            ]
        );
        assert!(HARMLESS.iter().all(|name| OPTIONS.iter().any(|option| option.name == *name)));
    }
}
