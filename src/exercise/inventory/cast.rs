//! Who plays which role.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::exercise::inventory::{Inventory, Listed};
use crate::model::endpoint::Endpoint;
use crate::model::id::shorten;
use crate::model::mistake::suggestion;

/// Where agents are.
const PLACES: &str = "an agent is at HOST:PORT, unix:PATH or ssh://USER@HOST";

/// What a word for an agent stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The agent that is reached there.
    At(Endpoint),
    /// Any of these hosts of the inventory.
    OneOf(Vec<usize>),
}

/// A word for an agent, or a role, that nobody is behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: String,
}

/// Who plays a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Player {
    /// An agent within the process of the controller.
    Embedded,
    /// The agent that is reached there.
    At(Endpoint),
    /// A host of the inventory.
    Listed(Box<Listed>),
    /// An agent in a network namespace of this machine.
    Namespace,
}

/// What the hosts of a run are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// That is not known yet.
    #[default]
    Unknown,
    /// Machines, and agents within the process of the controller.
    Machines,
    /// Network namespaces, all of them.
    Namespaces,
}

/// Whom roles may be played by.
#[derive(Debug, Clone, Copy, Default)]
pub struct Casting<'a> {
    /// The hosts that there are.
    pub inventory: Option<&'a Inventory>,
    /// Roles that were given to somebody, whatever the exercise says.
    pub given: &'a [(String, Wanted)],
    /// What the hosts are.
    pub mode: Mode,
}

/// What a word for an agent stands for: a host of the inventory, one of a group, one with a label, or an endpoint.
pub fn wanted(inventory: Option<&Inventory>, text: &str) -> Result<Wanted, Unknown> {
    if text.is_empty() {
        return Err(Unknown { message: "it says no agent".to_owned(), help: PLACES.to_owned() });
    }
    let listed = inventory.and_then(|inventory| listed(inventory, text));
    match (listed, inventory) {
        (Some(hosts), _) => Ok(Wanted::OneOf(hosts)),
        (None, Some(inventory)) if !is_place(text) => Err(unknown(inventory, text)),
        _ => text.parse().map(Wanted::At).map_err(|problem: String| Unknown {
            message: format!("`{}` is no endpoint: {problem}", shorten(text)),
            help: PLACES.to_owned(),
        }),
    }
}

/// Who plays each role, and what is wrong with those that nobody can play. A role is its name, and what the exercise says of its agent.
pub(crate) fn players(casting: Casting<'_>, roles: &[(&str, Option<&str>)]) -> (Vec<Player>, Vec<(usize, Unknown)>) {
    if casting.mode == Mode::Namespaces {
        return (vec![Player::Namespace; roles.len()], Vec::new());
    }
    let mut problems = Vec::new();
    let mut wishes = Vec::with_capacity(roles.len());
    for (at, (role, typed)) in roles.iter().enumerate() {
        let given = casting.given.iter().find(|(given, _)| given == role).map(|(_, wanted)| Ok(Some(wanted.clone())));
        let wish = given.unwrap_or_else(|| typed_wish(casting.inventory, role, *typed));
        wishes.push(wish.unwrap_or_else(|unknown| {
            problems.push((at, unknown));
            None
        }));
    }
    let candidates: Vec<&[usize]> = wishes.iter().map(|wish| wish.as_ref().map_or(&[][..], Wanted::hosts)).collect();
    let hosts = assign(&candidates, casting.inventory.map_or(0, |inventory| inventory.hosts.len()));
    let mut players = Vec::with_capacity(roles.len());
    for (at, wish) in wishes.iter().enumerate() {
        let listed = hosts[at].and_then(|host| casting.inventory?.hosts.get(host));
        players.push(match (wish, listed) {
            (Some(Wanted::At(endpoint)), _) => Player::At(endpoint.clone()),
            (_, Some(listed)) => Player::Listed(Box::new(listed.clone())),
            (_, None) => Player::Embedded,
        });
        if let (Some(Wanted::OneOf(candidates)), None, Some(inventory)) = (wish, listed, casting.inventory) {
            let names: Vec<&str> = candidates.iter().map(|host| inventory.hosts[*host].name.as_str()).collect();
            let owners =
                roles.iter().zip(&hosts).filter(|(_, host)| host.is_some_and(|host| candidates.contains(&host)));
            let owners: Vec<&str> = owners.map(|((role, _), _)| *role).collect();
            problems.push((at, taken(roles[at].0, &names, &owners)));
        }
    }
    (players, problems)
}

