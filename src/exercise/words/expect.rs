//! The verbs that ask, and those that wait until something is true.

use serde_saphyr::Spanned;

use crate::exercise::check::SocketName;
use crate::exercise::course::OrderedEvent;
use crate::exercise::fields::{OrderFile, ResolveFile};
use crate::exercise::plan::{EventWanted, Expectation, FactNumber, FactSwitch, Facts, Found, Question, Verb};
use crate::exercise::words::Words;
use crate::exercise::words::grammar::{ADDRESS_KINDS, EVENT, FACTS, FOUND, QUIET, TRANSPORTS};
use crate::model::address::Transport;
use crate::model::event::Event;
use crate::model::memory::SocketMemory;
use crate::model::option::SocketOption;
use crate::model::socket::{CloseReason, SocketState};
use crate::model::tcp::{TcpInfo, TcpState};
use crate::model::yaml::span;

/// The most events of a kind that a step counts.
const MAX_COUNT: u64 = 100_000;

impl Words<'_, '_> {
    // === Questions ===

    pub(super) fn resolve(&mut self, file: &Spanned<ResolveFile>) -> Option<Verb> {
        self.checker.only(self.file, "resolve", &FOUND);
        let asked = &file.value;
        let transport = self.checker.word(asked.transport.as_ref(), &TRANSPORTS);
        if asked.transport.is_some() && transport.is_none() {
            return None;
        }
        let transport = transport.unwrap_or(Transport::Tcp);
        let text = |text: &Spanned<String>| text.value.clone();
        let question = match (&asked.host, &asked.address, &asked.service, &asked.port) {
            (Some(host), None, None, None) => Question::Host(text(host)),
            (None, Some(address), None, None) => match address.value.parse() {
                Ok(ip) => Question::Address(ip),
                Err(_) => {
                    let message = format!("`{}` is no IP address", address.value);
                    self.checker.wrong(span(&address.referenced), message);
                    return None;
                }
            },
            (None, None, Some(service), None) => Question::Service(text(service), transport),
            (None, None, None, Some(port)) => {
                Question::Port(self.number("port", Some(port), 0..=u16::MAX.into())?, transport)
            }
            _ => {
                let message = "one of host, address, service and port is needed";
                self.checker.wrong(span(&file.referenced), message);
                return None;
            }
        };
        let found = Found {
            port: self.number("port", self.file.port.as_deref(), 0..=u16::MAX.into()),
            service: self.file.service.as_deref().map(|service| service.value.clone()),
            address: self.file.address.as_deref().map(|address| address.value.clone()),
        };
        Some(Verb::Resolve { question, found })
    }

    pub(super) fn parse(&mut self, text: &Spanned<String>) -> Option<Verb> {
        self.checker.only(self.file, "parse", &["is"]);
        if let Some(error) = &self.file.error {
            self.checker.wrong(span(&error.referenced), "`error` means nothing to `parse`: it never fails");
        }
        let is = self.needed("parse", "is", self.file.is.as_deref(), text)?;
        let is = self.checker.word(Some(is), &ADDRESS_KINDS)?;
        let text = self.checker.template(text);
        Some(Verb::Parse { text, is })
    }

    pub(super) fn expect(&mut self, socket: &Spanned<String>) -> Option<Verb> {
        match (&self.file.event, &self.file.quiet) {
            (None, None) => self.checker.only(self.file, "expect", &FACTS),
            (None, Some(_)) => self.checker.only_with(self.file, "expect", "`expect` with `quiet`", &QUIET),
            (Some(_), None) => self.checker.only_with(self.file, "expect", "`expect` with `event`", &EVENT),
            (Some(_), Some(_)) if self.file.count.is_some() => {
                self.checker.only_with(self.file, "expect", "`expect` with `event`, `count` and `quiet`", &EVENT);
            }
            (Some(_), Some(_)) => {
                self.checker.only_with(
                    self.file,
                    "expect",
                    "`expect` with `event` and `quiet`",
                    &["event", "quiet", "count"],
                );
            }
        }
        let known = self.ask(self.host, socket)?;
        let expectation = self.expectation(socket)?;
        match (&expectation, &self.file.event) {
            (Expectation::Facts(facts), _) => {
                self.facts_fit(socket, &known);
                self.options_fit(known.transport, &facts.options);
            }
            (Expectation::Event(_), Some(event)) => self.event_fits(event, socket, &known),
            // What cannot happen does not.
            _ => {}
        }
        Some(Verb::Expect { socket: socket.value.clone(), expectation: Box::new(expectation) })
    }

