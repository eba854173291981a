//! `farsock agent`: how it is started, what it says when it is ready, and why it may not start.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

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
    let unix = format!("unix:{}", taken.unix().display());
    let cases: [(&[&str], &str); 10] = [
        (&["--listen", &taken.tcp()], "EADDRINUSE): another program has the port"),
        (&["--listen", &unix], "an agent is there already; stop it, or take another path"),
        (&["--listen", "unix:/proc/no/such/agent.sock"], "/proc/no/such: "),
        (&["--listen", &long], "cannot listen on"),
        (&["--listen", "127.0.0.1:0", "--lab-interface", "no-such"], "there is no interface `no-such`; there are lo"),
        (&["--listen", "127.0.0.1:0", "--lab-address", "127.0.0.1,127.0.0.2"], "one address of each family"),
        (
            &["--listen", "127.0.0.1:0", "--lab-netns", "no-such"],
            "cannot enter /run/netns/no-such: no such file or directory (ENOENT)",
        ),
        (&["--listen", "127.0.0.1:0", "--ready-fd", "77"], "--ready-fd 77"),
        (&["--listen", "127.0.0.1:0", "--ready-file", "/no/such/ready"], "--ready-file /no/such/ready"),
        (&["--listen", "127.0.0.1:0", "--token-file", "/proc/no/such/token"], "/proc/no/such: "),
    ];
    for (words, says) in cases {
        for check in [&[][..], &["--check"]] {
            let mut command = farsock(folder.path());
            command.arg("agent").args(words).args(check);
            let ran = run(command).await;
            assert_eq!(ran.code, Some(3), "{words:?} {check:?}: {ran:?}");
            assert!(ran.err.contains(says), "{words:?} {check:?}: {}", ran.err);
            assert_eq!(ran.err.lines().count(), 1, "{words:?} {check:?}: {}", ran.err);
        }
    }
    // None of them has left anything: no socket, no token.
    let farsock = folder.path().join("farsock");
    let left: Vec<_> = fs::read_dir(&farsock).into_iter().flatten().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
    taken.stop().await;
}

/// All that is wrong, at once, and as a start would find it; without `--check` it is the first of these things.
#[tokio::test]
async fn a_check_finds_all_that_a_start_would_find() {
    let (folder, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let file = |name: &str, text: &str, mode: u32| {
        let path = other.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (wrong, open) = (file("token", "short", 0o600), file("open.jsonl", "", 0o644));
    let running = AgentProcess::start_with(&["--audit", other.path().join("busy.jsonl").to_str().unwrap()]).await;
    let busy = other.path().join("busy.jsonl").display().to_string();
    let below = format!("{wrong}/audit.jsonl");
    let ran = async |words: &[&str]| {
        let mut command = farsock(folder.path());
        command.args(["agent", "--listen", "127.0.0.1:0"]).args(words);
        run(command).await
    };
    for (audit, says) in [
        (&open, "open.jsonl can be read by others: make it private (chmod 600"),
        (&busy, "busy.jsonl: another agent writes its records there"),
        (&below, "token/audit.jsonl: not a directory (ENOTDIR)"),
    ] {
        let started = ran(&["--audit", audit]).await;
        let checked = ran(&["--audit", audit, "--check"]).await;
        assert!(checked.err.starts_with("farsock: --audit: ") && checked.err.contains(says), "{}", checked.err);
        assert_eq!((checked.code, checked.err), (started.code, started.err));
    }
    let many =
        ["--listen", &running.tcp(), "--token-file", &wrong, "--audit", &open, "--lab-netns", "no-such", "--check"];
    let checked = ran(&many).await;
    let lines: Vec<&str> = checked.err.lines().collect();
    assert_eq!((checked.code, lines.len()), (Some(3), 4), "{}", checked.err);
    for (line, says) in
        lines.iter().zip(["cannot enter /run/netns/no-such", "EADDRINUSE", "holds no token", "--audit: "])
    {
        assert!(line.contains(says), "{}", checked.err);
    }
    // Nobody is asked for that token, and so nobody reads it.
    let checked = ran(&["--token-file", &wrong, "--no-auth", "--check"]).await;
    assert_eq!((checked.code, checked.err.as_str()), (Some(0), ""));
    let mut command = farsock(folder.path());
    command.args(["agent", "--listen", "127.0.0.1:0", "--token-file", &wrong, "--no-auth"]);
    AgentProcess::spawn(command, TempDir::new().unwrap()).await.stop().await;
    running.stop().await;
}

/// Two ways in may be the same; what an agent has left that died is in nobody's way; what would have to be made is not.
#[tokio::test]
async fn a_check_takes_addresses_and_lets_them_go() {
    let (folder, port) = (TempDir::new().unwrap(), DeadPort::tcp("127.6.25.1".parse().unwrap()).text());
    let stale = folder.path().join("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    let check = async |listen: &[String]| {
        let mut command = farsock(folder.path());
        command.args(["agent", "--check", "--audit"]).arg(folder.path().join("deep/er/audit.jsonl"));
        command.args(listen.iter().flat_map(|listen| ["--listen", listen]));
        run(command).await
    };
    let twice = check(&[port.clone(), port.clone()]).await;
    assert!(twice.code == Some(3) && twice.err.contains("EADDRINUSE") && twice.err.lines().count() == 1, "{twice:?}");
    let paths = [stale.clone(), folder.path().join("new.sock"), folder.path().join("deep/new.sock")];
    let unix = paths.map(|path| format!("unix:{}", path.display()));
    let fine = check(&[&[port.clone()][..], &unix].concat()).await;
    assert_eq!((fine.code, fine.err.as_str()), (Some(0), ""));
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, [stale], "what was there, and nothing else");
    let mut command = farsock(folder.path());
    command.args(["agent", "--listen", &port]).args(unix.iter().flat_map(|listen| ["--listen", listen]));
    AgentProcess::spawn(command, TempDir::new().unwrap()).await.stop().await;
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
