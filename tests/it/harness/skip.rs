//! Tests that need more of a machine than every machine has, and what becomes of them where it is not there.

use std::env;
use std::io::{self, Write};
use std::thread;

/// Says that a test has not tried what it is for, and what is missing: to whoever runs the tests, also where what passing tests print is kept
/// back. With `FARSOCK_NO_SKIP=1` that is a failure: there, everything is said to be in its place.
pub fn skipped(missing: &str) {
    let test = thread::current();
    let line = format!("skipped: {}: {missing}\n", test.name().unwrap_or("a test"));
    assert!(env::var_os("FARSOCK_NO_SKIP").is_none_or(|value| value.is_empty()), "FARSOCK_NO_SKIP forbids it: {line}");
    io::stderr().write_all(line.as_bytes()).unwrap();
}

/// Whether the tests are root's, who alone can become somebody else. A test that needs this says so where they are not.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The same, for a test that tries nothing without.
pub fn needs_root() -> bool {
    if !is_root() {
        skipped("only root can become somebody else");
    }
    is_root()
}