    /// A socket that is asked about: that can be done also after it was closed.
    fn ask(&mut self, host: usize, socket: &Spanned<String>) -> Option<SocketName> {
        let closed = self.checker.socket_mut(&socket.value).and_then(|known| known.closed.take());
        let used = self.checker.use_socket(self.number, host, socket);
        if let (Some(step), Some(known)) = (closed, self.checker.socket_mut(&socket.value)) {
            known.closed = Some(step);
        }
        used
    }

    /// Events of sockets, each of which comes before the next.
    pub(super) fn order(&mut self, events: &Spanned<Vec<Spanned<OrderFile>>>) -> Option<Verb> {
        self.checker.only(self.file, "order", &[]);
        let at = span(&events.referenced);
        if let Some(on) = &self.file.on {
            let message = "`on` means nothing to `order`: its sockets say whose they are";
            self.checker.wrong(span(&on.referenced), message);
        }
        if let Some(error) = &self.file.error {
            self.checker.wrong(span(&error.referenced), "`error` means nothing to `order`");
        }
        if events.value.len() < 2 {
            self.checker.wrong(at, "`order` needs two events at least");
            return None;
        }
        let wanted: Vec<_> = events.value.iter().map(|event| self.ordered(&event.value)).collect();
        Some(Verb::Order { events: wanted.into_iter().collect::<Option<_>>()? })
    }

    fn ordered(&mut self, file: &OrderFile) -> Option<OrderedEvent> {
        let host = self.checker.socket_mut(&file.expect.value).map_or(self.host, |socket| socket.host);
        let known = self.ask(host, &file.expect)?;
        let kinds = Event::KINDS.iter().map(|kind| (*kind, *kind));
        let kind = self.checker.word(Some(&file.event), &kinds.collect::<Vec<_>>())?;
        self.event_fits(&file.event, &file.expect, &known);
        let count = match &file.count {
            Some(count) => self.number("count", Some(count), 1..=MAX_COUNT)?,
            None => 1,
        };
        Some(OrderedEvent { socket: file.expect.value.clone(), host, kind, count })
    }

    fn expectation(&mut self, socket: &Spanned<String>) -> Option<Expectation> {
        let file = self.file;
        let kinds = Event::KINDS.iter().map(|kind| (*kind, *kind));
        let kind = self.checker.word(file.event.as_deref(), &kinds.collect::<Vec<_>>());
        if file.event.is_some() && kind.is_none() {
            return None;
        }
        let quiet = self.checker.duration(file.quiet.as_deref());
        let count = self.number("count", file.count.as_deref(), 1..=MAX_COUNT);
        if let Some(quiet) = quiet.filter(|_| count.is_none()) {
            if let Some(error) = &file.error {
                self.checker.wrong(span(&error.referenced), "`error` means nothing to silence");
            }
            return Some(Expectation::Quiet(quiet, kind));
        }
        if let Some(kind) = kind {
            let option = self.option_wanted(kind);
            return Some(Expectation::Event(EventWanted {
                kind,
                payload: self.payload_wanted(),
                size: self.number("size", file.size.as_deref(), 0..=u32::MAX.into()),
                offset: self.number("offset", file.offset.as_deref(), 0..=u64::MAX),
                peer: self.checker.optional_template(file.peer.as_deref()),
                reason: self
                    .checker
                    .word(file.reason.as_deref(), &CloseReason::ALL.map(|reason| (reason.name(), reason))),
                errno: file.error.as_deref().map(|error| error.value.clone()),
                option,
                count: count.unwrap_or(1),
                quiet,
            }));
        }
        if let Some(error) = &file.error {
            self.checker.wrong(span(&error.referenced), "`error` goes with `event` here: it is what the event tells");
        }
        if !file.present().iter().any(|(name, _)| FACTS.contains(name)) {
            let message = format!("nothing is expected of `{}`", socket.value);
            let help = format!("say what: event, {}, or quiet", FACTS.join(", "));
            self.checker.wrong_with_help(span(&socket.referenced), message, help);
            return None;
        }
        Some(Expectation::Facts(self.facts()))
    }

