//! farsock

pub mod eventlog;
pub mod model;
pub mod session;
pub mod sys;
