//! Network namespaces: hosts and routers of a test's own, within this machine, joined by cables. They have no names and vanish with
//! whoever holds them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::thread;
use std::time::Duration;

use farsock::agent::AgentConfig;
use farsock::sys::process::enter_network_namespace;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{Agent, memory_channel, skipped};

/// A network of its own.
pub struct Namespace(File);

impl Namespace {
    /// A new one, with nothing but `lo`, which is up. None where this process may not make one, which it says.
    pub fn new() -> Option<Self> {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "ip link set lo up && echo ready && cat"]);
        let Ok(mut child) = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn() else {
            skipped("there is no unshare(1)");
            return None;
        };
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        // The file keeps the namespace when the child, whose input ends here, has gone.
        let namespace = (line == "ready\n").then(|| File::open(format!("/proc/{}/ns/net", child.id())).unwrap());
        drop(child.stdin.take());
        child.wait().unwrap();
        if namespace.is_none() {
            skipped("a network namespace needs CAP_SYS_ADMIN, and ip(8)");
        }
        namespace.map(Self)
    }

    /// Two of them, or none.
    pub fn two() -> Option<(Self, Self)> {
        Some((Self::new()?, Self::new()?))
    }

    fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", process::id(), self.0.as_raw_fd()).into()
    }

    /// What a program takes as its standard input that is to enter it by itself, by /proc/self/fd/0.
    pub fn stdio(&self) -> Stdio {
        self.0.try_clone().unwrap().into()
    }

    /// Changes settings of it. sysctl(8).
    pub fn set(&self, settings: &[(&str, &str)]) {
        self.enter(|| {
            for (file, value) in settings {
                std::fs::write(Path::new("/proc/sys/net").join(file), value).unwrap();
            }
        });
    }

    /// Lays a cable to another one: an interface of the same name in each, with these addresses, the first is here.
    pub fn cable(&self, other: &Self, name: &str, addresses: &[(&str, &str)]) {
        self.ip(&format!("link add {name} type veth peer name {name} netns {}", other.path().display()));
        for end in [self, other] {
            // Packets may come in by another way than answers would go. Whoever is asked for its address a moment too early is asked
            // again soon, and not after a second.
            end.set(&[
                ("ipv4/conf/all/rp_filter", "0"),
                (&format!("ipv4/conf/{name}/rp_filter"), "0"),
                (&format!("ipv4/neigh/{name}/retrans_time_ms"), "10"),
                (&format!("ipv6/neigh/{name}/retrans_time_ms"), "10"),
            ]);
            end.ip(&format!("link set {name} up"));
        }
        // After both ends are up: IPv6 would wait for news of the cable before it uses an address that was there already.
        for (here, there) in addresses {
            for (end, address) in [(self, here), (other, there)] {
                // IPv4 has broadcast addresses; IPv6 would first look for others that have the address.
                let more = if address.contains(':') { "nodad" } else { "brd +" };
                end.ip(&format!("address add {address} {more} dev {name}"));
            }
        }
        for (_, there) in addresses {
            self.reaches(other, there.split('/').next().unwrap().parse().unwrap());
        }
    }

    /// Waits until datagrams to an address of the other one arrive: a cable is ready a moment after it was laid.
    fn reaches(&self, other: &Self, ip: IpAddr) {
        let to = other.enter(|| UdpSocket::bind((ip, 0)).unwrap());
        to.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let any = if ip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let from = self.enter(|| UdpSocket::bind(any).unwrap());
        let arrived = (0..500).any(|_| {
            // There may be no way yet.
            let _ = from.send_to(b"there?", to.local_addr().unwrap());
            to.recv(&mut [0; 8]).is_ok()
        });
        assert!(arrived, "{ip} is not reached");
    }

    /// Does something to its interfaces, as ip(8) has it.
    pub fn ip(&self, words: &str) {
        let ran = self.enter(|| Command::new("ip").args(words.split(' ')).output().unwrap());
        assert!(ran.status.success(), "ip {words}: {}", String::from_utf8_lossy(&ran.stderr));
    }

    /// Does something on a thread within it. Sockets that are made there stay there.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let within = || {
            enter_network_namespace(&self.path()).unwrap();
            work()
        };
        thread::scope(|scope| scope.spawn(within).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// A program that is to run within it.
    pub fn command(&self, program: &Path) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg(program);
        command
    }

    /// An agent within it, reached from without.
    pub async fn agent(&self) -> LabAgent {
        let path = self.path();
        let (tell, told) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            enter_network_namespace(&path).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let agent = farsock::agent::Agent::bind(AgentConfig::default()).await.unwrap();
                tell.send(agent.connector()).unwrap_or_else(|_| panic!("nobody waits for the agent"));
                let stopped = async {
                    // A test that ends without a word stops its agent, too.
                    let _ = stopped.await;
                };
                agent.serve(stopped, CancellationToken::new()).await;
            });
        });
        let agent = Agent::at(memory_channel(told.await.unwrap()));
        LabAgent { agent: Some(agent), stop: Some(stop), thread: Some(thread) }
    }

    /// The groups that somebody in it has joined, as the kernel lists them: in /proc/net, numbers in hex.
    pub fn joined(&self, group: IpAddr) -> usize {
        let (file, hex) = match group {
            IpAddr::V4(ip) => ("igmp", format!("{:08X}", u32::from_ne_bytes(ip.octets()))),
            IpAddr::V6(ip) => ("igmp6", format!("{:032x}", u128::from(ip))),
        };
        let list = self.enter(|| std::fs::read_to_string(Path::new("/proc/thread-self/net").join(file)).unwrap());
        list.split_whitespace().filter(|word| *word == hex).count()
    }
}

/// An agent on a thread of its own.
pub struct LabAgent {
    agent: Option<Agent>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl std::ops::Deref for LabAgent {
    type Target = Agent;

    fn deref(&self) -> &Agent {
        self.agent.as_ref().unwrap()
    }
}

impl LabAgent {
    /// Stops in good order, and waits for it.
    pub async fn stop(mut self) {
        drop((self.agent.take(), self.stop.take()));
        let thread = self.thread.take().unwrap();
        tokio::task::spawn_blocking(|| thread.join()).await.unwrap().unwrap();
    }
}

/// Two hosts, joined by the cables `red` and `blue`. The left one is .1 on both of them, and .3 on the red one, too; the right one is .2.
pub struct Lab {
    pub left: LabAgent,
    pub right: LabAgent,
    namespaces: [Namespace; 2],
}

impl Lab {
    pub async fn new() -> Option<Self> {
        let (left, right) = Namespace::two()?;
        left.cable(&right, "red", &[("10.77.0.1/24", "10.77.0.2/24"), ("fd77::1/64", "fd77::2/64")]);
        left.cable(&right, "blue", &[("10.77.1.1/24", "10.77.1.2/24"), ("fd77:1::1/64", "fd77:1::2/64")]);
        left.ip("address add 10.77.0.3/24 dev red");
        left.ip("address add fd77::3/64 nodad dev red");
        Some(Self { left: left.agent().await, right: right.agent().await, namespaces: [left, right] })
    }

    pub fn left_namespace(&self) -> &Namespace {
        &self.namespaces[0]
    }

    pub fn right_namespace(&self) -> &Namespace {
        &self.namespaces[1]
    }

    /// Stops the agents; what is left are the namespaces.
    pub async fn stop(self) -> [Namespace; 2] {
        self.left.stop().await;
        self.right.stop().await;
        self.namespaces
    }
}
