//! `farsock agent --health`: whether the agent that was started with the same flags serves.

use std::path::Path;
use std::time::Duration;

use crate::agent::{Listen, token_path};
use crate::cli::agent::ways_in;
use crate::cli::{Exit, print};
use crate::client::{AgentClient, Credentials, Dialer, Endpoint};

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks by the Unix socket, or by loopback TCP where there is none.
pub(super) fn health(listen: &[Listen], token_file: Option<&Path>, no_auth: bool, tls: bool) -> Result<Exit, String> {
    let listen = ways_in(listen.to_vec());
    let unix = listen.iter().find(|listen| matches!(listen, Listen::Unix(_)));
    let (endpoint, credentials) = match unix.or_else(|| listen.first()) {
        Some(Listen::Unix(path)) => (Endpoint::Unix(path.clone()), Credentials::none()),
        Some(Listen::Tcp(address)) if !tls => {
            let endpoint = Endpoint::Tcp { host: address.ip().to_string(), port: address.port() };
            let file = token_file.map_or_else(|| token_path(address.port()), Path::to_owned);
            let credentials = if no_auth { Ok(Credentials::none()) } else { Credentials::token_file(&file) };
            (endpoint, credentials.map_err(|error| error.to_string())?)
        }
        _ => return Err("--health comes in by a Unix socket or with the token: add --listen unix:PATH".to_owned()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(async {
        let client = AgentClient::new(&Dialer::to(&endpoint), &credentials);
        match tokio::time::timeout(PATIENCE, client.is_serving()).await {
            Ok(Ok(true)) => Ok(print("serving\n")),
            Ok(Ok(false)) => Err(format!("the agent at {endpoint} is stopping, or has not begun")),
            Ok(Err(error)) => Err(format!("{endpoint}: {error}")),
            Err(_) => Err(format!("{endpoint}: no answer within {} s", PATIENCE.as_secs())),
        }
    })
}
