//! How steps follow from a file: loops and included files are written out, and what is known by then is put in.
//!
//! Invariant: whatever a file says, no more than [`MAX_STEPS`] steps come of it, out of no more than [`MAX_INCLUDED`] other files.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use serde_saphyr::Spanned;

use crate::exercise::check::{Checker, Files};
use crate::exercise::fields::{ItemsFile, ManyFile, StepFile, typed};
use crate::exercise::file::{IncludedFile, load_included};
use crate::exercise::scope::{Scope, Value};
use crate::model::mistake::{Mistake, Source, suggestion};
use crate::model::yaml::{Ordered, span};

/// The most steps that an exercise has once all loops and included files are written out.
pub(super) const MAX_STEPS: usize = 10_000;

/// The most files that an exercise includes.
pub(super) const MAX_INCLUDED: usize = 100;

/// How deep loops, branches and included files may stand in each other.
pub(super) const MAX_NESTING: usize = 8;

/// The name of what a loop goes over, where it has none of its own.
const ITEM: &str = "item";

/// What takes the steps of one round of a loop.
type EachRound<'a, C> = dyn FnMut(&mut C, &[Spanned<StepFile>]) + 'a;

/// An included file, and which of the files it is.
type Numbered = (usize, Rc<IncludedFile>);

/// Where a check is, and what is known there.
pub(super) struct Flow<'a> {
    files: &'a dyn Files,
    sources: Vec<Source>,
    /// Files that were read because this file asked for them by this path.
    loaded: HashMap<(usize, String), Option<Numbered>>,
    /// The files that are being read, each included by the one before.
    stack: Vec<usize>,
    /// What each of them knows.
    scopes: Vec<Scope>,
    /// The rounds of the loops and the files around a step.
    context: Vec<String>,
    nesting: usize,
    count: usize,
}

impl<'a> Flow<'a> {
    pub(super) fn new(source: &Source, files: &'a dyn Files) -> Self {
        Self {
            files,
            sources: vec![source.clone()],
            loaded: HashMap::new(),
            stack: vec![0],
            scopes: vec![Scope::default()],
            context: Vec::new(),
            nesting: 0,
            count: 0,
        }
    }

    pub(super) fn into_sources(self) -> Vec<Source> {
        self.sources
    }

    /// The file that is being read.
    pub(super) fn at(&self) -> usize {
        self.stack.last().copied().unwrap_or(0)
    }

    pub(super) fn source(&self) -> &Source {
        self.source_of(self.at())
    }

    pub(super) fn source_of(&self, file: usize) -> &Source {
        &self.sources[file]
    }

    pub(super) fn mistake(&self, at: Range<usize>, message: impl Into<String>) -> Mistake {
        let mistake = Mistake::new(self.source(), at, message);
        match self.context() {
            Some(context) => mistake.labelled(format!("here, {context}")),
            None => mistake,
        }
    }

    /// What follows stands in something that its mistakes and failures are told with.
    pub(super) fn enter(&mut self, context: String) {
        self.context.push(context);
    }

    pub(super) fn leave(&mut self) {
        self.context.pop();
    }

    /// Which round of which loop this is, which branch, and what the file is included by.
    pub(super) fn context(&self) -> Option<String> {
        (!self.context.is_empty()).then(|| self.context.join(", "))
    }

    /// Whether a name stands for text here, or where this file is included.
    pub(super) fn has(&self, name: &str) -> bool {
        self.scopes.iter().any(|scope| scope.has(name))
    }

    /// The names that stand for text here.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.scopes.last().into_iter().flat_map(Scope::names)
    }
}

