//! Events in a few plain words, for people who read along.

use bytes::Bytes;

use crate::exercise::expectation::{bytes_text, quoted};
use crate::exercise::plan::{Expectation, Facts, Question, Verb};
use crate::model::delivery::ReadPause;
use crate::model::event::{AcceptPause, DropReason, Event, SendStage};
use crate::model::host::InterfaceChange;
use crate::model::operation::ShutdownHow;
use crate::model::socket::CloseReason;
use crate::model::verify::PatternDifference;

/// What happened, without whose socket it was.
pub fn describe(event: &Event) -> String {
    match event {
        Event::Unknown { kind, value: None } => {
            format!("`{kind}`, of which this version knows nothing: the agent is newer")
        }
        Event::Unknown { kind, value: Some((field, number)) } => {
            format!("`{kind}`, in which `{field}` is {number}, which this version does not know: the agent is newer")
        }
        Event::Created { remote: None, transport, .. } => format!("{transport} socket made"),
        Event::Created { remote: Some(remote), .. } => format!("connection of {remote} taken"),
        Event::Bound { local } => format!("bound to {local}"),
        Event::Listening { local, backlog } => format!("listens on {local}, backlog {backlog}"),
        Event::LookedUp { host, addresses, error: None } => format!("{host} is {}", addresses.join(", ")),
        Event::PeerReset { error } => format!("the peer has reset the connection (RST): {}", error.cause.name()),
        Event::LookedUp { error: Some(error), .. }
        | Event::AcceptFailed { error }
        | Event::Failed { error }
        | Event::ConnectFailed { error: Some(error), .. } => error.to_string(),
        Event::ConnectStarted { remote } => format!("connects to {remote}"),
        Event::Connected { local, remote, self_connected } => {
            let oddity = if *self_connected { ", which is itself" } else { "" };
            format!("connected from {local} to {remote}{oddity}")
        }
        Event::Disconnected { .. } => "disconnected".to_owned(),
        Event::ConnectFailed { remote, error: None, .. } => format!("no answer from {remote}"),
        Event::Accepted { id, remote, .. } => format!("accepted {id} from {remote}"),
        Event::ConnectionDropped { remote, reason, .. } => {
            let from = remote.as_ref().map(|remote| format!(" of {remote}")).unwrap_or_default();
            let why = match reason {
                DropReason::TooMany => ": there are enough",
                DropReason::Denied => ": it may not come in",
                DropReason::Gone => "",
                DropReason::Policy => ": the agent's policy lets nobody in from there",
            };
            format!("dropped a connection{from}{why}")
        }
        Event::AcceptPaused { reason: AcceptPause::SocketLimit, .. } => "accepts no more: too many sockets".to_owned(),
        Event::AcceptPaused { reason: AcceptPause::LogFull, .. } => {
            "accepting paused: the log has no room for what nobody has taken".to_owned()
        }
        Event::AcceptPaused { reason: AcceptPause::AcceptLimit, .. } => {
            "accepts no more: as many as it was told to".to_owned()
        }
        Event::AcceptPaused { reason: AcceptPause::DescriptorLimit | AcceptPause::OutOfResources, .. } => {
            "accepts no more for now: out of resources".to_owned()
        }
        Event::Received { offset, payload } => {
            format!("received {} at {offset}: {}", bytes_text(payload.len() as u64), quoted(payload))
        }
        Event::UrgentReceived { offset, byte: Some(byte) } => {
            format!("received an urgent byte at {offset}: {}", quoted(&Bytes::copy_from_slice(&[*byte])))
        }
        Event::UrgentReceived { offset, byte: None } => format!("came to the urgent byte at {offset}"),
        Event::PatternBroken(PatternDifference { offset, expected, actual }) => {
            let byte = |byte: &Option<u8>| byte.map_or_else(|| "nothing".to_owned(), |byte| format!("0x{byte:02x}"));
            format!("received something else than the pattern at {offset}: {}, not {}", byte(actual), byte(expected))
        }
        Event::UrgentLost { offset, size } => {
            format!("the kernel threw away {} at {offset}, urgent and overtaken", bytes_text(u64::from(*size)))
        }
        Event::DatagramReceived(datagram) => {
            let source = datagram.source.as_ref().map(|source| format!(" from {source}")).unwrap_or_default();
            let cut = if datagram.truncated() { ", truncated" } else { "" };
            let size = bytes_text(datagram.size.into());
            format!("received a datagram of {size}{source}{cut}: {}", quoted(&datagram.payload))
        }
        Event::DatagramsDropped { count, .. } => {
            format!("the kernel dropped {count} datagrams, the receive buffer being full")
        }
        Event::IcmpReceived(message) => {
            let offender = message.offender_text().unwrap_or_default();
            format!("{offender} says by ICMP, type {} code {}: {}", message.kind, message.code, message.error)
        }
        Event::Written { size, asked_size, .. } if size < asked_size => {
            format!("wrote {} of {}", bytes_text((*size).into()), bytes_text((*asked_size).into()))
        }
        Event::Written { size, .. } => format!("wrote {}", bytes_text((*size).into())),
        Event::Sent { destination, size, .. } => {
            let to = destination.as_ref().map(|to| format!(" to {to}")).unwrap_or_default();
            format!("sent a datagram of {}{to}", bytes_text((*size).into()))
        }
        Event::SendTimestamped { stage: SendStage::Scheduled, number, .. } => {
            format!("datagram {number} came into the queue of its interface")
        }
        Event::SendTimestamped { stage: SendStage::Sent, number, .. } => format!("datagram {number} left"),
        Event::WriteBlocked { pending_bytes } => {
            format!("writes wait: {} beyond the kernel's buffer", bytes_text((*pending_bytes).into()))
        }
        Event::Writable => "has room again".to_owned(),
        Event::ShutDown { how: ShutdownHow::Send } => "ended its sending direction (FIN)".to_owned(),
        Event::ShutDown { how: ShutdownHow::Receive } => "ended its receiving direction".to_owned(),
        Event::ShutDown { how: ShutdownHow::Both } => "ended both directions (FIN)".to_owned(),
        Event::PeerClosed { bytes_read } => format!("the peer has ended (FIN) after {}", bytes_text(*bytes_read)),
        Event::PeerGone { error: None } => "the peer has ended (FIN), unread".to_owned(),
        Event::PeerGone { error: Some(error) } => format!("the peer has gone, unread: {error}"),
        Event::TcpStateChanged { before: Some(before), state } => {
            format!("TCP state {} became {}", before.name(), state.name())
        }
        Event::TcpStateChanged { before: None, state } => format!("TCP state is {}", state.name()),
        Event::IdleTimedOut { idle } => format!("idle for {} ms", idle.as_millis()),
        Event::ReadPaused { reason: ReadPause::Asked } => "reading paused".to_owned(),
        Event::ReadPaused { reason: ReadPause::Credit } => "reading paused: its credit is used up".to_owned(),
        Event::ReadPaused { reason: ReadPause::LogFull } => {
            "reading paused: the log has no room for what nobody has taken".to_owned()
        }
        Event::ReadResumed => "reading goes on".to_owned(),
        Event::OptionSet(result) => {
            let effective = result.effective.as_ref().map(|value| format!(" to {value}")).unwrap_or_default();
            format!("{} set{effective}", result.spec.name)
        }
        Event::GroupJoined(membership) => format!("joined {membership}"),
        Event::GroupLeft(membership) => format!("left {membership}"),
        Event::SourceBlocked(membership) => format!("blocked {membership}"),
        Event::SourceUnblocked(membership) => format!("unblocked {membership}"),
        Event::SourceFilterSet(filter) => format!("receives of {filter}"),
        Event::Attached => "taken over by a stream".to_owned(),
        Event::Detached { to_client, from_client, lost } => {
            let lost = if *lost > 0 { format!(", {} lost", bytes_text(*lost)) } else { String::new() };
            format!("given back by its stream: {} out, {} in{lost}", bytes_text(*from_client), bytes_text(*to_client))
        }
        Event::Aborted => "reset the connection (RST)".to_owned(),
        Event::Closed(closing) => {
            let unread = match closing.unread_bytes {
                0 => String::new(),
                unread => format!(", with {} unread", bytes_text(unread.into())),
            };
            format!("closed{}{unread}", reason(closing.reason))
        }
        Event::InterfaceChanged { interface, change, mtu } => interface_change(&interface.name, *change, *mtu),
        Event::InterfaceAddressChanged { interface, ip, prefix_length, added } => {
            let has = if *added { "has" } else { "has lost" };
            format!("interface {} {has} {ip}/{prefix_length}", interface.name)
        }
        Event::ClockStepped { ahead_nanos } => {
            format!("the host's clock was set, {} ms ahead", ahead_nanos / 1_000_000)
        }
        Event::AgentDraining { .. } => "the agent is stopping".to_owned(),
        Event::SessionReset { closed_sockets } => format!("session reset, {closed_sockets} sockets closed"),
        Event::LeaseExpiring { left } => format!("the session is not renewed, {:.1} s are left", left.as_secs_f64()),
        Event::LeaseExpired { closed_sockets } => format!("the session has expired, {closed_sockets} sockets closed"),
    }
}

