//! Source filters of groups: how they are asked for, and how they are shown.

use std::net::IpAddr;

use crate::model::group::{GroupAsked, InterfaceId, InterfaceText};
use crate::model::refusal::Violation;
use crate::model::source_filter::{FilterAsked, FilterMode, FilterResult, GroupFilter, SourceFilter};
use crate::wire::unknown::{known_value, optional};
use crate::wire::{call, known, pb};

// === In ===

/// A filter of a request.
pub(super) fn asked(request: &pb::SetSourceFilterRequest) -> Result<FilterAsked, Violation> {
    let mode = match known("mode", request.mode)? {
        pb::FilterMode::Unspecified => {
            return Err(Violation::new("mode", "whether the sources are to be included or excluded is needed"));
        }
        pb::FilterMode::Include => FilterMode::Include,
        pb::FilterMode::Exclude => FilterMode::Exclude,
    };
    FilterAsked::read(&request.group, &request.interface, mode, &request.sources)
}

/// The group and the interface whose filter is to be read.
pub fn place(request: &pb::GetSourceFilterRequest) -> Result<(IpAddr, InterfaceText), Violation> {
    let GroupAsked { group, interface, .. } = GroupAsked::read(&request.group, &request.interface, "")?;
    Ok((group, interface))
}

/// A filter as a request carries it: group, interface, mode, sources.
pub(super) fn write(asked: &FilterAsked) -> (String, String, i32, Vec<String>) {
    let FilterAsked { group, interface, filter } = asked;
    (group.to_string(), interface.to_string(), mode(filter.mode).into(), sources(filter))
}

const fn mode(mode: FilterMode) -> pb::FilterMode {
    match mode {
        FilterMode::Include => pb::FilterMode::Include,
        FilterMode::Exclude => pb::FilterMode::Exclude,
    }
}

fn sources(filter: &SourceFilter) -> Vec<String> {
    filter.sources.iter().map(ToString::to_string).collect()
}

// === Out ===

fn shown(group: IpAddr, interface: &InterfaceId, filter: Option<&SourceFilter>) -> pb::SourceFilter {
    pb::SourceFilter {
        group: group.to_string(),
        interface: interface.name.to_string(),
        interface_index: interface.index,
        mode: filter.map_or(pb::FilterMode::Unspecified, |filter| mode(filter.mode)).into(),
        sources: filter.map(sources).unwrap_or_default(),
    }
}

impl From<&GroupFilter> for pb::SourceFilter {
    fn from(filter: &GroupFilter) -> Self {
        shown(filter.group, &filter.interface, Some(&filter.filter))
    }
}

impl From<&FilterResult> for pb::SourceFilterResult {
    fn from(result: &FilterResult) -> Self {
        Self {
            filter: Some(shown(result.group, &result.interface, result.filter.as_ref())),
            error: result.error.as_ref().map(call::error),
        }
    }
}

// === In, for clients ===

/// A filter as an agent sent it; absent when it makes no sense, which only another version's could.
pub(super) fn read(sent: &pb::SourceFilter) -> Option<GroupFilter> {
    let FilterResult { group, interface, filter, .. } = read_one(sent)?;
    Some(GroupFilter { group, interface, filter: filter? })
}

/// What became of a filter, as an agent sent it.
pub(super) fn read_result(sent: &pb::SourceFilterResult) -> Option<FilterResult> {
    let error = optional(sent.error.as_ref(), call::read_error)?;
    Some(FilterResult { error, ..read_one(sent.filter.as_ref()?)? })
}

fn read_one(sent: &pb::SourceFilter) -> Option<FilterResult> {
    let mode = match known_value(sent.mode)? {
        pb::FilterMode::Unspecified => None,
        pb::FilterMode::Include => Some(FilterMode::Include),
        pb::FilterMode::Exclude => Some(FilterMode::Exclude),
    };
    let sources = sent.sources.iter().filter_map(|text| text.parse().ok()).collect();
    Some(FilterResult {
        group: sent.group.parse().ok()?,
        interface: InterfaceId { index: sent.interface_index, name: sent.interface.as_str().into() },
        filter: mode.map(|mode| SourceFilter { mode, sources }),
        error: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::errno::Errno;
    use crate::model::error::SocketError;
    use crate::model::operation::Operation;

    #[test]
    fn filters_are_read_as_they_were_shown() {
        let interface = InterfaceId { index: 7, name: "eth0".into() };
        let group = "ff15::7".parse().unwrap();
        let sources = vec!["fd00::2".parse().unwrap()];
        for mode in [FilterMode::Include, FilterMode::Exclude] {
            let filter = SourceFilter { mode, sources: sources.clone() };
            let shown = GroupFilter { group, interface: interface.clone(), filter: filter.clone() };
            assert_eq!(read(&(&shown).into()), Some(shown));
            let result = FilterResult { group, interface: interface.clone(), filter: Some(filter), error: None };
            assert_eq!(read_result(&(&result).into()), Some(result));
        }
        let error = SocketError::new(Errno::EADDRNOTAVAIL, Operation::Filter, "getsockopt").about("ff15::7");
        let result = FilterResult { group, interface, filter: None, error: Some(error) };
        assert_eq!(read_result(&(&result).into()), Some(result));
        assert_eq!(read_result(&pb::SourceFilterResult::default()), None);
    }

    #[test]
    fn whether_sources_are_wanted_is_needed() {
        let request = |mode| pb::SetSourceFilterRequest { group: "239.1.2.3".into(), mode, ..Default::default() };
        assert_eq!(asked(&request(0)).unwrap_err().field, "mode");
        assert_eq!(asked(&request(9)).unwrap_err().field, "mode");
        assert!(asked(&request(2)).unwrap().filter.sources.is_empty());
    }
}
