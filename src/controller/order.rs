//! Events of several hosts in an order: waited for, and then compared.

use tokio::time::Instant;

use crate::controller::bindings::Bindings;
use crate::controller::step::{Done, Runner, Trouble, USUAL, is_of};
use crate::exercise::advice::{missing, too_few};
use crate::exercise::course::OrderedEvent;
use crate::exercise::instant::milliseconds;
use crate::exercise::outcome::{Difference, Failure};
use crate::exercise::plan::Step;
use crate::exercise::timeline::precedence::{Precedence, Relations};
use crate::model::event::EventRecord;
use crate::wire::asking::Asking;

impl Runner<'_> {
    pub(super) async fn order(&self, step: &Step, bindings: &Bindings<'_>, events: &[OrderedEvent]) -> Done {
        let within = step.within.unwrap_or(USUAL);
        let deadline = Instant::now() + within;
        let mut places = Vec::with_capacity(events.len());
        for event in events {
            let socket = bindings.socket(&event.socket).map_err(Trouble::unable)?;
            match event.count {
                1 => self.asks_event(&socket, event.kind, 0, within),
                _ => self.asks(event.host, || Asking::events((self.fleet.session(), &socket.id), event.kind, 0)),
            }
            let mut came = 0;
            let found = self
                .collector
                .find_or_rule_out(self.fleet, event.host, deadline, |records| {
                    let wanted = |record: &EventRecord| is_of(record, &socket.id) && record.event.kind() == event.kind;
                    let mut places = records.iter().enumerate().filter(|(_, record)| wanted(record));
                    came = places.clone().count();
                    places.nth(event.count - 1).map(|(at, record)| (at, record.seq))
                })
                .await
                .map_err(Trouble::unable)?;
            let Some((at, seq)) = found else {
                let text = match came {
                    0 => format!("{event} did not come within {within:?}"),
                    came => format!("{event} did not come within {within:?}: it came {came} times"),
                };
                let seen = if came == 0 { "nothing".to_owned() } else { format!("{came} times") };
                let difference = Difference::new("event", event.to_string(), seen).told(text);
                let advice = match came {
                    0 => missing(event.kind, None, false),
                    _ => too_few(event.kind, false, false),
                };
                return Err(Trouble::differs(difference).advised(advice));
            };
            places.push(((event.host, at), seq));
        }
        // What led from one to the other may not have been told by all yet.
        self.collector.catch_up(self.fleet, 0..self.fleet.members().len(), None).await;
        let told = self.collector.told();
        let relations = Relations::of(&told);
        for (events, places) in events.windows(2).zip(places.windows(2)) {
            if let ([one, other], [(first, _), (second, _)]) = (events, places) {
                judge((one, other), relations.precedence(*first, *second))?;
            }
        }
        Ok(places.last().map(|((host, _), seq)| (*host, *seq)))
    }
}

fn judge((one, other): (&OrderedEvent, &OrderedEvent), precedence: Precedence) -> Result<(), Trouble> {
    let wanted = format!("{one} before {other}");
    let how = match precedence {
        Precedence::Certain | Precedence::Before { .. } => return Ok(()),
        Precedence::CertainlyAfter => String::new(),
        Precedence::After { by, bound } => format!(", by {} ±{}", milliseconds(by), milliseconds(bound)),
        Precedence::Unordered { by, bound } => {
            let text = format!(
                "undecided: {one} and {other} are {} apart, and the clocks are known within {}",
                milliseconds(by.saturating_abs()),
                milliseconds(bound)
            );
            let difference = Difference::new("order", wanted, "nearer than the clocks are known").told(text);
            let advice = "let one wait for what the other leads to, or let more time go by: then there is an order";
            return Err(Trouble::Unable(Box::new(Failure::differs(difference).advised(advice))));
        }
    };
    let text = format!("{other} came before {one}{how}");
    Err(Trouble::differs(Difference::new("order", wanted, "the other way round").told(text)))
}
