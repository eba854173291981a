//! A real sshd on loopback, as this user, with keys and a configuration of its own.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command as Blocking, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::spawn_blocking;

use super::{farsock, skipped, within};

/// How long a process may take to end before it is looked for again.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// The server, and the files of whoever may come in.
pub struct Sshd {
    folder: TempDir,
    port: u16,
    ssh: PathBuf,
    _child: Child,
}

impl Sshd {
    /// A server that lets this user in with a key. None where there is no sshd, which it says.
    pub async fn start() -> Option<Self> {
        let sshd = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"]
            .into_iter()
            .find(|path| Path::new(path).exists());
        let Some(sshd) = sshd else {
            skipped("there is no sshd, which Debian has in openssh-server");
            return None;
        };
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        for key in ["host", "user"] {
            let made = Blocking::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at(key)).status();
            assert!(made.unwrap().success());
        }
        // sshd wants this directory, which systemd makes where it starts it.
        let _ = fs::create_dir_all("/run/sshd");
        fs::copy(at("user.pub"), at("authorized")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {host}\nAuthorizedKeysFile {authorized}\nPidFile none\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nSetEnv FARSOCK_TEST={port}\n",
            host = at("host").display(),
            authorized = at("authorized").display(),
        );
        fs::write(at("sshd_config"), config).unwrap();
        let host_key = fs::read_to_string(at("host.pub")).unwrap();
        fs::write(at("known"), format!("[127.0.0.1]:{port} {host_key}")).unwrap();
        let settings = [
            format!("IdentityFile {}", at("user").display()),
            format!("UserKnownHostsFile {}", at("known").display()),
            "GlobalKnownHostsFile none".to_owned(),
            "StrictHostKeyChecking yes".to_owned(),
            "IdentitiesOnly yes".to_owned(),
            "IdentityAgent none".to_owned(),
        ];
        fs::write(at("ssh_config"), settings.join("\n")).unwrap();
        let mut command = Command::new(sshd);
        command.args(["-D", "-e", "-f"]).arg(at("sshd_config")).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        within("sshd", async { while !log.next_line().await.unwrap().unwrap().contains("listening") {} }).await;
        // What it says later is read, too: a pipe that nobody reads would stop it.
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        let mut sshd = Self { ssh: PathBuf::new(), folder, port, _child: child };
        // The agent of this build, wherever the far PATH leads; and ssh with a configuration of its own.
        sshd.ssh = sshd.wrapper("ssh", "ssh_config");
        Some(sshd)
    }

    /// What stands for ssh: it starts the agent of this build where `farsock` is asked for.
    fn wrapper(&self, name: &str, config: &str) -> PathBuf {
        let (config, binary) = (self.folder.path().join(config), env!("CARGO_BIN_EXE_farsock"));
        let text = format!(
            "n=$#; i=1; for word; do shift; [ $i = $n ] && word=$(printf %s \"$word\" | sed \"s|'farsock'|XDG_RUNTIME_DIR={} '{binary}'|\"); set -- \"$@\" \"$word\"; i=$((i+1)); done\nexec ssh -F {} \"$@\"",
            self.folder.path().display(),
            config.display(),
        );
        self.program(name, &text)
    }

    fn program(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Where an agent is reached.
    pub fn endpoint(&self) -> String {
        format!("ssh://127.0.0.1:{}", self.port)
    }

    /// The same, as this user.
    pub fn endpoint_of(&self, user: &str) -> String {
        format!("ssh://{user}@127.0.0.1:{}", self.port)
    }

    /// An ssh that knows the server, and has its key.
    pub fn ssh(&self) -> &Path {
        &self.ssh
    }

    /// An ssh without one of its settings.
    pub fn without(&self, setting: &str) -> PathBuf {
        let text = fs::read_to_string(self.folder.path().join("ssh_config")).unwrap();
        let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with(setting)).collect();
        let missing = format!("{setting} {}", self.folder.path().join("none").display());
        fs::write(self.folder.path().join(setting), format!("{}\n{missing}\n", kept.join("\n"))).unwrap();
        self.wrapper(&format!("ssh-without-{setting}"), setting)
    }

    /// What stands for ssh and does something else.
    pub fn script(&self, text: &str) -> PathBuf {
        let name = text.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
        self.program(&name, text)
    }

    /// `farsock`, with this ssh.
    pub fn farsock(&self) -> Command {
        let mut command = farsock(self.folder.path());
        command.env("FARSOCK_SSH", &self.ssh);
        command
    }

    /// The agents that it has started and that live: sshd tells each of its children which server it is of.
    pub fn agents(&self) -> Vec<u32> {
        let mine = format!("FARSOCK_TEST={}", self.port);
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let numbers = processes.filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
        numbers
            .filter(|number| {
                let read = |file: &str| fs::read(format!("/proc/{number}/{file}")).unwrap_or_default();
                let is_agent = read("cmdline").split(|byte| *byte == 0).any(|word| word == b"--stdio");
                is_agent && read("environ").split(|byte| *byte == 0).any(|word| word == mine.as_bytes())
            })
            .collect()
    }

    /// Waits until no agent of it lives.
    pub async fn is_left_clean(&self) {
        within("the end of all agents", async {
            while let Some(agent) =
                self.agents().into_iter().find_map(|number| Pid::from_raw(number.try_into().unwrap()))
            {
                // One that has ended meanwhile is not in the next list. pidfd_open(2): it can be read from when the process has ended.
                if let Ok(process) = pidfd_open(agent, PidfdFlags::empty()) {
                    let ended = move || poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&PATIENCE));
                    spawn_blocking(ended).await.unwrap().unwrap();
                }
            }
        })
        .await;
    }
}
