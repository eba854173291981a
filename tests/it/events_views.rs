//! The same bytes in every form: each reader has its own view.

use farsock::wire::pb;
use farsock::wire::pb::payload::Content;
use farsock::wire::pb::{PayloadForm, PayloadView};

use crate::harness::{Agent, LOOPBACKS, TcpPeer, UdpPeer, text};

fn view(form: PayloadForm) -> PayloadView {
    PayloadView { form: form.into(), ..Default::default() }
}

fn encoded(form: PayloadForm, encoding: &str) -> PayloadView {
    PayloadView { encoding: encoding.into(), ..view(form) }
}

fn cut(form: PayloadForm, max_bytes: u32) -> PayloadView {
    PayloadView { max_bytes, ..view(form) }
}

/// A datagram with these bytes, as an event in this view.
async fn shown(agent: &Agent, view: PayloadView) -> pb::DatagramReceivedEvent {
    let request = pb::ListEventsRequest {
        filter: crate::harness::filter(&["s"], &["datagram_received"]),
        view: Some(view),
        ..Default::default()
    };
    let event = agent.list(request).await.events.into_iter().next().unwrap();
    let Some(pb::event::Body::DatagramReceived(datagram)) = event.body else { panic!() };
    datagram
}

async fn agent_that_received(bytes: &[u8]) -> Agent {
    let agent = Agent::start().await;
    let peer = UdpPeer::bind(LOOPBACKS[0]).await;
    let local = agent.udp("s", LOOPBACKS[0]).await;
    peer.send(&local, bytes).await;
    agent.datagram("s").await;
    agent
}

fn content(payload: Option<pb::Payload>) -> Content {
    payload.unwrap().content.unwrap()
}

#[tokio::test]
async fn every_form_shows_the_same_bytes() {
    let agent = agent_that_received("señal".as_bytes()).await;
    let cases = [
        (PayloadForm::Unspecified, Content::Text("señal".into())),
        (PayloadForm::Auto, Content::Text("señal".into())),
        (PayloadForm::Text, Content::Text("señal".into())),
        (PayloadForm::Hex, Content::Hex("7365c3b1616c".into())),
        (PayloadForm::Data, Content::Data("señal".into())),
    ];
    for (form, expected) in cases {
        let datagram = shown(&agent, view(form)).await;
        assert_eq!((datagram.size, datagram.cut), (Some(6), false));
        assert_eq!(content(datagram.payload), expected, "{form:?}");
    }
    let datagram = shown(&agent, view(PayloadForm::None)).await;
    assert_eq!((datagram.payload, datagram.size, datagram.cut), (None, Some(6), false), "sizes are still there");
}

#[tokio::test]
async fn auto_shows_text_only_where_it_is_text() {
    for (bytes, expected) in [
        (&b"hola\r\n\t"[..], Content::Text("hola\r\n\t".into())),
        (b"", Content::Text(String::new())),
        (b"a\0b", Content::Hex("610062".into())),
        (b"\x1b[2J", Content::Hex("1b5b324a".into())),
        (&[0xff, 0xfe, 0x41], Content::Hex("fffe41".into())),
    ] {
        let agent = agent_that_received(bytes).await;
        assert_eq!(content(shown(&agent, view(PayloadForm::Auto)).await.payload), expected, "{bytes:?}");
    }
}

#[tokio::test]
async fn bytes_are_taken_for_the_encoding_that_the_reader_says() {
    let agent = agent_that_received(&[0xc4, 0xe3, 0xba, 0xc3]).await;
    for (asked, expected) in [
        (encoded(PayloadForm::Text, "gbk"), "你好"),
        (encoded(PayloadForm::Auto, "GBK"), "你好"),
        (encoded(PayloadForm::Text, "latin1"), "ÄãºÃ"),
        (encoded(PayloadForm::Text, "utf-16le"), "\u{e3c4}\u{c3ba}"),
        (view(PayloadForm::Text), "\u{fffd}\u{fffd}\u{fffd}"),
    ] {
        assert_eq!(content(shown(&agent, asked.clone()).await.payload), Content::Text(expected.into()), "{asked:?}");
    }
    assert_eq!(content(shown(&agent, view(PayloadForm::Auto)).await.payload), Content::Hex("c4e3bac3".into()));
}

