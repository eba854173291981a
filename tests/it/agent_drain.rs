//! How an agent stops: announced, in good order, in bounded time, and without leaving anything behind.

use std::time::Duration;

use farsock::agent::AgentConfig;
use farsock::wire::pb;
use farsock::wire::pb::watch_events_response::Frame;
use rustix::process::Signal;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Streaming};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
use tonic_types::StatusExt;

use crate::harness::{Agent, AgentProcess, LOOPBACKS, TcpPeer, any_port, memory_channel, within};

async fn watch(agent: &Agent) -> Streaming<pb::WatchEventsResponse> {
    let mut stream = agent.events().watch_events(pb::WatchEventsRequest::default()).await.unwrap().into_inner();
    let first = within("the first frame", stream.message()).await.unwrap().unwrap();
    assert!(matches!(first.frame, Some(Frame::Opened(_))));
    stream
}

/// All events until the stream ends, which it must do with OK.
async fn rest(stream: &mut Streaming<pb::WatchEventsResponse>) -> Vec<pb::Event> {
    let mut events = Vec::new();
    while let Some(frame) = within("the stream's end", stream.message()).await.unwrap() {
        if let Some(Frame::Batch(batch)) = frame.frame {
            events.extend(batch.events);
        }
    }
    events
}

#[tokio::test]
async fn sigterm_announces_closes_everything_tells_it_and_ends() {
    for ip in LOOPBACKS {
        let mut process = AgentProcess::start().await;
        let agent = process.agent();
        let door = agent.listen("door", &any_port(ip)).await;
        let mut guest = TcpPeer::connect(&door).await;
        agent.event("door", "accepted").await;
        let mut stream = watch(&agent).await;
        process.signal(Signal::TERM);

        let events = rest(&mut stream).await;
        let draining = events.iter().position(|event| event.kind == "agent_draining").unwrap();
        let closed: Vec<&pb::Event> = events.iter().filter(|event| event.kind == "closed").collect();
        let names: Vec<&str> = closed.iter().map(|event| event.socket_id.as_str()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(names.contains(&"door") && names.contains(&"door.1"), "{names:?}");
        for event in closed {
            let Some(pb::event::Body::Closed(body)) = &event.body else { panic!("{event:?}") };
            assert_eq!(body.reason(), pb::CloseReason::AgentDraining);
            assert!(events[draining].event_seq < event.event_seq);
        }
        assert_eq!(guest.read_to_end().await.unwrap(), b"", "the guest sees a FIN");
        assert_eq!(process.wait().await.code(), Some(0));
    }
}

/// A client that never answers GOAWAY, and never reads, has its connection ended.
#[tokio::test]
async fn a_client_that_ignores_every_request_to_go_is_ended_at_the_end_of_the_grace() {
    let mut process = AgentProcess::start_with(&["--grace", "1"]).await;
    let mut rude = TcpPeer::connect(&process.tcp()).await;
    rude.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    // Its settings have come: HTTP/2 has begun.
    rude.read(9).await;
    process.signal(Signal::TERM);
    assert_eq!(process.wait().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_sigterm_ends_it_at_once() {
    let mut process = AgentProcess::start_with(&["--grace", "3600"]).await;
    let mut rude = TcpPeer::connect(&process.tcp()).await;
    rude.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    rude.read(9).await;
    let agent = process.agent();
    // A call that holds the drain up: whoever waits may go on waiting for as long as the grace goes.
    let mut stream = watch(&agent).await;
    process.signal(Signal::TERM);
    rest(&mut stream).await;
    process.signal(Signal::TERM);
    assert_eq!(process.wait().await.code(), Some(0));
}

#[tokio::test]
async fn whoever_watches_the_health_of_an_agent_hears_that_it_stops() {
    let mut agent = Agent::start().await;
    let mut health = HealthClient::new(agent.channel());
    let request = HealthCheckRequest::default();
    let mut states = health.watch(request).await.unwrap().into_inner();
    let next = within("the first state", states.message()).await.unwrap().unwrap();
    assert_eq!(next.status(), ServingStatus::Serving);
    agent.begin_to_stop();
    let next = within("the next state", states.message()).await.unwrap().unwrap();
    assert_eq!(next.status(), ServingStatus::NotServing);
    // It does not wait for those who watch.
    assert!(within("the end", states.message()).await.unwrap().is_none());
    agent.stop().await;
}

#[tokio::test]
async fn new_work_is_refused_with_draining() {
    let config = AgentConfig::default();
    let agent = farsock::agent::Agent::bind(config).await.unwrap();
    let sockets = agent.sockets().clone();
    let client = Agent::at(memory_channel(agent.connector()));
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(agent.serve(async { stopped.await.unwrap_or(()) }, CancellationToken::new()));
    client.listen("door", "127.0.0.1:0").await;
    let mut stream = watch(&client).await;
    // What is sent when everybody has been told, and before the connection ends, is answered.
    sockets.drain(Duration::from_secs(20)).await;
    let request = pb::CreateSocketRequest {
        kind: Some(pb::create_socket_request::Kind::Udp(pb::UdpSocketSpec::default())),
        ..Default::default()
    };
    let status = client.sockets().create_socket(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(status.get_details_error_info().unwrap().reason, "DRAINING");
    assert!(status.get_details_retry_info().is_some());
    rest(&mut stream).await;
    drop(stop);
    within("its end", served).await.unwrap();
    assert_eq!(sockets.task_count(), 0);
}

#[tokio::test]
async fn nothing_is_left_of_an_agent_that_has_stopped() {
    let agent = farsock::agent::Agent::bind(AgentConfig::default()).await.unwrap();
    let sockets = agent.sockets().clone();
    let client = Agent::at(memory_channel(agent.connector()));
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(agent.serve(async { stopped.await.unwrap_or(()) }, CancellationToken::new()));
    for ip in LOOPBACKS {
        let name = if ip.is_ipv4() { "four" } else { "six" };
        let door = client.listen(name, &any_port(ip)).await;
        client.connect(&format!("{name}-line"), &door).await;
        client.event(name, "accepted").await;
    }
    // Somebody waits for what will not come.
    let mut sockets_client = client.sockets();
    let request = pb::ReceiveSocketRequest { socket_id: "four-line".into(), ..Default::default() };
    let waiting = tokio::spawn(async move { sockets_client.receive_socket(request).await });
    let stream = watch(&client).await;
    assert!(sockets.task_count() > 0);
    drop(stop);
    within("its end", served).await.unwrap();
    assert_eq!(sockets.task_count(), 0);
    // An answer, or why there is none: what it is not is silence.
    let _ = within("the answer", waiting).await.unwrap();
    drop(stream);
}

#[tokio::test]
async fn descriptors_of_closed_sockets_are_given_back() {
    let process = AgentProcess::start().await;
    let agent = process.agent();
    agent.sessions().reset_session(pb::ResetSessionRequest::default()).await.unwrap();
    let before = process.descriptors();
    for round in 0..3 {
        for (family, ip) in ["four", "six"].into_iter().zip(LOOPBACKS) {
            let name = format!("{family}-{round}");
            let door = agent.listen(&name, &any_port(ip)).await;
            for n in 0..8 {
                agent.connect(&format!("line-{n}"), &door).await;
                agent.event(&format!("{name}.{}", n + 1), "created").await;
            }
            assert!(process.descriptors() >= before + 17);
            agent.sessions().reset_session(pb::ResetSessionRequest::default()).await.unwrap();
        }
    }
    assert_eq!(process.descriptors(), before);
    process.stop().await;
}
