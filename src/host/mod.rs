//! The machine that an agent runs on: its names, interfaces, routes and counters.
//!
//! Functions here may block for a moment, or, where names are looked up, for long: callers run them on a thread that may.

pub mod counters;
pub mod monitor;
pub mod network;
pub mod resolver;
mod resolver_files;
