//! Who has a local address that somebody else wanted.

use crate::model::holder::{Holder, Owner};
use crate::model::id::{SessionId, SocketId, SocketUid};
use crate::wire::unknown::known_value;
use crate::wire::{address, call, pb, tcp};

impl From<&Holder> for pb::AddressHolder {
    fn from(holder: &Holder) -> Self {
        let mut sent = Self {
            local: address::endpoint(holder.local.as_ref()),
            remote: address::endpoint(holder.remote.as_ref()),
            tcp_state: holder.tcp_state.map_or(pb::TcpState::Unspecified, pb::TcpState::from).into(),
            time_left: holder.time_left.map(call::span),
            ..Self::default()
        };
        match &holder.owner {
            Owner::Socket(session, id, uid) => {
                (sent.session_id, sent.socket_id, sent.socket_uid) = (session.to_string(), id.to_string(), uid.0);
            }
            Owner::OtherPrincipal => sent.other_principal = true,
            Owner::Process(number, name) => (sent.process_id, sent.process_name) = (*number, name.clone()),
            Owner::User(user) => sent.user_id = Some(*user),
            Owner::Kernel => {}
        }
        sent
    }
}

/// A holder that an agent sent. Absent when its names are none.
pub(super) fn read(sent: &pb::AddressHolder) -> Option<Holder> {
    let owner = match (sent.session_id.as_str(), sent.user_id) {
        _ if sent.other_principal => Owner::OtherPrincipal,
        ("", None) if sent.process_id == 0 => Owner::Kernel,
        ("", Some(user)) => Owner::User(user),
        ("", None) => Owner::Process(sent.process_id, sent.process_name.clone()),
        (session, _) => Owner::Socket(
            SessionId::parse(session).ok()?,
            SocketId::parse(&sent.socket_id).ok()?,
            SocketUid(sent.socket_uid),
        ),
    };
    Some(Holder {
        owner,
        local: sent.local.as_ref().and_then(address::read_endpoint),
        remote: sent.remote.as_ref().and_then(address::read_endpoint),
        tcp_state: tcp::read_state(known_value(sent.tcp_state)?),
        time_left: sent.time_left.as_ref().map(|left| call::read_span(Some(left))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tcp::TcpState;
    use std::net::SocketAddr;
    use std::time::Duration;

    #[test]
    fn every_holder_is_read_as_it_was_sent() {
        let endpoint = |text: &str| Some(text.parse::<SocketAddr>().unwrap().into());
        for owner in [
            Owner::Socket(SessionId::parse("red").unwrap(), SocketId::parse("door.1").unwrap(), SocketUid(7)),
            Owner::OtherPrincipal,
            Owner::Process(4711, "nginx".into()),
            Owner::User(0),
            Owner::Kernel,
        ] {
            let holder = Holder {
                owner,
                local: endpoint("[::]:80"),
                remote: endpoint("[::1]:4711"),
                tcp_state: Some(TcpState::TimeWait),
                time_left: Some(Duration::from_millis(1500)),
            };
            assert_eq!(read(&pb::AddressHolder::from(&holder)), Some(holder));
        }
    }
}
