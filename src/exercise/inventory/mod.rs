//! Inventories: which agents there are, by name, how to get in, and who of them plays which role. Pure.
//!
//! A file is one that the clients in other languages read, too (`file`), or one that Ansible reads (`ansible`).

mod ansible;
mod cast;
mod file;

use std::net::IpAddr;
use std::ops::Range;

use serde_saphyr::Spanned;

use crate::exercise::inventory::file::{HostFile, InventoryFile};
use crate::model::endpoint::Endpoint;
use crate::model::id::shorten;
use crate::model::labels;
use crate::model::mistake::{Mistake, Source};
use crate::model::yaml::{self, span};

pub(crate) use crate::exercise::inventory::cast::players;
pub use crate::exercise::inventory::cast::{Casting, Mode, Player, Unknown, Wanted, wanted};

/// The largest inventory that is read, in bytes.
pub const FILE_BYTES: usize = 1 << 20;

/// The most hosts that an inventory has.
const MOST_HOSTS: usize = 4096;

/// The longest name of a host: that of a DNS name.
const NAME_BYTES: usize = 253;

/// Agents with names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// The file that it stands in.
    pub file: String,
    /// Who is there, in the order of the file.
    pub hosts: Vec<Listed>,
    /// Groups, and who is in them, in the order of the file.
    pub groups: Vec<(String, Vec<usize>)>,
}

/// A host that an inventory lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Where its agent is reached.
    pub agent: Endpoint,
    /// Where its token is.
    pub token: Option<TokenPlace>,
    /// Whose certificate is shown to it.
    pub tls: Option<TlsPlaces>,
    /// The program that ssh starts there.
    pub program: Option<String>,
    /// Words about it.
    pub labels: Vec<(String, String)>,
    /// Its addresses, by the networks that they are in.
    pub addresses: Vec<(String, Vec<IpAddr>)>,
}

/// Where a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenPlace {
    /// In this file. A relative path begins where the inventory is; so do those of [`TlsPlaces`].
    File(String),
    /// In this variable of the environment.
    Variable(String),
}

/// Where a certificate is, and what goes with it where it is not beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsPlaces {
    /// The certificate.
    pub cert: String,
    /// Its private key.
    pub key: Option<String>,
    /// The CA of the other side.
    pub ca: Option<String>,
}

impl Inventory {
    /// The variables of the environment that hold tokens.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().filter_map(|host| match &host.token {
            Some(TokenPlace::Variable(name)) => Some(&name[..]),
            Some(TokenPlace::File(_)) | None => None,
        })
    }
}

impl Listed {
    /// The addresses that it has in a network.
    pub fn addresses_in(&self, network: &str) -> &[IpAddr] {
        self.addresses.iter().find(|(name, _)| name == network).map_or(&[], |(_, addresses)| addresses)
    }
}

/// Reads an inventory. All that is wrong with it comes back at once.
pub fn read(source: &Source) -> Result<Inventory, Vec<Mistake>> {
    let mut reader = Reader { source, mistakes: Vec::new(), hosts: Vec::new(), groups: Vec::new() };
    let read = file::is_ansible(source).and_then(|is_ansible| match is_ansible {
        true => ansible::read(&mut reader),
        false => yaml::read(source, "an inventory", FILE_BYTES).map(|file: InventoryFile| reader.file(&file)),
    });
    reader.mistakes.extend(read.err());
    if reader.mistakes.is_empty() && reader.hosts.is_empty() {
        let help = "it lists them by their names: `hosts: { lab-a: \"lab-a.example:7625\" }`";
        reader.wrong_with_help(0..0, "the inventory has no hosts", help);
    }
    let Reader { mistakes, hosts, groups, .. } = reader;
    if mistakes.is_empty() { Ok(Inventory { file: source.name.clone(), hosts, groups }) } else { Err(mistakes) }
}

/// The state of reading a file.
struct Reader<'a> {
    source: &'a Source,
    mistakes: Vec<Mistake>,
    hosts: Vec<Listed>,
    groups: Vec<(String, Vec<usize>)>,
}

