//! How a run went, in text for people.

use std::time::Duration;

use crate::exercise::clock::Offset;
use crate::exercise::outcome::Verdict;
use crate::exercise::report::line::{CallLine, ExerciseLine, HostsLine, ProgressLine, ResultLine, StepLine, Went};
use crate::model::feature::age;
use crate::model::mistake::{Mistake, Source};

/// What people read of an exercise that went wrong.
const FAILED: &str = "FAILED";
const COULD_NOT_RUN: &str = "COULD NOT RUN";

/// A step that did not go as it should, shown at its place; nothing if it did.
pub fn failure(exercise: &ExerciseLine, step: &StepLine) -> Option<Mistake> {
    let message = step.message.as_ref()?;
    let planned = exercise.plan.iter().find(|planned| planned.number == step.number);
    let (start, end) = planned.map(|planned| planned.span).unwrap_or_default();
    let included = planned.and_then(|planned| planned.file.as_ref());
    let included = included.and_then(|file| exercise.included.iter().find(|included| included.file == *file));
    let source = match included {
        Some(included) => Source { name: included.file.clone(), text: included.source.clone() },
        None => Source { name: exercise.file.clone(), text: exercise.source.clone() },
    };
    let context = planned.and_then(|planned| planned.context.as_ref()).map(|context| format!("this is {context}"));
    let advice: Vec<&str> = context.iter().chain(&step.advice).map(String::as_str).collect();
    let mistake = Mistake::new(&source, start..end, message.clone()).labelled(step.label.clone().unwrap_or_default());
    Some(if advice.is_empty() { mistake } else { mistake.helped(advice.join("\n")) })
}

/// The command that makes a call again, for a shell.
pub fn grpcurl(call: &CallLine) -> String {
    let CallLine { agent, method, request } = call;
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    let (options, address) = match agent.strip_prefix("unix:") {
        Some(path) => ("-plaintext -unix -authority localhost ", quoted(path)),
        // There is nothing that grpcurl could reach: an agent within this process, or behind ssh.
        None if !names_a_port(agent) => ("", "ADDRESS".to_owned()),
        None => ("", quoted(agent)),
    };
    format!("grpcurl {options}-d {} {address} {method}", quoted(request))
}

/// The command that makes a run again. Runs of an older version do not tell it.
pub fn again(exercise: &ExerciseLine) -> String {
    if exercise.again.is_empty() { format!("farsock run {}", exercise.file) } else { exercise.again.clone() }
}

/// Whether this is a host and a port, and not a URL or a word.
fn names_a_port(agent: &str) -> bool {
    !agent.contains("//") && agent.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
}

/// The lines above the picture: what it is, and who takes part.
pub fn heading(exercise: &ExerciseLine, hosts: &HostsLine) -> String {
    let mut text = format!("{}  {}\n", exercise.title, exercise.file);
    let longest = hosts.hosts.iter().map(|host| host.role.chars().count()).max().unwrap_or(0);
    for host in &hosts.hosts {
        text.push_str(&format!(
            "  {:longest$}  {}  {}  {}  clock {}\n",
            host.role,
            host.lab_address,
            host.agent,
            version(&host.version, &exercise.version),
            clock(Offset { nanos: host.clock_offset_ns, bound: host.clock_bound_ns }),
        ));
    }
    text
}

/// An agent's version, and how it compares with the controller's where that is another one: then one of them may not understand all that the
/// other one says.
fn version(agent: &str, controller: &str) -> String {
    match age(agent, controller) {
        Some(age) => format!("{agent} ({age} than this {controller})"),
        None => agent.to_owned(),
    }
}

/// How far a clock is ahead, and by how much that may be wrong.
pub fn clock(offset: Offset) -> String {
    format!("{} ±{}", milliseconds(offset.nanos), milliseconds(offset.bound).trim_start_matches('+'))
}

#[allow(clippy::cast_precision_loss, reason = "people read three digits of it")]
fn milliseconds(nanos: i64) -> String {
    format!("{:+.3} ms", nanos as f64 / 1e6)
}

