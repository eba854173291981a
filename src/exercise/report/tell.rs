//! From what a run does to the lines that tell it.

use serde_json::{Map, Value, json};

use crate::exercise::narration::{describe, finding};
use crate::exercise::outcome::{CallMade, ExerciseOutcome, HostSeen, StepOutcome, StepResult, Verdict};
use crate::exercise::picture::look;
use crate::exercise::plan::{Plan, Step};
use crate::exercise::report::line::{
    CallLine, EventLine, EventPlace, ExerciseLine, HostLine, HostsLine, IncludedLine, MistakeLine, PlanLine,
    ResultLine, StepLine, Went,
};
use crate::exercise::timeline::Moment;
use crate::model::address::Endpoint;
use crate::model::error::SocketError;
use crate::model::event::Event;
use crate::model::mistake::{Lines, Mistake, Source};
use crate::model::payload::to_hex;
use crate::model::time::Timestamp;

/// An exercise is going to be run; `again` is the command that does so, and `lines` are those of the plan's sources.
pub fn exercise(plan: &Plan, source: &Source, lines: &[Lines], now: Timestamp, again: String) -> ExerciseLine {
    let planned = |step: &Step| PlanLine {
        number: step.number,
        host: plan.hosts[step.host].role.clone(),
        verb: step.verb.word().to_owned(),
        socket: step.verb.socket().map(str::to_owned),
        file: file_of(plan, step),
        context: step.context.clone(),
        line: lines[step.source].line(step.verb_span.start),
        span: (step.verb_span.start, step.verb_span.end),
        check: step.verb.is_check(),
        note: step.note.clone(),
    };
    let included = |source: &Source| IncludedLine { file: source.name.clone(), source: source.text.clone() };
    ExerciseLine {
        title: plan.title.clone(),
        about: plan.about.clone(),
        file: source.name.clone(),
        steps: plan.steps.len(),
        roles: plan.hosts.iter().map(|host| host.role.clone()).collect(),
        plan: plan.steps.iter().map(planned).collect(),
        source: source.text.clone(),
        included: plan.sources.iter().skip(1).map(included).collect(),
        started: now.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        again,
    }
}

/// The included file that a step stands in.
fn file_of(plan: &Plan, step: &Step) -> Option<String> {
    (step.source > 0).then(|| plan.sources[step.source].name.clone())
}

/// Its hosts are there.
pub fn hosts(hosts: &[HostSeen]) -> HostsLine {
    let host = |host: &HostSeen| HostLine {
        role: host.role.clone(),
        agent: host.agent.clone(),
        version: host.version.clone(),
        lab_address: host.lab_address.clone(),
        clock_offset_ns: host.offset.nanos,
        clock_bound_ns: host.offset.bound,
    };
    HostsLine { hosts: hosts.iter().map(host).collect() }
}

/// Something has happened.
pub fn event(plan: &Plan, moment: &Moment, name: Option<&str>, start: i64) -> EventLine {
    let record = &moment.record;
    let place = |host: usize, seq| EventPlace { host: plan.hosts[host].role.clone(), event_seq: seq };
    let look = look(&record.event);
    let tone = look.as_ref().map(|look| look.tone).unwrap_or_default();
    let (mut label, detail) = look.map(|look| (look.label, look.detail)).unzip();
    if moment.effect_before.is_some() {
        // What else would only go with its effect.
        label.get_or_insert_with(|| record.event.kind().to_owned());
    }
    EventLine {
        at_ns: moment.at.saturating_sub(start),
        place: place(moment.host, record.seq),
        time: record.time.to_string(),
        socket_id: record.socket.as_ref().map(|(id, _)| id.to_string()),
        socket_uid: record.socket.as_ref().map(|(_, uid)| uid.0),
        name: name.map(str::to_owned),
        request_id: record.request.as_ref().map(ToString::to_string),
        kind: record.event.kind().to_owned(),
        text: describe(&record.event),
        label,
        detail: detail.filter(|detail| !detail.is_empty()),
        tone,
        caused_by: moment.cause.as_ref().map(|(host, cause)| place(*host, cause.seq)),
        unordered: moment.unordered,
        before_cause_ns: moment.before_cause,
        effect_before: moment.effect_before.as_ref().map(|(host, effect)| place(*host, effect.seq)),
        body: body(&record.event),
    }
}

