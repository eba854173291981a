//! Raw system calls, each with its man page, the allocator, and the only `unsafe` of the crate.
//!
//! Everything here is non-blocking unless it says otherwise, retries EINTR by itself, and answers with an
//! [`Errno`](crate::model::errno::Errno) that was taken on the thread that made the call. No `std::io::Error` leaves this module: what a
//! kernel says about a lab socket must never become an RPC status by accident.

#[cfg(feature = "mimalloc")]
pub mod allocator;
mod buffer;
pub mod burst;
pub mod clock;
pub mod control;
pub mod diag;
pub mod group;
pub mod interface;
pub mod link;
pub mod locality;
pub mod netlink;
pub mod option;
pub mod privilege;
pub mod process;
pub mod readiness;
pub mod socket;
