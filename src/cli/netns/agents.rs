//! Agents in namespaces: processes of their own, which end with the controller, however that ends.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};
use tokio::time::timeout;

use crate::cli::netns::{command, file};

/// How long an agent may take until it serves, or has ended.
const PATIENCE: Duration = Duration::from_secs(30);

/// An agent in a namespace. It is killed when this is dropped.
pub(super) struct Started {
    role: String,
    child: Child,
    out: Option<Lines<BufReader<ChildStdout>>>,
    /// Where it is reached.
    pub(super) socket: PathBuf,
}

/// Starts an agent.
pub(super) fn start(role: &str, namespace: &str, socket: &Path, addresses: &[IpAddr]) -> Result<Started, String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let mut command = command("nsenter");
    command.arg(format!("--net={}", file(namespace).display())).arg("--").arg(program);
    command.args(["agent", "--with-parent", "--ready-fd", "1", "--listen"]).arg(format!("unix:{}", socket.display()));
    for address in addresses {
        command.args(["--lab-address", &address.to_string()]);
    }
    // Ctrl-C is for the controller, which still has to clean up.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child =
        command.spawn().map_err(|error| format!("the agent of {role} cannot be started: nsenter: {error}"))?;
    let out = child.stdout.take().map(|out| BufReader::new(out).lines());
    Ok(Started { role: role.to_owned(), child, out, socket: socket.to_owned() })
}

impl Started {
    /// Waits until it serves.
    pub(super) async fn is_ready(&mut self) -> Result<(), String> {
        let role = &self.role;
        let Some(mut lines) = self.out.take() else { return Ok(()) };
        let ready = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if line.starts_with('{') {
                    return Ok(());
                }
            }
            Err(format!("the agent of {role} has not started"))
        };
        timeout(PATIENCE, ready)
            .await
            .unwrap_or_else(|_| Err(format!("the agent of {role} has not been ready within {PATIENCE:?}")))
    }

    /// Ends it, and waits until it has ended.
    pub(super) async fn end(mut self) {
        // It may have ended by itself; and one that does not end even so is not waited for.
        let _ = timeout(PATIENCE, self.child.kill()).await;
    }
}
