//! One page that shows runs in a browser, with nothing outside of it: a ladder of all hosts, each event's bytes, the exercise with marks.
//!
//! Invariant: what hosts, peers and files say is data in one JSON block, which the page's own script puts in as text. The browser is told to
//! run no other script, and to fetch nothing, so that a payload cannot do anything even where this failed.

use std::collections::HashSet;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::exercise::report::line::{EventLine, EventPlace, Line, StepLine, Went};
use crate::exercise::report::text;

/// How many events of an exercise are drawn from its beginning, and as many from its end. The rest is counted.
pub const DRAWN_EACH_END: usize = 1_000;

/// How many bytes of a payload are in the page.
pub const PAYLOAD_BYTES: usize = 2_048;

const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// The page of these lines.
pub fn render(lines: &[Line]) -> String {
    let data = escaped(&json!({ "runs": runs(lines) }).to_string());
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        hash(SCRIPT),
        hash(STYLE)
    );
    let mut page = String::with_capacity(data.len() + STYLE.len() + SCRIPT.len() + 1_024);
    // Writing to a String cannot fail.
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
         <title>farsock</title>\n<style>{STYLE}</style>\n\
         <main id=\"page\"><noscript>This page draws itself with a script of its own; scripts are switched off.</noscript></main>\n\
         <script type=\"application/json\" id=\"data\">{data}</script>\n<script>{SCRIPT}</script>\n</html>\n"
    );
    page
}

/// The hash by which the browser knows what it may run.
fn hash(text: &str) -> String {
    STANDARD.encode(Sha256::digest(text))
}

/// JSON that cannot end the block it stands in, whatever it says.
fn escaped(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// One object for each exercise.
fn runs(lines: &[Line]) -> Vec<Value> {
    let mut runs = Vec::new();
    let mut from = None;
    for (at, line) in lines.iter().enumerate() {
        if matches!(line, Line::Exercise(_))
            && let Some(from) = from.replace(at)
        {
            runs.push(run(&lines[from..at]));
        }
    }
    runs.extend(from.map(|from| run(&lines[from..])));
    runs
}

fn run(lines: &[Line]) -> Value {
    let (mut exercise, mut hosts, mut result) = (Value::Null, Value::Null, Value::Null);
    let (mut sockets, mut steps) = (Vec::new(), Vec::new());
    let kept = Kept::of(lines);
    let mut items = Items::default();
    for line in lines {
        match line {
            Line::Exercise(line) => {
                exercise = json!(line);
                exercise["again"] = json!(text::again(line));
            }
            Line::Hosts(line) => hosts = json!(line.hosts),
            Line::Result(line) => result = json!(line),
            Line::Socket(line) => sockets.push(json!(line)),
            Line::Event(event) => items.event(event, &kept),
            Line::Step(step) => {
                if step.result != Went::Passed || step.finding.is_some() {
                    items.push(json!({ "step": step.number }));
                }
                let mut shown = json!(step);
                if let Some(call) = &step.call {
                    shown["command"] = json!(text::grpcurl(call));
                }
                steps.push(shown);
            }
            Line::Progress(_) | Line::Mistake(_) | Line::Unknown => {}
        }
    }
    items.flush();
    json!({
        "exercise": exercise, "hosts": hosts, "sockets": sockets, "items": items.items, "steps": steps, "result": result,
    })
}

/// Which events are drawn.
struct Kept<'a> {
    total: usize,
    /// What failed steps were about.
    evidence: HashSet<&'a EventPlace>,
}

impl<'a> Kept<'a> {
    fn of(lines: &'a [Line]) -> Self {
        let step = |line: &'a Line| match line {
            Line::Step(step) if step.result != Went::Passed => Some(step),
            _ => None,
        };
        let evidence = lines.iter().filter_map(step).filter_map(|step: &StepLine| step.evidence.as_ref()).collect();
        Self { total: lines.iter().filter(|line| matches!(line, Line::Event(_))).count(), evidence }
    }

    fn draws(&self, number: usize, event: &EventLine) -> bool {
        number < DRAWN_EACH_END || number + DRAWN_EACH_END >= self.total || self.evidence.contains(&event.place)
    }
}

