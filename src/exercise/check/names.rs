//! What the names of a file stand for, and whether they may be used where they are.

use std::ops::Range;

use serde_saphyr::Spanned;

use crate::exercise::check::Checker;
use crate::exercise::check::asked::Asked;
use crate::exercise::course::Lane;
use crate::model::address::Transport;
use crate::model::id::check_name;
use crate::model::mistake::{Mistake, suggestion};
use crate::model::yaml::span;

/// What a name stands for.
#[derive(Debug, Clone)]
pub(in crate::exercise) enum Named {
    /// A socket of a host.
    Socket(SocketName),
    /// A datagram that this host has received, in this lane.
    Message(usize, Lane),
}

/// What a socket is by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::exercise) enum Stage {
    /// It was made, and perhaps bound.
    New,
    /// It waits for connections.
    Listens,
    /// It is a connection, or has a remote address.
    Connected,
    /// Only the run tells: a step that would have changed it was to fail, or goes on at the same time.
    Unknown,
}

/// What the last step that changed it has made of a socket.
#[derive(Debug, Clone)]
struct Became {
    stage: Stage,
    /// The lane of the step.
    lane: Lane,
    /// Its place.
    at: Place,
}

/// A file, and the place in it.
type Place = (usize, Range<usize>);

/// What is known of a socket before it is there.
#[derive(Debug, Clone)]
pub(in crate::exercise) struct SocketName {
    pub(in crate::exercise) host: usize,
    pub(in crate::exercise) transport: Transport,
    pub(in crate::exercise) manual: bool,
    /// What its agent tells of it because it was asked to.
    pub(in crate::exercise) asked: Asked,
    became: Became,
    /// The step that closes it, and its lane.
    pub(in crate::exercise) closed: Option<(usize, Lane)>,
    /// The lane of the step that makes it.
    pub(super) lane: Lane,
    pub(super) used: bool,
    made_at: Place,
}

impl Checker<'_> {
    /// Whether something may have this name.
    pub(in crate::exercise) fn new_name(&mut self, name: &Spanned<String>) -> bool {
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
    pub(in crate::exercise) fn make_socket(
        &mut self,
        name: &Spanned<String>,
        host: usize,
        transport: Transport,
    ) -> String {
        let made_at = (self.flow.at(), span(&name.referenced));
        let lane = self.order.lane.clone();
        let became = Became { stage: Stage::New, lane: lane.clone(), at: made_at.clone() };
        let asked = Asked::default();
        let (manual, closed, used) = (false, None, false);
        let socket = SocketName { host, transport, manual, asked, became, closed, lane, used, made_at };
        self.name(name, Named::Socket(socket));
        name.value.clone()
    }

    /// Names a message that a step receives.
    pub(in crate::exercise) fn make_message(&mut self, name: &Spanned<String>, host: usize) -> String {
        self.name(name, Named::Message(host, self.order.lane.clone()));
        name.value.clone()
    }

    pub(in crate::exercise) fn socket_mut(&mut self, name: &str) -> Option<&mut SocketName> {
        match self.names.get_mut(name) {
            Some(Named::Socket(socket)) => Some(socket),
            _ => None,
        }
    }

    /// A socket of this host that a step uses.
    pub(in crate::exercise) fn use_socket(
        &mut self,
        number: usize,
        host: usize,
        name: &Spanned<String>,
    ) -> Option<SocketName> {
        let at = span(&name.referenced);
        let Some(socket) = self.socket_mut(&name.value) else {
            let message = format!("there is no socket `{}` yet", name.value);
            let help = suggestion(&name.value, self.made.iter().map(String::as_str));
            self.wrong_with_help(at, message, help);
            return None;
        };
        socket.used = true;
        let socket = socket.clone();
        if socket.host != host {
            let (owner, asked) = (&self.roles[socket.host], &self.roles[host]);
            let message = format!("`{}` is a socket of {owner}, not of {asked}", name.value);
            let help = format!("write `on: {owner}`");
            self.wrong_with_help(at, message, help);
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

    /// A step makes this of a socket.
    pub(in crate::exercise) fn make(&mut self, name: &Spanned<String>, stage: Stage) {
        let (lane, at) = (self.order.lane.clone(), (self.flow.at(), span(&name.referenced)));
        if let Some(socket) = self.socket_mut(&name.value) {
            socket.became = Became { stage, lane, at };
        }
    }

    /// What a socket is where the check is.
    pub(in crate::exercise) fn stage(&self, socket: &SocketName) -> Stage {
        let Became { stage, lane, .. } = &socket.became;
        match stage {
            _ if !self.is_there(lane) => Stage::Unknown,
            Stage::New if !self.is_known(socket) => Stage::Unknown,
            stage => *stage,
        }
    }

    /// Whether no other branch can change a socket at the same time: it was made in this one, or in one that is over.
    pub(super) fn is_known(&self, socket: &SocketName) -> bool {
        socket.lane.starts_with(&self.order.lane)
    }

    /// Which socket this is, in words.
    pub(in crate::exercise) fn told(&self, name: &str, socket: &SocketName) -> String {
        let (what, at) = match (socket.transport, self.stage(socket)) {
            (Transport::Tcp, Stage::Listens) => ("listening since", &socket.became.at),
            (_, Stage::Connected) => ("connected since", &socket.became.at),
            _ => ("made at", &socket.made_at),
        };
        format!("`{name}` is a {} socket, {what} {}", socket.transport, self.place(at))
    }

    /// Where a socket was made.
    pub(super) fn made(&self, socket: &SocketName) -> String {
        self.place(&socket.made_at)
    }

    fn place(&self, (file, at): &Place) -> String {
        let source = self.flow.source_of(*file);
        let line = source.line(at.start);
        if *file == self.flow.at() { format!("line {line}") } else { format!("{}:{line}", source.name) }
    }

    /// A message of this host that a step answers.
    pub(in crate::exercise) fn use_message(&mut self, host: usize, name: &Spanned<String>) -> Option<String> {
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
    pub(super) fn made_beside(&mut self, name: &str, at: Range<usize>) {
        let message = format!("`{name}` comes of another branch, which goes on at the same time");
        self.wrong_with_help(at, message, "make it before the branches begin, or use it when they are over");
    }

    /// Sockets that nothing is done with. Where a step is wrong, it may be one that would.
    pub(super) fn unused(&mut self) {
        if self.mistake_count() > 0 {
            return;
        }
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
}
