//! The networks of an exercise: which hosts are in which of them, with which addresses, and who forwards between them. Pure.
//!
//! In namespaces they are made as they stand here; on the machines of a lab they are there already, and only their names count.

mod file;
mod read;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::model::mistake::Source;

pub use crate::exercise::networks::file::{NetworkFile, RouterFile};
pub(super) use crate::exercise::networks::read::read;

/// The most networks that an exercise has.
pub const MOST_NETWORKS: usize = 64;

/// The most hosts that are joined by networks.
pub const MOST_HOSTS: usize = 250;

/// The network of hosts that an exercise joins by none.
const DEFAULT: &str = "lab";

/// All networks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Networks {
    /// The networks, in the order of the file.
    pub networks: Vec<Network>,
    /// The hosts that forward.
    pub routers: Vec<Router>,
}

/// A network: whoever is in it reaches all others in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub subnets: Vec<IpNet>,
    /// The largest packet that it carries, in bytes; absent: 1500.
    pub mtu: Option<u32>,
    /// Who is in it.
    pub members: Vec<Member>,
}

/// A host in a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Which host.
    pub host: usize,
    /// Its addresses there, each with the length of its subnet. Never empty.
    pub addresses: Vec<IpNet>,
}

/// A host that forwards between its networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Router {
    /// Which host.
    pub host: usize,
    /// Its rules, for nft(8).
    pub rules: Option<Source>,
}

/// A way to a subnet that a host is not in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Whose way.
    pub host: usize,
    /// To where.
    pub to: IpNet,
    /// By which router's address.
    pub via: IpAddr,
}

impl Networks {
    /// One network of so many hosts, as if they stood in a room.
    pub fn of_one(hosts: usize) -> Self {
        let v4 = Ipv4Net::new_assert(Ipv4Addr::new(10, 77, 0, 0), 24);
        let v6 = Ipv6Net::new_assert(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0), 64);
        let subnets = vec![IpNet::V4(v4), IpNet::V6(v6)];
        let member = |host| Member {
            host,
            addresses: subnets.iter().filter_map(|subnet| nth(subnet, host as u128 + 1)).collect(),
        };
        let members = (0..hosts).map(member).collect();
        Self { networks: vec![Network { name: DEFAULT.to_owned(), subnets, mtu: None, members }], routers: Vec::new() }
    }

    /// The addresses of a host, by network.
    pub fn addresses_of(&self, host: usize) -> Vec<(String, Vec<IpAddr>)> {
        let in_one = |network: &Network| {
            let member = network.members.iter().find(|member| member.host == host)?;
            Some((network.name.clone(), member.addresses.iter().map(IpNet::addr).collect()))
        };
        self.networks.iter().filter_map(in_one).collect()
    }

    /// The addresses that others reach a host by, where nothing else is said: the first one of each family.
    pub fn lab_addresses(&self, host: usize) -> Vec<IpAddr> {
        let all: Vec<IpAddr> = self.addresses_of(host).into_iter().flat_map(|(_, addresses)| addresses).collect();
        let first = |v4: bool| all.iter().find(|address| address.is_ipv4() == v4).copied();
        [first(true), first(false)].into_iter().flatten().collect()
    }

    /// The ways of all hosts to the subnets that they are not in, each by the router that is the fewest networks away from it; of several, by
    /// the one that stands first in the file.
    pub fn routes(&self) -> Vec<Route> {
        let mut routes = Vec::new();
        for (at, network) in self.networks.iter().enumerate() {
            let distances = self.distances(at);
            for subnet in &network.subnets {
                for host in self.hosts() {
                    let own: Vec<usize> = self.of_host(host).collect();
                    if own.contains(&at) {
                        continue;
                    }
                    // A router that leads nearer than this host's own networks are.
                    let near = own.iter().copied().filter_map(|network| Some((distances[network]?, network))).min();
                    let Some((distance, next)) = near else { continue };
                    let via = self.routers.iter().find_map(|router| {
                        let leads = self
                            .of_host(router.host)
                            .any(|network| distances[network].is_some_and(|near| near < distance));
                        (router.host != host && leads).then(|| self.address_in(next, router.host, subnet)).flatten()
                    });
                    routes.extend(via.map(|via| Route { host, to: *subnet, via }));
                }
            }
        }
        routes
    }

    /// How many routers lie between each network and this one; nothing where there is no way.
    fn distances(&self, from: usize) -> Vec<Option<usize>> {
        let mut distances = vec![None; self.networks.len()];
        distances[from] = Some(0);
        let mut next = VecDeque::from([from]);
        while let Some(at) = next.pop_front() {
            let here = distances[at].unwrap_or(0);
            for router in self.routers.iter().filter(|router| self.of_host(router.host).any(|network| network == at)) {
                for beyond in self.of_host(router.host) {
                    if distances[beyond].is_none() {
                        distances[beyond] = Some(here + 1);
                        next.push_back(beyond);
                    }
                }
            }
        }
        distances
    }

    /// The address of a host in a network, of the family of a subnet.
    fn address_in(&self, network: usize, host: usize, like: &IpNet) -> Option<IpAddr> {
        let member = self.networks[network].members.iter().find(|member| member.host == host)?;
        let is_v4 = like.addr().is_ipv4();
        member.addresses.iter().map(IpNet::addr).find(|address| address.is_ipv4() == is_v4)
    }

    fn of_host(&self, host: usize) -> impl Iterator<Item = usize> + '_ {
        let has = move |network: &Network| network.members.iter().any(|member| member.host == host);
        self.networks.iter().enumerate().filter(move |(_, network)| has(network)).map(|(at, _)| at)
    }

    fn hosts(&self) -> Vec<usize> {
        let mut hosts: Vec<usize> =
            self.networks.iter().flat_map(|network| &network.members).map(|member| member.host).collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts
    }
}

