//! Sessions and their leases: how they are asked for, and how they are shown.

use crate::model::id::{Principal, WatcherId};
use crate::model::operation::SessionView;
use crate::model::refusal::Violation;
use crate::model::session::{LEASE_TTL, LeaseSpec, LeaseView, OrphanPolicy, Retention, SessionSpec, SessionState};
use crate::wire::unknown::known_value;
use crate::wire::{address, call, known, pb};

pub(super) fn spec(request: &pb::CreateSessionRequest) -> Result<SessionSpec, Violation> {
    Ok(SessionSpec {
        lease: lease(request.lease_ttl.as_ref(), request.orphan_policy)?,
        retention: match known("retention", request.retention)? {
            pb::Retention::Unspecified | pb::Retention::Lossless => Retention::Lossless,
            pb::Retention::Ring => Retention::Ring,
        },
        interface_events: request.interface_events,
    })
}

impl From<Retention> for pb::Retention {
    fn from(retention: Retention) -> Self {
        match retention {
            Retention::Ring => Self::Ring,
            Retention::Lossless => Self::Lossless,
        }
    }
}

fn lease(ttl: Option<&prost_types::Duration>, orphan_policy: i32) -> Result<LeaseSpec, Violation> {
    let ttl = call::optional_duration("lease_ttl", ttl)?;
    if ttl.is_some_and(|ttl| !LEASE_TTL.contains(&ttl)) {
        let (least, most) = (LEASE_TTL.start().as_secs(), LEASE_TTL.end().as_secs());
        return Err(Violation::new("lease_ttl", format!("it goes from {least}s to {most}s")));
    }
    let orphans = match known("orphan_policy", orphan_policy)? {
        pb::OrphanPolicy::Unspecified | pb::OrphanPolicy::Close => OrphanPolicy::Close,
        pb::OrphanPolicy::Abort => OrphanPolicy::Abort,
    };
    Ok(LeaseSpec { ttl, orphans })
}

impl From<OrphanPolicy> for pb::OrphanPolicy {
    fn from(policy: OrphanPolicy) -> Self {
        match policy {
            OrphanPolicy::Close => Self::Close,
            OrphanPolicy::Abort => Self::Abort,
        }
    }
}

impl From<&SessionView> for pb::Session {
    fn from(view: &SessionView) -> Self {
        let orphan_policy = view.lease.map_or(pb::OrphanPolicy::Unspecified, |lease| lease.orphans.into());
        let state = match view.state {
            SessionState::Active => pb::SessionState::Active,
            SessionState::Expiring => pb::SessionState::Expiring,
            SessionState::Expired => pb::SessionState::Expired,
        };
        Self {
            session_id: view.id.to_string(),
            owner: view.owner.to_string(),
            create_time: Some(call::time(view.created)),
            socket_count: view.socket_count,
            head_event_seq: view.head_seq,
            oldest_event_seq: view.oldest_seq,
            watcher_count: view.watcher_count,
            lease_ttl: view.lease.map(|lease| call::span(lease.ttl)),
            lease_left: view.lease.map(|lease| call::span(lease.left)),
            orphan_policy: orphan_policy.into(),
            state: state.into(),
            retention: pb::Retention::from(view.retention).into(),
            held_events: view.held_events,
            held_bytes: view.held_bytes,
            named_watchers: view.watchers.iter().map(named_watcher).collect(),
        }
    }
}

fn named_watcher((watcher, released): &(WatcherId, u64)) -> pb::NamedWatcher {
    pb::NamedWatcher { watcher_id: watcher.to_string(), released_event_seq: *released }
}

fn read_watcher(sent: &pb::NamedWatcher) -> Option<(WatcherId, u64)> {
    Some((WatcherId::parse(&sent.watcher_id).ok()?, sent.released_event_seq))
}

/// A session as an agent sent it. An agent that knows no leases has only sessions that can be used.
pub fn read(sent: &pb::Session) -> Option<SessionView> {
    let orphans = match known_value(sent.orphan_policy)? {
        pb::OrphanPolicy::Unspecified | pb::OrphanPolicy::Close => OrphanPolicy::Close,
        pb::OrphanPolicy::Abort => OrphanPolicy::Abort,
    };
    let lease = sent.lease_ttl.as_ref().map(|ttl| LeaseView {
        ttl: call::read_span(Some(ttl)),
        left: call::read_span(sent.lease_left.as_ref()),
        orphans,
    });
    Some(SessionView {
        id: address::session_id(&sent.session_id).ok()?,
        owner: if sent.owner.is_empty() { Principal::owner() } else { Principal::parse(&sent.owner).ok()? },
        created: call::read_time(sent.create_time.as_ref()),
        socket_count: sent.socket_count,
        head_seq: sent.head_event_seq,
        oldest_seq: sent.oldest_event_seq,
        watcher_count: sent.watcher_count,
        lease,
        state: match known_value(sent.state)? {
            pb::SessionState::Unspecified | pb::SessionState::Active => SessionState::Active,
            pb::SessionState::Expiring => SessionState::Expiring,
            pb::SessionState::Expired => SessionState::Expired,
        },
        retention: match known_value(sent.retention)? {
            pb::Retention::Lossless => Retention::Lossless,
            pb::Retention::Unspecified | pb::Retention::Ring => Retention::Ring,
        },
        held_events: sent.held_events,
        held_bytes: sent.held_bytes,
        watchers: sent.named_watchers.iter().filter_map(read_watcher).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::SessionId;
    use crate::model::time::Timestamp;
    use std::time::Duration;

    #[test]
    fn a_lease_is_as_long_as_it_may_be() {
        let ttl = |seconds, nanos| lease(Some(&prost_types::Duration { seconds, nanos }), 0);
        assert_eq!(lease(None, 0), Ok(LeaseSpec::default()));
        assert_eq!(ttl(5, 0).unwrap().ttl, Some(Duration::from_secs(5)));
        assert_eq!(ttl(3600, 0).unwrap().ttl, Some(Duration::from_secs(3600)));
        for (seconds, nanos) in [(4, 999_999_999), (3600, 1), (0, 0), (-1, 0)] {
            assert_eq!(ttl(seconds, nanos).unwrap_err().field, "lease_ttl");
        }
        assert_eq!(lease(None, 2).unwrap().orphans, OrphanPolicy::Abort);
        assert_eq!(lease(None, 3).unwrap_err().field, "orphan_policy");
    }

    #[test]
    fn a_session_is_read_as_it_was_shown() {
        for state in [SessionState::Active, SessionState::Expiring, SessionState::Expired] {
            for orphans in [OrphanPolicy::Close, OrphanPolicy::Abort] {
                let lease = LeaseView { ttl: Duration::from_secs(30), left: Duration::from_millis(1), orphans };
                for lease in [None, Some(lease)] {
                    let view = SessionView {
                        id: SessionId::parse("lab").unwrap(),
                        owner: Principal::parse("alice").unwrap(),
                        created: Timestamp::from_nanos(7),
                        socket_count: 1,
                        head_seq: 2,
                        oldest_seq: 3,
                        watcher_count: 4,
                        lease,
                        state,
                        retention: Retention::Lossless,
                        held_events: 5,
                        held_bytes: 6,
                        watchers: vec![(WatcherId::parse("w").unwrap(), 4)],
                    };
                    assert_eq!(read(&pb::Session::from(&view)), Some(view));
                }
            }
        }
    }
}
