//! Changing requests: each becomes an action, the way in which to carry it out, and the view of what it answers.

use crate::model::delivery::Slices;
use crate::model::group::GroupChange;
use crate::model::id::SessionId;
use crate::model::operation::{
    Action, CallOptions, OutgoingDatagram, SendFlags, SocketAction, Take, Target, WriteFlags,
};
use crate::model::payload::PayloadView;
use crate::model::refusal::Violation;
use crate::wire::socket::Bounds;
use crate::wire::{address, call, create, delivery, group, option, payload, pb, session, socket, source_filter};

/// A changing request, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// What is to be done.
    pub action: Action,
    /// How it is to be carried out.
    pub options: CallOptions,
    /// How payloads of the answer are to be shown.
    pub view: PayloadView,
}

/// A message that asks for a change.
pub trait Ask {
    /// Checks every field of it.
    fn check(self, bounds: Bounds<'_>) -> Result<Asked, Violation>;
}

fn asked(action: Action, options: Option<&pb::Call>) -> Result<Asked, Violation> {
    Ok(Asked { action, options: call::call(options)?, view: PayloadView::default() })
}

/// The many requests that do one thing with one socket.
macro_rules! on_socket {
    ($message:ident, |$request:ident, $bounds:ident| $action:expr) => {
        impl Ask for pb::$message {
            fn check(self, $bounds: Bounds<'_>) -> Result<Asked, Violation> {
                let $request = self;
                let target: Target = address::target(&$request.session_id, &$request.socket_id, $request.socket_uid)?;
                let options = call::call($request.call.as_ref())?;
                let action: SocketAction = $action;
                let _: Bounds<'_> = $bounds;
                Ok(Asked { action: Action::Socket(target, action), options, view: PayloadView::default() })
            }
        }
    };
}

on_socket!(BindSocketRequest, |request, _bounds| SocketAction::Bind {
    local: address::address("local", &request.local)?,
    retry: socket::bind_retry("retry", request.retry.as_ref())?,
});
on_socket!(ListenSocketRequest, |request, _bounds| SocketAction::Listen { backlog: socket::backlog(request.backlog)? });
on_socket!(AcceptSocketRequest, |request, _bounds| SocketAction::Accept);
on_socket!(ConnectSocketRequest, |request, _bounds| SocketAction::Connect {
    remote: address::address("remote", &request.remote)?,
    attempts: socket::attempts(
        request.attempt_timeout.as_ref(),
        request.retry.as_ref(),
        request.attempt_delay.as_ref()
    )?,
});
on_socket!(DisconnectSocketRequest, |request, _bounds| SocketAction::Disconnect);
on_socket!(WriteSocketRequest, |request, bounds| write(request, bounds)?);
on_socket!(SendDatagramsRequest, |request, bounds| SocketAction::Send {
    interval: call::optional_duration("interval", request.interval.as_ref())?.unwrap_or_default(),
    datagrams: datagrams(request.datagrams, request.template, bounds)?,
    flags: SendFlags { probes: request.probes, template: request.template },
});
on_socket!(FlushSocketRequest, |request, _bounds| SocketAction::Flush);
on_socket!(ShutdownSocketRequest, |request, _bounds| {
    SocketAction::Shutdown(call::shutdown_how("how", request.how)?)
});
on_socket!(CloseSocketRequest, |request, _bounds| SocketAction::Close {
    linger: linger(request.linger.as_ref())?,
    allow_missing: request.allow_missing,
});
on_socket!(AbortSocketRequest, |request, _bounds| SocketAction::Abort { allow_missing: request.allow_missing });
on_socket!(SetSocketDeliveryRequest, |request, bounds| {
    if request.delivery.is_none() {
        return Err(Violation::new("delivery", "what is to change is needed, such as {\"paused\":true}"));
    }
    SocketAction::SetDelivery(delivery::change(request.delivery.as_ref(), bounds)?)
});
on_socket!(SetSocketOptionsRequest, |request, bounds| {
    if request.options.is_empty() {
        return Err(Violation::new("options", "at least one option is needed"));
    }
    SocketAction::SetOptions(option::options("options", &request.options, bounds.limits.options_per_call)?)
});

/// The requests about a multicast group.
macro_rules! on_group {
    ($($message:ident => $change:ident,)*) => {
        $(on_socket!($message, |request, _bounds| SocketAction::Group(
            GroupChange::$change,
            group::asked(GroupChange::$change, &request.group, &request.interface, &request.source)?
        ));)*
    };
}

on_group! {
    JoinGroupRequest => Join,
    LeaveGroupRequest => Leave,
    BlockSourceRequest => Block,
    UnblockSourceRequest => Unblock,
}

on_socket!(SetSourceFilterRequest, |request, _bounds| SocketAction::Filter(source_filter::asked(&request)?));

impl Ask for pb::ReceiveSocketRequest {
    fn check(self, bounds: Bounds<'_>) -> Result<Asked, Violation> {
        let target = address::target(&self.session_id, &self.socket_id, self.socket_uid)?;
        let limit = bounds.limits.read_size;
        let max_bytes = self.max_bytes.map(|max| socket::in_range("max_bytes", max, limit)).transpose()?;
        let ceiling = max_bytes.unwrap_or(limit);
        let min_bytes = self.min_bytes.map(|min| socket::in_range("min_bytes", min, ceiling)).transpose()?;
        Ok(Asked {
            action: Action::Socket(target, SocketAction::Receive(Take { max_bytes, min_bytes, peek: self.peek })),
            options: call::call(self.call.as_ref())?,
            view: payload::view(self.view.as_ref())?,
        })
    }
}

impl Ask for pb::CreateSocketRequest {
    fn check(self, bounds: Bounds<'_>) -> Result<Asked, Violation> {
        let socket = create::name(&self.socket_id)?;
        let spec = create::spec(self.kind.as_ref(), &self.labels, bounds)?;
        let session = address::session_id(&self.session_id)?;
        asked(Action::CreateSocket { session, socket, spec: Box::new(spec) }, self.call.as_ref())
    }
}

impl Ask for pb::CreateSocketsRequest {
    fn check(self, bounds: Bounds<'_>) -> Result<Asked, Violation> {
        let session = address::session_id(&self.session_id)?;
        let sockets = create::sockets(self.sockets, bounds)?;
        asked(Action::CreateSockets { session, sockets }, self.call.as_ref())
    }
}

impl Ask for pb::CreateSessionRequest {
    fn check(self, _: Bounds<'_>) -> Result<Asked, Violation> {
        let session = match self.session_id.as_str() {
            "" => None,
            name => Some(address::session_id(name)?),
        };
        let spec = session::spec(&self)?;
        asked(Action::CreateSession { session, spec }, self.call.as_ref())
    }
}

impl Ask for pb::ResetSessionRequest {
    fn check(self, _: Bounds<'_>) -> Result<Asked, Violation> {
        asked(Action::ResetSession { session: address::session_id(&self.session_id)? }, self.call.as_ref())
    }
}

impl Ask for pb::DeleteSessionRequest {
    fn check(self, _: Bounds<'_>) -> Result<Asked, Violation> {
        let session: SessionId = address::session_id(&self.session_id)?;
        asked(Action::DeleteSession { session, allow_missing: self.allow_missing }, self.call.as_ref())
    }
}

fn write(request: pb::WriteSocketRequest, bounds: Bounds<'_>) -> Result<SocketAction, Violation> {
    let Some(payload) = request.payload else {
        return Err(Violation::new("payload", "the bytes are needed, such as {\"text\":\"hola\"}"));
    };
    let payload =
        payload::bytes(payload, bounds.limits.payload_bytes).map_err(|violation| violation.within("payload"))?;
    if payload.is_empty() {
        return Err(Violation::new("payload", "at least one byte is needed: TCP has no empty messages"));
    }
    let flags = WriteFlags { urgent: request.urgent, more: request.more };
    let slices = request.slices.map(slices).transpose().map_err(|violation| violation.within("slices"))?;
    Ok(SocketAction::Write { payload, expected_offset: request.expected_offset, flags, slices })
}

fn slices(slices: pb::Slices) -> Result<Slices, Violation> {
    let size = socket::in_range("size", slices.size, u32::MAX)?;
    match call::optional_duration("interval", slices.interval.as_ref())? {
        Some(interval) if !interval.is_zero() => Ok(Slices { size, interval }),
        _ => Err(Violation::new("interval", "how long to wait between two slices is needed, such as \"0.1s\"")),
    }
}

fn datagrams(
    datagrams: Vec<pb::Datagram>,
    template: bool,
    bounds: Bounds<'_>,
) -> Result<Vec<OutgoingDatagram>, Violation> {
    let limit = bounds.limits.datagrams_per_call;
    if datagrams.is_empty() {
        return Err(Violation::new("datagrams", "at least one datagram is needed"));
    }
    if datagrams.len() > limit as usize {
        let problem = format!("{} are more than limits.datagrams_per_call of this agent, {limit}", datagrams.len());
        return Err(Violation::new("datagrams", problem));
    }
    let mut room = bounds.limits.payload_bytes;
    let mut outgoing = Vec::with_capacity(datagrams.len());
    for (at, datagram) in datagrams.into_iter().enumerate() {
        let within = |violation: Violation| violation.within(&format!("datagrams[{at}]"));
        let payload = match datagram.payload {
            None => bytes::Bytes::new(),
            Some(payload) => {
                let limit = bounds.limits.payload_bytes;
                let bytes = if template { payload::template(payload, limit) } else { payload::bytes(payload, limit) };
                bytes.map_err(|violation| within(violation.within("payload")))?
            }
        };
        room = room.checked_sub(u32::try_from(payload.len()).unwrap_or(u32::MAX)).ok_or_else(|| {
            let limit = bounds.limits.payload_bytes;
            let problem = format!("together they are more than limits.payload_bytes of this agent, {limit}");
            Violation::new("datagrams", problem)
        })?;
        outgoing.push(OutgoingDatagram {
            destination: address::optional_address("destination", &datagram.destination).map_err(within)?,
            payload,
            reply_to_event: (datagram.reply_to_event > 0).then_some(datagram.reply_to_event),
            hop_limit: byte("hop_limit", datagram.hop_limit).map_err(within)?,
            traffic_class: byte("traffic_class", datagram.traffic_class).map_err(within)?,
            source: address::optional_literal("source", &datagram.source).map_err(within)?,
        });
    }
    Ok(outgoing)
}

fn byte(field: &str, number: Option<u32>) -> Result<Option<u8>, Violation> {
    let byte = |number: u32| {
        number.try_into().map_err(|_| Violation::new(field, format!("it is one byte, 0 to 255, and this is {number}")))
    };
    number.map(byte).transpose()
}

fn linger(linger: Option<&prost_types::Duration>) -> Result<Option<u16>, Violation> {
    let Some(linger) = call::optional_duration("linger", linger)? else { return Ok(None) };
    match u16::try_from(linger.as_secs()) {
        Ok(seconds) if linger.subsec_nanos() == 0 => Ok(Some(seconds)),
        _ => Err(Violation::new("linger", "the kernel takes whole seconds, at most 65535s")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::limits::{Defaults, Limits};
    use pb::create_socket_request::Kind;
    use pb::tcp_socket_spec::Role;
    use proptest::prelude::*;
    use prost::Message;

    fn check(request: impl Ask) -> Result<Asked, Violation> {
        request.check(Bounds { limits: &Limits::default(), defaults: &Defaults::default() })
    }

    fn field(request: impl Ask) -> String {
        check(request).unwrap_err().field
    }

    fn create(tcp: pb::TcpSocketSpec) -> pb::CreateSocketRequest {
        pb::CreateSocketRequest { kind: Some(Kind::Tcp(tcp)), ..Default::default() }
    }

    fn datagram(destination: &str) -> pb::Datagram {
        pb::Datagram { destination: destination.into(), ..Default::default() }
    }

    /// One row a kind of mistake: the field that is named is the one that is wrong.
    #[test]
    fn every_mistake_names_its_field() {
        let tcp = pb::TcpSocketSpec::default;
        assert_eq!(field(pb::CreateSocketRequest::default()), "kind");
        assert_eq!(field(pb::CreateSocketRequest { socket_id: "a.1".into(), ..create(tcp()) }), "socket_id");
        assert_eq!(field(pb::CreateSocketRequest { session_id: "A".into(), ..create(tcp()) }), "session_id");
        let listen = |text: &str| pb::TcpSocketSpec { role: Some(Role::Listen(text.into())), ..tcp() };
        assert_eq!(field(create(listen("10.0.0.1:70000"))), "tcp.listen");
        assert_eq!(field(create(listen("127.1:80"))), "tcp.listen");
        assert_eq!(field(create(listen("10.0.0.1"))), "tcp.listen");
        assert_eq!(field(create(pb::TcpSocketSpec { bind: ":0".into(), ..listen(":0") })), "tcp.bind");
        let connect = |text: &str| pb::TcpSocketSpec { role: Some(Role::Connect(text.into())), ..tcp() };
        assert_eq!(field(create(connect(""))), "tcp.connect");
        assert_eq!(field(create(pb::TcpSocketSpec { family: 9, ..tcp() })), "tcp.family");
        assert_eq!(field(create(pb::TcpSocketSpec { accept: 9, ..tcp() })), "tcp.accept");
        assert_eq!(field(create(pb::TcpSocketSpec { half_open: 9, ..tcp() })), "tcp.half_open");
        assert_eq!(field(create(pb::TcpSocketSpec { direction: -1, ..tcp() })), "tcp.direction");
        assert_eq!(field(create(pb::TcpSocketSpec { backlog: Some(0), ..tcp() })), "tcp.backlog");
        assert_eq!(field(create(pb::TcpSocketSpec { backlog: Some(65_536), ..tcp() })), "tcp.backlog");
        let delivery = |delivery| create(pb::TcpSocketSpec { delivery: Some(delivery), ..tcp() });
        assert_eq!(field(delivery(pb::Delivery { mode: 9, ..Default::default() })), "tcp.delivery.mode");
        assert_eq!(
            field(delivery(pb::Delivery { read_size: Some(0), ..Default::default() })),
            "tcp.delivery.read_size"
        );
        let negative = Some(prost_types::Duration { seconds: -1, nanos: 0 });
        assert_eq!(field(create(pb::TcpSocketSpec { idle_timeout: negative, ..tcp() })), "tcp.idle_timeout");
        let second = Some(prost_types::Duration { seconds: 1, nanos: 0 });
        assert_eq!(field(create(pb::TcpSocketSpec { close_delay: second, ..tcp() })), "tcp.close_delay");
        assert_eq!(field(create(pb::TcpSocketSpec { read_delay: negative, ..tcp() })), "tcp.read_delay");
        assert_eq!(field(create(pb::TcpSocketSpec { attempt_timeout: second, ..listen(":0") })), "tcp.attempt_timeout");
        let retry = |attempts, interval| Some(pb::ConnectRetry { attempts, interval });
        assert_eq!(field(create(pb::TcpSocketSpec { retry: retry(1, None), ..tcp() })), "tcp.retry");
        let often = retry(1001, None);
        assert_eq!(field(create(pb::TcpSocketSpec { retry: often, ..connect(":1") })), "tcp.retry.attempts");
        let fast = retry(1, Some(prost_types::Duration { seconds: 0, nanos: 9_999_999 }));
        assert_eq!(field(create(pb::TcpSocketSpec { retry: fast, ..connect(":1") })), "tcp.retry.interval");
        let manual = || pb::TcpSocketSpec { accept: pb::AcceptPolicy::Manual.into(), ..tcp() };
        assert_eq!(field(create(pb::TcpSocketSpec { accept_delay: second, ..manual() })), "tcp.accept_delay");
        assert_eq!(field(create(pb::TcpSocketSpec { max_accepts: Some(0), ..manual() })), "tcp.max_accepts");
        let udp = Kind::Udp(pb::UdpSocketSpec { bind: "x:y:z".into(), ..Default::default() });
        assert_eq!(field(pb::CreateSocketRequest { kind: Some(udp), ..Default::default() }), "udp.bind");

        let id = || "line".to_owned();
        assert_eq!(field(pb::BindSocketRequest { socket_id: id(), ..Default::default() }), "local");
        assert_eq!(field(pb::BindSocketRequest::default()), "socket_id");
        assert_eq!(
            field(pb::ConnectSocketRequest { socket_id: id(), remote: "::1".into(), ..Default::default() }),
            "remote"
        );
        assert_eq!(field(pb::WriteSocketRequest { socket_id: id(), ..Default::default() }), "payload");
        let hex = pb::Payload { content: Some(pb::payload::Content::Hex("4".into())), ..Default::default() };
        let write = |payload| pb::WriteSocketRequest { socket_id: id(), payload: Some(payload), ..Default::default() };
        assert_eq!(field(write(hex.clone())), "payload.hex");
        let empty = pb::Payload { content: Some(pb::payload::Content::Text(String::new())), ..Default::default() };
        assert_eq!(field(write(empty)), "payload");
        let send = |datagrams| pb::SendDatagramsRequest { socket_id: id(), datagrams, ..Default::default() };
        assert_eq!(field(send(vec![])), "datagrams");
        assert_eq!(field(send(vec![pb::Datagram::default(); 1025])), "datagrams");
        assert_eq!(field(send(vec![datagram(":1"), datagram("nope")])), "datagrams[1].destination");
        let ttl = pb::Datagram { hop_limit: Some(256), ..datagram(":1") };
        assert_eq!(field(send(vec![ttl])), "datagrams[0].hop_limit");
        let class = pb::Datagram { traffic_class: Some(256), ..datagram(":1") };
        assert_eq!(field(send(vec![class])), "datagrams[0].traffic_class");
        for source in ["10.0.0.1:80", "lab-b", ":80", "10.0.0.1%eth0", "[::1"] {
            let from = pb::Datagram { source: source.into(), ..datagram(":1") };
            assert_eq!(field(send(vec![from])), "datagrams[0].source", "{source}");
        }
        let bad_payload = pb::Datagram { payload: Some(hex), ..datagram(":1") };
        assert_eq!(field(send(vec![bad_payload])), "datagrams[0].payload.hex");
        let receive = |max, min| pb::ReceiveSocketRequest {
            socket_id: id(),
            max_bytes: max,
            min_bytes: min,
            ..Default::default()
        };
        assert_eq!(field(receive(Some(0), None)), "max_bytes");
        assert_eq!(field(receive(Some(65_537), None)), "max_bytes");
        assert_eq!(field(receive(Some(4), Some(5))), "min_bytes");
        assert_eq!(field(pb::ShutdownSocketRequest { socket_id: id(), how: 7, ..Default::default() }), "how");
        let half = Some(prost_types::Duration { seconds: 0, nanos: 500_000_000 });
        assert_eq!(field(pb::CloseSocketRequest { socket_id: id(), linger: half, ..Default::default() }), "linger");
        assert_eq!(field(pb::SetSocketDeliveryRequest { socket_id: id(), ..Default::default() }), "delivery");
        assert_eq!(field(pb::SetSocketOptionsRequest { socket_id: id(), ..Default::default() }), "options");
        assert_eq!(field(pb::DeleteSessionRequest { session_id: "-".into(), ..Default::default() }), "session_id");
    }

    #[test]
    fn datagrams_share_the_payload_limit() {
        let half = pb::Payload {
            content: Some(pb::payload::Content::Pattern(pb::Pattern { size: 600_000, start: 0, fill: None })),
            ..Default::default()
        };
        let datagrams = vec![pb::Datagram { payload: Some(half), ..datagram(":1") }; 2];
        let request = pb::SendDatagramsRequest { socket_id: "q".into(), datagrams, ..Default::default() };
        assert!(check(request).unwrap_err().problem.to_string().contains("limits.payload_bytes"));
    }

    #[test]
    fn silence_means_what_most_people_want() {
        let Asked { action, options, .. } = check(create(pb::TcpSocketSpec::default())).unwrap();
        assert_eq!(options, CallOptions::default());
        let Action::CreateSocket { session, socket: None, spec } = action else { panic!("{action:?}") };
        assert!(session.is_default() && spec.family.is_none() && spec.bind.is_none());
    }

    proptest! {
        /// Whatever bytes arrive, a request is read or refused, never worse.
        #[test]
        fn no_request_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            macro_rules! try_all {
                ($($message:ident)*) => {
                    $(if let Ok(request) = pb::$message::decode(&bytes[..]) { let _ = check(request); })*
                };
            }
            try_all! {
                CreateSocketRequest CreateSocketsRequest BindSocketRequest ListenSocketRequest AcceptSocketRequest ConnectSocketRequest
                DisconnectSocketRequest WriteSocketRequest SendDatagramsRequest ReceiveSocketRequest ShutdownSocketRequest
                FlushSocketRequest CloseSocketRequest AbortSocketRequest SetSocketDeliveryRequest SetSocketOptionsRequest CreateSessionRequest
                ResetSessionRequest DeleteSessionRequest JoinGroupRequest SetSourceFilterRequest
            }
        }
    }
}
