//! The verbs that make sockets, and those that change them.

use serde_saphyr::Spanned;

use crate::exercise::check::{Asked, Stage};
use crate::exercise::plan::{Role, SocketPlan, Verb};
use crate::exercise::words::grammar::{
    ACCEPT, ACCEPTING, ATTEMPTS, BIND, BIND_RETRY, DIRECTIONS, FAMILIES, FILTER, GROUP, HALF_OPEN, HOW, LISTENER,
    SETTINGS, TCP_SOCKET, TRANSPORTS, UDP_SOCKET,
};
use crate::exercise::words::{MAX_BACKLOG, Words};
use crate::model::address::Transport;
use crate::model::group::GroupChange;
use crate::model::operation::ShutdownHow;
use crate::model::socket::AcceptPolicy;
use crate::model::yaml::span;

impl Words<'_, '_> {
    // === Sockets that are made ===

    pub(super) fn create(&mut self, word: &Spanned<String>) -> Option<Verb> {
        let transport = self.checker.word(Some(word), &TRANSPORTS)?;
        match transport {
            Transport::Tcp => self.checker.only(self.file, "create", &[&TCP_SOCKET[..], &LISTENER].concat()),
            Transport::Udp => self.checker.only_with(self.file, "create", "`create: udp`", &UDP_SOCKET),
        }
        // Of a UDP socket, which waits for nobody's answer.
        let role = self.file.to.as_deref().filter(|_| transport == Transport::Udp);
        let role = role.map_or(Role::Idle, |to| Role::Connect(self.address(to)));
        self.new_socket("create", transport, role)
    }

