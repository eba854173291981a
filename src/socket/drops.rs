//! Datagrams that the kernel drops, counted from two sides.
//!
//! SO_RXQ_OVFL tells with a datagram how many had been dropped when it was queued: in its place among the others, but never of the last
//! ones. SO_MEMINFO tells how many there are now. Both read the same counter of the kernel.
//!
//! Invariant: each dropped datagram is told once, and nothing is told after `closed`.

use crate::model::address::Transport;
use crate::model::event::Event;
use crate::socket::cell::{Cell, lock};
use crate::sys::socket::Socket;

impl Cell {
    /// Tells of datagrams that nobody was told of yet, when the kernel has counted so many dropped ones.
    pub(super) fn tell_drops(&self, counted: u32) {
        // Held until the event is there: the driver and whoever asks for the socket may come here at the same time.
        let mut told = lock(&self.drops_told);
        let count = counted.wrapping_sub(*told);
        // A datagram that was queued before they were looked at last brings an older count.
        if count == 0 || count > u32::MAX / 2 {
            return;
        }
        *told = counted;
        let count = u64::from(count);
        let total = self.status().totals.datagrams_dropped + count;
        self.record(None, Event::DatagramsDropped { count, total });
    }

    /// Tells of all datagrams that have been dropped until now.
    pub(super) fn tell_latest_drops(&self, socket: &Socket) {
        if self.transport == Transport::Udp
            && let Some(counted) = socket.dropped()
        {
            self.tell_drops(counted);
        }
    }
}
