//! What there is to say of a host: its interfaces, and its ways to others.

use std::net::{IpAddr, Ipv4Addr};

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
