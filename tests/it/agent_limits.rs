//! What an agent does not put up with, and that nobody else suffers from it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use farsock::agent::{AgentConfig, Listen};
use farsock::client::{AgentClient, Credentials, Dialer, Endpoint};
use farsock::model::limits::Limits;
use farsock::wire::pb;
use farsock::wire::pb::agent_service_client::AgentServiceClient;
use farsock::wire::pb::event_service_client::EventServiceClient;
use farsock::wire::pb::socket_service_client::SocketServiceClient;
use farsock::wire::pb::transfer_socket_request::Frame;
use farsock::wire::pb::watch_events_response::Frame as Watched;
use prost::Message;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::client::Grpc;
use tonic_prost::ProstCodec;

use crate::harness::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Ending, HEADERS, KEPT_HEADER, PING, PRIORITY, RST_STREAM, RawHttp2,
    SETTINGS, UNKNOWN, WINDOW_UPDATE, becomes, headers, kept_header,
};
use crate::harness::transfer::create;
use crate::harness::{Agent, AgentProcess, DeadPort, LOOPBACKS, QUESTION, tcp_channel, with_token};

const GET_AGENT: &str = "/farsock.v1.AgentService/GetAgent";

/// How much memory an attack may cost: a hundredth of what it costs servers that keep what they are sent.
const MEMORY: u64 = 64 << 20;

/// Who ends the connection of an attack.
#[derive(Clone, Copy)]
enum Ends {
    ByTheAgent,
    ByEither,
}

/// Whether somebody else who comes by TCP is served.
async fn serves(agent: &AgentProcess) -> bool {
    let mut client = AgentServiceClient::new(tcp_channel(&agent.tcp()));
    client.get_agent(with_token(QUESTION, &agent.token())).await.is_ok()
}

/// An attack, which the agent must end, unless it can put up with all of it; and what it says of it.
async fn attack(rounds: u32, ends: Ends, send: impl AsyncFnMut(&mut RawHttp2, u32) -> bool) -> (Ending, AgentProcess) {
    let agent = AgentProcess::start().await;
    // Somebody who was there before, and goes on working.
    let honest = agent.agent();
    honest.listen("door", "127.0.0.1:0").await;
    let before = agent.memory();
    let mut raw = RawHttp2::greeted(&agent.tcp()).await;
    // Whoever has the token may do worse than those who are sent away because they have not shown one in time.
    let login = headers(GET_AGENT, &[("authorization", &authorization(&agent.token()))]);
    raw.frame(HEADERS, END_HEADERS, 1, &login).await;
    raw.frame(DATA, END_STREAM, 1, &[0; 5]).await;
    raw.hears("an answer", |said| said.frames.contains(&(DATA, 1))).await;
    raw.flood(rounds, send).await;
    assert!(serves(&agent).await, "whoever comes while it goes on is served");
    let ending = match ends {
        Ends::ByTheAgent => raw.ending().await,
        Ends::ByEither => raw.finish().await,
    };
    let grown = agent.memory().saturating_sub(before);
    assert!(grown < MEMORY, "it has cost {grown} bytes: {ending:?}");
    assert_eq!(honest.socket("door").await.socket_id, "door");
    assert!(serves(&agent).await);
    (ending, agent)
}

/// The token, in the headers of a call.
fn authorization(agent_token: &str) -> String {
    format!("Bearer {agent_token}")
}

/// CVE-2023-44487: a call and its cancellation, again and again.
#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let block = headers(GET_AGENT, &[]);
    let (ending, agent) = attack(20_000, Ends::ByTheAgent, async |raw, round| {
        let stream = round * 2 + 3;
        raw.frame(HEADERS, END_HEADERS, stream, &block).await
            && raw.frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()).await
    })
    .await;
    let (code, words) = ending.goaway.expect("it says why");
    assert_eq!((code, words.as_str()), (11, "too_many_resets"), "ENHANCE_YOUR_CALM");
    agent.stop().await;
}

/// RUSTSEC-2024-0003 and CVE-2025-8671: calls that the agent itself must reset, here for a window that overflows, again and again.
#[tokio::test]
async fn provoked_resets_end_the_connection() {
    let block = headers(GET_AGENT, &[]);
    let (ending, agent) = attack(20_000, Ends::ByTheAgent, async |raw, round| {
        let stream = round * 2 + 3;
        raw.frame(HEADERS, END_HEADERS, stream, &block).await
            && raw.frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes()).await
    })
    .await;
    assert_eq!(ending.goaway.expect("it says why").0, 11, "ENHANCE_YOUR_CALM");
    agent.stop().await;
}

