//! The verbs that move bytes.

use serde_saphyr::Spanned;

use crate::exercise::plan::{Marks, Payload, Verb, Wanted};
use crate::exercise::words::Words;
use crate::exercise::words::grammar::{QUIET, RECEIVED, SENT, TRANSFERRED, WRITTEN};
use crate::model::address::Transport;
use crate::model::limits::READ_SIZE;
use crate::model::operation::{SendFlags, WriteFlags};
use crate::model::placeholder;
use crate::model::yaml::span;

/// The most datagrams that one call sends.
const MAX_DATAGRAMS: u64 = 1024;

/// The most datagrams that one step takes.
const MAX_RECEIVED: u64 = 100_000;

/// The most bytes that one step takes, in as many reads as they come in.
const MOST_TAKEN: u64 = 16 << 20;

impl Words<'_, '_> {
    pub(super) fn write(&mut self, socket: &Spanned<String>) -> Option<Verb> {
        self.checker.only(self.file, "write", &WRITTEN);
        self.used_of("write", socket, Transport::Tcp)?;
        let written = self.number("written", self.file.written.as_deref(), 0..=u32::MAX.into());
        let expected_offset = self.number("expected_offset", self.file.expected_offset.as_deref(), 0..=u64::MAX);
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
            urgent: self.switch("urgent", self.file.urgent.as_deref()).unwrap_or(false),
            more: self.switch("more", self.file.more.as_deref()).unwrap_or(false),
        };
        let slices = self.slices();
        Some(Verb::Write { socket: socket.value.clone(), payload, flags, slices, expected_offset, written })
    }

    pub(super) fn transfer(&mut self, socket: &Spanned<String>) -> Option<Verb> {
        self.checker.only(self.file, "transfer", &TRANSFERRED);
        self.used_of("transfer", socket, Transport::Tcp)?;
        let to = self.needed("transfer", "to", self.file.to.as_deref(), socket)?;
        // It is another host's, mostly.
        let host = self.checker.socket_mut(&to.value).map_or(self.host, |known| known.host);
        self.used_by(host, "transfer", to, Transport::Tcp)?;
        if to.value == socket.value {
            let help = "`to` is the socket that the other end of the connection has";
            self.checker.wrong_with_help(
                span(&to.referenced),
                "what goes into a socket comes out of another one",
                help,
            );
            return None;
        }
        let end = self.switch("end", self.file.end.as_deref()).unwrap_or(false);
        // Without a payload there is just the end.
        let payload = self.payload().unwrap_or_else(|| Payload::Bytes(bytes::Bytes::new()));
        let has_payload = self.file.text.is_some() || self.file.hex.is_some() || self.file.pattern.is_some();
        if !end && !has_payload {
            let help = "give it by one of text, hex and pattern";
            self.checker.wrong_with_help(span(&socket.referenced), "there is nothing to transfer", help);
            return None;
        }
        Some(Verb::Transfer { socket: socket.value.clone(), to: to.value.clone(), payload, end })
    }

    pub(super) fn send(&mut self, socket: &Spanned<String>) -> Option<Verb> {
        self.checker.only(self.file, "send", &SENT);
        self.used_of("send", socket, Transport::Udp)?;
        let to = self.file.to.as_deref().map(|to| self.address(to));
        let reply_to = match &self.file.reply_to {
            Some(name) => Some(self.checker.use_message(self.host, name)?),
            None => None,
        };
        let marks = Marks {
            source: self.checker.optional_template(self.file.source.as_deref()),
            hop_limit: self.byte("hop_limit", self.file.hop_limit.as_deref()),
            traffic_class: self.byte("traffic_class", self.file.traffic_class.as_deref()),
        };
        // Without a payload, a datagram of zero bytes is sent.
        let payload = self.payload().unwrap_or_else(|| Payload::Bytes(bytes::Bytes::new()));
        let count = self.number("count", self.file.count.as_deref(), 1..=MAX_DATAGRAMS).unwrap_or(1);
        let interval = self.checker.duration(self.file.interval.as_deref()).unwrap_or_default();
        let flags = SendFlags {
            probes: self.switch("probes", self.file.probes.as_deref()).unwrap_or_default(),
            template: self.switch("template", self.file.template.as_deref()).unwrap_or_default(),
        };
        if flags.template {
            self.check_places(&payload);
        }
        Some(Verb::Send { socket: socket.value.clone(), to, reply_to, marks, payload, count, interval, flags })
    }

    /// Says what is wrong with the places of a payload that the agent is to fill, as far as they are known.
    fn check_places(&mut self, payload: &Payload) {
        let typed = [&self.file.text, &self.file.hex].into_iter().flatten().next();
        let Some(at) = typed.map(|typed| span(&typed.referenced)) else { return };
        let known = match payload {
            Payload::Bytes(bytes) => Some(bytes.clone()),
            Payload::Text(text, encoding, _) if encoding.is_utf8() => text.literal().map(Into::into),
            Payload::Text(..) => return self.checker.wrong(at, "a template is UTF-8: leave `encoding` out"),
        };
        if let Some(Err(problem)) = known.as_deref().map(placeholder::check) {
            self.checker.wrong(at, problem.to_string());
        }
    }

    pub(super) fn receive(&mut self, socket: &Spanned<String>) -> Option<Verb> {
        match self.file.quiet {
            Some(_) => self.checker.only_with(self.file, "receive", "`receive` with `quiet`", &QUIET),
            None => self.checker.only(self.file, "receive", &RECEIVED),
        }
        let known = self.used("receive", socket)?;
        self.received_fits(socket, &known);
        let file = self.file;
        if let Some(hash) = file.sha256.as_deref().filter(|_| known.transport == Transport::Tcp && file.size.is_none())
        {
            let help = "`size` says how many bytes it is of";
            self.checker.wrong_with_help(span(&hash.referenced), "a stream has no message to hash", help);
        }
        if let Some(count) = file.count.as_deref().filter(|_| known.transport == Transport::Tcp) {
            let help = "`size` says how many bytes are received";
            self.checker.wrong_with_help(span(&count.referenced), "a stream has no messages to count", help);
        }
        if let (Some(_), Some(name)) = (&file.count, &file.r#as) {
            self.checker.wrong(span(&name.referenced), "`as` names one datagram, and `count` is of several");
        }
        let wanted = Wanted {
            payload: self.payload_wanted(),
            size: self.number("size", file.size.as_deref(), 0..=MOST_TAKEN),
            offset: self.number("offset", file.offset.as_deref(), 0..=u64::MAX),
            end: self.switch("end", file.end.as_deref()).unwrap_or(false),
            truncated: self.switch("truncated", file.truncated.as_deref()),
            peer: self.checker.optional_template(file.peer.as_deref()),
            hop_limit: self.byte("hop_limit", file.hop_limit.as_deref()),
            traffic_class: self.byte("traffic_class", file.traffic_class.as_deref()),
            receive_time: self.switch("receive_time", file.receive_time.as_deref()),
            at_least: self.number("at_least", file.at_least.as_deref(), 1..=READ_SIZE.into()),
            at_most: self.number("at_most", file.at_most.as_deref(), 1..=READ_SIZE.into()),
            count: self.number("count", file.count.as_deref(), 1..=MAX_RECEIVED).unwrap_or(1),
            quiet: self.checker.duration(file.quiet.as_deref()),
        };
        let name = file.r#as.as_deref().map(|name| self.checker.make_message(name, self.host));
        Some(Verb::Receive { socket: socket.value.clone(), transport: known.transport, wanted: Box::new(wanted), name })
    }
}
