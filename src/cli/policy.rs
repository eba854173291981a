//! `farsock policy`: what a policy allows, and why.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use crate::agent::{Listen, PORT};
use crate::cli::files::tell;
use crate::cli::{Exit, complain, print};
use crate::model::address::{AddressText, Host, Port, Transport, socket_addr};
use crate::model::id::Principal;
use crate::model::mistake::{Source, suggestion};
use crate::model::option::OptionSpec;
use crate::model::policy::{AddressUse, Decision, Place, Policy, Right, Use};

/// What `farsock policy` takes.
#[derive(Debug, Args)]
pub(super) struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Check a policy file, or explain what it decides
    #[command(after_help = "Examples:
  farsock policy check policy.yaml
  farsock policy check policy.yaml --as bob connect 10.0.0.2:80
  farsock policy check policy.yaml --as bob --transport udp bind 0.0.0.0:5353
  farsock policy check policy.yaml --as alice set SO_MARK
  farsock policy check policy.yaml --as alice use-others
  farsock policy check policy.yaml --as alice --listen 0.0.0.0:7625 --host-address 10.0.0.1 connect 10.0.0.1:7625

Exit codes: 0 it is allowed, or the file is right; 1 usage, 2 the file is wrong, 4 it is denied.")]
    Check(CheckArgs),
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// The policy file
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Who would do it: the name of a certificate, or `owner`, who comes by the Unix socket or with the token
    #[arg(long = "as", value_name = "NAME", requires = "operation")]
    who: Option<String>,

    /// By which transport [default: udp for send and join, tcp otherwise]
    #[arg(long, value_name = "TRANSPORT", requires = "operation")]
    transport: Option<TransportArg>,

    /// Where the agent serves, as `farsock agent --listen` has it: its own port is kept on every address of its host; again for more
    /// [default: 127.0.0.1:7625]
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', requires = "operation", verbatim_doc_comment)]
    listen: Vec<Listen>,

    /// An address of the agent's host, beside loopback and where it serves; again for more. The agent finds them by itself
    #[arg(long, value_name = "IP", value_delimiter = ',', requires = "operation")]
    host_address: Vec<IpAddr>,

    /// Of a socket with IPV6_V6ONLY, for which `[::]` is not 0.0.0.0, too
    #[arg(long, requires = "operation")]
    only_ipv6: bool,

    /// What would be done: bind, listen, accept, connect, send, join, set; or a right, such as look or use-others
    #[arg(value_name = "OPERATION", requires = "who")]
    operation: Option<String>,

    /// With what: ADDRESS:PORT, an ADDRESS where the port does not matter, or the name of a socket option
    #[arg(value_name = "TARGET")]
    target: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TransportArg {
    Tcp,
    Udp,
}

/// Checks a policy, or explains what it decides.
pub(super) fn policy(args: &PolicyArgs) -> Exit {
    let PolicyCommand::Check(args) = &args.command;
    let (source, policy) = match load(&args.file) {
        Ok(read) => read,
        Err(exit) => return exit,
    };
    let (Some(who), Some(operation)) = (&args.who, &args.operation) else {
        return print(&format!("✓ {}  {}  {}\n", policy.title(), policy.size(), source.name));
    };
    match explain(&policy, who, operation, args) {
        Ok((what, decision)) => show(&source, &policy, who, &what, &decision),
        Err(problem) => {
            complain(problem);
            Exit::Usage
        }
    }
}

fn load(path: &Path) -> Result<(Source, Policy), Exit> {
    let name = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|error| {
        complain(format_args!("{name}: {error}"));
        Exit::Usage
    })?;
    let source = Source { name, text };
    match Policy::read(&source) {
        Ok(policy) => Ok((source, policy)),
        Err(mistakes) => {
            tell(&source, &mistakes, false);
            Err(Exit::WrongFile)
        }
    }
}

