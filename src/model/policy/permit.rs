//! What a policy has been asked about and allows: the only addresses, groups and options that system calls take.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::model::address::Transport;
use crate::model::group::GroupChange;
use crate::model::id::Principal;
use crate::model::option::OptionSpec;
use crate::model::policy::{AddressUse, Decision, HARMLESS, Place, Policy, Right, Use};

/// Something that may be used. Only a [`Ruling`] makes it, so that what nobody has asked about does not compile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permitted<T>(T);

impl<T: Copy> Permitted<T> {
    /// What it is.
    pub const fn get(self) -> T {
        self.0
    }

    /// One that nobody was asked about.
    #[cfg(test)]
    pub const fn unasked(what: T) -> Self {
        Self(what)
    }
}

impl Permitted<SocketAddr> {
    /// The address without its port, which may be used as well.
    pub const fn ip(self) -> Permitted<IpAddr> {
        Permitted(self.0.ip())
    }
}

/// What a policy says to somebody; where no policy is in force, everything is allowed.
#[derive(Clone, Copy)]
pub struct Ruling<'a> {
    policy: Option<&'a Policy>,
    who: &'a Principal,
    place: Place<'a>,
}

/// Somebody may not do something, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Who.
    pub who: Principal,
    /// What, as a policy has the word for it: `connect`, `set`, `use-others`.
    pub word: &'static str,
    /// With which address or option; empty where it is neither.
    pub target: String,
    /// By which transport, where there is one.
    pub transport: Option<Transport>,
    /// All of that in words.
    pub what: String,
    /// Why.
    pub decision: Decision,
}

impl<'a> Ruling<'a> {
    /// Of this policy, or of none.
    pub const fn new(policy: Option<&'a Policy>, who: &'a Principal, place: Place<'a>) -> Self {
        Self { policy, who, place }
    }

    /// Asks for a use of an address.
    pub fn address(&self, what: &AddressUse) -> Result<Permitted<SocketAddr>, Box<Denied>> {
        let Some(policy) = self.policy else { return Ok(Permitted(what.addr)) };
        let decision = policy.decide(self.who, what, self.place);
        if decision.allowed {
            return Ok(Permitted(what.addr));
        }
        let target = match what.kind {
            Use::Accept | Use::Join => what.addr.ip().to_string(),
            _ => what.addr.to_string(),
        };
        let denied = self.denied(what.kind.word(), what.to_string(), decision);
        Err(Box::new(Denied { target, transport: Some(what.transport), ..denied }))
    }

    /// Asks for a change of a multicast membership. Only joining needs to be allowed: all else makes less of it.
    pub fn group(&self, change: GroupChange, group: IpAddr) -> Result<Permitted<IpAddr>, Box<Denied>> {
        if change != GroupChange::Join {
            return Ok(Permitted(group));
        }
        let addr = SocketAddr::new(group, 0);
        Ok(self.address(&AddressUse { kind: Use::Join, transport: Transport::Udp, addr, also: None })?.ip())
    }

    /// Asks for a socket option.
    pub fn option(&self, spec: &'static OptionSpec) -> Result<Permitted<&'static OptionSpec>, Box<Denied>> {
        let Some(policy) = self.policy else { return Ok(Permitted(spec)) };
        let decision = policy.decide_option(self.who, spec.name);
        if decision.allowed {
            return Ok(Permitted(spec));
        }
        let denied = self.denied(Use::Set.word(), format!("set {}", spec.name), decision);
        Err(Box::new(Denied { target: spec.name.to_owned(), ..denied }))
    }

    /// Asks for a right.
    pub fn right(&self, right: Right) -> Result<(), Box<Denied>> {
        let Some(policy) = self.policy else { return Ok(()) };
        let decision = policy.decide_right(self.who, right);
        if decision.allowed { Ok(()) } else { Err(Box::new(self.denied(right.word(), right.to_string(), decision))) }
    }

    /// Asks whether somebody has any business here.
    pub fn entry(&self) -> Result<(), Box<Denied>> {
        match self.policy.map(|policy| policy.decide_entry(self.who)) {
            Some(decision) if !decision.allowed => Err(Box::new(self.denied("enter", "come in".to_owned(), decision))),
            _ => Ok(()),
        }
    }

    fn denied(&self, word: &'static str, what: String, decision: Decision) -> Denied {
        Denied { who: self.who.clone(), word, target: String::new(), transport: None, what, decision }
    }
}

/// An option that leads around no address, which the agent sets by itself. Absent: it is none of these.
pub fn harmless(spec: &'static OptionSpec) -> Option<Permitted<&'static OptionSpec>> {
    HARMLESS.contains(&spec.name).then_some(Permitted(spec))
}

impl fmt::Display for Denied {
    /// One line: who, what, why, and what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { who, what, decision, .. } = self;
        write!(
            f,
            "{} may not {what}: {decision}; do what it allows, or ask whoever keeps the policy of this agent",
            who.as_str()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::mistake::Source;

    const POLICY: &str = "policy: Test\nprincipals: { bob: student }\nrules:\n  - { allow: [connect, join], addresses: [10.0.0.0/24, 239.1.0.0/16] }\n";

    #[test]
    fn what_is_denied_says_who_what_why_and_what_next() {
        let policy = Policy::read(&Source { name: "policy.yaml".to_owned(), text: POLICY.to_owned() }).unwrap();
        let bob = Principal::parse("bob").unwrap();
        let place = Place { control: &[], is_local: &|_| false };
        let ruling = Ruling::new(Some(&policy), &bob, place);
        let to = |addr: &str| AddressUse {
            kind: Use::Connect,
            transport: Transport::Tcp,
            addr: addr.parse().unwrap(),
            also: None,
        };
        assert_eq!(ruling.address(&to("10.0.0.2:80")).unwrap().get(), "10.0.0.2:80".parse().unwrap());
        let denied = ruling.address(&to("10.0.1.2:80")).unwrap_err();
        assert_eq!(
            denied.to_string(),
            "bob may not connect to 10.0.1.2:80 by TCP: no rule of the policy allows it; do what it allows, or ask whoever keeps the policy of this agent"
        );
        assert_eq!((denied.word, denied.target.as_str()), ("connect", "10.0.1.2:80"));

        let group = "239.2.1.1".parse().unwrap();
        assert!(ruling.group(GroupChange::Join, "239.1.1.1".parse().unwrap()).is_ok());
        assert_eq!(ruling.group(GroupChange::Join, group).unwrap_err().target, "239.2.1.1");
        assert!(ruling.group(GroupChange::Leave, group).is_ok());
        let mark = OptionSpec::find("SO_MARK").unwrap();
        assert_eq!(ruling.option(mark).unwrap_err().target, "SO_MARK");
        assert!(harmless(mark).is_none() && harmless(OptionSpec::find("TCP_NODELAY").unwrap()).is_some());
        assert_eq!(ruling.right(Right::SeeOthers).unwrap_err().word, "see-others");

        let nobody = Principal::parse("nobody").unwrap();
        let stranger = Ruling::new(Some(&policy), &nobody, place);
        assert!(stranger.entry().unwrap_err().to_string().contains("no role"));
        let free = Ruling::new(None, &nobody, place);
        assert!(free.entry().is_ok() && free.option(mark).is_ok() && free.address(&to("10.0.1.2:80")).is_ok());
    }
}
