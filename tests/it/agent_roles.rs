//! Who may call what, by the roles that a policy gives, and whose sessions there are for whom.

use std::collections::BTreeMap;
use std::fs;
use std::str::FromStr;
use std::time::Duration;

use farsock::agent::{AgentConfig, AuditFile};
use farsock::model::limits::Defaults;
use farsock::model::policy::{Right, Rpc};
use farsock::wire::FILE_DESCRIPTOR_SET;
use farsock::wire::pb;
use farsock::wire::pb::transfer_socket_request::Frame as Asked;
use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorSet};
use tempfile::TempDir;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt;

use crate::harness::frames::becomes;
use crate::harness::tcp::connecting_to;
use crate::harness::{
    Agent, AnyRequest, Certificates, LOOPBACKS, Refused, TcpPeer, UdpPeer, datagram, filter, millis, named,
    tls_channel, within,
};

const POLICY: &str = "policy: Course
principals:
  vera: viewer
  alice: student
  bob: student
  ina: instructor
  adam: admin
  pat: prober
  seth: observer
  quinn: user
roles:
  prober: [look, resolve]
  observer: [look, see-others]
  user: [use]
rules:
  - { allow: any, addresses: [loopback, wildcard], ports: 0-65535 }
";

/// The rights of each of them, as the policy means it.
const PRINCIPALS: [(&str, &[Right]); 7] = [
    ("vera", &[Right::Look]),
    ("alice", &[Right::Look, Right::Resolve, Right::Use]),
    ("ina", &[Right::Look, Right::Resolve, Right::Use, Right::SeeOthers, Right::UseOthers]),
    ("adam", Right::ALL),
    ("pat", &[Right::Look, Right::Resolve]),
    ("seth", &[Right::Look, Right::SeeOthers]),
    ("quinn", &[Right::Use]),
];

/// An agent with that policy, which is come to by certificates.
struct Course {
    lab: Certificates,
    agent: Agent,
    folder: TempDir,
}

impl Course {
    async fn begin() -> Self {
        Self::begin_as(false).await
    }

    /// One that writes down what is done, or does not.
    async fn begin_as(writes: bool) -> Self {
        let (lab, folder) = (Certificates::new(), TempDir::new().unwrap());
        let policy = folder.path().join("policy.yaml");
        fs::write(&policy, POLICY).unwrap();
        let audit = writes.then(|| AuditFile::at(folder.path().join("audit.jsonl")));
        // Nobody waits long for what does not come.
        let defaults = Defaults { wait_timeout: Duration::from_millis(50), ..Defaults::default() };
        let config = AgentConfig { policy_file: Some(policy), audit, defaults, ..lab.config("127.0.0.1:0") };
        let agent = Agent::start_with(config).await;
        Self { lab, agent, folder }
    }

    fn channel(&self, name: &str) -> Channel {
        tls_channel(&self.agent.tcp().to_string(), &self.lab.controller(name))
    }

    /// Ina has this role from now on.
    async fn let_ina_be(&self, role: &str) {
        let policy = POLICY.replace("ina: instructor", &format!("ina: {role}"));
        fs::write(self.folder.path().join("policy.yaml"), policy).unwrap();
        self.agent.reload().await;
    }

    fn client(&self, name: &str) -> Agent {
        Agent::at(self.channel(name))
    }
}

/// Sends bytes as the request of a method of any kind, and answers how its answer begins.
async fn send(channel: &Channel, path: &str) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let codec: ProstCodec<(), ()> = ProstCodec::default();
    let path = PathAndQuery::from_str(path).unwrap();
    let mut answers =
        within(path.as_str(), grpc.server_streaming(Request::new(()), path.clone(), codec)).await?.into_inner();
    within(path.as_str(), answers.message()).await.map(drop)
}

