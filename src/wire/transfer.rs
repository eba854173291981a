//! The frames of TransferSocket, in and out.

use crate::model::delivery::DeliveryMode;
use crate::model::id::{InstanceId, SessionId, SocketId};
use crate::model::limits::Defaults;
use crate::model::operation::{Action, CallOptions, Target};
use crate::model::refusal::Violation;
use crate::model::spec::{Kind, SocketSpec, TcpRole};
use crate::model::transfer::{FromAgent, FromClient, Mistake, Opened};
use crate::wire::outgoing::{Request, request};
use crate::wire::pb::transfer_socket_request::Frame;
use crate::wire::pb::transfer_socket_response::Frame as Answer;
use crate::wire::request::{Ask, Asked};
use crate::wire::socket::Bounds;
use crate::wire::unknown::optional;
use crate::wire::{address, call, option, pb, socket};

/// What the first frame asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// A connection that is there; whether the stream is to own it.
    Open(Target, bool),
    /// A new one.
    Create(Box<Asked>),
}

/// Reads the first frame.
pub fn begin(first: pb::TransferSocketRequest, bounds: Bounds<'_>) -> Result<Begin, Violation> {
    match first.frame {
        Some(Frame::Open(open)) => {
            let target = address::target(&open.session_id, &open.socket_id, open.socket_uid);
            Ok(Begin::Open(target.map_err(|violation| violation.within("open"))?, open.own))
        }
        Some(Frame::Create(create)) => {
            let asked = create_request(create, bounds).map_err(|violation| violation.within("create"))?;
            Ok(Begin::Create(Box::new(asked)))
        }
        other => {
            let field = other.map_or("frame", |frame| field(&frame));
            Err(Violation::new(field, Mistake::NotOpen.to_string()))
        }
    }
}

fn create_request(create: pb::TransferCreate, bounds: Bounds<'_>) -> Result<Asked, Violation> {
    let Some(mut tcp) = create.tcp else {
        return Err(Violation::new("tcp", "the connection is needed, such as {\"connect\":\"10.0.0.1:80\"}"));
    };
    let mut delivery = tcp.delivery.unwrap_or_default();
    if !matches!(delivery.mode(), pb::DeliveryMode::Unspecified | pb::DeliveryMode::Transfer) {
        return Err(Violation::new("tcp.delivery.mode", "it is TRANSFER here: leave it out"));
    }
    delivery.set_mode(pb::DeliveryMode::Transfer);
    tcp.delivery = Some(delivery);
    let request = pb::CreateSocketRequest {
        session_id: create.session_id,
        socket_id: create.socket_id,
        kind: Some(pb::create_socket_request::Kind::Tcp(tcp)),
        labels: create.labels,
        call: create.call,
    };
    let asked = request.check(bounds)?;
    if asked.options.detach {
        return Err(Violation::new("call.detach", "the stream is answered when the connection is there"));
    }
    match &asked.action {
        Action::CreateSocket { spec, .. } if is_connecting(&spec.kind) => {
            debug_assert_eq!(spec.conduct.delivery.mode, DeliveryMode::Transfer);
            Ok(asked)
        }
        _ => Err(Violation::new("tcp.connect", "the remote address is needed, such as \"10.0.0.1:80\"")),
    }
}

fn is_connecting(kind: &Kind) -> bool {
    matches!(kind, Kind::Tcp(tcp) if matches!(tcp.role, TcpRole::Connect(_)))
}

/// Reads a frame after the first one.
pub fn frame(sent: pb::TransferSocketRequest, defaults: &Defaults) -> Result<FromClient, Violation> {
    match sent.frame {
        Some(Frame::Data(bytes)) => Ok(FromClient::Data(bytes)),
        Some(Frame::Window(size)) => Ok(FromClient::Window(size)),
        Some(Frame::End(_)) => Ok(FromClient::End),
        Some(Frame::Abort(_)) => Ok(FromClient::Abort),
        Some(Frame::Close(close)) => {
            let timeout = call::optional_duration("close.timeout", close.timeout.as_ref())?;
            Ok(FromClient::Close(timeout.unwrap_or(defaults.wait_timeout)))
        }
        Some(frame @ (Frame::Open(_) | Frame::Create(_))) => {
            Err(Violation::new(field(&frame), Mistake::OpenTwice.to_string()))
        }
        None => Err(Violation::new("frame", "one of `data`, `window`, `end`, `close` and `abort` is needed")),
    }
}

