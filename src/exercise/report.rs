//! How an exercise went, for people and for programs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::exercise::narration::describe;
use crate::exercise::outcome::{ExerciseOutcome, Failure, HostSeen, StepOutcome, StepResult, Verdict};
use crate::exercise::plan::{Plan, Step};
use crate::exercise::timeline::Moment;
use crate::model::address::Endpoint;
use crate::model::error::SocketError;
use crate::model::event::Event;
use crate::model::mistake::{Mistake, Source};
use crate::model::payload::to_hex;

/// A failure, shown at its step.
pub fn at_step(source: &Source, step: &Step, failure: &Failure) -> Mistake {
    let mistake = Mistake::new(source, step.verb_span.clone(), failure.message.clone()).labelled(failure.label.clone());
    if failure.advice.is_empty() { mistake } else { mistake.helped(failure.advice.join("\n")) }
}

/// The lines above the picture: what it is, and who takes part.
pub fn heading(plan: &Plan, source: &Source, hosts: &[HostSeen]) -> String {
    let mut text = format!("{}  {}\n", plan.title, source.name);
    let longest = hosts.iter().map(|host| host.role.chars().count()).max().unwrap_or(0);
    for host in hosts {
        let HostSeen { role, agent, version, lab_address, offset } = host;
        text.push_str(&format!(
            "  {role:longest$}  {lab_address}  {agent}  {version}  clock {} ±{}\n",
            milliseconds(offset.nanos),
            milliseconds(offset.bound).trim_start_matches('+'),
        ));
    }
    text
}

#[allow(clippy::cast_precision_loss, reason = "people read three digits of it")]
fn milliseconds(nanos: i64) -> String {
    format!("{:+.3} ms", nanos as f64 / 1e6)
}

/// One line that says how it went.
pub fn summary(plan: &Plan, source: &Source, outcome: &ExerciseOutcome) -> String {
    let passed = outcome.passed();
    let seconds = seconds(outcome.elapsed);
    let failed = outcome.steps.len() - passed;
    match outcome.verdict() {
        Verdict::Passed => format!("✓ {}  {passed} steps  {seconds}  {}", plan.title, source.name),
        verdict => {
            let word = if verdict == Verdict::Failed { "FAILED" } else { "COULD NOT RUN" };
            let not_reached = outcome.not_reached();
            format!(
                "✗ {word} {}  {passed} of {} steps passed, {failed} failed, {not_reached} not reached  {seconds}  {}",
                plan.title, outcome.step_count, source.name
            )
        }
    }
}

/// A time as people read it.
pub fn seconds(elapsed: Duration) -> String {
    format!("{:.2} s", elapsed.as_secs_f64())
}

// === For programs: one object a line ===

/// An exercise begins.
pub fn began_json(plan: &Plan, source: &Source, hosts: &[HostSeen]) -> Value {
    let host = |host: &HostSeen| {
        json!({
            "role": host.role, "agent": host.agent, "version": host.version, "lab_address": host.lab_address,
            "clock_offset_ns": host.offset.nanos, "clock_bound_ns": host.offset.bound,
        })
    };
    let hosts: Vec<Value> = hosts.iter().map(host).collect();
    json!({ "type": "exercise", "title": plan.title, "file": source.name, "steps": plan.steps.len(), "hosts": hosts })
}

/// Something happened.
pub fn moment_json(plan: &Plan, moment: &Moment, name: Option<&str>, start: i64) -> Value {
    let record = &moment.record;
    let mut value = json!({
        "type": "event",
        "at_ns": moment.at.saturating_sub(start),
        "host": plan.hosts[moment.host].role,
        "event_seq": record.seq,
        "time": record.time.to_string(),
        "socket_id": record.socket.as_ref().map(|(id, _)| id.to_string()),
        "socket_uid": record.socket.as_ref().map(|(_, uid)| uid.0),
        "name": name,
        "request_id": record.request.as_ref().map(ToString::to_string),
        "kind": record.event.kind(),
        "text": describe(&record.event),
        "caused_by": moment.cause.as_ref().map(|(host, cause)| json!({
            "host": plan.hosts[*host].role, "event_seq": cause.seq,
        })),
    });
    if let (Value::Object(value), Value::Object(body)) = (&mut value, body_json(&record.event)) {
        value.extend(body);
        value.retain(|_, field| !field.is_null());
    }
    value
}

fn body_json(event: &Event) -> Value {
    let end = |endpoint: &Option<Endpoint>| endpoint.as_ref().map(ToString::to_string);
    match event {
        Event::Created { local, remote, .. } | Event::ConnectionDropped { local, remote } => {
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
    }
}

fn error_json(error: &SocketError) -> Value {
    json!({ "name": error.cause.name(), "number": error.cause.number(), "message": error.to_string() })
}

/// A step has ended.
pub fn step_json(source: &Source, step: &Step, outcome: &StepOutcome) -> Value {
    let (result, failure) = match &outcome.result {
        StepResult::Passed => ("passed", None),
        StepResult::Failed(failure) => ("failed", Some(failure)),
        StepResult::CouldNotRun(failure) => ("could_not_run", Some(failure)),
    };
    json!({
        "type": "step",
        "number": step.number,
        "line": source.line(step.verb_span.start),
        "verb": step.verb.word(),
        "socket": step.verb.socket(),
        "result": result,
        "message": failure.map(|failure| &failure.message),
        "advice": failure.map(|failure| &failure.advice),
        "elapsed_ns": u64::try_from(outcome.elapsed.as_nanos()).unwrap_or(u64::MAX),
    })
}

/// An exercise has ended.
pub fn ended_json(plan: &Plan, source: &Source, outcome: &ExerciseOutcome) -> Value {
    let verdict = match outcome.verdict() {
        Verdict::Passed => "passed",
        Verdict::Failed => "failed",
        Verdict::CouldNotRun => "could_not_run",
    };
    json!({
        "type": "result",
        "title": plan.title,
        "file": source.name,
        "result": verdict,
        "passed": outcome.passed(),
        "steps": outcome.step_count,
        "not_reached": outcome.not_reached(),
        "problem": outcome.problem,
        "elapsed_ns": u64::try_from(outcome.elapsed.as_nanos()).unwrap_or(u64::MAX),
    })
}

/// Something is wrong with a file.
pub fn mistake_json(source: &Source, mistake: &Mistake) -> Value {
    json!({
        "type": "mistake",
        "file": source.name,
        "line": source.line(mistake.span.start),
        "column": source.column(mistake.span.start),
        "message": mistake.message,
        "help": mistake.help,
    })
}
