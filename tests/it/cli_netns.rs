//! `farsock run --netns`: exercises whose hosts are network namespaces, joined as they say; to the end, at Ctrl-C, and when the controller is killed.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::harness::{Ran, Running, farsock, farsock_lies_in, run, run_farsock, skipped, within};

const WAITS: &str = "exercise: Waits\nhosts: { a: , b: }\nsteps:\n  - { on: a, listen: \":0\", as: door }\n\
                     \x20 - { on: a, accept: door, as: guest, within: 10m }\n  - { on: a, close: guest }\n";

/// Whether this process may make network namespaces.
async fn can() -> bool {
    let can = sh("unshare --net true && command -v ip").await.code == Some(0);
    if !can {
        skipped("network namespaces need root, and ip(8)");
    }
    can
}

async fn sh(line: &str) -> Ran {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", line]);
    run(command).await
}

/// The namespaces of a run, by its number.
fn namespaces(number: &str) -> Vec<String> {
    let names = fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with(&format!("farsock-{number}"))).collect()
}

/// Runs an exercise that waits until it is ended, and answers with the number of the run.
async fn waiting(folder: &Path) -> (Running, String) {
    waiting_with(folder, &[]).await
}

async fn waiting_with(folder: &Path, environment: &[(&str, &str)]) -> (Running, String) {
    let file = folder.join("waits.yaml");
    fs::write(&file, WAITS).unwrap();
    let mut command = farsock(folder);
    command.args(["run", "--netns", "--json"]).arg(&file).envs(environment.iter().copied());
    let mut running = Running::spawn(command);
    let mut number = String::new();
    loop {
        let line: Value = serde_json::from_str(&running.line().await.unwrap()).unwrap();
        if line["type"] == "hosts" {
            let place = line["hosts"][0]["agent"].as_str().unwrap();
            number = place.strip_prefix("netns farsock-").unwrap().strip_suffix(".a").unwrap().to_owned();
        }
        if line["type"] == "step" {
            return (running, number);
        }
    }
}

/// To make networks takes its time, which is told before it is over.
#[tokio::test]
async fn who_waits_for_networks_is_told_so() {
    if !can().await {
        return;
    }
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("waits.yaml");
    fs::write(&file, WAITS).unwrap();
    let mut command = farsock(folder.path());
    command.args(["run", "--netns", "--json"]).arg(&file);
    let mut running = Running::spawn(command);
    let mut line = async || serde_json::from_str::<Value>(&running.line().await.unwrap()).unwrap();
    assert_eq!(line().await["type"], "exercise");
    let wanted = json!({ "type": "progress", "phase": "network", "done": 0, "of": 2, "waiting_for": ["a", "b"] });
    assert_eq!(line().await, wanted);
    while line().await["type"] != "step" {}
    running.signal(Signal::INT);
    assert_eq!(running.end().await.code, Some(3));
}

#[tokio::test]
async fn the_exercises_on_networks_pass_in_namespaces() {
    if !can().await {
        return;
    }
    let has_nft = sh("command -v nft").await.code == Some(0);
    let mut files: Vec<_> =
        fs::read_dir("tests/exercises/networks").unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "yaml"));
    files.sort();
    for file in files {
        let needs_nft = fs::read_to_string(&file).unwrap().contains("nft:");
        let file = file.to_str().unwrap();
        let ran = run_farsock(&["run", "-q", "--netns", file]).await;
        if needs_nft && !has_nft {
            assert_eq!(ran.code, Some(3), "{ran:?}");
            assert!(
                ran.err.contains(".nft: the rules are not loaded: there is no `nft` here: install nftables"),
                "{ran:?}"
            );
            skipped("there is no nft(8)");
            continue;
        }
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    }
}

