//! The agent's own port on every address of its host, those that the host gets while the agent runs included, where the lab's sockets are in
//! another network.

use std::fs;
use std::net::TcpStream;

use farsock::wire::pb;
use tempfile::TempDir;

use crate::harness::tcp::{connecting_to, went};
use crate::harness::{AgentProcess, Certificates, Namespace, farsock_in};

#[tokio::test]
async fn the_agents_own_port_is_kept_on_addresses_that_come_later_too() {
    let Some((home, lab)) = Namespace::two() else { return };
    home.cable(&lab, "wire", &[("10.77.0.1/24", "10.77.0.2/24"), ("fd77::1/64", "fd77::2/64")]);
    let (folder, certificates) = (TempDir::new().unwrap(), Certificates::new());
    let policy = folder.path().join("policy.yaml");
    fs::write(
        &policy,
        "policy: All\nprincipals: { owner: student }\nrules: [{ allow: any, addresses: [any, loopback, wildcard] }]\n",
    )
    .unwrap();
    let mut command = farsock_in(&home, folder.path());
    command.args(["agent", "--listen", "[::]:7625", "--listen"]);
    command.arg(format!("unix:{}", folder.path().join("agent.sock").display())).arg("--policy").arg(&policy);
    command.arg("--audit").arg(folder.path().join("audit.jsonl"));
    command.arg("--tls-cert").arg(certificates.agent().certificate).args(["--lab-netns", "/proc/self/fd/0"]);
    command.stdin(lab.stdio());
    let process = AgentProcess::spawn(command, TempDir::new().unwrap()).await;
    let agent = process.agent();

    // An address of each family, another one of the lab, and a whole network of which no interface says that it is there.
    home.ip("address add 10.77.0.9/24 dev wire");
    home.ip("address add fd77::9/64 nodad dev wire");
    home.ip("route add local 10.88.0.0/16 dev lo");
    lab.ip("route add 10.88.0.0/16 via 10.77.0.1");
    lab.ip("address add 10.77.0.8/24 dev wire");
    for ip in ["10.77.0.1", "10.77.0.9", "10.88.7.7", "[fd77::1]", "[fd77::9]"] {
        let to = format!("{ip}:7625");
        assert!(lab.enter(|| TcpStream::connect(&to)).is_ok(), "{to} leads to the agent");
        let refused = agent.create_tcp("", connecting_to(&to)).await.unwrap_err();
        assert_eq!(refused.reason, "POLICY_DENIED", "{to}");
        assert!(refused.message.contains("controlled"), "{}", refused.message);
        // All else there may be used.
        assert_eq!(went(&agent.create_tcp("", connecting_to(&format!("{ip}:7626"))).await), "ECONNREFUSED");
    }
    for local in ["10.77.0.8:7625", "[::]:7625", "10.77.0.9:7625"] {
        let spec = pb::TcpSocketSpec { bind: local.to_owned(), ..Default::default() };
        assert_eq!(went(&agent.create_tcp("", spec).await), "POLICY_DENIED", "{local}");
    }
    // What is nobody's here is not kept.
    let spec = pb::TcpSocketSpec { bind: "10.99.0.1:7625".into(), ..Default::default() };
    assert_eq!(went(&agent.create_tcp("", spec).await), "EADDRNOTAVAIL");
    process.stop().await;
}
