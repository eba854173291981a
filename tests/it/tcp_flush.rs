//! Waiting until the peer has everything: its kernel, not its program.

use farsock::wire::pb;

use crate::harness::tcp::{Reported, detached, pattern, timeout, unread_by_the_test, went};
use crate::harness::{Agent, LOOPBACKS, TcpPeer, text};

fn flush(id: &str, call: Option<pb::Call>) -> pb::FlushSocketRequest {
    pb::FlushSocketRequest { socket_id: id.into(), call, ..Default::default() }
}

#[tokio::test]
async fn everything_that_was_written_is_acknowledged_though_nobody_reads_it() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let (listener, address) = TcpPeer::listen(ip).await;
        agent.connect(&id, &address.to_string()).await;
        let mut peer = TcpPeer::accept(&listener).await;
        // Nothing to wait for.
        assert_eq!(agent.flush_socket(flush(&id, None)).await.unwrap().went(), "ok");
        agent.write(&id, "hola").await;
        let flushed = agent.flush_socket(flush(&id, None)).await.unwrap();
        assert_eq!((flushed.went().as_str(), flushed.socket.unwrap().queues.unwrap().send_bytes()), ("ok", 0));
        // A FIN is acknowledged, too.
        agent.shut_down(&id, pb::ShutdownHow::Send).await;
        let flushed = agent.flush_socket(flush(&id, None)).await.unwrap();
        assert_eq!((flushed.went().as_str(), flushed.socket.unwrap().queues.unwrap().send_bytes()), ("ok", 0));
        assert_eq!(peer.read_to_end().await.unwrap(), b"hola");
    }
}

#[tokio::test]
async fn what_a_closed_window_holds_back_is_not_acknowledged_until_it_opens() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let id = format!("line-{at}");
        let (mut peer, size) = unread_by_the_test(&agent, ip, &id).await;
        let write =
            |payload, call| pb::WriteSocketRequest { socket_id: id.clone(), payload, call, ..Default::default() };
        agent.write_socket(write(pattern(size, 1), detached(&format!("{id}-w")))).await.unwrap();
        let stuck = agent.flush_socket(flush(&id, timeout(100))).await.unwrap();
        assert_eq!(stuck.went(), "timed out");
        let queues = stuck.socket.unwrap().queues.unwrap();
        assert!(queues.send_bytes() > 0 && queues.pending_write_bytes() > 0, "{queues:?}");

        // Writes that come later go their way; and one call waits for the window.
        agent.flush_socket(flush(&id, detached(&format!("{id}-f")))).await.unwrap();
        agent.write_socket(write(text("more"), detached(&format!("{id}-m")))).await.unwrap();
        peer.read(size + 4).await;
        let flushed: pb::FlushSocketResponse = agent.call_response(&format!("{id}-f")).await;
        assert_eq!(flushed.went(), "ok");
        let after = agent.flush_socket(flush(&id, None)).await.unwrap();
        assert_eq!((after.went().as_str(), after.socket.unwrap().queues.unwrap().send_bytes()), ("ok", 0));
    }
}

#[tokio::test]
async fn a_flush_ends_with_its_connection_or_when_nobody_wants_it_any_more() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        for (end, expected) in [("reset", "ECONNRESET"), ("close", "ECANCELED"), ("cancel", "ECANCELED")] {
            let id = format!("line-{at}-{end}");
            let (peer, size) = unread_by_the_test(&agent, ip, &id).await;
            let write = pb::WriteSocketRequest {
                socket_id: id.clone(),
                payload: pattern(size, 1),
                call: timeout(50),
                ..Default::default()
            };
            assert_eq!(went(&agent.write_socket(write).await), "timed out");
            let name = format!("{id}-f");
            agent.flush_socket(flush(&id, detached(&name))).await.unwrap();
            match end {
                "reset" => peer.abort(),
                "close" => drop(agent.close(&id).await),
                _ => drop(agent.cancel_call(&name).await.unwrap()),
            }
            let flushed: pb::FlushSocketResponse = agent.call_response(&name).await;
            assert_eq!(flushed.went(), expected, "{end}");
        }
    }
}

#[tokio::test]
async fn only_a_connection_can_be_flushed() {
    let agent = Agent::start().await;
    for (at, ip) in LOOPBACKS.into_iter().enumerate() {
        let (idle, udp) = (format!("idle-{at}"), format!("udp-{at}"));
        agent.create_tcp(&idle, pb::TcpSocketSpec::default()).await.unwrap();
        assert_eq!(went(&agent.flush_socket(flush(&idle, None)).await), "ENOTCONN");
        agent.udp(&udp, ip).await;
        assert_eq!(went(&agent.flush_socket(flush(&udp, None)).await), "WRONG_TRANSPORT");
    }
}
