//! Socket options as typed values. Which options there are stands in [`crate::model::option_table`].

use std::fmt;
use std::time::Duration;

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
    /// A time; to the kernel an `int` of seconds.
    Seconds,
    /// A time; to the kernel an `int` of milliseconds.
    Milliseconds,
    /// A time; to the kernel an `int` of microseconds.
    Microseconds,
    /// SO_LINGER: off, or whole seconds; a `struct linger`.
    Linger,
    /// An interface by name; to the kernel the name itself.
    InterfaceName,
    /// An interface by name; to the kernel an `int`, its index.
    InterfaceIndex,
    /// An interface by name; to the kernel a `struct ip_mreqn` with its index, which cannot be read back.
    MulticastInterface,
    /// A name of the kernel's own: of a congestion control.
    Text,
    /// How path MTUs are discovered, by the word in IP_PMTUDISC_*; an `int`.
    PathMtu,
    /// Which times are taken, by the words in SOF_TIMESTAMPING_*, with commas; an `int` of flags.
    Timestamping,
    /// What a congestion control tells of itself: a `union tcp_cc_info` of the kernel, only read.
    CongestionInfo,
    /// Two ports, `40000-40999`; to the kernel a `u32`, the upper one in its upper half.
    PortRange,
    /// A number that only stands for something, in hexadecimal digits; a `u64` of the kernel, only read.
    Cookie,
}

/// The words of [`OptionType::PathMtu`], in the order of their numbers. ip(7): IP_MTU_DISCOVER.
pub const PATH_MTU_WORDS: [&str; 6] = ["dont", "want", "do", "probe", "interface", "omit"];

/// The words of [`OptionType::Timestamping`]. Documentation/networking/timestamping.rst: SOF_TIMESTAMPING_*.
pub const TIMESTAMPING_WORDS: [&str; 6] =
    ["tx_software", "rx_software", "software", "opt_id", "tx_sched", "opt_tsonly"];

/// The bit of each. linux/net_tstamp.h.
const TIMESTAMPING_BITS: [u32; 6] = [1, 3, 4, 7, 8, 11];

/// The flags of a list of words; nothing where one of them is none.
pub fn timestamping_flags(text: &str) -> Option<u32> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).try_fold(0, |flags, word| {
        let at = TIMESTAMPING_WORDS.iter().position(|known| *known == word)?;
        Some(flags | 1 << TIMESTAMPING_BITS[at])
    })
}

/// The words of flags.
pub fn timestamping_text(flags: u32) -> String {
    let words = TIMESTAMPING_WORDS.iter().zip(TIMESTAMPING_BITS);
    words.filter(|(_, bit)| flags >> bit & 1 == 1).map(|(word, _)| *word).collect::<Vec<_>>().join(",")
}

/// The longest text that an option takes, in bytes: a name of an interface or of a congestion control, each with its final zero.
const TEXT_BYTES: usize = 15;

impl OptionType {
    /// What a time is counted in, if this is one.
    pub const fn unit(self) -> Option<Duration> {
        match self {
            Self::Seconds | Self::Linger => Some(Duration::from_secs(1)),
            Self::Milliseconds => Some(Duration::from_millis(1)),
            Self::Microseconds => Some(Duration::from_micros(1)),
            _ => None,
        }
    }

    /// The words that it takes, where these are a few.
    pub const fn words(self) -> &'static [&'static str] {
        match self {
            Self::PathMtu => &PATH_MTU_WORDS,
            Self::Timestamping => &TIMESTAMPING_WORDS,
            _ => &[],
        }
    }
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
    /// The smallest and the largest number, or number of units of time.
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

    /// How many units of this option a time is.
    fn units(&self, time: Duration) -> Result<i64, Violation> {
        let unit = self.kind.unit().unwrap_or(Duration::from_nanos(1)).as_nanos();
        if !time.as_nanos().is_multiple_of(unit) {
            let problem = format!("{} is kept in units of {:?}", self.name, self.kind.unit().unwrap_or_default());
            return Err(Violation::new("duration", problem));
        }
        Ok(i64::try_from(time.as_nanos() / unit).unwrap_or(i64::MAX))
    }

    fn type_text(&self) -> &'static str {
        match self.kind {
            OptionType::Enabled => "`enabled`",
            OptionType::Number => "`number`",
            OptionType::Seconds | OptionType::Milliseconds | OptionType::Microseconds => "`duration`",
            OptionType::Linger => "`duration`, or `enabled: false`",
            OptionType::InterfaceName | OptionType::InterfaceIndex | OptionType::MulticastInterface => {
                "`text`, an interface's name"
            }
            OptionType::Text | OptionType::Cookie | OptionType::CongestionInfo => "`text`",
            OptionType::Timestamping => {
                "`text`: tx_software, rx_software, software, opt_id, tx_sched or opt_tsonly, with commas, or nothing"
            }
            OptionType::PathMtu => "`text`: dont, want, do, probe, interface or omit",
            OptionType::PortRange => "`text`: two ports, such as 40000-40999, or nothing",
        }
    }
}

/// The ports of a range, as text has it; nothing stands for no range.
pub fn port_range(text: &str) -> Option<(u16, u16)> {
    if text.is_empty() {
        return Some((0, 0));
    }
    let (low, high) = text.split_once('-')?;
    let (low, high) = (low.parse().ok()?, high.parse().ok()?);
    (0 < low && low <= high).then_some((low, high))
}

/// A value of an option.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum OptionValue {
    /// On or off.
    Enabled(bool),
    /// A number.
    Number(i32),
    /// A time.
    Time(Duration),
    /// A name.
    Text(Box<str>),
}

