//! `farsock check`: whatever is wrong with a file is told at once, with its line, its column, and what would be right. How each mistake is
//! told stands in `mistakes/`.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Ran, farsock, run, run_farsock};

/// What stands above the steps.
const HEAD: &str = "exercise: Mistakes\nhosts: { a: , b: }\nsteps:\n";

const DOOR: &str = "on: a, listen: ':0', as: door";

/// Files are found by their paths from the file that includes them, and told by their paths from where somebody is.
#[tokio::test]
async fn a_mistake_in_an_included_file_is_told_with_its_place_there() {
    let folder = TempDir::new().unwrap();
    fs::create_dir_all(folder.path().join("lab/steps")).unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let told = async || {
        let mut command = farsock(folder.path());
        command.args(["check", "lab/exercise.yaml"]).current_dir(folder.path());
        run(command).await
    };
    write("lab/exercise.yaml", &format!("{HEAD}  - include: steps/more.yaml\n"));
    write("lab/steps/more.yaml", "steps:\n  - include: ../last.yaml\n");
    write("lab/last.yaml", "steps:\n  - { on: a, lisen: x }\n");
    let ran = told().await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    for piece in ["lab/last.yaml:2:14", "included by lab/steps/more.yaml:2", "did you mean `listen`?"] {
        assert!(ran.err.contains(piece), "{piece}: {}", ran.err);
    }
    for (path, problem) in [
        ("none.yaml", "`none.yaml` cannot be included: there is no lab/none.yaml"),
        ("lost.yaml", "`lost.yaml` cannot be included: there is no lab/lost.yaml: did you mean `lab/last.yaml`?"),
        ("/lab/last.yaml", "`/lab/last.yaml` cannot be included: give its path from the file that includes it"),
    ] {
        write("lab/exercise.yaml", &format!("{HEAD}  - include: {path}\n"));
        let ran = told().await;
        assert!(ran.code == Some(2) && ran.err.contains(problem), "{ran:?}");
    }
}

/// However a file multiplies itself, the check ends soon, and says where it became too much.
#[tokio::test]
async fn files_that_multiply_themselves_are_refused() {
    let values = (1..=30).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let nested = |depth: usize| {
        let step = "{ on: a, parse: x, is: none }".to_owned();
        (0..depth).fold(step, |step, n| format!("{{ foreach: [{values}], as: i{n}, steps: [{step}] }}"))
    };
    let told = mistakes(&format!("{HEAD}  - {}\n", nested(4))).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].ends_with("this would be more than 10000 steps | "), "{told:?}");
    let told = mistakes(&format!("{HEAD}  - {}\n", nested(9))).await;
    assert!(
        told[0].ends_with("loops, branches and included files stand more than 8 deep in each other | "),
        "{told:?}"
    );
}

/// Variables: with values of their own, and with values that are given; each must mean something.
#[tokio::test]
async fn variables_are_given_on_the_command_line() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("exercise.yaml");
    let text = "exercise: x\nhosts: { a: }\nvars: { address: , kind: ipv4 }\nsteps:\n  - { on: a, parse: '${address}', is: '${kind}' }\n";
    fs::write(&file, text).unwrap();
    let ran = |words: &'static [&'static str]| {
        let mut command = farsock(folder.path());
        command.args(words).arg(&file);
        run(command)
    };
    let lacking = ran(&["check"]).await;
    assert!(
        lacking.err.contains("`address` has no value") && lacking.err.contains("--var address=VALUE"),
        "{lacking:?}"
    );
    let given = ran(&["run", "--var", "address=127.0.0.1"]).await;
    assert_eq!((given.code, given.err.as_str()), (Some(0), ""), "{}", given.out);
    let other = ran(&["run", "--var", "address=::1", "--var", "kind=ipv6"]).await;
    assert_eq!((other.code, other.err.as_str()), (Some(0), ""), "{}", other.out);
    let unknown = ran(&["check", "--var", "address=x", "--var", "knd=ipv6"]).await;
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.err.contains("no exercise has such a variable: did you mean `kind`?"), "{}", unknown.err);
    assert_eq!(ran(&["check", "--var", "address"]).await.code, Some(1));
    fs::write(&file, "exercise: x\nhosts: { a: }\nvars: { v: 1 }\nsteps: [{ on: a, parse: x, is: none }]\n").unwrap();
    let unused = ran(&["check"]).await;
    assert!(unused.err.contains("`v` is never used"), "{unused:?}");
}

/// Checks a file, and answers its mistakes as `line:column message | help`.
async fn mistakes(text: &str) -> Vec<String> {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("exercise.yaml");
    fs::write(&file, text).unwrap();
    let mut command = farsock(folder.path());
    command.args(["check", "--json"]).arg(&file);
    let Ran { code, out, err } = run(command).await;
    assert_eq!((code, err.as_str()), (Some(2), ""), "{text}\n{out}");
    let show = |line: &str| {
        let line = line.replace(folder.path().to_str().unwrap(), "${folder}");
        let mistake: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (mistake["type"].as_str(), mistake["file"].as_str()),
            (Some("mistake"), Some("${folder}/exercise.yaml")),
            "{line}"
        );
        let word = |field: &str| mistake[field].as_str().unwrap_or_default().to_owned();
        format!("{}:{} {} | {}", mistake["line"], mistake["column"], word("message"), word("help"))
    };
    out.lines().map(show).collect()
}

