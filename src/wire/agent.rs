//! The agent and its host.

use crate::model::limits::{Defaults, Limits};
use crate::wire::{call, pb};

impl From<&Limits> for pb::Limits {
    fn from(limits: &Limits) -> Self {
        let Limits {
            sockets,
            sessions,
            watchers,
            calls,
            remembered_calls,
            remembered_bytes,
            payload_bytes,
            datagrams_per_call,
            options_per_call,
            read_size,
            pending_write_bytes,
            log_events,
            log_bytes,
            log_final_events,
            closed_sockets,
            lookups,
            page_size,
            connections,
            marks,
            message_bytes,
        } = *limits;
        Self {
            sockets,
            sessions,
            watchers,
            calls,
            remembered_calls,
            remembered_bytes,
            payload_bytes,
            datagrams_per_call,
            options_per_call,
            read_size,
            pending_write_bytes,
            log_events,
            log_bytes,
            log_final_events,
            closed_sockets,
            lookups,
            page_size,
            connections,
            marks,
            message_bytes,
        }
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
        }
    }
}
