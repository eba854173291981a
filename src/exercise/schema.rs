//! The JSON Schema of exercise files, made from the tables that the check reads.
//!
//! Invariant: what the check takes, the schema takes. It says no to less: what names stand for, and what goes with what in detail, is only
//! known to the check.

use serde_json::{Map, Value, json};

use crate::exercise::fields::{FIELDS, Field, Holds};
use crate::exercise::words::grammar::{
    ACCEPTING, ADDRESS_KINDS, ALWAYS, DELIVERIES, DIRECTIONS, FAMILIES, FILTER_MODES, FLOW, HALF_OPEN, HOW, TRANSPORTS,
    VERBS, VerbWords, error_names,
};
use crate::model::event::Event;
use crate::model::memory::SocketMemory;
use crate::model::option_table::OPTIONS;
use crate::model::socket::{CloseReason, SocketState};
use crate::model::tcp::{TcpInfo, TcpState};

/// Which files a schema is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Exercises.
    Exercises,
    /// Files of steps, which exercises include.
    Steps,
}

/// A JSON Schema, draft 2020-12.
pub fn schema(of: Of) -> Value {
    let steps = |about: &str| json!({ "description": about, "type": "array", "items": reference("step") });
    let about = json!({ "description": "What it teaches.", "type": "string" });
    let vars = json!({
        "description": "Values with names; what has none must be given.", "type": "object",
        "additionalProperties": { "anyOf": [reference("text"), { "type": "null" }] },
    });
    let (title, required, properties) = match of {
        Of::Exercises => (
            "An exercise of farsock",
            json!(["exercise", "hosts", "steps"]),
            json!({
                "exercise": { "description": "Its title.", "anyOf": [reference("text")] },
                "about": about,
                "hosts": {
                    "description": "Roles, and the agents that play them; nothing means one within the process.", "type": "object",
                    "minProperties": 1, "additionalProperties": { "anyOf": [reference("text"), { "type": "null" }] },
                },
                "networks": {
                    "description": "Networks that join the hosts.", "type": "object", "additionalProperties": {
                        "type": "object", "additionalProperties": false, "required": ["subnet", "hosts"],
                        "properties": {
                            "subnet": reference("several"), "mtu": reference("number"),
                            "hosts": {
                                "type": "object",
                                "additionalProperties": { "anyOf": [reference("several"), { "type": "null" }] },
                            },
                        },
                    },
                },
                "routers": {
                    "description": "Hosts that forward between networks.", "type": "object", "additionalProperties": {
                        "anyOf": [
                            { "type": "null" },
                            {
                                "type": "object", "additionalProperties": false,
                                "properties": { "nft": reference("text") },
                            },
                        ],
                    },
                },
                "vars": vars,
                "steps": at_least(1, steps("What is done, in order.")),
                "finally": steps("What is done at the end in any case."),
            }),
        ),
        Of::Steps => (
            "Steps that exercises of farsock include",
            json!(["steps"]),
            json!({ "about": about, "vars": vars, "steps": steps("What is done, in order.") }),
        ),
    };
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title, "type": "object", "required": required, "additionalProperties": false, "properties": properties,
        "$defs": definitions(),
    })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{name}") })
}

fn at_least(items: usize, mut array: Value) -> Value {
    array["minItems"] = items.into();
    array
}

fn definitions() -> Value {
    // Whatever a field holds, `${…}` may stand in its place.
    let put_in = json!({ "type": "string", "pattern": "\\$\\{" });
    let scalar = |others: Value| json!({ "anyOf": [put_in.clone(), others] });
    let number = json!({ "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": "^[0-9]+$" }] });
    let amount = json!({ "anyOf": [
        { "type": "integer", "minimum": 0 },
        { "type": "string", "pattern": "^ *((>=?|<=?) *)?[0-9]+ *$|^ *[0-9]+ *\\.\\. *[0-9]+ *$" },
    ] });
    let switch = json!({ "anyOf": [{ "type": "boolean" }, { "enum": ["true", "false"] }] });
    let many = json!({ "anyOf": [{ "const": "all" }, { "type": "array", "items": reference("text") }] });
    let named = |fields: &[&str], of: &str| -> Map<String, Value> {
        fields.iter().map(|field| ((*field).to_owned(), reference(of))).collect()
    };
    let questions = ["host", "address", "service", "port"];
    let mut question = named(&questions, "text");
    question.insert("transport".to_owned(), one_of(TRANSPORTS.map(|(word, _)| word)));
    json!({
        "text": { "type": ["string", "number", "boolean"] },
        "several": { "anyOf": [reference("text"), { "type": "array", "items": reference("text") }] },
        "number": scalar(number),
        "amount": scalar(amount),
        "switch": scalar(switch),
        "time": { "description": "A time such as 250ms, 1.5s or 2m30s.", "type": "string", "pattern": "[0-9]|\\$\\{" },
        "names": { "type": "object", "additionalProperties": reference("text") },
        "amounts": { "type": "object", "additionalProperties": reference("amount") },
        "question": {
            "type": "object", "additionalProperties": false, "properties": question, "oneOf": questions.map(needs),
        },
        "many": many,
        "items": { "anyOf": [
            at_least(1, json!({ "type": "array", "items": reference("text") })),
            {
                "type": "object", "additionalProperties": false, "minProperties": 1, "maxProperties": 1,
                "properties": {
                    "values": { "type": "array", "items": reference("text") },
                    "hosts": reference("many"),
                    "pairs": reference("many"),
                },
            },
        ] },
        "steps": at_least(1, json!({ "type": "array", "items": reference("step") })),
        "branches": at_least(1, json!({ "type": "array", "items": { "anyOf": [reference("step"), reference("steps")] } })),
        "together": {
            "type": "object", "additionalProperties": false, "required": ["align", "steps"],
            "properties": { "align": reference("time"), "steps": reference("steps") },
        },
        "order": at_least(2, json!({ "type": "array", "items": {
            "type": "object", "additionalProperties": false, "required": ["expect", "event"],
            "properties": {
                "expect": reference("text"), "event": one_of(Event::KINDS.iter().copied()), "count": reference("number"),
            },
        } })),
        "step": step(),
    })
}

