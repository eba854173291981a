//! `farsock pki`: the certificates of a lab.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};

use crate::cli::{Exit, complain, print};
use crate::pki::{Authority, Certificate, Issued, Kind, PkiError, Subject};

const DAY: Duration = Duration::from_secs(86_400);

/// A certificate is renewed by `renew` without names when so much of its time, or less, is left: one third.
const RENEW_AT: u32 = 3;

/// What `farsock pki` takes.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  farsock pki init
  farsock pki issue lab-a 10.0.0.1
  farsock pki issue --controller alice
  scp ~/.config/farsock/pki/{lab-a.pem,lab-a.key,ca.pem} policy.yaml lab-a:
  ssh lab-a farsock agent --listen 0.0.0.0:7625 --tls-cert lab-a.pem --policy policy.yaml
  FARSOCK_TLS_CERT=~/.config/farsock/pki/alice.pem farsock run --host a=lab-a exercise.yaml

Certificates and ca.pem may be read by everybody, keys by nobody else. An agent reads its files again at SIGHUP, and serves on meanwhile.")]
pub(super) struct PkiArgs {
    #[command(subcommand)]
    command: PkiCommand,

    /// Where the certificates and keys are [default: ~/.config/farsock/pki]
    #[arg(long, value_name = "DIR", env = "FARSOCK_PKI", global = true)]
    dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum PkiCommand {
    /// Make the lab's CA, which signs all other certificates
    Init {
        /// What people know it by
        #[arg(long, default_value = "farsock lab")]
        name: String,

        /// For how many days it is good
        #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// Make a key and a certificate for an agent, or for a controller
    Issue {
        /// The names and addresses by which clients call the agent; its files are named after the first
        #[arg(value_name = "HOST", required_unless_present = "controller")]
        hosts: Vec<String>,

        /// For a controller instead: the principal as whom agents know it
        #[arg(long, value_name = "NAME", conflicts_with = "hosts")]
        controller: Option<String>,

        /// For how many days it is good [default: 365 for an agent, 90 for a controller]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: Option<u32>,

        /// Make a new key and certificate for who has one
        #[arg(long)]
        replace: bool,
    },
    /// Give certificates as much time again as they had, with the same names and keys
    Renew {
        /// Whose: NAME of NAME.pem [default: all that have less than a third of their time left]
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Show who has certificates, and until when they are good
    Show {
        /// Certificate files [default: all of the directory]
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,

        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
}

/// Makes, renews and shows certificates.
pub(super) fn pki(args: PkiArgs) -> Exit {
    let Some(directory) = args.dir.or_else(directory) else {
        complain("there is no HOME, where certificates would be: --dir names another place");
        return Exit::Usage;
    };
    let now = SystemTime::now();
    let done = match args.command {
        PkiCommand::Init { name, days } => init(&directory, &name, DAY * days, now),
        PkiCommand::Issue { hosts, controller, days, replace } => {
            let (subject, usual) = match controller {
                Some(name) => (Subject::Controller(name), 90),
                None => (Subject::Agent(hosts), 365),
            };
            issue(&directory, &subject, DAY * days.unwrap_or(usual), replace, now)
        }
        PkiCommand::Renew { names } => renew(&directory, &names, now),
        PkiCommand::Show { files, json } => show(&directory, &files, json, now),
    };
    done.unwrap_or_else(|problem| {
        complain(&problem);
        if matches!(problem, PkiError::Name(_)) { Exit::Usage } else { Exit::CouldNotRun }
    })
}

/// The directory of this user's lab.
fn directory() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")))?;
    Some(config.join("farsock/pki"))
}

fn init(directory: &Path, name: &str, lifetime: Duration, now: SystemTime) -> Result<Exit, PkiError> {
    let authority = Authority::init(directory, name, now, lifetime)?;
    Ok(print(&format!(
        "made {0}/ca.pem, the CA `{1}`, good to {2}\n{0}/ca.key signs whatever it is asked to: keep it to yourself\n\
         next: farsock pki issue HOST, and farsock pki issue --controller NAME\n",
        directory.display(),
        name,
        day(authority.certificate()),
    )))
}

fn issue(
    directory: &Path,
    subject: &Subject,
    lifetime: Duration,
    replace: bool,
    now: SystemTime,
) -> Result<Exit, PkiError> {
    let Issued { path, certificate } = Authority::open(directory, now)?.issue(subject, now, lifetime, replace)?;
    let shown = path.display();
    let names = certificate.names().join(", ");
    let next = match subject {
        Subject::Agent(_) => {
            format!(
                "copy it with {} and ca.pem to that host: farsock agent --listen 0.0.0.0:7625 --tls-cert {} --policy FILE",
                file(&path, "key"),
                file(&path, "pem")
            )
        }
        Subject::Controller(_) => format!("use it: export FARSOCK_TLS_CERT={shown}"),
    };
    Ok(print(&format!("made {shown} for {} {names}, good to {}\n{next}\n", certificate.kind, day(&certificate))))
}

/// The last part of a path, with this ending.
fn file(path: &Path, extension: &str) -> String {
    path.with_extension(extension).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn renew(directory: &Path, names: &[String], now: SystemTime) -> Result<Exit, PkiError> {
    let authority = Authority::open(directory, now)?;
    let paths: Vec<PathBuf> = if names.is_empty() {
        let due = |certificate: &Certificate| certificate.kind != Kind::Authority && is_due(certificate, now);
        let all = Authority::list(directory)?.into_iter();
        all.filter(|(_, certificate)| due(certificate)).map(|(path, _)| path).collect()
    } else {
        names.iter().map(|name| directory.join(format!("{name}.pem"))).collect()
    };
    let mut text = String::new();
    for path in &paths {
        let renewed = authority.renew(path, now)?;
        text.push_str(&format!("renewed {}, good to {}\n", path.display(), day(&renewed.certificate)));
    }
    if paths.is_empty() {
        text.push_str("nothing is due: all have more than a third of their time left\n");
    }
    Ok(print(&text))
}

fn is_due(certificate: &Certificate, now: SystemTime) -> bool {
    let whole = certificate.not_after.duration_since(certificate.not_before).unwrap_or_default();
    certificate.not_after.duration_since(now).unwrap_or_default() < whole / RENEW_AT
}

fn show(directory: &Path, files: &[PathBuf], json: bool, now: SystemTime) -> Result<Exit, PkiError> {
    if files.is_empty() && !directory.exists() {
        complain(format_args!(
            "{}: there are no certificates yet: `farsock pki init` makes a CA, which issues them; --dir names another place",
            directory.display()
        ));
        return Ok(Exit::CouldNotRun);
    }
    let all = if files.is_empty() { Authority::list(directory)? } else { Authority::read_all(files)? };
    let mut text = String::new();
    for (path, certificate) in &all {
        let names = certificate.names();
        if json {
            let line = serde_json::json!({
                "file": path,
                "kind": certificate.kind.to_string(),
                "subject": certificate.subject,
                "names": names,
                "serial": certificate.serial,
                "not_before": time(certificate.not_before),
                "not_after": time(certificate.not_after),
                "expired": certificate.not_after <= now,
            });
            text.push_str(&format!("{line}\n"));
        } else {
            let who = if names.is_empty() { certificate.subject.clone() } else { names.join(", ") };
            let left = certificate
                .not_after
                .duration_since(now)
                .map_or_else(|_| "EXPIRED".to_owned(), |left| format!("{} days left", left.as_secs() / DAY.as_secs()));
            let until = day(certificate);
            text.push_str(&format!("{:<10} {who}  to {until}, {left}  {}\n", certificate.kind, path.display()));
        }
    }
    Ok(print(&text))
}

/// The day on which a certificate's time is over.
fn day(certificate: &Certificate) -> String {
    time(certificate.not_after).split('T').next().unwrap_or_default().to_owned()
}

fn time(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map(|time| time.to_string()).unwrap_or_default()
}
