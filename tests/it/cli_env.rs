//! `farsock env`: what it prints is sourced by a real bash. grpcurl itself is the business of `clients/grpcurl/test`; here a script
//! stands in for it, and shows what it was called with.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use farsock::wire::FILE_DESCRIPTOR_SET;
use prost::Message;
use prost_types::FileDescriptorSet;
use tempfile::TempDir;
use tokio::process::Command;

use crate::harness::{AgentProcess, Certificates, Ran, farsock, run};

/// Lets bash source what `farsock env` prints for these agents, and then do this.
async fn shell(folder: &Path, words: &str, script: &str) -> Ran {
    let grpcurl = folder.join("grpcurl");
    fs::write(&grpcurl, "#!/bin/sh\nprintf '[%s]' \"$@\"\necho \" token=${FARSOCK_TOKEN:-none}\"\n").unwrap();
    fs::set_permissions(&grpcurl, Permissions::from_mode(0o755)).unwrap();
    let mut path = folder.as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    let mut bash = Command::new("bash");
    let binary = env!("CARGO_BIN_EXE_farsock");
    bash.arg("-c").arg(format!("set -eu\nenv=$('{binary}' env {words})\neval \"$env\"\n{script}"));
    bash.env("PATH", path)
        .env("XDG_RUNTIME_DIR", folder)
        .env_remove("FARSOCK_TOKEN_FILE")
        .env_remove("FARSOCK_NO_AUTH");
    run(bash).await
}

#[tokio::test]
async fn a_call_is_one_word_and_its_json() {
    let agent = AgentProcess::start().await;
    let (tcp, token) = (agent.tcp(), agent.token());
    let script = "a CreateSocket '{\"udp\":{}}'\na GetAgent\na WatchEvents '{}' -max-time 10\na list\na\na describe farsock.v1.TcpSocketSpec\n\
                  a farsock.v1.SocketService/GetSocket '{}'\n";
    let ran = shell(agent.runtime_dir(), &format!("{tcp}=a"), script).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    let header = "[-plaintext][-expand-headers][-H][authorization: Bearer ${FARSOCK_TOKEN}]";
    let lines = [
        format!("{header}[-d][{{\"udp\":{{}}}}][{tcp}][farsock.v1.SocketService/CreateSocket]"),
        format!("{header}[-d][{{}}][{tcp}][farsock.v1.AgentService/GetAgent]"),
        format!("{header}[-max-time][10][-d][{{}}][{tcp}][farsock.v1.EventService/WatchEvents]"),
        format!("{header}[{tcp}][list]"),
        format!("{header}[{tcp}][list]"),
        format!("{header}[{tcp}][describe][farsock.v1.TcpSocketSpec]"),
        format!("{header}[-d][{{}}][{tcp}][farsock.v1.SocketService/GetSocket]"),
    ];
    let expected: Vec<String> = lines.iter().map(|line| format!("{line} token={token}")).collect();
    assert_eq!(ran.out.lines().collect::<Vec<_>>(), expected);
    agent.stop().await;
}

/// The secret is never an argument of a process, where every user can read it.
#[tokio::test]
async fn the_token_stays_off_the_command_line() {
    let agent = AgentProcess::start().await;
    let folder = TempDir::new().unwrap();
    let mut command = farsock(folder.path());
    let file = agent.ready["token_file"].as_str().unwrap();
    command.args(["env", &format!("{}=a", agent.tcp()), "--token-file", file]);
    let ran = run(command).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(!ran.out.contains(&agent.token()), "{}", ran.out);
    agent.stop().await;
}

