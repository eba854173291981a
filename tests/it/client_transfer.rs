//! Far connections as streams of the client's own: what tokio's programs do with them, and what they may rely on.

use std::future::poll_fn;
use std::io::{ErrorKind, Result};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use farsock::agent::{AgentConfig, Listen};
use farsock::client::{AgentClient, ClientError, Credentials, Dialer, Endpoint, FarStream};
use farsock::model::address::AddressText;
use farsock::model::errno::Errno;
use farsock::model::id::{SessionId, SocketId};
use farsock::model::operation::{CallOptions, Operation, Target};
use farsock::model::socket::CloseReason;
use farsock::model::spec::{SocketSpec, TcpRole};
use farsock::wire::pb;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional, split};
use tokio::net::TcpStream;

use crate::harness::tcp::{any_port, pattern_bytes};
use crate::harness::{Agent, DeadPort, Fault, LOOPBACKS, Proxy, TcpPeer, within};

/// What an agent may send before anything is read.
const CREDIT: u64 = 512 << 10;

fn named(id: &str) -> SocketId {
    SocketId::parse(id).unwrap()
}

fn connecting_to(address: SocketAddr) -> SocketSpec {
    SocketSpec::tcp(TcpRole::Connect(AddressText::parse(&address.to_string()).unwrap()))
}

async fn connect(client: &AgentClient, id: &str, address: SocketAddr) -> Result<FarStream> {
    let (session, options) = (SessionId::default(), CallOptions::default());
    within("a connection", client.connect(&session, Some(&named(id)), connecting_to(address), &options)).await
}

async fn attach(client: &AgentClient, id: &str) -> Result<FarStream> {
    let target = Target { session: SessionId::default(), socket: named(id), uid: None };
    within("the stream", client.attach(&target)).await
}

/// A connection that was made for a stream, and its peer.
async fn line(agent: &Agent, ip: IpAddr, id: &str) -> (FarStream, TcpPeer) {
    let (listener, address) = TcpPeer::listen(ip).await;
    let stream = connect(&agent.client(), id, address).await.unwrap();
    (stream, TcpPeer::accept(&listener).await)
}

/// A connection that was there before its stream, and its peer.
async fn taken_over(agent: &Agent, ip: IpAddr, id: &str) -> (FarStream, TcpPeer) {
    let (listener, address) = TcpPeer::listen(ip).await;
    agent.connect(id, &address.to_string()).await;
    (attach(&agent.client(), id).await.unwrap(), TcpPeer::accept(&listener).await)
}

async fn read(stream: &mut FarStream, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    within("bytes", stream.read_exact(&mut bytes)).await.unwrap();
    bytes
}

async fn read_to_end(stream: &mut FarStream) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    within("the end", stream.read_to_end(&mut bytes)).await?;
    Ok(bytes)
}

/// How much goes through where much is wanted: the long form is for whoever has the time.
fn much() -> usize {
    if std::env::var_os("FARSOCK_LONG").is_some() { 100 << 20 } else { 12 << 20 }
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_way_ends_by_itself() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let (mut stream, mut peer) = line(&agent, ip, &id).await;
        assert_eq!(stream.remote().unwrap().to_string(), peer.0.local_addr().unwrap().to_string());
        assert_eq!(stream.local().unwrap().to_string(), peer.0.peer_addr().unwrap().to_string());
        stream.write_all(b"question").await.unwrap();
        assert_eq!(peer.read(8).await, b"question");
        peer.write(b"answer\r\nand more").await;
        let mut line = String::new();
        within("a line", stream.read_line(&mut line)).await.unwrap();
        assert_eq!(line, "answer\r\n");
        stream.write_all(b"last").await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(peer.read_to_end().await.unwrap(), b"last");
        assert_eq!(stream.write(b"x").await.unwrap_err().raw_os_error(), Some(Errno::EPIPE.number()));
        assert_eq!(read(&mut stream, 8).await, b"and more", "reading goes on");
        peer.shut_down().await;
        assert_eq!(read_to_end(&mut stream).await.unwrap(), b"");
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "and again");
        drop(stream);
        assert_eq!(agent.closed(&id).await.reason(), pb::CloseReason::Closed, "both had ended: that is good order");
    }
}

