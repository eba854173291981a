//! Text encodings by their WHATWG labels: TCP knows bytes only, and the same characters are other bytes in other encodings.

use std::borrow::Cow;

use encoding_rs::{Encoding, REPLACEMENT, UTF_8, UTF_16BE, UTF_16LE};

use crate::model::id::shorten;
use crate::model::refusal::Problem;

/// A text encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextEncoding(&'static Encoding);

impl Default for TextEncoding {
    fn default() -> Self {
        Self(UTF_8)
    }
}

impl TextEncoding {
    /// The encoding of a label. Empty text means UTF-8.
    pub fn from_label(label: &str) -> Result<Self, Problem> {
        if label.is_empty() {
            return Ok(Self::default());
        }
        match Encoding::for_label(label.as_bytes()) {
            Some(encoding) if encoding != REPLACEMENT => Ok(Self(encoding)),
            _ => Err(Problem::new(format!(
                "`{}` is no encoding that is known here: labels are those of encoding.spec.whatwg.org, such as utf-8, utf-16le, gbk",
                shorten(label)
            ))),
        }
    }

    /// The encoding's name, in lower case: itself a label.
    pub fn name(self) -> String {
        self.0.name().to_ascii_lowercase()
    }

    /// Whether this is UTF-8.
    pub fn is_utf8(self) -> bool {
        self.0 == UTF_8
    }

    /// The bytes of text.
    pub fn encode(self, text: &str) -> Result<Vec<u8>, Problem> {
        // The WHATWG standard has no encoder for UTF-16: forms are never sent in it. Sockets may be.
        if self.0 == UTF_16LE {
            return Ok(text.encode_utf16().flat_map(u16::to_le_bytes).collect());
        }
        if self.0 == UTF_16BE {
            return Ok(text.encode_utf16().flat_map(u16::to_be_bytes).collect());
        }
        let (bytes, _, unmappable) = self.0.encode(text);
        if !unmappable {
            return Ok(bytes.into_owned());
        }
        let culprit = text.chars().find(|c| self.0.encode(c.encode_utf8(&mut [0; 4])).2);
        Err(Problem::new(format!("{} has no character {}", self.name(), culprit.unwrap_or('?').escape_debug())))
    }

    /// The text of bytes; what does not decode becomes U+FFFD. Says whether anything did not.
    pub fn decode(self, bytes: &[u8]) -> (Cow<'_, str>, bool) {
        self.0.decode_without_bom_handling(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoding(label: &str) -> TextEncoding {
        TextEncoding::from_label(label).unwrap()
    }

    #[test]
    fn the_same_characters_are_other_bytes_in_other_encodings() {
        let sizes = |text: &str, labels: &[&str]| -> Vec<usize> {
            labels.iter().map(|label| encoding(label).encode(text).unwrap().len()).collect()
        };
        assert_eq!(sizes("你好", &["utf-8", "gbk", "utf-16le"]), [6, 4, 4]);
        assert_eq!(sizes("señal", &["", "latin1", "utf-16be"]), [6, 5, 10]);
        assert_eq!(encoding("utf-16be").encode("ñ").unwrap(), [0, 0xf1]);
        assert_eq!(encoding("utf-16le").encode("𝄞").unwrap(), [0x34, 0xd8, 0x1e, 0xdd]);
    }

    #[test]
    fn unknown_labels_and_missing_characters_are_refused() {
        for label in ["utf-9", "replacement", "iso-2022-kr", "\n"] {
            assert!(TextEncoding::from_label(label).is_err(), "{label}");
        }
        let problem = encoding("latin1").encode("5 €uro 你").unwrap_err();
        assert_eq!(problem.to_string(), "windows-1252 has no character 你");
    }

    proptest! {
        #[test]
        fn unicode_encodings_carry_everything(text: String, label in prop::sample::select(vec!["utf-8", "utf-16le", "utf-16be", "gb18030"])) {
            let encoding = encoding(label);
            let bytes = encoding.encode(&text).unwrap();
            let (back, malformed) = encoding.decode(&bytes);
            prop_assert!(!malformed);
            prop_assert_eq!(back, text);
        }
    }
}
