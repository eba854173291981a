//! Many sockets by one request: each as if it were made alone, and one answer that tells of all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;

use farsock::agent::{AgentConfig, AuditFile};
use farsock::model::limits::Limits;
use farsock::wire::pb;
use serde_json::Value;
use tempfile::TempDir;
use tonic::Code;

use crate::harness::tcp::{FullListener, Reported, any_port, connecting_to, listening_on, went};
use crate::harness::{Agent, LOOPBACKS, QUESTION, detached, named, patient};

fn tcp(name: &str, count: Option<u32>, spec: pb::TcpSocketSpec) -> pb::SocketSpec {
    let kind = Some(pb::socket_spec::Kind::Tcp(spec));
    pb::SocketSpec { socket_id: name.into(), kind, count, ..Default::default() }
}

fn udp(name: &str, bind: &str) -> pb::SocketSpec {
    let kind = Some(pb::socket_spec::Kind::Udp(pb::UdpSocketSpec { bind: bind.into(), ..Default::default() }));
    pb::SocketSpec { socket_id: name.into(), kind, ..Default::default() }
}

fn bound_to(bind: &str) -> pb::TcpSocketSpec {
    pb::TcpSocketSpec { bind: bind.into(), ..Default::default() }
}

fn all(sockets: Vec<pb::SocketSpec>) -> pb::CreateSocketsRequest {
    pb::CreateSocketsRequest { sockets, ..Default::default() }
}

/// Done, failed, not in time, refused.
fn counts(answer: &pb::CreateSocketsResponse) -> [u32; 4] {
    [answer.done_count, answer.failed_count, answer.timed_out_count, answer.refused_count].map(Option::unwrap)
}

fn names(answer: &pb::CreateSocketsResponse) -> Vec<&str> {
    answer.sockets.iter().map(|result| result.socket_id.as_str()).collect()
}

#[tokio::test]
async fn fifty_connections_are_one_request() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let door = agent.listen("door", &any_port(ip)).await;
        let labels = BTreeMap::from([("row".to_owned(), "3".to_owned())]);
        let line = pb::SocketSpec { labels: labels.clone(), ..tcp("line", Some(50), connecting_to(&door)) };
        let answer = agent.create_sockets(all(vec![line])).await.unwrap();
        assert_eq!((answer.went().as_str(), counts(&answer)), ("ok", [50, 0, 0, 0]));
        let wanted: Vec<String> = (1..=50).map(|number| format!("line-{number}")).collect();
        assert_eq!(names(&answer), wanted);
        let mut seen = BTreeSet::new();
        for result in &answer.sockets {
            let socket = result.socket.as_ref().unwrap();
            assert_eq!((&socket.socket_id, socket.state()), (&result.socket_id, pb::SocketState::Connected));
            assert_eq!(socket.remote.as_ref().unwrap().text, door);
            seen.insert((socket.socket_uid, socket.local.clone().unwrap().text));
        }
        assert_eq!(seen.len(), 50);
        agent.until("door", "all of them", |door| door.listener.unwrap().accepted_total == Some(50)).await;

        // One operation, whose events are those of all of them.
        let report = answer.report.unwrap();
        for id in &wanted {
            assert_eq!(agent.kinds(id).await, ["created", "connect_started", "connected"]);
            for kind in ["created", "connected"] {
                let event = agent.event(id, kind).await;
                assert!((report.first_event_seq..=report.last_event_seq).contains(&event.event_seq));
                assert_eq!(event.request_id, report.request_id);
            }
        }
        let request = pb::ListSocketsRequest { labels, ..Default::default() };
        assert_eq!(agent.sockets().list_sockets(request).await.unwrap().into_inner().sockets.len(), 50);
    }
}

#[tokio::test]
async fn each_of_them_is_told_how_it_went() {
    for ip in LOOPBACKS {
        let agent = Agent::start().await;
        let taken = TcpListener::bind((ip, 0)).unwrap();
        let used = taken.local_addr().unwrap().to_string();
        let full = FullListener::new(ip);
        let request = pb::CreateSocketsRequest {
            call: Some(patient(crate::harness::millis(300))),
            ..all(vec![
                tcp("free", None, bound_to(&any_port(ip))),
                tcp("taken", Some(2), bound_to(&used)),
                tcp("late", None, connecting_to(&full.address.to_string())),
                udp("", &any_port(ip)),
            ])
        };
        let answer = agent.create_sockets(request).await.unwrap();
        assert_eq!(counts(&answer), [2, 2, 1, 0]);
        assert_eq!(names(&answer), ["free", "taken-1", "taken-2", "late", "s1"]);
        let [free, first, second, late, minted] = &answer.sockets[..] else { panic!() };
        for result in [free, minted] {
            assert_eq!((result.error.clone(), result.timed_out, result.refusal.as_str()), (None, false, ""));
        }
        // Each is there, as CreateSocket leaves one whose step fails; the first error is told to its end, and as that of the whole.
        let error = first.error.clone().unwrap();
        assert_eq!((error.name.as_str(), error.operation()), ("EADDRINUSE", pb::Operation::Bind));
        assert_eq!(error.holder.as_ref().unwrap().process_id, std::process::id());
        assert_eq!(answer.report().error.as_ref(), Some(&error));
        assert!(!answer.report().timed_out);
        assert_eq!(second.error.clone().unwrap().holder, None);
        assert!(late.timed_out && late.error.is_none());
        for (result, state) in [(first, pb::SocketState::Unbound), (second, pb::SocketState::Unbound)] {
            assert_eq!(result.socket.as_ref().unwrap().state(), state);
        }
        assert_eq!(agent.open_sockets().await, 5);

        // As a failure, where that is wanted; what was made stays.
        let call = Some(pb::Call { fail_on_error: true, ..Default::default() });
        let request = pb::CreateSocketsRequest { call, ..all(vec![udp("a", ""), tcp("b", None, bound_to(&used))]) };
        let refused = agent.create_sockets(request).await.unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (Code::FailedPrecondition, "EADDRINUSE"));
        assert_eq!(agent.open_sockets().await, 7);
    }
}