    pub(super) fn listen(&mut self, word: &Spanned<String>) -> Option<Verb> {
        // What has a colon is an address, and so the name is missing.
        if self.file.r#as.is_none() && !word.value.contains(':') {
            self.checker.only(self.file, "listen", &["backlog"]);
            self.used_of("listen", word, Transport::Tcp)?;
            self.becomes(word, Stage::Listens);
            let backlog = self.number("backlog", self.file.backlog.as_deref(), 1..=MAX_BACKLOG);
            return Some(Verb::Listen { socket: word.value.clone(), backlog });
        }
        self.checker.only(self.file, "listen", &[&TCP_SOCKET[..], &LISTENER].concat());
        let address = self.address(word);
        self.new_socket("listen", Transport::Tcp, Role::Listen(address))
    }

    pub(super) fn connect(&mut self, word: &Spanned<String>) -> Option<Verb> {
        if let Some(to) = &self.file.to {
            self.checker.only(self.file, "connect", &[&BIND[..], &ATTEMPTS].concat());
            self.used("connect", word)?;
            self.becomes(word, Stage::Connected);
            let to = self.address(to);
            return Some(Verb::Connect { socket: word.value.clone(), to, attempts: self.attempts() });
        }
        self.checker.only(self.file, "connect", &[&TCP_SOCKET[..], &ATTEMPTS].concat());
        let address = self.address(word);
        self.new_socket("connect", Transport::Tcp, Role::Connect(address))
    }

    /// What a step makes of a socket, if it is not to fail.
    fn becomes(&mut self, name: &Spanned<String>, stage: Stage) {
        let stage = if self.file.error.is_some() { Stage::Unknown } else { stage };
        self.checker.make(name, stage);
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
        let local = file.local.as_deref().map(|local| self.address(local));
        let socket = SocketPlan {
            name: self.checker.make_socket(name, self.host, transport),
            transport,
            family: self.checker.word(file.family.as_deref(), &FAMILIES),
            local,
            bind_retry: self.bind_retry(),
            role,
            labels: self.labels(),
            deny: self.peers(file.deny.as_deref()),
            allow: self.peers(file.allow.as_deref()),
            backlog: self.number("backlog", file.backlog.as_deref(), 1..=MAX_BACKLOG),
            max_connections: self.number("max_connections", file.max_connections.as_deref(), 0..=u32::MAX.into()),
            accept: self.checker.word(file.accepting.as_deref(), &ACCEPTING).unwrap_or_default(),
            half_open: self.checker.word(file.half_open.as_deref(), &HALF_OPEN).unwrap_or_default(),
            direction: self.checker.word(file.direction.as_deref(), &DIRECTIONS).unwrap_or_default(),
            delivery: self.delivery().unwrap_or_default(),
            idle_timeout: self.checker.duration(file.idle_timeout.as_deref()).unwrap_or_default(),
            max_accepts: self.number("max_accepts", file.max_accepts.as_deref(), 0..=u32::MAX.into()),
            accept_delay: self.checker.duration(file.accept_delay.as_deref()).unwrap_or_default(),
            read_delay: self.checker.duration(file.read_delay.as_deref()).unwrap_or_default(),
            close_delay: self.checker.duration(file.close_delay.as_deref()).unwrap_or_default(),
            tell_states: self.switch("tcp_state_events", file.tcp_state_events.as_deref()).unwrap_or_default(),
            watermarks: self.watermarks(),
            write_timeout: self.write_timeout(),
            probes: self.switch("probes", file.probes.as_deref()).unwrap_or_default(),
            membership: self.membership(),
            attempts: self.attempts(),
            verify: self.verify(),
            options: self.options(),
        };
        self.contradictions(&socket);
        self.delivery_fits(transport, &socket.delivery);
        self.options_fit(transport, &socket.options);
        self.becomes(
            name,
            match socket.role {
                Role::Idle => Stage::New,
                Role::Listen(_) => Stage::Listens,
                Role::Connect(_) => Stage::Connected,
            },
        );
        if let Some(known) = self.checker.socket_mut(&socket.name) {
            known.manual = socket.accept == AcceptPolicy::Manual;
            known.asked = Asked::of(&socket);
        }
        Some(Verb::Create(Box::new(socket)))
    }

    // === Sockets that are there ===

    pub(super) fn bind(&mut self, socket: &Spanned<String>) -> Option<Verb> {
        self.checker.only(self.file, "bind", &[&BIND[..], &BIND_RETRY].concat());
        self.used("bind", socket)?;
        let to = self.needed("bind", "to", self.file.to.as_deref(), socket)?;
        let to = self.address(to);
        Some(Verb::Bind { socket: socket.value.clone(), to, retry: self.bind_retry() })
    }

    pub(super) fn accept(&mut self, listener: &Spanned<String>) -> Option<Verb> {
        self.checker.only(self.file, "accept", &ACCEPT);
        let known = self.used_of("accept", listener, Transport::Tcp)?;
        if !matches!(self.checker.stage(&known), Stage::Listens | Stage::Unknown) {
            let message = format!("{}, and does not listen", self.checker.told(&listener.value, &known));
            self.checker.wrong(span(&listener.referenced), message);
            return None;
        }
        let peer = self.checker.optional_template(self.file.peer.as_deref());
        let name = self.needed("accept", "as", self.file.r#as.as_deref(), listener)?;
        let guest = self.checker.make_socket(name, self.host, Transport::Tcp);
        self.becomes(name, Stage::Connected);
        if let Some(socket) = self.checker.socket_mut(&guest) {
            socket.asked = known.asked;
        }
        Some(Verb::Accept { listener: listener.value.clone(), name: guest, peer, manual: known.manual })
    }

    pub(super) fn flush(&mut self, socket: &Spanned<String>) -> Option<Verb> {
        self.checker.only(self.file, "flush", &[]);
        self.used_of("flush", socket, Transport::Tcp)?;
        Some(Verb::Flush { socket: socket.value.clone() })
    }

    pub(super) fn disconnect(&mut self, socket: &Spanned<String>) -> Option<Verb> {
        self.checker.only(self.file, "disconnect", &[]);
        self.used_of("disconnect", socket, Transport::Udp)?;
        self.becomes(socket, Stage::New);
        Some(Verb::Disconnect { socket: socket.value.clone() })
    }

    pub(super) fn shutdown(&mut self, socket: &Spanned<String>) -> Option<Verb> {
        self.checker.only(self.file, "shutdown", &["how"]);
        let known = self.used("shutdown", socket)?;
        let how = self.checker.word(self.file.how.as_deref(), &HOW).unwrap_or_default();
        if self.checker.stage(&known) == Stage::Listens && how != ShutdownHow::Send {
            // Linux lets it listen or connect again.
            self.becomes(socket, Stage::Unknown);
        }
        Some(Verb::Shutdown { socket: socket.value.clone(), how })
    }

    pub(super) fn close(&mut self, socket: &Spanned<String>) -> Option<Verb> {
        self.checker.only(self.file, "close", &["linger"]);
        self.checker.use_socket(self.number, self.host, socket)?;
        self.now_closed(socket);
        let linger = self.checker.duration(self.file.linger.as_deref());
        let linger = linger.and_then(|linger| {
            let seconds = u16::try_from(linger.as_secs()).ok().filter(|_| linger.subsec_nanos() == 0);
            if seconds.is_none() {
                self.checker.wrong(span(&socket.referenced), "`linger` takes whole seconds, at most 65535s");
            }
            seconds
        });
        Some(Verb::Close { socket: socket.value.clone(), linger })
    }

    pub(super) fn abort(&mut self, socket: &Spanned<String>) -> Option<Verb> {
        self.checker.only(self.file, "abort", &[]);
        self.checker.use_socket(self.number, self.host, socket)?;
        self.now_closed(socket);
        Some(Verb::Abort { socket: socket.value.clone() })
    }

    fn now_closed(&mut self, socket: &Spanned<String>) {
        let closed = (self.number, self.checker.order.lane.clone());
        if let Some(known) = self.checker.socket_mut(&socket.value) {
            known.closed = Some(closed);
        }
    }

    pub(super) fn set(&mut self, socket: &Spanned<String>) -> Option<Verb> {
        self.checker.only(self.file, "set", &SETTINGS);
        let known = self.used("set", socket)?;
        let delivery = self.delivery();
        let options = self.options();
        self.delivery_fits(known.transport, &delivery.unwrap_or_default());
        self.options_fit(known.transport, &options);
        if let Some(known) = self.checker.socket_mut(&socket.value) {
            known.asked.add(delivery.unwrap_or_default(), &options);
        }
        if delivery.is_none() && options.is_empty() && self.file.options.is_none() {
            let help = "`set` takes delivery, paused, read_size, credit, read_interval, hash and options";
            self.checker.wrong_with_help(span(&socket.referenced), "there is nothing to set", help);
            return None;
        }
        Some(Verb::Set { socket: socket.value.clone(), delivery, options })
    }

    pub(super) fn group(&mut self, verb: &'static str, change: GroupChange, socket: &Spanned<String>) -> Option<Verb> {
        self.checker.only(self.file, verb, &GROUP);
        self.used_of(verb, socket, Transport::Udp)?;
        self.needed(verb, "group", self.file.group.as_deref(), socket)?;
        if matches!(change, GroupChange::Block | GroupChange::Unblock) {
            self.needed(verb, "source", self.file.source.as_deref(), socket)?;
        }
        let membership = self.membership()?;
        Some(Verb::Group { socket: socket.value.clone(), change, membership })
    }

    pub(super) fn filter(&mut self, socket: &Spanned<String>) -> Option<Verb> {
        self.checker.only(self.file, "filter", &FILTER);
        self.used_of("filter", socket, Transport::Udp)?;
        self.needed("filter", "group", self.file.group.as_deref(), socket)?;
        self.needed("filter", "mode", self.file.mode.as_deref(), socket)?;
        Some(Verb::Filter { socket: socket.value.clone(), filter: self.source_filter()? })
    }
}
