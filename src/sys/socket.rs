//! Lab sockets as the kernel has them: non-blocking, closed on exec, never raising SIGPIPE.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{ipv6_v6only, socket_cookie};
use rustix::net::{SocketFlags, acceptfrom_with, connect_unspec};
use socket2::{Domain, MsgHdr, MsgHdrMut, Protocol, SockAddr, Type};

use crate::model::address::{Family, Transport};
use crate::model::errno::Errno;
use crate::model::group::GroupChange;
use crate::model::memory::SocketMemory;
use crate::model::operation::{ShutdownHow, WriteFlags};
use crate::model::option::{OptionSpec, OptionValue};
use crate::model::policy::permit::Permitted;
use crate::model::source_filter::SourceFilter;
use crate::model::tcp::{TcpInfo, TcpState};
use crate::model::view::{Queues, Readiness, Reading};
use crate::sys::control::{Ancillary, ERROR_ROOM, Marks};
use crate::sys::{buffer, diag, group, option};

/// How many of them this process has open.
static OPEN: AtomicU64 = AtomicU64::new(0);

/// How often it is asked where a stream stands: one answer counts only if nothing came meanwhile.
const POSITION_TRIES: usize = 4;

/// A TCP or UDP socket. No address comes to it that nobody was asked about:
///
/// ```
/// # use std::net::SocketAddr;
/// # use farsock::{model::{address::Family, policy::permit::Permitted}, sys::{control::Marks, socket::Socket}};
/// fn bind(socket: &Socket, at: Permitted<SocketAddr>) { socket.bind(at); }
/// fn listen(socket: &Socket, at: Permitted<SocketAddr>) { socket.listen(at, 1); }
/// fn connect(socket: &Socket, to: Permitted<SocketAddr>) { socket.connect(to); }
/// fn send(socket: &Socket, to: Permitted<SocketAddr>) {
///     socket.send_datagram(b"", Some(to), &Marks::default(), Family::Ipv4);
/// }
/// ```
///
/// The same without having asked does not compile:
///
/// ```compile_fail,E0308
/// # use std::net::SocketAddr;
/// # use farsock::sys::socket::Socket;
/// fn bind(socket: &Socket, at: SocketAddr) { socket.bind(at); }
/// ```
/// ```compile_fail,E0308
/// # use std::net::SocketAddr;
/// # use farsock::sys::socket::Socket;
/// fn listen(socket: &Socket, at: SocketAddr) { socket.listen(at, 1); }
/// ```
/// ```compile_fail,E0308
/// # use std::net::SocketAddr;
/// # use farsock::sys::socket::Socket;
/// fn connect(socket: &Socket, to: SocketAddr) { socket.connect(to); }
/// ```
/// ```compile_fail,E0308
/// # use std::net::SocketAddr;
/// # use farsock::{model::address::Family, sys::{control::Marks, socket::Socket}};
/// fn send(socket: &Socket, to: SocketAddr) { socket.send_datagram(b"", Some(to), &Marks::default(), Family::Ipv4); }
/// ```
#[derive(Debug)]
pub struct Socket(socket2::Socket);

impl Drop for Socket {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many lab sockets this process has open, of all agents that there are in it: descriptors are the process's.
pub fn open_count() -> u64 {
    OPEN.load(Ordering::Relaxed)
}

/// A datagram that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatagramHead {
    /// Who sent it.
    pub source: Option<SocketAddr>,
    /// How many bytes it had, of which fewer may have been read.
    pub size: usize,
    /// What else the kernel told.
    pub ancillary: Ancillary,
}

impl Socket {
    /// Makes a socket. socket(2).
    pub fn new(transport: Transport, family: Family) -> Result<Self, Errno> {
        let (kind, protocol) = match transport {
            Transport::Tcp => (Type::STREAM, Protocol::TCP),
            Transport::Udp => (Type::DGRAM, Protocol::UDP),
        };
        let domain = match family {
            Family::Ipv4 => Domain::IPV4,
            Family::Ipv6 => Domain::IPV6,
        };
        let socket = socket2::Socket::new_raw(domain, kind.nonblocking().cloexec(), Some(protocol)).map_err(errno)?;
        Ok(Self::counted(socket))
    }

    fn counted(socket: socket2::Socket) -> Self {
        OPEN.fetch_add(1, Ordering::Relaxed);
        Self(socket)
    }

    /// Gives it a local address. bind(2).
    pub fn bind(&self, local: Permitted<SocketAddr>) -> Result<(), Errno> {
        self.0.bind(&local.get().into()).map_err(errno)
    }

