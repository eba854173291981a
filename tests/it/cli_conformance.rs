//! The conformance set: every word of the exercise language passing, and every way to fail told in words that somebody has read.
//!
//! What failures print stands beside them; `UPDATE_GOLDEN=1 cargo test conformance` writes it anew.

use std::fs;
use std::path::{Path, PathBuf};

use farsock::exercise::fields::FIELDS;

use crate::harness::run_farsock;

const SET: &str = "tests/exercises/conformance";

fn exercises(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    files.sort();
    files
}

/// What is different in each run: the block of loopback addresses, and ports of the kernel's choice.
fn settled(text: &str) -> String {
    let mut settled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("127.0.") {
        let (before, address) = rest.split_at(at);
        settled.push_str(before);
        let end = address.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(address.len());
        let host = address[..end].rsplit('.').next().unwrap_or_default();
        settled.push_str(&format!("127.0.N.{host}"));
        rest = &address[end..];
        if let Some(port) = rest.strip_prefix(':') {
            let digits = port.find(|c: char| !c.is_ascii_digit()).unwrap_or(port.len());
            if digits > 2 {
                settled.push_str(":PORT");
                rest = &port[digits..];
            }
        }
    }
    // How far apart two moments were is never the same, either.
    let figures = regex::Regex::new("[0-9]+\\.[0-9]{3} ms").unwrap();
    figures.replace_all(&(settled + rest), "TIME ms").into_owned()
}

#[tokio::test]
async fn what_should_pass_passes() {
    for file in exercises(Path::new(SET)) {
        let ran = run_farsock(&["run", "-q", file.to_str().unwrap()]).await;
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    }
}

#[tokio::test]
async fn what_should_fail_fails_and_says_why() {
    let mut wrong = Vec::new();
    let folders = ["failing", "wrong"].map(|folder| Path::new(SET).join(folder));
    for file in folders.iter().flat_map(|folder| exercises(folder)) {
        let ran = run_farsock(&["run", "-q", file.to_str().unwrap()]).await;
        let told = format!("exit code {}\n\n{}", ran.code.unwrap_or(-1), settled(&ran.err));
        let golden = file.with_extension("txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &told).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if told != expected {
            wrong.push(format!("{} prints\n{told}\nand should print\n{expected}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every word of the language stands in an exercise that passes.
#[test]
fn every_word_is_shown_by_an_exercise() {
    let folders = [SET, "tests/exercises/tutorials", "tests/exercises/sockets", "tests/exercises/networks"];
    let texts: Vec<String> = folders
        .iter()
        .flat_map(|folder| exercises(Path::new(folder)))
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    let code =
        |text: &String| text.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n");
    let all = texts.iter().map(code).collect::<Vec<_>>().join("\n");
    let stands = |word: &str| regex::Regex::new(&format!("(^|[^a-z_.]){word}:")).unwrap().is_match(&all);
    let missing: Vec<&str> = FIELDS.iter().map(|field| field.typed()).filter(|word| !stands(word)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