/// Neither what opens other agents, by whatever name, nor what is said to an agent of the user.
#[tokio::test]
async fn agents_in_namespaces_learn_nothing_of_the_environment_that_is_not_for_them() {
    if !can().await {
        return;
    }
    let folder = TempDir::new().unwrap();
    let (running, number) = waiting_with(folder.path(), &[("LAB_B", "secret"), ("FARSOCK_LISTEN", "secret")]).await;
    let ran = sh(&format!("ip netns pids farsock-{number}.a")).await;
    let environment = fs::read_to_string(format!("/proc/{}/environ", ran.out.trim())).unwrap();
    assert!(environment.contains("XDG_RUNTIME_DIR=") && !environment.contains("secret"), "{environment}");
    running.signal(Signal::INT);
    assert_eq!(running.end().await.code, Some(3));
}

/// What embedded agents play, namespaces play as well.
#[tokio::test]
async fn exercises_without_networks_pass_in_one_room() {
    if !can().await {
        return;
    }
    let folder = TempDir::new().unwrap();
    for file in ["000-greeting.yaml", "001-datagrams.yaml", "004-two-clients.yaml"] {
        let mut command = farsock(folder.path());
        command.args(["run", "--netns", "--json", &format!("tests/exercises/tutorials/{file}")]);
        // An inventory says nothing of namespaces.
        let ran = run(with_lab(command, folder.path())).await;
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
        let hosts = ran.out.lines().find(|line| line.contains("\"type\":\"hosts\"")).unwrap();
        let hosts: Value = serde_json::from_str(hosts).unwrap();
        assert_eq!(hosts["hosts"][0]["lab_address"], "10.77.0.1");
        let place = hosts["hosts"][0]["agent"].as_str().unwrap().strip_prefix("netns farsock-").unwrap();
        assert_eq!(namespaces(&place[..8]), [""; 0], "all of them are gone");
    }
    assert!(fs::read_dir(folder.path().join("farsock")).unwrap().next().is_none(), "and their sockets");
}

fn with_lab(mut command: Command, folder: &Path) -> Command {
    let lab = folder.join("lab.yaml");
    fs::write(&lab, "hosts: {server: '127.0.0.1:1', client: '127.0.0.1:2'}\n").unwrap();
    command.env("FARSOCK_INVENTORY", lab);
    command
}

#[tokio::test]
async fn ctrl_c_removes_what_a_run_has_made() {
    if !can().await {
        return;
    }
    let folder = TempDir::new().unwrap();
    let (running, number) = waiting(folder.path()).await;
    assert_eq!(namespaces(&number).len(), 3, "two hosts, and what joins them");
    running.signal(Signal::INT);
    let ended = running.end().await;
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.out.contains("\"problem\":\"interrupted\""), "{ended:?}");
    assert_eq!(namespaces(&number), [""; 0]);
}

/// Ctrl-C is heard, too, while a program that is to make networks hangs.
#[tokio::test]
async fn ctrl_c_ends_a_run_that_still_makes_its_networks() {
    if !can().await {
        return;
    }
    let folder = TempDir::new().unwrap();
    let (file, ip) = (folder.path().join("waits.yaml"), folder.path().join("ip"));
    fs::write(&file, WAITS).unwrap();
    fs::write(&ip, "#!/bin/sh\nexec sleep 1000\n").unwrap();
    fs::set_permissions(&ip, Permissions::from_mode(0o755)).unwrap();
    let mut command = farsock(folder.path());
    command.env("PATH", format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap()));
    command.args(["run", "--netns", "--json"]).arg(&file);
    let mut running = Running::spawn(command);
    while !running.line().await.unwrap().contains("\"phase\":\"network\"") {}
    running.signal(Signal::INT);
    let ended = running.end().await;
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.out.contains("\"problem\":\"interrupted\""), "{ended:?}");
}

