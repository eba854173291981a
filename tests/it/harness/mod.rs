//! Agents within the test's own process or in processes of their own, and the short words in which tests talk to them.

mod agent;
mod calls;
mod certificates;
mod clock;
pub mod controller;
mod datagrams;
pub mod frames;
mod groups;
mod names;
mod namespace;
mod peer;
mod process;
mod proxy;
mod relay;
mod requests;
mod resolver;
mod skip;
pub mod sshd;
pub mod tcp;
mod terminal;
pub mod transfer;

pub use agent::{Agent, Refused, error_name, text};
pub use calls::{Watcher, detached, filter, millis, named, nanos, patient, response};
pub use certificates::{Certificates, DAY, identity, tls_channel, tls_channel_with, tls_client};
pub use clock::HandClock;
pub use datagrams::{UdpPeer, any_port, datagram};
pub use groups::{group, told};
pub use names::{Gate, Names};
pub use namespace::{Lab, Namespace};
pub use peer::{DeadPort, LOOPBACKS, TcpPeer, within};
pub use process::{
    AgentProcess, QUESTION, Ran, Running, farsock, farsock_in, farsock_lies_in, farsock_on_terminal, farsock_under,
    farsock_with_descriptors, long, memory_channel, run, run_farsock, tcp_channel, with_token,
};
pub use proxy::{Fault, Proxy};
pub use relay::{Mishap, Relay};
pub use requests::{AnyRequest, changes};
pub use resolver::{SilentResolver, SmallResolver};
pub use skip::{is_root, needs_root, skipped};
pub use terminal::Terminal;
