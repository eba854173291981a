//! When an operation starts, and how long it may wait.

use std::time::Duration;

use farsock::wire::pb;
use farsock::wire::pb::call::Start;
use prost::Message;
use tonic::Code;

use crate::harness::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, RawHttp2, headers};
use crate::harness::{
    Agent, AgentProcess, LOOPBACKS, Refused, UdpPeer, datagram, error_name, millis, named, nanos, patient,
};

async fn clock(agent: &Agent) -> i64 {
    let clock = agent.agent().get_clock(pb::GetClockRequest {}).await.unwrap().into_inner();
    let now = clock.transmit_time.unwrap();
    nanos(now.seconds, now.nanos)
}

fn at(moment: i64) -> Start {
    Start::StartTime(prost_types::Timestamp {
        seconds: moment.div_euclid(1_000_000_000),
        nanos: moment.rem_euclid(1_000_000_000).try_into().unwrap(),
    })
}

fn send(to: &str, call: pb::Call) -> pb::SendDatagramsRequest {
    pb::SendDatagramsRequest {
        socket_id: "s".into(),
        datagrams: vec![datagram(to, "hola")],
        call: Some(call),
        ..Default::default()
    }
}

fn started(report: &pb::Report) -> i64 {
    let start = report.actual_start_time.as_ref().unwrap();
    nanos(start.seconds, start.nanos)
}

const MS: i64 = 1_000_000;

#[tokio::test]
async fn an_operation_starts_at_its_moment_and_not_before() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        agent.udp("s", ip).await;
        let moment = clock(&agent).await + 200 * MS;
        let call = pb::Call { start: Some(at(moment)), ..Default::default() };
        let sent = agent.sockets().send_datagrams(send(&peer.text(), call)).await.unwrap().into_inner();
        let report = sent.report.unwrap();
        assert!(started(&report) >= moment, "{} ns too early", moment - started(&report));
        let event = agent.event("s", "sent").await.time.unwrap();
        assert!(nanos(event.seconds, event.nanos) >= moment);
    }
}

/// What a creation needs is looked at before its moment; there is no socket before it.
#[tokio::test]
async fn a_creation_starts_at_its_moment_and_not_before() {
    let agent = Agent::start().await;
    for (id, bind) in [("literal", "127.0.0.1:0"), ("literal6", "[::1]:0"), ("name", "localhost:0")] {
        let moment = clock(&agent).await + 200 * MS;
        let request = pb::CreateSocketRequest {
            socket_id: id.into(),
            kind: Some(pb::create_socket_request::Kind::Udp(pb::UdpSocketSpec {
                bind: bind.into(),
                ..Default::default()
            })),
            call: Some(pb::Call { start: Some(at(moment)), ..Default::default() }),
            ..Default::default()
        };
        let report = agent.sockets().create_socket(request).await.unwrap().into_inner().report.unwrap();
        assert!(started(&report) >= moment, "{id}: {} ns too early", moment - started(&report));
        for kind in ["created", "bound"] {
            let event = agent.event(id, kind).await.time.unwrap();
            assert!(nanos(event.seconds, event.nanos) >= moment, "{id}: {kind}");
        }
    }
}

#[tokio::test]
async fn an_operation_can_be_delayed() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        agent.udp("s", ip).await;
        let before = clock(&agent).await;
        let start = Some(Start::StartDelay(millis(150).unwrap()));
        let call = pb::Call { start, ..Default::default() };
        let sent = agent.sockets().send_datagrams(send(&peer.text(), call)).await.unwrap().into_inner();
        assert!(started(&sent.report.unwrap()) >= before + 149 * MS);
    }
}

/// Clocks of one lab disagree a little; a moment that has passed for good is a mistake.
#[tokio::test]
async fn a_moment_that_has_passed_is_refused() {
    let agent = Agent::start().await;
    let peer = UdpPeer::bind(LOOPBACKS[0]).await;
    agent.udp("s", LOOPBACKS[0]).await;
    let call = pb::Call { start: Some(at(clock(&agent).await - 10_000 * MS)), ..Default::default() };
    let refused = Refused::from(agent.sockets().send_datagrams(send(&peer.text(), call)).await.unwrap_err());
    assert_eq!((refused.code, refused.reason.as_str()), (Code::FailedPrecondition, "START_TIME_PASSED"));
    assert!(refused.message.contains("ms ago"), "{}", refused.message);
    assert_eq!(agent.socket("s").await.datagrams_sent, 0);
}