#[tokio::test]
async fn every_method_has_its_service() {
    let folder = TempDir::new().unwrap();
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let files = set.file.iter().filter(|file| file.package() == "farsock.v1");
    let services: Vec<_> = files.flat_map(|file| &file.service).collect();
    let calls: Vec<(String, &str)> = services
        .iter()
        .flat_map(|s| s.method.iter().map(|m| (format!("farsock.v1.{}/{}", s.name(), m.name()), m.name())))
        .collect();
    assert!(calls.len() > 30);
    let script: String = calls.iter().map(|(_, method)| format!("a {method}\n")).collect();
    let ran = shell(folder.path(), "--no-auth 7625=a", &script).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for ((path, _), line) in calls.iter().zip(ran.out.lines()) {
        assert_eq!(line, format!("[-plaintext][-d][{{}}][127.0.0.1:7625][{path}] token=none"));
    }
}

#[tokio::test]
async fn agents_are_named_in_every_way() {
    let folder = TempDir::new().unwrap();
    let words = "--no-auth lab-a=a '::1=six' \"unix:/tmp/it's here=u\" 10.0.0.1:7000=_x9";
    let ran = shell(folder.path(), words, "a list; six list; u list; _x9 list").await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    let expected = [
        "[-plaintext][lab-a:7625][list] token=none",
        "[-plaintext][[::1]:7625][list] token=none",
        "[-plaintext][-unix][-authority][localhost][/tmp/it's here][list] token=none",
        "[-plaintext][10.0.0.1:7000][list] token=none",
    ];
    assert_eq!(ran.out.lines().collect::<Vec<_>>(), expected);
}

/// By whole paths: a shell goes from directory to directory. A Unix socket needs none of them.
#[tokio::test]
async fn certificates_are_named_and_no_token_is() {
    let lab = Certificates::new();
    let files = lab.controller("alice");
    let folder = TempDir::new().unwrap();
    let words = format!("lab-a=a unix:/run/b.sock=b --tls-cert {}", files.certificate.display());
    let ran = shell(folder.path(), &words, "cd /; a list; b list").await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    let [ca, certificate, key] = [&files.ca, &files.certificate, &files.key].map(|path| path.canonicalize().unwrap());
    let shown = format!("[-cacert][{}][-cert][{}][-key][{}]", ca.display(), certificate.display(), key.display());
    let expected = [
        format!("{shown}[lab-a:7625][list] token=none"),
        "[-plaintext][-unix][-authority][localhost][/run/b.sock][list] token=none".to_owned(),
    ];
    assert_eq!(ran.out.lines().collect::<Vec<_>>(), expected);

    let ran = shell(folder.path(), "lab-a=a --tls-cert /nowhere/alice.pem", "echo not reached").await;
    assert!(ran.err.contains("/nowhere/ca.pem: No such file"), "{}", ran.err);
}

#[tokio::test]
async fn a_method_that_is_none_and_a_token_that_is_not_there_are_told() {
    let folder = TempDir::new().unwrap();
    let ran = shell(folder.path(), "--no-auth 7625=a", "a GetSockets '{}' || echo \"exit $?\"").await;
    assert_eq!(ran.out, "exit 1\n");
    assert_eq!(ran.err, "a: there is no method GetSockets: 'a list' shows services\n");

    let ran = shell(folder.path(), "7625=a", "echo not reached").await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert!(ran.err.contains("there is no token in") && ran.err.contains("--token-file"), "{}", ran.err);

    let file = folder.path().join("a.token");
    fs::write(&file, "secret").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let ran = shell(folder.path(), &format!("7625=a --token-file '{}'", file.display()), "echo not reached").await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert!(ran.err.contains("a.token can be read by others: make it private (chmod 600"), "{}", ran.err);
}

/// Its variables are its own, and it does what it does under `set -eu`.
#[tokio::test]
async fn it_leaves_the_shell_as_it_was() {
    let folder = TempDir::new().unwrap();
    let script = "method=mine data=mine\na GetAgent '{\"x\":1}' > /dev/null\necho $method $data ${FARSOCK_TOKEN:-none}";
    let ran = shell(folder.path(), "--no-auth 7625=a", script).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "mine mine none\n"), "{ran:?}");
}
