//! `farsock explain`: what words mean.

use std::fmt::Write;

use clap::Args;
use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};

use crate::cli::{Exit, complain, print};
use crate::exercise::explain::{Entry, Topic, entries, entry, hints, plain, system_text};
use crate::model::event::Event;
use crate::model::mistake::nearest;
use crate::wire::FILE_DESCRIPTOR_SET;

/// How wide paragraphs are.
const WIDTH: usize = 100;

/// What `farsock explain` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  farsock explain ECONNREFUSED
  farsock explain rst-on-close
  farsock explain peer_reset
  farsock explain LEASE_EXPIRED")]
pub(super) struct ExplainArgs {
    /// The name of an error, of an event, of a refusal's reason, or one of the words that are listed without it
    #[arg(value_name = "WORD")]
    words: Vec<String>,
}

/// Explains words, or lists those that there are.
pub(super) fn explain(args: &ExplainArgs) -> Exit {
    if args.words.is_empty() {
        return print(&list());
    }
    // `rst on close` may be typed without dashes.
    let whole = args.words.join(" ");
    let texts = match text(&whole) {
        Some(text) => vec![text],
        None => {
            let Some(texts) = args.words.iter().map(|word| text(word)).collect::<Option<Vec<String>>>() else {
                let unknown = args.words.iter().find(|word| text(word).is_none()).unwrap_or(&whole);
                let help = match suggestion(unknown) {
                    Some(word) => format!("did you mean `{word}`?"),
                    None => "`farsock explain` alone lists what there is".to_owned(),
                };
                complain(format_args!("`{unknown}` is not explained: {help}"));
                return Exit::Usage;
            };
            texts
        }
    };
    print(&texts.join("\n"))
}

/// The word that was meant, as far as one can guess.
fn suggestion(typed: &str) -> Option<&'static str> {
    let typed = plain(typed);
    let words = || entries().iter().flat_map(|entry| entry.words.iter().copied()).chain(Event::KINDS.iter().copied());
    let plains: Vec<String> = words().map(plain).collect();
    let meant = nearest(&typed, plains.iter().map(String::as_str))?;
    words().find(|word| plain(word) == meant)
}

fn text(word: &str) -> Option<String> {
    if let Some(errno) = word.parse::<i32>().ok().and_then(error_of_number) {
        return Some(of_entry(errno, entry(errno)?));
    }
    if let Some(found) = entry(word) {
        let typed = plain(word);
        let name = found.words.iter().find(|name| plain(name) == typed)?;
        return Some(of_entry(name, found));
    }
    let kind = Event::KINDS.iter().find(|kind| plain(kind) == plain(word))?;
    of_event(kind)
}

/// The name of an error that was given by its number.
fn error_of_number(number: i32) -> Option<&'static str> {
    let errors = entries().iter().filter(|entry| entry.topic == Topic::Error).flat_map(|entry| &entry.words);
    errors.copied().find(|name| system_text(name).is_some_and(|(_, known)| known == number))
}

fn of_entry(name: &str, entry: &Entry) -> String {
    let mut text = match (entry.topic, system_text(name)) {
        (Topic::Error, Some((system, number))) => format!("{name} ({number}): {system}\n\n"),
        (Topic::Refusal, _) => format!("{name}: a reason for which an agent refuses a request\n\n"),
        _ => format!("{name}\n\n"),
    };
    paragraph(&mut text, entry.summary, "");
    for body in &entry.body {
        text.push('\n');
        paragraph(&mut text, body, "");
    }
    if entry.topic == Topic::Error {
        for (at, (operations, hint)) in hints(name).into_iter().enumerate() {
            text.push_str(if at == 0 { "\nWhere it is met, most often:\n" } else { "" });
            paragraph(&mut text, &format!("{operations}: {hint}"), "  ");
        }
    }
    if !entry.see.is_empty() {
        paragraph(&mut text, &format!("\nSee also: {}", entry.see.join(", ")), "");
    }
    text
}

/// What event.proto says of a kind: the comments that reflection serves, too.
fn of_event(kind: &str) -> Option<String> {
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).ok()?.file;
    let file = files.iter().find(|file| file.message_type.iter().any(|message| message.name() == "Event"))?;
    let event = file.message_type.iter().position(|message| message.name() == "Event")?;
    let field = file.message_type[event].field.iter().position(|field| field.name() == kind)?;
    let type_name = file.message_type[event].field[field].type_name().rsplit('.').next()?;
    let mut text = format!("{kind}: an event\n\n");
    paragraph(&mut text, &comment(file, &[MESSAGE, index(event)?, FIELD, index(field)?]), "");
    // A few kinds have a body of another file.
    for file in &files {
        let Some(body) = file.message_type.iter().position(|message| message.name() == type_name) else { continue };
        text.push('\n');
        paragraph(&mut text, &comment(file, &[MESSAGE, index(body)?]), "");
        fields(&mut text, file, body)?;
    }
    Some(text)
}

/// The parts of a message, with what is said of each.
fn fields(text: &mut String, file: &FileDescriptorProto, message: usize) -> Option<()> {
    let DescriptorProto { field, .. } = &file.message_type[message];
    for (at, field) in field.iter().enumerate() {
        text.push_str(if at == 0 { "\nIt tells:\n" } else { "" });
        let said = comment(file, &[MESSAGE, index(message)?, FIELD, index(at)?]);
        paragraph(text, &format!("{}: {said}", field.name()), "  ");
    }
    Some(())
}

/// Where messages stand in a file's descriptor, and fields in a message's.
const MESSAGE: i32 = 4;
const FIELD: i32 = 2;

fn index(at: usize) -> Option<i32> {
    i32::try_from(at).ok()
}

fn comment(file: &FileDescriptorProto, path: &[i32]) -> String {
    let locations = file.source_code_info.iter().flat_map(|info| &info.location);
    let comment = locations.filter(|location| location.path == path).find_map(|it| it.leading_comments.as_deref());
    comment.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn list() -> String {
    let mut text = String::new();
    let topics = [
        (Topic::Concept, "What TCP, UDP and farsock do"),
        (Topic::Refusal, "Why agents refuse requests"),
        (Topic::Error, "Errors of the kernel and the resolver"),
    ];
    for (topic, title) in topics {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{title}:");
        for entry in entries().iter().filter(|entry| entry.topic == topic) {
            let (first, more) = (entry.words[0], if entry.words.len() > 1 { " …" } else { "" });
            let _ = writeln!(text, "  {:20} {}", format!("{first}{more}"), entry.summary);
        }
        text.push('\n');
    }
    text.push_str("Events:\n");
    paragraph(&mut text, &Event::KINDS.join(" "), "  ");
    text
}

/// Adds text in lines that are not too wide, all but the first further in.
fn paragraph(text: &mut String, said: &str, indent: &str) {
    let begins = text.len();
    let mut width = 0;
    for (at, word) in said.split(' ').enumerate() {
        let length = word.chars().count();
        if at > 0 && width + 1 + length > WIDTH {
            let _ = write!(text, "\n{indent}{}", if indent.is_empty() { "" } else { "  " });
            width = indent.len();
        } else if at > 0 {
            text.push(' ');
            width += 1;
        }
        text.push_str(word);
        width += length;
    }
    text.insert_str(begins, indent);
    text.push('\n');
}
