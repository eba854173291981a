//! The sockets of a session, page by page.

use std::collections::BTreeMap;

use farsock::agent::AgentConfig;
use farsock::model::limits::Limits;
use farsock::wire::pb;
use tonic::Code;

use crate::harness::tcp::{any_port, listening_on};
use crate::harness::{Agent, LOOPBACKS, TcpPeer};

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

fn labels(all: &[(&str, &str)]) -> BTreeMap<String, String> {
    all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Labels are the caller's: they are shown as they were given, and connections have those of their listener.
#[tokio::test]
async fn sockets_are_found_by_their_labels() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let create = |id: &str, all: &[(&str, &str)]| pb::CreateSocketRequest {
            socket_id: id.into(),
            kind: Some(pb::create_socket_request::Kind::Tcp(listening_on(&any_port(ip)))),
            labels: labels(all),
            ..Default::default()
        };
        let blue = agent.create_socket(create("a", &[("team", "blue"), ("row", "3")])).await.unwrap().socket.unwrap();
        assert_eq!(blue.labels, labels(&[("row", "3"), ("team", "blue")]));
        agent.create_socket(create("b", &[("team", "red")])).await.unwrap();
        agent.create_socket(create("c", &[])).await.unwrap();
        let _peer = TcpPeer::connect(&blue.local.unwrap().text).await;
        agent.event("a", "accepted").await;
        agent.close("a").await;

        let found = async |all: &[(&str, &str)], show_closed, page_size| {
            let request = pb::ListSocketsRequest { labels: labels(all), show_closed, page_size, ..Default::default() };
            let page = agent.sockets().list_sockets(request).await.unwrap().into_inner();
            page.sockets.into_iter().map(|socket| socket.socket_id).collect::<Vec<_>>()
        };
        assert_eq!(found(&[("team", "blue")], false, 0).await, ["a.1"]);
        assert_eq!(found(&[("team", "blue"), ("row", "3")], true, 0).await, ["a", "a.1"]);
        assert_eq!(found(&[("team", "red")], false, 1).await, ["b"]);
        assert_eq!(found(&[("team", "green")], true, 0).await, Vec::<String>::new());
        assert_eq!(found(&[], false, 0).await, ["b", "c", "a.1"]);
    }
}

#[tokio::test]
async fn labels_have_a_form_and_a_limit() {
    let agent = Agent::start().await;
    let many: BTreeMap<_, _> = (0..17).map(|n| (format!("key-{n}"), String::new())).collect();
    for labels in [labels(&[("", "x")]), labels(&[("a b", "x")]), labels(&[("a", "x\ny")]), many] {
        let kind = Some(pb::create_socket_request::Kind::Udp(pb::UdpSocketSpec::default()));
        let refused = agent
            .create_socket(pb::CreateSocketRequest { kind, labels: labels.clone(), ..Default::default() })
            .await
            .unwrap_err();
        assert!(refused.code == Code::InvalidArgument && refused.message.starts_with("labels: "), "{refused:?}");
        let listed = agent.sockets().list_sockets(pb::ListSocketsRequest { labels, ..Default::default() }).await;
        assert_eq!(listed.unwrap_err().code(), Code::InvalidArgument);
    }
}