/// The RPCs come from the descriptors: what is added later has to be in the table of rights, and to ask it.
#[tokio::test]
async fn each_rpc_asks_for_the_right_that_its_row_says_of_each_role() {
    let course = Course::begin().await;
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
    let services = files.iter().filter(|file| file.package() == "farsock.v1").flat_map(|file| &file.service);
    let methods: Vec<(String, Rpc)> = services
        .flat_map(|service| {
            service.method.iter().map(|method| {
                let row = Rpc::ALL.iter().find(|rpc| rpc.name() == method.name());
                let row = row.unwrap_or_else(|| panic!("{} has no row", method.name()));
                (format!("/farsock.v1.{}/{}", service.name(), method.name()), *row)
            })
        })
        .collect();
    assert!(methods.len() >= 40, "{methods:?}");
    let mut denials = 0;
    for (name, rights) in PRINCIPALS {
        let channel = course.channel(name);
        for (path, rpc) in &methods {
            match (send(&channel, path).await, rights.contains(&rpc.right())) {
                (Err(status), false) => {
                    let info = status.get_details_error_info().unwrap();
                    let told = (status.code(), info.reason.as_str(), info.metadata["right"].as_str());
                    assert_eq!(told, (Code::PermissionDenied, "ROLE_DENIED", rpc.right().word()), "{name} {path}");
                    denials += 1;
                }
                (Err(status), true) => assert_ne!(status.code(), Code::PermissionDenied, "{name} {path}: {status:?}"),
                (Ok(()), may) => assert!(may, "{name} {path}"),
            }
        }
    }
    assert!(denials > 50, "{denials}");
    // Who has no role at all comes no further than the door.
    let stranger = course.channel("zoe");
    for (path, _) in &methods {
        assert_eq!(send(&stranger, path).await.unwrap_err().code(), Code::PermissionDenied, "{path}");
    }
    course.agent.stop().await;
}

#[tokio::test]
async fn a_viewer_that_watches_may_not_hold_anything() {
    let course = Course::begin().await;
    let vera = course.client("vera");
    assert!(vera.watch(pb::WatchEventsRequest::default()).await.is_ok());
    let named = pb::WatchEventsRequest { watcher_id: "w".into(), ..Default::default() };
    let refused = vera.watch(named).await.map(drop).unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::PermissionDenied, "ROLE_DENIED"));
    course.agent.stop().await;
}

/// What they look at is there by its first use, which is not theirs: they see nothing, and leave nothing behind, so that however many of them
/// come, there is room for the logs of others.
#[tokio::test]
async fn who_may_only_look_at_a_default_session_does_not_make_it() {
    let course = Course::begin().await;
    let (vera, adam) = (course.client("vera"), course.client("adam"));
    let shares = async || {
        let agent = adam.agent().get_agent(pb::GetAgentRequest {}).await.unwrap().into_inner().agent.unwrap();
        agent.usage.into_iter().filter(|usage| usage.name.starts_with("log_bytes")).collect::<Vec<_>>()
    };
    let before = shares().await;
    let (mut looked, mut seen) = (0, vera.watch(pb::WatchEventsRequest::default()).await.unwrap());
    assert_eq!(seen.opened().await.head_seq, 0);
    for (name, request) in requests_on("", "door") {
        let rpc = Rpc::ALL.iter().find(|rpc| name == format!("{}Request", rpc.name())).unwrap();
        let told = told(&vera, request).await;
        match rpc {
            rpc if rpc.right() != Right::Look => assert_eq!(told.unwrap_err().reason, "ROLE_DENIED", "{name}"),
            Rpc::GetSession | Rpc::ListSockets | Rpc::ListEvents | Rpc::WaitEvent => told.unwrap(),
            Rpc::GetCall => assert_eq!(told.unwrap_err().reason, "CALL_NOT_FOUND"),
            // It would hold what it is not to miss.
            Rpc::WatchEvents => assert_eq!(told.unwrap_err().reason, "ROLE_DENIED"),
            Rpc::GetSourceFilter => assert_eq!(told.unwrap_err().code, Code::InvalidArgument, "it names no group"),
            _ => assert_eq!(told.unwrap_err().code, Code::NotFound, "{name}"),
        }
        looked += usize::from(rpc.right() == Right::Look);
    }
    assert!(looked > 7, "{looked}");
    let get = vera.sessions().get_session(pb::GetSessionRequest::default()).await.unwrap().into_inner();
    let session = get.session.unwrap();
    assert_eq!((session.owner.as_str(), session.socket_count, session.head_event_seq), ("vera", 0, 0));
    let everybody = pb::ListSessionsRequest { owner: "*".into(), ..Default::default() };
    let all = adam.sessions().list_sessions(everybody).await.unwrap().into_inner().sessions;
    assert_eq!((all, shares().await), (vec![], before));
    // Who may use sessions has one as soon as he waits for what happens there, and it is kept.
    let alice = course.client("alice");
    let mut watcher = alice.watch(pb::WatchEventsRequest::default()).await.unwrap();
    watcher.opened().await;
    alice.udp_in("", "box").await;
    assert_eq!(watcher.batch().await.events[0].kind, "created");
    // Who watches nothing is let go by another policy, by which there may come to be something, and by the agent's end.
    course.let_ina_be("student").await;
    assert_eq!(seen.rest().await, []);
    let mut seen = vera.watch(pb::WatchEventsRequest::default()).await.unwrap();
    seen.opened().await;
    course.agent.stop().await;
    assert_eq!(seen.rest().await, []);
}

