//! What the kernel knows of a TCP connection.

use crate::model::tcp::{TcpInfo, TcpState};
use crate::wire::{call, pb};

impl From<TcpState> for pb::TcpState {
    fn from(state: TcpState) -> Self {
        match state {
            TcpState::Established => Self::Established,
            TcpState::SynSent => Self::SynSent,
            TcpState::SynReceived => Self::SynReceived,
            TcpState::FinWait1 => Self::FinWait1,
            TcpState::FinWait2 => Self::FinWait2,
            TcpState::TimeWait => Self::TimeWait,
            TcpState::Closed => Self::Closed,
            TcpState::CloseWait => Self::CloseWait,
            TcpState::LastAck => Self::LastAck,
            TcpState::Listen => Self::Listen,
            TcpState::Closing => Self::Closing,
        }
    }
}

/// A state that an agent sent.
pub(super) fn read_state(sent: pb::TcpState) -> Option<TcpState> {
    match sent {
        pb::TcpState::Unspecified => None,
        pb::TcpState::Established => Some(TcpState::Established),
        pb::TcpState::SynSent => Some(TcpState::SynSent),
        pb::TcpState::SynReceived => Some(TcpState::SynReceived),
        pb::TcpState::FinWait1 => Some(TcpState::FinWait1),
        pb::TcpState::FinWait2 => Some(TcpState::FinWait2),
        pb::TcpState::TimeWait => Some(TcpState::TimeWait),
        pb::TcpState::Closed => Some(TcpState::Closed),
        pb::TcpState::CloseWait => Some(TcpState::CloseWait),
        pb::TcpState::LastAck => Some(TcpState::LastAck),
        pb::TcpState::Listen => Some(TcpState::Listen),
        pb::TcpState::Closing => Some(TcpState::Closing),
    }
}

macro_rules! tcp_info {
    (plain: $($plain:ident)*; times: $($time:ident)*) => {
        impl From<&TcpInfo> for pb::TcpInfo {
            fn from(info: &TcpInfo) -> Self {
                Self { $($plain: info.$plain,)* $($time: info.$time.map(call::span),)* }
            }
        }

        /// What an agent sent.
        pub fn read_info(sent: &pb::TcpInfo) -> TcpInfo {
            TcpInfo {
                $($plain: sent.$plain,)*
                $($time: sent.$time.as_ref().map(|time| call::read_span(Some(time))),)*
            }
        }
    };
}

tcp_info! {
    plain:
        retransmits probes backoff send_window_scale receive_window_scale send_mss receive_mss unacked sacked lost
        retransmitted path_mtu slow_start_threshold congestion_window advertised_mss reordering receive_space
        total_retransmits pacing_rate bytes_acked bytes_received segments_sent segments_received unsent_bytes
        data_segments_received data_segments_sent delivery_rate delivered delivered_ce bytes_sent bytes_retransmitted
        duplicates reorder_seen out_of_order send_window receive_window
    ;
    times:
        retransmission_timeout ack_timeout since_data_sent since_data_received since_ack_received round_trip_time
        round_trip_variance least_round_trip_time busy_time window_limited_time buffer_limited_time
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_knows_is_read_as_it_was_sent() {
        // Of each eight bytes the last three are zero: so that no time is longer than one that an agent would send.
        let bytes: Vec<u8> = (0..=255).map(|at| if at % 8 < 5 { at } else { 0 }).collect();
        let info = TcpInfo::parse(&bytes);
        assert_eq!(read_info(&pb::TcpInfo::from(&info)), info);
        assert_eq!(read_info(&pb::TcpInfo::default()), TcpInfo::default());
    }
}
