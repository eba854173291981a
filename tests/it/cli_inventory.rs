//! `--inventory`: hosts of exercises by the names of a lab, in the file that the clients in other languages read, too, and in the one that
//! containerlab writes for Ansible.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use farsock::pki::write_private;
use tempfile::TempDir;

use crate::harness::sshd::Sshd;
use crate::harness::{AgentProcess, Certificates, Ran, farsock, run};

const GREETING: &str = "tests/exercises/tutorials/000-greeting.yaml";

/// Writes a file, and answers where it is.
fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}

/// Types `farsock WORDS --inventory FILE`.
async fn with_inventory(folder: &Path, words: &[&str], inventory: &Path) -> Ran {
    let mut command = farsock(folder);
    command.args(words).arg("--inventory").arg(inventory);
    run(command).await
}

/// Agents by each way there is: with a token in a file and in a variable, with a certificate, by a Unix socket.
#[tokio::test]
async fn hosts_of_an_inventory_are_reached_as_it_says() {
    let folder = TempDir::new().unwrap();
    let certificates = Certificates::new();
    let (own, alice) = (certificates.agent(), certificates.controller("alice"));
    let mut secured = farsock(folder.path());
    secured.args(["agent", "--listen", "127.0.0.1:0", "--tls-cert", own.certificate.to_str().unwrap()]);
    let secured = AgentProcess::spawn(secured, TempDir::new().unwrap()).await;
    let [filed, named, local] = [AgentProcess::start().await, AgentProcess::start().await, AgentProcess::start().await];
    fs::create_dir(folder.path().join("secret")).unwrap();
    write_private(&folder.path().join("secret/a.token"), &filed.token()).unwrap();
    let inventory = write(
        folder.path(),
        "lab.yaml",
        &format!(
            "hosts:\n  by-file: {{agent: '{}', token_file: secret/a.token}}\n  by-variable: {{agent: '{}', token_env: LAB_B}}\n\
             \x20 by-certificate: {{agent: '{}', tls_cert: '{}'}}\n  by-path: unix:{}\n",
            filed.tcp(),
            named.tcp(),
            secured.tcp(),
            alice.certificate.display(),
            local.unix().display(),
        ),
    );
    for (server, client) in [("by-file", "by-variable"), ("by-certificate", "by-path"), ("by-path", "by-file")] {
        let mut command = farsock(folder.path());
        command.args(["run", GREETING, "--inventory", inventory.to_str().unwrap()]).env("LAB_B", named.token());
        command.args(["--host", &format!("server={server}"), "--host", &format!("client={client}")]);
        let ran = run(command).await;
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{server} {client}: {}", ran.out);
        for (role, name) in [("server", server), ("client", client)] {
            let told = ran.out.lines().any(|line| line.contains(role) && line.contains(&format!("  {name} ")));
            assert!(told, "{role} {name}: {}", ran.out);
        }
    }
    let ran = with_inventory(folder.path(), &["run", GREETING, "--host", "server=by-variable"], &inventory).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    let said = "there is no variable LAB_B in the environment, which `token_env` says has the token";
    assert!(ran.err.contains(&format!("by-variable in {}: {said}", inventory.display())), "{ran:?}");
    for agent in [secured, filed, named, local] {
        agent.stop().await;
    }
}

/// Names, groups and labels in the exercise itself, and the addresses that an inventory knows.
#[tokio::test]
async fn an_exercise_names_hosts_groups_labels_and_networks_of_an_inventory() {
    let folder = TempDir::new().unwrap();
    let agents = [AgentProcess::start().await, AgentProcess::start().await, AgentProcess::start().await];
    let unix = |at: usize| format!("unix:{}", agents[at].unix().display());
    let inventory = write(
        folder.path(),
        "lab.yaml",
        &format!(
            "hosts:\n  lab-a: {{agent: '{}', groups: [servers]}}\n  lab-b:\n    agent: '{}'\n    groups: [servers]\n\
             \x20   addresses: {{front: 127.0.0.9, back: ['::1']}}\n  lab-c: {{agent: '{}', labels: {{site: madrid}}}}\n",
            unix(0),
            unix(1),
            unix(2),
        ),
    );
    let exercise = write(
        folder.path(),
        "names.yaml",
        "exercise: Names\nhosts: { one: servers, server: lab-b, client: site=madrid }\nsteps:\n\
         \x20 - { on: server, listen: '${server.front}:0', as: door }\n  - { on: client, connect: '127.0.0.9:${door.port}', as: line }\n\
         \x20 - { on: server, listen: '${server.back}:0', as: gate }\n  - { on: one, connect: '${gate}', as: other }\n\
         \x20 - { on: client, close: line }\n  - { on: one, close: other }\n",
    );
    let file = exercise.to_str().unwrap();
    let ran = with_inventory(folder.path(), &["check", file], &inventory).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    let ran = with_inventory(folder.path(), &["run", file], &inventory).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    for (role, name) in [("one", "lab-a"), ("server", "lab-b"), ("client", "lab-c")] {
        assert!(ran.out.lines().any(|line| line.contains(role) && line.contains(&format!("  {name} "))), "{}", ran.out);
    }
    // The environment names it, too.
    let mut command = farsock(folder.path());
    command.args(["run", "-q", file]).env("FARSOCK_INVENTORY", &inventory);
    assert_eq!(run(command).await.code, Some(0));
    // Without it, nobody has addresses in networks.
    let mut command = farsock(folder.path());
    command.args(["check", file]);
    let ran = run(command).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.err.contains("`server` has no address in a network `front`"), "{}", ran.err);
    for agent in agents {
        agent.stop().await;
    }
}

