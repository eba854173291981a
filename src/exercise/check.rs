//! The whole-file check: everything that can be known to be wrong before the first socket is told at once, each mistake at its place.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use serde_saphyr::Spanned;

use crate::exercise::fields::{StepFile, typed};
use crate::exercise::file::{ExerciseFile, load};
use crate::exercise::plan::{HostPlan, Plan, Step, Verb};
use crate::exercise::template::{Reference, Template};
use crate::exercise::words;
use crate::exercise::words::grammar::{self, ALWAYS};
use crate::model::address::Transport;
use crate::model::id::check_name;
use crate::model::mistake::{Mistake, Source, suggestion};
use crate::model::yaml::{Ordered, span};

/// What a socket's references can ask for.
const SOCKET_FIELDS: [&str; 7] = ["local", "remote", "address", "port", "id", "hash_received", "hash_written"];
/// What a message's references can ask for.
const MESSAGE_FIELDS: [&str; 5] = ["source", "destination", "text", "size", "receive_time"];

/// Reads and checks a file. All that is wrong with it comes back at once.
pub fn check(source: &Source) -> Result<Plan, Vec<Mistake>> {
    let file = load(source).map_err(|mistake| vec![mistake])?;
    let mut checker = Checker {
        source,
        mistakes: Vec::new(),
        names: HashMap::new(),
        values: HashMap::new(),
        roles: Vec::new(),
        order: Vec::new(),
    };
    let plan = checker.plan(&file);
    if checker.mistakes.is_empty() { Ok(plan) } else { Err(checker.mistakes) }
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub(super) enum Named {
    /// A value of the file.
    Value,
    /// A socket of a host.
    Socket(SocketName),
    /// A datagram that this host has received.
    Message(usize),
}

/// What is known of a socket before it is there.
#[derive(Debug, Clone)]
pub(super) struct SocketName {
    pub(super) host: usize,
    pub(super) transport: Transport,
    pub(super) listens: bool,
    pub(super) manual: bool,
    /// The step that closes it.
    pub(super) closed: Option<usize>,
    used: bool,
    made_at: Range<usize>,
}

/// The state of a check.
pub(super) struct Checker<'a> {
    source: &'a Source,
    mistakes: Vec<Mistake>,
    names: HashMap<String, Named>,
    values: HashMap<String, String>,
    roles: Vec<String>,
    /// Sockets in the order in which they are made.
    order: Vec<String>,
}

