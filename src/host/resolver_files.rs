//! What the files say by which the resolver of the C library goes. nsswitch.conf(5), resolv.conf(5), hosts(5).

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;

use crate::model::lookup::ResolverView;

/// How many bytes of a file are looked at: a hosts file may be long, and is not a thing to fill memory with.
const MOST_BYTES: u64 = 1 << 20;

/// How many entries of the hosts file are told.
const MOST_ENTRIES: usize = 64;

/// What they say now about a host name or an address.
pub(super) fn view(question: &str) -> ResolverView {
    let mut view = ResolverView {
        sources: sources(&text("/etc/nsswitch.conf")),
        hosts_file_entries: entries(&text("/etc/hosts"), question),
        ..ResolverView::default()
    };
    servers(&text("/etc/resolv.conf"), &mut view);
    view
}

/// A file that is not there, or may not be read, says nothing.
fn text(path: &str) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes));
    read.map(|_| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// The words of a line before a comment.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split('#').next().unwrap_or_default().split_whitespace()
}

fn sources(nsswitch: &str) -> Vec<String> {
    let of_hosts = nsswitch.lines().find_map(|line| line.split('#').next()?.trim().strip_prefix("hosts:"));
    let mut sources: Vec<String> = Vec::new();
    for word in of_hosts.unwrap_or_default().split_whitespace() {
        match sources.last_mut() {
            // What is to be done stands in brackets, perhaps in several words.
            Some(open) if open.starts_with('[') && !open.ends_with(']') => *open = format!("{open} {word}"),
            _ => sources.push(word.to_owned()),
        }
    }
    sources
}

fn servers(resolv: &str, view: &mut ResolverView) {
    for line in resolv.lines().filter(|line| !line.trim_start().starts_with(';')) {
        let mut words = words(line);
        match words.next() {
            Some("nameserver") => view.name_servers.extend(words.next().map(str::to_owned)),
            // The last one counts.
            Some("search") => view.search_domains = words.map(str::to_owned).collect(),
            Some("domain") => view.search_domains = words.take(1).map(str::to_owned).collect(),
            Some("options") => view.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
}

/// The addresses of a name, or the names of an address.
fn entries(hosts: &str, question: &str) -> Vec<String> {
    let asked: Option<IpAddr> = question.parse().ok();
    let name = question.trim_end_matches('.');
    let mut found: Vec<String> = Vec::new();
    for line in hosts.lines() {
        let mut words = words(line);
        let Some(address) = words.next() else { continue };
        if asked.is_some() {
            if address.parse().ok() == asked {
                found.extend(words.map(str::to_owned));
            }
        } else if words.any(|alias| alias.trim_end_matches('.').eq_ignore_ascii_case(name)) {
            found.push(address.to_owned());
        }
    }
    found.truncate(MOST_ENTRIES);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_in_their_order() {
        let told = |text: &str| sources(text).join(" | ");
        assert_eq!(
            told("passwd: files\nhosts:\tfiles mdns4_minimal [NOTFOUND=return] dns # as usual\n"),
            "files | mdns4_minimal | [NOTFOUND=return] | dns"
        );
        assert_eq!(
            told("hosts: dns [!UNAVAIL=return TRYAGAIN=continue] files"),
            "dns | [!UNAVAIL=return TRYAGAIN=continue] | files"
        );
        for silent in ["", "# hosts: files", "networks: files", "hosts:", "hosts: # none"] {
            assert_eq!(told(silent), "", "{silent}");
        }
    }

    #[test]
    fn servers_and_domains_are_told() {
        let told = |text: &str| {
            let mut view = ResolverView::default();
            servers(text, &mut view);
            [view.name_servers, view.search_domains, view.options].map(|words| words.join(" "))
        };
        let text = "; made by hand\n# nameserver 9.9.9.9\nnameserver 10.0.0.53\nnameserver fe80::1%eth0 # ours\n\
                    domain old.example\nsearch lab.example example\noptions ndots:2 timeout:1\noptions rotate\n";
        assert_eq!(told(text), ["10.0.0.53 fe80::1%eth0", "lab.example example", "ndots:2 timeout:1 rotate"]);
        assert_eq!(told("search a\ndomain b c\nnameserver\n"), ["", "b", ""]);
        assert_eq!(told(""), ["", "", ""]);
    }

    #[test]
    fn the_hosts_file_is_asked_both_ways() {
        let hosts = "127.0.0.1 localhost\n::1 localhost ip6-localhost # loopback\n10.0.0.7\tLab-B.example lab-b\n# 10.0.0.8 lab-b\n";
        let told = |question: &str| entries(hosts, question).join(" ");
        assert_eq!(told("localhost"), "127.0.0.1 ::1");
        assert_eq!(told("LAB-b.Example."), "10.0.0.7");
        assert_eq!(told("10.0.0.7"), "Lab-B.example lab-b");
        assert_eq!(told("0:0::1"), "localhost ip6-localhost");
        for unknown in ["10.0.0.8", "lab", "", "lab-b.example.org", "#"] {
            assert_eq!(told(unknown), "", "{unknown}");
        }
        assert_eq!(entries(&"10.0.0.7 lab-b\n".repeat(100), "lab-b").len(), MOST_ENTRIES);
    }
}