/// CVE-2019-9512 and CVE-2019-9515: each of these wants an answer. CVE-2019-9513 and frames of no known type want none.
#[tokio::test]
async fn floods_of_frames_that_ask_for_nothing_end_the_connection() {
    for (kind, stream, payload) in [
        (PING, 0, &[7_u8; 8][..]),
        (SETTINGS, 0, &[0, 4, 0, 1, 0, 0]),
        (PRIORITY, 1, &[0, 0, 0, 3, 7]),
        (UNKNOWN, 0, &[]),
    ] {
        let send = async |raw: &mut RawHttp2, _| raw.frame(kind, 0, stream, payload).await;
        let (_, agent) = attack(50_000, Ends::ByTheAgent, send).await;
        agent.stop().await;
    }
}

/// RUSTSEC-2024-0332: headers that never end.
#[tokio::test]
async fn headers_without_an_end_end_the_connection() {
    let block = headers(GET_AGENT, &[]);
    let more = headers(GET_AGENT, &[("x", &"x".repeat(8000))]);
    let (ending, agent) = attack(50_000, Ends::ByTheAgent, async |raw, round| match round {
        0 => raw.frame(HEADERS, 0, 3, &block).await,
        _ => raw.frame(CONTINUATION, 0, 3, &more).await,
    })
    .await;
    assert_ne!(ending.goaway.expect("it says why").0, 0);
    agent.stop().await;
}

/// CVE-2016-6581: one header of 4 KiB is kept, and each byte that is sent from then on means all of it: 64 KiB are 256 MiB.
#[tokio::test]
async fn headers_that_unfold_cost_nobody_anything() {
    let mut first = headers(GET_AGENT, &[]);
    // The table has 4,096 bytes, and each entry takes 32 beside its text.
    first.extend(kept_header("x", &"x".repeat(4000)));
    let mut bomb = headers(GET_AGENT, &[]);
    bomb.extend(vec![KEPT_HEADER; 64 << 10]);
    let (ending, agent) = attack(200, Ends::ByEither, async |raw, round| {
        let block = if round == 0 { &first } else { &bomb };
        raw.frame(HEADERS, END_HEADERS | END_STREAM, round * 2 + 3, block).await
    })
    .await;
    let answered = |stream: u32| ending.frames.iter().any(|(kind, id)| *id == stream && *kind == DATA);
    assert!(
        ending.goaway.is_some() || !(1..200).any(|round| answered(round * 2 + 3)),
        "none is let through: {ending:?}"
    );
    agent.stop().await;
}

/// Who has logged in begins as many messages as he may, each of almost as many bytes as one may have, and ends none: what waits stays within
/// the windows, and whoever does not answer pings any more is sent away.
#[tokio::test]
async fn half_messages_wait_within_bounds_and_end_with_their_connection() {
    let agent = AgentProcess::start().await;
    let token = authorization(&agent.token());
    let block = headers("/farsock.v1.SocketService/WriteSocket", &[("authorization", &token)]);
    let honest = agent.agent();
    honest.listen("door", "127.0.0.1:0").await;
    let before = agent.memory();
    let mut raw = RawHttp2::greeted(&agent.tcp()).await;
    // Not compressed, and a million bytes long; of them come 16 KiB.
    let mut half = vec![0, 0, 15, 66, 64];
    half.resize(16 << 10, 7);
    raw.flood(240, async |raw, round| {
        let stream = round * 2 + 1;
        raw.frame(HEADERS, END_HEADERS, stream, &block).await && raw.frame(DATA, 0, stream, &half).await
    })
    .await;
    assert!(serves(&agent).await, "others are served meanwhile");
    let grown = agent.memory().saturating_sub(before);
    assert!(grown < MEMORY, "it has cost {grown} bytes");
    // It says nothing any more, not even that it is there.
    raw.ending().await;
    assert_eq!(honest.socket("door").await.socket_id, "door");
    assert!(serves(&agent).await);
    agent.stop().await;
}