/// What a step has found out that no event tells.
pub fn finding(verb: &Verb) -> Option<String> {
    match verb {
        Verb::Parse { text, is } => {
            let kind = is.map_or_else(|| "no IP address".to_owned(), |family| format!("an {family} address"));
            Some(format!("{text} is {kind}"))
        }
        Verb::Resolve { question, found } => {
            let asked = match question {
                Question::Host(name) => name.clone(),
                Question::Address(address) => address.to_string(),
                Question::Service(name, transport) => format!("{name}/{}", transport.name()),
                Question::Port(port, transport) => format!("port {port}/{}", transport.name()),
            };
            let answers = [found.port.map(|port| format!("port {port}")), found.service.clone(), found.address.clone()];
            let answer = answers.into_iter().flatten().collect::<Vec<_>>().join(", ");
            Some(if answer.is_empty() { format!("{asked} was looked up") } else { format!("{asked} is {answer}") })
        }
        Verb::Expect { socket, expectation } => match &**expectation {
            Expectation::Event(_) => None,
            Expectation::Facts(facts) => Some(format!("{socket}: {}", facts_text(facts))),
            Expectation::Quiet(length, None) => Some(format!("{socket}: silence for {length:?}")),
            Expectation::Quiet(length, Some(kind)) => Some(format!("{socket}: no `{kind}` for {length:?}")),
        },
        Verb::Receive { socket, wanted, .. } => {
            wanted.quiet.map(|length| format!("{socket}: nothing came for {length:?}"))
        }
        Verb::Transfer { socket, to, .. } => Some(format!("what went into {socket} has come out of {to}")),
        _ => None,
    }
}

