//! Exercise files: never a panic, and every mistake lies within the file and fits on one line.
#![no_main]

use farsock::exercise::check::{Given, check};
use farsock::model::mistake::{Source, render};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let source = Source { name: "fuzz.yaml".into(), text: text.into() };
    let Err(mistakes) = check(&source, Given::default()) else { return };
    assert!(!mistakes.is_empty());
    for mistake in mistakes {
        assert!(mistake.span.end <= text.len() && !mistake.message.contains('\n'), "{mistake:?}");
        let _ = render(&mistake, false);
    }
});