/// Half a message and then nothing is ended; a whole one without its end, too, and that is told. Requests that are streams may say nothing for
/// as long as they like, and so may whoever only listens.
#[tokio::test]
async fn a_request_that_does_not_come_whole_in_time_is_ended_and_nothing_else() {
    let limit = Duration::from_millis(300);
    let door = Door::open(AgentConfig { request_timeout: limit, ..AgentConfig::default() }).await;
    let address = door.address.to_string();
    let token = authorization(&door.token);
    let headers = |path: &str| headers(path, &[("authorization", &token)]);
    let mut events = EventServiceClient::new(tcp_channel(&address));
    let watch = with_token(pb::WatchEventsRequest::default(), &door.token);
    let mut watch = events.watch_events(watch).await.unwrap().into_inner();
    watch.message().await.unwrap().expect("it is opened");

    let mut raw = RawHttp2::greeted(&address).await;
    // Of a stream that was there first comes half a message, too.
    let nobody = DeadPort::tcp(LOOPBACKS[0]);
    let message =
        pb::TransferSocketRequest { frame: Some(Frame::Create(create("line", &nobody.text()))) }.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let message = [&[0], &length[..], &message].concat();
    raw.frame(HEADERS, END_HEADERS, 1, &headers("/farsock.v1.SocketService/TransferSocket")).await;
    raw.frame(DATA, 0, 1, &message[..7]).await;
    // Not compressed, ten bytes long; of them come two.
    let begun = Instant::now();
    raw.frame(HEADERS, END_HEADERS, 3, &headers("/farsock.v1.SocketService/WriteSocket")).await;
    raw.frame(DATA, 0, 3, &[0, 0, 0, 0, 10, 1, 1]).await;
    raw.hears("the end of the half message", |said| said.frames.contains(&(HEADERS, 3))).await;
    assert!(begun.elapsed() >= limit, "not before its time");
    raw.hears("nothing more of it being taken", |said| said.frames.contains(&(RST_STREAM, 3))).await;
    // The others go on: a call, the stream, and the watch.
    raw.frame(HEADERS, END_HEADERS, 5, &headers(GET_AGENT)).await;
    raw.frame(DATA, END_STREAM, 5, &[0; 5]).await;
    raw.hears("an answer", |said| said.frames.contains(&(DATA, 5))).await;
    raw.frame(DATA, END_STREAM, 1, &message[7..]).await;
    raw.hears("the answer to the first frame", |said| said.frames.contains(&(DATA, 1))).await;
    let mut sockets = SocketServiceClient::new(tcp_channel(&address));
    let kind = Some(pb::create_socket_request::Kind::Udp(pb::UdpSocketSpec::default()));
    let one = pb::CreateSocketRequest { socket_id: "one".into(), kind, ..Default::default() };
    sockets.create_socket(with_token(one, &door.token)).await.unwrap();
    crate::harness::within("the event of it", async {
        while !matches!(watch.message().await.unwrap().unwrap().frame, Some(Watched::Batch(_))) {}
    })
    .await;

    // A whole message is no end, either.
    let mut grpc = Grpc::new(tcp_channel(&address));
    grpc.ready().await.unwrap();
    let codec = ProstCodec::<pb::GetAgentRequest, pb::GetAgentResponse>::default();
    let endless = tokio_stream::iter([QUESTION]).chain(tokio_stream::pending());
    let call = grpc.client_streaming(with_token(endless, &door.token), GET_AGENT.parse().unwrap(), codec);
    let status = crate::harness::within("a status", call).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(status.message().contains("has not come whole within 0.3 s: nothing was done"), "{status:?}");
    drop((watch, events, sockets, grpc, raw));
    door.close().await;
}

/// RUSTSEC-2026-0258: frames that say nothing.
#[tokio::test]
async fn empty_data_frames_end_the_connection() {
    let agent = AgentProcess::start().await;
    let token = authorization(&agent.token());
    let block = headers("/farsock.v1.SocketService/WriteSocket", &[("authorization", &token)]);
    let mut raw = RawHttp2::greeted(&agent.tcp()).await;
    raw.frame(HEADERS, END_HEADERS, 1, &block).await;
    raw.flood(200_000, async |raw, _| raw.frame(DATA, 0, 1, &[]).await).await;
    assert!(serves(&agent).await);
    assert_eq!(raw.finish().await.goaway.expect("it says why").0, 11, "ENHANCE_YOUR_CALM");
    agent.stop().await;
}

