//! `farsock agent`: how it is started, what it says when it is ready, and why it may not start.

use std::collections::BTreeSet;
use std::fs;

use farsock::wire::pb;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::harness::{AgentProcess, DeadPort, QUESTION, Ran, error_name, farsock, run, skipped};

async fn agent_info(agent: &AgentProcess) -> pb::Agent {
    agent.agent().agent().get_agent(QUESTION).await.unwrap().into_inner().agent.unwrap()
}

#[tokio::test]
async fn people_and_programs_are_told_where_it_is() {
    let agent = AgentProcess::start().await;
    let (tcp, unix) = (agent.tcp(), agent.unix());
    assert_eq!(agent.said[0], concat!("farsock ", env!("CARGO_PKG_VERSION"), " agent is ready"));
    let token_file = agent.ready["token_file"].as_str().unwrap();
    assert_eq!(agent.said[1], format!("  {tcp}  with the token in {token_file}"));
    assert_eq!(agent.said[2], format!("  unix:{}  for its own user", unix.display()));
    assert_eq!(agent.ready["pid"], agent.pid());
    let info = agent_info(&agent).await;
    assert_eq!(agent.ready["instance_id"], info.instance_id.as_str());
    assert_eq!(info.version, env!("CARGO_PKG_VERSION"));
    let told: BTreeSet<&str> =
        agent.ready["endpoints"].as_array().unwrap().iter().map(|e| e.as_str().unwrap()).collect();
    let known: BTreeSet<&str> = info.control_addresses.iter().map(String::as_str).collect();
    assert_eq!(told, known);
    agent.stop().await;
}

/// The line to paste is pasted. A script stands in for grpcurl and shows what it got; the real one is the business of `clients/grpcurl/test`.
#[tokio::test]
async fn the_line_to_paste_works_when_pasted() {
    for words in [&[][..], &["--no-auth"]] {
        let agent = AgentProcess::start_with(words).await;
        let line = agent.said.iter().find_map(|line| line.strip_prefix("try: ")).unwrap();
        let folder = TempDir::new().unwrap();
        let script = "grpcurl() { printf '[%s]' \"$@\"; echo \" token=${FARSOCK_TOKEN:-none}\"; }\n";
        let mut bash = Command::new("bash");
        bash.args(["-c", &format!("{script}{line}")]).current_dir(folder.path());
        let Ran { code, out, err } = run(bash).await;
        assert_eq!((code, err.as_str()), (Some(0), ""));
        let (header, token) = match words {
            [] => ("[-expand-headers][-H][authorization: Bearer ${FARSOCK_TOKEN}]", agent.token()),
            _ => ("", "none".to_owned()),
        };
        let expected =
            format!("[-plaintext]{header}[{}][farsock.v1.AgentService/GetAgent] token={token}\n", agent.tcp());
        assert_eq!(out, expected);
        agent.stop().await;
    }
}

