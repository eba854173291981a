//! Interfaces and routes of the host.

use std::net::IpAddr;

use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::model::errno::Errno;
use crate::model::host::{Interface, InterfaceAddress, Notice, Route};
use crate::sys::netlink::{Netlink, own_address};

/// All interfaces, by index.
pub fn interfaces() -> Result<Vec<Interface>, Errno> {
    interfaces_by(&mut Netlink::here()?)
}

fn interfaces_by(kernel: &mut Netlink) -> Result<Vec<Interface>, Errno> {
    let mut interfaces: Vec<Interface> = kernel.links()?.into_iter().map(read_link).collect();
    interfaces.sort_by_key(|interface| interface.index);
    for message in kernel.addresses()? {
        if let Some(interface) = interfaces.iter_mut().find(|known| known.index == message.header.index) {
            interface.addresses.extend(address(&message));
        }
    }
    Ok(interfaces)
}

/// What a message tells of an interface; nothing where it is about something else.
pub(super) fn notice(message: RouteNetlinkMessage) -> Option<Notice> {
    match message {
        RouteNetlinkMessage::NewLink(link) if of_interface(&link) => Some(Notice::Link(read_link(link))),
        RouteNetlinkMessage::DelLink(link) if of_interface(&link) => Some(Notice::LinkGone(link.header.index)),
        RouteNetlinkMessage::NewAddress(message) => Some(Notice::Address(message.header.index, address(&message)?)),
        RouteNetlinkMessage::DelAddress(message) => Some(Notice::AddressGone(message.header.index, address(&message)?)),
        _ => None,
    }
}

/// Bridges tell of their ports by messages of the same kind.
fn of_interface(link: &LinkMessage) -> bool {
    link.header.interface_family == AddressFamily::Unspec
}

fn read_link(message: LinkMessage) -> Interface {
    let flags = message.header.flags;
    let mut interface = Interface {
        index: message.header.index,
        up: flags.contains(LinkFlags::Up),
        running: flags.contains(LinkFlags::Running),
        loopback: flags.contains(LinkFlags::Loopback),
        multicast: flags.contains(LinkFlags::Multicast),
        broadcast: flags.contains(LinkFlags::Broadcast),
        ..Interface::default()
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name = name,
            LinkAttribute::Mtu(mtu) => interface.mtu = mtu,
            LinkAttribute::Address(bytes) if bytes.iter().any(|byte| *byte != 0) => interface.link_address = bytes,
            _ => {}
        }
    }
    interface
}

fn address(message: &AddressMessage) -> Option<InterfaceAddress> {
    let broadcast = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Broadcast(ip) => Some(*ip),
        _ => None,
    });
    Some(InterfaceAddress { ip: own_address(message)?, prefix_length: message.header.prefix_len, broadcast })
}

/// The way that a packet to `destination` would take, from `source` or from an address of the kernel's choice.
pub fn route(destination: IpAddr, source: Option<IpAddr>) -> Result<Route, Errno> {
    let mut kernel = Netlink::here()?;
    let mut route = read_route(&kernel.route(destination, source)?);
    route.source = route.source.or(source);
    let interfaces = interfaces_by(&mut kernel)?;
    if let Some(interface) = interfaces.into_iter().find(|interface| interface.index == route.interface_index) {
        route.interface = interface.name;
        if route.mtu == 0 {
            route.mtu = interface.mtu;
        }
    }
    Ok(route)
}

fn read_route(message: &RouteMessage) -> Route {
    let mut route = Route { table: message.header.table.into(), ..Route::default() };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::PrefSource(source) => route.source = ip(source),
            RouteAttribute::Gateway(gateway) => route.gateway = ip(gateway),
            RouteAttribute::Oif(index) => route.interface_index = *index,
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::Metrics(metrics) => {
                let mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
                route.mtu = mtu.unwrap_or(0);
            }
            _ => {}
        }
    }
    route
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

/// The congestion controls that the kernel has. tcp(7): tcp_available_congestion_control.
pub fn congestion_controls() -> Vec<String> {
    let listed = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control").unwrap_or_default();
    listed.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_there_with_its_addresses() {
        let interfaces = interfaces().unwrap();
        let lo = interfaces.iter().find(|interface| interface.loopback).unwrap();
        assert!(lo.index > 0 && lo.mtu > 1000 && lo.up && lo.link_address.is_empty(), "{lo:?}");
        let address = lo.addresses.iter().find(|address| address.ip.is_ipv4()).unwrap();
        assert_eq!((address.ip, address.prefix_length), ("127.0.0.1".parse().unwrap(), 8));
        assert!(interfaces.is_sorted_by_key(|interface| interface.index));
    }

    #[test]
    fn the_way_to_oneself_is_the_loopback_interface() {
        for ip in ["127.0.0.1", "::1"] {
            let to: IpAddr = ip.parse().unwrap();
            let route = route(to, None).unwrap();
            assert_eq!((route.source, route.interface.as_str(), route.gateway), (Some(to), "lo", None));
            // Kernels that have merged their tables answer `main` instead of `local`.
            assert!(matches!(route.table, 254 | 255) && route.mtu > 1000, "{route:?}");
        }
        let from = "127.0.0.9".parse().unwrap();
        assert_eq!(route("127.0.0.1".parse().unwrap(), Some(from)).unwrap().source, Some(from));
    }

    #[test]
    fn where_there_is_no_way_the_kernel_says_so() {
        let nowhere = route("240.0.0.1".parse().unwrap(), Some("127.0.0.1".parse().unwrap()));
        assert!(matches!(nowhere, Err(Errno::EINVAL | Errno::ENETUNREACH | Errno::EHOSTUNREACH)), "{nowhere:?}");
    }
}