/// One such call is refused, and the connection lives.
#[tokio::test]
async fn headers_that_are_too_long_are_refused() {
    let agent = AgentProcess::start().await;
    let token = authorization(&agent.token());
    let mut raw = RawHttp2::greeted(&agent.tcp()).await;
    let long = headers(GET_AGENT, &[("authorization", &token), ("x", &"x".repeat(9 << 10))]);
    let short = headers(GET_AGENT, &[("authorization", &token)]);
    raw.frame(HEADERS, END_HEADERS | END_STREAM, 1, &long).await;
    raw.frame(HEADERS, END_HEADERS, 3, &short).await;
    raw.frame(DATA, END_STREAM, 3, &[0; 5]).await;
    raw.hears("an answer", |said| said.frames.contains(&(DATA, 3))).await;
    let ending = raw.finish().await;
    let answers =
        |stream: u32| ending.frames.iter().filter(|(_, s)| *s == stream).map(|(kind, _)| *kind).collect::<Vec<_>>();
    assert!(!answers(1).contains(&DATA), "the long one is not: {ending:?}");
    assert!(answers(1).iter().any(|kind| [HEADERS, RST_STREAM].contains(kind)), "but refused: {ending:?}");
    agent.stop().await;
}

/// 1,024 streams are open at a time; the next one is refused, and the others live.
#[tokio::test]
async fn one_stream_more_than_there_may_be_is_refused() {
    let agent = AgentProcess::start().await;
    let token = authorization(&agent.token());
    let block = headers("/farsock.v1.SocketService/WriteSocket", &[("authorization", &token)]);
    let mut raw = RawHttp2::greeted(&agent.tcp()).await;
    raw.flood(1030, async |raw, round| raw.frame(HEADERS, END_HEADERS, round * 2 + 1, &block).await).await;
    assert!(serves(&agent).await);
    let first = 1024 * 2 + 1;
    raw.hears("a refusal", |said| said.frames.contains(&(RST_STREAM, first))).await;
    let ending = raw.finish().await;
    let refused: Vec<u32> = ending.frames.iter().filter(|(kind, _)| *kind == RST_STREAM).map(|(_, id)| *id).collect();
    assert!(refused.iter().all(|id| *id >= first), "{refused:?}");
    agent.stop().await;
}

#[tokio::test]
async fn a_message_above_the_limit_is_refused_and_the_connection_lives() {
    let agent = AgentProcess::start().await;
    let client = agent.agent();
    let limits = client.agent().get_agent(QUESTION).await.unwrap().into_inner().agent.unwrap().limits.unwrap();
    let size = usize::try_from(limits.message_bytes).unwrap();
    let payload =
        pb::Payload { content: Some(pb::payload::Content::Data(vec![0; size + 1].into())), ..Default::default() };
    let request = pb::WriteSocketRequest { socket_id: "line".into(), payload: Some(payload), ..Default::default() };
    let status = client.sockets().write_socket(request).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains(&format!("limits.message_bytes of this agent, {size}: ")), "{status:?}");
    client.listen("door", "127.0.0.1:0").await;
    agent.stop().await;
}

// === Connections ===

/// An agent in this process that is reached by TCP, with limits of the test's own.
struct Door {
    address: SocketAddr,
    token: String,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
    _folder: TempDir,
}

impl Door {
    async fn open(config: AgentConfig) -> Self {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("token");
        let listen = vec![Listen::Tcp("127.0.0.1:0".parse().unwrap())];
        let agent = farsock::agent::Agent::bind(AgentConfig { listen, token_file: Some(file.clone()), ..config })
            .await
            .unwrap();
        let [Listen::Tcp(address)] = agent.listens()[..] else { panic!("{:?}", agent.listens()) };
        let token = std::fs::read_to_string(file).unwrap().trim().to_owned();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(agent.serve(async { stopped.await.unwrap_or(()) }, CancellationToken::new()));
        Self { address, token, stop, served, _folder: folder }
    }

    async fn close(self) {
        drop(self.stop);
        crate::harness::within("the agent's end", self.served).await.unwrap();
    }
}

