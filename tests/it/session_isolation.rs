//! Sessions never see each other.

use farsock::wire::pb;

use crate::harness::{Agent, LOOPBACKS, Refused, UdpPeer, datagram, filter, millis};

#[tokio::test]
async fn two_sessions_may_use_the_same_names() {
    let agent = Agent::start().await;
    let peer = UdpPeer::bind(LOOPBACKS[0]).await;
    for id in ["red", "blue"] {
        agent.create_session(id).await.unwrap();
    }
    let (red, blue) = (agent.udp_in("red", "s").await, agent.udp_in("blue", "s").await);
    assert_ne!((red.socket_uid, red.local.clone()), (blue.socket_uid, blue.local.clone()));
    let send = async |session: &str, payload: &str| {
        let request = pb::SendDatagramsRequest {
            session_id: session.into(),
            socket_id: "s".into(),
            datagrams: vec![datagram(&peer.text(), payload)],
            ..Default::default()
        };
        agent.sockets().send_datagrams(request).await.unwrap();
    };
    send("red", "from red").await;
    let (payload, from) = peer.receive_text().await;
    assert_eq!((payload.as_str(), from.to_string()), ("from red", red.local.unwrap().text));
    send("blue", "from blue").await;
    assert_eq!(peer.receive_text().await.1.to_string(), blue.local.unwrap().text);

    // Each has its own numbers, from 1.
    for session in ["red", "blue"] {
        let events = agent.all_events(session).await;
        let shown: Vec<_> = events.iter().map(|event| (event.event_seq, event.kind.as_str())).collect();
        assert_eq!(shown, [(1, "created"), (2, "bound"), (3, "sent")]);
    }
    assert!(agent.all_events("").await.is_empty());
    assert_eq!(agent.open_sockets().await, 0);
}

#[tokio::test]
async fn a_socket_of_another_session_does_not_exist() {
    let agent = Agent::start().await;
    agent.create_session("red").await.unwrap();
    let red = agent.udp_in("red", "s").await;
    let get = pb::GetSocketRequest { socket_id: "s".into(), ..Default::default() };
    assert_eq!(Refused::from(agent.sockets().get_socket(get).await.unwrap_err()).reason, "SOCKET_NOT_FOUND");
    // Its number does not lead there either.
    agent.udp("s", LOOPBACKS[0]).await;
    let close =
        pb::CloseSocketRequest { socket_id: "s".into(), socket_uid: Some(red.socket_uid), ..Default::default() };
    assert!(agent.sockets().close_socket(close).await.is_err());
    assert_eq!(agent.open_sockets().await, 1);
}

#[tokio::test]
async fn events_and_answers_stay_in_their_session() {
    let agent = Agent::start().await;
    agent.create_session("red").await.unwrap();
    let peer = UdpPeer::bind(LOOPBACKS[0]).await;
    let red = agent.udp_in("red", "s").await;
    agent.udp("s", LOOPBACKS[0]).await;
    peer.send(&red.local.unwrap().text, b"hola").await;
    let wait = |session: &str, timeout| pb::WaitEventRequest {
        session_id: session.into(),
        filter: filter(&["s"], &["datagram_received"]),
        timeout,
        ..Default::default()
    };
    let event = agent.wait(wait("red", None)).await.unwrap().event.unwrap();
    assert!(agent.wait(wait("", millis(0))).await.unwrap().timed_out);
    // A datagram of one session cannot be answered by another.
    let answer = pb::Datagram { reply_to_event: event.event_seq, ..Default::default() };
    assert_eq!(agent.try_send("s", vec![answer]).await.unwrap_err().reason, "EVENT_NOT_KEPT");
}

#[tokio::test]
async fn a_reset_leaves_other_sessions_alone() {
    let agent = Agent::start().await;
    agent.create_session("red").await.unwrap();
    agent.udp_in("red", "s").await;
    agent.udp("s", LOOPBACKS[0]).await;
    agent.reset("").await;
    let get = pb::GetSocketRequest { session_id: "red".into(), socket_id: "s".into(), tcp_info: true, memory: true };
    let socket = agent.sockets().get_socket(get).await.unwrap().into_inner().socket.unwrap();
    assert_eq!(socket.state(), pb::SocketState::Bound);
    agent.udp("s", LOOPBACKS[0]).await;
    agent.delete("red", false).await.unwrap();
    assert_eq!(agent.socket("s").await.state(), pb::SocketState::Bound);
}

#[tokio::test]
async fn sockets_are_limited_by_session() {
    let limits = farsock::model::limits::Limits { sockets: 2, ..Default::default() };
    let agent = Agent::start_with(farsock::agent::AgentConfig { limits, ..Default::default() }).await;
    agent.create_session("red").await.unwrap();
    agent.udp("one", LOOPBACKS[0]).await;
    agent.udp("two", LOOPBACKS[0]).await;
    let refused = agent.create_udp("three", pb::UdpSocketSpec::default()).await.unwrap_err();
    assert_eq!(refused.reason, "QUOTA_EXCEEDED");
    assert!(refused.message.contains("limits.sockets"), "{}", refused.message);
    agent.udp_in("red", "three").await;
    agent.close("one").await;
    agent.udp("three", LOOPBACKS[0]).await;
}
