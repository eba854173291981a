//! What went wrong, as GitHub Actions shows it beside the lines of files: its workflow commands.

use crate::exercise::report::line::{ExerciseLine, MistakeLine, ResultLine, StepLine};

/// A step that did not go as it should; nothing if it did.
pub fn step(exercise: &ExerciseLine, step: &StepLine) -> Option<String> {
    let message = step.message.as_ref()?;
    let file = step.file.as_ref().unwrap_or(&exercise.file);
    let title = format!("{}: {} {}", exercise.title, step.host, step.verb);
    let text: Vec<&str> = std::iter::once(message).chain(&step.advice).map(String::as_str).collect();
    Some(error(file, Some(step.line), &title, &text.join("\n")))
}

/// A run that did not begin, or did not come to its end; nothing if it did.
pub fn result(result: &ResultLine) -> Option<String> {
    let problem = result.problem.as_ref()?;
    Some(error(&result.file, None, &result.title, problem))
}

/// Something that is wrong with a file.
pub fn mistake(mistake: &MistakeLine) -> String {
    let MistakeLine { file, line, column, message, help } = mistake;
    let text: Vec<&str> = std::iter::once(message).chain(help).map(String::as_str).collect();
    error_at(file, &format!("line={line},col={column},"), "the file is wrong", &text.join("\n"))
}

fn error(file: &str, line: Option<usize>, title: &str, text: &str) -> String {
    error_at(file, &line.map(|line| format!("line={line},")).unwrap_or_default(), title, text)
}

fn error_at(file: &str, line: &str, title: &str, text: &str) -> String {
    format!("::error file={},{line}title={}::{}\n", property(file), property(title), message(text))
}

/// What a peer sends must neither end the command nor begin another one.
fn message(text: &str) -> String {
    let mut message = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '%' => message.push_str("%25"),
            '\n' => message.push_str("%0A"),
            '\r' => message.push_str("%0D"),
            control if control.is_control() => message.extend(control.escape_default()),
            other => message.push(other),
        }
    }
    message
}

fn property(text: &str) -> String {
    message(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_the_command() {
        assert_eq!(
            error("a,b:c.yaml", Some(7), "50%: x", "one\r\n::stop-commands::\u{1b}"),
            "::error file=a%2Cb%3Ac.yaml,line=7,title=50%25%3A x::one%0D%0A::stop-commands::\\u{1b}\n"
        );
    }
}