#[tokio::test]
async fn bytes_are_handed_through_as_they_are() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let (mut stream, mut peer) = line(&agent, ip, &format!("line-{at}")).await;
        let whole = Bytes::from(pattern_bytes(2_000_000, 7));
        let mut left = whole.clone();
        let echo = tokio::spawn(async move {
            let bytes = peer.read(2_000_000).await;
            peer.write(&bytes).await;
            peer.shut_down().await;
        });
        within("room", stream.write_bytes(&mut left)).await.unwrap();
        assert!(left.is_empty());
        let mut back = Vec::new();
        while let Some(piece) = within("bytes", stream.read_bytes()).await.unwrap() {
            assert!(!piece.is_empty());
            back.extend(piece);
        }
        assert!(back == whole);
        echo.await.unwrap();
    }
}

#[tokio::test]
async fn much_goes_through_unchanged_both_ways_at_once() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let (stream, peer) = line(&agent, ip, &format!("line-{at}")).await;
        let (mut far_in, mut far_out) = split(stream);
        let (mut near_in, mut near_out) = peer.0.into_split();
        let (sent_far, sent_near, got_far, got_near) = tokio::join!(
            send(&mut far_out, 1, 100_000),
            send(&mut near_out, 2, 65_537),
            hash(&mut far_in),
            hash(&mut near_in)
        );
        assert!(sent_far == got_near, "from the client");
        assert!(sent_near == got_far, "to the client");
    }
}

/// Sends much, in pieces up to this size, and ends; answers its hash.
async fn send(out: &mut (impl AsyncWrite + Unpin), seed: u64, most: usize) -> Vec<u8> {
    let source = pattern_bytes(1 << 20, seed);
    let (mut hash, mut left, mut size) = (Sha256::new(), much(), 1);
    while left > 0 {
        size = (size * 7 + 13) % most + 1;
        let piece = &source[..size.min(left)];
        hash.update(piece);
        within("room", out.write_all(piece)).await.unwrap();
        left -= piece.len();
    }
    out.shutdown().await.unwrap();
    hash.finalize().to_vec()
}

async fn hash(input: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 100_000]);
    loop {
        match within("bytes", input.read(&mut buffer)).await.unwrap() {
            0 => return hash.finalize().to_vec(),
            size => hash.update(&buffer[..size]),
        }
    }
}

/// The agent reads what was granted, to the byte, and then the far peer's window closes.
#[tokio::test]
async fn a_reader_that_does_not_read_closes_the_far_window() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let (mut stream, mut peer) = line(&agent, ip, &id).await;
        let size = 24 << 20;
        let sender = tokio::spawn(async move {
            peer.write(&pattern_bytes(size, 3)).await;
            peer.shut_down().await;
            peer
        });
        let credit_used =
            |socket: &pb::Socket| socket.bytes_read() == CREDIT && socket.queues.unwrap().receive_bytes() > 0;
        agent.until(&id, "the credit's end", credit_used).await;
        assert!(!sender.is_finished());
        let taken = read(&mut stream, 1000).await;
        assert_eq!(agent.socket(&id).await.bytes_read(), CREDIT, "a little read grants nothing yet");
        let rest = read_to_end(&mut stream).await.unwrap();
        assert!([taken, rest].concat() == pattern_bytes(size, 3));
        sender.await.unwrap();
    }
}

/// What the client may send is what the agent has granted, and no byte more: the agent would end the stream.
#[tokio::test]
async fn a_writer_waits_while_the_far_peer_does_not_read() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let (mut stream, mut peer) = line(&agent, ip, &id).await;
        let size = 24 << 20;
        let writer = tokio::spawn(async move {
            stream.write_all(&pattern_bytes(size, 4)).await.unwrap();
            stream.shutdown().await.unwrap();
            stream
        });
        agent
            .until(&id, "the credit's end", |socket| {
                u64::from(socket.queues.unwrap().pending_write_bytes()) > CREDIT / 2
            })
            .await;
        assert!(!writer.is_finished());
        let got = peer.read_to_end().await.unwrap();
        assert!(got == pattern_bytes(size, 4));
        let _stream = writer.await.unwrap();
    }
}

