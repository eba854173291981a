//! Operations that answer when they have been accepted, and tell the rest to whoever asks.

use farsock::wire::pb;
use tonic::Code;

use crate::harness::{
    Agent, DeadPort, LOOPBACKS, Refused, UdpPeer, datagram, detached, error_name, named, response, within,
};

async fn done(agent: &Agent, id: &str) -> pb::CallRecord {
    within("its end", async {
        loop {
            let record = agent.get_call(id).await.unwrap();
            if record.state() == pb::CallState::Done {
                return record;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_detached_operation_tells_how_it_went_to_whoever_asks() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        let local = agent.udp("s", ip).await;
        let receive =
            pb::ReceiveSocketRequest { socket_id: "s".into(), call: Some(detached("later")), ..Default::default() };
        let accepted = agent.sockets().receive_socket(receive).await.unwrap().into_inner();
        assert_eq!((accepted.size, accepted.payload), (None, None));
        assert_eq!(accepted.report.unwrap().request_id, "later");
        let record = agent.get_call("later").await.unwrap();
        assert_eq!((record.method.as_str(), record.socket_id.as_str()), ("ReceiveSocket", "s"));
        assert_eq!(record.response, None);

        peer.send(&local, b"at last").await;
        let record = done(&agent, "later").await;
        let received: pb::ReceiveSocketResponse = response(&record);
        assert_eq!((received.size(), received.source.unwrap().text), (7, peer.text()));
    }
}

/// Without a name the agent mints one, and remembers it, because the caller will want to ask.
#[tokio::test]
async fn a_detached_operation_without_a_name_is_remembered_by_the_one_it_got() {
    let agent = Agent::start().await;
    let peer = UdpPeer::bind(LOOPBACKS[0]).await;
    agent.udp("s", LOOPBACKS[0]).await;
    let request = pb::SendDatagramsRequest {
        socket_id: "s".into(),
        datagrams: vec![datagram(&peer.text(), "hola")],
        call: Some(pb::Call { detach: true, ..Default::default() }),
        ..Default::default()
    };
    let accepted = agent.sockets().send_datagrams(request).await.unwrap().into_inner();
    assert_eq!((accepted.socket, accepted.datagrams_sent), (None, None));
    let id = accepted.report.unwrap().request_id;
    assert!(id.starts_with('@'));
    let sent: pb::SendDatagramsResponse = response(&done(&agent, &id).await);
    assert_eq!(sent.datagrams_sent(), 1);
    assert_eq!(agent.event("s", "sent").await.request_id, id);
    assert_eq!(peer.receive_text().await.0, "hola");
}

#[tokio::test]
async fn an_error_of_the_kernel_is_how_it_went() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let nobody = DeadPort::tcp(ip);
        let family = if ip.is_ipv4() { pb::Family::Ipv4 } else { pb::Family::Ipv6 };
        agent.create_tcp("line", pb::TcpSocketSpec { family: family.into(), ..Default::default() }).await.unwrap();
        let request = pb::ConnectSocketRequest {
            socket_id: "line".into(),
            remote: nobody.text(),
            call: Some(detached("dial")),
            ..Default::default()
        };
        agent.sockets().connect_socket(request).await.unwrap();
        let connected: pb::ConnectSocketResponse = response(&done(&agent, "dial").await);
        assert_eq!(error_name(connected.report.as_ref()), "ECONNREFUSED");
        assert_eq!(agent.event("line", "connect_failed").await.request_id, "dial");
    }
}

/// What the agent refuses only when its time has come is kept for whoever asks.
#[tokio::test]
async fn a_refusal_is_kept_too() {
    let agent = Agent::start().await;
    agent.udp("s", LOOPBACKS[0]).await;
    let request =
        pb::ListenSocketRequest { socket_id: "s".into(), call: Some(detached("wrong")), ..Default::default() };
    agent.sockets().listen_socket(request).await.unwrap();
    let record = done(&agent, "wrong").await;
    assert_eq!(record.response, None);
    assert!(record.refusal.contains("is a UDP socket"), "{}", record.refusal);
}

/// A mistake that is known at once is told at once.
#[tokio::test]
async fn what_has_nothing_to_act_on_is_refused_at_once() {
    let agent = Agent::start().await;
    let request =
        pb::ListenSocketRequest { socket_id: "nobody".into(), call: Some(detached("early")), ..Default::default() };
    let refused = Refused::from(agent.sockets().listen_socket(request).await.unwrap_err());
    assert_eq!((refused.code, refused.reason.as_str()), (Code::NotFound, "SOCKET_NOT_FOUND"));
    assert_eq!(agent.get_call("early").await.unwrap_err().reason, "CALL_NOT_FOUND");
}

#[tokio::test]
async fn operations_on_sessions_can_be_detached() {
    let agent = Agent::start().await;
    agent.udp("s", LOOPBACKS[0]).await;
    let request = pb::ResetSessionRequest { call: Some(detached("reset")), ..Default::default() };
    let accepted = agent.sessions().reset_session(request).await.unwrap().into_inner();
    assert_eq!(accepted.session, None);
    let record = done(&agent, "reset").await;
    assert_eq!((record.method.as_str(), record.socket_id.as_str()), ("ResetSession", ""));
    let reset: pb::ResetSessionResponse = response(&record);
    assert_eq!(reset.closed_sockets.len(), 1);
}

/// Asked again without `detach`, the same operation is waited for.
#[tokio::test]
async fn a_detached_operation_can_be_joined() {
    let agent = Agent::start().await;
    let peer = UdpPeer::bind(LOOPBACKS[0]).await;
    let local = agent.udp("s", LOOPBACKS[0]).await;
    let receive = |call| pb::ReceiveSocketRequest { socket_id: "s".into(), call: Some(call), ..Default::default() };
    agent.sockets().receive_socket(receive(detached("later"))).await.unwrap();
    let mut sockets = agent.sockets();
    let (received, ()) = tokio::join!(sockets.receive_socket(receive(named("later"))), peer.send(&local, b"hola"));
    assert_eq!(received.unwrap().into_inner().size(), 4);
}
