//! `farsock agent` runs with as little as its sockets need, and keeps its secrets to itself.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use farsock::wire::pb;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::Command;

use crate::harness::{
    AgentProcess, Certificates, Namespace, QUESTION, Running, error_name, farsock, farsock_lies_in, is_root,
    needs_root, run, skipped, tls_channel, with_token,
};

/// Those that lab sockets have a use for: CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW.
const OF_SOCKETS: u64 = 1 << 10 | 1 << 12 | 1 << 13;

/// `farsock agent` as root without these capabilities; as anybody else, who has none. Nothing where that cannot be arranged.
fn without(capabilities: &str, folder: &TempDir) -> Option<Command> {
    without_in(None, capabilities, folder)
}

/// The same in a network of its own.
fn without_in(namespace: Option<&Namespace>, capabilities: &str, folder: &TempDir) -> Option<Command> {
    let agent = farsock(folder.path());
    if !is_root() {
        return Some(agent);
    }
    let known = std::process::Command::new("setpriv").args(["--bounding-set", "+all", "true"]).status();
    if !known.is_ok_and(|status| status.success()) {
        skipped("there is no setpriv(1) that may do it");
        return None;
    }
    let setpriv = Path::new("setpriv");
    let mut command = namespace.map_or_else(|| Command::new(setpriv), |namespace| namespace.command(setpriv));
    command.args(["--bounding-set", capabilities]).arg(agent.as_std().get_program());
    command.env("XDG_RUNTIME_DIR", folder.path()).env("NO_COLOR", "1").kill_on_drop(true);
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::piped());
    Some(command)
}

/// A number of a thread's status. proc_pid_status(5).
fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

#[tokio::test]
async fn every_thread_has_what_sockets_need_and_nothing_more() {
    let agent = AgentProcess::start_with(&["--workers", "3"]).await;
    let client = agent.agent();
    // Whatever threads it ever starts: those for lookups, too.
    client.agent().list_interfaces(pb::ListInterfacesRequest::default()).await.unwrap();
    let threads = agent.threads();
    assert!(threads.len() >= 4, "{}", threads.len());
    for status in threads {
        let field = |name: &str| field(&status, name);
        for set in ["CapPrm:", "CapEff:"] {
            assert_eq!(field(set) & !OF_SOCKETS, 0, "{status}");
        }
        assert_eq!((field("CapInh:"), field("CapAmb:"), field("NoNewPrivs:")), (0, 0, 1), "{status}");
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", agent.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).collect::<Vec<_>>(), ["0", "0", "bytes"]);
    // What may not be dumped belongs to root, whoever runs it: nobody else looks into its memory.
    assert_eq!(fs::metadata(format!("/proc/{}/mem", agent.pid())).unwrap().uid(), 0);
    // It works all the same.
    let door = client.listen("door", "127.0.0.1:0").await;
    client.connect("line", &door).await;
    agent.stop().await;
}

/// As an ordinary user its files in /proc are root's, which says that it cannot be dumped.
#[tokio::test]
async fn an_agent_of_an_ordinary_user_cannot_be_looked_into() {
    if !needs_root() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let program = farsock_lies_in(folder.path());
    chown(folder.path(), Some(65534), None).unwrap();
    // The shell makes the pipe, so that it is the same user's.
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "\"$0\" agent --listen 127.0.0.1:0 --ready-fd 1 | grep --line-buffered '^{'"])
        .arg(program)
        .uid(65534);
    shell.env("XDG_RUNTIME_DIR", folder.path()).stdout(std::process::Stdio::piped());
    let mut shell = Running::spawn(shell);
    let ready: serde_json::Value = serde_json::from_str(&shell.line().await.expect("it starts")).unwrap();
    let pid = ready["pid"].as_u64().unwrap();
    assert_eq!(fs::metadata(format!("/proc/{pid}/mem")).unwrap().uid(), 0);
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::TERM).unwrap();
    assert_eq!(shell.line().await, None);
}

#[tokio::test]
async fn what_a_missing_capability_keeps_from_working_names_it() {
    let folder = TempDir::new().unwrap();
    let Some(mut command) = without("-net_admin,-net_raw", &folder) else { return };
    command.args(["agent", "--listen", "127.0.0.1:0", "--listen"]);
    command.arg(format!("unix:{}", folder.path().join("agent.sock").display()));
    let agent = AgentProcess::spawn(command, folder).await;
    let client = agent.agent();
    let known = client.agent().get_agent(QUESTION).await.unwrap().into_inner().agent.unwrap().capabilities;
    assert!(!known.contains(&"net_admin".to_owned()), "{known:?}");
    client.create_udp("line", pb::UdpSocketSpec::default()).await.unwrap();
    let mark = pb::SocketOption { name: "SO_MARK".into(), value: Some(pb::socket_option::Value::Number(7)) };
    let request = pb::SetSocketOptionsRequest { socket_id: "line".into(), options: vec![mark], ..Default::default() };
    let answer = client.sockets().set_socket_options(request).await.unwrap().into_inner();
    let error = answer.options[0].error.clone().expect("it is not allowed");
    assert_eq!((error.name.as_str(), error.hint.contains("CAP_NET_ADMIN")), ("EPERM", true), "{error:?}");
    agent.stop().await;
}

