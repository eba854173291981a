//! From networks as they are typed to what they mean; all that is wrong with them is told at once.

use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::Range;

use ipnet::IpNet;
use serde_saphyr::Spanned;

use crate::exercise::check::Files;
use crate::exercise::networks::file::{NetworkFile, RouterFile};
use crate::exercise::networks::{MOST_HOSTS, MOST_NETWORKS, Member, Network, Networks, Router, nth};
use crate::model::id::{check_name, shorten};
use crate::model::mistake::{Mistake, Source, suggestion};
use crate::model::yaml::{Ordered, Several, span};

/// How many addresses are looked at, at the most, to find one that is free.
const LOOKED_AT: u128 = 1 << 16;

/// The smallest and the largest packet that a network may be made to carry at the most: RFC 791, and veth(4).
const MTU: std::ops::RangeInclusive<u32> = 68..=65_535;

/// The smallest where there is IPv6. RFC 8200.
const MTU_IPV6: u32 = 1280;

/// Reads networks and routers of hosts with these roles. Rules of routers are read where the exercise stands.
pub(in crate::exercise) fn read(
    source: &Source,
    files: &dyn Files,
    roles: &[String],
    networks: &Ordered<Spanned<NetworkFile>>,
    routers: &Ordered<Option<Spanned<RouterFile>>>,
) -> Result<Networks, Vec<Mistake>> {
    let mut reader =
        Reader { source, files, roles, mistakes: Vec::new(), read: Networks::default(), taken: HashSet::new() };
    reader.networks(networks);
    reader.everybody(networks);
    reader.routers(routers);
    if reader.mistakes.is_empty() { Ok(reader.read) } else { Err(reader.mistakes) }
}

struct Reader<'a> {
    source: &'a Source,
    files: &'a dyn Files,
    roles: &'a [String],
    mistakes: Vec<Mistake>,
    read: Networks,
    /// Addresses that somebody has.
    taken: HashSet<IpAddr>,
}

