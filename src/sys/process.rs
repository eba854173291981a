//! The agent's own process: descriptors, capabilities, network namespace.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::model::errno::Errno;

/// Raises the limit of open descriptors as far as it goes, and tells it. getrlimit(2).
pub fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Where raising is not allowed, what there is stays.
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Moves the calling thread, and all threads that it starts afterwards, into a network namespace. setns(2).
///
/// Sockets that are open already stay where they were made.
pub fn enter_network_namespace(path: &Path) -> Result<(), Errno> {
    let namespace = File::open(path).map_err(|error| Errno::new(error.raw_os_error().unwrap_or(libc::EIO)))?;
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// The names, in lower case and without `cap_`, of those effective capabilities that matter to lab sockets. capabilities(7).
pub fn capabilities() -> Vec<&'static str> {
    const KNOWN: [(u32, &str); 3] = [(10, "net_bind_service"), (12, "net_admin"), (13, "net_raw")];
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    KNOWN.iter().filter(|(bit, _)| effective & (1 << bit) != 0).map(|(_, name)| *name).collect()
}

/// The host's name. uname(2).
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The kernel's release. uname(2).
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The user that runs this process. getuid(2).
pub fn user() -> u32 {
    rustix::process::getuid().as_raw()
}

/// How many columns the terminal of standard output has; absent where it is none. tty_ioctl(4).
pub fn terminal_columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0).then_some(size.ws_col.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_knows_itself() {
        assert!(raise_descriptor_limit() >= 256);
        assert!(!host_name().is_empty() && !kernel_release().is_empty());
        assert_eq!(enter_network_namespace(Path::new("/no/such")), Err(Errno::ENOENT));
    }
}
