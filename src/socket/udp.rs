//! UDP sockets: datagrams out, one system call each, and in, as many as there are.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use crate::model::address::{Family, Transport, socket_addr};
use crate::model::delivery::DeliveryMode;
use crate::model::errno::Errno;
use crate::model::event::{Datagram, Event};
use crate::model::operation::{Operation, SendFlags, Taken};
use crate::model::placeholder::{self, Values};
use crate::model::probe::{HEADER, Probe};
use crate::model::refusal::Refusal;
use crate::socket::buffer::with_burst;
use crate::socket::command::{Brought, Ending, ReadyDatagram, Ticket};
use crate::socket::driver::{BYTES_PER_TURN, CALLS_PER_ROUND, Driver, Flow, PendingReceive, Role};
use crate::socket::icmp::Icmp;
use crate::socket::permit::Hindrance;
use crate::sys::burst::Burst;
use crate::sys::interface;
use crate::sys::process;
use crate::sys::socket::DatagramHead;

/// How often a datagram is handed to the kernel when errors of earlier ones get in between.
const TRIES: usize = 16;

/// How many datagrams a driver reads before it lets others run, and how many bytes one of them stands for at least.
const DATAGRAMS_PER_TURN: usize = 512;
const DATAGRAM_COST: usize = BYTES_PER_TURN / DATAGRAMS_PER_TURN;

/// What only a UDP socket needs.
#[derive(Default)]
pub(super) struct Datagrams {
    /// It has a remote address, so that the kernel tells it of ICMP errors.
    pub(super) connected: bool,
    /// ICMP messages, where they are asked for.
    pub(super) icmp: Icmp,
    /// How many probes it has sent.
    probes: u64,
    /// The name of the interface that the last datagram came in by: asking the kernel for each one would double the work.
    last_interface: Option<(u32, Arc<str>)>,
}

/// How far the datagrams of one request have come.
enum Sending {
    /// All of them are sent.
    Over,
    /// The next one is not due yet.
    Later,
}

/// Datagrams of one request that are being sent.
pub(super) struct PendingSend {
    pub(super) ticket: Ticket,
    datagrams: Vec<ReadyDatagram>,
    sent: usize,
    bytes: usize,
    interval: Duration,
    /// How their payloads are made.
    flags: SendFlags,
    /// When the first one left.
    begun: Option<Instant>,
}

impl PendingSend {
    /// When the next datagram is due, if it is not at once. Counted from the first one, so that being late does not add up.
    pub(super) fn due(&self) -> Option<Instant> {
        let begun = self.begun.filter(|_| !self.interval.is_zero())?;
        let behind = self.interval.checked_mul(u32::try_from(self.sent).unwrap_or(u32::MAX));
        // What lies beyond all time is never due: the deadline ends it.
        let due = behind.and_then(|behind| begun.checked_add(behind));
        Some(due.unwrap_or(self.ticket.deadline))
    }

    /// Whether it waits for its time, and not for room.
    pub(super) fn waits(&self, now: Instant) -> bool {
        self.due().is_some_and(|due| due > now)
    }

    fn brought(&self) -> Brought {
        let (datagrams, bytes) = self.counts();
        Brought::Sent { datagrams, bytes }
    }

    /// How many datagrams were sent, and how many bytes they had.
    fn counts(&self) -> (u32, u32) {
        (u32::try_from(self.sent).unwrap_or(u32::MAX), u32::try_from(self.bytes).unwrap_or(u32::MAX))
    }

    fn finish(self, ending: Ending) {
        let brought = self.brought();
        self.ticket.finish(ending, brought);
    }

    /// Answers that the rest may not go, and how much has.
    fn refuse(self, refusal: Refusal) {
        let refusal = match (refusal, self.counts()) {
            (Refusal::PolicyDenied(denied), (datagrams @ 1.., bytes)) => {
                Refusal::PolicyDeniedMidway { denied, datagrams, bytes }
            }
            (refusal, _) => refusal,
        };
        self.ticket.refuse(refusal);
    }
}