/// Every request that names a session and maybe a socket, with these names.
fn requests_on(session: &str, socket: &str) -> Vec<(String, AnyRequest)> {
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
    let files: Vec<_> = files.iter().filter(|file| file.package() == "farsock.v1").collect();
    let messages: BTreeMap<&str, &DescriptorProto> =
        files.iter().flat_map(|file| &file.message_type).map(|message| (message.name(), message)).collect();
    let mut requests = Vec::new();
    for method in files.iter().flat_map(|file| &file.service).flat_map(|service| &service.method) {
        let name = method.input_type().rsplit('.').next().unwrap();
        let mut bytes = Vec::new();
        for field in &messages[name].field {
            let text = match field.name() {
                "session_id" => session,
                "socket_id" => socket,
                "request_id" | "watcher_id" => "r1",
                _ => continue,
            };
            let tag = u8::try_from(field.number()).unwrap() << 3 | 2;
            bytes.extend([tag, u8::try_from(text.len()).unwrap()]);
            bytes.extend(text.as_bytes());
        }
        // A session that is made is one's own, and a stream is tried below.
        if !bytes.is_empty() && name != "CreateSessionRequest" {
            requests.extend(AnyRequest::decode(name, &bytes).map(|request| (name.to_owned(), request)));
        }
    }
    requests
}

/// What somebody is told who tries it.
async fn told(agent: &Agent, request: AnyRequest) -> Result<(), Refused> {
    within("an answer", request.send(agent)).await.map_err(Refused::from)
}

/// Everything that one of them can send to the other's session, by any spelling: nothing is told, nothing is changed, and it cannot even be
/// seen that it is there.
#[tokio::test]
async fn two_principals_try_everything_on_each_other() {
    let course = Course::begin().await;
    let (alice, bob) = (course.client("alice"), course.client("bob"));
    let mut before = Vec::new();
    for who in [&alice, &bob] {
        who.create_session("lab").await.unwrap();
        who.udp_in("lab", "door").await;
        before.push((who.all_events("lab").await.len(), who.all_events("").await.len()));
    }
    for (mine, other) in [(&alice, "bob"), (&bob, "alice")] {
        let named = |session: &str| format!("{other}/{session}");
        for (there, absent) in requests_on(&named("lab"), "door").into_iter().zip(requests_on(&named("nil"), "door")) {
            let what = there.0.clone();
            let (there, absent) = (told(mine, there.1).await, told(mine, absent.1).await);
            let there = there.expect_err(&what);
            assert_eq!((there.code, there.reason.as_str()), (Code::NotFound, "SESSION_NOT_FOUND"), "{what}");
            let same = Refused { message: there.message.replace("/lab`", "/nil`"), ..there };
            assert_eq!(same, absent.unwrap_err(), "{what}: it cannot be told whether it is there");
        }
        for (what, request) in requests_on(&named("default"), "door") {
            let refused = told(mine, request).await.expect_err(&what);
            assert_eq!(refused.reason, "SESSION_NOT_FOUND", "{what}");
        }
        let open = pb::TransferOpen { session_id: named("lab"), socket_id: "door".into(), ..Default::default() };
        let frame = pb::TransferSocketRequest { frame: Some(pb::transfer_socket_request::Frame::Open(open)) };
        let stream = mine.sockets().transfer_socket(tokio_stream::once(frame)).await.unwrap();
        let refused = within("an answer", stream.into_inner().message()).await.unwrap_err();
        assert_eq!(Refused::from(refused).reason, "SESSION_NOT_FOUND");
        for owner in [other, "*"] {
            let list = pb::ListSessionsRequest { owner: owner.into(), ..Default::default() };
            let refused = Refused::from(mine.sessions().list_sessions(list).await.unwrap_err());
            assert_eq!((refused.code, refused.reason.as_str()), (Code::PermissionDenied, "ROLE_DENIED"));
        }
        let list = mine.sessions().list_sessions(pb::ListSessionsRequest::default()).await.unwrap().into_inner();
        assert!(list.sessions.iter().all(|session| session.owner != other), "{list:?}");
        // His own may be called by its whole name.
        let me = list.sessions[0].owner.clone();
        let get = pb::GetSessionRequest { session_id: format!("{me}/lab") };
        assert_eq!(mine.sessions().get_session(get).await.unwrap().into_inner().session.unwrap().owner, me);
    }
    for (who, (lab, default)) in [&alice, &bob].into_iter().zip(before) {
        assert_eq!((who.all_events("lab").await.len(), who.all_events("").await.len()), (lab, default));
    }
    course.agent.stop().await;
}

