//! ICMP messages about datagrams: out of the error queue into the log, so that they fail nothing but what they are about.
//!
//! With IP_RECVERR, Linux puts each message into the error queue, and then also makes it the socket's pending error, which the next call
//! meets, whatever that is for. Taking the message out of the queue takes the pending error away again.

use std::net::SocketAddr;

use crate::model::address::Family;
use crate::model::errno::Errno;
use crate::model::event::{Event, IcmpMessage};
use crate::model::operation::Operation;
use crate::socket::command::ReadyDatagram;
use crate::socket::driver::{Driver, Role};
use crate::sys::control::QueuedError;

/// How many messages are taken at a time. A receive buffer of the usual size holds fewer.
const MESSAGES_PER_TURN: usize = 1024;

/// What a UDP socket keeps about ICMP messages.
#[derive(Default)]
pub(super) struct Icmp {
    /// They come to the error queue.
    heard: bool,
    /// The times come there at which datagrams were sent.
    stamped: bool,
    /// The error of the last one that was told. The kernel makes it the pending error only after it has put the message into the queue, so
    /// that it may be met once more when the queue is empty already.
    last: Option<Errno>,
    /// What this host said last about the size of a packet.
    path_mtu: Option<u32>,
}

impl Icmp {
    /// Whether anything comes to the error queue.
    pub(super) const fn has_queue(&self) -> bool {
        self.heard || self.stamped
    }
}

impl Driver {
    /// Learns what comes to the error queue, after options have changed.
    pub(super) fn learn_icmp(&mut self) {
        if let Role::Datagrams(datagrams) = &mut self.role {
            datagrams.icmp.heard = self.socket.hears_icmp();
            datagrams.icmp.stamped |= self.socket.stamps_sends();
        }
    }

    /// Whether a call has only met the error of an earlier datagram, which has been told now: the call may be made again.
    pub(super) fn met_icmp(&mut self, met: Errno) -> bool {
        let told = self.tell_icmp();
        match &mut self.role {
            Role::Datagrams(datagrams) if datagrams.icmp.heard => {
                told || datagrams.icmp.last.take_if(|last| *last == met).is_some()
            }
            _ => false,
        }
    }

    /// Something is wrong, and it may be that nobody makes a call that would meet it.
    pub(super) fn notice_icmp(&mut self) {
        self.tell_icmp();
        if !matches!(&self.role, Role::Datagrams(datagrams) if datagrams.icmp.heard) {
            return;
        }
        if let Some(errno) = self.socket.take_error()
            && !self.met_icmp(errno)
        {
            self.record(Event::Failed { error: self.error(errno, Operation::Receive, "getsockopt") });
        }
    }

    /// Tells all that the error queue has; whether there was an ICMP message.
    fn tell_icmp(&mut self) -> bool {
        let mut told = false;
        for _ in 0..MESSAGES_PER_TURN {
            if !matches!(&self.role, Role::Datagrams(datagrams) if datagrams.icmp.has_queue()) {
                break;
            }
            let Ok((ancillary, destination)) = self.socket.receive_error() else { break };
            match (ancillary.error, ancillary.received) {
                (Some(QueuedError { stamp: Some((stage, number)), .. }), Some(nanos)) => {
                    let time = self.sockets.at_realtime(nanos);
                    self.record(Event::SendTimestamped { stage, number, time });
                }
                (Some(error), _) => told |= self.take_queued_error(error, destination),
                (None, _) => {}
            }
        }
        told
    }

    fn take_queued_error(&mut self, queued: QueuedError, destination: Option<SocketAddr>) -> bool {
        let Role::Datagrams(datagrams) = &mut self.role else { return false };
        let path_mtu = (queued.errno == Errno::EMSGSIZE).then_some(queued.info);
        let Some((kind, code)) = queued.icmp else {
            // What this host says of a datagram, the call that sends it answers as well.
            datagrams.icmp.path_mtu = path_mtu;
            return false;
        };
        datagrams.icmp.last = Some(queued.errno);
        let destination = destination.map(|addr| self.endpoint(addr));
        let mut error = self.error(queued.errno, Operation::Send, "sendmsg");
        error.remote.clone_from(&destination);
        error.path_mtu = path_mtu;
        let offender = queued.offender.map(|addr| self.endpoint(addr));
        self.record(Event::IcmpReceived(Box::new(IcmpMessage { destination, offender, kind, code, error })));
        true
    }

    /// What a packet may have on the way of a datagram that the kernel has just refused as too long.
    pub(super) fn path_mtu(&mut self, datagram: &ReadyDatagram) -> Option<u32> {
        let Role::Datagrams(datagrams) = &mut self.role else { return None };
        let queued = datagrams.icmp.path_mtu.take();
        // RFC 768 and 791: the length of all with its headers; RFC 8200: without the header of IPv6.
        let longest = match self.packet_family(datagram.destination) {
            Family::Ipv4 => 65_535 - 20 - 8,
            Family::Ipv6 => 65_535 - 8,
        };
        if datagram.payload.len() > longest {
            // No path is to blame.
            return None;
        }
        queued.or_else(|| self.socket.path_mtu().filter(|_| datagram.destination.is_none()))
    }
}
