//! How an agent stops: announced, in good order, in bounded time, and without leaving anything behind.

use std::time::Duration;

use farsock::agent::AgentConfig;
use farsock::wire::pb;
use farsock::wire::pb::transfer_socket_request::Frame as First;
use farsock::wire::pb::watch_events_response::Frame;
use prost::Message;
use rustix::process::Signal;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Streaming};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
use tonic_types::StatusExt;

use crate::harness::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, PING, RawHttp2, SETTINGS, headers};
use crate::harness::tcp::{detached, pattern, timeout, unread_by_the_test, went};
use crate::harness::{Agent, AgentProcess, LOOPBACKS, TcpPeer, any_port, long, memory_channel, within};

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

/// A message of a call, as gRPC puts it into DATA.
fn message(message: &impl Message) -> Vec<u8> {
    let bytes = message.encode_to_vec();
    let size = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [&[0], &size[..], &bytes].concat()
}

/// Calls a method, and leaves open whether more is to come.
async fn call(raw: &mut RawHttp2, token: &str, stream: u32, method: &str, more: &[u8], flags: u8) {
    let block = headers(&format!("/farsock.v1.{method}"), &[("authorization", &format!("Bearer {token}"))]);
    raw.frame(HEADERS, END_HEADERS, stream, &block).await;
    raw.frame(DATA, flags, stream, more).await;
    raw.flush().await;
}

/// A client that has logged in and will not go. What it does depends on its number.
async fn rude_client(process: &AgentProcess, number: usize) -> RawHttp2 {
    let token = process.token();
    let mut raw = match number % 2 {
        0 => RawHttp2::greeted(&process.tcp()).await,
        _ => RawHttp2::greeted_over(UnixStream::connect(process.unix()).await.unwrap()).await,
    };
    call(&mut raw, &token, 1, "AgentService/GetAgent", &[0; 5], END_STREAM).await;
    raw.hears("an answer", |said| said.frames.contains(&(DATA, 1))).await;
    match number / 2 % 4 {
        // It takes no event: SETTINGS_INITIAL_WINDOW_SIZE is zero.
        0 => {
            raw.frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]).await;
            call(&mut raw, &token, 3, "EventService/WatchEvents", &[0; 5], END_STREAM).await;
            raw.hears("a stream", |said| said.frames.contains(&(HEADERS, 3))).await;
        }
        // It never ends its request.
        1 => call(&mut raw, &token, 3, "SocketService/CreateSocket", &[0, 0, 0], 0).await,
        // It takes a connection over, and never lets go of the stream.
        2 => {
            let open = pb::TransferOpen { socket_id: format!("line-{number}"), ..Default::default() };
            let open = pb::TransferSocketRequest { frame: Some(First::Open(open)) };
            call(&mut raw, &token, 3, "SocketService/TransferSocket", &message(&open), 0).await;
            raw.hears("a stream", |said| said.frames.contains(&(DATA, 3))).await;
        }
        // It waits for what will not come.
        _ => {
            let wait = pb::WaitEventRequest {
                filter: Some(pb::EventFilter { kinds: vec!["icmp_received".into()], ..Default::default() }),
                timeout: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
                ..Default::default()
            };
            call(&mut raw, &token, 3, "EventService/WaitEvent", &message(&wait), END_STREAM).await;
        }
    }
    raw
}

/// They are asked to go, and go on calling.
async fn stays(mut raw: RawHttp2, token: String) {
    raw.hears("a request to go", |said| said.goaway.is_some()).await;
    for stream in (5..205).step_by(2) {
        call(&mut raw, &token, stream, "AgentService/GetAgent", &[0; 5], END_STREAM).await;
        raw.frame(PING, 0, 0, &[7; 8]).await;
    }
    // Its end has come.
    raw.ending().await;
}

