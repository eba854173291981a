//! `farsock pki`: a lab's certificates, and everything that takes them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use farsock::client::{AgentClient, Credentials, Dialer};
use farsock::pki::{Authority, Kind};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{AgentProcess, Certificates, Ran, farsock, run};

/// Types `farsock pki …` in a home of its own.
async fn pki(home: &Path, words: &[&str]) -> Ran {
    let mut command = farsock(home);
    command.arg("pki").args(words).env("HOME", home).env_remove("XDG_CONFIG_HOME");
    run(command).await
}

/// What somebody types who sets up a lab.
#[tokio::test]
async fn a_lab_is_set_up_in_three_lines() {
    let home = TempDir::new().unwrap();
    let home = home.path();
    let shown = |ran: Ran| {
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
        ran.out.replace(home.to_str().unwrap(), "~")
    };
    let made = shown(pki(home, &["init"]).await);
    assert!(made.starts_with("made ~/.config/farsock/pki/ca.pem, the CA `farsock lab`, good to 20"), "{made}");
    let made = shown(pki(home, &["issue", "lab-a", "127.0.0.1"]).await);
    assert!(made.starts_with("made ~/.config/farsock/pki/lab-a.pem for agent lab-a, 127.0.0.1, good to 20"), "{made}");
    assert!(
        made.contains("copy it with lab-a.key and ca.pem to that host: farsock agent --listen 0.0.0.0:7625 --tls-cert lab-a.pem --policy FILE"),
        "{made}"
    );
    let made = shown(pki(home, &["issue", "--controller", "alice", "--days", "7"]).await);
    assert!(made.contains("use it: export FARSOCK_TLS_CERT=~/.config/farsock/pki/alice.pem"), "{made}");

    let folder = home.join(".config/farsock/pki");
    assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let mode = if path.extension().unwrap() == "key" { 0o600 } else { 0o644 };
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, mode, "{}", path.display());
    }
    let table = shown(pki(home, &["show"]).await);
    let kinds: Vec<&str> = table.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(kinds, ["CA", "controller", "agent"], "{table}");
    assert!(table.contains("controller alice  to 20") && table.contains(", 6 days left  ~"), "{table}");
    let rows = shown(pki(home, &["show", "--json", folder.join("alice.pem").to_str().unwrap()]).await);
    let row: Value = serde_json::from_str(&rows).unwrap();
    assert_eq!(
        (&row["kind"], &row["names"], &row["expired"]),
        (&"controller".into(), &vec!["alice"].into(), &false.into())
    );

    // An agent, and an exercise that is run on it, with nothing but these files.
    let mut command = farsock(home);
    command.args(["agent", "--listen", "127.0.0.1:0", "--tls-cert", folder.join("lab-a.pem").to_str().unwrap()]);
    let agent = AgentProcess::spawn(command, TempDir::new().unwrap()).await;
    let signed = format!("  {}  with a certificate that {} has signed", agent.tcp(), folder.join("ca.pem").display());
    assert_eq!(agent.said[1], signed);
    assert!(agent.ready["token_file"].is_null());
    let exercise = home.join("hello.yaml");
    fs::write(
        &exercise,
        "exercise: hello\nhosts:\n  a:\nsteps:\n  - on: a\n    listen: \"127.0.0.1:0\"\n    as: door\n  - on: a\n    close: door\n",
    )
    .unwrap();
    let play = |certificate: Option<&str>| {
        let mut command = farsock(home);
        command.args(["run", "--quiet", "--host", &format!("a={}", agent.tcp()), exercise.to_str().unwrap()]);
        command.envs(certificate.map(|name| ("FARSOCK_TLS_CERT", folder.join(name))));
        run(command)
    };
    let ran = play(Some("alice.pem")).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = play(None).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(format!("{}{}", ran.out, ran.err).contains("a certificate is needed (--tls-cert)"), "{ran:?}");
    let ran = play(Some("lab-a.pem")).await;
    assert!(
        format!("{}{}", ran.out, ran.err)
            .contains("lab-a.pem is the certificate of an agent, and a controller is needed"),
        "{ran:?}"
    );
    agent.stop().await;
}

