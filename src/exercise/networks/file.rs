//! Networks as they are typed.

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::model::yaml::{Ordered, Several};

/// A network.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkFile {
    /// Its subnet, or several.
    pub subnet: Spanned<Several>,
    /// The largest packet that it carries, in bytes.
    #[serde(default)]
    pub mtu: Option<Spanned<String>>,
    /// Who is in it, with which addresses; nothing: the next ones that are free.
    pub hosts: Ordered<Option<Spanned<Several>>>,
}

/// A host that forwards.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouterFile {
    /// The file of its rules, for nft(8), by its path from the exercise.
    #[serde(default)]
    pub nft: Option<Spanned<String>>,
}
