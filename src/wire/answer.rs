//! Answers to changing requests as a client reads them: the other direction of [`response`](crate::wire::response).

use crate::model::operation::{Outcome, Taken, Yield};
use crate::wire::{address, call, create, group, option, payload, pb, session, socket, source_filter};

/// An answer that a client can read.
pub trait ReadAnswer {
    /// What the operation brought and how it went; absent when the answer makes no sense to this version.
    fn read(self) -> Option<Outcome>;
}

fn outcome(yielded: Yield, report: Option<pb::Report>) -> Option<Outcome> {
    Some(Outcome { yielded, report: call::read_report(&report?)? })
}

fn with_socket(sent: Option<&pb::Socket>, options: &[pb::OptionResult], report: Option<pb::Report>) -> Option<Outcome> {
    let yielded = match sent {
        None => Yield::Nothing,
        Some(sent) => {
            let options = options.iter().filter_map(option::read_result).collect();
            Yield::Socket(Box::new(socket::read(sent)?), options)
        }
    };
    outcome(yielded, report)
}

fn with_groups(sent: Option<&pb::Socket>, groups: &[pb::GroupResult], report: Option<pb::Report>) -> Option<Outcome> {
    let yielded = match sent {
        None => Yield::Nothing,
        Some(sent) => {
            Yield::Groups(Box::new(socket::read(sent)?), groups.iter().filter_map(group::read_result).collect())
        }
    };
    outcome(yielded, report)
}

fn with_filters(
    sent: Option<&pb::Socket>,
    filters: &[pb::SourceFilterResult],
    report: Option<pb::Report>,
) -> Option<Outcome> {
    let yielded = match sent {
        None => Yield::Nothing,
        Some(sent) => {
            let filters = filters.iter().filter_map(source_filter::read_result).collect();
            Yield::Filters(Box::new(socket::read(sent)?), filters)
        }
    };
    outcome(yielded, report)
}

fn with_session(sent: Option<&pb::Session>, closed: &[pb::Socket], report: Option<pb::Report>) -> Option<Outcome> {
    let yielded = match sent {
        None => Yield::Nothing,
        Some(sent) => Yield::Session(session::read(sent)?, closed.iter().filter_map(socket::read).collect()),
    };
    outcome(yielded, report)
}

macro_rules! answers {
    ($($message:ident, |$sent:ident| $read:expr;)*) => {
        $(impl ReadAnswer for pb::$message {
            fn read(self) -> Option<Outcome> {
                let $sent = self;
                $read
            }
        })*
    };
}

answers! {
    CreateSessionResponse, |sent| with_session(sent.session.as_ref(), &[], sent.report);
    ResetSessionResponse, |sent| with_session(sent.session.as_ref(), &sent.closed_sockets, sent.report);
    DeleteSessionResponse, |sent| with_session(sent.session.as_ref(), &sent.closed_sockets, sent.report);
    CreateSocketResponse, |sent| with_socket(sent.socket.as_ref(), &sent.options, sent.report);
    CreateSocketsResponse, |sent| {
        let yielded = match sent.done_count {
            None => Yield::Nothing,
            Some(_) => Yield::Sockets(sent.sockets.iter().map(create::read_result).collect::<Option<_>>()?),
        };
        outcome(yielded, sent.report)
    };
    BindSocketResponse, |sent| with_socket(sent.socket.as_ref(), &[], sent.report);
    ListenSocketResponse, |sent| with_socket(sent.socket.as_ref(), &[], sent.report);
    AcceptSocketResponse, |sent| with_socket(sent.socket.as_ref(), &[], sent.report);
    ConnectSocketResponse, |sent| with_socket(sent.socket.as_ref(), &[], sent.report);
    DisconnectSocketResponse, |sent| with_socket(sent.socket.as_ref(), &[], sent.report);
    FlushSocketResponse, |sent| with_socket(sent.socket.as_ref(), &[], sent.report);
    ShutdownSocketResponse, |sent| with_socket(sent.socket.as_ref(), &[], sent.report);
    CloseSocketResponse, |sent| with_socket(sent.socket.as_ref(), &[], sent.report);
    AbortSocketResponse, |sent| with_socket(sent.socket.as_ref(), &[], sent.report);
    SetSocketDeliveryResponse, |sent| with_socket(sent.socket.as_ref(), &[], sent.report);
    JoinGroupResponse, |sent| with_groups(sent.socket.as_ref(), &sent.groups, sent.report);
    LeaveGroupResponse, |sent| with_groups(sent.socket.as_ref(), &sent.groups, sent.report);
    BlockSourceResponse, |sent| with_groups(sent.socket.as_ref(), &sent.groups, sent.report);
    UnblockSourceResponse, |sent| with_groups(sent.socket.as_ref(), &sent.groups, sent.report);
    SetSourceFilterResponse, |sent| with_filters(sent.socket.as_ref(), &sent.filters, sent.report);
    SetSocketOptionsResponse, |sent| {
        outcome(Yield::Options(sent.options.iter().filter_map(option::read_result).collect()), sent.report)
    };
    WriteSocketResponse, |sent| {
        let written = sent.bytes_written.zip(sent.offset);
        outcome(written.map_or(Yield::Nothing, |(size, offset)| Yield::Written { size, offset }), sent.report)
    };
    SendDatagramsResponse, |sent| {
        let yielded = match sent.socket.as_ref().and_then(socket::read) {
            None => Yield::Nothing,
            Some(socket) => Yield::Sent {
                socket: Box::new(socket),
                datagrams: sent.datagrams_sent(),
                bytes: sent.bytes_sent(),
            },
        };
        outcome(yielded, sent.report)
    };
    ReceiveSocketResponse, |sent| read_taken(sent);
}

fn read_taken(sent: pb::ReceiveSocketResponse) -> Option<Outcome> {
    let nothing = sent.size.is_none() && !sent.end;
    let report = sent.report.clone();
    if nothing {
        return outcome(Yield::Nothing, report);
    }
    let socket = address::socket_id(&sent.socket_id).ok()?;
    let taken = Taken {
        size: sent.size(),
        offset: sent.offset(),
        source: sent.source.as_ref().and_then(address::read_endpoint),
        destination: sent.destination.as_ref().and_then(address::read_endpoint),
        truncated: sent.truncated,
        hop_limit: sent.hop_limit.and_then(|hops| hops.try_into().ok()),
        traffic_class: sent.traffic_class.and_then(|class| class.try_into().ok()),
        received: sent.receive_time.as_ref().map(|time| call::read_time(Some(time))),
        end: sent.end,
        event_seq: (sent.event_seq > 0).then_some(sent.event_seq),
        lost_bytes: sent.lost_bytes,
        payload: payload::read_data(sent.payload),
    };
    outcome(Yield::Taken(socket, taken), report)
}