#[tokio::test]
async fn a_moment_within_the_tolerance_is_now() {
    // Long enough that a slow machine stays within it.
    let defaults = farsock::model::limits::Defaults { start_tolerance: Duration::from_secs(60), ..Default::default() };
    let agent = Agent::start_with(farsock::agent::AgentConfig { defaults, ..Default::default() }).await;
    let peer = UdpPeer::bind(LOOPBACKS[0]).await;
    agent.udp("s", LOOPBACKS[0]).await;
    let call = pb::Call { start: Some(at(clock(&agent).await - 1000 * MS)), ..Default::default() };
    let sent = agent.sockets().send_datagrams(send(&peer.text(), call)).await.unwrap().into_inner();
    assert_eq!(sent.datagrams_sent(), 1);
}

#[tokio::test]
async fn a_scheduled_operation_can_be_cancelled_before_it_does_anything() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        agent.udp("s", ip).await;
        let start = Some(Start::StartDelay(millis(3_600_000).unwrap()));
        let call = pb::Call { start, detach: true, ..named("later") };
        agent.sockets().send_datagrams(send(&peer.text(), call)).await.unwrap();
        assert_eq!(agent.get_call("later").await.unwrap().state(), pb::CallState::Scheduled);
        let canceled = agent.cancel_call("later").await.unwrap();
        assert_eq!(canceled.state(), pb::CallState::Done);
        let response: pb::SendDatagramsResponse = crate::harness::response(&canceled);
        let error = response.report.unwrap().error.unwrap();
        assert_eq!((error.name.as_str(), error.operation()), ("ECANCELED", pb::Operation::Send));
        assert_eq!(error.syscall, "", "no system call was made");
        assert_eq!(agent.kinds("s").await, ["created", "bound"]);
    }
}

/// The timeout begins with the operation, not with the request.
#[tokio::test]
async fn a_delay_does_not_eat_the_timeout() {
    let agent = Agent::start().await;
    let peer = UdpPeer::bind(LOOPBACKS[0]).await;
    let local = agent.udp("s", LOOPBACKS[0]).await;
    peer.send(&local, b"hola").await;
    agent.datagram("s").await;
    let start = Some(Start::StartDelay(millis(100).unwrap()));
    let call = Some(pb::Call { start, timeout: millis(0), ..Default::default() });
    let request = pb::ReceiveSocketRequest { socket_id: "s".into(), call, ..Default::default() };
    let received = agent.sockets().receive_socket(request).await.unwrap().into_inner();
    assert_eq!(received.size(), 4);
}

/// A timeout is the answer; a deadline loses it, and changes nothing about the operation.
#[tokio::test]
async fn a_timeout_is_not_a_deadline() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        let local = agent.udp("s", ip).await;
        let call = Some(patient(millis(50)));
        let request = pb::ReceiveSocketRequest { socket_id: "s".into(), call, ..Default::default() };
        let received = agent.sockets().receive_socket(request).await.unwrap().into_inner();
        let report = received.report.unwrap();
        assert_eq!((report.timed_out, report.error, received.size), (true, None, None));
        let elapsed = report.elapsed.unwrap();
        assert!(nanos(elapsed.seconds, elapsed.nanos) >= 49 * MS, "{elapsed:?}");

        let receive = pb::ReceiveSocketRequest { socket_id: "s".into(), call: Some(named("on")), ..Default::default() };
        let mut hasty = tonic::Request::new(receive);
        hasty.set_timeout(Duration::from_millis(50));
        let status = agent.sockets().receive_socket(hasty).await.unwrap_err();
        assert!(matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded), "{status:?}");
        assert_eq!(agent.get_call("on").await.unwrap().state(), pb::CallState::Running);
        peer.send(&local, b"for nobody").await;
        crate::harness::within("its end", async {
            while agent.get_call("on").await.unwrap().state() != pb::CallState::Done {}
        })
        .await;
        let response: pb::ReceiveSocketResponse = crate::harness::response(&agent.get_call("on").await.unwrap());
        assert_eq!(response.size(), 10);
    }
}

