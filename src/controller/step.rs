//! One step: act, wait for its evidence, judge.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, interval, timeout};

use crate::client::ClientError;
use crate::controller::bindings::{Bindings, Socket};
use crate::controller::calls::{Appointment, Made};
use crate::controller::collect::Collector;
use crate::controller::fleet::{Fleet, Member};
use crate::exercise::clock::Reading;
use crate::exercise::expectation::{EventCheck, FactsCheck, SocketSeen, quoted};
use crate::exercise::narration::describe;
use crate::exercise::outcome::{Difference, Failure, StepOutcome, StepResult};
use crate::exercise::plan::{EventWanted, Expectation, Facts, Step, Verb};
use crate::model::error::SocketError;
use crate::model::event::{Event, EventRecord};
use crate::model::id::SocketId;
use crate::model::operation::{Action, CallOptions, Outcome, SocketAction, Target, Yield};

/// How long a step may take that does not say.
pub(super) const USUAL: Duration = Duration::from_secs(5);

/// How often a fact is looked at again that no event announces.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How much longer than it says a step may take until its agent is given up.
const LATE: Duration = Duration::from_secs(10);

/// Does steps.
#[derive(Clone, Copy)]
pub(super) struct Runner<'a> {
    pub(super) fleet: &'a Fleet,
    pub(super) collector: &'a Collector,
    /// Where the last call of the step is noted.
    pub(super) made: Option<&'a Made>,
    /// When the step is to begin; at once where absent.
    pub(super) moment: Option<&'a Appointment>,
}

/// Why a step did not go as it should.
pub(super) enum Trouble {
    /// It was done, and came out differently.
    Failed(Box<Failure>),
    /// The agent did not do it.
    Refused {
        /// The stable name of the reason.
        reason: String,
        /// One line for people.
        message: String,
    },
    /// It could not be done.
    Unable(Box<Failure>),
}

/// The event that a step was about, if there was one.
pub(super) type Done = Result<Option<(usize, u64)>, Trouble>;

impl Trouble {
    /// Something is not what it should be.
    pub(super) fn differs(difference: Difference) -> Self {
        Self::Failed(Box::new(Failure::differs(difference)))
    }

    /// Something that an exercise says cannot be done, and the check could not know it.
    pub(super) fn unable(message: impl Into<String>) -> Self {
        let message = message.into();
        Self::Unable(Box::new(Failure::new(message.clone(), message)))
    }

    fn advised(self, advice: &str) -> Self {
        match self {
            Self::Failed(failure) => Self::Failed(Box::new(failure.advised(advice))),
            Self::Unable(failure) => Self::Unable(Box::new(failure.advised(advice))),
            refused @ Self::Refused { .. } => refused,
        }
    }

    /// The same, beginning with these words.
    pub(super) fn because(self, words: &str) -> Self {
        match self {
            Self::Failed(mut failure) => {
                failure.message = format!("{words}: {}", failure.message);
                Self::Failed(failure)
            }
            other => other,
        }
    }

    pub(super) fn kernel(error: &SocketError) -> Self {
        let difference = Difference::new("result", "success", error.cause.name()).told(error.to_string());
        Self::Failed(Box::new(Failure::differs(difference).advised(error.hint())))
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused { reason, message } => Self::Refused { reason, message },
            other => Self::unable(other.to_string()),
        }
    }
}

