//! `farsock sessions`: what one has on agents, and an end to it.

use std::fmt::Write;

use clap::Args;
use serde_json::json;

use crate::cli::hosts::{Target, TargetArgs, columns, of_target, on_each};
use crate::cli::{Exit, block_on, complain, print};
use crate::client::{AgentClient, ClientError};
use crate::controller::each;
use crate::model::id::SessionId;
use crate::model::mistake::suggestion;
use crate::model::operation::{Action, CallOptions, SessionView, Yield};
use crate::model::session::SessionState;

/// What `farsock sessions` takes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  farsock sessions --inventory lab.yaml
  farsock sessions --host 7625 --reset default
  farsock sessions --inventory lab.yaml --reset --all

An agent shows only what is the caller's own. A session with watchers is in use: resetting it ends what uses it.

Exit codes: 0 done, 1 usage, 2 the inventory is wrong, 3 an agent has not answered.")]
pub(super) struct SessionsArgs {
    /// These sessions [default: all, where they are only shown]
    #[arg(value_name = "SESSION")]
    sessions: Vec<String>,

    /// Close all sockets of the sessions, and end those that are not `default`
    #[arg(long)]
    reset: bool,

    /// With --reset: all sessions that one has
    #[arg(long, requires = "reset", conflicts_with = "sessions")]
    all: bool,

    #[command(flatten)]
    targets: TargetArgs,

    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// A session that was reset, and how many sockets it still had.
struct Reset {
    session: SessionId,
    closed: usize,
}

/// Shows sessions, or resets them.
pub(super) fn sessions(args: &SessionsArgs) -> Exit {
    block_on(show_or_reset(args)).unwrap_or_else(|exit| exit)
}

async fn show_or_reset(args: &SessionsArgs) -> Exit {
    if args.reset && args.sessions.is_empty() && !args.all {
        complain("--reset: name sessions, or say --all");
        return Exit::Usage;
    }
    let targets = match args.targets.read(&[], args.json) {
        Ok(targets) => targets,
        Err(exit) => return exit,
    };
    let listed = on_each(&targets, async |clients| each(clients, |client| client.sessions()).await).await;
    if let Some(unknown) = unknown(args, &listed) {
        complain(unknown);
        return Exit::Usage;
    }
    let wanted = |session: &SessionView| {
        args.sessions.is_empty() || args.sessions.iter().any(|name| *name == session.id.to_string())
    };
    let listed: Vec<Result<Vec<SessionView>, String>> =
        listed.into_iter().map(|all| all.map(|all| all.into_iter().filter(wanted).collect())).collect();
    if !args.reset {
        let text = if args.json { lines(&targets, &listed) } else { table(&targets, &listed) };
        return told(&text, listed.iter().any(Result::is_err));
    }
    let reset = reset_all(&targets, &listed).await;
    let text = if args.json { reset_lines(&targets, &reset) } else { reset_table(&targets, &reset) };
    told(&text, reset.iter().any(Result::is_err))
}

fn told(text: &str, away: bool) -> Exit {
    match print(text) {
        Exit::Passed if away => Exit::CouldNotRun,
        exit => exit,
    }
}

/// A session that was named, and that no agent has.
fn unknown(args: &SessionsArgs, listed: &[Result<Vec<SessionView>, String>]) -> Option<String> {
    // One that has not answered may have it.
    if listed.iter().any(Result::is_err) {
        return None;
    }
    let names: Vec<String> = listed.iter().flatten().flatten().map(|session| session.id.to_string()).collect();
    let name = args.sessions.iter().find(|name| !names.contains(name))?;
    let known = suggestion(name, names.iter().map(String::as_str));
    Some(format!("no agent has a session `{name}` of yours: {known}"))
}

async fn reset_all(targets: &[Target], listed: &[Result<Vec<SessionView>, String>]) -> Vec<Result<Vec<Reset>, String>> {
    let mut results = Vec::with_capacity(targets.len());
    for (target, sessions) in targets.iter().zip(listed) {
        results.push(match (target.client(), sessions) {
            (Ok(client), Ok(sessions)) => reset(client, sessions).await.map_err(|error| error.to_string()),
            (Err(problem), _) | (_, Err(problem)) => Err(problem.clone()),
        });
    }
    results
}

async fn reset(client: &AgentClient, sessions: &[SessionView]) -> Result<Vec<Reset>, ClientError> {
    let mut done = Vec::with_capacity(sessions.len());
    for session in sessions {
        let id = session.id.clone();
        let action = match id.is_default() {
            true => Action::ResetSession { session: id.clone() },
            // It may have ended by itself meanwhile.
            false => Action::DeleteSession { session: id.clone(), allow_missing: true },
        };
        let closed = match client.call(&action, &CallOptions::default()).await?.yielded {
            Yield::Session(_, closed) => closed.len(),
            _ => 0,
        };
        done.push(Reset { session: id, closed });
    }
    Ok(done)
}

fn state(session: &SessionView) -> &'static str {
    match session.state {
        SessionState::Active => "active",
        SessionState::Expiring => "expiring",
        SessionState::Expired => "expired",
    }
}

