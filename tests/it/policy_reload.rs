//! `kill -HUP`: another policy takes the place of the one in force, and what it does not allow ends.

use std::fs;

use farsock::wire::pb;
use rustix::process::Signal;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::harness::tcp::{FullListener, connecting_to, went};
use crate::harness::{AgentProcess, LOOPBACKS, TcpPeer, farsock, run};

const OPEN: &str = "policy: Open\nprincipals: { owner: student }\nrules:\n  - { allow: any, addresses: [loopback, multicast, wildcard] }\n  \
                    - { allow: set, options: SO_BROADCAST }\n";

async fn start(folder: &TempDir, policy: &str) -> AgentProcess {
    let file = folder.path().join("policy.yaml");
    fs::write(&file, policy).unwrap();
    let socket = format!("unix:{}", folder.path().join("agent.sock").display());
    let mut command = farsock(folder.path());
    command.args(["agent", "--listen", "127.0.0.1:0", "--listen", &socket, "--policy", file.to_str().unwrap()]);
    AgentProcess::spawn_telling(command, TempDir::new().unwrap()).await
}

/// What tells a file from others: as sha256sum(1) begins.
fn fingerprint(text: &str) -> String {
    Sha256::digest(text).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// The file says something else from now on; what the agent says to it.
async fn reload(agent: &mut AgentProcess, folder: &TempDir, policy: &str) -> String {
    fs::write(folder.path().join("policy.yaml"), policy).unwrap();
    agent.signal(Signal::HUP);
    agent.complaint().await
}

#[tokio::test]
async fn what_a_new_policy_does_not_allow_is_closed_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let mut process = start(&folder, OPEN).await;
    let line = process.said.iter().find(|line| line.starts_with("  policy: ")).unwrap();
    let of = fingerprint(OPEN);
    assert!(
        line.contains("Open in ")
            && line.contains(&format!("policy.yaml (sha256 {of}): "))
            && line
                .ends_with("1 principal, 2 rules; who comes by the Unix socket or with the token is `owner`: student"),
        "{line}"
    );
    let agent = process.agent();
    let (server, at) = TcpPeer::listen(LOOPBACKS[0]).await;
    for (id, ip) in [("near", "127.0.0.2"), ("far", "127.0.0.3")] {
        agent.listen(&format!("{id}-door"), &format!("{ip}:0")).await;
        let spec = pb::UdpSocketSpec { bind: format!("{ip}:0"), ..Default::default() };
        agent.create_udp(&format!("{id}-udp"), spec).await.unwrap();
        let spec = pb::TcpSocketSpec { bind: format!("{ip}:0"), ..connecting_to(&at.to_string()) };
        agent.create_tcp(&format!("{id}-line"), spec).await.unwrap();
    }
    let mut accepted = [TcpPeer::accept(&server).await, TcpPeer::accept(&server).await];
    let any = pb::UdpSocketSpec { bind: "127.0.0.2:0".into(), ..Default::default() };
    agent.create_udp("grouped", any.clone()).await.unwrap();
    let join = pb::JoinGroupRequest {
        socket_id: "grouped".into(),
        group: "239.7.7.7".into(),
        interface: "lo".into(),
        ..Default::default()
    };
    agent.sockets().join_group(join).await.unwrap();
    let broadcast =
        pb::SocketOption { name: "SO_BROADCAST".into(), value: Some(pb::socket_option::Value::Enabled(true)) };
    agent.create_udp("loud", pb::UdpSocketSpec { options: vec![broadcast], ..any }).await.unwrap();
    agent.create_tcp("idle", pb::TcpSocketSpec::default()).await.unwrap();
    // A peer that will not be let in any more, and one that will.
    let door = agent.socket("near-door").await.local.unwrap().text;
    for (id, from) in [("in-2", "127.0.0.2:0"), ("in-3", "127.0.0.3:0")] {
        agent.create_tcp(id, pb::TcpSocketSpec { bind: from.into(), ..connecting_to(&door) }).await.unwrap();
    }
    agent.event("near-door.2", "created").await;

    // The same again closes nothing.
    assert_eq!(
        reload(&mut process, &folder, OPEN).await,
        format!(
            "farsock: credentials and the policy (sha256 {of}) were read again; connections that were ended by it: 0, sockets: 0"
        )
    );
    // What is wrong changes nothing, and is told with its place.
    let line = reload(&mut process, &folder, "policy: Wrong\nprincipals: { owner: studnt }\n").await;
    assert!(line.starts_with("farsock: credentials and the policy stay as they were: "), "{line}");
    assert!(line.contains("policy.yaml:2:22: there is no role `studnt`"), "{line}");
    assert_eq!(went(&agent.create_tcp("", connecting_to(&at.to_string())).await), "ok");

    let narrow = "policy: Narrow\nprincipals: { owner: student }\nrules:\n  - { allow: any, addresses: [127.0.0.1, 127.0.0.2] }\n";
    let line = reload(&mut process, &folder, narrow).await;
    assert!(line.ends_with("connections that were ended by it: 0, sockets: 7"), "{line}");
    assert!(line.contains(&format!("the policy (sha256 {}) were read again", fingerprint(narrow))), "{line}");
    for id in ["far-door", "far-udp", "far-line", "grouped", "loud", "in-3", "near-door.2"] {
        assert_eq!(agent.closed(id).await.reason(), pb::CloseReason::Policy, "{id}");
    }
    assert!(agent.kinds("far-line").await.contains(&"aborted".to_owned()));
    for id in ["near-door", "near-udp", "near-line", "idle", "in-2", "near-door.1"] {
        assert_ne!(agent.socket(id).await.state(), pb::SocketState::Closed, "{id}");
    }
    // The peer of the one sees a reset, that of the other nothing.
    agent.write("near-line", "still here").await;
    let [first, second] = &mut accepted;
    let (near, far) = match first.0.peer_addr().unwrap().ip().to_string().as_str() {
        "127.0.0.2" => (first, second),
        _ => (second, first),
    };
    assert_eq!(near.read(10).await, b"still here");
    assert_eq!(far.read_to_end().await.unwrap_err().raw_os_error(), Some(libc::ECONNRESET));
    assert_eq!(went(&agent.create_tcp("", connecting_to("127.0.0.3:9")).await), "POLICY_DENIED");

    // Without a right to use sockets there is none; without any role nobody comes in.
    let line = reload(&mut process, &folder, "policy: Look\nprincipals: { owner: viewer }\n").await;
    assert!(!line.ends_with("sockets: 0"), "{line}");
    assert_eq!(agent.closed("idle").await.reason(), pb::CloseReason::Policy);
    process.stop().await;
}

