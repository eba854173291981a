//! What names stand for while an exercise runs.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::controller::fleet::Fleet;
use crate::exercise::matching::{Expression, PayloadCheck};
use crate::exercise::plan::{Membership, Payload, PayloadWanted, SourceFilter, listed};
use crate::exercise::template::{Reference, Template};
use crate::model::address::{AddressText, Endpoint, Family};
use crate::model::group::GroupAsked;
use crate::model::id::SocketId;
use crate::model::operation::Taken;
use crate::model::payload::{PayloadForm, PayloadView, Shown, to_hex, with_crlf};
use crate::model::peers::{PeerRule, Peers};
use crate::model::source_filter::FilterAsked;
use crate::model::view::{Hashes, SocketView};

/// Sockets, messages and hosts by name. Steps that go on side by side share them.
pub(super) struct Bindings<'a> {
    fleet: &'a Fleet,
    /// The place of each role among the hosts.
    roles: HashMap<&'a str, usize>,
    known: Mutex<Known>,
}

/// What has a name so far.
#[derive(Default)]
struct Known {
    sockets: HashMap<String, Socket>,
    /// Those that have a name.
    ids: HashSet<(usize, SocketId)>,
    messages: HashMap<String, Taken>,
    /// Names that the observer has not heard of yet.
    named: Vec<(usize, SocketId, String)>,
    /// What steps have waited for already: the last event of a kind of a socket.
    matched: HashMap<(usize, SocketId, &'static str), u64>,
}

/// A socket that an exercise has a name for.
#[derive(Debug, Clone)]
pub(super) struct Socket {
    pub(super) host: usize,
    pub(super) id: SocketId,
    local: Option<Endpoint>,
    remote: Option<Endpoint>,
    /// As they were when a step last looked.
    hashes: Option<Hashes>,
}

impl<'a> Bindings<'a> {
    pub(super) fn new(fleet: &'a Fleet) -> Self {
        let roles = fleet.members().iter().enumerate().map(|(host, member)| (member.role.as_str(), host)).collect();
        Self { fleet, roles, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A socket by its name in the exercise. The check has made sure that a step names it before it is used; it may still be missing
    /// because that step expected to fail.
    pub(super) fn socket(&self, name: &str) -> Result<Socket, String> {
        self.known().sockets.get(name).cloned().ok_or_else(|| format!("`{name}` was not made, as its step expected"))
    }

    /// Whether a step has a name for a socket.
    pub(super) fn has(&self, host: usize, id: &SocketId) -> bool {
        self.known().ids.contains(&(host, id.clone()))
    }

    /// Gives a socket a name.
    pub(super) fn bind(&self, name: &str, host: usize, id: SocketId, ends: (Option<Endpoint>, Option<Endpoint>)) {
        let (local, remote) = ends;
        let mut known = self.known();
        known.named.push((host, id.clone(), name.to_owned()));
        known.ids.insert((host, id.clone()));
        known.sockets.insert(name.to_owned(), Socket { host, id, local, remote, hashes: None });
    }

    /// Learns the addresses of a socket.
    pub(super) fn learn(&self, name: &str, view: &SocketView) {
        if let Some(socket) = self.known().sockets.get_mut(name) {
            // What a socket had is still worth referring to after it has lost it.
            if view.status.local.is_some() {
                socket.local.clone_from(&view.status.local);
            }
            if view.status.remote.is_some() {
                socket.remote.clone_from(&view.status.remote);
            }
        }
    }

    /// Learns what has gone through a socket.
    pub(super) fn learn_hashes(&self, name: &str, view: &SocketView) {
        if let Some(socket) = self.known().sockets.get_mut(name) {
            socket.hashes = view.hashes;
        }
    }

    pub(super) fn bind_message(&self, name: &str, taken: Taken) {
        self.known().messages.insert(name.to_owned(), taken);
    }

    /// The event that a message is, for an answer to it.
    pub(super) fn message_event(&self, name: &str) -> Option<u64> {
        self.known().messages.get(name).and_then(|taken| taken.event_seq)
    }

    /// Names that are new since the last time.
    pub(super) fn take_named(&self) -> Vec<(usize, SocketId, String)> {
        std::mem::take(&mut self.known().named)
    }

    /// The number of the last event of this kind that a step has waited for.
    pub(super) fn matched(&self, socket: &Socket, kind: &'static str) -> u64 {
        self.known().matched.get(&(socket.host, socket.id.clone(), kind)).copied().unwrap_or(0)
    }

    pub(super) fn set_matched(&self, socket: &Socket, kind: &'static str, seq: u64) {
        self.known().matched.insert((socket.host, socket.id.clone(), kind), seq);
    }

    // === References ===

    /// Text with everything put in that it refers to.
    pub(super) fn text(&self, template: &Template) -> Result<String, String> {
        template
            .render(|reference| self.look_up(reference))
            .map_err(|reference| format!("{reference} is not known yet"))
    }

    pub(super) fn optional_text(&self, template: Option<&Template>) -> Result<Option<String>, String> {
        template.map(|template| self.text(template)).transpose()
    }

    /// An address with everything put in that it refers to.
    pub(super) fn address(&self, template: &Template) -> Result<AddressText, String> {
        let text = self.text(template)?;
        AddressText::parse_with_port(&text).map_err(|problem| problem.to_string())
    }

    /// A local address without a port.
    pub(super) fn literal(&self, template: &Template) -> Result<AddressText, String> {
        let text = self.text(template)?;
        AddressText::parse(&text).map_err(|problem| problem.to_string())
    }

    /// A membership of a multicast group with everything put in that it refers to.
    pub(super) fn membership(&self, membership: &Membership) -> Result<GroupAsked, String> {
        let Membership { group, interface, source } = membership;
        let text = |template: Option<&Template>| self.optional_text(template).map(Option::unwrap_or_default);
        GroupAsked::read(&self.text(group)?, &text(interface.as_ref())?, &text(source.as_ref())?)
            .map_err(|violation| format!("`{}`: {}", violation.field, violation.problem))
    }

    /// The sources of a multicast group with everything put in that they refer to.
    pub(super) fn source_filter(&self, filter: &SourceFilter) -> Result<FilterAsked, String> {
        let SourceFilter { group, interface, mode, sources } = filter;
        let text = |template: Option<&Template>| self.optional_text(template).map(Option::unwrap_or_default);
        let sources = text(sources.as_ref())?;
        FilterAsked::read(&self.text(group)?, &text(interface.as_ref())?, *mode, listed(&sources))
            .map_err(|violation| format!("`{}`: {}", violation.field, violation.problem))
    }

    /// With whom a socket has connections, with everything put in that the lists refer to.
    pub(super) fn peers(&self, deny: Option<&Template>, allow: Option<&Template>) -> Result<Peers, String> {
        let list = |template: Option<&Template>| {
            let text = self.optional_text(template)?.unwrap_or_default();
            PeerRule::parse_list(&text).map_err(|problem| problem.to_string())
        };
        Ok(Peers { deny: list(deny)?, allow: list(allow)? })
    }

    pub(super) fn bytes(&self, payload: &Payload) -> Result<Bytes, String> {
        match payload {
            Payload::Bytes(bytes) => Ok(bytes.clone()),
            Payload::Text(template, encoding, crlf) => {
                let text = self.text(template)?;
                let text = if *crlf { with_crlf(&text) } else { text };
                encoding.encode(&text).map(Bytes::from).map_err(|problem| problem.to_string())
            }
        }
    }

    /// What received bytes must be, with everything put in that it refers to.
    pub(super) fn payload(&self, wanted: &PayloadWanted) -> Result<PayloadCheck, String> {
        let expression = |template| Expression::of(template, |reference| self.look_up(reference));
        Ok(PayloadCheck {
            bytes: wanted.bytes.as_ref().map(|payload| self.bytes(payload)).transpose()?,
            matches: wanted.matches.as_ref().map(expression).transpose()?,
            sha256: self.optional_text(wanted.sha256.as_ref())?,
        })
    }

    fn look_up(&self, reference: &Reference) -> Option<String> {
        let field = reference.field.as_deref();
        let known = self.known();
        if let Some(socket) = known.sockets.get(&reference.name) {
            return self.of_socket(socket, field);
        }
        if let Some(message) = known.messages.get(&reference.name) {
            return of_message(message, field);
        }
        let member = &self.fleet.members()[*self.roles.get(reference.name.as_str())?];
        let address = match field {
            None => member.lab_address(None),
            Some(network) => member.address_in(network)?,
        };
        Some(if address.is_ipv6() { format!("[{address}]") } else { address.to_string() })
    }

    fn of_socket(&self, socket: &Socket, field: Option<&str>) -> Option<String> {
        let local = || socket.local.as_ref().map(|local| self.reachable(socket.host, local));
        match field {
            None | Some("local") => local().map(|local| local.to_string()),
            Some("remote") => socket.remote.as_ref().map(ToString::to_string),
            Some("address") => local().map(|local| local.addr.ip().to_string()),
            Some("port") => local().map(|local| local.addr.port().to_string()),
            Some("id") => Some(socket.id.to_string()),
            Some("hash_received") => socket.hashes.map(|hashes| to_hex(&hashes.received)),
            Some("hash_written") => socket.hashes.map(|hashes| to_hex(&hashes.written)),
            Some(_) => None,
        }
    }

    /// An address that others can connect to: all addresses of a host are reached by its lab address.
    fn reachable(&self, host: usize, endpoint: &Endpoint) -> Endpoint {
        let ip = endpoint.addr.ip();
        if !ip.is_unspecified() {
            return endpoint.clone();
        }
        let lab = self.fleet.members()[host].lab_address(Some(Family::of(ip)));
        SocketAddr::new(lab, endpoint.addr.port()).into()
    }
}

fn of_message(message: &Taken, field: Option<&str>) -> Option<String> {
    match field {
        None | Some("source") => message.source.as_ref().map(ToString::to_string),
        Some("size") => Some(message.size.to_string()),
        Some("destination") => message.destination.as_ref().map(ToString::to_string),
        Some("receive_time") => message.received.map(|time| time.to_string()),
        Some("text") => {
            let view = PayloadView { form: PayloadForm::Text, ..PayloadView::default() };
            match view.show(&message.payload).0 {
                Shown::Text(text) => Some(text.into_owned()),
                _ => None,
            }
        }
        Some(_) => None,
    }
}
