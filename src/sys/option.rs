//! Socket options and queue sizes. getsockopt(2), setsockopt(2), ioctl(2).
#![allow(unsafe_code, reason = "options are passed by address; the table says which type each has")]

use std::ffi::c_int;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use crate::model::congestion::congestion_text;
use crate::model::errno::Errno;
use crate::model::memory::SocketMemory;
use crate::model::option::{
    Access, OptionSpec, OptionType, OptionValue, PATH_MTU_WORDS, port_range, timestamping_flags, timestamping_text,
};
use crate::model::tcp::{TcpInfo, TcpState};
use crate::model::view::AcceptQueue;
use crate::sys::interface;

/// `struct linger`.
const LINGER_SIZE: usize = 2 * size_of::<c_int>();
/// linux/tcp.h: TCP_CA_NAME_MAX.
const CONGESTION_NAME: usize = 16;
/// `struct ip_mreqn`: two addresses and an index.
const MREQN_SIZE: usize = 12;

/// Sets an option to a value of its type.
pub(super) fn set(socket: impl AsFd, spec: &OptionSpec, value: &OptionValue) -> Result<(), Errno> {
    match (spec.kind, value) {
        (OptionType::Linger, OptionValue::Enabled(_)) => set_bytes(socket, spec, &linger(0, 0)),
        (OptionType::Linger, OptionValue::Time(time)) => set_bytes(socket, spec, &linger(1, units(spec, *time)?)),
        (OptionType::InterfaceName | OptionType::Text, OptionValue::Text(name)) => {
            set_bytes(socket, spec, name.as_bytes())
        }
        (OptionType::PathMtu, OptionValue::Text(word)) => {
            let number = PATH_MTU_WORDS.iter().position(|known| **known == **word).ok_or(Errno::EINVAL)?;
            set_bytes(socket, spec, &c_int::try_from(number).map_err(|_| Errno::EINVAL)?.to_ne_bytes())
        }
        (OptionType::Timestamping, OptionValue::Text(text)) => {
            set_bytes(socket, spec, &timestamping_flags(text).ok_or(Errno::EINVAL)?.to_ne_bytes())
        }
        (OptionType::PortRange, OptionValue::Text(text)) => {
            let (low, high) = port_range(text).ok_or(Errno::EINVAL)?;
            set_bytes(socket, spec, &(u32::from(low) | u32::from(high) << 16).to_ne_bytes())
        }
        (OptionType::InterfaceIndex, OptionValue::Text(name)) => {
            set_bytes(socket, spec, &index_or_none(name)?.to_ne_bytes())
        }
        (OptionType::MulticastInterface, OptionValue::Text(name)) => {
            let mut request = [0; MREQN_SIZE];
            request[8..].copy_from_slice(&index_or_none(name)?.to_ne_bytes());
            set_bytes(socket, spec, &request)
        }
        (_, OptionValue::Enabled(on)) => set_bytes(socket, spec, &c_int::from(*on).to_ne_bytes()),
        (_, OptionValue::Number(number)) => set_bytes(socket, spec, &number.to_ne_bytes()),
        (_, OptionValue::Time(time)) => set_bytes(socket, spec, &units(spec, *time)?.to_ne_bytes()),
        (_, OptionValue::Text(_)) => Err(Errno::EINVAL),
    }
}

