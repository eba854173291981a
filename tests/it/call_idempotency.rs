//! The same request under the same name is carried out once.

use farsock::agent::AgentConfig;
use farsock::model::limits::Limits;
use farsock::wire::pb;
use tonic::Code;

use crate::harness::{Agent, LOOPBACKS, Refused, UdpPeer, datagram, error_name, filter, millis, named, within};

fn send(request_id: &str, to: &str, payload: &str) -> pb::SendDatagramsRequest {
    pb::SendDatagramsRequest {
        socket_id: "s".into(),
        datagrams: vec![datagram(to, payload)],
        call: Some(named(request_id)),
        ..Default::default()
    }
}

fn create(request_id: &str, id: &str) -> pb::CreateSocketRequest {
    let spec = pb::UdpSocketSpec { bind: "127.0.0.1:0".into(), ..Default::default() };
    pb::CreateSocketRequest {
        socket_id: id.into(),
        kind: Some(pb::create_socket_request::Kind::Udp(spec)),
        call: Some(named(request_id)),
        ..Default::default()
    }
}

async fn try_create(agent: &Agent, request: pb::CreateSocketRequest) -> Result<pb::CreateSocketResponse, Refused> {
    Ok(agent.sockets().create_socket(request).await?.into_inner())
}

/// A reply that was lost can be asked for again.
#[tokio::test]
async fn a_request_sent_again_is_answered_from_memory() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        agent.udp("s", ip).await;
        let first = agent.sockets().send_datagrams(send("once", &peer.text(), "hola")).await.unwrap().into_inner();
        for _ in 0..3 {
            let again = agent.sockets().send_datagrams(send("once", &peer.text(), "hola")).await.unwrap();
            assert_eq!(again.into_inner(), first);
        }
        agent.send("s", &peer.text(), "next").await;
        assert_eq!(peer.receive_text().await.0, "hola");
        assert_eq!(peer.receive_text().await.0, "next", "it was sent once");
        assert_eq!(agent.socket("s").await.datagrams_sent, 2);
    }
}

/// A retry of a creation finds its own socket, not a name that is taken.
#[tokio::test]
async fn a_creation_sent_again_is_the_same_socket() {
    let agent = Agent::start().await;
    let first = try_create(&agent, create("make", "s")).await.unwrap();
    let again = try_create(&agent, create("make", "s")).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(try_create(&agent, create("other", "s")).await.unwrap_err().reason, "SOCKET_EXISTS");
    // Also one that was given no name.
    let minted = try_create(&agent, create("mint", "")).await.unwrap();
    assert_eq!(try_create(&agent, create("mint", "")).await.unwrap(), minted);
    assert_eq!(agent.open_sockets().await, 2);
}

/// An answer with an error of the kernel is an answer.
#[tokio::test]
async fn errors_are_remembered_too() {
    let agent = Agent::start().await;
    agent.udp("s", LOOPBACKS[0]).await;
    let first = agent.sockets().send_datagrams(send("once", "", "hola")).await.unwrap().into_inner();
    assert_eq!(error_name(first.report.as_ref()), "EDESTADDRREQ");
    let peer = UdpPeer::bind(LOOPBACKS[0]).await;
    agent.connect_udp("s", &peer.text()).await;
    let again = agent.sockets().send_datagrams(send("once", "", "hola")).await.unwrap().into_inner();
    assert_eq!(again, first);
}

#[tokio::test]
async fn a_request_that_runs_is_joined() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        let local = agent.udp("s", ip).await;
        let receive =
            || pb::ReceiveSocketRequest { socket_id: "s".into(), call: Some(named("both")), ..Default::default() };
        let (mut one, mut other) = (agent.sockets(), agent.sockets());
        let act = async {
            // Both are there before anything comes, or the second finds the memory of the first.
            agent.event("s", "bound").await;
            peer.send(&local, b"one").await;
            peer.send(&local, b"two").await;
        };
        let (one, other, ()) = tokio::join!(one.receive_socket(receive()), other.receive_socket(receive()), act);
        assert_eq!(one.unwrap().into_inner(), other.unwrap().into_inner());
        assert_eq!(agent.receive_text("s").await, "two", "one payload was taken");
    }
}

/// The operation belongs to the agent: whoever comes back finds it.
#[tokio::test]
async fn a_request_whose_caller_has_gone_can_be_joined() {
    let agent = Agent::start().await;
    let peer = UdpPeer::bind(LOOPBACKS[0]).await;
    let local = agent.udp("s", LOOPBACKS[0]).await;
    let receive =
        || pb::ReceiveSocketRequest { socket_id: "s".into(), call: Some(named("mine")), ..Default::default() };
    let mut sockets = agent.sockets();
    let gone = tokio::spawn(async move { sockets.receive_socket(receive()).await });
    within("the operation", async { while agent.get_call("mine").await.is_err() {} }).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    assert_eq!(agent.get_call("mine").await.unwrap().state(), pb::CallState::Running);
    peer.send(&local, b"patience").await;
    let received = agent.sockets().receive_socket(receive()).await.unwrap().into_inner();
    assert_eq!(received.size(), 8);
}

