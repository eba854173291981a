//! Names that stand for text before anything runs: variables of a file, what an included file is given, and what a loop goes over.

use std::borrow::Cow;
use std::cell::Cell;
use std::ops::Range;

use crate::model::mistake::suggestion;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// Text.
    Text(String),
    /// Two hosts: `${item.first}` and `${item.second}`.
    Pair(String, String),
}

/// A name that stands for something.
#[derive(Debug)]
struct Entry {
    name: String,
    value: Value,
    used: Cell<bool>,
    /// Where it was given.
    at: Range<usize>,
}

/// The names that a step of a file can refer to; those of the innermost loop come last.
#[derive(Debug, Default)]
pub(super) struct Scope {
    entries: Vec<Entry>,
}

impl Scope {
    pub(super) fn push(&mut self, name: &str, value: Value, at: Range<usize>) {
        self.entries.push(Entry { name: name.to_owned(), value, used: Cell::new(false), at });
    }

    pub(super) fn pop(&mut self) {
        self.entries.pop();
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.name == name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.name.as_str())
    }

    /// Names that nothing has referred to, and where they were given.
    pub(super) fn unused(&self) -> Vec<(String, Range<usize>)> {
        let unused = self.entries.iter().filter(|entry| !entry.used.get());
        unused.map(|entry| (entry.name.clone(), entry.at.clone())).collect()
    }

    /// The text with everything put in that it refers to and that is known here. The error says what is wrong with a reference.
    pub(super) fn put_in<'t>(&self, text: &'t str) -> Result<Cow<'t, str>, String> {
        if !text.contains("${") {
            return Ok(Cow::Borrowed(text));
        }
        let mut whole = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            whole.push_str(&rest[..at]);
            rest = &rest[at..];
            let reference = rest.strip_prefix("${").and_then(|inner| inner.split_once('}'));
            let length = match reference {
                // `${door-${item}}`: what stands inside comes first.
                Some((inner, _)) if inner.contains("${") => 2,
                Some((inner, _)) => match self.value(inner)? {
                    Some(value) => {
                        whole.push_str(&escaped(value));
                        rest = &rest[inner.len() + 3..];
                        continue;
                    }
                    None => inner.len() + 3,
                },
                None if rest.starts_with("$$") => 2,
                None => 1,
            };
            whole.push_str(&rest[..length]);
            rest = &rest[length..];
        }
        whole.push_str(rest);
        Ok(Cow::Owned(whole))
    }

    /// What `name` or `name.field` stands for; nothing where it is not known here.
    fn value(&self, reference: &str) -> Result<Option<&str>, String> {
        let (name, field) = match reference.split_once('.') {
            Some((name, field)) => (name, Some(field)),
            None => (reference, None),
        };
        let Some(entry) = self.entries.iter().rev().find(|entry| entry.name == name) else { return Ok(None) };
        entry.used.set(true);
        match (&entry.value, field) {
            (Value::Text(text), None)
            | (Value::Pair(text, _), Some("first"))
            | (Value::Pair(_, text), Some("second")) => Ok(Some(text)),
            (Value::Text(_), Some(field)) => Err(format!("`{name}` has no `{field}`: it is just text")),
            (Value::Pair(..), Some(field)) => {
                Err(format!("`{name}` has no `{field}`: {}", suggestion(field, ["first", "second"])))
            }
            (Value::Pair(..), None) => {
                Err(format!("`{name}` is a pair of hosts: write ${{{name}.first}} or ${{{name}.second}}"))
            }
        }
    }
}

/// Text that says the same where `${…}` refers to something and `$$` stands for `$`.
fn escaped(text: &str) -> Cow<'_, str> {
    let means_something = text.contains("${") || text.contains("$$") || text.ends_with('$');
    if means_something { Cow::Owned(text.replace('$', "$$")) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exercise::template::Template;
    use proptest::prelude::*;

    fn scope() -> Scope {
        let mut scope = Scope::default();
        scope.push("port", Value::Text("8888".into()), 0..0);
        scope.push("item", Value::Pair("a".into(), "b".into()), 0..0);
        scope
    }

    #[test]
    fn what_is_known_is_put_in_and_the_rest_is_left() {
        let put = |text: &str| scope().put_in(text).map(Cow::into_owned);
        for (text, whole) in [
            ("x", "x"),
            ("${port}", "8888"),
            ("${server}:${port}!", "${server}:8888!"),
            ("${item.first} to ${item.second}", "a to b"),
            ("$${port}", "$${port}"),
            ("$$${port}", "$$8888"),
            ("5 $ and ${", "5 $ and ${"),
            ("${door-${port}.local}", "${door-8888.local}"),
        ] {
            assert_eq!(put(text).as_deref(), Ok(whole), "{text}");
        }
        assert_eq!(put("${port.x}").unwrap_err(), "`port` has no `x`: it is just text");
        assert_eq!(put("${item.frist}").unwrap_err(), "`item` has no `frist`: did you mean `first`?");
        assert_eq!(put("${item}").unwrap_err(), "`item` is a pair of hosts: write ${item.first} or ${item.second}");
    }

    #[test]
    fn the_innermost_name_counts_and_unused_ones_are_known() {
        let mut scope = scope();
        scope.push("port", Value::Text("9".into()), 3..4);
        assert_eq!(scope.put_in("${port}").unwrap(), "9");
        assert_eq!(scope.unused(), [("port".to_owned(), 0..0), ("item".to_owned(), 0..0)]);
        scope.pop();
        assert_eq!(scope.put_in("${port}").unwrap(), "8888");
    }

    proptest! {
        /// Whatever a value says, it comes out as it is.
        #[test]
        fn a_value_is_text_and_nothing_else(value in "[a$ {}]{0,12}", before in "[a ]{0,3}", after in "[a{} ]{0,3}") {
            let mut scope = Scope::default();
            scope.push("x", Value::Text(value.clone()), 0..0);
            let put = scope.put_in(&format!("{before}${{x}}{after}")).unwrap().into_owned();
            prop_assert_eq!(Template::parse(&put).unwrap().literal().unwrap(), format!("{before}{value}{after}"));
        }
    }
}