/// Each thing that a socket holds is judged by itself: where it leads, though its own address stays allowed; where it is about to lead; `::`
/// as 0.0.0.0, too; options that are a number or a name, but not those that are off.
#[tokio::test]
async fn whatever_a_socket_holds_is_judged() {
    let folder = TempDir::new().unwrap();
    let wide = "policy: Wide\nprincipals: { owner: student }\nrules:\n  - { allow: any, addresses: [loopback, wildcard] }\n  \
                - { allow: set, options: any }\n";
    let mut process = start(&folder, wide).await;
    let agent = process.agent();
    let other = "127.0.0.2".parse().unwrap();
    let (server, at) = TcpPeer::listen(other).await;
    let full = FullListener::new(other);
    let from = |remote: &str| pb::TcpSocketSpec { bind: "127.0.0.1:0".into(), ..connecting_to(remote) };
    agent.create_tcp("line", from(&at.to_string())).await.unwrap();
    let mut accepted = TcpPeer::accept(&server).await;
    let detach = Some(pb::Call { detach: true, ..Default::default() });
    agent.create_tcp("trying", pb::TcpSocketSpec { bind: "127.0.0.1:0".into(), ..Default::default() }).await.unwrap();
    let connect = pb::ConnectSocketRequest {
        socket_id: "trying".into(),
        remote: full.address.to_string(),
        call: detach,
        ..Default::default()
    };
    agent.sockets().connect_socket(connect).await.unwrap();
    agent.event("trying", "connect_started").await;
    let udp = |bind: &str, options| pb::UdpSocketSpec { bind: bind.to_owned(), options, ..Default::default() };
    let connected = pb::UdpSocketSpec { connect: "127.0.0.2:9".into(), ..udp("127.0.0.1:0", Vec::new()) };
    agent.create_udp("connected", connected).await.unwrap();
    let option = |name: &str, value| vec![pb::SocketOption { name: name.into(), value: Some(value) }];
    let only = |on| option("IPV6_V6ONLY", pb::socket_option::Value::Enabled(on));
    agent.create_udp("both", udp("[::]:0", only(false))).await.unwrap();
    agent.create_udp("v6", udp("[::]:0", only(true))).await.unwrap();
    let number = |number| option("SO_PRIORITY", pb::socket_option::Value::Number(number));
    agent.create_udp("urgent", udp("127.0.0.1:0", number(1))).await.unwrap();
    agent.create_udp("plain", udp("127.0.0.1:0", number(0))).await.unwrap();
    let device = |name: &str| option("SO_BINDTODEVICE", pb::socket_option::Value::Text(name.into()));
    agent.create_udp("tied", udp("127.0.0.1:0", device("lo"))).await.unwrap();
    agent.create_udp("untied", udp("127.0.0.1:0", device(""))).await.unwrap();

    let narrow = "policy: Narrow\nprincipals: { owner: student }\nrules:\n  - { allow: any, addresses: [127.0.0.1, \"::/128\"] }\n";
    let line = reload(&mut process, &folder, narrow).await;
    assert!(line.ends_with("sockets: 6"), "{line}");
    for id in ["line", "trying", "connected", "both", "urgent", "tied"] {
        assert_eq!(agent.closed(id).await.reason(), pb::CloseReason::Policy, "{id}");
    }
    for id in ["v6", "plain", "untied"] {
        assert_ne!(agent.socket(id).await.state(), pb::SocketState::Closed, "{id}");
    }
    assert_eq!(accepted.read_to_end().await.unwrap_err().raw_os_error(), Some(libc::ECONNRESET));
    process.stop().await;
}

