//! `--stdio`: the one way in is whoever holds standard input and output.

use std::io::{IsTerminal, stdin};

use tokio::io::{DuplexStream, copy, split};

use crate::agent::Agent;

/// The agent's end of the line.
pub(super) async fn open(agent: &Agent) -> Result<DuplexStream, String> {
    if stdin().is_terminal() {
        return Err("--stdio speaks HTTP/2 with a program, and this is a terminal: give ssh://HOST to a controller, \
                    which starts it by ssh"
            .to_owned());
    }
    agent.connector().connect().await.map_err(|error| error.to_string())
}

/// Carries bytes until one of both sides ends. Whoever has ended its side has gone: HTTP/2 knows no half.
pub(super) async fn carry(line: DuplexStream) {
    let (mut from_agent, mut to_agent) = split(line);
    let (mut input, mut output) = (tokio::io::stdin(), tokio::io::stdout());
    tokio::select! {
        ended = copy(&mut input, &mut to_agent) => tracing::info!(?ended, "standard input has ended"),
        ended = copy(&mut from_agent, &mut output) => tracing::info!(?ended, "standard output has ended"),
    }
}
