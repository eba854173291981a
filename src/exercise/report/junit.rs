//! Runs as JUnit XML, which CI systems show: a suite an exercise, a case a step.
//!
//! It has what the schemas of Ant and of Jenkins both allow, in the order that they want.

use std::fmt::Write;

use crate::exercise::report::line::{ExerciseLine, Line, MistakeLine, PlanLine, ResultLine, StepLine, Went};
use crate::exercise::report::text;
use crate::model::mistake::render;

/// A run, from its lines, as a document.
pub fn render_runs(lines: &[Line]) -> String {
    let mut document = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n".to_owned();
    let suites = suites(lines);
    for (id, suite) in suites.iter().enumerate() {
        suite.write(id, &mut document);
    }
    for (id, (file, mistakes)) in (suites.len()..).zip(wrong_files(lines)) {
        write_wrong(id, file, &mistakes, &mut document);
    }
    document.push_str("</testsuites>\n");
    document
}

/// An exercise, and how far it came.
struct Suite<'a> {
    exercise: &'a ExerciseLine,
    steps: Vec<&'a StepLine>,
    result: Option<&'a ResultLine>,
}

fn suites(lines: &[Line]) -> Vec<Suite<'_>> {
    let mut suites: Vec<Suite<'_>> = Vec::new();
    for line in lines {
        match (line, suites.last_mut()) {
            (Line::Exercise(exercise), _) => suites.push(Suite { exercise, steps: Vec::new(), result: None }),
            (Line::Step(step), Some(suite)) => suite.steps.push(step),
            (Line::Result(result), Some(suite)) => suite.result = Some(result),
            _ => {}
        }
    }
    suites
}

/// What is wrong with each file, in the order in which that was found.
fn wrong_files(lines: &[Line]) -> Vec<(&str, Vec<&MistakeLine>)> {
    let mut files: Vec<(&str, Vec<&MistakeLine>)> = Vec::new();
    for line in lines {
        let Line::Mistake(mistake) = line else { continue };
        match files.iter_mut().find(|(file, _)| *file == mistake.file) {
            Some((_, mistakes)) => mistakes.push(mistake),
            None => files.push((&mistake.file, vec![mistake])),
        }
    }
    files
}

/// A file that is wrong: a suite, a case a mistake.
fn write_wrong(id: usize, file: &str, mistakes: &[&MistakeLine], document: &mut String) {
    let count = mistakes.len().to_string();
    let attributes = [
        ("id", id.to_string()),
        ("package", "farsock".to_owned()),
        ("name", file.to_owned()),
        ("tests", count.clone()),
        ("failures", "0".to_owned()),
        ("errors", count),
        ("skipped", "0".to_owned()),
        ("time", seconds(0)),
        // Nothing was begun, so there is no time to tell.
        ("timestamp", "1970-01-01T00:00:00".to_owned()),
        ("hostname", "localhost".to_owned()),
    ];
    document.push_str("  <testsuite");
    write_attributes(document, &attributes);
    document.push_str(">\n    <properties/>\n");
    for mistake in mistakes {
        let MistakeLine { line, column, message, help, .. } = mistake;
        let help = help.as_ref().map(|help| format!("\n{help}")).unwrap_or_default();
        let whole = format!("{file}:{line}:{column}: {message}{help}");
        let name = format!("the file, line {line}");
        document.push_str(&case_of(file, &name, 0, &outcome("error", "file", message, &whole)));
    }
    document.push_str("    <system-out/>\n    <system-err/>\n  </testsuite>\n");
}

