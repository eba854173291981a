//! The policy file as it is typed: YAML, every value with its place.

use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use crate::model::yaml::{Ordered, span};

/// A whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyFile {
    /// Its title.
    pub(super) policy: Spanned<String>,
    /// Names of certificates, `owner`, and `*` for all others, with their roles.
    #[serde(default)]
    pub(super) principals: Ordered<Spanned<Words>>,
    /// More roles, with their rights.
    #[serde(default)]
    pub(super) roles: Ordered<Spanned<Words>>,
    /// Who may do what with which addresses.
    #[serde(default)]
    pub(super) rules: Vec<Spanned<RuleFile>>,
}

/// A rule.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleFile {
    pub(super) allow: Option<Spanned<Words>>,
    pub(super) deny: Option<Spanned<Words>>,
    pub(super) r#for: Option<Spanned<Words>>,
    pub(super) addresses: Option<Spanned<Words>>,
    pub(super) ports: Option<Spanned<Words>>,
    pub(super) transport: Option<Spanned<Words>>,
    pub(super) options: Option<Spanned<Words>>,
}

/// One word, several with commas between them, or a list.
#[derive(Debug)]
pub(super) struct Words(Vec<Word>);

#[derive(Debug)]
enum Word {
    /// Its place is that of the whole.
    Plain(String),
    Placed(Spanned<String>),
}

/// The words, each with its place.
pub(super) fn words(all: &Spanned<Words>) -> Vec<(&str, Range<usize>)> {
    let mut found = Vec::with_capacity(all.value.0.len());
    for word in &all.value.0 {
        found.push(match word {
            Word::Plain(text) => (text.as_str(), span(&all.referenced)),
            Word::Placed(word) => (word.value.as_str(), span(&word.referenced)),
        });
    }
    found
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = Words;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a word or a list of words")
            }

            fn visit_str<E>(self, text: &str) -> Result<Words, E> {
                Ok(Words(text.split(',').map(|word| Word::Plain(word.trim().to_owned())).collect()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Words, E> {
                Ok(Words(vec![Word::Plain(number.to_string())]))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Words, E> {
                Ok(Words(vec![Word::Plain(number.to_string())]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Words, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = list.next_element()? {
                    words.push(Word::Placed(word));
                }
                Ok(Words(words))
            }
        }

        deserializer.deserialize_any(Read)
    }
}
