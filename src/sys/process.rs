//! The agent's own process: descriptors, names, network namespace.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::model::errno::Errno;

/// How many descriptors this process may have open. getrlimit(2).
pub fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Raises the limit of open descriptors as far as it goes, and tells it. setrlimit(2).
pub fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Where raising is not allowed, what there is stays.
    let _ = setrlimit(Resource::Nofile, raised);
    descriptor_limit()
}

/// Moves the calling thread, and all threads that it starts afterwards, into a network namespace. setns(2).
///
/// Sockets that are open already stay where they were made.
pub fn enter_network_namespace(path: &Path) -> Result<(), Errno> {
    let namespace = File::open(path).map_err(|error| Errno::new(error.raw_os_error().unwrap_or(libc::EIO)))?;
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// Sends SIGTERM to this process when the thread ends that has started it. PR_SET_PDEATHSIG(2const).
pub fn end_with_parent() -> Result<(), Errno> {
    Ok(set_parent_process_death_signal(Some(Signal::TERM))?)
}

/// The process that has a descriptor of the socket with this inode: its number and name. Absent when no process has one that this user may
/// look into. proc_pid_fd(5), proc_pid_comm(5).
pub fn with_socket(inode: u32) -> Option<(u32, String)> {
    /// How many descriptors are looked at; a machine that has more is not searched to the end.
    const MOST: usize = 500_000;
    let wanted = format!("socket:[{inode}]");
    let mut left = MOST;
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(number) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        for descriptor in descriptors.flatten() {
            left = left.checked_sub(1)?;
            if fs::read_link(descriptor.path()).is_ok_and(|target| target.as_os_str() == wanted.as_str()) {
                let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                return Some((number, name.trim_end().to_owned()));
            }
        }
    }
    None
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
    use std::os::fd::AsRawFd;

    #[test]
    fn the_process_knows_itself() {
        assert!(raise_descriptor_limit() >= 256);
        assert!(!host_name().is_empty() && !kernel_release().is_empty());
        assert_eq!(enter_network_namespace(Path::new("/no/such")), Err(Errno::ENOENT));
    }

    #[test]
    fn a_process_is_known_by_its_socket() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let link = fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
        let inode = link.to_str().unwrap().trim_start_matches("socket:[").trim_end_matches(']').parse().unwrap();
        let (number, name) = with_socket(inode).unwrap();
        assert_eq!(number, std::process::id());
        assert!(!name.is_empty() && !name.ends_with('\n'));
        assert_eq!(with_socket(0), None);
    }
}
