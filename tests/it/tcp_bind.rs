//! Binding: every way to say a local address, and what the kernel has against it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use farsock::agent::AgentConfig;
use farsock::wire::pb;
use tonic::Code;

use crate::harness::tcp::{Reported, answered, any_port, connecting_to, listening_on, plain_tcp, went};
use crate::harness::{Agent, LOOPBACKS, Names, TcpPeer};

fn bound_to(bind: &str) -> pb::TcpSocketSpec {
    pb::TcpSocketSpec { bind: bind.into(), ..Default::default() }
}

fn shared(spec: pb::TcpSocketSpec) -> pb::TcpSocketSpec {
    let value = Some(pb::socket_option::Value::Enabled(true));
    pb::TcpSocketSpec { options: vec![pb::SocketOption { name: "SO_REUSEPORT".into(), value }], ..spec }
}

fn bind(id: &str, local: &str) -> pb::BindSocketRequest {
    pb::BindSocketRequest { socket_id: id.into(), local: local.into(), ..Default::default() }
}

#[tokio::test]
async fn port_zero_gets_the_real_port() {
    let agent = Agent::start().await;
    for ip in LOOPBACKS {
        let created = agent.create_tcp("", bound_to(&any_port(ip))).await.unwrap();
        let socket = created.socket.unwrap();
        let local = socket.local.clone().unwrap();
        assert_eq!((socket.state(), local.address.as_str()), (pb::SocketState::Bound, ip.to_string().as_str()));
        assert_ne!(local.port, 0);
        assert_eq!(agent.socket(&socket.socket_id).await.local.unwrap(), local);
        let Some(pb::event::Body::Bound(bound)) = agent.event(&socket.socket_id, "bound").await.body else { panic!() };
        assert_eq!(bound.local.unwrap(), local);
        assert_eq!(agent.kinds(&socket.socket_id).await, ["created", "bound"]);
    }
}

/// The port is one that another socket shares, so that it cannot be lost to somebody else.
#[tokio::test]
async fn an_address_can_be_chosen_and_shared() {
    let agent = Agent::start().await;
    for ip in LOOPBACKS {
        let first = agent.create_tcp("", shared(bound_to(&any_port(ip)))).await.unwrap().socket.unwrap();
        let address = first.local.unwrap().text;
        let second = agent.create_tcp("", shared(bound_to(&address))).await.unwrap();
        assert_eq!(second.went(), "ok");
        assert_eq!(second.socket.unwrap().local.unwrap().text, address);
    }
}

#[tokio::test]
async fn a_used_address_is_a_result_and_the_socket_can_take_another_one() {
    let agent = Agent::start().await;
    for ip in LOOPBACKS {
        let (_listener, used) = TcpPeer::listen(ip).await;
        for spec in [bound_to(&used.to_string()), listening_on(&used.to_string())] {
            let created = agent.create_tcp("", spec).await.unwrap();
            let error = created.report.as_ref().unwrap().error.clone().unwrap();
            assert_eq!((error.name.as_str(), error.operation()), ("EADDRINUSE", pb::Operation::Bind));
            assert_eq!(error.local.unwrap().text, used.to_string());
            let socket = created.socket.unwrap();
            assert_eq!((socket.state(), socket.local), (pb::SocketState::Unbound, None));
            assert_eq!(agent.kinds(&socket.socket_id).await, ["created", "failed"]);

            let bound = agent.bind_socket(bind(&socket.socket_id, &any_port(ip))).await.unwrap();
            assert_eq!((bound.went(), bound.socket.unwrap().state()), ("ok".into(), pb::SocketState::Bound));
        }
    }
}

#[tokio::test]
async fn an_address_of_another_host_is_a_result() {
    let agent = Agent::start().await;
    for address in ["192.0.2.1:0", "[2001:db8::1]:0"] {
        let created = agent.create_tcp("", bound_to(address)).await.unwrap();
        assert_eq!(
            (created.went(), created.socket.unwrap().state()),
            ("EADDRNOTAVAIL".into(), pb::SocketState::Unbound)
        );
    }
}

#[tokio::test]
async fn a_name_is_looked_up() {
    for ip in LOOPBACKS {
        let agent = Agent::start_with(Names::host("here.test", &[ip]).config()).await;
        let created = agent.create_tcp("door", listening_on("here.test:0")).await.unwrap();
        assert_eq!(created.went(), "ok");
        assert_eq!(created.socket.unwrap().local.unwrap().address, ip.to_string());
        assert_eq!(agent.kinds("door").await, ["created", "looked_up", "bound", "listening"]);
        let Some(pb::event::Body::LookedUp(found)) = agent.event("door", "looked_up").await.body else { panic!() };
        assert_eq!((found.host, found.addresses), ("here.test".into(), vec![ip.to_string()]));

        // With BindSocket the socket, which is there already, decides the family.
        let family = if ip.is_ipv4() { pb::Family::Ipv4 } else { pb::Family::Ipv6 };
        agent.create_tcp("later", pb::TcpSocketSpec { family: family.into(), ..Default::default() }).await.unwrap();
        let bound = agent.bind_socket(bind("later", "here.test:0")).await.unwrap();
        assert_eq!(bound.socket.unwrap().local.unwrap().address, ip.to_string());
        let other = if ip.is_ipv4() { pb::Family::Ipv6 } else { pb::Family::Ipv4 };
        agent.create_tcp("other", pb::TcpSocketSpec { family: other.into(), ..Default::default() }).await.unwrap();
        assert_eq!(went(&agent.bind_socket(bind("other", "here.test:0")).await), "EAI_NONAME");
    }
}

