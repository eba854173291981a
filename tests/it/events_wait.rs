//! Waiting for one event, or for none.

use farsock::wire::pb;
use tonic::Code;

use crate::harness::{Agent, LOOPBACKS, UdpPeer, filter, millis};

fn wait_for(id: &str, kind: &str) -> pb::WaitEventRequest {
    pb::WaitEventRequest { filter: filter(&[id], &[kind]), ..Default::default() }
}

#[tokio::test]
async fn what_has_happened_is_found_at_once() {
    let agent = Agent::start().await;
    agent.udp("s", LOOPBACKS[0]).await;
    let waited = agent.wait(pb::WaitEventRequest { timeout: millis(0), ..wait_for("s", "bound") }).await.unwrap();
    let event = waited.event.unwrap();
    assert_eq!((event.event_seq, event.kind.as_str(), waited.through_seq, waited.timed_out), (2, "bound", 2, false));
}

#[tokio::test]
async fn what_has_not_happened_is_waited_for_even_without_its_socket() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let (waited, _) = tokio::join!(agent.wait(wait_for("later", "bound")), agent.udp("later", ip));
        assert_eq!(waited.unwrap().event.unwrap().socket_id, "later");
    }
}

#[tokio::test]
async fn nothing_in_time_is_an_answer() {
    let agent = Agent::start().await;
    agent.udp("s", LOOPBACKS[0]).await;
    for timeout in [0, 1, 50] {
        let request = pb::WaitEventRequest { timeout: millis(timeout), ..wait_for("s", "closed") };
        let waited = agent.wait(request).await.unwrap();
        assert_eq!((waited.timed_out, waited.event, waited.gap), (true, None, None));
        assert_eq!(waited.through_seq, 2, "where to go on from");
    }
}

/// Each wait goes on where the last one ended.
#[tokio::test]
async fn waits_follow_each_other_by_number() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let peer = UdpPeer::bind(ip).await;
        let local = agent.udp("s", ip).await;
        for payload in ["one", "two", "three"] {
            peer.send(&local, payload.as_bytes()).await;
        }
        let (mut after, mut seen) = (0, Vec::new());
        for _ in 0..3 {
            let request = pb::WaitEventRequest { after_event_seq: Some(after), ..wait_for("s", "datagram_received") };
            let waited = agent.wait(request).await.unwrap();
            after = waited.through_seq;
            let event = waited.event.unwrap();
            assert_eq!(event.event_seq, after);
            seen.push(after);
        }
        assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "{seen:?}");
        let request = pb::WaitEventRequest {
            after_event_seq: Some(after),
            timeout: millis(0),
            ..wait_for("s", "datagram_received")
        };
        assert!(agent.wait(request).await.unwrap().timed_out);
    }
}

/// Silence is waited for from now on: what happened before does not break it.
#[tokio::test]
async fn silence_is_what_is_hoped_for() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        agent.udp("s", ip).await;
        let silence =
            |timeout| pb::WaitEventRequest { expect_none: true, timeout: millis(timeout), ..wait_for("s", "closed") };
        assert!(agent.wait(silence(50)).await.unwrap().timed_out);
        agent.close("s").await;
        assert!(agent.wait(silence(50)).await.unwrap().timed_out, "that was before");
        let since = pb::WaitEventRequest { after_event_seq: Some(0), ..silence(50) };
        let waited = agent.wait(since).await.unwrap();
        assert_eq!((waited.timed_out, waited.event.unwrap().kind.as_str()), (false, "closed"));
    }
}

/// For shell scripts, what is not hoped for is a failure.
#[tokio::test]
async fn what_is_not_hoped_for_can_be_a_failure() {
    let agent = Agent::start().await;
    agent.udp("s", LOOPBACKS[0]).await;
    let strict = |request| pb::WaitEventRequest { fail_on_error: true, timeout: millis(0), ..request };
    let refused = agent.wait(strict(wait_for("s", "closed"))).await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::FailedPrecondition, "TIMED_OUT"));
    assert!(agent.wait(strict(wait_for("s", "bound"))).await.unwrap().event.is_some());

    let silence = |request| pb::WaitEventRequest { expect_none: true, after_event_seq: Some(0), ..request };
    let refused = agent.wait(strict(silence(wait_for("s", "bound")))).await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::FailedPrecondition, "UNEXPECTED_EVENT"));
    assert!(refused.message.contains("`bound` happened (event 2)"), "{}", refused.message);
    assert!(agent.wait(strict(silence(wait_for("s", "closed")))).await.unwrap().timed_out);
}

#[tokio::test]
async fn a_wait_needs_a_number_that_was_given_and_a_time_from_zero_on() {
    let agent = Agent::start().await;
    let future = pb::WaitEventRequest { after_event_seq: Some(1), ..Default::default() };
    assert_eq!(agent.wait(future).await.unwrap_err().reason, "FUTURE_EVENT");
    let negative = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    let refused = agent.wait(pb::WaitEventRequest { timeout: negative, ..Default::default() }).await.unwrap_err();
    assert!(refused.message.starts_with("timeout: "), "{}", refused.message);
    let other = pb::WaitEventRequest { session_id: "other".into(), ..Default::default() };
    assert_eq!(agent.wait(other).await.unwrap_err().reason, "SESSION_NOT_FOUND");
}

#[tokio::test]
async fn an_agent_that_stops_lets_nobody_wait() {
    let mut agent = Agent::start().await;
    let stop = async {
        // The socket is there, so the wait has most likely begun; in either order nobody waits for ever.
        agent.udp("s", LOOPBACKS[0]).await;
    };
    stop.await;
    let events = agent.events();
    let waiting = tokio::spawn(async move {
        let mut events = events;
        events.wait_event(wait_for("s", "sent")).await
    });
    agent.event("s", "bound").await;
    agent.begin_to_stop();
    match crate::harness::within("an answer", waiting).await.unwrap() {
        Ok(waited) => assert!(waited.into_inner().event.is_none()),
        Err(status) => assert_eq!(status.code(), Code::Unavailable),
    }
}
