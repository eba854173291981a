//! What a client shows at the agent's door, with each request.

use std::path::Path;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::http::header::{AUTHORIZATION, HeaderValue};
use tonic::codegen::http::{Request, Response};
use tonic::transport::channel::ResponseFuture;
use tonic::transport::{Channel, Error};
use tower::Service;

use crate::client::error::ClientError;
use crate::pki::read_private;

/// What a client shows.
#[derive(Clone, Default)]
pub struct Credentials(Option<HeaderValue>);

impl Credentials {
    /// Nothing: the way in says who is coming.
    pub fn none() -> Self {
        Self(None)
    }

    /// A token.
    pub fn token(token: &str) -> Result<Self, ClientError> {
        let mut value: HeaderValue = format!("Bearer {}", token.trim()).parse().map_err(|_| {
            ClientError::Unauthenticated { message: "the token holds characters that no token has".to_owned() }
        })?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }

    /// The token in a file, which nobody else may read.
    pub fn token_file(path: &Path) -> Result<Self, ClientError> {
        let refused = |message| ClientError::Unauthenticated { message };
        let token = read_private(path).map_err(|error| refused(error.to_string()))?;
        Self::token(&token.ok_or_else(|| {
            refused(format!(
                "no token in {}: there is no such file; is the agent running, on this host, as you?",
                path.display()
            ))
        })?)
    }
}

/// A connection that shows credentials with each request.
#[derive(Clone)]
pub struct Door {
    channel: Channel,
    credentials: Credentials,
}

impl Door {
    /// Shows these on this connection.
    pub fn new(channel: Channel, credentials: &Credentials) -> Self {
        Self { channel, credentials: credentials.clone() }
    }
}

impl Service<Request<Body>> for Door {
    type Response = Response<Body>;
    type Error = Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.channel.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> ResponseFuture {
        if let Some(shown) = &self.credentials.0 {
            request.headers_mut().insert(AUTHORIZATION, shown.clone());
        }
        self.channel.call(request)
    }
}
