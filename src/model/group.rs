//! Multicast groups: how memberships are asked for, and which ones a socket has.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::address::{Family, Zone, parse_zone};
use crate::model::error::SocketError;
use crate::model::id::shorten;
use crate::model::refusal::{Problem, Violation};
use crate::model::source_filter::{FilterMode, GroupFilter};

/// What is to become of a membership. RFC 3678, section 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GroupChange {
    /// MCAST_JOIN_GROUP, MCAST_JOIN_SOURCE_GROUP.
    Join,
    /// MCAST_LEAVE_GROUP, MCAST_LEAVE_SOURCE_GROUP.
    Leave,
    /// MCAST_BLOCK_SOURCE.
    Block,
    /// MCAST_UNBLOCK_SOURCE.
    Unblock,
}

impl GroupChange {
    /// Every change.
    pub const ALL: [Self; 4] = [Self::Join, Self::Leave, Self::Block, Self::Unblock];
}

/// An interface, as a request names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum InterfaceText {
    /// Not at all: the kernel chooses.
    Absent,
    /// Every one that can do it.
    All,
    /// By name or index.
    Zone(Zone),
    /// By an address that it has.
    Ip(IpAddr),
}

impl InterfaceText {
    /// Reads `eth0`, `2`, `10.0.0.1`, `all`, or nothing.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        if text.is_empty() {
            return Ok(Self::Absent);
        }
        if text == "all" {
            return Ok(Self::All);
        }
        if let Ok(ip) = text.parse() {
            return Ok(Self::Ip(ip));
        }
        parse_zone(text).map(Self::Zone).map_err(|_| {
            Problem::new(format!(
                "`{}` is not an interface: a name such as eth0, an index from 1, an address such as 10.0.0.1, or all",
                shorten(text)
            ))
        })
    }
}

impl fmt::Display for InterfaceText {
    /// The form that the parser reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => Ok(()),
            Self::All => f.write_str("all"),
            Self::Zone(zone) => write!(f, "{zone}"),
            Self::Ip(ip) => write!(f, "{ip}"),
        }
    }
}

/// A membership that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GroupAsked {
    /// The group's address.
    pub group: IpAddr,
    /// The interface.
    pub interface: InterfaceText,
    /// The only source that is wanted, or the one that is to be blocked.
    pub source: Option<IpAddr>,
}

impl GroupAsked {
    /// Reads what a request or a file has; empty text stands for what is absent. What is wrong is told with its field.
    pub fn read(group: &str, interface: &str, source: &str) -> Result<Self, Violation> {
        let ip = group.parse::<IpAddr>().ok().filter(IpAddr::is_multicast).ok_or_else(|| {
            let problem = format!("`{}` is not a multicast group, such as 239.1.2.3 or ff15::7", shorten(group));
            Violation::new("group", problem)
        })?;
        let interface =
            InterfaceText::parse(interface).map_err(|problem| Violation { field: "interface".to_owned(), problem })?;
        let source = match source {
            "" => None,
            text => Some(source_host(text, ip).map_err(|problem| Violation { field: "source".to_owned(), problem })?),
        };
        Ok(Self { group: ip, interface, source })
    }

    /// The IP version.
    pub fn family(&self) -> Family {
        Family::of(self.group)
    }
}

/// The address of a host that sends to a group.
pub(super) fn source_host(text: &str, group: IpAddr) -> Result<IpAddr, Problem> {
    let host = |ip: &IpAddr| !ip.is_multicast() && !ip.is_unspecified();
    let source = text.parse::<IpAddr>().ok().filter(host).ok_or_else(|| {
        Problem::new(format!("`{}` is not the IP address of a host, such as 10.0.0.2", shorten(text)))
    })?;
    if Family::of(source) != Family::of(group) {
        return Err(Problem::new(format!("`{source}` is not of the IP version of `{group}`")));
    }
    Ok(source)
}

