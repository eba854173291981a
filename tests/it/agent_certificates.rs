//! Certificates that are not good any more while an agent serves: they expire, or it believes another CA.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use farsock::agent::AgentConfig;
use farsock::client::ClientError;
use farsock::model::id::SessionId;
use farsock::model::limits::Defaults;
use farsock::pki::IdentityFiles;
use farsock::wire::pb;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot::error::TryRecvError;
use tokio_rustls::TlsConnector;

use crate::harness::frames::becomes;
use crate::harness::{
    Agent, AgentProcess, Certificates, DAY, QUESTION, farsock, identity, tls_channel, tls_client, within,
};

/// A controller whose certificate expires is out, and what it has left open goes when it does not come back with a new one.
#[tokio::test]
async fn a_connection_ends_with_its_certificate_and_then_what_was_left_open() {
    let lab = Certificates::new();
    let defaults = Defaults { lease_ttl: Duration::from_millis(500), ..Defaults::default() };
    let agent = Agent::start_with(AgentConfig { defaults, ..lab.config("127.0.0.1:0") }).await;
    let address = agent.tcp().to_string();
    // Certificates end with a second: these have between two and three of them.
    let alice = Agent::at(tls_channel(&address, &lab.controller_for("alice", Duration::from_secs(3))));
    let bob = Agent::at(tls_channel(&address, &lab.controller_for("bob", Duration::from_secs(3))));
    let alices = alice.listen("door", "127.0.0.1:0").await;
    let bobs = bob.listen("door", "127.0.0.1:0").await;
    let cut = async |who: &Agent| {
        let mut watch = who.events().watch_events(pb::WatchEventsRequest::default()).await.unwrap().into_inner();
        within("the end of a watch", async { while let Ok(Some(_)) = watch.message().await {} }).await;
    };
    tokio::join!(cut(&alice), cut(&bob));
    // Alice has a new certificate.
    let alice = Agent::at(tls_channel(&address, &lab.controller("alice")));
    assert_eq!(alice.socket("door").await.state(), pb::SocketState::Listening);
    // Bob's listener goes, and hers stays.
    becomes("the end of what was bob's", || async { TcpStream::connect(&bobs).await.is_err() }).await;
    assert!(TcpStream::connect(&alices).await.is_ok());
    agent.stop().await;
}

/// The same where nobody is connected at that moment: what was left open stays no longer than for those who are.
#[tokio::test]
async fn what_was_left_open_ends_with_the_certificate_of_somebody_who_is_not_connected() {
    let lab = Certificates::new();
    let defaults = Defaults { lease_ttl: Duration::from_millis(500), ..Defaults::default() };
    let agent = Agent::start_with(AgentConfig { defaults, ..lab.config("127.0.0.1:0") }).await;
    let address = agent.tcp().to_string();
    let leave_open = async |name: &str| {
        let who = Agent::at(tls_channel(&address, &lab.controller_for(name, Duration::from_secs(3))));
        who.listen("door", "127.0.0.1:0").await
    };
    let bobs = leave_open("bob").await;
    // Bob comes once more, with a certificate that is good for longer.
    tls_client(&address, &lab.controller("bob")).info().await.unwrap();
    let alices = leave_open("alice").await;
    becomes("nobody there", || async { connections(&agent).await == 1 }).await;
    becomes("the end of what was alice's", || async { TcpStream::connect(&alices).await.is_err() }).await;
    assert!(TcpStream::connect(&bobs).await.is_ok());
    agent.stop().await;
}

/// How many connections there are.
async fn connections(agent: &Agent) -> u64 {
    let told = agent.agent().get_agent(QUESTION).await.unwrap().into_inner().agent.unwrap();
    told.usage.iter().find(|usage| usage.name == "connections").unwrap().used
}

