//! The first ten minutes of somebody who has just installed it: whatever is not right yet is told in one line that says what to do.

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use farsock::pki::write_private;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::harness::{AgentProcess, Ran, farsock, run};

const HELLO: &str =
    "exercise: Hello\nhosts: { a: }\nsteps:\n  - { on: a, listen: \":0\", as: door }\n  - { on: a, close: door }\n";

/// A directory with an exercise in it, where somebody types `farsock`.
fn home() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("hello.yaml"), HELLO).unwrap();
    folder
}

async fn type_in(home: &Path, words: &[&str]) -> Ran {
    let mut command = farsock(home);
    command.current_dir(home).args(words);
    run(command).await
}

/// `farsock run hello.yaml --host a=PLACE`, which cannot be; answers what it says of that.
async fn reach(home: &Path, place: &str, more: &[&str]) -> String {
    let host = format!("a={place}");
    let words = [&["run", "-q", "hello.yaml", "--host", host.as_str()], more].concat();
    let ran = type_in(home, &words).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    ran.err
}

#[tokio::test]
async fn a_file_that_is_not_there_or_is_none() {
    let home = home();
    let home = home.path();
    fs::create_dir(home.join("empty")).unwrap();
    fs::write(home.join("picture.yaml"), [0xff, 0xd8, 0xff]).unwrap();
    for (file, code, told) in [
        ("helo.yaml", 1, "farsock: helo.yaml: there is no such file: did you mean `hello.yaml`?\n"),
        ("./hello.yml", 1, "farsock: ./hello.yml: there is no such file: did you mean `./hello.yaml`?\n"),
        (
            "empty/first.yaml",
            1,
            "farsock: empty/first.yaml: there is no such file: an exercise is a YAML file, by its path from where you are\n",
        ),
        ("empty", 1, "farsock: empty: there are no exercises (*.yaml) here\n"),
        ("picture.yaml", 1, "farsock: picture.yaml: it is no text: an exercise is a YAML file\n"),
    ] {
        let ran = type_in(home, &["run", file]).await;
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(code), "", told), "{file}");
    }
    let ran = type_in(home, &["run", "hello.yaml", "--inventory", "helo.yaml"]).await;
    assert_eq!(ran.err, "farsock: --inventory helo.yaml: there is no such file: did you mean `hello.yaml`?\n");
}

#[tokio::test]
async fn a_run_that_was_not_kept() {
    let home = home();
    let home = home.path();
    let ran = type_in(home, &["replay", "yesterday"]).await;
    let told = "farsock: yesterday: there is no such run: `farsock run FILE --save DIR` keeps one in DIR\n";
    assert_eq!((ran.code, ran.err.as_str()), (Some(1), told));
    let ran = type_in(home, &["replay", "hello.yaml"]).await;
    let told =
        "farsock: hello.yaml: line 1 is no line of a run, as `run --json` prints them and `run --save` keeps them: ";
    assert!(ran.code == Some(1) && ran.err.starts_with(told), "{ran:?}");
}

#[tokio::test]
async fn certificates_that_nobody_has_made() {
    let home = home();
    let ran = type_in(home.path(), &["pki", "show", "--dir", "pki"]).await;
    let told = "farsock: pki: there are no certificates yet: `farsock pki init` makes a CA, which issues them; --dir names another place\n";
    assert_eq!((ran.code, ran.err.as_str()), (Some(3), told));
}