#[tokio::test]
async fn a_name_stands_for_one_request() {
    let agent = Agent::start().await;
    let peer = UdpPeer::bind(LOOPBACKS[0]).await;
    agent.udp("s", LOOPBACKS[0]).await;
    agent.sockets().send_datagrams(send("once", &peer.text(), "hola")).await.unwrap();
    let refusals = [
        agent.sockets().send_datagrams(send("once", &peer.text(), "adios")).await.map(|_| ()),
        agent
            .sockets()
            .close_socket(pb::CloseSocketRequest {
                socket_id: "s".into(),
                call: Some(named("once")),
                ..Default::default()
            })
            .await
            .map(|_| ()),
        agent.sockets().create_socket(create("once", "t")).await.map(|_| ()),
        agent
            .sockets()
            .send_datagrams(pb::SendDatagramsRequest {
                call: Some(pb::Call { timeout: millis(5), ..named("once") }),
                ..send("", &peer.text(), "hola")
            })
            .await
            .map(|_| ()),
    ];
    for refused in refusals {
        let refused = Refused::from(refused.unwrap_err());
        assert_eq!((refused.code, refused.reason.as_str()), (Code::InvalidArgument, "REQUEST_ID_REUSED"));
        assert!(refused.message.contains("`once`"), "{}", refused.message);
    }
    assert_eq!(agent.open_sockets().await, 1);
}

#[tokio::test]
async fn refusals_are_not_remembered() {
    let agent = Agent::start().await;
    let peer = UdpPeer::bind(LOOPBACKS[0]).await;
    let refused = agent.sockets().send_datagrams(send("once", &peer.text(), "hola")).await.unwrap_err();
    assert_eq!(Refused::from(refused).reason, "SOCKET_NOT_FOUND");
    assert_eq!(agent.get_call("once").await.unwrap_err().reason, "CALL_NOT_FOUND");
    agent.udp("s", LOOPBACKS[0]).await;
    // The same name, and even another request.
    let sent = agent.sockets().send_datagrams(send("once", &peer.text(), "adios")).await.unwrap().into_inner();
    assert_eq!(sent.datagrams_sent(), 1);
    assert_eq!(peer.receive_text().await.0, "adios");
}

#[tokio::test]
async fn the_name_is_in_the_report_and_in_each_event() {
    let agent = Agent::start().await;
    let created = try_create(&agent, create("Make.it_so-1", "s")).await.unwrap();
    let report = created.report.unwrap();
    assert_eq!(report.request_id, "Make.it_so-1");
    assert_eq!((report.first_event_seq, report.last_event_seq), (1, 2));
    for event in agent.all_events("").await {
        assert_eq!(event.request_id, "Make.it_so-1");
    }
    // Without one, the agent mints it; what nobody has asked for has none.
    let peer = UdpPeer::bind(LOOPBACKS[0]).await;
    let sent = agent.send("s", &peer.text(), "hola").await.report.unwrap();
    assert!(sent.request_id.starts_with('@'), "{sent:?}");
    assert_eq!(agent.event("s", "sent").await.request_id, sent.request_id);
    peer.send(&created.socket.unwrap().local.unwrap().text, b"hola").await;
    assert_eq!(agent.event("s", "datagram_received").await.request_id, "");
    // Minted ones are remembered only while they run.
    assert_eq!(agent.get_call(&sent.request_id).await.unwrap_err().reason, "CALL_NOT_FOUND");
}

#[tokio::test]
async fn memory_is_bounded_by_number_and_by_bytes() {
    let limits = Limits { remembered_calls: 3, remembered_bytes: 1000, ..Limits::default() };
    let agent = Agent::start_with(AgentConfig { limits, ..Default::default() }).await;
    let peer = UdpPeer::bind(LOOPBACKS[0]).await;
    let local = agent.udp("s", LOOPBACKS[0]).await;
    for n in 1..=4 {
        agent.sockets().send_datagrams(send(&format!("send-{n}"), &peer.text(), "hola")).await.unwrap();
    }
    let known = async |id: &str| agent.get_call(id).await.is_ok();
    assert!(!known("send-1").await && known("send-2").await && known("send-4").await);

    let receive =
        |id: &str| pb::ReceiveSocketRequest { socket_id: "s".into(), call: Some(named(id)), ..Default::default() };
    for id in ["big-1", "big-2"] {
        peer.send(&local, &[b'x'; 600]).await;
        agent.sockets().receive_socket(receive(id)).await.unwrap();
    }
    assert!(!known("big-1").await && known("big-2").await, "together they were too much");
}

#[tokio::test]
async fn operations_at_a_time_are_limited() {
    let limits = Limits { calls: 2, ..Limits::default() };
    let agent = Agent::start_with(AgentConfig { limits, ..Default::default() }).await;
    agent.udp("s", LOOPBACKS[0]).await;
    let receive = |id: &str| pb::ReceiveSocketRequest {
        socket_id: "s".into(),
        call: Some(crate::harness::detached(id)),
        ..Default::default()
    };
    agent.sockets().receive_socket(receive("one")).await.unwrap();
    agent.sockets().receive_socket(receive("two")).await.unwrap();
    let refused = Refused::from(agent.sockets().receive_socket(receive("three")).await.unwrap_err());
    assert_eq!((refused.code, refused.reason.as_str()), (Code::ResourceExhausted, "QUOTA_EXCEEDED"));
    assert!(refused.message.contains("limits.calls"), "{}", refused.message);
    agent.cancel_call("one").await.unwrap();
    agent.sockets().receive_socket(receive("three")).await.unwrap();
}

/// Names of operations belong to their session.
#[tokio::test]
async fn sessions_do_not_share_names_of_operations() {
    let agent = Agent::start().await;
    agent.create_session("lab").await.unwrap();
    let make = |session: &str| pb::CreateSocketRequest { session_id: session.into(), ..create("same", "s") };
    try_create(&agent, make("")).await.unwrap();
    let other = try_create(&agent, make("lab")).await.unwrap();
    assert_eq!(other.socket.unwrap().session_id, "lab");
    let request = pb::ListEventsRequest { filter: filter(&["s"], &["created"]), ..Default::default() };
    assert_eq!(agent.list(request).await.events.len(), 1);
}
