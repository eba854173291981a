//! Control messages as a kernel might send them: never a panic, never a read past their end.
#![no_main]

use farsock::sys::control::Ancillary;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Ancillary::parse(bytes);
});
