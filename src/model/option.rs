//! Socket options as typed values. Which options there are stands in [`crate::model::option_table`].

use std::fmt;

use crate::model::address::{Family, Transport};
use crate::model::error::SocketError;
use crate::model::id::shorten;
use crate::model::option_table::OPTIONS;
use crate::model::refusal::Violation;

/// The type of an option's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OptionType {
    /// On or off; an `int` of 0 or 1 to the kernel.
    Enabled,
    /// An `int`.
    Number,
    /// Whole seconds; an `int`.
    Seconds,
    /// SO_LINGER: off, or whole seconds; a `struct linger`.
    Linger,
    /// An interface by name; to the kernel the name itself.
    InterfaceName,
    /// An interface by name; to the kernel an `int`, its index.
    InterfaceIndex,
    /// An interface by name; to the kernel a `struct ip_mreqn` with its index, which cannot be read back.
    MulticastInterface,
}

/// An option that farsock knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OptionSpec {
    /// The constant's name.
    pub name: &'static str,
    /// The protocol level: SOL_SOCKET, IPPROTO_TCP, …
    pub level: i32,
    /// The constant's number.
    pub number: i32,
    /// The type of its value.
    pub kind: OptionType,
    /// The transport that has it; both where absent.
    pub transport: Option<Transport>,
    /// The family that has it; both where absent.
    pub family: Option<Family>,
    /// Whether it can be set.
    pub access: Access,
    /// The smallest and the largest number, or number of seconds.
    pub range: (i32, i32),
    /// What it does, in one sentence.
    pub summary: &'static str,
}

/// What can be done with an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Read and set.
    ReadWrite,
    /// Only read.
    ReadOnly,
    /// Only set.
    WriteOnly,
}

impl OptionSpec {
    /// The option of this name, or a violation that names the nearest one.
    pub fn find(name: &str) -> Result<&'static Self, Violation> {
        if let Some(spec) = OPTIONS.iter().find(|spec| spec.name == name) {
            return Ok(spec);
        }
        let nearest = OPTIONS
            .iter()
            .map(|spec| (strsim::jaro_winkler(spec.name, &name.to_ascii_uppercase()), spec.name))
            .filter(|(likeness, _)| *likeness > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let suggestion = nearest.map_or_else(
            || "GetAgent lists those that there are".to_owned(),
            |(_, name)| format!("did you mean {name}?"),
        );
        Err(Violation::new("name", format!("there is no option `{}`: {suggestion}", shorten(name))))
    }

    /// Whether a socket of this kind has the option.
    pub fn fits(&self, transport: Transport, family: Family) -> bool {
        self.transport.is_none_or(|t| t == transport) && self.family.is_none_or(|f| f == family)
    }

    fn type_text(&self) -> &'static str {
        match self.kind {
            OptionType::Enabled => "`enabled`",
            OptionType::Number => "`number`",
            OptionType::Seconds => "`duration`",
            OptionType::Linger => "`duration`, or `enabled: false`",
            OptionType::InterfaceName | OptionType::InterfaceIndex | OptionType::MulticastInterface => {
                "`text`, an interface's name"
            }
        }
    }
}

/// A value of an option.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum OptionValue {
    /// On or off.
    Enabled(bool),
    /// A number.
    Number(i32),
    /// Whole seconds.
    Seconds(u32),
    /// A name.
    Text(Box<str>),
}

impl fmt::Display for OptionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enabled(true) => f.write_str("on"),
            Self::Enabled(false) => f.write_str("off"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Seconds(seconds) => write!(f, "{seconds}s"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// An option with a value that has its type and range.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SocketOption {
    /// Which option.
    pub spec: &'static OptionSpec,
    /// Its value.
    pub value: OptionValue,
}

impl SocketOption {
    /// An option to be set: known, settable, of the right type and in range.
    pub fn new(name: &str, value: OptionValue) -> Result<Self, Violation> {
        let spec = OptionSpec::find(name)?;
        if spec.access == Access::ReadOnly {
            return Err(Violation::new("name", format!("{name} can only be read")));
        }
        let in_range = |number: i64| {
            let (minimum, maximum) = spec.range;
            if (i64::from(minimum)..=i64::from(maximum)).contains(&number) {
                return Ok(());
            }
            Err(Violation::new("value", format!("{name} goes from {minimum} to {maximum}, and this is {number}")))
        };
        match (spec.kind, &value) {
            (OptionType::Enabled, OptionValue::Enabled(_)) | (OptionType::Linger, OptionValue::Enabled(false)) => {}
            (OptionType::Number, OptionValue::Number(number)) => in_range((*number).into())?,
            (OptionType::Seconds | OptionType::Linger, OptionValue::Seconds(seconds)) => in_range((*seconds).into())?,
            (
                OptionType::InterfaceName | OptionType::InterfaceIndex | OptionType::MulticastInterface,
                OptionValue::Text(_),
            ) => {}
            _ => return Err(Violation::new("value", format!("{name} takes {}", spec.type_text()))),
        }
        Ok(Self { spec, value })
    }
}

/// What became of an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionResult {
    /// Which option.
    pub spec: &'static OptionSpec,
    /// What was asked for.
    pub asked: Option<OptionValue>,
    /// What the kernel says is in force.
    pub effective: Option<OptionValue>,
    /// What the kernel objected to.
    pub error: Option<SocketError>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(name: &str, value: OptionValue) -> String {
        SocketOption::new(name, value).unwrap_err().problem.to_string()
    }

    #[test]
    fn a_wrong_name_gets_a_suggestion() {
        assert!(problem("SO_KEEPALIV", OptionValue::Enabled(true)).ends_with("did you mean SO_KEEPALIVE?"));
        assert!(problem("tcp_nodelay", OptionValue::Enabled(true)).ends_with("did you mean TCP_NODELAY?"));
        assert!(problem("zzz", OptionValue::Enabled(true)).ends_with("GetAgent lists those that there are"));
    }

    #[test]
    fn type_range_and_access_are_checked() {
        assert_eq!(problem("SO_KEEPALIVE", OptionValue::Number(1)), "SO_KEEPALIVE takes `enabled`");
        assert_eq!(problem("IP_TTL", OptionValue::Number(256)), "IP_TTL goes from 1 to 255, and this is 256");
        assert_eq!(problem("IP_TTL", OptionValue::Number(0)), "IP_TTL goes from 1 to 255, and this is 0");
        assert_eq!(problem("SO_LINGER", OptionValue::Enabled(true)), "SO_LINGER takes `duration`, or `enabled: false`");
        assert_eq!(problem("SO_TYPE", OptionValue::Number(1)), "SO_TYPE can only be read");
        assert!(SocketOption::new("SO_LINGER", OptionValue::Seconds(0)).is_ok());
    }

    #[test]
    fn the_table_has_each_option_once() {
        for (at, spec) in OPTIONS.iter().enumerate() {
            assert!(OPTIONS[..at].iter().all(|other| other.name != spec.name), "{}", spec.name);
            assert!(spec.range.0 <= spec.range.1 && spec.summary.ends_with('.'), "{}", spec.name);
        }
    }
}
