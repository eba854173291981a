//! Every mistake that a file can have, as people see it: where it is, the line itself, what is wrong, and what would be right.
//!
//! The pages stand in `mistakes/`, one for each kind; `UPDATE_GOLDEN=1 cargo test mistakes` writes them anew. Read them as somebody does who
//! has just made that mistake. What the code can say and no page shows is found by `literals`.

mod literals;
mod others;
mod steps;

use std::fs;
use std::path::Path;

use farsock::exercise::check::{Files, Given, check};
use farsock::exercise::inventory::{self, Casting, Inventory, Mode};
use farsock::model::mistake::{Mistake, Source, render};
use regex::Regex;

use crate::mistakes::literals::{Literal, literals};
use crate::mistakes::others::others;
use crate::mistakes::steps::{HEAD, STEPS};

/// Files, the first of which is an exercise or an inventory, and what is wrong with them.
struct Case {
    files: Vec<(String, String)>,
    of: Of,
}

/// What the first file is.
#[derive(Debug, Clone, Copy)]
enum Of {
    /// An exercise, played like this.
    Exercise(Mode),
    /// An exercise whose hosts are those of this inventory.
    Played(&'static str),
    /// An inventory.
    Inventory,
}

/// One page.
struct Page {
    name: &'static str,
    cases: Vec<Case>,
}

impl Case {
    fn exercise(text: impl Into<String>) -> Self {
        Self { files: vec![("exercise.yaml".to_owned(), text.into())], of: Of::Exercise(Mode::Unknown) }
    }

    fn inventory(text: impl Into<String>) -> Self {
        Self { files: vec![("lab.yaml".to_owned(), text.into())], of: Of::Inventory }
    }

    /// The same, with a file beside it.
    fn beside(mut self, name: &str, text: impl Into<String>) -> Self {
        self.files.push((name.to_owned(), text.into()));
        self
    }

    fn of(mut self, of: Of) -> Self {
        self.of = of;
        self
    }

    fn mistakes(&self) -> Vec<Mistake> {
        let (name, text) = &self.files[0];
        let source = Source { name: name.clone(), text: text.clone() };
        let given = Given { files: self, ..Given::default() };
        let lab;
        let given = match self.of {
            Of::Inventory => return inventory::read(&source).unwrap_err(),
            Of::Exercise(mode) => Given { casting: Casting { mode, ..Casting::default() }, ..given },
            Of::Played(text) => {
                lab = read_lab(text);
                let mode = Mode::Machines;
                Given { casting: Casting { inventory: Some(&lab), mode, ..Casting::default() }, ..given }
            }
        };
        check(&source, given).err().unwrap_or_default()
    }
}

fn read_lab(text: &str) -> Inventory {
    inventory::read(&Source { name: "lab.yaml".into(), text: text.into() }).unwrap()
}

impl Files for Case {
    fn read(&self, _: &str, path: &str) -> Result<Source, String> {
        let name = path.trim_start_matches("./");
        let found = self.files.iter().find(|(known, _)| known == name);
        let (name, text) = found.ok_or_else(|| format!("there is no {path}"))?;
        Ok(Source { name: name.clone(), text: text.clone() })
    }
}

fn pages() -> Vec<Page> {
    let mut pages: Vec<Page> = STEPS
        .iter()
        .map(|(name, cases)| {
            let text = |steps: &&[&str]| steps.iter().map(|step| format!("  - {{ {step} }}\n")).collect::<String>();
            let cases = cases.iter().map(|steps| Case::exercise(format!("{HEAD}{}", text(steps)))).collect();
            Page { name, cases }
        })
        .collect();
    pages.extend(others());
    pages
}

#[test]
fn every_page_is_as_it_was_when_somebody_last_read_it() {
    let mut wrong = Vec::new();
    for Page { name, cases } in pages() {
        let mut shown = Vec::with_capacity(cases.len());
        for case in cases {
            let mistakes = case.mistakes();
            if mistakes.is_empty() {
                wrong.push(format!("nothing is wrong with\n{}", case.files[0].1));
            }
            shown.push(mistakes.iter().map(|mistake| render(mistake, false)).collect::<String>());
        }
        let page = shown.join("\n────────\n\n");
        // Lines end with what is seen.
        let page: String = page.lines().map(|line| format!("{}\n", shortened(line.trim_end()))).collect();
        let file = Path::new("tests/it/mistakes").join(format!("{name}.txt"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&file, &page).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if page != expected {
            let differs = page.lines().zip(expected.lines()).position(|(one, other)| one != other);
            let line = differs.unwrap_or_else(|| page.lines().count().min(expected.lines().count())) + 1;
            wrong.push(format!("{} is another page from line {line} on; this is now\n{page}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Advice that lists many words has the first ones here: whoever adds a word to the language has other pages to read.
fn shortened(line: &str) -> String {
    let list = Regex::new("((?:[a-z0-9_]+, ){3})(?:[a-z0-9_]+, ){5,}(?:or )?[a-z0-9_]+(?: and [0-9]+ more)?").unwrap();
    if line.starts_with("  help: ") { list.replace(line, "$1…").into_owned() } else { line.to_owned() }
}

/// Whatever the code can say of a file is said on a page: each text in it that has words.
#[test]
fn every_text_of_the_code_is_shown_on_a_page() {
    let mut said = String::new();
    for mistake in pages().iter().flat_map(|page| &page.cases).flat_map(Case::mistakes) {
        said += &format!("{}\n{}\n{}\n", mistake.message, mistake.label, mistake.help.unwrap_or_default());
    }
    let missing: Vec<String> = literals()
        .into_iter()
        .filter(|literal| !literal.is_in(&said))
        .map(|Literal { place, text }| format!("{place}: {text}"))
        .collect();
    assert!(missing.is_empty(), "no page shows these: add a case that does\n{}", missing.join("\n"));
}
