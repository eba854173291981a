//! What becomes of the interfaces of a host, told to sessions that ask for it. In network namespaces of the test's own.

use std::fs;

use farsock::wire::pb;
use farsock::wire::pb::event::Body;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::frames::becomes;
use crate::harness::{Agent, AgentProcess, Namespace, QUESTION, Refused};

/// A session of this name that is told of interfaces.
async fn told_session(agent: &Agent, name: &str) {
    let request = pb::CreateSessionRequest { session_id: name.into(), interface_events: true, ..Default::default() };
    agent.sessions().create_session(request).await.unwrap();
}

/// `one ADDED`, `one MTU 1400`, `one +10.9.0.1/24`.
fn told(event: &pb::Event) -> String {
    assert!(event.socket_id.is_empty(), "{event:?}");
    match event.body.as_ref().unwrap() {
        Body::InterfaceChanged(changed) => {
            assert!(changed.interface_index > 0);
            let change = changed.change().as_str_name().trim_start_matches("INTERFACE_CHANGE_");
            let mtu = if change == "MTU" { format!(" {}", changed.mtu) } else { String::new() };
            format!("{} {change}{mtu}", changed.interface)
        }
        Body::InterfaceAddressChanged(changed) => {
            let sign = if changed.removed { '-' } else { '+' };
            format!("{} {sign}{}/{}", changed.interface, changed.address, changed.prefix_length)
        }
        other => panic!("{other:?}"),
    }
}

/// Reads the events of a session until this one comes, and gives it and all before it, of this interface.
async fn until(agent: &Agent, session: &str, after: &mut u64, wanted: &str) -> Vec<String> {
    let interface = wanted.split(' ').next().unwrap();
    let kinds = vec!["interface_changed".to_owned(), "interface_address_changed".to_owned()];
    let mut heard = Vec::new();
    loop {
        let request = pb::WaitEventRequest {
            session_id: session.into(),
            after_event_seq: Some(*after),
            filter: Some(pb::EventFilter { socket_ids: Vec::new(), kinds: kinds.clone() }),
            ..Default::default()
        };
        let answer = agent.events().wait_event(request).await.unwrap().into_inner();
        let event = answer.event.unwrap_or_else(|| panic!("{wanted} after {heard:?}"));
        *after = event.event_seq;
        let told = told(&event);
        if told.split(' ').next() == Some(interface) {
            heard.push(told);
        }
        if heard.last().is_some_and(|last| last == wanted) {
            return heard;
        }
    }
}

#[tokio::test]
async fn what_becomes_of_interfaces_is_told_in_its_order() {
    let Some(namespace) = Namespace::new() else { return };
    let agent = namespace.agent().await;
    told_session(&agent, "lab").await;
    agent
        .sessions()
        .create_session(pb::CreateSessionRequest { session_id: "deaf".into(), ..Default::default() })
        .await
        .unwrap();
    let mut after = 0;
    for (words, wanted) in [
        ("link add one type veth peer name two", "one ADDED"),
        ("link set one mtu 1400", "one MTU 1400"),
        ("link set one up", "one UP"),
        ("link set two up", "one CARRIER_FOUND"),
        ("address add 10.9.0.1/24 dev one", "one +10.9.0.1/24"),
        ("address add fd09::1/64 nodad dev one", "one +fd09::1/64"),
        ("address del fd09::1/64 dev one", "one -fd09::1/64"),
        ("address del 10.9.0.1/24 dev one", "one -10.9.0.1/24"),
        ("link set two down", "one CARRIER_LOST"),
        ("link set one down", "one DOWN"),
        ("link set one name uno", "uno RENAMED"),
        ("link del uno", "uno REMOVED"),
    ] {
        namespace.ip(words);
        let heard = until(&agent, "lab", &mut after, wanted).await;
        // The kernel gives an interface a link-local address of its own, and takes it away.
        let others: Vec<_> = heard.iter().filter(|told| !told.contains("fe80::") && *told != wanted).collect();
        assert!(others.is_empty(), "{words}: {heard:?}");
    }
    // Both ends of a cable go.
    until(&agent, "lab", &mut 0, "two REMOVED").await;

    // Who has not asked hears nothing, nor does who asks later hear of what was before.
    told_session(&agent, "late").await;
    namespace.ip("link add three type veth peer name four");
    let heard = until(&agent, "late", &mut 0, "three ADDED").await;
    assert_eq!(heard, ["three ADDED"]);
    for session in ["deaf", ""] {
        let request = pb::ListEventsRequest { session_id: session.into(), ..Default::default() };
        assert_eq!(agent.events().list_events(request).await.unwrap().into_inner().events, []);
    }
    agent.stop().await;
}

/// Who may not make sessions does not get the agent to listen to the kernel either: it opens nothing for him.
#[tokio::test]
async fn who_may_not_have_a_session_lets_nothing_be_watched() {
    let folder = TempDir::new().unwrap();
    let policy = folder.path().join("policy.yaml");
    let say = |role: &str| {
        let text = format!("policy: Own\nprincipals: {{ owner: {role} }}\nrules: [{{ allow: any, addresses: any }}]\n");
        fs::write(&policy, text).unwrap();
    };
    say("viewer");
    let agent = AgentProcess::start_with(&["--policy", policy.to_str().unwrap()]).await;
    let client = agent.agent();
    client.agent().get_agent(QUESTION).await.unwrap();
    let before = agent.descriptors();
    let request =
        || pb::CreateSessionRequest { session_id: "lab".into(), interface_events: true, ..Default::default() };
    let refused = Refused::from(client.sessions().create_session(request()).await.unwrap_err());
    assert_eq!((refused.reason.as_str(), agent.descriptors()), ("ROLE_DENIED", before));
    // Who may does: that is seen by this.
    say("student");
    agent.signal(Signal::HUP);
    becomes("a session", || async { client.sessions().create_session(request()).await.is_ok() }).await;
    assert!(before.is_none() || agent.descriptors() > before);
    agent.stop().await;
}

/// The interfaces are those of the agent's network namespace, and of no other.
#[tokio::test]
async fn each_agent_hears_of_its_own_network() {
    let Some((near, far)) = Namespace::two() else { return };
    let (here, there) = (near.agent().await, far.agent().await);
    told_session(&here, "lab").await;
    told_session(&there, "lab").await;
    near.cable(&far, "red", &[("10.77.9.1/24", "10.77.9.2/24"), ("fd77:9::1/64", "fd77:9::2/64")]);
    for (agent, own, other) in [(&here, 1, 2), (&there, 2, 1)] {
        let (mut after, six) = (0, format!("red +fd77:9::{own}/64"));
        let mut heard = until(agent, "lab", &mut after, &format!("red +10.77.9.{own}/24")).await;
        heard.extend(until(agent, "lab", &mut after, &six).await);
        assert!(heard.contains(&"red UP".to_owned()), "{heard:?}");
        assert!(!heard.iter().any(|told| told.contains(&format!("10.77.9.{other}/"))), "{heard:?}");
    }
    here.stop().await;
    there.stop().await;
}
