//! Words of the caller's own about a socket, by which it is found again.

use std::collections::BTreeMap;

use crate::model::id::shorten;
use crate::model::refusal::Problem;

/// Words about a socket, by key.
pub type Labels = BTreeMap<Box<str>, Box<str>>;

/// The most labels of a socket.
pub const MAX_LABELS: usize = 16;

/// The longest key and the longest value, in bytes.
const MAX_KEY: usize = 63;
const MAX_VALUE: usize = 255;

/// Checks one label.
pub fn check(key: &str, value: &str) -> Result<(), Problem> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    let (first, last) = (key.bytes().next(), key.bytes().last());
    if key.len() > MAX_KEY || !key.bytes().all(inner) || !edge(first) || !edge(last) {
        return Err(Problem::new(format!(
            "`{}` is no key: 1 to {MAX_KEY} of A-Z a-z 0-9 - _ . /, with a letter or digit at both ends",
            shorten(key)
        )));
    }
    if value.len() > MAX_VALUE || value.chars().any(char::is_control) {
        return Err(Problem::new(format!("{key}: a value has up to {MAX_VALUE} bytes, and no control characters")));
    }
    Ok(())
}

/// Whether a socket has all labels that are wanted.
pub fn has_all(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_word_and_a_value_is_a_line() {
        for (key, value) in
            [("team", "blue"), ("a", ""), ("lab.example/row-3", "señal 你好"), ("A_b", &"x".repeat(255))]
        {
            assert_eq!(check(key, value), Ok(()), "{key}");
        }
        for (key, value) in
            [("", "x"), ("-a", "x"), ("a.", "x"), ("a b", "x"), ("ä", "x"), ("a", "x\n"), ("a", &"x".repeat(256))]
        {
            assert!(check(key, value).is_err(), "{key}");
        }
        assert!(check(&"k".repeat(64), "x").is_err());
    }

    #[test]
    fn a_socket_has_what_is_wanted_and_may_have_more() {
        let labels = |all: &[(&str, &str)]| all.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let blue: Labels = labels(&[("team", "blue"), ("row", "3")]);
        assert!(has_all(&blue, &labels(&[])) && has_all(&blue, &labels(&[("team", "blue")])));
        assert!(!has_all(&blue, &labels(&[("team", "red")])) && !has_all(&blue, &labels(&[("seat", "")])));
    }
}