    fn facts(&mut self) -> Facts {
        let file = self.file;
        let amounts = [
            (FactNumber::Connections, &file.connections),
            (FactNumber::Queue, &file.queue),
            (FactNumber::BytesRead, &file.bytes_read),
            (FactNumber::BytesWritten, &file.bytes_written),
            (FactNumber::ReceiveQueue, &file.receive_queue),
            (FactNumber::SendQueue, &file.send_queue),
            (FactNumber::PendingWriteBytes, &file.pending_write_bytes),
            (FactNumber::DatagramsDropped, &file.datagrams_dropped),
            (FactNumber::Verified, &file.verified),
            (FactNumber::WrongBytes, &file.wrong_bytes),
            (FactNumber::WrongDatagrams, &file.wrong_datagrams),
            (FactNumber::ProbesReceived, &file.probes_received),
            (FactNumber::ProbesLost, &file.probes_lost),
            (FactNumber::ProbesDuplicated, &file.probes_duplicated),
            (FactNumber::ProbesReordered, &file.probes_reordered),
            (FactNumber::Backlog, &file.backlog),
        ];
        let switches = [
            (FactSwitch::Readable, &file.readable),
            (FactSwitch::Writable, &file.writable),
            (FactSwitch::SelfConnected, &file.self_connected),
        ];
        Facts {
            state: self.checker.word(file.state.as_deref(), &SocketState::ALL.map(|state| (state.name(), state))),
            tcp_state: self.checker.word(file.tcp_state.as_deref(), &TcpState::ALL.map(|state| (state.name(), state))),
            numbers: amounts
                .into_iter()
                .filter_map(|(fact, text)| Some((fact, self.amount(text.as_ref()?)?)))
                .collect(),
            switches: switches
                .into_iter()
                .filter_map(|(fact, text)| Some((fact, self.switch(fact.name(), text.as_deref())?)))
                .collect(),
            tcp_info: self.amounts(file.tcp_info.as_deref(), "TCP_INFO", TcpInfo::numbers()),
            memory: self.amounts(file.memory.as_deref(), "SO_MEMINFO", SocketMemory::numbers()),
            hash_received: self.checker.optional_template(file.hash_received.as_deref()),
            hash_written: self.checker.optional_template(file.hash_written.as_deref()),
            local: self.checker.optional_template(file.local.as_deref()),
            peer: self.checker.optional_template(file.peer.as_deref()),
            labels: self.labels(),
            options: self.options_wanted(),
        }
    }

    /// The option that an event tells of.
    fn option_wanted(&mut self, kind: &str) -> Option<SocketOption> {
        let typed = self.file.options.as_deref()?;
        let mut options = self.options_wanted();
        if kind != "option_set" {
            self.checker.wrong(span(&typed.referenced), format!("`options` goes with `option_set`, not with `{kind}`"));
        } else if typed.value.0.len() != 1 {
            self.checker.wrong(span(&typed.referenced), "each `option_set` is of one option");
        }
        options.pop()
    }
}
