//! Exit codes, which scripts rely on: 0 passed, 1 usage, 2 the file is wrong, 3 could not run, 4 a check failed.

use std::process::Stdio;

use tempfile::TempDir;

use crate::harness::{AgentProcess, Ran, farsock, run, run_farsock};

/// Runs an exercise of this text.
async fn exercise(text: &str, words: &[&str]) -> Ran {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("exercise.yaml");
    std::fs::write(&file, text).unwrap();
    let mut command = farsock(folder.path());
    command.arg("run").arg(&file).args(words);
    run(command).await
}

const PASSES: &str = "exercise: Passes\nhosts: { a: }\nsteps:\n  - { on: a, listen: \":0\", as: door }\n  - { on: a, expect: door, state: listening }\n";
const FAILS: &str = "exercise: Fails\nhosts: { a: }\nsteps:\n  - { on: a, listen: \":0\", as: door }\n  - { on: a, expect: door, connections: 1, within: 50ms }\n";
const WRONG: &str = "exercise: Wrong\nhosts: { a: }\nsteps:\n  - { on: b, listen: \":0\", as: door }\n";

#[tokio::test]
async fn zero_is_passed() {
    assert_eq!(exercise(PASSES, &[]).await.code, Some(0));
    assert_eq!(exercise(PASSES, &["--json"]).await.code, Some(0));
    assert_eq!(run_farsock(&["check", "tests/exercises/tutorials"]).await.code, Some(0));
    assert_eq!(run_farsock(&["--version"]).await.code, Some(0));
}

#[tokio::test]
async fn one_is_usage() {
    for words in [
        &[][..],
        &["nonsense"],
        &["run"],
        &["run", "--nonsense", "x.yaml"],
        &["run", "/no/such/file.yaml"],
        &["check", "/no/such/file.yaml"],
        &["check", "src"],
        &["run", "tests/exercises/tutorials", "--host", "server"],
        &["run", "tests/exercises/tutorials", "--host", "server=127.1"],
        &["run", "tests/exercises/tutorials", "--host", "nobody=127.0.0.1:7625"],
        &["agent", "--listen", "nonsense"],
        &["agent", "--grace", "soon"],
        &["agent", "--workers", "0"],
        &["agent", "--limit", "socket=7"],
        &["agent", "--limit", "sockets=0"],
        &["agent", "--limit", "sockets"],
        &["agent", "--lab-address", "127.0.0.2", "--lab-interface", "lo"],
        &["env"],
        &["env", "7625"],
        &["env", "7625=a b"],
    ] {
        let ran = run_farsock(words).await;
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{words:?}: {}", ran.err);
        assert!(!ran.err.is_empty(), "{words:?} says why");
    }
}

#[tokio::test]
async fn two_is_a_wrong_file_and_nothing_has_run() {
    let ran = exercise(WRONG, &[]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{ran:?}");
    // One wrong file keeps all of them from running.
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("1.yaml"), PASSES).unwrap();
    std::fs::write(folder.path().join("2.yaml"), WRONG).unwrap();
    let mut command = farsock(folder.path());
    command.arg("run").arg(folder.path());
    let ran = run(command).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{ran:?}");
}

#[tokio::test]
async fn three_is_that_it_could_not_run() {
    let agent = AgentProcess::start().await;
    let gone = agent.tcp();
    agent.stop().await;
    let ran = exercise(PASSES, &["--host", &format!("a={gone}")]).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.err.contains(&gone) && ran.err.contains("Connection refused"), "{}", ran.err);
    // It could not run, whatever else has failed.
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("1.yaml"), FAILS).unwrap();
    std::fs::write(folder.path().join("2.yaml"), PASSES.replace("a:", "b:").replace("on: a", "on: b")).unwrap();
    let mut command = farsock(folder.path());
    command.arg("run").arg(folder.path()).args(["--host", &format!("b={gone}")]);
    assert_eq!(run(command).await.code, Some(3));

    let ran = run_farsock(&["agent", "--lab-interface", "no-such"]).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
}

#[tokio::test]
async fn four_is_a_check_that_failed() {
    let ran = exercise(FAILS, &[]).await;
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.out.contains("✗ FAILED Fails"), "{}", ran.out);
    assert_eq!(exercise(FAILS, &["--json"]).await.code, Some(4));
    assert_eq!(exercise(FAILS, &["--quiet"]).await.code, Some(4));
}

/// `farsock run … | head -1` is nothing that went wrong.
#[tokio::test]
async fn that_nobody_reads_on_is_no_failure() {
    for words in [
        &["run", "tests/exercises/tutorials/000-greeting.yaml"][..],
        &["run", "--json", "tests/exercises/tutorials/000-greeting.yaml"],
        &["check", "tests/exercises/tutorials"],
        &["--help"],
    ] {
        let folder = TempDir::new().unwrap();
        let mut command = farsock(folder.path());
        let mut child = command.args(words).spawn().unwrap();
        drop(child.stdout.take());
        let output = run_child(child).await;
        assert_eq!((output.code, output.err.as_str()), (Some(0), ""), "{words:?}");
    }
    let folder = TempDir::new().unwrap();
    let mut shell = tokio::process::Command::new("bash");
    shell.args(["-o", "pipefail", "-c", "\"$0\" run tests/exercises/tutorials | head -1"]);
    shell.arg(env!("CARGO_BIN_EXE_farsock")).current_dir(env!("CARGO_MANIFEST_DIR"));
    shell.env("XDG_RUNTIME_DIR", folder.path()).stdin(Stdio::null());
    let ran = run(shell).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert_eq!(ran.out.lines().count(), 1);
}

async fn run_child(child: tokio::process::Child) -> Ran {
    let output = crate::harness::within("the command's end", child.wait_with_output()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}