/// The inventory that containerlab writes of a lab, with no word changed: its agents are at port 7625 of the addresses there.
#[tokio::test]
async fn what_containerlab_writes_is_an_inventory() {
    let folder = TempDir::new().unwrap();
    let inventory = write(
        folder.path(),
        "ansible-inventory.yml",
        "all:\n  vars:\n    ansible_httpapi_use_proxy: false\n  children:\n    linux:\n      hosts:\n        clab-dmz-web:\n          ansible_host: 127.9.8.7\n\
         \x20       clab-dmz-client:\n          ansible_host: 127.9.8.6\n",
    );
    let mut agents = Vec::new();
    for address in ["127.9.8.7", "127.9.8.6"] {
        let mut command = farsock(folder.path());
        command.args(["agent", "--no-auth", "--listen", &format!("{address}:7625"), "--lab-address", address]);
        agents.push(AgentProcess::spawn(command, TempDir::new().unwrap()).await);
    }
    let words = ["run", GREETING, "--host", "server=clab-dmz-web", "--host", "client=linux"];
    let ran = with_inventory(folder.path(), &words, &inventory).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    assert!(
        ran.out.contains("clab-dmz-web 127.9.8.7:7625") && ran.out.contains("clab-dmz-client 127.9.8.6:7625"),
        "{}",
        ran.out
    );
    for agent in agents {
        agent.stop().await;
    }
}

#[tokio::test]
async fn an_inventory_says_where_the_program_is_that_ssh_starts() {
    let Some(sshd) = Sshd::start().await else { return };
    let folder = TempDir::new().unwrap();
    let listed = |program: &str| {
        let text = format!("hosts:\n  far: {{agent: '{}', program: {program}}}\n", sshd.endpoint());
        write(folder.path(), "lab.yaml", &text)
    };
    for (program, code) in [(env!("CARGO_BIN_EXE_farsock"), 0), ("/nowhere/farsock", 3)] {
        let mut command = sshd.farsock();
        command.args(["run", GREETING, "--host", "server=far", "--inventory"]).arg(listed(program));
        let ran = run(command).await;
        assert_eq!(ran.code, Some(code), "{ran:?}");
        if code == 3 {
            let said = "there is no `/nowhere/farsock` on 127.0.0.1: install it in the PATH that ssh has there, or say where it is (`program:` in the inventory)";
            assert!(ran.err.contains(said), "{ran:?}");
        }
    }
    sshd.is_left_clean().await;
}

/// ssh, and whatever it starts by its configuration, learns nothing of what opens other agents.
#[tokio::test]
async fn no_token_is_in_the_environment_of_ssh() {
    let folder = TempDir::new().unwrap();
    let ssh = write(folder.path(), "ssh", "#!/bin/sh\nenv >\"${0%/*}/told\"\nexit 255\n");
    fs::set_permissions(&ssh, Permissions::from_mode(0o755)).unwrap();
    let lab = "hosts:\n  far: ssh://far\n  near: {agent: '7625', token_env: LAB_B}\n";
    let lab = write(folder.path(), "lab.yaml", lab);
    for words in [&["run", GREETING, "--host", "server=far"][..], &["hosts", "far"], &["hosts", "ssh://other"]] {
        let mut command = farsock(folder.path());
        command.args(words).arg("--inventory").arg(&lab).env("FARSOCK_SSH", &ssh);
        for (name, value) in [("LAB_B", "secret"), ("FARSOCK_TOKEN", "secret"), ("LAB_BB", "public")] {
            command.env(name, value);
        }
        let ran = run(command).await;
        assert_eq!(ran.code, Some(3), "{ran:?}");
        let told = fs::read_to_string(folder.path().join("told")).unwrap();
        assert!(!told.contains("secret") && told.contains("LAB_BB=public\n"), "{words:?}: {told}");
        fs::remove_file(folder.path().join("told")).unwrap();
    }
}

