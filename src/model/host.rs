//! What there is to say of a host: its interfaces, and its ways to others.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use crate::model::event::Event;
use crate::model::group::InterfaceId;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// The largest packet, in bytes.
    pub mtu: u32,
    /// Its link-layer address.
    pub link_address: Vec<u8>,
    /// IFF_UP.
    pub up: bool,
    /// IFF_RUNNING.
    pub running: bool,
    /// IFF_LOOPBACK.
    pub loopback: bool,
    /// IFF_MULTICAST.
    pub multicast: bool,
    /// IFF_BROADCAST.
    pub broadcast: bool,
    /// Its addresses.
    pub addresses: Vec<InterfaceAddress>,
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The address.
    pub ip: IpAddr,
    /// The length of its prefix, in bits.
    pub prefix_length: u8,
    /// The directed broadcast address.
    pub broadcast: Option<Ipv4Addr>,
}

/// What has become of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterfaceChange {
    /// It is there.
    Added,
    /// It is there no more.
    Removed,
    /// It has another name.
    Renamed,
    /// It was turned on: IFF_UP.
    Up,
    /// It was turned off.
    Down,
    /// It can be used, because the other end of its cable can: IFF_RUNNING.
    CarrierFound,
    /// It cannot be used.
    CarrierLost,
    /// Its largest packet is another one.
    Mtu,
}

/// What the kernel tells of interfaces, one at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// An interface is like this; its addresses are told apart.
    Link(Interface),
    /// The interface of this index is gone.
    LinkGone(u32),
    /// An interface has an address.
    Address(u32, InterfaceAddress),
    /// An interface has an address no more.
    AddressGone(u32, InterfaceAddress),
}

/// The interfaces of a host as they were told last, by index.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interfaces(BTreeMap<u32, Interface>);

impl Interfaces {
    /// Takes up what is told, and says what is new in it.
    pub fn take(&mut self, notice: Notice) -> Vec<Event> {
        match notice {
            Notice::Link(link) => self.take_link(link),
            Notice::LinkGone(index) => self.take_leave(index),
            Notice::Address(index, address) => {
                let Some(interface) = self.0.get_mut(&index) else { return Vec::new() };
                // It is told again when something else changes about it.
                if interface.addresses.iter().any(|known| known.is_same(&address)) {
                    return Vec::new();
                }
                interface.addresses.push(address);
                vec![of_address(interface, &address, true)]
            }
            Notice::AddressGone(index, address) => {
                let Some(interface) = self.0.get_mut(&index) else { return Vec::new() };
                let before = interface.addresses.len();
                interface.addresses.retain(|known| !known.is_same(&address));
                if interface.addresses.len() == before {
                    return Vec::new();
                }
                vec![of_address(interface, &address, false)]
            }
        }
    }

    /// Takes up all interfaces at once, after something may have been missed, and says what is new.
    pub fn replace(&mut self, all: Vec<Interface>) -> Vec<Event> {
        let gone: Vec<u32> = self.0.keys().copied().filter(|index| all.iter().all(|new| new.index != *index)).collect();
        let mut events: Vec<Event> = gone.into_iter().flat_map(|index| self.take_leave(index)).collect();
        for new in all {
            let (index, addresses) = (new.index, new.addresses.clone());
            events.extend(self.take(Notice::Link(new)));
            let known = self.0.get(&index).map(|known| known.addresses.clone()).unwrap_or_default();
            let left = known.into_iter().filter(|known| !addresses.iter().any(|address| address.is_same(known)));
            let left: Vec<Notice> = left.map(|address| Notice::AddressGone(index, address)).collect();
            let has = addresses.into_iter().map(|address| Notice::Address(index, address));
            for notice in left.into_iter().chain(has) {
                events.extend(self.take(notice));
            }
        }
        events
    }

    fn take_link(&mut self, link: Interface) -> Vec<Event> {
        let before = self.0.remove(&link.index);
        let mut changes = Vec::new();
        let (was_up, was_running) = match &before {
            None => {
                changes.push(InterfaceChange::Added);
                (false, false)
            }
            Some(before) => {
                changes.extend((before.name != link.name).then_some(InterfaceChange::Renamed));
                changes.extend((before.mtu != link.mtu).then_some(InterfaceChange::Mtu));
                (before.up, before.running)
            }
        };
        let turned = if link.up { InterfaceChange::Up } else { InterfaceChange::Down };
        changes.extend((was_up != link.up).then_some(turned));
        let carrier = if link.running { InterfaceChange::CarrierFound } else { InterfaceChange::CarrierLost };
        changes.extend((was_running != link.running).then_some(carrier));
        let addresses = before.map(|before| before.addresses).unwrap_or_default();
        let now = Interface { addresses, ..link };
        let events = changes.into_iter().map(|change| of_link(&now, change)).collect();
        self.0.insert(now.index, now);
        events
    }

