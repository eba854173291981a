//! Questions to the kernel about its network. netlink(7), rtnetlink(7).
//!
//! A socket stays in the network namespace in which it was made, on whichever thread it is asked.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use socket2::{Domain, Protocol, Socket, Type};

use crate::model::errno::Errno;
use crate::sys::socket::retry;

/// The kernel answers at once; if it ever did not, a caller must not wait for ever.
const PATIENCE: Duration = Duration::from_secs(1);

/// Room for one answer. The kernel sends at most 32 KiB at a time.
const ANSWER: usize = 64 << 10;

/// A line to the kernel, which answers in the order of the questions, each with the number of its question.
pub struct Netlink {
    socket: Socket,
    asked: u32,
}

impl Netlink {
    /// One to the network namespace of this thread.
    pub fn here() -> Result<Self, Errno> {
        let open = || {
            let domain = Domain::from(libc::AF_NETLINK);
            let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(libc::NETLINK_ROUTE)))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            Ok(Self { socket, asked: 0 })
        };
        retry(open)
    }

    /// All interfaces.
    pub fn links(&mut self) -> Result<Vec<LinkMessage>, Errno> {
        let answers = self.ask(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP)?;
        let link = |answer| if let RouteNetlinkMessage::NewLink(link) = answer { Some(link) } else { None };
        Ok(answers.into_iter().filter_map(link).collect())
    }

    /// All addresses of all interfaces.
    pub fn addresses(&mut self) -> Result<Vec<AddressMessage>, Errno> {
        let answers = self.ask(RouteNetlinkMessage::GetAddress(AddressMessage::default()), NLM_F_DUMP)?;
        let address = |answer| if let RouteNetlinkMessage::NewAddress(address) = answer { Some(address) } else { None };
        Ok(answers.into_iter().filter_map(address).collect())
    }

    /// The way that a packet to `destination` would take, from `source` or from an address of the kernel's choice.
    pub fn route(&mut self, destination: IpAddr, source: Option<IpAddr>) -> Result<RouteMessage, Errno> {
        let mut question = RouteMessage::default();
        let (family, length) = match destination {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        question.header.address_family = family;
        question.header.destination_prefix_length = length;
        question.header.flags = RouteFlags::LookupTable;
        question.attributes.push(RouteAttribute::Destination(destination.into()));
        if let Some(source) = source {
            question.header.source_prefix_length = length;
            question.attributes.push(RouteAttribute::Source(source.into()));
        }
        let answers = self.ask(RouteNetlinkMessage::GetRoute(question), 0)?;
        let route = |answer| if let RouteNetlinkMessage::NewRoute(route) = answer { Some(route) } else { None };
        answers.into_iter().find_map(route).ok_or(Errno::EPROTO)
    }

    /// Asks, and collects the answers up to the last one.
    fn ask(&mut self, question: RouteNetlinkMessage, flags: u16) -> Result<Vec<RouteNetlinkMessage>, Errno> {
        self.asked = self.asked.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.asked;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(question));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        retry(|| self.socket.write(&bytes))?;

        let mut answers = Vec::new();
        let mut buffer = vec![0; ANSWER];
        loop {
            let size = retry(|| self.socket.read(&mut buffer))?;
            let over = take(&buffer[..size], Some(self.asked), &mut answers)?;
            if over || (flags & NLM_F_DUMP == 0 && !answers.is_empty()) {
                return Ok(answers);
            }
        }
    }
}

/// The messages of what a socket has read that nobody has asked for. EPROTO: one of them makes no sense here.
pub fn news(bytes: &[u8]) -> Result<Vec<RouteNetlinkMessage>, Errno> {
    let mut news = Vec::new();
    take(bytes, None, &mut news)?;
    Ok(news)
}

/// The host's own address in a message: on a point-to-point link, the other attribute is the far side's.
pub fn own_address(message: &AddressMessage) -> Option<IpAddr> {
    let local = |attribute: &AddressAttribute| match attribute {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    };
    let any = |attribute: &AddressAttribute| match attribute {
        AddressAttribute::Address(ip) => Some(*ip),
        _ => None,
    };
    message.attributes.iter().find_map(local).or_else(|| message.attributes.iter().find_map(any))
}

/// Takes the messages of one read, those of another question left out; says whether the last one is among them.
fn take(mut bytes: &[u8], asked: Option<u32>, answers: &mut Vec<RouteNetlinkMessage>) -> Result<bool, Errno> {
    while !bytes.is_empty() {
        let message: NetlinkMessage<RouteNetlinkMessage> =
            NetlinkMessage::deserialize(bytes).map_err(|_| Errno::EPROTO)?;
        let length = (message.header.length as usize).next_multiple_of(4);
        bytes = bytes.get(length.max(1)..).unwrap_or_default();
        // What came too late for the question before is no answer to this one.
        if asked.is_some_and(|number| message.header.sequence_number != number) {
            continue;
        }
        match message.payload {
            NetlinkPayload::InnerMessage(answer) => answers.push(answer),
            NetlinkPayload::Error(error) => {
                // The kernel sends negative numbers; without one it is an acknowledgement.
                return error.code.map_or(Ok(true), |code| Err(Errno::new(code.get().saturating_abs())));
            }
            NetlinkPayload::Done(_) => return Ok(true),
            _ => {}
        }
    }
    Ok(false)
}