impl Driver {
    pub(super) fn enqueue_send(
        &mut self,
        mut ticket: Ticket,
        datagrams: Vec<ReadyDatagram>,
        (interval, flags): (Duration, SendFlags),
    ) {
        if self.cell.transport != Transport::Udp {
            return self.wrong_transport(ticket);
        }
        if let Some(refusal) = datagrams.iter().find_map(|datagram| self.permit_datagram(datagram).err()) {
            return ticket.refuse(refusal);
        }
        if self.socket.local().is_none() {
            match self.bind_to_any_port(&mut ticket) {
                Ok(()) => {}
                Err(Hindrance::Denied(refusal)) => return ticket.refuse(refusal),
                Err(Hindrance::Errno(errno)) => {
                    let error = self.error(errno, Operation::Bind, "bind");
                    return self.fail(ticket, error, Brought::Nothing);
                }
            }
        }
        let waiting = !self.sends.is_empty();
        self.sends.push_back(PendingSend { ticket, datagrams, sent: 0, bytes: 0, interval, flags, begun: None });
        if !waiting {
            self.flush_sends();
        }
        if !self.sends.is_empty() {
            self.deadline_added();
        }
    }

    /// Hands datagrams to the kernel while it has room, and they are due.
    pub(super) fn flush_sends(&mut self) -> Flow {
        while let Some(mut send) = self.sends.pop_front() {
            match self.on_behalf_of(send.ticket.asker.clone(), |driver| driver.send_all(&mut send)) {
                Ok(Sending::Over) => send.finish(Ending::Done),
                Ok(Sending::Later) => {
                    self.sends.push_front(send);
                    self.deadline_added();
                    return Flow::Enough;
                }
                // Another policy than the one that it came in under.
                Err(Hindrance::Denied(refusal)) => send.refuse(refusal),
                Err(Hindrance::Errno(errno)) if errno.would_block() => {
                    self.sends.push_front(send);
                    return Flow::Drained;
                }
                Err(Hindrance::Errno(errno)) => {
                    let mut error = self.error(errno, Operation::Send, "sendmsg");
                    let datagram = &send.datagrams[send.sent];
                    if let Some(destination) = datagram.destination {
                        error.remote = Some(self.endpoint(destination));
                    }
                    if let Some(source) = datagram.source {
                        let port = error.local.map_or(0, |local| local.addr.port());
                        error.local = Some(self.endpoint(socket_addr(source, port, datagram.marks.interface_index)));
                    }
                    if errno == Errno::EMSGSIZE {
                        error.path_mtu = self.path_mtu(datagram);
                    }
                    let brought = send.brought();
                    self.fail(send.ticket, error, brought);
                }
            }
        }
        Flow::Enough
    }

    fn send_all(&mut self, send: &mut PendingSend) -> Result<Sending, Hindrance> {
        while let Some(datagram) = send.datagrams.get(send.sent) {
            let now = Instant::now();
            if send.waits(now) {
                return Ok(Sending::Later);
            }
            let payload = self.payload(&datagram.payload, send.flags);
            self.send_datagram(datagram, &payload)?;
            if let (true, Role::Datagrams(datagrams)) = (send.flags.probes, &mut self.role) {
                datagrams.probes += 1;
            }
            send.begun.get_or_insert(now);
            let size = u32::try_from(payload.len()).unwrap_or(u32::MAX);
            let destination = match datagram.destination {
                Some(destination) => Some(self.endpoint(destination)),
                None => self.cell.status().remote.clone(),
            };
            let event = Event::Sent { destination, size, reply_to_event: datagram.reply_to_event };
            send.bytes += payload.len();
            send.sent += 1;
            self.record_for(&mut send.ticket, event);
        }
        Ok(Sending::Over)
    }

    /// What leaves: the payload with its places filled, and behind the header of the next probe.
    fn payload(&self, payload: &Bytes, flags: SendFlags) -> Bytes {
        let payload = if flags.template { self.filled(payload) } else { payload.clone() };
        if flags.probes { self.numbered(&payload) } else { payload }
    }

    fn filled(&self, template: &[u8]) -> Bytes {
        let number = self.cell.status().totals.datagrams_sent + 1;
        let (session, socket) = (self.session.id.as_str(), self.cell.id.as_str());
        let host = process::host_name();
        placeholder::fill(template, &Values { number, time: self.sockets.now(), host: &host, session, socket })
    }

