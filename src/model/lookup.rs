//! What only the host knows: which addresses a name has, and which port a service.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;

use crate::model::address::{Family, Transport};
use crate::model::errno::LookupErrno;

/// An answer that takes its time.
pub type Lookup<'a, T> = Pin<Box<dyn Future<Output = Result<T, LookupErrno>> + Send + 'a>>;

/// What the resolver knows of a host name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostAnswer {
    /// Its addresses in the resolver's order, with port 0. Never empty in an answer that succeeded.
    pub addresses: Vec<SocketAddr>,
    /// Its canonical name, where the resolver tells one.
    pub canonical_name: Option<String>,
}

/// By what a resolver goes: whom it asks, in which order. What is not known is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResolverView {
    /// Where host names are looked for, in order.
    pub sources: Vec<String>,
    /// The name servers, in order.
    pub name_servers: Vec<String>,
    /// What is put behind a short name.
    pub search_domains: Vec<String>,
    /// What else it was told.
    pub options: Vec<String>,
    /// What the host's own file has for the question.
    pub hosts_file_entries: Vec<String>,
}

/// The names of the agent's host. An agent asks its system; a test may answer by itself. Whoever asks decides how long to wait; how
/// many ask at a time is the resolver's business.
pub trait Resolver: Send + Sync {
    /// The addresses of a host name, of one family or both.
    fn host(&self, name: &str, family: Option<Family>) -> Lookup<'_, HostAnswer>;

    /// By what it goes when it is asked for this host name or address. One that knows its answers by itself goes by nothing.
    fn view(&self, question: &str) -> Lookup<'_, ResolverView> {
        let _ = question;
        Box::pin(async { Ok(ResolverView::default()) })
    }

    /// The host name of an address.
    fn address(&self, ip: IpAddr) -> Lookup<'_, String>;

    /// The port of a service name.
    fn service(&self, name: &str, transport: Transport) -> Lookup<'_, u16>;

    /// The service name of a port.
    fn port(&self, port: u16, transport: Transport) -> Lookup<'_, String>;
}
