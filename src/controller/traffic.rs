//! The steps that make sockets and move bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use crate::controller::bindings::Bindings;
use crate::controller::step::{Done, Runner, Trouble, shown};
use crate::exercise::expectation::{TakenCheck, bytes_text};
use crate::exercise::matching::Expression;
use crate::exercise::outcome::Difference;
use crate::exercise::plan::{Marks, Payload, Role, SocketPlan, Step, Wanted};
use crate::exercise::template::Template;
use crate::model::address::Transport;
use crate::model::delivery::{Delivery, Slices};
use crate::model::id::SocketId;
use crate::model::limits::{Defaults, READ_SIZE};
use crate::model::operation::{
    Action, CallOptions, OutgoingDatagram, SendFlags, SocketAction, Take, Taken, WriteFlags, Yield,
};
use crate::model::socket::Conduct;
use crate::model::spec::{Kind, SocketSpec, TcpRole, TcpSpec, UdpSpec};

/// The most bytes in which a regular expression is looked for.
const MATCHED_BYTES: usize = 1 << 20;

impl Runner<'_> {
    pub(super) async fn create(&self, step: &Step, plan: &SocketPlan, bindings: &Bindings<'_>) -> Done {
        let id = SocketId::parse_new(&plan.name).map_err(|problem| Trouble::unable(problem.to_string()))?;
        let spec = spec(plan, bindings).map_err(Trouble::unable)?;
        let create = Action::CreateSocket {
            session: self.fleet.session().clone(),
            socket: Some(id.clone()),
            spec: Box::new(spec),
        };
        let outcome = self.call(step, &create, &self.options(step)).await?;
        if let Yield::Socket(view, _) = &outcome.yielded {
            // A socket that could not connect is there all the same.
            bindings.bind(&plan.name, step.host, id, (view.status.local.clone(), view.status.remote.clone()));
        }
        self.judge(step, &outcome)
    }

    pub(super) async fn write(
        &self,
        step: &Step,
        bindings: &Bindings<'_>,
        name: &str,
        (payload, (flags, slices, expected_offset)): (&Payload, (WriteFlags, Option<Slices>, Option<u64>)),
        written: Option<u32>,
    ) -> Done {
        let socket = bindings.socket(name).map_err(Trouble::unable)?;
        let payload = bindings.bytes(payload).map_err(Trouble::unable)?;
        if payload.is_empty() {
            return Err(Trouble::unable("there is nothing to write"));
        }
        let length = payload.len();
        let action = self.on(&socket.id, SocketAction::Write { payload, expected_offset, flags, slices });
        let outcome = self.call(step, &action, &self.options(step)).await?;
        let Some(wanted) = written else { return self.judge(step, &outcome) };
        let handed = match outcome.yielded {
            Yield::Written { size, .. } => size,
            _ => 0,
        };
        if handed == wanted {
            return Ok(None);
        }
        let text = format!("{} of {length} were handed to the kernel, not {wanted}", bytes_text(handed.into()));
        let difference = Difference::new("bytes written", bytes_text(wanted.into()), bytes_text(handed.into()));
        Err(Trouble::differs(difference.told(text)))
    }

    pub(super) async fn send(
        &self,
        step: &Step,
        bindings: &Bindings<'_>,
        name: &str,
        (to, reply_to, marks): (Option<&Template>, Option<&str>, &Marks),
        (payload, count, (interval, flags)): (&Payload, u16, (Duration, SendFlags)),
    ) -> Done {
        let socket = bindings.socket(name).map_err(Trouble::unable)?;
        let destination = to.map(|to| bindings.address(to)).transpose().map_err(Trouble::unable)?;
        let reply_to_event = match reply_to {
            None => None,
            Some(message) => Some(bindings.message_event(message).ok_or_else(|| {
                Trouble::unable(format!(
                    "`{message}` cannot be answered: with `delivery: pull` the agent keeps no event of it"
                ))
            })?),
        };
        let payload = bindings.bytes(payload).map_err(Trouble::unable)?;
        let source =
            marks.source.as_ref().map(|source| bindings.literal(source)).transpose().map_err(Trouble::unable)?;
        let Marks { hop_limit, traffic_class, .. } = *marks;
        let datagram = OutgoingDatagram { destination, payload, reply_to_event, hop_limit, traffic_class, source };
        let action =
            self.on(&socket.id, SocketAction::Send { datagrams: vec![datagram; count.into()], interval, flags });
        let outcome = self.call(step, &action, &self.options(step)).await?;
        if let Yield::Sent { socket: view, .. } = &outcome.yielded {
            // The first send gives a socket its local address.
            bindings.learn(name, view);
        }
        self.judge(step, &outcome)
    }

    pub(super) async fn receive(
        &self,
        step: &Step,
        bindings: &Bindings<'_>,
        name: &str,
        transport: Transport,
        wanted: &Wanted,
        message: Option<&str>,
    ) -> Done {
        let socket = bindings.socket(name).map_err(Trouble::unable)?;
        let check = TakenCheck {
            payload: bindings.payload(&wanted.payload).map_err(Trouble::unable)?,
            size: wanted.size,
            offset: wanted.offset,
            end: wanted.end,
            truncated: wanted.truncated,
            peer: bindings.optional_text(wanted.peer.as_ref()).map_err(Trouble::unable)?,
            hop_limit: wanted.hop_limit,
            traffic_class: wanted.traffic_class,
            receive_time: wanted.receive_time,
        };
        let mut options = self.options(step);
        if let Some(quiet) = wanted.quiet {
            options.timeout = Some(quiet);
            return self.receive_nothing(step, &socket.id, &options).await;
        }
        let deadline = options.timeout.map(|timeout| Instant::now() + timeout);
        let pieces = transport == Transport::Tcp && wanted.at_least.is_none() && wanted.at_most.is_none();
        let taken = match whole(&check).filter(|_| pieces) {
            Some(whole) => self.take_all(step, &socket.id, whole, options.clone()).await?,
            None => {
                let receive =
                    SocketAction::Receive(Take { max_bytes: wanted.at_most, min_bytes: wanted.at_least, peek: false });
                self.take(step, &socket.id, receive, &options).await?
            }
        };
        let Some(mut taken) = taken else { return Ok(None) };
        check.judge(&taken).map_err(|difference| Trouble::differs(counted(difference, 1, wanted.count)))?;
        for number in 2..=wanted.count {
            options.timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let receive = SocketAction::Receive(Take { max_bytes: wanted.at_most, min_bytes: None, peek: false });
            let next = self
                .take(step, &socket.id, receive, &options)
                .await
                .map_err(|trouble| trouble.because(&format!("of {} datagrams, {} came", wanted.count, number - 1)))?;
            let Some(next) = next else { return Ok(None) };
            check.judge(&next).map_err(|difference| Trouble::differs(counted(difference, number, wanted.count)))?;
            taken = next;
        }
        let evidence = taken.event_seq.map(|seq| (step.host, seq));
        if let Some(message) = message {
            bindings.bind_message(message, taken);
        }
        Ok(evidence)
    }

    /// Makes sure that nothing comes.
    async fn receive_nothing(&self, step: &Step, id: &SocketId, options: &CallOptions) -> Done {
        let action = self.on(id, SocketAction::Receive(Take::default()));
        let outcome = self.call(step, &action, options).await?;
        match outcome.yielded {
            Yield::Taken(_, taken) => {
                let got = if taken.end { "the end of the stream".to_owned() } else { shown(&taken.payload) };
                let text = format!("nothing was expected, and {got} came");
                Err(Trouble::differs(Difference::new("payload", "nothing", got).told(text)))
            }
            _ if outcome.report.timed_out => Ok(None),
            _ => self.judge(step, &outcome),
        }
    }

    /// Takes one payload; nothing when the step wanted just the error that came.
    async fn take(
        &self,
        step: &Step,
        id: &SocketId,
        receive: SocketAction,
        options: &CallOptions,
    ) -> Result<Option<Taken>, Trouble> {
        let outcome = self.call(step, &self.on(id, receive), options).await?;
        self.judge(step, &outcome)?;
        match outcome.yielded {
            Yield::Taken(_, taken) => Ok(Some(taken)),
            _ => Ok(None),
        }
    }

    /// Takes bytes of a stream until they are whole, in as many pieces as they come in.
    async fn take_all(
        &self,
        step: &Step,
        id: &SocketId,
        whole: Whole<'_>,
        mut options: CallOptions,
    ) -> Result<Option<Taken>, Trouble> {
        let deadline = options.timeout.map(|timeout| Instant::now() + timeout);
        let mut all = Taken::default();
        let mut bytes = BytesMut::new();
        while let Some(missing) = whole.missing(&bytes) {
            options.timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let receive = SocketAction::Receive(Take { max_bytes: Some(missing), ..Take::default() });
            let piece = match self.take(step, id, receive, &options).await {
                Ok(Some(piece)) if !piece.end => piece,
                // The end, an error or silence: with something in hand, that is what is judged.
                Ok(Some(end)) if bytes.is_empty() => return Ok(Some(end)),
                Ok(None) => return Ok(None),
                Err(trouble) if bytes.is_empty() => return Err(trouble),
                Ok(Some(_)) | Err(_) => break,
            };
            if bytes.is_empty() {
                all.offset = piece.offset;
            }
            all.event_seq = piece.event_seq;
            bytes.extend_from_slice(&piece.payload);
        }
        all.size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        all.payload = bytes.freeze();
        Ok(Some(all))
    }
}

