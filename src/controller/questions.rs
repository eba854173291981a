//! Steps that ask an agent something, and change no socket.

use crate::client::{ClientError, Lookup, LookupAnswer};
use crate::controller::bindings::Socket;
use crate::controller::step::{Done, Runner, Trouble, USUAL};
use crate::exercise::advice::{no_error, unanswered};
use crate::exercise::expectation::SocketSeen;
use crate::exercise::outcome::Difference;
use crate::exercise::plan::{Found, Question, Step};
use crate::model::address::Family;
use crate::model::option::SocketOption;
use crate::wire::asking::Asking;

impl Runner<'_> {
    /// What the agent tells of a socket, and of these options of it.
    pub(super) async fn look_at(&self, socket: &Socket, options: &[SocketOption]) -> Result<SocketSeen, ClientError> {
        let (client, session) = (&self.member(socket.host).client, self.fleet.session());
        let (view, info, memory) = client.socket(session, &socket.id).await?;
        let options = match options {
            [] => Vec::new(),
            some => client.socket_options(session, &socket.id, some.iter().map(|option| option.spec)).await?,
        };
        Ok(SocketSeen { view, info, memory, options })
    }

    pub(super) async fn resolve(&self, step: &Step, question: &Question, found: &Found) -> Done {
        let lookup = match question {
            Question::Host(name) => Lookup::Host(name.clone()),
            Question::Service(name, transport) => Lookup::Service(name.clone(), *transport),
            Question::Port(port, transport) => Lookup::Port(*port, *transport),
            Question::Address(ip) => Lookup::Address(*ip),
        };
        let within = Some(step.within.unwrap_or(USUAL));
        self.asks(step.host, || Asking::resolve(&lookup.request(within)));
        let answer = self.member(step.host).client.look_up(&lookup, within).await?;
        match (step.error.as_deref(), &answer.error) {
            (None, Some(error)) => return Err(Trouble::kernel(error)),
            (Some(wanted), Some(error)) if error.cause.name() == wanted => return Ok(None),
            (Some(wanted), got) => {
                let advice = match got {
                    Some(error) => error.hint().to_owned(),
                    None => no_error(&step.verb, wanted, answer.timed_out),
                };
                let name = got.as_ref().map_or_else(|| "success".to_owned(), |error| error.cause.name());
                let got = got.as_ref().map_or_else(|| "an answer came".to_owned(), ToString::to_string);
                let text = format!("{got}, and {wanted} was expected");
                return Err(Trouble::differs(Difference::new("result", wanted, name).told(text)).advised(advice));
            }
            (None, None) => {}
        }
        if answer.timed_out {
            let difference = Difference::new("result", "an answer", "no answer").told("the resolver did not answer");
            return Err(Trouble::differs(difference).advised(unanswered(&step.verb)));
        }
        judge_found(found, &answer).map_err(Trouble::differs)?;
        Ok(None)
    }

    pub(super) async fn parse(&self, step: &Step, text: &str, is: Option<Family>) -> Done {
        self.asks(step.host, || Asking::parse_address(text));
        let parsed = self.member(step.host).client.parse_address(text).await?;
        let word = |family: Option<Family>| {
            family.map_or_else(|| "no IP address".to_owned(), |family| format!("an {family} address"))
        };
        if parsed.family == is {
            return Ok(None);
        }
        Err(Trouble::differs(Difference::new(&format!("`{text}`"), word(is), word(parsed.family))))
    }
}

fn judge_found(found: &Found, answer: &LookupAnswer) -> Result<(), Difference> {
    if let Some(port) = found.port
        && answer.port != Some(port)
    {
        let got = answer.port.map_or_else(|| "none".to_owned(), |port| port.to_string());
        return Err(Difference::new("the port", port.to_string(), got));
    }
    if let Some(service) = &found.service
        && answer.service != *service
    {
        return Err(Difference::new("the service", format!("`{service}`"), format!("`{}`", answer.service)));
    }
    match &found.address {
        Some(address) if !answer.addresses.contains(address) => {
            let got = answer.addresses.join(", ");
            let text = format!("the addresses are {got}, and {address} is not among them");
            Err(Difference::new("the addresses", address, got).told(text))
        }
        _ => Ok(()),
    }
}
