//! What callers are checked against, and who has been let in by it: so that it can be exchanged while the agent serves.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use crate::agent::auth::Token;
use crate::agent::config::{AgentConfig, StartError};
use crate::agent::policy::read_policy;
use crate::agent::tls::Tls;
use crate::model::id::Principal;
use crate::model::own_deed::{OwnDeed, Parting};
use crate::service::audit::Audit;
use crate::socket::Sockets;

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
    live: Mutex<HashMap<u64, Live>>,
    next: AtomicU64,
}

/// A connection that somebody has been let in by.
struct Live {
    shown: Shown,
    end: CancellationToken,
}

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
        chain: Vec<CertificateDer<'static>>,
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
        self.keeper.live().remove(&self.number);
    }
}

impl Keeper {
    pub(super) fn new(checks: Checks) -> Arc<Self> {
        Arc::new(Self { checks: ArcSwap::from_pointee(checks), live: Mutex::default(), next: AtomicU64::new(0) })
    }

    /// What is asked for now.
    pub(super) fn checks(&self) -> arc_swap::Guard<Arc<Checks>> {
        self.checks.load()
    }

    /// Notes that somebody has come in.
    pub(super) fn enter(self: &Arc<Self>, shown: Shown, end: CancellationToken) -> Entered {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.live().insert(number, Live { shown, end });
        Entered { keeper: Arc::clone(self), number }
    }

    /// Whether a principal is here by a certificate.
    pub(super) fn is_here(&self, principal: &Principal) -> bool {
        let is_it = |live: &Live| matches!(&live.shown, Shown::Certificate { principal: who, .. } if who == principal);
        self.live().values().any(|live| is_it(live) && !live.end.is_cancelled())
    }

    /// Asks for something else from now on. Connections of those who have shown what no longer counts, or whom the policy gives no role any
    /// more, are ended; how many is told.
    fn exchange(&self, checks: Checks, sockets: &Sockets) -> usize {
        let gate = sockets.gate();
        let old = self.checks.swap(Arc::new(checks));
        let new = self.checks.load();
        let same_token = old.token == new.token;
        let is_welcome = |principal: &Principal| gate.enter(principal).is_ok();
        let counts = |shown: &Shown| match shown {
            Shown::Nothing => is_welcome(&Principal::owner()),
            Shown::Token => same_token && is_welcome(&Principal::owner()),
            Shown::Certificate { chain, principal, .. } => {
                new.tls.as_ref().is_some_and(|tls| tls.believes(chain)) && is_welcome(principal)
            }
        };
        let live = self.live();
        let strangers = live.values().filter(|live| !counts(&live.shown));
        let turn_out = |live: &Live| {
            sockets.note(&OwnDeed::Disconnected { who: live.shown.principal(), why: Parting::Reload });
            live.end.cancel();
        };
        strangers.map(turn_out).count()
    }

    fn live(&self) -> MutexGuard<'_, HashMap<u64, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// Reads the token file, the files of TLS and the policy. Whatever is wrong with one of them, everything stays as it was. Connections of
    /// those whom the new ones would not let in are ended, sockets that the new policy does not allow are closed, and how many these were is
    /// told; no other one notices anything. The file of records is opened again, too, where another program has put it aside.
    pub async fn reload(&self) -> Result<Reloaded, StartError> {
        let reloaded = match self.audit.as_ref().map_or(Ok(()), |audit| audit.reopen()) {
            Ok(()) => self.read_again().await,
            Err(problem) => Err(problem.into()),
        };
        self.sockets.note(&match &reloaded {
            Ok(Reloaded { connections, sockets }) => OwnDeed::Reloaded {
                policy: self.sockets.gate().policy().map(|policy| policy.title().to_owned()),
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
