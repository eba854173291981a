//! How a run went, in text for people.

use std::time::Duration;

use crate::exercise::report::line::{ExerciseLine, HostsLine, ResultLine, StepLine, Went};
use crate::model::mistake::{Mistake, Source};

/// A step that did not go as it should, shown at its place; nothing if it did.
pub fn failure(exercise: &ExerciseLine, step: &StepLine) -> Option<Mistake> {
    let message = step.message.as_ref()?;
    let source = Source { name: exercise.file.clone(), text: exercise.source.clone() };
    let planned = exercise.plan.iter().find(|planned| planned.number == step.number);
    let (start, end) = planned.map(|planned| planned.span).unwrap_or_default();
    let mistake = Mistake::new(&source, start..end, message.clone()).labelled(step.label.clone().unwrap_or_default());
    Some(if step.advice.is_empty() { mistake } else { mistake.helped(step.advice.join("\n")) })
}

/// The lines above the picture: what it is, and who takes part.
pub fn heading(exercise: &ExerciseLine, hosts: &HostsLine) -> String {
    let mut text = format!("{}  {}\n", exercise.title, exercise.file);
    let longest = hosts.hosts.iter().map(|host| host.role.chars().count()).max().unwrap_or(0);
    for host in &hosts.hosts {
        text.push_str(&format!(
            "  {:longest$}  {}  {}  {}  clock {} ±{}\n",
            host.role,
            host.lab_address,
            host.agent,
            host.version,
            milliseconds(host.clock_offset_ns),
            milliseconds(host.clock_bound_ns).trim_start_matches('+'),
        ));
    }
    text
}

#[allow(clippy::cast_precision_loss, reason = "people read three digits of it")]
fn milliseconds(nanos: i64) -> String {
    format!("{:+.3} ms", nanos as f64 / 1e6)
}

/// One line that says how it went.
pub fn summary(result: &ResultLine) -> String {
    let ResultLine { title, file, passed, failed, not_reached, steps, .. } = result;
    let seconds = seconds(Duration::from_nanos(result.elapsed_ns));
    let word = match result.result {
        Went::Passed => return format!("✓ {title}  {passed} steps  {seconds}  {file}"),
        Went::Failed => "FAILED",
        Went::CouldNotRun => "COULD NOT RUN",
    };
    format!(
        "✗ {word} {title}  {passed} of {steps} steps passed, {failed} failed, {not_reached} not reached  {seconds}  {file}"
    )
}

/// A time as people read it.
pub fn seconds(elapsed: Duration) -> String {
    format!("{:.2} s", elapsed.as_secs_f64())
}
