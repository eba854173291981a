//! Whether a port can be had: what bind(2) says, who is in the way, and that nothing of the question stays.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;

use farsock::agent::AgentConfig;
use farsock::wire::pb;
use tempfile::TempDir;
use tonic::Code;

use crate::harness::tcp::any_port;
use crate::harness::{
    Agent, Certificates, LOOPBACKS, Refused, SilentResolver, SmallResolver, millis, tls_channel, within,
};

async fn ask(agent: &Agent, request: pb::CheckPortRequest) -> Result<pb::CheckPortResponse, Refused> {
    Ok(agent.agent().check_port(request).await?.into_inner())
}

fn port(local: &str, transport: pb::Transport) -> pb::CheckPortRequest {
    pb::CheckPortRequest { local: local.into(), transport: transport.into(), ..Default::default() }
}

fn wildcard(ip: IpAddr) -> IpAddr {
    if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// The error of an address that cannot be had.
async fn objection(agent: &Agent, request: pb::CheckPortRequest) -> pb::SocketError {
    let answer = ask(agent, request).await.unwrap();
    assert!(!answer.available && !answer.timed_out, "{answer:?}");
    answer.error.unwrap()
}

#[tokio::test]
async fn a_free_port_is_free_and_stays_so() {
    let agent = Agent::start().await;
    for ip in LOOPBACKS {
        for transport in [pb::Transport::Tcp, pb::Transport::Udp] {
            // Somebody else may take it in between, but not eight times.
            let mut found = None;
            for _ in 0..8 {
                let free = match transport {
                    pb::Transport::Udp => UdpSocket::bind((ip, 0)).unwrap().local_addr().unwrap(),
                    _ => TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap(),
                };
                let answer = ask(&agent, port(&free.to_string(), transport)).await.unwrap();
                if answer.available && ask(&agent, port(&free.to_string(), transport)).await.unwrap().available {
                    found = Some((answer, free));
                    break;
                }
            }
            let (answer, free) = found.expect("a port that nobody has");
            assert_eq!((answer.local.unwrap().text, answer.error), (free.to_string(), None));
        }
    }
    assert_eq!(agent.open_sockets().await, 0);
    assert!(agent.all_events("").await.is_empty());
}

#[tokio::test]
async fn who_is_in_the_way_is_told() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let (door, spot) = (format!("door-{at}"), format!("spot-{at}"));
        let own = agent.listen(&door, &any_port(ip)).await;
        let error = objection(&agent, port(&own, pb::Transport::Tcp)).await;
        assert_eq!((error.name.as_str(), error.operation()), ("EADDRINUSE", pb::Operation::Bind));
        let holder = error.holder.unwrap();
        assert_eq!((holder.session_id.as_str(), &holder.socket_id), ("default", &door));
        assert!(error.message.contains(&format!("by socket `{door}` of session `default`")), "{}", error.message);
        let datagrams = agent.udp(&spot, ip).await;
        let error = objection(&agent, port(&datagrams, pb::Transport::Udp)).await;
        assert_eq!(error.holder.unwrap().socket_id, spot);

        let process = TcpListener::bind((wildcard(ip), 0)).unwrap();
        let used = SocketAddr::new(ip, process.local_addr().unwrap().port());
        let error = objection(&agent, port(&used.to_string(), pb::Transport::Tcp)).await;
        assert_eq!(error.holder.unwrap().process_id, std::process::id());
        let process = UdpSocket::bind((ip, 0)).unwrap();
        let used = process.local_addr().unwrap().to_string();
        let error = objection(&agent, port(&used, pb::Transport::Udp)).await;
        assert_eq!(error.holder.unwrap().process_id, std::process::id());
    }
}

/// A connection that is closed is in the way of whoever does not say SO_REUSEADDR.
#[tokio::test]
async fn time_wait_is_passed_over_unless_it_is_asked_about() {
    let agent = Agent::start().await;
    for ip in LOOPBACKS {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let used = listener.local_addr().unwrap();
        let near = TcpStream::connect(used).unwrap();
        drop((listener.accept().unwrap(), listener));
        drop(near);
        let strict =
            || pb::CheckPortRequest { reuse_address: Some(false), ..port(&used.to_string(), pb::Transport::Tcp) };
        let error = within("TIME_WAIT", async {
            loop {
                let error = objection(&agent, strict()).await;
                if error.holder.as_ref().is_some_and(|holder| holder.tcp_state() == pb::TcpState::TimeWait) {
                    return error;
                }
            }
        })
        .await;
        assert!(error.holder.unwrap().time_left.is_some() && error.hint.starts_with("SO_REUSEADDR"), "{}", error.hint);
        assert!(ask(&agent, port(&used.to_string(), pb::Transport::Tcp)).await.unwrap().available);
    }
}