    /// Gives it a local IP address, with port 0, and leaves the port to connect(2), which can then share ports between connections. ip(7):
    /// IP_BIND_ADDRESS_NO_PORT.
    pub fn bind_address(&self, local: Permitted<SocketAddr>) -> Result<(), Errno> {
        option::bind_address_no_port(self)?;
        self.bind(local)
    }

    /// Makes it wait for connections, at its address or at the one that the kernel gives it. listen(2).
    pub fn listen(&self, _at: Permitted<SocketAddr>, backlog: u32) -> Result<(), Errno> {
        self.0.listen(i32::try_from(backlog).unwrap_or(i32::MAX)).map_err(errno)
    }

    /// Takes a waiting connection, and tells who it is. accept4(2).
    pub fn accept(&self) -> Result<(Self, Option<SocketAddr>), Errno> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (fd, remote): (OwnedFd, _) = retry(|| acceptfrom_with(&self.0, flags).map_err(io::Error::from))?;
        Ok((Self::counted(fd.into()), remote.and_then(|any| SocketAddr::try_from(any).ok())))
    }

    /// Begins to connect; EINPROGRESS says that the answer comes later. connect(2).
    pub fn connect(&self, remote: Permitted<SocketAddr>) -> Result<(), Errno> {
        self.0.connect(&remote.get().into()).map_err(errno)
    }

    /// Takes the remote address away, or ends an attempt to connect. connect(2) with AF_UNSPEC.
    pub fn disconnect(&self) -> Result<(), Errno> {
        Ok(connect_unspec(&self.0)?)
    }

    /// The local address; absent while it has none. getsockname(2).
    pub fn local(&self) -> Option<SocketAddr> {
        let local = self.0.local_addr().ok()?.as_socket()?;
        (local.port() != 0).then_some(local)
    }

    /// The IP address that it was bound to, also where a disconnect has taken the port away. getsockname(2).
    pub fn bound_ip(&self) -> Option<IpAddr> {
        let ip = self.0.local_addr().ok()?.as_socket()?.ip();
        (!ip.is_unspecified()).then_some(ip)
    }

    /// The remote address; absent while it is not connected. getpeername(2).
    pub fn remote(&self) -> Option<SocketAddr> {
        self.0.peer_addr().ok()?.as_socket()
    }

    /// Reads at most `max` bytes into `into`; 0 at the end of the stream. recv(2).
    pub fn receive(&self, into: &mut BytesMut, max: usize) -> Result<usize, Errno> {
        retry(|| buffer::fill(into, max, |spare| self.0.recv(spare)))
    }

    /// Copies at most `max` bytes into `into` that stay there to be read; 0 at the end of the stream. recv(2): MSG_PEEK.
    pub fn peek(&self, into: &mut BytesMut, max: usize) -> Result<usize, Errno> {
        retry(|| buffer::fill(into, max, |spare| self.0.peek(spare)))
    }

    /// Takes at most `max` bytes of a stream out of the kernel without copying them, and tells how many; 0 at the end. `room` is only lent:
    /// it stays as it is. tcp(7): MSG_TRUNC.
    pub fn discard(&self, room: &mut BytesMut, max: usize) -> Result<usize, Errno> {
        room.reserve(max);
        retry(|| self.0.recv_with_flags(&mut room.spare_capacity_mut()[..max], libc::MSG_TRUNC))
    }

    /// Takes the urgent byte out of the stream. recv(2) with MSG_OOB: EINVAL says that there is none, or that it stays in the stream.
    pub fn receive_urgent(&self) -> Result<u8, Errno> {
        let mut byte = BytesMut::new();
        retry(|| buffer::fill(&mut byte, 1, |spare| self.0.recv_out_of_band(spare)))?;
        byte.first().copied().ok_or(Errno::EINVAL)
    }

    /// Whether an urgent byte has been announced that has not come yet. recv(2) with MSG_OOB: EAGAIN.
    pub fn awaits_urgent(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let looked = retry(|| self.0.recv_with_flags(&mut byte, libc::MSG_OOB | libc::MSG_PEEK));
        looked.is_err_and(|errno| errno.would_block())
    }

    /// Whether the next byte to be read is the urgent one, or stands where it stood. sockatmark(3).
    pub fn at_mark(&self) -> bool {
        option::at_mark(&self.0)
    }

    /// How many bytes of the peer's are behind, read or not to be had any more. Absent where the kernel does not tell, or more bytes come
    /// while it is asked. tcp(7): TCP_INFO; sock_diag(7).
    pub fn stream_position(&self) -> Option<u64> {
        let arrived = || self.tcp_info().ok()?.bytes_received;
        let (local, remote, interface) = (self.local()?, self.remote()?, self.interface());
        (0..POSITION_TRIES).find_map(|_| {
            let before = arrived()?;
            let unread = diag::unread(local, remote, interface)?;
            (arrived()? == before).then(|| before.checked_sub(unread.into())).flatten()
        })
    }

    /// Takes what is oldest from the error queue, and where the datagram was sent to that it is about; EAGAIN when there is nothing.
    /// recvmsg(2): MSG_ERRQUEUE.
    pub fn receive_error(&self) -> Result<(Ancillary, Option<SocketAddr>), Errno> {
        retry(|| {
            let mut destination = SockAddr::from(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)));
            let mut control = [MaybeUninit::uninit(); ERROR_ROOM];
            let mut header = MsgHdrMut::new().with_addr(&mut destination).with_control(&mut control);
            self.0.recvmsg(&mut header, libc::MSG_ERRQUEUE)?;
            let filled = header.control_len();
            let ancillary = Ancillary::parse(buffer::assume_filled(&control, filled));
            Ok((ancillary, destination.as_socket()))
        })
    }

    /// Whether ICMP messages about its datagrams come to the error queue. ip(7): IP_RECVERR, IPV6_RECVERR.
    pub fn hears_icmp(&self) -> bool {
        option::hears_icmp(&self.0)
    }

    /// Whether times at which its datagrams were sent come to the error queue. socket(7): SO_TIMESTAMPING.
    pub fn stamps_sends(&self) -> bool {
        option::stamps_sends(&self.0)
    }

    /// How many bytes a packet may have on the path to its remote address. ip(7): IP_MTU, IPV6_MTU.
    pub fn path_mtu(&self) -> Option<u32> {
        option::path_mtu(&self.0)
    }

    /// Hands bytes to the kernel, and tells how many it took. send(2).
    pub fn send(&self, bytes: &[u8], flags: WriteFlags) -> Result<usize, Errno> {
        let urgent = if flags.urgent { libc::MSG_OOB } else { 0 };
        let more = if flags.more { libc::MSG_MORE } else { 0 };
        retry(|| self.0.send_with_flags(bytes, libc::MSG_NOSIGNAL | urgent | more))
    }

    /// Hands a datagram to the kernel, to the remote address or another one, with what of it is not as the socket has it. sendmsg(2).
    pub fn send_datagram(
        &self,
        bytes: &[u8],
        destination: Option<Permitted<SocketAddr>>,
        marks: &Marks,
        family: Family,
    ) -> Result<usize, Errno> {
        let buffers = [IoSlice::new(bytes)];
        let destination = destination.map(|to| SockAddr::from(to.get()));
        let control = marks.control(family);
        let mut header = MsgHdr::new().with_buffers(&buffers);
        if let Some(destination) = &destination {
            header = header.with_addr(destination);
        }
        if !control.is_empty() {
            header = header.with_control(&control);
        }
        retry(|| self.0.sendmsg(&header, libc::MSG_NOSIGNAL))
    }

    /// Ends a direction, or both. shutdown(2).
    pub fn shutdown(&self, how: ShutdownHow) -> Result<(), Errno> {
        let how = match how {
            ShutdownHow::Receive => Shutdown::Read,
            ShutdownHow::Send => Shutdown::Write,
            ShutdownHow::Both => Shutdown::Both,
        };
        self.0.shutdown(how).map_err(errno)
    }

    /// Takes the error that is pending, if there is one. socket(7): SO_ERROR.
    pub fn take_error(&self) -> Option<Errno> {
        match self.0.take_error() {
            Ok(pending) => pending.map(errno),
            Err(error) => Some(errno(error)),
        }
    }

    /// What closing does, as [`set_linger`](Self::set_linger) has it. socket(7): SO_LINGER.
    pub fn linger(&self) -> Option<Duration> {
        self.0.linger().ok().flatten()
    }

    /// What closing does: nothing special, wait so long for the peer's acknowledgement, or with zero reset. socket(7): SO_LINGER.
    pub fn set_linger(&self, linger: Option<Duration>) -> Result<(), Errno> {
        self.0.set_linger(linger).map_err(errno)
    }

    /// Sets an option. setsockopt(2).
    pub fn set_option(&self, spec: Permitted<&OptionSpec>, value: &OptionValue) -> Result<(), Errno> {
        option::set(self, spec.get(), value)
    }

    /// Reads an option; absent where the kernel does not tell. getsockopt(2).
    pub fn option(&self, spec: &OptionSpec) -> Result<Option<OptionValue>, Errno> {
        option::get(self, spec)
    }

    /// Changes a multicast membership. setsockopt(2): MCAST_JOIN_GROUP and its kin.
    pub fn change_group(
        &self,
        change: GroupChange,
        interface: u32,
        group: Permitted<IpAddr>,
        source: Option<IpAddr>,
    ) -> Result<(), Errno> {
        group::change(self, change, interface, group.get(), source)
    }

    /// From whom it receives what is sent to a group on an interface; EADDRNOTAVAIL where it has not joined. getsockopt(2): MCAST_MSFILTER.
    pub fn source_filter(&self, interface: u32, group: IpAddr) -> Result<SourceFilter, Errno> {
        group::filter(self, interface, group)
    }

    /// Changes all of that at once. setsockopt(2): MCAST_MSFILTER.
    pub fn set_source_filter(
        &self,
        interface: u32,
        group: Permitted<IpAddr>,
        filter: &SourceFilter,
    ) -> Result<(), Errno> {
        group::set_filter(self, interface, group.get(), filter)
    }

    /// Whether the kernel has done with the connection: state CLOSE. tcp(7): TCP_INFO.
    pub fn tcp_is_closed(&self) -> bool {
        self.tcp_state().is_none_or(|state| state == TcpState::Closed)
    }

    /// The kernel's own state of a TCP connection. tcp(7): TCP_INFO.
    pub fn tcp_state(&self) -> Option<TcpState> {
        option::tcp_state(self)
    }

    /// What the kernel knows of a TCP connection. tcp(7): TCP_INFO.
    pub fn tcp_info(&self) -> Result<TcpInfo, Errno> {
        option::tcp_info(self)
    }

    /// What the kernel holds for it. tcp(7), udp(7): SIOCINQ, SIOCOUTQ.
    pub fn queues(&self) -> Queues {
        let (receive_bytes, send_bytes) = (self.receive_bytes(), option::unsent(&self.0));
        Queues { receive_bytes, send_bytes, pending_write_bytes: 0 }
    }

    /// All that the kernel says of it now. What one answer has in it already is not asked for a second time: what is not readable has nothing
    /// to be read, and where the peer has acknowledged everything, nothing is left to be sent.
    pub fn reading(&self, transport: Transport) -> Reading {
        let readiness = self.readiness();
        let tcp = match transport {
            Transport::Tcp => option::tcp_glance(self),
            Transport::Udp => None,
        };
        let nothing_to_read = !(readiness.readable || readiness.priority || readiness.hung_up || readiness.failed);
        let receive_bytes = if nothing_to_read { 0 } else { self.receive_bytes() };
        let nothing_to_send = tcp.as_ref().is_some_and(|tcp| tcp.all_acknowledged);
        let send_bytes = if nothing_to_send { 0 } else { option::unsent(&self.0) };
        Reading {
            queues: Queues { receive_bytes, send_bytes, pending_write_bytes: 0 },
            readiness,
            tcp_state: tcp.as_ref().and_then(|tcp| tcp.state),
            accept_queue: tcp.and_then(|tcp| tcp.accept_queue),
        }
    }

    /// How many bytes can be read; of UDP, how many the next datagram has. tcp(7), udp(7): SIOCINQ.
    fn receive_bytes(&self) -> u32 {
        u32::try_from(rustix::io::ioctl_fionread(&self.0).unwrap_or(0)).unwrap_or(u32::MAX)
    }

    /// Whether an IPv6 socket takes no IPv4. ipv6(7): IPV6_V6ONLY.
    pub fn takes_only_ipv6(&self) -> bool {
        ipv6_v6only(&self.0).unwrap_or(false)
    }

    /// The interface that it is bound to, by SO_BINDTODEVICE or by a link-local address; zero: to none. socket(7): SO_BINDTOIFINDEX.
    pub fn interface(&self) -> u32 {
        option::bound_interface(&self.0)
    }

    /// Its number on this host. socket(7): SO_COOKIE.
    pub fn cookie(&self) -> Option<u64> {
        socket_cookie(&self.0).ok()
    }

    /// How many datagrams that had come to it the kernel has dropped so far, modulo 2³²; absent where the kernel does not tell. socket(7):
    /// SO_MEMINFO.
    pub fn dropped(&self) -> Option<u32> {
        self.memory().map(|memory| memory.dropped)
    }

    /// What the kernel holds in memory for it; absent where the kernel does not tell. socket(7): SO_MEMINFO.
    pub fn memory(&self) -> Option<SocketMemory> {
        option::memory(&self.0)
    }

    /// What can be done with it at once. poll(2).
    pub fn readiness(&self) -> Readiness {
        let asked = PollFlags::IN | PollFlags::OUT | PollFlags::PRI | PollFlags::RDHUP;
        let mut sockets = [PollFd::new(&self.0, asked)];
        if poll(&mut sockets, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_err() {
            return Readiness::default();
        }
        let told = sockets[0].revents();
        Readiness {
            readable: told.contains(PollFlags::IN),
            writable: told.contains(PollFlags::OUT),
            priority: told.contains(PollFlags::PRI),
            hung_up: told.intersects(PollFlags::HUP | PollFlags::RDHUP),
            failed: told.contains(PollFlags::ERR),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn errno(error: io::Error) -> Errno {
    Errno::new(error.raw_os_error().unwrap_or(libc::EIO))
}

pub(super) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map_err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::view::AcceptQueue;

    /// In each state in which an answer could be put together wrongly.
    #[test]
    fn one_reading_says_what_each_question_alone_would() {
        let check = |socket: &Socket, transport, what: &str| {
            let reading = socket.reading(transport);
            assert_eq!((reading.queues, reading.readiness), (socket.queues(), socket.readiness()), "{what}");
            let state = socket.tcp_state().filter(|_| transport == Transport::Tcp);
            assert_eq!(reading.tcp_state, state, "{what}");
            reading
        };
        for (family, any) in [(Family::Ipv4, "127.0.0.1:0"), (Family::Ipv6, "[::1]:0")] {
            let any = Permitted::unasked(any.parse().unwrap());
            let tcp = || Socket::new(Transport::Tcp, family).unwrap();
            let (listener, near) = (tcp(), tcp());
            check(&listener, Transport::Tcp, "new");
            listener.bind(any).unwrap();
            check(&listener, Transport::Tcp, "bound");
            listener.listen(any, 7).unwrap();
            assert_eq!(
                check(&listener, Transport::Tcp, "listening").accept_queue,
                Some(AcceptQueue { length: 0, limit: 7 })
            );
            let to = Permitted::unasked(listener.local().unwrap());
            assert_eq!(near.connect(to), Err(Errno::EINPROGRESS));
            let until = |socket: &Socket, done: &dyn Fn(Readiness) -> bool| {
                assert!((0..1_000_000).any(|_| done(socket.readiness())));
            };
            until(&listener, &|ready| ready.readable);
            assert_eq!(check(&listener, Transport::Tcp, "with a connection").accept_queue.unwrap().length, 1);
            let (far, _) = listener.accept().unwrap();
            assert_eq!(check(&near, Transport::Tcp, "connected").accept_queue, None);
            // Until neither has room any more: some of it is not acknowledged.
            while near.send(&[7; 65_536], WriteFlags::default()).is_ok() {}
            let full = |socket: &Socket| {
                socket.queues().send_bytes > 0 && socket.reading(Transport::Tcp).queues == socket.queues()
            };
            assert!((0..1_000_000).any(|_| full(&near)), "full");
            assert!(check(&far, Transport::Tcp, "unread").queues.receive_bytes > 0);
            far.shutdown(ShutdownHow::Send).unwrap();
            until(&near, &|ready| ready.hung_up);
            assert_eq!(check(&near, Transport::Tcp, "the peer has ended").tcp_state, Some(TcpState::CloseWait));
            // Closed with bytes unread: a reset.
            drop(far);
            until(&near, &|ready| ready.failed);
            check(&near, Transport::Tcp, "reset");

            let [from, to] = [(); 2].map(|()| Socket::new(Transport::Udp, family).unwrap());
            to.bind(any).unwrap();
            for bytes in [&b""[..], b"hola"] {
                check(&to, Transport::Udp, "without a datagram");
                let address = Permitted::unasked(to.local().unwrap());
                from.send_datagram(bytes, Some(address), &Marks::default(), family).unwrap();
                until(&to, &|ready| ready.readable);
                check(&to, Transport::Udp, "with a datagram");
                to.receive(&mut BytesMut::new(), 10).unwrap();
            }
        }
    }
}
