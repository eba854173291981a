//! Numbered datagrams: what a way does to them is counted where they arrive, and what comes back where they were sent.

use std::net::{IpAddr, SocketAddr};

use farsock::model::probe::{HEADER, Probe};
use farsock::wire::pb;
use tokio::net::UdpSocket;

use crate::harness::tcp::{Reported, any_port, millis};
use crate::harness::{Agent, LOOPBACKS, datagram, within};

/// A socket of the agent that looks for probes, and its address.
async fn looking(agent: &Agent, id: &str, ip: IpAddr, spec: pb::UdpSocketSpec) -> String {
    let spec = pb::UdpSocketSpec { bind: any_port(ip), probes: true, ..spec };
    agent.create_udp(id, spec).await.unwrap().socket.unwrap().local.unwrap().text
}

async fn probe(agent: &Agent, id: &str, to: &str, count: usize) -> pb::SendDatagramsResponse {
    let request = pb::SendDatagramsRequest {
        socket_id: id.into(),
        datagrams: vec![datagram(to, "tick"); count],
        interval: millis(1),
        probes: true,
        ..Default::default()
    };
    agent.send_datagrams(request).await.unwrap()
}

/// Waits until so many datagrams were counted, and answers what they were.
async fn report(agent: &Agent, id: &str, datagrams: u64) -> pb::ProbeReport {
    let counted = |report: &pb::ProbeReport| {
        let probes: u64 = report.sources.iter().map(|source| source.received() + source.duplicates()).sum();
        probes + report.other_datagrams()
    };
    let all = |socket: &pb::Socket| counted(socket.probes.as_ref().unwrap()) >= datagrams;
    agent.until(id, "its datagrams", all).await.probes.unwrap()
}

/// What is counted of the only sender: received, lost, duplicates, reordered.
fn figures(report: &pb::ProbeReport) -> [u64; 4] {
    let [source] = &report.sources[..] else { panic!("{report:?}") };
    [source.received(), source.lost(), source.duplicates(), source.reordered()]
}

/// The test stands in the way.
async fn in_the_way(ip: IpAddr) -> (UdpSocket, String) {
    let way = UdpSocket::bind((ip, 0)).await.unwrap();
    let address = way.local_addr().unwrap().to_string();
    (way, address)
}

async fn take(way: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut bytes = vec![0; 2048];
    let (size, from) = within("a probe", way.recv_from(&mut bytes)).await.unwrap();
    bytes.truncate(size);
    (bytes, from)
}

#[tokio::test]
async fn each_probe_has_its_number_before_its_payload() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("s-{at}");
        agent.udp(&id, ip).await;
        let (way, address) = in_the_way(ip).await;
        let mut seen = Vec::new();
        for count in [2, 1] {
            let answer = probe(&agent, &id, &address, count).await;
            assert_eq!((answer.went().as_str(), answer.datagrams_sent() as usize), ("ok", count));
            assert_eq!(answer.bytes_sent() as usize, count * (HEADER + 4));
            for _ in 0..count {
                let (bytes, _) = take(&way).await;
                assert_eq!(&bytes[HEADER..], b"tick");
                seen.push(Probe::read(&bytes).unwrap());
            }
        }
        assert_eq!(seen.iter().map(|probe| probe.number).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(seen.iter().all(|probe| probe.sender == seen[0].sender));
        assert!(seen.is_sorted_by_key(|probe| probe.sent));
        // Another one goes without, and no number is used up.
        agent.send(&id, &address, "plain").await;
        assert_eq!(take(&way).await.0, b"plain");
        probe(&agent, &id, &address, 1).await;
        assert_eq!(Probe::read(&take(&way).await.0).unwrap().number, 4);
    }
}

#[tokio::test]
async fn what_the_way_does_to_them_is_counted() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let (from, to) = (format!("from-{at}"), format!("to-{at}"));
        agent.udp(&from, ip).await;
        let target = looking(&agent, &to, ip, pb::UdpSocketSpec::default()).await;
        let (way, address) = in_the_way(ip).await;
        probe(&agent, &from, &address, 10).await;
        let mut all = Vec::new();
        for _ in 0..10 {
            all.push(take(&way).await.0);
        }
        // Two are lost, one comes twice, and one comes late. The last ones nobody knows of but the sender.
        for number in [1, 2, 4, 5, 5, 8, 6] {
            way.send_to(&all[number - 1], &target).await.unwrap();
        }
        way.send_to(b"no probe", &target).await.unwrap();
        let told = report(&agent, &to, 8).await;
        assert_eq!(figures(&told), [6, 2, 1, 1], "{told:?}");
        let source = &told.sources[0];
        assert_eq!((source.lowest_number, source.highest_number, told.other_datagrams), (1, 8, Some(1)));
        assert_eq!(source.source.as_ref().unwrap().text, address);
        assert!(source.jitter.is_some() && source.mean_round_trip.is_none());
        // What is missing may still come.
        way.send_to(&all[6], &target).await.unwrap();
        assert_eq!(figures(&report(&agent, &to, 9).await), [7, 1, 1, 2]);
    }
}

#[tokio::test]
async fn round_trips_are_told_of_what_is_sent_back() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("ping-{at}");
        looking(&agent, &id, ip, pb::UdpSocketSpec::default()).await;
        let (way, address) = in_the_way(ip).await;
        probe(&agent, &id, &address, 5).await;
        for _ in 0..5 {
            let (bytes, from) = take(&way).await;
            way.send_to(&bytes, from).await.unwrap();
        }
        let told = report(&agent, &id, 5).await;
        assert_eq!(figures(&told), [5, 0, 0, 0]);
        let source = &told.sources[0];
        let nanos = |time: Option<prost_types::Duration>| {
            let time = time.unwrap();
            crate::harness::nanos(time.seconds, time.nanos)
        };
        let [least, mean, greatest] =
            [source.least_round_trip, source.mean_round_trip, source.greatest_round_trip].map(nanos);
        assert!(0 < least && least <= mean && mean <= greatest, "{source:?}");
    }
}

/// Whoever takes the datagrams, and whether anybody does, they are counted; and a socket that does not look tells nothing.
#[tokio::test]
async fn they_are_counted_whatever_the_delivery() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        agent.udp("from", ip).await;
        assert_eq!(agent.socket("from").await.probes, None);
        for mode in [pb::DeliveryMode::Events, pb::DeliveryMode::Pull, pb::DeliveryMode::Count] {
            let id = format!("{mode:?}").to_lowercase();
            let delivery = Some(pb::Delivery { mode: mode.into(), ..Default::default() });
            let target = looking(&agent, &id, ip, pb::UdpSocketSpec { delivery, ..Default::default() }).await;
            probe(&agent, "from", &target, 3).await;
            if mode == pb::DeliveryMode::Pull {
                for _ in 0..3 {
                    agent.receive(&id).await.unwrap();
                }
            }
            let told = report(&agent, &id, 3).await;
            assert_eq!(figures(&told), [3, 0, 0, 0], "{id}");
            assert_eq!(told.sources[0].source, agent.socket("from").await.local);
        }
    }
}
