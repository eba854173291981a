//! Changes of the kernel's own TCP states, told as events to those who ask for them.

use farsock::wire::pb;
use farsock::wire::pb::event::Body;

use crate::harness::tcp::any_port;
use crate::harness::{Agent, LOOPBACKS, TcpPeer};

const TELLS: fn() -> pb::TcpSocketSpec = || pb::TcpSocketSpec { tcp_state_events: true, ..Default::default() };

/// The states that were told of a socket, each with the one before it.
async fn states(agent: &Agent, id: &str) -> Vec<(&'static str, &'static str)> {
    let word = |state: pb::TcpState| state.as_str_name().trim_start_matches("TCP_STATE_");
    let told = agent.events_of(id, "tcp_state_changed").await.into_iter().map(|body| match body {
        Body::TcpStateChanged(changed) => (word(changed.previous_state()), word(changed.state())),
        other => panic!("{other:?}"),
    });
    told.collect()
}

/// Waits until a socket is told to be in this state.
async fn becomes(agent: &Agent, id: &str, state: pb::TcpState) {
    let mut after = 0;
    loop {
        let event = agent.event_after(id, "tcp_state_changed", after).await;
        after = event.event_seq;
        let Some(Body::TcpStateChanged(changed)) = event.body else { panic!("{event:?}") };
        if changed.state() == state {
            return;
        }
    }
}

/// Whoever ends first goes the long way; each change begins where the one before it has led.
#[tokio::test]
async fn a_connection_is_seen_to_open_and_to_end_from_here() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let (listener, address) = TcpPeer::listen(ip).await;
        agent.connect_with("line", &address.to_string(), TELLS()).await;
        let peer = TcpPeer::accept(&listener).await;
        becomes(&agent, "line", pb::TcpState::Established).await;
        agent.shut_down("line", pb::ShutdownHow::Send).await;
        // Nothing wakes the agent when the peer's acknowledgement comes.
        becomes(&agent, "line", pb::TcpState::FinWait2).await;
        drop(peer);
        agent.event("line", "peer_closed").await;
        agent.close("line").await;

        let told = states(&agent, "line").await;
        assert_eq!(told[0].0, "CLOSED");
        assert!(told.windows(2).all(|pair| pair[0].1 == pair[1].0 && pair[0].0 != pair[0].1), "{told:?}");
        let order = ["SYN_SENT", "ESTABLISHED", "FIN_WAIT_1", "FIN_WAIT_2", "TIME_WAIT", "CLOSED"];
        let places: Vec<_> = told.iter().map(|(_, state)| order.iter().position(|known| known == state)).collect();
        assert!(places.is_sorted() && !places.contains(&None), "{told:?}");
        assert_eq!(agent.kinds("line").await.last().unwrap(), "closed");
    }
}

/// Connections of a listener tell them, too, and what the peer does is seen also where nobody reads.
#[tokio::test]
async fn a_listener_and_its_connections_tell_their_states() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let paused = Some(pb::Delivery { paused: Some(true), ..Default::default() });
        let spec = pb::TcpSocketSpec { delivery: paused, ..TELLS() };
        let address = agent.listen_with("door", &any_port(ip), spec).await;
        assert_eq!(states(&agent, "door").await, [("CLOSED", "LISTEN")]);
        let peer = TcpPeer(tokio::net::TcpStream::connect(&address).await.unwrap());
        becomes(&agent, "door.1", pb::TcpState::Established).await;
        assert_eq!(states(&agent, "door.1").await, [("UNSPECIFIED", "ESTABLISHED")]);
        drop(peer);
        becomes(&agent, "door.1", pb::TcpState::CloseWait).await;
        assert_eq!(states(&agent, "door.1").await[1], ("ESTABLISHED", "CLOSE_WAIT"));
        agent.abort("door.1").await;
        agent.close("door").await;
        assert_eq!(agent.kinds("door.1").await.last().unwrap(), "closed");
    }
}

#[tokio::test]
async fn nobody_is_told_who_has_not_asked() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let (listener, address) = TcpPeer::listen(ip).await;
        agent.connect("line", &address.to_string()).await;
        drop(TcpPeer::accept(&listener).await);
        agent.event("line", "peer_closed").await;
        agent.close("line").await;
        assert_eq!(states(&agent, "line").await, []);
    }
}
