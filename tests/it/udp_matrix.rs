//! What reaches whom: where a socket is bound × where to a datagram is sent × by which interface × IP_MULTICAST_ALL, for both IP versions.
//!
//! Every row is tried on a socket of an agent and on a plain socket of the test in the same namespace: what the kernel does for one, it does
//! for the other. Nothing waits for silence: a datagram to a third socket is sent after each, by the same way.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use farsock::wire::pb;
use farsock::wire::pb::socket_option::Value;
use socket2::{Domain, Protocol, Socket, Type};

use crate::harness::{Lab, any_port, error_name, group};

const CABLES: [&str; 2] = ["red", "blue"];

/// Addresses of the right host, which receives. It has joined the first group on the red cable with the sockets that are looked at, and
/// the second one there with another socket.
struct Net {
    any: IpAddr,
    own: [IpAddr; 2],
    joined: IpAddr,
    of_another: IpAddr,
    of_nobody: IpAddr,
    broadcast: Vec<IpAddr>,
}

impl Net {
    fn ipv4() -> Self {
        Self {
            any: Ipv4Addr::UNSPECIFIED.into(),
            own: [Ipv4Addr::new(10, 77, 0, 2).into(), Ipv4Addr::new(10, 77, 1, 2).into()],
            joined: Ipv4Addr::new(239, 77, 1, 1).into(),
            of_another: Ipv4Addr::new(239, 77, 1, 2).into(),
            of_nobody: Ipv4Addr::new(239, 77, 1, 3).into(),
            broadcast: vec![Ipv4Addr::new(10, 77, 0, 255).into(), Ipv4Addr::BROADCAST.into()],
        }
    }

    fn ipv6() -> Self {
        let group = |last| Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0, last).into();
        Self {
            any: Ipv6Addr::UNSPECIFIED.into(),
            own: [Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2).into(), Ipv6Addr::new(0xfd77, 1, 0, 0, 0, 0, 0, 2).into()],
            joined: group(0x7701),
            of_another: group(0x7702),
            of_nobody: group(0x7703),
            broadcast: vec![],
        }
    }

    /// Where sockets are bound.
    fn binds(&self) -> Vec<(&'static str, IpAddr)> {
        let mut binds = vec![("any", self.any), ("group", self.joined), ("own", self.own[0])];
        binds.extend(self.broadcast.first().map(|ip| ("broadcast", *ip)));
        binds
    }

    /// Where datagrams are sent.
    fn destinations(&self) -> Vec<(&'static str, IpAddr)> {
        let groups = [("joined", self.joined), ("of another", self.of_another), ("of nobody", self.of_nobody)];
        let broadcast = ["directed", "limited"].into_iter().zip(self.broadcast.iter().copied());
        groups.into_iter().chain(broadcast).chain([("own", self.own[0])]).collect()
    }
}

/// A plain socket in a namespace, as an agent would make it.
fn plain(ip: IpAddr) -> Socket {
    let domain = if ip.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    if ip.is_ipv6() {
        socket.set_only_v6(true).unwrap();
    }
    socket.bind(&SocketAddr::new(ip, 0).into()).unwrap();
    socket
}

/// The same, a member of a group on the red cable.
fn member(bind: IpAddr, group: IpAddr, all: bool) -> UdpSocket {
    let socket = plain(bind);
    let red = farsock::sys::interface::index_of("red").unwrap();
    match group {
        IpAddr::V4(group) => {
            socket.set_multicast_all_v4(all).unwrap();
            socket.join_multicast_v4_n(&group, &socket2::InterfaceIndexOrAddress::Index(red)).unwrap();
        }
        IpAddr::V6(group) => {
            socket.set_multicast_all_v6(all).unwrap();
            socket.join_multicast_v6(&group, red).unwrap();
        }
    }
    socket.set_nonblocking(true).unwrap();
    socket.into()
}

fn port(socket: &UdpSocket) -> u16 {
    socket.local_addr().unwrap().port()
}

/// The sockets that take part beside the two that are compared.
struct Stage<'a> {
    lab: &'a Lab,
    net: &'a Net,
    /// Senders on the left, one for each cable.
    senders: [UdpSocket; 2],
    /// On the right: it hears what is sent after each datagram.
    guard: UdpSocket,
    /// On the right: a member of another group.
    _another: UdpSocket,
}

impl<'a> Stage<'a> {
    fn new(lab: &'a Lab, net: &'a Net) -> Self {
        let senders = CABLES.map(|cable| {
            lab.left_namespace().enter(|| {
                let socket = plain(net.any);
                socket.set_broadcast(true).unwrap();
                socket.bind_device(Some(cable.as_bytes())).unwrap();
                socket.into()
            })
        });
        let (guard, another) =
            lab.right_namespace().enter(|| (UdpSocket::from(plain(net.any)), member(net.any, net.of_another, true)));
        guard.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { lab, net, senders, guard, _another: another }
    }

