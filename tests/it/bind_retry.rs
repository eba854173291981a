//! Binding to an address that somebody else still has: again and again, as often and as long as it is wanted.

use std::net::{IpAddr, SocketAddr};

use farsock::wire::pb;

use crate::harness::tcp::{Reported, detached, listening_on, millis, plain_tcp, timeout, went};
use crate::harness::{Agent, LOOPBACKS, error_name};

fn retry(attempts: u32) -> Option<pb::BindRetry> {
    Some(pb::BindRetry { attempts, interval: millis(10) })
}

/// An address that a plain socket of the test has.
fn taken(ip: IpAddr) -> (socket2::Socket, String) {
    let holder = plain_tcp(ip);
    holder.bind(&SocketAddr::new(ip, 0).into()).unwrap();
    let address = holder.local_addr().unwrap().as_socket().unwrap().to_string();
    (holder, address)
}

async fn failures(agent: &Agent, id: &str) -> usize {
    agent.kinds(id).await.iter().filter(|kind| *kind == "failed").count()
}

#[tokio::test]
async fn an_address_is_taken_as_soon_as_it_is_free() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let (holder, address) = taken(ip);
        let (door, other) = (format!("door-{at}"), format!("other-{at}"));
        let listen = pb::TcpSocketSpec { bind_retry: retry(0), ..listening_on(&address) };
        let request = pb::CreateSocketRequest {
            socket_id: door.clone(),
            kind: Some(pb::create_socket_request::Kind::Tcp(listen)),
            call: detached(&door),
            ..Default::default()
        };
        agent.create_socket(request).await.unwrap();
        agent.event(&door, "failed").await;
        let family = if ip.is_ipv4() { pb::Family::Ipv4 } else { pb::Family::Ipv6 }.into();
        agent.create_tcp(&other, pb::TcpSocketSpec { family, ..Default::default() }).await.unwrap();
        drop(holder);
        let event = agent.event(&door, "listening").await;
        let Some(pb::event::Body::Listening(listening)) = event.body else { panic!("{event:?}") };
        assert_eq!(listening.local.unwrap().text, address);

        // The same for a socket that is there, when the listener goes.
        let bind = pb::BindSocketRequest {
            socket_id: other.clone(),
            local: address.clone(),
            retry: retry(0),
            call: detached(&other),
            ..Default::default()
        };
        agent.bind_socket(bind).await.unwrap();
        agent.event(&other, "failed").await;
        agent.close(&door).await;
        agent.event(&other, "bound").await;
        assert_eq!(agent.socket(&other).await.local.unwrap().text, address);
    }
}

#[tokio::test]
async fn it_is_tried_so_often_and_so_long_and_no_more() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let (_holder, address) = taken(ip);
        let (thrice, soon) = (format!("thrice-{at}"), format!("soon-{at}"));
        let spec =
            |attempts| pb::UdpSocketSpec { bind: address.clone(), bind_retry: retry(attempts), ..Default::default() };
        // Of UDP the address is free: ports of TCP and UDP are not the same ones.
        agent.create_udp(&format!("udp-{at}"), spec(1)).await.unwrap();
        let created = agent.create_udp(&thrice, spec(3)).await.unwrap();
        assert_eq!(error_name(created.report.as_ref()), "EADDRINUSE");
        let holder = created.report.unwrap().error.unwrap().holder.unwrap();
        assert_eq!(holder.socket_id, format!("udp-{at}"));
        assert_eq!(failures(&agent, &thrice).await, 3);

        let kind = Some(pb::create_socket_request::Kind::Udp(spec(0)));
        let request =
            pb::CreateSocketRequest { socket_id: soon.clone(), kind, call: timeout(50), ..Default::default() };
        let created = agent.create_socket(request).await.unwrap();
        assert_eq!(created.went(), "timed out");
        assert_eq!(created.socket.unwrap().state(), pb::SocketState::Unbound);
        assert!(failures(&agent, &soon).await >= 1);
    }
}

/// Waiting would change nothing.
#[tokio::test]
async fn an_address_of_another_host_is_not_waited_for() {
    let agent = Agent::start().await;
    for (at, address) in ["192.0.2.1:0", "[2001:db8::1]:0"].into_iter().enumerate() {
        let id = format!("s-{at}");
        let spec = pb::TcpSocketSpec { bind: address.into(), bind_retry: retry(0), ..Default::default() };
        assert_eq!(went(&agent.create_tcp(&id, spec).await), "EADDRNOTAVAIL");
        assert_eq!(failures(&agent, &id).await, 1);
    }
}
