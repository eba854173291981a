//! `--junit` and `--github`: what CI systems are told of a run.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Running, farsock, run_farsock};

const PASSES: &str = "tests/page/exercises/five-hosts.yaml";
const FAILS: &str = "tests/page/exercises/wrong-ending.yaml";

#[tokio::test]
async fn junit_has_a_suite_an_exercise_and_a_case_a_step() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("junit.xml");
    let ran = run_farsock(&["run", "-q", PASSES, FAILS, "--junit", file.to_str().unwrap()]).await;
    assert_eq!(ran.code, Some(4), "{ran:?}");
    let text = fs::read_to_string(&file).unwrap();
    let document = roxmltree::Document::parse(&text).unwrap();
    let suites: Vec<_> = document.root_element().children().filter(|node| node.has_tag_name("testsuite")).collect();
    let counts = |at: usize| ["tests", "failures", "errors", "skipped"].map(|name| suites[at].attribute(name).unwrap());
    assert_eq!((suites.len(), counts(0), counts(1)), (2, ["24", "0", "0", "0"], ["8", "1", "0", "1"]), "{text}");
    let failure = suites[1].descendants().find(|node| node.has_tag_name("failure")).unwrap();
    let case = failure.parent().unwrap();
    assert_eq!((case.attribute("name"), case.attribute("classname")), (Some("7 client: expect line"), Some(FAILS)));
    // The step's own lines stand in it, and where they are.
    let whole = failure.text().unwrap();
    assert!(whole.contains("event: peer_closed") && whole.contains("wrong-ending.yaml:"), "{whole}");
}

/// Whoever keeps a run can make the same of it later.
#[tokio::test]
async fn a_replay_tells_ci_systems_the_same() {
    let folder = TempDir::new().unwrap();
    let [kept, first, again] = ["run", "first.xml", "again.xml"].map(|name| folder.path().join(name));
    let [kept, first, again] = [&kept, &first, &again].map(|path| path.to_str().unwrap());
    run_farsock(&["run", "-q", FAILS, "--save", kept, "--junit", first]).await;
    run_farsock(&["replay", "-q", kept, "--junit", again]).await;
    assert_eq!(fs::read_to_string(first).unwrap(), fs::read_to_string(again).unwrap());
}

/// Ctrl-C in the middle: every report is whole, and has what was seen until then.
#[tokio::test]
async fn an_interrupted_run_has_all_of_its_reports() {
    let folder = TempDir::new().unwrap();
    let [file, kept, page, junit] =
        ["waits.yaml", "run", "page.html", "junit.xml"].map(|name| folder.path().join(name));
    let steps = "  - { on: a, listen: ':0', as: door }\n  - { on: a, accept: door, as: guest, within: 10m }\n  - { on: a, close: guest }\n";
    fs::write(&file, format!("exercise: Waits\nhosts: {{ a: }}\nsteps:\n{steps}")).unwrap();
    let mut command = farsock(folder.path());
    command.arg("run").arg(&file).arg("--json");
    command.arg("--html").arg(&page).arg("--junit").arg(&junit).arg("--save").arg(&kept);
    let mut running = Running::spawn(command);
    while !running.line().await.unwrap().starts_with("{\"type\":\"step\"") {}
    running.signal(Signal::INT);
    let ended = running.end().await;
    assert_eq!((ended.code, ended.err.as_str()), (Some(3), ""), "{}", ended.out);

    let lines = fs::read_to_string(kept.join("run.ndjson")).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = lines.last().unwrap();
    assert_eq!(
        (&last["problem"], &last["passed"], &last["not_reached"]),
        (&"interrupted".into(), &1.into(), &2.into())
    );
    assert!(lines.iter().any(|line| line["kind"] == "listening"), "{lines:?}");
    let text = fs::read_to_string(&junit).unwrap();
    let document = roxmltree::Document::parse(&text).unwrap();
    let error = document.descendants().find(|node| node.has_tag_name("error")).unwrap();
    assert!(error.text().unwrap().contains("interrupted"), "{text}");
    assert_eq!(document.descendants().filter(|node| node.has_tag_name("skipped")).count(), 2, "{text}");
    for page in [page, kept.join("report.html")] {
        let page = fs::read_to_string(page).unwrap();
        assert!(page.trim_end().ends_with("</html>"), "it is whole");
        assert!(page.contains("listening") && page.contains("interrupted"), "{page}");
    }
    // What was kept can be looked at again, and comes to the same.
    let again = run_farsock(&["replay", "-q", kept.to_str().unwrap()]).await;
    assert!(again.out.contains("COULD NOT RUN Waits"), "{again:?}");
}

