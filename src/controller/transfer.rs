//! The step that moves bytes through streams of the controller's own: into one end of a connection, and out of the other.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout_at};

use crate::client::{ClientError, FarStream};
use crate::controller::bindings::{Bindings, Socket};
use crate::controller::step::{Done, Runner, Trouble, USUAL, is_of};
use crate::exercise::advice::{explained, no_error, unanswered};
use crate::exercise::expectation::bytes_text;
use crate::exercise::outcome::Difference;
use crate::exercise::plan::{Payload, Step};
use crate::model::errno::Errno;
use crate::model::event::{Event, EventRecord};
use crate::model::operation::Target;
use crate::wire::asking::Asking;

/// How long an agent has to get a connection back that a stream has left.
const GIVING_BACK: Duration = Duration::from_secs(2);

/// Why bytes did not come out as they went in.
enum Broken {
    /// The stream of this socket is.
    Stream(String, io::Error),
    /// Others came out, or not all of them.
    Differs(Difference),
}

impl Runner<'_> {
    pub(super) async fn transfer(
        &self,
        step: &Step,
        bindings: &Bindings<'_>,
        names: (&str, &str),
        (payload, end): (&Payload, bool),
    ) -> Done {
        let socket = |name: &str| bindings.socket(name).map_err(Trouble::unable);
        let (from, to) = (socket(names.0)?, socket(names.1)?);
        let payload = bindings.bytes(payload).map_err(Trouble::unable)?;
        let (length, seen) = (payload.len(), Cell::new(0));
        let within = step.within.unwrap_or(USUAL);
        let through = self.through(names, (&from, &to), (payload, end), &seen);
        let moved = timeout_at(Instant::now() + within, through).await;
        // The next step may use them: then the streams must be gone.
        let evidence = self.given_back(&from).await;
        self.given_back(&to).await;
        match (moved, step.error.as_deref()) {
            (Ok(Ok(())), None) => Ok(evidence.map(|seq| (from.host, seq))),
            (Err(_), Some("timeout")) => Ok(None),
            (Ok(Ok(())), Some(wanted)) => {
                let text = format!("it succeeded, and {wanted} was expected");
                let difference = Difference::new("result", wanted, "succeeded").told(text);
                Err(Trouble::differs(difference).advised(no_error(&step.verb, wanted, false)))
            }
            (Err(_), wanted) => {
                let seen = format!("{} of {}", seen.get(), bytes_text(length as u64));
                let text = format!("{seen} came out of {} within {within:?}", names.1);
                let difference = Difference::new("result", wanted.unwrap_or("success"), seen).told(text);
                Err(Trouble::differs(difference).advised(unanswered(&step.verb)))
            }
            (Ok(Err(broken)), wanted) => broken.judged(wanted),
        }
    }

    /// Moves bytes through streams of both sockets, and counts those that have come out.
    async fn through(
        &self,
        (from_name, to_name): (&str, &str),
        (from, to): (&Socket, &Socket),
        (payload, end): (Bytes, bool),
        seen: &Cell<usize>,
    ) -> Result<(), Broken> {
        let at = |name: &str| {
            let name = name.to_owned();
            move |error| Broken::Stream(name, error)
        };
        // Where they come out is first: nothing is to be read there before.
        let mut outlet = self.attach(to).await.map_err(at(to_name))?;
        let mut inlet = self.attach(from).await.map_err(at(from_name))?;
        self.asks(from.host, || Asking::transfer(&self.target(from), Some(&payload), end));
        let mut rest = payload.clone();
        let write = async {
            inlet.write_bytes(&mut rest).await.map_err(at(from_name))?;
            let sent = if end { inlet.shutdown().await } else { inlet.flush().await };
            sent.map_err(at(from_name))
        };
        let read = async {
            while seen.get() < payload.len() || end {
                let Some(piece) = outlet.read_bytes().await.map_err(at(to_name))? else { break };
                same(&payload[seen.get()..], &piece, seen.get()).map_err(Broken::Differs)?;
                seen.set(seen.get() + piece.len());
            }
            Ok(())
        };
        try_join(write, read).await?;
        if seen.get() < payload.len() {
            let [got, all] = [seen.get(), payload.len()].map(|length| bytes_text(length as u64));
            let text = format!("the stream of {to_name} ended after {got} of {all}");
            return Err(Broken::Differs(Difference::new("bytes", all, got).told(text)));
        }
        Ok(())
    }

    async fn attach(&self, socket: &Socket) -> io::Result<FarStream> {
        let target = self.target(socket);
        self.asks(socket.host, || Asking::transfer(&target, None, false));
        self.member(socket.host).client.attach(&target).await
    }

    fn target(&self, socket: &Socket) -> Target {
        Target { session: self.fleet.session().clone(), socket: socket.id.clone(), uid: None }
    }

    /// Waits until no stream has a socket any more; answers the event that says so, where one had it.
    async fn given_back(&self, socket: &Socket) -> Option<u64> {
        self.collector.catch_up(self.fleet, [socket.host], None).await;
        let last = |records: &[Arc<EventRecord>]| {
            let of_socket = records.iter().rev().filter(|record| is_of(record, &socket.id));
            let mut of_stream = of_socket
                .filter(|record| matches!(record.event, Event::Attached | Event::Detached { .. } | Event::Closed(_)));
            match of_stream.next() {
                Some(record) if matches!(record.event, Event::Attached) => None,
                last => Some(last.map(|record| record.seq)),
            }
        };
        self.collector.find(socket.host, Instant::now() + GIVING_BACK, last).await.flatten()
    }
}

/// Whether bytes that came are those that were sent, from that place on.
fn same(sent: &[u8], came: &[u8], offset: usize) -> Result<(), Difference> {
    if let Some(at) = sent.iter().zip(came).position(|(sent, came)| sent != came) {
        let [wanted, got] = [sent[at], came[at]].map(|byte| format!("0x{byte:02x}"));
        let text = format!("byte {} that came out is {got}, and {wanted} went in", offset + at);
        return Err(Difference::new("bytes", wanted, got).told(text));
    }
    if came.len() > sent.len() {
        let [wanted, got] = [sent, came].map(|bytes| bytes_text((offset + bytes.len()) as u64));
        let text = format!("more came out than went in: {got}, not {wanted}");
        return Err(Difference::new("bytes", wanted, got).told(text));
    }
    Ok(())
}

impl Broken {
    /// What this means where a step wants that error, or none.
    fn judged(self, wanted: Option<&str>) -> Done {
        let (name, error) = match self {
            Self::Differs(difference) => return Err(Trouble::differs(difference)),
            Self::Stream(name, error) => (name, error),
        };
        if let Some(refused) = error.get_ref().and_then(|inner| inner.downcast_ref::<ClientError>()) {
            return Err(refused.clone().into());
        }
        let cause = error.raw_os_error().map(|number| Errno::new(number).name().to_owned());
        if cause.is_some() && cause.as_deref() == wanted {
            return Ok(None);
        }
        let cause = cause.unwrap_or_else(|| error.to_string());
        let text = match wanted {
            Some(wanted) => format!("the stream of {name} broke: {error}, and {wanted} was expected"),
            None => format!("the stream of {name} broke: {error}"),
        };
        let advice = explained(&cause);
        Err(Trouble::differs(Difference::new("result", wanted.unwrap_or("success"), cause).told(text)).advised(advice))
    }
}
