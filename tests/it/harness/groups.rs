//! Multicast groups, as tests speak of them.

use std::net::IpAddr;

use farsock::wire::pb;

use super::{Agent, Refused, error_name};

/// A membership to be asked for.
pub fn group(group: &str, interface: &str, source: &str) -> pb::GroupSpec {
    pb::GroupSpec { group: group.into(), interface: interface.into(), source: source.into() }
}

/// A membership in words: `239.1.2.3 lo`, `232.1.2.3 lo from 10.0.0.1`, `239.1.2.3 lo but 10.0.0.1`.
pub fn told(membership: &pb::GroupMembership) -> String {
    let mut words = format!("{} {}", membership.group, membership.interface);
    if !membership.source.is_empty() {
        words = format!("{words} from {}", membership.source);
    }
    if !membership.blocked_sources.is_empty() {
        words = format!("{words} but {}", membership.blocked_sources.join(", "));
    }
    words
}

impl Agent {
    /// Changes a membership of a socket: `join`, `leave`, `block` or `unblock`.
    pub async fn try_group(&self, verb: &str, id: &str, spec: pb::GroupSpec) -> Result<pb::JoinGroupResponse, Refused> {
        let (mut sockets, socket_id) = (self.sockets(), id.to_owned());
        let pb::GroupSpec { group, interface, source } = spec;
        /// The four RPCs are alike.
        macro_rules! call {
            ($method:ident, $message:ident) => {{
                let request = pb::$message { socket_id, group, interface, source, ..Default::default() };
                let answer = sockets.$method(request).await?.into_inner();
                pb::JoinGroupResponse { socket: answer.socket, groups: answer.groups, report: answer.report }
            }};
        }
        Ok(match verb {
            "join" => call!(join_group, JoinGroupRequest),
            "leave" => call!(leave_group, LeaveGroupRequest),
            "block" => call!(block_source, BlockSourceRequest),
            "unblock" => call!(unblock_source, UnblockSourceRequest),
            other => panic!("{other}"),
        })
    }

    /// The same, and how it went: empty, an errno, or the reason of a refusal.
    pub async fn group(&self, verb: &str, id: &str, spec: pb::GroupSpec) -> String {
        match self.try_group(verb, id, spec).await {
            Ok(answer) => error_name(answer.report.as_ref()).to_owned(),
            Err(refused) => refused.reason,
        }
    }

    /// The memberships of a socket, in words.
    pub async fn groups(&self, id: &str) -> Vec<String> {
        self.socket(id).await.groups.iter().map(told).collect()
    }

    /// Sets an option, which must succeed.
    pub async fn set(&self, id: &str, name: &str, value: pb::socket_option::Value) {
        assert_eq!(self.try_set(id, name, value).await, "", "{name}");
    }

    /// Sets an option, and tells the errno.
    pub async fn try_set(&self, id: &str, name: &str, value: pb::socket_option::Value) -> String {
        let options = vec![pb::SocketOption { name: name.into(), value: Some(value) }];
        let request = pb::SetSocketOptionsRequest { socket_id: id.into(), options, ..Default::default() };
        let set = self.sockets().set_socket_options(request).await.unwrap().into_inner();
        error_name(set.report.as_ref()).to_owned()
    }

    /// Lets multicast datagrams of a socket leave by an interface.
    pub async fn leave_by(&self, id: &str, ip: IpAddr, interface: &str) {
        let name = if ip.is_ipv4() { "IP_MULTICAST_IF" } else { "IPV6_MULTICAST_IF" };
        self.set(id, name, pb::socket_option::Value::Text(interface.into())).await;
    }
}