#[tokio::test]
async fn an_agent_that_is_away_is_an_error_and_every_step_was_skipped() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("junit.xml");
    let words = ["run", "-q", FAILS, "--host", "server=unix:/no/such/agent", "--junit", file.to_str().unwrap()];
    let ran = run_farsock(&words).await;
    assert_eq!(ran.code, Some(3), "{ran:?}");
    let text = fs::read_to_string(&file).unwrap();
    let document = roxmltree::Document::parse(&text).unwrap();
    let error = document.descendants().find(|node| node.has_tag_name("error")).unwrap();
    assert!(error.text().unwrap().contains("/no/such/agent"), "{text}");
    assert_eq!(document.descendants().filter(|node| node.has_tag_name("skipped")).count(), 8, "{text}");
}

#[tokio::test]
async fn github_is_told_the_file_and_the_line_after_everything_else() {
    let ran = run_farsock(&["run", FAILS, "--github"]).await;
    assert_eq!(ran.code, Some(4), "{ran:?}");
    let source = fs::read_to_string(FAILS).unwrap();
    let line = 1 + source.lines().position(|line| line.contains("expect: line")).unwrap();
    let last = ran.out.lines().last().unwrap();
    let start = format!("::error file={FAILS},line={line},title=A FIN was promised%3A client expect::");
    assert!(last.starts_with(&start), "{last}");
    let ran = run_farsock(&["run", FAILS]).await;
    assert!(!ran.out.contains("::error"), "{}", ran.out);
    let ran = run_farsock(&["run", FAILS, "--github", "--json"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "lines for programs have no other lines between them");
}

/// A file that is wrong is told where CI systems look, too.
#[tokio::test]
async fn mistakes_of_files_are_told_to_ci_systems() {
    let folder = TempDir::new().unwrap();
    let [wrong, file] = ["wrong.yaml", "junit.xml"].map(|name| folder.path().join(name));
    fs::write(
        &wrong,
        "exercise: x\nhosts: { a: }\nsteps:\n  - { on: b, parse: x, is: none }\n  - { on: a, parse: x }\n",
    )
    .unwrap();
    let [wrong, file] = [&wrong, &file].map(|path| path.to_str().unwrap());
    let ran = run_farsock(&["run", wrong, PASSES, "--github", "--junit", file]).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    let told = format!(
        "::error file={wrong},line=4,col=11,title=the file is wrong::there is no host `b`%0Athere is a\n\
         ::error file={wrong},line=5,col=21,title=the file is wrong::`parse` needs `is`\n"
    );
    assert_eq!(ran.out, told);
    let text = fs::read_to_string(file).unwrap();
    let document = roxmltree::Document::parse(&text).unwrap();
    let suites: Vec<_> = document.descendants().filter(|node| node.has_tag_name("testsuite")).collect();
    let counts = ["tests", "failures", "errors", "skipped"].map(|name| suites[0].attribute(name).unwrap());
    assert_eq!((suites.len(), suites[0].attribute("name"), counts), (1, Some(wrong), ["2", "0", "2", "0"]), "{text}");
    let errors: Vec<_> = document.descendants().filter(|node| node.has_tag_name("error")).collect();
    assert_eq!(errors[0].attribute("message"), Some("there is no host `b`"));
    assert_eq!(errors[1].text(), Some(format!("{wrong}:5:21: `parse` needs `is`").as_str()));
}

/// The call of a failed step is a command that grpcurl takes; nobody is told who does not ask.
#[tokio::test]
async fn the_call_of_a_failed_step_is_told_where_it_is_asked_for() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("fails.yaml");
    let text = "exercise: x\nhosts: { a: }\nsteps:\n  - { on: a, create: udp, local: ':0', as: u }\n  - { on: a, receive: u, size: 1, within: 10ms }\n";
    fs::write(&file, text).unwrap();
    let ran = run_farsock(&["run", "-q", file.to_str().unwrap(), "--show-call"]).await;
    assert_eq!(ran.code, Some(4), "{ran:?}");
    let call = ran.err.lines().find_map(|line| line.strip_prefix("  call: grpcurl -d ")).unwrap();
    let (request, rest) = call.strip_prefix('\'').unwrap().split_once('\'').unwrap();
    assert_eq!(rest, " ADDRESS farsock.v1.SocketService/ReceiveSocket");
    let request: Value = serde_json::from_str(request).unwrap();
    assert_eq!((&request["socket_id"], &request["call"]["timeout"]), (&"u".into(), &"0.01s".into()), "{request}");
    let ran = run_farsock(&["run", "-q", file.to_str().unwrap()]).await;
    assert!(!ran.err.contains("grpcurl"), "{}", ran.err);
}