#[tokio::test]
async fn localhost_is_known_to_the_system() {
    let agent = Agent::start().await;
    let door = agent.listen("door", "localhost:0").await;
    agent.connect("line", &door).await;
    assert!(door.parse::<SocketAddr>().unwrap().ip().is_loopback(), "{door}");
}

#[tokio::test]
async fn a_service_name_stands_for_its_port() {
    for ip in LOOPBACKS {
        // A port that is taken, so that the kernel's objection tells which one was tried.
        let (_listener, used) = TcpPeer::listen(ip).await;
        let agent = Agent::start_with(Names::default().and_service("lab-test", used.port()).config()).await;
        let host = if ip.is_ipv4() { ip.to_string() } else { format!("[{ip}]") };
        let created = agent.create_tcp("door", bound_to(&format!("{host}:lab-test"))).await.unwrap();
        let error = created.report.unwrap().error.unwrap();
        assert_eq!((error.name.as_str(), error.local.unwrap().text), ("EADDRINUSE", used.to_string()));

        let unknown = agent.bind_socket(bind("door", &format!("{host}:no-such"))).await.unwrap();
        let error = unknown.report.unwrap().error.unwrap();
        assert_eq!((error.name.as_str(), error.operation()), ("EAI_SERVICE", pb::Operation::LookUp));
    }
}

