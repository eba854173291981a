//! Namespaces for those who are not root: within a user namespace everybody is, where the kernel lets them have one. user_namespaces(7).

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::cli::block_on;
use crate::cli::netns::run;
use crate::model::capability::Capability;
use crate::sys::privilege::has;

/// A user namespace in which this user is root, with networks and mounts of its own.
const UNSHARE: [&str; 4] = ["--user", "--map-root-user", "--net", "--mount"];

/// Names of namespaces are kept where only root can write; in a mount namespace of one's own another place can stand there.
const WITHIN: &str = "mount -t tmpfs -o mode=755 farsock /run && exec \"$@\"";

/// Makes sure that this process may make network namespaces: where it may not, it is started again where it may. Comes back only if it may,
/// or never will.
pub(in crate::cli) fn enter() -> Result<(), String> {
    if has(Capability::SysAdmin) && has(Capability::NetAdmin) {
        return Ok(());
    }
    let mut trial = UNSHARE.to_vec();
    trial.extend(["--", "sh", "-c", WITHIN, "sh", "true"]);
    let tried = block_on(run("unshare", &trial, ""));
    let tried = tried
        .map_err(|_| "--netns: whether this system lets you have user namespaces could not be tried".to_owned())?;
    tried.map_err(|problem| {
        format!(
            "--netns needs root, or user namespaces, which this system does not let you have ({problem}): run it as root; \
             or see the sysctls kernel.apparmor_restrict_unprivileged_userns, kernel.unprivileged_userns_clone and user.max_user_namespaces"
        )
    })?;
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let mut command = Command::new("unshare");
    command.args(UNSHARE).args(["--", "sh", "-c", WITHIN, "sh"]).arg(program).args(std::env::args_os().skip(1));
    // It comes back only where that has failed.
    Err(format!("unshare: {}", command.exec()))
}
