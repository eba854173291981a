//! What the kernel knows of a TCP connection: its state by RFC 9293, and TCP_INFO.

use std::time::Duration;

/// The kernel's own state of a connection. RFC 9293, §3.3.2; the numbers are Linux's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "RFC 9293 is their documentation")]
pub enum TcpState {
    Established = 1,
    SynSent = 2,
    SynReceived = 3,
    FinWait1 = 4,
    FinWait2 = 5,
    TimeWait = 6,
    Closed = 7,
    CloseWait = 8,
    LastAck = 9,
    Listen = 10,
    Closing = 11,
}

impl TcpState {
    /// Every state.
    pub const ALL: [Self; 11] = [
        Self::Established,
        Self::SynSent,
        Self::SynReceived,
        Self::FinWait1,
        Self::FinWait2,
        Self::TimeWait,
        Self::Closed,
        Self::CloseWait,
        Self::LastAck,
        Self::Listen,
        Self::Closing,
    ];

    /// The state of this number. Linux has one more, for handshakes that nobody has been told of yet; it is SYN_RECEIVED, too.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            12 => Some(Self::SynReceived),
            _ => Self::ALL.into_iter().find(|state| *state as u8 == number),
        }
    }

    /// Its name in RFC 9293, with underscores.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN_SENT",
            Self::SynReceived => "SYN_RECEIVED",
            Self::FinWait1 => "FIN_WAIT_1",
            Self::FinWait2 => "FIN_WAIT_2",
            Self::TimeWait => "TIME_WAIT",
            Self::Closed => "CLOSED",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::Listen => "LISTEN",
            Self::Closing => "CLOSING",
        }
    }
}

/// What a field of TCP_INFO is.
trait Figure {
    const IS_NUMBER: bool;

    fn number(self) -> Option<u64>;
}

impl Figure for u32 {
    const IS_NUMBER: bool = true;

    fn number(self) -> Option<u64> {
        Some(self.into())
    }
}

impl Figure for u64 {
    const IS_NUMBER: bool = true;

    fn number(self) -> Option<u64> {
        Some(self)
    }
}

impl Figure for Duration {
    const IS_NUMBER: bool = false;

    fn number(self) -> Option<u64> {
        None
    }
}

