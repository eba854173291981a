//! The inventory as it is typed: YAML, every value with its place. The clients in other languages read the same file.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_saphyr::Spanned;

use crate::exercise::inventory::FILE_BYTES;
use crate::model::mistake::{Mistake, Source};
use crate::model::yaml::{self, Ordered, Several};

/// A whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InventoryFile {
    /// Names, and who is there.
    pub(super) hosts: Ordered<Spanned<HostFile>>,
}

/// A host: an endpoint alone, or what is needed to get in, too. Nothing stands for an agent at the host's own name.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub(super) struct HostFile {
    pub(super) agent: Option<Spanned<String>>,
    /// The endpoint alone, which has the place of the whole.
    #[serde(skip)]
    pub(super) short: Option<String>,
    pub(super) token_file: Option<Spanned<String>>,
    pub(super) token_env: Option<Spanned<String>>,
    pub(super) tls_cert: Option<Spanned<String>>,
    pub(super) tls_key: Option<Spanned<String>>,
    pub(super) tls_ca: Option<Spanned<String>>,
    pub(super) program: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) labels: Ordered<Spanned<String>>,
    #[serde(default)]
    pub(super) groups: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) addresses: Ordered<Spanned<Several>>,
}

/// Which of both kinds of inventory a file is: what Ansible reads has its hosts within groups, the first of which is `all`.
pub(super) fn is_ansible(source: &Source) -> Result<bool, Mistake> {
    let top: Ordered<IgnoredAny> = yaml::read(source, "an inventory", FILE_BYTES)?;
    let has = |wanted: &str| top.0.iter().any(|(name, _)| name.value == wanted);
    Ok(has("all") && !has("hosts"))
}

impl<'de> Deserialize<'de> for HostFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Host;

        impl<'de> Visitor<'de> for Host {
            type Value = HostFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an endpoint or a map with `agent`")
            }

            fn visit_str<E>(self, text: &str) -> Result<HostFile, E> {
                Ok(HostFile { short: Some(text.to_owned()), ..HostFile::default() })
            }

            fn visit_u64<E: serde::de::Error>(self, port: u64) -> Result<HostFile, E> {
                self.visit_str(&port.to_string())
            }

            fn visit_i64<E: serde::de::Error>(self, port: i64) -> Result<HostFile, E> {
                self.visit_str(&port.to_string())
            }

            fn visit_unit<E>(self) -> Result<HostFile, E> {
                Ok(HostFile::default())
            }

            fn visit_none<E>(self) -> Result<HostFile, E> {
                Ok(HostFile::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HostFile, A::Error> {
                // Not this function again: the one that serde writes for the fields.
                HostFile::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_any(Host)
    }
}