impl Wanted {
    fn hosts(&self) -> &[usize] {
        match self {
            Self::At(_) => &[],
            Self::OneOf(hosts) => hosts,
        }
    }
}

/// What an exercise wants for a role.
fn typed_wish(inventory: Option<&Inventory>, role: &str, typed: Option<&str>) -> Result<Option<Wanted>, Unknown> {
    match (typed, inventory) {
        (Some(text), None) if !is_place(text) && !text.contains('.') => Ok(None),
        (Some(text), _) => wanted(inventory, text).map(Some),
        // A role may have the name of a host.
        (None, Some(inventory)) => Ok(listed(inventory, role).map(Wanted::OneOf)),
        (None, None) => Ok(None),
    }
}

/// Whether text can be nothing but an endpoint.
fn is_place(text: &str) -> bool {
    text.contains(':')
        || text.parse::<IpAddr>().is_ok()
        || (!text.is_empty() && text.chars().all(|c| c.is_ascii_digit()))
}

/// The hosts of an inventory that a word stands for.
fn listed(inventory: &Inventory, word: &str) -> Option<Vec<usize>> {
    if let Some(host) = inventory.hosts.iter().position(|host| host.name == word) {
        return Some(vec![host]);
    }
    if let Some((_, members)) = inventory.groups.iter().find(|(group, _)| group == word) {
        return Some(members.clone());
    }
    let (key, value) = word.split_once('=')?;
    let has = |host: &Listed| host.labels.iter().any(|(name, label)| name == key && label == value);
    let hosts: Vec<usize> = (0..inventory.hosts.len()).filter(|at| has(&inventory.hosts[*at])).collect();
    (!hosts.is_empty()).then_some(hosts)
}

fn unknown(inventory: &Inventory, text: &str) -> Unknown {
    let (shown, file) = (shorten(text), &inventory.file);
    if text.contains('=') {
        let labels = inventory.hosts.iter().flat_map(|host| &host.labels).map(|(key, value)| format!("{key}={value}"));
        let labels: BTreeSet<String> = labels.collect();
        let help = suggestion(text, labels.iter().map(String::as_str));
        return Unknown { message: format!("no host in {file} has the label `{shown}`"), help };
    }
    let names = inventory
        .hosts
        .iter()
        .map(|host| host.name.as_str())
        .chain(inventory.groups.iter().map(|(name, _)| name.as_str()));
    let help =
        format!("{} (an agent that is not in it is written with its port: {shown}:7625)", suggestion(text, names));
    Unknown { message: format!("there is no host or group `{shown}` in {file}"), help }
}

fn taken(role: &str, names: &[&str], owners: &[&str]) -> Unknown {
    let message = match names {
        [only] => format!("`{only}` plays another role already, and cannot play `{role}`, too"),
        _ => format!("no host is left for `{role}`: {} play other roles", names.join(", ")),
    };
    Unknown {
        message,
        help: format!("each role needs an agent of its own, and theirs is that of {}", owners.join(", ")),
    }
}