impl Suite<'_> {
    fn write(&self, id: usize, document: &mut String) {
        let problem = self.problem();
        let went = |went| self.steps.iter().filter(|step| step.result == went).count();
        let errors = went(Went::CouldNotRun) + usize::from(problem.is_some());
        let planned = &self.exercise.plan;
        let cases: Vec<String> = planned.iter().map(|planned| self.case(planned)).collect();
        let skipped = planned.iter().filter(|planned| self.step(planned).is_none()).count();
        let attributes = [
            ("id", id.to_string()),
            ("package", "farsock".to_owned()),
            ("name", self.exercise.title.clone()),
            ("tests", (planned.len() + usize::from(problem.is_some())).to_string()),
            ("failures", went(Went::Failed).to_string()),
            ("errors", errors.to_string()),
            ("skipped", skipped.to_string()),
            ("time", seconds(self.result.map_or(0, |result| result.elapsed_ns))),
            // Ant's schema wants whole seconds, and no zone.
            ("timestamp", self.exercise.started.chars().take(19).collect()),
            ("hostname", "localhost".to_owned()),
        ];
        document.push_str("  <testsuite");
        write_attributes(document, &attributes);
        document.push_str(">\n    <properties>\n");
        for (name, value) in [("file", &self.exercise.file), ("version", &self.exercise.version)] {
            document.push_str("      <property");
            write_attributes(document, &[("name", name.to_owned()), ("value", value.clone())]);
            document.push_str("/>\n");
        }
        document.push_str("    </properties>\n");
        cases.iter().for_each(|case| document.push_str(case));
        if let Some(problem) = problem {
            document.push_str(&self.case_of("the run", 0, &outcome("error", "run", problem, problem)));
        }
        document.push_str("    <system-out/>\n    <system-err/>\n  </testsuite>\n");
    }

    /// What went wrong that is no step's fault.
    fn problem(&self) -> Option<&str> {
        match self.result {
            Some(result) => result.problem.as_deref(),
            None => Some("the run was cut short: it does not say how it ended"),
        }
    }

    fn step(&self, planned: &PlanLine) -> Option<&StepLine> {
        self.steps.iter().find(|step| step.number == planned.number).copied()
    }

    fn case(&self, planned: &PlanLine) -> String {
        let PlanLine { number, host, verb, .. } = planned;
        let width = self.exercise.plan.len().to_string().len();
        let socket = planned.socket.as_ref().map(|socket| format!(" {socket}")).unwrap_or_default();
        let context = planned.context.as_ref().map(|context| format!(", {context}")).unwrap_or_default();
        // Reports are often sorted by names.
        let name = format!("{number:0width$} {host}: {verb}{socket}{context}");
        let Some(step) = self.step(planned) else {
            return self.case_of(&name, 0, "      <skipped/>\n");
        };
        let kind = match step.result {
            Went::Passed => return self.case_of(&name, step.elapsed_ns, ""),
            Went::Failed => "failure",
            Went::CouldNotRun => "error",
        };
        let message = step.message.as_deref().unwrap_or_default();
        let whole = text::failure(self.exercise, step).map(|failure| render(&failure, false)).unwrap_or_default();
        let compared = step.compared.as_deref().unwrap_or(&step.verb);
        self.case_of(&name, step.elapsed_ns, &outcome(kind, compared, message, &whole))
    }

    fn case_of(&self, name: &str, elapsed_ns: u64, inside: &str) -> String {
        case_of(&self.exercise.file, name, elapsed_ns, inside)
    }
}

fn case_of(file: &str, name: &str, elapsed_ns: u64, inside: &str) -> String {
    let mut case = "    <testcase".to_owned();
    let attributes = [("classname", file.to_owned()), ("name", name.to_owned()), ("time", seconds(elapsed_ns))];
    write_attributes(&mut case, &attributes);
    case.push_str(&if inside.is_empty() { "/>\n".to_owned() } else { format!(">\n{inside}    </testcase>\n") });
    case
}

/// How a case did not pass.
fn outcome(kind: &str, compared: &str, message: &str, whole: &str) -> String {
    let mut outcome = format!("      <{kind}");
    write_attributes(&mut outcome, &[("type", compared.to_owned()), ("message", message.to_owned())]);
    outcome.push_str(&format!(">{}</{kind}>\n", escaped(whole)));
    outcome
}

fn write_attributes(document: &mut String, attributes: &[(&str, String)]) {
    for (name, value) in attributes {
        document.push_str(&format!(" {name}=\"{}\"", escaped(value).replace('\n', "&#10;").replace('\t', "&#9;")));
    }
}

