//! Source filters: from whom a socket receives what is sent to a group on an interface. RFC 3678, section 3.

use std::fmt;
use std::net::IpAddr;

use crate::model::address::Family;
use crate::model::error::SocketError;
use crate::model::group::{GroupAsked, InterfaceId, InterfaceText, source_host};
use crate::model::refusal::Violation;

/// What the sources of a filter are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FilterMode {
    /// The only ones that are wanted: MCAST_INCLUDE.
    Include,
    /// The ones that are not wanted: MCAST_EXCLUDE.
    Exclude,
}

/// From whom a socket receives what is sent to a group on an interface.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourceFilter {
    /// What the sources are.
    pub mode: FilterMode,
    /// The sources.
    pub sources: Vec<IpAddr>,
}

impl SourceFilter {
    /// Whether it lists a source.
    pub fn lists(&self, source: Option<IpAddr>) -> bool {
        source.is_some_and(|source| self.sources.contains(&source))
    }

    /// Whether nothing passes it, which is the same as to have left the group.
    pub const fn shuts_all_out(&self) -> bool {
        matches!(self.mode, FilterMode::Include) && self.sources.is_empty()
    }

    /// How many entries the kernel keeps for it: memberships, and sources blocked.
    pub const fn len(&self) -> usize {
        match self.mode {
            FilterMode::Include => self.sources.len(),
            FilterMode::Exclude => 1 + self.sources.len(),
        }
    }

    /// Whether the kernel keeps nothing for it.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for SourceFilter {
    /// `only from 10.0.0.1, 10.0.0.2`, `not from 10.0.0.1`, `from anybody`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.mode, &*self.sources) {
            (FilterMode::Include, []) => return f.write_str("from nobody"),
            (FilterMode::Exclude, []) => return f.write_str("from anybody"),
            (FilterMode::Include, _) => f.write_str("only from ")?,
            (FilterMode::Exclude, _) => f.write_str("not from ")?,
        }
        for (at, source) in self.sources.iter().enumerate() {
            write!(f, "{}{source}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// A filter that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FilterAsked {
    /// The group's address.
    pub group: IpAddr,
    /// The interface; absent means all on which the socket has joined the group.
    pub interface: InterfaceText,
    /// The filter.
    pub filter: SourceFilter,
}

impl FilterAsked {
    /// Reads what a request or a file has. What is wrong is told with its field.
    pub fn read(
        group: &str,
        interface: &str,
        mode: FilterMode,
        sources: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, Violation> {
        let GroupAsked { group, interface, .. } = GroupAsked::read(group, interface, "")?;
        let read = |(at, text): (usize, _)| {
            let field = format!("sources[{at}]");
            source_host(AsRef::as_ref(&text), group).map_err(|problem| Violation { field, problem })
        };
        let sources = sources.into_iter().enumerate().map(read).collect::<Result<_, _>>()?;
        Ok(Self { group, interface, filter: SourceFilter { mode, sources } })
    }

    /// The IP version.
    pub fn family(&self) -> Family {
        Family::of(self.group)
    }
}

/// The filter of a group on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupFilter {
    /// The group's address.
    pub group: IpAddr,
    /// The interface.
    pub interface: InterfaceId,
    /// The filter.
    pub filter: SourceFilter,
}

impl fmt::Display for GroupFilter {
    /// `239.1.2.3 on eth0 only from 10.0.0.1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.group)?;
        if !self.interface.name.is_empty() {
            write!(f, " on {}", self.interface.name)?;
        }
        write!(f, " {}", self.filter)
    }
}

/// The filter of a group on an interface, as it was asked for or read, or what the kernel objected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterResult {
    /// The group's address.
    pub group: IpAddr,
    /// The interface.
    pub interface: InterfaceId,
    /// The filter. Absent where it could not be read.
    pub filter: Option<SourceFilter>,
    /// What the kernel objected to.
    pub error: Option<SocketError>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mode: FilterMode, sources: &[&str]) -> Result<SourceFilter, Violation> {
        FilterAsked::read("239.1.2.3", "eth0", mode, sources).map(|asked| asked.filter)
    }

    #[test]
    fn a_filter_is_told_in_words_and_counts_its_entries() {
        let told = |mode, sources: &[&str]| {
            let filter = read(mode, sources).unwrap();
            (filter.to_string(), filter.len(), filter.shuts_all_out())
        };
        assert_eq!(told(FilterMode::Exclude, &[]), ("from anybody".into(), 1, false));
        assert_eq!(told(FilterMode::Exclude, &["10.0.0.1"]), ("not from 10.0.0.1".into(), 2, false));
        assert_eq!(told(FilterMode::Include, &["10.0.0.1", "10.0.0.2"]).0, "only from 10.0.0.1, 10.0.0.2");
        assert_eq!(told(FilterMode::Include, &[]), ("from nobody".into(), 0, true));
        let interface = InterfaceId { index: 1, name: "eth0".into() };
        let filter = read(FilterMode::Include, &["10.0.0.1"]).unwrap();
        let group = GroupFilter { group: "239.1.2.3".parse().unwrap(), interface, filter };
        assert_eq!(group.to_string(), "239.1.2.3 on eth0 only from 10.0.0.1");
    }

    #[test]
    fn the_source_that_is_wrong_is_named() {
        for (source, says) in [
            ("nobody", "`nobody` is not the IP address of a host"),
            ("", "`` is not the IP address of a host"),
            ("239.1.2.3", "`239.1.2.3` is not the IP address of a host"),
            ("::1", "`::1` is not of the IP version of `239.1.2.3`"),
        ] {
            let violation = read(FilterMode::Include, &["10.0.0.1", source]).unwrap_err();
            assert_eq!(violation.field, "sources[1]", "{source}");
            assert!(violation.problem.to_string().starts_with(says), "{}", violation.problem);
        }
    }
}
