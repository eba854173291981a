//! With whom a socket has connections: `deny` and `allow`, on both sides of a connection, over IPv4 and IPv6.

use std::sync::Arc;

use farsock::agent::AgentConfig;
use farsock::wire::pb;
use tonic::Code;

use crate::harness::tcp::{any_port, connecting_to, listening_on, went};
use crate::harness::{Agent, LOOPBACKS, SmallResolver, TcpPeer};

fn lists(deny: &[&str], allow: &[&str], spec: pb::TcpSocketSpec) -> pb::TcpSocketSpec {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    pb::TcpSocketSpec { deny: texts(deny), allow: texts(allow), ..spec }
}

/// A peer that may not come in sees a handshake and then a RST, takes no name, and counts for no limit.
#[tokio::test]
async fn whoever_is_denied_is_reset_and_told() {
    for ip in LOOPBACKS {
        let me = ip.to_string();
        for (deny, allow) in [(vec![me.as_str()], vec![]), (vec![], vec!["192.0.2.0/24", "2001:db8::1-2001:db8::9"])] {
            let agent = Agent::start().await;
            let spec = pb::TcpSocketSpec { max_accepts: Some(1), ..Default::default() };
            let door = agent.listen_with("door", &any_port(ip), lists(&deny, &allow, spec)).await;
            let mut peer = TcpPeer::connect(&door).await;
            let dropped = agent.event("door", "connection_dropped").await;
            let Some(pb::event::Body::ConnectionDropped(dropped)) = dropped.body else { panic!() };
            assert_eq!(dropped.reason(), pb::ConnectionDropReason::Denied);
            assert_eq!(dropped.remote.unwrap().text, peer.0.local_addr().unwrap().to_string());
            assert_eq!(peer.read_to_end().await.unwrap_err().raw_os_error(), Some(libc::ECONNRESET));
            let shown = agent.socket("door").await;
            assert_eq!((shown.deny.len(), shown.allow.len()), (deny.len(), allow.len()));
            let listener = shown.listener.unwrap();
            assert_eq!((listener.accepted_total(), listener.dropped_total(), listener.connection_count()), (0, 1, 0));
            assert_eq!(agent.kinds("door").await.iter().filter(|kind| *kind == "accept_paused").count(), 0);
        }
    }
}

#[tokio::test]
async fn whoever_is_not_denied_or_is_allowed_comes_in() {
    for ip in LOOPBACKS {
        let me = format!("{ip}-{ip}");
        for (deny, allow) in [(vec!["192.0.2.1"], vec![]), (vec![], vec![me.as_str()])] {
            let agent = Agent::start().await;
            let door = agent.listen_with("door", &any_port(ip), lists(&deny, &allow, Default::default())).await;
            TcpPeer::connect(&door).await.write(b"hola").await;
            assert_eq!(agent.receive_text("door.1").await, "hola");
            let child = agent.socket("door.1").await;
            assert!(child.deny.is_empty() && child.allow.is_empty());
        }
    }
}

/// Somebody who accepts one by one gets the first who may come in.
#[tokio::test]
async fn accept_socket_passes_over_whoever_is_denied() {
    let agent = Agent::start().await;
    let spec = pb::TcpSocketSpec { accept: pb::AcceptPolicy::Manual.into(), ..Default::default() };
    let door = agent.listen_with("door", "127.0.0.1:0", lists(&["127.0.0.2"], &[], spec)).await;
    let from = |host: &str| pb::TcpSocketSpec { bind: format!("{host}:0"), ..connecting_to(&door) };
    agent.create_tcp("bad", from("127.0.0.2")).await.unwrap();
    agent.create_tcp("good", from("127.0.0.3")).await.unwrap();
    let accept = pb::AcceptSocketRequest { socket_id: "door".into(), ..Default::default() };
    let taken = agent.accept_socket(accept).await.unwrap().socket.unwrap();
    assert_eq!((taken.socket_id.as_str(), taken.remote.unwrap().address.as_str()), ("door.1", "127.0.0.3"));
    assert_eq!(agent.closed("bad").await.reason(), pb::CloseReason::PeerReset);
}

