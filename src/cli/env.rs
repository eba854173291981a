//! `farsock env`: shell functions, so that a call is one word and its JSON.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use prost::Message;
use prost_types::FileDescriptorSet;

use crate::agent::token_path;
use crate::cli::tls::TlsArgs;
use crate::cli::{Exit, complain, print};
use crate::client::Endpoint;
use crate::pki::{IdentityFiles, read_private};
use crate::wire::FILE_DESCRIPTOR_SET;

/// What `farsock env` takes.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  eval \"$(farsock env 7625=a unix:/run/lab-b.sock=b)\"
  a CreateSocket '{\"socketId\":\"door\",\"tcp\":{\"listen\":\":8888\"}}'
  b GetAgent
  a list
  a describe farsock.v1.TcpSocketSpec
  a WatchEvents '{\"fromNow\":true}' -max-time 10

The functions call grpcurl, which must be in PATH. A name that stands alone is an agent on that host's port 7625.")]
pub(super) struct EnvArgs {
    /// An agent and the name of its function: HOST:PORT=NAME, PORT=NAME, unix:PATH=NAME
    #[arg(required = true, value_name = "AGENT=NAME")]
    agents: Vec<String>,

    /// The file of the token, where it is not that of an agent of yours on this host
    #[arg(long, value_name = "FILE", env = "FARSOCK_TOKEN_FILE")]
    token_file: Option<PathBuf>,

    #[command(flatten)]
    tls: TlsArgs,

    /// The agents were started with --no-auth
    #[arg(long, env = "FARSOCK_NO_AUTH")]
    no_auth: bool,
}

/// Prints a shell function for each agent.
pub(super) fn env(args: &EnvArgs) -> Exit {
    let mut text = String::new();
    for agent in &args.agents {
        match function(agent, args) {
            Ok(function) => text.push_str(&function),
            Err(problem) => {
                complain(format_args!("`{agent}`: {problem}"));
                return Exit::Usage;
            }
        }
    }
    print(&text)
}

fn function(agent: &str, args: &EnvArgs) -> Result<String, String> {
    let (endpoint, name) = agent.rsplit_once('=').ok_or("AGENT=NAME is needed, such as 127.0.0.1:7625=a")?;
    let fits = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !fits {
        return Err(format!(
            "`{name}` is no name of a shell function: letters, digits and _, not starting with a digit"
        ));
    }
    let endpoint: Endpoint = endpoint.parse()?;
    let (options, address, token) = match &endpoint {
        Endpoint::Unix(path) => ("-plaintext -unix -authority localhost".to_owned(), path.display().to_string(), None),
        Endpoint::Ssh { .. } => {
            return Err(
                "grpcurl does not go by ssh: name an agent's port or Unix socket, or forward one of them by ssh -L"
                    .to_owned(),
            );
        }
        Endpoint::Tcp { host, port } => {
            let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
            match args.tls.files() {
                Some(files) => (certificates(&files)?, address, None),
                None => {
                    let file = (!args.no_auth).then(|| args.token_file.clone().unwrap_or_else(|| token_path(*port)));
                    ("-plaintext".to_owned(), address, file)
                }
            }
        }
    };
    let (secret, header) = match token {
        None => (String::new(), ""),
        Some(file) if read_private(&file).map_err(|error| error.to_string())?.is_none() => {
            return Err(format!(
                "there is no token in {}: is the agent running, on this host, as you? --token-file names another file",
                file.display()
            ));
        }
        Some(file) => (
            format!("FARSOCK_TOKEN=\"$(cat {})\" ", quoted(&file.display().to_string())),
            "-expand-headers -H 'authorization: Bearer ${FARSOCK_TOKEN}' ",
        ),
    };
    let call = format!("{secret}grpcurl {options} {header}");
    let address = quoted(&address);
    // The body is in parentheses, so that its variables are its own.
    Ok(format!(
        "{name}() (
  method=\"${{1:-}}\"; [ $# -eq 0 ] || shift
  case \"$method\" in
    ''|list|describe) {call}{address} \"${{method:-list}}\" \"$@\"; exit ;;
    */*) ;;
{cases}    *) echo \"{name}: there is no method $method: '{name} list' shows services\" >&2; exit 1 ;;
  esac
  data=\"${{1:-{{\\}}}}\"; [ $# -eq 0 ] || shift
  {call}\"$@\" -d \"$data\" {address} \"$method\"
)
",
        cases = cases(),
    ))
}

/// grpcurl's options for the files of an identity, by their whole paths, because a shell goes from directory to directory.
fn certificates(files: &IdentityFiles) -> Result<String, String> {
    let mut options = Vec::new();
    for (option, path) in [("-cacert", &files.ca), ("-cert", &files.certificate), ("-key", &files.key)] {
        let whole = path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))?;
        options.push(format!("{option} {}", quoted(&whole.display().to_string())));
    }
    Ok(options.join(" "))
}

/// Which service each method is of.
fn cases() -> String {
    let descriptors = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap_or_default();
    let mut cases = String::new();
    for file in descriptors.file.iter().filter(|file| file.package() == "farsock.v1") {
        for service in &file.service {
            let methods: Vec<&str> = service.method.iter().map(|method| method.name()).collect();
            // Writing to a String cannot fail.
            let _ = writeln!(cases, "    {}) method=farsock.v1.{}/$method ;;", methods.join("|"), service.name());
        }
    }
    cases
}

/// Text as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(no_auth: bool) -> EnvArgs {
        EnvArgs { agents: Vec::new(), token_file: None, tls: TlsArgs::default(), no_auth }
    }

    #[test]
    fn a_function_knows_every_method() {
        let text = function("127.0.0.1:7625=a", &args(true)).unwrap();
        for method in ["CreateSocket", "WatchEvents", "GetAgent", "ResetSession"] {
            assert!(text.contains(method), "{method}: {text}");
        }
        assert!(text.starts_with("a() (") && text.contains("grpcurl -plaintext '127.0.0.1:7625'"), "{text}");
    }

    #[test]
    fn nothing_that_was_typed_is_run_by_the_shell() {
        assert!(function("unix:/tmp/it's=a", &args(true)).unwrap().contains(r"'/tmp/it'\''s'"));
        for bad in ["7625", "7625=", "7625=a b", "7625=1a", "7625=a;rm", "=a", "127.0.0.1:x=a"] {
            assert!(function(bad, &args(true)).is_err(), "{bad}");
        }
    }
}
