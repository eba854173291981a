//! How an operation is to be carried out, and how it went.

use std::time::Duration;

use crate::model::errno::{Errno, LookupErrno};
use crate::model::error::{Cause, SocketError};
use crate::model::id::{InstanceId, RequestId};
use crate::model::operation::{CallOptions, Operation, Report, ShutdownHow, Start};
use crate::model::refusal::Violation;
use crate::model::time::Timestamp;
use crate::wire::unknown::optional;
use crate::wire::{address, holder, known, pb};

/// The longest time that a request may state: beyond it lies only overflow.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

// === Times ===

/// A duration of a request: not negative, well formed, and not absurd.
pub(super) fn duration(field: &str, duration: &prost_types::Duration) -> Result<Duration, Violation> {
    let (Ok(seconds), Ok(nanos @ 0..1_000_000_000)) = (u64::try_from(duration.seconds), u32::try_from(duration.nanos))
    else {
        return Err(Violation::new(field, "a time from 0s on is needed, such as 1.5s"));
    };
    let duration = Duration::new(seconds, nanos);
    if duration > LONGEST {
        return Err(Violation::new(field, format!("{seconds}s is more than a year")));
    }
    Ok(duration)
}

/// A duration of a request, where it states one.
pub fn optional_duration(field: &str, sent: Option<&prost_types::Duration>) -> Result<Option<Duration>, Violation> {
    sent.map(|sent| duration(field, sent)).transpose()
}

fn timestamp(field: &str, timestamp: &prost_types::Timestamp) -> Result<Timestamp, Violation> {
    let nanos = timestamp.seconds.checked_mul(1_000_000_000).and_then(|s| s.checked_add(timestamp.nanos.into()));
    match nanos {
        Some(nanos) if (0..1_000_000_000).contains(&timestamp.nanos) => Ok(Timestamp::from_nanos(nanos)),
        _ => Err(Violation::new(field, "this is no moment between 1678 and 2262")),
    }
}

/// A moment, as protobuf has it.
pub fn time(time: Timestamp) -> prost_types::Timestamp {
    let seconds = time.nanos().div_euclid(1_000_000_000);
    let nanos = i32::try_from(time.nanos().rem_euclid(1_000_000_000)).unwrap_or(0);
    prost_types::Timestamp { seconds, nanos }
}

/// A moment that an agent sent.
pub fn read_time(sent: Option<&prost_types::Timestamp>) -> Timestamp {
    sent.and_then(|sent| timestamp("", sent).ok()).unwrap_or_default()
}

