//! `farsock run --save` and `farsock replay`: what was kept of a run shows it again just as it was.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Ran, run_farsock};

const PASSES: &str = "tests/page/exercises/five-hosts.yaml";
const FAILS: &str = "tests/page/exercises/wrong-ending.yaml";

/// Runs both exercises, keeps the run in this folder, and tells what was printed.
async fn kept(folder: &Path, words: &[&str]) -> Ran {
    let mut all = vec!["run", PASSES, FAILS, "--save", folder.to_str().unwrap()];
    all.extend(words);
    run_farsock(&all).await
}

#[tokio::test]
async fn a_kept_run_shows_again_as_it_was() {
    for words in [&[][..], &["--quiet"], &["--json"]] {
        let folder = TempDir::new().unwrap();
        let run = folder.path().join("run");
        let live = kept(&run, words).await;
        let mut all = vec!["replay", run.to_str().unwrap()];
        all.extend(words);
        let again = run_farsock(&all).await;
        assert_eq!(live.code, Some(4), "{live:?}");
        assert_eq!((again.code, again.err), (live.code, live.err), "{words:?}");
        // Which ones went wrong in all is said by the run alone: a replay shows what happened, and does not count it again.
        let summary = format!("✗ FAILED A FIN was promised  {FAILS}\n1 of 2 exercises passed\n");
        let summary = if words == ["--json"] { "" } else { summary.as_str() };
        let live = live.out.strip_suffix(summary).unwrap();
        assert_eq!(again.out, live, "{words:?}");
    }
}

#[tokio::test]
async fn the_lines_that_are_kept_are_those_that_are_printed() {
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    let live = kept(&run, &["--json"]).await;
    assert_eq!(fs::read_to_string(run.join("run.ndjson")).unwrap(), live.out);
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    let again = folder.path().join("again.html");
    run_farsock(&["replay", "-q", run.to_str().unwrap(), "--html", again.to_str().unwrap()]).await;
    assert_eq!(fs::read_to_string(again).unwrap(), page);
}

/// A program knows from the first line on what is going to be done, also where it is never done.
#[tokio::test]
async fn the_first_line_comes_before_any_host_is_called() {
    let ran = run_farsock(&["run", "--json", PASSES, "--host", "server=unix:/no/such/agent"]).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    let mut lines: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // Finding out that nobody is there may take a moment.
    lines.retain(|line| line["type"] != "progress");
    assert_eq!((lines.len(), &lines[0]["type"], &lines[1]["type"]), (2, &"exercise".into(), &"result".into()));
    assert_eq!((&lines[0]["steps"], &lines[1]["not_reached"]), (&24.into(), &24.into()));
    assert_eq!(lines[0]["plan"].as_array().unwrap().len(), 24);
}

#[tokio::test]
async fn a_run_that_was_cut_short_is_shown_as_far_as_it_went() {
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    kept(&run, &["-q"]).await;
    let whole = fs::read_to_string(run.join("run.ndjson")).unwrap();
    let (part, _) = whole.split_once("{\"type\":\"result\"").unwrap();
    let cut = folder.path().join("cut.ndjson");
    // Lines of later versions are passed over.
    fs::write(&cut, format!("{part}{{\"type\":\"weather\",\"wind\":3}}\n")).unwrap();
    let ran = run_farsock(&["replay", cut.to_str().unwrap()]).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.out.contains("hola que tal") && ran.err.contains("the run was cut short"), "{ran:?}");
}

#[tokio::test]
async fn what_is_no_run_is_named() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("x.ndjson");
    for (text, said) in
        [("", "there is no run in it"), ("\n{}\n", "line 2 is no line of a run"), ("nonsense", "line 1")]
    {
        fs::write(&file, text).unwrap();
        let ran = run_farsock(&["replay", file.to_str().unwrap()]).await;
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{ran:?}");
        assert!(ran.err.contains(said) && ran.err.contains("x.ndjson"), "{}", ran.err);
    }
    let ran = run_farsock(&["replay", "/no/such/run"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
}

/// Nothing that was kept is written over, and what cannot be written is no silent loss.
#[tokio::test]
async fn a_folder_with_a_run_is_refused_and_a_page_that_cannot_be_written_is_told() {
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    kept(&run, &["-q"]).await;
    let again = kept(&run, &["-q"]).await;
    assert_eq!((again.code, again.out.as_str()), (Some(1), ""), "{again:?}");
    assert!(again.err.contains("there is a run in it"), "{}", again.err);
    let ran = run_farsock(&["run", "-q", PASSES, "--html", "/no/such/folder/page.html"]).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.err.contains("/no/such/folder/page.html: cannot be written"), "{}", ran.err);
}
