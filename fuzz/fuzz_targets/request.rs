//! Requests as anybody might send them: checked without a panic, and a refusal names a field on one line.
#![no_main]

use farsock::model::limits::{Defaults, Limits};
use farsock::model::refusal::Refusal;
use farsock::wire::pb;
use farsock::wire::request::Ask;
use farsock::wire::socket::Bounds;
use libfuzzer_sys::fuzz_target;
use prost::Message;

fn check<Q: Ask + Message + Default>(bytes: &[u8]) {
    let Ok(request) = Q::decode(bytes) else { return };
    let (limits, defaults) = (Limits::default(), Defaults::default());
    if let Err(violation) = request.check(Bounds { limits: &limits, defaults: &defaults }) {
        assert!(!Refusal::from(violation).to_string().contains('\n'));
    }
}

fuzz_target!(|input: (u8, &[u8])| {
    let (which, bytes) = input;
    match which % 8 {
        0 => check::<pb::CreateSocketRequest>(bytes),
        1 => check::<pb::SendDatagramsRequest>(bytes),
        2 => check::<pb::WriteSocketRequest>(bytes),
        3 => check::<pb::ReceiveSocketRequest>(bytes),
        4 => check::<pb::SetSocketOptionsRequest>(bytes),
        5 => check::<pb::CloseSocketRequest>(bytes),
        6 => check::<pb::ConnectSocketRequest>(bytes),
        _ => check::<pb::CreateSessionRequest>(bytes),
    }
});
