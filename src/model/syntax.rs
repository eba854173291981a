//! What the YAML library says of a file, in words for people who do not know its trade.

use serde_saphyr::Error;
use serde_saphyr::budget::BudgetBreach;

use crate::model::mistake::suggestion;

/// What is wrong, the words under the place, and what would be right.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) message: String,
    pub(super) label: Option<String>,
    pub(super) help: Option<String>,
}

impl Told {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    fn labelled(self, label: impl Into<String>) -> Self {
        Self { label: Some(label.into()), ..self }
    }

    fn helped(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

/// What an error means in a file that may be nested so deep.
pub(super) fn told(error: &Error, depth: usize) -> Told {
    match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            let field = field.strip_prefix("r#").unwrap_or(field);
            let known = expected.iter().map(|known| known.strip_prefix("r#").unwrap_or(known));
            Told::new(format!("there is no `{field}` here")).labelled("unknown").helped(suggestion(field, known))
        }
        Error::SerdeMissingField { field, .. } => {
            Told::new(format!("`{field}` is missing")).labelled(format!("needs `{field}`"))
        }
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            Told::new(format!("`{key}` is there twice")).labelled("again").helped("keep one of them")
        }
        Error::Unexpected { expected, .. } => needed(expected),
        Error::SerdeInvalidType { unexpected, expected, .. }
        | Error::SerdeInvalidValue { unexpected, expected, .. } => {
            Told::new(format!("{expected} is needed here, and this is {}", kind(unexpected)))
        }
        Error::UnknownAnchor { .. } => {
            Told::new("`*` stands for what `&` has named, and nothing has that name").helped(QUOTES)
        }
        Error::MergeKeyNotAllowed { .. } | Error::MergeValueNotMapOrSeqOfMaps { .. } => {
            Told::new("`<<` puts in what another map says, and this is none").helped("write out what is meant")
        }
        Error::NullIntoString { .. } => Told::new("a value is needed here"),
        Error::MultipleDocuments { .. } => Told::new("another document begins here, and a file has one")
            .helped("leave out the line `---`, or make two files"),
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => {
            Told::new(format!("lists and maps stand more than {depth} deep in each other"))
        }
        Error::Budget { .. }
        | Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            Told::new("the file says too much, or says it too often by `&` and `*`").helped("make several files of it")
        }
        Error::AliasError { error, .. } => told(error, depth),
        other => syntax(&first_line(&other.to_string())),
    }
}

/// What starts otherwise than it must.
fn needed(expected: &str) -> Told {
    match expected {
        "mapping start" => Told::new("names with values are needed here")
            .helped("write `{ name: value }`, or lines of `name: value` that begin in the same column"),
        "sequence start" => Told::new("a list is needed here")
            .helped("write `[one, two]`, or lines of `- one` that begin in the same column"),
        _ => Told::new("one value is needed here, and not several")
            .helped("text that begins with `[` or `{` is put in quotes"),
    }
}

/// What serde calls a value, as people call it.
fn kind(unexpected: &str) -> String {
    match unexpected {
        "map" => "a map".to_owned(),
        "sequence" => "a list".to_owned(),
        "unit value" | "Option value" => "nothing".to_owned(),
        // `string "x"`, `integer `3``, `boolean `true``.
        other => match other.split_once(' ') {
            Some((_, text)) => format!("`{}`", text.trim_matches(['"', '`'])),
            None => other.to_owned(),
        },
    }
}

/// What is no YAML. The library's words are known by one of each, the first of these that is among them.
fn syntax(message: &str) -> Told {
    let has = |word: &str| message.contains(word);
    let known = SYNTAX.iter().find(|(words, _, _)| words.iter().any(|word| has(word)));
    match known {
        Some((_, told, help)) => Told::new(*told).helped(*help),
        None => Told::new(format!("this is no YAML: {message}")),
    }
}

/// The first line of a message, without the place, which is shown anyway.
fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line = line.split(" at line ").next().unwrap_or(line);
    match line.split_once(": ") {
        Some((place, rest)) if place.starts_with("error:") || place.starts_with("line") => rest.to_owned(),
        _ => line.to_owned(),
    }
}

const QUOTES: &str = "text that begins with a sign is put in quotes";
const COLUMNS: &str = "lines that belong together begin in the same column, each as `name: value` or `- value`";
const BRACKETS: &str = "each `{` needs its `}`, each `[` its `]`, and commas stand between what is inside";

/// Words of the library, what they mean, and what would be right.
const SYNTAX: [(&[&str], &str, &str); 9] = [
    (&["tab"], "a tab stands here, and YAML takes spaces only", "begin lines with spaces"),
    (
        &["escape", "surrogate", "hexadecimal", "Unicode"],
        "that is no escape in double quotes",
        "write `\\\\` for a backslash, or take single quotes, in which everything is what it is",
    ),
    (
        &["trailing"],
        "the text goes on behind its closing quote",
        "put all of it in quotes; a quote within single quotes is written twice",
    ),
    (&["quote"], "a quote is opened and not closed", "close it, or leave it out"),
    (&["bracket", "flow", "'}'", "']'"], "a bracket is not closed, or a comma is missing", BRACKETS),
    (
        &["values"],
        "a second `:` stands on the line, or the line begins too far to the right",
        "put text with a colon in quotes, and begin lines that belong together in the same column",
    ),
    (&["anchor", "alias"], "`&` and `*` go with a name, and this is none", QUOTES),
    (&["character", "plain"], "text cannot begin like this", QUOTES),
    (
        &["key", "indent", "entries", "'-'", "content", "block"],
        "the line begins in another column than those it belongs to, or is no `name: value`",
        COLUMNS,
    ),
];
