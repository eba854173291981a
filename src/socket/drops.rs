//! Datagrams that the kernel drops, counted from two sides.
//!
//! SO_RXQ_OVFL tells with a datagram how many had been dropped when it was queued: in its place among the others, but never of the last
//! ones. SO_MEMINFO tells how many there are now. Both read the same counter of the kernel.
//!
//! Invariant: each dropped datagram is told once, and nothing is told after `closed`.

use crate::model::address::Transport;
use crate::model::event::{Datagram, Event};
use crate::socket::cell::{Cell, lock};
use crate::sys::socket::Socket;

impl Cell {
    /// Tells of datagrams that nobody was told of yet, when the kernel has counted so many dropped ones.
    pub(super) fn tell_drops(&self, counted: u32) {
        // Held until the event is there: the driver and whoever asks for the socket may come here at the same time.
        let mut told = lock(&self.drops_told);
        if let Some(event) = self.new_drops(&mut told, counted) {
            self.record(None, event);
        }
    }

    /// Appends datagrams, all together, each behind the drops that the kernel has told with it.
    pub(super) fn record_datagrams(&self, datagrams: Vec<(Option<u32>, Datagram)>) {
        let mut told = lock(&self.drops_told);
        self.hub.append(|log| {
            for (counted, datagram) in datagrams {
                if let Some(event) = counted.and_then(|counted| self.new_drops(&mut told, counted)) {
                    self.record_in(log, None, event);
                }
                self.record_in(log, None, Event::DatagramReceived(Box::new(datagram)));
            }
        });
    }

    /// What is to be told of, when the kernel has counted so many and so many have been told.
    fn new_drops(&self, told: &mut u32, counted: u32) -> Option<Event> {
        let count = counted.wrapping_sub(*told);
        // A datagram that was queued before they were looked at last brings an older count.
        if count == 0 || count > u32::MAX / 2 {
            return None;
        }
        *told = counted;
        let count = u64::from(count);
        let total = self.status().totals.datagrams_dropped + count;
        Some(Event::DatagramsDropped { count, total })
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
