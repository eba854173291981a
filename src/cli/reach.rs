//! How agents are reached, as all commands take it that reach some.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::agent::token_path;
use crate::cli::again::Again;
use crate::cli::tls::{TlsArgs, controller, dialer};
use crate::client::{AgentClient, Credentials, Dialer, Endpoint, Ssh};
use crate::exercise::inventory::{Inventory, Listed, TlsPlaces, TokenPlace};
use crate::pki::IdentityFiles;

/// The program that goes to agents by ssh, where nothing else is said.
const SSH: &str = "ssh";

/// Ways to agents, and what is shown there.
#[derive(Debug, Args)]
pub(super) struct ReachArgs {
    /// The file of the token for agents that are not yours on this host
    #[arg(long, value_name = "FILE", env = "FARSOCK_TOKEN_FILE")]
    token_file: Option<PathBuf>,

    #[command(flatten)]
    tls: TlsArgs,

    /// The program that goes to ssh:// agents: it takes the words that ssh takes
    #[arg(long, value_name = "PROGRAM", env = "FARSOCK_SSH", default_value = SSH)]
    ssh: PathBuf,
}

/// What an inventory says of how to get in, which is said of one agent alone, and comes before what is said of all.
#[derive(Default)]
struct Own {
    token: Option<Credentials>,
    tls: Option<IdentityFiles>,
    program: Option<String>,
}

impl ReachArgs {
    /// Says again how agents are reached.
    pub(super) fn again(&self, again: &mut Again) {
        let Self { token_file, tls, ssh } = self;
        again.flag("--token-file", token_file.as_ref());
        tls.again(again);
        again.flag("--ssh", Some(ssh).filter(|ssh| **ssh != Path::new(SSH)));
    }

    /// What calls the agent that is reached there, whatever hosts an inventory has.
    pub(super) fn client(&self, endpoint: &Endpoint, inventory: Option<&Inventory>) -> Result<AgentClient, String> {
        self.client_with(endpoint, inventory, Own::default())
    }

    /// What calls the agent of a host of the inventory.
    pub(super) fn listed(&self, host: &Listed, inventory: &Inventory) -> Result<AgentClient, String> {
        let directory = Path::new(&inventory.file).parent().unwrap_or_else(|| Path::new(""));
        let named = |problem: String| format!("{} in {}: {problem}", host.name, inventory.file);
        let own = Own {
            token: host.token.as_ref().map(|place| token(place, directory)).transpose().map_err(named)?,
            tls: host.tls.as_ref().map(|places| certificate(places, directory)),
            program: host.program.clone(),
        };
        self.client_with(&host.agent, Some(inventory), own)
    }

    fn client_with(&self, endpoint: &Endpoint, inventory: Option<&Inventory>, own: Own) -> Result<AgentClient, String> {
        let port = match endpoint {
            Endpoint::Ssh { user, host, port } => {
                let secrets = inventory.into_iter().flat_map(Inventory::secrets).map(str::to_owned).collect();
                let ssh = Ssh::to(user.clone(), host.clone(), *port).by(self.ssh.clone()).without(secrets);
                let ssh = own.program.into_iter().fold(ssh, Ssh::starting);
                return Ok(AgentClient::new(&Dialer::by_ssh(ssh), &Credentials::none()));
            }
            Endpoint::Unix(_) => return Ok(AgentClient::new(&Dialer::to(endpoint), &Credentials::none())),
            Endpoint::Tcp { port, .. } => *port,
        };
        let identity = match (&own.tls, &own.token) {
            (Some(files), _) => Some(controller(files)?),
            (None, Some(_)) => None,
            (None, None) => self.tls.identity()?,
        };
        let file = self.token_file.clone().unwrap_or_else(|| token_path(port));
        let credentials = match own.token {
            Some(token) => token,
            // An agent may serve without a token; if it does not, it says so itself.
            None if identity.is_none() && (self.token_file.is_some() || file.exists()) => {
                Credentials::token_file(&file).map_err(|error| error.to_string())?
            }
            None => Credentials::none(),
        };
        let dialer = dialer(endpoint, identity.as_ref()).map_err(|error| error.to_string())?;
        Ok(AgentClient::new(&dialer, &credentials))
    }
}

fn token(place: &TokenPlace, directory: &Path) -> Result<Credentials, String> {
    let credentials = match place {
        TokenPlace::File(file) => Credentials::token_file(&directory.join(file)),
        TokenPlace::Variable(name) => {
            let token = std::env::var(name).map_err(|_| {
                format!("there is no variable {name} in the environment, which `token_env` says has the token")
            })?;
            Credentials::token(&token)
        }
    };
    credentials.map_err(|error| error.to_string())
}

fn certificate(places: &TlsPlaces, directory: &Path) -> IdentityFiles {
    let mut files = IdentityFiles::of(&directory.join(&places.cert));
    let named = |file: &Option<String>| file.as_ref().map(|file| directory.join(file));
    files.key = named(&places.key).unwrap_or(files.key);
    files.ca = named(&places.ca).unwrap_or(files.ca);
    files
}
