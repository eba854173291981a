//! The exercises about single features of sockets: each passes, on embedded agents.

use std::fs;

use crate::harness::run_farsock;

#[tokio::test]
async fn the_exercises_on_sockets_pass() {
    let ran = run_farsock(&["run", "tests/exercises/sockets"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    let count = fs::read_dir("tests/exercises/sockets").unwrap().count();
    assert!(count > 0 && ran.out.ends_with(&format!("{count} of {count} exercises passed\n")), "{}", ran.out);
}
