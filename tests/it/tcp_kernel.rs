//! What the kernel knows of a connection: its state by RFC 9293, also after the socket is closed, and TCP_INFO.

use farsock::wire::pb;
use pb::TcpState::{CloseWait, Closed, Established, FinWait2, Listen, TimeWait, Unspecified};

use crate::harness::{Agent, LOOPBACKS, Lab, TcpPeer, within};

/// Waits until the kernel has a socket in this state; no event tells of it.
async fn becomes(agent: &Agent, id: &str, state: pb::TcpState) {
    let looked = async {
        while agent.socket(id).await.tcp_state() != state {
            tokio::task::yield_now().await;
        }
    };
    within(&format!("{state:?} of {id}"), looked).await;
}

async fn info(agent: &Agent, id: &str) -> pb::GetSocketResponse {
    let request = pb::GetSocketRequest { socket_id: id.into(), tcp_info: true, ..Default::default() };
    agent.sockets().get_socket(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn the_state_is_that_of_the_kernel_from_the_first_moment_to_the_last() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        agent
            .create_tcp("idle", pb::TcpSocketSpec { bind: format!("{}:0", host(ip)), ..Default::default() })
            .await
            .unwrap();
        assert_eq!(agent.socket("idle").await.tcp_state(), Closed, "nothing yet");
        let door = agent.listen("door", &format!("{}:0", host(ip))).await;
        assert_eq!(agent.socket("door").await.tcp_state(), Listen);
        agent.connect("line", &door).await;
        agent.event("door.1", "created").await;
        assert_eq!(agent.socket("line").await.tcp_state(), Established);

        // The side that ends first waits for the other one, and then for old segments; also when nobody holds it any more.
        agent.close("line").await;
        agent.event("door.1", "peer_closed").await;
        becomes(&agent, "line", FinWait2).await;
        assert_eq!(agent.socket("line").await.state(), pb::SocketState::Closed);
        assert_eq!(agent.socket("door.1").await.tcp_state(), CloseWait);
        agent.close("door.1").await;
        becomes(&agent, "line", TimeWait).await;
        becomes(&agent, "door.1", Unspecified).await;

        // After a reset there is nothing left to be told.
        agent.connect("rude", &door).await;
        agent.event("door.2", "created").await;
        agent.abort("rude").await;
        agent.event("door.2", "closed").await;
        becomes(&agent, "rude", Unspecified).await;
        becomes(&agent, "door.2", Unspecified).await;
    }
}

#[tokio::test]
async fn tcp_info_counts_what_went_through() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let (listener, address) = TcpPeer::listen(ip).await;
        agent.connect("line", &address.to_string()).await;
        let mut peer = TcpPeer::accept(&listener).await;
        agent.write("line", "hola que tal\r\n").await;
        assert_eq!(peer.read(14).await, b"hola que tal\r\n");
        peer.write(b"hola").await;
        agent.receive_text("line").await;

        let told = info(&agent, "line").await.tcp_info.unwrap();
        assert_eq!((told.bytes_sent, told.bytes_received), (Some(14), Some(4)), "{told:?}");
        assert_eq!((told.bytes_retransmitted, told.total_retransmits), (Some(0), Some(0)));
        assert_eq!(told.data_segments_sent, Some(1));
        assert!(told.send_mss.unwrap() > 1000 && told.congestion_window.unwrap() > 0, "{told:?}");
        assert!(told.retransmission_timeout.is_some() && told.round_trip_time.is_some(), "{told:?}");

        // Only where it is asked for, and where there is one.
        let request = pb::GetSocketRequest { socket_id: "line".into(), ..Default::default() };
        assert_eq!(agent.sockets().get_socket(request).await.unwrap().into_inner().tcp_info, None);
        agent.close("line").await;
        assert_eq!(info(&agent, "line").await.tcp_info, None);
    }
}

#[tokio::test]
async fn udp_sockets_have_neither() {
    let agent = Agent::start().await;
    agent.create_udp("box", pb::UdpSocketSpec { bind: "127.0.0.1:0".into(), ..Default::default() }).await.unwrap();
    let told = info(&agent, "box").await;
    assert_eq!((told.socket.unwrap().tcp_state(), told.tcp_info), (Unspecified, None));
}

#[tokio::test]
async fn the_agent_lists_the_congestion_controls_that_can_be_set() {
    let agent = Agent::start().await;
    let listed = agent.agent().get_agent(pb::GetAgentRequest {}).await.unwrap().into_inner().agent.unwrap();
    assert!(listed.congestion_controls.contains(&"reno".to_owned()), "{:?}", listed.congestion_controls);
}

fn host(ip: std::net::IpAddr) -> String {
    if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() }
}

/// The kernel tells of a connection that is bound to an interface only to those who name that one.
#[tokio::test]
async fn a_closed_connection_is_found_also_by_the_interface_that_it_was_bound_to() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let (listener, address) = TcpPeer::listen(ip).await;
        let bound = pb::socket_option::Value::Text("lo".into());
        let options = vec![pb::SocketOption { name: "SO_BINDTODEVICE".into(), value: Some(bound) }];
        let spec = pb::TcpSocketSpec { options, ..Default::default() };
        agent.connect_with("line", &address.to_string(), spec).await;
        let peer = TcpPeer::accept(&listener).await;
        agent.close("line").await;
        becomes(&agent, "line", FinWait2).await;
        drop(peer);
        becomes(&agent, "line", TimeWait).await;
    }
}

/// A link-local address means one on each interface: connections of it are bound to theirs.
#[tokio::test]
async fn a_closed_connection_of_a_link_local_address_is_found() {
    let Some(lab) = Lab::new().await else { return };
    for (namespace, number) in [(lab.left_namespace(), 1), (lab.right_namespace(), 2)] {
        namespace.ip(&format!("address add fe80::77:{number}/64 nodad dev red"));
    }
    lab.right.listen("door", "[fe80::77:2%red]:0").await;
    let port = lab.right.socket("door").await.local.unwrap().port;
    lab.left.connect("line", &format!("[fe80::77:2%red]:{port}")).await;
    lab.right.event("door", "accepted").await;
    lab.left.close("line").await;
    becomes(&lab.left, "line", FinWait2).await;
    lab.right.close("door.1").await;
    becomes(&lab.left, "line", TimeWait).await;
    lab.stop().await;
}
