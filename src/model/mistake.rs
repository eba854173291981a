//! What is wrong in a file that somebody wrote, where, and what would be right.

use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use thiserror::Error;

/// How many lines are shown around a place.
const CONTEXT_LINES: usize = 2;

/// How wide messages and advice are, in characters.
const WIDTH: usize = 120;

/// So many words are read; more are only counted.
const MANY_WORDS: usize = 40;

/// A file as its author wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its name, as it was given.
    pub name: String,
    /// What it says.
    pub text: String,
}

impl Source {
    /// The line of a byte, counted from 1.
    pub fn line(&self, at: usize) -> usize {
        line(&self.text, at)
    }

    /// The column of a byte, counted from 1 in characters.
    pub fn column(&self, at: usize) -> usize {
        column(&self.text, at)
    }
}

/// Where the lines of a text end: for whoever asks for many lines of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines(Vec<usize>);

impl Lines {
    /// Those of this text.
    pub fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect())
    }

    /// The line of a byte, counted from 1.
    pub fn line(&self, at: usize) -> usize {
        self.0.partition_point(|end| *end < at) + 1
    }
}

fn line(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}

fn column(text: &str, at: usize) -> usize {
    let before = text.get(..at).unwrap_or(text);
    before.rsplit('\n').next().unwrap_or_default().chars().count() + 1
}

/// Something that is wrong at one place of a file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct Mistake {
    /// What is wrong.
    pub message: String,
    /// Where, in bytes.
    pub span: Range<usize>,
    /// What stands under the place.
    pub label: String,
    /// What would be right.
    pub help: Option<String>,
    text: Arc<NamedSource<String>>,
}

impl Mistake {
    /// A mistake at this place.
    pub fn new(source: &Source, span: Range<usize>, message: impl Into<String>) -> Self {
        let length = source.text.len();
        let span = span.start.min(length)..span.end.min(length).max(span.start.min(length));
        Self {
            message: message.into(),
            span,
            label: "here".to_owned(),
            help: None,
            text: Arc::new(NamedSource::new(source.name.clone(), source.text.clone()).with_language("yaml")),
        }
    }

    /// The name of the file.
    pub fn file(&self) -> &str {
        self.text.name()
    }

    /// The line, from 1.
    pub fn line(&self) -> usize {
        line(self.text.inner(), self.span.start)
    }

    /// The column, from 1, in characters.
    pub fn column(&self) -> usize {
        column(self.text.inner(), self.span.start)
    }

    /// The same, with other words under the place.
    #[must_use]
    pub fn labelled(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// The same, with advice.
    #[must_use]
    pub fn helped(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// A mistake with its place, its line and its advice. In colours, for a terminal, long messages have several lines; else each has one.
pub fn render(mistake: &Mistake, color: bool) -> String {
    let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_context_lines(CONTEXT_LINES).with_links(false);
    let handler = handler.with_width(WIDTH).with_wrap_lines(color);
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = handler.render_report(&mut text, mistake);
    text
}

impl Diagnostic for Mistake {
    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn std::fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&*self.text)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = LabeledSpan::new_with_span(Some(self.label.clone()), self.span.clone());
        Some(Box::new(std::iter::once(span)))
    }
}

/// The one of these words that is the most like what was typed, if any is.
pub fn nearest<'a>(typed: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    words
        .into_iter()
        .map(|word| (strsim::jaro_winkler(word, typed), word))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| word)
}

/// `did you mean X?`, or the words that there are.
pub fn suggestion<'a>(typed: &str, words: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(typed, words.clone()) {
        Some(word) => format!("did you mean `{word}`?"),
        None => {
            let all: Vec<&str> = words.into_iter().collect();
            match all.split_at_checked(MANY_WORDS) {
                _ if all.is_empty() => "there is none".to_owned(),
                Some((first, rest)) if !rest.is_empty() => {
                    format!("there are {} and {} more", first.join(", "), rest.len())
                }
                _ if all.len() == 1 => format!("there is {}", all[0]),
                _ => format!("there are {}", all.join(", ")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_as_editors_count_them() {
        let source = Source { name: "x.yaml".into(), text: "añb\ncd\n".into() };
        assert_eq!((source.line(0), source.column(0)), (1, 1));
        assert_eq!((source.line(3), source.column(3)), (1, 3), "characters, not bytes");
        assert_eq!((source.line(5), source.column(5)), (2, 1));
        assert_eq!((source.line(999), source.column(999)), (3, 1));
        let lines = Lines::of(&source.text);
        assert!([0, 1, 2, 3, 4, 5, 6, 999].into_iter().all(|at| lines.line(at) == source.line(at)));
    }

    #[test]
    fn the_nearest_word_is_suggested() {
        assert_eq!(suggestion("lissten", ["listen", "connect"]), "did you mean `listen`?");
        assert_eq!(suggestion("zzz", ["listen", "connect"]), "there are listen, connect");
        assert_eq!(suggestion("zzz", ["listen"]), "there is listen");
        assert_eq!(suggestion("zzz", []), "there is none");
    }
}
