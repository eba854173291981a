//! Multicast groups: how memberships are asked for, and how they are shown.

use std::net::IpAddr;

use crate::model::group::{GroupAsked, GroupChange, GroupResult, InterfaceId, Joined, Membership, Memberships};
use crate::model::refusal::Violation;
use crate::wire::unknown::optional;
use crate::wire::{call, pb};

// === In ===

/// A membership of a request, and the change that it is for.
pub(super) fn asked(change: GroupChange, group: &str, interface: &str, source: &str) -> Result<GroupAsked, Violation> {
    let asked = GroupAsked::read(group, interface, source)?;
    if matches!(change, GroupChange::Block | GroupChange::Unblock) && asked.source.is_none() {
        return Err(Violation::new("source", "the source is needed, such as 10.0.0.2"));
    }
    Ok(asked)
}

/// The memberships of a socket that is to be made.
pub(super) fn specs(field: &str, specs: &[pb::GroupSpec], limit: u32) -> Result<Vec<GroupAsked>, Violation> {
    if specs.len() > limit as usize {
        let problem = format!("{} are more than limits.groups of this agent, {limit}", specs.len());
        return Err(Violation::new(field, problem));
    }
    let read = |(at, sent): (usize, &pb::GroupSpec)| {
        GroupAsked::read(&sent.group, &sent.interface, &sent.source)
            .map_err(|violation| violation.within(&format!("{field}[{at}]")))
    };
    specs.iter().enumerate().map(read).collect()
}

/// A membership as a request carries it: group, interface, source.
pub(super) fn write(asked: &GroupAsked) -> (String, String, String) {
    (asked.group.to_string(), asked.interface.to_string(), source(asked.source))
}

/// The same, of a socket that is to be made.
pub(super) fn write_spec(asked: &GroupAsked) -> pb::GroupSpec {
    let (group, interface, source) = write(asked);
    pb::GroupSpec { group, interface, source }
}

fn source(source: Option<IpAddr>) -> String {
    source.map(|ip| ip.to_string()).unwrap_or_default()
}

// === Out ===

impl From<&Membership> for pb::GroupMembership {
    fn from(membership: &Membership) -> Self {
        Self {
            group: membership.group.to_string(),
            interface: membership.interface.name.to_string(),
            interface_index: membership.interface.index,
            source: source(membership.source),
            blocked_sources: Vec::new(),
        }
    }
}

impl From<&Joined> for pb::GroupMembership {
    fn from(joined: &Joined) -> Self {
        let blocked_sources = joined.blocked.iter().map(ToString::to_string).collect();
        Self { blocked_sources, ..(&joined.membership).into() }
    }
}

impl From<&GroupResult> for pb::GroupResult {
    fn from(result: &GroupResult) -> Self {
        Self { membership: Some((&result.membership).into()), error: result.error.as_ref().map(call::error) }
    }
}

// === In, for clients ===

/// A membership as an agent sent it; absent when it makes no sense, which only another version's could.
pub(super) fn read(sent: Option<&pb::GroupMembership>) -> Option<Membership> {
    let sent = sent?;
    Some(Membership {
        group: sent.group.parse().ok()?,
        interface: InterfaceId { index: sent.interface_index, name: sent.interface.as_str().into() },
        source: sent.source.parse().ok(),
    })
}

/// All memberships of a socket as an agent sent them.
pub(super) fn read_all(sent: &[pb::GroupMembership]) -> Memberships {
    let joined = |sent: &pb::GroupMembership| {
        let blocked = sent.blocked_sources.iter().filter_map(|text| text.parse().ok()).collect();
        Some(Joined { membership: read(Some(sent))?, blocked })
    };
    Memberships(sent.iter().filter_map(joined).collect())
}

/// What became of a membership, as an agent sent it.
pub(super) fn read_result(sent: &pb::GroupResult) -> Option<GroupResult> {
    Some(GroupResult {
        membership: read(sent.membership.as_ref())?,
        error: optional(sent.error.as_ref(), call::read_error)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::errno::Errno;
    use crate::model::error::SocketError;
    use crate::model::operation::Operation;

    fn membership(source: &str) -> Membership {
        let interface = InterfaceId { index: 7, name: "eth0".into() };
        Membership { group: "ff15::7".parse().unwrap(), interface, source: source.parse().ok() }
    }

    #[test]
    fn memberships_are_read_as_they_were_shown() {
        for source in ["", "fd00::2"] {
            let shown = pb::GroupMembership::from(&membership(source));
            assert_eq!((shown.group.as_str(), shown.interface.as_str(), shown.interface_index), ("ff15::7", "eth0", 7));
            assert_eq!(shown.source, source);
            assert_eq!(read(Some(&shown)), Some(membership(source)));
        }
        let blocked = vec!["fd00::3".parse().unwrap(), "fd00::4".parse().unwrap()];
        let joined = Memberships(vec![Joined { membership: membership(""), blocked }]);
        let shown: Vec<_> = joined.0.iter().map(pb::GroupMembership::from).collect();
        assert_eq!(shown[0].blocked_sources, ["fd00::3", "fd00::4"]);
        assert_eq!(read_all(&shown), joined);
    }

    #[test]
    fn results_are_read_as_they_were_shown() {
        let error = SocketError::new(Errno::EADDRINUSE, Operation::Join, "setsockopt").about("ff15::7 on eth0");
        for error in [None, Some(error)] {
            let result = GroupResult { membership: membership(""), error };
            assert_eq!(read_result(&(&result).into()), Some(result));
        }
        assert_eq!(read_result(&pb::GroupResult::default()), None);
    }

    #[test]
    fn a_source_that_is_to_be_blocked_is_needed() {
        for (change, needed) in GroupChange::ALL.into_iter().zip([false, false, true, true]) {
            let read = asked(change, "239.1.2.3", "", "");
            assert_eq!(read.is_err_and(|violation| violation.field == "source"), needed, "{change:?}");
            assert!(asked(change, "239.1.2.3", "eth0", "10.0.0.2").is_ok());
        }
    }
}