/// An interface of the agent's host; the default stands for one that the kernel has not told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InterfaceId {
    /// Its index; 0 where it is not known.
    pub index: u32,
    /// Its name; empty where it is not known.
    pub name: Arc<str>,
}

/// A group on an interface, from any source or from one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The group's address.
    pub group: IpAddr,
    /// The interface.
    pub interface: InterfaceId,
    /// The source; absent: any.
    pub source: Option<IpAddr>,
}

impl Membership {
    fn is_at(&self, other: &Self) -> bool {
        self.group == other.group && self.interface.index == other.interface.index
    }
}

impl fmt::Display for Membership {
    /// `239.1.2.3 on eth0 from 10.0.0.1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.group)?;
        if !self.interface.name.is_empty() {
            write!(f, " on {}", self.interface.name)?;
        }
        match self.source {
            Some(source) => write!(f, " from {source}"),
            None => Ok(()),
        }
    }
}

/// What became of one membership that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupResult {
    /// The membership.
    pub membership: Membership,
    /// What the kernel objected to.
    pub error: Option<SocketError>,
}

/// A membership that a socket has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Which one.
    pub membership: Membership,
    /// Sources that are not wanted.
    pub blocked: Vec<IpAddr>,
}

/// The memberships of a socket, in the order in which they began.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memberships(pub Vec<Joined>);

impl Memberships {
    /// Whether it has this one.
    pub fn has(&self, wanted: &Membership) -> bool {
        self.0.iter().any(|joined| joined.membership.is_at(wanted) && joined.membership.source == wanted.source)
    }

    /// Those of a group, on all interfaces.
    pub fn of(&self, group: IpAddr) -> impl Iterator<Item = &Joined> {
        self.0.iter().filter(move |joined| joined.membership.group == group)
    }

    /// The groups, once for each membership.
    pub fn groups(&self) -> impl Iterator<Item = IpAddr> {
        self.0.iter().map(|joined| joined.membership.group)
    }

