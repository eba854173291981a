//! Requests that are meant for one life of an agent.

use farsock::wire::pb;
use tonic::Code;

use crate::harness::{Agent, LOOPBACKS, Refused};

async fn instance(agent: &Agent) -> String {
    agent.agent().get_agent(pb::GetAgentRequest {}).await.unwrap().into_inner().agent.unwrap().instance_id
}

fn meant_for(instance_id: &str) -> Option<pb::Call> {
    Some(pb::Call { instance_id: instance_id.into(), ..Default::default() })
}

#[tokio::test]
async fn a_request_for_another_life_of_the_agent_does_nothing() {
    let (before, after) = (Agent::start().await, Agent::start().await);
    let (meant, real) = (instance(&before).await, instance(&after).await);
    assert_ne!(meant, real);
    after.udp("s", LOOPBACKS[0]).await;
    let close = |call| pb::CloseSocketRequest { socket_id: "s".into(), call, ..Default::default() };
    let refused = Refused::from(after.sockets().close_socket(close(meant_for(&meant))).await.unwrap_err());
    assert_eq!((refused.code, refused.reason.as_str()), (Code::FailedPrecondition, "INSTANCE_CHANGED"));
    assert!(refused.message.contains(&real), "it tells who it is: {}", refused.message);
    let reset = pb::ResetSessionRequest { call: meant_for(&meant), ..Default::default() };
    assert_eq!(Refused::from(after.sessions().reset_session(reset).await.unwrap_err()).reason, "INSTANCE_CHANGED");
    assert_eq!(after.open_sockets().await, 1);
    after.sockets().close_socket(close(meant_for(&real))).await.unwrap();
    assert_eq!(after.open_sockets().await, 0);
}

#[tokio::test]
async fn an_instance_is_thirty_two_hexadecimal_digits_and_the_same_everywhere() {
    let agent = Agent::start().await;
    let known = instance(&agent).await;
    assert!(known.len() == 32 && known.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c)), "{known}");
    let clock = agent.agent().get_clock(pb::GetClockRequest {}).await.unwrap().into_inner();
    assert_eq!(clock.instance_id, known);
    let opened = agent.watch(pb::WatchEventsRequest::default()).await.unwrap().opened().await;
    assert_eq!(opened.instance_id, known);
}
