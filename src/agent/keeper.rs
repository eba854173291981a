//! What callers are checked against, and who has been let in by it: so that it can be exchanged while the agent serves.
//!
//! Invariant: whoever shows what does not count any more has no connection, however he came in; and what a principal has open ends when no
//! certificate of his is good any more, whether he is connected or not.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::pki_types::CertificateDer;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::agent::auth::Token;
use crate::agent::config::{AgentConfig, StartError};
use crate::agent::policy::read_policy;
use crate::agent::tls::Tls;
use crate::model::id::Principal;
use crate::model::own_deed::{OwnDeed, Parting};
use crate::model::policy::Policy;
use crate::service::audit::Audit;
use crate::socket::Sockets;

/// How often the host's calendar is looked at, which somebody may set.
const CALENDAR_LOOK: Duration = Duration::from_secs(10);

/// With more principals than this, those are forgotten who are not connected and have no session: they have nothing open.
const MANY: usize = 1024;

/// What callers must show.
#[derive(Default)]
pub(super) struct Checks {
    /// Absent: there is no way in that needs one.
    pub(super) token: Option<Token>,
    /// Absent: no way in speaks TLS.
    pub(super) tls: Option<Tls>,
}

/// Keeps the door. One for the whole agent.
pub(super) struct Keeper {
    checks: ArcSwap<Checks>,
    guests: Mutex<Guests>,
    next: AtomicU64,
    /// Wakes whoever looks for certificates that are not good any more.
    changed: Notify,
}

/// Who has been let in.
#[derive(Default)]
struct Guests {
    live: HashMap<u64, Live>,
    /// By which certificate each principal has come, or could still come: the one that is good for longest.
    passes: HashMap<Principal, Pass>,
}

/// A connection that somebody has been let in by.
struct Live {
    shown: Shown,
    end: CancellationToken,
}

/// A principal's certificate, which outlives the connection that it was shown on.
struct Pass {
    not_after: SystemTime,
    chain: Chain,
    /// Whether it is signed by whom the agent believes now.
    believed: bool,
    /// Since when it has not been good any more.
    over: Option<Instant>,
}

/// A certificate, and those between it and the CA after it.
pub(super) type Chain = Arc<[CertificateDer<'static>]>;

/// What whoever is at the other end has shown.
pub(super) enum Shown {
    /// That he comes from within, or that he is the same user; or nothing is asked for.
    Nothing,
    /// The token, with each request.
    Token,
    /// Certificates.
    Certificate {
        /// Whom the first one names.
        principal: Principal,
        /// Until when it is good.
        not_after: SystemTime,
        /// All of them, that one first.
        chain: Chain,
    },
}

impl Shown {
    /// Who has shown it.
    fn principal(&self) -> Principal {
        match self {
            Self::Nothing | Self::Token => Principal::owner(),
            Self::Certificate { principal, .. } => principal.clone(),
        }
    }
}

/// A connection's entry. It is gone when this is dropped.
pub(super) struct Entered {
    keeper: Arc<Keeper>,
    number: u64,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.keeper.guests().live.remove(&self.number);
    }
}

impl Guests {
    /// Notes what somebody has shown, if it is good for longer than what is known of him.
    fn note(&mut self, shown: &Shown) {
        let Shown::Certificate { principal, not_after, chain } = shown else { return };
        if self.passes.get(principal).is_none_or(|pass| !pass.believed || pass.not_after < *not_after) {
            let pass = Pass { not_after: *not_after, chain: Arc::clone(chain), believed: true, over: None };
            self.passes.insert(principal.clone(), pass);
        }
    }

    /// Forgets those who have nothing open, where there are many.
    fn make_room(&mut self, sockets: &Sockets) {
        if self.passes.len() >= MANY {
            let here: HashSet<Principal> = self.live.values().map(|live| live.shown.principal()).collect();
            self.passes.retain(|principal, _| here.contains(principal) || sockets.has_sessions(principal));
        }
    }
}

impl Keeper {
    pub(super) fn new(checks: Checks) -> Arc<Self> {
        let checks = ArcSwap::from_pointee(checks);
        Arc::new(Self { checks, guests: Mutex::default(), next: AtomicU64::new(0), changed: Notify::new() })
    }

    /// What is asked for now.
    pub(super) fn checks(&self) -> arc_swap::Guard<Arc<Checks>> {
        self.checks.load()
    }