/// Steps that wait, look or ask make no call of their own that failed; what grpcurl would ask for the same is told instead, of the host in question.
#[tokio::test]
async fn what_a_step_only_looks_at_is_told_as_the_call_that_asks_for_it() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("fails.yaml");
    let text = r#"exercise: x
hosts: { server: , client: }
steps:
  - { on: server, listen: ":0", as: door }
  - { on: client, connect: "${door}", as: line }
  - { on: server, accept: door, as: guest }
finally:
  - { on: server, accept: door, as: nobody, within: 10ms }
  - { on: server, close: nobody }
  - { on: client, expect: line, event: peer_closed, within: 10ms }
  - { on: client, expect: line, event: connected, count: 2, within: 10ms }
  - { on: client, expect: line, bytes_read: 1, within: 0s }
  - { order: [{ expect: door, event: listening }, { expect: line, event: closed }], within: 10ms }
  - { on: server, parse: "127.1", is: ipv4 }
  - { on: server, resolve: { service: no-such-service } }
  - { on: client, transfer: line, to: guest, text: hola, error: ECONNRESET }
"#;
    fs::write(&file, text).unwrap();
    let ran = run_farsock(&["run", "-q", file.to_str().unwrap(), "--show-call"]).await;
    assert_eq!(ran.code, Some(4), "{ran:?}");
    let calls: Vec<&str> = ran.err.lines().filter_map(|line| line.strip_prefix("  call: grpcurl -d '")).collect();
    let session = regex::Regex::new("run-[0-9a-f]{16}").unwrap();
    let calls: Vec<String> =
        calls.into_iter().map(|call| session.replace_all(call, "S").replace("' ADDRESS farsock.v1.", " ")).collect();
    let socket = |name: &str| format!(r#""session_id":"S","socket_id":"{name}""#);
    let filter =
        |kind: &str, name: &str| format!(r#""filter":{{"kinds":["{kind}"],"socket_ids":["{name}"]}},"session_id":"S""#);
    let wait = |kind, name| format!(r#"{{{},"timeout":"0.01s"}} EventService/WaitEvent"#, filter(kind, name));
    let expected = [
        format!("{{{}}} EventService/ListEvents", filter("accepted", "door")),
        wait("peer_closed", "line"),
        format!("{{{}}} EventService/ListEvents", filter("connected", "line")),
        format!(r#"{{"memory":true,{},"tcp_info":true}} SocketService/GetSocket"#, socket("line")),
        wait("closed", "line"),
        r#"{"text":"127.1"} AgentService/ParseAddress"#.to_owned(),
        r#"{"service":"no-such-service","timeout":"5s","transport":"TRANSPORT_TCP"} AgentService/Resolve"#.to_owned(),
        format!(r#"{{"open":{{{}}}}} {{"data":"aG9sYQ=="}} SocketService/TransferSocket"#, socket("line")),
    ];
    assert_eq!(calls, expected, "{}", ran.err);
}
