//! The texts in the code that say what is wrong with a file. Whoever writes another one is asked for a page that shows it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// Where files are read and checked. Of folders, all files in them.
const CODE: [&str; 14] = [
    "exercise/check",
    "exercise/words",
    "exercise/networks",
    "exercise/inventory",
    "exercise/course.rs",
    "exercise/embedded.rs",
    "exercise/flow.rs",
    "exercise/scope.rs",
    "exercise/template.rs",
    "exercise/amount.rs",
    "exercise/file.rs",
    "exercise/shapes.rs",
    "exercise/fields.rs",
    "exercise/matching.rs",
];

/// Modules of `model` that read values of files.
const VALUES: [&str; 14] = [
    "address",
    "encoding",
    "endpoint",
    "group",
    "id",
    "labels",
    "mistake",
    "option",
    "payload",
    "peers",
    "placeholder",
    "source_filter",
    "syntax",
    "yaml",
];

/// Modules of `model` that the code above knows, and which say nothing of files.
const OTHERS: [&str; 11] =
    ["delivery", "errno", "event", "limits", "memory", "operation", "refusal", "socket", "spec", "tcp", "violation"];

/// Texts that no file leads to, and why.
const NOT_OF_FILES: [(&str, &str); 27] = [
    ("from nobody", EVENTS),
    ("from anybody", EVENTS),
    ("only from ", EVENTS),
    ("not from ", EVENTS),
    ("there are no other files here", "for programs that give none"),
    ("`{}` is not an accepted connection: after the dot comes its number, 1, 2, …", REQUESTS),
    (
        "`{}` is not a request id: 1 to {REQUEST_ID_BYTES} of A-Z a-z 0-9 . _ -, starting with a letter or digit",
        REQUESTS,
    ),
    ("`{}` is not an instance id: 32 of 0-9 a-f, as GetAgent shows it", REQUESTS),
    (
        "`{}` is not the name of a principal: 1 to {PRINCIPAL_BYTES} of a-z 0-9 - . _ @, not starting with a sign",
        REQUESTS,
    ),
    ("`duration`, or `enabled: false`", REQUESTS),
    ("`text`, an interface's name", REQUESTS),
    ("size: a pattern has at least one byte", REQUESTS),
    ("repeat: there is nothing to repeat", REQUESTS),
    (" at line ", LIBRARY),
    ("mapping start", LIBRARY),
    ("sequence start", LIBRARY),
    ("unit value", LIBRARY),
    ("Option value", LIBRARY),
    ("it says no agent", "only --host says so: in a file, nothing stands for an agent within the process"),
    ("bytes with the SHA-256 {hash}", RUNS),
    ("got {got}, which does not match {wanted}", RUNS),
    ("the SHA-256 of {} is {hash}, not {wanted}", RUNS),
    (": it ends after {}", RUNS),
    (": it goes on after {}", RUNS),
    (": they part after {}", RUNS),
    ("got {got}, not {wanted}{place}", RUNS),
    ("{reference} is not known yet", "a check knows all of them"),
];

const RUNS: &str = "said of what was received";
const EVENTS: &str = "said of what has happened";
const REQUESTS: &str = "said of requests, which can hold what files cannot";
const LIBRARY: &str = "the library says so, and people do not read it";

/// A text in the code.
pub(super) struct Literal {
    /// File and line.
    pub(super) place: String,
    /// As it stands there.
    pub(super) text: String,
}

impl Literal {
    /// Whether it is a text that people read: it has two words at least, beside what is put into it.
    fn has_words(&self) -> bool {
        let words = Regex::new("[a-zA-Z]{2,}").unwrap();
        words.find_iter(&Regex::new(r"\{[^}]*\}").unwrap().replace_all(&self.text, " ")).count() > 1
            && self.text.contains(' ')
    }

    /// Whether it stands in this, with whatever was put into it.
    pub(super) fn is_in(&self, said: &str) -> bool {
        let text = self.text.replace("{{", "\u{1}").replace("}}", "\u{2}");
        let pieces = Regex::new(r"\{[^}]*\}").unwrap();
        let pieces: Vec<String> = pieces
            .split(&text)
            .map(|piece| regex::escape(&piece.replace('\u{1}', "{").replace('\u{2}', "}")))
            .collect();
        Regex::new(&pieces.join(".*")).unwrap().is_match(said)
    }
}

/// All texts that say something of a file.
pub(super) fn literals() -> Vec<Literal> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let code: Vec<PathBuf> = CODE.iter().flat_map(|path| files(&src.join(path))).collect();
    every_module_of_values_is_known(&code);
    let values = VALUES.iter().map(|module| src.join(format!("model/{module}.rs")));
    let mut found = Vec::new();
    for file in code.into_iter().chain(values) {
        let text = fs::read_to_string(&file).unwrap();
        let shown = file.strip_prefix(&src).unwrap().display().to_string();
        found.extend(
            strings(&text).into_iter().map(|(line, text)| Literal { place: format!("src/{shown}:{line}"), text }),
        );
    }
    for (text, why) in NOT_OF_FILES {
        assert!(found.iter().any(|literal| literal.text == text), "the code has no `{text}` any more ({why})");
    }
    found.retain(|literal| literal.has_words() && NOT_OF_FILES.iter().all(|(text, _)| *text != literal.text));
    found
}

/// What of `model` the code imports is known here: its texts count, or they do not.
fn every_module_of_values_is_known(code: &[PathBuf]) {
    let import = Regex::new("crate::model::([a-z_]+)").unwrap();
    let texts = code.iter().map(|file| fs::read_to_string(file).unwrap()).collect::<String>();
    let modules: BTreeSet<&str> = import.captures_iter(&texts).map(|found| found.get(1).unwrap().as_str()).collect();
    let unknown: Vec<_> = modules.into_iter().filter(|name| !VALUES.contains(name) && !OTHERS.contains(name)).collect();
    assert!(unknown.is_empty(), "do these say what is wrong with values of files? {unknown:?}");
}

fn files(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let mut files: Vec<PathBuf> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The string literals of Rust code before its tests, each with its line.
fn strings(code: &str) -> Vec<(usize, String)> {
    let code = code.split("\n#[cfg(test)]").next().unwrap();
    // What comes first wins: a comment, a raw string, a string, a character.
    let token =
        Regex::new(r##"(?s)//[^\n]*|r#"(.*?)"#|r"([^"]*)"|"((?:[^"\\]|\\.)*)"|'(?:[^'\\\n]|\\[^\n']+)'"##).unwrap();
    let end_of_line = Regex::new(r"\\\n\s*").unwrap();
    let found = token.captures_iter(code).filter_map(|token| {
        let text = (1..=3).find_map(|group| token.get(group))?;
        let line = code[..text.start()].matches('\n').count() + 1;
        Some((line, end_of_line.replace_all(text.as_str(), "").replace("\\\"", "\"").replace("\\\\", "\\")))
    });
    found.collect()
}

#[test]
fn strings_are_found_in_code() {
    let code = "fn f<'a>() { // \"no\"\n    g(\"a \\\"b\\\" \\\n      c\", '\"', r\"d\\\", '\\'');\n}\n\n#[cfg(test)]\nmod tests { \"no\" }\n";
    assert_eq!(strings(code), [(2, "a \"b\" c".to_owned()), (3, "d\\".to_owned())]);
}