/// Text as XML has it. What XML cannot say at all is shown as what it is.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(character),
            // U+FFFE and U+FFFF are no characters of XML; other controls are, in part, and no reader shows them.
            '\u{fffe}' | '\u{ffff}' => shown(&mut escaped, character),
            control if control.is_control() => shown(&mut escaped, control),
            other => escaped.push(other),
        }
    }
    escaped
}

fn shown(escaped: &mut String, character: char) {
    // Writing to a string does not fail.
    let _ = write!(escaped, "{}", character.escape_default());
}

#[allow(clippy::cast_precision_loss, reason = "people read three digits of it")]
fn seconds(nanos: u64) -> String {
    format!("{:.6}", nanos as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exercise(title: &str) -> Line {
        let step = |number| PlanLine { number, host: "a".into(), verb: "listen".into(), ..PlanLine::default() };
        Line::Exercise(ExerciseLine {
            title: title.into(),
            file: "x.yaml".into(),
            plan: (1..=3).map(step).collect(),
            started: "2026-01-02T03:04:05.678Z".into(),
            ..ExerciseLine::default()
        })
    }

    fn step(number: usize, result: Went, message: &str) -> Line {
        Line::Step(StepLine {
            number,
            host: "a".into(),
            file: None,
            line: 1,
            verb: "listen".into(),
            socket: None,
            result,
            finding: None,
            evidence: None,
            message: (result != Went::Passed).then(|| message.to_owned()),
            label: None,
            compared: None,
            expected: None,
            seen: None,
            advice: Vec::new(),
            call: None,
            elapsed_ns: 1_500_000,
        })
    }

    #[test]
    fn a_step_is_a_case_and_what_was_not_reached_was_skipped() {
        let lines = [exercise("t"), step(1, Went::Passed, ""), step(2, Went::Failed, "no")];
        let text = render_runs(&lines);
        let document = roxmltree::Document::parse(&text).unwrap();
        let suite = document.descendants().find(|node| node.has_tag_name("testsuite")).unwrap();
        let counts = ["tests", "failures", "errors", "skipped"].map(|name| suite.attribute(name).unwrap());
        // The run was cut short, which is an error of its own.
        assert_eq!((counts, suite.attribute("timestamp")), (["4", "1", "1", "1"], Some("2026-01-02T03:04:05")));
        let cases: Vec<_> = suite.children().filter(|node| node.has_tag_name("testcase")).collect();
        let inside = |at: usize| cases[at].first_element_child().map(|node| node.tag_name().name().to_owned());
        let insides = [None, Some("failure"), Some("skipped"), Some("error")].map(|name| name.map(str::to_owned));
        assert_eq!([0, 1, 2, 3].map(inside), insides);
        assert_eq!((cases[0].attribute("name"), cases[0].attribute("time")), (Some("1 a: listen"), Some("0.001500")));
    }

    proptest! {
        /// Whatever hosts, peers and files say, it is a document, and it says it.
        #[test]
        fn no_text_breaks_the_document(title in any::<String>(), message in any::<String>()) {
            let text = render_runs(&[exercise(&title), step(1, Went::Failed, &message)]);
            let document = roxmltree::Document::parse(&text).unwrap();
            let failure = document.descendants().find(|node| node.has_tag_name("failure")).unwrap();
            let plain: String = message.chars().filter(|c| c.is_alphanumeric()).collect();
            let told: String = failure.attribute("message").unwrap().chars().filter(|c| c.is_alphanumeric()).collect();
            prop_assert!(message.chars().any(|c| c.is_control()) || told == plain);
        }
    }

    #[test]
    fn what_xml_cannot_say_is_shown() {
        assert_eq!(
            escaped("]]>\u{1b}[31m\u{0}\r\n\u{ffff}\"&<é"),
            "]]&gt;\\u{1b}[31m\\u{0}\\r\n\\u{ffff}&quot;&amp;&lt;é"
        );
    }
}