/// Reads an option as the kernel has it; absent where the kernel does not tell.
pub fn get(socket: impl AsFd, spec: &OptionSpec) -> Result<Option<OptionValue>, Errno> {
    if spec.access == Access::WriteOnly {
        return Ok(None);
    }
    let mut buffer = [0_u8; 64];
    // SO_NETNS_COOKIE wants the very length.
    let room = if spec.kind == OptionType::Cookie { size_of::<u64>() } else { buffer.len() };
    let value = get_bytes(&socket, spec, &mut buffer[..room])?;
    let int = |at: usize| -> Result<c_int, Errno> {
        let bytes = value.get(at..at + size_of::<c_int>()).and_then(|b| b.try_into().ok());
        bytes.map(c_int::from_ne_bytes).ok_or(Errno::EINVAL)
    };
    Ok(Some(match spec.kind {
        OptionType::Enabled => OptionValue::Enabled(int(0)? != 0),
        OptionType::Number => OptionValue::Number(int(0)?),
        OptionType::Seconds | OptionType::Milliseconds | OptionType::Microseconds => time(spec, int(0)?),
        OptionType::Linger if int(0)? == 0 => OptionValue::Enabled(false),
        OptionType::Linger => time(spec, int(4)?),
        OptionType::PathMtu => {
            let word = usize::try_from(int(0)?).ok().and_then(|number| PATH_MTU_WORDS.get(number));
            OptionValue::Text((*word.ok_or(Errno::EINVAL)?).into())
        }
        OptionType::Timestamping => OptionValue::Text(timestamping_text(int(0)?.cast_unsigned()).into()),
        OptionType::CongestionInfo => {
            let mut name = [0; CONGESTION_NAME];
            let length = get_raw(&socket, libc::IPPROTO_TCP, libc::TCP_CONGESTION, &mut name)?;
            let name = name[..length].split(|byte| *byte == 0).next().unwrap_or_default();
            OptionValue::Text(congestion_text(&String::from_utf8_lossy(name), value).into())
        }
        OptionType::PortRange => {
            let (low, high) = (int(0)? & 0xffff, int(0)? >> 16 & 0xffff);
            OptionValue::Text(if (low, high) == (0, 0) { "".into() } else { format!("{low}-{high}").into() })
        }
        OptionType::InterfaceName | OptionType::Text => {
            let name = value.split(|byte| *byte == 0).next().unwrap_or_default();
            OptionValue::Text(String::from_utf8_lossy(name).into())
        }
        OptionType::Cookie => {
            let cookie = value.try_into().map(u64::from_ne_bytes).map_err(|_| Errno::EINVAL)?;
            OptionValue::Text(format!("{cookie:x}").into())
        }
        OptionType::InterfaceIndex => match u32::try_from(int(0)?) {
            Ok(0) | Err(_) => OptionValue::Text("".into()),
            Ok(index) => OptionValue::Text((&*interface::name_of(socket, index)?).into()),
        },
        OptionType::MulticastInterface => return Ok(None),
    }))
}

/// The kernel's TCP state. tcp(7): TCP_INFO, whose first byte it is.
pub fn tcp_state(socket: impl AsFd) -> Option<TcpState> {
    let mut state = [0_u8; 1];
    get_raw(&socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut state).ok()?;
    TcpState::from_number(state[0])
}

/// What the kernel knows of a connection. tcp(7): TCP_INFO.
pub(super) fn tcp_info(socket: impl AsFd) -> Result<TcpInfo, Errno> {
    // Room for what later kernels add, too.
    let mut info = [0_u8; 512];
    let size = get_raw(&socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info)?;
    Ok(TcpInfo::parse(&info[..size]))
}

/// The index of the interface that it is bound to; zero: to none. socket(7): SO_BINDTOIFINDEX.
pub(super) fn bound_interface(socket: impl AsFd) -> u32 {
    let mut index = [0; size_of::<c_int>()];
    match get_raw(&socket, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, &mut index) {
        Ok(_) => u32::from_ne_bytes(index),
        Err(_) => 0,
    }
}

/// A TCP socket in short. tcp(7): TCP_INFO.
pub(super) struct TcpGlance {
    pub(super) state: Option<TcpState>,
    /// Of a listener: TCP_INFO tells it in two fields that mean something else of a connection.
    pub(super) accept_queue: Option<AcceptQueue>,
    /// The peer has acknowledged all that was written, so that SIOCOUTQ would say zero. Only of a connection that is not at its end: what an
    /// end leaves behind is not in these fields.
    pub(super) all_acknowledged: bool,
}

