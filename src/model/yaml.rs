//! Files that people write: YAML, every value with its place, every mistake with its line. How the library that reads them reports what is
//! wrong is known here alone.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Error, Location, Spanned};

use crate::model::mistake::{Mistake, Source};
use crate::model::syntax::{Told, told};

/// The deepest nesting: room for loops in loops, as many as there may be (eight), with a step that holds a map.
const DEPTH: usize = 24;

/// A map that keeps its order, which is that of the columns in the picture.
#[derive(Debug, Clone)]
pub struct Ordered<V>(pub Vec<(Spanned<String>, V)>);

impl<V> Default for Ordered<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Ordered<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
            type Value = Ordered<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names with values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered<V>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Ordered(entries))
            }
        }

        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// One text, or a list of them.
#[derive(Debug, Clone, Default)]
pub struct Several(pub Vec<String>);

impl<'de> Deserialize<'de> for Several {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Several;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one text or a list of them")
            }

            fn visit_str<E>(self, text: &str) -> Result<Several, E> {
                Ok(Several(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Several, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = list.next_element()? {
                    texts.push(text);
                }
                Ok(Several(texts))
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}

/// The place of a value, in bytes.
pub fn span(location: &Location) -> Range<usize> {
    let span = location.span();
    match span.byte_offset() {
        Some(start) => {
            let start = usize::try_from(start).unwrap_or(0);
            start..start + usize::try_from(span.byte_len().unwrap_or(1)).unwrap_or(1).max(1)
        }
        None => 0..0,
    }
}

/// Reads a file. `what` it is, with its article, and how many bytes it may have, are told where it has more.
pub fn read<T: DeserializeOwned>(source: &Source, what: &str, max: usize) -> Result<T, Mistake> {
    if source.text.len() > max {
        let message = format!("the file has more than {max} bytes, and {what} has at most so many");
        return Err(Mistake::new(source, 0..0, message));
    }
    let budget = serde_saphyr::budget! { max_depth: DEPTH, max_events: 100_000, max_aliases: 100, max_anchors: 100 };
    let options = serde_saphyr::options! { with_snippet: false, budget: budget };
    serde_saphyr::from_str_with_options(&source.text, options).map_err(|error| mistake(source, what, &error))
}

fn mistake(source: &Source, what: &str, error: &Error) -> Mistake {
    let Some(begins) = begins(&source.text) else {
        return Mistake::new(source, 0..0, format!("the file says nothing, and {what} is needed"));
    };
    let error = error.without_snippet();
    let at = error.location().map_or(0..0, |location| place(source, &location));
    let at = within(&source.text, at);
    // What is wrong from its first word on was meant to be something else.
    if matches!(error, Error::Unexpected { expected: "mapping start", .. }) && at.start <= begins {
        let help = "it is a YAML file of names with values: is this the right file?";
        return Mistake::new(source, at, format!("this is not {what}")).helped(help);
    }
    let Told { message, label, help } = told(error, DEPTH);
    let mistake = Mistake::new(source, at, message);
    let mistake = label.into_iter().fold(mistake, Mistake::labelled);
    help.into_iter().fold(mistake, Mistake::helped)
}

/// A place behind the end of a file is its last character that people see.
fn within(text: &str, at: Range<usize>) -> Range<usize> {
    let end = text.trim_end().len();
    let last = text[..end].char_indices().next_back().map_or(0, |(last, _)| last);
    if at.start < end { at } else { last..end }
}

/// Where a file begins to say something, behind empty lines, comments and the line that begins a document.
fn begins(text: &str) -> Option<usize> {
    let mut line_at = 0;
    for line in text.split_inclusive('\n') {
        let rest = line.trim_start();
        if !rest.is_empty() && !rest.starts_with('#') && rest.trim_end() != "---" {
            return Some(line_at + line.len() - rest.len());
        }
        line_at += line.len();
    }
    None
}

/// The place of an error, which is not longer than its first line. What is no YAML at all has a line and a column only.
fn place(source: &Source, location: &Location) -> Range<usize> {
    if location.span().byte_offset().is_some() {
        let Range { start, end } = span(location);
        let line = source.text.get(start..).and_then(|rest| rest.find('\n')).map_or(end, |length| start + length);
        return start..end.min(line.max(start + 1));
    }
    let (line, column) =
        (usize::try_from(location.line()).unwrap_or(1), usize::try_from(location.column()).unwrap_or(1));
    let before: usize = source.text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let rest = source.text.get(before..).unwrap_or_default();
    let within: usize = rest.chars().take(column.saturating_sub(1)).map(char::len_utf8).sum();
    before + within..before + within + 1
}
