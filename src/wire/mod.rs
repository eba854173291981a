//! Protobuf ↔ model, and the only place that decides what becomes which RPC status.
//!
//! Pure. What comes in is checked here, field by field, before anything is done with it: a request that has passed is one that an agent
//! can carry out or refuse for a reason of its own. What goes out is converted exhaustively.

pub mod address;
pub mod agent;
pub mod answer;
pub mod asking;
pub mod call;
mod create;
pub mod delivery;
mod endpoint;
pub mod event;
mod field;
pub mod glance;
pub mod group;
mod holder;
mod interface;
pub mod json;
pub mod option;
pub mod outgoing;
pub mod payload;
mod probe;
pub mod request;
pub mod response;
pub mod scope;
pub mod session;
pub mod socket;
pub mod source_filter;
pub mod status;
pub mod tcp;
pub mod transfer;
pub mod unknown;
mod verify;
pub mod watch;

/// The generated messages, clients and servers of `farsock.v1`.
#[allow(missing_docs, unreachable_pub, unused_qualifications, elided_lifetimes_in_paths, reason = "generated code")]
#[allow(clippy::all, clippy::restriction, clippy::nursery, reason = "generated code")]
pub mod pb {
    tonic::include_proto!("farsock.v1");
}

/// `farsock.v1` and everything that it imports, with all comments: what reflection serves.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/farsock.v1.binpb"));

/// A field of a message that is an enum: its value, if it has one of ours.
fn known<E: TryFrom<i32>>(field: &str, number: i32) -> Result<E, crate::model::refusal::Violation> {
    E::try_from(number).map_err(|_| {
        crate::model::refusal::Violation::new(
            field,
            format!("{number} is no value of this enum; `describe` lists them"),
        )
    })
}