#[tokio::test]
async fn all_mistakes_of_all_files_are_told_at_once() {
    let text = format!("{HEAD}  - {{ on: c, close: x }}\n  - {{ on: a, close: y }}\n  - {{ on: a, parse: '1' }}\n");
    let told = mistakes(&text).await;
    let places: Vec<&str> = told.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(places, ["4:11", "5:21", "6:21"], "{told:?}");

    let folder = TempDir::new().unwrap();
    for name in ["2.yaml", "1.yaml", "notes.txt"] {
        fs::write(folder.path().join(name), &text).unwrap();
    }
    let mut command = farsock(folder.path());
    command.arg("check").arg(folder.path());
    let ran = run(command).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
    assert!(ran.err.find("1.yaml: 3 mistakes").unwrap() < ran.err.find("2.yaml: 3 mistakes").unwrap(), "{}", ran.err);
    assert!(!ran.err.contains("notes.txt"), "{}", ran.err);
}

/// For people: the line itself, a pointer under the place, and the advice.
#[tokio::test]
async fn people_see_the_line_and_a_pointer() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("exercise.yaml");
    fs::write(&file, format!("{HEAD}  - {{ {DOOR} }}\n  - {{ on: a, expect: dor, state: listening }}\n")).unwrap();
    let mut command = farsock(folder.path());
    command.arg("check").arg(&file);
    let ran = run(command).await;
    assert!(ran.err.contains(&format!("{}:5:22", file.display())), "{}", ran.err);
    for piece in
        ["  - { on: a, expect: dor, state: listening }", "there is no socket `dor` yet", "did you mean `door`?"]
    {
        assert!(ran.err.contains(piece), "{piece}: {}", ran.err);
    }
    assert!(!ran.err.contains('\x1b'), "no colours where nobody can see them");
}

#[tokio::test]
async fn what_is_right_is_listed() {
    let ran = run_farsock(&["check", "tests/exercises/tutorials"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let files = fs::read_dir("tests/exercises/tutorials").unwrap().count();
    assert_eq!(ran.out.lines().count(), files);
    assert!(ran.out.lines().all(|line| line.starts_with("✓ ") && line.contains(" steps  tests/exercises/tutorials/")));
    assert_eq!(run_farsock(&["check", "--json", "tests/exercises/tutorials"]).await.out, "");
}

/// With an inventory or `--host` it is the check of that run: who plays a host, and what those can hold.
#[tokio::test]
async fn files_are_checked_for_those_who_would_play_them() {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("lab.yaml", "hosts: { a: 'lab-a:1', b: 'lab-b:1' }\n");
    write("half.yaml", "hosts: { a: 'lab-a:1' }\n");
    // Agents within one process cannot both have this.
    let door = |host: &str| {
        format!(
            "  - {{ on: {host}, listen: '[::1]:80', as: door-{host} }}\n  - {{ on: {host}, expect: door-{host}, state: listening }}\n"
        )
    };
    write("exercise.yaml", &format!("exercise: x\nhosts: {{ a: , b: }}\nsteps:\n{}{}", door("a"), door("b")));
    let told = async |words: &[&str]| {
        let mut command = farsock(folder.path());
        command.arg("check").args(words).arg("exercise.yaml").current_dir(folder.path());
        run(command).await
    };
    for right in [
        &[][..],
        &["--netns"],
        &["--inventory", "lab.yaml"],
        &["--inventory", "half.yaml", "--host", "b=lab-b:1"],
        &["--host", "a=lab-a:1"],
    ] {
        let ran = told(right).await;
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{right:?}");
    }
    // Whom the inventory does not have is played by an agent within the process, and so nobody else is there whom it could collide with.
    let ran = told(&["--inventory", "half.yaml"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    write("nobody.yaml", "hosts: { c: 'lab-c:1' }\n");
    let ran = told(&["--inventory", "nobody.yaml"]).await;
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("`b` cannot have it too: embedded agents are one host"), "{}", ran.err);
    for (wrong, problem) in [
        (["--host", "c=lab-c:1"], "--host: no exercise has a host `c`: there are a, b"),
        (["--host", "a"], "--host a: ROLE=AGENT is needed"),
        (["--host", "a=unix:"], "--host a=unix:: `unix:` is no endpoint"),
    ] {
        let ran = told(&[&["--inventory", "lab.yaml"][..], &wrong].concat()).await;
        assert!(ran.code == Some(1) && ran.err.contains(problem), "{ran:?}");
    }
    assert_eq!(told(&["--host", "a=lab-a:1", "--host", "a=lab-b:1"]).await.code, Some(1));
    assert_eq!(told(&["--host", "a=lab-a:1", "--netns"]).await.code, Some(1));
}
