//! From what was typed to a policy; all that is wrong with it is told at once, each mistake at its place.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::{Range, RangeInclusive};

use ipnet::IpNet;
use serde_saphyr::Spanned;
use sha2::{Digest, Sha256};

use crate::model::address::{Family, Transport};
use crate::model::id::{Principal, check_name};
use crate::model::mistake::{Mistake, Source, suggestion};
use crate::model::option::Access;
use crate::model::option_table::OPTIONS;
use crate::model::payload::to_hex;
use crate::model::policy::canonical::{SPECIAL, WORDS};
use crate::model::policy::file::{PolicyFile, RuleFile, Words, words};
use crate::model::policy::rule::{Rule, Whom};
use crate::model::policy::{FILE_BYTES, Policy, ROLES, Right, Standing, Use};
use crate::model::yaml::{self, Ordered, span};

/// How many bytes of a file's hash tell it from others.
const FINGERPRINT: usize = 6;

/// Whoever is not named.
const OTHERS: &str = "*";

pub(super) fn read(source: &Source) -> Result<Policy, Vec<Mistake>> {
    let file: PolicyFile = yaml::read(source, "a policy", FILE_BYTES).map_err(|mistake| vec![mistake])?;
    let mut reader = Reader { source, mistakes: Vec::new() };
    let roles = reader.roles(&file.roles);
    let (principals, others) = reader.principals(&file.principals, &roles);
    let fingerprint = to_hex(&Sha256::digest(&source.text)[..FINGERPRINT]);
    let mut policy = Policy { title: file.policy.value, fingerprint, principals, others, roles, rules: Vec::new() };
    policy.rules = file.rules.iter().filter_map(|rule| reader.rule(rule, &policy)).collect();
    if reader.mistakes.is_empty() { Ok(policy) } else { Err(reader.mistakes) }
}

struct Reader<'a> {
    source: &'a Source,
    mistakes: Vec<Mistake>,
}

type Roles = HashMap<String, Vec<Right>>;