/// As root in a network of its own: there, ports below 1024 are not everybody's, however that is set here.
#[tokio::test]
async fn what_keeps_a_port_below_1024_from_being_bound_is_named() {
    let namespace = if is_root() {
        let Some(namespace) = Namespace::new() else { return };
        Some(namespace)
    } else {
        let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
        if first.trim().parse::<u16>().unwrap() <= 9 {
            return skipped("ports below 1024 are everybody's here: net.ipv4.ip_unprivileged_port_start says so");
        }
        None
    };
    let folder = TempDir::new().unwrap();
    let Some(mut command) = without_in(namespace.as_ref(), "-net_bind_service", &folder) else { return };
    command.args(["agent", "--listen"]).arg(format!("unix:{}", folder.path().join("agent.sock").display()));
    let agent = AgentProcess::spawn(command, folder).await;
    let spec = pb::UdpSocketSpec { bind: "127.0.0.1:9".into(), ..Default::default() };
    let created = agent.agent().create_udp("discard", spec).await.unwrap();
    assert_eq!(error_name(created.report.as_ref()), "EACCES");
    assert!(created.report.unwrap().error.unwrap().hint.contains("CAP_NET_BIND_SERVICE"));
    agent.stop().await;
    // The agent's own way in says the same.
    let folder = TempDir::new().unwrap();
    let Some(mut command) = without_in(namespace.as_ref(), "-net_bind_service", &folder) else { return };
    command.args(["agent", "--listen", "127.0.0.1:9"]);
    let ran = run(command).await;
    assert_eq!((ran.code, ran.err.contains("CAP_NET_BIND_SERVICE")), (Some(3), true), "{ran:?}");
}

#[tokio::test]
async fn another_network_is_not_entered_without_the_capability_for_it() {
    let folder = TempDir::new().unwrap();
    let Some(mut command) = without("-sys_admin", &folder) else { return };
    command.args(["agent", "--listen", "127.0.0.1:0", "--lab-netns", "/proc/self/ns/net"]);
    let ran = run(command).await;
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (
            Some(3),
            "farsock: --lab-netns: cannot enter /proc/self/ns/net: operation not permitted (EPERM): it needs CAP_SYS_ADMIN\n"
        )
    );
}

/// Ports have nothing to do with it.
#[tokio::test]
async fn a_unix_socket_that_cannot_be_made_says_why() {
    let folder = TempDir::new().unwrap();
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o555)).unwrap();
    let says = if is_root() {
        chown(&closed, Some(65534), None).unwrap();
        "permission denied (EACCES): root needs CAP_DAC_OVERRIDE for a directory of another user's, and an agent gives that up;"
    } else {
        "permission denied (EACCES): this user may not make it in its directory;"
    };
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let taken = "address already in use (EADDRINUSE): something is there that is no socket;";
    for (path, says) in [(closed.join("x.sock"), says), (file, taken)] {
        let mut command = farsock(folder.path());
        command.args(["agent", "--listen", &format!("unix:{}", path.display())]);
        let ran = run(command).await;
        let line = format!("farsock: cannot listen on unix:{}: {says} --listen takes another path\n", path.display());
        assert_eq!((ran.code, ran.err), (Some(3), line));
    }
}

/// Root gives up what lets it read them, before it reads them.
#[tokio::test]
async fn files_of_another_user_are_closed_to_root_and_that_is_said() {
    if !needs_root() {
        return;
    }
    let (lab, folder) = (Certificates::new(), TempDir::new().unwrap());
    let (files, policy) = (lab.agent(), folder.path().join("policy.yaml"));
    fs::write(&policy, "policy: One\nprincipals: { owner: admin }\n").unwrap();
    for file in [&policy, &files.key] {
        fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
        chown(file, Some(65534), None).unwrap();
    }
    for (flag, given, closed) in [
        ("--policy", &policy, &policy),
        ("--tls-cert", &files.certificate, &files.key),
        ("--token-file", &policy, &policy),
    ] {
        for check in [&[][..], &["--check"]] {
            let mut command = farsock(folder.path());
            command.args(["agent", "--listen", "127.0.0.1:0", flag]).arg(given).args(check);
            let ran = run(command).await;
            let line = format!(
                "farsock: {}: permission denied (EACCES): root needs CAP_DAC_OVERRIDE for what is another user's, and an agent \
                 gives that up: make it root's own (chown root)\n",
                closed.display()
            );
            assert_eq!((ran.code, ran.err), (Some(3), line), "{flag} {check:?}");
        }
    }
}