/// A time, as protobuf has it.
pub fn span(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

/// A time in either direction, as protobuf has it.
pub fn signed_span(nanos: i64) -> prost_types::Duration {
    prost_types::Duration { seconds: nanos / 1_000_000_000, nanos: i32::try_from(nanos % 1_000_000_000).unwrap_or(0) }
}

/// A time that an agent sent.
pub(super) fn read_span(sent: Option<&prost_types::Duration>) -> Duration {
    sent.and_then(|sent| duration("", sent).ok()).unwrap_or_default()
}

// === Call ===

pub(super) fn call(call: Option<&pb::Call>) -> Result<CallOptions, Violation> {
    let Some(call) = call else { return Ok(CallOptions::default()) };
    let within = |field: &'static str| move |problem| Violation { field: format!("call.{field}"), problem };
    Ok(CallOptions {
        request_id: match call.request_id.as_str() {
            "" => None,
            chosen => Some(RequestId::parse(chosen).map_err(within("request_id"))?),
        },
        start: match &call.start {
            None => Start::Now,
            Some(pb::call::Start::StartTime(moment)) => Start::At(timestamp("call.start_time", moment)?),
            Some(pb::call::Start::StartDelay(delay)) => Start::After(duration("call.start_delay", delay)?),
        },
        timeout: optional_duration("call.timeout", call.timeout.as_ref())?,
        detach: call.detach,
        fail_on_error: call.fail_on_error,
        instance: instance("call.instance_id", &call.instance_id)?,
        asker: None,
    })
}

/// The instance that a request is meant for; absent where it does not care.
pub fn instance(field: &str, text: &str) -> Result<Option<InstanceId>, Violation> {
    if text.is_empty() {
        return Ok(None);
    }
    InstanceId::parse(text).map(Some).map_err(|problem| Violation { field: field.to_owned(), problem })
}

/// The name of an operation that a request refers to.
pub fn known_request_id(text: &str) -> Result<RequestId, Violation> {
    RequestId::parse_known(text).map_err(|problem| Violation { field: "request_id".to_owned(), problem })
}

// === Report ===

impl From<&Report> for pb::Report {
    fn from(report: &Report) -> Self {
        let (first_event_seq, last_event_seq) = report.events.unwrap_or_default();
        Self {
            actual_start_time: Some(time(report.started)),
            elapsed: Some(span(report.elapsed)),
            timed_out: report.timed_out,
            error: report.error.as_ref().map(error),
            first_event_seq,
            last_event_seq,
            request_id: report.request_id.to_string(),
        }
    }
}

/// An error, as a report and as an event has it.
pub fn error(error: &SocketError) -> pb::SocketError {
    pb::SocketError {
        name: match error.cause {
            // A number without a name is shown by its number alone.
            Cause::Errno(errno) => errno.name().to_owned(),
            Cause::Lookup(errno) => errno.name().to_owned(),
        },
        number: error.cause.number(),
        operation: pb::Operation::from(error.operation).into(),
        syscall: error.syscall.to_owned(),
        local: address::endpoint(error.local.as_ref()),
        remote: address::endpoint(error.remote.as_ref()),
        subject: error.subject.as_deref().unwrap_or_default().to_owned(),
        path_mtu: error.path_mtu,
        holder: error.holder.as_deref().map(pb::AddressHolder::from),
        message: error.to_string(),
        hint: error.hint().to_owned(),
    }
}

/// A report that an agent sent.
pub fn read_report(sent: &pb::Report) -> Option<Report> {
    Some(Report {
        started: read_time(sent.actual_start_time.as_ref()),
        elapsed: read_span(sent.elapsed.as_ref()),
        timed_out: sent.timed_out,
        error: optional(sent.error.as_ref(), read_error)?,
        events: (sent.first_event_seq > 0).then_some((sent.first_event_seq, sent.last_event_seq)),
        request_id: RequestId::parse_known(&sent.request_id).ok()?,
    })
}

/// An error that an agent sent. Its name counts, not its number, which may be another one here.
pub fn read_error(sent: &pb::SocketError) -> Option<SocketError> {
    let cause = match sent.name.strip_prefix("EAI_") {
        Some(_) => Cause::Lookup(LookupErrno::new(sent.number)),
        None => Cause::Errno(Errno::from_name(&sent.name).unwrap_or_else(|| Errno::new(sent.number))),
    };
    Some(SocketError {
        cause,
        operation: read_operation(sent.operation)?,
        syscall: SocketError::syscall_named(&sent.syscall),
        local: sent.local.as_ref().and_then(address::read_endpoint),
        remote: sent.remote.as_ref().and_then(address::read_endpoint),
        subject: (!sent.subject.is_empty()).then(|| sent.subject.as_str().into()),
        path_mtu: sent.path_mtu,
        holder: optional(sent.holder.as_ref(), holder::read)?.map(Box::new),
    })
}

// === Enums ===

macro_rules! pairs {
    ($model:ty, $pb:ty, $($name:ident),*) => {
        impl From<$model> for $pb {
            fn from(value: $model) -> Self {
                match value {
                    $(<$model>::$name => Self::$name),*
                }
            }
        }
    };
}

pairs! {
    Operation, pb::Operation,
    Create, LookUp, Bind, Listen, Accept, Connect, Disconnect, Write, Send, Receive, Shutdown, Close, Abort, SetOption, GetOption,
    Route, Join, Leave, Block, Unblock, Filter
}

fn read_operation(number: i32) -> Option<Operation> {
    Operation::ALL.into_iter().find(|operation| i32::from(pb::Operation::from(*operation)) == number)
}

pairs! { ShutdownHow, pb::ShutdownHow, Receive, Send, Both }

pub(super) fn shutdown_how(field: &str, number: i32) -> Result<ShutdownHow, Violation> {
    Ok(match known(field, number)? {
        pb::ShutdownHow::Unspecified | pb::ShutdownHow::Send => ShutdownHow::Send,
        pb::ShutdownHow::Receive => ShutdownHow::Receive,
        pb::ShutdownHow::Both => ShutdownHow::Both,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_refused_when_they_are_none() {
        let read = |seconds, nanos| duration("f", &prost_types::Duration { seconds, nanos });
        assert_eq!(read(1, 500_000_000), Ok(Duration::from_millis(1500)));
        assert_eq!(read(0, 0), Ok(Duration::ZERO));
        for (seconds, nanos) in [(-1, 0), (0, -1), (1, -1), (0, 1_000_000_000), (i64::MAX, 0), (i64::MIN, 0)] {
            assert!(read(seconds, nanos).is_err(), "{seconds} {nanos}");
        }
    }

    #[test]
    fn a_call_is_read_and_its_fields_are_named() {
        let read = |call: pb::Call| super::call(Some(&call));
        let field = |call| read(call).unwrap_err().field;
        assert_eq!(call(None), Ok(CallOptions::default()));
        assert_eq!(field(pb::Call { request_id: "@1".into(), ..Default::default() }), "call.request_id");
        assert_eq!(field(pb::Call { instance_id: "x".into(), ..Default::default() }), "call.instance_id");
        let negative = prost_types::Duration { seconds: -1, nanos: 0 };
        assert_eq!(field(pb::Call { timeout: Some(negative), ..Default::default() }), "call.timeout");
        let start = Some(pb::call::Start::StartDelay(negative));
        assert_eq!(field(pb::Call { start, ..Default::default() }), "call.start_delay");
        let start = Some(pb::call::Start::StartTime(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }));
        assert_eq!(field(pb::Call { start, ..Default::default() }), "call.start_time");
    }

    proptest! {
        #[test]
        fn times_come_back(nanos: i64, length in 0u64..=i64::MAX as u64) {
            let moment = Timestamp::from_nanos(nanos);
            if nanos > i64::MIN + 1_000_000_000 {
                prop_assert_eq!(read_time(Some(&time(moment))), moment);
            }
            let length = Duration::from_nanos(length);
            if length <= LONGEST {
                prop_assert_eq!(read_span(Some(&span(length))), length);
            }
        }

        #[test]
        fn no_time_panics(seconds: i64, nanos: i32) {
            let _ = duration("f", &prost_types::Duration { seconds, nanos });
            let _ = read_time(Some(&prost_types::Timestamp { seconds, nanos }));
            let _ = signed_span(seconds);
        }
    }
}