impl Reader<'_> {
    fn file(&mut self, file: &InventoryFile) {
        for (name, host) in &file.hosts.0 {
            self.listed(name, host);
        }
        for (group, _) in self.groups.clone() {
            if self.hosts.iter().any(|host| host.name == group) {
                let at =
                    file.hosts.0.iter().find(|(name, _)| name.value == group).map(|(name, _)| span(&name.referenced));
                self.wrong(at.unwrap_or(0..0), format!("`{group}` is a group, too: give one of both another name"));
            }
        }
    }

    fn listed(&mut self, name: &Spanned<String>, typed: &Spanned<HostFile>) {
        let host = &typed.value;
        let (text, at) = match (&host.agent, &host.short) {
            (Some(agent), _) => (&agent.value, span(&agent.referenced)),
            (None, Some(text)) => (text, span(&typed.referenced)),
            // Its name is where it is.
            (None, None) => (&name.value, span(&name.referenced)),
        };
        let agent = self.agent(text, at);
        let (token, tls) = (self.token(host), self.tls(host));
        let Some(agent) = agent else { return };
        if let Some(program) = &host.program
            && !matches!(agent, Endpoint::Ssh { .. })
        {
            let message = "`program` is what ssh starts, and this agent is not reached by ssh";
            self.wrong_with_help(span(&program.referenced), message, "write `agent: ssh://USER@HOST`, or leave it out");
        }
        if !self.host(name, agent) {
            return;
        }
        let (labels, addresses) = (self.labels(host), self.addresses(host));
        let index = self.hosts.len() - 1;
        for group in &host.groups {
            if let Err(problem) = check_name(&group.value) {
                self.wrong(span(&group.referenced), problem);
            }
            self.member(&group.value, index);
        }
        let listed = &mut self.hosts[index];
        listed.program = host.program.as_ref().map(|program| program.value.clone());
        (listed.token, listed.tls) = (token, tls);
        (listed.labels, listed.addresses) = (labels, addresses);
    }

    fn token(&mut self, host: &HostFile) -> Option<TokenPlace> {
        match (&host.token_file, &host.token_env) {
            (None, None) => None,
            (Some(file), None) => Some(TokenPlace::File(file.value.clone())),
            (None, Some(variable)) => Some(TokenPlace::Variable(variable.value.clone())),
            (Some(_), Some(variable)) => {
                self.wrong(span(&variable.referenced), "the token is in a file or in a variable, not in both");
                None
            }
        }
    }

    fn tls(&mut self, host: &HostFile) -> Option<TlsPlaces> {
        let value = |field: &Option<Spanned<String>>| field.as_ref().map(|field| field.value.clone());
        match (&host.tls_cert, host.tls_key.as_ref().or(host.tls_ca.as_ref())) {
            (Some(cert), _) => {
                if let Some(token) = host.token_file.as_ref().or(host.token_env.as_ref()) {
                    self.wrong(span(&token.referenced), "a token or a certificate is shown, not both");
                }
                Some(TlsPlaces { cert: cert.value.clone(), key: value(&host.tls_key), ca: value(&host.tls_ca) })
            }
            (None, Some(other)) => {
                self.wrong_with_help(
                    span(&other.referenced),
                    "`tls_cert` is missing",
                    "a key and a CA go with a certificate",
                );
                None
            }
            (None, None) => None,
        }
    }

    fn labels(&mut self, host: &HostFile) -> Vec<(String, String)> {
        let mut labels = Vec::with_capacity(host.labels.0.len());
        for (key, value) in &host.labels.0 {
            if let Err(problem) = labels::check(&key.value, &value.value) {
                self.wrong(span(&key.referenced), problem.to_string());
            }
            labels.push((key.value.clone(), value.value.clone()));
        }
        labels
    }

    fn addresses(&mut self, host: &HostFile) -> Vec<(String, Vec<IpAddr>)> {
        let mut addresses = Vec::with_capacity(host.addresses.0.len());
        for (network, typed) in &host.addresses.0 {
            if let Err(problem) = check_name(&network.value) {
                self.wrong(span(&network.referenced), problem);
            }
            let mut found = Vec::new();
            if typed.value.0.is_empty() {
                self.wrong(
                    span(&typed.referenced),
                    format!("`{}` has no address here: give one, or leave it out", network.value),
                );
            }
            for text in &typed.value.0 {
                match text.parse::<IpAddr>() {
                    Ok(address) => found.push(address),
                    Err(_) => self.wrong_with_help(
                        span(&typed.referenced),
                        format!("`{}` is no IP address", shorten(text)),
                        "write it as 192.0.2.1 or 2001:db8::1",
                    ),
                }
            }
            addresses.push((network.value.clone(), found));
        }
        addresses
    }

    /// Where an agent is reached.
    fn agent(&mut self, text: &str, at: Range<usize>) -> Option<Endpoint> {
        let agent = text.parse::<Endpoint>();
        match agent {
            Ok(agent) => Some(agent),
            Err(problem) => {
                let help = "an agent is at HOST:PORT, unix:PATH or ssh://USER@HOST";
                self.wrong_with_help(at, format!("`{}` is no endpoint: {problem}", shorten(text)), help);
                None
            }
        }
    }

    /// Takes a host, unless there can be none of that name.
    fn host(&mut self, name: &Spanned<String>, agent: Endpoint) -> bool {
        let at = span(&name.referenced);
        if let Err(problem) = check_name(&name.value) {
            self.wrong(at, problem);
            return false;
        }
        if self.hosts.len() == MOST_HOSTS {
            let message = format!("an inventory has at most {MOST_HOSTS} hosts");
            // Once is enough.
            if !self.mistakes.iter().any(|mistake| mistake.message == message) {
                self.wrong(at, message);
            }
            return false;
        }
        let (token, tls, program) = (None, None, None);
        let (labels, addresses) = (Vec::new(), Vec::new());
        self.hosts.push(Listed { name: name.value.clone(), agent, token, tls, program, labels, addresses });
        true
    }

    fn member(&mut self, group: &str, host: usize) {
        let members = match self.groups.iter_mut().find(|(name, _)| name == group) {
            Some((_, members)) => members,
            None => {
                self.groups.push((group.to_owned(), Vec::new()));
                let last = self.groups.len() - 1;
                &mut self.groups[last].1
            }
        };
        if !members.contains(&host) {
            members.push(host);
        }
    }

    fn wrong(&mut self, at: Range<usize>, message: impl Into<String>) {
        self.mistakes.push(Mistake::new(self.source, at, message));
    }

    fn wrong_with_help(&mut self, at: Range<usize>, message: impl Into<String>, help: &str) {
        self.mistakes.push(Mistake::new(self.source, at, message).helped(help));
    }
}

