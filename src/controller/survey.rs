//! Who is there: asks agents for what they say of themselves, and how their clocks go, whether or not an exercise is run.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};

use crate::client::{AgentClient, AgentInfo, ClientError};
use crate::controller::fleet::{AT_A_TIME, read_clock};
use crate::exercise::clock::Offset;
use crate::sys::clock::SystemClock;

/// How long one agent may take: longer than reaching it may, by whatever way.
const PATIENCE: Duration = Duration::from_secs(40);

/// What an agent has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Who it is.
    pub info: AgentInfo,
    /// How its clock goes.
    pub offset: Offset,
}

/// Asks all agents, and answers in their order.
pub async fn survey(clients: &[AgentClient]) -> Vec<Result<Found, ClientError>> {
    let infos = each(clients, |client| async move { client.info().await }).await;
    let clock = SystemClock::start();
    let mut found = Vec::with_capacity(clients.len());
    // One after the other: questions that wait for each other would measure that.
    for (client, info) in clients.iter().zip(infos) {
        found.push(match info {
            Ok(info) => in_time(read_clock(client, clock)).await.map(|read| Found { info, offset: read.offset }),
            Err(error) => Err(error),
        });
    }
    found
}

/// Does the same with each agent, some of them at a time, and answers in their order.
pub async fn each<'c, T, F>(
    clients: &'c [AgentClient],
    ask: impl Fn(&'c AgentClient) -> F,
) -> Vec<Result<T, ClientError>>
where
    F: Future<Output = Result<T, ClientError>>,
{
    stream::iter(clients.iter().map(|client| in_time(ask(client)))).buffered(AT_A_TIME).collect().await
}

async fn in_time<T>(work: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    let late = || ClientError::Unreachable {
        message: format!("the agent has not answered within {} s", PATIENCE.as_secs()),
        nobody: false,
        sent: true,
    };
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(late()))
}
