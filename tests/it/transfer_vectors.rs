//! The vectors that clients in other languages are tested with: what they say is what the machine of TransferSocket does.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use farsock::model::transfer::{Frame, Mistake, Side, Transfer, Verdict};
use serde::Deserialize;

/// One file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    about: String,
    at: Vec<Whose>,
    frames: Vec<Step>,
    end: State,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Whose {
    Client,
    Agent,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    from: Whose,
    frame: String,
    size: Option<u64>,
    mistake: Option<String>,
    #[serde(default)]
    dropped: bool,
}

/// What is so once all frames have gone.
#[derive(Deserialize, Debug, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct State {
    to_agent: u64,
    to_client: u64,
    client_ended: bool,
    agent_ended: bool,
    aborted: bool,
    closed: bool,
}

impl Whose {
    fn side(self) -> Side {
        match self {
            Self::Client => Side::Client,
            Self::Agent => Side::Agent,
        }
    }
}

impl Step {
    fn frame(&self) -> Frame {
        let size = self.size.unwrap_or(0);
        match self.frame.as_str() {
            "open" => Frame::Open,
            "opened" => Frame::Opened { window: size },
            "data" => Frame::Data { size },
            "window" => Frame::Window { size },
            "end" => Frame::End,
            "abort" => Frame::Abort,
            "error" => Frame::Error,
            "closed" => Frame::Closed,
            other => panic!("there is no frame `{other}`"),
        }
    }
}

fn vectors() -> Vec<(PathBuf, Vector)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/vectors/transfer");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let json = files.filter(|file| file.extension().is_some_and(|extension| extension == "json"));
    json.map(|file| {
        let vector = serde_json::from_slice(&fs::read(&file).unwrap());
        let vector = vector.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        (file, vector)
    })
    .collect()
}

#[test]
fn the_machine_does_what_every_vector_says() {
    for (file, vector) in vectors() {
        assert!(!vector.about.is_empty() && !vector.at.is_empty(), "{}", file.display());
        for side in vector.at.iter().map(|whose| whose.side()) {
            let mut machine = Transfer::new(side);
            for (number, step) in vector.frames.iter().enumerate() {
                let place = format!("{}, frame {number} at the {side:?}", file.display());
                let own = step.from.side() == side;
                let went = match own {
                    true => machine.send(step.frame()).map(|()| Verdict::Take),
                    false => machine.receive(step.frame()),
                };
                let said = went.map_err(Mistake::name);
                let verdict = if step.dropped { Verdict::Drop } else { Verdict::Take };
                assert_eq!(said, step.mistake.as_deref().map_or(Ok(verdict), Err), "{place}");
            }
            let (to_agent, to_client) = match side {
                Side::Client => (machine.credit(), machine.granted()),
                Side::Agent => (machine.granted(), machine.credit()),
            };
            let state = State {
                to_agent,
                to_client,
                client_ended: machine.has_ended(Side::Client),
                agent_ended: machine.has_ended(Side::Agent),
                aborted: machine.is_aborted(),
                closed: machine.is_closed(),
            };
            assert_eq!(state, vector.end, "{} at the {side:?}", file.display());
        }
    }
}

#[test]
fn every_mistake_stands_in_a_vector() {
    let made: BTreeSet<String> =
        vectors().into_iter().flat_map(|(_, vector)| vector.frames).filter_map(|step| step.mistake).collect();
    let all: BTreeSet<String> = Mistake::ALL.iter().map(|mistake| mistake.name().to_owned()).collect();
    assert_eq!(made, all);
}
