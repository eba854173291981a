//! Who does what: roles, those who play them, and the networks between them.

use serde_saphyr::Spanned;

use crate::exercise::check::{Checker, Given};
use crate::exercise::fields::{OrderFile, StepFile};
use crate::exercise::file::ExerciseFile;
use crate::exercise::inventory::{Casting, Mode, Player, players};
use crate::exercise::networks::{self, MOST_HOSTS, Networks};
use crate::model::id::check_name;
use crate::model::mistake::suggestion;
use crate::model::yaml::{Ordered, span};

impl Checker<'_> {
    pub(super) fn hosts(&mut self, hosts: &Ordered<Option<Spanned<String>>>, casting: Casting<'_>) {
        for (role, _) in &hosts.0 {
            if let Err(problem) = check_name(&role.value) {
                self.wrong(span(&role.referenced), problem.to_string());
            }
            self.roles.push(role.value.clone());
        }
        if self.roles.is_empty() {
            self.wrong(0..0, "`hosts` names nobody: it needs at least one role");
        }
        let typed = |agent: &Option<Spanned<String>>| agent.clone().filter(|agent| !agent.value.is_empty());
        let agents: Vec<_> = hosts.0.iter().map(|(_, agent)| typed(agent)).collect();
        let named = |agent: &'_ Option<Spanned<String>>| agent.as_ref().map(|agent| agent.value.clone());
        let texts: Vec<Option<String>> = agents.iter().map(named).collect();
        let roles: Vec<_> =
            self.roles.iter().zip(&texts).map(|(role, text)| (role.as_str(), text.as_deref())).collect();
        let (players, problems) = players(casting, &roles);
        for (at, problem) in problems {
            let place = agents[at].as_ref().unwrap_or(&hosts.0[at].0);
            self.wrong_with_help(span(&place.referenced), problem.message, problem.help);
        }
        self.players = players;
    }

    /// The networks that a role has addresses in.
    pub(super) fn networks_of(&self, role: &str) -> Vec<String> {
        let player = self.roles.iter().position(|known| known == role).and_then(|at| self.players.get(at));
        match player {
            Some(Player::Listed(host)) => host.addresses.iter().map(|(network, _)| network.clone()).collect(),
            Some(Player::At(_)) => Vec::new(),
            Some(Player::Embedded | Player::Namespace) | None => {
                let host = self.roles.iter().position(|known| known == role).unwrap_or(usize::MAX);
                let all = self.networks.iter().flat_map(|networks| networks.addresses_of(host));
                all.map(|(network, _)| network).collect()
            }
        }
    }

    /// The networks of the file, as far as those who play its hosts can have them.
    pub(super) fn networks(&mut self, file: &ExerciseFile, given: Given<'_>) {
        let mode = given.casting.mode;
        let Some((first, _)) = file.networks.0.first() else {
            if let Some((router, _)) = file.routers.0.first() {
                self.wrong(span(&router.referenced), "a router forwards between networks, and there are no `networks`");
            }
            if mode == Mode::Namespaces && self.roles.len() > MOST_HOSTS {
                self.wrong(0..0, format!("namespaces are for at most {MOST_HOSTS} hosts"));
            } else if mode == Mode::Namespaces {
                self.networks = Some(Networks::of_one(self.roles.len()));
            }
            return;
        };
        match networks::read(self.flow.source(), given.files, &self.roles, &file.networks, &file.routers) {
            Ok(read) => self.networks = Some(read),
            Err(mistakes) => self.mistakes.extend(mistakes),
        }
        if mode != Mode::Machines {
            return;
        }
        let embedded = self.players.iter().position(|player| *player == Player::Embedded);
        if let Some(role) = embedded.map(|at| self.roles[at].clone()) {
            let message =
                format!("`{role}` would be played by an embedded agent, and those have no networks of their own");
            let help = "run it with --netns, which makes the networks on this machine, or on the machines of a lab by --inventory FILE";
            self.wrong_with_help(span(&first.referenced), message, help);
            return;
        }
        for (router, file) in &file.routers.0 {
            let Some(rules) = file.as_ref().and_then(|file| file.value.nft.as_ref()) else { continue };
            let message = format!("`{}` is a machine, and rules are loaded in namespaces only", router.value);
            self.wrong_with_help(span(&rules.referenced), message, "run it with --netns");
        }
    }

    pub(super) fn host(&mut self, file: &StepFile) -> Option<usize> {
        let Some(on) = &file.on else {
            // That there is nobody has been told.
            if self.roles.is_empty() {
                return None;
            }
            let at = self.step_span(file);
            let help = format!("`on:` names one of {}", self.roles.join(", "));
            self.wrong_with_help(at, "the step does not say who does it", help);
            return None;
        };
        self.role(on)
    }

    /// The host of the first socket of several.
    pub(super) fn host_of(&mut self, events: &Spanned<Vec<Spanned<OrderFile>>>) -> usize {
        let first = events.value.first().and_then(|event| self.socket_mut(&event.value.expect.value));
        first.map_or(0, |socket| socket.host)
    }

    /// A host, by its role.
    pub(in crate::exercise) fn role(&mut self, role: &Spanned<String>) -> Option<usize> {
        let found = self.roles.iter().position(|known| *known == role.value);
        if found.is_none() {
            let help = suggestion(&role.value, self.roles.iter().map(String::as_str));
            self.wrong_with_help(span(&role.referenced), format!("there is no host `{}`", role.value), help);
        }
        found
    }
}
