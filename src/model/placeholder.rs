//! Payloads with places that the agent fills as each datagram leaves: `tick {number} of {host} at {time}`.

use bytes::{Bytes, BytesMut};

use crate::model::refusal::Problem;
use crate::model::time::Timestamp;

/// Beyond this, no datagram is as long, so that nothing is gained by filling on: the kernel says what is wrong (EMSGSIZE).
const MOST: usize = 65_536;

/// What the places are filled with.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    /// The how manieth datagram of its socket it is, from 1.
    pub number: u64,
    /// When it leaves.
    pub time: Timestamp,
    /// The name of the agent's host.
    pub host: &'a str,
    /// The name of the session.
    pub session: &'a str,
    /// The name of the socket.
    pub socket: &'a str,
}

/// A place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Number,
    Time,
    Host,
    Session,
    Socket,
}

const PLACES: [(&str, Place); 5] = [
    ("number", Place::Number),
    ("time", Place::Time),
    ("host", Place::Host),
    ("session", Place::Session),
    ("socket", Place::Socket),
];

/// What a template consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece<'a> {
    Bytes(&'a [u8]),
    Place(Place),
}

/// Says what is wrong with a template.
pub fn check(template: &[u8]) -> Result<(), Problem> {
    pieces(template).try_for_each(|piece| piece.map(drop))
}

/// Fills the places of a template that has been checked.
pub fn fill(template: &[u8], values: &Values<'_>) -> Bytes {
    let mut filled = BytesMut::with_capacity(template.len() + 32);
    for piece in pieces(template).map_while(Result::ok) {
        match piece {
            Piece::Bytes(bytes) => filled.extend_from_slice(bytes),
            Piece::Place(Place::Number) => filled.extend_from_slice(values.number.to_string().as_bytes()),
            Piece::Place(Place::Time) => filled.extend_from_slice(format!("{:.9}", values.time).as_bytes()),
            Piece::Place(Place::Host) => filled.extend_from_slice(values.host.as_bytes()),
            Piece::Place(Place::Session) => filled.extend_from_slice(values.session.as_bytes()),
            Piece::Place(Place::Socket) => filled.extend_from_slice(values.socket.as_bytes()),
        }
        if filled.len() > MOST {
            break;
        }
    }
    filled.freeze()
}

fn pieces(template: &[u8]) -> impl Iterator<Item = Result<Piece<'_>, Problem>> {
    let mut rest = template;
    std::iter::from_fn(move || {
        let (piece, behind) = match rest {
            [] => return None,
            [b'{', b'{', ..] | [b'}', b'}', ..] => (Ok(Piece::Bytes(&rest[..1])), &rest[2..]),
            [b'{', inner @ ..] => place(inner),
            [b'}', ..] => (Err(Problem::new("a brace closes nothing: to send one itself, double it")), &rest[..0]),
            _ => {
                let end = rest.iter().position(|byte| matches!(byte, b'{' | b'}')).unwrap_or(rest.len());
                (Ok(Piece::Bytes(&rest[..end])), &rest[end..])
            }
        };
        rest = behind;
        Some(piece)
    })
}

/// The place that begins behind a brace, and what comes after it. Nothing does after a mistake.
fn place(inner: &[u8]) -> (Result<Piece<'_>, Problem>, &[u8]) {
    let Some(end) = inner.iter().position(|byte| *byte == b'}') else {
        return (Err(Problem::new("nothing closes a brace: to send one itself, double it")), &[]);
    };
    let name = &inner[..end];
    match PLACES.iter().find(|(known, _)| known.as_bytes() == name) {
        Some((_, place)) => (Ok(Piece::Place(*place)), &inner[end + 1..]),
        None => {
            let name = String::from_utf8_lossy(&name[..name.len().min(40)]);
            let known = PLACES.map(|(name, _)| format!("{{{name}}}")).join(", ");
            let problem = format!("`{{{}}}` is no place: there are {known}", name.escape_debug());
            (Err(Problem::new(problem)), &[])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VALUES: Values<'_> = Values {
        number: 7,
        time: Timestamp::from_nanos(1_700_000_000_000_000_001),
        host: "lab-a",
        session: "default",
        socket: "sender",
    };

    fn wrong(template: &str) -> String {
        check(template.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn every_place_is_filled() {
        let filled = fill(b"{number} {socket} {session} {host} {time}", &VALUES);
        assert_eq!(filled, "7 sender default lab-a 2023-11-14T22:13:20.000000001Z");
        assert_eq!(fill(b"", &VALUES), "");
        assert_eq!(fill(b"{{number}} {{}}", &VALUES), "{number} {}");
        assert_eq!(fill(b"\xff{number}\0", &VALUES)[..], *b"\xff7\0");
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(
            wrong("tick {nunber}"),
            "`{nunber}` is no place: there are {number}, {time}, {host}, {session}, {socket}"
        );
        assert_eq!(wrong("{"), "nothing closes a brace: to send one itself, double it");
        assert_eq!(wrong("a } b"), "a brace closes nothing: to send one itself, double it");
        assert!(check(b"{number}{{{time}}}").is_ok());
    }

    #[test]
    fn no_template_makes_a_datagram_of_any_length() {
        let host = "h".repeat(255);
        let long = fill(&b"{host}".repeat(100_000), &Values { host: &host, ..VALUES });
        assert!((MOST..MOST + 256).contains(&long.len()), "{}", long.len());
    }

    proptest! {
        #[test]
        fn braces_that_are_doubled_come_out_as_they_are(bytes: Vec<u8>) {
            let doubled: Vec<u8> =
                bytes.iter().flat_map(|byte| vec![*byte; 1 + usize::from(matches!(byte, b'{' | b'}'))]).collect();
            prop_assert!(check(&doubled).is_ok());
            prop_assert_eq!(fill(&doubled, &VALUES), bytes);
        }

        #[test]
        fn nothing_stops_the_agent(bytes in "[{}a-z\u{ff}]{0,20}") {
            let _ = check(bytes.as_bytes());
            let _ = fill(bytes.as_bytes(), &VALUES);
        }
    }
}
