//! The steps that wait until something is true of a socket, or make sure that nothing happens to it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, interval};

use crate::controller::bindings::{Bindings, Socket};
use crate::controller::step::{Done, Runner, Trouble, USUAL, is_of};
use crate::exercise::advice::{missing, not_quiet, too_few};
use crate::exercise::expectation::{EventCheck, FactsCheck};
use crate::exercise::narration::describe;
use crate::exercise::outcome::Difference;
use crate::exercise::plan::{EventWanted, Facts, Step};
use crate::model::event::{Event, EventRecord};
use crate::wire::asking::Asking;

/// How often a fact is looked at again that no event announces.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Runner<'_> {
    pub(super) async fn expect_event(
        &self,
        step: &Step,
        bindings: &Bindings<'_>,
        socket: &Socket,
        wanted: &EventWanted,
    ) -> Done {
        let check = EventCheck {
            kind: wanted.kind,
            payload: bindings.payload(&wanted.payload).map_err(Trouble::unable)?,
            size: wanted.size,
            offset: wanted.offset,
            peer: bindings.optional_text(wanted.peer.as_ref()).map_err(Trouble::unable)?,
            reason: wanted.reason,
            errno: wanted.errno.clone(),
            option: wanted.option.clone(),
        };
        let after = bindings.matched(socket, wanted.kind);
        let within = step.within.unwrap_or(USUAL);
        match wanted.count {
            1 => self.asks_event(socket, wanted.kind, after, within),
            _ => self.asks(socket.host, || Asking::events((self.fleet.session(), &socket.id), wanted.kind, after)),
        }
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
        let advice = match &nearly {
            _ if came > 0 => too_few(wanted.kind, after > 0, closed),
            // What is different says more.
            Some(_) => "",
            None => missing(wanted.kind, last.as_ref().map(|last| &last.event), closed),
        };
        let difference = match nearly {
            Some(nearly) => nearly,
            None => {
                let seen = last.as_ref().map_or_else(|| "nothing".to_owned(), |last| describe(&last.event));
                Difference::new("event", wanted.kind, seen)
            }
        };
        Err(Trouble::differs(difference.told(message)).advised(advice))
    }

    /// Makes sure that an event which has come so often does not come again.
    async fn expect_no_more(
        &self,
        socket: &Socket,
        check: &EventCheck,
        (after, count): (u64, usize),
        quiet: Duration,
    ) -> Result<(), Trouble> {
        self.asks(socket.host, || Asking::events((self.fleet.session(), &socket.id), check.kind, after));
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
                let difference = Difference::new("event", wanted, what).told(text);
                Err(Trouble::differs(difference).advised(not_quiet(&record.event, false)))
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

    pub(super) async fn expect_facts(
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
        self.asks(socket.host, || Asking::socket(self.fleet.session(), &socket.id));
        loop {
            again.tick().await;
            let seen = self.look_at(socket, &facts.options).await?;
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

    pub(super) async fn expect_silence(&self, socket: &Socket, length: Duration, kind: Option<&'static str>) -> Done {
        self.asks(socket.host, || Asking::event((self.fleet.session(), &socket.id), kind, 0, length, true));
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
                let difference = Difference::new("event", format!("silence for {length:?}"), what).told(text);
                Err(Trouble::differs(difference).advised(not_quiet(&record.event, kind.is_none())))
            }
        }
    }
}
