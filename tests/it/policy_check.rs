//! `farsock policy check`: mistakes of a policy with their places, and decisions with the line that they come from.

use std::fs;

use tempfile::TempDir;

use crate::harness::{farsock, run, run_farsock};

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
