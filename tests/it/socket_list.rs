//! The sockets of a session, page by page.

use farsock::agent::AgentConfig;
use farsock::model::limits::Limits;
use farsock::wire::pb;

use crate::harness::{Agent, LOOPBACKS};

async fn all(agent: &Agent, page_size: u32, show_closed: bool) -> Vec<String> {
    let (mut page_token, mut ids) = (String::new(), Vec::new());
    loop {
        let request = pb::ListSocketsRequest { page_size, page_token, show_closed, ..Default::default() };
        let page = agent.sockets().list_sockets(request).await.unwrap().into_inner();
        assert!(page_size == 0 || page.sockets.len() <= page_size as usize);
        ids.extend(page.sockets.into_iter().map(|socket| socket.socket_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return ids;
        }
    }
}

/// In the order in which they were made, each once, whatever the size of a page.
#[tokio::test]
async fn sockets_are_listed_in_the_order_in_which_they_were_made() {
    let agent = Agent::start().await;
    for id in ["d", "b", "a", "c", "e"] {
        agent.udp(id, LOOPBACKS[0]).await;
    }
    agent.close("a").await;
    agent.close("d").await;
    for page_size in [0, 1, 2, 3, 5, 100] {
        assert_eq!(all(&agent, page_size, false).await, ["b", "c", "e"], "{page_size}");
        assert_eq!(all(&agent, page_size, true).await, ["d", "b", "a", "c", "e"], "{page_size}");
    }
}

#[tokio::test]
async fn closed_sockets_are_remembered_up_to_a_limit() {
    let limits = Limits { closed_sockets: 2, ..Limits::default() };
    let agent = Agent::start_with(AgentConfig { limits, ..Default::default() }).await;
    for id in ["a", "b", "c"] {
        agent.udp(id, LOOPBACKS[0]).await;
        agent.close(id).await;
    }
    assert_eq!(all(&agent, 0, true).await, ["b", "c"]);
    let socket = agent.socket("b").await;
    assert_eq!((socket.state(), socket.closed.unwrap().reason()), (pb::SocketState::Closed, pb::CloseReason::Closed));
    assert!(socket.queues.is_none() && socket.readiness.is_none());
    let request = pb::GetSocketRequest { socket_id: "a".into(), ..Default::default() };
    let refused = crate::harness::Refused::from(agent.sockets().get_socket(request).await.unwrap_err());
    assert_eq!(refused.reason, "SOCKET_NOT_FOUND");
}

/// A name shows the last socket that had it; its number tells which one that was.
#[tokio::test]
async fn a_name_shows_the_socket_that_has_it_or_had_it_last() {
    let agent = Agent::start().await;
    for _ in 0..3 {
        agent.udp("s", LOOPBACKS[0]).await;
        agent.close("s").await;
    }
    assert_eq!(agent.socket("s").await.socket_uid, 3);
    agent.udp("s", LOOPBACKS[0]).await;
    assert_eq!(agent.socket("s").await.socket_uid, 4);
    assert_eq!(all(&agent, 2, true).await, ["s", "s", "s", "s"]);
}
