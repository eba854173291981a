//! The policy of an agent, as its file has it.

use std::io;
use std::path::Path;

use crate::agent::config::StartError;
use crate::model::mistake::Source;
use crate::model::policy::Policy;
use crate::pki::{PrivateFileError, read_trusted};

/// Reads a policy file, which nobody else may be able to write. What is wrong with it is told in one line.
pub fn read_policy(path: &Path) -> Result<Policy, StartError> {
    let missing = || PrivateFileError::new(path, &io::Error::from_raw_os_error(libc::ENOENT));
    let text = read_trusted(path)?.ok_or_else(missing)?;
    let source = Source { name: path.display().to_string(), text };
    Policy::read(&source).map_err(|mistakes| {
        let more = match mistakes.len().saturating_sub(1) {
            0 => String::new(),
            1 => ", and one more mistake".to_owned(),
            more => format!(", and {more} more mistakes"),
        };
        let first = mistakes.first().map(|first| format!(":{}:{}: {first}", first.line(), first.column()));
        StartError::Policy { file: source.name, problem: format!("{}{more}", first.unwrap_or_default()) }
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_policy_is_read_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy.yaml");
        let line = || read_policy(&file).unwrap_err().to_string();
        assert!(line().ends_with("policy.yaml: no such file or directory (ENOENT)"), "{}", line());
        fs::write(&file, "policy: One\nprincipals: { owner: admin }\n").unwrap();
        assert_eq!(read_policy(&file).unwrap().title(), "One");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(line().contains("can be written by others"), "{}", line());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&file, "policy: One\nprincipals: { owner: admn, bob: studnt }\n").unwrap();
        let said = "policy.yaml:2:22: there is no role `admn`, and one more mistake: `farsock policy check";
        assert!(line().contains(said), "{}", line());
    }
}
