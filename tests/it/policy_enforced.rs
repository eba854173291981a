//! A policy in force: real sockets, in every way that leads to an address, and nothing comes where it may not.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use farsock::agent::AgentConfig;
use farsock::model::address::{Family, Transport};
use farsock::model::errno::LookupErrno;
use farsock::model::lookup::{HostAnswer, Lookup, Resolver};
use farsock::wire::pb;
use tempfile::TempDir;
use tokio::net::TcpSocket;
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::tcp::{connecting_to, listening_on, went};
use crate::harness::{Agent, Certificates, QUESTION, Refused, TcpPeer, datagram, long, tls_channel};
use crate::simulator::chance::Chance;

/// The one address that is allowed, and one that is.
const GOOD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const RULES: &str = "  - { allow: [bind, listen, accept, connect, send], addresses: [127.0.0.2, 127.0.0.3] }\n";

/// An agent whose owner may do what these rules say.
async fn agent(folder: &TempDir, rules: &str) -> Agent {
    agent_with(folder, rules, AgentConfig::default()).await
}

async fn agent_with(folder: &TempDir, rules: &str, config: AgentConfig) -> Agent {
    let file = folder.path().join("policy.yaml");
    fs::write(&file, format!("policy: Test\nprincipals: {{ owner: student }}\nrules:\n{rules}")).unwrap();
    Agent::start_with(AgentConfig { policy_file: Some(file), ..config }).await
}

fn both_versions() -> pb::SocketOption {
    pb::SocketOption { name: "IPV6_V6ONLY".into(), value: Some(pb::socket_option::Value::Enabled(false)) }
}

fn enabled(name: &str) -> pb::SocketOption {
    pb::SocketOption { name: name.into(), value: Some(pb::socket_option::Value::Enabled(true)) }
}

/// A TCP socket of this family that takes IPv4 as well as IPv6.
fn wide(address: &str, spec: pb::TcpSocketSpec) -> pb::TcpSocketSpec {
    let options = if address.starts_with('[') { vec![both_versions()] } else { vec![] };
    pb::TcpSocketSpec { options, ..spec }
}

/// The address in one of its spellings.
fn spelled(chance: &mut Chance, ip: Ipv4Addr, port: u16) -> String {
    let [a, b] = [ip.to_bits() >> 16, ip.to_bits() & 0xffff];
    match chance.below(5) {
        0 => format!("{ip}:{port}"),
        1 => format!("[::ffff:{ip}]:{port}"),
        2 => format!("[::ffff:{a:x}:{b:x}]:{port}"),
        3 => format!("[0:0:0:0:0:FFFF:{a:04X}:{b:04X}]:{port}"),
        _ => format!("[0000:0000:0000:0000:0000:ffff:{ip}]:{port}"),
    }
}

/// Whoever would notice what comes where it may not: every address of IPv4 and IPv6, at one port.
struct Sentinel {
    tcp: [TcpListener; 2],
    udp: [UdpSocket; 2],
    port: u16,
}