#[tokio::test]
async fn a_host_that_is_not_there() {
    let home = home();
    let home = home.path();
    // RFC 6761: no name below `invalid` is anybody's.
    let told = reach(home, "lab-a.invalid", &[]).await;
    assert!(told.starts_with("farsock: a (lab-a.invalid:7625): there is no host `lab-a.invalid` ("), "{told}");
    assert!(
        told.ends_with(
            "): is the name right? An address does as well, and a name of an inventory needs --inventory FILE\n"
        ),
        "{told}"
    );
    let ran = type_in(home, &["run", "hello.yaml", "--host", "b=7625"]).await;
    assert_eq!(ran.err, "farsock: --host: no exercise has a host `b`: there is a\n");
    let ran = type_in(home, &["run", "hello.yaml", "--host", "a"]).await;
    assert_eq!(ran.err, "farsock: --host a: ROLE=AGENT is needed\n");
    let ran = type_in(home, &["run", "hello.yaml", "--host", "a="]).await;
    assert_eq!(
        ran.err,
        "farsock: --host a=: it says no agent: an agent is at HOST:PORT, unix:PATH or ssh://USER@HOST\n"
    );
}

#[tokio::test]
async fn an_agent_that_is_not_running() {
    let home = home();
    let home = home.path();
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let help = "is an agent running there? `farsock agent` starts one, and says where it is reached\n";
    let told = reach(home, &free.to_string(), &[]).await;
    assert_eq!(told, format!("farsock: a ({free}): Connection refused (os error 111): {help}"));
    let told = reach(home, "unix:nobody.sock", &[]).await;
    assert_eq!(told, format!("farsock: a (unix:nobody.sock): No such file or directory (os error 2): {help}"));
}

/// Somebody else has the port: a web server, say.
#[tokio::test]
async fn a_port_that_is_not_the_agents() {
    let home = home();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; 24]).await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    let told = reach(home.path(), &address.to_string(), &[]).await;
    let port = address.port();
    assert_eq!(
        told,
        format!(
            "farsock: a ({address}): what listens on port {port} of 127.0.0.1 is no agent: `farsock agent` says which port it has, 7625 where nothing else is said\n"
        )
    );
    server.await.unwrap();
}

#[tokio::test]
async fn a_token_that_is_missing_or_wrong() {
    let home = home();
    let home = home.path();
    let agent = AgentProcess::start().await;
    let tcp = agent.tcp();
    let told = reach(home, &tcp, &[]).await;
    let needed = "a token is needed: `authorization: Bearer TOKEN`, from the file that the agent named when it started; `farsock` takes that file by --token-file";
    assert_eq!(told, format!("farsock: a ({tcp}): {needed}\n"));
    let old = home.join("old.token");
    write_private(&old, "0123456789abcdef").unwrap();
    let told = reach(home, &tcp, &["--token-file", "old.token"]).await;
    let wrong = "this is not the agent's token: it is in the file that the agent named when it started, and another one after a restart";
    assert_eq!(told, format!("farsock: a ({tcp}): {wrong}\n"));
    let told = reach(home, &tcp, &["--token-file", "none.token"]).await;
    let none = "no token in none.token: there is no such file; is the agent running, on this host, as you?";
    assert_eq!(told, format!("farsock: {none}\n"));
    // What others can read is no secret, and is not shown to anybody.
    fs::set_permissions(&old, Permissions::from_mode(0o640)).unwrap();
    let told = reach(home, &tcp, &["--token-file", "old.token"]).await;
    assert_eq!(told, "farsock: old.token can be read by others: make it private (chmod 600 old.token)\n");
    // With the file that the agent has named it works.
    let file = agent.ready["token_file"].as_str().unwrap();
    let ran = type_in(home, &["run", "-q", "hello.yaml", "--host", &format!("a={tcp}"), "--token-file", file]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    agent.stop().await;
}

/// An agent that is older than what it is asked: it serves, and knows none of the requests.
#[tokio::test]
async fn an_agent_of_another_version() {
    let home = home();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_reporter, health) = tonic_health::server::health_reporter();
    let old = tokio::spawn(Server::builder().add_service(health).serve_with_incoming(TcpIncoming::from(listener)));
    let told = reach(home.path(), &address.to_string(), &[]).await;
    let version = env!("CARGO_PKG_VERSION");
    let said = "the agent does not have this RPC: it is of another version than this `farsock`, which is";
    assert_eq!(told, format!("farsock: a ({address}): {said} {version}: install the same one on both sides\n"));
    old.abort();
}
