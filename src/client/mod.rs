//! The Rust client library: model types in, model types out.

mod endpoint;

pub use crate::client::endpoint::Endpoint;
