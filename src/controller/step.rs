//! One step: act, wait for its evidence, judge.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::client::ClientError;
use crate::controller::bindings::Bindings;
use crate::controller::calls::{Appointment, Made};
use crate::controller::collect::Collector;
use crate::controller::fleet::{Fleet, Member};
use crate::exercise::advice::{different, explained, no_error, unanswered};
use crate::exercise::clock::Reading;
use crate::exercise::expectation::quoted;
use crate::exercise::outcome::{Difference, Failure, StepOutcome, StepResult};
use crate::exercise::plan::{Expectation, Step, Verb};
use crate::model::error::SocketError;
use crate::model::event::{Event, EventRecord};
use crate::model::id::SocketId;
use crate::model::operation::{Action, CallOptions, Outcome, SocketAction, Target, Yield};
use crate::wire::asking::Asking;

/// How long a step may take that does not say.
pub(super) const USUAL: Duration = Duration::from_secs(5);

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

    /// The same, with advice, if it says anything.
    pub(super) fn advised(self, advice: impl Into<String>) -> Self {
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
        let hint = error.hint();
        let advice = if hint.is_empty() { explained(&error.cause.name()) } else { hint.to_owned() };
        Self::differs(difference).advised(advice)
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
                let difference = Difference::new("result", wanted, reason.as_str()).told(message);
                (StepResult::Failed(Failure::differs(difference).advised(explained(&reason))), None)
            }
            Err(Trouble::Failed(failure)) => (StepResult::Failed(advised(step, *failure)), None),
            Err(Trouble::Unable(failure)) => (StepResult::CouldNotRun(*failure), None),
        };
        let call = if result == StepResult::Passed { None } else { made.told(self.fleet) };
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
                Err(Trouble::differs(difference.told(text)).advised(unanswered(&step.verb)))
            }
            (Some(wanted), Some(error), _) => {
                let text = format!("{error}, and {wanted} was expected");
                let difference = Difference::new("result", wanted, error.cause.name()).told(text);
                Err(Trouble::differs(difference).advised(error.hint()))
            }
            (Some(wanted), None, timed_out) => {
                let what = if timed_out { "had no answer" } else { "succeeded" };
                let text = format!("it {what}, and {wanted} was expected");
                let difference = Difference::new("result", wanted, what).told(text);
                Err(Trouble::differs(difference).advised(no_error(&step.verb, wanted, timed_out)))
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
        // Whoever an earlier step has a name for is among them, and would be what a wait ends with.
        self.asks(step.host, || Asking::events((self.fleet.session(), &listener.id), "accepted", 0));
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
                let difference = Difference::new("result", wanted, "accepted").told(text);
                Err(Trouble::differs(difference).advised(no_error(&step.verb, wanted, false)))
            }
            (None, _) => {
                let from = peer.map(|peer| format!(" from {peer}")).unwrap_or_default();
                let text = format!("no connection{from} came within {within:?}");
                let wanted = format!("a connection{from}");
                let difference = Difference::new("event", wanted, "nobody came").told(text);
                Err(Trouble::differs(difference).advised(unanswered(&step.verb)))
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

/// A failure with what its difference most often comes from, where it says nothing of that yet.
fn advised(step: &Step, failure: Failure) -> Failure {
    match &failure.difference {
        Some(difference) if failure.advice.is_empty() => {
            let advice = different(step, difference);
            failure.advised(advice)
        }
        _ => failure,
    }
}

/// Whether an event is about a socket.
pub(super) fn is_of(record: &EventRecord, id: &SocketId) -> bool {
    record.socket.as_ref().is_some_and(|(socket, _)| socket == id)
}

/// The beginning of what was got, for messages.
pub(super) fn shown(bytes: &bytes::Bytes) -> String {
    if bytes.is_empty() { "nothing".to_owned() } else { quoted(bytes) }
}
