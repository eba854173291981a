//! Connecting: to who is there, to who is not, by every kind of address.

use farsock::wire::pb;

use crate::harness::{Agent, LOOPBACKS, TcpPeer};

/// The first five lines that a newcomer types.
#[tokio::test]
async fn bytes_go_both_ways_between_two_agents() {
    for ip in LOOPBACKS {
        let (a, b) = (Agent::start().await, Agent::start().await);
        let bind = if ip.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let door = a.listen("door", bind).await;
        let line = b.connect("line", &door).await;
        b.write("line", "hola\r\n").await;
        assert_eq!(a.receive_text("door.1").await, "hola\r\n");
        a.write("door.1", "¿qué tal?").await;
        assert_eq!(b.receive_text("line").await, "¿qué tal?");

        let accepted = a.event("door", "accepted").await;
        let Some(pb::event::Body::Accepted(accepted)) = accepted.body else { panic!("{accepted:?}") };
        assert_eq!(accepted.remote.unwrap().text, line.local.unwrap().text);
        assert_eq!(accepted.accepted_id, "door.1");
        a.stop().await;
        b.stop().await;
    }
}

#[tokio::test]
async fn a_refused_connect_is_a_result_and_leaves_the_socket_open() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let (listener, address) = TcpPeer::listen(ip).await;
        drop(listener);
        let role = Some(pb::tcp_socket_spec::Role::Connect(address.to_string()));
        let created = agent.create_tcp("line", pb::TcpSocketSpec { role, ..Default::default() }).await.unwrap();
        let error = created.report.unwrap().error.unwrap();
        assert_eq!(
            (error.name.as_str(), error.number, error.operation()),
            ("ECONNREFUSED", 111, pb::Operation::Connect)
        );
        assert_eq!(error.remote.unwrap().text, address.to_string());
        // Linux goes on telling the local address that the attempt had.
        assert!(matches!(created.socket.unwrap().state(), pb::SocketState::Unbound | pb::SocketState::Bound));
        assert_eq!(agent.kinds("line").await, ["created", "connect_started", "connect_failed"]);

        let (listener, address) = TcpPeer::listen(ip).await;
        let request =
            pb::ConnectSocketRequest { socket_id: "line".into(), remote: address.to_string(), ..Default::default() };
        let connected = agent.sockets().connect_socket(request).await.unwrap().into_inner();
        assert_eq!(connected.report.unwrap().error, None);
        assert_eq!(connected.socket.unwrap().state(), pb::SocketState::Connected);
        TcpPeer::accept(&listener).await;
    }
}
