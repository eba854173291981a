//! Deleting a session: it answers with what was still open, and nothing is left of it.

use farsock::wire::pb;
use tokio::task::JoinSet;
use tonic::Code;

use crate::harness::{Agent, LOOPBACKS, UdpPeer, named, within};

#[tokio::test]
async fn a_deletion_answers_with_what_was_still_open() {
    let agent = Agent::start().await;
    agent.create_session("lab").await.unwrap();
    let peer = UdpPeer::bind(LOOPBACKS[0]).await;
    let open = agent.udp_in("lab", "open").await;
    agent.udp_in("lab", "closed").await;
    let close = pb::CloseSocketRequest { session_id: "lab".into(), socket_id: "closed".into(), ..Default::default() };
    agent.sockets().close_socket(close).await.unwrap();
    let delivery = Some(pb::Delivery { paused: Some(true), ..Default::default() });
    let pause = pb::SetSocketDeliveryRequest {
        session_id: "lab".into(),
        socket_id: "open".into(),
        delivery,
        ..Default::default()
    };
    agent.sockets().set_socket_delivery(pause).await.unwrap();
    peer.send(&open.local.unwrap().text, b"unread").await;

    let deleted = agent.delete("lab", false).await.unwrap();
    let session = deleted.session.unwrap();
    assert_eq!((session.session_id.as_str(), session.socket_count), ("lab", 0));
    assert_eq!(deleted.closed_sockets.len(), 1);
    let socket = &deleted.closed_sockets[0];
    assert_eq!((socket.socket_id.as_str(), socket.state()), ("open", pb::SocketState::Closed));
    let closed = socket.closed.as_ref().unwrap();
    assert_eq!((closed.reason(), closed.unread_bytes), (pb::CloseReason::SessionDeleted, 6));
}

#[tokio::test]
async fn nothing_is_left_of_a_deleted_session() {
    let agent = Agent::start().await;
    agent.create_session("lab").await.unwrap();
    agent.udp_in("lab", "s").await;
    agent.delete("lab", false).await.unwrap();
    let get = pb::GetSessionRequest { session_id: "lab".into() };
    let refused = crate::harness::Refused::from(agent.sessions().get_session(get).await.unwrap_err());
    assert_eq!((refused.code, refused.reason.as_str()), (Code::NotFound, "SESSION_NOT_FOUND"));
    let watch = pb::WatchEventsRequest { session_id: "lab".into(), ..Default::default() };
    assert_eq!(agent.watch(watch).await.err().unwrap().reason, "SESSION_NOT_FOUND");
    // A new one of that name begins with number 1.
    agent.create_session("lab").await.unwrap();
    agent.udp_in("lab", "s").await;
    assert_eq!(agent.all_events("lab").await[0].event_seq, 1);
}

#[tokio::test]
async fn what_is_missing_can_be_fine() {
    let agent = Agent::start().await;
    let refused = agent.delete("lab", false).await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::NotFound, "SESSION_NOT_FOUND"));
    let deleted = agent.delete("lab", true).await.unwrap();
    assert_eq!((deleted.session, deleted.closed_sockets.len()), (None, 0));
}

#[tokio::test]
async fn the_default_session_cannot_be_deleted() {
    let agent = Agent::start().await;
    agent.udp("s", LOOPBACKS[0]).await;
    for id in ["", "default"] {
        for allow_missing in [false, true] {
            let refused = agent.delete(id, allow_missing).await.unwrap_err();
            assert_eq!((refused.code, refused.reason.as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
            assert!(refused.message.starts_with("session_id: ") && refused.message.contains("ResetSession"));
        }
    }
    assert_eq!(agent.open_sockets().await, 1);
}

/// A retry of a deletion is the same deletion, though the session is gone.
#[tokio::test]
async fn a_deletion_can_be_sent_again() {
    let agent = Agent::start().await;
    agent.create_session("lab").await.unwrap();
    agent.udp_in("lab", "s").await;
    let request =
        || pb::DeleteSessionRequest { session_id: "lab".into(), call: Some(named("gone")), ..Default::default() };
    let first = agent.sessions().delete_session(request()).await.unwrap().into_inner();
    assert_eq!(first.closed_sockets.len(), 1);
    assert_eq!(agent.sessions().delete_session(request()).await.unwrap().into_inner(), first);
}

/// Sockets that are being made just then are closed or refused; none lives on where nobody can reach it, which the agent could not
/// stop without.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_socket_outlives_its_session() {
    let agent = std::sync::Arc::new(Agent::start().await);
    for _ in 0..30 {
        agent.create_session("lab").await.unwrap();
        let mut makers = JoinSet::new();
        for _ in 0..16 {
            let agent = std::sync::Arc::clone(&agent);
            makers.spawn(async move {
                let spec = pb::UdpSocketSpec { bind: "127.0.0.1:0".into(), ..Default::default() };
                let request = pb::CreateSocketRequest {
                    session_id: "lab".into(),
                    kind: Some(pb::create_socket_request::Kind::Udp(spec)),
                    ..Default::default()
                };
                match agent.sockets().create_socket(request).await {
                    Ok(_) => {}
                    Err(status) => {
                        let code = status.code();
                        assert!(matches!(code, Code::NotFound | Code::FailedPrecondition), "{status:?}");
                    }
                }
            });
        }
        agent.delete("lab", false).await.unwrap();
        while let Some(made) = within("a maker", makers.join_next()).await {
            made.unwrap();
        }
    }
    std::sync::Arc::into_inner(agent).unwrap().stop().await;
}