    /// Sends a datagram to each of these ports, and waits until another one has arrived that was sent after them.
    fn send(&self, cable: usize, destination: IpAddr, ports: [u16; 2]) {
        let sender = &self.senders[cable];
        for port in ports {
            // Where there is no way, nobody gets anything.
            let _ = sender.send_to(b"?", (destination, port));
        }
        // To an address of one host, the same address is used: a datagram that waits for its neighbour's address is not overtaken.
        let end = if destination == self.net.own[0] { destination } else { self.net.own[cable] };
        let end = SocketAddr::new(end, port(&self.guard));
        if sender.send_to(b"end", end).is_err() {
            sender.send_to(b"end", (self.net.own[cable], end.port())).unwrap();
        }
        self.guard.recv(&mut [0; 8]).unwrap();
    }

    /// All rows of one socket, as letters for the cables by which it got what was sent, and where agent and kernel differ.
    async fn rows(&self, bind: IpAddr, all: bool) -> (String, Vec<String>) {
        let Self { lab, net, .. } = self;
        let native = lab.right_namespace().enter(|| member(bind, net.joined, all));
        let delivery = Some(pb::Delivery { mode: pb::DeliveryMode::Pull.into(), ..Default::default() });
        let groups = vec![group(&net.joined.to_string(), "red", "")];
        let spec = pb::UdpSocketSpec { bind: any_port(bind), delivery, groups, ..Default::default() };
        let made = lab.right.create_udp("s", spec).await.unwrap();
        assert_eq!(error_name(made.report.as_ref()), "");
        let option = if bind.is_ipv4() { "IP_MULTICAST_ALL" } else { "IPV6_MULTICAST_ALL" };
        lab.right.set("s", option, Value::Enabled(all)).await;
        let ports = [port(&native), u16::try_from(made.socket.unwrap().local.unwrap().port).unwrap()];

        let (mut row, mut differ) = (String::new(), Vec::new());
        for (name, destination) in net.destinations() {
            let mut by = String::new();
            for (at, cable) in CABLES.into_iter().enumerate() {
                self.send(at, destination, ports);
                let expected = native.recv(&mut [0; 8]).is_ok();
                let got = lab.right.socket("s").await.readiness.unwrap().readable;
                if got {
                    let received = lab.right.receive("s").await.unwrap();
                    assert_eq!(received.destination.unwrap().address, destination.to_string());
                    by.push_str(&cable[..1]);
                }
                if got != expected {
                    differ
                        .push(format!("bound to {bind}, all {all}, sent to {name} by {cable}: {got}, not {expected}"));
                }
            }
            write!(row, " {by:<10}").unwrap();
        }
        lab.right.close("s").await;
        (row.trim_end().to_owned(), differ)
    }
}

/// The whole table: `r` where it came by the red cable, `b` by the blue one.
async fn table(lab: &Lab, net: &Net) -> String {
    let stage = Stage::new(lab, net);
    let heading: String = net.destinations().into_iter().map(|(name, _)| format!(" {name:<10}")).collect();
    let mut table = format!("{:<14}{}\n", "bound, all", heading.trim_end());
    let mut differ = Vec::new();
    for (name, bind) in net.binds() {
        for all in [true, false] {
            let (row, more) = stage.rows(bind, all).await;
            let head = format!("{name}, {}", if all { "on" } else { "off" });
            writeln!(table, "{head:<14}{row}").unwrap();
            differ.extend(more);
        }
    }
    assert!(differ.is_empty(), "{}\n{table}", differ.join("\n"));
    table
}

/// A socket of any address hears groups that others have joined, unless IP_MULTICAST_ALL is off; one of a single host's address hears no
/// group at all; what comes by the blue cable is for nobody, because no membership is there; and a host takes what is sent to any of its
/// addresses by any cable, in IPv4.
#[tokio::test]
async fn datagrams_reach_an_agents_socket_as_they_reach_a_plain_one() {
    let Some(lab) = Lab::new().await else { return };
    insta::assert_snapshot!(table(&lab, &Net::ipv4()).await, @"
    bound, all     joined     of another of nobody  directed   limited    own
    any, on        r          r                     rb         rb         rb
    any, off       r                                rb         rb         rb
    group, on      r
    group, off     r
    own, on                                                               rb
    own, off                                                              rb
    broadcast, on                                   rb
    broadcast, off                                  rb
    ");
    insta::assert_snapshot!(table(&lab, &Net::ipv6()).await, @"
    bound, all     joined     of another of nobody  own
    any, on        r          r                     r
    any, off       r                                r
    group, on      r
    group, off     r
    own, on                                         r
    own, off                                        r
    ");
    lab.stop().await;
}
