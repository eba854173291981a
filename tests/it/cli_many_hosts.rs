//! `farsock run` on many hosts at a time.

use std::fmt::Write;
use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Running, farsock};

/// Each host has a connection from the next one, all of them at once.
fn ring(hosts: usize) -> String {
    let mut text = "exercise: A ring\nhosts:\n".to_owned();
    for host in 0..hosts {
        writeln!(text, "  h{host}:").unwrap();
    }
    text.push_str("steps:\n  - foreach: { hosts: all }\n    steps:\n      - { on: \"${item}\", listen: \":0\", as: \"door-${item}\" }\n");
    text.push_str("  - parallel:\n");
    for host in 0..hosts {
        let next = (host + 1) % hosts;
        writeln!(
            text,
            "      - - {{ on: h{next}, connect: \"${{door-h{host}}}\", as: line-{host}, within: 1m }}
        - {{ on: h{host}, accept: door-h{host}, peer: \"${{line-{host}.local}}\", as: guest-{host}, within: 1m }}
        - {{ on: h{next}, write: line-{host}, text: hola {host}, within: 1m }}
        - {{ on: h{host}, receive: guest-{host}, text: hola {host}, within: 1m }}
        - {{ on: h{next}, close: line-{host}, within: 1m }}
        - {{ on: h{host}, expect: guest-{host}, event: peer_closed, within: 1m }}"
        )
        .unwrap();
    }
    text
}

/// More hosts than anybody looks at: all of it is told, each byte after the write that brought it, and nobody's events are missing.
#[tokio::test]
async fn a_hundred_embedded_agents_run_one_exercise() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("hundred.yaml");
    fs::write(&file, ring(100)).unwrap();
    let mut command = farsock(folder.path());
    command.args(["run", "--json"]).arg(&file);
    // Line by line, because all of it may take its time.
    let ran = Running::spawn(command).end().await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    let lines: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = &lines[lines.len() - 1];
    assert_eq!((&last["passed"], &last["not_reached"]), (&700.into(), &0.into()));
    // All of them go by the controller's clock, so that nothing can seem to come before its cause.
    let hosts = lines.iter().find(|line| line["type"] == "hosts").unwrap()["hosts"].as_array().unwrap();
    let exact = hosts.iter().filter(|host| host["clock_offset_ns"] == 0 && host["clock_bound_ns"] == 0);
    assert_eq!(exact.count(), 100);
    let events: Vec<&Value> = lines.iter().filter(|line| line["type"] == "event").collect();
    assert_eq!(events.iter().find(|event| !event["before_cause_ns"].is_null()), None);
    for host in (0..100).map(|host| format!("h{host}")) {
        let of_host: Vec<&&Value> = events.iter().filter(|event| event["host"] == *host).collect();
        let seqs: Vec<u64> = of_host.iter().map(|event| event["event_seq"].as_u64().unwrap()).collect();
        assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "{host}");
        assert_eq!(of_host.iter().filter(|event| event["kind"] == "closed").count(), 1, "{host}: {of_host:#?}");
    }
    let place = |event: &Value| (event["host"].to_string(), event["event_seq"].as_u64());
    for (at, event) in events.iter().enumerate().filter(|(_, event)| event["kind"] == "received") {
        let cause = place(&event["caused_by"]);
        assert!(events[..at].iter().any(|earlier| place(earlier) == cause), "{event}");
    }
}