impl Runner<'_> {
    pub(super) async fn step(&self, step: &Step, bindings: &Bindings<'_>) -> StepOutcome {
        let began = Instant::now();
        let longest = longest(step) + self.moment.map_or(Duration::ZERO, |moment| moment.ahead);
        let made = Made::default();
        let runner = Runner { made: Some(&made), ..*self };
        let done = timeout(longest, runner.perform(step, bindings)).await.unwrap_or_else(|_| {
            let text = format!("{} has not answered for {longest:?}", self.member(step.host).role);
            Err(Trouble::unable(text)
                .advised("the agent keeps to `within` itself: it stands still, or the way to it is cut"))
        });
        let (result, evidence) = match done {
            Ok(evidence) => (StepResult::Passed, evidence),
            Err(Trouble::Refused { reason, .. }) if step.error.as_ref() == Some(&reason) => (StepResult::Passed, None),
            // What an agent refuses is something that the exercise got wrong.
            Err(Trouble::Refused { reason, message }) => {
                let wanted = step.error.as_deref().unwrap_or("success");
                let difference = Difference::new("result", wanted, reason).told(message);
                (StepResult::Failed(Failure::differs(difference)), None)
            }
            Err(Trouble::Failed(failure)) => (StepResult::Failed(*failure), None),
            Err(Trouble::Unable(failure)) => (StepResult::CouldNotRun(*failure), None),
        };
        let call = if result == StepResult::Passed { None } else { made.told(&self.member(step.host).place) };
        StepOutcome { number: step.number, result, elapsed: began.elapsed(), evidence, finding: None, call }
    }

    /// Reads the clock of a host, as it is now.
    pub(super) async fn read_clock(&self, host: usize) -> Result<Reading, String> {
        let asked = timeout(USUAL, self.fleet.read_clock(host)).await;
        asked.unwrap_or_else(|_| Err(format!("{} does not say what time it is", self.member(host).role)))
    }

    /// Waits until the agent of a host has gone, and says why.
    pub(super) async fn gone(&self, host: usize) -> String {
        tokio::select! {
            biased;
            lost = self.fleet.lost_at(host) => lost,
            over = self.collector.over_at(host) => over,
        }
    }

    async fn perform(&self, step: &Step, bindings: &Bindings<'_>) -> Done {
        match &step.verb {
            Verb::Create(socket) => self.create(step, socket, bindings).await,
            Verb::Bind { socket, to, retry } => {
                let local = bindings.address(to).map_err(Trouble::unable)?;
                self.act(step, bindings, socket, SocketAction::Bind { local, retry: *retry }).await
            }
            Verb::Listen { socket, backlog } => {
                self.act(step, bindings, socket, SocketAction::Listen { backlog: *backlog }).await
            }
            Verb::Connect { socket, to, attempts } => {
                let remote = bindings.address(to).map_err(Trouble::unable)?;
                self.act(step, bindings, socket, SocketAction::Connect { remote, attempts: *attempts }).await
            }
            Verb::Disconnect { socket } => self.act(step, bindings, socket, SocketAction::Disconnect).await,
            Verb::Flush { socket } => self.act(step, bindings, socket, SocketAction::Flush).await,
            Verb::Shutdown { socket, how } => self.act(step, bindings, socket, SocketAction::Shutdown(*how)).await,
            Verb::Close { socket, linger } => {
                let close = SocketAction::Close { linger: *linger, allow_missing: false };
                self.act(step, bindings, socket, close).await
            }
            Verb::Abort { socket } => {
                self.act(step, bindings, socket, SocketAction::Abort { allow_missing: false }).await
            }
            Verb::Set { socket, delivery, options } => {
                if let Some(change) = delivery {
                    self.act(step, bindings, socket, SocketAction::SetDelivery(*change)).await?;
                }
                if options.is_empty() {
                    return Ok(None);
                }
                self.act(step, bindings, socket, SocketAction::SetOptions(options.clone())).await
            }
            Verb::Group { socket, change, membership } => {
                let asked = bindings.membership(membership).map_err(Trouble::unable)?;
                self.act(step, bindings, socket, SocketAction::Group(*change, asked)).await
            }
            Verb::Filter { socket, filter } => {
                let asked = bindings.source_filter(filter).map_err(Trouble::unable)?;
                self.act(step, bindings, socket, SocketAction::Filter(asked)).await
            }
            Verb::Accept { listener, name, peer, manual } => {
                let peer = bindings.optional_text(peer.as_ref()).map_err(Trouble::unable)?;
                if *manual {
                    self.accept_by_hand(step, bindings, listener, name, peer).await
                } else {
                    self.await_accepted(step, bindings, listener, name, peer).await
                }
            }
            Verb::Write { socket, payload, flags, slices, expected_offset, written } => {
                let how = (*flags, *slices, *expected_offset);
                self.write(step, bindings, socket, (payload, how), *written).await
            }
            Verb::Send { socket, to, reply_to, marks, payload, count, interval, flags } => {
                let way = (to.as_ref(), reply_to.as_deref(), marks);
                self.send(step, bindings, socket, way, (payload, *count, (*interval, *flags))).await
            }
            Verb::Receive { socket, transport, wanted, name } => {
                self.receive(step, bindings, socket, *transport, wanted, name.as_deref()).await
            }
            Verb::Transfer { socket, to, payload, end } => {
                self.transfer(step, bindings, (socket, to), (payload, *end)).await
            }
            Verb::Resolve { question, found } => self.resolve(step, question, found).await,
            Verb::Parse { text, is } => {
                let text = bindings.text(text).map_err(Trouble::unable)?;
                self.parse(step, &text, *is).await
            }
            // Whoever has done the steps before says it.
            Verb::Together { .. } => Ok(None),
            Verb::Order { events } => self.order(step, bindings, events).await,
            Verb::Expect { socket: name, expectation } => {
                let socket = bindings.socket(name).map_err(Trouble::unable)?;
                match &**expectation {
                    Expectation::Event(wanted) => self.expect_event(step, bindings, &socket, wanted).await,
                    Expectation::Facts(facts) => self.expect_facts(step, bindings, (name, &socket), facts).await,
                    Expectation::Quiet(length, kind) => self.expect_silence(&socket, *length, *kind).await,
                }
            }
        }
    }

    // === Acting ===

    pub(super) fn member(&self, host: usize) -> &Member {
        &self.fleet.members()[host]
    }

    pub(super) fn options(&self, step: &Step) -> CallOptions {
        CallOptions { timeout: Some(step.within.unwrap_or(USUAL)), ..CallOptions::default() }
    }

    pub(super) fn on(&self, id: &SocketId, action: SocketAction) -> Action {
        let target = Target { session: self.fleet.session().clone(), socket: id.clone(), uid: None };
        Action::Socket(target, action)
    }

    /// Does something with a socket, and judges how it went.
    async fn act(&self, step: &Step, bindings: &Bindings<'_>, name: &str, action: SocketAction) -> Done {
        let socket = bindings.socket(name).map_err(Trouble::unable)?;
        let action = self.on(&socket.id, action);
        let outcome = self.call(step, &action, &self.options(step)).await?;
        if let Yield::Socket(view, _) | Yield::Groups(view, _) | Yield::Filters(view, _) = &outcome.yielded {
            bindings.learn(name, view);
        }
        self.judge(step, &outcome)
    }

    /// Whether an operation ended as the step wants it to.
    pub(super) fn judge(&self, step: &Step, outcome: &Outcome) -> Done {
        let report = &outcome.report;
        let within = step.within.unwrap_or(USUAL);
        let evidence = report.events.map(|(_, last)| (step.host, last)).filter(|_| step.error.is_some());
        match (step.error.as_deref(), &report.error, report.timed_out) {
            (None, None, false) | (Some("timeout"), None, true) => Ok(evidence),
            (Some(wanted), Some(error), _) if error.cause.name() == wanted => Ok(evidence),
            (None, Some(error), _) => Err(Trouble::kernel(error)),
            (None, None, true) => {
                let text = format!("{} had no answer within {within:?}", step.verb.word());
                let difference = Difference::new("result", "success", format!("nothing for {within:?}"));
                Err(Trouble::differs(difference.told(text)))
            }
            (Some(wanted), Some(error), _) => {
                let text = format!("{error}, and {wanted} was expected");
                Err(Trouble::differs(Difference::new("result", wanted, error.cause.name()).told(text)))
            }
            (Some(wanted), None, timed_out) => {
                let what = if timed_out { "had no answer" } else { "succeeded" };
                let text = format!("it {what}, and {wanted} was expected");
                Err(Trouble::differs(Difference::new("result", wanted, what).told(text)))
            }
        }
    }

    async fn accept_by_hand(
        &self,
        step: &Step,
        bindings: &Bindings<'_>,
        listener: &str,
        name: &str,
        peer: Option<String>,
    ) -> Done {
        let listener = bindings.socket(listener).map_err(Trouble::unable)?;
        let action = self.on(&listener.id, SocketAction::Accept);
        let outcome = self.call(step, &action, &self.options(step)).await?;
        if let Yield::Socket(view, _) = &outcome.yielded {
            let ends = (view.status.local.clone(), view.status.remote.clone());
            bindings.bind(name, step.host, view.id.clone(), ends);
        }
        self.judge(step, &outcome)?;
        // The kernel hands over whoever is next: it cannot be asked for somebody.
        if let (Some(wanted), Yield::Socket(view, _)) = (peer, &outcome.yielded) {
            let got = view.status.remote.as_ref().map_or_else(|| "nobody".to_owned(), ToString::to_string);
            if got != wanted {
                return Err(Trouble::differs(Difference::new("peer", wanted, got)));
            }
        }
        Ok(outcome.report.events.map(|(_, last)| (step.host, last)))
    }

    /// Waits until a listener has accepted a connection that no step has a name for yet.
    async fn await_accepted(
        &self,
        step: &Step,
        bindings: &Bindings<'_>,
        listener: &str,
        name: &str,
        peer: Option<String>,
    ) -> Done {
        let listener = bindings.socket(listener).map_err(Trouble::unable)?;
        let within = step.within.unwrap_or(USUAL);
        let found = self
            .collector
            .find_or_rule_out(self.fleet, step.host, Instant::now() + within, |records| {
                records.iter().filter(|record| is_of(record, &listener.id)).find_map(|record| match &record.event {
                    Event::Accepted { id, local, remote, .. }
                        if !bindings.has(step.host, id)
                            && peer.as_ref().is_none_or(|peer| *peer == remote.to_string()) =>
                    {
                        Some((id.clone(), local.clone(), remote.clone(), record.seq))
                    }
                    _ => None,
                })
            })
            .await
            .map_err(Trouble::unable)?;
        match (found, step.error.as_deref()) {
            (Some((id, local, remote, seq)), None) => {
                bindings.bind(name, step.host, id, (Some(local), Some(remote)));
                Ok(Some((step.host, seq)))
            }
            (None, Some("timeout")) => Ok(None),
            (Some((_, _, remote, _)), Some(wanted)) => {
                let text = format!("{remote} was accepted, and {wanted} was expected");
                Err(Trouble::differs(Difference::new("result", wanted, "accepted").told(text)))
            }
            (None, _) => {
                let from = peer.map(|peer| format!(" from {peer}")).unwrap_or_default();
                let text = format!("no connection{from} came within {within:?}");
                let wanted = format!("a connection{from}");
                Err(Trouble::differs(Difference::new("event", wanted, "nobody came").told(text)))
            }
        }
    }

    // === Expecting ===

    async fn expect_event(&self, step: &Step, bindings: &Bindings<'_>, socket: &Socket, wanted: &EventWanted) -> Done {
        let check = EventCheck {
            kind: wanted.kind,
            payload: bindings.payload(&wanted.payload).map_err(Trouble::unable)?,
            size: wanted.size,
            offset: wanted.offset,
            peer: bindings.optional_text(wanted.peer.as_ref()).map_err(Trouble::unable)?,
            reason: wanted.reason,
            errno: wanted.errno.clone(),
        };
        let after = bindings.matched(socket, wanted.kind);
        let within = step.within.unwrap_or(USUAL);
        let mut nearly = None;
        let mut came = 0;
        let found = self
            .collector
            .find_or_rule_out(self.fleet, step.host, Instant::now() + within, |records| {
                (nearly, came) = (None, 0);
                let of_socket = || records.iter().filter(|record| is_of(record, &socket.id));
                for record in of_socket().filter(|record| record.seq > after && record.event.kind() == wanted.kind) {
                    match check.judge(record) {
                        Ok(()) => came += 1,
                        Err(difference) => nearly = Some(difference),
                    }
                    if came == wanted.count {
                        return Some(Some(record.seq));
                    }
                }
                // Nothing comes after the end.
                of_socket().any(|record| matches!(record.event, Event::Closed(_))).then_some(None)
            })
            .await
            .map_err(Trouble::unable)?;
        if let Some(Some(seq)) = found {
            bindings.set_matched(socket, wanted.kind, seq);
            if let Some(quiet) = wanted.quiet {
                self.expect_no_more(socket, &check, (seq, wanted.count), quiet).await?;
            }
            return Ok(Some((step.host, seq)));
        }
        let last = self.last_event(socket).await;
        let closed = found.is_some();
        let message = match (&nearly, closed) {
            _ if came > 0 => format!("`{}` came {came} of {} times", wanted.kind, wanted.count),
            (Some(difference), _) => format!("`{}` came, but {difference}", wanted.kind),
            (None, true) => format!("`{}` did not come before the socket was closed", wanted.kind),
            (None, false) => format!("`{}` did not come within {within:?}", wanted.kind),
        };
        let difference = match nearly {
            Some(nearly) => nearly,
            None => {
                let seen = last.as_ref().map_or_else(|| "nothing".to_owned(), |last| describe(&last.event));
                Difference::new("event", wanted.kind, seen)
            }
        };
        let failure = Failure::differs(difference.told(message)).advised(advice(last.as_deref()));
        Err(Trouble::Failed(Box::new(failure)))
    }

    /// Makes sure that an event which has come so often does not come again.
    async fn expect_no_more(
        &self,
        socket: &Socket,
        check: &EventCheck,
        (after, count): (u64, usize),
        quiet: Duration,
    ) -> Result<(), Trouble> {
        let another = |records: &[Arc<EventRecord>]| {
            let newer = records.iter().filter(|record| record.seq > after && is_of(record, &socket.id));
            newer.into_iter().find(|record| check.judge(record).is_ok()).cloned()
        };
        let until = Instant::now() + quiet;
        let came = self.collector.find_or_rule_out(self.fleet, socket.host, until, another).await;
        match came.map_err(Trouble::unable)? {
            None => Ok(()),
            Some(record) => {
                let what = describe(&record.event);
                let text = format!("`{}` came more than {count} times: it {what}", check.kind);
                let wanted = format!("`{}` {count} times", check.kind);
                Err(Trouble::differs(Difference::new("event", wanted, what).told(text)))
            }
        }
    }

    /// The last thing that happened to a socket, apart from its end, which follows from it.
    async fn last_event(&self, socket: &Socket) -> Option<Arc<EventRecord>> {
        let now = Instant::now();
        let newest = |records: &[Arc<EventRecord>]| {
            let of_socket = records.iter().rev().filter(|record| is_of(record, &socket.id));
            of_socket
                .clone()
                .find(|record| !matches!(record.event, Event::Closed(_)))
                .or_else(|| of_socket.clone().next())
                .cloned()
        };
        self.collector.find(socket.host, now, newest).await
    }

    async fn expect_facts(
        &self,
        step: &Step,
        bindings: &Bindings<'_>,
        (name, socket): (&str, &Socket),
        facts: &Facts,
    ) -> Done {
        let check = FactsCheck {
            facts: facts.clone(),
            hash_received: bindings.optional_text(facts.hash_received.as_ref()).map_err(Trouble::unable)?,
            hash_written: bindings.optional_text(facts.hash_written.as_ref()).map_err(Trouble::unable)?,
            local: bindings.optional_text(facts.local.as_ref()).map_err(Trouble::unable)?,
            peer: bindings.optional_text(facts.peer.as_ref()).map_err(Trouble::unable)?,
        };
        let within = step.within.unwrap_or(USUAL);
        let deadline = Instant::now() + within;
        let mut again = interval(LOOK_AGAIN);
        loop {
            again.tick().await;
            let client = &self.member(socket.host).client;
            let (view, info, memory) = client.socket(self.fleet.session(), &socket.id).await?;
            let seen = SocketSeen { view, info, memory };
            match check.judge(&seen) {
                Ok(()) => {
                    bindings.learn_hashes(name, &seen.view);
                    return Ok(None);
                }
                Err(difference) if Instant::now() >= deadline => {
                    let text = if within.is_zero() {
                        difference.to_string()
                    } else {
                        format!("{difference}, after {within:?}")
                    };
                    return Err(Trouble::differs(difference.told(text)));
                }
                Err(_) => {}
            }
        }
    }

    async fn expect_silence(&self, socket: &Socket, length: Duration, kind: Option<&'static str>) -> Done {
        self.collector.catch_up(self.fleet, [socket.host], None).await;
        let wanted = |record: &&Arc<EventRecord>| {
            is_of(record, &socket.id) && kind.is_none_or(|kind| record.event.kind() == kind)
        };
        let mut before = None;
        let heard = self
            .collector
            .find_or_rule_out(self.fleet, socket.host, Instant::now() + length, |records| {
                let known = *before.get_or_insert(records.len());
                records.iter().skip(known).find(wanted).cloned()
            })
            .await
            .map_err(Trouble::unable)?;
        match heard {
            None => Ok(None),
            Some(record) => {
                let what = describe(&record.event);
                let text = format!("silence was expected for {length:?}, and it {what}");
                Err(Trouble::differs(Difference::new("event", format!("silence for {length:?}"), what).told(text)))
            }
        }
    }
}

