//! The words of the exercise language: what each verb takes, and what each value may be.

use std::time::Duration;

use serde_saphyr::Spanned;

use crate::exercise::check::Checker;
use crate::exercise::file::{ResolveFile, StepFile};
use crate::exercise::plan::{
    EventWanted, Expectation, Facts, Found, Marks, Payload, Question, Role, SocketPlan, Verb, Wanted,
};
use crate::exercise::template::Template;
use crate::model::address::{Family, Transport};
use crate::model::errno::{Errno, LookupErrno};
use crate::model::event::Event;
use crate::model::group::{GroupAsked, GroupChange};
use crate::model::limits::READ_SIZE;
use crate::model::operation::{ShutdownHow, WriteFlags};
use crate::model::refusal::Refusal;
use crate::model::socket::{AcceptPolicy, CloseReason, Direction, HalfOpenPolicy, SocketState};
use crate::model::tcp::TcpState;
use crate::model::yaml::span;

/// The verbs.
pub(super) const VERBS: [&str; 21] = [
    "create",
    "bind",
    "listen",
    "accept",
    "connect",
    "write",
    "send",
    "receive",
    "shutdown",
    "close",
    "abort",
    "set",
    "join",
    "leave",
    "block",
    "unblock",
    "flush",
    "disconnect",
    "resolve",
    "parse",
    "expect",
];

/// The most connections that listen(2) lets wait.
const MAX_BACKLOG: u32 = 65_535;

/// The longest time that a file may state.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What goes with every verb that makes a TCP socket.
const TCP_SOCKET: [&str; 17] = [
    "r#as",
    "local",
    "family",
    "backlog",
    "max_connections",
    "half_open",
    "accepting",
    "direction",
    "delivery",
    "paused",
    "read_size",
    "credit",
    "read_interval",
    "idle_timeout",
    "read_delay",
    "close_delay",
    "options",
];
/// What goes with a listener beside that.
const LISTENER: [&str; 2] = ["max_accepts", "accept_delay"];
/// What goes with a connect.
const ATTEMPTS: [&str; 3] = ["attempt_timeout", "retry", "retry_interval"];
/// What goes with a UDP socket that is made.
const UDP_SOCKET: [&str; 10] =
    ["r#as", "local", "family", "direction", "delivery", "paused", "read_size", "credit", "read_interval", "options"];
/// What goes with bytes that are written.
const WRITTEN: [&str; 9] =
    ["text", "encoding", "hex", "pattern", "urgent", "more", "slice_size", "slice_interval", "written"];
/// What goes with a datagram that is sent.
const SENT: [&str; 9] =
    ["text", "encoding", "hex", "pattern", "to", "reply_to", "source", "hop_limit", "traffic_class"];
/// What can be expected of what is received.
const RECEIVED: [&str; 14] = [
    "text",
    "encoding",
    "hex",
    "pattern",
    "size",
    "offset",
    "end",
    "truncated",
    "peer",
    "hop_limit",
    "traffic_class",
    "at_least",
    "at_most",
    "r#as",
];
/// What can be expected of an event.
const EVENT: [&str; 10] = ["event", "text", "encoding", "hex", "pattern", "size", "offset", "peer", "reason", "quiet"];
/// What can be expected of a socket.
const FACTS: [&str; 12] = [
    "state",
    "tcp_state",
    "tcp_info",
    "connections",
    "queue",
    "bytes_read",
    "bytes_written",
    "receive_queue",
    "datagrams_dropped",
    "local",
    "peer",
    "backlog",
];

const TRANSPORTS: [(&str, Transport); 2] = [("tcp", Transport::Tcp), ("udp", Transport::Udp)];
const FAMILIES: [(&str, Family); 2] = [("ipv4", Family::Ipv4), ("ipv6", Family::Ipv6)];

/// Whether there is an error of this name.
pub(super) fn is_error_name(name: &str) -> bool {
    error_names().any(|known| known == name)
}

/// The names of all errors that a step can expect: of the kernel, of the resolver, of the agent, and of silence.
pub(super) fn error_names() -> impl Iterator<Item = &'static str> + Clone {
    let kernel = Errno::ALL.iter().map(|errno| errno.name());
    let resolver = LookupErrno::ALL.iter().map(|errno| errno.name());
    kernel.chain(resolver).chain(Refusal::SOCKET_REASONS).chain(std::iter::once("timeout"))
}