impl Sentinel {
    fn new() -> Self {
        loop {
            let tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            let port = tcp.local_addr().unwrap().port();
            let six = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).unwrap();
            six.set_only_v6(true).unwrap();
            let udp_six = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::DGRAM, None).unwrap();
            udp_six.set_only_v6(true).unwrap();
            let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into();
            // Somebody else may have the port of the other kind.
            let (Ok(()), Ok(()), Ok(udp)) =
                (six.bind(&any), udp_six.bind(&any), UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)))
            else {
                continue;
            };
            six.listen(1024).unwrap();
            let sentinel = Self { tcp: [tcp, six.into()], udp: [udp, udp_six.into()], port };
            sentinel.tcp.iter().for_each(|tcp| tcp.set_nonblocking(true).unwrap());
            sentinel.udp.iter().for_each(|udp| udp.set_nonblocking(true).unwrap());
            return sentinel;
        }
    }

    /// Where each connection and each datagram came to that has come since.
    fn noticed(&self) -> Vec<IpAddr> {
        let mut found = Vec::new();
        for tcp in &self.tcp {
            loop {
                match tcp.accept() {
                    Ok((stream, _)) => found.push(stream.local_addr().unwrap().ip()),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        for udp in &self.udp {
            while let Ok((_, from)) = udp.recv_from(&mut [0; 16]) {
                found.push(from.ip());
            }
        }
        found
    }
}

/// A few hundred spellings of addresses of this host that are not allowed, in every way that leads to one.
#[tokio::test]
async fn no_spelling_leads_around_it_with_real_sockets() {
    let (folder, sentinel) = (TempDir::new().unwrap(), Sentinel::new());
    let agent = agent(&folder, RULES).await;
    agent.udp("u", GOOD.into()).await;
    let six =
        pb::UdpSocketSpec { bind: "[::ffff:127.0.0.2]:0".into(), options: vec![both_versions()], ..Default::default() };
    agent.create_udp("u6", six).await.unwrap();
    let mut chance = Chance::new(14);
    let port = sentinel.port;
    let mut bad: Vec<String> =
        ["0.0.0.0", "[::]", "[::1]", "[::ffff:0.0.0.0]", "[::127.0.0.1]", "[64:ff9b::127.0.0.1]"]
            .iter()
            .map(|ip| format!("{ip}:{port}"))
            .collect();
    for _ in 0..if long() { 5_000 } else { 60 } {
        let ip = Ipv4Addr::from_bits(0x7f00_0000 | u32::try_from(chance.below(1 << 24)).unwrap());
        if ip.octets()[3] > 3 || ip.octets()[1] > 0 {
            bad.push(spelled(&mut chance, ip, port));
        }
    }
    for address in &bad {
        let free = format!("{}:0", address.rsplit_once(':').unwrap().0);
        let bound = pb::TcpSocketSpec { bind: free.clone(), ..Default::default() };
        let (sender, own, options) = match address.starts_with('[') {
            true => ("u6", "[::ffff:127.0.0.2]:0", vec![both_versions()]),
            false => ("u", "127.0.0.2:0", vec![]),
        };
        let udp = pb::UdpSocketSpec { bind: own.into(), connect: address.clone(), options, ..Default::default() };
        let tries = [
            ("connect", went(&agent.create_tcp("", wide(address, connecting_to(address))).await)),
            ("listen", went(&agent.create_tcp("", wide(address, listening_on(&free))).await)),
            ("bind", went(&agent.create_tcp("", wide(address, bound)).await)),
            ("send", agent.try_send(sender, vec![datagram(address, "x")]).await.unwrap_err().reason),
            ("connect UDP", went(&agent.create_udp("", udp).await)),
        ];
        for (what, went) in tries {
            assert_eq!(went, "POLICY_DENIED", "{what} {address}");
        }
    }
    assert_eq!(sentinel.noticed(), Vec::<IpAddr>::new());
    // What is refused leaves nothing behind, and takes no number.
    let open = agent.sockets().list_sockets(pb::ListSocketsRequest::default()).await.unwrap().into_inner().sockets;
    assert!(open.iter().all(|socket| socket.local.is_none() || socket.socket_id.starts_with('u')), "{open:?}");

    // The same spellings of what is allowed lead there.
    let mut expected = 0;
    for at in 0..20 {
        let address = spelled(&mut chance, GOOD, port);
        let id = format!("good-{at}");
        let made = agent.create_tcp(&id, wide(&address, connecting_to(&address))).await;
        assert_eq!(went(&made), "ok", "{address}");
        expected += 1;
        agent.abort(&id).await;
    }
    assert_eq!(sentinel.noticed().len(), expected);
    agent.stop().await;
}

/// Whoever is refused learns who, what, and by which line, in one line and for programs.
#[tokio::test]
async fn a_refusal_says_who_may_not_do_what_and_why() {
    let folder = TempDir::new().unwrap();
    let agent = agent(&folder, &format!("{RULES}  - {{ deny: connect, addresses: 127.0.0.3 }}\n")).await;
    let request = |address: &str| pb::CreateSocketRequest {
        socket_id: "s".into(),
        kind: Some(pb::create_socket_request::Kind::Tcp(connecting_to(address))),
        ..Default::default()
    };
    let status = agent.sockets().create_socket(request("127.0.0.3:80")).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(
        status.message(),
        "owner may not connect to 127.0.0.3:80 by TCP: line 5 of the policy denies it; do what it allows, or ask whoever keeps the policy of this agent"
    );
    let info = status.get_details_error_info().unwrap();
    let told = |key: &str| info.metadata.get(key).map(String::as_str);
    assert_eq!(info.reason, "POLICY_DENIED");
    assert_eq!(
        (told("principal"), told("operation"), told("target")),
        (Some("owner"), Some("connect"), Some("127.0.0.3:80"))
    );
    assert_eq!((told("transport"), told("line")), (Some("tcp"), Some("5")));
    let status = agent.sockets().create_socket(request("127.0.0.1:80")).await.unwrap_err();
    assert!(status.message().contains("no rule of the policy allows it"), "{}", status.message());
    // Nothing has been made, nothing is in the log.
    assert!(agent.kinds("s").await.is_empty());
    agent.stop().await;
}

/// What the agent binds by itself has to be allowed, too.
#[tokio::test]
async fn a_socket_that_nobody_has_bound_is_bound_within_the_policy() {
    let folder = TempDir::new().unwrap();
    let free = agent(&folder, RULES).await;
    let sentinel = Sentinel::new();
    let to = format!("{GOOD}:{}", sentinel.port);
    free.create_tcp("idle", pb::TcpSocketSpec::default()).await.unwrap();
    let listen = pb::ListenSocketRequest { socket_id: "idle".into(), ..Default::default() };
    assert_eq!(went(&free.listen_socket(listen.clone()).await), "POLICY_DENIED");
    free.create_udp("mute", pb::UdpSocketSpec::default()).await.unwrap();
    assert_eq!(free.try_send("mute", vec![datagram(&to, "x")]).await.unwrap_err().reason, "POLICY_DENIED");
    let connect = pb::ConnectSocketRequest { socket_id: "mute".into(), remote: to.clone(), ..Default::default() };
    assert_eq!(went(&free.connect_socket(connect).await), "POLICY_DENIED");
    assert_eq!(free.kinds("mute").await, ["created"]);
    // A TCP connection leaves from wherever the route begins, and has no port that others could find.
    assert_eq!(went(&free.create_tcp("line", connecting_to(&to)).await), "ok");
    free.stop().await;

    // With a lab address that is allowed, the same goes well.
    let config = AgentConfig { lab_ipv4: Some(GOOD), ..AgentConfig::default() };
    let lab = agent_with(&folder, RULES, config.clone()).await;
    lab.create_tcp("idle", pb::TcpSocketSpec::default()).await.unwrap();
    assert_eq!(went(&lab.listen_socket(listen).await), "ok");
    lab.create_udp("voice", pb::UdpSocketSpec::default()).await.unwrap();
    lab.send("voice", &to, "x").await;
    lab.connect("line", &to).await;
    lab.stop().await;
    // And with one that is not, it does not.
    let config = AgentConfig { lab_ipv4: Some(Ipv4Addr::LOCALHOST), ..config };
    let wrong = agent_with(&folder, RULES, config).await;
    assert_eq!(went(&wrong.create_tcp("line", connecting_to(&to)).await), "POLICY_DENIED");
    wrong.stop().await;
}

/// `::` of a socket that takes IPv4 is 0.0.0.0, too; and who sends to 0.0.0.0 from an address of its own comes back to that.
#[tokio::test]
async fn an_address_is_what_it_means_to_its_socket() {
    let (folder, sentinel) = (TempDir::new().unwrap(), Sentinel::new());
    let rules = "  - { allow: [bind, listen], addresses: '::' }\n  - { allow: bind, addresses: [127.0.0.1, 127.0.0.3] }\n  \
                 - { allow: [connect, send], addresses: 127.0.0.1 }\n";
    let agent = agent(&folder, rules).await;
    assert_eq!(went(&agent.create_tcp("six", listening_on("[::]:0")).await), "ok");
    let both = pb::TcpSocketSpec { options: vec![both_versions()], ..listening_on("[::]:0") };
    assert_eq!(went(&agent.create_tcp("both", both).await), "POLICY_DENIED");
    // The socket was there before that was known, and is no more.
    assert_eq!(agent.closed("both").await.reason(), pb::CloseReason::Policy);

    let here = format!("0.0.0.0:{}", sentinel.port);
    for (own, expected) in [("127.0.0.1", "ok"), ("127.0.0.3", "POLICY_DENIED")] {
        let line = pb::TcpSocketSpec { bind: format!("{own}:0"), ..connecting_to(&here) };
        assert_eq!(went(&agent.create_tcp("", line).await), expected, "{own}");
        let id = format!("u{}", own.len() + usize::from(expected == "ok"));
        agent.udp(&id, own.parse().unwrap()).await;
        let sent = agent.try_send(&id, vec![datagram(&here, "x")]).await;
        assert_eq!(went_out(sent), expected, "{own}");
    }
    assert!(sentinel.noticed().iter().all(|ip| *ip == IpAddr::from(Ipv4Addr::LOCALHOST)));
    agent.stop().await;
}

/// What is sent to 0.0.0.0 comes to the address that it leaves from: that of the datagram, of the socket, or of the lab.
#[tokio::test]
async fn what_goes_to_all_addresses_goes_to_the_one_it_leaves_from() {
    let (folder, sentinel) = (TempDir::new().unwrap(), Sentinel::new());
    let rules = "  - { allow: bind, addresses: [wildcard, 127.0.0.1, 127.0.0.3] }\n  \
                 - { allow: [connect, send], addresses: 127.0.0.1 }\n";
    let free = agent(&folder, rules).await;
    let here = format!("0.0.0.0:{}", sentinel.port);
    free.udp("u", Ipv4Addr::UNSPECIFIED.into()).await;
    for (source, expected) in [("127.0.0.1", "ok"), ("127.0.0.3", "POLICY_DENIED")] {
        let from = pb::Datagram { source: source.into(), ..datagram(&here, "x") };
        assert_eq!(went_out(free.try_send("u", vec![from]).await), expected, "{source}");
    }
    for (own, expected) in [("127.0.0.1", "ok"), ("127.0.0.3", "POLICY_DENIED")] {
        let id = format!("mapped-{}", &own[8..]);
        let spec = pb::UdpSocketSpec {
            bind: format!("[::ffff:{own}]:0"),
            options: vec![both_versions()],
            ..Default::default()
        };
        free.create_udp(&id, spec).await.unwrap();
        let sent = free.try_send(&id, vec![datagram(&format!("[::ffff:0.0.0.0]:{}", sentinel.port), "x")]).await;
        assert_eq!(went_out(sent), expected, "{own}");
    }
    free.stop().await;

    for (lab, expected) in [("127.0.0.1", "ok"), ("127.0.0.3", "POLICY_DENIED")] {
        let config = AgentConfig { lab_ipv4: Some(lab.parse().unwrap()), ..AgentConfig::default() };
        let lab_agent = agent_with(&folder, rules, config).await;
        lab_agent.create_udp("u", pb::UdpSocketSpec::default()).await.unwrap();
        assert_eq!(went_out(lab_agent.try_send("u", vec![datagram(&here, "x")]).await), expected, "{lab}");
        // It is known before the socket is bound for it.
        let bound = lab_agent.socket("u").await.local.is_some();
        assert_eq!(bound, expected == "ok", "{lab}");
        assert_eq!(went(&lab_agent.create_tcp("", connecting_to(&here)).await), expected, "{lab}");
        lab_agent.stop().await;
    }
    assert!(sentinel.noticed().iter().all(|ip| *ip == IpAddr::from(Ipv4Addr::LOCALHOST)));
}

fn went_out(sent: Result<pb::SendDatagramsResponse, Refused>) -> String {
    sent.map_or_else(|refused| refused.reason, |_| "ok".into())
}

/// Each datagram is asked about: where it goes, where it leaves from, and where a connected socket sends it.
#[tokio::test]
async fn each_datagram_is_asked_about() {
    let (folder, sentinel) = (TempDir::new().unwrap(), Sentinel::new());
    let rules = "  - { allow: bind, addresses: wildcard, transport: udp }\n  - { allow: send, addresses: 127.0.0.2 }\n  \
                 - { allow: connect, addresses: [127.0.0.2, 127.0.0.4] }\n";
    let agent = agent(&folder, rules).await;
    agent.udp("u", Ipv4Addr::UNSPECIFIED.into()).await;
    let good = format!("{GOOD}:{}", sentinel.port);
    let from = pb::Datagram { source: "127.0.0.1".into(), ..datagram(&good, "from") };
    assert_eq!(agent.try_send("u", vec![from]).await.unwrap_err().reason, "POLICY_DENIED");
    // One that is not allowed keeps back all of its request.
    let mixed = vec![datagram(&good, "1"), datagram(&format!("127.0.0.4:{}", sentinel.port), "2")];
    assert_eq!(agent.try_send("u", mixed).await.unwrap_err().reason, "POLICY_DENIED");
    // To connect is one thing, to send another.
    agent.connect_udp("u", &format!("127.0.0.4:{}", sentinel.port)).await;
    let plain = pb::Datagram { payload: crate::harness::text("x"), ..Default::default() };
    assert_eq!(agent.try_send("u", vec![plain.clone()]).await.unwrap_err().reason, "POLICY_DENIED");
    assert!(sentinel.noticed().is_empty());
    agent.connect_udp("u", &good).await;
    agent.try_send("u", vec![plain]).await.unwrap();
    agent.event("u", "sent").await;
    assert_eq!(sentinel.noticed().len(), 1);
    agent.stop().await;
}

/// A peer that may not come in sees a handshake and a RST; no number is spent on it.
#[tokio::test]
async fn a_listener_drops_peers_that_the_policy_does_not_let_in() {
    let folder = TempDir::new().unwrap();
    let agent = agent(&folder, RULES).await;
    let door = agent.listen("door", &format!("{GOOD}:0")).await;
    let mut after = 0;
    for at in 0..30 {
        let from = TcpSocket::new_v4().unwrap();
        from.bind(SocketAddr::from(([127, 0, 1 + at % 3, 4 + at], 0))).unwrap();
        let mut peer = TcpPeer(from.connect(door.parse().unwrap()).await.unwrap());
        let dropped = agent.event_after("door", "connection_dropped", after).await;
        after = dropped.event_seq;
        let Some(pb::event::Body::ConnectionDropped(dropped)) = dropped.body else { panic!() };
        assert_eq!(dropped.reason(), pb::ConnectionDropReason::Policy);
        assert_eq!(peer.read_to_end().await.unwrap_err().raw_os_error(), Some(libc::ECONNRESET));
    }
    let from = TcpSocket::new_v4().unwrap();
    from.bind("127.0.0.3:0".parse().unwrap()).unwrap();
    let mut peer = TcpPeer(from.connect(door.parse().unwrap()).await.unwrap());
    peer.write(b"hola").await;
    assert_eq!(agent.receive_text("door.1").await, "hola");
    let listener = agent.socket("door").await.listener.unwrap();
    assert_eq!((listener.accepted_total(), listener.dropped_total()), (1, 30));
    agent.stop().await;
}

/// Options that lead around addresses, and groups.
#[tokio::test]
async fn options_and_groups_are_asked_about() {
    let folder = TempDir::new().unwrap();
    let rules =
        format!("{RULES}  - {{ allow: join, addresses: 239.7.0.0/16 }}\n  - {{ allow: set, options: SO_PRIORITY }}\n");
    let agent = agent(&folder, &rules).await;
    agent.udp("u", GOOD.into()).await;
    let set = async |name: &str| {
        let request = pb::SetSocketOptionsRequest {
            socket_id: "u".into(),
            options: vec![enabled("SO_REUSEADDR"), enabled(name)],
            ..Default::default()
        };
        went(&agent.set_socket_options(request).await)
    };
    for name in ["SO_BROADCAST", "SO_REUSEPORT", "IP_FREEBIND"] {
        assert_eq!(set(name).await, "POLICY_DENIED", "{name}");
    }
    // What goes with one that is not allowed is not set either.
    assert!(!agent.kinds("u").await.contains(&"option_set".to_owned()));
    assert_eq!(set("IP_RECVERR").await, "ok");
    let spec = pb::UdpSocketSpec { options: vec![enabled("SO_BROADCAST")], ..Default::default() };
    assert_eq!(agent.create_udp("", spec).await.unwrap_err().reason, "POLICY_DENIED");

    let join = async |text: &str| {
        let request = pb::JoinGroupRequest {
            socket_id: "u".into(),
            group: text.into(),
            interface: "lo".into(),
            ..Default::default()
        };
        agent.sockets().join_group(request).await.map(drop).map_err(|status| status.code())
    };
    assert_eq!(join("239.8.1.1").await, Err(Code::PermissionDenied));
    assert_eq!(join("239.7.1.1").await, Ok(()));
    agent.stop().await;
}

/// Answers with an allowed address at first and then with one that is not, and the other way round, and so on.
struct FickleResolver(AtomicUsize);

impl Resolver for FickleResolver {
    fn host(&self, _: &str, _: Option<Family>) -> Lookup<'_, HostAnswer> {
        let turn = self.0.fetch_add(1, Ordering::Relaxed);
        let answers: &[&str] = match turn % 3 {
            0 => &["127.0.0.2:0"],
            1 => &["127.0.0.1:0"],
            _ => &["127.0.0.1:0", "127.0.0.2:0"],
        };
        let addresses = answers.iter().map(|text| text.parse().unwrap()).collect();
        Box::pin(async move { Ok(HostAnswer { addresses, canonical_name: None }) })
    }

    fn address(&self, _: IpAddr) -> Lookup<'_, String> {
        Box::pin(async { Err(LookupErrno::EAI_NONAME) })
    }

    fn service(&self, _: &str, _: Transport) -> Lookup<'_, u16> {
        Box::pin(async { Err(LookupErrno::EAI_SERVICE) })
    }

    fn port(&self, _: u16, _: Transport) -> Lookup<'_, String> {
        Box::pin(async { Err(LookupErrno::EAI_SERVICE) })
    }
}