impl Checker<'_> {
    /// Steps, one after the other.
    pub(super) fn steps(&mut self, steps: &[Spanned<StepFile>]) {
        for step in steps {
            if self.flow.count > MAX_STEPS {
                return;
            }
            self.any_step(&step.value);
        }
    }

    /// A step of any kind.
    pub(super) fn any_step(&mut self, file: &StepFile) {
        // What is wrong with it has been told.
        let _ = self.step(file);
    }

    fn step(&mut self, file: &StepFile) -> Option<()> {
        let (word, at) = self.one_verb(file)?;
        match word {
            "foreach" => {
                self.within_limits(at, |checker| checker.foreach(file, &mut |checker, steps| checker.steps(steps)))
            }
            "include" => self.within_limits(at, |checker| checker.include(file)),
            "parallel" => self.within_limits(at, |checker| checker.parallel(file)),
            "together" => self.within_limits(at.clone(), |checker| checker.together(file, at)),
            _ => {
                let number = self.next_number(&at)?;
                let file = self.filled(file)?;
                self.verb_step(number, &file, at)
            }
        }
    }

    /// The number of one more step; nothing where there are too many.
    pub(super) fn next_number(&mut self, at: &Range<usize>) -> Option<usize> {
        self.flow.count += 1;
        if self.flow.count > MAX_STEPS {
            self.wrong(at.clone(), format!("this would be more than {MAX_STEPS} steps"));
            return None;
        }
        Some(self.flow.count)
    }

    /// The step with everything put in that is known by now; nothing where something cannot be.
    fn filled(&mut self, file: &StepFile) -> Option<StepFile> {
        let mut problems = Vec::new();
        let scope = self.flow.scopes.last();
        let filled = file.put_in(&mut |text| match scope.map(|scope| scope.put_in(&text.value)) {
            Some(Ok(whole)) => whole.into_owned(),
            Some(Err(problem)) => {
                problems.push((span(&text.referenced), problem));
                text.value.clone()
            }
            None => text.value.clone(),
        });
        let whole = problems.is_empty();
        for (at, problem) in problems {
            self.wrong(at, problem);
        }
        whole.then_some(filled)
    }

    pub(super) fn within_limits(
        &mut self,
        at: Range<usize>,
        inner: impl FnOnce(&mut Self) -> Option<()>,
    ) -> Option<()> {
        if self.flow.nesting == MAX_NESTING {
            let message =
                format!("loops, branches and included files stand more than {MAX_NESTING} deep in each other");
            self.wrong(at, message);
            return None;
        }
        self.flow.nesting += 1;
        let done = inner(self);
        self.flow.nesting -= 1;
        done
    }

    // === Variables ===

    /// Variables of a file, with the values that were given instead of its own. `how` says how one is given.
    pub(super) fn vars(
        &mut self,
        vars: &Ordered<Option<Spanned<String>>>,
        given: &[(&str, String)],
        how: impl Fn(&str) -> String,
    ) {
        for (name, value) in &vars.0 {
            if !self.new_var(name) {
                continue;
            }
            let given = given.iter().find(|(given, _)| *given == name.value).map(|(_, value)| value.clone());
            let value = match (given, value) {
                (Some(given), _) => given,
                (None, Some(value)) => value.value.clone(),
                (None, None) => {
                    let message = format!("`{}` has no value", name.value);
                    self.wrong_with_help(
                        span(&name.referenced),
                        message,
                        format!("give it one by `{}`", how(&name.value)),
                    );
                    String::new()
                }
            };
            if let Some(scope) = self.flow.scopes.last_mut() {
                scope.push(&name.value, Value::Text(value), span(&name.referenced));
            }
        }
    }

    /// Whether a variable may have this name. What a file includes does not see the file's own.
    fn new_var(&mut self, name: &Spanned<String>) -> bool {
        let above = self.flow.scopes.split_off(self.flow.scopes.len() - 1);
        let hidden = std::mem::replace(&mut self.flow.scopes, above);
        let new = self.new_name(name);
        let own = std::mem::replace(&mut self.flow.scopes, hidden);
        self.flow.scopes.extend(own);
        new
    }

    /// Variables that no step refers to. Where a step is wrong already, it may be one that would.
    pub(super) fn unused_vars(&mut self) {
        if self.mistake_count() > 0 {
            return;
        }
        for (name, at) in self.flow.scopes.last().map(Scope::unused).unwrap_or_default() {
            self.wrong_with_help(
                at,
                format!("`{name}` is never used"),
                format!("write ${{{name}}} where it is meant, or leave it out"),
            );
        }
    }

    // === Loops ===

    /// A loop; `each` takes what is done in each round.
    pub(super) fn foreach(&mut self, file: &StepFile, each: &mut EachRound<'_, Self>) -> Option<()> {
        self.only_flow(file, "foreach", &["r#as", "steps"]);
        let items = file.foreach.as_deref()?;
        let at = span(&items.referenced);
        let rounds = self.rounds(&items.value, &at)?;
        let Some(steps) = file.steps.as_deref().filter(|steps| !steps.value.is_empty()) else {
            self.wrong(at, "`foreach` needs `steps`");
            return None;
        };
        let usual = Spanned::new(ITEM.to_owned(), items.referenced, items.defined);
        let name = file.r#as.as_deref().unwrap_or(&usual);
        if !self.new_name(name) {
            return None;
        }
        let before = self.mistake_count();
        for (value, shown) in rounds {
            // What is wrong in one round is so in the others; and too many steps are too many.
            if self.mistake_count() > before || self.flow.count > MAX_STEPS {
                break;
            }
            self.flow.context.push(format!("where {} is {shown}", name.value));
            self.push(&name.value, value, at.clone());
            each(self, &steps.value);
            self.pop();
            self.flow.context.pop();
        }
        Some(())
    }

    fn push(&mut self, name: &str, value: Value, at: Range<usize>) {
        if let Some(scope) = self.flow.scopes.last_mut() {
            scope.push(name, value, at);
        }
    }

    fn pop(&mut self) {
        if let Some(scope) = self.flow.scopes.last_mut() {
            scope.pop();
        }
    }

    /// What each round is about, and how that is told.
    fn rounds(&mut self, items: &ItemsFile, at: &Range<usize>) -> Option<Vec<(Value, String)>> {
        let rounds: Vec<(Value, String)> = match (&items.values, &items.hosts, &items.pairs) {
            (Some(values), None, None) => {
                let values: Option<Vec<String>> = values.iter().map(|value| self.text(value)).collect();
                values?.into_iter().map(|value| (Value::Text(value.clone()), value)).collect()
            }
            (None, Some(hosts), None) => {
                self.many(hosts)?.into_iter().map(|role| (Value::Text(role.clone()), role)).collect()
            }
            (None, None, Some(hosts)) => {
                let hosts = self.many(hosts)?;
                let each = hosts.iter().flat_map(|first| hosts.iter().map(move |second| (first, second)));
                each.filter(|(first, second)| first != second)
                    .map(|(first, second)| {
                        (Value::Pair(first.clone(), second.clone()), format!("{first} and {second}"))
                    })
                    .collect()
            }
            _ => {
                self.wrong(at.clone(), "`foreach` goes over a list of values, or over one of values, hosts and pairs");
                return None;
            }
        };
        if rounds.is_empty() {
            self.wrong(at.clone(), "`foreach` goes over nothing");
            return None;
        }
        Some(rounds)
    }

    /// One text with what is known put in.
    pub(super) fn text(&mut self, text: &Spanned<String>) -> Option<String> {
        let put = self.flow.scopes.last().map(|scope| scope.put_in(&text.value).map(std::borrow::Cow::into_owned));
        match put {
            Some(Err(problem)) => {
                self.wrong(span(&text.referenced), problem);
                None
            }
            Some(Ok(whole)) => Some(whole),
            None => Some(text.value.clone()),
        }
    }

    /// Hosts, by their roles.
    fn many(&mut self, hosts: &Spanned<ManyFile>) -> Option<Vec<String>> {
        match &hosts.value {
            ManyFile::Word(word) if word == "all" => Some(self.roles.clone()),
            ManyFile::Word(word) => {
                let message = format!("`{word}` stands for no hosts");
                self.wrong_with_help(span(&hosts.referenced), message, "write `all`, or a list of roles");
                None
            }
            ManyFile::These(roles) => {
                let mut found = Vec::with_capacity(roles.len());
                for role in roles {
                    let role = Spanned::new(self.text(role)?, role.referenced, role.defined);
                    self.role(&role)?;
                    found.push(role.value);
                }
                Some(found)
            }
        }
    }

    // === Included files ===

    fn include(&mut self, file: &StepFile) -> Option<()> {
        self.only_flow(file, "include", &["with"]);
        let typed = file.include.as_deref()?;
        let at = span(&typed.referenced);
        let path = self.text(typed)?;
        let mut given = Vec::new();
        for (name, value) in file.with.iter().flat_map(|with| &with.value.0) {
            given.push((name, self.text(value)?));
        }
        let (number, included) = self.load(&path, &at)?;
        if let Some(first) = self.flow.stack.iter().position(|file| *file == number) {
            let round: Vec<&str> =
                self.flow.stack[first..].iter().map(|file| self.flow.sources[*file].name.as_str()).collect();
            let message =
                format!("`{path}` includes itself: {} → {}", round.join(" → "), self.flow.sources[number].name);
            self.wrong(at, message);
            return None;
        }
        let known: Vec<&str> = included.vars.0.iter().map(|(name, _)| name.value.as_str()).collect();
        for (name, _) in &given {
            if !known.contains(&name.value.as_str()) {
                let message = format!("`{path}` takes no `{}`", name.value);
                self.wrong_with_help(span(&name.referenced), message, suggestion(&name.value, known.iter().copied()));
            }
        }
        let source = self.flow.source();
        self.flow.context.push(format!("included by {}:{}", source.name, source.line(at.start)));
        self.flow.stack.push(number);
        self.flow.scopes.push(Scope::default());
        let given: Vec<(&str, String)> =
            given.iter().map(|(name, value)| (name.value.as_str(), value.clone())).collect();
        self.vars(&included.vars, &given, |name| format!("with: {{ {name}: VALUE }}"));
        self.steps(&included.steps);
        self.unused_vars();
        self.flow.scopes.pop();
        self.flow.stack.pop();
        self.flow.context.pop();
        Some(())
    }

    /// Another file, read at most once.
    fn load(&mut self, path: &str, at: &Range<usize>) -> Option<Numbered> {
        let key = (self.flow.at(), path.to_owned());
        if let Some(loaded) = self.flow.loaded.get(&key) {
            return loaded.clone();
        }
        let loaded = self.load_anew(path, at);
        self.flow.loaded.insert(key, loaded.clone());
        loaded
    }

    fn load_anew(&mut self, path: &str, at: &Range<usize>) -> Option<Numbered> {
        let source = match self.flow.files.read(&self.flow.source().name, path) {
            Ok(source) => source,
            Err(problem) => {
                self.wrong(at.clone(), format!("`{path}` cannot be included: {problem}"));
                return None;
            }
        };
        let known = self.flow.sources.iter().position(|known| known.name == source.name);
        // The exercise itself is no file of steps, and cannot be read as one.
        if known == Some(0) {
            self.wrong(at.clone(), format!("`{path}` is the exercise itself"));
            return None;
        }
        let number = known.unwrap_or(self.flow.sources.len());
        if number > MAX_INCLUDED {
            self.wrong(at.clone(), format!("an exercise includes at most {MAX_INCLUDED} files"));
            return None;
        }
        match load_included(&source) {
            Ok(included) => {
                if known.is_none() {
                    self.flow.sources.push(source);
                }
                Some((number, Rc::new(included)))
            }
            Err(mistake) => {
                let by = self.flow.source();
                let context = format!("{}, included by {}:{}", mistake.label, by.name, by.line(at.start));
                self.found(mistake.labelled(context));
                None
            }
        }
    }

    /// Fields that mean nothing to a word that steers the file.
    pub(super) fn only_flow(&mut self, file: &StepFile, word: &'static str, allowed: &[&'static str]) {
        for (name, at) in file.present() {
            if name != word && name != "note" && !allowed.contains(&name) {
                let fitting: Vec<&str> = allowed.iter().copied().map(typed).chain(["note"]).collect();
                let help = format!("`{word}` takes {}", fitting.join(", "));
                self.wrong_with_help(at, format!("`{}` means nothing to `{word}`", typed(name)), help);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exercise::check::{Given, check};
    use proptest::prelude::*;

    /// A step within loops that go over so many values each, the outermost first.
    fn nested(rounds: &[usize]) -> String {
        let step = "{ on: a, parse: \"x${v0}\", is: none }".to_owned();
        rounds.iter().enumerate().rev().fold(step, |step, (depth, rounds)| {
            let values = (0..*rounds).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
            format!("{{ foreach: [{values}], as: v{depth}, steps: [{step}, {step}] }}")
        })
    }

    /// Files that include each other, in a circle or not.
    struct Others(Vec<String>);

    impl Files for Others {
        fn read(&self, _: &str, path: &str) -> Result<Source, String> {
            let text = path.parse().ok().and_then(|number: usize| self.0.get(number)).ok_or("there is no such file")?;
            Ok(Source { name: path.to_owned(), text: text.clone() })
        }
    }

    fn exercise(steps: &str) -> Source {
        Source { name: "x.yaml".into(), text: format!("exercise: x\nhosts: {{ a: }}\nsteps: [{steps}]\n") }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Loops in loops come to as many steps as they should, or to one mistake.
        #[test]
        fn loops_are_written_out_within_limits(rounds in prop::collection::vec(1_usize..9, 1..6)) {
            let steps = rounds.iter().fold(1, |steps, rounds| steps * rounds * 2);
            match check(&exercise(&nested(&rounds)), Given::default()) {
                Ok(plan) => {
                    prop_assert_eq!(plan.steps.len(), steps);
                    let numbers: Vec<usize> = plan.steps.iter().map(|step| step.number).collect();
                    prop_assert_eq!(numbers, (1..=steps).collect::<Vec<_>>());
                }
                Err(mistakes) => {
                    prop_assert!(steps > MAX_STEPS);
                    prop_assert_eq!(mistakes.len(), 1);
                }
            }
        }

        /// Whoever includes whom, it ends: with steps within the limit, or with mistakes.
        #[test]
        fn files_that_include_each_other_come_to_an_end(who in prop::collection::vec(prop::collection::vec(0_usize..6, 0..3), 6)) {
            let file = |others: &Vec<usize>| {
                let steps: Vec<String> = others.iter().map(|other| format!("{{ include: '{other}' }}")).collect();
                format!("steps: [{{ on: a, parse: x, is: none }}, {}]", steps.join(", "))
            };
            let files = Others(who.iter().map(file).collect());
            if let Ok(plan) = check(&exercise("{ include: '0' }"), Given { files: &files, ..Given::default() }) {
                prop_assert!(plan.steps.len() <= MAX_STEPS && plan.sources.len() <= 7);
            }
        }
    }

    /// The deepest nesting that a file may have is read with the stack of a test's thread.
    #[test]
    fn steps_in_steps_do_not_need_much_stack() {
        let deep = (0..40)
            .fold("{ on: a, parse: x, is: none }".to_owned(), |step, _| format!("{{ foreach: [1], steps: [{step}] }}"));
        assert!(check(&exercise(&deep), Given::default()).is_err());
    }
}
