//! The conformance set: every word of the exercise language passing, and every way to fail told in words that somebody has read.
//!
//! What failures print stands beside them; `UPDATE_GOLDEN=1 cargo test conformance` writes it anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use farsock::exercise::fields::{BranchFile, FIELDS, StepFile, typed};
use farsock::exercise::file::{load, load_included};
use farsock::model::mistake::Source;
use serde_json::Value;
use serde_saphyr::Spanned;
use tempfile::TempDir;

use crate::harness::{AgentProcess, Fault, Proxy, Ran, run_farsock};

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
    // How far apart two moments were is never the same, either, and no session is called like another one.
    let figures = regex::Regex::new("[0-9]+\\.[0-9]{3} ms").unwrap();
    let text = figures.replace_all(&(settled + rest), "TIME ms").into_owned();
    regex::Regex::new("run-[0-9a-f]{16}").unwrap().replace_all(&text, "run-N").into_owned()
}

#[tokio::test]
async fn what_should_pass_passes() {
    for file in exercises(Path::new(SET)) {
        let ran = run_farsock(&["run", "-q", file.to_str().unwrap()]).await;
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    }
}

/// What goes wrong is told, and no word of the language has nothing that goes wrong because of it: each stands in a step that fails, or in
/// one that made the socket of such a step.
#[tokio::test]
async fn what_should_fail_fails_and_says_why() {
    let (mut wrong, mut words) = (Vec::new(), BTreeSet::new());
    for file in exercises(&Path::new(SET).join("failing")) {
        let folder = TempDir::new().unwrap();
        let ran = run_farsock(&["run", "-q", file.to_str().unwrap(), "--save", folder.path().to_str().unwrap()]).await;
        wrong.extend(compared(&file, &ran));
        words.extend(failing_words(&fs::read_to_string(folder.path().join("run.ndjson")).unwrap_or_default()));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let missing: Vec<&str> = FIELDS.iter().map(|field| field.typed()).filter(|word| !words.contains(word)).collect();
    assert!(missing.is_empty(), "nothing in {SET}/failing fails because of {missing:?}");
}

#[tokio::test]
async fn what_is_wrong_is_not_run() {
    let mut wrong = Vec::new();
    for file in exercises(&Path::new(SET).join("wrong")) {
        wrong.extend(compared(&file, &run_farsock(&["run", "-q", file.to_str().unwrap()]).await));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is different from what a run of this file printed when somebody last read it.
fn compared(file: &Path, ran: &Ran) -> Option<String> {
    let told = format!("exit code {}\n\n{}", ran.code.unwrap_or(-1), settled(&ran.err));
    let golden = file.with_extension("txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, &told).unwrap();
    }
    let expected = fs::read_to_string(&golden).unwrap_or_default();
    (told != expected).then(|| format!("{} prints\n{told}\nand should print\n{expected}", file.display()))
}

/// What the clocks leave open is not decided: agents whose answers come late have clocks that are known badly.
#[tokio::test]
async fn what_cannot_be_decided_is_told_as_such() {
    let folder = TempDir::new().unwrap();
    let agents = [AgentProcess::start().await, AgentProcess::start().await];
    let mut proxies = Vec::new();
    let mut lab = "hosts:\n".to_owned();
    for (name, agent) in ["a", "b"].into_iter().zip(&agents) {
        let fault = Fault { delay: Duration::from_millis(150), ..Fault::default() };
        let proxy = Proxy::start(agent.tcp().parse().unwrap(), move |_| fault).await;
        let token = agent.ready["token_file"].as_str().unwrap();
        lab += &format!("  {name}: {{ agent: \"{}\", token_file: \"{token}\" }}\n", proxy.address);
        proxies.push(proxy);
    }
    let inventory = folder.path().join("lab.yaml");
    fs::write(&inventory, lab).unwrap();
    let file = Path::new(SET).join("undecided/clocks.yaml");
    let words = ["run", "-q", file.to_str().unwrap(), "--inventory", inventory.to_str().unwrap()];
    let wrong = compared(&file, &run_farsock(&words).await);
    assert!(wrong.is_none(), "{}", wrong.unwrap());
    for agent in agents {
        agent.stop().await;
    }
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

/// What a step says, and what stands around it.
struct Said {
    words: Vec<&'static str>,
    /// The lines of its values.
    lines: Vec<usize>,
    /// The socket that it makes, or changes.
    makes: Option<String>,
    /// The listener whose connection that is.
    of: Option<String>,
}

/// All steps of a file, those within others with the words that lead there.
fn said(source: &Source) -> Vec<Said> {
    fn walk(steps: &[Spanned<StepFile>], around: &[&'static str], source: &Source, all: &mut Vec<Said>) {
        for step in steps {
            one(&step.value, around, source, all);
        }
    }

    fn one(step: &StepFile, around: &[&'static str], source: &Source, all: &mut Vec<Said>) {
        let present = step.present();
        let own: Vec<&'static str> = present.iter().map(|(name, _)| typed(name)).collect();
        let words = [around, &own].concat();
        let text = |field: &Option<Box<Spanned<String>>>| field.as_deref().map(|field| field.value.clone());
        let (makes, of) = (text(&step.r#as).or_else(|| text(&step.set)), text(&step.accept));
        let lines = present.iter().map(|(_, at)| source.line(at.start)).collect();
        all.push(Said { words: words.clone(), lines, makes, of });
        walk(step.steps.as_deref().map_or(&[][..], |steps| &steps.value), &words, source, all);
        walk(step.together.as_deref().map_or(&[][..], |together| &together.value.steps), &words, source, all);
        for branch in step.parallel.iter().flat_map(|branches| &branches.value) {
            match &branch.value {
                BranchFile::Step(step) => one(step, &words, source, all),
                BranchFile::Steps(steps) => walk(steps, &words, source, all),
            }
        }
    }

    let mut all = Vec::new();
    match load(source) {
        Ok(file) => {
            walk(&file.steps, &[], source, &mut all);
            walk(&file.finally, &[], source, &mut all);
        }
        Err(_) => walk(&load_included(source).unwrap().steps, &["include", "with"], source, &mut all),
    }
    all
}

/// The words of the steps that went wrong in a run, and of those that made the sockets which they are about.
fn failing_words(lines: &str) -> BTreeSet<&'static str> {
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let Some(exercise) = lines.iter().find(|line| line["type"] == "exercise") else { return BTreeSet::new() };
    let source = |file: &Value| Source {
        name: file["file"].as_str().unwrap().to_owned(),
        text: file["source"].as_str().unwrap().to_owned(),
    };
    let included = exercise["included"].as_array().into_iter().flatten();
    let files: Vec<(Source, Vec<Said>)> = std::iter::once(exercise)
        .chain(included)
        .map(|file| {
            let source = source(file);
            let said = said(&source);
            (source, said)
        })
        .collect();
    let mut words = BTreeSet::new();
    let mut sockets = BTreeSet::new();
    for step in lines.iter().filter(|line| line["type"] == "step" && line["result"] != "passed") {
        let name = step["file"].as_str().unwrap_or(&files[0].0.name);
        let (_, said) = files.iter().find(|(source, _)| source.name == name).unwrap();
        let line = usize::try_from(step["line"].as_u64().unwrap()).unwrap();
        let here: Vec<&Said> = said.iter().filter(|said| said.lines.contains(&line)).collect();
        assert!(!here.is_empty(), "{step}");
        words.extend(here.into_iter().flat_map(|said| said.words.clone()));
        sockets.extend(step["socket"].as_str().map(str::to_owned));
    }
    // A connection is as its listener was made.
    loop {
        let makers = files
            .iter()
            .flat_map(|(_, said)| said)
            .filter(|said| said.makes.as_ref().is_some_and(|made| sockets.contains(made)));
        let makers: Vec<&Said> = makers.collect();
        words.extend(makers.iter().flat_map(|said| said.words.clone()));
        let before = sockets.len();
        sockets.extend(makers.iter().filter_map(|said| said.of.clone()));
        if sockets.len() == before {
            return words;
        }
    }
}
