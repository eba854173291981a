//! What operations answer.

use prost::Message;

use crate::model::operation::{CallProgress, CallView, Method, Outcome, Yield};
use crate::model::payload::PayloadView;
use crate::model::view::SocketView;
use crate::wire::{address, call, payload, pb};

/// A message that answers a changing request.
pub trait Answer {
    /// Shows an outcome, payloads in this view.
    fn show(outcome: &Outcome, view: &PayloadView) -> Self;
}

fn socket(outcome: &Outcome) -> Option<pb::Socket> {
    match &outcome.yielded {
        Yield::Socket(socket, _)
        | Yield::Sent { socket, .. }
        | Yield::Groups(socket, _)
        | Yield::Filters(socket, _) => Some(pb::Socket::from(&**socket)),
        _ => None,
    }
}

fn options(outcome: &Outcome) -> Vec<pb::OptionResult> {
    match &outcome.yielded {
        Yield::Socket(_, options) | Yield::Options(options) => options.iter().map(pb::OptionResult::from).collect(),
        _ => Vec::new(),
    }
}

fn groups(outcome: &Outcome) -> Vec<pb::GroupResult> {
    match &outcome.yielded {
        Yield::Groups(_, groups) => groups.iter().map(pb::GroupResult::from).collect(),
        _ => Vec::new(),
    }
}

fn filters(outcome: &Outcome) -> Vec<pb::SourceFilterResult> {
    match &outcome.yielded {
        Yield::Filters(_, filters) => filters.iter().map(pb::SourceFilterResult::from).collect(),
        _ => Vec::new(),
    }
}

fn session(outcome: &Outcome) -> (Option<pb::Session>, Vec<pb::Socket>) {
    match &outcome.yielded {
        Yield::Session(session, closed) => {
            (Some(session.into()), closed.iter().map(|socket: &SocketView| socket.into()).collect())
        }
        _ => (None, Vec::new()),
    }
}

macro_rules! answers {
    ($($message:ident { $($field:ident: $value:expr),* } from $outcome:ident;)*) => {
        $(impl Answer for pb::$message {
            fn show($outcome: &Outcome, _: &PayloadView) -> Self {
                Self { $($field: $value,)* report: Some((&$outcome.report).into()) }
            }
        })*
    };
}

answers! {
    CreateSocketResponse { socket: socket(outcome), options: options(outcome) } from outcome;
    BindSocketResponse { socket: socket(outcome) } from outcome;
    ListenSocketResponse { socket: socket(outcome) } from outcome;
    AcceptSocketResponse { socket: socket(outcome) } from outcome;
    ConnectSocketResponse { socket: socket(outcome) } from outcome;
    DisconnectSocketResponse { socket: socket(outcome) } from outcome;
    FlushSocketResponse { socket: socket(outcome) } from outcome;
    ShutdownSocketResponse { socket: socket(outcome) } from outcome;
    CloseSocketResponse { socket: socket(outcome) } from outcome;
    AbortSocketResponse { socket: socket(outcome) } from outcome;
    SetSocketDeliveryResponse { socket: socket(outcome) } from outcome;
    SetSocketOptionsResponse { options: options(outcome) } from outcome;
    JoinGroupResponse { socket: socket(outcome), groups: groups(outcome) } from outcome;
    LeaveGroupResponse { socket: socket(outcome), groups: groups(outcome) } from outcome;
    BlockSourceResponse { socket: socket(outcome), groups: groups(outcome) } from outcome;
    UnblockSourceResponse { socket: socket(outcome), groups: groups(outcome) } from outcome;
    SetSourceFilterResponse { socket: socket(outcome), filters: filters(outcome) } from outcome;
    CreateSessionResponse { session: session(outcome).0 } from outcome;
    ResetSessionResponse { session: session(outcome).0, closed_sockets: session(outcome).1 } from outcome;
    DeleteSessionResponse { session: session(outcome).0, closed_sockets: session(outcome).1 } from outcome;
}

impl Answer for pb::WriteSocketResponse {
    fn show(outcome: &Outcome, _: &PayloadView) -> Self {
        let (bytes_written, offset) = match outcome.yielded {
            Yield::Written { size, offset } => (Some(size), Some(offset)),
            _ => (None, None),
        };
        Self { bytes_written, offset, report: Some((&outcome.report).into()) }
    }
}

impl Answer for pb::SendDatagramsResponse {
    fn show(outcome: &Outcome, _: &PayloadView) -> Self {
        let (datagrams_sent, bytes_sent) = match outcome.yielded {
            Yield::Sent { datagrams, bytes, .. } => (Some(datagrams), Some(bytes)),
            _ => (None, None),
        };
        Self { socket: socket(outcome), datagrams_sent, bytes_sent, report: Some((&outcome.report).into()) }
    }
}