fn body(event: &Event) -> Map<String, Value> {
    let end = |endpoint: &Option<Endpoint>| endpoint.as_ref().map(ToString::to_string);
    let body = match event {
        Event::Created { local, remote, .. } | Event::ConnectionDropped { local, remote, .. } => {
            json!({ "local": end(local), "remote": end(remote) })
        }
        Event::Connected { local, remote, .. } | Event::Accepted { local, remote, .. } => {
            json!({ "local": local.to_string(), "remote": remote.to_string() })
        }
        Event::Bound { local } | Event::Listening { local, .. } => json!({ "local": local.to_string() }),
        Event::ConnectStarted { remote } => json!({ "remote": remote.to_string() }),
        Event::ConnectFailed { remote, error, .. } => {
            json!({ "remote": remote.to_string(), "error": error.as_ref().map(error_json) })
        }
        Event::Received { offset, payload } => {
            json!({ "offset": offset, "size": payload.len(), "hex": to_hex(payload) })
        }
        Event::DatagramReceived(datagram) => json!({
            "source": end(&datagram.source), "destination": end(&datagram.destination), "size": datagram.size,
            "truncated": datagram.truncated(), "hex": to_hex(&datagram.payload),
        }),
        Event::PatternBroken(difference) => json!({
            "offset": difference.offset, "expected": difference.expected, "actual": difference.actual,
        }),
        Event::UrgentLost { offset, size } => json!({ "offset": offset, "size": size }),
        Event::DatagramsDropped { count, total } => json!({ "count": count, "total": total }),
        Event::IcmpReceived(message) => json!({
            "destination": end(&message.destination), "offender": message.offender_text(), "icmp_type": message.kind,
            "icmp_code": message.code, "error": error_json(&message.error),
        }),
        Event::Written { offset, size, .. } => json!({ "offset": offset, "size": size }),
        Event::Sent { destination, size, .. } => json!({ "destination": end(destination), "size": size }),
        Event::PeerReset { error } | Event::Failed { error } | Event::AcceptFailed { error } => {
            json!({ "error": error_json(error) })
        }
        Event::PeerGone { error } | Event::LookedUp { error, .. } => json!({ "error": error.as_ref().map(error_json) }),
        Event::Closed(closing) => json!({
            "reason": closing.reason.name(), "bytes_read": closing.totals.bytes_read,
            "bytes_written": closing.totals.bytes_written, "unread_bytes": closing.unread_bytes,
        }),
        _ => json!({}),
    };
    match body {
        Value::Object(mut body) => {
            body.retain(|_, field| !field.is_null());
            body
        }
        _ => Map::new(),
    }
}

fn error_json(error: &SocketError) -> Value {
    json!({ "name": error.cause.name(), "number": error.cause.number(), "message": error.to_string() })
}

/// A step has ended. `lines` are those of the plan's sources.
pub fn step(plan: &Plan, lines: &[Lines], step: &Step, outcome: &StepOutcome) -> StepLine {
    let (result, failure) = match &outcome.result {
        StepResult::Passed => (Went::Passed, None),
        StepResult::Failed(failure) => (Went::Failed, Some(failure)),
        StepResult::CouldNotRun(failure) => (Went::CouldNotRun, Some(failure)),
    };
    let difference = failure.and_then(|failure| failure.difference.as_ref());
    let evidence = |(host, seq): (usize, u64)| EventPlace { host: plan.hosts[host].role.clone(), event_seq: seq };
    StepLine {
        number: step.number,
        host: plan.hosts[step.host].role.clone(),
        file: file_of(plan, step),
        line: lines[step.source].line(step.verb_span.start),
        verb: step.verb.word().to_owned(),
        socket: step.verb.socket().map(str::to_owned),
        result,
        finding: outcome.finding.clone().or_else(|| finding(&step.verb)).filter(|_| result == Went::Passed),
        evidence: outcome.evidence.map(evidence),
        message: failure.map(|failure| failure.message.clone()),
        label: failure.map(|failure| failure.label.clone()),
        compared: difference.map(|difference| difference.what.clone()),
        expected: difference.map(|difference| difference.expected.clone()),
        seen: difference.map(|difference| difference.seen.clone()),
        advice: failure.map(|failure| failure.advice.clone()).unwrap_or_default(),
        call: outcome.call.as_ref().map(call),
        elapsed_ns: nanos(outcome.elapsed),
    }
}

fn call(CallMade { agent, method, request }: &CallMade) -> CallLine {
    CallLine { agent: agent.clone(), method: method.clone(), request: request.clone() }
}

/// An exercise is over.
pub fn result(plan: &Plan, source: &Source, outcome: &ExerciseOutcome) -> ResultLine {
    ResultLine {
        title: plan.title.clone(),
        file: source.name.clone(),
        result: match outcome.verdict() {
            Verdict::Passed => Went::Passed,
            Verdict::Failed => Went::Failed,
            Verdict::CouldNotRun => Went::CouldNotRun,
        },
        passed: outcome.passed(),
        failed: outcome.steps.len() - outcome.passed(),
        not_reached: outcome.not_reached(),
        steps: outcome.step_count,
        problem: outcome.problem.clone(),
        elapsed_ns: nanos(outcome.elapsed),
    }
}

/// A file is wrong.
pub fn mistake(mistake: &Mistake) -> MistakeLine {
    MistakeLine {
        file: mistake.file().to_owned(),
        line: mistake.line(),
        column: mistake.column(),
        message: mistake.message.clone(),
        help: mistake.help.clone(),
    }
}

fn nanos(elapsed: std::time::Duration) -> u64 {
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}
