//! Files that people write: YAML, every value with its place, every mistake with its line. How the library that reads them reports what is
//! wrong is known here alone.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Error, Location, Spanned};

use crate::model::mistake::{Mistake, Source, suggestion};

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
                f.write_str("one text, or a list of them")
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
    serde_saphyr::from_str_with_options(&source.text, options).map_err(|error| mistake(source, &error))
}

fn mistake(source: &Source, error: &Error) -> Mistake {
    let at = error.location().map_or(0..0, |location| place(source, &location));
    match error.without_snippet() {
        Error::SerdeUnknownField { field, expected, .. } => {
            let field = field.strip_prefix("r#").unwrap_or(field);
            Mistake::new(source, at, format!("there is no `{field}` here"))
                .labelled("unknown")
                .helped(suggestion(field, expected.iter().copied()))
        }
        Error::SerdeMissingField { field, .. } => {
            Mistake::new(source, at, format!("`{field}` is missing")).labelled(format!("needs `{field}`"))
        }
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            Mistake::new(source, at, format!("`{key}` is there twice")).labelled("again")
        }
        other => Mistake::new(source, at, first_line(&other.to_string())),
    }
}

/// The place of an error. What is no YAML at all has a line and a column only.
fn place(source: &Source, location: &Location) -> Range<usize> {
    if location.span().byte_offset().is_some() {
        return span(location);
    }
    let (line, column) =
        (usize::try_from(location.line()).unwrap_or(1), usize::try_from(location.column()).unwrap_or(1));
    let before: usize = source.text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let rest = source.text.get(before..).unwrap_or_default();
    let within: usize = rest.chars().take(column.saturating_sub(1)).map(char::len_utf8).sum();
    before + within..before + within + 1
}

/// The first line of a message, without the place, which is shown anyway.
fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or("it cannot be read");
    let line = line.split(" at line ").next().unwrap_or(line);
    match line.split_once(": ") {
        Some((place, rest)) if place.starts_with("error: line") || place.starts_with("line ") => rest.to_owned(),
        _ => line.to_owned(),
    }
}