#[tokio::test]
async fn a_check_says_what_is_kept_and_what_is_lacking() {
    let folder = TempDir::new().unwrap();
    let mut command = farsock(folder.path());
    command.args(["agent", "--check", "--listen", "127.0.0.1:0"]);
    let all = run(command).await.out;
    for name in ["CAP_NET_BIND_SERVICE: ports below 1024", "CAP_NET_ADMIN: SO_MARK", "CAP_NET_RAW: SO_BINDTODEVICE"] {
        assert!(all.contains(&format!(" {name}")), "{all}");
    }
    assert!(all.ends_with("gives up every other capability, new privileges, and core dumps\n"), "{all}");
    let Some(mut command) = without("-net_raw", &folder) else { return };
    command.args(["agent", "--check", "--listen", "127.0.0.1:0"]);
    let less = run(command).await.out;
    assert!(less.contains("  lacks CAP_NET_RAW: "), "{less}");
}

/// Those that the kernel says it has.
#[tokio::test]
async fn the_start_says_what_is_kept() {
    let folder = TempDir::new().unwrap();
    let mut agents = vec![AgentProcess::start().await];
    if let Some(mut command) = without("-net_raw", &folder) {
        command.args(["agent", "--listen", &format!("unix:{}", folder.path().join("agent.sock").display())]);
        agents.push(AgentProcess::spawn(command, folder).await);
    }
    for agent in agents {
        let held = field(&agent.threads()[0], "CapEff:");
        let names = [(10, "CAP_NET_BIND_SERVICE"), (12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW")];
        let kept: Vec<&str> = names.iter().filter(|(bit, _)| held >> bit & 1 == 1).map(|(_, name)| *name).collect();
        let line = match &kept[..] {
            [] => "  keeps no capability".to_owned(),
            kept => format!("  keeps {}, and no other capability", kept.join(", ")),
        };
        assert!(agent.said.contains(&line), "{line}: {:?}", agent.said);
        agent.stop().await;
    }
}

/// Not where other processes look, and not in a log that tells everything.
#[tokio::test]
async fn secrets_stay_where_they_are() {
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("log");
    let mut command = farsock(folder.path());
    command.args(["agent", "--listen", "127.0.0.1:0"]).env("FARSOCK_LOG", "trace");
    let mut agent = AgentProcess::spawn_logging(command, folder, &log).await;
    let token = agent.token();
    let by_token = || crate::harness::tcp_channel(&agent.tcp());
    let mut client = pb::agent_service_client::AgentServiceClient::new(by_token());
    client.get_agent(with_token(QUESTION, &token)).await.unwrap();
    client.get_agent(with_token(QUESTION, &token.replace(&token[..8], "00000000"))).await.unwrap_err();
    let payload = "the-payload-is-nobodys-business";
    let mut sockets = pb::socket_service_client::SocketServiceClient::new(by_token());
    let write = pb::WriteSocketRequest {
        socket_id: "none".into(),
        payload: crate::harness::text(payload),
        ..Default::default()
    };
    sockets.write_socket(with_token(write, &token)).await.unwrap_err();
    assert_secret(&agent, &[&token[..32], &token[32..]]);
    agent.signal(Signal::TERM);
    agent.wait().await;
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains("TRACE"), "it tells everything: {said}");
    for secret in [&token[..32], &token[32..], payload] {
        assert!(!said.contains(secret), "{secret} in: {said}");
    }
    drop(agent);

    let lab = Certificates::new();
    let files = lab.agent();
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("log");
    let mut command = farsock(folder.path());
    command.args(["agent", "--listen", "127.0.0.1:0", "--tls-cert"]).arg(&files.certificate);
    command.env("FARSOCK_LOG", "trace");
    let mut agent = AgentProcess::spawn_logging(command, folder, &log).await;
    let channel = tls_channel(&agent.tcp(), &lab.controller("alice"));
    pb::agent_service_client::AgentServiceClient::new(channel).get_agent(QUESTION).await.unwrap();
    let key = fs::read_to_string(&files.key).unwrap();
    let lines: Vec<&str> = key.lines().filter(|line| !line.starts_with("---")).collect();
    assert_secret(&agent, &lines);
    agent.signal(Signal::TERM);
    agent.wait().await;
    let said = fs::read_to_string(&log).unwrap();
    for line in lines {
        assert!(!said.contains(line), "{line} in: {said}");
    }
}

/// None of it stands in the arguments or the environment of the agent, which has no children.
fn assert_secret(agent: &AgentProcess, secrets: &[&str]) {
    let pid = agent.pid();
    for file in ["cmdline", "environ"] {
        // What cannot be read tells nothing.
        let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        for secret in secrets {
            assert!(!String::from_utf8_lossy(&text).contains(secret), "{file}");
        }
    }
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    assert_eq!(children, "");
}