/// What was checked is what is dialled: a name that changes its meaning leads nowhere else.
#[tokio::test]
async fn a_name_that_changes_what_it_means_leads_nowhere_else() {
    let (folder, sentinel) = (TempDir::new().unwrap(), Sentinel::new());
    let config =
        AgentConfig { resolver: Some(Arc::new(FickleResolver(AtomicUsize::new(0)))), ..AgentConfig::default() };
    let agent = agent_with(&folder, RULES, config).await;
    agent.udp("u", GOOD.into()).await;
    let rebind = format!("rebind.example:{}", sentinel.port);
    let rounds = if long() { 3_000 } else { 30 };
    let (mut connected, mut sent, mut noticed) = (0, 0, Vec::new());
    for _ in 0..rounds {
        match went(&agent.create_tcp("line", connecting_to(&rebind)).await).as_str() {
            "ok" => {
                connected += 1;
                agent.abort("line").await;
            }
            other => assert_eq!(other, "POLICY_DENIED"),
        }
        match agent.try_send("u", vec![datagram(&rebind, "x")]).await {
            Ok(_) => sent += 1,
            Err(refused) => assert_eq!(refused.reason, "POLICY_DENIED"),
        }
        noticed.extend(sentinel.noticed());
    }
    // Datagrams tell where they came from, which is the socket's own address.
    assert!(noticed.iter().all(|ip| *ip == IpAddr::from(GOOD)), "{noticed:?}");
    assert_eq!(noticed.len(), connected + sent);
    assert!(connected > rounds / 2 && sent > rounds / 4, "{connected} {sent}");
    agent.stop().await;
}