impl Checker<'_> {
    fn plan(&mut self, file: &ExerciseFile) -> Plan {
        let hosts = self.hosts(&file.hosts);
        for (name, value) in &file.vars.0 {
            self.name(name, Named::Value);
            self.values.insert(name.value.clone(), value.value.clone());
        }
        if file.steps.is_empty() {
            self.wrong(span(&file.exercise.referenced), "the exercise has no steps");
        }
        let mut steps = Vec::with_capacity(file.steps.len());
        for (at, step) in file.steps.iter().enumerate() {
            steps.extend(self.step(at + 1, step));
        }
        self.unused();
        Plan { title: file.exercise.value.clone(), about: file.about.clone(), hosts, steps }
    }

    fn hosts(&mut self, hosts: &Ordered<Option<Spanned<String>>>) -> Vec<HostPlan> {
        let mut plans = Vec::new();
        for (role, agent) in &hosts.0 {
            if let Err(problem) = check_name(&role.value) {
                self.wrong(span(&role.referenced), problem.to_string());
            }
            self.roles.push(role.value.clone());
            let agent = agent.as_ref().map(|agent| agent.value.clone()).filter(|agent| !agent.is_empty());
            plans.push(HostPlan { role: role.value.clone(), agent });
        }
        if plans.is_empty() {
            self.wrong(0..0, "`hosts` names nobody: it needs at least one role");
        }
        plans
    }

    fn step(&mut self, number: usize, step: &Spanned<StepFile>) -> Option<Step> {
        let file = &step.value;
        let verb_span = self.one_verb(step)?;
        let host = self.host(step)?;
        let verb = self.verb(number, host, file)?;
        Some(Step {
            number,
            host,
            verb,
            within: self.duration(file.within.as_ref()),
            error: self.error_name(file.error.as_ref()),
            note: file.note.as_ref().map(|note| note.value.clone()),
            span: self.step_span(file),
            verb_span,
        })
    }

    /// The place of the one verb of a step.
    fn one_verb(&mut self, step: &Spanned<StepFile>) -> Option<Range<usize>> {
        let verbs: Vec<_> = step.value.present().into_iter().filter(|(name, _)| grammar::is_verb(name)).collect();
        match verbs.as_slice() {
            [(_, at)] => Some(at.clone()),
            [] => {
                let at = self.step_span(&step.value);
                self.mistakes.push(
                    Mistake::new(self.source, at, "the step does nothing")
                        .helped(format!("a step has one of {}", grammar::verbs())),
                );
                None
            }
            [(first, _), (second, at), ..] => {
                let message = format!("a step does one thing, and this one has `{first}` and `{second}`");
                self.mistakes.push(Mistake::new(self.source, at.clone(), message).helped("make two steps of it"));
                None
            }
        }
    }

    /// All of a step, from its first to its last value.
    fn step_span(&self, file: &StepFile) -> Range<usize> {
        let present = file.present();
        let start = present.iter().map(|(_, at)| at.start).min().unwrap_or(0);
        let end = present.iter().map(|(_, at)| at.end).max().unwrap_or(start);
        start..end.min(self.source.text.len())
    }

    fn host(&mut self, step: &Spanned<StepFile>) -> Option<usize> {
        let Some(on) = &step.value.on else {
            let at = self.step_span(&step.value);
            self.mistakes.push(
                Mistake::new(self.source, at, "the step does not say who does it")
                    .helped(format!("`on:` names one of {}", self.roles.join(", "))),
            );
            return None;
        };
        let found = self.roles.iter().position(|role| *role == on.value);
        if found.is_none() {
            let help = suggestion(&on.value, self.roles.iter().map(String::as_str));
            let message = format!("there is no host `{}`", on.value);
            self.mistakes.push(Mistake::new(self.source, span(&on.referenced), message).helped(help));
        }
        found
    }

    // === Names ===

    fn name(&mut self, name: &Spanned<String>, named: Named) {
        let at = span(&name.referenced);
        if let Err(problem) = check_name(&name.value) {
            self.wrong(at, problem.to_string());
        } else if self.roles.contains(&name.value) {
            self.wrong(at, format!("`{}` is a host already", name.value));
        } else if self.names.contains_key(&name.value) {
            self.wrong(at, format!("there is a `{}` already: each thing needs a name of its own", name.value));
        } else {
            if matches!(named, Named::Socket(_)) {
                self.order.push(name.value.clone());
            }
            self.names.insert(name.value.clone(), named);
        }
    }

    /// Names a socket that a step makes.
    pub(super) fn make_socket(&mut self, name: &Spanned<String>, host: usize, transport: Transport) -> String {
        let made_at = span(&name.referenced);
        let socket = SocketName { host, transport, listens: false, manual: false, closed: None, used: false, made_at };
        self.name(name, Named::Socket(socket));
        name.value.clone()
    }

    /// Names a message that a step receives.
    pub(super) fn make_message(&mut self, name: &Spanned<String>, host: usize) -> String {
        self.name(name, Named::Message(host));
        name.value.clone()
    }

    pub(super) fn socket_mut(&mut self, name: &str) -> Option<&mut SocketName> {
        match self.names.get_mut(name) {
            Some(Named::Socket(socket)) => Some(socket),
            _ => None,
        }
    }

    /// A socket of this host that a step uses.
    pub(super) fn use_socket(&mut self, number: usize, host: usize, name: &Spanned<String>) -> Option<SocketName> {
        let at = span(&name.referenced);
        let roles = self.roles.clone();
        let sockets: Vec<String> = self.order.clone();
        let Some(socket) = self.socket_mut(&name.value) else {
            let message = format!("there is no socket `{}` yet", name.value);
            let help = suggestion(&name.value, sockets.iter().map(String::as_str));
            self.mistakes.push(Mistake::new(self.source, at, message).helped(help));
            return None;
        };
        socket.used = true;
        let socket = socket.clone();
        if socket.host != host {
            let (owner, asked) = (&roles[socket.host], &roles[host]);
            let message = format!("`{}` is a socket of {owner}, not of {asked}", name.value);
            self.mistakes.push(Mistake::new(self.source, at, message).helped(format!("write `on: {owner}`")));
            return None;
        }
        if let Some(step) = socket.closed {
            let message = format!("`{}` was closed by step {step}, and this is step {number}", name.value);
            self.wrong(at, message);
            return None;
        }
        Some(socket)
    }

    /// A socket of this host and transport that a step uses.
    pub(super) fn use_socket_of(
        &mut self,
        number: usize,
        host: usize,
        name: &Spanned<String>,
        transport: Transport,
    ) -> Option<SocketName> {
        let socket = self.use_socket(number, host, name)?;
        if socket.transport != transport {
            let message = format!("`{}` is a {} socket, and this is for {transport}", name.value, socket.transport);
            let help = if transport == Transport::Tcp { "`send` is for UDP" } else { "`write` is for TCP" };
            self.mistakes.push(Mistake::new(self.source, span(&name.referenced), message).helped(help));
            return None;
        }
        Some(socket)
    }

    /// A message of this host that a step answers.
    pub(super) fn use_message(&mut self, host: usize, name: &Spanned<String>) -> Option<String> {
        let at = span(&name.referenced);
        match self.names.get(&name.value) {
            Some(Named::Message(owner)) if *owner == host => return Some(name.value.clone()),
            Some(Named::Message(owner)) => {
                let message =
                    format!("`{}` was received by {}, not by {}", name.value, self.roles[*owner], self.roles[host]);
                self.wrong(at, message);
            }
            _ => {
                let message = format!("there is no message `{}`", name.value);
                self.wrong_with_help(at, message, "`receive: SOCKET` with `as: NAME` gives a datagram a name");
            }
        }
        None
    }

    fn unused(&mut self) {
        let mut unused: Vec<_> = self
            .names
            .iter()
            .filter_map(|(name, named)| match named {
                Named::Socket(socket) if !socket.used => Some((name.clone(), socket.made_at.clone())),
                _ => None,
            })
            .collect();
        unused.sort_by_key(|(_, at)| at.start);
        for (name, at) in unused {
            self.mistakes.push(
                Mistake::new(self.source, at, format!("`{name}` is made and never used"))
                    .helped("use it, expect something of it, or leave it out"),
            );
        }
    }

    // === Values ===

    pub(super) fn wrong(&mut self, at: Range<usize>, message: impl Into<String>) {
        self.mistakes.push(Mistake::new(self.source, at, message));
    }

    pub(super) fn wrong_with_help(&mut self, at: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.mistakes.push(Mistake::new(self.source, at, message).helped(help));
    }

    /// Text with references, all of which must be known by now.
    pub(super) fn template(&mut self, text: &Spanned<String>) -> Template {
        let at = span(&text.referenced);
        match Template::parse(&text.value) {
            Ok(mut template) => {
                template.replace(|name| self.values.get(name).cloned());
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

    pub(super) fn optional_template(&mut self, text: Option<&Spanned<String>>) -> Option<Template> {
        text.map(|text| self.template(text))
    }

    fn reference(&mut self, reference: &Reference, at: &Range<usize>) {
        let fields: &[&str] = match self.names.get_mut(&reference.name) {
            Some(Named::Value) => &[],
            Some(Named::Socket(socket)) => {
                socket.used = true;
                &SOCKET_FIELDS
            }
            Some(Named::Message(_)) => &MESSAGE_FIELDS,
            None if self.roles.contains(&reference.name) => &[],
            None => {
                let known: Vec<String> = self.names.keys().chain(&self.roles).cloned().collect();
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
        }
    }

    /// A time such as `500ms` or `1.5s`.
    pub(super) fn duration(&mut self, text: Option<&Spanned<String>>) -> Option<Duration> {
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
    pub(super) fn word<T: Copy>(&mut self, text: Option<&Spanned<String>>, words: &[(&'static str, T)]) -> Option<T> {
        let text = text?;
        let found = words.iter().find(|(word, _)| *word == text.value).map(|(_, value)| *value);
        if found.is_none() {
            let message = format!("`{}` is none of the words that fit here", text.value);
            let help = suggestion(&text.value, words.iter().map(|(word, _)| *word));
            self.wrong_with_help(span(&text.referenced), message, help);
        }
        found
    }

    fn error_name(&mut self, text: Option<&Spanned<String>>) -> Option<String> {
        let text = text?;
        if grammar::is_error_name(&text.value) {
            return Some(text.value.clone());
        }
        let message = format!("`{}` is no error", text.value);
        let help = suggestion(&text.value, grammar::error_names());
        self.wrong_with_help(span(&text.referenced), message, help);
        None
    }

    /// Fields that mean nothing to the verb of a step.
    pub(super) fn only(&mut self, file: &StepFile, verb: &'static str, allowed: &[&'static str]) {
        self.only_with(file, verb, &format!("`{verb}`"), allowed);
    }

    /// The same, where what fits depends on more than the verb; `words` say on what.
    pub(super) fn only_with(&mut self, file: &StepFile, verb: &'static str, words: &str, allowed: &[&'static str]) {
        for (name, at) in file.present() {
            if name != verb && !ALWAYS.contains(&name) && !allowed.contains(&name) {
                let shown = typed(name);
                let fitting = allowed.iter().copied().map(typed);
                let fitting: Vec<&str> = fitting.filter(|word| !words.contains(&format!("`{word}`"))).collect();
                let help = if fitting.is_empty() {
                    format!("only {} go with {words}", ALWAYS.join(", "))
                } else {
                    format!("with {words} go {}", fitting.join(", "))
                };
                self.wrong_with_help(at, format!("`{shown}` means nothing to {words}"), help);
            }
        }
    }

    fn verb(&mut self, number: usize, host: usize, file: &StepFile) -> Option<Verb> {
        words::verb(self, number, host, file)
    }
}