/// Whoever has not shown credentials within the login timeout is sent away, however little or much it has said.
#[tokio::test]
async fn a_connection_that_does_not_log_in_is_ended() {
    let config = AgentConfig { login_timeout: Duration::from_millis(200), ..AgentConfig::default() };
    let door = Door::open(config).await;
    let address = door.address.to_string();
    let mut halfway = RawHttp2::silent(&address).await;
    halfway.part_of_preface(11).await;
    let mut no_settings = RawHttp2::silent(&address).await;
    no_settings.part_of_preface(24).await;
    let mut endless = RawHttp2::greeted(&address).await;
    endless.frame(HEADERS, 0, 1, &headers(GET_AGENT, &[])).await;
    endless.flush().await;
    let mut wrong = RawHttp2::greeted(&address).await;
    wrong.frame(HEADERS, END_HEADERS | END_STREAM, 1, &headers(GET_AGENT, &[("authorization", "Bearer x")])).await;
    wrong.flush().await;
    for raw in
        [RawHttp2::silent(&address).await, halfway, no_settings, RawHttp2::greeted(&address).await, endless, wrong]
    {
        raw.ending().await;
    }
    // Who has logged in stays, and needs not say anything more.
    let mut client = AgentServiceClient::new(tcp_channel(&address));
    client.get_agent(with_token(QUESTION, &door.token)).await.unwrap();
    RawHttp2::silent(&address).await.ending().await;
    client.get_agent(with_token(QUESTION, &door.token)).await.unwrap();
    drop(client);
    door.close().await;
}

#[tokio::test]
async fn connections_above_the_limit_are_refused_until_others_have_gone() {
    let limits = Limits { connections: 1, reserved_connections: 1, ..Limits::default() };
    let door = Door::open(AgentConfig { limits, ..AgentConfig::default() }).await;
    let address = door.address.to_string();
    let login = || async {
        let mut client = AgentServiceClient::new(tcp_channel(&address));
        client.get_agent(with_token(QUESTION, &door.token)).await.map(|_| client)
    };
    let (first, second) = (login().await.unwrap(), login().await.unwrap());
    let status = login().await.expect_err("the third one is turned away");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains("limits.reserved_connections of this agent is 1"), "{status:?}");
    // Who has not asked for anything yet takes no place.
    let _stranger = TcpStream::connect(&address).await.unwrap();
    let told = second.clone().get_agent(with_token(QUESTION, &door.token)).await.unwrap().into_inner().agent.unwrap();
    let of = |name: &str| told.usage.iter().find(|usage| usage.name == name).unwrap();
    assert_eq!((of("connections").limit, of("connections").used, of("connections").refused), (1, 1, 0));
    let usage = of("reserved_connections");
    assert!((usage.limit, usage.used) == (1, 1) && usage.refused >= 1, "{usage:?}");
    drop(first);
    becomes("room for another one", || async { login().await.is_ok() }).await;
    drop(second);
    door.close().await;
}

/// By the limits that are there where nobody has changed one.
#[tokio::test]
async fn those_who_do_not_log_in_take_no_room_from_those_who_do() {
    let folder = TempDir::new().unwrap();
    let at = folder.path().join("agent.sock");
    let listen = vec![Listen::Tcp("127.0.0.1:0".parse().unwrap()), Listen::Unix(at.clone())];
    let token_file = Some(folder.path().join("token"));
    let patient = AgentConfig { login_timeout: Duration::from_secs(3600), ..AgentConfig::default() };
    let agent = Agent::start_with(AgentConfig { listen, token_file, ..patient }).await;
    let token = std::fs::read_to_string(folder.path().join("token")).unwrap().trim().to_owned();
    let mut inside = AgentServiceClient::new(tcp_channel(&agent.tcp().to_string()));
    inside.get_agent(with_token(QUESTION, &token)).await.unwrap();
    // Nobody says a word, from as many sources as would once have filled every place.
    let mut silent = Vec::new();
    for source in 2..=9 {
        for _ in 0..64 {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(format!("127.0.0.{source}:0").parse().unwrap()).unwrap();
            silent.push(socket.connect(agent.tcp()).await.unwrap());
        }
    }
    let usage = || async {
        let told = agent.agent().get_agent(QUESTION).await.unwrap().into_inner().agent.unwrap();
        let of = |name: &str| told.usage.iter().find(|usage| usage.name == name).unwrap().clone();
        (of("logins"), of("logins_per_source"), of("connections"))
    };
    becomes("all of them looked at", || async {
        let (logins, of_source, _) = usage().await;
        logins.used + logins.refused + of_source.refused == 512
    })
    .await;
    let (logins, of_source, connections) = usage().await;
    assert_eq!((logins.used, of_source.used, connections.used, connections.refused), (64, 32, 2, 0));
    inside.get_agent(with_token(QUESTION, &token)).await.unwrap();
    let owner = AgentClient::new(&Dialer::to(&Endpoint::Unix(at)), &Credentials::none());
    owner.info().await.expect("the Unix socket has room");
    drop(silent);
    becomes("room by TCP", || async {
        let mut another = AgentServiceClient::new(tcp_channel(&agent.tcp().to_string()));
        another.get_agent(with_token(QUESTION, &token)).await.is_ok()
    })
    .await;
    agent.stop().await;
}

