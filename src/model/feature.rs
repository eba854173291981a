//! What agents can do and not every version of them could. An agent that is older than its controller leaves out what it does not know, and does
//! the rest; so a controller asks before it relies on one of these.

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

#[cfg(test)]
mod tests {
    use super::*;

    /// A version as numbers.
    fn numbers(version: &str) -> Vec<u32> {
        version.split('.').map(|part| part.parse().unwrap()).collect()
    }

    #[test]
    fn this_version_is_not_older_than_what_it_has() {
        for feature in Feature::ALL {
            assert!(numbers(feature.since()) <= numbers(VERSION), "{}", feature.name());
        }
    }
}
