//! A run as lines: what `--json` prints, what a run folder keeps, and what every view of a run is drawn from.
//!
//! Each line is one JSON object whose `type` says what it is. They come while things happen, in this order for each exercise, but for
//! `progress`, which comes anywhere between the first and the last:
//!
//! | type | when | once or often |
//! |---|---|---|
//! | `exercise` | before any host is called | once |
//! | `progress` | something takes longer than a moment | when what is waited for has changed, at most ten times a second |
//! | `hosts` | all hosts are there, and the first step is next; absent where that never came | at most once |
//! | `socket` | a socket has got its name in the exercise | once a name |
//! | `event` | an agent has told an event | once an event |
//! | `step` | a step has ended | once a step that was reached |
//! | `result` | the exercise is over | once |
//!
//! `mistake` lines stand alone: a file is wrong, and nothing runs. Names and meanings of fields stay; new fields and new types may come,
//! and readers pass over what they do not know. Fields that have nothing to say are absent.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line {
    /// An exercise is going to be run.
    Exercise(ExerciseLine),
    /// It goes on, and takes its time.
    Progress(ProgressLine),
    /// Its hosts are there.
    Hosts(HostsLine),
    /// A socket has a name.
    Socket(SocketLine),
    /// Something has happened.
    Event(Box<EventLine>),
    /// A step has ended.
    Step(StepLine),
    /// It is over.
    Result(ResultLine),
    /// A file is wrong.
    Mistake(MistakeLine),
    /// A line of a later version.
    #[serde(other)]
    Unknown,
}

/// What is going to be done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ExerciseLine {
    /// Its title.
    pub title: String,
    /// What it teaches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// The name of its file, as it was given.
    pub file: String,
    /// How many steps it has.
    pub steps: usize,
    /// Its roles, in order.
    pub roles: Vec<String>,
    /// Its steps, in order.
    pub plan: Vec<PlanLine>,
    /// What the file says.
    pub source: String,
    /// The files that it includes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub included: Vec<IncludedLine>,
    /// When it was started, RFC 3339.
    pub started: String,
    /// The version of the controller.
    pub version: String,
    /// The command that makes this run again, for a shell where it was made.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub again: String,
}

/// A file that an exercise includes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IncludedLine {
    /// Its name.
    pub file: String,
    /// What it says.
    pub source: String,
}

/// A step, before it is done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PlanLine {
    /// Its place in the order, from 1.
    pub number: usize,
    /// Which role does it.
    pub host: String,
    /// Its verb.
    pub verb: String,
    /// The socket that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
    /// The included file that it stands in; absent: the exercise itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Which round of which loop it belongs to, and what its file is included by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// The line of its verb, from 1.
    pub line: usize,
    /// Where its verb stands in the file: first byte, and first byte after it.
    pub span: (usize, usize),
    /// It does nothing to any socket, and only waits or looks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub check: bool,
    /// Why it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProgressLine {
    /// What goes on: `network` (networks are made, and agents started in them), `connect` (agents are asked who they are), `clock` (their clocks
    /// are read), `session` (sessions are made), `step`, `collect` (what agents have not told yet is waited for), `clean_up`.
    pub phase: String,
    /// How many of them are done: hosts, or steps.
    pub done: usize,
    /// How many there are.
    pub of: usize,
    /// The roles of hosts that have not answered, at most `MOST_AWAITED` of them: `done` and `of` tell how many there are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting_for: Vec<String>,
    /// The numbers of the steps that go on, at most as many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<usize>,
}

/// How many of those that are waited for are named.
pub const MOST_AWAITED: usize = 8;

/// Who takes part.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HostsLine {
    /// The hosts, in the order of the roles.
    pub hosts: Vec<HostLine>,
}

/// A host that takes part.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HostLine {
    /// Its role.
    pub role: String,
    /// Where its agent is reached.
    pub agent: String,
    /// The agent's version.
    pub version: String,
    /// The address that its sockets use.
    pub lab_address: String,
    /// How far its clock is ahead of the controller's, in nanoseconds.
    pub clock_offset_ns: i64,
    /// By how much that may be wrong, in nanoseconds.
    pub clock_bound_ns: i64,
}

