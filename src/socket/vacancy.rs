//! Whether a local address can be had now: the kernel is asked by bind(2) itself, on a socket that is closed at once.

use std::net::SocketAddr;

use tokio::time::Instant;

use crate::model::address::{AddressText, Endpoint, Family, Transport};
use crate::model::errno::Errno;
use crate::model::error::SocketError;
use crate::model::holder::Claim;
use crate::model::id::Principal;
use crate::model::operation::Operation;
use crate::model::option::{OptionSpec, OptionValue};
use crate::model::policy::permit::harmless;
use crate::model::policy::{AddressUse, Use};
use crate::model::refusal::Refusal;
use crate::socket::holder::Missed;
use crate::socket::lookup::{Answer, Purpose, Wanted};
use crate::socket::record::endpoint;
use crate::socket::sockets::Sockets;
use crate::sys::socket::Socket;

/// A local address that somebody would like to have.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The address.
    pub local: AddressText,
    /// For which transport.
    pub transport: Transport,
    /// In which IP version, where the address leaves that open.
    pub family: Option<Family>,
    /// With SO_REUSEADDR.
    pub reuse_address: bool,
}

/// Whether it can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vacancy {
    /// It can.
    Free(Endpoint),
    /// The kernel, or the resolver, objects.
    Taken(Box<SocketError>),
    /// The resolver has not answered in time.
    TimedOut,
}

impl Sockets {
    /// Whether a local address can be bound to now, and who has it where it cannot. Nothing of that stays.
    pub async fn vacancy(&self, who: &Principal, wish: &Wish, deadline: Instant) -> Result<Vacancy, Refusal> {
        self.check_draining()?;
        let Wish { transport, family, .. } = *wish;
        let wanted = Wanted { transport, family, purpose: Purpose::Bind, field: "local", deadline };
        let local = match self.look_up(&wish.local, wanted).await?.answer {
            Answer::Addresses(addresses) => addresses.first().copied(),
            Answer::Error(error) => return Ok(Vacancy::Taken(Box::new(error))),
            Answer::TimedOut => return Ok(Vacancy::TimedOut),
        };
        let local = local.ok_or(Refusal::Internal("a lookup without an address"))?;
        if local.port() == 0 {
            return Err(Refusal::invalid(
                "local",
                "a port from 1 on is needed: with 0 the kernel takes one that is free",
            ));
        }
        let permitted = self.gate().permit(who, &AddressUse { kind: Use::Bind, transport, addr: local, also: None })?;
        self.has_descriptor()?;
        let socket = match probe(wish, local) {
            Ok(socket) => socket,
            Err(errno) => {
                return Ok(Vacancy::Taken(Box::new(SocketError::new(errno, Operation::Create, "socket"))));
            }
        };
        let answer = socket.bind(permitted);
        let (text, cookie) = (endpoint(&socket, local), socket.cookie());
        // Given back before anybody is asked who else has it.
        drop(socket);
        let Err(errno) = answer else { return Ok(Vacancy::Free(text)) };
        let mut error = SocketError { local: Some(text), ..SocketError::new(errno, Operation::Bind, "bind") };
        if errno == Errno::EADDRINUSE {
            let local = Claim { addr: local, only_ipv6: local.is_ipv6() };
            let missed = Missed { transport, local, remote: None, cookie: cookie.unwrap_or(0) };
            error.holder = self.holder_of(who, missed).await;
        }
        Ok(Vacancy::Taken(Box::new(error)))
    }
}

/// A socket as CreateSocket makes one, so that bind(2) has the same to say.
fn probe(wish: &Wish, local: SocketAddr) -> Result<Socket, Errno> {
    let socket = Socket::new(wish.transport, Family::of(local.ip()))?;
    let options = [("IPV6_V6ONLY", local.is_ipv6()), ("SO_REUSEADDR", wish.reuse_address)];
    for (name, _) in options.into_iter().filter(|(_, wanted)| *wanted) {
        let spec = OptionSpec::find(name).ok().and_then(harmless).ok_or(Errno::ENOPROTOOPT)?;
        socket.set_option(spec, &OptionValue::Enabled(true))?;
    }
    Ok(socket)
}