/// A step: one word that says what it does, and what goes with that.
fn step() -> Value {
    let words: Vec<&VerbWords> = VERBS.iter().chain(&FLOW).collect();
    let fields: Map<String, Value> = FIELDS.iter().map(|field| (field.typed().to_owned(), described(field))).collect();
    let verbs: Vec<Value> = words.iter().map(|word| needs(word.verb)).collect();
    let fitting: Vec<Value> =
        words.iter().map(|word| json!({ "if": needs(word.verb), "then": fitting(word) })).collect();
    json!({
        "type": "object", "additionalProperties": false, "properties": fields, "oneOf": verbs, "allOf": fitting,
    })
}

fn needs(field: &str) -> Value {
    json!({ "required": [field] })
}

/// What goes with a word.
fn fitting(word: &VerbWords) -> Value {
    let steers = FLOW.iter().any(|flow| flow.verb == word.verb);
    let always: &[&str] = if steers { &["note"] } else { &ALWAYS };
    let with = word.takes.iter().flat_map(|takes| takes.iter()).copied();
    let mut names: Vec<&str> = std::iter::once(word.verb).chain(always.iter().copied()).chain(with).collect();
    names.retain(|name| word.verb != "order" || (*name != "on" && *name != "error"));
    let mut typed: Vec<&str> = names.into_iter().map(|name| name.strip_prefix("r#").unwrap_or(name)).collect();
    typed.sort_unstable();
    typed.dedup();
    let mut fitting = json!({ "propertyNames": { "enum": typed } });
    if !steers && word.verb != "order" {
        fitting["required"] = json!(["on"]);
    }
    fitting
}

fn described(field: &Field) -> Value {
    json!({ "description": field.about.trim(), "anyOf": [held(field)] })
}

fn held(field: &Field) -> Value {
    match field.name {
        "create" => one_of(TRANSPORTS.map(|(word, _)| word)),
        "family" => one_of(FAMILIES.map(|(word, _)| word)),
        "is" => one_of(ADDRESS_KINDS.map(|(word, _)| word)),
        "accepting" => one_of(ACCEPTING.map(|(word, _)| word)),
        "half_open" => one_of(HALF_OPEN.map(|(word, _)| word)),
        "direction" => one_of(DIRECTIONS.map(|(word, _)| word)),
        "delivery" => one_of(DELIVERIES.map(|(word, _)| word)),
        "how" => one_of(HOW.map(|(word, _)| word)),
        "mode" => one_of(FILTER_MODES.map(|(word, _)| word)),
        "event" => one_of(Event::KINDS.iter().copied()),
        "state" => one_of(SocketState::ALL.map(SocketState::name)),
        "tcp_state" => one_of(TcpState::ALL.map(TcpState::name)),
        "reason" => one_of(CloseReason::ALL.map(CloseReason::name)),
        "error" => one_of(error_names()),
        "options" => with_names(reference("names"), OPTIONS.iter().map(|option| option.name)),
        "tcp_info" => with_names(reference("amounts"), TcpInfo::numbers()),
        "memory" => with_names(reference("amounts"), SocketMemory::numbers()),
        _ => reference(match field.holds {
            Holds::Text => "text",
            Holds::Number => "number",
            Holds::Amount => "amount",
            Holds::Switch => "switch",
            Holds::Time => "time",
            Holds::Names => "names",
            Holds::Amounts => "amounts",
            Holds::Question => "question",
            Holds::Steps => "steps",
            Holds::Items => "items",
            Holds::Branches => "branches",
            Holds::Together => "together",
            Holds::Order => "order",
        }),
    }
}

/// One of these words, or what is put in.
fn one_of(words: impl IntoIterator<Item = &'static str>) -> Value {
    let words: Vec<&str> = words.into_iter().collect();
    json!({ "anyOf": [{ "enum": words }, { "type": "string", "pattern": "\\$\\{" }] })
}

fn with_names(of: Value, names: impl Iterator<Item = &'static str>) -> Value {
    json!({ "allOf": [of], "propertyNames": { "enum": names.collect::<Vec<_>>() } })
}
