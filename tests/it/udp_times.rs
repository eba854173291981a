//! Times at which datagrams left and arrived, as SO_TIMESTAMPING asks the kernel for them.

use farsock::wire::pb;
use farsock::wire::pb::event::Body;
use pb::socket_option::Value;

use crate::harness::{Agent, LOOPBACKS, UdpPeer, datagram, within};

fn times(words: &str) -> Vec<pb::SocketOption> {
    vec![pb::SocketOption { name: "SO_TIMESTAMPING".into(), value: Some(Value::Text(words.into())) }]
}

fn nanos(time: &prost_types::Timestamp) -> i64 {
    time.seconds * 1_000_000_000 + i64::from(time.nanos)
}

/// Each datagram has a number, and two times on its way out.
#[tokio::test]
async fn the_kernel_tells_when_each_datagram_left() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        let options = times("tx_sched,tx_software,software,opt_id,opt_tsonly");
        agent.udp_with("s", ip, pb::UdpSocketSpec { options, ..Default::default() }).await;
        let to = peer.address().to_string();
        let sent = agent.try_send("s", vec![datagram(&to, "one"), datagram(&to, "two")]).await.unwrap();
        let report = sent.report.unwrap();
        let began = nanos(report.actual_start_time.as_ref().unwrap());
        let mut after = 0;
        let mut told = Vec::new();
        for _ in 0..4 {
            let event = agent.event_after("s", "send_timestamped", after).await;
            after = event.event_seq;
            let Some(Body::SendTimestamped(stamp)) = event.body else { panic!("{event:?}") };
            let time = nanos(stamp.time.as_ref().unwrap());
            assert!(began <= time && time <= nanos(event.time.as_ref().unwrap()), "{began} {stamp:?} {:?}", event.time);
            told.push((stamp.number(), stamp.stage()));
        }
        told.sort_unstable_by_key(|(number, stage)| (*number, *stage as i32));
        let both = |number| [(number, pb::SendStage::Scheduled), (number, pb::SendStage::Sent)];
        assert_eq!(told, [both(0), both(1)].concat());
        assert_eq!(peer.receive_text().await.0, "one");

        // Nothing is told any more, and nothing is the matter with the socket.
        agent.set("s", "SO_TIMESTAMPING", Value::Text(String::new())).await;
        agent.send("s", &to, "three").await;
        assert_eq!(peer.receive_text().await.0, "two");
        assert_eq!(peer.receive_text().await.0, "three");
        peer.send(&agent.socket("s").await.local.unwrap().text, b"back").await;
        assert_eq!(agent.receive_text("s").await, "back");
        let stamps = agent.kinds("s").await.iter().filter(|kind| *kind == "send_timestamped").count();
        assert_eq!(stamps, 4);
    }
}

/// The times do not hide what ICMP says, nor the other way round.
#[tokio::test]
async fn times_and_icmp_messages_share_the_error_queue() {
    for (ip, errors) in LOOPBACKS.into_iter().zip(["IP_RECVERR", "IPV6_RECVERR"]) {
        let agent = Agent::start().await;
        let mut options = times("tx_software,software");
        options.push(pb::SocketOption { name: errors.into(), value: Some(Value::Enabled(true)) });
        agent.udp_with("s", ip, pb::UdpSocketSpec { options, ..Default::default() }).await;
        let gone = UdpPeer::bind(ip).await.address().to_string();
        agent.send("s", &gone, "to nobody").await;
        agent.event("s", "icmp_received").await;
        let event = agent.event("s", "send_timestamped").await;
        let Some(Body::SendTimestamped(stamp)) = event.body else { panic!("{event:?}") };
        assert_eq!((stamp.number(), stamp.stage()), (0, pb::SendStage::Sent), "without opt_id there are no numbers");
    }
}

#[tokio::test]
async fn the_time_of_arrival_is_told_also_this_way() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let mut options = times("rx_software,software");
        options.push(pb::SocketOption { name: "SO_TIMESTAMPNS".into(), value: Some(Value::Enabled(false)) });
        let local = agent.udp_with("s", ip, pb::UdpSocketSpec { options, ..Default::default() }).await;
        let peer = UdpPeer::bind(ip).await;
        // The kernel begins to take times a moment after the first socket of the host has asked for them.
        let told = async {
            loop {
                peer.send(&local, b"hola").await;
                let received = agent.receive("s").await.unwrap();
                if received.receive_time.is_some() {
                    break;
                }
            }
        };
        within("a time of arrival", told).await;
    }
}

/// A stream has no datagrams: what would only fill its error queue is refused.
#[tokio::test]
async fn streams_have_no_such_times() {
    let agent = Agent::start().await;
    agent.create_tcp("line", pb::TcpSocketSpec::default()).await.unwrap();
    let request =
        pb::SetSocketOptionsRequest { socket_id: "line".into(), options: times("software"), ..Default::default() };
    let refused = agent.set_socket_options(request).await.unwrap_err();
    assert_eq!(refused.reason, "WRONG_TRANSPORT", "{refused:?}");
    let spec = pb::TcpSocketSpec { options: times("software"), ..Default::default() };
    let refused = agent.create_tcp("other", spec).await.unwrap_err();
    assert!(refused.message.starts_with("tcp.options[0].name: SO_TIMESTAMPING is of UDP"), "{refused:?}");
}
