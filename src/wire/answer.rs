//! Answers to changing requests as a client reads them: the other direction of [`response`](crate::wire::response).

use crate::model::operation::{Outcome, Taken, Yield};
use crate::wire::unknown::{UnknownValue, optional, unknown_value};
use crate::wire::{address, call, create, group, option, payload, pb, session, socket, source_filter};

/// An answer that a client can read.
pub trait ReadAnswer {
    /// What the operation brought and how it went; absent when the answer makes no sense to this version.
    fn read(&self) -> Option<Outcome>;

    /// What it says that is not known here, if that is why.
    fn unknown(&self) -> Option<UnknownValue>;
}

fn outcome(yielded: Yield, report: Option<&pb::Report>) -> Option<Outcome> {
    Some(Outcome { yielded, report: call::read_report(report?)? })
}

/// Reads each, or none: what was left out would be as if it were not there.
fn read_each<S, T>(sent: &[S], read: impl Fn(&S) -> Option<T>) -> Option<Vec<T>> {
    sent.iter().map(read).collect()
}

fn with_socket(
    sent: Option<&pb::Socket>,
    options: &[pb::OptionResult],
    report: Option<&pb::Report>,
) -> Option<Outcome> {
    let yielded = match sent {
        None => Yield::Nothing,
        Some(sent) => {
            let options = read_each(options, option::read_result)?;
            Yield::Socket(Box::new(socket::read(sent)?), options)
        }
    };
    outcome(yielded, report)
}

fn with_groups(sent: Option<&pb::Socket>, groups: &[pb::GroupResult], report: Option<&pb::Report>) -> Option<Outcome> {
    let yielded = match sent {
        None => Yield::Nothing,
        Some(sent) => Yield::Groups(Box::new(socket::read(sent)?), read_each(groups, group::read_result)?),
    };
    outcome(yielded, report)
}

fn with_filters(
    sent: Option<&pb::Socket>,
    filters: &[pb::SourceFilterResult],
    report: Option<&pb::Report>,
) -> Option<Outcome> {
    let yielded = match sent {
        None => Yield::Nothing,
        Some(sent) => Yield::Filters(Box::new(socket::read(sent)?), read_each(filters, source_filter::read_result)?),
    };
    outcome(yielded, report)
}

fn with_session(sent: Option<&pb::Session>, closed: &[pb::Socket], report: Option<&pb::Report>) -> Option<Outcome> {
    let yielded = match sent {
        None => Yield::Nothing,
        Some(sent) => Yield::Session(session::read(sent)?, read_each(closed, socket::read)?),
    };
    outcome(yielded, report)
}

macro_rules! answers {
    ($($message:ident, |$sent:ident| $read:expr;)*) => {
        $(impl ReadAnswer for pb::$message {
            fn read(&self) -> Option<Outcome> {
                let $sent = self;
                $read
            }

            fn unknown(&self) -> Option<UnknownValue> {
                unknown_value(self, stringify!($message))
            }
        })*
    };
}

answers! {
    CreateSessionResponse, |sent| with_session(sent.session.as_ref(), &[], sent.report.as_ref());
    ResetSessionResponse, |sent| with_session(sent.session.as_ref(), &sent.closed_sockets, sent.report.as_ref());
    DeleteSessionResponse, |sent| with_session(sent.session.as_ref(), &sent.closed_sockets, sent.report.as_ref());
    CreateSocketResponse, |sent| with_socket(sent.socket.as_ref(), &sent.options, sent.report.as_ref());
    CreateSocketsResponse, |sent| {
        let yielded = match sent.done_count {
            None => Yield::Nothing,
            Some(_) => Yield::Sockets(read_each(&sent.sockets, create::read_result)?),
        };
        outcome(yielded, sent.report.as_ref())
    };
    BindSocketResponse, |sent| with_socket(sent.socket.as_ref(), &[], sent.report.as_ref());
    ListenSocketResponse, |sent| with_socket(sent.socket.as_ref(), &[], sent.report.as_ref());
    AcceptSocketResponse, |sent| with_socket(sent.socket.as_ref(), &[], sent.report.as_ref());
    ConnectSocketResponse, |sent| with_socket(sent.socket.as_ref(), &[], sent.report.as_ref());
    DisconnectSocketResponse, |sent| with_socket(sent.socket.as_ref(), &[], sent.report.as_ref());
    FlushSocketResponse, |sent| with_socket(sent.socket.as_ref(), &[], sent.report.as_ref());
    ShutdownSocketResponse, |sent| with_socket(sent.socket.as_ref(), &[], sent.report.as_ref());
    CloseSocketResponse, |sent| with_socket(sent.socket.as_ref(), &[], sent.report.as_ref());
    AbortSocketResponse, |sent| with_socket(sent.socket.as_ref(), &[], sent.report.as_ref());
    SetSocketDeliveryResponse, |sent| with_socket(sent.socket.as_ref(), &[], sent.report.as_ref());
    JoinGroupResponse, |sent| with_groups(sent.socket.as_ref(), &sent.groups, sent.report.as_ref());
    LeaveGroupResponse, |sent| with_groups(sent.socket.as_ref(), &sent.groups, sent.report.as_ref());
    BlockSourceResponse, |sent| with_groups(sent.socket.as_ref(), &sent.groups, sent.report.as_ref());
    UnblockSourceResponse, |sent| with_groups(sent.socket.as_ref(), &sent.groups, sent.report.as_ref());
    SetSourceFilterResponse, |sent| with_filters(sent.socket.as_ref(), &sent.filters, sent.report.as_ref());
    SetSocketOptionsResponse, |sent| {
        outcome(Yield::Options(read_each(&sent.options, option::read_result)?), sent.report.as_ref())
    };
    WriteSocketResponse, |sent| {
        let written = sent.bytes_written.zip(sent.offset);
        outcome(written.map_or(Yield::Nothing, |(size, offset)| Yield::Written { size, offset }), sent.report.as_ref())
    };
    SendDatagramsResponse, |sent| {
        let yielded = match optional(sent.socket.as_ref(), socket::read)? {
            None => Yield::Nothing,
            Some(socket) => Yield::Sent {
                socket: Box::new(socket),
                datagrams: sent.datagrams_sent(),
                bytes: sent.bytes_sent(),
            },
        };
        outcome(yielded, sent.report.as_ref())
    };
    ReceiveSocketResponse, |sent| read_taken(sent);
}

fn read_taken(sent: &pb::ReceiveSocketResponse) -> Option<Outcome> {
    let nothing = sent.size.is_none() && !sent.end;
    let report = sent.report.as_ref();
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
        payload: payload::read_data(sent.payload.as_ref()),
    };
    outcome(Yield::Taken(socket, taken), report)
}
