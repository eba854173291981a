//! The whole-file check: everything that can be known to be wrong before the first socket is told at once, each mistake at its place.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use serde_saphyr::Spanned;

use crate::exercise::course::{Lane, Order, Part};
use crate::exercise::fields::{OrderFile, StepFile, typed};
use crate::exercise::file::{ExerciseFile, load};
use crate::exercise::flow::Flow;
use crate::exercise::inventory::{Casting, Mode, Player, players};
use crate::exercise::networks::{self, MOST_HOSTS, Networks};
use crate::exercise::plan::{HostPlan, Plan, Step};
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

/// What a check is given beside the file.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    /// Values of variables, instead of those that the file has.
    pub vars: &'a [(String, String)],
    /// Where included files are read.
    pub files: &'a dyn Files,
    /// Whom the roles may be played by.
    pub casting: Casting<'a>,
}

impl Default for Given<'_> {
    fn default() -> Self {
        Self { vars: &[], files: &NoFiles, casting: Casting::default() }
    }
}

/// Where included files are read.
pub trait Files {
    /// Reads the file that `includer`, a name of this or that of the exercise, calls `path`. One file always gets one name. The error says
    /// why it cannot be read.
    fn read(&self, includer: &str, path: &str) -> Result<Source, String>;
}

struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _: &str, _: &str) -> Result<Source, String> {
        Err("there are no other files here".to_owned())
    }
}

/// Reads and checks a file. All that is wrong with it comes back at once.
pub fn check(source: &Source, given: Given<'_>) -> Result<Plan, Vec<Mistake>> {
    let file = load(source).map_err(|mistake| vec![mistake])?;
    let mut checker = Checker {
        flow: Flow::new(source, given.files),
        mistakes: Vec::new(),
        names: HashMap::new(),
        roles: Vec::new(),
        players: Vec::new(),
        networks: None,
        made: Vec::new(),
        steps: Vec::new(),
        order: Order::default(),
    };
    let (parts, finally) = checker.file(&file, given);
    if !checker.mistakes.is_empty() {
        return Err(checker.mistakes);
    }
    let (title, about) = (file.exercise.value, file.about);
    let players = std::mem::take(&mut checker.players);
    let hosts = file.hosts.0.into_iter().zip(players).map(|((role, agent), player)| HostPlan {
        role: role.value,
        agent: agent.map(|agent| agent.value).filter(|agent| !agent.is_empty()),
        player,
    });
    let vars = file.vars.0.into_iter().map(|(name, _)| name.value);
    let (hosts, vars) = (hosts.collect(), vars.collect());
    let networks = checker.networks.take();
    let (steps, sources) = (checker.steps, checker.flow.into_sources());
    Ok(Plan { title, about, hosts, networks, vars, steps, parts, finally, sources })
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub(super) enum Named {
    /// A socket of a host.
    Socket(SocketName),
    /// A datagram that this host has received, in this lane.
    Message(usize, Lane),
}

/// What is known of a socket before it is there.
#[derive(Debug, Clone)]
pub(super) struct SocketName {
    pub(super) host: usize,
    pub(super) transport: Transport,
    pub(super) listens: bool,
    pub(super) manual: bool,
    /// The step that closes it, and its lane.
    pub(super) closed: Option<(usize, Lane)>,
    /// The lane of the step that makes it.
    lane: Lane,
    used: bool,
    /// The file, and the place in it.
    made_at: (usize, Range<usize>),
}

/// The state of a check.
pub(super) struct Checker<'a> {
    /// Where in which file it is.
    pub(super) flow: Flow<'a>,
    mistakes: Vec<Mistake>,
    names: HashMap<String, Named>,
    pub(super) roles: Vec<String>,
    /// Who plays them.
    players: Vec<Player>,
    networks: Option<Networks>,
    /// Sockets in the order in which they are made.
    made: Vec<String>,
    steps: Vec<Step>,
    /// What is done after what.
    pub(super) order: Order,
}