#[tokio::test]
async fn addresses_are_read_as_everywhere() {
    let resolver = Some(Arc::new(SmallResolver) as _);
    let agent = Agent::start_with(AgentConfig { resolver, ..AgentConfig::default() }).await;
    let error = objection(&agent, port("nobody:80", pb::Transport::Tcp)).await;
    assert_eq!((error.name.as_str(), error.operation()), ("EAI_NONAME", pb::Operation::LookUp));
    for (foreign, family) in [("192.0.2.1:4711", pb::Family::Ipv4), ("[2001:db8::1]:4711", pb::Family::Ipv6)] {
        let error = objection(&agent, port(foreign, pb::Transport::Tcp)).await;
        assert_eq!((error.name.as_str(), error.holder), ("EADDRNOTAVAIL", None));
        let named = pb::CheckPortRequest { family: family.into(), ..port("lab-b:4711", pb::Transport::Udp) };
        let tried = ask(&agent, named).await.unwrap().local.unwrap();
        assert_eq!(tried.family(), family);
    }
    let reusing = pb::CheckPortRequest { reuse_address: Some(true), ..port("127.0.0.1:9", pb::Transport::Udp) };
    for (request, told) in [
        (port("127.0.0.1:0", pb::Transport::Tcp), "local: a port from 1 on is needed"),
        (port("127.0.0.1", pb::Transport::Tcp), "local: "),
        (port("", pb::Transport::Tcp), "local: "),
        (port("[::1%nope]:9", pb::Transport::Tcp), "local: there is no interface `nope`"),
        (reusing, "reuse_address: it is for TCP"),
    ] {
        let refused = ask(&agent, request).await.unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
        assert!(refused.message.contains(told), "{}", refused.message);
    }
    let agent =
        Agent::start_with(AgentConfig { resolver: Some(Arc::new(SilentResolver)), ..AgentConfig::default() }).await;
    let patient = pb::CheckPortRequest { timeout: millis(20), ..port("lab-b:80", pb::Transport::Tcp) };
    let answer = ask(&agent, patient).await.unwrap();
    assert!(answer.timed_out && !answer.available && answer.error.is_none());
}

/// Nobody learns of a port that he could not bind to, and nothing of somebody else's socket but that it is one.
#[tokio::test]
async fn the_policy_is_obeyed() {
    let (lab, folder) = (Certificates::new(), TempDir::new().unwrap());
    let policy = folder.path().join("policy.yaml");
    let principals = "principals: { alice: student, bob: student, vera: viewer }";
    let rules = "rules: [{ allow: [bind, listen], addresses: [127.0.0.2, \"::1\"] }]";
    fs::write(&policy, format!("policy: Course\n{principals}\n{rules}\n")).unwrap();
    let config = AgentConfig { policy_file: Some(policy), ..lab.config("127.0.0.1:0") };
    let agent = Agent::start_with(config).await;
    let address = agent.tcp().to_string();
    let client = |name: &str| Agent::at(tls_channel(&address, &lab.controller(name)));
    let (alice, bob, vera) = (client("alice"), client("bob"), client("vera"));
    for allowed in ["127.0.0.2:0", "[::1]:0"] {
        let door = alice.listen("door", allowed).await;
        let error = objection(&bob, port(&door, pb::Transport::Tcp)).await;
        let holder = error.holder.unwrap();
        assert!(holder.other_principal && holder.socket_id.is_empty() && holder.local.is_none(), "{holder:?}");
        let refused = ask(&vera, port(&door, pb::Transport::Tcp)).await.unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (Code::PermissionDenied, "ROLE_DENIED"));
        alice.close("door").await;
    }
    for denied in ["127.0.0.3:4711", "[::]:4711", "[::ffff:127.0.0.3]:4711", "0.0.0.0:4711"] {
        for transport in [pb::Transport::Tcp, pb::Transport::Udp] {
            let refused = ask(&bob, port(denied, transport)).await.unwrap_err();
            assert_eq!((refused.code, refused.reason.as_str()), (Code::PermissionDenied, "POLICY_DENIED"), "{denied}");
        }
    }
    agent.stop().await;
}
