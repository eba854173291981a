//! Names and indexes of network interfaces. netdevice(7).

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

use crate::model::errno::Errno;

/// The index of the interface of this name; ENODEV when there is none.
pub fn index_of(name: &str) -> Result<u32, Errno> {
    Ok(netdevice::name_to_index(&any_socket()?, name)?)
}

/// Whether there is an interface of this index.
pub fn exists(index: u32) -> bool {
    any_socket().is_ok_and(|socket| name_of(&socket, index).is_ok())
}

fn any_socket() -> Result<OwnedFd, Errno> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
}

/// The name of the interface of this index, asked through any socket; ENODEV when there is none.
pub fn name_of(socket: impl AsFd, index: u32) -> Result<Arc<str>, Errno> {
    Ok(netdevice::index_to_name(socket, index)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_has_a_name_and_an_index() {
        let index = index_of("lo").unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(name_of(&socket, index).as_deref(), Ok("lo"));
        assert_eq!(index_of("no-such-if"), Err(Errno::ENODEV));
        assert_eq!(name_of(&socket, 1_000_000), Err(Errno::ENODEV));
    }
}
