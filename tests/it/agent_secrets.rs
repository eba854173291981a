//! What nobody but its owner may see stands nowhere else: not in /proc, not in a log at any level, not in the audit.

use std::fs;
use std::path::Path;

use farsock::wire::pb;
use farsock::wire::pb::agent_service_client::AgentServiceClient;
use tempfile::TempDir;

use crate::harness::{
    AgentProcess, Certificates, LOOPBACKS, QUESTION, UdpPeer, datagram, farsock, tcp_channel, tls_client, with_token,
};

/// A payload that would be noticed.
const PAYLOAD: &str = "correct-horse-battery-staple";

/// Whether a file has some text in it, as text or as the hexadecimal digits of its bytes.
fn tells(bytes: &[u8], secret: &str) -> bool {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let text = String::from_utf8_lossy(bytes);
    text.contains(secret) || text.contains(&hex)
}

/// Everything that the kernel tells everybody of a process, but for what it does not tell at all.
fn told_by_the_kernel(pid: u32) -> Vec<u8> {
    let mut all = Vec::new();
    for name in ["cmdline", "environ", "comm", "status", "stat", "maps", "limits", "wchan", "mountinfo", "net/unix"] {
        all.extend(fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default());
    }
    for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap().filter_map(Result::ok) {
        all.extend(fs::read(thread.path().join("comm")).unwrap_or_default());
    }
    for descriptor in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().filter_map(Result::ok) {
        let target = fs::read_link(descriptor.path()).unwrap_or_default();
        all.extend(target.display().to_string().into_bytes());
    }
    all
}

/// Sends and receives the payload, by text and by hex.
async fn work(agent: &AgentProcess) {
    let (agent, peer) = (agent.agent(), UdpPeer::bind(LOOPBACKS[0]).await);
    let socket = agent.udp("s", LOOPBACKS[0]).await;
    agent.try_send("s", vec![datagram(&peer.text(), PAYLOAD)]).await.unwrap();
    peer.send(&socket, PAYLOAD.as_bytes()).await;
    agent.event("s", "datagram_received").await;
    // One that fails, and one that is refused.
    let wrong = agent.try_send("s", vec![datagram("255.255.255.255:9", PAYLOAD)]).await;
    drop(wrong);
    assert!(agent.try_send("nobody", vec![datagram(&peer.text(), PAYLOAD)]).await.is_err());
    let write = pb::WriteSocketRequest {
        socket_id: "s".into(),
        payload: Some(pb::Payload { content: Some(pb::payload::Content::Text(PAYLOAD.into())), ..Default::default() }),
        ..Default::default()
    };
    assert!(agent.sockets().write_socket(write).await.is_err());
}

fn look(log: &Path, audit: &Path, pid: u32, secrets: &[(&str, String)]) {
    let (log, audit) = (fs::read(log).unwrap(), fs::read(audit).unwrap());
    assert!(!audit.is_empty() && String::from_utf8_lossy(&audit).contains("SendDatagrams"));
    assert!(String::from_utf8_lossy(&log).contains("TRACE"), "the log says all that it can");
    for (what, secret) in secrets {
        assert!(!tells(&told_by_the_kernel(pid), secret), "/proc tells {what}");
        assert!(!tells(&log, secret), "the log tells {what}");
        assert!(!tells(&audit, secret), "the audit tells {what}");
    }
}

#[tokio::test]
async fn tokens_and_payloads_are_told_nowhere() {
    let folder = TempDir::new().unwrap();
    let (log, audit) = (folder.path().join("log"), folder.path().join("audit.jsonl"));
    let mut command = farsock(folder.path());
    command.env("FARSOCK_LOG", "trace").args(["agent", "--listen", "127.0.0.1:0", "--audit"]).arg(&audit);
    command.arg("--listen").arg(format!("unix:{}", folder.path().join("agent.sock").display()));
    let agent = AgentProcess::spawn_logging(command, TempDir::new().unwrap(), &log).await;
    let mut client = AgentServiceClient::new(tcp_channel(&agent.tcp()));
    client.get_agent(with_token(QUESTION, &agent.token())).await.unwrap();
    // A token of somebody's that is wrong here may be right elsewhere.
    let other = "0123456789abcdef".repeat(4);
    assert!(client.get_agent(with_token(QUESTION, &other)).await.is_err());
    work(&agent).await;
    let secrets = [("the token", agent.token()), ("a wrong token", other), ("a payload", PAYLOAD.to_owned())];
    look(&log, &audit, agent.pid(), &secrets);
    agent.stop().await;
}

#[tokio::test]
async fn private_keys_are_told_nowhere() {
    let (lab, folder) = (Certificates::new(), TempDir::new().unwrap());
    let (log, audit) = (folder.path().join("log"), folder.path().join("audit.jsonl"));
    let files = lab.agent();
    let mut command = farsock(folder.path());
    command.env("FARSOCK_LOG", "trace").args(["agent", "--listen", "127.0.0.1:0", "--audit"]).arg(&audit);
    command.arg("--listen").arg(format!("unix:{}", folder.path().join("agent.sock").display()));
    command.arg("--tls-cert").arg(&files.certificate);
    let agent = AgentProcess::spawn_logging(command, TempDir::new().unwrap(), &log).await;
    tls_client(&agent.tcp(), &lab.controller("alice")).info().await.unwrap();
    work(&agent).await;
    let key = fs::read_to_string(&files.key).unwrap();
    let lines = key.lines().filter(|line| !line.starts_with("-----"));
    let secrets: Vec<(&str, String)> = lines.map(|line| ("a private key", line.to_owned())).collect();
    assert!(!secrets.is_empty());
    look(&log, &audit, agent.pid(), &secrets);
    agent.stop().await;
}
