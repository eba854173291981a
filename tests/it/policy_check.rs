//! `farsock policy check`: mistakes of a policy with their places, and decisions with the line that they come from.

use std::fs;

use farsock::wire::pb;
use tempfile::TempDir;

use crate::harness::tcp::{connecting_to, went};
use crate::harness::{AgentProcess, farsock, run, run_farsock};

const EXAMPLE: &str = "examples/policy.yaml";

/// What is asked of the example, the exit code, and what is answered on the first line.
const DECISIONS: &[(&str, i32, &str)] = &[
    ("bob connect 10.0.0.2:80", 0, "bob (student) may connect to 10.0.0.2:80 by TCP: line 40 of the policy allows it"),
    ("bob connect 10.0.0.254:80", 4, "line 57 of the policy denies it"),
    ("bob connect [::ffff:10.0.0.254]:80", 4, "line 57 of the policy denies it"),
    ("alice connect 10.0.0.254:80", 4, "line 57 of the policy denies it"),
    ("bob connect 0.0.0.0:80", 4, "no rule of the policy allows it"),
    ("alice connect 0.0.0.0:80", 0, "allows it"),
    ("alice connect 127.0.0.1:7625", 4, "this agent is controlled there"),
    ("alice connect [::ffff:0.0.0.0]:7625", 4, "this agent is controlled there"),
    ("alice connect 10.0.0.1:7700", 0, "allows it"),
    ("alice --listen 10.0.0.1:7700 connect 10.0.0.1:7700", 4, "this agent is controlled there"),
    ("alice --listen 10.0.0.1:7700 connect 127.0.0.9:7700", 4, "this agent is controlled there"),
    ("alice --listen 10.0.0.1:7700 connect 10.0.0.1:7701", 0, "allows it"),
    ("alice --listen 10.0.0.1:7700 connect 127.0.0.1:7625", 0, "allows it"),
    ("alice --listen unix:/run/agent.sock connect 127.0.0.1:7625", 0, "allows it"),
    ("alice --listen 10.0.0.1:7700,10.0.0.2:7701 connect 10.0.0.2:7700", 4, "this agent is controlled there"),
    ("alice --listen 0.0.0.0:7700 connect 10.0.0.1:7700", 0, "allows it"),
    ("alice --listen 0.0.0.0:7700 --host-address 10.0.0.1 connect 10.0.0.1:7700", 4, "this agent is controlled there"),
    ("alice --listen [::]:7700 --host-address ::ffff:10.0.0.1 bind 10.0.0.1:7700", 4, "this agent is controlled there"),
    ("alice --listen 0.0.0.0:7700 --host-address 10.0.0.1 connect 10.0.0.2:7700", 0, "allows it"),
    ("alice --listen 0.0.0.0:7700 --transport udp bind 127.0.0.1:7700", 0, "allows it"),
    ("bob bind 10.0.0.1:8080", 0, "allows it"),
    ("bob bind 10.0.0.1:80", 4, "no rule of the policy allows it"),
    ("bob bind 0.0.0.0:8080", 4, "no rule of the policy allows it"),
    ("alice bind 0.0.0.0:8080", 0, "allows it"),
    ("alice join 239.1.2.3", 0, "allows it"),
    ("carol connect 192.0.2.1:443", 0, "allows it"),
    ("carol connect 192.0.2.1:22", 4, "no rule of the policy allows it"),
    ("carol set SO_BINDTODEVICE", 0, "allows it"),
    ("bob set SO_BINDTODEVICE", 4, "no rule of the policy allows it"),
    ("bob set TCP_NODELAY", 0, "the option leads around no address"),
    ("owner set SO_MARK", 0, "one of his roles has the right `options`"),
    ("zoe look", 0, "zoe (viewer) may look"),
    ("zoe connect 10.0.0.2:80", 4, "none of his roles has the right `use`"),
];