/// What is waited for, in a line that stands for a while only.
pub fn waiting(exercise: &ExerciseLine, progress: &ProgressLine) -> String {
    let ProgressLine { phase, done, of, waiting_for, steps } = progress;
    let what = match phase.as_str() {
        "network" => "making networks",
        "connect" => "connecting",
        "clock" => "reading clocks",
        "session" => "opening sessions",
        "collect" => "collecting",
        "clean_up" => "cleaning up",
        _ => return format!("{done} of {of} steps: {}", steps_awaited(exercise, steps)),
    };
    let more = (of - done).saturating_sub(waiting_for.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    match waiting_for.as_slice() {
        [] => format!("{what}: {done} of {of} hosts"),
        names => format!("{what}: {done} of {of} hosts, waiting for {}{more}", names.join(", ")),
    }
}

/// The first step that goes on, and how many more do.
fn steps_awaited(exercise: &ExerciseLine, steps: &[usize]) -> String {
    let Some((first, more)) = steps.split_first() else { return "going on".to_owned() };
    let planned = exercise.plan.iter().find(|planned| planned.number == *first);
    let step = planned.map(|step| {
        let socket = step.socket.as_ref().map(|socket| format!(" {socket}")).unwrap_or_default();
        format!("waiting for {} {}{socket}, line {}", step.host, step.verb, step.line)
    });
    let step = step.unwrap_or_else(|| format!("waiting for step {first}"));
    if more.is_empty() { step } else { format!("{step}, and {} more", more.len()) }
}

/// One line that says how it went.
pub fn summary(result: &ResultLine) -> String {
    let ResultLine { title, file, passed, failed, not_reached, steps, .. } = result;
    let seconds = seconds(Duration::from_nanos(result.elapsed_ns));
    let word = match result.result {
        Went::Passed => return format!("✓ {title}  {passed} steps  {seconds}  {file}"),
        Went::Failed => FAILED,
        Went::CouldNotRun => COULD_NOT_RUN,
    };
    format!(
        "✗ {word} {title}  {passed} of {steps} steps passed, {failed} failed, {not_reached} not reached  {seconds}  {file}"
    )
}

/// One line that says again, at the end of a run of many exercises, which one went wrong.
pub fn repeated(verdict: Verdict, title: &str, file: &str) -> String {
    let word = if verdict == Verdict::CouldNotRun { COULD_NOT_RUN } else { FAILED };
    format!("✗ {word} {title}  {file}")
}

/// A time as people read it.
pub fn seconds(elapsed: Duration) -> String {
    format!("{:.2} s", elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exercise::report::line::{HostLine, PlanLine};

    #[test]
    fn an_agent_of_another_version_is_shown_as_such() {
        let exercise = ExerciseLine { version: "0.1.0".to_owned(), ..ExerciseLine::default() };
        let host = |version: &str| HostLine { version: version.to_owned(), ..HostLine::default() };
        let hosts = HostsLine { hosts: ["0.1.0", "0.2.0", "0.0.9"].map(host).into() };
        let text = heading(&exercise, &hosts);
        assert_eq!(text.matches("than this 0.1.0").count(), 2, "{text}");
        assert!(text.contains("0.2.0 (newer than this 0.1.0)") && text.contains("0.0.9 (older than"), "{text}");
    }

    #[test]
    fn what_is_waited_for_is_told_by_its_name() {
        let planned = |number, socket: Option<&str>| PlanLine {
            number,
            host: "server".to_owned(),
            verb: "accept".to_owned(),
            socket: socket.map(str::to_owned),
            line: 10 + number,
            ..PlanLine::default()
        };
        let exercise =
            ExerciseLine { plan: vec![planned(1, Some("door")), planned(2, None)], ..ExerciseLine::default() };
        let told = |phase: &str, (done, of): (usize, usize), names: &[&str], steps: &[usize]| {
            let waiting_for = names.iter().map(|name| (*name).to_owned()).collect();
            let line = ProgressLine { phase: phase.to_owned(), done, of, waiting_for, steps: steps.to_vec() };
            waiting(&exercise, &line)
        };
        for (told, expected) in [
            (told("connect", (3, 5), &["b", "c"], &[]), "connecting: 3 of 5 hosts, waiting for b, c"),
            (told("clean_up", (1, 9), &["b", "c"], &[]), "cleaning up: 1 of 9 hosts, waiting for b, c and 6 more"),
            (told("collect", (5, 5), &[], &[]), "collecting: 5 of 5 hosts"),
            (told("step", (0, 2), &["server"], &[1]), "0 of 2 steps: waiting for server accept door, line 11"),
            (
                told("step", (0, 2), &["server"], &[2, 1]),
                "0 of 2 steps: waiting for server accept, line 12, and 1 more",
            ),
            (told("step", (2, 2), &[], &[]), "2 of 2 steps: going on"),
        ] {
            assert_eq!(told, expected);
        }
    }

    #[test]
    fn calls_are_told_as_a_shell_takes_them() {
        let told = |agent: &str| {
            let request = r#"{"text":"it's"}"#.to_owned();
            grpcurl(&CallLine { agent: agent.to_owned(), method: "farsock.v1.X/Y".to_owned(), request })
        };
        let data = r#"-d '{"text":"it'\''s"}'"#;
        for (agent, expected) in [
            (
                "unix:/run/a b.sock",
                format!("grpcurl -plaintext -unix -authority localhost {data} '/run/a b.sock' farsock.v1.X/Y"),
            ),
            ("10.0.0.1:7625", format!("grpcurl {data} '10.0.0.1:7625' farsock.v1.X/Y")),
            ("[::1]:7625", format!("grpcurl {data} '[::1]:7625' farsock.v1.X/Y")),
            ("embedded", format!("grpcurl {data} ADDRESS farsock.v1.X/Y")),
            ("ssh://root@lab:22", format!("grpcurl {data} ADDRESS farsock.v1.X/Y")),
        ] {
            assert_eq!(told(agent), expected);
        }
    }
}
