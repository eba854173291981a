//! Socket options.

use crate::model::option::{Access, OptionResult, OptionSpec, OptionType, OptionValue, SocketOption};
use crate::model::refusal::Violation;
use crate::wire::unknown::optional;
use crate::wire::{call, pb};

// === In ===

/// Options to be set, at most `limit` of them.
pub(super) fn options(field: &str, options: &[pb::SocketOption], limit: u32) -> Result<Vec<SocketOption>, Violation> {
    if options.len() > limit as usize {
        let problem = format!("{} are more than limits.options_per_call of this agent, {limit}", options.len());
        return Err(Violation::new(field, problem));
    }
    let option = |(at, option): (usize, &pb::SocketOption)| {
        let within = |violation: Violation| violation.within(&format!("{field}[{at}]"));
        SocketOption::new(&option.name, value(option).map_err(within)?).map_err(within)
    };
    options.iter().enumerate().map(option).collect()
}

/// Options of a TCP socket that is to be made. What would only fill its error queue, which nobody reads, is none of them.
pub(super) fn of_tcp(field: &str, sent: &[pb::SocketOption], limit: u32) -> Result<Vec<SocketOption>, Violation> {
    let read = options(field, sent, limit)?;
    match read.iter().position(|option| option.spec.kind == OptionType::Timestamping) {
        Some(at) => Err(Violation::new(format!("{field}[{at}].name"), format!("{} is of UDP", read[at].spec.name))),
        None => Ok(read),
    }
}

fn value(option: &pb::SocketOption) -> Result<OptionValue, Violation> {
    use pb::socket_option::Value;

    match &option.value {
        None => Err(Violation::new("value", "one of `enabled`, `number`, `duration` and `text` is needed")),
        Some(Value::Enabled(on)) => Ok(OptionValue::Enabled(*on)),
        Some(Value::Number(number)) => Ok(OptionValue::Number(*number)),
        Some(Value::Text(text)) => Ok(OptionValue::Text(text.as_str().into())),
        Some(Value::Duration(time)) => call::duration("duration", time).map(OptionValue::Time),
    }
}

/// Options to be read.
pub fn option_names(names: &[String], limit: u32) -> Result<Vec<&'static OptionSpec>, Violation> {
    if names.len() > limit as usize {
        let problem = format!("{} are more than limits.options_per_call of this agent, {limit}", names.len());
        return Err(Violation::new("names", problem));
    }
    let spec = |(at, name): (usize, &String)| {
        OptionSpec::find(name).map_err(|violation| Violation { field: format!("names[{at}]"), ..violation })
    };
    names.iter().enumerate().map(spec).collect()
}

// === Out ===

pub(super) fn option(spec: &OptionSpec, value: &OptionValue) -> pb::SocketOption {
    use pb::socket_option::Value;

    let value = match value {
        OptionValue::Enabled(on) => Value::Enabled(*on),
        OptionValue::Number(number) => Value::Number(*number),
        OptionValue::Time(time) => Value::Duration(call::span(*time)),
        OptionValue::Text(text) => Value::Text(text.to_string()),
    };
    pb::SocketOption { name: spec.name.to_owned(), value: Some(value) }
}

impl From<&OptionResult> for pb::OptionResult {
    fn from(result: &OptionResult) -> Self {
        let named = pb::SocketOption { name: result.spec.name.to_owned(), value: None };
        let effective = result.effective.as_ref().map(|value| option(result.spec, value));
        Self {
            asked: result.asked.as_ref().map(|value| option(result.spec, value)),
            // An option that was only read and could not be is named all the same.
            effective: effective.or_else(|| result.asked.is_none().then_some(named)),
            error: result.error.as_ref().map(call::error),
        }
    }
}

/// Results that an agent sent, but for those about options that this version does not know.
pub fn read_results(sent: &[pb::OptionResult]) -> Vec<OptionResult> {
    sent.iter().filter_map(read_result).collect()
}

/// A result that an agent sent. Absent when it is about an option that this version does not know.
pub(super) fn read_result(sent: &pb::OptionResult) -> Option<OptionResult> {
    let read = |option: Option<&pb::SocketOption>| option.and_then(|option| value(option).ok());
    let name = sent.asked.as_ref().or(sent.effective.as_ref()).map(|option| option.name.as_str())?;
    Some(OptionResult {
        spec: OptionSpec::find(name).ok()?,
        asked: read(sent.asked.as_ref()),
        effective: read(sent.effective.as_ref()),
        error: optional(sent.error.as_ref(), call::read_error)?,
    })
}

impl From<&OptionSpec> for pb::OptionSpec {
    fn from(spec: &OptionSpec) -> Self {
        let kind = match spec.kind {
            OptionType::Enabled => pb::OptionType::Enabled,
            OptionType::Number => pb::OptionType::Number,
            OptionType::Seconds | OptionType::Milliseconds | OptionType::Microseconds => pb::OptionType::Duration,
            OptionType::Linger => pb::OptionType::Linger,
            OptionType::InterfaceName
            | OptionType::InterfaceIndex
            | OptionType::MulticastInterface
            | OptionType::Text
            | OptionType::Cookie
            | OptionType::PathMtu
            | OptionType::Timestamping
            | OptionType::CongestionInfo
            | OptionType::PortRange => pb::OptionType::Text,
        };
        Self {
            name: spec.name.to_owned(),
            r#type: kind.into(),
            access: match spec.access {
                Access::ReadWrite => pb::OptionAccess::ReadWrite,
                Access::ReadOnly => pb::OptionAccess::ReadOnly,
                Access::WriteOnly => pb::OptionAccess::WriteOnly,
            }
            .into(),
            transport: spec.transport.map_or(pb::Transport::Unspecified, pb::Transport::from).into(),
            family: spec.family.map_or(pb::Family::Unspecified, pb::Family::from).into(),
            minimum: spec.range.0,
            maximum: spec.range.1,
            summary: spec.summary.to_owned(),
            unit: spec.kind.unit().map(call::span),
            words: spec.kind.words().iter().map(ToString::to_string).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pb::socket_option::Value;

    fn asked(name: &str, value: Option<Value>) -> Vec<pb::SocketOption> {
        vec![pb::SocketOption { name: name.into(), value }]
    }

    #[test]
    fn options_are_checked_where_they_stand() {
        let field = |name, value| options("tcp.options", &asked(name, value), 9).unwrap_err().field;
        assert_eq!(field("SO_NOTHING", Some(Value::Enabled(true))), "tcp.options[0].name");
        assert_eq!(field("TCP_NODELAY", None), "tcp.options[0].value");
        assert_eq!(field("TCP_NODELAY", Some(Value::Number(1))), "tcp.options[0].value");
        let half = prost_types::Duration { seconds: 1, nanos: 500_000_000 };
        assert_eq!(field("TCP_KEEPIDLE", Some(Value::Duration(half))), "tcp.options[0].duration");
        assert!(options("options", &asked("TCP_USER_TIMEOUT", Some(Value::Duration(half))), 9).is_ok());
        let negative = prost_types::Duration { seconds: -1, nanos: 0 };
        assert_eq!(field("TCP_KEEPIDLE", Some(Value::Duration(negative))), "tcp.options[0].duration");
        let many = vec![pb::SocketOption::default(); 10];
        assert!(options("options", &many, 9).unwrap_err().problem.to_string().contains("limits.options_per_call"));
        assert!(options("options", &asked("TCP_NODELAY", Some(Value::Enabled(true))), 9).is_ok());
        assert_eq!(option_names(&["SO_X".into()], 9).unwrap_err().field, "names[0]");
    }
}
