//! Text as an address: never a panic, and what is read is shown so that it is read again.
#![no_main]

use farsock::model::address::{AddressText, node_family};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = node_family(text);
    if let Ok(address) = AddressText::parse(text) {
        let shown = address.to_string();
        assert_eq!(AddressText::parse(&shown).as_ref(), Ok(&address), "{text:?} is shown as {shown:?}");
    }
});
