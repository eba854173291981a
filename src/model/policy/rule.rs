//! A rule, as it is decided by.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::model::address::Transport;
use crate::model::id::Principal;
use crate::model::policy::Use;

/// The first port that needs no privilege to bind to.
pub(super) const UNPRIVILEGED: u16 = 1024;

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// Where it begins in the file, from 1.
    pub(super) line: usize,
    pub(super) allow: bool,
    pub(super) uses: Vec<Use>,
    /// For whom; absent: everybody.
    pub(super) whom: Option<Vec<Whom>>,
    pub(super) networks: Vec<IpNet>,
    /// The agent's own control addresses are meant.
    pub(super) control: bool,
    /// Absent: all, but for those below 1024 where somebody is allowed to bind.
    pub(super) ports: Option<Vec<RangeInclusive<u16>>>,
    /// Absent: any.
    pub(super) transport: Option<Transport>,
    /// Of `set`. Absent: all.
    pub(super) options: Option<Vec<&'static str>>,
}

/// For whom a rule is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whom {
    Role(String),
    Principal(Principal),
}

impl Rule {
    /// Whether it speaks of somebody who does something of this kind.
    pub(super) fn is_about(&self, who: &Principal, roles: &[String], kind: Use) -> bool {
        let is_him = |whom: &Whom| match whom {
            Whom::Role(role) => roles.contains(role),
            Whom::Principal(principal) => principal == who,
        };
        self.uses.contains(&kind) && self.whom.as_ref().is_none_or(|whom| whom.iter().any(is_him))
    }

    /// Whether it speaks of this port and transport, too.
    pub(super) fn fits(&self, kind: Use, transport: Transport, port: u16) -> bool {
        if self.transport.is_some_and(|only| only != transport) {
            return false;
        }
        match &self.ports {
            // The port of a connection's other side, and that of a group, tell nothing.
            _ if matches!(kind, Use::Accept | Use::Join) => true,
            Some(ports) => ports.iter().any(|range| range.contains(&port)),
            None => {
                let takes_port = matches!(kind, Use::Bind | Use::Listen);
                !(self.allow && takes_port) || port == 0 || port >= UNPRIVILEGED
            }
        }
    }

    pub(super) fn covers(&self, ip: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&ip))
    }

    /// The same, for an option.
    pub(super) fn covers_option(&self, name: &str) -> bool {
        self.options.as_ref().is_none_or(|options| options.contains(&name))
    }
}
