//! Agents within this process, each with a loopback address of its own, for exercises that name no other ones.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, AgentConfig};
use crate::client::{AgentClient, Credentials, Dialer};

/// How many hosts a block of loopback addresses holds: 127.0.N.2 to 127.0.N.254.
const BLOCK: usize = 253;

/// Loopback addresses that no other run on this machine uses at the same time.
pub(super) struct LoopbackBlock {
    number: u8,
    /// Holds the block: the name is free again when this is closed, however the process ends.
    _lock: UnixListener,
}

impl LoopbackBlock {
    /// Takes the first block that is free.
    pub(super) fn take() -> io::Result<Self> {
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

    fn address(&self, host: usize) -> Option<Ipv4Addr> {
        let last = u8::try_from(host + 2).ok()?;
        (host < BLOCK).then(|| Ipv4Addr::new(127, 0, self.number, last))
    }
}

/// Agents that run within this process.
pub(super) struct Embedded {
    agents: JoinSet<()>,
    stop: CancellationToken,
}

impl Embedded {
    pub(super) fn new() -> Self {
        Self { agents: JoinSet::new(), stop: CancellationToken::new() }
    }

    /// Starts an agent, and answers where it is and what calls it.
    pub(super) async fn start(&mut self, block: &LoopbackBlock, host: usize) -> Result<(String, AgentClient), String> {
        let address = block.address(host).ok_or_else(|| {
            format!("embedded agents have {BLOCK} loopback addresses: give some hosts agents of their own by --host ROLE=ADDRESS")
        })?;
        let config =
            AgentConfig { lab_ipv4: Some(address), lab_ipv6: Some(Ipv6Addr::LOCALHOST), ..AgentConfig::default() };
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