/// Everybody else is told everything, and everything is closed; and the end comes although somebody would go on for ever, and although a
/// peer does not take what a socket that was closed has for it.
#[tokio::test]
async fn clients_that_will_not_go_hold_up_neither_what_others_are_told_nor_the_end() {
    let [ip, other] = LOOPBACKS;
    // A thousand who are to be told all of it need longer than a hundred.
    let (watchers, grace) = if long() { (1000, "10") } else { (100, "2") };
    let limits = ["--grace", grace, "--limit", "watchers=1200", "--limit", "watchers_total=2400"];
    let mut process = AgentProcess::start_with(&limits).await;
    let agent = process.agent();
    let mut guests = Vec::new();
    for (number, ip) in [ip, other].into_iter().cycle().take(16).enumerate() {
        let (listener, address) = TcpPeer::listen(ip).await;
        agent.connect(&format!("line-{number}"), &address.to_string()).await;
        guests.push(TcpPeer::accept(&listener).await);
    }
    // close(2) waits for an hour.
    let (_full, size) = unread_by_the_test(&agent, ip, "slow").await;
    let write = pb::WriteSocketRequest {
        call: timeout(50),
        payload: pattern(size, 1),
        socket_id: "slow".into(),
        ..Default::default()
    };
    assert!(agent.write_socket(write).await.unwrap().report.unwrap().timed_out);
    let linger = Some(prost_types::Duration { seconds: 3600, nanos: 0 });
    let close =
        pb::CloseSocketRequest { socket_id: "slow".into(), linger, call: detached("close"), ..Default::default() };
    agent.close_socket(close).await.unwrap();

    let mut rude = Vec::new();
    for number in 0..16 {
        rude.push(rude_client(&process, number).await);
    }
    let mut polite = Vec::new();
    for number in 0..watchers {
        // A connection has room for many.
        let connection = if number % 50 == 0 { process.agent() } else { Agent::at(agent.channel()) };
        polite.push(watch(&connection).await);
    }
    let waiting = Agent::at(agent.channel());
    let request =
        pb::ReceiveSocketRequest { socket_id: "line-1".into(), call: timeout(3_600_000), ..Default::default() };
    let waiting = tokio::spawn(async move { waiting.receive_socket(request).await });
    agent.udp("s", ip).await;

    process.signal(Signal::TERM);
    let staying: JoinSet<()> = rude.into_iter().map(|raw| stays(raw, process.token())).collect();
    let mut all: Vec<String> = (0..16).map(|number| format!("line-{number}")).collect();
    all.extend(["s".to_owned(), "slow".to_owned()]);
    all.sort_unstable();
    for stream in &mut polite {
        let events = rest(stream).await;
        let draining = events.iter().position(|event| event.kind == "agent_draining").unwrap();
        let (_, after) = events.split_at(draining);
        let mut closed: Vec<&str> =
            after.iter().filter(|event| event.kind == "closed").map(|event| &*event.socket_id).collect();
        closed.sort_unstable();
        assert_eq!(closed, all);
    }
    for guest in &mut guests {
        assert_eq!(guest.read_to_end().await.unwrap(), b"", "a FIN");
    }
    assert_eq!(went(&within("an answer", waiting).await.unwrap()), "ECANCELED");
    assert_eq!(process.wait().await.code(), Some(0));
    within("their end", staying.join_all()).await;
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
    let Some(before) = process.descriptors() else { return process.stop().await };
    for round in 0..3 {
        for (family, ip) in ["four", "six"].into_iter().zip(LOOPBACKS) {
            let name = format!("{family}-{round}");
            let door = agent.listen(&name, &any_port(ip)).await;
            for n in 0..8 {
                agent.connect(&format!("line-{n}"), &door).await;
                agent.event(&format!("{name}.{}", n + 1), "created").await;
            }
            assert!(process.descriptors().unwrap() >= before + 17);
            agent.sessions().reset_session(pb::ResetSessionRequest::default()).await.unwrap();
        }
    }
    assert_eq!(process.descriptors(), Some(before));
    process.stop().await;
}