    fn take_leave(&mut self, index: u32) -> Vec<Event> {
        let Some(interface) = self.0.remove(&index) else { return Vec::new() };
        let addresses = interface.addresses.iter().map(|address| of_address(&interface, address, false));
        addresses.chain([of_link(&interface, InterfaceChange::Removed)]).collect()
    }
}

impl InterfaceAddress {
    fn is_same(&self, other: &Self) -> bool {
        self.ip == other.ip && self.prefix_length == other.prefix_length
    }
}

fn named(interface: &Interface) -> InterfaceId {
    InterfaceId { index: interface.index, name: interface.name.as_str().into() }
}

fn of_link(interface: &Interface, change: InterfaceChange) -> Event {
    Event::InterfaceChanged { interface: named(interface), change, mtu: interface.mtu }
}

fn of_address(interface: &Interface, address: &InterfaceAddress, added: bool) -> Event {
    let InterfaceAddress { ip, prefix_length, .. } = *address;
    Event::InterfaceAddressChanged { interface: named(interface), ip, prefix_length, added }
}

/// A way through the network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Route {
    /// The local address that packets carry.
    pub source: Option<IpAddr>,
    /// The interface that they leave by.
    pub interface_index: u32,
    /// The name of that interface.
    pub interface: String,
    /// The next router; absent where the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The largest packet, in bytes.
    pub mtu: u32,
    /// The routing table that decided.
    pub table: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, up: bool, running: bool, mtu: u32) -> Interface {
        Interface { name: name.into(), index: 7, mtu, up, running, ..Interface::default() }
    }

    fn address(text: &str) -> InterfaceAddress {
        InterfaceAddress { ip: text.parse().unwrap(), prefix_length: 24, broadcast: None }
    }

    /// `Added`, `Up`, `+10.0.0.1`, `-10.0.0.1`.
    fn told(events: &[Event]) -> Vec<String> {
        let word = |event: &Event| match event {
            Event::InterfaceChanged { change, .. } => format!("{change:?}"),
            Event::InterfaceAddressChanged { ip, added, .. } => format!("{}{ip}", if *added { '+' } else { '-' }),
            other => panic!("{other:?}"),
        };
        events.iter().map(word).collect()
    }

    #[test]
    fn each_change_is_told_once() {
        let mut known = Interfaces::default();
        let mut take = |notice| told(&known.take(notice));
        assert_eq!(take(Notice::Link(link("eth0", false, false, 1500))), ["Added"]);
        assert_eq!(take(Notice::Link(link("eth0", true, true, 1500))), ["Up", "CarrierFound"]);
        assert!(take(Notice::Link(link("eth0", true, true, 1500))).is_empty());
        assert_eq!(take(Notice::Link(link("lab", true, false, 1400))), ["Renamed", "Mtu", "CarrierLost"]);
        assert_eq!(take(Notice::Address(7, address("10.0.0.1"))), ["+10.0.0.1"]);
        assert!(take(Notice::Address(7, address("10.0.0.1"))).is_empty());
        assert!(take(Notice::Address(8, address("10.0.0.2"))).is_empty(), "of no interface that is known");
        assert_eq!(take(Notice::Address(7, address("10.0.0.2"))), ["+10.0.0.2"]);
        assert_eq!(take(Notice::AddressGone(7, address("10.0.0.1"))), ["-10.0.0.1"]);
        assert!(take(Notice::AddressGone(7, address("10.0.0.1"))).is_empty());
        assert_eq!(take(Notice::LinkGone(7)), ["-10.0.0.2", "Removed"]);
        assert!(take(Notice::LinkGone(7)).is_empty());
    }

    /// Whatever was missed, the difference is told.
    #[test]
    fn all_at_once_tells_what_is_new() {
        let mut known = Interfaces::default();
        let with = |addresses: &[&str]| Interface {
            addresses: addresses.iter().map(|text| address(text)).collect(),
            ..link("eth0", true, true, 1500)
        };
        assert_eq!(told(&known.replace(vec![with(&["10.0.0.1"])])), ["Added", "Up", "CarrierFound", "+10.0.0.1"]);
        assert!(known.replace(vec![with(&["10.0.0.1"])]).is_empty());
        assert_eq!(told(&known.replace(vec![with(&["10.0.0.2"])])), ["-10.0.0.1", "+10.0.0.2"]);
        assert_eq!(told(&known.replace(Vec::new())), ["-10.0.0.2", "Removed"]);
    }
}