/// What was asked, in words, and what the policy says to it.
fn explain(policy: &Policy, who: &str, operation: &str, args: &CheckArgs) -> Result<(String, Decision), String> {
    let who = Principal::parse(who).map_err(|problem| format!("--as: {problem}"))?;
    if let Some(right) = Right::named(operation) {
        return match &args.target {
            None => Ok((operation.to_owned(), policy.decide_right(&who, right))),
            Some(target) => Err(format!("`{operation}` is a right and takes nothing more: leave `{target}` out")),
        };
    }
    let Some(kind) = Use::named(operation) else {
        let known = Use::ALL.iter().map(|kind| kind.word()).chain(Right::ALL.iter().map(|right| right.word()));
        return Err(format!("there is no operation `{operation}`: {}", suggestion(operation, known)));
    };
    let target = args.target.as_deref().ok_or_else(|| match kind {
        Use::Set => "`set` needs the name of a socket option, such as SO_MARK".to_owned(),
        _ => format!("`{operation}` needs an address, such as 10.0.0.2:80"),
    })?;
    if kind == Use::Set {
        let spec = OptionSpec::find(target).map_err(|problem| problem.problem.to_string())?;
        return Ok((format!("set {}", spec.name), policy.decide_option(&who, spec.name)));
    }
    let transport = match args.transport {
        Some(TransportArg::Udp) => Transport::Udp,
        Some(TransportArg::Tcp) => Transport::Tcp,
        None if matches!(kind, Use::Send | Use::Join) => Transport::Udp,
        None => Transport::Tcp,
    };
    let addr = address(target, kind)?;
    let what = AddressUse { kind, transport, addr, also: also(kind, addr, args.only_ipv6)? };
    let control = control(&args.listen)?;
    // Where it serves is there; which other addresses its host has is not known here.
    let of_host = control.iter().map(SocketAddr::ip).chain(args.host_address.iter().copied());
    let of_host: Vec<IpAddr> = of_host.map(|ip| ip.to_canonical()).collect();
    let place = Place { control: &control, is_local: &|ip| of_host.contains(&ip) };
    Ok((what.to_string(), policy.decide(&who, &what, place)))
}

/// What an address leads to as well, of a socket that the agent makes like all others, or that takes only IPv6.
fn also(kind: Use, addr: SocketAddr, only_ipv6: bool) -> Result<Option<IpAddr>, String> {
    match (kind, AddressUse::takes_as_well(addr, || false)) {
        (Use::Bind | Use::Listen, also) if also.is_some() || !only_ipv6 => Ok(also.filter(|_| !only_ipv6)),
        _ if only_ipv6 => {
            Err("--only-ipv6 changes what `bind` and `listen` at `[::]` mean, and nothing else: leave it out"
                .to_owned())
        }
        _ => Ok(None),
    }
}

/// Where TCP leads to an agent that serves there.
fn control(listen: &[Listen]) -> Result<Vec<SocketAddr>, String> {
    if listen.is_empty() {
        return Ok(vec![(Ipv4Addr::LOCALHOST, PORT).into()]);
    }
    let tcp = listen.iter().filter_map(|listen| match listen {
        Listen::Tcp(addr) if addr.port() == 0 => {
            Some(Err(format!("--listen {addr}: port 0 is another one at each start: name the one that it is")))
        }
        Listen::Tcp(addr) => Some(Ok(*addr)),
        Listen::Unix(_) => None,
    });
    tcp.collect()
}

fn address(text: &str, kind: Use) -> Result<SocketAddr, String> {
    let read = AddressText::parse(text).map_err(|problem| problem.to_string())?;
    let Host::Ip(ip, _) = read.host else {
        return Err(format!("`{text}`: an IP address is needed; what a name means, the agent looks up"));
    };
    match read.port {
        Port::Number(port) => Ok(socket_addr(ip, port, 0)),
        Port::Absent if matches!(kind, Use::Accept | Use::Join) => Ok(socket_addr(ip, 0, 0)),
        Port::Absent | Port::Service(_) => Err(format!("`{text}`: a port is needed, as a number")),
    }
}

fn show(source: &Source, policy: &Policy, who: &str, what: &str, decision: &Decision) -> Exit {
    let roles = match Principal::parse(who).map(|who| policy.roles(&who).join(", ")) {
        Ok(roles) if !roles.is_empty() => roles,
        _ => "no role".to_owned(),
    };
    let (verdict, may) = if decision.allowed { ("allowed", "may") } else { ("denied", "may not") };
    let mut text = format!("{verdict}: {who} ({roles}) {may} {what}: {decision}\n");
    if let Some(line) = decision.line()
        && let Some(rule) = source.text.lines().nth(line - 1)
    {
        text.push_str(&format!("  {}:{line}  {}\n", source.name, rule.trim()));
    }
    let printed = print(&text);
    if decision.allowed || printed != Exit::Passed { printed } else { Exit::Failed }
}
