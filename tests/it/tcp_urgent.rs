//! Urgent bytes, out and in: each is told once, at its place, and nothing around it is lost. And bytes that wait for more.

use std::net::IpAddr;

use farsock::sys::diag::unread;
use farsock::wire::pb;
use libc::{MSG_MORE, MSG_OOB};
use rustix::net::RecvFlags;
use socket2::SockRef;

use crate::harness::tcp::{Reported, pattern, pattern_bytes, unread_by_the_test};
use crate::harness::{Agent, LOOPBACKS, TcpPeer, text, within};

/// A line of the agent's to a peer of the test.
async fn line(agent: &Agent, ip: IpAddr, id: &str, delivery: pb::Delivery) -> TcpPeer {
    let (listener, address) = TcpPeer::listen(ip).await;
    let spec = pb::TcpSocketSpec { delivery: Some(delivery), ..Default::default() };
    agent.connect_with(id, &address.to_string(), spec).await;
    TcpPeer::accept(&listener).await
}

/// What came, in the order in which it was told: offset and bytes, urgent ones in brackets.
async fn told(agent: &Agent, id: &str) -> String {
    let request = pb::ListEventsRequest {
        filter: Some(pb::EventFilter { socket_ids: vec![id.into()], kinds: Vec::new() }),
        ..Default::default()
    };
    let listed = agent.list(request).await;
    let words = listed.events.into_iter().filter_map(|event| match event.body.unwrap() {
        pb::event::Body::Received(received) => match received.payload.unwrap().content.unwrap() {
            pb::payload::Content::Text(text) => Some(format!("{}:{text}", received.offset.unwrap())),
            other => panic!("{other:?}"),
        },
        pb::event::Body::UrgentReceived(urgent) => {
            let byte = urgent.byte.map(|byte| char::from(u8::try_from(byte).unwrap()));
            Some(format!("{}:[{}]", urgent.offset.unwrap(), byte.map(String::from).unwrap_or_default()))
        }
        pb::event::Body::UrgentLost(lost) => Some(format!("{}:lost {}", lost.offset.unwrap(), lost.size)),
        _ => None,
    });
    words.collect::<Vec<_>>().join(" ")
}

