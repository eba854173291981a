//! Agents in namespaces: processes of their own, which end with the controller, however that ends.

use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};

use crate::cli::netns::{command, end, file};

/// An agent in a namespace. It has ended when this is dropped.
pub(super) struct Started {
    role: String,
    child: Child,
    out: Option<BufReader<ChildStdout>>,
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
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child =
        command.spawn().map_err(|error| format!("the agent of {role} cannot be started: nsenter: {error}"))?;
    let out = child.stdout.take().map(BufReader::new);
    Ok(Started { role: role.to_owned(), child, out, socket: socket.to_owned() })
}

impl Started {
    /// Waits until it serves.
    pub(super) fn is_ready(&mut self) -> Result<(), String> {
        let lines = self.out.take().into_iter().flat_map(|out| out.lines().map_while(Result::ok));
        if lines.into_iter().any(|line| line.starts_with('{')) {
            return Ok(());
        }
        Err(format!("the agent of {} has not started", self.role))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}
