//! Questions to the kernel about its network. netlink(7), rtnetlink(7).

use std::io::{self, Read, Write};
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use socket2::{Domain, Protocol, Socket, Type};

use crate::model::errno::Errno;

/// The kernel answers at once; if it ever did not, a caller must not wait for ever.
const PATIENCE: Duration = Duration::from_secs(5);

/// Room for one answer. The kernel sends at most 32 KiB at a time.
const ANSWER: usize = 64 * 1024;

/// Asks for one thing.
pub(super) fn ask(question: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>, Errno> {
    exchange(question, NLM_F_REQUEST)
}

/// Asks for all things of a kind.
pub(super) fn ask_for_all(question: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>, Errno> {
    exchange(question, NLM_F_REQUEST | NLM_F_DUMP)
}

fn exchange(question: RouteNetlinkMessage, flags: u16) -> Result<Vec<RouteNetlinkMessage>, Errno> {
    let mut socket = open().map_err(errno)?;
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = 1;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(question));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.write_all(&bytes).map_err(errno)?;

    let mut answers = Vec::new();
    let mut buffer = vec![0; ANSWER];
    loop {
        let size = socket.read(&mut buffer).map_err(errno)?;
        if take(&buffer[..size], &mut answers)? || flags & NLM_F_DUMP == 0 {
            return Ok(answers);
        }
    }
}

/// The messages of what a socket has read that nobody has asked for. EPROTO: one of them makes no sense here.
pub(super) fn news(bytes: &[u8]) -> Result<Vec<RouteNetlinkMessage>, Errno> {
    let mut news = Vec::new();
    take(bytes, &mut news)?;
    Ok(news)
}

fn open() -> io::Result<Socket> {
    let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(Protocol::from(libc::NETLINK_ROUTE)))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Takes the messages of one answer; says whether they were the last ones.
fn take(mut bytes: &[u8], answers: &mut Vec<RouteNetlinkMessage>) -> Result<bool, Errno>
where
    RouteNetlinkMessage: NetlinkDeserializable,
{
    while !bytes.is_empty() {
        let message: NetlinkMessage<RouteNetlinkMessage> =
            NetlinkMessage::deserialize(bytes).map_err(|_| Errno::EPROTO)?;
        let length = (message.header.length as usize).next_multiple_of(4);
        match message.payload {
            NetlinkPayload::InnerMessage(answer) => answers.push(answer),
            NetlinkPayload::Error(error) => {
                // The kernel sends negative numbers; without one it is an acknowledgement.
                return error.code.map_or(Ok(true), |code| Err(Errno::new(code.get().saturating_abs())));
            }
            NetlinkPayload::Done(_) => return Ok(true),
            _ => {}
        }
        bytes = bytes.get(length.max(1)..).unwrap_or_default();
    }
    Ok(false)
}

fn errno(error: io::Error) -> Errno {
    Errno::new(error.raw_os_error().unwrap_or(libc::EIO))
}
