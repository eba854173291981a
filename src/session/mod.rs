//! Who owns what: sessions of principals, names of sockets, memory of operations.
//!
//! Pure state, generic over what it keeps: it knows no socket, no task and no clock.

pub mod calls;
pub mod names;
pub mod roster;