/// The address of this number in a subnet, if it is one that a host can have.
fn nth(subnet: &IpNet, number: u128) -> Option<IpNet> {
    let (address, last) = match subnet {
        IpNet::V4(net) => {
            let address = u32::from(net.network()).checked_add(u32::try_from(number).ok()?)?;
            (IpAddr::from(Ipv4Addr::from(address)), IpAddr::from(net.broadcast()))
        }
        IpNet::V6(net) => (
            IpAddr::from(Ipv6Addr::from(u128::from(net.network()).checked_add(number)?)),
            IpAddr::from(net.broadcast()),
        ),
    };
    // Of an IPv4 subnet the last address is all of its hosts.
    let fits = subnet.contains(&address) && number > 0 && (address != last || address.is_ipv6());
    if fits { IpNet::new(address, subnet.prefix_len()).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str, subnet: &str, members: &[(usize, &str)]) -> Network {
        let subnet: IpNet = subnet.parse().unwrap();
        let address = |text: &str| IpNet::new(text.parse().unwrap(), subnet.prefix_len()).unwrap();
        let members =
            members.iter().map(|(host, text)| Member { host: *host, addresses: vec![address(text)] }).collect();
        Network { name: name.to_owned(), subnets: vec![subnet], mtu: None, members }
    }

    fn router(host: usize) -> Router {
        Router { host, rules: None }
    }

    /// client 0 – near – router 1 – middle – router 2 – far – server 3
    fn line() -> Networks {
        Networks {
            networks: vec![
                network("near", "10.0.1.0/24", &[(0, "10.0.1.1"), (1, "10.0.1.2")]),
                network("middle", "10.0.2.0/24", &[(1, "10.0.2.1"), (2, "10.0.2.2")]),
                network("far", "10.0.3.0/24", &[(2, "10.0.3.1"), (3, "10.0.3.2")]),
            ],
            routers: vec![router(1), router(2)],
        }
    }

    #[test]
    fn everybody_finds_the_way_by_the_next_router() {
        let routes: Vec<String> =
            line().routes().iter().map(|route| format!("{} {} {}", route.host, route.to, route.via)).collect();
        let [a, b, c] = ["2 10.0.1.0/24 10.0.2.1", "3 10.0.1.0/24 10.0.3.1", "0 10.0.2.0/24 10.0.1.2"];
        assert_eq!(routes, [a, b, c, "3 10.0.2.0/24 10.0.3.1", "0 10.0.3.0/24 10.0.1.2", "1 10.0.3.0/24 10.0.2.2"]);
    }

    #[test]
    fn where_nobody_forwards_there_is_no_way() {
        assert_eq!(Networks { routers: vec![], ..line() }.routes(), []);
        let half = Networks { routers: vec![router(1)], ..line() };
        assert!(half.routes().iter().all(|route| route.to.to_string() != "10.0.3.0/24"));
    }

    #[test]
    fn a_way_is_the_shortest_one() {
        // A third router leads from near to far by itself.
        let mut short = line();
        short.networks[0] = network("near", "10.0.1.0/24", &[(0, "10.0.1.1"), (1, "10.0.1.2"), (4, "10.0.1.3")]);
        short.networks[2] = network("far", "10.0.3.0/24", &[(2, "10.0.3.1"), (3, "10.0.3.2"), (4, "10.0.3.3")]);
        short.routers.push(router(4));
        let of = |host: usize, to: &str| {
            let routes = short.routes();
            routes
                .iter()
                .find(|route| route.host == host && route.to.to_string() == to)
                .map(|route| route.via.to_string())
        };
        assert_eq!(of(0, "10.0.3.0/24").as_deref(), Some("10.0.1.3"));
        assert_eq!(of(3, "10.0.1.0/24").as_deref(), Some("10.0.3.3"));
        assert_eq!(of(4, "10.0.2.0/24").as_deref(), Some("10.0.1.2"));
    }

    #[test]
    fn hosts_without_networks_are_in_one_room() {
        let one = Networks::of_one(3);
        assert_eq!(one.lab_addresses(2), ["10.77.0.3".parse::<IpAddr>().unwrap(), "fd77::3".parse().unwrap()]);
        assert_eq!(one.addresses_of(0)[0].0, "lab");
        assert_eq!(one.routes(), []);
    }

    #[test]
    fn the_first_and_the_last_address_of_a_subnet_are_nobodys() {
        let small: IpNet = "10.0.0.0/30".parse().unwrap();
        let shown: Vec<Option<String>> = (0..5).map(|number| nth(&small, number).map(|net| net.to_string())).collect();
        assert_eq!(shown, [None, Some("10.0.0.1/30".into()), Some("10.0.0.2/30".into()), None, None]);
    }
}
