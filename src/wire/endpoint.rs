//! Addresses as text cost more than all else that an event has, and most events have the addresses of the one before.

use std::net::{IpAddr, SocketAddr};

use prost::Message;

use crate::model::address::Endpoint;
use crate::wire::pb;

/// How many addresses are remembered, of as many peers in the best case.
const SLOTS: usize = 64;

/// Endpoints as they are written, those of lately.
#[derive(Default)]
pub(super) struct Endpoints(Vec<Option<(Endpoint, Box<[u8]>)>>);

impl Endpoints {
    /// `pb::Endpoint` of this one, as it is written.
    pub(super) fn written(&mut self, endpoint: &Endpoint) -> &[u8] {
        if self.0.is_empty() {
            self.0.resize(SLOTS, None);
        }
        let slot = &mut self.0[slot(endpoint.addr)];
        let known = slot.take().filter(|(known, _)| known == endpoint);
        let write = || (endpoint.clone(), pb::Endpoint::from(endpoint).encode_to_vec().into_boxed_slice());
        &slot.insert(known.unwrap_or_else(write)).1
    }
}

/// Where an address is remembered: the peers of a lab differ in their port or in the end of their address.
fn slot(addr: SocketAddr) -> usize {
    let end = match addr.ip() {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(ip) => ip.octets()[15],
    };
    (usize::from(addr.port()) ^ usize::from(end)) % SLOTS
}
