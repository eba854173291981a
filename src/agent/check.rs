//! All that would keep an agent from starting, found out as its start does it, without serving and without leaving anything behind.

use crate::agent::accept::Door;
use crate::agent::auth::Token;
use crate::agent::config::{AgentConfig, Listen, StartError};
use crate::agent::exposure::{self, Needs};
use crate::agent::paths::{may_make_private, token_path};
use crate::agent::policy::read_policy;
use crate::agent::tls::Tls;
use crate::service::audit::Audit;

/// What is wrong, each thing once.
#[derive(Default)]
struct Problems(Vec<StartError>);

impl Problems {
    fn note<T>(&mut self, outcome: Result<T, StartError>) -> Option<T> {
        match outcome {
            Ok(fine) => Some(fine),
            Err(problem) => {
                if !self.0.contains(&problem) {
                    self.0.push(problem);
                }
                None
            }
        }
    }
}

/// What would be served and to whom, and all that is wrong.
pub(super) async fn check(config: &AgentConfig) -> (Vec<(Listen, Needs)>, Vec<StartError>) {
    let (mut exposure, mut problems) = (Vec::new(), Problems::default());
    // Each is kept while the others are tried: two of them may be the same.
    let mut doors = Vec::with_capacity(config.listen.len());
    for listen in &config.listen {
        if let Some(needs) = problems.note(exposure::needs(listen, config)) {
            exposure.push((listen.clone(), needs));
            doors.push(problems.note(Door::try_open(listen).await));
        }
    }
    if let Some(files) = &config.tls {
        problems.note(Tls::load(files, config.open.any()));
    }
    if let Some(path) = &config.policy_file {
        problems.note(read_policy(path));
    }
    problems.note(check_token(config));
    if let Some(file) = &config.audit {
        problems.note(Audit::check(file).map_err(StartError::from));
    }
    (exposure, problems.0)
}

/// Whether the token could be read or written, where there is to be one.
fn check_token(config: &AgentConfig) -> Result<(), StartError> {
    let mut ports = config.listen.iter().filter_map(|listen| match listen {
        Listen::Tcp(addr) if config.asks_for_token() => Some(addr.port()),
        _ => None,
    });
    match &config.token_file {
        None => ports.try_for_each(|port| may_make_private(&token_path(port))),
        Some(path) if ports.next().is_some() && Token::read(path)?.is_none() => may_make_private(path),
        Some(_) => Ok(()),
    }
}