/// An agent that believes two CAs, with its files in a folder of their own.
async fn believing(lab: &Certificates, next: &Certificates, folder: &TempDir) -> Agent {
    let from = lab.agent();
    for (from, name) in [(&from.certificate, "a.pem"), (&from.key, "a.key")] {
        fs::copy(from, folder.path().join(name)).unwrap();
    }
    believe(&[lab, next], folder);
    let defaults = Defaults { lease_ttl: Duration::from_millis(500), ..Defaults::default() };
    let tls = Some(IdentityFiles::of(&folder.path().join("a.pem")));
    Agent::start_with(AgentConfig { tls, defaults, login_timeout: DAY, ..lab.config("127.0.0.1:0") }).await
}

/// It believes these at the next reload.
fn believe(authorities: &[&Certificates], folder: &TempDir) {
    let text = |lab: &&Certificates| fs::read_to_string(lab.folder.path().join("ca.pem")).unwrap();
    fs::write(folder.path().join("ca.pem"), authorities.iter().map(text).collect::<String>()).unwrap();
}

/// The name of somebody of the other CA, who believes the agent's.
fn of_next(lab: &Certificates, next: &Certificates, name: &str) -> IdentityFiles {
    IdentityFiles { ca: lab.folder.path().join("ca.pem"), ..next.controller(name) }
}

#[tokio::test]
async fn whom_a_reload_cuts_off_loses_what_was_left_open_connected_or_not() {
    let (lab, next, folder) = (Certificates::new(), Certificates::new(), TempDir::new().unwrap());
    let agent = believing(&lab, &next, &folder).await;
    let address = agent.tcp().to_string();
    let come = |files: &IdentityFiles| Agent::at(tls_channel(&address, files));
    let [alice, bob] = ["alice", "bob"].map(|name| come(&of_next(&lab, &next, name)));
    let [carol, dave] = ["carol", "dave"].map(|name| come(&lab.controller(name)));
    let mut doors = Vec::new();
    for who in [&alice, &bob, &carol, &dave] {
        doors.push(who.listen("door", "127.0.0.1:0").await);
    }
    // Bob comes by a certificate of the other CA's, too, though it is good for less time.
    let brief = lab.controller_for("bob", DAY / 2);
    let bob_now = come(&brief);
    assert_eq!(bob_now.socket("door").await.socket_id, "door");
    // Alice stays; nobody else but bob does.
    drop((bob, carol, dave));
    becomes("three there", || async { connections(&agent).await == 3 }).await;
    believe(&[&lab], &folder);
    assert_eq!(agent.reload().await.connections, 1);
    becomes("the end of what was alice's", || async { TcpStream::connect(&doors[0]).await.is_err() }).await;
    for (door, who) in doors[1..].iter().zip(["bob", "carol", "dave"]) {
        assert!(TcpStream::connect(door).await.is_ok(), "{who} has a certificate that is still good");
    }
    // Then those who are not there: the CA goes that has signed theirs.
    let erin = come(&of_next(&lab, &next, "erin"));
    believe(&[&next], &folder);
    assert_eq!(agent.reload().await.connections, 1, "bob's");
    for door in &doors[1..] {
        becomes("the end of what was left open", || async { TcpStream::connect(door).await.is_err() }).await;
    }
    assert!(erin.agent().get_agent(QUESTION).await.is_ok());
    agent.stop().await;
}