#[tokio::test]
async fn a_decision_is_explained_with_its_line() {
    for (asked, code, answer) in DECISIONS {
        let mut arguments = vec!["policy", "check", EXAMPLE, "--as"];
        arguments.extend(asked.split(' '));
        let ran = run_farsock(&arguments).await;
        let first = ran.out.lines().next().unwrap_or_default();
        assert_eq!((ran.code, ran.err.as_str()), (Some(*code), ""), "{asked}: {}", ran.out);
        assert!(first.contains(answer), "{asked}: {}", ran.out);
    }
    let ran = run_farsock(&["policy", "check", EXAMPLE, "--as", "alice", "conect", "10.0.0.2:80"]).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("did you mean `connect`?"), "{}", ran.err);
}

#[tokio::test]
async fn what_would_change_no_decision_is_a_mistake() {
    for (asked, says) in [
        ("--listen 10.0.0.1:0 connect 10.0.0.1:80", "--listen 10.0.0.1:0: port 0 is another one at each start"),
        ("--listen lab-a:7625 connect 10.0.0.1:80", "`lab-a:7625` is not an address to listen on"),
        ("--only-ipv6 listen [::1]:8080", "--only-ipv6 changes what `bind` and `listen` at `[::]` mean"),
        ("--only-ipv6 listen 0.0.0.0:8080", "--only-ipv6 changes"),
        ("--only-ipv6 connect [::]:8080", "--only-ipv6 changes"),
    ] {
        let mut arguments = vec!["policy", "check", EXAMPLE, "--as", "alice"];
        arguments.extend(asked.split(' '));
        let ran = run_farsock(&arguments).await;
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{asked}");
        assert!(ran.err.contains(says), "{asked}: {}", ran.err);
    }
}

/// The agent itself says the same to the same questions: of its own port, and of sockets that take both families and one.
#[tokio::test]
async fn an_agent_decides_as_it_was_explained() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("policy.yaml");
    let file = file.to_str().unwrap();
    let rules = "rules: [{ allow: any, addresses: [loopback, '::/128'] }]\n";
    fs::write(file, format!("policy: Six\nprincipals: {{ owner: student }}\n{rules}")).unwrap();
    let process = AgentProcess::start_with(&["--policy", file]).await;
    let (agent, at) = (process.agent(), process.tcp());
    let port = at.strip_prefix("127.0.0.1:").unwrap();
    let near = format!("[::1]:{port}");
    let explained = async |words: &[&str]| {
        let mut arguments = vec!["policy", "check", file, "--as", "owner"];
        arguments.extend(words);
        run_farsock(&arguments).await
    };
    for to in [&at, &near] {
        let ran = explained(&["--listen", &at, "connect", to]).await;
        assert!(ran.code == Some(4) && ran.out.contains("this agent is controlled there"), "{ran:?}");
        assert_eq!(went(&agent.create_tcp("", connecting_to(to)).await), "POLICY_DENIED", "{to}");
    }
    // Of another agent it would be nobody's port.
    assert_eq!(explained(&["connect", &at]).await.code, Some(0));
    for (only_ipv6, code, outcome) in [(false, 4, "POLICY_DENIED"), (true, 0, "ok")] {
        let mut words = vec!["--listen", &at, "listen", "[::]:0"];
        words.extend(only_ipv6.then_some("--only-ipv6"));
        let ran = explained(&words).await;
        assert_eq!(ran.code, Some(code), "{ran:?}");
        let says = if only_ipv6 { "allows it" } else { "it leads to 0.0.0.0, and no rule of the policy allows that" };
        assert!(ran.out.contains(says), "{ran:?}");
        let value = Some(pb::socket_option::Value::Enabled(only_ipv6));
        let options = vec![pb::SocketOption { name: "IPV6_V6ONLY".into(), value }];
        let role = Some(pb::tcp_socket_spec::Role::Listen("[::]:0".into()));
        let spec = pb::TcpSocketSpec { role, options, ..Default::default() };
        assert_eq!(went(&agent.create_tcp("", spec).await), outcome);
    }
    process.stop().await;
}