fn facts_text(facts: &Facts) -> String {
    let mut texts: Vec<String> = Vec::new();
    texts.extend(facts.state.map(|state| state.name().to_owned()));
    texts.extend(facts.tcp_state.map(|state| state.name().to_owned()));
    texts.extend(facts.numbers.iter().map(|(fact, amount)| format!("{} {amount}", fact.name())));
    texts.extend(facts.switches.iter().map(|(fact, is)| format!("{}{}", if *is { "" } else { "not " }, fact.name())));
    texts.extend(facts.tcp_info.iter().chain(&facts.memory).map(|(name, amount)| format!("{name} {amount}")));
    texts.extend(facts.hash_received.as_ref().map(|_| "hash of what was received as it should be".to_owned()));
    texts.extend(facts.hash_written.as_ref().map(|_| "hash of what was written as it should be".to_owned()));
    texts.extend(facts.local.as_ref().map(|_| "local address as it should be".to_owned()));
    texts.extend(facts.peer.as_ref().map(|_| "peer as it should be".to_owned()));
    texts.extend(facts.labels.iter().map(|(key, value)| format!("label {key} {value}")));
    texts.join(", ")
}

/// Why, where it is not simply because somebody asked for it.
fn reason(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Closed => "",
        CloseReason::Aborted => " by an abort",
        CloseReason::Ended => ", both directions having ended",
        CloseReason::PeerReset => " by the peer's reset",
        CloseReason::Failed => " by an error",
        CloseReason::SessionReset | CloseReason::SessionDeleted | CloseReason::LeaseExpired => " with its session",
        CloseReason::AgentDraining => ", the agent stopping",
        CloseReason::Internal => " by a fault of the agent",
        CloseReason::Policy => " by the agent's policy",
        CloseReason::WriteTimedOut => " because a write took too long",
    }
}

fn interface_change(name: &str, change: InterfaceChange, mtu: u32) -> String {
    match change {
        InterfaceChange::Added => format!("interface {name} is there"),
        InterfaceChange::Removed => format!("interface {name} is gone"),
        InterfaceChange::Renamed => format!("an interface is called {name} now"),
        InterfaceChange::Up => format!("interface {name} was turned on"),
        InterfaceChange::Down => format!("interface {name} was turned off"),
        InterfaceChange::CarrierFound => format!("interface {name} has found its other end"),
        InterfaceChange::CarrierLost => format!("interface {name} has lost its other end"),
        InterfaceChange::Mtu => format!("interface {name} has an MTU of {mtu} now"),
    }
}