/// What can be known before is asked before: then there is no socket.
#[tokio::test]
async fn a_request_that_cannot_be_is_refused_as_a_whole() {
    let limits = Limits { sockets: 6, sockets_per_call: 4, ..Limits::default() };
    let agent = Agent::start_with(AgentConfig { limits, ..AgentConfig::default() }).await;
    agent.udp_in("", "door").await;
    let plain = || tcp("", None, pb::TcpSocketSpec::default());
    let none = pb::SocketSpec::default();
    for (request, reason, told) in [
        (all(vec![]), "INVALID_FIELD", "sockets: at least one"),
        (all(vec![plain(); 5]), "INVALID_FIELD", "sockets: 5 are more than limits.sockets_per_call"),
        (all(vec![tcp("x", Some(3), pb::TcpSocketSpec::default()), plain(), plain()]), "INVALID_FIELD", "5 are more"),
        (
            all(vec![tcp("x", Some(5), pb::TcpSocketSpec::default())]),
            "INVALID_FIELD",
            "sockets[0].count: it goes from 1 to 4",
        ),
        (all(vec![tcp("x", Some(0), pb::TcpSocketSpec::default())]), "INVALID_FIELD", "sockets[0].count"),
        (all(vec![plain(), none]), "INVALID_FIELD", "sockets[1].kind"),
        (all(vec![plain(), tcp("x.1", None, pb::TcpSocketSpec::default())]), "INVALID_FIELD", "sockets[1].socket_id"),
        (all(vec![plain(), tcp("", None, bound_to("x:y:z"))]), "INVALID_FIELD", "sockets[1].tcp.bind"),
        (
            all(vec![udp("x-2", ""), tcp("x", Some(2), pb::TcpSocketSpec::default())]),
            "INVALID_FIELD",
            "`x-2` is another one's",
        ),
        (all(vec![udp("a", ""), udp("door", "")]), "SOCKET_EXISTS", "door"),
    ] {
        let refused = agent.create_sockets(request).await.unwrap_err();
        assert_eq!(refused.reason, reason, "{}", refused.message);
        assert!(refused.message.contains(told), "{}", refused.message);
    }
    assert_eq!(agent.open_sockets().await, 1);
    agent.create_sockets(all(vec![plain(); 3])).await.unwrap();
    // There is room for two more.
    let refused = agent.create_sockets(all(vec![plain(); 3])).await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::ResourceExhausted, "QUOTA_EXCEEDED"));
    assert!(refused.message.contains("limits.sockets"), "{}", refused.message);
    assert_eq!(agent.open_sockets().await, 4);
    assert_eq!(agent.create_sockets(all(vec![plain(); 2])).await.unwrap().went(), "ok");
}

/// A limit and a policy let some of them through.
#[tokio::test]
async fn what_is_refused_later_is_refused_of_one_alone() {
    for ip in LOOPBACKS {
        let limits = Limits { listeners: 2, ..Limits::default() };
        let agent = Agent::start_with(AgentConfig { limits, ..AgentConfig::default() }).await;
        let doors = all(vec![tcp("door", Some(3), listening_on(&any_port(ip)))]);
        let answer = agent.create_sockets(doors).await.unwrap();
        assert_eq!((answer.went().as_str(), counts(&answer)), ("ok", [2, 0, 0, 1]));
        let third = &answer.sockets[2];
        assert_eq!((third.socket_id.as_str(), third.refusal_reason.as_str()), ("door-3", "QUOTA_EXCEEDED"));
        assert!(third.socket.is_none() && third.refusal.contains("limits.listeners"), "{}", third.refusal);
        assert_eq!(agent.open_sockets().await, 2);
        let refusals = async || {
            let told = agent.agent().get_agent(QUESTION).await.unwrap().into_inner().agent.unwrap();
            told.usage.into_iter().find(|usage| usage.name == "listeners").unwrap().refused
        };
        assert_eq!(refusals().await, 1);
        let one_more = || all(vec![udp("", &any_port(ip)), tcp("", None, listening_on(&any_port(ip)))]);
        let call = Some(pb::Call { fail_on_error: true, ..Default::default() });
        let refused = agent.create_sockets(pb::CreateSocketsRequest { call, ..one_more() }).await.unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (Code::FailedPrecondition, "QUOTA_EXCEEDED"));

        // Where nothing is let through, it is as if one had been asked for.
        let none = all(vec![tcp("", Some(3), listening_on(&any_port(ip)))]);
        let refused = agent.create_sockets(none).await.unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (Code::ResourceExhausted, "QUOTA_EXCEEDED"));
        assert_eq!(refusals().await, 3);
    }
}