/// A rule that denies wins over all that allow, of options, too, and over those that lead around nothing.
#[tokio::test]
async fn an_option_is_denied_to_whoever_has_every_right() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("policy.yaml");
    let rules = "rules:\n  - { allow: set, options: any }\n  - { deny: set, options: TCP_NODELAY }\n";
    fs::write(&file, format!("policy: Options\nprincipals: {{ owner: admin, zoe: viewer }}\n{rules}")).unwrap();
    for (asked, code, answer) in [
        ("owner set TCP_NODELAY", 4, "line 5 of the policy denies it"),
        ("owner set SO_KEEPALIVE", 0, "line 4 of the policy allows it"),
        ("zoe set SO_KEEPALIVE", 4, "none of his roles has the right `use`"),
    ] {
        let mut arguments = vec!["policy", "check", file.to_str().unwrap(), "--as"];
        arguments.extend(asked.split(' '));
        let ran = run_farsock(&arguments).await;
        assert_eq!(ran.code, Some(code), "{asked}: {}{}", ran.out, ran.err);
        assert!(ran.out.contains(answer), "{asked}: {}", ran.out);
    }
}

#[tokio::test]
async fn a_file_that_is_right_is_told_in_a_line() {
    let ran = run_farsock(&["policy", "check", EXAMPLE]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert_eq!(ran.out, "✓ Course 101  4 principals, 6 rules  examples/policy.yaml\n");
}

/// What stands behind the title, and what is said of it: the place and a piece of the message or the advice.
const MISTAKES: &[(&str, &str, &str)] = &[
    ("principals: { bob: studnt }\n", ":2:20", "did you mean `student`?"),
    ("principals: { Bob: student }\n", ":2:15", "not the name of a principal"),
    ("principals: { student: student }\n", ":2:15", "`student` is a role"),
    ("roles: { viewer: [look] }\n", ":2:10", "there is a role `viewer` already"),
    ("roles: { prober: [lok] }\n", ":2:19", "did you mean `look`?"),
    ("rules: [{ addresses: any }]\n", ":2:9", "neither allows nor denies"),
    ("rules: [{ allow: conect, addresses: any }]\n", ":2:18", "did you mean `connect`?"),
    ("rules: [{ allow: connect }]\n", ":2:9", "needs `addresses`"),
    ("rules: [{ allow: connect, addresses: 10.0.0.5/24 }]\n", ":2:38", "10.0.0.0/24 is meant"),
    ("rules: [{ allow: connect, addresses: '127.1' }]\n", ":2:38", "no address or network"),
    ("rules: [{ allow: connect, addresses: looback }]\n", ":2:38", "did you mean `loopback`?"),
    ("rules: [{ allow: connect, addresses: '::ffff:10.0.0.1' }]\n", ":2:38", "write it as IPv4"),
    ("rules: [{ allow: connect, addresses: any, ports: 9-8 }]\n", ":2:50", "no port"),
    ("rules: [{ allow: connect, addresses: any, transport: sctp }]\n", ":2:54", "there is no transport `sctp`"),
    ("rules: [{ allow: connect, addresses: any, for: nobody }]\n", ":2:48", "no role or principal `nobody`"),
    ("rules: [{ allow: set, options: SO_MARKS }]\n", ":2:32", "did you mean `SO_MARK`?"),
    ("rules: [{ allow: connect, adresses: any }]\n", ":2:27", "did you mean `addresses`?"),
];

#[tokio::test]
async fn a_mistake_is_told_with_its_place_and_what_would_be_right() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("policy.yaml");
    let mut wrong = Vec::new();
    for (text, place, words) in MISTAKES {
        fs::write(&file, format!("policy: Mistakes\n{text}")).unwrap();
        let mut command = farsock(folder.path());
        command.args(["policy", "check"]).arg(&file);
        let ran = run(command).await;
        if ran.code != Some(2) || !ran.err.contains(&format!("policy.yaml{place}]")) || !ran.err.contains(words) {
            wrong.push(format!("{text}wanted {place} {words}, got\n{}{}", ran.out, ran.err));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