/// A controller that is killed cannot clean up: its agents end by themselves, and `farsock clean` does the rest.
#[tokio::test]
async fn clean_removes_what_a_killed_run_has_left_and_nothing_else() {
    if !can().await {
        return;
    }
    let folder = TempDir::new().unwrap();
    let (killed, number) = waiting(folder.path()).await;
    let (alive, other) = waiting(folder.path()).await;
    killed.signal(Signal::KILL);
    killed.end().await;
    assert_eq!(namespaces(&number).len(), 3);
    let agents = format!("while ip netns pids farsock-{number}.a | grep -q .; do :; done");
    within("the end of the agents", sh(&agents)).await;
    let mut command = farsock(folder.path());
    command.arg("clean");
    let ran = run(command).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    assert!(ran.out.contains(&format!("run {number} was killed: 3 namespaces removed\n")), "{}", ran.out);
    assert!(ran.out.contains(&format!("run {other} goes on: its 3 namespaces stay\n")), "{}", ran.out);
    assert_eq!(namespaces(&number), [""; 0]);
    assert_eq!(namespaces(&other).len(), 3);
    alive.signal(Signal::TERM);
    assert_eq!(alive.end().await.code, Some(3));
    assert_eq!(namespaces(&other), [""; 0]);
}

/// Nobody needs to be root, where the kernel lets users have namespaces of their own.
#[tokio::test]
async fn a_user_who_is_not_root_has_namespaces_too() {
    let as_user = "setpriv --reuid=65534 --regid=65534 --clear-groups --";
    if sh(&format!("{as_user} unshare --user --map-root-user --net --mount true")).await.code != Some(0) {
        return skipped(
            "user namespaces, which this kernel or container denies to a user who is not root; or root, to become one",
        );
    }
    let folder = TempDir::new().unwrap();
    let (own, binary) = (folder.path().display(), farsock_lies_in(folder.path()));
    let binary = binary.display();
    let ran = sh(&format!("chmod 777 {own} && XDG_RUNTIME_DIR={own} {as_user} {binary} run -q --netns tests/exercises/networks/routed.yaml")).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    // In a mount namespace of its own it has left nothing here, and no sockets either. `farsock clean` would take away what another test needs.
    assert!(fs::read_dir(folder.path().join("farsock")).unwrap().next().is_none(), "{ran:?}");

    // One that goes on, in networks that cannot be seen from here, is not taken for one that was killed.
    let file = folder.path().join("waits.yaml");
    fs::write(&file, WAITS).unwrap();
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(format!("exec {as_user} {binary} run --json --netns {}", file.display()));
    command.env("XDG_RUNTIME_DIR", folder.path()).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::spawn(command);
    while !running.line().await.unwrap().contains("\"type\":\"step\"") {}
    let cleaned = sh(&format!("XDG_RUNTIME_DIR={own} {as_user} {binary} clean")).await;
    assert!(cleaned.out.contains(" goes on: its sockets stay\n"), "{cleaned:?}");
    running.signal(Signal::INT);
    let ended = running.end().await;
    assert!(ended.out.contains("\"passed\":1,"), "{ended:?}");
    assert!(ended.out.contains("\"problem\":\"interrupted\""), "{ended:?}");

    // Where it is not allowed, it is said what is.
    let none = format!("{as_user} env PATH={own} {binary} run -q --netns tests/exercises/networks/routed.yaml");
    let ran = sh(&none).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(
        ran.err.starts_with("farsock: --netns needs root, or user namespaces, which this system does not let you have"),
        "{ran:?}"
    );
}