/// Reads no more of TCP_INFO than it takes.
pub(super) fn tcp_glance(socket: impl AsFd) -> Option<TcpGlance> {
    const UNACKED: usize = 24;
    const SACKED: usize = 28;
    const NOTSENT_BYTES: usize = 144;
    let mut info = [0_u8; NOTSENT_BYTES + 4];
    let length = get_raw(&socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info).ok()?;
    let field = |at: usize| Some(u32::from_ne_bytes(info[..length].get(at..at + 4)?.try_into().ok()?));
    let state = TcpState::from_number(info[0]);
    let queue = field(UNACKED).zip(field(SACKED)).filter(|_| state == Some(TcpState::Listen));
    let is_open = matches!(state, Some(TcpState::Established | TcpState::CloseWait));
    Some(TcpGlance {
        state,
        accept_queue: queue.map(|(length, limit)| AcceptQueue { length, limit }),
        all_acknowledged: is_open && field(UNACKED) == Some(0) && field(NOTSENT_BYTES) == Some(0),
    })
}

/// How many bytes the kernel holds that were not acknowledged (TCP) or not sent (UDP) yet. tcp(7), udp(7): SIOCOUTQ.
pub(super) fn unsent(socket: impl AsFd) -> u32 {
    #[allow(clippy::cast_possible_truncation, reason = "the number fits; its type differs between C libraries")]
    const SIOCOUTQ: rustix::ioctl::Opcode = libc::TIOCOUTQ as rustix::ioctl::Opcode;
    // SAFETY: SIOCOUTQ writes one int, which is what this getter has room for.
    let answer = unsafe { rustix::ioctl::ioctl(socket, rustix::ioctl::Getter::<SIOCOUTQ, c_int>::new()) };
    answer.ok().and_then(|bytes| bytes.try_into().ok()).unwrap_or(0)
}

/// Whether reading has come to the urgent byte. sockatmark(3): SIOCATMARK.
pub fn at_mark(socket: impl AsFd) -> bool {
    const SIOCATMARK: rustix::ioctl::Opcode = 0x8905;
    // SAFETY: SIOCATMARK writes one int, which is what this getter has room for.
    let answer = unsafe { rustix::ioctl::ioctl(socket, rustix::ioctl::Getter::<SIOCATMARK, c_int>::new()) };
    answer.is_ok_and(|at| at != 0)
}

