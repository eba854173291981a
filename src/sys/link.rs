//! News of interfaces and their addresses. netlink(7), rtnetlink(7).

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};

use rustix::net::bind;
use rustix::net::netlink::SocketAddrNetlink;
use socket2::{Domain, Protocol, Socket, Type};

use crate::model::errno::Errno;
use crate::sys::buffer::assume_filled;
use crate::sys::socket::retry;

/// linux/rtnetlink.h: RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR.
const GROUPS: u32 = 1 | 0x10 | 0x100;

/// How much of it may wait to be read, in bytes. What has no room is missed, and the kernel says so.
const WAITING: usize = 1 << 20;

/// Room for what is read at once. The kernel sends at most 32 KiB.
const ROOM: usize = 64 * 1024;

/// Becomes readable when something has become of an interface of this network namespace.
#[derive(Debug)]
pub struct LinkWatch(Socket);

impl LinkWatch {
    /// Begins to listen for news.
    pub fn new() -> Result<Self, Errno> {
        let kind = Type::RAW.nonblocking().cloexec();
        let protocol = Protocol::from(libc::NETLINK_ROUTE);
        let socket = retry(|| Socket::new_raw(Domain::from(libc::AF_NETLINK), kind, Some(protocol)))?;
        retry(|| socket.set_recv_buffer_size(WAITING))?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        Ok(Self(socket))
    }

    /// Takes the next news, as netlink messages; EAGAIN when there are none, ENOBUFS when some were missed.
    pub fn read(&self) -> Result<Vec<u8>, Errno> {
        let mut buffer = vec![MaybeUninit::uninit(); ROOM];
        let size = retry(|| self.0.recv(&mut buffer))?;
        Ok(assume_filled(&buffer, size).to_vec())
    }
}

impl AsRawFd for LinkWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
