//! farsock opens sockets on far machines: an agent on each lab host creates, binds, connects and closes real TCP and UDP sockets for a
//! controller, over gRPC, and tells everything that happens to them as numbered events.
//!
//! # Layout
//!
//! A module imports only from floors below its own, and siblings do not know each other; `tests/it/floors.rs` is the judge. The tower of
//! the agent and that of the controller meet only in [`cli`], and in the tests.
//!
//! ```text
//! floor 6                             cli
//! floor 5             agent
//! floor 4             service                     controller
//! floor 2        socket    host                   client
//! floor 1    eventlog  session  sys      wire     exercise   pki
//! floor 0                            model
//! ```
//!
//! Start reading at [`model::event`] (what can happen), go on with [`socket`] (how it comes to happen) and [`wire`] (how it is told); the
//! protocol itself, with every limit and default, stands in `proto/farsock/v1/`.

pub mod model;

pub mod eventlog;
pub mod exercise;
pub mod pki;
pub mod session;
pub mod sys;
pub mod wire;

pub mod client;
pub mod host;
pub mod socket;

pub mod controller;
pub mod service;

pub mod agent;

pub mod cli;
