//! Who is calling: the peer of a Unix socket, or whoever has the token.

use std::any::Any;
use std::convert::Infallible;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::{CatchUnwind, Either, Map, Ready, ready};
use subtle::ConstantTimeEq;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tower::{Layer, Service};

use crate::agent::config::StartError;
use crate::agent::connection::Peer;
use crate::agent::paths::{read_private, write_private};
use crate::model::id::Principal;
use crate::model::refusal::Refusal;
use crate::wire::status;

/// What a caller by loopback TCP must show: 256 random bits in hexadecimal.
#[derive(Clone)]
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
        match read_private(path)? {
            Some(text) => {
                let text = text.trim();
                let fits = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
                if fits { Ok(Self(text.into())) } else { Err(StartError::BadToken(path.display().to_string())) }
            }
            None => {
                let token = Self::random()?;
                token.write(path)?;
                Ok(token)
            }
        }
    }

    /// Writes it where the user's clients look for it.
    pub(super) fn write(&self, path: &Path) -> Result<(), StartError> {
        write_private(path, &format!("{}\n", self.0))
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
#[derive(Debug, Clone)]
pub(super) struct AuthLayer {
    /// Absent: there is no way in that needs one.
    pub(super) token: Option<Token>,
}

impl<S> Layer<S> for AuthLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, auth: self.clone() }
    }
}

impl AuthLayer {
    fn admit(&self, peer: Option<&Peer>, headers: &HeaderMap) -> Result<Principal, Refusal> {
        if let Some(principal) = peer.and_then(|peer| peer.known.clone()) {
            return Ok(principal);
        }
        let shown = headers.get("authorization").map(|value| value.as_bytes());
        match (shown.map(|value| value.strip_prefix(b"Bearer ")), &self.token) {
            (Some(Some(shown)), Some(token)) if token.is(shown) => Ok(Principal::owner()),
            (None, _) => Err(Refusal::Unauthenticated(
                "a token is needed: `authorization: Bearer TOKEN`, from the file that the agent named when it started",
            )),
            _ => Err(Refusal::Unauthenticated(
                "this is not the agent's token: it is in the file that the agent named when it started, and another one after a restart",
            )),
        }
    }
}

/// A service behind the door. A panic behind it becomes an answer, and hurts nobody else.
#[derive(Debug, Clone)]
pub(super) struct Guarded<S> {
    inner: S,
    auth: AuthLayer,
}

type Answer = Result<Response<Body>, Infallible>;
type Caught<F> = Map<CatchUnwind<AssertUnwindSafe<F>>, fn(Result<Answer, Box<dyn Any + Send>>) -> Answer>;

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Ready<Answer>, Caught<S::Future>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let peer = request.extensions().get::<Peer>().cloned();
        match self.auth.admit(peer.as_ref(), request.headers()) {
            Ok(principal) => {
                if let Some(peer) = peer {
                    peer.admitted();
                }
                request.extensions_mut().insert(principal);
                let answer = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
                Either::Right(answer.map(after_panic as fn(_) -> _))
            }
            Err(refusal) => Either::Left(ready(Ok(status::refused(&refusal).into_http()))),
        }
    }
}

fn after_panic(caught: Result<Answer, Box<dyn Any + Send>>) -> Answer {
    caught.unwrap_or_else(|_| {
        // The panic's own message has gone to the log by the panic hook.
        Ok(status::refused(&Refusal::Internal("a request has made it panic")).into_http())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_opens_the_door() {
        let token = Token::random().unwrap();
        let door = AuthLayer { token: Some(token.clone()) };
        let with = |value: &str| HeaderMap::from_iter([("authorization".parse().unwrap(), value.parse().unwrap())]);
        assert_eq!(door.admit(None, &with(&format!("Bearer {}", token.0))), Ok(Principal::owner()));
        for wrong in
            ["", "Bearer ", "Bearer x", &token.0, &format!("bearer {}", token.0), &format!("Bearer {}x", token.0)]
        {
            assert!(door.admit(None, &with(wrong)).is_err(), "{wrong}");
        }
        assert!(door.admit(None, &HeaderMap::new()).is_err());
        assert!(AuthLayer { token: None }.admit(None, &with("Bearer ")).is_err());
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
