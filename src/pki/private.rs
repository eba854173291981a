//! Files that nobody else may read, and directories that nobody else may enter.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Access, access};
use thiserror::Error;

use crate::model::errno::Errno;

/// The longest file that is taken: many certificates, or a token, and no device that never ends.
const MOST_BYTES: u64 = 1 << 20;

/// Why not even root may use a file, which root does not expect.
const ROOT_LACKS: &str = ": root needs CAP_DAC_OVERRIDE for what is another user's, and an agent gives that up: make it root's own (chown root)";

/// Why a file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PrivateFileError {
    /// The kernel objects.
    #[error("{path}: {} ({errno}){hint}", .errno.text())]
    File {
        /// The path.
        path: String,
        /// What the kernel said.
        errno: Errno,
        /// What to do, where that is known.
        hint: &'static str,
    },
    /// It is open to others.
    #[error("{path} can be {how} by others: make it private (chmod {mode} {path})")]
    NotPrivate {
        /// The path.
        path: String,
        /// What others can do.
        how: &'static str,
        /// The mode that it should have.
        mode: &'static str,
    },
}

impl PrivateFileError {
    /// What the kernel has against a file.
    pub fn new(path: &Path, error: &io::Error) -> Self {
        let errno = Errno::new(error.raw_os_error().unwrap_or(libc::EIO));
        let hint = if errno == Errno::EACCES && rustix::process::geteuid().is_root() { ROOT_LACKS } else { "" };
        Self::File { path: path.display().to_string(), errno, hint }
    }
}

/// Reads a secret that nobody else may read; absent if there is no such file.
pub fn read_private(path: &Path) -> Result<Option<String>, PrivateFileError> {
    let Some(file) = open(path)? else { return Ok(None) };
    let metadata = file.metadata().map_err(|error| PrivateFileError::new(path, &error))?;
    if metadata.mode() & 0o077 != 0 {
        return Err(PrivateFileError::NotPrivate { path: path.display().to_string(), how: "read", mode: "600" });
    }
    read(path, file).map(Some)
}

/// Reads what everybody may read and nobody else may write; absent if there is no such file.
pub fn read_trusted(path: &Path) -> Result<Option<String>, PrivateFileError> {
    let Some(file) = open(path)? else { return Ok(None) };
    let metadata = file.metadata().map_err(|error| PrivateFileError::new(path, &error))?;
    if metadata.mode() & 0o022 != 0 {
        return Err(PrivateFileError::NotPrivate { path: path.display().to_string(), how: "written", mode: "go-w" });
    }
    read(path, file).map(Some)
}

/// Reads what everybody may read; absent if there is no such file.
pub(super) fn read_public(path: &Path) -> Result<Option<String>, PrivateFileError> {
    open(path)?.map(|file| read(path, file)).transpose()
}

fn open(path: &Path) -> Result<Option<File>, PrivateFileError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PrivateFileError::new(path, &error)),
    }
}

fn read(path: &Path, file: File) -> Result<String, PrivateFileError> {
    let mut text = String::new();
    file.take(MOST_BYTES).read_to_string(&mut text).map_err(|error| PrivateFileError::new(path, &error))?;
    Ok(text)
}

/// Makes a directory that only this user may enter, if it is not there.
pub fn make_private_directory(path: &Path) -> Result<(), PrivateFileError> {
    if path.as_os_str().is_empty() || path.exists() {
        return Ok(());
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| PrivateFileError::new(path, &error))
}

/// Whether this user may make files in a directory.
pub fn may_make_in(directory: &Path) -> io::Result<()> {
    // With the dot, what is no directory is told to be none.
    Ok(access(directory.join("."), Access::WRITE_OK | Access::EXEC_OK)?)
}

/// Whether a file could be made, and of its directory what is not there. Makes nothing.
pub fn may_make(path: &Path) -> Result<(), PrivateFileError> {
    let parent = path.parent().unwrap_or(path);
    let is_there =
        |made: &io::Result<()>| made.as_ref().err().is_none_or(|error| error.kind() != io::ErrorKind::NotFound);
    let nearest =
        parent.ancestors().map(|directory| (directory, may_make_in(directory))).find(|(_, made)| is_there(made));
    match nearest {
        Some((directory, Err(error))) => {
            Err(PrivateFileError::new(if directory == parent { path } else { parent }, &error))
        }
        _ => Ok(()),
    }
}

/// Writes a secret for this user alone: whole, or not at all.
pub fn write_private(path: &Path, text: &str) -> Result<(), PrivateFileError> {
    write(path, text, 0o600)
}

/// Writes what everybody may read: whole, or not at all.
pub fn write_public(path: &Path, text: &str) -> Result<(), PrivateFileError> {
    write(path, text, 0o644)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), PrivateFileError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let draft = path.with_file_name(name);
    // Left by a process of this number that was killed.
    let _ = fs::remove_file(&draft);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&draft)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&draft, path));
    written.map_err(|error| PrivateFileError::new(path, &error))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn secrets_are_private_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/7625.token");
        assert_eq!(read_private(&path), Ok(None));
        assert_eq!(may_make(&path), Ok(()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was made");
        make_private_directory(path.parent().unwrap()).unwrap();
        write_private(&path, "secret").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        assert_eq!(read_private(&path), Ok(Some("secret".to_owned())));
        write_private(&path, "other").unwrap();
        assert_eq!(read_private(&path), Ok(Some("other".to_owned())));
        let below = |more: &str| may_make(&path.join(more)).unwrap_err().to_string();
        assert!(below("x").ends_with("7625.token/x: not a directory (ENOTDIR)"), "{}", below("x"));
        assert!(below("x/y").ends_with("7625.token/x/y: not a directory (ENOTDIR)"), "{}", below("x/y"));
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(read_private(&path), Err(PrivateFileError::NotPrivate { how: "read", .. })));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
    }
}
