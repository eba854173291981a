//! Making sessions: names, minted and chosen, and how many.

use farsock::agent::AgentConfig;
use farsock::model::limits::Limits;
use farsock::wire::pb;
use tonic::Code;

use crate::harness::{Agent, named};

async fn list(agent: &Agent, page_size: u32, page_token: &str) -> pb::ListSessionsResponse {
    let request = pb::ListSessionsRequest { page_size, page_token: page_token.into(), ..Default::default() };
    agent.sessions().list_sessions(request).await.unwrap().into_inner()
}

fn ids(sessions: &[pb::Session]) -> Vec<&str> {
    sessions.iter().map(|session| session.session_id.as_str()).collect()
}

#[tokio::test]
async fn a_session_is_made_under_its_name() {
    let agent = Agent::start().await;
    let session = agent.create_session("lab-3").await.unwrap();
    assert_eq!(session.session_id, "lab-3");
    assert_eq!((session.socket_count, session.head_event_seq, session.oldest_event_seq), (0, 0, 0));
    assert!(session.create_time.is_some());
    let refused = agent.create_session("lab-3").await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::AlreadyExists, "SESSION_EXISTS"));
    assert!(refused.message.contains("`lab-3`"), "{}", refused.message);
}

#[tokio::test]
async fn a_session_without_a_name_gets_one() {
    let agent = Agent::start().await;
    agent.create_session("session-1").await.unwrap();
    let minted = agent.create_session("").await.unwrap().session_id;
    assert_eq!(minted, "session-2", "minted names go round chosen ones");
}

/// The caller's own session is always there, and needs no ceremony.
#[tokio::test]
async fn the_default_session_is_always_there() {
    let agent = Agent::start().await;
    for id in ["", "default"] {
        let request = pb::GetSessionRequest { session_id: id.into() };
        let session = agent.sessions().get_session(request).await.unwrap().into_inner().session.unwrap();
        assert_eq!(session.session_id, "default");
    }
    assert_eq!(agent.create_session("default").await.unwrap_err().reason, "SESSION_EXISTS");
}

#[tokio::test]
async fn it_exists_before_anybody_has_asked_for_it() {
    let agent = Agent::start().await;
    // Its operations count in the default session, which is so made on the way.
    assert_eq!(agent.create_session("default").await.unwrap_err().reason, "SESSION_EXISTS");
    assert_eq!(ids(&list(&agent, 0, "").await.sessions), ["default"]);
}

#[tokio::test]
async fn sessions_are_limited_and_room_is_kept_for_the_default_one() {
    let limits = Limits { sessions: 3, ..Limits::default() };
    let agent = Agent::start_with(AgentConfig { limits, ..Default::default() }).await;
    agent.create_session("one").await.unwrap();
    agent.create_session("two").await.unwrap();
    let refused = agent.create_session("three").await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::ResourceExhausted, "QUOTA_EXCEEDED"));
    assert!(refused.message.contains("limits.sessions"), "{}", refused.message);
    agent.delete("one", false).await.unwrap();
    agent.create_session("three").await.unwrap();
    assert_eq!(ids(&list(&agent, 0, "").await.sessions), ["default", "two", "three"]);
}

#[tokio::test]
async fn sessions_are_listed_page_by_page_in_the_order_in_which_they_were_made() {
    let agent = Agent::start().await;
    for id in ["c", "a", "b"] {
        agent.create_session(id).await.unwrap();
    }
    let (mut token, mut seen) = (String::new(), Vec::new());
    loop {
        let page = list(&agent, 2, &token).await;
        assert!(page.sessions.len() <= 2);
        seen.extend(ids(&page.sessions).into_iter().map(str::to_owned));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ["default", "c", "a", "b"]);
}

/// What the page before ended with may be gone when the next one is asked for: nothing is shown twice for it, and nothing is left out.
#[tokio::test]
async fn a_page_goes_on_where_the_one_before_ended_whatever_was_deleted() {
    let agent = Agent::start().await;
    for id in ["a", "b", "c"] {
        agent.create_session(id).await.unwrap();
    }
    let first = list(&agent, 2, "").await;
    assert_eq!(ids(&first.sessions), ["default", "a"]);
    agent.delete("a", false).await.unwrap();
    assert_eq!(ids(&list(&agent, 2, &first.next_page_token).await.sessions), ["b", "c"]);
}

#[tokio::test]
async fn a_creation_can_be_sent_again() {
    let agent = Agent::start().await;
    let request =
        || pb::CreateSessionRequest { session_id: "lab".into(), call: Some(named("make")), ..Default::default() };
    let first = agent.sessions().create_session(request()).await.unwrap().into_inner();
    assert_eq!(agent.sessions().create_session(request()).await.unwrap().into_inner(), first);
}