impl Reader<'_> {
    fn networks(&mut self, networks: &Ordered<Spanned<NetworkFile>>) {
        if let Some((name, _)) = networks.0.get(MOST_NETWORKS) {
            self.wrong(span(&name.referenced), format!("an exercise has at most {MOST_NETWORKS} networks"));
        }
        if self.roles.len() > MOST_HOSTS {
            self.wrong(0..0, format!("networks join at most {MOST_HOSTS} hosts"));
        }
        for (name, file) in networks.0.iter().take(MOST_NETWORKS) {
            if let Err(problem) = check_name(&name.value) {
                self.wrong(span(&name.referenced), problem.to_string());
            }
            let subnets = self.subnets(&file.value.subnet);
            let mtu = file.value.mtu.as_ref().and_then(|mtu| self.mtu(mtu, &subnets));
            let members = self.members(name, &file.value.hosts, &subnets);
            self.read.networks.push(Network { name: name.value.clone(), subnets, mtu, members });
        }
    }

    fn subnets(&mut self, typed: &Spanned<Several>) -> Vec<IpNet> {
        let at = span(&typed.referenced);
        let mut subnets: Vec<IpNet> = Vec::new();
        for text in &typed.value.0 {
            let Ok(subnet) = text.parse::<IpNet>() else {
                let message = format!("`{}` is no subnet", shorten(text));
                self.wrong_with_help(at.clone(), message, "write it as 192.0.2.0/24 or 2001:db8::/64");
                continue;
            };
            if subnet != subnet.trunc() {
                let help = format!("that is in {}", subnet.trunc());
                self.wrong_with_help(at.clone(), format!("{subnet} is an address in a subnet, and no subnet"), help);
                continue;
            }
            let others = self.read.networks.iter().flat_map(|network| &network.subnets).chain(&subnets);
            let mut others = others.filter(|other| other.contains(&subnet) || subnet.contains(*other));
            match others.next().copied() {
                Some(other) => {
                    self.wrong(at.clone(), format!("{subnet} overlaps {other}: no address may be in two subnets"))
                }
                None => subnets.push(subnet),
            }
        }
        if typed.value.0.is_empty() {
            self.wrong(at, "a network needs a subnet");
        }
        subnets
    }

    fn mtu(&mut self, typed: &Spanned<String>, subnets: &[IpNet]) -> Option<u32> {
        let has_ipv6 = subnets.iter().any(|subnet| subnet.addr().is_ipv6());
        let least = if has_ipv6 { MTU_IPV6 } else { *MTU.start() };
        let mtu = typed.value.parse::<u32>().ok().filter(|mtu| MTU.contains(mtu) && *mtu >= least);
        if mtu.is_none() {
            let most = MTU.end();
            let why = if has_ipv6 { ", as IPv6 needs it" } else { "" };
            self.wrong(
                span(&typed.referenced),
                format!("`{}` is no MTU: it goes from {least} to {most}{why}", shorten(&typed.value)),
            );
        }
        mtu
    }

    fn members(
        &mut self,
        network: &Spanned<String>,
        typed: &Ordered<Option<Spanned<Several>>>,
        subnets: &[IpNet],
    ) -> Vec<Member> {
        let mut members = Vec::new();
        // What is said comes before what is chosen.
        for (role, addresses) in &typed.0 {
            let Some(host) = self.host(role) else { continue };
            let addresses = addresses.as_ref().map(|addresses| self.addresses(addresses, subnets)).unwrap_or_default();
            members.push(Member { host, addresses });
        }
        // Whoever has addresses that were said has those alone.
        for member in members.iter_mut().filter(|member| member.addresses.is_empty()) {
            for subnet in subnets {
                let free =
                    (1..LOOKED_AT).find_map(|at| nth(subnet, at).filter(|free| !self.taken.contains(&free.addr())));
                match free {
                    Some(free) => {
                        self.taken.insert(free.addr());
                        member.addresses.push(free);
                    }
                    None => {
                        let message = format!("{subnet} has no address left for `{}`", self.roles[member.host]);
                        self.wrong(span(&network.referenced), message);
                    }
                }
            }
        }
        members
    }

    fn addresses(&mut self, typed: &Spanned<Several>, subnets: &[IpNet]) -> Vec<IpNet> {
        let at = span(&typed.referenced);
        let mut addresses = Vec::new();
        for text in &typed.value.0 {
            let Ok(address) = text.parse::<IpAddr>() else {
                let message = format!("`{}` is no IP address", shorten(text));
                self.wrong_with_help(at.clone(), message, "write it as 192.0.2.1 or 2001:db8::1");
                continue;
            };
            let Some(subnet) = subnets.iter().find(|subnet| subnet.contains(&address)) else {
                let all: Vec<String> = subnets.iter().map(ToString::to_string).collect();
                self.wrong(at.clone(), format!("{address} is in none of the network's subnets: {}", all.join(", ")));
                continue;
            };
            let is_edge = address == subnet.network() || (address.is_ipv4() && address == subnet.broadcast());
            if is_edge {
                self.wrong(
                    at.clone(),
                    format!("{address} is the first or the last address of {subnet}, which no host has"),
                );
            } else if !self.taken.insert(address) {
                self.wrong(at.clone(), format!("{address} is somebody's already"));
            }
            addresses.extend(IpNet::new(address, subnet.prefix_len()).ok());
        }
        addresses
    }

    /// Each host is in a network.
    fn everybody(&mut self, networks: &Ordered<Spanned<NetworkFile>>) {
        let at = networks.0.first().map_or(0..0, |(name, _)| span(&name.referenced));
        for (host, role) in self.roles.iter().enumerate() {
            let is_in = |network: &Network| network.members.iter().any(|member| member.host == host);
            if !self.read.networks.iter().any(is_in) {
                let mistake = Mistake::new(self.source, at.clone(), format!("`{role}` is in no network"));
                self.mistakes.push(mistake.helped(format!("put it into the `hosts` of one: `{role}:`")));
            }
        }
    }

    fn routers(&mut self, routers: &Ordered<Option<Spanned<RouterFile>>>) {
        for (role, file) in &routers.0 {
            let Some(host) = self.host(role) else { continue };
            if self.read.of_host(host).count() < 2 {
                let message = format!("`{}` has nothing to forward between: it is in one network", role.value);
                self.wrong_with_help(span(&role.referenced), message, "a router is in two networks, or in more");
            }
            let rules = file.as_ref().and_then(|file| file.value.nft.clone()).and_then(|path| self.rules(&path));
            self.read.routers.push(Router { host, rules });
        }
    }

    fn rules(&mut self, path: &Spanned<String>) -> Option<Source> {
        match self.files.read(&self.source.name, &path.value) {
            Ok(rules) => Some(rules),
            Err(problem) => {
                self.wrong(span(&path.referenced), format!("the rules cannot be read: {problem}"));
                None
            }
        }
    }

    fn host(&mut self, role: &Spanned<String>) -> Option<usize> {
        let found = self.roles.iter().position(|known| *known == role.value);
        if found.is_none() {
            let help = suggestion(&role.value, self.roles.iter().map(String::as_str));
            self.wrong_with_help(span(&role.referenced), format!("there is no host `{}`", shorten(&role.value)), help);
        }
        found
    }

    fn wrong(&mut self, at: Range<usize>, message: impl Into<String>) {
        self.mistakes.push(Mistake::new(self.source, at, message));
    }

    fn wrong_with_help(&mut self, at: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.mistakes.push(Mistake::new(self.source, at, message).helped(help));
    }
}