/// A difference of one of several datagrams.
fn counted(difference: Difference, number: u32, of: u32) -> Difference {
    if of == 1 {
        return difference;
    }
    let text = format!("datagram {number} of {of}: {difference}");
    difference.told(text)
}

/// When the bytes of a stream, which has no messages, are all that a step is about.
enum Whole<'a> {
    /// When there are so many.
    Length(usize),
    /// When this is found in them.
    Matches(&'a Expression),
}

impl Whole<'_> {
    /// How many bytes more are asked for at most; nothing when these are all.
    fn missing(&self, bytes: &[u8]) -> Option<u32> {
        let length = match self {
            Self::Length(length) => *length,
            Self::Matches(expression) if !bytes.is_empty() && expression.matches(bytes) => return None,
            Self::Matches(_) => MATCHED_BYTES,
        };
        let missing = length.checked_sub(bytes.len()).filter(|missing| *missing > 0)?;
        Some(u32::try_from(missing).unwrap_or(READ_SIZE).min(READ_SIZE))
    }
}

/// What a check says about it: the length of its bytes, its size, or what they match.
fn whole(check: &TakenCheck) -> Option<Whole<'_>> {
    let length = check.payload.bytes.as_ref().map(Bytes::len).or_else(|| usize::try_from(check.size?).ok());
    match (length, &check.payload.matches) {
        (Some(length), _) if length > 0 => Some(Whole::Length(length)),
        (None, Some(expression)) => Some(Whole::Matches(expression)),
        _ => None,
    }
}