impl Agent {
    /// Waits until so many bytes of the peer's have come, read or not.
    async fn until_arrived(&self, id: &str, size: u64) {
        let request = pb::GetSocketRequest { socket_id: id.into(), tcp_info: true, ..Default::default() };
        within("the bytes", async {
            loop {
                let got = self.sockets().get_socket(request.clone()).await.unwrap().into_inner();
                if got.tcp_info.unwrap().bytes_received.unwrap() >= size {
                    return;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

impl TcpPeer {
    fn send(&self, bytes: &[u8], flags: i32) {
        assert_eq!(SockRef::from(&self.0).send_with_flags(bytes, flags).unwrap(), bytes.len());
    }

    /// Takes the urgent byte, once it has come.
    async fn urgent(&self) -> u8 {
        self.recv(1, RecvFlags::OOB).await[0]
    }

    /// Reads exactly so many bytes, across marks: a short read says nothing about what stands behind one.
    async fn recv(&self, size: usize, flags: RecvFlags) -> Vec<u8> {
        let mut bytes = vec![0; size];
        within("bytes", async {
            let mut filled = 0;
            while filled < size {
                match rustix::net::recv(&self.0, &mut bytes[filled..], flags) {
                    Ok((more, _)) => filled += more,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        })
        .await;
        bytes
    }
}

#[tokio::test]
async fn an_urgent_byte_is_told_at_its_place() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let peer = line(&agent, ip, &id, pb::Delivery::default()).await;
        peer.send(b"ab", MSG_MORE);
        peer.send(b"U", MSG_OOB);
        peer.send(b"cd", 0);
        agent.until(&id, "five bytes", |socket| socket.bytes_read() == 5).await;
        assert_eq!(told(&agent, &id).await, "0:ab 2:[U] 3:cd");

        // One alone, one more, and the end: each is counted.
        for (count, byte) in [(6, b"V"), (7, b"W")] {
            peer.send(byte, MSG_OOB);
            agent.until(&id, "one more", |socket| socket.bytes_read() == count).await;
        }
        drop(peer);
        let Some(pb::event::Body::PeerClosed(end)) = agent.event(&id, "peer_closed").await.body else { panic!() };
        assert_eq!(end.bytes_read, Some(7));
        assert_eq!(told(&agent, &id).await, "0:ab 2:[U] 3:cd 5:[V] 6:[W]");
    }
}

/// Whoever has read all there is finds the urgent byte in any case, also when it comes right between two reads.
#[tokio::test]
async fn no_urgent_byte_is_lost_between_two_reads() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let peer = line(&agent, ip, &id, pb::Delivery::default()).await;
        for round in 1..=300 {
            peer.send(b"a", 0);
            peer.send(b"U", MSG_OOB);
            peer.send(b"b", 0);
            agent.until(&id, "three bytes", |socket| socket.bytes_read() == 3 * round).await;
        }
        let urgent = agent.events_of(&id, "urgent_received").await.into_iter().map(|body| match body {
            pb::event::Body::UrgentReceived(urgent) => (urgent.offset.unwrap(), urgent.byte.unwrap()),
            other => panic!("{other:?}"),
        });
        let expected: Vec<_> = (0..300).map(|round| (3 * round + 1, u32::from(b'U'))).collect();
        assert_eq!(urgent.collect::<Vec<_>>(), expected);
    }
}

/// With SO_OOBINLINE the byte stays in the stream, and its place is told before it is read.
#[tokio::test]
async fn an_urgent_byte_can_stay_in_the_stream() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let (listener, address) = TcpPeer::listen(ip).await;
        let value = Some(pb::socket_option::Value::Enabled(true));
        let options = vec![pb::SocketOption { name: "SO_OOBINLINE".into(), value }];
        agent.connect_with(&id, &address.to_string(), pb::TcpSocketSpec { options, ..Default::default() }).await;
        let peer = TcpPeer::accept(&listener).await;
        peer.send(b"ab", MSG_MORE);
        peer.send(b"U", MSG_OOB);
        peer.send(b"cd", MSG_MORE);
        peer.send(b"V", MSG_OOB);
        agent.until(&id, "six bytes", |socket| socket.bytes_read() == 6).await;
        let places = agent.events_of(&id, "urgent_received").await.into_iter().map(|body| match body {
            pb::event::Body::UrgentReceived(urgent) => (urgent.offset.unwrap(), urgent.byte),
            other => panic!("{other:?}"),
        });
        // The second may come before the first has been read, which is no urgent one any more then.
        let places: Vec<_> = places.collect();
        assert!(places.ends_with(&[(5, None)]) && places.iter().all(|place| [(2, None), (5, None)].contains(place)));
        let text: String = told(&agent, &id).await;
        let text = text.split(' ').filter_map(|word| word.split_once(':')).map(|(_, bytes)| bytes);
        assert_eq!(text.filter(|bytes| *bytes != "[]").collect::<String>(), "abUcdV");
    }
}

#[tokio::test]
async fn a_socket_that_is_not_read_only_shows_that_urgent_data_is_there() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let paused = pb::Delivery { paused: Some(true), ..Default::default() };
        let peer = line(&agent, ip, &id, paused).await;
        peer.send(b"ab", 0);
        assert!(
            !agent.until(&id, "bytes", |socket| socket.readiness.unwrap().readable).await.readiness.unwrap().priority
        );
        peer.send(b"U", MSG_OOB);
        agent.until(&id, "urgent data", |socket| socket.readiness.unwrap().priority).await;
        assert_eq!(told(&agent, &id).await, "");

        let delivery = Some(pb::Delivery { paused: Some(false), ..Default::default() });
        let resume = pb::SetSocketDeliveryRequest { socket_id: id.clone(), delivery, ..Default::default() };
        assert_eq!(agent.set_socket_delivery(resume).await.unwrap().went(), "ok");
        let socket = agent.until(&id, "three bytes", |socket| socket.bytes_read() == 3).await;
        assert!(!socket.readiness.unwrap().priority);
        assert_eq!(told(&agent, &id).await, "0:ab 2:[U]");
    }
}

/// What is sent and how, what of it is left in the stream, how many bytes are lost, and what an agent tells.
type Story = (&'static [(&'static [u8], i32)], &'static [u8], u64, &'static str);

