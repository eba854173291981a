//! Agents by ssh: the system's ssh starts `farsock agent --stdio` on the far host, and its pipe is the connection. No daemon, no port, no
//! certificate; ssh's own configuration, keys and bastions.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, Join, join};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::client::connect::Duplex;
use crate::client::error::{door_closed, no_way};
use crate::client::greeting::{Answer, Greeted, greet};

/// The program on the far host, where none is named.
const AGENT: &str = "farsock";

/// What the names of variables begin with that hold tokens of agents, whatever an inventory calls its own.
const TOKENS: &str = "FARSOCK_TOKEN";

/// How much of what ssh complains about is kept: the end of it.
const COMPLAINTS: usize = 4 << 10;

/// How long ssh may take to end when its connection has.
const FAREWELL: Duration = Duration::from_secs(5);

/// ssh's own exit code when it is ssh that has failed. ssh(1).
const SSH_FAILED: i32 = 255;
/// A shell's exit codes when there is no such program, or it cannot be run.
const NO_PROGRAM: i32 = 127;
const NOT_RUN: i32 = 126;

/// Leads to an agent by ssh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssh {
    user: Option<String>,
    host: String,
    port: Option<u16>,
    program: PathBuf,
    agent: String,
    secrets: Vec<String>,
}

/// The connection, and the ssh that carries it, which ends with it.
type Line = Join<ChildStdout, ChildStdin>;

impl Ssh {
    /// By `ssh` in PATH, to `farsock` in the far host's PATH. An [`Endpoint`](crate::client::Endpoint) makes sure that host and user are nothing else.
    pub fn to(user: Option<String>, host: String, port: Option<u16>) -> Self {
        Self { user, host, port, program: "ssh".into(), agent: AGENT.to_owned(), secrets: Vec::new() }
    }

    /// The same by another program, which takes the words that ssh takes.
    #[must_use]
    pub fn by(self, program: PathBuf) -> Self {
        Self { program, ..self }
    }

    /// The same to another program on the far host.
    #[must_use]
    pub fn starting(self, agent: String) -> Self {
        Self { agent, ..self }
    }

    /// The same, and ssh is not told what these variables of the environment hold.
    #[must_use]
    pub fn without(self, secrets: Vec<String>) -> Self {
        Self { secrets, ..self }
    }

    /// The words for ssh. What runs on the far host is one word of a shell there.
    fn words(&self) -> Vec<String> {
        // Nothing is asked of a person, and nothing but the pipe is carried.
        let mut words: Vec<String> =
            ["-T", "-x", "-a", "-o", "BatchMode=yes", "-o", "ClearAllForwardings=yes", "-o", "ConnectTimeout=10"]
                .map(str::to_owned)
                .into();
        words.extend(self.user.iter().flat_map(|user| ["-l".to_owned(), user.clone()]));
        words.extend(self.port.iter().flat_map(|port| ["-p".to_owned(), port.to_string()]));
        let agent = format!("'{}' agent --stdio", self.agent.replace('\'', "'\\''"));
        words.extend(["--".to_owned(), self.host.clone(), agent]);
        words
    }

    /// Starts ssh, and waits until the agent has answered.
    pub(super) async fn connect(&self) -> io::Result<impl Duplex + use<>> {
        let mut command = Command::new(&self.program);
        command.args(self.words()).kill_on_drop(true);
        for secret in std::env::vars_os().map(|(name, _)| name).filter(|name| self.is_secret(name)) {
            command.env_remove(secret);
        }
        // Ctrl-C is for the controller, which still has to clean up by this connection.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().map_err(|error| self.not_started(&error))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let complaints = Complaints::read(stderr);
        match greet(join(stdout, stdin)).await {
            Ok(Answer::Greeted(stream)) if stream.first_words().first() == Some(&0) => {
                Ok(Carried { stream, _child: child })
            }
            Ok(Answer::Greeted(stream)) => Err(self.noise(stream).await),
            Ok(Answer::Alert | Answer::Nothing) | Err(_) => Err(self.ended(child, complaints).await),
        }
    }

    /// Whether ssh, and whatever ssh starts here, has no business with a variable of the environment.
    fn is_secret(&self, variable: &OsStr) -> bool {
        variable.as_encoded_bytes().starts_with(TOKENS.as_bytes())
            || self.secrets.iter().any(|name| variable == &name[..])
    }

    fn not_started(&self, error: &io::Error) -> io::Error {
        let program = self.program.display();
        match error.kind() {
            io::ErrorKind::NotFound => no_way(format!(
                "there is no `{program}` here: install OpenSSH's client, or name another program by FARSOCK_SSH"
            )),
            _ => no_way(format!("`{program}` cannot be started: {error}")),
        }
    }

    /// Something else than an agent speaks first: a shell's start files do, where they print something.
    async fn noise(&self, mut stream: Greeted<Line>) -> io::Error {
        let mut said = [0; 200];
        let count = timeout(FAREWELL, stream.read(&mut said)).await.unwrap_or(Ok(0)).unwrap_or(0);
        let said = String::from_utf8_lossy(&said[..count]);
        let line = said.lines().next().unwrap_or_default().escape_debug().to_string();
        let host = &self.host;
        no_way(format!(
            "{host} says `{line}` before the agent does: its shell's start files (.bashrc, .profile) must print nothing when there is no terminal"
        ))
    }

    /// What has ended the connection before the agent said anything.
    async fn ended(&self, mut child: Child, complaints: Complaints) -> io::Error {
        drop(child.stdin.take());
        let code = timeout(FAREWELL, child.wait()).await.ok().and_then(Result::ok).and_then(|status| status.code());
        self.explain(code, &complaints.all().await)
    }

