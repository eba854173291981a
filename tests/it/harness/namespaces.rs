//! Network namespaces: hosts and routers of a test's own, within this machine. They have no names and vanish with whoever holds them.

use std::fs::File;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};
use std::{process, thread};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network of its own, with nothing but `lo`, which is up.
pub struct Namespace(File);

impl Namespace {
    /// A new one. None where this process may not make one, which it says.
    pub fn new() -> Option<Self> {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "ip link set lo up && echo ready && cat"]);
        let Ok(mut child) = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn() else {
            println!("skipped: there is no unshare(1)");
            return None;
        };
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        // The file keeps the namespace when the child, whose input ends here, has gone.
        let namespace = (line == "ready\n").then(|| File::open(format!("/proc/{}/ns/net", child.id())).unwrap());
        drop(child.stdin.take());
        child.wait().unwrap();
        if namespace.is_none() {
            println!("skipped: a network namespace needs CAP_SYS_ADMIN, and ip(8)");
        }
        namespace.map(Self)
    }

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", process::id(), self.0.as_raw_fd())
    }

    /// Runs a program in it, which must succeed.
    pub fn run(&self, words: &str) {
        let net = format!("--net={}", self.path());
        let ran = Command::new("nsenter").arg(net).args(words.split_whitespace()).output().unwrap();
        assert!(ran.status.success(), "{words}: {}", String::from_utf8_lossy(&ran.stderr));
    }

    /// Lays a cable to another one, between two new interfaces that are up.
    pub fn cable(&self, here: &str, other: &Self, there: &str) {
        self.run(&format!("ip link add {here} type veth peer name {there} netns {}", other.path()));
        self.run(&format!("ip link set {here} up"));
        other.run(&format!("ip link set {there} up"));
    }

    /// Gives an interface an address that can be used at once.
    pub fn address(&self, interface: &str, address: &str) {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        self.run(&format!("ip address add {address} dev {interface}{nodad}"));
    }

    /// Lets a test go on within it, on a thread and a runtime of its own.
    pub fn within<F: Future<Output = ()>>(&self, test: impl FnOnce() -> F + Send) {
        thread::scope(|scope| {
            let entered = scope.spawn(|| {
                move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test());
            });
            if let Err(panic) = entered.join() {
                std::panic::resume_unwind(panic);
            }
        });
    }
}