#[tokio::test]
async fn a_view_can_show_the_first_bytes_only_and_says_so() {
    let agent = agent_that_received("señal".as_bytes()).await;
    for (asked, expected, is_cut) in [
        (cut(PayloadForm::Auto, 2), Content::Text("se".into()), true),
        (cut(PayloadForm::Auto, 3), Content::Text("se\u{fffd}".into()), true),
        (cut(PayloadForm::Hex, 3), Content::Hex("7365c3".into()), true),
        (cut(PayloadForm::Data, 1), Content::Data("s".into()), true),
        (cut(PayloadForm::Auto, 6), Content::Text("señal".into()), false),
        (cut(PayloadForm::Auto, 0), Content::Text("señal".into()), false),
    ] {
        let datagram = shown(&agent, asked.clone()).await;
        assert_eq!((content(datagram.payload), datagram.cut, datagram.size), (expected, is_cut, Some(6)), "{asked:?}");
    }
}

/// A stream may be cut anywhere, and a piece of text stays text.
#[tokio::test]
async fn a_character_that_is_cut_in_two_does_not_turn_text_into_hex() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let delivery = Some(pb::Delivery { read_size: Some(3), ..Default::default() });
        let bind = if ip.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let spec = pb::TcpSocketSpec { delivery, ..Default::default() };
        let address = agent.listen_with("door", bind, spec).await;
        let mut peer = TcpPeer::connect(&address).await;
        peer.write("señal".as_bytes()).await;
        assert_eq!(agent.receive_text("door.1").await, "se\u{fffd}");
        assert_eq!(agent.receive_text("door.1").await, "\u{fffd}al");
    }
}

/// ReceiveSocket and WatchEvents have a view, too, each its own of the same event.
#[tokio::test]
async fn every_reader_has_a_view_of_its_own() {
    let agent = agent_that_received(b"hola").await;
    let request =
        pb::ReceiveSocketRequest { socket_id: "s".into(), view: Some(cut(PayloadForm::Hex, 2)), ..Default::default() };
    let received = agent.sockets().receive_socket(request).await.unwrap().into_inner();
    assert_eq!((received.cut, received.size), (true, Some(4)));
    assert_eq!(content(received.payload), Content::Hex("686f".into()));
    let request = pb::WatchEventsRequest {
        view: Some(view(PayloadForm::Data)),
        until: crate::harness::filter(&[], &["datagram_received"]),
        ..Default::default()
    };
    let event = agent.watch(request).await.unwrap().rest().await.pop().unwrap();
    let Some(pb::event::Body::DatagramReceived(datagram)) = event.body else { panic!("{event:?}") };
    assert_eq!(content(datagram.payload), Content::Data("hola".into()));
    let request = pb::WaitEventRequest {
        filter: crate::harness::filter(&[], &["datagram_received"]),
        view: Some(view(PayloadForm::None)),
        ..Default::default()
    };
    let event = agent.wait(request).await.unwrap().event.unwrap();
    let Some(pb::event::Body::DatagramReceived(datagram)) = event.body else { panic!("{event:?}") };
    assert_eq!(datagram.payload, None);
}

/// The same characters are not the same bytes everywhere, and replies show how many they were.
#[tokio::test]
async fn text_is_sent_in_the_encoding_that_the_writer_says() {
    let agent = Agent::start().await;
    let peer = UdpPeer::bind(LOOPBACKS[0]).await;
    agent.udp("s", LOOPBACKS[0]).await;
    for (label, bytes) in [
        ("", &[0xe4, 0xbd, 0xa0, 0xe5, 0xa5, 0xbd][..]),
        ("utf-8", &[0xe4, 0xbd, 0xa0, 0xe5, 0xa5, 0xbd]),
        ("utf-16le", &[0x60, 0x4f, 0x7d, 0x59]),
        ("gbk", &[0xc4, 0xe3, 0xba, 0xc3]),
    ] {
        let payload = text("你好").map(|payload| pb::Payload { encoding: label.into(), ..payload });
        let datagram = pb::Datagram { destination: peer.text(), payload, ..Default::default() };
        let sent = agent.try_send("s", vec![datagram]).await.unwrap();
        assert_eq!(sent.bytes_sent() as usize, bytes.len(), "{label}");
        assert_eq!(peer.receive().await.0, bytes, "{label}");
    }
}