/// Gives each role one of its candidates, and no two the same, as far as that goes; the first ones are given first. Where a role finds all of
/// its own taken, another one moves to a later one of its own. Kuhn's algorithm.
fn assign(candidates: &[&[usize]], hosts: usize) -> Vec<Option<usize>> {
    fn place(role: usize, candidates: &[&[usize]], owners: &mut [Option<usize>], asked: &mut [bool]) -> bool {
        let free = candidates[role].iter().find(|host| owners[**host].is_none());
        if let Some(host) = free {
            owners[*host] = Some(role);
            return true;
        }
        for host in candidates[role] {
            if std::mem::replace(&mut asked[*host], true) {
                continue;
            }
            if owners[*host].is_some_and(|owner| place(owner, candidates, owners, asked)) {
                owners[*host] = Some(role);
                return true;
            }
        }
        false
    }

    let mut owners = vec![None; hosts];
    for role in 0..candidates.len() {
        place(role, candidates, &mut owners, &mut vec![false; hosts]);
    }
    let mut given = vec![None; candidates.len()];
    for (host, owner) in owners.into_iter().enumerate() {
        if let Some(role) = owner {
            given[role] = Some(host);
        }
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exercise::inventory::read;
    use crate::model::mistake::Source;

    const LAB: &str = "hosts:\n  lab-a: {agent: 'a:1', groups: [web], labels: {site: madrid}}\n  lab-b: {agent: 'b:1', groups: [web, db]}\n\
                       \x20 lab-c: {agent: 'c:1', labels: {site: madrid}}\n";

    fn lab() -> Inventory {
        read(&Source { name: "lab.yaml".into(), text: LAB.into() }).unwrap()
    }

    fn cast(roles: &[(&str, Option<&str>)]) -> Result<Vec<String>, Vec<String>> {
        let lab = lab();
        let (players, problems) = players(Casting { inventory: Some(&lab), ..Casting::default() }, roles);
        if !problems.is_empty() {
            return Err(problems
                .into_iter()
                .map(|(at, unknown)| format!("{at} {} | {}", unknown.message, unknown.help))
                .collect());
        }
        let name = |player: Player| match player {
            Player::Embedded | Player::Namespace => "-".to_owned(),
            Player::At(endpoint) => endpoint.to_string(),
            Player::Listed(host) => host.name,
        };
        Ok(players.into_iter().map(name).collect())
    }

    #[test]
    fn roles_are_played_by_names_groups_labels_endpoints_and_nobody() {
        let roles =
            [("a", Some("lab-c")), ("b", Some("web")), ("c", Some("10.0.0.1")), ("d", Some("x:80")), ("e", None)];
        assert_eq!(cast(&roles).unwrap(), ["lab-c", "lab-a", "10.0.0.1:7625", "x:80", "-"]);
        assert_eq!(cast(&[("x", Some("site=madrid")), ("y", Some("site=madrid"))]).unwrap(), ["lab-a", "lab-c"]);
        assert_eq!(cast(&[("lab-b", None), ("web", None)]).unwrap(), ["lab-b", "lab-a"], "by their own names");
    }

    /// Whoever could play several roles makes room for those who can play one.
    #[test]
    fn nobody_is_left_out_who_need_not_be() {
        assert_eq!(cast(&[("x", Some("web")), ("y", Some("lab-a"))]).unwrap(), ["lab-b", "lab-a"]);
        assert_eq!(
            cast(&[("x", Some("site=madrid")), ("y", Some("web")), ("z", Some("lab-a"))]).unwrap(),
            ["lab-c", "lab-b", "lab-a"]
        );
        assert_eq!(
            cast(&[("x", Some("lab-a")), ("y", Some("lab-a"))]).unwrap_err(),
            [
                "1 `lab-a` plays another role already, and cannot play `y`, too | each role needs an agent of its own, and theirs is that of x"
            ]
        );
        assert_eq!(
            cast(&[("x", Some("web")), ("y", Some("web")), ("z", Some("web"))]).unwrap_err(),
            [
                "2 no host is left for `z`: lab-a, lab-b play other roles | each role needs an agent of its own, and theirs is that of x, y"
            ]
        );
    }

    #[test]
    fn what_nobody_is_behind_gets_a_suggestion() {
        assert_eq!(
            cast(&[("x", Some("lab-q"))]).unwrap_err(),
            [
                "0 there is no host or group `lab-q` in lab.yaml | did you mean `lab-c`? (an agent that is not in it is written with its port: lab-q:7625)"
            ]
        );
        assert_eq!(
            cast(&[("x", Some("site=madird"))]).unwrap_err(),
            ["0 no host in lab.yaml has the label `site=madird` | did you mean `site=madrid`?"]
        );
    }

    #[test]
    fn without_an_inventory_a_bare_name_is_played_by_an_embedded_agent() {
        let roles = [("a", Some("lab-a")), ("b", Some("lab-a.example")), ("c", Some("lab-a:7625")), ("d", None)];
        let (players, problems) = players(Casting::default(), &roles);
        let at = |text: &str| Player::At(text.parse().unwrap());
        assert_eq!(players, [Player::Embedded, at("lab-a.example"), at("lab-a"), Player::Embedded]);
        assert_eq!(problems, []);
    }
}