fn field(frame: &Frame) -> &'static str {
    match frame {
        Frame::Open(_) => "open",
        Frame::Create(_) => "create",
        Frame::Data(_) => "data",
        Frame::Window(_) => "window",
        Frame::End(_) => "end",
        Frame::Abort(_) => "abort",
        Frame::Close(_) => "close",
    }
}

impl From<FromAgent> for pb::TransferSocketResponse {
    fn from(frame: FromAgent) -> Self {
        let frame = match frame {
            FromAgent::Opened(opened) => Answer::Opened(show_opened(&opened)),
            FromAgent::Data(bytes) => Answer::Data(bytes),
            FromAgent::Window(size) => Answer::Window(size),
            FromAgent::End => Answer::End(pb::TransferEnd {}),
            FromAgent::Error(error) => Answer::Error(call::error(&error)),
            FromAgent::Closed(closing) => Answer::Closed((&closing).into()),
        };
        Self { frame: Some(frame) }
    }
}

fn show_opened(opened: &Opened) -> pb::TransferOpened {
    pb::TransferOpened {
        socket: opened.socket.as_deref().map(pb::Socket::from),
        window: opened.window,
        options: opened.options.iter().map(pb::OptionResult::from).collect(),
        report: opened.report.as_deref().map(pb::Report::from),
    }
}

// === As a client has them ===

/// The first frame for a connection that is there.
pub fn open(target: &Target) -> pb::TransferSocketRequest {
    let open = pb::TransferOpen {
        session_id: target.session.to_string(),
        socket_id: target.socket.to_string(),
        own: false,
        socket_uid: target.uid.map(|uid| uid.0),
    };
    pb::TransferSocketRequest { frame: Some(Frame::Open(open)) }
}

/// The first frame for a new connection; none if the socket is to be no TCP connection. The delivery is TRANSFER, whatever `spec` says.
pub fn create(
    session: SessionId,
    id: Option<SocketId>,
    mut spec: SocketSpec,
    options: &CallOptions,
) -> Option<pb::TransferSocketRequest> {
    spec.conduct.delivery.mode = DeliveryMode::Transfer;
    let action = Action::CreateSocket { session, socket: id, spec: Box::new(spec) };
    let Request::CreateSocket(sent) = request(&action, options) else { return None };
    let Some(pb::create_socket_request::Kind::Tcp(tcp)) = sent.kind else { return None };
    let create = pb::TransferCreate {
        session_id: sent.session_id,
        socket_id: sent.socket_id,
        tcp: Some(tcp),
        labels: sent.labels,
        call: sent.call,
    };
    Some(pb::TransferSocketRequest { frame: Some(Frame::Create(create)) })
}

/// The life of the agent that a first frame is meant for.
pub fn instance(first: &pb::TransferSocketRequest) -> Option<InstanceId> {
    match &first.frame {
        Some(Frame::Create(create)) => InstanceId::parse(&create.call.as_ref()?.instance_id).ok(),
        _ => None,
    }
}

/// Means a first frame for this life of the agent alone. Says whether it can say so.
pub fn pin(first: &mut pb::TransferSocketRequest, instance: &InstanceId) -> bool {
    let Some(Frame::Create(create)) = &mut first.frame else { return false };
    create.call.get_or_insert_default().instance_id = instance.to_string();
    true
}

impl From<FromClient> for pb::TransferSocketRequest {
    fn from(frame: FromClient) -> Self {
        let frame = match frame {
            FromClient::Data(bytes) => Frame::Data(bytes),
            FromClient::Window(size) => Frame::Window(size),
            FromClient::End => Frame::End(pb::TransferEnd {}),
            FromClient::Abort => Frame::Abort(pb::TransferAbort {}),
            FromClient::Close(timeout) => Frame::Close(pb::TransferClose { timeout: Some(call::span(timeout)) }),
        };
        Self { frame: Some(frame) }
    }
}

