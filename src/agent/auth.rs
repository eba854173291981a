//! Who is calling: the peer of a Unix socket, whoever has the token, or whom a certificate names.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use subtle::ConstantTimeEq;
use tonic::codegen::http::HeaderMap;

use crate::agent::config::{OpenServices, StartError};
use crate::agent::connection::Caller;
use crate::agent::keeper::Keeper;
use crate::agent::paths::write_secret;
use crate::model::id::Principal;
use crate::model::refusal::Refusal;
use crate::pki::read_private;
use crate::socket::{Gate, Refusals};

/// What a caller by loopback TCP must show: 256 random bits in hexadecimal.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token(Arc<str>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// A token that nobody has seen.
    pub(super) fn random() -> Result<Self, StartError> {
        let mut bits = [0_u8; 32];
        getrandom::fill(&mut bits).map_err(|_| StartError::NoRandom)?;
        Ok(Self(crate::model::payload::to_hex(&bits).into()))
    }

    /// The token in a file of the user's, which is made if it is not there.
    pub(super) fn at(path: &Path) -> Result<Self, StartError> {
        if let Some(token) = Self::read(path)? {
            return Ok(token);
        }
        let token = Self::random()?;
        token.write(path)?;
        Ok(token)
    }

    /// The token in a file; nothing if there is no such file.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, StartError> {
        let Some(text) = read_private(path)? else { return Ok(None) };
        let text = text.trim();
        let fits = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
        if fits { Ok(Some(Self(text.into()))) } else { Err(StartError::BadToken(path.display().to_string())) }
    }

    /// Writes it where the user's clients look for it.
    pub(super) fn write(&self, path: &Path) -> Result<(), StartError> {
        write_secret(path, &format!("{}\n", self.0))
    }

    /// Whether this is it, found out in a time that tells nothing.
    fn is(&self, shown: &[u8]) -> bool {
        words(self.0.as_bytes()).zip(words(shown)).is_some_and(|(ours, shown)| ours[..].ct_eq(&shown[..]).into())
    }
}

/// The 64 digits of a token as eight words: each call is asked, and eight comparisons that tell nothing cost less than 64.
fn words(text: &[u8]) -> Option<[u64; 8]> {
    let words: &[[u8; 8]; 8] = text.as_chunks().0.try_into().ok()?;
    (text.len() == 64).then(|| words.map(u64::from_ne_bytes))
}

/// Lets in whoever may come in, and says who it is.
pub(super) struct Auth {
    pub(super) keeper: Arc<Keeper>,
    /// What answers those who show nothing.
    pub(super) open: OpenServices,
    /// Who has any business here.
    pub(super) gate: Arc<Gate>,
    /// Where it is counted what limits have refused.
    pub(super) refusals: Arc<Refusals>,
}

impl Auth {
    /// Finds out who calls, and whether he has any business here.
    pub(super) fn admit(&self, caller: &Caller, headers: &HeaderMap) -> Result<Principal, Refusal> {
        let principal = self.identify(caller, headers)?;
        self.gate.enter(&principal)?;
        Ok(principal)
    }

    fn identify(&self, caller: &Caller, headers: &HeaderMap) -> Result<Principal, Refusal> {
        match caller {
            Caller::Known(principal) => return Ok(principal.clone()),
            Caller::Refused(why) => return Err(Refusal::Unauthenticated(why)),
            Caller::ByToken => {}
        }
        let shown = headers.get("authorization").map(|value| value.as_bytes());
        let checks = self.keeper.checks();
        match (shown.map(|value| value.strip_prefix(b"Bearer ")), &checks.token) {
            (Some(Some(shown)), Some(token)) if token.is(shown) => Ok(Principal::owner()),
            (None, _) => Err(Refusal::Unauthenticated(
                "a token is needed: `authorization: Bearer TOKEN`, from the file that the agent named when it started; `farsock` takes that file by --token-file",
            )),
            _ => Err(Refusal::Unauthenticated(
                "this is not the agent's token: it is in the file that the agent named when it started, and another one after a restart",
            )),
        }
    }

    /// Whether this is answered though whoever asks is not let in. Only paths as they are registered count: there is no other spelling of one.
    pub(super) fn is_open(&self, caller: &Caller, headers: &HeaderMap, path: &str) -> bool {
        match path.rsplit_once('/').map(|(service, _)| service) {
            // Whoever runs the agent learns whether it serves, whatever its policy makes of him.
            Some("/grpc.health.v1.Health") => {
                self.open.health || self.identify(caller, headers).is_ok_and(|who| who == Principal::owner())
            }
            Some("/grpc.reflection.v1.ServerReflection" | "/grpc.reflection.v1alpha.ServerReflection") => {
                self.open.reflection
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::keeper::Checks;

    fn door(token: Option<Token>, open: OpenServices) -> Auth {
        let gate = Arc::new(Gate::new(None, Vec::new()));
        Auth { keeper: Keeper::new(Checks { token, tls: None }), open, gate, refusals: Arc::default() }
    }

    #[test]
    fn only_the_token_opens_the_door() {
        let token = Token::random().unwrap();
        let closed = door(Some(token.clone()), OpenServices::default());
        let with = |value: &str| HeaderMap::from_iter([("authorization".parse().unwrap(), value.parse().unwrap())]);
        assert_eq!(closed.admit(&Caller::ByToken, &with(&format!("Bearer {}", token.0))), Ok(Principal::owner()));
        for wrong in
            ["", "Bearer ", "Bearer x", &token.0, &format!("bearer {}", token.0), &format!("Bearer {}x", token.0)]
        {
            assert!(closed.admit(&Caller::ByToken, &with(wrong)).is_err(), "{wrong}");
        }
        assert!(closed.admit(&Caller::ByToken, &HeaderMap::new()).is_err());
        assert!(door(None, OpenServices::default()).admit(&Caller::ByToken, &with("Bearer ")).is_err());
    }

    /// CVE-2026-33186: what is almost the path of an open service is not open.
    #[test]
    fn only_what_was_opened_is_open_and_only_under_its_own_name() {
        let health = "/grpc.health.v1.Health/Check";
        let reflection = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
        let closed = door(None, OpenServices::default());
        let open = door(None, OpenServices { health: true, reflection: false });
        let is_open = |door: &Auth, path: &str| door.is_open(&Caller::ByToken, &HeaderMap::new(), path);
        assert!(is_open(&open, health) && !is_open(&open, reflection));
        assert!(is_open(&door(None, OpenServices { health: false, reflection: true }), reflection));
        for path in [health, reflection] {
            assert!(!is_open(&closed, path));
            for (name, may) in [("owner", path == health), ("alice", false)] {
                let caller = Caller::Known(Principal::parse(name).unwrap());
                assert_eq!(closed.is_open(&caller, &HeaderMap::new(), path), may, "{name} {path}");
            }
        }
        for path in [
            "grpc.health.v1.Health/Check",
            "//grpc.health.v1.Health/Check",
            "/farsock.v1.SocketService/CreateSocket",
            "/grpc.health.v1.Health/../farsock.v1.SocketService/CreateSocket",
            "/grpc.health.v1.Healthy/Check",
            "/grpc.health.v1.Health",
            "",
        ] {
            assert!(!is_open(&open, path), "{path}");
        }
    }

    #[test]
    fn a_token_file_is_made_once_and_read_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let made = Token::at(&path).unwrap();
        assert_eq!(Token::at(&path).unwrap().0, made.0);
        assert_eq!(format!("{made:?}"), "Token(…)");
        std::fs::write(&path, "short").unwrap();
        assert!(matches!(Token::at(&path), Err(StartError::BadToken(_))));
    }
}
