//! What a run waits for, where a person looks on: a line on the terminal that is drawn over, or a note now and then where nothing can be.

use std::time::{Duration, Instant};

use crate::cli::print;
use crate::exercise::report::text::seconds;

/// How long something must have taken before it is noted where nothing can be drawn over.
const FIRST_NOTE: Duration = Duration::from_secs(2);

/// How many times longer it must have taken each time after that.
const LATER_NOTES: u32 = 3;

/// The beginning of a line that others have not written in, and nothing behind it. ECMA-48: CR, EL.
const EMPTY_LINE: &str = "\r\x1b[K";

/// Faint, and not.
const FAINT: [&str; 2] = ["\x1b[2m", "\x1b[0m"];

/// What is waited for.
pub(super) struct Status {
    text: String,
    /// Since when.
    since: Instant,
    /// After which time it is noted next.
    note_after: Duration,
    /// It stands on the terminal.
    drawn: bool,
}

impl Default for Status {
    fn default() -> Self {
        Self { text: String::new(), since: Instant::now(), note_after: FIRST_NOTE, drawn: false }
    }
}

impl Status {
    /// This is waited for now.
    pub(super) fn begin(&mut self, text: String) {
        *self = Self { text, drawn: self.drawn, ..Self::default() };
    }

    /// Draws it on a terminal that is so wide, over what stands there.
    pub(super) fn draw(&mut self, width: usize, color: bool) {
        let text = format!("{}  {}", self.text, seconds(self.since.elapsed()));
        // A line that is full to its end would be two after the next character.
        let room = width.saturating_sub(1);
        let shown: String = match text.chars().count() > room {
            true => text.chars().take(room.saturating_sub(1)).chain(['…']).collect(),
            false => text,
        };
        let [faint, plain] = if color { FAINT } else { [""; 2] };
        print(&format!("{EMPTY_LINE}{faint}{shown}{plain}"));
        self.drawn = true;
    }

    /// Takes it off the terminal, where it stands there.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            print(EMPTY_LINE);
        }
    }

    /// What is to be noted of it, if it has taken long enough for that.
    pub(super) fn note(&mut self) -> Option<String> {
        let elapsed = self.since.elapsed();
        if elapsed < self.note_after {
            return None;
        }
        self.note_after = elapsed * LATER_NOTES;
        Some(format!("         {}  {}", self.text, seconds(elapsed)))
    }
}
