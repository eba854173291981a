//! Network namespaces that a test makes for itself, joined by cables, with agents and plain sockets in them.

use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use farsock::agent::AgentConfig;
use farsock::sys::process::enter_network_namespace;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{Agent, memory_channel};

/// A namespace, gone with its value.
pub struct Namespace(String);

impl Namespace {
    /// A new one, whose name nobody else has. Nothing where the test may not make one, which is said.
    pub fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("farsock-lab-{}-{number}", std::process::id());
        if !rustix::process::geteuid().is_root() || !ip(&format!("netns add {name}")) {
            println!("skipped: network namespaces need root");
            return None;
        }
        let namespace = Self(name);
        namespace.enter(|| {
            // Packets may come in by another way than answers would go.
            for which in ["all", "default"] {
                set(&format!("ipv4/conf/{which}/rp_filter"), "0");
            }
        });
        namespace.ip("link set lo up");
        Some(namespace)
    }

    /// Lays a cable to another one: an interface of the same name in each, with these addresses, the first is here.
    pub fn cable(&self, other: &Self, name: &str, addresses: &[(&str, &str)]) {
        self.ip(&format!("link add {name} type veth peer name {name} netns {}", other.0));
        for end in [self, other] {
            // Whoever is asked for its address a moment too early is asked again soon, and not after a second.
            end.enter(|| {
                for version in ["ipv4", "ipv6"] {
                    set(&format!("{version}/neigh/{name}/retrans_time_ms"), "10");
                }
            });
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
        assert!(ip(&format!("-n {} {words}", self.0)), "ip -n {} {words}", self.0);
    }

    /// Does something on a thread within it. Sockets that are made there stay there.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = Path::new("/run/netns").join(&self.0);
        let within = || {
            enter_network_namespace(&path).unwrap();
            work()
        };
        thread::scope(|scope| scope.spawn(within).join()).unwrap()
    }

    /// An agent within it, reached from without.
    pub async fn agent(&self) -> LabAgent {
        let path = Path::new("/run/netns").join(&self.0);
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

impl Drop for Namespace {
    fn drop(&mut self) {
        // What is left of a failed test is of no use to anybody.
        let _ = ip(&format!("netns del {}", self.0));
    }
}

/// Changes a setting of the thread's namespace. sysctl(8).
fn set(file: &str, value: &str) {
    std::fs::write(Path::new("/proc/sys/net").join(file), value).unwrap();
}

fn ip(words: &str) -> bool {
    Command::new("ip").args(words.split(' ')).status().is_ok_and(|status| status.success())
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
        let (left, right) = (Namespace::new()?, Namespace::new()?);
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