/// Names of hosts, groups and networks: nothing that could be an endpoint, or a label.
fn check_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let named = name.chars().all(fits) && !name.chars().all(|c| c.is_ascii_digit());
    if (1..=NAME_BYTES).contains(&name.len()) && named {
        return Ok(());
    }
    let shown = shorten(name);
    Err(format!("`{shown}` is not a name: up to {NAME_BYTES} letters, digits, `.`, `_` and `-`, and not digits alone"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Inventory, Vec<Mistake>> {
        read(&Source { name: "lab.yaml".into(), text: text.into() })
    }

    #[test]
    fn hosts_are_read_with_all_that_is_said_of_them() {
        let lab = read_text(
            "hosts:
  lab-a: lab-a.example:7625
  lab-b: {agent: 'unix:/run/lab-b.sock'}
  lab-c: {agent: '127.0.0.1:7626', token_file: lab-c.token}
  lab-d: {agent: 'lab-d:7625', tls_cert: pki/alice.pem, tls_key: k, tls_ca: c}
  lab-e: 7627
  lab-f.example:
  lab-g:
    agent: ssh://me@lab-g
    program: /opt/farsock
    labels: {site: madrid, rack: 7}
    groups: [web, db]
    addresses: {front: 192.0.2.7, back: [10.0.0.7, 'fd00::7']}
  lab-h: {agent: 7628, token_env: LAB_H, groups: [web]}
",
        )
        .unwrap();
        let agents: Vec<String> = lab.hosts.iter().map(|host| host.agent.to_string()).collect();
        let [a, b, c, d, e] =
            ["lab-a.example:7625", "unix:/run/lab-b.sock", "127.0.0.1:7626", "lab-d:7625", "127.0.0.1:7627"];
        assert_eq!(agents, [a, b, c, d, e, "lab-f.example:7625", "ssh://me@lab-g", "127.0.0.1:7628"]);
        assert_eq!(lab.hosts[2].token, Some(TokenPlace::File("lab-c.token".into())));
        let tls = TlsPlaces { cert: "pki/alice.pem".into(), key: Some("k".into()), ca: Some("c".into()) };
        assert_eq!(lab.hosts[3].tls, Some(tls));
        let last = &lab.hosts[6];
        assert_eq!(last.program.as_deref(), Some("/opt/farsock"));
        assert_eq!(last.labels, [("site".to_owned(), "madrid".to_owned()), ("rack".to_owned(), "7".to_owned())]);
        assert_eq!(last.addresses_in("back"), ["10.0.0.7".parse::<IpAddr>().unwrap(), "fd00::7".parse().unwrap()]);
        assert_eq!(last.addresses_in("side"), [] as [IpAddr; 0]);
        assert_eq!(lab.hosts[7].token, Some(TokenPlace::Variable("LAB_H".into())));
        assert_eq!(lab.groups, [("web".to_owned(), vec![6, 7]), ("db".to_owned(), vec![6])]);
    }

    /// As containerlab writes it, with a group of one's own, and a node that has no address.
    #[test]
    fn what_containerlab_writes_for_ansible_is_read_as_it_is() {
        let lab = read_text(
            "all:
  vars:
    # How Ansible gets in is of no concern here.
    ansible_httpapi_use_proxy: false
  children:
    nokia_srlinux:
      vars:
        ansible_network_os: nokia.srlinux.srlinux
        ansible_user: admin
        ansible_password: NokiaSrl1!
      hosts:
        clab-dmz-router:
          ansible_host: 172.20.20.2
    linux:
      hosts:
        clab-dmz-web:
          ansible_host: 172.20.20.3
        clab-dmz-client:
          ansible_host:
        clab-dmz-old:
    servers:
      hosts:
        clab-dmz-web:
          ansible_host: 172.20.20.3
",
        )
        .unwrap();
        let hosts: Vec<(&str, String)> =
            lab.hosts.iter().map(|host| (host.name.as_str(), host.agent.to_string())).collect();
        let host = |name, agent: &str| (name, agent.to_owned());
        assert_eq!(
            hosts,
            [
                host("clab-dmz-router", "172.20.20.2:7625"),
                host("clab-dmz-web", "172.20.20.3:7625"),
                host("clab-dmz-client", "clab-dmz-client:7625"),
                host("clab-dmz-old", "clab-dmz-old:7625"),
            ]
        );
        let group = |name: &str, hosts: &[usize]| (name.to_owned(), hosts.to_vec());
        assert_eq!(lab.groups, [group("nokia_srlinux", &[0]), group("linux", &[1, 2, 3]), group("servers", &[1])]);
    }

    #[test]
    fn size_and_nesting_are_bounded() {
        assert!(read_text(&" ".repeat(FILE_BYTES + 1)).unwrap_err()[0].message.contains("at most"));
        let many: String = (0..=MOST_HOSTS).map(|at| format!("  h{at}: x\n")).collect();
        let mistakes = read_text(&format!("hosts:\n{many}")).unwrap_err();
        assert_eq!(mistakes[0].message, format!("an inventory has at most {MOST_HOSTS} hosts"));
        assert_eq!(mistakes.len(), 1);
        let deep = format!("all: {}{}", "{children: {x: ".repeat(40), "}}".repeat(40));
        assert!(!read_text(&deep).unwrap_err().is_empty());
        assert!(read_text("a: &a [x,x]\nhosts: {b: [*a,*a,*a]}").is_err());
    }
}