impl fmt::Display for OptionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enabled(true) => f.write_str("on"),
            Self::Enabled(false) => f.write_str("off"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Time(time) => write!(f, "{time:?}"),
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
            (kind, OptionValue::Time(time)) if kind.unit().is_some() => in_range(spec.units(*time)?)?,
            (OptionType::PathMtu, OptionValue::Text(word)) if PATH_MTU_WORDS.contains(&&**word) => {}
            (OptionType::PortRange, OptionValue::Text(text)) if port_range(text).is_some() => {}
            (OptionType::Timestamping, OptionValue::Text(text)) if timestamping_flags(text).is_some() => {}
            (OptionType::PathMtu | OptionType::PortRange | OptionType::Timestamping, OptionValue::Text(text)) => {
                let problem = format!("{name} takes {}, and this is `{}`", spec.type_text(), shorten(text));
                return Err(Violation::new("text", problem));
            }
            (
                OptionType::InterfaceName
                | OptionType::InterfaceIndex
                | OptionType::MulticastInterface
                | OptionType::Text,
                OptionValue::Text(text),
            ) => {
                if text.len() > TEXT_BYTES || text.contains('\0') {
                    let problem = format!("{name} takes a name of at most {TEXT_BYTES} bytes");
                    return Err(Violation::new("text", problem));
                }
            }
            _ => return Err(Violation::new("value", format!("{name} takes {}", spec.type_text()))),
        }
        Ok(Self { spec, value })
    }

    /// An option as it may be read: known, readable, and with words that it has. Linux has other numbers than those that it takes.
    pub fn read(name: &str, value: OptionValue) -> Result<Self, Violation> {
        let spec = OptionSpec::find(name)?;
        match (spec.access, &value) {
            (Access::WriteOnly, _) => Err(Violation::new("name", format!("{name} can only be set"))),
            (Access::ReadWrite, OptionValue::Text(text)) => {
                Self::new(name, value.clone())?;
                // As it is read, whatever the order of the words.
                let flags = timestamping_flags(text).filter(|_| spec.kind == OptionType::Timestamping);
                let value = flags.map_or(value, |flags| OptionValue::Text(timestamping_text(flags).into()));
                Ok(Self { spec, value })
            }
            _ => Ok(Self { spec, value }),
        }
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
        assert!(SocketOption::new("SO_LINGER", OptionValue::Time(Duration::ZERO)).is_ok());
        let half = Duration::from_millis(1500);
        assert_eq!(problem("TCP_KEEPIDLE", OptionValue::Time(half)), "TCP_KEEPIDLE is kept in units of 1s");
        assert!(SocketOption::new("TCP_USER_TIMEOUT", OptionValue::Time(half)).is_ok());
        let long = Duration::from_secs(40_000);
        assert_eq!(
            problem("TCP_KEEPIDLE", OptionValue::Time(long)),
            "TCP_KEEPIDLE goes from 1 to 32767, and this is 40000"
        );
        let text = |text: &str| OptionValue::Text(text.into());
        assert!(problem("IP_MTU_DISCOVER", text("DO")).contains("dont, want, do"));
        assert!(SocketOption::new("IP_MTU_DISCOVER", text("do")).is_ok());
        assert!(problem("SO_TIMESTAMPING", text("software,raw_hardware")).contains("tx_software, rx_software"));
        for times in ["", "software", "rx_software, software", "opt_id,tx_sched"] {
            assert!(SocketOption::new("SO_TIMESTAMPING", text(times)).is_ok(), "{times}");
        }
        for ports in ["1", "2-1", "0-5", "a-b", "1-70000"] {
            assert!(SocketOption::new("IP_LOCAL_PORT_RANGE", text(ports)).is_err(), "{ports}");
        }
        assert!(SocketOption::new("IP_LOCAL_PORT_RANGE", text("40000-40999")).is_ok());
        assert!(SocketOption::new("TCP_CONGESTION", text("a name that is too long")).is_err());
    }

    #[test]
    fn what_is_read_may_be_what_cannot_be_set() {
        let read = |name, value| SocketOption::read(name, value).map(|option| option.value);
        let text = |text: &str| OptionValue::Text(text.into());
        let number = OptionValue::Number(65_483);
        assert_eq!(read("TCP_MAXSEG", number.clone()), Ok(number.clone()));
        assert_eq!(read("IP_MTU", number.clone()), Ok(number));
        assert_eq!(read("SO_TIMESTAMPING", text("software, tx_software")), Ok(text("tx_software,software")));
        assert!(read("IP_MTU_DISCOVER", text("never")).unwrap_err().problem.to_string().contains("dont, want, do"));
        let problem = read("IP_MULTICAST_IF", text("lo")).unwrap_err().problem.to_string();
        assert_eq!(problem, "IP_MULTICAST_IF can only be set");
    }

    #[test]
    fn flags_are_words() {
        assert_eq!(timestamping_flags("software, tx_software"), Some(0b10010));
        assert_eq!(timestamping_text(0b10010), "tx_software,software");
        assert_eq!((timestamping_flags(""), timestamping_text(0)), (Some(0), String::new()));
        let all = TIMESTAMPING_WORDS.join(",");
        assert_eq!(timestamping_text(timestamping_flags(&all).unwrap()), all);
        assert_eq!(timestamping_flags("hardware"), None);
    }

    #[test]
    fn the_table_has_each_option_once() {
        for (at, spec) in OPTIONS.iter().enumerate() {
            assert!(OPTIONS[..at].iter().all(|other| other.name != spec.name), "{}", spec.name);
            assert!(spec.range.0 <= spec.range.1 && spec.summary.ends_with('.'), "{}", spec.name);
        }
    }
}
