//! The `farsock` binary.

fn main() {}
