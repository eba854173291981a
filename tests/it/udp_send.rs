//! Sending datagrams: bound or not, to somebody or to nobody, one or many, as questions and as answers.

use std::net::{IpAddr, SocketAddr};

use farsock::agent::AgentConfig;
use farsock::wire::pb;
use tonic::Code;

use crate::harness::tcp::millis;
use crate::harness::{Agent, LOOPBACKS, UdpPeer, datagram, error_name, text};

/// A UDP client as everybody writes it: no bind, a question, the answer.
#[tokio::test]
async fn an_unbound_socket_asks_and_gets_the_answer() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let server = UdpPeer::bind(ip).await;
        let family = if ip.is_ipv4() { pb::Family::Ipv4 } else { pb::Family::Ipv6 };
        agent.create_udp("asker", pb::UdpSocketSpec { family: family.into(), ..Default::default() }).await.unwrap();
        assert_eq!(agent.socket("asker").await.local, None);
        let sent = agent.send("asker", &server.text(), "what time is it?").await;
        assert_eq!((sent.datagrams_sent(), sent.bytes_sent()), (1, 16));
        let (question, from) = server.receive_text().await;
        assert_eq!(question, "what time is it?");
        assert_eq!(from.ip(), ip);
        server.send(&from.to_string(), b"late").await;
        assert_eq!(agent.receive_text("asker").await, "late");
        assert_eq!(agent.kinds("asker").await, ["created", "bound", "sent", "datagram_received"]);
        let event = agent.event("asker", "sent").await;
        let Some(pb::event::Body::Sent(sent)) = event.body else { panic!("{event:?}") };
        assert_eq!((sent.destination.unwrap().text, sent.size, sent.reply_to_event), (server.text(), Some(16), 0));
    }
}

#[tokio::test]
async fn an_unbound_socket_takes_the_lab_address() {
    let config = AgentConfig { lab_ipv4: Some("127.0.0.7".parse().unwrap()), ..Default::default() };
    let agent = Agent::start_with(config).await;
    let server = UdpPeer::bind(LOOPBACKS[0]).await;
    agent.create_udp("asker", pb::UdpSocketSpec::default()).await.unwrap();
    agent.send("asker", &server.text(), "hola").await;
    assert_eq!(server.receive().await.1.ip().to_string(), "127.0.0.7");
    agent.create_udp("server", pb::UdpSocketSpec { bind: ":0".into(), ..Default::default() }).await.unwrap();
    assert_eq!(agent.socket("server").await.local.unwrap().address, "127.0.0.7");
}

/// UDP tells nobody.
#[tokio::test]
async fn a_datagram_to_nobody_is_sent_all_the_same() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let gone = UdpPeer::bind(ip).await.text();
        agent.udp("s", ip).await;
        for _ in 0..3 {
            agent.send("s", &gone, "anybody there?").await;
        }
        assert_eq!(agent.socket("s").await.datagrams_sent, 3);
        assert_eq!(agent.kinds("s").await, ["created", "bound", "sent", "sent", "sent"]);
    }
}

#[tokio::test]
async fn a_datagram_may_be_empty() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        agent.udp("s", ip).await;
        let empty = pb::Datagram { destination: peer.text(), ..Default::default() };
        let sent = agent.try_send("s", vec![empty]).await.unwrap();
        assert_eq!((sent.datagrams_sent(), sent.bytes_sent()), (1, 0));
        assert_eq!(peer.receive().await.0, b"");
        let socket = agent.socket("s").await;
        assert_eq!((socket.datagrams_sent, socket.bytes_written), (1, Some(0)));
    }
}

#[tokio::test]
async fn many_datagrams_in_one_call_keep_their_order_and_their_edges() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        agent.udp("s", ip).await;
        let datagrams = (0..50).map(|n| datagram(&peer.text(), &format!("number {n}"))).collect();
        let sent = agent.try_send("s", datagrams).await.unwrap();
        assert_eq!(sent.datagrams_sent(), 50);
        let report = sent.report.unwrap();
        assert_eq!(report.last_event_seq - report.first_event_seq, 49, "one event each: {report:?}");
        for n in 0..50 {
            assert_eq!(peer.receive_text().await.0, format!("number {n}"));
        }
    }
}

#[tokio::test]
async fn the_first_datagram_that_fails_is_the_last_one_that_is_tried() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        agent.udp("s", ip).await;
        let nowhere = SocketAddr::new(ip, 0).to_string();
        let datagrams = [peer.text(), peer.text(), nowhere.clone(), peer.text()];
        let datagrams = datagrams.iter().map(|to| datagram(to, "abc")).collect();
        let sent = agent.try_send("s", datagrams).await.unwrap();
        assert_eq!((sent.datagrams_sent(), sent.bytes_sent()), (2, 6));
        let error = sent.report.unwrap().error.unwrap();
        assert_eq!((error.name.as_str(), error.operation()), ("EINVAL", pb::Operation::Send));
        assert_eq!(error.remote.unwrap().text, nowhere);
        peer.receive().await;
        peer.receive().await;
        // Had the fourth been sent, it would stand before this one.
        agent.send("s", &peer.text(), "next").await;
        assert_eq!(peer.receive_text().await.0, "next");
        assert_eq!(agent.kinds("s").await, ["created", "bound", "sent", "sent", "failed", "sent"]);
    }
}