#[tokio::test]
async fn a_reset_by_the_far_peer_is_an_error_with_its_number() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let (mut stream, mut peer) = line(&agent, ip, &format!("line-{at}")).await;
        peer.write(b"last words").await;
        assert_eq!(read(&mut stream, 4).await, b"last");
        peer.abort();
        let mut rest = [0; 100];
        let mut size = 0;
        let error = loop {
            match within("the reset", stream.read(&mut rest[size..])).await {
                Ok(0) => panic!("a reset is no end"),
                Ok(more) => size += more,
                Err(error) => break error,
            }
        };
        assert_eq!(&rest[..size], b" words", "what came before is not lost");
        let reset = Some(Errno::ECONNRESET.number());
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::ConnectionReset, reset));
        assert_eq!(stream.error().unwrap().operation, Operation::Receive);
        assert_eq!(within("the end", stream.write(b"x")).await.unwrap_err().raw_os_error(), reset);
        assert_eq!(stream.shutdown().await.unwrap_err().raw_os_error(), reset);
        assert_eq!(stream.closing().unwrap().reason, CloseReason::PeerReset);
    }
}

#[tokio::test]
async fn an_abort_resets_the_connection_and_waits_for_its_end() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        for make in [true, false] {
            let id = format!("line-{at}-{make}");
            let (mut stream, mut peer) =
                if make { line(&agent, ip, &id).await } else { taken_over(&agent, ip, &id).await };
            stream.write_all(b"never mind").await.unwrap();
            let closing = within("the end", stream.abort()).await.unwrap();
            assert_eq!(closing.reason, CloseReason::Aborted);
            assert_eq!(peer.read_to_end().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_dropped_gives_the_socket_back_or_resets_it() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let (stream, mut peer) = line(&agent, ip, &format!("made-{at}")).await;
        drop(stream);
        assert_eq!(peer.read_to_end().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(agent.closed(&format!("made-{at}")).await.reason(), pb::CloseReason::Aborted);

        let id = format!("found-{at}");
        let (mut stream, mut peer) = taken_over(&agent, ip, &id).await;
        stream.write_all(b"hola").await.unwrap();
        assert_eq!(peer.read(4).await, b"hola");
        drop(stream);
        agent.event(&id, "detached").await;
        peer.write(b"still here").await;
        assert_eq!(agent.receive_text(&id).await, "still here");
        let mut again = attach(&agent.client(), &id).await.unwrap();
        again.write_all(b"so am I").await.unwrap();
        assert_eq!(peer.read(7).await, b"so am I");
    }
}

/// As with a socket of this host: what was written before its end still arrives when the program has let go of it.
#[tokio::test]
async fn what_was_written_arrives_also_when_the_stream_is_dropped_after_both_ends() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let (mut stream, mut peer) = line(&agent, ip, &id).await;
        peer.shut_down().await;
        assert_eq!(read_to_end(&mut stream).await.unwrap(), b"");
        let size = 300_000;
        stream.write_all(&pattern_bytes(size, 5)).await.unwrap();
        stream.shutdown().await.unwrap();
        drop(stream);
        assert!(peer.read_to_end().await.unwrap() == pattern_bytes(size, 5));
        assert_eq!(agent.closed(&id).await.reason(), pb::CloseReason::Closed);
    }
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let agent = Agent::start().await;
    let client = agent.client();
    for ip in LOOPBACKS {
        let nobody = DeadPort::tcp(ip);
        let error = connect(&client, "line", nobody.address()).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::ECONNREFUSED.number()));
        assert_eq!(agent.open_sockets().await, 0);
    }
    let error = attach(&client, "nobody").await.unwrap_err();
    let refused = error.get_ref().unwrap().downcast_ref::<ClientError>().unwrap();
    assert!(matches!(refused, ClientError::Refused { reason, .. } if reason == "SOCKET_NOT_FOUND"), "{refused:?}");
}