impl Answer for pb::ReceiveSocketResponse {
    fn show(outcome: &Outcome, view: &PayloadView) -> Self {
        let report = Some((&outcome.report).into());
        let Yield::Taken(socket_id, taken) = &outcome.yielded else {
            return Self { report, ..Self::default() };
        };
        let (payload, cut) = if taken.end { (None, false) } else { payload::shown(&taken.payload, view) };
        Self {
            payload,
            size: (!taken.end).then_some(taken.size),
            offset: (!taken.end && taken.source.is_none()).then_some(taken.offset),
            source: address::endpoint(taken.source.as_ref()),
            destination: address::endpoint(taken.destination.as_ref()),
            truncated: taken.truncated,
            hop_limit: taken.hop_limit.map(u32::from),
            traffic_class: taken.traffic_class.map(u32::from),
            receive_time: taken.received.map(call::time),
            end: taken.end,
            event_seq: taken.event_seq.unwrap_or(0),
            lost_bytes: taken.lost_bytes,
            cut,
            socket_id: socket_id.to_string(),
            report,
        }
    }
}

// === Calls ===

impl From<&CallView> for pb::CallRecord {
    fn from(view: &CallView) -> Self {
        let (state, response, refusal) = match &view.progress {
            CallProgress::Scheduled => (pb::CallState::Scheduled, None, String::new()),
            CallProgress::Running => (pb::CallState::Running, None, String::new()),
            CallProgress::Done(outcome) => (pb::CallState::Done, Some(response(view.method, outcome)), String::new()),
            CallProgress::Refused(why) => (pb::CallState::Done, None, why.clone()),
        };
        Self {
            request_id: view.request_id.to_string(),
            method: format!("{:?}", view.method),
            socket_id: view.socket.as_ref().map(ToString::to_string).unwrap_or_default(),
            state: state.into(),
            response,
            refusal,
        }
    }
}

/// What the RPC itself answers, in an envelope.
fn response(method: Method, outcome: &Outcome) -> prost_types::Any {
    fn packed<A: Answer + Message>(method: Method, outcome: &Outcome) -> prost_types::Any {
        prost_types::Any {
            type_url: format!("type.googleapis.com/farsock.v1.{method:?}Response"),
            value: A::show(outcome, &PayloadView::default()).encode_to_vec(),
        }
    }
    match method {
        Method::CreateSession => packed::<pb::CreateSessionResponse>(method, outcome),
        Method::ResetSession => packed::<pb::ResetSessionResponse>(method, outcome),
        Method::DeleteSession => packed::<pb::DeleteSessionResponse>(method, outcome),
        Method::CreateSocket => packed::<pb::CreateSocketResponse>(method, outcome),
        Method::CreateSockets => packed::<pb::CreateSocketsResponse>(method, outcome),
        Method::BindSocket => packed::<pb::BindSocketResponse>(method, outcome),
        Method::ListenSocket => packed::<pb::ListenSocketResponse>(method, outcome),
        Method::AcceptSocket => packed::<pb::AcceptSocketResponse>(method, outcome),
        Method::ConnectSocket => packed::<pb::ConnectSocketResponse>(method, outcome),
        Method::DisconnectSocket => packed::<pb::DisconnectSocketResponse>(method, outcome),
        Method::WriteSocket => packed::<pb::WriteSocketResponse>(method, outcome),
        Method::SendDatagrams => packed::<pb::SendDatagramsResponse>(method, outcome),
        Method::ReceiveSocket => packed::<pb::ReceiveSocketResponse>(method, outcome),
        Method::FlushSocket => packed::<pb::FlushSocketResponse>(method, outcome),
        Method::ShutdownSocket => packed::<pb::ShutdownSocketResponse>(method, outcome),
        Method::CloseSocket => packed::<pb::CloseSocketResponse>(method, outcome),
        Method::AbortSocket => packed::<pb::AbortSocketResponse>(method, outcome),
        Method::SetSocketDelivery => packed::<pb::SetSocketDeliveryResponse>(method, outcome),
        Method::SetSocketOptions => packed::<pb::SetSocketOptionsResponse>(method, outcome),
        Method::JoinGroup => packed::<pb::JoinGroupResponse>(method, outcome),
        Method::LeaveGroup => packed::<pb::LeaveGroupResponse>(method, outcome),
        Method::BlockSource => packed::<pb::BlockSourceResponse>(method, outcome),
        Method::UnblockSource => packed::<pb::UnblockSourceResponse>(method, outcome),
        Method::SetSourceFilter => packed::<pb::SetSourceFilterResponse>(method, outcome),
    }
}
