//! The vocabulary that every other module speaks: ids, addresses, options, states, events, errors, limits, time.
//!
//! Pure: nothing here asks a clock, a socket, a file or a task. What the operating system knows comes in as an argument or behind a
//! trait ([`time::Clock`], [`lookup::Resolver`]).

pub mod address;
pub mod audit;
pub mod bulk;
pub mod capability;
pub mod congestion;
pub mod delivery;
pub mod encoding;
pub mod endpoint;
pub mod errno;
pub mod error;
pub mod event;
pub mod feature;
pub mod group;
pub mod holder;
pub mod host;
pub mod id;
pub mod labels;
pub mod limits;
pub mod lookup;
pub mod memory;
pub mod mistake;
pub mod operation;
pub mod option;
pub mod option_table;
pub mod own_deed;
pub mod payload;
pub mod peers;
pub mod placeholder;
pub mod policy;
pub mod probe;
pub mod refusal;
pub mod session;
pub mod socket;
pub mod source_filter;
pub mod spec;
mod syntax;
pub mod tcp;
pub mod time;
pub mod transfer;
pub mod verify;
pub mod view;
pub mod yaml;
