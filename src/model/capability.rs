//! The Linux capabilities that an agent has a use for, one row each: what it keeps, what errors name, and what `--check` prints stand here.

use std::fmt;

/// A capability. capabilities(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Capability {
    /// CAP_NET_BIND_SERVICE.
    NetBindService,
    /// CAP_NET_ADMIN.
    NetAdmin,
    /// CAP_NET_RAW.
    NetRaw,
    /// CAP_SYS_ADMIN.
    SysAdmin,
}

/// The options that need CAP_NET_ADMIN: some always, some for some values. socket(7), tcp(7).
const NET_ADMIN_OPTIONS: [&str; 3] = ["SO_MARK", "SO_PRIORITY", "TCP_CONGESTION"];
/// Those that need CAP_NET_RAW. socket(7).
const NET_RAW_OPTIONS: [&str; 2] = ["SO_BINDTODEVICE", "SO_BINDTOIFINDEX"];

impl Capability {
    /// Those that lab sockets have a use for. An agent keeps them, where it has them.
    pub const OF_SOCKETS: [Self; 3] = [Self::NetBindService, Self::NetAdmin, Self::NetRaw];

    /// Its number. linux/capability.h.
    pub const fn number(self) -> u32 {
        match self {
            Self::NetBindService => 10,
            Self::NetAdmin => 12,
            Self::NetRaw => 13,
            Self::SysAdmin => 21,
        }
    }

    /// Its name, as GetAgent tells it: in lower case, and without `cap_`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NetBindService => "net_bind_service",
            Self::NetAdmin => "net_admin",
            Self::NetRaw => "net_raw",
            Self::SysAdmin => "sys_admin",
        }
    }

    /// What does not work without it.
    pub const fn purpose(self) -> &'static str {
        match self {
            Self::NetBindService => "ports below 1024",
            Self::NetAdmin => "SO_MARK, SO_PRIORITY above 6, TCP_CONGESTION with what the host keeps to itself",
            Self::NetRaw => "SO_BINDTODEVICE and SO_BINDTOIFINDEX on a socket that has an interface already",
            Self::SysAdmin => "--lab-netns",
        }
    }

    /// What to say to whoever may not set a socket option. EPERM.
    pub fn option_hint(option: &str) -> Option<&'static str> {
        if NET_ADMIN_OPTIONS.contains(&option) {
            Some(
                "the agent lacks CAP_NET_ADMIN, which this option needs (since Linux 5.17, CAP_NET_RAW does for SO_MARK and SO_PRIORITY)",
            )
        } else if NET_RAW_OPTIONS.contains(&option) {
            Some("the agent lacks CAP_NET_RAW, which changing the interface needs once the socket has one")
        } else {
            None
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CAP_{}", self.name().to_uppercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::option_table::OPTIONS;

    #[test]
    fn the_options_that_need_a_capability_are_options() {
        for name in NET_ADMIN_OPTIONS.iter().chain(&NET_RAW_OPTIONS) {
            assert!(OPTIONS.iter().any(|spec| spec.name == *name), "{name}");
        }
        for spec in OPTIONS.iter().filter(|spec| spec.summary.contains("CAP_")) {
            assert!(Capability::option_hint(spec.name).is_some_and(|hint| hint.contains("CAP_")), "{}", spec.name);
        }
        assert_eq!(Capability::NetBindService.to_string(), "CAP_NET_BIND_SERVICE");
        assert_eq!(Capability::option_hint("TCP_NODELAY"), None);
    }
}