/// A client that does not look at its own watch is told by the agent that its time is over.
#[tokio::test]
async fn a_deadline_is_kept_by_the_agent_too() {
    let agent = AgentProcess::start().await;
    let client = agent.agent();
    client.udp("s", LOOPBACKS[0]).await;
    let authorization = format!("Bearer {}", agent.token());
    let receive = |more: &[(&str, &str)]| {
        let shown = [&[("authorization", authorization.as_str())], more].concat();
        headers("/farsock.v1.SocketService/ReceiveSocket", &shown)
    };
    let call = Some(pb::Call { timeout: millis(3_600_000), ..named("on") });
    let request = pb::ReceiveSocketRequest { socket_id: "s".into(), call, ..Default::default() }.encode_to_vec();
    let message = [&[0, 0, 0, 0, u8::try_from(request.len()).unwrap()], &request[..]].concat();
    let mut raw = RawHttp2::greeted(&agent.tcp()).await;
    for (stream, timeout) in [(1, &[][..]), (3, &[("grpc-timeout", "50m")])] {
        raw.frame(HEADERS, END_HEADERS, stream, &receive(timeout)).await;
        raw.frame(DATA, END_STREAM, stream, &message).await;
    }
    raw.hears("an answer", |said| said.frames.contains(&(HEADERS, 3))).await;
    assert_eq!(client.get_call("on").await.unwrap().state(), pb::CallState::Running);
    let said = raw.finish().await;
    assert!(!said.frames.contains(&(HEADERS, 1)), "who has set no time waits: {said:?}");
    agent.stop().await;
}

#[tokio::test]
async fn a_timeout_of_zero_does_not_wait_at_all() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        agent.udp("s", ip).await;
        let request =
            pb::ReceiveSocketRequest { socket_id: "s".into(), call: Some(patient(millis(0))), ..Default::default() };
        let received = agent.sockets().receive_socket(request).await.unwrap().into_inner();
        assert!(received.report.unwrap().timed_out);
        // What needs no waiting is done.
        let sent = agent.sockets().send_datagrams(send(&peer.text(), patient(millis(0)))).await.unwrap().into_inner();
        assert_eq!((error_name(sent.report.as_ref()), sent.datagrams_sent()), ("", 1));
        let close =
            pb::CloseSocketRequest { socket_id: "s".into(), call: Some(patient(millis(0))), ..Default::default() };
        let closed = agent.sockets().close_socket(close).await.unwrap().into_inner();
        let report = closed.report.unwrap();
        assert_eq!((report.timed_out, report.error), (false, None));
        assert_eq!(closed.socket.unwrap().state(), pb::SocketState::Closed);
    }
}

#[tokio::test]
async fn a_running_operation_can_be_cancelled() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        agent.udp("s", ip).await;
        let receive = pb::ReceiveSocketRequest {
            socket_id: "s".into(),
            call: Some(pb::Call { detach: true, ..named("on") }),
            ..Default::default()
        };
        agent.sockets().receive_socket(receive).await.unwrap();
        let canceled = agent.cancel_call("on").await.unwrap();
        let response: pb::ReceiveSocketResponse = crate::harness::response(&canceled);
        assert_eq!(error_name(response.report.as_ref()), "ECANCELED");
        // Once more is no mistake.
        assert_eq!(agent.cancel_call("on").await.unwrap(), canceled);
        assert_eq!(agent.cancel_call("off").await.unwrap_err().reason, "CALL_NOT_FOUND");
    }
}

/// Whoever waits on a socket that is closed is told so.
#[tokio::test]
async fn closing_ends_what_waits() {
    for mode in [pb::DeliveryMode::Pull, pb::DeliveryMode::Events] {
        let agent = Agent::start().await;
        let delivery = Some(pb::Delivery { mode: mode.into(), ..Default::default() });
        agent.udp_with("s", LOOPBACKS[0], pb::UdpSocketSpec { delivery, ..Default::default() }).await;
        let receive = pb::ReceiveSocketRequest {
            socket_id: "s".into(),
            call: Some(pb::Call { detach: true, ..named("on") }),
            ..Default::default()
        };
        agent.sockets().receive_socket(receive).await.unwrap();
        crate::harness::within("its start", async {
            while agent.get_call("on").await.unwrap().state() == pb::CallState::Scheduled {}
        })
        .await;
        agent.close("s").await;
        crate::harness::within("its end", async {
            while agent.get_call("on").await.unwrap().state() != pb::CallState::Done {}
        })
        .await;
        let record = agent.get_call("on").await.unwrap();
        assert_eq!(record.refusal, "", "{mode:?}: the operation had begun");
        let response: pb::ReceiveSocketResponse = crate::harness::response(&record);
        assert_eq!(error_name(response.report.as_ref()), "ECANCELED", "{mode:?}");
    }
}