fn table(targets: &[Target], listed: &[Result<Vec<SessionView>, String>]) -> String {
    let mut rows =
        vec![["HOST", "SESSION", "STATE", "SOCKETS", "EVENTS", "WATCHERS", "LEASE", "MADE"].map(str::to_owned)];
    let (mut text, mut away) = (String::new(), String::new());
    for (target, sessions) in targets.iter().zip(listed) {
        match sessions {
            Ok(sessions) => rows.extend(sessions.iter().map(|session| {
                let lease = session.lease.map(|lease| format!("{} of {} s", lease.left.as_secs(), lease.ttl.as_secs()));
                [
                    target.name.clone(),
                    session.id.to_string(),
                    state(session).to_owned(),
                    session.socket_count.to_string(),
                    session.head_seq.to_string(),
                    session.watcher_count.to_string(),
                    lease.unwrap_or_default(),
                    session.created.to_string(),
                ]
            })),
            // Writing to a String cannot fail.
            Err(problem) => drop(writeln!(away, "✗ {}", of_target(target, problem))),
        }
    }
    text.push_str(&if rows.len() > 1 { columns(&rows) } else { "there are no sessions of yours\n".to_owned() });
    text + &away
}

fn lines(targets: &[Target], listed: &[Result<Vec<SessionView>, String>]) -> String {
    let mut text = String::new();
    for (target, sessions) in targets.iter().zip(listed) {
        match sessions {
            Ok(sessions) => text.extend(sessions.iter().map(|session| {
                let line = json!({
                    "host": target.name,
                    "agent": target.agent,
                    "session_id": session.id.to_string(),
                    "state": state(session),
                    "sockets": session.socket_count,
                    "events": session.head_seq,
                    "watchers": session.watcher_count,
                    "lease_left_s": session.lease.map(|lease| lease.left.as_secs_f64()),
                    "lease_ttl_s": session.lease.map(|lease| lease.ttl.as_secs_f64()),
                    "made": session.created.to_string(),
                });
                format!("{line}\n")
            })),
            Err(problem) => text.push_str(&away(target, problem)),
        }
    }
    text
}

fn reset_table(targets: &[Target], reset: &[Result<Vec<Reset>, String>]) -> String {
    let mut text = String::new();
    let mut count = 0;
    for (target, reset) in targets.iter().zip(reset) {
        match reset {
            Ok(sessions) => {
                count += sessions.len();
                text.extend(sessions.iter().map(|Reset { session, closed }| {
                    let ended = if session.is_default() { "" } else { ", ended" };
                    let sockets = if *closed == 1 { "1 socket".to_owned() } else { format!("{closed} sockets") };
                    format!("✓ {}\n", of_target(target, &format!("{session}: {sockets} closed{ended}")))
                }));
            }
            Err(problem) => text.push_str(&format!("✗ {}\n", of_target(target, problem))),
        }
    }
    if count == 0 && text.is_empty() {
        text.push_str("there are no sessions of yours\n");
    }
    text
}

fn reset_lines(targets: &[Target], reset: &[Result<Vec<Reset>, String>]) -> String {
    let mut text = String::new();
    for (target, reset) in targets.iter().zip(reset) {
        match reset {
            Ok(sessions) => text.extend(sessions.iter().map(|Reset { session, closed }| {
                let ended = !session.is_default();
                let line = json!({"host": target.name, "agent": target.agent, "session_id": session.to_string(), "closed": closed, "ended": ended});
                format!("{line}\n")
            })),
            Err(problem) => text.push_str(&away(target, problem)),
        }
    }
    text
}

fn away(target: &Target, problem: &str) -> String {
    format!("{}\n", json!({"host": target.name, "agent": target.agent, "problem": problem}))
}
