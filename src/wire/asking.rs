//! Requests that change nothing, as a client sends them, and as grpcurl would.

use std::time::Duration;

use prost::Message;

use crate::model::id::{SessionId, SocketId};
use crate::model::operation::Target;
use crate::wire::pb::transfer_socket_request::Frame;
use crate::wire::{call, pb, transfer};

/// A call that is told to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asking {
    /// The name of its method.
    pub(super) method: &'static str,
    /// What it sends, in order: one request, but for streams.
    pub(super) sent: Vec<Vec<u8>>,
}

impl Asking {
    /// Looks at a socket.
    pub fn socket(session: &SessionId, socket: &SocketId) -> Self {
        Self::one("GetSocket", &get_socket(session, socket))
    }

    /// Looks something up.
    pub fn resolve(request: &pb::ResolveRequest) -> Self {
        Self::one("Resolve", request)
    }

    /// Says what a text is as an address.
    pub fn parse_address(text: &str) -> Self {
        Self::one("ParseAddress", &parse_address(text))
    }

    /// Waits for an event of a socket, of any kind where none is given, after one that has been seen; or for silence.
    pub fn event(
        target: (&SessionId, &SocketId),
        kind: Option<&str>,
        after: u64,
        within: Duration,
        none: bool,
    ) -> Self {
        let request = pb::WaitEventRequest {
            session_id: target.0.to_string(),
            after_event_seq: (after > 0).then_some(after),
            filter: Some(filter(target.1, kind)),
            timeout: Some(call::span(within)),
            expect_none: none,
            ..pb::WaitEventRequest::default()
        };
        Self::one("WaitEvent", &request)
    }

    /// Lists events of a kind of a socket, after one that has been seen.
    pub fn events(target: (&SessionId, &SocketId), kind: &str, after: u64) -> Self {
        let request = pb::ListEventsRequest {
            session_id: target.0.to_string(),
            after_event_seq: (after > 0).then_some(after),
            filter: Some(filter(target.1, Some(kind))),
            ..pb::ListEventsRequest::default()
        };
        Self::one("ListEvents", &request)
    }

    /// Takes over a connection, and sends bytes into it, and perhaps its end.
    pub fn transfer(target: &Target, bytes: Option<&bytes::Bytes>, end: bool) -> Self {
        let frame = |frame| pb::TransferSocketRequest { frame: Some(frame) };
        let data = bytes.map(|bytes| frame(Frame::Data(bytes.clone())));
        let end = end.then(|| frame(Frame::End(pb::TransferEnd {})));
        let frames = [Some(transfer::open(target)), data, end];
        Self { method: "TransferSocket", sent: frames.iter().flatten().map(Message::encode_to_vec).collect() }
    }

    fn one(method: &'static str, request: &impl Message) -> Self {
        Self { method, sent: vec![request.encode_to_vec()] }
    }
}

/// Asks for everything that is known of a socket.
pub fn get_socket(session: &SessionId, socket: &SocketId) -> pb::GetSocketRequest {
    pb::GetSocketRequest {
        session_id: session.to_string(),
        socket_id: socket.to_string(),
        tcp_info: true,
        memory: true,
    }
}

/// Asks what a text is as an address.
pub fn parse_address(text: &str) -> pb::ParseAddressRequest {
    pb::ParseAddressRequest { text: text.to_owned() }
}

fn filter(socket: &SocketId, kind: Option<&str>) -> pb::EventFilter {
    pb::EventFilter { socket_ids: vec![socket.to_string()], kinds: kind.map(str::to_owned).into_iter().collect() }
}
