//! `--help` says what there is, and says it truly. Its texts stand in `cli_help/`; `UPDATE_HELP=1 cargo test cli_help` writes them anew.

use std::fs;
use std::path::Path;

use clap::CommandFactory;
use farsock::agent::{AgentConfig, PORT};
use farsock::cli::Cli;

use crate::harness::{farsock, run};

/// All commands, as they are typed: none of them is without its page here.
fn commands() -> Vec<String> {
    fn walk(command: &clap::Command, typed: &str, all: &mut Vec<String>) {
        all.push(typed.to_owned());
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            walk(inner, format!("{typed} {}", inner.get_name()).trim(), all);
        }
    }

    let mut all = Vec::new();
    walk(&Cli::command(), "", &mut all);
    all
}

async fn help(command: &str, flag: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut farsock = farsock(folder.path());
    // Help is wrapped to the width of the terminal; there is none here.
    farsock.args(command.split_whitespace()).arg(flag).env("COLUMNS", "120");
    let ran = run(farsock).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{command} {flag}");
    ran.out
}

#[tokio::test]
async fn help_is_as_it_was_when_somebody_last_read_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/cli_help");
    for command in commands() {
        let text = help(&command, "--help").await;
        let name = if command.is_empty() { "farsock".to_owned() } else { command.replace(' ', "-") };
        let file = folder.join(format!("{name}.txt"));
        if std::env::var_os("UPDATE_HELP").is_some() {
            fs::write(&file, &text).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(text, expected, "{} is not what `{command} --help` prints", file.display());
    }
}

/// Each flag that has a variable names it, and each command tells its flags.
#[tokio::test]
async fn help_names_variables_and_every_command() {
    let all = help("", "--help").await;
    for command in commands().iter().filter(|command| !command.contains(' ')) {
        assert!(all.lines().any(|line| line.trim_start().starts_with(command)), "{command}: {all}");
    }
    let agent = help("agent", "--help").await;
    for variable in [
        "FARSOCK_LISTEN",
        "FARSOCK_TOKEN_FILE",
        "FARSOCK_NO_AUTH",
        "FARSOCK_LAB_ADDRESS",
        "FARSOCK_LAB_INTERFACE",
        "FARSOCK_LAB_NETNS",
        "FARSOCK_LIMITS",
        "FARSOCK_GRACE",
        "FARSOCK_WORKERS",
    ] {
        assert!(agent.contains(variable), "{variable}: {agent}");
    }
    assert!(agent.contains(&format!("127.0.0.1:{PORT}")), "the port is what the help says: {agent}");
    let grace = AgentConfig::default().grace.as_secs();
    assert!(agent.contains(&format!("[default: {grace}]")), "so is the grace: {agent}");
    assert!(
        help("run", "-h")
            .await
            .contains("Exit codes: 0 passed, 1 usage, 2 a file is wrong, 3 could not run, 4 a check failed.")
    );
}

#[tokio::test]
async fn the_version_is_that_of_the_crate() {
    let version = concat!("farsock ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(help("", "--version").await, version);
    assert_eq!(help("agent", "--version").await, version.replace("farsock", "farsock-agent"));
}
