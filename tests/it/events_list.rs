//! The log, page by page.

use farsock::wire::pb;
use tonic::Code;

use crate::harness::{Agent, LOOPBACKS, Refused, UdpPeer, filter};

async fn page(agent: &Agent, page_size: u32, token: &str, filter: Option<pb::EventFilter>) -> pb::ListEventsResponse {
    agent.list(pb::ListEventsRequest { page_size, page_token: token.into(), filter, ..Default::default() }).await
}

async fn agent_with_sends(count: usize) -> Agent {
    let agent = Agent::start().await;
    let peer = UdpPeer::bind(LOOPBACKS[0]).await;
    agent.udp("s", LOOPBACKS[0]).await;
    agent.udp("other", LOOPBACKS[0]).await;
    for n in 0..count {
        agent.send(if n % 2 == 0 { "s" } else { "other" }, &peer.text(), "hola").await;
    }
    agent
}

/// Every event on exactly one page, whatever its size.
#[tokio::test]
async fn pages_follow_each_other_without_holes() {
    let agent = agent_with_sends(20).await;
    for page_size in [1, 5, 7, 24, 25, 1000, u32::MAX] {
        let (mut token, mut seqs) = (String::new(), Vec::new());
        loop {
            let page = page(&agent, page_size, &token, None).await;
            assert!(page.events.len() <= page_size as usize && page.gaps.is_empty());
            seqs.extend(page.events.iter().map(|event| event.event_seq));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seqs, (1..=24).collect::<Vec<_>>(), "{page_size}");
    }
}

#[tokio::test]
async fn a_page_has_only_what_its_filter_wants() {
    let agent = agent_with_sends(20).await;
    let (mut token, mut seqs) = (String::new(), Vec::new());
    loop {
        let page = page(&agent, 3, &token, filter(&["other"], &["sent"])).await;
        assert!(page.events.iter().all(|event| event.socket_id == "other" && event.kind == "sent"));
        seqs.extend(page.events.iter().map(|event| event.event_seq));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seqs, (6..=24).step_by(2).collect::<Vec<_>>());
}

/// A page that was full leads on to what has happened since.
#[tokio::test]
async fn a_list_can_be_followed_as_it_grows() {
    let agent = agent_with_sends(0).await;
    let first = page(&agent, 4, "", None).await;
    assert_eq!(first.events.len(), 4);
    let second = page(&agent, 4, &first.next_page_token, None).await;
    assert_eq!((second.events.len(), second.next_page_token.as_str()), (0, ""));
    agent.close("s").await;
    let second = page(&agent, 4, &first.next_page_token, None).await;
    assert_eq!((second.events.len(), second.events[0].kind.as_str()), (1, "closed"));
}

#[tokio::test]
async fn a_list_begins_where_it_is_told_to() {
    let agent = agent_with_sends(2).await;
    let request = pb::ListEventsRequest { after_event_seq: Some(4), ..Default::default() };
    let seqs: Vec<_> = agent.list(request).await.events.iter().map(|event| event.event_seq).collect();
    assert_eq!(seqs, [5, 6]);
    let future = pb::ListEventsRequest { after_event_seq: Some(7), ..Default::default() };
    let refused = Refused::from(agent.events().list_events(future).await.unwrap_err());
    assert_eq!((refused.code, refused.reason.as_str()), (Code::OutOfRange, "FUTURE_EVENT"));
}

/// A reader that does not stay is no watcher.
#[tokio::test]
async fn the_log_can_be_read_beside_as_many_watchers_as_there_may_be() {
    let limits = farsock::model::limits::Limits { watchers: 1, ..Default::default() };
    let agent = Agent::start_with(farsock::agent::AgentConfig { limits, ..Default::default() }).await;
    let mut watcher = agent.watch(pb::WatchEventsRequest::default()).await.unwrap();
    watcher.opened().await;
    agent.udp("s", LOOPBACKS[0]).await;
    assert_eq!(agent.all_events("").await.len(), 2);
    let refused = agent.wait(pb::WaitEventRequest::default()).await.unwrap_err();
    assert_eq!(refused.reason, "QUOTA_EXCEEDED", "whoever waits is one");
}

/// Pages stay below every client's message limit, also in hex.
#[tokio::test]
async fn a_page_is_bounded_by_its_bytes_too() {
    let agent = Agent::start().await;
    let peer = UdpPeer::bind(LOOPBACKS[0]).await;
    let local = agent.udp("s", LOOPBACKS[0]).await;
    let mut last = 0;
    for _ in 0..50 {
        peer.send(&local, &[0xff; 60_000]).await;
        last = agent.datagram_after("s", last).await.0;
    }
    let (mut token, mut events, mut pages) = (String::new(), 0, 0);
    loop {
        let page = page(&agent, 0, &token, None).await;
        assert!(prost::Message::encoded_len(&page) < 4 << 20, "{} events", page.events.len());
        (events, pages) = (events + page.events.len(), pages + 1);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(events, 52);
    assert!(pages > 1);
}
