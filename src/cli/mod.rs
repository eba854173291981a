//! The commands. Each parses what was typed, calls the library, and prints.

mod again;
mod agent;
mod check;
mod embedded;
mod env;
mod explain;
mod files;
mod hosts;
mod netns;
mod pki;
mod policy;
mod reach;
mod replay;
mod run;
mod schema;
mod sessions;
mod show;
mod status;
mod tls;
mod views;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Opens, drives and watches real TCP and UDP sockets on far hosts.
#[derive(Debug, Parser)]
#[command(name = "farsock", version, about, long_about = None, propagate_version = true)]
#[command(after_help = "First steps:
  farsock run exercise.yaml                            all its hosts are played within this process
  farsock agent                                        serves the sockets of this host, for its own user
  farsock run exercise.yaml --host server=ssh://lab-a  plays a host of it on another machine, where farsock is installed
  farsock explain ECONNREFUSED                         says what something means that a run has told

Exit codes: 0 passed, 1 usage, 2 the file is wrong, 3 could not run, 4 a check failed.")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve this host's sockets to controllers
    Agent(agent::AgentArgs),
    /// Run exercises over several hosts
    Run(run::RunArgs),
    /// Show a run again that was kept
    Replay(replay::ReplayArgs),
    /// Check exercise files, and touch no host
    Check(check::CheckArgs),
    /// Print the JSON Schema of exercise files, for editors
    Schema(schema::SchemaArgs),
    /// Show agents: who answers, which version, what works there, how the clocks go
    Hosts(hosts::HostsArgs),
    /// Show the sessions that one has on agents, and reset them
    Sessions(sessions::SessionsArgs),
    /// Remove network namespaces of runs that were killed
    Clean(netns::clean::CleanArgs),
    /// Say what an error, an event, a refusal or a word of TCP means
    Explain(explain::ExplainArgs),
    /// Print shell functions that make grpcurl calls short
    Env(env::EnvArgs),
    /// Make, renew and show the certificates of a lab
    Pki(pki::PkiArgs),
    /// Check a policy, and explain what it decides
    Policy(policy::PolicyArgs),
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything went as it should.
    Passed,
    /// What was typed makes no sense.
    Usage,
    /// A file is wrong.
    WrongFile,
    /// It could not be done: an agent is away, a port is taken.
    CouldNotRun,
    /// A check failed.
    Failed,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Passed => 0_u8,
            Exit::Usage => 1,
            Exit::WrongFile => 2,
            Exit::CouldNotRun => 3,
            Exit::Failed => 4,
        })
    }
}

/// Does what was typed.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // If even this cannot be printed, nobody is listening.
            let _ = error.print();
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Passed };
            return exit.into();
        }
    };
    let exit = match cli.command {
        Command::Agent(args) => agent::agent(args),
        Command::Run(args) => run::run(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Check(args) => check::check(&args),
        Command::Hosts(args) => hosts::hosts(&args),
        Command::Sessions(args) => sessions::sessions(&args),
        Command::Clean(args) => netns::clean::clean(&args),
        Command::Schema(args) => schema::schema_of(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Env(args) => env::env(&args),
        Command::Pki(args) => pki::pki(args),
        Command::Policy(args) => policy::policy(&args),
    };
    exit.into()
}

/// Waits for something that goes on over the network.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Exit> {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let done = runtime.block_on(work);
            // A name lookup that nobody waits for any more must not keep the process from ending.
            runtime.shutdown_background();
            Ok(done)
        }
        Err(error) => {
            complain(format_args!("cannot start: {error}"));
            Err(Exit::CouldNotRun)
        }
    }
}

/// Says why a command could not do what it was to do, on one line.
fn complain(problem: impl std::fmt::Display) {
    // Where even this fails, there is nobody left to be told.
    let _ = writeln!(io::stderr(), "farsock: {problem}");
}

/// Prints to standard output; that nobody reads it any more is no failure.
fn print(text: &str) -> Exit {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Ok(()) => Exit::Passed,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Passed,
        Err(error) => {
            complain(format_args!("cannot print: {error}"));
            Exit::CouldNotRun
        }
    }
}