/// Who works in the session of somebody else gets no more by that: what is done there must be allowed to both.
#[tokio::test]
async fn nobody_borrows_the_addresses_of_others() {
    let (lab, sentinel) = (Certificates::new(), Sentinel::new());
    let file = lab.folder.path().join("policy.yaml");
    let text = "policy: Two\nprincipals: { alice: student, ivan: instructor }\nrules:\n  \
                - { allow: [connect, send, bind], for: alice, addresses: [127.0.0.2, 127.0.0.3] }\n  \
                - { allow: [connect, send], for: ivan, addresses: [127.0.0.2, 127.0.0.4] }\n";
    fs::write(&file, text).unwrap();
    let agent = Agent::start_with(AgentConfig { policy_file: Some(file), ..lab.config("127.0.0.1:0") }).await;
    let address = agent.tcp().to_string();
    let [alice, ivan] = ["alice", "ivan"].map(|name| Agent::at(tls_channel(&address, &lab.controller(name))));
    alice.udp("u", GOOD.into()).await;
    let created = async |ip: &str, spec: pb::TcpSocketSpec| {
        let request = pb::CreateSocketRequest {
            session_id: "alice/default".into(),
            kind: Some(pb::create_socket_request::Kind::Tcp(pb::TcpSocketSpec {
                role: Some(pb::tcp_socket_spec::Role::Connect(format!("{ip}:{}", sentinel.port))),
                ..spec
            })),
            ..Default::default()
        };
        ivan.sockets().create_socket(request).await.map(drop).map_err(|status| status.message().to_owned())
    };
    assert_eq!(created("127.0.0.2", pb::TcpSocketSpec::default()).await, Ok(()));
    let denied = created("127.0.0.3", pb::TcpSocketSpec::default()).await.unwrap_err();
    assert!(denied.starts_with("ivan may not connect to 127.0.0.3"), "{denied}");
    let denied = created("127.0.0.4", pb::TcpSocketSpec::default()).await.unwrap_err();
    assert!(denied.starts_with("alice may not connect to 127.0.0.4"), "{denied}");
    let bound = pb::TcpSocketSpec { bind: "127.0.0.2:0".into(), ..Default::default() };
    let denied = created("127.0.0.2", bound).await.unwrap_err();
    assert!(denied.starts_with("ivan may not bind to 127.0.0.2"), "{denied}");
    // The driver asks both, too.
    let sent = async |ip: &str| {
        let request = pb::SendDatagramsRequest {
            session_id: "alice/default".into(),
            socket_id: "u".into(),
            datagrams: vec![datagram(&format!("{ip}:{}", sentinel.port), "x")],
            ..Default::default()
        };
        ivan.sockets().send_datagrams(request).await.map(drop).map_err(|status| status.message().to_owned())
    };
    assert_eq!(sent("127.0.0.2").await, Ok(()));
    for (ip, who) in [("127.0.0.3", "ivan"), ("127.0.0.4", "alice")] {
        let denied = sent(ip).await.unwrap_err();
        assert!(denied.starts_with(&format!("{who} may not send to {ip}")), "{denied}");
    }
    // What she is asked for herself is hers alone again.
    alice.send("u", &format!("127.0.0.3:{}", sentinel.port), "x").await;
    agent.stop().await;
}

