//! Where agents of one user keep their sockets and tokens: a directory that nobody else may enter.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::agent::config::{Listen, StartError};
use crate::pki::{PrivateFileError, make_private_directory, may_make, write_private};
use crate::sys::process;

/// The directory of this user's agents: `$XDG_RUNTIME_DIR/farsock`, or where systems without one put such things.
pub fn runtime_dir() -> PathBuf {
    let user = process::user();
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir).join("farsock"),
        None if Path::new(&format!("/run/user/{user}")).is_dir() => PathBuf::from(format!("/run/user/{user}/farsock")),
        None if user == 0 => PathBuf::from("/run/farsock"),
        None => std::env::temp_dir().join(format!("farsock-{user}")),
    }
}

/// Where the token of the agent on this port is.
pub fn token_path(port: u16) -> PathBuf {
    runtime_dir().join(format!("{port}.token"))
}

/// Where an agent that serves there writes down what is done, if nobody says: in a directory of this user's that outlives a restart of the
/// host, `$XDG_STATE_HOME/farsock`, or where systems without one put such things.
pub fn audit_path(listen: &[Listen]) -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let directory = match (set("XDG_STATE_HOME"), set("HOME")) {
        (Some(state), _) => state.join("farsock"),
        (None, _) if process::user() == 0 => PathBuf::from("/var/log/farsock"),
        (None, Some(home)) => home.join(".local/state/farsock"),
        (None, None) => runtime_dir(),
    };
    let port = listen.iter().find_map(|listen| match listen {
        Listen::Tcp(addr) => Some(addr.port()).filter(|port| *port != 0),
        Listen::Unix(_) => None,
    });
    let name = match (port, listen) {
        (Some(port), _) => port.to_string(),
        (None, [Listen::Unix(path)]) => path.display().to_string().replace('/', "-").trim_matches('-').to_owned(),
        // It is somewhere else each time.
        (None, _) => std::process::id().to_string(),
    };
    directory.join(format!("{name}.audit.jsonl"))
}

/// Makes the directory of a file, if it is not there, so that only this user may enter it.
pub(super) fn make_private_parent(path: &Path) -> Result<(), StartError> {
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else { return Ok(()) };
    make_private_directory(parent)?;
    if parent.starts_with(runtime_dir()) {
        let metadata = fs::symlink_metadata(parent).map_err(|error| PrivateFileError::new(parent, &error))?;
        if metadata.uid() != process::user() || metadata.mode() & 0o022 != 0 {
            let path = parent.display().to_string();
            return Err(PrivateFileError::NotPrivate { path, how: "changed", mode: "700" }.into());
        }
    }
    Ok(())
}

/// Writes a secret for this user alone, and makes its directory if it is not there.
pub(super) fn write_secret(path: &Path, text: &str) -> Result<(), StartError> {
    make_private_parent(path)?;
    Ok(write_private(path, text)?)
}

/// Whether a secret could be written there, or a Unix socket be made. Makes nothing.
pub(super) fn may_make_private(path: &Path) -> Result<(), StartError> {
    if path.parent().is_some_and(Path::exists) {
        // It has nothing left to make.
        make_private_parent(path)?;
    }
    Ok(may_make(path)?)
}

/// Lets only this user connect to a Unix socket.
pub(super) fn make_private(path: &Path) -> Result<(), StartError> {
    let made = fs::set_permissions(path, Permissions::from_mode(0o600));
    Ok(made.map_err(|error| PrivateFileError::new(path, &error))?)
}
