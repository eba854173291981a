//! TransferSocket: bytes both ways through one stream, each as far as the other end lets it.

use std::net::IpAddr;

use farsock::agent::AgentConfig;
use farsock::model::limits::Limits;
use farsock::wire::pb;
use farsock::wire::pb::transfer_socket_request::Frame;
use farsock::wire::pb::transfer_socket_response::Frame as Answer;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;

use crate::harness::tcp::{any_port, pattern_bytes, timeout, went};
use crate::harness::transfer::{create, open};
use crate::harness::{Agent, LOOPBACKS, TcpPeer, within};

async fn line(agent: &Agent, ip: IpAddr, id: &str, spec: pb::TcpSocketSpec) -> TcpPeer {
    let (listener, address) = TcpPeer::listen(ip).await;
    agent.connect_with(id, &address.to_string(), spec).await;
    TcpPeer::accept(&listener).await
}

fn hashed() -> pb::TcpSocketSpec {
    let delivery = Some(pb::Delivery { hash: Some(true), ..Default::default() });
    pb::TcpSocketSpec { delivery, ..Default::default() }
}

/// Many times what any buffer on the way holds, both ways at once, each end granting only little by little.
#[tokio::test]
async fn bytes_go_both_ways_whole_and_in_order() {
    const SIZE: usize = 8 << 20;
    let agent = Agent::start().await;
    let (out, back) = (pattern_bytes(SIZE, 1), pattern_bytes(SIZE, 2));
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let peer = line(&agent, ip, &id, pb::TcpSocketSpec::default()).await;
        let (mut stream, opened) = agent.take_over(&id).await;
        let socket = opened.socket.unwrap();
        assert_eq!((socket.socket_id.as_str(), socket.delivery.unwrap().mode()), (&*id, pb::DeliveryMode::Transfer));
        assert_eq!((opened.window, opened.report), (512 << 10, None));

        let (mut reads, mut writes) = peer.0.into_split();
        let to_read = out.clone();
        let reader = tokio::spawn(async move {
            let mut bytes = Vec::new();
            reads.read_to_end(&mut bytes).await.unwrap();
            assert!(bytes == to_read, "{} bytes of {}", bytes.len(), to_read.len());
        });
        let to_write = back.clone();
        let writer = tokio::spawn(async move {
            writes.write_all(&to_write).await.unwrap();
            writes.shutdown().await.unwrap();
        });

        let (mut credit, mut sent, mut received, mut granted) = (opened.window, 0, 0, 0);
        let mut ended = false;
        while !ended {
            while credit > 0 && sent < SIZE {
                let size = usize::try_from(credit).unwrap().min(100_000).min(SIZE - sent);
                stream.data(out[sent..sent + size].to_vec()).await;
                credit -= size as u64;
                sent += size;
                if sent == SIZE {
                    stream.end().await;
                }
            }
            if granted - received < 200_000 {
                stream.window(300_000).await;
                granted += 300_000;
            }
            match stream.next().await.unwrap().unwrap() {
                Answer::Window(more) => credit += more,
                Answer::Data(bytes) => {
                    assert!(bytes == back[received..received + bytes.len()], "at {received}");
                    received += bytes.len();
                    assert!(received <= granted, "more than was granted");
                }
                Answer::End(_) => ended = true,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(received, SIZE);
        // The rest of what the client has to send, if the peer was quicker.
        while sent < SIZE {
            if credit == 0 {
                let Answer::Window(more) = stream.next().await.unwrap().unwrap() else { panic!("no credit") };
                credit += more;
            }
            let size = usize::try_from(credit).unwrap().min(100_000).min(SIZE - sent);
            stream.data(out[sent..sent + size].to_vec()).await;
            credit -= size as u64;
            sent += size;
            if sent == SIZE {
                stream.end().await;
            }
        }
        stream.finished().await;
        within("the peer's reads", reader).await.unwrap();
        within("the peer's writes", writer).await.unwrap();
        let socket = agent.socket(&id).await;
        assert_eq!((socket.bytes_read(), socket.bytes_written()), (SIZE as u64, SIZE as u64));
        assert_eq!(socket.state(), pb::SocketState::Connected, "it goes back to what it was");
        assert_eq!(socket.delivery.unwrap().mode(), pb::DeliveryMode::Events);
        let mut kinds = agent.kinds(&id).await.split_off(3);
        // Told only when the peer's end was there before the client had granted all that stood before it.
        kinds.retain(|kind| kind != "peer_gone");
        kinds[1..3].sort();
        assert_eq!(kinds, ["attached", "peer_closed", "shut_down", "detached"]);
        let Some(pb::event::Body::Detached(told)) = agent.event(&id, "detached").await.body else { panic!() };
        assert_eq!((told.bytes_to_client(), told.bytes_from_client(), told.bytes_lost), (SIZE as u64, SIZE as u64, 0));
    }
}

#[tokio::test]
async fn what_goes_through_a_stream_is_hashed_as_ever() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let (door, id) = (format!("door-{at}"), format!("line-{at}"));
        let address = agent.listen_with(&door, &any_port(ip), hashed()).await;
        agent.connect_with(&id, &address, hashed()).await;
        let (mut here, _) = agent.take_over(&id).await;
        // The connection that the listener has not told about yet is waited for.
        let (mut there, _) = agent.take_over(&format!("{door}.1")).await;
        there.window(1 << 20).await;
        here.window(1 << 20).await;
        here.data(pattern_bytes(200_000, 1)).await;
        there.data(pattern_bytes(100_000, 2)).await;
        assert!(there.read(200_000).await == pattern_bytes(200_000, 1));
        assert!(here.read(100_000).await == pattern_bytes(100_000, 2));
        let (here, there) = (agent.socket(&id).await, agent.socket(&format!("{door}.1")).await);
        assert!(!here.written_sha256.is_empty());
        assert_eq!((here.written_sha256, here.received_sha256), (there.received_sha256, there.written_sha256));
    }
}

