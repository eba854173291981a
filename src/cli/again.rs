//! The command that runs an exercise again, for a shell: whatever was said of what is run, and nothing of how it is shown.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::path::Path;

/// A command as it grows. What flags are, their own structs say, field by field, so that none is forgotten.
pub(super) struct Again(String);

impl Again {
    /// This program, as it was called, and a subcommand.
    pub(super) fn command(subcommand: &str) -> Self {
        let program = std::env::args_os().next().unwrap_or_else(|| "farsock".into());
        let mut again = Self(quoted(&program).into_owned());
        again.word(subcommand);
        again
    }

    /// One more word.
    pub(super) fn word(&mut self, word: impl AsRef<OsStr>) {
        self.0.push(' ');
        self.0.push_str(&quoted(word.as_ref()));
    }

    /// A flag with its value, where it has one.
    pub(super) fn flag(&mut self, flag: &str, value: Option<impl AsRef<OsStr>>) {
        if let Some(value) = value {
            self.word(flag);
            self.word(value);
        }
    }

    /// A file. One whose name begins with a dash would be taken for a flag.
    pub(super) fn file(mut self, file: &str) -> String {
        if file.starts_with('-') {
            self.word(Path::new(".").join(file))
        } else {
            self.word(file)
        }
        self.0
    }
}

/// A word as a shell takes it for one word.
fn quoted(word: &OsStr) -> Cow<'_, str> {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word } else { format!("'{}'", word.replace('\'', "'\\''")).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_every_word_as_it_was() {
        let told = |word: &str| quoted(OsStr::new(word)).into_owned();
        assert_eq!(told("a=[::1]:7625"), "'a=[::1]:7625'");
        assert_eq!(told("a=10.0.0.1:7625"), "a=10.0.0.1:7625");
        assert_eq!(told("it's"), "'it'\\''s'");
        assert_eq!(told("greeting=hola $USER"), "'greeting=hola $USER'");
        assert_eq!(told(""), "''");
    }

    #[test]
    fn flags_without_a_value_are_left_out() {
        let mut again = Again("farsock run".to_owned());
        again.flag("--inventory", Some("lab.yaml"));
        again.flag("--token-file", None::<&str>);
        assert_eq!(again.file("-x.yaml"), "farsock run --inventory lab.yaml ./-x.yaml");
    }
}
