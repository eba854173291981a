//! What an agent says when it is ready, to people and to programs.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::agent::{Agent, AgentConfig, AuditFile, Listen, Needs, OpenServices};
use crate::cli::agent::privilege;
use crate::cli::print;
use crate::model::id::Principal;
use crate::model::policy::Policy;
use crate::pki::{IdentityFiles, may_make_in};

/// Tells people where the agent is, who can do what there, and how to try it.
pub(super) fn announce(agent: &Agent, config: &AgentConfig) {
    let mut text = format!("farsock {} agent is ready\n", env!("CARGO_PKG_VERSION"));
    let token = agent.token_files().first().map(|file| file.display().to_string());
    for (listen, needs) in agent.exposure() {
        text.push_str(&way_in(&listen, needs, config.tls.as_ref(), token.as_deref()));
    }
    text.push_str(&open_to_all(config.open));
    text.push_str(&policy_in_force(config, agent.sockets().gate().policy().as_deref()));
    text.push_str(&written_down(config));
    text.push_str(&privilege::kept());
    text.push_str(&memory(config));
    let example = agent.exposure().first().map(|(listen, needs)| call(listen, *needs, token.as_deref()));
    text.extend(example.map(|call| format!("try: {call} farsock.v1.AgentService/GetAgent\n")));
    // That nobody reads it does not keep an agent from serving.
    let _ = print(&text);
}

/// A line on a way in, and on what whoever comes by it must show.
pub(super) fn way_in(listen: &Listen, needs: Needs, tls: Option<&IdentityFiles>, token: Option<&str>) -> String {
    let of = match (needs, tls, token) {
        (Needs::Token, _, Some(file)) => format!(" in {file}"),
        (Needs::Certificate, Some(files), _) => format!(" that {} has signed", files.ca.display()),
        _ => String::new(),
    };
    format!("  {listen}  {needs}{of}\n")
}

/// A line on what is answered without credentials.
pub(super) fn open_to_all(open: OpenServices) -> String {
    let names = [(open.health, "health"), (open.reflection, "reflection")];
    let names: Vec<&str> = names.iter().filter(|(is, _)| *is).map(|(_, name)| *name).collect();
    if names.is_empty() { String::new() } else { format!("  {}: for whoever asks\n", names.join(" and ")) }
}

/// A line on the policy, and on what it makes of those who come without a certificate.
pub(super) fn policy_in_force(config: &AgentConfig, policy: Option<&Policy>) -> String {
    let (Some(file), Some(policy)) = (&config.policy_file, policy) else { return String::new() };
    let owner = match policy.roles(&Principal::owner()) {
        [] => "`owner` has no role: who comes by the Unix socket or with the token is told nothing but --health"
            .to_owned(),
        roles => format!("who comes by the Unix socket or with the token is `owner`: {}", roles.join(", ")),
    };
    let (title, file, size) = (policy.title(), file.display(), policy.size());
    format!("  policy: {title} in {file} (sha256 {}): {size}; {owner}\n", policy.fingerprint())
}

/// A line on where changes are written down.
pub(super) fn written_down(config: &AgentConfig) -> String {
    let line = |file: &AuditFile| format!("  audit: each change is written down in {}\n", file.path.display());
    config.audit.as_ref().map(line).unwrap_or_default()
}

/// A line on what the largest limits would take if they were all used. What is small, requests that are being read among it, is not in it.
pub(super) fn memory(config: &AgentConfig) -> String {
    let parts = Agent::most_memory(config);
    let words: Vec<String> = parts.iter().map(|(what, bytes)| format!("{what} {}", size(*bytes))).collect();
    let all = parts.iter().map(|(_, bytes)| bytes).sum();
    format!("  memory: the largest limits add up to {}: {}\n", size(all), words.join(", "))
}

/// Bytes as people write them.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn size(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes.div_ceil(1024)),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes.div_ceil(1 << 20)),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

/// How grpcurl comes in there.
fn call(listen: &Listen, needs: Needs, token: Option<&str>) -> String {
    match (listen, needs, token) {
        (Listen::Unix(path), ..) => format!("grpcurl -plaintext -unix -authority localhost {}", path.display()),
        (Listen::Tcp(addr), Needs::Token, Some(token)) => format!(
            "FARSOCK_TOKEN=$(cat {token}) grpcurl -plaintext -expand-headers -H 'authorization: Bearer ${{FARSOCK_TOKEN}}' {addr}"
        ),
        (Listen::Tcp(addr), Needs::Certificate, _) => {
            format!("grpcurl -cacert ca.pem -cert NAME.pem -key NAME.key {addr}")
        }
        (Listen::Tcp(addr), ..) => format!("grpcurl -plaintext {addr}"),
    }
}

/// Tells programs that the agent is ready, and where.
pub(super) fn tell_ready(agent: &Agent, fd: Option<u32>, file: Option<&Path>) -> Result<(), String> {
    let line = format!(
        "{}\n",
        serde_json::json!({
            "endpoints": agent.listens().iter().map(ToString::to_string).collect::<Vec<_>>(),
            "token_file": agent.token_files().first(),
            "instance_id": agent.sockets().instance().as_str(),
            "pid": std::process::id(),
        })
    );
    if let Some(fd) = fd {
        let written = descriptor(fd).and_then(|mut f| f.write_all(line.as_bytes()));
        written.map_err(|error| no_descriptor(fd, &error))?;
    }
    if let Some(path) = file {
        let draft = path.with_extension("draft");
        let written = fs::write(&draft, line).and_then(|()| fs::rename(&draft, path));
        written.map_err(|error| no_file(path, &error))?;
    }
    Ok(())
}

/// What would keep programs from being told.
pub(super) fn cannot_tell(fd: Option<u32>, file: Option<&Path>) -> Vec<String> {
    let no_descriptor = fd.and_then(|fd| descriptor(fd).err().map(|error| no_descriptor(fd, &error)));
    let no_file = file.and_then(|path| {
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        may_make_in(folder).err().map(|error| no_file(path, &error))
    });
    no_descriptor.into_iter().chain(no_file).collect()
}

/// An open descriptor, by its name, because it is whoever's that opened it.
fn descriptor(fd: u32) -> io::Result<File> {
    File::options().write(true).open(format!("/proc/self/fd/{fd}"))
}

fn no_descriptor(fd: u32, error: &io::Error) -> String {
    format!("--ready-fd {fd}: {error}")
}

fn no_file(path: &Path, error: &io::Error) -> String {
    format!("--ready-file {}: {error}", path.display())
}
