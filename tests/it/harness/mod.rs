//! Agents within the test's own process, and the short words in which tests talk to them.

mod agent;
mod peer;
pub mod tcp;

pub use agent::{Agent, Refused, text};
pub use peer::{LOOPBACKS, TcpPeer, within};