/// What the client does not want stays with the peer.
#[tokio::test]
async fn without_credit_the_window_of_the_peer_closes() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let (door, child) = (format!("door-{at}"), format!("door-{at}.1"));
        let small = pb::SocketOption { name: "SO_RCVBUF".into(), value: Some(pb::socket_option::Value::Number(8192)) };
        let delivery = Some(pb::Delivery { mode: pb::DeliveryMode::Transfer.into(), ..Default::default() });
        let spec = pb::TcpSocketSpec { options: vec![small], delivery, ..Default::default() };
        let address = agent.listen_with(&door, &any_port(ip), spec).await;
        let mut peer = TcpPeer::connect(&address).await;
        SockRef::from(&peer.0).set_send_buffer_size(8192).unwrap();
        let (mut stream, _) = agent.take_over(&child).await;
        stream.window(1000).await;

        let bytes = pattern_bytes(1 << 20, 5);
        let mut written = 0;
        let mut first = Vec::new();
        loop {
            match peer.0.try_write(&bytes[written..]) {
                Ok(size) => written += size,
                Err(_) if first.is_empty() => first = stream.read(1000).await,
                // Full, and stays so once the agent's kernel holds all that it will.
                Err(_) if agent.socket(&child).await.queues.unwrap().receive_bytes() > 0 => break,
                Err(_) => within("room or bytes", peer.0.writable()).await.unwrap(),
            }
        }
        assert!(first == bytes[..1000]);
        assert!(written < bytes.len());
        assert_eq!(agent.socket(&child).await.bytes_read(), 1000);

        stream.window(u64::try_from(bytes.len()).unwrap()).await;
        let rest = tokio::spawn(async move {
            peer.write(&bytes[written..]).await;
            (peer, bytes)
        });
        let through = stream.read((1 << 20) - 1000).await;
        let (_peer, bytes) = within("the peer's writes", rest).await.unwrap();
        assert!(through == bytes[1000..]);
        assert_eq!(agent.kinds(&child).await, ["created", "attached"]);
    }
}

/// A peer that does not read: the agent takes as much as it has granted, and no more until the kernel has it.
#[tokio::test]
async fn the_client_gets_credit_as_the_kernel_takes_its_bytes() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let (mut peer, _) = crate::harness::tcp::unread_by_the_test(&agent, ip, &id).await;
        let (mut stream, opened) = agent.take_over(&id).await;
        let bytes = pattern_bytes(2 << 20, 3);
        let (mut sent, mut credit) = (0, opened.window);
        // Until nothing more is granted and bytes wait: the peer's buffer is full, and so are the kernel's and the agent's.
        loop {
            while credit > 0 {
                let size = credit.min(200_000).min((bytes.len() - sent) as u64);
                stream.data(bytes[sent..sent + usize::try_from(size).unwrap()].to_vec()).await;
                sent += usize::try_from(size).unwrap();
                credit -= size;
            }
            let socket = agent.until(&id, "waiting bytes", |socket| {
                let written = socket.bytes_written() + u64::from(socket.queues.unwrap().pending_write_bytes());
                written == sent as u64
            });
            let socket = socket.await;
            if u64::from(socket.queues.unwrap().pending_write_bytes()) > opened.window * 3 / 4 {
                break;
            }
            let Answer::Window(more) = stream.next().await.unwrap().unwrap() else { panic!() };
            credit += more;
        }
        assert!(sent < bytes.len(), "the peer does not read, and yet all was taken");
        let through = peer.read(sent).await;
        assert!(through == bytes[..sent]);
        let Answer::Window(_) = stream.next().await.unwrap().unwrap() else { panic!() };
    }
}

