//! What words of farsock and of the kernel mean, in English: errors, refusals and what TCP and UDP do that surprises.
//!
//! The texts stand in files beside this one, an entry each: `# WORD…`, one line that says it, paragraphs that say why, and `see:` for what else
//! to read. What kinds of events mean stands in `event.proto`; what an error means for one operation is [`Errno::hint`].

use std::sync::LazyLock;

use crate::model::errno::{Errno, LookupErrno};
use crate::model::operation::Operation;

/// Which file an entry stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// Something that TCP, UDP or farsock does.
    Concept,
    /// An error of the kernel or of the resolver.
    Error,
    /// Why an agent does not even try.
    Refusal,
}

/// What is said about some words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is about.
    pub topic: Topic,
    /// The words that it explains, most often one.
    pub words: Vec<&'static str>,
    /// The matter in one line.
    pub summary: &'static str,
    /// Why, and what to do: paragraphs.
    pub body: Vec<String>,
    /// What else to read.
    pub see: Vec<&'static str>,
}

const FILES: [(Topic, &str); 3] = [
    (Topic::Concept, include_str!("concepts.txt")),
    (Topic::Error, include_str!("errors.txt")),
    (Topic::Refusal, include_str!("refusals.txt")),
];

static ENTRIES: LazyLock<Vec<Entry>> =
    LazyLock::new(|| FILES.iter().flat_map(|(topic, text)| read(*topic, text)).collect());

/// All entries, concepts first.
pub fn entries() -> &'static [Entry] {
    &ENTRIES
}

/// The entry of a word, in whichever case and with whichever dashes it was typed.
pub fn entry(word: &str) -> Option<&'static Entry> {
    let typed = plain(word);
    entries().iter().find(|entry| entry.words.iter().any(|word| plain(word) == typed))
}

/// The one line about a concept; nothing if there is no such entry.
pub fn summary(word: &str) -> &'static str {
    entry(word).map_or("", |entry| entry.summary)
}

/// A word without what people write differently.
pub fn plain(word: &str) -> String {
    word.to_ascii_lowercase().replace(['_', ' '], "-")
}

/// What the kernel or the resolver calls an error of this name, and its number on this host.
pub fn system_text(name: &str) -> Option<(&'static str, i32)> {
    let lookup = || LookupErrno::ALL.iter().find(|errno| errno.name() == name);
    Errno::from_name(name)
        .map(|errno| (errno.text(), errno.number()))
        .or_else(|| lookup().map(|errno| (errno.text(), errno.number())))
}

/// What an error often means when an operation meets it: the same words that failures show.
pub fn hints(name: &str) -> Vec<(String, &'static str)> {
    let Some(errno) = Errno::from_name(name) else {
        let lookup = LookupErrno::ALL.iter().find(|errno| errno.name() == name);
        let hint = lookup.map_or("", |errno| errno.hint());
        return if hint.is_empty() { Vec::new() } else { vec![(Operation::LookUp.to_string(), hint)] };
    };
    let mut hints: Vec<(String, &'static str)> = Vec::new();
    for operation in Operation::ALL {
        let hint = errno.hint(operation);
        match hints.iter_mut().find(|(_, known)| *known == hint) {
            _ if hint.is_empty() => {}
            Some((operations, _)) => operations.push_str(&format!(", {operation}")),
            None => hints.push((operation.to_string(), hint)),
        }
    }
    for (operations, _) in &mut hints {
        match operations.split(", ").count() {
            all if all == Operation::ALL.len() => "any".clone_into(operations),
            most if most > Operation::ALL.len() / 2 => "any other".clone_into(operations),
            _ => {}
        }
    }
    hints
}

fn read(topic: Topic, text: &'static str) -> Vec<Entry> {
    text.split("\n\n# ").filter_map(|entry| read_entry(topic, entry.trim_start_matches("# "))).collect()
}

fn read_entry(topic: Topic, text: &'static str) -> Option<Entry> {
    let (words, rest) = text.split_once('\n')?;
    let (summary, rest) = rest.split_once('\n').unwrap_or((rest, ""));
    let (rest, see) = match rest.rsplit_once("see: ") {
        Some((rest, see)) => (rest, see.split_whitespace().collect()),
        None => (rest, Vec::new()),
    };
    // Lines of a paragraph are one line: whoever shows it knows how wide it may be.
    let paragraph = |text: &str| text.split('\n').map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned();
    let body = rest.split("\n\n").map(paragraph).filter(|paragraph| !paragraph.is_empty()).collect();
    Some(Entry { topic, words: words.split_whitespace().collect(), summary: summary.trim(), body, see })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::Event;

    #[test]
    fn every_error_has_an_entry() {
        let names =
            Errno::ALL.iter().map(|errno| errno.name()).chain(LookupErrno::ALL.iter().map(|errno| errno.name()));
        let missing: Vec<_> =
            names.filter(|name| entry(name).is_none_or(|entry| entry.topic != Topic::Error)).collect();
        assert!(missing.is_empty(), "errors.txt lacks {missing:?}");
    }

    /// The reasons are read where they are given, so that none can be forgotten here.
    #[test]
    fn every_reason_of_a_refusal_has_an_entry() {
        let source = include_str!("../../model/refusal.rs");
        let (_, reasons) = source.split_once("fn reason(&self)").unwrap();
        let reasons = reasons.split_once("impl fmt::Display").unwrap().0;
        let quoted: Vec<&str> = reasons.split('"').skip(1).step_by(2).collect();
        assert!(quoted.contains(&"SOCKET_NOT_FOUND") && quoted.len() >= 27, "{quoted:?}");
        let missing: Vec<_> = quoted
            .into_iter()
            .filter(|reason| entry(reason).is_none_or(|entry| entry.topic != Topic::Refusal))
            .collect();
        assert!(missing.is_empty(), "refusals.txt lacks {missing:?}");
    }

    #[test]
    fn entries_are_whole_and_lead_to_each_other() {
        let mut words: Vec<String> = entries().iter().flat_map(|entry| &entry.words).map(|word| plain(word)).collect();
        let count = words.len();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), count, "a word is explained twice");
        for entry in entries() {
            assert!(entry.summary.ends_with('.') && entry.summary.len() < 130, "{entry:?}");
            assert!(entry.body.iter().all(|text| text.ends_with(['.', ')'])), "{entry:?}");
            for word in &entry.see {
                let known = super::entry(word).is_some() || Event::KINDS.contains(word);
                assert!(known, "{:?} leads to `{word}`, which is not explained", entry.words);
            }
        }
    }

    #[test]
    fn words_are_found_however_they_are_typed() {
        for word in ["rst-on-close", "RST_ON_CLOSE", "rst on close"] {
            assert_eq!(entry(word).map(|entry| entry.words[0]), Some("rst-on-close"), "{word}");
        }
        assert_eq!(entry("econnrefused").unwrap().words, ["ECONNREFUSED"]);
        assert_eq!(entry("nonsense"), None);
    }

    #[test]
    fn hints_are_those_of_failures() {
        let hints = hints("EADDRINUSE");
        assert!(
            hints.contains(&("create, bind, listen".to_owned(), Errno::EADDRINUSE.hint(Operation::Bind))),
            "{hints:?}"
        );
        assert_eq!(super::hints("ENOTCONN")[0].0, "any");
        assert_eq!(super::hints("EXDEV"), []);
    }
}