/// Linux throws an urgent byte away at whose mark reading stands when the next one comes. The test's own socket shows that it does, and what an
/// agent reads behind it stands where the peer sent it all the same.
#[tokio::test]
async fn an_urgent_byte_that_the_next_one_overtakes_at_its_mark_is_lost_and_counted() {
    let agent = Agent::start().await;
    let stories: [Story; 4] = [
        (&[(b"U", MSG_OOB), (b"V", MSG_OOB), (b"cd", 0)], b"cd", 1, "0:lost 1 1:[V] 2:cd"),
        (&[(b"U", MSG_OOB), (b"V", MSG_OOB), (b"W", MSG_OOB)], b"", 2, "0:lost 2 2:[W]"),
        (&[(b"U", MSG_OOB), (b"x", 0), (b"V", MSG_OOB), (b"cd", 0)], b"xcd", 1, "0:lost 1 1:x 2:[V] 3:cd"),
        // Not at its mark: an ordinary byte.
        (&[(b"a", 0), (b"U", MSG_OOB), (b"V", MSG_OOB), (b"cd", 0)], b"aUcd", 0, "0:aU 2:[V] 3:cd"),
    ];
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        for (story, (sends, stream, lost, expected)) in stories.into_iter().enumerate() {
            let (listener, address) = TcpPeer::listen(ip).await;
            let near = tokio::net::TcpStream::connect(address).await.unwrap();
            let sender = TcpPeer::accept(&listener).await;
            let id = format!("line-{at}-{story}");
            let paused = pb::Delivery { paused: Some(true), ..Default::default() };
            let peer = line(&agent, ip, &id, paused).await;
            for sender in [&sender, &peer] {
                // Each in a segment of its own.
                sender.0.set_nodelay(true).unwrap();
                sends.iter().for_each(|(bytes, flags)| sender.send(bytes, *flags));
            }
            let size: u64 = sends.iter().map(|(bytes, _)| bytes.len() as u64).sum();
            agent.until_arrived(&id, size).await;
            let (local, remote) = (near.local_addr().unwrap(), near.peer_addr().unwrap());
            within("the last of them", async {
                while unread(local, remote, 0).unwrap() != u32::try_from(size - lost).unwrap() {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            // Nothing shows the lost byte, neither urgent nor in the stream.
            let near = TcpPeer(near);
            assert!([b'V', b'W'].contains(&near.urgent().await));
            assert_eq!(near.recv(stream.len(), RecvFlags::empty()).await, stream);
            assert!(rustix::net::recv(&near.0, &mut [0; 1][..], RecvFlags::empty()).is_err(), "no more than that");

            let delivery = Some(pb::Delivery { paused: Some(false), ..Default::default() });
            let resume = pb::SetSocketDeliveryRequest { socket_id: id.clone(), delivery, ..Default::default() };
            assert_eq!(agent.set_socket_delivery(resume).await.unwrap().went(), "ok");
            agent.until(&id, "all bytes", |socket| socket.bytes_read() == size).await;
            assert_eq!(told(&agent, &id).await, expected, "{story} over {ip}");
        }
    }
}

/// What follows an urgent byte that was lost stands at its place at once, also while the one that made it go is only announced: the window is
/// too small for all that comes before that one.
#[tokio::test]
async fn an_urgent_byte_that_is_only_announced_moves_nothing() {
    const SIZE: usize = 20_000;
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let (listener, address) = TcpPeer::listen(ip).await;
        let narrow = pb::socket_option::Value::Number(4096);
        let spec = pb::TcpSocketSpec {
            delivery: Some(pb::Delivery { paused: Some(true), ..Default::default() }),
            options: vec![pb::SocketOption { name: "SO_RCVBUF".into(), value: Some(narrow) }],
            ..Default::default()
        };
        agent.connect_with(&id, &address.to_string(), spec).await;
        let peer = TcpPeer::accept(&listener).await;
        peer.0.set_nodelay(true).unwrap();
        peer.send(b"U", MSG_OOB);
        agent.until_arrived(&id, 1).await;
        peer.send(&[b'x'; SIZE], MSG_OOB);
        agent.until_arrived(&id, 2).await;

        let delivery = Some(pb::Delivery { paused: Some(false), ..Default::default() });
        let resume = pb::SetSocketDeliveryRequest { socket_id: id.clone(), delivery, ..Default::default() };
        assert_eq!(agent.set_socket_delivery(resume).await.unwrap().went(), "ok");
        agent.until(&id, "all bytes", |socket| socket.bytes_read() == 1 + SIZE as u64).await;
        let told = told(&agent, &id).await;
        let words: Vec<&str> = told.split(' ').collect();
        assert_eq!(words[..2], ["0:lost", "1"]);
        let mut offset = 1;
        for word in &words[2..] {
            let (place, bytes) = word.split_once(':').unwrap();
            assert_eq!(place.parse(), Ok(offset), "{ip}");
            offset += bytes.trim_matches(['[', ']']).len();
        }
        assert_eq!((offset, *words.last().unwrap()), (1 + SIZE, &*format!("{SIZE}:[x]")));
    }
}

#[tokio::test]
async fn a_read_ends_before_the_mark_however_much_it_wants() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let pulled = pb::Delivery { mode: pb::DeliveryMode::Pull.into(), ..Default::default() };
        let peer = line(&agent, ip, &id, pulled).await;
        peer.send(b"ab", MSG_MORE);
        peer.send(b"U", MSG_OOB);
        peer.send(b"cde", 0);
        agent.until(&id, "urgent data", |socket| socket.readiness.unwrap().priority).await;
        let wanted = |min_bytes| pb::ReceiveSocketRequest { socket_id: id.clone(), min_bytes, ..Default::default() };
        let before = agent.receive_socket(wanted(Some(4))).await.unwrap();
        assert_eq!((before.size, before.offset), (Some(2), Some(0)));
        assert_eq!(told(&agent, &id).await, "");
        let behind = agent.receive_socket(wanted(None)).await.unwrap();
        assert_eq!((behind.size, behind.offset), (Some(3), Some(3)));
        assert_eq!(told(&agent, &id).await, "2:[U]");
    }
}