impl Reader<'_> {
    fn wrong(&mut self, at: Range<usize>, message: impl Into<String>) {
        self.mistakes.push(Mistake::new(self.source, at, message));
    }

    fn unknown<'w>(&mut self, at: Range<usize>, what: &str, word: &str, known: impl Iterator<Item = &'w str> + Clone) {
        let mistake = Mistake::new(self.source, at, format!("there is no {what} `{word}`"));
        self.mistakes.push(mistake.labelled("unknown").helped(suggestion(word, known)));
    }

    fn roles(&mut self, typed: &Ordered<Spanned<Words>>) -> Roles {
        let mut roles: Roles = ROLES.iter().map(|(name, rights)| ((*name).to_owned(), rights.to_vec())).collect();
        for (name, rights) in &typed.0 {
            let at = span(&name.referenced);
            if let Err(problem) = check_name(&name.value) {
                self.wrong(at, problem.to_string());
            } else if roles.contains_key(&name.value) {
                self.wrong(
                    at,
                    format!("there is a role `{}` already: a role of one's own has another name", name.value),
                );
            }
            let rights = self.each(rights, "right", Right::named, Right::ALL.iter().map(|right| right.word()));
            roles.insert(name.value.clone(), rights);
        }
        roles
    }

    /// Reads words of one kind.
    fn each<'w, T>(
        &mut self,
        typed: &Spanned<Words>,
        what: &str,
        read: impl Fn(&str) -> Option<T>,
        known: impl Iterator<Item = &'w str> + Clone,
    ) -> Vec<T> {
        let mut found = Vec::new();
        for (word, at) in words(typed) {
            match read(word) {
                Some(value) => found.push(value),
                None => self.unknown(at, what, word, known.clone()),
            }
        }
        found
    }

    fn principals(
        &mut self,
        typed: &Ordered<Spanned<Words>>,
        roles: &Roles,
    ) -> (HashMap<Principal, Standing>, Standing) {
        let (mut principals, mut others) = (HashMap::new(), Standing::default());
        let known = sorted(roles);
        for (name, held) in &typed.0 {
            let role = |word: &str| roles.contains_key(word).then(|| word.to_owned());
            let held = standing(self.each(held, "role", role, known.iter().copied()), roles);
            if name.value == OTHERS {
                others = held;
                continue;
            }
            match Principal::parse(&name.value) {
                Ok(_) if roles.contains_key(&name.value) => {
                    let message = format!("`{}` is a role: a principal has another name", name.value);
                    self.wrong(span(&name.referenced), message);
                }
                Ok(principal) => drop(principals.insert(principal, held)),
                Err(problem) => self.wrong(span(&name.referenced), problem.to_string()),
            }
        }
        (principals, others)
    }

    fn rule(&mut self, typed: &Spanned<RuleFile>, policy: &Policy) -> Option<Rule> {
        let (at, file) = (span(&typed.referenced), &typed.value);
        let (uses, allow) = match (&file.allow, &file.deny) {
            (Some(uses), None) => (uses, true),
            (None, Some(uses)) => (uses, false),
            (Some(_), Some(deny)) => {
                self.wrong(span(&deny.referenced), "a rule allows or denies: make two rules of it");
                return None;
            }
            (None, None) => {
                self.wrong(at, "the rule neither allows nor denies: it needs `allow` or `deny`");
                return None;
            }
        };
        let kinds = self.uses(uses);
        let whom = file.r#for.as_ref().map(|whom| self.whom(whom, policy));
        let options = file.options.as_ref().map(|options| self.options(options));
        let (networks, control) = file.addresses.as_ref().map(|words| self.networks(words)).unwrap_or_default();
        let ports = file.ports.as_ref().map(|ports| self.ports(ports));
        let transport = file.transport.as_ref().and_then(|transport| self.transport(transport));
        let line = self.source.line(at.start);
        let is_set = kinds == [Use::Set];
        match (is_set, &file.addresses, &file.options) {
            (true, Some(addresses), _) => self.wrong(span(&addresses.referenced), "`set` has options and no addresses"),
            (true, None, None) => self.wrong(at, "`set` needs `options`: names of socket options, or `any`"),
            (false, None, _) if !kinds.is_empty() => {
                self.wrong(at, "the rule needs `addresses`: such as 10.0.0.0/24, or `any`")
            }
            (false, _, Some(options)) => self.wrong(span(&options.referenced), "`options` go with `set` alone"),
            _ => {}
        }
        Some(Rule { line, allow, uses: kinds, whom, networks, control, ports, transport, options: options.flatten() })
    }

    fn uses(&mut self, typed: &Spanned<Words>) -> Vec<Use> {
        if matches!(words(typed)[..], [("any", _)]) {
            return Use::ALL.iter().copied().filter(|kind| *kind != Use::Set).collect();
        }
        let known = Use::ALL.iter().map(|kind| kind.word()).chain(["any"]);
        let kinds = self.each(typed, "operation", Use::named, known);
        if kinds.contains(&Use::Set) && kinds.len() > 1 {
            self.wrong(span(&typed.referenced), "`set` is about options and stands alone: make two rules of it");
        }
        kinds
    }

    fn whom(&mut self, typed: &Spanned<Words>, policy: &Policy) -> Vec<Whom> {
        let whom = |word: &str| {
            if policy.roles.contains_key(word) {
                return Some(Whom::Role(word.to_owned()));
            }
            let principal = Principal::parse(word).ok()?;
            policy.principals.contains_key(&principal).then_some(Whom::Principal(principal))
        };
        let mut known = sorted(&policy.roles);
        known.extend(policy.principals.keys().map(Principal::as_str));
        known.sort_unstable();
        self.each(typed, "role or principal", whom, known.iter().copied())
    }

    /// Options; all where none is meant in particular.
    fn options(&mut self, typed: &Spanned<Words>) -> Option<Vec<&'static str>> {
        if matches!(words(typed)[..], [("any", _)]) {
            return None;
        }
        let settable = || OPTIONS.iter().filter(|spec| spec.access != Access::ReadOnly).map(|spec| spec.name);
        Some(self.each(typed, "option", |word| settable().find(|name| *name == word), settable()))
    }

    fn networks(&mut self, typed: &Spanned<Words>) -> (Vec<IpNet>, bool) {
        let (mut networks, mut control) = (Vec::new(), false);
        for (word, at) in words(typed) {
            match word {
                "any" => networks.extend([Family::Ipv4, Family::Ipv6].map(|family| whole(family.wildcard()))),
                "control" => control = true,
                _ if WORDS.contains(&word) => {
                    networks
                        .extend(SPECIAL.iter().filter(|special| special.word == word).map(|special| special.network));
                }
                _ => networks.extend(self.network(word, at)),
            }
        }
        (networks, control)
    }

    fn network(&mut self, word: &str, at: Range<usize>) -> Option<IpNet> {
        let network = match (word.parse::<IpAddr>(), word.parse::<IpNet>()) {
            (Ok(ip), _) => IpNet::from(ip),
            (_, Ok(network)) => network,
            _ if word.starts_with(|c: char| c.is_ascii_alphabetic()) && !word.contains([':', '.', '/']) => {
                self.unknown(at, "address", word, WORDS.into_iter().chain(["any", "control"]));
                return None;
            }
            _ => {
                let words = WORDS.join(", ");
                let message = format!(
                    "`{word}` is no address or network: such as 10.0.0.2, 10.0.0.0/24, fd00::/64, any, control, {words}"
                );
                self.wrong(at, message);
                return None;
            }
        };
        if network.trunc() != network {
            self.wrong(
                at,
                format!("`{word}` has bits behind its prefix: {} is meant, or one address", network.trunc()),
            );
            return None;
        }
        if let IpNet::V6(v6) = network
            && v6.addr().to_ipv4_mapped().is_some()
            && v6.prefix_len() >= 96
        {
            self.wrong(at, format!("`{word}` is IPv4 in another spelling: write it as IPv4, which means both"));
            return None;
        }
        Some(network)
    }

    fn ports(&mut self, typed: &Spanned<Words>) -> Vec<RangeInclusive<u16>> {
        let mut ports = Vec::new();
        for (word, at) in words(typed) {
            let (low, high) = word.split_once('-').unwrap_or((word, word));
            match (low.trim().parse::<u16>(), high.trim().parse::<u16>()) {
                (Ok(low), Ok(high)) if low <= high => ports.push(low..=high),
                _ => {
                    self.wrong(at, format!("`{word}` is no port: a number up to 65535, or two of them as in 8000-8999"))
                }
            }
        }
        ports
    }

    fn transport(&mut self, typed: &Spanned<Words>) -> Option<Transport> {
        let named = |word: &str| [Transport::Tcp, Transport::Udp].into_iter().find(|known| known.name() == word);
        let found = self.each(typed, "transport", named, ["tcp", "udp"].into_iter());
        // Both are the same as not saying it.
        found.first().copied().filter(|first| found.iter().all(|other| other == first))
    }
}

/// All addresses of a family.
fn whole(wildcard: IpAddr) -> IpNet {
    IpNet::new(wildcard, 0).unwrap_or_else(|_| wildcard.into())
}

/// What somebody who has these roles may do.
fn standing(held: Vec<String>, roles: &Roles) -> Standing {
    let has = |right: &&Right| held.iter().filter_map(|role| roles.get(role)).any(|rights| rights.contains(right));
    Standing { rights: Right::ALL.iter().filter(has).copied().collect(), roles: held }
}

fn sorted(roles: &Roles) -> Vec<&str> {
    let mut names: Vec<&str> = roles.keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}