macro_rules! tcp_info {
    ($($(#[$meta:meta])* $field:ident: $type:ty, $read:ident, $at:literal;)*) => {
        /// TCP_INFO as the kernel fills it in: a field that this kernel does not have is absent. tcp(7), linux/tcp.h.
        #[derive(Debug, Clone, PartialEq, Eq, Default)]
        pub struct TcpInfo {
            $($(#[$meta])* pub $field: Option<$type>,)*
        }

        impl TcpInfo {
            /// Reads a `struct tcp_info` of whatever length.
            pub fn parse(bytes: &[u8]) -> Self {
                Self { $($field: $read(bytes, $at),)* }
            }

            /// The fields that are numbers, by name.
            pub fn numbers() -> impl Iterator<Item = &'static str> + Clone {
                [$((stringify!($field), <$type as Figure>::IS_NUMBER)),*]
                    .into_iter()
                    .filter_map(|(name, is_number)| is_number.then_some(name))
            }

            /// A field that is a number, by name. Absent where this kernel does not have it.
            pub fn number(&self, name: &str) -> Option<u64> {
                match name {
                    $(stringify!($field) => self.$field.and_then(Figure::number),)*
                    _ => None,
                }
            }
        }
    };
}

tcp_info! {
    /// How often the same segment was sent again without an answer.
    retransmits: u32, byte, 2;
    /// How many probes of a closed window or of a silent peer have no answer.
    probes: u32, byte, 3;
    /// How often the timer has been doubled.
    backoff: u32, byte, 4;
    /// The peer's window scale, in bits.
    send_window_scale: u32, low_half, 6;
    /// Our window scale, in bits.
    receive_window_scale: u32, high_half, 6;
    /// How long to wait for an acknowledgement before sending again.
    retransmission_timeout: Duration, micros, 8;
    /// How long an acknowledgement may be delayed.
    ack_timeout: Duration, micros, 12;
    /// The largest segment that is sent, in bytes.
    send_mss: u32, word, 16;
    /// The largest segment that has come, in bytes.
    receive_mss: u32, word, 20;
    /// Segments that are not acknowledged; of a listener, connections that wait to be accepted.
    unacked: u32, word, 24;
    /// Segments that were acknowledged out of order; of a listener, its backlog.
    sacked: u32, word, 28;
    /// Segments that are taken for lost.
    lost: u32, word, 32;
    /// Segments that are sent again and not acknowledged.
    retransmitted: u32, word, 36;
    /// How long ago bytes were last sent.
    since_data_sent: Duration, millis, 44;
    /// How long ago bytes last came.
    since_data_received: Duration, millis, 52;
    /// How long ago an acknowledgement last came.
    since_ack_received: Duration, millis, 56;
    /// The path MTU, in bytes.
    path_mtu: u32, word, 60;
    /// The smoothed round-trip time.
    round_trip_time: Duration, micros, 68;
    /// How much the round-trip time varies.
    round_trip_variance: Duration, micros, 72;
    /// Where slow start ends, in segments.
    slow_start_threshold: u32, word, 76;
    /// The congestion window, in segments.
    congestion_window: u32, word, 80;
    /// The segment size that was announced, in bytes.
    advertised_mss: u32, word, 84;
    /// How far out of order segments may come without being taken for lost.
    reordering: u32, word, 88;
    /// The receive buffer's share for the window, in bytes.
    receive_space: u32, word, 96;
    /// Segments sent again since the beginning.
    total_retransmits: u32, word, 100;
    /// At which rate the kernel paces, in bytes a second.
    pacing_rate: u64, long, 104;
    /// Bytes that the peer has acknowledged.
    bytes_acked: u64, long, 120;
    /// Bytes that have come in order.
    bytes_received: u64, long, 128;
    /// Segments sent.
    segments_sent: u32, word, 136;
    /// Segments that have come.
    segments_received: u32, word, 140;
    /// Bytes that are not sent yet.
    unsent_bytes: u32, word, 144;
    /// The shortest round-trip time lately.
    least_round_trip_time: Duration, micros, 148;
    /// Segments with bytes that have come.
    data_segments_received: u32, word, 152;
    /// Segments with bytes sent.
    data_segments_sent: u32, word, 156;
    /// How fast bytes were delivered lately, in bytes a second.
    delivery_rate: u64, long, 160;
    /// How long there was something to send.
    busy_time: Duration, long_micros, 168;
    /// For how much of that the peer's window was closed.
    window_limited_time: Duration, long_micros, 176;
    /// For how much of that the send buffer was full.
    buffer_limited_time: Duration, long_micros, 184;
    /// Segments delivered.
    delivered: u32, word, 192;
    /// Segments delivered with a congestion mark.
    delivered_ce: u32, word, 196;
    /// Bytes sent, again ones included.
    bytes_sent: u64, long, 200;
    /// Bytes sent again.
    bytes_retransmitted: u64, long, 208;
    /// Segments that the peer says it has got twice.
    duplicates: u32, word, 216;
    /// Times that segments came out of order at the peer.
    reorder_seen: u32, word, 220;
    /// Segments that came out of order here.
    out_of_order: u32, word, 224;
    /// The peer's window, in bytes.
    send_window: u32, word, 228;
    /// Our window, in bytes.
    receive_window: u32, word, 232;
}

fn byte(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at).map(|byte| (*byte).into())
}

fn low_half(bytes: &[u8], at: usize) -> Option<u32> {
    byte(bytes, at).map(|byte| byte & 0xf)
}

fn high_half(bytes: &[u8], at: usize) -> Option<u32> {
    byte(bytes, at).map(|byte| byte >> 4)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes)
}

fn micros(bytes: &[u8], at: usize) -> Option<Duration> {
    word(bytes, at).map(|micros| Duration::from_micros(micros.into()))
}

fn millis(bytes: &[u8], at: usize) -> Option<Duration> {
    word(bytes, at).map(|millis| Duration::from_millis(millis.into()))
}

fn long_micros(bytes: &[u8], at: usize) -> Option<Duration> {
    long(bytes, at).map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn states_have_the_numbers_of_linux_and_the_names_of_the_rfc() {
        for state in TcpState::ALL {
            assert_eq!(TcpState::from_number(state as u8), Some(state));
        }
        assert_eq!(TcpState::from_number(12), Some(TcpState::SynReceived));
        assert_eq!((TcpState::from_number(0), TcpState::from_number(13)), (None, None));
        assert_eq!(TcpState::FinWait2.name(), "FIN_WAIT_2");
    }

    #[test]
    fn what_a_kernel_does_not_fill_in_is_absent() {
        let mut bytes = vec![0; 104];
        bytes[6] = 0x7a;
        bytes[68..72].copy_from_slice(&1500_u32.to_ne_bytes());
        let info = TcpInfo::parse(&bytes);
        assert_eq!((info.send_window_scale, info.receive_window_scale), (Some(10), Some(7)));
        assert_eq!(info.round_trip_time, Some(Duration::from_micros(1500)));
        assert_eq!((info.total_retransmits, info.pacing_rate, info.receive_window), (Some(0), None, None));
        assert_eq!(TcpInfo::parse(&[]), TcpInfo::default());
        assert_eq!((info.number("send_window_scale"), info.number("pacing_rate")), (Some(10), None));
        assert!(TcpInfo::numbers().all(|name| name != "round_trip_time") && info.number("round_trip_time").is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = TcpInfo::parse(&bytes);
        }
    }
}