/// `--no-auth` asks for nothing, and does not wait for ever for it.
#[tokio::test]
async fn without_credentials_too_a_connection_has_to_ask_for_something_in_time() {
    let start = |login_timeout| {
        let listen = vec![Listen::Tcp("127.0.0.1:0".parse().unwrap())];
        let limits = Limits { logins_per_source: 2, ..Limits::default() };
        Agent::start_with(AgentConfig { listen, no_auth: true, login_timeout, limits, ..AgentConfig::default() })
    };
    let agent = start(Duration::from_millis(300)).await;
    let address = agent.tcp().to_string();
    let mut client = AgentServiceClient::new(tcp_channel(&address));
    client.get_agent(QUESTION).await.unwrap();
    RawHttp2::silent(&address).await.ending().await;
    let mut halfway = RawHttp2::silent(&address).await;
    halfway.part_of_preface(11).await;
    halfway.ending().await;
    RawHttp2::greeted(&address).await.ending().await;
    client.get_agent(QUESTION).await.expect("who has asked stays");
    agent.stop().await;
    // And one source has no more places than elsewhere.
    let agent = start(Duration::from_secs(3600)).await;
    let address = agent.tcp().to_string();
    let _silent = [RawHttp2::silent(&address).await, RawHttp2::silent(&address).await];
    RawHttp2::silent(&address).await.ending().await;
    agent.stop().await;
}

/// Without descriptors an agent cannot accept; it goes on with those that it has, computes next to nothing, and recovers by itself.
#[tokio::test]
async fn an_agent_without_descriptors_waits_for_better_times() {
    let agent = AgentProcess::start().await;
    let client = agent.agent();
    client.listen("door", "127.0.0.1:0").await;
    let Some(open) = agent.descriptors() else { return agent.stop().await };
    let pid = Pid::from_raw(agent.pid().try_into().unwrap());
    // Those of a child are its parent's.
    let maximum = getrlimit(Resource::Nofile).maximum;
    let none_left = Rlimit { current: Some(open as u64), maximum };
    let all = prlimit(pid, Resource::Nofile, none_left).unwrap();
    // These wait in the kernel's queue.
    let mut waiting = Vec::new();
    for _ in 0..8 {
        waiting.push(TcpStream::connect(agent.tcp()).await.unwrap());
    }
    let (before, begun) = (agent.ticks(), Instant::now());
    for _ in 0..15 {
        // The connection that was there before is served all the while; each answer is a wait of its own.
        let request = pb::WaitEventRequest {
            expect_none: true,
            timeout: Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 }),
            ..Default::default()
        };
        assert!(client.events().wait_event(request).await.unwrap().into_inner().timed_out);
    }
    // A loop that spins takes all of the time, which is 100 ticks a second.
    let (spent, passed) = (u128::from(agent.ticks() - before) * 10, begun.elapsed().as_millis());
    assert!(spent < passed / 2, "{spent} ms of {passed} ms");
    let created = client.create_udp("one-more", pb::UdpSocketSpec::default()).await.unwrap();
    assert_eq!(crate::harness::error_name(created.report.as_ref()), "EMFILE");
    prlimit(pid, Resource::Nofile, all).unwrap();
    assert!(serves(&agent).await, "those who have waited are let in");
    drop(waiting);
    client.create_udp("another", pb::UdpSocketSpec::default()).await.unwrap();
    agent.stop().await;
}