/// What is wrong with an inventory, or with what an exercise wants of it, is told as what is wrong with an exercise.
#[tokio::test]
async fn what_is_wrong_is_told_with_its_place() {
    let folder = TempDir::new().unwrap();
    let exercise =
        "exercise: x\nhosts:\n  a: lab-q\nsteps:\n  - { on: a, listen: ':0', as: door }\n  - { on: a, close: door }\n";
    let exercise = write(folder.path(), "x.yaml", exercise);
    let file = exercise.to_str().unwrap();
    let wrong = write(folder.path(), "wrong.yaml", "hosts:\n  lab-a: {agnt: 'x:1'}\n");
    for command in ["run", "check"] {
        let ran = with_inventory(folder.path(), &[command, file], &wrong).await;
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{ran:?}");
        let told = ran.err.replace(folder.path().to_str().unwrap(), "~");
        assert!(told.contains("there is no `agnt` here") && told.contains("~/wrong.yaml:2:11"), "{told}");
        assert!(told.contains("did you mean `agent`?") && told.ends_with("~/wrong.yaml: 1 mistake\n"), "{told}");
    }
    let lab = write(folder.path(), "lab.yaml", "hosts:\n  lab-a: 'x:1'\n");
    let ran = with_inventory(folder.path(), &["check", file], &lab).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{ran:?}");
    let told = ran.err.replace(folder.path().to_str().unwrap(), "~");
    assert!(
        told.contains("there is no host or group `lab-q` in ~/lab.yaml") && told.contains("~/x.yaml:3:6"),
        "{told}"
    );
    assert!(told.contains("did you mean `lab-a`?") && told.contains("written with its port: lab-q:7625"), "{told}");

    let ran = with_inventory(folder.path(), &["run", file, "--host", "a=lab-b"], &lab).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.err.starts_with("farsock: --host a=lab-b: there is no host or group `lab-b` in "), "{ran:?}");
    let ran = with_inventory(folder.path(), &["run", file, "--host", "b=lab-a"], &lab).await;
    assert!(ran.err.contains("there is no host or group `lab-q`"), "the exercise is looked at first: {ran:?}");
    let ran = with_inventory(folder.path(), &["run", file, "--host", "a=lab-a", "--host", "b=lab-a"], &lab).await;
    assert_eq!(ran.err, "farsock: --host: no exercise has a host `b`: there is a\n");
    let ran = with_inventory(folder.path(), &["check", file], &folder.path().join("none.yaml")).await;
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err.contains("none.yaml: there is no such file: ") && ran.err.starts_with("farsock: --inventory "),
        "{ran:?}"
    );
}

/// A name that leads nowhere is not passed over in silence.
#[tokio::test]
async fn an_embedded_agent_that_stands_in_is_told_of() {
    let folder = TempDir::new().unwrap();
    let text = "exercise: x\nhosts: { a: lab-a, b: }\nsteps:\n  - { on: a, listen: ':0', as: door }\n  - { on: b, connect: '${door}', as: line }\n\
                \x20 - { on: b, close: line }\n";
    let exercise = write(folder.path(), "x.yaml", text);
    let file = exercise.to_str().unwrap();
    let mut command = farsock(folder.path());
    command.args(["run", "-q", file]);
    let ran = run(command).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let said = "farsock: a: `lab-a` is a name of an inventory, and none is given (--inventory FILE): an embedded agent plays it\n";
    assert_eq!(ran.err, said);
    let agent = AgentProcess::start_with(&["--lab-address", "127.0.0.1"]).await;
    let lab = write(folder.path(), "lab.yaml", &format!("hosts:\n  lab-a: unix:{}\n", agent.unix().display()));
    let ran = with_inventory(folder.path(), &["run", "-q", file], &lab).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let said = format!(
        "farsock: b: the exercise names no agent, and {} has no `b`: an embedded agent plays it\n",
        lab.display()
    );
    assert_eq!(ran.err, said);
    agent.stop().await;
}