/// Routers and servers with many addresses: a strict client takes an answer only from the address that it asked.
#[tokio::test]
async fn an_answer_leaves_from_the_address_that_was_asked() {
    let wildcards: [(&str, &str); 2] = [("0.0.0.0:0", "127.0.0.5"), ("[::]:0", "::1")];
    for (bind, asked) in wildcards {
        let asked: IpAddr = asked.parse().unwrap();
        let agent = Agent::start().await;
        agent.create_udp("server", pb::UdpSocketSpec { bind: bind.into(), ..Default::default() }).await.unwrap();
        let port = agent.socket("server").await.local.unwrap().port.try_into().unwrap();
        let client = UdpPeer::bind(if asked.is_ipv4() { LOOPBACKS[0] } else { LOOPBACKS[1] }).await;
        let server = SocketAddr::new(asked, port);
        client.send(&server.to_string(), b"ping").await;

        let (seq, question) = agent.datagram("server").await;
        assert_eq!(question.destination.unwrap().text, server.to_string());
        let pong = pb::Datagram { payload: text("pong"), reply_to_event: seq, ..Default::default() };
        let sent = agent.try_send("server", vec![pong]).await.unwrap();
        assert_eq!(sent.datagrams_sent(), 1, "{sent:?}");
        assert_eq!(client.receive().await, (b"pong".to_vec(), server));
        let event = agent.event("server", "sent").await;
        let Some(pb::event::Body::Sent(sent)) = event.body else { panic!("{event:?}") };
        assert_eq!((sent.reply_to_event, sent.destination.unwrap().text), (seq, client.text()));
    }
}

/// One socket for both versions: IPv4 comes in as mapped addresses, and is answered as carefully.
#[tokio::test]
async fn a_socket_of_both_versions_answers_from_the_address_that_was_asked() {
    let agent = Agent::start().await;
    let both = pb::SocketOption { name: "IPV6_V6ONLY".into(), value: Some(pb::socket_option::Value::Enabled(false)) };
    let spec = pb::UdpSocketSpec { bind: "[::]:0".into(), options: vec![both], ..Default::default() };
    agent.create_udp("server", spec).await.unwrap();
    let port = agent.socket("server").await.local.unwrap().port;
    let mut last = 0;
    for (ip, asked) in LOOPBACKS.into_iter().zip([format!("127.0.0.5:{port}"), format!("[::1]:{port}")]) {
        let client = UdpPeer::bind(ip).await;
        client.send(&asked, b"ping").await;
        let (seq, question) = agent.datagram_after("server", last).await;
        last = seq;
        let mapped = question.source.unwrap().address.starts_with("::ffff:");
        assert_eq!(mapped, ip.is_ipv4());
        let pong = pb::Datagram { payload: text("pong"), reply_to_event: seq, ..Default::default() };
        let sent = agent.try_send("server", vec![pong]).await.unwrap();
        assert_eq!(error_name(sent.report.as_ref()), "", "{sent:?}");
        assert_eq!(client.receive().await, (b"pong".to_vec(), asked.parse().unwrap()));
    }
}

#[tokio::test]
async fn what_is_no_datagram_cannot_be_answered() {
    let agent = Agent::start().await;
    agent.udp("s", LOOPBACKS[0]).await;
    let created = agent.event("s", "created").await.event_seq;
    for event in [created, 4711] {
        let answer = pb::Datagram { payload: text("pong"), reply_to_event: event, ..Default::default() };
        let refused = agent.try_send("s", vec![answer]).await.unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (Code::NotFound, "EVENT_NOT_KEPT"));
        assert!(refused.message.contains(&event.to_string()), "{}", refused.message);
    }
    assert_eq!(agent.socket("s").await.datagrams_sent, 0);
}

#[tokio::test]
async fn names_are_looked_up_in_the_family_of_the_socket() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        agent.udp("s", ip).await;
        let destination = format!("localhost:{}", peer.address().port());
        let sent = agent.try_send("s", vec![datagram(&destination, "hola")]).await.unwrap();
        if ip.is_ipv6() && error_name(sent.report.as_ref()).starts_with("EAI_") {
            // Some hosts do not have ::1 under that name.
            continue;
        }
        assert_eq!(peer.receive_text().await.0, "hola");
        let event = agent.event("s", "looked_up").await;
        let Some(pb::event::Body::LookedUp(looked_up)) = event.body else { panic!("{event:?}") };
        assert_eq!((looked_up.host.as_str(), looked_up.addresses), ("localhost", vec![ip.to_string()]));
        let report = sent.report.unwrap();
        assert_eq!(report.first_event_seq, event.event_seq);
    }
}

