//! Where agents of one user keep their sockets and tokens: a directory that nobody else may enter.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::agent::config::StartError;
use crate::model::errno::Errno;
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

/// Makes the directory of a file, if it is not there, so that only this user may enter it.
pub(super) fn make_private_parent(path: &Path) -> Result<(), StartError> {
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else { return Ok(()) };
    if !parent.exists() {
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(|error| file_error(parent, &error))?;
    }
    if parent.starts_with(runtime_dir()) {
        let metadata = fs::symlink_metadata(parent).map_err(|error| file_error(parent, &error))?;
        if metadata.uid() != process::user() || metadata.mode() & 0o022 != 0 {
            let path = parent.display().to_string();
            return Err(StartError::NotPrivate { path, how: "changed", mode: "700" });
        }
    }
    Ok(())
}

/// Reads a secret that nobody else may read; absent if there is no such file.
pub(super) fn read_private(path: &Path) -> Result<Option<String>, StartError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file_error(path, &error)),
    };
    let metadata = file.metadata().map_err(|error| file_error(path, &error))?;
    if metadata.mode() & 0o077 != 0 {
        return Err(StartError::NotPrivate { path: path.display().to_string(), how: "read", mode: "600" });
    }
    let mut text = String::new();
    file.take(4096).read_to_string(&mut text).map_err(|error| file_error(path, &error))?;
    Ok(Some(text))
}

/// Writes a secret for this user alone: whole, or not at all.
pub(super) fn write_private(path: &Path, text: &str) -> Result<(), StartError> {
    make_private_parent(path)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let draft = path.with_file_name(name);
    let _ = fs::remove_file(&draft);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&draft, path));
    written.map_err(|error| file_error(path, &error))
}

/// Lets only this user connect to a Unix socket.
pub(super) fn make_private(path: &Path) -> Result<(), StartError> {
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(|error| file_error(path, &error))
}

fn file_error(path: &Path, error: &io::Error) -> StartError {
    let errno = Errno::new(error.raw_os_error().unwrap_or(libc::EIO));
    StartError::File { path: path.display().to_string(), errno }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_private_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/7625.token");
        assert_eq!(read_private(&path), Ok(None));
        write_private(&path, "secret").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(read_private(&path), Ok(Some("secret".to_owned())));
        write_private(&path, "other").unwrap();
        assert_eq!(read_private(&path), Ok(Some("other".to_owned())));
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(read_private(&path), Err(StartError::NotPrivate { how: "read", .. })));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
    }
}
