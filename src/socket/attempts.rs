//! Connecting to whoever has several addresses, or is not there yet: one attempt after the other.

use std::collections::VecDeque;
use std::net::SocketAddr;

use tokio::time::{Instant, sleep_until};

use crate::model::address::{AddressText, Transport};
use crate::model::errno::Errno;
use crate::model::error::{Cause, SocketError};
use crate::model::id::SocketId;
use crate::model::operation::Operation;
use crate::model::peers::Peers;
use crate::model::refusal::Refusal;
use crate::model::spec::{Attempts, Retry};
use crate::socket::cell::Cell;
use crate::socket::command::{Done, Order};
use crate::socket::lookup::Purpose;
use crate::socket::perform::{Performed, Run, Stop, view};
use crate::socket::race::Entrants;

impl Run<'_> {
    pub(super) async fn connect(
        &mut self,
        cell: &Cell,
        remote: &AddressText,
        attempts: Attempts,
    ) -> Result<Performed, Refusal> {
        match self.connect_steps(cell, remote, attempts).await {
            Ok(done) => Ok(Performed::of(view(cell), done)),
            Err(stop) => Performed::stopped(stop, view(cell)),
        }
    }

    async fn connect_steps(&mut self, cell: &Cell, remote: &AddressText, attempts: Attempts) -> Result<Done, Stop> {
        let addresses = self.addresses(cell, remote, Purpose::Reach, "remote").await?;
        self.connect_one_of(cell, &addresses, attempts).await
    }

    /// Gives a socket its local address; again as long as somebody else has it, where that is wanted.
    pub(super) async fn bind_patiently(
        &mut self,
        cell: &Cell,
        local: SocketAddr,
        retry: Option<Retry>,
    ) -> Result<Done, Stop> {
        let mut tried = 0;
        loop {
            let stop = match self.step(cell, Order::Bind(local)).await {
                Ok(done) => return Ok(done),
                Err(stop) => stop,
            };
            tried += 1;
            let in_use = matches!(&stop, Stop::Failed(error) if error.errno() == Some(Errno::EADDRINUSE));
            match retry {
                Some(retry) if in_use && (retry.attempts == 0 || tried < retry.attempts) => {
                    self.patiently(Operation::Bind, sleep_until(Instant::now() + retry.interval)).await?;
                }
                _ => return Err(stop),
            }
        }
    }

    /// Tries all addresses, and does so again as long as it is wanted and makes sense.
    pub(super) async fn connect_one_of(
        &mut self,
        cell: &Cell,
        addresses: &[SocketAddr],
        attempts: Attempts,
    ) -> Result<Done, Stop> {
        let addresses = permitted(&cell.peers, addresses, Some(&cell.id))?;
        let addresses = self.allowed(cell.transport, &addresses)?;
        let mut tried = 0;
        loop {
            let connected = match attempts.delay {
                Some(delay) if cell.transport == Transport::Tcp && addresses.len() > 1 => {
                    let entrants = Entrants { addresses: in_turn(&addresses), delay, timeout: attempts.timeout };
                    self.step(cell, Order::Race(entrants)).await
                }
                _ => self.connect_in_order(cell, &addresses, attempts).await,
            };
            let stop = match connected {
                Ok(done) => return Ok(done),
                Err(stop) => stop,
            };
            tried += 1;
            match attempts.retry {
                Some(retry) if self.may_go_away(&stop) && (retry.attempts == 0 || tried < retry.attempts) => {
                    self.patiently(Operation::Connect, sleep_until(Instant::now() + retry.interval)).await?;
                }
                _ => return Err(stop),
            }
        }
    }

    /// Tries one address after the other, until one answers.
    async fn connect_in_order(
        &mut self,
        cell: &Cell,
        addresses: &[SocketAddr],
        attempts: Attempts,
    ) -> Result<Done, Stop> {
        let mut stopped = Stop::Refused(Refusal::Internal("a lookup without an address"));
        for (at, address) in addresses.iter().enumerate() {
            let deadline =
                attempts.timeout.map_or(self.deadline, |timeout| self.deadline.min(Instant::now() + timeout));
            let last = at + 1 == addresses.len();
            let goes_on = !last && deadline < self.deadline;
            let order = Order::Connect { remote: *address, last, goes_on };
            match self.order_by(cell, order, deadline).await?.or_stop() {
                Err(Stop::Failed(error)) if !self.handle.is_canceled() => stopped = Stop::Failed(error),
                Err(Stop::TimedOut) if goes_on => stopped = Stop::TimedOut,
                other => return other,
            }
        }
        Err(stopped)
    }

    /// Whether it may be different the next time, and there is a next time.
    fn may_go_away(&self, stop: &Stop) -> bool {
        let passing = match stop {
            Stop::Failed(error) => is_passing(error),
            Stop::TimedOut => true,
            Stop::Refused(_) => false,
        };
        passing && Instant::now() < self.deadline && !self.handle.is_canceled()
    }
}

/// The same addresses, of one IP version and the other in turn, beginning with that of the first: RFC 8305, section 4.
fn in_turn(addresses: &[SocketAddr]) -> VecDeque<SocketAddr> {
    let first = addresses.first().map(SocketAddr::is_ipv4);
    let (same, other): (Vec<_>, Vec<_>) = addresses.iter().copied().partition(|addr| Some(addr.is_ipv4()) == first);
    let (mut same, mut other) = (same.into_iter(), other.into_iter());
    let mut turns = VecDeque::with_capacity(addresses.len());
    while turns.len() < addresses.len() {
        turns.extend(same.next());
        turns.extend(other.next());
    }
    turns
}

/// The addresses that a socket has connections with.
pub(super) fn permitted(
    peers: &Peers,
    addresses: &[SocketAddr],
    socket: Option<&SocketId>,
) -> Result<Vec<SocketAddr>, Refusal> {
    let (good, bad): (Vec<_>, Vec<_>) =
        addresses.iter().copied().partition(|addr: &SocketAddr| peers.permits(addr.ip()));
    match bad.first() {
        Some(denied) if good.is_empty() => {
            Err(Refusal::AddressDenied { socket: socket.cloned(), address: denied.ip() })
        }
        _ => Ok(good),
    }
}

/// Whether the network has said it, and may say something else later.
fn is_passing(error: &SocketError) -> bool {
    matches!(
        error.cause,
        Cause::Errno(
            Errno::ECONNREFUSED
                | Errno::ECONNRESET
                | Errno::ETIMEDOUT
                | Errno::EHOSTUNREACH
                | Errno::ENETUNREACH
                | Errno::EHOSTDOWN
                | Errno::ENETDOWN
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_have_their_turn() {
        let turns = |addresses: &[&str]| {
            let addresses: Vec<SocketAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
            in_turn(&addresses).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(turns(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"]), "[::1]:1 1.1.1.1:1 [::2]:1 [::3]:1");
        assert_eq!(turns(&["1.1.1.1:1", "[::1]:1", "1.1.1.2:1"]), "1.1.1.1:1 [::1]:1 1.1.1.2:1");
        assert_eq!(turns(&["1.1.1.1:1", "1.1.1.2:1"]), "1.1.1.1:1 1.1.1.2:1");
        assert_eq!(turns(&[]), "");
    }
}
