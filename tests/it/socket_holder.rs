//! Who has the address that a socket could not get: named where it is known, in the reply of the call that failed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use farsock::wire::pb;
use pb::socket_option::Value;

use crate::harness::tcp::{Reported, any_port, connecting_to, listening_on};
use crate::harness::{Agent, LOOPBACKS, within};

fn bound_to(bind: &str) -> pb::TcpSocketSpec {
    pb::TcpSocketSpec { bind: bind.into(), ..Default::default() }
}

fn with(name: &str, on: bool, spec: pb::TcpSocketSpec) -> pb::TcpSocketSpec {
    let option = pb::SocketOption { name: name.into(), value: Some(Value::Enabled(on)) };
    pb::TcpSocketSpec { options: vec![option], ..spec }
}

fn wildcard(ip: IpAddr) -> IpAddr {
    if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

fn port_of(address: &str) -> u16 {
    address.parse::<SocketAddr>().unwrap().port()
}

/// The error of a call that failed for want of an address, and who has that.
fn missed(answer: &impl Reported) -> (pb::SocketError, pb::AddressHolder) {
    let error = answer.report().error.clone().unwrap();
    let holder = error.holder.clone().unwrap_or_else(|| panic!("{}", error.message));
    (error, holder)
}

/// What a bind to this address by another socket of the agent is answered.
async fn bind(agent: &Agent, address: SocketAddr) -> (pb::SocketError, pb::AddressHolder) {
    missed(&agent.create_tcp("", bound_to(&address.to_string())).await.unwrap())
}

#[tokio::test]
async fn a_socket_of_the_callers_own_is_named() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let address: SocketAddr = agent.listen("door", &any_port(ip)).await.parse().unwrap();
        let uid = agent.socket("door").await.socket_uid;
        for wanted in [address, SocketAddr::new(wildcard(ip), address.port())] {
            let (error, holder) = bind(&agent, wanted).await;
            assert_eq!((error.name.as_str(), error.operation()), ("EADDRINUSE", pb::Operation::Bind));
            let named = (holder.session_id.as_str(), holder.socket_id.as_str(), holder.socket_uid);
            assert_eq!(named, ("default", "door", uid));
            assert_eq!((holder.local.unwrap().text, holder.remote), (address.to_string(), None));
            let line = format!(
                "bind on {wanted}: address already in use, by socket `door` of session `default` on {address} (EADDRINUSE)"
            );
            assert_eq!(error.message, line);
            assert!(error.hint.starts_with("close it first"), "{}", error.hint);
        }
        // The log tells what the kernel said, and does not wait for more.
        let failed = agent.event("s1", "failed").await;
        let Some(pb::event::Body::Failed(failed)) = failed.body else { panic!() };
        assert_eq!(failed.error.unwrap().holder, None);

        // A listener that is gone may have left connections that have its address.
        agent.connect("line", &address.to_string()).await;
        agent.event("door.1", "created").await;
        agent.close("door").await;
        let (_, holder) = bind(&agent, address).await;
        assert_eq!((holder.socket_id.as_str(), holder.tcp_state()), ("door.1", pb::TcpState::Established));
        assert_eq!(holder.remote, agent.socket("door.1").await.remote);
    }
}

#[tokio::test]
async fn a_socket_of_another_session_is_named_with_its_session() {
    let agent = Agent::start().await;
    agent.create_session("red").await.unwrap();
    for ip in LOOPBACKS {
        let request = pb::CreateSocketRequest {
            session_id: "red".into(),
            kind: Some(pb::create_socket_request::Kind::Tcp(listening_on(&any_port(ip)))),
            ..Default::default()
        };
        let door = agent.create_socket(request).await.unwrap().socket.unwrap();
        let (error, holder) = bind(&agent, door.local.unwrap().text.parse().unwrap()).await;
        assert_eq!((holder.session_id.as_str(), &holder.socket_id), ("red", &door.socket_id));
        assert!(
            error.message.contains(&format!("by socket `{}` of session `red`", door.socket_id)),
            "{}",
            error.message
        );
    }
}

#[tokio::test]
async fn a_process_is_named_by_its_number_and_name() {
    let agent = Agent::start().await;
    for ip in LOOPBACKS {
        for bound in [ip, wildcard(ip)] {
            let listener = TcpListener::bind((bound, 0)).unwrap();
            let used = listener.local_addr().unwrap();
            let (error, holder) = bind(&agent, SocketAddr::new(ip, used.port())).await;
            assert_eq!((holder.process_id, &*holder.session_id), (std::process::id(), ""));
            assert_eq!((holder.tcp_state(), holder.user_id), (pb::TcpState::Listen, None));
            let name = std::fs::read_to_string("/proc/self/comm").unwrap();
            assert_eq!(holder.process_name, name.trim_end());
            let named = format!("by process {} ({}) on {used}", std::process::id(), name.trim_end());
            assert!(error.message.contains(&named), "{}", error.message);
        }
    }
}

