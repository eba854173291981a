//! For shell scripts: what the kernel says, or a timeout, as a status.

use farsock::wire::pb;
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::{Agent, LOOPBACKS, UdpPeer, datagram, millis, named};

fn strict() -> pb::Call {
    pb::Call { fail_on_error: true, ..Default::default() }
}

fn send(to: &str, call: pb::Call) -> pb::SendDatagramsRequest {
    pb::SendDatagramsRequest {
        socket_id: "s".into(),
        datagrams: vec![datagram(to, "hola")],
        call: Some(call),
        ..Default::default()
    }
}

#[tokio::test]
async fn an_error_of_the_kernel_becomes_a_status_of_its_own_domain() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let local = agent.udp("s", ip).await;
        let status = agent.sockets().send_datagrams(send("", strict())).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.domain.as_str(), info.reason.as_str()), ("kernel.farsock.dev", "EDESTADDRREQ"));
        assert_eq!(info.metadata["number"], "89");
        assert_eq!(info.metadata["syscall"], "sendmsg");
        assert_eq!(info.metadata["local"], local);
        assert!(status.message().contains("EDESTADDRREQ") && !status.message().contains('\n'), "{}", status.message());
        // It was carried out all the same.
        assert_eq!(agent.kinds("s").await, ["created", "bound", "failed"]);
    }
}

#[tokio::test]
async fn a_timeout_becomes_a_status_of_the_agent() {
    let agent = Agent::start().await;
    agent.udp("s", LOOPBACKS[0]).await;
    let call = Some(pb::Call { timeout: millis(0), ..strict() });
    let request = pb::ReceiveSocketRequest { socket_id: "s".into(), call, ..Default::default() };
    let status = agent.sockets().receive_socket(request).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let info = status.get_details_error_info().unwrap();
    assert_eq!((info.domain.as_str(), info.reason.as_str()), ("farsock.dev", "TIMED_OUT"));
}

#[tokio::test]
async fn success_is_an_ordinary_answer() {
    let agent = Agent::start().await;
    let peer = UdpPeer::bind(LOOPBACKS[0]).await;
    agent.udp("s", LOOPBACKS[0]).await;
    let sent = agent.sockets().send_datagrams(send(&peer.text(), strict())).await.unwrap().into_inner();
    assert_eq!(sent.datagrams_sent(), 1);
}

/// The wish is about the answer, not about the operation: who asks again without it gets the report.
#[tokio::test]
async fn the_same_operation_can_be_asked_for_both_ways() {
    let agent = Agent::start().await;
    agent.udp("s", LOOPBACKS[0]).await;
    let call = pb::Call { fail_on_error: true, ..named("once") };
    let status = agent.sockets().send_datagrams(send("", call)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let answered = agent.sockets().send_datagrams(send("", named("once"))).await.unwrap().into_inner();
    assert_eq!(answered.report.unwrap().error.unwrap().name, "EDESTADDRREQ");
    assert_eq!(agent.kinds("s").await, ["created", "bound", "failed"], "it was carried out once");
}

/// A creation that fails half-way leaves the socket as far as it came.
#[tokio::test]
async fn a_failed_creation_is_told_and_leaves_its_socket() {
    let agent = Agent::start().await;
    let taken = agent.udp("first", LOOPBACKS[0]).await;
    let spec = pb::UdpSocketSpec { bind: taken, ..Default::default() };
    let request = pb::CreateSocketRequest {
        socket_id: "second".into(),
        kind: Some(pb::create_socket_request::Kind::Udp(spec)),
        call: Some(strict()),
        ..Default::default()
    };
    let status = agent.sockets().create_socket(request).await.unwrap_err();
    let info = status.get_details_error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.metadata["operation"].as_str()), ("EADDRINUSE", "bind"));
    assert_eq!(agent.socket("second").await.state(), pb::SocketState::Unbound);
}