/// A frame as an agent sent it. Absent when it makes no sense to this version.
pub fn read(sent: pb::TransferSocketResponse) -> Option<FromAgent> {
    Some(match sent.frame? {
        Answer::Opened(opened) => FromAgent::Opened(Box::new(read_opened(opened)?)),
        Answer::Data(bytes) => FromAgent::Data(bytes),
        Answer::Window(size) => FromAgent::Window(size),
        Answer::End(_) => FromAgent::End,
        Answer::Error(error) => FromAgent::Error(Box::new(call::read_error(&error)?)),
        Answer::Closed(closed) => FromAgent::Closed(socket::read_closing(&closed)?),
    })
}

fn read_opened(sent: pb::TransferOpened) -> Option<Opened> {
    let socket = optional(sent.socket.as_ref(), socket::read)?;
    let report = optional(sent.report.as_ref(), call::read_report)?;
    Some(Opened {
        socket: socket.map(Box::new),
        window: sent.window,
        options: sent.options.iter().map(option::read_result).collect::<Option<_>>()?,
        report: report.map(Box::new),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::limits::Limits;

    fn begun(frame: Frame) -> Result<Begin, Violation> {
        let (limits, defaults) = (Limits::default(), Defaults::default());
        let bounds = Bounds { limits: &limits, defaults: &defaults };
        begin(pb::TransferSocketRequest { frame: Some(frame) }, bounds)
    }

    fn create(tcp: pb::TcpSocketSpec) -> Frame {
        Frame::Create(pb::TransferCreate { tcp: Some(tcp), ..Default::default() })
    }

    #[test]
    fn every_mistake_of_a_frame_names_its_field() {
        use pb::tcp_socket_spec::Role;

        let field = |frame| begun(frame).unwrap_err().field;
        assert_eq!(field(Frame::Data("hola".into())), "data");
        assert_eq!(field(Frame::Open(pb::TransferOpen::default())), "open.socket_id");
        assert_eq!(field(Frame::Create(pb::TransferCreate::default())), "create.tcp");
        assert_eq!(field(create(pb::TcpSocketSpec::default())), "create.tcp.connect");
        let listen = pb::TcpSocketSpec { role: Some(Role::Listen(":0".into())), ..Default::default() };
        assert_eq!(field(create(listen)), "create.tcp.connect");
        let line = || pb::TcpSocketSpec { role: Some(Role::Connect("127.0.0.1:80".into())), ..Default::default() };
        let pull = pb::Delivery { mode: pb::DeliveryMode::Pull.into(), ..Default::default() };
        assert_eq!(field(create(pb::TcpSocketSpec { delivery: Some(pull), ..line() })), "create.tcp.delivery.mode");
        let call = Some(pb::Call { detach: true, ..Default::default() });
        let detached = pb::TransferCreate { tcp: Some(line()), call, ..Default::default() };
        assert_eq!(field(Frame::Create(detached)), "create.call.detach");
        assert!(matches!(begun(create(line())), Ok(Begin::Create(_))));

        let later = |frame| frame_of(frame).unwrap_err().field;
        assert_eq!(later(Some(Frame::Open(pb::TransferOpen::default()))), "open");
        assert_eq!(later(None), "frame");
        assert_eq!(frame_of(Some(Frame::Window(7))), Ok(FromClient::Window(7)));
        let close = |timeout| Some(Frame::Close(pb::TransferClose { timeout }));
        assert_eq!(frame_of(close(None)), Ok(FromClient::Close(Defaults::default().wait_timeout)));
        assert_eq!(frame_of(close(Some(call::span(Duration::ZERO)))), Ok(FromClient::Close(Duration::ZERO)));
    }

    fn frame_of(sent: Option<Frame>) -> Result<FromClient, Violation> {
        frame(pb::TransferSocketRequest { frame: sent }, &Defaults::default())
    }
}