/// The check says what the hosts of a run cannot be, and what could.
#[tokio::test]
async fn what_hosts_cannot_hold_is_told_before_anything_is_made() {
    let dmz = "tests/exercises/networks/routed-dmz.yaml";
    let ran = run_farsock(&["check", dmz]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let ran = run_farsock(&["check", "--netns", dmz]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let ran = run_farsock(&["run", dmz]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
    assert!(
        ran.err.contains("`client` would be played by an embedded agent, and those have no networks of their own"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("run it with --netns") && ran.err.contains("routed-dmz.yaml:"), "{}", ran.err);
    let agents = ["client", "router", "web", "desk"].map(|role| format!("--host={role}=127.0.0.1:1"));
    let mut words = vec!["run", dmz];
    words.extend(agents.iter().map(String::as_str));
    let ran = run_farsock(&words).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
    assert!(ran.err.contains("`router` is a machine, and rules are loaded in namespaces only"), "{}", ran.err);
    let ran = run_farsock(&["run", "--netns", dmz, "--host", "web=127.0.0.1:1"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
}

/// What stands where, and what is wrong with it.
const WRONG: &[(&str, &str)] = &[
    ("n: {subnet: 10.0.0.0/24, hosts: {a: , b: , c: }}", "there is no host `c`"),
    ("n: {subnet: 10.0.0.0/24, hosts: {a: }}", "`b` is in no network"),
    ("n: {subnet: 10.0.0.0, hosts: {a: , b: }}", "`10.0.0.0` is no subnet"),
    ("n: {subnet: 10.0.0.1/24, hosts: {a: , b: }}", "10.0.0.1/24 is an address in a subnet, and no subnet"),
    ("n: {subnet: [], hosts: {a: , b: }}", "a network needs a subnet"),
    (
        "n: {subnet: 10.0.0.0/24, hosts: {a: 10.0.1.1, b: }}",
        "10.0.1.1 is in none of the network's subnets: 10.0.0.0/24",
    ),
    ("n: {subnet: 10.0.0.0/24, hosts: {a: 10.0.0.1, b: 10.0.0.1}}", "10.0.0.1 is somebody's already"),
    (
        "n: {subnet: 10.0.0.0/24, hosts: {a: 10.0.0.255, b: }}",
        "10.0.0.255 is the first or the last address of 10.0.0.0/24",
    ),
    ("n: {subnet: 10.0.0.0/24, hosts: {a: x, b: }}", "`x` is no IP address"),
    ("n: {subnet: 10.0.0.0/31, hosts: {a: , b: }}", "10.0.0.0/31 has no address left for `a`"),
    ("n: {subnet: 10.0.0.0/24, mtu: 12, hosts: {a: , b: }}", "`12` is no MTU: it goes from 68 to 65535"),
    (
        "n: {subnet: 'fd00::/64', mtu: 1200, hosts: {a: , b: }}",
        "`1200` is no MTU: it goes from 1280 to 65535, as IPv6 needs it",
    ),
    (
        "n: {subnet: 10.0.0.0/24, hosts: {a: , b: }}\n  m: {subnet: 10.0.0.128/25, hosts: {a: }}",
        "10.0.0.128/25 overlaps 10.0.0.0/24",
    ),
    ("n: {subnet: 10.0.0.0/24, hots: {a: , b: }}", "there is no `hots` here"),
    ("N: {subnet: 10.0.0.0/24, hosts: {a: , b: }}", "`N` is not a name"),
    (
        "n: {subnet: 10.0.0.0/24, hosts: {a: , b: }}\nrouters: {a: }",
        "`a` has nothing to forward between: it is in one network",
    ),
    (
        "n: {subnet: 10.0.0.0/24, hosts: {a: , b: }}\n  m: {subnet: 10.0.1.0/24, hosts: {a: }}\nrouters: {a: {nft: none.nft}}",
        "the rules cannot be read: ",
    ),
];

#[tokio::test]
async fn what_is_wrong_with_networks_is_told_with_its_place() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("x.yaml");
    let steps = "steps:\n  - { on: a, listen: ':0', as: door }\n  - { on: a, close: door }\n";
    for (networks, wanted) in WRONG {
        fs::write(&file, format!("exercise: x\nhosts: {{ a: , b: }}\nnetworks:\n  {networks}\n{steps}")).unwrap();
        let ran = run_farsock(&["check", file.to_str().unwrap()]).await;
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{networks}: {ran:?}");
        let told = ran.err.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(told.contains(wanted) && told.contains("x.yaml:"), "{networks}: {}", ran.err);
    }
    fs::write(&file, format!("exercise: x\nhosts: {{ a: , b: }}\nrouters: {{a: }}\n{steps}")).unwrap();
    let ran = run_farsock(&["check", file.to_str().unwrap()]).await;
    assert!(ran.err.contains("a router forwards between networks, and there are no `networks`"), "{}", ran.err);
}