/// The kernel tells one link from another, and what it has against each.
#[tokio::test]
async fn a_link_local_address_needs_its_zone() {
    let agent = Agent::start().await;
    for (address, answer) in [
        ("[fe80::f00d]:0", "EINVAL"),
        ("[fe80::f00d%lo]:0", "EADDRNOTAVAIL"),
        ("[fe80::f00d%1]:0", "EADDRNOTAVAIL"),
        ("[::1%lo]:0", "ok"),
    ] {
        assert_eq!(went(&agent.create_tcp("", bound_to(address)).await), answer, "{address}");
    }
    let refused = agent.create_tcp("door", bound_to("[fe80::f00d%nosuch0]:0")).await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
    assert!(refused.message.contains("tcp.bind") && refused.message.contains("nosuch0"), "{}", refused.message);
    // No half-made socket is left behind.
    let request = pb::GetSocketRequest { socket_id: "door".into(), ..Default::default() };
    assert_eq!(agent.sockets().get_socket(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn the_lab_address_stands_for_a_host_that_is_not_named() {
    let lab = Ipv4Addr::new(127, 7, 7, 7);
    let config = AgentConfig { lab_ipv4: Some(lab), lab_ipv6: Some(Ipv6Addr::LOCALHOST), ..AgentConfig::default() };
    let agent = Agent::start_with(config).await;
    for (family, ip) in [(pb::Family::Ipv4, IpAddr::V4(lab)), (pb::Family::Ipv6, Ipv6Addr::LOCALHOST.into())] {
        for address in [":0", "0"] {
            let spec = pb::TcpSocketSpec { family: family.into(), ..listening_on(address) };
            let socket = agent.create_tcp("", spec).await.unwrap().socket.unwrap();
            assert_eq!(socket.local.unwrap().address, ip.to_string());
        }
        // Also where nothing is said at all.
        let spec = pb::TcpSocketSpec { family: family.into(), ..listening_on("") };
        let socket = agent.create_tcp("", spec).await.unwrap().socket.unwrap();
        assert_eq!(socket.local.unwrap().address, ip.to_string());
        assert_eq!(agent.kinds(&socket.socket_id).await, ["created", "bound", "listening"]);
    }
}

#[tokio::test]
async fn without_a_lab_address_all_addresses_are_meant() {
    let agent = Agent::start().await;
    for (family, wildcard) in [(pb::Family::Ipv4, "0.0.0.0"), (pb::Family::Ipv6, "::")] {
        for spec in [listening_on(":0"), listening_on(""), bound_to(":0")] {
            let spec = pb::TcpSocketSpec { family: family.into(), ..spec };
            let socket = agent.create_tcp("", spec).await.unwrap().socket.unwrap();
            assert_eq!(socket.local.unwrap().address, wildcard);
        }
    }
}

#[tokio::test]
async fn ipv6_sockets_take_no_ipv4_unless_told_to() {
    let agent = Agent::start().await;
    agent.listen("six", "[::]:0").await;
    let request = pb::GetSocketOptionsRequest {
        socket_id: "six".into(),
        names: vec!["IPV6_V6ONLY".into()],
        ..Default::default()
    };
    let options = agent.sockets().get_socket_options(request).await.unwrap().into_inner().options;
    assert_eq!(options[0].effective.as_ref().unwrap().value, Some(pb::socket_option::Value::Enabled(true)));

    let value = Some(pb::socket_option::Value::Enabled(false));
    let off = pb::SocketOption { name: "IPV6_V6ONLY".into(), value };
    let both =
        agent.listen_with("both", "[::]:0", pb::TcpSocketSpec { options: vec![off], ..Default::default() }).await;
    let port = both.parse::<SocketAddr>().unwrap().port();
    let line = agent.connect("line", &format!("127.0.0.1:{port}")).await;
    agent.event("both", "accepted").await;
    let child = agent.socket("both.1").await;
    assert_eq!(child.family(), pb::Family::Ipv6);
    assert_eq!(child.remote.unwrap().text, format!("[::ffff:127.0.0.1]:{}", line.local.unwrap().port));
}

/// An address whose last connection is in TIME_WAIT can be listened on again, as a server that is started anew wants it.
#[tokio::test]
async fn a_listener_takes_an_address_in_time_wait() {
    let agent = Agent::start().await;
    for ip in LOOPBACKS {
        let address = agent.listen("door", &any_port(ip)).await;
        agent.create_tcp("line", connecting_to(&address)).await.unwrap();
        let child = agent.event("door", "accepted").await;
        let Some(pb::event::Body::Accepted(child)) = child.body else { panic!() };
        // The side that ends first keeps the connection in TIME_WAIT.
        agent.close(&child.accepted_id).await;
        agent.event("line", "peer_closed").await;
        agent.close("line").await;
        agent.close("door").await;
        assert_eq!(agent.listen("door", &address).await, address);
        agent.sessions().reset_session(pb::ResetSessionRequest::default()).await.unwrap();
    }
}

/// It takes the address of a socket away that has lost its port, and no event tells that.
#[tokio::test]
async fn what_a_failed_bind_does_to_the_address_is_shown() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let taken = agent.listen("door", &any_port(ip)).await;
        let (plain, nobody) = (plain_tcp(ip), SocketAddr::new(ip, 1));
        agent.create_tcp("s", pb::TcpSocketSpec { bind: any_port(ip), ..Default::default() }).await.unwrap();
        plain.bind(&SocketAddr::new(ip, 0).into()).unwrap();
        let connect =
            pb::ConnectSocketRequest { socket_id: "s".into(), remote: nobody.to_string(), ..Default::default() };
        assert_eq!(went(&agent.connect_socket(connect).await), "ECONNREFUSED");
        plain.set_nonblocking(false).unwrap();
        plain.connect(&nobody.into()).unwrap_err();
        assert_eq!(went(&agent.bind_socket(bind("s", &taken)).await), "EADDRINUSE");
        plain.bind(&taken.parse::<SocketAddr>().unwrap().into()).unwrap_err();

        let local = plain.local_addr().unwrap().as_socket().unwrap();
        let shown = agent.socket("s").await.local.map(|shown| shown.address);
        assert_eq!(shown, (local.port() != 0).then(|| local.ip().to_string()));
    }
}

/// A bind that fails takes the address away from a socket whose connection has ended: the view says so, as getsockname(2) does.
#[tokio::test]
async fn a_bind_that_fails_moves_the_socket_of_an_ended_connection() {
    let agent = Agent::start().await;
    for ip in LOOPBACKS {
        // Connected to itself and ended both ways: TIME_WAIT has the port, and the socket is free to be bound again.
        let plain = plain_tcp(ip);
        plain.bind(&SocketAddr::new(ip, 0).into()).unwrap();
        let here = plain.local_addr().unwrap();
        let _ = plain.connect(&here);
        plain.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(answered(plain.bind(&here)), "EADDRINUSE");
        let kernel = plain.local_addr().unwrap().as_socket().unwrap().ip();
        assert!(kernel.is_unspecified());

        let id = if ip.is_ipv4() { "four" } else { "six" };
        let created = agent.create_tcp(id, bound_to(&any_port(ip))).await.unwrap();
        let here = created.socket.unwrap().local.unwrap().text;
        let remote = here.clone();
        let connect = pb::ConnectSocketRequest { socket_id: id.into(), remote, ..Default::default() };
        assert_eq!(went(&agent.connect_socket(connect).await), "ok");
        assert_eq!(agent.shut_down(id, pb::ShutdownHow::Send).await.went(), "ok");
        agent.event(id, "peer_closed").await;
        assert_eq!(went(&agent.bind_socket(bind(id, &here)).await), "EADDRINUSE");
        assert_eq!(agent.socket(id).await.local.unwrap().address, kernel.to_string());
    }
}