#[tokio::test]
async fn nothing_is_overwritten_and_what_is_due_is_renewed() {
    let home = TempDir::new().unwrap();
    let home = home.path();
    pki(home, &["init", "--name", "Room 3"]).await;
    pki(home, &["issue", "--controller", "alice", "--days", "7"]).await;
    for words in [&["init"][..], &["issue", "--controller", "alice"], &["issue", "alice"]] {
        let ran = pki(home, words).await;
        assert_eq!((ran.code, ran.out.as_str()), (Some(3), ""), "{ran:?}");
        assert!(ran.err.contains(" is there already: ") && ran.err.lines().count() == 1, "{}", ran.err);
    }
    let folder = home.join(".config/farsock/pki");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let (certificate, key) = (read("alice.pem"), read("alice.key"));
    let ran = pki(home, &["renew"]).await;
    assert_eq!(ran.out, "nothing is due: all have more than a third of their time left\n");
    assert_eq!(read("alice.pem"), certificate);
    let ran = pki(home, &["renew", "alice"]).await;
    assert!(ran.out.starts_with("renewed ") && ran.out.contains("alice.pem, good to "), "{ran:?}");
    assert_ne!(read("alice.pem"), certificate);
    assert_eq!(read("alice.key"), key);
    pki(home, &["issue", "--controller", "alice", "--replace"]).await;
    assert_ne!(read("alice.key"), key);
}

/// All others hang on it.
#[tokio::test]
async fn the_ca_is_not_renewed_and_stays_as_it_is() {
    let home = TempDir::new().unwrap();
    let home = home.path();
    pki(home, &["init"]).await;
    let file = home.join(".config/farsock/pki/ca.pem");
    let ca = fs::read(&file).unwrap();
    let ran = pki(home, &["renew", "ca"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(3), ""), "{ran:?}");
    assert_eq!(
        ran.err,
        format!(
            "farsock: {} is the certificate of a CA, and one of an agent or a controller is needed: \
             a CA gets no more time; `farsock pki init --dir DIR` makes the next one\n",
            file.display()
        )
    );
    assert_eq!(fs::read(&file).unwrap(), ca);
    assert_eq!(pki(home, &["issue", "lab-a"]).await.code, Some(0), "it signs on");
}

/// As `--help` says it.
#[tokio::test]
async fn certificates_are_good_for_so_long_where_nobody_says_for_how_long() {
    let home = TempDir::new().unwrap();
    let home = home.path();
    for words in [&["init"][..], &["issue", "lab-a"], &["issue", "--controller", "alice"]] {
        assert_eq!(pki(home, words).await.code, Some(0));
    }
    let written = Authority::list(&home.join(".config/farsock/pki")).unwrap();
    // They begin an hour before they are made: clocks of a lab disagree.
    let days = written.iter().map(|(_, written)| {
        let hours = written.not_after.duration_since(written.not_before).unwrap().as_secs() / 3600 - 1;
        (written.kind, hours / 24, hours % 24)
    });
    assert_eq!(
        days.collect::<Vec<_>>(),
        [(Kind::Authority, 3650, 0), (Kind::Controller, 90, 0), (Kind::Agent, 365, 0)]
    );
}

#[tokio::test]
async fn mistakes_are_told_in_one_line() {
    let home = TempDir::new().unwrap();
    let home = home.path();
    let none = pki(home, &["issue", "lab-a"]).await;
    assert_eq!(none.code, Some(3));
    assert!(none.err.contains("ca.pem is not there") && none.err.contains("`farsock pki init`"), "{}", none.err);
    pki(home, &["init"]).await;
    for (words, code, says) in [
        (&["issue", "--controller", "owner"][..], 1, "`owner` is the user that runs an agent"),
        (&["issue", "--controller", "Alice"], 1, "`Alice` is not the name of a principal"),
        (&["issue", "lab_a"], 1, "`lab_a` is not a host name"),
        (&["renew", "nobody"], 3, "nobody.pem is not there"),
        (&["show", "/dev/null"], 3, "/dev/null holds no certificate in PEM"),
    ] {
        let ran = pki(home, words).await;
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert!(ran.err.contains(says) && ran.err.lines().count() == 1, "{}", ran.err);
    }
    // A CA whose key others can read signs nothing.
    let key = home.join(".config/farsock/pki/ca.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let ran = pki(home, &["issue", "lab-a"]).await;
    assert!(ran.err.contains("ca.key can be read by others: make it private (chmod 600"), "{}", ran.err);
}

/// `--check` leaves nothing behind; what it says is what a start would say.
#[tokio::test]
async fn check_says_what_would_be_served_and_what_is_missing() {
    let lab = Certificates::new();
    let files = lab.agent();
    let check = |words: &[&str]| {
        let folder = TempDir::new().unwrap();
        let mut command = farsock(folder.path());
        command.args(["agent", "--check"]).args(words);
        async move {
            let ran = run(command).await;
            assert!(fs::read_dir(folder.path()).unwrap().next().is_none(), "nothing was written");
            ran
        }
    };
    let elsewhere = TempDir::new().unwrap();
    let unix = format!("unix:{}", elsewhere.path().join("x.sock").display());
    let fine = check(&["--listen", "127.0.0.1:0", "--listen", &unix, "--open", "health"]).await;
    assert_eq!((fine.code, fine.err.as_str()), (Some(0), ""));
    let lines: Vec<&str> = fine.out.lines().skip(1).take(3).collect();
    assert_eq!(
        lines,
        ["  127.0.0.1:0  with the token", &format!("  {unix}  for its own user"), "  health: for whoever asks"]
    );
    assert!(fs::read_dir(elsewhere.path()).unwrap().next().is_none(), "nothing was left there");
    let certificate = files.certificate.to_str().unwrap();
    let weak = check(&["--listen", "0.0.0.0:7625", "--listen", "[::1]:0", "--tls-cert", certificate]).await;
    assert_eq!(weak.code, Some(3));
    assert!(weak.out.contains("  [::1]:0  with a certificate that ") && !weak.out.contains("0.0.0.0"), "{}", weak.out);
    assert!(
        weak.err.contains("0.0.0.0:7625 can be reached from other hosts, which needs a policy (--policy)"),
        "{}",
        weak.err
    );
    // All that is wrong is told at once.
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o644)).unwrap();
    let ran = check(&["--listen", "0.0.0.0:7625", "--tls-cert", certificate]).await;
    assert_eq!(ran.err.lines().count(), 2, "{}", ran.err);
    assert!(
        ran.err.contains("127.0.0.1.key can be read by others")
            || ran.err.contains("localhost.key can be read by others"),
        "{}",
        ran.err
    );
}