#[tokio::test]
async fn the_agent_takes_no_more_than_its_limit_before_the_kernel_has_it() {
    let limits = Limits { transfer_bytes: 8, ..Limits::default() };
    let agent = Agent::start_with(AgentConfig { limits, ..AgentConfig::default() }).await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id, pb::TcpSocketSpec::default()).await;
        let (mut stream, opened) = agent.take_over(&id).await;
        assert_eq!(opened.window, 8);
        stream.data("12345678").await;
        assert_eq!(peer.read(8).await, b"12345678");
        assert_eq!(stream.next().await.unwrap(), Some(Answer::Window(8)));

        stream.data("123456789").await;
        let refused = stream.refused().await;
        assert_eq!((refused.code, refused.reason.as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
        assert_eq!(refused.message, "data: more bytes than `window` and `opened.window` have granted");
    }
}

#[tokio::test]
async fn only_one_stream_and_nobody_else_has_an_attached_socket() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let mut peer = line(&agent, ip, &id, pb::TcpSocketSpec::default()).await;
        let waiting = agent.receive(&id);
        let taking = agent.take_over(&id);
        let (waited, (mut stream, _)) = tokio::join!(waiting, taking);
        assert_eq!(waited.unwrap_err().reason, "WRONG_STATE", "who waited gets nothing any more");
        assert_eq!(went(&agent.try_write(&id, "x").await), "WRONG_STATE");
        let receive = pb::ReceiveSocketRequest { socket_id: id.clone(), call: timeout(0), ..Default::default() };
        assert_eq!(went(&agent.receive_socket(receive.clone()).await), "WRONG_STATE");
        let pull = Some(pb::Delivery { mode: pb::DeliveryMode::Pull.into(), ..Default::default() });
        let set = pb::SetSocketDeliveryRequest { socket_id: id.clone(), delivery: pull, ..Default::default() };
        assert_eq!(went(&agent.set_socket_delivery(set).await), "WRONG_STATE");
        assert_eq!(agent.transfer(open(&id)).await.refused().await.reason, "WRONG_STATE");
        // It goes on.
        stream.window(100).await;
        stream.data("hola").await;
        assert_eq!(peer.read(4).await, b"hola");
        peer.write(b"adios").await;
        assert_eq!(stream.read(5).await, b"adios");
    }
}

/// Nothing is read before somebody takes it over, and ReceiveSocket has nothing to wait for.
#[tokio::test]
async fn a_socket_can_keep_its_bytes_for_a_stream() {
    let agent = Agent::start().await;
    let kept = Some(pb::Delivery { mode: pb::DeliveryMode::Transfer.into(), ..Default::default() });
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let spec = pb::TcpSocketSpec { delivery: kept, ..Default::default() };
        let mut peer = line(&agent, ip, &id, spec).await;
        peer.write(b"hola").await;
        agent.until(&id, "four bytes", |socket| socket.queues.unwrap().receive_bytes() == 4).await;
        let receive = pb::ReceiveSocketRequest { socket_id: id.clone(), ..Default::default() };
        assert_eq!(went(&agent.receive_socket(receive).await), "WRONG_STATE");
        let (mut stream, _) = agent.take_over(&id).await;
        stream.window(4).await;
        assert_eq!(stream.read(4).await, b"hola");

        let udp = pb::UdpSocketSpec { delivery: kept, ..Default::default() };
        let refused = agent.create_udp("udp", udp).await.unwrap_err();
        assert!(refused.message.starts_with("udp.delivery.mode: "), "{}", refused.message);
        let id = format!("udp-{at}");
        agent.udp(&id, ip).await;
        let set = pb::SetSocketDeliveryRequest { socket_id: id, delivery: kept, ..Default::default() };
        assert_eq!(went(&agent.set_socket_delivery(set).await), "WRONG_TRANSPORT");
    }
}