/// `--check` tells what would be in force, and what is wrong with it; nothing that is wrong starts.
#[tokio::test]
async fn a_policy_is_told_of_before_the_agent_starts() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("policy.yaml");
    let agent = async |words: &[&str]| {
        let mut command = farsock(folder.path());
        command.args(["agent", "--listen", "127.0.0.1:0", "--policy", file.to_str().unwrap()]).args(words);
        run(command).await
    };
    let strict = "policy: Strict\nprincipals: { alice: admin, bob: student }\n";
    fs::write(&file, strict).unwrap();
    let checked = agent(&["--check"]).await;
    assert_eq!((checked.code, checked.err.as_str()), (Some(0), ""));
    assert!(
        checked.out.contains(&format!(
            "  policy: Strict in {} (sha256 {}): 2 principals, 0 rules; ",
            file.display(),
            fingerprint(strict)
        )),
        "{}",
        checked.out
    );
    assert!(
        checked.out.contains(
            "`owner` has no role: who comes by the Unix socket or with the token is told nothing but --health"
        ),
        "{}",
        checked.out
    );
    for (text, says) in [
        ("policy: Wrong\nprincipals: { bob: studnt }\n", ":2:20: there is no role `studnt`: `farsock policy check "),
        ("policy: [\n", ":"),
    ] {
        fs::write(&file, text).unwrap();
        for words in [&["--check"][..], &[]] {
            let ran = agent(words).await;
            assert_eq!(ran.code, Some(3), "{ran:?}");
            assert!(ran.err.contains(&format!("{}{says}", file.display())), "{}", ran.err);
            assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
        }
    }
    fs::remove_file(&file).unwrap();
    assert!(agent(&[]).await.err.contains("policy.yaml: no such file or directory (ENOENT)"));
    // Beside TLS, it is what an address needs that others can reach.
    let ran = agent(&["--listen", "0.0.0.0:0"]).await;
    assert!(
        ran.err.contains("0.0.0.0:0 can be reached from other hosts, which needs TLS (--tls-cert);"),
        "{}",
        ran.err
    );
}