#[tokio::test]
async fn an_instructor_sees_and_uses_what_is_of_others_and_an_observer_only_sees() {
    let course = Course::begin().await;
    let (alice, ina, seth, vera) =
        (course.client("alice"), course.client("ina"), course.client("seth"), course.client("vera"));
    alice.create_session("lab").await.unwrap();
    alice.udp_in("lab", "door").await;
    course.client("bob").create_session("lab").await.unwrap();
    let list = async |who: &Agent, owner: &str, page_size| {
        let (mut names, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListSessionsRequest { owner: owner.into(), page_size, page_token };
            let page = who.sessions().list_sessions(request).await.unwrap().into_inner();
            names.extend(page.sessions.iter().map(|session| format!("{}/{}", session.owner, session.session_id)));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return names;
            }
        }
    };
    for who in [&ina, &seth] {
        for page_size in [0, 1] {
            // Each has made one session, in whose default one that was an operation.
            let all = ["alice/default", "alice/lab", "bob/default", "bob/lab"];
            assert_eq!(list(who, "*", page_size).await, all);
            assert_eq!(list(who, "alice", page_size).await, all[..2]);
        }
        assert!(list(who, "nobody", 0).await.is_empty());
        let get =
            pb::GetSocketRequest { session_id: "alice/lab".into(), socket_id: "door".into(), ..Default::default() };
        assert_eq!(who.sockets().get_socket(get).await.unwrap().into_inner().socket.unwrap().socket_id, "door");
        assert!(!who.all_events("alice/lab").await.is_empty());
    }
    let close =
        || pb::CloseSocketRequest { session_id: "alice/lab".into(), socket_id: "door".into(), ..Default::default() };
    let look = || pb::GetSessionRequest { session_id: "alice/lab".into() };
    // An observer may not change anything, and a viewer sees nothing of others.
    let refused = told(&seth, close().into()).await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::PermissionDenied, "ROLE_DENIED"));
    assert_eq!(told(&vera, look().into()).await.unwrap_err().reason, "SESSION_NOT_FOUND");
    assert_eq!(told(&vera, close().into()).await.unwrap_err().reason, "ROLE_DENIED");
    // What an instructor does there happens there.
    told(&ina, close().into()).await.unwrap();
    let kinds: Vec<String> = alice.all_events("lab").await.into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds.last().map(String::as_str), Some("closed"));
    assert!(ina.all_events("").await.is_empty());
    let delete = pb::DeleteSessionRequest { session_id: "alice/lab".into(), ..Default::default() };
    ina.sessions().delete_session(delete).await.unwrap();
    let refused = told(&alice, pb::GetSessionRequest { session_id: "lab".into() }.into()).await.unwrap_err();
    assert_eq!(refused.reason, "SESSION_NOT_FOUND");
    // Nobody makes sessions in the name of others.
    let create = pb::CreateSessionRequest { session_id: "alice/new".into(), ..Default::default() };
    assert_eq!(told(&ina, create.into()).await.unwrap_err().code, Code::InvalidArgument);
    course.agent.stop().await;
}

/// A stream that was begun by a right ends with it, and no other one notices.
#[tokio::test]
async fn what_a_new_policy_takes_away_ends_streams_that_go_on() {
    let course = Course::begin().await;
    let (alice, ina) = (course.client("alice"), course.client("ina"));
    alice.create_session("lab").await.unwrap();
    let (listener, address) = TcpPeer::listen(LOOPBACKS[0]).await;
    let create = pb::CreateSocketRequest {
        session_id: "lab".into(),
        socket_id: "line".into(),
        kind: Some(pb::create_socket_request::Kind::Tcp(connecting_to(&address.to_string()))),
        ..Default::default()
    };
    alice.sockets().create_socket(create).await.unwrap();
    let mut peer = TcpPeer::accept(&listener).await;
    let request =
        |session: &str| pb::WatchEventsRequest { session_id: session.into(), from_now: true, ..Default::default() };
    let mut seen = ina.watch(request("alice/lab")).await.unwrap();
    let mut own = ina.watch(request("")).await.unwrap();
    let until = filter(&["line"], &["detached"]);
    let mut theirs = alice.watch(pb::WatchEventsRequest { until, ..request("lab") }).await.unwrap();
    for watch in [&mut seen, &mut own, &mut theirs] {
        watch.opened().await;
    }
    let open = pb::TransferOpen { session_id: "alice/lab".into(), socket_id: "line".into(), ..Default::default() };
    let mut taken = ina.transfer(Asked::Open(open)).await;
    taken.opened().await;

    // The same again takes nothing from anybody.
    course.let_ina_be("instructor").await;
    taken.data("hola").await;
    assert_eq!(peer.read(4).await, b"hola");

    course.let_ina_be("student").await;
    let ended = [taken.refused().await, seen.refused().await];
    for (refused, right) in ended.iter().zip(["use-others", "see-others"]) {
        assert_eq!((refused.code, refused.reason.as_str()), (Code::PermissionDenied, "ROLE_DENIED"));
        assert!(refused.message.contains(right), "{}", refused.message);
    }
    let kinds: Vec<String> = theirs.rest().await.into_iter().map(|event| event.kind).collect();
    assert_eq!(
        (kinds.first().map(String::as_str), kinds.last().map(String::as_str)),
        (Some("attached"), Some("detached"))
    );
    // Her own go on, until she may not look either.
    ina.udp_in("", "box").await;
    assert_eq!(own.batch().await.events[0].kind, "created");
    course.let_ina_be("prober").await;
    ina.events().list_events(pb::ListEventsRequest::default()).await.unwrap();
    course.let_ina_be("user").await;
    assert!(own.refused().await.message.contains("`look`"));
    course.agent.stop().await;
}

