//! One socket in both worlds, and what can be seen of it.

use std::collections::VecDeque;
use std::io::Read;
use std::net::SocketAddr;

use farsock::sys::option::{at_mark, tcp_state};
use farsock::wire::pb;
use pb::{SocketState, TcpState, Transport};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::RecvFlags;
use socket2::Socket;

use super::story::Story;
use crate::harness::tcp::answered;

/// As much as an agent reads at a time.
const READ_SIZE: usize = 65_536;

/// One socket in both worlds.
pub struct Pair {
    pub plain: Socket,
    pub id: String,
    /// As the agent showed it last.
    pub far: pb::Socket,
    /// It has a port because it was bound: what a failed connect leaves behind is anybody's.
    pub bound: bool,
    /// The request of an attempt to connect that goes on.
    pub attempt: Option<String>,
    /// Where an agent logs what it receives, the test has read it, too, and nobody has taken it yet.
    pub came: VecDeque<Came>,
    /// How many bytes the test has read.
    pub came_bytes: u64,
    /// Nothing more is read.
    pub ended: bool,
    /// Its receiving direction was ended from here.
    pub deaf: bool,
    /// A write was told that the peer has reset the connection.
    pub writer_told: bool,
}

/// What the test has read.
pub enum Came {
    Bytes(Vec<u8>),
    Datagram(Vec<u8>, SocketAddr),
    Error(String),
    End,
}

impl Pair {
    pub fn new(plain: Socket, far: pb::Socket) -> Self {
        let id = far.socket_id.clone();
        let came = VecDeque::new();
        Self {
            plain,
            id,
            far,
            bound: false,
            attempt: None,
            came,
            came_bytes: 0,
            ended: false,
            deaf: false,
            writer_told: false,
        }
    }

    /// Reads all that has come, as an agent does that logs it.
    pub fn read_all(&mut self, transport: Transport, story: &mut Story) {
        while !self.ended {
            if transport == Transport::Tcp {
                self.take_urgent(story);
            }
            let came = match transport {
                Transport::Udp => {
                    receive_datagram(&self.plain, READ_SIZE).map(|(bytes, _, from)| Came::Datagram(bytes, from))
                }
                _ => receive_bytes(&self.plain, READ_SIZE).map(Came::Bytes),
            };
            match came {
                Ok(Came::Bytes(bytes)) if bytes.is_empty() => {
                    self.came.push_back(Came::End);
                    self.ended = true;
                }
                Ok(came) => {
                    if let Came::Bytes(bytes) | Came::Datagram(bytes, _) = &came {
                        story.receive(&self.id, bytes.clone());
                        self.came_bytes += bytes.len() as u64;
                    }
                    self.came.push_back(came);
                }
                Err(error) if transport == Transport::Udp && error.raw_os_error() != Some(libc::EAGAIN) => {
                    self.came.push_back(Came::Error(word::<()>(Err(error))));
                }
                Err(_) => return,
            }
        }
    }

    /// Takes the urgent byte out of the stream where reading has come to it, as an agent does before each read.
    pub fn take_urgent(&mut self, story: &mut Story) {
        let mut byte = [0];
        let marked = self.near_readiness().priority && at_mark(&self.plain);
        if marked && rustix::net::recv(&self.plain, &mut byte[..], RecvFlags::OOB).is_ok() {
            story.urgent(&self.id, byte[0]);
            self.came_bytes += 1;
        }
    }

    /// Whether both directions have ended.
    pub fn is_through(&self) -> bool {
        self.far.shut_down && (self.far.peer_closed || self.deaf)
    }

    /// Whether the kernel says that the connection is broken, with nothing left to read: the agent is about to close it.
    pub fn is_being_noticed(&self) -> bool {
        let readiness = self.far.readiness.unwrap_or_default();
        let unread = self.far.queues.as_ref().map_or(0, pb::SocketQueues::receive_bytes);
        is_over(self) && unread == 0 && readiness.failed && !self.is_through()
    }

    /// What can be done with it at once, and how much there is to read.
    pub fn near_figures(&self) -> String {
        let unread = rustix::io::ioctl_fionread(&self.plain).unwrap_or(0);
        format!("{unread} unread, {:?}", self.near_readiness())
    }

    fn near_readiness(&self) -> pb::Readiness {
        let asked = PollFlags::IN | PollFlags::OUT | PollFlags::PRI | PollFlags::RDHUP;
        let mut sockets = [PollFd::new(&self.plain, asked)];
        poll(&mut sockets, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
        let told = sockets[0].revents();
        pb::Readiness {
            readable: told.contains(PollFlags::IN),
            writable: told.contains(PollFlags::OUT),
            priority: told.contains(PollFlags::PRI),
            hung_up: told.intersects(PollFlags::HUP | PollFlags::RDHUP),
            failed: told.contains(PollFlags::ERR),
        }
    }

    pub fn far_figures(&self) -> String {
        let queues = self.far.queues.as_ref().map_or(0, pb::SocketQueues::receive_bytes);
        format!("{queues} unread, {:?}", self.far.readiness.unwrap_or_default())
    }
}

/// Whether the connection is over for the kernel: in good order, or broken.
pub fn is_over(pair: &Pair) -> bool {
    pair.far.transport() == Transport::Tcp
        && pair.far.state() == SocketState::Connected
        && near_state(&pair.plain) == TcpState::Closed
}

pub fn near_state(plain: &Socket) -> TcpState {
    tcp_state(plain).map_or(TcpState::Unspecified, TcpState::from)
}

pub fn local(plain: &Socket) -> SocketAddr {
    plain.local_addr().unwrap().as_socket().unwrap()
}

/// At most so many bytes of a stream; none at its end.
pub fn receive_bytes(mut plain: &Socket, max: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; max];
    let size = plain.read(&mut bytes)?;
    bytes.truncate(size);
    Ok(bytes)
}

/// At most so many bytes of a datagram, how many it had, and who sent it.
pub fn receive_datagram(plain: &Socket, max: usize) -> std::io::Result<(Vec<u8>, usize, SocketAddr)> {
    let mut bytes = vec![0; max];
    let (_, size, source) = rustix::net::recvfrom(plain, &mut bytes[..], RecvFlags::TRUNC)?;
    bytes.truncate(size);
    Ok((bytes, size, SocketAddr::try_from(source.unwrap()).unwrap()))
}

/// What a read has brought, in a word.
pub fn brought(bytes: &[u8], size: usize) -> String {
    format!("{} bytes of {size}: {}", bytes.len(), bytes.escape_ascii().take(24).map(char::from).collect::<String>())
}

/// How a system call went, in a word.
pub fn word<T>(result: std::io::Result<T>) -> String {
    answered(result)
}