/// What a step does.
pub(super) fn verb(checker: &mut Checker<'_>, number: usize, host: usize, file: &StepFile) -> Option<Verb> {
    let mut words = Words { checker, number, host, file };
    if let Some(word) = &file.create {
        words.create(word)
    } else if let Some(word) = &file.listen {
        words.listen(word)
    } else if let Some(word) = &file.connect {
        words.connect(word)
    } else if let Some(socket) = &file.bind {
        words.bind(socket)
    } else if let Some(listener) = &file.accept {
        words.accept(listener)
    } else if let Some(socket) = &file.write {
        words.write(socket)
    } else if let Some(socket) = &file.send {
        words.send(socket)
    } else if let Some(socket) = &file.receive {
        words.receive(socket)
    } else if let Some(socket) = &file.shutdown {
        words.shutdown(socket)
    } else if let Some(socket) = &file.close {
        words.close(socket)
    } else if let Some(socket) = &file.abort {
        words.abort(socket)
    } else if let Some(socket) = &file.set {
        words.set(socket)
    } else if let Some(socket) = &file.join {
        words.group("join", GroupChange::Join, socket)
    } else if let Some(socket) = &file.leave {
        words.group("leave", GroupChange::Leave, socket)
    } else if let Some(socket) = &file.block {
        words.group("block", GroupChange::Block, socket)
    } else if let Some(socket) = &file.unblock {
        words.group("unblock", GroupChange::Unblock, socket)
    } else if let Some(socket) = &file.flush {
        words.flush(socket)
    } else if let Some(socket) = &file.disconnect {
        words.disconnect(socket)
    } else if let Some(question) = &file.resolve {
        words.resolve(question)
    } else if let Some(text) = &file.parse {
        words.parse(text)
    } else {
        words.expect(file.expect.as_ref()?)
    }
}

/// One step on its way to a verb.
pub(super) struct Words<'a, 'b> {
    pub(super) checker: &'a mut Checker<'b>,
    pub(super) number: usize,
    pub(super) host: usize,
    pub(super) file: &'a StepFile,
}

impl Words<'_, '_> {
    // === Sockets that are made ===

    fn create(&mut self, word: &Spanned<String>) -> Option<Verb> {
        let transport = self.checker.word(Some(word), &TRANSPORTS)?;
        match transport {
            Transport::Tcp => self.checker.only(self.file, "create", &[&TCP_SOCKET[..], &LISTENER].concat()),
            Transport::Udp => self.checker.only_with(self.file, "create", "`create: udp`", &UDP_SOCKET),
        }
        self.new_socket("create", transport, Role::Idle)
    }

