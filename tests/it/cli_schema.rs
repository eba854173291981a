//! `farsock schema`: what editors know of exercise files is what the check knows.

use std::fs;
use std::path::{Path, PathBuf};

use boon::{Compiler, SchemaIndex, Schemas};
use farsock::exercise::check::{Given, check};
use farsock::exercise::fields::{FIELDS, Holds};
use farsock::exercise::schema::{Of, schema};
use farsock::model::mistake::Source;
use serde_json::Value;

use crate::harness::run_farsock;

/// A schema that is used; one that is no schema is not.
struct Validator {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Validator {
    fn of(of: Of) -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("farsock.json", schema(of)).unwrap();
        let index = compiler.compile("farsock.json", &mut schemas).unwrap();
        Self { schemas, index }
    }

    /// What is wrong with it.
    fn wrong(&self, value: &Value) -> Option<String> {
        self.schemas.validate(value, self.index).err().map(|error| error.to_string())
    }
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_in(&path));
        } else if path.extension().is_some_and(|end| end == "yaml") {
            files.push(path);
        }
    }
    files
}

fn value(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

/// Whatever the check takes, the schema takes.
#[test]
fn every_exercise_fits_the_schema() {
    let (exercises, steps) = (Validator::of(Of::Exercises), Validator::of(Of::Steps));
    let mut count = 0;
    for file in files_in(Path::new("tests/exercises")) {
        if file.components().any(|part| part.as_os_str() == "wrong") {
            continue;
        }
        let included = file.components().any(|part| part.as_os_str() == "steps");
        let value = value(&fs::read_to_string(&file).unwrap());
        let problem = if included { &steps } else { &exercises }.wrong(&value);
        assert_eq!(problem, None, "{}", file.display());
        count += 1;
    }
    assert!(count > 60, "{count}");
}

const HEAD: &str = "exercise: x\nhosts: { a: , b: }\n";

#[test]
fn what_is_wrong_does_not_fit_the_schema() {
    let exercises = Validator::of(Of::Exercises);
    for text in [
        "hosts: { a: }\nsteps: [{ on: a, parse: x, is: none }]".to_owned(),
        "exercise: x\nhosts: {}\nsteps: [{ on: a, parse: x, is: none }]".to_owned(),
        format!("{HEAD}steps: []"),
        format!("{HEAD}stebs: []\nsteps: [{{ on: a, parse: x, is: none }}]"),
    ] {
        assert!(exercises.wrong(&value(&text)).is_some(), "{text}");
    }
    for step in [
        "on: a",
        "parse: x, is: none",
        "on: a, lisen: ':0', as: door",
        "on: a, listen: ':0', connect: 'x:1', as: door",
        "on: a, listen: ':0', as: door, size: 3",
        "on: a, listen: ':0', as: door, half_open: allways",
        "on: a, listen: ':0', as: door, within: 3",
        "on: a, listen: ':0', as: door, within: soon",
        "on: a, listen: ':0', as: door, error: ECONREFUSED",
        "on: a, listen: ':0', as: door, options: { TCP_NODELY: true }",
        "on: a, listen: ':0', as: door, paused: maybe",
        "on: a, listen: ':0', as: door, credit: some",
        "on: a, listen: [':0'], as: door",
        "on: a, create: sctp, as: x",
        "on: a, expect: line, tcp_info: { data_segs_out: 1 }",
        "on: a, expect: line, bytes_read: many",
        "on: a, expect: line, event: conected",
        "on: a, expect: line, tcp_state: ESTABLISHT",
        "on: a, resolve: { host: x, port: 1 }",
        "on: a, resolve: { hots: x }",
        "foreach: [], steps: [{ on: a, parse: x, is: none }]",
        "foreach: { hots: all }, steps: [{ on: a, parse: x, is: none }]",
        "foreach: [1], on: a, steps: [{ on: a, parse: x, is: none }]",
        "foreach: [1], steps: [{ on: a }]",
        "include: more.yaml, as: x",
        "parallel: [x, y]",
        "parallel: [[{ on: a }]]",
        "together: { steps: [{ on: a, create: udp, as: u }] }",
        "together: { align: 5, steps: [{ on: a, create: udp, as: u }] }",
        "order: [{ expect: line, event: written }]",
        "order: [{ expect: line }, { expect: line, event: closed }]",
        "on: a, order: [{ expect: line, event: written }, { expect: line, event: closed }]",
    ] {
        let text = format!("{HEAD}steps: [{{ {step} }}]");
        assert!(exercises.wrong(&value(&text)).is_some(), "{step}");
        let source = Source { name: "x.yaml".into(), text };
        assert!(check(&source, Given::default()).is_err(), "the check would take it: {step}");
    }
}

/// A field that the schema does not take with a verb means nothing to the check, either.
#[test]
fn what_goes_with_what_is_known_to_both() {
    let step = "{ on: a, parse: x, is: none }";
    let sample = |holds| match holds {
        Holds::Names | Holds::Amounts => "{}".to_owned(),
        Holds::Question => "{ host: x }".to_owned(),
        Holds::Steps | Holds::Branches => format!("[{step}]"),
        Holds::Items => "[1]".to_owned(),
        Holds::Together => format!("{{ align: 1s, steps: [{step}] }}"),
        Holds::Order => "[{ expect: x, event: closed }]".to_owned(),
        Holds::Text | Holds::Number | Holds::Amount | Holds::Switch | Holds::Time => "x".to_owned(),
    };
    let schema = schema(Of::Exercises);
    let fitting = schema["$defs"]["step"]["allOf"].as_array().unwrap();
    let verbs: Vec<&str> = fitting.iter().map(|rule| rule["if"]["required"][0].as_str().unwrap()).collect();
    let mut refused = 0;
    for (verb, rule) in verbs.iter().zip(fitting) {
        let names: Vec<&str> = rule["then"]["propertyNames"]["enum"]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap())
            .collect();
        let told = FIELDS.iter().find(|field| field.typed() == *verb).unwrap();
        let value = if *verb == "create" { "tcp".to_owned() } else { sample(told.holds) };
        for field in FIELDS.iter().filter(|field| !names.contains(&field.typed()) && !verbs.contains(&field.typed())) {
            let on = if field.typed() == "on" || !names.contains(&"on") { "" } else { "on: a, " };
            let text =
                format!("{HEAD}steps: [{{ {on}{verb}: {value}, {}: {} }}]\n", field.typed(), sample(field.holds));
            let source = Source { name: "x.yaml".into(), text };
            let mistakes = check(&source, Given::default()).unwrap_err();
            let start = format!("`{}` means nothing to", field.typed());
            assert!(
                mistakes.iter().any(|mistake| mistake.message.starts_with(&start)),
                "{}: {mistakes:?}",
                source.text
            );
            refused += 1;
        }
    }
    assert!(refused > 1_000, "{refused}");
}

#[tokio::test]
async fn the_command_prints_it() {
    let ran = run_farsock(&["schema"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap(), schema(Of::Exercises));
    let ran = run_farsock(&["schema", "steps"]).await;
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap(), schema(Of::Steps));
}
