//! A resolver whose names the test makes up.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use farsock::agent::AgentConfig;
use farsock::model::address::{Family, Transport};
use farsock::model::errno::LookupErrno;
use farsock::model::lookup::{HostAnswer, Lookup, Resolver};
use tokio::sync::Notify;

/// Hosts and services by name; everything else is unknown.
#[derive(Debug, Clone, Default)]
pub struct Names {
    pub hosts: Vec<(&'static str, Vec<IpAddr>)>,
    pub services: Vec<(&'static str, u16)>,
    pub gate: Option<Arc<Gate>>,
}

/// Where those wait who ask for a host.
#[derive(Debug, Default)]
pub struct Gate {
    pub asked: Notify,
    pub opened: Notify,
}

impl Names {
    pub fn host(name: &'static str, addresses: &[IpAddr]) -> Self {
        Self { hosts: vec![(name, addresses.to_vec())], ..Self::default() }
    }

    pub fn and_service(mut self, name: &'static str, port: u16) -> Self {
        self.services.push((name, port));
        self
    }

    /// Answers nobody who asks for a host before this gate is opened for him.
    pub fn behind(self, gate: &Arc<Gate>) -> Self {
        Self { gate: Some(Arc::clone(gate)), ..self }
    }

    /// An agent that knows just these names.
    pub fn config(self) -> AgentConfig {
        AgentConfig { resolver: Some(Arc::new(self)), ..AgentConfig::default() }
    }
}

impl Resolver for Names {
    fn host(&self, name: &str, family: Option<Family>) -> Lookup<'_, HostAnswer> {
        let known = self.hosts.iter().find(|(known, _)| *known == name);
        let addresses: Vec<SocketAddr> = known
            .iter()
            .flat_map(|(_, ips)| ips)
            .filter(|ip| family.is_none_or(|family| Family::of(**ip) == family))
            .map(|ip| SocketAddr::new(*ip, 0))
            .collect();
        let answer = match addresses.is_empty() {
            true => Err(LookupErrno::EAI_NONAME),
            false => Ok(HostAnswer { addresses, canonical_name: None }),
        };
        let gate = self.gate.clone();
        Box::pin(async move {
            if let Some(gate) = gate {
                gate.asked.notify_one();
                gate.opened.notified().await;
            }
            answer
        })
    }

    fn address(&self, _: IpAddr) -> Lookup<'_, String> {
        Box::pin(async { Err(LookupErrno::EAI_NONAME) })
    }

    fn service(&self, name: &str, _: Transport) -> Lookup<'_, u16> {
        let known = self.services.iter().find(|(known, _)| *known == name);
        let answer = known.map(|(_, port)| *port).ok_or(LookupErrno::EAI_SERVICE);
        Box::pin(async move { answer })
    }

    fn port(&self, _: u16, _: Transport) -> Lookup<'_, String> {
        Box::pin(async { Err(LookupErrno::EAI_NONAME) })
    }
}
