//! Least privilege: what `farsock agent` gives up, when, and what it keeps. Agents within other programs leave those as they are.

use std::path::Path;

use crate::model::capability::Capability;
use crate::model::errno::Errno;
use crate::sys::{privilege, process};

/// Before anything is opened and before there are other threads: no new privileges, no dumps, and no capability but those that starting needs.
pub(super) fn harden(namespace: Option<&Path>) -> Result<(), String> {
    let mut kept = Capability::OF_SOCKETS.to_vec();
    kept.extend(namespace.map(|_| Capability::SysAdmin));
    let done = privilege::refuse_new_privileges()
        .and_then(|()| privilege::refuse_dumps())
        .and_then(|()| privilege::keep_only(&kept));
    done.map_err(|errno| format!("cannot give up privileges: {} ({errno})", errno.text()))
}

/// For each thread that works for the lab, and at last for the one that has opened the ways in: into the lab's namespace, and down to what
/// sockets need. A thread that another one has started may be there already, and could not enter any more.
pub(super) fn settle(namespace: Option<&Path>) -> Result<(), String> {
    if let Some(path) = namespace.filter(|path| !privilege::is_in_network_namespace(path)) {
        enter(path)?;
    }
    privilege::keep_only(&Capability::OF_SOCKETS)
        .map_err(|errno| format!("cannot give up capabilities: {} ({errno})", errno.text()))
}

/// Moves this thread into a network namespace, for good.
pub(super) fn enter(path: &Path) -> Result<(), String> {
    process::enter_network_namespace(path).map_err(|errno| {
        let hint = if errno == Errno::EPERM { format!(": it needs {}", Capability::SysAdmin) } else { String::new() };
        format!("--lab-netns: cannot enter {}: {} ({errno}){hint}", path.display(), errno.text())
    })
}

/// A line on what this process has kept.
pub(super) fn kept() -> String {
    let kept = Capability::OF_SOCKETS.iter().filter(|one| privilege::has(**one));
    let names: Vec<String> = kept.map(ToString::to_string).collect();
    match &names[..] {
        [] => "  keeps no capability\n".to_owned(),
        names => format!("  keeps {}, and no other capability\n", names.join(", ")),
    }
}

/// Lines on what the agent would keep, and on what it does not have and others may miss.
pub(super) fn lines(namespace: Option<&Path>) -> String {
    let line = |one: &Capability| {
        let (word, until) = match (privilege::has(*one), one) {
            (true, Capability::SysAdmin) => ("needs", ", until it is ready"),
            (true, _) => ("keeps", ""),
            (false, _) => ("lacks", ""),
        };
        format!("  {word} {one}: {}{until}\n", one.purpose())
    };
    let used = Capability::OF_SOCKETS.iter().chain(namespace.map(|_| &Capability::SysAdmin));
    let mut text: String = used.map(line).collect();
    text.push_str("  gives up every other capability, new privileges, and core dumps\n");
    text
}
