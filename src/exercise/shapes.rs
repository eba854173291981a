//! Fields of a step that hold more than text: questions, loops, branches, orders.

use std::fmt;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use crate::exercise::fields::StepFile;

/// What is to be looked up: one of these.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolveFile {
    /// A host name.
    #[serde(default)]
    pub host: Option<Spanned<String>>,
    /// An address.
    #[serde(default)]
    pub address: Option<Spanned<String>>,
    /// A service name.
    #[serde(default)]
    pub service: Option<Spanned<String>>,
    /// A port.
    #[serde(default)]
    pub port: Option<Spanned<String>>,
    /// `tcp` or `udp`.
    #[serde(default)]
    pub transport: Option<Spanned<String>>,
}

/// What a loop goes over: a list of values, or one of these.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct ItemsFile {
    /// Values.
    pub values: Option<Vec<Spanned<String>>>,
    /// Hosts.
    pub hosts: Option<Spanned<ManyFile>>,
    /// Each of these hosts with each other one.
    pub pairs: Option<Spanned<ManyFile>>,
}

impl<'de> Deserialize<'de> for ItemsFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;

        impl<'de> Visitor<'de> for Items {
            type Value = ItemsFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of values or one of values, hosts and pairs")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ItemsFile, A::Error> {
                // Not this function again: the one that serde writes for the fields.
                ItemsFile::deserialize(MapAccessDeserializer::new(map))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, values: A) -> Result<ItemsFile, A::Error> {
                let values = Vec::deserialize(SeqAccessDeserializer::new(values))?;
                Ok(ItemsFile { values: Some(values), ..ItemsFile::default() })
            }
        }

        deserializer.deserialize_any(Items)
    }
}

/// A list of roles, or `all`.
#[derive(Debug, Clone)]
pub enum ManyFile {
    /// These.
    These(Vec<Spanned<String>>),
    /// A word that stands for several.
    Word(String),
}

impl<'de> Deserialize<'de> for ManyFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Many;

        impl<'de> Visitor<'de> for Many {
            type Value = ManyFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of hosts or `all`")
            }

            fn visit_str<E>(self, word: &str) -> Result<ManyFile, E> {
                Ok(ManyFile::Word(word.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, hosts: A) -> Result<ManyFile, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(hosts)).map(ManyFile::These)
            }
        }

        deserializer.deserialize_any(Many)
    }
}

/// An event of a socket.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderFile {
    /// The socket.
    pub expect: Spanned<String>,
    /// The kind of the event.
    pub event: Spanned<String>,
    /// Which one of that kind; the first where absent.
    #[serde(default)]
    pub count: Option<Spanned<String>>,
}

/// Steps that begin at one instant.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TogetherFile {
    /// How far apart the starts may lie.
    #[serde(default)]
    pub align: Option<Spanned<String>>,
    /// The steps, and loops over steps.
    #[serde(default)]
    pub steps: Vec<Spanned<StepFile>>,
}

/// A branch: a step, or a list of steps.
#[derive(Debug, Clone)]
pub enum BranchFile {
    /// One step, or a loop, each round of which is a branch.
    Step(Box<StepFile>),
    /// Steps, one after the other.
    Steps(Vec<Spanned<StepFile>>),
}

impl<'de> Deserialize<'de> for BranchFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Branch;

        impl<'de> Visitor<'de> for Branch {
            type Value = BranchFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a step or a list of steps")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<BranchFile, A::Error> {
                let step = StepFile::deserialize(MapAccessDeserializer::new(map))?;
                Ok(BranchFile::Step(Box::new(step)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, steps: A) -> Result<BranchFile, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(steps)).map(BranchFile::Steps)
            }
        }

        deserializer.deserialize_any(Branch)
    }
}