/// Somebody begins to shake hands, waits until his CA is no longer believed, and goes on.
#[tokio::test]
async fn a_handshake_that_was_begun_before_a_reload_leads_nowhere_after_it() {
    let (lab, next, folder) = (Certificates::new(), Certificates::new(), TempDir::new().unwrap());
    let agent = believing(&lab, &next, &folder).await;
    let address = agent.tcp().to_string();
    let begin = async |files: &IdentityFiles| {
        let connector = TlsConnector::from(Arc::new(identity(files).client_config().unwrap()));
        let (near, mut far) = tokio::io::duplex(64 << 10);
        let shaking = tokio::spawn(connector.connect("127.0.0.1".to_owned().try_into().unwrap(), near));
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let mut hello = vec![0; 16 << 10];
        let size = within("a greeting", far.read(&mut hello)).await.unwrap();
        stream.write_all(&hello[..size]).await.unwrap();
        // The agent has answered by what it believes now.
        within("an answer", stream.peek(&mut [0])).await.unwrap();
        (shaking, far, stream)
    };
    let mut held = Vec::new();
    for files in [of_next(&lab, &next, "mallory"), lab.controller("alice")] {
        held.push(begin(&files).await);
    }
    believe(&[&lab], &folder);
    agent.reload().await;
    let mut said = Vec::new();
    for (shaking, mut far, mut stream) in held {
        tokio::spawn(async move { tokio::io::copy_bidirectional(&mut far, &mut stream).await });
        let mut tls = within("the handshake", shaking).await.unwrap().expect("TLS 1.3 ends it before the agent judges");
        tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut byte = [0];
        said.push(within("a word or the end", tls.read(&mut byte)).await.is_ok_and(|size| size == 1));
    }
    assert_eq!(said, [false, true], "only whom the agent still believes hears anything");
    agent.stop().await;
}

/// `kill -HUP`: new certificates are shown to whoever comes, calls go on, and whom the new CA does not know is out.
#[tokio::test]
async fn certificates_are_read_again_without_a_failed_call() {
    let (lab, next) = (Certificates::new(), Certificates::new());
    let (folder, files) = (TempDir::new().unwrap(), lab.agent());
    let place = |from: &IdentityFiles| {
        for (from, name) in [(&from.certificate, "a.pem"), (&from.key, "a.key"), (&from.ca, "ca.pem")] {
            fs::copy(from, folder.path().join(name)).unwrap();
        }
    };
    place(&files);
    let mut command = farsock(folder.path());
    command.args(["agent", "--listen", "127.0.0.1:0", "--tls-cert", folder.path().join("a.pem").to_str().unwrap()]);
    let mut agent = AgentProcess::spawn_telling(command, TempDir::new().unwrap()).await;
    let (address, alice) = (agent.tcp(), lab.controller("alice"));
    let client = tls_client(&address, &alice);
    let mut watch = client.watch(&SessionId::default()).await.unwrap();
    // Calls that go on all the while, one after the other.
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let busy = tokio::spawn({
        let client = client.clone();
        async move {
            let mut calls = 0;
            while stopped.try_recv() == Err(TryRecvError::Empty) {
                client.info().await.unwrap();
                calls += 1;
            }
            calls
        }
    });
    // The same CA gives the agent a new certificate and a new key.
    place(&lab.agent());
    agent.signal(Signal::HUP);
    assert_eq!(agent.complaint().await, "farsock: credentials were read again; connections that were ended by it: 0");
    assert!(tls_client(&address, &alice).info().await.is_ok());
    // Something is wrong with the files: everything stays as it was.
    fs::write(folder.path().join("a.key"), "no key").unwrap();
    agent.signal(Signal::HUP);
    let line = agent.complaint().await;
    assert!(
        line.starts_with("farsock: credentials stay as they were: ") && line.contains("a.key holds no private key"),
        "{line}"
    );
    assert!(tls_client(&address, &alice).info().await.is_ok());
    drop(stop);
    assert!(within("the calls", busy).await.unwrap() > 0);
    // Another CA: alice is out, with her connections, and whoever it has signed is in.
    place(&next.agent());
    agent.signal(Signal::HUP);
    let line = agent.complaint().await;
    assert!(line.ends_with("connections that were ended by it: 2") || line.ends_with(": 3"), "{line}");
    assert!(tls_client(&address, &next.controller("alice")).info().await.is_ok());
    assert!(matches!(within("an answer", client.info()).await, Err(ClientError::Unauthenticated { .. })));
    let out = within("the watch's end", async {
        loop {
            if let Err(error) = watch.next().await {
                break error;
            }
        }
    });
    assert!(matches!(out.await, ClientError::Unauthenticated { .. }));
    agent.stop().await;
}
