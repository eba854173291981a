//! Who owns what: sessions of principals, names of sockets, memory of operations; and for how long: leases.
//!
//! Pure state, generic over what it keeps: it knows no socket, no task and no clock.

pub mod calls;
pub mod lease;
pub mod names;
pub mod roster;