/// By TLS, each does what his own rules say; on an address that other hosts can reach.
#[tokio::test]
async fn each_principal_has_his_own_rules_and_strangers_have_none() {
    let (lab, sentinel) = (Certificates::new(), Sentinel::new());
    let file = lab.folder.path().join("policy.yaml");
    let text = "policy: Two\nprincipals: { alice: student, bob: student, vera: viewer }\nrules:\n  \
                - { allow: connect, for: alice, addresses: 127.0.0.2 }\n  - { allow: connect, for: bob, addresses: loopback }\n";
    fs::write(&file, text).unwrap();
    let agent = Agent::start_with(AgentConfig { policy_file: Some(file), ..lab.config("0.0.0.0:0") }).await;
    let address = format!("127.0.0.1:{}", agent.tcp().port());
    let come = |name: &str| Agent::at(tls_channel(&address, &lab.controller(name)));
    let [alice, bob, vera, zoe] = ["alice", "bob", "vera", "zoe"].map(come);
    let to = |ip: &str| connecting_to(&format!("{ip}:{}", sentinel.port));
    let reason = |answer: Result<pb::CreateSocketResponse, _>| went(&answer);
    assert_eq!(reason(alice.create_tcp("s", to("127.0.0.2")).await), "ok");
    assert_eq!(reason(alice.create_tcp("t", to("127.0.0.3")).await), "POLICY_DENIED");
    assert_eq!(reason(bob.create_tcp("s", to("127.0.0.3")).await), "ok");
    assert_ne!(reason(vera.create_tcp("s", to("127.0.0.2")).await), "ok");
    // How the agent is controlled is nothing to connect to, though the whole of loopback is.
    for control in
        [&address, &format!("[::ffff:127.0.0.1]:{}", agent.tcp().port()), &format!("0.0.0.0:{}", agent.tcp().port())]
    {
        assert_eq!(reason(bob.create_tcp("", connecting_to(control)).await), "POLICY_DENIED", "{control}");
    }
    // Who is not in the policy is turned away, whatever he wants; so is the owner, whom it does not name.
    for stranger in [&zoe, &agent] {
        let status = stranger.agent().get_agent(QUESTION).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        assert!(status.message().contains("may not come in: the policy gives him no role"), "{}", status.message());
    }
    agent.stop().await;
}