/// An IPv4 peer of an IPv6 listener is known by its IPv4 address.
#[tokio::test]
async fn a_mapped_address_counts_as_the_ipv4_address() {
    let agent = Agent::start().await;
    let both = pb::SocketOption { name: "IPV6_V6ONLY".into(), value: Some(pb::socket_option::Value::Enabled(false)) };
    let spec = pb::TcpSocketSpec { options: vec![both], ..Default::default() };
    let door = agent.listen_with("door", "[::]:0", lists(&["127.0.0.0/8"], &[], spec)).await;
    let port = door.rsplit(':').next().unwrap();
    let mut peer = TcpPeer::connect(&format!("127.0.0.1:{port}")).await;
    assert_eq!(peer.read_to_end().await.unwrap_err().raw_os_error(), Some(libc::ECONNRESET));
    TcpPeer::connect(&format!("[::1]:{port}")).await.write(b"six").await;
    assert_eq!(agent.receive_text("door.1").await, "six");
}

#[tokio::test]
async fn a_socket_does_not_connect_to_what_it_denies() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let door = agent.listen("door", &any_port(ip)).await;
        let refused = agent.create_tcp("line", lists(&[&ip.to_string()], &[], connecting_to(&door))).await.unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (Code::FailedPrecondition, "ADDRESS_DENIED"));
        assert_eq!(
            refused.message,
            format!("socket `line` has no connections with {ip}, by `deny` or `allow` of its creation")
        );
        // Nothing was made, and nobody was called.
        assert_eq!(agent.kinds("line").await.len(), 0);
        // One that is there keeps to its lists, too.
        let spec = pb::TcpSocketSpec { family: agent.socket("door").await.family, ..Default::default() };
        agent.create_tcp("line", lists(&[], &["192.0.2.1", "2001:db8::1"], spec)).await.unwrap();
        let connect = pb::ConnectSocketRequest { socket_id: "line".into(), remote: door.clone(), ..Default::default() };
        assert_eq!(went(&agent.connect_socket(connect).await), "ADDRESS_DENIED");
        assert_eq!(agent.socket("line").await.state(), pb::SocketState::Unbound);
        assert_eq!(agent.socket("door").await.listener.unwrap().accepted_total(), 0);
    }
}

/// Of a name's addresses those that are denied are not tried.
#[tokio::test]
async fn of_a_name_only_the_addresses_that_are_left_are_tried() {
    let config = AgentConfig { resolver: Some(Arc::new(SmallResolver)), ..Default::default() };
    let agent = Agent::start_with(config).await;
    let door = agent.listen("door", "127.0.0.3:0").await;
    let port = door.rsplit(':').next().unwrap();
    let line =
        agent.create_tcp("line", lists(&["127.0.0.2"], &[], connecting_to(&format!("lab-b:{port}")))).await.unwrap();
    assert_eq!(line.socket.unwrap().remote.unwrap().text, door);
    assert_eq!(agent.events_of("line", "connect_started").await.len(), 1);
}

#[tokio::test]
async fn a_list_that_is_none_is_refused_by_its_entry() {
    let agent = Agent::start().await;
    for (deny, allow, field) in [
        (vec!["10.0.0.0/8", "10.0.0.1/8"], vec![], "tcp.deny[1]: "),
        (vec![], vec!["lab-a"], "tcp.allow[0]: "),
        (vec!["fe80::1%lo"], vec![], "tcp.deny[0]: "),
        (vec!["10.0.0.1"; 257], vec![], "tcp.deny: "),
    ] {
        let refused = agent.create_tcp("s", lists(&deny, &allow, listening_on("127.0.0.1:0"))).await.unwrap_err();
        assert_eq!(refused.code, Code::InvalidArgument);
        assert!(refused.message.starts_with(field), "{refused:?}");
    }
    agent.create_tcp("s", lists(&["10.0.0.1"; 256], &[], listening_on("127.0.0.1:0"))).await.unwrap();
}