/// What an agent is asked for.
fn spec(plan: &SocketPlan, bindings: &Bindings<'_>) -> Result<SocketSpec, String> {
    let kind = match plan.transport {
        Transport::Tcp => Kind::Tcp(TcpSpec {
            role: match &plan.role {
                Role::Idle => TcpRole::Idle,
                Role::Listen(address) => TcpRole::Listen(Some(bindings.address(address)?)),
                Role::Connect(address) => TcpRole::Connect(bindings.address(address)?),
            },
            backlog: plan.backlog.unwrap_or_else(|| Defaults::default().backlog),
            max_connections: plan.max_connections,
            accept: plan.accept,
            max_accepts: plan.max_accepts,
            accept_delay: plan.accept_delay,
            attempts: plan.attempts,
            peers: bindings.peers(plan.deny.as_ref(), plan.allow.as_ref())?,
        }),
        Transport::Udp => Kind::Udp(UdpSpec {
            connect: match &plan.role {
                Role::Connect(address) => Some(bindings.address(address)?),
                Role::Idle | Role::Listen(_) => None,
            },
            groups: plan.membership.iter().map(|one| bindings.membership(one)).collect::<Result<_, _>>()?,
            probes: plan.probes,
        }),
    };
    Ok(SocketSpec {
        kind,
        family: plan.family,
        bind_retry: plan.bind_retry,
        bind: plan.local.as_ref().map(|local| bindings.address(local)).transpose()?,
        conduct: Conduct {
            delivery: Delivery::usual(READ_SIZE).changed(plan.delivery),
            direction: plan.direction,
            half_open: plan.half_open,
            idle_timeout: plan.idle_timeout,
            read_delay: plan.read_delay,
            close_delay: plan.close_delay,
            tell_states: plan.tell_states,
            watermarks: plan.watermarks,
            write_timeout: plan.write_timeout,
        },
        verify: plan.verify.clone().map(Arc::new),
        options: plan.options.clone(),
        labels: plan.labels.clone(),
    })
}
