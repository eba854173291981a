//! farsock

pub mod model;
