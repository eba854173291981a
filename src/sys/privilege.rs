//! What the process may do beyond what its user may: less and less. Everything here is of the calling thread and of those that it starts
//! afterwards, as the kernel has it, but for core dumps, which are of the process.

use std::path::Path;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

use crate::model::capability::Capability;
use crate::model::errno::Errno;

/// No program that is executed from here on gets more than this process has. PR_SET_NO_NEW_PRIVS(2const).
pub fn refuse_new_privileges() -> Result<(), Errno> {
    Ok(set_no_new_privs(true)?)
}

/// Memory, with the secrets in it, is for nobody else to look at, and goes to no file when the process crashes. PR_SET_DUMPABLE(2const).
pub fn refuse_dumps() -> Result<(), Errno> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Gives up all capabilities but these, of those that there are. capset(2).
pub fn keep_only(kept: &[Capability]) -> Result<(), Errno> {
    let kept = kept.iter().fold(CapabilitySet::empty(), |all, one| all | bit(*one));
    for lost in CapabilitySet::all().iter().filter(|one| one.bits().count_ones() == 1 && !kept.contains(*one)) {
        // What a program that is executed could get at the most. Without CAP_SETPCAP it stays, and is of no use without new privileges.
        let _ = remove_capability_from_bounding_set(lost);
    }
    let now = capabilities(None)?;
    let sets = CapabilitySets {
        effective: now.effective & kept,
        permitted: now.permitted & kept,
        inheritable: CapabilitySet::empty(),
    };
    Ok(set_capabilities(None, sets)?)
}

/// Whether the calling thread can use it.
pub fn has(capability: Capability) -> bool {
    capabilities(None).is_ok_and(|now| now.effective.contains(bit(capability)))
}

/// Whether the calling thread is in the network namespace of this file already. namespaces(7).
pub fn is_in_network_namespace(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    identity(path).is_some_and(|one| identity(Path::new("/proc/thread-self/ns/net")) == Some(one))
}

fn bit(capability: Capability) -> CapabilitySet {
    CapabilitySet::from_bits_retain(1 << capability.number())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a thread that is good for nothing else afterwards.
    #[test]
    fn what_is_given_up_does_not_come_back() {
        let done = std::thread::spawn(|| {
            let had = has(Capability::NetRaw);
            keep_only(&[Capability::NetRaw, Capability::SysAdmin]).unwrap();
            assert_eq!(has(Capability::NetRaw), had);
            assert!(!has(Capability::NetAdmin));
            keep_only(&[Capability::NetAdmin]).unwrap();
            refuse_new_privileges().unwrap();
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            for line in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
                assert!(status.contains(&format!("{line}\t0000000000000000\n")), "{status}");
            }
            assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
            assert!(is_in_network_namespace(Path::new("/proc/self/ns/net")));
            assert!(!is_in_network_namespace(Path::new("/proc/self/ns/uts")));
        });
        done.join().unwrap();
    }
}
