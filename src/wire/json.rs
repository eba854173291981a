//! Requests as JSON, in the form that grpcurl takes: names as they stand in the proto, enums by name, bytes in base64, times as text.

use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MapKey, MethodDescriptor, ReflectMessage, Value};
use serde_json::{Map, json};

use crate::wire::FILE_DESCRIPTOR_SET;
use crate::wire::asking::Asking;
use crate::wire::outgoing::Request;

/// All that the proto describes.
pub(super) static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap_or_default());

/// A request's method, with its service, and what it says.
pub fn call(request: &Request) -> Option<(String, serde_json::Value)> {
    let (method, bytes) = request.encoded();
    let method = described(method)?;
    Some((full_name(&method), sent(&method, &bytes)?))
}

/// The method of a call that changes nothing, with its service, and what it says: one message after the other, as grpcurl reads them.
pub fn asked(Asking { method, sent: messages }: &Asking) -> Option<(String, String)> {
    let method = described(method)?;
    let messages: Option<Vec<String>> = messages.iter().map(|bytes| Some(sent(&method, bytes)?.to_string())).collect();
    Some((full_name(&method), messages?.join(" ")))
}

fn described(name: &str) -> Option<MethodDescriptor> {
    POOL.services().find_map(|service| service.methods().find(|method| method.name() == name))
}

fn full_name(method: &MethodDescriptor) -> String {
    format!("{}/{}", method.parent_service().full_name(), method.name())
}

fn sent(method: &MethodDescriptor, bytes: &[u8]) -> Option<serde_json::Value> {
    Some(object(&DynamicMessage::decode(method.input(), bytes).ok()?))
}

fn object(message: &DynamicMessage) -> serde_json::Value {
    match message.descriptor().full_name() {
        "google.protobuf.Duration" => return duration(message),
        "google.protobuf.Timestamp" => return timestamp(message),
        _ => {}
    }
    let fields = message.fields().map(|(field, value)| (field.name().to_owned(), of(value, &field.kind())));
    serde_json::Value::Object(fields.collect::<Map<_, _>>())
}

