//! The Rust client library: model types in, model types out.
//!
//! [`AgentClient::call`] takes the very action that an agent carries out, and answers the very outcome; what lies in between is
//! [`crate::wire`]'s business. A [`Session`] holds a session of the agent's, by renewing its lease. [`FarStream`] and [`FarListener`] are what tokio's `TcpStream` and `TcpListener` are for this host.

mod acks;
mod agent_client;
mod bulk;
mod connect;
mod door;
mod error;
mod greeting;
mod lease;
mod listener;
mod outflow;
mod place;
mod retry;
mod session;
mod ssh;
mod stream;
mod tls;
mod watch;

pub use crate::client::agent_client::{AgentClient, AgentInfo, ClockReading, Lookup, LookupAnswer, ParsedAddress};
pub use crate::client::connect::{Dialer, Duplex};
pub use crate::client::door::{Credentials, Door};
pub use crate::client::error::ClientError;
pub use crate::client::lease::LeaseLoss;
pub use crate::client::listener::FarListener;
pub use crate::client::place::{Backoff, Place, Question, Verdict};
pub use crate::client::session::Session;
pub use crate::client::ssh::Ssh;
pub use crate::client::stream::FarStream;
pub use crate::client::watch::{Watch, WatchItem};
pub use crate::model::endpoint::Endpoint;