    fn listen(&mut self, word: &Spanned<String>) -> Option<Verb> {
        // What has a colon is an address, and so the name is missing.
        if self.file.r#as.is_none() && !word.value.contains(':') {
            self.checker.only(self.file, "listen", &["backlog"]);
            self.checker.use_socket_of(self.number, self.host, word, Transport::Tcp)?;
            self.now_listens(&word.value);
            let backlog = self.in_range("backlog", self.file.backlog.as_ref(), 1..=MAX_BACKLOG);
            return Some(Verb::Listen { socket: word.value.clone(), backlog });
        }
        self.checker.only(self.file, "listen", &[&TCP_SOCKET[..], &LISTENER].concat());
        let address = self.address(word);
        let verb = self.new_socket("listen", Transport::Tcp, Role::Listen(address))?;
        if let Some(name) = &self.file.r#as {
            self.now_listens(&name.value);
        }
        Some(verb)
    }

    fn connect(&mut self, word: &Spanned<String>) -> Option<Verb> {
        if let Some(to) = &self.file.to {
            self.checker.only(self.file, "connect", &[&["to"][..], &ATTEMPTS].concat());
            self.checker.use_socket(self.number, self.host, word)?;
            let to = self.address(to);
            return Some(Verb::Connect { socket: word.value.clone(), to, attempts: self.attempts() });
        }
        self.checker.only(self.file, "connect", &[&TCP_SOCKET[..], &ATTEMPTS].concat());
        let address = self.address(word);
        self.new_socket("connect", Transport::Tcp, Role::Connect(address))
    }

    fn now_listens(&mut self, name: &str) {
        let manual = self.file.accepting.as_ref().is_some_and(|accepting| accepting.value == "manual");
        if let Some(socket) = self.checker.socket_mut(name) {
            socket.listens = true;
            socket.manual |= manual;
        }
    }

    fn new_socket(&mut self, verb: &str, transport: Transport, role: Role) -> Option<Verb> {
        let file = self.file;
        let Some(name) = &file.r#as else {
            let at = file.present().first().map_or(0..0, |(_, at)| at.clone());
            self.checker.wrong_with_help(
                at,
                format!("`{verb}` makes a socket, which needs a name"),
                "give it one by `as: NAME`",
            );
            return None;
        };
        let local = file.local.as_ref().map(|local| self.address(local));
        let socket = SocketPlan {
            name: self.checker.make_socket(name, self.host, transport),
            transport,
            family: self.checker.word(file.family.as_ref(), &FAMILIES),
            local,
            role,
            backlog: self.in_range("backlog", file.backlog.as_ref(), 1..=MAX_BACKLOG),
            max_connections: file.max_connections.as_ref().map(|max| max.value),
            accept: self
                .checker
                .word(file.accepting.as_ref(), &[("auto", AcceptPolicy::Auto), ("manual", AcceptPolicy::Manual)])
                .unwrap_or_default(),
            half_open: self
                .checker
                .word(
                    file.half_open.as_ref(),
                    &[("allow", HalfOpenPolicy::Allow), ("auto_end", HalfOpenPolicy::AutoEnd)],
                )
                .unwrap_or_default(),
            direction: self.direction(),
            delivery: self.delivery().unwrap_or_default(),
            idle_timeout: self.checker.duration(file.idle_timeout.as_ref()).unwrap_or_default(),
            max_accepts: file.max_accepts.as_ref().map(|max| max.value),
            accept_delay: self.checker.duration(file.accept_delay.as_ref()).unwrap_or_default(),
            read_delay: self.checker.duration(file.read_delay.as_ref()).unwrap_or_default(),
            close_delay: self.checker.duration(file.close_delay.as_ref()).unwrap_or_default(),
            attempts: self.attempts(),
            options: self.options(),
        };
        self.contradictions(&socket);
        if socket.accept == AcceptPolicy::Manual
            && let Some(known) = self.checker.socket_mut(&socket.name)
        {
            known.manual = true;
        }
        Some(Verb::Create(Box::new(socket)))
    }

    fn direction(&mut self) -> Direction {
        let words =
            [("both", Direction::Both), ("receive_only", Direction::ReceiveOnly), ("send_only", Direction::SendOnly)];
        self.checker.word(self.file.direction.as_ref(), &words).unwrap_or_default()
    }

    // === Sockets that are there ===

    fn bind(&mut self, socket: &Spanned<String>) -> Option<Verb> {
        self.checker.only(self.file, "bind", &["to"]);
        self.checker.use_socket(self.number, self.host, socket)?;
        let to = self.needed("bind", "to", self.file.to.as_ref(), socket)?;
        let to = self.address(to);
        Some(Verb::Bind { socket: socket.value.clone(), to })
    }

    fn accept(&mut self, listener: &Spanned<String>) -> Option<Verb> {
        self.checker.only(self.file, "accept", &["r#as", "peer"]);
        let known = self.checker.use_socket_of(self.number, self.host, listener, Transport::Tcp)?;
        if !known.listens {
            let message = format!("`{}` does not listen", listener.value);
            self.checker.wrong(span(&listener.referenced), message);
            return None;
        }
        let peer = self.checker.optional_template(self.file.peer.as_ref());
        let name = self.needed("accept", "as", self.file.r#as.as_ref(), listener)?;
        let name = self.checker.make_socket(name, self.host, Transport::Tcp);
        Some(Verb::Accept { listener: listener.value.clone(), name, peer, manual: known.manual })
    }

    fn write(&mut self, socket: &Spanned<String>) -> Option<Verb> {
        self.checker.only(self.file, "write", &WRITTEN);
        self.checker.use_socket_of(self.number, self.host, socket, Transport::Tcp)?;
        let written = self.file.written.as_ref().map(|written| written.value);
        let payload = self.payload();
        let Some(payload) = payload else {
            // Where there is one that is wrong, that has been said.
            if self.file.text.is_none() && self.file.hex.is_none() && self.file.pattern.is_none() {
                let help = "give it by one of text, hex and pattern";
                self.checker.wrong_with_help(span(&socket.referenced), "there is nothing to write", help);
            }
            return None;
        };
        let flags = WriteFlags {
            urgent: self.file.urgent.as_ref().is_some_and(|urgent| urgent.value),
            more: self.file.more.as_ref().is_some_and(|more| more.value),
        };
        Some(Verb::Write { socket: socket.value.clone(), payload, flags, slices: self.slices(), written })
    }

    fn send(&mut self, socket: &Spanned<String>) -> Option<Verb> {
        self.checker.only(self.file, "send", &SENT);
        self.checker.use_socket_of(self.number, self.host, socket, Transport::Udp)?;
        let to = self.file.to.as_ref().map(|to| self.address(to));
        let reply_to = match &self.file.reply_to {
            Some(name) => Some(self.checker.use_message(self.host, name)?),
            None => None,
        };
        let marks = Marks {
            source: self.checker.optional_template(self.file.source.as_ref()),
            hop_limit: self.byte("hop_limit", self.file.hop_limit.as_ref()),
            traffic_class: self.byte("traffic_class", self.file.traffic_class.as_ref()),
        };
        // Without a payload, a datagram of zero bytes is sent.
        let payload = self.payload().unwrap_or_else(|| Payload::Bytes(bytes::Bytes::new()));
        Some(Verb::Send { socket: socket.value.clone(), to, reply_to, marks, payload })
    }

    fn receive(&mut self, socket: &Spanned<String>) -> Option<Verb> {
        match self.file.quiet {
            Some(_) => self.checker.only_with(self.file, "receive", "`receive` with `quiet`", &["quiet"]),
            None => self.checker.only(self.file, "receive", &RECEIVED),
        }
        let known = self.checker.use_socket(self.number, self.host, socket)?;
        let file = self.file;
        let wanted = Wanted {
            payload: self.payload(),
            size: file.size.as_ref().map(|size| size.value),
            offset: file.offset.as_ref().map(|offset| offset.value),
            end: file.end.as_ref().is_some_and(|end| end.value),
            truncated: file.truncated.as_ref().map(|truncated| truncated.value),
            peer: self.checker.optional_template(file.peer.as_ref()),
            hop_limit: self.byte("hop_limit", file.hop_limit.as_ref()),
            traffic_class: self.byte("traffic_class", file.traffic_class.as_ref()),
            at_least: self.in_range("at_least", file.at_least.as_ref(), 1..=READ_SIZE),
            at_most: self.in_range("at_most", file.at_most.as_ref(), 1..=READ_SIZE),
            quiet: self.checker.duration(file.quiet.as_ref()),
        };
        let name = file.r#as.as_ref().map(|name| self.checker.make_message(name, self.host));
        Some(Verb::Receive { socket: socket.value.clone(), transport: known.transport, wanted: Box::new(wanted), name })
    }

    fn flush(&mut self, socket: &Spanned<String>) -> Option<Verb> {
        self.checker.only(self.file, "flush", &[]);
        self.checker.use_socket_of(self.number, self.host, socket, Transport::Tcp)?;
        Some(Verb::Flush { socket: socket.value.clone() })
    }

    fn disconnect(&mut self, socket: &Spanned<String>) -> Option<Verb> {
        self.checker.only(self.file, "disconnect", &[]);
        self.checker.use_socket_of(self.number, self.host, socket, Transport::Udp)?;
        Some(Verb::Disconnect { socket: socket.value.clone() })
    }

    fn shutdown(&mut self, socket: &Spanned<String>) -> Option<Verb> {
        self.checker.only(self.file, "shutdown", &["how"]);
        self.checker.use_socket(self.number, self.host, socket)?;
        let words = [("send", ShutdownHow::Send), ("receive", ShutdownHow::Receive), ("both", ShutdownHow::Both)];
        let how = self.checker.word(self.file.how.as_ref(), &words).unwrap_or_default();
        Some(Verb::Shutdown { socket: socket.value.clone(), how })
    }

    fn close(&mut self, socket: &Spanned<String>) -> Option<Verb> {
        self.checker.only(self.file, "close", &["linger"]);
        self.checker.use_socket(self.number, self.host, socket)?;
        self.now_closed(socket);
        let linger = self.checker.duration(self.file.linger.as_ref());
        let linger = linger.and_then(|linger| {
            let seconds = u16::try_from(linger.as_secs()).ok().filter(|_| linger.subsec_nanos() == 0);
            if seconds.is_none() {
                self.checker.wrong(span(&socket.referenced), "`linger` takes whole seconds, at most 65535s");
            }
            seconds
        });
        Some(Verb::Close { socket: socket.value.clone(), linger })
    }

    fn abort(&mut self, socket: &Spanned<String>) -> Option<Verb> {
        self.checker.only(self.file, "abort", &[]);
        self.checker.use_socket(self.number, self.host, socket)?;
        self.now_closed(socket);
        Some(Verb::Abort { socket: socket.value.clone() })
    }

    fn now_closed(&mut self, socket: &Spanned<String>) {
        let number = self.number;
        if let Some(known) = self.checker.socket_mut(&socket.value) {
            known.closed = Some(number);
        }
    }

    fn set(&mut self, socket: &Spanned<String>) -> Option<Verb> {
        self.checker.only(self.file, "set", &["delivery", "paused", "read_size", "credit", "read_interval", "options"]);
        self.checker.use_socket(self.number, self.host, socket)?;
        let delivery = self.delivery();
        let options = self.options();
        if delivery.is_none() && options.is_empty() && self.file.options.is_none() {
            let help = "`set` takes delivery, paused, read_size, credit, read_interval and options";
            self.checker.wrong_with_help(span(&socket.referenced), "there is nothing to set", help);
            return None;
        }
        Some(Verb::Set { socket: socket.value.clone(), delivery, options })
    }

    fn group(&mut self, verb: &'static str, change: GroupChange, socket: &Spanned<String>) -> Option<Verb> {
        self.checker.only(self.file, verb, &["group", "interface", "source"]);
        self.checker.use_socket_of(self.number, self.host, socket, Transport::Udp)?;
        let typed = self.needed(verb, "group", self.file.group.as_ref(), socket)?;
        let group = self.checker.template(typed);
        let interface = self.checker.optional_template(self.file.interface.as_ref());
        if matches!(change, GroupChange::Block | GroupChange::Unblock) {
            self.needed(verb, "source", self.file.source.as_ref(), socket)?;
        }
        let source = self.checker.optional_template(self.file.source.as_ref());
        let literal = |template: &Option<Template>| template.as_ref().map_or(Some(String::new()), Template::literal);
        // What is put in when it runs is checked then.
        if let (Some(group), Some(interface), Some(source)) = (group.literal(), literal(&interface), literal(&source))
            && let Err(violation) = GroupAsked::read(&group, &interface, &source)
        {
            let at = match violation.field.as_str() {
                "interface" => self.file.interface.as_ref(),
                "source" => self.file.source.as_ref(),
                _ => None,
            };
            self.checker.wrong(span(&at.unwrap_or(typed).referenced), violation.problem.to_string());
            return None;
        }
        Some(Verb::Group { socket: socket.value.clone(), change, group, interface, source })
    }

    // === Questions ===

    fn resolve(&mut self, file: &Spanned<ResolveFile>) -> Option<Verb> {
        self.checker.only(self.file, "resolve", &["port", "service", "address"]);
        let asked = &file.value;
        let transport = match asked.transport.as_deref() {
            None | Some("tcp") => Transport::Tcp,
            Some("udp") => Transport::Udp,
            Some(other) => {
                self.checker.wrong(span(&file.referenced), format!("`{other}` is no transport: tcp or udp"));
                return None;
            }
        };
        let question = match (&asked.host, &asked.address, &asked.service, asked.port) {
            (Some(host), None, None, None) => Question::Host(host.clone()),
            (None, Some(address), None, None) => Question::Address(address.clone()),
            (None, None, Some(service), None) => Question::Service(service.clone(), transport),
            (None, None, None, Some(port)) => Question::Port(port, transport),
            _ => {
                let message = "one of host, address, service and port is needed";
                self.checker.wrong(span(&file.referenced), message);
                return None;
            }
        };
        let found = Found {
            port: self.file.port.as_ref().map(|port| port.value),
            service: self.file.service.as_ref().map(|service| service.value.clone()),
            address: self.file.address.as_ref().map(|address| address.value.clone()),
        };
        Some(Verb::Resolve { question, found })
    }

    fn parse(&mut self, text: &Spanned<String>) -> Option<Verb> {
        self.checker.only(self.file, "parse", &["is"]);
        if let Some(error) = &self.file.error {
            self.checker.wrong(span(&error.referenced), "`error` means nothing to `parse`: it never fails");
        }
        let words = [("ipv4", Some(Family::Ipv4)), ("ipv6", Some(Family::Ipv6)), ("none", None)];
        let is = self.needed("parse", "is", self.file.is.as_ref(), text)?;
        let is = self.checker.word(Some(is), &words)?;
        let text = self.checker.template(text);
        Some(Verb::Parse { text, is })
    }

    fn expect(&mut self, socket: &Spanned<String>) -> Option<Verb> {
        match (&self.file.event, &self.file.quiet) {
            (None, None) => self.checker.only(self.file, "expect", &FACTS),
            (None, Some(_)) => {
                self.checker.only_with(self.file, "expect", "`expect` with `quiet`", &["quiet", "event"])
            }
            (Some(_), None) => self.checker.only_with(self.file, "expect", "`expect` with `event`", &EVENT),
            (Some(_), Some(_)) => {
                self.checker.only_with(self.file, "expect", "`expect` with `event` and `quiet`", &["event", "quiet"]);
            }
        }
        // A socket that was closed can still be asked about.
        let closed = self.checker.socket_mut(&socket.value).and_then(|known| known.closed.take());
        let used = self.checker.use_socket(self.number, self.host, socket);
        if let (Some(step), Some(known)) = (closed, self.checker.socket_mut(&socket.value)) {
            known.closed = Some(step);
        }
        used?;
        let expectation = self.expectation(socket)?;
        Some(Verb::Expect { socket: socket.value.clone(), expectation: Box::new(expectation) })
    }

    fn expectation(&mut self, socket: &Spanned<String>) -> Option<Expectation> {
        let file = self.file;
        let kinds = Event::KINDS.iter().map(|kind| (*kind, *kind));
        let kind = self.checker.word(file.event.as_ref(), &kinds.collect::<Vec<_>>());
        if file.event.is_some() && kind.is_none() {
            return None;
        }
        if let Some(quiet) = self.checker.duration(file.quiet.as_ref()) {
            if let Some(error) = &file.error {
                self.checker.wrong(span(&error.referenced), "`error` means nothing to silence");
            }
            return Some(Expectation::Quiet(quiet, kind));
        }
        if let Some(kind) = kind {
            return Some(Expectation::Event(EventWanted {
                kind,
                payload: self.payload(),
                size: file.size.as_ref().map(|size| size.value),
                offset: file.offset.as_ref().map(|offset| offset.value),
                peer: self.checker.optional_template(file.peer.as_ref()),
                reason: self
                    .checker
                    .word(file.reason.as_ref(), &CloseReason::ALL.map(|reason| (reason.name(), reason))),
                errno: file.error.as_ref().map(|error| error.value.clone()),
            }));
        }
        if let Some(error) = &file.error {
            self.checker.wrong(span(&error.referenced), "`error` goes with `event` here: it is what the event tells");
        }
        let facts = Facts {
            state: self.checker.word(file.state.as_ref(), &SocketState::ALL.map(|state| (state.name(), state))),
            tcp_state: self.checker.word(file.tcp_state.as_ref(), &TcpState::ALL.map(|state| (state.name(), state))),
            tcp_info: self.tcp_info(),
            connections: file.connections.as_ref().map(|count| count.value),
            bytes_read: file.bytes_read.as_ref().map(|bytes| bytes.value),
            bytes_written: file.bytes_written.as_ref().map(|bytes| bytes.value),
            queue: file.queue.as_ref().map(|count| count.value),
            receive_queue: file.receive_queue.as_ref().map(|bytes| bytes.value),
            datagrams_dropped: file.datagrams_dropped.as_ref().map(|count| count.value),
            local: self.checker.optional_template(file.local.as_ref()),
            peer: self.checker.optional_template(file.peer.as_ref()),
            backlog: file.backlog.as_ref().map(|backlog| backlog.value),
        };
        if facts == Facts::default() && file.state.is_none() && file.tcp_state.is_none() && file.tcp_info.is_none() {
            let message = format!("nothing is expected of `{}`", socket.value);
            let help = "say what: event, state, tcp_state, tcp_info, connections, queue, bytes_read, bytes_written, receive_queue, datagrams_dropped, local, peer, or quiet";
            self.checker.wrong_with_help(span(&socket.referenced), message, help);
            return None;
        }
        Some(Expectation::Facts(facts))
    }
}