/// What the diagram shows, in order: events, steps, and how many events are left out in between.
#[derive(Default)]
struct Items {
    items: Vec<Value>,
    events: usize,
    omitted: usize,
}

impl Items {
    fn event(&mut self, event: &EventLine, kept: &Kept<'_>) {
        let number = self.events;
        self.events += 1;
        if !kept.draws(number, event) {
            self.omitted += 1;
            return;
        }
        let mut value = json!(event);
        let digits = value.get("hex").and_then(Value::as_str).map_or(0, str::len);
        if digits > PAYLOAD_BYTES * 2 {
            if let Some(Value::String(hex)) = value.get_mut("hex") {
                hex.truncate(PAYLOAD_BYTES * 2);
            }
            value["hex_cut"] = json!(digits / 2);
        }
        self.push(json!({ "event": value }));
    }

    fn push(&mut self, item: Value) {
        self.flush();
        self.items.push(item);
    }

    fn flush(&mut self) {
        if self.omitted > 0 {
            self.items.push(json!({ "omitted": std::mem::take(&mut self.omitted) }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exercise::report::line::{ExerciseLine, Tone};
    use serde_json::Map;

    fn event(seq: u64, hex: &str) -> Line {
        let mut body = Map::new();
        body.insert("hex".into(), hex.into());
        Line::Event(Box::new(EventLine {
            at_ns: 0,
            place: EventPlace { host: "a".into(), event_seq: seq },
            time: String::new(),
            socket_id: None,
            socket_uid: None,
            name: None,
            request_id: None,
            kind: "received".into(),
            text: "</script><script>alert(1)</script>".into(),
            label: Some("1 B".into()),
            detail: None,
            tone: Tone::Plain,
            caused_by: None,
            unordered: false,
            before_cause_ns: None,
            effect_before: None,
            body,
        }))
    }

    fn data(page: &str) -> Value {
        let (_, rest) = page.split_once("id=\"data\">").unwrap();
        serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
    }

    #[test]
    fn what_hosts_say_cannot_leave_the_data_block() {
        let page = render(&[Line::Exercise(ExerciseLine::default()), event(1, "00")]);
        assert!(!page.contains("alert(1)</script>"));
        assert_eq!(page.matches("<script").count(), 2);
        assert_eq!(data(&page)["runs"][0]["items"][0]["event"]["text"], "</script><script>alert(1)</script>");
    }

    #[test]
    fn the_page_may_run_only_itself_and_fetch_nothing() {
        let page = render(&[]);
        let (_, script) = page.rsplit_once("<script>").unwrap();
        let script = script.split_once("</script>").unwrap().0;
        assert!(page.contains(&format!("default-src 'none'; script-src 'sha256-{}'", hash(script))));
        for word in ["http:", "https:", "url(", "@import", "innerHTML", "eval("] {
            let allowed = if word == "http:" { 1 } else { 0 };
            assert_eq!(
                page.matches(word).count(),
                allowed,
                "{word}: only the name of SVG's namespace looks like an address"
            );
        }
    }

    #[test]
    fn a_large_run_is_cut_and_says_how_much_is_missing() {
        let mut lines = vec![Line::Exercise(ExerciseLine::default())];
        lines.extend((1..=100_000).map(|seq| event(seq, "00")));
        let page = render(&lines);
        let items = data(&page)["runs"][0]["items"].as_array().unwrap().clone();
        assert_eq!(items.len(), 2 * DRAWN_EACH_END + 1);
        assert_eq!(items[DRAWN_EACH_END]["omitted"], 100_000 - 2 * DRAWN_EACH_END);
        assert!(page.len() < 2_000_000, "{}", page.len());
    }

    #[test]
    fn a_long_payload_is_cut_and_says_so() {
        let page = render(&[Line::Exercise(ExerciseLine::default()), event(1, &"ab".repeat(5_000))]);
        let event = &data(&page)["runs"][0]["items"][0]["event"];
        assert_eq!((event["hex"].as_str().unwrap().len(), &event["hex_cut"]), (2 * PAYLOAD_BYTES, &json!(5_000)));
    }
}