/// An IPv6 socket on the wildcard address has the port of IPv4, too, unless it takes only IPv6.
#[tokio::test]
async fn both_families_can_be_in_the_way() {
    let agent = Agent::start().await;
    let both = with("IPV6_V6ONLY", false, listening_on("[::]:0"));
    let door = agent.create_tcp("door", both).await.unwrap().socket.unwrap();
    let port = port_of(&door.local.unwrap().text);
    let (_, holder) = bind(&agent, SocketAddr::new(LOOPBACKS[0], port)).await;
    assert_eq!(holder.socket_id, "door");

    let plain = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).unwrap();
    plain.set_only_v6(false).unwrap();
    plain.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into()).unwrap();
    plain.listen(1).unwrap();
    let used = plain.local_addr().unwrap().as_socket().unwrap();
    let (_, holder) = bind(&agent, SocketAddr::new(LOOPBACKS[0], used.port())).await;
    assert_eq!((holder.process_id, holder.local.unwrap().text), (std::process::id(), used.to_string()));
}

/// A connection that nobody has any more still has its address, and the kernel knows for how long.
#[tokio::test]
async fn what_waits_is_told_with_the_time_that_is_left() {
    let agent = Agent::start().await;
    for ip in LOOPBACKS {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let used = listener.local_addr().unwrap();
        let near = TcpStream::connect(used).unwrap();
        let peer = near.local_addr().unwrap();
        drop((listener.accept().unwrap(), listener));
        drop(near);
        let waits = async {
            loop {
                let (error, holder) = bind(&agent, used).await;
                if holder.tcp_state() == pb::TcpState::TimeWait {
                    return (error, holder);
                }
            }
        };
        let (error, holder) = within("TIME_WAIT", waits).await;
        assert_eq!((holder.process_id, holder.remote.unwrap().text), (0, peer.to_string()));
        let left = holder.time_left.unwrap();
        assert!(left.seconds < 60 || (left.seconds, left.nanos) == (60, 0), "{left:?}");
        assert!(
            error.message.contains(&format!("by a closed connection on {used} with {peer} in TIME_WAIT")),
            "{error:?}"
        );
        assert!(error.hint.starts_with("SO_REUSEADDR"), "{}", error.hint);
        // As it says.
        let reused = with("SO_REUSEADDR", true, bound_to(&used.to_string()));
        assert_eq!(agent.create_tcp("", reused).await.unwrap().went(), "ok");
    }
}

#[tokio::test]
async fn udp_sockets_are_named_likewise() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("box-{at}");
        let own = agent.udp(&id, ip).await;
        let plain = UdpSocket::bind((wildcard(ip), 0)).unwrap();
        let used = SocketAddr::new(ip, plain.local_addr().unwrap().port()).to_string();
        for (address, socket, process) in [(own, id.as_str(), 0), (used, "", std::process::id())] {
            let spec = pb::UdpSocketSpec { bind: address.clone(), ..Default::default() };
            let (_, holder) = missed(&agent.create_udp("", spec).await.unwrap());
            let named = (holder.socket_id.as_str(), holder.process_id, holder.tcp_state());
            assert_eq!(named, (socket, process, pb::TcpState::Unspecified), "{address}");
        }
        // TCP has ports of its own. Somebody else may happen to have one of them, but not eight in a row.
        let mut went = String::new();
        for _ in 0..8 {
            let address = agent.udp("", ip).await;
            went = agent.create_tcp("", bound_to(&address)).await.unwrap().went();
            if went == "ok" {
                break;
            }
        }
        assert_eq!(went, "ok");
    }
}

/// Sockets that share an address find out late that only one of them can have it.
#[tokio::test]
async fn listening_and_connecting_are_told_as_well() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let shared = |spec| with("SO_REUSEADDR", true, spec);
        let first = agent.create_tcp("first", shared(bound_to(&any_port(ip)))).await.unwrap().socket.unwrap();
        let address = first.local.unwrap().text;
        agent.create_tcp("second", shared(bound_to(&address))).await.unwrap();
        let listen = async |id: &str| {
            let request = pb::ListenSocketRequest { socket_id: id.into(), ..Default::default() };
            agent.listen_socket(request).await.unwrap()
        };
        assert_eq!(listen("first").await.went(), "ok");
        let (error, holder) = missed(&listen("second").await);
        assert_eq!((error.operation(), holder.socket_id.as_str()), (pb::Operation::Listen, "first"));

        let door = agent.listen("door", &any_port(ip)).await;
        let from = agent.connect_with("line", &door, shared(bound_to(&any_port(ip)))).await.local.unwrap().text;
        let again = pb::TcpSocketSpec { bind: from.clone(), ..shared(connecting_to(&door)) };
        let (error, holder) = missed(&agent.create_tcp("again", again).await.unwrap());
        assert_eq!((error.name.as_str(), error.operation()), ("EADDRNOTAVAIL", pb::Operation::Connect));
        assert_eq!((holder.socket_id.as_str(), holder.remote.unwrap().text), ("line", door));
    }
}