#[tokio::test]
async fn the_policy_is_asked_for_each() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("policy.yaml");
    let rules = "  - { allow: [bind, listen], addresses: [127.0.0.2, \"::1\"] }\n";
    fs::write(&file, format!("policy: Test\nprincipals: {{ owner: student }}\nrules:\n{rules}")).unwrap();
    let agent = Agent::start_with(AgentConfig { policy_file: Some(file), ..AgentConfig::default() }).await;
    let good = ["127.0.0.2:0", "[::1]:0"].map(|address| tcp("", None, listening_on(address)));
    let bad = ["127.0.0.3:0", "[::]:0"].map(|address| tcp("", None, listening_on(address)));
    let answer = agent.create_sockets(all([good, bad.clone()].concat())).await.unwrap();
    assert_eq!(counts(&answer), [2, 0, 0, 2]);
    let reasons: Vec<&str> = answer.sockets.iter().map(|result| result.refusal_reason.as_str()).collect();
    assert_eq!(reasons, ["", "", "POLICY_DENIED", "POLICY_DENIED"]);
    let refused = agent.create_sockets(all(bad.to_vec())).await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::PermissionDenied, "POLICY_DENIED"));
    assert_eq!(agent.open_sockets().await, 2);
}

/// Asked for again, it is answered from memory; what runs by itself tells how it went when it is asked.
#[tokio::test]
async fn it_is_carried_out_once() {
    let agent = Agent::start().await;
    let request = |call| pb::CreateSocketsRequest {
        call: Some(call),
        ..all(vec![udp("", "127.0.0.1:0"), udp("", "[::1]:0"), tcp("line", Some(2), bound_to("127.0.0.1:0"))])
    };
    let first = agent.create_sockets(request(named("once"))).await.unwrap();
    assert_eq!(agent.create_sockets(request(named("once"))).await.unwrap(), first);
    assert_eq!(agent.open_sockets().await, 4);
    assert_eq!(went(&agent.create_sockets(all(vec![udp("line-2", "")])).await), "SOCKET_EXISTS");
    let other = pb::CreateSocketsRequest { call: Some(named("once")), ..all(vec![udp("", "")]) };
    assert_eq!(went(&agent.create_sockets(other).await), "REQUEST_ID_REUSED");

    agent.reset("").await;
    let begun = agent.create_sockets(request(detached("later"))).await.unwrap();
    assert_eq!((begun.sockets.len(), begun.done_count), (0, None));
    let answer: pb::CreateSocketsResponse = agent.call_response("later").await;
    assert_eq!(counts(&answer), [4, 0, 0, 0]);
    let record = agent.get_call("later").await.unwrap();
    assert_eq!((record.method.as_str(), record.socket_id.as_str()), ("CreateSockets", ""));
    // Nobody would hear of it later.
    assert_eq!(went(&agent.create_sockets(request(detached("again"))).await), "SOCKET_EXISTS");
}

#[tokio::test]
async fn it_is_one_entry_of_the_audit() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("audit.jsonl");
    let audit = Some(AuditFile::at(path.clone()));
    let agent = Agent::start_with(AgentConfig { audit, ..AgentConfig::default() }).await;
    let sockets = vec![tcp("door", Some(20), listening_on("127.0.0.1:0")), udp("u", "[::1]:0")];
    agent.create_sockets(all(sockets)).await.unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [_, begun, ended] = &lines[..] else { panic!("{text}") };
    assert_eq!((&begun["rpc"], &begun["count"]), (&"CreateSockets".into(), &21.into()));
    assert_eq!((&begun["sockets"][0], &begun["sockets"][16]), (&"door-1".into(), &"and 5 more".into()));
    assert_eq!(begun["listen"], serde_json::json!(["127.0.0.1:0"]));
    assert_eq!(begun["bind"], serde_json::json!(["[::1]:0"]));
    assert_eq!(begun["transport"], serde_json::json!(["TCP", "UDP"]));
    assert_eq!((&ended["outcome"], &ended["count"]), (&"done".into(), &21.into()));
}