/// Whether ICMP messages are kept in the error queue. ip(7), ipv6(7).
pub(super) fn hears_icmp(socket: impl AsFd) -> bool {
    let on = |level, number| {
        let mut value = [0; size_of::<c_int>()];
        get_raw(&socket, level, number, &mut value).is_ok() && c_int::from_ne_bytes(value) != 0
    };
    on(libc::IPPROTO_IP, libc::IP_RECVERR) || on(libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
}

/// Whether times at which datagrams were sent are kept in the error queue. Documentation/networking/timestamping.rst.
pub(super) fn stamps_sends(socket: impl AsFd) -> bool {
    let mut flags = [0; size_of::<u32>()];
    let told = get_raw(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, &mut flags);
    told.is_ok() && u32::from_ne_bytes(flags) & timestamping_flags("tx_software,tx_sched").unwrap_or(0) != 0
}

/// How many bytes a packet of a connected socket may have; absent while it is not connected. ip(7), ipv6(7).
pub(super) fn path_mtu(socket: impl AsFd) -> Option<u32> {
    let read = |level, number| {
        let mut value = [0; size_of::<c_int>()];
        get_raw(&socket, level, number, &mut value).ok()?;
        u32::try_from(c_int::from_ne_bytes(value)).ok()
    };
    read(libc::IPPROTO_IPV6, libc::IPV6_MTU).or_else(|| read(libc::IPPROTO_IP, libc::IP_MTU))
}

/// What the kernel holds in memory for a socket. socket(7): SO_MEMINFO, Linux 4.12.
pub(super) fn memory(socket: impl AsFd) -> Option<SocketMemory> {
    /// Up to SK_MEMINFO_DROPS, linux/sock_diag.h.
    const FIGURES: usize = 9;
    let mut bytes = [0_u8; FIGURES * size_of::<u32>()];
    let length = get_raw(&socket, libc::SOL_SOCKET, libc::SO_MEMINFO, &mut bytes).ok()?;
    let (words, _) = bytes[..length].as_chunks();
    let words: [[u8; size_of::<u32>()]; FIGURES] = words.try_into().ok()?;
    let [received, receive_limit, in_flight, send_limit, reserved, queued, options, backlog, dropped] =
        words.map(u32::from_ne_bytes);
    Some(SocketMemory { received, receive_limit, in_flight, send_limit, reserved, queued, options, backlog, dropped })
}

/// Lets bind(2) with port 0 leave the port to connect(2). ip(7).
pub(super) fn bind_address_no_port(socket: impl AsFd) -> Result<(), Errno> {
    set_raw(&socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, &1_i32.to_ne_bytes())
}

/// How many of the option's units a time is.
fn units(spec: &OptionSpec, time: Duration) -> Result<c_int, Errno> {
    let unit = spec.kind.unit().ok_or(Errno::EINVAL)?;
    c_int::try_from(time.as_nanos() / unit.as_nanos()).map_err(|_| Errno::EINVAL)
}

/// A time out of so many of the option's units.
fn time(spec: &OptionSpec, units: c_int) -> OptionValue {
    let unit = spec.kind.unit().unwrap_or_default();
    OptionValue::Time(unit.saturating_mul(u32::try_from(units).unwrap_or(0)))
}

fn linger(on: c_int, seconds: c_int) -> [u8; LINGER_SIZE] {
    let mut value = [0; LINGER_SIZE];
    value[..4].copy_from_slice(&on.to_ne_bytes());
    value[4..].copy_from_slice(&seconds.to_ne_bytes());
    value
}

fn index_or_none(name: &str) -> Result<u32, Errno> {
    if name.is_empty() { Ok(0) } else { interface::index_of(name) }
}

fn set_bytes(socket: impl AsFd, spec: &OptionSpec, value: &[u8]) -> Result<(), Errno> {
    set_raw(&socket, spec.level, spec.number, value)
}

pub(super) fn set_raw(socket: &impl AsFd, level: c_int, number: c_int, value: &[u8]) -> Result<(), Errno> {
    let length = libc::socklen_t::try_from(value.len()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the descriptor is open while it is borrowed, and the kernel reads no more than `length` bytes from `value`.
    let answer = unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, number, value.as_ptr().cast(), length) };
    if answer == 0 { Ok(()) } else { Err(last_errno()) }
}

fn get_bytes<'a>(socket: &impl AsFd, spec: &OptionSpec, buffer: &'a mut [u8]) -> Result<&'a [u8], Errno> {
    let length = get_raw(socket, spec.level, spec.number, buffer)?;
    Ok(&buffer[..length])
}

/// Reads an option into a buffer, which some options read from, too, and tells how long it is.
pub(super) fn get_raw(socket: &impl AsFd, level: c_int, number: c_int, buffer: &mut [u8]) -> Result<usize, Errno> {
    let mut length = libc::socklen_t::try_from(buffer.len()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the descriptor is open while it is borrowed, and the kernel writes no more than `length` bytes to `buffer`.
    let answer = unsafe {
        libc::getsockopt(socket.as_fd().as_raw_fd(), level, number, buffer.as_mut_ptr().cast(), &raw mut length)
    };
    if answer == 0 { Ok((length as usize).min(buffer.len())) } else { Err(last_errno()) }
}

fn last_errno() -> Errno {
    Errno::new(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}
