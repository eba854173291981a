//! What received bytes are compared with: bytes, a regular expression, a hash.

use bytes::Bytes;
use regex::bytes::{Regex, RegexBuilder};
use sha2::{Digest, Sha256};

use crate::exercise::advice::Parted;
use crate::exercise::expectation::{bytes_text, quoted};
use crate::exercise::outcome::Difference;
use crate::exercise::template::{Reference, Template};
use crate::model::payload::to_hex;

/// The most memory that a compiled expression may take, in bytes.
const EXPRESSION_BYTES: usize = 1 << 20;

/// A regular expression over bytes.
#[derive(Debug, Clone)]
pub struct Expression(Regex);

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Expression {}

impl Expression {
    /// Reads an expression. The error says on one line what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let built = RegexBuilder::new(text).size_limit(EXPRESSION_BYTES).build();
        built.map(Self).map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "the expression needs too much memory: repeat less".to_owned(),
            other => {
                // The rest shows the expression and points into it, as the report does already.
                let text = other.to_string();
                text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
            }
        })
    }

    /// An expression with references, each replaced by what `look_up` says, which stands for itself and nothing else.
    pub fn of(template: &Template, mut look_up: impl FnMut(&Reference) -> Option<String>) -> Result<Self, String> {
        let text = template.render(|reference| look_up(reference).map(|text| regex::escape(&text)));
        Self::parse(&text.map_err(|reference| format!("{reference} is not known yet"))?)
    }

    /// Whether it is found in these bytes.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        self.0.is_match(bytes)
    }
}

/// What received bytes must be, with every reference resolved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PayloadCheck {
    /// These bytes.
    pub bytes: Option<Bytes>,
    /// Something in which this is found.
    pub matches: Option<Expression>,
    /// Something with this SHA-256, in hexadecimal digits.
    pub sha256: Option<String>,
}

impl PayloadCheck {
    /// What is wanted, as people read it; nothing where nothing is.
    pub fn wanted(&self) -> Option<String> {
        let bytes = self.bytes.as_ref().map(quoted);
        let bytes = bytes.or_else(|| self.matches.as_ref().map(|expression| format!("/{}/", expression.0)));
        bytes.or_else(|| self.sha256.as_ref().map(|hash| format!("bytes with the SHA-256 {hash}")))
    }

    /// Whether these are the bytes; the error says what is different.
    pub fn judge(&self, got: &Bytes) -> Result<(), Difference> {
        if let Some(wanted) = self.bytes.as_ref().filter(|wanted| *wanted != got) {
            return Err(difference(wanted, got));
        }
        if let Some(expression) = self.matches.as_ref().filter(|expression| !expression.matches(got)) {
            let (wanted, got) = (format!("/{}/", expression.0), quoted(got));
            let text = format!("got {got}, which does not match {wanted}");
            return Err(Difference::new("payload", wanted, got).told(text));
        }
        let Some(wanted) = &self.sha256 else { return Ok(()) };
        let hash = to_hex(&Sha256::digest(got));
        if hash.eq_ignore_ascii_case(wanted) {
            return Ok(());
        }
        let text = format!("the SHA-256 of {} is {hash}, not {wanted}", bytes_text(got.len() as u64));
        Err(Difference::new("sha256", wanted, hash).told(text))
    }
}

/// Where two payloads part.
fn difference(wanted: &Bytes, got: &Bytes) -> Difference {
    let alike = wanted.iter().zip(got).take_while(|(a, b)| a == b).count();
    let place = match alike {
        0 => String::new(),
        _ if alike == got.len() => format!(": it ends after {}", bytes_text(alike as u64)),
        _ if alike == wanted.len() => format!(": it goes on after {}", bytes_text(alike as u64)),
        _ => format!(": they part after {}", bytes_text(alike as u64)),
    };
    let parted = Some(Parted::of(wanted, got));
    let (wanted, got) = (quoted(wanted), quoted(got));
    let text = format!("got {got}, not {wanted}{place}");
    Difference { parted, ..Difference::new("payload", wanted, got).told(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matching(expression: &str) -> PayloadCheck {
        PayloadCheck { matches: Some(Expression::parse(expression).unwrap()), ..PayloadCheck::default() }
    }

    fn told(check: &PayloadCheck, got: &'static [u8]) -> Result<(), String> {
        check.judge(&Bytes::from_static(got)).map_err(|difference| difference.text)
    }

    #[test]
    fn an_expression_is_found_in_bytes() {
        assert_eq!(told(&matching(r"^hola .*\r\n$"), b"hola server TCP\r\n"), Ok(()));
        assert_eq!(told(&matching(r"(?-u:\xff)"), b"\x00\xff\x00"), Ok(()));
        assert_eq!(told(&matching("^a+$"), b"aab"), Err("got \"aab\", which does not match /^a+$/".into()));
    }

    #[test]
    fn what_is_put_into_an_expression_stands_for_itself() {
        let template = Template::parse("^from ${line}$").unwrap();
        let expression = Expression::of(&template, |_| Some("10.0.0.1".to_owned())).unwrap();
        assert!(expression.matches(b"from 10.0.0.1"));
        assert!(!expression.matches(b"from 10x0y0z1"));
        assert_eq!(Expression::of(&template, |_| None), Err("${line} is not known yet".into()));
    }

    #[test]
    fn what_is_no_expression_is_refused_on_one_line() {
        assert_eq!(Expression::parse("(a"), Err("unclosed group".into()));
        assert_eq!(
            Expression::parse("(a{9}{9}{9}){99}{9}"),
            Err("the expression needs too much memory: repeat less".into())
        );
    }

    #[test]
    fn a_hash_is_compared() {
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let check = PayloadCheck { sha256: Some(hash.to_uppercase()), ..PayloadCheck::default() };
        assert_eq!(told(&check, b"abc"), Ok(()));
        assert!(told(&check, b"abd").unwrap_err().starts_with("the SHA-256 of 3 bytes is a52d159f"));
        assert!(check.wanted().unwrap().starts_with("bytes with the SHA-256 BA78"));
    }
}
