//! Answers and events as a strange agent might send them: the client reads them, or says that it cannot, without a panic.
#![no_main]

use farsock::wire::answer::ReadAnswer;
use farsock::wire::{event, pb, socket};
use libfuzzer_sys::fuzz_target;
use prost::Message;

fn read<A: ReadAnswer + Message + Default>(bytes: &[u8]) {
    if let Ok(answer) = A::decode(bytes) {
        let _ = answer.read();
    }
}

fuzz_target!(|input: (u8, &[u8])| {
    let (which, bytes) = input;
    match which % 6 {
        0 => read::<pb::CreateSocketResponse>(bytes),
        1 => read::<pb::ReceiveSocketResponse>(bytes),
        2 => read::<pb::SendDatagramsResponse>(bytes),
        3 => read::<pb::SetSocketOptionsResponse>(bytes),
        4 => {
            if let Ok(socket) = pb::Socket::decode(bytes) {
                let _ = socket::read(&socket);
            }
        }
        _ => {
            if let Ok(sent) = pb::Event::decode(bytes)
                && let Some(record) = event::read(sent)
            {
                let _ = farsock::exercise::narration::describe(&record.event);
            }
        }
    }
});