#[tokio::test]
async fn a_ready_file_is_there_whole_or_not_at_all() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("ready.json");
    let agent = AgentProcess::start_with(&["--ready-file", file.to_str().unwrap()]).await;
    // The descriptor is written first, the file right after it: whoever has no descriptor waits for the file.
    crate::harness::within("the file", async {
        while !file.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let told: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(told, agent.ready);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
    agent.stop().await;

    let mut command = farsock(folder.path());
    command.args(["agent", "--listen", "127.0.0.1:0", "--ready-file", "/no/such/folder/ready"]);
    let ran = run(command).await;
    assert_eq!(ran.code, Some(3));
    assert!(ran.err.contains("--ready-file /no/such/folder/ready"), "{}", ran.err);
}

#[tokio::test]
async fn the_environment_says_what_the_command_line_does_not() {
    let folder = TempDir::new().unwrap();
    let token_file = folder.path().join("my.token");
    let mut command = farsock(folder.path());
    let socket = format!("unix:{}", folder.path().join("env.sock").display());
    command.arg("agent").env("FARSOCK_LISTEN", format!("127.0.0.1:0,{socket},[::1]:0"));
    command
        .env("FARSOCK_TOKEN_FILE", &token_file)
        .env("FARSOCK_LAB_ADDRESS", "127.0.0.9,::1")
        .env("FARSOCK_GRACE", "1");
    command.env("FARSOCK_WORKERS", "2").env("FARSOCK_LIMITS", "sockets=7,connections=9");
    let agent = AgentProcess::spawn(command, folder).await;
    assert_eq!(agent.ready["endpoints"].as_array().unwrap().len(), 3);
    assert_eq!(agent.ready["token_file"].as_str(), token_file.to_str());
    let info = agent_info(&agent).await;
    assert_eq!(info.lab_addresses, ["127.0.0.9", "::1"]);
    let limits = info.limits.unwrap();
    assert_eq!((limits.sockets, limits.connections), (7, 9));
    agent.stop().await;
}

#[tokio::test]
async fn a_lab_address_is_what_sockets_use_when_nobody_names_one() {
    let agent = AgentProcess::start_with(&["--lab-address", "127.0.0.7", "--lab-address", "::1"]).await;
    let door = agent.agent().listen("door", ":0").await;
    assert!(door.starts_with("127.0.0.7:"), "{door}");
    let line = agent.agent().connect("line", &door).await;
    assert_eq!(line.local.unwrap().address, "127.0.0.7");
    agent.stop().await;

    let lo = AgentProcess::start_with(&["--lab-interface", "lo"]).await;
    assert_eq!(agent_info(&lo).await.lab_addresses, ["127.0.0.1", "::1"]);
    lo.stop().await;
}

#[tokio::test]
async fn what_keeps_an_agent_from_starting_is_told_on_one_line() {
    let taken = AgentProcess::start().await;
    let folder = TempDir::new().unwrap();
    let long = format!("unix:/tmp/{}", "x".repeat(200));
    let cases: [(&[&str], &str); 7] = [
        (&["--listen", &taken.tcp()], "EADDRINUSE): another program has the port"),
        (&["--listen", "unix:/proc/no/such/agent.sock"], "ENOENT"),
        (&["--listen", &long], "cannot listen on"),
        (&["--listen", "127.0.0.1:0", "--lab-interface", "no-such"], "there is no interface `no-such`; there are lo"),
        (&["--listen", "127.0.0.1:0", "--lab-address", "127.0.0.1,127.0.0.2"], "one address of each family"),
        (
            &["--listen", "127.0.0.1:0", "--lab-netns", "no-such"],
            "cannot enter /run/netns/no-such: no such file or directory (ENOENT)",
        ),
        (&["--listen", "127.0.0.1:0", "--ready-fd", "77"], "--ready-fd 77"),
    ];
    for (words, says) in cases {
        let mut command = farsock(folder.path());
        command.arg("agent").args(words);
        let ran = run(command).await;
        assert_eq!(ran.code, Some(3), "{words:?}: {ran:?}");
        assert!(ran.err.contains(says), "{words:?}: {}", ran.err);
        assert_eq!(ran.err.lines().count(), 1, "{words:?}: {}", ran.err);
    }
    // None of them has left anything: no socket, no token.
    let farsock = folder.path().join("farsock");
    let left: Vec<_> = fs::read_dir(&farsock).into_iter().flatten().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
    taken.stop().await;
}

/// Sockets are opened in the namespace, the agent is reached where it was started.
#[tokio::test]
async fn a_lab_in_a_network_namespace_is_driven_from_outside() {
    let name = format!("farsock-test-{}", std::process::id());
    let ip = |words: String| async move {
        let mut command = Command::new("ip");
        command.args(words.split(' '));
        run(command).await
    };
    if ip(format!("netns add {name}")).await.code != Some(0) {
        return skipped(
            "a network namespace with a name needs CAP_SYS_ADMIN, which a container may withhold, and ip(8)",
        );
    }
    assert_eq!(ip(format!("-n {name} link set lo up")).await.code, Some(0));
    let outcome = tokio::spawn(in_namespace(name.clone())).await;
    assert_eq!(ip(format!("netns del {name}")).await.code, Some(0));
    outcome.unwrap();
}

async fn in_namespace(name: String) {
    let inside = AgentProcess::start_with(&["--lab-netns", &name, "--lab-interface", "lo", "--workers", "2"]).await;
    let outside = AgentProcess::start().await;
    let sys_admin = 1_u64 << 21;
    for status in inside.threads() {
        let held = status.lines().find_map(|line| line.strip_prefix("CapPrm:")).unwrap();
        assert_eq!(
            u64::from_str_radix(held.trim(), 16).unwrap() & sys_admin,
            0,
            "it has entered, and needs that no more"
        );
    }
    assert_eq!(agent_info(&inside).await.lab_addresses, ["127.0.0.1", "::1"]);
    for family in ["127.0.0.1", "[::1]"] {
        let suffix = if family.starts_with('[') { "six" } else { "four" };
        // From within it can be reached, from outside it cannot: they are different networks that look the same.
        let nobody = DeadPort::tcp(family.trim_matches(['[', ']']).parse().unwrap());
        let door = inside.agent().listen(&format!("door-{suffix}"), &nobody.text()).await;
        inside.agent().connect(&format!("line-{suffix}"), &door).await;
        let role = Some(pb::tcp_socket_spec::Role::Connect(door));
        let spec = pb::TcpSocketSpec { role, ..Default::default() };
        let refused = outside.agent().create_tcp(&format!("line-{suffix}"), spec).await.unwrap();
        assert_eq!(error_name(refused.report.as_ref()), "ECONNREFUSED");
    }
    let request = pb::ListInterfacesRequest::default();
    let interfaces = inside.agent().agent().list_interfaces(request).await.unwrap().into_inner().interfaces;
    let names: Vec<String> = interfaces.into_iter().map(|interface| interface.name).collect();
    assert_eq!(names, ["lo"], "the interfaces are those of the lab");
    inside.stop().await;
    outside.stop().await;
}