/// Whatever probes it does not restart an agent because of its policy.
#[tokio::test]
async fn health_is_told_to_an_owner_to_whom_the_policy_gives_no_role() {
    let folder = TempDir::new().unwrap();
    let socket = format!("unix:{}", folder.path().join("agent.sock").display());
    let (token_file, policy) = (folder.path().join("token"), folder.path().join("policy.yaml"));
    fs::write(&policy, "policy: Others\nprincipals: { alice: admin }\n").unwrap();
    let [token_file, policy] = [&token_file, &policy].map(|path| path.to_str().unwrap());
    let mut command = farsock(folder.path());
    command.args(["agent", "--listen", &socket, "--listen", "127.0.0.1:0", "--token-file", token_file]);
    command.args(["--policy", policy]);
    let agent = AgentProcess::spawn(command, TempDir::new().unwrap()).await;
    for listen in [&socket, &agent.tcp()] {
        let mut command = farsock(folder.path());
        command.args(["agent", "--health", "--listen", listen, "--token-file", token_file, "--policy", policy]);
        let ran = run(command).await;
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "serving\n", ""), "{listen}");
    }
    // Nothing else is.
    let owner = AgentClient::new(&Dialer::to(&socket.parse().unwrap()), &Credentials::none());
    assert!(owner.is_serving().await.unwrap());
    assert!(owner.info().await.is_err());
    agent.stop().await;
}

#[tokio::test]
async fn health_asks_the_agent_of_the_same_flags() {
    let folder = TempDir::new().unwrap();
    let socket = format!("unix:{}", folder.path().join("agent.sock").display());
    let token_file = folder.path().join("token");
    let ask = |words: &[&str]| {
        let mut command = farsock(folder.path());
        command.args(["agent", "--health"]).args(words);
        run(command)
    };
    let before = ask(&["--listen", &socket]).await;
    assert_eq!((before.code, before.out.as_str()), (Some(3), ""), "{before:?}");
    let mut command = farsock(folder.path());
    command.args([
        "agent",
        "--listen",
        &socket,
        "--listen",
        "127.0.0.1:0",
        "--token-file",
        token_file.to_str().unwrap(),
    ]);
    let agent = AgentProcess::spawn(command, TempDir::new().unwrap()).await;
    let words = ["--listen", &agent.tcp(), "--token-file", token_file.to_str().unwrap()];
    for words in [&["--listen", socket.as_str()][..], &words] {
        let ran = ask(words).await;
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "serving\n", ""));
    }
    let lab = Certificates::new();
    let files = lab.agent();
    let none = ask(&["--listen", &agent.tcp(), "--tls-cert", files.certificate.to_str().unwrap()]).await;
    assert!(none.err.contains("add --listen unix:PATH"), "{none:?}");
    agent.stop().await;
}