/// A call that waits in somebody else's session ends with the right to it, and so does what goes on without a call. Nothing is lost by that
/// to whose session it is.
#[tokio::test]
async fn what_a_new_policy_takes_away_ends_calls_that_wait() {
    for writes in [false, true] {
        let course = Course::begin_as(writes).await;
        let (alice, ina) = (course.client("alice"), course.client("ina"));
        alice.create_session("lab").await.unwrap();
        let door = alice.udp_in("lab", "door").await.local.unwrap().text;
        alice.udp_in("lab", "pacer").await;
        let peer = UdpPeer::bind(LOOPBACKS[0]).await;
        let call = |request_id: &str| Some(pb::Call { timeout: millis(60_000), ..named(request_id) });
        let session_id = || "alice/lab".to_owned();
        let receive = || pb::ReceiveSocketRequest {
            session_id: session_id(),
            socket_id: "door".into(),
            call: call("r"),
            ..Default::default()
        };
        let wait = pb::WaitEventRequest {
            session_id: session_id(),
            filter: filter(&[], &["connected"]),
            timeout: millis(60_000),
            ..Default::default()
        };
        let paced = pb::SendDatagramsRequest {
            session_id: session_id(),
            socket_id: "pacer".into(),
            datagrams: vec![datagram(&peer.text(), "tick"); 1000],
            interval: millis(50),
            call: call("s").map(|call| pb::Call { detach: true, ..call }),
            ..Default::default()
        };
        ina.sockets().send_datagrams(paced).await.unwrap();
        peer.receive().await;
        let (received, joined, waited) = {
            let (mut sockets, mut again, mut events) = (ina.sockets(), ina.sockets(), ina.events());
            let (first, second) = (receive(), receive());
            (
                tokio::spawn(async move { sockets.receive_socket(first).await.map(drop) }),
                tokio::spawn(async move { again.receive_socket(second).await.map(drop) }),
                tokio::spawn(async move { events.wait_event(wait).await.map(drop) }),
            )
        };
        becomes("both calls", || async {
            let session = pb::GetSessionRequest { session_id: "lab".into() };
            let session = alice.sessions().get_session(session).await.unwrap().into_inner().session.unwrap();
            session.watcher_count == 1 && alice.get_call_in("lab", "r").await.is_ok()
        })
        .await;
        course.let_ina_be("student").await;
        for (pending, right) in [(received, "use-others"), (joined, "use-others"), (waited, "see-others")] {
            let refused = Refused::from(within("an answer", pending).await.unwrap().unwrap_err());
            assert_eq!((refused.code, refused.reason.as_str()), (Code::PermissionDenied, "ROLE_DENIED"));
            assert!(refused.message.contains(right), "{}", refused.message);
        }
        // What nobody receives any more is hers.
        peer.send(&door, b"hola").await;
        let wait = pb::WaitEventRequest {
            session_id: "lab".into(),
            filter: filter(&["door"], &["datagram_received"]),
            timeout: millis(20_000),
            ..Default::default()
        };
        assert!(alice.events().wait_event(wait).await.unwrap().into_inner().event.is_some());
        becomes("the end of the rest", || async {
            alice.get_call_in("lab", "s").await.unwrap().state() == pb::CallState::Done
        })
        .await;
        let paced = alice.get_call_in("lab", "s").await.unwrap();
        assert!(paced.refusal.contains("ina may not"), "{paced:?}");
        course.agent.stop().await;
    }
}
