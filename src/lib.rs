//! farsock

pub mod eventlog;
pub mod model;
pub mod session;
pub mod socket;
pub mod sys;
pub mod wire;