#[tokio::test]
async fn ports_may_be_services() {
    let agent = Agent::start().await;
    agent.udp("s", LOOPBACKS[0]).await;
    agent.send("s", "127.0.0.1:domain", "hola").await;
    let event = agent.event("s", "sent").await;
    let Some(pb::event::Body::Sent(sent)) = event.body else { panic!("{event:?}") };
    assert_eq!(sent.destination.unwrap().text, "127.0.0.1:53");
    let error = agent.send_error("s", datagram("127.0.0.1:no-such-service", "hola")).await;
    assert_eq!(error, "EAI_SERVICE");
    let error = agent.send_error("s", datagram("no-such-host.invalid:53", "hola")).await;
    assert!(error.starts_with("EAI_"), "{error}");
}

/// Everything is looked up before anything is sent: a datagram whose name is wrong keeps all of them back.
#[tokio::test]
async fn a_name_that_is_not_found_sends_nothing() {
    let agent = Agent::start().await;
    let peer = UdpPeer::bind(LOOPBACKS[0]).await;
    agent.udp("s", LOOPBACKS[0]).await;
    let datagrams = vec![datagram(&peer.text(), "first"), datagram("127.0.0.1:no-such-service", "second")];
    let sent = agent.try_send("s", datagrams).await.unwrap();
    assert_eq!((sent.datagrams_sent(), error_name(sent.report.as_ref())), (0, "EAI_SERVICE"));
    agent.send("s", &peer.text(), "third").await;
    assert_eq!(peer.receive_text().await.0, "third");
}

#[tokio::test]
async fn a_receive_only_socket_does_not_send() {
    let agent = Agent::start().await;
    let peer = UdpPeer::bind(LOOPBACKS[0]).await;
    let direction = pb::Direction::ReceiveOnly.into();
    let local = agent.udp_with("s", LOOPBACKS[0], pb::UdpSocketSpec { direction, ..Default::default() }).await;
    let refused = agent.try_send("s", vec![datagram(&peer.text(), "hola")]).await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::FailedPrecondition, "WRONG_DIRECTION"));
    peer.send(&local, b"listen").await;
    assert_eq!(agent.receive_text("s").await, "listen");
}

/// The socket's datagrams, whose places the agent is to fill.
fn filled(datagrams: Vec<pb::Datagram>) -> pb::SendDatagramsRequest {
    pb::SendDatagramsRequest { socket_id: "s".into(), datagrams, template: true, ..Default::default() }
}

#[tokio::test]
async fn places_in_payloads_are_filled_as_each_datagram_leaves() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        agent.udp("s", ip).await;
        agent.send("s", &peer.text(), "{number}").await;
        assert_eq!(peer.receive_text().await.0, "{number}", "only where it is asked for");
        let template = "{number} {socket} {session} {{}} {host} {time}";
        let request =
            pb::SendDatagramsRequest { interval: millis(2), ..filled(vec![datagram(&peer.text(), template); 3]) };
        let sent = agent.send_datagrams(request).await.unwrap();
        let host = agent.agent().get_agent(pb::GetAgentRequest::default()).await.unwrap().into_inner();
        let host = host.agent.unwrap().host_name;
        let (mut times, mut bytes) = (Vec::new(), 0);
        for number in 2..5 {
            let text = peer.receive_text().await.0;
            let (places, time) = text.rsplit_once(' ').unwrap();
            assert_eq!(places, format!("{number} s default {{}} {host}"));
            assert_eq!(time.len(), "2026-11-29T15:00:00.000000000Z".len(), "{time}");
            bytes += text.len();
            times.push(time.to_owned());
        }
        assert!(times[0] < times[1] && times[1] < times[2], "{times:?}");
        assert_eq!((sent.datagrams_sent(), sent.bytes_sent() as usize), (3, bytes));
    }
}

#[tokio::test]
async fn a_place_that_there_is_not_is_refused() {
    let agent = Agent::start().await;
    agent.udp("s", LOOPBACKS[0]).await;
    let datagrams = vec![datagram("127.0.0.1:9", "{number}"), datagram("127.0.0.1:9", "{nunber}")];
    let refused = agent.send_datagrams(filled(datagrams)).await.unwrap_err();
    assert_eq!(refused.code, Code::InvalidArgument);
    let wrong = "datagrams[1].payload.text: `{nunber}` is no place: there are {number}, {time}";
    assert!(refused.message.contains(wrong), "{}", refused.message);
    assert_eq!(agent.socket("s").await.datagrams_sent, 0);
}

/// However long what it is filled with is: the kernel says that it is too long.
#[tokio::test]
async fn a_template_may_become_too_long() {
    let agent = Agent::start().await;
    agent.udp("s", LOOPBACKS[0]).await;
    let sent = agent.send_datagrams(filled(vec![datagram("127.0.0.1:9", &"{time}".repeat(2_500))])).await.unwrap();
    assert_eq!((sent.datagrams_sent(), error_name(sent.report.as_ref())), (0, "EMSGSIZE"));
}