/// A socket's name in the exercise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketLine {
    /// The role whose socket it is.
    pub host: String,
    /// The agent's name for it.
    pub socket_id: String,
    /// The exercise's name for it.
    pub name: String,
}

/// Which event of which host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EventPlace {
    /// The role of the host.
    pub host: String,
    /// The event's number there.
    pub event_seq: u64,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventLine {
    /// Nanoseconds since the exercise began, by the controller's clock: right within the host's `clock_bound_ns`.
    pub at_ns: i64,
    /// Which event of which host.
    #[serde(flatten)]
    pub place: EventPlace,
    /// When it happened by the agent's own clock, RFC 3339.
    pub time: String,
    /// The agent's name for the socket; absent for an event of the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket_id: Option<String>,
    /// The agent's number for the socket, never used twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket_uid: Option<u64>,
    /// The exercise's name for the socket, as far as it has one by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The operation that caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Its kind, as event.proto has it.
    pub kind: String,
    /// What happened, as a sentence.
    pub text: String,
    /// The same in a word or two, as a picture has it; absent where it only goes with another event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What the picture says beside it: a payload, an error's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// How the picture marks it.
    #[serde(default)]
    pub tone: Tone,
    /// The event that caused it on the other side, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caused_by: Option<EventPlace>,
    /// It may have happened before the line of an event above it: the clocks of the two hosts are not known well enough to say, and neither
    /// led to the other. Absent: no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unordered: bool,
    /// By the clocks, it happened so many nanoseconds before what caused it, and that is more than the clocks may be wrong by: one of them
    /// was set, or goes wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_cause_ns: Option<i64>,
    /// What it has led to on another host, and stands above it: its own host told of it too late. Of several, the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect_before: Option<EventPlace>,
    /// What else this kind of event tells: addresses, `size`, `offset`, `hex`, `error`.
    #[serde(flatten)]
    pub body: Map<String, Value>,
}

/// How a picture marks an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tone {
    /// Something went on.
    #[default]
    Plain,
    /// Something broke.
    Trouble,
    /// Something is over.
    End,
}

/// How a step went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepLine {
    /// Its place in the order, from 1.
    pub number: usize,
    /// Which role did it.
    pub host: String,
    /// The included file that it stands in; absent: the exercise itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line of its verb, from 1.
    pub line: usize,
    /// Its verb.
    pub verb: String,
    /// The socket that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
    /// How it went.
    pub result: Went,
    /// What it has found out that no event tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<String>,
    /// The event that it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EventPlace>,
    /// What was wanted and what was got, where it went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The same in a few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What was compared: `payload`, `result`, `event`, the name of a fact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared: Option<String>,
    /// What that should have been.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
    /// The likely causes, and what to try.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<String>,
    /// The last call that it made, where it went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<CallLine>,
    /// How long it took, in nanoseconds.
    pub elapsed_ns: u64,
}

/// A call to an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallLine {
    /// Where the agent is reached.
    pub agent: String,
    /// The method, with its service: `farsock.v1.SocketService/ReceiveSocket`.
    pub method: String,
    /// The request, as JSON.
    pub request: String,
}

/// How something went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Went {
    /// As it should.
    Passed,
    /// Not as it should.
    Failed,
    /// It could not be done.
    CouldNotRun,
}

/// How an exercise went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultLine {
    /// Its title.
    pub title: String,
    /// The name of its file.
    pub file: String,
    /// How it went.
    pub result: Went,
    /// How many steps went as they should.
    pub passed: usize,
    /// How many did not.
    pub failed: usize,
    /// How many were not reached.
    pub not_reached: usize,
    /// How many there are.
    pub steps: usize,
    /// Why it did not begin, or did not come to its end, where that is no step's fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// How long it took, in nanoseconds.
    pub elapsed_ns: u64,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MistakeLine {
    /// The file's name.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Line {
    /// The line as it is printed, without its end.
    pub fn json(&self) -> String {
        // Its maps have only text for keys, so there is nothing in it that JSON cannot say.
        serde_json::to_string(self).unwrap_or_default()
    }
}
