//! Lab sockets: the only module that opens, drives and closes them.
//!
//! [`Sockets`] is the handle that services call. An operation runs in a task of its own (`calls`), which outlives the RPC that asked for
//! it and walks through its steps (`perform`); a step is an order to the socket's `driver`, which owns its descriptor and lives in a `task`.
//! What can be known of a socket without asking its driver stands in its `cell`.

mod attempts;
mod birth;
mod buffer;
mod bulk;
mod calls;
mod cell;
mod command;
mod create;
mod departure;
mod digest;
mod driver;
mod drops;
mod farewell;
mod flush;
mod gate;
mod group;
mod holder;
mod icmp;
mod link;
mod listener;
mod lookup;
mod orders;
mod perform;
mod permit;
mod pool;
mod race;
mod receive;
mod record;
mod room;
mod session;
mod sockets;
mod source_filter;
mod stream;
mod task;
mod tcp;
mod tcp_state;
mod tenure;
mod transfer;
mod udp;
mod usage;
mod vacancy;
mod watch;
mod write;

pub use gate::Gate;
pub use link::{Arriving, Inflow, Leaving, Outflow, Outlet, link};
pub use sockets::{Config, Sockets};
pub use transfer::{Claim, not_opened};
pub use usage::Refusals;
pub use vacancy::{Vacancy, Wish};
pub use watch::Watch;