#[tokio::test]
async fn whoever_ends_the_socket_a_stream_does_not_take_it_for_the_peers_end() {
    let mut agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let (mut stream, _peer) = taken_over(&agent, ip, &id).await;
        agent.close(&id).await;
        let error = read_to_end(&mut stream).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        assert_eq!(error.to_string(), "the far socket is gone: CloseSocket closed it");
    }
    let (mut stream, _peer) = taken_over(&agent, LOOPBACKS[0], "last").await;
    agent.begin_to_stop();
    let error = read_to_end(&mut stream).await.unwrap_err();
    assert_eq!(error.to_string(), "the far socket is gone: the agent is stopping");
}

#[tokio::test]
async fn copy_bidirectional_makes_a_far_connection_one_of_this_host() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let (mut far, mut peer) = line(&agent, ip, &format!("line-{at}")).await;
        let (listener, address) = TcpPeer::listen(ip).await;
        let mut user = TcpPeer::connect(&address.to_string()).await;
        let mut near: TcpStream = TcpPeer::accept(&listener).await.0;
        let copied = tokio::spawn(async move { copy_bidirectional(&mut near, &mut far).await });
        let (question, answer) = (pattern_bytes(500_000, 1), pattern_bytes(700_000, 2));
        let asking = async {
            user.write(&question).await;
            user.shut_down().await;
            user.read_to_end().await.unwrap()
        };
        let answering = async {
            let got = peer.read_to_end().await.unwrap();
            peer.write(&answer).await;
            peer.shut_down().await;
            got
        };
        let (answered, asked) = tokio::join!(asking, answering);
        assert!(asked == question && answered == answer);
        assert_eq!(within("the end", copied).await.unwrap().unwrap(), (500_000, 700_000));
    }
}

/// Over a link that is slow, and at some byte is none any more.
#[tokio::test]
async fn a_connection_to_the_agent_that_breaks_is_no_end_of_the_peer() {
    let agent = Agent::start_with(AgentConfig {
        listen: vec![Listen::Tcp(([127, 0, 0, 1], 0).into())],
        no_auth: true,
        ..AgentConfig::default()
    })
    .await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let fault = Fault { cut_answers_after: Some(100_000), delay: Duration::from_millis(1), ..Fault::default() };
        let proxy = Proxy::start(agent.tcp(), move |_| fault).await;
        let endpoint = Endpoint::Tcp { host: "127.0.0.1".to_owned(), port: proxy.address.port() };
        let client = AgentClient::new(&Dialer::to(&endpoint), &Credentials::none());
        let (listener, address) = TcpPeer::listen(ip).await;
        let id = format!("line-{at}");
        let mut stream = connect(&client, &id, address).await.unwrap();
        let mut peer = TcpPeer::accept(&listener).await;
        peer.write(&pattern_bytes(300_000, 1)).await;
        peer.shut_down().await;
        let mut bytes = Vec::new();
        let error = within("the cut", stream.read_to_end(&mut bytes)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConnected);
        assert!(bytes.len() < 100_000 && bytes == pattern_bytes(300_000, 1)[..bytes.len()]);
        assert_eq!(stream.write(b"x").await.unwrap_err().kind(), ErrorKind::NotConnected);
        assert_eq!(agent.closed(&id).await.reason(), pb::CloseReason::Aborted);
    }
}

