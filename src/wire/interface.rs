//! What becomes of the interfaces of a host, as events tell it.

use std::net::IpAddr;

use crate::model::event::Event;
use crate::model::group::InterfaceId;
use crate::model::host::InterfaceChange;
use crate::wire::pb;
use crate::wire::unknown::known_value;

// === Out ===

pub(super) fn changed(interface: &InterfaceId, change: InterfaceChange, mtu: u32) -> pb::InterfaceChangedEvent {
    let change = match change {
        InterfaceChange::Added => pb::InterfaceChange::Added,
        InterfaceChange::Removed => pb::InterfaceChange::Removed,
        InterfaceChange::Renamed => pb::InterfaceChange::Renamed,
        InterfaceChange::Up => pb::InterfaceChange::Up,
        InterfaceChange::Down => pb::InterfaceChange::Down,
        InterfaceChange::CarrierFound => pb::InterfaceChange::CarrierFound,
        InterfaceChange::CarrierLost => pb::InterfaceChange::CarrierLost,
        InterfaceChange::Mtu => pb::InterfaceChange::Mtu,
    };
    let (name, index) = (interface.name.to_string(), interface.index);
    pb::InterfaceChangedEvent { interface: name, interface_index: index, change: change.into(), mtu }
}

pub(super) fn address_changed(
    interface: &InterfaceId,
    ip: IpAddr,
    prefix_length: u8,
    added: bool,
) -> pb::InterfaceAddressChangedEvent {
    pb::InterfaceAddressChangedEvent {
        interface: interface.name.to_string(),
        interface_index: interface.index,
        address: ip.to_string(),
        prefix_length: prefix_length.into(),
        removed: !added,
    }
}

// === In, for clients ===

/// Absent when it makes no sense to this version.
pub(super) fn read_changed(sent: &pb::InterfaceChangedEvent) -> Option<Event> {
    let change = match known_value(sent.change)? {
        pb::InterfaceChange::Unspecified => return None,
        pb::InterfaceChange::Added => InterfaceChange::Added,
        pb::InterfaceChange::Removed => InterfaceChange::Removed,
        pb::InterfaceChange::Renamed => InterfaceChange::Renamed,
        pb::InterfaceChange::Up => InterfaceChange::Up,
        pb::InterfaceChange::Down => InterfaceChange::Down,
        pb::InterfaceChange::CarrierFound => InterfaceChange::CarrierFound,
        pb::InterfaceChange::CarrierLost => InterfaceChange::CarrierLost,
        pb::InterfaceChange::Mtu => InterfaceChange::Mtu,
    };
    Some(Event::InterfaceChanged { interface: named(&sent.interface, sent.interface_index), change, mtu: sent.mtu })
}

pub(super) fn read_address_changed(sent: &pb::InterfaceAddressChangedEvent) -> Option<Event> {
    Some(Event::InterfaceAddressChanged {
        interface: named(&sent.interface, sent.interface_index),
        ip: sent.address.parse().ok()?,
        prefix_length: sent.prefix_length.try_into().ok()?,
        added: !sent.removed,
    })
}

fn named(name: &str, index: u32) -> InterfaceId {
    InterfaceId { index, name: name.into() }
}
