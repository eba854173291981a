//! Values that are checked wherever they stand: references, times, words.

use std::ops::Range;
use std::time::Duration;

use serde_saphyr::Spanned;

use crate::exercise::check::Checker;
use crate::exercise::check::names::{Named, SocketName};
use crate::exercise::template::{Reference, Template};
use crate::exercise::words;
use crate::exercise::words::grammar;
use crate::model::mistake::suggestion;
use crate::model::yaml::span;

/// What a socket's references can ask for.
const SOCKET_FIELDS: [&str; 7] = ["local", "remote", "address", "port", "id", "hash_received", "hash_written"];
/// What a message's references can ask for.
const MESSAGE_FIELDS: [&str; 5] = ["source", "destination", "text", "size", "receive_time"];

impl Checker<'_> {
    /// Text with references, all of which must be known by now.
    pub(in crate::exercise) fn template(&mut self, text: &Spanned<String>) -> Template {
        let at = span(&text.referenced);
        match Template::parse(&text.value) {
            Ok(template) => {
                let references: Vec<Reference> = template.references().cloned().collect();
                for reference in references {
                    self.reference(&reference, &at);
                }
                template
            }
            Err(problem) => {
                self.wrong(at, problem);
                Template::default()
            }
        }
    }

    pub(in crate::exercise) fn optional_template(&mut self, text: Option<&Spanned<String>>) -> Option<Template> {
        text.map(|text| self.template(text))
    }

    fn reference(&mut self, reference: &Reference, at: &Range<usize>) {
        if let Some(Named::Socket(socket)) = self.names.get_mut(&reference.name) {
            socket.used = true;
        }
        let fields: &[&str] = match self.names.get(&reference.name) {
            Some(Named::Socket(SocketName { lane, .. }) | Named::Message(_, lane)) if !self.is_there(lane) => {
                return self.made_beside(&reference.name, at.clone());
            }
            Some(Named::Socket(_)) => &SOCKET_FIELDS,
            Some(Named::Message(..)) => &MESSAGE_FIELDS,
            None if self.roles.contains(&reference.name) => return self.role_reference(reference, at),
            None => {
                let known = self.names.keys().chain(&self.roles).map(String::as_str).chain(self.flow.names());
                let known: Vec<String> = known.map(str::to_owned).collect();
                let help = suggestion(&reference.name, known.iter().map(String::as_str));
                let message = format!("{reference} is not known here");
                return self.wrong_with_help(at.clone(), message, help);
            }
        };
        if let Some(field) = &reference.field
            && !fields.contains(&field.as_str())
        {
            let message = format!("`{}` has no `{field}`", reference.name);
            self.wrong_with_help(at.clone(), message, suggestion(field, fields.iter().copied()));
        } else if let (Some(field), Some(socket)) = (&reference.field, self.socket_mut(&reference.name).cloned()) {
            self.is_told(field, &reference.name, &socket, at.clone());
        }
    }

    /// A role alone is its lab address; with a network it is the one that it has there.
    fn role_reference(&mut self, reference: &Reference, at: &Range<usize>) {
        let (role, Some(network)) = (&reference.name, &reference.field) else { return };
        let networks = self.networks_of(role);
        if networks.contains(network) {
            return;
        }
        let help = match networks.as_slice() {
            [] => {
                format!("an inventory tells the addresses of a host by network: `addresses: {{{network}: 192.0.2.1}}`")
            }
            networks => suggestion(network, networks.iter().map(String::as_str)),
        };
        self.wrong_with_help(at.clone(), format!("`{role}` has no address in a network `{network}`"), help);
    }

    /// A time such as `500ms` or `1.5s`.
    pub(in crate::exercise) fn duration(&mut self, text: Option<&Spanned<String>>) -> Option<Duration> {
        let text = text?;
        let parsed = text.value.parse::<jiff::SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
        match parsed {
            Some(time) if time <= words::LONGEST => Some(time),
            Some(_) => {
                self.wrong(span(&text.referenced), "that is longer than a day");
                None
            }
            None => {
                let message = format!("`{}` is no time", text.value);
                self.wrong_with_help(span(&text.referenced), message, "write it as 250ms, 1.5s or 2m30s");
                None
            }
        }
    }

    /// A word out of a few.
    pub(in crate::exercise) fn word<T: Copy>(
        &mut self,
        text: Option<&Spanned<String>>,
        words: &[(&'static str, T)],
    ) -> Option<T> {
        let text = text?;
        let found = words.iter().find(|(word, _)| *word == text.value).map(|(_, value)| *value);
        if found.is_none() {
            let message = format!("`{}` is none of the words that fit here", text.value);
            let help = suggestion(&text.value, words.iter().map(|(word, _)| *word));
            self.wrong_with_help(span(&text.referenced), message, help);
        }
        found
    }

    pub(super) fn error_name(&mut self, text: Option<&Spanned<String>>) -> Option<String> {
        let text = text?;
        if grammar::is_error_name(&text.value) {
            return Some(text.value.clone());
        }
        let message = format!("`{}` is no error", text.value);
        let help = suggestion(&text.value, grammar::error_names());
        self.wrong_with_help(span(&text.referenced), message, help);
        None
    }
}