impl Checker<'_> {
    fn file(&mut self, file: &ExerciseFile, given: Given<'_>) -> (Vec<Part>, Vec<Part>) {
        self.hosts(&file.hosts, given.casting);
        self.networks(file, given);
        let vars: Vec<_> = given.vars.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        self.vars(&file.vars, &vars, |name| format!("--var {name}=VALUE"));
        if file.steps.is_empty() {
            self.wrong(span(&file.exercise.referenced), "the exercise has no steps");
        }
        self.steps(&file.steps);
        let parts = self.finally(&file.finally);
        self.unused_vars();
        self.unused();
        parts
    }

    fn hosts(&mut self, hosts: &Ordered<Option<Spanned<String>>>, casting: Casting<'_>) {
        for (role, _) in &hosts.0 {
            if let Err(problem) = check_name(&role.value) {
                self.wrong(span(&role.referenced), problem.to_string());
            }
            self.roles.push(role.value.clone());
        }
        if self.roles.is_empty() {
            self.wrong(0..0, "`hosts` names nobody: it needs at least one role");
        }
        let typed = |agent: &Option<Spanned<String>>| agent.clone().filter(|agent| !agent.value.is_empty());
        let agents: Vec<_> = hosts.0.iter().map(|(_, agent)| typed(agent)).collect();
        let named = |agent: &'_ Option<Spanned<String>>| agent.as_ref().map(|agent| agent.value.clone());
        let texts: Vec<Option<String>> = agents.iter().map(named).collect();
        let roles: Vec<_> =
            self.roles.iter().zip(&texts).map(|(role, text)| (role.as_str(), text.as_deref())).collect();
        let (players, problems) = players(casting, &roles);
        for (at, problem) in problems {
            let place = agents[at].as_ref().unwrap_or(&hosts.0[at].0);
            self.wrong_with_help(span(&place.referenced), problem.message, problem.help);
        }
        self.players = players;
    }

    /// The networks that a role has addresses in.
    fn networks_of(&self, role: &str) -> Vec<String> {
        let player = self.roles.iter().position(|known| known == role).and_then(|at| self.players.get(at));
        match player {
            Some(Player::Listed(host)) => host.addresses.iter().map(|(network, _)| network.clone()).collect(),
            Some(Player::At(_)) => Vec::new(),
            Some(Player::Embedded | Player::Namespace) | None => {
                let host = self.roles.iter().position(|known| known == role).unwrap_or(usize::MAX);
                let all = self.networks.iter().flat_map(|networks| networks.addresses_of(host));
                all.map(|(network, _)| network).collect()
            }
        }
    }

    /// The networks of the file, as far as those who play its hosts can have them.
    fn networks(&mut self, file: &ExerciseFile, given: Given<'_>) {
        let mode = given.casting.mode;
        let Some((first, _)) = file.networks.0.first() else {
            if let Some((router, _)) = file.routers.0.first() {
                self.wrong(span(&router.referenced), "a router forwards between networks, and there are no `networks`");
            }
            if mode == Mode::Namespaces && self.roles.len() > MOST_HOSTS {
                self.wrong(0..0, format!("namespaces are for at most {MOST_HOSTS} hosts"));
            } else if mode == Mode::Namespaces {
                self.networks = Some(Networks::of_one(self.roles.len()));
            }
            return;
        };
        match networks::read(self.flow.source(), given.files, &self.roles, &file.networks, &file.routers) {
            Ok(read) => self.networks = Some(read),
            Err(mistakes) => self.mistakes.extend(mistakes),
        }
        if mode != Mode::Machines {
            return;
        }
        let embedded = self.players.iter().position(|player| *player == Player::Embedded);
        if let Some(role) = embedded.map(|at| self.roles[at].clone()) {
            let message =
                format!("`{role}` would be played by an embedded agent, and those have no networks of their own");
            let help = "run it with --netns, which makes the networks on this machine, or on the machines of a lab by --inventory FILE";
            self.wrong_with_help(span(&first.referenced), message, help);
            return;
        }
        for (router, file) in &file.routers.0 {
            let Some(rules) = file.as_ref().and_then(|file| file.value.nft.as_ref()) else { continue };
            let message = format!("`{}` is a machine, and rules are loaded in namespaces only", router.value);
            self.wrong_with_help(span(&rules.referenced), message, "run it with --netns");
        }
    }

    /// How many mistakes there are so far.
    pub(super) fn mistake_count(&self) -> usize {
        self.mistakes.len()
    }

    /// A step that does something, as it stands in the file but for what is put in.
    pub(super) fn verb_step(&mut self, number: usize, file: &StepFile, verb_span: Range<usize>) -> Option<()> {
        let host = match &file.order {
            Some(events) => self.host_of(events),
            None => self.host(file)?,
        };
        let verb = words::verb(self, number, host, file)?;
        let step = Step {
            number,
            host,
            verb,
            within: self.duration(file.within.as_deref()),
            error: self.error_name(file.error.as_deref()),
            note: file.note.as_deref().map(|note| note.value.clone()),
            context: self.flow.context(),
            source: self.flow.at(),
            span: self.step_span(file),
            verb_span,
        };
        let at = self.push_step(step);
        self.order.push(Part::Step(at));
        Some(())
    }

    /// One more step, and its place among all.
    pub(super) fn push_step(&mut self, step: Step) -> usize {
        self.steps.push(step);
        self.steps.len() - 1
    }

    pub(super) fn step_at(&self, at: usize) -> &Step {
        &self.steps[at]
    }

    /// The one thing that a step does, and its place.
    pub(super) fn one_verb(&mut self, file: &StepFile) -> Option<(&'static str, Range<usize>)> {
        let verbs: Vec<_> = file.present().into_iter().filter(|(name, _)| grammar::says_what(name)).collect();
        match verbs.as_slice() {
            [only] => Some(only.clone()),
            [] => {
                let at = self.step_span(file);
                self.wrong_with_help(at, "the step does nothing", format!("a step has one of {}", grammar::verbs()));
                None
            }
            [(first, _), (second, at), ..] => {
                let message = format!("a step does one thing, and this one has `{first}` and `{second}`");
                self.wrong_with_help(at.clone(), message, "make two steps of it");
                None
            }
        }
    }

    /// All of a step, from its first to its last value.
    pub(super) fn step_span(&self, file: &StepFile) -> Range<usize> {
        let present = file.present();
        let start = present.iter().map(|(_, at)| at.start).min().unwrap_or(0);
        let end = present.iter().map(|(_, at)| at.end).max().unwrap_or(start);
        start..end.min(self.flow.source().text.len())
    }

    fn host(&mut self, file: &StepFile) -> Option<usize> {
        let Some(on) = &file.on else {
            let at = self.step_span(file);
            let help = format!("`on:` names one of {}", self.roles.join(", "));
            self.wrong_with_help(at, "the step does not say who does it", help);
            return None;
        };
        self.role(on)
    }

    /// The host of the first socket of several.
    fn host_of(&mut self, events: &Spanned<Vec<Spanned<OrderFile>>>) -> usize {
        let first = events.value.first().and_then(|event| self.socket_mut(&event.value.expect.value));
        first.map_or(0, |socket| socket.host)
    }

    /// A host, by its role.
    pub(super) fn role(&mut self, role: &Spanned<String>) -> Option<usize> {
        let found = self.roles.iter().position(|known| *known == role.value);
        if found.is_none() {
            let help = suggestion(&role.value, self.roles.iter().map(String::as_str));
            self.wrong_with_help(span(&role.referenced), format!("there is no host `{}`", role.value), help);
        }
        found
    }

    // === Names ===

    /// Whether something may have this name.
    pub(super) fn new_name(&mut self, name: &Spanned<String>) -> bool {
        let problem = if let Err(problem) = check_name(&name.value) {
            problem.to_string()
        } else if self.roles.contains(&name.value) {
            format!("`{}` is a host already", name.value)
        } else if self.names.contains_key(&name.value) || self.flow.has(&name.value) {
            format!("there is a `{}` already: each thing needs a name of its own", name.value)
        } else {
            return true;
        };
        self.wrong(span(&name.referenced), problem);
        false
    }

    fn name(&mut self, name: &Spanned<String>, named: Named) {
        if self.new_name(name) {
            if matches!(named, Named::Socket(_)) {
                self.made.push(name.value.clone());
            }
            self.names.insert(name.value.clone(), named);
        }
    }

    /// Names a socket that a step makes.
    pub(super) fn make_socket(&mut self, name: &Spanned<String>, host: usize, transport: Transport) -> String {
        let made_at = (self.flow.at(), span(&name.referenced));
        let lane = self.order.lane.clone();
        let socket =
            SocketName { host, transport, listens: false, manual: false, closed: None, lane, used: false, made_at };
        self.name(name, Named::Socket(socket));
        name.value.clone()
    }

    /// Names a message that a step receives.
    pub(super) fn make_message(&mut self, name: &Spanned<String>, host: usize) -> String {
        self.name(name, Named::Message(host, self.order.lane.clone()));
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
        let sockets: Vec<String> = self.made.clone();
        let Some(socket) = self.socket_mut(&name.value) else {
            let message = format!("there is no socket `{}` yet", name.value);
            let help = suggestion(&name.value, sockets.iter().map(String::as_str));
            self.wrong_with_help(at, message, help);
            return None;
        };
        socket.used = true;
        let socket = socket.clone();
        if socket.host != host {
            let (owner, asked) = (&roles[socket.host], &roles[host]);
            let message = format!("`{}` is a socket of {owner}, not of {asked}", name.value);
            self.wrong_with_help(at, message, format!("write `on: {owner}`"));
            return None;
        }
        if !self.is_there(&socket.lane) {
            self.made_beside(&name.value, at);
            return None;
        }
        if let Some(step) = self.closed_by(&socket) {
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
            self.wrong_with_help(span(&name.referenced), message, help);
            return None;
        }
        Some(socket)
    }

    /// A message of this host that a step answers.
    pub(super) fn use_message(&mut self, host: usize, name: &Spanned<String>) -> Option<String> {
        let at = span(&name.referenced);
        match self.names.get(&name.value) {
            Some(Named::Message(_, lane)) if !self.is_there(lane) => self.made_beside(&name.value, at),
            Some(Named::Message(owner, _)) if *owner == host => return Some(name.value.clone()),
            Some(Named::Message(owner, _)) => {
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

    /// A name is used beside the step that brings it.
    fn made_beside(&mut self, name: &str, at: Range<usize>) {
        let message = format!("`{name}` comes of another branch, which goes on at the same time");
        self.wrong_with_help(at, message, "make it before the branches begin, or use it when they are over");
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
        unused.sort_by_key(|(_, (file, at))| (*file, at.start));
        for (name, (file, at)) in unused {
            let mistake = Mistake::new(self.flow.source_of(file), at, format!("`{name}` is made and never used"));
            self.mistakes.push(mistake.helped("use it, expect something of it, or leave it out"));
        }
    }

    // === Values ===

    pub(super) fn wrong(&mut self, at: Range<usize>, message: impl Into<String>) {
        let mistake = self.flow.mistake(at, message);
        self.mistakes.push(mistake);
    }

    /// A mistake that was found elsewhere.
    pub(super) fn found(&mut self, mistake: Mistake) {
        self.mistakes.push(mistake);
    }

    pub(super) fn wrong_with_help(&mut self, at: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        let mistake = self.flow.mistake(at, message).helped(help);
        self.mistakes.push(mistake);
    }

    /// Text with references, all of which must be known by now.
    pub(super) fn template(&mut self, text: &Spanned<String>) -> Template {
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

    pub(super) fn optional_template(&mut self, text: Option<&Spanned<String>>) -> Option<Template> {
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
}