    /// Notes that somebody has come in. Nothing where what he has shown has ceased to count while he was on his way.
    pub(super) fn enter(self: &Arc<Self>, shown: Shown, end: CancellationToken, sockets: &Sockets) -> Option<Entered> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut guests = self.guests();
        // An exchange walks over all who are in after it: it sees this one, or this sees the exchange.
        if let Shown::Certificate { chain, .. } = &shown {
            self.checks().tls.as_ref().filter(|tls| tls.believes(chain))?;
            guests.make_room(sockets);
            guests.note(&shown);
            self.changed.notify_one();
        }
        guests.live.insert(number, Live { shown, end });
        drop(guests);
        Some(Entered { keeper: Arc::clone(self), number })
    }

    /// Asks for something else from now on. Connections of those who have shown what no longer counts, or whom the policy gives no role any
    /// more, are ended; how many is told.
    fn exchange(&self, checks: Checks, sockets: &Sockets) -> usize {
        let gate = sockets.gate();
        let old = self.checks.swap(Arc::new(checks));
        let new = self.checks.load();
        let same_token = old.token == new.token;
        let is_welcome = |principal: &Principal| gate.enter(principal).is_ok();
        let believes = |chain: &Chain| new.tls.as_ref().is_some_and(|tls| tls.believes(chain));
        let counts = |shown: &Shown| match shown {
            Shown::Nothing => is_welcome(&Principal::owner()),
            Shown::Token => same_token && is_welcome(&Principal::owner()),
            Shown::Certificate { chain, principal, .. } => believes(chain) && is_welcome(principal),
        };
        let mut guests = self.guests();
        for pass in guests.passes.values_mut() {
            pass.believed = believes(&pass.chain);
        }
        let live = std::mem::take(&mut guests.live);
        let mut ended = 0;
        for live in live.values() {
            if counts(&live.shown) {
                // It may be another certificate than the one that was good for longest.
                guests.note(&live.shown);
            } else {
                sockets.note(&OwnDeed::Disconnected { who: live.shown.principal(), why: Parting::Reload });
                live.end.cancel();
                ended += 1;
            }
        }
        guests.live = live;
        self.changed.notify_one();
        ended
    }

    /// Ends connections when the certificates that were shown on them are no longer good; and what a principal has open, when none of his is
    /// and he does not come back with a good one in the time for which a lease is good. Never ready.
    pub(super) async fn look_after(&self, sockets: &Sockets) {
        loop {
            let (gone, next) = self.look(sockets, SystemTime::now(), Instant::now());
            for principal in gone {
                tracing::warn!(
                    principal = principal.as_str(),
                    "no certificate is good any more: what was open is ended"
                );
                let all = sockets.clone();
                sockets.spawn(async move { all.reset_all_of(&principal).await });
            }
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
    }

    /// Ends connections whose certificates have expired, and tells who has no good one any more, and when to look again.
    fn look(&self, sockets: &Sockets, date: SystemTime, now: Instant) -> (Vec<Principal>, Option<Instant>) {
        let mut next: Option<Instant> = None;
        let mut look_at = |moment| next = Some(next.map_or(moment, |next| next.min(moment)));
        // Whoever sets the calendar meanwhile.
        let look = |not_after: SystemTime| {
            let left = not_after.duration_since(date).ok().filter(|left| !left.is_zero())?;
            Some(now + left.min(CALENDAR_LOOK))
        };
        let mut guests = self.guests();
        for live in guests.live.values().filter(|live| !live.end.is_cancelled()) {
            let Shown::Certificate { principal, not_after, .. } = &live.shown else { continue };
            match look(*not_after) {
                Some(moment) => look_at(moment),
                None => {
                    tracing::warn!(
                        principal = principal.as_str(),
                        "a certificate has expired: its connection is ended"
                    );
                    let why = Parting::CertificateExpired;
                    sockets.note(&OwnDeed::Disconnected { who: principal.clone(), why });
                    live.end.cancel();
                }
            }
        }
        let grace = sockets.defaults().lease_ttl;
        let gone = guests.passes.extract_if(|_, pass| {
            if let Some(moment) = look(pass.not_after).filter(|_| pass.believed) {
                pass.over = None;
                look_at(moment);
                return false;
            }
            let end = *pass.over.get_or_insert(now) + grace;
            if now < end {
                look_at(end);
            }
            now >= end
        });
        let gone = gone.map(|(principal, _)| principal).collect();
        (gone, next)
    }

    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the files of an agent's credentials and its policy anew, while it serves. Cheap to clone.
#[derive(Clone)]
pub struct Reloader {
    pub(super) keeper: Arc<Keeper>,
    pub(super) config: Arc<AgentConfig>,
    pub(super) sockets: Sockets,
    pub(super) audit: Option<Arc<Audit>>,
}

/// What reading them has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reloaded {
    /// Connections of those whom the new files would not let in.
    pub connections: usize,
    /// Sockets that the new policy does not allow.
    pub sockets: usize,
}

impl Reloader {
    /// The policy in force, where there is one.
    pub fn policy(&self) -> Option<Arc<Policy>> {
        self.sockets.gate().policy()
    }

    /// Reads the token file, the files of TLS and the policy. Whatever is wrong with one of them, everything stays as it was. Connections of
    /// those whom the new ones would not let in are ended, sockets that the new policy does not allow are closed, and how many these were is
    /// told; no other one notices anything. What those have open whose certificates the new CA has not signed is ended when they do not come
    /// back with good ones in the time for which a lease is good. The file of records is opened again, too, where another program has put it aside.
    pub async fn reload(&self) -> Result<Reloaded, StartError> {
        let reloaded = match self.audit.as_ref().map_or(Ok(()), |audit| audit.reopen()) {
            Ok(()) => self.read_again().await,
            Err(problem) => Err(problem.into()),
        };
        self.sockets.note(&match &reloaded {
            Ok(Reloaded { connections, sockets }) => OwnDeed::Reloaded {
                policy: self.policy().map(|policy| policy.title().to_owned()),
                connections: *connections,
                sockets: *sockets,
            },
            Err(problem) => OwnDeed::NotReloaded { problem: problem.to_string() },
        });
        reloaded
    }

    async fn read_again(&self) -> Result<Reloaded, StartError> {
        let policy = self.config.policy_file.as_deref().map(read_policy).transpose()?;
        let token = match (&self.config.token_file, &self.keeper.checks().token) {
            (Some(path), Some(_)) => Some(Token::at(path)?),
            (_, token) => token.clone(),
        };
        let tls = self.config.tls.as_ref().map(|files| Tls::load(files, self.config.open.any())).transpose()?;
        let gate = self.sockets.gate();
        let is_new = policy.map(|policy| gate.exchange(policy)).is_some();
        let connections = self.keeper.exchange(Checks { token, tls }, &self.sockets);
        let sockets = if is_new { self.sockets.judge().await } else { 0 };
        Ok(Reloaded { connections, sockets })
    }
}
