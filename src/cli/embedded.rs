//! Agents within this process, each with a loopback address of its own, for exercises that name no other ones.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, AgentConfig};
use crate::client::{AgentClient, Credentials, Dialer};
use crate::sys::clock::SystemClock;

/// How many hosts a block of loopback addresses holds: 127.0.N.2 to 127.0.N.254.
const BLOCK: u8 = 253;

/// Loopback addresses that no other run on this machine uses at the same time: as many blocks of them as its hosts need.
#[derive(Default)]
pub(super) struct Loopback {
    blocks: Vec<Block>,
    /// How many hosts have an address.
    hosts: usize,
}

impl Loopback {
    /// An address for one more host.
    fn next(&mut self) -> io::Result<Ipv4Addr> {
        let last = self.hosts % usize::from(BLOCK);
        if last == 0 {
            self.blocks.push(Block::take()?);
        }
        self.hosts += 1;
        let number = self.blocks.last().map_or(0, |block| block.number);
        Ok(Ipv4Addr::new(127, 0, number, u8::try_from(last + 2).unwrap_or(u8::MAX)))
    }
}

/// The addresses 127.0.N.2 to 127.0.N.254.
struct Block {
    number: u8,
    /// Holds the block: the name is free again when this is closed, however the process ends.
    _lock: UnixListener,
}

impl Block {
    /// Takes the first block that is free.
    fn take() -> io::Result<Self> {
        for number in 0..=u8::MAX {
            let name = SocketAddr::from_abstract_name(format!("farsock-loopback-{number}"))?;
            match UnixListener::bind_addr(&name) {
                Ok(lock) => return Ok(Self { number, _lock: lock }),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "all blocks of loopback addresses are in use"))
    }
}

/// Agents that run within this process.
pub(super) struct Embedded {
    agents: JoinSet<()>,
    stop: CancellationToken,
    loopback: Loopback,
    clock: SystemClock,
}

impl Embedded {
    pub(super) fn new() -> Self {
        Self {
            agents: JoinSet::new(),
            stop: CancellationToken::new(),
            loopback: Loopback::default(),
            clock: SystemClock::start(),
        }
    }

    /// The clock of them all.
    pub(super) const fn clock(&self) -> SystemClock {
        self.clock
    }

    /// Starts an agent, and answers where it is and what calls it.
    pub(super) async fn start(&mut self) -> Result<(String, AgentClient), String> {
        let address = self.loopback.next().map_err(|error| {
            format!("no loopback addresses: {error}: give some hosts agents of their own by --host ROLE=ADDRESS")
        })?;
        let config = AgentConfig {
            lab_ipv4: Some(address),
            lab_ipv6: Some(Ipv6Addr::LOCALHOST),
            clock: Some(Arc::new(self.clock)),
            ..AgentConfig::default()
        };
        let agent = Agent::bind(config).await.map_err(|error| error.to_string())?;
        let connector = agent.connector();
        let dialer = Dialer::from_fn(move || {
            let connector = connector.clone();
            async move { connector.connect().await }
        });
        let stop = self.stop.clone();
        self.agents.spawn(agent.serve(stop.cancelled_owned(), CancellationToken::new()));
        Ok(("embedded".to_owned(), AgentClient::new(&dialer, &Credentials::none())))
    }

    /// Stops them all, in good order.
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        while self.agents.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_host_has_an_address_of_its_own_and_other_runs_have_other_ones() {
        let (mut one, mut other) = (Loopback::default(), Loopback::default());
        let addresses: HashSet<Ipv4Addr> =
            (0..300).flat_map(|_| [one.next().unwrap(), other.next().unwrap()]).collect();
        assert_eq!(addresses.len(), 600);
        assert!(addresses.iter().all(|address| address.is_loopback() && (2..=254).contains(&address.octets()[3])));
        assert_eq!((one.blocks.len(), other.blocks.len()), (2, 2));
    }
}
