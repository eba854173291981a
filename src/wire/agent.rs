//! The agent and its host.

use crate::model::address::Family;
use crate::model::host::{Interface, InterfaceAddress, Route};
use crate::model::limits::{Defaults, Limits, Usage};
use crate::model::lookup::ResolverView;
use crate::wire::{call, pb};

impl From<&Limits> for pb::Limits {
    fn from(limits: &Limits) -> Self {
        let Limits {
            sockets,
            listeners,
            reserved_descriptors,
            sessions,
            expired_sessions,
            watchers,
            watchers_total,
            calls,
            remembered_calls,
            remembered_bytes,
            payload_bytes,
            datagrams_per_call,
            sockets_per_call,
            options_per_call,
            groups,
            read_size,
            pending_write_bytes,
            pending_write_bytes_total,
            log_events,
            log_bytes,
            log_bytes_total,
            log_final_events,
            closed_sockets,
            lookups,
            page_size,
            connections,
            reserved_connections,
            connections_per_principal,
            logins,
            logins_per_source,
            marks,
            message_bytes,
            transfer_bytes,
        } = *limits;
        Self {
            sockets,
            listeners,
            reserved_descriptors,
            sessions,
            expired_sessions,
            watchers,
            watchers_total,
            calls,
            remembered_calls,
            remembered_bytes,
            payload_bytes,
            datagrams_per_call,
            sockets_per_call,
            options_per_call,
            groups,
            read_size,
            pending_write_bytes,
            pending_write_bytes_total,
            log_events,
            log_bytes,
            log_bytes_total,
            log_final_events,
            closed_sockets,
            lookups,
            page_size,
            connections,
            reserved_connections,
            connections_per_principal,
            logins,
            logins_per_source,
            marks,
            message_bytes,
            transfer_bytes,
        }
    }
}

impl From<Usage> for pb::LimitUsage {
    fn from(usage: Usage) -> Self {
        let Usage { name, limit, used, refused } = usage;
        Self { name: name.to_owned(), limit, used, refused }
    }
}

impl From<&Defaults> for pb::Defaults {
    fn from(defaults: &Defaults) -> Self {
        Self {
            connect_timeout: Some(call::span(defaults.connect_timeout)),
            wait_timeout: Some(call::span(defaults.wait_timeout)),
            start_tolerance: Some(call::span(defaults.start_tolerance)),
            heartbeat_interval: Some(call::span(defaults.heartbeat_interval)),
            backlog: defaults.backlog,
            lease_ttl: Some(call::span(defaults.lease_ttl)),
            expired_log: Some(call::span(defaults.expired_log)),
            default_session_idle: Some(call::span(defaults.default_session_idle)),
        }
    }
}

// === Host ===

impl From<&Interface> for pb::Interface {
    fn from(interface: &Interface) -> Self {
        let bytes: Vec<String> = interface.link_address.iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            name: interface.name.clone(),
            index: interface.index,
            mtu: interface.mtu,
            link_address: bytes.join(":"),
            up: interface.up,
            running: interface.running,
            loopback: interface.loopback,
            multicast: interface.multicast,
            broadcast: interface.broadcast,
            addresses: interface.addresses.iter().map(pb::InterfaceAddress::from).collect(),
        }
    }
}

impl From<&InterfaceAddress> for pb::InterfaceAddress {
    fn from(address: &InterfaceAddress) -> Self {
        Self {
            address: address.ip.to_string(),
            prefix_length: address.prefix_length.into(),
            family: pb::Family::from(Family::of(address.ip)).into(),
            broadcast: address.broadcast.map(|ip| ip.to_string()).unwrap_or_default(),
        }
    }
}

impl From<ResolverView> for pb::ResolverView {
    fn from(view: ResolverView) -> Self {
        let ResolverView { sources, name_servers, search_domains, options, hosts_file_entries } = view;
        Self { sources, name_servers, search_domains, options, hosts_file_entries }
    }
}

impl From<&Route> for pb::Route {
    fn from(route: &Route) -> Self {
        Self {
            source: route.source.map(|ip| ip.to_string()).unwrap_or_default(),
            interface: route.interface.clone(),
            interface_index: route.interface_index,
            gateway: route.gateway.map(|ip| ip.to_string()).unwrap_or_default(),
            mtu: route.mtu,
            table: route.table,
        }
    }
}
