//! Lays the networks of an exercise, and waits until they carry.

use std::fmt::Write;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::thread;
use std::time::Duration;

use ipnet::IpNet;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::cli::netns::{file, run};
use crate::exercise::networks::{Network, Networks};
use crate::sys::process::enter_network_namespace;

/// The longest name of an interface. IFNAMSIZ.
const NAME_BYTES: usize = 15;

/// How long an answer is waited for, and how often it is asked for: a cable is ready a moment after it was laid.
const ONCE: Duration = Duration::from_millis(20);
const TRIES: usize = 500;

/// Makes namespaces for the networks and for hosts, and joins them.
pub(super) async fn lay(switch: &str, hosts: &[String], networks: &Networks) -> Result<(), String> {
    let all = [switch].into_iter().chain(hosts.iter().map(String::as_str));
    run("ip", &["-batch", "-"], &all.map(|name| format!("netns add {name}\n")).collect::<String>()).await?;
    for (host, name) in hosts.iter().enumerate() {
        let forwards = networks.routers.iter().any(|router| router.host == host);
        within(name, || settings(forwards))?.map_err(|error| format!("{name}: settings cannot be changed: {error}"))?;
    }
    let (mut cables, mut bridges) = (String::new(), String::new());
    let mut ends = vec!["link set lo up\n".to_owned(); hosts.len()];
    let mut port = 0;
    for (at, network) in networks.networks.iter().enumerate() {
        let interface = interface(at, network);
        let mtu = network.mtu.map(|mtu| format!(" mtu {mtu}")).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = write!(
            bridges,
            "link add br{at} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set br{at}{mtu} up\n"
        );
        for member in &network.members {
            let (namespace, end) = (&hosts[member.host], &mut ends[member.host]);
            let _ = writeln!(
                cables,
                "link add name {interface}{mtu} netns {namespace} type veth peer name p{port}{mtu} netns {switch}"
            );
            let _ = write!(bridges, "link set p{port} master br{at}\nlink set p{port} up\n");
            let _ = writeln!(end, "link set dev {interface} up");
            for address in &member.addresses {
                // IPv4 has broadcast addresses; IPv6 would first look for others that have the address.
                let more = if address.addr().is_ipv4() && address.prefix_len() < 31 { " brd +" } else { "" };
                let more = if address.addr().is_ipv6() { " nodad" } else { more };
                let _ = writeln!(end, "address add {address}{more} dev {interface}");
            }
            port += 1;
        }
    }
    run("ip", &["-batch", "-"], &cables).await?;
    run("ip", &["-n", switch, "-batch", "-"], &bridges).await?;
    for route in networks.routes() {
        let _ = writeln!(ends[route.host], "route add {} via {}", route.to, route.via);
    }
    for (name, end) in hosts.iter().zip(&ends) {
        run("ip", &["-n", name, "-batch", "-"], end).await?;
    }
    for network in &networks.networks {
        carries(network, hosts).await?;
    }
    // Rules come last: they are about what an exercise sends.
    for router in &networks.routers {
        let Some(rules) = &router.rules else { continue };
        let net = format!("--net={}", file(&hosts[router.host]).display());
        let loaded = match has_nft().await {
            true => run("nsenter", &[&net, "--", "nft", "-f", "-"], &rules.text).await,
            false => run("nft", &["--version"], "").await,
        };
        loaded.map_err(|problem| format!("{}: the rules are not loaded: {problem}", rules.name))?;
    }
    Ok(())
}

async fn has_nft() -> bool {
    run("nft", &["--version"], "").await.is_ok()
}

/// The name of the interface that leads to a network: that of the network, where it is short enough.
fn interface(at: usize, network: &Network) -> String {
    let is_free = !["lo", "all", "default"].contains(&network.name.as_str());
    if network.name.len() <= NAME_BYTES && is_free { network.name.clone() } else { format!("net{at}") }
}

/// Changes settings of a host that has no interfaces yet but `lo`. sysctl(8).
fn settings(forwards: bool) -> io::Result<()> {
    let set = |file: &str, value: &str| fs::write(Path::new("/proc/sys/net").join(file), value);
    // Packets may come in by another way than answers would go.
    set("ipv4/conf/all/rp_filter", "0")?;
    set("ipv4/conf/default/rp_filter", "0")?;
    if forwards {
        set("ipv4/ip_forward", "1")?;
    }
    let ipv6 = Path::new("/proc/sys/net/ipv6").exists();
    if forwards && ipv6 {
        set("ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

/// Waits until datagrams from one host of a network arrive at all others.
async fn carries(network: &Network, hosts: &[String]) -> Result<(), String> {
    let Some((first, others)) = network.members.split_first() else { return Ok(()) };
    for subnet in &network.subnets {
        let own = |addresses: &[IpNet]| addresses.iter().map(IpNet::addr).find(|address| subnet.contains(address));
        let Some(from) = own(&first.addresses) else { continue };
        for other in others {
            let Some(to) = own(&other.addresses) else { continue };
            let (here, there) = (&hosts[first.host], &hosts[other.host]);
            let arrived = reaches((here, from), (there, to)).await?;
            if !arrived {
                return Err(format!("{}: {to} is not reached from {from}", network.name));
            }
        }
    }
    Ok(())
}

/// Whether a datagram from one host arrives at another one.
async fn reaches((here, from): (&str, IpAddr), (there, to): (&str, IpAddr)) -> Result<bool, String> {
    let socket = |ip| {
        let socket = std::net::UdpSocket::bind((ip, 0))?;
        socket.set_nonblocking(true).map(|()| socket)
    };
    let any = if from.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let (sender, receiver) = (within(here, || socket(any))?, within(there, || socket(to))?);
    let tried = async {
        let (sender, receiver) = (UdpSocket::from_std(sender?)?, UdpSocket::from_std(receiver?)?);
        let address = receiver.local_addr()?;
        for _ in 0..TRIES {
            // There may be no way yet.
            let _ = sender.send_to(b"there?", address).await;
            if matches!(timeout(ONCE, receiver.recv(&mut [0; 8])).await, Ok(Ok(_))) {
                return Ok(true);
            }
        }
        Ok(false)
    };
    tried.await.map_err(|error: io::Error| format!("{to} cannot be tried: {error}"))
}

/// Does something on a thread within a namespace. Sockets that are made there stay there.
fn within<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> Result<T, String> {
    let path = file(namespace);
    let run = || {
        enter_network_namespace(&path)
            .map_err(|errno| format!("cannot enter {namespace}: {} ({errno})", errno.text()))?;
        Ok(work())
    };
    thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|_| Err("a thread has failed".to_owned()))
}
