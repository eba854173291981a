//! Who may come in, and by which way.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::str::FromStr;

use farsock::wire::FILE_DESCRIPTOR_SET;
use farsock::wire::pb;
use farsock::wire::pb::agent_service_client::AgentServiceClient;
use farsock::wire::pb::event_service_client::EventServiceClient;
use prost::Message;
use prost_types::FileDescriptorSet;
use rustix::process::Signal;
use tempfile::TempDir;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::harness::{AgentProcess, QUESTION, Ran, farsock, needs_root, run, tcp_channel, with_token, within};

/// Every method that the agent has, as HTTP/2 paths.
fn methods() -> BTreeSet<String> {
    let sets = [
        FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let files = sets.iter().flat_map(|set| FileDescriptorSet::decode(*set).unwrap().file);
    let mut paths = BTreeSet::new();
    for file in files {
        for service in &file.service {
            let path = |method| format!("/{}.{}/{method}", file.package(), service.name());
            paths.extend(service.method.iter().map(|method| path(method.name())));
        }
    }
    paths
}

/// Sends an empty request there, and answers the status.
async fn knock(channel: Channel, path: &str, authorization: Option<&str>) -> Status {
    let mut request = Request::new(());
    if let Some(value) = authorization {
        request.metadata_mut().insert("authorization", value.parse().unwrap());
    }
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let codec: ProstCodec<(), ()> = ProstCodec::default();
    match grpc.unary(request, PathAndQuery::from_str(path).unwrap(), codec).await {
        Ok(_) => Status::ok(""),
        Err(status) => status,
    }
}

/// Whatever is added to the agent later stands behind the same door: the methods come from the descriptors.
#[tokio::test]
async fn nothing_answers_by_tcp_without_the_token() {
    let agent = AgentProcess::start().await;
    let methods = methods();
    for service in ["farsock.v1.SocketService/CreateSocket", "grpc.health.v1.Health/Check"] {
        assert!(methods.contains(&format!("/{service}")), "{methods:?}");
    }
    assert!(methods.iter().any(|path| path.contains("v1alpha.ServerReflection")));
    let channel = tcp_channel(&agent.tcp());
    let token = agent.token();
    let wrong = format!("Bearer {}", "0".repeat(64));
    let cut = format!("Bearer {}", &token[..63]);
    let mut messages = BTreeSet::new();
    for path in methods.iter().map(String::as_str).chain(["/farsock.v1.SocketService/Nonsense", "/nonsense"]) {
        let status = knock(channel.clone(), path, None).await;
        assert_eq!(status.code(), Code::Unauthenticated, "{path}: {status:?}");
        messages.insert((false, status.message().to_owned()));
        for shown in ["", "Bearer", "Bearer ", "Basic Zm9v", &token, &wrong, &cut] {
            let status = knock(channel.clone(), path, Some(shown)).await;
            assert_eq!(status.code(), Code::Unauthenticated, "{path} with {shown:?}: {status:?}");
            messages.insert((true, status.message().to_owned()));
        }
    }
    // One sentence for who shows nothing, one for who shows something wrong, whatever it is.
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(messages.iter().all(|(_, message)| !message.contains(&token)));
    agent.stop().await;
}

#[tokio::test]
async fn the_token_opens_the_door_and_is_a_new_one_at_each_start() {
    let (first, second) = (AgentProcess::start().await, AgentProcess::start().await);
    assert_ne!(first.token(), second.token());
    let ask = |agent: &AgentProcess, token: String| {
        let mut client = AgentServiceClient::new(tcp_channel(&agent.tcp()));
        async move { client.get_agent(with_token(QUESTION, &token)).await.map(|answer| answer.into_inner()) }
    };
    let answer = ask(&first, first.token()).await.unwrap().agent.unwrap();
    assert_eq!(answer.instance_id, first.ready["instance_id"].as_str().unwrap());
    assert_eq!(ask(&first, second.token()).await.unwrap_err().code(), Code::Unauthenticated);

    // Nobody else can read it, and it is gone with the agent.
    let file = first.ready["token_file"].as_str().unwrap().to_owned();
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let folder = fs::metadata(first.runtime_dir().join("farsock")).unwrap();
    assert_eq!(folder.mode() & 0o777, 0o700);
    // That it cannot be read is as good.
    let environment = fs::read(format!("/proc/{}/environ", first.pid())).unwrap_or_default();
    assert!(!String::from_utf8_lossy(&environment).contains(&first.token()));
    let moved = first.runtime_dir().to_owned();
    first.stop().await;
    assert!(!moved.join(&file).exists());
    second.stop().await;
}

#[tokio::test]
async fn the_unix_socket_knows_its_callers_without_a_token() {
    let agent = AgentProcess::start().await;
    assert_eq!(fs::symlink_metadata(agent.unix()).unwrap().mode() & 0o777, 0o600);
    let answer = agent.agent().agent().get_agent(QUESTION).await.unwrap().into_inner();
    assert_eq!(answer.agent.unwrap().instance_id, agent.ready["instance_id"].as_str().unwrap());
    let path = agent.unix();
    agent.stop().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn the_unix_socket_turns_other_users_away_whatever_its_mode() {
    if !needs_root() {
        return;
    }
    let agent = AgentProcess::start().await;
    fs::set_permissions(agent.unix(), Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(agent.runtime_dir(), Permissions::from_mode(0o755)).unwrap();
    let script = "import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(20)
try:
    s.connect(sys.argv[1])
    s.sendall(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n\\0\\0\\0\\4\\0\\0\\0\\0\\0')
    print(len(s.recv(100)))
except ConnectionError:
    print(0)
";
    let ask = |user: Option<u32>| {
        let mut command = tokio::process::Command::new("python3");
        command.args(["-c", script]).arg(agent.unix());
        if let Some(user) = user {
            command.uid(user);
        }
        command
    };
    let Ran { out, .. } = run(ask(None)).await;
    assert_ne!(out.trim(), "0", "its own user is answered");
    let Ran { out, err, .. } = run(ask(Some(65534))).await;
    assert_eq!(out.trim(), "0", "nobody is turned away: {err}");
    agent.stop().await;
}

#[tokio::test]
async fn without_authentication_everybody_is_let_in_and_people_are_told() {
    let folder = TempDir::new().unwrap();
    let mut command = farsock(folder.path());
    command.args(["agent", "--no-auth", "--listen", "127.0.0.1:0"]);
    let agent = AgentProcess::spawn(command, folder).await;
    let mut client = AgentServiceClient::new(tcp_channel(&agent.tcp()));
    assert!(client.get_agent(QUESTION).await.is_ok());
    assert!(agent.ready["token_file"].is_null());
    assert!(agent.said.iter().any(|line| line.ends_with("for every user of this host")), "{:?}", agent.said);
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_does_not_listen_where_other_hosts_can_reach_it() {
    let missing = "needs TLS (--tls-cert) and a policy (--policy);";
    for (address, words, says) in [
        ("0.0.0.0:0", &[][..], missing),
        ("[::]:0", &[], missing),
        ("192.0.2.1:7625", &[], missing),
        ("0.0.0.0:0", &["--no-auth"], "--no-auth is for loopback only"),
        ("[::ffff:127.0.0.1]:0", &[], missing),
    ] {
        let folder = TempDir::new().unwrap();
        let mut command = farsock(folder.path());
        command.args(["agent", "--listen", address]).args(words);
        let ran = run(command).await;
        assert_eq!((ran.code, ran.out.as_str()), (Some(3), ""), "{address}: {}", ran.err);
        for word in ["can be reached from other hosts", says] {
            assert!(ran.err.contains(word), "{address}: {}", ran.err);
        }
        assert_eq!(ran.err.lines().filter(|line| line.contains("reached")).count(), 1, "{}", ran.err);
        assert!(fs::read_dir(folder.path()).unwrap().next().is_none(), "nothing was written");
    }
}

#[tokio::test]
async fn a_token_file_is_made_kept_and_refused_when_others_can_read_it() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("token");
    let words = ["--token-file", file.to_str().unwrap()];
    let agent = AgentProcess::start_with(&words).await;
    let made = agent.token();
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    agent.stop().await;
    // It was named by whoever started the agent, so it stays, and the next one has the same.
    let agent = AgentProcess::start_with(&words).await;
    assert_eq!(agent.token(), made);
    agent.stop().await;

    for (mode, text, says) in [
        (0o644, made.as_str(), "can be read by others: make it private (chmod 600"),
        (0o600, "secret", "holds no token"),
        (0o600, "", "holds no token"),
    ] {
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let mut command = farsock(folder.path());
        command.args(["agent", "--listen", "127.0.0.1:0"]).args(words);
        let ran = run(command).await;
        assert_eq!(ran.code, Some(3), "{ran:?}");
        assert!(ran.err.contains(says) && ran.err.contains(words[1]), "{}", ran.err);
        assert!(!ran.err.contains(&made), "a token is never shown: {}", ran.err);
    }
}

/// `kill -HUP`: with a new token in its file, the old one opens nothing any more, and whoever has come in by it is out.
#[tokio::test]
async fn a_token_file_is_read_again_while_the_agent_serves() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("token");
    let socket = format!("unix:{}", folder.path().join("agent.sock").display());
    let mut command = farsock(folder.path());
    command.args(["agent", "--listen", "127.0.0.1:0", "--listen", &socket, "--token-file", file.to_str().unwrap()]);
    let mut agent = AgentProcess::spawn_telling(command, TempDir::new().unwrap()).await;
    let old = agent.token();
    let mut client = AgentServiceClient::new(tcp_channel(&agent.tcp()));
    client.get_agent(with_token(QUESTION, &old)).await.unwrap();
    let mut events = EventServiceClient::new(tcp_channel(&agent.tcp()));
    let request = with_token(pb::WatchEventsRequest::default(), &old);
    let mut watch = events.watch_events(request).await.unwrap().into_inner();
    let owner = agent.agent();
    owner.listen("door", "127.0.0.1:0").await;

    // Nothing has changed: nobody notices.
    agent.signal(Signal::HUP);
    assert_eq!(agent.complaint().await, "farsock: credentials were read again; connections that were ended by it: 0");
    client.get_agent(with_token(QUESTION, &old)).await.unwrap();

    let new = "0123456789abcdef".repeat(4);
    fs::write(&file, &new).unwrap();
    agent.signal(Signal::HUP);
    assert_eq!(agent.complaint().await, "farsock: credentials were read again; connections that were ended by it: 2");
    within("the watch's end", async { while let Ok(Some(_)) = watch.message().await {} }).await;
    let code =
        |answer: Result<_, Status>| answer.map(|_: tonic::Response<pb::GetAgentResponse>| ()).map_err(|s| s.code());
    let mut client = AgentServiceClient::new(tcp_channel(&agent.tcp()));
    assert_eq!(code(client.get_agent(with_token(QUESTION, &old)).await), Err(Code::Unauthenticated));
    assert_eq!(code(client.get_agent(with_token(QUESTION, &new)).await), Ok(()));
    // Who comes by the Unix socket has no part in it.
    assert_eq!(owner.socket("door").await.socket_id, "door");

    // What is no token changes nothing.
    fs::write(&file, "secret").unwrap();
    agent.signal(Signal::HUP);
    assert!(agent.complaint().await.starts_with("farsock: credentials stay as they were: "));
    assert_eq!(code(client.get_agent(with_token(QUESTION, &new)).await), Ok(()));
    agent.stop().await;
}

/// A service that was opened answers whoever asks; nothing else does, however its path is spelled.
#[tokio::test]
async fn what_was_opened_answers_without_a_token() {
    let agent = AgentProcess::start_with(&["--open", "health"]).await;
    assert!(agent.said.contains(&"  health: for whoever asks".to_owned()), "{:?}", agent.said);
    let channel = tcp_channel(&agent.tcp());
    for path in methods() {
        // That one would go on until the time to log in is over: whoever shows nothing has no more than that.
        if path == "/grpc.health.v1.Health/Watch" {
            continue;
        }
        let status = knock(channel.clone(), &path, None).await;
        let expected = if path.starts_with("/grpc.health.v1.Health/") { Code::Ok } else { Code::Unauthenticated };
        assert_eq!(status.code(), expected, "{path}: {status:?}");
    }
    for path in
        ["//grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Check/../Check", "/grpc.health.v1.Healt/Check"]
    {
        assert_eq!(knock(channel.clone(), path, None).await.code(), Code::Unauthenticated, "{path}");
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_stale_unix_socket_is_replaced_and_a_living_one_is_not() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("agent.sock");
    let start = || {
        let mut command = farsock(folder.path());
        command.args(["agent", "--listen", &format!("unix:{}", path.display())]);
        command
    };
    // Somebody was killed, and left this.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let agent = AgentProcess::spawn(start(), TempDir::new().unwrap()).await;
    assert!(agent.agent().agent().get_agent(QUESTION).await.is_ok());

    let second = run(start()).await;
    assert_eq!(second.code, Some(3));
    assert!(second.err.contains("an agent is there already"), "{}", second.err);
    assert!(agent.agent().agent().get_agent(QUESTION).await.is_ok(), "the first one goes on");
    agent.stop().await;

    // What is no socket is never removed.
    fs::write(&path, "dear diary").unwrap();
    let third = run(start()).await;
    assert_eq!(third.code, Some(3));
    assert!(third.err.contains("EADDRINUSE"), "{}", third.err);
    assert_eq!(fs::read_to_string(&path).unwrap(), "dear diary");
}
