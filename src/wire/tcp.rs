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

impl From<&TcpInfo> for pb::TcpInfo {
    fn from(info: &TcpInfo) -> Self {
        Self {
            retransmits: info.retransmits,
            probes: info.probes,
            backoff: info.backoff,
            send_window_scale: info.send_window_scale,
            receive_window_scale: info.receive_window_scale,
            retransmission_timeout: info.retransmission_timeout.map(call::span),
            ack_timeout: info.ack_timeout.map(call::span),
            send_mss: info.send_mss,
            receive_mss: info.receive_mss,
            unacked: info.unacked,
            sacked: info.sacked,
            lost: info.lost,
            retransmitted: info.retransmitted,
            since_data_sent: info.since_data_sent.map(call::span),
            since_data_received: info.since_data_received.map(call::span),
            since_ack_received: info.since_ack_received.map(call::span),
            path_mtu: info.path_mtu,
            round_trip_time: info.round_trip_time.map(call::span),
            round_trip_variance: info.round_trip_variance.map(call::span),
            slow_start_threshold: info.slow_start_threshold,
            congestion_window: info.congestion_window,
            advertised_mss: info.advertised_mss,
            reordering: info.reordering,
            receive_space: info.receive_space,
            total_retransmits: info.total_retransmits,
            pacing_rate: info.pacing_rate,
            bytes_acked: info.bytes_acked,
            bytes_received: info.bytes_received,
            segments_sent: info.segments_sent,
            segments_received: info.segments_received,
            unsent_bytes: info.unsent_bytes,
            least_round_trip_time: info.least_round_trip_time.map(call::span),
            data_segments_received: info.data_segments_received,
            data_segments_sent: info.data_segments_sent,
            delivery_rate: info.delivery_rate,
            busy_time: info.busy_time.map(call::span),
            window_limited_time: info.window_limited_time.map(call::span),
            buffer_limited_time: info.buffer_limited_time.map(call::span),
            delivered: info.delivered,
            delivered_ce: info.delivered_ce,
            bytes_sent: info.bytes_sent,
            bytes_retransmitted: info.bytes_retransmitted,
            duplicates: info.duplicates,
            reorder_seen: info.reorder_seen,
            out_of_order: info.out_of_order,
            send_window: info.send_window,
            receive_window: info.receive_window,
        }
    }
}
