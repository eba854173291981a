//! Datagrams, as many as have come, in one system call. recvmmsg(2).
#![allow(unsafe_code, reason = "neither socket2 nor rustix knows recvmmsg(2)")]

use std::mem::{MaybeUninit, zeroed};
use std::os::fd::AsRawFd;
use std::{io, ptr};

use crate::model::errno::Errno;
use crate::sys::buffer::assume_filled;
use crate::sys::control::{ADDRESS_ROOM, Ancillary, RECEIVE_ROOM, socket_address};
use crate::sys::socket::{DatagramHead, Socket, retry};

/// How many datagrams one call takes at the most.
const MOST: usize = 32;

/// How many bytes they may have together, unless one alone may have more. Memory that nothing is read into costs nothing.
const ROOM: usize = 1 << 20;

#[allow(clippy::cast_possible_truncation, reason = "28")]
const ADDRESS_LENGTH: libc::socklen_t = ADDRESS_ROOM as _;

/// Room for datagrams that are read together. Whoever reads many sockets needs only one.
#[derive(Default)]
pub struct Burst {
    bytes: Vec<MaybeUninit<u8>>,
    notes: Vec<Note>,
    heads: Vec<DatagramHead>,
    /// How many of `bytes` each datagram has.
    max: usize,
}

/// What the kernel writes beside the bytes of a datagram.
#[derive(Clone, Copy)]
struct Note {
    address: [MaybeUninit<u8>; ADDRESS_ROOM],
    control: [MaybeUninit<u8>; RECEIVE_ROOM],
}

impl Burst {
    /// Reads datagrams, at most so many and at most `max` bytes of each; EAGAIN when there is none. An error that comes after the first one
    /// is told by the next call.
    pub fn receive(&mut self, socket: &Socket, most: usize, max: usize) -> Result<(), Errno> {
        self.receive_with(socket, most, max, 0)
    }

    /// Reads the next datagram, at most `max` bytes of it, and leaves it to be read. recv(2): MSG_PEEK.
    pub fn peek(&mut self, socket: &Socket, max: usize) -> Result<(), Errno> {
        self.receive_with(socket, 1, max, libc::MSG_PEEK)
    }

    fn receive_with(&mut self, socket: &Socket, most: usize, max: usize, flags: libc::c_int) -> Result<(), Errno> {
        let most = most.min(MOST).min(ROOM / max.max(1)).max(1);
        self.heads.clear();
        self.max = max;
        self.bytes.resize(self.bytes.len().max(most * max), MaybeUninit::uninit());
        let note =
            Note { address: [MaybeUninit::uninit(); ADDRESS_ROOM], control: [MaybeUninit::uninit(); RECEIVE_ROOM] };
        self.notes.resize(MOST, note);

        // SAFETY: these structures of C are numbers and pointers, all of which may be zero.
        let (mut messages, mut parts): ([libc::mmsghdr; MOST], [libc::iovec; MOST]) = unsafe { zeroed() };
        for (at, (message, part)) in messages.iter_mut().zip(&mut parts).take(most).enumerate() {
            let note = &mut self.notes[at];
            part.iov_base = self.bytes[at * max..].as_mut_ptr().cast();
            part.iov_len = max;
            let header = &mut message.msg_hdr;
            header.msg_name = note.address.as_mut_ptr().cast();
            header.msg_namelen = ADDRESS_LENGTH;
            header.msg_iov = part;
            header.msg_iovlen = 1;
            header.msg_control = note.control.as_mut_ptr().cast();
            header.msg_controllen = RECEIVE_ROOM;
        }
        let (fd, asked) = (socket.as_raw_fd(), u32::try_from(most).unwrap_or(1));
        let count = retry(|| {
            // SAFETY: each of the first `asked` headers points to memory of `self` and of this function that is as long as it says, that
            // nothing else points to, and that lives until the call is over. With MSG_TRUNC the kernel tells each datagram's own length.
            let count =
                unsafe { libc::recvmmsg(fd, messages.as_mut_ptr(), asked, libc::MSG_TRUNC | flags, ptr::null_mut()) };
            usize::try_from(count).map_err(|_| io::Error::last_os_error())
        })?;
        let told = messages.iter().zip(&self.notes).take(count).map(|(message, note)| {
            let (header, size) = (&message.msg_hdr, message.msg_len as usize);
            let source = socket_address(assume_filled(&note.address, header.msg_namelen as usize));
            DatagramHead {
                source,
                size,
                ancillary: Ancillary::parse(assume_filled(&note.control, header.msg_controllen)),
            }
        });
        self.heads.extend(told);
        Ok(())
    }

    /// The datagrams that were read last, each with the bytes that were read of it.
    pub fn datagrams(&self) -> impl Iterator<Item = (&DatagramHead, &[u8])> {
        self.heads.iter().enumerate().map(|(at, head)| {
            let room = &self.bytes[at * self.max..][..self.max];
            (head, assume_filled(room, head.size))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::address::{Family, Transport};
    use crate::model::policy::permit::Permitted;
    use std::net::UdpSocket;

    #[test]
    fn datagrams_come_in_order_each_with_its_own_length() {
        for (family, any) in [(Family::Ipv4, "127.0.0.1:0"), (Family::Ipv6, "[::1]:0")] {
            let socket = Socket::new(Transport::Udp, family).unwrap();
            socket.bind(Permitted::unasked(any.parse().unwrap())).unwrap();
            let peer = UdpSocket::bind(any).unwrap();
            for payload in ["one", "", "three", "four", "five"] {
                peer.send_to(payload.as_bytes(), socket.local().unwrap()).unwrap();
            }
            let mut burst = Burst::default();
            let mut receive = |most, max| {
                burst.receive(&socket, most, max)?;
                let source = Some(peer.local_addr().unwrap());
                assert!(burst.datagrams().all(|(head, _)| head.source == source));
                let told =
                    |(head, bytes): (&DatagramHead, &[u8])| (head.size, String::from_utf8(bytes.to_vec()).unwrap());
                Ok(burst.datagrams().map(told).collect::<Vec<_>>())
            };
            assert_eq!(receive(2, 4), Ok(vec![(3, "one".to_owned()), (0, String::new())]));
            assert_eq!(receive(1, 4), Ok(vec![(5, "thre".to_owned())]), "truncated, with its own length");
            assert_eq!(receive(1, 0), Ok(vec![(4, String::new())]), "only counted");
            assert_eq!(receive(MOST, 65_536), Ok(vec![(4, "five".to_owned())]), "no more have come");
            assert_eq!(receive(MOST, 65_536), Err(Errno::EAGAIN));
        }
    }
}