/// Each read and each write is given up after so many polls, and begun again.
#[tokio::test]
async fn nothing_is_lost_or_doubled_by_giving_up() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let (stream, peer) = line(&agent, ip, &format!("line-{at}")).await;
        let (mut near_in, mut near_out) = peer.0.into_split();
        let echo = tokio::spawn(async move {
            tokio::io::copy(&mut near_in, &mut near_out).await.unwrap();
            near_out.shutdown().await.unwrap();
        });
        let (mut far_in, mut far_out) = split(stream);
        let whole = pattern_bytes(3_000_000, 9);
        let writing = async {
            let mut written = 0;
            while written < whole.len() {
                let polls = written % 3;
                let piece = &whole[written..whole.len().min(written + 10_000)];
                written += unless_given_up(polls, far_out.write(piece)).await.unwrap_or(Ok(0)).unwrap();
            }
            far_out.shutdown().await.unwrap();
        };
        let reading = async {
            let (mut back, mut buffer) = (Vec::new(), vec![0; 10_007]);
            loop {
                match unless_given_up(back.len() % 3, far_in.read(&mut buffer)).await.map(Result::unwrap) {
                    None => {}
                    Some(0) => return back,
                    Some(size) => back.extend_from_slice(&buffer[..size]),
                }
            }
        };
        let ((), back) = within("the end", async { tokio::join!(writing, reading) }).await;
        assert!(back == whole);
        echo.await.unwrap();
    }
}

/// What a future answers within so many polls and one; none if it does not. In between and afterwards others have their turn.
async fn unless_given_up<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..=polls {
        if let Poll::Ready(answer) = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
            return Some(answer);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// Forty streams that nobody reads have as much underway as they may: more than one connection holds.
#[tokio::test]
async fn streams_that_nobody_reads_hold_up_no_other() {
    let agent = Agent::start().await;
    let client = agent.client();
    let (listener, address) = TcpPeer::listen(LOOPBACKS[0]).await;
    let mut stalled = Vec::new();
    for at in 0..40 {
        let id = format!("stalled-{at}");
        let stream = connect(&client, &id, address).await.unwrap();
        let mut peer = TcpPeer::accept(&listener).await;
        let sender = tokio::spawn(async move {
            // Until the stream is dropped and with it the connection.
            let _ = peer.0.write_all(&vec![7; 8 << 20]).await;
        });
        agent.until(&id, "the credit's end", |socket| socket.bytes_read() == CREDIT).await;
        stalled.push((stream, sender));
    }
    let mut stream = connect(&client, "live", address).await.unwrap();
    let mut peer = TcpPeer::accept(&listener).await;
    let bytes = pattern_bytes(3_000_000, 1);
    let ((), back) = tokio::join!(peer.write(&bytes), read(&mut stream, 3_000_000));
    assert!(back == bytes);
    for (stream, sender) in stalled {
        drop(stream);
        within("the end of a sender", sender).await.unwrap();
    }
}

#[tokio::test]
async fn a_far_listener_accepts_whoever_comes_and_loses_nobody() {
    let agent = Agent::start().await;
    let client = agent.client();
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = named(&format!("door-{at}"));
        let spec = SocketSpec::tcp(TcpRole::Listen(Some(AddressText::parse(&any_port(ip)).unwrap())));
        let mut listener = client.listen(&SessionId::default(), Some(&id), spec).await.unwrap();
        let address = listener.local().unwrap().to_string();
        for number in 1..=5 {
            // Given up at whatever point it has come to.
            for polls in 0..3 * number {
                assert!(unless_given_up(polls, listener.accept()).await.is_none());
            }
            let mut peer = TcpPeer::connect(&address).await;
            peer.write(b"before anybody has accepted").await;
            let mut stream = within("a connection", async {
                loop {
                    if let Some(accepted) = unless_given_up(number, listener.accept()).await {
                        return accepted.unwrap();
                    }
                }
            })
            .await;
            assert_eq!(stream.socket().id.to_string(), format!("{id}.{number}"));
            assert_eq!(stream.remote().unwrap().to_string(), peer.0.local_addr().unwrap().to_string());
            assert_eq!(read(&mut stream, 27).await, b"before anybody has accepted");
            stream.write_all(b"welcome").await.unwrap();
            assert_eq!(peer.read(7).await, b"welcome");
        }
        let spec = SocketSpec::tcp(TcpRole::Listen(Some(AddressText::parse(&address).unwrap())));
        let error = client.listen(&SessionId::default(), None, spec).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::EADDRINUSE.number()));
        within("the end", listener.close()).await.unwrap();
        assert_eq!(agent.closed(id.as_str()).await.reason(), pb::CloseReason::Closed);
    }
}