    fn explain(&self, code: Option<i32>, complaints: &str) -> io::Error {
        let (host, agent) = (&self.host, &self.agent);
        let has = |words: &str| complaints.contains(words);
        let last = complaints.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it says nothing");
        match code {
            Some(NO_PROGRAM) => no_way(format!(
                "there is no `{agent}` on {host}: install it in the PATH that ssh has there, or say where it is (`program:` in the inventory)"
            )),
            Some(NOT_RUN) => no_way(format!("`{agent}` on {host} cannot be run: {last}")),
            Some(SSH_FAILED) if has("Host key verification failed") => door_closed(format!(
                "ssh does not know the host key of {host}, or it is another one than before: `ssh {host}` once by hand shows it, and asks"
            )),
            Some(SSH_FAILED) if has("Permission denied") => door_closed(format!(
                "{host} lets nobody in by ssh like this ({last}): nobody is asked for a password here, give ssh a key (ssh-copy-id, ssh-add)"
            )),
            Some(SSH_FAILED) if has("Could not resolve hostname") => no_way(format!(
                "there is no host `{host}`: ssh finds neither an address for it nor an entry in ~/.ssh/config"
            )),
            Some(SSH_FAILED) if has("Connection refused") => no_way(format!(
                "{host} refuses ssh ({last}): is sshd running there, on this port? ssh://HOST:PORT names another one"
            )),
            Some(SSH_FAILED) => no_way(format!("ssh to {host} has failed: {last}")),
            _ if has("unexpected argument '--stdio'") => no_way(format!(
                "`{agent}` on {host} is too old to be started by ssh: it does not know --stdio; install version {} there",
                env!("CARGO_PKG_VERSION")
            )),
            Some(code) => no_way(format!("`{agent}` on {host} has ended with {code} before it answered: {last}")),
            None => no_way(format!("ssh to {host} was ended before the agent answered: {last}")),
        }
    }
}

/// A connection that an ssh carries. The ssh ends with it, and so does the agent at the other end.
struct Carried {
    stream: Greeted<Line>,
    _child: Child,
}

mod carried {
    use std::io::{IoSlice, Result};
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::Carried;

    impl AsyncRead for Carried {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
            Pin::new(&mut self.stream).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Carried {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
            Pin::new(&mut self.stream).poll_write(cx, buf)
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<Result<usize>> {
            Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
        }

        fn is_write_vectored(&self) -> bool {
            self.stream.is_write_vectored()
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
            Pin::new(&mut self.stream).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(cx)
        }
    }
}

/// What ssh, and the agent, print to standard error, for as long as they do: a pipe that nobody reads would stop them.
struct Complaints {
    kept: Arc<Mutex<Vec<u8>>>,
    reading: JoinHandle<()>,
}

impl Complaints {
    fn read(mut from: ChildStderr) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&kept);
        let reading = tokio::spawn(async move {
            let mut piece = [0; 1024];
            while let Ok(count @ 1..) = from.read(&mut piece).await {
                let mut kept = into.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(&piece[..count]);
                let more = kept.len().saturating_sub(COMPLAINTS);
                kept.drain(..more);
            }
        });
        Self { kept, reading }
    }

    /// All that has come, to the end.
    async fn all(self) -> String {
        // Whoever holds the pipe open without saying anything is not waited for.
        let _ = timeout(FAREWELL, self.reading).await;
        String::from_utf8_lossy(&self.kept.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_is_told_as_words_and_the_far_shell_one_program() {
        let ssh = Ssh::to(Some("me".into()), "lab-a".into(), Some(2222)).starting("/opt/it's here/farsock".into());
        let words = ssh.words();
        let end = &words[words.len() - 7..];
        assert_eq!(end[..6], ["-l", "me", "-p", "2222", "--", "lab-a"]);
        assert_eq!(end[6], r"'/opt/it'\''s here/farsock' agent --stdio");
        let plain = Ssh::to(None, "lab-a".into(), None).words();
        assert_eq!(plain[plain.len() - 3..], ["--", "lab-a", "'farsock' agent --stdio"]);
        assert!(plain.iter().any(|word| word == "BatchMode=yes"));
    }

    #[test]
    fn what_ssh_complains_about_becomes_one_line_that_helps() {
        let ssh = Ssh::to(None, "lab-a".into(), None);
        for (code, complaint, words) in [
            (Some(127), "bash: line 1: farsock: command not found\n", "there is no `farsock` on lab-a"),
            (Some(126), "bash: line 1: /x: Permission denied\n", "cannot be run: bash: line 1: /x: Permission denied"),
            (Some(255), "No ED25519 host key is known.\nHost key verification failed.\n", "by hand shows it"),
            (Some(255), "me@lab-a: Permission denied (publickey).\n", "give ssh a key"),
            (Some(255), "ssh: Could not resolve hostname lab-a: x\n", "there is no host `lab-a`"),
            (Some(255), "ssh: connect to host lab-a port 22: Connection refused\n", "is sshd running there"),
            (Some(255), "kex_exchange_identification: x\n", "ssh to lab-a has failed: kex_exchange"),
            (Some(1), "error: unexpected argument '--stdio' found\n", "too old"),
            (Some(3), "farsock: cannot start\n", "ended with 3 before it answered: farsock: cannot start"),
            (None, "", "was ended before the agent answered: it says nothing"),
        ] {
            let line = ssh.explain(code, complaint).to_string();
            assert!(line.contains(words) && !line.contains('\n'), "{complaint}: {line}");
        }
    }
}
