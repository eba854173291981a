//! The exercise file as it is typed: YAML, every value with its place.

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::exercise::fields::StepFile;
use crate::exercise::networks::{NetworkFile, RouterFile};
use crate::model::mistake::{Mistake, Source};
use crate::model::yaml::{self, Ordered};

/// The largest file that is read, in bytes.
pub const FILE_BYTES: usize = 1 << 20;

/// A whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExerciseFile {
    /// Its title.
    pub exercise: Spanned<String>,
    /// What it teaches.
    #[serde(default)]
    pub about: Option<String>,
    /// Roles, and the agents that play them; nothing means an embedded one.
    pub hosts: Ordered<Option<Spanned<String>>>,
    /// Networks that join the hosts.
    #[serde(default)]
    pub networks: Ordered<Spanned<NetworkFile>>,
    /// Hosts that forward between networks.
    #[serde(default)]
    pub routers: Ordered<Option<Spanned<RouterFile>>>,
    /// Values with names; what has none must be given to the run.
    #[serde(default)]
    pub vars: Ordered<Option<Spanned<String>>>,
    /// What is done, in order.
    pub steps: Vec<Spanned<StepFile>>,
    /// What is done at the end in any case.
    #[serde(default)]
    pub finally: Vec<Spanned<StepFile>>,
}

/// A file of steps, which others include.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IncludedFile {
    /// What its steps are for.
    #[serde(default)]
    pub about: Option<Spanned<String>>,
    /// What it may be given; what has no value must be.
    #[serde(default)]
    pub vars: Ordered<Option<Spanned<String>>>,
    /// What is done, in order.
    pub steps: Vec<Spanned<StepFile>>,
}

/// Reads a file.
pub fn load(source: &Source) -> Result<ExerciseFile, Mistake> {
    yaml::read(source, "an exercise", FILE_BYTES)
}

/// Reads a file that another one includes.
pub fn load_included(source: &Source) -> Result<IncludedFile, Mistake> {
    yaml::read(source, "a file of steps", FILE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::yaml::span;

    fn source(text: &str) -> Source {
        Source { name: "x.yaml".into(), text: text.into() }
    }

    fn mistake_of(text: &str) -> Mistake {
        load(&source(text)).unwrap_err()
    }

    #[test]
    fn a_file_is_read_with_the_places_of_its_values() {
        let text = "exercise: Hello\nhosts: {server: , client: 'unix:/x'}\nsteps:\n  - on: server\n    listen: 8888\n    as: door\n";
        let file = load(&source(text)).unwrap();
        assert_eq!(file.exercise.value, "Hello");
        let roles: Vec<_> = file.hosts.0.iter().map(|(role, _)| role.value.as_str()).collect();
        assert_eq!(roles, ["server", "client"], "in the order of the file");
        let step = &file.steps[0].value;
        let listen = step.listen.as_ref().unwrap();
        assert_eq!(listen.value, "8888");
        assert_eq!(&text[span(&listen.referenced)], "8888");
        assert_eq!(step.present().iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["on", "listen", "r#as"]);
    }

    #[test]
    fn an_unknown_field_gets_a_suggestion() {
        let mistake = mistake_of("exercise: x\nhosts: {a: }\nsteps:\n  - on: a\n    lissten: 1\n");
        assert_eq!(mistake.to_string(), "there is no `lissten` here");
        assert_eq!(mistake.help.as_deref(), Some("did you mean `listen`?"));
    }

    #[test]
    fn what_is_no_exercise_is_refused_in_words() {
        assert_eq!(mistake_of("hosts: {a: }\nsteps: []\n").to_string(), "`exercise` is missing");
        for text in ["", "[", "exercise: x\nexercise: y\n", "\tx: 1", "exercise: [1]\nhosts: {}\nsteps: []", "steps: 1"]
        {
            let mistake = mistake_of(text);
            assert!(!mistake.message.is_empty() && !mistake.message.contains('\n'), "{text:?}: {}", mistake.message);
        }
        let bomb = "a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: [*b,*b,*b,*b]\n";
        assert!(load(&source(bomb)).is_err());
        assert!(mistake_of(&"- ".repeat(100)).message.len() < 200);
        assert!(mistake_of(&" ".repeat(FILE_BYTES + 1)).message.contains("at most"));
    }
}
