//! The machine that is measured on, and a network on it where nobody else is.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use socket2::SockRef;

use crate::rounds::quick;

/// Says that the process is in a network of its own already.
const MARK: &str = "FARSOCK_BENCH_OWN_NETWORK";

/// Brings loopback up and gives its connections the congestion control that is compared under. The default of a network that is not the
/// host's cannot always be set, but that of a route can.
const PREPARE: &str = r#"
ip link set lo up &&
for to in 127.0.0.0/8 127.0.0.1; do
    ip route replace local $to dev lo proto kernel scope host src 127.0.0.1 table local congctl lock cubic || exit
done
exec "$0" "$@"
"#;

/// Goes on in a network namespace of its own, where connections use cubic: the default of some hosts, bbr, halves TCP on loopback.
/// Where that is not allowed, goes on where it is, and [`describe`] tells.
pub(crate) fn enter_own_network() {
    if std::env::var_os(MARK).is_some() {
        return;
    }
    let ways: [&[&str]; 2] = [&["--net"], &["--user", "--map-root-user", "--net"]];
    let quiet = |way: &[&str]| {
        let mut probe = Command::new("unshare");
        probe.args(way).arg("true").stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let Some(way) = ways.into_iter().find(|way| quiet(way)) else { return };
    let own = std::env::current_exe().unwrap();
    let mut again = Command::new("unshare");
    again.args(way).args(["--", "sh", "-c", PREPARE]).arg(own).args(std::env::args_os().skip(1)).env(MARK, "1");
    panic!("cannot start unshare: {}", again.exec());
}

/// One line that every table of figures needs above it.
pub(crate) fn describe() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let own = if std::env::var_os(MARK).is_some() { "own network" } else { "the host's network" };
    let allocator = if cfg!(feature = "mimalloc") { "mimalloc" } else { "the system's allocator" };
    let form = if quick() { "quick form: shows that it runs, not how fast" } else { "full form" };
    format!("Linux {}, {cores} cores, {own}, TCP {}, {allocator}, {form}", kernel.trim(), congestion_control())
}

/// The congestion control that connections on loopback get.
fn congestion_control() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let name = SockRef::from(&stream).tcp_congestion().unwrap();
    String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned()
}