/// How long nobody waits longer for a step, whatever its agent does. Some steps are two calls, or a wait and silence after it.
fn longest(step: &Step) -> Duration {
    let quiet = match &step.verb {
        Verb::Receive { wanted, .. } => wanted.quiet,
        Verb::Expect { expectation, .. } => match &**expectation {
            Expectation::Event(wanted) => wanted.quiet,
            Expectation::Quiet(length, _) => Some(*length),
            Expectation::Facts(_) => None,
        },
        _ => None,
    };
    (step.within.unwrap_or(USUAL) * 2).saturating_add(quiet.unwrap_or_default()).saturating_add(LATE)
}

/// Whether an event is about a socket.
pub(super) fn is_of(record: &EventRecord, id: &SocketId) -> bool {
    record.socket.as_ref().is_some_and(|(socket, _)| socket == id)
}

/// What the last event of a socket says about why something else did not come.
fn advice(last: Option<&EventRecord>) -> &'static str {
    match last.map(|record| &record.event) {
        Some(Event::PeerReset { .. }) => {
            "a RST came instead of a FIN: the other side aborted, or closed with bytes that it had not read"
        }
        Some(Event::Closed(closing)) if closing.unread_bytes > 0 => {
            "it was closed with bytes unread: Linux then sends a RST, not a FIN"
        }
        _ => "",
    }
}

/// The beginning of what was got, for messages.
pub(super) fn shown(bytes: &bytes::Bytes) -> String {
    if bytes.is_empty() { "nothing".to_owned() } else { quoted(bytes) }
}