fn of(value: &Value, kind: &Kind) -> serde_json::Value {
    match value {
        Value::Bool(value) => json!(value),
        Value::I32(value) => json!(value),
        Value::U32(value) => json!(value),
        // Numbers of 64 bits are text, because not every reader of JSON holds them.
        Value::I64(value) => json!(value.to_string()),
        Value::U64(value) => json!(value.to_string()),
        Value::F32(value) => json!(value),
        Value::F64(value) => json!(value),
        Value::String(value) => json!(value),
        Value::Bytes(value) => json!(STANDARD.encode(value)),
        Value::EnumNumber(number) => {
            let name = kind.as_enum().and_then(|known| known.get_value(*number));
            name.map_or_else(|| json!(number), |value| json!(value.name()))
        }
        Value::Message(message) => object(message),
        Value::List(values) => values.iter().map(|value| of(value, kind)).collect(),
        Value::Map(values) => {
            let kind = kind.as_message().map(|entry| entry.map_entry_value_field().kind());
            let entry = |(key, value): (&MapKey, &Value)| Some((key_text(key), of(value, kind.as_ref()?)));
            serde_json::Value::Object(values.iter().filter_map(entry).collect())
        }
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

fn parts(message: &DynamicMessage) -> (i64, i32) {
    let number = |name: &str| message.get_field_by_name(name);
    let seconds = number("seconds").and_then(|value| value.as_i64()).unwrap_or(0);
    (seconds, number("nanos").and_then(|value| value.as_i32()).unwrap_or(0))
}

fn duration(message: &DynamicMessage) -> serde_json::Value {
    let (seconds, nanos) = parts(message);
    let (seconds, nanos) = (u64::try_from(seconds).unwrap_or(0), u32::try_from(nanos).unwrap_or(0));
    json!(format!("{}s", Duration::new(seconds, nanos).as_secs_f64()))
}

fn timestamp(message: &DynamicMessage) -> serde_json::Value {
    let (seconds, nanos) = parts(message);
    json!(Timestamp::new(seconds, nanos).map(|moment| moment.to_string()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::{SessionId, SocketId};
    use crate::model::operation::{Action, CallOptions, SocketAction, Start, Take, Target, WriteFlags};
    use crate::wire::outgoing::request;
    use bytes::Bytes;

    fn told(action: SocketAction, options: &CallOptions) -> String {
        let target =
            Target { session: SessionId::parse("run-1").unwrap(), socket: SocketId::parse("line").unwrap(), uid: None };
        let (method, json) = call(&request(&Action::Socket(target, action), options)).unwrap();
        format!("{method} {json}")
    }

    #[test]
    fn questions_are_told_as_grpcurl_takes_them() {
        let (session, socket) = (SessionId::parse("run-1").unwrap(), SocketId::parse("line").unwrap());
        let named = r#""session_id":"run-1","socket_id":"line""#;
        let wait = Asking::event((&session, &socket), Some("peer_closed"), 7, Duration::from_millis(50), false);
        let target = Target { session: session.clone(), socket: socket.clone(), uid: None };
        for (asking, method, request) in [
            (Asking::socket(&session, &socket), "SocketService/GetSocket", format!(r#"{{"memory":true,{named},"tcp_info":true}}"#)),
            (Asking::parse_address("::1"), "AgentService/ParseAddress", r#"{"text":"::1"}"#.to_owned()),
            (
                wait,
                "EventService/WaitEvent",
                r#"{"after_event_seq":"7","filter":{"kinds":["peer_closed"],"socket_ids":["line"]},"session_id":"run-1","timeout":"0.05s"}"#.to_owned(),
            ),
            (
                Asking::event((&session, &socket), None, 0, Duration::from_secs(1), true),
                "EventService/WaitEvent",
                r#"{"expect_none":true,"filter":{"socket_ids":["line"]},"session_id":"run-1","timeout":"1s"}"#.to_owned(),
            ),
            (
                Asking::events((&session, &socket), "written", 0),
                "EventService/ListEvents",
                r#"{"filter":{"kinds":["written"],"socket_ids":["line"]},"session_id":"run-1"}"#.to_owned(),
            ),
            (
                Asking::transfer(&target, Some(&Bytes::from_static(b"hola")), true),
                "SocketService/TransferSocket",
                format!(r#"{{"open":{{{named}}}}} {{"data":"aG9sYQ=="}} {{"end":{{}}}}"#),
            ),
        ] {
            assert_eq!(asked(&asking), Some((format!("farsock.v1.{method}"), request)));
        }
    }

    #[test]
    fn requests_are_told_as_grpcurl_takes_them() {
        let options = CallOptions { timeout: Some(Duration::from_millis(1_500)), ..CallOptions::default() };
        let take = SocketAction::Receive(Take { max_bytes: Some(7), min_bytes: None, peek: false });
        assert_eq!(
            told(take, &options),
            "farsock.v1.SocketService/ReceiveSocket {\"call\":{\"timeout\":\"1.5s\"},\"max_bytes\":7,\"session_id\":\"run-1\",\
             \"socket_id\":\"line\",\"view\":{\"form\":\"PAYLOAD_FORM_DATA\"}}"
        );
        let payload = Bytes::from_static(b"hola\xff");
        let write =
            SocketAction::Write { payload, expected_offset: Some(1 << 40), flags: WriteFlags::default(), slices: None };
        let options =
            CallOptions { start: Start::At(crate::model::time::Timestamp::from_nanos(1_500_000_000)), ..options };
        let told = told(write, &options);
        for part in [
            "\"start_time\":\"1970-01-01T00:00:01.5Z\"",
            "\"data\":\"aG9sYf8=\"",
            "\"expected_offset\":\"1099511627776\"",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
}