    /// The payload behind the header of the next probe.
    fn numbered(&self, payload: &Bytes) -> Bytes {
        let sent = if let Role::Datagrams(datagrams) = &self.role { datagrams.probes } else { 0 };
        let probe = Probe { sender: self.as_sender(), number: sent + 1, sent: self.sockets.now() };
        let mut bytes = BytesMut::with_capacity(HEADER + payload.len());
        bytes.extend_from_slice(&probe.header());
        bytes.extend_from_slice(payload);
        bytes.freeze()
    }

    /// What means this socket in its probes: no other one has the same, on this agent or elsewhere.
    fn as_sender(&self) -> u64 {
        self.sockets.fingerprint((self.sockets.instance(), self.cell.uid))
    }

    /// Hands one datagram to the kernel; again, where it has only met the error of an earlier one.
    fn send_datagram(&mut self, datagram: &ReadyDatagram, payload: &[u8]) -> Result<usize, Hindrance> {
        let (destination, marks) = self.permit_datagram(datagram)?;
        let family = self.packet_family(datagram.destination);
        let mut tries = 0;
        loop {
            tries += 1;
            match self.socket.send_datagram(payload, destination, &marks, family) {
                Err(errno) if !errno.would_block() && self.met_icmp(errno) && tries < TRIES => {}
                answer => return Ok(answer?),
            }
        }
    }

    /// The IP version in which a datagram leaves: IPv4 also from an IPv6 socket, to a mapped address.
    pub(super) fn packet_family(&self, destination: Option<SocketAddr>) -> Family {
        let remote = || self.cell.status().remote.as_ref().map(|remote| remote.addr);
        match destination.or_else(remote).map(|addr| addr.ip().to_canonical()) {
            Some(IpAddr::V4(_)) => Family::Ipv4,
            Some(IpAddr::V6(_)) => Family::Ipv6,
            None => self.cell.family(),
        }
    }

    /// Ends sends that wait for room.
    pub(super) fn end_sends(&mut self, ending: &Ending, which: impl Fn(&Ticket) -> bool) {
        for at in (0..self.sends.len()).rev() {
            if which(&self.sends[at].ticket)
                && let Some(send) = self.sends.remove(at)
            {
                send.finish(ending.clone());
            }
        }
    }

    /// Takes datagrams out of the kernel, as the delivery wants it.
    pub(super) fn read_datagrams(&mut self) -> Flow {
        for _ in 0..CALLS_PER_ROUND {
            if self.turn == 0 || !self.wants_to_read() || self.receive_shut || self.pause_for_log() {
                return Flow::Enough;
            }
            let delivery = self.cell.conduct().delivery;
            let left = if delivery.counts_payloads() { 1 } else { self.turn.div_ceil(DATAGRAM_COST) };
            let (most, max) = match self.receives.front() {
                Some(receive) => (1, receive.max_bytes),
                None if delivery.mode == DeliveryMode::Count && !self.looks_at_bytes() => (left, 0),
                None => (left.min(self.session.hub.reads()), delivery.read_size as usize),
            };
            let peek = self.receives.front().is_some_and(|receive| receive.peek);
            let read: Result<(), Errno> = with_burst(|burst| {
                if peek { burst.peek(&self.socket, max) } else { burst.receive(&self.socket, most, max) }?;
                self.deliver_burst(burst);
                if !peek && self.looks_at_bytes() {
                    self.verify_burst(burst);
                }
                Ok(())
            });
            match read {
                Ok(()) if peek => {}
                Ok(()) => self.payload_read(),
                Err(errno) if errno.would_block() => {
                    self.cell.tell_latest_drops(&self.socket);
                    return Flow::Drained;
                }
                Err(errno) if self.met_icmp(errno) => {}
                Err(errno) => {
                    // An ICMP error about an earlier datagram, for instance. The socket goes on.
                    let error = self.error(errno, Operation::Receive, "recvmsg");
                    match self.receives.pop_front() {
                        Some(receive) => self.fail(receive.ticket, error, Brought::Nothing),
                        None => self.record(Event::Failed { error }),
                    }
                }
            }
        }
        Flow::Enough
    }

    /// Hands on what was read: to the read that waits for it, into the totals alone, or into the log.
    fn deliver_burst(&mut self, burst: &Burst) {
        if let Some(receive) = self.receives.pop_front() {
            self.answer_receive(receive, burst);
        } else if self.cell.conduct().delivery.mode == DeliveryMode::Count {
            // Each counts whole, though nothing of it was copied.
            burst.datagrams().for_each(|(head, _)| self.count_datagram(head, head.size));
        } else {
            self.record_burst(burst);
        }
    }