#[tokio::test]
async fn only_connected_tcp_sockets_can_be_taken_over() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let name = |text: &str| format!("{text}-{at}");
        agent.udp(&name("udp"), ip).await;
        agent.listen(&name("door"), &any_port(ip)).await;
        agent.create_tcp(&name("idle"), pb::TcpSocketSpec::default()).await.unwrap();
        let _peer = line(&agent, ip, &name("gone"), pb::TcpSocketSpec::default()).await;
        agent.close(&name("gone")).await;
        for (id, reason) in [
            ("udp", "WRONG_TRANSPORT"),
            ("door", "WRONG_STATE"),
            ("idle", "WRONG_STATE"),
            ("gone", "SOCKET_CLOSED"),
            ("nobody", "SOCKET_NOT_FOUND"),
        ] {
            assert_eq!(agent.transfer(open(&name(id))).await.refused().await.reason, reason, "{id}");
        }
        let _peer = line(&agent, ip, &name("line"), pb::TcpSocketSpec::default()).await;
        let other = pb::TransferOpen { socket_id: name("line"), socket_uid: Some(1), ..Default::default() };
        assert_eq!(agent.transfer(Frame::Open(other)).await.refused().await.reason, "SOCKET_REPLACED");
    }
}

#[tokio::test]
async fn a_frame_that_must_not_come_is_named_and_the_socket_is_given_back() {
    let agent = Agent::start().await;
    let end = || Frame::End(pb::TransferEnd {});
    let data = |size: usize| Frame::Data(vec![7; size].into());
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        for (number, (field, said, frames)) in [
            ("data", "at least one byte", vec![data(0)]),
            ("data", "262144", vec![data(262_145)]),
            ("data", "`end` was sent before", vec![end(), data(1)]),
            ("end", "`end` was sent before", vec![end(), end()]),
            ("window", "at least one byte", vec![Frame::Window(0)]),
            ("window", "2^53", vec![Frame::Window(1), Frame::Window((1 << 53) - 1)]),
            ("window", "2^53", vec![Frame::Window(u64::MAX)]),
            ("open", "open already", vec![open("line")]),
            ("create", "open already", vec![Frame::Create(create("", "127.0.0.1:1"))]),
        ]
        .into_iter()
        .enumerate()
        {
            let id = format!("line-{at}-{number}");
            let mut peer = line(&agent, ip, &id, pb::TcpSocketSpec::default()).await;
            let (mut stream, _) = agent.take_over(&id).await;
            for frame in frames {
                stream.send(frame).await;
            }
            let refused = stream.refused().await;
            assert_eq!((refused.code, refused.reason.as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
            assert!(refused.message.starts_with(&format!("{field}: ")), "{}", refused.message);
            assert!(refused.message.contains(said), "{}", refused.message);
            agent.event(&id, "detached").await;
            peer.write(b"still here").await;
            assert_eq!(agent.receive_text(&id).await, "still here");
        }
    }
}

#[tokio::test]
async fn the_first_frame_must_open() {
    let agent = Agent::start().await;
    let mut tcp = create("", "127.0.0.1:1");
    tcp.tcp.as_mut().unwrap().role = None;
    for (field, first) in [
        ("data", Frame::Data("hola".into())),
        ("window", Frame::Window(7)),
        ("end", Frame::End(pb::TransferEnd {})),
        ("open.socket_id", open("")),
        ("create.tcp.connect", Frame::Create(tcp)),
    ] {
        let refused = agent.transfer(first).await.refused().await;
        assert_eq!((refused.code, refused.message.split(": ").next()), (Code::InvalidArgument, Some(field)));
    }
}

/// Nothing may be sent to a socket that only receives: it grants nothing.
#[tokio::test]
async fn directions_hold_for_streams_too() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let spec = pb::TcpSocketSpec { direction: pb::Direction::ReceiveOnly.into(), ..Default::default() };
        let mut peer = line(&agent, ip, &id, spec).await;
        let (mut stream, opened) = agent.take_over(&id).await;
        assert_eq!(opened.window, 0);
        stream.window(100).await;
        peer.write(b"hola").await;
        assert_eq!(stream.read(4).await, b"hola");
        stream.data("x").await;
        let refused = stream.refused().await;
        assert!(refused.message.starts_with("data: more bytes than"), "{}", refused.message);
    }
}
