//! Decisions, and why they are so.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::model::address::Transport;
use crate::model::id::Principal;
use crate::model::policy::canonical::{self, Special};
use crate::model::policy::rule::Rule;
use crate::model::policy::{HARMLESS, Policy, Right, Use};

/// What somebody would do with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressUse {
    /// What.
    pub kind: Use,
    /// By which transport.
    pub transport: Transport,
    /// With which address.
    pub addr: SocketAddr,
    /// What it leads to as well: the socket's own address where the destination is 0.0.0.0, and 0.0.0.0 where `::` takes IPv4, too.
    pub also: Option<IpAddr>,
}

impl AddressUse {
    /// What a socket takes as well that is bound there: `::` is 0.0.0.0, too, unless it takes only IPv6. ipv6(7).
    pub fn takes_as_well(local: SocketAddr, only_ipv6: impl FnOnce() -> bool) -> Option<IpAddr> {
        let takes_both = local.is_ipv6() && local.ip().is_unspecified() && !only_ipv6();
        takes_both.then_some(Ipv4Addr::UNSPECIFIED.into())
    }
}

/// Where the agent is.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// Where it is controlled.
    pub control: &'a [SocketAddr],
    /// Whether an address is one of its host. Asked only about the ports by which it is controlled.
    pub is_local: &'a dyn Fn(IpAddr) -> bool,
}

/// Whether something is allowed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether it is.
    pub allowed: bool,
    /// Why.
    pub cause: Cause,
}

/// What decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The rule that begins at this line.
    Rule(usize),
    /// A right of one of his roles.
    Right(Right),
    /// None of his roles has this right.
    NoRight(Right),
    /// He has a role.
    Role,
    /// He has none.
    Stranger,
    /// Nothing needs to allow it.
    Harmless,
    /// No rule allows it.
    NoRule,
    /// No rule allows what the address leads to.
    LeadsTo(IpAddr),
    /// It leads to a special address, which no rule names.
    Unnamed(IpAddr, &'static Special),
    /// It is how the agent is controlled, which no rule names.
    Control,
}

impl Decision {
    fn because(cause: Cause, allowed: bool) -> Self {
        Self { allowed, cause }
    }

    /// The line of the file that decided.
    pub const fn line(&self) -> Option<usize> {
        match self.cause {
            Cause::Rule(line) => Some(line),
            _ => None,
        }
    }
}

impl Policy {
    /// Whether somebody may do something with an address, and why.
    pub fn decide(&self, who: &Principal, what: &AddressUse, place: Place<'_>) -> Decision {
        if !self.may(who, Right::Use) {
            return Decision::because(Cause::NoRight(Right::Use), false);
        }
        let forms = leads_to(what);
        let roles = self.roles(who);
        let (kind, port) = (what.kind, what.addr.port());
        let about = |rule: &&Rule| rule.is_about(who, roles, kind) && rule.fits(kind, what.transport, port);
        let control = is_control(what, &forms, place);

        let forbids =
            |rule: &&Rule| !rule.allow && (forms.iter().any(|form| rule.covers(*form)) || (control && rule.control));
        if let Some(rule) = self.rules.iter().filter(about).find(forbids) {
            return Decision::because(Cause::Rule(rule.line), false);
        }
        if control {
            let names = self.rules.iter().filter(about).find(|rule| rule.allow && rule.control);
            let cause = names.map_or(Cause::Control, |rule| Cause::Rule(rule.line));
            return Decision::because(cause, names.is_some());
        }
        let mut first = None;
        for (at, form) in forms.iter().enumerate() {
            match self.allowing(*form, about) {
                Ok(rule) => first = first.or(Some(rule.line)),
                Err(cause) if at == 0 || matches!(cause, Cause::Unnamed(..)) => return Decision::because(cause, false),
                Err(_) => return Decision::because(Cause::LeadsTo(*form), false),
            }
        }
        Decision::because(first.map_or(Cause::NoRule, Cause::Rule), first.is_some())
    }

