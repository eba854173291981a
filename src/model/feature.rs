//! What agents can do and not every version of them could. An agent that is older than its controller leaves out what it does not know, and does
//! the rest; so a controller asks before it relies on one of these.

use std::cmp::Ordering;

use crate::model::capability::Capability;

/// The version of this build, of an agent as of a controller.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Something that agents can do from some version on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Feature {
    /// Sessions that end when nobody renews them.
    Leases,
    /// Logs that keep what their watchers have not taken.
    Lossless,
    /// Connections as byte streams.
    Transfer,
}

impl Feature {
    /// All that this version has.
    pub const ALL: [Self; 3] = [Self::Leases, Self::Lossless, Self::Transfer];

    /// Its name, as GetAgent tells it among the capabilities.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Leases => "leases",
            Self::Lossless => "lossless",
            Self::Transfer => "transfer",
        }
    }

    /// The first version that has it.
    pub const fn since(self) -> &'static str {
        match self {
            Self::Leases | Self::Lossless | Self::Transfer => "0.1.0",
        }
    }

    /// What does not work without it.
    pub const fn purpose(self) -> &'static str {
        match self {
            Self::Leases => "sessions that end with their controller",
            Self::Lossless => "logs that keep what has not been taken",
            Self::Transfer => "connections as byte streams",
        }
    }
}

/// What an agent of this version is to a controller of that one: newer or older than it. Nothing where they are the same.
pub fn age(agent: &str, controller: &str) -> Option<&'static str> {
    match (numbers(agent).cmp(&numbers(controller)), agent == controller) {
        (_, true) => None,
        (Ordering::Greater, _) => Some("newer"),
        (Ordering::Less, _) => Some("older"),
        (Ordering::Equal, false) => Some("other"),
    }
}

/// What people are to know of an agent of another version than this controller. Nothing where it is the same.
pub fn difference(version: &str, capabilities: &[String]) -> Option<String> {
    let listed = |names: Vec<String>| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let unknown = listed(capabilities.iter().filter(|name| !is_known(name)).cloned().collect());
    let has = |feature: &Feature| capabilities.iter().any(|name| name == feature.name());
    let lacking = Feature::ALL.into_iter().filter(|feature| !has(feature));
    let lacking = listed(lacking.map(|feature| feature.name().to_owned()).collect());
    let mut words = format!("its farsock {version} is {} than this one, {VERSION}", age(version, VERSION)?);
    if !unknown.is_empty() {
        words.push_str(&format!(", and can {unknown}, of which this one knows nothing"));
    }
    if !lacking.is_empty() {
        words.push_str(&format!(", and lacks {lacking}: what needs that is refused here"));
    }
    words.push_str(
        "; what it tells in words that are not known here is shown as such, and what it tells beside them is not",
    );
    Some(words)
}

/// Whether this version knows a capability of that name.
fn is_known(capability: &str) -> bool {
    let of_host = ["tcp", "udp", "ipv4", "ipv6"].contains(&capability);
    of_host
        || Feature::ALL.iter().any(|feature| feature.name() == capability)
        || Capability::OF_SOCKETS.iter().any(|known| known.name() == capability)
}

/// A version as numbers, as far as it has some.
fn numbers(version: &str) -> Vec<u32> {
    version.split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_different_is_said() {
        let said = |version: &str, capabilities: &[&str]| {
            difference(version, &capabilities.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let all = ["tcp", "ipv6", "net_raw", "leases", "lossless", "transfer"];
        assert_eq!(said(VERSION, &all), None);
        let newer = said("9.0.0", &[&all[..], &["teleport"]].concat()).unwrap();
        assert!(
            newer.contains("9.0.0 is newer than this one") && newer.contains("can `teleport`, of which"),
            "{newer}"
        );
        assert!(!newer.contains("lacks"), "{newer}");
        let older = said("0.0.1", &["tcp", "leases"]).unwrap();
        assert!(older.contains("is older than") && older.contains("lacks `lossless`, `transfer`: what"), "{older}");
    }

    #[test]
    fn versions_are_older_or_newer() {
        for (agent, controller, expected) in [
            ("0.1.0", "0.1.0", None),
            ("0.2.0", "0.1.9", Some("newer")),
            ("0.10.0", "0.9.0", Some("newer")),
            ("0.1.0", "0.1.1", Some("older")),
            ("0.1.0-rc.1", "0.1.0", Some("other")),
            ("", "0.1.0", Some("older")),
        ] {
            assert_eq!(age(agent, controller), expected, "{agent} and {controller}");
        }
    }

    #[test]
    fn this_version_is_not_older_than_what_it_has() {
        for feature in Feature::ALL {
            assert!(numbers(feature.since()) <= numbers(VERSION), "{}", feature.name());
        }
    }
}
