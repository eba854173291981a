//! What a newer agent says in a word that this version does not have: a value of an enum. It is never read as another one, and told with
//! the path of its field and its number.
//!
//! What stands in a field that is not known here is dropped before anything of ours sees it: of that, only versions tell.

use std::fmt;
use std::sync::Arc;

use prost::Message;
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, Value};

use crate::wire::json::POOL;

/// A value that is not known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownValue {
    /// The path of its field: `closed.reason`.
    pub field: Arc<str>,
    /// Its number.
    pub number: i32,
}

impl fmt::Display for UnknownValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.field, self.number)
    }
}

/// An enum's value as an agent sent it. Absent where this version does not have it: no default stands in for it.
pub(super) fn known_value<E: TryFrom<i32>>(number: i32) -> Option<E> {
    E::try_from(number).ok()
}

/// What may be absent, and is read by `read` where it is there. Absent in all where that cannot read it.
pub fn optional<S, T>(sent: Option<S>, read: impl FnOnce(S) -> Option<T>) -> Option<Option<T>> {
    match sent {
        None => Some(None),
        Some(sent) => read(sent).map(Some),
    }
}

/// The first value in a message that is not known here. Asked once something has not been understood: it takes the message apart by name.
pub fn unknown_value<M: Message>(message: &M, name: &str) -> Option<UnknownValue> {
    let descriptor: MessageDescriptor = POOL.get_message_by_name(&format!("farsock.v1.{name}"))?;
    let message = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).ok()?;
    let (path, number) = within(&message)?;
    Some(UnknownValue { field: path.into(), number })
}

fn within(message: &DynamicMessage) -> Option<(String, i32)> {
    message.fields().find_map(|(field, value)| {
        let (deeper, number) = of(value, &field.kind())?;
        let dot = if deeper.is_empty() { "" } else { "." };
        Some((format!("{}{dot}{deeper}", field.name()), number))
    })
}

fn of(value: &Value, kind: &Kind) -> Option<(String, i32)> {
    match value {
        Value::EnumNumber(number) => {
            let known = kind.as_enum().is_some_and(|values| values.get_value(*number).is_some());
            (!known).then(|| (String::new(), *number))
        }
        Value::Message(message) => within(message),
        Value::List(values) => values.iter().find_map(|value| of(value, kind)),
        // Ours have text in them, and nothing else.
        _ => None,
    }
}

/// Messages with a value that nobody knows.
#[cfg(test)]
pub(super) mod samples {
    use super::*;

    /// It stands for what a later version says.
    pub(in crate::wire) const UNKNOWN: i32 = 99;

    /// A message with one of its enums changed, and the path of that: for each enum of it and of what is in it. Of addresses, the family is
    /// left as it is: what counts is the address.
    pub(in crate::wire) fn each_unknown<M: Message + Default>(message: &M, name: &str) -> Vec<(String, M)> {
        let descriptor = POOL.get_message_by_name(&format!("farsock.v1.{name}")).unwrap();
        let message = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).unwrap();
        let back = |(path, changed): (String, DynamicMessage)| (path, M::decode(&*changed.encode_to_vec()).unwrap());
        changed(&message).into_iter().map(back).collect()
    }

    fn changed(message: &DynamicMessage) -> Vec<(String, DynamicMessage)> {
        let descriptor = prost_reflect::ReflectMessage::descriptor(message);
        if descriptor.full_name() == "farsock.v1.Endpoint" {
            return Vec::new();
        }
        let mut all = Vec::new();
        for field in descriptor.fields() {
            let within: Vec<(String, Value)> = match (field.kind(), message.get_field(&field).into_owned()) {
                (Kind::Enum(_), Value::EnumNumber(_)) => vec![(String::new(), Value::EnumNumber(UNKNOWN))],
                (Kind::Message(_), Value::Message(inner)) if message.has_field(&field) => {
                    let inner = changed(&inner).into_iter();
                    inner.map(|(path, inner)| (format!(".{path}"), Value::Message(inner))).collect()
                }
                (Kind::Message(_), Value::List(mut list)) if !list.is_empty() => {
                    let Value::Message(first) = list[0].clone() else { continue };
                    let inner = changed(&first).into_iter();
                    let with = |(path, inner)| {
                        list[0] = Value::Message(inner);
                        (format!(".{path}"), Value::List(list.clone()))
                    };
                    inner.map(with).collect()
                }
                _ => Vec::new(),
            };
            for (path, value) in within {
                let mut outer = message.clone();
                outer.set_field(&field, value);
                all.push((format!("{}{path}", field.name()), outer));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::samples::{UNKNOWN, each_unknown};
    use super::*;
    use crate::wire::answer::ReadAnswer;
    use crate::wire::pb;

    fn report() -> Option<pb::Report> {
        let error = pb::SocketError {
            name: "ECONNREFUSED".into(),
            operation: pb::Operation::Connect.into(),
            holder: Some(pb::AddressHolder::default()),
            ..Default::default()
        };
        Some(pb::Report { request_id: "@1".into(), error: Some(error), ..Default::default() })
    }

    fn socket() -> pb::Socket {
        pb::Socket {
            session_id: "lab".into(),
            socket_id: "line".into(),
            transport: pb::Transport::Tcp.into(),
            family: pb::Family::Ipv4.into(),
            state: pb::SocketState::Connected.into(),
            delivery: Some(pb::Delivery::default()),
            listener: Some(pb::Listener::default()),
            closed: Some(pb::SocketClosed { reason: pb::CloseReason::Ended.into(), ..Default::default() }),
            ..Default::default()
        }
    }

    fn all_are_told<M: ReadAnswer + Message + Default + fmt::Debug>(answer: &M, name: &str, least: usize) {
        assert!(answer.read().is_some() && answer.unknown().is_none(), "{answer:?}");
        let all = each_unknown(answer, name);
        assert!(all.len() >= least, "{} of {name}", all.len());
        for (field, changed) in all {
            assert!(changed.read().is_none(), "{name}.{field} is read as another value");
            assert_eq!(changed.unknown(), Some(UnknownValue { field: field.into(), number: UNKNOWN }));
        }
    }

    #[test]
    fn no_answer_is_read_as_another_one() {
        let (socket, report) = (socket(), report());
        let name = "SO_RCVBUF".to_owned();
        let asked = Some(pb::SocketOption { name, value: Some(pb::socket_option::Value::Number(1)) });
        let option = pb::OptionResult { asked, error: report.clone().unwrap().error, ..Default::default() };
        let options = vec![option];
        let created = pb::CreateSocketResponse { socket: Some(socket.clone()), options, report: report.clone() };
        all_are_told(&created, "CreateSocketResponse", 13);
        let session = pb::Session {
            session_id: "lab".into(),
            lease_ttl: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
            ..Default::default()
        };
        let (session, closed_sockets) = (Some(session), vec![socket]);
        all_are_told(&pb::DeleteSessionResponse { session, closed_sockets, report }, "DeleteSessionResponse", 13);
    }
}
