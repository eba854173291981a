//! Names and numbers of things: newtypes that cannot be mixed up, parsed once, cheap to clone.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::{Arc, LazyLock};

use crate::model::refusal::Problem;

/// The longest name that a caller may choose for a session or a socket, in bytes.
pub const NAME_BYTES: usize = 48;

/// The longest `request_id`, in bytes.
pub const REQUEST_ID_BYTES: usize = 64;

/// The longest name of a principal, in bytes: that of a DNS name.
pub const PRINCIPAL_BYTES: usize = 253;

/// The session that a caller works in when it names none.
const DEFAULT_SESSION: &str = "default";

/// The name of a session, unique among those of one principal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(Arc<str>);

impl SessionId {
    /// Reads a name that a caller chose. Empty text means the default session.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        check_name(text).map(|()| Self(text.into()))
    }

    /// A name that the agent mints.
    pub fn minted(number: u64) -> Self {
        Self(format!("session-{number}").into())
    }

    /// Whether this is the session that is always there.
    pub fn is_default(&self) -> bool {
        &*self.0 == DEFAULT_SESSION
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for SessionId {
    fn default() -> Self {
        // Most calls name no session: they share this one's text.
        static DEFAULT: LazyLock<SessionId> = LazyLock::new(|| SessionId(DEFAULT_SESSION.into()));
        DEFAULT.clone()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a socket, unique among the open sockets of a session: `door`, or `door.3` for the third connection that `door` accepted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(Arc<str>);

impl SocketId {
    /// Reads the name of a socket that a caller refers to: one that it chose, or one of an accepted connection.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        match text.split_once('.') {
            None => Self::parse_new(text),
            Some((parent, number)) => {
                check_name(parent)?;
                let canonical = number.parse::<NonZeroU64>().is_ok_and(|n| n.to_string() == number);
                if !canonical {
                    return Err(Problem::new(format!(
                        "`{}` is not an accepted connection: after the dot comes its number, 1, 2, …",
                        shorten(text)
                    )));
                }
                Ok(Self(text.into()))
            }
        }
    }

    /// Reads a name that a caller chooses for a new socket. The dot is the agent's.
    pub fn parse_new(text: &str) -> Result<Self, Problem> {
        check_name(text).map(|()| Self(text.into()))
    }

    /// A name that the agent mints.
    pub fn minted(number: u64) -> Self {
        Self(format!("s{number}").into())
    }

    /// The name of the `number`th connection that this listener accepts.
    pub fn child(&self, number: u64) -> Self {
        Self(format!("{}.{number}", self.0).into())
    }

    /// The listener's name, if this is the name of an accepted connection.
    pub fn parent(&self) -> Option<Self> {
        self.0.split_once('.').map(|(parent, _)| Self(parent.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a watcher that holds what it has not acknowledged, unique in its session.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatcherId(Arc<str>);

impl WatcherId {
    /// Reads a name that a caller chose.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        check_name(text).map(|()| Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WatcherId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number of a socket, which no other socket of one agent instance ever has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketUid(pub u64);

impl fmt::Display for SocketUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The name of one operation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// Reads a name that a caller chose.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if text.len() > REQUEST_ID_BYTES || !starts_well || !text.chars().all(allowed) {
            return Err(Problem::new(format!(
                "`{}` is not a request id: 1 to {REQUEST_ID_BYTES} of A-Z a-z 0-9 . _ -, starting with a letter or digit",
                shorten(text)
            )));
        }
        Ok(Self(text.into()))
    }

    /// Reads a name that a caller refers to: one that it chose, or one that the agent minted.
    pub fn parse_known(text: &str) -> Result<Self, Problem> {
        match text.strip_prefix('@') {
            Some(number) if number.parse::<u64>().is_ok() => Ok(Self(text.into())),
            _ => Self::parse(text),
        }
    }

    /// A name that the agent mints; no caller can choose it.
    pub fn minted(number: u64) -> Self {
        Self(format!("@{number}").into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One life of an agent's process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InstanceId(Arc<str>);

impl InstanceId {
    /// Makes an id of 128 random bits.
    pub fn from_random(bits: [u8; 16]) -> Self {
        Self(format!("{:032x}", u128::from_be_bytes(bits)).into())
    }

    /// Reads an id as an agent printed it.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if text.len() != 32 || !text.chars().all(hex) {
            return Err(Problem::new(format!(
                "`{}` is not an instance id: 32 of 0-9 a-f, as GetAgent shows it",
                shorten(text)
            )));
        }
        Ok(Self(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who is calling. Sessions of one principal are invisible to every other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal(Arc<str>);

impl Principal {
    /// The user that runs the agent: whoever comes by its Unix socket or with its token.
    pub fn owner() -> Self {
        static OWNER: LazyLock<Principal> = LazyLock::new(|| Principal("owner".into()));
        OWNER.clone()
    }

    /// Reads the name of a principal, as a certificate or a policy has it: one without a slash, which is what stands behind it where a
    /// session of somebody is named.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | '_' | '@');
        let fits = (1..=PRINCIPAL_BYTES).contains(&text.len())
            && text.chars().all(allowed)
            && text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if fits {
            return Ok(Self(text.into()));
        }
        Err(Problem::new(format!(
            "`{}` is not the name of a principal: 1 to {PRINCIPAL_BYTES} of a-z 0-9 - . _ @, not starting with a sign",
            shorten(text)
        )))
    }

    /// The principal's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads `alice/lab`, as the session `lab` of `alice` is called by others; absent where the text names a session of the caller's own.
pub fn split_owner(text: &str) -> Result<Option<(Principal, SessionId)>, Problem> {
    let Some((owner, session)) = text.split_once('/') else { return Ok(None) };
    let owner = Principal::parse(owner)?;
    check_name(session)?;
    Ok(Some((owner, SessionId(session.into()))))
}

/// Checks `[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?`: what DNS labels look like, so that names work everywhere.
pub fn check_name(text: &str) -> Result<(), Problem> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let fits = (1..=NAME_BYTES).contains(&text.len())
        && text.chars().all(allowed)
        && !text.starts_with('-')
        && !text.ends_with('-');
    if fits {
        return Ok(());
    }
    Err(Problem::new(if text.is_empty() {
        "a name is needed".to_owned()
    } else {
        format!("`{}` is not a name: 1 to {NAME_BYTES} of a-z 0-9 -, not starting or ending with -", shorten(text))
    }))
}

/// Text of a caller's, made fit for one line of a message: control characters escaped, long text cut.
pub fn shorten(text: &str) -> String {
    const SHOWN: usize = 60;
    let escaped: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().count() > SHOWN { format!("{escaped}…") } else { escaped }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lowercase_labels() {
        for good in ["a", "0", "door", "lab-a", "a--b", &"x".repeat(48)] {
            assert!(SocketId::parse_new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "a b", "ä", "a\n", "door.1", &"x".repeat(49)] {
            assert!(SocketId::parse_new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn accepted_connections_are_a_name_a_dot_and_a_number() {
        let child = SocketId::parse("door.12").unwrap();
        assert_eq!(child.parent(), Some(SocketId::parse("door").unwrap()));
        assert_eq!(SocketId::parse("door").unwrap().child(12), child);
        for bad in ["door.", "door.0", "door.01", "door.x", "door.1.2", ".1", "door.-1", "door.99999999999999999999"] {
            assert!(SocketId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sessions_of_others_are_named_with_their_owner() {
        let (owner, session) = split_owner("alice@lab.example/lab-1").unwrap().unwrap();
        assert_eq!((owner.as_str(), session.as_str()), ("alice@lab.example", "lab-1"));
        assert!(split_owner("alice/default").unwrap().unwrap().1.is_default());
        assert_eq!(split_owner("lab-1"), Ok(None));
        assert_eq!(split_owner(""), Ok(None));
        for bad in ["/", "/lab", "alice/", "Alice/lab", "alice/Lab", "alice/lab/1", "alice//lab", "-/lab", "alice/a\n"]
        {
            assert!(split_owner(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn minted_request_ids_cannot_be_chosen() {
        let minted = RequestId::minted(7);
        assert!(RequestId::parse(minted.as_str()).is_err());
        assert_eq!(RequestId::parse_known(minted.as_str()), Ok(minted));
        for bad in ["", "-x", "a b", "a/b", "@", "@x", &"x".repeat(65)] {
            assert!(RequestId::parse_known(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn messages_show_hostile_text_on_one_short_line() {
        assert_eq!(shorten("a\n\u{1b}]0;b"), "a\\n\\u{1b}]0;b");
        assert!(shorten(&"x".repeat(1000)).chars().count() <= 61);
    }

    #[test]
    fn instance_ids_are_32_hex_digits() {
        let id = InstanceId::from_random([0xab; 16]);
        assert_eq!(InstanceId::parse(id.as_str()), Ok(id));
        assert!(InstanceId::parse("xyz").is_err());
    }
}