/// Another policy comes in while datagrams are being sent: the refusal counts those that have gone.
#[tokio::test]
async fn a_send_that_is_denied_in_between_tells_how_much_has_gone() {
    let addresses = "addresses: [127.0.0.2, \"::1\"]";
    for address in ["127.0.0.2:0", "[::1]:0"] {
        let folder = TempDir::new().unwrap();
        let agent = agent(&folder, &format!("  - {{ allow: [bind, send], {addresses} }}\n")).await;
        let peer = UdpSocket::bind(address).unwrap().local_addr().unwrap().to_string();
        agent.create_udp("s", pb::UdpSocketSpec { bind: address.into(), ..Default::default() }).await.unwrap();
        let request = pb::SendDatagramsRequest {
            socket_id: "s".into(),
            datagrams: vec![datagram(&peer, "hola"); 200],
            interval: crate::harness::millis(40),
            ..Default::default()
        };
        let mut sockets = agent.sockets();
        let sending = tokio::spawn(async move { sockets.send_datagrams(request).await });
        agent.event("s", "sent").await;
        let narrow =
            format!("policy: Narrow\nprincipals: {{ owner: student }}\nrules:\n  - {{ allow: bind, {addresses} }}\n");
        fs::write(folder.path().join("policy.yaml"), narrow).unwrap();
        agent.reload().await;
        let refused = sending.await.unwrap().unwrap_err();
        let info = refused.get_details_error_info().unwrap();
        assert_eq!((refused.code(), info.reason.as_str()), (Code::PermissionDenied, "POLICY_DENIED"));
        let sent = agent.listed("s", "sent").await.len();
        let told = [&info.metadata["datagramsSent"], &info.metadata["bytesSent"], &info.metadata["operation"]];
        assert_eq!(told, [&sent.to_string(), &(4 * sent).to_string(), "send"]);
        let says = format!("; datagrams sent before: {sent}, of {} bytes", 4 * sent);
        assert!(sent > 0 && refused.message().ends_with(&says), "{}", refused.message());
        // Before the first one there is nothing to count, and the socket goes on.
        let request = pb::SendDatagramsRequest {
            socket_id: "s".into(),
            datagrams: vec![datagram(&peer, "hola")],
            ..Default::default()
        };
        let refused = agent.send_datagrams(request).await.unwrap_err();
        assert!(refused.reason == "POLICY_DENIED" && !refused.message.contains("sent before"), "{}", refused.message);
    }
}