#[tokio::test]
async fn the_last_byte_of_an_urgent_write_is_urgent_and_no_other() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let peer = line(&agent, ip, &id, pb::Delivery::default()).await;
        let urgent = |payload| pb::WriteSocketRequest {
            socket_id: id.clone(),
            payload: text(payload),
            urgent: true,
            ..Default::default()
        };
        let written = agent.write_socket(urgent("abU")).await.unwrap();
        assert_eq!((written.bytes_written, written.offset), (Some(3), Some(0)));
        agent.write(&id, "cd").await;
        assert_eq!(peer.urgent().await, b'U');
        assert_eq!(peer.recv(4, RecvFlags::empty()).await, b"abcd");
        agent.write_socket(urgent("V")).await.unwrap();
        assert_eq!(peer.urgent().await, b'V');
    }
}

/// The kernel takes such a write in many parts, and would make the last byte of each urgent.
#[tokio::test]
async fn an_urgent_write_that_waits_for_room_has_one_urgent_byte() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let (peer, size) = unread_by_the_test(&agent, ip, &id).await;
        let write = pb::WriteSocketRequest {
            socket_id: id.clone(),
            payload: pattern(size, 7),
            urgent: true,
            ..Default::default()
        };
        let (written, read) = tokio::join!(agent.write_socket(write), peer.recv(size - 1, RecvFlags::empty()));
        assert_eq!(written.unwrap().bytes_written, u32::try_from(size).ok());
        let bytes = pattern_bytes(size, 7);
        assert!(read == bytes[..size - 1]);
        assert_eq!(peer.urgent().await, bytes[size - 1]);
    }
}

/// The kernel keeps them for about 200 ms. Where this machine took longer for a round, that round has shown nothing and is made again.
#[tokio::test]
async fn bytes_wait_where_more_is_to_come() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let mut waited = false;
        for round in 0..20 {
            let id = format!("line-{at}-{round}");
            let mut peer = line(&agent, ip, &id, pb::Delivery::default()).await;
            let write =
                pb::WriteSocketRequest { socket_id: id.clone(), payload: text("ab"), more: true, ..Default::default() };
            assert_eq!(agent.write_socket(write).await.unwrap().bytes_written, Some(2));
            // Everything has gone to the peer that goes: what a plain write over this way brings is there.
            let probe = line(&agent, ip, &format!("probe-{at}-{round}"), pb::Delivery::default()).await;
            agent.write(&format!("probe-{at}-{round}"), "x").await;
            within("the probe", probe.0.readable()).await.unwrap();
            let early = peer.0.try_read(&mut [0; 8]).is_ok();
            if early {
                continue;
            }
            agent.write(&id, "cd").await;
            assert_eq!(peer.read(4).await, b"abcd");
            waited = true;
            break;
        }
        assert!(waited, "not a single one was kept back");
    }
}