    /// Whether somebody wants to know what is in them.
    fn looks_at_bytes(&self) -> bool {
        self.cell.verify.is_some() || self.cell.looks_for_probes()
    }

    /// Compares datagrams that were read, and counts probes.
    fn verify_burst(&self, burst: &Burst) {
        for (head, bytes) in burst.datagrams() {
            self.cell.verify(|verifier| verifier.datagram(head.size, bytes));
        }
        if !self.cell.looks_for_probes() {
            return;
        }
        let (own, now) = (self.as_sender(), self.sockets.now());
        self.cell.count_probes(|counter| {
            for (head, bytes) in burst.datagrams() {
                let received = head.ancillary.received.map_or(now, |nanos| self.sockets.at_realtime(nanos));
                counter.count(bytes, own, received, || head.source.map(|source| self.endpoint(source)));
            }
        });
    }

    fn answer_receive(&mut self, receive: PendingReceive, burst: &Burst) {
        let Some((head, bytes)) = burst.datagrams().next() else { return };
        if !receive.peek {
            self.count_datagram(head, bytes.len());
        }
        let datagram = self.datagram(head, self.local_port(), Bytes::copy_from_slice(bytes));
        let taken = Taken {
            size: datagram.size,
            truncated: datagram.truncated(),
            payload: datagram.payload,
            source: datagram.source,
            destination: datagram.destination,
            hop_limit: datagram.hop_limit,
            traffic_class: datagram.traffic_class,
            received: datagram.received,
            ..Taken::default()
        };
        receive.ticket.finish(Ending::Done, Brought::Taken(taken));
    }

    /// Counts a datagram that comes into no log.
    fn count_datagram(&mut self, head: &DatagramHead, size: usize) {
        if let Some(counted) = head.ancillary.dropped {
            self.cell.tell_drops(counted);
        }
        self.spend(size.max(DATAGRAM_COST));
        let totals = &mut self.cell.status().totals;
        totals.bytes_read += size as u64;
        totals.datagrams_received += 1;
    }

    fn record_burst(&mut self, burst: &Burst) {
        // One piece of memory for all of them: they come into the log together, and leave it together.
        let mut payloads = BytesMut::with_capacity(burst.datagrams().map(|(_, bytes)| bytes.len()).sum());
        burst.datagrams().for_each(|(_, bytes)| payloads.extend_from_slice(bytes));
        let (mut payloads, port) = (payloads.freeze(), self.local_port());
        // Made before the log is locked: the name of an interface may have to be asked for.
        let make = |(head, bytes): (&DatagramHead, &[u8])| {
            self.spend(bytes.len().max(DATAGRAM_COST));
            (head.ancillary.dropped, self.datagram(head, port, payloads.split_to(bytes.len())))
        };
        let datagrams: Vec<_> = burst.datagrams().map(make).collect();
        self.cell.record_datagrams(datagrams);
    }

    fn local_port(&self) -> u16 {
        self.cell.status().local.as_ref().map_or(0, |local| local.addr.port())
    }

    fn datagram(&mut self, head: &DatagramHead, port: u16, payload: Bytes) -> Datagram {
        let told = head.ancillary;
        let destination = told.destination.map(|ip| {
            let link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local() || v6.is_multicast());
            self.endpoint(socket_addr(ip, port, if link_local { told.interface_index } else { 0 }))
        });
        Datagram {
            source: head.source.map(|addr: SocketAddr| self.endpoint(addr)),
            destination,
            answer_from: told.local,
            interface: self.interface(told.interface_index),
            size: u32::try_from(head.size).unwrap_or(u32::MAX),
            payload,
            hop_limit: told.hop_limit,
            traffic_class: told.traffic_class,
            received: told.received.map(|nanos| self.sockets.at_realtime(nanos)),
        }
    }

    fn interface(&mut self, index: u32) -> Option<Arc<str>> {
        let Role::Datagrams(datagrams) = &mut self.role else { return None };
        match &datagrams.last_interface {
            _ if index == 0 => None,
            Some((known, name)) if *known == index => Some(Arc::clone(name)),
            _ => {
                let name = interface::name_of(&*self.socket, index).ok()?;
                datagrams.last_interface = Some((index, Arc::clone(&name)));
                Some(name)
            }
        }
    }
}