    /// The rule that allows one form of an address, or why none does.
    fn allowing(&self, form: IpAddr, about: impl Fn(&&Rule) -> bool) -> Result<&Rule, Cause> {
        let mut unnamed = None;
        for rule in self.rules.iter().filter(about).filter(|rule| rule.allow) {
            for network in rule.networks.iter().filter(|network| network.contains(&form)) {
                // The narrowest one says most about the address.
                let wider = canonical::special(form).filter(|special| !special.network.contains(network));
                match wider.max_by_key(|special| special.network.prefix_len()) {
                    None => return Ok(rule),
                    Some(special) => unnamed = Some(special),
                }
            }
        }
        Err(unnamed.map_or(Cause::NoRule, |special| Cause::Unnamed(form, special)))
    }

    /// Whether somebody may set a socket option, and why.
    pub fn decide_option(&self, who: &Principal, name: &str) -> Decision {
        if !self.may(who, Right::Use) {
            return Decision::because(Cause::NoRight(Right::Use), false);
        }
        let roles = self.roles(who);
        let about = |rule: &&Rule| rule.is_about(who, roles, Use::Set) && rule.covers_option(name);
        let mut rules = self.rules.iter().filter(about);
        if let Some(rule) = rules.clone().find(|rule| !rule.allow) {
            return Decision::because(Cause::Rule(rule.line), false);
        }
        match rules.next() {
            Some(rule) => Decision::because(Cause::Rule(rule.line), true),
            None if HARMLESS.contains(&name) => Decision::because(Cause::Harmless, true),
            None if self.may(who, Right::Options) => Decision::because(Cause::Right(Right::Options), true),
            None => Decision::because(Cause::NoRule, false),
        }
    }

    /// Whether somebody has any business on this agent.
    pub fn decide_entry(&self, who: &Principal) -> Decision {
        match self.roles(who) {
            [] => Decision::because(Cause::Stranger, false),
            _ => Decision::because(Cause::Role, true),
        }
    }

    /// Whether somebody has a right, and why not.
    pub fn decide_right(&self, who: &Principal, right: Right) -> Decision {
        match self.may(who, right) {
            true => Decision::because(Cause::Right(right), true),
            false => Decision::because(Cause::NoRight(right), false),
        }
    }
}

/// All that an address means where it is used so.
fn leads_to(what: &AddressUse) -> Vec<IpAddr> {
    let ip = what.addr.ip();
    let mut forms = match what.kind {
        Use::Connect | Use::Send => canonical::destinations(ip),
        _ => canonical::forms(ip),
    };
    forms.extend(what.also.map(|ip| ip.to_canonical()));
    forms
}

/// Whether it would reach the agent's own control port, or take its place.
fn is_control(what: &AddressUse, forms: &[IpAddr], place: Place<'_>) -> bool {
    if what.transport != Transport::Tcp || matches!(what.kind, Use::Accept | Use::Join) {
        return false;
    }
    place.control.iter().filter(|control| control.port() == what.addr.port()).any(|control| {
        let ours = |ip: &IpAddr| {
            ip.is_unspecified() || ip.is_loopback() || *ip == control.ip().to_canonical() || (place.is_local)(*ip)
        };
        forms.iter().any(ours)
    })
}

impl fmt::Display for AddressUse {
    /// `connect to 10.0.0.2:80 by TCP`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind.phrase())?;
        match self.kind {
            Use::Accept | Use::Join => write!(f, "{}", self.addr.ip())?,
            _ => write!(f, "{}", self.addr)?,
        }
        write!(f, " by {}", self.transport)
    }
}

impl fmt::Display for Decision {
    /// Why, in words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause {
            Cause::Rule(line) if self.allowed => write!(f, "line {line} of the policy allows it"),
            Cause::Rule(line) => write!(f, "line {line} of the policy denies it"),
            Cause::Right(right) => write!(f, "one of his roles has the right `{right}`"),
            Cause::NoRight(right) => write!(f, "none of his roles has the right `{right}`"),
            Cause::Role => f.write_str("he has a role"),
            Cause::Stranger => f.write_str("the policy gives him no role"),
            Cause::Harmless => f.write_str("the option leads around no address"),
            Cause::NoRule => f.write_str("no rule of the policy allows it"),
            Cause::LeadsTo(ip) => write!(f, "it leads to {ip}, and no rule of the policy allows that"),
            Cause::Unnamed(ip, special) => {
                write!(f, "{ip} is {}, which a rule must name ", special.what)?;
                match special.word {
                    "" => write!(f, "as {}", special.network),
                    word => write!(f, "as `{word}`"),
                }
            }
            Cause::Control => f.write_str("this agent is controlled there, which a rule must name as `control`"),
        }
    }
}