    /// How many entries the kernel keeps for it: memberships, and sources blocked.
    pub fn len(&self) -> usize {
        self.0.iter().map(|joined| 1 + joined.blocked.len()).sum()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes up a membership. On one interface, a group is joined from any source or from some: the kernel lets one source take the place
    /// of all.
    pub fn join(&mut self, new: &Membership) {
        if new.source.is_some() {
            self.0.retain(|joined| !joined.membership.is_at(new) || joined.membership.source.is_some());
        }
        self.0.push(Joined { membership: new.clone(), blocked: Vec::new() });
    }

    /// Gives up a membership; without a source, those of all sources.
    pub fn leave(&mut self, left: &Membership) {
        self.0.retain(|joined| {
            !joined.membership.is_at(left) || (left.source.is_some() && joined.membership.source != left.source)
        });
    }

    /// Blocks the source of this membership in the one of any source.
    pub fn block(&mut self, unwanted: &Membership) {
        if let (Some(joined), Some(source)) = (self.any_source(unwanted), unwanted.source) {
            joined.blocked.push(source);
        }
    }

    /// Lets the source in again.
    pub fn unblock(&mut self, wanted: &Membership) {
        if let Some(joined) = self.any_source(wanted) {
            joined.blocked.retain(|source| Some(*source) != wanted.source);
        }
    }

    /// Lets a filter take the place of all that was there on its interface.
    pub fn filter(&mut self, new: &GroupFilter) {
        let GroupFilter { group, interface, filter } = new;
        let at = |source| Membership { group: *group, interface: interface.clone(), source };
        self.leave(&at(None));
        match filter.mode {
            FilterMode::Include => {
                let joined = |source: &IpAddr| Joined { membership: at(Some(*source)), blocked: Vec::new() };
                self.0.extend(filter.sources.iter().map(joined));
            }
            FilterMode::Exclude => self.0.push(Joined { membership: at(None), blocked: filter.sources.clone() }),
        }
    }

    fn any_source(&mut self, at: &Membership) -> Option<&mut Joined> {
        self.0.iter_mut().find(|joined| joined.membership.is_at(at) && joined.membership.source.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::source_filter::SourceFilter;

    fn membership(index: u32, source: &str) -> Membership {
        let interface = InterfaceId { index, name: format!("eth{index}").into() };
        Membership { group: "239.1.2.3".parse().unwrap(), interface, source: source.parse().ok() }
    }

    #[test]
    fn interfaces_are_named_in_five_ways() {
        for text in ["", "all", "eth0", "2", "10.0.0.1", "fd00::1"] {
            assert_eq!(InterfaceText::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(InterfaceText::parse("2"), Ok(InterfaceText::Zone(Zone::Index(2))));
        assert_eq!(InterfaceText::parse("10.0.0.1"), Ok(InterfaceText::Ip("10.0.0.1".parse().unwrap())));
        for text in ["0", "a b", "eth0/1", "an-interface-with-a-long-name", "ñ"] {
            let problem = InterfaceText::parse(text).unwrap_err().to_string();
            assert!(problem.starts_with(&format!("`{text}` is not an interface: a name such as eth0")), "{problem}");
        }
    }

    #[test]
    fn memberships_are_kept_as_the_kernel_keeps_them() {
        let mut groups = Memberships::default();
        groups.join(&membership(1, ""));
        groups.join(&membership(2, "10.0.0.1"));
        groups.join(&membership(2, "10.0.0.2"));
        groups.block(&membership(1, "10.0.0.9"));
        assert_eq!((groups.0.len(), groups.len()), (3, 4));
        assert_eq!(groups.0[0].blocked, ["10.0.0.9".parse::<IpAddr>().unwrap()]);
        assert!(groups.has(&membership(2, "10.0.0.2")) && !groups.has(&membership(2, "")));

        groups.unblock(&membership(1, "10.0.0.9"));
        groups.leave(&membership(2, "10.0.0.1"));
        assert_eq!(groups.len(), 2);
        // One source takes the place of all.
        groups.join(&membership(1, "10.0.0.1"));
        assert!(!groups.has(&membership(1, "")) && groups.has(&membership(1, "10.0.0.1")));
        // Without a source, all of an interface go.
        groups.join(&membership(1, "10.0.0.2"));
        groups.leave(&membership(1, ""));
        assert_eq!(groups.0.len(), 1);
        assert!(groups.has(&membership(2, "10.0.0.2")));
    }

    #[test]
    fn a_filter_takes_the_place_of_what_was_there() {
        let filter = |mode, sources: &[&str]| GroupFilter {
            group: membership(1, "").group,
            interface: membership(1, "").interface,
            filter: SourceFilter { mode, sources: sources.iter().map(|text| text.parse().unwrap()).collect() },
        };
        let mut groups = Memberships::default();
        groups.join(&membership(1, ""));
        groups.join(&membership(2, ""));
        groups.filter(&filter(FilterMode::Include, &["10.0.0.1", "10.0.0.2"]));
        assert_eq!(groups.len(), 3);
        assert!(groups.has(&membership(1, "10.0.0.1")) && groups.has(&membership(1, "10.0.0.2")));
        assert!(!groups.has(&membership(1, "")) && groups.has(&membership(2, "")));
        groups.filter(&filter(FilterMode::Exclude, &["10.0.0.1"]));
        assert_eq!((groups.0.len(), groups.len()), (2, 3));
        assert_eq!(groups.0[1].blocked, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn a_membership_is_told_in_words() {
        assert_eq!(membership(1, "10.0.0.1").to_string(), "239.1.2.3 on eth1 from 10.0.0.1");
        let unknown = Membership { interface: InterfaceId::default(), ..membership(1, "") };
        assert_eq!(unknown.to_string(), "239.1.2.3");
    }
}
