//! Text with `${…}` in it, which stands for what is known only while an exercise runs.

use std::fmt;

/// Text with references.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Reference(Reference),
}

/// `${name}` or `${name.field}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// What it refers to.
    pub name: String,
    /// Which part of that.
    pub field: Option<String>,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            None => write!(f, "${{{}}}", self.name),
            Some(field) => write!(f, "${{{}.{field}}}", self.name),
        }
    }
}

impl fmt::Display for Template {
    /// As it was written, but for `$$`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(plain) => f.write_str(plain),
            Part::Reference(reference) => write!(f, "{reference}"),
        })
    }
}

impl Template {
    /// Reads text; `$$` stands for one `$`. The error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            plain.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                plain.push('$');
                rest = after;
            } else if let Some(after) = rest.strip_prefix('{') {
                let Some((inner, after)) = after.split_once('}') else {
                    return Err("`${` without `}`".to_owned());
                };
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(Part::Reference(reference(inner)?));
                rest = after;
            } else {
                plain.push('$');
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    /// What it refers to.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Reference(reference) => Some(reference),
        })
    }

    /// The text, if it refers to nothing.
    pub fn literal(&self) -> Option<String> {
        self.references().next().is_none().then(|| self.render(|_| None).unwrap_or_default())
    }

    /// The text, with each reference replaced by what `lookup` says; the error is the reference that it does not know.
    pub fn render(&self, mut lookup: impl FnMut(&Reference) -> Option<String>) -> Result<String, Reference> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Reference(reference) => {
                    text.push_str(&lookup(reference).ok_or_else(|| reference.clone())?);
                }
            }
        }
        Ok(text)
    }
}

fn reference(inner: &str) -> Result<Reference, String> {
    let (name, field) = match inner.split_once('.') {
        Some((name, field)) => (name, Some(field)),
        None => (inner, None),
    };
    let word = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if !word(name) || !field.is_none_or(word) {
        return Err(format!("`${{{inner}}}` refers to nothing: write ${{NAME}} or ${{NAME.FIELD}}"));
    }
    Ok(Reference { name: name.to_owned(), field: field.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn render(text: &str) -> Result<String, Reference> {
        let known = |reference: &Reference| match (reference.name.as_str(), reference.field.as_deref()) {
            ("port", None) => Some("8888".to_owned()),
            ("door", Some("address")) => Some("127.0.0.2".to_owned()),
            _ => None,
        };
        Template::parse(text).unwrap().render(known)
    }

    #[test]
    fn references_are_replaced() {
        assert_eq!(render("${door.address}:${port}").as_deref(), Ok("127.0.0.2:8888"));
        assert_eq!(render("no reference").as_deref(), Ok("no reference"));
        assert_eq!(render("5 $ and $${port}").as_deref(), Ok("5 $ and ${port}"));
        assert_eq!(render("${nobody}").unwrap_err().to_string(), "${nobody}");
        assert_eq!(Template::parse("a${port}").unwrap().literal(), None);
        assert_eq!(Template::parse("$$").unwrap().literal().as_deref(), Some("$"));
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for text in ["${", "${}", "${a.}", "${.a}", "${a b}", "${a.b.c}"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = Template::parse(&text);
        }

        #[test]
        fn text_without_dollars_stays_as_it_is(text in "[^$]{0,40}") {
            prop_assert_eq!(Template::parse(&text).unwrap().literal().unwrap(), text);
        }
    }
}
